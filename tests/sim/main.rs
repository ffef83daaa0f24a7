//! Two simulations. [`gifts`] runs whole clusters with the real domain, driver, gateway policy and shard core; the modules
//! around it run the shard core alone, under a dense stream of small records.
//!
//! The shard core under a seeded simulator: one thread, one seed, one heap of events. Replicas crash and lose what
//! they had not synced, disks are slow, links drop, double, delay and part, one way too; leadership is handed over,
//! members are replaced by joint consensus, followers that lag get chunked snapshots.
//!
//! `cargo test --test sim`; one seed again: `SIM_SEED=7 cargo test --test sim -- --nocapture one_seed`.

mod batches;
mod checks;
mod faults;
mod gifts;
mod host;
mod machine;
mod options;
mod real_world;
mod replica;
mod world;

use options::{Defect, Options};
use real_world::{say, setting, stopwatch};
use std::panic::{AssertUnwindSafe, catch_unwind};
use world::{Outcome, SECOND, World};

/// Seeds and simulated seconds of each in an ordinary run.
const SEEDS: u64 = 16;
const SECONDS: u64 = 45;

fn run(options: &Options, traced: bool) -> Result<Outcome, String> {
    let run = catch_unwind(AssertUnwindSafe(|| World::run(options.clone(), traced)));
    run.unwrap_or_else(|panic| {
        let what = panic.downcast_ref::<String>().cloned();
        let what = what.or(panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
        Err(format!("panicked: {}\n  {options:?}", what.unwrap_or_default()))
    })
}

fn rerun_command(options: &Options) -> String {
    let (seed, seconds) = (options.seed, options.seconds);
    format!("SIM_SEED={seed} SIM_SECONDS={seconds} cargo test --test sim -- --nocapture one_seed")
}

/// Runs a seed twice, the second time only when the first one held.
fn hold(options: &Options) -> Outcome {
    let first = run(options, false).unwrap_or_else(|violation| {
        let traced = run(options, true).err().unwrap_or(violation);
        panic!("seed {} {traced}\nrerun: {}", options.seed, rerun_command(options))
    });
    let second = run(options, false).expect("the first run held");
    assert_eq!(first, second, "seed {} is not deterministic\nrerun: {}", options.seed, rerun_command(options));
    first
}

#[test]
fn shards_keep_what_they_acknowledged_whatever_happens() {
    let watch = stopwatch();
    let (from, count) = (setting("SIM_FROM", 1), setting("SIM_SEEDS", SEEDS));
    let seconds = setting("SIM_SECONDS", SECONDS);
    let mut sum = Outcome::default();
    for seed in from..from + count {
        let one = hold(&Options::of_seed(seed, seconds, Defect::None));
        sum.simulated += one.simulated;
        sum.events += one.events;
        sum.faults += one.faults;
        sum.harmed_frames += one.harmed_frames;
        sum.acks += one.acks;
        sum.entries += one.entries;
        sum.terms += one.terms;
        sum.snapshots += one.snapshots;
        sum.changes += one.changes;
        sum.refused += one.refused;
        sum.reads += one.reads;
    }
    let hours = sum.simulated as f64 / (3_600 * SECOND) as f64;
    say(&format!(
        "seeds {from}..{} of shard cores each run twice and equal: {hours:.2} cluster-hours, {} events, {} faults, {} frames harmed, \
         {} leaders, \
         {} snapshots, {} membership changes, {} entries, {} acknowledged, {} refused, {} reads, 0 violations, {:.1} s",
        from + count,
        sum.events,
        sum.faults,
        sum.harmed_frames,
        sum.terms,
        sum.snapshots,
        sum.changes,
        sum.entries,
        sum.acks,
        sum.refused,
        sum.reads,
        watch()
    ));
    assert!(sum.snapshots > 0 && sum.changes > 0 && sum.refused > 0 && sum.reads > 0, "nothing was left out: {sum:?}");
}

#[test]
fn one_seed() {
    let options = Options::of_seed(setting("SIM_SEED", 1), setting("SIM_SECONDS", 20), Defect::None);
    println!("{options:?}\nrerun: {}", rerun_command(&options));
    println!("{:?}", hold(&options));
}

/// Runs harsh seeds until the checkers see a defect; none may get by all of them.
fn is_caught(defect: Defect) {
    for seed in 1..=20 {
        if let Err(violation) = run(&Options::harsh(seed, 40, defect), false) {
            let line = violation.lines().next().unwrap_or_default();
            say(&format!("seed {seed} catches {defect:?}: {}", line.chars().take(160).collect::<String>()));
            return;
        }
    }
    panic!("{defect:?} was not seen in 20 seeds");
}

#[test]
fn a_host_that_answers_before_commit_is_caught() {
    is_caught(Defect::AckBeforeCommit);
}

#[test]
fn a_disk_that_is_not_synced_is_caught() {
    is_caught(Defect::SkipFsync);
}

#[test]
fn a_core_that_goes_on_after_a_drop_is_caught() {
    is_caught(Defect::GoOnAfterDrop);
}

#[test]
fn a_core_that_keeps_an_old_claim_is_caught() {
    is_caught(Defect::KeepOldClaim);
}

#[test]
fn a_core_that_speaks_before_its_disk_is_caught() {
    is_caught(Defect::SendBeforePersisted);
}

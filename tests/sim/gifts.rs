//! Whole clusters with the real domain, driver, policy and shard core under faults: seeds of an ordinary run, and the
//! defects that the checkers have to see.
//!
//! One seed again: `SIM_SEED=7 SIM_MINUTES=60 cargo test --test sim -- --nocapture gifts::one_seed`.

use crate::real_world::{cpu_seconds, say, setting, stopwatch};
use bojagi::simulation::{Defect, Options, Outcome, run};
use std::ops::Range;
use std::panic::resume_unwind;
use std::sync::atomic::{AtomicU64, Ordering};

/// Seeds of an ordinary run, how many of them run twice, and simulated minutes with faults of each.
const SEEDS: u64 = 6;
const TWICE: u64 = 2;
const MINUTES: u64 = 24;
/// Gifts leave ten minutes after their reservation at the earliest: the second half of it is full of sends.
const HARSH_MINUTES: u64 = 22;

fn rerun_command(options: &Options) -> String {
    let (seed, minutes) = (options.seed, options.minutes);
    format!("SIM_SEED={seed} SIM_MINUTES={minutes} cargo test --test sim -- --nocapture gifts::one_seed")
}

/// Runs a seed, again with a trace when it does not hold.
fn hold(options: &Options) -> Outcome {
    run(options, false).unwrap_or_else(|violation| {
        let traced = run(options, true).err().unwrap_or(violation);
        panic!("seed {} {traced}\nrerun: {}", options.seed, rerun_command(options))
    })
}

/// Runs seeds, the first of them twice, on as many threads as there are cores; outcomes in the order of seeds, and what
/// they cost. What a seed does depends on nothing but itself.
fn campaign(seeds: Range<u64>, twice: u64, minutes: u64) -> (Vec<Outcome>, f64) {
    let next = AtomicU64::new(seeds.start);
    let work = || {
        let (cost, mut done) = (cpu_seconds(), Vec::new());
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= seeds.end {
                return (done, cost());
            }
            let options = Options::of_seed(seed, minutes);
            let one = hold(&options);
            if seed < seeds.start + twice {
                assert_eq!(one, hold(&options), "seed {seed} is not deterministic\nrerun: {}", rerun_command(&options));
            }
            done.push((seed, one));
        }
    };
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let done: Vec<_> = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        workers.into_iter().map(|worker| worker.join().unwrap_or_else(|panic| resume_unwind(panic))).collect()
    });
    let cost = done.iter().map(|(_, cost)| cost).sum();
    let mut done: Vec<(u64, Outcome)> = done.into_iter().flat_map(|(done, _)| done).collect();
    done.sort_unstable_by_key(|(seed, _)| *seed);
    (done.into_iter().map(|(_, one)| one).collect(), cost)
}

#[test]
fn gifts_are_kept_sent_once_in_time_and_paid_to_the_won_whatever_happens() {
    let watch = stopwatch();
    let (from, count) = (setting("SIM_FROM", 1), setting("SIM_SEEDS", SEEDS));
    let (minutes, twice) = (setting("SIM_MINUTES", MINUTES), setting("SIM_TWICE", TWICE).min(count));
    for seed in from..from + count {
        let options = Options::of_seed(seed, minutes);
        say(&format!("{options}; rerun: {}", rerun_command(&options)));
    }
    let (outcomes, cost) = campaign(from..from + count, twice, minutes);
    let mut sum = Outcome::default();
    outcomes.iter().for_each(|one| sum.add(one));
    let again: f64 = outcomes.iter().take(usize::try_from(twice).unwrap()).map(Outcome::hours).sum();
    say(&format!(
        "seeds {from}..{} of whole clusters, {twice} of them run twice and equal, in {:.0} s",
        from + count,
        watch()
    ));
    say(&sum.closing_lines(cost * sum.hours() / (sum.hours() + again)));
    let shown = sum.snapshots > 0 && sum.terms > count && sum.refunded > 0 && sum.absorbed > 0 && sum.coupons > 0;
    assert!(shown, "something was left out: {sum:?}");
}

#[test]
fn one_seed() {
    let options = Options::of_seed(setting("SIM_SEED", 1), setting("SIM_MINUTES", 10));
    println!("{options}\nrerun: {}", rerun_command(&options));
    let cost = cpu_seconds();
    let outcome = hold(&options);
    println!("{outcome:?}\n{}", outcome.closing_lines(cost()));
}

/// Defects caught in this run of the tests.
static CAUGHT: AtomicU64 = AtomicU64::new(0);

/// Runs harsh seeds until a checker sees the defect; the one that is named has to be among those that do.
fn is_caught(defect: Defect, by: &str) {
    let mut seen = Vec::new();
    for seed in 1..=20 {
        if let Err(violation) = run(&Options::harsh(seed, HARSH_MINUTES, defect), false) {
            if violation.contains(by) {
                let line = violation.lines().find(|line| line.contains(by)).unwrap_or_default();
                let line: String = line.chars().take(140).collect();
                let caught = CAUGHT.fetch_add(1, Ordering::Relaxed) + 1;
                say(&format!("seed {seed} catches {defect:?}, the {caught}. one caught so far: {line}"));
                return;
            }
            seen.push(format!("seed {seed}: {}", violation.lines().next().unwrap_or_default()));
        }
    }
    panic!("{by} did not see {defect:?} in 20 seeds: {seen:#?}");
}

macro_rules! caught {
    ($($name:ident: $defect:ident by $invariant:literal;)*) => {$(
        #[test]
        fn $name() {
            is_caught(Defect::$defect, $invariant);
        }
    )*};
}

caught! {
    an_answer_before_commit_is_caught: AckBeforeCommit by "INV-1:";
    a_disk_that_is_not_synced_is_caught: SkipFsync by "INV-";
    a_node_that_forgot_and_keeps_its_id_is_caught: SameIdAgain by "INV-";
    a_call_before_its_record_is_caught: SendBeforeRecord by "INV-6:";
    a_first_byte_after_its_time_is_caught: LateFirstByte by "INV-6:";
    another_channel_after_a_timeout_is_caught: AnotherChannel by "INV-2:";
    an_unknown_try_that_is_forgotten_is_caught: PriorForgotten by "INV-2:";
    a_new_key_for_each_try_is_caught: KeyRenewed by "INV-2:";
    a_refund_that_is_asked_for_twice_is_caught: RefundTwice by "INV-4:";
    a_dedup_row_that_is_not_looked_at_is_caught: ForgetDedup by "INV-10:";
    a_timer_that_is_lost_with_its_memory_is_caught: DropTimer by "INV-9:";
    a_leaders_own_clock_is_caught: OwnClock by "INV-3:";
    personal_data_without_its_seal_is_caught: SealOpen by "INV-11:";
    a_refusal_before_what_it_rests_on_is_caught: RefuseEarly by "INV-1:";
    a_retry_without_a_record_and_without_end_is_caught: UnboundedRetry by "INV-6:";
    a_node_that_answers_for_what_was_moved_away_is_caught: HostAfterMove by "INV-6:";
    a_silent_entity_that_is_said_to_refuse_is_caught: UnknownIsNo by "INV-7:";
    a_compensation_that_nobody_made_is_caught: UnshipClaimed by "SAGA:";
    an_entry_that_a_follower_leaves_out_is_caught: SkipEntry by "INV-5:";
}

/// With none, the harsh seeds hold: what the defects are caught by is the defect.
#[test]
fn harsh_seeds_hold() {
    for seed in 1..=setting("SIM_HARSH", 1) {
        let options = Options::harsh(seed, HARSH_MINUTES, Defect::None);
        if let Err(violation) = run(&options, false) {
            let traced = run(&options, true).err().unwrap_or(violation);
            panic!("harsh seed {seed} {traced}");
        }
    }
}

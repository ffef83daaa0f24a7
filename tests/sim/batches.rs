//! Gifts that leave in batches, in the simulation of whole clusters: nodes die between the record of a batch and its call,
//! providers take a batch and do not answer, refuse half of it, or get it long after it was thought lost (ADR-13).

use crate::real_world::{say, setting};
use bojagi::simulation::{Defect, Options, Tracing, run};

/// Gifts leave ten minutes after their reservation at the earliest.
const MINUTES: u64 = 22;
const SEEDS: u64 = 2;

fn options(seed: u64, forgotten: bool) -> Options {
    Options {
        gifts_per_hour: 2_500,
        fault_every_s: 12,
        batch_max: 50,
        batches_forgotten: forgotten,
        ..Options::harsh(seed, MINUTES, Defect::None)
    }
}

#[test]
fn gifts_in_batches_are_sent_once_whatever_happens() {
    let (from, count) = (setting("SIM_FROM", 1), setting("SIM_SEEDS", SEEDS));
    let mut sum = [0; 3];
    for seed in from..from + count {
        let options = options(seed, false);
        let one = run(&options, Tracing::Off).unwrap_or_else(|violation| {
            let traced = run(&options, Tracing::Last).err().unwrap_or(violation);
            panic!("{traced}\nrerun: SIM_FROM={seed} SIM_SEEDS=1 cargo test --test sim -- --nocapture batches::")
        });
        if seed == from {
            assert_eq!(run(&options, Tracing::Off).as_ref(), Ok(&one), "seed {seed} is not deterministic");
        }
        sum.iter_mut().zip(one.batched).for_each(|(sum, one)| *sum += one);
    }
    let [calls, messages, repeats] = sum;
    say(&format!(
        "{count} seeds with batches: {messages} gifts in {calls} calls, {repeats} kept from harm by their key"
    ));
    assert!(messages > 2 * calls && repeats > 0, "something was left out: {sum:?}");
}

#[test]
fn a_member_of_an_open_batch_that_is_repeated_alone_is_caught() {
    let mut seen = Vec::new();
    for seed in 1..=20 {
        match run(&options(seed, true), Tracing::Off) {
            Err(violation) if violation.contains("INV-2:") => {
                say(&format!("seed {seed} catches a member that is repeated alone"));
                return;
            }
            Err(violation) => seen.push(format!("seed {seed}: {}", violation.lines().next().unwrap_or_default())),
            Ok(_) => {}
        }
    }
    panic!("INV-2 did not see it in 20 seeds: {seen:#?}");
}

//! What came of a run.

use crate::chaos::RunArgs;
use crate::chaos::gauge::Blow;
use crate::chaos::happening::Happening;
use crate::load::{MeasureReport, ReserveReport};
use serde::Serialize;
use std::fmt::Write as _;

/// A kill counts with at least so many attempts open at its node, or with gifts due soon: see [`Blow::counts`].
pub const OPEN_ATTEMPTS_MIN: u64 = 100;

/// One burst with one fault.
#[derive(Debug, Serialize)]
pub struct Round {
    pub number: u32,
    /// Numbers of the nodes that were hit.
    pub victims: Vec<u16>,
    /// Calls of theirs that had left and had no answer.
    pub open_attempts: u64,
    /// Gifts of the burst that had arrived before the fault.
    pub delivered_before: u64,
    /// From the burst's instant to the fault.
    pub fault_after_ms: i64,
    /// For each shard that a victim led and that had something left: from the fault to its next send.
    pub failover_ms: Vec<i64>,
    pub reserve: ReserveReport,
    /// Reservations that went on through the fault.
    pub meanwhile: Option<ReserveReport>,
    pub measure: MeasureReport,
    /// The kills.
    pub blows: Vec<Blow>,
    /// The burst's instant, in milliseconds since the begin of the round.
    pub due_at_ms: i64,
    /// All that was done, in order.
    pub happenings: Vec<Happening>,
}

impl Round {
    /// Whether what was done hit the middle of the work: each kill counts, and not all was delivered before.
    #[must_use]
    pub fn counts(&self) -> bool {
        let idle = self.happenings.is_empty();
        idle || self.delivered_before < self.measure.gifts && self.blows.iter().all(Blow::counts)
    }

    /// Whether every reservation made through the fault was acknowledged, and at least 99 in 100 of them within 3 s.
    #[must_use]
    pub fn answered(&self) -> bool {
        self.meanwhile.as_ref().is_none_or(|meanwhile| {
            let ReserveReport { asked, acknowledged, acknowledged_within_3_s, .. } = meanwhile;
            acknowledged == asked && acknowledged_within_3_s * 100 >= asked * 99
        })
    }

    /// What was not as it must be.
    #[must_use]
    pub fn failings(&self) -> Vec<String> {
        // With more than one node down, clients wait for one to come back.
        let answered = self.victims.len() > 1 || self.answered();
        let faults = [
            (self.reserve.acknowledged > 0, "no gift was acknowledged"),
            (self.measure.passed(), "gifts were lost, doubled, early or over a minute late"),
            (answered, "less than 99 in 100 reservations were acknowledged within 3 s, or not all in the end"),
            (self.counts(), "the fault did not hit the middle of the work"),
        ];
        let failed = faults.into_iter().filter(|(held, _)| !held);
        failed.map(|(_, what)| format!("round {}: {what}", self.number)).collect()
    }

    /// In one line.
    #[must_use]
    pub fn line(&self) -> String {
        let (p50, max) = (percentile(&self.failover_ms, 50), percentile(&self.failover_ms, 100));
        let Self { number, victims, open_attempts, delivered_before, fault_after_ms, measure, .. } = self;
        let meanwhile = self.meanwhile.as_ref().map_or_else(String::new, |meanwhile| {
            format!(
                "; meanwhile {} of {} reservations acknowledged, {} within 3 s, slowest {} ms",
                meanwhile.acknowledged,
                meanwhile.asked,
                meanwhile.acknowledged_within_3_s,
                meanwhile.latency_micros.max / 1_000,
            )
        });
        format!(
            "round {number}: nodes {victims:?} at +{fault_after_ms} ms with {open_attempts} open attempts, {delivered_before} of {} \
             delivered; next send p50 {p50} max {max} ms; last at +{} ms; {} lost, {} doubled, {} early, {} over 60 s late{meanwhile}",
            measure.gifts,
            measure.last_acceptance_ms.unwrap_or_default(),
            measure.lost,
            measure.doubled,
            measure.early,
            measure.beyond_minute,
        )
    }
}

/// Nearest rank; 0 of nothing.
fn percentile(values: &[i64], percent: usize) -> i64 {
    let mut sorted = values.to_vec();
    sorted.sort_unstable();
    let rank = (sorted.len() * percent).div_ceil(100).max(1);
    sorted.get(rank - 1).copied().unwrap_or(0)
}

/// All rounds of a run.
#[derive(Debug, Serialize)]
pub struct ChaosReport {
    pub nemesis: String,
    pub nodes: u16,
    pub gifts: u64,
    pub shards: u16,
    pub seed: u64,
    pub rounds: Vec<Round>,
    /// Whether the cluster's books balance after the last round.
    pub balanced: bool,
}

impl ChaosReport {
    #[must_use]
    pub fn new(args: &RunArgs) -> Self {
        let RunArgs { nodes, gifts, shards, seed, .. } = args;
        let nemesis = args.nemesis_name();
        Self {
            nemesis,
            nodes: *nodes,
            gifts: *gifts,
            shards: *shards,
            seed: *seed,
            rounds: Vec::new(),
            balanced: false,
        }
    }

    /// Every acknowledged gift sent once, none early, none over a minute late, the books balance; and there was something to
    /// see: rounds, acknowledgements, faults in the middle of the work.
    #[must_use]
    pub fn passed(&self) -> bool {
        self.failings().is_empty()
    }

    /// What was not as it must be; nothing when all held.
    #[must_use]
    pub fn failings(&self) -> Vec<String> {
        let mut failings: Vec<String> = self.rounds.iter().flat_map(Round::failings).collect();
        if !self.balanced {
            failings.push("the books do not balance".to_owned());
        }
        if self.rounds.is_empty() {
            failings.push("there was no round".to_owned());
        }
        failings
    }

    /// For people.
    #[must_use]
    pub fn render(&self) -> String {
        let sum = |of: fn(&Round) -> u64| self.rounds.iter().map(of).sum::<u64>();
        let failover: Vec<i64> = self.rounds.iter().flat_map(|round| round.failover_ms.iter().copied()).collect();
        let mut text = String::new();
        let verdict = if self.passed() { "held" } else { "FAILED" };
        let _infallible = writeln!(
            text,
            "{verdict}: {} rounds of {} on {} nodes, {} acknowledged gifts: {} lost, {} doubled, {} early, {} over 60 s late; \
             books {}",
            self.rounds.len(),
            self.nemesis,
            self.nodes,
            sum(|round| round.reserve.acknowledged),
            sum(|round| round.measure.lost),
            sum(|round| round.measure.doubled),
            sum(|round| round.measure.early),
            sum(|round| round.measure.beyond_minute),
            if self.balanced { "balance" } else { "DO NOT BALANCE" },
        );
        let _infallible = writeln!(
            text,
            "from the fault to the next send of a shard: p50 {} ms, p90 {} ms, max {} ms over {} shards",
            percentile(&failover, 50),
            percentile(&failover, 90),
            percentile(&failover, 100),
            failover.len(),
        );
        for failing in self.failings() {
            let _infallible = writeln!(text, "{failing}");
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chaos::happening::{Target, What};

    fn round(acknowledged: u64, open_attempts: u64, lost: u64) -> Round {
        Round {
            number: 1,
            victims: vec![1],
            open_attempts,
            delivered_before: 10,
            fault_after_ms: 5,
            failover_ms: vec![100, 300, 200],
            reserve: ReserveReport { acknowledged, ..ReserveReport::default() },
            meanwhile: None,
            measure: MeasureReport { gifts: 100, lost, ..MeasureReport::default() },
            blows: vec![Blow { node: 1, at_ms_since_round_start: 5, open_attempts, due_soon: 90 }],
            due_at_ms: 3,
            happenings: vec![Happening {
                at_ms_since_round_start: 5,
                target: Target::Node(1),
                what: What::Began,
                name: "killed".to_owned(),
            }],
        }
    }

    fn report(rounds: Vec<Round>, balanced: bool) -> ChaosReport {
        ChaosReport { nemesis: "kill-busiest".to_owned(), nodes: 3, gifts: 100, shards: 4, seed: 1, rounds, balanced }
    }

    #[test]
    fn a_run_passes_only_when_something_was_hit_and_nothing_is_wrong() {
        assert!(report(vec![round(100, 100, 0)], true).passed());
        assert!(!report(vec![], true).passed());
        assert!(!report(vec![round(0, 100, 0)], true).passed(), "nothing was acknowledged");
        assert!(!report(vec![round(100, 99, 0)], true).passed(), "the fault hit an idle cluster");
        assert!(!report(vec![round(100, 100, 1)], true).passed());
        assert!(!report(vec![round(100, 100, 0)], false).passed());
        let text = report(vec![round(100, 99, 0)], false).render();
        assert!(text.starts_with("FAILED"), "{text}");
        assert!(text.contains("round 1: the fault did not hit") && text.contains("books do not balance"), "{text}");
    }

    #[test]
    fn clients_must_be_answered_through_the_fault() {
        let meanwhile = |acknowledged, acknowledged_within_3_s| {
            let report =
                ReserveReport { asked: 100, acknowledged, acknowledged_within_3_s, ..ReserveReport::default() };
            Round { meanwhile: Some(report), ..round(100, 100, 0) }
        };
        assert!(report(vec![meanwhile(100, 99)], true).passed());
        assert!(!report(vec![meanwhile(100, 98)], true).passed());
        assert!(!report(vec![meanwhile(99, 99)], true).passed());
    }

    #[test]
    fn the_text_says_how_long_the_failover_took() {
        let text = report(vec![round(100, 100, 0)], true).render();
        assert!(text.starts_with("held") && text.contains("p50 200 ms") && text.contains("max 300 ms"), "{text}");
    }
}

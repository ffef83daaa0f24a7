//! Sums over all rounds of a report, and what they are held against.

use crate::chaos::happening::What;
use crate::chaos::report::ChaosReport;
use crate::chaos::stats::{Spread, percentile, rate_upper_bound, real};

/// Goals in parts of 1,000: reservations acknowledged, and seconds in which clients were served.
pub const SUCCESS_PERMILLE: u64 = 990;
pub const AVAILABILITY_PERMILLE: u64 = 999;

/// Goals in milliseconds: 99 in 100 gifts are not later, without faults and through them, and 99 in 100 shards send again.
pub const LATENESS_HEALTHY_P99_MS: i64 = 250;
pub const LATENESS_FAULTS_P99_MS: i64 = 5_000;
pub const FAILOVER_P99_MS: i64 = 5_000;

/// Sums over rounds.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Totals {
    pub rounds: u64,
    /// Gifts of the bursts that were acknowledged, so that the product may not lose them.
    pub acknowledged: u64,
    pub lost: u64,
    pub doubled: u64,
    pub early: u64,
    pub beyond_minute: u64,
    pub late_beyond_faults: u64,
    /// Kills of nodes that hit the middle of the work, and those that did not.
    pub kills: u64,
    pub idle_kills: u64,
    /// What else began: pauses, cuts, disks, providers.
    pub other_faults: u64,
    /// Reservations that went on through the faults.
    pub asked: u64,
    pub answered: u64,
    pub answered_within_3_s: u64,
    /// Of those, read back afterwards, and not found.
    pub read_back: u64,
    pub forgotten: u64,
    pub asked_seconds: u64,
    pub good_seconds: u64,
    pub lateness: Spread,
    pub failover_ms: Vec<i64>,
    pub detection_ms: Vec<u64>,
    pub election_ms: Vec<u64>,
    /// Of each fault of a node, or of a round without any.
    pub recovery_ms: Vec<i64>,
}

impl Totals {
    #[must_use]
    pub fn of(report: &ChaosReport) -> Self {
        let mut all = Self::default();
        for round in &report.rounds {
            all.rounds += 1;
            all.acknowledged += round.measure.gifts;
            all.lost += round.measure.lost;
            all.doubled += round.measure.doubled;
            all.early += round.measure.early;
            all.beyond_minute += round.measure.beyond_minute;
            all.late_beyond_faults += round.seen.late_beyond_faults;
            all.asked_seconds += round.seen.asked_seconds;
            all.good_seconds += round.seen.good_seconds;
            all.lateness.add(&round.seen.lateness);
            all.failover_ms.extend(round.failover_ms());
            all.recovery_ms.extend(round.recovery_ms());
            if let Some(meanwhile) = &round.meanwhile {
                all.asked += meanwhile.asked;
                all.answered += meanwhile.acknowledged;
                all.answered_within_3_s += meanwhile.acknowledged_within_3_s;
            }
            if let Some(kept) = &round.kept {
                all.read_back += kept.acknowledged;
                all.forgotten += kept.lost();
            }
            for failover in &round.seen.failovers {
                all.detection_ms.extend(failover.detection_ms);
                all.election_ms.extend(&failover.election_ms);
                match (failover.is_kill(), failover.counts()) {
                    (true, true) => all.kills += 1,
                    (true, false) => all.idle_kills += 1,
                    (false, _) => {}
                }
            }
            let began = round.happenings.iter().filter(|edge| edge.what == What::Began).count() as u64;
            let kills = round.seen.failovers.iter().filter(|failover| failover.is_kill()).count() as u64;
            all.other_faults += began.saturating_sub(kills);
        }
        all
    }

    /// Gifts that broke the promise, each fault of each counted.
    #[must_use]
    pub fn broken(&self) -> u64 {
        self.lost + self.doubled + self.early + self.late_beyond_faults + self.forgotten
    }

    /// How many in a million gifts fail at most, at 95 % (Clopper and Pearson, one-sided).
    #[must_use]
    pub fn bound_per_million(&self) -> f64 {
        rate_upper_bound(self.broken(), self.acknowledged) * 1e6
    }

    /// Reservations through the faults that were acknowledged within 3 s, of those asked for; `None` without any.
    #[must_use]
    pub fn success(&self) -> Option<f64> {
        share(self.answered_within_3_s, self.asked)
    }

    /// Seconds in which at least half of the answers to clients were acceptances, of those in which they asked.
    #[must_use]
    pub fn availability(&self) -> Option<f64> {
        share(self.good_seconds, self.asked_seconds)
    }

    /// What 99 in 100 gifts are not to be later than.
    #[must_use]
    pub fn lateness_goal_ms(&self) -> i64 {
        let calm = self.kills + self.idle_kills + self.other_faults == 0;
        if calm { LATENESS_HEALTHY_P99_MS } else { LATENESS_FAULTS_P99_MS }
    }

    /// From a node's fault to the next send of a shard that it led.
    #[must_use]
    pub fn failover(&self, percent: usize) -> Option<i64> {
        percentile(&self.failover_ms, percent)
    }
}

/// A part of a whole that is not 0.
fn share(part: u64, whole: u64) -> Option<f64> {
    (whole > 0).then(|| real(part) / real(whole))
}

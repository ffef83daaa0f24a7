//! A round in the report: one burst with one fault, what clients were told, what the ledger says.

use crate::chaos::failover::Failover;
use crate::chaos::gauge::Blow;
use crate::chaos::happening::Happening;
use crate::chaos::kept::Kept;
use crate::chaos::series::Series;
use crate::chaos::spans::{down_at_once, spans};
use crate::chaos::stats::{Spread, percentile};
use crate::chaos::worst::WorstGift;
use crate::load::{ClaimsReport, MeasureReport, ReserveReport};
use serde::{Deserialize, Serialize};

/// One burst with one fault.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Round {
    /// Place of its run in the report's list.
    pub run: usize,
    pub number: u32,
    /// What was let loose.
    pub nemesis: String,
    /// Numbers of the nodes that were hit.
    pub victims: Vec<u16>,
    /// Calls of theirs that had left and had no answer.
    pub open_attempts: u64,
    /// Gifts of the burst that had arrived before the fault.
    pub delivered_before: u64,
    /// From the burst's instant to the fault.
    pub fault_after_ms: i64,
    pub reserve: ReserveReport,
    /// Reservations that went on through the fault.
    pub meanwhile: Option<ReserveReport>,
    /// What the nodes still know of those afterwards.
    pub kept: Option<Kept>,
    /// A crowd that claimed coupons through the fault.
    pub claims: Option<ClaimsReport>,
    pub measure: MeasureReport,
    /// The kills.
    pub blows: Vec<Blow>,
    /// The burst's instant, in milliseconds since the begin of the round: the axis of all that was seen.
    pub due_at_ms: i64,
    /// All that was done, in order.
    pub happenings: Vec<Happening>,
    pub seen: Seen,
}

/// What was seen of a round, for the figures.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Seen {
    pub series: Series,
    pub failovers: Vec<Failover>,
    /// The ten worst gifts.
    pub worst: Vec<WorstGift>,
    pub lateness: Spread,
    /// Gifts later than 60 s even without the time in which something was being done to the stand.
    pub late_beyond_faults: u64,
    /// Seconds in which clients asked, and those of them in which at least half of the answers were acceptances.
    pub asked_seconds: u64,
    pub good_seconds: u64,
    /// From the first fault to the end of the last bad second; `None` when no second was bad.
    pub clients_back_ms: Option<u64>,
}

impl Round {
    /// Whether what was done hit the middle of the work: not all was delivered before, and of the kills one counts.
    #[must_use]
    pub fn counts(&self) -> bool {
        let struck = self.blows.is_empty() || self.blows.iter().any(Blow::counts);
        self.is_calm() || !self.happenings.is_empty() && self.delivered_before < self.measure.gifts && struck
    }

    /// Nothing was to be done to the cluster.
    #[must_use]
    pub fn is_calm(&self) -> bool {
        self.nemesis == "none"
    }

    /// Whether every reservation made through the fault was acknowledged, and at least 99 in 100 of them within 3 s.
    #[must_use]
    pub fn answered(&self) -> bool {
        self.meanwhile.as_ref().is_none_or(|meanwhile| {
            let ReserveReport { asked, acknowledged, acknowledged_within_3_s, .. } = meanwhile;
            acknowledged == asked && acknowledged_within_3_s * 100 >= asked * 99
        })
    }

    /// Gifts that broke the promise, each fault of each counted.
    #[must_use]
    pub fn broken(&self) -> u64 {
        let MeasureReport { lost, doubled, early, .. } = &self.measure;
        lost + doubled + early + self.seen.late_beyond_faults + self.kept.as_ref().map_or(0, Kept::lost)
    }

    /// From each fault of a node to the next send of each shard that it led.
    #[must_use]
    pub fn failover_ms(&self) -> Vec<i64> {
        self.seen.failovers.iter().flat_map(|failover| failover.send_ms.iter().copied()).collect()
    }

    /// From each fault of a node until all that it led was sent from again and clients were served; from the first fault, if
    /// no node was hit.
    #[must_use]
    pub fn recovery_ms(&self) -> Vec<i64> {
        if self.seen.failovers.is_empty() {
            return self.seen.clients_back_ms.and_then(|ms| i64::try_from(ms).ok()).into_iter().collect();
        }
        self.seen.failovers.iter().filter_map(Failover::recovery_ms).collect()
    }

    /// What was not as it must be.
    #[must_use]
    pub fn failings(&self) -> Vec<String> {
        // With more than one node down, clients wait for one to come back.
        let answered = down_at_once(&spans(&self.happenings)) > 1 || self.answered();
        let faults = [
            (self.reserve.acknowledged > 0, "no gift was acknowledged"),
            (self.broken() == 0, "gifts were lost, doubled, early or over a minute late"),
            (answered, "less than 99 in 100 reservations were acknowledged within 3 s, or not all in the end"),
            (self.counts(), "the fault did not hit the middle of the work"),
            (
                self.claims.as_ref().is_none_or(ClaimsReport::passed),
                "coupons were not issued to the quantity, once each",
            ),
        ];
        let failed = faults.into_iter().filter(|(held, _)| !held);
        failed.map(|(_, what)| format!("round {}: {what}", self.number)).collect()
    }

    /// In one line.
    #[must_use]
    pub fn line(&self) -> String {
        let failover = self.failover_ms();
        let at = |percent| percentile(&failover, percent).unwrap_or(0);
        let (p50, max) = (at(50), at(100));
        let Self { number, nemesis, victims, open_attempts, delivered_before, fault_after_ms, measure, .. } = self;
        let meanwhile = self.meanwhile.as_ref().map_or_else(String::new, |meanwhile| {
            format!(
                "; meanwhile {} of {} reservations acknowledged, {} within 3 s, slowest {} ms",
                meanwhile.acknowledged,
                meanwhile.asked,
                meanwhile.acknowledged_within_3_s,
                meanwhile.latency_micros.max / 1_000,
            )
        });
        let kept = self.kept.as_ref().filter(|kept| kept.lost() > 0);
        let kept =
            kept.map_or_else(String::new, |kept| format!(", {} of those LOST: {:?}", kept.lost(), kept.examples));
        let kills = match self.blows.len() {
            0 | 1 => String::new(),
            kills => {
                format!(", {kills} kills of which {} count", self.blows.iter().filter(|blow| blow.counts()).count())
            }
        };
        format!(
            "round {number}: {nemesis}, nodes {victims:?} at {fault_after_ms:+} ms with {open_attempts} open attempts, \
             {delivered_before} of {} delivered{kills}; next send p50 {p50} max {max} ms; last at {:+} ms; {} lost, {} doubled, \
             {} early, {} over 60 s late{meanwhile}{kept}",
            measure.gifts,
            measure.last_acceptance_ms.unwrap_or_default(),
            measure.lost,
            measure.doubled,
            measure.early,
            measure.beyond_minute,
        )
    }
}

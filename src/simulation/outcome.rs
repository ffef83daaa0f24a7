//! What runs amounted to, one by one and in sum.

use crate::simulation::coverage::Coverage;
use crate::simulation::event::{SECOND, Time};
use crate::simulation::options::FaultClass;

/// What a campaign is to come to at least: faults in a cluster-hour.
pub const FAULTS_GOAL: f64 = 50.0;
/// Acknowledged gifts in a cluster-hour.
pub const GIFTS_GOAL: f64 = 1_000.0;
/// Cluster-hours in a core-hour, on a machine of its own.
const SPEED_GOAL: f64 = 2_000.0;

/// Of one run, or of several.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    pub digest: u128,
    pub simulated: Time,
    pub events: u64,
    /// Faults.
    pub coverage: Coverage,
    pub reserved: u64,
    /// Gifts whose reservation a client was told of as committed.
    pub gifts: u64,
    pub acknowledged: u64,
    pub refused: u64,
    pub repeated: u64,
    pub unanswered: u64,
    /// Messages that reached a person.
    pub sends: u64,
    /// Provider calls that had no second effect, by key.
    pub absorbed: u64,
    /// Calls for several gifts, gifts that were taken in them, and those calls that had no second effect, by key.
    pub batched: [u64; 3],
    pub captured: u64,
    pub refunded: u64,
    pub records: u64,
    pub entries: u64,
    pub terms: u64,
    pub snapshots: u64,
    pub changes: u64,
    pub dropped: u64,
    pub reads: u64,
    pub hand_overs: u64,
    /// Claims of members who were told that they won a coupon, and parts of campaigns that were made.
    pub coupons: u64,
    pub parts: u64,
    /// Orders that were placed.
    pub orders: u64,
    /// Reservations of seats that were confirmed, and that came to nothing.
    pub booked: u64,
    pub unbooked: u64,
    /// Flipped bits that a read or a verification met.
    pub found: u64,
    /// Those of logs among them.
    pub found_in_log: u64,
    /// Milliseconds that a gift's first message was late, beyond what held it up: the most of those that were late by more
    /// than a minute.
    pub late_max_ms: i64,
}

impl Outcome {
    /// Simulated hours of a whole cluster.
    #[must_use]
    pub fn hours(&self) -> f64 {
        self.simulated as f64 / (3_600 * SECOND) as f64
    }

    /// Faults in a cluster-hour.
    #[must_use]
    pub fn fault_rate(&self) -> f64 {
        self.coverage.faults() as f64 / self.hours().max(0.001)
    }

    /// Acknowledged gifts in a cluster-hour.
    #[must_use]
    pub fn gift_rate(&self) -> f64 {
        self.gifts as f64 / self.hours().max(0.001)
    }

    /// Parts of the product that nothing of this run went through.
    pub fn unmet(&self) -> impl Iterator<Item = &'static str> {
        let parts = [
            ("refund", self.refunded),
            ("repeat that a provider absorbed", self.absorbed),
            ("coupon won", self.coupons),
            ("part of a campaign", self.parts),
            ("order", self.orders),
            ("seat that was booked", self.booked),
            ("seat that was not", self.unbooked),
            ("snapshot", self.snapshots),
            ("membership change", self.changes),
            ("proposal refused", self.dropped),
            ("read at a leader", self.reads),
            ("clock hand-over", self.hand_overs),
        ];
        parts.into_iter().filter(|(_, met)| *met == 0).map(|(what, _)| what)
    }

    /// Adds another run.
    pub fn add(&mut self, other: &Self) {
        self.digest = self.digest.rotate_left(1) ^ other.digest;
        self.simulated += other.simulated;
        self.events += other.events;
        self.coverage.add(&other.coverage);
        self.reserved += other.reserved;
        self.gifts += other.gifts;
        self.acknowledged += other.acknowledged;
        self.refused += other.refused;
        self.repeated += other.repeated;
        self.unanswered += other.unanswered;
        self.sends += other.sends;
        self.absorbed += other.absorbed;
        self.batched.iter_mut().zip(other.batched).for_each(|(sum, of)| *sum += of);
        self.captured += other.captured;
        self.refunded += other.refunded;
        self.records += other.records;
        self.entries += other.entries;
        self.terms += other.terms;
        self.snapshots += other.snapshots;
        self.changes += other.changes;
        self.dropped += other.dropped;
        self.reads += other.reads;
        self.hand_overs += other.hand_overs;
        self.coupons += other.coupons;
        self.parts += other.parts;
        self.orders += other.orders;
        self.booked += other.booked;
        self.unbooked += other.unbooked;
        self.found += other.found;
        self.found_in_log += other.found_in_log;
        self.late_max_ms = self.late_max_ms.max(other.late_max_ms);
    }

    /// The closing lines of a campaign; `core_seconds` is what it cost.
    #[must_use]
    pub fn closing_lines(&self, core_seconds: f64) -> String {
        let count = |class: &FaultClass| format!("{} {}", class.name(), self.coverage.struck(*class));
        let classes: Vec<String> = FaultClass::ALL.iter().map(count).collect();
        let speed = self.hours() * 3_600.0 / core_seconds.max(0.001);
        [
            format!(
                "simulation: {:.1} cluster-hours, {} gifts acknowledged, {} answers, {} refusals, {} asked again, {} sends, \
                 {} repeats absorbed, {} payments, {} refunds, {} coupons won, {} parts of campaigns, {} orders, {} reservations of seats \
                 confirmed and {} not, {} records, {} entries, {} leaders, {} snapshots, {} membership \
                 changes, {} proposals refused, {} reads, {} clock hand-overs, {} flipped bits found, {} of them in logs, \
                 0 violations",
                self.hours(),
                self.gifts,
                self.acknowledged,
                self.refused,
                self.repeated,
                self.sends,
                self.absorbed,
                self.captured,
                self.refunded,
                self.coupons,
                self.parts,
                self.orders,
                self.booked,
                self.unbooked,
                self.records,
                self.entries,
                self.terms,
                self.snapshots,
                self.changes,
                self.dropped,
                self.reads,
                self.hand_overs,
                self.found,
                self.found_in_log
            ),
            format!("simulation: {} faults: {}", self.coverage.faults(), classes.join(", ")),
            format!(
                "simulation: {:.0} faults a cluster-hour{}, {:.0} acknowledged gifts a cluster-hour{}, {speed:.0} \
                 cluster-hours a core-hour{}",
                self.fault_rate(),
                goal(self.fault_rate(), FAULTS_GOAL),
                self.gift_rate(),
                goal(self.gift_rate(), GIFTS_GOAL),
                goal(speed, SPEED_GOAL)
            ),
            format!(
                "simulation: {} ms is the most that a message which was late by more than a minute was late beyond what held \
                 it up",
                self.late_max_ms
            ),
        ]
        .join("\n")
    }
}

fn goal(reached: f64, goal: f64) -> String {
    format!(" (goal {goal:.0}{})", if reached < goal { ": missed" } else { "" })
}

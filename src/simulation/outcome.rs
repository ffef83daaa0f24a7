//! What runs amounted to, one by one and in sum.

use crate::simulation::event::{SECOND, Time};
use crate::simulation::options::FaultClass;
use std::collections::BTreeSet;

/// Of one run, or of several.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    pub digest: u128,
    pub simulated: Time,
    pub events: u64,
    /// By place in [`FaultClass::ALL`].
    pub struck: [u64; FaultClass::ALL.len()],
    /// Pairs of scheduled classes whose faults overlapped.
    pub pairs: BTreeSet<(&'static str, &'static str)>,
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
    /// Claims of members who were told that they won a coupon.
    pub coupons: u64,
    /// Orders that were placed.
    pub orders: u64,
    /// Reservations of seats that were confirmed, and that came to nothing.
    pub booked: u64,
    pub unbooked: u64,
    /// Flipped bits that a read or a verification met.
    pub found: u64,
    /// Those of logs among them.
    pub found_in_log: u64,
    /// Milliseconds after its instant, of the latest send that no fault excuses, and of all.
    pub late_max_ms: i64,
}

impl Default for Outcome {
    fn default() -> Self {
        Self {
            digest: 0,
            simulated: 0,
            events: 0,
            struck: [0; FaultClass::ALL.len()],
            pairs: BTreeSet::new(),
            reserved: 0,
            gifts: 0,
            acknowledged: 0,
            refused: 0,
            repeated: 0,
            unanswered: 0,
            sends: 0,
            absorbed: 0,
            batched: [0; 3],
            captured: 0,
            refunded: 0,
            records: 0,
            entries: 0,
            terms: 0,
            snapshots: 0,
            changes: 0,
            dropped: 0,
            reads: 0,
            hand_overs: 0,
            coupons: 0,
            orders: 0,
            booked: 0,
            unbooked: 0,
            found: 0,
            found_in_log: 0,
            late_max_ms: 0,
        }
    }
}

impl Outcome {
    /// Faults of all classes.
    #[must_use]
    pub fn faults(&self) -> u64 {
        self.struck.iter().sum()
    }

    /// Faults that the schedule began: of processes, disks, clocks, links and providers as a whole.
    #[must_use]
    pub fn scheduled(&self) -> u64 {
        FaultClass::ALL.iter().zip(self.struck).filter(|(class, _)| class.is_scheduled()).map(|(_, count)| count).sum()
    }

    /// Simulated hours of a whole cluster.
    #[must_use]
    pub fn hours(&self) -> f64 {
        self.simulated as f64 / (3_600 * SECOND) as f64
    }

    /// Adds another run.
    pub fn add(&mut self, other: &Self) {
        self.digest = self.digest.rotate_left(1) ^ other.digest;
        self.simulated += other.simulated;
        self.events += other.events;
        self.struck.iter_mut().zip(other.struck).for_each(|(sum, more)| *sum += more);
        self.pairs.extend(&other.pairs);
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
        let classes: Vec<String> =
            FaultClass::ALL.iter().zip(self.struck).map(|(class, count)| format!("{} {count}", class.name())).collect();
        let scheduled = FaultClass::ALL.iter().filter(|class| class.is_scheduled()).count();
        let speed = self.hours() * 3_600.0 / core_seconds.max(0.001);
        [
            format!(
                "simulation: {:.1} cluster-hours, {} gifts acknowledged, {} answers, {} refusals, {} asked again, {} sends, \
                 {} repeats absorbed, {} payments, {} refunds, {} coupons won, {} orders, {} reservations of seats \
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
            format!("simulation: {} faults: {}", self.faults(), classes.join(", ")),
            format!(
                "simulation: {} of {} pairs of scheduled fault classes overlapped, {:.0} faults and {:.0} gifts a \
                 cluster-hour, {:.0} cluster-hours a core-hour",
                self.pairs.len(),
                scheduled * (scheduled - 1) / 2,
                self.faults() as f64 / self.hours().max(0.001),
                self.gifts as f64 / self.hours().max(0.001),
                speed
            ),
        ]
        .join("\n")
    }
}

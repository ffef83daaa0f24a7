//! The node's part in a quota that the whole fleet shares. Pure: permits come in grants that somebody else fetches.
//!
//! | mode | a call needs | left by |
//! |---|---|---|
//! | alone | nothing: the rate decides | `join` |
//! | shared | a granted permit, not older than a second | an answer `Away` |
//! | divided | a permit of a bucket of its own, quota / members | an answer `Granted` |
//!
//! A grant is asked for only when a ticket waits for nothing else, one ask at a time, and for as much as waits or as
//! went in the last span, so that a steady flow of calls costs some asks a second. The bucket of a divided quota
//! begins empty but for one permit, so that a Redis that comes and goes gives no bursts.

use crate::gateways::policy::rate::{FULL_PERMILLE, Rate, TokenBucket};
use crate::types::quota::QuotaAnswer;
use crate::types::time::{Millis, Timestamp};

/// A grant holds as many permits as the whole quota gives in this span, at most.
const GRANT_SPAN_MS: u64 = 75;
/// Permits that are not used by then are gone.
const GRANT_LIFE: Millis = Millis(1_000);
/// While the quota is divided, it is asked for again after this span.
const RETRY: Millis = Millis(500);

/// What a call waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FleetWait {
    /// A grant: see [`FleetGate::ask`].
    Grant,
    At(Timestamp),
}

#[derive(Clone, Debug)]
enum Mode {
    Alone,
    Shared { permits: u32, until: Timestamp },
    Divided { members: u32, bucket: TokenBucket, again: Timestamp },
}

/// See the file header.
#[derive(Clone, Debug)]
pub struct FleetGate {
    rate: Rate,
    mode: Mode,
    /// A grant is wanted, and none was asked for yet.
    wanted: bool,
    asking: bool,
    /// Permits that were taken since an instant, and in the last whole span before it.
    taken: u32,
    taken_since: Timestamp,
    pace: u32,
}

impl FleetGate {
    /// `rate` is the whole quota.
    #[must_use]
    pub fn new(rate: Rate, now: Timestamp) -> Self {
        let mode = Mode::Alone;
        Self { rate, mode, wanted: false, asking: false, taken: 0, taken_since: now, pace: 0 }
    }

    /// From here on the quota is the fleet's.
    pub fn join(&mut self, now: Timestamp) {
        if matches!(self.mode, Mode::Alone) {
            self.mode = Mode::Shared { permits: 0, until: now };
        }
    }

    /// What a call has to wait for; `None` when it may go.
    pub fn wait(&mut self, now: Timestamp) -> Option<FleetWait> {
        match &mut self.mode {
            Mode::Alone => None,
            Mode::Shared { permits, until } => {
                if now >= *until {
                    *permits = 0;
                }
                self.wanted |= *permits == 0;
                (*permits == 0).then_some(FleetWait::Grant)
            }
            Mode::Divided { bucket, again, .. } => {
                self.wanted |= now >= *again;
                bucket.refill(now, FULL_PERMILLE);
                (!bucket.has(0)).then(|| FleetWait::At(bucket.ready_at(0, FULL_PERMILLE)))
            }
        }
    }

    /// Takes a permit. Callers have asked [`FleetGate::wait`].
    pub fn take(&mut self) {
        self.taken = self.taken.saturating_add(1);
        match &mut self.mode {
            Mode::Alone => {}
            Mode::Shared { permits, .. } => *permits = permits.saturating_sub(1),
            Mode::Divided { bucket, .. } => bucket.take(),
        }
    }

    /// Gives back a permit that was not used.
    pub fn give_back(&mut self) {
        match &mut self.mode {
            Mode::Alone => {}
            Mode::Shared { permits, .. } => *permits = permits.saturating_add(1),
            Mode::Divided { bucket, .. } => bucket.give_back(),
        }
    }

    /// How many permits to ask for now, for so many waiting tickets; `None` when there is nothing to ask. Each ask is
    /// answered once, with [`FleetGate::answered`].
    pub fn ask(&mut self, waiting: usize, now: Timestamp) -> Option<u32> {
        if !self.wanted || self.asking || waiting == 0 {
            return None;
        }
        (self.wanted, self.asking) = (false, true);
        let most = (u64::from(self.rate.per_s) * GRANT_SPAN_MS / 1_000).clamp(1, u64::from(self.rate.burst.max(1)));
        let wanted = (waiting as u64).max(u64::from(self.recent_pace(now)));
        Some(u32::try_from(most.min(wanted)).unwrap_or(u32::MAX))
    }

    /// Permits that went in one span, lately. A clock that was moved far ahead finds none.
    fn recent_pace(&mut self, now: Timestamp) -> u32 {
        let gone = u64::try_from((now - self.taken_since).0).unwrap_or(0);
        if gone >= GRANT_SPAN_MS {
            self.pace = u32::try_from(u64::from(self.taken) * GRANT_SPAN_MS / gone).unwrap_or(u32::MAX);
            (self.taken, self.taken_since) = (0, now);
        }
        self.pace
    }

    pub fn answered(&mut self, answer: QuotaAnswer, now: Timestamp) {
        self.asking = false;
        match (answer, &mut self.mode) {
            (QuotaAnswer::Granted { permits: 0 }, Mode::Shared { .. }) => {}
            (QuotaAnswer::Granted { permits }, _) => self.mode = Mode::Shared { permits, until: now + GRANT_LIFE },
            (QuotaAnswer::Away { members }, Mode::Divided { members: known, again, .. }) if *known == members => {
                *again = now + RETRY;
            }
            (QuotaAnswer::Away { members }, _) => {
                let mut bucket = TokenBucket::new(part(self.rate, members), now);
                bucket.drain();
                self.mode = Mode::Divided { members, bucket, again: now + RETRY };
            }
        }
    }

    /// Permits per second that this node may count on at most.
    #[must_use]
    pub fn per_s(&self) -> u32 {
        match &self.mode {
            Mode::Alone | Mode::Shared { .. } => self.rate.per_s,
            Mode::Divided { members, .. } => part(self.rate, *members).per_s,
        }
    }
}

/// Rounded down, so that the parts together are not more than the whole; at least one permit.
fn part(rate: Rate, members: u32) -> Rate {
    let members = members.max(1);
    Rate { per_s: (rate.per_s / members).max(1), burst: (rate.burst / members).max(1) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RATE: Rate = Rate { per_s: 1_000, burst: 90 };
    const START: Timestamp = Timestamp(1_000_000);

    fn joined() -> FleetGate {
        let mut gate = FleetGate::new(RATE, START);
        gate.join(START);
        gate
    }

    /// Calls that go at one instant.
    fn go(gate: &mut FleetGate, now: Timestamp) -> u32 {
        let mut gone = 0;
        while gate.wait(now).is_none() && gone < 10_000 {
            gate.take();
            gone += 1;
        }
        gone
    }

    #[test]
    fn alone_it_holds_nothing_back_and_asks_for_nothing() {
        let mut gate = FleetGate::new(RATE, START);
        assert_eq!(go(&mut gate, START), 10_000);
        assert_eq!(gate.ask(5, START), None);
    }

    #[test]
    fn a_call_waits_for_a_grant_and_one_ask_is_out_at_a_time() {
        let mut gate = joined();
        assert_eq!(gate.ask(1, START), None, "no ticket came that far");
        assert_eq!(gate.wait(START), Some(FleetWait::Grant));
        assert_eq!(gate.ask(500, START), Some(75), "as much as 75 ms give");
        assert_eq!(gate.wait(START), Some(FleetWait::Grant));
        assert_eq!(gate.ask(500, START), None);
        gate.answered(QuotaAnswer::Granted { permits: 3 }, START);
        assert_eq!(go(&mut gate, START), 3);
        assert_eq!(gate.ask(2, START), Some(2), "no more than what waits");
    }

    #[test]
    fn permits_that_were_not_used_are_gone_after_a_second() {
        let mut gate = joined();
        gate.answered(QuotaAnswer::Granted { permits: 3 }, START);
        assert_eq!(gate.wait(START + Millis(999)), None);
        assert_eq!(gate.wait(START + Millis(1_000)), Some(FleetWait::Grant));
    }

    #[test]
    fn away_it_takes_its_part_and_comes_back() {
        let mut gate = joined();
        gate.answered(QuotaAnswer::Away { members: 3 }, START);
        assert_eq!((gate.per_s(), go(&mut gate, START)), (333, 1), "a bucket of its own begins empty");
        assert_eq!(go(&mut gate, START + Millis(60)), 19, "the third of 1,000 a second");
        let mut total = 0;
        for tick in 1..=100 {
            total += go(&mut gate, START + Millis(60 + 10 * tick));
        }
        assert!((330..=335).contains(&total), "{total}");
        assert_eq!(gate.ask(40, START + Millis(1_060)), Some(40), "now and then it is asked for again");
        gate.answered(QuotaAnswer::Away { members: 3 }, START + Millis(1_060));
        assert_eq!(go(&mut gate, START + Millis(1_060)), 0, "and asking gives nothing away");
        assert_eq!(gate.ask(9, START + Millis(1_060)), None);
        gate.answered(QuotaAnswer::Granted { permits: 2 }, START + Millis(1_100));
        assert_eq!((gate.per_s(), go(&mut gate, START + Millis(1_100))), (1_000, 2));
    }

    #[test]
    fn a_steady_flow_asks_for_what_went_lately_and_a_rest_for_what_waits() {
        let mut gate = joined();
        let mut asks = Vec::new();
        // One ticket a millisecond for a second.
        for tick in 0..1_000 {
            let now = START + Millis(tick);
            if gate.wait(now).is_some() {
                let permits = gate.ask(1, now).expect("none is out");
                asks.push(permits);
                gate.answered(QuotaAnswer::Granted { permits }, now);
            }
            assert_eq!(gate.wait(now), None);
            gate.take();
        }
        assert!(asks.len() < 110, "75 one by one until the pace is known, then 13 a second: {}", asks.len());
        assert_eq!(asks.last(), Some(&75));
        let rested = START + Millis(60_000);
        assert_eq!(gate.wait(rested), Some(FleetWait::Grant));
        assert_eq!(gate.ask(1, rested), Some(1));
    }

    #[test]
    fn a_permit_that_was_not_needed_serves_the_next_call() {
        let mut gate = joined();
        gate.answered(QuotaAnswer::Granted { permits: 1 }, START);
        assert_eq!(go(&mut gate, START), 1);
        gate.give_back();
        assert_eq!(go(&mut gate, START), 1);
    }
}

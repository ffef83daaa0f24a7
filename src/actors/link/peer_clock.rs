//! The peer's clock as heartbeats show it.
//!
//! A pong says what the peer's clock was somewhere between the ping and the pong. Both ends are read from our own steady
//! clock: setting our wall clock changes no reading. A move by hand in between (the dev clock's, which moves all clocks)
//! shows as a large error and not as a peer that is off. Of the last few readings the most exact one counts: a busy moment
//! makes them worse.

use crate::types::time::Timestamp;

/// Readings that are compared, and pings that may be under way.
const RECENT: usize = 8;
const PINGS_MAX: usize = 16;

/// The peer's clock minus our steady one, and how far that may be off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Reading {
    offset_ms: i64,
    error_ms: i64,
}

impl Reading {
    fn new(before: Timestamp, theirs_ms: i64, after: Timestamp) -> Self {
        let (least, most) = (theirs_ms.saturating_sub(after.0), theirs_ms.saturating_sub(before.0));
        // A millisecond more: clocks are read in whole ones.
        let error_ms = most.saturating_sub(least).max(0) / 2 + 1;
        Self { offset_ms: least.saturating_add(error_ms - 1), error_ms }
    }
}

/// One link's view of the clock at its other end.
#[derive(Clone, Debug, Default)]
pub(crate) struct PeerClock {
    /// What was put into each ping, and our steady clock then.
    pings: Vec<(u64, Timestamp)>,
    recent: Vec<Reading>,
    /// Smoothed by an eighth.
    round_trip_us: Option<u64>,
}

impl PeerClock {
    /// A ping leaves.
    pub(crate) fn asked(&mut self, sent_us: u64, now: Timestamp) {
        if self.pings.len() == PINGS_MAX {
            self.pings.remove(0);
        }
        self.pings.push((sent_us, now));
    }

    /// Its pong came. One to a ping that is forgotten, or was never sent, says nothing.
    pub(crate) fn answered(&mut self, sent_us: u64, theirs_ms: i64, now_us: u64, now: Timestamp) {
        let Some(place) = self.pings.iter().position(|(sent, _)| *sent == sent_us) else { return };
        let (_, before) = self.pings.remove(place);
        let round_trip = now_us.saturating_sub(sent_us);
        self.round_trip_us = Some(self.round_trip_us.map_or(round_trip, |known| (known * 7 + round_trip) / 8));
        if self.recent.len() == RECENT {
            self.recent.remove(0);
        }
        self.recent.push(Reading::new(before, theirs_ms, now));
    }

    pub(crate) fn round_trip_us(&self) -> Option<u64> {
        self.round_trip_us
    }

    /// The peer's clock minus our steady one in milliseconds, and how far that may be off.
    pub(crate) fn offset_ms(&self) -> Option<(i64, i64)> {
        // Of two that are as exact the later one.
        let best = self.recent.iter().rev().min_by_key(|reading| reading.error_ms)?;
        Some((best.offset_ms, best.error_ms))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn exchange(clock: &mut PeerClock, number: u64, before: i64, theirs: i64, after: i64) {
        clock.asked(number, Timestamp(before));
        clock.answered(number, theirs, number + 100, Timestamp(after));
    }

    #[test]
    fn the_most_exact_of_the_last_readings_counts() {
        let mut clock = PeerClock::default();
        assert_eq!(clock.offset_ms(), None);
        exchange(&mut clock, 1, 1_000, 4_002, 1_004);
        assert_eq!(clock.offset_ms(), Some((3_000, 3)));
        exchange(&mut clock, 2, 2_000, 5_400, 2_500);
        assert_eq!(clock.offset_ms(), Some((3_000, 3)));
        exchange(&mut clock, 3, 3_000, 6_010, 3_000);
        assert_eq!(clock.offset_ms(), Some((3_010, 1)));
        for number in 4..4 + RECENT as u64 {
            exchange(&mut clock, number, 9_000, 12_020, 9_010);
        }
        assert_eq!(clock.offset_ms(), Some((3_015, 6)), "old readings are forgotten");
    }

    #[test]
    fn a_move_by_hand_between_ping_and_pong_is_an_error_not_an_offset() {
        let mut clock = PeerClock::default();
        exchange(&mut clock, 1, 1_000, 1_001, 3_601_000);
        let (offset, error) = clock.offset_ms().unwrap();
        assert!(offset.abs() <= error && error > 1_000_000, "{offset} ± {error}");
        exchange(&mut clock, 2, 3_601_200, 3_601_200, 3_601_201);
        assert_eq!(clock.offset_ms(), Some((-1, 1)));
    }

    #[test]
    fn a_pong_to_no_ping_says_nothing_and_pings_have_a_bound() {
        let mut clock = PeerClock::default();
        clock.answered(7, 1, 9, Timestamp(1));
        assert_eq!((clock.offset_ms(), clock.round_trip_us()), (None, None));
        (0..100).for_each(|number| clock.asked(number, Timestamp(0)));
        assert_eq!(clock.pings.len(), PINGS_MAX);
        exchange(&mut clock, 200, 0, 0, 0);
        assert_eq!(clock.round_trip_us(), Some(100));
    }

    proptest! {
        #[test]
        fn the_truth_is_within_the_error(
            truth in -100_000i64..100_000, before in 0i64..1_000_000, there in 0i64..5_000, back in 0i64..5_000,
        ) {
            let reading = Reading::new(Timestamp(before), before + there + truth, Timestamp(before + there + back));
            prop_assert!((reading.offset_ms - truth).abs() <= reading.error_ms);
        }
    }
}

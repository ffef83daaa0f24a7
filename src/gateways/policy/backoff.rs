//! Jittered exponential backoff and the slow-start ramp: how long to stay away, and how fast to come back.

use crate::types::time::{Millis, Timestamp};
use rand::{Rng, RngCore};

/// Exponential backoff with equal jitter: half of the span is certain, half is drawn, so that lanes which failed
/// together do not come back together (AWS Architecture Blog, "Exponential Backoff And Jitter").
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    /// Span of the first wait.
    pub first: Millis,
    /// No wait is longer.
    pub max: Millis,
}

impl Backoff {
    /// The wait before try `tries + 1` (0: the first): within `[span / 2, span]`, `span = min(first · 2^tries, max)`.
    pub fn wait(&self, tries: u32, rng: &mut impl RngCore) -> Millis {
        let first = self.first.0.max(1);
        let span = first.saturating_mul(1i64 << tries.min(40)).min(self.max.0.max(first));
        let half = span / 2;
        Millis(half + rng.random_range(0..=span - half))
    }
}

/// Comes back to full speed in a straight line: `floor_permille` at `from`, 1000 at `from + span`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ramp {
    pub from: Timestamp,
    pub span: Millis,
    pub floor_permille: u32,
}

impl Ramp {
    /// Speed at `now` in thousandths, between the floor and 1000; never falls as time goes on.
    #[must_use]
    pub fn permille(&self, now: Timestamp) -> u32 {
        let floor = self.floor_permille.clamp(1, 1_000);
        let gone = (now - self.from).0.max(0);
        if gone >= self.span.0 {
            return 1_000;
        }
        let gain = i128::from(1_000 - floor) * i128::from(gone) / i128::from(self.span.0);
        floor + u32::try_from(gain).unwrap_or(0)
    }

    /// Whether full speed is reached.
    #[must_use]
    pub fn is_over(&self, now: Timestamp) -> bool {
        (now - self.from).0 >= self.span.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rand::SeedableRng;
    use rand_chacha::ChaCha8Rng;

    #[test]
    fn waits_double_up_to_the_cap_and_differ_by_seed() {
        let backoff = Backoff { first: Millis(1_000), max: Millis(30_000) };
        let waits = |seed| {
            let mut rng = ChaCha8Rng::seed_from_u64(seed);
            (0..8).map(|tries| backoff.wait(tries, &mut rng).0).collect::<Vec<_>>()
        };
        assert_eq!(waits(7), waits(7), "the same seed gives the same waits");
        assert_ne!(waits(7), waits(8), "lanes with different seeds come back apart");
        assert!(waits(7)[7] > 15_000 && waits(7)[7] <= 30_000);
    }

    #[test]
    fn a_ramp_goes_from_its_floor_to_full_speed() {
        let ramp = Ramp { from: Timestamp(1_000), span: Millis(10_000), floor_permille: 100 };
        assert_eq!(ramp.permille(Timestamp(0)), 100);
        assert_eq!(ramp.permille(Timestamp(6_000)), 550);
        assert_eq!(ramp.permille(Timestamp(11_000)), 1_000);
        assert!(ramp.is_over(Timestamp(11_000)) && !ramp.is_over(Timestamp(10_999)));
    }

    proptest! {
        #[test]
        fn a_wait_stays_within_half_and_whole_of_its_span(
            first in 1i64..10_000, max in 1i64..100_000, tries in 0u32..100, seed: u64,
        ) {
            let backoff = Backoff { first: Millis(first), max: Millis(max) };
            let span = i128::from(first) * (1i128 << tries.min(60));
            let span = i64::try_from(span.min(i128::from(max.max(first)))).unwrap();
            let wait = backoff.wait(tries, &mut ChaCha8Rng::seed_from_u64(seed)).0;
            prop_assert!(wait >= span / 2 && wait <= span, "{wait} of {span}");
        }

        #[test]
        fn a_ramp_never_slows_down(from in 0i64..1_000, span in 1i64..1_000, floor in 0u32..1_200, at in 0i64..3_000) {
            let ramp = Ramp { from: Timestamp(from), span: Millis(span), floor_permille: floor };
            let (now, next) = (ramp.permille(Timestamp(at)), ramp.permille(Timestamp(at + 1)));
            prop_assert!(now <= next && now >= 1 && next <= 1_000);
        }
    }
}

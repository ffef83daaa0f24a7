//! Token bucket: permits per second with a burst, refilled by the clock that is handed in.
//!
//! Invariant: in any span of `t` ms at most `burst + rate · t / 1000` permits are taken. A clock that goes back
//! refills nothing and takes nothing; one that jumps ahead (a moved dev clock) fills up to the burst.

use crate::types::time::{Millis, Timestamp};

/// One permit in the bucket's unit. `elapsed ms × permits/s × permille` is exactly millionths of a permit.
const PERMIT: u64 = 1_000_000;

/// Full speed, as a factor in thousandths.
pub const FULL_PERMILLE: u32 = 1_000;

/// A quota of permits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// Permits per second, at least 1.
    pub per_s: u32,
    /// Permits that may be taken at one instant after a rest, at least 1.
    pub burst: u32,
}

impl Rate {
    /// `permille` thousandths of this quota, at least one permit per second and one of burst.
    #[must_use]
    pub fn share(self, permille: u32) -> Self {
        let part =
            |whole: u32| u32::try_from(u64::from(whole) * u64::from(permille) / 1_000).unwrap_or(u32::MAX).max(1);
        Self { per_s: part(self.per_s), burst: part(self.burst) }
    }
}

/// The bucket. Starts full.
#[derive(Clone, Debug)]
pub struct TokenBucket {
    per_s: u64,
    burst: u64,
    level: u64,
    at: Timestamp,
}

impl TokenBucket {
    /// A full bucket; zeros in `rate` count as ones.
    #[must_use]
    pub fn new(rate: Rate, now: Timestamp) -> Self {
        let burst = u64::from(rate.burst.max(1)) * PERMIT;
        Self { per_s: u64::from(rate.per_s.max(1)), burst, level: burst, at: now }
    }

    /// Credits the span since the last look at `permille` thousandths of the rate (0 credits nothing).
    pub fn refill(&mut self, now: Timestamp, permille: u32) {
        let elapsed = u64::try_from((now - self.at).0).unwrap_or(0);
        if elapsed == 0 {
            return;
        }
        let speed = self.per_s.saturating_mul(u64::from(permille.min(FULL_PERMILLE)));
        self.level = self.level.saturating_add(elapsed.saturating_mul(speed)).min(self.burst);
        self.at = now;
    }

    /// Whether a permit can be taken and leave `reserve` permits behind.
    #[must_use]
    pub fn has(&self, reserve: u32) -> bool {
        self.level >= (u64::from(reserve) + 1) * PERMIT
    }

    /// Takes one permit. Callers have asked [`TokenBucket::has`].
    pub fn take(&mut self) {
        self.level = self.level.saturating_sub(PERMIT);
    }

    /// Gives back a permit that was not used.
    pub fn give_back(&mut self) {
        self.level = (self.level + PERMIT).min(self.burst);
    }

    /// Empties the bucket but for one permit, so that a slow start does not begin with a burst.
    pub fn drain(&mut self) {
        self.level = self.level.min(PERMIT);
    }

    /// The first instant at which [`TokenBucket::has`] holds if nothing is taken until then, at `permille` of the
    /// rate. [`Timestamp::MAX`] when it never does.
    #[must_use]
    pub fn ready_at(&self, reserve: u32, permille: u32) -> Timestamp {
        let need = (u64::from(reserve) + 1) * PERMIT;
        if need <= self.level {
            return self.at;
        }
        let speed = self.per_s * u64::from(permille.min(FULL_PERMILLE));
        if need > self.burst || speed == 0 {
            return Timestamp::MAX;
        }
        let wait = (need - self.level).div_ceil(speed);
        self.at + Millis(i64::try_from(wait).unwrap_or(i64::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn taken(bucket: &mut TokenBucket, now: Timestamp, want: u32) -> u32 {
        bucket.refill(now, FULL_PERMILLE);
        let mut got = 0;
        while got < want && bucket.has(0) {
            bucket.take();
            got += 1;
        }
        got
    }

    #[test]
    fn a_rest_gives_the_burst_and_then_the_rate() {
        let mut bucket = TokenBucket::new(Rate { per_s: 10, burst: 5 }, Timestamp(0));
        assert_eq!(taken(&mut bucket, Timestamp(0), 100), 5);
        assert_eq!(bucket.ready_at(0, FULL_PERMILLE), Timestamp(100));
        assert_eq!(taken(&mut bucket, Timestamp(99), 100), 0);
        assert_eq!(taken(&mut bucket, Timestamp(100), 100), 1);
        assert_eq!(taken(&mut bucket, Timestamp(400), 100), 3);
    }

    #[test]
    fn a_clock_moved_by_years_fills_the_burst_only() {
        let mut bucket = TokenBucket::new(Rate { per_s: u32::MAX, burst: 5 }, Timestamp(0));
        assert_eq!(taken(&mut bucket, Timestamp(i64::MAX), 100), 5);
        assert_eq!(taken(&mut bucket, Timestamp(0), 100), 0, "a clock gone back refills nothing");
    }

    #[test]
    fn a_reserve_is_left_behind() {
        let mut bucket = TokenBucket::new(Rate { per_s: 1, burst: 4 }, Timestamp(0));
        assert!(bucket.has(3));
        assert!(!bucket.has(4));
        assert_eq!(bucket.ready_at(4, FULL_PERMILLE), Timestamp::MAX, "more than the burst can hold");
        bucket.take();
        assert!(!bucket.has(3));
        assert_eq!(bucket.ready_at(3, 500), Timestamp(2_000), "half the speed, twice the wait");
    }

    proptest! {
        #[test]
        fn no_span_gives_more_than_burst_plus_rate(
            per_s in 1u32..5_000,
            burst in 1u32..200,
            steps in prop::collection::vec((0i64..400, 0u32..50, 0u32..=1_000), 1..80),
        ) {
            let mut bucket = TokenBucket::new(Rate { per_s, burst }, Timestamp(0));
            let (mut now, mut log) = (Timestamp(0), Vec::new());
            for (pause, want, permille) in steps {
                now = now + Millis(pause);
                bucket.refill(now, permille);
                log.push((now, taken(&mut bucket, now, want)));
            }
            for (from, start) in log.iter().enumerate() {
                let mut sum = 0u64;
                for end in &log[from..] {
                    sum += u64::from(end.1);
                    let span = u64::try_from((end.0 - start.0).0).unwrap();
                    prop_assert!(sum * 1_000 <= u64::from(burst) * 1_000 + u64::from(per_s) * span);
                }
            }
        }

        #[test]
        fn ready_at_is_the_first_instant_with_a_permit(
            per_s in 1u32..5_000, burst in 1u32..20, reserve in 0u32..20, permille in 1u32..=1_000, rest in 0i64..50,
        ) {
            let mut bucket = TokenBucket::new(Rate { per_s, burst }, Timestamp(0));
            while bucket.has(0) {
                bucket.take();
            }
            bucket.refill(Timestamp(rest), permille);
            let at = bucket.ready_at(reserve, permille);
            if at == Timestamp::MAX {
                prop_assert!(reserve + 1 > burst);
            } else {
                let mut early = bucket.clone();
                early.refill(at - Millis(1), permille);
                prop_assert!(at == Timestamp(rest) || !early.has(reserve));
                bucket.refill(at, permille);
                prop_assert!(bucket.has(reserve));
            }
        }
    }
}

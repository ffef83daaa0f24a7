//! Token buckets by name: one caller's request rate, and wrong voucher codes of one terminal.
//!
//! The table is bounded. When it is full, buckets that have filled up again are dropped (they say nothing any more);
//! if none has, the caller that would need a new one shares an overflow bucket instead of growing the table.

use crate::types::time::BootMillis;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;

/// How fast a bucket fills and how much it holds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BucketRate {
    /// Tokens that come back in a second.
    pub per_sec: f64,
    /// Tokens that a full bucket holds.
    pub burst: f64,
}

/// Buckets kept at most, over all parts of the table.
pub const BUCKETS_MAX: usize = 65_536;
const PARTS: usize = 16;

#[derive(Clone, Copy)]
struct Level {
    tokens: f64,
    at: BootMillis,
}

/// A bounded table of buckets of one rate.
pub struct Buckets {
    rate: BucketRate,
    hasher: RandomState,
    parts: Vec<Mutex<HashMap<u64, Level>>>,
}

impl Buckets {
    #[must_use]
    pub fn new(rate: BucketRate) -> Self {
        let parts = (0..PARTS).map(|_| Mutex::new(HashMap::new())).collect();
        Self { rate, hasher: RandomState::new(), parts }
    }

    /// Takes one token of `name`.
    ///
    /// # Errors
    /// Whole seconds until one is there, at least 1.
    pub fn take(&self, name: &str, now: BootMillis) -> Result<(), u32> {
        self.with(name, now, |level| {
            if level.tokens < 1.0 {
                return Err(level.tokens);
            }
            level.tokens -= 1.0;
            Ok(())
        })
        .map_err(|tokens| self.wait_secs(tokens))
    }

    /// Whether a token is there, without taking it.
    ///
    /// # Errors
    /// Whole seconds until one is there, at least 1.
    pub fn peek(&self, name: &str, now: BootMillis) -> Result<(), u32> {
        self.with(name, now, |level| if level.tokens < 1.0 { Err(level.tokens) } else { Ok(()) })
            .map_err(|tokens| self.wait_secs(tokens))
    }

    fn wait_secs(&self, tokens: f64) -> u32 {
        let secs = ((1.0 - tokens) / self.rate.per_sec).ceil().clamp(1.0, 3600.0);
        // Clamped to 1..=3600 just above, so the cast keeps the value.
        secs as u32
    }

    fn with<T>(&self, name: &str, now: BootMillis, act: impl FnOnce(&mut Level) -> T) -> T {
        // Hashed under a secret seed: names cannot be chosen to collide with another caller's.
        let hash = self.hasher.hash_one(name);
        let part_index = usize::try_from(hash % PARTS as u64).expect("a remainder of 16 fits");
        let mut part = self.parts[part_index].lock();
        let full = part.len() >= BUCKETS_MAX / PARTS && !part.contains_key(&hash);
        if full {
            part.retain(|_, level| self.refilled(*level, now).tokens < self.rate.burst);
        }
        let overflow = full && part.len() >= BUCKETS_MAX / PARTS;
        let slot = if overflow { 0 } else { hash };
        let fresh = Level { tokens: self.rate.burst, at: now };
        let level = part.entry(slot).or_insert(fresh);
        *level = self.refilled(*level, now);
        act(level)
    }

    fn refilled(&self, level: Level, now: BootMillis) -> Level {
        let elapsed_ms = now.0.saturating_sub(level.at.0);
        // Milliseconds of uptime stay far below 2^52, so the cast to f64 is exact.
        let gained = elapsed_ms as f64 / 1_000.0 * self.rate.per_sec;
        Level { tokens: (level.tokens + gained).min(self.rate.burst), at: BootMillis(now.0.max(level.at.0)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn buckets(per_sec: f64, burst: f64) -> Buckets {
        Buckets::new(BucketRate { per_sec, burst })
    }

    #[test]
    fn a_burst_passes_then_the_rate_holds() {
        let buckets = buckets(2.0, 3.0);
        let now = BootMillis(1_000);
        for _ in 0..3 {
            buckets.take("a", now).unwrap();
        }
        assert_eq!(buckets.take("a", now), Err(1));
        buckets.take("b", now).unwrap();
        buckets.take("a", BootMillis(1_500)).unwrap();
        assert_eq!(buckets.take("a", BootMillis(1_500)), Err(1));
    }

    #[test]
    fn waiting_time_is_said_in_whole_seconds() {
        let buckets = buckets(0.1, 1.0);
        buckets.take("a", BootMillis(0)).unwrap();
        assert_eq!(buckets.take("a", BootMillis(0)), Err(10));
        assert_eq!(buckets.peek("a", BootMillis(5_000)), Err(5));
        buckets.peek("a", BootMillis(10_000)).unwrap();
    }

    #[test]
    fn the_table_is_bounded() {
        let buckets = buckets(0.001, 1.0);
        for caller in 0..(BUCKETS_MAX * 2) {
            let _shared_overflow = buckets.take(&caller.to_string(), BootMillis(0));
        }
        let kept: usize = buckets.parts.iter().map(|part| part.lock().len()).sum();
        assert!(kept <= BUCKETS_MAX + PARTS, "{kept}");
    }
}

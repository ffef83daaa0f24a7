//! How long something took of late, as quantiles over the last ten to twenty seconds, without a lock.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Powers of two of microseconds: from 1 µs to over an hour.
const BUCKETS: usize = 32;

type Counts = [AtomicU64; BUCKETS];

/// Two spans of counts: the present one and the one before.
#[derive(Default)]
pub struct Latency {
    present: Counts,
    before: Counts,
}

impl Latency {
    pub fn record(&self, took: Duration) {
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX).max(1);
        let bucket = usize::try_from(micros.ilog2()).unwrap_or(0).min(BUCKETS - 1);
        self.present[bucket].fetch_add(1, Ordering::Relaxed);
    }

    /// Begins a new span; called every ten seconds.
    pub fn turn(&self) {
        for (present, before) in self.present.iter().zip(&self.before) {
            before.store(present.swap(0, Ordering::Relaxed), Ordering::Relaxed);
        }
    }

    /// What `share` (0 to 1) of all took at most, in microseconds, rounded up to a power of two; `None` when there was none.
    #[must_use]
    pub fn quantile_us(&self, share: f64) -> Option<u64> {
        let counts: Vec<u64> = self
            .present
            .iter()
            .zip(&self.before)
            .map(|(present, before)| present.load(Ordering::Relaxed) + before.load(Ordering::Relaxed))
            .collect();
        let all: u64 = counts.iter().sum();
        #[allow(
            clippy::cast_precision_loss,
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a rank"
        )]
        let rank = ((all as f64 * share).ceil() as u64).max(1);
        let mut seen = 0;
        counts.iter().zip(1u32..).find_map(|(count, bits)| {
            seen += count;
            (*count > 0 && seen >= rank).then(|| 1u64 << bits)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_of_the_last_two_spans() {
        let latency = Latency::default();
        assert_eq!(latency.quantile_us(0.5), None);
        (0..98).for_each(|_| latency.record(Duration::from_micros(900)));
        (0..2).for_each(|_| latency.record(Duration::from_millis(30)));
        assert_eq!((latency.quantile_us(0.5), latency.quantile_us(0.99)), (Some(1_024), Some(32_768)));
        latency.turn();
        assert_eq!(latency.quantile_us(0.99), Some(32_768));
        latency.turn();
        assert_eq!(latency.quantile_us(0.99), None);
        latency.record(Duration::ZERO);
        latency.record(Duration::from_secs(1_000_000));
        assert_eq!((latency.quantile_us(0.1), latency.quantile_us(1.0)), (Some(2), Some(1 << 32)));
    }
}

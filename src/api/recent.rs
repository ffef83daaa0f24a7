//! What was read a moment ago and is promised for a moment: kept for a second, bounded.
//!
//! A gift copies its product and an order its prices, so a price that is a second old is a promise made a second ago, not a
//! wrong one. A change through this node is seen at once; what does not exist is never kept.
//!
//! What cannot be read anew soon may be taken as it was read last, for a little longer: a shard without a leader cannot change what
//! is in it, and one that has too much to do makes the promise ten seconds old at most.

use crate::types::time::BootMillis;
use parking_lot::Mutex;
use std::collections::BTreeMap;

/// How long a value is kept.
const KEEP_MS: u64 = 1_000;
/// How long it is there for those who cannot read it anew: longer than an election.
const LAST_MS: u64 = 10_000;
/// Values kept at most; then all are dropped.
const KEPT_MAX: usize = 4_096;

/// Values by name, each with the instant at which it was read.
pub struct Recent<V> {
    seen: Mutex<BTreeMap<String, (BootMillis, V)>>,
}

impl<V> Default for Recent<V> {
    fn default() -> Self {
        Self { seen: Mutex::default() }
    }
}

impl<V: Clone> Recent<V> {
    /// What is kept under this name, unless it is too old.
    pub fn get(&self, name: &str, now: BootMillis) -> Option<V> {
        self.within(name, now, KEEP_MS)
    }

    /// What was read last under this name, for who cannot read it anew.
    pub fn last(&self, name: &str, now: BootMillis) -> Option<V> {
        self.within(name, now, LAST_MS)
    }

    fn within(&self, name: &str, now: BootMillis, span_ms: u64) -> Option<V> {
        let seen = self.seen.lock();
        let (at, value) = seen.get(name)?;
        (now.0.saturating_sub(at.0) < span_ms).then(|| value.clone())
    }

    /// Keeps what was read just now.
    pub fn keep(&self, name: &str, value: V, now: BootMillis) {
        let mut seen = self.seen.lock();
        if seen.len() >= KEPT_MAX {
            seen.clear();
        }
        seen.insert(name.to_owned(), (now, value));
    }

    /// Forgets what was changed.
    pub fn forget(&self, name: &str) {
        self.seen.lock().remove(name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_kept_for_a_second_unless_forgotten() {
        let recent = Recent::default();
        recent.keep("a", 5, BootMillis(0));
        assert_eq!(recent.get("a", BootMillis(999)), Some(5));
        assert_eq!(recent.get("a", BootMillis(1_000)), None);
        assert_eq!([9_999, 10_000].map(|ms| recent.last("a", BootMillis(ms))), [Some(5), None]);
        recent.forget("a");
        assert_eq!((recent.get("a", BootMillis(0)), recent.last("a", BootMillis(0))), (None, None));
    }

    #[test]
    fn what_is_kept_is_bounded() {
        let recent = Recent::default();
        for number in 0..=KEPT_MAX {
            recent.keep(&number.to_string(), number, BootMillis(0));
        }
        assert!(recent.seen.lock().len() <= KEPT_MAX);
        assert_eq!(recent.get(&KEPT_MAX.to_string(), BootMillis(0)), Some(KEPT_MAX));
    }
}

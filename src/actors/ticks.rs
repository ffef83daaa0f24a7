//! The ticks of a node, counted once for all its shards, and which of them need to hear of the next.
//!
//! Most ticks of a Raft group do nothing but count. A shard says when one is due that does more, and is left alone until then:
//! an idle node of many groups would spend most of its work on waking them.

use crate::types::ids::{META_SHARD, ShardId};
use std::sync::atomic::{AtomicU64, Ordering};

/// See the file header. Counts from 0, when the node starts.
pub(crate) struct Ticks {
    passed: AtomicU64,
    /// By shard id.
    due: Vec<AtomicU64>,
}

impl Default for Ticks {
    fn default() -> Self {
        Self { passed: AtomicU64::new(0), due: (0..=META_SHARD.0).map(|_| AtomicU64::new(0)).collect() }
    }
}

impl Ticks {
    /// Ticks since the node started.
    pub(crate) fn passed(&self) -> u64 {
        self.passed.load(Ordering::Acquire)
    }

    /// One more has passed; returns how many.
    pub(crate) fn pass(&self) -> u64 {
        self.passed.fetch_add(1, Ordering::AcqRel) + 1
    }

    /// Whether the shard is to hear of the last tick.
    pub(crate) fn is_due(&self, shard: ShardId) -> bool {
        self.due[usize::from(shard.0)].load(Ordering::Acquire) <= self.passed()
    }

    /// The shard is to hear of tick `due` and those after it.
    pub(crate) fn set_due(&self, shard: ShardId, due: u64) {
        self.due[usize::from(shard.0)].store(due, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shard_hears_of_what_is_due_and_of_all_before_it_said_anything() {
        let (ticks, one, other) = (Ticks::default(), ShardId(1), META_SHARD);
        assert_eq!(ticks.pass(), 1);
        assert!(ticks.is_due(one) && ticks.is_due(other));
        ticks.set_due(one, 3);
        let heard: Vec<bool> = (0..3).map(|_| (ticks.pass(), ticks.is_due(one)).1).collect();
        assert_eq!(heard, [false, true, true]);
        assert!(ticks.is_due(other));
        ticks.set_due(one, 0);
        assert!(ticks.is_due(one), "a replica that came anew");
    }
}

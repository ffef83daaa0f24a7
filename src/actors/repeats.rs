//! Calls that may be made twice: notices, which have no record before them. A leader that hands a shard over begins no more
//! of them and lets the outcomes of those that it made be committed first, so that its successor does not make them again.
//! One that loses its shard without warning cannot; then they are made at least once.

use crate::types::effect::Lane;
use crate::types::ids::ShardId;
use crate::types::limits::SHARDS_MAX;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// Whether a lane's calls to the outside are made without a record before them.
#[must_use]
pub fn is_repeated(lane: Lane) -> bool {
    match lane {
        Lane::Notice(_) => true,
        // Another entity answers a repeat from its state.
        Lane::Send(_) | Lane::Payment | Lane::Shipment | Lane::Entity => false,
    }
}

#[derive(Default)]
struct OfShard {
    /// Made, and the outcome not committed yet.
    open: AtomicUsize,
    held: AtomicBool,
}

/// By shard; one per node.
pub struct Repeats {
    shards: Vec<OfShard>,
}

impl Default for Repeats {
    fn default() -> Self {
        Self { shards: (0..=SHARDS_MAX).map(|_| OfShard::default()).collect() }
    }
}

impl Repeats {
    fn of(&self, shard: ShardId) -> Option<&OfShard> {
        self.shards.get(usize::from(shard.0))
    }

    /// One entity of the shard had `before` of them open, and has `after` now.
    pub fn count(&self, shard: ShardId, before: usize, after: usize) {
        let Some(of) = self.of(shard) else { return };
        if after > before {
            of.open.fetch_add(after - before, Ordering::AcqRel);
        } else {
            of.open.fetch_sub(before - after, Ordering::AcqRel);
        }
    }

    #[must_use]
    pub fn open(&self, shard: ShardId) -> usize {
        self.of(shard).map_or(0, |of| of.open.load(Ordering::Acquire))
    }

    /// Whether the shard begins none now.
    #[must_use]
    pub fn is_held(&self, shard: ShardId) -> bool {
        self.of(shard).is_some_and(|of| of.held.load(Ordering::Acquire))
    }

    pub fn hold(&self, shard: ShardId, held: bool) {
        if let Some(of) = self.of(shard) {
            of.held.store(held, Ordering::Release);
        }
    }
}

//! Decoded states of recently applied entities, so that a hot entity is not decoded anew for each entry.
//!
//! Two generations instead of a list: what is used moves to the young one; when that is full, the old one is dropped
//! and the young one grows old. So at most `heads_max` are held, and the recently used half always.

use crate::persistence::state_store::AppliedRow;
use crate::types::effect::Effects;
use crate::types::ids::{EntityKey, Version};
use crate::types::kind::Live;
use std::collections::HashMap;

/// An entity as it was last applied.
pub(crate) struct Head {
    pub(crate) version: Version,
    pub(crate) live: Box<dyn Live>,
    /// What `live` wants; `None` of an entity that does not exist yet.
    pub(crate) wants: Option<Effects>,
}

/// What is known of one shard between two calls.
pub(crate) struct ShardHeads {
    /// `None` until read from the store.
    pub(crate) applied: Option<AppliedRow>,
    young: HashMap<EntityKey, Head>,
    old: HashMap<EntityKey, Head>,
    heads_max: usize,
}

impl ShardHeads {
    pub(crate) fn new(heads_max: usize) -> Self {
        Self { applied: None, young: HashMap::new(), old: HashMap::new(), heads_max }
    }

    /// Takes a head out; it is put back after its record.
    pub(crate) fn take(&mut self, key: &EntityKey) -> Option<Head> {
        self.young.remove(key).or_else(|| self.old.remove(key))
    }

    pub(crate) fn put(&mut self, key: EntityKey, head: Head) {
        if self.young.len() >= self.heads_max / 2 {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(key, head);
    }

    /// Forgets everything: the rows were changed by other means, or a call has failed.
    pub(crate) fn clear(&mut self) {
        self.applied = None;
        self.young.clear();
        self.old.clear();
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.young.len() + self.old.len()
    }
}

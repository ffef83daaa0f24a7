//! A leader's proposals: queued as encoded records, joined into entries, awaited until their entry is committed.
//!
//! Records of one entity build on each other. So when raft refuses one entry, everything queued behind it is
//! dropped as well: nothing may get in behind a record that did not.

use crate::replication::entry::{EncodedRecord, EntryBuilder, EntryFormat};
use crate::types::ids::{Claim, EntityKey, Version};
use crate::types::limits::{PROPOSALS_QUEUED_MAX, RECORD_BYTES_MAX};
use crate::types::record::Record;
use std::collections::{BTreeMap, VecDeque};

/// Entities with dropped records that are remembered.
const VOIDED_MAX: usize = 16_384;

struct Queued {
    tag: u64,
    key: EntityKey,
    version_before: Version,
    record: EncodedRecord,
}

/// Queued records joined into one entry.
pub(crate) struct JoinedEntry {
    pub(crate) payload: Vec<u8>,
    pub(crate) tags: Vec<u64>,
    pub(crate) steps: Vec<(EntityKey, Version)>,
}

struct Pending {
    index: u64,
    term: u64,
    tags: Vec<u64>,
}

#[derive(Default)]
pub(crate) struct Proposals {
    /// How records are encoded from now on.
    pub(crate) format: EntryFormat,
    queued: VecDeque<Queued>,
    /// In the log, not committed, in index order.
    pending: VecDeque<Pending>,
    /// Entities of which a record was dropped, and the version it was decided on: whatever builds on a later version
    /// builds on what never was. The entity decides again from this version, and is good again.
    voided: BTreeMap<EntityKey, Version>,
}

impl Proposals {
    /// Queues a record; `false` when it is too large or the queue is full.
    #[must_use]
    pub(crate) fn push(&mut self, tag: u64, record: &Record) -> bool {
        if self.queued.len() >= PROPOSALS_QUEUED_MAX {
            return false;
        }
        let (key, version_before) = (record.key, record.version_before);
        let encoded = self.format.encode_record(record);
        if encoded.len() > RECORD_BYTES_MAX {
            return false;
        }
        self.voided.remove(&key);
        self.queued.push_back(Queued { tag, key, version_before, record: encoded });
        true
    }

    pub(crate) fn queued(&self) -> usize {
        self.queued.len()
    }

    /// Whether a record builds on one that was dropped.
    pub(crate) fn is_void(&self, record: &Record) -> bool {
        self.voided.get(&record.key).is_some_and(|version| record.version_before > *version)
    }

    /// A record was dropped: nothing that builds on it may get in. Beyond the bound only apply's check of versions
    /// is left, which makes such records void.
    pub(crate) fn void(&mut self, key: EntityKey, version_before: Version) {
        if self.voided.len() >= VOIDED_MAX {
            self.voided.clear();
        }
        let version = self.voided.entry(key).or_insert(version_before);
        *version = version_before.min(*version);
    }

    /// Another term: hosting begins anew, and every entity with it.
    pub(crate) fn forget_voided(&mut self) {
        self.voided.clear();
    }

    /// The next entry, from the front of the queue.
    pub(crate) fn next_entry(&mut self, claim: Claim) -> Option<JoinedEntry> {
        let mut builder = EntryBuilder::new(claim);
        let (mut tags, mut steps) = (Vec::new(), Vec::new());
        while self.queued.front().is_some_and(|next| builder.has_room(&next.record)) {
            let next = self.queued.pop_front().expect("the queue has a front");
            builder.push(&next.record);
            tags.push(next.tag);
            steps.push((next.key, next.version_before));
        }
        (!builder.is_empty()).then(|| JoinedEntry { payload: builder.finish(), tags, steps })
    }

    /// The entry is in the log.
    pub(crate) fn accepted(&mut self, index: u64, term: u64, tags: Vec<u64>) {
        assert!(self.pending.back().is_none_or(|back| back.index < index), "a leader only appends");
        self.pending.push_back(Pending { index, term, tags });
    }

    /// An entry is committed: the tags that await it.
    pub(crate) fn committed(&mut self, index: u64, term: u64) -> Vec<u64> {
        if self.pending.front().is_none_or(|front| front.index > index) {
            return Vec::new();
        }
        let front = self.pending.pop_front().expect("the queue has a front");
        assert!(front.index == index && front.term == term, "a leader's own entries commit in order");
        front.tags
    }

    /// Everything queued: never proposed.
    pub(crate) fn drop_queued(&mut self) -> Vec<u64> {
        let queued: Vec<Queued> = self.queued.drain(..).collect();
        queued.iter().for_each(|queued| self.void(queued.key, queued.version_before));
        queued.iter().map(|queued| queued.tag).collect()
    }

    /// Everything in the log and not committed: another leader decides.
    pub(crate) fn drop_pending(&mut self) -> Vec<u64> {
        self.pending.drain(..).flat_map(|pending| pending.tags).collect()
    }
}

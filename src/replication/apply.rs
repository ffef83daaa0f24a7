//! The state machine: committed entries in, one atomic batch out. The same on every replica.
//!
//! A record is applied if its entry's claim is the shard's current one, its entity is at `version_before`, and every
//! unique index row it would take is free; else it is void, everywhere. The batch carries the entities' states, their
//! journal and idempotency rows, the difference of their wake and index rows, and the applied row. Entries at or
//! below the applied index are known already and change nothing, so a replay after a crash is harmless.
//!
//! Data keys are written just before the batch: a key without its entity does no harm, and an erasure that is
//! repeated neither. Bytes that cannot be understood end the process; nothing is guessed.

use crate::persistence::effect_rows::{index_row_key, put_difference};
use crate::persistence::key::journal;
use crate::persistence::key_store::{KeyChange, KeyStore};
use crate::persistence::log_store::FOUNDING_INDEX;
use crate::persistence::state_store::{AppliedRow, StateStore, put_record, put_state};
use crate::persistence::store::{StoreError, WriteBatch};
use crate::replication::entry::{EntryFormat, decode_entry_up_to};
use crate::replication::heads::{Head, ShardHeads};
use crate::types::codec::CodecError;
use crate::types::effect::Effects;
use crate::types::ids::{Claim, EntityKey, LogIndex, ShardId, Term, Version};
use crate::types::kind::{KindTable, Live};
use crate::types::record::{EntryBody, Record, RecordFate, VaultChange, VoidReason};
use crate::types::time::Timestamp;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;

/// Decoded states held for each shard.
const HEADS_MAX: usize = 512;

/// An entry cannot be applied; the process must end.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Damaged, or written by a newer build.
    #[error("entry {index} of shard {shard}: {what}")]
    Corrupt { shard: ShardId, index: LogIndex, what: CorruptEntry },
    /// An entry is missing before this one.
    #[error("entry {index} of shard {shard} follows {applied}")]
    Gap { shard: ShardId, index: LogIndex, applied: LogIndex },
    /// The shard's rows are half replaced by a snapshot.
    #[error("shard {shard} is being installed")]
    Installing { shard: ShardId },
}

/// What was not understood.
#[derive(Debug, thiserror::Error)]
pub enum CorruptEntry {
    #[error("payload: {0}")]
    Payload(CodecError),
    #[error("entity {key:?} is of a kind that this build does not know")]
    UnknownKind { key: EntityKey },
    #[error("stored state of {key:?}: {cause}")]
    State { key: EntityKey, cause: CodecError },
    #[error("events of {key:?}: {cause}")]
    Events { key: EntityKey, cause: CodecError },
}

/// What became of one entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EntryFate {
    pub index: LogIndex,
    pub term: Term,
    /// The claim that this entry made the shard's current one.
    pub claim: Option<Claim>,
    /// One for each record of the entry, in order; empty for an entry that was applied before.
    pub fates: Vec<RecordFate>,
    /// The entities after each record, in the same order.
    pub records: Vec<RecordEffect>,
}

/// An entity after one record, applied or void.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordEffect {
    pub key: EntityKey,
    /// The version it is at.
    pub version: Version,
    /// When it next wants something.
    pub next_due: Option<Timestamp>,
    /// Its encoded state, if asked for and the record was applied.
    pub state: Option<Vec<u8>>,
}

/// What the caller wants back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Return {
    Fates,
    /// Fates, and the encoded state after each applied record.
    States,
}

/// Applies entries; see the file header. Calls for one shard must come one after another, in log order.
pub struct Applier {
    pub kinds: KindTable,
    pub state: Arc<StateStore>,
    pub keys: Arc<KeyStore>,
    shards: Mutex<HashMap<ShardId, Arc<Mutex<ShardHeads>>>>,
    newest: EntryFormat,
}

impl Applier {
    #[must_use]
    pub fn new(kinds: KindTable, state: Arc<StateStore>, keys: Arc<KeyStore>) -> Self {
        Self { kinds, state, keys, shards: Mutex::default(), newest: EntryFormat::NEWEST }
    }

    /// Refuses entries that a build of this format would not understand.
    #[must_use]
    pub fn reading_up_to(mut self, newest: EntryFormat) -> Self {
        self.newest = newest;
        self
    }

    /// Applies committed entries as one batch. A payload is what `entry::encode_entry` made; an empty one (a new
    /// leader's first entry, a configuration change) only moves the applied index. Not durable yet.
    ///
    /// # Errors
    /// [`ApplyError`]; nothing was changed, and the process must end.
    pub fn apply<P: AsRef<[u8]>>(
        &self,
        shard: ShardId,
        entries: &[(LogIndex, Term, P)],
    ) -> Result<Vec<EntryFate>, ApplyError> {
        self.apply_returning(shard, entries, Return::Fates)
    }

    /// As [`Applier::apply`], with what `wanted` asks for.
    ///
    /// # Errors
    /// As [`Applier::apply`].
    pub fn apply_returning<P: AsRef<[u8]>>(
        &self,
        shard: ShardId,
        entries: &[(LogIndex, Term, P)],
        wanted: Return,
    ) -> Result<Vec<EntryFate>, ApplyError> {
        let heads = self.heads(shard);
        let mut heads = heads.lock();
        let result = self.apply_locked(shard, &mut heads, entries, wanted);
        if result.is_err() {
            heads.clear();
        }
        result
    }

    /// How far the shard is applied, from memory once it was read.
    ///
    /// # Errors
    /// [`ApplyError::Installing`], or [`ApplyError::Store`] when the row cannot be read.
    pub fn applied(&self, shard: ShardId) -> Result<AppliedRow, ApplyError> {
        self.applied_locked(shard, &mut self.heads(shard).lock())
    }

    /// Forgets what is cached of a shard: its rows were replaced by a snapshot.
    pub fn forget(&self, shard: ShardId) {
        self.heads(shard).lock().clear();
    }

    fn heads(&self, shard: ShardId) -> Arc<Mutex<ShardHeads>> {
        let new = || Arc::new(Mutex::new(ShardHeads::new(HEADS_MAX)));
        self.shards.lock().entry(shard).or_insert_with(new).clone()
    }

    fn applied_locked(&self, shard: ShardId, heads: &mut ShardHeads) -> Result<AppliedRow, ApplyError> {
        if let Some(applied) = heads.applied {
            return Ok(applied);
        }
        if self.state.installing(shard)? {
            return Err(ApplyError::Installing { shard });
        }
        let applied = self.state.applied(shard)?;
        heads.applied = Some(applied);
        Ok(applied)
    }

    fn apply_locked<P: AsRef<[u8]>>(
        &self,
        shard: ShardId,
        heads: &mut ShardHeads,
        entries: &[(LogIndex, Term, P)],
        wanted: Return,
    ) -> Result<Vec<EntryFate>, ApplyError> {
        let applied = self.applied_locked(shard, heads)?;
        let mut step = Step::new(self, shard, heads, applied, wanted);
        let mut fates = Vec::with_capacity(entries.len());
        for (index, term, payload) in entries {
            fates.push(step.entry(*index, *term, payload.as_ref())?);
        }
        if step.applied != applied {
            step.commit()?;
        }
        Ok(fates)
    }
}

/// An entity that this call has touched.
struct Touched {
    key: EntityKey,
    head: Head,
    /// What it wanted before this call.
    wants_before: Option<Effects>,
    /// Places in `Step::records` of its records.
    records: Vec<usize>,
}

/// One call of `apply`: what its records see of each other, and what it will write.
struct Step<'a> {
    applier: &'a Applier,
    shard: ShardId,
    heads: &'a mut ShardHeads,
    applied: AppliedRow,
    wanted: Return,
    touched: Vec<Touched>,
    places: HashMap<EntityKey, usize>,
    /// Owners of unique index rows as changed by this call; `None` is free.
    owners: HashMap<Vec<u8>, Option<EntityKey>>,
    /// Applied records, in order.
    records: Vec<Record>,
}

impl<'a> Step<'a> {
    fn new(
        applier: &'a Applier,
        shard: ShardId,
        heads: &'a mut ShardHeads,
        applied: AppliedRow,
        wanted: Return,
    ) -> Self {
        Self {
            applier,
            shard,
            heads,
            applied,
            wanted,
            touched: Vec::new(),
            places: HashMap::new(),
            owners: HashMap::new(),
            records: Vec::new(),
        }
    }

    fn entry(&mut self, index: LogIndex, term: Term, payload: &[u8]) -> Result<EntryFate, ApplyError> {
        let mut fate = EntryFate { index, term, claim: None, fates: Vec::new(), records: Vec::new() };
        if index <= self.applied.index {
            return Ok(fate);
        }
        let first_of_founded = self.applied.index == LogIndex(0) && index == FOUNDING_INDEX.next();
        if index != self.applied.index.next() && !first_of_founded {
            return Err(ApplyError::Gap { shard: self.shard, index, applied: self.applied.index });
        }
        self.applied = AppliedRow { index, term, ..self.applied };
        if payload.is_empty() {
            return Ok(fate);
        }
        match decode_entry_up_to(self.applier.newest, payload)
            .map_err(|cause| self.corrupt(CorruptEntry::Payload(cause)))?
        {
            EntryBody::Claim(claim) => {
                self.applied.claim = claim;
                fate.claim = Some(claim);
            }
            EntryBody::Records { claim, records } => {
                for record in records {
                    let (record_fate, effect) = self.record(claim, record)?;
                    fate.fates.push(record_fate);
                    fate.records.push(effect);
                }
            }
        }
        Ok(fate)
    }

    fn record(&mut self, claim: Claim, record: Record) -> Result<(RecordFate, RecordEffect), ApplyError> {
        let key = record.key;
        let place = self.touch(key)?;
        let fate = if claim != self.applied.claim {
            RecordFate::Void(VoidReason::StaleClaim)
        } else if self.touched[place].head.version != record.version_before {
            RecordFate::Void(VoidReason::VersionMoved)
        } else {
            self.evolve(place, record)?
        };
        let head = &self.touched[place].head;
        let state = match (fate, self.wanted) {
            (RecordFate::Applied(_), Return::States) => Some(head.live.encode()),
            (RecordFate::Applied(_), Return::Fates) | (RecordFate::Void(_), _) => None,
        };
        let next_due = head.wants.as_ref().and_then(Effects::next_due);
        Ok((fate, RecordEffect { key, version: head.version, next_due, state }))
    }

    /// The record fits its entity's version: evolves it, unless a unique row is taken.
    fn evolve(&mut self, place: usize, record: Record) -> Result<RecordFate, ApplyError> {
        let touched = &mut self.touched[place];
        let key = touched.key;
        if let Err(cause) = touched.head.live.evolve(&record.events) {
            return Err(self.corrupt(CorruptEntry::Events { key, cause }));
        }
        let after = touched.head.live.wants();
        if !self.take_unique_rows(place, &after)? {
            self.touched[place].head.live = self.rebuild(place)?;
            return Ok(RecordFate::Void(VoidReason::NotUnique));
        }
        let touched = &mut self.touched[place];
        touched.head.version = record.version_after();
        touched.head.wants = Some(after);
        touched.records.push(self.records.len());
        let version = touched.head.version;
        self.records.push(record);
        Ok(RecordFate::Applied(version))
    }

    /// Whether every unique row of `after` is free or the entity's own; if so they are its own from here on.
    fn take_unique_rows(&mut self, place: usize, after: &Effects) -> Result<bool, ApplyError> {
        let key = self.touched[place].key;
        let before = self.touched[place].head.wants.as_ref();
        if before.is_some_and(|before| before.indexes == after.indexes) {
            return Ok(true);
        }
        let rows = |effects: &Effects| -> Vec<Vec<u8>> {
            let unique = effects.indexes.iter().filter(|want| want.unique);
            unique.map(|want| index_row_key(self.shard, key, want)).collect()
        };
        let held = before.map(rows).unwrap_or_default();
        let wanted = rows(after);
        for row in wanted.iter().filter(|row| !held.contains(row)) {
            let owner = match self.owners.get(row) {
                Some(owner) => *owner,
                None => self.applier.state.index_row(row)?,
            };
            if owner.is_some_and(|owner| owner != key) {
                return Ok(false);
            }
        }
        for row in held.into_iter().filter(|row| !wanted.contains(row)) {
            self.owners.insert(row, None);
        }
        for row in wanted {
            self.owners.insert(row, Some(key));
        }
        Ok(true)
    }

    /// The entity's state without the record that was just tried: from its row and this call's records of it.
    fn rebuild(&self, place: usize) -> Result<Box<dyn Live>, ApplyError> {
        let touched = &self.touched[place];
        let key = touched.key;
        let mut live = self.load(key)?.live;
        for record in touched.records.iter().map(|place| &self.records[*place]) {
            let evolved = live.evolve(&record.events);
            evolved.map_err(|cause| self.corrupt(CorruptEntry::Events { key, cause }))?;
        }
        Ok(live)
    }

    /// Place of the entity among the touched ones.
    fn touch(&mut self, key: EntityKey) -> Result<usize, ApplyError> {
        if let Some(place) = self.places.get(&key) {
            return Ok(*place);
        }
        let head = match self.heads.take(&key) {
            Some(head) => head,
            None => self.load(key)?,
        };
        let wants_before = head.wants.clone();
        self.touched.push(Touched { key, head, wants_before, records: Vec::new() });
        self.places.insert(key, self.touched.len() - 1);
        Ok(self.touched.len() - 1)
    }

    fn load(&self, key: EntityKey) -> Result<Head, ApplyError> {
        let kind = self.applier.kinds.get(key.kind);
        let kind = kind.ok_or_else(|| self.corrupt(CorruptEntry::UnknownKind { key }))?;
        let row = self.applier.state.get(self.shard, &key)?;
        let live = kind.load(key, row.as_ref().map(|row| row.state.as_slice()));
        let live = live.map_err(|cause| self.corrupt(CorruptEntry::State { key, cause }))?;
        let wants = row.as_ref().map(|_| live.wants());
        Ok(Head { version: row.map_or(Version(0), |row| row.version), live, wants })
    }

    fn corrupt(&self, what: CorruptEntry) -> ApplyError {
        ApplyError::Corrupt { shard: self.shard, index: self.applied.index, what }
    }

    /// Removes the rows of an entity's journal before one of its records: stored ones, and those of this call.
    fn purge_journal(&self, batch: &mut WriteBatch, place: usize) -> Result<(), ApplyError> {
        let record = &self.records[place];
        let stored = self.applier.state.journal(self.shard, &record.key, Version(0), usize::MAX)?;
        let of_this_call = self.records[..place].iter().filter(|earlier| earlier.key == record.key);
        let versions = stored.iter().map(|row| row.version).chain(of_this_call.map(Record::version_after));
        for version in versions.filter(|version| *version <= record.version_before) {
            batch.remove(journal(self.shard, &record.key, version));
        }
        Ok(())
    }

    /// Writes keys, then everything else as one batch, and gives the heads back.
    fn commit(self) -> Result<(), ApplyError> {
        let key_changes: Vec<KeyChange> = self.records.iter().filter_map(key_change).collect();
        self.applier.keys.apply(&key_changes)?;
        let mut batch = WriteBatch::default();
        for (place, record) in self.records.iter().enumerate() {
            if record.vault == VaultChange::Forget {
                self.purge_journal(&mut batch, place)?;
            }
            put_record(&mut batch, self.shard, record);
        }
        let mut rows = WriteBatch::default();
        for touched in self.touched.iter().filter(|touched| !touched.records.is_empty()) {
            let Touched { key, head, wants_before, .. } = touched;
            put_state(&mut batch, self.shard, key, head.version, &head.live.encode());
            let after = head.wants.as_ref().expect("an entity with a record exists");
            put_difference(&mut rows, self.shard, *key, wants_before.as_ref(), after);
        }
        // Removals first: a row that one entity gave up another may have taken.
        let (removed, put): (Vec<_>, Vec<_>) = rows.operations.into_iter().partition(|(_, value)| value.is_none());
        batch.operations.extend(removed);
        batch.operations.extend(put);
        self.applier.state.commit(self.shard, batch, &self.applied)?;
        self.heads.applied = Some(self.applied);
        for touched in self.touched {
            self.heads.put(touched.key, touched.head);
        }
        Ok(())
    }
}

fn key_change(record: &Record) -> Option<KeyChange> {
    match &record.vault {
        VaultChange::None => None,
        VaultChange::Put(wrapped) => Some(KeyChange::Put(record.key, wrapped.clone())),
        VaultChange::Erase | VaultChange::Forget => Some(KeyChange::Erase(record.key, record.at)),
    }
}

#[cfg(test)]
#[path = "apply_tests.rs"]
mod tests;

//! What applying the log has made: states, journals, idempotency rows, wake rows and index rows of all shards.
//!
//! Every change goes through [`StateStore::commit`], one batch that carries the shard's applied row too; so after any
//! crash the database is the exact result of a prefix of the log. It is made durable late: the log behind it is kept
//! until then.

use crate::persistence::codec::{damaged, frame, frame_parts, open_row, open_value};
use crate::persistence::key::{self, KeyRange, Table, WakeKey};
use crate::persistence::snapshot::Exports;
use crate::persistence::store::{Row, Store, StoreError, WriteBatch};
use crate::types::codec;
use crate::types::effect::{IndexTag, Lane, Slot};
use crate::types::ids::{Claim, CommandId, EntityKey, Fingerprint, IdempotencyId, LogIndex, ShardId, Term, Version};
use crate::types::record::Record;
use crate::types::time::Timestamp;
use std::sync::Arc;

/// Rows of one step of a scan that visits a whole table.
const SCAN_ROWS: usize = 1_024;

/// The committed state of an entity.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StateRow {
    pub version: Version,
    /// The kind's encoding.
    pub state: Vec<u8>,
}

/// One record of an entity's journal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JournalRecord {
    pub version: Version,
    pub at: Timestamp,
    pub command_id: CommandId,
    /// The kind's encoding of one or more events.
    pub events: Vec<u8>,
}

/// What a request led to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IdempotencyRow {
    pub fingerprint: Fingerprint,
    pub key: EntityKey,
    /// The reply is the entity as of this version.
    pub version: Version,
    pub at: Timestamp,
}

/// Something that an entity wants at an instant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WakeRow {
    pub due: Timestamp,
    pub key: EntityKey,
    pub slot: Slot,
    /// The lane of a call; `None` for a timer.
    pub lane: Option<Lane>,
}

impl WakeRow {
    /// Cursor to go on after this row.
    #[must_use]
    pub fn cursor(&self) -> WakeKey {
        WakeKey { due: self.due, key: self.key, slot: self.slot }
    }
}

/// How far a shard's log has been applied.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub struct AppliedRow {
    pub index: LogIndex,
    pub term: Term,
    /// The shard's current claim; the default before the first.
    pub claim: Claim,
}

/// Row counts of one shard.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ShardStats {
    pub states: u64,
    pub journal: u64,
    pub idempotency: u64,
    pub wakes: u64,
    pub indexes: u64,
    /// Keys and values.
    pub bytes: u64,
    /// xxh3 over all rows in key order: equal on replicas of equal applied index.
    pub digest: u64,
}

/// The state database; see the file header.
pub struct StateStore {
    store: Arc<dyn Store>,
    exports: Exports,
}

impl StateStore {
    #[must_use]
    pub fn new(store: Arc<dyn Store>) -> Self {
        Self { store, exports: Exports::default() }
    }

    /// # Errors
    /// [`StoreError`] when the row cannot be read.
    pub fn get(&self, shard: ShardId, entity: &EntityKey) -> Result<Option<StateRow>, StoreError> {
        let row_key = key::state(shard, entity);
        self.store.get(&row_key)?.map(|value| decode_state(&row_key, &value)).transpose()
    }

    /// Records with versions above `after`, in order, at most `limit`.
    ///
    /// # Errors
    /// [`StoreError`] when a row cannot be read.
    pub fn journal(
        &self,
        shard: ShardId,
        entity: &EntityKey,
        after: Version,
        limit: usize,
    ) -> Result<Vec<JournalRecord>, StoreError> {
        let range = key::journal_of(shard, entity).after(key::journal(shard, entity, after));
        self.read(&range, limit)?.iter().map(|(row_key, value)| decode_journal(row_key, value)).collect()
    }

    /// # Errors
    /// [`StoreError`] when the row cannot be read.
    pub fn idempotency(&self, shard: ShardId, id: IdempotencyId) -> Result<Option<IdempotencyRow>, StoreError> {
        let row_key = key::idempotency(shard, id);
        self.store.get(&row_key)?.map(|value| decode_idempotency(&row_key, &value)).transpose()
    }

    /// Wake rows due at or before `until`, in order of due instant, strictly after the cursor, at most `limit`.
    ///
    /// # Errors
    /// [`StoreError`] when a row cannot be read.
    pub fn wake_scan(
        &self,
        shard: ShardId,
        after: Option<WakeKey>,
        until: Timestamp,
        limit: usize,
    ) -> Result<Vec<WakeRow>, StoreError> {
        let mut range = key::wakes_until(shard, until);
        if let Some(after) = after {
            range = range.after(key::wake(shard, &after));
        }
        self.read(&range, limit)?.iter().map(|(row_key, value)| decode_wake(row_key, value)).collect()
    }

    /// The due instant of the first wake row strictly after the cursor.
    ///
    /// # Errors
    /// [`StoreError`] when the row cannot be read.
    pub fn next_due(&self, shard: ShardId, after: Option<WakeKey>) -> Result<Option<Timestamp>, StoreError> {
        let rows = self.wake_scan(shard, after, Timestamp::MAX, 1)?;
        Ok(rows.first().map(|row| row.due))
    }

    /// The entity behind an exact index key.
    ///
    /// # Errors
    /// [`StoreError`] when the row cannot be read.
    pub fn index_get(&self, shard: ShardId, tag: IndexTag, index_key: &[u8]) -> Result<Option<EntityKey>, StoreError> {
        self.index_row(&key::index(shard, tag, index_key))
    }

    pub(crate) fn index_row(&self, row_key: &[u8]) -> Result<Option<EntityKey>, StoreError> {
        self.store.get(row_key)?.map(|value| decode_index(row_key, &value)).transpose()
    }

    /// Index rows whose key starts with `prefix`, in key order, strictly after the index key `after`, at most `limit`.
    ///
    /// # Errors
    /// [`StoreError`] when a row cannot be read.
    pub fn index_scan(
        &self,
        shard: ShardId,
        tag: IndexTag,
        prefix: &[u8],
        after: Option<&[u8]>,
        limit: usize,
    ) -> Result<Vec<(Vec<u8>, EntityKey)>, StoreError> {
        let mut range = key::indexes(shard, tag, prefix);
        if let Some(after) = after {
            range = range.after(key::index(shard, tag, after));
        }
        let decode = |(row_key, value): &Row| {
            let (_, _, index_key) = key::parse_index(row_key).ok_or_else(|| damaged(row_key, "not an index key"))?;
            Ok((index_key.to_vec(), decode_index(row_key, value)?))
        };
        self.read(&range, limit)?.iter().map(decode).collect()
    }

    /// The shard's applied row; the default when nothing was applied yet.
    ///
    /// # Errors
    /// [`StoreError`] when the row cannot be read.
    pub fn applied(&self, shard: ShardId) -> Result<AppliedRow, StoreError> {
        let row_key = key::of_shard(Table::Applied, shard);
        match self.store.get(&row_key)? {
            Some(value) => open_value(&row_key, &value),
            None => Ok(AppliedRow::default()),
        }
    }

    /// The applied rows of all shards that have one, in shard order.
    ///
    /// # Errors
    /// [`StoreError`] when a row cannot be read.
    pub fn applied_all(&self) -> Result<Vec<(ShardId, AppliedRow)>, StoreError> {
        let rows = self.read(&key::table(Table::Applied), usize::MAX)?;
        let decode = |(row_key, value): &Row| {
            let shard = key::parse_shard(row_key).ok_or_else(|| damaged(row_key, "not a key of this table"))?;
            Ok((shard, open_value(row_key, value)?))
        };
        rows.iter().map(decode).collect()
    }

    /// Writes what one or more entries changed, with the applied row, as one batch. Not durable yet.
    ///
    /// # Errors
    /// [`StoreError`]; the process must end.
    pub fn commit(&self, shard: ShardId, mut batch: WriteBatch, applied: &AppliedRow) -> Result<(), StoreError> {
        put_applied(&mut batch, shard, applied);
        self.exports.commit(shard, &*self.store, batch)
    }

    /// Makes everything committed so far durable.
    ///
    /// # Errors
    /// [`StoreError`]; the process must end.
    pub fn sync(&self) -> Result<(), StoreError> {
        self.store.sync()
    }

    /// As [`StateStore::sync`], and says up to where each shard is durable now. The log may be purged up to there
    /// and no further.
    ///
    /// # Errors
    /// [`StoreError`]; the process must end.
    pub fn checkpoint(&self) -> Result<Vec<(ShardId, AppliedRow)>, StoreError> {
        let applied = self.applied_all()?;
        self.store.sync()?;
        Ok(applied)
    }

    /// Counts and digests the shard's rows. Reads all of them.
    ///
    /// # Errors
    /// [`StoreError`] when rows cannot be read.
    pub fn stats(&self, shard: ShardId) -> Result<ShardStats, StoreError> {
        let mut stats = ShardStats::default();
        let mut digest = xxhash_rust::xxh3::Xxh3::new();
        let mut counts = [0u64; Table::SHARD_STATE.len()];
        for (table, count) in Table::SHARD_STATE.into_iter().zip(&mut counts) {
            self.visit(key::shard_rows(table, shard), |row_key, value| {
                *count += 1;
                stats.bytes += (row_key.len() + value.len()) as u64;
                digest.update(row_key);
                digest.update(value);
                Ok::<(), StoreError>(())
            })?;
        }
        [stats.states, stats.journal, stats.idempotency, stats.wakes, stats.indexes] = counts;
        stats.digest = digest.digest();
        Ok(stats)
    }

    /// Calls `each` for the rows of a range in order, until it fails.
    ///
    /// # Errors
    /// What `each` gives, and [`StoreError`] when rows cannot be read.
    pub(crate) fn visit<E: From<StoreError>>(
        &self,
        mut range: KeyRange,
        mut each: impl FnMut(&[u8], &[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        loop {
            let rows = self.read(&range, SCAN_ROWS)?;
            for (row_key, value) in &rows {
                each(row_key, value)?;
            }
            match rows.into_iter().last() {
                Some((row_key, _)) => range = range.after(row_key),
                None => return Ok(()),
            }
        }
    }

    pub(crate) fn read(&self, range: &KeyRange, limit: usize) -> Result<Vec<Row>, StoreError> {
        if range.from >= range.to {
            return Ok(Vec::new());
        }
        let (from, to) = range.bounds();
        self.store.scan(from, to, limit)
    }

    pub(crate) fn store(&self) -> &dyn Store {
        &*self.store
    }

    pub(crate) fn exports(&self) -> &Exports {
        &self.exports
    }
}

/// Stages the applied row of a shard.
pub(crate) fn put_applied(batch: &mut WriteBatch, shard: ShardId, applied: &AppliedRow) {
    let row_key = key::of_shard(Table::Applied, shard);
    let value = frame(&row_key, &codec::encode(applied));
    batch.put(row_key, value);
}

/// Stages the state row of an entity.
pub fn put_state(batch: &mut WriteBatch, shard: ShardId, entity: &EntityKey, version: Version, state: &[u8]) {
    let row_key = key::state(shard, entity);
    let value = frame_parts(&row_key, &[&version.0.to_be_bytes(), state]);
    batch.put(row_key, value);
}

/// Stages the journal row of a record, and its idempotency row when it has one.
pub fn put_record(batch: &mut WriteBatch, shard: ShardId, record: &Record) {
    let version = record.version_after();
    let row_key = key::journal(shard, &record.key, version);
    let parts: [&[u8]; 3] = [&record.at.0.to_be_bytes(), &record.command_id.0, &record.events];
    let value = frame_parts(&row_key, &parts);
    batch.put(row_key, value);
    if let Some(mark) = &record.idempotency {
        let row_key = key::idempotency(shard, mark.id);
        let entity = record.key.to_bytes();
        let parts: [&[u8]; 4] = [&mark.fingerprint.0, &entity, &version.0.to_be_bytes(), &record.at.0.to_be_bytes()];
        let value = frame_parts(&row_key, &parts);
        batch.put(row_key, value);
    }
}

/// Takes fixed-size fields off the front of a row's body.
struct Fields<'a> {
    row_key: &'a [u8],
    rest: &'a [u8],
}

impl<'a> Fields<'a> {
    fn open(row_key: &'a [u8], value: &'a [u8]) -> Result<Self, StoreError> {
        Ok(Self { row_key, rest: open_row(row_key, value)? })
    }
    fn take<const N: usize>(&mut self) -> Result<[u8; N], StoreError> {
        let (head, rest) = self.rest.split_first_chunk::<N>().ok_or_else(|| damaged(self.row_key, "short row"))?;
        self.rest = rest;
        Ok(*head)
    }
    fn version(&mut self) -> Result<Version, StoreError> {
        Ok(Version(u64::from_be_bytes(self.take()?)))
    }
    fn timestamp(&mut self) -> Result<Timestamp, StoreError> {
        Ok(Timestamp(i64::from_be_bytes(self.take()?)))
    }
    fn entity(&mut self) -> Result<EntityKey, StoreError> {
        let bytes: [u8; EntityKey::LEN] = self.take()?;
        Ok(EntityKey::from_bytes(&bytes).expect("the length is fixed"))
    }
    fn end(self) -> Result<(), StoreError> {
        if self.rest.is_empty() { Ok(()) } else { Err(damaged(self.row_key, "long row")) }
    }
}

pub(crate) fn decode_state(row_key: &[u8], value: &[u8]) -> Result<StateRow, StoreError> {
    let mut fields = Fields::open(row_key, value)?;
    Ok(StateRow { version: fields.version()?, state: fields.rest.to_vec() })
}

pub(crate) fn decode_journal(row_key: &[u8], value: &[u8]) -> Result<JournalRecord, StoreError> {
    let (_, _, version) = key::parse_journal(row_key).ok_or_else(|| damaged(row_key, "not a journal key"))?;
    let mut fields = Fields::open(row_key, value)?;
    let (at, command_id) = (fields.timestamp()?, CommandId(fields.take()?));
    Ok(JournalRecord { version, at, command_id, events: fields.rest.to_vec() })
}

pub(crate) fn decode_idempotency(row_key: &[u8], value: &[u8]) -> Result<IdempotencyRow, StoreError> {
    let mut fields = Fields::open(row_key, value)?;
    let row = IdempotencyRow {
        fingerprint: Fingerprint(fields.take()?),
        key: fields.entity()?,
        version: fields.version()?,
        at: fields.timestamp()?,
    };
    fields.end()?;
    Ok(row)
}

pub(crate) fn decode_wake(row_key: &[u8], value: &[u8]) -> Result<WakeRow, StoreError> {
    let (_, wake) = key::parse_wake(row_key).ok_or_else(|| damaged(row_key, "not a wake key"))?;
    let body = open_row(row_key, value)?;
    let lane = if body.is_empty() { None } else { Some(codec::decode(body).map_err(|cause| damaged(row_key, cause))?) };
    Ok(WakeRow { due: wake.due, key: wake.key, slot: wake.slot, lane })
}

pub(crate) fn decode_index(row_key: &[u8], value: &[u8]) -> Result<EntityKey, StoreError> {
    let mut fields = Fields::open(row_key, value)?;
    let entity = fields.entity()?;
    fields.end()?;
    Ok(entity)
}

#[cfg(test)]
#[path = "state_store_tests.rs"]
mod tests;

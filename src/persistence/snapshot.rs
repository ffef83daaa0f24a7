//! Chunked snapshots of one shard's state, consistent as of one applied index although entries go on being applied.
//!
//! An export freezes the shard at the index at which it began: before a later batch overwrites a row that was not
//! copied yet, the row's old value is kept beside it. What is kept is bounded; beyond that the export ends with
//! [`SnapshotError::Lost`] and begins again. Because all rows, the derived ones too, come from the same index, a
//! replica continues from it as if it had applied everything itself.
//!
//! A shard can have two exports at a time, one for each [`Reader`], which know nothing of each other. An installation
//! replaces the rows behind an export's back, so it ends them all.

use crate::persistence::codec::open_row;
use crate::persistence::key::{self, KeyRange, Table};
use crate::persistence::state_store::{AppliedRow, StateStore};
use crate::persistence::store::{Row, Store, StoreError, WriteBatch};
use crate::types::codec;
use crate::types::ids::ShardId;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// Old values that an export may hold back.
const UNDO_BYTES_MAX: usize = 64 << 20;
/// Rows read at a time for a chunk: about as many as it still takes.
const CHUNK_SCAN_ROWS_MIN: usize = 16;
const CHUNK_SCAN_ROWS_MAX: usize = 256;
/// A row of usual size.
const ROW_BYTES: usize = 256;

/// One piece of a snapshot, in order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotChunk {
    /// The index that the whole snapshot shows.
    pub applied: AppliedRow,
    /// Position of this chunk from 0.
    pub number: u32,
    #[serde(with = "codec::rows")]
    pub rows: Vec<Row>,
    /// Pass it to `export` for the next chunk; `None` in the last.
    pub next: Option<Vec<u8>>,
}

/// Why a snapshot cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The export was ended by another one, by a restart, or had held back too much: begin again with no cursor.
    #[error("snapshot export is lost, begin again")]
    Lost,
    /// Not the chunk that follows: begin again with the first.
    #[error("snapshot chunk {got} came when {expected} was due")]
    OutOfOrder { got: u32, expected: u32 },
}

/// Who an export is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reader {
    /// Another replica of the shard, or the backup of a folder that nobody else has open.
    Replica,
    /// A backup of the whole cluster. A node has one such export at a time, so that one that was abandoned holds
    /// nothing back once the next begins.
    Backup,
}

/// The exports of one shard.
#[derive(Default)]
struct Exporting {
    replica: Option<Export>,
    backup: Option<Export>,
}

impl Exporting {
    fn of(&mut self, reader: Reader) -> &mut Option<Export> {
        match reader {
            Reader::Replica => &mut self.replica,
            Reader::Backup => &mut self.backup,
        }
    }
}

/// An export under way.
struct Export {
    applied: AppliedRow,
    /// Everything up to this key has been copied.
    cursor: Vec<u8>,
    number: u32,
    /// Old values of rows beyond the cursor that were changed since; `None` for rows that did not exist.
    undo: BTreeMap<Vec<u8>, Option<Vec<u8>>>,
    undo_bytes: usize,
}

/// The exports of all shards.
#[derive(Default)]
pub(crate) struct Exports {
    shards: Mutex<HashMap<ShardId, Arc<Mutex<Exporting>>>>,
    /// The shard that is being backed up, or was last.
    backed_up: Mutex<Option<ShardId>>,
}

impl Exports {
    fn of(&self, shard: ShardId) -> Arc<Mutex<Exporting>> {
        self.shards.lock().entry(shard).or_default().clone()
    }

    fn end(&self, shard: ShardId, reader: Reader) {
        *self.of(shard).lock().of(reader) = None;
    }

    /// The shard's rows are about to be replaced or removed.
    pub(crate) fn end_all(&self, shard: ShardId) {
        *self.of(shard).lock() = Exporting::default();
    }

    /// A backup begins with a shard: what an earlier one left behind ends.
    fn back_up(&self, shard: ShardId) {
        let before = self.backed_up.lock().replace(shard);
        if let Some(other) = before.filter(|other| *other != shard) {
            self.end(other, Reader::Backup);
        }
    }

    /// Applies a batch of a shard, keeping the old values that an export has yet to copy.
    pub(crate) fn commit(&self, shard: ShardId, store: &dyn Store, batch: WriteBatch) -> Result<(), StoreError> {
        // The lock is taken without an export too: one that begins sees all of a batch or nothing of it.
        let slot = self.of(shard);
        let mut slot = slot.lock();
        for reader in [Reader::Replica, Reader::Backup] {
            let Some(export) = slot.of(reader) else { continue };
            export.hold_back(shard, store, &batch)?;
            if export.undo_bytes > UNDO_BYTES_MAX {
                tracing::warn!(%shard, ?reader, "snapshot export held back too much and is given up");
                *slot.of(reader) = None;
            }
        }
        store.apply(batch)
    }
}

impl Export {
    fn hold_back(&mut self, shard: ShardId, store: &dyn Store, batch: &WriteBatch) -> Result<(), StoreError> {
        let copied = exported_rows(shard);
        for (row_key, _) in &batch.operations {
            let open = *row_key > self.cursor && copied.iter().any(|range| range.contains(row_key));
            if open && !self.undo.contains_key(row_key) {
                let before = store.get(row_key)?;
                self.undo_bytes += row_key.len() + before.as_ref().map_or(0, Vec::len) + 64;
                self.undo.insert(row_key.clone(), before);
            }
        }
        Ok(())
    }

    /// The next rows as of the frozen index, and whether there are more.
    fn copy(&mut self, shard: ShardId, store: &dyn Store, max_bytes: usize) -> Result<(Vec<Row>, bool), StoreError> {
        let mut rows = Vec::new();
        let mut bytes = 0;
        for range in exported_rows(shard) {
            let mut range = range.after(self.cursor.clone());
            while range.from < range.to {
                let (from, to) = range.bounds();
                let room = max_bytes.saturating_sub(bytes) / ROW_BYTES;
                let limit = room.clamp(CHUNK_SCAN_ROWS_MIN, CHUNK_SCAN_ROWS_MAX);
                let found = store.scan(from, to, limit)?;
                let seen = if found.len() < limit { range.to.clone() } else { found[found.len() - 1].0.clone() };
                let end = KeyRange { from: range.from.clone(), to: range.to.clone() };
                for (row_key, value) in self.as_of(found, &end, &seen) {
                    // Damage stays where it is: a replica that took it over would make it the majority's.
                    open_row(&row_key, &value)?;
                    bytes += row_key.len() + value.len();
                    self.cursor.clone_from(&row_key);
                    rows.push((row_key, value));
                    if bytes >= max_bytes {
                        return Ok((rows, true));
                    }
                }
                self.cursor.clone_from(&seen);
                self.undo.retain(|row_key, _| *row_key > seen);
                range = range.after(seen);
            }
        }
        Ok((rows, false))
    }

    /// The found rows of a range up to `seen`, with what was changed since taken back.
    fn as_of(&self, found: Vec<Row>, range: &KeyRange, seen: &[u8]) -> BTreeMap<Vec<u8>, Vec<u8>> {
        let mut rows: BTreeMap<Vec<u8>, Vec<u8>> = found.into_iter().collect();
        for (row_key, before) in self.undo.range(range.from.clone()..range.to.clone()) {
            match before {
                Some(value) if row_key.as_slice() <= seen => rows.insert(row_key.clone(), value.clone()),
                Some(_) => None,
                None => rows.remove(row_key),
            };
        }
        rows
    }
}

pub(crate) fn exported_rows(shard: ShardId) -> [KeyRange; 5] {
    Table::SHARD_STATE.map(|table| key::shard_rows(table, shard))
}

impl StateStore {
    /// One chunk of about `max_bytes` of a shard's rows. Without a cursor a new snapshot begins, as of now, and any
    /// other one of this shard ends.
    ///
    /// # Errors
    /// [`SnapshotError::Lost`] when the cursor is not of the export under way; [`SnapshotError::Store`] when rows cannot be read
    /// or fail their check.
    pub fn export(
        &self,
        shard: ShardId,
        cursor: Option<Vec<u8>>,
        max_bytes: usize,
    ) -> Result<SnapshotChunk, SnapshotError> {
        self.export_for(Reader::Replica, shard, cursor, max_bytes)
    }

    /// As [`StateStore::export`], beside the other reader's. A backup of a shard that is being installed is lost.
    ///
    /// # Errors
    /// As [`StateStore::export`].
    pub fn export_for(
        &self,
        reader: Reader,
        shard: ShardId,
        cursor: Option<Vec<u8>>,
        max_bytes: usize,
    ) -> Result<SnapshotChunk, SnapshotError> {
        if reader == Reader::Backup && cursor.is_none() {
            self.exports().back_up(shard);
        }
        let exporting = self.exports().of(shard);
        let mut exporting = exporting.lock();
        let slot = exporting.of(reader);
        if cursor.is_none() {
            // Seen under the lock: an installation marks itself first and ends the exports then.
            if reader == Reader::Backup && self.installing(shard)? {
                return Err(SnapshotError::Lost);
            }
            let applied = self.applied(shard)?;
            let begin = key::of_shard(Table::State, shard);
            *slot = Some(Export { applied, cursor: begin, number: 0, undo: BTreeMap::new(), undo_bytes: 0 });
        }
        let export = slot.as_mut().ok_or(SnapshotError::Lost)?;
        if cursor.is_some_and(|cursor| cursor != export.cursor) {
            return Err(SnapshotError::Lost);
        }
        let (applied, number) = (export.applied, export.number);
        let (rows, more) = export.copy(shard, self.store(), max_bytes)?;
        export.number += 1;
        let next = more.then(|| export.cursor.clone());
        if next.is_none() {
            *slot = None;
        }
        Ok(SnapshotChunk { applied, number, rows, next })
    }

    /// Ends the shard's export for a replica, if there is one.
    pub fn end_export(&self, shard: ShardId) {
        self.exports().end(shard, Reader::Replica);
    }
}

#[cfg(test)]
#[path = "snapshot_tests.rs"]
mod tests;

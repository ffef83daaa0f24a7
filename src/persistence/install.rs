//! The receiving end of a snapshot: chunks are staged beside the shard's rows, then become them.
//!
//! | stage      | on disk                                        | after a crash                          |
//! |------------|------------------------------------------------|----------------------------------------|
//! | `Staging`  | old rows whole, some chunks                    | old rows serve; staging goes on or is dropped |
//! | `Keyed`    | old rows whole, all chunks and their keys      | installed if the log says so, or dropped |
//! | `Sealed`   | the same of a build before; keys in their tree | as `Keyed`                             |
//! | `Wiping`   | old rows going                                 | [`StateStore::install_staged`] goes on |
//! | `Moving`   | staged rows moving to their place              | [`StateStore::install_staged`] goes on |

use crate::persistence::codec::{damaged, frame_value, open_value};
use crate::persistence::key::{self, KeyRange, Table};
use crate::persistence::snapshot::{SnapshotChunk, SnapshotError, exported_rows};
use crate::persistence::staged_keys;
use crate::persistence::state_store::{AppliedRow, StateStore, put_applied};
use crate::persistence::store::{StoreError, WriteBatch};
use crate::types::ids::{EntityKey, ShardId};
use crate::types::record::WrappedKey;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// Keys moved or removed by one batch.
const MOVE_KEYS: usize = 256;

/// How far a snapshot has come on this replica. Variants are persisted: append only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum StagePhase {
    /// Chunks below `next` are here.
    Staging {
        next: u32,
    },
    Sealed,
    Wiping,
    Moving,
    /// The replica has left this node: rows and log are going (`leaving`).
    Leaving,
    /// All chunks are here, the data keys of their entities beside them.
    Keyed,
}

impl StagePhase {
    /// All chunks are here, and nothing of them is installed.
    #[must_use]
    pub fn is_whole(self) -> bool {
        matches!(self, Self::Sealed | Self::Keyed)
    }
    /// Whether data keys wait beside the rows.
    #[must_use]
    pub fn brings_keys(self) -> bool {
        self == Self::Keyed
    }
}

/// What is staged for a shard.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stage {
    pub phase: StagePhase,
    /// The index that the snapshot shows.
    pub applied: AppliedRow,
    /// What the host gave with the last chunk.
    pub seal: Vec<u8>,
}

impl StateStore {
    /// What is staged for a shard, if anything.
    ///
    /// # Errors
    /// [`StoreError`] when the row cannot be read.
    pub fn staged(&self, shard: ShardId) -> Result<Option<Stage>, StoreError> {
        let row_key = key::of_shard(Table::Stage, shard);
        self.store().get(&row_key)?.map(|value| open_value(&row_key, &value)).transpose()
    }

    /// Whether the shard's rows are half replaced: nothing may be read, [`StateStore::install_staged`] must go on.
    ///
    /// # Errors
    /// [`StoreError`] when the row cannot be read.
    pub fn installing(&self, shard: ShardId) -> Result<bool, StoreError> {
        Ok(match self.staged(shard)?.map(|stage| stage.phase) {
            Some(StagePhase::Wiping | StagePhase::Moving | StagePhase::Leaving) => true,
            Some(StagePhase::Staging { .. } | StagePhase::Sealed | StagePhase::Keyed) | None => false,
        })
    }

    /// Puts the next chunk aside, and the data keys of its entities; chunk 0 replaces whatever was staged. With the last one
    /// comes the host's seal. Not durable until `sync`.
    ///
    /// # Errors
    /// [`SnapshotError::OutOfOrder`] for any but the next chunk; [`SnapshotError::Store`] when rows cannot be written
    /// or are not this shard's.
    pub fn stage(
        &self,
        shard: ShardId,
        chunk: SnapshotChunk,
        keys: &[(EntityKey, WrappedKey)],
        seal: Vec<u8>,
    ) -> Result<(), SnapshotError> {
        if chunk.number == 0 {
            self.stage_drop(shard)?;
        }
        let expected = self.expected(shard, &chunk)?;
        let (mut batch, ranges) = (WriteBatch::default(), exported_rows(shard));
        let entities: BTreeSet<EntityKey> =
            chunk.rows.iter().filter_map(|(row_key, _)| key::parse_state(row_key)).map(|(_, entity)| entity).collect();
        for (row_key, value) in chunk.rows {
            if !ranges.iter().any(|range| range.contains(&row_key)) {
                return Err(damaged(&row_key, format!("not a row of shard {shard}, but in its snapshot")).into());
            }
            batch.put(key::staged(shard, &row_key), value);
        }
        for (entity, wrapped) in keys {
            if !entities.contains(entity) {
                return Err(damaged(&key::wrapped_key(entity), "a data key without its entity in a snapshot").into());
            }
            staged_keys::put(&mut batch, shard, entity, wrapped);
        }
        let last = chunk.next.is_none();
        let phase = if last { StagePhase::Keyed } else { StagePhase::Staging { next: expected + 1 } };
        put_stage(&mut batch, shard, &Stage { phase, applied: chunk.applied, seal });
        Ok(self.store().apply(batch)?)
    }

    /// The number of the chunk, if it is the next one.
    ///
    /// # Errors
    /// [`SnapshotError::OutOfOrder`] for any other; [`SnapshotError::Store`] when the row cannot be read.
    fn expected(&self, shard: ShardId, chunk: &SnapshotChunk) -> Result<u32, SnapshotError> {
        let expected = match self.staged(shard)? {
            Some(Stage { phase: StagePhase::Staging { next }, applied, .. }) if applied == chunk.applied => next,
            Some(_) | None => 0,
        };
        if chunk.number == expected {
            return Ok(expected);
        }
        Err(SnapshotError::OutOfOrder { got: chunk.number, expected })
    }

    /// Throws away what is staged, unless it is being installed.
    ///
    /// # Errors
    /// [`StoreError`] when rows cannot be removed.
    pub fn stage_drop(&self, shard: ShardId) -> Result<(), StoreError> {
        if self.installing(shard)? {
            return Err(StoreError::Corrupt { what: format!("shard {shard} is half installed and must be finished") });
        }
        let mut batch = WriteBatch::default();
        batch.remove(key::of_shard(Table::Stage, shard));
        self.store().apply(batch)?;
        self.remove_all(&key::shard_rows(Table::StagedKey, shard))?;
        self.remove_all(&key::shard_rows(Table::Staged, shard))
    }

    /// Makes the staged rows the shard's state, without their keys (see `staged_keys`); goes on where a crash cut it off.
    /// Durable when it returns.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] when no whole snapshot is staged; others when rows cannot be moved.
    pub fn install_staged(&self, shard: ShardId) -> Result<AppliedRow, StoreError> {
        let mut stage = self.staged(shard)?.ok_or_else(|| nothing_staged(shard))?;
        loop {
            match stage.phase {
                StagePhase::Staging { .. } | StagePhase::Leaving => return Err(nothing_staged(shard)),
                StagePhase::Sealed | StagePhase::Keyed => stage.phase = StagePhase::Wiping,
                StagePhase::Wiping => {
                    self.exports().end_all(shard);
                    for range in exported_rows(shard) {
                        self.remove_all(&range)?;
                    }
                    self.remove_all(&key::shard_rows(Table::StagedKey, shard))?;
                    stage.phase = StagePhase::Moving;
                }
                StagePhase::Moving => {
                    self.move_staged(shard)?;
                    let mut batch = WriteBatch::default();
                    batch.remove(key::of_shard(Table::Stage, shard));
                    put_applied(&mut batch, shard, &stage.applied);
                    self.store().apply(batch)?;
                    self.store().sync()?;
                    return Ok(stage.applied);
                }
            }
            let mut batch = WriteBatch::default();
            put_stage(&mut batch, shard, &stage);
            batch.remove(key::of_shard(Table::Applied, shard));
            self.store().apply(batch)?;
        }
    }

    /// Stages a chunk and, when it is the last, installs the snapshot. True once it is installed.
    ///
    /// # Errors
    /// As [`StateStore::stage`] and [`StateStore::install_staged`].
    pub fn install(&self, shard: ShardId, chunk: SnapshotChunk) -> Result<bool, SnapshotError> {
        let last = chunk.next.is_none();
        self.stage(shard, chunk, &[], Vec::new())?;
        if last {
            self.install_staged(shard)?;
        }
        Ok(last)
    }

    pub(crate) fn remove_all(&self, range: &KeyRange) -> Result<(), StoreError> {
        loop {
            let rows = self.read(range, MOVE_KEYS)?;
            if rows.is_empty() {
                return Ok(());
            }
            let operations = rows.into_iter().map(|(row_key, _)| (row_key, None)).collect();
            self.store().apply(WriteBatch { operations })?;
        }
    }

    fn move_staged(&self, shard: ShardId) -> Result<(), StoreError> {
        let range = key::shard_rows(Table::Staged, shard);
        loop {
            let rows = self.read(&range, MOVE_KEYS)?;
            if rows.is_empty() {
                return Ok(());
            }
            let mut batch = WriteBatch::default();
            for (staged_key, value) in rows {
                let row_key = key::parse_staged(&staged_key).expect("the range holds staged rows only").to_vec();
                batch.put(row_key, value);
                batch.remove(staged_key);
            }
            self.store().apply(batch)?;
        }
    }
}

pub(crate) fn put_stage(batch: &mut WriteBatch, shard: ShardId, stage: &Stage) {
    let row_key = key::of_shard(Table::Stage, shard);
    let value = frame_value(&row_key, stage);
    batch.put(row_key, value);
}

fn nothing_staged(shard: ShardId) -> StoreError {
    StoreError::Corrupt { what: format!("no whole snapshot is staged for shard {shard}") }
}

//! A replica that has left this node: its rows, its log and its data keys go, in an order that a crash may cut anywhere.
//!
//! A mark is made durable first; while it stands the shard is neither checked nor opened, and whoever finds it goes on.

use crate::persistence::folder::Folder;
use crate::persistence::install::{Stage, StagePhase, put_stage};
use crate::persistence::key::{self, Table};
use crate::persistence::log::HardState;
use crate::persistence::log_store::LogWrite;
use crate::persistence::snapshot::exported_rows;
use crate::persistence::staged_keys;
use crate::persistence::state_store::AppliedRow;
use crate::persistence::store::{StoreError, WriteBatch};
use crate::types::ids::{LogIndex, ShardId};

impl Folder {
    /// Forgets a shard for good. Nothing of it may be running. Durable when it returns.
    ///
    /// # Errors
    /// [`StoreError`]; the process must end, the next one goes on.
    pub fn leave(&self, shard: ShardId) -> Result<(), StoreError> {
        let state = &self.state;
        let mut batch = WriteBatch::default();
        put_stage(
            &mut batch,
            shard,
            &Stage { phase: StagePhase::Leaving, applied: AppliedRow::default(), seal: Vec::new() },
        );
        batch.remove(key::of_shard(Table::Applied, shard));
        state.store().apply(batch)?;
        state.sync()?;
        state.exports().end_all(shard);
        staged_keys::forget_all(state, &self.keys, shard)?;
        for range in exported_rows(shard) {
            state.remove_all(&range)?;
        }
        state.remove_all(&key::shard_rows(Table::StagedKey, shard))?;
        state.remove_all(&key::shard_rows(Table::Staged, shard))?;
        state.sync()?;
        self.log.write(&[LogWrite::Forget { shard }])?;
        self.log.sync()?;
        let mut batch = WriteBatch::default();
        batch.remove(key::of_shard(Table::Stage, shard));
        state.store().apply(batch)?;
        state.sync()
    }

    /// Whether anything of the shard lies here, be it a leave that a crash cut off.
    ///
    /// # Errors
    /// [`StoreError`] when a row cannot be read.
    pub fn has_traces(&self, shard: ShardId) -> Result<bool, StoreError> {
        let log = || -> Result<bool, StoreError> {
            Ok(self.log.span(shard).last.0 > LogIndex(0)
                || self.log.hard_state(shard)? != HardState::default()
                || self.log.membership(shard)?.is_some())
        };
        Ok(self.state.staged(shard)?.is_some() || self.state.applied(shard)? != AppliedRow::default() || log()?)
    }

    /// Goes on where a crash cut [`Folder::leave`] off; does nothing else.
    ///
    /// # Errors
    /// As [`Folder::leave`].
    pub fn finish_leaving(&self, shard: ShardId) -> Result<(), StoreError> {
        match self.state.staged(shard)?.map(|stage| stage.phase) {
            Some(StagePhase::Leaving) => self.leave(shard),
            Some(
                StagePhase::Staging { .. }
                | StagePhase::Sealed
                | StagePhase::Keyed
                | StagePhase::Wiping
                | StagePhase::Moving,
            )
            | None => Ok(()),
        }
    }
}

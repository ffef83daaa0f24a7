//! A replica that has left this node: its rows, its log and its data keys go, in an order that a crash may cut anywhere.
//!
//! A mark is made durable first; while it stands the shard is neither checked nor opened, and whoever finds it goes on.

use crate::persistence::folder::Folder;
use crate::persistence::install::{Stage, StagePhase, put_stage};
use crate::persistence::key::{self, Table};
use crate::persistence::log_store::LogWrite;
use crate::persistence::snapshot::exported_rows;
use crate::persistence::state_store::AppliedRow;
use crate::persistence::store::{StoreError, WriteBatch};
use crate::types::ids::{EntityKey, ShardId};

/// Entities whose keys are erased at a time.
const KEYS_AT_ONCE: usize = 256;

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
        self.forget_keys(shard)?;
        for range in exported_rows(shard) {
            state.remove_all(&range)?;
        }
        state.remove_all(&key::shard_rows(Table::Staged, shard))?;
        state.sync()?;
        self.log.write(&[LogWrite::Forget { shard }])?;
        self.log.sync()?;
        let mut batch = WriteBatch::default();
        batch.remove(key::of_shard(Table::Stage, shard));
        state.store().apply(batch)?;
        state.sync()
    }

    /// Goes on where a crash cut [`Folder::leave`] off; does nothing else.
    ///
    /// # Errors
    /// As [`Folder::leave`].
    pub fn finish_leaving(&self, shard: ShardId) -> Result<(), StoreError> {
        match self.state.staged(shard)?.map(|stage| stage.phase) {
            Some(StagePhase::Leaving) => self.leave(shard),
            Some(StagePhase::Staging { .. } | StagePhase::Sealed | StagePhase::Wiping | StagePhase::Moving) | None => {
                Ok(())
            }
        }
    }

    /// Keys of the shard's entities, while its rows still say which those are.
    fn forget_keys(&self, shard: ShardId) -> Result<(), StoreError> {
        let mut range = key::shard_rows(Table::State, shard);
        loop {
            let rows = self.state.read(&range, KEYS_AT_ONCE)?;
            let Some((last, _)) = rows.last() else { return self.keys.sync() };
            let entities: Vec<EntityKey> =
                rows.iter().filter_map(|(row_key, _)| key::parse_state(row_key)).map(|(_, entity)| entity).collect();
            self.keys.forget(&entities)?;
            range = range.after(last.clone());
        }
    }
}

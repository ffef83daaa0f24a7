//! One shard's view of the log, for its Raft core.

use crate::persistence::log::{LogEntry, LogReader};
use crate::persistence::log_store::LogStore;
use crate::persistence::store::StoreError;
use crate::types::ids::{LogIndex, ShardId, Term};
use std::sync::Arc;

/// Reads one shard of a shared log.
pub(super) struct ShardReader {
    pub(super) log: Arc<LogStore>,
    pub(super) shard: ShardId,
}

impl LogReader for ShardReader {
    fn entries(&self, from: LogIndex, to: LogIndex, bytes_max: u64) -> Result<Vec<LogEntry>, StoreError> {
        self.log.entries(self.shard, from, to, usize::try_from(bytes_max).unwrap_or(usize::MAX))
    }
    fn term(&self, index: LogIndex) -> Result<Option<Term>, StoreError> {
        self.log.term(self.shard, index)
    }
}

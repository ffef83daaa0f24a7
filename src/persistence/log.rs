//! The Raft log of all shards of a node.

use crate::types::ids::{LogIndex, ShardId, Term};

/// One entry as it is stored. `context` is raft's entry type and change context, opaque here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogEntry {
    pub index: LogIndex,
    pub term: Term,
    /// raft-rs `EntryType` as i32: 0 normal, 1 and 2 configuration changes.
    pub entry_type: i32,
    pub payload: Vec<u8>,
}

/// What Raft must not forget besides its entries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HardState {
    pub term: Term,
    /// Peer voted for in `term`; 0 is none.
    pub vote: u64,
    pub commit: LogIndex,
}

/// One append of one shard. Entries at and beyond the first index replace what was there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogAppend {
    pub shard: ShardId,
    /// Counts the appends of this shard's core; answered by `Persisted { number }`.
    pub number: u64,
    pub entries: Vec<LogEntry>,
    pub hard_state: Option<HardState>,
}

//! The Raft log of all shards of a node.

use crate::persistence::store::StoreError;
use crate::types::ids::{LogIndex, ShardId, Term};
use serde::{Deserialize, Serialize};

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

/// The members of one shard's group by peer id, as committed up to `index`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Membership {
    /// Configuration changes at or below this index are contained.
    pub index: LogIndex,
    pub voters: Vec<u64>,
    pub learners: Vec<u64>,
    /// Not empty while a joint change is under way: the voters that are left behind.
    pub voters_outgoing: Vec<u64>,
    pub learners_next: Vec<u64>,
    pub auto_leave: bool,
}

/// Where a log begins: everything up to `index` is in the state machine only.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogStart {
    pub index: LogIndex,
    pub term: Term,
}

/// One append of one shard, written as one atomic batch: first `start`, then the rest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogAppend {
    pub shard: ShardId,
    /// Counts the appends of this shard's core; answered by `Persisted { number }`.
    pub number: u64,
    /// Entries at and beyond the first index replace what was there.
    pub entries: Vec<LogEntry>,
    pub hard_state: Option<HardState>,
    /// Replaces the stored membership.
    pub membership: Option<Membership>,
    /// Drops every entry that the shard's log holds and lets it begin here (founding, installed snapshot).
    pub start: Option<LogStart>,
}

/// The log of one shard as read at start; all defaults when the shard has none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LoadedLog {
    pub hard_state: HardState,
    pub membership: Membership,
    pub start: LogStart,
    /// Contiguous from `start.index + 1`, or any tail of it when the rest can be had from a [`LogReader`].
    pub entries: Vec<LogEntry>,
}

/// Reads entries that a shard core no longer caches. Whatever was answered by `Persisted` must be found.
pub trait LogReader: Send {
    /// Entries `from..to` in order, cut after the entry that reaches `bytes_max` of payload, never empty for a
    /// non-empty range that the log holds.
    ///
    /// # Errors
    /// [`StoreError`]; the caller ends the process.
    fn entries(&self, from: LogIndex, to: LogIndex, bytes_max: u64) -> Result<Vec<LogEntry>, StoreError>;
    /// Term of one entry; `None` when the log does not hold it.
    ///
    /// # Errors
    /// [`StoreError`]; the caller ends the process.
    fn term(&self, index: LogIndex) -> Result<Option<Term>, StoreError>;
}

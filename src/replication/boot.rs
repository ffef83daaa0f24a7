//! What a shard core is started with, and whether the pieces of its disk fit together.

use crate::persistence::log::{LoadedLog, LogEntry, LogStart, Membership};
use crate::replication::members;
use crate::types::ids::{Incarnation, LogIndex, META_SHARD, NodeId, ShardId, Term};
use crate::types::limits::{
    APPEND_BYTES_MAX, APPENDS_IN_FLIGHT_MAX, COMMITTED_BYTES_MAX, LOG_HELD_ENTRIES_MAX, LOG_KEEP_ENTRIES,
    UNCOMMITTED_BYTES_MAX,
};
use raft::prelude::Config;

/// Index and term of a founded group's log: not zero, so that a replica that joins with an empty log always gets a
/// snapshot, and with it the group's members.
pub const FOUNDING: LogStart = LogStart { index: LogIndex(1), term: Term(1) };

/// What a core is made with.
#[derive(Clone, Debug)]
pub struct CoreOptions {
    pub shard: ShardId,
    /// Raft id of this replica, from 1. Never reused in the group.
    pub peer_id: u64,
    pub node: NodeId,
    pub incarnation: Incarnation,
    /// Peers of a group that is being founded, the same on each of them; ignored once there is a log. Empty for a
    /// replica that joins.
    pub found: Vec<u64>,
    /// Of election timeouts. Replicas and starts of a replica differ by themselves.
    pub seed: u64,
    /// Ticks without a leader before an election: drawn from `election_ticks..2 * election_ticks`.
    pub election_ticks: usize,
    pub heartbeat_ticks: usize,
    /// `to_index` of an installed snapshot that `applied` had not reached when the process ended; else 0.
    pub whole_at: LogIndex,
    /// Applied entries that stay in the log in any case.
    pub log_keep_entries: u64,
    /// How many entries a lagging follower may hold back; beyond that it gets a snapshot.
    pub log_held_entries_max: u64,
    /// Payload of a leader's entries that no majority has yet; beyond that raft refuses entries.
    pub uncommitted_bytes_max: u64,
}

impl CoreOptions {
    /// The usual timing: 100 ms ticks, heartbeats at 500 ms, elections after 1.5 to 3 s: a lost node is known by its link before.
    /// An idle node spends most of its time on heartbeats.
    #[must_use]
    pub fn new(shard: ShardId, peer_id: u64, node: NodeId, incarnation: Incarnation) -> Self {
        Self {
            shard,
            peer_id,
            node,
            incarnation,
            found: Vec::new(),
            seed: 0,
            election_ticks: 15,
            heartbeat_ticks: 5,
            whole_at: LogIndex(0),
            log_keep_entries: LOG_KEEP_ENTRIES,
            log_held_entries_max: LOG_HELD_ENTRIES_MAX,
            uncommitted_bytes_max: UNCOMMITTED_BYTES_MAX,
        }
    }
}

/// A log or state that a core cannot be started on. The replica is rebuilt from its peers under a new peer id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CoreError {
    #[error("state is applied up to {applied}, but the log ends at {last}")]
    StateAheadOfLog { applied: LogIndex, last: LogIndex },
    #[error("the log begins after {start}, but the state is applied only up to {applied}")]
    LogDoesNotReachState { start: LogIndex, applied: LogIndex },
    #[error("entry {index} of the log is missing or damaged")]
    DamagedLog { index: LogIndex },
    #[error("the stored membership is not one")]
    DamagedMembership,
    #[error("raft refuses the options")]
    Options,
}

/// Seeded defects, to prove that the simulator's checkers see. Only in builds with debug assertions.
#[cfg(debug_assertions)]
#[doc(hidden)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Defects {
    /// Offer what is queued behind a refused proposal to raft nevertheless.
    pub go_on_after_drop: bool,
    /// Lead again under the claim of an earlier term.
    pub keep_old_claim: bool,
    /// Speak before the disk did.
    pub send_before_persisted: bool,
}

pub(crate) fn config(options: &CoreOptions, applied: LogIndex) -> Config {
    Config {
        id: options.peer_id,
        election_tick: options.election_ticks,
        heartbeat_tick: options.heartbeat_ticks,
        applied: applied.0,
        // raft-rs insists that one message is not larger than what may be uncommitted.
        max_size_per_msg: APPEND_BYTES_MAX.min(options.uncommitted_bytes_max),
        max_inflight_msgs: APPENDS_IN_FLIGHT_MAX,
        check_quorum: true,
        pre_vote: true,
        batch_append: true,
        // Followers learn what is committed with the next append or heartbeat: a message and its answer less for each. What
        // the meta group decides is waited for on every node.
        skip_bcast_commit: options.shard != META_SHARD,
        max_uncommitted_size: options.uncommitted_bytes_max,
        max_committed_size_per_ready: COMMITTED_BYTES_MAX,
        ..Config::default()
    }
}

/// Log, applied index, and the start of a group that is being founded.
type Settled = (LoadedLog, LogIndex, Option<LogStart>);

/// Checks that log, membership and state fit together; founds a group when asked to on an empty log.
pub(crate) fn settle(options: &CoreOptions, mut log: LoadedLog, applied: LogIndex) -> Result<Settled, CoreError> {
    let mut founding = None;
    if log == LoadedLog::default() && !options.found.is_empty() {
        let mut voters = options.found.clone();
        voters.sort_unstable();
        log.membership = Membership { index: FOUNDING.index, voters, ..Membership::default() };
        log.start = FOUNDING;
        log.hard_state.term = FOUNDING.term;
        founding = Some(FOUNDING);
    }
    // A founded state machine is empty at the founding index; it has nothing to apply to get there.
    let applied = if log.start == FOUNDING { applied.max(FOUNDING.index) } else { applied };
    let last = log.entries.last().map_or(log.start.index, |entry| entry.index);
    let contiguous = |pair: &[LogEntry]| pair[0].index.next() == pair[1].index && pair[0].term <= pair[1].term;
    if let Some(pair) = log.entries.windows(2).find(|pair| !contiguous(pair)) {
        return Err(CoreError::DamagedLog { index: pair[1].index });
    }
    if let Some(first) = log.entries.first().filter(|first| first.index <= log.start.index) {
        return Err(CoreError::DamagedLog { index: first.index });
    }
    if log.hard_state.commit > last {
        return Err(CoreError::DamagedLog { index: log.hard_state.commit });
    }
    if applied > last {
        return Err(CoreError::StateAheadOfLog { applied, last });
    }
    if applied < log.start.index {
        return Err(CoreError::LogDoesNotReachState { start: log.start.index, applied });
    }
    let joining = log.membership == Membership::default();
    if !joining && !members::is_sound(&log.membership) {
        return Err(CoreError::DamagedMembership);
    }
    Ok((log, applied, founding))
}

//! What goes into a shard core and what comes out of it. The whole contract between the core and its host.
//!
//! | output | the host answers with |
//! |---|---|
//! | `Append` | `Persisted`, once durable, in order |
//! | `Apply` | `Applied`, once the state machine has it |
//! | `Export` | `Exported`, or `ExportLost` |
//! | `Stage` | `Staged`, once durable |
//! | `Install` | `Installed`, once the staged rows are the shard's state |

use crate::persistence::log::{LogAppend, LogStart, Membership};
use crate::types::ids::{Claim, LogIndex, Term};
use crate::types::record::Record;
use serde::{Deserialize, Serialize};

/// Everything that can happen to a shard core.
#[derive(Debug)]
pub enum Input {
    /// 100 ms passed. Also flushes.
    Tick,
    /// A frame of a peer, already authenticated and fenced by incarnation.
    Frame { from: u64, bytes: Vec<u8> },
    /// Commit this record under the current claim. Queued until `Flush`, `Tick` or a full entry; refused with
    /// `Dropped` unless this replica leads and its claim is applied. The host must not pass on records that were
    /// decided before the last `StepDown`.
    Propose { tag: u64, record: Record },
    /// Turns the queued proposals into entries: the end of a batch.
    Flush,
    /// The appends up to `number` are durable.
    Persisted { number: u64 },
    /// The state machine has applied all entries up to `index`.
    Applied { index: LogIndex },
    /// The link to a peer's node is gone. If that peer leads, its silence need not be waited out: the group elects
    /// another within a few ticks. A false alarm costs nothing while the others still hear the leader.
    PeerGone { peer: u64 },
    /// Stand for election at once (a lone voter at start).
    Campaign,
    /// Hand leadership to a voter that has caught up. Proposals are refused until it is done or given up
    /// (one election timeout).
    TransferLeader { to: u64 },
    /// Answered by `ReadReady` once everything committed before now is applied and leadership was confirmed.
    ReadBarrier { tag: u64 },
    /// Change the group by joint consensus. Answered by `MembersRefused` or, once committed, by `Members`.
    ChangeMembers { tag: u64, changes: Vec<MemberChange> },
    /// The state is durable up to `durable`, and readers of the log (the event stream) are done up to `cursor`:
    /// purge what nobody needs. Answered by `Purge` when there is something.
    Purge { durable: LogIndex, cursor: LogIndex },
    /// One chunk of the shard's rows for an `Export`. `next` is where the following chunk starts, `None` at the
    /// end. `applied` is the state machine's applied index as read after the scan of this chunk.
    Exported { snapshot: SnapshotId, bytes: Vec<u8>, next: Option<Vec<u8>>, applied: LogIndex },
    /// The host cannot go on with an `Export` (it was ended, or held back too much): it begins anew when raft asks
    /// again.
    ExportLost { snapshot: SnapshotId },
    /// Chunk `number` is written aside and durable.
    Staged { snapshot: SnapshotId, number: u32 },
    /// The staged rows are the shard's state now.
    Installed { snapshot: SnapshotId },
}

/// Everything that a shard core asks for. Outputs are performed in order.
#[derive(Debug)]
pub enum Output {
    Send {
        to: u64,
        bytes: Vec<u8>,
    },
    /// A snapshot chunk, up to 256 KiB: a lane of its own, so that it delays no heartbeat.
    SendChunk {
        to: u64,
        bytes: Vec<u8>,
    },
    /// Write and make durable, then answer `Input::Persisted`.
    Append(LogAppend),
    /// Apply in order, then answer `Input::Applied`.
    Apply(Vec<Committed>),
    /// A proposal that is not in the log and never will be (`NotApplied`), or may be (`Unknown`).
    Dropped {
        tag: u64,
        fate: DropFate,
    },
    /// Leadership is claimed and the claim is applied: hosting may start.
    Lead {
        claim: Claim,
    },
    /// Hosting must stop before anything else is answered.
    StepDown {
        term: Term,
        leader: Option<u64>,
    },
    ReadReady {
        tag: u64,
    },
    ReadFailed {
        tag: u64,
    },
    /// The group changed; `tag` when this replica proposed the change. A joint change is reported twice, first
    /// with `voters_outgoing`. Already on its way to disk.
    Members {
        tag: Option<u64>,
        members: Membership,
    },
    /// The change was not proposed, or was lost with the leadership (`Unfinished`: look at the next `Members`).
    MembersRefused {
        tag: u64,
        why: MembersRefusal,
    },
    /// Forget the log up to and including `start.index`; record `start` in the same batch as the first deletions.
    Purge {
        start: LogStart,
    },
    /// Scan the shard's rows from `cursor` (empty: from the beginning), at most `bytes_max`, for peer `to`.
    /// May be answered late; that is how the host paces moves.
    Export {
        snapshot: SnapshotId,
        to: u64,
        cursor: Vec<u8>,
        bytes_max: usize,
    },
    /// The export is over, delivered or given up: nothing more of it will be asked for.
    ExportOver {
        snapshot: SnapshotId,
    },
    /// Write this chunk aside. `number` 0 replaces whatever was staged before. The last chunk carries the seal:
    /// everything staged and the seal must be durable before `Staged`.
    Stage {
        snapshot: SnapshotId,
        number: u32,
        bytes: Vec<u8>,
        seal: Option<SnapshotSeal>,
    },
    /// Throw away what was staged.
    StageDrop {
        snapshot: SnapshotId,
    },
    /// The log now begins at the seal's `from`: make the staged rows the shard's state, with applied = `from`,
    /// before anything that follows in `Apply`. No reads of the state until applied reaches `to_index`. After a
    /// crash between the two, the host finds a sealed stage whose `from` is the log's start and installs it at
    /// boot.
    Install {
        seal: SnapshotSeal,
    },
    /// This replica's disk contradicts what it acknowledged. The core is inert from here on; the process must
    /// end, and the replica be rebuilt under a new peer id.
    Halt {
        why: HaltReason,
    },
}

/// A committed entry.
#[derive(Clone, Debug)]
pub struct Committed {
    pub index: LogIndex,
    pub term: Term,
    /// raft-rs `EntryType` as i32; anything but 0 was handled by the core and only moves the applied index.
    pub entry_type: i32,
    /// As `entry::decode_entry` reads it; empty for a new leader's first entry and for membership changes.
    pub payload: Vec<u8>,
    /// Tags of this replica's own proposals, one for each record of the entry in order; empty when it did not propose it.
    pub tags: Vec<u64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DropFate {
    NotApplied,
    Unknown,
}

/// One step of a membership change. Peer ids are never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MemberChange {
    /// Receives the log (or a snapshot first) and does not vote.
    AddLearner(u64),
    /// Makes a learner that has caught up a voter.
    Promote(u64),
    Remove(u64),
}

/// Why a membership change was not made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MembersRefusal {
    NotLeader,
    /// An earlier change is not applied yet.
    Busy,
    /// The learner is not known, not whole, or too far behind. Try again later.
    NotCaughtUp,
    /// The leader does not remove itself: transfer leadership first.
    LeaderItself,
    /// Empty, repeated or contradictory steps, or a group without voters.
    Senseless,
    /// Leadership was lost while the change was in flight.
    Unfinished,
}

/// Names one snapshot stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct SnapshotId {
    pub term: Term,
    /// Peer id of the sender.
    pub leader: u64,
    pub number: u64,
}

/// What a complete snapshot stands for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotSeal {
    pub snapshot: SnapshotId,
    /// Number of the last chunk.
    pub last: u32,
    /// The scan began when the sender had applied this much; the log goes on from here.
    pub from: LogStart,
    /// The scan ended when the sender had applied this much; the rows are a state once this much is applied.
    pub to_index: LogIndex,
    /// The group as of `from`.
    pub members: Membership,
}

/// Why a replica cannot go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HaltReason {
    /// The leader counts on entries that this log does not hold.
    LogForgot,
    /// A committed entry is not what it should be.
    DamagedEntry,
}

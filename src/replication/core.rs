//! One replica of one shard's Raft group: `step(Input, &mut Vec<Output>)`, no I/O, no clock, no thread RNG.

use crate::persistence::log::LogAppend;
use crate::types::ids::{Claim, LogIndex, Term};
use crate::types::record::Record;

/// Everything that can happen to a shard core.
#[derive(Debug)]
pub enum Input {
    /// 100 ms passed.
    Tick,
    /// A frame of a peer, already authenticated and fenced by incarnation.
    Frame {
        from: u64,
        bytes: Vec<u8>,
    },
    /// Commit this record under the current claim. Refused with `Dropped` unless this replica leads and its claim is applied.
    Propose {
        tag: u64,
        record: Record,
    },
    /// The appends up to `number` are durable.
    Persisted {
        number: u64,
    },
    /// The state machine has applied all entries up to `index`.
    Applied {
        index: LogIndex,
    },
    /// Stand for election at once (a lone voter at start).
    Campaign,
    TransferLeader {
        to: u64,
    },
    /// Answered by `ReadReady` once everything committed before now is applied and leadership was confirmed.
    ReadBarrier {
        tag: u64,
    },
}

/// Everything that a shard core asks for. Outputs are performed in order.
#[derive(Debug)]
pub enum Output {
    Send {
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
}

/// A committed entry.
#[derive(Clone, Debug)]
pub struct Committed {
    pub index: LogIndex,
    pub term: Term,
    pub entry_type: i32,
    pub payload: Vec<u8>,
    /// Tags of this replica's own proposals, one for each record of the entry in order; empty when it did not propose it.
    pub tags: Vec<u64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DropFate {
    NotApplied,
    Unknown,
}

//! Frames between the cores of one shard. Our own codec, because protobuf 2 must not parse what a peer sent
//! (RUSTSEC-2024-0437), and because a frame is checked here once, before raft-rs sees it: raft-rs trusts its peers
//! and panics on nonsense.
//!
//! A frame: version, kind, fields. Integers are LEB128. Sender and receiver are not in it: the transport knows them.

use crate::persistence::log::{LogStart, Membership};
use crate::replication::io::{SnapshotId, SnapshotSeal};
use crate::replication::members;
use crate::replication::storage::{entry_tag, entry_type};
use crate::types::codec;
use crate::types::ids::{LogIndex, Term};
use crate::types::limits::{FRAME_BYTES_MAX, MEMBER_CHANGE_BYTES_MAX, SNAPSHOT_CHUNK_BYTES_MAX};
use raft::prelude::{Entry, EntryType, Message, MessageType, Snapshot};

const WIRE_VERSION: u8 = 1;
/// raft-rs puts a word ("CampaignTransfer") or our eight bytes of a read barrier there.
const CONTEXT_BYTES_MAX: usize = 64;

/// What one core says to another.
#[derive(Debug, PartialEq)]
pub(crate) enum Frame {
    Raft(Box<Message>),
    Chunk(Chunk),
    /// All chunks below `next` are staged.
    ChunkAck {
        snapshot: SnapshotId,
        next: u32,
    },
    /// The receiver knows nothing of this stream (any more).
    StreamLost {
        snapshot: SnapshotId,
    },
    /// A learner tells its leader how far its state is; `whole` is false while a snapshot is incomplete.
    Report {
        whole: bool,
        applied: LogIndex,
    },
}

/// One piece of a snapshot stream; the last one carries the seal.
#[derive(Debug, PartialEq)]
pub(crate) struct Chunk {
    pub(crate) snapshot: SnapshotId,
    pub(crate) number: u32,
    pub(crate) bytes: Vec<u8>,
    pub(crate) seal: Option<SnapshotSeal>,
}

/// A frame that is not one. It is dropped; nothing was changed by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a frame: {what}")]
pub(crate) struct WireError {
    pub(crate) what: &'static str,
}

const fn bad<T>(what: &'static str) -> Result<T, WireError> {
    Err(WireError { what })
}

/// Appends fields.
pub(crate) struct Writer(pub(crate) Vec<u8>);

impl Writer {
    fn new(kind: u8) -> Self {
        Self(vec![WIRE_VERSION, kind])
    }
    pub(crate) fn number(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push((value as u8) | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }
    pub(crate) fn bytes(&mut self, bytes: &[u8]) {
        self.number(bytes.len() as u64);
        self.0.extend_from_slice(bytes);
    }
    fn snapshot(&mut self, id: SnapshotId) {
        self.number(id.term.0);
        self.number(id.leader);
        self.number(id.number);
    }
}

/// Takes fields off the front.
pub(crate) struct Reader<'a>(pub(crate) &'a [u8]);

impl<'a> Reader<'a> {
    pub(crate) fn byte(&mut self) -> Result<u8, WireError> {
        let Some((first, rest)) = self.0.split_first() else { return bad("too short") };
        self.0 = rest;
        Ok(*first)
    }
    pub(crate) fn number(&mut self) -> Result<u64, WireError> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            let bits = u64::from(byte & 0x7f);
            if bits << shift >> shift != bits {
                return bad("number too large");
            }
            value |= bits << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        bad("number too long")
    }
    pub(crate) fn bytes(&mut self, max: usize) -> Result<&'a [u8], WireError> {
        let length = self.number()?;
        if length > max as u64 {
            return bad("field too long");
        }
        let Some((bytes, rest)) = self.0.split_at_checked(length as usize) else { return bad("too short") };
        self.0 = rest;
        Ok(bytes)
    }
    pub(crate) fn array<const N: usize>(&mut self) -> Result<[u8; N], WireError> {
        let Some((bytes, rest)) = self.0.split_first_chunk::<N>() else { return bad("too short") };
        self.0 = rest;
        Ok(*bytes)
    }
    fn snapshot(&mut self) -> Result<SnapshotId, WireError> {
        Ok(SnapshotId { term: Term(self.number()?), leader: self.number()?, number: self.number()? })
    }
    fn seal(&mut self) -> Result<Option<SnapshotSeal>, WireError> {
        let bytes = self.bytes(FRAME_BYTES_MAX)?;
        if bytes.is_empty() {
            return Ok(None);
        }
        decode_seal(bytes).map(Some)
    }
    pub(crate) fn end(self) -> Result<(), WireError> {
        if self.0.is_empty() { Ok(()) } else { bad("too long") }
    }
}

impl Frame {
    pub(crate) fn encode(&self) -> Vec<u8> {
        match self {
            Self::Raft(message) => encode_raft(message),
            Self::Chunk(Chunk { snapshot, number, bytes, seal }) => {
                let mut writer = Writer::new(2);
                writer.snapshot(*snapshot);
                writer.number(u64::from(*number));
                writer.bytes(bytes);
                writer.bytes(&seal.as_ref().map(codec::encode).unwrap_or_default());
                writer.0
            }
            Self::ChunkAck { snapshot, next } => {
                let mut writer = Writer::new(3);
                writer.snapshot(*snapshot);
                writer.number(u64::from(*next));
                writer.0
            }
            Self::StreamLost { snapshot } => {
                let mut writer = Writer::new(4);
                writer.snapshot(*snapshot);
                writer.0
            }
            Self::Report { whole, applied } => {
                let mut writer = Writer::new(5);
                writer.number(u64::from(*whole));
                writer.number(applied.0);
                writer.0
            }
        }
    }

    /// Decodes a frame that peer `from` sent to peer `to`.
    pub(crate) fn decode(from: u64, to: u64, bytes: &[u8]) -> Result<Self, WireError> {
        if bytes.len() > FRAME_BYTES_MAX {
            return bad("frame too long");
        }
        let mut reader = Reader(bytes);
        if reader.byte()? != WIRE_VERSION {
            return bad("version");
        }
        let frame = match reader.byte()? {
            1 => Self::Raft(Box::new(decode_raft(from, to, &mut reader)?)),
            2 => Self::Chunk(Chunk {
                snapshot: reader.snapshot()?,
                number: narrow(reader.number()?)?,
                bytes: reader.bytes(FRAME_BYTES_MAX)?.to_vec(),
                seal: reader.seal()?,
            }),
            3 => Self::ChunkAck { snapshot: reader.snapshot()?, next: narrow(reader.number()?)? },
            4 => Self::StreamLost { snapshot: reader.snapshot()? },
            5 => Self::Report { whole: flag(reader.number()?)?, applied: LogIndex(reader.number()?) },
            _ => return bad("kind"),
        };
        reader.end()?;
        Ok(frame)
    }
}

/// The largest chunk that fits a frame with its seal.
pub(crate) const CHUNK_BYTES_FIT: usize = FRAME_BYTES_MAX - SNAPSHOT_CHUNK_BYTES_MAX;

pub(crate) fn decode_seal(bytes: &[u8]) -> Result<SnapshotSeal, WireError> {
    codec::decode::<SnapshotSeal>(bytes).map_err(|_| WireError { what: "seal" })
}

fn narrow(value: u64) -> Result<u32, WireError> {
    u32::try_from(value).map_err(|_| WireError { what: "number too large" })
}

fn flag(value: u64) -> Result<bool, WireError> {
    match value {
        0 => Ok(false),
        1 => Ok(true),
        _ => bad("flag"),
    }
}

/// The messages that may come from a peer. Proposals and reads are never forwarded: only the leader's own host
/// may make them. Leadership is transferred by the leader's host, too.
const MESSAGE_TYPES: [(u8, MessageType); 10] = [
    (1, MessageType::MsgAppend),
    (2, MessageType::MsgAppendResponse),
    (3, MessageType::MsgRequestVote),
    (4, MessageType::MsgRequestVoteResponse),
    (5, MessageType::MsgSnapshot),
    (6, MessageType::MsgHeartbeat),
    (7, MessageType::MsgHeartbeatResponse),
    (8, MessageType::MsgTimeoutNow),
    (9, MessageType::MsgRequestPreVote),
    (10, MessageType::MsgRequestPreVoteResponse),
];

/// Whether a frame of a core is small and tells who leads: heartbeats, votes and the handing over. Raft takes them in any
/// order, and a leader that is not heard in time is deposed, so they may overtake entries.
#[must_use]
pub fn is_urgent(frame: &[u8]) -> bool {
    let Some(&[WIRE_VERSION, 1, tag]) = frame.first_chunk::<3>() else { return false };
    let entries = [MessageType::MsgAppend, MessageType::MsgAppendResponse, MessageType::MsgSnapshot];
    MESSAGE_TYPES.iter().any(|(one, kind)| *one == tag && !entries.contains(kind))
}

/// Whether raft's message may be sent to a peer at all.
pub(crate) fn is_sendable(message: &Message) -> bool {
    message_tag(message.get_msg_type()).is_some()
}

fn message_tag(kind: MessageType) -> Option<u8> {
    MESSAGE_TYPES.iter().find(|(_, one)| *one == kind).map(|(tag, _)| *tag)
}

pub(crate) fn encode_raft(message: &Message) -> Vec<u8> {
    let mut writer = Writer::new(1);
    let tag = message_tag(message.get_msg_type()).expect("the core sends sendable messages only");
    writer.number(u64::from(tag));
    for value in [
        message.term,
        message.log_term,
        message.index,
        message.commit,
        message.commit_term,
        message.request_snapshot,
        message.reject_hint,
        u64::from(message.reject),
    ] {
        writer.number(value);
    }
    writer.bytes(&message.context);
    writer.number(message.entries.len() as u64);
    for entry in &message.entries {
        writer.number(entry_tag(entry.get_entry_type()) as u64);
        writer.number(entry.term);
        writer.bytes(&entry.data);
    }
    if message.get_msg_type() == MessageType::MsgSnapshot {
        let metadata = message.get_snapshot().get_metadata();
        writer.number(metadata.index);
        writer.number(metadata.term);
        let membership = members::from_conf_state(LogIndex(metadata.index), metadata.get_conf_state());
        writer.bytes(&codec::encode(&membership));
        writer.bytes(&message.get_snapshot().data);
    }
    writer.0
}

fn decode_raft(from: u64, to: u64, reader: &mut Reader<'_>) -> Result<Message, WireError> {
    let tag = reader.number()?;
    let known = MESSAGE_TYPES.iter().find(|(one, _)| u64::from(*one) == tag);
    let Some((_, kind)) = known else { return bad("message type") };
    let mut message = Message::default();
    message.set_msg_type(*kind);
    message.from = from;
    message.to = to;
    message.term = reader.number()?;
    message.log_term = reader.number()?;
    message.index = reader.number()?;
    message.commit = reader.number()?;
    message.commit_term = reader.number()?;
    message.request_snapshot = reader.number()?;
    message.reject_hint = reader.number()?;
    message.reject = flag(reader.number()?)?;
    message.context = reader.bytes(CONTEXT_BYTES_MAX)?.to_vec().into();
    if message.term == 0 {
        return bad("raft takes term 0 for a local message");
    }
    if *kind == MessageType::MsgAppend && message.log_term == 0 {
        return bad("raft takes any index of term 0 for one it has");
    }
    if message.request_snapshot != 0 {
        return bad("snapshots are asked for by the leader's raft only");
    }
    let entries = decode_entries(&message, reader)?;
    message.set_entries(entries.into());
    if *kind == MessageType::MsgSnapshot {
        message.set_snapshot(decode_snapshot(reader)?);
    }
    Ok(message)
}

fn decode_entries(message: &Message, reader: &mut Reader<'_>) -> Result<Vec<Entry>, WireError> {
    let count = reader.number()?;
    if count > 0 && message.get_msg_type() != MessageType::MsgAppend {
        return bad("entries outside an append");
    }
    let (mut index, mut term) = (message.index, message.log_term);
    let mut entries = Vec::new();
    for _ in 0..count {
        let mut entry = Entry::default();
        let kind = i32::try_from(reader.number()?).ok().and_then(entry_type);
        let Some(kind) = kind else { return bad("entry type") };
        entry.set_entry_type(kind);
        entry.term = reader.number()?;
        let bytes_max = if kind == EntryType::EntryNormal { FRAME_BYTES_MAX } else { MEMBER_CHANGE_BYTES_MAX };
        entry.data = reader.bytes(bytes_max)?.to_vec().into();
        let Some(next) = index.checked_add(1) else { return bad("entry index") };
        if entry.term < term || entry.term > message.term {
            return bad("entry term");
        }
        (index, term) = (next, entry.term);
        entry.index = index;
        entries.push(entry);
    }
    Ok(entries)
}

fn decode_snapshot(reader: &mut Reader<'_>) -> Result<Snapshot, WireError> {
    let mut snapshot = Snapshot::default();
    let start = LogStart { index: LogIndex(reader.number()?), term: Term(reader.number()?) };
    let membership: Membership =
        codec::decode(reader.bytes(FRAME_BYTES_MAX)?).map_err(|_| WireError { what: "membership" })?;
    if !members::is_sound(&membership) {
        return bad("membership");
    }
    let metadata = snapshot.mut_metadata();
    metadata.index = start.index.0;
    metadata.term = start.term.0;
    metadata.set_conf_state(members::to_conf_state(&membership));
    snapshot.data = reader.bytes(FRAME_BYTES_MAX)?.to_vec().into();
    Ok(snapshot)
}

#[cfg(test)]
#[path = "wire_tests.rs"]
mod tests;

//! The bytes that one link carries: batches of frames, each batch under the link's epoch and its sender's incarnation.
//!
//! ```text
//! batch = version u8 | epoch u64 | node u64 | incarnation u64 | frame*          (little-endian)
//! frame = tag u8 | fields | length u32 | body
//! ```
//! Tags are never reused. A batch that does not decode to its last byte is refused whole.

use crate::replication::transport::Peer;
use crate::types::ids::{Incarnation, NodeId};
use crate::types::limits::FRAME_BYTES_MAX;

const VERSION: u8 = 1;
const TAG_RAFT: u8 = 1;
const TAG_SNAPSHOT: u8 = 2;
const TAG_REQUEST: u8 = 3;
const TAG_ANSWER: u8 = 4;
const TAG_BUSY: u8 = 5;
const TAG_PING: u8 = 6;
const TAG_PONG: u8 = 7;
const TAG_ACK: u8 = 8;
const TAG_URGENT: u8 = 9;

/// What a frame costs beyond its body, in memory and on the wire.
pub(crate) const FRAME_OVERHEAD_BYTES: u64 = 64;

/// Whatever has credit of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Class {
    Raft,
    Call,
    Snapshot,
}

impl Class {
    pub(crate) const fn index(self) -> usize {
        match self {
            Self::Raft => 0,
            Self::Call => 1,
            Self::Snapshot => 2,
        }
    }
}

/// How much of a class was handled since the link came up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    pub(crate) bytes: u64,
    pub(crate) frames: u64,
}

impl Tally {
    pub(crate) fn add(&mut self, cost: u64) {
        self.bytes += cost;
        self.frames += 1;
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Frame {
    Raft(Vec<u8>),
    Snapshot(Vec<u8>),
    Request {
        id: u64,
        deadline_ms: u32,
        body: Vec<u8>,
    },
    Answer {
        id: u64,
        body: Vec<u8>,
    },
    /// The request was not taken.
    Busy {
        id: u64,
    },
    /// A heartbeat: the sender's own monotonic microseconds, echoed by the pong.
    Ping {
        sent_us: u64,
    },
    /// `sent_us` of the ping, and the answering node's wall clock in milliseconds.
    Pong {
        sent_us: u64,
        clock_ms: i64,
    },
    /// Handled so far, by class.
    Ack([Tally; 3]),
    /// A Raft frame that overtakes the others: a heartbeat, or a vote.
    Urgent(Vec<u8>),
}

impl Frame {
    /// The class whose credit the frame uses up; heartbeats, votes and acknowledgements use none.
    pub(crate) fn class(&self) -> Option<Class> {
        match self {
            Self::Raft(_) => Some(Class::Raft),
            Self::Snapshot(_) => Some(Class::Snapshot),
            Self::Request { .. } | Self::Answer { .. } | Self::Busy { .. } => Some(Class::Call),
            Self::Ping { .. } | Self::Pong { .. } | Self::Ack(_) | Self::Urgent(_) => None,
        }
    }

    fn body(&self) -> &[u8] {
        match self {
            Self::Raft(body)
            | Self::Urgent(body)
            | Self::Snapshot(body)
            | Self::Request { body, .. }
            | Self::Answer { body, .. } => body,
            Self::Busy { .. } | Self::Ping { .. } | Self::Pong { .. } | Self::Ack(_) => &[],
        }
    }

    /// What both ends count for this frame.
    pub(crate) fn cost(&self) -> u64 {
        self.body().len() as u64 + FRAME_OVERHEAD_BYTES
    }
}

/// Which link a batch belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stamp {
    pub(crate) epoch: u64,
    pub(crate) from: Peer,
}

/// Puts a batch together.
pub(crate) struct BatchWriter {
    bytes: Vec<u8>,
    frames: usize,
}

impl BatchWriter {
    pub(crate) fn new(stamp: Stamp) -> Self {
        let mut bytes = vec![VERSION];
        for word in [stamp.epoch, stamp.from.node.0, stamp.from.incarnation.0] {
            bytes.extend_from_slice(&word.to_le_bytes());
        }
        Self { bytes, frames: 0 }
    }

    pub(crate) fn len(&self) -> usize {
        self.bytes.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.frames == 0
    }

    pub(crate) fn push(&mut self, frame: &Frame) {
        self.frames += 1;
        let out = &mut self.bytes;
        match frame {
            Frame::Raft(_) => out.push(TAG_RAFT),
            Frame::Urgent(_) => out.push(TAG_URGENT),
            Frame::Snapshot(_) => out.push(TAG_SNAPSHOT),
            Frame::Request { id, deadline_ms, .. } => {
                out.push(TAG_REQUEST);
                out.extend_from_slice(&id.to_le_bytes());
                out.extend_from_slice(&deadline_ms.to_le_bytes());
            }
            Frame::Answer { id, .. } => {
                out.push(TAG_ANSWER);
                out.extend_from_slice(&id.to_le_bytes());
            }
            Frame::Busy { id } => {
                out.push(TAG_BUSY);
                out.extend_from_slice(&id.to_le_bytes());
            }
            Frame::Ping { sent_us } => {
                out.push(TAG_PING);
                out.extend_from_slice(&sent_us.to_le_bytes());
            }
            Frame::Pong { sent_us, clock_ms } => {
                out.push(TAG_PONG);
                out.extend_from_slice(&sent_us.to_le_bytes());
                out.extend_from_slice(&clock_ms.to_le_bytes());
            }
            Frame::Ack(tallies) => {
                out.push(TAG_ACK);
                for tally in tallies {
                    out.extend_from_slice(&tally.bytes.to_le_bytes());
                    out.extend_from_slice(&tally.frames.to_le_bytes());
                }
            }
        }
        let body = frame.body();
        assert!(body.len() <= FRAME_BYTES_MAX, "frames are checked before they are queued");
        out.extend_from_slice(&(body.len() as u32).to_le_bytes());
        out.extend_from_slice(body);
    }

    pub(crate) fn finish(self) -> Vec<u8> {
        self.bytes
    }
}

/// Bytes that are no batch of this version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a batch that does not decode")]
pub(crate) struct BadBatch;

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, length: usize) -> Result<&'a [u8], BadBatch> {
        let (head, rest) = self.0.split_at_checked(length).ok_or(BadBatch)?;
        self.0 = rest;
        Ok(head)
    }
    fn array<const N: usize>(&mut self) -> Result<[u8; N], BadBatch> {
        self.take(N)?.try_into().map_err(|_| BadBatch)
    }
    fn byte(&mut self) -> Result<u8, BadBatch> {
        Ok(self.array::<1>()?[0])
    }
    fn word(&mut self) -> Result<u64, BadBatch> {
        Ok(u64::from_le_bytes(self.array()?))
    }
    fn short(&mut self) -> Result<u32, BadBatch> {
        Ok(u32::from_le_bytes(self.array()?))
    }
    fn body(&mut self) -> Result<Vec<u8>, BadBatch> {
        let length = self.short()? as usize;
        if length > FRAME_BYTES_MAX {
            return Err(BadBatch);
        }
        Ok(self.take(length)?.to_vec())
    }
    fn no_body(&mut self) -> Result<(), BadBatch> {
        if self.short()? == 0 { Ok(()) } else { Err(BadBatch) }
    }

    fn frame(&mut self) -> Result<Frame, BadBatch> {
        let frame = match self.byte()? {
            TAG_RAFT => return Ok(Frame::Raft(self.body()?)),
            TAG_URGENT => return Ok(Frame::Urgent(self.body()?)),
            TAG_SNAPSHOT => return Ok(Frame::Snapshot(self.body()?)),
            TAG_REQUEST => {
                let (id, deadline_ms) = (self.word()?, self.short()?);
                return Ok(Frame::Request { id, deadline_ms, body: self.body()? });
            }
            TAG_ANSWER => {
                let id = self.word()?;
                return Ok(Frame::Answer { id, body: self.body()? });
            }
            TAG_BUSY => Frame::Busy { id: self.word()? },
            TAG_PING => Frame::Ping { sent_us: self.word()? },
            TAG_PONG => Frame::Pong { sent_us: self.word()?, clock_ms: i64::from_le_bytes(self.array()?) },
            TAG_ACK => {
                let mut tallies = [Tally::default(); 3];
                for tally in &mut tallies {
                    *tally = Tally { bytes: self.word()?, frames: self.word()? };
                }
                Frame::Ack(tallies)
            }
            _ => return Err(BadBatch),
        };
        self.no_body()?;
        Ok(frame)
    }
}

/// The stamp alone, so that a stale batch costs nothing more.
///
/// # Errors
/// [`BadBatch`] when there is none of this version.
pub(crate) fn stamp(batch: &[u8]) -> Result<Stamp, BadBatch> {
    let mut reader = Reader(batch);
    if reader.byte()? != VERSION {
        return Err(BadBatch);
    }
    let epoch = reader.word()?;
    let from = Peer { node: NodeId(reader.word()?), incarnation: Incarnation(reader.word()?) };
    Ok(Stamp { epoch, from })
}

const STAMP_BYTES: usize = 1 + 3 * 8;

/// All frames of a batch, in order.
///
/// # Errors
/// [`BadBatch`] unless every byte belongs to a frame.
pub(crate) fn frames(batch: &[u8]) -> Result<Vec<Frame>, BadBatch> {
    let mut reader = Reader(batch.get(STAMP_BYTES..).ok_or(BadBatch)?);
    let mut frames = Vec::new();
    while !reader.0.is_empty() {
        frames.push(reader.frame()?);
    }
    Ok(frames)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn a_stamp() -> Stamp {
        Stamp { epoch: 7, from: Peer { node: NodeId(3), incarnation: Incarnation(9) } }
    }

    fn written(frames: &[Frame]) -> Vec<u8> {
        let mut writer = BatchWriter::new(a_stamp());
        frames.iter().for_each(|frame| writer.push(frame));
        writer.finish()
    }

    fn every_frame() -> Vec<Frame> {
        vec![
            Frame::Raft(vec![1, 2]),
            Frame::Snapshot(Vec::new()),
            Frame::Request { id: 5, deadline_ms: 1_000, body: vec![3] },
            Frame::Answer { id: 5, body: vec![4] },
            Frame::Busy { id: 6 },
            Frame::Ping { sent_us: 77 },
            Frame::Pong { sent_us: 77, clock_ms: -1 },
            Frame::Ack([Tally { bytes: 1, frames: 2 }, Tally::default(), Tally { bytes: 3, frames: 4 }]),
            Frame::Urgent(vec![9]),
        ]
    }

    #[test]
    fn every_frame_comes_back_in_order() {
        let batch = written(&every_frame());
        assert_eq!(stamp(&batch), Ok(a_stamp()));
        assert_eq!(frames(&batch), Ok(every_frame()));
    }

    #[test]
    fn the_bytes_stay_what_they_are() {
        let golden = "01070000000000000003000000000000000900000000000000\
                      0102000000010206\
                      4d0000000000000000000000";
        assert_eq!(hex::encode(written(&[Frame::Raft(vec![1, 2]), Frame::Ping { sent_us: 77 }])), golden);
    }

    #[test]
    fn a_cut_or_unknown_batch_is_refused() {
        let batch = written(&[Frame::Raft(vec![1, 2, 3])]);
        assert_eq!(frames(&batch[..batch.len() - 1]), Err(BadBatch));
        assert_eq!(stamp(&batch[..STAMP_BYTES - 1]), Err(BadBatch));
        let mut other = batch.clone();
        other[0] = 2;
        assert_eq!(stamp(&other), Err(BadBatch));
        let mut unknown = batch;
        unknown[STAMP_BYTES] = 99;
        assert_eq!(frames(&unknown), Err(BadBatch));
    }

    proptest! {
        #[test]
        fn any_bytes_are_decoded_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _either = (stamp(&bytes), frames(&bytes));
        }
    }
}

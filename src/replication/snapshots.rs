//! Shard snapshots in chunks, both ends, without raft.
//!
//! Rows are scanned while the shard goes on, and show it at one index, that of the first chunk (`to_index`). The receiver's log
//! begins there too (`from`), so that it holds no state that its log does not reach; a sender of before fixed `from` when it began,
//! and the log between brought nothing new: records that a row contains already are skipped by their version.
//!
//! Sender: scan a chunk, send it, at most four not acknowledged, send again what stays unacknowledged, give up a
//! receiver that says nothing. Receiver: takes chunks in order only, acknowledges what is staged durably; a chunk out of
//! order it answers with what it has, by which the sender knows of the gap before the next tick that would.

use crate::persistence::log::{LogStart, Membership};
use crate::replication::io::{Output, SnapshotId, SnapshotSeal};
use crate::replication::wire::{CHUNK_BYTES_FIT, Chunk, Frame};
use crate::types::ids::LogIndex;
use crate::types::limits::{
    SNAPSHOT_CHUNK_BYTES_MAX, SNAPSHOT_CHUNKS_IN_FLIGHT_MAX, SNAPSHOT_PATIENCE_TICKS, SNAPSHOT_RESEND_TICKS,
};
use std::collections::VecDeque;

/// One outgoing stream.
pub(crate) struct Sender {
    pub(crate) id: SnapshotId,
    pub(crate) to: u64,
    pub(crate) from: LogStart,
    members: Membership,
    /// Where the next scan begins; `None` once the scan is over.
    cursor: Option<Vec<u8>>,
    scanning: bool,
    next: u32,
    unacknowledged: VecDeque<(u32, Vec<u8>)>,
    seal: Option<SnapshotSeal>,
    silent_ticks: u32,
    /// A gap was told of, and all up to here sent again at once: until this is acknowledged, only ticks send again.
    recovering: u32,
}

impl Sender {
    /// Begins a stream and asks for its first chunk.
    pub(crate) fn begin(id: SnapshotId, to: u64, from: LogStart, members: Membership, out: &mut Vec<Output>) -> Self {
        let mut sender = Self {
            id,
            to,
            from,
            members,
            cursor: Some(Vec::new()),
            scanning: false,
            next: 0,
            unacknowledged: VecDeque::new(),
            seal: None,
            silent_ticks: 0,
            recovering: 0,
        };
        sender.scan_on(out);
        sender
    }

    /// The first chunk was scanned after more was applied: it shows the shard, and the log behind it begins, there.
    pub(crate) fn shows(&mut self, from: LogStart, members: Membership) {
        if self.next == 0 && from.index > self.from.index {
            (self.from, self.members) = (from, members);
        }
    }

    fn scan_on(&mut self, out: &mut Vec<Output>) {
        if self.scanning || self.unacknowledged.len() >= SNAPSHOT_CHUNKS_IN_FLIGHT_MAX {
            return;
        }
        if let Some(cursor) = self.cursor.take() {
            self.scanning = true;
            let bytes_max = SNAPSHOT_CHUNK_BYTES_MAX;
            out.push(Output::Export { snapshot: self.id, to: self.to, cursor, bytes_max });
        }
    }

    /// A chunk was scanned. `false`: it does not fit a frame, the stream cannot go on.
    #[must_use]
    pub(crate) fn exported(
        &mut self,
        bytes: Vec<u8>,
        next: Option<Vec<u8>>,
        applied: LogIndex,
        out: &mut Vec<Output>,
    ) -> bool {
        if !self.scanning {
            return true;
        }
        if bytes.len() > CHUNK_BYTES_FIT {
            return false;
        }
        self.scanning = false;
        self.cursor = next;
        if self.cursor.is_none() {
            self.seal = Some(SnapshotSeal {
                snapshot: self.id,
                last: self.next,
                from: self.from,
                to_index: applied.max(self.from.index),
                members: self.members.clone(),
            });
        }
        let chunk = Chunk { snapshot: self.id, number: self.next, bytes, seal: self.seal.clone() };
        let frame = Frame::Chunk(chunk).encode();
        self.unacknowledged.push_back((self.next, frame.clone()));
        self.next += 1;
        self.silent_ticks = 0;
        out.push(Output::SendChunk { to: self.to, bytes: frame });
        self.scan_on(out);
        true
    }

    /// Chunks below `next` are staged. Answers the seal once all are. One that brings nothing new tells of a gap.
    pub(crate) fn acknowledged(&mut self, next: u32, out: &mut Vec<Output>) -> Option<SnapshotSeal> {
        let gap = self.unacknowledged.front().is_some_and(|(number, _)| *number == next);
        while self.unacknowledged.front().is_some_and(|(number, _)| *number < next) {
            self.unacknowledged.pop_front();
            self.silent_ticks = 0;
        }
        if gap && next >= self.recovering {
            self.recovering = self.next;
            self.send_again(out);
        }
        self.scan_on(out);
        self.seal.clone().filter(|_| self.unacknowledged.is_empty())
    }

    /// A tick passed. `false`: the receiver is silent for too long.
    #[must_use]
    pub(crate) fn tick(&mut self, out: &mut Vec<Output>) -> bool {
        if self.unacknowledged.is_empty() && self.seal.is_none() {
            return true;
        }
        self.silent_ticks += 1;
        if self.silent_ticks.is_multiple_of(SNAPSHOT_RESEND_TICKS) {
            self.send_again(out);
        }
        self.silent_ticks < SNAPSHOT_PATIENCE_TICKS
    }

    fn send_again(&self, out: &mut Vec<Output>) {
        let again = |(_, frame): &(u32, Vec<u8>)| Output::SendChunk { to: self.to, bytes: frame.clone() };
        out.extend(self.unacknowledged.iter().map(again));
    }
}

/// One incoming stream.
pub(crate) struct Receiver {
    pub(crate) id: SnapshotId,
    /// Chunks handed to the host.
    expected: u32,
    /// Chunks that are durable.
    staged: u32,
    pub(crate) seal: Option<SnapshotSeal>,
    /// Raft took the snapshot; nothing may touch the stage until it is installed.
    pub(crate) installing: bool,
}

impl Receiver {
    pub(crate) fn new(id: SnapshotId) -> Self {
        Self { id, expected: 0, staged: 0, seal: None, installing: false }
    }

    pub(crate) fn acknowledgement(&self) -> Frame {
        Frame::ChunkAck { snapshot: self.id, next: self.staged }
    }

    /// A chunk of this stream came. Answers an acknowledgement for one that is known already, or comes too soon.
    pub(crate) fn chunk(&mut self, chunk: Chunk, out: &mut Vec<Output>) -> Option<Frame> {
        let Chunk { snapshot, number, bytes, seal } = chunk;
        if number != self.expected {
            return Some(self.acknowledgement());
        }
        if self.seal.is_some() || seal.as_ref().is_some_and(|seal| seal.last != number || seal.snapshot != snapshot) {
            return None;
        }
        self.expected += 1;
        self.seal.clone_from(&seal);
        out.push(Output::Stage { snapshot, number, bytes, seal });
        None
    }

    /// A chunk is durable.
    pub(crate) fn staged(&mut self, number: u32) -> Frame {
        self.staged = self.staged.max(number.saturating_add(1)).min(self.expected);
        self.acknowledgement()
    }

    /// The seal, once everything up to it is durable.
    pub(crate) fn complete(&self) -> Option<&SnapshotSeal> {
        self.seal.as_ref().filter(|_| self.staged == self.expected)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::ids::{LogIndex, Term};

    fn group(index: u64) -> Membership {
        Membership { index: LogIndex(index), voters: vec![1, 2], ..Membership::default() }
    }

    fn at(index: u64) -> LogStart {
        LogStart { index: LogIndex(index), term: Term(3) }
    }

    fn chunk(id: SnapshotId, number: u32) -> Chunk {
        Chunk { snapshot: id, number, bytes: vec![1], seal: None }
    }

    fn sent(out: &mut Vec<Output>) -> usize {
        out.drain(..).filter(|one| matches!(one, Output::SendChunk { .. })).count()
    }

    /// A lost chunk on a lossy link would cost half a second each, and a shard may wait for the stream's end.
    #[test]
    fn a_gap_is_filled_as_soon_as_it_shows_and_once() {
        let id = SnapshotId { term: Term(3), leader: 1, number: 1 };
        let (mut out, mut staged) = (Vec::new(), Vec::new());
        let mut sender = Sender::begin(id, 2, at(50), group(9), &mut out);
        for number in 0..4u8 {
            assert!(sender.exported(vec![1], Some(vec![number]), LogIndex(50), &mut out));
        }
        assert_eq!(sent(&mut out), 4);
        let mut receiver = Receiver::new(id);
        assert!(receiver.chunk(chunk(id, 0), &mut staged).is_none());
        assert_eq!(receiver.staged(0), Frame::ChunkAck { snapshot: id, next: 1 });
        assert!(sender.acknowledged(1, &mut out).is_none());
        assert_eq!(sent(&mut out), 0, "what goes forward tells of no gap");
        // The second is lost; the third and fourth come.
        for number in [2, 3] {
            let answer = receiver.chunk(chunk(id, number), &mut staged);
            assert_eq!(answer, Some(Frame::ChunkAck { snapshot: id, next: 1 }));
        }
        assert_eq!(staged.len(), 1, "in order only");
        assert!(sender.acknowledged(1, &mut out).is_none());
        assert_eq!(sent(&mut out), 3);
        assert!(sender.acknowledged(1, &mut out).is_none());
        assert!(sender.acknowledged(2, &mut out).is_none());
        assert!(sender.acknowledged(2, &mut out).is_none());
        assert_eq!(sent(&mut out), 0, "one answer to one gap");
    }

    /// A log that began before its rows would be refused at the next start, until it holds the entries between.
    #[test]
    fn a_snapshot_begins_where_its_first_chunk_was_read_and_no_later_one_moves_it() {
        let id = SnapshotId { term: Term(3), leader: 1, number: 1 };
        let mut out = Vec::new();
        let mut sender = Sender::begin(id, 2, at(50), group(9), &mut out);
        sender.shows(at(60), group(55));
        assert!(sender.exported(vec![1], Some(vec![7]), LogIndex(60), &mut out));
        sender.shows(at(70), group(65));
        assert!(sender.exported(vec![2], None, LogIndex(60), &mut out));
        let seal = sender.seal.clone().unwrap();
        assert_eq!((seal.from, seal.to_index, seal.members), (at(60), LogIndex(60), group(55)));
    }
}

//! Snapshot streams of a shard core: when one begins, how raft learns of it, when it is given up.
//!
//! raft asks for a snapshot of a peer that needs entries which the log no longer holds. It is told "not yet" until
//! the peer has staged a whole stream; only then does raft send its own snapshot message, which carries the seal.
//! The receiver lets that message into raft only when its stage is complete under the same seal.

use crate::persistence::log::{LogStart, Membership};
use crate::replication::core::ShardCore;
use crate::replication::io::{Output, SnapshotId, SnapshotSeal};
use crate::replication::members;
use crate::replication::purge::{PurgeBounds, purge_point};
use crate::replication::snapshots::{Receiver, Sender};
use crate::replication::wire::{self, Chunk, Frame};
use crate::types::ids::{LogIndex, Term};
use crate::types::limits::{REPORT_TICKS, SNAPSHOT_PATIENCE_TICKS, SNAPSHOT_RESEND_TICKS};
use raft::prelude::{Message, Snapshot, SnapshotStatus};
use raft::{ProgressState, StateRole, Storage};

/// The streams that a leader sends: one at a time.
#[derive(Default)]
pub(crate) struct Outgoing {
    sender: Option<Sender>,
    /// Staged by the receiver, not yet taken over by its raft.
    complete: Option<Complete>,
    count: u64,
}

struct Complete {
    to: u64,
    seal: SnapshotSeal,
    ticks: u32,
}

impl Outgoing {
    /// The log from here on is needed by a snapshot in flight.
    fn held(&self) -> Option<LogIndex> {
        let sending = self.sender.as_ref().map(|sender| sender.from.index);
        sending.or(self.complete.as_ref().map(|complete| complete.seal.from.index))
    }

    pub(crate) fn receiver(&self) -> Option<u64> {
        let sending = self.sender.as_ref().map(|sender| sender.to);
        sending.or(self.complete.as_ref().map(|complete| complete.to))
    }
}

impl ShardCore {
    /// Begins a stream that raft asked for.
    pub(crate) fn begin_stream(&mut self, out: &mut Vec<Output>) {
        let wanted = self.raw.store().shelf.borrow_mut().wanted.take();
        let Some(to) = wanted.filter(|_| self.outgoing.receiver().is_none()) else { return };
        // The group as of the applied index; unknown while a restarted state machine is behind it. And the receiver
        // may have been removed since: nobody would end the stream.
        let group = self.memberships.front().expect("a core knows its group");
        let stays = members::contains(group, to) && members::contains(self.members(), to);
        let known = group.index <= self.applied && stays;
        if self.raw.raft.state != StateRole::Leader || !self.is_whole() || !known {
            return;
        }
        let Ok(term) = self.raw.store().term(self.applied.0) else { return };
        let from = LogStart { index: self.applied, term: Term(term) };
        self.outgoing.count += 1;
        let leader = self.options.peer_id;
        let id = SnapshotId { term: Term(self.raw.raft.term), leader, number: self.outgoing.count };
        self.outgoing.sender = Some(Sender::begin(id, to, from, group.clone(), out));
    }

    pub(crate) fn exported(
        &mut self,
        snapshot: SnapshotId,
        bytes: Vec<u8>,
        next: Option<Vec<u8>>,
        applied: LogIndex,
        out: &mut Vec<Output>,
    ) {
        let shown = self.group_at(applied);
        let Some(sender) = self.outgoing.sender.as_mut().filter(|sender| sender.id == snapshot) else { return };
        if let Some((from, members)) = shown {
            sender.shows(from, members);
        }
        if !sender.exported(bytes, next, applied, out) {
            self.give_up_stream(out);
        }
    }

    /// What the log says of an index that is applied: its term, and the group as of it.
    fn group_at(&self, applied: LogIndex) -> Option<(LogStart, Membership)> {
        let term = self.raw.store().term(applied.0).ok()?;
        let members = self.memberships.iter().rfind(|group| group.index <= applied)?;
        Some((LogStart { index: applied, term: Term(term) }, members.clone()))
    }

    pub(crate) fn export_lost(&mut self, snapshot: SnapshotId, out: &mut Vec<Output>) {
        if self.outgoing.sender.as_ref().is_some_and(|sender| sender.id == snapshot) {
            self.give_up_stream(out);
        }
    }

    pub(crate) fn chunk_ack(&mut self, from: u64, snapshot: SnapshotId, next: u32, out: &mut Vec<Output>) {
        let sender = self.outgoing.sender.as_mut().filter(|sender| sender.id == snapshot && sender.to == from);
        let Some(seal) = sender.and_then(|sender| sender.acknowledged(next, out)) else { return };
        self.outgoing.sender = None;
        out.push(Output::ExportOver { snapshot });
        let mut complete = Snapshot::default();
        let metadata = complete.mut_metadata();
        metadata.index = seal.from.index.0;
        metadata.term = seal.from.term.0;
        metadata.set_conf_state(members::to_conf_state(&seal.members));
        complete.data = crate::types::codec::encode(&seal).into();
        self.raw.store().shelf.borrow_mut().complete = Some((from, complete));
        self.outgoing.complete = Some(Complete { to: from, seal, ticks: 0 });
        if self.raw.raft.prs().get(from).is_some() {
            self.raw.raft.send_append(from);
        }
    }

    pub(crate) fn stream_lost(&mut self, from: u64, snapshot: SnapshotId, out: &mut Vec<Output>) {
        let sending = self.outgoing.sender.as_ref().is_some_and(|sender| sender.id == snapshot && sender.to == from);
        let complete = self.outgoing.complete.as_ref();
        let complete = complete.is_some_and(|complete| complete.seal.snapshot == snapshot && complete.to == from);
        if sending || complete {
            self.give_up_stream(out);
        }
    }

    fn give_up_stream(&mut self, out: &mut Vec<Output>) {
        if let Some(sender) = self.outgoing.sender.take() {
            out.push(Output::ExportOver { snapshot: sender.id });
        }
        self.raw.store().shelf.borrow_mut().complete = None;
        if let Some(complete) = self.outgoing.complete.take() {
            self.raw.report_snapshot(complete.to, SnapshotStatus::Failure);
        }
    }

    pub(crate) fn drop_stream_without(&mut self, group: &Membership, out: &mut Vec<Output>) {
        if self.outgoing.receiver().is_some_and(|to| !members::contains(group, to)) {
            self.give_up_stream(out);
        }
    }

    /// Streams belong to one leader's term.
    pub(crate) fn drop_stale_stream(&mut self, out: &mut Vec<Output>) {
        let term = self.raw.raft.term;
        self.give_up_stream(out);
        let stale = |incoming: &mut Receiver| !incoming.installing && incoming.id.term.0 != term;
        if let Some(incoming) = self.incoming.take_if(stale) {
            out.push(Output::StageDrop { snapshot: incoming.id });
        }
    }

    pub(crate) fn tick_stream(&mut self, out: &mut Vec<Output>) {
        if self.outgoing.sender.as_mut().is_some_and(|sender| !sender.tick(out)) {
            self.give_up_stream(out);
        }
        self.tick_complete(out);
        self.report_to_leader(out);
    }

    /// Waits until the receiver's raft has taken the snapshot over; raft never repeats the message by itself.
    fn tick_complete(&mut self, out: &mut Vec<Output>) {
        let Some(complete) = self.outgoing.complete.as_mut() else { return };
        complete.ticks += 1;
        let (to, ticks) = (complete.to, complete.ticks);
        let Some(progress) = self.raw.raft.prs().get(to) else { return self.give_up_stream(out) };
        if progress.matched >= complete.seal.from.index.0 {
            self.outgoing.complete = None;
            self.raw.store().shelf.borrow_mut().complete = None;
        } else if ticks >= SNAPSHOT_PATIENCE_TICKS {
            self.give_up_stream(out);
        } else if ticks.is_multiple_of(SNAPSHOT_RESEND_TICKS) && progress.state == ProgressState::Snapshot {
            self.raw.report_snapshot(to, SnapshotStatus::Failure);
        }
    }

    /// A learner tells its leader whether it may be promoted, a voter that it must not lead yet.
    fn report_to_leader(&mut self, out: &mut Vec<Output>) {
        let learns = self.members().learners.contains(&self.options.peer_id);
        let reports = learns || self.is_behind();
        if !reports || !self.ticks.is_multiple_of(u64::from(REPORT_TICKS)) {
            return;
        }
        if let Some(to) = self.leader().filter(|leader| *leader != self.options.peer_id) {
            let report = Frame::Report { whole: self.is_whole(), applied: self.applied };
            out.push(Output::Send { to, bytes: report.encode() });
        }
    }

    pub(crate) fn chunk(&mut self, from: u64, chunk: Chunk, out: &mut Vec<Output>) {
        let (snapshot, number) = (chunk.snapshot, chunk.number);
        let raft = &self.raw.raft;
        let current = snapshot.leader == from && snapshot.term.0 == raft.term && raft.state != StateRole::Leader;
        if !current || self.incoming.as_ref().is_some_and(|one| one.installing || one.id > snapshot) {
            return;
        }
        let known = self.incoming.as_ref().is_some_and(|one| one.id == snapshot);
        if !known && number != 0 {
            out.push(Output::Send { to: from, bytes: Frame::StreamLost { snapshot }.encode() });
            return;
        }
        if !known {
            self.incoming = Some(Receiver::new(snapshot));
        }
        let incoming = self.incoming.as_mut().expect("the stream is known now");
        if let Some(answer) = incoming.chunk(chunk, out) {
            out.push(Output::Send { to: from, bytes: answer.encode() });
        }
    }

    pub(crate) fn staged(&mut self, snapshot: SnapshotId, number: u32, out: &mut Vec<Output>) {
        if let Some(incoming) = self.incoming.as_mut().filter(|incoming| incoming.id == snapshot) {
            let answer = incoming.staged(number);
            out.push(Output::Send { to: snapshot.leader, bytes: answer.encode() });
        }
    }

    /// raft's own snapshot message: only with a complete stage behind it.
    pub(crate) fn snapshot_message(&mut self, message: Message, out: &mut Vec<Output>) {
        let metadata = message.get_snapshot().get_metadata();
        let Ok(seal) = wire::decode_seal(&message.get_snapshot().data) else { return };
        let fits = seal.from == LogStart { index: LogIndex(metadata.index), term: Term(metadata.term) }
            && members::to_conf_state(&seal.members) == *metadata.get_conf_state();
        let incoming = self.incoming.as_ref();
        if !fits || message.term < self.raw.raft.term || incoming.is_some_and(|incoming| incoming.installing) {
            return;
        }
        if incoming.and_then(Receiver::complete) != Some(&seal) {
            let lost = Frame::StreamLost { snapshot: seal.snapshot };
            out.push(Output::Send { to: message.from, bytes: lost.encode() });
            return;
        }
        // A refusal is seen below: raft then holds no snapshot.
        let _ = self.raw.step(message);
        if self.raw.snap().is_some() {
            self.incoming.as_mut().expect("a complete stage is known").installing = true;
        } else if let Some(incoming) = self.incoming.take() {
            out.push(Output::StageDrop { snapshot: incoming.id });
        }
    }

    pub(crate) fn installed(&mut self, snapshot: SnapshotId, out: &mut Vec<Output>) {
        let matches = |incoming: &mut Receiver| incoming.installing && incoming.id == snapshot;
        let Some(seal) = self.incoming.take_if(matches).and_then(|incoming| incoming.seal) else { return };
        self.whole_at = self.whole_at.max(seal.to_index);
        self.on_applied(seal.from.index, out);
    }

    pub(crate) fn purge(&mut self, durable: LogIndex, cursor: LogIndex, out: &mut Vec<Output>) {
        let raft = &self.raw.raft;
        let others = raft.prs().iter().filter(|(id, _)| **id != raft.id);
        let slowest = others.map(|(_, progress)| LogIndex(progress.matched)).min();
        let bounds = PurgeBounds {
            durable: durable.min(self.applied),
            cursor,
            slowest: slowest.filter(|_| raft.state == StateRole::Leader),
            snapshot: self.outgoing.held(),
            last: LogIndex(raft.raft_log.last_index()),
            keep: self.options.log_keep_entries,
            held_max: self.options.log_held_entries_max,
        };
        let index = purge_point(&bounds);
        let installing = self.incoming.as_ref().is_some_and(|incoming| incoming.installing);
        if installing || index <= self.raw.store().start().index {
            return;
        }
        let Ok(term) = self.raw.store().term(index.0) else { return };
        let start = LogStart { index, term: Term(term) };
        self.raw.mut_store().purge(start);
        out.push(Output::Purge { start });
    }
}

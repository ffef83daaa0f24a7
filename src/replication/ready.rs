//! From raft's `Ready` to outputs, and back once they are durable.
//!
//! Kept here: what a follower or candidate says waits for the append it rests on; an answer to a heartbeat rests on its
//! term alone, so that a slow disk does not look like a lost peer; raft hears of durability in order; a committed entry is handed out once, in order; a membership change takes effect when it is handed out.

use crate::persistence::log::{HardState as SavedHardState, LogAppend, LogEntry, LogStart};
use crate::replication::boot::CoreError;
use crate::replication::core::ShardCore;
use crate::replication::io::{Committed, HaltReason, Output, SnapshotSeal};
use crate::replication::members;
use crate::replication::storage::{entry_tag, from_raft};
use crate::replication::wire;
use crate::types::ids::{LogIndex, Term};
use crate::types::limits::{COMMITTED_BYTES_MAX, MEMBER_CHANGE_BYTES_MAX};
use protobuf::Message as _;
use raft::Storage;
use raft::prelude::{ConfChangeV2, Entry, EntryType, Message, MessageType, Ready};
use std::collections::VecDeque;

/// An append whose durability is awaited, with what must not be said before.
pub(crate) struct Awaiting {
    ready: u64,
    /// `None`: nothing to write, but something to say in its turn.
    append: Option<u64>,
    messages: Vec<Message>,
    install: Option<SnapshotSeal>,
}

impl ShardCore {
    pub(crate) fn drain(&mut self, out: &mut Vec<Output>) {
        while !self.halted && self.raw.has_ready() {
            let ready = self.raw.ready();
            self.handle_ready(ready, out);
            self.observe(out);
        }
        if !self.halted {
            self.begin_stream(out);
        }
    }

    fn handle_ready(&mut self, mut ready: Ready, out: &mut Vec<Output>) {
        self.send(ready.take_messages(), out);
        for read in ready.take_read_states() {
            self.reads.confirm(&read.request_ctx, read.index);
        }
        let committed = ready.take_committed_entries();
        let must_write = ready.must_sync();
        let number = ready.number();
        if let Some(hard_state) = ready.hs() {
            if hard_state.term > self.term_written.0 {
                self.term_written = (hard_state.term, self.appends + 1);
            }
            self.unsaved_hard_state = Some(hard_state.clone());
        }
        let messages = self.send_alive(ready.take_persisted_messages(), out);
        let mut awaiting = Awaiting { ready: number, append: None, messages, install: None };
        let start = self.take_snapshot(&ready, &mut awaiting.install);
        let entries = ready.take_entries();
        self.raw.mut_store().append(&entries);
        self.raw.advance_append_async(ready);
        if must_write || self.founding.is_some() {
            awaiting.append = Some(self.append(start, entries.iter().map(from_raft).collect(), out));
        }
        #[cfg(debug_assertions)]
        if self.defects.send_before_persisted {
            let messages = std::mem::take(&mut awaiting.messages);
            self.send(messages, out);
        }
        self.awaiting.push_back(awaiting);
        self.release(out);
        self.deliver(committed, out);
        self.answer_reads(out);
    }

    /// A snapshot that raft took over: the log begins anew.
    fn take_snapshot(&mut self, ready: &Ready, install: &mut Option<SnapshotSeal>) -> Option<LogStart> {
        if ready.snapshot().is_empty() {
            return None;
        }
        let seal = self.incoming.as_ref().and_then(|incoming| incoming.seal.clone());
        let seal = seal.expect("raft takes only snapshots that are staged");
        self.raw.mut_store().reset(seal.from);
        self.memberships = VecDeque::from([seal.members.clone()]);
        self.unsaved_members = true;
        let start = seal.from;
        *install = Some(seal);
        Some(start)
    }

    fn append(&mut self, start: Option<LogStart>, entries: Vec<LogEntry>, out: &mut Vec<Output>) -> u64 {
        self.appends += 1;
        let membership = std::mem::take(&mut self.unsaved_members)
            .then(|| self.memberships.back().expect("a core knows its group").clone());
        let hard_state = self.unsaved_hard_state.take().map(|state| SavedHardState {
            term: Term(state.term),
            vote: state.vote,
            commit: LogIndex(state.commit),
        });
        let start = start.or(self.founding.take());
        let (shard, number) = (self.options.shard, self.appends);
        out.push(Output::Append(LogAppend { shard, number, entries, hard_state, membership, start }));
        number
    }

    pub(crate) fn persisted(&mut self, number: u64, out: &mut Vec<Output>) {
        self.persisted = self.persisted.max(number.min(self.appends));
        self.release(out);
    }

    /// Everything whose turn has come: tells raft, says what was held back.
    fn release(&mut self, out: &mut Vec<Output>) {
        let mut ready = None;
        while let Some(front) = self.awaiting.front() {
            if front.append.is_some_and(|append| append > self.persisted) {
                break;
            }
            let front = self.awaiting.pop_front().expect("the queue has a front");
            ready = Some(front.ready);
            self.send(front.messages, out);
            if let Some(seal) = front.install {
                out.push(Output::Install { seal });
            }
        }
        if let Some(number) = ready {
            self.raw.on_persist_ready(number);
            let persisted = self.raw.raft.raft_log.persisted;
            self.raw.mut_store().evict(persisted);
        }
    }

    /// Sends the answers to heartbeats once their term is durable; returns the other messages.
    fn send_alive(&mut self, messages: Vec<Message>, out: &mut Vec<Output>) -> Vec<Message> {
        if self.term_written.1 > self.persisted {
            return messages;
        }
        let is_alive = |message: &Message| message.get_msg_type() == MessageType::MsgHeartbeatResponse;
        let (alive, others) = messages.into_iter().partition(is_alive);
        self.send(alive, out);
        others
    }

    fn send(&mut self, messages: Vec<Message>, out: &mut Vec<Output>) {
        for message in messages.iter().filter(|message| wire::is_sendable(message)) {
            let bytes = wire::encode_raft(message);
            out.push(Output::Send { to: message.to, bytes });
        }
    }

    fn deliver(&mut self, committed: Vec<Entry>, out: &mut Vec<Output>) {
        if committed.is_empty() {
            return;
        }
        let mut batch = Vec::with_capacity(committed.len());
        for entry in committed {
            let tags = self.proposals.committed(entry.index, entry.term);
            let is_normal = entry.get_entry_type() == EntryType::EntryNormal;
            if !is_normal && self.apply_members(&entry, out).is_none() {
                return self.halt(HaltReason::DamagedEntry, out);
            }
            batch.push(Committed {
                index: LogIndex(entry.index),
                term: Term(entry.term),
                entry_type: entry_tag(entry.get_entry_type()),
                payload: if is_normal { entry.data.to_vec() } else { Vec::new() },
                tags,
            });
        }
        out.push(Output::Apply(batch));
        if self.unsaved_members {
            self.appends += 1;
            let membership = self.memberships.back().cloned();
            self.unsaved_members = false;
            let (shard, number) = (self.options.shard, self.appends);
            let append = LogAppend { shard, number, entries: Vec::new(), hard_state: None, membership, start: None };
            out.push(Output::Append(append));
        }
    }

    /// A membership change takes effect when it is committed here. `None`: the entry is damaged.
    fn apply_members(&mut self, entry: &Entry, out: &mut Vec<Output>) -> Option<()> {
        let known = self.memberships.back().expect("a core knows its group").index;
        if entry.index <= known.0 {
            return Some(());
        }
        let change = parse_change(entry)?;
        let conf_state = self.raw.apply_conf_change(&change).ok()?;
        let members = members::from_conf_state(LogIndex(entry.index), &conf_state);
        self.memberships.push_back(members.clone());
        self.unsaved_members = true;
        let tag = self.lead.change_committed(entry.index, entry.term);
        out.push(Output::Members { tag, members });
        self.after_members(out);
        Some(())
    }

    /// Changes that the state machine had applied, but whose membership was not durable yet.
    pub(crate) fn catch_up_members(&mut self) -> Result<(), CoreError> {
        let known = self.memberships.back().expect("a core knows its group").index.0;
        let from = (known + 1).max(self.raw.store().start().index.0 + 1);
        let mut next = from;
        while next <= self.applied.0 {
            let damaged = CoreError::DamagedLog { index: LogIndex(next) };
            let context = raft::GetEntriesContext::empty(false);
            let to = self.applied.0 + 1;
            let entries = self.raw.store().entries(next, to, COMMITTED_BYTES_MAX, context).map_err(|_| damaged)?;
            for entry in &entries {
                if entry.get_entry_type() != EntryType::EntryNormal {
                    self.apply_members(entry, &mut Vec::new()).ok_or(damaged)?;
                }
            }
            next += entries.len() as u64;
        }
        Ok(())
    }
}

fn parse_change(entry: &Entry) -> Option<ConfChangeV2> {
    // Only the second form is ever proposed.
    let ours = entry.get_entry_type() == EntryType::EntryConfChangeV2 && entry.data.len() <= MEMBER_CHANGE_BYTES_MAX;
    ours.then(|| ConfChangeV2::parse_from_bytes(&entry.data).ok()).flatten()
}

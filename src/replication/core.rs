//! One replica of one shard's Raft group: `step(Input, &mut Vec<Output>)`, no I/O, no clock, no thread RNG.
//!
//! Kept here: nothing is said to a peer before what it rests on is durable (`Append` → `Persisted`, in order);
//! a committed entry is handed out once, in order; equal inputs give equal outputs, byte for byte.
//! What a leader does is in `leader`, durability and committed entries in `ready`, snapshots in `stream`.

#[cfg(debug_assertions)]
#[doc(hidden)]
pub use crate::replication::boot::Defects;
pub use crate::replication::boot::{CoreError, CoreOptions, FOUNDING};
pub use crate::replication::io::{
    Committed, DropFate, HaltReason, Input, MemberChange, MembersRefusal, Output, SnapshotId, SnapshotSeal,
};

use crate::persistence::log::{LoadedLog, LogReader, LogStart, Membership};
use crate::replication::boot::{config, settle};
use crate::replication::leader::Leadership;
use crate::replication::members;
use crate::replication::proposals::Proposals;
use crate::replication::reads::Reads;
use crate::replication::ready::Awaiting;
use crate::replication::snapshots::Receiver;
use crate::replication::storage::CoreStorage;
use crate::replication::stream::Outgoing;
use crate::replication::wire::Frame;
use crate::types::ids::{Claim, LogIndex, Term};
use crate::types::limits::HEIR_LAG_MAX;
use raft::prelude::{Entry, HardState, Message, MessageType, RawNode};
use raft::{INVALID_ID, StateRole};
use std::collections::VecDeque;

/// Ticks until the first of those whose leader's node was lost stands for election: the others hear of the loss meanwhile.
const HURRY_TICKS_FIRST: u64 = 2;
/// Ticks between one of them and the next. Two who stand at once take each other's votes and wait for a whole election timeout:
/// an election, with its vote on disk, takes less than this.
const HURRY_TICKS_APART: u64 = 4;

/// Whether a replica stands for election. It votes for others in any case, and the only voter of a group always stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Standing {
    #[default]
    Freely,
    /// Only when its leader hands the leadership to it: it is led by a worse one than by none.
    WhenNamed,
    Never,
}

/// See the module's documentation.
pub struct ShardCore {
    pub(crate) options: CoreOptions,
    pub(crate) raw: RawNode<CoreStorage>,
    random: u64,
    election_timeout: usize,
    /// Ticks until this replica stands for election because its leader is gone; 0 when it does not.
    hurry_ticks: u64,
    pub(crate) role: (StateRole, u64),
    pub(crate) applied: LogIndex,
    pub(crate) awaiting: VecDeque<Awaiting>,
    pub(crate) appends: u64,
    pub(crate) persisted: u64,
    pub(crate) unsaved_hard_state: Option<HardState>,
    /// The term as last written, and the append that it is in.
    pub(crate) term_written: (u64, u64),
    pub(crate) founding: Option<LogStart>,
    pub(crate) unsaved_members: bool,
    /// The group at the applied index and after each later change; never empty.
    pub(crate) memberships: VecDeque<Membership>,
    pub(crate) proposals: Proposals,
    pub(crate) reads: Reads,
    pub(crate) lead: Leadership,
    pub(crate) outgoing: Outgoing,
    pub(crate) incoming: Option<Receiver>,
    /// Not a whole state before this is applied: no election, no promotion.
    pub(crate) whole_at: LogIndex,
    pub(crate) ticks: u64,
    standing: Standing,
    pub(crate) halted: bool,
    #[cfg(debug_assertions)]
    #[doc(hidden)]
    pub defects: Defects,
}

impl ShardCore {
    /// Starts a core on what its disk holds. `applied` is the durable applied index of the state machine.
    ///
    /// # Errors
    /// [`CoreError`]: the log and the state do not fit together, or are damaged.
    pub fn new(
        options: CoreOptions,
        log: LoadedLog,
        applied: LogIndex,
        reader: Box<dyn LogReader>,
    ) -> Result<Self, CoreError> {
        let (log, applied, founding) = settle(&options, log, applied)?;
        let members = log.membership;
        let mut hard_state = HardState::default();
        hard_state.term = log.hard_state.term.0;
        hard_state.vote = log.hard_state.vote;
        hard_state.commit = log.hard_state.commit.0.max(applied.0).max(log.start.index.0);
        let conf_state = members::to_conf_state(&members);
        let storage = CoreStorage::new(hard_state.clone(), conf_state, log.start, &log.entries, reader);
        let config = config(&options, applied);
        let logger = slog::Logger::root(slog::Discard, slog::o!());
        let raw = RawNode::new(&config, storage, &logger).map_err(|_| CoreError::Options)?;
        let role = (raw.raft.state, raw.raft.term);
        let term_written = (hard_state.term, u64::from(founding.is_some()));
        let seed = [options.seed, options.peer_id, u64::from(options.shard.0), options.incarnation.0];
        let mut core = Self {
            whole_at: options.whole_at,
            random: seed.iter().fold(0, |mixed, part| mix(mixed ^ part)),
            options,
            raw,
            election_timeout: 0,
            hurry_ticks: 0,
            role,
            applied,
            awaiting: VecDeque::new(),
            appends: 0,
            persisted: 0,
            unsaved_hard_state: founding.map(|_| hard_state),
            term_written,
            unsaved_members: founding.is_some(),
            founding,
            memberships: VecDeque::from([members]),
            proposals: Proposals::default(),
            reads: Reads::default(),
            lead: Leadership::default(),
            outgoing: Outgoing::default(),
            incoming: None,
            ticks: 0,
            standing: Standing::default(),
            halted: false,
            #[cfg(debug_assertions)]
            defects: Defects::default(),
        };
        core.draw_election_timeout();
        core.catch_up_members()?;
        Ok(core)
    }

    /// Takes one input and does everything that follows from it.
    pub fn step(&mut self, input: Input, out: &mut Vec<Output>) {
        if self.halted {
            return;
        }
        self.take(input, out);
        self.drain(out);
    }

    /// Takes a batch of inputs, then flushes the proposals among them: fewer entries, messages and appends than one
    /// by one.
    pub fn step_many(&mut self, inputs: impl IntoIterator<Item = Input>, out: &mut Vec<Output>) {
        for input in inputs {
            if self.halted {
                return;
            }
            self.take(input, out);
        }
        self.step(Input::Flush, out);
    }

    fn take(&mut self, input: Input, out: &mut Vec<Output>) {
        match input {
            Input::Tick => self.tick(out),
            Input::Frame { from, bytes } => self.frame(from, &bytes, out),
            Input::Propose { tag, record } => self.propose(tag, &record, out),
            Input::Flush => self.flush(out),
            Input::Persisted { number } => self.persisted(number, out),
            Input::Applied { index } => self.on_applied(index, out),
            Input::PeerGone { peer } => self.peer_gone(peer),
            Input::Campaign => self.campaign(),
            Input::TransferLeader { to } => self.transfer(to, out),
            Input::ReadBarrier { tag } => self.read_barrier(tag, out),
            Input::ChangeMembers { tag, changes } => self.change_members(tag, &changes, out),
            Input::Purge { durable, cursor } => self.purge(durable, cursor, out),
            Input::Exported { snapshot, bytes, next, applied } => self.exported(snapshot, bytes, next, applied, out),
            Input::ExportLost { snapshot } => self.export_lost(snapshot, out),
            Input::Staged { snapshot, number } => self.staged(snapshot, number, out),
            Input::Installed { snapshot } => self.installed(snapshot, out),
        }
        self.observe(out);
    }

    fn tick(&mut self, out: &mut Vec<Output>) {
        self.ticks += 1;
        self.flush(out);
        if !self.may_campaign(false) {
            self.hold_back();
        }
        self.raw.tick();
        self.hurry();
        self.observe(out);
        self.tick_leader(out);
        self.tick_stream(out);
    }

    /// Keeps raft from standing for election in the next tick, and from nothing else: the lease of a leader that is not heard of
    /// ends as on any other voter, or no other could be elected, and a leader goes on to look for its quorum.
    fn hold_back(&mut self) {
        if self.raw.raft.state == StateRole::Leader {
            return;
        }
        let longest = (2 * self.options.election_ticks).saturating_sub(1);
        let raft = &mut self.raw.raft;
        raft.set_randomized_election_timeout(longest);
        raft.election_elapsed = raft.election_elapsed.min(longest.saturating_sub(2));
    }

    fn campaign(&mut self) {
        if self.may_campaign(false) {
            // Refused only while a configuration change is unapplied; the election timeout tries again.
            let _ = self.raw.campaign();
        }
    }

    /// Forgets a leader whose node is gone, so that its lease binds this voter no more, and stands for election soon. A leader
    /// that was to hand over to it goes on instead of taking nothing until an election timeout is over.
    fn peer_gone(&mut self, peer: u64) {
        let raft = &mut self.raw.raft;
        if raft.lead_transferee == Some(peer) {
            raft.abort_leader_transfer();
        }
        if raft.state == StateRole::Follower && raft.leader_id == peer {
            let term = raft.term;
            raft.become_follower(term, INVALID_ID);
            self.hurry_ticks = HURRY_TICKS_FIRST + self.place_in_line(peer) * HURRY_TICKS_APART;
        }
    }

    /// Whose turn it is to stand for election when a peer is gone, from 0: the other voters in turn, another one first in each
    /// shard, so that what one node led is spread over the others.
    fn place_in_line(&self, gone: u64) -> u64 {
        let line: Vec<u64> = self.members().voters.iter().copied().filter(|voter| *voter != gone).collect();
        let Some(place) = line.iter().position(|voter| *voter == self.options.peer_id) else { return 0 };
        let first = mix(u64::from(self.options.shard.0)) % line.len() as u64;
        (place as u64 + line.len() as u64 - first) % line.len() as u64
    }

    /// Counts down to the election after a leader was lost, unless one was heard of meanwhile.
    fn hurry(&mut self) {
        let raft = &self.raw.raft;
        if self.hurry_ticks == 0 {
            return;
        }
        self.hurry_ticks -= 1;
        if raft.state != StateRole::Follower || raft.leader_id != INVALID_ID {
            self.hurry_ticks = 0;
        } else if self.hurry_ticks == 0 {
            self.campaign();
        }
    }

    /// An election follows within a few ticks.
    pub(crate) fn is_hurried(&self) -> bool {
        self.hurry_ticks > 0
    }

    /// Entries of this log that are not yet applied here.
    #[must_use]
    pub fn unapplied(&self) -> u64 {
        self.raw.raft.raft_log.last_index().saturating_sub(self.applied.0)
    }

    /// Whether this replica stands for election from now on.
    pub fn stand(&mut self, standing: Standing) {
        self.standing = standing;
    }

    /// `named`: its leader hands the leadership to it. A replica whose state is not whole must not lead. And raft-rs asserts that
    /// a lone voter's log is durable when it elects itself.
    fn may_campaign(&self, named: bool) -> bool {
        let log = &self.raw.raft.raft_log;
        let durable = log.persisted == log.last_index();
        let alone = self.raw.raft.prs().is_singleton();
        let stands = match self.standing {
            Standing::Freely => true,
            Standing::WhenNamed => named || alone,
            Standing::Never => alone,
        };
        self.raw.raft.promotable() && self.is_whole() && (durable || !alone) && stands
    }

    pub(crate) fn is_whole(&self) -> bool {
        self.applied >= self.whole_at && self.incoming.as_ref().is_none_or(|incoming| !incoming.installing)
    }

    /// A voter that has not applied what is long committed, so that it could not lead at once.
    pub(crate) fn is_behind(&self) -> bool {
        !self.is_whole() || self.applied.0 + HEIR_LAG_MAX < self.raw.raft.raft_log.committed
    }

    fn frame(&mut self, from: u64, bytes: &[u8], out: &mut Vec<Output>) {
        // A frame that does not decode changes nothing; raft copes with its loss.
        let Ok(frame) = Frame::decode(from, self.options.peer_id, bytes) else { return };
        match frame {
            Frame::Raft(message) => self.message(*message, out),
            Frame::Chunk(chunk) => self.chunk(from, chunk, out),
            Frame::ChunkAck { snapshot, next } => self.chunk_ack(from, snapshot, next, out),
            Frame::StreamLost { snapshot } => self.stream_lost(from, snapshot, out),
            Frame::Report { whole, applied } => self.lead.report(from, whole, applied, self.ticks),
        }
    }

    fn message(&mut self, message: Message, out: &mut Vec<Output>) {
        if self.counts_on_forgotten(&message) {
            return self.halt(HaltReason::LogForgot, out);
        }
        match message.get_msg_type() {
            MessageType::MsgTimeoutNow if !self.may_campaign(true) => {}
            MessageType::MsgAppendResponse if self.is_beyond_log(&message) => {}
            MessageType::MsgSnapshot => self.snapshot_message(message, out),
            _ => {
                // Raft refuses responses of peers that left the group; nothing follows from them.
                let _ = self.raw.step(message);
            }
        }
    }

    /// A current leader takes entries for committed that this log does not hold; raft-rs would panic.
    fn counts_on_forgotten(&self, message: &Message) -> bool {
        let log = &self.raw.raft.raft_log;
        let differs = |entry: &&Entry| entry.index >= log.first_index() && !log.match_term(entry.index, entry.term);
        let forgotten = match message.get_msg_type() {
            MessageType::MsgHeartbeat => message.commit > log.last_index(),
            MessageType::MsgAppend => {
                message.entries.iter().take_while(|entry| entry.index <= log.committed).any(|entry| differs(&entry))
            }
            _ => false,
        };
        forgotten && message.term >= self.raw.raft.term
    }

    /// A follower claims entries that this log never had; raft-rs would count with them.
    fn is_beyond_log(&self, message: &Message) -> bool {
        let beyond = message.index.max(message.reject_hint) > self.raw.raft.raft_log.last_index();
        beyond && message.term == self.raw.raft.term
    }

    pub(crate) fn halt(&mut self, why: HaltReason, out: &mut Vec<Output>) {
        self.halted = true;
        out.push(Output::Halt { why });
    }

    /// Looks at what a call did to the role. Called after every call into raft that may change it, so that no
    /// step-down is missed within a batch, and raft's thread RNG never decides.
    pub(crate) fn observe(&mut self, out: &mut Vec<Output>) {
        let role = (self.raw.raft.state, self.raw.raft.term);
        if role != self.role {
            let was_leader = self.role.0 == StateRole::Leader;
            self.role = role;
            self.draw_election_timeout();
            if was_leader {
                self.stepped_down(out);
            }
            self.drop_stale_stream(out);
            if role.0 == StateRole::Leader {
                self.align_heartbeats();
                self.claim_leadership();
            }
        }
        self.raw.raft.set_randomized_election_timeout(self.election_timeout);
    }

    /// Heartbeats leave at multiples of their interval, so that those of all groups of a node to one peer leave together.
    fn align_heartbeats(&mut self) {
        let into_interval = self.ticks % self.options.heartbeat_ticks as u64;
        (0..into_interval).for_each(|_| {
            self.raw.tick();
        });
    }

    fn draw_election_timeout(&mut self) {
        self.random = mix(self.random);
        let span = self.options.election_ticks as u64;
        self.election_timeout = self.options.election_ticks + (self.random % span) as usize;
        self.raw.raft.set_randomized_election_timeout(self.election_timeout);
    }

    pub(crate) fn on_applied(&mut self, index: LogIndex, out: &mut Vec<Output>) {
        if index <= self.applied {
            return;
        }
        self.applied = index;
        self.raw.advance_apply_to(index.0);
        while self.memberships.len() > 1 && self.memberships[1].index <= index {
            self.memberships.pop_front();
        }
        self.lead_if_claimed(out);
        self.answer_reads(out);
    }

    pub(crate) fn members(&self) -> &Membership {
        self.memberships.back().expect("a core knows its group")
    }

    pub(crate) fn claim_of(&self, term: Term) -> Claim {
        Claim { term, node: self.options.node, incarnation: self.options.incarnation }
    }

    pub(crate) fn leader(&self) -> Option<u64> {
        Some(self.raw.raft.leader_id).filter(|leader| *leader != INVALID_ID)
    }
}

/// SplitMix64: a fixed, well mixed sequence for election timeouts.
fn mix(value: u64) -> u64 {
    let mut mixed = value.wrapping_add(0x9E37_79B9_7F4A_7C15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    mixed ^ (mixed >> 31)
}

#[cfg(test)]
#[path = "loss_tests.rs"]
mod loss_tests;

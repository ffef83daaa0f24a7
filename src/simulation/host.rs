//! The host around a core: performs outputs in order, each with the delay and the failure of the day.

use crate::persistence::log::Membership;
use crate::replication::core::{DropFate, Input, Output, Standing};
use crate::simulation::event::{Event, Life, MS, NodeEvent, SECOND, Time};
use crate::simulation::hosting::Mail;
use crate::simulation::log_disk::{SHARD, Write};
use crate::simulation::options::Defect;
use crate::simulation::replica::Work;
use crate::simulation::world::{World, is_current};
use crate::types::codec;
use crate::types::record::Record;
use std::panic::{AssertUnwindSafe, catch_unwind};
use xxhash_rust::xxh3::xxh3_64;

/// How often the other clocks are looked at, and the rows of what is due soon: entities are woken ten seconds ahead.
const LOOK_EVERY: Time = 600 * MS;
const LOAD_EVERY: Time = 2 * SECOND;
/// Of so many times that a leader makes its state durable, somebody reads once.
const READ_EVERY: u64 = 3;

/// A record among all others.
#[must_use]
pub fn record_digest(record: &Record) -> u64 {
    xxh3_64(&codec::encode(record))
}

impl World {
    /// Starts a node's process.
    pub fn boot(&mut self, peer: u64) {
        let wall = self.true_wall();
        let Some(node) = self.nodes.get_mut(&peer).filter(|node| !node.lost) else { return };
        if let Err(error) = node.boot(&self.options, wall) {
            return self.fail(format!("INV-1: {peer} does not start again: {error}"));
        }
        let applied = node.state.state.applied(SHARD).expect("a whole state says how far it is");
        node.note_claims([applied.claim.term], node.steady_at(self.now, self.jumped));
        let members = node.core.as_ref().map(|core| core.status().members).unwrap_or_default();
        if !members.voters.is_empty() {
            node.count_clocks(&members.voters);
            let verdict = self.checks.members_agree(&members);
            self.hold(verdict);
        }
        let first = self.dice.below(100 * MS);
        let node = self.nodes.get_mut(&peer).expect("it was started");
        (node.ticked, node.ticks_by) = (self.now + first, self.now + first);
        for (delay, event) in
            [(first, NodeEvent::Tick), (first + MS, NodeEvent::LookAtClocks), (first + SECOND, NodeEvent::Settle)]
        {
            let event = self.nodes[&peer].event(event);
            self.after(delay, event);
        }
        self.note(|| format!("{peer} up"));
    }

    pub(super) fn hold(&mut self, verdict: Result<(), String>) {
        if let Err(breach) = verdict {
            self.fail(breach);
        }
    }

    pub fn node_event(&mut self, life: Life, event: NodeEvent) {
        let wall = self.true_wall();
        let Some(node) = self.nodes.get_mut(&life.peer).filter(|node| is_current(node, life)) else { return };
        if node.paused {
            node.deferred.push(event);
            return;
        }
        node.read_clock(wall);
        node.catch_up(self.now);
        let peer = life.peer;
        if let NodeEvent::Write { call } = event
            && node.freezes_at_write
            && node.hosting.lanes.sends_a_gift(call)
        {
            node.freezes_at_write = false;
            node.deferred.push(event);
            let length = self.dice.between(15, 25) * SECOND;
            self.freeze(peer, length);
            return;
        }
        match event {
            NodeEvent::Tick => {}
            NodeEvent::Synced { writes } => self.synced(peer, writes),
            NodeEvent::Applied => self.apply_next(peer),
            NodeEvent::Exported { snapshot, cursor } => self.export(peer, snapshot, cursor),
            NodeEvent::Staged { snapshot, number } => {
                node.state.sync();
                node.hosting.inputs.push(Input::Staged { snapshot, number });
            }
            NodeEvent::Settle => self.settle(peer),
            NodeEvent::LookAtClocks => self.look_at_clocks(peer),
            NodeEvent::Load if node.hosting.claim.is_none() => node.hosting.loads = false,
            NodeEvent::Load => {
                self.with_node(peer, |node, turn| node.load_due(turn));
                self.after(LOAD_EVERY, Event::Node(life, NodeEvent::Load));
            }
            NodeEvent::Wake { key, entity, armed } => node.on_timer(key, entity, armed),
            NodeEvent::Reload { key, entity } => node.hosting.mail.push_back((key, Mail::Reload { entity })),
            NodeEvent::LaneWake { desk, armed } => {
                self.with_node(peer, |node, turn| node.on_lane_wake(desk, armed, turn));
            }
            NodeEvent::GatheredLongEnough { group } => {
                self.with_node(peer, |node, turn| node.on_gathered(group, turn));
            }
            NodeEvent::Write { call } => self.with_node(peer, |node, turn| node.write_call(call, turn)),
            NodeEvent::Answered { call, token, answer } => {
                self.with_node(peer, |node, turn| node.on_answer(call, token, answer, turn));
            }
            NodeEvent::Call { source, slot, request } => {
                node.hosting.mail.push_back((request.target, Mail::Call { source, slot, request }));
            }
            NodeEvent::Ask { from } => {
                if let Some(ask) = self.ask_of(from.request) {
                    let node = self.nodes.get_mut(&peer).expect("it is current");
                    node.hosting.mail.push_back((ask.key, Mail::Ask { from, ask }));
                }
            }
        }
        self.settle_node(peer);
    }

    /// Hands one input to a core; a node that stands still gets it when it goes on, as far as it would in its socket.
    pub fn input(&mut self, peer: u64, input: Input) {
        let now = self.now;
        let Some(node) = self.nodes.get_mut(&peer).filter(|node| node.runs()) else { return };
        if !node.paused {
            node.catch_up(now);
        }
        node.hosting.inputs.push(input);
        if !node.paused {
            self.settle_node(peer);
        }
    }

    /// Runs mailboxes and core until both are empty.
    pub fn settle_node(&mut self, peer: u64) {
        loop {
            self.with_node(peer, |node, turn| node.run_mail(turn));
            let Some(node) = self.nodes.get_mut(&peer).filter(|node| node.runs()) else { return };
            let mut inputs = std::mem::take(&mut node.hosting.inputs);
            if inputs.is_empty() {
                return self.arm_tick(peer);
            }
            for input in &inputs {
                if let Input::Propose { tag, record } = input {
                    let digest = record_digest(record);
                    node.proposed.insert(*tag, digest);
                    self.checks.proposed(peer, digest);
                }
            }
            let flipped = node.flipped_log && node.flipped;
            let core = node.core.as_mut().expect("a running node has a core");
            let mut out = Vec::new();
            let mut step = || {
                if inputs.len() == 1 && !matches!(inputs[0], Input::Propose { .. }) {
                    core.step(inputs.remove(0), &mut out);
                } else {
                    core.step_many(std::mem::take(&mut inputs), &mut out);
                }
            };
            if !flipped {
                step();
            } else if catch_unwind(AssertUnwindSafe(step)).is_err() {
                // raft-rs ends the process over a log that it cannot read.
                return self.damaged(peer, "the log cannot be read");
            }
            for output in out {
                if self.is_tracing() && !matches!(output, Output::Send { .. } | Output::SendChunk { .. }) {
                    let line = without_payloads(&format!("{peer} {output:?}"));
                    self.note(|| line);
                }
                self.perform(peer, output);
            }
        }
    }

    /// Sees to it that the core's next tick that leads to something comes in time.
    fn arm_tick(&mut self, peer: u64) {
        let now = self.now;
        let Some(node) = self.nodes.get_mut(&peer) else { return };
        let life = node.life();
        if let Some(due) = node.tick_due() {
            self.after(due.saturating_sub(now), Event::Node(life, NodeEvent::Tick));
        }
    }

    fn perform(&mut self, peer: u64, output: Output) {
        let Some(node) = self.nodes.get_mut(&peer).filter(|node| node.runs()) else { return };
        match output {
            Output::Send { to, bytes } | Output::SendChunk { to, bytes } => self.send(peer, to, bytes),
            Output::Append(append) => self.write(peer, Write::Append(append)),
            Output::Purge { start } => self.write(peer, Write::Purge(start)),
            Output::Apply(batch) => self.queue(peer, Work::Apply(batch)),
            Output::Install { seal } => self.queue(peer, Work::Install(seal)),
            Output::Dropped { tag, fate } => self.dropped(peer, tag, fate),
            Output::Lead { claim } => {
                node.lead(claim);
                let load = (!std::mem::replace(&mut node.hosting.loads, true)).then(|| node.event(NodeEvent::Load));
                load.into_iter().for_each(|load| self.after(50 * MS, load));
                let verdict = self.checks.leads(claim);
                self.hold(verdict);
                self.note(|| format!("{peer} leads under {claim:?}"));
            }
            // A defect: the node that its shard is moved from goes on as if it were not.
            Output::StepDown { .. } if node.moved_away && self.options.defect == Defect::HostAfterMove => {}
            Output::StepDown { .. } => self.with_node(peer, |node, turn| node.step_down(turn)),
            Output::ReadReady { tag } => self.read_over(peer, tag, true),
            Output::ReadFailed { tag } => self.read_over(peer, tag, false),
            Output::Members { members, .. } => self.members_changed(&members),
            Output::MembersRefused { .. } | Output::ExportOver { .. } => {}
            Output::Export { snapshot, cursor, .. } => {
                let export = node.event(NodeEvent::Exported { snapshot, cursor });
                let delay = MS + self.dice.below(20 * MS);
                self.after(delay, export);
            }
            Output::Stage { snapshot, number, bytes, seal } => {
                if node.state.stage(&bytes, seal.as_ref()) {
                    let staged = node.event(NodeEvent::Staged { snapshot, number });
                    let delay = MS + self.dice.below(5 * MS);
                    self.after(delay, staged);
                }
            }
            Output::StageDrop { .. } => node.state.stage_drop(),
            Output::Halt { why } => self.fail(format!("INV-1: {peer} halts: {why:?}")),
        }
    }

    fn members_changed(&mut self, members: &Membership) {
        self.outcome.changes += 1;
        let verdict = self.checks.members_agree(members);
        self.hold(verdict);
    }

    fn write(&mut self, peer: u64, write: Write) {
        let defect = self.options.defect;
        let Some(node) = self.nodes.get_mut(&peer) else { return };
        let early = match (&write, defect) {
            (Write::Append(append), Defect::SkipFsync) => Some(append.number),
            (Write::Append(_) | Write::Purge(_), _) => None,
        };
        if node.log.write(write).is_err() {
            // Any error of the log ends the process.
            return self.crash(peer, false);
        }
        if let Some(number) = early {
            node.hosting.inputs.push(Input::Persisted { number });
        }
        self.sync_on(peer);
    }

    fn sync_on(&mut self, peer: u64) {
        let Some(node) = self.nodes.get_mut(&peer) else { return };
        let writes = node.log.unsynced();
        if node.syncing || writes == 0 {
            return;
        }
        node.syncing = true;
        let synced = node.event(NodeEvent::Synced { writes });
        let slow = node.slow_disk;
        let delay = if slow { self.dice.between(50 * MS, 700 * MS) } else { self.dice.between(MS / 5, 3 * MS) };
        self.after(delay, synced);
    }

    /// A sync ended: what was written when it began is durable.
    fn synced(&mut self, peer: u64, writes: usize) {
        let Some(node) = self.nodes.get_mut(&peer) else { return };
        node.syncing = false;
        if let Some(number) = node.log.sync(writes)
            && self.options.defect != Defect::SkipFsync
        {
            node.hosting.inputs.push(Input::Persisted { number });
        }
        self.sync_on(peer);
    }

    fn dropped(&mut self, peer: u64, tag: u64, fate: DropFate) {
        let Some(node) = self.nodes.get_mut(&peer) else { return };
        let digest = node.proposed.remove(&tag);
        let broken = node.moved_away && self.options.defect == Defect::HostAfterMove;
        let hosting = node.hosting.claim.is_some() && !broken;
        node.record_dropped(tag, fate);
        match (fate, digest) {
            (DropFate::NotApplied, Some(digest)) => {
                self.outcome.dropped += 1;
                let verdict = self.checks.refused(peer, digest);
                self.hold(verdict);
            }
            (DropFate::Unknown, _) if hosting => {
                self.fail(format!("INV-6: {peer} says unknown before it stepped down"));
            }
            (DropFate::NotApplied, None) | (DropFate::Unknown, _) => {}
        }
    }

    fn settle(&mut self, peer: u64) {
        let next = SECOND + self.dice.below(SECOND);
        let Some(node) = self.nodes.get_mut(&peer) else { return };
        if !node.state.sync() {
            return self.crash(peer, false);
        }
        let durable = node.state.applied();
        if std::mem::replace(&mut node.settled, durable) != durable {
            node.hosting.inputs.push(Input::Purge { durable, cursor: durable });
        }
        let settle = node.event(NodeEvent::Settle);
        node.settlings += 1;
        // Somebody reads through the leader.
        if node.hosting.claim.is_some() && node.settlings.is_multiple_of(READ_EVERY) {
            let tag = (1 << 62) | self.now;
            node.reads.insert(tag, self.checks.acked_index);
            node.hosting.inputs.push(Input::ReadBarrier { tag });
        }
        self.after(next, settle);
    }

    fn look_at_clocks(&mut self, peer: u64) {
        let voters = self.checks.members().map(|members| members.voters.clone()).unwrap_or_default();
        let wall = self.true_wall();
        let others: Vec<(u64, bool, crate::types::time::Timestamp)> = voters
            .iter()
            .filter(|other| **other != peer)
            .filter_map(|other| self.nodes.get(other))
            .map(|other| {
                let linked = !self.cut.contains(&(peer, other.peer)) && !self.cut.contains(&(other.peer, peer));
                (other.peer, other.runs() && !other.paused && linked, other.own_wall(wall))
            })
            .collect();
        let mut hand_over = false;
        self.with_node(peer, |node, turn| hand_over = node.look_at_clocks(&voters, &others, turn));
        if hand_over && let Some(to) = self.dice.pick(&voters) {
            self.outcome.hand_overs += 1;
            let node = self.nodes.get_mut(&peer).expect("it looked");
            node.hosting.inputs.push(Input::TransferLeader { to });
        }
        let Some(node) = self.nodes.get_mut(&peer) else { return };
        let off = node.clocks.am_off();
        if let Some(core) = &mut node.core {
            core.stand(if off { Standing::Never } else { Standing::Freely });
        }
        let look = node.event(NodeEvent::LookAtClocks);
        self.after(LOOK_EVERY, look);
    }
}

/// Byte arrays say nothing in a trace.
fn without_payloads(line: &str) -> String {
    let mut parts = line.split("payload: [");
    let mut short = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        short.push_str("payload");
        short.push_str(part.split_once(']').map_or("", |(_, rest)| rest));
    }
    short.chars().take(400).collect()
}

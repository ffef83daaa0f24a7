//! One shard on this node as a ractor actor: it drives the Raft core, hosts the live entities while it leads, and
//! supervises them.

mod handing;
mod hosting;
mod moving;

use crate::actors::applier::{ApplierHandle, ApplyTask, Fated};
use crate::actors::entity::EntityMsg;
use crate::actors::loading::Loaded;
use crate::actors::shared::Shared;
use crate::persistence::log::Membership;
use crate::persistence::log_writer::LogWriter;
use crate::persistence::transfer::Exported;
use crate::replication::core::{
    DropFate, Input, MemberChange, MembersRefusal, Output, ShardCore, SnapshotId, Standing,
};
use crate::replication::transport::Lane;
use crate::sharding::disk;
use crate::types::ids::{Claim, EntityKey, LogIndex, META_SHARD, NodeId, ShardId, Version};
use crate::types::record::{Record, RecordFate, VoidReason};
use crate::types::takeovers::Takeovers;
use crate::types::time::{BootMillis, Millis};
use handing::HandOver;
use ractor::{Actor, ActorId, ActorProcessingErr, ActorRef, SupervisionEvent};
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use tokio::sync::oneshot;
use tokio::time::Instant;

/// Messages of a shard.
pub enum ShardMsg {
    /// For an entity that was not live when the sender looked.
    Deliver(EntityKey, Box<EntityMsg>),
    Propose {
        record: Record,
        /// Under which the record was decided.
        claim: Claim,
        from: ActorRef<EntityMsg>,
    },
    /// A frame of a peer of the group, for the replica with id `to`.
    Frame {
        from: u64,
        to: u64,
        bytes: Vec<u8>,
    },
    /// A chunk of a snapshot was read; `None` when the export is over.
    Exported {
        snapshot: SnapshotId,
        exported: Option<Exported>,
    },
    Staged {
        snapshot: SnapshotId,
        number: u32,
    },
    Installed {
        snapshot: SnapshotId,
        takeovers: Arc<Takeovers>,
    },
    /// One step of a membership change; the answer is what the group said, or silence when leadership was lost.
    ChangeMembers(Vec<MemberChange>, oneshot::Sender<Result<Membership, MembersRefusal>>),
    /// Hands leadership to this peer, if it can.
    TransferLeader(u64),
    /// Turns the queued proposals into entries: the batch is whatever came before it in the mailbox.
    Flush,
    Persisted(u64),
    Applied {
        index: LogIndex,
        fates: Vec<Fated>,
        /// When a claim was among the entries.
        takeovers: Option<Arc<Takeovers>>,
    },
    /// So many ticks have been since the node started; one of them does more than count.
    Tick(u64),
    /// The link to a node is gone.
    NodeGone(NodeId),
    Campaign,
    /// Answers true once everything committed before now is applied and leadership was confirmed.
    Barrier(oneshot::Sender<bool>),
    /// Entities whose want is due soon, already read.
    Activate(Vec<(EntityKey, Loaded)>),
    PassivateMe(EntityKey, ActorRef<EntityMsg>),
    /// The state is durable up to here: the log below may be purged.
    Durable(LogIndex),
    Status(oneshot::Sender<ShardStatus>),
    /// Ends the shard by a panic. Absent from every build but the tests'.
    #[cfg(test)]
    PanicForTest,
}

/// What an operator sees of one shard.
#[derive(Clone, Debug, serde::Serialize)]
pub struct ShardStatus {
    pub id: u16,
    /// Id of this replica in the group.
    pub peer: u64,
    pub leader: Option<u64>,
    pub term: u64,
    pub commit: u64,
    pub applied: u64,
    pub live: usize,
    pub records_in_flight: usize,
    pub members: Membership,
    /// Entries that the slowest follower lacks, as the leader sees it.
    pub lag: u64,
}

pub struct ShardArgs {
    pub id: ShardId,
    /// Id of this replica in its group.
    pub peer: u64,
    pub core: ShardCore,
    pub takeovers: Arc<Takeovers>,
    pub shared: Arc<Shared>,
    pub log: Arc<LogWriter>,
    pub applier: ApplierHandle,
}

pub struct ShardActor;

struct Proposal {
    key: EntityKey,
    version_before: Version,
    from: ActorRef<EntityMsg>,
    since: Instant,
}

pub struct ShardState {
    args: ShardArgs,
    claim: Option<Claim>,
    proposals: HashMap<u64, Proposal>,
    tag: u64,
    /// Records in flight by entity: a restarted actor starts only when its predecessor's are settled.
    outstanding: HashMap<EntityKey, usize>,
    held: HashMap<EntityKey, Vec<EntityMsg>>,
    actors: HashMap<ActorId, EntityKey>,
    barriers: HashMap<u64, oneshot::Sender<bool>>,
    changes: HashMap<u64, oneshot::Sender<Result<Membership, MembersRefusal>>>,
    /// Proposals have been queued since the last flush.
    wants_flush: bool,
    /// A flush is in the mailbox.
    flush_queued: bool,
    /// Ticks that the core has had, counted as the node counts them.
    ticked: u64,
    /// Peer id of the leader as last made known.
    leader: Option<u64>,
    /// Since when there has been none.
    leaderless_since: Option<BootMillis>,
    handing: Option<HandOver>,
}

// Local only: never advertised to peers.
impl ractor::Message for ShardMsg {}

impl Actor for ShardActor {
    type Msg = ShardMsg;
    type State = ShardState;
    type Arguments = ShardArgs;

    async fn pre_start(&self, _me: ActorRef<ShardMsg>, args: ShardArgs) -> Result<ShardState, ActorProcessingErr> {
        args.shared.ticks.set_due(args.id, 0);
        // A replica that was here before may have ended in the middle of a hand-over.
        args.shared.repeats.hold(args.id, false);
        Ok(ShardState {
            ticked: args.shared.ticks.passed(),
            args,
            claim: None,
            proposals: HashMap::new(),
            tag: 0,
            outstanding: HashMap::new(),
            held: HashMap::new(),
            actors: HashMap::new(),
            barriers: HashMap::new(),
            changes: HashMap::new(),
            flush_queued: false,
            wants_flush: false,
            leader: None,
            leaderless_since: None,
            handing: None,
        })
    }

    async fn handle(
        &self,
        me: ActorRef<ShardMsg>,
        message: ShardMsg,
        state: &mut ShardState,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            ShardMsg::Deliver(key, message) => state.deliver(&me, key, *message).await,
            ShardMsg::Activate(entities) => state.activate_some(&me, entities).await,
            ShardMsg::PassivateMe(key, actor) => state.passivate(key, &actor),
            ShardMsg::Applied { index, fates, takeovers } => {
                state.args.takeovers = takeovers.unwrap_or_else(|| state.args.takeovers.clone());
                state.settle(fates);
                if state.args.id == META_SHARD {
                    state.args.shared.meta_changed.notify_waiters();
                }
                state.drive(&me, Input::Applied { index });
                if state.claim.is_some() {
                    state.args.shared.following.note(state.args.id, index);
                }
                state.release_held(&me).await;
            }
            other => {
                state.drive_message(&me, other);
                // A refused record settles without being applied.
                state.release_held(&me).await;
            }
        }
        Ok(())
    }

    async fn handle_supervisor_evt(
        &self,
        me: ActorRef<ShardMsg>,
        event: SupervisionEvent,
        state: &mut ShardState,
    ) -> Result<(), ActorProcessingErr> {
        match event {
            SupervisionEvent::ActorTerminated(cell, _, _) => {
                if let Some(key) = state.actors.remove(&cell.get_id()) {
                    state.unregister(key, cell.get_id());
                }
            }
            SupervisionEvent::ActorFailed(cell, cause) => {
                if let Some(key) = state.actors.remove(&cell.get_id()) {
                    tracing::error!(entity = ?key, shard = %state.args.id, %cause, "entity actor failed, restarting it");
                    state.args.shared.counters.entity_restarts.fetch_add(1, Ordering::Relaxed);
                    state.unregister(key, cell.get_id());
                    state.activate(&me, key, None, Vec::new()).await;
                }
            }
            SupervisionEvent::ActorStarted(_)
            | SupervisionEvent::ProcessGroupChanged(_)
            | SupervisionEvent::PidLifecycleEvent(_) => {}
        }
        Ok(())
    }
}

impl ShardState {
    fn drive_message(&mut self, me: &ActorRef<ShardMsg>, message: ShardMsg) {
        match message {
            ShardMsg::Propose { record, claim, from } => self.propose(me, record, claim, from),
            ShardMsg::Frame { from, to, bytes } => {
                // Frames for a replica that was here before under another id are not this one's.
                if to == self.args.peer {
                    self.drive(me, Input::Frame { from, bytes });
                }
            }
            ShardMsg::Exported { snapshot, exported: None } => self.drive(me, Input::ExportLost { snapshot }),
            ShardMsg::Exported { snapshot, exported: Some(Exported { bytes, next, applied }) } => {
                self.drive(me, Input::Exported { snapshot, bytes, next, applied });
            }
            ShardMsg::Staged { snapshot, number } => self.drive(me, Input::Staged { snapshot, number }),
            ShardMsg::Installed { snapshot, takeovers } => {
                self.args.takeovers = takeovers;
                self.drive(me, Input::Installed { snapshot });
            }
            ShardMsg::ChangeMembers(changes, reply) => {
                self.tag += 1;
                self.changes.insert(self.tag, reply);
                self.drive(me, Input::ChangeMembers { tag: self.tag, changes });
            }
            ShardMsg::TransferLeader(to) => self.hand_over(me, to),
            ShardMsg::Flush => {
                (self.wants_flush, self.flush_queued) = (false, false);
                self.drive(me, Input::Flush);
            }
            ShardMsg::Persisted(number) => self.drive(me, Input::Persisted { number }),
            ShardMsg::Tick(passed) => {
                self.heed_node();
                while self.ticked < passed {
                    self.ticked += 1;
                    self.step(me, Input::Tick);
                }
                self.tend_hand_over(me);
                self.pace();
            }
            ShardMsg::NodeGone(node) => {
                let leader = self.args.core.leader_peer();
                if let Some(peer) =
                    leader.filter(|peer| self.args.shared.routes.node_of(self.args.id, *peer) == Some(node))
                {
                    self.drive(me, Input::PeerGone { peer });
                }
                self.heir_gone(me, node);
            }
            ShardMsg::Campaign => self.drive(me, Input::Campaign),
            ShardMsg::Durable(index) => self.drive(me, Input::Purge { durable: index, cursor: index }),
            ShardMsg::Barrier(reply) => {
                self.tag += 1;
                self.barriers.insert(self.tag, reply);
                self.drive(me, Input::ReadBarrier { tag: self.tag });
            }
            ShardMsg::Status(reply) => {
                let _gone = reply.send(self.status());
            }
            ShardMsg::Deliver(..) | ShardMsg::Activate(_) | ShardMsg::PassivateMe(..) | ShardMsg::Applied { .. } => {}
            #[cfg(test)]
            ShardMsg::PanicForTest => panic!("asked to panic"),
        }
    }

    fn status(&self) -> ShardStatus {
        let core = self.args.core.status();
        ShardStatus {
            id: self.args.id.0,
            peer: self.args.peer,
            leader: core.leader,
            term: core.term.0,
            commit: core.committed.0,
            applied: core.applied.0,
            live: self.actors.len(),
            records_in_flight: self.proposals.len(),
            lag: core.peers.iter().map(|peer| core.last.0.saturating_sub(peer.matched.0)).max().unwrap_or(0),
            members: core.members,
        }
    }

    /// A node whose clock is off or whose disk is slow does not stand for election; one with a slow disk does when a leader
    /// that has nobody better hands over to it.
    fn heed_node(&mut self) {
        let leaderless_for = self.leaderless_for();
        let shared = &self.args.shared;
        let standing = if shared.clocks.am_off() {
            Standing::Never
        } else if disk::stands_back(shared.disks.am_slow(), leaderless_for) {
            Standing::WhenNamed
        } else {
            Standing::Freely
        };
        self.args.core.stand(standing);
    }

    /// How long the group has had no leader, as far as is known here.
    fn leaderless_for(&mut self) -> Millis {
        let now = self.args.shared.clock.boot();
        if self.leader.is_some() {
            self.leaderless_since = None;
            return Millis(0);
        }
        let since = *self.leaderless_since.get_or_insert(now);
        Millis(i64::try_from(now.0.saturating_sub(since.0)).unwrap_or(i64::MAX))
    }

    fn drive(&mut self, me: &ActorRef<ShardMsg>, input: Input) {
        self.heed_node();
        self.count_ticks(me);
        self.step(me, input);
        self.flush_soon(me);
        self.pace();
    }

    /// Hands the core the ticks that passed and do nothing but count. One that does more comes by message, in its turn
    /// among the frames: a shard that is behind must not take its leader for silent before it has heard it out.
    fn count_ticks(&mut self, me: &ActorRef<ShardMsg>) {
        let passed = self.args.shared.ticks.passed();
        if self.ticked < passed {
            let counted = (passed - self.ticked).min(self.args.core.quiet_ticks());
            self.ticked += counted;
            (0..counted).for_each(|_| self.step(me, Input::Tick));
        }
    }

    /// Says when the next tick is due that does more than count.
    fn pace(&self) {
        let looks_each_tick = self.handing.is_some() || self.leader.is_none();
        let quiet = if looks_each_tick { 0 } else { self.args.core.quiet_ticks() };
        self.args.shared.ticks.set_due(self.args.id, self.ticked + quiet + 1);
    }

    fn step(&mut self, me: &ActorRef<ShardMsg>, input: Input) {
        let mut out = Vec::new();
        self.args.core.step(input, &mut out);
        for output in out {
            self.perform(me, output);
        }
        let leader = self.args.core.leader_peer();
        if leader != self.leader {
            self.leader = leader;
            self.args.shared.routes.set_leader(self.args.id, leader);
        }
    }

    fn perform(&mut self, me: &ActorRef<ShardMsg>, output: Output) {
        match output {
            Output::Append(append) => self.args.log.submit(append),
            Output::Apply(entries) => {
                self.args.applier.submit(ApplyTask::Entries { shard: self.args.id, entries, reply: me.clone() });
            }
            Output::Dropped { tag, fate } => match fate {
                DropFate::NotApplied => self.settle_one(tag, RecordFate::Void(VoidReason::Dropped)),
                DropFate::Unknown => self.abandon(tag),
            },
            Output::Lead { claim } => {
                tracing::debug!(shard = %self.args.id, term = %claim.term, "leading");
                self.claim = Some(claim);
                self.args.shared.lead(self.args.id, true);
                self.args.shared.counters.elections_won.fetch_add(1, Ordering::Relaxed);
            }
            Output::StepDown { term, leader } => {
                self.say_stepped_down(term, leader);
                self.step_down();
            }
            Output::ReadReady { tag } => self.answer_barrier(tag, true),
            Output::ReadFailed { tag } => self.answer_barrier(tag, false),
            Output::Purge { start } => self.args.log.purge(self.args.id, start.index.next()),
            Output::Halt { why } => self.args.shared.fatal(&format!("shard {}: {why:?}", self.args.id)),
            Output::Members { tag, members } => {
                tracing::debug!(shard = %self.args.id, ?members, "members");
                self.args.shared.counters.member_changes.fetch_add(1, Ordering::Relaxed);
                // A joint change is reported twice; the second ends it.
                if members.voters_outgoing.is_empty()
                    && let Some(reply) = tag.and_then(|tag| self.changes.remove(&tag))
                {
                    let _gone = reply.send(Ok(members));
                }
            }
            Output::MembersRefused { tag, why } => {
                if let Some(reply) = self.changes.remove(&tag) {
                    let _gone = reply.send(Err(why));
                }
            }
            Output::Send { to, bytes } => self.send(to, Lane::Raft, &bytes),
            Output::SendChunk { to, bytes } => self.send(to, Lane::Snapshot, &bytes),
            Output::Export { snapshot, cursor, bytes_max, .. } => self.export(me, snapshot, cursor, bytes_max),
            Output::ExportOver { .. } => self.end_export(),
            Output::Stage { snapshot, number, bytes, seal } => self.stage(me, snapshot, number, bytes, seal),
            Output::StageDrop { .. } => self.drop_stage(),
            Output::Install { seal } => self.install(me, seal),
        }
    }

    fn answer_barrier(&mut self, tag: u64, ready: bool) {
        if let Some(reply) = self.barriers.remove(&tag) {
            let _gone = reply.send(ready);
        }
    }
}

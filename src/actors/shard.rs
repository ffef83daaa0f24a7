//! One shard on this node as a ractor actor: it drives the Raft core, hosts the live entities while it leads, and
//! supervises them.

use crate::actors::applier::{ApplierHandle, ApplyTask, Fated};
use crate::actors::door::AskError;
use crate::actors::entity::{EntityActor, EntityArgs, EntityMsg};
use crate::actors::loading::Loaded;
use crate::actors::shared::Shared;
use crate::persistence::log_writer::LogWriter;
use crate::replication::core::{DropFate, Input, Output, ShardCore};
use crate::types::ids::{Claim, EntityKey, LogIndex, ShardId, Version};
use crate::types::record::{Record, RecordFate, VoidReason};
use ractor::{Actor, ActorId, ActorProcessingErr, ActorRef, SupervisionEvent};
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use tokio::sync::oneshot;

/// Messages of a shard.
pub enum ShardMsg {
    /// For an entity that was not live when the sender looked.
    Deliver(EntityKey, Box<EntityMsg>),
    Propose {
        record: Record,
        from: ActorRef<EntityMsg>,
    },
    /// Turns the queued proposals into entries: the batch is whatever came before it in the mailbox.
    Flush,
    Persisted(u64),
    Applied {
        index: LogIndex,
        fates: Vec<Fated>,
    },
    Tick,
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
    pub leader: Option<u64>,
    pub term: u64,
    pub commit: u64,
    pub applied: u64,
    pub live: usize,
    pub records_in_flight: usize,
}

pub struct ShardArgs {
    pub id: ShardId,
    pub core: ShardCore,
    pub shared: Arc<Shared>,
    pub log: Arc<LogWriter>,
    pub applier: ApplierHandle,
}

pub struct ShardActor;

struct Proposal {
    key: EntityKey,
    version_before: Version,
    from: ActorRef<EntityMsg>,
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
    flush_queued: bool,
    applied: LogIndex,
}

// Local only: never advertised to peers.
impl ractor::Message for ShardMsg {}

impl Actor for ShardActor {
    type Msg = ShardMsg;
    type State = ShardState;
    type Arguments = ShardArgs;

    async fn pre_start(&self, _me: ActorRef<ShardMsg>, args: ShardArgs) -> Result<ShardState, ActorProcessingErr> {
        Ok(ShardState {
            args,
            claim: None,
            proposals: HashMap::new(),
            tag: 0,
            outstanding: HashMap::new(),
            held: HashMap::new(),
            actors: HashMap::new(),
            barriers: HashMap::new(),
            flush_queued: false,
            applied: LogIndex(0),
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
            ShardMsg::Activate(entities) => {
                for (key, loaded) in entities {
                    state.activate(&me, key, Some(loaded), Vec::new()).await;
                }
            }
            ShardMsg::PassivateMe(key, actor) => state.passivate(key, &actor),
            ShardMsg::Applied { index, fates } => {
                state.settle(fates);
                state.applied = index;
                state.drive(&me, Input::Applied { index });
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
            ShardMsg::Propose { record, from } => self.propose(me, record, from),
            ShardMsg::Flush => {
                self.flush_queued = false;
                self.drive(me, Input::Flush);
            }
            ShardMsg::Persisted(number) => self.drive(me, Input::Persisted { number }),
            ShardMsg::Tick => self.drive(me, Input::Tick),
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
            leader: core.leader,
            term: core.term.0,
            commit: core.committed.0,
            applied: self.applied.0,
            live: self.actors.len(),
            records_in_flight: self.proposals.len(),
        }
    }

    fn propose(&mut self, me: &ActorRef<ShardMsg>, record: Record, from: ActorRef<EntityMsg>) {
        self.tag += 1;
        let key = record.key;
        *self.outstanding.entry(key).or_default() += 1;
        self.args.shared.counters.records_in_flight.fetch_add(1, Ordering::Relaxed);
        let version_before = record.version_before;
        self.proposals.insert(self.tag, Proposal { key, version_before, from });
        self.drive(me, Input::Propose { tag: self.tag, record });
        if !self.flush_queued {
            self.flush_queued = me.cast(ShardMsg::Flush).is_ok();
        }
    }

    fn drive(&mut self, me: &ActorRef<ShardMsg>, input: Input) {
        let mut out = Vec::new();
        self.args.core.step(input, &mut out);
        for output in out {
            self.perform(me, output);
        }
    }

    fn perform(&mut self, me: &ActorRef<ShardMsg>, output: Output) {
        match output {
            Output::Append(append) => self.args.log.submit(append),
            Output::Apply(entries) => {
                self.args.applier.submit(ApplyTask { shard: self.args.id, entries, reply: me.clone() });
            }
            Output::Dropped { tag, fate } => match fate {
                DropFate::NotApplied => self.settle_one(tag, RecordFate::Void(VoidReason::Dropped)),
                DropFate::Unknown => self.abandon(tag),
            },
            Output::Lead { claim } => {
                tracing::debug!(shard = %self.args.id, term = %claim.term, "leading");
                self.claim = Some(claim);
                self.args.shared.lead(self.args.id, true);
            }
            Output::StepDown { term, leader } => {
                tracing::warn!(shard = %self.args.id, %term, ?leader, "stepped down");
                self.step_down();
            }
            Output::ReadReady { tag } => self.answer_barrier(tag, true),
            Output::ReadFailed { tag } => self.answer_barrier(tag, false),
            Output::Purge { start } => self.args.log.purge(self.args.id, start.index.next()),
            Output::Halt { why } => self.args.shared.fatal(&format!("shard {}: {why:?}", self.args.id)),
            Output::Members { members, .. } => tracing::debug!(shard = %self.args.id, ?members, "members"),
            Output::MembersRefused { why, .. } => tracing::warn!(shard = %self.args.id, ?why, "members not changed"),
            // A lone voter has nobody to send to and nothing to hand over; a cluster's transport takes these.
            Output::Send { to, .. } | Output::SendChunk { to, .. } | Output::Export { to, .. } => {
                tracing::error!(shard = %self.args.id, to, "no link to that peer");
            }
            Output::ExportOver { .. } | Output::Stage { .. } | Output::StageDrop { .. } | Output::Install { .. } => {
                tracing::error!(shard = %self.args.id, "snapshot without a link");
            }
        }
    }

    fn answer_barrier(&mut self, tag: u64, ready: bool) {
        if let Some(reply) = self.barriers.remove(&tag) {
            let _gone = reply.send(ready);
        }
    }

    fn step_down(&mut self) {
        self.claim = None;
        self.args.shared.lead(self.args.id, false);
        for key in self.actors.values() {
            if let Some((_, actor)) = self.args.shared.live.remove(key) {
                actor.stop(Some("leadership lost".to_owned()));
            }
        }
        self.actors.clear();
        self.held.drain().flat_map(|(_, messages)| messages).for_each(refuse);
    }

    fn settle(&mut self, fates: Vec<Fated>) {
        for fated in fates {
            self.settle_one(fated.tag, fated.fate);
        }
    }

    fn settle_one(&mut self, tag: u64, fate: RecordFate) {
        let Some(proposal) = self.forget(tag) else { return };
        let counters = &self.args.shared.counters;
        match fate {
            RecordFate::Applied(version) => {
                counters.records_applied.fetch_add(1, Ordering::Relaxed);
                self.args.shared.watchers.applied(proposal.key, version);
            }
            RecordFate::Void(reason) => {
                counters.records_void.fetch_add(1, Ordering::Relaxed);
                tracing::warn!(entity = ?proposal.key, ?reason, "record void");
            }
        }
        // An actor that failed meanwhile is restarted on the state that this record left.
        let _ended = proposal.from.cast(EntityMsg::Fate(proposal.version_before, fate));
    }

    /// Nobody can tell now whether it was committed; its caller is told so by the actor's end.
    fn abandon(&mut self, tag: u64) {
        let _abandoned = self.forget(tag);
    }

    fn forget(&mut self, tag: u64) -> Option<Proposal> {
        let proposal = self.proposals.remove(&tag)?;
        self.args.shared.counters.records_in_flight.fetch_sub(1, Ordering::Relaxed);
        if let Some(count) = self.outstanding.get_mut(&proposal.key) {
            *count -= 1;
            if *count == 0 {
                self.outstanding.remove(&proposal.key);
            }
        }
        Some(proposal)
    }

    async fn deliver(&mut self, me: &ActorRef<ShardMsg>, key: EntityKey, message: EntityMsg) {
        let live = self.args.shared.live.get(&key).map(|actor| actor.clone());
        let message = match live {
            Some(actor) => match actor.cast(message) {
                Ok(()) => return,
                Err(ractor::MessagingErr::SendErr(message)) => {
                    // It failed, and its supervision event is yet to come: its records may be in flight.
                    self.unregister(key, actor.get_id());
                    message
                }
                Err(ractor::MessagingErr::ChannelClosed | ractor::MessagingErr::InvalidActorType) => return,
            },
            None => message,
        };
        self.activate(me, key, None, vec![message]).await;
    }

    async fn activate(
        &mut self,
        me: &ActorRef<ShardMsg>,
        key: EntityKey,
        loaded: Option<Loaded>,
        messages: Vec<EntityMsg>,
    ) {
        let Some(claim) = self.claim else {
            messages.into_iter().for_each(refuse);
            return;
        };
        if self.is_live(key) {
            messages.into_iter().for_each(|message| self.args.shared.deliver(key, message));
            return;
        }
        if self.outstanding.contains_key(&key) {
            self.held.entry(key).or_default().extend(messages);
            return;
        }
        let Some(kind) = self.args.shared.kinds.get(key.kind).cloned() else {
            messages.into_iter().for_each(refuse);
            return;
        };
        let shared = self.args.shared.clone();
        let args = EntityArgs { key, shard_id: self.args.id, kind, claim, shared, shard: me.clone(), loaded };
        match ractor::Actor::spawn_linked(None, EntityActor, args, me.get_cell()).await {
            Ok((actor, _running)) => {
                for message in messages {
                    let _ended = actor.cast(message);
                }
                self.actors.insert(actor.get_id(), key);
                self.args.shared.live.insert(key, actor);
            }
            Err(error) => {
                tracing::error!(entity = ?key, %error, "entity actor did not start");
                messages.into_iter().for_each(refuse);
            }
        }
    }

    fn is_live(&self, key: EntityKey) -> bool {
        self.args.shared.live.contains_key(&key)
    }

    /// Starts the actors that waited for their predecessor's records.
    async fn release_held(&mut self, me: &ActorRef<ShardMsg>) {
        if self.held.is_empty() {
            return;
        }
        let ready: Vec<EntityKey> =
            self.held.keys().filter(|key| !self.outstanding.contains_key(key)).copied().collect();
        for key in ready {
            if let Some(messages) = self.held.remove(&key) {
                self.activate(me, key, None, messages).await;
            }
        }
    }

    fn passivate(&mut self, key: EntityKey, actor: &ActorRef<EntityMsg>) {
        self.unregister(key, actor.get_id());
        let _ended = actor.cast(EntityMsg::Passivate);
    }

    /// Forgets an entity's actor, unless another has taken its place.
    fn unregister(&self, key: EntityKey, id: ActorId) {
        self.args.shared.live.remove_if(&key, |_, actor| actor.get_id() == id);
    }
}

/// Tells a caller that nothing was done.
fn refuse(message: EntityMsg) {
    if let EntityMsg::Ask(_, reply) | EntityMsg::Checked(_, reply, _) = message {
        let _gone = reply.send(Err(AskError::Unavailable));
    }
}

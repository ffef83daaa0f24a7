//! What a leading shard hosts: its live entities, their proposals in flight, and what becomes of both when it no longer
//! leads.

use super::{Proposal, ShardMsg, ShardState};
use crate::actors::applier::Fated;
use crate::actors::door::AskError;
use crate::actors::entity::{EntityActor, EntityArgs, EntityMsg};
use crate::actors::life::Life;
use crate::actors::loading::Loaded;
use crate::replication::core::Input;
use crate::types::ids::{Claim, EntityKey, Term};
use crate::types::record::{Record, RecordFate, VoidReason};
use ractor::{ActorId, ActorRef};
use std::sync::atomic::Ordering;
use tokio::time::Instant;

/// Actors that are started in one go.
const ACTIVATED_AT_ONCE: usize = 16;
/// Entries of one shard between the leader's queue and its state. With one, a shard waits for a round trip before it uses the
/// disk again; with many, each entry carries few records. A tick flushes whatever waits.
const ENTRIES_UNDER_WAY_MAX: u64 = 2;

impl ShardState {
    /// Queues a record for the next entry. One that was decided under an earlier claim is void: its entity has ended.
    pub(super) fn propose(&mut self, me: &ActorRef<ShardMsg>, record: Record, claim: Claim, from: ActorRef<EntityMsg>) {
        if self.claim != Some(claim) {
            let _ended = from.cast(EntityMsg::Fate(record.version_before, RecordFate::Void(VoidReason::Dropped)));
            return;
        }
        self.tag += 1;
        let key = record.key;
        *self.outstanding.entry(key).or_default() += 1;
        self.args.shared.counters.records_in_flight.fetch_add(1, Ordering::Relaxed);
        let version_before = record.version_before;
        self.proposals.insert(self.tag, Proposal { key, version_before, from, since: Instant::now() });
        self.args.core.write_entries_as(self.args.shared.gate.format_of(self.args.id));
        self.wants_flush = true;
        self.drive(me, Input::Propose { tag: self.tag, record });
    }

    /// Has the queued proposals made an entry, once few enough of the entries before are on their way: what waits meanwhile
    /// shares one disk write and one round to the followers.
    pub(super) fn flush_soon(&mut self, me: &ActorRef<ShardMsg>) {
        if self.wants_flush && !self.flush_queued && self.args.core.unapplied() < ENTRIES_UNDER_WAY_MAX {
            self.flush_queued = me.cast(ShardMsg::Flush).is_ok();
        }
    }

    /// A leader that is deposed in its own term heard no majority in time; one that hands over, or is overtaken, sees a
    /// higher term.
    pub(super) fn say_stepped_down(&self, term: Term, leader: Option<u64>) {
        let shard = self.args.id;
        if self.claim.is_some_and(|claim| claim.term == term) {
            self.args.shared.counters.quorum_lost.fetch_add(1, Ordering::Relaxed);
            tracing::warn!(%shard, %term, "stepped down: no majority of the group answered in time");
        } else {
            tracing::info!(%shard, %term, ?leader, "stepped down: another replica leads, or is about to");
        }
    }

    pub(super) fn step_down(&mut self) {
        self.args.shared.counters.step_downs.fetch_add(1, Ordering::Relaxed);
        self.claim = None;
        self.end_hand_over();
        self.args.shared.lead(self.args.id, false);
        for key in self.actors.values() {
            if let Some((_, actor)) = self.args.shared.live.remove(key) {
                actor.stop(Some("leadership lost".to_owned()));
            }
        }
        self.actors.clear();
        self.held.drain().flat_map(|(_, messages)| messages).for_each(refuse);
    }

    pub(super) fn settle(&mut self, fates: Vec<Fated>) {
        for fated in fates {
            self.settle_one(fated.tag, fated.fate);
        }
    }

    pub(super) fn settle_one(&mut self, tag: u64, fate: RecordFate) {
        let Some(proposal) = self.forget(tag) else { return };
        let counters = &self.args.shared.counters;
        match fate {
            RecordFate::Applied(version) => {
                let took = proposal.since.elapsed();
                counters.records_applied.fetch_add(1, Ordering::Relaxed);
                counters.commit.record(took);
                metrics::histogram!("bojagi_commit_seconds").record(took.as_secs_f64());
                self.args.shared.watchers.applied(proposal.key, version);
            }
            RecordFate::Void(reason) => {
                counters.records_void.fetch_add(1, Ordering::Relaxed);
                // Decided again on what is committed: the way of things when a leader changes.
                tracing::debug!(entity = ?proposal.key, ?reason, "record void");
            }
        }
        // An actor that failed meanwhile is restarted on the state that this record left.
        let _ended = proposal.from.cast(EntityMsg::Fate(proposal.version_before, fate));
    }

    /// Nobody can tell now whether it was committed; its caller is told so by the actor's end.
    pub(super) fn abandon(&mut self, tag: u64) {
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

    pub(super) async fn deliver(&mut self, me: &ActorRef<ShardMsg>, key: EntityKey, message: EntityMsg) {
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

    /// Starts a few actors; the others come after what waits in the mailbox, heartbeats among it.
    pub(super) async fn activate_some(&mut self, me: &ActorRef<ShardMsg>, mut entities: Vec<(EntityKey, Loaded)>) {
        let later = entities.split_off(entities.len().min(ACTIVATED_AT_ONCE));
        for (key, loaded) in entities {
            self.activate(me, key, Some(loaded), Vec::new()).await;
        }
        if !later.is_empty() {
            // A shard that has ended needs no actors.
            let _ended = me.cast(ShardMsg::Activate(later));
        }
    }

    pub(super) async fn activate(
        &mut self,
        me: &ActorRef<ShardMsg>,
        key: EntityKey,
        loaded: Option<Loaded>,
        messages: Vec<EntityMsg>,
    ) {
        // Without a time nothing can be decided; who asks comes again.
        let has_time = self.args.shared.time(self.args.id).is_some();
        let Some(claim) = self.claim.filter(|_| has_time) else {
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
        let life = Life { claim, takeovers: self.args.takeovers.clone() };
        let args = EntityArgs { key, shard_id: self.args.id, kind, life, shared, shard: me.clone(), loaded };
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
    pub(super) async fn release_held(&mut self, me: &ActorRef<ShardMsg>) {
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

    pub(super) fn passivate(&mut self, key: EntityKey, actor: &ActorRef<EntityMsg>) {
        self.unregister(key, actor.get_id());
        let _ended = actor.cast(EntityMsg::Passivate);
    }

    /// Forgets an entity's actor, unless another has taken its place.
    pub(super) fn unregister(&self, key: EntityKey, id: ActorId) {
        self.args.shared.live.remove_if(&key, |_, actor| actor.get_id() == id);
    }
}

/// Tells a caller that nothing was done.
fn refuse(message: EntityMsg) {
    if let EntityMsg::Ask(_, reply) | EntityMsg::Call(_, reply) | EntityMsg::Checked(_, reply, _) = message {
        let _gone = reply.send(Err(AskError::Unavailable));
    }
}

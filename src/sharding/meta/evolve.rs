//! Facts, written down. Total: a fact about what is not there changes nothing.

use super::command::NodeFacts;
use super::event::{MetaEvent, MetaFact, PlannedShard};
use super::state::{
    Member, MetaState, NodeState, PeerId, Placement, Replica, Role, Settings, TokenHash, TokenUse, Weight,
};
use crate::types::ids::{Incarnation, LogIndex, META_SHARD, NodeId, ShardId};
use crate::types::limits::JOIN_TOKENS_MAX;
use crate::types::start::ProcessStart;
use crate::types::time::Timestamp;

pub(super) fn evolve(state: &mut MetaState, event: &MetaEvent) {
    match &event.fact {
        MetaFact::Founded { cluster, shards, rf, level, node } => {
            state.cluster = Some(*cluster);
            (state.rf, state.level, state.settings) = (*rf, *level, Settings::default());
            let first = NodeId(1);
            state.peer_next = PeerId(u64::from(*shards) + 1);
            let founded = |shard| {
                let replica = Replica { node: first, peer: PeerId::founder(shard), role: Role::Voter };
                Placement { wanted: vec![first], replicas: vec![replica], reported: LogIndex(0) }
            };
            state.shards = (0..*shards).map(|shard| founded(ShardId(shard))).collect();
            state.meta = founded(META_SHARD);
            admit(state, first, node);
        }
        MetaFact::TokenIssued { token, expires_at } => {
            state.tokens.retain(|_, issued| issued.expires_at > event.at);
            // Used ones are kept for a repeat of their join; the earliest has had the most time for it.
            let earliest = state.tokens.iter().filter_map(|(token, issued)| Some((issued.used_by?, *token))).min();
            if let Some((_, used)) = earliest.filter(|_| state.tokens.len() >= 2 * JOIN_TOKENS_MAX) {
                state.tokens.remove(&used);
            }
            state.tokens.insert(*token, TokenUse { expires_at: *expires_at, used_by: None });
        }
        MetaFact::Joined { id, token, node } => join(state, *id, *token, node),
        MetaFact::Planned { shards } => {
            for planned in shards {
                plan(state, planned);
            }
        }
        MetaFact::GroupChanged { shard, index, voters, learners } => {
            let after = state
                .placement(*shard)
                .and_then(|placement| group_after(state, *shard, placement, *index, voters, learners));
            if let (Some(after), Some(placement)) = (after, placement_mut(state, *shard)) {
                *placement = after;
            }
        }
        MetaFact::Removed { node, .. } => remove(state, *node),
        MetaFact::SettingsChanged(settings) => state.settings = *settings,
        MetaFact::LevelRaised { level } => state.level = *level,
        MetaFact::Begun { node, start, .. } => {
            state.starts.insert(*node, start.id);
            if let Some(member) = state.members.get_mut(node) {
                member_fact(member, &event.fact, event.at);
            }
        }
        MetaFact::Announced { node, .. }
        | MetaFact::Drained { node, .. }
        | MetaFact::Undrained { node }
        | MetaFact::Reweighed { node, .. }
        | MetaFact::Rezoned { node, .. }
        | MetaFact::NodeLost { node }
        | MetaFact::NodeSeen { node } => {
            if let Some(member) = state.members.get_mut(node) {
                member_fact(member, &event.fact, event.at);
            }
        }
    }
}

fn member_fact(member: &mut Member, fact: &MetaFact, at: Timestamp) {
    match fact {
        MetaFact::Announced { incarnation, cluster_address, api_url, levels, build, .. }
        | MetaFact::Begun {
            start: ProcessStart { incarnation, .. }, cluster_address, api_url, levels, build, ..
        } => {
            member.incarnation = *incarnation;
            member.cluster_address.clone_from(cluster_address);
            member.api_url.clone_from(api_url);
            member.levels = *levels;
            member.build.clone_from(build);
            member.state = member.state.seen();
        }
        MetaFact::Drained { depth, .. } => member.state = member.state.with_draining(Some(*depth)),
        MetaFact::Undrained { .. } => member.state = member.state.with_draining(None),
        MetaFact::Reweighed { weight, .. } => member.weight = *weight,
        MetaFact::Rezoned { zone, .. } => member.zone.clone_from(zone),
        MetaFact::NodeLost { .. } => {
            member.state = NodeState::Gone { since: at, draining: member.state.draining() };
        }
        MetaFact::NodeSeen { .. } => member.state = member.state.seen(),
        MetaFact::Founded { .. }
        | MetaFact::TokenIssued { .. }
        | MetaFact::Joined { .. }
        | MetaFact::Removed { .. }
        | MetaFact::SettingsChanged(_)
        | MetaFact::Planned { .. }
        | MetaFact::GroupChanged { .. }
        | MetaFact::LevelRaised { .. } => {}
    }
}

fn admit(state: &mut MetaState, id: NodeId, facts: &NodeFacts) {
    let member = Member {
        name: facts.name.clone(),
        zone: facts.zone.clone(),
        weight: Weight::new(facts.weight).unwrap_or(Weight::USUAL),
        cluster_address: facts.cluster_address.clone(),
        api_url: facts.api_url.clone(),
        incarnation: Incarnation(0),
        state: NodeState::Up,
        levels: facts.levels,
        build: facts.build.clone(),
    };
    state.members.insert(id, member);
    state.node_next = state.node_next.max(id.next());
}

/// A member learns the cluster's state as a learner of the meta group.
fn join(state: &mut MetaState, id: NodeId, token: TokenHash, facts: &NodeFacts) {
    admit(state, id, facts);
    if let Some(issued) = state.tokens.get_mut(&token) {
        issued.used_by = Some(id);
    }
    state.meta.seat(Replica { node: id, peer: PeerId::of_node(id), role: Role::Planned });
}

fn remove(state: &mut MetaState, node: NodeId) {
    state.members.remove(&node);
    state.starts.remove(&node);
    for placement in state.shards.iter_mut().chain([&mut state.meta]) {
        placement.wanted.retain(|wanted| *wanted != node);
        placement.replicas.retain(|replica| replica.node != node);
    }
}

/// A replica that is no longer wanted stays until its group says that it is not in there: were it forgotten before, its
/// node would destroy a copy that still counts.
fn plan(state: &mut MetaState, planned: &PlannedShard) {
    if planned.shard != META_SHARD {
        let highest = planned.fresh.iter().map(|(_, peer)| peer.0 + 1).max().unwrap_or(0);
        state.peer_next = state.peer_next.max(PeerId(highest));
    }
    if let Some(placement) = placement_mut(state, planned.shard) {
        placement.wanted.clone_from(&planned.wanted);
        for (node, peer) in &planned.fresh {
            placement.seat(Replica { node: *node, peer: *peer, role: Role::Planned });
        }
    }
}

fn placement_mut(state: &mut MetaState, shard: ShardId) -> Option<&mut Placement> {
    if shard == META_SHARD { Some(&mut state.meta) } else { state.shards.get_mut(usize::from(shard.0)) }
}

/// The placement once a report is taken; `None` when it is old or says nothing new. A report of the same index counts
/// when it still changes something: a replica that was planned, and given up before it was added.
pub(super) fn group_after(
    state: &MetaState,
    shard: ShardId,
    placement: &Placement,
    index: LogIndex,
    voters: &[PeerId],
    learners: &[PeerId],
) -> Option<Placement> {
    if index < placement.reported {
        return None;
    }
    let is_wanted = |node: &NodeId| match shard {
        META_SHARD => state.members.contains_key(node),
        ShardId(_) => placement.wanted.contains(node),
    };
    let role_of = |replica: &Replica| {
        let waits = replica.role == Role::Planned || shard == META_SHARD;
        if voters.contains(&replica.peer) {
            Some(Role::Voter)
        } else if learners.contains(&replica.peer) {
            Some(Role::Learner)
        } else {
            (waits && is_wanted(&replica.node)).then_some(Role::Planned)
        }
    };
    let replicas: Vec<Replica> =
        placement.replicas.iter().filter_map(|r| role_of(r).map(|role| Replica { role, ..*r })).collect();
    let after = Placement { replicas, reported: index, wanted: placement.wanted.clone() };
    (after.replicas != placement.replicas || after.reported > placement.reported).then_some(after)
}

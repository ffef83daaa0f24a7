//! From a command to the fact that it makes, or to a refusal. `None`: it is so already.

use super::command::{Field, MetaCommand, MetaRefusal, NodeFacts, ShardWish};
use super::event::{MetaFact, PlannedShard};
use super::evolve;
use super::state::{
    DrainDepth, FeatureLevel, Levels, Member, MetaState, NodeState, PeerId, Placement, Role, TokenHash, Weight,
};
use crate::types::ids::{Incarnation, META_SHARD, NodeId, ShardId};
use crate::types::limits::{
    JOIN_TOKENS_MAX, MOVES_MAX, NODE_ADDRESS_BYTES_MAX, NODE_NAME_BYTES_MAX, NODES_MAX, REPLICATION_FACTOR_MAX,
    SHARDS_MAX,
};
use crate::types::start::{Fit, Lineage};
use crate::types::time::Timestamp;
use std::collections::BTreeSet;

type Answer = Result<Option<MetaFact>, MetaRefusal>;

pub(super) fn decide(state: &MetaState, command: MetaCommand, now: Timestamp) -> Answer {
    if let MetaCommand::Found { cluster, shards, rf, level, node } = command {
        return found(state, MetaFact::Founded { cluster, shards, rf, level, node });
    }
    if state.cluster.is_none() {
        return Err(MetaRefusal::NotFounded);
    }
    match command {
        MetaCommand::Found { .. } => Err(MetaRefusal::AlreadyFounded),
        MetaCommand::Unwanted => Err(MetaRefusal::NotWanted),
        MetaCommand::IssueToken { token, expires_at } => issue_token(state, token, expires_at, now),
        MetaCommand::Join { token, node } => join(state, token, node, now),
        MetaCommand::Announce { .. } => Err(MetaRefusal::StartUntold),
        MetaCommand::Begin { node, lineage, cluster_address, api_url, levels, build } => {
            let start = lineage.present().unwrap_or_default();
            begin(state, &lineage, MetaFact::Begun { node, start, cluster_address, api_url, levels, build })
        }
        MetaCommand::Drain { node, depth } => drain(state, node, depth),
        MetaCommand::Undrain { node } => undrain(state, node),
        MetaCommand::Remove { node, forced } => remove(state, node, forced),
        MetaCommand::SetWeight { node, weight } => {
            let weight = Weight::new(weight).ok_or(MetaRefusal::BadFact(Field::Weight))?;
            let same = known(state, node)?.weight == weight;
            Ok((!same).then_some(MetaFact::Reweighed { node, weight }))
        }
        MetaCommand::SetZone { node, zone } => {
            check(is_name(&zone), Field::Zone)?;
            let same = known(state, node)?.zone == zone;
            Ok((!same).then_some(MetaFact::Rezoned { node, zone }))
        }
        MetaCommand::SetSettings(settings) if !settings.is_sound() => Err(MetaRefusal::BadSettings),
        MetaCommand::SetSettings(settings) => {
            Ok((settings != state.settings).then_some(MetaFact::SettingsChanged(settings)))
        }
        MetaCommand::Plan { changes } => plan(state, &changes),
        MetaCommand::GroupChanged { shard, index, voters, learners } => {
            let placement = state.placement(shard).ok_or(MetaRefusal::UnknownShard(shard))?;
            let news = evolve::group_after(state, shard, placement, index, &voters, &learners).is_some();
            Ok(news.then_some(MetaFact::GroupChanged { shard, index, voters, learners }))
        }
        MetaCommand::NodeLost { node, incarnation } => {
            let gone = matches!(observed(state, node, incarnation)?.state, NodeState::Gone { .. });
            Ok((!gone).then_some(MetaFact::NodeLost { node }))
        }
        MetaCommand::NodeSeen { node, incarnation } => {
            let gone = matches!(observed(state, node, incarnation)?.state, NodeState::Gone { .. });
            Ok(gone.then_some(MetaFact::NodeSeen { node }))
        }
        MetaCommand::FinalizeUpgrade => finalize(state),
    }
}

fn known(state: &MetaState, node: NodeId) -> Result<&Member, MetaRefusal> {
    state.members.get(&node).ok_or(MetaRefusal::UnknownNode(node))
}

/// Of an earlier life nothing is heard any more.
fn observed(state: &MetaState, node: NodeId, incarnation: Incarnation) -> Result<&Member, MetaRefusal> {
    let member = known(state, node)?;
    if incarnation < member.incarnation {
        return Err(MetaRefusal::StaleIncarnation { node, known: member.incarnation });
    }
    Ok(member)
}

fn check(usable: bool, field: Field) -> Result<(), MetaRefusal> {
    if usable { Ok(()) } else { Err(MetaRefusal::BadFact(field)) }
}

/// What a shell, a certificate's name and a table can all carry.
fn is_name(text: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    (1..=NODE_NAME_BYTES_MAX).contains(&text.len()) && text.bytes().all(allowed)
}

fn is_address(text: &str) -> bool {
    (1..=NODE_ADDRESS_BYTES_MAX).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic())
}

fn check_addresses(
    cluster_address: &str,
    api_url: &str,
    levels: Levels,
    build: &str,
    level: FeatureLevel,
) -> Result<(), MetaRefusal> {
    check(is_address(cluster_address), Field::ClusterAddress)?;
    check(is_address(api_url), Field::ApiUrl)?;
    check(levels.lowest <= levels.highest, Field::Levels)?;
    check(build.len() <= NODE_NAME_BYTES_MAX && build.bytes().all(|byte| byte.is_ascii_graphic()), Field::Build)?;
    if levels.supports(level) { Ok(()) } else { Err(MetaRefusal::LevelUnsupported(level)) }
}

fn check_facts(facts: &NodeFacts, level: FeatureLevel) -> Result<(), MetaRefusal> {
    check(is_name(&facts.name), Field::Name)?;
    check(is_name(&facts.zone), Field::Zone)?;
    check(Weight::new(facts.weight).is_some(), Field::Weight)?;
    check_addresses(&facts.cluster_address, &facts.api_url, facts.levels, &facts.build, level)
}

fn found(state: &MetaState, founded: MetaFact) -> Answer {
    let MetaFact::Founded { cluster, shards, rf, level, node } = &founded else {
        return Err(MetaRefusal::NotWanted);
    };
    if let Some(known) = state.cluster {
        return if known == *cluster { Ok(None) } else { Err(MetaRefusal::AlreadyFounded) };
    }
    if !(1..=SHARDS_MAX).contains(shards) || !(1..=REPLICATION_FACTOR_MAX).contains(rf) {
        return Err(MetaRefusal::BadShape);
    }
    check_facts(node, *level)?;
    Ok(Some(founded))
}

fn issue_token(state: &MetaState, token: TokenHash, expires_at: Timestamp, now: Timestamp) -> Answer {
    if let Some(issued) = state.tokens.get(&token) {
        return match issued.used_by {
            Some(by) => Err(MetaRefusal::TokenUsed { by }),
            None => Ok((issued.expires_at != expires_at).then_some(MetaFact::TokenIssued { token, expires_at })),
        };
    }
    if expires_at <= now {
        return Err(MetaRefusal::TokenExpired);
    }
    if state.tokens.values().filter(|issued| issued.expires_at > now && issued.used_by.is_none()).count()
        >= JOIN_TOKENS_MAX
    {
        return Err(MetaRefusal::TooManyTokens);
    }
    Ok(Some(MetaFact::TokenIssued { token, expires_at }))
}

fn join(state: &MetaState, token: TokenHash, node: NodeFacts, now: Timestamp) -> Answer {
    let issued = state.tokens.get(&token).ok_or(MetaRefusal::UnknownToken)?;
    if let Some(by) = issued.used_by {
        let same = state
            .members
            .get(&by)
            .is_some_and(|member| member.name == node.name && member.cluster_address == node.cluster_address);
        return if same { Ok(None) } else { Err(MetaRefusal::TokenUsed { by }) };
    }
    if issued.expires_at <= now {
        return Err(MetaRefusal::TokenExpired);
    }
    check_facts(&node, state.level)?;
    let is_live = |member: &Member| !matches!(member.state, NodeState::Gone { .. });
    let mut namesakes = state.members.iter().filter(|(_, member)| member.name == node.name && is_live(member));
    if let Some((taken_by, _)) = namesakes.next() {
        return Err(MetaRefusal::NameTaken { node: *taken_by });
    }
    if state.members.len() >= NODES_MAX {
        return Err(MetaRefusal::TooManyNodes);
    }
    Ok(Some(MetaFact::Joined { id: state.node_next, token, node }))
}

/// A start that is known already changes nothing. One that does not follow what is known comes from a folder that was put
/// back or copied; a node alone in its cluster can contradict nobody but itself.
fn begin(state: &MetaState, lineage: &Lineage, begun: MetaFact) -> Answer {
    let MetaFact::Begun { node, start, cluster_address, api_url, levels, build } = &begun else {
        return Err(MetaRefusal::NotWanted);
    };
    let member = known(state, *node)?;
    let fit = match state.last_start(*node) {
        Some(recorded) => lineage.fits(recorded),
        // It was never told of a start, or by a build that did not tell them apart.
        None if start.incarnation > member.incarnation => Fit::Later,
        None => Fit::Behind,
    };
    match fit {
        Fit::Present => return Ok(None),
        Fit::Later => {}
        Fit::Behind if state.members.len() == 1 => {}
        Fit::Behind => return Err(MetaRefusal::FolderBehind { node: *node, known: member.incarnation }),
    }
    check_addresses(cluster_address, api_url, *levels, build, state.level)?;
    Ok(Some(begun))
}

/// To the highest level that all know, nodes that are gone among them: they may come back.
fn finalize(state: &MetaState) -> Answer {
    let level = state.level_possible();
    if level > state.level {
        return Ok(Some(MetaFact::LevelRaised { level }));
    }
    let is_held_back = state.members.values().any(|member| member.levels.highest > level);
    let mut oldest = state.members.iter().filter(|(_, member)| member.levels.highest <= level);
    match oldest.next() {
        Some((node, _)) if is_held_back => Err(MetaRefusal::LevelHeldBack { node: *node, level }),
        Some(_) | None => Ok(None),
    }
}

/// A node that is to lose its replicas leads nothing already: its own stop must not lift what an operator ordered.
fn drain(state: &MetaState, node: NodeId, depth: DrainDepth) -> Answer {
    let known = known(state, node)?.state.draining();
    let done = known == Some(depth) || known == Some(DrainDepth::Replicas) && depth == DrainDepth::Leaders;
    Ok((!done).then_some(MetaFact::Drained { node, depth }))
}

fn undrain(state: &MetaState, node: NodeId) -> Answer {
    let draining = known(state, node)?.state.draining().is_some();
    Ok(draining.then_some(MetaFact::Undrained { node }))
}

fn remove(state: &MetaState, node: NodeId, forced: bool) -> Answer {
    let Some(member) = state.members.get(&node) else {
        let was_member = node > NodeId(0) && node < state.node_next;
        return if was_member { Ok(None) } else { Err(MetaRefusal::UnknownNode(node)) };
    };
    if state.members.len() == 1 {
        return Err(MetaRefusal::LastNode(node));
    }
    let gone = matches!(member.state, NodeState::Gone { .. });
    if forced && !gone {
        return Err(MetaRefusal::NotGone { node });
    }
    let replicas = state.shards.iter().filter(|placement| placement.replica_on(node).is_some()).count();
    if replicas > 0 && !forced {
        let replicas = u16::try_from(replicas).unwrap_or(u16::MAX);
        return Err(MetaRefusal::ReplicasThere { node, replicas });
    }
    if !gone && state.meta.replica_on(node).is_some_and(|replica| replica.role == Role::Voter) {
        return Err(MetaRefusal::StillVotes { node });
    }
    if let Some((shard, _)) = state.placements().find(|(_, placement)| voters_left(state, placement, node) == Some(0)) {
        return Err(MetaRefusal::LastCopy { node, shard });
    }
    let loses =
        |placement: &Placement| voters_left(state, placement, node).is_some_and(|left| left < majority(placement));
    let shards: Vec<ShardId> =
        state.placements().filter(|(_, placement)| loses(placement)).map(|(shard, _)| shard).collect();
    if shards.is_empty() {
        Ok(Some(MetaFact::Removed { node, forced }))
    } else {
        Err(MetaRefusal::MajorityLost { node, shards })
    }
}

fn voters(placement: &Placement) -> impl Iterator<Item = NodeId> {
    placement.replicas.iter().filter(|replica| replica.role == Role::Voter).map(|replica| replica.node)
}

/// Voters that have to agree on the node's leaving: of the group as it is, the node among them.
fn majority(placement: &Placement) -> usize {
    voters(placement).count() / 2 + 1
}

/// Voters besides the node's own that are on nodes which are not gone; `None` when the node does not vote there.
fn voters_left(state: &MetaState, placement: &Placement, node: NodeId) -> Option<usize> {
    let lives = |other: &NodeId| {
        *other != node && state.members.get(other).is_some_and(|member| !matches!(member.state, NodeState::Gone { .. }))
    };
    voters(placement).any(|voter| voter == node).then(|| voters(placement).filter(lives).count())
}

fn plan(state: &MetaState, changes: &[ShardWish]) -> Answer {
    let mut peer_next = state.peer_next;
    let mut shards = Vec::new();
    let mut seen = BTreeSet::new();
    for wish in changes {
        let placement = state.placement(wish.shard).ok_or(MetaRefusal::UnknownShard(wish.shard))?;
        let wanted: BTreeSet<NodeId> = wish.wanted.iter().copied().collect();
        let repeated = wanted.len() != wish.wanted.len() || !seen.insert(wish.shard);
        let too_many = wanted.len() > usize::from(REPLICATION_FACTOR_MAX) || shards.len() >= usize::from(MOVES_MAX);
        let missing: Vec<NodeId> =
            wanted.iter().copied().filter(|node| placement.replica_on(*node).is_none()).collect();
        let may_take = |node: &NodeId| state.members.get(node).is_some_and(|m| m.state == NodeState::Up);
        let knows_all = wanted.iter().all(|node| state.members.contains_key(node));
        if wanted.is_empty() || repeated || too_many || !knows_all || !missing.iter().all(may_take) {
            return Err(MetaRefusal::BadWish(wish.shard));
        }
        if missing.is_empty() && wanted.iter().eq(&placement.wanted) {
            continue;
        }
        let fresh = missing.into_iter().map(|node| (node, allocate(wish.shard, node, &mut peer_next))).collect();
        shards.push(PlannedShard { shard: wish.shard, wanted: wanted.into_iter().collect(), fresh });
    }
    Ok((!shards.is_empty()).then_some(MetaFact::Planned { shards }))
}

fn allocate(shard: ShardId, node: NodeId, peer_next: &mut PeerId) -> PeerId {
    if shard == META_SHARD {
        return PeerId::of_node(node);
    }
    let peer = *peer_next;
    *peer_next = PeerId(peer.0 + 1);
    peer
}

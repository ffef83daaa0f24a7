//! A planned stop: what the node leads is handed to other replicas first, so that nothing waits for an election.

use crate::actors::cluster::meta;
use crate::actors::node::Node;
use crate::actors::shard::ShardMsg;
use crate::sharding::meta::{DrainDepth, MetaCommand, MetaState, NodeState, PeerId, Role};
use crate::types::ids::{NodeId, ShardId};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::time::{Instant, sleep, timeout};

/// What is still led here after so long goes by an election.
const HAND_OVER_MAX: Duration = Duration::from_secs(5);
const NOTE_MAX: Duration = Duration::from_secs(2);
/// A transfer that came to nothing is tried again after so long.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// Hands over every shard that this node leads, and notes in the meta group that it is to lead nothing until it comes
/// back. Takes `/readyz` away first. Without another node that could lead it does nothing.
pub async fn hand_over(node: &Arc<Node>) {
    node.shared.leaving.store(true, Ordering::Relaxed);
    let me = node.folder.node;
    let Some((_, state)) = meta::read(&node.shared) else { return };
    if !state.members().any(|(other, member)| other != me && member.state == NodeState::Up) {
        return;
    }
    // Unless it is noted, leaders are spread back to this node while it goes.
    let command = MetaCommand::Drain { node: me, depth: DrainDepth::Leaders };
    match timeout(NOTE_MAX, meta::ask(&node.shared, &command)).await {
        Ok(Ok(_)) => {}
        Ok(Err(error)) => tracing::warn!(%error, "the planned stop is not noted"),
        Err(_) => tracing::warn!("the planned stop is not noted in time"),
    }
    let deadline = Instant::now() + HAND_OVER_MAX;
    while Instant::now() < deadline {
        let led = node.led_shards();
        if led.is_empty() {
            return;
        }
        let Some((_, state)) = meta::read(&node.shared) else { return };
        let heirs = heirs(node, &state, &led);
        if heirs.is_empty() {
            break;
        }
        for (shard, peer) in heirs {
            node.cast(shard, ShardMsg::TransferLeader(peer.0));
        }
        sleep(LOOK_EVERY).await;
    }
    tracing::warn!(left = node.led_shards().len(), "not everything was handed over; elections will see to it");
}

/// For each shard a voter elsewhere that can be reached and whose clock is right, one with a slow disk only when there is
/// no other; evenly over the nodes.
pub fn heirs(node: &Node, state: &MetaState, led: &[ShardId]) -> Vec<(ShardId, PeerId)> {
    let links = node.shared.transport().links();
    let up: BTreeSet<NodeId> = links.iter().filter(|link| link.up).map(|link| NodeId(link.node)).collect();
    let (off, slow) = (node.shared.clocks.off(), node.shared.disks.slow_others());
    let mut given: BTreeMap<NodeId, u32> = BTreeMap::new();
    let mut heirs = Vec::new();
    for shard in led {
        let Some(placement) = state.placement(*shard) else { continue };
        let able = placement.replicas.iter().filter(|replica| {
            let stays = state.member(replica.node).is_some_and(|member| member.state == NodeState::Up);
            replica.role == Role::Voter && stays && up.contains(&replica.node) && !off.contains(&replica.node)
        });
        if let Some(heir) =
            able.min_by_key(|replica| (slow.contains(&replica.node), given.get(&replica.node).copied().unwrap_or(0)))
        {
            *given.entry(heir.node).or_insert(0) += 1;
            heirs.push((*shard, heir.peer));
        }
    }
    heirs
}

/// A node that left in good order and is back may lead again. Looked at for as long as it runs: its copy of the state may
/// be older than its own leave.
pub async fn come_back(node: &Arc<Node>, state: &MetaState) {
    let me = node.folder.node;
    let drained = state.member(me).and_then(|member| member.state.draining()) == Some(DrainDepth::Leaders);
    if drained && !node.shared.leaving.load(Ordering::Relaxed) {
        let _asked_again = meta::tell(&node.shared, MetaCommand::Undrain { node: me }).await;
    }
}

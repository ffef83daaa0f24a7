//! A planned stop: what the node leads is handed to other replicas first, so that nothing waits for an election.

use crate::actors::cluster::lead::linked;
use crate::actors::cluster::{meta, view};
use crate::actors::node::Node;
use crate::actors::shard::ShardMsg;
use crate::sharding::attempts::Attempts;
use crate::sharding::leaders::{Shunned, heirs};
use crate::sharding::meta::{DrainDepth, MetaCommand, MetaState, NodeState};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::time::{Instant, sleep, timeout};

/// What is still led here after so long goes by an election.
const HAND_OVER_MAX: Duration = Duration::from_secs(5);
const NOTE_MAX: Duration = Duration::from_secs(2);
/// How long the others are asked how they stand.
const WORDS_MAX: Duration = Duration::from_millis(300);
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
    let mut attempts = Attempts::default();
    while Instant::now() < deadline {
        if node.led_shards().is_empty() {
            return;
        }
        // A node that does not say how it stands must not hold up the others: while there is one, nobody counts as behind.
        let behind = timeout(WORDS_MAX, view::stand(node)).await.map(|(_, behind)| behind).unwrap_or_default();
        if name_heirs(node, &Shunned { behind, ..shunned(node) }, &mut attempts) == 0 {
            break;
        }
        sleep(LOOK_EVERY).await;
    }
    tracing::warn!(left = node.led_shards().len(), "not everything was handed over; elections will see to it");
}

/// Names an heir to each shard led here, so that it hands over if that can take it; how many. To be called again with the same
/// `attempts` until nothing is led here.
pub fn name_heirs(node: &Node, shunned: &Shunned, attempts: &mut Attempts) -> usize {
    let Some((_, state)) = meta::read(&node.shared) else { return 0 };
    let named = heirs(&state, node.folder.node, &node.led_shards(), &linked(node), shunned, attempts);
    for transfer in &named {
        node.cast(transfer.shard, ShardMsg::TransferLeader(transfer.peer.0));
    }
    named.len()
}

/// The other nodes that are not to lead, or only where there is no other.
pub fn shunned(node: &Node) -> Shunned {
    Shunned { off: node.shared.clocks.off(), slow: node.shared.disks.slow_others(), ..Shunned::default() }
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

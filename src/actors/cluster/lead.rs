//! What the leader of the meta group does: it notes who is there, has the planner look for better places, and spreads the
//! leaders. Every other node only sleeps here.

use crate::actors::cluster::{meta, view};
use crate::actors::node::Node;
use crate::actors::router;
use crate::actors::router::NodeRequest;
use crate::actors::shard::ShardMsg;
use crate::sharding::attempts::Attempts;
use crate::sharding::leaders::{Shunned, spread};
use crate::sharding::meta::{MetaCommand, MetaState, NodeState};
use crate::sharding::plan::plan;
use crate::types::ids::{META_SHARD, NodeId};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

const LOOK_EVERY: Duration = Duration::from_millis(500);
/// A node whose link is down for so long is noted as gone.
const GONE_AFTER: Duration = Duration::from_secs(5);
/// Leaders are spread by every so many looks.
const SPREAD_EVERY: u32 = 4;

/// Leads, whenever this node leads the meta group, until it is aborted.
pub async fn run(node: Arc<Node>) {
    let mut heard: BTreeMap<NodeId, Instant> = BTreeMap::new();
    let mut attempts = Attempts::default();
    let mut looks: u32 = 0;
    loop {
        let _either = tokio::time::timeout(LOOK_EVERY, node.look_now.notified()).await;
        if !node.shared.leads(META_SHARD) {
            heard.clear();
            attempts.forget();
            continue;
        }
        let Some((_, state)) = meta::read(&node.shared) else { continue };
        let reachable = reachable(&node, &state, &mut heard);
        note_nodes(&node, &state, &reachable).await;
        if state.members().count() == 1 && state.placements().all(|(_, placement)| placement.is_settled()) {
            continue;
        }
        let now = node.shared.time(META_SHARD).unwrap_or_else(|| node.shared.clock.now());
        if let Some(command) = plan(&state, &reachable, now) {
            let _planned_again = meta::tell(&node.shared, command).await;
        }
        looks = looks.wrapping_add(1);
        if looks.is_multiple_of(SPREAD_EVERY) {
            spread_leaders(&node, &state, &mut attempts).await;
        }
    }
}

/// Nodes heard of lately, this one among them. Who was never heard of counts from the first look on.
fn reachable(node: &Node, state: &MetaState, heard: &mut BTreeMap<NodeId, Instant>) -> BTreeSet<NodeId> {
    let now = Instant::now();
    let linked = linked(node);
    for (member, _) in state.members() {
        let last = heard.entry(member).or_insert(now);
        if linked.contains(&member) {
            *last = now;
        }
    }
    heard.iter().filter(|(_, last)| now - **last < GONE_AFTER).map(|(node, _)| *node).collect()
}

/// Nodes whose link is up now, this one among them. A leader is handed to no other: until the heir answers, or the transfer
/// is given up, its shard takes no records.
pub(super) fn linked(node: &Node) -> BTreeSet<NodeId> {
    let links = node.shared.transport().links();
    let up = links.iter().filter(|link| link.up).map(|link| NodeId(link.node));
    up.chain([node.folder.node]).collect()
}

async fn note_nodes(node: &Arc<Node>, state: &MetaState, reachable: &BTreeSet<NodeId>) {
    for (member, facts) in state.members() {
        let gone = matches!(facts.state, NodeState::Gone { .. });
        let incarnation = facts.incarnation;
        match (gone, reachable.contains(&member)) {
            (false, false) => drop(meta::tell(&node.shared, MetaCommand::NodeLost { node: member, incarnation }).await),
            (true, true) => drop(meta::tell(&node.shared, MetaCommand::NodeSeen { node: member, incarnation }).await),
            (false, true) | (true, false) => {}
        }
    }
}

async fn spread_leaders(node: &Arc<Node>, state: &MetaState, attempts: &mut Attempts) {
    let (leaders, behind) = view::stand(node).await;
    let mut slow = node.shared.disks.slow_others();
    slow.extend(node.shared.disks.am_slow().then_some(node.folder.node));
    let shunned = Shunned { off: node.shared.clocks.off(), slow, behind };
    for transfer in spread(state, &leaders, &linked(node), &shunned, attempts) {
        tracing::debug!(shard = %transfer.shard, from = %transfer.from, to = %transfer.to, "moving a leader");
        if transfer.from == node.folder.node {
            node.cast(transfer.shard, ShardMsg::TransferLeader(transfer.peer.0));
        } else {
            let request = NodeRequest::Transfer { shard: transfer.shard, peer: transfer.peer.0 };
            // It is looked at again soon, and whether the leader has refused, too.
            let _lost = router::ask_node(&node.shared, transfer.from, request).await;
        }
    }
}

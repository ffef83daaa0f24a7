//! What an operator orders. Every node takes an order and has the meta group decide it.

use crate::actors::cluster::{meta, view};
use crate::actors::door::{ClusterChange, ClusterError};
use crate::actors::node::Node;
use crate::actors::router::{self, NodeRequest};
use crate::actors::shard::ShardMsg;
use crate::sharding::meta::{DrainDepth, MetaCommand, TokenHash};
use crate::types::ids::{META_SHARD, NodeId, ShardId};
use crate::types::time::Millis;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::sync::Arc;

/// SHA-256 of a token, under which the meta group knows it.
#[must_use]
pub fn token_hash(token: &str) -> TokenHash {
    TokenHash(Sha256::digest(token.as_bytes()).into())
}

/// Does it, or says why not.
///
/// # Errors
/// [`ClusterError`].
pub async fn change(node: &Arc<Node>, change: ClusterChange) -> Result<Value, ClusterError> {
    match change {
        ClusterChange::IssueToken { seconds } => issue_token(node, seconds).await,
        ClusterChange::Drain { node: which, undo } => {
            let which = NodeId(which);
            let command = if undo {
                MetaCommand::Undrain { node: which }
            } else {
                MetaCommand::Drain { node: which, depth: DrainDepth::Replicas }
            };
            meta::ask(&node.shared, &command).await?;
            node.look_now.notify_one();
            let done = if undo { "may have leaders and replicas again" } else { "is being drained" };
            Ok(json!({ "done": format!("Node {which} {done}.") }))
        }
        ClusterChange::Remove { node: which, force } => {
            meta::ask(&node.shared, &MetaCommand::Remove { node: NodeId(which), forced: force }).await?;
            Ok(json!({ "done": format!("Node {which} is out of the cluster.") }))
        }
        ClusterChange::Transfer { shard, to } => transfer(node, ShardId(shard), NodeId(to)).await,
        ClusterChange::Rebalance => {
            node.look_now.notify_one();
            Ok(json!({ "done": "Places are being looked at; the cluster's status says what moves." }))
        }
        ClusterChange::FinalizeUpgrade => {
            let state = meta::ask(&node.shared, &MetaCommand::FinalizeUpgrade).await?;
            Ok(json!({ "done": format!("The feature level is {}.", state.feature_level().0) }))
        }
    }
}

async fn issue_token(node: &Arc<Node>, seconds: u32) -> Result<Value, ClusterError> {
    let mut bytes = [0u8; 32];
    getrandom::fill(&mut bytes).expect("the operating system's random source answers");
    let token = hex::encode(bytes);
    let now = node.shared.time(META_SHARD).unwrap_or_else(|| node.shared.clock.now());
    let expires_at = now + Millis::from_secs(i64::from(seconds));
    meta::ask(&node.shared, &MetaCommand::IssueToken { token: token_hash(&token), expires_at }).await?;
    Ok(json!({ "token": token, "expires_at": expires_at.to_rfc3339() }))
}

async fn transfer(node: &Arc<Node>, shard: ShardId, to: NodeId) -> Result<Value, ClusterError> {
    let refused = |why: String| Err(ClusterError::Refused(why));
    let Some((_, state)) = meta::read(&node.shared) else {
        return refused("the cluster is not founded yet".to_owned());
    };
    let replica = state.placement(shard).and_then(|placement| placement.replica_on(to));
    let Some(replica) = replica else { return refused(format!("node {to} holds no replica of shard {shard}")) };
    let leader = view::leaders(node).await.get(&shard).copied();
    let done = json!({ "done": format!("Shard {shard} is to go to node {to}: its leader hands it over if that replica keeps up.") });
    match leader {
        None => refused(format!("shard {shard} has no leader now")),
        Some(leader) if leader == to => Ok(json!({ "done": format!("Node {to} leads shard {shard} already.") })),
        Some(leader) if leader == node.folder.node => {
            node.cast(shard, ShardMsg::TransferLeader(replica.peer.0));
            Ok(done)
        }
        Some(leader) => {
            let request = NodeRequest::Transfer { shard, peer: replica.peer.0 };
            router::ask_node(&node.shared, leader, request).await?;
            Ok(done)
        }
    }
}

//! What an operator orders. Every node takes an order and has the meta group decide it.

use crate::actors::cluster::meta::Taken;
use crate::actors::cluster::{meta, view};
use crate::actors::door::{ClusterChange, ClusterDone, ClusterError};
use crate::actors::node::Node;
use crate::actors::router::{self, NodeRequest};
use crate::actors::shard::ShardMsg;
use crate::sharding::meta::{DrainDepth, MetaCommand, TokenHash};
use crate::types::ids::{Fingerprint, IdempotencyId, META_SHARD, NodeId, ShardId};
use crate::types::time::Millis;
use hmac::{Hmac, Mac};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::sync::Arc;

/// SHA-256 of a token, under which the meta group knows it.
#[must_use]
pub fn token_hash(token: &str) -> TokenHash {
    TokenHash(Sha256::digest(token.as_bytes()).into())
}

/// What an operator's request is known by.
type Mark = (IdempotencyId, Fingerprint);

/// Does it, or says why not.
///
/// # Errors
/// [`ClusterError`].
pub async fn change(node: &Arc<Node>, change: ClusterChange, mark: Mark) -> Result<ClusterDone, ClusterError> {
    let order = async |command: MetaCommand| meta::order(&node.shared, &command, Some(mark)).await;
    match change {
        ClusterChange::IssueToken { seconds } => issue_token(node, seconds, mark).await,
        ClusterChange::Drain { node: which, undo } => {
            let which = NodeId(which);
            let command = if undo {
                MetaCommand::Undrain { node: which }
            } else {
                MetaCommand::Drain { node: which, depth: DrainDepth::Replicas }
            };
            let taken = order(command).await?;
            node.look_now.notify_one();
            let done = if undo { "may have leaders and replicas again" } else { "is being drained" };
            Ok(taken.told(json!({ "done": format!("Node {which} {done}.") })))
        }
        ClusterChange::Remove { node: which, force } => {
            let taken = order(MetaCommand::Remove { node: NodeId(which), forced: force }).await?;
            Ok(taken.told(json!({ "done": format!("Node {which} is out of the cluster.") })))
        }
        ClusterChange::Transfer { shard, to } => transfer(node, ShardId(shard), NodeId(to)).await.map(afresh),
        ClusterChange::Rebalance => {
            node.look_now.notify_one();
            Ok(afresh(json!({ "done": "Places are being looked at; the cluster's status says what moves." })))
        }
        ClusterChange::FinalizeUpgrade => {
            let taken = order(MetaCommand::FinalizeUpgrade).await?;
            let level = taken.state.feature_level().0;
            Ok(taken.told(json!({ "done": format!("The feature level is {level}.") })))
        }
    }
}

impl Taken {
    fn told(&self, told: Value) -> ClusterDone {
        ClusterDone { told, replayed: self.replayed }
    }
}

/// What was not written down.
fn afresh(told: Value) -> ClusterDone {
    ClusterDone { told, replayed: false }
}

/// The token of a request: the same for its repeats, although none is kept, and known to nobody without the cluster's secret.
fn token_of(secret: &[u8; 32], request: IdempotencyId) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret).expect("HMAC takes a key of any length");
    mac.update(b"join token\0");
    mac.update(&request.0);
    hex::encode(mac.finalize().into_bytes())
}

async fn issue_token(node: &Arc<Node>, seconds: u32, mark: Mark) -> Result<ClusterDone, ClusterError> {
    let token = token_of(&node.folder.cluster_secret, mark.0);
    let hash = token_hash(&token);
    let now = node.shared.time(META_SHARD).unwrap_or_else(|| node.shared.clock.now());
    let expires_at = now + Millis::from_secs(i64::from(seconds));
    let taken = meta::order(&node.shared, &MetaCommand::IssueToken { token: hash, expires_at }, Some(mark)).await?;
    let ends = taken.state.token_ends(hash).unwrap_or(expires_at);
    Ok(taken.told(json!({ "token": token, "expires_at": ends.to_rfc3339() })))
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

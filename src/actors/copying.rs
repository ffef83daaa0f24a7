//! What this node gives to a backup of its cluster: parts of the shards that it leads, read on the mover's thread, where
//! replicas on the move are read too, so that no request waits behind it.

use crate::actors::door::CopyPart;
use crate::actors::local;
use crate::actors::node::Node;
use crate::persistence::copying::{self, Copied};
use crate::persistence::store::StoreError;
use crate::replication::copying as entries;
use crate::types::ids::{LogIndex, ShardId};
use crate::types::limits::ASK_DEADLINE;
use std::sync::Arc;
use tokio::time::Instant;

/// One part, encoded; `None` when the node stops.
pub async fn copy(node: &Arc<Node>, part: CopyPart) -> Option<Vec<u8>> {
    let copied = match part {
        CopyPart::Identity => identity(node).await,
        CopyPart::Rows { shard, cursor } => rows(node, shard, cursor).await,
        CopyPart::Log { shard, after } => log(node, shard, after).await,
    };
    copied.map(|copied| copied.encode())
}

async fn identity(node: &Arc<Node>) -> Option<Copied> {
    let folder = node.folder.clone();
    match node.shared.mover.ask(move || folder.identity_for(folder.node)).await? {
        Ok(identity) => Some(Copied::Identity(identity)),
        Err(error) => {
            tracing::warn!(%error, "the sealed keys cannot be read for a backup");
            None
        }
    }
}

/// Whether everything committed before now is applied here, by the shard's leader.
async fn is_current(node: &Arc<Node>, shard: ShardId) -> bool {
    let ordinary = shard.0 < node.shared.shard_count && node.shared.leads(shard);
    ordinary && local::barrier(&node.shared, shard, Instant::now() + ASK_DEADLINE.to_std()).await.is_ok()
}

async fn rows(node: &Arc<Node>, shard: ShardId, cursor: Vec<u8>) -> Option<Copied> {
    // A later page shows what the first did, whoever leads by now.
    if cursor.is_empty() && !is_current(node, shard).await {
        return Some(Copied::Elsewhere);
    }
    let folder = node.folder.clone();
    let read = move || copying::rows(&folder.state, &folder.keys, shard, cursor);
    Some(or_fatal(node, node.shared.mover.ask(read).await?))
}

async fn log(node: &Arc<Node>, shard: ShardId, after: LogIndex) -> Option<Copied> {
    let at = node.shared.clock.now();
    if !is_current(node, shard).await {
        return Some(Copied::Elsewhere);
    }
    let Some(status) = node.status_of(shard).await else { return Some(Copied::Elsewhere) };
    let (folder, committed) = (node.folder.clone(), LogIndex(status.commit));
    let read = move || entries::log_page(&folder.log, shard, after, committed, at);
    Some(or_fatal(node, node.shared.mover.ask(read).await?))
}

fn or_fatal(node: &Node, read: Result<Copied, StoreError>) -> Copied {
    match read {
        Ok(copied) => copied,
        Err(error) => node.shared.fatal(&error.to_string()),
    }
}

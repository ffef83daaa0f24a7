//! What every node does about the cluster's state: routes and links to the others, and the replicas that it ought to
//! hold. Replicas that left their group are forgotten, rows and all.
//!
//! Of states that follow each other quickly only the last is looked at. A replica that has left its group and one that is to
//! come to this node in its place may so be seen in one look: they are told apart by their peer ids.

use crate::actors::cluster::meta::NotDecided;
use crate::actors::cluster::{leave, meta};
use crate::actors::node::{Node, ReplicaSpec};
use crate::replication::transport::PeerAddress;
use crate::sharding::meta::{ClusterId, Hosted, MetaCommand, MetaRefusal, MetaState, Start};
use crate::types::ids::{META_SHARD, ShardId, Version};
use crate::types::start::Fit;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

/// Longest time between two looks at the state; a change is looked at at once.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// Follows the state until it is aborted.
pub async fn run(node: Arc<Node>) {
    let (mut seen, mut hosted) = (None, None);
    let mut announced = false;
    loop {
        let changed = node.shared.meta_changed.notified();
        match meta::read(&node.shared) {
            Some((version, state)) => {
                if seen != Some(version) {
                    adopt(&node, &state, version).await;
                    seen = Some(version);
                }
                if !announced && announce(&node, &state).await {
                    announced = true;
                    tracing::info!(incarnation = %node.folder.incarnation, "the cluster knows of this start");
                }
                if announced && hosted != Some(version) {
                    host(&node, &state).await;
                    if hosted.is_none() {
                        clear(&node, &state).await;
                    }
                    hosted = Some(version);
                }
                if announced {
                    leave::come_back(&node, &state).await;
                }
            }
            None => found(&node).await,
        }
        let _either = tokio::time::timeout(LOOK_EVERY, changed).await;
    }
}

/// The first node, and it alone, founds the cluster that its folder was made for.
async fn found(node: &Arc<Node>) {
    if !node.is_founder() || !node.shared.leads(META_SHARD) {
        return;
    }
    let command = MetaCommand::Found {
        cluster: ClusterId(node.folder.cluster),
        shards: node.shared.shard_count,
        rf: node.introduction.replication,
        level: node.introduction.levels.highest,
        node: node.introduction.facts(),
    };
    let _asked_again = meta::tell(&node.shared, command).await;
}

/// Makes this start of the node known, once; true when the state shows it. An older one may place replicas here that an
/// earlier start has left, and be without those that took their place: they would be forgotten as soon as a newer one came.
/// A folder that is behind ends the process: what its replicas have voted for may be forgotten, so none of them may speak.
async fn announce(node: &Arc<Node>, state: &MetaState) -> bool {
    let (me, starts) = (node.folder.node, node.folder.starts.clone());
    let lineage = starts.lineage();
    if state.member(me).is_none() {
        return false;
    }
    if state.last_start(me).is_some_and(|recorded| lineage.fits(recorded) == Fit::Present) {
        return confirm(node).await;
    }
    let facts = node.introduction.facts();
    let command = MetaCommand::Begin {
        node: me,
        lineage,
        cluster_address: facts.cluster_address,
        api_url: facts.api_url,
        levels: facts.levels,
        build: facts.build,
    };
    match meta::decide(&node.shared, &command).await {
        // The copy here is about to show it.
        Ok(_) => false,
        Err(NotDecided::Refused(refused @ (MetaRefusal::FolderBehind { .. } | MetaRefusal::LevelUnsupported(_)))) => {
            node.shared.fatal(&refused.to_string())
        }
        Err(error) => {
            tracing::warn!(?error, "this node is not announced yet");
            false
        }
    }
}

async fn confirm(node: &Arc<Node>) -> bool {
    let starts = node.folder.starts.clone();
    match node.shared.pool.ask(move || starts.confirm()).await {
        Some(Ok(())) => true,
        Some(Err(error)) => node.shared.fatal(&error.to_string()),
        None => false,
    }
}

async fn adopt(node: &Arc<Node>, state: &MetaState, version: Version) {
    if let Err(too_old) = node.shared.gate.follow(state.feature_level()) {
        node.shared.fatal(&too_old.to_string());
    }
    let me = node.folder.node;
    let placed: HashMap<ShardId, Vec<_>> = state.routes().collect();
    node.shared.routes.place(placed);
    node.shared.clocks.follow(state);
    let others = state.members().filter(|(other, _)| *other != me);
    let peers = others.map(|(node, member)| PeerAddress { node, address: member.cluster_address.clone() });
    node.shared.transport().set_peers(peers.collect());
    tracing::debug!(%version, "cluster state");
}

/// Opens the replicas that the node ought to hold and gives up the others. Not before the cluster knows of this start: a
/// log that forgot its votes must not vote. The meta group's own replica speaks earlier, or no group could ever be led
/// again; there the links keep a folder away that is behind.
async fn host(node: &Arc<Node>, state: &MetaState) {
    let hosted: BTreeMap<ShardId, Hosted> =
        state.hosted_on(node.folder.node).into_iter().map(|hosted| (hosted.shard, hosted)).collect();
    for hosted in hosted.values().filter(|hosted| node.shared.shard(hosted.shard).is_none()) {
        open(node, hosted).await;
    }
    let is_stray = |(shard, peer): &(ShardId, u64)| {
        *shard != META_SHARD && hosted.get(shard).is_none_or(|hosted| hosted.peer.0 != *peer)
    };
    for (shard, peer) in node.shared.hosted().into_iter().filter(is_stray) {
        tracing::info!(%shard, peer, "this replica has left its group");
        if let Err(error) = node.leave_replica(shard).await {
            node.shared.fatal(&error.to_string());
        }
        if let Some(hosted) = hosted.get(&shard) {
            open(node, hosted).await;
        }
    }
}

/// What lies here of shards that the cluster has moved away while this node was down, or whose leave a crash cut off: their
/// replicas were never opened, so nobody else would find it. Once after a start, of which the state knows: a shard that is to
/// come to this node later begins with nothing.
async fn clear(node: &Arc<Node>, state: &MetaState) {
    let hosted: BTreeSet<ShardId> = state.hosted_on(node.folder.node).into_iter().map(|hosted| hosted.shard).collect();
    let shards = (0..node.shared.shard_count).map(ShardId);
    for shard in shards.filter(|shard| !hosted.contains(shard) && node.shared.shard(*shard).is_none()) {
        let folder = node.folder.clone();
        let left = match node.shared.pool.ask(move || folder.has_traces(shard)).await {
            Some(Ok(false)) | None => Ok(()),
            Some(Ok(true)) => {
                tracing::info!(%shard, "this replica left its group while the node was down");
                node.leave_replica(shard).await
            }
            Some(Err(error)) => Err(error),
        };
        if let Err(error) = left {
            node.shared.fatal(&error.to_string());
        }
    }
}

async fn open(node: &Arc<Node>, &Hosted { shard, peer, start }: &Hosted) {
    let found = match start {
        Start::Found => vec![peer.0],
        Start::Join => Vec::new(),
    };
    if let Err(error) = node.open_replica(ReplicaSpec { shard, peer: peer.0, found }).await {
        node.shared.fatal(&format!("a replica does not start: {error}"));
    }
}

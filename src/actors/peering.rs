//! What comes in from other nodes: Raft frames go to their shard, requests to the router.

use crate::actors::cluster::{join, meta};
use crate::actors::router;
use crate::actors::shard::ShardMsg;
use crate::actors::shared::Shared;
use crate::replication::transport::{Inbound, Lane, Peer};
use crate::sharding::meta::MetaRefusal;
use crate::types::ids::{Incarnation, NodeId, ShardId};
use crate::types::level::{FeatureLevel, LEVELS, Levels};
use crate::types::start::{Fit, Lineage};
use futures_util::future::BoxFuture;
use std::sync::{Arc, Weak};

/// `shard ‖ to ‖ from`, big-endian, before the core's bytes.
const HEADER_LEN: usize = 2 + 8 + 8;

/// A frame from one replica to another of the same shard.
#[must_use]
pub fn encode_frame(shard: ShardId, to: u64, from: u64, bytes: &[u8]) -> Vec<u8> {
    let mut frame = Vec::with_capacity(HEADER_LEN + bytes.len());
    frame.extend_from_slice(&shard.0.to_be_bytes());
    frame.extend_from_slice(&to.to_be_bytes());
    frame.extend_from_slice(&from.to_be_bytes());
    frame.extend_from_slice(bytes);
    frame
}

/// Shard, receiver, sender and the core's bytes; `None` of a frame that is too short.
#[must_use]
pub fn decode_frame(frame: &[u8]) -> Option<(ShardId, u64, u64, &[u8])> {
    let (shard, rest) = frame.split_first_chunk::<2>()?;
    let (to, rest) = rest.split_first_chunk::<8>()?;
    let (from, bytes) = rest.split_first_chunk::<8>()?;
    Some((ShardId(u16::from_be_bytes(*shard)), u64::from_be_bytes(*to), u64::from_be_bytes(*from), bytes))
}

/// The node as its peers reach it.
pub struct Peering {
    shared: Weak<Shared>,
}

impl Peering {
    #[must_use]
    pub fn new(shared: &Arc<Shared>) -> Arc<Self> {
        Arc::new(Self { shared: Arc::downgrade(shared) })
    }
}

impl Inbound for Peering {
    fn frame(&self, from: Peer, _lane: Lane, frame: Vec<u8>) {
        let Some(shared) = self.shared.upgrade() else { return };
        let Some((shard, to, sender, bytes)) = decode_frame(&frame) else {
            tracing::warn!(node = %from.node, "frame too short");
            return;
        };
        // What a node says in the name of another's replica is not heard.
        if shared.routes.node_of(shard, sender).is_some_and(|node| node != from.node) {
            tracing::warn!(node = %from.node, %shard, sender, "frame in another node's name");
            return;
        }
        if let Some(actor) = shared.shard(shard) {
            let _ended = actor.cast(ShardMsg::Frame { from: sender, to, bytes: bytes.to_vec() });
        }
    }

    fn request(&self, from: Peer, body: Vec<u8>) -> BoxFuture<'static, Vec<u8>> {
        let shared = self.shared.upgrade();
        Box::pin(async move {
            match shared {
                Some(shared) => router::serve(&shared, from, &body).await,
                None => router::unavailable(),
            }
        })
    }

    fn vouches(&self, node: NodeId, name: &str) -> bool {
        let state = self.shared.upgrade().and_then(|shared| meta::read(&shared));
        // A node that has no copy of the cluster's state yet knows nobody and has nothing to lose.
        state.is_none_or(|(_, state)| state.member(node).is_some_and(|member| member.name == name))
    }

    fn lineage(&self) -> Lineage {
        self.shared.upgrade().map(|shared| shared.starts.lineage()).unwrap_or_default()
    }

    fn is_behind(&self, node: NodeId, lineage: &Lineage) -> Option<Incarnation> {
        let state = self.shared.upgrade().and_then(|shared| meta::read(&shared));
        let recorded = state.and_then(|(_, state)| state.last_start(node))?;
        (lineage.fits(recorded) == Fit::Behind).then_some(recorded.incarnation)
    }

    fn found_behind(&self, by: NodeId, known: Incarnation) {
        if let Some(shared) = self.shared.upgrade() {
            let node = shared.routes.me();
            tracing::error!(%by, "a peer knows of a start of this node that the folder has not seen");
            shared.fatal(&MetaRefusal::FolderBehind { node, known }.to_string());
        }
    }

    fn levels(&self) -> Levels {
        self.shared.upgrade().map_or(LEVELS, |shared| shared.gate.knows())
    }

    fn excludes(&self, levels: Levels) -> Option<FeatureLevel> {
        self.shared.upgrade()?.gate.excludes(levels)
    }

    fn found_too_old(&self, by: NodeId, level: FeatureLevel) {
        if let Some(shared) = self.shared.upgrade() {
            tracing::error!(%by, "a peer refuses this node's build");
            shared.fatal(&MetaRefusal::LevelUnsupported(level).to_string());
        }
    }

    fn join(&self, name: String, body: Vec<u8>) -> BoxFuture<'static, Option<Vec<u8>>> {
        let node = self.shared.upgrade().and_then(|shared| shared.host());
        Box::pin(async move {
            match node {
                Some(node) => Some(join::welcome(&node, &name, &body).await),
                None => None,
            }
        })
    }

    fn link(&self, peer: Peer, up: bool) {
        tracing::info!(node = %peer.node, incarnation = %peer.incarnation, up, "link");
        let Some(shared) = self.shared.upgrade().filter(|_| !up) else { return };
        for shard in shared.replica_actors() {
            let _ended = shard.cast(ShardMsg::NodeGone(peer.node));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_comes_out_as_it_went_in() {
        let frame = encode_frame(ShardId(7), 1 << 40, 3, b"append");
        assert_eq!(decode_frame(&frame), Some((ShardId(7), 1 << 40, 3, b"append".as_slice())));
        assert_eq!(decode_frame(&frame[..17]), None);
    }
}

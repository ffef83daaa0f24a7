//! Where things are: which node holds which replica, and who leads each shard as far as this node has heard. Hints,
//! never truths: whoever acts on one is refused by a node that does not lead.

use crate::types::ids::{META_SHARD, NodeId, ShardId};
use crate::types::limits::SHARDS_MAX;
use parking_lot::RwLock;
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::sync::Notify;
use tokio::sync::futures::Notified;

/// The replicas of one shard as the meta group places them: node and peer id.
pub type Placed = Vec<(NodeId, u64)>;

/// One per node.
pub struct Routes {
    me: NodeId,
    /// Peer ids are unique over all shards of a cluster.
    peers: RwLock<HashMap<u64, NodeId>>,
    placed: RwLock<HashMap<ShardId, Placed>>,
    /// Peer id of each shard's leader as the local replica knows it; 0 is none.
    leaders: Vec<AtomicU64>,
    /// Node that last said it leads, for shards without a replica here; 0 is none.
    heard: Vec<AtomicU64>,
    /// Who leads a shard was heard of, or this node has begun to host it.
    moved: Vec<Notify>,
}

impl Routes {
    #[must_use]
    pub fn new(me: NodeId) -> Self {
        let slots = || (0..=SHARDS_MAX).map(|_| AtomicU64::new(0)).collect();
        let moved = (0..=SHARDS_MAX).map(|_| Notify::new()).collect();
        Self { me, peers: RwLock::default(), placed: RwLock::default(), leaders: slots(), heard: slots(), moved }
    }

    #[must_use]
    pub fn me(&self) -> NodeId {
        self.me
    }

    /// Replaces what is known of the placement.
    pub fn place(&self, placed: HashMap<ShardId, Placed>) {
        let mut peers = HashMap::new();
        for (shard, replicas) in &placed {
            if *shard != META_SHARD {
                peers.extend(replicas.iter().map(|(node, peer)| (*peer, *node)));
            }
        }
        *self.peers.write() = peers;
        *self.placed.write() = placed;
    }

    /// The node of a peer of a shard's group. In the meta group a node's peer id is its own number.
    #[must_use]
    pub fn node_of(&self, shard: ShardId, peer: u64) -> Option<NodeId> {
        if shard == META_SHARD {
            return Some(NodeId(peer));
        }
        self.peers.read().get(&peer).copied()
    }

    pub fn set_leader(&self, shard: ShardId, peer: Option<u64>) {
        if let Some(slot) = self.leaders.get(usize::from(shard.0)) {
            slot.store(peer.unwrap_or(0), Ordering::Release);
        }
        if peer.is_some() {
            self.say_moved(shard);
        }
    }

    /// Those who wait for the shard's leader are to look again.
    pub fn say_moved(&self, shard: ShardId) {
        self.moved[usize::from(shard.0).min(self.moved.len() - 1)].notify_waiters();
    }

    /// Completes when the shard's leader is worth another look; counts from now, not from the first poll. Only a node with a
    /// replica of the shard hears of its leader by itself.
    pub fn moved(&self, shard: ShardId) -> Notified<'_> {
        self.moved[usize::from(shard.0).min(self.moved.len() - 1)].notified()
    }

    /// A node answered for this shard (`Some`), or said that it does not lead it (`None`).
    pub fn hear(&self, shard: ShardId, node: Option<NodeId>) {
        if let Some(slot) = self.heard.get(usize::from(shard.0)) {
            slot.store(node.map_or(0, |node| node.0), Ordering::Release);
        }
    }

    /// The node that leads a shard, as far as known.
    #[must_use]
    pub fn leader(&self, shard: ShardId) -> Option<NodeId> {
        let read = |slots: &[AtomicU64]| slots.get(usize::from(shard.0)).map_or(0, |slot| slot.load(Ordering::Acquire));
        let peer = read(&self.leaders);
        if peer != 0 {
            return self.node_of(shard, peer);
        }
        Some(read(&self.heard)).filter(|node| *node != 0).map(NodeId)
    }

    /// Other nodes with a replica of the shard, to be asked when no leader is known.
    #[must_use]
    pub fn replicas(&self, shard: ShardId) -> Vec<NodeId> {
        let placed = self.placed.read();
        let nodes = placed.get(&shard).into_iter().flatten().map(|(node, _)| *node);
        nodes.filter(|node| *node != self.me).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_leader_is_found_by_its_peer_id_and_by_hearsay_where_there_is_no_replica() {
        let routes = Routes::new(NodeId(1));
        assert_eq!(routes.leader(ShardId(3)), None);
        routes.place(HashMap::from([(ShardId(3), vec![(NodeId(1), 30), (NodeId(2), 31)])]));
        routes.set_leader(ShardId(3), Some(31));
        assert_eq!(routes.leader(ShardId(3)), Some(NodeId(2)));
        assert_eq!(routes.replicas(ShardId(3)), vec![NodeId(2)]);
        routes.set_leader(ShardId(3), None);
        routes.hear(ShardId(3), Some(NodeId(4)));
        assert_eq!(routes.leader(ShardId(3)), Some(NodeId(4)));
        routes.hear(ShardId(3), None);
        assert_eq!(routes.leader(ShardId(3)), None);
    }

    #[test]
    fn in_the_meta_group_a_peer_is_its_node() {
        let routes = Routes::new(NodeId(1));
        routes.set_leader(META_SHARD, Some(7));
        assert_eq!(routes.leader(META_SHARD), Some(NodeId(7)));
    }
}

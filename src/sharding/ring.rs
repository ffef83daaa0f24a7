//! A consistent-hash ring: which nodes a shard would best live on, by preference. Each node stands on it at many points,
//! more with a greater weight, so that a node that comes or goes concerns its own share only.
//!
//! The order is a function of the set of nodes: it does not depend on how they are listed, nor on the build. Without
//! one of them, a shard's homes change only where it was among them, and then by one node at most.

use crate::sharding::meta::Weight;
use crate::types::ids::{NodeId, ShardId};
use std::collections::BTreeSet;
use xxhash_rust::xxh3::xxh3_64;

/// Points of a node of the usual weight. Shares then stay within 35 % of even (see the tests).
const POINTS_USUAL: u64 = 128;

/// A node as the ring sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RingNode {
    pub node: NodeId,
    pub weight: Weight,
    pub zone: String,
}

/// The ring of some nodes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ring {
    nodes: Vec<RingNode>,
    /// Hash and index into `nodes`, sorted.
    points: Vec<(u64, usize)>,
}

impl Ring {
    /// Of nodes listed twice the first counts.
    #[must_use]
    pub fn new(nodes: impl IntoIterator<Item = RingNode>) -> Self {
        let mut nodes: Vec<RingNode> = nodes.into_iter().collect();
        nodes.sort_by_key(|node| node.node);
        nodes.dedup_by_key(|node| node.node);
        let mut points = Vec::new();
        for (index, node) in nodes.iter().enumerate() {
            let count = (u64::from(node.weight.get()) * POINTS_USUAL / u64::from(Weight::USUAL.get())).max(1);
            points.extend((0..count).map(|number| (point(node.node, number), index)));
        }
        points.sort_unstable();
        Self { nodes, points }
    }

    /// All nodes in the order in which the ring comes upon them from the shard's point.
    #[must_use]
    pub fn preference(&self, shard: ShardId) -> Vec<NodeId> {
        self.walk(shard).into_iter().map(|index| self.nodes[index].node).collect()
    }

    /// The nodes for `count` replicas, best first: the first node of each zone comes before a second one of any.
    /// Fewer when there are fewer nodes.
    #[must_use]
    pub fn homes(&self, shard: ShardId, count: usize) -> Vec<NodeId> {
        let order = self.walk(shard);
        let mut zones = BTreeSet::new();
        let (first, second): (Vec<usize>, Vec<usize>) =
            order.into_iter().partition(|index| zones.insert(self.nodes[*index].zone.as_str()));
        first.into_iter().chain(second).take(count).map(|index| self.nodes[index].node).collect()
    }

    fn walk(&self, shard: ShardId) -> Vec<usize> {
        let from = xxh3_64(&[b"shard".as_slice(), &shard.0.to_be_bytes()].concat());
        let start = self.points.partition_point(|(hash, _)| *hash < from);
        let mut seen = vec![false; self.nodes.len()];
        let mut order = Vec::with_capacity(self.nodes.len());
        for (_, index) in self.points[start..].iter().chain(&self.points[..start]) {
            if !std::mem::replace(&mut seen[*index], true) {
                order.push(*index);
                if order.len() == self.nodes.len() {
                    break;
                }
            }
        }
        order
    }
}

fn point(node: NodeId, number: u64) -> u64 {
    xxh3_64(&[b"node".as_slice(), &node.0.to_be_bytes(), &number.to_be_bytes()].concat())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn node(id: u64, weight: u16, zone: u8) -> RingNode {
        RingNode { node: NodeId(id), weight: Weight::new(weight).unwrap(), zone: format!("z{zone}") }
    }
    fn shards() -> impl Iterator<Item = ShardId> {
        (0..999).map(ShardId)
    }
    fn zone_of(nodes: &[RingNode], id: NodeId) -> &str {
        &nodes.iter().find(|node| node.node == id).unwrap().zone
    }

    fn some_nodes() -> impl Strategy<Value = Vec<RingNode>> {
        let facts = prop::collection::btree_map(1u64..500, (50u16..=200, 0u8..5), 1..12);
        (facts, 1u8..5).prop_map(|(facts, zones)| {
            facts.into_iter().map(|(id, (weight, place))| node(id, weight, place % zones)).collect()
        })
    }

    #[test]
    fn the_ring_stays_as_it_is_for_good() {
        let ring = Ring::new((1..=5).map(|id| node(id, 100, 0)));
        let homes: Vec<u64> = (0..4).flat_map(|shard| ring.homes(ShardId(shard), 3)).map(|node| node.0).collect();
        assert_eq!(homes, GOLDEN);
    }
    const GOLDEN: [u64; 12] = [2, 4, 1, 1, 4, 2, 5, 4, 3, 4, 3, 1];

    #[test]
    fn nodes_of_one_weight_share_evenly() {
        for count in 2..=12u64 {
            let ring = Ring::new((1..=count).map(|id| node(id, 100, 0)));
            let even = 999.0 / count as f64;
            for id in 1..=count {
                let held = shards().filter(|shard| ring.homes(*shard, 1) == [NodeId(id)]).count() as f64;
                assert!((held / even - 1.0).abs() < 0.35, "node {id} of {count} holds {held}, even is {even:.0}");
            }
        }
    }

    #[test]
    fn a_node_of_double_weight_holds_about_twice_as_much() {
        let ring = Ring::new((1..=6).map(|id| node(id, if id == 1 { 200 } else { 100 }, 0)));
        let held = |id| shards().filter(|shard| ring.homes(*shard, 1) == [NodeId(id)]).count() as f64;
        let others = (2..=6).map(held).sum::<f64>() / 5.0;
        assert!((1.5..2.6).contains(&(held(1) / others)), "{} against {others}", held(1));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]

        #[test]
        fn the_order_of_the_list_does_not_matter(nodes in some_nodes(), seed in any::<u64>()) {
            let mut mixed = nodes.clone();
            mixed.sort_by_key(|node| xxh3_64(&(node.node.0 ^ seed).to_be_bytes()));
            prop_assert_eq!(Ring::new(nodes), Ring::new(mixed));
        }

        #[test]
        fn homes_are_distinct_nodes_and_as_many_zones_as_there_can_be(nodes in some_nodes(), count in 1usize..5) {
            let ring = Ring::new(nodes.clone());
            let all: BTreeSet<&str> = nodes.iter().map(|node| node.zone.as_str()).collect();
            for shard in shards().step_by(37) {
                let homes = ring.homes(shard, count);
                let distinct: BTreeSet<NodeId> = homes.iter().copied().collect();
                prop_assert_eq!(distinct.len(), count.min(nodes.len()));
                let zones: BTreeSet<&str> = homes.iter().map(|id| zone_of(&nodes, *id)).collect();
                prop_assert_eq!(zones.len(), all.len().min(count).min(homes.len()));
                prop_assert_eq!(ring.preference(shard).len(), nodes.len());
            }
        }

        #[test]
        fn a_node_that_goes_moves_its_own_share_only(nodes in some_nodes(), gone in any::<prop::sample::Index>(), count in 1usize..5) {
            let gone = nodes[gone.index(nodes.len())].node;
            let (before, after) =
                (Ring::new(nodes.clone()), Ring::new(nodes.iter().filter(|node| node.node != gone).cloned()));
            for shard in shards().step_by(7) {
                let (old, new) = (before.homes(shard, count), after.homes(shard, count));
                let arrived = new.iter().filter(|node| !old.contains(node)).count();
                if old.contains(&gone) {
                    prop_assert!(arrived <= 1, "{:?} -> {:?}", old, new);
                } else {
                    prop_assert_eq!(old, new);
                }
            }
        }
    }
}

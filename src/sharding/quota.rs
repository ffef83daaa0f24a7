//! Fair shares: how many replicas each node ought to hold, in whole numbers.

use crate::sharding::meta::Weight;
use crate::types::ids::NodeId;
use std::collections::BTreeMap;

/// A node that takes a share.
#[derive(Clone, Copy, Debug)]
pub struct Sharer<'a> {
    pub node: NodeId,
    pub weight: Weight,
    pub zone: &'a str,
    /// Replicas that it holds now.
    pub held: usize,
}

/// Shares of `shards * size` replicas by weight. A node holds one replica of a shard at most, so that no share is above
/// `shards`; what a heavy node cannot take goes to the others. Zones come first: with as many replicas as zones or more
/// each zone has one of every shard, with fewer none has two. Where a replica could go to several nodes it goes to the
/// one that holds more now, so that nothing moves without need.
#[must_use]
pub fn quotas(sharers: &[Sharer<'_>], shards: usize, size: usize) -> BTreeMap<NodeId, usize> {
    let mut quota: BTreeMap<NodeId, usize> = sharers.iter().map(|sharer| (sharer.node, 0)).collect();
    let mut zones: BTreeMap<&str, usize> = sharers.iter().map(|sharer| (sharer.zone, 0)).collect();
    let (every, rest) = if size >= zones.len() { (zones.len(), size - zones.len()) } else { (size, 0) };
    for _ in 0..shards * every {
        let given = give(sharers, &mut quota, shards, |sharer| zones[sharer.zone] < shards);
        if let Some(count) = given.and_then(|zone| zones.get_mut(zone)) {
            *count += 1;
        }
    }
    for _ in 0..shards * rest {
        give(sharers, &mut quota, shards, |_| true);
    }
    quota
}

/// One replica more for the node that is furthest below its share; tells its zone.
fn give<'a>(
    sharers: &[Sharer<'a>],
    quota: &mut BTreeMap<NodeId, usize>,
    shards: usize,
    may: impl Fn(&Sharer<'a>) -> bool,
) -> Option<&'a str> {
    let open = sharers.iter().filter(|sharer| quota[&sharer.node] < shards && may(sharer));
    // The lowest (share + 1) / weight, compared without division.
    let next = open.min_by(|a, b| {
        let (a_cost, b_cost) = (quota[&a.node] + 1, quota[&b.node] + 1);
        let cost = (a_cost * usize::from(b.weight.get())).cmp(&(b_cost * usize::from(a.weight.get())));
        cost.then(b.held.cmp(&a.held)).then(a.node.cmp(&b.node))
    })?;
    *quota.entry(next.node).or_insert(0) += 1;
    Some(next.zone)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shares(nodes: &[(u64, u16, usize, &str)], shards: usize, size: usize) -> Vec<usize> {
        let sharers = nodes.iter().map(|(id, weight, held, zone)| {
            let weight = Weight::new(*weight).unwrap();
            Sharer { node: NodeId(*id), weight, zone, held: *held }
        });
        quotas(&sharers.collect::<Vec<_>>(), shards, size).into_values().collect()
    }

    #[test]
    fn shares_follow_the_weights_and_are_whole() {
        assert_eq!(shares(&[(1, 100, 0, "z"), (2, 100, 0, "z"), (3, 100, 0, "z")], 64, 3), [64, 64, 64]);
        assert_eq!(shares(&[(1, 200, 0, "z"), (2, 100, 0, "z"), (3, 100, 0, "z")], 64, 1), [32, 16, 16]);
        assert_eq!(shares(&[(1, 100, 0, "z"), (2, 100, 0, "z"), (3, 100, 0, "z")], 10, 2), [7, 7, 6]);
        assert_eq!(shares(&[], 10, 2), [0usize; 0]);
    }

    #[test]
    fn no_share_is_above_one_replica_of_each_shard() {
        assert_eq!(shares(&[(1, 1000, 0, "z"), (2, 100, 0, "z"), (3, 100, 0, "z")], 60, 2), [60, 30, 30]);
        assert_eq!(shares(&[(1, 100, 0, "z"), (2, 100, 0, "z")], 60, 3), [60, 60]);
    }

    #[test]
    fn zones_come_before_weights() {
        let nodes = [(1, 100, 0, "a"), (2, 100, 0, "b"), (3, 100, 0, "b")];
        assert_eq!(shares(&nodes, 60, 2), [60, 30, 30]);
        assert_eq!(shares(&nodes, 60, 1), [20, 20, 20]);
        assert_eq!(shares(&nodes, 60, 3), [60, 60, 60]);
        let nodes = [(1, 900, 0, "a"), (2, 900, 0, "a"), (3, 100, 0, "b"), (4, 100, 0, "c")];
        assert_eq!(shares(&nodes, 60, 2), [30, 30, 30, 30], "no zone has two of a shard");
    }

    #[test]
    fn what_is_left_over_stays_where_it_is() {
        assert_eq!(shares(&[(1, 100, 6, "z"), (2, 100, 7, "z"), (3, 100, 7, "z")], 10, 2), [6, 7, 7]);
    }
}

//! Fair shares: how many replicas each node ought to hold, in whole numbers.

use crate::sharding::meta::Weight;
use crate::types::ids::NodeId;
use std::collections::BTreeMap;

/// Shares of `shards * size` replicas by weight. A node holds one replica of a shard at most, so that no share is above
/// `shards`; what a heavy node cannot take goes to the others. Where a replica could go to several nodes it goes to the
/// one that holds more now, so that nothing moves without need.
///
/// `nodes`: id, weight and replicas held now.
#[must_use]
pub fn quotas(nodes: &[(NodeId, Weight, usize)], shards: usize, size: usize) -> BTreeMap<NodeId, usize> {
    let mut quota: BTreeMap<NodeId, usize> = nodes.iter().map(|(node, _, _)| (*node, 0)).collect();
    for _ in 0..shards * size {
        let open = nodes.iter().filter(|(node, _, _)| quota[node] < shards);
        // The lowest (share + 1) / weight, compared without division.
        let next = open.min_by(|(a, a_weight, a_held), (b, b_weight, b_held)| {
            let (a_cost, b_cost) = (quota[a] + 1, quota[b] + 1);
            let cost = (a_cost * usize::from(b_weight.get())).cmp(&(b_cost * usize::from(a_weight.get())));
            cost.then(b_held.cmp(a_held)).then(a.cmp(b))
        });
        match next {
            Some((node, _, _)) => *quota.entry(*node).or_insert(0) += 1,
            None => break,
        }
    }
    quota
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shares(nodes: &[(u64, u16, usize)], shards: usize, size: usize) -> Vec<usize> {
        let nodes: Vec<_> =
            nodes.iter().map(|(id, weight, held)| (NodeId(*id), Weight::new(*weight).unwrap(), *held)).collect();
        quotas(&nodes, shards, size).into_values().collect()
    }

    #[test]
    fn shares_follow_the_weights_and_are_whole() {
        assert_eq!(shares(&[(1, 100, 0), (2, 100, 0), (3, 100, 0)], 64, 3), [64, 64, 64]);
        assert_eq!(shares(&[(1, 200, 0), (2, 100, 0), (3, 100, 0)], 64, 1), [32, 16, 16]);
        assert_eq!(shares(&[(1, 100, 0), (2, 100, 0), (3, 100, 0)], 10, 2), [7, 7, 6]);
        assert_eq!(shares(&[], 10, 2), [0usize; 0]);
    }

    #[test]
    fn no_share_is_above_one_replica_of_each_shard() {
        assert_eq!(shares(&[(1, 1000, 0), (2, 100, 0), (3, 100, 0)], 60, 2), [60, 30, 30]);
        assert_eq!(shares(&[(1, 100, 0), (2, 100, 0)], 60, 3), [60, 60]);
    }

    #[test]
    fn what_is_left_over_stays_where_it_is() {
        assert_eq!(shares(&[(1, 100, 6), (2, 100, 7), (3, 100, 7)], 10, 2), [6, 7, 7]);
    }
}

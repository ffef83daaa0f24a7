//! Shards that have fewer voters than there are nodes for. Pure; each node judges the shards that it leads.
//!
//! A group that changes places never has fewer, so a shard is short while it grows, while a copy is made again for one that
//! was lost, and when either does not come about although it could.

use crate::sharding::meta::{DrainDepth, Member, MetaState, NodeState, Placement, Role};
use crate::types::ids::{META_SHARD, NodeId, ShardId};
use crate::types::time::Timestamp;

/// A shard that is short of voters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ShortShard {
    pub shard: ShardId,
    /// The loss of one more voter takes its majority.
    pub no_reserve: bool,
}

/// All that are short, the meta group last. A voter on a node that is gone counts until its copy is to be replaced; a node
/// that is gone or is drained of its copies is none to make up the number.
#[must_use]
pub fn short_shards(state: &MetaState, now: Timestamp) -> Vec<ShortShard> {
    let can_hold = |(_, member): &(NodeId, &Member)| {
        matches!(member.state, NodeState::Up | NodeState::Draining { depth: DrainDepth::Leaders })
    };
    let up = state.members().filter(can_hold).count();
    let judge = |(shard, placement): (ShardId, &Placement)| {
        let wanted = if shard == META_SHARD { placement.wanted.len() } else { usize::from(state.replication_factor()) };
        let has = voters(placement).filter(|node| !state.is_dead(*node, now)).count();
        (has < wanted.min(up)).then(|| ShortShard { shard, no_reserve: !has_reserve(state, placement) })
    };
    state.placements().filter_map(judge).collect()
}

fn voters(placement: &Placement) -> impl Iterator<Item = NodeId> {
    placement.replicas.iter().filter(|replica| replica.role == Role::Voter).map(|replica| replica.node)
}

/// A majority is left when one of the voters that are not gone goes.
fn has_reserve(state: &MetaState, placement: &Placement) -> bool {
    let is_gone = |node: NodeId| state.member(node).is_none_or(|member| matches!(member.state, NodeState::Gone { .. }));
    let live = voters(placement).filter(|node| !is_gone(*node)).count();
    live > voters(placement).count() / 2 + 1
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sharding::meta::fixtures::Cluster;
    use crate::sharding::meta::{MetaCommand, ShardWish};
    use crate::types::ids::LogIndex;

    const SHARD: ShardId = ShardId(0);

    /// One shard, of as many voters as there are nodes.
    fn cluster(nodes: u64, rf: u8) -> Cluster {
        let mut cluster = Cluster::founded(1, rf);
        for _ in 1..nodes {
            cluster.join("z0");
        }
        let wanted: Vec<NodeId> = (1..=nodes.min(u64::from(rf))).map(NodeId).collect();
        cluster.must(MetaCommand::Plan { changes: vec![ShardWish { shard: SHARD, wanted }] });
        report(&mut cluster, 9, nodes.min(u64::from(rf)));
        cluster
    }

    /// The group says that the first so many of its replicas vote, and that it has no other.
    fn report(cluster: &mut Cluster, index: u64, voters: u64) {
        let replicas = cluster.state.placement(SHARD).unwrap().replicas.clone();
        let peers = replicas.iter().filter(|replica| replica.node.0 <= voters).map(|replica| replica.peer);
        let (index, voters) = (LogIndex(index), peers.collect());
        cluster.must(MetaCommand::GroupChanged { shard: SHARD, index, voters, learners: Vec::new() });
    }

    /// Whether the shard is short, and if so, without reserve.
    fn short(cluster: &Cluster) -> Option<bool> {
        let short = short_shards(&cluster.state, cluster.now);
        short.iter().find(|short| short.shard == SHARD).map(|short| short.no_reserve)
    }

    #[test]
    fn a_shard_is_short_only_of_voters_that_there_are_nodes_for() {
        let mut alone = Cluster::founded(1, 3);
        assert_eq!(short(&alone), None);
        alone.join("z0");
        assert_eq!(short(&alone), Some(true), "it is to grow");
        let mut three = cluster(3, 3);
        assert_eq!(short(&three), None);
        let depth = DrainDepth::Replicas;
        three.must(MetaCommand::Drain { node: NodeId(3), depth });
        report(&mut three, 10, 2);
        assert_eq!(short(&three), None, "two nodes are left, and two voters");
        three.must(MetaCommand::Undrain { node: NodeId(3) });
        assert_eq!(short(&three), Some(true));
        three.lose(NodeId(3));
        assert_eq!(short(&three), None, "nobody is there to take a copy");
    }

    #[test]
    fn a_lost_copy_counts_until_it_is_to_be_replaced() {
        let mut four = cluster(4, 3);
        four.lose(NodeId(3));
        assert_eq!(short(&four), None);
        four.pass(four.state.settings().dead_after);
        assert_eq!(short(&four), Some(true));
    }

    #[test]
    fn a_short_shard_of_three_voters_can_lose_one() {
        let mut five = cluster(5, 5);
        report(&mut five, 10, 3);
        assert_eq!(short(&five), Some(false));
        five.lose(NodeId(3));
        assert_eq!(short(&five), Some(true), "two are left of three");
    }
}

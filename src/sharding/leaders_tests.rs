//! Leaders move off draining nodes, spread, and then rest.

use super::*;
use crate::sharding::meta::fixtures::Cluster;
use crate::sharding::meta::{DrainDepth, MetaCommand, ShardWish};
use crate::types::ids::LogIndex;
use proptest::prelude::*;

/// Every shard has a voter on every node, and node 1 leads them all.
fn cluster(shards: u16, weights: &[u16]) -> (Cluster, BTreeMap<ShardId, NodeId>, BTreeSet<NodeId>) {
    let rf = u8::try_from(weights.len()).unwrap();
    let mut cluster = Cluster::founded(shards, rf);
    for weight in &weights[1..] {
        cluster.join_as("z0", *weight);
    }
    let nodes: Vec<NodeId> = (1..=u64::from(rf)).map(NodeId).collect();
    let changes: Vec<ShardWish> =
        (0..shards).map(|shard| ShardWish { shard: ShardId(shard), wanted: nodes.clone() }).collect();
    cluster.must(MetaCommand::Plan { changes });
    for shard in (0..shards).map(ShardId) {
        let replicas = &cluster.state.placement(shard).unwrap().replicas;
        let voters = replicas.iter().map(|replica| replica.peer).collect();
        cluster.must(MetaCommand::GroupChanged { shard, index: LogIndex(9), voters, learners: Vec::new() });
    }
    let leaders = (0..shards).map(|shard| (ShardId(shard), NodeId(1))).collect();
    (cluster, leaders, nodes.into_iter().collect())
}

fn run(cluster: &Cluster, leaders: &mut BTreeMap<ShardId, NodeId>, reachable: &BTreeSet<NodeId>) -> usize {
    run_with(cluster, leaders, reachable, &Shunned::default())
}

fn run_with(
    cluster: &Cluster,
    leaders: &mut BTreeMap<ShardId, NodeId>,
    reachable: &BTreeSet<NodeId>,
    shunned: &Shunned,
) -> usize {
    let mut moved = 0;
    let mut attempts = Attempts::default();
    loop {
        let transfers = spread(&cluster.state, leaders, reachable, shunned, &mut attempts);
        if transfers.is_empty() {
            return moved;
        }
        assert!(transfers.len() <= usize::from(cluster.state.settings().transfers_max));
        for transfer in transfers {
            let replica = *cluster.state.placement(transfer.shard).unwrap().replica_on(transfer.to).unwrap();
            assert_eq!(replica.peer, transfer.peer);
            assert_eq!(leaders.insert(transfer.shard, transfer.to), Some(transfer.from));
            moved += 1;
        }
        assert!(moved < 1_000, "leaders never rest");
    }
}

#[test]
fn a_node_whose_clock_is_off_leads_nothing_and_is_given_nothing() {
    let (cluster, mut leaders, reachable) = cluster(9, &[100, 100, 100]);
    leaders.insert(META_SHARD, NodeId(1));
    run(&cluster, &mut leaders, &reachable);
    assert_eq!(led(&leaders, 1), 3);
    let off = Shunned { off: BTreeSet::from([NodeId(1)]), ..Shunned::default() };
    run_with(&cluster, &mut leaders, &reachable, &off);
    assert_eq!((led(&leaders, 1), led(&leaders, 2) + led(&leaders, 3)), (0, 9));
    run(&cluster, &mut leaders, &reachable);
    assert_eq!(led(&leaders, 1), 3, "once it is right");
}

#[test]
fn leaders_move_off_a_slow_disk_and_come_back_when_it_is_well() {
    let (mut cluster, mut leaders, reachable) = cluster(9, &[100, 100, 100]);
    leaders.insert(META_SHARD, NodeId(1));
    let wanted = vec![NodeId(1), NodeId(2)];
    cluster.must(MetaCommand::Plan { changes: vec![ShardWish { shard: META_SHARD, wanted }] });
    let voters = vec![PeerId(1), PeerId(2)];
    cluster.must(MetaCommand::GroupChanged { shard: META_SHARD, index: LogIndex(3), voters, learners: Vec::new() });
    run(&cluster, &mut leaders, &reachable);
    let slow = |nodes: &[u64]| Shunned { slow: nodes.iter().copied().map(NodeId).collect(), ..Shunned::default() };
    run_with(&cluster, &mut leaders, &reachable, &slow(&[1]));
    assert_eq!((led(&leaders, 1), led(&leaders, 2) + led(&leaders, 3)), (0, 9));
    assert_ne!(leaders[&META_SHARD], NodeId(1));
    assert_eq!(run_with(&cluster, &mut leaders, &reachable, &slow(&[1, 2, 3])), 0, "if all are, nobody sheds");
    run(&cluster, &mut leaders, &reachable);
    assert_eq!([1, 2, 3].map(|node| led(&leaders, node)), [3, 3, 3]);
}

#[test]
fn a_node_that_leaves_hands_over_to_a_slow_disk_rather_than_to_nobody() {
    let (mut cluster, mut leaders, mut reachable) = cluster(4, &[100, 100, 100]);
    cluster.must(MetaCommand::Drain { node: NodeId(1), depth: DrainDepth::Leaders });
    reachable.remove(&NodeId(3));
    let slow = Shunned { slow: BTreeSet::from([NodeId(2)]), ..Shunned::default() };
    run_with(&cluster, &mut leaders, &reachable, &slow);
    assert_eq!([1, 2, 3].map(|node| led(&leaders, node)), [0, 4, 0]);
    reachable.insert(NodeId(3));
    run_with(&cluster, &mut leaders, &reachable, &slow);
    assert_eq!([1, 2, 3].map(|node| led(&leaders, node)), [0, 0, 4]);
}

#[test]
fn nothing_moves_to_a_node_that_is_behind_until_it_has_caught_up_unless_there_is_no_other() {
    let (mut cluster, mut leaders, mut reachable) = cluster(9, &[100, 100, 100]);
    run(&cluster, &mut leaders, &reachable);
    leaders.values_mut().filter(|leader| **leader == NodeId(3)).for_each(|leader| *leader = NodeId(1));
    let behind = |node| Shunned { behind: BTreeSet::from([NodeId(node)]), ..Shunned::default() };
    run_with(&cluster, &mut leaders, &reachable, &behind(3));
    assert_eq!(led(&leaders, 3), 0);
    run(&cluster, &mut leaders, &reachable);
    assert_eq!([1, 2, 3].map(|node| led(&leaders, node)), [3, 3, 3]);
    assert_eq!(run_with(&cluster, &mut leaders, &reachable, &behind(3)), 0, "what it leads stays");
    cluster.must(MetaCommand::Drain { node: NodeId(1), depth: DrainDepth::Leaders });
    reachable.remove(&NodeId(2));
    run_with(&cluster, &mut leaders, &reachable, &behind(3));
    assert_eq!([1, 3].map(|node| led(&leaders, node)), [0, 6]);
}

fn led(leaders: &BTreeMap<ShardId, NodeId>, node: u64) -> usize {
    leaders.iter().filter(|(shard, leader)| **shard != META_SHARD && **leader == NodeId(node)).count()
}

#[test]
fn leaders_spread_evenly_with_no_move_too_many() {
    let (cluster, mut leaders, all) = cluster(12, &[100, 100, 100]);
    assert_eq!(run(&cluster, &mut leaders, &all), 8);
    assert_eq!([1, 2, 3].map(|node| led(&leaders, node)), [4, 4, 4]);
}

#[test]
fn leaders_follow_the_weights() {
    let (cluster, mut leaders, all) = cluster(12, &[100, 200, 100]);
    run(&cluster, &mut leaders, &all);
    assert_eq!([1, 2, 3].map(|node| led(&leaders, node)), [3, 6, 3]);
}

#[test]
fn a_draining_node_leads_nothing_in_the_end_not_even_the_meta_group() {
    let (mut cluster, mut leaders, all) = cluster(12, &[100, 100, 100]);
    run(&cluster, &mut leaders, &all);
    leaders.insert(META_SHARD, NodeId(1));
    let wanted = vec![NodeId(1), NodeId(2)];
    cluster.must(MetaCommand::Plan { changes: vec![ShardWish { shard: META_SHARD, wanted }] });
    let voters = vec![PeerId(1), PeerId(2)];
    cluster.must(MetaCommand::GroupChanged { shard: META_SHARD, index: LogIndex(3), voters, learners: Vec::new() });
    cluster.must(MetaCommand::Drain { node: NodeId(1), depth: DrainDepth::Leaders });
    assert_eq!(run(&cluster, &mut leaders, &all), 5);
    assert_eq!([1, 2, 3].map(|node| led(&leaders, node)), [0, 6, 6]);
    assert_eq!(leaders[&META_SHARD], NodeId(2));
}

#[test]
fn nothing_is_handed_to_a_node_that_is_away() {
    let (cluster, mut leaders, mut reachable) = cluster(12, &[100, 100, 100]);
    reachable.remove(&NodeId(3));
    run(&cluster, &mut leaders, &reachable);
    assert_eq!([1, 2, 3].map(|node| led(&leaders, node)), [6, 6, 0]);
}

/// Looks so many times; hand-overs that are refused come to nothing, the others at once.
fn look(
    cluster: &Cluster,
    leaders: &mut BTreeMap<ShardId, NodeId>,
    looks: usize,
    is_refused: impl Fn(ShardId, NodeId) -> bool,
) {
    let reachable = cluster.state.members().map(|(node, _)| node).collect();
    let mut attempts = Attempts::default();
    for _ in 0..looks {
        for one in spread(&cluster.state, leaders, &reachable, &Shunned::default(), &mut attempts) {
            if !is_refused(one.shard, one.to) {
                leaders.insert(one.shard, one.to);
            }
        }
    }
}

#[test]
fn shards_whose_heirs_are_behind_do_not_hold_up_the_others() {
    let (mut cluster, start, _) = cluster(12, &[100, 100, 100]);
    let mut leaders = start.clone();
    look(&cluster, &mut leaders, 3, |shard, _| shard.0 < 8);
    assert_eq!([1, 2, 3].map(|node| led(&leaders, node)), [8, 2, 2], "spread as far as they can be");
    let mut leaders = start;
    cluster.must(MetaCommand::Drain { node: NodeId(1), depth: DrainDepth::Leaders });
    look(&cluster, &mut leaders, 3, |shard, _| shard.0 < 8);
    assert_eq!(led(&leaders, 1), 8, "four at each look: all that can go are gone");
    assert!((8..12).all(|shard| leaders[&ShardId(shard)] != NodeId(1)));
    look(&cluster, &mut leaders, 2, |_, _| false);
    assert_eq!(led(&leaders, 1), 0, "they have caught up");
}

#[test]
fn an_heir_that_does_not_take_over_is_followed_by_another() {
    let (mut cluster, mut leaders, _) = cluster(1, &[100, 100, 100]);
    cluster.must(MetaCommand::Drain { node: NodeId(1), depth: DrainDepth::Leaders });
    look(&cluster, &mut leaders, 2, |_, to| to == NodeId(2));
    assert_eq!(leaders[&ShardId(0)], NodeId(1), "it may be under way");
    look(&cluster, &mut leaders, 3, |_, to| to == NodeId(2));
    assert_eq!(leaders[&ShardId(0)], NodeId(3));
}

/// Notices are settled first, which takes about as long as from one look to the next.
#[test]
fn a_hand_over_that_takes_until_the_next_look_is_not_made_twice() {
    let (cluster, mut leaders, reachable) = cluster(12, &[100, 100, 100]);
    let (mut attempts, mut under_way, mut named) = (Attempts::default(), Vec::new(), 0);
    for _ in 0..10 {
        let transfers = spread(&cluster.state, &leaders, &reachable, &Shunned::default(), &mut attempts);
        named += transfers.len();
        for one in std::mem::replace(&mut under_way, transfers) {
            leaders.insert(one.shard, one.to);
        }
    }
    assert_eq!(([1, 2, 3].map(|node| led(&leaders, node)), named), ([4, 4, 4], 8));
}

#[test]
fn a_node_that_leaves_names_another_heir_at_each_look_and_a_slow_disk_last() {
    let (cluster, leaders, reachable) = cluster(4, &[100, 100, 100]);
    let led: Vec<ShardId> = leaders.into_keys().collect();
    let look = |shunned: &Shunned, attempts: &mut Attempts| -> Vec<u64> {
        let named = heirs(&cluster.state, NodeId(1), &led, &reachable, shunned, attempts);
        assert_eq!(named.iter().map(|one| one.shard).collect::<Vec<_>>(), led);
        named.iter().map(|one| one.to.0).collect()
    };
    let (nobody, mut attempts) = (Shunned::default(), Attempts::default());
    let looks: Vec<Vec<u64>> = (0..3).map(|_| look(&nobody, &mut attempts)).collect();
    assert_eq!(looks, [[2, 3, 2, 3], [3, 2, 3, 2], [2, 3, 2, 3]], "evenly over the others");
    let slow = Shunned { slow: BTreeSet::from([NodeId(2)]), ..Shunned::default() };
    let mut attempts = Attempts::default();
    let looks: Vec<Vec<u64>> = (0..3).map(|_| look(&slow, &mut attempts)).collect();
    assert_eq!(looks, [[3; 4], [2; 4], [3; 4]]);
    let off = Shunned { off: BTreeSet::from([NodeId(2)]), ..Shunned::default() };
    assert_eq!([look(&off, &mut attempts), look(&off, &mut attempts)], [[3; 4], [3; 4]]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn from_any_leaders_they_come_to_rest_within_one_of_even(start in prop::collection::vec(1u64..=4, 18)) {
        let (cluster, mut leaders, all) = cluster(18, &[100, 100, 100, 100]);
        for (leader, node) in leaders.values_mut().zip(start) {
            *leader = NodeId(node);
        }
        run(&cluster, &mut leaders, &all);
        let counts = [1, 2, 3, 4].map(|node| led(&leaders, node));
        prop_assert!(counts.iter().all(|count| (4..=5).contains(count)), "{:?}", counts);
    }

    /// Whoever refuses what: each shard comes to somebody who takes it.
    #[test]
    fn a_draining_node_keeps_only_what_nobody_takes(
        start in prop::collection::vec(1u64..=4, 18),
        refused in prop::collection::btree_set((0u16..18, 2u64..=4), 0..54),
    ) {
        let (mut cluster, mut leaders, _) = cluster(18, &[100, 100, 100, 100]);
        for (leader, node) in leaders.values_mut().zip(start) {
            *leader = NodeId(node);
        }
        cluster.must(MetaCommand::Drain { node: NodeId(1), depth: DrainDepth::Leaders });
        look(&cluster, &mut leaders, 40, |shard, to| refused.contains(&(shard.0, to.0)));
        let kept = leaders.iter().filter(|(_, node)| **node == NodeId(1)).map(|(shard, _)| shard.0);
        for shard in kept {
            prop_assert!((2..=4).all(|node| refused.contains(&(shard, node))), "shard {} could go", shard);
        }
    }
}

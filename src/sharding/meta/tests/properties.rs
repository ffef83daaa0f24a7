//! Random commands never break what holds of every cluster, and what is on disk leads to the same state.

use super::*;
use proptest::prelude::*;
use std::collections::BTreeSet;

const SHARDS: u16 = 3;

fn node() -> impl Strategy<Value = NodeId> {
    (1u64..7).prop_map(NodeId)
}
fn shard() -> impl Strategy<Value = ShardId> {
    prop_oneof![4 => (0..=SHARDS).prop_map(ShardId), 1 => Just(META_SHARD)]
}
fn peers() -> impl Strategy<Value = Vec<PeerId>> {
    prop::collection::vec((1u64..20).prop_map(PeerId), 0..5)
}
fn life() -> impl Strategy<Value = Incarnation> {
    (0u64..4).prop_map(Incarnation)
}

fn membership() -> impl Strategy<Value = MetaCommand> {
    let expires_at = Timestamp(2_000_000);
    prop_oneof![
        3 => (0u64..9).prop_map(move |number| MetaCommand::IssueToken { token: token(number), expires_at }),
        6 => (0u64..9, 1u64..6).prop_map(|(number, name)| {
            MetaCommand::Join { token: token(number), node: facts(name, "z") }
        }),
        2 => (1u64..7, 0u64..4).prop_map(|(node, life)| announce(node, life)),
        2 => (node(), any::<bool>()).prop_map(|(node, forced)| MetaCommand::Remove { node, forced }),
        1 => node().prop_map(|node| MetaCommand::Drain { node, depth: DrainDepth::Replicas }),
        1 => node().prop_map(|node| MetaCommand::Undrain { node }),
        2 => (node(), life()).prop_map(|(node, incarnation)| MetaCommand::NodeLost { node, incarnation }),
        1 => (node(), life()).prop_map(|(node, incarnation)| MetaCommand::NodeSeen { node, incarnation }),
        1 => Just(MetaCommand::FinalizeUpgrade),
    ]
}
fn placing() -> impl Strategy<Value = MetaCommand> {
    let wish = (shard(), prop::collection::vec(node(), 0..4));
    prop_oneof![
        wish.prop_map(|(shard, wanted)| MetaCommand::Plan { changes: vec![ShardWish { shard, wanted }] }),
        (shard(), 0u64..30, peers(), peers()).prop_map(|(shard, index, voters, learners)| {
            MetaCommand::GroupChanged { shard, index: LogIndex(index), voters, learners }
        }),
    ]
}

/// What holds of every cluster.
fn check(state: &MetaState, seen: &mut BTreeSet<PeerId>, next_before: PeerId) {
    assert!(state.peer_next >= next_before);
    assert!(!state.members.is_empty() && state.members.keys().all(|node| *node < state.node_next));
    let mut peers = BTreeSet::new();
    for (shard, placement) in state.placements() {
        assert!(placement.replicas.windows(2).all(|pair| pair[0].node < pair[1].node), "one replica a node, sorted");
        assert!(placement.wanted.windows(2).all(|pair| pair[0] < pair[1]));
        let nodes = placement.wanted.iter().copied().chain(placement.replicas.iter().map(|replica| replica.node));
        assert!(nodes.into_iter().all(|node| state.members.contains_key(&node)), "only members hold anything");
        for replica in &placement.replicas {
            if shard == META_SHARD {
                assert_eq!(replica.peer, PeerId::of_node(replica.node));
                continue;
            }
            assert!(replica.peer < state.peer_next && peers.insert(replica.peer), "each peer is one replica's");
            assert!(replica.peer >= next_before || seen.contains(&replica.peer), "a peer came back");
        }
    }
    assert_eq!(state.meta.replicas.len(), state.members.len(), "every member hears of the cluster");
    *seen = peers;
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn commands_keep_the_cluster_sound_and_replay_equals_live(
        commands in prop::collection::vec(prop_oneof![membership(), placing()], 1..60), cut in any::<prop::sample::Index>()
    ) {
        let mut cluster = Cluster::founded(SHARDS, 3);
        let mut seen: BTreeSet<PeerId> = (1..=u64::from(SHARDS)).map(PeerId).collect();
        for command in commands {
            cluster.pass(Millis(1));
            let (before, repeated) = (cluster.state.clone(), command.clone());
            match cluster.ask(command) {
                Ok(0) | Err(_) => prop_assert_eq!(&before, &cluster.state),
                Ok(_) => {
                    prop_assert_ne!(&before, &cluster.state);
                    let again = cluster.ask(repeated.clone());
                    let taken = matches!(again, Ok(0) | Err(MetaRefusal::TokenUsed { .. }));
                    prop_assert!(taken, "{:?} twice: {:?}", repeated, again);
                }
            }
            check(&cluster.state, &mut seen, before.peer_next);
        }
        prop_assert_eq!(&cluster.replay(), &cluster.state);
        let (head, tail) = cluster.journal.split_at(cut.index(cluster.journal.len()));
        let snapshot = Cluster { journal: head.to_vec(), ..Cluster::default() }.replay();
        let mut state: MetaState = codec::decode(&codec::encode(&snapshot)).unwrap();
        for event in tail {
            MetaGroup::evolve(&mut state, event);
        }
        prop_assert_eq!(state, cluster.state);
    }
}

//! Given a cluster, when it is asked, then what it says: each command, its refusals, its repeats.

use super::fixtures::{Cluster, facts, levels, token};
use super::*;
use crate::types::codec;
use crate::types::ids::{CommandId, Incarnation, LogIndex, META_SHARD, NodeId, ShardId};
use crate::types::limits::{JOIN_TOKENS_MAX, NODE_ADDRESS_BYTES_MAX, NODE_NAME_BYTES_MAX, NODES_MAX, STATE_BYTES_MAX};
use crate::types::start::{Lineage, ProcessStart, StartId};
use crate::types::time::{Millis, Timestamp};

const TWO: NodeId = NodeId(2);

fn start(incarnation: u64) -> ProcessStart {
    ProcessStart { incarnation: Incarnation(incarnation), id: StartId([incarnation as u8; 16]) }
}
/// A start from a folder that has seen each one before it.
fn announce(node: u64, incarnation: u64) -> MetaCommand {
    begin(node, Lineage { confirmed: None, tried: (0..=incarnation).map(start).collect() })
}
fn begin(node: u64, lineage: Lineage) -> MetaCommand {
    MetaCommand::Begin {
        node: NodeId(node),
        lineage,
        cluster_address: format!("10.0.0.{node}:7501"),
        api_url: format!("http://10.0.0.{node}:7500"),
        levels: levels(1, 2),
        build: "0.1.1".to_owned(),
    }
}
fn wish(shard: u16, wanted: &[u64]) -> MetaCommand {
    let wanted = wanted.iter().copied().map(NodeId).collect();
    MetaCommand::Plan { changes: vec![ShardWish { shard: ShardId(shard), wanted }] }
}
fn report(shard: u16, index: u64, voters: &[u64], learners: &[u64]) -> MetaCommand {
    let peers = |ids: &[u64]| ids.iter().copied().map(PeerId).collect();
    let (voters, learners) = (peers(voters), peers(learners));
    MetaCommand::GroupChanged { shard: ShardId(shard), index: LogIndex(index), voters, learners }
}
fn roles(cluster: &Cluster, shard: u16) -> Vec<(u64, u64, Role)> {
    let placement = cluster.state.placement(ShardId(shard)).unwrap();
    placement.replicas.iter().map(|replica| (replica.node.0, replica.peer.0, replica.role)).collect()
}
/// Nodes 1 to `nodes`; shard 0 has a voter on 1 and 2.
fn pair(nodes: usize) -> Cluster {
    let mut cluster = Cluster::founded(4, 3);
    for _ in 1..nodes {
        cluster.join("z1");
    }
    cluster.must(wish(0, &[1, 2]));
    cluster.must(report(0, 10, &[1, 5], &[]));
    cluster
}

#[test]
fn the_first_node_gets_a_voter_of_every_shard() {
    let mut cluster = Cluster::founded(4, 3);
    let hosted = cluster.state.hosted_on(NodeId(1));
    let peers: Vec<(u16, u64)> = hosted.iter().map(|hosted| (hosted.shard.0, hosted.peer.0)).collect();
    assert_eq!(peers, [(0, 1), (1, 2), (2, 3), (3, 4), (META_SHARD.0, 1)]);
    assert!(hosted.iter().all(|hosted| hosted.start == Start::Found));
    assert_eq!((cluster.state.shard_count(), cluster.state.replication_factor()), (4, 3));
    let found = |cluster| MetaCommand::Found { cluster, shards: 4, rf: 3, level: FeatureLevel(1), node: facts(1, "z") };
    assert_eq!(cluster.ask(found(ClusterId([7; 16]))), Ok(0), "a repeat");
    assert_eq!(cluster.ask(found(ClusterId([8; 16]))), Err(MetaRefusal::AlreadyFounded));
    assert_eq!(Cluster::default().ask(announce(1, 1)), Err(MetaRefusal::NotFounded));
    let shape = |shards, rf| {
        let (cluster, level, node) = (ClusterId([1; 16]), FeatureLevel(1), facts(1, "z"));
        Cluster::default().ask(MetaCommand::Found { cluster, shards, rf, level, node })
    };
    assert_eq!([shape(0, 3), shape(1000, 3), shape(1, 0), shape(1, 8)], [const { Err(MetaRefusal::BadShape) }; 4]);
}

#[test]
fn a_token_lets_one_node_in_and_tells_a_repeat_its_number() {
    let mut cluster = Cluster::founded(4, 3);
    let join = |number, node| MetaCommand::Join { token: token(number), node };
    assert_eq!(cluster.ask(join(1, facts(2, "z"))), Err(MetaRefusal::UnknownToken));
    let expires_at = cluster.now + Millis(10);
    cluster.must(MetaCommand::IssueToken { token: token(1), expires_at });
    assert_eq!(cluster.ask(MetaCommand::IssueToken { token: token(1), expires_at }), Ok(0));
    assert_eq!(cluster.ask(join(1, facts(1, "z"))), Err(MetaRefusal::NameTaken { node: NodeId(1) }));
    cluster.must(join(1, facts(2, "z")));
    assert_eq!(cluster.state.joined_with(token(1)), Some(TWO));
    assert_eq!(cluster.ask(join(1, facts(2, "z"))), Ok(0), "the answer was lost");
    assert_eq!(cluster.ask(join(1, facts(3, "z"))), Err(MetaRefusal::TokenUsed { by: TWO }));
    let hosted = cluster.state.hosted_on(TWO);
    assert_eq!(hosted, [Hosted { shard: META_SHARD, peer: PeerId(2), start: Start::Join }]);
    cluster.must(MetaCommand::IssueToken { token: token(2), expires_at });
    cluster.pass(Millis(10));
    assert_eq!(cluster.ask(join(2, facts(3, "z"))), Err(MetaRefusal::TokenExpired));
    assert_eq!(cluster.ask(MetaCommand::IssueToken { token: token(3), expires_at }), Err(MetaRefusal::TokenExpired));
}

#[test]
fn a_lost_node_comes_back_empty_under_a_new_number() {
    let mut cluster = pair(2);
    cluster.lose(TWO);
    let expires_at = cluster.now + Millis(10);
    cluster.must(MetaCommand::IssueToken { token: token(9), expires_at });
    cluster.must(MetaCommand::Join { token: token(9), node: facts(2, "z1") });
    assert_eq!(cluster.state.joined_with(token(9)), Some(NodeId(3)));
    assert_eq!(cluster.state.member(TWO).unwrap().name, cluster.state.member(NodeId(3)).unwrap().name);
}

#[test]
fn facts_that_cannot_be_used_are_refused_by_name() {
    let mut cluster = Cluster::founded(4, 3);
    let expires_at = cluster.now + Millis(10);
    cluster.must(MetaCommand::IssueToken { token: token(1), expires_at });
    let mut refused = |spoil: &dyn Fn(&mut NodeFacts)| {
        let mut node = facts(2, "z");
        spoil(&mut node);
        cluster.ask(MetaCommand::Join { token: token(1), node }).unwrap_err()
    };
    assert_eq!(refused(&|node| node.name = "a b".to_owned()), MetaRefusal::BadFact(Field::Name));
    assert_eq!(refused(&|node| node.name = "a".repeat(65)), MetaRefusal::BadFact(Field::Name));
    assert_eq!(refused(&|node| node.zone.clear()), MetaRefusal::BadFact(Field::Zone));
    assert_eq!(refused(&|node| node.weight = 0), MetaRefusal::BadFact(Field::Weight));
    assert_eq!(refused(&|node| node.cluster_address.clear()), MetaRefusal::BadFact(Field::ClusterAddress));
    assert_eq!(refused(&|node| node.api_url = "x\n".to_owned()), MetaRefusal::BadFact(Field::ApiUrl));
    assert_eq!(refused(&|node| node.levels = levels(2, 1)), MetaRefusal::BadFact(Field::Levels));
    assert_eq!(refused(&|node| node.levels = levels(2, 3)), MetaRefusal::LevelUnsupported(FeatureLevel(1)));
}

#[test]
fn tokens_are_bounded_and_old_ones_make_room() {
    let mut cluster = Cluster::founded(1, 1);
    let issue = |number, at: Timestamp| MetaCommand::IssueToken { token: token(number), expires_at: at + Millis(5) };
    for number in 0..JOIN_TOKENS_MAX as u64 {
        cluster.must(issue(number, cluster.now));
    }
    assert_eq!(cluster.ask(issue(99, cluster.now)), Err(MetaRefusal::TooManyTokens));
    cluster.pass(Millis(5));
    cluster.must(issue(99, cluster.now));
    assert_eq!(cluster.state.tokens.len(), 1);
}

#[test]
fn only_a_newer_life_of_a_node_is_believed() {
    let mut cluster = pair(2);
    cluster.must(announce(2, 5));
    assert_eq!(cluster.ask(announce(2, 5)), Ok(0), "a repeat");
    let stale = MetaRefusal::StaleIncarnation { node: TWO, known: Incarnation(5) };
    let behind = MetaRefusal::FolderBehind { node: TWO, known: Incarnation(5) };
    assert_eq!(cluster.ask(announce(2, 4)), Err(behind));
    assert_eq!(cluster.state.member(TWO).unwrap().cluster_address, "10.0.0.2:7501");
    assert_eq!(cluster.ask(MetaCommand::NodeLost { node: TWO, incarnation: Incarnation(4) }), Err(stale));
    cluster.lose(TWO);
    assert_eq!(cluster.ask(MetaCommand::NodeLost { node: TWO, incarnation: Incarnation(5) }), Ok(0));
    cluster.must(announce(2, 6));
    assert_eq!(cluster.state.member(TWO).unwrap().state, NodeState::Up);
    assert_eq!(cluster.ask(announce(9, 1)), Err(MetaRefusal::UnknownNode(NodeId(9))));
}

#[test]
fn a_folder_put_back_is_refused_however_often_it_is_started() {
    let mut cluster = pair(2);
    let copy = Lineage { confirmed: Some(start(5)), tried: Vec::new() };
    cluster.must(announce(2, 5));
    let begun = |copy: &Lineage, incarnation, id| {
        let mut lineage = copy.clone();
        lineage.begin(ProcessStart { incarnation: Incarnation(incarnation), id: StartId([id; 16]) });
        lineage
    };
    cluster.must(begin(2, begun(&copy, 6, 60)));
    // The same incarnation out of the copy, then the next ones: none of them follows the start that is known.
    let mut restored = copy;
    for (incarnation, id) in [(6, 61), (7, 71), (8, 81), (20, 201)] {
        restored = begun(&restored, incarnation, id);
        let behind = Err(MetaRefusal::FolderBehind { node: TWO, known: Incarnation(6) });
        assert_eq!(cluster.ask(begin(2, restored.clone())), behind);
    }
    let words = MetaRefusal::FolderBehind { node: TWO, known: Incarnation(6) }.to_string();
    assert!(words.contains("bojagi cluster remove 2 --force") && words.contains("join anew"), "{words}");
    assert_eq!(cluster.state.last_start(TWO).unwrap().id, StartId([60; 16]));
}

#[test]
fn a_start_that_ended_before_it_was_heard_of_leaves_a_gap() {
    let mut cluster = pair(2);
    cluster.must(announce(2, 1));
    let gap = Lineage { confirmed: Some(start(1)), tried: vec![start(2), start(5)] };
    cluster.must(begin(2, gap.clone()));
    assert_eq!(cluster.ask(begin(2, gap)), Ok(0), "a repeat");
    let old = MetaCommand::Announce {
        node: TWO,
        incarnation: Incarnation(9),
        cluster_address: "a:1".to_owned(),
        api_url: "http://a".to_owned(),
        levels: levels(1, 2),
        build: "0".to_owned(),
    };
    assert_eq!(cluster.ask(old), Err(MetaRefusal::StartUntold));
}

#[test]
fn a_node_alone_in_its_cluster_may_come_from_a_backup() {
    let mut cluster = Cluster::founded(1, 1);
    cluster.must(announce(1, 5));
    let anew = ProcessStart { incarnation: Incarnation(1), id: StartId([99; 16]) };
    cluster.must(begin(1, Lineage { confirmed: None, tried: vec![anew] }));
    assert_eq!(cluster.state.last_start(NodeId(1)), Some(anew));
}

#[test]
fn a_node_is_dead_after_the_set_time_and_stays_drained_meanwhile() {
    let mut cluster = pair(2);
    cluster.must(MetaCommand::Drain { node: TWO, depth: DrainDepth::Replicas });
    assert_eq!(cluster.ask(MetaCommand::Drain { node: TWO, depth: DrainDepth::Replicas }), Ok(0));
    // Its host stops in the middle of it.
    assert_eq!(cluster.ask(MetaCommand::Drain { node: TWO, depth: DrainDepth::Leaders }), Ok(0));
    cluster.lose(TWO);
    assert!(!cluster.state.is_dead(TWO, cluster.now + Millis::from_mins(10) - Millis(1)));
    assert!(cluster.state.is_dead(TWO, cluster.now + Millis::from_mins(10)));
    cluster.must(MetaCommand::NodeSeen { node: TWO, incarnation: Incarnation(0) });
    assert_eq!(cluster.state.member(TWO).unwrap().state, NodeState::Draining { depth: DrainDepth::Replicas });
    cluster.must(MetaCommand::Undrain { node: TWO });
    assert_eq!(cluster.ask(MetaCommand::Undrain { node: TWO }), Ok(0));
}

#[test]
fn a_plan_gives_each_new_replica_a_peer_that_was_never_used() {
    let mut cluster = pair(3);
    assert_eq!(roles(&cluster, 0), [(1, 1, Role::Voter), (2, 5, Role::Voter)]);
    cluster.must(wish(1, &[3, 1]));
    assert_eq!(roles(&cluster, 1), [(1, 2, Role::Voter), (3, 6, Role::Planned)]);
    assert_eq!(cluster.ask(wish(1, &[1, 3])), Ok(0), "so already");
    cluster.must(wish(1, &[1]));
    assert_eq!(roles(&cluster, 1).len(), 2, "its group has not said yet that it is not in there");
    cluster.must(report(1, 0, &[2], &[]));
    assert_eq!(roles(&cluster, 1), [(1, 2, Role::Voter)]);
    cluster.must(wish(1, &[1, 3]));
    assert_eq!(roles(&cluster, 1)[1], (3, 7, Role::Planned));
    let bad = |shard| Err(MetaRefusal::BadWish(ShardId(shard)));
    assert_eq!(cluster.ask(wish(2, &[])), bad(2));
    assert_eq!(cluster.ask(wish(2, &[1, 1])), bad(2));
    assert_eq!(cluster.ask(wish(2, &[1, 9])), bad(2));
    assert_eq!(cluster.ask(wish(4, &[1])), Err(MetaRefusal::UnknownShard(ShardId(4))));
    cluster.must(MetaCommand::Drain { node: TWO, depth: DrainDepth::Leaders });
    assert_eq!(cluster.ask(wish(2, &[1, 2])), bad(2), "a draining node takes nothing");
}

#[test]
fn reports_of_a_group_count_once_and_in_order() {
    let mut cluster = pair(3);
    cluster.must(wish(0, &[1, 3]));
    cluster.must(report(0, 12, &[1, 5], &[6]));
    assert_eq!(roles(&cluster, 0), [(1, 1, Role::Voter), (2, 5, Role::Voter), (3, 6, Role::Learner)]);
    assert_eq!(cluster.ask(report(0, 12, &[1, 5], &[6])), Ok(0), "a repeat");
    assert_eq!(cluster.ask(report(0, 11, &[1, 5, 6], &[])), Ok(0), "an old one");
    cluster.must(report(0, 15, &[1, 6], &[]));
    assert_eq!(roles(&cluster, 0), [(1, 1, Role::Voter), (3, 6, Role::Voter)]);
    assert!(cluster.state.placement(ShardId(0)).unwrap().is_settled());
    let hosted = cluster.state.hosted_on(NodeId(1));
    assert_eq!(hosted[0], Hosted { shard: ShardId(0), peer: PeerId(1), start: Start::Join }, "never founded again");
}

#[test]
fn a_wanted_peer_that_left_is_replaced_by_another() {
    let mut cluster = pair(2);
    cluster.must(report(0, 11, &[1], &[]));
    assert_eq!(roles(&cluster, 0), [(1, 1, Role::Voter)]);
    cluster.must(wish(0, &[1, 2]));
    assert_eq!(roles(&cluster, 0)[1], (2, 6, Role::Planned));
    assert!(cluster.state.targets(ShardId(0))[1].fresh);
}

#[test]
fn a_node_is_removed_when_nothing_is_left_on_it_or_by_force_when_it_is_gone() {
    let remove = |node, forced| MetaCommand::Remove { node: NodeId(node), forced };
    assert_eq!(Cluster::founded(1, 1).ask(remove(1, false)), Err(MetaRefusal::LastNode(NodeId(1))));
    let mut cluster = pair(3);
    assert_eq!(cluster.ask(remove(2, false)), Err(MetaRefusal::ReplicasThere { node: TWO, replicas: 1 }));
    assert_eq!(cluster.ask(remove(2, true)), Err(MetaRefusal::NotGone { node: TWO }));
    assert_eq!(cluster.ask(remove(7, false)), Err(MetaRefusal::UnknownNode(NodeId(7))));
    cluster.must(remove(3, false));
    assert_eq!(cluster.ask(remove(3, false)), Ok(0), "a repeat");
    cluster.must(report(0, 12, &[1], &[]));
    cluster.lose(TWO);
    cluster.must(remove(2, true));
    assert_eq!(roles(&cluster, 0), [(1, 1, Role::Voter)]);
    assert_eq!(cluster.state.placement(META_SHARD).unwrap().replicas.len(), 1);
    assert_eq!(cluster.join("z"), NodeId(4), "numbers are not used again");
}

#[test]
fn the_last_copy_and_the_meta_groups_voter_stay() {
    let remove = |node, forced| MetaCommand::Remove { node: NodeId(node), forced };
    let mut cluster = pair(2);
    cluster.lose(NodeId(1));
    let last = MetaRefusal::LastCopy { node: NodeId(1), shard: ShardId(1) };
    assert_eq!(cluster.ask(remove(1, true)), Err(last));
    let mut cluster = pair(3);
    cluster.must(report(META_SHARD.0, 4, &[1, 3], &[2]));
    assert_eq!(cluster.ask(remove(3, false)), Err(MetaRefusal::StillVotes { node: NodeId(3) }));
    assert_eq!(roles(&cluster, META_SHARD.0)[1], (2, 2, Role::Learner));
    cluster.must(report(META_SHARD.0, 5, &[1], &[2]));
    assert_eq!(roles(&cluster, META_SHARD.0)[2], (3, 3, Role::Planned), "a member stays a replica of the meta group");
}

#[test]
fn nothing_is_removed_by_force_while_that_would_take_a_groups_majority() {
    let remove = |node| MetaCommand::Remove { node: NodeId(node), forced: true };
    let mut cluster = pair(4);
    cluster.must(wish(0, &[1, 2, 3]));
    cluster.must(report(0, 11, &[1, 5, 6], &[]));
    cluster.must(wish(1, &[1, 2, 4]));
    cluster.must(report(1, 11, &[2, 7, 8], &[]));
    (2..=3).for_each(|node| cluster.lose(NodeId(node)));
    // Of shard 0 only node 1 is left of three; of shard 1 two are.
    let lost = MetaRefusal::MajorityLost { node: TWO, shards: vec![ShardId(0)] };
    assert_eq!(lost.to_string().split(':').next(), Some("without node 2 there is no majority left of shard 0"));
    assert_eq!(cluster.ask(remove(2)), Err(lost));
    let incarnation = Incarnation(0);
    cluster.must(MetaCommand::NodeSeen { node: NodeId(3), incarnation });
    cluster.must(remove(2));
    let many = MetaRefusal::MajorityLost { node: TWO, shards: (0..20).map(ShardId).chain([META_SHARD]).collect() };
    assert!(many.to_string().contains("10, 11 and 9 more"), "{many}");
}

#[test]
fn settings_and_levels_are_checked() {
    let mut cluster = pair(2);
    let settings = Settings { moves_max: 0, ..Settings::default() };
    assert_eq!(cluster.ask(MetaCommand::SetSettings(settings)), Err(MetaRefusal::BadSettings));
    cluster.must(MetaCommand::SetSettings(Settings { moves_max: 2, ..settings }));
    cluster.must(MetaCommand::SetWeight { node: TWO, weight: 250 });
    assert_eq!(cluster.ask(MetaCommand::SetWeight { node: TWO, weight: 250 }), Ok(0));
    let refusal = MetaRefusal::BadFact(Field::Weight);
    assert_eq!(cluster.ask(MetaCommand::SetWeight { node: TWO, weight: 1001 }), Err(refusal));
    cluster.must(MetaCommand::SetZone { node: TWO, zone: "z9".to_owned() });
    let mut back = announce(2, 7);
    if let MetaCommand::Begin { levels: supported, .. } = &mut back {
        *supported = levels(1, 1);
    }
    cluster.must(back);
    let held_back = MetaRefusal::LevelHeldBack { node: TWO, level: FeatureLevel(1) };
    assert_eq!(cluster.ask(MetaCommand::FinalizeUpgrade), Err(held_back));
    cluster.must(announce(2, 8));
    cluster.must(MetaCommand::FinalizeUpgrade);
    assert_eq!(cluster.state.feature_level(), FeatureLevel(2));
    assert_eq!(cluster.ask(MetaCommand::FinalizeUpgrade), Ok(0));
    let mut old = announce(2, 9);
    if let MetaCommand::Begin { levels: supported, .. } = &mut old {
        *supported = levels(1, 1);
    }
    assert_eq!(cluster.ask(old), Err(MetaRefusal::LevelUnsupported(FeatureLevel(2))));
    assert_eq!(cluster.ask(MetaCommand::Unwanted), Err(MetaRefusal::NotWanted));
}

#[test]
fn the_largest_cluster_fits_into_one_entity() {
    let mut cluster = Cluster::founded(999, 3);
    for _ in 1..NODES_MAX {
        cluster.join("z");
    }
    assert_eq!(cluster.ask(MetaCommand::IssueToken { token: token(99), expires_at: cluster.now + Millis(9) }), Ok(1));
    let join = MetaCommand::Join { token: token(99), node: facts(99, "z") };
    assert_eq!(cluster.ask(join), Err(MetaRefusal::TooManyNodes));
    for member in cluster.state.members.values_mut() {
        for text in [&mut member.name, &mut member.zone, &mut member.build] {
            *text = "n".repeat(NODE_NAME_BYTES_MAX / 2);
        }
        member.cluster_address = "a".repeat(NODE_ADDRESS_BYTES_MAX / 2);
        member.api_url = "u".repeat(NODE_ADDRESS_BYTES_MAX / 2);
        member.state = NodeState::Gone { since: Timestamp(i64::MAX), draining: Some(DrainDepth::Replicas) };
    }
    for placement in &mut cluster.state.shards {
        let replica = |node| Replica { node: NodeId(node), peer: PeerId(90_000), role: Role::Voter };
        placement.replicas = [48, 49, 50].map(replica).to_vec();
        placement.wanted = [48, 49, 50].map(NodeId).to_vec();
        placement.reported = LogIndex(4_000_000_000);
    }
    let bytes = codec::encode(&cluster.state).len();
    assert!(bytes < STATE_BYTES_MAX, "{bytes} bytes");
    assert!(bytes > 40_000, "{bytes} bytes: this is not the largest");
}

#[test]
fn the_runtime_drives_it_by_bytes() {
    use crate::types::entity::Typed;
    use crate::types::kind::{At, Decided, Kind};
    let mut live = Typed::<MetaGroup>::default().load(META_KEY, None).unwrap();
    let cluster = Cluster::founded(2, 1);
    let found = MetaCommand::Found {
        cluster: ClusterId([7; 16]),
        shards: 2,
        rf: 1,
        level: FeatureLevel(1),
        node: facts(1, "z0"),
    };
    let at = At { now: cluster.now, command_id: CommandId::default() };
    let Decided::Events { events, erase: crate::types::record::Erasure::Nothing } =
        live.decide(&codec::encode(&found), &at).unwrap()
    else {
        panic!("founding makes an event")
    };
    live.evolve(&events).unwrap();
    assert_eq!(live.encode(), codec::encode(&cluster.state));
    assert_eq!(live.describe(&events).unwrap()[0]["type"], "founded");
    let refused = live.decide(&codec::encode(&MetaCommand::Unwanted), &at).unwrap();
    assert_eq!(refused, Decided::Rejected(codec::encode(&MetaRefusal::NotWanted)));
    assert!(live.wants().next_due().is_none());
}

mod golden;
mod properties;

//! Groups on their way: by hand, and from any state that can come about.

use super::*;
use crate::sharding::meta::fixtures::Cluster;
use crate::sharding::meta::{MetaCommand, ShardWish};
use proptest::prelude::*;

fn peers(ids: &[u64]) -> Vec<PeerId> {
    ids.iter().copied().map(PeerId).collect()
}
fn group(voters: &[u64], learners: &[u64]) -> Group {
    Group { voters: peers(voters), learners: peers(learners), ..Group::default() }
}
fn want(voters: &[u64], group: &Group) -> Vec<Target> {
    let inside = |peer| group.voters.contains(&peer) || group.learners.contains(&peer);
    let target = |peer: &PeerId| Target { node: NodeId(peer.0), peer: *peer, seat: Seat::Voter, fresh: !inside(*peer) };
    peers(voters).iter().map(target).collect()
}
fn step(wanted: &[u64], group: &Group, me: u64, reachable: &[u64]) -> Option<Step> {
    next_step(&want(wanted, group), group, PeerId(me), &peers(reachable).into_iter().collect())
}

/// Does a step as a group would.
fn take(group: &mut Group, me: &mut PeerId, step: Step) {
    match step {
        Step::AddLearner(peer) => {
            assert!(!group.voters.contains(&peer) && !group.learners.contains(&peer));
            group.learners.push(peer);
        }
        Step::Promote(peer) => {
            let learned = group.learners.len();
            group.learners.retain(|learner| *learner != peer);
            assert_eq!(group.learners.len() + 1, learned);
            group.voters.push(peer);
        }
        Step::Remove(peer) => {
            assert_ne!(peer, *me, "a leader never removes itself");
            group.voters.retain(|voter| *voter != peer);
            group.learners.retain(|learner| *learner != peer);
        }
        Step::TransferLeader(peer) => {
            assert!(group.voters.contains(&peer) && peer != *me);
            *me = peer;
        }
    }
}

#[test]
fn a_moved_replica_learns_votes_and_then_the_old_one_leaves() {
    let mut now = group(&[1, 2, 3], &[]);
    let mut me = PeerId(3);
    let mut steps = Vec::new();
    while let Some(next) = step(&[1, 2, 4], &now, me.0, &[1, 2, 3, 4]) {
        take(&mut now, &mut me, next);
        steps.push(next);
    }
    let (four, three) = (PeerId(4), PeerId(3));
    assert_eq!(steps[..2], [Step::AddLearner(four), Step::Promote(four)]);
    assert!(matches!(steps[2], Step::TransferLeader(_)));
    assert_eq!(steps[3..], [Step::Remove(three)]);
}

#[test]
fn a_leader_that_is_to_leave_names_another_successor_when_the_first_does_not_take_over() {
    let mut now = group(&[1, 2, 3, 4], &[]);
    let mut named = Vec::new();
    for look in 1..=6 {
        let Some(Step::TransferLeader(peer)) = step(&[1, 2, 3], &now, 4, &[1, 2, 3, 4]) else { panic!("{named:?}") };
        now.named.insert(peer, look);
        named.push(peer.0);
    }
    assert_eq!(named, [2, 3, 1, 2, 3, 1]);
}

#[test]
fn nothing_leaves_before_its_successor_votes() {
    // 4 learns already, but cannot be reached; 3 is alive and not wanted any more.
    assert_eq!(step(&[1, 2, 4], &group(&[1, 2, 3], &[4]), 1, &[1, 2, 3]), None);
    // 3 votes but is away: the copy on 4 stays until it is back.
    assert_eq!(step(&[1, 2, 3], &group(&[1, 2, 3, 4], &[]), 1, &[1, 2, 4]), None);
    let (now, all) = (group(&[1, 2, 3, 4], &[]), [1, 2, 3, 4]);
    assert_eq!(step(&[1, 2, 3], &now, 1, &all), Some(Step::Remove(PeerId(4))));
}

#[test]
fn nothing_is_done_without_a_majority_or_in_the_middle_of_a_joint_change() {
    assert_eq!(step(&[1, 2, 4], &group(&[1, 2, 3], &[]), 1, &[4]), None);
    let joint = Group { outgoing: peers(&[1, 2]), ..group(&[1, 2, 3], &[]) };
    assert_eq!(step(&[1, 2, 4], &joint, 1, &[1, 2, 3, 4]), None);
    assert_eq!(step(&[1, 2, 4], &group(&[1, 2, 3], &[]), 9, &[1, 2, 3, 4]), None, "not a voter, so not the leader");
}

#[test]
fn a_peer_that_has_left_is_not_added_again() {
    let now = group(&[1, 2], &[]);
    let mut targets = want(&[1, 2, 3], &now);
    targets[2].fresh = false;
    let all = peers(&[1, 2, 3]).into_iter().collect();
    assert_eq!(next_step(&targets, &now, PeerId(1), &all), None);
}

#[test]
fn a_voter_that_ought_to_learn_leaves_and_comes_back() {
    let mut now = group(&[1, 2, 3, 4], &[]);
    let mut me = PeerId(1);
    let mut steps = Vec::new();
    loop {
        let mut targets = want(&[1, 2, 3, 4], &now);
        targets[3].seat = Seat::Learner;
        let all = peers(&[1, 2, 3, 4]).into_iter().collect();
        let Some(next) = next_step(&targets, &now, me, &all) else { break };
        take(&mut now, &mut me, next);
        steps.push(next);
    }
    assert_eq!(steps, [Step::Remove(PeerId(4)), Step::AddLearner(PeerId(4))]);
    assert_eq!(now, group(&[1, 2, 3], &[4]));
}

/// A cluster of four nodes; shard 0 is on 1, with a second replica planned on 2, whose peer is this.
fn planned() -> (Cluster, PeerId) {
    let mut cluster = Cluster::founded(1, 2);
    for _ in 2..=4 {
        cluster.join("z");
    }
    wish(&mut cluster, &[1, 2]);
    let peer = cluster.state.placement(ShardId(0)).unwrap().replica_on(NodeId(2)).unwrap().peer;
    (cluster, peer)
}
fn wish(cluster: &mut Cluster, wanted: &[u64]) {
    let wanted = wanted.iter().copied().map(NodeId).collect();
    cluster.must(MetaCommand::Plan { changes: vec![ShardWish { shard: ShardId(0), wanted }] });
}
fn report(cluster: &mut Cluster, index: u64, group: &Group) {
    let (voters, learners) = (group.voters.clone(), group.learners.clone());
    cluster.must(MetaCommand::GroupChanged { shard: ShardId(0), index: LogIndex(index), voters, learners });
}
/// What a leader with this view of the cluster does next to its group, whose membership has this index.
fn step_by(view: &Cluster, index: u64, group: &Group) -> Option<Step> {
    let nodes = (1..=4).map(NodeId).collect();
    step_of(&view.state, ShardId(0), LogIndex(index), group, PeerId(1), &nodes)
}

#[test]
fn a_leader_that_has_not_heard_of_a_replica_leaves_it_alone() {
    let (cluster, peer) = planned();
    let old = Cluster::founded(1, 2);
    let group = Group { voters: peers(&[1]), learners: vec![peer], ..Group::default() };
    let (mut noted, mut behind) = (cluster, old);
    report(&mut behind, 9, &self::group(&[1], &[]));
    assert_eq!(step_by(&behind, 10, &group), None, "its view is of an older group");
    report(&mut noted, 10, &group);
    assert_eq!(step_by(&noted, 10, &group), Some(Step::Promote(peer)));
}

#[test]
fn a_peer_is_never_added_twice_whatever_the_views_are() {
    let (mut cluster, peer) = planned();
    let with = Group { voters: peers(&[1]), learners: vec![peer], ..Group::default() };
    report(&mut cluster, 9, &group(&[1], &[]));
    assert_eq!(step_by(&cluster, 9, &group(&[1], &[])), Some(Step::AddLearner(peer)));
    // The place is given to another node before the report of that step arrives.
    wish(&mut cluster, &[1, 3]);
    assert_eq!(step_by(&cluster, 10, &with), None, "the step is not noted yet");
    report(&mut cluster, 10, &with);
    assert_eq!(step_by(&cluster, 10, &with), Some(Step::Remove(peer)));
    // And comes back to it before the report of the removal does.
    wish(&mut cluster, &[1, 2]);
    let without = group(&[1], &[]);
    assert_eq!(step_by(&cluster, 11, &without), None);
    report(&mut cluster, 11, &without);
    assert!(step_by(&cluster, 11, &without).is_none_or(|step| step != Step::AddLearner(peer)), "its log is gone");
    assert!(
        cluster.state.placement(ShardId(0)).unwrap().replica_on(NodeId(2)).is_none(),
        "another peer takes its place"
    );
}

fn any_group() -> impl Strategy<Value = (Group, PeerId)> {
    let members = prop::collection::btree_map(1u64..12, prop::bool::weighted(0.7), 1..7);
    members.prop_filter_map("a group has a voter", |members| {
        let of = |votes| {
            let ids: Vec<u64> = members.iter().filter(|(_, v)| **v == votes).map(|(id, _)| *id).collect();
            peers(&ids)
        };
        let now = Group { voters: of(true), learners: of(false), ..Group::default() };
        now.voters.first().copied().map(|me| (now, me))
    })
}

fn sorted(mut ids: Vec<PeerId>) -> Vec<PeerId> {
    ids.sort_unstable();
    ids
}

proptest! {
    #[test]
    fn steps_end_at_what_is_wanted_and_are_safe(
        (start, leader) in any_group(),
        wanted in prop::collection::btree_set(1u64..12, 1..6),
        away in prop::collection::btree_set(1u64..12, 0..4),
        all_there in any::<bool>(),
    ) {
        let wanted: Vec<u64> = wanted.into_iter().collect();
        let reachable: BTreeSet<PeerId> =
            (1..12).filter(|id| all_there || !away.contains(id)).map(PeerId).chain([leader]).collect();
        let live = |voters: &[PeerId]| voters.iter().filter(|peer| reachable.contains(peer)).count();
        let targets = want(&wanted, &start);
        let (mut now, mut me) = (start.clone(), leader);
        let mut left: BTreeSet<PeerId> = BTreeSet::new();
        let mut steps = 0;
        while let Some(next) = next_step(&targets, &now, me, &reachable) {
            let before = now.clone();
            take(&mut now, &mut me, next);
            steps += 1;
            prop_assert!(steps <= 40, "no end: {:?}", next);
            prop_assert!(reachable.contains(&me) && now.voters.contains(&me));
            prop_assert!(live(&now.voters) >= majority(now.voters.len()), "no quorum after {:?}", next);
            prop_assert!(live(&now.voters) >= live(&before.voters).min(wanted.len()), "a copy lost by {:?}", next);
            if let Step::AddLearner(peer) = next {
                prop_assert!(!left.contains(&peer), "a peer came back");
            }
            left.extend(before.voters.iter().chain(&before.learners).filter(|peer| {
                !now.voters.contains(peer) && !now.learners.contains(peer)
            }));
        }
        if wanted.iter().all(|id| reachable.contains(&PeerId(*id))) && live(&start.voters) >= majority(start.voters.len()) {
            prop_assert_eq!(sorted(now.voters), peers(&wanted));
            prop_assert_eq!(now.learners, vec![]);
        }
    }
}

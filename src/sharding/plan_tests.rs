//! The planner with the machine, the reconciler and groups that do what they are told: clusters that grow, lose nodes,
//! drain and come to rest.

use super::*;
use crate::sharding::meta::fixtures::Cluster;
use crate::sharding::meta::{PeerId, Seat, Settings};
use crate::sharding::reconcile::{Group, Step, next_step};
use crate::types::ids::{Incarnation, LogIndex};
use crate::types::time::Millis;
use proptest::prelude::*;

/// A cluster whose groups follow the steps at once.
struct World {
    cluster: Cluster,
    groups: BTreeMap<ShardId, (Group, u64)>,
    away: BTreeSet<NodeId>,
    /// Replicas that were added to a group.
    added: usize,
}

impl World {
    fn new(shards: u16, rf: u8) -> Self {
        let cluster = Cluster::founded(shards, rf);
        let lone = |shard| Group { voters: vec![PeerId::founder(shard)], ..Group::default() };
        let groups = cluster.state.placements().map(|(shard, _)| (shard, (lone(shard), 1))).collect();
        Self { cluster, groups, away: BTreeSet::new(), added: 0 }
    }
    fn with_nodes(shards: u16, rf: u8, nodes: usize) -> Self {
        let mut world = Self::new(shards, rf);
        for number in 1..nodes {
            world.cluster.join(&format!("z{}", number % 3));
        }
        world.settle();
        world
    }
    fn reachable(&self) -> BTreeSet<NodeId> {
        self.cluster.state.members().map(|(node, _)| node).filter(|node| !self.away.contains(node)).collect()
    }
    fn plan(&self) -> Vec<ShardWish> {
        match plan(&self.cluster.state, &self.reachable(), self.cluster.now) {
            Some(MetaCommand::Plan { changes }) => changes,
            Some(_) | None => Vec::new(),
        }
    }

    /// Groups that change and could go on.
    fn changing(&self) -> usize {
        let live = |placement: &Placement| {
            let voters = || placement.replicas.iter().filter(|replica| replica.role == Role::Voter);
            voters().filter(|replica| !self.away.contains(&replica.node)).count() > voters().count() / 2
        };
        self.cluster.state.ordinary().filter(|(_, placement)| !placement.is_settled() && live(placement)).count()
    }

    /// One look of the meta group's leader and of every shard's; whether anything was done.
    fn look(&mut self) -> bool {
        let before = self.changing();
        let changes = self.plan();
        let mut busy = !changes.is_empty();
        if busy {
            self.cluster.must(MetaCommand::Plan { changes });
        }
        // Those that had lost their majority and have it again are beyond the limit for a while; none is begun beyond it.
        let most = usize::from(self.cluster.state.settings().moves_max).max(before);
        assert!(self.changing() <= most, "{} groups change", self.changing());
        for shard in self.groups.keys().copied().collect::<Vec<_>>() {
            busy |= self.step(shard);
        }
        busy
    }

    fn step(&mut self, shard: ShardId) -> bool {
        let reachable = self.cluster.state.peers_on(shard, &self.reachable());
        let targets = self.cluster.state.targets(shard);
        let (group, index) = self.groups.get_mut(&shard).unwrap();
        let Some(me) = group.voters.iter().copied().find(|peer| reachable.contains(peer)) else { return false };
        let live = |group: &Group| group.voters.iter().filter(|peer| reachable.contains(peer)).count();
        let wanted = targets.iter().filter(|target| target.seat == Seat::Voter).count();
        let least = live(group).min(wanted);
        // Led by a voter that stays, after a transfer.
        let step = match next_step(&targets, group, me, &reachable) {
            Some(Step::TransferLeader(to)) => next_step(&targets, group, to, &reachable),
            step => step,
        };
        match step {
            Some(Step::AddLearner(peer)) => {
                group.learners.push(peer);
                self.added += usize::from(shard != META_SHARD);
            }
            Some(Step::Promote(peer)) => {
                group.learners.retain(|learner| *learner != peer);
                group.voters.push(peer);
            }
            Some(Step::Remove(peer)) => {
                group.learners.retain(|learner| *learner != peer);
                group.voters.retain(|voter| *voter != peer);
            }
            Some(Step::TransferLeader(_)) => panic!("two transfers in a row"),
            None => {}
        }
        *index += u64::from(step.is_some());
        assert!(live(group) >= least, "shard {shard} lost a copy by {step:?}");
        let (voters, learners, index) = (group.voters.clone(), group.learners.clone(), LogIndex(*index));
        let news = self.cluster.state.would_note(shard, index, &voters, &learners);
        if news {
            self.cluster.must(MetaCommand::GroupChanged { shard, index, voters, learners });
        }
        step.is_some() || news
    }

    fn settle(&mut self) {
        for _ in 0..4_000 {
            if !self.look() {
                return;
            }
        }
        panic!("the cluster does not come to rest");
    }

    /// Replicas of each node, smallest first.
    fn loads(&self) -> Vec<usize> {
        let held = |node| self.cluster.state.ordinary().filter(|(_, p)| p.replica_on(node).is_some()).count();
        let mut loads: Vec<usize> = self.cluster.state.members().map(|(node, _)| held(node)).collect();
        loads.sort_unstable();
        loads
    }
    fn holds(&self, node: NodeId) -> usize {
        self.cluster.state.ordinary().filter(|(_, placement)| placement.replica_on(node).is_some()).count()
    }
    fn all_have(&self, copies: usize) -> bool {
        self.cluster.state.ordinary().all(|(_, placement)| placement.is_settled() && placement.wanted.len() == copies)
    }
    fn lose(&mut self, node: NodeId) {
        self.away.insert(node);
        self.cluster.lose(node);
    }
    fn voters_of_meta(&self) -> Vec<u64> {
        self.cluster.state.placement(META_SHARD).unwrap().wanted.iter().map(|node| node.0).collect()
    }
}

#[test]
fn groups_grow_with_the_nodes_up_to_the_factor() {
    let mut world = World::new(16, 3);
    assert_eq!(world.plan(), vec![], "one node is all there is");
    world.cluster.join("z1");
    world.settle();
    assert!(world.all_have(2));
    world.cluster.join("z2");
    world.settle();
    assert!(world.all_have(3));
    assert_eq!(world.added, 32, "each added replica stays");
}

#[test]
fn from_three_nodes_to_five_and_back_moves_little_more_than_it_must() {
    let mut world = World::new(64, 3);
    world.cluster.join("z0");
    world.cluster.join("z0");
    world.settle();
    assert_eq!(world.loads(), [64, 64, 64]);
    world.added = 0;
    let four = world.cluster.join("z0");
    let five = world.cluster.join("z0");
    world.settle();
    assert!(world.all_have(3) && world.loads().iter().all(|load| (38..=39).contains(load)), "{:?}", world.loads());
    assert!(world.added <= 77, "{} moved, 76 are needed", world.added);
    for node in [four, five] {
        world.cluster.must(MetaCommand::Drain { node, depth: DrainDepth::Replicas });
    }
    world.added = 0;
    world.settle();
    assert_eq!((world.holds(four), world.holds(five), world.added), (0, 0, 76));
    for node in [four, five] {
        world.cluster.must(MetaCommand::Remove { node, forced: false });
    }
    world.settle();
    assert_eq!(world.loads(), [64, 64, 64]);
}

#[test]
fn a_node_gone_for_good_is_replaced_and_one_that_is_only_away_is_not() {
    let mut world = World::with_nodes(16, 3, 4);
    let lost = NodeId(2);
    let held = world.holds(lost);
    assert!(held > 0);
    world.lose(lost);
    world.cluster.pass(Millis(599_999));
    assert_eq!(world.plan(), vec![]);
    world.cluster.pass(Millis(1));
    world.settle();
    assert_eq!(world.holds(lost), 0);
    assert!(world.all_have(3));
    world.cluster.must(MetaCommand::Remove { node: lost, forced: false });
}

#[test]
fn nobody_replaces_a_node_where_there_is_nobody_to_spare() {
    let mut world = World::with_nodes(16, 3, 3);
    world.lose(NodeId(2));
    world.cluster.pass(Millis::from_hours(1));
    assert_eq!(world.plan(), vec![], "its copies are there when it comes back");
    world.lose(NodeId(3));
    world.cluster.join("z1");
    assert_eq!(world.plan(), vec![], "a group without a majority is left alone");
}

#[test]
fn a_group_that_cannot_go_on_does_not_keep_the_others_waiting() {
    let mut world = World::with_nodes(4, 1, 3);
    world.cluster.must(MetaCommand::SetSettings(Settings { moves_max: 1, ..Settings::default() }));
    let (stuck, placement) =
        world.cluster.state.ordinary().find(|(_, placement)| placement.wanted == [NodeId(2)]).unwrap();
    let (stuck, moving) = (stuck, ShardWish { shard: stuck, wanted: vec![NodeId(3)] });
    assert!(placement.is_settled());
    world.cluster.must(MetaCommand::Plan { changes: vec![moving] });
    assert_eq!(world.plan(), vec![], "one group is changing, and that is as many as may");
    world.lose(NodeId(2));
    world.cluster.must(MetaCommand::Drain { node: NodeId(3), depth: DrainDepth::Replicas });
    let planned: Vec<ShardId> =
        world.plan().iter().map(|wish| wish.shard).filter(|shard| *shard != META_SHARD).collect();
    assert!(planned.len() == 1 && planned[0] != stuck, "{planned:?}");
}

#[test]
fn a_drain_before_a_restart_leaves_the_copies() {
    let mut world = World::with_nodes(16, 3, 5);
    world.cluster.must(MetaCommand::Drain { node: NodeId(2), depth: DrainDepth::Leaders });
    assert_eq!(world.plan(), vec![]);
    world.cluster.must(MetaCommand::Drain { node: NodeId(2), depth: DrainDepth::Replicas });
    world.settle();
    assert_eq!(world.holds(NodeId(2)), 0);
    assert!(!world.voters_of_meta().contains(&2));
}

#[test]
fn zones_are_spread_and_repaired() {
    let mut world = World::new(16, 2);
    world.cluster.join("z0");
    world.settle();
    world.cluster.join("z1");
    world.settle();
    let state = &world.cluster.state;
    for (shard, placement) in state.ordinary() {
        let zones: BTreeSet<&str> =
            placement.wanted.iter().map(|node| state.member(*node).unwrap().zone.as_str()).collect();
        assert_eq!(zones.len(), 2, "shard {shard}");
    }
    assert_eq!(world.loads(), [8, 8, 16], "the lone node of its zone has them all");
}

#[test]
fn balance_is_sought_within_the_zones() {
    let mut world = World::with_nodes(64, 3, 3);
    world.cluster.join("z0");
    world.cluster.join("z1");
    world.settle();
    assert_eq!(world.loads(), [32, 32, 32, 32, 64], "one zone has one node");
}

#[test]
fn replicas_follow_the_weights() {
    let mut world = World::new(60, 2);
    for weight in [100, 100, 200] {
        world.cluster.join_as("z0", weight);
    }
    world.settle();
    assert_eq!(world.loads(), [24, 24, 24, 48]);
}

#[test]
fn the_meta_group_has_an_odd_number_of_voters_up_to_five() {
    let mut world = World::new(1, 1);
    let mut counts = vec![world.voters_of_meta().len()];
    for number in 2..=7 {
        world.cluster.join(&format!("z{}", number % 3));
        world.settle();
        counts.push(world.voters_of_meta().len());
        let (group, _) = &world.groups[&META_SHARD];
        assert_eq!(group.voters.len() + group.learners.len(), number, "all others learn");
    }
    assert_eq!(counts, [1, 1, 3, 3, 5, 5, 5]);
    let before = world.voters_of_meta();
    world.lose(NodeId(before[1]));
    world.cluster.pass(Millis::from_mins(10));
    world.settle();
    let after = world.voters_of_meta();
    assert!(after.len() == 5 && !after.contains(&before[1]), "{after:?}");
}

#[test]
fn the_same_state_gives_the_same_plan_and_a_plan_is_limited() {
    let mut world = World::with_nodes(64, 3, 3);
    world.cluster.join("z0");
    let one = world.plan();
    assert_eq!(one, world.plan());
    assert_eq!(one.len(), usize::from(world.cluster.state.settings().moves_max));
    for wish in &one {
        let old = &world.cluster.state.placement(wish.shard).unwrap().wanted;
        assert_eq!(wish.wanted.iter().filter(|node| !old.contains(node)).count(), 1, "one replica moves");
    }
}

/// What befalls a cluster.
#[derive(Clone, Debug)]
enum Blow {
    Join(u8),
    Lose(prop::sample::Index),
    Return,
    Bury,
    Drain(prop::sample::Index),
    Undrain,
    Looks(u8),
}

fn blow() -> impl Strategy<Value = Blow> {
    prop_oneof![
        3 => (0u8..3).prop_map(Blow::Join),
        2 => any::<prop::sample::Index>().prop_map(Blow::Lose),
        2 => Just(Blow::Return),
        1 => Just(Blow::Bury),
        1 => any::<prop::sample::Index>().prop_map(Blow::Drain),
        1 => Just(Blow::Undrain),
        3 => (1u8..6).prop_map(Blow::Looks),
    ]
}

fn suffer(world: &mut World, blow: Blow) {
    let nodes: Vec<NodeId> = world.reachable().into_iter().collect();
    match blow {
        Blow::Join(zone) if nodes.len() < 9 => {
            world.cluster.join(&format!("z{zone}"));
        }
        // One at a time: with more away there may be groups that cannot move until they are back.
        Blow::Lose(which) if world.away.is_empty() && nodes.len() > 1 => world.lose(nodes[which.index(nodes.len())]),
        Blow::Return => {
            for node in std::mem::take(&mut world.away) {
                let incarnation = Incarnation(0);
                let _is_member = world.cluster.ask(MetaCommand::NodeSeen { node, incarnation });
            }
        }
        Blow::Bury => world.cluster.pass(Millis::from_mins(11)),
        Blow::Drain(which) => {
            let node = nodes[which.index(nodes.len())];
            let _changed = world.cluster.ask(MetaCommand::Drain { node, depth: DrainDepth::Replicas });
        }
        Blow::Undrain => {
            for node in nodes {
                let _changed = world.cluster.ask(MetaCommand::Undrain { node });
            }
        }
        Blow::Looks(count) => {
            for _ in 0..count {
                world.look();
            }
        }
        Blow::Join(_) | Blow::Lose(_) => {}
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn whatever_happens_copies_are_kept_and_the_cluster_comes_to_rest(
        rf in 1u8..4, blows in prop::collection::vec(blow(), 1..14)
    ) {
        let mut world = World::new(6, rf);
        world.cluster.must(MetaCommand::SetSettings(Settings { moves_max: 2, ..Settings::default() }));
        for blow in blows {
            suffer(&mut world, blow);
        }
        suffer(&mut world, Blow::Return);
        suffer(&mut world, Blow::Undrain);
        world.settle();
        let nodes = world.cluster.state.members().count();
        prop_assert!(world.all_have(nodes.min(usize::from(rf))));
        prop_assert_eq!(world.plan(), vec![]);
        let voters = world.voters_of_meta().len();
        prop_assert!(voters % 2 == 1 && voters == nodes.min(5) - usize::from(nodes < 5 && nodes.is_multiple_of(2)));
        let replayed = world.cluster.replay();
        prop_assert_eq!(replayed, world.cluster.state);
    }
}

//! The time that timers fire by, shard by shard, from what the links show of the other nodes' clocks; and whether this
//! node's own clock is so far off that it must lead nothing. The rules are in `sharding::clock`.
//!
//! Kept here: the own wall clock is one vote among the voters', at every instant. All other clocks are read against the
//! steady clock, so setting the own one, while it leads too, moves the time no further than another voter's clock is.

use crate::actors::cluster::leave;
use crate::actors::node::Node;
use crate::actors::shared::Shared;
use crate::replication::transport::LinkStatus;
use crate::sharding::attempts::Attempts;
use crate::sharding::clock::{Band, CLOCK_OFF_MAX, Reading, band, deviation, off};
use crate::sharding::meta::{MetaState, Role};
use crate::types::ids::{META_SHARD, NodeId, ShardId};
use crate::types::limits::SHARDS_MAX;
use crate::types::time::{BootId, BootMillis, Clock, Millis, Timestamp};
use parking_lot::RwLock;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::Duration;
use tokio::sync::watch;

const LOOK_EVERY: Duration = Duration::from_millis(100);
/// While its clock is off, a node tries to hand over by every so many looks.
const HAND_OVER_EVERY: u32 = 5;
/// No majority of clocks.
const UNKNOWN: i64 = i64::MIN;

/// One per node.
pub struct Clocks {
    me: NodeId,
    /// What the others' clocks leave to the own one, by shard: offsets to the steady clock. Written apart: each alone is a
    /// bound that holds.
    least: Vec<AtomicI64>,
    /// [`UNKNOWN`] while no majority is known.
    most: Vec<AtomicI64>,
    /// The latest instant that each shard has reached here: its time never goes back.
    reached: Vec<AtomicI64>,
    group: RwLock<Group>,
    readings: RwLock<BTreeMap<NodeId, Reading>>,
    off: RwLock<BTreeSet<NodeId>>,
    am_off: AtomicBool,
}

/// Whose clocks count.
#[derive(Default)]
struct Group {
    members: BTreeSet<NodeId>,
    voters: BTreeMap<ShardId, Vec<NodeId>>,
}

impl Clocks {
    #[must_use]
    pub fn new(me: NodeId) -> Self {
        let slots = |value| (0..=SHARDS_MAX).map(|_| AtomicI64::new(value)).collect();
        Self {
            me,
            least: slots(i64::MIN),
            most: slots(i64::MAX),
            reached: slots(UNKNOWN),
            group: RwLock::default(),
            readings: RwLock::default(),
            off: RwLock::default(),
            am_off: AtomicBool::new(false),
        }
    }

    /// The time of a shard when the own wall clock shows `own` and the steady one `steady`. It stands still while no
    /// majority of the voters' clocks is known, and is `None` when it never was.
    #[must_use]
    pub fn time(&self, shard: ShardId, own: Timestamp, steady: Timestamp) -> Option<Timestamp> {
        let slot = usize::from(shard.0);
        let (most, least, reached) = (self.most.get(slot)?, self.least.get(slot)?, self.reached.get(slot)?);
        let now = match most.load(Ordering::Acquire) {
            UNKNOWN => UNKNOWN,
            most => Band { least: Millis(least.load(Ordering::Acquire)), most: Millis(most) }.time(own, steady).0,
        };
        let reached = reached.fetch_max(now, Ordering::AcqRel).max(now);
        (reached != UNKNOWN).then_some(Timestamp(reached))
    }

    /// Whether a majority of the shard's voters' clocks is known now.
    #[must_use]
    pub fn is_known(&self, shard: ShardId) -> bool {
        self.most.get(usize::from(shard.0)).is_some_and(|known| known.load(Ordering::Acquire) != UNKNOWN)
    }

    /// This node's clock is off: it must lead nothing.
    #[must_use]
    pub fn am_off(&self) -> bool {
        self.am_off.load(Ordering::Acquire)
    }

    /// Nodes whose clocks are off, as seen from here.
    #[must_use]
    pub fn off(&self) -> BTreeSet<NodeId> {
        self.off.read().clone()
    }

    /// How far the own clock is behind the median of the members' clocks; negative ahead of it.
    #[must_use]
    pub fn deviation(&self) -> Option<Millis> {
        let members = self.group.read().members.len().max(1);
        let readings = self.readings.read();
        deviation(members, *readings.get(&self.me)?, readings.values().copied())
    }

    /// What is known of the members' clocks as of the last look, this node's own among them.
    #[must_use]
    pub fn readings(&self) -> BTreeMap<NodeId, Reading> {
        self.readings.read().clone()
    }

    /// Members and voters are these from now on.
    pub fn follow(&self, state: &MetaState) {
        let voters = state.placements().map(|(shard, placement)| {
            let votes = placement.replicas.iter().filter(|replica| replica.role == Role::Voter);
            (shard, votes.map(|replica| replica.node).collect())
        });
        self.count(state.members().map(|(node, _)| node).collect(), voters.collect());
    }

    /// The clocks of these members count, those of its voters for a shard.
    pub(crate) fn count(&self, members: BTreeSet<NodeId>, voters: BTreeMap<ShardId, Vec<NodeId>>) {
        let before = std::mem::replace(&mut *self.group.write(), Group { members, voters });
        self.correct();
        if before.members.is_empty() {
            // What the own clock alone showed so far binds nobody: one that is ahead would make the time stand still.
            self.reached.iter().for_each(|reached| reached.store(UNKNOWN, Ordering::Release));
        }
    }

    /// Takes the links' word for the other clocks; `own` and `steady` are what this node's show. Returns whether its wall
    /// clock is off now, when that has changed.
    pub fn look(&self, links: &[LinkStatus], own: Timestamp, steady: Timestamp) -> Option<bool> {
        let of = |link: &LinkStatus| {
            let (offset, error) = (Millis(link.steady_offset_ms?), Millis(link.clock_error_ms?));
            link.up.then_some((NodeId(link.node), Reading { offset, error }))
        };
        let own = (self.me, Reading::exact(own - steady));
        let readings: BTreeMap<NodeId, Reading> = links.iter().filter_map(of).chain([own]).collect();
        let group = self.group.read();
        let known = readings.iter().filter(|(node, _)| group.members.contains(node));
        let known: BTreeMap<NodeId, Reading> = known.map(|(node, reading)| (*node, *reading)).collect();
        let members = group.members.len();
        drop(group);
        let now_off = off(&known, members, &self.off.read());
        let am_off = now_off.contains(&self.me);
        *self.off.write() = now_off;
        *self.readings.write() = readings;
        self.correct();
        (self.am_off.swap(am_off, Ordering::AcqRel) != am_off).then_some(am_off)
    }

    fn correct(&self) {
        let (group, readings) = (self.group.read(), self.readings.read());
        for (shard, voters) in &group.voters {
            let others = voters.iter().filter(|node| **node != self.me).filter_map(|node| readings.get(node).copied());
            let band = band(voters.len(), voters.contains(&self.me), others);
            let slot = usize::from(shard.0);
            if let (Some(least), Some(most)) = (self.least.get(slot), self.most.get(slot)) {
                least.store(band.map_or(i64::MIN, |band| band.least.0), Ordering::Release);
                most.store(band.map_or(UNKNOWN, |band| band.most.0), Ordering::Release);
            }
        }
    }
}

impl Shared {
    /// The time of a shard: what its timers fire by. `None` until a majority of its voters' clocks was known once.
    #[must_use]
    pub fn time(&self, shard: ShardId) -> Option<Timestamp> {
        self.clocks.time(shard, self.clock.now(), self.clock.steady())
    }
}

/// The clock of the front door: what most members' clocks show, as far as that is known; else this node's own.
pub struct ClusterClock(Arc<Shared>);

impl ClusterClock {
    #[must_use]
    pub fn new(shared: Arc<Shared>) -> Arc<Self> {
        Arc::new(Self(shared))
    }
}

impl Clock for ClusterClock {
    fn now(&self) -> Timestamp {
        let (clocks, own) = (&self.0.clocks, self.0.clock.now());
        let known = clocks.is_known(META_SHARD).then(|| clocks.time(META_SHARD, own, self.steady()));
        known.flatten().unwrap_or(own)
    }
    fn boot(&self) -> BootMillis {
        self.0.clock.boot()
    }
    fn boot_id(&self) -> BootId {
        self.0.clock.boot_id()
    }
    fn steady(&self) -> Timestamp {
        self.0.clock.steady()
    }
    fn moved(&self) -> watch::Receiver<u64> {
        self.0.clock.moved()
    }
}

/// Looks at the clocks until it is aborted; hands leadership over while this node's own is off.
pub async fn run(node: Arc<Node>) {
    let mut attempts = Attempts::default();
    let mut looks: u32 = 0;
    loop {
        tokio::time::sleep(LOOK_EVERY).await;
        let (clocks, clock) = (&node.shared.clocks, &node.shared.clock);
        let changed = clocks.look(&node.shared.transport().links(), clock.now(), clock.steady());
        let behind_ms = clocks.deviation().map(|deviation| deviation.0);
        match changed {
            Some(true) => tracing::error!(
                behind_ms,
                max_ms = CLOCK_OFF_MAX.0,
                "this node's clock is off the other nodes': it hands all leadership over and leads nothing until the clock \
                 is right; look at its time synchronisation"
            ),
            Some(false) => tracing::warn!(behind_ms, "this node's clock is right again: it may lead"),
            None => {}
        }
        if changed.is_some() {
            attempts.forget();
        }
        looks = if changed.is_some() { 0 } else { looks.wrapping_add(1) };
        if clocks.am_off() && looks.is_multiple_of(HAND_OVER_EVERY) {
            leave::name_heirs(&node, &leave::shunned(&node), &mut attempts);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sharding::meta::fixtures::Cluster;
    use crate::sharding::meta::{MetaCommand, ShardWish};
    use crate::types::ids::LogIndex;

    const ONE: ShardId = ShardId(1);

    fn link(node: u64, offset: i64) -> LinkStatus {
        LinkStatus {
            node,
            address: String::new(),
            up: true,
            incarnation: Some(1),
            round_trip_us: Some(1),
            clock_offset_ms: None,
            clock_error_ms: Some(2),
            steady_offset_ms: Some(offset),
            queued_bytes: 0,
            credit_bytes: [0; 3],
            dropped_frames: 0,
        }
    }

    /// Three nodes; shard 1 votes on all of them, the others on node 1.
    fn three() -> MetaState {
        let mut cluster = Cluster::founded(2, 3);
        let nodes = vec![NodeId(1), cluster.join("z"), cluster.join("z")];
        cluster.must(MetaCommand::Plan { changes: vec![ShardWish { shard: ONE, wanted: nodes }] });
        let voters = cluster.state.placement(ONE).unwrap().replicas.iter().map(|replica| replica.peer).collect();
        cluster.must(MetaCommand::GroupChanged { shard: ONE, index: LogIndex(3), voters, learners: Vec::new() });
        cluster.state
    }

    const STEADY: Timestamp = Timestamp(100_000);

    /// The time of shard 1, or of the shard given, when both of this node's clocks show the same.
    fn time(clocks: &Clocks, shard: ShardId, own: i64) -> Option<i64> {
        clocks.time(shard, Timestamp(own), Timestamp(own)).map(|time| time.0)
    }

    #[test]
    fn what_the_own_clock_showed_before_the_group_was_known_does_not_stop_its_time() {
        let clocks = Clocks::new(NodeId(1));
        assert_eq!(time(&clocks, ONE, 104_000), Some(104_000), "alone so far");
        clocks.follow(&three());
        assert_eq!(time(&clocks, ONE, 104_000), None);
        clocks.look(&[link(2, 0), link(3, 0)], STEADY + Millis(4_000), STEADY);
        assert_eq!(clocks.time(ONE, STEADY + Millis(4_000), STEADY), Some(STEADY - Millis(2)));
    }

    #[test]
    fn a_shard_has_no_time_before_a_majority_of_clocks_is_known_and_stands_still_after() {
        let clocks = Clocks::new(NodeId(1));
        clocks.follow(&three());
        assert_eq!(time(&clocks, ONE, 100_000), None);
        assert_eq!(time(&clocks, ShardId(0), 100_000), Some(100_000), "it votes alone");
        assert_eq!(clocks.look(&[link(2, 0)], STEADY, STEADY), None);
        assert_eq!(time(&clocks, ONE, 100_000), Some(99_998));
        clocks.look(&[LinkStatus { up: false, ..link(2, 0) }], STEADY, STEADY);
        assert!(!clocks.is_known(ONE));
        assert_eq!(time(&clocks, ONE, 200_000), Some(99_998), "nothing falls due");
        clocks.look(&[link(3, -50_000)], STEADY, STEADY);
        assert_eq!(time(&clocks, ONE, 100_000), Some(99_998), "it never goes back");
    }

    #[test]
    fn a_node_ahead_of_the_others_goes_by_their_time_and_is_off() {
        let clocks = Clocks::new(NodeId(1));
        clocks.follow(&three());
        let look = |two, three| clocks.look(&[link(2, two), link(3, three)], STEADY, STEADY);
        assert_eq!(look(-6_000, -6_000), Some(true));
        assert_eq!(time(&clocks, ONE, 100_000), Some(93_998));
        assert_eq!((clocks.am_off(), clocks.deviation()), (true, Some(Millis(-6_000))));
        assert_eq!(look(-3_000, -3_000), None, "not near enough yet");
        assert_eq!(look(-100, -100), Some(false));
        assert_eq!(look(0, 9_000), None, "another one is");
        assert_eq!(clocks.off(), BTreeSet::from([NodeId(3)]));
    }

    #[test]
    fn a_wall_clock_that_is_set_forward_takes_the_time_no_further_than_another_voter_is() {
        let clocks = Clocks::new(NodeId(1));
        clocks.follow(&three());
        clocks.look(&[link(2, 5), link(3, -5)], STEADY, STEADY);
        let set = STEADY + Millis::from_mins(1);
        assert_eq!(clocks.time(ONE, set, STEADY), Some(STEADY + Millis(3)), "before anyone has looked again");
        assert_eq!(clocks.look(&[link(2, 5), link(3, -5)], set, STEADY), Some(true), "and it is off at the next look");
        assert_eq!(clocks.deviation(), Some(Millis(-59_995)));
        let later = Millis::from_secs(30);
        assert_eq!(clocks.time(ONE, set + later, STEADY + later), Some(STEADY + later + Millis(3)), "it runs on");
    }

    #[test]
    fn a_wall_clock_that_stands_still_holds_the_time_up_no_more_than_the_others_allow() {
        let clocks = Clocks::new(NodeId(1));
        clocks.follow(&three());
        clocks.look(&[link(2, 5), link(3, -5)], STEADY, STEADY);
        let later = STEADY + Millis::from_mins(1);
        assert_eq!(clocks.time(ONE, STEADY, later), Some(later - Millis(7)));
    }

    #[test]
    fn clocks_that_are_moved_by_hand_move_the_time_at_once() {
        let clocks = Clocks::new(NodeId(1));
        clocks.follow(&three());
        clocks.look(&[link(2, 5), link(3, -5)], STEADY, STEADY);
        assert_eq!(time(&clocks, ONE, 3_700_000), Some(3_700_000), "the steady clock moves with them");
    }
}

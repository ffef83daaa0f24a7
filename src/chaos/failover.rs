//! From the fault to the next send of each shard that the victims led: detection and election as the other nodes saw them,
//! the send as the ledger has it.
//!
//! A gift whose attempt was open at the fault is waited out on purpose before it is looked up and repeated; so what counts
//! is the first acceptance of any gift of the shard after the fault.

use crate::chaos::gauge::{Blow, DUE_SOON_MIN, OPEN_ATTEMPTS_MIN, SOON};
use crate::chaos::happening::{Happening, Target, What};
use crate::chaos::looks::{Axis, Looks, View};
use crate::load::ledger::Arrival;
use crate::sharding::shard_of;
use crate::types::ids::{EntityKey, EntityKind};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// What a happening is called that ends a process without a warning.
const KILLED: &str = "killed";
/// A kill's blow is written down so near to its happening.
const NEAR_MS: u64 = 2_000;

/// Kind of a gift in an entity's key.
const GIFT: EntityKind = EntityKind(1);

/// The shard of a gift.
#[must_use]
fn shard_of_gift(id: [u8; 16], shards: u16) -> u16 {
    shard_of(&EntityKey { kind: GIFT, id }, shards).0
}

/// What a node's fault did to the shards that it led.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Failover {
    /// When, on the round's axis.
    pub at_ms: u64,
    pub node: u16,
    /// In the words of the happening: `killed`.
    pub name: String,
    /// Shards that it led.
    pub led: u64,
    /// Its calls that had left and had no answer, when it was last asked.
    pub open_attempts: u64,
    /// Gifts of the burst due until five seconds later and not yet sent, over all nodes.
    pub due_soon: u64,
    /// Until another node missed it.
    pub detection_ms: Option<u64>,
    /// For each of its shards, until another node led it.
    pub election_ms: Vec<u64>,
    /// For each of its shards that had something left to send, until its next send.
    pub send_ms: Vec<i64>,
}

impl Failover {
    #[must_use]
    pub fn is_kill(&self) -> bool {
        self.name == KILLED
    }

    /// Whether it hit the middle of the work.
    #[must_use]
    pub fn counts(&self) -> bool {
        self.open_attempts >= OPEN_ATTEMPTS_MIN || self.due_soon >= DUE_SOON_MIN
    }
}

/// What was done to nodes in a round, and how the others took over.
#[must_use]
pub fn failovers(
    happenings: &[Happening],
    blows: &[Blow],
    (looks, arrivals): (&Looks, &[Arrival]),
    (axis, shards): (Axis, u16),
) -> Vec<Failover> {
    let began = happenings.iter().filter(|happening| happening.what == What::Began);
    let of_nodes = began.filter_map(|happening| match happening.target {
        Target::Node(node) => Some((node, happening)),
        Target::Link { .. } | Target::Disk(_) | Target::Clock(_) => None,
        Target::Provider | Target::Redis | Target::Cluster => None,
    });
    let one = |(node, happening): (u16, &Happening)| {
        let at_ms = happening.at_ms_since_round_start;
        let led = led_before(looks, node, at_ms);
        // A kill's own look at its node is the freshest.
        let blow =
            blows.iter().find(|blow| blow.node == node && blow.at_ms_since_round_start.abs_diff(at_ms) <= NEAR_MS);
        let (detection_ms, election_ms) = taken_over(looks, node, at_ms, &led);
        Failover {
            at_ms,
            node,
            name: happening.name.clone(),
            led: led.len() as u64,
            open_attempts: blow.map_or_else(|| looks.open_attempts(node, at_ms), |blow| blow.open_attempts),
            due_soon: due_soon(arrivals, axis, at_ms),
            detection_ms,
            election_ms,
            send_ms: first_sends(&led, arrivals, (axis, shards), at_ms),
        }
    };
    of_nodes.map(one).collect()
}

fn led_before(looks: &Looks, node: u16, at_ms: u64) -> BTreeSet<u16> {
    let leaders = looks.view_before(at_ms).map(|view| &view.leaders).into_iter().flatten();
    leaders.filter(|(_, leader)| **leader == Some(node)).map(|(shard, _)| *shard).collect()
}

/// An election is as old as the look that saw it; a missing node is missed once that look has its answer.
fn taken_over(looks: &Looks, node: u16, at_ms: u64, led: &BTreeSet<u16>) -> (Option<u64>, Vec<u64>) {
    let after = || looks.views.iter().filter(|view| view.asked_ms >= at_ms);
    let since = |ms: u64| ms - at_ms;
    let taken =
        |view: &View, shard: u16| view.leaders.get(&shard).copied().flatten().is_some_and(|leader| leader != node);
    let missed = after().filter(|view| view.unreachable.contains(&node)).map(|view| since(view.heard_ms)).min();
    let of_shard = |shard: &u16| after().filter(|view| taken(view, *shard)).map(|view| since(view.asked_ms)).min();
    let elected: Vec<u64> = led.iter().filter_map(of_shard).collect();
    (missed.into_iter().chain(elected.iter().copied()).min(), elected)
}

/// Gifts due until five seconds after an instant of the axis, and not yet sent then.
#[must_use]
pub fn due_soon(arrivals: &[Arrival], axis: Axis, at_ms: u64) -> u64 {
    let at = i64::try_from(at_ms).unwrap_or(i64::MAX);
    let waits = |arrival: &&Arrival| {
        let unsent = arrival.first_at.is_none_or(|sent| axis.place_ms(sent) > at);
        unsent && axis.place_ms(arrival.gift.due) <= at + SOON.0
    };
    arrivals.iter().filter(waits).count() as u64
}

fn first_sends(led: &BTreeSet<u16>, arrivals: &[Arrival], (axis, shards): (Axis, u16), at_ms: u64) -> Vec<i64> {
    let at = i64::try_from(at_ms).unwrap_or(i64::MAX);
    let mut next: BTreeMap<u16, i64> = BTreeMap::new();
    for arrival in arrivals {
        let after = arrival.first_at.map(|sent| axis.place_ms(sent) - at).filter(|after| *after > 0);
        let shard = shard_of_gift(arrival.gift.id, shards);
        // A shard with nothing due would wait for its next gift, not for its new leader.
        let overdue = axis.place_ms(arrival.gift.due) <= at;
        if let Some(after) = after.filter(|_| overdue && led.contains(&shard)) {
            next.entry(shard).and_modify(|least| *least = after.min(*least)).or_insert(after);
        }
    }
    next.into_values().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chaos::looks::{Found, NodeLook};
    use crate::load::ledger::Promise;
    use crate::types::time::Timestamp;

    fn arrival(id: [u8; 16], due: i64, sent: Option<i64>) -> Arrival {
        let gift = Promise { id, due: Timestamp(due), number: 0 };
        Arrival { gift, requests: 1, effective: 1, first_at: sent.map(Timestamp) }
    }

    fn view(at_ms: u64, leader: Option<u16>, shards: [u16; 2], away: &[u16]) -> View {
        let leaders = shards.map(|shard| (shard, leader)).into();
        View { asked_ms: at_ms, heard_ms: at_ms + 5, leaders, unreachable: away.to_vec() }
    }

    #[test]
    fn a_kill_is_detected_elected_past_and_sent_past() {
        let (a, b) = ([1; 16], [2; 16]);
        let shards = [shard_of_gift(a, 64), shard_of_gift(b, 64)];
        let mut mixed = view(1_500, None, shards, &[2]);
        mixed.leaders.insert(shards[0], Some(3));
        let views = vec![
            view(700, Some(2), shards, &[]),
            // Nobody has noticed yet.
            view(1_050, Some(2), shards, &[]),
            view(1_200, None, shards, &[2]),
            mixed,
            view(1_900, Some(1), shards, &[2]),
        ];
        let nodes = vec![NodeLook { node: 2, at_ms: 900, found: Found::Up { open_attempts: 140 } }];
        let looks = Looks { nodes, views };
        let arrivals = [
            arrival(a, 0, Some(800)),
            arrival(a, 0, Some(2_600)),
            arrival(b, 900, Some(2_100)),
            arrival(b, 6_001, Some(6_100)),
            arrival(b, 5_999, None),
        ];
        let name = "killed".to_owned();
        let target = Target::Node(2);
        let kill = Happening { at_ms_since_round_start: 1_000, target, what: What::Began, name };
        let cut = Happening { target: Target::Link { from: 1, to: 2 }, ..kill.clone() };
        let ended = Happening { what: What::Ended, ..kill.clone() };
        let axis = Axis::new(Timestamp(0), 0);
        let edges = [kill, cut, ended];
        let found = failovers(&edges, &[], (&looks, &arrivals), (axis, 64));
        let [failover] = &found[..] else { panic!("{found:?}") };
        let blow = Blow { node: 2, at_ms_since_round_start: 990, open_attempts: 7, due_soon: 3 };
        let told = failovers(&edges, &[blow], (&looks, &arrivals), (axis, 64));
        assert_eq!(told[0].open_attempts, 7, "the blow's own look goes before");
        assert_eq!((failover.led, failover.open_attempts, failover.due_soon), (2, 140, 3));
        assert_eq!(failover.detection_ms, Some(205));
        let mut elections = failover.election_ms.clone();
        elections.sort_unstable();
        assert_eq!(elections, [500, 900]);
        let mut sends = failover.send_ms.clone();
        sends.sort_unstable();
        assert_eq!(sends, [1_100, 1_600]);
        assert!(failover.is_kill() && failover.counts());
        assert!(!Failover { open_attempts: 99, due_soon: 999, ..failover.clone() }.counts());
    }
}

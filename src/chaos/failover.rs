//! From the fault to the next send of each shard that the victims led: detection and election as the other nodes saw them,
//! the send as the ledger has it.
//!
//! A gift whose attempt was open at the fault is waited out on purpose before it is looked up and repeated; so what counts
//! is the first acceptance of any gift of the shard after the fault. Where gifts fall due evenly, that may be one that was due
//! only after it; the time before its instant counts all the same. A shard that had nothing else to send than what was open at
//! the fault tells nothing; how late that was is judged like all else.

use crate::chaos::gauge::{Blow, DUE_SOON_MIN, OPEN_ATTEMPTS_MIN, SOON};
use crate::chaos::happening::{Happening, Target, What};
use crate::chaos::looks::{Axis, Found, Looks, View};
use crate::load::ledger::Arrival;
use crate::sharding::shard_of;
use crate::types::ids::{EntityKey, EntityKind};
use crate::types::limits::{ATTEMPT_NOT_AFTER, CALL_DEADLINE};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// What a happening is called that ends a process without a warning, and one that keeps a link's bytes back.
const KILLED: &str = "killed";
const CUT: &str = "cut";
/// How a node is shown that runs and cannot reach a majority.
const CUT_OFF: &str = "cut off";
/// A kill's blow is written down so near to its happening.
const NEAR_MS: u64 = 2_000;

/// A shard with nothing due until so long after the fault would wait for its next gift, not for its new leader.
const WORK_WITHIN_MS: i64 = 1_000;
/// What a provider accepts so soon after the fault left before it: no election is as short.
const IN_FLIGHT_MS: i64 = 50;
/// Sent so long after the fault, a gift that was due just before it had an open attempt, which the next leader waits out.
const WAITED_OUT_MS: i64 = ATTEMPT_NOT_AFTER.0 + CALL_DEADLINE.0;
/// A shard with more gifts than this has one among them that was not attempted yet.
const ATTEMPTED_MAX: usize = 3;

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
    /// In the words of the happening: `killed`; `cut off` of a node that lost a majority by its links alone.
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
    /// Until the last second was over in which clients were not served, before the next fault; `None` when all were.
    pub clients_back_ms: Option<u64>,
}

impl Failover {
    #[must_use]
    pub fn is_kill(&self) -> bool {
        self.name == KILLED
    }

    /// Until all that it led was sent from again and clients were served.
    #[must_use]
    pub fn recovery_ms(&self) -> Option<i64> {
        let clients = self.clients_back_ms.and_then(|ms| i64::try_from(ms).ok());
        self.send_ms.iter().copied().chain(clients).max()
    }

    /// Whether it hit a leader in the middle of the work.
    #[must_use]
    pub fn counts(&self) -> bool {
        self.led > 0 && (self.open_attempts >= OPEN_ATTEMPTS_MIN || self.due_soon >= DUE_SOON_MIN)
    }
}

/// What was done to nodes in a round, and how the others took over. `bad_seconds`: the begins of those in which clients were
/// not served.
#[must_use]
pub fn failovers(
    happenings: &[Happening],
    blows: &[Blow],
    (looks, arrivals, bad_seconds): (&Looks, &[Arrival], &[i64]),
    (axis, shards): (Axis, u16),
) -> Vec<Failover> {
    let began = happenings.iter().filter(|happening| happening.what == What::Began);
    let of_nodes = began.filter_map(|happening| match happening.target {
        Target::Node(node) => Some((node, happening.at_ms_since_round_start, happening.name.clone())),
        Target::Link { .. } | Target::Disk(_) | Target::Clock(_) => None,
        Target::Provider | Target::Redis | Target::Cluster => None,
    });
    let cuts = cut_off(happenings, &nodes_of(happenings, looks)).into_iter();
    // One that is cut off with nothing to lead is none that anybody takes over from.
    let cuts = cuts.filter(|(node, at_ms)| !led_before(looks, *node, *at_ms).is_empty());
    let mut all: Vec<(u16, u64, String)> =
        of_nodes.chain(cuts.map(|(node, at_ms)| (node, at_ms, CUT_OFF.to_owned()))).collect();
    all.sort_by_key(|(_, at_ms, _)| *at_ms);
    let ats: Vec<u64> = all.iter().map(|(_, at_ms, _)| *at_ms).collect();
    let one = |(node, at_ms, name): (u16, u64, String)| {
        let next_ms = ats.iter().copied().find(|next| *next > at_ms).unwrap_or(u64::MAX);
        let led = led_before(looks, node, at_ms);
        // A kill's own look at its node is the freshest.
        let blow =
            blows.iter().find(|blow| blow.node == node && blow.at_ms_since_round_start.abs_diff(at_ms) <= NEAR_MS);
        let (detection_ms, election_ms) = taken_over(looks, node, (at_ms, next_ms), &led);
        Failover {
            at_ms,
            node,
            name,
            led: led.len() as u64,
            open_attempts: blow.map_or_else(|| looks.open_attempts(node, at_ms), |blow| blow.open_attempts),
            due_soon: due_soon(arrivals, axis, at_ms),
            detection_ms,
            election_ms,
            send_ms: first_sends(&led, arrivals, (axis, shards), (at_ms, &ats)),
            clients_back_ms: clients_back(bad_seconds, at_ms, next_ms),
        }
    };
    all.into_iter().map(one).collect()
}

/// All nodes that anything is known of.
fn nodes_of(happenings: &[Happening], looks: &Looks) -> BTreeSet<u16> {
    let linked = happenings.iter().filter_map(|happening| match happening.target {
        Target::Link { from, to } => Some([from, to]),
        Target::Node(node) | Target::Disk(node) | Target::Clock(node) => Some([node, node]),
        Target::Provider | Target::Redis | Target::Cluster => None,
    });
    // A node that never answered is not one yet.
    let up = looks.nodes.iter().filter(|look| matches!(look.found, Found::Up { .. })).map(|look| look.node);
    linked.flatten().chain(up).collect()
}

/// Nodes that cuts left without a majority to talk to, both ways, and when; each again after it was mended.
fn cut_off(happenings: &[Happening], nodes: &BTreeSet<u16>) -> Vec<(u16, u64)> {
    let mut cut: BTreeSet<(u16, u16)> = BTreeSet::new();
    let (mut off, mut found) = (BTreeSet::new(), Vec::new());
    for edge in happenings.iter().filter(|edge| edge.name == CUT) {
        let Target::Link { from, to } = edge.target else { continue };
        match edge.what {
            What::Began => cut.insert((from, to)),
            What::Ended => cut.remove(&(from, to)),
        };
        for node in nodes {
            let talks = |other: &&u16| !cut.contains(&(*node, **other)) && !cut.contains(&(**other, *node));
            let group = nodes.iter().filter(|other| *other != node).filter(talks).count() + 1;
            if group > nodes.len() / 2 {
                off.remove(node);
            } else if off.insert(*node) {
                found.push((*node, edge.at_ms_since_round_start));
            }
        }
    }
    found
}

fn led_before(looks: &Looks, node: u16, at_ms: u64) -> BTreeSet<u16> {
    let leaders = looks.leaders_before(at_ms).into_iter();
    leaders.filter(|(_, leader)| *leader == node).map(|(shard, _)| shard).collect()
}

/// An election is as old as the look that saw it; a missing node is missed once that look has its answer. What is seen after
/// the next fault may be that one's doing.
fn taken_over(looks: &Looks, node: u16, (at_ms, next_ms): (u64, u64), led: &BTreeSet<u16>) -> (Option<u64>, Vec<u64>) {
    // What the node itself says is no sign that others took over: one that is cut off sees nobody.
    let span = at_ms..next_ms;
    let after = || looks.views.iter().filter(|view| span.contains(&view.asked_ms) && view.answered_by != Some(node));
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

/// `faults`: the instants of all of them.
fn first_sends(
    led: &BTreeSet<u16>,
    arrivals: &[Arrival],
    (axis, shards): (Axis, u16),
    (at_ms, faults): (u64, &[u64]),
) -> Vec<i64> {
    let at = i64::try_from(at_ms).unwrap_or(i64::MAX);
    let until_now = faults.iter().filter_map(|fault| i64::try_from(*fault).ok()).map(|fault| fault - at);
    let until_now: Vec<i64> = until_now.filter(|fault| *fault <= 0).collect();
    let mut waited: BTreeMap<u16, Vec<Waited>> = BTreeMap::new();
    for arrival in arrivals {
        let due = axis.place_ms(arrival.gift.due) - at;
        let sent = arrival.first_at.map(|sent| axis.place_ms(sent) - at).filter(|sent| *sent > IN_FLIGHT_MS);
        let shard = shard_of_gift(arrival.gift.id, shards);
        if let Some(sent) = sent.filter(|_| due <= WORK_WITHIN_MS && led.contains(&shard)) {
            waited.entry(shard).or_default().push(Waited { due, sent });
        }
    }
    let tells =
        |gifts: &Vec<Waited>| gifts.len() > ATTEMPTED_MAX || !gifts.iter().all(|gift| gift.was_attempted(&until_now));
    waited.into_values().filter(tells).filter_map(|gifts| gifts.iter().map(|gift| gift.sent).min()).collect()
}

/// A gift that a shard had to send when its leader was lost, in milliseconds after that.
struct Waited {
    due: i64,
    sent: i64,
}

impl Waited {
    /// Its attempt was open when this leader was lost or, before that, another one, and is waited out.
    fn was_attempted(&self, faults: &[i64]) -> bool {
        let by = |fault: &i64| {
            (-ATTEMPT_NOT_AFTER.0..=0).contains(&(self.due - fault)) && self.sent - fault >= WAITED_OUT_MS
        };
        faults.iter().any(by)
    }
}

/// From a fault to the end of the last second before the next fault in which clients were not served.
fn clients_back(bad_seconds: &[i64], at_ms: u64, next_ms: u64) -> Option<u64> {
    let (at, next) = (i64::try_from(at_ms).ok()?, i64::try_from(next_ms).unwrap_or(i64::MAX));
    let ends = bad_seconds.iter().filter(|from| **from < next).map(|from| (from + 1_000).min(next) - at);
    ends.filter(|after| *after > 0).max().and_then(|after| u64::try_from(after).ok())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chaos::looks::NodeLook;
    use crate::load::ledger::Promise;
    use crate::types::time::Timestamp;

    fn arrival(id: [u8; 16], due: i64, sent: Option<i64>) -> Arrival {
        let gift = Promise { id, due: Timestamp(due), number: 0 };
        Arrival { gift, requests: 1, effective: 1, first_at: sent.map(Timestamp) }
    }

    fn view(at_ms: u64, leader: Option<u16>, shards: [u16; 2], away: &[u16]) -> View {
        let leaders = shards.map(|shard| (shard, leader)).into();
        View { asked_ms: at_ms, heard_ms: at_ms + 5, leaders, unreachable: away.to_vec(), answered_by: Some(1) }
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
        let found = failovers(&edges, &[], (&looks, &arrivals, &[-500, 1_500, 2_500]), (axis, 64));
        let [failover] = &found[..] else { panic!("{found:?}") };
        let blow = Blow { node: 2, at_ms_since_round_start: 990, open_attempts: 7, due_soon: 3 };
        let told = failovers(&edges, &[blow], (&looks, &arrivals, &[]), (axis, 64));
        assert_eq!(told[0].open_attempts, 7, "the blow's own look goes before");
        assert_eq!((failover.led, failover.open_attempts, failover.due_soon), (2, 140, 3));
        assert_eq!(failover.detection_ms, Some(205));
        let mut elections = failover.election_ms.clone();
        elections.sort_unstable();
        assert_eq!(elections, [500, 900]);
        let mut sends = failover.send_ms.clone();
        sends.sort_unstable();
        assert_eq!(sends, [1_100, 1_600]);
        assert_eq!((failover.clients_back_ms, failover.recovery_ms()), (Some(2_500), Some(2_500)));
        assert_eq!((told[0].clients_back_ms, told[0].recovery_ms()), (None, Some(1_600)));
        assert!(failover.is_kill() && failover.counts());
        assert!(!Failover { open_attempts: 99, due_soon: 999, ..failover.clone() }.counts());
        assert!(!Failover { led: 0, ..failover.clone() }.counts(), "nobody had to take over");
    }

    fn kill(at_ms: u64, node: u16) -> Happening {
        let (target, name) = (Target::Node(node), KILLED.to_owned());
        Happening { at_ms_since_round_start: at_ms, target, what: What::Began, name }
    }

    #[test]
    fn of_kills_one_after_the_other_each_has_its_own() {
        let a = [1; 16];
        let shards = [shard_of_gift(a, 64), 999];
        let views = vec![
            view(700, Some(2), shards, &[]),
            // The first kill is over before anybody looks; the second one is seen.
            view(8_500, Some(2), shards, &[]),
            view(9_500, Some(3), shards, &[2]),
        ];
        let looks = Looks { views, ..Looks::default() };
        // One that had left, one that was due a little later, one that was due much later.
        let mut arrivals =
            vec![arrival(a, 990, Some(1_020)), arrival(a, 1_400, Some(2_700)), arrival(a, 4_000, Some(4_010))];
        arrivals.push(arrival(a, 10_500, Some(10_600)));
        let found = failovers(
            &[kill(1_000, 2), kill(9_000, 2)],
            &[],
            (&looks, &arrivals, &[1_200, 9_200]),
            (Axis::new(Timestamp(0), 0), 64),
        );
        let [first, second] = &found[..] else { panic!("{found:?}") };
        assert_eq!((first.detection_ms, &first.election_ms[..]), (None, &[][..]), "what the second did is not its own");
        assert_eq!((second.detection_ms, &second.election_ms[..]), (Some(500), &[500, 500][..]));
        assert_eq!((&first.send_ms[..], &second.send_ms[..]), (&[1_700][..], &[][..]), "1.5 s later nothing was due");
        assert_eq!((first.clients_back_ms, second.clients_back_ms), (Some(1_200), Some(1_200)));
    }

    #[test]
    fn a_shard_that_had_only_open_attempts_to_send_tells_nothing_and_one_that_stood_still_does() {
        let a = [1; 16];
        let (led, axis) = (BTreeSet::from([shard_of_gift(a, 64)]), Axis::new(Timestamp(0), 0));
        let after = |faults: &[u64], arrivals: &[Arrival]| first_sends(&led, arrivals, (axis, 64), (10_000, faults));
        let sends = |arrivals: &[Arrival]| after(&[10_000], arrivals);
        let open = || arrival(a, 9_900, Some(23_000));
        assert_eq!(sends(&[open(), open()]), [0i64; 0]);
        assert_eq!(sends(&[open(), arrival(a, 10_500, Some(10_900))]), [900]);
        assert_eq!(
            sends(&[open(), arrival(a, 10_500, Some(22_900))]),
            [12_900],
            "due after the fault: nothing was open"
        );
        assert_eq!(sends(&[open(), arrival(a, 7_000, Some(22_900))]), [12_900], "waited for long: a backlog");
        assert_eq!(sends(&[open(), open(), open(), open()]), [13_000], "more than a shard has open");
        let of_before = arrival(a, 5_200, Some(18_700));
        assert_eq!(sends(std::slice::from_ref(&of_before)), [8_700]);
        assert_eq!(after(&[5_300, 10_000], &[of_before]), [0i64; 0], "it was open when the leader before was lost");
    }

    fn edge(at_ms: u64, from: u16, to: u16, what: What) -> Happening {
        let target = Target::Link { from, to };
        Happening { at_ms_since_round_start: at_ms, target, what, name: CUT.to_owned() }
    }

    /// All links of a node, both ways, of so many.
    fn around(at_ms: u64, node: u16, nodes: u16, what: What) -> Vec<Happening> {
        let others = (1..=nodes).filter(|other| *other != node);
        others.flat_map(|other| [edge(at_ms, node, other, what), edge(at_ms, other, node, what)]).collect()
    }

    #[test]
    fn a_leader_that_is_only_cut_off_is_taken_over_from() {
        let a = [1; 16];
        let shards = [shard_of_gift(a, 64), 999];
        let own = View { answered_by: Some(2), ..view(1_400, Some(2), shards, &[1, 3]) };
        let views = vec![view(700, Some(2), shards, &[]), own, view(1_900, Some(1), shards, &[2])];
        let nodes = [1, 2, 3].map(|node| NodeLook { node, at_ms: 900, found: Found::Up { open_attempts: 9 } });
        let looks = Looks { nodes: nodes.to_vec(), views };
        let mut edges = around(1_000, 2, 3, What::Began);
        edges.extend(around(5_000, 2, 3, What::Ended));
        let arrivals = [arrival(a, 900, Some(2_400))];
        let found = failovers(&edges, &[], (&looks, &arrivals, &[]), (Axis::new(Timestamp(0), 0), 64));
        let [failover] = &found[..] else { panic!("{found:?}") };
        assert_eq!((failover.node, failover.at_ms, failover.name.as_str(), failover.led), (2, 1_000, "cut off", 2));
        assert_eq!((failover.detection_ms, &failover.election_ms[..]), (Some(900), &[900, 900][..]));
        assert_eq!((&failover.send_ms[..], failover.is_kill()), (&[1_400][..], false));
    }

    #[test]
    fn who_still_talks_to_a_majority_both_ways_is_not_cut_off() {
        let off = |edges: &[Happening], nodes: u16| cut_off(edges, &(1..=nodes).collect());
        let pair = [edge(5, 1, 2, What::Began), edge(5, 2, 1, What::Began)];
        assert_eq!(off(&pair, 3), [], "the third talks to both");
        assert_eq!(off(&pair, 2), [(1, 5), (2, 5)]);
        let out = [edge(5, 1, 2, What::Began), edge(6, 1, 3, What::Began)];
        assert_eq!(off(&out, 3), [(1, 6)], "nobody hears it");
        let split: Vec<Happening> = [1, 2].into_iter().flat_map(|few| around(7, few, 5, What::Began)).collect();
        let apart: Vec<Happening> =
            split.into_iter().filter(|edge| !matches!(edge.target, Target::Link { from: 1 | 2, to: 1 | 2 })).collect();
        assert_eq!(off(&apart, 5).into_iter().map(|(node, _)| node).collect::<BTreeSet<_>>(), [1, 2].into());
        let mut flaps = around(10, 1, 3, What::Began);
        flaps.extend(around(20, 1, 3, What::Ended));
        flaps.extend(around(30, 1, 3, What::Began));
        assert_eq!(off(&flaps, 3), [(1, 10), (1, 30)]);
    }
}

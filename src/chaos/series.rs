//! A round over time: what fell due and what was sent, how late, how clients were answered, what each node did. Compact:
//! at most 240 steps, whatever the round's length.

use crate::chaos::happening::Happening;
use crate::chaos::looks::{Axis, Found, Looks, View};
use crate::chaos::stats::percentile;
use crate::load::ledger::Arrival;
use crate::load::reserve::Reserved;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use tokio::time::Instant;

/// Steps of a series, at most.
const STEPS_MAX: u64 = 240;
/// Lengths of a step.
const STEPS_MS: [u64; 7] = [250, 500, 1_000, 2_000, 5_000, 15_000, 60_000];
/// What is shown before the first gift and after the last thing that happened.
const MARGIN_MS: i64 = 3_000;

/// Counts of each step, on the round's axis.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Series {
    /// Where the first step begins.
    pub from_ms: i64,
    pub step_ms: u64,
    /// Gifts that fell due, and that were first accepted by a provider.
    pub due: Vec<u32>,
    pub sent: Vec<u32>,
    /// Of the gifts sent in the step; `null` where there were none.
    pub lateness_p50_ms: Vec<Option<i64>>,
    pub lateness_p99_ms: Vec<Option<i64>>,
    pub lateness_max_ms: Vec<Option<i64>>,
    /// Exchanges of the clients that reserve meanwhile, by how they ended.
    pub accepted: Vec<u32>,
    pub refused: Vec<u32>,
    pub silent: Vec<u32>,
    pub nodes: Vec<NodeSeries>,
}

/// One node over time.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct NodeSeries {
    pub node: u16,
    /// Shards that it led, as the cluster saw it; `null` where nobody was asked.
    pub leads: Vec<Option<u32>>,
    /// Its calls without an answer yet, at most; `null` where it was not asked or did not say.
    pub open_attempts: Vec<Option<u64>>,
    /// One letter a step: `u` up, `g` gone, `s` silent, `-` not asked.
    pub state: String,
}

/// An exchange of a client, where it ended on the round's axis.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Exchanges {
    pub at_ms: i64,
    pub accepted: u32,
    pub refused: u32,
    pub silent: u32,
}

/// How the clients of a load were answered, on the axis of the round that began at `round_start`.
pub fn exchanges(load: &Reserved, round_start: Instant) -> Vec<Exchanges> {
    let before = load.began.saturating_duration_since(round_start).as_millis();
    let begin = i64::try_from(before).unwrap_or(i64::MAX);
    let place = |tenth: u64| begin.saturating_add(i64::try_from(tenth * 100).unwrap_or(i64::MAX));
    let rows = load.answers.0.iter().map(|(tenth, at)| Exchanges {
        at_ms: place(*tenth),
        accepted: at.accepted,
        refused: at.refused,
        silent: at.silent,
    });
    rows.collect()
}

/// Everything of a round that goes into its series.
pub struct Observed<'a> {
    pub axis: Axis,
    pub arrivals: &'a [Arrival],
    pub exchanges: &'a [Exchanges],
    pub happenings: &'a [Happening],
    pub looks: &'a Looks,
}

/// The steps of a round.
struct Steps {
    from_ms: i64,
    step_ms: u64,
    count: usize,
}

impl Steps {
    /// From a little before the first gift is due to a little after the last thing that happened.
    fn over(seen: &Observed<'_>) -> Self {
        let dues = seen.arrivals.iter().map(|arrival| seen.axis.place_ms(arrival.gift.due));
        let sends = seen.arrivals.iter().filter_map(|arrival| arrival.first_at).map(|at| seen.axis.place_ms(at));
        let answers = seen.exchanges.iter().map(|exchange| exchange.at_ms);
        let edges = seen.happenings.iter().map(|edge| i64::try_from(edge.at_ms_since_round_start).unwrap_or(i64::MAX));
        let all = dues.clone().chain(sends).chain(answers).chain(edges);
        let first_due = dues.min().unwrap_or(0);
        let span = u64::try_from(all.max().unwrap_or(0) + 2 * MARGIN_MS - first_due).unwrap_or(0);
        let fits = |step: &&u64| span.div_ceil(**step) < STEPS_MAX;
        let longest = STEPS_MS[STEPS_MS.len() - 1];
        let step_ms = STEPS_MS.iter().find(fits).copied().unwrap_or(longest);
        let count = (span.div_ceil(step_ms) + 1).clamp(1, STEPS_MAX);
        // A step begins with the first gift, so that a burst at one instant does not seem to be due before it.
        let step = i64::try_from(step_ms).unwrap_or(1);
        let before = MARGIN_MS.unsigned_abs().div_ceil(step_ms);
        let from_ms = first_due - step * i64::try_from(before).unwrap_or(0);
        Self { from_ms, step_ms, count: usize::try_from(count).unwrap_or(1) }
    }

    fn of(&self, at_ms: i64) -> Option<usize> {
        let since = u64::try_from(at_ms - self.from_ms).ok()?;
        usize::try_from(since / self.step_ms).ok().filter(|step| *step < self.count)
    }

    fn counts(&self, all: impl Iterator<Item = (i64, u32)>) -> Vec<u32> {
        let mut counts = vec![0; self.count];
        for (at_ms, many) in all {
            if let Some(step) = self.of(at_ms) {
                counts[step] += many;
            }
        }
        counts
    }
}

/// The series of a round.
#[must_use]
pub fn series(seen: &Observed<'_>) -> Series {
    let steps = Steps::over(seen);
    let axis = seen.axis;
    let sent = || seen.arrivals.iter().filter_map(|arrival| Some((axis.place_ms(arrival.first_at?), arrival)));
    let mut late: Vec<Vec<i64>> = vec![Vec::new(); steps.count];
    for (at_ms, arrival) in sent() {
        if let (Some(step), Some(lateness)) = (steps.of(at_ms), arrival.lateness_ms()) {
            late[step].push(lateness);
        }
    }
    let lateness = |percent| late.iter().map(|values| percentile(values, percent)).collect();
    let answers = |of: fn(&Exchanges) -> u32| steps.counts(seen.exchanges.iter().map(|row| (row.at_ms, of(row))));
    Series {
        from_ms: steps.from_ms,
        step_ms: steps.step_ms,
        due: steps.counts(seen.arrivals.iter().map(|arrival| (axis.place_ms(arrival.gift.due), 1))),
        sent: steps.counts(sent().map(|(at_ms, _)| (at_ms, 1))),
        lateness_p50_ms: lateness(50),
        lateness_p99_ms: lateness(99),
        lateness_max_ms: lateness(100),
        accepted: answers(|row| row.accepted),
        refused: answers(|row| row.refused),
        silent: answers(|row| row.silent),
        nodes: nodes(&steps, seen.looks),
    }
}

fn nodes(steps: &Steps, looks: &Looks) -> Vec<NodeSeries> {
    // One that never answered is not there yet.
    let asked = looks.nodes.iter().filter(|look| matches!(look.found, Found::Up { .. })).map(|look| look.node);
    let leading = looks.views.iter().flat_map(|view| view.leaders.values().flatten().copied());
    let all: BTreeSet<u16> = asked.chain(leading).collect();
    let mut found: BTreeMap<u16, NodeSeries> = all.into_iter().map(|node| (node, unseen(node, steps.count))).collect();
    let place = |at_ms: u64| steps.of(i64::try_from(at_ms).unwrap_or(i64::MAX));
    let mut states: BTreeMap<(u16, usize), char> = BTreeMap::new();
    for look in &looks.nodes {
        let (Some(step), Some(of)) = (place(look.at_ms), found.get_mut(&look.node)) else { continue };
        let letter = match look.found {
            Found::Up { open_attempts } => {
                of.open_attempts[step] = of.open_attempts[step].max(Some(open_attempts));
                'u'
            }
            Found::Gone => 'g',
            Found::Silent => 's',
        };
        states.insert((look.node, step), letter);
    }
    for (step, view) in best_views(steps, &looks.views) {
        found.values_mut().for_each(|of| of.leads[step] = Some(view.leads(of.node)));
    }
    for of in found.values_mut() {
        let letters = (0..steps.count).map(|step| states.get(&(of.node, step)).copied().unwrap_or('-'));
        of.state = letters.collect();
    }
    found.into_values().collect()
}

/// Of each step the view that knows the most leaders: a node that is cut off knows its own alone.
fn best_views<'a>(steps: &Steps, views: &'a [View]) -> BTreeMap<usize, &'a View> {
    let known = |view: &View| view.leaders.values().flatten().count();
    let mut best: BTreeMap<usize, &View> = BTreeMap::new();
    for view in views {
        let Some(step) = steps.of(i64::try_from(view.heard_ms).unwrap_or(i64::MAX)) else { continue };
        let at_least = best.get(&step).map_or(0, |other| known(other));
        if known(view) >= at_least {
            best.insert(step, view);
        }
    }
    best
}

fn unseen(node: u16, steps: usize) -> NodeSeries {
    NodeSeries { node, leads: vec![None; steps], open_attempts: vec![None; steps], state: String::new() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chaos::happening::{Target, What};
    use crate::chaos::looks::NodeLook;
    use crate::load::ledger::Promise;
    use crate::types::time::Timestamp;

    fn arrival(due: i64, sent: Option<i64>) -> Arrival {
        let gift = Promise { id: [1; 16], due: Timestamp(due), number: 0 };
        Arrival { gift, requests: 1, effective: 1, first_at: sent.map(Timestamp) }
    }

    fn of(arrivals: &[Arrival], exchanges: &[Exchanges], happenings: &[Happening], looks: &Looks) -> Series {
        series(&Observed { axis: Axis::new(Timestamp(0), 0), arrivals, exchanges, happenings, looks })
    }

    #[test]
    fn gifts_stand_where_they_fall_due_and_where_they_are_sent() {
        let arrivals = [arrival(10_000, Some(10_100)), arrival(10_000, Some(12_400)), arrival(10_000, None)];
        let found = of(&arrivals, &[], &[], &Looks::default());
        assert_eq!((found.from_ms, found.step_ms), (7_000, 250));
        let place = |ms: usize| (ms - 7_000) / 250;
        assert_eq!((found.due[place(10_000)], found.due.iter().sum::<u32>()), (3, 3));
        assert_eq!((found.sent[place(10_000)], found.sent[place(12_250)]), (1, 1));
        assert_eq!(found.lateness_max_ms[place(12_250)], Some(2_400));
        assert_eq!(found.lateness_p50_ms[place(11_000)], None);
    }

    #[test]
    fn a_long_round_has_longer_steps_and_no_more_of_them() {
        let killed = Happening {
            at_ms_since_round_start: 900_000,
            target: Target::Node(1),
            what: What::Began,
            name: "killed".to_owned(),
        };
        let found = of(&[arrival(0, Some(5))], &[], &[killed], &Looks::default());
        assert_eq!(found.step_ms, 5_000);
        assert!(found.due.len() <= 240 && found.due.iter().sum::<u32>() == 1);
        assert!(found.from_ms + i64::try_from(found.step_ms * found.due.len() as u64).unwrap() >= 900_000);
    }

    #[test]
    fn nodes_are_seen_up_gone_and_leading() {
        let look = |at_ms, found| NodeLook { node: 2, at_ms, found };
        let nodes = vec![look(0, Found::Up { open_attempts: 3 }), look(100, Found::Up { open_attempts: 2 })];
        let nodes = [nodes, vec![look(300, Found::Gone), look(600, Found::Silent)]].concat();
        let leaders: BTreeMap<u16, Option<u16>> = [(0, Some(2)), (1, Some(1)), (2, None)].into();
        let alone = [(0, Some(2)), (1, None), (2, None)].into();
        let view = |heard_ms, leaders| View { asked_ms: heard_ms - 20, heard_ms, leaders, ..View::default() };
        let views = vec![view(310, leaders), view(330, alone)];
        let found = of(&[arrival(0, None)], &[], &[], &Looks { nodes, views });
        let [one, two] = &found.nodes[..] else { panic!("{:?}", found.nodes) };
        let zero = usize::try_from(-found.from_ms).unwrap() / 250;
        assert_eq!((one.node, one.leads[zero + 1], one.leads[zero]), (1, Some(1), None));
        assert_eq!(&two.state[zero..zero + 4], "ugs-");
        assert_eq!((two.open_attempts[zero], two.open_attempts[zero + 1]), (Some(3), None));
    }

    #[test]
    fn answers_stand_where_they_came() {
        let rows = [Exchanges { at_ms: 600, accepted: 4, refused: 2, silent: 1 }];
        let found = of(&[arrival(0, None)], &rows, &[], &Looks::default());
        let step = usize::try_from(600 - found.from_ms).unwrap() / 250;
        assert_eq!((found.accepted[step], found.refused[step], found.silent[step]), (4, 2, 1));
    }
}

//! Happenings as spans from their begin to their end, and what a gift's lateness is beyond them.

use crate::chaos::happening::{Happening, Target, What};
use std::collections::BTreeSet;

/// Something was being done to a part of the stand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Span {
    pub target: Target,
    pub name: String,
    pub from_ms: i64,
    /// `None`: beyond the end of the round.
    pub to_ms: Option<i64>,
}

impl Span {
    fn overlap_ms(&self, from_ms: i64, to_ms: i64) -> Option<(i64, i64)> {
        let (from, to) = (self.from_ms.max(from_ms), self.to_ms.unwrap_or(i64::MAX).min(to_ms));
        (from < to).then_some((from, to))
    }
}

/// The spans of a round, in the order of their begins. An end without a begin is not looked at.
#[must_use]
pub fn spans(happenings: &[Happening]) -> Vec<Span> {
    let mut found: Vec<Span> = Vec::new();
    for edge in happenings {
        let at_ms = i64::try_from(edge.at_ms_since_round_start).unwrap_or(i64::MAX);
        let open = |span: &&mut Span| span.to_ms.is_none() && span.target == edge.target && span.name == edge.name;
        match edge.what {
            What::Began => {
                let (target, name) = (edge.target, edge.name.clone());
                found.push(Span { target, name, from_ms: at_ms, to_ms: None });
            }
            What::Ended => {
                if let Some(span) = found.iter_mut().find(open) {
                    span.to_ms = Some(at_ms);
                }
            }
        }
    }
    found
}

/// For how long, between two instants, something was being done.
#[must_use]
pub fn disturbed_ms(spans: &[Span], from_ms: i64, to_ms: i64) -> i64 {
    let mut parts: Vec<(i64, i64)> = spans.iter().filter_map(|span| span.overlap_ms(from_ms, to_ms)).collect();
    parts.sort_unstable();
    let (mut sum, mut upto) = (0, i64::MIN);
    for (from, to) in parts {
        sum += (to - from.max(upto)).max(0);
        upto = upto.max(to);
    }
    sum
}

/// How long a node that was started again counts as down still: it recovers.
const RECOVERS_MS: i64 = 3_000;

/// From when to when a span had its node down: killed, paused, stopped, or ended by its own disk. Other faults leave nodes up.
fn down(span: &Span) -> Option<(u16, i64, i64)> {
    let node = match (span.target, span.name.as_str()) {
        (Target::Node(node), "killed" | "paused" | "stopped") | (Target::Disk(node), "full" | "failing") => node,
        (Target::Node(_) | Target::Disk(_) | Target::Link { .. } | Target::Clock(_), _)
        | (Target::Provider | Target::Redis | Target::Cluster, _) => return None,
    };
    Some((node, span.from_ms, span.to_ms.map_or(i64::MAX, |to_ms| to_ms.saturating_add(RECOVERS_MS))))
}

/// How many nodes were down at one time, at most.
#[must_use]
pub fn down_at_once(spans: &[Span]) -> usize {
    let downs: Vec<(u16, i64, i64)> = spans.iter().filter_map(down).collect();
    let at = |instant: i64| {
        let then = downs.iter().filter(|(_, from_ms, to_ms)| (*from_ms..*to_ms).contains(&instant));
        then.map(|(node, _, _)| *node).collect::<BTreeSet<u16>>().len()
    };
    // It is most when one goes down.
    downs.iter().map(|(_, from_ms, _)| at(*from_ms)).max().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn edge(at: u64, node: u16, what: What, name: &str) -> Happening {
        Happening { at_ms_since_round_start: at, target: Target::Node(node), what, name: name.to_owned() }
    }

    #[test]
    fn an_end_belongs_to_the_open_begin_of_the_same_thing() {
        let edges = [
            edge(10, 1, What::Began, "killed"),
            edge(20, 2, What::Began, "killed"),
            edge(30, 1, What::Ended, "killed"),
            edge(40, 1, What::Ended, "paused"),
            edge(50, 1, What::Began, "killed"),
        ];
        let found: Vec<_> = spans(&edges).into_iter().map(|span| (span.target, span.from_ms, span.to_ms)).collect();
        let of = |node, from, to| (Target::Node(node), from, to);
        assert_eq!(found, [of(1, 10, Some(30)), of(2, 20, None), of(1, 50, None)]);
    }

    #[test]
    fn only_nodes_that_do_not_run_are_down_and_only_those_of_one_time_count() {
        let span = |target, name: &str, from_ms, to_ms| Span { target, name: name.to_owned(), from_ms, to_ms };
        let killed = |node, from_ms, to_ms| span(Target::Node(node), "killed", from_ms, to_ms);
        let of = |spans: &[Span]| down_at_once(spans);
        assert_eq!(of(&[]), 0);
        assert_eq!(of(&[killed(1, 1_000, Some(9_000)), killed(2, 1_000, Some(9_000))]), 2);
        assert_eq!(of(&[killed(1, 1_000, Some(9_000)), killed(2, 12_500, Some(20_000))]), 1, "one after the other");
        assert_eq!(of(&[killed(1, 1_000, Some(9_000)), killed(2, 10_000, None)]), 2, "the first one recovers still");
        assert_eq!(of(&[killed(1, 1_000, None), killed(1, 2_000, None)]), 1, "one node");
        let link = |from, to| span(Target::Link { from, to }, "cut", 1_000, Some(9_000));
        assert_eq!(of(&[link(1, 2), link(2, 1)]), 0, "a cut leaves both up");
        let drained = span(Target::Node(2), "drained", 1_000, Some(9_000));
        assert_eq!(of(&[killed(1, 1_000, Some(9_000)), drained, span(Target::Clock(3), "5000 ms ahead", 0, None)]), 1);
        let disk = |name: &str| span(Target::Disk(2), name, 1_000, Some(9_000));
        let paused = span(Target::Node(1), "paused", 2_000, Some(8_000));
        assert_eq!([of(&[paused.clone(), disk("slow by 400 ms")]), of(&[paused, disk("full")])], [1, 2]);
    }

    #[test]
    fn time_that_two_faults_share_is_counted_once() {
        let span = |from_ms, to_ms| Span { target: Target::Redis, name: String::new(), from_ms, to_ms };
        let spans = [span(10, Some(30)), span(20, Some(40)), span(22, Some(25)), span(60, None)];
        assert_eq!(disturbed_ms(&spans, 0, 50), 30);
        assert_eq!(disturbed_ms(&spans, 25, 35), 10);
        assert_eq!(disturbed_ms(&spans, 50, 100), 40);
        assert_eq!(disturbed_ms(&spans, 41, 60), 0);
        assert_eq!(disturbed_ms(&[], 0, 60), 0);
    }
}

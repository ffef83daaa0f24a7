//! Happenings as spans from their begin to their end, and what a gift's lateness is beyond them.

use crate::chaos::happening::{Happening, Target, What};

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

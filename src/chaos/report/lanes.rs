//! What was done to parts other than nodes, as blocks in lanes: links, disks, clocks, providers, Redis, the cluster.

use crate::chaos::happening::Target;
use crate::chaos::spans::Span;

/// Faults of one sort that begin and end so near to one another are one block: they were ordered together.
const TOGETHER_MS: i64 = 250;

/// A row of blocks that do not overlap.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lane {
    pub label: &'static str,
    pub blocks: Vec<Block>,
}

/// Something that was done, from when to when.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Block {
    pub words: String,
    pub from_ms: i64,
    /// `None`: beyond the end of the round.
    pub to_ms: Option<i64>,
}

impl Block {
    fn end(&self) -> i64 {
        self.to_ms.unwrap_or(i64::MAX)
    }
}

/// The lane that a target belongs to, and how it is called there. Nodes have bands of their own.
fn place(target: Target) -> Option<(&'static str, String)> {
    match target {
        Target::Node(_) => None,
        Target::Link { from, to } => Some(("links", format!("{from}\u{2192}{to}"))),
        Target::Disk(node) => Some(("disks", format!("node {node}"))),
        Target::Clock(node) => Some(("clocks", format!("node {node}"))),
        Target::Provider => Some(("providers", String::new())),
        Target::Redis => Some(("redis", String::new())),
        Target::Cluster => Some(("cluster", String::new())),
    }
}

/// The lanes of a round, those of one sort below one another.
#[must_use]
pub fn lanes(spans: &[Span]) -> Vec<Lane> {
    let mut lanes: Vec<Lane> = Vec::new();
    for label in ["links", "disks", "clocks", "providers", "redis", "cluster"] {
        let mut rows: Vec<Lane> = Vec::new();
        for block in blocks(spans, label) {
            let free = |lane: &&mut Lane| lane.blocks.iter().all(|other| other.end() <= block.from_ms);
            match rows.iter_mut().find(free) {
                Some(lane) => lane.blocks.push(block),
                None => rows.push(Lane { label, blocks: vec![block] }),
            }
        }
        lanes.extend(rows);
    }
    lanes
}

fn blocks(spans: &[Span], label: &str) -> Vec<Block> {
    let mut found: Vec<(&Span, Vec<String>)> = Vec::new();
    for span in spans {
        let Some((_, which)) = place(span.target).filter(|(lane, _)| *lane == label) else { continue };
        let near = |a: i64, b: i64| a.abs_diff(b) <= TOGETHER_MS.unsigned_abs();
        let end = |span: &Span| span.to_ms.unwrap_or(i64::MAX);
        let together = found.iter_mut().find(|(other, _)| {
            other.name == span.name && near(other.from_ms, span.from_ms) && near(end(other), end(span))
        });
        match together {
            Some((_, all)) => all.push(which),
            None => found.push((span, vec![which])),
        }
    }
    let block = |(span, which): (&Span, Vec<String>)| {
        let words = format!("{} {}", span.name, which.join(", "));
        Block { words: words.trim_end().to_owned(), from_ms: span.from_ms, to_ms: span.to_ms }
    };
    found.into_iter().map(block).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn span(target: Target, name: &str, from_ms: i64, to_ms: Option<i64>) -> Span {
        Span { target, name: name.to_owned(), from_ms, to_ms }
    }

    #[test]
    fn links_that_were_cut_together_are_one_block() {
        let link = |from, to| Target::Link { from, to };
        let spans = [
            span(link(1, 2), "cut", 1_000, Some(5_000)),
            span(Target::Node(1), "killed", 1_000, None),
            span(link(2, 1), "cut", 1_040, Some(5_010)),
            span(link(1, 3), "cut", 3_000, Some(6_000)),
            span(link(1, 3), "cut", 7_000, None),
        ];
        let found = lanes(&spans);
        assert_eq!(found.len(), 2, "{found:?}");
        let words = |lane: &Lane| lane.blocks.iter().map(|block| block.words.clone()).collect::<Vec<_>>();
        let words: Vec<_> = found.iter().map(words).collect();
        assert_eq!(words, [vec!["cut 1\u{2192}2, 2\u{2192}1", "cut 1\u{2192}3"], vec!["cut 1\u{2192}3"]]);
        assert_eq!(found[0].blocks[1].to_ms, None);
    }

    #[test]
    fn each_sort_has_its_lane() {
        let targets = [Target::Provider, Target::Disk(2), Target::Clock(1), Target::Redis, Target::Cluster];
        let found = lanes(&targets.map(|target| span(target, "x", 0, None)));
        let told: Vec<_> = found.iter().map(|lane| (lane.label, lane.blocks[0].words.as_str())).collect();
        let wanted =
            [("disks", "x node 2"), ("clocks", "x node 1"), ("providers", "x"), ("redis", "x"), ("cluster", "x")];
        assert_eq!(told, wanted);
    }
}

//! What was seen of the cluster while a round ran, as plain data, and where an instant stands on the round's axis.

use crate::types::time::Timestamp;
use serde_json::Value;
use std::collections::BTreeMap;

/// The round's axis: milliseconds since its begin, by the clock of the machine that runs the harness. True until the
/// cluster's clock is moved again.
#[derive(Clone, Copy, Debug)]
pub struct Axis {
    zero: Timestamp,
}

impl Axis {
    /// The cluster's clock says `now`, so long after the begin of the round.
    #[must_use]
    pub fn new(now: Timestamp, elapsed_ms: u64) -> Self {
        Self { zero: Timestamp(now.0 - i64::try_from(elapsed_ms).unwrap_or(0)) }
    }

    /// Where an instant of the cluster's clock stands.
    #[must_use]
    pub fn place_ms(self, at: Timestamp) -> i64 {
        (at - self.zero).0
    }
}

/// A node was asked what its gateways do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NodeLook {
    pub node: u16,
    /// When it was asked.
    pub at_ms: u64,
    pub found: Found,
}

/// What came of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// It answered; so many calls to providers had left it and had no answer.
    Up { open_attempts: u64 },
    /// Nobody listens.
    Gone,
    /// No answer in time.
    Silent,
}

/// The cluster as one of its nodes saw it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct View {
    pub asked_ms: u64,
    pub heard_ms: u64,
    /// Who leads each shard; `None` while nobody says so.
    pub leaders: BTreeMap<u16, Option<u16>>,
    /// Members that did not answer the one that was asked.
    pub unreachable: Vec<u16>,
    /// Whose view it is.
    pub answered_by: Option<u16>,
}

impl View {
    /// Reads `GET /v1/ops/cluster`.
    #[must_use]
    pub fn read(asked_ms: u64, heard_ms: u64, body: &Value) -> Self {
        let number = |value: &Value| value.as_u64().and_then(|number| u16::try_from(number).ok());
        let rows = |name: &str| body[name].as_array().map(Vec::as_slice).unwrap_or_default();
        let leaders = rows("shards").iter().filter_map(|shard| Some((number(&shard["id"])?, number(&shard["leader"]))));
        let away = rows("nodes").iter().filter(|node| node["state"] == "unreachable");
        let unreachable = away.filter_map(|node| number(&node["id"])).collect();
        let answered_by = number(&body["answered_by"]);
        Self { asked_ms, heard_ms, leaders: leaders.collect(), unreachable, answered_by }
    }

    /// How many shards the node leads.
    #[must_use]
    pub fn leads(&self, node: u16) -> u32 {
        u32::try_from(self.leaders.values().filter(|leader| **leader == Some(node)).count()).unwrap_or(u32::MAX)
    }
}

/// All nodes of a `GET /v1/ops/cluster`, those that lead the most first.
#[must_use]
pub fn by_leads(body: &Value) -> Vec<u16> {
    let view = View::read(0, 0, body);
    let nodes = body["nodes"].as_array().into_iter().flatten();
    let mut order: Vec<u16> =
        nodes.filter_map(|node| node["id"].as_u64().and_then(|id| u16::try_from(id).ok())).collect();
    order.sort_by_key(|node| (std::cmp::Reverse(view.leads(*node)), *node));
    order
}

/// All that was seen in a round, each list in the order of its instants.
#[derive(Clone, Debug, Default)]
pub struct Looks {
    pub nodes: Vec<NodeLook>,
    pub views: Vec<View>,
}

impl Looks {
    /// Calls of the node that were open when it was last seen before `at_ms`.
    #[must_use]
    pub fn open_attempts(&self, node: u16, at_ms: u64) -> u64 {
        let before = self.nodes.iter().rev().filter(|look| look.node == node && look.at_ms < at_ms);
        let open = |look: &NodeLook| match look.found {
            Found::Up { open_attempts } => Some(open_attempts),
            Found::Gone | Found::Silent => None,
        };
        before.filter_map(open).next().unwrap_or(0)
    }

    /// Who led each shard by the last view before `at_ms` that named a leader of it: a node under load may name none.
    #[must_use]
    pub fn leaders_before(&self, at_ms: u64) -> BTreeMap<u16, u16> {
        let mut views: Vec<&View> = self.views.iter().filter(|view| view.heard_ms < at_ms).collect();
        views.sort_by_key(|view| view.heard_ms);
        let named = views.iter().flat_map(|view| &view.leaders);
        named.filter_map(|(shard, leader)| leader.map(|leader| (*shard, leader))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn instants_of_the_cluster_stand_on_the_axis() {
        let axis = Axis::new(Timestamp(1_000_500), 500);
        assert_eq!([1_000_000, 1_000_750, 999_990].map(|at| axis.place_ms(Timestamp(at))), [0, 750, -10]);
    }

    #[test]
    fn a_view_knows_leaders_and_who_is_away() {
        let body = json!({
            "answered_by": 3,
            "nodes": [{"id": 1, "state": "up"}, {"id": 2, "state": "unreachable"}, {"id": 3, "state": "gone"}],
            "shards": [{"id": 0, "leader": 1}, {"id": 1, "leader": null}, {"id": 2, "leader": 1}],
        });
        let view = View::read(10, 12, &body);
        assert_eq!((view.leads(1), view.leads(2), &view.unreachable[..]), (2, 0, &[2][..]));
        assert_eq!((view.leaders[&1], view.answered_by), (None, Some(3)));
        assert_eq!(View::read(1, 2, &Value::Null).leaders.len(), 0);
        assert_eq!((by_leads(&body), by_leads(&Value::Null)), (vec![1, 2, 3], Vec::new()));
    }

    #[test]
    fn what_was_seen_last_counts() {
        let look = |at_ms, found| NodeLook { node: 1, at_ms, found };
        let nodes = vec![look(10, Found::Up { open_attempts: 7 }), look(20, Found::Silent), look(30, Found::Gone)];
        let saw = |heard_ms, leader| View { heard_ms, leaders: BTreeMap::from([(4, leader)]), ..View::default() };
        let views = vec![saw(5, Some(1)), saw(8, None), saw(15, Some(2))];
        let looks = Looks { nodes, views };
        assert_eq!((looks.open_attempts(1, 25), looks.open_attempts(1, 10), looks.open_attempts(2, 25)), (7, 0, 0));
        assert_eq!(looks.leaders_before(15), BTreeMap::from([(4, 1)]));
        assert_eq!((looks.leaders_before(16), looks.leaders_before(5)), (BTreeMap::from([(4, 2)]), BTreeMap::new()));
    }
}

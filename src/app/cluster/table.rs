//! The cluster as an operator reads it in a terminal.

use crate::actors::alert_rules::CERTIFICATE_WARNING_S;
use serde_json::Value;
use std::fmt::Write as _;

/// Right-pads cells to the widest of their column.
struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    fn new(head: &[&str]) -> Self {
        Self { rows: vec![head.iter().map(|cell| (*cell).to_owned()).collect()] }
    }

    fn row(&mut self, cells: Vec<String>) {
        self.rows.push(cells);
    }

    fn render(&self) -> String {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let width = |column: usize| {
            self.rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..columns).map(width).collect();
        let mut text = String::new();
        for row in &self.rows {
            let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
            let line = cells.collect::<Vec<_>>().join("  ");
            let _infallible = writeln!(text, "{}", line.trim_end());
        }
        text
    }
}

/// A value as a cell.
fn cell(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::String(text) => text.clone(),
        Value::Array(items) => items.iter().map(cell).collect::<Vec<_>>().join(","),
        other => other.to_string(),
    }
}

fn rows<'a>(view: &'a Value, name: &str) -> impl Iterator<Item = &'a Value> {
    view[name].as_array().into_iter().flatten()
}

/// Nodes, and what is not as it should be.
#[must_use]
pub fn status(view: &Value) -> String {
    let mut table = Table::new(&["NODE", "NAME", "ZONE", "STATE", "LEADS", "REPLICAS", "CLOCK ms", "API"]);
    for node in rows(view, "nodes") {
        let names = ["id", "name", "zone", "state", "leads", "replicas", "clock_offset_ms", "api"];
        table.row(names.iter().map(|name| cell(&node[*name])).collect());
    }
    let shards: Vec<&Value> = rows(view, "shards").collect();
    let leaderless = shards.iter().filter(|shard| shard["leader"].is_null()).count();
    let wanted = view["replication"].as_u64().unwrap_or(1);
    let thin = shards.iter().filter(|shard| (shard["replicas"].as_array().map_or(0, Vec::len) as u64) < wanted).count();
    let moving = shards.iter().filter(|shard| shard["moving"] == Value::Bool(true)).count();
    let mut text = table.render();
    let _infallible = writeln!(
        text,
        "\n{} shards x {wanted}: {leaderless} without a leader, {thin} short of replicas, {moving} moving. Feature level {}.",
        shards.len(),
        cell(&view["feature_level"]),
    );
    if view["feature_level_possible"].as_u64() > view["feature_level"].as_u64() {
        let possible = cell(&view["feature_level_possible"]);
        let _infallible =
            writeln!(text, "Every node knows feature level {possible}: `bojagi cluster finalize-upgrade` raises it.");
    }
    if view["meta"]["quorum"] == Value::Bool(false) {
        text.push_str("The meta group has no quorum: gifts go on, placement is frozen.\n");
    }
    let slow = cell(&view["disks"]["slow"]);
    if rows(&view["disks"], "slow").next().is_some() {
        let _infallible =
            writeln!(text, "The disks of these nodes are far slower than the others', so they lead nothing: {slow}.");
    }
    for ending in ending_certificates(view) {
        let _infallible = writeln!(text, "{ending}");
    }
    text
}

/// One line for each certificate that ends soon.
fn ending_certificates(view: &Value) -> Vec<String> {
    let mut lines = Vec::new();
    for node in rows(view, "nodes") {
        for certificate in rows(&node["health"], "certificates") {
            let Some(left_s) = certificate["seconds_left"].as_f64().filter(|left| *left < CERTIFICATE_WARNING_S) else {
                continue;
            };
            let verb = if left_s < 0.0 { "ended" } else { "ends" };
            let (node, of, at) = (cell(&node["id"]), cell(&certificate["of"]), cell(&certificate["not_after"]));
            lines.push(format!("Node {node}: the {of} certificate of its links {verb} at {at}."));
        }
    }
    lines
}

/// Every shard with its leader and replicas.
#[must_use]
pub fn shards(view: &Value) -> String {
    let mut table = Table::new(&["SHARD", "LEADER", "TERM", "COMMIT", "REPLICAS", "LEARNERS", "LAG", "LIVE"]);
    for shard in rows(view, "shards") {
        let names = ["id", "leader", "term", "commit", "replicas", "learners", "lag", "live"];
        table.row(names.iter().map(|name| cell(&shard[*name])).collect());
    }
    table.render()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_is_wrong_is_counted() {
        let view = json!({
            "replication": 3, "feature_level": 1, "feature_level_possible": 2, "disks": {"slow": [3]},
            "nodes": [{"id": 1, "name": "n1", "zone": "a", "state": "up", "leads": 2, "replicas": 2, "api": "http://a",
                "health": {"certificates": [
                    {"of": "node", "not_after": "2026-12-25T00:00:00.000Z", "seconds_left": 30 * 86_400 - 1},
                    {"of": "ca", "not_after": "2026-12-26T00:00:00.000Z", "seconds_left": 30 * 86_400},
                ]}}],
            "shards": [
                {"id": 0, "leader": 1, "replicas": [1, 2, 3]},
                {"id": 1, "leader": null, "replicas": [1, 2], "moving": true},
            ],
        });
        let text = status(&view);
        assert!(text.contains("2 shards x 3: 1 without a leader, 1 short of replicas, 1 moving."), "{text}");
        assert!(
            text.contains("Every node knows feature level 2: `bojagi cluster finalize-upgrade` raises it."),
            "{text}"
        );
        assert!(text.contains("so they lead nothing: 3."), "{text}");
        let ends = "Node 1: the node certificate of its links ends at 2026-12-25T00:00:00.000Z.";
        assert!(text.contains(ends) && !text.contains("the ca certificate"), "{text}");
        assert!(shards(&view).lines().nth(2).unwrap().starts_with("1      -"));
    }
}

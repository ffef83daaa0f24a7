//! What a node counts is what docs/METRICS.md says, read through its front door.

use crate::nodes::Nodes;
use std::collections::BTreeSet;

/// Every name in the first column of the table; labels belong to the name before them.
fn documented() -> BTreeSet<String> {
    let text =
        std::fs::read_to_string(std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/METRICS.md")).unwrap();
    let rows = text.lines().filter_map(|line| line.strip_prefix("| `")?.split(" | ").next().map(str::to_owned));
    let names = rows.flat_map(|row| row.split('`').map(str::to_owned).collect::<Vec<_>>());
    let is_name = |name: &String| name.starts_with("bojagi_") || name.starts_with("gateway_");
    let bare = |name: String| name.split('{').next().unwrap_or_default().to_owned();
    names.filter(is_name).map(bare).collect()
}

#[test]
fn every_documented_metric_is_there_once_gifts_were_sent() {
    let documented = documented();
    assert!(documented.len() > 40, "{documented:?}");
    let three = Nodes::start(3);
    three.until_spread();
    let gifts = three.reserve(12, "a", 20, |_| {});
    each_node_forecasts_all(&three, 12);
    assert!(three.advance(1, 21 * 60));
    three.each_is_sent_once(&gifts);
    // Nodes of dev have no certificates: production.rs looks for those.
    let documented: BTreeSet<String> =
        documented.into_iter().filter(|name| name != "bojagi_certificate_seconds").collect();
    let mut missing = documented.clone();
    three.patiently("all of them", || {
        let scraped: Vec<String> = (1..=3).map(|node| three.text(node, "/metrics")).collect();
        let is_there = |name: &String| {
            let sample =
                |line: &str| line.strip_prefix("# TYPE ").is_some_and(|rest| rest.starts_with(&format!("{name} ")));
            scraped.iter().any(|text| text.lines().any(sample))
        };
        missing = documented.iter().filter(|name| !is_there(name)).cloned().collect();
        if !missing.is_empty() {
            eprintln!("missing: {missing:?}");
        }
        missing.is_empty()
    });
    // A counter that was looked up too early would stay at 0, or away.
    let accepted = (1..=3).map(|node| three.text(node, "/metrics")).collect::<String>();
    let sends = accepted.lines().filter(|line| {
        line.starts_with("gateway_outcomes_total{") && line.contains("send.") && line.contains("\"accepted\"")
    });
    let counted: f64 = sends.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum();
    assert!(counted >= 12.0, "{accepted}");
}

/// Each says of the whole cluster how many sends are due, whoever leads them.
fn each_node_forecasts_all(three: &Nodes, gifts: u64) {
    let operator = three.token("operator", "ops");
    let sends = |view: &serde_json::Value| -> u64 {
        let rows = view["minutes"].as_array().into_iter().flatten();
        let channels = rows.flat_map(|row| row["channels"].as_object().into_iter().flatten());
        channels.filter_map(|(_, channel)| channel["sends"].as_u64()).sum()
    };
    for node in 1..=3 {
        three.patiently("a forecast of all gifts", || {
            let view = three.get(node, "/v1/ops/forecast?hours=1", &operator).unwrap_or_default();
            let whole =
                view["shards_missing"] == serde_json::json!([]) && view["nodes"] == serde_json::json!([1, 2, 3]);
            whole && view["late"] == 0 && sends(&view) == gifts
        });
    }
}

/// Names of metrics in the rules for Prometheus; `up` is Prometheus's own.
fn ruled() -> BTreeSet<String> {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("cluster-config/alerts.yml");
    let text = std::fs::read_to_string(path).unwrap();
    let expressions = text.lines().filter_map(|line| line.trim().strip_prefix("expr: "));
    let words = expressions.flat_map(|line| line.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_')));
    // `bojagi_http_request_seconds_bucket` is a line of the histogram.
    let names = words.filter(|word| word.starts_with("bojagi_") || word.starts_with("gateway_"));
    names.map(|name| name.trim_end_matches("_bucket").to_owned()).collect()
}

#[test]
fn alert_rules_name_metrics_that_are_documented_and_so_printed() {
    let (ruled, documented) = (ruled(), documented());
    assert!(ruled.len() >= 9, "{ruled:?}");
    assert!(ruled.is_subset(&documented), "{:?}", ruled.difference(&documented));
}

#[test]
fn a_node_that_dies_is_an_alert_on_the_others_until_it_is_back() {
    let three = Nodes::start(3);
    three.until_spread();
    let operator = three.token("operator", "ops");
    let alerts = || three.get(1, "/v1/ops/alerts", &operator).unwrap_or_default();
    let down = |view: &serde_json::Value| {
        let items = view["items"].as_array().cloned().unwrap_or_default();
        items.iter().any(|item| item["alert"] == "node_down" && item["severity"] == "critical" && item["node"] == 3)
    };
    assert!(!down(&alerts()));
    three.patiently("the lanes of all", || nodes_that_show_lanes(&three, &operator) == [1, 2, 3]);
    three.kill(3);
    three.patiently("it is told that the node is down", || down(&alerts()));
    assert_eq!(nodes_that_show_lanes(&three, &operator), [1, 2], "of three");
    // A survivor has noticed by itself, too.
    let gauge = "bojagi_alert{alert=\"node_down\",severity=\"critical\"} 1";
    three.patiently("the survivor's gauge", || three.text(1, "/metrics").lines().any(|line| line == gauge));
    three.start_again(3);
    three.patiently("the alert has passed", || !down(&alerts()) && !three.text(1, "/metrics").contains(gauge));
    assert_eq!(nodes_that_show_lanes(&three, &operator), [1, 2, 3]);
}

/// Of the three nodes that node 1 names, those whose lanes it shows.
fn nodes_that_show_lanes(three: &Nodes, operator: &str) -> Vec<u64> {
    let view = three.get(1, "/v1/ops/gateways", operator).unwrap_or_default();
    assert!(view["lanes"].as_array().is_some_and(|lanes| !lanes.is_empty()), "{view}");
    let nodes = view["nodes"].as_array().cloned().unwrap_or_default();
    assert_eq!(nodes.len(), 3, "{view}");
    let shows = |node: &&serde_json::Value| node["lanes"].as_array().is_some_and(|lanes| !lanes.is_empty());
    nodes.iter().filter(shows).filter_map(|node| node["id"].as_u64()).collect()
}

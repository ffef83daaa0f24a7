//! What an operator plans: each node restarted in turn, two nodes more and two less, while clients go on.

use crate::nodes::Nodes;
use serde_json::{Value, json};
use std::collections::BTreeSet;

#[test]
fn nodes_restart_in_turn_under_load_and_no_request_is_lost() {
    let three = Nodes::start(3);
    three.until_spread();
    let gifts = three.under_load(|| {
        for node in 1..=3 {
            three.stop(node);
            three.start_again(node);
            three.until_whole();
            three.until_spread();
        }
    });
    assert!(three.advance(1, 61 * 60));
    three.each_is_sent_once(&gifts);
}

fn replicas(view: &Value, node: u64) -> u64 {
    let nodes = view["nodes"].as_array().into_iter().flatten();
    nodes.filter(|row| row["id"] == node).filter_map(|row| row["replicas"].as_u64()).sum()
}

/// Each shard with each node that holds it.
fn places(view: &Value) -> BTreeSet<(u64, u64)> {
    let mut places = BTreeSet::new();
    for shard in view["shards"].as_array().into_iter().flatten() {
        let holders = shard["replicas"].as_array().into_iter().flatten().filter_map(Value::as_u64);
        places.extend(holders.map(|node| (shard["id"].as_u64().unwrap_or_default(), node)));
    }
    places
}

#[test]
fn three_nodes_become_five_and_three_again_under_load() {
    let nodes = Nodes::start(3);
    nodes.until_spread();
    let before = places(&nodes.any_view().unwrap());
    let gifts = nodes.under_load(|| {
        [4, 5].iter().for_each(|node| nodes.start_again(*node));
        // 48 replicas on five nodes: 9 or 10 each, within 20 % of even.
        let view = nodes.until("replicas spread over five nodes", |view| {
            nodes.is_whole(view) && (1..=5).all(|node| (8..=11).contains(&replicas(view, node)))
        });
        // Ideally the two new ones take 2/5 of 48, and nothing else moves.
        let moved = places(&view).difference(&before).count();
        assert!((16..=22).contains(&moved), "{moved} replicas moved");
        for node in [4, 5] {
            nodes.order("drain", &json!({ "node": node }));
        }
        nodes.until("nothing left on the drained", |view| {
            nodes.is_whole(view) && replicas(view, 4) + replicas(view, 5) == 0
        });
        for node in [4, 5] {
            nodes.order("remove", &json!({ "node": node }));
        }
    });
    nodes.until_spread();
    assert!(nodes.advance(1, 61 * 60));
    nodes.each_is_sent_once(&gifts);
}

//! The event stream and the quotas of three nodes: one is killed in the middle, and nothing is missing on the stream.

use crate::nodes::Nodes;
use crate::server::Server;
use serde_json::Value;
use std::collections::HashMap;

/// What happened to a gift by a node's own word: types, in order.
fn timeline(three: &Nodes, user: &str, id: &str) -> Option<Vec<String>> {
    let page = three.get(1, &format!("/v1/gifts/{id}/events?limit=100"), user)?;
    let types = page["items"].as_array()?.iter().map(|item| Some(item["type"].as_str()?.to_owned()));
    types.collect()
}

/// The types of each entity's events as the stream has them, in the order of their ids, each once.
fn lives(server: &Server) -> HashMap<String, Vec<String>> {
    let mut events = server.events();
    events.sort_by(|one, other| (&one.entity, one.order).cmp(&(&other.entity, other.order)));
    events.dedup_by(|one, other| one.event_id == other.event_id);
    let mut lives: HashMap<String, Vec<String>> = HashMap::new();
    for event in events {
        lives.entry(event.entity).or_default().push(event.event_type);
    }
    lives
}

/// Whether each event came first in its entity's order, within its topic.
fn first_comings_are_in_order(server: &Server) {
    let mut seen: HashMap<(String, String), Vec<(u64, u64)>> = HashMap::new();
    let mut repeats = 0;
    for event in server.events() {
        let orders = seen.entry((event.topic, event.entity)).or_default();
        if orders.contains(&event.order) {
            repeats += 1;
            continue;
        }
        assert!(orders.last().is_none_or(|last| *last < event.order), "{} came late", event.event_id);
        orders.push(event.order);
    }
    println!("ledger: {} entities and topics on the stream, {repeats} repeats", seen.len());
}

#[test]
fn a_leader_dies_and_its_shards_events_go_on_from_where_it_stopped() {
    let server = Server::start();
    let three = Nodes::start_with(3, &["--redis", &server.url()]);
    let gifts = three.reserve(60, "r", 20, |number| {
        if number == 30 {
            three.kill(2);
        }
    });
    three.advance(1, 21 * 60);
    for _ in 0..3 {
        three.advance(1, 20);
    }
    three.each_is_sent_once(&gifts);
    let user = three.token("user", "u-1");
    three.patiently("everything on the stream", || {
        let lives = lives(&server);
        gifts.iter().all(|id| {
            let told = timeline(&three, &user, id);
            told.is_some() && told.as_ref() == lives.get(id)
        })
    });
    first_comings_are_in_order(&server);
    let operator = three.token("operator", "op");
    for node in [1, 3] {
        three.patiently("the quota is the fleet's", || {
            let view = three.get(node, "/v1/ops/gateways?of=node", &operator).unwrap_or(Value::Null);
            let lanes = view["lanes"].as_array().cloned().unwrap_or_default();
            !lanes.is_empty() && lanes.iter().all(|lane| lane["quota"] == "shared")
        });
    }
}

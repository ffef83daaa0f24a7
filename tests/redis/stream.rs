//! The event stream of a real node: complete, in order, without personal data; and Redis may go and come as it likes.

use crate::server::{Event, Server, until};
use crate::support::Stack;
use serde_json::{Value, json};
use std::collections::HashSet;

const NAME: &str = "카나리아이름";
const MESSAGE: &str = "canary-message-8c1d";
const PAYMENT_KEY: &str = "tok_canary_77aa";
const DAY: i64 = 86_400;

fn stack(server: &Server) -> Stack {
    let stack = Stack::start_with(&["--redis", &server.url()]);
    stack.put_product("americano", 4_500, 30);
    stack
}

fn reserved(stack: &Stack, minutes: i64) -> String {
    let id = stack.reserved(stack.gift_body("americano", &stack.in_minutes(minutes)));
    stack.await_status(&id, "scheduled");
    id
}

/// What happened to a gift by the front door's own word: types, in order.
fn timeline(stack: &Stack, id: &str) -> Vec<String> {
    let mut types = Vec::new();
    let mut cursor = String::new();
    loop {
        let path = format!("/v1/gifts/{id}/events?limit=100{cursor}");
        let page = stack.call("GET", &path, Some(&stack.user), None, None);
        assert_eq!(page.status, 200, "{}", page.text);
        types.extend(
            page.body["items"].as_array().unwrap().iter().map(|item| item["type"].as_str().unwrap().to_owned()),
        );
        match page.body["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => return types,
        }
    }
}

/// The gift's events once all of them are there.
fn whole_life(stack: &Stack, server: &Server, id: &str) -> Vec<Event> {
    let wanted = timeline(stack, id);
    until("every event of the timeline is on the stream", || {
        let life = server.life(id);
        let types: Vec<String> = life.iter().map(|event| event.event_type.clone()).collect();
        (types == wanted).then_some(life)
    })
}

fn topics(life: &[Event]) -> Vec<&str> {
    let mut topics: Vec<&str> = life.iter().map(|event| event.topic.as_str()).collect();
    topics.dedup();
    topics
}

/// Within each topic the events of an entity stand in its own order.
fn assert_in_order(events: &[Event]) {
    let place = |event: &Event| {
        let (millis, number) = event.place.split_once('-').unwrap();
        (millis.parse::<u64>().unwrap(), number.parse::<u64>().unwrap())
    };
    for one in events {
        for other in events.iter().filter(|other| (&other.topic, &other.entity) == (&one.topic, &one.entity)) {
            assert_eq!(one.order < other.order, place(one) < place(other), "{one:?}\n{other:?}");
        }
    }
}

fn assert_each_once(events: &[Event]) {
    let ids: HashSet<&str> = events.iter().map(|event| event.event_id.as_str()).collect();
    assert_eq!(ids.len(), events.len(), "an event id came twice although nothing failed");
}

fn ops(stack: &Stack, view: &str) -> Value {
    stack.call("GET", &format!("/v1/ops/{view}"), Some(&stack.operator), None, None).body
}

/// Waits until every lane draws on the named quota.
fn await_quota(stack: &Stack, state: &str) {
    until("the lanes' quota", || {
        let view = ops(stack, "gateways");
        let lanes = view["lanes"].as_array().unwrap();
        (!lanes.is_empty() && lanes.iter().all(|lane| lane["quota"] == state)).then_some(())
    });
}

#[test]
fn the_life_of_a_gift_is_told_in_order_once_and_without_personal_data() {
    let server = Server::start();
    let stack = stack(&server);
    let mut body = stack.gift_body("americano", &stack.in_minutes(30));
    body["recipient"] = json!({"name": NAME, "phone": "010-9876-5432"});
    body["message"] = json!(MESSAGE);
    body["payment"]["payment_key"] = json!(PAYMENT_KEY);
    let id = stack.reserved(body);
    stack.advance(40 * 60);
    assert_eq!(stack.sends(&id), 1);
    let link = stack.link(&id);
    let accepted = stack.link_call(&link, "accept", None);
    let code = accepted.body["voucher"]["code"].as_str().unwrap().to_owned();
    assert_eq!(stack.redeem(&code, "tx-1").status, 200);

    let life = whole_life(&stack, &server, &id);
    let told = topics(&life);
    // Notices go out beside it, when they get to it.
    let mut beside: Vec<&str> = told.iter().copied().filter(|topic| *topic != "notification.result.v1").collect();
    beside.dedup();
    assert_eq!(
        beside,
        [
            "reservation.requested.v1",
            "payment.request.v1",
            "reservation.created.v1",
            "dispatch.request.v1",
            "delivery.result.v1",
            "gift.accepted.v1",
            "gift.used.v1",
        ],
    );
    assert_eq!(life[0].details["product_id"], "americano");
    let all = server.events();
    assert!(all.iter().any(|event| event.topic == "product.changed.v1"));
    assert_each_once(&all);
    assert_in_order(&all);
    let everything = server.everything();
    let phones = ["9876-5432", "01098765432", "1098765432"];
    for needle in [NAME, MESSAGE, PAYMENT_KEY, "\"u-1", "op-1", &link, &code].into_iter().chain(phones) {
        assert!(!everything.contains(needle), "{needle} stands in Redis");
    }
    await_quota(&stack, "shared");
    let stream = &ops(&stack, "runtime")["event_stream"];
    assert_eq!(stream["published"], all.len(), "{stream}");
    assert_eq!((&stream["connected"], &stream["errors"], &stream["lag_entries"]), (&json!(true), &json!(0), &json!(0)));
}

#[test]
fn expiry_and_cancellation_have_the_documents_topics() {
    let server = Server::start();
    let stack = stack(&server);
    let (unused, cancelled) = (reserved(&stack, 30), reserved(&stack, 90));
    assert_eq!(stack.cancel(&cancelled).status, 200);
    stack.await_status(&cancelled, "refunded");
    stack.advance(33 * DAY);
    assert_eq!(stack.gift(&unused)["status"], "refunded");
    let told =
        |id: &str| -> Vec<String> { whole_life(&stack, &server, id).into_iter().map(|event| event.topic).collect() };
    let (unused, cancelled) = (told(&unused), told(&cancelled));
    let at = |topics: &[String], name: &str| topics.iter().position(|topic| topic == name).expect(name);
    let reminders = unused.iter().filter(|topic| *topic == "gift.expired.soon.v1").count();
    assert_eq!(reminders, 2, "D-3 and D-1: {unused:?}");
    assert!(at(&unused, "gift.expired.soon.v1") < at(&unused, "gift.expired.v1"));
    assert!(at(&unused, "gift.expired.v1") < at(&unused, "refund.completed.v1"));
    assert!(at(&cancelled, "reservation.created.v1") < at(&cancelled, "reservation.cancelled.v1"));
    assert!(at(&cancelled, "reservation.cancelled.v1") < at(&cancelled, "refund.completed.v1"));
    assert!(!cancelled.iter().any(|topic| topic == "dispatch.request.v1"));
}

#[test]
fn redis_dies_and_gifts_go_on_and_when_it_is_back_with_nothing_everything_is_there_again() {
    let mut server = Server::start();
    let stack = stack(&server);
    let before = reserved(&stack, 30);
    stack.advance(32 * 60);
    whole_life(&stack, &server, &before);
    server.kill();
    await_quota(&stack, "fallback");
    let during: Vec<String> = (0..5).map(|_| reserved(&stack, 20)).collect();
    stack.advance(22 * 60);
    for id in &during {
        assert_eq!(stack.sends(id), 1, "{}", stack.gift(id));
        assert_eq!(stack.gift(id)["status"], "sent");
    }
    let away = ops(&stack, "runtime")["event_stream"].clone();
    assert_eq!(away["connected"], false, "{away}");
    assert!(away["errors"].as_u64().unwrap() > 0, "{away}");
    until("the lag is seen", || (ops(&stack, "runtime")["event_stream"]["lag_entries"].as_u64()? > 0).then_some(()));
    server.launch();
    for id in during.iter().chain([&before]) {
        whole_life(&stack, &server, id);
    }
    let after = reserved(&stack, 20);
    whole_life(&stack, &server, &after);
    assert_in_order(&server.events());
    await_quota(&stack, "shared");
}

#[test]
fn an_idle_node_finds_out_that_redis_lost_everything() {
    let mut server = Server::start();
    let stack = stack(&server);
    let id = reserved(&stack, 30);
    whole_life(&stack, &server, &id);
    server.kill();
    server.launch();
    assert!(server.events().is_empty());
    whole_life(&stack, &server, &id);
}

#[test]
fn a_cursor_of_a_past_that_was_lost_is_dropped_by_the_leader() {
    let server = Server::start();
    let stack = stack(&server);
    let first = reserved(&stack, 30);
    whole_life(&stack, &server, &first);
    // As after a restore from an old backup: a later term and a later entry than this shard has ever had.
    let mut connection = server.connection();
    let cursors: Vec<String> = redis::cmd("KEYS").arg("bojagi:cursor:*").query(&mut connection).unwrap();
    for key in cursors {
        let later = r#"{"tail":{"index":900000,"term":70,"at":0}}"#;
        redis::cmd("HSET").arg(key).arg(&["term", "70", "cursor", later]).exec(&mut connection).unwrap();
    }
    let second = reserved(&stack, 30);
    whole_life(&stack, &server, &second);
}

#[test]
fn a_killed_node_goes_on_where_it_stopped() {
    let server = Server::start();
    let mut stack = stack(&server);
    let first = reserved(&stack, 30);
    whole_life(&stack, &server, &first);
    stack.kill_node();
    stack.start_node();
    stack.advance(32 * 60);
    assert_eq!(stack.sends(&first), 1);
    let second = reserved(&stack, 30);
    whole_life(&stack, &server, &first);
    whole_life(&stack, &server, &second);
    assert_each_once(&server.events());
    assert_in_order(&server.events());
}

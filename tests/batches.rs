//! Gifts that leave in batches, through real processes: far fewer calls, each gift once, and nothing else after a kill -9
//! in the middle, whether the provider had taken the batch or not (ADR-13).

mod support;

use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::time::Duration;
use support::Stack;

const GIFTS: usize = 240;
const CLIENTS: usize = 8;
/// Pause between two looks, and how often it is looked: four minutes, enough for a slow machine.
const LOOK_EVERY: Duration = Duration::from_millis(20);
const LOOKS: u32 = 12_000;

fn start() -> Stack {
    let stack = Stack::start_with(&["--kakao-batch", "100", "--shards", "4"]);
    stack.put_product("americano", 4_500, 30);
    stack
}

/// Reserves gifts for one instant from several clients at once; their ids.
fn reserve(stack: &Stack, at: &str) -> BTreeSet<String> {
    let ids = std::sync::Mutex::new(BTreeSet::new());
    std::thread::scope(|scope| {
        for _ in 0..CLIENTS {
            scope.spawn(|| {
                for _ in 0..GIFTS / CLIENTS {
                    let id = stack.reserved(stack.gift_body("americano", at));
                    ids.lock().unwrap().insert(id);
                }
            });
        }
    });
    ids.into_inner().unwrap()
}

fn count(summary: &Value, name: &str) -> i64 {
    summary[name].as_i64().unwrap_or_else(|| panic!("no {name} in {summary}"))
}

fn order(stack: &Stack, fault: &Value) {
    let reply = stack.call("POST", &format!("{}/faults", stack.sandbox), None, None, Some(fault.clone()));
    assert!((200..300).contains(&reply.status), "{}", reply.text);
}

/// A counter of the node as `/metrics` shows it.
fn counter(stack: &Stack, name: &str) -> f64 {
    let reply = stack.call("GET", "/metrics", Some(&stack.operator), None, None);
    let line = reply.text.lines().find(|line| line.starts_with(name) && line.contains("send.kakao"));
    line.and_then(|line| line.rsplit(' ').next()?.parse().ok()).unwrap_or(0.0)
}

/// Each gift has reached its person once, by one reference each that was asked for, and the books balance.
fn each_once(stack: &Stack, ids: &BTreeSet<String>) {
    for id in ids {
        assert_eq!(stack.sends(id), 1, "{}\n{}", stack.gift(id), stack.node_log());
    }
    let summary = stack.summary();
    assert_eq!(count(&summary, "gifts_delivered"), i64::try_from(ids.len()).unwrap(), "{summary}");
    assert_eq!(summary["gifts_delivered_twice"], 0, "{summary}");
    assert_eq!(stack.reconciliation()["balanced"], true);
}

/// Moves the clock to the gifts' instant and kills the node once `is_time`.
fn kill_at_the_instant(stack: &mut Stack, is_time: impl Fn(&Stack) -> bool) {
    let api = stack.api.clone();
    let mover = std::thread::spawn(move || {
        // The node dies under this call.
        let client = reqwest::blocking::Client::new();
        let _died = client
            .post(format!("{api}/v1/dev/clock"))
            .body(r#"{"advance_seconds":1200}"#)
            .header("Content-Type", "application/json")
            .send();
    });
    let come = (0..LOOKS).any(|_| {
        std::thread::sleep(LOOK_EVERY);
        is_time(stack)
    });
    assert!(come, "it never comes to it\n{}", stack.node_log());
    stack.kill_node();
    mover.join().unwrap();
}

#[test]
fn a_burst_leaves_in_far_fewer_calls_and_reaches_each_person_once() {
    let stack = start();
    let ids = reserve(&stack, &stack.in_minutes(15));
    stack.advance(20 * 60);
    each_once(&stack, &ids);
    let calls = count(&stack.summary(), "gift_calls");
    println!("{GIFTS} gifts in {calls} calls");
    assert!(calls <= i64::try_from(GIFTS).unwrap() / 3, "{calls} calls for {GIFTS} gifts\n{}", stack.node_log());
    assert!(counter(&stack, "gateway_batches_total") >= 1.0);
}

/// The provider takes each call and hangs up: nobody knows, until it is asked.
#[test]
fn a_batch_that_was_taken_without_a_word_is_looked_up_and_not_sent_again() {
    let stack = start();
    let ids = reserve(&stack, &stack.in_minutes(15));
    stack.advance(14 * 60);
    order(&stack, &json!({"provider": "nhn", "kind": "accept_then_drop", "probability": 1.0, "seconds": 180}));
    stack.advance(6 * 60);
    stack.advance(20 * 60);
    each_once(&stack, &ids);
    let items = stack.ledger("message", "g_");
    let repeated = items.iter().filter(|item| item["purpose"] == "gift" && item["requests"] != 1).count();
    assert_eq!(repeated, 0, "each was asked for once, and then only looked up");
}

/// The provider has taken the calls and does not answer; the node dies while it waits.
#[test]
fn a_batch_that_was_taken_before_the_kill_is_not_sent_again() {
    let mut stack = start();
    let ids = reserve(&stack, &stack.in_minutes(15));
    stack.advance(0);
    let silent = ["latency", "accept_then_drop"];
    silent.iter().for_each(|kind| {
        order(&stack, &json!({"provider": "nhn", "kind": kind, "probability": 1.0, "latency_ms": 120_000}));
    });
    kill_at_the_instant(&mut stack, |stack| count(&stack.summary(), "gifts_delivered") >= 40);
    stack.clear_faults();
    let (taken, calls) = (count(&stack.summary(), "gifts_delivered"), count(&stack.summary(), "gift_calls"));
    println!("killed with {taken} gifts taken in {calls} calls");
    assert!(calls < taken, "they were in batches: {taken} in {calls}");
    stack.start_node();
    stack.advance(20 * 60);
    stack.advance(120);
    each_once(&stack, &ids);
}

/// The provider fails before it takes the calls, which the node cannot know; then the node dies.
#[test]
fn a_batch_that_was_not_taken_is_made_again_as_it_was_after_the_kill() {
    let mut stack = start();
    let ids = reserve(&stack, &stack.in_minutes(15));
    stack.advance(0);
    order(&stack, &json!({"provider": "nhn", "kind": "server_error", "status": 500, "probability": 1.0}));
    kill_at_the_instant(&mut stack, |stack| counter(stack, "gateway_batches_total") >= 1.0);
    stack.clear_faults();
    let before = stack.summary();
    assert_eq!(count(&before, "gifts_delivered"), 0, "{before}");
    stack.start_node();
    stack.advance(20 * 60);
    stack.advance(120);
    each_once(&stack, &ids);
    let calls = count(&stack.summary(), "gift_calls") - count(&before, "gift_calls");
    println!("made again in {calls} calls");
    assert!(calls <= i64::try_from(GIFTS).unwrap() / 2, "{calls} calls for {GIFTS} gifts\n{}", stack.node_log());
}

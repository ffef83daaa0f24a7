//! kill -9 in the middle of a burst, again and again: whatever was acknowledged is sent once by the sandbox's ledger,
//! and the money adds up. `BOJAGI_KILLS=50 cargo test --test crash` makes the long run.

mod support;

use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use support::Stack;

const GIFTS: usize = 300;
const CLIENTS: usize = 8;

#[allow(clippy::disallowed_methods, reason = "the length of a run is the caller's to choose")]
fn kills() -> usize {
    std::env::var("BOJAGI_KILLS").ok().and_then(|text| text.parse().ok()).unwrap_or(4)
}

/// Reserves one gift, repeating the same key until it is acknowledged or the node is gone.
fn try_reserve(client: &reqwest::blocking::Client, stack: &Stack, key: &str, body: &Value) -> Option<String> {
    let reply = client
        .post(format!("{}/v1/gifts", stack.api))
        .bearer_auth(&stack.user)
        .header("Idempotency-Key", key)
        .header("Content-Type", "application/json")
        .body(body.to_string())
        .send()
        .ok()?;
    if reply.status() != 201 {
        return None;
    }
    let body: Value = serde_json::from_str(&reply.text().ok()?).ok()?;
    body["id"].as_str().map(str::to_owned)
}

/// Reserves `GIFTS` gifts from several clients at once; returns the acknowledged ids and the keys that were not.
fn reserve_burst(stack: &Stack, keys: Vec<String>, at: &str, stop: &AtomicUsize) -> (BTreeSet<String>, Vec<String>) {
    let body = stack.gift_body("americano", at);
    let todo = Mutex::new(keys);
    let done = Mutex::new((BTreeSet::new(), Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..CLIENTS {
            scope.spawn(|| {
                let client =
                    reqwest::blocking::Client::builder().timeout(std::time::Duration::from_secs(20)).build().unwrap();
                loop {
                    let Some(key) = todo.lock().unwrap().pop() else { return };
                    let got =
                        (stop.load(Ordering::Relaxed) == 0).then(|| try_reserve(&client, stack, &key, &body)).flatten();
                    let mut done = done.lock().unwrap();
                    match got {
                        Some(id) => drop(done.0.insert(id)),
                        None => done.1.push(key),
                    }
                }
            });
        }
    });
    done.into_inner().unwrap()
}

fn effective(stack: &Stack) -> i64 {
    stack.summary()["gifts_delivered"].as_i64().unwrap()
}

#[test]
fn killed_in_the_middle_of_bursts_nothing_is_lost_or_sent_twice() {
    let mut stack = Stack::start();
    stack.put_product("americano", 4_500, 30);
    let mut acknowledged = BTreeSet::new();
    let go_on = AtomicUsize::new(0);
    for round in 0..kills() {
        let at = stack.in_minutes(15);
        let keys: Vec<String> = (0..GIFTS).map(|n| format!("r{round}-{n}")).collect();
        // Every other round the node dies while the gifts are reserved, else while they are sent.
        let mut left = keys;
        if round % 2 == 1 {
            let half = left.split_off(GIFTS / 2);
            let (ids, failed) = reserve_burst(&stack, left, &at, &go_on);
            acknowledged.extend(ids);
            left = failed;
            left.extend(half);
            let api = stack.api.clone();
            let pid = stack.node_pid();
            let (ids, failed) = std::thread::scope(|scope| {
                let killer = scope.spawn(move || kill_after_some(&api, pid));
                let result = reserve_burst(&stack, left.clone(), &at, &go_on);
                killer.join().unwrap();
                result
            });
            acknowledged.extend(ids);
            left = failed;
            stack.kill_node();
            stack.start_node();
        }
        let (ids, failed) = reserve_burst(&stack, left, &at, &go_on);
        assert!(
            failed.is_empty(),
            "{} reservations are not taken after the restart\n{}",
            failed.len(),
            stack.node_log()
        );
        acknowledged.extend(ids);
        assert_eq!(acknowledged.len(), GIFTS * (round + 1), "a repeated key never makes a second gift");
        stack.advance(0);
        if round % 2 == 0 {
            kill_while_sending(&mut stack);
        }
        stack.advance(20 * 60);
        stack.advance(120);
        assert_eq!(effective(&stack), i64::try_from(acknowledged.len()).unwrap(), "{}", stack.summary());
    }
    for id in &acknowledged {
        assert_eq!(stack.sends(id), 1, "{}", stack.gift(id));
    }
    let summary = stack.summary();
    assert_eq!(summary["gifts_delivered_twice"], 0, "{summary}");
    let books = stack.reconciliation();
    assert_eq!(books["balanced"], true, "{books}");
    assert_eq!(books["broken"], json!([]), "{books}");
    println!("kills: {}, {} gifts acknowledged, each sent once", kills(), acknowledged.len());
}

/// Moves the clock to the burst and kills the node once some of it has arrived.
fn kill_while_sending(stack: &mut Stack) {
    let before = effective(stack);
    let (api, pid) = (stack.api.clone(), stack.node_pid());
    std::thread::scope(|scope| {
        let mover = scope.spawn(move || {
            let client = reqwest::blocking::Client::new();
            // The node dies under this call.
            let _died = client
                .post(format!("{api}/v1/dev/clock"))
                .body(r#"{"advance_seconds":1200}"#)
                .header("Content-Type", "application/json")
                .send();
        });
        while !mover.is_finished() && effective(stack) < before + 20 {}
        signal_kill(pid);
        mover.join().unwrap();
    });
    stack.kill_node();
    stack.start_node();
}

/// Kills the node while requests are under way.
fn kill_after_some(api: &str, pid: u32) {
    let client = reqwest::blocking::Client::new();
    for _ in 0..10 {
        let _any = client.get(format!("{api}/healthz")).send();
    }
    signal_kill(pid);
}

fn signal_kill(pid: u32) {
    let status = std::process::Command::new("kill").args(["-9", &pid.to_string()]).status().unwrap();
    assert!(status.success());
}

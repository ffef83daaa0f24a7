//! A campaign that many claim at once, over HTTP: never beyond its quantity, none twice, no winner lost, though the
//! node is killed in the middle.

mod support;

use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use support::Stack;

const MEMBERS: usize = 120;
const CLIENTS: usize = 12;

/// A claim's answer: the coupon's id, or why there is none. `None`: no answer.
type Told = Option<Result<String, String>>;

/// Claims once; what may be repeated is repeated under the same key.
fn claim(client: &reqwest::blocking::Client, stack: &Stack, campaign: &str, token: &str, key: &str) -> Told {
    for _ in 0..20 {
        let reply = client
            .post(format!("{}/v1/coupon-campaigns/{campaign}/claims", stack.api))
            .bearer_auth(token)
            .header("Idempotency-Key", key)
            .send()
            .ok()?;
        let status = reply.status().as_u16();
        let body: Value = serde_json::from_str(&reply.text().ok()?).ok()?;
        match status {
            201 => return Some(Ok(body["id"].as_str()?.to_owned())),
            409 => return Some(Err(body["code"].as_str()?.to_owned())),
            503 => {}
            other => panic!("{other}: {body}"),
        }
    }
    None
}

/// Every member claims twice under the same key, from several clients at once. `won` is told how many have a coupon.
fn burst(stack: &Stack, campaign: &str, tokens: &[String], won: &(dyn Fn(usize) + Sync)) -> Vec<(usize, Told)> {
    let todo: Mutex<Vec<usize>> = Mutex::new((0..MEMBERS).chain(0..MEMBERS).rev().collect());
    let (done, winners) = (Mutex::new(Vec::new()), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        for _ in 0..CLIENTS {
            scope.spawn(|| {
                let timeout = std::time::Duration::from_secs(20);
                let client = reqwest::blocking::Client::builder().timeout(timeout).build().unwrap();
                loop {
                    let Some(member) = todo.lock().unwrap().pop() else { return };
                    let told = claim(&client, stack, campaign, &tokens[member], &format!("k-{member}"));
                    if let Some(Ok(_)) = &told {
                        won(winners.fetch_add(1, Ordering::SeqCst) + 1);
                    }
                    done.lock().unwrap().push((member, told));
                }
            });
        }
    });
    done.into_inner().unwrap()
}

/// Coupons by member; a member who was told of two is a fault.
fn won(told: &[(usize, Told)]) -> BTreeMap<usize, String> {
    let mut coupons = BTreeMap::new();
    for (member, told) in told {
        let Some(Ok(id)) = told else { continue };
        let known = coupons.entry(*member).or_insert_with(|| id.clone());
        assert_eq!(known, id, "u-{member} has two coupons");
    }
    coupons
}

#[test]
fn a_small_campaign_survives_a_crowd_and_a_kill_in_the_middle() {
    survives_a_crowd_and_a_kill(1, 40);
}

#[test]
fn a_campaign_in_parts_is_given_out_to_the_last_coupon_by_a_crowd_with_a_kill_in_the_middle() {
    // More than some parts' own members want: the last coupons go to members of others.
    survives_a_crowd_and_a_kill(4, 112);
}

fn survives_a_crowd_and_a_kill(parts: u8, quantity: usize) {
    let mut stack = Stack::start();
    let tokens: Vec<String> = (0..MEMBERS).map(|member| stack.token("user", &format!("member-{member}"))).collect();
    let body = json!({
        "name": "선착순", "quantity": quantity, "starts_at": stack.now(), "ends_at": stack.in_minutes(600),
        "discount": {"percent": 10, "cap": {"value": 3000, "currency": "KRW"}}, "valid_days": 30, "parts": parts,
    });
    let made = stack.call("POST", "/v1/coupon-campaigns", Some(&stack.operator), Some("c"), Some(body));
    assert_eq!(made.status, 201, "{}", made.text);
    let id = made.body["id"].as_str().unwrap().to_owned();

    let pid = stack.node_pid().to_string();
    let kill = |winners: usize| {
        if winners == quantity / 3 {
            let asked = std::process::Command::new("kill").args(["-9", &pid]).status().unwrap();
            assert!(asked.success());
        }
    };
    let first = burst(&stack, &id, &tokens, &kill);
    let before = won(&first);
    assert!(before.len() >= quantity / 3 - 1 && first.iter().any(|(_, told)| told.is_none()), "killed in the middle");
    stack.kill_node();
    stack.start_node();

    let second = burst(&stack, &id, &tokens, &|_| {});
    let after = won(&second);
    assert_eq!(after.len(), quantity, "exactly the quantity");
    assert_eq!(after.values().collect::<BTreeSet<_>>().len(), quantity, "no coupon is two members'");
    for (member, coupon) in &before {
        assert_eq!(after.get(member), Some(coupon), "what was acknowledged before the kill still is");
    }
    for (member, told) in &second {
        match told {
            Some(Ok(_)) => {}
            Some(Err(code)) => assert_eq!(code, "sold_out", "u-{member}"),
            None => panic!("u-{member} was not answered\n{}", stack.node_log()),
        }
    }
    let standing = stack.call("GET", &format!("/v1/coupon-campaigns/{id}"), Some(&stack.user), None, None).body;
    assert_eq!((&standing["issued"], &standing["status"]), (&json!(quantity), &json!("sold_out")), "{standing}");
    assert_eq!((&standing["quantity"], &standing["parts"]), (&json!(quantity), &json!(parts)), "{standing}");
    for (member, token) in tokens.iter().enumerate() {
        let mine = stack.call("GET", "/v1/coupons", Some(token), None, None).body;
        let ids: Vec<&str> =
            mine["items"].as_array().unwrap().iter().map(|item| item["id"].as_str().unwrap()).collect();
        assert_eq!(ids, after.get(&member).map(String::as_str).into_iter().collect::<Vec<_>>(), "u-{member}: {mine}");
    }
    let path = format!("/v1/coupon-campaigns/{id}/claims");
    for member in [*after.keys().next().unwrap(), *after.keys().last().unwrap()] {
        let other = stack.call("POST", &path, Some(&tokens[member]), Some("another"), None);
        assert_eq!((other.status, &other.body["code"]), (409, &json!("already_claimed")), "{}", other.text);
    }
}

#[test]
fn a_coupon_is_used_once_and_expires_by_the_clock() {
    let stack = Stack::start();
    let body = json!({
        "name": "선착순", "quantity": 2, "starts_at": stack.now(), "ends_at": stack.in_minutes(60),
        "discount": {"amount": {"value": 1000, "currency": "KRW"}}, "valid_days": 7,
    });
    let made = stack.call("POST", "/v1/coupon-campaigns", Some(&stack.operator), Some("c"), Some(body));
    let id = made.body["id"].as_str().unwrap().to_owned();
    let other = stack.token("user", "u-2");
    let mut coupons = Vec::new();
    for token in [&stack.user, &other] {
        let reply = stack.call("POST", &format!("/v1/coupon-campaigns/{id}/claims"), Some(token), Some("k"), None);
        assert_eq!(reply.status, 201, "{}", reply.text);
        coupons.push(format!("/v1/coupons/{}", reply.body["id"].as_str().unwrap()));
    }
    let used = stack.call("POST", &format!("{}/use", coupons[0]), Some(&stack.user), Some("u"), None);
    assert_eq!((used.status, &used.body["status"]), (200, &json!("used")), "{}", used.text);
    let again = stack.call("POST", &format!("{}/use", coupons[0]), Some(&stack.user), Some("u"), None);
    assert!(again.replayed && again.text == used.text, "{}", again.text);
    let twice = stack.call("POST", &format!("{}/use", coupons[0]), Some(&stack.user), Some("v"), None);
    assert_eq!((twice.status, &twice.body["code"]), (409, &json!("already_used")));
    stack.advance(9 * 86_400);
    let expired = stack.call("GET", &coupons[1], Some(&other), None, None).body;
    assert_eq!(expired["status"], "expired", "{expired}");
    assert_eq!(stack.call("GET", &coupons[0], Some(&stack.user), None, None).body["status"], "used");
    let ended = stack.call("GET", &format!("/v1/coupon-campaigns/{id}"), Some(&stack.user), None, None).body;
    assert_eq!((&ended["status"], &ended["issued"]), (&json!("sold_out"), &json!(2)), "{ended}");
}

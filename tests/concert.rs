//! A concert over HTTP against a real node and a real sandbox process: more buyers than seats, a node killed in the
//! middle, and a payment provider that is away. No seat twice, none left behind, and the ledger adds up.

mod support;

use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use support::{Reply, Stack};

const SEATS: usize = 24;
const BUYERS: usize = 60;
const CLIENTS: usize = 10;
const PRICE: i64 = 50_000;

fn make_show(stack: &Stack, seats: usize, active_max: usize) -> String {
    let body = json!({
        "title": "연말 콘서트", "opens_at": stack.now(), "admission_per_second": 1_000, "active_max": active_max,
        "seats": [{"section": "A", "row": "1", "count": seats, "price": {"value": PRICE, "currency": "KRW"}}],
    });
    let made = stack.call("POST", "/v1/shows", Some(&stack.operator), Some(&stack.fresh_key()), Some(body));
    assert_eq!(made.status, 201, "{}", made.text);
    made.body["id"].as_str().unwrap().to_owned()
}

fn enter(stack: &Stack, show: &str, token: &str) -> String {
    let reply = stack.call("POST", &format!("/v1/shows/{show}/queue"), Some(token), Some("q"), None);
    assert!(reply.status < 300, "{}", reply.text);
    reply.body["ticket"].as_str().unwrap().to_owned()
}

fn take(stack: &Stack, show: &str, token: &str, key: &str, seat: usize) -> Reply {
    let body = json!({"ticket": enter(stack, show, token), "seats": [format!("A-{seat}")]});
    stack.call("POST", &format!("/v1/shows/{show}/reservations"), Some(token), Some(key), Some(body))
}

fn taken(stack: &Stack, show: &str, token: &str, seat: usize) -> String {
    let reply = take(stack, show, token, &stack.fresh_key(), seat);
    assert_eq!(reply.status, 201, "{}", reply.text);
    reply.body["id"].as_str().unwrap().to_owned()
}

fn pay(stack: &Stack, token: &str, id: &str, body: Value) -> Reply {
    let path = format!("/v1/reservations/{id}/payment");
    let reply = stack.call("POST", &path, Some(token), Some("p"), Some(body));
    assert_eq!((reply.status, &reply.body["status"]), (202, &json!("payment_pending")), "{}", reply.text);
    reply
}

fn card(payment_key: &str) -> Value {
    json!({"payment": {"method": "card", "payment_key": payment_key}})
}

fn reservation(stack: &Stack, token: &str, id: &str) -> Value {
    stack.call("GET", &format!("/v1/reservations/{id}"), Some(token), None, None).body
}

fn seats(stack: &Stack, show: &str, status: &str) -> usize {
    let path = format!("/v1/shows/{show}/seats?limit=100&status={status}");
    stack.call("GET", &path, Some(&stack.user), None, None).body["items"].as_array().unwrap().len()
}

fn won(stack: &Stack, kind: &str, id: &str) -> i64 {
    stack.ledger(kind, id).iter().map(|item| item["amount"]["value"].as_i64().unwrap()).sum()
}

/// What a buyer has in the end: the seat and the reservation.
type Got = Option<(usize, String)>;

/// A buyer tries seat after seat until one is the own, and pays for it. `None`: no answer, or no seat.
fn buy(client: &reqwest::blocking::Client, api: &str, show: &str, token: &str, buyer: usize) -> Got {
    let post = |path: &str, key: &str, body: Value| -> Option<(u16, Value)> {
        for _ in 0..20 {
            let request = client.post(format!("{api}{path}")).bearer_auth(token).header("Idempotency-Key", key);
            let reply = request.header("Content-Type", "application/json").body(body.to_string()).send().ok()?;
            let status = reply.status().as_u16();
            let body: Value = serde_json::from_str(&reply.text().ok()?).ok()?;
            if status != 503 {
                return Some((status, body));
            }
        }
        None
    };
    let (_, entered) = post(&format!("/v1/shows/{show}/queue"), "q", json!({}))?;
    for turn in 0..SEATS {
        let seat = (buyer + turn * 5) % SEATS + 1;
        let body = json!({"ticket": entered["ticket"], "seats": [format!("A-{seat}")]});
        let (status, told) = post(&format!("/v1/shows/{show}/reservations"), &format!("r-{seat}"), body)?;
        match (status, told["code"].as_str()) {
            (409, Some("seat_taken")) => {}
            // After the kill: it bought one in its life before, and was told to the first burst.
            (409, Some("ticket_expired" | "not_admitted")) => return None,
            (201, _) => {
                let id = told["id"].as_str()?.to_owned();
                match post(&format!("/v1/reservations/{id}/payment"), "p", card("tok_1"))? {
                    (202, _) => return Some((seat, id)),
                    // Taken in the kill, and its time was over before the buyer came back.
                    (409, _) => {}
                    other => panic!("{other:?}"),
                }
            }
            other => panic!("{other:?}: {told}"),
        }
    }
    None
}

/// Every buyer once, from several clients at one time. `bought` is told how many have a seat.
fn burst(stack: &Stack, show: &str, tokens: &[String], bought: &(dyn Fn(usize) + Sync)) -> BTreeMap<usize, Got> {
    let todo: Mutex<Vec<usize>> = Mutex::new((0..BUYERS).rev().collect());
    let (done, count) = (Mutex::new(BTreeMap::new()), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        for _ in 0..CLIENTS {
            scope.spawn(|| {
                let timeout = std::time::Duration::from_secs(20);
                let client = reqwest::blocking::Client::builder().timeout(timeout).build().unwrap();
                loop {
                    let Some(buyer) = todo.lock().unwrap().pop() else { return };
                    let got = buy(&client, &stack.api, show, &tokens[buyer], buyer);
                    if got.is_some() {
                        bought(count.fetch_add(1, Ordering::SeqCst) + 1);
                    }
                    done.lock().unwrap().insert(buyer, got);
                }
            });
        }
    });
    done.into_inner().unwrap()
}

#[test]
fn more_buyers_than_seats_and_a_kill_in_the_middle() {
    let mut stack = Stack::start();
    let tokens: Vec<String> = (0..BUYERS).map(|buyer| stack.token("user", &format!("buyer-{buyer}"))).collect();
    let show = make_show(&stack, SEATS, BUYERS);
    let pid = stack.node_pid().to_string();
    let kill = |bought: usize| {
        if bought == SEATS / 3 {
            assert!(std::process::Command::new("kill").args(["-9", &pid]).status().unwrap().success());
        }
    };
    let first = burst(&stack, &show, &tokens, &kill);
    assert!(first.values().filter(|got| got.is_some()).count() >= SEATS / 3 - 1, "killed in the middle");
    stack.kill_node();
    stack.start_node();
    burst(&stack, &show, &tokens, &|_| {});
    stack.advance(0);
    // What was taken in the kill and never paid is free again after its five minutes, and bought by whoever comes.
    stack.advance(6 * 60);
    burst(&stack, &show, &tokens, &|_| {});
    stack.advance(0);
    stack.advance(10);

    let (mut owners, mut paid) = (BTreeMap::new(), 0);
    for (buyer, token) in tokens.iter().enumerate() {
        let mine = stack.call("GET", "/v1/reservations?limit=100", Some(token), None, None).body;
        for item in mine["items"].as_array().unwrap() {
            let id = item["id"].as_str().unwrap();
            let kept = won(&stack, "payment", id) - won(&stack, "refund", id);
            match item["status"].as_str().unwrap() {
                "confirmed" => {
                    let seat = item["seats"][0].as_str().unwrap().to_owned();
                    assert_eq!(owners.insert(seat.clone(), buyer), None, "{seat} is two buyers'");
                    assert_eq!(kept, PRICE, "{item}");
                    paid += 1;
                }
                "expired" => assert_eq!(kept, 0, "{item}"),
                other => panic!("{other} in the end: {item}\n{}", stack.node_log()),
            }
        }
    }
    for (buyer, got) in &first {
        let Some((seat, id)) = got else { continue };
        let kept = reservation(&stack, &tokens[*buyer], id);
        assert_eq!(kept["status"], "confirmed", "A-{seat}, acknowledged before the kill: {kept}");
    }
    assert_eq!((seats(&stack, &show, "sold"), seats(&stack, &show, "temporary_assigned")), (paid, 0));
    assert_eq!(paid, SEATS, "every seat is sold");
    let ranking = stack.call("GET", "/v1/shows/ranking", Some(&stack.user), None, None).body;
    assert_eq!(ranking["items"][0]["show_id"], show.as_str(), "{ranking}");
}

#[test]
fn a_payment_provider_that_is_away_for_two_minutes_loses_nothing_and_for_six_the_seat() {
    let stack = Stack::start();
    let show = make_show(&stack, 3, 10);
    stack.fault("toss", "down", 0);
    let waits = taken(&stack, &show, &stack.user, 1);
    pay(&stack, &stack.user, &waits, card("tok_1"));
    stack.advance(120);
    assert_eq!(reservation(&stack, &stack.user, &waits)["status"], "payment_pending");
    stack.clear_faults();
    stack.advance(150);
    let done = reservation(&stack, &stack.user, &waits);
    assert_eq!(done["status"], "confirmed", "{done}\n{}", stack.node_log());

    let other = stack.token("user", "u-2");
    stack.fault("toss", "accept_then_drop", 0);
    let late = taken(&stack, &show, &other, 2);
    pay(&stack, &other, &late, card("tok_2"));
    stack.advance(0);
    // Captured, and nobody can ask whether it was.
    stack.clear_faults();
    stack.fault("toss", "down", 0);
    stack.advance(6 * 60);
    let expired = reservation(&stack, &other, &late);
    assert_eq!((&expired["status"], seats(&stack, &show, "available")), (&json!("expired"), 2), "{expired}");
    stack.clear_faults();
    stack.advance(3_600);
    let late = late.as_str();
    assert_eq!(
        (won(&stack, "payment", late), won(&stack, "refund", late)),
        (PRICE, PRICE),
        "a late capture is refunded"
    );
    assert_eq!(reservation(&stack, &other, late)["refunded"]["value"], PRICE);
}

#[test]
fn cards_are_refused_wallets_pay_and_cancels_give_back() {
    let stack = Stack::start();
    let show = make_show(&stack, 5, 10);
    let user = &stack.user;
    let refused = taken(&stack, &show, user, 1);
    pay(&stack, user, &refused, card("tok_reject"));
    stack.advance(0);
    assert_eq!(reservation(&stack, user, &refused)["code"], "REJECT_CARD_COMPANY");
    let balance = json!({"payment": {"method": "balance"}});
    let poor = taken(&stack, &show, user, 1);
    pay(&stack, user, &poor, balance.clone());
    stack.advance(0);
    let failed = reservation(&stack, user, &poor);
    assert_eq!((&failed["status"], &failed["code"]), (&json!("payment_failed"), &json!("insufficient_balance")));
    let charge = json!({"amount": {"value": 2 * PRICE, "currency": "KRW"}, "payment": {"payment_key": "tok_1"}});
    stack.call("POST", "/v1/wallet/charges", Some(user), Some("c"), Some(charge));
    stack.advance(0);
    let rich = taken(&stack, &show, user, 1);
    pay(&stack, user, &rich, balance);
    stack.advance(0);
    assert_eq!(reservation(&stack, user, &rich)["status"], "confirmed");
    let figures = || stack.call("GET", "/v1/wallet", Some(user), None, None).body;
    assert_eq!(figures()["balance"]["value"], PRICE);
    let cancelled = stack.call("POST", &format!("/v1/reservations/{rich}/cancel"), Some(user), Some("x"), None);
    assert_eq!((cancelled.status, &cancelled.body["status"]), (200, &json!("cancelled")), "{}", cancelled.text);
    stack.advance(0);
    assert_eq!((figures()["balance"]["value"].as_i64(), seats(&stack, &show, "available")), (Some(2 * PRICE), 5));
    let other = stack.token("user", "u-2");
    let by_card = taken(&stack, &show, &other, 2);
    pay(&stack, &other, &by_card, card("tok_3"));
    stack.advance(0);
    stack.call("POST", &format!("/v1/reservations/{by_card}/cancel"), Some(&other), Some("x"), None);
    stack.advance(0);
    let id = by_card.as_str();
    assert_eq!((won(&stack, "payment", id), won(&stack, "refund", id)), (PRICE, PRICE));
}

//! The routes beside gifts: campaigns in parts, notices of orders, the list of all things, wallets. Whatever is refused says
//! why, and leaves everything as it was.

use crate::support::{Reply, Stack};
use crate::{bare, refused, world};
use serde_json::{Value, json};

fn campaign(stack: &Stack, quantity: u32) -> Value {
    json!({
        "name": "x", "quantity": quantity, "starts_at": stack.now(), "ends_at": stack.in_minutes(60),
        "discount": {"percent": 10}, "valid_days": 30,
    })
}

fn post(stack: &Stack, path: &str, token: &str, body: String) -> Reply {
    let client = reqwest::blocking::Client::new();
    let request = client.post(format!("{}{path}", stack.api)).bearer_auth(token);
    let request = request.header("Idempotency-Key", stack.fresh_key()).header("Content-Type", "application/json");
    let reply = request.body(body).send().unwrap();
    let status = reply.status().as_u16();
    let text = reply.text().unwrap();
    Reply { status, body: serde_json::from_str(&text).unwrap_or(Value::Null), text, etag: None, replayed: false }
}

/// Refused for exactly this member.
fn faulty(reply: &Reply, pointer: &str) {
    assert_eq!(refused(reply, 422), "validation_failed");
    let errors = reply.body["errors"].as_array().expect("faults by name");
    let pointers: Vec<&Value> = errors.iter().map(|error| &error["pointer"]).collect();
    assert_eq!(pointers, [pointer], "{}", reply.text);
}

fn get(stack: &Stack, path: &str, token: &str) -> Reply {
    stack.call("GET", path, Some(token), None, None)
}

fn charge_of(value: &str) -> String {
    format!("{{\"amount\":{{\"value\":{value},\"currency\":\"KRW\"}},\"payment\":{{\"payment_key\":\"tok_1\"}}}}")
}

#[test]
fn parts_that_make_no_sense_make_no_campaign() {
    let stack = Stack::start();
    let path = "/v1/coupon-campaigns";
    let before = world(&stack);
    let with = |quantity: u32, parts: &str| {
        let body = campaign(&stack, quantity).to_string();
        format!("{},\"parts\":{parts}}}", body.strip_suffix('}').unwrap())
    };
    let huge = ["65", "255", "256", "257", "65537", "4294967297", "9223372036854775807", "18446744073709551617"];
    let odd = ["0", "-1", "-255", "-9223372036854775808", "1.5", "2.0", "1e1", "\"2\"", "true", "[2]", "{\"a\":2}"];
    for parts in huge.into_iter().chain(odd) {
        faulty(&post(&stack, path, &stack.operator, with(100, parts)), "/parts");
    }
    faulty(&post(&stack, path, &stack.operator, with(1, "2")), "/parts");
    faulty(&post(&stack, path, &stack.operator, with(63, "64")), "/parts");
    faulty(&post(&stack, path, &stack.operator, with(0, "1")), "/quantity");
    assert_eq!(refused(&post(&stack, path, &stack.operator, with(9, "1e999")), 400), "malformed_json");
    assert_eq!(refused(&post(&stack, path, &stack.operator, with(9, "02")), 400), "malformed_json");
    assert_eq!(refused(&post(&stack, path, &stack.user, with(9, "2")), 403), "wrong_role");
    assert_eq!(get(&stack, path, &stack.user).body["items"], json!([]));
    assert_eq!(world(&stack), before);
    // As many as there are coupons; and no more under the same key.
    let sound = campaign(&stack, 2);
    let make = |parts: u32| {
        let mut body = sound.clone();
        body["parts"] = json!(parts);
        stack.call("POST", path, Some(&stack.operator), Some("whole"), Some(body))
    };
    let made = make(2);
    assert_eq!((made.status, &made.body["parts"]), (201, &json!(2)), "{}", made.text);
    assert_eq!(refused(&make(1), 422), "idempotency_key_reused");
    assert_eq!((make(2).replayed, make(2).text), (true, made.text.clone()));
    assert_eq!(get(&stack, path, &stack.user).body["items"].as_array().map(Vec::len), Some(1));
}

#[test]
fn an_orders_notices_are_its_buyers_alone_and_a_cursor_is_good_for_its_own_list() {
    let stack = Stack::start();
    let stock = json!({"quantity": 20, "price": {"value": 4_500, "currency": "KRW"}});
    let put = stack.call("PUT", "/v1/inventory/mug", Some(&stack.operator), None, Some(stock));
    assert!((200..300).contains(&put.status), "{}", put.text);
    let order = json!({"items": [{"sku": "mug", "quantity": 1}],
        "payment": {"method": "card", "payment_key": "tok_1"},
        "shipping": {"name": "지민", "phone": "010-1234-5678", "address": "서울시 중구 1"}});
    let place = || {
        let reply = stack.call("POST", "/v1/orders", Some(&stack.user), Some(&stack.fresh_key()), Some(order.clone()));
        assert_eq!(reply.status, 202, "{}", reply.text);
        reply.body["id"].as_str().unwrap().to_owned()
    };
    let (id, other) = (place(), place());
    let before = world(&stack);
    let stranger = stack.token("user", "u-2");
    let never = format!("o_{}", "7".repeat(32));
    for part in ["", "/notices", "/events", "/stream"] {
        let ask = |id: &str| get(&stack, &format!("/v1/orders/{id}{part}"), &stranger);
        assert_eq!(refused(&ask(&id), 404), "not_found", "{part}");
        assert_eq!(bare(&ask(&id)), bare(&ask(&never)), "whether it exists is not told");
    }
    for odd in ["o_", "o_0", "g_00000000000000000000000000000000", "o_%00", "o_..%2f..", &id.to_uppercase()] {
        assert_eq!(refused(&get(&stack, &format!("/v1/orders/{odd}/notices"), &stack.user), 404), "not_found", "{odd}");
    }
    let notices = format!("/v1/orders/{id}/notices");
    assert_eq!(refused(&get(&stack, &notices, &stack.operator), 403), "wrong_role");
    let first = get(&stack, &format!("{notices}?limit=1"), &stack.user).body;
    let cursor = first["next_cursor"].as_str().unwrap_or_else(|| panic!("there is a second one: {first}"));
    let rest = get(&stack, &format!("{notices}?cursor={cursor}"), &stack.user).body;
    assert_eq!((rest["items"].as_array().map(Vec::len), &rest["next_cursor"]), (Some(1), &Value::Null), "{rest}");
    for path in [format!("/v1/orders/{other}/notices"), format!("/v1/orders/{id}/events"), "/v1/orders".to_owned()] {
        faulty(&get(&stack, &format!("{path}?cursor={cursor}"), &stack.user), "/cursor");
    }
    for limit in ["0", "101", "-1", "1e1", "18446744073709551617", ""] {
        faulty(&get(&stack, &format!("{notices}?limit={limit}"), &stack.user), "/limit");
    }
    faulty(&get(&stack, &format!("{notices}?number=0"), &stack.user), "/number");
    // Nothing was given up: there is no letter to act on, whatever number is named.
    for number in ["n0", "n1", "n65535", "n65536", "n-1", "n00", "n"] {
        let path = format!("/v1/ops/dead-letters/{id}.{number}/replay");
        let reply = stack.call("POST", &path, Some(&stack.operator), Some(&stack.fresh_key()), Some(json!({})));
        assert!([404, 409].contains(&reply.status), "{number}: {}", reply.text);
        refused(&reply, reply.status);
    }
    assert_eq!(world(&stack), before);
}

#[test]
fn a_page_of_all_things_cannot_be_asked_for_with_anothers_cursor_or_with_none_at_all() {
    let stack = Stack::start();
    stack.put_product("americano", 4_500, 30);
    let stranger = stack.token("user", "u-2");
    for _ in 0..3 {
        stack.reserved(stack.gift_body("americano", &stack.in_minutes(300)));
    }
    let theirs = stack.gift_body("americano", &stack.in_minutes(300));
    for key in ["a", "b"] {
        let reply = stack.call("POST", "/v1/gifts", Some(&stranger), Some(key), Some(theirs.clone()));
        assert_eq!(reply.status, 201, "{}", reply.text);
    }
    let cursor = |path: &str, token: &str| {
        let page = get(&stack, &format!("{path}?limit=1"), token).body;
        page["next_cursor"].as_str().unwrap_or_else(|| panic!("there is a second page: {page}")).to_owned()
    };
    let (own, other) = (cursor("/v1/me/items", &stack.user), cursor("/v1/me/items", &stranger));
    let edited = own.replacen(|first: char| first != 'A', "A", 1);
    let (cut, longer) = (own[..own.len() - 1].to_owned(), format!("{own}AAAA"));
    let gifts = cursor("/v1/gifts", &stack.user);
    let long = "A".repeat(4_000);
    let bad = [&other, &edited, &cut, &longer, &gifts, &long].map(String::as_str);
    let odd = ["", "AAAA", "!!", "%00", "%ff", "..%2f..", "null", "AAAAAAAAAAA%3D", "%F0%9F%8E%81"];
    for cursor in bad.into_iter().chain(odd) {
        faulty(&get(&stack, &format!("/v1/me/items?cursor={cursor}"), &stack.user), "/cursor");
    }
    faulty(&get(&stack, &format!("/v1/me/items?cursor={own}&cursor={own}"), &stack.user), "/cursor");
    faulty(&get(&stack, "/v1/me/items?kind=wallet", &stack.user), "/kind");
    faulty(&get(&stack, "/v1/me/items?owner=u-2", &stack.user), "/owner");
    assert_eq!(refused(&get(&stack, &format!("/v1/me/items?cursor={own}"), &stack.merchant), 403), "wrong_role");
    let rest = get(&stack, &format!("/v1/me/items?cursor={own}"), &stack.user).body;
    assert_eq!(rest["items"].as_array().map(Vec::len), Some(2), "the cursor itself is as good as before: {rest}");
}

#[test]
fn a_charge_that_is_none_leaves_the_wallet_and_the_card_alone() {
    let stack = Stack::start();
    let before = (world(&stack), get(&stack, "/v1/wallet", &stack.user).body);
    let charge = |body: String| post(&stack, "/v1/wallet/charges", &stack.user, body);
    let amounts = ["0", "-1", "100000001", "9223372036854775807", "9223372036854775808", "18446744073709551617"];
    for value in amounts.into_iter().chain(["-9223372036854775808", "1.5", "1e3", "\"1\"", "true", "[1]"]) {
        faulty(&charge(charge_of(value)), "/amount/value");
    }
    let sound = charge_of("1000");
    let bodies = [
        (sound.replace("KRW", "USD"), "/amount/currency"),
        (sound.replace("\"tok_1\"", "\"..\""), "/payment/payment_key"),
        (sound.replace("\"tok_1\"", "\"\""), "/payment/payment_key"),
        (sound.replace("\"tok_1\"", "7"), "/payment/payment_key"),
        (sound.replace("tok_1", &"k".repeat(201)), "/payment/payment_key"),
        (sound.replacen("{\"payment_key\"", "{\"method\":\"balance\",\"payment_key\"", 1), "/payment/method"),
        (sound.replacen('{', "{\"owner\":\"u-2\",", 1), "/owner"),
        (sound.replacen('{', "{\"balance\":5,", 1), "/balance"),
    ];
    for (body, pointer) in bodies {
        faulty(&charge(body), pointer);
    }
    assert_eq!(refused(&charge(charge_of("1e999")), 400), "malformed_json");
    assert_eq!(refused(&post(&stack, "/v1/wallet/charges", &stack.operator, sound.clone()), 403), "wrong_role");
    let keyless = stack.call("POST", "/v1/wallet/charges", Some(&stack.user), None, serde_json::from_str(&sound).ok());
    assert_eq!(refused(&keyless, 400), "idempotency_key_required");
    assert_eq!((world(&stack), get(&stack, "/v1/wallet", &stack.user).body), before);
}

#[test]
fn a_wallet_is_erased_by_operators_alone_and_not_while_it_is_being_charged() {
    let stack = Stack::start();
    let erase = |id: &str, token: &str, body: Value| {
        let path = format!("/v1/ops/wallets/{id}/erase");
        stack.call("POST", &path, Some(token), Some(&stack.fresh_key()), Some(body))
    };
    let mine = get(&stack, "/v1/wallet", &stack.user).body["id"].as_str().unwrap().to_owned();
    let before = world(&stack);
    let odd = ["w_", "w_0", "w_%00", "g_00000000000000000000000000000000", &mine.to_uppercase(), &format!("{mine}-1")];
    for id in odd.into_iter().chain([mine.as_str(), "w_77777777777777777777777777777777"]) {
        assert_eq!(refused(&erase(id, &stack.operator, json!({})), 404), "not_found", "{id}: it was never charged");
        let standing = get(&stack, &format!("/v1/ops/wallets/{id}/erasure"), &stack.operator);
        assert_eq!(refused(&standing, 404), "not_found", "{id}");
    }
    assert_eq!(world(&stack), before);
    stack.fault("toss", "down", 600);
    let asked = post(&stack, "/v1/wallet/charges", &stack.user, charge_of("1000"));
    assert_eq!(asked.status, 202, "{}", asked.text);
    for token in [&stack.user, &stack.merchant] {
        assert_eq!(refused(&erase(&mine, token, json!({})), 403), "wrong_role");
    }
    faulty(&erase(&mine, &stack.operator, json!({"force": true})), "/force");
    assert_eq!(refused(&erase(&mine, &stack.operator, json!({})), 409), "wrong_state");
    stack.clear_faults();
    stack.advance(1_200);
    let wallet = get(&stack, "/v1/wallet", &stack.user).body;
    assert_eq!(wallet["balance"]["value"], 1_000, "the charge was made all the same: {wallet}");
    let erased = erase(&mine, &stack.operator, json!({}));
    assert_eq!((erased.status, &erased.body["erased"]), (200, &json!(true)), "{}", erased.text);
    let again = erase(&mine, &stack.operator, json!({}));
    assert_eq!((again.status, &again.body["version"]), (200, &erased.body["version"]), "once: {}", again.text);
}

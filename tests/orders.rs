//! The life of orders over HTTP against a real node and a real sandbox process: done completely, or undone completely,
//! by the sandbox's own ledger.

mod support;

use serde_json::{Value, json};
use support::{Reply, Stack};

const PRICE: i64 = 4_500;

fn stack() -> Stack {
    let stack = Stack::start();
    put_stock(&stack, "mug", 20);
    stack
}

fn put_stock(stack: &Stack, sku: &str, quantity: u32) {
    let body = json!({"quantity": quantity, "price": {"value": PRICE, "currency": "KRW"}});
    let reply = stack.call("PUT", &format!("/v1/inventory/{sku}"), Some(&stack.operator), None, Some(body));
    assert!((200..300).contains(&reply.status), "{}", reply.text);
}

fn body(items: &[(&str, u32)], method: &str, token: &str) -> Value {
    let items: Vec<Value> = items.iter().map(|(sku, quantity)| json!({"sku": sku, "quantity": quantity})).collect();
    json!({"items": items, "payment": {"method": method, "payment_key": token},
           "shipping": {"name": "지민", "phone": "010-1234-5678", "address": "서울시 중구 1"}})
}

fn try_place(stack: &Stack, key: &str, body: Value) -> Reply {
    stack.call("POST", "/v1/orders", Some(&stack.user), Some(key), Some(body))
}

fn place(stack: &Stack, items: &[(&str, u32)], method: &str, token: &str) -> String {
    let reply = try_place(stack, &stack.fresh_key(), body(items, method, token));
    assert_eq!(reply.status, 202, "{}", reply.text);
    reply.body["id"].as_str().unwrap().to_owned()
}

fn order(stack: &Stack, id: &str) -> Value {
    stack.call("GET", &format!("/v1/orders/{id}"), Some(&stack.user), None, None).body
}

/// Waits, without moving the dev clock, until the order has the status.
fn await_status(stack: &Stack, id: &str, status: &str) -> Value {
    stack.advance(0);
    let order = order(stack, id);
    assert_eq!(order["status"], status, "{order}\n{}", stack.node_log());
    order
}

fn stock(stack: &Stack, sku: &str) -> (i64, i64) {
    let view = stack.call("GET", &format!("/v1/inventory/{sku}"), Some(&stack.user), None, None).body;
    (view["quantity"].as_i64().unwrap(), view["reserved"].as_i64().unwrap())
}

fn wallet(stack: &Stack) -> Value {
    stack.call("GET", "/v1/wallet", Some(&stack.user), None, None).body
}

fn effective(stack: &Stack, kind: &str, id: &str) -> i64 {
    stack.ledger(kind, id).iter().map(|item| item["effective"].as_i64().unwrap()).sum()
}

fn amounts(stack: &Stack, kind: &str, id: &str) -> i64 {
    stack.ledger(kind, id).iter().map(|item| item["amount"]["value"].as_i64().unwrap()).sum()
}

/// By the sandbox's ledger: paid for and shipped, or neither.
fn assert_undone(stack: &Stack, id: &str) {
    assert_eq!(amounts(stack, "payment", id), amounts(stack, "refund", id), "{}", order(stack, id));
    assert_eq!(effective(stack, "shipment", id), 0, "{}", order(stack, id));
}

#[test]
fn an_order_is_paid_reserved_shipped_and_completed() {
    let stack = stack();
    put_stock(&stack, "spoon", 5);
    let key = stack.fresh_key();
    let reply = try_place(&stack, &key, body(&[("mug", 2), ("spoon", 1)], "card", "tok_1"));
    assert_eq!((reply.status, &reply.body["status"]), (202, &json!("payment")), "{}", reply.text);
    let id = reply.body["id"].as_str().unwrap().to_owned();
    let done = await_status(&stack, &id, "completed");
    assert_eq!(done["amount"]["value"], 3 * PRICE);
    assert!(done["shipment"]["tracking"].as_str().unwrap().starts_with("SB"), "{done}");
    assert_eq!((stock(&stack, "mug"), stock(&stack, "spoon")), ((18, 0), (4, 0)));
    assert_eq!((amounts(&stack, "payment", &id), effective(&stack, "shipment", &id)), (3 * PRICE, 1));
    let again = try_place(&stack, &key, body(&[("mug", 2), ("spoon", 1)], "card", "tok_1"));
    assert_eq!((again.status, again.replayed, again.text), (202, true, reply.text));
    let events = stack.call("GET", &format!("/v1/orders/{id}/events?limit=100"), Some(&stack.user), None, None).body;
    let types: Vec<&str> = events["items"].as_array().unwrap().iter().map(|e| e["type"].as_str().unwrap()).collect();
    for wanted in ["payment_completed", "inventory_reserved", "shipping_prepared", "inventory_confirmed", "completed"] {
        assert!(types.contains(&wanted), "{types:?}");
    }
    let notices = stack.call("GET", &format!("/v1/orders/{id}/notices"), Some(&stack.user), None, None).body;
    let told: Vec<(&Value, &Value)> =
        notices["items"].as_array().unwrap().iter().map(|item| (&item["template"], &item["status"])).collect();
    let (placed, completed, sent) = (json!("order_placed"), json!("order_completed"), json!("sent"));
    assert_eq!(told, [(&placed, &sent), (&completed, &sent)], "{notices}");
    let messages = stack.ledger("message", &id);
    assert_eq!((messages.len(), &messages[0]["purpose"]), (2, &json!("notice")), "{messages:?}");
    let cancel = format!("/v1/orders/{id}/cancel");
    let late = stack.call("POST", &cancel, Some(&stack.user), Some(&stack.fresh_key()), Some(json!({})));
    assert_eq!((late.status, &late.body["code"]), (409, &json!("wrong_state")), "{}", late.text);
}

#[test]
fn what_fails_is_undone_step_by_step() {
    let stack = stack();
    let refused = place(&stack, &[("mug", 1)], "card", "tok_reject");
    assert_eq!(await_status(&stack, &refused, "failed")["failure_code"], "REJECT_CARD_COMPANY");
    put_stock(&stack, "spoon", 1);
    let scarce = place(&stack, &[("mug", 2), ("spoon", 2)], "card", "tok_1");
    let failed = await_status(&stack, &scarce, "failed");
    assert_eq!((&failed["failure_code"], &failed["refunded"]["value"]), (&json!("out_of_stock"), &json!(4 * PRICE)));
    assert_eq!(amounts(&stack, "refund", &scarce), 4 * PRICE);
    put_stock(&stack, "unshippable-lamp", 3);
    let heavy = place(&stack, &[("mug", 1), ("unshippable-lamp", 1)], "card", "tok_2");
    let failed = await_status(&stack, &heavy, "failed");
    assert_eq!(failed["failure_code"], "GOODS_REFUSED", "{failed}");
    for id in [&refused, &scarce, &heavy] {
        assert_undone(&stack, id);
    }
    assert_eq!((stock(&stack, "mug"), stock(&stack, "spoon")), ((20, 0), (1, 0)));
    assert_eq!(stock(&stack, "unshippable-lamp"), (3, 0));
}

#[test]
fn a_wallet_is_charged_and_pays() {
    let stack = stack();
    let charge = |won: i64, token: &str| {
        let body =
            json!({"amount": {"value": won, "currency": "KRW"}, "payment": {"method": "card", "payment_key": token}});
        let reply = stack.call("POST", "/v1/wallet/charges", Some(&stack.user), Some(&stack.fresh_key()), Some(body));
        assert_eq!(reply.status, 202, "{}", reply.text);
    };
    charge(10_000, "tok_1");
    charge(5_000, "tok_reject");
    charge(2_000, "tok_1");
    stack.advance(0);
    assert_eq!(wallet(&stack)["balance"]["value"], 12_000, "{}", wallet(&stack));
    assert_eq!(wallet(&stack)["charges"][1]["failure_code"], "REJECT_CARD_COMPANY");
    let bought = place(&stack, &[("mug", 2)], "balance", "");
    await_status(&stack, &bought, "completed");
    let figures = wallet(&stack);
    assert_eq!((&figures["balance"]["value"], &figures["spent"]["value"]), (&json!(3_000), &json!(9_000)));
    let poor = place(&stack, &[("mug", 1)], "balance", "");
    assert_eq!(await_status(&stack, &poor, "failed")["failure_code"], "insufficient_balance");
    put_stock(&stack, "unshippable-pin", 9);
    let body = json!({"quantity": 9, "price": {"value": 1_000, "currency": "KRW"}});
    stack.call("PUT", "/v1/inventory/unshippable-pin", Some(&stack.operator), None, Some(body));
    let given_back = place(&stack, &[("unshippable-pin", 2)], "balance", "");
    await_status(&stack, &given_back, "failed");
    let figures = wallet(&stack);
    assert_eq!((&figures["balance"]["value"], &figures["held"]["value"]), (&json!(3_000), &json!(0)), "{figures}");
    assert_eq!(amounts(&stack, "payment", "w_"), 12_000, "{:?}", stack.ledger("payment", "w_"));
}

#[test]
fn an_order_waits_for_a_shipping_provider_that_is_down_and_can_be_cancelled_meanwhile() {
    let stack = stack();
    stack.fault("shipping", "down", 0);
    let waits = place(&stack, &[("mug", 1)], "card", "tok_1");
    let cancelled = place(&stack, &[("mug", 3)], "card", "tok_2");
    stack.advance(120);
    for id in [&waits, &cancelled] {
        assert_eq!(order(&stack, id)["status"], "shipping", "{}", order(&stack, id));
    }
    assert_eq!(stock(&stack, "mug"), (20, 4));
    let path = format!("/v1/orders/{cancelled}/cancel");
    let reply = stack.call("POST", &path, Some(&stack.user), Some(&stack.fresh_key()), Some(json!({})));
    assert_eq!(reply.status, 200, "{}", reply.text);
    await_status(&stack, &cancelled, "cancelled");
    assert_undone(&stack, &cancelled);
    stack.clear_faults();
    stack.advance(6 * 3_600);
    await_status(&stack, &waits, "completed");
    assert_eq!((stock(&stack, "mug"), effective(&stack, "shipment", &waits)), ((19, 0), 1));
}

#[test]
fn lost_replies_of_the_shipping_provider_are_looked_up_and_nothing_ships_twice() {
    let stack = stack();
    stack.fault("shipping", "accept_then_drop", 0);
    let id = place(&stack, &[("mug", 1)], "card", "tok_1");
    stack.advance(60);
    stack.clear_faults();
    stack.advance(600);
    await_status(&stack, &id, "completed");
    assert_eq!(effective(&stack, "shipment", &id), 1, "{:?}", stack.ledger("shipment", &id));
}

#[test]
fn a_shipping_provider_that_is_down_for_too_long_gives_everything_back() {
    let stack = stack();
    stack.fault("shipping", "down", 0);
    let id = place(&stack, &[("mug", 2)], "card", "tok_1");
    stack.advance(25 * 3_600);
    let failed = await_status(&stack, &id, "failed");
    assert_eq!(failed["failure_code"], "shipping_timeout", "{failed}");
    assert_undone(&stack, &id);
    assert_eq!(stock(&stack, "mug"), (20, 0));
}

#[test]
fn killed_in_the_middle_every_order_settles_and_the_ledger_adds_up() {
    let mut stack = stack();
    put_stock(&stack, "scarce", 15);
    let key = |number: usize| format!("burst-{number}");
    let wanted = |number: usize| {
        let items: &[(&str, u32)] =
            if number.is_multiple_of(3) { &[("mug", 1), ("scarce", 1)] } else { &[("scarce", 1)] };
        body(items, "card", if number % 7 == 6 { "tok_reject" } else { "tok_1" })
    };
    let mut placed = Vec::new();
    for number in 0..40 {
        let reply = try_place(&stack, &key(number), wanted(number));
        assert_eq!(reply.status, 202, "{}", reply.text);
        placed.push(reply.body["id"].as_str().unwrap().to_owned());
        if number == 25 {
            stack.kill_node();
            stack.start_node();
        }
    }
    stack.kill_node();
    stack.start_node();
    for (number, id) in placed.iter().enumerate() {
        let again = try_place(&stack, &key(number), wanted(number));
        assert_eq!((again.status, again.replayed, &again.body["id"]), (202, true, &json!(id)));
    }
    stack.advance(0);
    stack.advance(30 * 60);
    stack.advance(3_600);
    let (mut completed, mut mugs, mut paid) = (0, 0, 0);
    for id in &placed {
        let order = order(&stack, id);
        let done = order["status"] == "completed";
        assert!(done || order["status"] == "failed", "{order}\n{}", stack.node_log());
        if !done {
            assert_undone(&stack, id);
            continue;
        }
        completed += 1;
        mugs += order["items"].as_array().unwrap().iter().filter(|item| item["sku"] == "mug").count();
        let amount = order["amount"]["value"].as_i64().unwrap();
        paid += amount;
        assert_eq!((amounts(&stack, "payment", id), amounts(&stack, "refund", id)), (amount, 0), "{order}");
        assert_eq!(effective(&stack, "shipment", id), 1, "{order}");
    }
    assert_eq!(stock(&stack, "scarce"), (0, 0), "15 of 35 that can pay; what others held for a while is sold");
    assert_eq!(completed, 15);
    assert_eq!(stock(&stack, "mug"), (20 - i64::try_from(mugs).unwrap(), 0));
    let payments = stack.summary()["payments"].clone();
    let won = |name: &str| payments[name]["value"].as_i64().or(payments[name].as_i64()).unwrap();
    assert_eq!(won("paid") - won("refunded"), paid, "{payments}");
}

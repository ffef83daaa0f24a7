//! Gifts and orders that are paid with coupons and from the wallet, over HTTP against a real node and a real sandbox
//! process: what was paid is the price less the discount, to the won, and what is undone gives both back.

mod support;

use serde_json::{Value, json};
use support::{Reply, Stack};

const PRICE: i64 = 4_500;
/// 10 % of a price, rounded down.
const OFF: i64 = 450;

fn put_stock(stack: &Stack, sku: &str, quantity: u32) {
    let body = json!({"quantity": quantity, "price": {"value": PRICE, "currency": "KRW"}});
    let reply = stack.call("PUT", &format!("/v1/inventory/{sku}"), Some(&stack.operator), None, Some(body));
    assert!((200..300).contains(&reply.status), "{}", reply.text);
}

fn stack() -> Stack {
    let stack = Stack::start();
    stack.put_product("americano", PRICE, 30);
    put_stock(&stack, "mug", 20);
    stack
}

/// A fresh coupon of 10 % for the user.
fn coupon(stack: &Stack) -> String {
    let body = json!({
        "name": "10 %", "quantity": 5, "starts_at": stack.now(), "ends_at": stack.in_minutes(60),
        "discount": {"percent": 10}, "valid_days": 60,
    });
    let made = stack.call("POST", "/v1/coupon-campaigns", Some(&stack.operator), Some(&stack.fresh_key()), Some(body));
    assert_eq!(made.status, 201, "{}", made.text);
    let path = format!("/v1/coupon-campaigns/{}/claims", made.body["id"].as_str().unwrap());
    let claimed = stack.call("POST", &path, Some(&stack.user), Some(&stack.fresh_key()), None);
    assert_eq!(claimed.status, 201, "{}", claimed.text);
    claimed.body["id"].as_str().unwrap().to_owned()
}

fn charge(stack: &Stack, won: i64) {
    let body =
        json!({"amount": {"value": won, "currency": "KRW"}, "payment": {"method": "card", "payment_key": "tok_1"}});
    let reply = stack.call("POST", "/v1/wallet/charges", Some(&stack.user), Some(&stack.fresh_key()), Some(body));
    assert_eq!(reply.status, 202, "{}", reply.text);
    stack.advance(0);
}

/// Balance, held and spent.
fn wallet(stack: &Stack) -> (i64, i64, i64) {
    let view = stack.call("GET", "/v1/wallet", Some(&stack.user), None, None).body;
    let won = |name: &str| view[name]["value"].as_i64().unwrap();
    (won("balance"), won("held"), won("spent"))
}

fn reserve(stack: &Stack, key: &str, minutes: i64, method: &str, coupon: Option<&str>) -> Reply {
    let mut body = stack.gift_body("americano", &stack.in_minutes(minutes));
    body["payment"] = json!({"method": method, "payment_key": "tok_1"});
    body["coupon_id"] = json!(coupon);
    let reply = stack.call("POST", "/v1/gifts", Some(&stack.user), Some(key), Some(body));
    assert_eq!(reply.status, 201, "{}", reply.text);
    reply
}

fn order_body(quantity: u32, method: &str, coupon: Option<&str>) -> Value {
    json!({"items": [{"sku": "mug", "quantity": quantity}], "payment": {"method": method, "payment_key": "tok_1"},
           "shipping": {"name": "지민", "phone": "010-1234-5678", "address": "서울시 중구 1"}, "coupon_id": coupon})
}

fn place(stack: &Stack, key: &str, body: &Value) -> String {
    let reply = stack.call("POST", "/v1/orders", Some(&stack.user), Some(key), Some(body.clone()));
    assert_eq!(reply.status, 202, "{}", reply.text);
    reply.body["id"].as_str().unwrap().to_owned()
}

fn read(stack: &Stack, path: &str) -> Value {
    stack.call("GET", path, Some(&stack.user), None, None).body
}

fn cancel(stack: &Stack, path: &str) {
    let path = format!("{path}/cancel");
    let reply = stack.call("POST", &path, Some(&stack.user), Some(&stack.fresh_key()), Some(json!({})));
    assert_eq!(reply.status, 200, "{}", reply.text);
    stack.advance(0);
}

fn amounts(stack: &Stack, kind: &str, id: &str) -> i64 {
    stack.ledger(kind, id).iter().map(|item| item["amount"]["value"].as_i64().unwrap()).sum()
}

#[test]
fn a_gift_by_card_and_coupon_is_paid_to_the_won_and_a_cancel_gives_both_back() {
    let stack = stack();
    let coupon = coupon(&stack);
    let id = reserve(&stack, &stack.fresh_key(), 60, "card", Some(&coupon)).body["id"].as_str().unwrap().to_owned();
    stack.advance(0);
    let path = format!("/v1/gifts/{id}");
    let gift = read(&stack, &path);
    assert_eq!((&gift["status"], &gift["coupon"]["status"]), (&json!("scheduled"), &json!("used")), "{gift}");
    assert_eq!(amounts(&stack, "payment", &id), PRICE - OFF);
    let used = read(&stack, &format!("/v1/coupons/{coupon}"));
    assert_eq!((&used["status"], &used["used_by"]), (&json!("used"), &json!(id)));
    cancel(&stack, &path);
    let gift = read(&stack, &path);
    assert_eq!((&gift["status"], &gift["coupon"]["status"]), (&json!("refunded"), &json!("returned")), "{gift}");
    assert_eq!(amounts(&stack, "refund", &id), PRICE - OFF);
    assert_eq!(read(&stack, &format!("/v1/coupons/{coupon}"))["status"], "restored");
}

#[test]
fn a_gift_from_the_wallet_is_held_until_it_is_used_and_expired_money_comes_back() {
    let stack = stack();
    charge(&stack, 10_000);
    let coupon = coupon(&stack);
    let both =
        reserve(&stack, &stack.fresh_key(), 60, "balance", Some(&coupon)).body["id"].as_str().unwrap().to_owned();
    let plain = reserve(&stack, &stack.fresh_key(), 60, "balance", None).body["id"].as_str().unwrap().to_owned();
    stack.advance(0);
    assert_eq!(wallet(&stack), (10_000 - 2 * PRICE + OFF, 2 * PRICE - OFF, 0));
    let poor = reserve(&stack, &stack.fresh_key(), 60, "balance", None).body["id"].as_str().unwrap().to_owned();
    stack.advance(0);
    let failed = read(&stack, &format!("/v1/gifts/{poor}"));
    assert_eq!(
        (&failed["status"], &failed["failure_code"]),
        (&json!("payment_failed"), &json!("insufficient_balance"))
    );
    // Nobody accepts: both expire after 30 days and go back in full.
    stack.advance(61 * 60);
    stack.advance(32 * 86_400);
    for id in [&both, &plain] {
        assert_eq!(read(&stack, &format!("/v1/gifts/{id}"))["status"], "refunded");
        assert!(stack.ledger("payment", id).is_empty(), "no payment provider was asked");
    }
    assert_eq!(wallet(&stack), (10_000, 0, 0));
    assert_eq!(read(&stack, &format!("/v1/coupons/{coupon}"))["status"], "restored");
}

#[test]
fn killed_in_the_middle_every_gift_and_order_is_paid_whole_or_not_at_all() {
    let mut stack = stack();
    charge(&stack, 20_000);
    let coupons: Vec<String> = (0..6).map(|_| coupon(&stack)).collect();
    let (mut gifts, mut orders) = (Vec::new(), Vec::new());
    for (number, coupon) in coupons.iter().enumerate() {
        let method = if number % 2 == 0 { "card" } else { "balance" };
        // Each coupon is wanted by a gift and by an order: one of them gets it.
        let key = format!("g-{number}");
        gifts.push(reserve(&stack, &key, 600, method, Some(coupon)).body["id"].as_str().unwrap().to_owned());
        orders.push(try_order(&stack, &format!("o-{number}"), &order_body(1, method, Some(coupon))));
        if number == 2 {
            stack.kill_node();
            stack.start_node();
        }
    }
    stack.kill_node();
    stack.start_node();
    stack.advance(0);
    stack.advance(20 * 60);
    let (mut kept, mut refunded_or_none) = (0, 0);
    for (number, coupon) in coupons.iter().enumerate() {
        let gift = read(&stack, &format!("/v1/gifts/{}", gifts[number]));
        let order = orders[number].as_ref().map(|id| read(&stack, &format!("/v1/orders/{id}")));
        let bought =
            [gift["status"] == "scheduled", order.as_ref().is_some_and(|order| order["status"] == "completed")];
        assert_eq!(bought.iter().filter(|bought| **bought).count(), 1, "{gift}\n{order:?}\n{}", stack.node_log());
        let told = read(&stack, &format!("/v1/coupons/{coupon}"));
        let buyer = if bought[0] { &gifts[number] } else { orders[number].as_ref().unwrap() };
        assert_eq!((&told["status"], &told["used_by"]), (&json!("used"), &json!(buyer)), "{told}");
        for id in [Some(&gifts[number]), orders[number].as_ref()].into_iter().flatten() {
            let net = amounts(&stack, "payment", id) - amounts(&stack, "refund", id);
            let expected = if id == buyer && number % 2 == 0 { PRICE - OFF } else { 0 };
            assert_eq!(net, expected, "{id}");
            kept += i64::from(id == buyer && number % 2 == 1) * (PRICE - OFF);
            refunded_or_none += i64::from(id != buyer);
        }
    }
    let (balance, held, spent) = wallet(&stack);
    assert_eq!((balance + held + spent, held + spent), (20_000, kept), "three of the six were paid from it");
    assert!(refunded_or_none > 0 || orders.iter().all(Option::is_none));
    let mine = read(&stack, "/v1/me/items?limit=100");
    let listed: Vec<&str> = mine["items"].as_array().unwrap().iter().map(|item| item["id"].as_str().unwrap()).collect();
    let made = gifts.iter().chain(&coupons).chain(orders.iter().flatten());
    assert!(made.clone().all(|id| listed.contains(&id.as_str())), "{mine}");
    assert_eq!(listed.len(), made.count());
}

/// `None`: refused at once, the coupon was used by then.
fn try_order(stack: &Stack, key: &str, body: &Value) -> Option<String> {
    let reply = stack.call("POST", "/v1/orders", Some(&stack.user), Some(key), Some(body.clone()));
    match reply.status {
        202 => Some(reply.body["id"].as_str().unwrap().to_owned()),
        422 => {
            assert_eq!(reply.body["errors"][0]["code"], "coupon_used", "{}", reply.text);
            None
        }
        other => panic!("{other}: {}", reply.text),
    }
}

#[test]
fn an_order_that_cannot_be_shipped_gives_back_what_was_paid_and_the_coupon_pays_the_next() {
    let stack = stack();
    put_stock(&stack, "unshippable-lamp", 3);
    let coupon = coupon(&stack);
    let mut body = order_body(1, "card", Some(&coupon));
    body["items"][0]["sku"] = json!("unshippable-lamp");
    let id = place(&stack, &stack.fresh_key(), &body);
    stack.advance(0);
    let failed = read(&stack, &format!("/v1/orders/{id}"));
    assert_eq!((&failed["status"], &failed["coupon"]["status"]), (&json!("failed"), &json!("returned")), "{failed}");
    assert_eq!((amounts(&stack, "payment", &id), amounts(&stack, "refund", &id)), (PRICE - OFF, PRICE - OFF));
    let id = place(&stack, &stack.fresh_key(), &order_body(2, "card", Some(&coupon)));
    stack.advance(0);
    assert_eq!(read(&stack, &format!("/v1/orders/{id}"))["status"], "completed");
    assert_eq!(amounts(&stack, "payment", &id), 2 * (PRICE - OFF));
}

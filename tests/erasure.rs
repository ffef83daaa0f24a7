//! The end of personal data: ordered by an operator, and by itself after the retention.

mod support;

use serde_json::{Value, json};
use std::process::Command;
use support::Stack;

const DAY: i64 = 86_400;

fn stack_with_a_refunded_gift() -> (Stack, String) {
    let stack = Stack::start();
    stack.put_product("americano", 4_500, 30);
    let id = stack.reserved(stack.gift_body("americano", &stack.in_minutes(30)));
    stack.await_status(&id, "scheduled");
    stack.cancel(&id);
    stack.await_status(&id, "refunded");
    stack.advance(60);
    (stack, id)
}

fn erasure(stack: &Stack, id: &str) -> Value {
    stack.call("GET", &format!("/v1/ops/gifts/{id}/erasure"), Some(&stack.operator), None, None).body
}

fn erase(stack: &Stack, id: &str, key: &str) -> support::Reply {
    stack.call("POST", &format!("/v1/ops/gifts/{id}/erase"), Some(&stack.operator), Some(key), Some(json!({})))
}

#[test]
fn an_operator_erases_a_gift_that_is_done_and_a_rotation_completes_it() {
    let (mut stack, id) = stack_with_a_refunded_gift();
    let open = stack.reserved(stack.gift_body("americano", &stack.in_minutes(60)));
    stack.await_status(&open, "scheduled");
    let early = erase(&stack, &open, "k-0");
    assert_eq!((early.status, &early.body["code"]), (409, &json!("wrong_state")));
    assert_eq!(erasure(&stack, &id)["erased"], false);
    let done = erase(&stack, &id, "k-1");
    assert_eq!((done.status, &done.body["erased"]), (200, &json!(true)), "{}", done.body);
    assert_eq!(erase(&stack, &id, "k-1").body, done.body);
    assert_eq!(stack.gift(&id)["message"], Value::Null);
    let noted = erasure(&stack, &id);
    assert!(noted["erased_at"].is_string() && noted["complete_at"].is_null(), "{noted}");
    stack.stop_node();
    let node = stack.data_folder().join("node");
    for _ in 0..2 {
        let bojagi = Command::new(env!("CARGO_BIN_EXE_bojagi"))
            .args(["vault", "rotate", "--data", node.to_str().unwrap()])
            .output()
            .unwrap();
        assert!(bojagi.status.success(), "{}", String::from_utf8_lossy(&bojagi.stderr));
        let said = String::from_utf8_lossy(&bojagi.stdout).into_owned();
        assert!(said.contains("no older period key is kept") || said.contains("run this again"), "{said}");
        stack.start_node();
        stack.stop_node();
    }
    stack.start_node();
    assert!(erasure(&stack, &id)["complete_at"].is_string(), "{}", erasure(&stack, &id));
    assert_eq!(stack.gift(&open)["message"], "생일 축하해!", "what lives stays readable");
    stack.advance(70 * 60);
    assert_eq!(stack.sends(&open), 1);
}

#[test]
fn a_wallets_payment_keys_are_erased_and_it_is_charged_again_under_a_new_key() {
    let mut stack = Stack::start();
    let charge = |stack: &Stack, key: &str, won: i64| {
        let money = json!({"value": won, "currency": "KRW"});
        let body = json!({"amount": money, "payment": {"method": "card", "payment_key": "tok_1"}});
        let reply = stack.call("POST", "/v1/wallet/charges", Some(&stack.user), Some(key), Some(body));
        assert_eq!(reply.status, 202, "{}", reply.text);
        stack.advance(0);
    };
    let wallet = |stack: &Stack| stack.call("GET", "/v1/wallet", Some(&stack.user), None, None).body;
    charge(&stack, "c-1", 5_000);
    let before = wallet(&stack);
    assert_eq!(before["balance"]["value"], 5_000, "{before}");
    let path = format!("/v1/ops/wallets/{}", before["id"].as_str().unwrap());
    let standing =
        |stack: &Stack| stack.call("GET", &format!("{path}/erasure"), Some(&stack.operator), None, None).body;
    let erase = format!("{path}/erase");
    let erased = stack.call("POST", &erase, Some(&stack.operator), Some("e"), Some(json!({})));
    assert_eq!((erased.status, &erased.body["erased"]), (200, &json!(true)), "{}", erased.text);
    assert!(standing(&stack)["erased_at"].is_string(), "{}", standing(&stack));
    stack.kill_node();
    stack.start_node();
    assert_eq!(standing(&stack)["erased"], true);
    charge(&stack, "c-2", 700);
    assert_eq!(wallet(&stack)["balance"]["value"], 5_700);
    assert_eq!(standing(&stack)["erased"], false, "there is a payment key again");
    // It goes by itself, long after its last use; the books stay.
    stack.advance(91 * DAY);
    assert_eq!(standing(&stack)["erased"], true);
    let books = stack.call("GET", "/v1/ops/reconciliation", Some(&stack.operator), None, None).body;
    assert_eq!((&books["wallets"]["wallets"], &books["balanced"]), (&json!(1), &json!(true)), "{books}");
}

#[test]
fn a_gift_that_was_done_ninety_days_ago_is_forgotten_and_its_books_stay() {
    let (mut stack, id) = stack_with_a_refunded_gift();
    stack.advance(89 * DAY);
    assert_eq!(stack.gift(&id)["message"], "생일 축하해!");
    stack.advance(2 * DAY);
    let gift = stack.gift(&id);
    assert_eq!((&gift["message"], &gift["status"]), (&Value::Null, &json!("refunded")));
    assert_eq!(gift["refunded"]["value"], 4_500);
    let events = stack.call("GET", &format!("/v1/gifts/{id}/events"), Some(&stack.user), None, None).body;
    let types: Vec<&Value> = events["items"].as_array().unwrap().iter().map(|event| &event["type"]).collect();
    assert_eq!(types, ["forgotten"], "{events}");
    assert!(erasure(&stack, &id)["erased_at"].is_string());
    stack.stop_node();
    let node = stack.data_folder().join("node");
    let verified =
        Command::new(env!("CARGO_BIN_EXE_bojagi")).args(["verify", "--data", node.to_str().unwrap()]).output().unwrap();
    assert!(verified.status.success(), "{}", String::from_utf8_lossy(&verified.stdout));
}

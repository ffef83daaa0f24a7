//! The life of a gift over HTTP, and its branches, against a real node and a real sandbox process.

mod support;

use serde_json::json;
use support::{Stack, millis};

const DAY: i64 = 86_400;

fn stack() -> Stack {
    let stack = Stack::start();
    stack.put_product("americano", 4_500, 30);
    stack
}

/// Reserved for `minutes` from now and paid.
fn scheduled(stack: &Stack, minutes: i64) -> String {
    let id = stack.reserved(stack.gift_body("americano", &stack.in_minutes(minutes)));
    stack.await_status(&id, "scheduled");
    id
}

/// Sent at its instant.
fn sent(stack: &Stack) -> String {
    let id = scheduled(stack, 30);
    stack.advance(32 * 60);
    assert_eq!(stack.sends(&id), 1, "{}", stack.gift(&id));
    id
}

fn assert_money_adds_up(stack: &Stack) {
    let books = stack.reconciliation();
    assert_eq!(books["balanced"], true, "{books}");
    assert_eq!(books["broken"], json!([]), "{books}");
}

#[test]
fn a_gift_is_reserved_paid_sent_at_its_instant_opened_accepted_and_redeemed() {
    let stack = stack();
    let at = stack.in_minutes(30);
    let reply = stack.reserve(stack.gift_body("americano", &at));
    assert_eq!(reply.status, 201, "{}", reply.text);
    assert_eq!(reply.body["status"], "payment_pending");
    assert_eq!(reply.body["recipient"]["name"], "지*");
    assert_eq!(reply.body["recipient"]["phone"], "010-****-5678");
    let id = reply.body["id"].as_str().unwrap().to_owned();
    stack.await_status(&id, "scheduled");
    stack.advance(28 * 60);
    assert_eq!(stack.gift(&id)["status"], "scheduled", "never early");
    assert_eq!(stack.sends(&id), 0, "never early");
    stack.advance(4 * 60);
    let gift = stack.gift(&id);
    assert_eq!(gift["status"], "sent", "{gift}");
    let lateness = millis(&gift["delivery"]["accepted_at"]) - millis(&gift["send_at"]["instant"]);
    assert!((0..=1_000).contains(&lateness), "sent {lateness} ms after its instant");
    assert_eq!(stack.sends(&id), 1);

    let token = stack.link(&id);
    let page = stack.call("GET", &format!("/g/{token}"), None, None, None);
    assert_eq!(page.status, 200);
    let opened = stack.call("GET", &format!("/v1/links/{token}"), None, None, None);
    assert_eq!(opened.status, 200, "{}", opened.text);
    assert!(opened.body["voucher"].is_null() || opened.body["voucher"]["code"].is_null(), "no code before acceptance");
    let accepted = stack.link_call(&token, "accept", None);
    assert_eq!(accepted.status, 200, "{}", accepted.text);
    let code = accepted.body["voucher"]["code"].as_str().expect("the code is shown once accepted").to_owned();
    assert_eq!(code.len(), 16);
    let redeemed = stack.redeem(&code, "tx-1");
    assert_eq!(redeemed.status, 200, "{}", redeemed.text);
    assert_eq!(stack.redeem(&code, "tx-1").status, 200, "the same transaction again replays it");
    let second = stack.redeem(&code, "tx-2");
    assert_eq!((second.status, &second.body["code"]), (409, &json!("already_used")));
    assert_eq!(stack.gift(&id)["status"], "used");
    assert_money_adds_up(&stack);
}

#[test]
fn an_unused_gift_expires_and_refunds_itself() {
    let stack = stack();
    let id = sent(&stack);
    stack.advance(32 * DAY);
    let gift = stack.gift(&id);
    assert_eq!(gift["status"], "refunded", "{gift}");
    assert_eq!(gift["refunded"]["value"], 4_500);
    let notices = stack.call("GET", &format!("/v1/gifts/{id}/notices"), Some(&stack.user), None, None);
    assert!(notices.text.contains("expires"), "reminders were sent: {}", notices.text);
    let refunds = stack.ledger("refund", &id);
    assert_eq!(refunds.len(), 1, "{refunds:?}");
    assert_eq!(refunds[0]["amount"]["value"], 4_500);
    assert_eq!(stack.sends(&id), 1);
    assert_money_adds_up(&stack);
}

#[test]
fn a_cancelled_gift_is_refunded_and_never_sent() {
    let stack = stack();
    let id = scheduled(&stack, 30);
    let reply = stack.cancel(&id);
    assert_eq!(reply.status, 200, "{}", reply.text);
    stack.await_status(&id, "refunded");
    stack.advance(3_600);
    assert_eq!(stack.sends(&id), 0);
    assert_money_adds_up(&stack);
}

#[test]
fn a_cancel_after_the_send_is_refused_and_changes_nothing() {
    let stack = stack();
    let id = sent(&stack);
    let before = stack.gift(&id);
    let reply = stack.cancel(&id);
    assert_eq!((reply.status, &reply.body["code"]), (409, &json!("already_dispatched")));
    assert_eq!(stack.gift(&id), before);
}

#[test]
fn a_change_is_possible_until_one_hour_before() {
    let stack = stack();
    let id = scheduled(&stack, 120);
    let path = format!("/v1/gifts/{id}");
    let patch = |etag: &str, message: &str| {
        let body = Some(json!({ "message": message }));
        stack.call_with("PATCH", &path, Some(&stack.user), Some(&stack.fresh_key()), body, &[("If-Match", etag)])
    };
    let etag = stack.call("GET", &path, Some(&stack.user), None, None).etag.unwrap();
    assert_eq!(stack.call("PATCH", &path, Some(&stack.user), None, Some(json!({"message": "x"}))).status, 428);
    let changed = patch(&etag, "더 좋은 축하");
    assert_eq!(changed.status, 200, "{}", changed.text);
    assert_eq!(patch(&etag, "stale").status, 412);
    stack.advance(70 * 60);
    let etag = stack.call("GET", &path, Some(&stack.user), None, None).etag.unwrap();
    let late = patch(&etag, "too late");
    assert_eq!((late.status, &late.body["code"]), (409, &json!("too_late_to_modify")), "{}", late.text);
    assert_eq!(stack.gift(&id)["message"], "더 좋은 축하");
}

#[test]
fn a_refused_payment_ends_the_gift() {
    let stack = stack();
    let mut body = stack.gift_body("americano", &stack.in_minutes(30));
    body["payment"]["payment_key"] = json!("tok_reject");
    let id = stack.reserved(body);
    stack.await_status(&id, "payment_failed");
    stack.advance(3_600);
    assert_eq!(stack.sends(&id), 0);
    assert_money_adds_up(&stack);
}

#[test]
fn a_payment_that_is_never_answered_expires_and_a_late_capture_is_given_back() {
    let stack = stack();
    stack.fault("toss", "accept_then_drop", 360);
    let id = stack.reserved(stack.gift_body("americano", &stack.in_minutes(60)));
    stack.advance(6 * 60);
    let status = stack.gift(&id)["status"].as_str().unwrap().to_owned();
    assert!(["payment_expired", "refunding", "refunded", "scheduled"].contains(&status.as_str()), "{status}");
    stack.clear_faults();
    stack.advance(3 * 3_600);
    let gift = stack.gift(&id);
    assert!(gift["status"] == "refunded" || gift["status"] == "sent", "{gift}");
    assert_money_adds_up(&stack);
}

#[test]
fn a_provider_that_is_down_and_comes_back_delays_the_send_within_its_channel() {
    let stack = stack();
    let mut body = stack.gift_body("americano", &stack.in_minutes(30));
    body["channels"] = json!(["kakao"]);
    let id = stack.reserved(body);
    stack.await_status(&id, "scheduled");
    stack.advance(25 * 60);
    stack.fault("nhn", "server_error", 6 * 60 + 5);
    stack.advance(6 * 60 + 1);
    stack.clear_faults();
    stack.advance(5 * 60);
    let gift = stack.gift(&id);
    assert_eq!(stack.sends(&id), 1, "{gift}");
    assert_eq!(gift["delivery"]["channel"], "kakao", "{gift}");
}

#[test]
fn with_all_channels_down_it_becomes_a_dead_letter_and_a_replay_sends_it() {
    let stack = stack();
    let id = scheduled(&stack, 30);
    stack.advance(25 * 60);
    stack.fault("*", "refuse", 3_600);
    stack.advance(30 * 60);
    assert_eq!(stack.gift(&id)["status"], "send_failed", "{}", stack.gift(&id));
    let letters = stack.call("GET", "/v1/ops/dead-letters", Some(&stack.operator), None, None);
    assert_eq!(letters.status, 200, "{}", letters.text);
    let letter = letters.body["items"].as_array().unwrap().iter().find(|item| item["gift_id"] == id.as_str());
    let letter = letter.unwrap_or_else(|| panic!("{}", letters.text))["id"].as_str().unwrap().to_owned();
    stack.clear_faults();
    stack.advance(120);
    let path = format!("/v1/ops/dead-letters/{letter}/replay");
    let replay = stack.call("POST", &path, Some(&stack.operator), Some("replay-1"), Some(json!({})));
    assert!((200..300).contains(&replay.status), "{}", replay.text);
    stack.advance(60);
    assert_eq!(stack.sends(&id), 1, "{}", stack.gift(&id));
    assert_eq!(stack.gift(&id)["status"], "sent");
}

#[test]
fn an_outage_of_every_channel_ends_in_a_dead_letter_and_not_in_silence() {
    let stack = stack();
    let id = scheduled(&stack, 30);
    stack.advance(25 * 60);
    stack.fault("*", "down", 3_600);
    stack.advance(40 * 60);
    assert_eq!(stack.gift(&id)["status"], "send_failed", "{}", stack.gift(&id));
    assert_eq!(stack.sends(&id), 0);
}

#[test]
fn a_declined_gift_is_refunded() {
    let stack = stack();
    let id = sent(&stack);
    let declined = stack.link_call(&stack.link(&id), "decline", None);
    assert_eq!(declined.status, 200, "{}", declined.text);
    stack.await_status(&id, "refunded");
    assert_money_adds_up(&stack);
}

#[test]
fn a_transfer_kills_the_old_link_and_code_and_works_once() {
    let stack = stack();
    let id = sent(&stack);
    let old = stack.link(&id);
    let to = json!({"recipient": {"name": "서연", "phone": "010-2222-3333"}});
    let moved = stack.link_call(&old, "transfer", Some(to.clone()));
    assert_eq!(moved.status, 200, "{}", moved.text);
    stack.advance(60);
    assert_eq!(stack.sends(&id), 2, "one effective send for each of two deliveries");
    assert_eq!(stack.summary()["gifts_delivered_twice"], 0);
    let dead = stack.call("GET", &format!("/v1/links/{old}"), None, None, None);
    assert_eq!((dead.status, &dead.body["code"]), (410, &json!("link_dead")), "{}", dead.text);
    let dead = stack.link_call(&old, "accept", None);
    assert_eq!((dead.status, &dead.body["code"]), (410, &json!("link_dead")), "{}", dead.text);
    let new = stack.link(&id);
    assert_ne!(new, old);
    assert_eq!(stack.link_call(&new, "transfer", Some(to)).status, 409);
    let accepted = stack.link_call(&new, "accept", None);
    assert_eq!(stack.redeem(accepted.body["voucher"]["code"].as_str().unwrap(), "tx-9").status, 200);
}

/// A build of before could not read a gift that remembers its dead link.
#[test]
fn below_its_feature_level_a_dead_link_leads_nowhere() {
    let stack = Stack::start_with(&["--feature-levels", "1-3"]);
    stack.put_product("americano", 4_500, 30);
    let id = sent(&stack);
    let old = stack.link(&id);
    let to = json!({"recipient": {"name": "서연", "phone": "010-2222-3333"}});
    assert_eq!(stack.link_call(&old, "transfer", Some(to)).status, 200);
    let dead = stack.call("GET", &format!("/v1/links/{old}"), None, None, None);
    assert_eq!((dead.status, &dead.body["code"]), (404, &json!("not_found")), "{}", dead.text);
}

#[test]
fn a_refund_that_is_refused_waits_for_an_operator_and_is_replayed() {
    let stack = stack();
    let id = scheduled(&stack, 30);
    stack.fault("toss", "refuse", 30 * DAY);
    assert_eq!(stack.cancel(&id).status, 200);
    stack.advance(2 * DAY);
    let gift = stack.gift(&id);
    assert!(gift["status"] == "refund_failed" || gift["status"] == "refunding", "{gift}");
    assert_eq!(gift["refunded"]["value"], 0);
    stack.clear_faults();
    if gift["status"] == "refund_failed" {
        let letters = stack.call("GET", "/v1/ops/dead-letters", Some(&stack.operator), None, None);
        let letter = letters.body["items"][0]["id"].as_str().unwrap().to_owned();
        let path = format!("/v1/ops/dead-letters/{letter}/replay");
        let replay = stack.call("POST", &path, Some(&stack.operator), Some("replay-1"), Some(json!({})));
        assert!((200..300).contains(&replay.status), "{}", replay.text);
    }
    stack.advance(2 * DAY);
    assert_eq!(stack.gift(&id)["status"], "refunded", "{}", stack.gift(&id));
    assert_eq!(stack.ledger("refund", &id)[0]["amount"]["value"], 4_500);
    assert_money_adds_up(&stack);
}

#[test]
fn the_same_key_replays_the_first_reply_and_another_body_is_refused() {
    let stack = stack();
    let body = stack.gift_body("americano", &stack.in_minutes(30));
    let first = stack.call("POST", "/v1/gifts", Some(&stack.user), Some("same"), Some(body.clone()));
    assert_eq!(first.status, 201, "{}", first.text);
    stack.advance(0);
    let again = stack.call("POST", "/v1/gifts", Some(&stack.user), Some("\"same\""), Some(body.clone()));
    assert!(again.replayed);
    assert_eq!((again.status, &again.text), (201, &first.text), "byte for byte");
    let mut other = body;
    other["message"] = json!("다른 메시지");
    assert_eq!(stack.call("POST", "/v1/gifts", Some(&stack.user), Some("same"), Some(other)).status, 422);
    let listed = stack.call("GET", "/v1/gifts", Some(&stack.user), None, None);
    assert_eq!(listed.body["items"].as_array().unwrap().len(), 1);
}

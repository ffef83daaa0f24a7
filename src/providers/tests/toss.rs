//! Toss Payments on the wire.

use super::payments;
use crate::providers::testing::{DEADLINE, Play, StillClock, TINY, WireServer, christmas};
use crate::providers::{PaymentProvider, WebhookError};
use crate::types::call::{PaymentOperation, PaymentOutcome, PaymentRequest, Prior, RefusalClass};
use crate::types::contact::Private;
use crate::types::money::Money;
use crate::types::time::{Millis, Timestamp};
use serde_json::{Value, json};
use std::sync::Arc;

const ORDER: &str = "g_00112233445566778899aabbccddeeff";

async fn toss(script: Vec<Play>) -> (WireServer, Arc<dyn PaymentProvider>, Arc<StillClock>) {
    let server = WireServer::start(script).await;
    let (provider, clock) = payments(&server.base);
    (server, provider, clock)
}

fn request(operation: PaymentOperation, prior: Prior) -> PaymentRequest {
    PaymentRequest { order_id: ORDER.to_owned(), operation, idempotency_key: format!("{ORDER}.1"), prior }
}

fn confirm(prior: Prior) -> PaymentRequest {
    let payment_key = Private("tok_1".to_owned());
    request(PaymentOperation::Confirm { payment_key, amount: Money::krw(30_000) }, prior)
}

fn cancel(prior: Prior) -> PaymentRequest {
    let payment_key = Private("tok/1".to_owned());
    let reason = "만료".to_owned();
    request(PaymentOperation::Cancel { payment_key, amount: Money::krw(30_000), reason }, prior)
}

fn lookup(prior: Prior) -> PaymentRequest {
    request(PaymentOperation::Lookup { payment_key: Private("tok_1".to_owned()) }, prior)
}

fn tried(minutes_ago: i64) -> Prior {
    Prior::Unknown { first_tried_at: christmas() - Millis::from_mins(minutes_ago) }
}

fn payment(status: &str, cancels: &Value) -> Play {
    Play::Reply(
        200,
        json!({ "paymentKey": "tok_1", "orderId": ORDER, "status": status, "totalAmount": 30_000,
                "balanceAmount": 0, "approvedAt": "2026-12-25T00:00:01+09:00", "currency": "KRW", "cancels": cancels }),
    )
}

fn cancelled(amount: i64) -> Value {
    json!([{ "transactionKey": "T1", "cancelAmount": amount, "cancelStatus": "DONE",
             "canceledAt": "2026-12-25T00:00:02+09:00" }])
}

fn error(status: u16, code: &str) -> Play {
    Play::Reply(status, json!({ "code": code, "message": "-" }))
}

fn at(text: &str) -> Timestamp {
    Timestamp::parse_rfc3339(text).unwrap()
}

fn captured() -> PaymentOutcome {
    PaymentOutcome::Captured {
        provider: "toss".to_owned(),
        amount: Money::krw(30_000),
        at: at("2026-12-25T00:00:01+09:00"),
    }
}

fn refunded() -> PaymentOutcome {
    PaymentOutcome::Refunded { amount: Money::krw(30_000), at: at("2026-12-25T00:00:02+09:00") }
}

fn refused(code: &str, class: RefusalClass) -> PaymentOutcome {
    PaymentOutcome::RefundRefused { code: code.to_owned(), class }
}

fn not_captured(code: &str) -> PaymentOutcome {
    PaymentOutcome::NotCaptured { code: code.to_owned() }
}

fn is_unknown(outcome: &PaymentOutcome) -> bool {
    matches!(outcome, PaymentOutcome::Unknown { .. })
}

#[tokio::test]
async fn a_confirm_captures() {
    let (server, toss, _) = toss(vec![payment("DONE", &Value::Null)]).await;
    assert_eq!(toss.perform(&confirm(Prior::None), DEADLINE).await, captured());
    let seen = &server.seen()[0];
    assert_eq!(seen.line, "POST /v1/payments/confirm HTTP/1.1");
    assert_eq!(seen.header("authorization"), Some("Basic dGVzdF9za19kZXY6"));
    assert_eq!(seen.header("idempotency-key"), Some(format!("{ORDER}.1").as_str()));
    assert_eq!(seen.json(), json!({ "paymentKey": "tok_1", "orderId": ORDER, "amount": 30_000 }));
}

#[tokio::test]
async fn a_listed_refusal_of_a_confirm_captures_nothing() {
    for code in ["REJECT_CARD_PAYMENT", "REJECT_CARD_COMPANY", "NOT_FOUND_PAYMENT_SESSION", "DUPLICATED_ORDER_ID"] {
        let (_server, toss, _) = toss(vec![error(400, code)]).await;
        assert_eq!(toss.perform(&confirm(Prior::None), DEADLINE).await, not_captured(code));
    }
}

#[tokio::test]
async fn an_ambiguous_reply_to_a_confirm_is_looked_up_never_assumed() {
    for code in ["ALREADY_PROCESSED_PAYMENT", "PROVIDER_ERROR", "UNKNOWN_PAYMENT_ERROR", "A_CODE_OF_TOMORROW"] {
        let (server, toss, _) = toss(vec![error(400, code), payment("DONE", &Value::Null)]).await;
        assert_eq!(toss.perform(&confirm(Prior::None), DEADLINE).await, captured(), "{code}");
        assert_eq!(server.seen()[1].line, format!("GET /v1/payments/orders/{ORDER} HTTP/1.1"));
    }
    for code in ["FAILED_INTERNAL_SYSTEM_PROCESSING", "REJECT_CARD_PAYMENT"] {
        let (_server, toss, _) = toss(vec![error(500, code), error(404, "NOT_FOUND_PAYMENT")]).await;
        assert!(is_unknown(&toss.perform(&confirm(Prior::None), DEADLINE).await), "a 500 proves nothing: {code}");
    }
}

#[tokio::test]
async fn a_running_confirm_a_lost_reply_and_a_held_one_are_unknown() {
    let script =
        vec![error(409, "IDEMPOTENT_REQUEST_PROCESSING"), error(400, "ALREADY_PROCESSING_REQUEST"), Play::Drop];
    let (server, toss, _) = toss(script).await;
    for _ in 0..3 {
        assert!(is_unknown(&toss.perform(&confirm(Prior::None), DEADLINE).await));
    }
    assert_eq!(server.seen().len(), 3, "none of them was looked up");
    let (_server, toss, _) = self::toss(vec![Play::Hold]).await;
    assert!(is_unknown(&toss.perform(&confirm(Prior::None), TINY).await));
}

#[tokio::test]
async fn what_never_left_says_so() {
    let (toss, _) = payments("http://127.0.0.1:1");
    let outcome = toss.perform(&confirm(Prior::None), DEADLINE).await;
    assert!(matches!(outcome, PaymentOutcome::NotSent { .. }), "{outcome:?}");
    let (_server, toss, _) = self::toss(vec![error(429, "TOO_MANY_REQUESTS")]).await;
    let outcome = toss.perform(&confirm(Prior::None), DEADLINE).await;
    assert!(matches!(outcome, PaymentOutcome::NotSent { .. }), "{outcome:?}");
}

#[tokio::test]
async fn a_confirm_tried_before_is_looked_up_and_repeated_only_while_it_can_succeed() {
    let (server, toss, _) = toss(vec![payment("DONE", &Value::Null)]).await;
    assert_eq!(toss.perform(&confirm(tried(1)), DEADLINE).await, captured());
    assert_eq!(server.seen().len(), 1);
    let (server, toss, _) = self::toss(vec![payment("IN_PROGRESS", &Value::Null), payment("DONE", &Value::Null)]).await;
    assert_eq!(toss.perform(&confirm(tried(1)), DEADLINE).await, captured());
    assert_eq!(server.seen()[1].header("idempotency-key"), Some(format!("{ORDER}.1").as_str()));
    let (server, toss, _) = self::toss(vec![error(404, "NOT_FOUND_PAYMENT")]).await;
    assert_eq!(toss.perform(&confirm(tried(11)), DEADLINE).await, not_captured("NOT_FOUND_PAYMENT"));
    assert_eq!(server.seen().len(), 1, "a dead order is not confirmed again");
    let (server, toss, _) = self::toss(vec![error(500, "COMMON_ERROR")]).await;
    assert!(is_unknown(&toss.perform(&confirm(tried(1)), DEADLINE).await));
    assert_eq!(server.seen().len(), 1, "nothing is repeated on a lookup that failed");
}

#[tokio::test]
async fn a_lookup_concludes_only_what_is_certain() {
    let nothing = || error(404, "NOT_FOUND_PAYMENT");
    let none = Value::Null;
    let cases = [
        (payment("DONE", &none), tried(1), captured()),
        (payment("CANCELED", &cancelled(30_000)), tried(1), refunded()),
        (payment("ABORTED", &none), tried(1), not_captured("ABORTED")),
        (payment("EXPIRED", &none), Prior::None, not_captured("EXPIRED")),
        (payment("IN_PROGRESS", &none), tried(10), PaymentOutcome::Pending),
        (payment("READY", &none), tried(11), not_captured("EXPIRED")),
        (payment("WAITING_FOR_DEPOSIT", &none), Prior::None, PaymentOutcome::Pending),
        (nothing(), tried(10), PaymentOutcome::Pending),
        (nothing(), Prior::None, PaymentOutcome::Pending),
        (nothing(), tried(11), not_captured("NOT_FOUND_PAYMENT")),
    ];
    for (play, prior, expected) in cases {
        let (_server, toss, _) = toss(vec![play]).await;
        assert_eq!(toss.perform(&lookup(prior), DEADLINE).await, expected);
    }
    for play in [error(404, "NOT_FOUND"), error(500, "COMMON_ERROR"), payment("A_NEW_STATUS", &none), Play::Drop] {
        let (_server, toss, _) = toss(vec![play]).await;
        assert!(is_unknown(&toss.perform(&lookup(tried(60)), DEADLINE).await));
    }
}

#[tokio::test]
async fn a_cancel_gives_the_amount_back() {
    let (server, toss, _) = toss(vec![payment("CANCELED", &cancelled(30_000))]).await;
    assert_eq!(toss.perform(&cancel(Prior::None), DEADLINE).await, refunded());
    let seen = &server.seen()[0];
    assert_eq!(seen.line, "POST /v1/payments/tok%2F1/cancel HTTP/1.1");
    assert_eq!(seen.header("idempotency-key"), Some(format!("{ORDER}.1").as_str()));
    assert_eq!(seen.json(), json!({ "cancelReason": "만료", "cancelAmount": 30_000 }));
}

#[tokio::test]
async fn refusals_of_a_cancel_are_final_or_for_now() {
    for (status, code, class) in [
        (403, "EXCEED_MAX_REFUND_DUE", RefusalClass::Permanent),
        (403, "NOT_CANCELABLE_PAYMENT", RefusalClass::Permanent),
        (403, "NOT_CANCELABLE_AMOUNT", RefusalClass::Permanent),
        (403, "NOT_ALLOWED_PARTIAL_REFUND", RefusalClass::Permanent),
        (403, "FORBIDDEN_CONSECUTIVE_REQUEST", RefusalClass::Retry),
    ] {
        let (_server, toss, _) = toss(vec![error(status, code)]).await;
        assert_eq!(toss.perform(&cancel(Prior::None), DEADLINE).await, refused(code, class));
    }
    let throttled = Play::ReplyWith(429, "Retry-After", "9", json!({ "code": "TOO_MANY_REQUESTS" }));
    let (_server, toss, _) = toss(vec![throttled]).await;
    let expected = refused("TOO_MANY_REQUESTS;retry-after=9", RefusalClass::Retry);
    assert_eq!(toss.perform(&cancel(Prior::None), DEADLINE).await, expected);
}

#[tokio::test]
async fn a_cancel_that_is_already_done_or_was_done_behind_an_error_is_found() {
    for (status, code) in [(400, "ALREADY_CANCELED_PAYMENT"), (500, "FAILED_REFUND_PROCESS"), (500, "COMMON_ERROR")] {
        let (_server, toss, _) = toss(vec![error(status, code), payment("CANCELED", &cancelled(30_000))]).await;
        assert_eq!(toss.perform(&cancel(Prior::None), DEADLINE).await, refunded(), "{code}");
    }
    let (server, toss, _) = toss(vec![payment("CANCELED", &cancelled(30_000))]).await;
    assert_eq!(toss.perform(&cancel(tried(60 * 24 * 20)), DEADLINE).await, refunded());
    assert_eq!(server.seen().len(), 1, "looked up first: the idempotency key is long forgotten");
}

#[tokio::test]
async fn an_ambiguous_cancel_is_unknown_once_and_then_needs_a_new_attempt() {
    let done = || payment("DONE", &Value::Null);
    let (_server, toss, _) = toss(vec![error(500, "COMMON_ERROR"), done()]).await;
    assert!(is_unknown(&toss.perform(&cancel(Prior::None), DEADLINE).await));
    let (server, toss, _) = self::toss(vec![done(), error(500, "COMMON_ERROR"), done()]).await;
    let outcome = toss.perform(&cancel(tried(1)), DEADLINE).await;
    assert_eq!(outcome, refused("COMMON_ERROR", RefusalClass::Retry));
    assert!(server.is_done());
    let (_server, toss, _) = self::toss(vec![error(500, "FAILED_REFUND_PROCESS"), done()]).await;
    let outcome = toss.perform(&cancel(Prior::None), DEADLINE).await;
    assert_eq!(outcome, refused("FAILED_REFUND_PROCESS", RefusalClass::Retry));
    let (_server, toss, _) = self::toss(vec![error(500, "FAILED_REFUND_PROCESS"), Play::Drop]).await;
    assert!(is_unknown(&toss.perform(&cancel(Prior::None), DEADLINE).await));
    let (_server, toss, _) = self::toss(vec![Play::Drop]).await;
    assert!(is_unknown(&toss.perform(&cancel(Prior::None), DEADLINE).await));
}

#[tokio::test]
async fn a_reply_about_another_order_is_not_believed() {
    let other = json!({ "orderId": "g_other", "status": "DONE", "totalAmount": 30_000 });
    let (_server, toss, _) = toss(vec![Play::Reply(200, other.clone()), Play::Reply(200, other)]).await;
    assert!(is_unknown(&toss.perform(&confirm(Prior::None), DEADLINE).await));
    assert!(is_unknown(&toss.perform(&lookup(tried(60)), DEADLINE).await));
}

#[tokio::test]
async fn a_webhook_is_a_hint_and_nothing_more() {
    let (_server, toss, _) = toss(Vec::new()).await;
    let hook = |event: &str, data: Value| json!({ "eventType": event, "createdAt": "-", "data": data }).to_string();
    let body = hook("PAYMENT_STATUS_CHANGED", json!({ "orderId": ORDER, "status": "DONE", "totalAmount": 1 }));
    assert_eq!(toss.webhook(&Vec::new(), body.as_bytes()), Ok(vec![ORDER.to_owned()]));
    let other = hook("PAYOUT_STATUS_CHANGED", json!({}));
    assert_eq!(toss.webhook(&Vec::new(), other.as_bytes()), Ok(Vec::new()));
    let long = hook("PAYMENT_STATUS_CHANGED", json!({ "orderId": "x".repeat(65) }));
    for bad in [long.as_str(), "[]", "no json"] {
        assert!(matches!(toss.webhook(&Vec::new(), bad.as_bytes()), Err(WebhookError::Malformed { .. })), "{bad}");
    }
}

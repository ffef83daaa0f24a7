//! Toss Payments.

use crate::common::{Bench, Reply};
use base64::Engine as _;
use bojagi::types::time::Millis;
use http::Method;
use serde_json::{Value, json};
use std::time::Duration;

fn authorization() -> String {
    format!("Basic {}", base64::engine::general_purpose::STANDARD.encode("test_sk_dev:"))
}

async fn post(bench: &Bench, path: &str, key: &str, body: &Value) -> Option<Reply> {
    let headers = [("authorization", &*authorization()), ("idempotency-key", key)];
    bench.try_call(Method::POST, path, &headers, &body.to_string()).await
}

async fn confirm(bench: &Bench, order: &str, payment_key: &str, key: &str) -> Option<Reply> {
    let body = json!({ "paymentKey": payment_key, "orderId": order, "amount": 4500 });
    post(bench, "/v1/payments/confirm", key, &body).await
}

pub async fn confirmed(bench: &Bench, order: &str, payment_key: &str, key: &str) -> (u16, Value) {
    let reply = confirm(bench, order, payment_key, key).await.expect("a reply");
    (reply.status, reply.json())
}

async fn cancel(bench: &Bench, payment_key: &str, key: &str, amount: Option<i64>) -> (u16, Value) {
    let body = json!({ "cancelReason": "expired", "cancelAmount": amount });
    let reply = post(bench, &format!("/v1/payments/{payment_key}/cancel"), key, &body).await.expect("a reply");
    (reply.status, reply.json())
}

async fn order(bench: &Bench, order: &str) -> (u16, Value) {
    let path = format!("/v1/payments/orders/{order}");
    let reply = bench.call(Method::GET, &path, &[("authorization", &authorization())], "").await;
    (reply.status, reply.json())
}

async fn money(bench: &Bench) -> (i64, i64) {
    let payments = bench.get("/ledger/summary").await["payments"].clone();
    (payments["paid"]["value"].as_i64().unwrap(), payments["refunded"]["value"].as_i64().unwrap())
}

#[tokio::test]
async fn payment_is_captured_refunded_and_looked_up() {
    let bench = Bench::start();
    let (status, paid) = confirmed(&bench, "g_1", "tok_1", "g_1.pay").await;
    assert_eq!((status, &paid["status"], &paid["totalAmount"]), (200, &json!("DONE"), &json!(4500)));
    assert_eq!(paid["approvedAt"], "2026-12-25T14:00:00+09:00");
    let (_, partly) = cancel(&bench, "tok_1", "g_1.refund.1", Some(1000)).await;
    assert_eq!((&partly["status"], &partly["balanceAmount"]), (&json!("PARTIAL_CANCELED"), &json!(3500)));
    let (status, refused) = cancel(&bench, "tok_1", "g_1.refund.2", None).await;
    assert_eq!((status, &refused["code"]), (403, &json!("FORBIDDEN_CONSECUTIVE_REQUEST")));
    bench.advance(Millis(1_000)).await;
    let (_, all) = cancel(&bench, "tok_1", "g_1.refund.3", None).await;
    assert_eq!((&all["status"], &all["cancels"][1]["cancelAmount"]), (&json!("CANCELED"), &json!(3500)));
    let (status, again) = cancel(&bench, "tok_1", "g_1.refund.4", None).await;
    assert_eq!((status, &again["code"]), (400, &json!("ALREADY_CANCELED_PAYMENT")));
    let (_, found) = order(&bench, "g_1").await;
    assert_eq!((&found["status"], &found["cancels"][0]["cancelReason"]), (&json!("CANCELED"), &json!("expired")));
    assert_eq!(money(&bench).await, (4500, 4500));
    let page = bench.get("/ledger?reference_prefix=g_1").await;
    let kinds: Vec<_> =
        page["items"].as_array().unwrap().iter().map(|item| (&item["kind"], &item["amount"]["value"])).collect();
    assert_eq!(kinds, [(&json!("payment"), &json!(4500)), (&json!("refund"), &json!(4500))]);
}

#[tokio::test]
async fn first_reply_is_replayed_for_fifteen_days_errors_too() {
    let bench = Bench::start();
    let (_, first) = confirmed(&bench, "g_1", "tok_1", "k1").await;
    let (status, refused) = confirmed(&bench, "g_2", "tok_reject", "k2").await;
    assert_eq!((status, &refused["code"]), (403, &json!("REJECT_CARD_COMPANY")));
    bench.advance(Millis(Millis::from_days(15).0 - 1)).await;
    assert_eq!(confirmed(&bench, "g_1", "tok_1", "k1").await, (200, first.clone()));
    // The scope is the key, not the body.
    assert_eq!(confirmed(&bench, "g_9", "tok_9", "k1").await, (200, first));
    assert_eq!(confirmed(&bench, "g_2", "tok_reject", "k2").await.0, 403);
    bench.advance(Millis(1)).await;
    let (status, after) = confirmed(&bench, "g_1", "tok_1", "k1").await;
    assert_eq!((status, &after["code"]), (400, &json!("ALREADY_PROCESSED_PAYMENT")));
    assert_eq!(money(&bench).await, (4500, 0));
    assert_eq!(bench.counts("g_1").await, (3, 1));
}

#[tokio::test]
async fn call_that_runs_is_409_and_then_replayed() {
    let bench = Bench::start();
    bench.fault(r#"{"provider":"toss","kind":"latency","latency_ms":400}"#).await;
    let slow = confirm(&bench, "g_1", "tok_1", "k1");
    let second = async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        bench.clear_faults().await;
        confirmed(&bench, "g_1", "tok_1", "k1").await
    };
    let (first, (status, running)) = tokio::join!(slow, second);
    assert_eq!((status, &running["code"]), (409, &json!("IDEMPOTENT_REQUEST_PROCESSING")));
    let first = first.unwrap();
    assert_eq!(confirmed(&bench, "g_1", "tok_1", "k1").await, (200, first.json()));
    assert_eq!(money(&bench).await, (4500, 0));
}

#[tokio::test]
async fn dropped_confirm_is_captured_and_found_by_order() {
    let bench = Bench::start();
    bench.fault(r#"{"provider":"toss","kind":"accept_then_drop"}"#).await;
    assert!(confirm(&bench, "g_1", "tok_1", "k1").await.is_none());
    bench.clear_faults().await;
    assert_eq!(order(&bench, "g_1").await.1["status"], "DONE");
    assert_eq!(confirmed(&bench, "g_1", "tok_1", "k1").await.0, 200);
    assert_eq!(
        order(&bench, "g_2").await,
        (404, json!({ "code": "NOT_FOUND_PAYMENT", "message": "존재하지 않는 결제 입니다." }))
    );
    assert_eq!(money(&bench).await, (4500, 0));
}

#[tokio::test]
async fn silent_confirm_expires_and_late_one_is_captured() {
    let bench = Bench::start();
    let patience = Duration::from_millis(300);
    for (id, key) in [("g_1", "tok_silent"), ("g_2", "tok_late")] {
        assert!(tokio::time::timeout(patience, confirm(&bench, id, key, id)).await.is_err(), "{key} answered");
        assert_eq!(order(&bench, id).await.1["status"], "IN_PROGRESS");
    }
    bench.advance(Millis::from_mins(6)).await;
    assert_eq!(order(&bench, "g_1").await.1["status"], "IN_PROGRESS");
    assert_eq!(order(&bench, "g_2").await.1["status"], "DONE");
    bench.advance(Millis::from_mins(4)).await;
    assert_eq!(order(&bench, "g_1").await.1["status"], "EXPIRED");
    let (status, late) = confirmed(&bench, "g_1", "tok_silent", "again").await;
    assert_eq!((status, &late["code"]), (404, &json!("NOT_FOUND_PAYMENT_SESSION")));
    assert_eq!(money(&bench).await, (4500, 0));
}

#[tokio::test]
async fn order_can_be_paid_with_another_key_after_a_refusal() {
    let bench = Bench::start();
    assert_eq!(confirmed(&bench, "g_1", "tok_reject", "k1").await.0, 403);
    assert_eq!(confirmed(&bench, "g_1", "tok_1", "k2").await.0, 200);
    assert_eq!(confirmed(&bench, "g_1", "tok_1", "k3").await.1["code"], "ALREADY_PROCESSED_PAYMENT");
    assert_eq!(confirmed(&bench, "g_1", "tok_2", "k4").await.1["code"], "DUPLICATED_ORDER_ID");
    assert_eq!(cancel(&bench, "tok_1", "g_1.refund", None).await.1["status"], "CANCELED");
    assert_eq!(money(&bench).await, (4500, 4500));
}

#[tokio::test]
async fn refund_windows_follow_the_method() {
    let bench = Bench::start();
    for (id, key) in [("g_1", "tok_1"), ("g_2", "tok_carrier_1"), ("g_3", "tok_transfer_1"), ("g_4", "tok_norefund")] {
        assert_eq!(confirmed(&bench, id, key, id).await.0, 200);
    }
    let code = async |key: &str, idempotency: &str| cancel(&bench, key, idempotency, Some(1)).await.1["code"].clone();
    assert_eq!(code("tok_norefund", "r0").await, "NOT_CANCELABLE_PAYMENT");
    // The capture was on 25 December in Korea.
    bench.advance(Millis::from_days(7)).await;
    assert_eq!(code("tok_carrier_1", "r1").await, "EXCEED_MAX_REFUND_DUE");
    assert_eq!(code("tok_transfer_1", "r2").await, Value::Null);
    bench.advance(Millis::from_days(84)).await;
    assert_eq!(code("tok_transfer_1", "r3").await, "EXCEED_MAX_REFUND_DUE");
    assert_eq!(code("tok_1", "r4").await, Value::Null);
    bench.advance(Millis::from_days(275)).await;
    assert_eq!(code("tok_1", "r5").await, "EXCEED_MAX_REFUND_DUE");
    assert_eq!(money(&bench).await, (4 * 4500, 2));
}

#[tokio::test]
async fn shared_test_token_refunds_the_order_in_the_key() {
    let bench = Bench::start();
    for id in ["g_1", "g_2", "g_3"] {
        assert_eq!(confirmed(&bench, id, "tok_1", id).await.0, 200);
    }
    assert_eq!(cancel(&bench, "tok_1", "g_2.refund.1", None).await.1["orderId"], "g_2");
    assert_eq!(order(&bench, "g_2").await.1["status"], "CANCELED");
    assert_eq!(order(&bench, "g_3").await.1["status"], "DONE");
}

#[tokio::test]
async fn test_code_header_and_wrong_keys_are_answered_as_documented() {
    let bench = Bench::start();
    let body = json!({ "paymentKey": "tok_1", "orderId": "g_1", "amount": 4500 }).to_string();
    let path = "/v1/payments/confirm";
    let basic = authorization();
    let code = async |headers: &[(&str, &str)]| {
        let reply = bench.call(Method::POST, path, headers, &body).await;
        (reply.status, reply.json()["code"].as_str().unwrap_or_default().to_owned())
    };
    let coded = [("authorization", basic.as_str()), ("TossPayments-Test-Code", "REJECT_CARD_PAYMENT")];
    assert_eq!(code(&coded).await, (403, "REJECT_CARD_PAYMENT".to_owned()));
    assert_eq!(code(&[("authorization", "Basic b3RoZXI6")]).await, (401, "UNAUTHORIZED_KEY".to_owned()));
    let long = "k".repeat(301);
    let long = [("authorization", basic.as_str()), ("idempotency-key", long.as_str())];
    assert_eq!(code(&long).await, (400, "INVALID_IDEMPOTENCY_KEY".to_owned()));
    assert_eq!(money(&bench).await, (0, 0));
}

#[tokio::test]
async fn refused_refund_succeeds_under_a_new_key_once_the_fault_is_gone() {
    let bench = Bench::start();
    confirmed(&bench, "g_1", "tok_1", "g_1").await;
    bench.fault(r#"{"provider":"toss","kind":"refuse","path":"/cancel"}"#).await;
    assert_eq!(cancel(&bench, "tok_1", "g_1.refund.1", None).await.1["code"], "NOT_CANCELABLE_PAYMENT");
    bench.clear_faults().await;
    assert_eq!(cancel(&bench, "tok_1", "g_1.refund.1", None).await.1["code"], "NOT_CANCELABLE_PAYMENT");
    assert_eq!(cancel(&bench, "tok_1", "g_1.refund.2", None).await.1["status"], "CANCELED");
    assert_eq!(money(&bench).await, (4500, 4500));
}

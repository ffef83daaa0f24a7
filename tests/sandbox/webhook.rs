//! Webhooks as the nodes receive them.

use crate::common::Bench;
use crate::nhn::send;
use crate::toss::confirmed;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use bojagi::types::time::Millis;
use serde_json::{Value, json};
use std::sync::{Arc, Mutex};

#[derive(Default)]
struct Received {
    calls: Vec<(String, HeaderMap, Value)>,
    /// How many calls are refused first.
    refusals: usize,
}

type Inbox = Arc<Mutex<Received>>;

async fn receive(
    State(inbox): State<Inbox>,
    Path(provider): Path<String>,
    headers: HeaderMap,
    body: String,
) -> StatusCode {
    let mut inbox = inbox.lock().unwrap();
    if inbox.refusals > 0 {
        inbox.refusals -= 1;
        return StatusCode::SERVICE_UNAVAILABLE;
    }
    inbox.calls.push((provider, headers, serde_json::from_str(&body).unwrap()));
    StatusCode::OK
}

async fn node() -> (String, Inbox) {
    let inbox = Inbox::default();
    let app = axum::Router::new()
        .route("/v1/providers/{provider}/webhook", axum::routing::post(receive))
        .with_state(inbox.clone());
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, app).await });
    (url, inbox)
}

fn recipient(to: &str, reference: &str) -> Value {
    json!({ "recipientNo": to, "recipientGroupingKey": reference })
}

/// Reference and code of every NHN hook, in the order of arrival.
fn codes(inbox: &Inbox) -> Vec<(String, String)> {
    let inbox = inbox.lock().unwrap();
    let hooks = inbox.calls.iter().flat_map(|(_, _, body)| body["hooks"].as_array().cloned().unwrap_or_default());
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    hooks.map(|hook| (text(&hook["recipientGroupingKey"]), text(&hook["resultCode"]))).collect()
}

fn pair(reference: &str, code: &str) -> (String, String) {
    (reference.to_owned(), code.to_owned())
}

#[tokio::test]
async fn results_are_told_together_and_signed() {
    let (url, inbox) = node().await;
    let bench = Bench::telling(vec!["http://127.0.0.1:1".to_owned(), url]);
    send(&bench, "a", &[recipient("01012345678", "g_1.0.1"), recipient("01012340000", "g_2.0.1")]).await;
    assert!(codes(&inbox).is_empty());
    bench.advance(Millis(300)).await;
    assert_eq!(codes(&inbox), [pair("g_1.0.1", "1000"), pair("g_2.0.1", "3019")]);
    let inbox = inbox.lock().unwrap();
    let (provider, headers, body) = &inbox.calls[0];
    assert_eq!((provider.as_str(), &body["event"]), ("nhn", &json!("MESSAGE_RESULT_UPDATE")));
    assert_eq!(headers["x-toast-webhook-signature"], "dev-secret");
    assert_eq!(inbox.calls.len(), 1);
}

#[tokio::test]
async fn refused_webhook_is_told_again_later() {
    let (url, inbox) = node().await;
    inbox.lock().unwrap().refusals = 2;
    let bench = Bench::telling(vec![url]);
    send(&bench, "a", &[recipient("01012345678", "g_1.0.1")]).await;
    bench.advance(Millis(300)).await;
    assert!(codes(&inbox).is_empty());
    bench.advance(Millis(1_000)).await;
    assert!(codes(&inbox).is_empty());
    bench.advance(Millis(4_000)).await;
    assert_eq!(codes(&inbox), [pair("g_1.0.1", "1000")]);
}

#[tokio::test]
async fn ordered_duplicates_carry_the_same_hook_id() {
    let (url, inbox) = node().await;
    let bench = Bench::telling(vec![url]);
    bench.fault(r#"{"provider":"nhn","kind":"webhook_duplicate","latency_ms":500}"#).await;
    send(&bench, "a", &[recipient("01012345678", "g_1.0.1")]).await;
    bench.advance(Millis(300)).await;
    bench.advance(Millis(500)).await;
    assert_eq!(codes(&inbox), [pair("g_1.0.1", "1000"), pair("g_1.0.1", "1000")]);
    let inbox = inbox.lock().unwrap();
    assert_eq!(inbox.calls[0].2["hooks"][0]["hookId"], inbox.calls[1].2["hooks"][0]["hookId"]);
}

#[tokio::test]
async fn reordered_hook_is_overtaken() {
    let (url, inbox) = node().await;
    let bench = Bench::telling(vec![url]);
    bench.fault(r#"{"provider":"nhn","kind":"webhook_reorder","latency_ms":120000}"#).await;
    send(&bench, "a", &[recipient("01099990004", "g_1.0.1")]).await;
    bench.advance(Millis(300)).await;
    bench.clear_faults().await;
    bench.advance(Millis(60_000)).await;
    bench.advance(Millis(60_000)).await;
    assert_eq!(codes(&inbox), [pair("g_1.0.1", "1000"), pair("g_1.0.1", "3005")]);
}

#[tokio::test]
async fn unheard_payment_is_told_without_a_signature() {
    let (url, inbox) = node().await;
    let bench = Bench::telling(vec![url]);
    confirmed(&bench, "g_1", "tok_1", "k1").await;
    bench.settle().await;
    assert!(inbox.lock().unwrap().calls.is_empty(), "the reply told it already");
    bench.fault(r#"{"provider":"toss","kind":"late_result","latency_ms":5000}"#).await;
    let (status, unknown) = confirmed(&bench, "g_2", "tok_2", "k2").await;
    assert_eq!((status, &unknown["code"]), (500, &json!("UNKNOWN_PAYMENT_ERROR")));
    bench.advance(Millis(5_000)).await;
    let inbox = inbox.lock().unwrap();
    let (provider, _, body) = &inbox.calls[0];
    assert_eq!((provider.as_str(), &body["eventType"]), ("toss", &json!("PAYMENT_STATUS_CHANGED")));
    assert_eq!((&body["data"]["orderId"], &body["data"]["status"]), (&json!("g_2"), &json!("DONE")));
}

//! Firebase Cloud Messaging HTTP v1.

use crate::common::{Bench, Reply};
use http::Method;
use serde_json::{Value, json};

const SEND: &str = "/v1/projects/bojagi/messages:send";

fn push(token: &str) -> Value {
    json!({ "message": {
        "token": token,
        "notification": { "title": "선물을 보냈어요", "body": "지민님에게" },
        "data": { "reference": "g_1.n.3.0", "link": "https://x/gifts/1" },
    }})
}

async fn send(bench: &Bench, body: &Value) -> Reply {
    bench.call(Method::POST, SEND, &[("authorization", "Bearer any")], &body.to_string()).await
}

#[tokio::test]
async fn push_is_accepted_and_each_repeat_is_a_push_of_its_own() {
    let bench = Bench::start();
    let sent = send(&bench, &push("t")).await;
    assert_eq!(sent.status, 200);
    assert!(sent.json()["name"].as_str().unwrap().starts_with("projects/bojagi/messages/"));
    send(&bench, &push("t")).await;
    let item = bench.item("g_1.n").await;
    assert_eq!((&item["purpose"], &item["channel"], &item["effective"]), (&json!("notice"), &json!("push"), &json!(2)));
    assert_eq!(item["text"], "선물을 보냈어요\n지민님에게\nhttps://x/gifts/1");
    assert_eq!(bench.get("/ledger/summary").await["gifts_delivered"], 0);
}

#[tokio::test]
async fn refusals_name_their_code() {
    let bench = Bench::start();
    let gone = send(&bench, &push("unregistered-1")).await;
    assert_eq!((gone.status, gone.json()["error"]["details"][0]["errorCode"].clone()), (404, json!("UNREGISTERED")));
    assert_eq!(send(&bench, &json!({ "message": {} })).await.status, 400);
    let anonymous = bench.call(Method::POST, SEND, &[], &push("t").to_string()).await;
    assert_eq!((anonymous.status, anonymous.json()["error"]["status"].clone()), (401, json!("UNAUTHENTICATED")));
    bench.fault(r#"{"provider":"fcm","kind":"rate_limit"}"#).await;
    let limited = send(&bench, &push("t")).await;
    assert_eq!((limited.status, limited.json()["error"]["status"].clone()), (429, json!("RESOURCE_EXHAUSTED")));
    assert_eq!(bench.counts("g_1.n").await, (2, 0));
}

#[tokio::test]
async fn dropped_reply_was_a_push() {
    let bench = Bench::start();
    bench.fault(r#"{"provider":"fcm","kind":"accept_then_drop"}"#).await;
    let body = push("t").to_string();
    assert!(bench.try_call(Method::POST, SEND, &[("authorization", "Bearer any")], &body).await.is_none());
    assert_eq!(bench.counts("g_1.n").await, (1, 1));
}

//! Solapi v4.

use crate::common::{Bench, Reply};
use bojagi::sandbox::{SOLAPI_API_KEY, SOLAPI_API_SECRET};
use bojagi::types::time::{Clock as _, Millis, Timestamp};
use hmac::{Hmac, Mac as _};
use http::Method;
use serde_json::{Value, json};
use std::sync::atomic::{AtomicU64, Ordering};

const SEND: &str = "/messages/v4/send-many/detail";

fn signed(key: &str, secret: &str, date: Timestamp, salt: &str) -> String {
    let date = date.to_rfc3339();
    let mut mac = Hmac::<sha2::Sha256>::new_from_slice(secret.as_bytes()).unwrap();
    mac.update(format!("{date}{salt}").as_bytes());
    let signature = hex::encode(mac.finalize().into_bytes());
    format!("HMAC-SHA256 apiKey={key}, date={date}, salt={salt}, signature={signature}")
}

fn authorization(bench: &Bench) -> String {
    static SALT: AtomicU64 = AtomicU64::new(0);
    let salt = format!("salt-{:016}", SALT.fetch_add(1, Ordering::Relaxed));
    signed(SOLAPI_API_KEY, SOLAPI_API_SECRET, bench.clock.now(), &salt)
}

async fn call(bench: &Bench, method: Method, path: &str, body: &Value) -> Reply {
    bench.call(method, path, &[("authorization", &authorization(bench))], &body.to_string()).await
}

fn text(to: &str, reference: &str) -> Value {
    json!({ "to": to, "from": "0212345678", "text": "선물이 왔어요 http://x/g/1", "customFields": { "reference": reference } })
}

async fn listed(bench: &Bench, query: &str) -> Vec<Value> {
    let reply = call(bench, Method::GET, &format!("/messages/v4/list?{query}"), &Value::Null).await.json();
    reply["messageList"].as_object().unwrap().values().cloned().collect()
}

#[tokio::test]
async fn text_is_accepted_then_done_and_custom_fields_come_back() {
    let bench = Bench::start();
    let body = json!({ "messages": [text("01012345678", "g_1.0.2")], "showMessageList": true });
    let sent = call(&bench, Method::POST, SEND, &body).await.json();
    assert_eq!(sent["groupInfo"]["count"]["registeredSuccess"], 1);
    assert_eq!(sent["groupInfo"]["status"], "SENDING");
    assert_eq!(sent["failedMessageList"], json!([]));
    let id = sent["messageList"][0]["messageId"].as_str().unwrap();
    bench.advance(Millis(300)).await;
    let group = sent["groupInfo"]["groupId"].as_str().unwrap();
    let query = "criteria=groupId&cond=eq&value=".to_owned() + group;
    for query in [format!("messageId={id}"), format!("groupId={group}"), "to=01012345678".to_owned(), query] {
        let found = listed(&bench, &query).await;
        assert_eq!(found.len(), 1, "{query}");
        assert_eq!((&found[0]["statusCode"], &found[0]["status"]), (&json!("4000"), &json!("COMPLETE")));
        assert_eq!(found[0]["customFields"], json!({ "reference": "g_1.0.2" }));
        assert_eq!(found[0]["groupId"], group);
    }
    let item = bench.item("g_1.").await;
    assert_eq!((&item["provider"], &item["channel"], &item["effective"]), (&json!("solapi"), &json!("sms"), &json!(1)));
}

#[tokio::test]
async fn signatures_work_once_and_near_their_date() {
    let bench = Bench::start();
    let now = bench.clock.now();
    let status = async |header: &str| {
        let reply = bench.call(Method::GET, "/messages/v4/list", &[("authorization", header)], "").await;
        (reply.status, reply.json()["errorCode"].clone())
    };
    let once = signed(SOLAPI_API_KEY, SOLAPI_API_SECRET, now, "0123456789abc");
    assert_eq!(status(&once).await.0, 200);
    assert_eq!(status(&once).await, (403, json!("DuplicatedSignature")));
    let wrong = signed(SOLAPI_API_KEY, "other", now, "0123456789abd");
    assert_eq!(status(&wrong).await, (403, json!("SignatureDoesNotMatch")));
    assert_eq!(status("").await, (403, json!("InvalidAPIKey")));
    let skewed = signed(SOLAPI_API_KEY, SOLAPI_API_SECRET, now, "0123456789abe");
    bench.advance(Millis(900_001)).await;
    assert_eq!(status(&skewed).await, (403, json!("RequestTimeTooSkewed")));
}

#[tokio::test]
async fn refusals_on_entry_keep_to_their_message() {
    let bench = Bench::start();
    let mut emoji = text("01012345679", "g_2.0.1");
    emoji["text"] = json!("🎁");
    let mut long = text("01012345680", "g_3.0.1");
    long["type"] = json!("SMS");
    long["text"] = json!("가".repeat(46));
    let mut unregistered = text("01012345681", "g_4.0.1");
    unregistered["from"] = json!("00012345678");
    let messages = [text("01012345678", "g_1.0.1"), text("01012345678", "g_5.0.1"), emoji, long, unregistered];
    let sent = call(&bench, Method::POST, SEND, &json!({ "messages": messages })).await.json();
    let codes: Vec<&str> =
        sent["failedMessageList"].as_array().unwrap().iter().map(|one| one["statusCode"].as_str().unwrap()).collect();
    assert_eq!(codes, ["1026", "1029", "1031", "1062"]);
    assert_eq!(sent["groupInfo"]["count"]["registeredFailed"], 4);
    let summary = bench.get("/ledger/summary").await;
    assert_eq!((&summary["messages"]["requests"], &summary["messages"]["effective"]), (&json!(5), &json!(1)));
}

#[tokio::test]
async fn group_is_sent_once_and_a_lost_reply_is_looked_up() {
    let bench = Bench::start();
    let group = call(&bench, Method::POST, "/messages/v4/groups", &json!({})).await.json();
    let path = format!("/messages/v4/groups/{}", group["groupId"].as_str().unwrap());
    let members = json!({ "messages": [text("01012345678", "g_1.0.1")] });
    let added = call(&bench, Method::PUT, &format!("{path}/messages"), &members).await;
    assert_eq!(added.json()["errorCount"], 0);
    assert_eq!(bench.counts("g_1.").await, (1, 0));
    bench.fault(r#"{"provider":"solapi","kind":"accept_then_drop","path":"/send"}"#).await;
    let header = authorization(&bench);
    let lost = bench.try_call(Method::POST, &format!("{path}/send"), &[("authorization", &header)], "{}").await;
    assert!(lost.is_none());
    bench.clear_faults().await;
    assert_eq!(call(&bench, Method::GET, &path, &Value::Null).await.json()["status"], "SENDING");
    let again = call(&bench, Method::POST, &format!("{path}/send"), &json!({})).await;
    assert_eq!((again.status, again.json()["errorCode"].clone()), (400, json!("GroupNotSendable")));
    bench.advance(Millis(300)).await;
    assert_eq!(call(&bench, Method::GET, &path, &Value::Null).await.json()["status"], "COMPLETE");
    assert_eq!(bench.counts("g_1.").await, (1, 1));
}

#[tokio::test]
async fn same_message_in_two_groups_is_sent_twice() {
    let bench = Bench::start();
    let body = json!({ "messages": [text("01012345678", "g_1.0.1")] });
    call(&bench, Method::POST, SEND, &body).await;
    call(&bench, Method::POST, SEND, &body).await;
    assert_eq!(bench.counts("g_1.").await, (2, 2));
    assert_eq!(bench.get("/ledger/summary").await["gifts_delivered_twice"], 1);
}

#[tokio::test]
async fn alimtalk_fails_late_for_a_number_without_kakao() {
    let bench = Bench::start();
    let message = json!({
        "to": "01012340000", "kakaoOptions": { "pfId": "pf", "templateId": "gift_arrived", "variables": { "#{link}": "http://x/g/1" } },
        "customFields": { "reference": "g_1.0.1" },
    });
    call(&bench, Method::POST, SEND, &json!({ "messages": [message] })).await;
    bench.advance(Millis(300)).await;
    assert_eq!(listed(&bench, "to=01012340000").await[0]["statusCode"], "3104");
    assert_eq!(bench.item("g_1.").await["channel"], "kakao");
    assert_eq!(bench.counts("g_1.").await, (1, 0));
}

#[tokio::test]
async fn scheduled_group_can_be_taken_back() {
    let bench = Bench::start();
    let at = (bench.clock.now() + Millis::from_hours(1)).to_rfc3339();
    let body = json!({ "messages": [text("01012345678", "g_1.0.1")], "scheduledDate": at });
    let sent = call(&bench, Method::POST, SEND, &body).await.json();
    assert_eq!(sent["groupInfo"]["status"], "SCHEDULED");
    let path = format!("/messages/v4/groups/{}/schedule", sent["groupInfo"]["groupId"].as_str().unwrap());
    assert_eq!(call(&bench, Method::DELETE, &path, &Value::Null).await.status, 200);
    bench.advance(Millis::from_hours(2)).await;
    assert_eq!(bench.counts("g_1.").await, (1, 0));
}

#[tokio::test]
async fn unsent_group_can_be_deleted_and_a_sent_one_cannot() {
    let bench = Bench::start();
    let group = call(&bench, Method::POST, "/messages/v4/groups", &json!({})).await.json();
    let path = format!("/messages/v4/groups/{}", group["groupId"].as_str().unwrap());
    let members = json!({ "messages": [text("01012345678", "g_1.0.1")] });
    call(&bench, Method::PUT, &format!("{path}/messages"), &members).await;
    assert_eq!(listed(&bench, "to=01012345678").await[0]["status"], "PENDING");
    assert_eq!(call(&bench, Method::DELETE, &path, &Value::Null).await.status, 200);
    assert_eq!(call(&bench, Method::GET, &path, &Value::Null).await.status, 404);
    assert_eq!(call(&bench, Method::POST, &format!("{path}/send"), &json!({})).await.status, 400);
    assert!(listed(&bench, "to=01012345678").await.is_empty());
    let sent = call(&bench, Method::POST, SEND, &members).await.json();
    let path = format!("/messages/v4/groups/{}", sent["groupInfo"]["groupId"].as_str().unwrap());
    assert_eq!(call(&bench, Method::DELETE, &path, &Value::Null).await.status, 400);
    assert_eq!(bench.counts("g_1.").await, (2, 1));
}

#[tokio::test]
async fn list_by_update_finds_old_messages_with_new_results() {
    let bench = Bench::start();
    let body = json!({ "messages": [text("01012345678", "g_1.0.1"), text("01099990004", "g_2.0.1")] });
    call(&bench, Method::POST, SEND, &body).await;
    bench.advance(Millis(300)).await;
    let since = (bench.clock.now() + Millis(1)).to_rfc3339();
    bench.advance(Millis(60_000)).await;
    let found = listed(&bench, &format!("dateType=UPDATED&startDate={since}")).await;
    let references: Vec<_> = found.iter().map(|message| &message["customFields"]["reference"]).collect();
    assert_eq!(references, [&json!("g_2.0.1")]);
}

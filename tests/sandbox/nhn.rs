//! NHN Cloud Alimtalk v2.3.

use crate::common::{Bench, Reply};
use bojagi::types::time::Millis;
use http::Method;
use serde_json::{Value, json};

const MESSAGES: &str = "/alimtalk/v2.3/appkeys/dev-app/messages";
const SECRET: (&str, &str) = ("X-Secret-Key", "dev-secret");

fn recipient(to: &str, reference: &str) -> Value {
    json!({
        "recipientNo": to,
        "templateParameter": { "product": "아메리카노", "link": "http://127.0.0.1:8080/g/1" },
        "recipientGroupingKey": reference,
    })
}

fn body(recipients: &[Value]) -> String {
    json!({ "senderKey": "k".repeat(40), "templateCode": "gift_arrived", "recipientList": recipients }).to_string()
}

pub async fn send(bench: &Bench, key: &str, recipients: &[Value]) -> Reply {
    bench.call(Method::POST, MESSAGES, &[SECRET, ("X-NC-API-IDEMPOTENCY-KEY", key)], &body(recipients)).await
}

async fn asked(bench: &Bench, path: &str) -> Value {
    bench.call(Method::GET, path, &[SECRET], "").await.json()
}

async fn by_reference(bench: &Bench, reference: &str) -> Value {
    let span = "startRequestDate=2026-12-25%2000:00&endRequestDate=2026-12-26%2000:00";
    asked(bench, &format!("{MESSAGES}?{span}&recipientGroupingKey={reference}")).await
}

#[tokio::test]
async fn message_is_accepted_then_received() {
    let bench = Bench::start();
    let sent = send(&bench, "a", &[recipient("01012345678", "g_1.0.1")]).await.json();
    assert_eq!(sent["header"]["isSuccessful"], true);
    assert_eq!(sent["message"]["sendResults"][0]["resultCode"], 0);
    assert_eq!(sent["message"]["sendResults"][0]["recipientGroupingKey"], "g_1.0.1");
    let id = sent["message"]["requestId"].as_str().unwrap();
    let before = asked(&bench, &format!("{MESSAGES}/{id}/1")).await;
    assert_eq!(before["message"]["messageStatus"], Value::Null);
    bench.advance(Millis(300)).await;
    let after = asked(&bench, &format!("{MESSAGES}/{id}/1")).await;
    assert_eq!(after["message"]["messageStatus"], "COMPLETED");
    assert_eq!(after["message"]["resultCode"], "1000");
    assert_eq!(after["message"]["recipientNo"], "01012345678");
    let poll = "/alimtalk/v2.3/appkeys/dev-app/message-results?startUpdateDate=2026-12-25%2014:00&endUpdateDate=2026-12-25%2014:00";
    assert_eq!(asked(&bench, poll).await["messages"][0]["requestId"], id);
    let item = bench.item("g_1.").await;
    assert_eq!(
        (&item["kind"], &item["provider"], &item["channel"]),
        (&json!("message"), &json!("nhn"), &json!("kakao"))
    );
    assert_eq!((&item["purpose"], &item["to"]), (&json!("gift"), &json!("01012345678")));
    assert_eq!(item["first_at"], "2026-12-25T05:00:00.000Z");
    assert!(item["text"].as_str().unwrap().contains("http://127.0.0.1:8080/g/1"), "{item}");
}

#[tokio::test]
async fn wrong_credentials_are_refused_and_not_counted() {
    let bench = Bench::start();
    let message = body(&[recipient("01012345678", "g_1.0.1")]);
    let other = MESSAGES.replace("dev-app", "other");
    let cases = [(other.as_str(), "dev-secret", -1000), (MESSAGES, "other", -1001)];
    for (path, secret, code) in cases {
        let reply = bench.call(Method::POST, path, &[("X-Secret-Key", secret)], &message).await.json();
        assert_eq!(reply["header"]["resultCode"], code);
        assert_eq!(reply["header"]["isSuccessful"], false);
    }
    assert_eq!(bench.get("/ledger/summary").await["messages"]["requests"], 0);
}

#[tokio::test]
async fn repeated_key_fails_for_ten_minutes_and_then_sends_again() {
    let bench = Bench::start();
    let one = [recipient("01012345678", "g_1.0.1")];
    assert_eq!(send(&bench, "a", &one).await.json()["header"]["resultCode"], 0);
    bench.advance(Millis(599_999)).await;
    assert_eq!(send(&bench, "a", &one).await.json()["header"]["resultCode"], -1005);
    assert_eq!(bench.counts("g_1.").await, (2, 1));
    bench.advance(Millis(1)).await;
    assert_eq!(send(&bench, "a", &one).await.json()["header"]["resultCode"], 0);
    assert_eq!(bench.counts("g_1.").await, (3, 2));
    let summary = bench.get("/ledger/summary").await;
    assert_eq!(summary["messages"], json!({ "requests": 3, "effective": 2, "references": 1, "doubled": 1 }));
    assert_eq!((&summary["gifts_delivered"], &summary["gifts_delivered_twice"]), (&json!(1), &json!(1)));
}

#[tokio::test]
async fn batch_may_fail_by_half() {
    let bench = Bench::start();
    let batch = [
        recipient("01012345678", "g_1.0.1"),
        recipient("01099990006", "g_2.0.1"),
        recipient("12", "g_3.0.1"),
        recipient("01087654321", "g_4.0.1"),
    ];
    let sent = send(&bench, "a", &batch).await.json();
    let codes: Vec<i64> = sent["message"]["sendResults"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| one["resultCode"].as_i64().unwrap())
        .collect();
    assert_eq!(codes, [0, -5000, -5000, 0]);
    let id = sent["message"]["requestId"].as_str().unwrap();
    let listed = asked(&bench, &format!("{MESSAGES}?requestId={id}")).await;
    let sequences: Vec<&Value> = listed["messageSearchResultResponse"]["messages"]
        .as_array()
        .unwrap()
        .iter()
        .map(|message| &message["recipientSeq"])
        .collect();
    assert_eq!(sequences, [&json!(1), &json!(4)]);
    assert_eq!((bench.counts("g_2.").await, bench.counts("g_4.").await), ((1, 0), (1, 1)));
}

#[tokio::test]
async fn dropped_reply_leaves_a_message_that_the_lookup_finds() {
    let bench = Bench::start();
    bench.fault(r#"{"provider":"nhn","kind":"accept_then_drop"}"#).await;
    let lost = bench.try_call(Method::POST, MESSAGES, &[SECRET], &body(&[recipient("01012345678", "g_1.0.1")])).await;
    assert!(lost.is_none());
    let found = by_reference(&bench, "g_1.0.1").await;
    assert_eq!(found["messageSearchResultResponse"]["totalCount"], 1);
    assert_eq!(by_reference(&bench, "g_2.0.1").await["messageSearchResultResponse"]["totalCount"], 0);
    assert_eq!(bench.counts("g_1.").await, (1, 1));
}

#[tokio::test]
async fn hung_reply_leaves_a_message_that_the_lookup_finds() {
    let bench = Bench::start();
    bench.fault(r#"{"provider":"nhn","kind":"accept_then_hang"}"#).await;
    let one = body(&[recipient("01012345678", "g_1.0.1")]);
    let mut call = std::pin::pin!(bench.try_call(Method::POST, MESSAGES, &[SECRET], &one));
    loop {
        tokio::select! {
            biased;
            _ = &mut call => panic!("answered, or hung up"),
            counts = bench.counts("g_1.") => if counts == (1, 1) { break },
        }
    }
    assert_eq!(by_reference(&bench, "g_1.0.1").await["messageSearchResultResponse"]["totalCount"], 1);
}

#[tokio::test]
async fn number_without_kakao_is_accepted_and_fails_late() {
    let bench = Bench::start();
    send(&bench, "a", &[recipient("010-1234-0000", "g_1.0.1")]).await;
    assert!(bench.handle().next_due().is_some());
    bench.advance(Millis(300)).await;
    let found = by_reference(&bench, "g_1.0.1").await;
    let message = &found["messageSearchResultResponse"]["messages"][0];
    assert_eq!((&message["messageStatus"], &message["resultCode"]), (&json!("FAILED"), &json!("3019")));
    assert_eq!(bench.counts("g_1.").await, (1, 0));
    assert_eq!(bench.get("/ledger/summary").await["gifts_delivered"], 0);
}

#[tokio::test]
async fn provider_falls_back_to_a_text_when_asked_to() {
    let bench = Bench::start();
    let mut one = recipient("01012340000", "g_1.0.1");
    one["resendParameter"] = json!({ "isResend": true });
    send(&bench, "a", &[one]).await;
    bench.advance(Millis(300)).await;
    let found = by_reference(&bench, "g_1.0.1").await;
    assert_eq!(found["messageSearchResultResponse"]["messages"][0]["resendStatus"], "RSC04");
    let page = bench.get("/ledger?reference_prefix=g_1.").await;
    let channels: Vec<_> =
        page["items"].as_array().unwrap().iter().map(|item| (&item["channel"], &item["effective"])).collect();
    assert_eq!(channels, [(&json!("kakao"), &json!(0)), (&json!("sms"), &json!(1))]);
}

#[tokio::test]
async fn late_result_says_unconfirmed_first() {
    let bench = Bench::start();
    bench.fault(r#"{"provider":"nhn","kind":"late_result","latency_ms":60000}"#).await;
    send(&bench, "a", &[recipient("01012345678", "g_1.0.1")]).await;
    let code = async |bench: &Bench| {
        by_reference(bench, "g_1.0.1").await["messageSearchResultResponse"]["messages"][0]["resultCode"].clone()
    };
    bench.advance(Millis(300)).await;
    assert_eq!(code(&bench).await, "3005");
    bench.advance(Millis(60_000)).await;
    assert_eq!(code(&bench).await, "1000");
    assert_eq!(bench.counts("g_1.").await, (1, 1));
}

#[tokio::test]
async fn scheduled_message_can_be_cancelled_until_its_time() {
    let bench = Bench::start();
    let batch = json!({
        "senderKey": "k", "templateCode": "gift_arrived", "requestDate": "2026-12-25 14:10",
        "recipientList": [recipient("01012345678", "g_1.0.1"), recipient("01012345679", "g_2.0.1")],
    });
    let sent = bench.call(Method::POST, MESSAGES, &[SECRET], &batch.to_string()).await.json();
    let id = sent["message"]["requestId"].as_str().unwrap().to_owned();
    let cancel = async |sequence: u32| {
        let path = format!("{MESSAGES}/{id}?recipientSeq={sequence}");
        bench.call(Method::DELETE, &path, &[SECRET], "").await.json()["header"]["resultCode"].clone()
    };
    assert_eq!(cancel(1).await, 0);
    bench.advance(Millis::from_mins(11)).await;
    assert_eq!(cancel(2).await, 0);
    let listed = asked(&bench, &format!("{MESSAGES}?requestId={id}")).await;
    let messages = &listed["messageSearchResultResponse"]["messages"];
    assert_eq!((&messages[0]["messageStatus"], &messages[1]["messageStatus"]), (&json!("CANCEL"), &json!("COMPLETED")));
    assert_eq!((bench.counts("g_1.").await, bench.counts("g_2.").await), ((1, 0), (1, 1)));
}

#[tokio::test]
async fn turned_away_calls_are_counted_and_have_no_effect() {
    let bench = Bench::start();
    bench.fault(r#"{"provider":"nhn","kind":"rate_limit","latency_ms":2500}"#).await;
    let refused = send(&bench, "a", &[recipient("01012345678", "g_1.0.1")]).await;
    assert_eq!((refused.status, refused.headers["retry-after"].to_str().unwrap()), (429, "3"));
    bench.clear_faults().await;
    bench.fault(r#"{"provider":"nhn","kind":"server_error","status":502}"#).await;
    assert_eq!(send(&bench, "a", &[recipient("01012345678", "g_1.0.1")]).await.status, 502);
    bench.clear_faults().await;
    assert_eq!(bench.counts("g_1.").await, (2, 0));
    bench.fault(r#"{"provider":"nhn","kind":"server_error","when":"after_accept"}"#).await;
    assert_eq!(send(&bench, "a", &[recipient("01012345678", "g_1.0.1")]).await.status, 500);
    assert_eq!(bench.counts("g_1.").await, (3, 1));
}

#[tokio::test]
async fn ordered_refusal_is_definite_and_down_touches_nothing() {
    let bench = Bench::start();
    bench.fault(r#"{"provider":"nhn","kind":"refuse","code":"-3005","seconds":60}"#).await;
    let refused = send(&bench, "a", &[recipient("01012345678", "g_1.0.1")]).await.json();
    assert_eq!(refused["message"]["sendResults"][0]["resultCode"], -3005);
    bench.advance(Millis::from_secs(60)).await;
    bench.fault(r#"{"provider":"nhn","kind":"down","seconds":60}"#).await;
    let nobody = send(&bench, "b", &[recipient("01012345678", "g_1.0.1")]).await;
    assert_eq!((nobody.status, nobody.text.as_str(), &nobody.headers["retry-after"]), (503, "", &"1".parse().unwrap()));
    assert_eq!(bench.counts("g_1.").await, (1, 0));
    bench.advance(Millis::from_secs(60)).await;
    assert_eq!(send(&bench, "b", &[recipient("01012345678", "g_1.0.1")]).await.status, 200);
    assert_eq!(bench.counts("g_1.").await, (2, 1));
}

//! FCM HTTP v1 on the wire, and its token.

use super::{is_unknown, provider_of, receipt};
use crate::providers::settings::{FcmAuth, ProvidersConfig, Secret};
use crate::providers::testing::{DEADLINE, Play, StillClock, TINY, WireServer, christmas, gift_push};
use crate::providers::{LookupAnswer, MessageProvider};
use crate::types::call::{Address, MessageOutcome, RefusalClass};
use crate::types::contact::Private;
use crate::types::effect::Channel;
use crate::types::time::Millis;
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use serde_json::{Value, json};
use std::sync::Arc;

/// Made for this test, known to everyone, good for nothing else.
const TEST_KEY: &str = include_str!("fcm_test_key.pem");
const TEST_KEY_PUBLIC: &str = include_str!("fcm_test_key.pub.pem");

async fn fcm(script: Vec<Play>) -> (WireServer, Arc<dyn MessageProvider>) {
    let server = WireServer::start(script).await;
    let (provider, _) = provider_of(&ProvidersConfig::sandbox(&server.base, "127.0.0.1:1"), Channel::Push);
    (server, provider)
}

fn sent() -> Play {
    Play::Reply(200, json!({ "name": "projects/dev/messages/1" }))
}

fn error(status: u16, name: &str, code: &str) -> Value {
    let details = json!([{ "@type": "type.googleapis.com/google.firebase.fcm.v1.FcmError", "errorCode": code }]);
    let details = if code.is_empty() { json!([]) } else { details };
    json!({ "error": { "code": status, "message": "-", "status": name, "details": details } })
}

fn refused(code: &str, class: RefusalClass) -> MessageOutcome {
    MessageOutcome::Refused { code: code.to_owned(), class }
}

#[tokio::test]
async fn a_push_carries_its_reference_as_tag_and_collapse_id() {
    let (server, fcm) = fcm(vec![sent(), sent()]).await;
    let outcomes = fcm.send(&[gift_push("g_1.1.1")], DEADLINE).await;
    assert_eq!(receipt(&outcomes[0]), "projects/dev/messages/1");
    let seen = &server.seen()[0];
    assert_eq!(seen.line, "POST /v1/projects/dev/messages:send HTTP/1.1");
    assert_eq!(seen.header("authorization"), Some("Bearer dev-secret"));
    let expected = json!({ "message": {
        "token": "token-1",
        "notification": {
            "title": "선물이 도착했어요",
            "body": "[보자기] 지민님이 보낸 선물이 도착했어요.\nhttp://127.0.0.1:8080/g/001abc",
        },
        "data": { "reference": "g_1.1.1", "purpose": "gift", "template": "gift_arrived",
                  "link": "http://127.0.0.1:8080/g/001abc" },
        "android": { "collapse_key": "g_1.1.1", "notification": { "tag": "g_1.1.1" } },
        "apns": { "headers": { "apns-collapse-id": "g_1.1.1" } },
    } });
    assert_eq!(seen.json(), expected);
    let mut topic = gift_push(&format!("g_{}.1.1", "0".repeat(64)));
    topic.to = Private(Address::Push("/topics/owner-1".to_owned()));
    fcm.send(&[topic], DEADLINE).await;
    let message = server.seen()[1].json()["message"].clone();
    assert_eq!((&message["topic"], &message["token"]), (&json!("owner-1"), &Value::Null));
    assert!(message["apns"]["headers"]["apns-collapse-id"].as_str().unwrap().len() <= 64);
}

#[tokio::test]
async fn error_codes_mean_what_the_facts_sheet_says() {
    let script = vec![
        Play::Reply(404, error(404, "NOT_FOUND", "UNREGISTERED")),
        Play::Reply(403, error(403, "PERMISSION_DENIED", "SENDER_ID_MISMATCH")),
        Play::Reply(400, error(400, "INVALID_ARGUMENT", "INVALID_ARGUMENT")),
        Play::ReplyWith(429, "Retry-After", "60", error(429, "RESOURCE_EXHAUSTED", "QUOTA_EXCEEDED")),
        Play::ReplyWith(503, "Retry-After", "5", error(503, "UNAVAILABLE", "UNAVAILABLE")),
        Play::Reply(401, error(401, "UNAUTHENTICATED", "THIRD_PARTY_AUTH_ERROR")),
        Play::Reply(503, error(503, "UNAVAILABLE", "UNAVAILABLE")),
        Play::Reply(500, error(500, "INTERNAL", "INTERNAL")),
        Play::Reply(502, json!("bad gateway")),
        Play::Drop,
    ];
    let (server, fcm) = fcm(script).await;
    let mut outcomes = Vec::new();
    for _ in 0..10 {
        outcomes.extend(fcm.send(&[gift_push("g_1.1.1")], DEADLINE).await);
    }
    let definite = [
        refused("UNREGISTERED", RefusalClass::NextChannel),
        refused("SENDER_ID_MISMATCH", RefusalClass::NextChannel),
        refused("INVALID_ARGUMENT", RefusalClass::Permanent),
        refused("QUOTA_EXCEEDED;retry-after=60", RefusalClass::Retry),
        refused("UNAVAILABLE;retry-after=5", RefusalClass::Retry),
        refused("THIRD_PARTY_AUTH_ERROR", RefusalClass::Permanent),
    ];
    assert_eq!(outcomes[..6], definite);
    assert!(outcomes[6..].iter().all(is_unknown), "{outcomes:?}");
    assert!(server.is_done());
}

#[tokio::test]
async fn there_is_no_lookup_and_no_reply_is_unknown() {
    let (_server, fcm) = fcm(vec![Play::Hold]).await;
    assert!(is_unknown(&fcm.send(&[gift_push("g_1.1.1")], TINY).await[0]));
    assert!(!fcm.ability().lookup && fcm.ability().key_window.is_none());
    assert!(matches!(fcm.lookup(&gift_push("g_1.1.1"), TINY).await, LookupAnswer::Unknown { .. }));
    assert!(fcm.webhook(&Vec::new(), b"{}").is_err());
}

async fn with_account(script: Vec<Play>) -> (WireServer, Arc<dyn MessageProvider>, Arc<StillClock>) {
    let server = WireServer::start(script).await;
    let mut config = ProvidersConfig::sandbox(&server.base, "127.0.0.1:1");
    config.fcm.as_mut().unwrap().auth = FcmAuth::ServiceAccount {
        client_email: "push@dev.example".to_owned(),
        private_key: Secret::value(TEST_KEY),
        token_url: format!("{}/token", server.base),
    };
    let (provider, clock) = provider_of(&config, Channel::Push);
    (server, provider, clock)
}

fn token(text: &str) -> Play {
    Play::Reply(200, json!({ "access_token": text, "expires_in": 3600, "token_type": "Bearer" }))
}

#[tokio::test]
async fn a_token_is_traded_for_a_signed_assertion_and_kept_until_shortly_before_its_end() {
    let (server, fcm, clock) = with_account(vec![token("t1"), sent(), sent(), token("t2"), sent()]).await;
    let batch = [gift_push("g_1.1.1")];
    fcm.send(&batch, DEADLINE).await;
    *clock.0.lock() = christmas() + Millis::from_mins(53);
    fcm.send(&batch, DEADLINE).await;
    *clock.0.lock() = christmas() + Millis::from_mins(55);
    fcm.send(&batch, DEADLINE).await;
    let seen = server.seen();
    let bearers: Vec<Option<&str>> = seen.iter().map(|seen| seen.header("authorization")).collect();
    assert_eq!(bearers, [None, Some("Bearer t1"), Some("Bearer t1"), None, Some("Bearer t2")]);
    assert_eq!(seen[0].line, "POST /token HTTP/1.1");
    let assertion =
        seen[0].body.strip_prefix("grant_type=urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Ajwt-bearer&assertion=");
    let mut checks = Validation::new(Algorithm::RS256);
    checks.validate_exp = false;
    checks.set_audience(&[format!("{}/token", server.base)]);
    let key = DecodingKey::from_rsa_pem(TEST_KEY_PUBLIC.as_bytes()).unwrap();
    let claims = jsonwebtoken::decode::<Value>(assertion.unwrap(), &key, &checks).unwrap().claims;
    let now = christmas().0 / 1_000;
    let expected = json!({ "iss": "push@dev.example", "aud": format!("{}/token", server.base), "iat": now,
        "exp": now + 3_600, "scope": "https://www.googleapis.com/auth/firebase.messaging" });
    assert_eq!(claims, expected);
}

#[tokio::test]
async fn a_token_that_fcm_does_not_take_is_dropped() {
    let script = vec![token("t1"), Play::Reply(401, error(401, "UNAUTHENTICATED", "")), token("t2"), sent()];
    let (server, fcm, _) = with_account(script).await;
    let batch = [gift_push("g_1.1.1")];
    assert_eq!(fcm.send(&batch, DEADLINE).await[0], refused("UNAUTHENTICATED", RefusalClass::Retry));
    assert_eq!(receipt(&fcm.send(&batch, DEADLINE).await[0]), "projects/dev/messages/1");
    assert!(server.is_done());
}

#[tokio::test]
async fn without_a_token_nothing_is_sent() {
    let (server, fcm, _) = with_account(vec![Play::Reply(400, json!({ "error": "invalid_grant" })), Play::Hold]).await;
    let batch = [gift_push("g_1.1.1")];
    assert_eq!(fcm.send(&batch, DEADLINE).await[0], refused("oauth:http_400", RefusalClass::Retry));
    let late = fcm.send(&batch, TINY).await;
    assert!(matches!(&late[0], MessageOutcome::Refused { class: RefusalClass::Retry, .. }), "{late:?}");
    assert!(server.seen().iter().all(|seen| seen.line.starts_with("POST /token ")));
}

#[tokio::test]
async fn token_and_push_share_one_deadline_and_a_held_push_is_unknown() {
    let (server, fcm, _) = with_account(vec![token("t1"), Play::Hold]).await;
    let outcomes = fcm.send(&[gift_push("g_1.1.1")], Millis(1_000)).await;
    assert!(is_unknown(&outcomes[0]), "{outcomes:?}");
    assert_eq!(server.seen().len(), 2);
}

//! Solapi v4 on the wire.

use super::{is_unknown, provider_of, receipt};
use crate::providers::settings::ProvidersConfig;
use crate::providers::testing::{DEADLINE, Play, TINY, WireServer, christmas, gift_sms};
use crate::providers::{LookupAnswer, MessageProvider, Span, WebhookError};
use crate::types::call::{MessageOutcome, Prior, RefusalClass, ReportStatus};
use crate::types::contact::Private;
use crate::types::effect::Channel;
use crate::types::time::{Millis, Timestamp};
use hmac::{Hmac, Mac};
use serde_json::{Value, json};
use sha1::{Digest, Sha1};
use sha2::Sha256;
use std::sync::Arc;

async fn solapi(script: Vec<Play>) -> (WireServer, Arc<dyn MessageProvider>) {
    let server = WireServer::start(script).await;
    let (provider, _) = provider_of(&ProvidersConfig::sandbox(&server.base, "127.0.0.1:1"), Channel::Sms);
    (server, provider)
}

fn group(id: &str, status: &str) -> Play {
    Play::Reply(200, json!({ "groupId": id, "_id": id, "status": status, "count": { "total": 0 } }))
}

fn registered(codes: &[&str]) -> Play {
    let results: Vec<Value> = codes
        .iter()
        .enumerate()
        .map(|(index, code)| {
            json!({ "to": "01012345678", "from": "0215770000", "type": "SMS", "country": "82",
                    "messageId": format!("M{}", index + 1), "statusCode": code, "statusMessage": "-", "accountId": "1" })
        })
        .collect();
    let errors = codes.iter().filter(|code| **code != "2000").count();
    Play::Reply(200, json!({ "errorCount": errors, "resultList": results }))
}

fn refused(code: &str, class: RefusalClass) -> MessageOutcome {
    MessageOutcome::Refused { code: code.to_owned(), class }
}

#[tokio::test]
async fn a_gift_is_put_into_a_group_and_the_group_is_sent() {
    let (server, solapi) = solapi(vec![group("G1", "PENDING"), registered(&["2000"]), group("G1", "SENDING")]).await;
    let outcomes = solapi.send(&[gift_sms("g_1.1.1")], DEADLINE).await;
    assert_eq!(receipt(&outcomes[0]), "G1/M1");
    let seen = server.seen();
    let lines: Vec<&str> = seen.iter().map(|seen| seen.line.as_str()).collect();
    let expected = [
        "POST /messages/v4/groups HTTP/1.1",
        "PUT /messages/v4/groups/G1/messages HTTP/1.1",
        "POST /messages/v4/groups/G1/send HTTP/1.1",
    ];
    assert_eq!(lines, expected);
    assert_eq!(seen[0].json(), json!({ "allowDuplicates": true }));
    let text = "[보자기] 지민님이 보낸 선물이 도착했어요.\nhttp://127.0.0.1:8080/g/001abc";
    let message = json!({
        "to": "01012345678", "country": "82", "from": "0215770000", "type": "SMS", "text": text,
        "customFields": { "reference": "g_1.1.1", "purpose": "gift" },
    });
    assert_eq!(seen[1].json(), json!({ "messages": [message] }));
}

#[tokio::test]
async fn every_call_is_signed_over_date_and_a_salt_of_its_own() {
    let (server, solapi) = solapi(vec![group("G1", "PENDING"), registered(&["2000"]), group("G1", "SENDING")]).await;
    solapi.send(&[gift_sms("g_1.1.1")], DEADLINE).await;
    let mut salts = Vec::new();
    for seen in server.seen() {
        let header = seen.header("authorization").unwrap().to_owned();
        let fields = header.strip_prefix("HMAC-SHA256 ").unwrap();
        let field = |name: &str| {
            let prefix = format!("{name}=");
            fields.split(", ").find_map(|field| field.strip_prefix(&prefix)).unwrap().to_owned()
        };
        assert_eq!((field("apiKey").as_str(), field("date").as_str()), ("dev-key", "2026-12-24T15:00:00.000Z"));
        assert!((12..=64).contains(&field("salt").len()));
        let mut mac = Hmac::<Sha256>::new_from_slice(b"dev-secret").unwrap();
        mac.update(format!("{}{}", field("date"), field("salt")).as_bytes());
        assert_eq!(field("signature"), hex::encode(mac.finalize().into_bytes()));
        salts.push(field("salt"));
    }
    salts.dedup();
    assert_eq!(salts.len(), 3);
}

#[tokio::test]
async fn a_long_text_is_an_lms_with_a_title_and_an_unreadable_one_never_leaves() {
    let (server, solapi) = solapi(vec![group("G1", "PENDING"), registered(&["2000"]), group("G1", "SENDING")]).await;
    let (mut long, mut thai) = (gift_sms("g_1.1.1"), gift_sms("g_2.1.1"));
    long.variables[0].1 = Private("가".repeat(40));
    thai.variables[0].1 = Private("สมชาย".to_owned());
    let outcomes = solapi.send(&[thai, long], DEADLINE).await;
    assert_eq!(outcomes[0], refused("1029", RefusalClass::Permanent));
    assert_eq!(receipt(&outcomes[1]), "G1/M1");
    let message = server.seen()[1].json()["messages"][0].clone();
    assert_eq!((&message["type"], &message["subject"]), (&json!("LMS"), &json!("선물이 도착했어요")));
}

#[tokio::test]
async fn a_half_failed_registration_refuses_its_members_and_sends_the_rest() {
    let script = vec![group("G1", "PENDING"), registered(&["2000", "1062", "1060", "1030"]), group("G1", "SENDING")];
    let (_server, solapi) = solapi(script).await;
    let batch = ["g_1.1.1", "g_2.1.1", "g_3.1.1", "g_4.1.1"].map(gift_sms);
    let outcomes = solapi.send(&batch, DEADLINE).await;
    assert_eq!(receipt(&outcomes[0]), "G1/M1");
    assert_eq!(outcomes[1], refused("1062", RefusalClass::Permanent));
    assert_eq!(outcomes[2], refused("1060", RefusalClass::NextChannel));
    assert_eq!(outcomes[3], refused("1030", RefusalClass::Retry));
}

#[tokio::test]
async fn a_failed_message_list_is_read_by_number() {
    let mut foreign = gift_sms("g_2.1.1");
    foreign.to = Private(crate::types::call::Address::Phone("+12025550123".to_owned()));
    let failed = json!({ "failedMessageList": [{ "to": "2025550123", "messageId": "M2", "statusCode": "1062" }] });
    let (server, solapi) = solapi(vec![group("G1", "PENDING"), Play::Reply(200, failed), group("G1", "SENDING")]).await;
    let outcomes = solapi.send(&[gift_sms("g_1.1.1"), foreign], DEADLINE).await;
    assert_eq!(receipt(&outcomes[0]), "G1/-");
    assert_eq!(outcomes[1], refused("1062", RefusalClass::Permanent));
    assert_eq!(server.seen()[1].json()["messages"][1]["country"], "1");
}

#[tokio::test]
async fn a_group_that_holds_nothing_is_not_sent() {
    let (server, solapi) = solapi(vec![group("G1", "PENDING"), registered(&["1062"])]).await;
    let outcomes = solapi.send(&[gift_sms("g_1.1.1")], DEADLINE).await;
    assert_eq!(outcomes[0], refused("1062", RefusalClass::Permanent));
    assert_eq!(server.seen().len(), 2);
}

#[tokio::test]
async fn a_failure_before_the_send_is_definite_and_at_the_send_unknown() {
    let denied = json!({ "errorCode": "InvalidAPIKey", "errorMessage": "-" });
    let skewed = json!({ "errorCode": "RequestTimeTooSkewed", "errorMessage": "-" });
    let script = vec![
        Play::Reply(403, denied),
        Play::Reply(403, skewed),
        Play::Drop,
        group("G2", "PENDING"),
        Play::Reply(500, json!({})),
        group("G3", "PENDING"),
        registered(&["2000"]),
        Play::Drop,
        group("G4", "PENDING"),
        registered(&["2000"]),
        Play::Reply(500, json!({})),
        group("G5", "PENDING"),
        registered(&["2000"]),
        Play::ReplyWith(429, "Retry-After", "3", json!({ "errorCode": "TooManyRequests" })),
    ];
    let (server, solapi) = solapi(script).await;
    let mut outcomes = Vec::new();
    for _ in 0..7 {
        outcomes.extend(solapi.send(&[gift_sms("g_1.1.1")], DEADLINE).await);
    }
    assert_eq!(outcomes[0], refused("InvalidAPIKey", RefusalClass::Permanent));
    assert_eq!(outcomes[1], refused("RequestTimeTooSkewed", RefusalClass::Retry));
    assert_eq!(outcomes[2], refused("no_reply_before_send", RefusalClass::Retry));
    assert_eq!(outcomes[3], refused("http_500", RefusalClass::Retry));
    assert!(is_unknown(&outcomes[4]) && is_unknown(&outcomes[5]), "{outcomes:?}");
    assert_eq!(outcomes[6], refused("TooManyRequests;retry-after=3", RefusalClass::Retry));
    assert!(server.is_done());
}

#[tokio::test]
async fn a_deadline_is_unknown_only_once_the_send_has_begun() {
    let script = vec![Play::Hold, group("G1", "PENDING"), registered(&["2000", "1062"]), Play::Hold];
    let (_server, solapi) = solapi(script).await;
    let outcomes = solapi.send(&[gift_sms("g_1.1.1")], TINY).await;
    assert!(matches!(&outcomes[0], MessageOutcome::Refused { class: RefusalClass::Retry, .. }), "{outcomes:?}");
    let outcomes = solapi.send(&[gift_sms("g_1.1.1"), gift_sms("g_2.1.1")], Millis(400)).await;
    assert!(is_unknown(&outcomes[0]), "{outcomes:?}");
    assert_eq!(outcomes[1], refused("1062", RefusalClass::Permanent), "a refusal stays one when the rest is unknown");
}

fn listed(messages: &[(&str, &str, &str, &str)], next: Value) -> Play {
    let messages: serde_json::Map<String, Value> = messages
        .iter()
        .map(|(id, group, code, reference)| {
            let message = json!({ "messageId": id, "groupId": group, "to": "01012345678", "statusCode": code,
                "customFields": { "reference": reference }, "dateCreated": "2026-12-24T14:58:00.500Z",
                "dateReceived": "2026-12-24T15:00:03.000Z" });
            ((*id).to_owned(), message)
        })
        .collect();
    Play::Reply(200, json!({ "startKey": null, "nextKey": next, "limit": 500, "messageList": messages }))
}

#[tokio::test]
async fn a_lookup_finds_a_sent_message_by_number_and_reference() {
    let script = vec![
        listed(&[("M0", "G0", "4000", "g_9.1.1")], json!("M0")),
        listed(&[("M1", "G1", "3000", "g_1.1.1")], Value::Null),
        listed(&[("M1", "G1", "2000", "g_1.1.1")], Value::Null),
        group("G1", "SENDING"),
    ];
    let (server, solapi) = solapi(script).await;
    let mut request = gift_sms("g_1.1.1");
    request.prior = Prior::Unknown { first_tried_at: christmas() - Millis::from_mins(2) };
    let at = Timestamp::parse_rfc3339("2026-12-24T14:58:00.500Z").unwrap();
    let found = LookupAnswer::Found { receipt: "G1/M1".to_owned(), at };
    assert_eq!(solapi.lookup(&request, DEADLINE).await, found);
    assert_eq!(solapi.lookup(&request, DEADLINE).await, found);
    let line = server.seen()[0].line.clone();
    assert!(line.contains("list?to=01012345678&startDate=2026-12-24T14%3A48%3A00.000Z&endDate="), "{line}");
    assert!(server.seen()[1].line.contains("startKey=M0"));
    assert!(server.seen()[3].line.starts_with("GET /messages/v4/groups/G1 "));
}

#[tokio::test]
async fn an_unsent_group_is_removed_before_absent_is_said() {
    let script = vec![
        listed(&[("M1", "G1", "2000", "g_1.1.1")], Value::Null),
        group("G1", "PENDING"),
        Play::Reply(200, json!({})),
        listed(&[], Value::Null),
        listed(&[("M1", "G1", "2000", "g_1.1.1")], Value::Null),
        group("G1", "PENDING"),
        Play::Reply(400, json!({ "errorCode": "InvalidStatus" })),
    ];
    let (server, solapi) = solapi(script).await;
    let request = gift_sms("g_1.1.1");
    assert_eq!(solapi.lookup(&request, DEADLINE).await, LookupAnswer::Absent);
    assert!(server.seen()[2].line.starts_with("DELETE /messages/v4/groups/G1 "));
    assert_eq!(solapi.lookup(&request, DEADLINE).await, LookupAnswer::Absent);
    let unsure = solapi.lookup(&request, DEADLINE).await;
    assert!(matches!(unsure, LookupAnswer::Unknown { .. }), "a group that may still be sent is not absent: {unsure:?}");
}

#[tokio::test]
async fn a_list_that_cannot_be_read_leaves_it_unknown() {
    let (_server, solapi) = solapi(vec![Play::Reply(500, json!({})), Play::Hold]).await;
    for _ in 0..2 {
        assert!(matches!(solapi.lookup(&gift_sms("g_1.1.1"), TINY).await, LookupAnswer::Unknown { .. }));
    }
}

#[tokio::test]
async fn a_poll_reports_what_is_final_and_ours() {
    let messages = [
        ("M1", "G1", "4000", "g_1.1.1"),
        ("M2", "G1", "3000", "g_2.1.1"),
        ("M3", "G1", "3043", "g_3.1.1"),
        ("M4", "G1", "4000", "someone else"),
    ];
    let (server, solapi) = solapi(vec![listed(&messages, Value::Null)]).await;
    let reports = solapi.poll(Span { since: christmas(), until: christmas() }, DEADLINE).await.unwrap();
    assert_eq!(reports.len(), 2);
    assert_eq!((reports[0].reference.as_str(), &reports[0].status), ("g_1.1.1", &ReportStatus::Delivered));
    assert_eq!(reports[0].at, christmas() + Millis::from_secs(3));
    let failed = ReportStatus::Failed { code: "3043".to_owned(), class: RefusalClass::NextChannel };
    assert_eq!((reports[1].reference.as_str(), &reports[1].status), ("g_3.1.1", &failed));
    assert!(server.seen()[0].line.contains("dateType=UPDATED"));
}

#[tokio::test]
async fn a_webhook_is_taken_only_with_the_digest_of_its_secret() {
    let (_server, solapi) = solapi(Vec::new()).await;
    let body = json!([
        { "messageId": "M1", "groupId": "G1", "statusCode": "4000", "customFields": { "reference": "g_1.1.1" } },
        { "messageId": "M2", "groupId": "G1", "statusCode": 3000, "customFields": { "reference": "g_2.1.1" } },
        { "messageId": "M3", "groupId": "G1", "statusCode": "4000", "customFields": {} },
    ])
    .to_string();
    let digest = hex::encode(Sha1::digest(b"dev-secret"));
    let signed = |text: &str| vec![("x-solapi-secret".to_owned(), text.to_owned())];
    let reports = solapi.webhook(&signed(&digest), body.as_bytes()).unwrap();
    assert_eq!(reports.len(), 1);
    assert_eq!((reports[0].reference.as_str(), reports[0].provider.as_str()), ("g_1.1.1", "solapi"));
    assert_eq!(solapi.webhook(&signed("dev-secret"), body.as_bytes()), Err(WebhookError::Unsigned));
    assert_eq!(solapi.webhook(&Vec::new(), body.as_bytes()), Err(WebhookError::Unsigned));
    assert!(matches!(solapi.webhook(&signed(&digest), b"{}"), Err(WebhookError::Malformed { .. })));
}

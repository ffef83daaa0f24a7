//! NHN Alimtalk v2.3 on the wire.

use super::{is_unknown, provider_of, receipt};
use crate::providers::settings::ProvidersConfig;
use crate::providers::testing::{DEADLINE, Play, TINY, WireServer, christmas, gift_kakao};
use crate::providers::{LookupAnswer, MessageProvider, Span, WebhookError};
use crate::types::call::{Address, MessageOutcome, Prior, RefusalClass, ReportStatus, Template};
use crate::types::contact::Private;
use crate::types::effect::Channel;
use crate::types::time::{Millis, Timestamp};
use serde_json::{Value, json};
use std::sync::Arc;

fn header(code: i64) -> Value {
    json!({ "resultCode": code, "resultMessage": "-", "isSuccessful": code == 0 })
}

fn sent(results: &[(i64, &str)]) -> Value {
    let results: Vec<Value> = results
        .iter()
        .enumerate()
        .map(|(index, (code, reference))| {
            json!({ "recipientSeq": index + 1, "recipientNo": "01012345678", "resultCode": code,
                    "resultMessage": "-", "recipientGroupingKey": reference })
        })
        .collect();
    json!({ "header": header(0), "message": { "requestId": "R1", "senderGroupingKey": "gift", "sendResults": results } })
}

async fn nhn(script: Vec<Play>) -> (WireServer, Arc<dyn MessageProvider>) {
    let server = WireServer::start(script).await;
    let (provider, _) = provider_of(&ProvidersConfig::sandbox(&server.base, "127.0.0.1:1"), Channel::Kakao);
    (server, provider)
}

fn refused(code: &str, class: RefusalClass) -> MessageOutcome {
    MessageOutcome::Refused { code: code.to_owned(), class }
}

#[tokio::test]
async fn a_gift_is_sent_with_its_reference_as_key_and_grouping_key() {
    let (server, nhn) = nhn(vec![Play::Reply(200, sent(&[(0, "g_1.1.1")]))]).await;
    let outcomes = nhn.send(&[gift_kakao("g_1.1.1")], DEADLINE).await;
    assert_eq!(receipt(&outcomes[0]), "R1/1");
    let seen = &server.seen()[0];
    assert_eq!(seen.line, "POST /alimtalk/v2.3/appkeys/dev-app/messages HTTP/1.1");
    assert_eq!(seen.header("x-secret-key"), Some("dev-secret"));
    assert_eq!(seen.header("x-nc-api-idempotency-key"), Some("g_1.1.1"));
    let expected = json!({
        "senderKey": "0".repeat(40),
        "templateCode": "gift_arrived",
        "senderGroupingKey": "gift",
        "recipientList": [{
            "recipientNo": "01012345678",
            "templateParameter": {
                "sender": "지민", "product": "커피", "link": "http://127.0.0.1:8080/g/001abc"
            },
            "resendParameter": { "isResend": false },
            "recipientGroupingKey": "g_1.1.1",
        }],
    });
    assert_eq!(seen.json(), expected);
}

#[tokio::test]
async fn a_half_failed_batch_has_an_outcome_for_each_member() {
    let results = sent(&[(-5000, "g_2.1.1"), (0, "g_1.1.1"), (-3004, "g_3.1.1")]);
    let (server, nhn) = nhn(vec![Play::Reply(200, results)]).await;
    let batch = ["g_1.1.1", "g_2.1.1", "g_3.1.1", "g_4.1.1"].map(gift_kakao);
    let outcomes = nhn.send(&batch, DEADLINE).await;
    assert_eq!(receipt(&outcomes[0]), "R1/2");
    assert_eq!(outcomes[1], refused("-5000", RefusalClass::NextChannel));
    assert_eq!(outcomes[2], refused("-3004", RefusalClass::Permanent));
    assert!(is_unknown(&outcomes[3]), "a member that the reply does not name is never called failed");
    let key = server.seen()[0].header("x-nc-api-idempotency-key").unwrap().to_owned();
    assert_eq!(key, "96f4b7f999f564f600df67f01cb51a72a2aaf82eef87942bc9d5c4cb3cd169ee");
}

#[tokio::test]
async fn the_same_batch_has_the_same_key_and_another_order_another() {
    let reply = || Play::Reply(200, sent(&[(0, "g_1.1.1"), (0, "g_2.1.1")]));
    let (server, nhn) = nhn(vec![reply(), reply(), reply()]).await;
    let (one, two) = (gift_kakao("g_1.1.1"), gift_kakao("g_2.1.1"));
    for batch in [[one.clone(), two.clone()], [one.clone(), two.clone()], [two, one]] {
        nhn.send(&batch, DEADLINE).await;
    }
    let seen = server.seen();
    let key = |index: usize| seen[index].header("x-nc-api-idempotency-key").unwrap().to_owned();
    assert_eq!((key(0), seen[0].body.clone()), (key(1), seen[1].body.clone()));
    assert_ne!(key(0), key(2));
}

#[tokio::test]
async fn members_of_two_templates_go_as_two_posts() {
    let replies = vec![
        Play::Reply(200, sent(&[(0, "g_1.1.1"), (0, "g_2.n.1.1")])),
        Play::Reply(200, sent(&[(0, "g_1.1.1"), (0, "g_2.n.1.1")])),
    ];
    let (server, nhn) = nhn(replies).await;
    let mut notice = gift_kakao("g_2.n.1.1");
    notice.template = Template::ExpiresInDays;
    let outcomes = nhn.send(&[gift_kakao("g_1.1.1"), notice], DEADLINE).await;
    assert!(outcomes.iter().all(|outcome| matches!(outcome, MessageOutcome::Accepted { .. })), "{outcomes:?}");
    let mut codes: Vec<Value> = server.seen().iter().map(|seen| seen.json()["templateCode"].clone()).collect();
    codes.sort_by_key(ToString::to_string);
    assert_eq!(codes, [json!("expires_in_days"), json!("gift_arrived")]);
}

#[tokio::test]
async fn what_nhn_would_refuse_for_one_member_does_not_cost_the_batch() {
    let server = WireServer::start(vec![Play::Reply(200, sent(&[(0, "g_1.1.1")]))]).await;
    let mut config = ProvidersConfig::sandbox(&server.base, "127.0.0.1:1");
    let settings = config.nhn_alimtalk.as_mut().unwrap();
    settings.new_profile = true;
    settings.link_prefix = "http://127.0.0.1:8080/g/".to_owned();
    let (nhn, _) = provider_of(&config, Channel::Kakao);
    let (mut long, mut mail, mut huge) = (gift_kakao("g_2.1.1"), gift_kakao("g_3.1.1"), gift_kakao("g_4.1.1"));
    long.variables[0].1 = Private("가".repeat(15));
    huge.variables[0].1 = Private("가".repeat(1_301));
    mail.to = Private(Address::Email("mina@example.com".to_owned()));
    let batch = [gift_kakao("g_1.1.1"), long, mail, huge];
    let refuses: Vec<bool> = batch.iter().map(|request| nhn.refuses(request)).collect();
    assert_eq!(refuses, [false, true, true, true], "without asking, so it shares no call where that matters");
    let outcomes = nhn.send(&batch, DEADLINE).await;
    assert_eq!(receipt(&outcomes[0]), "R1/1");
    assert_eq!(outcomes[1], refused("-1028", RefusalClass::Permanent));
    assert_eq!(outcomes[2], refused("address", RefusalClass::NextChannel));
    assert_eq!(outcomes[3], refused("-3048", RefusalClass::Permanent));
    let body = server.seen()[0].json();
    assert_eq!(body["recipientList"].as_array().unwrap().len(), 1);
    assert_eq!(body["recipientList"][0]["templateParameter"]["link"], "001abc");
}

#[tokio::test]
async fn refusals_and_unknown_outcomes_are_told_apart() {
    let only = |code| Play::Reply(200, json!({ "header": header(code) }));
    let script = vec![
        only(-1005),
        only(-3003),
        only(-9999),
        Play::Reply(500, json!({ "header": header(-9999) })),
        Play::ReplyWith(429, "Retry-After", "7", json!({ "header": header(-9999) })),
        Play::Reply(502, json!("bad gateway")),
        Play::Drop,
    ];
    let (server, nhn) = nhn(script).await;
    let batch = [gift_kakao("g_1.1.1")];
    let mut outcomes = Vec::new();
    for _ in 0..7 {
        outcomes.extend(nhn.send(&batch, DEADLINE).await);
    }
    assert!(is_unknown(&outcomes[0]), "-1005 means look up");
    assert_eq!(outcomes[1], refused("-3003", RefusalClass::Permanent));
    assert!(is_unknown(&outcomes[2]) && is_unknown(&outcomes[3]));
    assert_eq!(outcomes[4], refused("429;retry-after=7", RefusalClass::Retry));
    assert!(is_unknown(&outcomes[5]) && is_unknown(&outcomes[6]));
    assert!(server.is_done());
}

#[tokio::test]
async fn a_reply_that_never_comes_is_unknown_at_the_deadline_and_nobody_there_is_not() {
    let (_server, nhn) = nhn(vec![Play::Hold]).await;
    assert!(is_unknown(&nhn.send(&[gift_kakao("g_1.1.1")], TINY).await[0]));
    let (dead, _) = provider_of(&ProvidersConfig::sandbox("http://127.0.0.1:1", "127.0.0.1:1"), Channel::Kakao);
    let outcomes = dead.send(&[gift_kakao("g_1.1.1")], DEADLINE).await;
    assert_eq!(outcomes[0], refused("not_connected", RefusalClass::Retry));
}

fn found(reference: &str) -> Value {
    json!({ "header": header(0), "messageSearchResultResponse": { "totalCount": 1, "messages": [{
        "requestId": "R9", "recipientSeq": 3, "recipientNo": "01012345678", "createDate": "2026-12-25 00:00:01",
        "messageStatus": "COMPLETED", "resultCode": null, "resendStatus": "RSC01", "recipientGroupingKey": reference,
    }] } })
}

#[tokio::test]
async fn a_lookup_goes_by_reference_over_the_days_around_the_first_try() {
    let nothing = json!({ "header": header(0), "messageSearchResultResponse": { "messages": [], "totalCount": 0 } });
    let script = vec![
        Play::Reply(200, found("g_1.1.1")),
        Play::Reply(200, nothing),
        Play::Reply(200, found("g_1.1.10")),
        Play::Reply(200, json!({ "header": header(-9999) })),
        Play::Reply(500, json!({})),
    ];
    let (server, nhn) = nhn(script).await;
    let mut request = gift_kakao("g_1.1.1");
    request.prior = Prior::Unknown { first_tried_at: christmas() - Millis::from_mins(3) };
    let at = Timestamp::parse_rfc3339("2026-12-24T15:00:01Z").unwrap();
    assert_eq!(nhn.lookup(&request, DEADLINE).await, LookupAnswer::Found { receipt: "R9/3".to_owned(), at });
    assert_eq!(nhn.lookup(&request, DEADLINE).await, LookupAnswer::Absent);
    assert_eq!(nhn.lookup(&request, DEADLINE).await, LookupAnswer::Absent, "another reference is not ours");
    for _ in 0..2 {
        assert!(matches!(nhn.lookup(&request, DEADLINE).await, LookupAnswer::Unknown { .. }));
    }
    assert_eq!(
        server.seen()[0].line,
        "GET /alimtalk/v2.3/appkeys/dev-app/messages?startRequestDate=2026-12-24+23%3A47&\
         endRequestDate=2026-12-25+00%3A10&recipientGroupingKey=g_1.1.1&pageNum=1&pageSize=1000 HTTP/1.1"
    );
}

#[tokio::test]
async fn what_a_lookup_saw_of_a_message_comes_with_the_next_poll() {
    let row = json!({ "requestId": "R1", "recipientSeq": 1, "recipientGroupingKey": "g_1.1.1", "messageStatus": "FAILED",
                      "createDate": "2026-12-25 00:00:01", "resultCode": "3018" });
    let found = json!({ "header": header(0), "messageSearchResultResponse": { "messages": [row] } });
    let nothing = || Play::Reply(200, json!({ "header": header(0), "messages": [] }));
    let (_server, nhn) = nhn(vec![Play::Reply(200, found), nothing(), nothing()]).await;
    assert!(matches!(nhn.lookup(&gift_kakao("g_1.1.1"), DEADLINE).await, LookupAnswer::Found { .. }));
    let span = Span { since: christmas(), until: christmas() };
    let reports = nhn.poll(span, DEADLINE).await.unwrap();
    assert_eq!(reports.iter().map(|report| report.reference.as_str()).collect::<Vec<_>>(), ["g_1.1.1"]);
    assert!(matches!(&reports[0].status, ReportStatus::Failed { code, .. } if code == "3018"));
    assert_eq!(nhn.poll(span, DEADLINE).await, Ok(Vec::new()), "once");
}

#[tokio::test]
async fn a_poll_names_what_failed_by_listing_its_request() {
    let row = |sequence: u32, code: &str, resend: &str, status: &str| {
        json!({ "requestId": "R1", "recipientSeq": sequence, "requestDate": "2026-12-25 00:00:00",
                "createDate": "2026-12-25 00:00:00", "receiveDate": "2026-12-25 00:00:02", "resendStatus": resend,
                "messageStatus": status, "resultCode": code })
    };
    let updates = json!({ "header": header(0), "messages": [
        row(1, "1000", "RSC01", "COMPLETED"), row(2, "3019", "RSC01", "FAILED"), row(3, "3018", "RSC04", "FAILED"),
        row(4, "3018", "RSC03", "FAILED"), row(5, "3005", "RSC01", "COMPLETED"), row(6, "1000", "RSC01", "COMPLETED"),
    ] });
    let listed: Vec<Value> = (1..=5)
        .map(|n| json!({ "requestId": "R1", "recipientSeq": n, "recipientGroupingKey": format!("g_{n}.1.1") }))
        .collect();
    let listed = json!({ "header": header(0), "messageSearchResultResponse": { "messages": listed } });
    let (server, nhn) = nhn(vec![Play::Reply(200, updates), Play::Reply(200, listed)]).await;
    let reports = nhn.poll(Span { since: christmas(), until: christmas() }, DEADLINE).await.unwrap();
    let said: Vec<(&str, &ReportStatus)> = reports.iter().map(|r| (r.reference.as_str(), &r.status)).collect();
    let failed = ReportStatus::Failed { code: "3019".to_owned(), class: RefusalClass::NextChannel };
    assert_eq!(said, [("g_2.1.1", &failed)], "what was delivered is its sender's to tell");
    assert!(reports.iter().all(|report| report.at == christmas() + Millis::from_secs(2)));
    assert!(server.seen()[1].line.contains("messages?requestId=R1&"), "{}", server.seen()[1].line);
}

#[tokio::test]
async fn a_poll_knows_what_this_node_sent_and_tells_it_once() {
    let row = |sequence: u32, code: &str| json!({ "requestId": "R1", "recipientSeq": sequence, "resultCode": code });
    let updates = || Play::Reply(200, json!({ "header": header(0), "messages": [row(1, "1000"), row(2, "3019")] }));
    let sent = Play::Reply(200, sent(&[(0, "g_1.1.1"), (0, "g_2.1.1")]));
    let (server, nhn) = nhn(vec![sent, updates(), updates()]).await;
    nhn.send(&["g_1.1.1", "g_2.1.1"].map(gift_kakao), DEADLINE).await;
    let mut polled = Vec::new();
    for _ in 0..2 {
        let reports = nhn.poll(Span { since: christmas(), until: christmas() }, DEADLINE).await.unwrap();
        polled.push(reports.into_iter().map(|report| report.reference).collect::<Vec<_>>());
    }
    assert_eq!(polled, [vec!["g_1.1.1", "g_2.1.1"], vec!["g_2.1.1"]]);
    assert!(server.is_done(), "no request was listed");
}

#[tokio::test]
async fn a_webhook_is_taken_only_with_its_signature() {
    let (_server, nhn) = nhn(Vec::new()).await;
    let hook = |code: &str, reference: &str| {
        json!({ "kakaoMessageType": "ALIMTALK_NORMAL", "requestId": "R1", "recipientSeq": 1, "resultCode": code,
                "receiveDate": "2026-12-25 00:00:02", "recipientGroupingKey": reference, "hookId": "H1" })
    };
    let body = json!({ "hooksId": "X", "webhookConfigId": "C", "productName": "KakaoTalk Bizmessage",
        "appKey": "dev-app", "event": "MESSAGE_RESULT_UPDATE",
        "hooks": [hook("3005", "g_1.1.1"), hook("4161", "g_1.1.1"), hook("3020", "g_2.1.1"), hook("1000", "")] });
    let body = body.to_string();
    let signed = |text: &str| vec![("x-toast-webhook-signature".to_owned(), text.to_owned())];
    let reports = nhn.webhook(&signed("dev-secret"), body.as_bytes()).unwrap();
    assert_eq!(reports.len(), 2);
    assert_eq!((reports[0].reference.as_str(), &reports[0].status), ("g_1.1.1", &ReportStatus::SentUnconfirmed));
    let failed = ReportStatus::Failed { code: "3020".to_owned(), class: RefusalClass::NextChannel };
    assert_eq!((reports[1].reference.as_str(), &reports[1].status), ("g_2.1.1", &failed));
    assert_eq!(nhn.webhook(&signed("dev-secre"), body.as_bytes()), Err(WebhookError::Unsigned));
    assert_eq!(nhn.webhook(&Vec::new(), body.as_bytes()), Err(WebhookError::Unsigned));
    let other = json!({ "event": "TEMPLATE_STATUS_UPDATE", "hooks": [{ "templateCode": "x" }] }).to_string();
    assert_eq!(nhn.webhook(&signed("dev-secret"), other.as_bytes()), Ok(Vec::new()));
    assert!(matches!(nhn.webhook(&signed("dev-secret"), b"[]"), Err(WebhookError::Malformed { .. })));
}

#[test]
fn result_codes_mean_what_the_facts_sheet_says() {
    use crate::providers::nhn_codes::result_status;
    let class = |code: &str| match result_status(code) {
        Some(ReportStatus::Failed { class, .. }) => Some(class),
        Some(ReportStatus::Delivered | ReportStatus::SentUnconfirmed) | None => None,
    };
    assert_eq!(result_status("1000"), Some(ReportStatus::Delivered));
    assert_eq!(result_status("3005"), Some(ReportStatus::SentUnconfirmed));
    for code in ["3008", "3018", "3019", "3020"] {
        assert_eq!(class(code), Some(RefusalClass::NextChannel), "{code}");
    }
    for code in ["3012", "4131", "4143", "9998", "9999"] {
        assert_eq!(class(code), Some(RefusalClass::Retry), "{code}");
    }
    assert_eq!(class("3016"), Some(RefusalClass::Permanent));
    assert_eq!(result_status("4161"), None);
}

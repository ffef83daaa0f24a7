//! Webhooks from anyone: unsigned, wrongly signed, replayed, huge, and payment webhooks, which are hints only.

use crate::refused;
use crate::support::{Reply, Stack};
use crate::world;
use serde_json::{Value, json};

/// The sandbox's signature.
const SIGNATURE: (&str, &str) = ("X-Toast-Webhook-Signature", "dev-secret");

fn hook(stack: &Stack, provider: &str, body: &Value, headers: &[(&str, &str)]) -> Reply {
    stack.call_with("POST", &format!("/v1/providers/{provider}/webhook"), None, None, Some(body.clone()), headers)
}

fn result(reference: &str, code: &str) -> Value {
    json!({"event": "MESSAGE_RESULT_UPDATE", "hooks": [{
        "hookId": "h-1", "requestId": "r-1", "recipientSeq": 1, "recipientGroupingKey": reference,
        "resultCode": code, "messageStatus": if code == "1000" { "COMPLETED" } else { "FAILED" },
        "createDate": "2026-12-01 10:00:00", "receiveDate": "2026-12-01 10:00:01"}]})
}

fn sent(stack: &Stack) -> String {
    stack.put_product("americano", 4_500, 30);
    let id = stack.reserved(stack.gift_body("americano", &stack.in_minutes(30)));
    stack.await_status(&id, "scheduled");
    stack.advance(32 * 60);
    id
}

#[test]
fn a_report_counts_only_with_its_signature_and_only_once() {
    let stack = Stack::start();
    let id = sent(&stack);
    stack.advance(60);
    let before = (world(&stack), stack.gift(&id));
    let reference = stack.ledger("message", &id)[0]["reference"].as_str().unwrap().to_owned();
    let failed = result(&reference, "3018");
    let unsigned: [&[(&str, &str)]; 5] = [
        &[],
        &[("X-Toast-Webhook-Signature", "")],
        &[("X-Toast-Webhook-Signature", "wrong")],
        &[("X-Toast-Webhook-Signature", "dev-secret ,x")],
        &[("X-Toast-Webhook-Signature", "wrong"), SIGNATURE],
    ];
    for headers in unsigned {
        assert_eq!(refused(&hook(&stack, "nhn", &failed, headers), 401), "webhook_unsigned", "{headers:?}");
    }
    assert_eq!(
        refused(&hook(&stack, "solapi", &json!([]), &[("X-Solapi-Secret", "dev-secret")]), 401),
        "webhook_unsigned"
    );
    let malformed = [json!({}), json!([]), json!({"event": "MESSAGE_RESULT_UPDATE", "hooks": [7]}), json!("x")];
    for body in malformed {
        assert_eq!(refused(&hook(&stack, "nhn", &body, &[SIGNATURE]), 400), "bad_request", "{body}");
    }
    for provider in ["nobody", "NHN", "..%2fnhn", "%ff", &"x".repeat(200)] {
        let reply = hook(&stack, provider, &failed, &[SIGNATURE]);
        assert!([400, 404].contains(&reply.status), "{provider}: {}", reply.text);
    }
    let huge = json!({"event": "x".repeat(300_000), "hooks": []});
    assert_eq!(refused(&hook(&stack, "nhn", &huge, &[SIGNATURE]), 413), "payload_too_large");
    assert_eq!((world(&stack), stack.gift(&id)), before);
    // Signed: repeats of what is known, and reports of what was never sent.
    let strangers = [
        format!("g_{}.0.1", "7".repeat(32)),
        format!("{id}.9.9"),
        format!("{id}.0.99999999999999999999"),
        format!("{id}."),
        format!("{id}.n1.1"),
        "g_.0.1".to_owned(),
        ".".to_owned(),
        "x".repeat(500),
    ];
    for reference in strangers.iter().chain([&reference; 5]) {
        let reply = hook(&stack, "nhn", &result(reference, "1000"), &[SIGNATURE]);
        assert_eq!(reply.status, 200, "{reference}: {}", reply.text);
    }
    assert_eq!((world(&stack), stack.gift(&id)), before, "nothing new was said");
}

#[test]
fn a_payment_webhook_is_only_a_hint_whatever_it_says() {
    let stack = Stack::start();
    let id = sent(&stack);
    let other = stack.reserved(stack.gift_body("americano", &stack.in_minutes(300)));
    stack.await_status(&other, "scheduled");
    let before = (world(&stack), stack.gift(&id), stack.gift(&other));
    let change = |order: &str, status: &str, amount: i64| {
        let data = json!({"orderId": order, "paymentKey": "tok_evil", "status": status, "totalAmount": amount,
            "balanceAmount": 0, "cancels": [{"cancelAmount": amount, "cancelStatus": "DONE"}], "secret": "x"});
        json!({"eventType": "PAYMENT_STATUS_CHANGED", "createdAt": "2026-12-01T00:00:00.000000", "data": data})
    };
    for order in [id.as_str(), &other, &format!("g_{}", "7".repeat(32)), "p_x", "x"] {
        for (status, amount) in [("CANCELED", 4_500), ("DONE", 1), ("DONE", i64::MAX), ("ABORTED", 0), ("EXPIRED", -1)]
        {
            for _replay in 0..2 {
                assert_eq!(hook(&stack, "toss", &change(order, status, amount), &[]).status, 200, "{order} {status}");
            }
        }
    }
    for body in [json!({}), json!({"eventType": "PAYMENT_STATUS_CHANGED"}), json!([1]), change("", "DONE", 1)] {
        assert_eq!(refused(&hook(&stack, "toss", &body, &[]), 400), "bad_request", "{body}");
    }
    assert_eq!((world(&stack), stack.gift(&id), stack.gift(&other)), before, "the provider is asked, not the webhook");
}

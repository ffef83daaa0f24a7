//! The shipping provider on the wire.

use crate::providers::ShippingProvider;
use crate::providers::settings::{ProvidersConfig, build_shipping_provider};
use crate::providers::testing::{DEADLINE, Play, TINY, WireServer, still_clock};
use crate::types::call::{Parcel, Prior, RefusalClass, ShipTo, ShipmentOperation, ShipmentOutcome, ShipmentRequest};
use crate::types::contact::Private;
use crate::types::time::{Clock, Timestamp};
use serde_json::json;
use std::sync::Arc;

const ORDER: &str = "o_00112233445566778899aabbccddeeff";
const PATH: &str = "/shipping/v1/shipments/o_00112233445566778899aabbccddeeff";

fn provider(base: &str) -> Arc<dyn ShippingProvider> {
    let clock: Arc<dyn Clock> = still_clock();
    build_shipping_provider(&ProvidersConfig::sandbox(base, "127.0.0.1:1"), &clock).unwrap().unwrap()
}

async fn shipping(script: Vec<Play>) -> (WireServer, Arc<dyn ShippingProvider>) {
    let server = WireServer::start(script).await;
    let provider = provider(&server.base);
    (server, provider)
}

fn request(operation: ShipmentOperation) -> ShipmentRequest {
    let (reference, idempotency_key) = (ORDER.to_owned(), format!("{ORDER}.shipping.4"));
    ShipmentRequest { reference, operation, idempotency_key, prior: Prior::None }
}

fn prepare() -> ShipmentRequest {
    let to = ShipTo { name: "지민".to_owned(), phone: None, address: "서울".to_owned() };
    let parcels = vec![Parcel { sku: "mug".to_owned(), quantity: 2 }];
    request(ShipmentOperation::Prepare { parcels, to: Some(Private(to)) })
}

fn cancel() -> ShipmentRequest {
    request(ShipmentOperation::Cancel { reason: "cancelled".to_owned() })
}

fn lookup() -> ShipmentRequest {
    request(ShipmentOperation::Lookup)
}

fn shipment(status: &str) -> Play {
    let at = "2026-12-25T00:00:01+09:00";
    Play::Reply(200, json!({ "reference": ORDER, "status": status, "tracking": "SB1", "at": at }))
}

fn error(status: u16, code: &str) -> Play {
    Play::Reply(status, json!({ "code": code }))
}

fn at() -> Timestamp {
    Timestamp::parse_rfc3339("2026-12-24T15:00:01Z").unwrap()
}

fn prepared() -> ShipmentOutcome {
    ShipmentOutcome::Prepared { provider: "shipping".to_owned(), tracking: "SB1".to_owned(), at: at() }
}

fn refused(code: &str, class: RefusalClass) -> ShipmentOutcome {
    ShipmentOutcome::Refused { code: code.to_owned(), class }
}

fn is_unknown(outcome: &ShipmentOutcome) -> bool {
    matches!(outcome, ShipmentOutcome::Unknown { .. })
}

#[tokio::test]
async fn goods_are_prepared_under_our_reference_and_key() {
    let (server, shipping) = shipping(vec![shipment("prepared")]).await;
    assert_eq!(shipping.perform(&prepare(), DEADLINE).await, prepared());
    let seen = &server.seen()[0];
    assert_eq!(seen.line, format!("POST {PATH} HTTP/1.1"));
    assert_eq!(seen.header("authorization"), Some("Bearer dev-key"));
    assert_eq!(seen.header("idempotency-key"), Some(format!("{ORDER}.shipping.4").as_str()));
    let to = json!({ "name": "지민", "phone": null, "address": "서울" });
    assert_eq!(seen.json(), json!({ "items": [{ "sku": "mug", "quantity": 2 }], "to": to }));
}

#[tokio::test]
async fn a_cancel_and_a_lookup_ask_by_the_same_reference() {
    let script = vec![shipment("cancelled"), shipment("prepared"), error(404, "NOT_FOUND"), shipment("cancelled")];
    let (server, shipping) = shipping(script).await;
    assert_eq!(shipping.perform(&cancel(), DEADLINE).await, ShipmentOutcome::Cancelled { at: at() });
    assert_eq!(shipping.perform(&lookup(), DEADLINE).await, prepared());
    assert_eq!(shipping.perform(&lookup(), DEADLINE).await, ShipmentOutcome::Absent);
    assert_eq!(shipping.perform(&lookup(), DEADLINE).await, ShipmentOutcome::Cancelled { at: at() });
    let seen = server.seen();
    assert_eq!(seen[0].line, format!("POST {PATH}/cancel HTTP/1.1"));
    assert_eq!(seen[0].json(), json!({ "reason": "cancelled" }));
    assert_eq!(seen[1].line, format!("GET {PATH} HTTP/1.1"));
    assert!(server.is_done());
}

#[tokio::test]
async fn refusals_are_final_or_for_now() {
    let now = Play::ReplyWith(503, "Retry-After", "1", serde_json::Value::Null);
    for (call, play, expected) in [
        (prepare(), error(422, "GOODS_REFUSED"), refused("GOODS_REFUSED", RefusalClass::Permanent)),
        (prepare(), error(409, "CANCELLED"), refused("CANCELLED", RefusalClass::Permanent)),
        (cancel(), error(409, "ALREADY_SHIPPED"), refused("ALREADY_SHIPPED", RefusalClass::Permanent)),
        (prepare(), error(429, "SLOW"), refused("SLOW", RefusalClass::Retry)),
    ] {
        let (_server, shipping) = shipping(vec![play]).await;
        assert_eq!(shipping.perform(&call, DEADLINE).await, expected);
    }
    let (_server, shipping) = shipping(vec![now]).await;
    let outcome = shipping.perform(&prepare(), DEADLINE).await;
    assert!(is_unknown(&outcome), "a 503 with a body is the provider's own: {outcome:?}");
}

#[tokio::test]
async fn whatever_is_ambiguous_is_unknown_and_what_never_left_says_so() {
    let other = Play::Reply(200, json!({ "reference": "o_other", "status": "prepared", "tracking": "SB1" }));
    let script = vec![error(500, "X"), error(404, "NOT_FOUND"), shipment("lost"), other, Play::Drop];
    let count = script.len();
    let (server, shipping) = shipping(script).await;
    for _ in 0..count {
        let outcome = shipping.perform(&prepare(), DEADLINE).await;
        assert!(is_unknown(&outcome), "{outcome:?}");
    }
    assert!(server.is_done());
    let (_server, shipping) = self::shipping(vec![Play::Hold]).await;
    assert!(is_unknown(&shipping.perform(&prepare(), TINY).await));
    let outcome = provider("http://127.0.0.1:1").perform(&prepare(), DEADLINE).await;
    assert!(matches!(outcome, ShipmentOutcome::NotSent { .. }), "{outcome:?}");
}

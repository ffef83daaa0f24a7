//! Operators, providers, dev mode, probes and the description.

use super::*;
use crate::types::call::{
    CallOutcome, CallRequest, MessageOutcome, PaymentOperation, PaymentOutcome, RefusalClass, ShipmentOutcome,
};
use crate::types::time::{Millis, Timestamp};
use std::sync::atomic::Ordering;

/// Every channel refuses for good, and so does every refund.
pub fn refuse(request: &CallRequest, now: Timestamp) -> CallOutcome {
    let code = "E1".to_owned();
    match request {
        CallRequest::Message(_) => {
            CallOutcome::Message(MessageOutcome::Refused { code, class: RefusalClass::Permanent })
        }
        CallRequest::Payment(payment) => match &payment.operation {
            PaymentOperation::Cancel { .. } => {
                CallOutcome::Payment(PaymentOutcome::RefundRefused { code, class: RefusalClass::Permanent })
            }
            PaymentOperation::Confirm { .. } | PaymentOperation::Lookup { .. } => {
                super::memory::kind_answer(request, now)
            }
        },
        CallRequest::Shipment(_) => {
            CallOutcome::Shipment(ShipmentOutcome::Refused { code, class: RefusalClass::Permanent })
        }
        CallRequest::Entity(_) => super::memory::kind_answer(request, now),
    }
}

#[tokio::test]
async fn products_are_put_and_listed() {
    let house = House::new();
    let body = json!({"name": "라떼", "price": {"value": 5000, "currency": "KRW"}, "validity_days": 90,
        "policy": {"transfers_max": 2, "quiet_hours": null, "reminder_days": [7, 1], "decline": "never"}});
    let made = house.put("/v1/ops/products/latte").operator().json(&body).send().await;
    assert_eq!(made.status, 201, "{}", made.text());
    assert_eq!(made.json()["validity_days"], 90);
    assert_eq!(made.json()["transfers_max"], 2);
    assert_eq!(house.put("/v1/ops/products/latte").operator().json(&body).send().await.status, 200);
    let list = house.get("/v1/products").user("u-1").send().await.json();
    assert_eq!(list["items"][0]["id"], "latte");
    assert_eq!(house.get("/v1/ops/products/latte").operator().send().await.json()["name"], "라떼");
    assert_eq!(house.get("/v1/ops/products/mocha").operator().send().await.problem().0, 404);
    let alias = json!({"name": "차", "price": {"value": 1, "currency": "KRW"}, "valid_days": 7});
    assert_eq!(house.put("/v1/ops/products/tea").operator().json(&alias).send().await.json()["validity_days"], 7);
    let both = json!({"name": "차", "price": {"value": 1, "currency": "KRW"}, "valid_days": 7, "validity_days": 8});
    let refused = house.put("/v1/ops/products/tea").operator().json(&both).send().await;
    assert_eq!((refused.status.as_u16(), refused.pointers()), (422, vec!["/valid_days".to_owned()]));
    let bad = json!({"name": "", "price": {"value": 0, "currency": "USD"}, "validity_days": 70_000,
        "active": "yes", "policy": {"decline": "maybe", "x": 1}});
    let refused = house.put("/v1/ops/products/latte").operator().json(&bad).send().await;
    for pointer in
        ["/name", "/price/value", "/price/currency", "/validity_days", "/active", "/policy/decline", "/policy/x"]
    {
        assert!(refused.pointers().contains(&pointer.to_owned()), "{pointer}: {}", refused.text());
    }
    let policy = json!({"name": "x", "price": {"value": 1, "currency": "KRW"}, "policy": {"reminder_hour": 24}});
    assert_eq!(house.put("/v1/ops/products/x").operator().json(&policy).send().await.problem().0, 422);
}

#[tokio::test]
async fn a_price_change_leaves_promises_alone_and_is_seen_at_once() {
    let house = House::open().await;
    let before = house.reserve("u-1", "a").await;
    house.stock("americano", 9000).await;
    assert_eq!(house.reserve("u-1", "b").await["amount"]["value"], 9000);
    let id = before["id"].as_str().unwrap();
    assert_eq!(house.get(&format!("/v1/gifts/{id}")).user("u-1").send().await.json()["amount"]["value"], 4500);
}

#[tokio::test]
async fn dead_letters_are_listed_replayed_and_discarded() {
    let house = House::open().await;
    let gift = house.reserve("u-1", "k").await;
    let id = gift["id"].as_str().unwrap().to_owned();
    house.door.settle();
    house.door.pass(Millis::from_days(25));
    house.door.settle_with(&refuse);
    let list = house.get("/v1/ops/dead-letters?limit=100").operator().send().await.json();
    let letters = list["items"].as_array().unwrap();
    let send = letters.iter().find(|letter| letter["command"] == "send").unwrap_or_else(|| panic!("{list}"));
    assert_eq!(send["id"], id.as_str());
    assert_eq!(send["money_held"]["value"], 4500);
    assert_eq!(send["cause"], "E1");
    let path = format!("/v1/ops/dead-letters/{id}");
    assert_eq!(house.post(&format!("{path}/replay")).operator().send().await.problem().0, 400);
    let replay = house.post(&format!("{path}/replay")).operator().key("r").json(&json!({})).send().await;
    assert_eq!(replay.status, 200, "{}", replay.text());
    assert_eq!(replay.json()["is_dead_letter"], false);
    house.door.settle();
    let again = house.post(&format!("{path}/replay")).operator().key("r").json(&json!({})).send().await;
    assert_eq!(again.bytes, replay.bytes);
    assert_eq!(
        house.post(&format!("{path}/replay")).operator().key("r2").send().await.problem().1,
        "not_a_dead_letter"
    );
    let none = house.post(&format!("{path}/discard")).operator().key("d").json(&json!({})).send().await;
    assert_eq!(none.pointers(), ["/reason"]);
    for letter in letters.iter().filter(|letter| letter["command"] == "notice") {
        let path = format!("/v1/ops/dead-letters/{}/discard", letter["id"].as_str().unwrap());
        let body = json!({"reason": "not needed"});
        assert_eq!(house.post(&path).operator().key("d").json(&body).send().await.status, 200);
    }
    let left = house.get("/v1/ops/dead-letters").operator().send().await.json();
    assert_eq!(left["items"], json!([]));
}

#[tokio::test]
async fn the_books_balance_over_every_gift() {
    let house = House::open().await;
    for number in 0..3 {
        house.reserve("u-1", &format!("k{number}")).await;
    }
    house.door.settle();
    let gift = house.reserve("u-2", "c").await;
    house.door.settle();
    let cancel = format!("/v1/gifts/{}/cancel", gift["id"].as_str().unwrap());
    house.post(&cancel).user("u-2").key("x").send().await;
    house.door.settle();
    let books = house.get("/v1/ops/reconciliation").operator().send().await.json();
    assert_eq!(books["balanced"], true, "{books}");
    assert_eq!((&books["gifts"], &books["broken"]), (&json!(4), &json!([])));
    assert_eq!(books["paid"]["value"], 4 * 4500);
    assert_eq!(books["held"]["value"], 3 * 4500);
    assert_eq!(books["refunded"]["value"], 4500);
    assert_eq!(books["by_status"]["refunded"]["gifts"], 1);
    let open = house.get("/v1/ops/reconciliation?scope=open").operator().send().await.json();
    assert_eq!(open["gifts"], 3);
    assert_eq!(house.get("/v1/ops/reconciliation?scope=x").operator().send().await.problem().0, 422);
}

#[tokio::test]
async fn webhooks_are_taken_as_the_provider_allows() {
    let house = House::new();
    let hook = |provider: &str, signature: &'static str, body: &[u8]| {
        let call = house.post(&format!("/v1/providers/{provider}/webhook")).header("x-signature", signature);
        call.bytes(body).send()
    };
    assert_eq!(hook("toss", "good", b"{}").await.status, 200);
    assert_eq!(hook("toss", "bad", b"{}").await.problem(), (401, "webhook_unsigned".into()));
    assert_eq!(hook("toss", "good", b"x").await.problem(), (400, "bad_request".into()));
    assert_eq!(hook("nobody", "good", b"{}").await.problem(), (404, "not_found".into()));
    let batch = [&b"{"[..], &vec![b' '; 100_000]].concat();
    assert_eq!(hook("toss", "good", &batch).await.status, 200);
    assert_eq!(hook("toss", "good", &vec![b'{'; 300_000]).await.problem().0, 413);
}

#[tokio::test]
async fn dev_routes_exist_in_dev_mode_only() {
    let house = House::new();
    let clock = house.get("/v1/dev/clock").send().await.json();
    assert_eq!(clock["now"], "2026-12-01T00:00:00.000Z");
    let moved = house.post("/v1/dev/clock").json(&json!({"advance_seconds": 60})).send().await.json();
    assert_eq!(moved, json!({"now": "2026-12-01T00:01:00.000Z", "settled": true}));
    assert_eq!(house.post("/v1/dev/clock").json(&json!({"advance_seconds": -1})).send().await.problem().0, 422);
    let token = house.post("/v1/dev/token").json(&json!({"role": "user", "sub": "u-9"})).send().await.json();
    let token = format!("Bearer {}", token["token"].as_str().unwrap());
    assert_eq!(house.get("/v1/gifts").header("authorization", token).send().await.status, 200);
    let bad = house.post("/v1/dev/token").json(&json!({"role": "root"})).send().await;
    assert_eq!(bad.pointers(), ["/role", "/sub"]);
    let door = MemoryDoor::new(NOW);
    door.dev.store(false, Ordering::SeqCst);
    let app = Shared::new(options(), door.clone(), CancellationToken::new());
    let serve = House { router: routes(&app), door, app };
    for (method, path) in [("GET", "/v1/dev/clock"), ("POST", "/v1/dev/clock"), ("POST", "/v1/dev/token")] {
        assert_eq!(serve.call(method, path).json(&json!({})).send().await.problem(), (404, "not_found".into()));
    }
}

#[tokio::test]
async fn a_backup_is_read_by_operators_alone_in_whole_pages() {
    let house = House::open().await;
    let rows = "/v1/ops/backup/shards/3/rows";
    for path in ["/v1/ops/backup", rows, "/v1/ops/backup/shards/3/log?after=7"] {
        let user = house.get(path).header("authorization", bearer(Role::User, "x")).send().await;
        assert_eq!(user.problem().0, 403, "{path}");
        assert_eq!(house.get(path).send().await.problem().0, 401, "{path}");
    }
    let ask = |path: String| house.get(&path).operator();
    assert_eq!(ask(format!("{rows}?cursor=0aff")).send().await.text(), "Rows { shard: ShardId(3), cursor: [10, 255] }");
    let log = ask("/v1/ops/backup/shards/3/log?after=7".to_owned()).send().await;
    assert_eq!(
        (log.text().as_str(), log.header("content-type")),
        ("Log { shard: ShardId(3), after: LogIndex(7) }", "application/octet-stream")
    );
    for bad in ["?cursor=", "?cursor=xy", "?other=1"] {
        assert_eq!(ask(format!("{rows}{bad}")).send().await.problem().0, 422, "{bad}");
    }
    for strange in ["9999", "-1", "x"] {
        assert_eq!(ask(format!("/v1/ops/backup/shards/{strange}/rows")).send().await.problem().0, 404, "{strange}");
    }
}

#[tokio::test]
async fn probes_views_and_strange_paths_answer_in_kind() {
    let house = House::new();
    assert_eq!(house.get("/healthz").send().await.json(), json!({"status": "ok"}));
    assert_eq!(house.get("/readyz").send().await.status, 200);
    house.app.shutdown.cancel();
    assert_eq!(house.get("/readyz").send().await.problem().0, 503);
    assert_eq!(house.get("/metrics").send().await.problem().0, 404);
    assert_eq!(house.get("/v1/nothing").send().await.problem(), (404, "not_found".into()));
    let wrong = house.call("DELETE", "/v1/gifts").send().await;
    assert_eq!(wrong.problem(), (405, "method_not_allowed".into()));
    assert!(wrong.header("allow").contains("POST"), "{:?}", wrong.headers);
    let view = house.get("/v1/ops/forecast?hours=3").operator().send().await.json();
    assert_eq!(view["view"], "Forecast { hours: 3 }");
    let traced =
        house.get("/v1/nothing").header("traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01");
    assert_eq!(traced.send().await.header("x-trace-id"), "4bf92f3577b34da6a3ce929d0e0e4736");
}

#[tokio::test]
async fn an_order_to_the_cluster_needs_a_key_and_is_given_once_under_it() {
    let house = House::open().await;
    for (what, body) in [
        ("tokens", json!({"seconds": 60})),
        ("drain", json!({"node": 2})),
        ("remove", json!({"node": 2})),
        ("transfer", json!({"shard": 7, "to": 2})),
        ("rebalance", json!({})),
        ("finalize-upgrade", json!({})),
    ] {
        let path = format!("/v1/ops/cluster/{what}");
        let post = || house.call("POST", &path).operator();
        assert_eq!(post().json(&body).send().await.problem(), (400, "idempotency_key_required".into()), "{what}");
        let first = post().key("k").json(&body).send().await;
        assert_eq!((first.status.as_u16(), first.header("idempotent-replayed")), (200, ""), "{what}");
        let again = post().key("k").json(&body).send().await;
        assert_eq!((again.text(), again.header("idempotent-replayed")), (first.text(), "true"), "{what}");
        assert_eq!(post().key("k").json(&json!({"x": 1})).send().await.problem().0, 422, "{what}");
    }
    let undo = house.call("POST", "/v1/ops/cluster/drain").operator().key("k");
    let other = undo.json(&json!({"node": 2, "undo": true})).send().await;
    assert_eq!(other.problem(), (422, "idempotency_key_reused".into()));
}

/// Every call of the contract.
const CALLS: [(&str, &str); 63] = [
    ("/v1/gifts", "post"),
    ("/v1/gifts", "get"),
    ("/v1/gifts/{id}", "get"),
    ("/v1/gifts/{id}", "patch"),
    ("/v1/gifts/{id}/cancel", "post"),
    ("/v1/gifts/{id}/events", "get"),
    ("/v1/gifts/{id}/notices", "get"),
    ("/v1/gifts/{id}/stream", "get"),
    ("/g/{token}", "get"),
    ("/v1/links/{token}", "get"),
    ("/v1/links/{token}/accept", "post"),
    ("/v1/links/{token}/decline", "post"),
    ("/v1/links/{token}/transfer", "post"),
    ("/v1/vouchers/redeem", "post"),
    ("/v1/vouchers/redeem/cancel", "post"),
    ("/v1/ops/cluster", "get"),
    ("/v1/ops/forecast", "get"),
    ("/v1/ops/dead-letters", "get"),
    ("/v1/ops/dead-letters/{id}/replay", "post"),
    ("/v1/ops/dead-letters/{id}/discard", "post"),
    ("/v1/ops/reconciliation", "get"),
    ("/v1/ops/gateways", "get"),
    ("/v1/ops/alerts", "get"),
    ("/v1/ops/orders/{id}/erase", "post"),
    ("/v1/ops/orders/{id}/erasure", "get"),
    ("/v1/ops/wallets/{id}/erase", "post"),
    ("/v1/ops/wallets/{id}/erasure", "get"),
    ("/v1/orders/{id}/notices", "get"),
    ("/v1/me/items", "get"),
    ("/v1/ops/products/{id}", "put"),
    ("/v1/coupon-campaigns", "post"),
    ("/v1/coupon-campaigns", "get"),
    ("/v1/coupon-campaigns/{id}", "get"),
    ("/v1/coupon-campaigns/{id}/claims", "post"),
    ("/v1/coupon-campaigns/{id}/stream", "get"),
    ("/v1/coupons", "get"),
    ("/v1/coupons/{id}", "get"),
    ("/v1/coupons/{id}/use", "post"),
    ("/v1/shows", "post"),
    ("/v1/shows", "get"),
    ("/v1/shows/ranking", "get"),
    ("/v1/shows/{id}", "get"),
    ("/v1/shows/{id}/seats", "get"),
    ("/v1/shows/{id}/queue", "post"),
    ("/v1/shows/{id}/queue/{ticket}", "get"),
    ("/v1/shows/{id}/queue/{ticket}/stream", "get"),
    ("/v1/shows/{id}/reservations", "post"),
    ("/v1/reservations", "get"),
    ("/v1/reservations/{id}", "get"),
    ("/v1/reservations/{id}/payment", "post"),
    ("/v1/reservations/{id}/cancel", "post"),
    ("/v1/reservations/{id}/events", "get"),
    ("/v1/reservations/{id}/stream", "get"),
    ("/v1/providers/{provider}/webhook", "post"),
    ("/v1/dev/clock", "get"),
    ("/v1/dev/clock", "post"),
    ("/v1/dev/token", "post"),
    ("/v1/dev/links/{gift_id}", "get"),
    ("/healthz", "get"),
    ("/readyz", "get"),
    ("/metrics", "get"),
    ("/openapi.json", "get"),
    ("/docs", "get"),
];

/// Described bodies, and where each goes.
const BODIES: [(&str, &str, &str); 10] = [
    ("NewGiftBody", "POST", "/v1/gifts"),
    ("RedeemBody", "POST", "/v1/vouchers/redeem"),
    ("ProductBody", "PUT", "/v1/ops/products/x"),
    ("CampaignBody", "POST", "/v1/coupon-campaigns"),
    ("OrderBody", "POST", "/v1/orders"),
    ("ChargeBody", "POST", "/v1/wallet/charges"),
    ("StockBody", "PUT", "/v1/inventory/x"),
    ("ShowBody", "POST", "/v1/shows"),
    ("ReservationBody", "POST", "/v1/shows/x/reservations"),
    ("ReservationPaymentBody", "POST", "/v1/reservations/x/payment"),
];

#[tokio::test]
async fn the_description_names_every_call_and_every_member_that_is_read() {
    let house = House::open().await;
    let spec = house.get("/openapi.json").send().await.json();
    assert_eq!(spec["openapi"], "3.1.0");
    let paths = spec["paths"].as_object().unwrap();
    for (path, method) in CALLS {
        assert!(paths.get(path).is_some_and(|path| path.get(method).is_some()), "{method} {path}");
    }
    // A body of every described member, each of a wrong type: none may be called unknown.
    let described = |schema: &str| {
        let properties = spec["components"]["schemas"][schema]["properties"].as_object().unwrap().clone();
        properties.keys().map(|name| (name.clone(), json!({"?": 1}))).collect::<serde_json::Map<_, _>>()
    };
    for (schema, method, path) in BODIES {
        let role = match path {
            "/v1/gifts" | "/v1/orders" | "/v1/wallet/charges" => Role::User,
            "/v1/shows/x/reservations" | "/v1/reservations/x/payment" => Role::User,
            "/v1/vouchers/redeem" => Role::Merchant,
            _ => Role::Operator,
        };
        let call = house.call(method, path).header("authorization", bearer(role, "x")).key("k");
        let reply = call.json(&Value::Object(described(schema))).send().await;
        let errors = reply.json()["errors"].as_array().unwrap().clone();
        let top = |error: &&Value| error["pointer"].as_str().unwrap().matches('/').count() == 1;
        let strangers: Vec<_> = errors.iter().filter(top).filter(|error| error["code"] == "unknown_field").collect();
        assert!(strangers.is_empty(), "{schema}: {strangers:?}");
    }
    let docs = house.get("/docs").send().await;
    assert!(docs.text().contains("/openapi.json") && docs.text().contains("too_late_to_modify"));
    assert!(!docs.text().contains("https://") && !docs.text().contains("src="));
}

#[tokio::test]
async fn the_description_of_a_change_asks_for_no_name_and_tells_what_is_gone() {
    let house = House::new();
    let spec = house.get("/openapi.json").send().await.json();
    let schemas = &spec["components"]["schemas"];
    assert!(schemas["PatchRecipientBody"].get("required").is_none(), "{}", schemas["PatchRecipientBody"]);
    assert_eq!(schemas["RecipientBody"]["required"], json!(["name"]));
    for member in ["recipient", "send_at", "channels"] {
        let told = schemas["PatchBody"]["properties"][member].to_string();
        assert!(told.contains("PatchRecipientBody") || member != "recipient", "{told}");
        assert!(!told.contains("\"null\""), "it cannot be removed: {told}");
    }
    for (path, method) in [("/v1/gifts/{id}", "patch"), ("/v1/ops/dead-letters/{id}/replay", "post")] {
        assert!(spec["paths"][path][method]["responses"].get("410").is_some(), "{method} {path}");
    }
}

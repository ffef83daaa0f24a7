//! The buyer's calls: orders, the wallet, stocks.

use super::*;
use crate::types::call::{CallOutcome, CallRequest, PaymentOutcome, RefusalClass, ShipmentOperation, ShipmentOutcome};
use crate::types::time::{Millis, Timestamp};

pub fn order(sku: &str, quantity: u32, method: &str) -> Value {
    json!({
        "items": [{"sku": sku, "quantity": quantity}],
        "payment": {"method": method, "payment_key": "tok_1"},
        "shipping": {"name": "지민", "phone": "010-1234-5678", "address": "서울시 중구 1"},
        "coupon_id": null,
    })
}

impl House {
    pub async fn shelf(&self, sku: &str, quantity: u32, won: i64) {
        let body = json!({"quantity": quantity, "price": {"value": won, "currency": "KRW"}});
        let reply = self.put(&format!("/v1/inventory/{sku}")).operator().json(&body).send().await;
        assert!(reply.status.is_success(), "{}", reply.text());
    }
    pub async fn place(&self, user: &str, key: &str, body: &Value) -> Reply {
        self.post("/v1/orders").user(user).key(key).json(body).send().await
    }
    pub async fn order_of(&self, user: &str, id: &str) -> Value {
        self.get(&format!("/v1/orders/{id}")).user(user).send().await.json()
    }
    async fn available(&self, sku: &str) -> Value {
        self.get(&format!("/v1/inventory/{sku}")).user("u-1").send().await.json()["available"].clone()
    }
    pub async fn charge(&self, user: &str, key: &str, won: i64) -> Reply {
        let body =
            json!({"amount": {"value": won, "currency": "KRW"}, "payment": {"method": "card", "payment_key": "tok_1"}});
        self.post("/v1/wallet/charges").user(user).key(key).json(&body).send().await
    }
    pub async fn balance(&self, user: &str) -> i64 {
        self.get("/v1/wallet").user(user).send().await.json()["balance"]["value"].as_i64().unwrap()
    }
}

#[tokio::test]
async fn an_order_is_accepted_at_once_and_completed_behind_the_reply() {
    let house = House::new();
    house.shelf("mug", 5, 4_500).await;
    let reply = house.place("u-1", "k1", &order("mug", 2, "card")).await;
    assert_eq!(reply.status, StatusCode::ACCEPTED, "{}", reply.text());
    let placed = reply.json();
    let id = placed["id"].as_str().unwrap();
    assert_eq!(reply.header("location"), format!("/v1/orders/{id}"));
    assert_eq!(reply.header("etag"), "\"1\"");
    assert_eq!((&placed["status"], &placed["amount"]["value"]), (&json!("payment"), &json!(9_000)));
    for secret in ["지민", "tok_1", "서울"] {
        assert!(!reply.text().contains(secret), "{secret}");
    }
    let again = house.place("u-1", "k1", &order("mug", 2, "card")).await;
    assert_eq!((again.bytes, again.headers["idempotent-replayed"].to_str().unwrap()), (reply.bytes, "true"));
    house.door.settle();
    let order = house.order_of("u-1", id).await;
    assert_eq!(order["status"], "completed", "{order}");
    assert_eq!((&order["payment"]["status"], &order["items"][0]["stock"]), (&json!("paid"), &json!("confirmed")));
    assert_eq!(order["shipment"]["tracking"], id);
    assert_eq!(house.available("mug").await, 3);
    let events = house.get(&format!("/v1/orders/{id}/events?limit=4")).user("u-1").send().await.json();
    let types: Vec<&str> =
        events["items"].as_array().unwrap().iter().map(|event| event["type"].as_str().unwrap()).collect();
    assert_eq!(types[..2], ["created", "payment_requested"]);
    assert!(events["next_cursor"].is_string());
    let stream = house.get(&format!("/v1/orders/{id}/stream")).user("u-2").send().await;
    assert_eq!(stream.problem(), (404, "not_found".into()), "another's order");
    let mine = house.get("/v1/orders?status=completed").user("u-1").send().await.json();
    assert_eq!(mine["items"][0]["id"], id);
    assert_eq!(house.get("/v1/orders?status=stuck").user("u-1").send().await.json()["items"], json!([]));
    let late = house.post(&format!("/v1/orders/{id}/cancel")).user("u-1").key("c").json(&json!({})).send().await;
    assert_eq!(late.problem(), (409, "wrong_state".into()));
}

#[tokio::test]
async fn bad_orders_name_every_fault_and_change_nothing() {
    let house = House::new();
    house.shelf("mug", 5, 4_500).await;
    let body = json!({
        "items": [{"sku": "mug", "quantity": 0}, {"sku": "mug", "quantity": 1}, {"sku": "b d", "quantity": 1, "x": 1}],
        "payment": {"method": "gold"}, "coupon_id": 1, "shipping": {"name": "", "phone": "1"}, "y": 1,
    });
    let reply = house.place("u-1", "k1", &body).await;
    assert_eq!(reply.problem(), (422, "validation_failed".into()));
    let mut pointers = reply.pointers();
    pointers.sort();
    let expected = [
        "/coupon_id",
        "/items/0/quantity",
        "/items/1/sku",
        "/items/2/sku",
        "/items/2/x",
        "/payment/method",
        "/shipping/address",
        "/shipping/name",
        "/shipping/phone",
        "/y",
    ];
    assert_eq!(pointers, expected);
    for (items, pointer) in [(json!([]), "/items"), (json!({}), "/items"), (json!([1]), "/items/0")] {
        let mut body = order("mug", 1, "card");
        body["items"] = items;
        let reply = house.place("u-1", "k1", &body).await;
        assert!(reply.status == 422 && reply.pointers()[0].starts_with(pointer), "{}", reply.text());
    }
    let unknown = house.place("u-1", "k1", &order("cup", 1, "card")).await;
    assert_eq!((unknown.status.as_u16(), unknown.pointers()), (422, vec!["/items/0/sku".to_owned()]));
    let bare = json!({"quantity": 3});
    assert_eq!(house.put("/v1/inventory/bare").operator().json(&bare).send().await.status, 201);
    let unpriced = house.place("u-1", "k1", &order("bare", 1, "card")).await;
    assert_eq!(unpriced.json()["errors"][0]["code"], "no_price");
    house.stock("bare", 700).await;
    let priced = house.place("u-1", "k1", &order("bare", 2, "card")).await;
    assert_eq!(priced.json()["amount"]["value"], 1_400, "the catalogue's price of the product of that name");
    assert_eq!(house.get("/v1/orders").user("u-1").send().await.json()["items"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn a_wallet_is_charged_by_card_and_pays_an_order() {
    let house = House::new();
    house.shelf("mug", 5, 4_500).await;
    assert_eq!(house.balance("u-1").await, 0);
    let reply = house.charge("u-1", "k1", 10_000).await;
    assert_eq!((reply.status, &reply.json()["status"]), (StatusCode::ACCEPTED, &json!("payment_pending")));
    let again = house.charge("u-1", "k1", 10_000).await;
    assert_eq!(again.bytes, reply.bytes);
    house.charge("u-1", "k2", 500).await;
    house.door.settle();
    assert_eq!(house.balance("u-1").await, 10_500);
    let placed = house.place("u-1", "o1", &order("mug", 2, "balance")).await.json();
    house.door.settle();
    let wallet = house.get("/v1/wallet").user("u-1").send().await.json();
    assert_eq!((&wallet["balance"]["value"], &wallet["spent"]["value"]), (&json!(1_500), &json!(9_000)));
    assert_eq!(wallet["charges"].as_array().unwrap().len(), 2);
    let order_view = house.order_of("u-1", placed["id"].as_str().unwrap()).await;
    assert_eq!((&order_view["status"], &order_view["payment"]["method"]), (&json!("completed"), &json!("balance")));
    let poor = house.place("u-1", "o2", &order("mug", 1, "balance")).await.json();
    house.door.settle();
    let poor = house.order_of("u-1", poor["id"].as_str().unwrap()).await;
    assert_eq!((&poor["status"], &poor["failure_code"]), (&json!("failed"), &json!("insufficient_balance")));
    assert_eq!((house.balance("u-1").await, house.available("mug").await), (1_500, json!(3)));
    assert_eq!(house.balance("u-2").await, 0);
    let body = json!({"amount": {"value": 0, "currency": "USD"}, "payment": {"method": "balance"}});
    let bad = house.post("/v1/wallet/charges").user("u-1").key("k3").json(&body).send().await;
    assert_eq!(bad.pointers().len(), 4, "{}", bad.text());
}

#[tokio::test]
async fn a_cancel_undoes_a_waiting_order_and_a_repeat_gets_the_same_reply() {
    let house = House::new();
    house.shelf("mug", 5, 4_500).await;
    let id = house.place("u-1", "k1", &order("mug", 2, "card")).await.json()["id"].as_str().unwrap().to_owned();
    let away = |request: &CallRequest, now: Timestamp| match request {
        CallRequest::Shipment(_) => CallOutcome::Shipment(ShipmentOutcome::NotSent { cause: "away".into() }),
        other => super::memory::kind_answer(other, now),
    };
    house.door.settle_with(&away);
    assert_eq!(house.order_of("u-1", &id).await["status"], "shipping");
    assert_eq!(house.available("mug").await, 3, "reserved");
    let path = format!("/v1/orders/{id}/cancel");
    let reply = house.post(&path).user("u-1").key("c").json(&json!({})).send().await;
    assert_eq!((reply.status, &reply.json()["status"]), (StatusCode::OK, &json!("compensating")), "{}", reply.text());
    house.door.settle();
    let again = house.post(&path).user("u-1").key("c").json(&json!({})).send().await;
    assert_eq!(again.bytes, reply.bytes);
    let order = house.order_of("u-1", &id).await;
    assert_eq!((&order["status"], &order["refunded"]["value"]), (&json!("cancelled"), &json!(9_000)), "{order}");
    assert_eq!(house.available("mug").await, 5);
}

#[tokio::test]
async fn a_stuck_order_is_a_dead_letter_that_an_operator_replays() {
    let house = House::new();
    house.shelf("mug", 5, 4_500).await;
    house.reserve_dead_gift().await;
    let id = house.place("u-1", "k1", &order("mug", 9, "card")).await.json()["id"].as_str().unwrap().to_owned();
    let no_refund = |request: &CallRequest, now: Timestamp| match (request, super::memory::kind_answer(request, now)) {
        (CallRequest::Payment(_), CallOutcome::Payment(PaymentOutcome::Refunded { .. })) => {
            let (code, class) = ("NOT_CANCELABLE_PAYMENT".to_owned(), RefusalClass::Permanent);
            CallOutcome::Payment(PaymentOutcome::RefundRefused { code, class })
        }
        (CallRequest::Shipment(shipment), told) => {
            assert!(matches!(shipment.operation, ShipmentOperation::Prepare { .. }));
            told
        }
        (_, told) => told,
    };
    house.door.settle_with(&no_refund);
    assert_eq!(house.order_of("u-1", &id).await["status"], "stuck");
    let letters = house.get("/v1/ops/dead-letters").operator().send().await.json();
    let letter = letters["items"].as_array().unwrap().iter().find(|letter| letter["order_id"] == json!(id)).unwrap();
    assert_eq!((&letter["command"], &letter["money_held"]["value"]), (&json!("refund"), &json!(40_500)), "{letter}");
    let path = format!("/v1/ops/dead-letters/{id}/replay");
    let replayed = house.post(&path).operator().key("r").json(&json!({})).send().await;
    assert_eq!((replayed.status, &replayed.json()["status"]), (StatusCode::OK, &json!("compensating")));
    house.door.settle();
    let order = house.order_of("u-1", &id).await;
    assert_eq!((&order["status"], &order["failure_code"]), (&json!("failed"), &json!("out_of_stock")), "{order}");
    let gone = house.post(&path).operator().key("r2").json(&json!({})).send().await;
    assert_eq!(gone.problem(), (409, "not_a_dead_letter".into()));
}

/// Every message is refused for good.
fn unreachable(request: &CallRequest, now: Timestamp) -> CallOutcome {
    match request {
        CallRequest::Message(message) => CallOutcome::Message(crate::types::call::MessageOutcome::Refused {
            code: message.channel.name().to_owned(),
            class: RefusalClass::Permanent,
        }),
        other => super::memory::kind_answer(other, now),
    }
}

#[tokio::test]
async fn the_buyer_is_told_and_what_cannot_be_told_is_a_dead_letter_of_its_own() {
    let house = House::new();
    house.shelf("mug", 5, 4_500).await;
    let mut body = order("mug", 1, "card");
    body["buyer"] = json!({"phone": "010-1234-5678"});
    let id = house.place("u-1", "k1", &body).await.json()["id"].as_str().unwrap().to_owned();
    let log = |query: &'static str| house.get(&format!("/v1/orders/{id}/notices{query}")).user("u-1").send();
    let placed = log("").await.json();
    assert_eq!(
        (&placed["items"][0]["template"], &placed["items"][0]["status"]),
        (&json!("order_placed"), &json!("pending"))
    );
    house.door.settle();
    let told = log("").await.json();
    let rows: Vec<(&Value, &Value, &Value)> = told["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|item| (&item["template"], &item["channel"], &item["status"]))
        .collect();
    let (placed, completed, kakao, sent) =
        (json!("order_placed"), json!("order_completed"), json!("kakao"), json!("sent"));
    assert_eq!(rows, [(&placed, &kakao, &sent), (&completed, &kakao, &sent)], "{told}");
    assert_eq!(told["items"][0]["audience"], "buyer");
    assert!(log("?limit=1").await.json()["next_cursor"].is_string());
    let other = house.get(&format!("/v1/orders/{id}/notices")).user("u-2").send().await;
    assert_eq!(other.problem(), (404, "not_found".into()));

    // Nobody can be reached: the order is completed all the same.
    let id = house.place("u-1", "k2", &order("mug", 1, "card")).await.json()["id"].as_str().unwrap().to_owned();
    house.door.settle_with(&unreachable);
    assert_eq!(house.order_of("u-1", &id).await["status"], "completed");
    let letters = house.get("/v1/ops/dead-letters").operator().send().await.json();
    let mine: Vec<&Value> =
        letters["items"].as_array().unwrap().iter().filter(|letter| letter["order_id"] == json!(id)).collect();
    assert_eq!(mine.len(), 2, "{letters}");
    let letter = mine[0]["id"].as_str().unwrap().to_owned();
    assert_eq!(
        (letter.as_str(), &mine[0]["command"], &mine[0]["cause"]),
        (format!("{id}.n0").as_str(), &json!("notice"), &json!("push"))
    );
    let replayed =
        house.post(&format!("/v1/ops/dead-letters/{letter}/replay")).operator().key("r").json(&json!({})).send().await;
    assert_eq!(
        (&replayed.json()["is_dead_letter"], &replayed.json()["id"]),
        (&json!(false), &json!(letter)),
        "{}",
        replayed.text()
    );
    let reason = json!({"reason": "no such person"});
    let discarded =
        house.post(&format!("/v1/ops/dead-letters/{id}.n1/discard")).operator().key("d").json(&reason).send().await;
    assert_eq!(discarded.json()["is_dead_letter"], json!(false), "{}", discarded.text());
    let gone =
        house.post(&format!("/v1/ops/dead-letters/{id}.n1/replay")).operator().key("g").json(&json!({})).send().await;
    assert_eq!(gone.problem(), (409, "not_a_dead_letter".into()));
    house.door.settle();
    assert_eq!(house.get("/v1/ops/dead-letters").operator().send().await.json()["items"], json!([]));
    let bad = json!({"items": [{"sku": "mug", "quantity": 1}], "payment": {"method": "card", "payment_key": "t"},
        "buyer": {"phone": "1", "x": 1}});
    let mut pointers = house.place("u-1", "k3", &bad).await.pointers();
    pointers.sort();
    assert_eq!(pointers, ["/buyer/phone", "/buyer/x"]);
}

#[tokio::test]
async fn below_the_level_that_knows_it_a_buyer_is_told_nothing() {
    let house = House::new();
    house.shelf("mug", 5, 4_500).await;
    house.door.level.store(3, std::sync::atomic::Ordering::SeqCst);
    let id = house.place("u-1", "k1", &order("mug", 1, "card")).await.json()["id"].as_str().unwrap().to_owned();
    house.door.settle_with(&unreachable);
    assert_eq!(house.order_of("u-1", &id).await["status"], "completed");
    assert_eq!(house.get(&format!("/v1/orders/{id}/notices")).user("u-1").send().await.json()["items"], json!([]));
}

#[tokio::test]
async fn stock_is_an_operators_to_put_and_never_below_what_is_held() {
    let house = House::new();
    let body = json!({"quantity": 5, "price": {"value": 100, "currency": "KRW"}});
    assert_eq!(house.put("/v1/inventory/mug").user("u-1").json(&body).send().await.status, 403);
    assert_eq!(house.put("/v1/inventory/mug").operator().json(&body).send().await.status, 201);
    assert_eq!(house.put("/v1/inventory/mug").operator().json(&body).send().await.status, 200);
    house.place("u-1", "k1", &order("mug", 4, "card")).await;
    let away = |request: &CallRequest, now: Timestamp| match request {
        CallRequest::Shipment(_) => CallOutcome::not_sent(request, "away"),
        other => super::memory::kind_answer(other, now),
    };
    house.door.settle_with(&away);
    let few = house.put("/v1/inventory/mug").operator().json(&json!({"quantity": 3})).send().await;
    assert_eq!(few.problem(), (409, "below_held".into()));
    let view = house.get("/v1/inventory/mug").user("u-1").send().await.json();
    assert_eq!((&view["quantity"], &view["reserved"], &view["available"]), (&json!(5), &json!(4), &json!(1)));
    for (sku, body) in [("mug", json!({"quantity": -1})), ("mug", json!({"quantity": 1, "price": {"value": 0}}))] {
        let reply = house.put(&format!("/v1/inventory/{sku}")).operator().json(&body).send().await;
        assert_eq!(reply.status, 422, "{}", reply.text());
    }
    assert_eq!(house.get("/v1/inventory/nothing").user("u-1").send().await.problem(), (404, "not_found".into()));
    house.door.pass(Millis::from_secs(1));
}

impl House {
    /// A gift among the dead letters, so that a list holds both sorts.
    async fn reserve_dead_gift(&self) {
        self.stock("americano", 4_500).await;
        self.reserve("u-1", "dead").await;
        self.door.settle();
        self.door.pass(Millis::from_days(25));
        self.door.settle_with(&unreachable);
    }
}

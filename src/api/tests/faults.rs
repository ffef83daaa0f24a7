//! All faults at once, each at the member that was sent: those of the body together with what it names.

use super::concert::show;
use super::coupons::campaign;
use super::orders::order;
use super::*;
use crate::api::catalogue::product_key;

/// The pointers of a 422, sorted.
fn faults(reply: &Reply) -> Vec<String> {
    assert_eq!(reply.problem(), (422, "validation_failed".into()), "{}", reply.text());
    let mut pointers = reply.pointers();
    pointers.sort();
    pointers
}

fn with(body: Value, members: &[(&str, Value)]) -> Value {
    let mut body = body;
    for (pointer, value) in members {
        *body.pointer_mut(pointer).unwrap_or_else(|| panic!("{pointer}")) = value.clone();
    }
    body
}

#[tokio::test]
async fn a_gift_names_what_its_body_and_what_it_asks_for_have_at_fault() {
    let house = House::open().await;
    let past = ("/send_at", json!({"instant": "2026-01-01T00:00:00Z"}));
    let long = ("/message", json!("x".repeat(501)));
    let (product, coupon) = (("/product_id", json!("gone")), ("/coupon_id", json!("c_1")));
    let cases = [
        (vec![past.clone(), long.clone()], vec!["/message", "/send_at"]),
        (vec![past.clone(), ("/payment/payment_key", json!("a b"))], vec!["/payment/payment_key", "/send_at"]),
        (vec![past.clone(), ("/channels", json!(["email"]))], vec!["/channels/0", "/send_at"]),
        (vec![product.clone(), coupon.clone()], vec!["/coupon_id", "/product_id"]),
        (
            vec![past, product, coupon.clone(), long.clone(), ("/payment/method", json!("gold"))],
            vec!["/coupon_id", "/message", "/payment/method", "/product_id", "/send_at"],
        ),
        (
            vec![
                ("/send_at", json!({"instant": "2027-10-27T00:00:00Z"})),
                ("/payment/method", json!("bank_transfer")),
                long.clone(),
            ],
            vec!["/message", "/payment/method"],
        ),
        // What does not read is not looked up.
        (
            vec![("/product_id", json!(7)), ("/coupon_id", json!(7)), long],
            vec!["/coupon_id", "/message", "/product_id"],
        ),
    ];
    for (members, pointers) in cases {
        let body = with(gift(), &members);
        let reply = house.post("/v1/gifts").user("u-1").key("k").json(&body).send().await;
        assert_eq!(faults(&reply), pointers, "{members:?}");
    }
    assert_eq!(house.get("/v1/gifts").user("u-1").send().await.json()["items"], json!([]));
}

#[tokio::test(start_paused = true)]
async fn a_body_is_at_fault_though_what_it_names_cannot_be_looked_up() {
    let house = House::open().await;
    house.door.leaderless.lock().insert(product_key("late"));
    let body = with(gift(), &[("/product_id", json!("late")), ("/message", json!("x".repeat(501)))]);
    let reply = house.post("/v1/gifts").user("u-1").key("k").json(&body).send().await;
    assert_eq!(faults(&reply), ["/message"]);
}

#[tokio::test]
async fn a_change_names_the_refund_window_at_the_instant_beside_the_bodys_faults() {
    let house = House::open().await;
    let body = with(gift(), &[("/payment/method", json!("bank_transfer"))]);
    let made = house.post("/v1/gifts").user("u-1").key("k").json(&body).send().await;
    let path = format!("/v1/gifts/{}", made.json()["id"].as_str().unwrap());
    let change = |body: Value| house.patch(&path).user("u-1").header("if-match", "*").json(&body).send();
    let far = json!({"instant": "2027-10-27T00:00:00Z"});
    let reply = change(json!({"send_at": far, "message": "x".repeat(501)})).await;
    assert_eq!(faults(&reply), ["/message", "/send_at"]);
    let reply = change(json!({"send_at": far})).await;
    assert_eq!(faults(&reply), ["/send_at"]);
    assert_eq!(reply.json()["errors"][0]["code"], "refund_window_too_short");
}

#[tokio::test]
async fn a_contact_at_fault_is_not_missing_too_and_channels_keep_their_places() {
    let house = House::open().await;
    let cases = [
        (vec![("/recipient/phone", json!("1"))], vec!["/recipient/phone"]),
        (
            vec![("/recipient", json!({"name": "a", "email": "x"})), ("/channels", json!(null))],
            vec!["/recipient/email"],
        ),
        // What the faulty contact does not reach is missing all the same.
        (
            vec![("/recipient/phone", json!("1")), ("/channels", json!(["sms", "email"]))],
            vec!["/channels/1", "/recipient/phone"],
        ),
        (vec![("/channels", json!([null]))], vec!["/channels/0"]),
        (vec![("/channels", json!([null, "email", "x"]))], vec!["/channels/0", "/channels/1", "/channels/2"]),
        (vec![("/recipient", json!({"name": "a", "kakao_id": "jimin_01"}))], vec!["/recipient"]),
    ];
    for (members, pointers) in cases {
        let body = with(gift(), &members);
        let reply = house.post("/v1/gifts").user("u-1").key("k").json(&body).send().await;
        assert_eq!(faults(&reply), pointers, "{members:?}");
    }
    let kakao = with(gift(), &[("/recipient", json!({"name": "a", "kakao_id": "jimin_01"}))]);
    let reply = house.post("/v1/gifts").user("u-1").key("k").json(&kakao).send().await;
    let fault = &reply.json()["errors"][0];
    assert_eq!(fault["code"], "no_contact");
    assert!(fault["detail"].as_str().unwrap().contains("Kakao id alone"), "{fault}");
    let id = house.reserve("u-1", "sound").await["id"].as_str().unwrap().to_owned();
    let change = house.patch(&format!("/v1/gifts/{id}")).user("u-1").header("if-match", "*");
    let reply = change.json(&json!({"recipient": {"phone": "1"}})).send().await;
    assert_eq!(faults(&reply), ["/recipient/phone"]);
}

#[tokio::test]
async fn an_order_names_its_body_its_stocks_and_its_coupon() {
    let house = House::new();
    house.shelf("mug", 5, 4_500).await;
    let mut body = order("cup", 0, "gold");
    body["coupon_id"] = json!("c_1");
    let reply = house.place("u-1", "k", &body).await;
    assert_eq!(faults(&reply), ["/coupon_id", "/items/0/quantity", "/items/0/sku", "/payment/method"]);
    body["items"] = json!([{"sku": "cup", "quantity": 1}]);
    body["payment"]["method"] = json!("card");
    assert_eq!(faults(&house.place("u-1", "k", &body).await), ["/coupon_id", "/items/0/sku"]);
    body["payment"] = json!({"method": "card", "payment_key": "", "x": 1});
    let reply = house.place("u-1", "k", &body).await;
    assert_eq!(faults(&reply), ["/coupon_id", "/items/0/sku", "/payment/payment_key", "/payment/x"]);
    assert_eq!(house.get("/v1/orders").user("u-1").send().await.json()["items"], json!([]));
}

#[tokio::test]
async fn a_campaign_and_a_show_name_the_terms_that_do_not_read_and_those_that_do() {
    let house = House::new();
    let make = |body: Value| house.post("/v1/coupon-campaigns").operator().key("c").json(&body).send();
    let (name, days) = (("/name", json!("")), ("/valid_days", json!(0)));
    let dates = [("/starts_at", json!("soon")), ("/ends_at", json!("later"))];
    let all = [&[name.clone(), days.clone(), ("/quantity", json!(0))], &dates[..]].concat();
    let reply = make(with(campaign(3), &all)).await;
    assert_eq!(faults(&reply), ["/ends_at", "/name", "/quantity", "/starts_at", "/valid_days"]);
    let reply = make(with(campaign(3), &[name, days, ("/ends_at", json!("2026-11-30T00:00:00Z"))])).await;
    assert_eq!(faults(&reply), ["/ends_at", "/name", "/valid_days"]);
    for one in dates {
        assert_eq!(faults(&make(with(campaign(3), std::slice::from_ref(&one))).await), [one.0]);
    }
    let dollars = json!({"amount": {"value": 1, "currency": "USD"}});
    let reply = make(with(campaign(3), &[("/discount", dollars)])).await;
    assert_eq!(faults(&reply), ["/discount/amount/currency"]);
    for neither in [json!({}), json!({"percent": 1, "amount": {"value": 1, "currency": "KRW"}})] {
        assert_eq!(faults(&make(with(campaign(3), &[("/discount", neither)])).await), ["/discount"]);
    }
    let body = with(
        show(2),
        &[
            ("/title", json!("")),
            ("/seats/0/count", json!(0)),
            ("/seats/1/section", json!("")),
            ("/admission_per_second", json!(0)),
            ("/active_max", json!(0)),
        ],
    );
    let reply = house.post("/v1/shows").operator().key("s").json(&body).send().await;
    let expected = ["/active_max", "/admission_per_second", "/seats/0/count", "/seats/1/section", "/title"];
    assert_eq!(faults(&reply), expected);
    assert_eq!(house.get("/v1/shows").user("x").send().await.json()["items"], json!([]));
}

#[tokio::test]
async fn a_reservation_names_its_ticket_its_seats_and_strange_members() {
    let house = House::new();
    let id = house.show("s", &show(3)).await;
    let reserve =
        |body: Value| house.post(&format!("/v1/shows/{id}/reservations")).user("u-0").key("r").json(&body).send();
    let reply = reserve(json!({"ticket": "x", "seats": ["Q"], "y": 1})).await;
    assert_eq!(faults(&reply), ["/seats/0", "/ticket", "/y"]);
    assert_eq!(faults(&reserve(json!({"ticket": "x", "seats": ["Q"]})).await), ["/seats/0", "/ticket"]);
    assert_eq!(faults(&reserve(json!({"ticket": "x", "seats": [1, "A-1"]})).await), ["/seats/0", "/ticket"]);
    assert_eq!(house.seats(&id, "?status=available").await.len(), 4);
}

#[tokio::test]
async fn a_product_names_its_policy_where_it_was_given() {
    let house = House::new();
    let put = |body: Value| house.put("/v1/ops/products/x").operator().json(&body).send();
    let sound = json!({"name": "x", "price": {"value": 1, "currency": "KRW"}});
    let reply = put(json!({"name": "", "price": {"value": -1, "currency": "KRW"}, "validity_days": 0})).await;
    assert_eq!(faults(&reply), ["/name", "/price/value", "/validity_days"]);
    for (member, body) in [
        ("/validity_days", json!({"validity_days": 0})),
        ("/valid_days", json!({"valid_days": 0})),
        ("/policy/validity_days", json!({"policy": {"validity_days": 0}})),
    ] {
        let mut whole = sound.clone();
        whole.as_object_mut().unwrap().extend(body.as_object().unwrap().clone());
        assert_eq!(faults(&put(whole).await), [member]);
    }
    let mut body = sound;
    body["policy"] = json!({
        "declined_percent": 200, "reminder_days": [1, 3], "reminder_hour": 25, "send_retry_seconds": [0],
        "overdue_dead_letter_seconds": 1, "decline": "maybe", "quiet_hours": {"from_hour": 25, "to_hour": 1},
        "transfers_max": 300,
    });
    let expected = [
        "/policy/decline",
        "/policy/declined_percent",
        "/policy/overdue_dead_letter_seconds",
        "/policy/quiet_hours",
        "/policy/reminder_days",
        "/policy/reminder_hour",
        "/policy/send_retry_seconds",
        "/policy/transfers_max",
    ];
    assert_eq!(faults(&put(body).await), expected);
}

#[tokio::test]
async fn a_null_is_as_good_as_nothing() {
    let house = House::open().await;
    let reserve = async |key: &str, send_at: Value| {
        let body = with(gift(), &[("/send_at", send_at)]);
        house.post("/v1/gifts").user("u-1").key(key).json(&body).send().await
    };
    let local = json!({"local": "2026-12-25T00:00", "zone": "Asia/Seoul", "date": null, "instant": null});
    let date = json!({"date": "2026-12-25", "zone": "Asia/Seoul", "local": null});
    let instant = json!({"instant": "2026-12-25T00:00:00Z", "local": null, "date": null, "zone": null});
    for (number, send_at) in [local, date, instant].into_iter().enumerate() {
        let reply = reserve(&format!("k-{number}"), send_at).await;
        assert_eq!(reply.status, 201, "{}", reply.text());
    }
    let none = json!({"local": null, "date": null, "instant": null, "zone": "Asia/Seoul"});
    assert_eq!(faults(&reserve("k", none).await), ["/send_at"]);

    let price = json!({"value": 1, "currency": "KRW"});
    let product = |hours: Value| json!({"name": "x", "price": price, "policy": {"quiet_hours": hours}});
    let put = |hours: Value| house.put("/v1/ops/products/x").operator().json(&product(hours)).send();
    let (from, to) = ("/policy/quiet_hours/from_hour", "/policy/quiet_hours/to_hour");
    assert_eq!(faults(&put(json!({"from_hour": null, "to_hour": null})).await), [from, to]);
    assert_eq!(faults(&put(json!({"from_hour": 21, "to_hour": null})).await), [to]);
    assert_eq!(put(json!(null)).await.status, 201, "no quiet hours");

    let show = house.show("s", &show(2)).await;
    let id = house.taken(&show, "u-0", "r", &["A-1"]).await;
    let path = format!("/v1/reservations/{id}/payment");
    let pay = |body: Value| house.post(&path).user("u-0").key("p").json(&body).send();
    assert_eq!(faults(&pay(json!({"payment": null})).await), ["/method"]);
    let paid = pay(json!({"payment": null, "method": "card", "payment_key": "tok_1"})).await;
    assert_eq!(paid.status, 202, "{}", paid.text());
}

#[tokio::test]
async fn calls_upon_the_cluster_name_a_member_once_and_refuse_strange_ones() {
    let house = House::new();
    let post = |call: &str| house.post(&format!("/v1/ops/cluster/{call}")).operator().key("k");
    let ask = |call: &'static str, body: Value| post(call).json(&body).send();
    assert_eq!(ask("drain", json!({})).await.pointers(), ["/node"]);
    assert_eq!(ask("drain", json!({"node": 0})).await.pointers(), ["/node"]);
    assert_eq!(ask("transfer", json!({"shard": 9_999, "to": 1})).await.pointers(), ["/shard"]);
    assert_eq!(ask("transfer", json!({"to": 1})).await.pointers(), ["/shard"]);
    for call in ["rebalance", "finalize-upgrade"] {
        assert_eq!(ask(call, json!({"x": 1})).await.pointers(), ["/x"], "{call}");
        let bare = post(call).send().await;
        assert_eq!(bare.status.as_u16(), 200, "{call}: {}", bare.text());
    }
}

//! Gifts and orders that are paid with coupons and from the wallet.

use super::coupons::campaign;
use super::orders::order;
use super::*;
use crate::types::level::FeatureLevel;
use crate::types::time::Millis;

impl House {
    /// A coupon of 10 % for the user, at most 3,000 won; its id.
    async fn coupon(&self, user: &str) -> String {
        let id = self.campaign(&campaign(5)).await;
        self.claim(&id, user, "claim").await.json()["id"].as_str().unwrap().to_owned()
    }

    async fn coupon_status(&self, user: &str, id: &str) -> (String, Value) {
        let view = self.get(&format!("/v1/coupons/{id}")).user(user).send().await.json();
        (view["status"].as_str().unwrap().to_owned(), view["used_by"].clone())
    }

    async fn gift_of(&self, user: &str, id: &str) -> Value {
        self.get(&format!("/v1/gifts/{id}")).user(user).send().await.json()
    }

    async fn post_gift(&self, user: &str, key: &str, body: &Value) -> Reply {
        self.post("/v1/gifts").user(user).key(key).json(body).send().await
    }

    async fn cancel(&self, user: &str, path: &str) -> Reply {
        self.post(&format!("{path}/cancel")).user(user).key("cancel").json(&json!({})).send().await
    }
}

fn gift_with(coupon: &str, method: &str) -> Value {
    let mut body = gift();
    body["coupon_id"] = json!(coupon);
    body["payment"]["method"] = json!(method);
    body
}

#[tokio::test]
async fn a_gift_pays_with_a_coupon_and_a_cancel_gives_back_the_money_and_the_coupon() {
    let house = House::open().await;
    let coupon = house.coupon("u-1").await;
    let body = gift_with(&coupon, "card");
    let made = house.post_gift("u-1", "k", &body).await;
    assert_eq!(made.status, StatusCode::CREATED, "{}", made.text());
    let view = made.json();
    assert_eq!(view["amount"]["value"], 4_050, "4,500 less 10 %");
    assert_eq!(
        view["coupon"],
        json!({"id": coupon, "discount": {"value": 450, "currency": "KRW"}, "status": "pending"})
    );
    house.door.settle();
    let id = view["id"].as_str().unwrap();
    let paid = house.gift_of("u-1", id).await;
    assert_eq!((&paid["status"], &paid["coupon"]["status"]), (&json!("scheduled"), &json!("used")));
    assert_eq!(house.coupon_status("u-1", &coupon).await, ("used".into(), json!(id)));
    // The repeat finds its first reply although the coupon is used by now.
    let again = house.post_gift("u-1", "k", &body).await;
    assert_eq!((again.bytes, again.headers["idempotent-replayed"].to_str().unwrap()), (made.bytes, "true"));
    let other = house.post_gift("u-1", "k2", &body).await;
    assert_eq!(
        (other.pointers(), &other.json()["errors"][0]["code"]),
        (vec!["/coupon_id".into()], &json!("coupon_used"))
    );
    house.cancel("u-1", &format!("/v1/gifts/{id}")).await;
    house.door.settle();
    let back = house.gift_of("u-1", id).await;
    assert_eq!((&back["status"], &back["refunded"]["value"]), (&json!("refunded"), &json!(4_050)));
    assert_eq!(back["coupon"]["status"], "returned");
    assert_eq!(house.coupon_status("u-1", &coupon).await, ("restored".into(), Value::Null));
    let second = house.post_gift("u-1", "k3", &body).await;
    assert_eq!(second.status, StatusCode::CREATED, "{}", second.text());
    house.door.settle();
    assert_eq!(house.gift_of("u-1", second.json()["id"].as_str().unwrap()).await["status"], "scheduled");
}

#[tokio::test]
async fn a_gift_is_paid_from_the_wallet_and_too_little_balance_fails_it() {
    let house = House::open().await;
    let coupon = house.coupon("u-1").await;
    house.charge("u-1", "c", 5_000).await;
    house.door.settle();
    let mut body = gift_with(&coupon, "balance");
    body["payment"].as_object_mut().unwrap().remove("payment_key");
    let made = house.post_gift("u-1", "k", &body).await.json();
    house.door.settle();
    let id = made["id"].as_str().unwrap();
    assert_eq!(house.gift_of("u-1", id).await["status"], "scheduled");
    let wallet = house.get("/v1/wallet").user("u-1").send().await.json();
    assert_eq!((&wallet["balance"]["value"], &wallet["held"]["value"]), (&json!(950), &json!(4_050)));
    let mut poor = gift();
    poor["payment"] = json!({"method": "balance"});
    let poor = house.post_gift("u-1", "poor", &poor).await.json();
    house.door.settle();
    let poor = house.gift_of("u-1", poor["id"].as_str().unwrap()).await;
    assert_eq!((&poor["status"], &poor["failure_code"]), (&json!("payment_failed"), &json!("insufficient_balance")));
    house.cancel("u-1", &format!("/v1/gifts/{id}")).await;
    house.door.settle();
    let wallet = house.get("/v1/wallet").user("u-1").send().await.json();
    assert_eq!((&wallet["balance"]["value"], &wallet["held"]["value"]), (&json!(5_000), &json!(0)), "{wallet}");
    assert_eq!(house.coupon_status("u-1", &coupon).await.0, "restored");
    let books = house.get("/v1/ops/reconciliation").operator().send().await.json();
    assert_eq!((&books["balanced"], &books["wallets"]["charged"]["value"]), (&json!(true), &json!(5_000)), "{books}");
}

#[tokio::test]
async fn an_order_pays_with_a_coupon_and_gives_it_back_when_it_fails() {
    let house = House::new();
    house.shelf("mug", 5, 4_500).await;
    let coupon = house.coupon("u-1").await;
    let mut body = order("mug", 9, "card");
    body["coupon_id"] = json!(coupon);
    let placed = house.place("u-1", "k1", &body).await.json();
    assert_eq!((&placed["amount"]["value"], &placed["coupon"]["discount"]["value"]), (&json!(37_500), &json!(3_000)));
    house.door.settle();
    let failed = house.order_of("u-1", placed["id"].as_str().unwrap()).await;
    assert_eq!((&failed["status"], &failed["failure_code"]), (&json!("failed"), &json!("out_of_stock")), "{failed}");
    assert_eq!((&failed["refunded"]["value"], &failed["coupon"]["status"]), (&json!(37_500), &json!("returned")));
    body["items"][0]["quantity"] = json!(2);
    let placed = house.place("u-1", "k2", &body).await.json();
    house.door.settle();
    let done = house.order_of("u-1", placed["id"].as_str().unwrap()).await;
    assert_eq!((&done["status"], &done["payment"]["paid"]["value"]), (&json!("completed"), &json!(8_100)), "{done}");
    assert_eq!(house.coupon_status("u-1", &coupon).await, ("used".into(), placed["id"].clone()));
    let books = house.get("/v1/ops/reconciliation").operator().send().await.json();
    let orders = &books["orders"];
    assert_eq!(
        (&books["balanced"], &orders["orders"], &orders["broken"]),
        (&json!(true), &json!(2), &json!([])),
        "{books}"
    );
    let won = |name: &str| orders[name]["value"].as_i64().unwrap();
    assert_eq!((won("paid"), won("held"), won("kept"), won("refunded")), (45_600, 0, 8_100, 37_500));
    assert_eq!(books["wallets"]["wallets"], 0);
}

#[tokio::test]
async fn an_order_that_is_done_is_erased_by_an_operators_order() {
    let house = House::new();
    house.shelf("mug", 5, 4_500).await;
    let placed = house.place("u-1", "k1", &order("mug", 1, "card")).await.json();
    let path = format!("/v1/ops/orders/{}", placed["id"].as_str().unwrap());
    let erase = || house.post(&format!("{path}/erase")).operator().key("e").json(&json!({})).send();
    assert_eq!(erase().await.problem(), (409, "wrong_state".into()));
    house.door.settle();
    let erased = erase().await.json();
    assert_eq!((&erased["erased"], &erased["status"]), (&json!(true), &json!("completed")), "{erased}");
    assert_eq!(house.get(&format!("{path}/erasure")).operator().send().await.json()["erased"], true);
    assert_eq!(house.post(&format!("{path}/erase")).user("u-1").key("e").send().await.status, 403);
}

#[tokio::test]
async fn a_wallet_that_bought_nothing_is_in_the_books_and_its_payment_keys_are_erased_by_an_operators_order() {
    let house = House::new();
    house.charge("u-1", "k1", 5_000).await;
    let wallet = house.get("/v1/wallet").user("u-1").send().await.json();
    let path = format!("/v1/ops/wallets/{}", wallet["id"].as_str().unwrap());
    let erase = |key: &'static str| house.post(&format!("{path}/erase")).operator().key(key).json(&json!({})).send();
    assert_eq!(erase("e").await.problem(), (409, "wrong_state".into()));
    house.door.settle();
    house.charge("u-2", "k2", 700).await;
    house.door.settle();
    let books = house.get("/v1/ops/reconciliation").operator().send().await.json();
    let wallets = &books["wallets"];
    assert_eq!((&wallets["wallets"], &wallets["charged"]["value"]), (&json!(2), &json!(5_700)), "{books}");
    assert_eq!((&wallets["balanced"], &books["balanced"]), (&json!(true), &json!(true)));
    assert_eq!(house.get(&format!("{path}/erasure")).operator().send().await.json()["erased"], false);
    let erased = erase("e").await;
    assert_eq!((&erased.json()["erased"], &erased.json()["wallet_id"]), (&json!(true), &wallet["id"]));
    assert_eq!(erase("e").await.bytes, erased.bytes);
    let erasure = house.get(&format!("{path}/erasure")).operator().send().await.json();
    assert_eq!((&erasure["erased"], &erasure["wallet_id"]), (&json!(true), &wallet["id"]));
    assert_eq!(house.post(&format!("{path}/erase")).user("u-1").key("e").send().await.status, 403);
    assert_eq!(house.post("/v1/ops/wallets/o_1/erase").operator().key("x").send().await.status, 404);
    // What is on it stays, and it is charged again under a new key.
    house.charge("u-1", "k3", 300).await;
    house.door.settle();
    assert_eq!(house.balance("u-1").await, 5_300);
    assert_eq!(house.get(&format!("{path}/erasure")).operator().send().await.json()["erased"], false);
}

#[tokio::test]
async fn below_the_level_that_lists_them_wallets_are_as_before() {
    let house = House::new();
    house.door.level.store(3, std::sync::atomic::Ordering::SeqCst);
    house.charge("u-1", "k1", 5_000).await;
    house.door.settle();
    let wallet = house.get("/v1/wallet").user("u-1").send().await.json();
    let path = format!("/v1/ops/wallets/{}/erase", wallet["id"].as_str().unwrap());
    let refused = house.post(&path).operator().key("e").json(&json!({})).send().await;
    assert_eq!(refused.problem(), (503, "unavailable".into()));
    let books = || house.get("/v1/ops/reconciliation").operator().send();
    assert_eq!(books().await.json()["wallets"]["wallets"], 0);
    // Listed by the first charge above it.
    house.door.level.store(4, std::sync::atomic::Ordering::SeqCst);
    house.charge("u-1", "k2", 1_000).await;
    house.door.settle();
    assert_eq!(books().await.json()["wallets"]["charged"]["value"], 6_000);
}

#[tokio::test]
async fn coupons_that_cannot_pay_are_refused_by_name_and_nothing_is_made() {
    let house = House::open().await;
    house.shelf("mug", 5, 4_500).await;
    let coupon = house.coupon("u-1").await;
    let gift_key = house.reserve("u-1", "g").await["id"].as_str().unwrap().to_owned();
    for (user, id, code) in [
        ("u-1", "c_1", "unknown_coupon"),
        ("u-1", gift_key.as_str(), "unknown_coupon"),
        ("u-1", "c_00000000000000000000000000000000", "unknown_coupon"),
        ("u-2", coupon.as_str(), "unknown_coupon"),
    ] {
        let mut body = order("mug", 1, "card");
        body["coupon_id"] = json!(id);
        for reply in [house.post_gift(user, "x", &gift_with(id, "card")).await, house.place(user, "x", &body).await] {
            assert_eq!((reply.status.as_u16(), reply.pointers()), (422, vec!["/coupon_id".to_owned()]), "{id}");
            assert_eq!(reply.json()["errors"][0]["code"], code);
        }
    }
    house.door.pass(Millis::from_days(40));
    let mut late = gift_with(&coupon, "card");
    late["send_at"] = json!({"date": "2027-03-01", "zone": "Asia/Seoul"});
    let late = house.post_gift("u-1", "late", &late).await;
    assert_eq!(late.json()["errors"][0]["code"], "coupon_expired", "{}", late.text());
    assert_eq!(house.get("/v1/orders").user("u-1").send().await.json()["items"], json!([]));
}

#[tokio::test]
async fn below_the_level_that_knows_them_gifts_are_paid_as_before_only() {
    let house = House::open().await;
    house.door.level.store(2, std::sync::atomic::Ordering::SeqCst);
    for body in [gift_with("c_1", "card"), gift_with("c_1", "balance")] {
        let reply = house.post_gift("u-1", "k", &body).await;
        assert_eq!(reply.problem(), (503, "unavailable".into()));
    }
    assert_eq!(house.post_gift("u-1", "k", &gift()).await.status, StatusCode::CREATED);
    assert!(crate::types::level::NEIGHBOURS_LEVEL > FeatureLevel(2));
}

//! The concert: an operator's show, its queue, seats, payments and the ranking.

use super::*;
use crate::types::call::{CallOutcome, CallRequest, PaymentOutcome};
use crate::types::time::{Millis, Timestamp};
use std::sync::atomic::Ordering;

pub fn show(count: u16) -> Value {
    json!({
        "title": "연말 콘서트", "opens_at": NOW, "admission_per_second": 2, "active_max": 3,
        "seats": [
            {"section": "A", "row": "1", "count": count, "price": {"value": 50_000, "currency": "KRW"}},
            {"section": "B", "row": 2, "count": 1, "price": {"value": 30_000, "currency": "KRW"}},
        ],
    })
}

/// The provider's answer to a payment whose card is refused.
fn refuses(request: &CallRequest, now: Timestamp) -> CallOutcome {
    match request {
        CallRequest::Payment(_) => CallOutcome::Payment(PaymentOutcome::NotCaptured { code: "REJECTED".into() }),
        other => memory::kind_answer(other, now),
    }
}

impl House {
    pub async fn show(&self, key: &str, body: &Value) -> String {
        let reply = self.post("/v1/shows").operator().key(key).json(body).send().await;
        assert_eq!(reply.status, 201, "{}", reply.text());
        reply.json()["id"].as_str().unwrap().to_owned()
    }
    async fn enter(&self, show: &str, user: &str, key: &str) -> Reply {
        self.post(&format!("/v1/shows/{show}/queue")).user(user).key(key).send().await
    }
    /// Enters, and gives the ticket.
    async fn ticket(&self, show: &str, user: &str) -> String {
        self.enter(show, user, "q").await.json()["ticket"].as_str().unwrap().to_owned()
    }
    async fn place_of(&self, show: &str, user: &str, ticket: &str) -> Value {
        self.get(&format!("/v1/shows/{show}/queue/{ticket}")).user(user).send().await.json()
    }
    async fn take(&self, show: &str, user: &str, key: &str, seats: &[&str]) -> Reply {
        let body = json!({"ticket": self.ticket(show, user).await, "seats": seats});
        self.post(&format!("/v1/shows/{show}/reservations")).user(user).key(key).json(&body).send().await
    }
    /// Takes a seat, and gives the reservation's id.
    pub async fn taken(&self, show: &str, user: &str, key: &str, seats: &[&str]) -> String {
        let reply = self.take(show, user, key, seats).await;
        assert_eq!(reply.status, 201, "{}", reply.text());
        reply.json()["id"].as_str().unwrap().to_owned()
    }
    async fn pay(&self, user: &str, id: &str, key: &str, body: &Value) -> Reply {
        self.post(&format!("/v1/reservations/{id}/payment")).user(user).key(key).json(body).send().await
    }
    async fn reservation(&self, user: &str, id: &str) -> Value {
        self.get(&format!("/v1/reservations/{id}")).user(user).send().await.json()
    }
    pub async fn seats(&self, show: &str, query: &str) -> Vec<Value> {
        let reply = self.get(&format!("/v1/shows/{show}/seats{query}")).user("x").send().await;
        reply.json()["items"].as_array().unwrap_or_else(|| panic!("{}", reply.text())).clone()
    }
    async fn seat(&self, show: &str, id: &str) -> Value {
        let seats = self.seats(show, "?limit=100").await;
        seats.into_iter().find(|seat| seat["id"] == id).unwrap()["status"].clone()
    }
}

fn card() -> Value {
    json!({"payment": {"method": "card", "payment_key": "tok_1"}})
}

#[tokio::test]
async fn a_show_is_made_once_and_its_seats_are_listed() {
    let house = House::new();
    let made = house.post("/v1/shows").operator().key("s").json(&show(4)).send().await;
    let id = made.json()["id"].as_str().unwrap().to_owned();
    assert_eq!(made.header("location"), format!("/v1/shows/{id}"));
    assert_eq!((&made.json()["status"], &made.json()["seats_total"]), (&json!("open"), &json!(5)));
    let again = house.post("/v1/shows").operator().key("s").json(&show(4)).send().await;
    assert_eq!((&again.bytes, again.header("idempotent-replayed")), (&made.bytes, "true"));
    let user = house.post("/v1/shows").user("u").key("s").json(&show(4)).send().await;
    assert_eq!(user.problem(), (403, "wrong_role".into()));
    let first = house.get(&format!("/v1/shows/{id}/seats?limit=3")).user("x").send().await.json();
    let names = |items: &Value| items.as_array().unwrap().iter().map(|seat| seat["id"].clone()).collect::<Vec<_>>();
    assert_eq!(names(&first["items"]), ["A-1", "A-2", "A-3"]);
    assert_eq!(first["items"][2]["price"]["value"], 50_000);
    let cursor = first["next_cursor"].as_str().unwrap();
    let rest = house.get(&format!("/v1/shows/{id}/seats?cursor={cursor}")).user("x").send().await.json();
    assert_eq!((names(&rest["items"]), &rest["next_cursor"]), (vec![json!("A-4"), json!("B-1")], &json!(null)));
    assert_eq!(house.seats(&id, "?section=B").await[0]["row"], "2");
    let bad = house.get(&format!("/v1/shows/{id}/seats?section=C&status=gone")).user("x").send().await;
    assert_eq!(bad.pointers(), ["/section", "/status"]);
    assert_eq!(house.get("/v1/shows").user("x").send().await.json()["items"][0]["id"], json!(id));
    assert_eq!(house.get("/v1/shows/ranking").user("x").send().await.json()["items"], json!([]));
    assert_eq!(house.get("/v1/shows/sh_00").user("x").send().await.problem().0, 404);
}

#[tokio::test]
async fn bad_shows_name_every_fault() {
    let house = House::new();
    let price = json!({"value": 0, "currency": "KRW"});
    let bad = json!({"title": "", "opens_at": "soon", "seats": [{"section": "", "row": [], "count": -1, "price": price}],
        "admission_per_second": "x", "x": 1});
    let reply = house.post("/v1/shows").operator().key("s").json(&bad).send().await;
    let pointers = [
        "/title",
        "/opens_at",
        "/seats/0/section",
        "/seats/0/row",
        "/seats/0/count",
        "/seats/0/price/value",
        "/admission_per_second",
        "/active_max",
        "/x",
    ];
    for pointer in pointers {
        assert!(reply.pointers().contains(&pointer.to_owned()), "{pointer}: {}", reply.text());
    }
    let faults = [
        ("/seats/0/count", json!(0)),
        ("/seats/0/count", json!(1_501)),
        ("/admission_per_second", json!(0)),
        ("/active_max", json!(0)),
        ("/seats", json!([])),
    ];
    for (pointer, value) in faults {
        let mut body = show(2);
        *body.pointer_mut(pointer).unwrap() = value;
        let reply = house.post("/v1/shows").operator().key("s").json(&body).send().await;
        assert_eq!((reply.status.as_u16(), reply.pointers()), (422, vec![pointer.to_owned()]), "{}", reply.text());
    }
}

#[tokio::test]
async fn who_enters_waits_in_order_is_admitted_and_expires() {
    let house = House::new();
    let id = house.show("s", &show(4)).await;
    let first = house.enter(&id, "u-0", "q").await;
    assert_eq!(first.status, 201, "{}", first.text());
    let body = first.json();
    assert_eq!((&body["status"], &body["position"], &body["eta_seconds"]), (&json!("admitted"), &json!(0), &json!(0)));
    assert_eq!(first.header("location"), format!("/v1/shows/{id}/queue/{}", body["ticket"].as_str().unwrap()));
    house.enter(&id, "u-1", "q").await;
    let third = house.enter(&id, "u-2", "q").await;
    assert_eq!((&third.json()["status"], &third.json()["position"]), (&json!("waiting"), &json!(1)));
    let fourth = house.enter(&id, "u-3", "q").await.json();
    assert_eq!(fourth["position"], 2);
    let (ticket, path) = (fourth["ticket"].as_str().unwrap(), format!("/v1/shows/{id}/queue"));
    assert_eq!(house.get(&format!("{path}/{ticket}")).user("u-0").send().await.problem().0, 404, "another's");
    let other = house.enter(&id, "u-2", "another").await;
    assert_eq!((other.status.as_u16(), &other.json()["ticket"]), (200, &third.json()["ticket"]), "keeps its place");
    let early = house.take(&id, "u-3", "r", &["A-1"]).await;
    assert_eq!(early.problem(), (409, "not_admitted".into()));
    house.door.pass(Millis::from_secs(2));
    house.door.settle();
    let again = house.enter(&id, "u-2", "q").await;
    assert_eq!((&again.bytes, again.header("idempotent-replayed")), (&third.bytes, "true"), "the first reply");
    assert_eq!(house.place_of(&id, "u-2", third.json()["ticket"].as_str().unwrap()).await["status"], "admitted");
    assert_eq!(house.place_of(&id, "u-3", ticket).await["status"], "waiting", "three are in");
    house.door.pass(Millis::from_mins(11));
    house.door.settle();
    assert_eq!(house.place_of(&id, "u-3", ticket).await["status"], "admitted");
    let late = house.take(&id, "u-0", "r", &["A-1"]).await;
    assert_eq!(late.problem(), (409, "ticket_expired".into()));
    let back = house.enter(&id, "u-0", "again").await;
    assert_eq!((back.status.as_u16(), &back.json()["ticket"]), (201, &body["ticket"]));
    let stranger = house.enter("sh_00", "u-0", "q").await;
    assert_eq!(stranger.problem().0, 404);
    assert_eq!(house.post(&path).user("u-9").send().await.problem(), (400, "idempotency_key_required".into()));
}

#[tokio::test]
async fn a_seat_is_taken_once_paid_behind_the_reply_and_sold() {
    let house = House::new();
    let id = house.show("s", &show(2)).await;
    let reply = house.take(&id, "u-0", "r", &["A-2"]).await;
    assert_eq!(reply.status, 201, "{}", reply.text());
    let body = reply.json();
    let rv = body["id"].as_str().unwrap();
    assert_eq!(reply.header("location"), format!("/v1/reservations/{rv}"));
    assert_eq!((&body["status"], &body["seats"]), (&json!("temporary_assigned"), &json!(["A-2"])));
    assert_eq!((&body["amount"]["value"], &body["expires_at"]), (&json!(50_000), &json!("2026-12-01T00:05:00.000Z")));
    assert_eq!(house.seat(&id, "A-2").await, "temporary_assigned");
    assert_eq!(house.take(&id, "u-1", "r", &["A-2"]).await.problem(), (409, "seat_taken".into()));
    let pending = house.pay("u-0", rv, "p", &card()).await;
    assert_eq!((pending.status.as_u16(), &pending.json()["status"]), (202, &json!("payment_pending")));
    assert!(!pending.text().contains("tok_1"));
    house.door.settle();
    let done = house.reservation("u-0", rv).await;
    assert_eq!((&done["status"], &done["payment"]["status"]), (&json!("confirmed"), &json!("paid")), "{done}");
    assert_eq!((house.seat(&id, "A-2").await, house.seat(&id, "A-1").await), (json!("sold"), json!("available")));
    let again = house.pay("u-0", rv, "p", &card()).await;
    assert_eq!((&again.bytes, again.header("idempotent-replayed")), (&pending.bytes, "true"));
    let repeat = house.take(&id, "u-0", "r", &["A-2"]).await;
    assert_eq!((&repeat.bytes, repeat.header("idempotent-replayed")), (&reply.bytes, "true"));
    assert_eq!(house.take(&id, "u-0", "r", &["A-1"]).await.problem(), (422, "idempotency_key_reused".into()));
    assert_eq!(house.pay("u-0", rv, "p2", &card()).await.problem(), (409, "wrong_state".into()));
    assert_eq!(house.get(&format!("/v1/reservations/{rv}")).user("u-1").send().await.problem().0, 404);
    let mine = house.get("/v1/reservations").user("u-0").send().await.json();
    assert_eq!(mine["items"][0]["id"], rv);
    let events = house.get(&format!("/v1/reservations/{rv}/events")).user("u-0").send().await.json();
    assert_eq!(events["items"][0]["type"], "temporary_assigned");
    let ticket = house.ticket(&id, "u-0").await;
    assert_eq!(house.place_of(&id, "u-0", &ticket).await["status"], "expired", "a seat was bought with it");
}

#[tokio::test]
async fn bad_reservations_and_payments_name_their_faults() {
    let house = House::new();
    let id = house.show("s", &show(3)).await;
    let path = format!("/v1/shows/{id}/reservations");
    let reserve = |body: Value| house.post(&path).user("u-0").key("r").json(&body).send();
    let ticket = house.ticket(&id, "u-0").await;
    let cases = [
        (json!({}), vec!["/ticket", "/seats"]),
        (json!({"ticket": ticket, "seats": []}), vec!["/seats"]),
        (json!({"ticket": 1, "seats": "A-1", "x": 1}), vec!["/ticket", "/seats", "/x"]),
        (json!({"ticket": ticket, "seats": ["A-9", "A-1", "A-1"]}), vec!["/seats/0", "/seats/2"]),
        (json!({"ticket": ticket, "seats": ["A-1", "B-1"]}), vec!["/seats"]),
        (json!({"ticket": "qt_1", "seats": ["A-1"]}), vec!["/ticket"]),
        (json!({"ticket": ticket, "seats": vec!["A-1"; 11]}), vec!["/seats"]),
    ];
    for (body, pointers) in cases {
        let reply = reserve(body.clone()).await;
        assert_eq!(
            (reply.status.as_u16(), reply.pointers()),
            (422, pointers.iter().map(|p| (*p).into()).collect()),
            "{body}"
        );
    }
    let several = house.taken(&id, "u-0", "r", &["A-1-3", "A-1"]).await;
    assert_eq!(house.reservation("u-0", &several).await["seats"], json!(["A-1", "A-3"]));
    for (body, pointer) in [
        (json!({}), "/method"),
        (json!({"payment": {"method": "gold"}}), "/payment/method"),
        (json!({"method": "card"}), "/payment_key"),
        (json!({"payment": {"method": "card", "payment_key": "tok_1"}, "x": 1}), "/x"),
    ] {
        let reply = house.pay("u-0", &several, "p", &body).await;
        assert_eq!((reply.status.as_u16(), reply.pointers()), (422, vec![pointer.to_owned()]), "{body}");
    }
    assert_eq!(house.pay("u-0", "rv_00", "p", &card()).await.problem().0, 404);
}

#[tokio::test]
async fn a_wallet_pays_or_says_that_it_cannot() {
    let house = House::new();
    let id = house.show("s", &show(3)).await;
    let poor = house.taken(&id, "u-0", "r", &["A-1"]).await;
    let pending = house.pay("u-0", &poor, "p", &json!({"method": "balance"})).await;
    assert_eq!(pending.json()["status"], "payment_pending", "{}", pending.text());
    house.door.settle();
    let failed = house.reservation("u-0", &poor).await;
    assert_eq!((&failed["status"], &failed["code"]), (&json!("payment_failed"), &json!("insufficient_balance")));
    assert_eq!(house.seat(&id, "A-1").await, "available");
    let charge = json!({"amount": {"value": 60_000, "currency": "KRW"}, "payment": {"payment_key": "tok_1"}});
    house.post("/v1/wallet/charges").user("u-0").key("c").json(&charge).send().await;
    house.door.settle();
    let rich = house.taken(&id, "u-0", "r2", &["A-1"]).await;
    house.pay("u-0", &rich, "p", &json!({"payment": {"method": "balance"}})).await;
    house.door.settle();
    assert_eq!(house.reservation("u-0", &rich).await["status"], "confirmed");
    let wallet = house.get("/v1/wallet").user("u-0").send().await.json();
    assert_eq!((&wallet["balance"]["value"], &wallet["held"]["value"]), (&json!(10_000), &json!(50_000)));
    let cancelled = house.post(&format!("/v1/reservations/{rich}/cancel")).user("u-0").key("x").send().await;
    assert_eq!((cancelled.status.as_u16(), &cancelled.json()["status"]), (200, &json!("cancelled")));
    house.door.settle();
    assert_eq!(house.reservation("u-0", &rich).await["refunded"]["value"], 50_000);
    let wallet = house.get("/v1/wallet").user("u-0").send().await.json();
    assert_eq!(wallet["balance"]["value"], 60_000);
    assert_eq!(house.seat(&id, "A-1").await, "available");
}

#[tokio::test]
async fn what_is_not_paid_in_time_or_refused_is_free_again() {
    let house = House::new();
    let id = house.show("s", &show(3)).await;
    let (slow, refused) = (house.taken(&id, "u-0", "r", &["A-1"]).await, house.taken(&id, "u-1", "r", &["A-2"]).await);
    house.pay("u-1", &refused, "p", &card()).await;
    house.door.settle_with(&refuses);
    let failed = house.reservation("u-1", &refused).await;
    assert_eq!((&failed["status"], &failed["code"]), (&json!("payment_failed"), &json!("REJECTED")));
    house.door.pass(Millis::from_mins(5));
    assert_eq!(house.pay("u-0", &slow, "p", &card()).await.problem(), (409, "reservation_expired".into()));
    house.door.settle();
    assert_eq!(house.reservation("u-0", &slow).await["status"], "expired");
    assert_eq!(house.seats(&id, "?status=available").await.len(), 4);
    let late = house.post(&format!("/v1/reservations/{slow}/cancel")).user("u-0").key("x").send().await;
    assert_eq!(late.problem(), (409, "wrong_state".into()));
}

#[tokio::test]
async fn shows_are_ranked_by_how_fast_they_sold_out() {
    let house = House::new();
    let mut ranked = Vec::new();
    for (key, minutes) in [("slow", 3), ("fast", 1)] {
        let id = house.show(key, &show(1)).await;
        house.door.pass(Millis::from_mins(minutes));
        for (user, seat) in [("u-0", "A-1"), ("u-1", "B-1")] {
            let rv = house.taken(&id, user, key, &[seat]).await;
            house.pay(user, &rv, key, &card()).await;
        }
        house.door.settle();
        house.door.pass(Millis::from_secs(2));
        house.door.settle();
        ranked.insert(0, id);
    }
    let told = house.get("/v1/shows/ranking").user("x").send().await.json();
    // The second show opened at the same instant as the first, and began later.
    let ids: Vec<&Value> = told["items"].as_array().unwrap().iter().map(|item| &item["show_id"]).collect();
    assert_eq!(ids.len(), 2, "{told}");
    assert!(told["items"][0]["sold_out_after_ms"].as_i64() <= told["items"][1]["sold_out_after_ms"].as_i64());
    let sold = house.get(&format!("/v1/shows/{}", ranked[0])).user("x").send().await.json();
    assert_eq!((&sold["status"], &sold["seats_sold"]), (&json!("sold_out"), &json!(2)));
}

#[tokio::test(start_paused = true)]
async fn a_number_and_a_hold_that_do_not_arrive_in_time_are_unknown_and_a_repeat_settles_them() {
    let house = House::new();
    let id = house.show("s", &show(2)).await;
    house.door.relays.store(false, Ordering::SeqCst);
    assert_eq!(house.enter(&id, "u-0", "q").await.problem(), (503, "outcome_unknown".into()));
    house.door.relays.store(true, Ordering::SeqCst);
    let ticket = house.ticket(&id, "u-0").await;
    house.door.relays.store(false, Ordering::SeqCst);
    let body = json!({"ticket": ticket, "seats": ["A-1"]});
    let reserve = || house.post(&format!("/v1/shows/{id}/reservations")).user("u-0").key("r").json(&body).send();
    assert_eq!(reserve().await.problem(), (503, "outcome_unknown".into()));
    house.door.relays.store(true, Ordering::SeqCst);
    assert_eq!(reserve().await.status, 201);
}

#[tokio::test(start_paused = true)]
async fn streams_tell_the_ticket_and_the_reservation() {
    let house = House::new();
    let id = house.show("s", &show(2)).await;
    for user in ["u-0", "u-1"] {
        house.ticket(&id, user).await;
    }
    let ticket = house.ticket(&id, "u-2").await;
    let mut queue = house.follow(&format!("/v1/shows/{id}/queue/{ticket}/stream"), "u-2").await;
    let first = next_event(&mut queue).await;
    assert!(first.contains("\"status\":\"waiting\"") && first.contains("\"position\":1"), "{first}");
    house.door.pass(Millis::from_secs(2));
    house.door.settle();
    let second = next_event(&mut queue).await;
    assert!(second.contains("\"status\":\"admitted\""), "{second}");
    let rv = house.taken(&id, "u-2", "r", &["A-1"]).await;
    let mut stream = house.follow(&format!("/v1/reservations/{rv}/stream"), "u-2").await;
    assert!(next_event(&mut stream).await.contains("temporary_assigned"));
    house.pay("u-2", &rv, "p", &card()).await;
    assert!(next_event(&mut stream).await.contains("payment_pending"));
    house.app.shutdown.cancel();
}

impl House {
    async fn follow(&self, path: &str, user: &str) -> Body {
        let request = Request::get(path).header("authorization", bearer(Role::User, user)).body(Body::empty()).unwrap();
        let response = self.router.clone().oneshot(request).await.unwrap();
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        response.into_body()
    }
}

async fn next_event(body: &mut Body) -> String {
    let frame = body.frame().await.expect("an event").unwrap();
    String::from_utf8(frame.into_data().unwrap().to_vec()).unwrap()
}

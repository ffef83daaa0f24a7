//! Coupons: an operator's campaign, members' claims and their coupons.

use super::memory::Trouble;
use super::*;
use crate::api::campaigns::OpenCampaign;
use crate::domain::campaign::CampaignState;
use crate::types::hint::AvailabilityHints;
use crate::types::time::Millis;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;

pub fn campaign(quantity: u32) -> Value {
    json!({
        "name": "첫 주문 쿠폰", "quantity": quantity,
        "starts_at": "2026-12-01T00:00:00Z", "ends_at": "2026-12-02T00:00:00Z",
        "discount": {"percent": 10, "cap": {"value": 3000, "currency": "KRW"}}, "valid_days": 30
    })
}

impl House {
    pub async fn campaign(&self, body: &Value) -> String {
        let reply = self.post("/v1/coupon-campaigns").operator().key("c").json(body).send().await;
        assert_eq!(reply.status, 201, "{}", reply.text());
        reply.json()["id"].as_str().unwrap().to_owned()
    }

    pub async fn claim(&self, campaign: &str, user: &str, key: &str) -> Reply {
        self.post(&format!("/v1/coupon-campaigns/{campaign}/claims")).user(user).key(key).send().await
    }

    pub async fn standing(&self, campaign: &str) -> Value {
        self.get(&format!("/v1/coupon-campaigns/{campaign}")).user("x").send().await.json()
    }
}

pub fn refused(reply: &Reply) -> String {
    let (status, code) = reply.problem();
    assert_eq!(status, 409, "{}", reply.text());
    code
}

#[tokio::test]
async fn a_campaign_is_made_once_and_read_by_all() {
    let house = House::new();
    let made = house.post("/v1/coupon-campaigns").operator().key("c").json(&campaign(3)).send().await;
    assert_eq!(made.status, 201, "{}", made.text());
    let body = made.json();
    let id = body["id"].as_str().unwrap();
    assert!(id.starts_with("cc_"));
    assert_eq!(made.header("location"), format!("/v1/coupon-campaigns/{id}"));
    assert_eq!((&body["quantity"], &body["issued"], &body["status"]), (&json!(3), &json!(0), &json!("open")));
    assert_eq!(body["discount"], json!({"percent": 10, "cap": {"value": 3000, "currency": "KRW"}}));
    house.claim(id, "u-1", "k").await;
    let again = house.post("/v1/coupon-campaigns").operator().key("c").json(&campaign(3)).send().await;
    assert_eq!((&again.bytes, again.header("idempotent-replayed")), (&made.bytes, "true"));
    let other = house.post("/v1/coupon-campaigns").operator().key("c").json(&campaign(4)).send().await;
    assert_eq!(other.problem(), (422, "idempotency_key_reused".into()));
    assert_eq!(house.standing(id).await["issued"], 1);
    let list = house.get("/v1/coupon-campaigns").user("x").send().await.json();
    assert_eq!(list["items"][0]["id"], id);
    let user = house.post("/v1/coupon-campaigns").user("u-1").key("c").json(&campaign(3)).send().await;
    assert_eq!(user.problem(), (403, "wrong_role".into()));
    house.door.pass(Millis::from_days(2));
    assert_eq!(house.standing(id).await["status"], "ended");
}

#[tokio::test]
async fn terms_are_checked_with_all_their_faults_at_once() {
    let house = House::new();
    let bad = json!({"name": "", "quantity": 0, "starts_at": "soon", "ends_at": "2026-12-02T00:00:00Z",
        "discount": {"percent": 10, "amount": {"value": 1, "currency": "KRW"}}, "valid_days": 70000, "x": 1});
    let reply = house.post("/v1/coupon-campaigns").operator().key("c").json(&bad).send().await;
    for pointer in ["/name", "/starts_at", "/discount", "/valid_days", "/x"] {
        assert!(reply.pointers().contains(&pointer.to_owned()), "{pointer}: {}", reply.text());
    }
    let faults = [
        ("/quantity", json!(0)),
        ("/ends_at", json!("2026-11-30T00:00:00Z")),
        ("/valid_days", json!(0)),
        ("/discount", json!({"percent": 101})),
        ("/discount", json!({"percent": 10, "cap": {"value": 0, "currency": "KRW"}})),
        ("/discount", json!({})),
    ];
    for (pointer, value) in faults {
        let mut body = campaign(3);
        *body.pointer_mut(pointer).unwrap() = value;
        let reply = house.post("/v1/coupon-campaigns").operator().key("c").json(&body).send().await;
        assert_eq!(reply.status, 422, "{pointer}: {}", reply.text());
        assert!(reply.pointers().iter().all(|at| at.starts_with(pointer)), "{pointer}: {}", reply.text());
    }
    // Over before it is made: the campaign's to judge.
    house.door.pass(Millis::from_days(2));
    let late = house.post("/v1/coupon-campaigns").operator().key("c").json(&campaign(3)).send().await;
    assert_eq!((late.status.as_u16(), late.pointers()), (422, vec!["/ends_at".to_owned()]));
}

#[tokio::test]
async fn a_claim_is_answered_with_the_coupon_and_its_repeat_with_the_same_bytes() {
    let house = House::new();
    let id = house.campaign(&campaign(2)).await;
    let first = house.claim(&id, "u-1", "k").await;
    assert_eq!(first.status, 201, "{}", first.text());
    let coupon = first.json();
    let path = format!("/v1/coupons/{}", coupon["id"].as_str().unwrap());
    assert_eq!((first.header("location"), first.header("etag")), (path.as_str(), "\"1\""));
    assert_eq!((&coupon["status"], &coupon["campaign_id"]), (&json!("issued"), &json!(id)));
    assert_eq!(coupon["expires_at"], "2026-12-31T14:59:59.999Z");
    assert_eq!(first.header("idempotent-replayed"), "");
    let used = house.post(&format!("{path}/use")).user("u-1").key("u").send().await;
    assert_eq!(used.json()["status"], "used", "{}", used.text());
    let again = house.claim(&id, "u-1", "k").await;
    assert_eq!((&again.bytes, again.header("idempotent-replayed")), (&first.bytes, "true"));
    assert_eq!(refused(&house.claim(&id, "u-1", "other").await), "already_claimed");
    assert_eq!(house.standing(&id).await["issued"], 1);
}

#[tokio::test]
async fn the_last_coupon_is_the_last_and_a_winner_who_repeats_still_gets_his() {
    let house = House::new();
    let id = house.campaign(&campaign(2)).await;
    let winner = house.claim(&id, "u-1", "k").await;
    assert_eq!(house.claim(&id, "u-2", "k").await.status, 201);
    for _ in 0..2 {
        // First from the campaign, then from what the node knows.
        assert_eq!(refused(&house.claim(&id, "u-3", "k").await), "sold_out");
        assert_eq!(house.claim(&id, "u-1", "k").await.bytes, winner.bytes);
        assert_eq!(refused(&house.claim(&id, "u-2", "other").await), "already_claimed");
    }
    // Known to be sold out, the campaign is not asked.
    *house.door.trouble.lock() = Trouble::Fail("overloaded");
    assert_eq!(refused(&house.claim(&id, "u-4", "k").await), "sold_out");
    *house.door.trouble.lock() = Trouble::None;
    let standing = house.standing(&id).await;
    assert_eq!((&standing["issued"], &standing["status"]), (&json!(2), &json!("sold_out")));
}

#[tokio::test]
async fn claims_outside_the_window_are_refused() {
    let house = House::new();
    let mut body = campaign(2);
    body["starts_at"] = json!("2026-12-01T06:00:00Z");
    let id = house.campaign(&body).await;
    assert_eq!(refused(&house.claim(&id, "u-1", "k").await), "not_started");
    house.door.pass(Millis(6 * 3_600_000 - 500));
    assert_eq!(refused(&house.claim(&id, "u-1", "k").await), "not_started", "by the campaign itself");
    house.door.pass(Millis(500));
    let won = house.claim(&id, "u-1", "k").await;
    assert_eq!(won.status, 201, "{}", won.text());
    house.door.pass(Millis::from_hours(18));
    assert_eq!(refused(&house.claim(&id, "u-2", "k").await), "ended", "by the campaign itself");
    house.door.pass(Millis::from_days(1));
    assert_eq!(refused(&house.claim(&id, "u-2", "k").await), "ended");
    assert_eq!(house.claim(&id, "u-1", "k").await.bytes, won.bytes);
    let nobody = format!("cc_{}", "0".repeat(32));
    assert_eq!(house.claim(&nobody, "u-1", "k").await.problem().0, 404);
    assert_eq!(house.claim("g_00", "u-1", "k").await.problem().0, 404);
    let bare = house.post(&format!("/v1/coupon-campaigns/{id}/claims")).user("u-1").send().await;
    assert_eq!(bare.problem(), (400, "idempotency_key_required".into()));
    let body = house.post(&format!("/v1/coupon-campaigns/{id}/claims")).user("u-1").key("k").json(&json!({"x": 1}));
    assert_eq!(body.send().await.pointers(), ["/x"]);
}

#[tokio::test(start_paused = true)]
async fn a_coupon_that_does_not_come_in_time_is_unknown_and_a_repeat_settles_it() {
    let house = House::new();
    let id = house.campaign(&campaign(1)).await;
    house.door.relays.store(false, Ordering::SeqCst);
    let waits = house.claim(&id, "u-1", "k").await;
    assert_eq!(waits.problem(), (503, "outcome_unknown".into()));
    // The only place is granted and not issued: nobody is told that it is sold out.
    let undecided = house.claim(&id, "u-2", "k").await;
    assert_eq!(undecided.problem(), (503, "overloaded".into()));
    house.door.relays.store(true, Ordering::SeqCst);
    assert_eq!(house.claim(&id, "u-1", "k").await.status, 201);
    assert_eq!(refused(&house.claim(&id, "u-2", "k").await), "sold_out");
}

#[tokio::test]
async fn a_member_sees_and_uses_the_own_coupons_alone() {
    let house = House::new();
    let mut ids = Vec::new();
    for key in ["a", "b"] {
        let made = house.post("/v1/coupon-campaigns").operator().key(key).json(&campaign(2)).send().await;
        let id = made.json()["id"].as_str().unwrap().to_owned();
        ids.push(house.claim(&id, "u-1", "k").await.json()["id"].as_str().unwrap().to_owned());
        house.door.pass(Millis(1_000));
    }
    let mine = house.get("/v1/coupons?limit=1").user("u-1").send().await.json();
    assert_eq!(mine["items"][0]["id"], ids[1], "newest first");
    let next = mine["next_cursor"].as_str().unwrap();
    let rest = house.get(&format!("/v1/coupons?cursor={next}")).user("u-1").send().await.json();
    assert_eq!((&rest["items"][0]["id"], &rest["next_cursor"]), (&json!(ids[0]), &json!(null)));
    assert_eq!(house.get("/v1/coupons").user("u-2").send().await.json()["items"], json!([]));
    let path = format!("/v1/coupons/{}", ids[0]);
    assert_eq!(house.get(&path).user("u-2").send().await.problem().0, 404);
    assert_eq!(house.post(&format!("{path}/use")).user("u-2").key("u").send().await.problem().0, 404);
    let used = house.post(&format!("{path}/use")).user("u-1").key("u").send().await;
    assert_eq!((&used.json()["status"], &used.json()["used_by"]), (&json!("used"), &json!("member")));
    let again = house.post(&format!("{path}/use")).user("u-1").key("u").send().await;
    assert_eq!((&again.bytes, again.header("idempotent-replayed")), (&used.bytes, "true"));
    let twice = house.post(&format!("{path}/use")).user("u-1").key("v").send().await;
    assert_eq!(twice.problem(), (409, "already_used".into()));
    house.door.pass(Millis::from_days(40));
    let late = house.post(&format!("/v1/coupons/{}/use", ids[1])).user("u-1").key("u").send().await;
    assert_eq!(late.problem(), (410, "coupon_expired".into()));
    house.door.settle();
    let expired = house.get(&format!("/v1/coupons/{}", ids[1])).user("u-1").send().await.json();
    assert_eq!(expired["status"], "expired");
}

#[tokio::test(start_paused = true)]
async fn the_stream_tells_the_campaign_and_the_callers_own_coupon() {
    let house = House::new();
    let id = house.campaign(&campaign(1)).await;
    let request = Request::get(format!("/v1/coupon-campaigns/{id}/stream"))
        .header("authorization", bearer(Role::User, "u-1"))
        .body(Body::empty())
        .unwrap();
    let response = house.router.clone().oneshot(request).await.unwrap();
    assert_eq!(response.headers()["content-type"], "text/event-stream");
    let mut body = response.into_body();
    let first = next_event(&mut body).await;
    assert!(first.contains("\"status\":\"open\"") && first.contains("\"coupon\":null"), "{first}");
    house.claim(&id, "u-1", "k").await;
    let second = next_event(&mut body).await;
    assert!(second.contains("\"status\":\"sold_out\"") && second.contains("\"coupon\":{\"id\":\"c_"), "{second}");
    house.app.shutdown.cancel();
    assert!(body.frame().await.is_none_or(|frame| frame.is_err()), "the stream ends with the server");
}

#[tokio::test(start_paused = true)]
async fn a_stream_tells_the_coupon_of_a_user_to_nobody_of_another_role_who_has_that_name() {
    let house = House::new();
    let id = house.campaign(&campaign(2)).await;
    assert_eq!(house.claim(&id, "x", "k").await.status, 201);
    let none = "\"coupon\":null";
    for (role, own) in [(Role::User, "\"coupon\":{"), (Role::Merchant, none), (Role::Operator, none)] {
        let path = format!("/v1/coupon-campaigns/{id}/stream");
        let request = Request::get(path).header("authorization", bearer(role, "x")).body(Body::empty()).unwrap();
        let mut body = house.router.clone().oneshot(request).await.unwrap().into_body();
        let first = next_event(&mut body).await;
        assert!(first.contains(own), "{role:?}: {first}");
    }
    house.app.shutdown.cancel();
}

pub async fn next_event(body: &mut Body) -> String {
    let frame = body.frame().await.expect("an event").unwrap();
    String::from_utf8(frame.into_data().unwrap().to_vec()).unwrap()
}

/// Says of every campaign what it is told to say, and keeps what it hears.
#[derive(Default)]
pub struct Rumour {
    pub sold_out: AtomicBool,
    /// By campaign, in order.
    pub heard: Mutex<BTreeMap<String, Vec<u32>>>,
}

impl AvailabilityHints for Rumour {
    fn tell(&self, campaign: &str, left: u32) {
        self.heard.lock().entry(campaign.to_owned()).or_default().push(left);
    }
    fn is_sold_out(&self, _campaign: &str) -> bool {
        self.sold_out.load(Ordering::SeqCst)
    }
}

#[tokio::test]
async fn a_hint_that_a_campaign_is_sold_out_is_looked_into_and_never_believed() {
    let house = House::new();
    let rumour = Arc::new(Rumour::default());
    *house.door.hints.lock() = Some(rumour.clone());
    let id = house.campaign(&campaign(2)).await;
    rumour.sold_out.store(true, Ordering::SeqCst);
    for user in ["u-1", "u-2"] {
        assert_eq!(house.claim(&id, user, "k").await.status, 201, "the hint is wrong");
    }
    assert_eq!(refused(&house.claim(&id, "u-3", "k").await), "sold_out");
    assert_eq!(rumour.heard.lock()[&id].last(), Some(&0), "the others are told");
    assert!(rumour.heard.lock()[&id].contains(&2));
    // Another node, which has known the campaign from before: the hint makes it look, and the campaign is not asked.
    let app = Shared::new(options(), house.door.clone(), CancellationToken::new());
    let other = House { door: house.door.clone(), router: routes(&app), app };
    let key = other.app.campaign_key(&id).unwrap();
    let told = other.app.look::<CampaignState>(key).await.unwrap().unwrap();
    let mut before = told.state.get().unwrap().clone();
    before.sold_out_at = None;
    other.app.campaigns.note(&OpenCampaign::new(key, told.version, before, Vec::new()));
    *house.door.trouble.lock() = Trouble::Fail("unavailable");
    assert_eq!(refused(&other.claim(&id, "u-4", "k").await), "sold_out");
}

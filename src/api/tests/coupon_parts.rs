//! A campaign in parts, through the front door: one campaign to those who look, and as many desks as it has parts.

use super::coupons::{Rumour, campaign, next_event, refused};
use super::memory::Trouble;
use super::*;
use crate::types::time::Millis;
use std::collections::BTreeSet;
use std::sync::atomic::Ordering;

fn in_parts(quantity: u32, parts: u32) -> Value {
    let mut body = campaign(quantity);
    body["parts"] = json!(parts);
    body
}

#[tokio::test]
async fn its_parts_are_one_campaign_to_those_who_look() {
    let house = House::new();
    let made = house.post("/v1/coupon-campaigns").operator().key("c").json(&in_parts(10, 3)).send().await;
    assert_eq!(made.status, 201, "{}", made.text());
    let body = made.json();
    let id = body["id"].as_str().unwrap();
    assert_eq!((&body["quantity"], &body["parts"], &body["issued"]), (&json!(10), &json!(3), &json!(0)));
    for user in ["u-1", "u-2", "u-3", "u-4"] {
        let won = house.claim(id, user, "k").await;
        assert_eq!((won.status.as_u16(), &won.json()["campaign_id"]), (201, &json!(id)), "{}", won.text());
    }
    let again = house.post("/v1/coupon-campaigns").operator().key("c").json(&in_parts(10, 3)).send().await;
    assert_eq!((&again.bytes, again.header("idempotent-replayed")), (&made.bytes, "true"));
    let standing = house.standing(id).await;
    assert_eq!((&standing["issued"], &standing["status"]), (&json!(4), &json!("open")));
    let list = house.get("/v1/coupon-campaigns").user("x").send().await.json();
    assert_eq!((list["items"].as_array().unwrap().len(), &list["items"][0]), (1, &standing));
    // Parts have no door of their own.
    let key = house.app.campaign_key(id).unwrap();
    let parts = house.app.read_campaign(key).await.unwrap().versions().split_off(1);
    let shards: BTreeSet<u16> = parts.iter().map(|(part, _)| house.app.door.shard_of(part).0).collect();
    assert_eq!(shards.len(), 3, "on shards of their own");
    for (part, _) in parts {
        let part = crate::domain::kinds::text_id(part);
        assert_eq!(house.get(&format!("/v1/coupon-campaigns/{part}")).user("x").send().await.problem().0, 404);
        assert_eq!(house.claim(&part, "u-9", "k").await.problem().0, 404);
    }
    house.door.pass(Millis::from_days(2));
    house.door.settle();
    assert_eq!(house.standing(id).await["status"], "ended");
}

#[tokio::test]
async fn parts_that_are_none_are_refused_and_so_is_a_cluster_that_does_not_know_them() {
    let house = House::new();
    for (quantity, parts) in [(10, 0), (10, 65), (10, 300), (3, 4)] {
        let reply =
            house.post("/v1/coupon-campaigns").operator().key("c").json(&in_parts(quantity, parts)).send().await;
        assert_eq!((reply.status.as_u16(), reply.pointers()), (422, vec!["/parts".to_owned()]), "{}", reply.text());
    }
    house.door.level.store(3, Ordering::SeqCst);
    let refused = house.post("/v1/coupon-campaigns").operator().key("c").json(&in_parts(10, 2)).send().await;
    assert_eq!(refused.problem(), (503, "unavailable".into()));
    let whole = house.post("/v1/coupon-campaigns").operator().key("c").json(&in_parts(10, 1)).send().await;
    assert_eq!((whole.status.as_u16(), &whole.json()["parts"]), (201, &json!(1)));
}

#[tokio::test]
async fn it_is_sold_out_when_all_parts_are_and_to_the_last_coupon() {
    let house = House::new();
    let id = house.campaign(&in_parts(7, 4)).await;
    let mut ids = BTreeSet::new();
    for number in 0..7 {
        let won = house.claim(&id, &format!("u-{number}"), "k").await;
        assert_eq!(won.status, 201, "u-{number} is tried at every part: {}", won.text());
        ids.insert(won.json()["id"].as_str().unwrap().to_owned());
    }
    assert_eq!(ids.len(), 7);
    for number in 7..10 {
        assert_eq!(refused(&house.claim(&id, &format!("u-{number}"), "k").await), "sold_out");
    }
    assert_eq!(refused(&house.claim(&id, "u-3", "other").await), "already_claimed");
    let standing = house.standing(&id).await;
    assert_eq!((&standing["issued"], &standing["status"]), (&json!(7), &json!("sold_out")));
    // What is known for good asks nobody.
    *house.door.trouble.lock() = Trouble::Fail("overloaded");
    assert_eq!(refused(&house.claim(&id, "u-99", "k").await), "sold_out");
}

#[tokio::test]
async fn a_part_that_is_known_to_be_sold_out_is_passed_over() {
    let house = House::new();
    let rumour = Arc::new(Rumour::default());
    *house.door.hints.lock() = Some(rumour.clone());
    let id = house.campaign(&in_parts(40, 2)).await;
    let key = house.app.campaign_key(&id).unwrap();
    let parts = house.app.read_campaign(key).await.unwrap().versions().split_off(1);
    let asked = |part: usize| {
        let heard = rumour.heard.lock();
        heard.get(&crate::domain::kinds::text_id(parts[part].0)).map_or(0, Vec::len)
    };
    let of_first = (0..).map(|number| format!("u-{number}"));
    let mut of_first = of_first.filter(|user| crate::domain::campaign::part_of_member(user, 2) == 0);
    let mut claims = async |count: usize| {
        let before = (asked(0), asked(1));
        for user in of_first.by_ref().take(count) {
            assert_eq!(house.claim(&id, &user, "k").await.status, 201);
        }
        (asked(0) - before.0, asked(1) - before.1)
    };
    assert_eq!(claims(20).await, (20, 0), "at their own part");
    assert_eq!(claims(1).await, (1, 1), "their own part says that it is sold out");
    assert_eq!(claims(4).await, (0, 4), "and is not asked again");
    assert_eq!(house.standing(&id).await["status"], "open");
}

#[tokio::test(start_paused = true)]
async fn a_part_that_is_not_made_yet_is_waited_for() {
    let house = House::new();
    house.door.relays.store(false, Ordering::SeqCst);
    let id = house.campaign(&in_parts(4, 2)).await;
    let early = house.claim(&id, "u-1", "k").await;
    assert_eq!(early.problem(), (503, "overloaded".into()));
    assert_eq!(house.standing(&id).await["status"], "open");
    house.door.relays.store(true, Ordering::SeqCst);
    house.door.settle();
    assert_eq!(house.claim(&id, "u-1", "k").await.status, 201);
}

#[tokio::test]
async fn the_hint_is_what_is_left_of_all_parts_and_nought_only_when_all_are_sold_out() {
    let house = House::new();
    let rumour = Arc::new(Rumour::default());
    *house.door.hints.lock() = Some(rumour.clone());
    let id = house.campaign(&in_parts(4, 2)).await;
    let told = || rumour.heard.lock().get(&id).cloned().unwrap_or_default();
    for number in 0..4 {
        assert_eq!(house.claim(&id, &format!("u-{number}"), "k").await.status, 201);
    }
    assert_eq!(told().first(), Some(&4));
    assert!(told().iter().all(|left| *left > 0), "nobody has been told that it is sold out: {:?}", told());
    assert!(told().is_sorted_by(|before, after| before >= after), "{:?}", told());
    assert_eq!(refused(&house.claim(&id, "u-9", "k").await), "sold_out");
    assert_eq!(told().last(), Some(&0));
    let parts = rumour.heard.lock().len() - 1;
    assert_eq!(parts, 2, "and of each part by itself");
    // Another node, which is told so, looks once and asks no part.
    let app = Shared::new(options(), house.door.clone(), CancellationToken::new());
    let other = House { door: house.door.clone(), router: routes(&app), app };
    rumour.sold_out.store(true, Ordering::SeqCst);
    *house.door.trouble.lock() = Trouble::Fail("unavailable");
    assert_eq!(refused(&other.claim(&id, "u-4", "k").await), "sold_out");
}

#[tokio::test(start_paused = true)]
async fn its_stream_tells_the_sum_of_the_parts_and_resumes_behind_it() {
    let house = House::new();
    let id = house.campaign(&in_parts(2, 2)).await;
    let open = |last: Option<&str>| {
        let mut request = Request::get(format!("/v1/coupon-campaigns/{id}/stream"))
            .header("authorization", bearer(Role::User, "u-1"));
        if let Some(last) = last {
            request = request.header("last-event-id", last);
        }
        house.router.clone().oneshot(request.body(Body::empty()).unwrap())
    };
    let mut body = open(None).await.unwrap().into_body();
    let first = next_event(&mut body).await;
    assert!(first.contains("\"issued\":0") && first.contains("\"parts\":2"), "{first}");
    house.claim(&id, "u-2", "k").await;
    let second = next_event(&mut body).await;
    assert!(second.contains("\"issued\":1") && second.contains("\"status\":\"open\""), "{second}");
    let last = second.lines().find_map(|line| line.strip_prefix("id:")).unwrap().trim().to_owned();
    let mut resumed = open(Some(&last)).await.unwrap().into_body();
    house.claim(&id, "u-1", "k").await;
    for body in [&mut body, &mut resumed] {
        let third = next_event(body).await;
        assert!(third.contains("\"status\":\"sold_out\"") && third.contains("\"coupon\":{\"id\":\"c_"), "{third}");
    }
}

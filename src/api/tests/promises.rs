//! What views, preconditions, streams and texts promise beside the story that a resource tells.

use super::concert::show;
use super::orders::order;
use super::*;
use crate::types::call::{CallOutcome, CallRequest, MessageOutcome, PaymentOutcome, RefusalClass};
use crate::types::time::{Millis, Timestamp};

/// No card pays, and no message leaves.
fn refused(request: &CallRequest, now: Timestamp) -> CallOutcome {
    let code = "REJECT_CARD_COMPANY".to_owned();
    match request {
        CallRequest::Payment(_) => CallOutcome::Payment(PaymentOutcome::NotCaptured { code }),
        CallRequest::Message(_) => {
            CallOutcome::Message(MessageOutcome::Refused { code, class: RefusalClass::Permanent })
        }
        other => memory::kind_answer(other, now),
    }
}

#[tokio::test]
async fn a_payment_that_will_not_come_is_not_pending() {
    let house = House::new();
    house.shelf("mug", 5, 4_500).await;
    let concert = house.show("s", &show(4)).await;
    let place = async |key: &'static str, method: &'static str| {
        house.place("u-1", key, &order("mug", 1, method)).await.json()["id"].as_str().unwrap().to_owned()
    };
    let (card, poor, left) = (place("a", "card").await, place("b", "balance").await, place("c", "card").await);
    let cancel = house.post(&format!("/v1/orders/{left}/cancel")).user("u-1").key("x").send().await;
    assert_eq!(cancel.status, 200, "{}", cancel.text());
    let seat = house.taken(&concert, "u-0", "r", &["A-1"]).await;
    let pay = house.post(&format!("/v1/reservations/{seat}/payment")).user("u-0").key("p");
    let pending = pay.json(&json!({"method": "card", "payment_key": "tok_1"})).send().await.json();
    assert_eq!(pending["payment"]["status"], "pending");
    assert_eq!(house.order_of("u-1", &card).await["payment"]["status"], "pending");
    house.door.settle_with(&refused);
    for (id, status) in [(card, "failed"), (poor, "failed"), (left, "cancelled")] {
        let view = house.order_of("u-1", &id).await;
        assert_eq!((&view["status"], &view["payment"]["status"]), (&json!(status), &json!(status)), "{view}");
    }
    let view = house.get(&format!("/v1/reservations/{seat}")).user("u-0").send().await.json();
    assert_eq!((&view["status"], &view["payment"]["status"]), (&json!("payment_failed"), &json!("failed")));
}

#[tokio::test]
async fn the_attempt_that_sent_a_notice_or_gave_it_up_counts() {
    let house = House::new();
    house.shelf("mug", 5, 4_500).await;
    let of =
        async |id: String| attempts(&house.get(&format!("/v1/orders/{id}/notices")).user("u-1").send().await.json());
    let place = async |key: &'static str| {
        house.place("u-1", key, &order("mug", 1, "card")).await.json()["id"].as_str().unwrap().to_owned()
    };
    let sent = place("a").await;
    house.door.settle();
    assert_eq!(of(sent).await, [("sent".to_owned(), 1), ("sent".to_owned(), 1)]);
    let dead = place("b").await;
    let silent = |request: &CallRequest, now: Timestamp| match request {
        CallRequest::Payment(_) => memory::kind_answer(request, now),
        other => refused(other, now),
    };
    house.door.settle_with(&silent);
    assert_eq!(of(dead).await, [("dead_letter".to_owned(), 1), ("dead_letter".to_owned(), 1)]);
    let letters = house.get("/v1/ops/dead-letters").operator().send().await.json();
    assert!(letters["items"].as_array().unwrap().iter().all(|letter| letter["attempts"] == 1), "{letters}");
}

/// Status and attempts of each notice.
fn attempts(page: &Value) -> Vec<(String, u64)> {
    let row = |item: &Value| (item["status"].as_str().unwrap().to_owned(), item["attempts"].as_u64().unwrap());
    page["items"].as_array().unwrap().iter().map(row).collect()
}

#[tokio::test]
async fn a_post_upon_an_entity_keeps_to_the_precondition_that_it_was_sent_with() {
    let house = House::open().await;
    let id = house.reserve("u-1", "k").await["id"].as_str().unwrap().to_owned();
    let path = format!("/v1/gifts/{id}/cancel");
    let cancel = |key: &'static str, tag: &'static str| house.post(&path).user("u-1").key(key).header("if-match", tag);
    assert_eq!(cancel("a", "1").send().await.problem(), (400, "precondition_invalid".into()));
    assert_eq!(cancel("a", "\"7\", W/\"1\"").send().await.problem(), (412, "version_mismatch".into()));
    let stranger = house.post(&path).user("u-2").key("a").header("if-match", "\"7\"").send().await;
    assert_eq!(stranger.problem(), (404, "not_found".into()), "who may not see it is not told its version");
    let first = cancel("a", "\"1\"").send().await;
    assert_eq!((first.status.as_u16(), first.header("etag")), (200, "\"2\""), "{}", first.text());
    let again = cancel("a", "\"1\"").send().await;
    assert_eq!((again.bytes == first.bytes, again.header("idempotent-replayed")), (true, "true"));
    assert_eq!(cancel("b", "\"1\"").send().await.problem(), (412, "version_mismatch".into()), "another request");

    let (_, token) = house.sent("u-3").await;
    let tag = house.get(&format!("/v1/links/{token}")).send().await.header("etag").to_owned();
    let path = format!("/v1/links/{token}/accept");
    let accept = |tag: &str| house.post(&path).key("c").header("if-match", tag).send();
    assert_eq!(accept("\"1\"").await.problem(), (412, "version_mismatch".into()));
    assert_eq!(accept(&tag).await.json()["state"], "accepted");
    assert_eq!(accept("*").await.header("idempotent-replayed"), "true");
}

#[tokio::test]
async fn what_an_operator_posts_keeps_to_its_precondition_too() {
    let house = House::open().await;
    let id = house.reserve("u-1", "k").await["id"].as_str().unwrap().to_owned();
    let cancelled = house.post(&format!("/v1/gifts/{id}/cancel")).user("u-1").key("a").send().await;
    assert_eq!(cancelled.status, 200, "{}", cancelled.text());
    house.door.settle();
    let now = house.get(&format!("/v1/gifts/{id}")).user("u-1").send().await.header("etag").to_owned();
    let letter = format!("/v1/ops/dead-letters/{id}");
    let post = |path: String, key: &'static str, tag: String| {
        house.post(&path).operator().key(key).header("if-match", &tag).json(&json!({})).send()
    };
    let stale = (412, "version_mismatch".into());
    assert_eq!(post(format!("{letter}/replay"), "b", "\"1\"".into()).await.problem(), stale);
    assert_eq!(post(format!("{letter}/replay"), "b", now.clone()).await.problem().0, 409, "there is no letter");
    let erase = format!("/v1/ops/gifts/{id}/erase");
    assert_eq!(post(erase.clone(), "c", "\"1\"".into()).await.problem(), stale);
    let erased = post(erase.clone(), "c", now.clone()).await;
    assert_eq!((erased.status.as_u16(), &erased.json()["erased"]), (200, &json!(true)), "{}", erased.text());
    assert_eq!(post(erase, "c", now).await.header("idempotent-replayed"), "true");
}

#[tokio::test]
async fn a_put_keeps_to_the_precondition_that_it_was_sent_with() {
    let house = House::new();
    let won = |value: i64| json!({"name": "x", "price": {"value": value, "currency": "KRW"}});
    let units = |quantity: i64| json!({"quantity": quantity});
    let put = |path: &'static str, name: &'static str, value: &'static str, body: Value| {
        house.put(path).operator().header(name, value).json(&body).send()
    };
    for (path, bodies) in
        [("/v1/ops/products/x", [won(1), won(2), won(3)]), ("/v1/inventory/x", [units(1), units(2), units(3)])]
    {
        let [first, second, third] = bodies;
        let none = put(path, "if-match", "*", first.clone()).await;
        assert_eq!(none.problem(), (412, "version_mismatch".into()), "{path}: there is nothing");
        assert_eq!(put(path, "if-none-match", "*", first.clone()).await.status, 201, "{path}");
        assert_eq!(put(path, "if-none-match", "*", second.clone()).await.problem().0, 412, "{path}");
        let moved = put(path, "if-match", "\"1\"", second).await;
        assert_eq!((moved.status.as_u16(), moved.header("etag")), (200, "\"2\""), "{path}");
        let stale = put(path, "if-match", "\"1\"", third.clone()).await;
        assert_eq!(stale.problem(), (412, "version_mismatch".into()), "{path}");
        assert_eq!(put(path, "if-match", "2", third.clone()).await.problem(), (400, "precondition_invalid".into()));
        assert_eq!(put(path, "if-match", "\"1\", \"2\"", third).await.header("etag"), "\"3\"", "{path}");
        let any = put(path, "if-match", "*", first).await;
        assert_eq!((any.status.as_u16(), any.header("etag")), (200, "\"4\""), "{path}: there is one");
    }
}

#[tokio::test]
async fn a_head_request_shows_nobody_the_gift() {
    let house = House::open().await;
    let (id, token) = house.sent("u-1").await;
    let confirmed =
        async || house.get(&format!("/v1/gifts/{id}")).user("u-1").send().await.json()["delivery"]["confirmed"].clone();
    assert_ne!(confirmed().await, json!(true));
    for path in [format!("/g/{token}"), format!("/v1/links/{token}")] {
        assert_eq!(house.call("HEAD", &path).send().await.status, 200, "{path}");
    }
    assert_ne!(confirmed().await, json!(true));
    house.get(&format!("/g/{token}")).send().await;
    assert_eq!(confirmed().await, json!(true));
}

#[tokio::test(start_paused = true)]
async fn a_ticket_has_a_tag_of_where_it_stands_and_a_stream_that_resumes() {
    let house = House::new();
    let id = house.show("s", &show(2)).await;
    let path = format!("/v1/shows/{id}/queue");
    let enter = |user: &'static str| house.post(&path).user(user).key("q").send();
    for user in ["u-0", "u-1"] {
        enter(user).await;
    }
    let made = enter("u-2").await;
    let ticket = format!("{path}/{}", made.json()["ticket"].as_str().unwrap());
    let look = || house.get(&ticket).user("u-2").send();
    let waiting = look().await;
    assert_eq!((waiting.header("etag").len(), waiting.header("etag")), (18, made.header("etag")));
    let stream = async |last: Option<String>| {
        let request = Request::get(format!("{ticket}/stream")).header("authorization", bearer(Role::User, "u-2"));
        let request = last.into_iter().fold(request, |request, last| request.header("last-event-id", last));
        let request = request.body(Body::empty()).unwrap();
        house.router.clone().oneshot(request).await.unwrap().into_body()
    };
    let mut first = stream(None).await;
    let event = next_event(&mut first).await;
    let last = id_of(&event);
    assert!(event.contains("\"status\":\"waiting\"") && last > 0, "{event}");
    let again = next_event(&mut stream(None).await).await;
    assert_eq!(id_of(&again), last, "a connection does not begin to count anew");
    // What the client has is not told again: the first event is the next step.
    let mut resumed = stream(Some(last.to_string())).await;
    house.door.pass(Millis::from_secs(2));
    house.door.settle();
    let event = next_event(&mut resumed).await;
    assert!(event.contains("\"status\":\"admitted\"") && id_of(&event) > last, "{event}");
    let behind = next_event(&mut stream(Some(last.to_string())).await).await;
    assert!(behind.contains("\"status\":\"admitted\""), "{behind}");
    assert_ne!(look().await.header("etag"), made.header("etag"));
    house.app.shutdown.cancel();
}

async fn next_event(body: &mut Body) -> String {
    let frame = body.frame().await.expect("an event").unwrap();
    String::from_utf8(frame.into_data().unwrap().to_vec()).unwrap()
}

fn id_of(event: &str) -> u64 {
    let line = event.lines().find_map(|line| line.strip_prefix("id:"));
    line.unwrap_or_else(|| panic!("{event}")).trim().parse().unwrap()
}

#[tokio::test]
async fn texts_fit_what_they_are_said_of() {
    let house = House::open().await;
    house.shelf("mug", 5, 4_500).await;
    let id = house.place("u-1", "k", &order("mug", 1, "card")).await.json()["id"].as_str().unwrap().to_owned();
    let replay = async |letter: String, body: Value| {
        house.post(&format!("/v1/ops/dead-letters/{letter}/replay")).operator().key("r").json(&body).send().await
    };
    let alive = replay(id.clone(), json!({})).await;
    assert_eq!(alive.json()["title"], "This is not a dead letter");
    let gift = house.reserve("u-1", "g").await["id"].as_str().unwrap().to_owned();
    for letter in [id.clone(), format!("{id}.n0"), format!("{gift}.n0")] {
        let anew = replay(letter.clone(), json!({"new_generation": true})).await;
        assert_eq!((anew.status.as_u16(), anew.pointers()), (422, vec!["/new_generation".to_owned()]), "{letter}");
    }
    assert_eq!(replay(gift.clone(), json!({"new_generation": true})).await.problem().1, "not_a_dead_letter");
    assert_eq!(replay("x".to_owned(), json!({"new_generation": true})).await.problem().0, 404);
}

#[tokio::test]
async fn a_webhook_of_another_type_is_415_and_heard_all_the_same_when_it_reads() {
    let house = House::new();
    let hook = |body: &'static str| {
        let call = house.post("/v1/providers/toss/webhook").header("x-signature", "good");
        let mut call = call.header("content-type", "text/plain");
        call.body = body.as_bytes().to_vec();
        call.send()
    };
    assert_eq!(hook("x").await.problem(), (415, "unsupported_media_type".into()));
    assert_eq!(hook("{}").await.status, 200);
    let silent = house.post("/v1/providers/parcel/webhook").json(&json!({})).send().await;
    assert_eq!(silent.json()["detail"], "No configured provider of this name calls webhooks.");
}

#[tokio::test]
async fn a_page_of_products_looks_past_those_that_are_not_on_sale() {
    let house = House::new();
    for (id, active) in [("a", false), ("b", false), ("c", true), ("d", true)] {
        let body = json!({"name": id, "price": {"value": 1, "currency": "KRW"}, "active": active});
        house.put(&format!("/v1/ops/products/{id}")).operator().json(&body).send().await;
    }
    let page = house.get("/v1/products?limit=1").user("u-1").send().await.json();
    assert_eq!((&page["items"][0]["id"], page["items"].as_array().unwrap().len()), (&json!("c"), 1), "{page}");
    let path = format!("/v1/products?limit=1&cursor={}", page["next_cursor"].as_str().unwrap());
    let page = house.get(&path).user("u-1").send().await.json();
    assert_eq!(page["items"][0]["id"], "d", "{page}");
}

//! The sender's calls.

use super::memory::Trouble;
use super::*;
use crate::api::catalogue::product_key;
use crate::types::time::Millis;

fn with(pointer: &str, value: Value) -> Value {
    let mut body = gift();
    *body.pointer_mut(pointer).unwrap() = value;
    body
}

#[tokio::test]
async fn a_reservation_answers_with_the_gift_of_the_contract() {
    let house = House::open().await;
    let reply = house.post("/v1/gifts").user("u-1").key("k1").json(&gift()).send().await;
    assert_eq!(reply.status, StatusCode::CREATED, "{}", reply.text());
    let body = reply.json();
    let id = body["id"].as_str().unwrap();
    assert_eq!(reply.header("location"), format!("/v1/gifts/{id}"));
    assert_eq!(reply.header("etag"), "\"1\"");
    assert_eq!(reply.header("idempotent-replayed"), "");
    assert!(id.starts_with("g_") && id.len() == 34);
    assert_eq!(body["status"], "payment_pending");
    assert_eq!(body["version"], 1);
    assert_eq!(body["amount"], json!({"value": 4500, "currency": "KRW"}));
    assert_eq!(body["refunded"], json!({"value": 0, "currency": "KRW"}));
    assert_eq!(body["recipient"]["name"], "지*");
    assert_eq!(body["recipient"]["phone"], "010-****-5678");
    assert_eq!(body["recipient"]["zone"], "America/New_York");
    assert_eq!(body["send_at"]["instant"], "2026-12-25T05:00:00.000Z");
    assert_eq!(body["send_at"]["local"], "2026-12-25T00:00:00");
    assert_eq!(body["channels"], json!(["kakao", "sms"]));
    assert_eq!(body["delivery"]["generation"], 0);
    assert_eq!(body["transfers_left"], 1);
    assert_eq!(body["created_at"], "2026-12-01T00:00:00.000Z");
    let text = reply.text();
    for secret in ["010-1234-5678", "1012345678", "지민", "tok_1"] {
        assert!(!text.contains(secret), "{secret}");
    }
}

#[tokio::test]
async fn the_same_key_gives_the_same_bytes_whatever_happened_since() {
    let house = House::open().await;
    let first = house.post("/v1/gifts").user("u-1").key("k1").json(&gift()).send().await;
    house.door.settle();
    let spaced = serde_json::to_vec_pretty(&gift()).unwrap();
    let again = house.post("/v1/gifts").user("u-1").key("\"k1\"").bytes(&spaced).send().await;
    assert_eq!(again.status, StatusCode::CREATED);
    assert_eq!(again.bytes, first.bytes);
    assert_eq!(again.header("idempotent-replayed"), "true");
    assert_eq!(again.header("etag"), first.header("etag"));
    assert_eq!(again.header("location"), first.header("location"));
    // Retired since, and the send instant has passed: the first reply still stands.
    let retired = json!({"name": "x", "price": {"value": 1, "currency": "KRW"}, "active": false});
    house.put("/v1/ops/products/americano").operator().json(&retired).send().await;
    house.door.pass(Millis::from_days(60));
    let late = house.post("/v1/gifts").user("u-1").key("k1").json(&gift()).send().await;
    assert_eq!(late.bytes, first.bytes);
    let other = house.post("/v1/gifts").user("u-1").key("k1").json(&with("/message", json!("other"))).send().await;
    assert_eq!(other.problem(), (422, "idempotency_key_reused".into()));
}

#[tokio::test]
async fn keys_belong_to_their_caller_and_are_required() {
    let house = House::open().await;
    let one = house.reserve("u-1", "k").await;
    let two = house.reserve("u-2", "k").await;
    assert_ne!(one["id"], two["id"]);
    let without = house.post("/v1/gifts").user("u-1").json(&gift()).send().await;
    assert_eq!(without.problem(), (400, "idempotency_key_required".into()));
    let bad = house.post("/v1/gifts").user("u-1").key(&"x".repeat(256)).json(&gift()).send().await;
    assert_eq!(bad.problem(), (400, "idempotency_key_invalid".into()));
}

#[tokio::test]
async fn every_fault_is_named_at_once_and_nothing_is_reserved() {
    let house = House::open().await;
    let body = json!({
        "product_id": 7,
        "recipient": {"name": "", "phone": "02-123-4567", "email": "nobody", "nick": "x"},
        "message": "x".repeat(501),
        "send_at": {"local": "2026-13-25T00:00", "zone": "KST"},
        "channels": ["kakao", "pigeon", "kakao"],
        "payment": {"method": "gold", "payment_key": ""},
        "extra": 1
    });
    let reply = house.post("/v1/gifts").user("u-1").key("k").json(&body).send().await;
    assert_eq!(reply.problem(), (422, "validation_failed".into()));
    let pointers = reply.pointers();
    for pointer in [
        "/product_id",
        "/recipient/name",
        "/recipient/phone",
        "/recipient/email",
        "/recipient/nick",
        "/message",
        "/send_at/local",
        "/send_at/zone",
        "/channels/1",
        "/channels/2",
        "/payment/method",
        "/payment/payment_key",
        "/extra",
    ] {
        assert!(pointers.iter().any(|found| found == pointer), "{pointer} of {pointers:?}");
    }
    let list = house.get("/v1/gifts").user("u-1").send().await.json();
    assert_eq!(list["items"], json!([]));
}

#[tokio::test]
async fn each_bad_member_is_a_422_at_its_pointer() {
    let house = House::open().await;
    let table = [
        ("/product_id", json!("unknown"), "/product_id"),
        ("/product_id", json!("../../etc"), "/product_id"),
        ("/recipient", json!(null), "/recipient"),
        ("/recipient", json!([]), "/recipient"),
        ("/recipient/name", json!("a\u{202e}b"), "/recipient/name"),
        ("/recipient/name", json!("\u{0}"), "/recipient/name"),
        ("/recipient/phone", json!(null), "/recipient"),
        ("/recipient/phone", json!(1_012_345_678), "/recipient/phone"),
        ("/recipient/kakao_id", json!("a b"), "/recipient/kakao_id"),
        ("/message", json!("가".repeat(501)), "/message"),
        ("/message", json!("👨‍👩‍👧‍👦".repeat(400)), "/message"),
        ("/send_at", json!({}), "/send_at"),
        ("/send_at", json!({"local": "2026-12-25T00:00"}), "/send_at/zone"),
        ("/send_at", json!({"local": "2026-12-25T00:00", "instant": "2026-12-25T00:00:00Z"}), "/send_at"),
        ("/send_at", json!({"date": "2026-02-30", "zone": "Asia/Seoul"}), "/send_at/date"),
        ("/send_at", json!({"instant": "2026-12-25 00:00"}), "/send_at/instant"),
        ("/send_at", json!({"instant": "2026-12-01T00:09:59Z"}), "/send_at"),
        ("/send_at", json!({"instant": "2025-12-01T00:00:00Z"}), "/send_at"),
        ("/send_at", json!({"instant": "2027-12-01T00:00:01Z"}), "/send_at"),
        ("/send_at/local", json!("999999999-01-01T00:00"), "/send_at/local"),
        ("/channels", json!([]), "/channels"),
        ("/channels", json!(["email"]), "/channels/0"),
        ("/channels", json!("kakao"), "/channels"),
        ("/payment/method", json!("carrier"), "/payment/method"),
        ("/payment/payment_key", json!("a b"), "/payment/payment_key"),
        ("/coupon_id", json!(1), "/coupon_id"),
    ];
    for (number, (at, value, pointer)) in table.into_iter().enumerate() {
        let body = with(at, value.clone());
        let reply = house.post("/v1/gifts").user("u-1").key(&format!("k{number}")).json(&body).send().await;
        assert_eq!(reply.problem(), (422, "validation_failed".into()), "{at} {value}");
        assert!(reply.pointers().contains(&pointer.to_owned()), "{at} {value}: {}", reply.text());
    }
    let sound = [
        ("/send_at", json!({"instant": "2026-12-01T00:10:00Z"})),
        ("/send_at", json!({"instant": "2027-12-01T00:00:00Z"})),
        ("/send_at", json!({"date": "2026-12-25", "zone": "Asia/Seoul"})),
        ("/message", json!("가".repeat(500))),
        ("/channels", json!(null)),
        ("/recipient/phone", json!("+82 10 1234 5678")),
    ];
    for (number, (at, value)) in sound.into_iter().enumerate() {
        let reply = house.post("/v1/gifts").user("u-2").key(&format!("k{number}")).json(&with(at, value)).send().await;
        assert_eq!(reply.status, 201, "{at}: {}", reply.text());
    }
}

#[tokio::test]
async fn bodies_that_are_not_strict_json_are_refused() {
    let house = House::open().await;
    let send = |body: &'static [u8]| house.post("/v1/gifts").user("u-1").key("k").bytes(body).send();
    assert_eq!(send(b"{").await.problem(), (400, "malformed_json".into()));
    assert_eq!(send(b"\xff\xff").await.problem(), (400, "malformed_json".into()));
    assert_eq!(send(b"[]").await.problem(), (422, "validation_failed".into()));
    let twice = send(br#"{"message": "a", "message": "b"}"#).await;
    assert!(twice.pointers().contains(&"/message".to_owned()));
    let form = house.call("POST", "/v1/gifts").user("u-1").key("k").header("content-type", "text/plain");
    let form = Call { body: b"{}".to_vec(), ..form };
    assert_eq!(form.send().await.problem(), (415, "unsupported_media_type".into()));
}

#[tokio::test]
async fn roles_and_tokens_are_checked_on_every_call() {
    let house = House::open().await;
    let id = house.reserve("u-1", "k").await["id"].as_str().unwrap().to_owned();
    let calls: [(&'static str, String, Role); 16] = [
        ("POST", "/v1/gifts".into(), Role::User),
        ("GET", "/v1/gifts".into(), Role::User),
        ("GET", format!("/v1/gifts/{id}"), Role::User),
        ("PATCH", format!("/v1/gifts/{id}"), Role::User),
        ("POST", format!("/v1/gifts/{id}/cancel"), Role::User),
        ("GET", format!("/v1/gifts/{id}/events"), Role::User),
        ("GET", format!("/v1/gifts/{id}/notices"), Role::User),
        ("GET", format!("/v1/gifts/{id}/stream"), Role::User),
        ("POST", "/v1/vouchers/redeem".into(), Role::Merchant),
        ("POST", "/v1/vouchers/redeem/cancel".into(), Role::Merchant),
        ("PUT", "/v1/ops/products/x".into(), Role::Operator),
        ("GET", "/v1/ops/reconciliation".into(), Role::Operator),
        ("GET", "/v1/ops/dead-letters".into(), Role::Operator),
        ("GET", "/v1/ops/cluster".into(), Role::Operator),
        ("GET", "/v1/ops/alerts".into(), Role::Operator),
        ("GET", "/v1/me/items".into(), Role::User),
    ];
    for (method, path, right) in calls {
        let bare = house.call(method, &path).json(&json!({})).send().await;
        assert_eq!(bare.problem(), (401, "unauthenticated".into()), "{method} {path}");
        assert_eq!(bare.header("www-authenticate"), "Bearer");
        for role in [Role::User, Role::Merchant, Role::Operator].into_iter().filter(|role| *role != right) {
            let call = house.call(method, &path).header("authorization", bearer(role, "x")).json(&json!({}));
            assert_eq!(call.send().await.problem(), (403, "wrong_role".into()), "{method} {path} {role:?}");
        }
    }
}

#[tokio::test]
async fn other_peoples_gifts_do_not_exist() {
    let house = House::open().await;
    let id = house.reserve("u-1", "k").await["id"].as_str().unwrap().to_owned();
    for path in ["", "/events", "/notices", "/stream"] {
        let reply = house.get(&format!("/v1/gifts/{id}{path}")).user("u-2").send().await;
        assert_eq!(reply.problem(), (404, "not_found".into()), "{path}");
    }
    let cancel = house.post(&format!("/v1/gifts/{id}/cancel")).user("u-2").key("c").send().await;
    assert_eq!(cancel.problem(), (404, "not_found".into()));
    let patch = house.patch(&format!("/v1/gifts/{id}")).user("u-2").header("if-match", "*").json(&json!({}));
    assert_eq!(patch.send().await.problem(), (404, "not_found".into()));
    for id in ["g_00", "p_5f1c0a9be1d24c7f8a3b6d5e4f3a2b1c", "g_5F1C0A9BE1D24C7F8A3B6D5E4F3A2B1C", "%2e%2e%2fetc"] {
        let reply = house.get(&format!("/v1/gifts/{id}")).user("u-1").send().await;
        assert_eq!(reply.problem(), (404, "not_found".into()), "{id}");
    }
    assert_eq!(house.get("/v1/gifts").user("u-2").send().await.json()["items"], json!([]));
}

#[tokio::test]
async fn a_change_needs_the_current_version() {
    let house = House::open().await;
    let id = house.reserve("u-1", "k").await["id"].as_str().unwrap().to_owned();
    let path = format!("/v1/gifts/{id}");
    let change = |tag: &'static str| house.patch(&path).user("u-1").header("if-match", tag);
    let body = json!({"message": "안녕", "recipient": {"phone": null, "email": "jimin@example.com"}});
    assert_eq!(house.patch(&path).user("u-1").json(&body).send().await.problem().0, 428);
    assert_eq!(change("\"7\"").json(&body).send().await.problem(), (412, "version_mismatch".into()));
    assert_eq!(change("W/\"1\"").json(&body).send().await.problem(), (412, "version_mismatch".into()));
    assert_eq!(change("1").json(&body).send().await.problem(), (400, "precondition_invalid".into()));
    let done = change("\"1\"").json(&body).send().await;
    assert_eq!(done.status, 200, "{}", done.text());
    assert_eq!(done.header("etag"), "\"2\"");
    let gift = done.json();
    assert_eq!(gift["message"], "안녕");
    assert_eq!(gift["recipient"]["name"], "지*");
    assert_eq!(gift["recipient"]["phone"], json!(null));
    assert_eq!(gift["recipient"]["email"], "j***@example.com");
    assert_eq!(gift["channels"], json!(["email"]));
    let any = change("*").json(&json!({"send_at": {"date": "2026-12-31", "zone": "Asia/Seoul"}})).send().await;
    assert_eq!(any.json()["send_at"]["instant"], "2026-12-30T15:00:00.000Z");
    let faulty = change("*").json(&json!({"recipient": {"email": null}, "send_at": null, "price": 1})).send().await;
    assert_eq!(faulty.pointers(), ["/send_at", "/recipient", "/price"]);
    let soon = change("*").json(&json!({"send_at": {"instant": "2026-12-01T00:01:00Z"}})).send().await;
    assert_eq!(soon.pointers(), ["/send_at"]);
    house.door.pass(Millis::from_mins((29 * 24 + 14) * 60 + 30));
    let late = change("*").json(&json!({"message": "too late"})).send().await;
    assert_eq!(late.problem(), (409, "too_late_to_modify".into()));
}

#[tokio::test]
async fn a_cancel_is_replayed_and_refused_once_dispatched() {
    let house = House::open().await;
    let id = house.reserve("u-1", "k").await["id"].as_str().unwrap().to_owned();
    house.door.settle();
    let path = format!("/v1/gifts/{id}/cancel");
    let first = house.post(&path).user("u-1").key("c").send().await;
    assert_eq!(first.status, 200, "{}", first.text());
    house.door.settle();
    let again = house.post(&path).user("u-1").key("c").json(&json!({})).send().await;
    assert_eq!((again.bytes, again.headers.contains_key("idempotent-replayed")), (first.bytes, true));
    let now = house.get(&format!("/v1/gifts/{id}")).user("u-1").send().await.json();
    assert_eq!(now["status"], "refunded");
    assert_eq!(now["refunded"]["value"], 4500);
    let (sent, _) = house.sent("u-1").await;
    let late = house.post(&format!("/v1/gifts/{sent}/cancel")).user("u-1").key("c2").send().await;
    assert_eq!(late.problem(), (409, "already_dispatched".into()));
    let odd = house.post(&path).user("u-1").key("c3").json(&json!({"why": "x"})).send().await;
    assert_eq!(odd.pointers(), ["/why"]);
}

#[tokio::test]
async fn lists_page_newest_first_and_filter_by_status() {
    let house = House::open().await;
    let mut ids = Vec::new();
    for number in 0..7 {
        ids.insert(0, house.reserve("u-1", &format!("k{number}")).await["id"].clone());
        house.door.pass(Millis::from_secs(1));
    }
    let mut seen = Vec::new();
    let mut path = "/v1/gifts?limit=3".to_owned();
    for _page in 0..3 {
        let page = house.get(&path).user("u-1").send().await.json();
        seen.extend(page["items"].as_array().unwrap().iter().map(|item| item["id"].clone()));
        let Some(cursor) = page["next_cursor"].as_str() else { break };
        path = format!("/v1/gifts?limit=3&cursor={cursor}");
        let stolen = house.get(&path).user("u-2").send().await;
        assert_eq!(stolen.pointers(), ["/cursor"]);
    }
    assert_eq!(seen, ids);
    let cancelled = ids[3].as_str().unwrap();
    house.post(&format!("/v1/gifts/{cancelled}/cancel")).user("u-1").key("c").send().await;
    let page = house.get("/v1/gifts?status=cancelled&limit=2").user("u-1").send().await.json();
    assert_eq!(page["items"].as_array().unwrap().len(), 1, "{page}");
    assert_eq!(page["next_cursor"], json!(null));
    for bad in ["limit=0", "limit=101", "limit=x", "cursor=AAAA", "status=lost", "limit=1&limit=2", "page=2"] {
        let reply = house.get(&format!("/v1/gifts?{bad}")).user("u-1").send().await;
        assert_eq!(reply.problem(), (422, "validation_failed".into()), "{bad}");
    }
}

#[tokio::test]
async fn the_timeline_and_the_notices_page_without_personal_data() {
    let house = House::open().await;
    let (id, token) = house.sent("u-1").await;
    house.get(&format!("/v1/links/{token}")).send().await;
    house.door.settle();
    let mut events = Vec::new();
    let mut path = format!("/v1/gifts/{id}/events?limit=2");
    loop {
        let reply = house.get(&path).user("u-1").send().await;
        assert!(!reply.text().contains("지민") && !reply.text().contains("1012345678"));
        let page = reply.json();
        assert!(page["items"].as_array().unwrap().len() <= 2);
        events.extend(page["items"].as_array().unwrap().clone());
        let Some(cursor) = page["next_cursor"].as_str() else { break };
        path = format!("/v1/gifts/{id}/events?limit=2&cursor={cursor}");
    }
    assert_eq!(events[0]["type"], "reserved");
    assert_eq!(events[0]["version"], 1);
    let whole = house.get(&format!("/v1/gifts/{id}/events?limit=100")).user("u-1").send().await.json();
    assert_eq!(whole["items"].as_array().unwrap(), &events);
    assert!(events.windows(2).all(|pair| pair[0]["version"].as_u64() <= pair[1]["version"].as_u64()));
    let notices = house.get(&format!("/v1/gifts/{id}/notices?limit=1")).user("u-1").send().await.json();
    assert_eq!(notices["items"][0]["template"], "sender_reserved");
    assert_eq!(notices["items"][0]["audience"], "sender");
    let next = notices["next_cursor"].as_str().unwrap();
    let rest = house.get(&format!("/v1/gifts/{id}/notices?cursor={next}")).user("u-1").send().await.json();
    assert_eq!(rest["items"][0]["template"], "sender_sent", "{rest}");
}

#[tokio::test]
async fn troubles_below_keep_their_codes() {
    let house = House::open().await;
    let expected = [
        (Trouble::Fail("unknown"), 503, "outcome_unknown", "unknown"),
        (Trouble::Fail("overloaded"), 503, "overloaded", "not_applied"),
        (Trouble::Fail("in_flight"), 409, "request_in_progress", "unknown"),
        (Trouble::Fail("no_leader"), 503, "unavailable", "not_applied"),
        (Trouble::Fail("panic"), 500, "internal", "unknown"),
    ];
    for (trouble, status, code, outcome) in expected {
        *house.door.trouble.lock() = trouble;
        let reply = house.post("/v1/gifts").user("u-1").key("k").json(&gift()).send().await;
        assert_eq!(reply.problem(), (status, code.to_owned()));
        assert_eq!(reply.json()["outcome"], outcome);
        assert_eq!(reply.header("retry-after").is_empty(), matches!(status, 500), "{code}");
    }
    *house.door.trouble.lock() = Trouble::None;
    assert_eq!(house.post("/v1/gifts").user("u-1").key("k").json(&gift()).send().await.status, 201);
}

#[tokio::test(start_paused = true)]
async fn a_product_whose_shard_has_no_leader_is_sold_as_it_was_read_a_little_while_ago() {
    let house = House::open().await;
    house.reserve("u-1", "k1").await;
    house.door.leaderless.lock().insert(product_key("americano"));
    house.door.pass(Millis::from_secs(9));
    let began = tokio::time::Instant::now();
    assert_eq!(house.reserve("u-1", "k2").await["amount"]["value"], 4500);
    assert!(began.elapsed() < std::time::Duration::from_secs(1), "{:?}", began.elapsed());
    house.door.pass(Millis::from_secs(1));
    let late = house.post("/v1/gifts").user("u-1").key("k3").json(&gift()).send().await;
    assert_eq!(late.status, 503, "what was read ten seconds ago is no promise: {}", late.text());
    house.door.leaderless.lock().clear();
    house.reserve("u-1", "k3").await;
}

#[tokio::test]
async fn an_erased_gift_shows_no_person() {
    let house = House::open().await;
    let id = house.reserve("u-1", "k").await["id"].as_str().unwrap().to_owned();
    house.door.erase_everything();
    let gift = house.get(&format!("/v1/gifts/{id}")).user("u-1").send().await.json();
    assert_eq!(gift["message"], json!(null));
    assert_eq!(gift["recipient"]["name"], json!(null));
    let change = house.patch(&format!("/v1/gifts/{id}")).user("u-1").header("if-match", "*");
    assert_eq!(change.json(&json!({"message": "x"})).send().await.problem().0, 410);
}

//! Whatever a caller sends, the answer is below 500 and nothing panics.

use super::*;
use crate::fuzzing::{Target, lines};
use crate::fuzzing_heap as heap;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

fn scalar() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(json!(null)),
        any::<bool>().prop_map(|flag| json!(flag)),
        any::<i64>().prop_map(|number| json!(number)),
        any::<u64>().prop_map(|number| json!(number)),
        any::<f64>().prop_map(|number| json!(number)),
        any::<String>().prop_map(|text| json!(text)),
        prop::sample::select(vec![
            "Asia/Seoul",
            "KST",
            "2026-12-25T00:00",
            "2026-12-25",
            "2026-12-31T23:59:60Z",
            "+262142-12-31T00:00:00Z",
            "010-1234-5678",
            "+821012345678",
            "card",
            "kakao",
            "sms",
            "americano",
            "KRW",
            "\u{0}",
            "\u{202e}",
            "é",
            "👨‍👩‍👧‍👦",
            "-9999-01-01",
            "9999-12-31",
            "2026-12-31T23:59:59.9999999999Z",
            "never",
        ])
        .prop_map(|text| json!(text)),
    ]
}

fn tree() -> impl Strategy<Value = Value> {
    scalar().prop_recursive(3, 24, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(Value::Array),
            prop::collection::btree_map("[a-z_]{0,12}", inner, 0..5)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

fn pointers(value: &Value, at: &str, found: &mut Vec<String>) {
    found.push(at.to_owned());
    match value {
        Value::Object(members) => {
            members.iter().for_each(|(name, member)| pointers(member, &format!("{at}/{name}"), found))
        }
        Value::Array(items) => {
            items.iter().enumerate().for_each(|(number, item)| pointers(item, &format!("{at}/{number}"), found));
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// A sound body with some of its parts replaced by anything.
fn mutated(base: Value) -> impl Strategy<Value = Value> {
    let mut places = Vec::new();
    pointers(&base, "", &mut places);
    prop::collection::vec((prop::sample::select(places), tree()), 0..4).prop_map(move |changes| {
        let mut body = base.clone();
        for (pointer, value) in changes {
            if let Some(place) = body.pointer_mut(&pointer) {
                *place = value;
            }
        }
        body
    })
}

fn product() -> Value {
    json!({"name": "x", "price": {"value": 1, "currency": "KRW"}, "validity_days": 1, "active": true,
        "policy": {"reminder_days": [1], "quiet_hours": {"from_hour": 1, "to_hour": 2}, "send_retry_seconds": [1],
            "overdue_dead_letter_seconds": 60, "report_timeout_seconds": 1, "expired_percent": 1}})
}

fn targets() -> Vec<(&'static str, &'static str, Role, Value)> {
    let mut in_parts = super::coupons::campaign(30);
    in_parts["parts"] = json!(3);
    let mut order = super::orders::order("americano", 1, "card");
    order["buyer"] = json!({"name": "a", "phone": "010-1234-5678", "push_token": "t"});
    let charge =
        json!({"amount": {"value": 1_000, "currency": "KRW"}, "payment": {"method": "card", "payment_key": "k"}});
    let sale = json!({"code": "0001234567890126", "store_id": "s", "terminal_id": "t", "transaction_id": "x"});
    vec![
        ("POST", "/v1/gifts", Role::User, gift()),
        ("PUT", "/v1/ops/products/fuzz", Role::Operator, product()),
        ("POST", "/v1/coupon-campaigns", Role::Operator, super::coupons::campaign(3)),
        ("POST", "/v1/coupon-campaigns", Role::Operator, in_parts),
        ("POST", "/v1/orders", Role::User, order),
        ("POST", "/v1/wallet/charges", Role::User, charge),
        ("POST", "/v1/vouchers/redeem", Role::Merchant, sale.clone()),
        ("POST", "/v1/vouchers/redeem/cancel", Role::Merchant, sale),
        ("POST", "/v1/dev/token", Role::User, json!({"role": "user", "sub": "x"})),
        (
            "POST",
            "/v1/ops/dead-letters/g_00000000000000000000000000000000/discard",
            Role::Operator,
            json!({"reason": "x"}),
        ),
    ]
}

#[test]
fn no_json_body_leads_to_a_5xx() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let house = runtime.block_on(House::open());
    let gift_path =
        runtime.block_on(house.reserve("fuzz", "seed"))["id"].as_str().map(|id| format!("/v1/gifts/{id}")).unwrap();
    let number = std::cell::Cell::new(0u32);
    let mut runner = TestRunner::new(Config { cases: 200, failure_persistence: None, ..Config::default() });
    for (method, path, role, base) in targets() {
        let checked = runner.run(&mutated(base), |body| {
            number.set(number.get() + 1);
            let call = house.call(method, path).header("authorization", bearer(role, "fuzz"));
            let reply = runtime.block_on(call.key(&format!("f{}", number.get())).json(&body).send());
            prop_assert!(reply.status.as_u16() < 500, "{method} {path} {body}: {}", reply.text());
            Ok(())
        });
        checked.unwrap();
    }
    let patch = json!({"recipient": {"name": "a", "phone": null, "email": "a@b.kr", "zone": "Asia/Seoul"},
        "message": "x", "send_at": {"instant": "2026-12-25T00:00:00Z"}, "channels": ["email"]});
    let checked = runner.run(&mutated(patch), |body| {
        let call = house.patch(&gift_path).user("fuzz").header("if-match", "*").json(&body);
        let reply = runtime.block_on(call.send());
        prop_assert!(reply.status.as_u16() < 500, "{body}: {}", reply.text());
        Ok(())
    });
    checked.unwrap();
}

#[test]
fn no_bytes_lead_to_a_5xx() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let house = runtime.block_on(House::open());
    let mut runner = TestRunner::new(Config { cases: 300, failure_persistence: None, ..Config::default() });
    let bytes = prop::collection::vec(any::<u8>(), 0..400);
    let checked = runner.run(&(bytes, "[ -~]{0,80}", "[!-~]{0,300}"), |(body, query, key)| {
        let call = house.post("/v1/gifts").user("fuzz").key(&key).bytes(&body);
        prop_assert!(runtime.block_on(call.send()).status.as_u16() < 500);
        let query = query.replace(['#', ' ', '"', '<', '>', '\\', '^', '`', '{', '|', '}'], "%20");
        for path in ["/v1/gifts", "/v1/products", "/v1/me/items", "/v1/orders", "/v1/coupon-campaigns"] {
            let reply = runtime.block_on(house.get(&format!("{path}?{query}")).user("fuzz").send());
            prop_assert!(reply.status.as_u16() < 500);
        }
        Ok(())
    });
    checked.unwrap();
}

/// Sound bodies with their bytes changed, at every call that reads one. By hand for as long as wanted, see
/// `tests/fuzz/engine.rs`.
#[test]
fn fuzz_bodies() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let house = runtime.block_on(House::open());
    let gift = runtime.block_on(house.reserve("fuzz", "seed"))["id"].as_str().unwrap().to_owned();
    let letters = format!("/v1/ops/dead-letters/{gift}");
    let calls = [
        ("POST", "/v1/gifts".to_owned(), Role::User),
        ("PATCH", format!("/v1/gifts/{gift}"), Role::User),
        ("POST", format!("/v1/gifts/{gift}/cancel"), Role::User),
        ("POST", "/v1/vouchers/redeem".to_owned(), Role::Merchant),
        ("PUT", "/v1/ops/products/fuzz".to_owned(), Role::Operator),
        ("POST", format!("{letters}/replay"), Role::Operator),
        ("POST", format!("{letters}/discard"), Role::Operator),
        ("POST", "/v1/providers/toss/webhook".to_owned(), Role::User),
    ];
    let corpus = lines(include_str!("../../../tests/fuzz/corpus/bodies.txt"));
    let dictionary =
        ["null", "\"\"", "{}", "[]", "[[[[", "1e400", "-0", "\\ud800", "\\u0000", "\"zone\":", "18446744073709551616"];
    let target = Target { name: "fuzz_bodies", place: "--lib", corpus, dictionary: &dictionary, cases: 1_500 };
    let number = std::cell::Cell::new(0u32);
    target.run(|input, rng| {
        let (method, path, role) = rng.pick(&calls);
        number.set(number.get() + 1);
        let call = house.call(method, path).header("authorization", bearer(*role, "fuzz")).header("if-match", "*");
        let call = call.key(&format!("b{}", number.get())).bytes(input);
        let reply = heap::modest(input, || runtime.block_on(call.send()));
        let status = reply.status.as_u16();
        assert!(status < 500, "{method} {path}: {}", reply.text());
        assert!(reply.bytes.len() < 64 << 10, "a reply of {} bytes", reply.bytes.len());
        if status >= 400 {
            assert_eq!(reply.problem().0, status);
        } else {
            assert!(
                input.is_empty()
                    || serde_json::from_slice::<Value>(input).is_ok()
                    || input.iter().all(u8::is_ascii_whitespace)
            );
        }
    });
}

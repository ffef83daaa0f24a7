//! JSON and text made to confuse: each is refused whole, with its faults by name, and leaves no gift behind.

use crate::support::{Reply, Stack};
use crate::{refused, world};
use serde_json::{Value, json};

fn post(stack: &Stack, bytes: &[u8], content_type: &str) -> Reply {
    let url = format!("{}/v1/gifts", stack.api);
    let client = reqwest::blocking::Client::new();
    let request = client.post(url).bearer_auth(&stack.user).header("Idempotency-Key", stack.fresh_key());
    let reply = request.header("Content-Type", content_type).body(bytes.to_vec()).send().unwrap();
    let status = reply.status().as_u16();
    assert_eq!(reply.headers()["content-type"], "application/problem+json");
    let text = reply.text().unwrap();
    let body = serde_json::from_str(&text).unwrap_or(Value::Null);
    Reply { status, body, text, etag: None, replayed: false }
}

fn pointers(reply: &Reply) -> Vec<String> {
    let errors = reply.body["errors"].as_array().cloned().unwrap_or_default();
    errors.iter().map(|error| error["pointer"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn malformed_json_is_refused_and_leaves_no_gift() {
    let stack = Stack::start();
    stack.put_product("americano", 4_500, 30);
    let before = world(&stack);
    let sound = stack.gift_body("americano", &stack.in_minutes(30)).to_string();
    let malformed: Vec<Vec<u8>> = vec![
        "[".repeat(15_000).into_bytes(),
        format!("{}1{}", "{\"a\":".repeat(2_000), "}".repeat(2_000)).into_bytes(),
        format!("{}{}", "[".repeat(129), "]".repeat(129)).into_bytes(),
        sound.replace("americano", "ameri\u{0}cano").into_bytes(),
        [sound.as_bytes(), b"{}"].concat(),
        [&b"\xef\xbb\xbf"[..], sound.as_bytes()].concat(),
        [&b"\xff\xfe"[..], sound.as_bytes()].concat(),
        sound.encode_utf16().flat_map(u16::to_le_bytes).collect(),
        sound.replace("생일", "\\ud800").into_bytes(),
        sound.bytes().map(|byte| if byte > 0x7f { 0xff } else { byte }).collect(),
        sound.replace('"', "'").into_bytes(),
        sound.replace("\"card\"", "NaN").into_bytes(),
        sound.replace("\"card\"", "1e400").into_bytes(),
        sound.replace("\"card\"", "01").into_bytes(),
        sound.replace('}', ",}").into_bytes(),
        format!("/* hi */{sound}").into_bytes(),
        sound.as_bytes()[..sound.len() - 1].to_vec(),
    ];
    for body in malformed {
        let reply = post(&stack, &body, "application/json");
        assert_eq!(refused(&reply, 400), "malformed_json", "{}", String::from_utf8_lossy(&body[..60]));
    }
    for content_type in ["text/plain", "application/x-www-form-urlencoded", "application/json; charset=euc-kr", "x"] {
        assert_eq!(refused(&post(&stack, sound.as_bytes(), content_type), 415), "unsupported_media_type");
    }
    let big = sound.replace("축하해", &"가".repeat(6_000));
    assert_eq!(refused(&post(&stack, big.as_bytes(), "application/json"), 413), "payload_too_large");
    assert_eq!(world(&stack), before);
}

#[test]
fn well_formed_nonsense_is_refused_with_every_fault_named_and_leaves_no_gift() {
    let stack = Stack::start();
    stack.put_product("americano", 4_500, 30);
    let before = world(&stack);
    let sound = stack.gift_body("americano", &stack.in_minutes(30));
    let with = |pointer: &str, value: Value| {
        let mut body = sound.clone();
        *body.pointer_mut(pointer).unwrap() = value;
        body.to_string()
    };
    let added = |name: &str, value: Value| {
        let mut body = sound.clone();
        body[name] = value;
        body.to_string()
    };
    let text = sound.to_string();
    let faulty = [
        (text.replacen('{', "{\"product_id\":\"americano\",", 1), "/product_id"),
        (text.replacen("{\"method\"", "{\"method\":\"card\",\"method\"", 1), "/payment/method"),
        (added("__proto__", json!({"role": "operator"})), "/__proto__"),
        (added("owner", json!("u-2")), "/owner"),
        (added("status", json!("used")), "/status"),
        (added("amount", json!({"value": 1, "currency": "KRW"})), "/amount"),
        (added("a/b~c", json!(1)), "/a~1b~0c"),
        (added("coupon_id", json!("free")), "/coupon_id"),
        (with("/product_id", json!(["americano"])), "/product_id"),
        (with("/product_id", json!("../../x")), "/product_id"),
        (with("/product_id", json!("a".repeat(10_000))), "/product_id"),
        (with("/message", json!("a\u{0}b")), "/message"),
        (with("/message", json!("a\u{202e}b")), "/message"),
        (with("/message", json!("a\u{1b}[2Jb")), "/message"),
        (with("/message", json!("가".repeat(501))), "/message"),
        (with("/message", json!({"$ne": null})), "/message"),
        (with("/recipient/name", json!("\u{2066}a")), "/recipient/name"),
        (with("/recipient/name", json!("\u{200b}")), "/recipient/name"),
        (with("/recipient/name", json!("a\r\nBcc: x@y.kr")), "/recipient/name"),
        (with("/recipient/phone", json!("٠١٠١٢٣٤٥٦٧٨")), "/recipient/phone"),
        (with("/recipient/phone", json!(821_012_345_678_u64)), "/recipient/phone"),
        (with("/recipient/phone", json!("010-1234-5678' OR 1=1 --")), "/recipient/phone"),
        (with("/send_at", json!({"instant": "2026-12-31T23:59:60Z", "local": "2026-12-31T23:59"})), "/send_at"),
        (with("/send_at/instant", json!("+262142-12-31T00:00:00Z")), "/send_at/instant"),
        (with("/send_at/instant", json!("-9999-01-01T00:00:00Z")), "/send_at/instant"),
        (with("/send_at/instant", json!("9999-12-30T00:00:00Z")), "/send_at"),
        (with("/send_at/instant", json!(292_278_994)), "/send_at/instant"),
        (with("/send_at", json!({"local": "2026-12-25T00:00", "zone": "KST"})), "/send_at/zone"),
        (with("/send_at", json!({"local": "-9999-2-25T00:00", "zone": "Asia/Seoul"})), "/send_at/local"),
        (with("/send_at", json!({"local": "2026-02-30T00:00", "zone": "Asia/Seoul"})), "/send_at/local"),
        (with("/send_at", json!({"date": "2026-12-25", "zone": "../../etc/localtime"})), "/send_at/zone"),
        (with("/payment/payment_key", json!("a b")), "/payment/payment_key"),
        (with("/payment/payment_key", json!("..")), "/payment/payment_key"),
        (with("/payment/payment_key", json!("k".repeat(201))), "/payment/payment_key"),
        (with("/payment/method", json!("CARD")), "/payment/method"),
        (added("channels", json!(vec!["kakao"; 200])), "/channels"),
        (added("channels", json!([["kakao"]])), "/channels/0"),
    ];
    for (body, pointer) in faulty {
        let reply = post(&stack, body.as_bytes(), "application/json");
        assert_eq!(refused(&reply, 422), "validation_failed", "{body}");
        assert!(pointers(&reply).iter().any(|named| named == pointer), "{pointer}: {}", reply.text);
    }
    for root in ["null", "[]", "\"x\"", "1", "true", "{}"] {
        assert_eq!(refused(&post(&stack, root.as_bytes(), "application/json"), 422), "validation_failed");
    }
    // However many faults there are, the reply stays small.
    let many: String = (0..1_500).map(|number| format!("\"x{number}\":1,")).collect();
    let reply = post(&stack, format!("{{{many}\"y\":1}}").as_bytes(), "application/json");
    assert_eq!((refused(&reply, 422).as_str(), pointers(&reply).len()), ("validation_failed", 50));
    assert!(reply.text.len() < 64 << 10);
    assert_eq!(world(&stack), before);
}

#[test]
fn amounts_beyond_reason_are_no_prices() {
    let stack = Stack::start();
    let put = |value: &str| {
        let body = format!("{{\"name\":\"x\",\"price\":{{\"value\":{value},\"currency\":\"KRW\"}}}}");
        let client = reqwest::blocking::Client::new();
        let request = client.put(format!("{}/v1/ops/products/x", stack.api)).bearer_auth(&stack.operator);
        request.header("Content-Type", "application/json").body(body).send().unwrap()
    };
    let numbers = [
        "-1",
        "0",
        "1e3",
        "4500.0",
        "4500.5",
        "9223372036854775807",
        "9223372036854775808",
        "18446744073709551615",
        "18446744073709551616",
        "-9223372036854775808",
        "1e308",
        "\"4500\"",
        "null",
        "true",
        "[4500]",
    ];
    for number in numbers {
        let reply = put(number);
        assert_eq!(reply.status().as_u16(), 422, "{number}: {}", reply.text().unwrap());
    }
    assert_eq!(put("1e309").status().as_u16(), 400);
    let product = stack.call("GET", "/v1/ops/products/x", Some(&stack.operator), None, None);
    assert_eq!(refused(&product, 404), "not_found");
}

#[test]
fn what_people_write_is_shown_and_sent_as_text_only() {
    let stack = Stack::start();
    stack.put_product("americano", 4_500, 30);
    let mut body = stack.gift_body("americano", &stack.in_minutes(30));
    body["message"] = json!("<script>alert(1)</script>{{7*7}}#{link}=HYPERLINK(\"http://evil.example\")");
    body["recipient"]["name"] = json!("<b>#{link}</b>");
    body["sender"] = json!({"name": "\"><img src=x onerror=alert(1)>#{product}"});
    body["channels"] = json!(["sms"]);
    let id = stack.reserved(body.clone());
    stack.await_status(&id, "scheduled");
    stack.advance(32 * 60);
    let sent = stack.ledger("message", &id);
    let gift = sent.iter().find(|message| message["purpose"] == "gift").unwrap();
    let text = gift["text"].as_str().unwrap();
    assert!(text.contains("#{product}"), "a name is not filled in again: {text}");
    let token = stack.link(&id);
    let page = stack.call("GET", &format!("/g/{token}"), None, None, None);
    assert_eq!(page.status, 200);
    for raw in ["<script>alert(1)", "<b>#", "<img src=x"] {
        assert!(!page.text.contains(raw), "{}", page.text);
    }
    assert!(page.text.contains("{{7*7}}"), "shown as it was written");
    assert_eq!(stack.gift(&id)["message"], body["message"]);
}

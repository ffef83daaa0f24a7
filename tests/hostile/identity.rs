//! Who is calling: tokens that are forged, expired, unsigned or of another role, and gifts of other people.

use crate::raw;
use crate::support::Stack;
use crate::{bare, refused, world};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as B64;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::{Value, json};

const FAR: u64 = 4_000_000_000;

/// The key of the node's own tokens, as its operator could read it.
fn own_key(stack: &Stack) -> Vec<u8> {
    let text = std::fs::read_to_string(stack.data_folder().join("keys/jwt.key")).unwrap();
    hex::decode(text.trim()).unwrap()
}

fn signed(algorithm: Algorithm, claims: &Value, key: &[u8]) -> String {
    jsonwebtoken::encode(&Header::new(algorithm), claims, &EncodingKey::from_secret(key)).unwrap()
}

fn unsigned(header: &Value, claims: &Value, signature: &str) -> String {
    format!("{}.{}.{signature}", B64.encode(header.to_string()), B64.encode(claims.to_string()))
}

#[test]
fn forged_expired_and_unsigned_tokens_open_nothing() {
    let stack = Stack::start();
    stack.put_product("americano", 4_500, 30);
    let before = world(&stack);
    let key = own_key(&stack);
    let operator = json!({"sub": "op-1", "role": "operator", "exp": FAR});
    let good = signed(Algorithm::HS256, &operator, &key);
    let open = |token: &str| stack.call("GET", "/v1/ops/cluster", Some(token), None, None);
    assert_eq!(open(&good).status, 200, "the test signs as the node does");
    let parts: Vec<&str> = good.split('.').collect();
    let none = json!({"alg": "none", "typ": "JWT"});
    let with = |change: Value| {
        let mut claims = operator.clone();
        claims.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        signed(Algorithm::HS256, &claims, &key)
    };
    let mut flipped = good.clone().into_bytes();
    let middle = flipped.len() - 20;
    flipped[middle] = if flipped[middle] == b'A' { b'B' } else { b'A' };
    let tokens = [
        unsigned(&none, &operator, ""),
        unsigned(&none, &operator, parts[2]),
        unsigned(&json!({"alg": "None"}), &operator, ""),
        unsigned(&json!({"typ": "JWT"}), &operator, parts[2]),
        unsigned(&json!({"alg": "HS256", "jwk": {"kty": "oct", "k": ""}}), &operator, parts[2]),
        signed(Algorithm::HS256, &operator, &[0; 32]),
        signed(Algorithm::HS256, &operator, b""),
        signed(Algorithm::HS512, &operator, &key),
        format!("{}.{}.{}", parts[0], B64.encode(operator.to_string().replace("op-1", "op-2")), parts[2]),
        format!("{}.{}.", parts[0], parts[1]),
        format!("{}.{}", parts[0], parts[1]),
        format!("{good}.{}", parts[2]),
        String::from_utf8(flipped).unwrap(),
        with(json!({"exp": "4000000000"})),
        with(json!({"exp": -1})),
        with(json!({"role": "root"})),
        with(json!({"role": ["operator"]})),
        with(json!({"sub": ""})),
        with(json!({"sub": "a\nb"})),
        with(json!({"sub": "x".repeat(129)})),
        with(json!({"nbf": FAR})),
        "x".repeat(8_000),
    ];
    for token in tokens {
        assert_eq!(refused(&open(&token), 401), "unauthenticated", "{token}");
    }
    assert_eq!(refused(&open(&with(json!({"exp": 1}))), 401), "token_expired");
    let address = stack.api.strip_prefix("http://").unwrap();
    let bearer = format!("Authorization: Bearer {good}");
    let basic = format!("Authorization: Basic {}", B64.encode(format!("op-1:{good}")));
    for headers in [vec![bearer.as_str(), bearer.as_str()], vec![basic.as_str()], vec!["Cookie: token=x"], vec![]] {
        let mut lines = vec!["GET /v1/ops/cluster?access_token=x HTTP/1.1", "Host: x", "Connection: close"];
        lines.extend(headers);
        let answer = raw::ask(address, &lines, "").one();
        assert_eq!(answer.problem(401), "unauthenticated");
        assert_eq!(answer.header("www-authenticate"), Some("Bearer"));
    }
    assert_eq!(world(&stack), before);
}

#[test]
fn each_role_makes_its_own_calls_only() {
    let stack = Stack::start();
    stack.put_product("americano", 4_500, 30);
    let before = world(&stack);
    let sale = json!({"code": "0001234567890126", "store_id": "s", "terminal_id": "t", "transaction_id": "x"});
    let product = json!({"name": "x", "price": {"value": 1, "currency": "KRW"}});
    let gift = stack.gift_body("americano", &stack.in_minutes(30));
    let id = format!("g_{}", "0".repeat(32));
    let calls = [
        ("user", "POST", "/v1/gifts".to_owned(), gift),
        ("user", "GET", "/v1/gifts".to_owned(), Value::Null),
        ("user", "GET", format!("/v1/gifts/{id}"), Value::Null),
        ("user", "GET", format!("/v1/gifts/{id}/stream"), Value::Null),
        ("user", "POST", format!("/v1/gifts/{id}/cancel"), json!({})),
        ("merchant", "POST", "/v1/vouchers/redeem".to_owned(), sale.clone()),
        ("merchant", "POST", "/v1/vouchers/redeem/cancel".to_owned(), sale),
        ("operator", "PUT", "/v1/ops/products/x".to_owned(), product),
        ("operator", "GET", "/v1/ops/products/americano".to_owned(), Value::Null),
        ("operator", "GET", "/v1/ops/dead-letters".to_owned(), Value::Null),
        ("operator", "POST", format!("/v1/ops/dead-letters/{id}/replay"), json!({})),
        ("operator", "POST", format!("/v1/ops/dead-letters/{id}/discard"), json!({"reason": "x"})),
        ("operator", "POST", format!("/v1/ops/gifts/{id}/erase"), json!({})),
        ("operator", "GET", format!("/v1/ops/gifts/{id}/erasure"), Value::Null),
        ("operator", "GET", "/v1/ops/vault".to_owned(), Value::Null),
        ("operator", "GET", "/v1/ops/backup".to_owned(), Value::Null),
        ("operator", "GET", "/v1/ops/backup/shards/0/rows".to_owned(), Value::Null),
        ("operator", "GET", "/v1/ops/backup/shards/0/log?after=0".to_owned(), Value::Null),
        ("operator", "GET", "/v1/ops/cluster".to_owned(), Value::Null),
        ("operator", "GET", "/v1/ops/gateways".to_owned(), Value::Null),
        ("operator", "GET", "/v1/ops/alerts".to_owned(), Value::Null),
        ("operator", "POST", format!("/v1/ops/orders/{}/erase", id.replace("g_", "o_")), json!({})),
        ("operator", "POST", format!("/v1/ops/wallets/{}/erase", id.replace("g_", "w_")), json!({})),
        ("operator", "GET", format!("/v1/ops/wallets/{}/erasure", id.replace("g_", "w_")), Value::Null),
        ("operator", "POST", "/v1/coupon-campaigns".to_owned(), json!({"parts": 2})),
        ("user", "POST", "/v1/wallet/charges".to_owned(), json!({})),
        ("user", "GET", format!("/v1/orders/{}/notices", id.replace("g_", "o_")), Value::Null),
        ("user", "GET", "/v1/me/items".to_owned(), Value::Null),
        ("operator", "GET", "/v1/ops/runtime".to_owned(), Value::Null),
        ("operator", "GET", "/v1/ops/forecast".to_owned(), Value::Null),
        ("operator", "GET", "/v1/ops/reconciliation".to_owned(), Value::Null),
        ("operator", "POST", "/v1/ops/cluster/tokens".to_owned(), json!({})),
        ("operator", "POST", "/v1/ops/cluster/drain".to_owned(), json!({"node": 1})),
        ("operator", "POST", "/v1/ops/cluster/remove".to_owned(), json!({"node": 1, "force": true})),
        ("operator", "POST", "/v1/ops/cluster/transfer".to_owned(), json!({"shard": 0, "to": 1})),
        ("operator", "POST", "/v1/ops/cluster/rebalance".to_owned(), json!({})),
        ("operator", "POST", "/v1/ops/cluster/finalize-upgrade".to_owned(), json!({})),
    ];
    let roles = [("user", &stack.user), ("merchant", &stack.merchant), ("operator", &stack.operator)];
    for (owner, method, path, body) in calls {
        let body = Some(body).filter(|body| !body.is_null());
        let nobody = stack.call(method, &path, None, Some(&stack.fresh_key()), body.clone());
        assert_eq!(refused(&nobody, 401), "unauthenticated", "{method} {path}");
        for (_, token) in roles.iter().filter(|(role, _)| *role != owner) {
            let reply = stack.call(method, &path, Some(token), Some(&stack.fresh_key()), body.clone());
            assert_eq!(refused(&reply, 403), "wrong_role", "{method} {path}");
        }
    }
    assert_eq!(world(&stack), before);
}

#[test]
fn another_persons_gift_is_as_absent_as_one_that_never_was() {
    let stack = Stack::start();
    stack.put_product("americano", 4_500, 30);
    let id = stack.reserved(stack.gift_body("americano", &stack.in_minutes(300)));
    stack.await_status(&id, "scheduled");
    let before = world(&stack);
    let stranger = stack.token("user", "u-2");
    let token = stack.link(&id);
    let never = format!("g_{}", "7".repeat(32));
    let change = json!({"message": "mine now"});
    let calls: [(&str, &str, Option<Value>); 6] = [
        ("GET", "", None),
        ("GET", "/events", None),
        ("GET", "/notices", None),
        ("GET", "/stream", None),
        ("PATCH", "", Some(change)),
        ("POST", "/cancel", Some(json!({}))),
    ];
    for (method, part, body) in calls {
        let ask = |id: &str| {
            let path = format!("/v1/gifts/{id}{part}");
            let key = stack.fresh_key();
            stack.call_with(method, &path, Some(&stranger), Some(&key), body.clone(), &[("If-Match", "*")])
        };
        let (theirs, nothing) = (ask(&id), ask(&never));
        assert_eq!(refused(&theirs, 404), "not_found", "{method} {part}");
        assert_eq!(bare(&theirs), bare(&nothing), "whether it exists is not told");
    }
    let list = stack.call("GET", "/v1/gifts", Some(&stranger), None, None);
    assert_eq!(list.body["items"], json!([]));
    // Before it leaves, its recipient's link leads nowhere either.
    assert_eq!(refused(&stack.call("GET", &format!("/v1/links/{token}"), None, None, None), 404), "not_found");
    // The same key of another caller is another key.
    let body = stack.gift_body("americano", &stack.in_minutes(300));
    let keyed = |user: &str| stack.call("POST", "/v1/gifts", Some(user), Some("shared"), Some(body.clone()));
    let (own, other) = (keyed(&stack.user), keyed(&stranger));
    assert_eq!((own.status, other.status, other.replayed), (201, 201, false));
    assert_ne!(own.body["id"], other.body["id"]);
    assert_eq!(stack.gift(&id)["message"], "생일 축하해!");
    assert_eq!(before["gifts"]["items"][0]["id"], json!(id));
    // A cursor is good for its own caller and list.
    let page = stack.call("GET", "/v1/gifts?limit=1", Some(&stack.user), None, None);
    let cursor = page.body["next_cursor"].as_str().expect("there is a second page");
    for (path, token) in [("/v1/gifts", &stranger), ("/v1/products", &stack.user)] {
        let reply = stack.call("GET", &format!("{path}?cursor={cursor}"), Some(token), None, None);
        assert_eq!(refused(&reply, 422), "validation_failed");
    }
}

//! Tests of the front door as a whole: requests through the whole router, and sockets where bytes matter.

mod concert;
mod coupon_parts;
mod coupons;
mod faults;
mod fuzz;
mod gifts;
mod items;
mod letters;
mod memory;
mod operators;
mod orders;
mod outcomes;
mod parsers;
mod promises;
mod recipients;
mod server;
mod tender;
mod trouble;

use crate::api::ApiOptions;
use crate::api::auth::{Role, TokenKey};
use crate::api::router::{App, Shared, routes};
use axum::Router;
use axum::body::Body;
use http::{HeaderMap, Request, StatusCode};
use http_body_util::BodyExt;
use memory::MemoryDoor;
use serde_json::{Value, json};
use std::sync::Arc;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

const NOW: &str = "2026-12-01T00:00:00Z";
const KEY_BYTES: [u8; 32] = [9; 32];

fn options() -> ApiOptions {
    ApiOptions::new(TokenKey::new(&KEY_BYTES).unwrap(), "https://gift.example/")
}

fn bearer(role: Role, subject: &str) -> String {
    format!("Bearer {}", TokenKey::new(&KEY_BYTES).unwrap().mint(subject, role, 3600).unwrap())
}

/// A front door over a world of its own.
struct House {
    door: Arc<MemoryDoor>,
    app: App,
    router: Router,
}

/// A reply, read to its end.
#[derive(Debug)]
struct Reply {
    status: StatusCode,
    headers: HeaderMap,
    bytes: Vec<u8>,
}

impl Reply {
    fn json(&self) -> Value {
        serde_json::from_slice(&self.bytes).unwrap_or_else(|_| panic!("not JSON: {self:?}"))
    }
    fn text(&self) -> String {
        String::from_utf8(self.bytes.clone()).unwrap()
    }
    fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }
    /// Status and problem code.
    fn problem(&self) -> (u16, String) {
        let body = self.json();
        assert_eq!(self.header("content-type"), "application/problem+json", "{self:?}");
        assert_eq!(body["status"], self.status.as_u16());
        assert_eq!(body["trace_id"].as_str().unwrap(), self.header("x-trace-id"));
        (self.status.as_u16(), body["code"].as_str().unwrap().to_owned())
    }
    fn pointers(&self) -> Vec<String> {
        let body = self.json();
        let errors = body["errors"].as_array().cloned().unwrap_or_default();
        errors.iter().map(|error| error["pointer"].as_str().unwrap().to_owned()).collect()
    }
}

/// A request being made.
struct Call<'a> {
    house: &'a House,
    method: &'static str,
    path: String,
    headers: Vec<(&'static str, String)>,
    body: Vec<u8>,
}

impl Call<'_> {
    fn header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }
    fn user(self, subject: &str) -> Self {
        self.header("authorization", bearer(Role::User, subject))
    }
    fn merchant(self, subject: &str) -> Self {
        self.header("authorization", bearer(Role::Merchant, subject))
    }
    fn operator(self) -> Self {
        self.header("authorization", bearer(Role::Operator, "op-1"))
    }
    fn key(self, key: &str) -> Self {
        self.header("idempotency-key", key)
    }
    fn json(mut self, body: &Value) -> Self {
        self.body = body.to_string().into_bytes();
        self.header("content-type", "application/json")
    }
    fn bytes(mut self, body: &[u8]) -> Self {
        self.body = body.to_vec();
        self.header("content-type", "application/json")
    }
    async fn send(self) -> Reply {
        let mut request = Request::builder().method(self.method).uri(self.path);
        for (name, value) in self.headers {
            request = request.header(name, value);
        }
        let request = request.body(Body::from(self.body)).unwrap();
        let response = self.house.router.clone().oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        let bytes = body.collect().await.unwrap().to_bytes().to_vec();
        Reply { status: parts.status, headers: parts.headers, bytes }
    }
}

impl House {
    fn new() -> Self {
        Self::with(options())
    }

    fn with(options: ApiOptions) -> Self {
        let door = MemoryDoor::new(NOW);
        let app = Shared::new(options, door.clone(), CancellationToken::new());
        let router = routes(&app);
        Self { door, app, router }
    }

    /// With a product on sale.
    async fn open() -> Self {
        let house = Self::new();
        house.stock("americano", 4500).await;
        house
    }

    async fn stock(&self, id: &str, won: i64) {
        let body = json!({"name": "아메리카노", "price": {"value": won, "currency": "KRW"}});
        let reply = self.put(&format!("/v1/ops/products/{id}")).operator().json(&body).send().await;
        assert!(reply.status.is_success(), "{}", reply.text());
    }

    fn call(&self, method: &'static str, path: &str) -> Call<'_> {
        Call { house: self, method, path: path.to_owned(), headers: Vec::new(), body: Vec::new() }
    }
    fn get(&self, path: &str) -> Call<'_> {
        self.call("GET", path)
    }
    fn post(&self, path: &str) -> Call<'_> {
        self.call("POST", path)
    }
    fn put(&self, path: &str) -> Call<'_> {
        self.call("PUT", path)
    }
    fn patch(&self, path: &str) -> Call<'_> {
        self.call("PATCH", path)
    }

    /// Reserves a gift and gives its JSON.
    async fn reserve(&self, user: &str, key: &str) -> Value {
        let reply = self.post("/v1/gifts").user(user).key(key).json(&gift()).send().await;
        assert_eq!(reply.status, StatusCode::CREATED, "{}", reply.text());
        reply.json()
    }

    /// A gift that has been sent; its id and its link's token.
    async fn sent(&self, user: &str) -> (String, String) {
        let gift = self.reserve(user, "sent").await;
        let id = gift["id"].as_str().unwrap().to_owned();
        self.door.settle();
        self.door.pass(crate::types::time::Millis::from_days(30));
        self.door.settle();
        let link = self.get(&format!("/v1/dev/links/{id}")).send().await.json();
        (id, link["token"].as_str().unwrap().to_owned())
    }
}

/// The reservation of the contract.
fn gift() -> Value {
    json!({
        "product_id": "americano",
        "recipient": {"name": "지민", "phone": "010-1234-5678", "kakao_id": null, "email": null},
        "message": "생일 축하해!",
        "send_at": {"local": "2026-12-25T00:00", "zone": "America/New_York"},
        "channels": ["kakao", "sms"],
        "payment": {"method": "card", "payment_key": "tok_1"},
        "coupon_id": null
    })
}

//! A stand-in for API and sandbox on one port: just enough of their contracts to be talked to, with faults to order.

use axum::extract::{Path, Query, Request, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::sse::{Event, Sse};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post, put};
use axum::{Json, Router, middleware};
use bojagi::types::time::Timestamp;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

/// How it misbehaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Twist {
    None,
    /// Each key is answered 503 once.
    BusyFirst,
    /// Each reply closes its connection.
    CloseEach,
    Refuse,
    LoseMessage,
    DoubleMessage,
    EarlyMessage,
    /// The gift says `refunded`, the provider knows nothing of it.
    KeepRefund,
    /// The books miss a won.
    Adrift,
}

#[derive(Default)]
struct World {
    now_ms: i64,
    gifts: BTreeMap<String, Gift>,
    /// Idempotency keys that were seen, with the gift that they made.
    keys: BTreeMap<String, Option<String>>,
    redeemed_by: Option<String>,
}

struct Gift {
    due_ms: i64,
    status: &'static str,
}

pub struct StandIn {
    twist: Twist,
    world: Mutex<World>,
}

type Shared = State<Arc<StandIn>>;

const START_MS: i64 = 1_790_000_000_000;
const DAY_MS: i64 = 86_400_000;

impl StandIn {
    /// Serves on a free port; the base URL is the answer.
    pub async fn start(twist: Twist) -> String {
        let world = World { now_ms: START_MS, ..World::default() };
        let stand_in = Arc::new(Self { twist, world: Mutex::new(world) });
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move { axum::serve(listener, router(stand_in)).await.unwrap() });
        format!("http://{address}")
    }
}

fn router(stand_in: Arc<StandIn>) -> Router {
    let close = stand_in.twist == Twist::CloseEach;
    Router::new()
        .route("/healthz", get(|| async { "ok" }))
        .route("/stream", get(stream))
        .route("/echo", post(|body: String| async { body }))
        .route("/v1/dev/clock", get(clock).post(advance))
        .route("/v1/dev/token", post(|| async { Json(json!({ "token": "t" })) }))
        .route(
            "/v1/dev/links/{id}",
            get(|Path(id): Path<String>| async move { Json(json!({ "token": id, "url": "-" })) }),
        )
        .route("/v1/ops/products/{id}", put(|| async { Json(json!({})) }))
        .route("/v1/ops/reconciliation", get(reconciliation))
        .route("/v1/gifts", post(reserve))
        .route("/v1/gifts/{id}", get(gift))
        .route("/v1/gifts/{id}/cancel", post(cancel))
        .route("/g/{token}", get(|| async { "<html>" }))
        .route("/v1/links/{token}", get(|| async { Json(json!({})) }))
        .route("/v1/links/{token}/accept", post(accept))
        .route("/v1/vouchers/redeem", post(redeem))
        .route("/ledger", get(ledger))
        .route("/ledger/summary", get(summary))
        .layer(middleware::from_fn(move |request: Request, next: middleware::Next| async move {
            let mut reply = next.run(request).await;
            if close {
                reply.headers_mut().insert("connection", "close".parse().unwrap());
            }
            reply
        }))
        .with_state(stand_in)
}

async fn stream() -> Sse<impl futures_util::Stream<Item = Result<Event, std::convert::Infallible>>> {
    Sse::new(futures_util::stream::pending())
}

fn problem(status: u16, code: &str) -> Response {
    (StatusCode::from_u16(status).unwrap(), Json(json!({ "code": code }))).into_response()
}

async fn clock(State(it): Shared) -> Json<Value> {
    Json(json!({ "now": Timestamp(it.world.lock().unwrap().now_ms).to_rfc3339() }))
}

async fn advance(State(it): Shared, Json(body): Json<Value>) -> Json<Value> {
    let mut world = it.world.lock().unwrap();
    world.now_ms += body["advance_seconds"].as_i64().unwrap() * 1_000;
    let now_ms = world.now_ms;
    for gift in world.gifts.values_mut() {
        if gift.status == "scheduled" && gift.due_ms <= now_ms {
            gift.status = "sent";
        }
        if gift.status == "sent" && gift.due_ms + 30 * DAY_MS <= now_ms {
            gift.status = "refunded";
        }
    }
    Json(json!({ "now": Timestamp(now_ms).to_rfc3339(), "settled": true }))
}

fn due_ms(send_at: &Value) -> i64 {
    match send_at["instant"].as_str() {
        Some(text) => Timestamp::parse_rfc3339(text).unwrap().0,
        // Seoul has no summer time.
        None => Timestamp::parse_rfc3339(&format!("{}:00+09:00", send_at["local"].as_str().unwrap())).unwrap().0,
    }
}

async fn reserve(State(it): Shared, headers: HeaderMap, Json(body): Json<Value>) -> Response {
    if it.twist == Twist::Refuse {
        return problem(422, "invalid");
    }
    let key = headers["idempotency-key"].to_str().unwrap().to_owned();
    let mut world = it.world.lock().unwrap();
    if it.twist == Twist::BusyFirst && world.keys.insert(key.clone(), None).is_none() {
        return problem(503, "overloaded");
    }
    let earlier = world.gifts.contains_key(&id_of(&key));
    let gift = Gift { due_ms: due_ms(&body["send_at"]), status: "scheduled" };
    let id = id_of(&key);
    world.gifts.entry(id.clone()).or_insert(gift);
    let due = Timestamp(world.gifts[&id].due_ms).to_rfc3339();
    let mut reply = (StatusCode::CREATED, Json(json!({ "id": id, "send_at": { "instant": due } }))).into_response();
    if earlier {
        reply.headers_mut().insert("idempotent-replayed", "true".parse().unwrap());
    }
    reply
}

fn id_of(key: &str) -> String {
    let digest = key
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
    format!("g_{digest:032x}")
}

async fn gift(State(it): Shared, Path(id): Path<String>) -> Json<Value> {
    let world = it.world.lock().unwrap();
    let gift = &world.gifts[&id];
    Json(json!({
        "id": id, "status": gift.status, "refunded": { "value": 4_500 },
        "expires_at": Timestamp(gift.due_ms + 30 * DAY_MS).to_rfc3339(),
    }))
}

async fn cancel(State(it): Shared, Path(id): Path<String>) -> Json<Value> {
    it.world.lock().unwrap().gifts.get_mut(&id).unwrap().status = "refunded";
    Json(json!({}))
}

async fn accept(State(it): Shared, Path(token): Path<String>) -> Json<Value> {
    it.world.lock().unwrap().gifts.get_mut(&token).unwrap().status = "accepted";
    Json(json!({ "voucher": { "code": "0011234567890123" } }))
}

async fn redeem(State(it): Shared, Json(body): Json<Value>) -> Response {
    let mut world = it.world.lock().unwrap();
    let transaction = body["transaction_id"].as_str().unwrap().to_owned();
    if *world.redeemed_by.get_or_insert_with(|| transaction.clone()) != transaction {
        return problem(409, "already_used");
    }
    for gift in world.gifts.values_mut().filter(|gift| gift.status == "accepted") {
        gift.status = "used";
    }
    Json(json!({})).into_response()
}

async fn reconciliation(State(it): Shared) -> Json<Value> {
    let won = |value: i64| json!({ "value": value, "currency": "KRW" });
    let held = if it.twist == Twist::Adrift { -1 } else { 0 };
    Json(
        json!({ "paid": won(13_500), "held": won(held), "used": won(4_500), "refunded": won(9_000), "broken_count": 0 }),
    )
}

/// Two rows a page, whatever was asked for, so that cursors are followed.
async fn ledger(State(it): Shared, Query(query): Query<BTreeMap<String, String>>) -> Json<Value> {
    let world = it.world.lock().unwrap();
    let mut rows = Vec::new();
    for (id, gift) in world.gifts.iter().filter(|(id, _)| id.starts_with(&query["reference_prefix"])) {
        rows.extend(rows_of(it.twist, &query["kind"], id, gift));
    }
    let from: usize = query.get("cursor").map_or(0, |cursor| cursor.trim_start_matches("at+").parse().unwrap());
    let to = (from + 2).min(rows.len());
    let next = (to < rows.len()).then(|| format!("at+{to}"));
    Json(json!({ "items": rows[from..to], "next_cursor": next }))
}

fn rows_of(twist: Twist, kind: &str, id: &str, gift: &Gift) -> Vec<Value> {
    let row = |reference: String, at_ms: i64| {
        json!({ "kind": kind, "reference": reference, "purpose": "gift", "requests": 1, "effective": 1,
                "first_at": Timestamp(at_ms).to_rfc3339(), "amount": { "value": 4_500, "currency": "KRW" } })
    };
    let late_ms = if twist == Twist::EarlyMessage { -1 } else { 7 };
    let left = matches!(gift.status, "sent" | "accepted" | "used");
    match kind {
        "payment" => vec![row(id.to_owned(), START_MS)],
        "refund" if gift.status == "refunded" && twist != Twist::KeepRefund => vec![row(id.to_owned(), START_MS)],
        "message" if left && twist != Twist::LoseMessage => {
            let attempts = if twist == Twist::DoubleMessage { 1..=2 } else { 1..=1 };
            attempts.map(|attempt| row(format!("{id}.0.{attempt}"), gift.due_ms + late_ms)).collect()
        }
        _ => Vec::new(),
    }
}

async fn summary(State(it): Shared) -> Json<Value> {
    let sent = it.world.lock().unwrap().gifts.values().filter(|gift| gift.status == "sent").count();
    Json(json!({ "gifts_delivered": sent }))
}

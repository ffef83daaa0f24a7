//! What a client asks of the API beside its gifts: what time it is, and in dev mode tokens and a moved clock.

use crate::load::http::{Call, Connection, Reply, Target, bearer};
use crate::load::{CALL_DEADLINE, HttpError, LoadError};
use crate::types::time::{Millis, Timestamp};
use bytes::Bytes;
use hyper::Method;
use hyper::header::{DATE, HeaderValue};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::task::JoinSet;
use tokio::time::Instant;

/// The API's clock as it was read once, running on by this machine's monotonic clock.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ClusterClock {
    at: Timestamp,
    read: Instant,
}

impl ClusterClock {
    pub(crate) fn now(&self) -> Timestamp {
        let passed = i64::try_from(self.read.elapsed().as_millis()).unwrap_or(i64::MAX);
        self.at + Millis(passed)
    }
}

/// Reads the API's clock: the dev clock to the millisecond, else the reply's `Date` to the second.
///
/// # Errors
/// [`LoadError::Http`] or, from something that is not the API, [`LoadError::Reply`].
pub(crate) async fn clock(api: &mut Connection) -> Result<ClusterClock, LoadError> {
    const WHAT: &str = "the API's clock";
    let reply = exchange(api, Call::get("/v1/dev/clock"), WHAT).await?;
    let read = Instant::now();
    let at = if reply.status == 200 { dev_now(&reply) } else { date(&reply) };
    let at = at.ok_or_else(|| unexpected(&reply, WHAT))?;
    Ok(ClusterClock { at, read })
}

fn dev_now(reply: &Reply) -> Option<Timestamp> {
    let body: Value = serde_json::from_slice(&reply.body).ok()?;
    Timestamp::parse_rfc3339(body["now"].as_str()?)
}

fn date(reply: &Reply) -> Option<Timestamp> {
    let text = reply.headers.get(DATE)?.to_str().ok()?;
    let parsed = jiff::fmt::rfc2822::DateTimeParser::new().parse_timestamp(text).ok()?;
    Some(Timestamp(parsed.as_millisecond()))
}

/// Dev mode: moves the clock forward; the flag says whether everything due had settled.
///
/// # Errors
/// [`LoadError`]; outside dev mode there is no such route.
pub(crate) async fn advance(api: &mut Connection, by: Millis) -> Result<bool, LoadError> {
    const WHAT: &str = "moving the dev clock";
    // Whole seconds, never beyond what was asked for.
    let body = json!({ "advance_seconds": by.0.div_euclid(1_000) });
    let call = Call::json(Method::POST, "/v1/dev/clock", Bytes::from(body.to_string()));
    let reply = exchange(api, call, WHAT).await?;
    let answer: Option<Value> = serde_json::from_slice(&reply.body).ok();
    match answer.as_ref().and_then(|answer| answer["settled"].as_bool()) {
        Some(settled) if reply.status == 200 => Ok(settled),
        Some(_) | None => Err(unexpected(&reply, WHAT)),
    }
}

/// Dev mode: a bearer token.
///
/// # Errors
/// [`LoadError`]; outside dev mode there is no such route.
pub(crate) async fn token(api: &mut Connection, role: &str, sub: &str) -> Result<String, LoadError> {
    const WHAT: &str = "minting a token";
    let body = json!({ "role": role, "sub": sub }).to_string();
    let reply = exchange(api, Call::json(Method::POST, "/v1/dev/token", Bytes::from(body)), WHAT).await?;
    let answer: Option<Value> = serde_json::from_slice(&reply.body).ok();
    match answer.as_ref().and_then(|answer| answer["token"].as_str()) {
        Some(token) if reply.status < 300 => Ok(token.to_owned()),
        Some(_) | None => Err(unexpected(&reply, WHAT)),
    }
}

/// Dev mode: the `Authorization` of `count` users, `<name>-0` and so on, minted over `concurrency` connections.
///
/// # Errors
/// [`LoadError`]; outside dev mode there is no such route.
pub(crate) async fn tokens(
    targets: &[Target],
    concurrency: u32,
    name: &'static str,
    count: u64,
) -> Result<Vec<HeaderValue>, LoadError> {
    let next = Arc::new(AtomicU64::new(0));
    let mut minting = JoinSet::new();
    for number in 0..concurrency as usize {
        let mut connection = Connection::to_any(targets.to_vec(), number, CALL_DEADLINE);
        let next = Arc::clone(&next);
        minting.spawn(async move {
            let mut tokens = Vec::new();
            loop {
                let user = next.fetch_add(1, Ordering::Relaxed);
                if user >= count {
                    return Ok::<_, LoadError>(tokens);
                }
                let token = token(&mut connection, "user", &format!("{name}-{user}")).await?;
                tokens.push((user, token));
            }
        });
    }
    let mut all = BTreeMap::new();
    while let Some(minted) = minting.join_next().await {
        all.extend(minted.map_err(|_| LoadError::Worker)??);
    }
    let http = |source: HttpError| LoadError::Http { what: "a token", source };
    all.into_values().map(|token| bearer(&token)).collect::<Result<_, _>>().map_err(http)
}

async fn exchange(api: &mut Connection, call: Call<'_>, what: &'static str) -> Result<Reply, LoadError> {
    api.call(call).await.map_err(|source: HttpError| LoadError::Http { what, source })
}

fn unexpected(reply: &Reply, what: &'static str) -> LoadError {
    LoadError::Reply { what, status: reply.status, body: reply.text() }
}

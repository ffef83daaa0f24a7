//! What `bojagi cluster backup` reads: parts of the shards that this node leads, while it serves. Binary, checksummed;
//! personal data is sealed in it, and the data keys are wrapped.

use crate::actors::door::CopyPart;
use crate::api::cursor::Query;
use crate::api::dto::ProblemDocument;
use crate::api::extract::{Operator, Segment};
use crate::api::json::Faults;
use crate::api::problem::{Code, Problem};
use crate::api::router::App;
use crate::types::ids::{LogIndex, ShardId};
use axum::extract::{RawQuery, State};
use axum::response::{IntoResponse, Response};
use http::header;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

/// Longest cursor, in bytes: a row's key.
const CURSOR_BYTES_MAX: usize = 1_024;

/// The routes of this file.
pub fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(identity)).routes(routes!(rows)).routes(routes!(log))
}

async fn copy(app: &App, part: CopyPart) -> Result<Response, Problem> {
    let bytes = app.door.copy(part).await.ok_or_else(|| Problem::new(Code::Unavailable))?;
    Ok(([(header::CONTENT_TYPE, "application/octet-stream")], bytes).into_response())
}

/// The cluster's id and its sealed keys.
#[utoipa::path(get, path = "/v1/ops/backup", tag = "operator", security(("bearer" = [])),
    responses((status = 200, body = Vec<u8>, content_type = "application/octet-stream"),
        (status = 403, body = ProblemDocument)))]
async fn identity(State(app): State<App>, Operator(_caller): Operator) -> Result<Response, Problem> {
    copy(&app, CopyPart::Identity).await
}

/// The next page of a shard's rows; without a cursor the first, as of now.
#[utoipa::path(get, path = "/v1/ops/backup/shards/{shard}/rows", tag = "operator", security(("bearer" = [])),
    params(("shard" = u16, Path), ("cursor" = Option<String>, Query)),
    responses((status = 200, body = Vec<u8>, content_type = "application/octet-stream"),
        (status = 422, body = ProblemDocument)))]
async fn rows(
    State(app): State<App>,
    Operator(_caller): Operator,
    Segment(shard): Segment,
    RawQuery(query): RawQuery,
) -> Result<Response, Problem> {
    let cursor = read(query.as_deref(), "cursor", |text| {
        hex::decode(text).ok().filter(|cursor| (1..=CURSOR_BYTES_MAX).contains(&cursor.len()))
    })?;
    copy(&app, CopyPart::Rows { shard: read_shard(&app, &shard)?, cursor: cursor.unwrap_or_default() }).await
}

/// Committed entries of a shard's log after an index.
#[utoipa::path(get, path = "/v1/ops/backup/shards/{shard}/log", tag = "operator", security(("bearer" = [])),
    params(("shard" = u16, Path), ("after" = Option<u64>, Query)),
    responses((status = 200, body = Vec<u8>, content_type = "application/octet-stream"),
        (status = 422, body = ProblemDocument)))]
async fn log(
    State(app): State<App>,
    Operator(_caller): Operator,
    Segment(shard): Segment,
    RawQuery(query): RawQuery,
) -> Result<Response, Problem> {
    let after = read(query.as_deref(), "after", |text| text.parse().ok().filter(|after| *after <= i64::MAX as u64))?;
    copy(&app, CopyPart::Log { shard: read_shard(&app, &shard)?, after: LogIndex(after.unwrap_or(0)) }).await
}

fn read_shard(app: &App, text: &str) -> Result<ShardId, Problem> {
    let shard = text.parse().ok().filter(|shard| *shard < app.door.shard_count());
    shard.map(ShardId).ok_or_else(|| Problem::new(Code::NotFound))
}

/// The one parameter of a query, if it is there.
fn read<T>(
    query: Option<&str>,
    name: &'static str,
    parse: impl FnOnce(&str) -> Option<T>,
) -> Result<Option<T>, Problem> {
    let faults = Faults::default();
    let mut query = Query::parse(query);
    let value = query.take(name);
    let parsed = value.as_deref().and_then(parse);
    if value.is_some() && parsed.is_none() {
        faults.add(format!("/{name}"), "malformed", "As a page before gave it.");
    }
    query.done(&faults);
    faults.check()?;
    Ok(parsed)
}

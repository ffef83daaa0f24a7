//! What an operator does to the cluster: join tokens, draining, removal, leadership. Any node takes these calls.

use crate::actors::door::{ClusterChange, ClusterError};
use crate::api::dto::ProblemDocument;
use crate::api::extract::{JsonBody, Operator};
use crate::api::json::{Faults, Object};
use crate::api::problem::{Code, Problem};
use crate::api::router::App;
use crate::api::upon::read_empty;
use axum::Json;
use axum::extract::State;
use serde_json::Value;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

/// Life of a join token in seconds, unless asked otherwise and at most.
const TOKEN_SECONDS_DEFAULT: i64 = 600;
const TOKEN_SECONDS_MAX: i64 = 86_400;

/// The routes of this file.
pub fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(issue_token))
        .routes(routes!(drain))
        .routes(routes!(remove))
        .routes(routes!(transfer))
        .routes(routes!(rebalance))
        .routes(routes!(finalize_upgrade))
}

async fn change(app: &App, change: ClusterChange) -> Result<Json<Value>, Problem> {
    match app.door.change_cluster(change).await {
        Ok(done) => Ok(Json(done)),
        Err(ClusterError::Refused(why)) => Err(Problem::because(Code::ClusterRefused, why)),
        Err(ClusterError::Ask(error)) => Err(error.into()),
    }
}

/// Reads a body member by member; every fault is named.
fn read<T>(body: &JsonBody, members: impl FnOnce(&mut Object<'_>) -> T) -> Result<T, Problem> {
    let faults = Faults::default();
    let mut root = Object::root(body.value(&faults)?, &faults);
    let read = members(&mut root);
    root.done();
    faults.check()?;
    Ok(read)
}

/// How long a token is good.
#[derive(ToSchema)]
#[expect(dead_code, reason = "describes the body; it is read member by member")]
struct JoinTokenBody {
    /// 1 to 86,400; 600 unless given.
    #[schema(minimum = 1, maximum = 86_400, example = 600)]
    seconds: Option<i64>,
}

/// A one-time token for `bojagi cluster join`.
#[utoipa::path(post, path = "/v1/ops/cluster/tokens", tag = "operator", security(("bearer" = [])),
    request_body = Option<JoinTokenBody>, responses((status = 200, body = Object), (status = 422, body = ProblemDocument)))]
async fn issue_token(
    State(app): State<App>,
    Operator(_caller): Operator,
    body: JsonBody,
) -> Result<Json<Value>, Problem> {
    let seconds = read(&body, |root| {
        let seconds = root.integer("seconds").unwrap_or(TOKEN_SECONDS_DEFAULT);
        if !(1..=TOKEN_SECONDS_MAX).contains(&seconds) {
            root.fault("seconds", "out_of_range", format!("1 to {TOKEN_SECONDS_MAX}."));
        }
        u32::try_from(seconds).unwrap_or(0)
    })?;
    change(&app, ClusterChange::IssueToken { seconds }).await
}

/// A node, by its number.
#[derive(ToSchema)]
#[expect(dead_code, reason = "describes the body; it is read member by member")]
struct DrainBody {
    #[schema(minimum = 1, example = 2)]
    node: i64,
    /// Ends the draining.
    undo: Option<bool>,
}

/// Moves leaders and replicas off a node, or stops doing so.
#[utoipa::path(post, path = "/v1/ops/cluster/drain", tag = "operator", security(("bearer" = [])),
    request_body = DrainBody, responses((status = 200, body = Object), (status = 409, body = ProblemDocument),
        (status = 422, body = ProblemDocument)))]
async fn drain(State(app): State<App>, Operator(_caller): Operator, body: JsonBody) -> Result<Json<Value>, Problem> {
    let (node, undo) = read(&body, |root| (node(root, "node"), root.flag("undo").unwrap_or(false)))?;
    change(&app, ClusterChange::Drain { node, undo }).await
}

/// A node, by its number.
#[derive(ToSchema)]
#[expect(dead_code, reason = "describes the body; it is read member by member")]
struct RemoveBody {
    #[schema(minimum = 1, example = 2)]
    node: i64,
    /// Although replicas are still noted there: the node must be gone.
    force: Option<bool>,
}

/// Takes a node out of the cluster for good. Its number is never used again.
#[utoipa::path(post, path = "/v1/ops/cluster/remove", tag = "operator", security(("bearer" = [])),
    request_body = RemoveBody, responses((status = 200, body = Object), (status = 409, body = ProblemDocument),
        (status = 422, body = ProblemDocument)))]
async fn remove(State(app): State<App>, Operator(_caller): Operator, body: JsonBody) -> Result<Json<Value>, Problem> {
    let (node, force) = read(&body, |root| (node(root, "node"), root.flag("force").unwrap_or(false)))?;
    change(&app, ClusterChange::Remove { node, force }).await
}

/// A shard and the node that is to lead it.
#[derive(ToSchema)]
#[expect(dead_code, reason = "describes the body; it is read member by member")]
struct LeadershipBody {
    #[schema(minimum = 0, maximum = 999, example = 7)]
    shard: i64,
    #[schema(minimum = 1, example = 2)]
    to: i64,
}

/// Hands the leadership of a shard to another of its nodes.
#[utoipa::path(post, path = "/v1/ops/cluster/transfer", tag = "operator", security(("bearer" = [])),
    request_body = LeadershipBody, responses((status = 200, body = Object), (status = 409, body = ProblemDocument),
        (status = 422, body = ProblemDocument)))]
async fn transfer(State(app): State<App>, Operator(_caller): Operator, body: JsonBody) -> Result<Json<Value>, Problem> {
    let (shard, to) = read(&body, |root| {
        let shards = app.door.shard_count();
        let asked = root.required_integer("shard");
        let shard = asked.and_then(|shard| u16::try_from(shard).ok()).filter(|shard| *shard < shards);
        if asked.is_some() && shard.is_none() {
            root.fault("shard", "out_of_range", format!("0 to {}.", shards.saturating_sub(1)));
        }
        (shard.unwrap_or(0), node(root, "to"))
    })?;
    change(&app, ClusterChange::Transfer { shard, to }).await
}

/// Looks for better places for replicas and leaders now.
#[utoipa::path(post, path = "/v1/ops/cluster/rebalance", tag = "operator", security(("bearer" = [])),
    responses((status = 200, body = Object), (status = 409, body = ProblemDocument),
        (status = 422, body = ProblemDocument)))]
async fn rebalance(
    State(app): State<App>,
    Operator(_caller): Operator,
    body: JsonBody,
) -> Result<Json<Value>, Problem> {
    read_empty(&body)?;
    change(&app, ClusterChange::Rebalance).await
}

/// Raises the feature level once all members run the newer build; the older build is refused from then on.
#[utoipa::path(post, path = "/v1/ops/cluster/finalize-upgrade", tag = "operator", security(("bearer" = [])),
    responses((status = 200, body = Object), (status = 409, body = ProblemDocument),
        (status = 422, body = ProblemDocument)))]
async fn finalize_upgrade(
    State(app): State<App>,
    Operator(_caller): Operator,
    body: JsonBody,
) -> Result<Json<Value>, Problem> {
    read_empty(&body)?;
    change(&app, ClusterChange::FinalizeUpgrade).await
}

/// A node's number; 0, with a fault, when there is none.
fn node(root: &mut Object<'_>, name: &'static str) -> u64 {
    let asked = root.required_integer(name);
    let node = asked.and_then(|node| u64::try_from(node).ok()).unwrap_or(0);
    if asked.is_some() && node == 0 {
        root.fault(name, "out_of_range", "The number of a node, from 1.".to_owned());
    }
    node
}

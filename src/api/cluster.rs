//! What an operator does to the cluster: join tokens, draining, removal, leadership. Any node takes these calls.
//!
//! What the meta group writes down is done once under a key, and a repeat gets the first reply, whatever was ordered since. A
//! transfer and a look at the places write nothing down: a repeat is a new one.

use crate::actors::door::{ClusterChange, ClusterDone, ClusterError};
use crate::api::auth::Caller;
use crate::api::dto::ProblemDocument;
use crate::api::extract::{JsonBody, Operator};
use crate::api::idempotency::{Posted, REPLAYED};
use crate::api::json::{self, Faults, Object};
use crate::api::problem::{Code, Problem};
use crate::api::router::App;
use axum::Json;
use axum::extract::{FromRequest, FromRequestParts, Request, State};
use axum::response::{IntoResponse, Response};
use http::HeaderValue;
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

/// An operator's order. Who may give it is judged before anything else.
struct Order {
    caller: Caller,
    posted: Posted,
    body: JsonBody,
}

impl FromRequest<App> for Order {
    type Rejection = Problem;
    async fn from_request(request: Request, app: &App) -> Result<Self, Problem> {
        let (mut parts, body) = request.into_parts();
        let Operator(caller) = Operator::from_request_parts(&mut parts, app).await?;
        let posted = Posted::from_request_parts(&mut parts, app).await?;
        let body = JsonBody::from_request(Request::from_parts(parts, body), app).await?;
        Ok(Self { caller, posted, body })
    }
}

async fn change(app: &App, order: &Order, (change, canonical): (ClusterChange, Vec<u8>)) -> Result<Response, Problem> {
    let mark = order.posted.mark(&order.caller, app.door.cluster_secret(), &canonical);
    match app.door.change_cluster(change, mark).await {
        Ok(ClusterDone { told, replayed }) => {
            let mut response = Json(told).into_response();
            if replayed {
                response.headers_mut().insert(REPLAYED, HeaderValue::from_static("true"));
            }
            Ok(response)
        }
        Err(ClusterError::Refused(why)) => Err(Problem::because(Code::ClusterRefused, why)),
        Err(ClusterError::Ask(error)) => Err(error.into()),
    }
}

/// Reads a body member by member, and gives its canonical form besides; every fault is named.
fn read(
    body: &JsonBody,
    members: impl FnOnce(&mut Object<'_>) -> ClusterChange,
) -> Result<(ClusterChange, Vec<u8>), Problem> {
    let faults = Faults::default();
    let value = body.value(&faults)?;
    let canonical = json::canonical(&value);
    let mut root = Object::root(value, &faults);
    let read = members(&mut root);
    root.done();
    faults.check()?;
    Ok((read, canonical))
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
#[utoipa::path(post, path = "/v1/ops/cluster/tokens", tag = "operator",
    params(("Idempotency-Key" = String, Header)), security(("bearer" = [])),
    request_body = Option<JoinTokenBody>, responses((status = 200, body = Object), (status = 422, body = ProblemDocument)))]
async fn issue_token(State(app): State<App>, order: Order) -> Result<Response, Problem> {
    let asked = read(&order.body, |root| {
        let seconds = root.integer("seconds").unwrap_or(TOKEN_SECONDS_DEFAULT);
        if !(1..=TOKEN_SECONDS_MAX).contains(&seconds) {
            root.fault("seconds", "out_of_range", format!("1 to {TOKEN_SECONDS_MAX}."));
        }
        ClusterChange::IssueToken { seconds: u32::try_from(seconds).unwrap_or(0) }
    })?;
    change(&app, &order, asked).await
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
#[utoipa::path(post, path = "/v1/ops/cluster/drain", tag = "operator",
    params(("Idempotency-Key" = String, Header)), security(("bearer" = [])),
    request_body = DrainBody, responses((status = 200, body = Object), (status = 409, body = ProblemDocument),
        (status = 422, body = ProblemDocument)))]
async fn drain(State(app): State<App>, order: Order) -> Result<Response, Problem> {
    let asked = read(&order.body, |root| ClusterChange::Drain {
        node: node(root, "node"),
        undo: root.flag("undo").unwrap_or(false),
    })?;
    change(&app, &order, asked).await
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
#[utoipa::path(post, path = "/v1/ops/cluster/remove", tag = "operator",
    params(("Idempotency-Key" = String, Header)), security(("bearer" = [])),
    request_body = RemoveBody, responses((status = 200, body = Object), (status = 409, body = ProblemDocument),
        (status = 422, body = ProblemDocument)))]
async fn remove(State(app): State<App>, order: Order) -> Result<Response, Problem> {
    let asked = read(&order.body, |root| ClusterChange::Remove {
        node: node(root, "node"),
        force: root.flag("force").unwrap_or(false),
    })?;
    change(&app, &order, asked).await
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
#[utoipa::path(post, path = "/v1/ops/cluster/transfer", tag = "operator",
    params(("Idempotency-Key" = String, Header)), security(("bearer" = [])),
    request_body = LeadershipBody, responses((status = 200, body = Object), (status = 409, body = ProblemDocument),
        (status = 422, body = ProblemDocument)))]
async fn transfer(State(app): State<App>, order: Order) -> Result<Response, Problem> {
    let asked = read(&order.body, |root| {
        let asked = root.required_integer("shard");
        let shards = app.door.shard_count();
        let shard = asked.and_then(|shard| u16::try_from(shard).ok()).filter(|shard| *shard < shards);
        if asked.is_some() && shard.is_none() {
            root.fault("shard", "out_of_range", format!("0 to {}.", shards.saturating_sub(1)));
        }
        ClusterChange::Transfer { shard: shard.unwrap_or(0), to: node(root, "to") }
    })?;
    change(&app, &order, asked).await
}

/// Looks for better places for replicas and leaders now.
#[utoipa::path(post, path = "/v1/ops/cluster/rebalance", tag = "operator",
    params(("Idempotency-Key" = String, Header)), security(("bearer" = [])),
    responses((status = 200, body = Object), (status = 409, body = ProblemDocument),
        (status = 422, body = ProblemDocument)))]
async fn rebalance(State(app): State<App>, order: Order) -> Result<Response, Problem> {
    let asked = read(&order.body, |_| ClusterChange::Rebalance)?;
    change(&app, &order, asked).await
}

/// Raises the feature level once all members run the newer build; the older build is refused from then on.
#[utoipa::path(post, path = "/v1/ops/cluster/finalize-upgrade", tag = "operator",
    params(("Idempotency-Key" = String, Header)), security(("bearer" = [])),
    responses((status = 200, body = Object), (status = 409, body = ProblemDocument),
        (status = 422, body = ProblemDocument)))]
async fn finalize_upgrade(State(app): State<App>, order: Order) -> Result<Response, Problem> {
    let asked = read(&order.body, |_| ClusterChange::FinalizeUpgrade)?;
    change(&app, &order, asked).await
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

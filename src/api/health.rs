//! Probes and metrics. They answer when the node is at its limit, and need no token.

use crate::api::problem::{Code, Problem};
use crate::api::router::App;
use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::{HeaderValue, header};
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

/// The routes of this file.
pub fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(healthz)).routes(routes!(readyz)).routes(routes!(metrics))
}

/// State of the process.
#[derive(Debug, Serialize, ToSchema)]
pub struct Health {
    /// `ok`, `ready` or `starting`.
    #[schema(example = "ok")]
    status: &'static str,
}

/// The process runs.
#[utoipa::path(get, path = "/healthz", tag = "health", responses((status = 200, body = Health)))]
async fn healthz() -> Json<Health> {
    Json(Health { status: "ok" })
}

/// The node can serve: its stores are open and its shards are led. 503 before that and while it shuts down.
#[utoipa::path(get, path = "/readyz", tag = "health",
    responses((status = 200, body = Health), (status = 503, description = "Not yet, or no longer")))]
async fn readyz(State(app): State<App>) -> Response {
    if app.door.ready() && !app.shutdown.is_cancelled() {
        return Json(Health { status: "ready" }).into_response();
    }
    Problem::because(Code::Unavailable, "This node is starting or shutting down.").into_response()
}

/// Prometheus text format.
#[utoipa::path(get, path = "/metrics", tag = "health",
    responses((status = 200, body = String, content_type = "text/plain")))]
async fn metrics(State(app): State<App>) -> Response {
    let Some(handle) = &app.metrics else {
        return Problem::because(Code::NotFound, "Metrics are not recorded by this node.").into_response();
    };
    let kind = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    ([(header::CONTENT_TYPE, kind)], handle.render()).into_response()
}

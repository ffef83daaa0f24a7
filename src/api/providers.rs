//! Webhooks: providers call us. The node verifies them as each provider allows; the reply only says that the report
//! was taken, what it leads to happens behind it.

use crate::actors::door::WebhookAnswer;
use crate::api::extract::{RawBody, Segment, is_json};
use crate::api::problem::{Code, Problem};
use crate::api::router::App;
use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, header};
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

/// Longest provider name that is looked up, in bytes.
const PROVIDER_BYTES_MAX: usize = 64;

/// The routes of this file.
pub fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(webhook))
}

/// A webhook that was taken.
#[derive(Debug, Serialize, ToSchema)]
pub struct Taken {
    #[schema(example = "taken")]
    result: &'static str,
}

/// Takes a delivery report or a payment change. Repeats and any order are fine.
#[utoipa::path(post, path = "/v1/providers/{provider}/webhook", tag = "providers",
    request_body(content = String, content_type = "application/json", description = "As the provider sends it"),
    params(("provider" = String, Path, description = "Name of a configured provider")),
    responses((status = 200, body = Taken), (status = 400, description = "Not this provider's webhook"),
        (status = 401, description = "The signature does not verify"),
        (status = 404, description = "No configured provider of this name calls webhooks"),
        (status = 415, description = "Not this provider's webhook, and not said to be JSON")))]
async fn webhook(
    State(app): State<App>,
    Segment(provider): Segment,
    headers: HeaderMap,
    body: RawBody,
) -> Result<Response, Problem> {
    if provider.len() > PROVIDER_BYTES_MAX {
        return Err(Problem::new(Code::NotFound));
    }
    // Not a condition: a provider that names no type, or another, is heard as long as its report reads.
    let says_json = headers.get(header::CONTENT_TYPE).is_some_and(is_json);
    let readable = |(name, value): (&http::HeaderName, &http::HeaderValue)| {
        Some((name.as_str().to_owned(), value.to_str().ok()?.to_owned()))
    };
    let headers: Vec<(String, String)> = headers.iter().filter_map(readable).collect();
    match app.door.webhook(provider, headers, body.0.to_vec()).await {
        WebhookAnswer::Taken => Ok(Json(Taken { result: "taken" }).into_response()),
        WebhookAnswer::Busy => Err(Problem::new(Code::Overloaded)),
        WebhookAnswer::UnknownProvider => {
            Err(Problem::because(Code::NotFound, "No configured provider of this name calls webhooks."))
        }
        WebhookAnswer::Unsigned => Err(Problem::new(Code::WebhookUnsigned)),
        WebhookAnswer::Malformed if !says_json => Err(Problem::new(Code::UnsupportedMediaType)),
        WebhookAnswer::Malformed => Err(Problem::because(Code::BadRequest, "Not a webhook of this provider.")),
    }
}

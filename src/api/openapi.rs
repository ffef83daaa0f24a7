//! The description of the API: OpenAPI 3.1, made from the handlers, and a page that shows it without the internet.

use crate::api::page::{content_policy, nonce};
use crate::api::problem::{Code, Problem};
use crate::api::refusals;
use crate::api::router::App;
use askama::Template;
use axum::extract::State;
use axum::response::{Html, IntoResponse, Response};
use bytes::Bytes;
use http::{HeaderValue, header};
use utoipa::openapi::info::InfoBuilder;
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::openapi::{ComponentsBuilder, OpenApi, OpenApiBuilder};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

/// The routes of this file.
pub fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(description)).routes(routes!(docs))
}

/// Says what the routes themselves cannot.
#[must_use]
pub fn complete(routes: OpenApi) -> OpenApi {
    let about = "Scheduled gifts: reserved and paid now, delivered at the chosen instant, once. Every failure is an \
                 RFC 9457 problem document with a stable `code`; its `outcome` says whether the request may have \
                 taken effect. Every POST under /v1 carries an `Idempotency-Key`, except redeem, webhooks and dev.";
    let info = InfoBuilder::new().title("Bojagi").version(env!("CARGO_PKG_VERSION")).description(Some(about)).build();
    let bearer = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).bearer_format("JWT").build();
    let mut all = OpenApiBuilder::new().info(info).build();
    all.merge(routes);
    let components = all.components.get_or_insert_with(|| ComponentsBuilder::new().build());
    components.add_security_scheme("bearer", SecurityScheme::Http(bearer));
    all
}

/// The description as it is served.
///
/// # Panics
/// Never: the description is made of strings and maps.
#[must_use]
pub fn text(description: &OpenApi) -> Bytes {
    let mut whole = serde_json::to_value(description).expect("a description serialises");
    refusals::complete(&mut whole);
    Bytes::from(whole.to_string())
}

/// This description.
#[utoipa::path(get, path = "/openapi.json", tag = "docs", responses((status = 200, body = Object)))]
async fn description(State(app): State<App>) -> Response {
    let Some(text) = app.description.get() else { return Problem::new(Code::Internal).into_response() };
    ([(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))], text.clone()).into_response()
}

#[derive(Template)]
#[template(path = "docs.html", config = "src/api/pages/askama.toml")]
struct DocsPage {
    nonce: String,
    codes: Vec<(&'static str, u16, &'static str)>,
}

/// The description, to read. Works without the internet.
#[utoipa::path(get, path = "/docs", tag = "docs", responses((status = 200, body = String, content_type = "text/html")))]
async fn docs(State(app): State<App>) -> Response {
    let nonce = nonce(&app);
    let policy = content_policy(&nonce);
    let codes = Code::ALL.iter().map(|code| (code.text(), code.status().as_u16(), code.title())).collect();
    match (DocsPage { nonce, codes }).render() {
        Ok(html) => ([(header::CONTENT_SECURITY_POLICY, policy)], Html(html)).into_response(),
        Err(_) => Problem::new(Code::Internal).into_response(),
    }
}

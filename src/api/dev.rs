//! Dev mode only: the clock, ready-made tokens, and the recipient's link of a gift. A node that is not in dev mode
//! does not have these routes at all.

use crate::actors::door::DevDoor;
use crate::api::auth::{Role, TokenKey};
use crate::api::dto::{Instant, ProblemDocument};
use crate::api::extract::{JsonBody, Segment};
use crate::api::json::{Faults, Object};
use crate::api::problem::{Code, Problem};
use crate::api::router::App;
use axum::Json;
use axum::extract::State;
use serde::Serialize;
use std::sync::Arc;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

/// Life of a token made by [`token`]: a day.
const TOKEN_LIFE_SECS: u64 = 86_400;
/// Furthest that one call moves the clock: two years.
const ADVANCE_SECS_MAX: i64 = 2 * 366 * 86_400;

/// The routes of this file.
pub fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(clock, advance)).routes(routes!(token)).routes(routes!(link))
}

fn dev_door(app: &App) -> Result<Arc<dyn DevDoor>, Problem> {
    app.door.dev().ok_or_else(|| Problem::new(Code::NotFound))
}

/// The cluster's time.
#[derive(Debug, Serialize, ToSchema)]
pub struct ClockView {
    now: Instant,
    /// Whether everything that was due has settled.
    settled: bool,
}

/// How far to move the clock.
#[derive(ToSchema)]
#[expect(dead_code, reason = "describes the body; `advance` reads it member by member")]
pub struct AdvanceBody {
    /// 0 to two years.
    #[schema(minimum = 0, example = 60)]
    advance_seconds: i64,
}

/// The cluster's time now.
#[utoipa::path(get, path = "/v1/dev/clock", tag = "dev", responses((status = 200, body = ClockView)))]
async fn clock(State(app): State<App>) -> Json<ClockView> {
    Json(ClockView { now: app.clock.now().into(), settled: true })
}

/// Moves the clock forward, from due instant to due instant, and waits until everything due has settled.
#[utoipa::path(post, path = "/v1/dev/clock", tag = "dev", request_body = AdvanceBody,
    responses((status = 200, body = ClockView)))]
async fn advance(State(app): State<App>, body: JsonBody) -> Result<Json<ClockView>, Problem> {
    let seconds = read_advance(&body)?;
    let (now, settled) = dev_door(&app)?.advance(seconds).await;
    Ok(Json(ClockView { now: now.into(), settled }))
}

fn read_advance(body: &JsonBody) -> Result<i64, Problem> {
    let faults = Faults::default();
    let mut root = Object::root(body.value(&faults)?, &faults);
    let seconds = root.required_integer("advance_seconds").unwrap_or(0);
    if !(0..=ADVANCE_SECS_MAX).contains(&seconds) {
        root.fault("advance_seconds", "out_of_range", format!("0 to {ADVANCE_SECS_MAX}."));
    }
    root.done();
    faults.check()?;
    Ok(seconds)
}

/// Whom a token is for.
#[derive(ToSchema)]
#[expect(dead_code, reason = "describes the body; `token` reads it member by member")]
pub struct TokenBody {
    #[schema(example = "user")]
    role: String,
    #[schema(example = "u-1")]
    sub: String,
}

/// A bearer token.
#[derive(Serialize, ToSchema)]
pub struct TokenView {
    token: String,
}

/// Makes a bearer token that is good for a day.
#[utoipa::path(post, path = "/v1/dev/token", tag = "dev", request_body = TokenBody,
    responses((status = 200, body = TokenView)))]
async fn token(State(app): State<App>, body: JsonBody) -> Result<Json<TokenView>, Problem> {
    let faults = Faults::default();
    let mut root = Object::root(body.value(&faults)?, &faults);
    let role = root.required_text("role").and_then(|name| {
        let role = Role::parse(&name);
        if role.is_none() {
            root.fault("role", "unknown_value", "user, merchant or operator.");
        }
        role
    });
    let subject = root.required_text("sub");
    let token = role.zip(subject).and_then(|(role, subject)| mint(&app.token_key, &subject, role, &root));
    root.done();
    faults.check()?;
    let token = token.ok_or_else(|| Problem::new(Code::Internal))?;
    Ok(Json(TokenView { token }))
}

fn mint(key: &TokenKey, subject: &str, role: Role, root: &Object<'_>) -> Option<String> {
    let minted = key.mint(subject, role, TOKEN_LIFE_SECS);
    if minted.is_err() {
        root.fault("sub", "invalid_subject", "1 to 128 visible characters.");
    }
    minted.ok()
}

/// A recipient's link.
#[derive(Serialize, ToSchema)]
pub struct LinkView {
    token: String,
    #[schema(example = "http://127.0.0.1:8080/g/000…")]
    url: String,
}

/// The recipient's current link, as the message carries it.
#[utoipa::path(get, path = "/v1/dev/links/{gift_id}", tag = "dev", params(("gift_id" = String, Path)),
    responses((status = 200, body = LinkView), (status = 404, description = "No such gift"),
        (status = 410, body = ProblemDocument, description = "Its personal data was erased")))]
async fn link(State(app): State<App>, Segment(gift_id): Segment) -> Result<Json<LinkView>, Problem> {
    let gift = app.read_gift(app.gift_key(&gift_id)?).await?.ok_or_else(|| Problem::new(Code::NotFound))?;
    let personal = gift.personal.ok_or_else(|| Problem::new(Code::PersonalDataErased))?;
    let url = personal.link();
    Ok(Json(LinkView { token: personal.link_token, url }))
}

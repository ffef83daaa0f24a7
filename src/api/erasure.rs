//! Erasure of personal data, as an operator orders it and follows it.
//!
//! A gift that is done is erased by destroying its data key; `200` says that this is committed. Old media and the log
//! may still hold the wrapped key: the erasure is complete once the period key over it is dropped
//! (`bojagi vault rotate`), and the views here say when that was. By itself a gift is erased, and its journal purged,
//! 90 days after its last change. An order is erased likewise; the journal of one that was erased by
//! order stays, it has nothing personal. A wallet holds payment keys of its charges: they are erased by order, or 90 days
//! after its last change; its journal stays with its money, and a charge after that brings a new data key.

use crate::actors::door::OpsView;
use crate::api::dto::ProblemDocument;
use crate::api::extract::{Operator, Segment};
use crate::api::problem::{Code, Problem};
use crate::api::refusal::{order_refusal, wallet_refusal};
use crate::api::router::App;
use crate::api::telling::{Told, reply};
use crate::api::upon::Upon;
use crate::domain::gift::GiftCommand;
use crate::domain::kinds;
use crate::domain::order::{OrderCommand, OrderState};
use crate::domain::wallet::{WalletCommand, WalletState};
use crate::types::ids::EntityKey;
use crate::types::level::FOURTH_LEVEL;
use axum::Json;
use axum::extract::State;
use axum::response::Response;
use http::StatusCode;
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

/// The routes of this file.
pub fn routes() -> OpenApiRouter<App> {
    let gifts = OpenApiRouter::new().routes(routes!(erase)).routes(routes!(erasure));
    let orders = gifts.routes(routes!(erase_order)).routes(routes!(order_erasure));
    orders.routes(routes!(erase_wallet)).routes(routes!(wallet_erasure)).routes(routes!(vault))
}

/// A gift whose personal data is erased.
#[derive(Debug, Serialize, ToSchema)]
pub struct ErasedView {
    pub gift_id: String,
    pub status: &'static str,
    pub version: u64,
    /// True: nobody reads the personal data any more, this node's operator included.
    pub erased: bool,
}

/// Destroys the personal data of a gift that is done; 409 `wrong_state` before. Link and voucher code die with it.
#[utoipa::path(post, path = "/v1/ops/gifts/{id}/erase", tag = "operator", security(("bearer" = [])),
    params(("id" = String, Path), ("Idempotency-Key" = String, Header), ("If-Match" = Option<String>, Header)),
    responses((status = 200, body = ErasedView), (status = 404, body = ProblemDocument),
        (status = 409, body = ProblemDocument), (status = 412, body = ProblemDocument)))]
async fn erase(State(app): State<App>, asked: Upon<Operator>) -> Result<Response, Problem> {
    let mark = asked.mark_empty(&app)?;
    let key = app.gift_key(&asked.id)?;
    let with = app.holding(&asked.posted, key, mark).await?;
    let gift = app.ask_gift(key, &GiftCommand::Erase, with).await?;
    let view = ErasedView {
        gift_id: gift.id.clone(),
        status: gift.state.status(),
        version: gift.version.0,
        erased: gift.state.sealed().is_none(),
    };
    Ok(reply(StatusCode::OK, gift.version, gift.replayed, &view))
}

/// `{"gift_id", "erased", "erased_at", "complete_at"}`: `complete_at` is null until no old medium can give it away. Both
/// instants are null too when the folder was restored from a backup without its notes.
#[utoipa::path(get, path = "/v1/ops/gifts/{id}/erasure", tag = "operator", security(("bearer" = [])),
    params(("id" = String, Path)),
    responses((status = 200, body = Object), (status = 404, body = ProblemDocument)))]
async fn erasure(
    State(app): State<App>,
    Operator(_caller): Operator,
    Segment(id): Segment,
) -> Result<Json<Value>, Problem> {
    let key = app.gift_key(&id)?;
    let Some((_, gift)) = app.peek_gift(key).await? else { return Err(Problem::new(Code::NotFound)) };
    Ok(standing(&app, key, gift.sealed().is_none(), ("gift_id", id)).await)
}

/// An order or a wallet whose personal data is erased.
#[derive(Debug, Serialize, ToSchema)]
pub struct ErasedEntityView {
    /// `null` for a wallet.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub order_id: Option<String>,
    /// `null` for an order.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wallet_id: Option<String>,
    /// Of an order.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<&'static str>,
    pub version: u64,
    /// True: nobody reads the address and the payment keys any more, this node's operator included.
    pub erased: bool,
}

/// Destroys the personal data of an order that is done; 409 `wrong_state` before.
#[utoipa::path(post, path = "/v1/ops/orders/{id}/erase", tag = "operator", security(("bearer" = [])),
    params(("id" = String, Path), ("Idempotency-Key" = String, Header), ("If-Match" = Option<String>, Header)),
    responses((status = 200, body = ErasedEntityView), (status = 404, body = ProblemDocument),
        (status = 409, body = ProblemDocument), (status = 412, body = ProblemDocument)))]
async fn erase_order(State(app): State<App>, asked: Upon<Operator>) -> Result<Response, Problem> {
    let mark = asked.mark_empty(&app)?;
    let key = app.order_key(&asked.id)?;
    let with = app.holding(&asked.posted, key, mark).await?;
    let told: Told<OrderState> = app.tell(key, &OrderCommand::Erase, with, order_refusal).await?;
    let (status, version, erased) = (Some(told.state.status().name()), told.version.0, told.state.is_erased());
    let view = ErasedEntityView { order_id: Some(asked.id), wallet_id: None, status, version, erased };
    Ok(reply(StatusCode::OK, told.version, told.replayed, &view))
}

/// As of a gift, with `order_id`.
#[utoipa::path(get, path = "/v1/ops/orders/{id}/erasure", tag = "operator", security(("bearer" = [])),
    params(("id" = String, Path)),
    responses((status = 200, body = Object), (status = 404, body = ProblemDocument)))]
async fn order_erasure(
    State(app): State<App>,
    Operator(_caller): Operator,
    Segment(id): Segment,
) -> Result<Json<Value>, Problem> {
    let key = app.order_key(&id)?;
    let Some((_, order)) = app.peek_order(key).await? else { return Err(Problem::new(Code::NotFound)) };
    Ok(standing(&app, key, order.is_erased(), ("order_id", id)).await)
}

/// Destroys the payment keys of a wallet's charges; 409 `wrong_state` while one is on its way. What is on the wallet stays,
/// and it may be charged again.
#[utoipa::path(post, path = "/v1/ops/wallets/{id}/erase", tag = "operator", security(("bearer" = [])),
    params(("id" = String, Path), ("Idempotency-Key" = String, Header), ("If-Match" = Option<String>, Header)),
    responses((status = 200, body = ErasedEntityView), (status = 404, body = ProblemDocument),
        (status = 409, body = ProblemDocument), (status = 412, body = ProblemDocument), (status = 503, body = ProblemDocument)))]
async fn erase_wallet(State(app): State<App>, asked: Upon<Operator>) -> Result<Response, Problem> {
    let mark = asked.mark_empty(&app)?;
    let key = app.key_of(kinds::WALLET, &asked.id)?;
    app.knows(FOURTH_LEVEL)?;
    let with = app.holding(&asked.posted, key, mark).await?;
    let told: Told<WalletState> = app.tell(key, &WalletCommand::Erase, with, wallet_refusal).await?;
    let (version, erased) = (told.version.0, told.state.is_erased());
    let view = ErasedEntityView { order_id: None, wallet_id: Some(asked.id), status: None, version, erased };
    Ok(reply(StatusCode::OK, told.version, told.replayed, &view))
}

/// As of a gift, with `wallet_id`.
#[utoipa::path(get, path = "/v1/ops/wallets/{id}/erasure", tag = "operator", security(("bearer" = [])),
    params(("id" = String, Path)),
    responses((status = 200, body = Object), (status = 404, body = ProblemDocument)))]
async fn wallet_erasure(
    State(app): State<App>,
    Operator(_caller): Operator,
    Segment(id): Segment,
) -> Result<Json<Value>, Problem> {
    let key = app.key_of(kinds::WALLET, &id)?;
    let Some(told) = app.look::<WalletState>(key).await? else { return Err(Problem::new(Code::NotFound)) };
    Ok(standing(&app, key, told.state.is_erased(), ("wallet_id", id)).await)
}

/// How far the erasure of an entity is.
async fn standing(app: &App, key: EntityKey, erased: bool, (name, id): (&str, String)) -> Json<Value> {
    let mut view = app.door.ops(OpsView::Erasure { key }).await;
    view["erased"] = Value::Bool(erased);
    view[name] = Value::String(id);
    Json(view)
}

/// The period keys over all data keys: the current one, those that are kept, and when earlier ones were dropped.
/// Whatever was erased before the oldest kept one was made is erased for good.
#[utoipa::path(get, path = "/v1/ops/vault", tag = "operator", security(("bearer" = [])),
    responses((status = 200, body = Object), (status = 403, body = ProblemDocument)))]
async fn vault(State(app): State<App>, Operator(_caller): Operator) -> Json<Value> {
    Json(app.door.ops(OpsView::Vault).await)
}

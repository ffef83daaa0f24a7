//! Stocks: an operator puts how many units there are, anyone who is logged in may look.

use crate::api::commerce::read_price;
use crate::api::dto::{Instant, MoneyView, ProblemDocument};
use crate::api::extract::{Anyone, JsonBody, Operator, Segment, hold_preconditions};
use crate::api::gift_body::product_id_is_sound;
use crate::api::json::{Faults, Object};
use crate::api::problem::{Code, Problem};
use crate::api::refusal::stock_refusal;
use crate::api::router::App;
use crate::api::schema::StockBody;
use crate::api::telling::{With, reply};
use crate::domain::inventory::{QUANTITY_MAX, StockCommand, StockState, stock_key};
use crate::types::ids::Version;
use axum::extract::State;
use axum::response::Response;
use http::{HeaderMap, StatusCode};
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

/// The routes of this file.
pub fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(put, get))
}

/// A stock.
#[derive(Debug, Serialize, ToSchema)]
pub struct StockView {
    #[schema(example = "mug-blue")]
    pub sku: String,
    pub version: u64,
    /// Units that are there, reserved or not.
    pub quantity: u32,
    /// Units that orders hold.
    pub reserved: u32,
    /// Units that can be ordered.
    pub available: u32,
    /// Of one unit; `null`: the price of the product of the same name.
    pub price: Option<MoneyView>,
    pub created_at: Instant,
    pub updated_at: Instant,
}

fn stock_view(version: Version, state: &StockState) -> Option<StockView> {
    let stock = state.get()?;
    Some(StockView {
        sku: stock.sku.clone(),
        version: version.0,
        quantity: stock.quantity,
        reserved: state.held(),
        available: state.available(),
        price: stock.price.map(MoneyView::from),
        created_at: stock.created_at.into(),
        updated_at: stock.updated_at.into(),
    })
}

/// Puts how many units there are, those that orders hold included; never fewer than those. `If-Match`, or
/// `If-None-Match: *` for a new one, is held to when it is sent.
#[utoipa::path(put, path = "/v1/inventory/{sku}", tag = "orders", request_body = StockBody,
    params(("sku" = String, Path), ("If-Match" = Option<String>, Header), ("If-None-Match" = Option<String>, Header)),
    security(("bearer" = [])),
    responses((status = 200, body = StockView, headers(("ETag" = String))),
        (status = 201, body = StockView, headers(("ETag" = String))), (status = 409, body = ProblemDocument),
        (status = 412, body = ProblemDocument), (status = 422, body = ProblemDocument)))]
async fn put(
    State(app): State<App>,
    Operator(_caller): Operator,
    Segment(sku): Segment,
    headers: HeaderMap,
    body: JsonBody,
) -> Result<Response, Problem> {
    if !product_id_is_sound(&sku) {
        return Err(Problem::because(Code::NotFound, "A SKU is 1 to 64 letters, digits, -, _ and dots."));
    }
    let key = stock_key(&sku);
    let command = read_stock(sku.clone(), &body)?;
    let before = app.look::<StockState>(key).await?.filter(|told| told.state.get().is_some()).map(|told| told.version);
    let with = With { if_version: hold_preconditions(&headers, before)?, ..With::default() };
    let told = app.tell::<_, StockState, _>(key, &command, with, stock_refusal).await?;
    app.prices.forget(&sku);
    let view = stock_view(told.version, &told.state).ok_or_else(|| Problem::new(Code::Internal))?;
    Ok(reply(if before.is_none() { StatusCode::CREATED } else { StatusCode::OK }, told.version, false, &view))
}

/// One stock.
#[utoipa::path(get, path = "/v1/inventory/{sku}", tag = "orders", params(("sku" = String, Path)),
    security(("bearer" = [])),
    responses((status = 200, body = StockView), (status = 404, body = ProblemDocument)))]
async fn get(State(app): State<App>, Anyone(_caller): Anyone, Segment(sku): Segment) -> Result<Response, Problem> {
    let told = app.look::<StockState>(stock_key(&sku)).await?.ok_or_else(|| Problem::new(Code::NotFound))?;
    let view = stock_view(told.version, &told.state).ok_or_else(|| Problem::new(Code::NotFound))?;
    Ok(reply(StatusCode::OK, told.version, false, &view))
}

fn read_stock(sku: String, body: &JsonBody) -> Result<StockCommand, Problem> {
    let faults = Faults::default();
    let mut root = Object::root(body.value(&faults)?, &faults);
    let quantity = root.required_integer("quantity").and_then(|number| {
        let sound = u32::try_from(number).ok().filter(|quantity| *quantity <= QUANTITY_MAX);
        if sound.is_none() {
            root.fault("quantity", "out_of_range", format!("0 to {QUANTITY_MAX}."));
        }
        sound
    });
    let price = root.object("price").and_then(read_price);
    root.done();
    faults.check()?;
    let quantity = quantity.ok_or_else(|| Problem::new(Code::Internal))?;
    Ok(StockCommand::Put { sku, quantity, price })
}

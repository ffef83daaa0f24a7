//! The catalogue: an operator puts products, anyone who is logged in may look at what is on sale.

use crate::api::catalogue::product_key;
use crate::api::commerce::read_price;
use crate::api::dto::{Instant, MoneyView, Page, ProblemDocument};
use crate::api::extract::{Anyone, JsonBody, Operator, Segment, hold_preconditions};
use crate::api::gift_body::product_id_is_sound;
use crate::api::json::{Faults, Object};
use crate::api::listing::Listing;
use crate::api::problem::{Code, Problem};
use crate::api::refusal::{policy_pointer, product_refusal};
use crate::api::router::App;
use crate::api::schema::ProductBody;
use crate::api::telling::{With, reply};
use crate::domain::kinds;
use crate::domain::policy::{
    DeclineRule, Overdue, Policy, PolicyFault, PolicyField, PolicyOverrides, QuietHours, RefundRule,
};
use crate::domain::product::{Product, ProductCommand, ProductState};
use crate::types::ids::Version;
use crate::types::text::NAME;
use crate::types::time::Millis;
use axum::Json;
use axum::extract::{RawQuery, State};
use axum::response::Response;
use http::{HeaderMap, StatusCode};
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

/// Entries of a list in a policy that are looked at; the policy's own bounds are lower.
const POLICY_ITEMS_MAX: usize = 16;

/// The routes of this file.
pub fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(put, get)).routes(routes!(list))
}

/// A product.
#[derive(Debug, Serialize, ToSchema)]
pub struct ProductView {
    #[schema(example = "americano")]
    pub id: String,
    pub version: u64,
    pub name: String,
    pub price: MoneyView,
    pub validity_days: u16,
    pub transfers_max: u8,
    /// Whether it is on sale.
    pub active: bool,
    pub created_at: Instant,
    pub updated_at: Instant,
}

fn product_view(version: Version, product: &Product) -> ProductView {
    let policy = product.policy();
    ProductView {
        id: product.id.clone(),
        version: version.0,
        name: product.name.clone(),
        price: product.price.into(),
        validity_days: policy.validity_days,
        transfers_max: policy.transfers_max,
        active: product.active,
        created_at: product.created_at.into(),
        updated_at: product.updated_at.into(),
    }
}

/// Puts a product. Gifts reserved before keep the price and the rules that they were promised. `If-Match`, or
/// `If-None-Match: *` for a new one, is held to when it is sent.
#[utoipa::path(put, path = "/v1/ops/products/{id}", tag = "operator", request_body = ProductBody,
    params(("id" = String, Path), ("If-Match" = Option<String>, Header), ("If-None-Match" = Option<String>, Header)),
    security(("bearer" = [])),
    responses((status = 200, body = ProductView, headers(("ETag" = String))),
        (status = 201, body = ProductView, headers(("ETag" = String))), (status = 412, body = ProblemDocument),
        (status = 422, body = ProblemDocument)))]
async fn put(
    State(app): State<App>,
    Operator(_caller): Operator,
    Segment(id): Segment,
    headers: HeaderMap,
    body: JsonBody,
) -> Result<Response, Problem> {
    let command = read_product(id.clone(), &body)?;
    let key = product_key(&id);
    let before = app.read_product(key).await?.map(|(version, _)| version);
    let with = With { if_version: hold_preconditions(&headers, before)?, ..With::default() };
    let told = app.tell::<_, ProductState, _>(key, &command, with, product_refusal).await?;
    app.catalogue.forget(&id);
    let product = told.state.get().ok_or_else(|| Problem::new(Code::Internal))?;
    let status = if before.is_none() { StatusCode::CREATED } else { StatusCode::OK };
    Ok(reply(status, told.version, false, &product_view(told.version, product)))
}

/// One product, on sale or not.
#[utoipa::path(get, path = "/v1/ops/products/{id}", tag = "operator", params(("id" = String, Path)),
    security(("bearer" = [])),
    responses((status = 200, body = ProductView), (status = 404, body = ProblemDocument)))]
async fn get(State(app): State<App>, Operator(_caller): Operator, Segment(id): Segment) -> Result<Response, Problem> {
    let (version, product) = app.read_product(product_key(&id)).await?.ok_or_else(|| Problem::new(Code::NotFound))?;
    Ok(reply(StatusCode::OK, version, false, &product_view(version, &product)))
}

/// Products on sale, by name and then id. A page may hold fewer items than asked for, even none, and still have a next
/// one: those that are not on sale are left out.
#[utoipa::path(get, path = "/v1/products", tag = "gifts", security(("bearer" = [])),
    params(("limit" = Option<u16>, Query, minimum = 1, maximum = 100), ("cursor" = Option<String>, Query)),
    responses((status = 200, body = Page<ProductView>), (status = 422, body = ProblemDocument)))]
async fn list(
    State(app): State<App>,
    Anyone(_caller): Anyone,
    RawQuery(query): RawQuery,
) -> Result<Json<Page<ProductView>>, Problem> {
    let app = &app;
    let read = |key| async move {
        let on_sale = app.read_product(key).await?.filter(|(_, product)| product.active);
        Ok(on_sale.map(|(version, product)| product_view(version, &product)))
    };
    app.list(Listing::all("products", kinds::INDEX_PRODUCT), query.as_deref(), read).await
}

fn read_product(id: String, body: &JsonBody) -> Result<ProductCommand, Problem> {
    let faults = Faults::default();
    if !product_id_is_sound(&id) {
        return Err(Problem::because(Code::NotFound, "A product id is 1 to 64 letters, digits, -, _ and dots."));
    }
    let mut root = Object::root(body.value(&faults)?, &faults);
    let name = root.required_text("name").and_then(|text| match NAME.check(&text) {
        Ok(name) => Some(name),
        Err(fault) => {
            root.fault("name", fault.code(), format!("The name {fault}."));
            None
        }
    });
    let price = root.required_object("price").and_then(read_price);
    // The coupons' word for it is understood too; what is documented and answered is `validity_days`.
    let alias = small::<u16>(&mut root, "valid_days");
    let validity_days = small::<u16>(&mut root, "validity_days");
    if validity_days.is_some() && alias.is_some_and(|days| Some(days) != validity_days) {
        root.fault("valid_days", "ambiguous", "It is given twice, with two values.");
    }
    let days_at = match (validity_days, alias) {
        (Some(_), _) => "/validity_days",
        (None, Some(_)) => "/valid_days",
        (None, None) => "/policy/validity_days",
    };
    let validity_days = validity_days.or(alias);
    let active = root.flag("active").unwrap_or(true);
    let mut overrides = root.object("policy").map(read_policy).unwrap_or_default();
    if validity_days.is_some() && overrides.validity_days.is_some_and(|days| Some(days) != validity_days) {
        root.fault("validity_days", "ambiguous", "It is given twice, with two values.");
    }
    overrides.validity_days = validity_days.or(overrides.validity_days);
    root.done();
    for PolicyFault { field } in overrides.apply(&Policy::default()).faults() {
        let pointer = if field == PolicyField::ValidityDays { days_at } else { policy_pointer(field) };
        faults.add_new(pointer, "out_of_range", "This is out of its range.");
    }
    faults.check()?;
    match (name, price) {
        (Some(name), Some(price)) => Ok(ProductCommand::Put { id, name, price, overrides, active }),
        (_, _) => Err(Problem::new(Code::Internal)),
    }
}

fn read_policy(mut object: Object<'_>) -> PolicyOverrides {
    let decline = object.text("decline").and_then(|name| {
        let rule = match name.as_str() {
            "never" => Some(DeclineRule::Never),
            "until_accepted" => Some(DeclineRule::UntilAccepted),
            "until_used" => Some(DeclineRule::UntilUsed),
            _unknown => None,
        };
        if rule.is_none() {
            object.fault("decline", "unknown_value", "never, until_accepted or until_used.");
        }
        rule
    });
    let (expired, declined) = (percent(&mut object, "expired_percent"), percent(&mut object, "declined_percent"));
    let default = RefundRule::default();
    let refund = (expired.is_some() || declined.is_some()).then(|| RefundRule {
        receiver: default.receiver,
        expired_percent: expired.unwrap_or(default.expired_percent),
        declined_percent: declined.unwrap_or(default.declined_percent),
    });
    let quiet_off = object.has("quiet_hours");
    let quiet = object.object("quiet_hours").and_then(read_quiet);
    let overrides = PolicyOverrides {
        validity_days: small(&mut object, "validity_days"),
        reminder_days: numbers(&mut object, "reminder_days")
            .map(|days| days.into_iter().map(|day| u8::try_from(day).unwrap_or(0)).collect()),
        reminder_hour: small(&mut object, "reminder_hour"),
        transfers_max: small(&mut object, "transfers_max"),
        decline,
        refund,
        quiet_hours: quiet_off.then_some(quiet),
        send_retry: spans(&mut object, "send_retry_seconds"),
        notice_retry: spans(&mut object, "notice_retry_seconds"),
        report_timeout: object.integer("report_timeout_seconds").map(seconds),
        overdue: object.integer("overdue_dead_letter_seconds").map(|secs| Overdue::DeadLetterAfter(seconds(secs))),
    };
    object.done();
    overrides
}

fn read_quiet(mut object: Object<'_>) -> Option<QuietHours> {
    for name in ["from_hour", "to_hour"] {
        if !object.given(name) {
            object.fault(name, "required", "This member must be given.");
        }
    }
    let hours = (small(&mut object, "from_hour"), small(&mut object, "to_hour"));
    object.done();
    Some(QuietHours { from_hour: hours.0?, to_hour: hours.1? })
}

/// Seconds as a span; a number beyond any policy's bound stays beyond it.
fn seconds(secs: i64) -> Millis {
    Millis(secs.saturating_mul(1_000))
}

fn spans(object: &mut Object<'_>, name: &str) -> Option<Vec<Millis>> {
    numbers(object, name).map(|list| list.into_iter().map(seconds).collect())
}

/// A whole number of a narrow type.
fn small<T: TryFrom<i64>>(object: &mut Object<'_>, name: &str) -> Option<T> {
    let number = object.integer(name)?;
    let narrow = T::try_from(number).ok();
    if narrow.is_none() {
        object.fault(name, "out_of_range", "This number is out of its range.");
    }
    narrow
}

/// A share, 0 to 100.
fn percent(object: &mut Object<'_>, name: &str) -> Option<u8> {
    let share = object.integer(name)?;
    let sound = u8::try_from(share).ok().filter(|share| *share <= 100);
    if sound.is_none() {
        object.fault(name, "out_of_range", "0 to 100.");
    }
    sound
}

fn numbers(object: &mut Object<'_>, name: &str) -> Option<Vec<i64>> {
    let value = object.take(name)?;
    let Value::Array(items) = value else {
        object.fault(name, "wrong_type", "A list is expected here.");
        return None;
    };
    let numbers: Option<Vec<i64>> = items.iter().take(POLICY_ITEMS_MAX).map(Value::as_i64).collect();
    if numbers.is_none() {
        object.fault(name, "wrong_type", "Whole numbers are expected here.");
    }
    numbers
}

//! Coupon campaigns: an operator makes them, anyone who is logged in may look.

use crate::api::commerce::read_price;
use crate::api::coupons::DiscountView;
use crate::api::cursor::CursorScope;
use crate::api::dto::{Instant, Page, ProblemDocument};
use crate::api::extract::{Anyone, JsonBody, Operator, Segment};
use crate::api::idempotency::Posted;
use crate::api::json::{self, Faults, Object};
use crate::api::problem::{Code, Problem};
use crate::api::refusal::{campaign_refusal, terms_pointer};
use crate::api::router::{App, Shared};
use crate::api::schema::CampaignBody;
use crate::api::telling::{Told, located, reply};
use crate::api::timeline::read_page;
use crate::domain::campaign::{Campaign, CampaignCommand, CampaignState, Terms};
use crate::domain::coupon::Discount;
use crate::domain::kinds;
use crate::types::codec;
use crate::types::ids::{EntityKey, Version};
use crate::types::text::NAME;
use crate::types::time::Timestamp;
use axum::Json;
use axum::extract::{RawQuery, State};
use axum::response::Response;
use futures_util::future::try_join_all;
use http::StatusCode;
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

/// The routes of this file.
pub fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(create, list)).routes(routes!(detail))
}

/// A coupon campaign.
#[derive(Debug, Serialize, ToSchema)]
pub struct CampaignView {
    #[schema(example = "cc_5f1c2d3e4f5061728394a5b6c7d8e9f0")]
    pub id: String,
    /// `scheduled`, `open`, `sold_out` or `ended`.
    #[schema(example = "open")]
    pub status: &'static str,
    pub version: u64,
    pub name: String,
    pub quantity: u32,
    /// Coupons that exist; never more than the quantity.
    pub issued: u32,
    pub starts_at: Instant,
    pub ends_at: Instant,
    pub discount: DiscountView,
    pub valid_days: u16,
    pub created_at: Instant,
    pub updated_at: Instant,
}

/// A campaign as of `now`.
#[must_use]
pub fn campaign_view(key: EntityKey, version: Version, campaign: &Campaign, now: Timestamp) -> CampaignView {
    CampaignView {
        id: kinds::text_id(key),
        status: campaign.status(now),
        version: version.0,
        name: campaign.terms.name.clone(),
        quantity: campaign.terms.quantity,
        issued: campaign.issued,
        starts_at: campaign.terms.starts_at.into(),
        ends_at: campaign.terms.ends_at.into(),
        discount: (&campaign.terms.discount).into(),
        valid_days: campaign.terms.valid_days,
        created_at: campaign.created_at.into(),
        updated_at: campaign.updated_at.into(),
    }
}

/// The campaign behind an answer.
///
/// # Errors
/// [`Code::Internal`]: damaged bytes, or none.
pub fn read_state(state: &[u8]) -> Result<Campaign, Problem> {
    let state: CampaignState = codec::decode(state).map_err(|_| Problem::new(Code::Internal))?;
    state.get().cloned().ok_or_else(|| Problem::new(Code::Internal))
}

impl Shared {
    /// A campaign's key from its text id.
    ///
    /// # Errors
    /// [`Code::NotFound`]: not an id of a campaign.
    pub fn campaign_key(&self, id: &str) -> Result<EntityKey, Problem> {
        self.key_of(kinds::CAMPAIGN, id)
    }

    /// A committed campaign.
    ///
    /// # Errors
    /// [`Code::NotFound`], [`Code::Internal`] for damaged bytes, or what the runtime says.
    pub async fn read_campaign(&self, key: EntityKey) -> Result<(Version, Campaign), Problem> {
        let answer = self.door.read(key).await?.ok_or_else(|| Problem::new(Code::NotFound))?;
        let campaign = read_state(&answer.state)?;
        self.campaigns.note(key, &campaign);
        Ok((answer.version, campaign))
    }
}

/// Makes a campaign. Its terms never change.
#[utoipa::path(post, path = "/v1/coupon-campaigns", tag = "coupons", request_body = CampaignBody,
    params(("Idempotency-Key" = String, Header)), security(("bearer" = [])),
    responses((status = 201, body = CampaignView, headers(("Location" = String), ("ETag" = String))),
        (status = 403, body = ProblemDocument), (status = 422, body = ProblemDocument)))]
async fn create(
    State(app): State<App>,
    Operator(caller): Operator,
    posted: Posted,
    body: JsonBody,
) -> Result<Response, Problem> {
    let (terms, canonical) = read_terms(&body)?;
    let secret = app.door.cluster_secret();
    let (key, mark) = (posted.entity(&caller, secret, kinds::CAMPAIGN), posted.mark(&caller, secret, &canonical));
    let command = CampaignCommand::Create(Box::new(terms));
    let told: Told<CampaignState> = app.tell(key, &command, mark.into(), campaign_refusal).await?;
    let campaign = told.state.get().ok_or_else(|| Problem::new(Code::Internal))?;
    // As of its creation: a repeat gets the same bytes.
    let view = campaign_view(key, told.version, campaign, campaign.created_at);
    let response = reply(StatusCode::CREATED, told.version, told.replayed, &view);
    Ok(located(response, &format!("/v1/coupon-campaigns/{}", view.id)))
}

/// One campaign.
#[utoipa::path(get, path = "/v1/coupon-campaigns/{id}", tag = "coupons", params(("id" = String, Path)),
    security(("bearer" = [])),
    responses((status = 200, body = CampaignView, headers(("ETag" = String))), (status = 404, body = ProblemDocument)))]
async fn detail(State(app): State<App>, Anyone(_caller): Anyone, Segment(id): Segment) -> Result<Response, Problem> {
    let key = app.campaign_key(&id)?;
    let (version, campaign) = app.read_campaign(key).await?;
    Ok(reply(StatusCode::OK, version, false, &campaign_view(key, version, &campaign, app.clock.now())))
}

/// All campaigns, newest first.
#[utoipa::path(get, path = "/v1/coupon-campaigns", tag = "coupons", security(("bearer" = [])),
    params(("limit" = Option<u16>, Query, minimum = 1, maximum = 100), ("cursor" = Option<String>, Query)),
    responses((status = 200, body = Page<CampaignView>), (status = 422, body = ProblemDocument)))]
async fn list(
    State(app): State<App>,
    Anyone(_caller): Anyone,
    RawQuery(query): RawQuery,
) -> Result<Json<Page<CampaignView>>, Problem> {
    let scope = CursorScope { secret: app.door.cluster_secret(), list: "coupon-campaigns", caller: "" };
    let ask = read_page(query.as_deref(), &scope)?;
    let page = app.door.list(kinds::INDEX_CAMPAIGN, Vec::new(), ask.after, ask.limit).await?;
    let campaigns = try_join_all(page.rows.iter().map(|(_, key)| app.read_campaign(*key))).await?;
    let now = app.clock.now();
    let named = page.rows.iter().zip(&campaigns);
    let items = named.map(|((_, key), (version, campaign))| campaign_view(*key, *version, campaign, now)).collect();
    Ok(Json(Page { items, next_cursor: page.next.map(|key| scope.write(&key)) }))
}

/// The body's shape, and what of the terms does not depend on now.
fn read_terms(body: &JsonBody) -> Result<(Terms, Vec<u8>), Problem> {
    let faults = Faults::default();
    let value = body.value(&faults)?;
    let canonical = json::canonical(&value);
    let mut root = Object::root(value, &faults);
    let name = root.required_text("name").and_then(|text| match NAME.check(&text) {
        Ok(name) => Some(name),
        Err(fault) => {
            root.fault("name", fault.code(), format!("The name {fault}."));
            None
        }
    });
    let quantity = narrow::<u32>(&mut root, "quantity");
    let (starts_at, ends_at) = (read_instant(&mut root, "starts_at"), read_instant(&mut root, "ends_at"));
    let discount = root.required_object("discount").and_then(read_discount);
    let valid_days = narrow::<u16>(&mut root, "valid_days");
    root.done();
    let terms = match (name, quantity, starts_at, ends_at, discount, valid_days) {
        (Some(name), Some(quantity), Some(starts_at), Some(ends_at), Some(discount), Some(valid_days)) => {
            Some(Terms { name, quantity, starts_at, ends_at, discount, valid_days })
        }
        (_, _, _, _, _, _) => None,
    };
    // As of its beginning: what depends on now is the campaign's to judge, behind an earlier reply under the same key.
    for fault in terms.iter().flat_map(|terms| terms.faults(terms.starts_at)) {
        faults.add(terms_pointer(fault), "out_of_range", format!("Not acceptable: {fault}."));
    }
    faults.check()?;
    terms.map(|terms| (terms, canonical)).ok_or_else(|| Problem::new(Code::Internal))
}

fn narrow<T: TryFrom<i64>>(object: &mut Object<'_>, name: &str) -> Option<T> {
    let number = T::try_from(object.required_integer(name)?).ok();
    if number.is_none() {
        object.fault(name, "out_of_range", "This number is out of its range.");
    }
    number
}

fn read_instant(object: &mut Object<'_>, name: &str) -> Option<Timestamp> {
    let at = Timestamp::parse_rfc3339(&object.required_text(name)?);
    if at.is_none() {
        object.fault(name, "invalid_instant", "An RFC 3339 instant, 2026-12-25T00:00:00Z.");
    }
    at
}

/// `{"amount": money}`, or `{"percent": 1..100, "cap": money}`.
fn read_discount(mut object: Object<'_>) -> Option<Discount> {
    let amount = object.object("amount").and_then(read_price);
    let percent = object.integer("percent").map(|percent| u8::try_from(percent).unwrap_or(0));
    let cap = object.object("cap").and_then(read_price);
    if percent.is_none() && cap.is_some() {
        object.fault("cap", "not_applicable", "Only a percentage has a cap.");
    }
    let discount = match (amount, percent) {
        (Some(amount), None) => Some(Discount::Amount(amount)),
        (None, Some(percent)) => Some(Discount::Percent { percent, cap }),
        (Some(_), Some(_)) | (None, None) => {
            object.fault_here("ambiguous", "Either an amount or a percentage.");
            None
        }
    };
    object.done();
    discount
}

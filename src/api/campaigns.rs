//! Coupon campaigns: an operator makes them, anyone who is logged in may look.

use crate::api::commerce::read_price;
use crate::api::coupons::DiscountView;
use crate::api::dto::{Instant, Page, ProblemDocument};
use crate::api::extract::{Anyone, JsonBody, Operator, Segment};
use crate::api::idempotency::Posted;
use crate::api::json::{self, Faults, Object};
use crate::api::listing::Listing;
use crate::api::problem::{Code, Problem};
use crate::api::refusal::{campaign_refusal, terms_pointer};
use crate::api::router::{App, Shared};
use crate::api::schema::CampaignBody;
use crate::api::telling::{Told, located, reply};
use crate::domain::campaign::{
    Campaign, CampaignCommand, CampaignState, PARTS_MAX, PartOf, Terms, part_home, part_key, share_of,
};
use crate::domain::coupon::Discount;
use crate::domain::kinds;
use crate::types::codec;
use crate::types::ids::{EntityKey, Version};
use crate::types::level::FOURTH_LEVEL;
use crate::types::money::Money;
use crate::types::text::NAME;
use crate::types::time::{Millis, Timestamp};
use axum::Json;
use axum::extract::{RawQuery, State};
use axum::response::Response;
use futures_util::future::try_join_all;
use http::StatusCode;
use serde::Serialize;
use std::collections::BTreeSet;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

/// Homes that are tried for a part until it is on a shard of its own.
const HOME_TRIES_MAX: u16 = 1_000;

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
    /// Sub-quotas that members are hashed to; 1: all claims are decided in one order.
    pub parts: u8,
    pub starts_at: Instant,
    pub ends_at: Instant,
    pub discount: DiscountView,
    pub valid_days: u16,
    pub created_at: Instant,
    pub updated_at: Instant,
}

/// A committed campaign, with its parts when it has any.
pub struct OpenCampaign {
    pub key: EntityKey,
    version: Version,
    campaign: Campaign,
    parts: Vec<Part>,
}

/// One part; without a campaign when it does not exist yet.
struct Part {
    key: EntityKey,
    version: Version,
    campaign: Option<Campaign>,
    share: u32,
}

impl Part {
    fn desk(&self) -> DeskView<'_> {
        DeskView { key: self.key, campaign: self.campaign.as_ref(), share: self.share }
    }
}

/// One place where a campaign's coupons are given out, as it was read.
pub struct DeskView<'a> {
    pub key: EntityKey,
    /// `None`: it does not exist yet.
    pub campaign: Option<&'a Campaign>,
    /// Coupons that it gives out.
    pub share: u32,
}

impl OpenCampaign {
    /// A campaign with what was read of its parts, in order; those behind are taken not to exist yet.
    #[must_use]
    pub fn new(key: EntityKey, version: Version, campaign: Campaign, parts: Vec<Option<Told<CampaignState>>>) -> Self {
        let keys = campaign.parts(key);
        let count = u8::try_from(keys.len()).unwrap_or(u8::MAX);
        let part = |((number, key), told): ((u8, EntityKey), Option<Told<CampaignState>>)| Part {
            key,
            version: told.as_ref().map_or(Version(0), |told| told.version),
            campaign: told.and_then(|told| told.state.get().cloned()),
            share: share_of(campaign.terms.quantity, number, count),
        };
        let found = parts.into_iter().chain(std::iter::repeat_with(|| None));
        let parts = (0u8..).zip(keys).zip(found).map(part).collect();
        Self { key, version, campaign, parts }
    }

    /// What the campaign as a whole promises.
    #[must_use]
    pub fn terms(&self) -> &Terms {
        &self.campaign.terms
    }

    /// Its parts, or itself.
    pub fn desks(&self) -> impl Iterator<Item = DeskView<'_>> {
        let own = DeskView { key: self.key, campaign: Some(&self.campaign), share: self.terms().quantity };
        let alone = self.parts.is_empty().then_some(own);
        alone.into_iter().chain(self.parts.iter().map(Part::desk))
    }

    /// Every entity that it consists of, as it was read.
    #[must_use]
    pub fn versions(&self) -> Vec<(EntityKey, Version)> {
        let parts = self.parts.iter().map(|part| (part.key, part.version));
        std::iter::once((self.key, self.version)).chain(parts).collect()
    }

    /// The sum of [`OpenCampaign::versions`]: it grows with every change.
    #[must_use]
    pub fn version(&self) -> Version {
        Version(self.versions().iter().map(|(_, version)| version.0).sum())
    }

    /// As of `now`.
    #[must_use]
    pub fn view(&self, now: Timestamp) -> CampaignView {
        let campaigns: Vec<Option<&Campaign>> = self.desks().map(|desk| desk.campaign).collect();
        let is_sold_out =
            |campaign: &Option<&Campaign>| campaign.is_some_and(|campaign| campaign.sold_out_at.is_some());
        let status = if campaigns.iter().all(is_sold_out) { "sold_out" } else { self.campaign.window(now) };
        let changed = campaigns.iter().flatten().map(|campaign| campaign.updated_at).max();
        let terms = self.terms();
        CampaignView {
            id: kinds::text_id(self.key),
            status,
            version: self.version().0,
            name: terms.name.clone(),
            quantity: terms.quantity,
            issued: campaigns.iter().flatten().map(|campaign| campaign.issued).sum(),
            parts: u8::try_from(self.parts.len()).unwrap_or(u8::MAX).max(1),
            starts_at: terms.starts_at.into(),
            ends_at: terms.ends_at.into(),
            discount: (&terms.discount).into(),
            valid_days: terms.valid_days,
            created_at: self.campaign.created_at.into(),
            updated_at: changed.unwrap_or(self.campaign.updated_at).max(self.campaign.updated_at).into(),
        }
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

    /// A committed campaign with its parts. A part has no id of its own at the front door.
    ///
    /// # Errors
    /// [`Code::NotFound`], [`Code::Internal`] for damaged bytes, or what the runtime says.
    pub async fn read_campaign(&self, key: EntityKey) -> Result<OpenCampaign, Problem> {
        let told = self.look::<CampaignState>(key).await?.filter(|told| told.state.part_of().is_none());
        let found = told.and_then(|told| Some((told.version, told.state.get()?.clone())));
        let (version, campaign) = found.ok_or_else(|| Problem::new(Code::NotFound))?;
        let parts = try_join_all(campaign.parts(key).into_iter().map(|part| self.look(part))).await?;
        let open = OpenCampaign::new(key, version, campaign, parts);
        self.campaigns.note(&open);
        Ok(open)
    }

    /// The home of each part: on as many shards as there are.
    fn homes_of(&self, whole: EntityKey, parts: u8) -> Vec<u64> {
        let mut taken = BTreeSet::new();
        let mut homes = Vec::new();
        for number in 0..parts {
            let shard = |home: u64| self.door.shard_of(&part_key(PartOf { whole, number }, home));
            let mut tries = (0..HOME_TRIES_MAX).map(|attempt| part_home(whole, number, attempt));
            let free = tries.find(|home| !taken.contains(&shard(*home)));
            let home = free.unwrap_or_else(|| part_home(whole, number, 0));
            taken.insert(shard(home));
            if taken.len() >= usize::from(self.door.shard_count()) {
                taken.clear();
            }
            homes.push(home);
        }
        homes
    }

    /// The command that makes a campaign.
    fn creation(&self, key: EntityKey, terms: Terms, parts: u8) -> Result<CampaignCommand, Problem> {
        let terms = Box::new(terms);
        if parts <= 1 {
            return Ok(CampaignCommand::Create(terms));
        }
        self.knows(FOURTH_LEVEL)?;
        Ok(CampaignCommand::CreateWhole(terms, self.homes_of(key, parts)))
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
    let ((terms, parts), canonical) = read_terms(&body)?;
    let secret = app.door.cluster_secret();
    let (key, mark) = (posted.entity(&caller, secret, kinds::CAMPAIGN), posted.mark(&caller, secret, &canonical));
    let command = app.creation(key, terms, parts)?;
    let told: Told<CampaignState> = app.tell(key, &command, mark.into(), campaign_refusal).await?;
    let campaign = told.state.get().cloned().ok_or_else(|| Problem::new(Code::Internal))?;
    // As of its creation: a repeat gets the same bytes.
    let created_at = campaign.created_at;
    let view = OpenCampaign::new(key, told.version, campaign, Vec::new()).view(created_at);
    let response = reply(StatusCode::CREATED, told.version, told.replayed, &view);
    Ok(located(response, &format!("/v1/coupon-campaigns/{}", view.id)))
}

/// One campaign.
#[utoipa::path(get, path = "/v1/coupon-campaigns/{id}", tag = "coupons", params(("id" = String, Path)),
    security(("bearer" = [])),
    responses((status = 200, body = CampaignView, headers(("ETag" = String))), (status = 404, body = ProblemDocument)))]
async fn detail(State(app): State<App>, Anyone(_caller): Anyone, Segment(id): Segment) -> Result<Response, Problem> {
    let key = app.campaign_key(&id)?;
    let campaign = app.read_campaign(key).await?;
    Ok(reply(StatusCode::OK, campaign.version(), false, &campaign.view(app.clock.now())))
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
    let (app, now) = (&app, app.clock.now());
    let read = |key| async move { Ok(Some(app.read_campaign(key).await?.view(now))) };
    app.list(Listing::all("coupon-campaigns", kinds::INDEX_CAMPAIGN), query.as_deref(), read).await
}

/// The body's shape, and what of the terms does not depend on now.
fn read_terms(body: &JsonBody) -> Result<((Terms, u8), Vec<u8>), Problem> {
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
    let parts = root.integer("parts").map_or(1, |parts| u8::try_from(parts).unwrap_or(0));
    let too_many = parts > 1 && quantity.is_some_and(|quantity| quantity < u32::from(parts));
    if !(1..=PARTS_MAX).contains(&parts) || too_many {
        root.fault("parts", "out_of_range", format!("1 to {PARTS_MAX}, and no more than the quantity."));
    }
    root.done();
    let is_whole = name.is_some() && quantity.is_some() && starts_at.is_some() && ends_at.is_some();
    let is_whole = is_whole && discount.is_some() && valid_days.is_some();
    // What does not read is stood in for by what has no fault, so that the rest is judged all the same.
    let (starts_at, ends_at) = match (starts_at, ends_at) {
        (Some(starts_at), Some(ends_at)) => (starts_at, ends_at),
        (None, Some(ends_at)) => (ends_at - Millis::from_days(1), ends_at),
        (starts_at, None) => {
            let starts_at = starts_at.unwrap_or(Timestamp(0));
            (starts_at, starts_at + Millis::from_days(1))
        }
    };
    let terms = Terms {
        name: name.unwrap_or_else(|| "-".to_owned()),
        quantity: quantity.unwrap_or(1),
        starts_at,
        ends_at,
        discount: discount.unwrap_or(Discount::Amount(Money::krw(1))),
        valid_days: valid_days.unwrap_or(1),
    };
    // As of its beginning: what depends on now is the campaign's to judge, behind an earlier reply under the same key.
    for fault in terms.faults(terms.starts_at) {
        faults.add_new(terms_pointer(fault), "out_of_range", format!("Not acceptable: {fault}."));
    }
    faults.check()?;
    if is_whole { Ok(((terms, parts), canonical)) } else { Err(Problem::new(Code::Internal)) }
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
    let (has_amount, has_percent) = (object.given("amount"), object.given("percent"));
    if has_amount == has_percent {
        object.fault_here("ambiguous", "Either an amount or a percentage.");
    }
    if has_amount && !has_percent && object.given("cap") {
        object.fault("cap", "not_applicable", "Only a percentage has a cap.");
    }
    let amount = object.object("amount").and_then(read_price);
    let percent = object.integer("percent").map(|percent| u8::try_from(percent).unwrap_or(0));
    let cap = object.object("cap").and_then(read_price);
    let discount = match (amount, percent) {
        (Some(amount), None) => Some(Discount::Amount(amount)),
        (_, Some(percent)) => Some(Discount::Percent { percent, cap }),
        (None, None) => None,
    };
    object.done();
    discount
}

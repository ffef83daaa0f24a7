//! A member's coupons: claim one, look, use.

use crate::api::claims::{Claim, Claimed};
use crate::api::dto::{Instant, MoneyView, Page, ProblemDocument};
use crate::api::extract::{Segment, User};
use crate::api::listing::Listing;
use crate::api::problem::{Code, Problem};
use crate::api::refusal::coupon_refusal;
use crate::api::router::{App, Shared};
use crate::api::telling::{Told, located, reply};
use crate::api::upon::Upon;
use crate::domain::coupon::{Coupon, CouponCommand, CouponState, Discount, Payer, Phase};
use crate::domain::kinds;
use crate::types::ids::{EntityKey, Version};
use axum::Json;
use axum::extract::{RawQuery, State};
use axum::response::Response;
use http::StatusCode;
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

/// The routes of this file.
pub fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(claim)).routes(routes!(list)).routes(routes!(detail)).routes(routes!(pay))
}

/// What a coupon takes off: an amount, or a percentage with a cap.
#[derive(Debug, Serialize, ToSchema)]
pub struct DiscountView {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub amount: Option<MoneyView>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub percent: Option<u8>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cap: Option<MoneyView>,
}

impl From<&Discount> for DiscountView {
    fn from(discount: &Discount) -> Self {
        match discount {
            Discount::Amount(amount) => Self { amount: Some((*amount).into()), percent: None, cap: None },
            Discount::Percent { percent, cap } => {
                Self { amount: None, percent: Some(*percent), cap: cap.map(MoneyView::from) }
            }
        }
    }
}

/// A coupon.
#[derive(Debug, Serialize, ToSchema)]
pub struct CouponView {
    #[schema(example = "c_5f1c2d3e4f5061728394a5b6c7d8e9f0")]
    pub id: String,
    /// `issued`, `used`, `restored` (usable again) or `expired`.
    #[schema(example = "issued")]
    pub status: &'static str,
    pub version: u64,
    pub campaign_id: String,
    pub name: String,
    pub discount: DiscountView,
    pub issued_at: Instant,
    /// Last instant at which it may be used.
    pub expires_at: Instant,
    pub used_at: Option<Instant>,
    /// The gift or order that was paid with it; `member` when its owner used it.
    pub used_by: Option<String>,
    pub updated_at: Instant,
}

/// A committed coupon.
pub struct OpenCoupon {
    /// `c_5f1c…`
    pub id: String,
    pub version: Version,
    pub coupon: Coupon,
}

impl OpenCoupon {
    /// As it is.
    #[must_use]
    pub fn view(&self) -> CouponView {
        let (used_at, used_by) = match self.coupon.phase {
            Phase::Used { by, at } => (Some(at), Some(by)),
            Phase::Issued | Phase::Restored { .. } | Phase::Expired { .. } => (None, None),
        };
        CouponView {
            id: self.id.clone(),
            status: self.coupon.phase.name(),
            version: self.version.0,
            campaign_id: kinds::text_id(self.coupon.campaign),
            name: self.coupon.name.clone(),
            discount: (&self.coupon.discount).into(),
            issued_at: self.coupon.issued_at.into(),
            expires_at: self.coupon.expires_at.into(),
            used_at: used_at.map(Instant),
            used_by: used_by.as_ref().map(Payer::describe),
            updated_at: self.coupon.updated_at.into(),
        }
    }

    /// As its claim was answered, whatever became of it since.
    #[must_use]
    fn as_issued(&self) -> Self {
        Self { id: self.id.clone(), version: Version(1), coupon: self.coupon.as_issued() }
    }
}

/// A committed coupon as it is shown.
///
/// # Errors
/// [`Code::Internal`] when it is none.
pub fn open(key: EntityKey, told: &Told<CouponState>) -> Result<OpenCoupon, Problem> {
    let coupon = told.state.get().cloned().ok_or_else(|| Problem::new(Code::Internal))?;
    Ok(OpenCoupon { id: kinds::text_id(key), version: told.version, coupon })
}

impl Shared {
    /// A committed coupon; `None` when there is none.
    ///
    /// # Errors
    /// [`Code::Internal`] for damaged bytes, or what the runtime says.
    pub async fn read_coupon(&self, key: EntityKey) -> Result<Option<OpenCoupon>, Problem> {
        self.look(key).await?.map(|told| open(key, &told)).transpose()
    }

    /// The caller's own coupon.
    ///
    /// # Errors
    /// [`Code::NotFound`] also for another's: whether it exists is nobody else's business.
    async fn own_coupon(&self, owner: &str, id: &str) -> Result<(EntityKey, OpenCoupon), Problem> {
        let key = self.key_of(kinds::COUPON, id)?;
        match self.read_coupon(key).await? {
            Some(coupon) if coupon.coupon.owner == owner => Ok((key, coupon)),
            Some(_) | None => Err(Problem::new(Code::NotFound)),
        }
    }
}

/// Claims a coupon of a campaign: one for each member, in the order in which claims are decided, never beyond the
/// quantity. The same key again gets the same reply.
#[utoipa::path(post, path = "/v1/coupon-campaigns/{id}/claims", tag = "coupons", security(("bearer" = [])),
    params(("id" = String, Path), ("Idempotency-Key" = String, Header)),
    responses((status = 201, body = CouponView, headers(("Location" = String), ("ETag" = String))),
        (status = 404, body = ProblemDocument), (status = 409, body = ProblemDocument),
        (status = 503, body = ProblemDocument)))]
async fn claim(State(app): State<App>, asked: Upon<User>) -> Result<Response, Problem> {
    let (id, _) = asked.mark_empty(&app)?;
    let campaign = app.campaign_key(&asked.id)?;
    let claim = Claim { campaign, owner: &asked.caller.subject, id };
    let claimed = app.claim(claim).await;
    let result = match &claimed {
        Ok(Claimed { replayed: false, .. }) => "issued",
        Ok(Claimed { replayed: true, .. }) => "replayed",
        Err(problem) => problem.code.text(),
    };
    metrics::counter!("bojagi_coupon_claims_total", "result" => result).increment(1);
    let Claimed { coupon, replayed } = claimed?;
    let told = coupon.as_issued();
    let response = reply(StatusCode::CREATED, told.version, replayed, &told.view());
    Ok(located(response, &format!("/v1/coupons/{}", told.id)))
}

/// The caller's coupons, newest first.
#[utoipa::path(get, path = "/v1/coupons", tag = "coupons", security(("bearer" = [])),
    params(("limit" = Option<u16>, Query, minimum = 1, maximum = 100), ("cursor" = Option<String>, Query)),
    responses((status = 200, body = Page<CouponView>), (status = 422, body = ProblemDocument)))]
async fn list(
    State(app): State<App>,
    User(caller): User,
    RawQuery(query): RawQuery,
) -> Result<Json<Page<CouponView>>, Problem> {
    let (app, owner) = (&app, caller.subject.as_str());
    let read = |key| async move {
        let mine = app.read_coupon(key).await?.filter(|coupon| coupon.coupon.owner == owner);
        Ok(mine.map(|coupon| coupon.view()))
    };
    app.list(Listing::of("coupons", kinds::INDEX_COUPON_OWNER, owner), query.as_deref(), read).await
}

/// One of the caller's coupons.
#[utoipa::path(get, path = "/v1/coupons/{id}", tag = "coupons", params(("id" = String, Path)),
    security(("bearer" = [])),
    responses((status = 200, body = CouponView, headers(("ETag" = String))), (status = 404, body = ProblemDocument)))]
async fn detail(State(app): State<App>, User(caller): User, Segment(id): Segment) -> Result<Response, Problem> {
    let (_, coupon) = app.own_coupon(&caller.subject, &id).await?;
    Ok(reply(StatusCode::OK, coupon.version, false, &coupon.view()))
}

/// Uses a coupon, once.
#[utoipa::path(post, path = "/v1/coupons/{id}/use", tag = "coupons", security(("bearer" = [])),
    params(("id" = String, Path), ("Idempotency-Key" = String, Header), ("If-Match" = Option<String>, Header)),
    responses((status = 200, body = CouponView), (status = 404, body = ProblemDocument),
        (status = 409, body = ProblemDocument), (status = 412, body = ProblemDocument), (status = 410, body = ProblemDocument)))]
async fn pay(State(app): State<App>, asked: Upon<User>) -> Result<Response, Problem> {
    let mark = asked.mark_empty(&app)?;
    let (key, _) = app.own_coupon(&asked.caller.subject, &asked.id).await?;
    let with = app.holding(&asked.posted, key, mark).await?;
    let command = CouponCommand::Use { by: Payer::Member(mark.0), owner: asked.caller.subject };
    let told = app.tell::<_, CouponState, _>(key, &command, with, coupon_refusal).await?;
    let coupon = open(key, &told)?;
    Ok(reply(StatusCode::OK, coupon.version, told.replayed, &coupon.view()))
}

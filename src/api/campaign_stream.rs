//! A campaign, live: how many coupons exist, and the caller's own as soon as it does.
//!
//! A hot campaign commits hundreds of records a second, so a stream does not tell each: it tells the campaign as it is,
//! at most every [`PACE`], whenever something has changed since. `id` = the campaign's version; a stream that resumes
//! says nothing until the campaign is beyond that, but for the caller's own coupon, which it tells again. Of a campaign in
//! parts the version is the sum of its parts'.

use crate::actors::door::AskError;
use crate::api::auth::Role;
use crate::api::campaigns::CampaignView;
use crate::api::coupons::CouponView;
use crate::api::dto::ProblemDocument;
use crate::api::extract::{Anyone, Segment};
use crate::api::problem::{Code, Problem};
use crate::api::router::App;
use crate::api::stream::{News, RETRY, tell_news};
use crate::domain::coupon::coupon_key;
use crate::types::ids::{EntityKey, Version};
use axum::extract::State;
use axum::response::Response;
use axum::response::sse::Event;
use futures_util::future::select_all;
use http::HeaderMap;
use serde::Serialize;
use std::future::pending;
use std::time::Duration;
use tokio::sync::OwnedSemaphorePermit;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

/// Shortest span between two events of a stream.
const PACE: Duration = Duration::from_millis(200);

/// The routes of this file.
pub fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(watch))
}

/// One event of the stream.
#[derive(Debug, Serialize, ToSchema)]
pub struct CampaignNews {
    #[serde(flatten)]
    pub campaign: CampaignView,
    /// The caller's own coupon, once it exists; only users have one.
    pub coupon: Option<CouponView>,
}

/// The campaign, live, with the caller's own coupon: what became of a claim.
#[utoipa::path(get, path = "/v1/coupon-campaigns/{id}/stream", tag = "coupons", security(("bearer" = [])),
    params(("id" = String, Path), ("Last-Event-ID" = Option<u64>, Header)),
    responses((status = 200, body = String, content_type = "text/event-stream"),
        (status = 404, body = ProblemDocument), (status = 503, body = ProblemDocument)))]
async fn watch(
    State(app): State<App>,
    Anyone(caller): Anyone,
    Segment(id): Segment,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let campaign = app.campaign_key(&id)?;
    let seen = app.read_campaign(campaign).await?.versions();
    let place = app.streams.clone().try_acquire_owned().map_err(|_| Problem::new(Code::Overloaded))?;
    let resume = headers.get("last-event-id").and_then(|value| value.to_str().ok()?.trim().parse().ok());
    let told = (Version(resume.unwrap_or(0)), Version(0));
    // Only users have coupons; another role's subject may be a user's name.
    let coupon = (caller.role == Role::User).then(|| coupon_key(campaign, &caller.subject));
    let watch = Watch { app: app.clone(), campaign, coupon, seen, told, first: true, _place: place };
    Ok(tell_news(&app, watch))
}

/// A campaign being watched by one caller.
struct Watch {
    app: App,
    campaign: EntityKey,
    /// The caller's own; `None` for who cannot have one.
    coupon: Option<EntityKey>,
    /// The entities of the campaign as they were read last.
    seen: Vec<(EntityKey, Version)>,
    /// The versions of campaign and coupon that were told; 0 for none.
    told: (Version, Version),
    first: bool,
    _place: OwnedSemaphorePermit,
}

impl News for Watch {
    async fn news(&mut self) -> Result<Option<Event>, Problem> {
        if !std::mem::take(&mut self.first) {
            self.changed().await?;
            tokio::time::sleep(PACE).await;
        }
        let coupon = match self.coupon {
            Some(key) => self.app.read_coupon(key).await?,
            None => None,
        };
        let campaign = self.app.read_campaign(self.campaign).await?;
        self.seen = campaign.versions();
        let version = campaign.version();
        let now = (version, coupon.as_ref().map_or(Version(0), |coupon| coupon.version));
        if now.0 <= self.told.0 && now.1 <= self.told.1 {
            return Ok(None);
        }
        self.told = now;
        let campaign = campaign.view(self.app.clock.now());
        let news = CampaignNews { campaign, coupon: coupon.map(|coupon| coupon.view()) };
        let text = serde_json::to_string(&news).map_err(|_| Problem::new(Code::Internal))?;
        Ok(Some(Event::default().id(version.to_string()).retry(RETRY).data(text)))
    }
}

impl Watch {
    async fn changed(&self) -> Result<(), AskError> {
        let entities = self.seen.iter().map(|(key, version)| self.app.door.changed(*key, *version));
        let own = async {
            match self.coupon {
                Some(key) => self.app.door.changed(key, self.told.1).await,
                None => pending().await,
            }
        };
        tokio::select! {
            (entity, _, _) = select_all(entities) => entity.map(|_| ()),
            coupon = own => coupon.map(|_| ()),
        }
    }
}

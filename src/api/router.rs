//! All routes, in groups by what they may cost, and what the handlers share.

use crate::actors::door::Door;
use crate::api::ApiOptions;
use crate::api::auth::TokenKey;
use crate::api::bucket::{BucketRate, Buckets};
use crate::api::claims::KnownCampaigns;
use crate::api::items;
use crate::api::limits::{self, RoutePolicy, ServerLimits};
use crate::api::problem::{Code, Problem};
use crate::api::recent::Recent;
use crate::api::{backup, cluster, dead_letters, dev, erasure, gifts, health, links, merchant, openapi, ops, page};
use crate::api::{campaign_stream, campaigns, coupons, inventory, orders, wallet};
use crate::api::{products, providers, reconciliation, stream, timeline, trace};
use crate::api::{queue, reservations, shows};
use crate::domain::policy::RefundWindows;
use crate::domain::product::Product;
use crate::domain::queue::Room;
use crate::domain::show::Terms;
use crate::types::money::Money;
use crate::types::time::Clock;
use axum::Router;
use axum::middleware;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use metrics_exporter_prometheus::PrometheusHandle;
use std::sync::{Arc, OnceLock};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use utoipa_axum::router::OpenApiRouter;

/// What every handler may use.
pub struct Shared {
    pub door: Arc<dyn Door>,
    pub clock: Arc<dyn Clock>,
    pub token_key: TokenKey,
    pub public_url: String,
    pub limits: ServerLimits,
    pub refund_windows: RefundWindows,
    pub metrics: Option<PrometheusHandle>,
    /// Calls by caller.
    pub callers: Buckets,
    /// Wrong voucher codes by terminal, and by merchant.
    pub wrong_codes_terminal: Buckets,
    pub wrong_codes_merchant: Buckets,
    pub places: Arc<Semaphore>,
    pub bodies: Arc<Semaphore>,
    pub streams: Arc<Semaphore>,
    /// Products on sale, by id.
    pub catalogue: Recent<Arc<Product>>,
    /// Coupon campaigns: their terms, and which are sold out.
    pub campaigns: KnownCampaigns,
    /// Prices of stock-keeping units, by name.
    pub prices: Recent<Money>,
    /// What shows offer, and the counts of their queues, by key.
    pub shows: Recent<Arc<Terms>>,
    pub rooms: Recent<Arc<Room>>,
    /// `/openapi.json`, set once the routes are put together.
    pub description: OnceLock<Bytes>,
    pub shutdown: CancellationToken,
}

/// Shared by all handlers of a server.
pub type App = Arc<Shared>;

impl Shared {
    /// Puts the parts together.
    #[must_use]
    pub fn new(options: ApiOptions, door: Arc<dyn Door>, shutdown: CancellationToken) -> App {
        let terminal = options.wrong_code_rate;
        let merchant = BucketRate { per_sec: terminal.per_sec * 10.0, burst: terminal.burst * 10.0 };
        Arc::new(Self {
            clock: door.clock(),
            door,
            token_key: options.token_key,
            public_url: options.public_url,
            limits: options.limits,
            refund_windows: options.refund_windows,
            metrics: options.metrics,
            callers: Buckets::new(options.caller_rate),
            wrong_codes_terminal: Buckets::new(terminal),
            wrong_codes_merchant: Buckets::new(merchant),
            places: Arc::new(Semaphore::new(options.limits.requests_max)),
            bodies: Arc::new(Semaphore::new(options.limits.bodies_max)),
            streams: Arc::new(Semaphore::new(options.limits.streams_max)),
            catalogue: Recent::default(),
            campaigns: KnownCampaigns::default(),
            prices: Recent::default(),
            shows: Recent::default(),
            rooms: Recent::default(),
            description: OnceLock::new(),
            shutdown,
        })
    }
}

type Group = OpenApiRouter<App>;

/// Routes of one policy, behind its guard.
fn bounded(app: &App, policy: RoutePolicy, group: Group) -> Group {
    group.layer(middleware::from_fn_with_state((app.clone(), policy), limits::guard))
}

fn standard() -> Group {
    let sender = gifts::routes().merge(timeline::routes()).merge(stream::routes());
    let others = links::routes().merge(merchant::routes()).merge(products::routes());
    let buyer = orders::routes().merge(wallet::routes()).merge(inventory::routes());
    let buyer = buyer.merge(items::routes());
    let recipient = page::routes().merge(openapi::routes());
    let operator = dead_letters::routes().merge(erasure::routes()).merge(ops::routes()).merge(cluster::routes());
    let operator = operator.merge(backup::routes());
    let coupon = coupons::routes().merge(campaigns::routes()).merge(campaign_stream::routes());
    let concert = shows::routes().merge(queue::routes()).merge(reservations::routes());
    sender.merge(others).merge(buyer).merge(recipient).merge(operator).merge(coupon).merge(concert)
}

/// The front door's routes and their description.
fn described(app: &App) -> Group {
    let mut all = OpenApiRouter::new()
        .merge(bounded(app, RoutePolicy::PROBE, health::routes()))
        .merge(bounded(app, RoutePolicy::STANDARD, standard()))
        .merge(bounded(app, RoutePolicy::SLOW, reconciliation::routes()))
        .merge(bounded(app, RoutePolicy::WEBHOOK, providers::routes()));
    if app.door.dev().is_some() {
        all = all.merge(bounded(app, RoutePolicy::SLOW, dev::routes()));
    }
    all
}

/// Everything that the server answers.
pub fn routes(app: &App) -> Router {
    let (router, description) = described(app).split_for_parts();
    // A second router of the same server would describe the same routes.
    app.description.get_or_init(|| openapi::text(&openapi::complete(description)));
    let router = router.fallback(nothing_here).method_not_allowed_fallback(no_such_method);
    let router = router.layer(middleware::from_fn(limits::one_reading));
    router.layer(middleware::from_fn_with_state(app.clone(), trace::trace)).with_state(app.clone())
}

async fn nothing_here() -> Response {
    Problem::new(Code::NotFound).into_response()
}

async fn no_such_method() -> Response {
    Problem::new(Code::MethodNotAllowed).into_response()
}

//! The buyer's orders: place, look, cancel. An order is accepted at once; payment, stock and shipping go on behind the
//! reply.

use crate::api::auth::Caller;
use crate::api::commerce::Priced;
use crate::api::dto::{Page, ProblemDocument};
use crate::api::extract::{JsonBody, Segment, User};
use crate::api::gift_view::NoticeView;
use crate::api::idempotency::{Mark, Posted};
use crate::api::listing::Listing;
use crate::api::order_body::{ItemDraft, NewOrderBody, OrderDraft, read_order};
use crate::api::order_view::{OrderView, order_view};
use crate::api::patience::all_faults;
use crate::api::problem::{Code, Fault, Problem};
use crate::api::refusal::order_refusal;
use crate::api::router::{App, Shared};
use crate::api::schema::OrderBody;
use crate::api::stream::{follow, rendered};
use crate::api::telling::{Told, With, located, reply};
use crate::api::timeline::{EventView, journal_page, notice_page};
use crate::api::upon::{PageOf, Upon};
use crate::domain::kinds;
use crate::domain::order::{NewLine, NewOrder, OrderCommand, OrderState, Status, StepLimits, price_of_lines};
use crate::domain::stored::GrownRef;
use crate::domain::tender::CouponTerms;
use crate::types::codec;
use crate::types::ids::{EntityKey, Version};
use crate::types::level::FOURTH_LEVEL;
use axum::Json;
use axum::extract::{RawQuery, State};
use axum::response::Response;
use futures_util::future::try_join_all;
use http::{HeaderMap, StatusCode};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

/// The routes of this file.
pub fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(place, list))
        .routes(routes!(detail))
        .routes(routes!(cancel))
        .routes(routes!(events))
        .routes(routes!(notices))
        .routes(routes!(watch))
}

/// Places an order. The reply leaves when it is on disk on a majority; the rest goes on behind it.
#[utoipa::path(post, path = "/v1/orders", tag = "orders", request_body = OrderBody,
    params(("Idempotency-Key" = String, Header)), security(("bearer" = [])),
    responses((status = 202, body = OrderView, headers(("Location" = String), ("ETag" = String))),
        (status = 409, body = ProblemDocument), (status = 422, body = ProblemDocument)))]
async fn place(
    State(app): State<App>,
    User(caller): User,
    posted: Posted,
    body: JsonBody,
) -> Result<Response, Problem> {
    let (draft, canonical, found) = read_order(&body)?;
    let secret = app.door.cluster_secret();
    let (key, mark) = (posted.entity(&caller, secret, kinds::ORDER), posted.mark(&caller, secret, &canonical));
    if !found.is_empty() {
        return Err(all_faults(found, priced(&app, &caller, key, &draft)).await);
    }
    let told = match priced(&app, &caller, key, &draft).await? {
        Ok(terms) => {
            let new = draft.complete().ok_or_else(|| Problem::new(Code::Internal))?;
            app.place(key, mark, &caller, new, terms).await?
        }
        Err(faults) => match app.earlier(key, mark).await? {
            Some(earlier) => earlier,
            None => return Err(Problem::invalid(faults)),
        },
    };
    let id = app.door.kinds().format(key);
    let view = order_view(&id, told.version, &told.state);
    let response = reply(StatusCode::ACCEPTED, told.version, told.replayed, &view);
    Ok(located(response, &format!("/v1/orders/{id}")))
}

/// The lines at the prices of now, and the coupon that pays for some of it.
type Terms = (Vec<NewLine>, Option<CouponTerms>);

/// What depends on stocks, prices and coupons, as far as the body names it; every fault of it.
async fn priced(
    app: &Shared,
    caller: &Caller,
    order: EntityKey,
    draft: &OrderDraft,
) -> Result<Result<Terms, Vec<Fault>>, Problem> {
    let price = |item: &ItemDraft| {
        let sku = item.sku.clone();
        async move {
            match sku {
                Some(sku) => app.price_of(&sku).await.map(Some),
                None => Ok(None),
            }
        }
    };
    let prices = try_join_all(draft.items.iter().map(price)).await?;
    let (mut lines, mut faults) = (Vec::new(), Vec::new());
    for (position, (item, price)) in draft.items.iter().zip(prices).enumerate() {
        let mut fault = |code, detail: &'static str| {
            faults.push(Fault { pointer: format!("/items/{position}/sku"), code, detail: detail.into() });
        };
        match (price, &item.sku, item.quantity) {
            (Some(Priced::At(price)), Some(sku), Some(quantity)) => {
                lines.push(NewLine { sku: sku.clone(), quantity, price });
            }
            (Some(Priced::At(_)) | None, _, _) => {}
            (Some(Priced::Unknown), _, _) => fault("unknown_sku", "There is no stock of this name."),
            (Some(Priced::Unpriced), _, _) => {
                fault("no_price", "Neither the stock nor a product of its name has a price.")
            }
        }
    }
    let is_whole = !lines.is_empty() && lines.len() == draft.items.len();
    let price = if is_whole { price_of_lines(&lines) } else { None };
    match app.tender(order, &caller.subject, draft.coupon_id.as_deref(), price).await? {
        // A sum beyond the range of an amount has no tender: the order itself refuses it.
        Ok(tender) if faults.is_empty() => return Ok(Ok((lines, tender.and_then(|tender| tender.coupon)))),
        Ok(_) => {}
        Err(fault) => faults.push(fault),
    }
    Ok(Err(faults))
}

impl Shared {
    async fn place(
        &self,
        key: EntityKey,
        mark: Mark,
        caller: &Caller,
        new: NewOrderBody,
        (lines, coupon): Terms,
    ) -> Result<Told<OrderState>, Problem> {
        // A build of before tells a buyer nothing, and reads personal data without a contact.
        let tells = self.knows(FOURTH_LEVEL).is_ok();
        let personal = GrownRef::of(&new.personal, tells.then_some(&new.buyer));
        let (sealed, wrapped) = self.door.seal_new(key, &codec::encode(&personal));
        let owner = caller.subject.clone();
        let order = NewOrder { owner, lines, method: new.method, sealed, limits: StepLimits::default() };
        let with = With { mark: Some(mark), new_key: Some(wrapped), ..With::default() };
        let order = Box::new(order);
        let command = match coupon {
            coupon if tells => OrderCommand::CreateTelling(order, coupon, new.buyer.contacts()),
            None => OrderCommand::Create(order),
            Some(coupon) => OrderCommand::CreateWith(order, coupon),
        };
        self.tell(key, &command, with, order_refusal).await
    }

    /// An order's key from its text id.
    ///
    /// # Errors
    /// [`Code::NotFound`]: not an id of an order.
    pub fn order_key(&self, id: &str) -> Result<EntityKey, Problem> {
        self.key_of(kinds::ORDER, id)
    }

    /// A committed order; `None` when there is none.
    ///
    /// # Errors
    /// What the runtime says.
    pub async fn peek_order(&self, key: EntityKey) -> Result<Option<(Version, OrderState)>, Problem> {
        let told = self.look::<OrderState>(key).await?.filter(|told| told.state.exists());
        Ok(told.map(|told| (told.version, told.state)))
    }

    /// The caller's own order.
    ///
    /// # Errors
    /// [`Code::NotFound`] also for another's: whether it exists is nobody else's business.
    async fn own_order(&self, caller: &Caller, id: &str) -> Result<(EntityKey, Version, OrderState), Problem> {
        let key = self.order_key(id)?;
        match self.peek_order(key).await? {
            Some((version, state)) if state.owner() == caller.subject => Ok((key, version, state)),
            Some(_) | None => Err(Problem::new(Code::NotFound)),
        }
    }
}

/// One of the caller's orders.
#[utoipa::path(get, path = "/v1/orders/{id}", tag = "orders", params(("id" = String, Path)), security(("bearer" = [])),
    responses((status = 200, body = OrderView, headers(("ETag" = String))), (status = 404, body = ProblemDocument)))]
async fn detail(State(app): State<App>, User(caller): User, Segment(id): Segment) -> Result<Response, Problem> {
    let (_, version, state) = app.own_order(&caller, &id).await?;
    Ok(reply(StatusCode::OK, version, false, &order_view(&id, version, &state)))
}

/// The caller's orders, newest first. With a status, a page may hold fewer items than asked for and still have a next
/// one.
#[utoipa::path(get, path = "/v1/orders", tag = "orders", security(("bearer" = [])),
    params(("status" = Option<String>, Query), ("limit" = Option<u16>, Query, minimum = 1, maximum = 100),
        ("cursor" = Option<String>, Query)),
    responses((status = 200, body = Page<OrderView>), (status = 422, body = ProblemDocument)))]
async fn list(
    State(app): State<App>,
    User(caller): User,
    RawQuery(query): RawQuery,
) -> Result<Json<Page<OrderView>>, Problem> {
    let (app, owner) = (&app, caller.subject.as_str());
    let read = |key| async move {
        let mine = app.peek_order(key).await?.filter(|(_, state)| state.owner() == owner);
        Ok(mine.map(|(version, state)| (state.status(), order_view(&kinds::text_id(key), version, &state))))
    };
    let listing = Listing::of("orders", kinds::INDEX_ORDER_OWNER, owner);
    app.list_by_status(listing, query.as_deref(), Status::parse, read).await
}

/// Cancels an order whose goods are not prepared yet: everything is undone and given back. While it is not known what a
/// call to a provider did, `cancel_requested` is noted and the cancel waits for that.
#[utoipa::path(post, path = "/v1/orders/{id}/cancel", tag = "orders", security(("bearer" = [])),
    params(("id" = String, Path), ("Idempotency-Key" = String, Header), ("If-Match" = Option<String>, Header)),
    responses((status = 200, body = OrderView), (status = 404, body = ProblemDocument),
        (status = 409, body = ProblemDocument), (status = 412, body = ProblemDocument)))]
async fn cancel(State(app): State<App>, asked: Upon<User>) -> Result<Response, Problem> {
    let mark = asked.mark_empty(&app)?;
    let (key, _, _) = app.own_order(&asked.caller, &asked.id).await?;
    let with = app.holding(&asked.posted, key, mark).await?;
    let told = app.tell::<_, OrderState, _>(key, &OrderCommand::Cancel, with, order_refusal).await?;
    Ok(reply(StatusCode::OK, told.version, told.replayed, &order_view(&asked.id, told.version, &told.state)))
}

/// The journal, oldest first.
#[utoipa::path(get, path = "/v1/orders/{id}/events", tag = "orders", security(("bearer" = [])),
    params(("id" = String, Path), ("limit" = Option<u16>, Query, minimum = 1, maximum = 100),
        ("cursor" = Option<String>, Query)),
    responses((status = 200, body = Page<EventView>), (status = 404, body = ProblemDocument)))]
async fn events(State(app): State<App>, page: PageOf) -> Result<Json<Page<EventView>>, Problem> {
    let (key, _, _) = app.own_order(&page.caller, &page.id).await?;
    journal_page(&app, key, &page).await
}

/// What the caller was told, oldest first: at most the order's last 32 notices.
#[utoipa::path(get, path = "/v1/orders/{id}/notices", tag = "orders", security(("bearer" = [])),
    params(("id" = String, Path), ("limit" = Option<u16>, Query, minimum = 1, maximum = 100),
        ("cursor" = Option<String>, Query)),
    responses((status = 200, body = Page<NoticeView>), (status = 404, body = ProblemDocument)))]
async fn notices(State(app): State<App>, page: PageOf) -> Result<Json<Page<NoticeView>>, Problem> {
    let (_, _, state) = app.own_order(&page.caller, &page.id).await?;
    notice_page(&app, state.notices(), &page)
}

/// The order, live. Each event's `data` is the order at the version in `id`.
#[utoipa::path(get, path = "/v1/orders/{id}/stream", tag = "orders", security(("bearer" = [])),
    params(("id" = String, Path), ("Last-Event-ID" = Option<u64>, Header)),
    responses((status = 200, body = String, content_type = "text/event-stream"),
        (status = 404, body = ProblemDocument), (status = 503, body = ProblemDocument)))]
async fn watch(
    State(app): State<App>,
    User(caller): User,
    Segment(id): Segment,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let (key, version, state) = app.own_order(&caller, &id).await?;
    let view = move |version, state: OrderState| Ok(order_view(&id, version, &state));
    follow(app, key, (version, codec::encode(&state)), &headers, rendered(view))
}

//! Shows: an operator makes them, anyone who is logged in may look at them, their seats and which sold out fastest.

use crate::api::cursor::{CursorScope, Query};
use crate::api::dto::{Instant, MoneyView, Page, ProblemDocument};
use crate::api::extract::{Anyone, JsonBody, Operator, Segment};
use crate::api::idempotency::Posted;
use crate::api::json::Faults;
use crate::api::listing::Listing;
use crate::api::problem::{Code, Problem};
use crate::api::refusal::show_refusal;
use crate::api::router::{App, Shared};
use crate::api::schema::ShowBody;
use crate::api::show_body::read_show;
use crate::api::telling::{Told, located, reply};
use crate::domain::area::{AreaState, SeatStatus, area_key};
use crate::domain::kinds;
use crate::domain::show::{Seat, SeatRow, SectionNumber, Show, ShowCommand, ShowState, Terms, seat_name};
use crate::types::ids::{EntityKey, Version};
use crate::types::time::Timestamp;
use axum::Json;
use axum::extract::{RawQuery, State};
use axum::response::Response;
use futures_util::future::try_join_all;
use http::StatusCode;
use serde::Serialize;
use std::sync::Arc;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

/// The routes of this file.
pub fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(create, list))
        .routes(routes!(ranking))
        .routes(routes!(detail))
        .routes(routes!(seats))
}

/// A show.
#[derive(Debug, Serialize, ToSchema)]
pub struct ShowView {
    #[schema(example = "sh_5f1c2d3e4f5061728394a5b6c7d8e9f0")]
    pub id: String,
    /// `scheduled`, `open` or `sold_out`.
    #[schema(example = "open")]
    pub status: &'static str,
    pub version: u64,
    pub title: String,
    pub opens_at: Instant,
    pub seats: Vec<RowView>,
    pub seats_total: u32,
    /// Paid for, as of a second ago.
    pub seats_sold: u32,
    pub admission_per_second: u32,
    pub active_max: u32,
    /// When the last seat was sold for the first time.
    pub sold_out_at: Option<Instant>,
    pub created_at: Instant,
    pub updated_at: Instant,
}

/// Seats side by side.
#[derive(Debug, Serialize, ToSchema)]
pub struct RowView {
    #[schema(example = "A")]
    pub section: String,
    pub row: Option<String>,
    pub count: u16,
    pub price: MoneyView,
}

/// One seat.
#[derive(Debug, Serialize, ToSchema)]
pub struct SeatView {
    /// What a reservation calls it.
    #[schema(example = "A-12")]
    pub id: String,
    pub section: String,
    pub row: Option<String>,
    /// Within its row, from 1.
    pub number: u16,
    pub price: MoneyView,
    /// `available`, `temporary_assigned` or `sold`.
    pub status: &'static str,
}

/// A show's place in the ranking.
#[derive(Debug, Serialize, ToSchema)]
pub struct RankView {
    pub show_id: String,
    pub title: String,
    pub seats_total: u32,
    pub opens_at: Instant,
    pub sold_out_at: Instant,
    /// From the opening to the last seat.
    pub sold_out_after_ms: i64,
}

fn optional(row: &str) -> Option<String> {
    (!row.is_empty()).then(|| row.to_owned())
}

/// A show as of `now`.
fn show_view(key: EntityKey, version: Version, show: &Show, now: Timestamp) -> ShowView {
    let row = |row: &SeatRow| RowView {
        section: row.section.clone(),
        row: optional(&row.row),
        count: row.count,
        price: row.price.into(),
    };
    ShowView {
        id: kinds::text_id(key),
        status: show.status(now),
        version: version.0,
        title: show.terms.title.clone(),
        opens_at: show.terms.admission.opens_at.into(),
        seats: show.terms.rows.iter().map(row).collect(),
        seats_total: show.terms.seats_total(),
        seats_sold: show.sold_total(),
        admission_per_second: show.terms.admission.per_second,
        active_max: show.terms.admission.active_max,
        sold_out_at: show.sold_out_at.map(Instant),
        created_at: show.created_at.into(),
        updated_at: show.updated_at.into(),
    }
}

impl Shared {
    /// A show's key from its text id.
    ///
    /// # Errors
    /// [`Code::NotFound`]: not an id of a show.
    pub fn show_key(&self, id: &str) -> Result<EntityKey, Problem> {
        self.key_of(kinds::SHOW, id)
    }

    async fn read_show(&self, key: EntityKey) -> Result<(Version, Show), Problem> {
        let told = self.look::<ShowState>(key).await?;
        let found = told.and_then(|told| Some((told.version, told.state.get()?.clone())));
        found.ok_or_else(|| Problem::new(Code::NotFound))
    }

    /// What a show offers.
    ///
    /// # Errors
    /// [`Code::NotFound`], or what the runtime says.
    pub async fn show_terms(&self, key: EntityKey) -> Result<Arc<Terms>, Problem> {
        let (id, now) = (key.hex(), self.clock.boot());
        if let Some(terms) = self.shows.get(&id, now) {
            return Ok(terms);
        }
        let terms = Arc::new(self.read_show(key).await?.1.terms);
        self.shows.keep(&id, terms.clone(), now);
        Ok(terms)
    }
}

/// Makes a show. What it offers never changes.
#[utoipa::path(post, path = "/v1/shows", tag = "concert", request_body = ShowBody,
    params(("Idempotency-Key" = String, Header)), security(("bearer" = [])),
    responses((status = 201, body = ShowView, headers(("Location" = String), ("ETag" = String))),
        (status = 403, body = ProblemDocument), (status = 422, body = ProblemDocument)))]
async fn create(
    State(app): State<App>,
    Operator(caller): Operator,
    posted: Posted,
    body: JsonBody,
) -> Result<Response, Problem> {
    let (terms, canonical) = read_show(&body)?;
    let secret = app.door.cluster_secret();
    let (key, mark) = (posted.entity(&caller, secret, kinds::SHOW), posted.mark(&caller, secret, &canonical));
    let command = ShowCommand::Create(Box::new(terms));
    let told: Told<ShowState> = app.tell(key, &command, mark.into(), show_refusal).await?;
    let show = told.state.get().ok_or_else(|| Problem::new(Code::Internal))?;
    // As of its creation: a repeat gets the same bytes.
    let view = show_view(key, told.version, show, show.created_at);
    let response = reply(StatusCode::CREATED, told.version, told.replayed, &view);
    Ok(located(response, &format!("/v1/shows/{}", view.id)))
}

/// One show.
#[utoipa::path(get, path = "/v1/shows/{id}", tag = "concert", params(("id" = String, Path)),
    security(("bearer" = [])),
    responses((status = 200, body = ShowView, headers(("ETag" = String))), (status = 404, body = ProblemDocument)))]
async fn detail(State(app): State<App>, Anyone(_caller): Anyone, Segment(id): Segment) -> Result<Response, Problem> {
    let key = app.show_key(&id)?;
    let (version, show) = app.read_show(key).await?;
    Ok(reply(StatusCode::OK, version, false, &show_view(key, version, &show, app.clock.now())))
}

/// All shows, newest first.
#[utoipa::path(get, path = "/v1/shows", tag = "concert", security(("bearer" = [])),
    params(("limit" = Option<u16>, Query, minimum = 1, maximum = 100), ("cursor" = Option<String>, Query)),
    responses((status = 200, body = Page<ShowView>), (status = 422, body = ProblemDocument)))]
async fn list(
    State(app): State<App>,
    Anyone(_caller): Anyone,
    RawQuery(query): RawQuery,
) -> Result<Json<Page<ShowView>>, Problem> {
    let (app, now) = (&app, app.clock.now());
    let read = |key| async move {
        let (version, show) = app.read_show(key).await?;
        Ok(Some(show_view(key, version, &show, now)))
    };
    app.list(Listing::all("shows", kinds::INDEX_SHOW), query.as_deref(), read).await
}

/// Shows that were sold out, the fastest first.
#[utoipa::path(get, path = "/v1/shows/ranking", tag = "concert", security(("bearer" = [])),
    params(("limit" = Option<u16>, Query, minimum = 1, maximum = 100), ("cursor" = Option<String>, Query)),
    responses((status = 200, body = Page<RankView>), (status = 422, body = ProblemDocument)))]
async fn ranking(
    State(app): State<App>,
    Anyone(_caller): Anyone,
    RawQuery(query): RawQuery,
) -> Result<Json<Page<RankView>>, Problem> {
    let app = &app;
    let read = |key| async move { Ok(rank_of(key, &app.read_show(key).await?.1)) };
    app.list(Listing::all("shows/ranking", kinds::INDEX_SHOW_RANKING), query.as_deref(), read).await
}

fn rank_of(key: EntityKey, show: &Show) -> Option<RankView> {
    Some(RankView {
        show_id: kinds::text_id(key),
        title: show.terms.title.clone(),
        seats_total: show.terms.seats_total(),
        opens_at: show.terms.admission.opens_at.into(),
        sold_out_at: show.sold_out_at?.into(),
        sold_out_after_ms: show.sold_out_after()?.0,
    })
}

/// The seats, section by section. Their status is as of now.
#[utoipa::path(get, path = "/v1/shows/{id}/seats", tag = "concert", security(("bearer" = [])),
    params(("id" = String, Path), ("section" = Option<String>, Query), ("status" = Option<String>, Query),
        ("limit" = Option<u16>, Query, minimum = 1, maximum = 100), ("cursor" = Option<String>, Query)),
    responses((status = 200, body = Page<SeatView>), (status = 404, body = ProblemDocument),
        (status = 422, body = ProblemDocument)))]
async fn seats(
    State(app): State<App>,
    Anyone(_caller): Anyone,
    Segment(id): Segment,
    RawQuery(query): RawQuery,
) -> Result<Json<Page<SeatView>>, Problem> {
    let key = app.show_key(&id)?;
    let terms = app.show_terms(key).await?;
    let list = format!("seats/{id}");
    let scope = CursorScope { secret: app.door.cluster_secret(), list: &list, caller: "" };
    let faults = Faults::default();
    let mut query = Query::parse(query.as_deref());
    let page = scope.page(query.take("limit").as_deref(), query.take("cursor").as_deref(), &faults);
    let section = query.take("section");
    if section.as_deref().is_some_and(|name| !terms.sections().contains(&name)) {
        faults.add("/section", "unknown_value", "This show has no such section.");
    }
    let status = query.take("status").and_then(|name| {
        let status = SeatStatus::parse(&name);
        if status.is_none() {
            faults.add("/status", "unknown_value", "available, temporary_assigned or sold.");
        }
        status
    });
    query.done(&faults);
    faults.check()?;
    let after = page.after.and_then(|bytes| Some(u32::from_be_bytes(bytes.try_into().ok()?)));
    let areas = areas_of(&app, key, &terms).await?;
    let standing = |seat: &Seat<'_>| {
        let area = areas.get(usize::from(seat.section.0)).and_then(AreaState::get);
        area.map_or(SeatStatus::Available, |area| area.seat(seat.number))
    };
    let all = terms.seats();
    let mut wanted = (0u32..).zip(&all).filter(|(place, seat)| {
        let beyond = after.is_none_or(|after| *place > after);
        let named = section.as_deref().is_none_or(|name| seat.row.section == name);
        beyond && named && status.is_none_or(|status| standing(seat) == status)
    });
    let found: Vec<_> = wanted.by_ref().take(page.limit).collect();
    let more = wanted.next().is_some();
    let next_cursor = found.last().filter(|_| more).map(|(place, _)| scope.write(&place.to_be_bytes()));
    let view = |(_, seat): &(u32, &Seat<'_>)| SeatView {
        id: seat_name(&seat.row.section, seat.number),
        section: seat.row.section.clone(),
        row: optional(&seat.row.row),
        number: seat.in_row,
        price: seat.row.price.into(),
        status: standing(seat).name(),
    };
    Ok(Json(Page { items: found.iter().map(view).collect(), next_cursor }))
}

/// The areas, by section; one of which nobody took a seat yet is as new.
async fn areas_of(app: &Shared, show: EntityKey, terms: &Terms) -> Result<Vec<AreaState>, Problem> {
    let numbers = (0u16..).zip(terms.sections()).map(|(number, _)| SectionNumber(number));
    let areas = try_join_all(numbers.map(|number| app.look::<AreaState>(area_key(show, number)))).await?;
    Ok(areas.into_iter().map(|told| told.map(|told| told.state).unwrap_or_default()).collect())
}

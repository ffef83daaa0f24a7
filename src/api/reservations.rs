//! Reservations: take seats, pay behind the reply, look, cancel.
//!
//! The seats are taken in the order in which their area is asked. The area's hold is committed before it answers, and from
//! there on the reservation comes, whether anybody waits for it or not. So the reservation is read first, without a round trip:
//! a repeat reaches the area only past a leader that was just replaced, and then the reservation refuses the second hold.

use crate::api::auth::Caller;
use crate::api::dto::{Page, ProblemDocument};
use crate::api::extract::{JsonBody, Segment, User};
use crate::api::idempotency::{Mark, Posted};
use crate::api::json::{self, Faults, Object};
use crate::api::listing::Listing;
use crate::api::order_body::read_payment;
use crate::api::patience::{PATIENCE, all_faults};
use crate::api::problem::{Code, Fault, Outcome, Problem};
use crate::api::refusal::{area_refusal, reservation_refusal};
use crate::api::reservation_view::{ReservationView, reservation_view};
use crate::api::router::{App, Shared};
use crate::api::schema::{ReservationBody, ReservationPaymentBody};
use crate::api::stream::{follow, rendered};
use crate::api::telling::{Told, With, located, reply};
use crate::api::timeline::{EventView, journal_page};
use crate::api::upon::{PageOf, Upon};
use crate::domain::area::{AreaCommand, AreaRejection, RESERVATION_SEATS_MAX, Serial, Take, area_key};
use crate::domain::kinds;
use crate::domain::order::Method;
use crate::domain::queue::QueueRejection;
use crate::domain::reservation::{
    Assignment, OWNER_BYTES_MAX, Payment, PaymentKey, ReservationCommand, ReservationState,
};
use crate::domain::show::{Seat, Terms};
use crate::domain::ticket::{Entry, QueueNumber, ticket_key};
use crate::types::codec;
use crate::types::contact::Private;
use crate::types::ids::{EntityKey, Version};
use crate::types::money::Money;
use crate::types::time::Timestamp;
use axum::Json;
use axum::extract::{RawQuery, State};
use axum::response::Response;
use http::{HeaderMap, StatusCode};
use std::collections::BTreeSet;
use tokio::time::Instant;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

/// Times that a payment is tried against a reservation that moves.
const TRIES_MAX: usize = 8;

/// The routes of this file.
pub fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(reserve))
        .routes(routes!(list))
        .routes(routes!(detail))
        .routes(routes!(pay))
        .routes(routes!(cancel))
        .routes(routes!(events))
        .routes(routes!(watch))
}

/// A committed reservation.
struct Open {
    key: EntityKey,
    version: Version,
    state: ReservationState,
}

fn is_assigned(told: &Told<ReservationState>) -> bool {
    told.state.assignment().is_some()
}

impl Shared {
    /// A committed reservation; `None` when there is none.
    ///
    /// # Errors
    /// What the runtime says.
    pub async fn peek_reservation(&self, key: EntityKey) -> Result<Option<(Version, ReservationState)>, Problem> {
        let told = self.look::<ReservationState>(key).await?.filter(is_assigned);
        Ok(told.map(|told| (told.version, told.state)))
    }

    /// The caller's own reservation, which may have moved on: for a command, which looks again. What a new leader may know of
    /// is asked for the certain way.
    async fn own_at_a_glance(&self, caller: &Caller, id: &str) -> Result<Open, Problem> {
        let key = self.key_of(kinds::RESERVATION, id)?;
        match self.glance::<ReservationState>(key).await?.filter(is_assigned) {
            Some(Told { version, state, .. }) if state.owner() == caller.subject => Ok(Open { key, version, state }),
            Some(_) => Err(Problem::new(Code::NotFound)),
            None => self.own_reservation(caller, id).await,
        }
    }

    async fn own_reservation(&self, caller: &Caller, id: &str) -> Result<Open, Problem> {
        let key = self.key_of(kinds::RESERVATION, id)?;
        match self.peek_reservation(key).await? {
            Some((version, state)) if state.owner() == caller.subject => Ok(Open { key, version, state }),
            Some(_) | None => Err(Problem::new(Code::NotFound)),
        }
    }
}

/// Takes seats of one section for five minutes. The ticket must be the caller's own, and admitted.
#[utoipa::path(post, path = "/v1/shows/{id}/reservations", tag = "concert", request_body = ReservationBody,
    params(("id" = String, Path), ("Idempotency-Key" = String, Header)), security(("bearer" = [])),
    responses((status = 201, body = ReservationView, headers(("Location" = String), ("ETag" = String))),
        (status = 404, body = ProblemDocument), (status = 409, body = ProblemDocument),
        (status = 422, body = ProblemDocument), (status = 503, body = ProblemDocument)))]
async fn reserve(
    State(app): State<App>,
    User(caller): User,
    Segment(id): Segment,
    posted: Posted,
    body: JsonBody,
) -> Result<Response, Problem> {
    let (wanted, canonical, found) = read_wanted(&body)?;
    let secret = app.door.cluster_secret();
    let (key, mark) = (posted.entity(&caller, secret, kinds::RESERVATION), posted.mark(&caller, secret, &canonical));
    if !found.is_empty() {
        return Err(all_faults(found, looked_up(&app, &caller, &id, &wanted)).await);
    }
    if let Some(earlier) = app.glance(key).await?.filter(is_assigned) {
        return assigned((key, &earlier.state), mark, true);
    }
    let refused = match take(&app, &caller, &id, &wanted, (key, mark)).await {
        Err(refused) if refused.code.outcome() == Outcome::NotApplied => refused,
        settled => return settled,
    };
    // A repeat, when the glance was at a leader that leads no more.
    match app.peek_reservation(key).await {
        Ok(Some((_, earlier))) => assigned((key, &earlier), mark, true),
        Ok(None) => Err(refused),
        Err(unsure) => Err(unsure),
    }
}

/// Takes the seats for a reservation that is not known to be there; waits for it.
async fn take(
    app: &Shared,
    caller: &Caller,
    id: &str,
    wanted: &Wanted,
    (key, mark): (EntityKey, Mark),
) -> Result<Response, Problem> {
    let show = app.show_key(id)?;
    let terms = app.show_terms(show).await?;
    let (seats, entry) = named(app, caller, (show, &terms), wanted).await?.map_err(Problem::invalid)?;
    match app.check_number(show, entry.number).await? {
        Ok(()) => {}
        Err(QueueRejection::Passed) => return Err(Problem::new(Code::TicketExpired)),
        Err(QueueRejection::Waiting | QueueRejection::NotFound | QueueRejection::Busy | QueueRejection::NotWanted) => {
            return Err(Problem::new(Code::NotAdmitted));
        }
    }
    let assignment = assignment(caller, key, mark, (show, entry.number), &seats)?;
    let section = assignment.section;
    let take = Take { seats_total: terms.section_seats(section), assignment };
    let command = codec::encode(&AreaCommand::Take(Box::new(take)));
    let deadline = Instant::now() + PATIENCE;
    let not_yet = |refusal: &AreaRejection| (*refusal == AreaRejection::Busy).then(|| Problem::new(Code::Overloaded));
    if let Err(refusal) = app.ask_patiently(area_key(show, section), command, deadline, not_yet).await? {
        return Err(area_refusal(&refusal, &seats[0].row.section));
    }
    let made: Told<ReservationState> = app.await_beyond(key, Version(0), deadline).await?;
    assigned((key, &made.state), mark, false).map_err(Problem::past_commit)
}

/// The reply of the request that made a reservation, as it was then.
fn assigned((key, state): (EntityKey, &ReservationState), mark: Mark, replayed: bool) -> Result<Response, Problem> {
    let made = state.assignment().map(|made| (made.claim, made.fingerprint));
    if made != Some(mark) {
        return Err(Problem::new(Code::KeyReused));
    }
    let (id, first) = (kinds::text_id(key), Version(1));
    let view = reservation_view(&id, first, &state.as_assigned())?;
    let response = reply(StatusCode::CREATED, first, replayed, &view);
    Ok(located(response, &format!("/v1/reservations/{id}")))
}

fn assignment(
    caller: &Caller,
    reservation: EntityKey,
    (claim, fingerprint): Mark,
    (show, number): (EntityKey, QueueNumber),
    seats: &[Seat<'_>],
) -> Result<Assignment, Problem> {
    if caller.subject.len() > OWNER_BYTES_MAX {
        return Err(Problem::because(Code::WrongRole, "The name in this token is too long to reserve seats."));
    }
    let first = seats.first().ok_or_else(|| Problem::new(Code::Internal))?;
    let sum = seats.iter().try_fold(Money::krw(0), |sum, seat| sum.checked_add(seat.row.price));
    Ok(Assignment {
        reservation,
        serial: Serial(0),
        show,
        section: first.section,
        section_name: first.row.section.clone(),
        seats: seats.iter().map(|seat| seat.number).collect(),
        amount: sum.map_err(|_| Problem::new(Code::Internal))?,
        owner: caller.subject.clone(),
        number,
        claim,
        fingerprint,
        assigned_at: Timestamp(0),
    })
}

/// What a request names, as far as its body reads.
struct Wanted {
    ticket: Option<String>,
    seats: Vec<Option<String>>,
}

fn read_wanted(body: &JsonBody) -> Result<(Wanted, Vec<u8>, Vec<Fault>), Problem> {
    let faults = Faults::default();
    let value = body.value(&faults)?;
    let canonical = json::canonical(&value);
    let mut root = Object::root(value, &faults);
    let ticket = root.required_text("ticket");
    let given = root.given("seats");
    let seats = root.texts("seats", RESERVATION_SEATS_MAX);
    if !given || seats.as_ref().is_some_and(Vec::is_empty) {
        root.fault("seats", "required", format!("1 to {RESERVATION_SEATS_MAX} seats."));
    }
    root.done();
    Ok((Wanted { ticket, seats: seats.unwrap_or_default() }, canonical, faults.into_found()))
}

/// What can be told of what a body names that has other faults.
async fn looked_up(
    app: &Shared,
    caller: &Caller,
    id: &str,
    wanted: &Wanted,
) -> Result<Result<(), Vec<Fault>>, Problem> {
    let show = app.show_key(id)?;
    let terms = app.show_terms(show).await?;
    Ok(named(app, caller, (show, &terms), wanted).await?.map(drop))
}

/// The seats and the caller's own place in the queue behind what is named; every fault of both.
async fn named<'a>(
    app: &Shared,
    caller: &Caller,
    (show, terms): (EntityKey, &'a Terms),
    wanted: &Wanted,
) -> Result<Result<(Vec<Seat<'a>>, Entry), Vec<Fault>>, Problem> {
    let (seats, mut faults) = seats_of(terms, &wanted.seats);
    let own = ticket_key(show, &caller.subject);
    let is_own = |ticket: &String| app.door.kinds().parse(ticket) == Some(own);
    let entry = match wanted.ticket.as_ref().filter(|ticket| is_own(ticket)) {
        Some(_) => app.own_entry(own).await?.map(|(_, entry)| entry),
        None => None,
    };
    if wanted.ticket.is_some() && entry.is_none() {
        faults.push(fault("/ticket", "unknown_ticket", "This is not your ticket of this show."));
    }
    match entry {
        Some(entry) if faults.is_empty() => Ok(Ok((seats, entry))),
        Some(_) | None => Ok(Err(faults)),
    }
}

fn fault(pointer: &str, code: &'static str, detail: &'static str) -> Fault {
    Fault { pointer: pointer.to_owned(), code, detail: detail.into() }
}

/// The seats behind the names, in the order of their numbers; every fault of them.
fn seats_of<'a>(terms: &'a Terms, names: &[Option<String>]) -> (Vec<Seat<'a>>, Vec<Fault>) {
    let (mut seats, mut seen, mut faults) = (Vec::new(), BTreeSet::new(), Vec::new());
    for (position, name) in names.iter().enumerate() {
        let Some(name) = name else { continue };
        let mut note = |code, detail| faults.push(fault(&format!("/seats/{position}"), code, detail));
        match terms.seat(name) {
            None => note("unknown_seat", "This show has no such seat."),
            Some(seat) if !seen.insert((seat.section, seat.number)) => note("duplicate", "This seat is named twice."),
            Some(seat) => seats.push(seat),
        }
    }
    let sections: BTreeSet<_> = seats.iter().map(|seat| seat.section).collect();
    if sections.len() > 1 {
        faults.push(fault("/seats", "several_sections", "The seats of one reservation are in one section."));
    }
    seats.sort_by_key(|seat| seat.number);
    (seats, faults)
}

/// One of the caller's reservations.
#[utoipa::path(get, path = "/v1/reservations/{id}", tag = "concert", params(("id" = String, Path)),
    security(("bearer" = [])),
    responses((status = 200, body = ReservationView, headers(("ETag" = String))),
        (status = 404, body = ProblemDocument)))]
async fn detail(State(app): State<App>, User(caller): User, Segment(id): Segment) -> Result<Response, Problem> {
    let Open { version, state, .. } = app.own_reservation(&caller, &id).await?;
    Ok(reply(StatusCode::OK, version, false, &reservation_view(&id, version, &state)?))
}

/// The caller's reservations, newest first.
#[utoipa::path(get, path = "/v1/reservations", tag = "concert", security(("bearer" = [])),
    params(("limit" = Option<u16>, Query, minimum = 1, maximum = 100), ("cursor" = Option<String>, Query)),
    responses((status = 200, body = Page<ReservationView>), (status = 422, body = ProblemDocument)))]
async fn list(
    State(app): State<App>,
    User(caller): User,
    RawQuery(query): RawQuery,
) -> Result<Json<Page<ReservationView>>, Problem> {
    let (app, owner) = (&app, caller.subject.as_str());
    let read = |key| async move {
        let mine = app.peek_reservation(key).await?.filter(|(_, state)| state.owner() == owner);
        mine.map(|(version, state)| reservation_view(&kinds::text_id(key), version, &state)).transpose()
    };
    app.list(Listing::of("reservations", kinds::INDEX_RESERVATION_OWNER, owner), query.as_deref(), read).await
}

/// Asks for the payment. The reply says that it is pending; the reservation, and its stream, what became of it.
#[utoipa::path(post, path = "/v1/reservations/{id}/payment", tag = "concert",
    request_body = ReservationPaymentBody, params(("id" = String, Path), ("Idempotency-Key" = String, Header), ("If-Match" = Option<String>, Header)),
    security(("bearer" = [])),
    responses((status = 202, body = ReservationView, headers(("ETag" = String))),
        (status = 404, body = ProblemDocument), (status = 409, body = ProblemDocument), (status = 412, body = ProblemDocument),
        (status = 422, body = ProblemDocument)))]
async fn pay(State(app): State<App>, asked: Upon<User>) -> Result<Response, Problem> {
    let (method, payment_key, canonical) = read_pay(&asked.body)?;
    let mark = asked.mark(&app, &canonical);
    for tries in 0..TRIES_MAX {
        let Open { key, version, .. } = match tries {
            0 => app.own_at_a_glance(&asked.caller, &asked.id).await?,
            _ => app.own_reservation(&asked.caller, &asked.id).await?,
        };
        let with = app.holding(&asked.posted, key, mark).await?;
        let told = match app.pay_reservation((key, version), with, method, payment_key.as_deref()).await {
            Err(problem) if problem.code == Code::VersionMismatch => continue,
            told => told?,
        };
        let view = reservation_view(&asked.id, told.version, &told.state)?;
        return Ok(reply(StatusCode::ACCEPTED, told.version, told.replayed, &view));
    }
    Err(Problem::new(Code::Overloaded))
}

impl Shared {
    /// A card's key comes under a data key of its own, which only this command's record may bring: hence the version.
    async fn pay_reservation(
        &self,
        (key, version): (EntityKey, Version),
        mut with: With,
        method: Method,
        payment_key: Option<&str>,
    ) -> Result<Told<ReservationState>, Problem> {
        let sealed = payment_key.map(|payment_key| {
            let personal = codec::encode(&PaymentKey(Private(payment_key.to_owned())));
            let (sealed, wrapped) = self.door.seal_new(key, &personal);
            (with.if_version, with.new_key) = (with.if_version.or(Some(version)), Some(wrapped));
            sealed
        });
        let command = ReservationCommand::Pay(Box::new(Payment { method, sealed }));
        self.tell(key, &command, with, reservation_refusal).await
    }
}

/// `{"payment": {...}}` as an order has it, or the payment alone.
fn read_pay(body: &JsonBody) -> Result<(Method, Option<String>, Vec<u8>), Problem> {
    let faults = Faults::default();
    let value = body.value(&faults)?;
    let canonical = json::canonical(&value);
    let mut root = Object::root(value, &faults);
    let payment = if root.given("payment") {
        let payment = root.required_object("payment").and_then(read_payment);
        for name in ["method", "payment_key"] {
            if root.take(name).is_some() {
                root.fault(name, "ambiguous", "Either in the payment, or beside it.");
            }
        }
        root.done();
        payment
    } else {
        // `null` says that it is not here.
        let _null = root.take("payment");
        read_payment(root)
    };
    faults.check()?;
    let (method, payment_key) = payment.ok_or_else(|| Problem::new(Code::Internal))?;
    Ok((method, payment_key, canonical))
}

/// Gives the seats back, and what was paid for them: until seven days after the confirmation.
#[utoipa::path(post, path = "/v1/reservations/{id}/cancel", tag = "concert", security(("bearer" = [])),
    params(("id" = String, Path), ("Idempotency-Key" = String, Header), ("If-Match" = Option<String>, Header)),
    responses((status = 200, body = ReservationView), (status = 404, body = ProblemDocument),
        (status = 409, body = ProblemDocument), (status = 412, body = ProblemDocument)))]
async fn cancel(State(app): State<App>, asked: Upon<User>) -> Result<Response, Problem> {
    let mark = asked.mark_empty(&app)?;
    let Open { key, .. } = app.own_reservation(&asked.caller, &asked.id).await?;
    let with = app.holding(&asked.posted, key, mark).await?;
    let command = ReservationCommand::Cancel;
    let told: Told<ReservationState> = app.tell(key, &command, with, reservation_refusal).await?;
    let view = reservation_view(&asked.id, told.version, &told.state)?;
    Ok(reply(StatusCode::OK, told.version, told.replayed, &view))
}

/// The journal, oldest first.
#[utoipa::path(get, path = "/v1/reservations/{id}/events", tag = "concert", security(("bearer" = [])),
    params(("id" = String, Path), ("limit" = Option<u16>, Query, minimum = 1, maximum = 100),
        ("cursor" = Option<String>, Query)),
    responses((status = 200, body = Page<EventView>), (status = 404, body = ProblemDocument)))]
async fn events(State(app): State<App>, page: PageOf) -> Result<Json<Page<EventView>>, Problem> {
    let Open { key, .. } = app.own_reservation(&page.caller, &page.id).await?;
    journal_page(&app, key, &page).await
}

/// The reservation, live. Each event's `data` is the reservation at the version in `id`.
#[utoipa::path(get, path = "/v1/reservations/{id}/stream", tag = "concert", security(("bearer" = [])),
    params(("id" = String, Path), ("Last-Event-ID" = Option<u64>, Header)),
    responses((status = 200, body = String, content_type = "text/event-stream"),
        (status = 404, body = ProblemDocument), (status = 503, body = ProblemDocument)))]
async fn watch(
    State(app): State<App>,
    User(caller): User,
    Segment(id): Segment,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let Open { key, version, state } = app.own_reservation(&caller, &id).await?;
    let view = move |version, state: ReservationState| reservation_view(&id, version, &state);
    follow(app, key, (version, codec::encode(&state)), &headers, rendered(view))
}

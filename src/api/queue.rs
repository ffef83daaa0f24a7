//! A show's waiting queue, from the door's side (ADR-12).
//!
//! A user has one ticket a show. Its number says where it stands: by the queue's counts, which a node keeps for a second,
//! while it waits; by the queue itself once it may be admitted. A repeat under the same key gets the first reply again; any
//! other request of who has a ticket hears where it stands; whose number has passed queues again.

use crate::actors::door::{Ask, AskError};
use crate::api::auth::Caller;
use crate::api::dto::ProblemDocument;
use crate::api::extract::{Segment, User};
use crate::api::patience::PATIENCE;
use crate::api::problem::{Code, Problem};
use crate::api::refusal::queue_refusal;
use crate::api::router::{App, Shared};
use crate::api::stream::{News, RETRY, last_event, tell_news};
use crate::api::telling::{Told, located, reply};
use crate::api::upon::Upon;
use crate::domain::kinds;
use crate::domain::queue::{Enter, QueueCommand, QueueRejection, QueueState, Room, queue_key};
use crate::domain::ticket::{Entry, QueueNumber, TicketState, ticket_key};
use crate::types::codec;
use crate::types::ids::{EntityKey, Version};
use axum::extract::State;
use axum::response::Response;
use axum::response::sse::Event;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use serde::Serialize;
use sha2::{Digest, Sha256};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, sleep, timeout};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

/// Shortest span between two events of a stream (so long are counts kept), and the longest without a look.
const PACE: Duration = Duration::from_secs(1);
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// The routes of this file.
pub fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(enter)).routes(routes!(detail)).routes(routes!(watch))
}

/// A place in a queue.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct TicketView {
    #[schema(example = "qt_5f1c2d3e4f5061728394a5b6c7d8e9f0")]
    pub ticket: String,
    pub show_id: String,
    /// Before how many it stands, itself included: 1 is next; 0 once it waits no more.
    pub position: u64,
    /// An estimate of how long it waits.
    pub eta_seconds: u64,
    /// `waiting`, `admitted` or `expired`: its time is over, or a seat was bought with it.
    #[schema(example = "waiting")]
    pub status: TicketStatus,
}

/// Where a ticket stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum TicketStatus {
    Waiting,
    Admitted,
    Expired,
}

/// A reply with a tag of what is told: where a ticket stands changes without a record of its own.
fn told(status: StatusCode, replayed: bool, view: &TicketView) -> Result<Response, Problem> {
    let bytes = serde_json::to_vec(view).map_err(|_| Problem::new(Code::Internal))?;
    let tag = format!("\"{}\"", hex::encode(&Sha256::digest(&bytes)[..8]));
    let mut response = reply(status, Version(0), replayed, view);
    let tag = HeaderValue::from_str(&tag).map_err(|_| Problem::new(Code::Internal))?;
    response.headers_mut().insert(header::ETAG, tag);
    Ok(response)
}

/// A user's ticket of a show.
#[derive(Clone, Copy)]
pub struct Holder {
    pub show: EntityKey,
    pub ticket: EntityKey,
}

impl Holder {
    fn of(show: EntityKey, caller: &Caller) -> Self {
        Self { show, ticket: ticket_key(show, &caller.subject) }
    }

    fn view(&self, status: TicketStatus, position: u64, eta_seconds: u64) -> TicketView {
        let (ticket, show_id) = (kinds::text_id(self.ticket), kinds::text_id(self.show));
        TicketView { ticket, show_id, position, eta_seconds, status }
    }

    /// As its request was answered, whatever became of it since.
    fn as_entered(&self, entry: &Entry) -> TicketView {
        let status = if entry.admitted { TicketStatus::Admitted } else { TicketStatus::Waiting };
        self.view(status, entry.position, entry.eta_seconds)
    }
}

fn entry_of(ticket: Option<Told<TicketState>>) -> Option<(Version, Entry)> {
    ticket.and_then(|told| Some((told.version, *told.state.get()?)))
}

impl Shared {
    /// The counts of a show's queue, a second old at most; `None` when nobody entered yet.
    async fn room(&self, show: EntityKey) -> Result<Option<Arc<Room>>, Problem> {
        let (id, now) = (show.hex(), self.clock.boot());
        if let Some(room) = self.rooms.get(&id, now) {
            return Ok(Some(room));
        }
        let told: Option<Told<QueueState>> = self.look(queue_key(show)).await?;
        Ok(told.and_then(|told| self.note_room(show, &told.state)))
    }

    fn note_room(&self, show: EntityKey, state: &QueueState) -> Option<Arc<Room>> {
        let room = Arc::new(state.get()?.room.clone());
        self.rooms.keep(&show.hex(), room.clone(), self.clock.boot());
        Some(room)
    }

    /// Whether the queue lets a number in now: its refusal otherwise.
    ///
    /// # Errors
    /// What the runtime says.
    pub async fn check_number(
        &self,
        show: EntityKey,
        number: QueueNumber,
    ) -> Result<Result<(), QueueRejection>, Problem> {
        let command = codec::encode(&QueueCommand::Check(number));
        let ask = Ask { key: queue_key(show), command, idempotency: None, if_version: None, new_key: None };
        match self.door.ask(ask).await {
            Ok(answer) => {
                let state = codec::decode(&answer.state).map_err(|_| Problem::new(Code::Internal))?;
                self.note_room(show, &state);
                Ok(Ok(()))
            }
            Err(AskError::Rejected { rejection, .. }) => {
                codec::decode(&rejection).map(Err).map_err(|_| Problem::new(Code::Internal))
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Has the queue issue a number, which its ticket then takes or refuses.
    async fn ask_for_number(&self, enter: Enter, deadline: Instant) -> Result<(), Problem> {
        let show = enter.show;
        let command = codec::encode(&QueueCommand::Enter(Box::new(enter)));
        let not_yet =
            |refusal: &QueueRejection| (*refusal == QueueRejection::Busy).then(|| Problem::new(Code::Overloaded));
        let asked = self.ask_patiently(queue_key(show), command, deadline, not_yet).await?;
        let answer = asked.map_err(|refusal| queue_refusal(&refusal))?;
        if let Ok(state) = codec::decode(&answer.state) {
            self.note_room(show, &state);
        }
        Ok(())
    }

    /// Where a ticket stands.
    async fn standing(&self, holder: &Holder, number: QueueNumber) -> Result<TicketView, Problem> {
        let room = self.room(holder.show).await?.ok_or_else(|| Problem::new(Code::NotFound))?;
        let waits = |room: &Room| {
            let (position, eta) = (room.position(number), room.eta_seconds(number, self.clock.now()));
            holder.view(TicketStatus::Waiting, position, eta)
        };
        if room.position(number) > 0 {
            return Ok(waits(&room));
        }
        match self.check_number(holder.show, number).await? {
            Ok(()) => Ok(holder.view(TicketStatus::Admitted, 0, 0)),
            Err(QueueRejection::Passed) => Ok(holder.view(TicketStatus::Expired, 0, 0)),
            Err(QueueRejection::Waiting) => Ok(waits(&room)),
            Err(refusal @ (QueueRejection::NotFound | QueueRejection::Busy | QueueRejection::NotWanted)) => {
                Err(queue_refusal(&refusal))
            }
        }
    }

    /// The number of the caller's own ticket; `None` without one.
    ///
    /// # Errors
    /// What the runtime says.
    pub async fn own_entry(&self, ticket: EntityKey) -> Result<Option<(Version, Entry)>, Problem> {
        Ok(entry_of(self.look(ticket).await?))
    }

    /// The ticket that a path names, if it is the caller's own.
    async fn named_ticket(&self, caller: &Caller, show: &str, ticket: &str) -> Result<(Holder, Entry), Problem> {
        let holder = Holder::of(self.show_key(show)?, caller);
        if self.key_of(kinds::TICKET, ticket)? != holder.ticket {
            return Err(Problem::new(Code::NotFound));
        }
        let (_, entry) = self.own_entry(holder.ticket).await?.ok_or_else(|| Problem::new(Code::NotFound))?;
        Ok((holder, entry))
    }
}

/// Enters the queue of a show. Who has a ticket keeps its place.
#[utoipa::path(post, path = "/v1/shows/{id}/queue", tag = "concert", security(("bearer" = [])),
    params(("id" = String, Path), ("Idempotency-Key" = String, Header)),
    responses((status = 201, body = TicketView, headers(("Location" = String), ("ETag" = String))),
        (status = 200, body = TicketView, headers(("ETag" = String))),
        (status = 404, body = ProblemDocument), (status = 503, body = ProblemDocument)))]
async fn enter(State(app): State<App>, asked: Upon<User>) -> Result<Response, Problem> {
    let (claim, _) = asked.mark_empty(&app)?;
    let show = app.show_key(&asked.id)?;
    let terms = app.show_terms(show).await?;
    let holder = Holder::of(show, &asked.caller);
    let deadline = Instant::now() + PATIENCE;
    let mut known = entry_of(app.glance(holder.ticket).await?);
    let mut asked = false;
    loop {
        let mut replaces = None;
        if let Some((_, entry)) = &known {
            if entry.claim == claim {
                return entered(&holder, entry, !asked);
            }
            let standing = app.standing(&holder, entry.number).await;
            let standing = standing.map_err(|problem| if asked { problem.past_commit() } else { problem })?;
            // Another request of the same user came first; or the glance was at a leader that leads no more, and what its
            // successor issued is over by now.
            if standing.status != TicketStatus::Expired || Instant::now() >= deadline {
                return told(StatusCode::OK, false, &standing);
            }
            replaces = Some(entry.number);
        }
        // Whether there is a ticket is the ticket's to decide: the queue drops a number that it does not take.
        let enter = Enter { show, admission: terms.admission, ticket: holder.ticket, replaces, claim };
        app.ask_for_number(enter, deadline).await?;
        let after = known.map_or(Version(0), |(version, _)| version);
        let issued = app.await_beyond(holder.ticket, after, deadline).await?;
        known = Some(entry_of(Some(issued)).ok_or_else(|| Problem::new(Code::OutcomeUnknown))?);
        asked = true;
    }
}

fn entered(holder: &Holder, entry: &Entry, replayed: bool) -> Result<Response, Problem> {
    let view = holder.as_entered(entry);
    let path = format!("/v1/shows/{}/queue/{}", view.show_id, view.ticket);
    Ok(located(told(StatusCode::CREATED, replayed, &view)?, &path))
}

/// Where the caller's ticket stands.
#[utoipa::path(get, path = "/v1/shows/{id}/queue/{ticket}", tag = "concert", security(("bearer" = [])),
    params(("id" = String, Path), ("ticket" = String, Path)),
    responses((status = 200, body = TicketView, headers(("ETag" = String))), (status = 404, body = ProblemDocument)))]
async fn detail(
    State(app): State<App>,
    User(caller): User,
    Segment((id, ticket)): Segment<(String, String)>,
) -> Result<Response, Problem> {
    let (holder, entry) = app.named_ticket(&caller, &id, &ticket).await?;
    told(StatusCode::OK, false, &app.standing(&holder, entry.number).await?)
}

/// The ticket, live: told whenever it stands elsewhere, at most once a second. Ends when it has expired. `id` is the
/// sequence number of the queue's journal as of which it stood so: the queue moves, the ticket does not. Several events may
/// have one `id`, because time moves tickets as well. Who resumes with `Last-Event-ID` is told where the ticket stands once
/// that has moved; the steps between are not told again.
#[utoipa::path(get, path = "/v1/shows/{id}/queue/{ticket}/stream", tag = "concert", security(("bearer" = [])),
    params(("id" = String, Path), ("ticket" = String, Path), ("Last-Event-ID" = Option<u64>, Header)),
    responses((status = 200, body = String, content_type = "text/event-stream"),
        (status = 404, body = ProblemDocument), (status = 503, body = ProblemDocument)))]
async fn watch(
    State(app): State<App>,
    User(caller): User,
    Segment((id, ticket)): Segment<(String, String)>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let (holder, entry) = app.named_ticket(&caller, &id, &ticket).await?;
    let place = app.streams.clone().try_acquire_owned().map_err(|_| Problem::new(Code::Overloaded))?;
    // Who has a ticket has a queue: this does not wait.
    let seen = app.door.changed(queue_key(holder.show), Version(0)).await?;
    let is_known = last_event(&headers) == Some(seen);
    let watch = Watch { app: app.clone(), holder, number: entry.number, told: None, is_known, seen, _place: place };
    Ok(tell_news(&app, watch))
}

/// A ticket being watched.
struct Watch {
    app: App,
    holder: Holder,
    number: QueueNumber,
    told: Option<TicketView>,
    /// Where it stands at `seen` was told, here or in the stream that this one resumes.
    is_known: bool,
    /// The queue's version that was looked at last.
    seen: Version,
    _place: OwnedSemaphorePermit,
}

impl News for Watch {
    fn is_over(&self) -> bool {
        self.told.as_ref().is_some_and(|told| told.status == TicketStatus::Expired)
    }

    async fn news(&mut self) -> Result<Option<Event>, Problem> {
        if std::mem::replace(&mut self.is_known, true) {
            let queue = queue_key(self.holder.show);
            // Time alone lets a ticket expire, which the queue may write down later.
            if let Ok(changed) = timeout(LOOK_EVERY, self.app.door.changed(queue, self.seen)).await {
                self.seen = changed?;
                sleep(PACE).await;
            }
        }
        let view = self.app.standing(&self.holder, self.number).await?;
        if self.told.as_ref() == Some(&view) {
            return Ok(None);
        }
        let text = serde_json::to_string(&view).map_err(|_| Problem::new(Code::Internal))?;
        self.told = Some(view);
        Ok(Some(Event::default().id(self.seen.to_string()).retry(RETRY).data(text)))
    }
}

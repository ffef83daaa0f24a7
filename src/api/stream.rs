//! Live status as Server-Sent Events: one event for each record of an entity's journal, `id` = its version.
//!
//! A new stream begins with the entity as it is. One that resumes (`Last-Event-ID`) gets every version after that one,
//! rebuilt by the same `evolve` that made them, so that nothing is skipped and nothing comes twice. A stream that
//! cannot go on ends; the client's own reconnect resumes it.

use crate::actors::door::{AskError, JournalRow};
use crate::api::asking::OpenGift;
use crate::api::dto::ProblemDocument;
use crate::api::extract::{Segment, User};
use crate::api::gift_view::gift_view;
use crate::api::problem::{Code, Problem};
use crate::api::router::App;
use crate::domain::gift::{GiftState, Personal};
use crate::types::codec;
use crate::types::ids::{EntityKey, Version};
use crate::types::kind::Live;
use crate::types::record::Sealed;
use axum::extract::State;
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::future::BoxFuture;
use futures_util::stream;
use futures_util::{Stream, StreamExt};
use http::{HeaderMap, HeaderName, HeaderValue};
use serde::{Serialize, de::DeserializeOwned};
use std::collections::VecDeque;
use std::convert::Infallible;
use std::future::Future;
use std::marker::PhantomData;
use std::time::Duration;
use tokio::sync::OwnedSemaphorePermit;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

/// Records read at once.
const ROWS_MAX: usize = 64;
/// Pause that a client is told to make before it reconnects.
pub const RETRY: Duration = Duration::from_secs(1);

/// The routes of this file.
pub fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(watch))
}

/// The gift, live. Each event's `data` is the gift at the version in `id`.
#[utoipa::path(get, path = "/v1/gifts/{id}/stream", tag = "gifts", security(("bearer" = [])),
    params(("id" = String, Path), ("Last-Event-ID" = Option<u64>, Header)),
    responses((status = 200, body = String, content_type = "text/event-stream"),
        (status = 404, body = ProblemDocument), (status = 503, body = ProblemDocument)))]
async fn watch(
    State(app): State<App>,
    User(caller): User,
    Segment(id): Segment,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let (key, version, state) = app.own_gift(&caller, &id).await?;
    let view = GiftLine { app: app.clone(), key, id, personal: None };
    follow(app, key, (version, codec::encode(&state)), &headers, Box::new(view))
}

/// What a stream says of an entity at one version.
pub trait LiveView: Send {
    /// The `data` of the event, from the encoded state.
    fn line(&mut self, version: Version, state: Vec<u8>) -> BoxFuture<'_, Result<String, Problem>>;
}

/// A view that the state alone renders.
pub fn rendered<S, V, F>(view: F) -> Box<dyn LiveView>
where
    S: DeserializeOwned + 'static,
    V: Serialize,
    F: FnMut(Version, S) -> Result<V, Problem> + Send + 'static,
{
    Box::new(Rendered(view, PhantomData))
}

struct Rendered<S, F>(F, PhantomData<fn(S)>);

impl<S, V, F> LiveView for Rendered<S, F>
where
    S: DeserializeOwned,
    V: Serialize,
    F: FnMut(Version, S) -> Result<V, Problem> + Send,
{
    fn line(&mut self, version: Version, state: Vec<u8>) -> BoxFuture<'_, Result<String, Problem>> {
        let internal = || Problem::new(Code::Internal);
        let view = codec::decode(&state).map_err(|_| internal()).and_then(|state| (self.0)(version, state));
        let line = view.and_then(|view| serde_json::to_string(&view).map_err(|_| internal()));
        Box::pin(std::future::ready(line))
    }
}

/// Something that is looked at again whenever it may have changed.
pub trait News: Send + Sized {
    /// Waits for a change unless this is the beginning; `None` when it was none to be told.
    fn news(&mut self) -> impl Future<Output = Result<Option<Event>, Problem>> + Send;

    /// Whether there will be none any more.
    fn is_over(&self) -> bool {
        false
    }
}

/// Tells news until there are no more, or looking fails; the client's reconnect resumes it.
pub fn tell_news<N: News + 'static>(app: &App, news: N) -> Response {
    let next = |mut news: N| async move {
        while !news.is_over() {
            match news.news().await {
                Ok(Some(event)) => return Some((Ok(event), news)),
                Ok(None) => {}
                Err(problem) => {
                    tracing::info!(?problem, "live stream ended");
                    return None;
                }
            }
        }
        None
    };
    respond(app, stream::unfold(news, next))
}

/// The `id` of the last event that a client has, when it resumes.
#[must_use]
pub fn last_event(headers: &HeaderMap) -> Option<Version> {
    headers.get("last-event-id").and_then(|value| value.to_str().ok()?.trim().parse().ok().map(Version))
}

/// Follows an entity that stands as `now` says; who may see it was checked before.
///
/// # Errors
/// [`Code::Overloaded`] when there is no place for another stream.
pub fn follow(
    app: App,
    key: EntityKey,
    now: (Version, Vec<u8>),
    headers: &HeaderMap,
    view: Box<dyn LiveView>,
) -> Result<Response, Problem> {
    let place = app.streams.clone().try_acquire_owned().map_err(|_| Problem::new(Code::Overloaded))?;
    let tail = Tail::begin(app.clone(), key, view, now, last_event(headers), place)?;
    Ok(respond(&app, stream::unfold(tail, Tail::next)))
}

/// A live stream as a response, which ends with the server.
pub fn respond(app: &App, events: impl Stream<Item = Result<Event, Infallible>> + Send + 'static) -> Response {
    let keep_alive = KeepAlive::new().interval(app.limits.keep_alive).text("keep-alive");
    let events = events.take_until(app.shutdown.clone().cancelled_owned());
    let mut response = Sse::new(events).keep_alive(keep_alive).into_response();
    // Some proxies hold a response back until it ends unless they are told.
    let unbuffered = HeaderName::from_static("x-accel-buffering");
    response.headers_mut().insert(unbuffered, HeaderValue::from_static("no"));
    response
}

/// A journal being followed.
struct Tail {
    app: App,
    key: EntityKey,
    view: Box<dyn LiveView>,
    /// The entity at `at`.
    live: Box<dyn Live>,
    at: Version,
    /// Versions up to this one are not told.
    told: Version,
    rows: VecDeque<JournalRow>,
    _place: OwnedSemaphorePermit,
}

impl Tail {
    fn begin(
        app: App,
        key: EntityKey,
        view: Box<dyn LiveView>,
        now: (Version, Vec<u8>),
        resume: Option<Version>,
        place: OwnedSemaphorePermit,
    ) -> Result<Self, Problem> {
        let (version, state) = now;
        let kind = app.door.kinds().get(key.kind).ok_or_else(|| Problem::new(Code::Internal))?.clone();
        let damaged = |_| Problem::new(Code::Internal);
        // Behind: from the journal's beginning. Not behind: from the state as it is.
        let (live, at, told) = match resume {
            Some(told) if told < version => (kind.load(key, None).map_err(damaged)?, Version(0), told),
            Some(_) => (kind.load(key, Some(&state)).map_err(damaged)?, version, version),
            None => {
                let before = Version(version.0.saturating_sub(1));
                (kind.load(key, Some(&state)).map_err(damaged)?, version, before)
            }
        };
        Ok(Self { app, key, view, live, at, told, rows: VecDeque::new(), _place: place })
    }

    /// The next event; `None` ends the stream.
    async fn next(mut self) -> Option<(Result<Event, Infallible>, Self)> {
        loop {
            if self.at > self.told {
                let event = self.render().await.ok()?;
                self.told = self.at;
                return Some((Ok(event), self));
            }
            if let Err(error) = self.step().await {
                tracing::info!(%error, "live stream ended");
                return None;
            }
        }
    }

    /// Moves one record on, waiting for it if need be.
    async fn step(&mut self) -> Result<(), AskError> {
        match self.rows.pop_front() {
            Some(row) if row.version == self.at.next() => {
                self.live.evolve(&row.events).map_err(|_| AskError::Malformed)?;
                self.at = row.version;
                Ok(())
            }
            Some(_) => self.reload().await,
            None => {
                let rows = self.app.door.journal(self.key, self.at, ROWS_MAX).await?;
                if rows.is_empty() {
                    self.app.door.changed(self.key, self.at).await?;
                }
                self.rows = rows.into();
                Ok(())
            }
        }
    }

    /// The journal does not reach back this far: goes on with the entity as it is.
    async fn reload(&mut self) -> Result<(), AskError> {
        let answer = self.app.door.read(self.key).await?.ok_or(AskError::Unavailable)?;
        let kind = self.app.door.kinds().get(self.key.kind).ok_or(AskError::Malformed)?;
        self.live = kind.load(self.key, Some(&answer.state)).map_err(|_| AskError::Malformed)?;
        self.at = answer.version;
        self.rows.clear();
        Ok(())
    }

    async fn render(&mut self) -> Result<Event, Problem> {
        let text = self.view.line(self.at, self.live.encode()).await?;
        Ok(Event::default().id(self.at.to_string()).retry(RETRY).data(text))
    }
}

/// A gift as its sender sees it.
struct GiftLine {
    app: App,
    key: EntityKey,
    id: String,
    personal: Option<(Sealed, Option<Personal>)>,
}

impl LiveView for GiftLine {
    fn line(&mut self, version: Version, state: Vec<u8>) -> BoxFuture<'_, Result<String, Problem>> {
        Box::pin(async move {
            let state: GiftState = codec::decode(&state).map_err(|_| Problem::new(Code::Internal))?;
            let personal = self.open_seal(&state).await?;
            let gift = OpenGift { key: self.key, id: self.id.clone(), version, state, personal, replayed: false };
            serde_json::to_string(&gift_view(&gift)).map_err(|_| Problem::new(Code::Internal))
        })
    }
}

impl GiftLine {
    /// Opens the seal once, and again only when it was replaced.
    async fn open_seal(&mut self, state: &GiftState) -> Result<Option<Personal>, Problem> {
        if let (Some(sealed), Some((known, personal))) = (state.sealed(), &self.personal)
            && sealed == known
        {
            return Ok(personal.clone());
        }
        let personal = self.app.personal(self.key, state).await?;
        self.personal = state.sealed().map(|sealed| (sealed.clone(), personal.clone()));
        Ok(personal)
    }
}

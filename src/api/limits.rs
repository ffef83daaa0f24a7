//! What one request may cost: its framing, its body, its place among those being answered, its time.
//!
//! | what | bound | answer |
//! |---|---|---|
//! | `Content-Length` beside `Transfer-Encoding`, not one `Host` | never | 400, and the connection ends |
//! | body | 16 KB, 5 s in all | 413, 408 |
//! | requests being answered | 256 | 503 + `Retry-After`, at once |
//! | one request | 10 s | 503 |
//!
//! The body is read before a place is taken, so that slow senders cannot fill the places; bodies being read have
//! places of their own. Nothing queues.

use crate::api::connection::Activity;
use crate::api::problem::{Code, Problem};
use crate::api::router::App;
use crate::types::limits::BODY_BYTES_MAX;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Version, header};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use std::sync::Arc;
use std::time::Duration;

/// Bounds of the server. All spans are real time.
#[derive(Clone, Copy, Debug)]
pub struct ServerLimits {
    pub connections_max: usize,
    /// Request line and headers, in bytes.
    pub head_bytes_max: usize,
    pub headers_max: usize,
    /// From a head's first byte to its end.
    pub header: Duration,
    /// From a body's first byte to its end.
    pub body: Duration,
    /// A connection without a request; a write that does not move.
    pub idle: Duration,
    /// A served connection without a request for this long gives its buffers back. Below `header`.
    pub park: Duration,
    /// A request, from its body's end to its response's head.
    pub request: Duration,
    /// Requests being answered.
    pub requests_max: usize,
    /// Bodies being read.
    pub bodies_max: usize,
    /// Live streams open.
    pub streams_max: usize,
    pub h2_streams_max: u32,
    /// Between two comments on a quiet live stream.
    pub keep_alive: Duration,
    /// From shutdown to the cut of what is left.
    pub drain: Duration,
}

impl Default for ServerLimits {
    fn default() -> Self {
        Self {
            connections_max: 60_000,
            head_bytes_max: 16 << 10,
            headers_max: 64,
            header: Duration::from_secs(5),
            body: Duration::from_secs(5),
            idle: Duration::from_secs(30),
            park: Duration::from_secs(1),
            request: Duration::from_secs(10),
            requests_max: 256,
            bodies_max: 4_096,
            streams_max: 55_000,
            h2_streams_max: 64,
            keep_alive: Duration::from_secs(20),
            drain: Duration::from_secs(10),
        }
    }
}

/// What differs between groups of routes.
#[derive(Clone, Copy, Debug)]
pub struct RoutePolicy {
    pub body_bytes_max: usize,
    /// Replaces [`ServerLimits::request`].
    pub deadline: Option<Duration>,
    /// Whether the route takes one of [`ServerLimits::requests_max`] places.
    pub takes_place: bool,
}

impl RoutePolicy {
    /// The front door's calls.
    pub const STANDARD: Self = Self { body_bytes_max: BODY_BYTES_MAX, deadline: None, takes_place: true };
    /// Providers send reports in batches.
    pub const WEBHOOK: Self = Self { body_bytes_max: 256 << 10, ..Self::STANDARD };
    /// Calls of operators and of dev mode that walk over everything.
    pub const SLOW: Self = Self { deadline: Some(Duration::from_secs(300)), ..Self::STANDARD };
    /// Probes must answer when the node is at its limit.
    pub const PROBE: Self = Self { takes_place: false, ..Self::STANDARD };
}

/// The middleware. On the way in it replaces the body by the bytes that it read.
pub async fn guard(State((app, policy)): State<(App, RoutePolicy)>, request: Request, next: Next) -> Response {
    match admit(&app, policy, request).await {
        Ok((request, held)) => {
            let response = within_deadline(&app, policy, request, next).await;
            drop(held);
            response
        }
        Err(problem) => problem.into_response(),
    }
}

type Held = Option<tokio::sync::OwnedSemaphorePermit>;

async fn admit(app: &App, policy: RoutePolicy, request: Request) -> Result<(Request, Held), Problem> {
    let (parts, body) = request.into_parts();
    let bytes = read_body(app, policy, &parts.headers, body).await?;
    let request = Request::from_parts(parts, Body::from(bytes));
    let held = match policy.takes_place {
        false => None,
        true => match app.places.clone().try_acquire_owned() {
            Ok(place) => Some(place),
            Err(_) => {
                metrics::counter!("bojagi_http_shed_total").increment(1);
                return Err(Problem::new(Code::Overloaded));
            }
        },
    };
    Ok((request, held))
}

/// The middleware around all routes, and around what is none: a head that another server would read in another way is
/// refused. What follows on its connection may be part of it, so nothing more is heard there.
pub async fn one_reading(request: Request, next: Next) -> Response {
    match refuse_ambiguous_host(&request).and_then(|()| refuse_ambiguous_framing(&request)) {
        Ok(()) => next.run(request).await,
        Err(problem) => {
            let mut response = problem.into_response();
            response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
            response
        }
    }
}

/// RFC 9112, 3.2: HTTP/1.1 names its host once. Requests that did not come over a wire (tests) need not.
fn refuse_ambiguous_host(request: &Request) -> Result<(), Problem> {
    let over_a_wire = request.extensions().get::<Arc<Activity>>().is_some();
    let hosts = request.headers().get_all(header::HOST).iter().count();
    let sound = hosts == 1 || (hosts == 0 && request.version() != Version::HTTP_11);
    if over_a_wire && !sound {
        return Err(Problem::because(Code::BadRequest, "A request names one Host."));
    }
    Ok(())
}

/// RFC 9112, 6.3: a request with both is either an error or an attack.
fn refuse_ambiguous_framing(request: &Request) -> Result<(), Problem> {
    if !request.headers().contains_key(header::TRANSFER_ENCODING) {
        return Ok(());
    }
    let shown = request.headers().contains_key(header::CONTENT_LENGTH);
    let hidden = request.extensions().get::<Arc<Activity>>().is_some_and(|activity| activity.hides_a_length());
    if shown || hidden {
        return Err(Problem::because(Code::BadRequest, "Content-Length and Transfer-Encoding exclude each other."));
    }
    Ok(())
}

async fn read_body(app: &App, policy: RoutePolicy, headers: &HeaderMap, body: Body) -> Result<Bytes, Problem> {
    let bytes_max = policy.body_bytes_max;
    let declared = headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    if declared.is_some_and(|length| length > bytes_max as u64) {
        if !headers.contains_key(header::EXPECT) {
            drain(body).await;
        }
        return Err(too_large(bytes_max));
    }
    if hyper::body::Body::is_end_stream(&body) {
        return Ok(Bytes::new());
    }
    let Ok(_reading) = app.bodies.clone().try_acquire_owned() else {
        return Err(Problem::new(Code::Overloaded));
    };
    let collected = tokio::time::timeout(app.limits.body, Limited::new(body, bytes_max).collect()).await;
    match collected {
        Ok(Ok(whole)) => Ok(whole.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(too_large(bytes_max)),
        Ok(Err(_)) => Err(Problem::because(Code::BadRequest, "The body broke off.")),
        Err(_) => Err(Problem::new(Code::RequestTimeout)),
    }
}

fn too_large(bytes_max: usize) -> Problem {
    Problem::because(Code::PayloadTooLarge, format!("At most {bytes_max} bytes."))
}

/// Reads on for a moment: a socket closed over unread bytes resets, and the caller would never see the 413.
async fn drain(body: Body) {
    const DRAIN_BYTES_MAX: usize = 4 << 20;
    const DRAIN_FOR: Duration = Duration::from_secs(1);
    let mut body = Limited::new(body, DRAIN_BYTES_MAX);
    let read = async { while let Some(Ok(_)) = body.frame().await {} };
    // Whether it came to its end or not, the answer is the same.
    let _ended = tokio::time::timeout(DRAIN_FOR, read).await;
}

async fn within_deadline(app: &App, policy: RoutePolicy, request: Request, next: Next) -> Response {
    let deadline = policy.deadline.unwrap_or(app.limits.request);
    let safe = request.method() == Method::GET || request.method() == Method::HEAD;
    match tokio::time::timeout(deadline, next.run(request)).await {
        Ok(response) => response,
        Err(_) if safe => Problem::because(Code::Unavailable, "The answer took too long.").into_response(),
        Err(_) => Problem::because(Code::OutcomeUnknown, "The answer took too long; repeat with the same key.")
            .into_response(),
    }
}

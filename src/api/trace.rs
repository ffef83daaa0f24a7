//! The outermost middleware: gives a request its trace id and span, turns panics and [`Problem`]s into documents,
//! counts and logs.
//!
//! The log names the route's pattern, never its path: a path may carry a link token.

use crate::api::problem::{Code, Problem};
use crate::api::router::App;
use axum::extract::{MatchedPath, Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use futures_util::FutureExt;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use std::panic::AssertUnwindSafe;
use std::time::Duration;
use tracing::Instrument;

/// Header of every response: the id under which the log knows the request.
pub const TRACE_HEADER: HeaderName = HeaderName::from_static("x-trace-id");

/// A request's trace id, 32 hexadecimal digits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TraceId(pub String);

impl TraceId {
    /// The caller's, from a W3C `traceparent`.
    fn from_headers(headers: &HeaderMap) -> Option<Self> {
        let text = headers.get("traceparent")?.to_str().ok()?;
        let mut parts = text.split('-');
        let (_version, id) = (parts.next()?, parts.next()?);
        let sound = id.len() == 32 && id.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        (sound && id.bytes().any(|b| b != b'0')).then(|| Self(id.to_owned()))
    }

    fn fresh(app: &App) -> Self {
        let mut bytes = [0u8; 16];
        app.door.fill_random(&mut bytes);
        Self(hex::encode(bytes))
    }
}

/// The middleware.
pub async fn trace(State(app): State<App>, mut request: Request, next: Next) -> Response {
    let trace_id = TraceId::from_headers(request.headers()).unwrap_or_else(|| TraceId::fresh(&app));
    let route = request.extensions().get::<MatchedPath>().map_or("-", MatchedPath::as_str).to_owned();
    let method = request.method().clone();
    let started = app.clock.boot();
    request.extensions_mut().insert(trace_id.clone());
    let span = tracing::info_span!("http", trace_id = %trace_id.0, %method, route, entity = tracing::field::Empty);
    let work = AssertUnwindSafe(next.run(request)).catch_unwind();
    let response = async {
        let response = match work.await {
            Ok(response) => response,
            Err(_panic) => {
                // The panic hook has logged the place; the caller gets no cause.
                tracing::error!("a handler panicked");
                Problem::new(Code::Internal).into_response()
            }
        };
        let took_ms = app.clock.boot().0.saturating_sub(started.0);
        let status = response.status().as_u16();
        // What went well is counted, not told: at a peak the log would cost more than the request.
        match status {
            0..=399 => tracing::debug!(status, took_ms, "answered"),
            400..=499 => tracing::info!(status, took_ms, "answered"),
            500.. => tracing::warn!(status, took_ms, "answered"),
        }
        count(method.as_str(), &route, response.status(), took_ms);
        app.door.replied(Duration::from_millis(took_ms), response.status().is_server_error());
        response
    };
    let response = response.instrument(span).await;
    finish(response, &trace_id)
}

fn count(method: &str, route: &str, status: StatusCode, took_ms: u64) {
    let labels = [("method", method.to_owned()), ("route", route.to_owned()), ("status", status.as_u16().to_string())];
    metrics::counter!("bojagi_http_requests_total", &labels).increment(1);
    // Milliseconds of one request stay far below 2^52, so the cast is exact.
    metrics::histogram!("bojagi_http_request_seconds", &labels[..2]).record(took_ms as f64 / 1_000.0);
}

/// Writes the problem document, if there is one, and the headers that every response has.
fn finish(response: Response, trace_id: &TraceId) -> Response {
    let mut response = match response.extensions().get::<Problem>().cloned() {
        Some(problem) => render(&problem, response, trace_id),
        None => response,
    };
    let headers = response.headers_mut();
    headers.insert(TRACE_HEADER, HeaderValue::from_str(&trace_id.0).expect("hexadecimal digits"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    response
}

fn render(problem: &Problem, bare: Response, trace_id: &TraceId) -> Response {
    let document = problem.document(&trace_id.0).to_string();
    let mut headers = bare.headers().clone();
    headers.remove(header::CONTENT_LENGTH);
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
    if let Some(seconds) = problem.retry_after_secs {
        headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    if problem.code.status() == StatusCode::UNAUTHORIZED {
        headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
    (problem.code.status(), headers, document).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_sound_traceparent_is_taken_over() {
        let read = |text: &str| {
            let mut headers = HeaderMap::new();
            headers.insert("traceparent", HeaderValue::from_str(text).unwrap());
            TraceId::from_headers(&headers).map(|id| id.0)
        };
        let id = "4bf92f3577b34da6a3ce929d0e0e4736";
        assert_eq!(read(&format!("00-{id}-00f067aa0ba902b7-01")).as_deref(), Some(id));
        assert_eq!(read("00-00000000000000000000000000000000-00f067aa0ba902b7-01"), None);
        assert_eq!(read("00-XYZ-1-1"), None);
        assert_eq!(read("garbage"), None);
    }
}

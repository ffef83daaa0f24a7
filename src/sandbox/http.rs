//! The one HTTP port: finds the provider by its own path, applies the ordered faults around its answer, and serves
//! people and tests beside them.
//!
//! hyper is driven directly, HTTP/1.1 with keep-alive: a judge that shares the machine must be cheap.

use crate::sandbox::context::{Context, Running};
use crate::sandbox::faults::Verdict;
use crate::sandbox::journal::Mark;
use crate::sandbox::settings::{BODY_BYTES_MAX, Provider};
use crate::sandbox::{fcm, nhn, people, shipping, solapi, toss};
use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONNECTION, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use std::sync::Arc;

/// The connection is closed without an answer, on purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Dropped {
    #[error("the reply is dropped, as ordered")]
    AsOrdered,
    #[error("the ledger cannot be written, so nothing is answered")]
    JournalLost,
    #[error("the body did not arrive")]
    BodyLost,
}

/// One call, read completely.
pub(crate) struct Call<'a> {
    pub context: &'a Arc<Context>,
    pub method: &'a Method,
    pub path: &'a str,
    pub query: &'a str,
    pub headers: &'a HeaderMap,
    pub body: &'a [u8],
    pub verdict: &'a Verdict,
}

impl Call<'_> {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    /// A query parameter, decoded.
    pub(crate) fn parameter(&self, name: &str) -> Option<String> {
        parameter(self.query, name)
    }

    /// The status of an ordered refusal at the door.
    pub(crate) fn turned_away(&self) -> Option<u16> {
        self.verdict.turned_away.map(|(status, _)| status)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Content {
    Json,
    Html,
    Problem,
}

/// What goes back, and when.
pub(crate) struct Answer {
    pub status: u16,
    pub content: Content,
    pub body: Vec<u8>,
    /// The journal must reach here first.
    pub mark: Mark,
    /// Never answered at all; the caller waits until it gives up.
    pub silent: bool,
    /// Released with the reply.
    pub running: Option<Running>,
}

impl Answer {
    pub(crate) fn json(status: u16, body: Vec<u8>) -> Self {
        Self { status, content: Content::Json, body, mark: Mark::default(), silent: false, running: None }
    }

    pub(crate) fn of<T: serde::Serialize>(status: u16, body: &T) -> Self {
        Self::json(status, serde_json::to_vec(body).expect("maps with text keys always serialise"))
    }

    pub(crate) fn after(mut self, mark: Mark) -> Self {
        self.mark = mark;
        self
    }
}

/// Answers one request.
///
/// # Errors
/// [`Dropped`]: the connection is to be closed without a reply.
pub(crate) async fn serve(context: Arc<Context>, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Dropped> {
    let (head, body) = request.into_parts();
    let path = head.uri.path();
    let provider = provider_of(path);
    let body = match Limited::new(body, BODY_BYTES_MAX).collect().await {
        Ok(body) => body.to_bytes(),
        Err(error) if error.is::<http_body_util::LengthLimitError>() => return Ok(plain(413)),
        Err(_broken) => return Err(Dropped::BodyLost),
    };
    let verdict = match provider {
        Some(provider) if context.faults.any() => {
            let accepts = accepts(provider, &head.method, path);
            context.faults.verdict(provider, path, accepts, context.clock.now())
        }
        Some(_) | None => Verdict::default(),
    };
    if verdict.down {
        let mut nobody_home = plain(503);
        // Says that nothing was done, as a load balancer without a healthy backend does.
        nobody_home.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("1"));
        return Ok(nobody_home);
    }
    let call = Call {
        context: &context,
        method: &head.method,
        path,
        query: head.uri.query().unwrap_or_default(),
        headers: &head.headers,
        body: &body,
        verdict: &verdict,
    };
    let answer = match provider {
        Some(Provider::Nhn) => nhn::answer(&call).await,
        Some(Provider::Solapi) => solapi::answer(&call).await,
        Some(Provider::Fcm) => fcm::answer(&call),
        Some(Provider::Toss) => toss::answer(&call).await,
        Some(Provider::Shipping) => shipping::answer(&call),
        Some(Provider::Smtp) | None => people::answer(&call).await,
    };
    finish(&context, answer.map_err(|_lost| Dropped::JournalLost)?, &verdict).await
}

/// Lets the answer out as the faults want it: kept first, then late, dropped or replaced.
async fn finish(context: &Context, answer: Answer, verdict: &Verdict) -> Result<Response<Full<Bytes>>, Dropped> {
    context.journal.durable(answer.mark).await.map_err(|_lost| Dropped::JournalLost)?;
    if answer.silent || verdict.hangs {
        // Ends with the connection: hyper drops this future when the caller hangs up.
        std::future::pending::<()>().await;
    }
    if verdict.delay.0 > 0 {
        tokio::time::sleep(verdict.delay.to_std()).await;
    }
    if verdict.drops_reply {
        return Err(Dropped::AsOrdered);
    }
    if let Some(status) = verdict.fails_after {
        return Ok(plain(status));
    }
    let mut response = Response::new(Full::new(Bytes::from(answer.body)));
    *response.status_mut() = StatusCode::from_u16(answer.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let headers = response.headers_mut();
    match answer.content {
        Content::Json => headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json;charset=UTF-8")),
        Content::Problem => headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json")),
        Content::Html => {
            let policy = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self'; form-action 'none'; frame-ancestors 'none'; base-uri 'none'";
            headers.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static(policy));
            headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
            headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"))
        }
    };
    if let Some((_, Some(seconds))) = verdict.turned_away {
        headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
    }
    Ok(response)
}

/// An empty reply from in front of the provider; the connection ends with it.
fn plain(status: u16) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::new()));
    *response.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    response
}

fn provider_of(path: &str) -> Option<Provider> {
    if path.starts_with("/alimtalk/") {
        return Some(Provider::Nhn);
    }
    if path.starts_with("/messages/v4/") {
        return Some(Provider::Solapi);
    }
    if path.starts_with("/v1/projects/") || path == "/token" {
        return Some(Provider::Fcm);
    }
    if path.starts_with("/shipping/v1/") {
        return Some(Provider::Shipping);
    }
    path.starts_with("/v1/payments/").then_some(Provider::Toss)
}

/// Whether a call has the provider accept something, so that losing its reply leaves the caller in doubt. Making and
/// filling a Solapi group sends nothing yet.
fn accepts(provider: Provider, method: &Method, path: &str) -> bool {
    let sends = path.ends_with("/send") || path.ends_with("/schedule") || path.ends_with("/send-many/detail");
    method != Method::GET && (provider != Provider::Solapi || sends)
}

/// A parameter of a query, percent-decoded; `+` is a space.
pub(crate) fn parameter(query: &str, name: &str) -> Option<String> {
    let pairs = query.split('&').map(|pair| pair.split_once('=').unwrap_or((pair, "")));
    pairs.filter(|(key, _)| decode(key) == name).map(|(_, value)| decode(value)).next()
}

/// Percent-decoding; what is not UTF-8 is replaced.
pub(crate) fn decode(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let pair = bytes.get(at + 1..at + 3).and_then(|pair| std::str::from_utf8(pair).ok());
        let escaped = pair.filter(|_| bytes[at] == b'%').and_then(|pair| u8::from_str_radix(pair, 16).ok());
        match (bytes[at], escaped) {
            (_, Some(byte)) => {
                decoded.push(byte);
                at += 2;
            }
            (b'+', None) => decoded.push(b' '),
            (byte, None) => decoded.push(byte),
        }
        at += 1;
    }
    String::from_utf8_lossy(&decoded).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_the_providers_own() {
        assert_eq!(provider_of("/alimtalk/v2.3/appkeys/a/messages"), Some(Provider::Nhn));
        assert_eq!(provider_of("/messages/v4/list"), Some(Provider::Solapi));
        assert_eq!(provider_of("/v1/projects/p/messages:send"), Some(Provider::Fcm));
        assert_eq!(provider_of("/v1/payments/confirm"), Some(Provider::Toss));
        assert_eq!(provider_of("/shipping/v1/shipments/o_1"), Some(Provider::Shipping));
        assert_eq!(provider_of("/ledger"), None);
    }

    #[test]
    fn only_calls_that_accept_something_can_leave_doubt() {
        let solapi = |path| accepts(Provider::Solapi, &Method::POST, path);
        assert!(solapi("/messages/v4/groups/G1/send") && solapi("/messages/v4/send-many/detail"));
        assert!(!solapi("/messages/v4/groups") && !solapi("/messages/v4/groups/G1/messages"));
        assert!(accepts(Provider::Toss, &Method::POST, "/v1/payments/confirm"));
        assert!(!accepts(Provider::Toss, &Method::GET, "/v1/payments/k"));
    }

    #[test]
    fn queries_are_decoded() {
        let query = "to=%2B8210&when=2026-12-25+14%3A00&bad=%zz&flag";
        assert_eq!(parameter(query, "to").unwrap(), "+8210");
        assert_eq!(parameter(query, "when").unwrap(), "2026-12-25 14:00");
        assert_eq!(parameter(query, "bad").unwrap(), "%zz");
        assert_eq!(parameter(query, "flag").unwrap(), "");
        assert_eq!(parameter(query, "none"), None);
    }
}

//! The HTTP client of all wire clients: one pooled client for each provider, and one rule for what a failure means.
//!
//! A call ends in one of three ways: a reply, `NotConnected` (definitely nothing was sent), or `NoReply` (sent, or
//! partly sent: it may or may not have been performed). Nothing is retried here except what hyper never wrote to a
//! connection; redirects are not followed and no proxy is read from the environment.

use super::settings::SettingsError;
use crate::types::call::{MessageOutcome, RefusalClass};
use crate::types::time::{Millis, Timestamp};
use bytes::Bytes;
use serde::de::DeserializeOwned;
use std::sync::Once;
use std::time::Duration;

/// Connections are made within this span; a connection that is not there by then was never written to.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// Idle connections are given up before servers and balancers usually do (60 s), so that a POST seldom meets a
/// connection that is just being closed, which would be an unknown outcome.
const IDLE_TIMEOUT: Duration = Duration::from_secs(20);
/// Idle connections kept for one host.
const IDLE_CONNECTIONS_MAX: usize = 256;
/// Largest reply that is read: 1,000 looked-up messages with 1,000 characters of Korean text each, and room.
const REPLY_BYTES_MAX: usize = 8 << 20;
/// Longest `Retry-After` that is passed on.
const RETRY_AFTER_SECONDS_MAX: i64 = 3_600;
const RETRY_AFTER_MARK: &str = ";retry-after=";

/// A call without a usable reply. Causes name neither the URL nor the body: both may hold personal data.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum HttpFailure {
    /// Definitely not performed: no connection was made, or the request could not be built.
    #[error("not connected: {cause}")]
    NotConnected { cause: String },
    /// May or may not have been performed.
    #[error("no reply: {cause}")]
    NoReply { cause: String },
}

impl HttpFailure {
    /// As the outcome of a message that was the subject of the call.
    pub(crate) fn message_outcome(&self) -> MessageOutcome {
        match self {
            Self::NotConnected { .. } => {
                MessageOutcome::Refused { code: "not_connected".to_owned(), class: RefusalClass::Retry }
            }
            Self::NoReply { .. } => MessageOutcome::Unknown { cause: self.to_string() },
        }
    }
}

/// A complete reply.
#[derive(Clone, Debug)]
pub(crate) struct HttpReply {
    pub status: u16,
    /// Span after which the provider wants to be asked again.
    pub retry_after: Option<Millis>,
    body: Bytes,
}

impl HttpReply {
    pub(crate) fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }
    /// The body as JSON of type `T`; `None` when it is not.
    pub(crate) fn json<T: DeserializeOwned>(&self) -> Option<T> {
        serde_json::from_slice(&self.body).ok()
    }
    /// `code`, with the provider's `Retry-After` behind it when there is one; [`retry_after_of`] reads it again.
    pub(crate) fn code(&self, code: &str) -> String {
        match self.retry_after {
            Some(span) => format!("{code}{RETRY_AFTER_MARK}{}", span.0.div_euclid(1_000)),
            None => code.to_owned(),
        }
    }
    /// Refused before any work, so worth another try later: over the quota, or turned away at the provider's door
    /// (an empty 503 that says when to come again is a load balancer's, RFC 9110 section 15.6.4).
    pub(crate) fn is_turned_away(&self) -> bool {
        self.status == 429 || (self.status == 503 && self.retry_after.is_some() && self.body.is_empty())
    }
}

/// The provider's `Retry-After` in the code of a `Refused { class: Retry }` outcome, if it gave one (at most 1 h).
#[must_use]
pub fn retry_after_of(code: &str) -> Option<Millis> {
    let (_, seconds) = code.rsplit_once(RETRY_AFTER_MARK)?;
    seconds.parse().ok().map(|seconds: i64| Millis::from_secs(seconds.clamp(0, RETRY_AFTER_SECONDS_MAX)))
}

/// A pooled client for one provider.
#[derive(Clone)]
pub(crate) struct HttpClient {
    client: reqwest::Client,
    base: reqwest::Url,
}

/// rustls is built without a default provider; ring is installed once for the whole process.
fn install_tls_provider() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // Losing the race against another installer is fine: there is a default provider then.
        let _ = rustls::crypto::ring::default_provider().install_default();
    });
}

impl HttpClient {
    /// A client for `base_url` (http or https; a path is kept as a prefix).
    ///
    /// # Errors
    /// [`SettingsError`]: the URL is not an http(s) URL, or the host has no trusted root certificates for https.
    pub(crate) fn new(base_url: &str) -> Result<Self, SettingsError> {
        install_tls_provider();
        // Whatever stands before an @ is a secret, and is not said.
        let shown = base_url.rsplit_once('@').map_or(base_url, |(_, host)| host);
        let bad_url = || SettingsError::BaseUrl { url: shown.to_owned() };
        let base: reqwest::Url = base_url.parse().map_err(|_| bad_url())?;
        let plain = base.query().is_none() && base.fragment().is_none();
        // Credentials in a URL would go out as a header that no provider here takes, and into every error.
        let anonymous = base.username().is_empty() && base.password().is_none();
        if !matches!(base.scheme(), "http" | "https") || base.host_str().is_none() || !plain || !anonymous {
            return Err(bad_url());
        }
        let mut builder = reqwest::Client::builder()
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .retry(reqwest::retry::never())
            .connect_timeout(CONNECT_TIMEOUT)
            .pool_idle_timeout(IDLE_TIMEOUT)
            .pool_max_idle_per_host(IDLE_CONNECTIONS_MAX)
            .tcp_nodelay(true);
        if base.scheme() == "http" {
            // Plain HTTP (the sandbox) must also work on a host without root certificates.
            builder = builder.tls_certs_only([]);
        }
        let client = builder.build().map_err(|error| SettingsError::Tls { cause: describe(&error) })?;
        Ok(Self { client, base })
    }

    /// The base URL with `segments` appended, each percent-encoded.
    pub(crate) fn url(&self, segments: &[&str]) -> reqwest::Url {
        let mut url = self.base.clone();
        url.path_segments_mut()
            .expect("an http URL with a host always has path segments")
            .pop_if_empty()
            .extend(segments);
        url
    }

    pub(crate) fn request(&self, method: reqwest::Method, url: reqwest::Url) -> reqwest::RequestBuilder {
        self.client.request(method, url)
    }

    /// Makes the call within `deadline` and reads the whole reply. `now` resolves a `Retry-After` date.
    pub(crate) async fn call(
        &self,
        request: reqwest::RequestBuilder,
        deadline: Millis,
        now: Timestamp,
    ) -> Result<HttpReply, HttpFailure> {
        let reply = request.timeout(deadline.to_std()).send().await.map_err(classify)?;
        let status = reply.status().as_u16();
        let retry_after =
            reply.headers().get("retry-after").and_then(|value| parse_retry_after(value.to_str().ok()?, now));
        let body = read_body(reply).await?;
        Ok(HttpReply { status, retry_after, body })
    }
}

async fn read_body(mut reply: reqwest::Response) -> Result<Bytes, HttpFailure> {
    let mut body = bytes::BytesMut::new();
    loop {
        match reply.chunk().await {
            Ok(Some(chunk)) if body.len() + chunk.len() > REPLY_BYTES_MAX => {
                return Err(HttpFailure::NoReply { cause: "reply is too large".to_owned() });
            }
            Ok(Some(chunk)) => body.extend_from_slice(&chunk),
            Ok(None) => return Ok(body.freeze()),
            Err(error) => return Err(HttpFailure::NoReply { cause: describe(&error) }),
        }
    }
}

/// Only what failed before a connection existed (or before a request existed) is definite. A connection that broke
/// later may have carried the whole request.
fn classify(error: reqwest::Error) -> HttpFailure {
    let cause = describe(&error);
    if error.is_connect() || error.is_builder() {
        HttpFailure::NotConnected { cause }
    } else {
        HttpFailure::NoReply { cause }
    }
}

/// What went wrong, in a few words and without the URL.
fn describe(error: &reqwest::Error) -> String {
    let what = if error.is_connect() {
        "connect"
    } else if error.is_timeout() {
        "deadline"
    } else if error.is_builder() {
        "request"
    } else {
        "connection"
    };
    let mut source = std::error::Error::source(error);
    let mut last = None;
    while let Some(inner) = source {
        last = Some(inner.to_string());
        source = inner.source();
    }
    match last {
        Some(root) => format!("{what}: {root}"),
        None => what.to_owned(),
    }
}

/// RFC 9110 section 10.2.3: seconds, or an HTTP date.
fn parse_retry_after(value: &str, now: Timestamp) -> Option<Millis> {
    let seconds = match value.trim().parse::<i64>() {
        Ok(seconds) => seconds,
        Err(_) => {
            let date = jiff::fmt::rfc2822::parse(value.trim()).ok()?;
            (Timestamp(date.timestamp().as_millisecond()) - now).0.div_euclid(1_000)
        }
    };
    Some(Millis::from_secs(seconds.clamp(0, RETRY_AFTER_SECONDS_MAX)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retry_after_is_seconds_or_a_date_and_survives_in_the_code() {
        let now = Timestamp::parse_rfc3339("2015-10-21T07:27:30Z").unwrap();
        assert_eq!(parse_retry_after("30", now), Some(Millis::from_secs(30)));
        assert_eq!(parse_retry_after("Wed, 21 Oct 2015 07:28:00 GMT", now), Some(Millis::from_secs(30)));
        assert_eq!(parse_retry_after("soon", now), None);
        assert_eq!(parse_retry_after("-4", now), Some(Millis(0)));
        let reply = HttpReply { status: 429, retry_after: Some(Millis::from_secs(30)), body: Bytes::new() };
        assert_eq!(retry_after_of(&reply.code("QUOTA_EXCEEDED")), Some(Millis::from_secs(30)));
        assert_eq!(retry_after_of("QUOTA_EXCEEDED"), None);
    }

    #[test]
    fn urls_keep_the_base_path_and_encode_segments() {
        let client = HttpClient::new("http://127.0.0.1:1/nhn/").unwrap();
        assert_eq!(client.url(&["a b", "c/d"]).as_str(), "http://127.0.0.1:1/nhn/a%20b/c%2Fd");
        assert!(HttpClient::new("ftp://host").is_err());
        assert!(HttpClient::new("nonsense").is_err());
    }

    #[tokio::test]
    async fn a_port_nobody_listens_on_is_definitely_not_performed() {
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let base = format!("http://{}", free.local_addr().unwrap());
        drop(free);
        let client = HttpClient::new(&base).unwrap();
        let request = client.request(reqwest::Method::POST, client.url(&["x"]));
        let failure = client.call(request, Millis::from_secs(5), Timestamp(0)).await.unwrap_err();
        assert!(matches!(failure, HttpFailure::NotConnected { .. }), "{failure:?}");
        assert!(!failure.to_string().contains("127.0.0.1"), "{failure}");
    }
}

//! A keep-alive HTTP/1.1 connection with one request in flight, reconnecting by itself.

use crate::types::time::Millis;
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HOST, HeaderName, HeaderValue, RETRY_AFTER};
use hyper::{HeaderMap, Method, Request};
use hyper_util::rt::TokioIo;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};

/// Why a request has no reply.
#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    /// Not `http://host:port[/path]`. Nothing was sent.
    #[error("not a plain http:// URL: {url}")]
    BadUrl { url: String },
    /// No connection: nothing was sent.
    #[error("cannot connect to {authority}: {source}")]
    Connect { authority: String, source: std::io::Error },
    /// The connection broke before the whole reply was there: the request may have taken effect.
    #[error("connection broke: {0}")]
    Broken(#[from] hyper::Error),
    /// No whole reply in time: the request may have taken effect.
    #[error("no reply in time")]
    Deadline,
    /// A header value that HTTP cannot carry. Nothing was sent.
    #[error("not a header: {name}")]
    BadHeader { name: String },
}

/// Where requests go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Target {
    /// `host:port`.
    pub(crate) authority: String,
    /// Before every path; without a slash at its end.
    pub(crate) prefix: String,
}

impl Target {
    pub(crate) fn parse(url: &str) -> Result<Self, HttpError> {
        let bad = || HttpError::BadUrl { url: url.to_owned() };
        let uri: hyper::Uri = url.parse().map_err(|_| bad())?;
        let (Some("http"), Some(authority)) = (uri.scheme_str(), uri.authority()) else { return Err(bad()) };
        let authority = match authority.port_u16() {
            Some(_) => authority.to_string(),
            None => format!("{authority}:80"),
        };
        let path = uri.path_and_query().map_or("", |path| path.as_str());
        Ok(Self { authority, prefix: path.trim_end_matches('/').to_owned() })
    }
}

/// One request.
pub(crate) struct Call<'a> {
    pub(crate) method: Method,
    /// With its query, after the target's prefix.
    pub(crate) path: &'a str,
    /// Beyond those of the connection.
    pub(crate) headers: Vec<(HeaderName, HeaderValue)>,
    pub(crate) body: Bytes,
}

impl<'a> Call<'a> {
    pub(crate) fn get(path: &'a str) -> Self {
        Self { method: Method::GET, path, headers: Vec::new(), body: Bytes::new() }
    }
    pub(crate) fn json(method: Method, path: &'a str, body: Bytes) -> Self {
        let headers = vec![(CONTENT_TYPE, HeaderValue::from_static("application/json"))];
        Self { method, path, headers, body }
    }
    pub(crate) fn header(mut self, name: &'static str, value: &str) -> Result<Self, HttpError> {
        self.headers.push((HeaderName::from_static(name), header_value(name, value)?));
        Ok(self)
    }
    /// As the named caller.
    pub(crate) fn bearer(mut self, authorization: &HeaderValue) -> Self {
        self.headers.push((AUTHORIZATION, authorization.clone()));
        self
    }
}

/// A whole reply.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Reply {
    pub(crate) fn retry_after(&self) -> Option<Duration> {
        let seconds = self.headers.get(RETRY_AFTER)?.to_str().ok()?.parse().ok()?;
        Some(Duration::from_secs(seconds))
    }
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

pub(crate) fn header_value(name: &str, value: &str) -> Result<HeaderValue, HttpError> {
    HeaderValue::from_str(value).map_err(|_| HttpError::BadHeader { name: name.to_owned() })
}

/// The `Authorization` of a bearer token.
pub(crate) fn bearer(token: &str) -> Result<HeaderValue, HttpError> {
    header_value("authorization", &format!("Bearer {token}"))
}

/// After a failure a connection goes back to its first target when it has been at others for this long: clients that fail
/// over together would else stand at one node for good.
const HOME_AFTER: Duration = Duration::from_secs(5);

/// The connection. It is made by the first request and made anew after a failure, to the next of its targets.
pub(crate) struct Connection {
    targets: Vec<Target>,
    home: usize,
    /// Of the targets, the one in use.
    at: usize,
    failed_at: Option<Instant>,
    deadline: Duration,
    open: Option<SendRequest<Full<Bytes>>>,
}

impl Connection {
    pub(crate) fn new(target: Target, deadline: Millis) -> Self {
        Self::to_any(vec![target], 0, deadline)
    }

    /// To the first of several that serve the same, beginning with the one at `first`; `targets` is not empty.
    pub(crate) fn to_any(targets: Vec<Target>, first: usize, deadline: Millis) -> Self {
        let home = first % targets.len();
        Self { targets, home, at: home, failed_at: None, deadline: deadline.to_std(), open: None }
    }

    fn target(&self) -> &Target {
        &self.targets[self.at]
    }

    fn give_up(&mut self) {
        self.open = None;
        self.at = (self.at + 1) % self.targets.len();
        self.failed_at = Some(Instant::now());
    }

    fn go_home(&mut self, now: Instant) {
        if self.at != self.home && self.failed_at.is_none_or(|failed_at| now.duration_since(failed_at) >= HOME_AFTER) {
            self.open = None;
            self.at = self.home;
        }
    }

    /// Makes one request and reads the whole reply. Not cancellation safe: drop the connection with it.
    ///
    /// # Errors
    /// [`HttpError`], which tells whether the request may have taken effect.
    pub(crate) async fn call(&mut self, call: Call<'_>) -> Result<Reply, HttpError> {
        match timeout(self.deadline, self.call_now(call)).await {
            Ok(Ok(reply)) => Ok(reply),
            Ok(Err(error)) => {
                self.give_up();
                Err(error)
            }
            Err(_) => {
                self.give_up();
                Err(HttpError::Deadline)
            }
        }
    }

    async fn call_now(&mut self, call: Call<'_>) -> Result<Reply, HttpError> {
        self.go_home(Instant::now());
        self.be_open().await?;
        let request = self.request(call)?;
        let reply = self.open.as_mut().expect("it is open").send_request(request).await?;
        let (head, body) = reply.into_parts();
        let body = body.collect().await?.to_bytes();
        Ok(Reply { status: head.status.as_u16(), headers: head.headers, body })
    }

    fn request(&self, call: Call<'_>) -> Result<Request<Full<Bytes>>, HttpError> {
        let uri = format!("{}{}", self.target().prefix, call.path);
        let mut request = Request::new(Full::new(call.body));
        *request.method_mut() = call.method;
        *request.uri_mut() = uri.parse().map_err(|_| HttpError::BadUrl { url: uri })?;
        let headers = request.headers_mut();
        headers.insert(HOST, header_value("host", &self.target().authority)?);
        headers.extend(call.headers);
        Ok(request)
    }

    /// Connects if need be; a target that cannot be reached has had no request, so the next one is tried at once.
    async fn be_open(&mut self) -> Result<(), HttpError> {
        // A server may have closed it while it was idle.
        if let Some(sender) = &mut self.open
            && sender.ready().await.is_ok()
        {
            return Ok(());
        }
        for _ in 1..self.targets.len() {
            match connect(&self.target().authority).await {
                Ok(sender) => {
                    self.open = Some(sender);
                    return Ok(());
                }
                Err(_) => self.give_up(),
            }
        }
        self.open = Some(connect(&self.target().authority).await?);
        Ok(())
    }
}

async fn connect(authority: &str) -> Result<SendRequest<Full<Bytes>>, HttpError> {
    let failed = |source| HttpError::Connect { authority: authority.to_owned(), source };
    let stream = TcpStream::connect(authority).await.map_err(failed)?;
    stream.set_nodelay(true).map_err(failed)?;
    let (sender, connection) = handshake(TokioIo::new(stream)).await?;
    // The end of a connection is seen by its next request.
    tokio::spawn(async move { drop(connection.await) });
    Ok(sender)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_client_that_failed_over_goes_home_after_a_while() {
        let targets = ["127.0.0.1:1", "127.0.0.1:2", "127.0.0.1:3"]
            .map(|authority| Target { authority: authority.to_owned(), prefix: String::new() });
        let mut connection = Connection::to_any(targets.to_vec(), 4, Millis::from_secs(1));
        assert_eq!(connection.target(), &targets[1]);
        connection.give_up();
        let failed_at = connection.failed_at.unwrap();
        connection.go_home(failed_at + HOME_AFTER - Duration::from_millis(1));
        assert_eq!(connection.target(), &targets[2], "not while it tries again");
        connection.go_home(failed_at + HOME_AFTER);
        assert_eq!(connection.target(), &targets[1]);
    }

    #[test]
    fn targets_are_plain_http_with_a_port() {
        let target = |authority: &str, prefix: &str| Target { authority: authority.into(), prefix: prefix.into() };
        assert_eq!(Target::parse("http://127.0.0.1:8080").unwrap(), target("127.0.0.1:8080", ""));
        assert_eq!(Target::parse("http://gift.example/base/").unwrap(), target("gift.example:80", "/base"));
        for bad in ["https://a:1", "127.0.0.1:8080", "", "http://"] {
            assert!(matches!(Target::parse(bad), Err(HttpError::BadUrl { .. })), "{bad}");
        }
    }
}

//! One connection: parked while nothing is under way, served by hyper while something is.
//!
//! ```text
//! parked --first byte--> serving --1 s without a request--> parked
//!   |                       |
//!   +-- 30 s idle: closed   +-- 5 s for a head (hyper), 30 s of a stalled write: closed
//! ```
//! A parked connection holds its socket and this task, no buffers: that is what makes tens of thousands of idle ones
//! cheap. It also keeps hyper's head timer, which would run between requests too, to what it is for.
//! hyper drops `Content-Length` when `Transfer-Encoding` is there as well, so the wire itself counts the lines: a
//! request whose framing is ambiguous is refused by `limits.rs`.

use crate::api::limits::ServerLimits;
use crate::api::server::Handler;
use axum::body::Body;
use bytes::{Buf, Bytes};
use http::{Request, Response};
use hyper::body::{Body as HttpBody, Frame, Incoming, SizeHint};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;

/// Longest pause between two looks at a connection whose request goes on (a live stream).
const LOOK_EVERY_MAX: Duration = Duration::from_secs(16);
/// First bytes of HTTP/2; no HTTP/1 method begins like this.
const H2_PREFACE: &[u8] = b"PRI ";

/// What the two sides of a connection tell each other.
#[derive(Debug, Default)]
pub struct Activity {
    in_flight: AtomicUsize,
    requests: AtomicU64,
    /// Bytes came in since the last response was done: a head may be half read.
    fresh: AtomicBool,
    write_blocked: AtomicBool,
    written: AtomicU64,
    /// Lines that begin with `Content-Length`, as they came over the wire.
    lengths_seen: AtomicU64,
    /// Requests that still had theirs when they came out of hyper.
    lengths_shown: AtomicU64,
}

impl Activity {
    /// Whether a `Content-Length` came in that hyper did not pass on. A request that also has a
    /// `Transfer-Encoding` is then ambiguous.
    #[must_use]
    pub fn hides_a_length(&self) -> bool {
        self.lengths_seen.load(Ordering::Relaxed) != self.lengths_shown.load(Ordering::Relaxed)
    }

    fn is_quiet(&self) -> bool {
        self.in_flight.load(Ordering::Acquire) == 0
            && !self.fresh.load(Ordering::Acquire)
            && !self.write_blocked.load(Ordering::Acquire)
    }
}

/// Counts one request from its head to the end of its response's body.
struct InFlight(Arc<Activity>);

impl InFlight {
    fn begin(activity: &Arc<Activity>) -> Self {
        activity.in_flight.fetch_add(1, Ordering::AcqRel);
        activity.requests.fetch_add(1, Ordering::AcqRel);
        Self(activity.clone())
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.fresh.store(false, Ordering::Release);
        self.0.in_flight.fetch_sub(1, Ordering::AcqRel);
    }
}

/// The socket, with bytes that were read ahead, watching what passes.
struct Wire {
    stream: TcpStream,
    ahead: Bytes,
    activity: Arc<Activity>,
    matched: usize,
}

const LENGTH_LINE: &[u8] = b"\ncontent-length";

impl Wire {
    /// Notes bytes that come in: finds [`LENGTH_LINE`] across any split of reads.
    fn note(&mut self, bytes: &[u8]) {
        self.activity.fresh.store(true, Ordering::Release);
        for byte in bytes {
            let lower = byte.to_ascii_lowercase();
            self.matched = match lower == LENGTH_LINE[self.matched] {
                true => self.matched + 1,
                false => usize::from(lower == LENGTH_LINE[0]),
            };
            if self.matched == LENGTH_LINE.len() {
                self.activity.lengths_seen.fetch_add(1, Ordering::Relaxed);
                self.matched = 0;
            }
        }
    }
}

impl AsyncRead for Wire {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if !self.ahead.is_empty() {
            let count = self.ahead.len().min(buf.remaining());
            buf.put_slice(&self.ahead[..count]);
            self.ahead.advance(count);
            self.activity.fresh.store(true, Ordering::Release);
            return Poll::Ready(Ok(()));
        }
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(cx, buf))?;
        if buf.filled().len() > before {
            self.note(&buf.filled()[before..]);
        }
        Poll::Ready(Ok(()))
    }
}

impl Wire {
    fn wrote(&self, result: &Poll<io::Result<usize>>) {
        self.activity.write_blocked.store(result.is_pending(), Ordering::Release);
        if let Poll::Ready(Ok(count)) = result {
            self.activity.written.fetch_add(*count as u64, Ordering::Relaxed);
        }
    }
}

impl AsyncWrite for Wire {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.wrote(&result);
        result
    }
    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        self.wrote(&result);
        result
    }
    fn is_write_vectored(&self) -> bool {
        true
    }
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// Everything a connection needs of its server.
#[derive(Clone)]
pub struct ConnectionContext {
    pub handler: Handler,
    pub limits: ServerLimits,
    pub shutdown: CancellationToken,
}

/// Serves a connection until either side is done. Cancellation closes it at once.
pub async fn run(stream: TcpStream, context: ConnectionContext) {
    let activity = Arc::new(Activity::default());
    let mut wire = Wire { stream, ahead: Bytes::new(), activity: activity.clone(), matched: 0 };
    loop {
        if wire.ahead.is_empty() && !first_byte(&wire.stream, &context).await {
            return;
        }
        activity.fresh.store(true, Ordering::Release);
        let is_first = activity.requests.load(Ordering::Acquire) == 0;
        let begins = if is_first { begins_h2(&wire, &context.limits).await } else { Some(false) };
        let Some(is_h2) = begins else { return };
        // Boxed, so that a parked connection does not keep room for hyper's state.
        let served: Pin<Box<dyn Future<Output = Option<Wire>> + Send>> =
            if is_h2 { Box::pin(serve_h2(wire, context.clone())) } else { Box::pin(serve_h1(wire, context.clone())) };
        match served.await {
            Some(parked) => wire = parked,
            None => return,
        }
    }
}

/// Waits for something to read; `false` when the connection is to be closed instead.
async fn first_byte(stream: &TcpStream, context: &ConnectionContext) -> bool {
    tokio::select! {
        readable = stream.readable() => readable.is_ok(),
        () = tokio::time::sleep(context.limits.idle) => false,
        () = context.shutdown.cancelled() => false,
    }
}

/// `None` when the first bytes do not come in time to tell: they count as a head that is too slow.
async fn begins_h2(wire: &Wire, limits: &ServerLimits) -> Option<bool> {
    let mut first = [0u8; 4];
    let look = async {
        loop {
            match wire.stream.peek(&mut first).await {
                Ok(count) if (1..4).contains(&count) && H2_PREFACE.starts_with(&first[..count]) => {
                    // A peeked socket stays readable, so there is no readiness to wait for.
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
                Ok(count) => return &first[..count] == H2_PREFACE,
                Err(_) => return false,
            }
        }
    };
    tokio::time::timeout(limits.header, look).await.ok()
}

/// Serves HTTP/1 until it is over (`None`) or quiet, and then gives the socket back.
async fn serve_h1(wire: Wire, context: ConnectionContext) -> Option<Wire> {
    let activity = wire.activity.clone();
    let limits = context.limits;
    let handler = context.handler.clone();
    let service_activity = activity.clone();
    let service = service_fn(move |request| handle(handler.clone(), service_activity.clone(), request));
    let mut connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.header)
        .max_buf_size(limits.head_bytes_max)
        .max_headers(limits.headers_max)
        .half_close(false)
        .serve_connection(TokioIo::new(wire), service);
    let end = tokio::select! {
        // An error here is the peer's (a reset, a head that is not HTTP); hyper has answered what can be answered.
        _over = &mut connection => return None,
        end = watch(&activity, &limits) => end,
        () = context.shutdown.cancelled() => WatchEnd::Shutdown,
    };
    match end {
        WatchEnd::Stalled => None,
        WatchEnd::Shutdown => {
            Pin::new(&mut connection).graceful_shutdown();
            tokio::select! {
                _over = &mut connection => None,
                _end = watch(&activity, &limits) => None,
            }
        }
        WatchEnd::Quiet => {
            // Quiet means: no request, nothing half read, all writes taken by the kernel. So nothing is lost here.
            let parts = connection.into_parts();
            let mut wire = parts.io.into_inner();
            wire.ahead = parts.read_buf;
            Some(wire)
        }
    }
}

/// Serves HTTP/2 until it is over or idle for too long.
async fn serve_h2(wire: Wire, context: ConnectionContext) -> Option<Wire> {
    let activity = wire.activity.clone();
    let limits = context.limits;
    let handler = context.handler.clone();
    let service_activity = activity.clone();
    let service = service_fn(move |request| handle(handler.clone(), service_activity.clone(), request));
    let head_bytes_max = u32::try_from(limits.head_bytes_max).unwrap_or(u32::MAX);
    let mut connection = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .max_concurrent_streams(limits.h2_streams_max)
        .max_header_list_size(head_bytes_max)
        .max_pending_accept_reset_streams(16)
        .max_local_error_reset_streams(64)
        .max_send_buf_size(64 << 10)
        .keep_alive_interval(Duration::from_secs(20))
        .keep_alive_timeout(Duration::from_secs(10))
        .serve_connection(TokioIo::new(wire), service);
    let idle = async {
        loop {
            match watch_h2(&activity, &limits).await {
                WatchEnd::Quiet | WatchEnd::Stalled => return,
                WatchEnd::Shutdown => {}
            }
        }
    };
    tokio::select! {
        _over = &mut connection => return None,
        () = idle => {}
        () = context.shutdown.cancelled() => {}
    }
    Pin::new(&mut connection).graceful_shutdown();
    // Streams under way may finish; `server.rs` ends them when the drain is over.
    let _over = tokio::time::timeout(limits.request + limits.idle, connection).await;
    None
}

enum WatchEnd {
    Quiet,
    Stalled,
    Shutdown,
}

/// Ends when the connection has been quiet for [`ServerLimits::park`], or its writes have stalled.
async fn watch(activity: &Activity, limits: &ServerLimits) -> WatchEnd {
    let mut every = limits.park;
    let mut stalled = Duration::ZERO;
    loop {
        let before = (activity.requests.load(Ordering::Acquire), activity.written.load(Ordering::Acquire));
        let was_quiet = activity.is_quiet();
        tokio::time::sleep(every).await;
        let after = (activity.requests.load(Ordering::Acquire), activity.written.load(Ordering::Acquire));
        let moved = before != after;
        if was_quiet && !moved && activity.is_quiet() {
            return WatchEnd::Quiet;
        }
        if activity.write_blocked.load(Ordering::Acquire) && !moved {
            stalled += every;
            if stalled >= limits.idle {
                return WatchEnd::Stalled;
            }
        } else {
            stalled = Duration::ZERO;
        }
        let busy = activity.in_flight.load(Ordering::Acquire) > 0;
        every = if busy { (every * 2).min(LOOK_EVERY_MAX) } else { limits.park };
    }
}

/// As [`watch`], over the idle time: HTTP/2 is not parked, and its control frames do not count as activity.
async fn watch_h2(activity: &Activity, limits: &ServerLimits) -> WatchEnd {
    let mut blocked_looks = 0;
    loop {
        let before = activity.requests.load(Ordering::Acquire);
        let written = activity.written.load(Ordering::Acquire);
        tokio::time::sleep(limits.idle).await;
        let idle = activity.in_flight.load(Ordering::Acquire) == 0;
        if idle && before == activity.requests.load(Ordering::Acquire) {
            return WatchEnd::Quiet;
        }
        let stuck =
            activity.write_blocked.load(Ordering::Acquire) && written == activity.written.load(Ordering::Acquire);
        blocked_looks = if stuck { blocked_looks + 1 } else { 0 };
        if blocked_looks >= 2 {
            return WatchEnd::Stalled;
        }
    }
}

/// A response body that keeps its request counted until it is done or dropped.
struct CountedBody {
    inner: Body,
    _counted: InFlight,
}

impl HttpBody for CountedBody {
    type Data = Bytes;
    type Error = axum::Error;
    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        Pin::new(&mut self.inner).poll_frame(cx)
    }
    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }
    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

async fn handle(
    handler: Handler,
    activity: Arc<Activity>,
    request: Request<Incoming>,
) -> Result<Response<CountedBody>, Infallible> {
    let counted = InFlight::begin(&activity);
    if request.headers().contains_key(http::header::CONTENT_LENGTH) {
        activity.lengths_shown.fetch_add(1, Ordering::Relaxed);
    }
    let mut request = request.map(Body::new);
    request.extensions_mut().insert(activity);
    let response = handler.call(request).await;
    Ok(response.map(|inner| CountedBody { inner, _counted: counted }))
}

//! The listener: accepts within a cap, serves each connection (`connection.rs`), drains on shutdown.
//!
//! `axum::serve` has no deadline for heads, no cap and no idle reaper, so the product brings its own loop.

use crate::actors::door::Door;
use crate::api::ApiOptions;
use crate::api::connection::{self, ConnectionContext};
use crate::api::router::{self, Shared};
use axum::Router;
use axum::body::Body;
use http::{Request, Response};
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::ServiceExt;

/// Pause after a failed `accept` (no file descriptors left), so that the loop does not spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// The whole reply to a connection beyond the cap; it is written once and never waited for.
const FULL_REPLY: &[u8] =
    b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";

/// Why the front door could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    #[error("no listener was given")]
    NoListener,
    #[error("the listener has no local address")]
    Listener(#[from] io::Error),
}

/// The routes behind every connection.
#[derive(Clone)]
pub struct Handler(Router);

impl Handler {
    /// Wraps the routes.
    #[must_use]
    pub fn new(router: Router) -> Self {
        Self(router)
    }

    /// Answers one request. Never fails: a failure is a problem document.
    pub async fn call(self, request: Request<Body>) -> Response<Body> {
        match self.0.oneshot(request).await {
            Ok(response) => response,
            Err(never) => match never {},
        }
    }
}

/// Serves the front door on the given listeners until `shutdown`, then drains: parked connections close at once,
/// requests under way finish within [`crate::api::limits::ServerLimits::drain`], live streams end.
///
/// Cancellation: dropping the future closes the listeners and leaves open connections to the runtime's end.
///
/// # Errors
/// [`ServeError`] before anything was served.
pub async fn serve(
    listeners: Vec<TcpListener>,
    options: ApiOptions,
    door: Arc<dyn Door>,
    shutdown: CancellationToken,
) -> Result<(), ServeError> {
    if listeners.is_empty() {
        return Err(ServeError::NoListener);
    }
    for listener in &listeners {
        tracing::info!(address = %listener.local_addr()?, "front door open");
    }
    let limits = options.limits;
    let shared = Shared::new(options, door, shutdown.clone());
    let handler = Handler::new(router::routes(&shared));
    let context = ConnectionContext { handler, limits, shutdown: shutdown.clone() };
    let places = Arc::new(Semaphore::new(limits.connections_max));
    let tasks = TaskTracker::new();
    let cut = CancellationToken::new();
    let accepting = listeners.into_iter().map(|listener| {
        let door = Acceptor { listener, places: places.clone(), tasks: tasks.clone(), cut: cut.clone() };
        door.run(context.clone())
    });
    futures_util::future::join_all(accepting).await;
    tasks.close();
    if tokio::time::timeout(limits.drain, tasks.wait()).await.is_err() {
        tracing::warn!(left = tasks.len(), "connections cut at the end of the drain");
        cut.cancel();
        tasks.wait().await;
    }
    Ok(())
}

/// One listener's loop.
struct Acceptor {
    listener: TcpListener,
    places: Arc<Semaphore>,
    tasks: TaskTracker,
    /// Ends what is left when the drain is over.
    cut: CancellationToken,
}

impl Acceptor {
    async fn run(self, context: ConnectionContext) {
        loop {
            let accepted = tokio::select! {
                accepted = self.listener.accept() => accepted,
                () = context.shutdown.cancelled() => return,
            };
            match accepted {
                Ok((stream, _peer)) => self.take(stream, &context),
                Err(error) => {
                    tracing::warn!(%error, "accept failed");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    fn take(&self, stream: TcpStream, context: &ConnectionContext) {
        let Ok(place) = self.places.clone().try_acquire_owned() else {
            metrics::counter!("bojagi_http_connections_refused_total").increment(1);
            // Best effort by design: a caller that cannot take 100 bytes at once gets a bare close.
            let _told = stream.try_write(FULL_REPLY);
            return;
        };
        // Without it a reply waits for the peer's delayed acknowledgement; its failure costs latency only.
        let _nodelay = stream.set_nodelay(true);
        let served = connection::run(stream, context.clone());
        self.tasks.spawn(until_cut(served, place, self.cut.clone()));
    }
}

async fn until_cut(served: impl Future<Output = ()>, place: OwnedSemaphorePermit, cut: CancellationToken) {
    let _place = place;
    let open = metrics::gauge!("bojagi_http_connections");
    open.increment(1.0);
    tokio::select! {
        () = served => {}
        () = cut.cancelled() => {}
    }
    open.decrement(1.0);
}

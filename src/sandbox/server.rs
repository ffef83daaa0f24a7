//! Starts and stops the sandbox: two ports, one store, two tasks of its own.

use crate::sandbox::context::Context;
use crate::sandbox::journal::JournalError;
use crate::sandbox::settings::CONNECTIONS_MAX;
use crate::sandbox::smtp::MailTls;
use crate::sandbox::webhook::Hooks;
use crate::sandbox::{http, late, smtp, webhook};
use crate::types::time::{Clock, Timestamp};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use std::future::Future;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;

/// What a sandbox is started with.
pub struct SandboxOptions {
    /// Port 0 takes any free port; see [`SandboxHandle::http_addr`].
    pub http_addr: SocketAddr,
    pub smtp_addr: SocketAddr,
    /// Holds `ledger.log`; made when it is not there.
    pub data_dir: PathBuf,
    /// Base URLs of the nodes (`http://…`) that are told by webhook. None: nobody is told.
    pub webhook_targets: Vec<String>,
    /// Shared with the nodes in dev mode; windows and late results follow it.
    pub clock: Arc<dyn Clock>,
    /// Decides about faults with a probability.
    pub seed: u64,
}

/// Why a sandbox cannot start. Nothing was changed, except that a torn last frame may have been cut off the ledger.
#[derive(Debug, thiserror::Error)]
pub enum SandboxError {
    /// Another process listens there: choose another port, or end that process.
    #[error("the sandbox's {port} port {addr} is taken by another process; choose another with its option")]
    PortTaken { port: &'static str, addr: SocketAddr },
    #[error("cannot listen on {addr} for {port}: {cause}")]
    Listen { port: &'static str, addr: SocketAddr, cause: std::io::Error },
    #[error("the sandbox's store in {dir}: {cause}")]
    Store { dir: PathBuf, cause: JournalError },
    /// Webhooks go over plain HTTP only.
    #[error("{url} is not the base URL of a node (http://host:port)")]
    Target { url: String },
}

/// The providers' other side.
pub struct Sandbox;

impl Sandbox {
    /// Starts a sandbox on the current tokio runtime. Both ports are open when this returns.
    ///
    /// # Errors
    /// [`SandboxError`]
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub fn start(options: SandboxOptions) -> Result<SandboxHandle, SandboxError> {
        Self::start_with_mail_tls(options, MailTls::None)
    }

    /// As [`Sandbox::start`], with TLS on the mail port.
    ///
    /// # Errors
    /// [`SandboxError`]
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub fn start_with_mail_tls(options: SandboxOptions, tls: MailTls) -> Result<SandboxHandle, SandboxError> {
        let (web, http_addr) = listen("HTTP", options.http_addr)?;
        let (mail, smtp_addr) = listen("SMTP", options.smtp_addr)?;
        let hooks = Hooks::new(options.webhook_targets).map_err(|url| SandboxError::Target { url })?;
        let hooks = Arc::new(hooks);
        let context = Context::open(&options.data_dir, options.clock.clone(), options.seed, hooks.clone())
            .map_err(|cause| SandboxError::Store { dir: options.data_dir, cause })?;
        let context = Arc::new(context);
        let (stop, stopped) = watch::channel(false);
        let mut tasks = JoinSet::new();
        tasks.spawn(late::run(context.clone(), stopped.clone()));
        tasks.spawn(webhook::run(hooks, options.clock, stopped.clone()));
        let for_web = context.clone();
        tasks.spawn(accept(web, stopped.clone(), move |stream| web_connection(for_web.clone(), stream)));
        let for_mail = context.clone();
        tasks.spawn(accept(mail, stopped, move |stream| smtp::serve(for_mail.clone(), stream, tls.clone())));
        tracing::info!(http = %http_addr, smtp = %smtp_addr, "sandbox listens");
        Ok(SandboxHandle { context, http_addr, smtp_addr, stop, tasks })
    }
}

fn listen(port: &'static str, addr: SocketAddr) -> Result<(TcpListener, SocketAddr), SandboxError> {
    let bind = || {
        let listener = std::net::TcpListener::bind(addr)?;
        listener.set_nonblocking(true)?;
        let bound = listener.local_addr()?;
        Ok((TcpListener::from_std(listener)?, bound))
    };
    bind().map_err(|cause: std::io::Error| match cause.kind() {
        std::io::ErrorKind::AddrInUse => SandboxError::PortTaken { port, addr },
        _other => SandboxError::Listen { port, addr, cause },
    })
}

/// Serves each connection in a task of its own; all end with this one.
async fn accept<F, S>(listener: TcpListener, mut stopped: watch::Receiver<bool>, serve: F)
where
    F: Fn(TcpStream) -> S,
    S: Future<Output = ()> + Send + 'static,
{
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let mut connections = JoinSet::new();
    loop {
        let place = tokio::select! {
            place = places.clone().acquire_owned() => place,
            _ended = stopped.changed() => return,
        };
        let stream = tokio::select! {
            accepted = listener.accept() => accepted,
            _ended = stopped.changed() => return,
        };
        while connections.try_join_next().is_some() {}
        let Ok((stream, _)) = stream else {
            // Out of descriptors, most likely: let some connections end.
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
            continue;
        };
        // Without it small replies wait for an acknowledgement; a socket that refuses still works.
        let _slower = stream.set_nodelay(true);
        let served = serve(stream);
        connections.spawn(async move {
            let _place = place;
            served.await;
        });
    }
}

async fn web_connection(context: Arc<Context>, stream: TcpStream) {
    let service = service_fn(move |request| http::serve(context.clone(), request));
    let connection = http1::Builder::new().keep_alive(true).serve_connection(TokioIo::new(stream), service);
    // It ends with an error when a reply is dropped as ordered, or the caller goes away: both are their own affair.
    let _ended = connection.await;
}

/// A running sandbox. Dropping it stops it without waiting.
pub struct SandboxHandle {
    context: Arc<Context>,
    http_addr: SocketAddr,
    smtp_addr: SocketAddr,
    stop: watch::Sender<bool>,
    tasks: JoinSet<()>,
}

impl SandboxHandle {
    #[must_use]
    pub fn http_addr(&self) -> SocketAddr {
        self.http_addr
    }

    #[must_use]
    pub fn smtp_addr(&self) -> SocketAddr {
        self.smtp_addr
    }

    /// No late result and no webhook is due at or before now, and none is on its way.
    #[must_use]
    pub fn quiet(&self) -> bool {
        // Results first: what they hand to the webhooks is then seen there.
        late::quiet(&self.context) && self.context.hooks.quiet(self.context.clock.now())
    }

    /// When the next late result, or the next try of a webhook, is due.
    #[must_use]
    pub fn next_due(&self) -> Option<Timestamp> {
        late::next_due(&self.context)
    }

    /// Closes both ports, ends every connection and closes the store.
    pub async fn shutdown(mut self) {
        // Nobody listening any more means that all tasks have ended.
        let _gone = self.stop.send(true);
        while self.tasks.join_next().await.is_some() {}
        self.context.journal.close();
    }
}

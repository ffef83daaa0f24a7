//! [`LinkTransport`]: the links as the rest of a node uses them, on a tokio runtime of their own.
//!
//! A saturated runtime starves ractor_cluster's handshakes and our heartbeats, so nothing else runs on this one. What
//! [`Inbound`] is given must be handed on at once.

use super::gateway::Actors;
use super::hub::{Dialling, Hub, Seat};
use super::options::{LinkError, LinkOptions};
use super::peer_clock::PeerClock;
use super::session::Link;
use super::tls::Guard;
use super::wire::{Class, Frame};
use super::{dial, listen, pulse};
use crate::replication::transport::{
    CertificateEnd, Inbound, Lane, LinkStatus, PeerAddress, RequestError, Sent, Transport,
};
use crate::types::ids::NodeId;
use crate::types::limits::{FRAME_BYTES_MAX, PEERS_MAX};
use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// Whether this process has links: ractor's registries bear only one node.
static RUNNING: AtomicBool = AtomicBool::new(false);

/// The links of this node. [`Self::stop`] ends them, after which the process may start new ones; dropping it ends them
/// without waiting, and for good.
pub struct LinkTransport {
    hub: Arc<Hub>,
    address: SocketAddr,
    actors: Mutex<Option<JoinHandle<()>>>,
    runtime: Mutex<Option<Runtime>>,
}

impl LinkTransport {
    /// Opens the cluster listener and starts ractor_cluster. There are no peers yet: see [`Transport::set_peers`].
    ///
    /// One process holds one of these at a time.
    ///
    /// # Errors
    /// [`LinkError`]; nothing is left running.
    pub async fn start(options: LinkOptions, inbound: Arc<dyn Inbound>) -> Result<Arc<Self>, LinkError> {
        let guard = Guard::load(&options.security, &options.name, &options.cluster)?;
        if RUNNING.swap(true, Ordering::AcqRel) {
            return Err(LinkError::Second);
        }
        let started = Self::start_guarded(options, guard, inbound).await;
        if started.is_err() {
            RUNNING.store(false, Ordering::Release);
        }
        started
    }

    async fn start_guarded(
        options: LinkOptions,
        guard: Guard,
        inbound: Arc<dyn Inbound>,
    ) -> Result<Arc<Self>, LinkError> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(options.threads.max(1))
            .thread_name("links")
            .enable_all()
            .build()
            .map_err(LinkError::Runtime)?;
        let listen = options.listen;
        let hub = Hub::new(options, guard, inbound, runtime.handle().clone());
        let begun = runtime.spawn(begin(Arc::clone(&hub), listen)).await;
        let begun = begun.unwrap_or_else(|error| Err(LinkError::Actors(error.to_string())));
        let (address, actors) = match begun {
            Ok(begun) => begun,
            Err(error) => {
                runtime.shutdown_background();
                return Err(error);
            }
        };
        let (actors, runtime) = (Mutex::new(Some(actors)), Mutex::new(Some(runtime)));
        Ok(Arc::new(Self { hub, address, actors, runtime }))
    }

    /// The address that the cluster listener got.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Ends every link, the listener and the runtime, and waits for it. A second call returns at once. Not to be called
    /// from within [`Inbound`].
    pub async fn stop(&self) {
        let Some(runtime) = self.runtime.lock().take() else { return };
        self.hub.stopping.cancel();
        self.set_peers(Vec::new());
        for link in self.hub.links() {
            self.hub.end(&link, "this node stops");
        }
        let actors = self.actors.lock().take();
        if let Some(actors) = actors {
            // It ends when the hub stops; a panic in it was logged by its own hook.
            let _panic = actors.await;
        }
        self.hub.tasks.close();
        self.hub.tasks.wait().await;
        runtime.shutdown_background();
        RUNNING.store(false, Ordering::Release);
    }
}

impl Drop for LinkTransport {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.get_mut().take() {
            self.hub.stopping.cancel();
            runtime.shutdown_background();
        }
    }
}

/// Starts all that runs on the links' runtime.
async fn begin(hub: Arc<Hub>, listen: SocketAddr) -> Result<(SocketAddr, JoinHandle<()>), LinkError> {
    let failed = |cause| LinkError::Listen { address: listen, cause };
    let listener = TcpListener::bind(listen).await.map_err(failed)?;
    let address = listener.local_addr().map_err(failed)?;
    let actors = Actors::start(&hub).await.map_err(|error| LinkError::Actors(error.to_string()))?;
    *hub.server.write() = Some(actors.server.clone());
    hub.tasks.spawn(listen::listen(Arc::clone(&hub), listener));
    hub.tasks.spawn(pulse::run(Arc::clone(&hub)));
    let keeping = tokio::spawn(keep_actors(hub, actors));
    Ok((address, keeping))
}

/// How long after ractor_cluster ended it is started again.
const RESTART_AFTER: Duration = Duration::from_millis(500);

/// Starts ractor_cluster's actors again should they end, which ends all links, until the hub stops.
async fn keep_actors(hub: Arc<Hub>, mut actors: Actors) {
    loop {
        let failed = tokio::select! {
            () = hub.stopping.cancelled() => false,
            () = actors.failed() => true,
        };
        *hub.server.write() = None;
        for link in hub.links() {
            hub.end(&link, "ractor_cluster ended");
        }
        actors.stop().await;
        if !failed {
            return;
        }
        actors = loop {
            tokio::select! {
                () = hub.stopping.cancelled() => return,
                () = tokio::time::sleep(RESTART_AFTER) => {}
            }
            match Actors::start(&hub).await {
                Ok(actors) => break actors,
                Err(error) => tracing::error!(%error, "ractor_cluster does not start again"),
            }
        };
        *hub.server.write() = Some(actors.server.clone());
    }
}

/// Gives a request up when its asker does, so that the link forgets it.
struct Asking {
    link: Arc<Link>,
    id: u64,
}

impl Drop for Asking {
    fn drop(&mut self) {
        // Its asker wants to know nothing any more; an answered one is forgotten already.
        let _outcome = self.link.forget(self.id);
    }
}

impl Transport for LinkTransport {
    fn stop(&self) -> BoxFuture<'_, ()> {
        Box::pin(Self::stop(self))
    }
    fn cast(&self, to: NodeId, lane: Lane, frame: Vec<u8>) -> Sent {
        self.send(to, frame.len(), |link| match lane {
            Lane::Raft => link.offer(Class::Raft, Frame::Raft(frame)),
            Lane::Snapshot => link.offer(Class::Snapshot, Frame::Snapshot(frame)),
        })
    }

    fn cast_urgent(&self, to: NodeId, frame: Vec<u8>) -> Sent {
        self.send(to, frame.len(), |link| link.offer_urgent(Frame::Urgent(frame)))
    }

    fn request(
        &self,
        to: NodeId,
        body: Vec<u8>,
        deadline: Duration,
    ) -> BoxFuture<'static, Result<Vec<u8>, RequestError>> {
        let deadline_ms = u32::try_from(deadline.as_millis()).unwrap_or(u32::MAX);
        let link = self.hub.link_to(to);
        let asked = link.ok_or(RequestError::NotSent).and_then(|link| {
            let (id, answer) = link.ask(body, deadline_ms)?;
            Ok((Asking { link, id }, answer))
        });
        let (asking, answer) = match asked {
            Ok(asked) => asked,
            Err(error) => return Box::pin(std::future::ready(Err(error))),
        };
        // The timer runs on the links' runtime, wherever the future is polled.
        let expiry = {
            let _context = self.hub.runtime.enter();
            tokio::time::sleep(deadline)
        };
        Box::pin(async move {
            tokio::select! {
                biased;
                answer = answer => answer.unwrap_or(Err(RequestError::Unknown)),
                () = expiry => Err(asking.link.forget(asking.id)),
            }
        })
    }

    fn set_peers(&self, peers: Vec<PeerAddress>) {
        if peers.len() > PEERS_MAX {
            tracing::error!(peers = peers.len(), max = PEERS_MAX, "more peers than a node keeps links to");
        }
        let others = peers.into_iter().filter(|peer| peer.node != self.hub.me.node).take(PEERS_MAX);
        let wanted: BTreeMap<NodeId, String> = others.map(|peer| (peer.node, peer.address)).collect();
        let mut ended = Vec::new();
        {
            let mut seats = self.hub.seats.write();
            let left: BTreeSet<NodeId> = seats.keys().filter(|node| !wanted.contains_key(node)).copied().collect();
            for node in left {
                let Some(seat) = seats.remove(&node) else { continue };
                seat.closed.cancel();
                ended.extend(seat.link);
            }
            for (node, address) in wanted {
                match seats.get_mut(&node) {
                    Some(seat) => seat.address = address,
                    None => drop(seats.insert(node, self.new_seat(node, address))),
                }
            }
        }
        // Not from here: the caller may be inside `Inbound`, where the link's lock is held.
        let hub = Arc::clone(&self.hub);
        self.hub.tasks.spawn_on(
            async move {
                for link in ended {
                    hub.end(&link, "the peer is no longer one");
                }
            },
            &self.hub.runtime,
        );
    }

    fn links(&self) -> Vec<LinkStatus> {
        let clock = &self.hub.clock;
        let lead_ms = clock.now().0.saturating_sub(clock.steady().0);
        self.hub.seats.read().iter().map(|(node, seat)| status(*node, seat, lead_ms)).collect()
    }

    fn certificates(&self) -> Vec<CertificateEnd> {
        self.hub.guard.certificates()
    }
}

impl LinkTransport {
    fn send(&self, to: NodeId, bytes: usize, offer: impl FnOnce(&Link) -> bool) -> Sent {
        let (link, dropped) = {
            let seats = self.hub.seats.read();
            let Some(seat) = seats.get(&to) else { return Sent::NoLink };
            (seat.link.clone().filter(|link| link.is_up()), Arc::clone(&seat.dropped))
        };
        let Some(link) = link else {
            dropped.fetch_add(1, Ordering::Relaxed);
            return Sent::NoLink;
        };
        let oversize = bytes > FRAME_BYTES_MAX;
        if oversize {
            tracing::error!(bytes, "a frame is larger than frames may be: dropped");
        }
        if !oversize && offer(&link) {
            return Sent::Queued;
        }
        dropped.fetch_add(1, Ordering::Relaxed);
        if link.is_up() { Sent::Full } else { Sent::NoLink }
    }

    fn new_seat(&self, node: NodeId, address: String) -> Seat {
        let closed = CancellationToken::new();
        self.hub.tasks.spawn_on(dial::keep(Arc::clone(&self.hub), node, closed.clone()), &self.hub.runtime);
        Seat { address, link: None, leaving: None, dialling: Dialling::Idle, closed, dropped: Arc::default() }
    }
}

/// `lead_ms`: our wall clock minus our steady one.
fn status(node: NodeId, seat: &Seat, lead_ms: i64) -> LinkStatus {
    let link = seat.link.as_ref().filter(|link| link.is_up());
    let clock = link.map(|link| link.peer_clock.lock().clone());
    let offset = clock.as_ref().and_then(PeerClock::offset_ms);
    LinkStatus {
        node: node.0,
        address: seat.address.clone(),
        up: link.is_some(),
        incarnation: link.map(|link| link.peer.incarnation.0),
        round_trip_us: clock.and_then(|clock| clock.round_trip_us()),
        clock_offset_ms: offset.map(|(offset, _)| offset.saturating_sub(lead_ms)),
        clock_error_ms: offset.map(|(_, error)| error),
        steady_offset_ms: offset.map(|(offset, _)| offset),
        queued_bytes: link.map_or(0, |link| link.held_bytes()),
        credit_bytes: link.map_or([0; 3], |link| link.credit_bytes()),
        dropped_frames: seat.dropped.load(Ordering::Relaxed),
    }
}

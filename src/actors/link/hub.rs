//! All links of a node: who is wanted, who is connected, and what becomes of what comes in.
//!
//! A peer has one seat, and a seat one link. A new connection of the same or a later life of the peer takes the seat from
//! the old link, which is ended first (ractor_cluster would decide by coin toss). Batches find their link by epoch; one
//! of an ended link finds none and is dropped, so a peer that wakes from a pause has no stale effect. The same holds for
//! this process: after standing still itself it ends every link before it hands anything on.

use super::hello::{Hello, PROTOCOL, Refusal};
use super::options::{FillRandom, LinkOptions};
use super::session::{Link, Stage};
use super::tls::{Guard, Label};
use super::wire::{self, Class, Frame};
use crate::replication::transport::{Inbound, Lane, Peer, RequestError};
use crate::types::ids::{Incarnation, NodeId};
use crate::types::limits::{FRAME_BYTES_MAX, PEER_SILENT_MAX_MS};
use crate::types::time::Clock;
use parking_lot::{Mutex, RwLock};
use ractor::{ActorCell, ActorRef};
use ractor_cluster::NodeServerMessage;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// How long an ended link's session may take to leave ractor_cluster by itself.
const LEAVE_MAX: Duration = Duration::from_secs(1);

/// What this side is doing to reach the peer.
#[derive(Clone)]
pub(crate) enum Dialling {
    Idle,
    /// Not introduced yet: an incoming connection goes first.
    Connecting(CancellationToken),
    /// The hello is out: the lower node's dial goes first.
    Introduced(CancellationToken),
}

/// One wanted peer.
pub(crate) struct Seat {
    pub(crate) address: String,
    pub(crate) link: Option<Arc<Link>>,
    /// The last ended link, until ractor_cluster has let go of it.
    pub(crate) leaving: Option<Arc<Link>>,
    pub(crate) dialling: Dialling,
    pub(crate) closed: CancellationToken,
    pub(crate) dropped: Arc<AtomicU64>,
}

struct Session {
    link: Arc<Link>,
    actor: Option<ActorCell>,
}

pub(crate) struct Hub {
    pub(crate) me: Peer,
    pub(crate) name: Label,
    pub(crate) cluster: Label,
    pub(crate) cluster_id: [u8; 16],
    pub(crate) guard: Guard,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) inbound: Arc<dyn Inbound>,
    pub(crate) runtime: Handle,
    pub(crate) seats: RwLock<BTreeMap<NodeId, Seat>>,
    epochs: RwLock<HashMap<u64, Arc<Link>>>,
    sessions: Mutex<HashMap<String, Session>>,
    seen: Mutex<HashMap<NodeId, Incarnation>>,
    /// When the pulse last ran, in boot milliseconds.
    pub(crate) pulse_ms: AtomicU64,
    pub(crate) started: Instant,
    pub(crate) stopping: CancellationToken,
    pub(crate) tasks: TaskTracker,
    pub(crate) server: RwLock<Option<ActorRef<NodeServerMessage>>>,
    stale_batches: AtomicU64,
    fill_random: FillRandom,
}

impl Hub {
    pub(crate) fn new(options: LinkOptions, guard: Guard, inbound: Arc<dyn Inbound>, runtime: Handle) -> Arc<Self> {
        let pulse_ms = AtomicU64::new(options.clock.boot().0);
        Arc::new(Self {
            me: options.me,
            name: options.name,
            cluster: options.cluster,
            cluster_id: options.cluster_id,
            guard,
            clock: options.clock,
            inbound,
            runtime,
            seats: RwLock::default(),
            epochs: RwLock::default(),
            sessions: Mutex::default(),
            seen: Mutex::default(),
            pulse_ms,
            started: Instant::now(),
            stopping: CancellationToken::new(),
            tasks: TaskTracker::new(),
            server: RwLock::new(None),
            stale_batches: AtomicU64::new(0),
            fill_random: options.fill_random,
        })
    }

    /// ractor_cluster's own shared secret. Peers have proved themselves before; this only keeps clusters apart.
    pub(crate) fn cookie(&self) -> String {
        hex::encode(self.cluster_id)
    }

    pub(crate) fn random(&self) -> u64 {
        let mut bytes = [0u8; 8];
        (self.fill_random)(&mut bytes);
        u64::from_le_bytes(bytes)
    }

    /// Between half and all of a span.
    pub(crate) fn jittered(&self, span_ms: u64) -> Duration {
        Duration::from_millis(span_ms / 2 + self.random() % (span_ms / 2 + 1))
    }

    pub(crate) fn hello(&self, to: NodeId) -> Hello {
        Hello {
            protocol: PROTOCOL,
            cluster: self.cluster_id,
            name: self.name.to_string(),
            node: self.me.node,
            incarnation: self.me.incarnation,
            to,
            nonce: self.random(),
            lineage: self.inbound.lineage(),
            levels: self.inbound.levels(),
        }
    }

    pub(crate) fn link_to(&self, node: NodeId) -> Option<Arc<Link>> {
        let seats = self.seats.read();
        seats.get(&node)?.link.clone().filter(|link| link.is_up())
    }

    pub(crate) fn links(&self) -> Vec<Arc<Link>> {
        self.epochs.read().values().cloned().collect()
    }

    /// Whether this life of the peer may have a link: it is wanted, and not older than one that was seen.
    ///
    /// # Errors
    /// The [`Refusal`].
    pub(crate) fn vouch(&self, hello: &Hello, name: &Label) -> Result<(), Refusal> {
        let peer = hello.peer();
        if self.stopping.is_cancelled() {
            return Err(Refusal::Stopping);
        }
        if !self.seats.read().contains_key(&peer.node) {
            return Err(Refusal::NotAPeer);
        }
        if !self.inbound.vouches(peer.node, name.as_str()) {
            return Err(Refusal::Name);
        }
        if let Some(known) = self.inbound.is_behind(peer.node, &hello.lineage) {
            return Err(Refusal::Behind { known });
        }
        if let Some(level) = self.inbound.excludes(hello.levels) {
            return Err(Refusal::TooOld(level));
        }
        let newest = self.seen.lock().get(&peer.node).copied().unwrap_or_default();
        if peer.incarnation < newest { Err(Refusal::Outdated) } else { Ok(()) }
    }

    /// Whether this node's own dial goes before one from the peer.
    pub(crate) fn is_crossed(&self, peer: NodeId) -> bool {
        let seats = self.seats.read();
        let Some(seat) = seats.get(&peer) else { return false };
        let mine = matches!(seat.dialling, Dialling::Introduced(_))
            || seat.link.as_ref().is_some_and(|link| link.dialled && !link.is_up());
        mine && self.me.node < peer
    }

    /// Gives the seat to a new link. The old link is ended and ractor_cluster has let go of it before this returns.
    ///
    /// # Errors
    /// The [`Refusal`], when things changed since the hello.
    pub(crate) async fn take_seat(
        self: &Arc<Self>,
        peer: Peer,
        epoch: u64,
        dialled: bool,
    ) -> Result<Arc<Link>, Refusal> {
        if !dialled && self.is_crossed(peer.node) {
            return Err(Refusal::Crossed);
        }
        let now_ms = self.clock.boot().0;
        let link = Link::new(self.me, peer, epoch, dialled, now_ms);
        let old = {
            let mut seats = self.seats.write();
            if self.stopping.is_cancelled() {
                return Err(Refusal::Stopping);
            }
            let seat = seats.get_mut(&peer.node).ok_or(Refusal::NotAPeer)?;
            let mut seen = self.seen.lock();
            let newest = seen.entry(peer.node).or_default();
            if peer.incarnation < *newest {
                return Err(Refusal::Outdated);
            }
            if dialled && seat.link.is_some() {
                return Err(Refusal::Crossed);
            }
            if let Dialling::Connecting(dial) | Dialling::Introduced(dial) = &seat.dialling
                && !dialled
            {
                dial.cancel();
            }
            *newest = peer.incarnation;
            self.epochs.write().insert(epoch, Arc::clone(&link));
            seat.link.replace(Arc::clone(&link))
        };
        if let Some(old) = old {
            self.end(&old, "a newer connection takes its place");
        }
        let leaving = self.seats.read().get(&peer.node).and_then(|seat| seat.leaving.clone());
        if let Some(leaving) = leaving {
            self.let_go(&leaving).await;
        }
        Ok(link)
    }

    /// Waits until ractor_cluster has no session for an ended link; stops the session when it stays.
    async fn let_go(&self, link: &Arc<Link>) {
        if tokio::time::timeout(LEAVE_MAX, link.gone.cancelled()).await.is_ok() {
            return;
        }
        let session = self.sessions.lock().remove(&link.label());
        if let Some(actor) = session.and_then(|session| session.actor) {
            tracing::warn!(peer = %link.peer.node, "a session outlived its link and is stopped");
            actor.kill();
        }
        link.gone.cancel();
    }

    /// Hands the introduced stream to ractor_cluster.
    pub(crate) fn hand_over(&self, link: &Arc<Link>, stream: Box<dyn super::switch::Wire>) {
        let label = link.label();
        let guarded = super::switch::GuardedStream { stream, switch: link.switch.clone(), label: label.clone() };
        let server = self.server.read().clone();
        self.sessions.lock().insert(label.clone(), Session { link: Arc::clone(link), actor: None });
        let opened =
            NodeServerMessage::ConnectionOpenedExternal { stream: Box::new(guarded), is_server: !link.dialled };
        if server.is_none_or(|server| server.cast(opened).is_err()) {
            self.session_gone(&label);
        }
    }

    /// False when the session is not one of ours.
    pub(crate) fn session_opened(&self, label: &str, actor: ActorCell) -> bool {
        match self.sessions.lock().get_mut(label) {
            Some(session) => {
                session.actor = Some(actor);
                true
            }
            None => false,
        }
    }

    pub(crate) fn session_gone(&self, label: &str) {
        let session = self.sessions.lock().remove(label);
        if let Some(session) = session {
            session.link.gone.cancel();
            self.end(&session.link, "the connection closed");
        }
    }

    /// ractor_cluster has exchanged what it needs: the peer's gateway can be reached.
    pub(crate) fn session_ready(self: &Arc<Self>, label: &str, number: u64) {
        let Some(link) = self.sessions.lock().get(label).map(|session| Arc::clone(&session.link)) else { return };
        let Some(shim) = super::gateway::shim(number) else {
            self.end(&link, "the peer shows no gateway");
            return;
        };
        link.connect(shim);
        let (hub, pumped) = (Arc::clone(self), Arc::clone(&link));
        self.tasks.spawn_on(
            async move {
                if !pumped.pump().await {
                    hub.end(&pumped, "its session takes nothing any more");
                }
            },
            &self.runtime,
        );
        self.opening(&link, true, false);
        link.send_now(&self.ping(&link));
    }

    fn opening(&self, link: &Arc<Link>, ready: bool, heard: bool) {
        let mut stage = link.stage.lock();
        self.open_locked(link, &mut stage, ready, heard);
    }

    fn open_locked(&self, link: &Arc<Link>, stage: &mut Stage, ready: bool, heard: bool) {
        if link.open(stage, ready, heard) {
            tracing::info!(peer = %link.peer.node, incarnation = %link.peer.incarnation, "the link is up");
            self.inbound.link(link.peer, true);
        }
    }

    /// Ends a link for good. A second call changes nothing.
    pub(crate) fn end(&self, link: &Arc<Link>, why: &'static str) {
        let was_up = {
            let mut stage = link.stage.lock();
            let before = std::mem::replace(&mut *stage, Stage::Ended);
            if before == Stage::Ended {
                return;
            }
            link.refuse();
            if before == Stage::Up {
                self.inbound.link(link.peer, false);
            }
            before == Stage::Up
        };
        let lost = link.close();
        self.epochs.write().remove(&link.epoch);
        if !self.sessions.lock().contains_key(&link.label()) {
            link.gone.cancel();
        }
        if let Some(seat) = self.seats.write().get_mut(&link.peer.node) {
            seat.dropped.fetch_add(lost, Ordering::Relaxed);
            if seat.link.as_ref().is_some_and(|seated| seated.epoch == link.epoch) {
                seat.link = None;
            }
            seat.leaving = Some(Arc::clone(link));
        }
        if was_up {
            tracing::warn!(peer = %link.peer.node, incarnation = %link.peer.incarnation, why, lost, "the link is down");
        } else {
            tracing::debug!(peer = %link.peer.node, why, "a link did not come up");
        }
    }

    /// This process did not run for so long that its peers have given it up; what waits in its sockets is stale.
    pub(crate) fn stood_still(&self, now_ms: u64) -> bool {
        now_ms.saturating_sub(self.pulse_ms.load(Ordering::Acquire)) > PEER_SILENT_MAX_MS
    }

    /// A heartbeat of this link.
    pub(crate) fn ping(&self, link: &Link) -> Frame {
        let sent_us = self.micros();
        link.peer_clock.lock().asked(sent_us, self.clock.steady());
        Frame::Ping { sent_us }
    }

    fn micros(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_micros()).unwrap_or(u64::MAX)
    }

    /// A batch came in, over whichever session.
    pub(crate) fn receive(self: &Arc<Self>, batch: &[u8]) {
        let found = wire::stamp(batch).ok().and_then(|stamp| {
            let link = self.epochs.read().get(&stamp.epoch).cloned()?;
            (link.peer == stamp.from).then_some(link)
        });
        let Some(link) = found else {
            let count = self.stale_batches.fetch_add(1, Ordering::Relaxed) + 1;
            tracing::debug!(count, "a batch of no present link was dropped");
            return;
        };
        let now_ms = self.clock.boot().0;
        if self.stood_still(now_ms) {
            self.end(&link, "this process stood still");
            return;
        }
        if let Err(why) = self.deliver(&link, batch, now_ms) {
            self.end(&link, why);
        }
    }

    fn deliver(self: &Arc<Self>, link: &Arc<Link>, batch: &[u8], now_ms: u64) -> Result<(), &'static str> {
        let frames = wire::frames(batch).map_err(|_| "it sent what does not decode")?;
        let mut stage = link.stage.lock();
        if *stage == Stage::Ended {
            return Ok(());
        }
        link.heard_ms.store(now_ms, Ordering::Release);
        self.open_locked(link, &mut stage, false, true);
        for frame in frames {
            let class = frame.class();
            if (class.is_some() || matches!(frame, Frame::Urgent(_))) && *stage != Stage::Up {
                return Err("it sent frames before the link was up");
            }
            let cost = frame.cost();
            self.hand_on(link, frame)?;
            if let Some(class) = class
                && !link.count(class, cost)
            {
                return Err("its session takes nothing any more");
            }
        }
        Ok(())
    }

    fn hand_on(self: &Arc<Self>, link: &Arc<Link>, frame: Frame) -> Result<(), &'static str> {
        match frame {
            Frame::Raft(body) | Frame::Urgent(body) => self.inbound.frame(link.peer, Lane::Raft, body),
            Frame::Snapshot(body) => self.inbound.frame(link.peer, Lane::Snapshot, body),
            Frame::Request { id, deadline_ms, body } => self.serve(link, id, deadline_ms, body),
            Frame::Answer { id, body } => link.answered(id, Ok(body)),
            Frame::Busy { id } => link.answered(id, Err(RequestError::NotSent)),
            Frame::Ping { sent_us } => {
                // A lost pong is a lost heartbeat; the next one comes.
                let _sent = link.send_now(&Frame::Pong { sent_us, clock_ms: self.clock.now().0 });
            }
            Frame::Pong { sent_us, clock_ms } => {
                let now = self.clock.steady();
                link.peer_clock.lock().answered(sent_us, clock_ms, self.micros(), now);
            }
            Frame::Ack(tallies) if link.acknowledged(tallies) => {}
            Frame::Ack(_) => return Err("it acknowledged what was never sent"),
        }
        Ok(())
    }

    /// Answers a request in a task of its own; says "busy" when too many of this peer are being served.
    fn serve(self: &Arc<Self>, link: &Arc<Link>, id: u64, deadline_ms: u32, body: Vec<u8>) {
        let Ok(permit) = Arc::clone(&link.serving).try_acquire_owned() else {
            // Without room for even this the asker's deadline ends it.
            let _full = link.offer(Class::Call, Frame::Busy { id });
            return;
        };
        let (answering, link) = (self.inbound.request(link.peer, body), Arc::clone(link));
        let deadline = Duration::from_millis(u64::from(deadline_ms));
        self.tasks.spawn_on(
            async move {
                let answer = tokio::select! {
                    () = link.ended.cancelled() => return,
                    answer = tokio::time::timeout(deadline, answering) => answer,
                };
                drop(permit);
                let Ok(body) = answer else { return };
                if body.len() > FRAME_BYTES_MAX {
                    tracing::error!(bytes = body.len(), "an answer is larger than a frame may be: not sent");
                } else if !link.offer(Class::Call, Frame::Answer { id, body }) {
                    tracing::debug!(peer = %link.peer.node, "an answer found no room; its asker will not know");
                }
            },
            &self.runtime,
        );
    }
}

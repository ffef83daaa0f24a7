//! A network of nodes inside one process, for tests: links can be parted, cut one way, and delayed.
//!
//! It keeps the promises of the real links: order within a lane, lanes that do not hold each other up, nothing delivered
//! from or to an earlier incarnation, requests that end as answered, not sent or unknown. Delays run on tokio's clock, so
//! a paused runtime makes them instant and exact.

use crate::replication::transport::{Inbound, Lane, LinkStatus, Peer, PeerAddress, RequestError, Sent, Transport};
use crate::types::ids::NodeId;
use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Weak};
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio::time::Instant;

/// Frames that one lane to one peer holds before it answers [`Sent::Full`].
const LANE_FRAMES_MAX: usize = 16_384;

type Pair = (NodeId, NodeId);

struct Member {
    me: Peer,
    inbound: Arc<dyn Inbound>,
    peers: BTreeSet<NodeId>,
}

/// A frame on its way.
struct Flying {
    from: Peer,
    to: Peer,
    lane: Lane,
    due: Instant,
    frame: Vec<u8>,
}

#[derive(Default)]
struct Wires {
    members: BTreeMap<NodeId, Member>,
    /// One direction loses everything, unnoticed.
    cut: BTreeSet<Pair>,
    /// Both directions are gone and both ends know; the lower id first.
    parted: BTreeSet<Pair>,
    delays: BTreeMap<Pair, Duration>,
    /// Links whose ends were told that they are up, the lower id first, with both ends as they were told.
    up: BTreeMap<Pair, (Peer, Peer)>,
    lanes: BTreeMap<(Pair, bool), mpsc::Sender<Flying>>,
    lost_frames: u64,
}

fn unordered(a: NodeId, b: NodeId) -> Pair {
    (a.min(b), a.max(b))
}

impl Wires {
    fn live(&self, peer: Peer) -> Option<Arc<dyn Inbound>> {
        let member = self.members.get(&peer.node)?;
        (member.me == peer).then(|| Arc::clone(&member.inbound))
    }

    fn delay(&self, pair: Pair) -> Duration {
        self.delays.get(&pair).copied().unwrap_or_default()
    }

    /// Both ends of the link from `from` to `to`, when it is up.
    fn ends(&self, from: Peer, to: NodeId) -> Option<(Peer, Peer)> {
        let (low, high) = *self.up.get(&unordered(from.node, to))?;
        let (mine, theirs) = if low.node == from.node { (low, high) } else { (high, low) };
        (mine == from).then_some((mine, theirs))
    }

    /// The links as they should be: both ends attached, each wants the other, not parted.
    fn wanted(&self) -> BTreeMap<Pair, (Peer, Peer)> {
        let mut wanted = BTreeMap::new();
        for (low, member) in &self.members {
            for high in member.peers.range(NodeId(low.0 + 1)..) {
                let Some(other) = self.members.get(high) else { continue };
                let pair = (*low, *high);
                if other.peers.contains(low) && !self.parted.contains(&pair) {
                    wanted.insert(pair, (member.me, other.me));
                }
            }
        }
        wanted
    }

    /// Brings the links to what they should be, and says whom to tell what.
    fn settle(&mut self) -> Vec<(Arc<dyn Inbound>, Peer, bool)> {
        let wanted = self.wanted();
        let before = std::mem::replace(&mut self.up, wanted.clone());
        let mut news = Vec::new();
        let mut tell = |wires: &Self, ends: &(Peer, Peer), up: bool| {
            for (end, other) in [(ends.0, ends.1), (ends.1, ends.0)] {
                news.extend(wires.live(end).map(|inbound| (inbound, other, up)));
            }
        };
        for (pair, ends) in &before {
            if wanted.get(pair) != Some(ends) {
                tell(self, ends, false);
            }
        }
        for (pair, ends) in &wanted {
            if before.get(pair) != Some(ends) {
                tell(self, ends, true);
            }
        }
        news
    }
}

/// Several nodes and the wires between them.
pub struct MemoryNetwork {
    wires: Mutex<Wires>,
    /// Held while ends are told, so that they hear changes in their order.
    telling: Mutex<()>,
    runtime: Handle,
}

impl MemoryNetwork {
    /// A network without nodes, on the caller's tokio runtime.
    pub fn new() -> Arc<Self> {
        Arc::new(Self { wires: Mutex::default(), telling: Mutex::new(()), runtime: Handle::current() })
    }

    fn change(&self, change: impl FnOnce(&mut Wires)) {
        let _turn = self.telling.lock();
        let news = {
            let mut wires = self.wires.lock();
            change(&mut wires);
            wires.settle()
        };
        for (inbound, peer, up) in news {
            inbound.link(peer, up);
        }
    }

    /// Connects a node. A node of the same id is replaced: a restart, with a higher incarnation. It has no links until
    /// `set_peers` names some, on both sides.
    pub fn attach(self: &Arc<Self>, me: Peer, inbound: Arc<dyn Inbound>) -> Arc<MemoryTransport> {
        self.change(|wires| {
            wires.members.insert(me.node, Member { me, inbound, peers: BTreeSet::new() });
        });
        Arc::new(MemoryTransport { me, network: Arc::downgrade(self) })
    }

    /// Takes a node off the network, as a kill would: what is on its way to or from it is lost.
    pub fn detach(&self, node: NodeId) {
        self.change(|wires| {
            wires.members.remove(&node);
        });
    }

    /// Loses everything from `from` to `to`, unnoticed by either. The other direction goes on.
    pub fn cut(&self, from: NodeId, to: NodeId) {
        self.wires.lock().cut.insert((from, to));
    }

    /// Ends both directions; both ends are told that the link is down.
    pub fn part(&self, a: NodeId, b: NodeId) {
        self.change(|wires| {
            wires.parted.insert(unordered(a, b));
        });
    }

    /// Parts a node from all others.
    pub fn isolate(&self, node: NodeId) {
        self.change(|wires| {
            let others: Vec<NodeId> = wires.members.keys().copied().filter(|other| *other != node).collect();
            wires.parted.extend(others.into_iter().map(|other| unordered(node, other)));
        });
    }

    /// Undoes [`Self::cut`] both ways and [`Self::part`] between two nodes.
    pub fn heal(&self, a: NodeId, b: NodeId) {
        self.change(|wires| {
            wires.cut.retain(|pair| *pair != (a, b) && *pair != (b, a));
            wires.parted.remove(&unordered(a, b));
        });
    }

    /// Undoes every cut, parting and delay.
    pub fn heal_all(&self) {
        self.change(|wires| {
            wires.cut.clear();
            wires.parted.clear();
            wires.delays.clear();
        });
    }

    /// Delays what is sent from `from` to `to` from now on; order is kept.
    pub fn delay(&self, from: NodeId, to: NodeId, delay: Duration) {
        self.wires.lock().delays.insert((from, to), delay);
    }

    /// Frames that were accepted and then lost.
    pub fn lost_frames(&self) -> u64 {
        self.wires.lock().lost_frames
    }

    /// The lane's carrier, started with its first frame.
    fn carrier(self: &Arc<Self>, wires: &mut Wires, pair: Pair, lane: Lane) -> mpsc::Sender<Flying> {
        let carrier = wires.lanes.entry((pair, lane == Lane::Raft)).or_insert_with(|| {
            let (send, mut receive) = mpsc::channel::<Flying>(LANE_FRAMES_MAX);
            let network = Arc::downgrade(self);
            self.runtime.spawn(async move {
                while let Some(flying) = receive.recv().await {
                    tokio::time::sleep_until(flying.due).await;
                    let Some(network) = network.upgrade() else { return };
                    network.land(flying);
                }
            });
            send
        });
        carrier.clone()
    }

    fn land(&self, flying: Flying) {
        let inbound = {
            let mut wires = self.wires.lock();
            let reached = wires.reached(flying.from, flying.to);
            wires.lost_frames += u64::from(reached.is_none());
            reached
        };
        if let Some(inbound) = inbound {
            inbound.frame(flying.from, flying.lane, flying.frame);
        }
    }
}

impl Wires {
    /// The receiving end, when the link between exactly these two is up and this direction not cut.
    fn reached(&self, from: Peer, to: Peer) -> Option<Arc<dyn Inbound>> {
        let (_, theirs) = self.ends(from, to.node)?;
        let open = theirs == to && !self.cut.contains(&(from.node, to.node));
        self.live(to).filter(|_| open)
    }
}

/// One node's end of a [`MemoryNetwork`].
pub struct MemoryTransport {
    me: Peer,
    network: Weak<MemoryNetwork>,
}

impl MemoryTransport {
    async fn ask(network: Arc<MemoryNetwork>, from: Peer, to: Peer, body: Vec<u8>) -> Result<Vec<u8>, RequestError> {
        let there = network.wires.lock().delay((from.node, to.node));
        tokio::time::sleep(there).await;
        let inbound = network.wires.lock().reached(from, to).ok_or(RequestError::Unknown)?;
        let answer = inbound.request(from, body).await;
        let back = network.wires.lock().delay((to.node, from.node));
        tokio::time::sleep(back).await;
        network.wires.lock().reached(to, from).map(|_| answer).ok_or(RequestError::Unknown)
    }
}

impl Transport for MemoryTransport {
    fn cast(&self, to: NodeId, lane: Lane, frame: Vec<u8>) -> Sent {
        let Some(network) = self.network.upgrade() else { return Sent::NoLink };
        let mut wires = network.wires.lock();
        let Some((from, peer)) = wires.ends(self.me, to) else { return Sent::NoLink };
        let pair = (from.node, to);
        let due = Instant::now() + wires.delay(pair);
        let carrier = network.carrier(&mut wires, pair, lane);
        drop(wires);
        match carrier.try_send(Flying { from, to: peer, lane, due, frame }) {
            Ok(()) => Sent::Queued,
            Err(mpsc::error::TrySendError::Full(_)) => Sent::Full,
            Err(mpsc::error::TrySendError::Closed(_)) => Sent::NoLink,
        }
    }

    fn request(
        &self,
        to: NodeId,
        body: Vec<u8>,
        deadline: Duration,
    ) -> BoxFuture<'static, Result<Vec<u8>, RequestError>> {
        let ends = self.network.upgrade().and_then(|network| {
            let ends = network.wires.lock().ends(self.me, to)?;
            Some((network, ends))
        });
        Box::pin(async move {
            let Some((network, (from, peer))) = ends else { return Err(RequestError::NotSent) };
            let asked = Self::ask(network, from, peer, body);
            tokio::time::timeout(deadline, asked).await.unwrap_or(Err(RequestError::Unknown))
        })
    }

    fn set_peers(&self, peers: Vec<PeerAddress>) {
        let Some(network) = self.network.upgrade() else { return };
        let wanted = peers.into_iter().map(|peer| peer.node).filter(|node| *node != self.me.node).collect();
        network.change(|wires| {
            if let Some(member) = wires.members.get_mut(&self.me.node).filter(|member| member.me == self.me) {
                member.peers = wanted;
            }
        });
    }

    fn links(&self) -> Vec<LinkStatus> {
        let Some(network) = self.network.upgrade() else { return Vec::new() };
        let wires = network.wires.lock();
        let Some(member) = wires.members.get(&self.me.node) else { return Vec::new() };
        let status = |node: &NodeId| {
            let peer = wires.ends(self.me, *node).map(|(_, peer)| peer);
            LinkStatus {
                node: node.0,
                address: format!("memory:{node}"),
                up: peer.is_some(),
                incarnation: peer.map(|peer| peer.incarnation.0),
                round_trip_us: peer.map(|_| 0),
                clock_offset_ms: peer.map(|_| 0),
                clock_error_ms: peer.map(|_| 0),
                steady_offset_ms: peer.map(|_| 0),
                queued_bytes: 0,
                credit_bytes: [0; 3],
                dropped_frames: 0,
            }
        };
        member.peers.iter().map(status).collect()
    }
}

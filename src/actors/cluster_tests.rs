//! Several nodes in one process, each with its own data folder, over a network of memory: replicas, a leader that is cut
//! off, a replica that joins by snapshot, leadership handed on.

use super::{Bench, Counting, HandClock, ParcelCommand, Post, Till, key, post, rt};
use crate::actors::door::{Ask, AskError, Door};
use crate::actors::node::{LinkUp, Node, NodeParts, ReplicaSpec};
use crate::actors::peering::decode_frame;
use crate::actors::router::{Reply, Request, route};
use crate::actors::routes::Placed;
use crate::actors::service::NodeDoor;
use crate::actors::shard::ShardMsg;
use crate::domain::entity::Typed;
use crate::gateways::GatewayOptions;
use crate::persistence::folder::{Folder, OpenOptions};
use crate::persistence::joining;
use crate::replication::core::MemberChange;
use crate::replication::transport::{
    Inbound, Lane, LinkStatus, Peer, PeerAddress, RequestError, Sent, SharedTransport, Transport,
};
use crate::types::codec;
use crate::types::effect::IndexTag;
use crate::types::ids::{META_SHARD, NodeId, ShardId, Version};
use crate::types::kind::KindTable;
use crate::types::level::LEVELS;
use crate::types::time::{Clock, Millis};
use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;
use tokio::sync::oneshot;

pub const SHARDS: u16 = 4;

type Reached = (Peer, Arc<dyn Inbound>);

/// Links between all nodes, which can be cut.
#[derive(Default)]
pub struct Net {
    pub nodes: Mutex<HashMap<NodeId, Reached>>,
    /// Frames from the first to the second are lost.
    cut: Mutex<HashSet<(NodeId, NodeId)>>,
    /// To these, frames of the meta group are lost.
    pub deaf_to_meta: Mutex<HashSet<NodeId>>,
    /// How far each node sees the clocks of the others behind its own.
    pub behind_ms: AtomicI64,
}

impl Net {
    fn reach(&self, from: NodeId, to: NodeId) -> Option<Reached> {
        if self.cut.lock().contains(&(from, to)) {
            return None;
        }
        let nodes = self.nodes.lock();
        let (me, _) = nodes.get(&from)?;
        nodes.get(&to).map(|(_, inbound)| (*me, inbound.clone()))
    }

    pub fn isolate(&self, node: u64) {
        let mut cut = self.cut.lock();
        for other in 1..=9 {
            cut.insert((NodeId(node), NodeId(other)));
            cut.insert((NodeId(other), NodeId(node)));
        }
    }

    pub fn cut_pair(&self, one: u64, other: u64) {
        self.cut.lock().extend([(NodeId(one), NodeId(other)), (NodeId(other), NodeId(one))]);
    }

    pub fn heal(&self) {
        self.cut.lock().clear();
    }
}

pub struct Port {
    pub net: Arc<Net>,
    pub me: NodeId,
}

impl Transport for Port {
    fn cast(&self, to: NodeId, lane: Lane, frame: Vec<u8>) -> Sent {
        match self.net.reach(self.me, to) {
            Some((me, inbound)) => {
                let of_meta = decode_frame(&frame).is_some_and(|(shard, ..)| shard == META_SHARD);
                if !of_meta || !self.net.deaf_to_meta.lock().contains(&to) {
                    inbound.frame(me, lane, frame);
                }
                Sent::Queued
            }
            None => Sent::NoLink,
        }
    }
    fn request(&self, to: NodeId, body: Vec<u8>, limit: Duration) -> BoxFuture<'static, Result<Vec<u8>, RequestError>> {
        let (net, from) = (self.net.clone(), self.me);
        Box::pin(async move {
            let (me, inbound) = net.reach(from, to).ok_or(RequestError::NotSent)?;
            let answer = tokio::time::timeout(limit, inbound.request(me, body)).await;
            // The answer travels too.
            net.reach(to, from).ok_or(RequestError::Unknown)?;
            answer.map_err(|_| RequestError::Unknown)
        })
    }
    fn set_peers(&self, _: Vec<PeerAddress>) {}
    fn links(&self) -> Vec<LinkStatus> {
        let others: Vec<Peer> = self.net.nodes.lock().values().map(|(peer, _)| *peer).collect();
        let link = |peer: Peer| LinkStatus {
            node: peer.node.0,
            address: String::new(),
            up: self.net.reach(self.me, peer.node).is_some() && self.net.reach(peer.node, self.me).is_some(),
            incarnation: Some(peer.incarnation.0),
            round_trip_us: None,
            clock_offset_ms: Some(-self.net.behind_ms.load(Ordering::Relaxed)),
            clock_error_ms: Some(0),
            // Their one clock is moved by hand: it is its own steady one.
            steady_offset_ms: Some(-self.net.behind_ms.load(Ordering::Relaxed)),
            queued_bytes: 0,
            credit_bytes: [0; 3],
            dropped_frames: 0,
        };
        others.into_iter().filter(|peer| peer.node != self.me).map(link).collect()
    }
}

/// Peer id of a node's replica: unique over all shards.
pub fn peer(shard: ShardId, node: u64) -> u64 {
    u64::from(shard.0) * 10 + node
}

pub fn options() -> OpenOptions {
    OpenOptions { shards: SHARDS, create: true, ballast_bytes: 0, master_key: Some([7; 32]), ..OpenOptions::default() }
}

pub struct Cluster {
    pub net: Arc<Net>,
    pub clock: Arc<HandClock>,
    pub provider: Arc<Counting>,
    pub nodes: Vec<Bench>,
}

impl Cluster {
    /// Three nodes; each shard is founded by `founders`.
    pub async fn start(dir: &Path, founders: &[u64]) -> Self {
        let net = Arc::new(Net::default());
        let (clock, provider) = (HandClock::new(), Arc::new(Counting::default()));
        let mut cluster = Self { net, clock, provider, nodes: Vec::new() };
        let first = Folder::open(&dir.join("1"), options()).unwrap();
        for node in 2..=3 {
            let identity = first.identity_for(NodeId(node)).unwrap();
            joining::join(&dir.join(node.to_string()), &options(), identity).unwrap();
        }
        cluster.add(first, founders).await;
        for node in 2..=3 {
            let folder = Folder::open(&dir.join(node.to_string()), options()).unwrap();
            cluster.add(folder, founders).await;
        }
        for bench in &cluster.nodes {
            while !bench.node.is_ready() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        }
        cluster
    }

    async fn add(&mut self, folder: Folder, founders: &[u64]) {
        let id = folder.node;
        let me = Peer { node: id, incarnation: folder.incarnation };
        let net = self.net.clone();
        let link: LinkUp = Box::new(move |inbound| {
            net.nodes.lock().insert(id, (me, inbound));
            Box::pin(std::future::ready(Ok(Arc::new(Port { net, me: id }) as SharedTransport)))
        });
        let replicas = (0..SHARDS).map(ShardId).filter(|_| founders.contains(&id.0)).map(|shard| ReplicaSpec {
            shard,
            peer: peer(shard, id.0),
            found: founders.iter().map(|node| peer(shard, *node)).collect(),
        });
        let node = Node::start(NodeParts {
            folder,
            kinds: KindTable::new(vec![Arc::new(Typed::<Post>::default())]),
            clock: self.clock.clone(),
            gateway_options: GatewayOptions::default(),
            messages: vec![self.provider.clone()],
            payments: Till::new(true),
            shipping: None,
            dev: true,
            link: Some(link),
            introduction: None,
            bootstrap: Vec::new(),
            replicas: replicas.collect(),
        })
        .await
        .unwrap();
        let placed: HashMap<ShardId, Placed> =
            (0..SHARDS).map(ShardId).map(|s| (s, (1..=3).map(|n| (NodeId(n), peer(s, n))).collect())).collect();
        node.shared.routes.place(placed);
        let door = NodeDoor::new(node.clone(), None);
        self.nodes.push(Bench { node, door, clock: self.clock.clone(), provider: self.provider.clone() });
    }

    pub fn door(&self, node: usize) -> &NodeDoor {
        &self.nodes[node - 1].door
    }

    /// Index of the node that leads a shard.
    pub async fn leader(&self, shard: ShardId, among: &[usize]) -> usize {
        loop {
            let leads = |node: &&usize| self.nodes[**node - 1].node.shared.leads(shard);
            if let Some(node) = among.iter().find(leads) {
                return *node;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    async fn change(&self, shard: ShardId, change: MemberChange) {
        loop {
            let leader = self.leader(shard, &[1, 2, 3]).await;
            let (reply, done) = oneshot::channel();
            let actor = self.nodes[leader - 1].node.shared.shard(shard).unwrap();
            actor.cast(ShardMsg::ChangeMembers(vec![change], reply)).unwrap();
            if let Ok(Ok(_)) = done.await {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    pub async fn stop(self) {
        for bench in self.nodes {
            bench.node.stop().await;
        }
    }
}

#[test]
fn any_node_takes_a_command_and_every_node_sees_it() {
    let dir = tempfile::tempdir().unwrap();
    rt().block_on(async {
        let cluster = Cluster::start(dir.path(), &[1, 2, 3]).await;
        let at = cluster.clock.now() + Millis::from_mins(20);
        for number in 1..=12 {
            let node = usize::from(number % 3) + 1;
            let answer = cluster.door(node).ask(post(number, at)).await.unwrap();
            assert_eq!(answer.version, Version(1));
        }
        for number in 1..=12 {
            for node in 1..=3 {
                let read = cluster.door(node).read(key(number)).await.unwrap().expect("posted");
                assert_eq!(read.version, Version(1));
                assert!(cluster.door(node).ask(post(number, at)).await.unwrap().replayed);
            }
        }
        let twice = Ask { idempotency: None, ..post(1, at) };
        let refused = cluster.door(3).ask(twice).await.unwrap_err();
        assert!(matches!(refused, AskError::Rejected { .. }), "{refused:?}");
        cluster.clock.advance(Millis::from_mins(20));
        for number in 1..=12 {
            cluster.provider.until(key(number), 1).await;
            assert_eq!(cluster.provider.of(key(number)), 1);
        }
        cluster.stop().await;
    });
}

#[test]
fn a_leader_that_is_cut_off_commits_nothing_and_its_gifts_leave_from_another_node() {
    let dir = tempfile::tempdir().unwrap();
    rt().block_on(async {
        let cluster = Cluster::start(dir.path(), &[1, 2, 3]).await;
        let at = cluster.clock.now() + Millis::from_mins(20);
        for number in 1..=12 {
            cluster.door(1).ask(post(number, at)).await.unwrap();
        }
        let shard = cluster.nodes[0].node.shared.shard_of(&key(1));
        let old = cluster.leader(shard, &[1, 2, 3]).await;
        cluster.net.isolate(old as u64);
        let twice = Ask { idempotency: None, ..post(1, at) };
        let rest: Vec<usize> = (1..=3).filter(|node| *node != old).collect();
        let (alone, _new) = tokio::join!(cluster.door(old).ask(twice), cluster.leader(shard, &rest));
        // Alone it can neither say yes nor no.
        let alone = alone.unwrap_err();
        assert!(matches!(alone, AskError::Unavailable | AskError::Unknown), "{alone:?}");
        cluster.clock.advance(Millis::from_mins(20));
        for number in 1..=12 {
            cluster.provider.until(key(number), 1).await;
        }
        cluster.net.heal();
        for number in 1..=12 {
            loop {
                let read = cluster.door(old).read(key(number)).await.unwrap().expect("not lost");
                if read.version == Version(3) {
                    break;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            assert_eq!(cluster.provider.of(key(number)), 1, "parcel {number}");
        }
        cluster.stop().await;
    });
}

/// A node without replicas knows leaders by hearsay. One wrong hint among many would refuse every list for good.
#[test]
fn a_list_finds_the_leaders_that_have_moved() {
    let dir = tempfile::tempdir().unwrap();
    rt().block_on(async {
        let cluster = Cluster::start(dir.path(), &[1, 2]).await;
        let first = cluster.leader(ShardId(0), &[1, 2]).await;
        let other = 3 - first;
        let moved = ShardId(3);
        while cluster.leader(moved, &[1, 2]).await != other {
            let actor = cluster.nodes[first - 1].node.shared.shard(moved).unwrap();
            actor.cast(ShardMsg::TransferLeader(peer(moved, other as u64))).unwrap();
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let routes = &cluster.nodes[2].node.shared.routes;
        for shard in (0..SHARDS).map(ShardId) {
            routes.hear(shard, Some(NodeId(first as u64)));
        }
        let page = cluster.door(3).list(IndexTag(1), Vec::new(), None, 10).await.unwrap();
        assert!(page.rows.is_empty());
        assert_eq!(routes.leader(moved), Some(NodeId(other as u64)));
        cluster.stop().await;
    });
}

/// Its state may be an old one: that nothing is to be done is true only of the newest.
#[test]
fn a_leader_that_is_cut_off_does_not_say_that_nothing_is_to_be_done() {
    let dir = tempfile::tempdir().unwrap();
    rt().block_on(async {
        let cluster = Cluster::start(dir.path(), &[1, 2, 3]).await;
        let at = cluster.clock.now() + Millis::from_mins(20);
        cluster.door(1).ask(post(1, at)).await.unwrap();
        let shard = cluster.nodes[0].node.shared.shard_of(&key(1));
        let old = cluster.leader(shard, &[1, 2, 3]).await;
        let nothing = || Ask { idempotency: None, command: codec::encode(&ParcelCommand::Nothing), ..post(1, at) };
        let unchanged = cluster.door(old).ask(nothing()).await.unwrap();
        assert_eq!(unchanged.version, Version(1));
        cluster.net.isolate(old as u64);
        // While it takes itself for the leader still.
        assert!(cluster.nodes[old - 1].node.shared.leads(shard));
        let alone = cluster.door(old).ask(nothing()).await.unwrap_err();
        assert!(matches!(alone, AskError::Unavailable | AskError::Unknown), "{alone:?}");
        cluster.net.heal();
        loop {
            match cluster.door(old).ask(nothing()).await {
                Ok(again) => break assert_eq!(again.version, Version(1)),
                Err(AskError::Unavailable | AskError::Unknown) => tokio::time::sleep(Duration::from_millis(5)).await,
                Err(other) => panic!("{other:?}"),
            }
        }
        cluster.stop().await;
    });
}

#[test]
fn what_a_leader_shows_at_a_glance_is_committed_and_for_more_it_has_to_lead_still() {
    let dir = tempfile::tempdir().unwrap();
    rt().block_on(async {
        let cluster = Cluster::start(dir.path(), &[1, 2, 3]).await;
        let at = cluster.clock.now() + Millis::from_mins(20);
        cluster.door(1).ask(post(1, at)).await.unwrap();
        let shared = |node: usize| cluster.nodes[node - 1].node.shared.clone();
        let shard = shared(1).shard_of(&key(1));
        let old = cluster.leader(shard, &[1, 2, 3]).await;
        cluster.net.isolate(old as u64);
        assert!(shared(old).leads(shard), "as it thinks");
        let beyond = |after| Request::Beyond { key: key(1), after: Version(after) };
        for request in [Request::Glance(key(1)), beyond(0)] {
            let reply = route(&shared(old), request).await.unwrap();
            assert!(matches!(&reply, Reply::Read(Some(shown)) if shown.version == Version(1)), "{reply:?}");
        }
        assert_eq!(route(&shared(old), beyond(1)).await.unwrap_err(), AskError::Unavailable);
        cluster.net.heal();
        let moved = async {
            let rest = cluster.leader(shard, &[1, 2, 3]).await;
            cluster.clock.advance(Millis::from_mins(20));
            rest
        };
        let (reply, _leader) = tokio::join!(cluster.door(old).beyond(key(1), Version(1)), moved);
        assert!(reply.unwrap().version > Version(1));
        cluster.stop().await;
    });
}

#[test]
fn a_replica_joins_by_snapshot_and_takes_over_with_the_data_keys() {
    let dir = tempfile::tempdir().unwrap();
    rt().block_on(async {
        let cluster = Cluster::start(dir.path(), &[1]).await;
        let at = cluster.clock.now() + Millis::from_mins(20);
        let (sealed, wrapped) = cluster.door(1).seal_new(key(1), b"name");
        let mut first = post(1, at);
        first.new_key = Some(wrapped);
        cluster.door(2).ask(first).await.unwrap();
        for number in 2..=12 {
            cluster.door(3).ask(post(number, at)).await.unwrap();
        }
        for shard in (0..SHARDS).map(ShardId) {
            let spec = ReplicaSpec { shard, peer: peer(shard, 2), found: Vec::new() };
            cluster.nodes[1].node.open_replica(spec).await.unwrap();
            cluster.change(shard, MemberChange::AddLearner(peer(shard, 2))).await;
            cluster.change(shard, MemberChange::Promote(peer(shard, 2))).await;
            let old = cluster.nodes[0].node.shared.shard(shard).unwrap();
            while !cluster.nodes[1].node.shared.leads(shard) {
                old.cast(ShardMsg::TransferLeader(peer(shard, 2))).unwrap();
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
        for number in 1..=12 {
            let read = cluster.door(3).read(key(number)).await.unwrap().expect("moved along");
            assert_eq!(read.version, Version(1));
        }
        let opened = cluster.door(3).unseal(key(1), sealed).await.unwrap();
        assert_eq!(opened.as_deref(), Some(b"name".as_slice()));
        cluster.clock.advance(Millis::from_mins(20));
        for number in 1..=12 {
            cluster.provider.until(key(number), 1).await;
            assert_eq!(cluster.provider.of(key(number)), 1);
        }
        cluster.stop().await;
    });
}

/// Nodes without a replica have heard of no leader when they are first asked for somebody else.
#[test]
fn a_relay_that_knows_no_leader_asks_whoever_has_a_replica() {
    let dir = tempfile::tempdir().unwrap();
    rt().block_on(async {
        let cluster = Cluster::start(dir.path(), &[2]).await;
        for bench in &cluster.nodes {
            bench.node.shared.gate.follow(LEVELS.highest).unwrap();
        }
        cluster.net.cut_pair(1, 2);
        let at = cluster.clock.now() + Millis::from_mins(20);
        for number in 1..=8 {
            assert_eq!(cluster.door(1).ask(post(number, at)).await.unwrap().version, Version(1));
        }
        // What it has heard may be of before, too.
        let third = &cluster.nodes[2].node.shared.routes;
        (0..SHARDS).for_each(|shard| third.hear(ShardId(shard), Some(NodeId(1))));
        for number in 1..=8 {
            assert_eq!(cluster.door(1).read(key(number)).await.unwrap().expect("posted").version, Version(1));
        }
        cluster.stop().await;
    });
}

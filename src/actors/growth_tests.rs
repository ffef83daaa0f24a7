//! A cluster that grows and shrinks by itself: one node founds it, others join with a token, replicas and leaders spread,
//! a node is drained and removed, and one that is gone for good is replaced.

use super::cluster::{Net, Port, options};
use super::{Bench, Counting, HandClock, Post, Till, key, post, rt};
use crate::actors::cluster::Introduction;
use crate::actors::cluster::join::{JoinAnswer, JoinRequest};
use crate::actors::cluster::meta;
use crate::actors::door::{AskError, ClusterChange, ClusterError, Door, OpsView};
use crate::actors::node::{LinkUp, Node, NodeParts};
use crate::actors::service::NodeDoor;
use crate::domain::entity::Typed;
use crate::gateways::GatewayOptions;
use crate::persistence::folder::{Folder, OpenOptions};
use crate::persistence::joining;
use crate::replication::transport::{Peer, SharedTransport};
use crate::types::codec;
use crate::types::ids::{Fingerprint, IdempotencyId, META_SHARD, NodeId, ShardId, Version};
use crate::types::kind::KindTable;
use crate::types::time::{Clock, Millis};
use serde_json::Value;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

struct Growing {
    net: Arc<Net>,
    clock: Arc<HandClock>,
    provider: Arc<Counting>,
    nodes: Vec<Bench>,
}

impl Growing {
    async fn found(dir: &Path) -> Self {
        let (net, clock, provider) = (Arc::default(), HandClock::new(), Arc::new(Counting::default()));
        let mut cluster = Self { net, clock, provider, nodes: Vec::new() };
        let folder = Folder::open(&dir.join("1"), options()).unwrap();
        cluster.start(folder, "n1").await;
        cluster
            .until("founded", |view| view["shards"].as_array().is_some_and(|s| s.iter().all(|s| s["leader"] == 1)))
            .await;
        cluster
    }

    async fn start(&mut self, folder: Folder, name: &str) {
        let id = folder.node;
        let me = Peer { node: id, incarnation: folder.incarnation };
        let net = self.net.clone();
        let link: LinkUp = Box::new(move |inbound| {
            net.nodes.lock().insert(id, (me, inbound));
            Box::pin(std::future::ready(Ok(Arc::new(Port { net, me: id }) as SharedTransport)))
        });
        let introduction = Introduction { name: name.to_owned(), ..Introduction::alone("http://127.0.0.1:1") };
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
            introduction: Some(introduction),
            bootstrap: Vec::new(),
            replicas: Vec::new(),
        })
        .await
        .unwrap();
        let door = NodeDoor::new(node.clone(), None);
        self.nodes.push(Bench { node, door, clock: self.clock.clone(), provider: self.provider.clone() });
    }

    async fn join(&mut self, dir: &Path, name: &str) -> u64 {
        let token = loop {
            match self.nodes[0].door.change_cluster(ClusterChange::IssueToken { seconds: 60 }, fresh()).await {
                Ok(made) => break made.told["token"].as_str().unwrap().to_owned(),
                // It starts still: the group has no leader, or the cluster is not founded.
                Err(ClusterError::Ask(_) | ClusterError::Refused(_)) => {
                    tokio::time::sleep(Duration::from_millis(5)).await
                }
            }
        };
        let facts = Introduction { name: name.to_owned(), ..Introduction::alone("http://127.0.0.1:1") }.facts();
        let request = codec::encode(&JoinRequest { token, facts });
        let (_, inbound) = self.net.nodes.lock()[&NodeId(1)].clone();
        let welcome =
            codec::decode::<JoinAnswer>(&inbound.join(name.to_owned(), request).await.unwrap()).unwrap().unwrap();
        let id = welcome.identity.node.0;
        let at = dir.join(name);
        joining::join(&at, &options(), welcome.identity).unwrap();
        self.start(Folder::open(&at, options()).unwrap(), name).await;
        id
    }

    /// Until it is taken: the meta group may be without a leader for a moment.
    async fn drain(&self, node: u64, undo: bool) {
        while let Err(error) = self.nodes[0].door.change_cluster(ClusterChange::Drain { node, undo }, fresh()).await {
            assert!(matches!(error, ClusterError::Ask(_)), "{error:?}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    async fn view(&self) -> Value {
        self.nodes[0].door.ops(OpsView::Cluster).await
    }

    async fn until(&self, what: &str, holds: impl Fn(&Value) -> bool) -> Value {
        let started = tokio::time::Instant::now();
        loop {
            let view = self.view().await;
            if holds(&view) {
                return view;
            }
            assert!(started.elapsed() < Duration::from_secs(60), "not {what}: {view:#}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    async fn post_some(&self, numbers: std::ops::RangeInclusive<u8>) {
        let at = self.clock.now() + Millis::from_mins(20);
        for number in numbers {
            let door = &self.nodes[usize::from(number) % self.nodes.len()].door;
            door.ask(post(number, at)).await.unwrap();
        }
    }

    async fn all_leave_once(&self, numbers: std::ops::RangeInclusive<u8>) {
        self.clock.advance(Millis::from_mins(20));
        for number in numbers {
            self.provider.until(key(number), 1).await;
            assert_eq!(self.provider.of(key(number)), 1, "parcel {number}");
        }
    }

    /// Three nodes, each with a replica of every shard, and each leading some.
    async fn of_three(dir: &Path) -> Self {
        let mut cluster = Self::found(dir).await;
        cluster.join(dir, "n2").await;
        cluster.join(dir, "n3").await;
        cluster.until("whole at three", whole(3)).await;
        cluster.until("spread", |view| (1..=3).all(|node| leaders(view).contains(&node))).await;
        cluster
    }

    /// A parcel of a shard that this node leads; those up to `after` are others.
    fn number_led_by(&self, node: usize, after: u8) -> (u8, ShardId) {
        let shared = &self.nodes[node - 1].node.shared;
        let led = (after + 1..=u8::MAX).map(|number| (number, shared.shard_of(&key(number))));
        led.into_iter().find(|(_, shard)| shared.leads(*shard)).expect("it leads some shard")
    }

    async fn stop(self) {
        for bench in self.nodes {
            bench.node.stop().await;
        }
    }
}

/// Of a request that none was like.
fn fresh() -> (IdempotencyId, Fingerprint) {
    static REQUESTS: AtomicU8 = AtomicU8::new(0);
    (IdempotencyId([REQUESTS.fetch_add(1, Ordering::Relaxed); 16]), Fingerprint([1; 16]))
}

/// Every shard has this many replicas, none is moving, and somebody leads it.
fn whole(replicas: usize) -> impl Fn(&Value) -> bool {
    move |view| {
        view["shards"].as_array().is_some_and(|shards| {
            shards.iter().all(|shard| {
                shard["replicas"].as_array().is_some_and(|nodes| nodes.len() == replicas)
                    && shard["moving"] == Value::Bool(false)
                    && !shard["leader"].is_null()
            })
        })
    }
}

fn leaders(view: &Value) -> Vec<u64> {
    view["shards"].as_array().unwrap().iter().filter_map(|shard| shard["leader"].as_u64()).collect()
}

#[test]
fn a_cluster_of_one_grows_to_three_and_its_leaders_spread() {
    let dir = tempfile::tempdir().unwrap();
    rt().block_on(async {
        let mut cluster = Growing::found(dir.path()).await;
        cluster.post_some(1..=8).await;
        assert_eq!(cluster.join(dir.path(), "n2").await, 2);
        assert_eq!(cluster.join(dir.path(), "n3").await, 3);
        cluster.until("whole at three", whole(3)).await;
        cluster.until("spread", |view| (1..=3).all(|node| leaders(view).contains(&node))).await;
        cluster.post_some(9..=16).await;
        cluster.all_leave_once(1..=16).await;
        cluster.stop().await;
    });
}

#[test]
fn nothing_leaves_before_the_clocks_of_a_majority_have_reached_its_instant() {
    let dir = tempfile::tempdir().unwrap();
    rt().block_on(async {
        let cluster = Growing::of_three(dir.path()).await;
        // Whoever leads is three seconds ahead of both others.
        cluster.net.behind_ms.store(3_000, Ordering::Relaxed);
        cluster
            .until("seen", |view| {
                let behind = |node: &Value| node["health"]["clock"]["behind_ms"] == -3_000;
                view["nodes"].as_array().is_some_and(|nodes| nodes.iter().all(behind))
            })
            .await;
        cluster.post_some(1..=6).await;
        cluster.clock.advance(Millis(20 * 60_000 + 2_999));
        for _ in 0..30 {
            tokio::time::sleep(Duration::from_millis(20)).await;
            assert!((1..=6).all(|number| cluster.provider.of(key(number)) == 0), "early");
        }
        cluster.clock.advance(Millis(1));
        for number in 1..=6 {
            cluster.provider.until(key(number), 1).await;
        }
        cluster.stop().await;
    });
}

#[test]
fn a_drained_node_hands_everything_over_and_can_be_removed() {
    let dir = tempfile::tempdir().unwrap();
    rt().block_on(async {
        let mut cluster = Growing::found(dir.path()).await;
        cluster.join(dir.path(), "n2").await;
        cluster.join(dir.path(), "n3").await;
        cluster.join(dir.path(), "n4").await;
        cluster.until("whole at three", whole(3)).await;
        cluster.post_some(1..=8).await;
        let refused =
            cluster.nodes[1].door.change_cluster(ClusterChange::Remove { node: 2, force: false }, fresh()).await;
        assert!(matches!(refused, Err(ClusterError::Refused(_))), "{refused:?}");
        cluster.drain(2, false).await;
        let empty = |view: &Value| view["nodes"][1]["replicas"] == 0 && view["nodes"][1]["leads"] == 0;
        cluster.until("drained", |view| whole(3)(view) && empty(view)).await;
        let removed = loop {
            match cluster.nodes[0].door.change_cluster(ClusterChange::Remove { node: 2, force: false }, fresh()).await {
                // It may still vote in the meta group for a moment.
                Err(ClusterError::Refused(_)) => tokio::time::sleep(Duration::from_millis(50)).await,
                other => break other,
            }
        };
        removed.unwrap();
        let gone = cluster.nodes.remove(1);
        gone.node.stop().await;
        cluster.all_leave_once(1..=8).await;
        cluster.stop().await;
    });
}

#[test]
fn what_was_ordered_once_is_not_done_again_and_answered_as_before() {
    let dir = tempfile::tempdir().unwrap();
    rt().block_on(async {
        let cluster = Growing::of_three(dir.path()).await;
        let door = |node: usize| &cluster.nodes[node].door;
        let (drain, token) = (ClusterChange::Drain { node: 3, undo: false }, ClusterChange::IssueToken { seconds: 60 });
        let (drained, issued) = (fresh(), fresh());
        let first = door(0).change_cluster(drain, drained).await.unwrap();
        cluster.drain(3, true).await;
        let again = door(1).change_cluster(drain, drained).await.unwrap();
        assert_eq!((first.replayed, again.replayed, again.told), (false, true, first.told));
        let state = || meta::read(&cluster.nodes[0].node.shared).unwrap().1;
        assert_eq!(state().member(NodeId(3)).unwrap().state.draining(), None, "it was undone since");
        let made = door(0).change_cluster(token, issued).await.unwrap();
        cluster.clock.advance(Millis::from_secs(30));
        let same = door(2).change_cluster(token, issued).await.unwrap();
        assert_eq!((made.replayed, same.replayed, same.told), (false, true, made.told));
        let longer = ClusterChange::IssueToken { seconds: 90 };
        let reused = door(0).change_cluster(longer, (issued.0, Fingerprint([2; 16]))).await;
        assert_eq!(reused.unwrap_err(), ClusterError::Ask(AskError::KeyReused));
        cluster.stop().await;
    });
}

/// Their node hears nothing of the meta group meanwhile, and then of the last state only: it has the replicas that left when
/// their successors are to come.
#[test]
fn replicas_that_leave_and_are_wanted_back_before_their_node_looks_are_replaced() {
    let dir = tempfile::tempdir().unwrap();
    rt().block_on(async {
        let mut cluster = Growing::of_three(dir.path()).await;
        cluster.join(dir.path(), "n4").await;
        cluster.post_some(1..=8).await;
        let on_fourth = |view: &Value| view["nodes"][3]["replicas"].as_u64().unwrap_or(0);
        let shared_out = |view: &Value| whole(3)(view) && on_fourth(view) == 3;
        cluster.until("four nodes with three of four shards", shared_out).await;
        let before = cluster.nodes[3].node.shared.hosted();
        // It has no vote there that would be missed.
        cluster.net.deaf_to_meta.lock().insert(NodeId(4));
        cluster.drain(4, false).await;
        cluster.until("without node 4", |view| whole(3)(view) && on_fourth(view) == 0).await;
        assert_eq!(cluster.nodes[3].node.shared.hosted(), before, "it does not know");
        cluster.drain(4, true).await;
        cluster.until("on the way back", |view| on_fourth(view) == 3).await;
        cluster.net.deaf_to_meta.lock().clear();
        cluster.until("shared out again", shared_out).await;
        let after = cluster.nodes[3].node.shared.hosted();
        let kept: Vec<_> = after.iter().filter(|hosted| before.contains(hosted)).collect();
        assert_eq!((after.len(), kept), (before.len(), vec![&(META_SHARD, 4)]), "a peer that has left is no more");
        // They vote: without node 1, where most shards have another voter, nothing of those is committed but by them.
        cluster.net.isolate(1);
        let at = cluster.clock.now() + Millis::from_mins(20);
        for number in 9..=16 {
            while let Err(error) = cluster.nodes[1].door.ask(post(number, at)).await {
                assert!(matches!(error, AskError::Unavailable | AskError::Unknown), "{error:?}");
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        }
        cluster.net.heal();
        cluster.all_leave_once(1..=16).await;
        cluster.stop().await;
    });
}

#[test]
fn what_left_a_node_while_it_was_down_is_gone_from_its_disk_soon_after_it_is_back() {
    let dir = tempfile::tempdir().unwrap();
    rt().block_on(async {
        let mut cluster = Growing::of_three(dir.path()).await;
        cluster.join(dir.path(), "n4").await;
        cluster.post_some(1..=8).await;
        let on_fourth = |view: &Value| view["nodes"][3]["replicas"].as_u64().unwrap_or(0);
        cluster.until("shared out", |view| whole(3)(view) && on_fourth(view) == 3).await;
        let fourth = cluster.nodes.remove(3);
        let traces = |folder: &Folder| {
            let shards = (0..folder.shards).map(ShardId);
            shards.filter(|shard| folder.has_traces(*shard).unwrap()).count()
        };
        assert_eq!(traces(&fourth.node.folder), 3);
        fourth.node.stop().await;
        drop(fourth);
        cluster.net.nodes.lock().remove(&NodeId(4));
        cluster.drain(4, false).await;
        cluster.until("without node 4", |view| whole(3)(view) && on_fourth(view) == 0).await;
        let folder = Folder::open(&dir.path().join("n4"), OpenOptions { create: false, ..options() }).unwrap();
        assert_eq!(traces(&folder), 3, "nobody told it");
        cluster.start(folder, "n4").await;
        let back = cluster.nodes[3].node.clone();
        cluster.until("clean", |_| traces(&back.folder) == 0).await;
        cluster.all_leave_once(1..=8).await;
        drop(back);
        cluster.stop().await;
    });
}

#[test]
fn a_node_that_is_cut_off_from_a_leader_goes_round_through_the_third() {
    let dir = tempfile::tempdir().unwrap();
    rt().block_on(async {
        let cluster = Growing::of_three(dir.path()).await;
        let at = cluster.clock.now() + Millis::from_mins(20);
        let (number, shard) = cluster.number_led_by(3, 0);
        cluster.net.cut_pair(1, 3);
        let answer = cluster.nodes[0].door.ask(post(number, at)).await.unwrap();
        assert_eq!(answer.version, Version(1));
        let read = cluster.nodes[0].door.read(key(number)).await.unwrap().expect("posted");
        assert_eq!(read.version, Version(1));
        assert!(cluster.nodes[2].node.shared.leads(shard), "the leader is where it was: the request went round");
        // With no link at all it says so, and that nothing was done.
        cluster.net.isolate(1);
        let (other, _) = cluster.number_led_by(3, number);
        let refused = cluster.nodes[0].door.ask(post(other, at)).await.unwrap_err();
        assert!(matches!(refused, AskError::Unavailable), "{refused:?}");
        assert!(cluster.nodes[1].door.read(key(other)).await.unwrap().is_none(), "nothing was done");
        cluster.net.heal();
        cluster.nodes[0].door.ask(post(other, at)).await.unwrap();
        cluster.stop().await;
    });
}

#[test]
fn a_node_with_a_slow_disk_leads_nothing_until_the_disk_is_well() {
    let dir = tempfile::tempdir().unwrap();
    rt().block_on(async {
        let cluster = Growing::of_three(dir.path()).await;
        let disks = &cluster.nodes[1].node.shared.disks;
        let slow = |view: &Value| {
            view["disks"]["slow"].as_array().unwrap().iter().filter_map(Value::as_u64).collect::<Vec<_>>()
        };
        disks.delay_ms.store(300, Ordering::Relaxed);
        let at = cluster.clock.now() + Millis::from_mins(20);
        let traffic = async {
            for number in (1..=u8::MAX).cycle() {
                let _answered_or_moved = cluster.nodes[0].door.ask(post(number, at)).await;
            }
        };
        let shed = cluster.until("without leaders on the slow node", |view| {
            slow(view) == [2] && view["nodes"][1]["leads"] == 0 && view["meta"]["leader"] != 2
        });
        tokio::select! {
            view = shed => assert!(leaders(&view).iter().all(|leader| *leader != 2), "{view:#}"),
            () = traffic => unreachable!("it goes on for ever"),
        }
        cluster.until("led by the others", |view| leaders(view).len() == 4).await;
        assert!(cluster.nodes[1].node.shared.disks.view()["slow"] == true);
        // Nobody writes now: it finds out by itself.
        disks.delay_ms.store(0, Ordering::Relaxed);
        cluster.until("spread again", |view| slow(view).is_empty() && leaders(view).contains(&2)).await;
        cluster.stop().await;
    });
}

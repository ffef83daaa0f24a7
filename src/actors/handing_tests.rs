//! Whom a leader hands its shard to, and whom not: while a transfer is under way the shard takes no records.

use super::cluster::{Cluster, peer};
use super::{key, post, rt};
use crate::actors::door::Door;
use crate::actors::shard::ShardMsg;
use crate::types::ids::{NodeId, ShardId};
use crate::types::time::{Clock, Millis};
use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::sync::oneshot;

/// A node that died a moment ago leads nothing, and so is the first to be given something by whoever has not heard of it.
#[test]
fn a_leader_goes_on_when_its_heir_is_out_of_reach() {
    let dir = tempfile::tempdir().unwrap();
    rt().block_on(async {
        let cluster = Cluster::start(dir.path(), &[1, 2, 3]).await;
        let shard = ShardId(0);
        let leader = cluster.leader(shard, &[1, 2, 3]).await;
        let heir = if leader == 3 { 2 } else { 3 };
        let shared = cluster.nodes[leader - 1].node.shared.clone();
        let void = || shared.counters.records_void.load(Ordering::Relaxed);
        cluster.net.cut_pair(leader as u64, heir as u64);
        let (before, at) = (void(), cluster.clock.now() + Millis::from_mins(20));
        for number in (1..=40u8).filter(|number| shared.shard_of(&key(*number)) == shard) {
            shared.shard(shard).unwrap().cast(ShardMsg::TransferLeader(peer(shard, heir as u64))).unwrap();
            cluster.door(leader).ask(post(number, at)).await.unwrap();
        }
        assert_eq!(void(), before, "nothing was held up by a transfer that cannot come about");
        assert!(shared.leads(shard));
        cluster.net.heal();
        while shared.leads(shard) {
            shared.shard(shard).unwrap().cast(ShardMsg::TransferLeader(peer(shard, heir as u64))).unwrap();
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        cluster.stop().await;
    });
}

/// Asks for parcels of the shard, and looks that none of their records was held up.
async fn nothing_is_held_up(cluster: &Cluster, leader: usize, shard: ShardId) {
    let shared = &cluster.nodes[leader - 1].node.shared;
    let void = || shared.counters.records_void.load(Ordering::Relaxed);
    // What was sent before has been done.
    let (reply, done) = oneshot::channel();
    shared.shard(shard).unwrap().cast(ShardMsg::Status(reply)).unwrap();
    done.await.unwrap();
    let (before, at) = (void(), cluster.clock.now() + Millis::from_mins(20));
    for number in (1..=40u8).filter(|number| shared.shard_of(&key(*number)) == shard) {
        cluster.door(leader).ask(post(number, at)).await.unwrap();
    }
    assert_eq!(void(), before);
    assert!(shared.leads(shard));
}

/// The heir's process hangs. While its link stands the leader waits for it, and not in vain for two heirs at once; when the
/// link breaks it goes on.
#[test]
fn a_hand_over_ends_with_the_link_to_its_heir_and_is_not_given_up_for_another() {
    let dir = tempfile::tempdir().unwrap();
    rt().block_on(async {
        let cluster = Cluster::start(dir.path(), &[1, 2, 3]).await;
        let shard = ShardId(0);
        let leader = cluster.leader(shard, &[1, 2, 3]).await;
        let (heir, other) = (leader % 3 + 1, (leader + 1) % 3 + 1);
        cluster.nodes[heir - 1].node.stop().await;
        let actor = cluster.nodes[leader - 1].node.shared.shard(shard).unwrap();
        actor.cast(ShardMsg::TransferLeader(peer(shard, heir as u64))).unwrap();
        actor.cast(ShardMsg::TransferLeader(peer(shard, other as u64))).unwrap();
        actor.cast(ShardMsg::NodeGone(NodeId(heir as u64))).unwrap();
        nothing_is_held_up(&cluster, leader, shard).await;
        cluster.stop().await;
    });
}

/// It would not stand, and hold the shard up until the transfer is given up.
#[test]
fn nothing_is_handed_to_a_node_whose_clock_is_off() {
    let dir = tempfile::tempdir().unwrap();
    rt().block_on(async {
        let cluster = Cluster::start(dir.path(), &[1, 2, 3]).await;
        let shard = ShardId(0);
        let leader = cluster.leader(shard, &[1, 2, 3]).await;
        let heir = leader % 3 + 1;
        let shared = cluster.nodes[leader - 1].node.shared.clone();
        let mut links = shared.transport().links();
        for link in links.iter_mut().filter(|link| link.node == heir as u64) {
            link.steady_offset_ms = Some(60_000);
        }
        shared.clocks.count((1..=3).map(NodeId).collect(), BTreeMap::new());
        shared.clocks.look(&links, cluster.clock.now(), cluster.clock.steady());
        assert!(shared.clocks.off().contains(&NodeId(heir as u64)));
        shared.shard(shard).unwrap().cast(ShardMsg::TransferLeader(peer(shard, heir as u64))).unwrap();
        nothing_is_held_up(&cluster, leader, shard).await;
        cluster.stop().await;
    });
}

#[test]
fn a_node_whose_disk_is_slow_leads_when_a_leader_names_it() {
    let dir = tempfile::tempdir().unwrap();
    rt().block_on(async {
        let cluster = Cluster::start(dir.path(), &[1, 2, 3]).await;
        let shard = ShardId(0);
        let leader = cluster.leader(shard, &[1, 2, 3]).await;
        let heir = leader % 3 + 1;
        cluster.nodes[heir - 1].node.shared.disks.am_slow.store(true, Ordering::Release);
        while !cluster.nodes[heir - 1].node.shared.leads(shard) {
            let actor = cluster.nodes[leader - 1].node.shared.shard(shard).unwrap();
            actor.cast(ShardMsg::TransferLeader(peer(shard, heir as u64))).unwrap();
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        cluster.stop().await;
    });
}

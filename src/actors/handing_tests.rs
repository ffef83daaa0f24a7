//! Whom a leader hands its shard to, and whom not: while a transfer is under way the shard takes no records.

use super::cluster::{Cluster, peer};
use super::{key, post, rt};
use crate::actors::door::Door;
use crate::actors::shard::ShardMsg;
use crate::types::ids::ShardId;
use crate::types::time::{Clock, Millis};
use std::sync::atomic::Ordering;
use std::time::Duration;

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

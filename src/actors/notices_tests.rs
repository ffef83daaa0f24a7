//! Notices over changes of leaders: calls without a record before them, of which nothing is doubled that need not be.

use super::cluster::{Cluster, SHARDS, peer};
use super::{ParcelCommand, key, plain, rt, start};
use crate::actors::door::{Ask, AskError, Door};
use crate::actors::local;
use crate::actors::node::ReplicaSpec;
use crate::actors::router::{Reply, Request};
use crate::actors::shard::ShardMsg;
use crate::types::call::{CallOutcome, MessageOutcome};
use crate::types::effect::Slot;
use crate::types::ids::{ShardId, Version};
use crate::types::level::LEVELS;
use crate::types::time::{Clock, Millis, Timestamp};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::time::Instant;

/// What is sent for a parcel is a notice: no record goes before it.
fn tell(number: u8, at: Timestamp) -> Ask {
    plain(key(number), &ParcelCommand::Tell { at })
}

/// Tells of twelve parcels at once, by a provider that takes its time, and waits until each notice is on its way.
async fn notices_on_their_way(cluster: &Cluster, takes_ms: u64) {
    let at = cluster.clock.now() + Millis::from_mins(20);
    for number in 1..=12 {
        cluster.door(1).ask(tell(number, at)).await.unwrap();
    }
    cluster.provider.takes_ms.store(takes_ms, Ordering::Relaxed);
    cluster.clock.advance(Millis::from_mins(20));
    for number in 1..=12 {
        cluster.provider.until(key(number), 1).await;
    }
    // The clock that is moved by hand goes on: they were due before whoever leads from here on.
    cluster.clock.advance(Millis::from_mins(1));
}

/// Waits until the outcome of each notice is committed, and looks how often each was sent.
async fn each_was_sent_once(cluster: &Cluster, by: usize) {
    for number in 1..=12 {
        loop {
            match cluster.door(by).read(key(number)).await {
                Ok(Some(read)) if read.version == Version(2) => break,
                Ok(_) | Err(AskError::Unavailable | AskError::Unknown) => {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
                Err(other) => panic!("{other:?}"),
            }
        }
        assert_eq!(cluster.provider.of(key(number)), 1, "the notice of parcel {number}");
    }
}

/// The provider can neither be asked nor told twice here: it finds nothing. Nothing is wrong, so nothing is doubled.
#[test]
fn a_shard_that_is_handed_over_lets_its_notices_be_settled_first() {
    let dir = tempfile::tempdir().unwrap();
    rt().block_on(async {
        let cluster = Cluster::start(dir.path(), &[1, 2, 3]).await;
        let mut heirs = Vec::new();
        for shard in (0..SHARDS).map(ShardId) {
            let leader = cluster.leader(shard, &[1, 2, 3]).await;
            heirs.push((shard, leader, leader % 3 + 1));
        }
        notices_on_their_way(&cluster, 300).await;
        for (shard, leader, heir) in &heirs {
            let actor = cluster.nodes[leader - 1].node.shared.shard(*shard).unwrap();
            actor.cast(ShardMsg::TransferLeader(peer(*shard, *heir as u64))).unwrap();
        }
        for (shard, _, heir) in heirs {
            cluster.leader(shard, &[heir]).await;
        }
        each_was_sent_once(&cluster, 1).await;
        cluster.stop().await;
    });
}

/// It cannot know whether a notice was sent: it asks the provider before it sends one again.
#[test]
fn a_leader_that_takes_over_looks_for_notices_that_the_last_one_may_have_sent() {
    let dir = tempfile::tempdir().unwrap();
    rt().block_on(async {
        let cluster = Cluster::start(dir.path(), &[1, 2, 3]).await;
        cluster.provider.remembers.store(true, Ordering::Relaxed);
        notices_on_their_way(&cluster, 300).await;
        let shard = cluster.nodes[0].node.shared.shard_of(&key(1));
        let old = cluster.leader(shard, &[1, 2, 3]).await;
        cluster.net.isolate(old as u64);
        let rest: Vec<usize> = (1..=3).filter(|node| *node != old).collect();
        each_was_sent_once(&cluster, rest[0]).await;
        cluster.net.heal();
        cluster.stop().await;
    });
}

/// The calls take longer than a hand-over waits: their outcomes come home to the next leader, which waits for them.
#[test]
fn outcomes_of_notices_come_home_to_the_next_leader() {
    let dir = tempfile::tempdir().unwrap();
    rt().block_on(async {
        let cluster = Cluster::start(dir.path(), &[1, 2, 3]).await;
        for bench in &cluster.nodes {
            bench.node.shared.gate.follow(LEVELS.highest).unwrap();
        }
        notices_on_their_way(&cluster, 3_000).await;
        let mut heirs = Vec::new();
        for shard in (0..SHARDS).map(ShardId) {
            let leader = cluster.leader(shard, &[1, 2, 3]).await;
            let heir = leader % 3 + 1;
            let actor = cluster.nodes[leader - 1].node.shared.shard(shard).unwrap();
            actor.cast(ShardMsg::TransferLeader(peer(shard, heir as u64))).unwrap();
            heirs.push((shard, heir));
        }
        for (shard, heir) in heirs {
            cluster.leader(shard, &[heir]).await;
        }
        each_was_sent_once(&cluster, 1).await;
        cluster.stop().await;
    });
}

/// Its record was on its way when the leader changed, and was committed after all; or it was brought home twice.
#[test]
fn an_outcome_that_comes_home_after_it_was_committed_is_not_counted_again() {
    let dir = tempfile::tempdir().unwrap();
    rt().block_on(async {
        let bench = start(dir.path(), super::HandClock::new(), Arc::default()).await;
        let (shared, due) = (bench.node.shared.clone(), bench.clock.now());
        bench.door.ask(tell(1, due)).await.unwrap();
        let version = async || bench.door.read(key(1)).await.unwrap().unwrap().version;
        while version().await < Version(2) {
            tokio::task::yield_now().await;
        }
        let accepted = MessageOutcome::Accepted { provider: "c".into(), receipt: "r".into(), at: due };
        let outcome = CallOutcome::Message(accepted);
        let late = Request::Outcome { key: key(1), slot: Slot(1), due, outcome };
        let taken = local::execute(&shared, late, Instant::now() + Duration::from_secs(8)).await;
        assert!(matches!(taken, Ok(Reply::Taken)), "{taken:?}");
        // Nothing of it is left once the entity is.
        while shared.live.contains_key(&key(1)) {
            tokio::task::yield_now().await;
        }
        assert_eq!(version().await, Version(2));
        bench.node.stop().await;
    });
}

#[test]
fn a_replica_that_ended_in_the_middle_of_a_hand_over_holds_nothing_back_when_it_is_back() {
    let dir = tempfile::tempdir().unwrap();
    rt().block_on(async {
        let bench = start(dir.path(), super::HandClock::new(), Arc::default()).await;
        let (shared, now) = (bench.node.shared.clone(), bench.clock.now());
        let shard = shared.shard_of(&key(1));
        shared.repeats.hold(shard, true);
        bench.node.close_replica(shard).await;
        bench.node.open_replica(ReplicaSpec::lone(shard, 1)).await.unwrap();
        assert!(!shared.repeats.is_held(shard));
        bench.door.ask(tell(1, now)).await.unwrap();
        bench.provider.until(key(1), 1).await;
        bench.node.stop().await;
    });
}

//! The quotas of the fleet: several nodes' ends over one redis-server.

use crate::server::Server;
use bojagi::stream::{RedisAddress, RedisQuota};
use bojagi::types::quota::{FleetQuota, QuotaAnswer, QuotaAsk};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

const MEMBERS: u32 = 3;

fn node(server: &Server, seed: u64) -> Arc<RedisQuota> {
    let address = RedisAddress::parse(&server.url()).unwrap();
    Arc::new(RedisQuota::start(address, "bojagi", Arc::new(|| MEMBERS), seed))
}

fn ask(quota: &str, permits: u32) -> QuotaAsk {
    QuotaAsk { quota: quota.to_owned(), per_s: 400, burst: 40, permits }
}

/// What is granted. A machine that is busy may take longer to answer than a lane would wait.
async fn granted(quota: &RedisQuota, ask: QuotaAsk) -> u32 {
    for _ in 0..600 {
        match quota.take(ask.clone()).await {
            QuotaAnswer::Granted { permits } => return permits,
            QuotaAnswer::Away { .. } => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    }
    panic!("never granted");
}

/// Looks until it is so; the state follows a heartbeat.
async fn until(quota: &RedisQuota, shared: bool) {
    for _ in 0..600 {
        if quota.is_shared() == shared {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("never shared: {shared}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn several_nodes_together_never_take_more_than_the_quota() {
    let server = Server::start();
    let nodes: Vec<_> = (0..4).map(|seed| node(&server, seed)).collect();
    for node in &nodes {
        until(node, true).await;
    }
    let began = Instant::now();
    let takers = nodes.into_iter().enumerate().map(|(place, node)| {
        tokio::spawn(async move {
            let mut taken = 0u64;
            while began.elapsed() < Duration::from_secs(3) {
                // Sizes differ, so that small askers stand beside large ones.
                taken += u64::from(granted(&node, ask("sms", 1 + 10 * u32::try_from(place).unwrap())).await);
            }
            taken
        })
    });
    let mut taken = Vec::new();
    for taker in futures_util::future::join_all(takers).await {
        taken.push(taker.unwrap());
    }
    let millis = u64::try_from(began.elapsed().as_millis()).unwrap() + 1;
    let total: u64 = taken.iter().sum();
    assert!(total <= 40 + 400 * millis / 1_000, "{total} of all in {millis} ms: {taken:?}");
    assert!(total > 0);
    println!("quota: {total} permits in {millis} ms at 400 a second, {taken:?} of each node");
}

#[tokio::test]
async fn quotas_do_not_touch_each_other_and_an_emptied_redis_gives_no_second_burst() {
    let server = Server::start();
    let node = node(&server, 1);
    until(&node, true).await;
    let slow = QuotaAsk { quota: "email".to_owned(), per_s: 1, burst: 1_000, permits: 500 };
    assert!(granted(&node, slow.clone()).await < 100, "a fresh bucket begins empty");
    assert!((1..=5).contains(&granted(&node, ask("sms", 5)).await));
    redis::cmd("FLUSHALL").exec(&mut server.connection()).unwrap();
    assert!(granted(&node, slow).await < 100);
}

#[tokio::test]
async fn without_redis_each_node_hears_its_part_and_with_it_the_quota_is_shared_again() {
    let mut server = Server::start();
    let node = node(&server, 1);
    until(&node, true).await;
    assert!(granted(&node, ask("sms", 5)).await > 0);
    server.kill();
    let mut answers = Vec::new();
    while answers.last() != Some(&QuotaAnswer::Away { members: MEMBERS }) {
        assert!(answers.len() < 1_000, "{answers:?}");
        answers.push(node.take(ask("sms", 5)).await);
    }
    assert!(!node.is_shared());
    assert_eq!(node.take(ask("sms", 5)).await, QuotaAnswer::Away { members: MEMBERS }, "without a wait");
    server.launch();
    until(&node, true).await;
    assert!(granted(&node, ask("sms", 5)).await > 0);
}

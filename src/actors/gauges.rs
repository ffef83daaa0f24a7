//! The runtime's figures for Prometheus, once a second; `docs/METRICS.md` lists them.

use crate::actors::alerts::LOOK_EVERY_S;
use crate::actors::health::Due;
use crate::actors::node::Node;
use crate::actors::shard::ShardStatus;
use crate::actors::shared::Shared;
use crate::gateways::{GatewayState, Gateways, lane_name};
use crate::replication::transport::LinkStatus;
use metrics::{counter, gauge};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

const EVERY: Duration = Duration::from_secs(1);
/// Seconds between two looks at what is due, and between two spans of the commit latency.
const DUE_EVERY: u64 = LOOK_EVERY_S;
const SPAN: u64 = 10;

/// Publishes until it is aborted.
pub async fn run(shared: Arc<Shared>) {
    let mut interval = tokio::time::interval(EVERY);
    interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut second = 0u64;
    let mut peers = BTreeSet::new();
    loop {
        interval.tick().await;
        publish(&shared);
        let linked = publish_health(&shared);
        retire_links(&peers.difference(&linked).copied().collect());
        peers = linked;
        if let Some(node) = shared.host() {
            publish_shards(&node).await;
        }
        second += 1;
        if second.is_multiple_of(SPAN) {
            shared.counters.commit.turn();
        }
        if second.is_multiple_of(DUE_EVERY) {
            Due::look(&shared).await;
            let reader = shared.clone();
            // Behind no checkpoint, and not waited for long: they are judged, and figures go on, when the disk does not.
            let look = shared.pool.ask(move || reader.alerts.look(&reader));
            let _late_or_stopping = tokio::time::timeout(EVERY, look).await;
        }
    }
}

#[allow(clippy::cast_precision_loss, reason = "gauges are floats; these counts stay far below 2^52")]
fn float(value: i64) -> f64 {
    value as f64
}

fn unsigned(value: u64) -> f64 {
    float(i64::try_from(value).unwrap_or(i64::MAX))
}

fn publish(shared: &Shared) {
    let counters = &shared.counters;
    let led = shared.led.iter().filter(|led| led.load(Ordering::Acquire)).count();
    let set = |name: &'static str, value: i64| gauge!(name).set(float(value));
    let count = |value: usize| i64::try_from(value).unwrap_or(i64::MAX);
    set("bojagi_shards_led", count(led));
    set("bojagi_entities_live", count(counters.live.load(Ordering::Relaxed)));
    set("bojagi_entities_busy", counters.busy.load(Ordering::Relaxed));
    set("bojagi_records_in_flight", counters.records_in_flight.load(Ordering::Relaxed));
    set("bojagi_calls_queued", shared.gateways.get().map_or(0, |gateways: &Gateways| count(gateways.queued())));
    let (open, waiting) = shared.pace.load();
    set("bojagi_entity_calls_open", i64::from(open));
    set("bojagi_entity_calls_waiting", count(waiting));
    for gateway in shared.gateways.get().map(Gateways::states).unwrap_or_default() {
        publish_gateway(&gateway);
    }
    gauge!("bojagi_timers_due").set(unsigned(counters.due.timers.load(Ordering::Relaxed)));
    gauge!("bojagi_calls_due").set(unsigned(counters.due.calls.load(Ordering::Relaxed)));
    gauge!("bojagi_outbox_age_seconds").set(float(counters.due.oldest_call_ms.load(Ordering::Relaxed)) / 1_000.0);
    let total = |name: &'static str, value: &AtomicU64| counter!(name).absolute(value.load(Ordering::Relaxed));
    total("bojagi_records_applied_total", &counters.records_applied);
    total("bojagi_records_void_total", &counters.records_void);
    // So that it is there before the first.
    counter!("bojagi_records_too_large_total").increment(0);
    total("bojagi_entity_restarts_total", &counters.entity_restarts);
    total("bojagi_snapshots_sent_total", &counters.snapshots_sent);
    total("bojagi_snapshots_installed_total", &counters.snapshots_installed);
    total("bojagi_elections_won_total", &counters.elections_won);
    total("bojagi_step_downs_total", &counters.step_downs);
    total("bojagi_quorum_lost_total", &counters.quorum_lost);
    total("bojagi_member_changes_total", &counters.member_changes);
}

/// The instant as Prometheus tells time; 0 while it is closed.
fn publish_gateway(gateway: &GatewayState) {
    if gateway.served {
        let since = float(gateway.open_since.map_or(0, |since| since.0)) / 1_000.0;
        gauge!("gateway_open_since_seconds", "lane" => lane_name(gateway.lane), "kind" => gateway.kind()).set(since);
    }
}

/// Publishes what a node is judged by; the members that it keeps links to.
fn publish_health(shared: &Shared) -> BTreeSet<u64> {
    gauge!("bojagi_disk_slow").set(if shared.disks.am_slow() { 1.0 } else { 0.0 });
    gauge!("bojagi_log_sync_seconds").set(float(shared.disks.typical().map_or(0, |typical| typical.0)) / 1_000.0);
    gauge!("bojagi_clock_off").set(if shared.clocks.am_off() { 1.0 } else { 0.0 });
    if let Some(behind) = shared.clocks.deviation() {
        gauge!("bojagi_clock_behind_seconds").set(float(behind.0) / 1_000.0);
    }
    let now = shared.clock.now();
    for end in shared.transport().certificates() {
        gauge!("bojagi_certificate_seconds", "of" => end.of.name()).set(float(end.seconds_left(now)));
    }
    let links = shared.transport().links();
    links.iter().for_each(publish_link);
    links.iter().map(|link| link.node).collect()
}

/// Gauges of a member that was removed: they would stand as they were, and wake an operator, until this node starts again.
fn retire_links(peers: &BTreeSet<u64>) {
    for peer in peers {
        for name in ["bojagi_link_up", "bojagi_clock_offset_seconds"] {
            gauge!(name, "peer" => peer.to_string()).set(f64::NAN);
        }
    }
}

fn publish_link(link: &LinkStatus) {
    let peer = link.node.to_string();
    gauge!("bojagi_link_up", "peer" => peer.clone()).set(if link.up { 1.0 } else { 0.0 });
    gauge!("bojagi_link_queued_bytes", "peer" => peer.clone()).set(unsigned(link.queued_bytes));
    for (class, credit) in ["raft", "call", "snapshot"].into_iter().zip(link.credit_bytes) {
        gauge!("bojagi_link_credit_bytes", "peer" => peer.clone(), "class" => class).set(unsigned(credit));
    }
    counter!("bojagi_link_frames_dropped_total", "peer" => peer.clone()).absolute(link.dropped_frames);
    if let Some(micros) = link.round_trip_us {
        gauge!("bojagi_link_round_trip_seconds", "peer" => peer.clone()).set(unsigned(micros) / 1e6);
    }
    if let (Some(offset), Some(error)) = (link.clock_offset_ms, link.clock_error_ms) {
        gauge!("bojagi_clock_offset_seconds", "peer" => peer.clone()).set(float(offset) / 1_000.0);
        gauge!("bojagi_clock_error_seconds", "peer" => peer).set(float(error) / 1_000.0);
    }
}

async fn publish_shards(node: &Node) {
    let statuses = node.statuses().await;
    let led = |status: &&ShardStatus| node.shared.leads(crate::types::ids::ShardId(status.id));
    let lag = statuses.iter().filter(led).map(|status| status.lag).max().unwrap_or(0);
    gauge!("bojagi_replication_lag_entries").set(unsigned(lag));
    let unapplied = statuses.iter().map(|status| status.commit.saturating_sub(status.applied)).max().unwrap_or(0);
    gauge!("bojagi_unapplied_entries").set(unsigned(unapplied));
    gauge!("bojagi_replicas").set(unsigned(statuses.len() as u64));
    for status in &statuses {
        let shard = status.id.to_string();
        gauge!("bojagi_shard_term", "shard" => shard.clone()).set(unsigned(status.term));
        gauge!("bojagi_shard_led", "shard" => shard).set(if led(&status) { 1.0 } else { 0.0 });
    }
}

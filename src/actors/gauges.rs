//! The runtime's figures for Prometheus, once a second.

use crate::actors::shared::Shared;
use metrics::{counter, gauge};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

const EVERY: Duration = Duration::from_secs(1);

/// Publishes until it is aborted.
pub async fn run(shared: Arc<Shared>) {
    let mut interval = tokio::time::interval(EVERY);
    interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        interval.tick().await;
        publish(&shared);
    }
}

fn publish(shared: &Shared) {
    let counters = &shared.counters;
    let led = shared.led.iter().filter(|led| led.load(Ordering::Acquire)).count();
    #[allow(clippy::cast_precision_loss, reason = "gauges are floats; these counts stay far below 2^52")]
    let set = |name: &'static str, value: i64| gauge!(name).set(value as f64);
    let count = |value: usize| i64::try_from(value).unwrap_or(i64::MAX);
    set("bojagi_shards_led", count(led));
    set("bojagi_entities_live", count(counters.live.load(Ordering::Relaxed)));
    set("bojagi_entities_busy", counters.busy.load(Ordering::Relaxed));
    set("bojagi_records_in_flight", counters.records_in_flight.load(Ordering::Relaxed));
    counter!("bojagi_records_applied_total").absolute(counters.records_applied.load(Ordering::Relaxed));
    counter!("bojagi_records_void_total").absolute(counters.records_void.load(Ordering::Relaxed));
    counter!("bojagi_entity_restarts_total").absolute(counters.entity_restarts.load(Ordering::Relaxed));
}

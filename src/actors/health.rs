//! A node's own figures for its operator: what `GET /v1/ops/cluster` shows under each node's `health`, and what is due.

use crate::actors::alerts::Raised;
use crate::actors::shared::Shared;
use crate::gateways::Gateways;
use crate::types::ids::ShardId;
use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

/// Rows that are looked at of one shard: beyond it the figures say "at least".
const ROWS_MAX: usize = 1_024;

/// Wants that are due and not done, on the shards led here; as of the last look.
#[derive(Default)]
pub struct Due {
    pub timers: AtomicU64,
    pub calls: AtomicU64,
    /// For how long the oldest of the calls has been due, in milliseconds.
    pub oldest_call_ms: AtomicI64,
}

impl Due {
    /// Reads the wake rows; blocks on the disk.
    pub fn look(&self, shared: &Shared) {
        let (mut timers, mut calls, mut oldest) = (0, 0, 0);
        for shard in (0..shared.shard_count).map(ShardId).filter(|shard| shared.leads(*shard)) {
            let Some(now) = shared.time(shard) else { continue };
            let rows = match shared.state.wake_scan(shard, None, now, ROWS_MAX) {
                Ok(rows) => rows,
                Err(error) => shared.fatal(&error.to_string()),
            };
            for row in rows {
                match row.lane {
                    None => timers += 1,
                    Some(_) => {
                        calls += 1;
                        oldest = oldest.max((now - row.due).0);
                    }
                }
            }
        }
        self.timers.store(timers, Ordering::Relaxed);
        self.calls.store(calls, Ordering::Relaxed);
        self.oldest_call_ms.store(oldest, Ordering::Relaxed);
    }
}

/// The figures of this node.
#[must_use]
pub fn health(shared: &Arc<Shared>) -> Value {
    let counters = &shared.counters;
    let millis = |share| counters.commit.quantile_us(share).map(|micros| micros as f64 / 1_000.0);
    let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    let (cpu_share, disk_used_share) = shared.alerts.machine();
    json!({
        "clock": {
            "off": shared.clocks.am_off(),
            "behind_ms": shared.clocks.deviation().map(|behind| behind.0),
            "known": shared.clocks.readings().len(),
        },
        "log_sync": shared.disks.view(),
        "commit_ms": { "p50": millis(0.5), "p99": millis(0.99) },
        "records": {
            "in_flight": counters.records_in_flight.load(Ordering::Relaxed),
            "applied": count(&counters.records_applied),
            "void": count(&counters.records_void),
        },
        "snapshots": { "sent": count(&counters.snapshots_sent), "installed": count(&counters.snapshots_installed) },
        "elections_won": count(&counters.elections_won),
        "step_downs": count(&counters.step_downs),
        "quorum_lost": count(&counters.quorum_lost),
        "member_changes": count(&counters.member_changes),
        "due": {
            "timers": count(&counters.due.timers),
            "calls": count(&counters.due.calls),
            "oldest_call_ms": counters.due.oldest_call_ms.load(Ordering::Relaxed),
        },
        "queued_calls": shared.gateways.get().map_or(0, Gateways::queued),
        "cpu_share": cpu_share,
        "disk_used_share": disk_used_share,
        "alerts": shared.alerts.raised().iter().map(Raised::view).collect::<Vec<Value>>(),
        "links": shared.transport().links(),
    })
}

//! A node's own figures for its operator: what `GET /v1/ops/cluster` shows under each node's `health`, and what is due.

use crate::actors::alerts::Raised;
use crate::actors::seats::SeatClass;
use crate::actors::shared::Shared;
use crate::gateways::Gateways;
use crate::persistence::state_store::WakeRow;
use crate::replication::transport::CertificateEnd;
use crate::types::ids::ShardId;
use crate::types::time::Timestamp;
use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::Mutex;
use tokio::time::Instant;

/// Rows that are read of one shard: beyond it the figures say "at least".
pub const ROWS_MAX: usize = 1_000_000;
const PAGE: usize = 4_096;
/// A look is as long as there are rows due. Between two of them at least this long passes, and nine times what the last one took:
/// a figure for operators may cost a tenth of one thread, whatever piles up and however often they ask.
const PAUSE_MIN: Duration = Duration::from_millis(250);
/// Who asks waits this long for a look that he began, then takes the last figures.
const PATIENCE: Duration = Duration::from_millis(200);

/// Wants that are due and not done, on the shards led here; as of the last look.
#[derive(Default)]
pub struct Due {
    pub timers: AtomicU64,
    pub calls: AtomicU64,
    /// For how long the oldest of the calls has been due, in milliseconds.
    pub oldest_call_ms: AtomicI64,
    by_class: [AtomicU64; SeatClass::ALL.len()],
    /// Held by the look that runs: when the next one may begin.
    next: Arc<Mutex<Option<Instant>>>,
}

impl Due {
    /// Wants of a class that are due and not done.
    #[must_use]
    pub fn of(&self, class: SeatClass) -> u64 {
        self.by_class[class.place()].load(Ordering::Relaxed)
    }

    /// Begins a look, unless one runs or has run lately, and waits a little for it.
    pub async fn look(shared: &Arc<Shared>) {
        let Ok(mut next) = shared.counters.due.next.clone().try_lock_owned() else { return };
        let began = Instant::now();
        if next.is_some_and(|next| began < next) {
            return;
        }
        let reader = shared.clone();
        let looked = shared.background.ask(move || {
            reader.counters.due.count(&reader);
            *next = Some(Instant::now() + PAUSE_MIN.max(9 * began.elapsed()));
        });
        let _late = tokio::time::timeout(PATIENCE, looked).await;
    }

    /// Reads the wake rows; blocks on the disk.
    fn count(&self, shared: &Shared) {
        let mut by_class = [0u64; SeatClass::ALL.len()];
        let (mut timers, mut calls, mut oldest) = (0, 0, 0);
        for shard in (0..shared.shard_count).map(ShardId).filter(|shard| shared.leads(*shard)) {
            let Some(now) = shared.time(shard) else { continue };
            each_wake(shared, shard, now, |row| {
                by_class[SeatClass::of(row.lane).place()] += 1;
                match row.lane {
                    None => timers += 1,
                    Some(_) => {
                        calls += 1;
                        oldest = oldest.max((now - row.due).0);
                    }
                }
            });
        }
        self.timers.store(timers, Ordering::Relaxed);
        self.calls.store(calls, Ordering::Relaxed);
        self.oldest_call_ms.store(oldest, Ordering::Relaxed);
        self.by_class.iter().zip(by_class).for_each(|(known, counted)| known.store(counted, Ordering::Relaxed));
    }
}

/// Every wake row of a shard due by `until`, at most [`ROWS_MAX`]; blocks on the disk.
pub fn each_wake(shared: &Shared, shard: ShardId, until: Timestamp, mut each: impl FnMut(&WakeRow)) {
    let mut after = None;
    let mut read = 0;
    while read < ROWS_MAX {
        let rows = match shared.state.wake_scan(shard, after, until, PAGE) {
            Ok(rows) => rows,
            Err(error) => shared.fatal(&error.to_string()),
        };
        rows.iter().for_each(&mut each);
        read += rows.len();
        match rows.last() {
            Some(last) if rows.len() == PAGE => after = Some(last.cursor()),
            Some(_) | None => break,
        }
    }
}

fn certificates(shared: &Shared) -> Vec<Value> {
    let now = shared.clock.now();
    let view = |end: CertificateEnd| {
        json!({
            "of": end.of.name(), "not_after": end.not_after.to_rfc3339(), "seconds_left": end.seconds_left(now),
        })
    };
    shared.transport().certificates().into_iter().map(view).collect()
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
        "certificates": certificates(shared),
        "links": shared.transport().links(),
    })
}

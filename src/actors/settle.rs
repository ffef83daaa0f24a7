//! The dev clock's walk: from due instant to due instant, waiting at each until nothing is due and no call is in flight.

use crate::actors::door::DevDoor;
use crate::actors::node::Node;
use crate::actors::seats::{SeatClass, after_all_at};
use crate::types::ids::ShardId;
use crate::types::time::{Clock, Millis, Timestamp};
use futures_util::future::BoxFuture;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// A clock whose wall time can be moved forward by hand.
pub trait MovableClock: Clock {
    /// Moves the wall clock of all processes of the dev folder forward, to `instant` at the earliest.
    fn move_to(&self, instant: Timestamp);
}

/// What the sandbox still has to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outside {
    pub quiet: bool,
    pub next_due: Option<Timestamp>,
}

/// Asks the sandbox.
pub type OutsideProbe = Box<dyn Fn() -> BoxFuture<'static, Outside> + Send + Sync>;

/// Real time that one `advance` may wait for things to settle.
const PATIENCE: Duration = Duration::from_secs(30);
const LOOK_EVERY: Duration = Duration::from_millis(10);
/// Consecutive quiet looks that count as settled.
const QUIET_LOOKS: u32 = 3;

/// Walks the clock.
pub struct Settler {
    node: Arc<Node>,
    clock: Arc<dyn MovableClock>,
    outside: OutsideProbe,
    /// One walk at a time.
    walking: tokio::sync::Mutex<()>,
}

impl Settler {
    #[must_use]
    pub fn new(node: Arc<Node>, clock: Arc<dyn MovableClock>, outside: OutsideProbe) -> Self {
        Self { node, clock, outside, walking: tokio::sync::Mutex::new(()) }
    }

    async fn walk(&self, seconds: i64) -> (Timestamp, bool) {
        let _one_at_a_time = self.walking.lock().await;
        let target = self.clock.now() + Millis::from_secs(seconds.max(0));
        let deadline = tokio::time::Instant::now() + PATIENCE;
        let mut settled = self.settle(deadline).await;
        while let Some(due) = self.next_due(target).await {
            if tokio::time::Instant::now() >= deadline {
                break;
            }
            self.clock.move_to(due);
            settled = self.settle(deadline).await;
        }
        if self.clock.now() < target {
            self.clock.move_to(target);
            settled = self.settle(deadline).await;
        }
        (self.clock.now(), settled)
    }

    /// The next instant after now and not after `target` at which anything is due.
    async fn next_due(&self, target: Timestamp) -> Option<Timestamp> {
        let now = self.clock.now();
        let shared = self.node.shared.clone();
        let rows = self
            .node
            .shared
            .pool
            .ask(move || {
                (0..shared.shard_count)
                    .filter_map(|shard| match shared.state.next_due(ShardId(shard), Some(after_all_at(now))) {
                        Ok(due) => due,
                        Err(error) => shared.fatal(&error.to_string()),
                    })
                    .min()
            })
            .await
            .flatten();
        let outside = (self.outside)().await.next_due;
        let gateways = self.node.shared.gateways.get().and_then(|gateways| gateways.next_due());
        let waits = self.node.shared.wakes.iter().flatten().map(|wake| wake.value().1).filter(|due| *due > now).min();
        [rows, outside, gateways, waits].into_iter().flatten().filter(|due| *due > now && *due <= target).min()
    }

    /// Waits until several looks in a row find nothing due and nothing in flight.
    async fn settle(&self, deadline: tokio::time::Instant) -> bool {
        let mut quiet_looks = 0;
        while quiet_looks < QUIET_LOOKS {
            if tokio::time::Instant::now() >= deadline {
                return false;
            }
            let quiet = self.is_quiet().await;
            quiet_looks = if quiet { quiet_looks + 1 } else { 0 };
            tokio::time::sleep(LOOK_EVERY).await;
        }
        true
    }

    async fn is_quiet(&self) -> bool {
        let shared = self.node.shared.clone();
        let counters = &shared.counters;
        let now = self.clock.now();
        // Tickets that a lane holds back until a later instant are at rest, and so are their entities.
        let held_back = |gateways: &crate::gateways::Gateways| match gateways.next_due() {
            Some(due) if due > now => gateways.queued(),
            Some(_) | None => 0,
        };
        let at_rest = shared.gateways.get().map_or(0, held_back);
        let busy = usize::try_from(counters.busy.load(Ordering::Relaxed)).unwrap_or(0);
        let idle = busy <= at_rest
            && counters.records_in_flight.load(Ordering::Relaxed) == 0
            && shared.gateways.get().is_none_or(|gateways| gateways.open_attempts() == 0);
        idle && self.nothing_unloaded().await && (self.outside)().await.quiet
    }

    /// No due row without a live entity to handle it, but those whose lane has no room.
    async fn nothing_unloaded(&self) -> bool {
        let shared = self.node.shared.clone();
        let now = self.clock.now();
        let job = move || {
            (0..shared.shard_count).all(|shard| match shared.state.wake_scan(ShardId(shard), None, now, 64) {
                Ok(rows) => rows
                    .iter()
                    .all(|row| shared.live.contains_key(&row.key) || shared.seats.room(SeatClass::of(row.lane)) == 0),
                Err(error) => shared.fatal(&error.to_string()),
            })
        };
        self.node.shared.pool.ask(job).await.unwrap_or(false)
    }
}

impl DevDoor for Settler {
    fn advance(&self, seconds: i64) -> BoxFuture<'_, (Timestamp, bool)> {
        Box::pin(self.walk(seconds))
    }
}

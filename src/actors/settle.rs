//! The dev clock's walk: from due instant to due instant, waiting at each until nothing is due and no call is in flight.

use crate::actors::door::DevDoor;
use crate::actors::node::Node;
use crate::actors::router::{self, NodeReply, NodeRequest};
use crate::actors::seats::{SeatClass, after_all_at};
use crate::types::ids::{NodeId, ShardId};
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
/// Consecutive quiet looks that count as settled: the other processes, which hear of a move as it is made, have had time to act on it.
const QUIET_LOOKS: u32 = 5;

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

    /// The next instant after now and not after `target` at which anything is due, on any node.
    async fn next_due(&self, target: Timestamp) -> Option<Timestamp> {
        let now = self.clock.now();
        let here = next_due_here(&self.node).await;
        let outside = (self.outside)().await.next_due;
        let others = self.others().await.into_iter().flatten().filter_map(|(_, due)| due);
        [here, outside].into_iter().flatten().chain(others).filter(|due| *due > now && *due <= target).min()
    }

    /// What the other nodes say; `None` of one that does not answer although its link is up.
    async fn others(&self) -> Vec<Option<(bool, Option<Timestamp>)>> {
        let links = self.node.shared.transport().links();
        let asked = links.iter().filter(|link| link.up).map(|link| async {
            let answer = router::ask_node(&self.node.shared, NodeId(link.node), NodeRequest::Quiet).await;
            let Ok(NodeReply::Quiet { quiet, next_due }) = answer else { return None };
            Some((quiet, next_due))
        });
        futures_util::future::join_all(asked).await
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
        is_quiet_here(&self.node).await
            && self.others().await.into_iter().all(|other| other.is_some_and(|(quiet, _)| quiet))
            && (self.outside)().await.quiet
    }
}

/// Whether nothing is due and undone on this node, and when something next is.
pub async fn look(node: &Node) -> (bool, Option<Timestamp>) {
    (is_quiet_here(node).await, next_due_here(node).await)
}

async fn next_due_here(node: &Node) -> Option<Timestamp> {
    let now = node.shared.clock.now();
    let shared = node.shared.clone();
    let first_row = move || {
        let led = (0..shared.shard_count).map(ShardId).filter(|shard| shared.leads(*shard));
        led.filter_map(|shard| match shared.state.next_due(shard, Some(after_all_at(now))) {
            Ok(due) => due,
            Err(error) => shared.fatal(&error.to_string()),
        })
        .min()
    };
    let rows = node.shared.pool.ask(first_row).await.flatten();
    let gateways = node.shared.gateways.get().and_then(|gateways| gateways.next_due());
    let waits = node.shared.wakes.iter().flatten().map(|wake| wake.value().1).filter(|due| *due > now).min();
    [rows, gateways, waits].into_iter().flatten().filter(|due| *due > now).min()
}

async fn is_quiet_here(node: &Node) -> bool {
    let shared = &node.shared;
    let counters = &shared.counters;
    let now = shared.clock.now();
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
    idle && nothing_unloaded(node).await
}

/// No due row without a live entity to handle it, but those whose lane has no room.
async fn nothing_unloaded(node: &Node) -> bool {
    let shared = node.shared.clone();
    let now = shared.clock.now();
    let job = move || {
        let mut led = (0..shared.shard_count).map(ShardId).filter(|shard| shared.leads(*shard));
        led.all(|shard| match shared.state.wake_scan(shard, None, now, 64) {
            Ok(rows) => rows
                .iter()
                .all(|row| shared.live.contains_key(&row.key) || shared.seats.room(SeatClass::of(row.lane)) == 0),
            Err(error) => shared.fatal(&error.to_string()),
        })
    };
    node.shared.pool.ask(job).await.unwrap_or(false)
}

impl DevDoor for Settler {
    fn advance(&self, seconds: i64) -> BoxFuture<'_, (Timestamp, bool)> {
        Box::pin(self.walk(seconds))
    }
}

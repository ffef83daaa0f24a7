//! How far a burst is, and what a blow hits: read from the sandbox's ledger and the nodes' gateways.

use crate::chaos::ChaosError;
use crate::chaos::stand::Stand;
use crate::load::api::ClusterClock;
use crate::load::http::Connection;
use crate::load::{LoadError, ledger};
use crate::types::time::{Millis, Timestamp};
use serde::{Deserialize, Serialize};
use std::time::Duration;
use tokio::sync::Mutex;
use tokio::time::sleep;

/// A kill counts with at least so many attempts open at its node, or so many gifts due within [`SOON`].
pub const OPEN_ATTEMPTS_MIN: u64 = 100;
pub const DUE_SOON_MIN: u64 = 1_000;
pub const SOON: Millis = Millis::from_secs(5);
const LOOK_EVERY: Duration = Duration::from_millis(10);
/// A look at a node's gateways.
const LOOK_DEADLINE: Millis = Millis::from_secs(2);
/// The burst has begun by then.
const BEGUN_WITHIN: Millis = Millis::from_secs(120);

/// One kill, and what it hit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Blow {
    pub node: u16,
    /// Milliseconds since the begin of the round.
    pub at_ms_since_round_start: u64,
    /// Calls of the node that had left and had no answer.
    pub open_attempts: u64,
    /// Gifts of the burst that were not delivered and due within five seconds.
    pub due_soon: u64,
}

impl Blow {
    /// Whether it hit the middle of the work.
    #[must_use]
    pub fn counts(&self) -> bool {
        self.open_attempts >= OPEN_ATTEMPTS_MIN || self.due_soon >= DUE_SOON_MIN
    }
}

/// Of one round.
pub struct Gauge<'a> {
    pub stand: &'a Stand,
    pub sandbox: Mutex<Connection>,
    /// The cluster's, read before anything was done to it.
    pub clock: ClusterClock,
    pub due: Timestamp,
    /// When each gift of the burst is due, in order.
    pub dues: Vec<Timestamp>,
    /// Gifts that the ledger had before the burst.
    pub before: u64,
}

impl Gauge<'_> {
    /// Gifts of the burst that have arrived.
    ///
    /// # Errors
    /// [`LoadError`]: the sandbox does not answer.
    pub async fn delivered(&self) -> Result<u64, LoadError> {
        let mut sandbox = self.sandbox.lock().await;
        Ok(ledger::summary(&mut sandbox).await?.gifts_delivered.saturating_sub(self.before))
    }

    /// Gifts of the burst.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.dues.len() as u64
    }

    /// Whether gifts fall due beyond the next five seconds.
    #[must_use]
    pub fn falls_due_on(&self) -> bool {
        self.dues.last().is_some_and(|last| *last > self.clock.now() + SOON)
    }

    /// Waits until so much of the burst is delivered.
    ///
    /// # Errors
    /// [`ChaosError::Stand`]: it has not begun two minutes after its instant.
    pub async fn until_delivered(&self, percent: u64) -> Result<(), ChaosError> {
        let wanted = (self.total() * percent / 100).max(1);
        while self.delivered().await? < wanted {
            if self.clock.now() > self.due + BEGUN_WITHIN {
                return Err(ChaosError::Stand(format!("the burst is not delivered to {percent} % after two minutes")));
            }
            sleep(LOOK_EVERY).await;
        }
        Ok(())
    }

    /// Waits until an instant of the cluster's clock.
    pub async fn until(&self, instant: Timestamp) {
        let left = instant - self.clock.now();
        sleep(Duration::from_millis(u64::try_from(left.0).unwrap_or(0))).await;
    }

    /// Waits for a moment in which the nodes have enough attempts open, until most of the burst is delivered.
    ///
    /// # Errors
    /// [`LoadError`]: the sandbox does not answer.
    pub async fn until_busy(&self, nodes: &[u16], latest_percent: u64) -> Result<u64, LoadError> {
        let latest = self.total() * latest_percent / 100;
        let mut open = self.open_attempts(nodes).await;
        while !nodes.is_empty() && open < OPEN_ATTEMPTS_MIN && self.delivered().await? < latest {
            open = self.open_attempts(nodes).await;
        }
        Ok(open)
    }

    /// Calls that have left the nodes and have no answer yet.
    pub async fn open_attempts(&self, nodes: &[u16]) -> u64 {
        let mut open = 0;
        for node in nodes {
            let view = self.stand.get(*node, "/v1/ops/gateways?of=node", LOOK_DEADLINE).await.unwrap_or_default();
            let lanes = view["lanes"].as_array().cloned().unwrap_or_default();
            open += lanes.iter().filter_map(|lane| lane["in_flight"].as_u64()).sum::<u64>();
        }
        open
    }

    /// What a kill of this node would hit now.
    ///
    /// # Errors
    /// [`LoadError`]: the sandbox does not answer.
    pub async fn blow(&self, node: u16, at_ms_since_round_start: u64) -> Result<Blow, LoadError> {
        let until = self.clock.now() + SOON;
        let due = self.dues.partition_point(|due| *due <= until) as u64;
        let due_soon = due.saturating_sub(self.delivered().await?);
        let open_attempts = self.open_attempts(&[node]).await;
        Ok(Blow { node, at_ms_since_round_start, open_attempts, due_soon })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kill_counts_with_a_hundred_open_attempts_or_a_thousand_gifts_due() {
        let blow = |open_attempts, due_soon| Blow { node: 1, at_ms_since_round_start: 5, open_attempts, due_soon };
        assert!(blow(100, 0).counts() && blow(0, 1_000).counts());
        assert!(!blow(99, 999).counts());
    }
}

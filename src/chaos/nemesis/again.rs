//! Kills that go on through a round: SIGKILL of one node, its start, the cluster's recovery, the next.
//!
//! A shard has three replicas, so one node at a time may be gone while all that is asked for is done; the next kill waits for
//! the cluster to recover from the one before, but not for ever.

use crate::chaos::ChaosError;
use crate::chaos::looks::by_leads;
use crate::chaos::nemesis::Harm;
use crate::chaos::nemesis::schedule::Place;
use crate::chaos::stand::is_back;
use std::time::Duration;
use tokio::time::{Instant, sleep, sleep_until};

/// Between two looks at a cluster that recovers.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// A recovery is waited for until so many times the span between two kills is over.
const SPANS_MAX: u32 = 3;

impl Harm<'_> {
    /// Kills until the last gifts are about to fall due. Every node runs at the end of it.
    ///
    /// # Errors
    /// [`ChaosError`]: a node does not start, or ended although nobody ended it.
    pub(super) async fn kill_again(&self, places: &[Place], every_ms: u64, down_ms: u64) -> Result<(), ChaosError> {
        let every = Duration::from_millis(every_ms);
        for place in places {
            if !self.gauge.falls_due_on() {
                break;
            }
            let order = self.stand.view().await.map(|view| by_leads(&view)).filter(|order| !order.is_empty());
            let node = place.node(order.as_deref().unwrap_or(&self.order));
            self.kill(std::iter::once(node)).await?;
            let killed = Instant::now();
            sleep(Duration::from_millis(down_ms)).await;
            self.start(node).await?;
            self.until_back(node, killed + every * SPANS_MAX).await;
            sleep_until(killed + every).await;
            self.none_fell().await?;
        }
        Ok(())
    }

    /// Waits until a node leads its part again and every shard is led, no longer than until `latest`.
    async fn until_back(&self, node: u16, latest: Instant) {
        while Instant::now() < latest {
            if self.stand.view().await.is_some_and(|view| is_back(&view, node)) {
                return;
            }
            sleep(LOOK_EVERY).await;
        }
    }
}

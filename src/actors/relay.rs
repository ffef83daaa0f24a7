//! Round a link that is down: a node that has no link to the leader of a shard hands a request to another node, which hands it
//! to the leader, and no further. Ordinarily a request takes one hop; this is for as long as the failure detector says
//! that a link is down while others are up.
//!
//! Nothing is done twice by it: who relays neither decides nor repeats, and what became of its own hop is what it answers
//! (`Unavailable`: nothing was done; `Unknown`).

use crate::actors::door::AskError;
use crate::actors::local;
use crate::actors::router::{Envelope, Reply, Request, hop, send};
use crate::actors::shared::Shared;
use crate::types::codec;
use crate::types::ids::{NodeId, ShardId};
use crate::types::level::FOURTH_LEVEL;
use crate::types::limits::ASK_DEADLINE;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// The other nodes, by whether the link to them is up.
struct Reach {
    up: BTreeSet<NodeId>,
    /// Those of `up` that a request may be handed to for others; none below the feature level that knows how.
    relays: BTreeSet<NodeId>,
}

impl Reach {
    fn of(shared: &Shared) -> Self {
        let links = shared.transport().links();
        let up: BTreeSet<NodeId> = links.iter().filter(|link| link.up).map(|link| NodeId(link.node)).collect();
        let relays = if shared.gate.level() >= FOURTH_LEVEL { up.clone() } else { BTreeSet::new() };
        Self { up, relays }
    }
}

/// Whoever to hand a request to whose shard has these replicas elsewhere: one that holds a replica itself if there is one,
/// for it knows the leader, another one each `turn`. `None` while every replica can be reached straight.
fn relay_of(replicas: &[NodeId], reach: &Reach, turn: usize) -> Option<NodeId> {
    if replicas.iter().all(|node| reach.up.contains(node)) {
        return None;
    }
    let (near, far): (Vec<NodeId>, Vec<NodeId>) =
        reach.relays.iter().copied().partition(|node| replicas.contains(node));
    let some = if near.is_empty() { far } else { near };
    (!some.is_empty()).then(|| some[turn % some.len()])
}

/// Hands a request on whose leader could not be reached straight, once.
///
/// # Errors
/// [`AskError`]: as the leader says; `Unavailable` when no link is down, or nobody there reaches a leader.
pub async fn round(shared: &Shared, shard: ShardId, request: &Request, deadline: Instant) -> Result<Reply, AskError> {
    let turn = usize::try_from(shared.clock.boot().0 / 20).unwrap_or(0);
    let relay = relay_of(&shared.routes.replicas(shard), &Reach::of(shared), turn);
    let relay = relay.ok_or(AskError::Unavailable)?;
    let left = deadline.saturating_duration_since(Instant::now());
    let patience_ms = u32::try_from(left.as_millis()).unwrap_or(u32::MAX);
    tracing::debug!(%shard, %relay, "round a link that is down");
    metrics::counter!("bojagi_requests_relayed_total").increment(1);
    send(shared, relay, Envelope::Relay { request: request.clone(), patience_ms }, deadline).await
}

/// Whether nobody can be reached who holds a replica of the shard, or who could hand a request on: all that is left is to
/// wait for a link.
#[must_use]
pub fn is_cut_off(shared: &Shared, shard: ShardId) -> bool {
    let replicas = shared.routes.replicas(shard);
    if replicas.is_empty() || shared.leads(shard) {
        return false;
    }
    let reach = Reach::of(shared);
    reach.relays.is_empty() && replicas.iter().all(|node| !reach.up.contains(node))
}

/// Serves a request that `from` cannot bring to its leader.
pub async fn serve(shared: &Arc<Shared>, from: NodeId, request: Request, patience_ms: u32) -> Vec<u8> {
    let patience = Duration::from_millis(u64::from(patience_ms)).min(ASK_DEADLINE.to_std());
    let deadline = Instant::now() + patience;
    let shard = request.shard(shared);
    if shared.leads(shard) {
        return codec::encode(&local::execute(shared, request, deadline).await);
    }
    codec::encode(&hop(shared, shard, &request, Some(from), deadline).await)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nodes(numbers: &[u64]) -> Vec<NodeId> {
        numbers.iter().copied().map(NodeId).collect()
    }

    fn reach(up: &[u64], relays: &[u64]) -> Reach {
        Reach { up: nodes(up).into_iter().collect(), relays: nodes(relays).into_iter().collect() }
    }

    #[test]
    fn a_request_goes_round_only_while_a_link_to_a_replica_is_down() {
        let replicas = nodes(&[2, 3]);
        assert_eq!(relay_of(&replicas, &reach(&[2, 3, 4], &[2, 3, 4]), 0), None);
        assert_eq!(relay_of(&replicas, &reach(&[2, 4], &[2, 4]), 0), Some(NodeId(2)), "it holds a replica");
        assert_eq!(relay_of(&replicas, &reach(&[4, 5], &[4, 5]), 1), Some(NodeId(5)));
        assert_eq!(relay_of(&replicas, &reach(&[2], &[]), 0), None, "below the feature level");
        assert_eq!(relay_of(&replicas, &reach(&[], &[]), 0), None, "alone");
    }
}

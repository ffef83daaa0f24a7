//! What a leader does for its group: one step at a time towards the members that are wanted, and a report to the meta
//! group of what they are.

use crate::actors::cluster::lead::linked;
use crate::actors::cluster::meta;
use crate::actors::node::Node;
use crate::actors::shard::{ShardMsg, ShardStatus};
use crate::replication::core::MemberChange;
use crate::sharding::attempts::Attempts;
use crate::sharding::meta::{MetaCommand, MetaState, PeerId};
use crate::sharding::reconcile::{Group, Step, step_of};
use crate::types::ids::{LogIndex, ShardId};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::oneshot;

const LOOK_EVERY: Duration = Duration::from_millis(200);
/// While nothing is to move, only every so many looks ask the groups.
const LOOKS_AT_REST: u32 = 10;

/// Tends the groups led here until it is aborted.
pub async fn run(node: Arc<Node>) {
    let mut attempts = Attempts::default();
    let mut looks: u32 = 0;
    loop {
        tokio::time::sleep(LOOK_EVERY).await;
        let Some((_, state)) = meta::read(&node.shared) else { continue };
        looks = looks.wrapping_add(1);
        let rests = state.members().count() == 1 || !looks.is_multiple_of(LOOKS_AT_REST);
        if rests && all_settled(&state) {
            continue;
        }
        let led = node.led_shards();
        attempts.begin(&led.iter().map(|shard| (*shard, node.folder.node)).collect());
        for shard in led {
            if let Some(status) = node.status_of(shard).await {
                tend(&node, &state, shard, &status, &mut attempts).await;
            }
        }
    }
}

/// All groups have reported, and are as they ought to be.
fn all_settled(state: &MetaState) -> bool {
    state.placements().all(|(_, placement)| placement.is_settled() && placement.reported > LogIndex(0))
}

async fn tend(node: &Arc<Node>, state: &MetaState, shard: ShardId, status: &ShardStatus, attempts: &mut Attempts) {
    let ids = |peers: &[u64]| -> Vec<PeerId> { peers.iter().copied().map(PeerId).collect() };
    let group = Group {
        voters: ids(&status.members.voters),
        learners: ids(&status.members.learners),
        outgoing: ids(&status.members.voters_outgoing),
        named: attempts.of(shard),
    };
    let newer = report(node, state, shard, status, &group).await;
    let state = newer.as_ref().unwrap_or(state);
    let me = PeerId(status.peer);
    let Some(step) = step_of(state, shard, status.members.index, &group, me, &linked(node)) else { return };
    let change = match step {
        Step::AddLearner(peer) => MemberChange::AddLearner(peer.0),
        Step::Promote(peer) => MemberChange::Promote(peer.0),
        Step::Remove(peer) => MemberChange::Remove(peer.0),
        Step::TransferLeader(peer) => {
            attempts.name(shard, node.folder.node, peer);
            node.cast(shard, ShardMsg::TransferLeader(peer.0));
            return;
        }
    };
    // The answer is seen in the next look's members.
    let (reply, _seen_later) = oneshot::channel();
    node.cast(shard, ShardMsg::ChangeMembers(vec![change], reply));
}

/// The state that took the report; `None` when there was nothing to report, or when it was not taken.
async fn report(
    node: &Arc<Node>,
    state: &MetaState,
    shard: ShardId,
    status: &ShardStatus,
    group: &Group,
) -> Option<MetaState> {
    let both: BTreeSet<PeerId> = group.voters.iter().chain(&group.outgoing).copied().collect();
    let voters: Vec<PeerId> = both.into_iter().collect();
    let index = status.members.index;
    if !state.would_note(shard, index, &voters, &group.learners) {
        return None;
    }
    let learners = group.learners.clone();
    meta::tell(&node.shared, MetaCommand::GroupChanged { shard, index, voters, learners }).await
}

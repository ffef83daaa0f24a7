//! Who leads: off draining nodes first, then off those with slow disks, then spread by weight. A few moves at each look, each of which brings the
//! busiest node closer to the others, so that it comes to rest.

use crate::sharding::meta::{MetaState, NodeState, PeerId, Role};
use crate::types::ids::{META_SHARD, NodeId, ShardId};
use std::collections::{BTreeMap, BTreeSet};

/// Leadership of a shard, to be handed over by the node that has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transfer {
    pub shard: ShardId,
    pub from: NodeId,
    pub to: NodeId,
    /// The peer of `to` in the shard's group.
    pub peer: PeerId,
}

/// Nodes that are to lead nothing although they stay.
#[derive(Clone, Debug, Default)]
pub struct Shunned {
    /// Their clocks are off: treated as draining.
    pub off: BTreeSet<NodeId>,
    /// Their disks are far slower than most: leaders move off them to others, and to them only where a leader has to go
    /// and there is no other.
    pub slow: BTreeSet<NodeId>,
}

/// Up to `transfers_max` moves. `leaders` are those known; `reachable`: nodes whose link is up, more than which the planner
/// has patience with. The meta group's leader moves off
/// a draining or shunned node, and does not count otherwise.
#[must_use]
pub fn spread(
    state: &MetaState,
    leaders: &BTreeMap<ShardId, NodeId>,
    reachable: &BTreeSet<NodeId>,
    shunned: &Shunned,
) -> Vec<Transfer> {
    let mut spread = Spread { state, reachable, shunned, leaders: leaders.clone(), load: BTreeMap::new() };
    for (_, node) in leaders.iter().filter(|(shard, _)| **shard != META_SHARD) {
        *spread.load.entry(*node).or_insert(0) += 1;
    }
    let mut transfers = Vec::new();
    let mut moved = BTreeSet::new();
    while transfers.len() < usize::from(state.settings().transfers_max) {
        let found = spread.off_draining(&moved).or_else(|| spread.off_slow(&moved));
        let Some(transfer) = found.or_else(|| spread.off_busiest(&moved)) else { break };
        moved.insert(transfer.shard);
        spread.hand_over(transfer);
        transfers.push(transfer);
    }
    transfers
}

struct Spread<'a> {
    state: &'a MetaState,
    reachable: &'a BTreeSet<NodeId>,
    shunned: &'a Shunned,
    leaders: BTreeMap<ShardId, NodeId>,
    load: BTreeMap<NodeId, u64>,
}

impl Spread<'_> {
    fn load_of(&self, node: NodeId) -> u64 {
        self.load.get(&node).copied().unwrap_or(0)
    }
    fn weight_of(&self, node: NodeId) -> u64 {
        self.state.member(node).map_or(1, |member| u64::from(member.weight.get()))
    }
    fn state_of(&self, node: NodeId) -> Option<NodeState> {
        self.state.member(node).map(|member| member.state)
    }

    fn hand_over(&mut self, transfer: Transfer) {
        self.leaders.insert(transfer.shard, transfer.to);
        if transfer.shard != META_SHARD {
            *self.load.entry(transfer.from).or_insert(1) -= 1;
            *self.load.entry(transfer.to).or_insert(0) += 1;
        }
    }

    /// To the voter with the least to lead for its weight, of those that stay, can be reached and whose disks are as wanted.
    fn best(&self, shard: ShardId, from: NodeId, slow: bool) -> Option<Transfer> {
        let placement = self.state.placement(shard).filter(|_| self.reachable.contains(&from))?;
        let able = placement.replicas.iter().filter(|replica| {
            let able = self.reachable.contains(&replica.node)
                && !self.shunned.off.contains(&replica.node)
                && self.shunned.slow.contains(&replica.node) == slow;
            let up = able && self.state_of(replica.node) == Some(NodeState::Up);
            let stays = placement.wanted.contains(&replica.node);
            replica.node != from && replica.role == Role::Voter && up && stays
        });
        let to = able.min_by(|a, b| self.compare(a.node, 1, b.node, 1).then(a.node.cmp(&b.node)))?;
        Some(Transfer { shard, from, to: to.node, peer: to.peer })
    }

    /// Compares two nodes' leaders, with some more, for their weights.
    fn compare(&self, a: NodeId, a_more: u64, b: NodeId, b_more: u64) -> std::cmp::Ordering {
        let (a_load, b_load) = (self.load_of(a) + a_more, self.load_of(b) + b_more);
        (a_load * self.weight_of(b)).cmp(&(b_load * self.weight_of(a)))
    }

    fn off_draining(&self, moved: &BTreeSet<ShardId>) -> Option<Transfer> {
        let draining = |node: NodeId| matches!(self.state_of(node), Some(NodeState::Draining { .. }));
        let leaves = |node: NodeId| self.shunned.off.contains(&node) || draining(node);
        let mut led = self.leaders.iter().filter(|(shard, node)| !moved.contains(shard) && leaves(**node));
        led.find_map(|(shard, from)| self.best(*shard, *from, false).or_else(|| self.best(*shard, *from, true)))
    }

    fn off_slow(&self, moved: &BTreeSet<ShardId>) -> Option<Transfer> {
        let slow = |node: &NodeId| self.shunned.slow.contains(node);
        let mut led = self.leaders.iter().filter(|(shard, node)| !moved.contains(shard) && slow(node));
        led.find_map(|(shard, from)| self.best(*shard, *from, false))
    }

    /// The move that relieves the busiest node most.
    fn off_busiest(&self, moved: &BTreeSet<ShardId>) -> Option<Transfer> {
        let led = self.leaders.iter().filter(|(shard, _)| **shard != META_SHARD && !moved.contains(shard));
        let moves = led.filter_map(|(shard, from)| self.best(*shard, *from, false));
        let better = moves.filter(|one| self.compare(one.to, 1, one.from, 0).is_lt());
        better.max_by(|a, b| {
            let busier = self.compare(a.from, 0, b.from, 0);
            busier.then(self.compare(b.to, 1, a.to, 1)).then(b.shard.cmp(&a.shard))
        })
    }
}

#[cfg(test)]
#[path = "leaders_tests.rs"]
mod tests;

//! Who leads: off draining nodes first, then off those with slow disks, then spread by weight. A few moves at each look, each of which brings the
//! busiest node closer to the others, so that it comes to rest. A leader may refuse, and says nothing then: whom it was to hand
//! over to comes last at the next looks ([`Attempts`]), and so does its shard, so that it holds up no other.

use crate::sharding::attempts::Attempts;
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
    /// They have much of other shards still to apply, as after a start: a shard that one of them led would take no records until
    /// that is done. What they lead stays; they are heirs only where a leader has to go and there is no other.
    pub behind: BTreeSet<NodeId>,
}

/// Up to `transfers_max` moves, besides those of the last look that may still be under way: they count as done. `leaders` are
/// those known; `reachable`: nodes whose link is up, more than which the planner has patience with. The meta group's leader
/// moves off a draining or shunned node, and does not count otherwise.
pub fn spread(
    state: &MetaState,
    leaders: &BTreeMap<ShardId, NodeId>,
    reachable: &BTreeSet<NodeId>,
    shunned: &Shunned,
    attempts: &mut Attempts,
) -> Vec<Transfer> {
    attempts.begin(leaders);
    let mut spread = Spread::new(state, leaders.clone(), reachable, shunned, attempts);
    let under_way: Vec<Transfer> = leaders.iter().filter_map(|(shard, from)| spread.under_way(*shard, *from)).collect();
    under_way.iter().for_each(|transfer| spread.hand_over(*transfer));
    let mut moved: BTreeSet<ShardId> = under_way.iter().map(|transfer| transfer.shard).collect();
    let mut transfers = Vec::new();
    while transfers.len() < usize::from(state.settings().transfers_max) {
        let found = spread.off_draining(&moved).or_else(|| spread.off_slow(&moved));
        let Some(transfer) = found.or_else(|| spread.off_busiest(&moved)) else { break };
        moved.insert(transfer.shard);
        spread.hand_over(transfer);
        transfers.push(transfer);
    }
    if moved.is_empty() {
        attempts.forget();
    }
    transfers.iter().for_each(|transfer| attempts.name(transfer.shard, transfer.from, transfer.peer));
    transfers
}

/// An heir for each of the shards that node `from` leads and is to lead no more, evenly over the others; another one at each
/// look, until one has taken the shard over.
pub fn heirs(
    state: &MetaState,
    from: NodeId,
    led: &[ShardId],
    reachable: &BTreeSet<NodeId>,
    shunned: &Shunned,
    attempts: &mut Attempts,
) -> Vec<Transfer> {
    let leaders: BTreeMap<ShardId, NodeId> = led.iter().map(|shard| (*shard, from)).collect();
    attempts.begin(&leaders);
    let mut spread = Spread::new(state, leaders, reachable, shunned, attempts);
    let mut transfers = Vec::new();
    for shard in led {
        if let Some(transfer) = spread.best(*shard, from, true) {
            spread.hand_over(transfer);
            transfers.push(transfer);
        }
    }
    transfers.iter().for_each(|transfer| attempts.name(transfer.shard, transfer.from, transfer.peer));
    transfers
}

struct Spread<'a> {
    state: &'a MetaState,
    reachable: &'a BTreeSet<NodeId>,
    shunned: &'a Shunned,
    attempts: &'a Attempts,
    leaders: BTreeMap<ShardId, NodeId>,
    load: BTreeMap<NodeId, u64>,
}

impl<'a> Spread<'a> {
    fn new(
        state: &'a MetaState,
        leaders: BTreeMap<ShardId, NodeId>,
        reachable: &'a BTreeSet<NodeId>,
        shunned: &'a Shunned,
        attempts: &'a Attempts,
    ) -> Self {
        let mut load = BTreeMap::new();
        for (_, node) in leaders.iter().filter(|(shard, _)| **shard != META_SHARD) {
            *load.entry(*node).or_insert(0) += 1;
        }
        Self { state, reachable, shunned, attempts, leaders, load }
    }

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

    /// To any voter that can be reached, is to lead at all, and whose clock is right.
    fn able(&self, shard: ShardId, from: NodeId) -> impl Iterator<Item = Transfer> {
        let placement = self.state.placement(shard).filter(|_| self.reachable.contains(&from));
        let able = placement.into_iter().flat_map(|placement| &placement.replicas).filter(move |replica| {
            let up = self.state_of(replica.node) == Some(NodeState::Up) && self.reachable.contains(&replica.node);
            let is_right = !self.shunned.off.contains(&replica.node);
            replica.node != from && replica.role == Role::Voter && up && is_right
        });
        able.map(move |replica| Transfer { shard, from, to: replica.node, peer: replica.peer })
    }

    /// Its disk is slow, it is behind, or its replica is to leave the group.
    fn is_last_resort(&self, transfer: &Transfer) -> bool {
        let stays =
            self.state.placement(transfer.shard).is_some_and(|placement| placement.wanted.contains(&transfer.to));
        !stays || self.shunned.slow.contains(&transfer.to) || self.shunned.behind.contains(&transfer.to)
    }

    /// To the one that was not named, or longest ago; of those to the one with the least to lead for its weight.
    fn best(&self, shard: ShardId, from: NodeId, last_resorts: bool) -> Option<Transfer> {
        let able = self.able(shard, from).filter(|one| last_resorts || !self.is_last_resort(one));
        let turn = |one: &Transfer| (self.attempts.last_of(shard, one.peer), self.is_last_resort(one));
        able.min_by(|a, b| turn(a).cmp(&turn(b)).then(self.compare(a.to, 1, b.to, 1)).then(a.to.cmp(&b.to)))
    }

    /// The hand-over of the last look that may still come about.
    fn under_way(&self, shard: ShardId, from: NodeId) -> Option<Transfer> {
        let heir = self.attempts.under_way(shard)?;
        self.able(shard, from).find(|one| one.peer == heir)
    }

    /// Compares two nodes' leaders, with some more, for their weights.
    fn compare(&self, a: NodeId, a_more: u64, b: NodeId, b_more: u64) -> std::cmp::Ordering {
        let (a_load, b_load) = (self.load_of(a) + a_more, self.load_of(b) + b_more);
        (a_load * self.weight_of(b)).cmp(&(b_load * self.weight_of(a)))
    }

    fn off_draining(&self, moved: &BTreeSet<ShardId>) -> Option<Transfer> {
        let draining = |node: NodeId| matches!(self.state_of(node), Some(NodeState::Draining { .. }));
        self.off(moved, |node| self.shunned.off.contains(&node) || draining(node), true)
    }

    fn off_slow(&self, moved: &BTreeSet<ShardId>) -> Option<Transfer> {
        self.off(moved, |node| self.shunned.slow.contains(&node), false)
    }

    /// Off a node that is to lead nothing: the shards take turns.
    fn off(&self, moved: &BTreeSet<ShardId>, is_left: impl Fn(NodeId) -> bool, last_resorts: bool) -> Option<Transfer> {
        let led = self.leaders.iter().filter(|(shard, node)| !moved.contains(shard) && is_left(**node));
        let moves = led.filter_map(|(shard, from)| self.best(*shard, *from, last_resorts));
        moves.min_by_key(|one| (self.attempts.last(one.shard), one.shard))
    }

    /// The move that relieves the busiest node most, of those whose turn it is.
    fn off_busiest(&self, moved: &BTreeSet<ShardId>) -> Option<Transfer> {
        let led = self.leaders.iter().filter(|(shard, _)| **shard != META_SHARD && !moved.contains(shard));
        let moves = led.flat_map(|(shard, from)| self.able(*shard, *from)).filter(|one| !self.is_last_resort(one));
        let better = moves.filter(|one| self.compare(one.to, 1, one.from, 0).is_lt());
        let turn = |one: &Transfer| (self.attempts.last(one.shard), self.attempts.last_of(one.shard, one.peer));
        better.min_by(|a, b| {
            let busier = self.compare(b.from, 0, a.from, 0).then(self.compare(a.to, 1, b.to, 1));
            turn(a).cmp(&turn(b)).then(busier).then(a.shard.cmp(&b.shard)).then(a.to.cmp(&b.to))
        })
    }
}

#[cfg(test)]
#[path = "leaders_tests.rs"]
mod tests;

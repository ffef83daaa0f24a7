//! The planner: from the cluster's state and what can be reached to the next few changes of placement. Pure; the node
//! that leads the meta group asks it at each look and commits what it says.
//!
//! In this order, and at most `moves_max` groups changing at once (those that could go on): replicas of nodes that are gone for good, groups that
//! ought to be larger, nodes that are drained, zones, balance. A replica moves only for one of these reasons, and to the
//! node that the ring prefers among those that have room.
//!
//! - A copy is given up only for another one, or because the node is drained and the group stays at min(RF, nodes).
//! - A group without a majority that can be reached is left alone: nothing could be done there.
//! - Zones and balance move a replica only while all voters of its group can be reached.

use crate::sharding::meta::{DrainDepth, Member, MetaCommand, MetaState, NodeState, Placement, Role, ShardWish};
use crate::sharding::quota::{Sharer, quotas};
use crate::sharding::ring::{Ring, RingNode};
use crate::types::ids::{META_SHARD, NodeId, ShardId};
use crate::types::time::Timestamp;
use std::collections::{BTreeMap, BTreeSet};

/// Voters of the meta group, where there are as many nodes.
const META_VOTERS_MAX: usize = 5;

/// The next `Plan` command; `None` when all is as it should be, or as good as it can be now. `reachable` are the nodes
/// that the leader of the meta group hears, itself among them.
#[must_use]
pub fn plan(state: &MetaState, reachable: &BTreeSet<NodeId>, now: Timestamp) -> Option<MetaCommand> {
    state.cluster()?;
    let mut planner = Planner::new(state, reachable, now);
    let mut changes: Vec<ShardWish> = planner.meta_group().into_iter().collect();
    changes.extend(planner.ordinary());
    (!changes.is_empty()).then_some(MetaCommand::Plan { changes })
}

/// Why a group has to change, most urgent first.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Need {
    Repair,
    Grow,
    Drain,
}

struct Planner<'a> {
    state: &'a MetaState,
    reachable: &'a BTreeSet<NodeId>,
    now: Timestamp,
    /// Made when the first shard asks.
    ring: Option<Ring>,
    orders: BTreeMap<ShardId, Vec<NodeId>>,
    /// What the shards will want, with the changes of this plan.
    wanted: BTreeMap<ShardId, Vec<NodeId>>,
    load: BTreeMap<NodeId, usize>,
    quota: BTreeMap<NodeId, usize>,
}

impl<'a> Planner<'a> {
    fn new(state: &'a MetaState, reachable: &'a BTreeSet<NodeId>, now: Timestamp) -> Self {
        let wanted: BTreeMap<ShardId, Vec<NodeId>> =
            state.ordinary().map(|(shard, placement)| (shard, placement.wanted.clone())).collect();
        let mut load = BTreeMap::new();
        for node in wanted.values().flatten() {
            *load.entry(*node).or_insert(0) += 1;
        }
        let mut planner =
            Self { state, reachable, now, ring: None, orders: BTreeMap::new(), wanted, load, quota: BTreeMap::new() };
        let size = planner.size(usize::from(state.replication_factor()));
        let sharers = state.members().filter(|(node, _)| planner.keeps(*node)).map(|(node, member)| Sharer {
            node,
            weight: member.weight,
            zone: &member.zone,
            held: planner.load_of(node),
        });
        let shares = sharers.collect::<Vec<_>>();
        planner.quota = quotas(&shares, usize::from(state.shard_count()), size);
        planner
    }

    fn load_of(&self, node: NodeId) -> usize {
        self.load.get(&node).copied().unwrap_or(0)
    }
    fn zone_of(&self, node: NodeId) -> Option<&'a str> {
        self.state.member(node).map(|member| member.zone.as_str())
    }

    /// Replicas that a group of at most `most` ought to have. Dead nodes count: they may come back, and until they are
    /// replaced or removed their seats stay theirs.
    fn size(&self, most: usize) -> usize {
        let staying = |(_, member): &(NodeId, &Member)| member.state.draining() != Some(DrainDepth::Replicas);
        self.state.members().filter(staying).count().clamp(1, most.max(1))
    }

    /// May go on holding what it holds.
    fn keeps(&self, node: NodeId) -> bool {
        let Some(member) = self.state.member(node) else { return false };
        member.state.draining() != Some(DrainDepth::Replicas) && !self.state.is_dead(node, self.now)
    }
    /// May be given a replica.
    fn takes(&self, node: NodeId) -> bool {
        let up = self.state.member(node).is_some_and(|member| member.state == NodeState::Up);
        up && self.reachable.contains(&node)
    }
    /// A node that is away keeps the copy that it has, but is not waited for to get one.
    fn keeps_in(&self, placement: &Placement, node: NodeId) -> bool {
        let away = matches!(self.state.member(node).map(|member| member.state), Some(NodeState::Gone { .. }) | None);
        let stays = match placement.replica_on(node).map(|replica| replica.role) {
            Some(Role::Voter) => true,
            Some(Role::Learner | Role::Planned) => !away,
            None => self.takes(node),
        };
        stays && self.keeps(node)
    }

    fn voters_reached(&self, placement: &Placement) -> (usize, usize) {
        let voters = || placement.replicas.iter().filter(|replica| replica.role == Role::Voter);
        (voters().filter(|replica| self.reachable.contains(&replica.node)).count(), voters().count())
    }

    fn has_majority(&self, placement: &Placement) -> bool {
        let (reached, voters) = self.voters_reached(placement);
        reached > voters / 2
    }

    /// The order in which the ring prefers nodes for a shard.
    fn order(&mut self, shard: ShardId) -> &[NodeId] {
        let members = self.state.members();
        let ring = self.ring.get_or_insert_with(|| {
            let place =
                |(node, member): (NodeId, &Member)| RingNode { node, weight: member.weight, zone: member.zone.clone() };
            Ring::new(members.map(place))
        });
        self.orders.entry(shard).or_insert_with(|| ring.preference(shard))
    }

    fn ordinary(&mut self) -> Vec<ShardWish> {
        let state = self.state;
        // What cannot go on without a majority must not keep the others waiting.
        let changes = |placement: &Placement| !placement.is_settled() && self.has_majority(placement);
        let changing = state.ordinary().filter(|(_, placement)| changes(placement)).count();
        let mut budget = usize::from(state.settings().moves_max).saturating_sub(changing);
        let mut needs: Vec<(bool, Need, ShardId)> = Vec::new();
        for (shard, placement) in state.ordinary() {
            if !self.has_majority(placement) {
                continue;
            }
            if let Some(need) = self.need(placement) {
                needs.push((placement.is_settled(), need, shard));
            }
        }
        // Groups that are changing already come first: they cost no further one.
        needs.sort_unstable();
        let mut changed = BTreeMap::new();
        for (costs, _, shard) in needs {
            let Some(placement) = state.placement(shard).filter(|_| !costs || budget > 0) else { continue };
            if let Some(wanted) = self.refill(shard, placement) {
                budget -= usize::from(costs);
                self.rewrite(shard, &wanted);
                changed.insert(shard, wanted);
            }
        }
        while budget > 0 {
            let Some((shard, wanted)) = self.better_zones(&changed).or_else(|| self.better_balance(&changed)) else {
                break;
            };
            budget -= 1;
            self.rewrite(shard, &wanted);
            changed.insert(shard, wanted);
        }
        changed.into_iter().map(|(shard, wanted)| ShardWish { shard, wanted }).collect()
    }

    fn rewrite(&mut self, shard: ShardId, wanted: &[NodeId]) {
        for node in self.wanted.insert(shard, wanted.to_vec()).unwrap_or_default() {
            *self.load.entry(node).or_insert(1) -= 1;
        }
        for node in wanted {
            *self.load.entry(*node).or_insert(0) += 1;
        }
    }

    fn need(&self, placement: &Placement) -> Option<Need> {
        let mut leaving = placement.wanted.iter().filter(|node| !self.keeps_in(placement, **node));
        let size = self.size(usize::from(self.state.replication_factor()));
        let drained = |node: &NodeId| !self.state.is_dead(*node, self.now) && !self.keeps(*node);
        // A replica that was wanted again while it left its group has gone for good: another one takes its seat.
        let is_missing = |node: &NodeId| placement.replica_on(*node).is_none();
        if leaving.clone().any(|node| !drained(node)) || placement.wanted.iter().any(is_missing) {
            Some(Need::Repair)
        } else if placement.wanted.len() < size {
            Some(Need::Grow)
        } else {
            leaving.next().map(|_| Need::Drain)
        }
    }

    /// The set that a group ought to have, with those that may stay; `None` when it is the one it has.
    fn refill(&mut self, shard: ShardId, placement: &Placement) -> Option<Vec<NodeId>> {
        let size = self.size(usize::from(self.state.replication_factor()));
        let (mut next, mut leaving): (Vec<NodeId>, Vec<NodeId>) =
            placement.wanted.iter().copied().partition(|node| self.keeps_in(placement, *node));
        while next.len() < size
            && let Some(node) = self.pick(shard, placement, &next)
        {
            next.push(node);
        }
        // Nobody takes their place: those that leave stay for now, the living before the dead.
        leaving.sort_by_key(|node| (!self.reachable.contains(node), *node));
        let short = size.saturating_sub(next.len());
        next.extend(leaving.into_iter().filter(|node| placement.replica_on(*node).is_some()).take(short));
        next.sort_unstable();
        let missing = next.iter().any(|node| placement.replica_on(*node).is_none());
        (!next.is_empty() && (missing || next != placement.wanted)).then_some(next)
    }

    /// The best node for one more replica: one with a copy already, a zone of its own, room, then as the ring says.
    fn pick(&mut self, shard: ShardId, placement: &Placement, next: &[NodeId]) -> Option<NodeId> {
        let order = self.order(shard).to_vec();
        let able = order.iter().enumerate().filter(|(_, node)| !next.contains(node) && self.takes(**node));
        let best = able.min_by_key(|(rank, node)| {
            let has_copy = placement.replica_on(**node).is_some();
            let zone_used = next.iter().any(|other| self.zone_of(*other) == self.zone_of(**node));
            let full = self.load_of(**node) >= self.quota.get(node).copied().unwrap_or(0);
            (!has_copy, zone_used, full, *rank)
        });
        best.map(|(_, node)| *node)
    }

    fn zones(&self, nodes: &[NodeId]) -> usize {
        nodes.iter().map(|node| self.zone_of(*node)).collect::<BTreeSet<_>>().len()
    }

    /// Settled, whole and not changed by this plan.
    fn is_movable(&self, shard: ShardId, changed: &BTreeMap<ShardId, Vec<NodeId>>) -> bool {
        let whole = |placement: &Placement| {
            let (reached, voters) = self.voters_reached(placement);
            placement.is_settled() && reached == voters && placement.wanted.iter().all(|node| self.keeps(*node))
        };
        !changed.contains_key(&shard) && self.state.placement(shard).is_some_and(whole)
    }

    /// A group with two replicas in one zone while another zone could take one.
    fn better_zones(&mut self, changed: &BTreeMap<ShardId, Vec<NodeId>>) -> Option<(ShardId, Vec<NodeId>)> {
        let takers: Vec<NodeId> = self.state.members().map(|(node, _)| node).filter(|node| self.takes(*node)).collect();
        let all_zones = self.zones(&takers);
        let shards: Vec<(ShardId, Vec<NodeId>)> = self.wanted.iter().map(|(s, nodes)| (*s, nodes.clone())).collect();
        for (shard, nodes) in shards {
            let used = self.zones(&nodes);
            if used == nodes.len() || used > all_zones || !self.is_movable(shard, changed) {
                continue;
            }
            let is_new = |node: &NodeId| nodes.iter().all(|other| self.zone_of(*other) != self.zone_of(*node));
            let fresh: BTreeSet<NodeId> = takers.iter().copied().filter(is_new).collect();
            let order = self.order(shard).to_vec();
            let rank = |node: &NodeId| order.iter().position(|other| other == node);
            let to = fresh.into_iter().min_by_key(|node| (self.over(*node), rank(node)));
            let is_double =
                |node: &&NodeId| nodes.iter().filter(|o| self.zone_of(**o) == self.zone_of(**node)).count() > 1;
            let from = nodes.iter().filter(is_double).max_by_key(|node| (self.over(**node), rank(node)));
            if let (Some(to), Some(from)) = (to, from) {
                return Some((shard, exchange(&nodes, *from, to)));
            }
        }
        None
    }

    /// How far a node is above its quota; negative below.
    fn over(&self, node: NodeId) -> i64 {
        let signed = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
        signed(self.load_of(node)) - signed(self.quota.get(&node).copied().unwrap_or(0))
    }

    /// One replica from a node above its quota to one below, without a loss of zones.
    fn better_balance(&mut self, changed: &BTreeMap<ShardId, Vec<NodeId>>) -> Option<(ShardId, Vec<NodeId>)> {
        let mut nodes: Vec<NodeId> = self.state.members().map(|(node, _)| node).collect();
        nodes.sort_by_key(|node| (-self.over(*node), *node));
        let givers: Vec<NodeId> = nodes.iter().copied().filter(|node| self.over(*node) > 0).collect();
        let takers: Vec<NodeId> =
            nodes.iter().rev().copied().filter(|node| self.over(*node) < 0 && self.takes(*node)).collect();
        if givers.is_empty() || takers.is_empty() {
            return None;
        }
        let movable: Vec<(ShardId, Vec<NodeId>)> = self.wanted.iter().map(|(s, nodes)| (*s, nodes.clone())).collect();
        let movable: Vec<(ShardId, Vec<NodeId>)> =
            movable.into_iter().filter(|(shard, _)| self.is_movable(*shard, changed)).collect();
        for from in givers {
            for to in &takers {
                let fits = |nodes: &[NodeId]| {
                    let held = nodes.contains(&from) && !nodes.contains(to);
                    held && self.zones(&exchange(nodes, from, *to)) >= self.zones(nodes)
                };
                let shards: Vec<&(ShardId, Vec<NodeId>)> = movable.iter().filter(|(_, nodes)| fits(nodes)).collect();
                let ranked = shards.into_iter().min_by_key(|(shard, _)| {
                    let rank = self.order(*shard).iter().position(|node| node == to);
                    (rank, *shard)
                });
                if let Some((shard, nodes)) = ranked {
                    return Some((*shard, exchange(nodes, from, *to)));
                }
            }
        }
        None
    }

    /// The voters of the meta group: an odd number, spread over zones, of those that vote already as many as can stay.
    fn meta_group(&self) -> Option<ShardWish> {
        let placement = self.state.placement(META_SHARD)?;
        if !self.has_majority(placement) {
            return None;
        }
        let size = self.size(META_VOTERS_MAX);
        let size = if size.is_multiple_of(2) { size - 1 } else { size };
        let mut stay: Vec<NodeId> = placement.wanted.iter().copied().filter(|node| self.keeps(*node)).collect();
        while stay.len() > size {
            let double = |node: &NodeId| stay.iter().filter(|o| self.zone_of(**o) == self.zone_of(*node)).count();
            let last = stay.iter().copied().max_by_key(|node| (!self.reachable.contains(node), double(node), *node))?;
            stay.retain(|node| *node != last);
        }
        let nodes: Vec<NodeId> = self.state.members().map(|(node, _)| node).collect();
        let pick = |next: &[NodeId]| {
            let able = nodes.iter().copied().filter(|node| !next.contains(node) && self.takes(*node));
            let zone_used = |node: &NodeId| next.iter().any(|other| self.zone_of(*other) == self.zone_of(*node));
            able.min_by_key(|node| (zone_used(node), !placement.wanted.contains(node), *node))
        };
        let mut next = stay;
        while next.len() < size
            && let Some(node) = pick(&next)
        {
            next.push(node);
        }
        let mut leaving: Vec<NodeId> = placement.wanted.iter().copied().filter(|node| !next.contains(node)).collect();
        leaving.sort_by_key(|node| (!self.reachable.contains(node), *node));
        leaving.truncate(size.saturating_sub(next.len()));
        next.extend(leaving);
        if let Some(node) = pick(&next).filter(|_| next.len() > self.zones(&next)) {
            let double = |from: &&NodeId| next.iter().filter(|o| self.zone_of(**o) == self.zone_of(**from)).count() > 1;
            let better = next.iter().filter(double).max().map(|from| exchange(&next, *from, node));
            next = better.filter(|better| self.zones(better) > self.zones(&next)).unwrap_or(next);
        }
        next.sort_unstable();
        (!next.is_empty() && next != placement.wanted).then_some(ShardWish { shard: META_SHARD, wanted: next })
    }
}

fn exchange(nodes: &[NodeId], from: NodeId, to: NodeId) -> Vec<NodeId> {
    let mut nodes: Vec<NodeId> = nodes.iter().copied().filter(|node| *node != from).chain([to]).collect();
    nodes.sort_unstable();
    nodes
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;

//! From a group as it is to the group that it ought to be, one step at a time. The shard's leader asks at each look and
//! does the step; what a step led to shows in the group at the next look.
//!
//! New replicas learn first, vote once they have caught up, and only then do old ones leave. The rules of leaving:
//! - every replica that ought to vote does;
//! - afterwards a majority of the voters can be reached, and no fewer further failures are survived than before or than
//!   in the group that is aimed at, whichever is less;
//! - the copies on voters that can be reached stay as many as are wanted, or as there were.
//!
//! A voter of the meta group that ought to learn leaves and comes back: two safe steps instead of a third kind of step.
//! Its node keeps the log meanwhile. In every other group a peer that has left never comes back, because its log is gone:
//! so that none is added twice, each step waits until the meta group has noted what the last one led to.

use crate::sharding::meta::{MetaState, PeerId, Seat, Target};
use crate::types::ids::{LogIndex, NodeId, ShardId};
use std::collections::{BTreeMap, BTreeSet};

/// A group as its leader knows it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Group {
    pub voters: Vec<PeerId>,
    pub learners: Vec<PeerId>,
    /// Voters of the half that a joint change is leaving; empty otherwise.
    pub outgoing: Vec<PeerId>,
    /// Successors that its leader has named before, and when: the later, the higher ([`Attempts::of`]).
    ///
    /// [`Attempts::of`]: crate::sharding::attempts::Attempts::of
    pub named: BTreeMap<PeerId, u64>,
}

/// One change of a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Step {
    AddLearner(PeerId),
    /// The group refuses it until the learner has caught up; ask again.
    Promote(PeerId),
    Remove(PeerId),
    /// The leader is to leave: it hands over first, and its successor removes it.
    TransferLeader(PeerId),
}

/// The next step of a group that the node knows to be `group` as of `index`, and by `state`, which may be old: then the
/// node waits until it has heard more. `nodes` are those that can be reached.
#[must_use]
pub fn step_of(
    state: &MetaState,
    shard: ShardId,
    index: LogIndex,
    group: &Group,
    me: PeerId,
    nodes: &BTreeSet<NodeId>,
) -> Option<Step> {
    if !state.has_noted(shard, index) {
        return None;
    }
    next_step(&state.targets(shard), group, me, &state.peers_on(shard, nodes))
}

/// The next step; `None` when there is nothing to do, or nothing that is safe now. `me` leads the group and counts as
/// reachable. `reachable` holds peers of the group, and peers to be added.
#[must_use]
pub fn next_step(targets: &[Target], group: &Group, me: PeerId, reachable: &BTreeSet<PeerId>) -> Option<Step> {
    let look = Look { targets, group, me, reachable };
    let settled = group.outgoing.is_empty() && group.voters.contains(&me);
    if !settled || !look.has_quorum(&group.voters) {
        return None;
    }
    look.stray_learner().or_else(|| look.newcomer()).or_else(|| look.promotion()).or_else(|| look.leaving())
}

struct Look<'a> {
    targets: &'a [Target],
    group: &'a Group,
    me: PeerId,
    reachable: &'a BTreeSet<PeerId>,
}

impl Look<'_> {
    fn reaches(&self, peer: PeerId) -> bool {
        peer == self.me || self.reachable.contains(&peer)
    }
    fn live(&self, voters: &[PeerId]) -> usize {
        voters.iter().filter(|peer| self.reaches(**peer)).count()
    }
    fn has_quorum(&self, voters: &[PeerId]) -> bool {
        self.live(voters) >= majority(voters.len())
    }
    fn wants_voter(&self, peer: PeerId) -> bool {
        self.targets.iter().any(|target| target.peer == peer && target.seat == Seat::Voter)
    }

    /// It counts for nothing, and may hold the log back.
    fn stray_learner(&self) -> Option<Step> {
        let is_stray = |peer: &&PeerId| !self.targets.iter().any(|target| target.peer == **peer);
        self.group.learners.iter().find(is_stray).map(|peer| Step::Remove(*peer))
    }

    fn newcomer(&self) -> Option<Step> {
        let inside = |peer| self.group.voters.contains(&peer) || self.group.learners.contains(&peer);
        let mut missing = self.targets.iter().filter(|t| t.fresh && !inside(t.peer) && self.reaches(t.peer));
        missing.next().map(|target| Step::AddLearner(target.peer))
    }

    fn promotion(&self) -> Option<Step> {
        let due = |peer: &&PeerId| self.wants_voter(**peer) && self.reaches(**peer);
        self.group.learners.iter().find(due).map(|peer| Step::Promote(*peer))
    }

    fn leaving(&self) -> Option<Step> {
        let voters = &self.group.voters;
        let mut wanted = self.targets.iter().filter(|target| target.seat == Seat::Voter);
        if wanted.clone().next().is_none() || !wanted.all(|target| voters.contains(&target.peer)) {
            return None;
        }
        let unwanted = |peer: &PeerId| !self.wants_voter(*peer);
        let mut leaving: Vec<PeerId> = voters.iter().copied().filter(unwanted).collect();
        // Those that cannot be reached only weigh on the quorum; the leader goes last.
        leaving.sort_by_key(|peer| (*peer == self.me, self.reaches(*peer), *peer));
        let peer = leaving.into_iter().find(|peer| self.may_leave(*peer))?;
        if peer != self.me {
            return Some(Step::Remove(peer));
        }
        let able: Vec<PeerId> =
            voters.iter().copied().filter(|peer| self.wants_voter(*peer) && self.reaches(*peer)).collect();
        // Spreads the successors over the nodes without knowing more than this group; one that did not take over comes last.
        let first = usize::try_from(self.me.0).unwrap_or(0) % able.len().max(1);
        let last_named = |peer: &PeerId| self.group.named.get(peer).copied().unwrap_or(0);
        let turn = |(place, peer): &(usize, &PeerId)| (last_named(peer), (place + able.len() - first) % able.len());
        able.iter().enumerate().min_by_key(turn).map(|(_, successor)| Step::TransferLeader(*successor))
    }

    fn may_leave(&self, peer: PeerId) -> bool {
        let before = &self.group.voters;
        let after: Vec<PeerId> = before.iter().copied().filter(|voter| *voter != peer).collect();
        let wanted = self.targets.iter().filter(|target| target.seat == Seat::Voter).count();
        let spare = |voters: &[PeerId]| self.live(voters).checked_sub(majority(voters.len()));
        let least = spare(before).min(wanted.checked_sub(majority(wanted)));
        self.has_quorum(&after) && spare(&after) >= least && self.live(&after) >= self.live(before).min(wanted)
    }
}

/// Voters that have to agree.
fn majority(voters: usize) -> usize {
    voters / 2 + 1
}

#[cfg(test)]
#[path = "reconcile_tests.rs"]
mod tests;

//! What the runtime reads from the cluster's state.

use super::evolve;
use super::state::{
    ClusterId, DrainDepth, FeatureLevel, Member, MetaState, NodeState, PeerId, Placement, Replica, Role, Settings,
    TokenHash,
};
use crate::types::ids::{LogIndex, META_SHARD, NodeId, ShardId};
use crate::types::start::ProcessStart;
use crate::types::time::Timestamp;
use std::collections::BTreeSet;

/// How a replica begins where there is no log of it yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// As the only voter of a new group.
    Found,
    /// Empty, until the group's leader adds it.
    Join,
}

/// A replica that a node has to host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hosted {
    pub shard: ShardId,
    pub peer: PeerId,
    pub start: Start,
}

/// What a replica ought to be in its group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seat {
    Voter,
    Learner,
}

/// A replica that ought to be in a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Target {
    pub node: NodeId,
    pub peer: PeerId,
    pub seat: Seat,
    /// It was not in the group yet, as far as reported. Another one that is missing has left for good.
    pub fresh: bool,
}

impl NodeState {
    /// What is being taken off the node, gone or not.
    #[must_use]
    pub fn draining(self) -> Option<DrainDepth> {
        match self {
            Self::Up => None,
            Self::Draining { depth } => Some(depth),
            Self::Gone { draining, .. } => draining,
        }
    }
    pub(super) fn seen(self) -> Self {
        match self.draining() {
            Some(depth) => Self::Draining { depth },
            None => Self::Up,
        }
    }
    pub(super) fn with_draining(self, draining: Option<DrainDepth>) -> Self {
        match (self, draining) {
            (Self::Gone { since, .. }, draining) => Self::Gone { since, draining },
            (Self::Up | Self::Draining { .. }, Some(depth)) => Self::Draining { depth },
            (Self::Up | Self::Draining { .. }, None) => Self::Up,
        }
    }
}

impl Placement {
    #[must_use]
    pub fn replica_on(&self, node: NodeId) -> Option<&Replica> {
        self.replicas.iter().find(|replica| replica.node == node)
    }
    /// Adds a replica in its place.
    pub(super) fn seat(&mut self, replica: Replica) {
        self.replicas.retain(|other| other.node != replica.node);
        let place = self.replicas.partition_point(|other| other.node < replica.node);
        self.replicas.insert(place, replica);
    }
    /// The group is what it ought to be: each wanted node has a voter, and no other has a replica.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        let is_voter = |node: &NodeId| self.replica_on(*node).is_some_and(|replica| replica.role == Role::Voter);
        self.replicas.len() == self.wanted.len() && self.wanted.iter().all(is_voter)
    }
}

impl MetaState {
    #[must_use]
    pub fn cluster(&self) -> Option<ClusterId> {
        self.cluster
    }
    /// 0 until founded.
    #[must_use]
    pub fn shard_count(&self) -> u16 {
        u16::try_from(self.shards.len()).expect("at most SHARDS_MAX shards are founded")
    }
    /// Replicas that a shard ought to have where there are as many nodes.
    #[must_use]
    pub fn replication_factor(&self) -> u8 {
        self.rf
    }
    #[must_use]
    pub fn feature_level(&self) -> FeatureLevel {
        self.level
    }
    /// What `FinalizeUpgrade` raises the level to: the highest that every member supports, gone ones too.
    #[must_use]
    pub fn level_possible(&self) -> FeatureLevel {
        let highest = self.members.values().map(|member| member.levels.highest).min();
        highest.unwrap_or(self.level).max(self.level)
    }
    #[must_use]
    pub fn settings(&self) -> &Settings {
        &self.settings
    }
    /// By node; addresses, zones and states are in there.
    pub fn members(&self) -> impl Iterator<Item = (NodeId, &Member)> {
        self.members.iter().map(|(node, member)| (*node, member))
    }
    #[must_use]
    pub fn member(&self, node: NodeId) -> Option<&Member> {
        self.members.get(&node)
    }
    /// The last start of a node that was told; `None` before the first.
    #[must_use]
    pub fn last_start(&self, node: NodeId) -> Option<ProcessStart> {
        let id = *self.starts.get(&node)?;
        Some(ProcessStart { incarnation: self.members.get(&node)?.incarnation, id })
    }
    /// The node that a join token was used for.
    #[must_use]
    pub fn joined_with(&self, token: TokenHash) -> Option<NodeId> {
        self.tokens.get(&token).and_then(|issued| issued.used_by)
    }
    /// When a join token ends; `None` of one that is not known.
    #[must_use]
    pub fn token_ends(&self, token: TokenHash) -> Option<Timestamp> {
        self.tokens.get(&token).map(|issued| issued.expires_at)
    }
    /// Gone for longer than `dead_after`.
    #[must_use]
    pub fn is_dead(&self, node: NodeId, now: Timestamp) -> bool {
        match self.members.get(&node).map(|member| member.state) {
            Some(NodeState::Gone { since, .. }) => now - since >= self.settings.dead_after,
            Some(NodeState::Up | NodeState::Draining { .. }) => false,
            None => true,
        }
    }

    /// The meta group's own under `META_SHARD`.
    #[must_use]
    pub fn placement(&self, shard: ShardId) -> Option<&Placement> {
        if shard == META_SHARD { Some(&self.meta) } else { self.shards.get(usize::from(shard.0)) }
    }
    /// All groups, the meta group last.
    pub fn placements(&self) -> impl Iterator<Item = (ShardId, &Placement)> {
        self.ordinary().chain([(META_SHARD, &self.meta)])
    }
    /// All groups but the meta group.
    pub fn ordinary(&self) -> impl Iterator<Item = (ShardId, &Placement)> {
        (0u16..).map(ShardId).zip(&self.shards)
    }

    /// What a node has to host; it gives up whatever else it has.
    #[must_use]
    pub fn hosted_on(&self, node: NodeId) -> Vec<Hosted> {
        let hosted = self.placements().filter_map(|(shard, placement)| {
            let replica = placement.replica_on(node)?;
            // Once a group has reported, its founder has a log: it must not found a second one without.
            let founds = replica.peer == PeerId::founder(shard) && placement.reported == LogIndex(0);
            let start = if founds { Start::Found } else { Start::Join };
            Some(Hosted { shard, peer: replica.peer, start })
        });
        hosted.collect()
    }

    /// For the routes: node and peer of every replica, those that are not in their groups yet among them.
    pub fn routes(&self) -> impl Iterator<Item = (ShardId, Vec<(NodeId, u64)>)> {
        self.placements().map(|(shard, placement)| {
            (shard, placement.replicas.iter().map(|replica| (replica.node, replica.peer.0)).collect())
        })
    }

    /// What a shard's group ought to consist of, for `reconcile`. In the meta group those that do not vote learn.
    #[must_use]
    pub fn targets(&self, shard: ShardId) -> Vec<Target> {
        let Some(placement) = self.placement(shard) else { return Vec::new() };
        let target = |replica: &Replica| {
            let seat = match (placement.wanted.contains(&replica.node), shard) {
                (true, _) => Seat::Voter,
                (false, META_SHARD) => Seat::Learner,
                (false, ShardId(_)) => return None,
            };
            let fresh = replica.role == Role::Planned;
            Some(Target { node: replica.node, peer: replica.peer, seat, fresh })
        };
        placement.replicas.iter().filter_map(target).collect()
    }

    /// The shard's replicas on some nodes: those that can be reached, for `reconcile`.
    #[must_use]
    pub fn peers_on(&self, shard: ShardId, nodes: &BTreeSet<NodeId>) -> BTreeSet<PeerId> {
        let replicas = self.placement(shard).into_iter().flat_map(|placement| &placement.replicas);
        replicas.filter(|replica| nodes.contains(&replica.node)).map(|replica| replica.peer).collect()
    }

    /// Whether the group's membership as of this index is what the state knows: neither an older one nor a newer.
    #[must_use]
    pub fn has_noted(&self, shard: ShardId, index: LogIndex) -> bool {
        self.placement(shard).is_some_and(|placement| placement.reported == index)
    }

    /// Whether a `GroupChanged` with this content would change anything. A shard's leader looks now and then, and
    /// reports until it would not.
    #[must_use]
    pub fn would_note(&self, shard: ShardId, index: LogIndex, voters: &[PeerId], learners: &[PeerId]) -> bool {
        let after = |placement| evolve::group_after(self, shard, placement, index, voters, learners);
        self.placement(shard).and_then(after).is_some()
    }
}

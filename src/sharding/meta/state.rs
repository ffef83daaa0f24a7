//! The state of the cluster as the meta group keeps it. Persisted: fields and tags are append only, golden bytes in the
//! tests, and the whole stays below `STATE_BYTES_MAX` at 999 shards of three replicas on 50 nodes.

use crate::types::ids::{Incarnation, LogIndex, META_SHARD, NodeId, ShardId};
pub use crate::types::level::{FeatureLevel, Levels};
use crate::types::limits::{MOVES_MAX, NODE_WEIGHT_MAX};
use crate::types::start::StartId;
use crate::types::time::{Millis, Timestamp};
use serde::{Deserialize, Deserializer, Serialize};
use std::collections::BTreeMap;
use std::fmt;

/// A replica's id in its Raft group. Unique over the cluster and never reused, but for the meta group, where it is the
/// number of the node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct PeerId(pub u64);

impl PeerId {
    /// The peer that a node has in the meta group.
    #[must_use]
    pub fn of_node(node: NodeId) -> Self {
        Self(node.0)
    }
    /// The peer that founded a shard on the first node: the counter starts there.
    #[must_use]
    pub fn founder(shard: ShardId) -> Self {
        if shard == META_SHARD { Self(1) } else { Self(u64::from(shard.0) + 1) }
    }
}

impl fmt::Display for PeerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The cluster's id, drawn when it is founded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ClusterId(pub [u8; 16]);

/// SHA-256 of a join token. The token itself is never kept.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct TokenHash(pub [u8; 32]);

impl fmt::Debug for TokenHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(&self.0[..4]))
    }
}

/// A node's share of replicas and leaders relative to the others, 1 to `NODE_WEIGHT_MAX`; 100 is usual.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Weight(u16);

impl Weight {
    pub const USUAL: Self = Self(100);

    /// `None` out of range.
    #[must_use]
    pub fn new(weight: u16) -> Option<Self> {
        (1..=NODE_WEIGHT_MAX).contains(&weight).then_some(Self(weight))
    }
    #[must_use]
    pub fn get(self) -> u16 {
        self.0
    }
}

/// Where a member stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum NodeState {
    Up,
    Draining {
        depth: DrainDepth,
    },
    /// Not heard of by the meta group's leader since then.
    Gone {
        since: Timestamp,
        draining: Option<DrainDepth>,
    },
}

/// What is taken off a draining node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum DrainDepth {
    /// Before a restart: leaders only, the copies stay.
    Leaders,
    /// Before a removal: leaders and copies.
    Replicas,
}

/// A node of the cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    pub name: String,
    pub zone: String,
    pub weight: Weight,
    /// `host:port` of the links between nodes.
    pub cluster_address: String,
    /// Base URL of its front door.
    pub api_url: String,
    /// 0 until its first start as a member.
    pub incarnation: Incarnation,
    pub state: NodeState,
    pub levels: Levels,
    pub build: String,
}

/// What a replica was in its group when the group's leader last reported.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Role {
    /// Not in the group yet. Only such a peer may be added to it.
    Planned,
    Learner,
    Voter,
}

/// One replica of a shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Replica {
    pub node: NodeId,
    pub peer: PeerId,
    pub role: Role,
}

/// Where a shard ought to be and where it is. A node has one replica of a shard at most.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Placement {
    /// Nodes that ought to hold a voter, sorted.
    pub wanted: Vec<NodeId>,
    /// Sorted by node.
    pub replicas: Vec<Replica>,
    /// Log index of the membership that was last reported.
    pub reported: LogIndex,
}

/// What became of a join token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenUse {
    pub expires_at: Timestamp,
    /// The node that joined with it; a repeat of that join finds it here.
    pub used_by: Option<NodeId>,
}

/// What an operator may set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settings {
    /// A node gone for longer is replaced.
    pub dead_after: Millis,
    /// Groups that may be changing at once, 1 to `MOVES_MAX`.
    pub moves_max: u16,
    /// Leaders moved by one look at most, 1 to `MOVES_MAX`.
    pub transfers_max: u16,
}

impl Default for Settings {
    fn default() -> Self {
        Self { dead_after: Millis::from_mins(10), moves_max: 8, transfers_max: 4 }
    }
}

impl Settings {
    #[must_use]
    pub(super) fn is_sound(&self) -> bool {
        let counts = 1..=MOVES_MAX;
        self.dead_after > Millis(0) && counts.contains(&self.moves_max) && counts.contains(&self.transfers_max)
    }
}

/// The cluster. `default()` is the one that was not founded yet.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MetaState {
    pub(super) cluster: Option<ClusterId>,
    pub(super) rf: u8,
    pub(super) level: FeatureLevel,
    pub(super) settings: Settings,
    pub(super) node_next: NodeId,
    pub(super) peer_next: PeerId,
    pub(super) members: BTreeMap<NodeId, Member>,
    pub(super) tokens: BTreeMap<TokenHash, TokenUse>,
    /// The ordinary shards, by number.
    pub(super) shards: Vec<Placement>,
    pub(super) meta: Placement,
    /// The last start that was told of each node. Missing in states from before there was one.
    #[serde(deserialize_with = "last_or_none")]
    pub(super) starts: BTreeMap<NodeId, StartId>,
}

/// A state that ends before its last field has nothing in it. States are checked for damage before they get here.
fn last_or_none<'de, D: Deserializer<'de>>(bytes: D) -> Result<BTreeMap<NodeId, StartId>, D::Error> {
    Ok(BTreeMap::deserialize(bytes).unwrap_or_default())
}

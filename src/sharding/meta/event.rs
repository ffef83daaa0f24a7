//! What happened to the cluster. Persisted: tags are the variant order, append only, golden bytes in the tests.
//! Whatever was allocated is in the event, so that `evolve` only writes down.

use super::command::NodeFacts;
use super::state::{ClusterId, DrainDepth, FeatureLevel, Levels, PeerId, Settings, TokenHash, Weight};
use crate::types::ids::{Incarnation, LogIndex, NodeId, ShardId};
use crate::types::start::ProcessStart;
use crate::types::time::Timestamp;
use serde::{Deserialize, Serialize};

/// One event: when, and what.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MetaEvent {
    pub at: Timestamp,
    pub fact: MetaFact,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum MetaFact {
    Founded {
        cluster: ClusterId,
        shards: u16,
        rf: u8,
        level: FeatureLevel,
        node: NodeFacts,
    },
    TokenIssued {
        token: TokenHash,
        expires_at: Timestamp,
    },
    Joined {
        id: NodeId,
        token: TokenHash,
        node: NodeFacts,
    },
    Announced {
        node: NodeId,
        incarnation: Incarnation,
        cluster_address: String,
        api_url: String,
        levels: Levels,
        build: String,
    },
    Drained {
        node: NodeId,
        depth: DrainDepth,
    },
    Undrained {
        node: NodeId,
    },
    Removed {
        node: NodeId,
        forced: bool,
    },
    Reweighed {
        node: NodeId,
        weight: Weight,
    },
    Rezoned {
        node: NodeId,
        zone: String,
    },
    SettingsChanged(Settings),
    Planned {
        shards: Vec<PlannedShard>,
    },
    GroupChanged {
        shard: ShardId,
        index: LogIndex,
        voters: Vec<PeerId>,
        learners: Vec<PeerId>,
    },
    NodeLost {
        node: NodeId,
    },
    NodeSeen {
        node: NodeId,
    },
    LevelRaised {
        level: FeatureLevel,
    },
    Begun {
        node: NodeId,
        start: ProcessStart,
        cluster_address: String,
        api_url: String,
        levels: Levels,
        build: String,
    },
}

/// A shard's new set of nodes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlannedShard {
    pub shard: ShardId,
    /// Sorted.
    pub wanted: Vec<NodeId>,
    /// Peers of the replicas that are new, by node.
    pub fresh: Vec<(NodeId, PeerId)>,
}

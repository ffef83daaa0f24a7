//! What may be asked of the meta group, and its refusals.

use super::state::{ClusterId, DrainDepth, FeatureLevel, Levels, PeerId, Settings, TokenHash};
use crate::types::ids::{Incarnation, LogIndex, META_SHARD, NodeId, ShardId};
use crate::types::start::Lineage;
use crate::types::time::Timestamp;
use serde::{Deserialize, Serialize};

/// What a node says of itself when it founds or joins.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeFacts {
    /// Unique among the members that are not gone.
    pub name: String,
    pub zone: String,
    /// 1 to `NODE_WEIGHT_MAX`.
    pub weight: u16,
    pub cluster_address: String,
    pub api_url: String,
    pub levels: Levels,
    pub build: String,
}

/// The nodes that ought to hold a shard's voters.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShardWish {
    pub shard: ShardId,
    pub wanted: Vec<NodeId>,
}

/// A command to the meta group. Sent between nodes: append only.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum MetaCommand {
    /// Makes the cluster: node 1, and one voter of every shard on it.
    Found {
        cluster: ClusterId,
        /// 1 to `SHARDS_MAX`.
        shards: u16,
        /// 1 to `REPLICATION_FACTOR_MAX`.
        rf: u8,
        level: FeatureLevel,
        node: NodeFacts,
    },
    IssueToken {
        token: TokenHash,
        expires_at: Timestamp,
    },
    /// Allocates a node id, which [`super::MetaState::joined_with`] then tells.
    Join {
        token: TokenHash,
        node: NodeFacts,
    },
    /// As [`Self::Begin`], of builds that did not tell one start from another: refused.
    Announce {
        node: NodeId,
        incarnation: Incarnation,
        cluster_address: String,
        api_url: String,
        levels: Levels,
        build: String,
    },
    Drain {
        node: NodeId,
        depth: DrainDepth,
    },
    Undrain {
        node: NodeId,
    },
    /// `forced`: although replicas are there, because the node is gone for good.
    Remove {
        node: NodeId,
        forced: bool,
    },
    SetWeight {
        node: NodeId,
        weight: u16,
    },
    SetZone {
        node: NodeId,
        zone: String,
    },
    SetSettings(Settings),
    /// The planner's wishes; peers of new replicas are allocated here.
    Plan {
        changes: Vec<ShardWish>,
    },
    /// A shard leader's report of its group, which may be late or repeated. During a joint change the voters are those
    /// of both halves.
    GroupChanged {
        shard: ShardId,
        index: LogIndex,
        voters: Vec<PeerId>,
        learners: Vec<PeerId>,
    },
    /// The leader of the meta group has not heard of this life of the node for a while.
    NodeLost {
        node: NodeId,
        incarnation: Incarnation,
    },
    NodeSeen {
        node: NodeId,
        incarnation: Incarnation,
    },
    /// To the lowest of the members' highest levels.
    FinalizeUpgrade,
    /// What the runtime would send for a timer or a call; the meta group has none.
    Unwanted,
    /// A member's process has started. The present start in the lineage has to follow what is known of the node.
    Begin {
        node: NodeId,
        lineage: Lineage,
        cluster_address: String,
        api_url: String,
        levels: Levels,
        build: String,
    },
}

/// A fact that a node states about itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum Field {
    #[error("name")]
    Name,
    #[error("zone")]
    Zone,
    #[error("weight")]
    Weight,
    #[error("cluster address")]
    ClusterAddress,
    #[error("API URL")]
    ApiUrl,
    #[error("feature levels")]
    Levels,
    #[error("build")]
    Build,
}

/// Why nothing was changed. Sent between nodes: append only.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum MetaRefusal {
    #[error("this is not the meta group's entity")]
    NotTheMetaEntity,
    #[error("not a command of the meta group")]
    NotWanted,
    #[error("the cluster is not founded yet: run `bojagi cluster init` on one node")]
    NotFounded,
    #[error("the cluster is founded already")]
    AlreadyFounded,
    #[error("the number of shards or the replication factor is out of range")]
    BadShape,
    #[error("the node's {0} cannot be used: empty, too long, out of range or with characters that are not allowed")]
    BadFact(Field),
    #[error("the join token is not known")]
    UnknownToken,
    #[error("the join token has expired")]
    TokenExpired,
    #[error("the join token was used by node {by}")]
    TokenUsed { by: NodeId },
    #[error("too many join tokens are open; wait until one is used or expires")]
    TooManyTokens,
    #[error("node {node} has this name and is not gone: drain and remove it, or choose another name")]
    NameTaken { node: NodeId },
    #[error("the cluster has as many nodes as it can")]
    TooManyNodes,
    #[error("the build does not know the cluster's feature level {0}: run the build that the other nodes run")]
    LevelUnsupported(FeatureLevel),
    #[error("node {0} is not a member")]
    UnknownNode(NodeId),
    #[error("node {node} has already started as incarnation {known}")]
    StaleIncarnation { node: NodeId, known: Incarnation },
    #[error("node {node} still holds {replicas} replicas: drain it first, or force it once it is gone")]
    ReplicasThere { node: NodeId, replicas: u16 },
    #[error("node {node} is not gone, so it cannot be removed by force")]
    NotGone { node: NodeId },
    #[error("node {node} holds the last copy of shard {shard} that can be reached")]
    LastCopy { node: NodeId, shard: ShardId },
    #[error("node {node} still votes in the meta group: drain it first and wait until it does not")]
    StillVotes { node: NodeId },
    #[error("node {0} is the last one of the cluster")]
    LastNode(NodeId),
    #[error("a setting is out of range")]
    BadSettings,
    #[error("there is no shard {0}")]
    UnknownShard(ShardId),
    #[error("the wish for shard {0} makes no sense: empty, repeated, or with a node that cannot take it")]
    BadWish(ShardId),
    #[error("a build that does not tell its starts apart is too old for this cluster")]
    StartUntold,
    #[error(
        "the data folder of node {node} is behind: the cluster knows of its start {known}, which the folder has not seen. It \
         was put back from a copy or is used twice, and may have forgotten what it voted for. Move it away, remove the node \
         with `bojagi cluster remove {node} --force` and let the machine join anew"
    )]
    FolderBehind { node: NodeId, known: Incarnation },
    #[error(
        "without node {node} there is no majority left of shard {list}: start another of their nodes first",
        list = numbers(shards)
    )]
    MajorityLost { node: NodeId, shards: Vec<ShardId> },
    #[error(
        "the build of node {node} knows no feature level above {level}: upgrade it first, or remove it if it is gone for \
         good. Nothing was changed"
    )]
    LevelHeldBack { node: NodeId, level: FeatureLevel },
}

/// Shards in a message: the first few, and how many there are.
fn numbers(shards: &[ShardId]) -> String {
    const SHOWN: usize = 12;
    let name = |shard: &ShardId| if *shard == META_SHARD { "meta".to_owned() } else { shard.to_string() };
    let shown = shards.iter().take(SHOWN).map(name).collect::<Vec<_>>().join(", ");
    if shards.len() > SHOWN { format!("{shown} and {} more", shards.len() - SHOWN) } else { shown }
}

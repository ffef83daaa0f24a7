//! What the front door may ask of a node. `api` knows nothing else of the actors.

use crate::types::codec;
use crate::types::effect::IndexTag;
use crate::types::hint::AvailabilityHints;
use crate::types::ids::{EntityKey, Fingerprint, IdempotencyId, LogIndex, ShardId, Version};
use crate::types::kind::KindTable;
use crate::types::level::FeatureLevel;
use crate::types::record::{Sealed, WrappedKey};
use crate::types::time::{Clock, Timestamp};
use futures_util::future::BoxFuture;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use std::time::Duration;

/// One command for one entity.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Ask {
    pub key: EntityKey,
    /// The kind's encoded command.
    #[serde(with = "codec::bytes")]
    pub command: Vec<u8>,
    pub idempotency: Option<(IdempotencyId, Fingerprint)>,
    /// Refused with [`AskError::VersionMoved`] unless the entity is at this version.
    pub if_version: Option<Version>,
    /// Data key to be stored by the record that this command commits (creation only).
    pub new_key: Option<WrappedKey>,
}

/// A committed answer: the entity as it is after the command's record.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Answer {
    pub key: EntityKey,
    pub version: Version,
    /// Encoded state at `version`.
    #[serde(with = "codec::bytes")]
    pub state: Vec<u8>,
    /// The reply of an earlier request under the same idempotency key.
    pub replayed: bool,
    /// Nothing was written: the state was already so. Known only on the node that decided.
    #[serde(skip)]
    pub unwritten: bool,
}

/// Why a command has no committed answer. All but `Unknown` changed nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
pub enum AskError {
    #[error("refused by the entity")]
    Rejected {
        #[serde(with = "codec::bytes")]
        rejection: Vec<u8>,
        version: Version,
    },
    #[error("entity is at another version")]
    VersionMoved { version: Version },
    #[error("idempotency key was used with another body")]
    KeyReused,
    #[error("first call under this idempotency key is still running")]
    KeyInFlight,
    #[error("idempotency key is older than its life")]
    KeyExpired,
    #[error("overloaded")]
    Overloaded { retry_after_secs: u32 },
    /// May or may not be committed; a repeat under the same key settles it.
    #[error("outcome unknown")]
    Unknown,
    #[error("no leader")]
    Unavailable,
    #[error("not a command of this kind")]
    Malformed,
    /// Nodes of a build that does not know this kind may be members yet: nothing was done.
    #[error("the cluster is below the feature level {needs}")]
    NotFinalized { needs: FeatureLevel },
    /// What it would change at once is more than a record holds; a repeat is refused as well, while the entity is as it is.
    #[error("more than one record holds")]
    TooLarge,
}

/// One record of a journal.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct JournalRow {
    pub version: Version,
    pub at: Timestamp,
    /// Encoded events of the kind.
    #[serde(with = "codec::bytes")]
    pub events: Vec<u8>,
}

/// One page of a list over an index, newest or lowest first as the index orders its keys.
#[derive(Clone, Debug)]
pub struct IndexPage {
    /// Index key (without index tag and shard) and entity.
    pub rows: Vec<(Vec<u8>, EntityKey)>,
    /// Pass as `after` for the next page; `None` at the end.
    pub next: Option<Vec<u8>>,
}

/// A node as its front door sees it. Reads go through the leader behind a read barrier.
pub trait Door: Send + Sync {
    fn kinds(&self) -> &KindTable;
    fn clock(&self) -> Arc<dyn Clock>;
    /// The cluster's feature level (ADR-10); 0 before it is known.
    fn feature_level(&self) -> FeatureLevel;
    fn shard_count(&self) -> u16;
    fn shard_of(&self, key: &EntityKey) -> ShardId;
    fn ask(&self, ask: Ask) -> BoxFuture<'_, Result<Answer, AskError>>;
    /// The committed state, `None` when the entity does not exist.
    fn read(&self, key: EntityKey) -> BoxFuture<'_, Result<Option<Answer>, AskError>>;
    /// The committed state as the shard's leader holds it, without the round trip that confirms that it still leads. What
    /// it shows is committed; a newer leader may have gone on from there. For what another entity decides anyhow.
    fn glance(&self, key: EntityKey) -> BoxFuture<'_, Result<Option<Answer>, AskError>>;
    /// Completes with a committed state of the entity above `after`; cancellation safe.
    fn beyond(&self, key: EntityKey, after: Version) -> BoxFuture<'_, Result<Answer, AskError>>;
    /// Records with versions above `after`, in order, at most `limit`.
    fn journal(&self, key: EntityKey, after: Version, limit: usize)
    -> BoxFuture<'_, Result<Vec<JournalRow>, AskError>>;
    /// Completes with the entity's version once it is above `after`, for live streams; cancellation safe.
    fn changed(&self, key: EntityKey, after: Version) -> BoxFuture<'_, Result<Version, AskError>>;
    /// The entity behind an exact key of a derived index of one shard.
    fn resolve(
        &self,
        shard: ShardId,
        index: IndexTag,
        key: Vec<u8>,
    ) -> BoxFuture<'_, Result<Option<EntityKey>, AskError>>;
    /// Rows whose index key starts with `prefix`, merged over all shards in key order, strictly after `after`.
    fn list(
        &self,
        index: IndexTag,
        prefix: Vec<u8>,
        after: Option<Vec<u8>>,
        limit: usize,
    ) -> BoxFuture<'_, Result<IndexPage, AskError>>;
    /// Seals personal data of a new entity under a fresh data key.
    fn seal_new(&self, key: EntityKey, personal: &[u8]) -> (Sealed, WrappedKey);
    /// Seals under the entity's existing data key; `None` once erased.
    fn seal(&self, key: EntityKey, personal: Vec<u8>) -> BoxFuture<'_, Result<Option<Sealed>, AskError>>;
    /// Opens; `None` once erased.
    fn unseal(&self, key: EntityKey, sealed: Sealed) -> BoxFuture<'_, Result<Option<Vec<u8>>, AskError>>;
    /// Secret of the cluster for HMACs of ids, tokens, codes and cursors.
    fn cluster_secret(&self) -> &[u8; 32];
    /// Fills from the operating system's CSPRNG.
    fn fill_random(&self, bytes: &mut [u8]);
    /// Handles a provider's webhook; reports reach their entities behind the reply.
    fn webhook(&self, provider: String, headers: Vec<(String, String)>, body: Vec<u8>) -> BoxFuture<'_, WebhookAnswer>;
    /// Operator views, as JSON made by the runtime: gateways, shards, timers, live entities.
    fn ops(&self, view: OpsView) -> BoxFuture<'_, serde_json::Value>;
    /// Changes the cluster; answers with what was done. Under the same mark a change that was written down is not made
    /// again, and answered as before; a transfer and a look at the places are not written down.
    fn change_cluster(
        &self,
        change: ClusterChange,
        mark: (IdempotencyId, Fingerprint),
    ) -> BoxFuture<'_, Result<ClusterDone, ClusterError>>;
    /// A part of this node's shards for a backup of the cluster, as `persistence::copying` encodes it; `None` when the
    /// node stops.
    fn copy(&self, part: CopyPart) -> BoxFuture<'_, Option<Vec<u8>>>;
    /// Dev mode only; `None` otherwise.
    fn dev(&self) -> Option<Arc<dyn DevDoor>>;
    /// Whether the node can serve: stores open, shards led.
    fn ready(&self) -> bool;
    /// What other nodes tell beside the log; `None` without Redis.
    fn hints(&self) -> Option<Arc<dyn AvailabilityHints>> {
        None
    }
    /// The front door gave a reply. `failed`: it was an error of ours.
    fn replied(&self, took: Duration, failed: bool) {
        let _uncounted = (took, failed);
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WebhookAnswer {
    Taken,
    /// No room for its reports now: the provider repeats it.
    Busy,
    UnknownProvider,
    Unsigned,
    Malformed,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OpsView {
    Cluster,
    /// Of each node, or of the one that is asked alone.
    Gateways {
        own: bool,
    },
    Runtime,
    /// What is wrong, on which node, since when.
    Alerts,
    /// Period keys over the data keys.
    Vault,
    /// Whether an entity's personal data is erased, and since when for good.
    Erasure {
        key: EntityKey,
    },
    /// What is due in the next hours on all nodes, by minute and channel, against the quotas; as of looks that may have
    /// been made a little earlier.
    Forecast {
        hours: u16,
    },
}

/// What a backup of the cluster asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CopyPart {
    /// The cluster's id, and its secrets as they are sealed.
    Identity,
    /// A page of a shard's rows; without a cursor the first, as of now.
    Rows { shard: ShardId, cursor: Vec<u8> },
    /// Committed entries of a shard's log.
    Log { shard: ShardId, after: LogIndex },
}

/// What an operator changes about the cluster. Nodes are meant by number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClusterChange {
    /// A one-time token for a node that wants to join, good for so many seconds.
    IssueToken { seconds: u32 },
    /// Moves leaders and replicas off a node; `undo` lets it have some again.
    Drain { node: u64, undo: bool },
    /// Takes a node out for good. `force`: although it is gone and replicas are still noted there.
    Remove { node: u64, force: bool },
    /// Hands the leadership of one shard to a node that holds a replica.
    Transfer { shard: u16, to: u64 },
    /// Plans at once instead of at the next look.
    Rebalance,
    /// Raises the feature level to the lowest of the members' builds.
    FinalizeUpgrade,
}

/// What was done about the cluster, for an operator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClusterDone {
    pub told: serde_json::Value,
    /// The reply of an earlier request under the same mark.
    pub replayed: bool,
}

/// Why a change of the cluster was not made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ClusterError {
    /// Nothing was changed; the text says why, for an operator.
    #[error("{0}")]
    Refused(String),
    #[error(transparent)]
    Ask(#[from] AskError),
}

/// The dev clock.
pub trait DevDoor: Send + Sync {
    /// Walks the clock forward; the flag says whether everything due had settled.
    fn advance(&self, seconds: i64) -> BoxFuture<'_, (Timestamp, bool)>;
}

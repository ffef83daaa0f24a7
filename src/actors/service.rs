//! The node's side of the front door: what is asked is admitted, routed to the leader of its shard, and answered.

use crate::actors::clocks::ClusterClock;
use crate::actors::cluster::change;
use crate::actors::copying;
use crate::actors::door::{
    Answer, Ask, AskError, ClusterChange, ClusterDone, ClusterError, CopyPart, DevDoor, Door, IndexPage, JournalRow,
    OpsView, WebhookAnswer,
};
use crate::actors::node::Node;
use crate::actors::ops;
use crate::actors::router::{self, Reply, Request};
use crate::actors::settle::Settler;
use crate::types::effect::IndexTag;
use crate::types::hint::AvailabilityHints;
use crate::types::ids::{EntityKey, Fingerprint, IdempotencyId, ShardId, Version};
use crate::types::kind::KindTable;
use crate::types::level::{FIRST_LEVEL, FOURTH_LEVEL, FeatureLevel};
use crate::types::record::{Sealed, WrappedKey};
use crate::types::time::Clock;
use futures_util::future::BoxFuture;
use std::sync::Arc;
use std::time::Duration;

/// The door of a node, with the dev clock when there is one.
pub struct NodeDoor {
    node: Arc<Node>,
    dev: Option<Arc<Settler>>,
}

impl NodeDoor {
    #[must_use]
    pub fn new(node: Arc<Node>, dev: Option<Arc<Settler>>) -> Self {
        Self { node, dev }
    }

    async fn ask_entity(&self, ask: Ask) -> Result<Answer, AskError> {
        let needs = self.kinds().get(ask.key.kind).map_or(FIRST_LEVEL, |kind| kind.since());
        if needs > FIRST_LEVEL.max(self.feature_level()) {
            return Err(AskError::NotFinalized { needs });
        }
        let Ok(_admitted) = self.node.admission.try_acquire() else {
            return Err(AskError::Overloaded { retry_after_secs: 1 });
        };
        match self.route(Request::Ask(ask)).await? {
            Reply::Answer(answer) => Ok(answer),
            other => Err(router::unexpected(&other)),
        }
    }

    async fn route(&self, request: Request) -> Result<Reply, AskError> {
        router::route(&self.node.shared, request).await
    }

    async fn read_entity(&self, key: EntityKey) -> Result<Option<Answer>, AskError> {
        match self.route(Request::Read(key)).await? {
            Reply::Read(answer) => Ok(answer),
            other => Err(router::unexpected(&other)),
        }
    }

    /// Of builds below the level that knows how, the certain way.
    async fn glance_at(&self, key: EntityKey) -> Result<Option<Answer>, AskError> {
        if self.feature_level() < FOURTH_LEVEL {
            return self.read_entity(key).await;
        }
        match self.route(Request::Glance(key)).await? {
            Reply::Read(answer) => Ok(answer),
            other => Err(router::unexpected(&other)),
        }
    }

    async fn wait_beyond(&self, key: EntityKey, after: Version) -> Result<Answer, AskError> {
        loop {
            let reply = if self.feature_level() < FOURTH_LEVEL {
                self.wait_changed(key, after).await?;
                self.route(Request::Read(key)).await?
            } else {
                self.route(Request::Beyond { key, after }).await?
            };
            match reply {
                Reply::Read(Some(answer)) if answer.version > after => return Ok(answer),
                Reply::Read(_) => {}
                other => return Err(router::unexpected(&other)),
            }
        }
    }

    async fn read_journal(&self, key: EntityKey, after: Version, limit: usize) -> Result<Vec<JournalRow>, AskError> {
        let limit = u32::try_from(limit).unwrap_or(u32::MAX);
        match self.route(Request::Journal { key, after, limit }).await? {
            Reply::Journal(rows) => Ok(rows),
            other => Err(router::unexpected(&other)),
        }
    }

    async fn wait_changed(&self, key: EntityKey, after: Version) -> Result<Version, AskError> {
        loop {
            match self.route(Request::Changed { key, after }).await? {
                Reply::Changed(version) if version > after => return Ok(version),
                Reply::Changed(_) => {}
                other => return Err(router::unexpected(&other)),
            }
        }
    }

    async fn find(&self, shard: ShardId, index: IndexTag, key: Vec<u8>) -> Result<Option<EntityKey>, AskError> {
        if shard.0 >= self.node.shared.shard_count {
            return Ok(None);
        }
        match self.route(Request::Resolve { shard, index, key }).await? {
            Reply::Resolved(found) => Ok(found),
            other => Err(router::unexpected(&other)),
        }
    }

    async fn list_index(
        &self,
        index: IndexTag,
        prefix: Vec<u8>,
        after: Option<Vec<u8>>,
        limit: usize,
    ) -> Result<IndexPage, AskError> {
        let mut rows = router::list(&self.node.shared, index, &prefix, after.as_ref(), limit + 1).await?;
        rows.sort_by(|a, b| a.0.cmp(&b.0));
        let more = rows.len() > limit;
        rows.truncate(limit);
        let next = if more { rows.last().map(|(key, _)| key.clone()) } else { None };
        Ok(IndexPage { rows, next })
    }

    async fn seal_again(&self, key: EntityKey, personal: Vec<u8>) -> Result<Option<Sealed>, AskError> {
        match self.route(Request::Seal { key, personal }).await? {
            Reply::Sealed(sealed) => Ok(sealed),
            other => Err(router::unexpected(&other)),
        }
    }

    async fn open(&self, key: EntityKey, sealed: Sealed) -> Result<Option<Vec<u8>>, AskError> {
        match self.route(Request::Unseal { key, sealed }).await? {
            Reply::Opened(personal) => Ok(personal),
            other => Err(router::unexpected(&other)),
        }
    }
}

impl Door for NodeDoor {
    fn kinds(&self) -> &KindTable {
        &self.node.shared.kinds
    }
    fn clock(&self) -> Arc<dyn Clock> {
        ClusterClock::new(self.node.shared.clone())
    }
    fn feature_level(&self) -> FeatureLevel {
        self.node.shared.gate.level()
    }
    fn shard_count(&self) -> u16 {
        self.node.shared.shard_count
    }
    fn shard_of(&self, key: &EntityKey) -> ShardId {
        self.node.shared.shard_of(key)
    }
    fn ask(&self, ask: Ask) -> BoxFuture<'_, Result<Answer, AskError>> {
        Box::pin(self.ask_entity(ask))
    }
    fn read(&self, key: EntityKey) -> BoxFuture<'_, Result<Option<Answer>, AskError>> {
        Box::pin(self.read_entity(key))
    }
    fn glance(&self, key: EntityKey) -> BoxFuture<'_, Result<Option<Answer>, AskError>> {
        Box::pin(self.glance_at(key))
    }
    fn beyond(&self, key: EntityKey, after: Version) -> BoxFuture<'_, Result<Answer, AskError>> {
        Box::pin(self.wait_beyond(key, after))
    }
    fn journal(
        &self,
        key: EntityKey,
        after: Version,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<JournalRow>, AskError>> {
        Box::pin(self.read_journal(key, after, limit))
    }
    fn changed(&self, key: EntityKey, after: Version) -> BoxFuture<'_, Result<Version, AskError>> {
        Box::pin(self.wait_changed(key, after))
    }
    fn resolve(
        &self,
        shard: ShardId,
        index: IndexTag,
        key: Vec<u8>,
    ) -> BoxFuture<'_, Result<Option<EntityKey>, AskError>> {
        Box::pin(self.find(shard, index, key))
    }
    fn list(
        &self,
        index: IndexTag,
        prefix: Vec<u8>,
        after: Option<Vec<u8>>,
        limit: usize,
    ) -> BoxFuture<'_, Result<IndexPage, AskError>> {
        Box::pin(self.list_index(index, prefix, after, limit))
    }
    fn seal_new(&self, key: EntityKey, personal: &[u8]) -> (Sealed, WrappedKey) {
        self.node.shared.vault.seal_new(key, personal)
    }
    fn seal(&self, key: EntityKey, personal: Vec<u8>) -> BoxFuture<'_, Result<Option<Sealed>, AskError>> {
        Box::pin(self.seal_again(key, personal))
    }
    fn unseal(&self, key: EntityKey, sealed: Sealed) -> BoxFuture<'_, Result<Option<Vec<u8>>, AskError>> {
        Box::pin(self.open(key, sealed))
    }
    fn cluster_secret(&self) -> &[u8; 32] {
        &self.node.folder.cluster_secret
    }
    fn fill_random(&self, bytes: &mut [u8]) {
        getrandom::fill(bytes).expect("the operating system's random source answers");
    }
    fn webhook(&self, provider: String, headers: Vec<(String, String)>, body: Vec<u8>) -> BoxFuture<'_, WebhookAnswer> {
        Box::pin(ops::webhook(&self.node.shared, provider, headers, body))
    }
    fn ops(&self, view: OpsView) -> BoxFuture<'_, serde_json::Value> {
        Box::pin(ops::view(&self.node, view))
    }
    fn change_cluster(
        &self,
        change: ClusterChange,
        mark: (IdempotencyId, Fingerprint),
    ) -> BoxFuture<'_, Result<ClusterDone, ClusterError>> {
        Box::pin(change::change(&self.node, change, mark))
    }
    fn copy(&self, part: CopyPart) -> BoxFuture<'_, Option<Vec<u8>>> {
        Box::pin(copying::copy(&self.node, part))
    }
    fn dev(&self) -> Option<Arc<dyn DevDoor>> {
        self.dev.clone().map(|dev| dev as Arc<dyn DevDoor>)
    }
    fn ready(&self) -> bool {
        self.node.is_ready()
    }
    fn hints(&self) -> Option<Arc<dyn AvailabilityHints>> {
        self.node.shared.following.hints.get().cloned()
    }
    fn replied(&self, took: Duration, failed: bool) {
        self.node.shared.alerts.note_reply(took, failed);
    }
}

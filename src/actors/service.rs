//! The node's side of the front door: asks are admitted, routed to their entity and answered; reads wait for the read
//! barrier of their shard.

use crate::actors::door::{Answer, Ask, AskError, DevDoor, Door, IndexPage, JournalRow, OpsView, WebhookAnswer};
use crate::actors::entity::EntityMsg;
use crate::actors::loading;
use crate::actors::node::Node;
use crate::actors::ops;
use crate::actors::settle::Settler;
use crate::actors::shard::ShardMsg;
use crate::types::effect::IndexTag;
use crate::types::ids::{EntityKey, ShardId, Version};
use crate::types::kind::KindTable;
use crate::types::limits::ASK_DEADLINE;
use crate::types::record::{Sealed, WrappedKey};
use crate::types::time::Clock;
use futures_util::future::BoxFuture;
use std::sync::Arc;
use tokio::sync::oneshot;

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

    async fn barrier(&self, shard: ShardId) -> Result<(), AskError> {
        let actor = self.node.shared.shard(shard).ok_or(AskError::Unavailable)?;
        let (reply, ready) = oneshot::channel();
        actor.cast(ShardMsg::Barrier(reply)).map_err(|_| AskError::Unavailable)?;
        match tokio::time::timeout(ASK_DEADLINE.to_std(), ready).await {
            Ok(Ok(true)) => Ok(()),
            Ok(Ok(false) | Err(_)) | Err(_) => Err(AskError::Unavailable),
        }
    }

    /// Runs a read on the pool, where it may block.
    async fn read_on_pool<T: Send + 'static>(
        &self,
        job: impl FnOnce(&crate::actors::shared::Shared) -> T + Send + 'static,
    ) -> Result<T, AskError> {
        let shared = self.node.shared.clone();
        self.node.shared.pool.ask(move || job(&shared)).await.ok_or(AskError::Unavailable)
    }

    async fn ask_entity(&self, ask: Ask) -> Result<Answer, AskError> {
        let Ok(_admitted) = self.node.admission.try_acquire() else {
            return Err(AskError::Overloaded { retry_after_secs: 1 });
        };
        if !self.node.shared.leads(self.node.shared.shard_of(&ask.key)) {
            return Err(AskError::Unavailable);
        }
        let (reply, answer) = oneshot::channel();
        self.node.shared.deliver(ask.key, EntityMsg::Ask(Box::new(ask), reply));
        match tokio::time::timeout(ASK_DEADLINE.to_std(), answer).await {
            Ok(Ok(answer)) => answer,
            // The entity's actor ended, or is too slow: its record may still be committed.
            Ok(Err(_)) | Err(_) => Err(AskError::Unknown),
        }
    }

    async fn read_entity(&self, key: EntityKey) -> Result<Option<Answer>, AskError> {
        let shard = self.node.shared.shard_of(&key);
        self.barrier(shard).await?;
        let loaded = self.read_on_pool(move |shared| loading::load(shared, shard, key)).await?;
        Ok(loaded.state.map(|state| Answer { key, version: loaded.version, state, replayed: false }))
    }

    async fn read_journal(&self, key: EntityKey, after: Version, limit: usize) -> Result<Vec<JournalRow>, AskError> {
        let shard = self.node.shared.shard_of(&key);
        self.barrier(shard).await?;
        self.read_on_pool(move |shared| match shared.state.journal(shard, &key, after, limit) {
            Ok(records) => records
                .into_iter()
                .map(|record| JournalRow { version: record.version, at: record.at, events: record.events })
                .collect(),
            Err(error) => shared.fatal(&error.to_string()),
        })
        .await
    }

    async fn wait_changed(&self, key: EntityKey, after: Version) -> Result<Version, AskError> {
        let mut watch = self.node.shared.watchers.subscribe(key);
        loop {
            let current = self.read_entity(key).await?.map_or(Version(0), |answer| answer.version);
            if current > after {
                return Ok(current);
            }
            if watch.changed().await.is_err() {
                return Err(AskError::Unavailable);
            }
        }
    }

    async fn find(&self, shard: ShardId, index: IndexTag, key: Vec<u8>) -> Result<Option<EntityKey>, AskError> {
        if shard.0 >= self.node.shared.shard_count {
            return Ok(None);
        }
        self.barrier(shard).await?;
        self.read_on_pool(move |shared| match shared.state.index_get(shard, index, &key) {
            Ok(found) => found,
            Err(error) => shared.fatal(&error.to_string()),
        })
        .await
    }

    async fn list_index(
        &self,
        index: IndexTag,
        prefix: Vec<u8>,
        after: Option<Vec<u8>>,
        limit: usize,
    ) -> Result<IndexPage, AskError> {
        let barriers = (0..self.node.shared.shard_count).map(|shard| self.barrier(ShardId(shard)));
        futures_util::future::try_join_all(barriers).await?;
        self.read_on_pool(move |shared| {
            let mut rows = Vec::new();
            for shard in 0..shared.shard_count {
                match shared.state.index_scan(ShardId(shard), index, &prefix, after.as_deref(), limit + 1) {
                    Ok(found) => rows.extend(found),
                    Err(error) => shared.fatal(&error.to_string()),
                }
            }
            rows.sort_by(|a, b| a.0.cmp(&b.0));
            let more = rows.len() > limit;
            rows.truncate(limit);
            let next = if more { rows.last().map(|(key, _)| key.clone()) } else { None };
            IndexPage { rows, next }
        })
        .await
    }
}

impl Door for NodeDoor {
    fn kinds(&self) -> &KindTable {
        &self.node.shared.kinds
    }
    fn clock(&self) -> Arc<dyn Clock> {
        self.node.shared.clock.clone()
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
        Box::pin(self.read_on_pool(move |shared| match shared.vault.seal(key, &personal) {
            Ok(sealed) => sealed,
            Err(error) => shared.fatal(&error.to_string()),
        }))
    }
    fn unseal(&self, key: EntityKey, sealed: Sealed) -> BoxFuture<'_, Result<Option<Vec<u8>>, AskError>> {
        Box::pin(self.read_on_pool(move |shared| loading::open(shared, key, &sealed)))
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
    fn dev(&self) -> Option<Arc<dyn DevDoor>> {
        self.dev.clone().map(|dev| dev as Arc<dyn DevDoor>)
    }
    fn ready(&self) -> bool {
        self.node.is_ready()
    }
}

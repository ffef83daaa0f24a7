//! The event stream: every domain event of the shards that this node leads, published to Redis at least once, in order
//! for each entity. Nothing waits for it, and what it holds in memory is a few batches, however far behind it is.
//!
//! `source` reads what a shard has to say, `round` carries it to Redis; here is how a node is given both.

mod round;
mod source;

use crate::actors::cluster::meta;
use crate::actors::node::Node;
use crate::actors::pool::Pool;
use crate::actors::shared::Shared;
use crate::sharding::meta::NodeState;
use crate::stream::EventStream;
use crate::types::hint::AvailabilityHints;
use crate::types::ids::{LogIndex, ShardId};
use crate::types::publication::Publish;
use crate::types::quota::FleetQuota;
use round::Publisher;
use serde_json::{Value, json};
use source::Source;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use tokio::sync::Notify;

/// How far the shards are applied, for the publisher, and what the publisher says of itself.
pub struct Following {
    /// What nodes tell each other through Redis, beside the events.
    pub(crate) hints: OnceLock<Arc<dyn AvailabilityHints>>,
    attached: AtomicBool,
    applied: Vec<AtomicU64>,
    changed: Notify,
    pub(crate) connected: AtomicBool,
    pub(crate) published: AtomicU64,
    pub(crate) errors: AtomicU64,
    /// Entries that are applied and not published, and since when in milliseconds.
    pub(crate) lag_entries: AtomicU64,
    pub(crate) lag_ms: AtomicU64,
}

impl Following {
    #[must_use]
    pub fn new(shard_count: u16) -> Self {
        Self {
            hints: OnceLock::new(),
            attached: AtomicBool::new(false),
            applied: (0..shard_count).map(|_| AtomicU64::new(0)).collect(),
            changed: Notify::new(),
            connected: AtomicBool::new(false),
            published: AtomicU64::new(0),
            errors: AtomicU64::new(0),
            lag_entries: AtomicU64::new(0),
            lag_ms: AtomicU64::new(0),
        }
    }

    /// A shard that this node leads was applied up to here.
    pub fn note(&self, shard: ShardId, index: LogIndex) {
        if !self.attached.load(Ordering::Relaxed) {
            return;
        }
        if let Some(applied) = self.applied.get(usize::from(shard.0)) {
            applied.fetch_max(index.0, Ordering::AcqRel);
            self.changed.notify_one();
        }
    }

    fn applied(&self, shard: ShardId) -> LogIndex {
        LogIndex(self.applied.get(usize::from(shard.0)).map_or(0, |applied| applied.load(Ordering::Acquire)))
    }

    /// For operators; null of a node that has no event stream.
    pub(crate) fn view(&self) -> Value {
        if !self.attached.load(Ordering::Relaxed) {
            return Value::Null;
        }
        json!({
            "connected": self.connected.load(Ordering::Relaxed),
            "published": self.published.load(Ordering::Relaxed),
            "errors": self.errors.load(Ordering::Relaxed),
            "lag_entries": self.lag_entries.load(Ordering::Relaxed),
            "lag_ms": self.lag_ms.load(Ordering::Relaxed),
        })
    }
}

impl Node {
    /// Publishes the domain events of the shards that this node leads from now on, and what is missing of the past.
    /// Once for a node.
    ///
    /// # Errors
    /// The operating system refused a thread.
    pub fn attach_stream(&self, stream: EventStream, publish: Publish) -> std::io::Result<()> {
        let (shared, folder) = (&self.shared, &self.folder);
        let source = Source {
            log: folder.log.clone(),
            state: folder.state.clone(),
            kinds: shared.kinds.clone(),
            publish,
            stream: stream.clone(),
        };
        let publisher = Publisher::new(shared.clone(), folder.clone(), stream, source, Pool::start("stream", 1)?);
        shared.following.attached.store(true, Ordering::Relaxed);
        self.watch_over(tokio::spawn(publisher.run()));
        Ok(())
    }

    /// Tells and hears hints from now on. The first ones count.
    pub fn attach_hints(&self, hints: Arc<dyn AvailabilityHints>) {
        let _attached_before = self.shared.following.hints.set(hints);
    }

    /// Shares the quotas of the gateways with the other nodes. Once for a node.
    pub fn attach_quota(&self, quota: &Arc<dyn FleetQuota>) {
        if let Some(gateways) = self.shared.gateways.get() {
            gateways.share_quota(quota);
        }
    }

    /// Members of the cluster that are not given up, at least 1. Reads the cluster's state as applied here.
    #[must_use]
    pub fn member_count(&self) -> u32 {
        members(&self.shared)
    }
}

fn members(shared: &Shared) -> u32 {
    let count = meta::read(shared).map_or(1, |(_, state)| {
        let here = |state: NodeState| match state {
            NodeState::Up | NodeState::Draining { .. } => true,
            NodeState::Gone { .. } => false,
        };
        state.members().filter(|(_, member)| here(member.state)).count()
    });
    u32::try_from(count).unwrap_or(u32::MAX).max(1)
}

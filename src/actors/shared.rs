//! What all actors of a node share: stores, clock, gateways, the live entities and the counters over them.

use crate::actors::alerts::Alerts;
use crate::actors::clocks::Clocks;
use crate::actors::disks::Disks;
use crate::actors::entity::EntityMsg;
use crate::actors::forecast::Forecast;
use crate::actors::gate::FeatureGate;
use crate::actors::health::Due;
use crate::actors::latency::Latency;
use crate::actors::node::Node;
use crate::actors::pace::Pace;
use crate::actors::pool::Pool;
use crate::actors::publishing::Following;
use crate::actors::repeats::Repeats;
use crate::actors::routes::Routes;
use crate::actors::seats::{LeftOnDisk, Seats};
use crate::actors::shard::ShardMsg;
use crate::actors::ticks::Ticks;
use crate::gateways::Gateways;
use crate::persistence::key_store::KeyStore;
use crate::persistence::starts::StartBook;
use crate::persistence::state_store::StateStore;
use crate::persistence::vault::Vault;
use crate::replication::transport::{NoPeers, SharedTransport, Transport};
use crate::sharding::shard_of;
use crate::types::ids::{EntityKey, ShardId, Version};
use crate::types::kind::KindTable;
use crate::types::time::{BootMillis, Clock, Timestamp};
use dashmap::DashMap;
use ractor::{ActorId, ActorRef, MessagingErr};
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use tokio::sync::{Notify, watch};

/// Counters that the operator sees and the dev clock settles by.
#[derive(Default)]
pub struct Counters {
    /// Live entity actors.
    pub live: AtomicUsize,
    /// Live entities with something in flight: records, calls, unread state, uncommitted outcomes.
    pub busy: AtomicI64,
    /// Records proposed and not yet applied or void.
    pub records_in_flight: AtomicI64,
    pub records_applied: AtomicU64,
    pub records_void: AtomicU64,
    pub entity_restarts: AtomicU64,
    /// From the proposal of a record to its being applied here.
    pub commit: Latency,
    pub snapshots_sent: AtomicU64,
    pub snapshots_installed: AtomicU64,
    /// Times that a shard's claim was applied here, and that it was given up or lost.
    pub elections_won: AtomicU64,
    pub step_downs: AtomicU64,
    /// Step-downs in the leader's own term: no majority answered in time.
    pub quorum_lost: AtomicU64,
    /// Changes of groups' members that were committed, as seen by the replicas here.
    pub member_changes: AtomicU64,
    pub due: Due,
}

/// A replica on this node.
pub struct HostedReplica {
    /// Its id in its group.
    pub peer: u64,
    pub actor: ActorRef<ShardMsg>,
}

/// One per node.
pub struct Shared {
    pub kinds: KindTable,
    pub clock: Arc<dyn Clock>,
    pub clocks: Clocks,
    pub disks: Arc<Disks>,
    pub shard_count: u16,
    pub state: Arc<StateStore>,
    pub vault: Arc<Vault>,
    pub pool: Pool,
    /// One thread for what may be long, so that no request waits behind it: checkpoints, and what operators look at.
    pub background: Pool,
    pub gateways: OnceLock<Gateways>,
    /// The replicas on this node.
    pub replicas: DashMap<ShardId, HostedReplica>,
    pub routes: Routes,
    pub transport: OnceLock<SharedTransport>,
    /// The node that this is part of, once it has started.
    pub host: OnceLock<Weak<Node>>,
    /// The meta group's state was applied here, or replaced.
    pub meta_changed: Notify,
    /// The node stops in good order and wants no new clients.
    pub leaving: AtomicBool,
    /// One thread for snapshots: chunks are read, staged and dropped in the order in which they were asked for.
    pub mover: Pool,
    pub keys: Arc<KeyStore>,
    pub starts: Arc<StartBook>,
    pub live: DashMap<EntityKey, ActorRef<EntityMsg>>,
    pub watchers: Watchers,
    pub counters: Counters,
    pub(crate) forecast: Forecast,
    pub alerts: Alerts,
    pub seats: Arc<Seats>,
    /// For the calls of entities to each other.
    pub pace: Arc<Pace>,
    pub repeats: Repeats,
    pub left_on_disk: LeftOnDisk,
    pub following: Following,
    pub gate: FeatureGate,
    /// Dev mode: when each live entity's actor next looks at itself, waits that no wake row shows included.
    pub wakes: Option<DashMap<EntityKey, (ActorId, Timestamp)>>,
    /// Which shards this node leads with an applied claim.
    pub led: Vec<AtomicBool>,
    /// Since when, in milliseconds of boot time, for those it leads.
    pub led_since: Vec<AtomicU64>,
    /// For the pace of the shards' cores.
    pub(crate) ticks: Ticks,
}

impl Shared {
    #[must_use]
    pub fn shard_of(&self, key: &EntityKey) -> ShardId {
        shard_of(key, self.shard_count)
    }

    /// The actor of a shard's replica on this node; `None` when there is none.
    #[must_use]
    pub fn shard(&self, shard: ShardId) -> Option<ActorRef<ShardMsg>> {
        self.replicas.get(&shard).map(|replica| replica.actor.clone())
    }

    /// The replicas on this node, in shard order.
    #[must_use]
    pub fn replica_actors(&self) -> Vec<ActorRef<ShardMsg>> {
        let mut replicas: Vec<_> = self.replicas.iter().map(|row| (*row.key(), row.actor.clone())).collect();
        replicas.sort_by_key(|(shard, _)| *shard);
        replicas.into_iter().map(|(_, actor)| actor).collect()
    }

    /// Shard and peer id of each replica on this node, in shard order.
    #[must_use]
    pub fn hosted(&self) -> Vec<(ShardId, u64)> {
        let mut hosted: Vec<_> = self.replicas.iter().map(|row| (*row.key(), row.peer)).collect();
        hosted.sort_unstable();
        hosted
    }

    /// The node, while it runs.
    #[must_use]
    pub fn host(&self) -> Option<Arc<Node>> {
        self.host.get().and_then(Weak::upgrade)
    }

    /// The links to the other nodes.
    #[must_use]
    pub fn transport(&self) -> &dyn Transport {
        self.transport.get().map_or(&NoPeers as &dyn Transport, |transport| &**transport)
    }

    /// Hands a message to the entity's actor, which the shard activates when it is not live.
    /// Dropped only while the node stops; callers then see their reply channel closed.
    pub fn deliver(&self, key: EntityKey, message: EntityMsg) {
        let message = match self.live.get(&key) {
            Some(actor) => match actor.cast(message) {
                Ok(()) => return,
                Err(MessagingErr::SendErr(message)) => message,
                Err(MessagingErr::ChannelClosed | MessagingErr::InvalidActorType) => return,
            },
            None => message,
        };
        if let Some(shard) = self.shard(self.shard_of(&key))
            && shard.cast(ShardMsg::Deliver(key, Box::new(message))).is_err()
        {
            tracing::debug!(entity = ?key, "message for a stopped shard dropped");
        }
    }

    pub fn lead(&self, shard: ShardId, leads: bool) {
        if let Some(since) = self.led_since.get(usize::from(shard.0)) {
            since.store(self.clock.boot().0, Ordering::Release);
        }
        if let Some(flag) = self.led.get(usize::from(shard.0)) {
            flag.store(leads, Ordering::Release);
        }
        if leads {
            self.routes.say_moved(shard);
        }
    }

    #[must_use]
    pub fn leads(&self, shard: ShardId) -> bool {
        self.led.get(usize::from(shard.0)).is_some_and(|flag| flag.load(Ordering::Acquire))
    }

    /// Since when this node has led the shard; without meaning for one that it does not lead.
    #[must_use]
    pub fn led_since(&self, shard: ShardId) -> BootMillis {
        BootMillis(self.led_since.get(usize::from(shard.0)).map_or(u64::MAX, |since| since.load(Ordering::Acquire)))
    }

    pub fn fatal(&self, what: &str) -> ! {
        tracing::error!(what, "cannot go on: ending the process so that nothing more is acknowledged");
        std::process::abort()
    }
}

/// Those who wait for an entity to change, for live streams.
#[derive(Default)]
pub struct Watchers {
    channels: DashMap<EntityKey, watch::Sender<u64>>,
    count: AtomicUsize,
}

impl Watchers {
    /// A receiver of the entity's version as records are applied from now on.
    #[must_use]
    pub fn subscribe(&self, key: EntityKey) -> watch::Receiver<u64> {
        let entry = self.channels.entry(key).or_insert_with(|| {
            self.count.fetch_add(1, Ordering::Relaxed);
            watch::channel(0).0
        });
        entry.subscribe()
    }

    pub fn applied(&self, key: EntityKey, version: Version) {
        if self.count.load(Ordering::Relaxed) == 0 {
            return;
        }
        let unwatched = match self.channels.get(&key) {
            Some(sender) => {
                sender.send_replace(version.0);
                sender.receiver_count() == 0
            }
            None => false,
        };
        if unwatched && self.channels.remove_if(&key, |_, sender| sender.receiver_count() == 0).is_some() {
            self.count.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// Forgets entities that nobody watches any more.
    pub fn sweep(&self) {
        self.channels.retain(|_, sender| {
            let watched = sender.receiver_count() > 0;
            if !watched {
                self.count.fetch_sub(1, Ordering::Relaxed);
            }
            watched
        });
    }
}

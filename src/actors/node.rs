//! A node: its shards, threads and gateways, started in order and stopped in reverse.

use crate::actors::alerts::Alerts;
use crate::actors::applier::{ApplierHandle, Noting};
use crate::actors::clocks::{self, Clocks};
use crate::actors::cluster::{Introduction, follow, lead, meta, tend};
use crate::actors::disks::{self, Disks};
use crate::actors::entity::EntityMsg;
use crate::actors::forecast::Forecast;
use crate::actors::gate::FeatureGate;
use crate::actors::keeper::{Keeper, KeeperMsg};
use crate::actors::loader::Loader;
use crate::actors::opening::open_core;
use crate::actors::pace::Pace;
use crate::actors::peering::Peering;
use crate::actors::pool::Pool;
use crate::actors::publishing::Following;
use crate::actors::repeats::Repeats;
use crate::actors::routes::Routes;
use crate::actors::seats::{LeftOnDisk, Seats};
use crate::actors::shard::{ShardActor, ShardArgs, ShardMsg, ShardStatus};
use crate::actors::shared::{Counters, HostedReplica, Shared, Watchers};
use crate::actors::ticks::Ticks;
use crate::actors::{applier, gauges, sinks};
use crate::gateways::{GatewayOptions, Gateways, OptionsError};
use crate::persistence::folder::Folder;
use crate::persistence::log_writer::LogWriter;
use crate::persistence::store::StoreError;
use crate::providers::{MessageProvider, PaymentProvider, ShippingProvider};
use crate::replication::apply::Applier;
use crate::replication::core::ShardCore;
use crate::replication::transport::{Inbound, PeerAddress, SharedTransport};
use crate::sharding::meta::{MetaGroup, MetaRefusal};
use crate::types::entity::Typed;
use crate::types::ids::{META_SHARD, NodeId, ShardId};
use crate::types::kind::KindTable;
use crate::types::limits::ADMISSION_MAX;
use crate::types::takeovers::Takeovers;
use crate::types::time::Clock;
use dashmap::DashMap;
use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use ractor::ActorRef;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tokio::sync::{Notify, Semaphore, oneshot};

/// Raft's unit of time.
const TICK: Duration = Duration::from_millis(100);
/// How often the state is made durable so that the log behind it can go.
const CHECKPOINT: Duration = Duration::from_secs(5);
/// How long one actor may take to stop.
const STOP_PATIENCE: Duration = Duration::from_secs(5);
/// Threads for reads that may block.
const READ_THREADS: usize = 2;

/// What a node is made of.
pub struct NodeParts {
    pub folder: Folder,
    pub kinds: KindTable,
    pub clock: Arc<dyn Clock>,
    pub gateway_options: GatewayOptions,
    pub messages: Vec<Arc<dyn MessageProvider>>,
    pub payments: Arc<dyn PaymentProvider>,
    pub shipping: Option<Arc<dyn ShippingProvider>>,
    /// Keeps what the dev clock's walk needs to know.
    pub dev: bool,
    /// Connects the node to its peers; `None` of a node that has none.
    pub link: Option<LinkUp>,
    /// Replicas to start with, besides what the cluster's state says.
    pub replicas: Vec<ReplicaSpec>,
    /// Who the node is in its cluster. `None` leaves it to the caller to open replicas and place them.
    pub introduction: Option<Introduction>,
    /// Members to link to until the node has its own copy of the cluster's state.
    pub bootstrap: Vec<PeerAddress>,
}

/// Makes the links to other nodes, which bring what they receive to the given end.
pub type LinkUp = Box<dyn FnOnce(Arc<dyn Inbound>) -> BoxFuture<'static, Result<SharedTransport, String>> + Send>;

/// A replica of one shard on this node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReplicaSpec {
    pub shard: ShardId,
    /// Its id in the shard's group, unique over the cluster but for the meta group, where it is the node's.
    pub peer: u64,
    /// The founders of a new group; empty for a replica that joins one. Ignored once there is a log.
    pub found: Vec<u64>,
}

impl ReplicaSpec {
    /// The only replica of its shard.
    #[must_use]
    pub fn lone(shard: ShardId, peer: u64) -> Self {
        Self { shard, peer, found: vec![peer] }
    }
}

#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    #[error("the operating system refused a thread: {0}")]
    Thread(#[from] std::io::Error),
    #[error("shard {shard} does not start: {cause}")]
    Shard { shard: ShardId, cause: String },
    #[error("the keeper of the shards does not start: {cause}")]
    Keeper { cause: String },
    #[error("the links to other nodes do not start: {0}")]
    Link(String),
    #[error(transparent)]
    Gateways(#[from] OptionsError),
    #[error("the log cannot be read: {0}")]
    Store(#[from] StoreError),
    /// The cluster goes by a feature level that this build does not know.
    #[error(transparent)]
    TooOld(#[from] MetaRefusal),
}

/// A running node.
pub struct Node {
    pub(crate) shared: Arc<Shared>,
    pub(crate) folder: Arc<Folder>,
    pub(crate) admission: Arc<Semaphore>,
    keeper: ActorRef<KeeperMsg>,
    log: Arc<LogWriter>,
    applier: ApplierHandle,
    pub(crate) introduction: Introduction,
    /// The leader of the meta group looks at the placement now.
    pub(crate) look_now: Notify,
    tasks: Mutex<Vec<tokio::task::JoinHandle<()>>>,
}

impl Node {
    /// Opens the shards and starts serving their entities.
    ///
    /// # Errors
    /// [`NodeError`]; nothing was changed on disk but the incarnation.
    pub async fn start(parts: NodeParts) -> Result<Arc<Self>, NodeError> {
        let folder = Arc::new(parts.folder);
        let waiting_max = usize::try_from(parts.gateway_options.waiting_max).unwrap_or(usize::MAX);
        let seats = Seats::new(waiting_max, |lane| parts.gateway_options.queue_bound(lane));
        let member = parts.introduction.is_some();
        let introduction = parts.introduction.unwrap_or_else(|| Introduction::alone(""));
        let gate = FeatureGate::new(introduction.levels);
        let shared = share(&folder, parts.kinds.clone(), parts.clock.clone(), (seats, gate), parts.dev)?;
        if let Some((_, state)) = meta::read(&shared) {
            // Before anything is read that only a newer build understands, and before the own clock counts alone.
            shared.gate.follow(state.feature_level())?;
            shared.clocks.follow(&state);
        }
        let gateways = Gateways::start(
            &parts.gateway_options,
            parts.messages,
            parts.payments,
            parts.shipping,
            parts.clock.clone(),
            sinks::reports(&shared),
            sinks::hints(&shared),
        )?;
        if shared.gateways.set(gateways).is_err() {
            shared.fatal("gateways were started twice");
        }
        let applier = Applier::new(shared.kinds.clone(), folder.state.clone(), folder.keys.clone());
        let applier = applier.reading_up_to(shared.gate.newest_format());
        let applier = applier::start(applier, Noting { file: folder.takeovers.clone(), clock: shared.clock.clone() })?;
        let log = start_log(&shared, &folder)?;
        let keeper = keep().await?;
        if let Some(link) = parts.link {
            let transport = link(Peering::new(&shared)).await.map_err(NodeError::Link)?;
            if shared.transport.set(transport).is_err() {
                shared.fatal("links were started twice");
            }
        }
        let loader = Arc::new(Loader::start(shared.clone())?);
        let tasks = vec![
            tokio::spawn(gauges::run(shared.clone())),
            tokio::spawn(tick(shared.clone())),
            tokio::spawn(checkpoint(shared.clone(), folder.clone())),
            tokio::spawn(follow_clock(shared.clone(), loader.clone())),
        ];
        let admission = Arc::new(Semaphore::new(ADMISSION_MAX));
        let (look_now, tasks) = (Notify::new(), Mutex::new(tasks));
        let node = Arc::new(Self { shared, folder, admission, keeper, log, applier, introduction, look_now, tasks });
        let _first = node.shared.host.set(Arc::downgrade(&node));
        for spec in parts.replicas {
            node.open_replica(spec).await?;
        }
        if member {
            if meta::read(&node.shared).is_none() {
                node.shared.transport().set_peers(parts.bootstrap);
            }
            node.join_in().await?;
        }
        Ok(node)
    }

    /// Opens the node's replica of the meta group and does from then on what its state says.
    async fn join_in(self: &Arc<Self>) -> Result<(), NodeError> {
        let peer = self.folder.node.0;
        let found = if self.is_founder() { vec![peer] } else { Vec::new() };
        self.open_replica(ReplicaSpec { shard: META_SHARD, peer, found }).await?;
        self.tasks.lock().extend([
            tokio::spawn(clocks::run(self.clone())),
            tokio::spawn(disks::run(self.clone())),
            tokio::spawn(follow::run(self.clone())),
            tokio::spawn(tend::run(self.clone())),
            tokio::spawn(lead::run(self.clone())),
        ]);
        Ok(())
    }

    /// Aborts the task when the node stops.
    pub(crate) fn watch_over(&self, task: tokio::task::JoinHandle<()>) {
        self.tasks.lock().push(task);
    }

    /// The cluster was made with this folder. A folder that joined has a higher number.
    #[must_use]
    pub fn is_founder(&self) -> bool {
        self.folder.node == NodeId(1)
    }

    /// Shards that this node leads, the meta group among them.
    pub(crate) fn led_shards(&self) -> Vec<ShardId> {
        (0..self.shared.shard_count)
            .map(ShardId)
            .chain([META_SHARD])
            .filter(|shard| self.shared.leads(*shard))
            .collect()
    }

    /// Hands a message to the replica of a shard; without one it is lost, and looked after again later.
    pub(crate) fn cast(&self, shard: ShardId, message: ShardMsg) {
        if let Some(actor) = self.shared.shard(shard) {
            let _ended = actor.cast(message);
        }
    }

    pub(crate) async fn status_of(&self, shard: ShardId) -> Option<ShardStatus> {
        let (reply, status) = oneshot::channel();
        self.shared.shard(shard)?.cast(ShardMsg::Status(reply)).ok()?;
        status.await.ok()
    }

    /// All replicas of this node, in shard order.
    pub(crate) async fn statuses(&self) -> Vec<ShardStatus> {
        let shards = self.shared.hosted().into_iter().map(|(shard, _)| shard);
        let asked = futures_util::future::join_all(shards.map(|shard| self.status_of(shard))).await;
        asked.into_iter().flatten().collect()
    }

    /// Finds out what the log's disk takes although nothing is written.
    pub(crate) fn probe_log(&self) {
        self.log.probe();
    }

    /// Starts a replica. A lone voter leads at once, others when their group elects them.
    ///
    /// # Errors
    /// [`NodeError::Shard`]: its log and state do not fit.
    pub async fn open_replica(&self, spec: ReplicaSpec) -> Result<(), NodeError> {
        let shard = spec.shard;
        let (core, takeovers) = self.open_core(&spec).await?;
        let lone = core.status().members.voters == [spec.peer];
        let args = ShardArgs {
            id: shard,
            peer: spec.peer,
            core,
            takeovers: Arc::new(takeovers),
            shared: self.shared.clone(),
            log: self.log.clone(),
            applier: self.applier.clone(),
        };
        let (actor, _running) = ractor::Actor::spawn_linked(None, ShardActor, args, self.keeper.get_cell())
            .await
            .map_err(|error| NodeError::Shard { shard, cause: error.to_string() })?;
        self.shared.replicas.insert(shard, HostedReplica { peer: spec.peer, actor: actor.clone() });
        if lone {
            let _ended = actor.cast(ShardMsg::Campaign);
        }
        Ok(())
    }

    /// Stops a replica; its rows stay.
    pub async fn close_replica(&self, shard: ShardId) {
        if let Some((_, HostedReplica { actor, .. })) = self.shared.replicas.remove(&shard) {
            actor.stop(None);
            let _without_limit = actor.wait(None).await;
            self.shared.lead(shard, false);
            self.shared.routes.set_leader(shard, None);
        }
    }

    /// Stops a replica and forgets its rows, its log and its keys. What it had handed to the log and to the applier is done
    /// first: it must not be found by the next replica of the shard as its own.
    ///
    /// # Errors
    /// [`StoreError`]; the process must end, the next one goes on.
    pub(crate) async fn leave_replica(&self, shard: ShardId) -> Result<(), StoreError> {
        self.close_replica(shard).await;
        let (applier, log, folder) = (self.applier.clone(), self.log.clone(), self.folder.clone());
        let leave = move || {
            let ended = applier.forget(shard) && log.settle(shard);
            if ended { folder.leave(shard) } else { Ok(()) }
        };
        // Without an answer the node stops.
        self.shared.mover.ask(leave).await.unwrap_or(Ok(()))
    }

    /// Finishes an installation that a crash cut off, then makes the core of what the disk holds.
    async fn open_core(&self, spec: &ReplicaSpec) -> Result<(ShardCore, Takeovers), NodeError> {
        let (folder, spec, clock) = (self.folder.clone(), spec.clone(), self.shared.clock.clone());
        let shard = spec.shard;
        let opened = self.shared.pool.ask(move || open_core(&folder, &spec, &*clock)).await;
        opened.ok_or_else(|| NodeError::Shard { shard, cause: "the node stops".to_owned() })?
    }

    /// Every shard can be served: led here with its claim applied, led elsewhere, or held by others alone.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        let (routes, me) = (&self.shared.routes, self.shared.routes.me());
        let leaving = self.shared.leaving.load(Ordering::Relaxed);
        let answered = |shard| {
            self.shared.leads(shard)
                || routes.leader(shard).is_some_and(|leader| leader != me)
                || (self.shared.shard(shard).is_none() && !routes.replicas(shard).is_empty())
        };
        !leaving && (0..self.shared.shard_count).map(ShardId).all(answered)
    }

    /// Stops taking work, lets calls finish and makes everything durable.
    pub async fn stop(&self) {
        if let Some(gateways) = self.shared.gateways.get() {
            gateways.close().await;
        }
        for task in self.tasks.lock().drain(..) {
            task.abort();
        }
        for shard in self.shared.replica_actors() {
            let _ended = shard.stop_and_wait(None, Some(STOP_PATIENCE)).await;
        }
        self.shared.transport().stop().await;
        // It is handed what a shard leaves behind, the way to the log among it.
        let _ended = self.keeper.stop_and_wait(None, Some(STOP_PATIENCE)).await;
        let (state, keys) = (self.folder.state.clone(), self.folder.keys.clone());
        let synced = self.shared.pool.ask(move || keys.sync().and_then(|()| state.sync())).await;
        if !matches!(synced, Some(Ok(_))) {
            tracing::warn!("state not flushed at stop; it is rebuilt from the log");
        }
    }
}

async fn keep() -> Result<ActorRef<KeeperMsg>, NodeError> {
    match ractor::Actor::spawn(None, Keeper, ()).await {
        Ok((keeper, _running)) => Ok(keeper),
        Err(error) => Err(NodeError::Keeper { cause: error.to_string() }),
    }
}

fn start_log(shared: &Arc<Shared>, folder: &Folder) -> Result<Arc<LogWriter>, NodeError> {
    let weak = Arc::downgrade(shared);
    let persisted = Box::new(move |numbers: Vec<(ShardId, u64)>| {
        let Some(shared) = weak.upgrade() else { return };
        for (shard, number) in numbers {
            if let Some(actor) = shared.shard(shard) {
                let _ended = actor.cast(ShardMsg::Persisted(number));
            }
        }
    });
    let watch = Box::new(shared.disks.clone());
    Ok(Arc::new(LogWriter::start_watched(folder.log.clone(), folder.watermark().clone(), persisted, watch)))
}

fn share(
    folder: &Folder,
    kinds: KindTable,
    clock: Arc<dyn Clock>,
    (seats, gate): (Arc<Seats>, FeatureGate),
    dev: bool,
) -> Result<Arc<Shared>, NodeError> {
    Ok(Arc::new(Shared {
        kinds: kinds.with(Arc::new(Typed::<MetaGroup>::default())),
        disks: Disks::new(clock.clone()),
        pace: Pace::new(clock.clone()),
        clock,
        clocks: Clocks::new(folder.node),
        shard_count: folder.shards,
        state: folder.state.clone(),
        vault: folder.vault.clone(),
        keys: folder.keys.clone(),
        starts: folder.starts.clone(),
        pool: Pool::start("read", READ_THREADS)?,
        background: Pool::start("background", 1)?,
        mover: Pool::start("mover", 1)?,
        gateways: OnceLock::new(),
        replicas: DashMap::new(),
        routes: Routes::new(folder.node),
        transport: OnceLock::new(),
        host: OnceLock::new(),
        meta_changed: Notify::new(),
        leaving: AtomicBool::new(false),
        live: DashMap::new(),
        watchers: Watchers::default(),
        counters: Counters::default(),
        forecast: Forecast::default(),
        alerts: Alerts::default(),
        seats,
        repeats: Repeats::default(),
        left_on_disk: LeftOnDisk::default(),
        following: Following::new(folder.shards),
        gate,
        wakes: dev.then(DashMap::new),
        led: (0..=META_SHARD.0).map(|_| AtomicBool::new(false)).collect(),
        led_since: (0..=META_SHARD.0).map(|_| AtomicU64::new(0)).collect(),
        ticks: Ticks::default(),
    }))
}

async fn tick(shared: Arc<Shared>) {
    let mut interval = tokio::time::interval(TICK);
    interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        interval.tick().await;
        let passed = shared.ticks.pass();
        for replica in shared.replicas.iter().filter(|replica| shared.ticks.is_due(*replica.key())) {
            let _ended = replica.actor.cast(ShardMsg::Tick(passed));
        }
    }
}

/// Makes the state durable now and then, so that the log behind it can be purged and a restart replays little.
async fn checkpoint(shared: Arc<Shared>, folder: Arc<Folder>) {
    let mut interval = tokio::time::interval(CHECKPOINT);
    interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        interval.tick().await;
        let (state, keys) = (folder.state.clone(), folder.keys.clone());
        let synced = shared.background.ask(move || keys.sync().and_then(|()| state.checkpoint()));
        match synced.await {
            Some(Ok(durable)) => {
                for (shard, applied) in durable {
                    if let Some(actor) = shared.shard(shard) {
                        let _ended = actor.cast(ShardMsg::Durable(applied.index));
                    }
                }
            }
            Some(Err(error)) => shared.fatal(&error.to_string()),
            None => return,
        }
        shared.watchers.sweep();
    }
}

/// Wakes every sleeper when the dev clock was moved.
async fn follow_clock(shared: Arc<Shared>, loader: Arc<Loader>) {
    let mut moved = shared.clock.moved();
    while moved.changed().await.is_ok() {
        loader.kick();
        for entity in &shared.live {
            let _ended = entity.value().cast(EntityMsg::Wake);
        }
    }
}

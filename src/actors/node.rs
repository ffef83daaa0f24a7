//! A node: its shards, threads and gateways, started in order and stopped in reverse.

use crate::actors::entity::EntityMsg;
use crate::actors::keeper::{Keeper, KeeperMsg};
use crate::actors::loader::Loader;
use crate::actors::pool::Pool;
use crate::actors::seats::{LeftOnDisk, Seats};
use crate::actors::shard::{ShardActor, ShardArgs, ShardMsg};
use crate::actors::shared::{Counters, Shared, Watchers};
use crate::actors::{applier, gauges};
use crate::gateways::{Busy, GatewayOptions, Gateways, HintSink, OptionsError, ReportSink};
use crate::persistence::folder::Folder;
use crate::persistence::log_writer::LogWriter;
use crate::providers::{MessageProvider, PaymentProvider};
use crate::replication::apply::Applier;
use crate::replication::core::{CoreOptions, ShardCore};
use crate::types::call::{Report, ReportStatus};
use crate::types::ids::ShardId;
use crate::types::kind::KindTable;
use crate::types::limits::ADMISSION_MAX;
use crate::types::time::Clock;
use dashmap::DashMap;
use ractor::ActorRef;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tokio::sync::Semaphore;

/// Raft's unit of time.
const TICK: Duration = Duration::from_millis(100);
/// How often the state is made durable so that the log behind it can go.
const CHECKPOINT: Duration = Duration::from_secs(5);
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
    /// Keeps what the dev clock's walk needs to know.
    pub dev: bool,
}

#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    #[error("the operating system refused a thread: {0}")]
    Thread(#[from] std::io::Error),
    #[error("shard {shard} does not start: {cause}")]
    Shard { shard: ShardId, cause: String },
    #[error("the keeper of the shards does not start: {cause}")]
    Keeper { cause: String },
    #[error(transparent)]
    Gateways(#[from] OptionsError),
    #[error("the log cannot be read: {0}")]
    Store(#[from] crate::persistence::store::StoreError),
}

/// A running node.
pub struct Node {
    pub(crate) shared: Arc<Shared>,
    pub(crate) folder: Arc<Folder>,
    pub(crate) admission: Arc<Semaphore>,
    keeper: ActorRef<KeeperMsg>,
    tasks: Vec<tokio::task::JoinHandle<()>>,
}

impl Node {
    /// Opens the shards and starts serving their entities.
    ///
    /// # Errors
    /// [`NodeError`]; nothing was changed on disk but the incarnation.
    pub async fn start(parts: NodeParts) -> Result<Arc<Self>, NodeError> {
        let folder = Arc::new(parts.folder);
        let shared = Arc::new(Shared {
            kinds: parts.kinds.clone(),
            clock: parts.clock.clone(),
            shard_count: folder.shards,
            state: folder.state.clone(),
            vault: folder.vault.clone(),
            pool: Pool::start("read", READ_THREADS)?,
            gateways: OnceLock::new(),
            shards: OnceLock::new(),
            live: DashMap::new(),
            watchers: Watchers::default(),
            counters: Counters::default(),
            seats: Seats::new(usize::try_from(parts.gateway_options.waiting_max).unwrap_or(usize::MAX)),
            left_on_disk: LeftOnDisk::default(),
            wakes: parts.dev.then(DashMap::new),
            led: (0..folder.shards).map(|_| AtomicBool::new(false)).collect(),
            led_since: (0..folder.shards).map(|_| AtomicU64::new(0)).collect(),
        });
        let gateways = Gateways::start(
            &parts.gateway_options,
            parts.messages,
            parts.payments,
            parts.clock.clone(),
            report_sink(&shared),
            hint_sink(&shared),
        )?;
        if shared.gateways.set(gateways).is_err() {
            shared.fatal("gateways were started twice");
        }
        let applier = applier::start(Applier::new(parts.kinds, folder.state.clone(), folder.keys.clone()))?;
        let log = start_log(&shared, &folder)?;
        let keeper = keep().await?;
        let mut shards = Vec::new();
        for number in 0..folder.shards {
            let id = ShardId(number);
            let core = open_core(&folder, id)?;
            let args = ShardArgs { id, core, shared: shared.clone(), log: log.clone(), applier: applier.clone() };
            let (actor, _running) = ractor::Actor::spawn_linked(None, ShardActor, args, keeper.get_cell())
                .await
                .map_err(|error| NodeError::Shard { shard: id, cause: error.to_string() })?;
            shards.push(actor);
        }
        if shared.shards.set(shards.clone()).is_err() {
            shared.fatal("shards were started twice");
        }
        let loader = Arc::new(Loader::start(shared.clone())?);
        for shard in &shards {
            let _ended = shard.cast(ShardMsg::Campaign);
        }
        let tasks = vec![
            tokio::spawn(gauges::run(shared.clone())),
            tokio::spawn(tick(shards.clone())),
            tokio::spawn(checkpoint(shared.clone(), folder.clone(), shards)),
            tokio::spawn(follow_clock(shared.clone(), loader.clone())),
        ];
        let admission = Arc::new(Semaphore::new(ADMISSION_MAX));
        Ok(Arc::new(Self { shared, folder, admission, keeper, tasks }))
    }

    /// Every shard is led and its claim applied.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        (0..self.shared.shard_count).all(|shard| self.shared.leads(ShardId(shard)))
    }

    /// Stops taking work, lets calls finish and makes everything durable.
    pub async fn stop(&self) {
        if let Some(gateways) = self.shared.gateways.get() {
            gateways.close().await;
        }
        for task in &self.tasks {
            task.abort();
        }
        if let Some(shards) = self.shared.shards.get() {
            for shard in shards {
                let _ended = shard.stop_and_wait(None, Some(Duration::from_secs(5))).await;
            }
        }
        // It is handed what a shard leaves behind, the way to the log among it.
        let _ended = self.keeper.stop_and_wait(None, Some(Duration::from_secs(5))).await;
        let (state, keys) = (self.folder.state.clone(), self.folder.keys.clone());
        let synced = self.shared.pool.ask(move || keys.sync().and_then(|()| state.sync())).await;
        if !matches!(synced, Some(Ok(_))) {
            tracing::warn!("state not flushed at stop; it is rebuilt from the log");
        }
    }
}

/// Reports waiting for their entities, beyond which providers are told to come again.
const BUSY_ENTITIES_MAX: i64 = 50_000;

fn report_sink(shared: &Arc<Shared>) -> ReportSink {
    let shared = Arc::downgrade(shared);
    Arc::new(move |report: Report| {
        let Some(shared) = shared.upgrade() else { return Err(Busy) };
        if shared.counters.busy.load(Ordering::Relaxed) > BUSY_ENTITIES_MAX {
            return Err(Busy);
        }
        let name = report.reference.split('.').next().unwrap_or_default();
        match shared.kinds.parse(name) {
            Some(key) => shared.deliver(key, EntityMsg::Report(report)),
            None => tracing::debug!(reference = %report.reference, "report for a reference that is not ours"),
        }
        Ok(())
    })
}

/// A payment webhook is only a hint: the entity hears of it as a report under the order id alone, and looks it up.
fn hint_sink(shared: &Arc<Shared>) -> HintSink {
    let shared = Arc::downgrade(shared);
    Arc::new(move |order_id: String| {
        let Some(shared) = shared.upgrade() else { return };
        let at = shared.clock.now();
        if let Some(key) = shared.kinds.parse(&order_id) {
            let status = ReportStatus::Delivered;
            let report = Report { reference: order_id, provider: "payment".to_owned(), status, at };
            shared.deliver(key, EntityMsg::Report(report));
        }
    })
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
    Ok(Arc::new(LogWriter::start(folder.log.clone(), folder.watermark().clone(), persisted)))
}

fn open_core(folder: &Folder, shard: ShardId) -> Result<ShardCore, NodeError> {
    let failed = |cause: String| NodeError::Shard { shard, cause };
    let loaded = folder.log.load(shard)?;
    let applied = folder.state.applied(shard)?.index;
    let mut options = CoreOptions::new(shard, folder.node.0, folder.node, folder.incarnation);
    options.found = vec![folder.node.0];
    ShardCore::new(options, loaded, applied, folder.log.reader(shard)).map_err(|error| failed(error.to_string()))
}

async fn tick(shards: Vec<ActorRef<ShardMsg>>) {
    let mut interval = tokio::time::interval(TICK);
    interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        interval.tick().await;
        for shard in &shards {
            let _ended = shard.cast(ShardMsg::Tick);
        }
    }
}

/// Makes the state durable now and then, so that the log behind it can be purged and a restart replays little.
async fn checkpoint(shared: Arc<Shared>, folder: Arc<Folder>, shards: Vec<ActorRef<ShardMsg>>) {
    let mut interval = tokio::time::interval(CHECKPOINT);
    interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        interval.tick().await;
        let (state, keys) = (folder.state.clone(), folder.keys.clone());
        let synced = shared.pool.ask(move || {
            keys.sync()?;
            state.checkpoint()
        });
        match synced.await {
            Some(Ok(durable)) => {
                for (shard, applied) in durable {
                    if let Some(actor) = shards.get(usize::from(shard.0)) {
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

//! The composition root: a node made from a data folder, a clock, keys and providers. Nothing below it reads the real
//! world by itself.

mod address;
pub mod admin;
pub mod audit;
mod batches;
mod bell;
pub mod certs;
pub mod clock;
pub mod cluster;
pub mod demo;
pub mod detour;
pub mod dev;
pub mod dev_cluster;
#[cfg(any(test, feature = "faults"))]
pub mod faults;
pub mod folder;
pub mod keys;
pub mod links;
pub mod log;
pub mod metrics;
pub mod rezone;
pub mod sandbox;
pub mod serve;
pub mod streaming;
pub mod vault;

use crate::actors::cluster::Introduction;
use crate::actors::node::{Node, NodeError, NodeParts};
use crate::actors::service::NodeDoor;
use crate::api::auth::TokenKey;
use crate::app::links::{LinkPlan, bootstrap_peers};
use crate::config::{Config, read_key};
use crate::domain::kinds::kinds;
use crate::gateways::GatewayOptions;
use crate::persistence::backup::BackupError;
use crate::persistence::cluster_backup::ClusterBackupError;
use crate::persistence::folder::{Folder, OpenError, OpenOptions};
use crate::persistence::store::StoreError;
use crate::providers::settings::{self, FillRandom, ProvidersConfig, SettingsError};
use crate::replication::restoring::RestoreError;
use crate::sharding::meta::MetaGroup;
use crate::types::entity::Typed;
use crate::types::kind::KindTable;
use crate::types::time::Clock;
use futures_util::future::BoxFuture;
use std::path::Path;
use std::sync::Arc;

/// Why a node does not come up. Nothing was changed but what the message says.
#[derive(Debug, thiserror::Error)]
pub enum AppError {
    #[error(transparent)]
    Folder(#[from] OpenError),
    #[error(transparent)]
    Backup(#[from] BackupError),
    #[error(transparent)]
    ClusterBackup(#[from] ClusterBackupError),
    #[error(transparent)]
    Restore(#[from] RestoreError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Audit(#[from] crate::audit::AuditError),
    #[error(transparent)]
    Providers(#[from] SettingsError),
    #[error(transparent)]
    Node(#[from] NodeError),
    #[error(transparent)]
    Key(#[from] keys::KeyError),
    #[error(transparent)]
    Config(#[from] crate::config::ConfigError),
    #[error("{what} {address} is taken by another process: {hint}")]
    PortTaken { what: &'static str, address: String, hint: String },
    #[error("{what}: {cause}")]
    Io { what: String, cause: std::io::Error },
    #[error("the sandbox did not come up: {0}")]
    Sandbox(String),
    #[error("{0}")]
    Cluster(String),
    #[error("metrics: {0}")]
    Metrics(String),
    #[error("{0}")]
    Demo(String),
    #[error("{0}")]
    Usage(String),
}

impl AppError {
    pub(crate) fn io(what: impl Into<String>) -> impl FnOnce(std::io::Error) -> Self {
        let what = what.into();
        move |cause| Self::Io { what, cause }
    }
}

/// What a node is started from.
pub struct World<'a> {
    pub data: &'a Path,
    pub shards: u16,
    pub cache_log_bytes: u64,
    pub cache_state_bytes: u64,
    pub create: bool,
    /// Size of the ballast file; 0 for none.
    pub ballast_bytes: u64,
    pub master_key: [u8; 32],
    pub clock: Arc<dyn Clock>,
    pub providers: &'a ProvidersConfig,
    pub gateways: GatewayOptions,
    /// Comes to its end when what the node calls is there. It is waited for while the folder is opened.
    pub outside: BoxFuture<'a, Result<(), AppError>>,
    /// The clock may be moved by hand.
    pub dev: bool,
    /// Who the node is in its cluster, and how it reaches the others, if there may be any.
    pub introduction: Introduction,
    pub links: Option<LinkPlan>,
    /// Disk faults to order.
    #[cfg(feature = "faults")]
    pub disk_faults: Option<Arc<dyn crate::persistence::faulty_store::DiskFaults>>,
}

/// Opens the folder and starts the node.
///
/// # Errors
/// [`AppError`], with the way out where there is one.
pub async fn start_node(world: World<'_>) -> Result<Arc<Node>, AppError> {
    let options = OpenOptions {
        shards: world.shards,
        cache_log_bytes: world.cache_log_bytes,
        cache_state_bytes: world.cache_state_bytes,
        create: world.create,
        ballast_bytes: world.ballast_bytes,
        master_key: Some(world.master_key),
        #[cfg(feature = "faults")]
        disk_faults: world.disk_faults,
        ..OpenOptions::default()
    };
    let data = world.data.to_owned();
    let opening = tokio::task::spawn_blocking(move || Folder::open(&data, options));
    world.outside.await?;
    let folder = opening.await.map_err(|error| AppError::Sandbox(error.to_string()))??;
    let random: FillRandom = Arc::new(system_random);
    let messages = settings::build_message_providers(world.providers, &world.clock, &random)?;
    let payments = settings::build_payment_provider(world.providers, &world.clock)?;
    let shipping = settings::build_shipping_provider(world.providers, &world.clock)?;
    let parts = NodeParts {
        bootstrap: bootstrap_peers(world.data),
        link: world.links.map(|plan| plan.link_up(&folder, world.clock.clone())),
        folder,
        introduction: Some(world.introduction),
        replicas: Vec::new(),
        kinds: kinds(),
        clock: world.clock,
        gateway_options: world.gateways,
        messages,
        payments,
        shipping,
        dev: world.dev,
    };
    let node = Node::start(parts).await?;
    batches::keep(&node);
    Ok(node)
}

/// Resolves send instants again in the background when the time-zone data changed.
pub(crate) fn start_rezone(door: Arc<NodeDoor>, data: &Path) {
    let data = data.to_owned();
    tokio::spawn(async move {
        if let Err(error) = rezone::run(door.as_ref(), &data).await {
            tracing::error!(%error, "send instants not all resolved again; the next start goes on");
        }
    });
}

/// Every kind that a data folder may hold: the business's and the runtime's own.
#[must_use]
pub fn all_kinds() -> KindTable {
    kinds().with(Arc::new(Typed::<MetaGroup>::default()))
}

/// The key over the period keys, from where the configuration says.
pub(crate) fn read_master_key(config: &Config) -> Result<[u8; 32], AppError> {
    Ok(read_key("vault.master_key", &config.vault.master_key)?)
}

/// The key that signs tokens.
#[must_use]
pub fn token_key(key: &[u8; 32]) -> TokenKey {
    TokenKey::new(key).expect("32 bytes are enough for HS256")
}

/// Fills from the operating system's CSPRNG.
pub fn system_random(bytes: &mut [u8]) {
    getrandom::fill(bytes).expect("the operating system's random source answers");
}

/// An `Idempotency-Key` of one request.
pub fn fresh_key() -> String {
    let mut bytes = [0u8; 16];
    system_random(&mut bytes);
    hex::encode(bytes)
}

/// Makes ring the process's TLS provider; every TLS client uses it.
pub fn install_crypto() {
    // A second call finds it installed.
    let _installed = rustls::crypto::ring::default_provider().install_default();
}

//! `bojagi serve`: the same node for production, from a configuration file. No dev clock, no sandbox.

use crate::actors::service::NodeDoor;
use crate::api;
use crate::app::clock::SystemClock;
use crate::app::dev::{bind, wait_for_signal};
use crate::app::{AppError, World, log, start_node};
use crate::cli::ServeArgs;
use crate::config::{Config, read_key, read_secret};
use std::sync::Arc;
use std::time::Duration;

/// Runs until it is told to stop.
///
/// # Errors
/// [`AppError`]: configuration, port, data folder or provider settings.
pub async fn run(args: ServeArgs) -> Result<(), AppError> {
    let mut config = Config::load(&args.config)?;
    log::init(if config.log.json { log::Format::Json } else { log::Format::Text });
    let jwt_key = read_key("auth.jwt_key", &config.auth.jwt_key)?;
    let master_key = read_key("vault.master_key", &config.vault.master_key)?;
    config.providers.resolve(&read_secret)?;
    let listener = bind("API address", config.node.listen, "node.listen").await?;
    let node = start_node(World {
        data: &config.node.data,
        shards: config.node.shards,
        cache_log_bytes: config.node.cache_log_mib << 20,
        cache_state_bytes: config.node.cache_state_mib << 20,
        create: config.node.create,
        master_key,
        clock: SystemClock::new(),
        providers: &config.providers,
        gateways: config.gateways.clone(),
        public_url: config.node.public_url.trim_end_matches('/').to_owned(),
    })
    .await?;
    let door = Arc::new(NodeDoor::new(node.clone(), None));
    let (stop, stopped) = tokio::sync::watch::channel(false);
    let options = api::ApiOptions {
        jwt_key: jwt_key.to_vec(),
        connections_max: config.limits.connections_max,
        caller_rate: config.limits.caller_rate,
        caller_burst: config.limits.caller_burst,
        ..api::ApiOptions::default()
    };
    let mut server = tokio::spawn(api::serve(listener, options, door, stopped));
    tracing::info!(listen = %config.node.listen, "serving");
    wait_for_signal().await;
    tracing::info!("stopping");
    stop.send_replace(true);
    if tokio::time::timeout(Duration::from_secs(15), &mut server).await.is_err() {
        server.abort();
    }
    node.stop().await;
    Ok(())
}

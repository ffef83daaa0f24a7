//! `bojagi serve`: the same node for production, from a configuration file. No dev clock, no sandbox.

use crate::actors::cluster::Introduction;
use crate::actors::cluster::leave::hand_over;
use crate::actors::service::NodeDoor;
use crate::api::{self, BucketRate};
use crate::app::address::{Reserved, listen_when_usable};
use crate::app::clock::SystemClock;
use crate::app::dev::wait_for_signal;
use crate::app::links::Member;
use crate::app::streaming::Streaming;
use crate::app::{AppError, World, log, metrics, read_master_key, start_node, start_rezone, token_key};
use crate::cli::ServeArgs;
use crate::config::{Config, read_key, read_secret};
use crate::domain::policy::RefundWindows;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// Runs until it is told to stop.
///
/// # Errors
/// [`AppError`]: configuration, port, data folder or provider settings.
pub async fn run(args: ServeArgs) -> Result<(), AppError> {
    let mut config = Config::load(&args.config)?;
    log::init(if config.log.json { log::Format::Json } else { log::Format::Text }, log::USUAL);
    let jwt_key = read_key("auth.jwt_key", &config.auth.jwt_key)?;
    let master_key = read_master_key(&config)?;
    let member = config.cluster.as_ref().map(|cluster| Member::new(cluster, config.node.listen)).transpose()?;
    let (introduction, links) = match member {
        Some(member) => (member.introduction, Some(member.plan)),
        None => (Introduction::alone(config.node.public_url.clone()), None),
    };
    config.providers.resolve(&read_secret)?;
    let streaming = config.redis.as_ref().map(Streaming::configured).transpose()?;
    let reserved = Reserved::new("API address", config.node.listen, "node.listen")?;
    // First of all: who looks a metric up before has it for nothing.
    let scraped = metrics::install()?;
    let node = start_node(World {
        data: &config.node.data,
        shards: config.node.shards,
        cache_log_bytes: config.node.cache.log_bytes,
        cache_state_bytes: config.node.cache.state_bytes,
        create: config.node.create,
        ballast_bytes: config.node.ballast_bytes,
        master_key,
        clock: SystemClock::new(),
        outside: Box::pin(std::future::ready(Ok(()))),
        providers: &config.providers,
        gateways: config.gateways.clone(),
        dev: false,
        introduction,
        links,
        #[cfg(feature = "faults")]
        disk_faults: None,
    })
    .await?;
    if let Some(streaming) = streaming {
        streaming.attach(&node)?;
    }
    let door = Arc::new(NodeDoor::new(node.clone(), None));
    let rezone_door = door.clone();
    let stop = CancellationToken::new();
    let mut options = front_door(&config, &jwt_key);
    options.metrics = Some(scraped);
    let listener = listen_when_usable(reserved, &node).await?;
    let mut server = tokio::spawn(api::serve(vec![listener], options, door, stop.clone()));
    start_rezone(rezone_door, &config.node.data);
    // A node of several may come up long before the others; `/readyz` says so.
    while config.cluster.is_none() && !node.is_ready() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    println!("Bojagi serves.");
    tracing::info!(listen = %config.node.listen, "serving");
    wait_for_signal().await;
    tracing::info!("stopping");
    hand_over(&node).await;
    stop.cancel();
    if tokio::time::timeout(Duration::from_secs(15), &mut server).await.is_err() {
        server.abort();
    }
    node.stop().await;
    Ok(())
}

/// The front door as configured.
fn front_door(config: &Config, jwt_key: &[u8; 32]) -> api::ApiOptions {
    let mut options = api::ApiOptions::new(token_key(jwt_key), config.node.public_url.clone());
    let limits = &config.limits;
    options.limits.connections_max = limits.connections_max;
    options.limits.requests_max = limits.requests_max;
    options.limits.streams_max = limits.streams_max;
    options.limits.header = Duration::from_secs(limits.header_s);
    options.limits.park = options.limits.park.min(options.limits.header / 2);
    options.limits.body = Duration::from_secs(limits.body_s);
    options.limits.idle = Duration::from_secs(limits.idle_s);
    options.limits.request = Duration::from_secs(limits.request_s);
    options.caller_rate = BucketRate { per_sec: limits.caller_per_s, burst: limits.caller_burst };
    options.refund_windows = RefundWindows { card_days: config.payments.card_refund_days };
    options
}

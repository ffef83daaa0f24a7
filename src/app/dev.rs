//! `bojagi dev`: one node, the provider sandbox as a process of its own, and ready-made tokens.

use crate::actors::cluster::Introduction;
use crate::actors::cluster::leave::hand_over;
use crate::actors::link::{Label, Security};
use crate::actors::service::NodeDoor;
use crate::actors::settle::{Outside, Settler};
use crate::api;
use crate::api::auth::{Role, TokenKey};
use crate::app::address::{Reserved, bind, listen_when_usable};
use crate::app::clock::DevClock;
use crate::app::detour::Detour;
use crate::app::links::LinkPlan;
use crate::app::streaming::Streaming;
use crate::app::{AppError, World, dev_cluster, keys, log, metrics, start_node, start_rezone, token_key};
use crate::cli::DevArgs;
use crate::gateways::GatewayOptions;
use crate::providers::settings::ProvidersConfig;
use crate::types::level::LEVELS;
use crate::types::time::Timestamp;
use futures_util::future::BoxFuture;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;
use tokio::process::{Child, Command};
use tokio_util::sync::CancellationToken;

/// Life of the printed tokens in seconds: 30 days.
const TOKEN_SECONDS: u64 = 30 * 86_400;
const SANDBOX_START_MAX: Duration = Duration::from_secs(10);

/// A running dev node.
pub struct Dev {
    pub api: SocketAddr,
    pub sandbox: SocketAddr,
    token_key: TokenKey,
    node: Arc<crate::actors::node::Node>,
    server: tokio::task::JoinHandle<Result<(), api::ServeError>>,
    stop: CancellationToken,
    sandbox_process: Option<Child>,
}

/// Runs until interrupted.
///
/// # Errors
/// [`AppError`]: a port is taken, the data folder is in use, damaged or foreign.
pub async fn run(args: DevArgs) -> Result<(), AppError> {
    if args.nodes > 1 && args.member.is_none() {
        return dev_cluster::run(args).await;
    }
    log::init(log::Format::Text, log::USUAL);
    let dev = start(&args).await?;
    if args.member.is_some() {
        wait_for_signal().await;
        dev.stop().await;
        return Ok(());
    }
    print_welcome(&dev);
    wait_for_signal().await;
    println!("\nstopping ...");
    dev.stop().await;
    Ok(())
}

/// Starts everything and returns once the node serves.
///
/// # Errors
/// As [`run`].
pub async fn start(args: &DevArgs) -> Result<Dev, AppError> {
    let api_address = SocketAddr::from((args.host(args.member.unwrap_or(1)), args.port));
    let streaming = args.redis.as_deref().map(Streaming::dev).transpose()?;
    let reserved = Reserved::new("API address", api_address, "--port P")?;
    let api = reserved.address();
    std::fs::create_dir_all(&args.data).map_err(AppError::io(format!("data folder {}", args.data.display())))?;
    let clock = DevClock::open_skewed(&args.data.join("clock"), args.clock_skew_ms);
    let clock = clock.map_err(AppError::io("dev clock"))?;
    #[cfg(feature = "faults")]
    let ordered = ordered_faults(args, &clock)?;
    clock.watch().map_err(AppError::io("dev clock"))?;
    let token_key = token_key(&keys::read_or_mint(&args.data.join("keys/jwt.key"))?);
    let master_key = keys::read_or_mint(&args.data.join("keys/master.key"))?;
    let sandbox = SocketAddr::from((args.sandbox_host(), args.sandbox_port));
    let smtp = SocketAddr::from((args.sandbox_host(), args.sandbox_port + 1));
    let sandbox_process =
        if args.no_sandbox { None } else { Some(start_sandbox(&args.data, sandbox, smtp, &[api]).await?) };
    if let Some(member) = args.member {
        dev_cluster::join_first(args, member, args.port - (member - 1)).await?;
    }
    let providers = ProvidersConfig::sandbox(&format!("http://{sandbox}"), &smtp.to_string());
    // First of all: who looks a metric up before has it for nothing.
    let scraped = metrics::install()?;
    let node = start_node(World {
        data: &node_folder(args, args.member.unwrap_or(1)),
        shards: args.shards,
        cache_log_bytes: 64 << 20,
        cache_state_bytes: args.cache_mib << 20,
        // A node that joins got its folder from the cluster.
        create: args.member.is_none_or(|member| member == 1),
        ballast_bytes: 0,
        master_key,
        clock: clock.clone(),
        outside: Box::pin(wait_for_sandbox(sandbox)),
        providers: &providers,
        gateways: gateway_options(args),
        dev: true,
        introduction: introduction(args, args.member.unwrap_or(1)),
        links: args.member.map(|member| link_plan(args, member)).transpose()?,
        #[cfg(feature = "faults")]
        disk_faults: Some(ordered),
    })
    .await?;
    if let Some(streaming) = streaming {
        streaming.attach(&node)?;
    }
    let settler = Arc::new(Settler::new(node.clone(), clock, outside_probe(sandbox)));
    let door = Arc::new(NodeDoor::new(node.clone(), Some(settler)));
    let rezone_door = door.clone();
    let stop = CancellationToken::new();
    let mut options = api::ApiOptions::new(token_key.clone(), format!("http://{api}"));
    options.metrics = Some(scraped);
    let listener = listen_when_usable(reserved, &node).await?;
    let server = tokio::spawn(api::serve(vec![listener], options, door, stop.clone()));
    // A node of several may come up long before the others; `/readyz` says so.
    while args.member.is_none() && !node.is_ready() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    start_rezone(rezone_door, &args.data);
    Ok(Dev { api, sandbox, token_key, node, server, stop, sandbox_process })
}

fn gateway_options(args: &DevArgs) -> GatewayOptions {
    let mut options = GatewayOptions::default();
    options.kakao.batch_max = args.kakao_batch.unwrap_or(options.kakao.batch_max);
    options
}

/// What a chaos run may order of this node.
#[cfg(feature = "faults")]
fn ordered_faults(args: &DevArgs, clock: &DevClock) -> Result<Arc<crate::app::faults::OrderedFaults>, AppError> {
    let file = args.data.join(crate::types::faults::file_name(args.member.unwrap_or(1)));
    let ordered = crate::app::faults::OrderedFaults::open(&file).map_err(AppError::io("file of ordered faults"))?;
    clock.obey(ordered.clone());
    Ok(ordered)
}

impl Dev {
    /// Stops the front door, then the node, then the sandbox.
    pub async fn stop(mut self) {
        hand_over(&self.node).await;
        self.stop.cancel();
        if tokio::time::timeout(Duration::from_secs(10), &mut self.server).await.is_err() {
            self.server.abort();
        }
        self.node.stop().await;
        if let Some(mut sandbox) = self.sandbox_process.take() {
            drop(sandbox.stdin.take());
            if tokio::time::timeout(Duration::from_secs(5), sandbox.wait()).await.is_err() {
                let _killed = sandbox.kill().await;
            }
        }
    }

    /// A token of this folder's key.
    #[must_use]
    pub fn token(&self, role: Role, sub: &str) -> String {
        self.token_key.mint(sub, role, TOKEN_SECONDS).expect("the subjects here are short and visible")
    }
}

/// The data folder of one of the nodes.
pub(super) fn node_folder(args: &DevArgs, member: u16) -> PathBuf {
    folder_of(&args.data, member)
}

/// That of a node among those of a dev cluster.
pub(super) fn folder_of(data: &Path, member: u16) -> PathBuf {
    if member == 1 { data.join("node") } else { data.join(format!("node-{member}")) }
}

/// A node as it introduces itself; a member's port is that of the front door of all plus its place.
pub(super) fn introduction(args: &DevArgs, member: u16) -> Introduction {
    // A member's own port is given to it; the first process counts from the first node's.
    let own = if args.member.is_some() || member == 1 { args.port } else { args.port + member - 1 };
    Introduction {
        name: format!("n{member}"),
        zone: format!("z{member}"),
        cluster_address: format!("{}:{}", args.host(member), args.cluster_port.saturating_add(member - 1)),
        levels: args.feature_levels.unwrap_or(LEVELS),
        ..Introduction::alone(format!("http://{}:{own}", args.host(member)))
    }
}

pub(super) fn link_plan(args: &DevArgs, member: u16) -> Result<LinkPlan, AppError> {
    let label = |text: &str| Label::new(text).map_err(|error| AppError::Usage(error.to_string()));
    Ok(LinkPlan {
        name: label(&format!("n{member}"))?,
        cluster: label("dev")?,
        listen: SocketAddr::from((args.host(member), args.cluster_port + member - 1)),
        security: Security::Plain,
        detour: args.links_via.map(|via| Detour { from: args.cluster_port, via }),
    })
}

pub(super) async fn start_sandbox(
    data: &Path,
    http: SocketAddr,
    smtp: SocketAddr,
    apis: &[SocketAddr],
) -> Result<Child, AppError> {
    drop(bind("sandbox address", http, "--sandbox-port Q")?);
    drop(bind("sandbox SMTP address", smtp, "--sandbox-port Q")?);
    let log = data.join("sandbox.log");
    let log = std::fs::File::create(&log).map_err(AppError::io(format!("sandbox log {}", log.display())))?;
    let program = std::env::current_exe().map_err(AppError::io("own program"))?;
    Command::new(program)
        .arg("sandbox")
        .args(["--http", &http.to_string(), "--smtp", &smtp.to_string()])
        .arg("--data")
        .arg(data.join("sandbox"))
        .arg("--clock")
        .arg(data.join("clock"))
        .args(apis.iter().map(|api| format!("--webhook=http://{api}")))
        .arg("--until-stdin-closes")
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(log)
        .kill_on_drop(true)
        .spawn()
        .map_err(AppError::io("sandbox process"))
}

pub(super) async fn wait_for_sandbox(sandbox: SocketAddr) -> Result<(), AppError> {
    let client = reqwest::Client::new();
    let deadline = tokio::time::Instant::now() + SANDBOX_START_MAX;
    loop {
        match client.get(format!("http://{sandbox}/ledger/summary")).send().await {
            Ok(reply) if reply.status().is_success() => return Ok(()),
            Ok(reply) => return Err(AppError::Sandbox(format!("http://{sandbox} answers {}", reply.status()))),
            Err(error) if tokio::time::Instant::now() >= deadline => return Err(AppError::Sandbox(error.to_string())),
            Err(_not_yet) => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    }
}

#[derive(serde::Deserialize)]
struct SandboxClock {
    quiet: bool,
    next_due: Option<String>,
}

/// Asks the sandbox whether anything is left to do at or before now.
fn outside_probe(sandbox: SocketAddr) -> Box<dyn Fn() -> BoxFuture<'static, Outside> + Send + Sync> {
    let client = reqwest::Client::new();
    let url = format!("http://{sandbox}/clock");
    Box::new(move || {
        let (client, url) = (client.clone(), url.clone());
        Box::pin(async move {
            // A sandbox that does not answer has nothing to wait for.
            let silent = Outside { quiet: true, next_due: None };
            let Ok(reply) = client.get(url).send().await else { return silent };
            match reply.json::<SandboxClock>().await {
                Ok(clock) => {
                    let next_due = clock.next_due.and_then(|due| Timestamp::parse_rfc3339(&due));
                    Outside { quiet: clock.quiet, next_due }
                }
                Err(_) => silent,
            }
        })
    })
}

pub(crate) async fn wait_for_signal() {
    let mut terminate = match tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()) {
        Ok(terminate) => terminate,
        Err(_) => return drop(tokio::signal::ctrl_c().await),
    };
    tokio::select! {
        biased;
        _ = terminate.recv() => {}
        _ = tokio::signal::ctrl_c() => {}
    }
}

fn print_welcome(dev: &Dev) {
    let (api, sandbox) = (dev.api, dev.sandbox);
    let (user, merchant, operator) =
        (dev.token(Role::User, "u-1"), dev.token(Role::Merchant, "m-1"), dev.token(Role::Operator, "op-1"));
    println!(
        r#"Bojagi serves.

  API       http://{api}        docs http://{api}/docs
  Sandbox   http://{sandbox}        what the recipients get, and faults to order

Tokens (30 days):
  USER={user}
  MERCHANT={merchant}
  OPERATOR={operator}

Try it (copy the three lines above into your shell first):

  curl -sX PUT http://{api}/v1/ops/products/americano -H "Authorization: Bearer $OPERATOR" \
    -H 'Content-Type: application/json' -d '{{"name":"Americano","price":{{"value":4500,"currency":"KRW"}},"validity_days":30}}'

  curl -sX POST http://{api}/v1/gifts -H "Authorization: Bearer $USER" -H 'Idempotency-Key: first' \
    -H 'Content-Type: application/json' -d '{{"product_id":"americano","recipient":{{"name":"지민","phone":"010-1234-5678"}},
    "message":"생일 축하해!","send_at":{{"instant":"'$(date -u -d '+1 hour' +%FT%TZ)'"}},"payment":{{"method":"card","payment_key":"tok_1"}}}}'

  curl -sX POST http://{api}/v1/dev/clock -H 'Content-Type: application/json' -d '{{"advance_seconds":3600}}'

Then look at the sandbox, and open the link in the message. Ctrl-C stops."#
    );
}

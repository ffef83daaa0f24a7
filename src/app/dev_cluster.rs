//! `bojagi dev --nodes N`: the sandbox and N nodes, each a process of its own, joined to one cluster over loopback.

use crate::api::auth::{Role, TokenKey};
use crate::app::dev::{introduction, link_plan, node_folder, start_sandbox, wait_for_sandbox, wait_for_signal};
use crate::app::links::join;
use crate::app::{AppError, fresh_key, keys, token_key};
use crate::cli::DevArgs;
use crate::persistence::folder::OpenOptions;
use serde_json::{Value, json};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;
use tokio::process::{Child, Command};

/// Life of the printed tokens in seconds: 30 days.
const TOKEN_SECONDS: u64 = 30 * 86_400;
/// How long the cluster may take to come up.
const PATIENCE: Duration = Duration::from_secs(60);
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// Runs until interrupted.
///
/// # Errors
/// [`AppError`]: a port is taken, a node does not come up or does not join.
pub async fn run(args: DevArgs) -> Result<(), AppError> {
    std::fs::create_dir_all(&args.data).map_err(AppError::io(format!("data folder {}", args.data.display())))?;
    let key = token_key(&keys::read_or_mint(&args.data.join("keys/jwt.key"))?);
    let at = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let apis: Vec<SocketAddr> = (0..args.nodes).map(|place| at(args.port + place)).collect();
    let sandbox = at(args.sandbox_port);
    let mut sandbox_process = if args.no_sandbox {
        None
    } else {
        // The clock's file must be there before the sandbox looks for it.
        drop(crate::app::clock::DevClock::open(&args.data.join("clock")).map_err(AppError::io("dev clock"))?);
        Some(start_sandbox(&args.data, sandbox, at(args.sandbox_port + 1), &apis).await?)
    };
    wait_for_sandbox(sandbox).await?;
    let operator = mint(&key, Role::Operator, "op-1");
    let mut nodes = Vec::new();
    for member in 1..=args.nodes {
        join_first(&args, member, args.port).await?;
        nodes.push(start_node(&args, member)?);
    }
    wait_until_whole(&args, &operator).await?;
    welcome(&args, &key, &operator, &nodes);
    wait_for_signal().await;
    println!("\nstopping ...");
    for node in &nodes {
        interrupt(node);
    }
    for mut node in nodes {
        let _ended = tokio::time::timeout(Duration::from_secs(15), node.wait()).await;
    }
    if let Some(mut sandbox) = sandbox_process.take() {
        drop(sandbox.stdin.take());
        let _ended = tokio::time::timeout(Duration::from_secs(5), sandbox.wait()).await;
    }
    Ok(())
}

fn mint(key: &TokenKey, role: Role, sub: &str) -> String {
    key.mint(sub, role, TOKEN_SECONDS).expect("the subjects here are short and visible")
}

fn log_file(data: &Path, member: u16) -> Result<std::fs::File, AppError> {
    let path = data.join(format!("node-{member}.log"));
    let open = std::fs::OpenOptions::new().create(true).append(true).open(&path);
    open.map_err(AppError::io(format!("log {}", path.display())))
}

/// The arguments that make this program run as one node; also what starts a killed one again.
fn member_arguments(args: &DevArgs, member: u16) -> Vec<String> {
    let port = args.port + member - 1;
    let pairs = [
        ("--data", args.data.display().to_string()),
        ("--port", port.to_string()),
        ("--sandbox-port", args.sandbox_port.to_string()),
        ("--shards", args.shards.to_string()),
        ("--cache-mib", args.cache_mib.to_string()),
        ("--cluster-port", args.cluster_port.to_string()),
        ("--member", member.to_string()),
    ];
    let redis = args.redis.clone().map(|url| ("--redis", url));
    let batch = args.kakao_batch.map(|most| ("--kakao-batch", most.to_string()));
    let levels = args.feature_levels.map(|levels| ("--feature-levels", levels.to_string()));
    let pairs =
        pairs.into_iter().chain(redis).chain(batch).chain(levels).flat_map(|(name, value)| [name.to_owned(), value]);
    ["dev".to_owned(), "--no-sandbox".to_owned()].into_iter().chain(pairs).collect()
}

fn start_node(args: &DevArgs, member: u16) -> Result<Child, AppError> {
    let program = std::env::current_exe().map_err(AppError::io("own program"))?;
    Command::new(program)
        .args(member_arguments(args, member))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log_file(&args.data, member)?)
        .kill_on_drop(true)
        .spawn()
        .map_err(AppError::io(format!("process of node {member}")))
}

fn interrupt(node: &Child) {
    if let Some(pid) = node.id().and_then(|pid| i32::try_from(pid).ok()) {
        // SAFETY: kill(2) with the id of a child that was not waited for yet; it may have ended, which is no harm.
        let _sent = unsafe { libc::kill(pid, libc::SIGINT) };
    }
}

/// Asks the first node for a join token, as soon as it answers.
async fn issue_token(first: SocketAddr, operator: &str) -> Result<String, AppError> {
    let url = format!("http://{first}/v1/ops/cluster/tokens");
    let key = fresh_key();
    let made = until(|| async {
        let call = reqwest::Client::new().post(&url).bearer_auth(operator).header("idempotency-key", &key);
        let asked = call.json(&json!({})).send().await.ok()?;
        let body: Value = asked.json().await.ok()?;
        body["token"].as_str().map(str::to_owned)
    });
    made.await.ok_or_else(|| AppError::Cluster("the first node gives no join token; see node-1.log".to_owned()))
}

/// Makes the folder of a node that is not the first and has none yet: the first one, at `first_port`, takes it in.
///
/// # Errors
/// [`AppError`]: the first node does not answer or refuses.
pub(super) async fn join_first(args: &DevArgs, member: u16, first_port: u16) -> Result<(), AppError> {
    let folder = node_folder(args, member);
    if member == 1 || folder.exists() {
        return Ok(());
    }
    let key = token_key(&keys::read_or_mint(&args.data.join("keys/jwt.key"))?);
    let master_key = keys::read_or_mint(&args.data.join("keys/master.key"))?;
    let token = issue_token(SocketAddr::from((args.host(1), first_port)), &mint(&key, Role::Operator, "op-1")).await?;
    let options = OpenOptions { master_key: Some(master_key), ballast_bytes: 0, ..OpenOptions::default() };
    let via = format!("{}:{}", args.host(1), args.cluster_port);
    let facts = introduction(args, member).facts();
    join(&link_plan(args, member)?, &via, &token, facts, &folder, options).await?;
    Ok(())
}

/// Waits until every shard has its replicas and a leader.
async fn wait_until_whole(args: &DevArgs, operator: &str) -> Result<(), AppError> {
    let url = format!("http://127.0.0.1:{}/v1/ops/cluster", args.port);
    let nodes = usize::from(args.nodes);
    let whole = until(|| async {
        let asked = reqwest::Client::new().get(&url).bearer_auth(operator).send().await.ok()?;
        let view: Value = asked.json().await.ok()?;
        let shards = view["shards"].as_array()?;
        let ready = |shard: &Value| {
            !shard["leader"].is_null() && shard["replicas"].as_array().is_some_and(|at| at.len() >= nodes.min(3))
        };
        (!shards.is_empty() && shards.iter().all(ready)).then_some(())
    });
    whole.await.ok_or_else(|| AppError::Cluster("the cluster does not come up; see the nodes' logs".to_owned()))
}

async fn until<T, F: Future<Output = Option<T>>>(look: impl Fn() -> F) -> Option<T> {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while tokio::time::Instant::now() < deadline {
        if let Some(found) = look().await {
            return Some(found);
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
    None
}

fn welcome(args: &DevArgs, key: &TokenKey, operator: &str, nodes: &[Child]) {
    println!("Bojagi serves with {} nodes; every one of them takes every request.\n", args.nodes);
    for (node, place) in nodes.iter().zip(0u16..) {
        let pid = node.id().map_or_else(|| "-".to_owned(), |pid| pid.to_string());
        println!("  node {}    http://127.0.0.1:{}    pid {pid}", place + 1, args.port + place);
    }
    let data = args.data.display();
    println!(
        "  sandbox   http://127.0.0.1:{}\n\nTokens (30 days):\n  USER={}\n  MERCHANT={}\n  OPERATOR={operator}\n",
        args.sandbox_port,
        mint(key, Role::User, "u-1"),
        mint(key, Role::Merchant, "m-1"),
    );
    let again = member_arguments(args, 2).join(" ");
    println!("Watch the cluster, kill a node, and see its shards move:\n");
    println!("  bojagi cluster watch --api http://127.0.0.1:{} --key-file {data}/keys/jwt.key", args.port);
    println!("  kill -9 {}", nodes.get(1).and_then(Child::id).unwrap_or_default());
    println!("  bojagi {again}      # starts it again\n\nCtrl-C stops all.");
}

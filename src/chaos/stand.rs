//! The cluster of a run: the sandbox outside the blast radius, the nodes, and what is asked of them.

use crate::chaos::links::{Links, Namespaces, Ways};
use crate::chaos::members::{Dialled, Members, REDIS, SANDBOX, link_ports};
use crate::chaos::nemesis::Nemesis;
use crate::chaos::process::{OwnProcess, io};
use crate::chaos::redis::Redis;
use crate::chaos::{ChaosError, Level, RunArgs};
use crate::load::http::{Call, Connection, HttpError, Target, bearer};
use crate::load::{CALL_DEADLINE, LoadError, api, ledger};
use crate::types::time::{Millis, Timestamp};
use bytes::Bytes;
use http::{HeaderValue, Method};
use serde_json::{Value, json};
use std::path::PathBuf;
use std::time::Duration;
use tokio::time::{Instant, sleep};

const LOOK_EVERY: Duration = Duration::from_millis(200);
const START_MAX: Duration = Duration::from_secs(120);
/// A look at a node that may be dead or frozen.
const LOOK_DEADLINE: Millis = Millis::from_secs(2);
/// Clocks that differ by less show the same: a look takes time.
const CLOCKS_AGREE: Millis = Millis(500);
/// A dev cluster's nodes, those that join among them.
const NODES_MAX: u16 = 10;
const PRODUCT: &str = "americano";
/// Entries that a replica may lack and count as caught up: some are always on their way.
const LAG_MAX: u64 = 100;
/// Kills go on while gifts fall due, and the last five seconds hit too little.
const DUE_FOR_MIN_S: u64 = 10;

/// The running cluster. Every process of it ends with this.
pub struct Stand {
    args: RunArgs,
    program: PathBuf,
    pub members: Members,
    /// Proxies before the links, if a nemesis needs them, or the nodes' namespaces.
    pub ways: Option<Ways>,
    pub redis: Option<Redis>,
    _sandbox: OwnProcess,
    operator: HeaderValue,
}

impl Stand {
    /// Founds the cluster and waits until every shard has its replicas and leaders are spread.
    ///
    /// # Errors
    /// [`ChaosError`]: what the nemeses need is not there, the folder is there already, a port is taken, the cluster does
    /// not come up.
    pub async fn start(args: &RunArgs) -> Result<Self, ChaosError> {
        check(args)?;
        if args.data.exists() {
            return Err(ChaosError::Stand(format!("{} exists: a run wants a new folder", args.data.display())));
        }
        std::fs::create_dir_all(&args.data).map_err(io(args.data.display().to_string()))?;
        let program = std::env::current_exe().map_err(io("own program"))?;
        // The sandbox listens in their network.
        let ways = make_ways(args).await?;
        let sandbox = start_sandbox(args, &program).await?;
        let redis = match args.nemesis.contains(&Nemesis::RedisGone) {
            true => Some(Redis::start(args.port + REDIS, &args.data).await?),
            false => None,
        };
        let url = redis.as_ref().map(Redis::url);
        let dialled = match &ways {
            None => Dialled::Straight,
            Some(Ways::Proxies(_)) => Dialled::ByProxies,
            Some(Ways::Namespaces(_)) => Dialled::InNamespaces,
        };
        let members = Members::new(args, program.clone(), dialled, url);
        members.start(1).await?;
        let operator = operator(args).await?;
        let args = args.clone();
        let stand = Self { args, program, members, ways, redis, _sandbox: sandbox, operator };
        stand.until_members(1).await?;
        for node in 2..=stand.args.nodes {
            // One after the other, so that the cluster gives them the numbers that they have here.
            stand.join(node).await?;
        }
        stand.until_whole().await?;
        stand.put_product().await?;
        Ok(stand)
    }

    /// Starts a node that the cluster does not know, and waits until it is one of its members.
    ///
    /// # Errors
    /// [`ChaosError`]: it does not start or is not let in.
    pub async fn join(&self, node: u16) -> Result<(), ChaosError> {
        self.members.start(node).await?;
        self.until_members(node).await
    }

    async fn until_members(&self, count: u16) -> Result<(), ChaosError> {
        let what = format!("of {count} nodes");
        self.until(&what, |view| view["nodes"].as_array().is_some_and(|nodes| nodes.len() >= usize::from(count))).await
    }

    /// Waits until every node is up, every shard has its replicas and a leader, and leaders are spread.
    ///
    /// # Errors
    /// [`ChaosError::Stand`] after two minutes.
    pub async fn until_whole(&self) -> Result<(), ChaosError> {
        let nodes = self.members.count().await;
        self.until("whole", |view| is_whole(view, nodes, self.args.shards)).await
    }

    /// Looks again and again until the cluster is as wanted.
    ///
    /// # Errors
    /// [`ChaosError::Stand`] after two minutes.
    pub async fn until(&self, what: &str, holds: impl Fn(&Value) -> bool) -> Result<(), ChaosError> {
        let deadline = Instant::now() + START_MAX;
        while Instant::now() < deadline {
            if self.view().await.is_some_and(|view| holds(&view)) {
                return Ok(());
            }
            sleep(LOOK_EVERY).await;
        }
        let view = self.view().await;
        Err(ChaosError::Stand(format!("the cluster is not {what} after {START_MAX:?}: {view:?}")))
    }

    /// Waits until the clocks of all nodes show about the same.
    ///
    /// # Errors
    /// [`ChaosError::Stand`] after two minutes.
    pub async fn until_clocks_agree(&self) -> Result<(), ChaosError> {
        let deadline = Instant::now() + START_MAX;
        while Instant::now() < deadline {
            let mut clocks = Vec::new();
            for node in 1..=self.members.count().await {
                let mut api = connection(&self.args, node, LOOK_DEADLINE)?;
                clocks.extend(api::clock(&mut api).await.ok());
            }
            let shown: Vec<Timestamp> = clocks.iter().map(|clock| clock.now()).collect();
            let spread = shown.iter().max().zip(shown.iter().min()).map(|(last, first)| *last - *first);
            if spread.is_some_and(|spread| spread <= CLOCKS_AGREE) {
                return Ok(());
            }
            sleep(LOOK_EVERY).await;
        }
        Err(ChaosError::Stand(format!("the nodes' clocks do not agree after {START_MAX:?}")))
    }

    /// The cluster as the first node that answers sees it.
    pub async fn view(&self) -> Option<Value> {
        for node in 1..=self.members.count().await {
            if let Ok(view) = self.get(node, "/v1/ops/cluster", LOOK_DEADLINE).await {
                return Some(view);
            }
        }
        None
    }

    /// # Errors
    /// [`LoadError`]: the node does not answer, or not with 200.
    pub async fn get(&self, node: u16, path: &str, deadline: Millis) -> Result<Value, LoadError> {
        const WHAT: &str = "a view";
        let mut api = connection(&self.args, node, deadline)?;
        let reply = api.call(Call::get(path).bearer(&self.operator)).await.map_err(failed(WHAT))?;
        match serde_json::from_slice(&reply.body) {
            Ok(body) if reply.status == 200 => Ok(body),
            _ => Err(LoadError::Reply { what: WHAT, status: reply.status, body: reply.text() }),
        }
    }

    async fn put_product(&self) -> Result<(), LoadError> {
        let body = json!({"name": "Americano", "price": {"value": 4500, "currency": "KRW"}, "validity_days": 30});
        let path = format!("/v1/ops/products/{PRODUCT}");
        let mut api = connection(&self.args, 1, CALL_DEADLINE)?;
        let call = Call::json(Method::PUT, &path, Bytes::from(body.to_string())).bearer(&self.operator);
        ask(&mut api, call, "the product").await.map(drop)
    }

    /// What it was started with.
    #[must_use]
    pub fn args(&self) -> &RunArgs {
        &self.args
    }

    #[must_use]
    pub fn program(&self) -> &std::path::Path {
        &self.program
    }

    /// The token that it is operated with.
    #[must_use]
    pub fn operator(&self) -> HeaderValue {
        self.operator.clone()
    }

    /// Orders a fault of the sandbox; its number.
    ///
    /// # Errors
    /// [`LoadError`]: the sandbox does not take it.
    pub async fn order_of_provider(&self, fault: &Value) -> Result<u64, LoadError> {
        const WHAT: &str = "a provider's fault";
        let call = Call::json(Method::POST, "/faults", Bytes::from(fault.to_string()));
        let ordered = ask(&mut self.sandbox()?, call, WHAT).await?;
        let unnumbered = || LoadError::Reply { what: WHAT, status: 200, body: ordered.to_string() };
        ordered["id"].as_u64().ok_or_else(unnumbered)
    }

    /// Lifts one.
    ///
    /// # Errors
    /// [`LoadError`]: the sandbox does not answer.
    pub async fn lift_of_provider(&self, fault: u64) -> Result<(), LoadError> {
        let path = format!("/faults/{fault}");
        let call = Call { method: Method::DELETE, ..Call::get(&path) };
        ask(&mut self.sandbox()?, call, "lifting a provider's fault").await.map(drop)
    }

    /// A membership command of `bojagi cluster`, at any node that answers.
    ///
    /// # Errors
    /// [`ChaosError::Stand`]: it was refused; the log of the operator says why.
    pub async fn operate(&self, command: &[&str]) -> Result<(), ChaosError> {
        let key = self.args.data.join("keys/jwt.key").display().to_string();
        let words = ["cluster"].iter().chain(command).map(|word| (*word).to_owned());
        let apis = self.urls().into_iter().flat_map(|url| ["--api".to_owned(), url]);
        let arguments: Vec<String> = words.chain(apis).chain(["--key-file".to_owned(), key]).collect();
        let log = self.args.data.join("operator.log");
        let mut process = OwnProcess::start("bojagi cluster", &self.program, &arguments, &log)?;
        let ended = process.ended().await?;
        if ended.success() {
            return Ok(());
        }
        let said = std::fs::read_to_string(&log).unwrap_or_default();
        let why = said.lines().last().unwrap_or_default();
        Err(ChaosError::Stand(format!("bojagi cluster {}: {why}", command.join(" "))))
    }

    /// A new folder or file of the run.
    #[must_use]
    pub fn path(&self, name: &str) -> PathBuf {
        self.args.data.join(name)
    }

    /// A connection to the sandbox.
    ///
    /// # Errors
    /// Never of a well-made command line.
    pub fn sandbox(&self) -> Result<Connection, LoadError> {
        sandbox(&self.args)
    }

    /// The front doors of the nodes that the run began with.
    pub fn urls(&self) -> Vec<String> {
        urls(&self.args)
    }

    pub fn sandbox_url(&self) -> String {
        sandbox_url(&self.args)
    }
}

fn urls(args: &RunArgs) -> Vec<String> {
    (1..=args.nodes).map(|node| args.api_url(node)).collect()
}

fn sandbox_url(args: &RunArgs) -> String {
    format!("http://{}:{}", args.sandbox_host(), args.port + SANDBOX)
}

fn sandbox(args: &RunArgs) -> Result<Connection, LoadError> {
    let target = Target::parse(&sandbox_url(args)).map_err(failed("the sandbox"))?;
    Ok(Connection::new(target, CALL_DEADLINE))
}

/// Nodes that a run may come to.
fn nodes_max(args: &RunArgs) -> u16 {
    let joins = args.nemesis.iter().filter(|nemesis| **nemesis == Nemesis::Join).count();
    let joins = u32::try_from(joins).unwrap_or(u32::MAX).saturating_mul(args.rounds);
    args.nodes.saturating_add(u16::try_from(joins).unwrap_or(u16::MAX))
}

/// Whether this build and this command line can do what the nemeses want.
fn check(args: &RunArgs) -> Result<(), ChaosError> {
    let hooked = args.nemesis.iter().find(|nemesis| nemesis.needs_hooks() && !cfg!(feature = "faults"));
    if let Some(nemesis) = hooked {
        let name = nemesis.name();
        return Err(ChaosError::Stand(format!(
            "{name} needs faults that only nodes built for it have: cargo build --release --features faults"
        )));
    }
    if args.nemesis.len() > 2 {
        return Err(ChaosError::Stand("one nemesis, or two as one+other".to_owned()));
    }
    let linked = args.nemesis.iter().find(|nemesis| nemesis.needs_links() && args.nodes < 2);
    if let Some(nemesis) = linked {
        return Err(ChaosError::Stand(format!("{} needs links: more than one node", nemesis.name())));
    }
    if args.level == Level::B && args.nemesis.contains(&Nemesis::RedisGone) {
        return Err(ChaosError::Stand("redis-gone needs level a: Redis is not in the nodes' network".to_owned()));
    }
    let (before_s, after_s) = args.reach_s();
    if args.nemesis.contains(&Nemesis::KillAgain) && before_s + after_s < DUE_FOR_MIN_S {
        let why = format!("kill-again needs gifts that fall due for {DUE_FOR_MIN_S} s at least: --profile steady, say");
        return Err(ChaosError::Stand(why));
    }
    if nodes_max(args) > NODES_MAX {
        return Err(ChaosError::Stand(format!("each round joins a node, and there are {NODES_MAX} at most")));
    }
    Ok(())
}

/// What links are cut by: namespaces at level B, proxies at level A if a nemesis needs them.
async fn make_ways(args: &RunArgs) -> Result<Option<Ways>, ChaosError> {
    let needed = args.nemesis.iter().any(|nemesis| nemesis.needs_links());
    match args.level {
        Level::B => {
            let shaped = args.nemesis.iter().any(|nemesis| [Nemesis::Delay, Nemesis::Loss].contains(nemesis));
            let spaces = Namespaces::make(args.port, nodes_max(args), shaped)?;
            Ok(Some(Ways::Namespaces(spaces)))
        }
        Level::A if needed => {
            let links = Links::open(nodes_max(args), link_ports(args), args.seed).await.map_err(io("link proxies"))?;
            Ok(Some(Ways::Proxies(links)))
        }
        Level::A => Ok(None),
    }
}

async fn start_sandbox(args: &RunArgs, program: &std::path::Path) -> Result<OwnProcess, ChaosError> {
    // The clock that all share must be there before the sandbox looks for it.
    let clock = args.data.join("clock");
    std::fs::write(&clock, [0; 8]).map_err(io(clock.display().to_string()))?;
    let at = |port: u16| format!("{}:{port}", args.sandbox_host());
    let pairs = [
        ("--http", at(args.port + SANDBOX)),
        ("--smtp", at(args.port + SANDBOX + 1)),
        ("--data", args.data.join("sandbox").display().to_string()),
        ("--clock", clock.display().to_string()),
    ];
    let hooks = urls(args).into_iter().map(|url| ("--webhook", url));
    let pairs = pairs.into_iter().chain(hooks).flat_map(|(name, value)| [name.to_owned(), value]);
    let arguments: Vec<String> = ["sandbox".to_owned()].into_iter().chain(pairs).collect();
    let mut process = OwnProcess::start("the sandbox", program, &arguments, &args.data.join("sandbox.log"))?;
    let deadline = Instant::now() + START_MAX;
    while let Err(error) = ledger::summary(&mut sandbox(args)?).await {
        if Instant::now() >= deadline || !process.is_running() {
            return Err(error.into());
        }
        sleep(LOOK_EVERY).await;
    }
    Ok(process)
}

/// An operator's token, as soon as the first node gives one.
async fn operator(args: &RunArgs) -> Result<HeaderValue, ChaosError> {
    let mut api = connection(args, 1, CALL_DEADLINE)?;
    let deadline = Instant::now() + START_MAX;
    loop {
        match api::token(&mut api, "operator", "chaos").await {
            Ok(token) => return Ok(bearer(&token).map_err(failed("a token"))?),
            Err(error) if Instant::now() >= deadline => return Err(error.into()),
            Err(_not_yet) => sleep(LOOK_EVERY).await,
        }
    }
}

fn is_whole(view: &Value, nodes: u16, shards: u16) -> bool {
    let rows = |name: &str| view[name].as_array().cloned().unwrap_or_default();
    let replicas = usize::from(nodes.min(3));
    let shard = |shard: &Value| {
        !shard["leader"].is_null() && shard["replicas"].as_array().is_some_and(|nodes| nodes.len() == replicas)
    };
    let share = u64::from(shards / nodes.max(1)) * 8 / 10;
    let node = |node: &Value| node["state"] == "up" && node["leads"].as_u64().is_some_and(|leads| leads >= share);
    let (members, placed) = (rows("nodes"), rows("shards"));
    members.len() == usize::from(nodes) && members.iter().all(node) && placed.iter().all(shard)
}

/// Whether a node that was away leads again, while all are up, every shard is led and no replica is far behind.
#[must_use]
pub fn is_back(view: &Value, node: u16) -> bool {
    let rows = |name: &str| view[name].as_array().map(Vec::as_slice).unwrap_or_default();
    let (members, shards) = (rows("nodes"), rows("shards"));
    let up = !members.is_empty() && members.iter().all(|member| member["state"] == "up");
    let near = |shard: &Value| shard["lag"].as_u64().is_some_and(|lag| lag <= LAG_MAX);
    let led = shards.iter().all(|shard| !shard["leader"].is_null() && near(shard));
    up && led && shards.iter().any(|shard| shard["leader"] == node)
}

async fn ask(to: &mut Connection, call: Call<'_>, what: &'static str) -> Result<Value, LoadError> {
    let reply = to.call(call).await.map_err(failed(what))?;
    if reply.status < 300 {
        return Ok(serde_json::from_slice(&reply.body).unwrap_or_default());
    }
    Err(LoadError::Reply { what, status: reply.status, body: reply.text() })
}

pub fn failed(what: &'static str) -> impl FnOnce(HttpError) -> LoadError {
    move |source| LoadError::Http { what, source }
}

/// The APIs of nodes 1 to `nodes`.
///
/// # Errors
/// Never of a well-made command line.
pub fn targets(args: &RunArgs, nodes: u16) -> Result<Vec<Target>, LoadError> {
    (1..=nodes).map(|node| Target::parse(&args.api_url(node)).map_err(failed("the base URL"))).collect()
}

/// To the API of a node.
pub fn connection(args: &RunArgs, node: u16, deadline: Millis) -> Result<Connection, LoadError> {
    Ok(Connection::new(Target::parse(&args.api_url(node)).map_err(failed("the base URL"))?, deadline))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_is_back_when_it_leads_and_nobody_is_away_or_far_behind() {
        let view = |state: &str, leaders: [Option<u16>; 2], lag: Option<u64>| {
            let shard = |leader: Option<u16>| json!({ "leader": leader, "lag": lag });
            json!({ "nodes": [{ "id": 1, "state": "up" }, { "id": 2, "state": state }], "shards": leaders.map(shard) })
        };
        assert!(is_back(&view("up", [Some(1), Some(2)], Some(100)), 2));
        assert!(!is_back(&view("unreachable", [Some(1), Some(2)], Some(0)), 2));
        assert!(!is_back(&view("up", [Some(1), Some(1)], Some(0)), 2), "it leads nothing yet");
        assert!(!is_back(&view("up", [None, Some(2)], Some(0)), 2), "a shard is without a leader");
        assert!(!is_back(&view("up", [Some(1), Some(2)], Some(101)), 2), "somebody catches up");
        assert!(!is_back(&view("up", [Some(1), Some(2)], None), 2) && !is_back(&Value::Null, 2));
    }
}

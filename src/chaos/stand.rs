//! The processes of a run: the sandbox outside the blast radius, and the nodes. Signals go only to what was started here.

use crate::chaos::{ChaosError, RunArgs};
use crate::load::http::{Call, Connection, HttpError, Target, bearer};
use crate::load::{CALL_DEADLINE, LoadError, api};
use crate::types::time::Millis;
use bytes::Bytes;
use http::{HeaderValue, Method};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;
use tokio::process::{Child, Command};
use tokio::sync::Mutex;
use tokio::time::{Instant, sleep};

const LOOK_EVERY: Duration = Duration::from_millis(200);
const START_MAX: Duration = Duration::from_secs(120);
/// A look at a node that may be dead or frozen.
const LOOK_DEADLINE: Millis = Millis::from_secs(2);
/// Where the links and the sandbox listen, from the first port on.
const LINKS: u16 = 100;
const SANDBOX: u16 = 50;
const PRODUCT: &str = "americano";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    Kill,
    Stop,
    Continue,
}

/// The running cluster.
pub struct Stand {
    args: RunArgs,
    program: PathBuf,
    /// Nodes that were started again.
    again: Mutex<BTreeMap<u16, Child>>,
    /// The process that started sandbox and nodes, all in a group of processes.
    founder: Child,
    /// The nodes' processes, as they said themselves when all were up.
    pids: Mutex<BTreeMap<u16, i32>>,
    operator: HeaderValue,
}

fn io(what: impl Into<String>) -> impl FnOnce(std::io::Error) -> ChaosError {
    let what = what.into();
    move |cause| ChaosError::Io { what, cause }
}

fn log(data: &Path, name: &str) -> Result<std::fs::File, ChaosError> {
    let path = data.join(name);
    let open = std::fs::OpenOptions::new().create(true).append(true).open(&path);
    open.map_err(io(path.display().to_string()))
}

impl Stand {
    /// Founds the cluster and waits until every shard has its replicas and leaders are spread.
    ///
    /// # Errors
    /// [`ChaosError`]: the folder is there already, a port is taken, the cluster does not come up.
    pub async fn start(args: &RunArgs) -> Result<Self, ChaosError> {
        if args.data.exists() {
            return Err(ChaosError::Stand(format!("{} exists: a run wants a new folder", args.data.display())));
        }
        std::fs::create_dir_all(&args.data).map_err(io(args.data.display().to_string()))?;
        let program = std::env::current_exe().map_err(io("own program"))?;
        let mut founder = Command::new(&program);
        founder.args(["dev", "--nodes", &args.nodes.to_string()]).args(common(args));
        let founder = founder
            .args(["--port", &args.port.to_string(), "--sandbox-port", &(args.port + SANDBOX).to_string()])
            .args(["--cluster-port", &(args.port + LINKS).to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(log(&args.data, "founder.log")?)
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .map_err(io("the founding process"))?;
        let mut api = connection(args, 1, CALL_DEADLINE)?;
        let deadline = Instant::now() + START_MAX;
        let operator = loop {
            match api::token(&mut api, "operator", "chaos").await {
                Ok(token) => break bearer(&token).map_err(failed("a token"))?,
                Err(error) if Instant::now() >= deadline => return Err(error.into()),
                Err(_not_yet) => sleep(LOOK_EVERY).await,
            }
        };
        let (again, pids) = (Mutex::default(), Mutex::default());
        let stand = Self { args: args.clone(), program, again, founder, pids, operator };
        stand.until_whole().await?;
        stand.put_product().await?;
        Ok(stand)
    }

    /// Waits until every node is up, every shard has its replicas and a leader, and leaders are spread.
    ///
    /// # Errors
    /// [`ChaosError::Stand`] after two minutes.
    pub async fn until_whole(&self) -> Result<(), ChaosError> {
        let deadline = Instant::now() + START_MAX;
        while Instant::now() < deadline {
            if let Some(view) = self.view().await.filter(|view| self.is_whole(view)) {
                let pid = |node: &Value| node["pid"].as_i64().and_then(|pid| i32::try_from(pid).ok());
                let nodes = view["nodes"].as_array().cloned().unwrap_or_default();
                *self.pids.lock().await = (1..).zip(&nodes).filter_map(|(n, node)| Some((n, pid(node)?))).collect();
                return Ok(());
            }
            sleep(LOOK_EVERY).await;
        }
        Err(ChaosError::Stand(format!("the cluster is not whole after {START_MAX:?}: {:?}", self.view().await)))
    }

    fn is_whole(&self, view: &Value) -> bool {
        let rows = |name: &str| view[name].as_array().cloned().unwrap_or_default();
        let replicas = usize::from(self.args.nodes.min(3));
        let shard = |shard: &Value| {
            !shard["leader"].is_null() && shard["replicas"].as_array().is_some_and(|nodes| nodes.len() == replicas)
        };
        let share = u64::from(self.args.shards / self.args.nodes) * 8 / 10;
        let node = |node: &Value| node["state"] == "up" && node["leads"].as_u64().is_some_and(|leads| leads >= share);
        let (nodes, shards) = (rows("nodes"), rows("shards"));
        nodes.len() == usize::from(self.args.nodes) && nodes.iter().all(node) && shards.iter().all(shard)
    }

    /// The cluster as the first node that answers sees it.
    pub async fn view(&self) -> Option<Value> {
        for node in 1..=self.args.nodes {
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
        let reply = api.call(call).await.map_err(failed("the product"))?;
        if reply.status < 300 {
            return Ok(());
        }
        Err(LoadError::Reply { what: "the product", status: reply.status, body: reply.text() })
    }

    /// Whether paid = held + used + refunded over all gifts, by the cluster's own books. Asked again while a shard moves.
    ///
    /// # Errors
    /// [`LoadError`]: no answer within two minutes.
    pub async fn books_balance(&self) -> Result<bool, LoadError> {
        let deadline = Instant::now() + START_MAX;
        loop {
            match self.get(1, "/v1/ops/reconciliation", Millis::from_mins(2)).await {
                Ok(books) => return Ok(books["balanced"] == true),
                Err(error) if Instant::now() >= deadline => return Err(error),
                Err(_) => sleep(LOOK_EVERY).await,
            }
        }
    }

    /// Sends a signal to a node of this run.
    ///
    /// # Errors
    /// [`ChaosError::Stand`]: it does not run.
    pub async fn signal(&self, node: u16, signal: Signal) -> Result<(), ChaosError> {
        let known = self.pids.lock().await.get(&node).copied();
        let pid = known.filter(|pid| self.is_ours(*pid));
        let pid = pid.ok_or_else(|| ChaosError::Stand(format!("node {node} has no process of this run")))?;
        let number = match signal {
            Signal::Kill => libc::SIGKILL,
            Signal::Stop => libc::SIGSTOP,
            Signal::Continue => libc::SIGCONT,
        };
        // SAFETY: kill(2) with the id of a process that this run started, by its command line.
        let sent = unsafe { libc::kill(pid, number) };
        if sent == 0 { Ok(()) } else { Err(ChaosError::Stand(format!("node {node}, process {pid}, is gone"))) }
    }

    /// Process ids are used again; the command line names this run's folder.
    fn is_ours(&self, pid: i32) -> bool {
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&line).contains(&self.args.data.display().to_string())
    }

    /// Starts a node again on its folder.
    ///
    /// # Errors
    /// [`ChaosError`]: the process does not start.
    pub async fn start_node(&self, node: u16) -> Result<(), ChaosError> {
        let args = &self.args;
        let mut command = Command::new(&self.program);
        command.args(["dev", "--no-sandbox", "--member", &node.to_string()]).args(common(args));
        let child = command
            .args(["--port", &(args.port + node - 1).to_string()])
            .args(["--sandbox-port", &(args.port + SANDBOX).to_string()])
            .args(["--cluster-port", &(args.port + LINKS).to_string()])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log(&args.data, &format!("node-{node}.log"))?)
            .kill_on_drop(true)
            .spawn()
            .map_err(io(format!("node {node}")))?;
        let former = self.again.lock().await.insert(node, child);
        // The killed one is waited for, so that it leaves the table of processes.
        if let Some(mut former) = former {
            let _status = former.wait().await.map_err(io("a killed node"))?;
        }
        Ok(())
    }

    pub fn urls(&self) -> Vec<String> {
        (0..self.args.nodes).map(|place| format!("http://127.0.0.1:{}", self.args.port + place)).collect()
    }

    pub fn sandbox_url(&self) -> String {
        format!("http://127.0.0.1:{}", self.args.port + SANDBOX)
    }
}

impl Drop for Stand {
    fn drop(&mut self) {
        let group = self.founder.id().and_then(|pid| i32::try_from(pid).ok());
        if let Some(group) = group {
            // SAFETY: kill(2) of the group of processes that this run made; its leader was not waited for yet.
            let _gone = unsafe { libc::kill(-group, libc::SIGKILL) };
        }
    }
}

fn common(args: &RunArgs) -> Vec<String> {
    let data = args.data.display().to_string();
    ["--shards", &args.shards.to_string(), "--cache-mib", "64", "--data", &data].map(str::to_owned).to_vec()
}

pub fn failed(what: &'static str) -> impl FnOnce(HttpError) -> LoadError {
    move |source| LoadError::Http { what, source }
}

/// To the API of a node.
pub fn connection(args: &RunArgs, node: u16, deadline: Millis) -> Result<Connection, LoadError> {
    let url = format!("http://127.0.0.1:{}", args.port + node - 1);
    Ok(Connection::new(Target::parse(&url).map_err(failed("the base URL"))?, deadline))
}

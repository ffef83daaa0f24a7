//! The nodes' processes: started, killed, frozen, ended, and started again on their folders.

use crate::chaos::links::{Names, Ports};
use crate::chaos::process::{OwnProcess, Signal, io};
use crate::chaos::{ChaosError, RunArgs};
use crate::types::faults::{self, CLOCK_AT, DISK_AT, DiskFault};
use std::collections::BTreeMap;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use tokio::sync::Mutex;

/// Where links, sandbox, Redis and proxies listen, from the first port on. APIs are at the port itself.
pub const LINKS: u16 = 100;
pub const SANDBOX: u16 = 50;
pub const REDIS: u16 = 60;
pub const PROXIES: u16 = 200;

/// The ports of the links of a run, and of the proxies before them.
#[must_use]
pub fn link_ports(args: &RunArgs) -> Ports {
    Ports { proxies: args.port + PROXIES, links: args.port + LINKS }
}

struct Member {
    process: OwnProcess,
    /// It was ended here, or it is started here; one that ends by itself is still wanted.
    wanted: bool,
}

/// How nodes reach one another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialled {
    Straight,
    ByProxies,
    /// Each from a namespace of its own.
    InNamespaces,
}

/// The nodes, by number from 1.
pub struct Members {
    args: RunArgs,
    program: PathBuf,
    ways: Dialled,
    redis: Option<String>,
    running: Mutex<BTreeMap<u16, Member>>,
}

impl Members {
    /// None yet.
    #[must_use]
    pub fn new(args: &RunArgs, program: PathBuf, ways: Dialled, redis: Option<String>) -> Self {
        Self { args: args.clone(), program, ways, redis, running: Mutex::default() }
    }

    fn arguments(&self, node: u16) -> Vec<String> {
        let args = &self.args;
        let mut pairs = vec![
            ("--member", node.to_string()),
            ("--port", (args.port + node - 1).to_string()),
            ("--sandbox-port", (args.port + SANDBOX).to_string()),
            ("--cluster-port", (args.port + LINKS).to_string()),
            ("--shards", args.shards.to_string()),
            ("--cache-mib", "256".to_owned()),
            ("--data", args.data.display().to_string()),
        ];
        match self.ways {
            Dialled::Straight => {}
            Dialled::ByProxies => pairs.push(("--links-via", link_ports(args).dialled_by(node).to_string())),
            Dialled::InNamespaces => pairs.push(("--subnet", Names::of(args.port).subnet().to_string())),
        }
        pairs.extend(self.redis.clone().map(|url| ("--redis", url)));
        let pairs = pairs.into_iter().flat_map(|(name, value)| [name.to_owned(), value]);
        ["dev".to_owned(), "--no-sandbox".to_owned()].into_iter().chain(pairs).collect()
    }

    /// `ip` becomes the program, under the same id.
    fn command(&self, node: u16) -> (PathBuf, Vec<String>) {
        let arguments = self.arguments(node);
        if self.ways != Dialled::InNamespaces {
            return (self.program.clone(), arguments);
        }
        let space = Names::of(self.args.port).space(node);
        let program = self.program.display().to_string();
        let words = ["netns".to_owned(), "exec".to_owned(), space, program].into_iter().chain(arguments);
        (PathBuf::from("ip"), words.collect())
    }

    /// How many there are, running or not.
    pub async fn count(&self) -> u16 {
        u16::try_from(self.running.lock().await.len()).unwrap_or(u16::MAX)
    }

    /// Starts a node that does not run; a new one makes its folder by joining. False when it runs.
    ///
    /// # Errors
    /// [`ChaosError::Io`]: the process does not start.
    pub async fn start(&self, node: u16) -> Result<bool, ChaosError> {
        let mut running = self.running.lock().await;
        if running.get_mut(&node).is_some_and(|member| member.process.is_running()) {
            return Ok(false);
        }
        let log = self.args.data.join(format!("node-{node}.log"));
        let (program, arguments) = self.command(node);
        let process = OwnProcess::start(&format!("node {node}"), &program, &arguments, &log)?;
        running.insert(node, Member { process, wanted: true });
        Ok(true)
    }

    /// SIGKILL, and its end. False when it does not run.
    ///
    /// # Errors
    /// [`ChaosError`]: it cannot be waited for.
    pub async fn kill(&self, node: u16) -> Result<bool, ChaosError> {
        self.end(node, Signal::Kill).await
    }

    /// SIGTERM, and its end: leaders are handed over first. False when it does not run.
    ///
    /// # Errors
    /// [`ChaosError`]: it cannot be waited for.
    pub async fn stop(&self, node: u16) -> Result<bool, ChaosError> {
        self.end(node, Signal::Terminate).await
    }

    async fn end(&self, node: u16, signal: Signal) -> Result<bool, ChaosError> {
        let mut running = self.running.lock().await;
        let Some(member) = running.get_mut(&node) else { return Ok(false) };
        if !member.process.is_running() {
            return Ok(false);
        }
        member.wanted = false;
        member.process.signal(signal)?;
        if signal == Signal::Kill {
            member.process.ended().await?;
            return Ok(true);
        }
        // Others may be needed while it hands over: not under the lock.
        drop(running);
        loop {
            let mut running = self.running.lock().await;
            if running.get_mut(&node).is_none_or(|member| !member.process.is_running()) {
                return Ok(true);
            }
            drop(running);
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    }

    /// SIGSTOP or SIGCONT. False when it does not run.
    ///
    /// # Errors
    /// [`ChaosError::Stand`]: it ended in between.
    pub async fn freeze(&self, node: u16, frozen: bool) -> Result<bool, ChaosError> {
        let mut running = self.running.lock().await;
        let Some(member) = running.get_mut(&node) else { return Ok(false) };
        if !member.process.is_running() {
            return Ok(false);
        }
        member.process.signal(if frozen { Signal::Stop } else { Signal::Continue })?;
        Ok(true)
    }

    /// The nodes that ended although nobody here ended them.
    pub async fn fallen(&self) -> Vec<u16> {
        let mut running = self.running.lock().await;
        let fell = |member: &mut Member| member.wanted && !member.process.is_running();
        running.iter_mut().filter_map(|(node, member)| fell(member).then_some(*node)).collect()
    }

    /// Sets a node's clock off by so many milliseconds, 0 for right. It holds beyond the node's process.
    ///
    /// # Errors
    /// [`ChaosError::Io`]: the file of its faults is not there.
    pub fn order_clock(&self, node: u16, off_ms: i64) -> Result<(), ChaosError> {
        self.write_word(node, CLOCK_AT, off_ms.to_le_bytes())
    }

    /// Makes a node's disk ill, or well. It holds beyond the node's process.
    ///
    /// # Errors
    /// [`ChaosError::Io`]: the file of its faults is not there.
    pub fn order_disk(&self, node: u16, ill: Option<DiskFault>) -> Result<(), ChaosError> {
        self.write_word(node, DISK_AT, DiskFault::encode(ill).to_le_bytes())
    }

    fn write_word(&self, node: u16, at: u64, word: [u8; 8]) -> Result<(), ChaosError> {
        let path = self.args.data.join(faults::file_name(node));
        let file = std::fs::OpenOptions::new().write(true).open(&path);
        file.and_then(|file| file.write_all_at(&word, at)).map_err(io(path.display().to_string()))
    }
}

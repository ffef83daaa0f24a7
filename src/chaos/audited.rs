//! The end of a run: the cluster comes to rest, its nodes stop, and a process of its own reads their disks beside the ledger,
//! with the checkers that judge the simulator's runs too.

use crate::chaos::ChaosError;
use crate::chaos::process::io;
use crate::chaos::report::words::{grouped, many};
use crate::chaos::stand::{Stand, connection};
use crate::load::ledger::Promise;
use crate::load::{LoadError, api};
use crate::types::time::{Millis, Timestamp};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;
use std::io::Write as _;
use std::time::Duration;
use tokio::process::Command;
use tokio::time::sleep;

/// In the run's folder: each acknowledged gift with an instant by which it was, a line each; and the end.
pub const ACKNOWLEDGED: &str = "acknowledged";
pub const END: &str = "end.json";

/// What is under way is given so much of the cluster's time to settle, and followers so long to hear of it.
const SETTLE: Millis = Millis::from_mins(2);
const SETTLE_DEADLINE: Millis = Millis::from_mins(5);
const TRIES: usize = 5;
const HEARD: Duration = Duration::from_secs(3);

/// How the cluster stood when it was at rest.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct End {
    /// RFC 3339, by the cluster's clock.
    pub at: String,
    /// Nodes with a replica of each shard.
    pub places: BTreeMap<u16, Vec<u16>>,
}

/// What the disks and the ledger say.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct AuditReport {
    pub nodes: u16,
    pub shards: u64,
    /// Replicas of all shards, each equal to the others of its shard if nothing is broken.
    pub replicas: u64,
    /// Gifts and records of all kinds, one replica of each shard.
    pub gifts: u64,
    pub records: u64,
    /// Gifts that a client was told of, each looked for.
    pub acknowledged: u64,
    /// Messages that a person got.
    pub messages: u64,
    pub violation_count: u64,
    /// The first of them.
    pub violations: Vec<String>,
}

impl fmt::Display for AuditReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let broken = if self.violation_count == 0 { "no invariant broken" } else { "BROKEN" };
        write!(
            f,
            "the disks of {}: {} of {} in {} of {}, {} acknowledged, {} sent: {broken}",
            many(u64::from(self.nodes), "node"),
            many(self.records, "record"),
            many(self.gifts, "gift"),
            many(self.replicas, "replica"),
            many(self.shards, "shard"),
            grouped(self.acknowledged),
            many(self.messages, "message"),
        )
    }
}

impl AuditReport {
    #[must_use]
    pub fn passed(&self) -> bool {
        self.violation_count == 0
    }

    /// For people.
    #[must_use]
    pub fn render(&self) -> String {
        std::iter::once(self.to_string()).chain(self.violations.iter().cloned()).collect::<Vec<_>>().join("\n")
    }

    /// # Panics
    /// Never: it is made of numbers and texts.
    #[must_use]
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).expect("numbers and texts are JSON")
    }
}

/// Notes gifts that were acknowledged before `by`.
///
/// # Errors
/// [`ChaosError::Io`]: the run's folder is not to be written.
pub fn note<'a>(stand: &Stand, gifts: impl Iterator<Item = &'a Promise>, by: Timestamp) -> Result<(), ChaosError> {
    let path = stand.path(ACKNOWLEDGED);
    let by = by.to_rfc3339();
    let lines: String = gifts.map(|gift| format!("{} {by}\n", gift.name())).collect();
    let file = std::fs::OpenOptions::new().create(true).append(true).open(&path);
    file.and_then(|mut file| file.write_all(lines.as_bytes())).map_err(io(path.display().to_string()))
}

/// Brings the cluster to rest, stops it and has its disks read.
///
/// # Errors
/// [`ChaosError`]: it does not come to rest, a node does not stop, or the disks cannot be read.
pub async fn audit(stand: &Stand) -> Result<AuditReport, ChaosError> {
    rest(stand).await?;
    let nodes = 1..=stand.members.count().await;
    let stops = nodes.map(|node| stand.members.stop(node));
    for stopped in futures_util::future::join_all(stops).await {
        stopped?;
    }
    let mut command = Command::new(stand.program());
    let data = stand.path("");
    command.args(["chaos", "audit", "--json", "--sandbox", &stand.sandbox_url(), "--data"]).arg(data);
    let output = command.kill_on_drop(true).output().await.map_err(io("the audit"))?;
    serde_json::from_slice(&output.stdout).map_err(|_| {
        let said = String::from_utf8_lossy(&output.stderr);
        ChaosError::Stand(format!("the disks were not read: {}", said.lines().last().unwrap_or_default()))
    })
}

/// Lets everything that is under way settle, on every replica, and notes how the cluster stands.
async fn rest(stand: &Stand) -> Result<(), ChaosError> {
    let mut api = connection(stand.args(), 1, SETTLE_DEADLINE)?;
    let mut tries = 0;
    while !api::advance(&mut api, SETTLE).await? {
        tries += 1;
        if tries == TRIES {
            return Err(ChaosError::Stand("the cluster does not come to rest".to_owned()));
        }
    }
    sleep(HEARD).await;
    let at = api::clock(&mut api).await?.now().to_rfc3339();
    let view = stand.view().await.unwrap_or_default();
    let place = |shard: &serde_json::Value| {
        let nodes = shard["replicas"].as_array()?.iter();
        let nodes: Option<Vec<u16>> = nodes.map(|node| u16::try_from(node.as_u64()?).ok()).collect();
        Some((u16::try_from(shard["id"].as_u64()?).ok()?, nodes?))
    };
    let places: Option<BTreeMap<_, _>> = view["shards"].as_array().and_then(|rows| rows.iter().map(place).collect());
    let places = places.ok_or_else(|| ChaosError::Stand("no node says where the shards are".to_owned()))?;
    let path = stand.path(END);
    let text = serde_json::to_string_pretty(&End { at, places }).map_err(|_| LoadError::Worker)?;
    std::fs::write(&path, text).map_err(io(path.display().to_string()))
}

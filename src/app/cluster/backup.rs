//! `bojagi cluster backup`: a copy of a whole cluster while it serves.
//!
//! Shard after shard is scanned at the node that leads it, a page at a time and no faster than asked for. The log of
//! every shard that is scanned already is followed meanwhile, so that in the end all of them stand at about the same
//! instant. A shard whose leader moved, or whose log was purged too early, is begun again.

use super::client::Client;
use crate::app::AppError;
use crate::cli::ClusterBackupArgs;
use crate::persistence::cluster_backup::{BackupId, BackupWriter, Manifest};
use crate::persistence::copying::{Copied, LogPage, RowsPage};
use crate::persistence::joining::Identity;
use crate::types::ids::{LogIndex, ShardId};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;
use tokio::time::Instant;

const VIEW: &str = "/v1/ops/cluster";
/// How often a shard is begun before the backup is given up.
const ATTEMPTS_MAX: u32 = 8;
/// Rounds over the shards that had to be begun again.
const ROUNDS_MAX: u32 = 8;
/// Looks for the leader of a shard, with a pause between two: about half a minute.
const LOOKS_MAX: u32 = 60;
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// How often the logs of scanned shards are followed. A node keeps its last 2,048 entries of each shard in any case.
const FOLLOW_EVERY: Duration = Duration::from_secs(3);
/// The token and the view of who leads what are made anew after this.
const REFRESH_EVERY: Duration = Duration::from_secs(60);

/// Makes the backup, and says what is in it.
///
/// # Errors
/// [`AppError`]: no node answers, a shard cannot be had, or something is there already; no backup is left then.
pub async fn run(args: &ClusterBackupArgs) -> Result<(), AppError> {
    let nodes = Http { args, client: Client::new(&args.api)? };
    say(args, &copy(nodes, &args.to, &args.keys_to, args.rate_mib).await?);
    Ok(())
}

async fn copy(nodes: impl Nodes, to: &Path, keys_to: &Path, rate_mib: u32) -> Result<Manifest, AppError> {
    let mut source = Source::new(nodes, u64::from(rate_mib) << 20).await?;
    let identity = source.identity().await?;
    let shards = identity.shards;
    let mut backup = BackupId::default();
    crate::app::system_random(&mut backup);
    let writer = BackupWriter::create(to, keys_to, backup, identity)?;
    let (scanned, followed) = (BTreeSet::new(), Instant::now());
    let mut copy = Copy { source, writer, scanned, followed };
    copy.all(shards).await?;
    let view = copy.source.nodes.view().await?.to_string();
    Ok(copy.writer.finish(view)?)
}

fn say(args: &ClusterBackupArgs, manifest: &Manifest) {
    let rows: u64 = manifest.shards.iter().map(|facts| facts.rows).sum();
    let entries: u64 = manifest.shards.iter().map(|facts| facts.entries).sum();
    let instants = || manifest.shards.iter().map(|facts| facts.at);
    println!(
        "{}: {} shards, {rows} rows, {entries} log entries, as of {} to {}",
        args.to.display(),
        manifest.shards.len(),
        instants().min().unwrap_or_default().to_rfc3339(),
        instants().max().unwrap_or_default().to_rfc3339(),
    );
    println!("{}: the data keys. Keep this file apart from the backup.", args.keys_to.display());
}

/// Why a shard has to be begun again, or the backup ended.
enum Broken {
    /// Its leader moved, or the export or the log was lost.
    Again(&'static str),
    Fatal(AppError),
}

impl<E: Into<AppError>> From<E> for Broken {
    fn from(error: E) -> Self {
        Self::Fatal(error.into())
    }
}

/// The nodes' front doors.
trait Nodes {
    /// Base URLs of the nodes that are known before any is asked.
    fn named(&self) -> Vec<String>;
    /// What the operator sees of the cluster.
    async fn view(&mut self) -> Result<Value, AppError>;
    /// One node's answer; `None` when it has none now.
    async fn bytes(&mut self, node: &str, path: &str) -> Result<Option<Vec<u8>>, AppError>;
}

struct Http<'a> {
    args: &'a ClusterBackupArgs,
    client: Client,
}

impl Nodes for Http<'_> {
    fn named(&self) -> Vec<String> {
        self.client.nodes().to_vec()
    }
    async fn view(&mut self) -> Result<Value, AppError> {
        // With a fresh token: the last one may have run out.
        self.client = Client::new(&self.args.api)?;
        self.client.get(VIEW).await
    }
    async fn bytes(&mut self, node: &str, path: &str) -> Result<Option<Vec<u8>>, AppError> {
        self.client.bytes(node, path).await
    }
}

/// The cluster as it is read from.
struct Source<N> {
    nodes: N,
    refreshed: Instant,
    /// Base URL of the leader of each shard, and of all nodes.
    leaders: BTreeMap<ShardId, String>,
    doors: Vec<String>,
    bytes_per_second: u64,
    /// Since when bytes are counted, and how many there were.
    begun: Instant,
    read: u64,
}

impl<N: Nodes> Source<N> {
    async fn new(nodes: N, bytes_per_second: u64) -> Result<Self, AppError> {
        let (now, leaders, doors) = (Instant::now(), BTreeMap::new(), Vec::new());
        let mut source = Self { nodes, refreshed: now, leaders, doors, bytes_per_second, begun: now, read: 0 };
        source.look().await?;
        Ok(source)
    }

    /// Looks anew who leads what.
    async fn look(&mut self) -> Result<(), AppError> {
        let view = self.nodes.view().await?;
        let empty = Vec::new();
        let rows = |name: &str| view[name].as_array().unwrap_or(&empty).iter();
        let apis: BTreeMap<u64, String> = rows("nodes")
            .filter_map(|node| Some((node["id"].as_u64()?, node["api"].as_str()?.trim_end_matches('/').to_owned())))
            .collect();
        let leader = |shard: &Value| {
            let id = u16::try_from(shard["id"].as_u64()?).ok()?;
            Some((ShardId(id), apis.get(&shard["leader"].as_u64()?)?.clone()))
        };
        self.leaders = rows("shards").filter_map(leader).collect();
        let named = self.nodes.named();
        self.doors = apis.into_values().filter(|api| !named.contains(api)).collect();
        self.doors.splice(0..0, named);
        self.refreshed = Instant::now();
        Ok(())
    }

    async fn identity(&mut self) -> Result<Identity, AppError> {
        for node in self.doors.clone() {
            if let Some(Copied::Identity(identity)) = self.ask(&node, "/v1/ops/backup").await? {
                return Ok(identity);
            }
        }
        Err(AppError::Cluster("no node gives the cluster's keys: is its build older than this one?".to_owned()))
    }

    /// One answer, no faster than the rate allows; `None` when there is none, or one that was damaged on its way.
    async fn ask(&mut self, node: &str, path: &str) -> Result<Option<Copied>, AppError> {
        let due = self.begun + Duration::from_millis(self.read.saturating_mul(1_000) / self.bytes_per_second);
        if due < Instant::now() {
            // What it did not read it may not catch up with.
            (self.begun, self.read) = (Instant::now(), 0);
        }
        tokio::time::sleep_until(due).await;
        if self.refreshed.elapsed() > REFRESH_EVERY {
            self.look().await?;
        }
        let Some(bytes) = self.nodes.bytes(node, path).await? else { return Ok(None) };
        self.read += bytes.len() as u64;
        Ok(Copied::decode(&bytes))
    }

    /// Asks the leader of a shard, wherever it is by now. Answers with the node too.
    async fn ask_leader(&mut self, shard: ShardId, path: &str) -> Result<(String, Copied), AppError> {
        for _ in 0..LOOKS_MAX {
            let known = self.leaders.get(&shard).cloned();
            let others = self.doors.iter().filter(|node| Some(*node) != known.as_ref());
            let tried: Vec<String> = known.iter().chain(others).cloned().collect();
            for node in tried {
                match self.ask(&node, path).await? {
                    None | Some(Copied::Elsewhere | Copied::Identity(_)) => {}
                    Some(copied @ (Copied::Rows(_) | Copied::Log(_) | Copied::Lost)) => {
                        self.leaders.insert(shard, node.clone());
                        return Ok((node, copied));
                    }
                }
            }
            tokio::time::sleep(LOOK_EVERY).await;
            // A cluster that does not answer now may do so at the next look.
            let _silent = self.look().await;
        }
        Err(AppError::Cluster(format!("shard {shard} has no leader that answers at {}", self.doors.join(", "))))
    }
}

/// A backup under way.
struct Copy<N> {
    source: Source<N>,
    writer: BackupWriter,
    /// Shards whose rows are there.
    scanned: BTreeSet<ShardId>,
    followed: Instant,
}

impl<N: Nodes> Copy<N> {
    /// Every shard's rows, and in the end all their logs up to about the same instant.
    async fn all(&mut self, shards: u16) -> Result<(), AppError> {
        for _ in 0..ROUNDS_MAX {
            for shard in (0..shards).map(ShardId) {
                if !self.scanned.contains(&shard) {
                    self.scan(shard).await?;
                }
            }
            self.follow().await?;
            if self.scanned.len() == usize::from(shards) {
                return Ok(());
            }
        }
        let why = "the logs are purged faster than they can be followed: try again at a quieter time, or with a higher --rate-mib";
        Err(AppError::Cluster(why.to_owned()))
    }

    async fn scan(&mut self, shard: ShardId) -> Result<(), AppError> {
        for _ in 0..ATTEMPTS_MAX {
            match self.scan_once(shard).await {
                Ok(()) => {
                    self.scanned.insert(shard);
                    return Ok(());
                }
                Err(Broken::Again(why)) => eprintln!("shard {shard}: {why}; it is begun again"),
                Err(Broken::Fatal(error)) => return Err(error),
            }
        }
        Err(AppError::Cluster(format!("shard {shard} could not be copied in one go: does another backup run?")))
    }

    async fn scan_once(&mut self, shard: ShardId) -> Result<(), Broken> {
        let base = format!("/v1/ops/backup/shards/{shard}/rows");
        let (node, first) = self.source.ask_leader(shard, &base).await?;
        let mut page = as_rows(Some(first))?;
        let mut rows = self.writer.begin_shard(shard, page.applied)?;
        loop {
            let next = page.next.clone();
            if !self.writer.rows(&mut rows, page)? {
                return Err(Broken::Again("a page did not follow"));
            }
            let Some(cursor) = next else { break };
            if self.followed.elapsed() > FOLLOW_EVERY {
                self.follow().await?;
                self.follow_one(shard).await?;
            }
            let path = format!("{base}?cursor={}", hex::encode(cursor));
            let mut answer = self.source.ask(&node, &path).await?;
            if answer.is_none() {
                // Busy, or a cut connection: the page is still there unless the node went on with it.
                tokio::time::sleep(LOOK_EVERY).await;
                answer = self.source.ask(&node, &path).await?;
            }
            page = as_rows(answer)?;
        }
        self.writer.end_shard(rows)?;
        Ok(())
    }

    /// Follows the logs of all scanned shards. One whose log was lost is no longer scanned.
    async fn follow(&mut self) -> Result<(), AppError> {
        for shard in self.scanned.clone() {
            match self.follow_one(shard).await {
                Ok(()) => {}
                Err(Broken::Again(why)) => {
                    eprintln!("shard {shard}: {why}; it is begun again");
                    self.scanned.remove(&shard);
                }
                Err(Broken::Fatal(error)) => return Err(error),
            }
        }
        self.followed = Instant::now();
        Ok(())
    }

    /// Up to what was committed when it began.
    async fn follow_one(&mut self, shard: ShardId) -> Result<(), Broken> {
        let (mut goal, mut stuck) = (None, 0);
        while stuck < LOOKS_MAX {
            let after = self.writer.facts(shard).map_or(LogIndex(0), |facts| facts.reached);
            let path = format!("/v1/ops/backup/shards/{shard}/log?after={after}");
            let page = as_log(self.source.ask_leader(shard, &path).await?.1)?;
            let goal = *goal.get_or_insert(page.committed);
            let empty = page.entries.is_empty();
            if !self.writer.tail(shard, page)? {
                return Err(Broken::Again("entries did not follow"));
            }
            if self.writer.facts(shard).is_some_and(|facts| facts.reached >= goal) {
                return Ok(());
            }
            if empty {
                // Committed by the others, not yet on this leader's disk.
                stuck += 1;
                tokio::time::sleep(LOOK_EVERY / 10).await;
            }
        }
        Err(Broken::Again("its log does not go on"))
    }
}

fn as_rows(copied: Option<Copied>) -> Result<RowsPage, Broken> {
    match copied {
        Some(Copied::Rows(page)) => Ok(page),
        Some(Copied::Lost) => Err(Broken::Again("its rows are no longer held")),
        Some(Copied::Identity(_) | Copied::Log(_) | Copied::Elsewhere) | None => {
            Err(Broken::Again("its node no longer answers"))
        }
    }
}

fn as_log(copied: Copied) -> Result<LogPage, Broken> {
    match copied {
        Copied::Log(page) => Ok(page),
        Copied::Lost => Err(Broken::Again("its log was purged before it was copied")),
        Copied::Identity(_) | Copied::Rows(_) | Copied::Elsewhere => Err(Broken::Again("its node no longer answers")),
    }
}

#[cfg(test)]
#[path = "backup_tests.rs"]
mod tests;

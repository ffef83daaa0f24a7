//! The command line.

use crate::chaos::ChaosCommand;
use crate::load::LoadArgs;
use crate::simulation::SimulateArgs;
use crate::types::level::Levels;
use clap::{Args, Parser, Subcommand};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

/// Scheduled gifts on an actor cluster.
#[derive(Parser, Debug)]
#[command(name = "bojagi", version, about, propagate_version = true)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Subcommand, Debug)]
pub enum Command {
    /// One node with an embedded store, the provider sandbox and ready-made tokens: nothing else to install.
    Dev(DevArgs),
    /// Tells the life of a gift step by step against a node of its own.
    Demo,
    /// A node for production.
    Serve(ServeArgs),
    /// The providers' other side: speaks their protocols, keeps a ledger, makes faults to order.
    Sandbox(SandboxArgs),
    /// Mints a token with the configured key.
    Token(TokenArgs),
    /// Loads a node through its front door and reads the outcome from the sandbox's ledger.
    Load(Box<LoadArgs>),
    /// Faults in the middle of a peak, judged by the providers' ledger.
    #[command(subcommand)]
    Chaos(ChaosCommand),
    /// Whole clusters in one thread under faults of every kind, from a seed, judged by the invariants.
    Simulate(SimulateArgs),
    /// Membership of a cluster: look, move, join, leave.
    #[command(subcommand)]
    Cluster(ClusterCommand),
    /// Copies a stopped node's data folder into one checksummed file, the data keys into another.
    Backup(BackupArgs),
    /// Makes a new data folder from a backup.
    Restore(RestoreArgs),
    /// Checks every row of a stopped node's data folder, and compares the derived rows with the states.
    Verify(FolderArgs),
    /// The keys over all personal data.
    #[command(subcommand)]
    Vault(VaultCommand),
    /// Rescues what can be read of a damaged data folder, and says what is lost.
    Salvage(SalvageArgs),
}

#[derive(Args, Debug)]
pub struct DevArgs {
    /// Data folder, made when missing.
    #[arg(long, default_value = "data/dev")]
    pub data: PathBuf,
    /// Port of the API on 127.0.0.1.
    #[arg(long, default_value_t = 8080)]
    pub port: u16,
    /// Port of the sandbox on 127.0.0.1; its SMTP port is the next one.
    #[arg(long, default_value_t = 8090)]
    pub sandbox_port: u16,
    /// Uses a sandbox that already runs on the sandbox port instead of starting one.
    #[arg(long)]
    pub no_sandbox: bool,
    /// Number of shards of a new data folder.
    #[arg(long, default_value_t = 64)]
    pub shards: u16,
    /// Nodes, each a process of its own; their APIs listen on the port and the ones after it.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=9))]
    pub nodes: u16,
    /// Port of the first node's links to the others on 127.0.0.1, with more than one node.
    #[arg(long, default_value_t = 8100)]
    pub cluster_port: u16,
    /// Runs as one node of several.
    #[arg(long, hide = true)]
    pub member: Option<u16>,
    /// Runs as a node whose clock is off by so many milliseconds.
    #[arg(long, hide = true, default_value_t = 0, allow_hyphen_values = true)]
    pub clock_skew_ms: i64,
    /// Dials the first node's links at this port, the others' at the ports after it: proxies of a chaos run.
    #[arg(long, hide = true)]
    pub links_via: Option<u16>,
    /// Gifts of one shard that leave in one call to the Kakao provider, at most; 1: each alone.
    #[arg(long, value_name = "N")]
    pub kakao_batch: Option<u32>,
    /// Nodes are in this network instead of on 127.0.0.1, node 1 at its first address and so on, the sandbox at .254: the
    /// namespaces of a chaos run.
    #[arg(long, hide = true)]
    pub subnet: Option<Ipv4Addr>,
    /// Plays a build that knows these feature levels only, as 1-1.
    #[arg(long, hide = true)]
    pub feature_levels: Option<Levels>,
    /// Cache of the state store in MiB.
    #[arg(long, default_value_t = 128)]
    pub cache_mib: u64,
    /// A Redis that gets the event stream and keeps the quotas of all nodes, as redis://127.0.0.1:6379.
    #[arg(long, value_name = "URL")]
    pub redis: Option<String>,
}

impl DevArgs {
    /// The address of a node, from 1.
    #[must_use]
    pub fn host(&self, member: u16) -> Ipv4Addr {
        self.in_subnet(u8::try_from(member).unwrap_or(0))
    }

    #[must_use]
    pub fn sandbox_host(&self) -> Ipv4Addr {
        self.in_subnet(254)
    }

    fn in_subnet(&self, last: u8) -> Ipv4Addr {
        self.subnet.map_or(Ipv4Addr::LOCALHOST, |subnet| {
            let [a, b, c, _] = subnet.octets();
            Ipv4Addr::new(a, b, c, last)
        })
    }
}

#[derive(Args, Debug)]
pub struct ServeArgs {
    /// Configuration file (see cluster-config/).
    #[arg(long)]
    pub config: PathBuf,
}

#[derive(Args, Debug)]
pub struct SandboxArgs {
    #[arg(long, default_value = "127.0.0.1:8090")]
    pub http: SocketAddr,
    #[arg(long, default_value = "127.0.0.1:8091")]
    pub smtp: SocketAddr,
    #[arg(long, default_value = "data/sandbox")]
    pub data: PathBuf,
    /// Base URL of a node that gets the webhooks; may be given several times.
    #[arg(long)]
    pub webhook: Vec<String>,
    /// The dev folder's clock; without it the sandbox runs on the system's.
    #[arg(long)]
    pub clock: Option<PathBuf>,
    /// Seed of the faults' dice.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Ends when its standard input is closed.
    #[arg(long, hide = true)]
    pub until_stdin_closes: bool,
}

#[derive(Args, Debug)]
pub struct TokenArgs {
    /// user, merchant or operator.
    #[arg(long)]
    pub role: String,
    /// Subject of the token.
    #[arg(long)]
    pub sub: String,
    /// Life in seconds.
    #[arg(long, default_value_t = 86_400)]
    pub seconds: u64,
    /// File with the key; the dev folder's by default.
    #[arg(long, default_value = "data/dev/keys/jwt.key")]
    pub key_file: PathBuf,
}

#[derive(Subcommand, Debug)]
pub enum VaultCommand {
    /// Wraps all data keys of a stopped node under a new period key and drops the old ones: what was erased before is
    /// erased for good, on old media and backups of the folder too.
    Rotate(FolderArgs),
}

/// A data folder and the key it was made with.
#[derive(Args, Debug)]
pub struct FolderArgs {
    /// The data folder (of `bojagi dev`: its `node` folder).
    #[arg(long)]
    pub data: PathBuf,
    /// File with the master key; by default `keys/master.key` beside the data folder, as `bojagi dev` keeps it.
    #[arg(long)]
    pub master_key_file: Option<PathBuf>,
}

#[derive(Args, Debug)]
pub struct BackupArgs {
    #[command(flatten)]
    pub folder: FolderArgs,
    /// The backup file.
    #[arg(long)]
    pub to: PathBuf,
    /// File for the wrapped data keys: keep it apart, so that an erased gift stays erased.
    #[arg(long)]
    pub keys_to: PathBuf,
}

#[derive(Args, Debug)]
pub struct RestoreArgs {
    /// `--data` is a folder that does not exist yet.
    #[command(flatten)]
    pub folder: FolderArgs,
    /// The backup file.
    #[arg(long)]
    pub from: PathBuf,
    /// File with the data keys. Without it personal data stays sealed and all links are dead.
    #[arg(long, required_unless_present = "without_keys")]
    pub keys: Option<PathBuf>,
    /// Restores without data keys.
    #[arg(long, conflicts_with = "keys")]
    pub without_keys: bool,
}

#[derive(Args, Debug)]
pub struct SalvageArgs {
    #[command(flatten)]
    pub folder: FolderArgs,
    /// A folder that does not exist yet, for what is rescued; needs `--accept-loss`.
    #[arg(long, requires = "accept_loss")]
    pub to: Option<PathBuf>,
    /// Gives up acknowledged writes that cannot be read. Without it the losses are only listed.
    #[arg(long, requires = "to")]
    pub accept_loss: bool,
}

/// How to reach the cluster.
#[derive(Args, Debug)]
pub struct ClusterApi {
    /// Base URL of a node's API; several may be given, the first that answers is used.
    #[arg(long, default_value = "http://127.0.0.1:8080")]
    pub api: Vec<String>,
    /// An operator's token; by default one is minted with the key file.
    #[arg(long, env = "BOJAGI_TOKEN", hide_env_values = true)]
    pub token: Option<String>,
    /// File with the key that signs tokens; the dev folder's by default.
    #[arg(long, default_value = "data/dev/keys/jwt.key")]
    pub key_file: PathBuf,
}

#[derive(Args, Debug)]
pub struct Confirm {
    /// Does not ask.
    #[arg(long)]
    pub yes: bool,
}

#[derive(Args, Debug)]
pub struct CertsArgs {
    /// Folder of the CA and the certificates; kept off the nodes.
    #[arg(long, default_value = "certs")]
    pub dir: PathBuf,
    /// The cluster's name, where there is no CA yet: 1 to 40 lower-case letters, digits and inner hyphens.
    #[arg(long)]
    pub cluster: Option<String>,
    /// Name of a node that gets a certificate; may be given several times.
    #[arg(long = "node")]
    pub nodes: Vec<String>,
    /// A host name or address put into the certificates for other tools; links check the node's name alone.
    #[arg(long = "host")]
    pub hosts: Vec<String>,
}

#[derive(Args, Debug)]
pub struct InitArgs {
    /// Configuration file of the first node, with a [cluster] section.
    #[arg(long)]
    pub config: PathBuf,
}

#[derive(Args, Debug)]
pub struct JoinArgs {
    /// Configuration file of the new node, with a [cluster] section.
    #[arg(long)]
    pub config: PathBuf,
    /// `host:port` of the links of any member.
    #[arg(long)]
    pub via: String,
    /// The one-time token of `bojagi cluster token`; by default it is read from standard input.
    #[arg(long, env = "BOJAGI_JOIN_TOKEN", hide_env_values = true)]
    pub token: Option<String>,
}

#[derive(Args, Debug)]
pub struct ClusterBackupArgs {
    #[command(flatten)]
    pub api: ClusterApi,
    /// The backup: a folder that does not exist yet.
    #[arg(long)]
    pub to: PathBuf,
    /// File for the wrapped data keys: keep it apart, so that an erased gift stays erased.
    #[arg(long)]
    pub keys_to: PathBuf,
    /// What it may read in a second, in MiB, so that it does not get in the way of a peak.
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u32).range(1..=4_096))]
    pub rate_mib: u32,
}

#[derive(Args, Debug)]
pub struct ClusterRestoreArgs {
    /// The backup, a folder.
    #[arg(long)]
    pub from: PathBuf,
    /// The file with the data keys that was made with it.
    #[arg(long)]
    pub keys: PathBuf,
    /// Configuration of the new cluster's first node; it names the data folder and the master key.
    #[arg(long, required_unless_present = "data", conflicts_with_all = ["data", "master_key_file"])]
    pub config: Option<PathBuf>,
    /// Data folder of the new cluster's first node; it does not exist yet.
    #[arg(long)]
    pub data: Option<PathBuf>,
    /// File with the master key of the cluster that was backed up; by default `keys/master.key` beside the data folder.
    #[arg(long)]
    pub master_key_file: Option<PathBuf>,
    #[command(flatten)]
    pub confirm: Confirm,
}

#[derive(Subcommand, Debug)]
pub enum ClusterCommand {
    /// Makes the cluster's CA, and a certificate for each node named.
    Certs(CertsArgs),
    /// Founds a cluster: makes the first node's data folder and the cluster's secrets. Nothing else ever does.
    Init(InitArgs),
    /// Makes the data folder of a node that joins.
    Join(JoinArgs),
    /// Nodes, zones, shards, leaders, lag.
    Status {
        #[command(flatten)]
        api: ClusterApi,
        /// The whole view as JSON.
        #[arg(long)]
        json: bool,
    },
    /// Every shard with its leader, replicas and lag.
    Shards {
        #[command(flatten)]
        api: ClusterApi,
        /// The whole view as JSON.
        #[arg(long)]
        json: bool,
    },
    /// The same, live.
    Watch {
        #[command(flatten)]
        api: ClusterApi,
    },
    /// A one-time token for a node that is to join.
    Token {
        #[command(flatten)]
        api: ClusterApi,
        /// How long it is good.
        #[arg(long, default_value_t = 600)]
        seconds: u32,
    },
    /// Moves leaders and replicas off a node.
    Drain {
        #[command(flatten)]
        api: ClusterApi,
        /// Number of the node.
        node: u64,
        /// Ends the draining.
        #[arg(long)]
        undo: bool,
        #[command(flatten)]
        confirm: Confirm,
    },
    /// Takes a node out for good.
    Remove {
        #[command(flatten)]
        api: ClusterApi,
        /// Number of the node.
        node: u64,
        /// Although replicas are still noted there; the node must be gone.
        #[arg(long)]
        force: bool,
        #[command(flatten)]
        confirm: Confirm,
    },
    /// Hands the leadership of a shard to another of its nodes.
    Transfer {
        #[command(flatten)]
        api: ClusterApi,
        shard: u16,
        /// Number of the node.
        to: u64,
    },
    /// Looks for better places for replicas and leaders now.
    Rebalance {
        #[command(flatten)]
        api: ClusterApi,
    },
    /// Copies the whole cluster while it serves: rows and log into a folder, the data keys into a file.
    Backup(ClusterBackupArgs),
    /// Makes the first node's data folder of a new cluster from a backup of another.
    Restore(ClusterRestoreArgs),
    /// Raises the feature level once all members run the newer build.
    FinalizeUpgrade {
        #[command(flatten)]
        api: ClusterApi,
        #[command(flatten)]
        confirm: Confirm,
    },
}

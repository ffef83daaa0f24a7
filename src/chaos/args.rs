//! The command line of `bojagi chaos`.

use crate::chaos::nemesis::Nemesis;
use clap::{Args, Subcommand};
use std::path::PathBuf;

#[derive(Subcommand, Clone, Debug)]
pub enum ChaosCommand {
    /// Starts a cluster and the sandbox, and lets a fault loose in the middle of each of several bursts
    Run(RunArgs),
}

#[derive(Args, Clone, Debug)]
pub struct RunArgs {
    /// Nodes, each a process of its own
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..=9))]
    pub nodes: u16,
    /// Gifts that fall due at one instant, in each round
    #[arg(long, default_value_t = 20_000)]
    pub gifts: u64,
    /// Bursts, each with one fault
    #[arg(long, default_value_t = 1)]
    pub rounds: u32,
    /// The fault
    #[arg(long, value_enum, default_value_t = Nemesis::KillBusiest)]
    pub nemesis: Nemesis,
    /// Seconds until a killed node is started again, a paused one goes on
    #[arg(long, default_value_t = 8)]
    pub heal_after: u64,
    /// Part of the burst that is delivered before the fault, drawn from this range
    #[arg(long, value_name = "PERCENT", num_args = 2, default_values_t = [10, 40])]
    pub after_percent: Vec<u64>,
    /// Reservations a second that go on through the fault, at all nodes; 0 for none
    #[arg(long, default_value_t = 100)]
    pub reserve_rate: u32,
    /// What the messages' provider takes for each call; with it, how many calls are open at any time
    #[arg(long, value_name = "MS", default_value_t = 100)]
    pub provider_latency_ms: u64,
    /// Fixes when in each burst the fault comes
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Connections of the clients that reserve
    #[arg(long, default_value_t = 64)]
    pub concurrency: u32,
    #[arg(long, default_value_t = 64)]
    pub shards: u16,
    /// Folder for data and logs; a new one. It stays
    #[arg(long, default_value = "data/chaos")]
    pub data: PathBuf,
    /// First of the ports: APIs here, links at +100, the sandbox at +50
    #[arg(long, default_value_t = 18_000)]
    pub port: u16,
    /// File for the report as JSON
    #[arg(long)]
    pub out: Option<PathBuf>,
}

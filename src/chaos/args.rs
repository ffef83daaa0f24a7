//! The command line of `bojagi chaos`.

use crate::chaos::links::Names;
use crate::chaos::nemesis::Nemesis;
use crate::chaos::profile::Profile;
use clap::{Args, Subcommand, ValueEnum};
use std::net::Ipv4Addr;
use std::path::PathBuf;

#[derive(Subcommand, Clone, Debug)]
pub enum ChaosCommand {
    /// Starts a cluster and the sandbox, and lets a fault loose in the middle of each of several bursts
    Run(RunArgs),
    /// Removes the namespaces and links that runs of level b left behind which were killed
    Clean,
    /// Sums the reports of recorded runs of one build into one
    Merge(MergeArgs),
    /// Reads the disks of a run's stopped nodes beside the sandbox's ledger, and checks every invariant; a run ends with it
    Audit(AuditArgs),
}

#[derive(Args, Clone, Debug)]
pub struct AuditArgs {
    /// The run's data folder; none of its nodes may run
    #[arg(long, default_value = "data/chaos")]
    pub data: PathBuf,
    /// The sandbox that the run had: `bojagi sandbox --data DIR/sandbox --clock DIR/clock`, if it has ended
    #[arg(long, value_name = "URL")]
    pub sandbox: String,
    /// The verdict as JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(Args, Clone, Debug)]
pub struct MergeArgs {
    /// report.json of each run, or the folder that it lies in
    #[arg(required = true, value_name = "REPORT")]
    pub reports: Vec<PathBuf>,
    /// Folder for report.json and report.html of the sum
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
}

/// What the links between nodes are made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Level {
    /// Loopback, through proxies: needs nothing
    A,
    /// A network namespace for each node: needs root and `ip`
    B,
}

#[derive(Args, Clone, Debug)]
pub struct RunArgs {
    /// What the links between nodes are made of
    #[arg(long, value_enum, default_value_t = Level::A)]
    pub level: Level,
    /// Nodes, each a process of its own
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..=9))]
    pub nodes: u16,
    /// Gifts of each burst
    #[arg(long, default_value_t = 20_000)]
    pub gifts: u64,
    /// When they fall due
    #[arg(long, value_enum, default_value_t = Profile::Midnight)]
    pub profile: Profile,
    /// Gifts that fall due each second of the profile `steady`
    #[arg(long, value_name = "GIFTS", default_value_t = 300, value_parser = clap::value_parser!(u32).range(1..))]
    pub due_rate: u32,
    /// Bursts, each with one fault
    #[arg(long, default_value_t = 1)]
    pub rounds: u32,
    /// Only this one of the rounds: the same is done in it
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u32).range(1..))]
    pub only_round: Option<u32>,
    /// The fault, or two at the same time as one+other
    #[arg(long, value_enum, value_delimiter = '+', default_value = "kill-busiest")]
    pub nemesis: Vec<Nemesis>,
    /// Seconds that a fault lasts: until a killed node is started again, a cut link mended
    #[arg(long, default_value_t = 8)]
    pub heal_after: u64,
    /// Seconds from each kill of `kill-again` to the next, or longer until the cluster has recovered
    #[arg(long, value_name = "SECONDS", default_value_t = 7, value_parser = clap::value_parser!(u64).range(1..))]
    pub every: u64,
    /// Part of the burst that is delivered before the fault, drawn from this range
    #[arg(long, value_name = "PERCENT", num_args = 2, default_values_t = [10, 40])]
    pub after_percent: Vec<u64>,
    /// Reservations a second that go on through the fault, at all nodes; 0 for none
    #[arg(long, default_value_t = 100)]
    pub reserve_rate: u32,
    /// What the messages' provider takes for each call; with it, how many calls are open at any time
    #[arg(long, value_name = "MS", default_value_t = 100)]
    pub provider_latency_ms: u64,
    /// Of 100 calls that the messages' provider accepts, so many end with their connection and no answer, all the time
    #[arg(long, value_name = "PERCENT", default_value_t = 0, value_parser = clap::value_parser!(u8).range(0..=50))]
    pub lost_replies: u8,
    /// Of 100 calls that the messages' provider accepts, so many are never answered while the connection stays, so that they
    /// time out, all the time
    #[arg(long, value_name = "PERCENT", default_value_t = 0, value_parser = clap::value_parser!(u8).range(0..=50))]
    pub hung_replies: u8,
    /// Fixes what each round does, to which nodes, and when
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
    /// First of the ports: APIs here, the sandbox at +50, Redis at +60, links at +100, proxies before them at +200
    #[arg(long, default_value_t = 18_000)]
    pub port: u16,
    /// Folder for report.json and report.html, written after each round [default: `report` in the data folder]
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// Goes on with a recorded campaign of the same build and options, up to --rounds
    #[arg(long, value_name = "REPORT", conflicts_with = "only_round")]
    pub resume: Option<PathBuf>,
}

impl RunArgs {
    /// Where a node listens.
    #[must_use]
    pub fn host(&self, node: u16) -> Ipv4Addr {
        match self.level {
            Level::A => Ipv4Addr::LOCALHOST,
            Level::B => Names::of(self.port).host(node),
        }
    }

    /// Where the sandbox does.
    #[must_use]
    pub fn sandbox_host(&self) -> Ipv4Addr {
        match self.level {
            Level::A => Ipv4Addr::LOCALHOST,
            Level::B => Names::of(self.port).outside(),
        }
    }

    /// The API of a node.
    #[must_use]
    pub fn api_url(&self, node: u16) -> String {
        format!("http://{}:{}", self.host(node), self.port + node - 1)
    }

    /// When the gifts of a burst fall due: milliseconds from its instant, for each in turn.
    #[must_use]
    pub fn offsets_ms(&self) -> Vec<i64> {
        self.profile.offsets_ms(self.gifts, self.due_rate)
    }

    /// From the first gift of a burst to its instant, in seconds, and from the instant to the last.
    #[must_use]
    pub fn reach_s(&self) -> (u64, u64) {
        self.profile.reach_s(self.gifts, self.due_rate)
    }

    /// The nemeses as on the command line.
    #[must_use]
    pub fn nemesis_name(&self) -> String {
        self.nemesis.iter().map(|nemesis| nemesis.name()).collect::<Vec<_>>().join("+")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        run: RunArgs,
    }

    #[test]
    fn one_nemesis_or_two_are_named() {
        let named = |words: &[&str]| Line::parse_from(words).run.nemesis_name();
        assert_eq!(named(&["run"]), "kill-busiest");
        assert_eq!(named(&["run", "--nemesis", "cut-out+provider-timeouts"]), "cut-out+provider-timeouts");
        assert!(Line::try_parse_from(["run", "--nemesis", "meteor"]).is_err());
    }
}

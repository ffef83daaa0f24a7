//! `bojagi simulate`: seeds one after the other until so many cluster-hours are through, or so many seeds on all cores; to
//! the first violation.

use crate::simulation::campaign::{Campaign, Summary, rerun};
use crate::simulation::options::QUIET_MINUTES;
use crate::simulation::{Options, Outcome, Tracing, run};
use clap::Args;
use std::num::NonZero;
use std::path::PathBuf;
use std::thread::available_parallelism;

/// What of each seed is simulated with faults, in minutes, unless asked for otherwise.
const MINUTES: u64 = 60;
/// The least of it that is left where hours are shared out.
const MINUTES_MIN: u64 = 5;

/// Simulates whole clusters under faults; the same seed does the same again.
#[derive(Args, Clone, Debug)]
pub struct SimulateArgs {
    /// The first seed; the next ones follow.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Cluster-hours to simulate, in whole seeds.
    #[arg(long, default_value_t = 2.0, conflicts_with = "seeds")]
    pub hours: f64,
    /// Seeds to simulate, on all cores.
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    pub seeds: Option<u64>,
    /// So many of the seeds run twice and have to do the same, byte for byte.
    #[arg(long, default_value_t = 0, requires = "seeds")]
    pub twice: u64,
    /// Cluster-hours that all runs share, second ones too.
    #[arg(long, requires = "seeds", conflicts_with = "minutes")]
    pub hours_total: Option<f64>,
    /// Minutes with faults of each seed; then everything heals and has to come to rest.
    #[arg(long, default_value_t = MINUTES, value_parser = clap::value_parser!(u64).range(1..=100_000))]
    pub minutes: u64,
    /// Seeds that run at the same time, each in a thread of its own; all cores unless said otherwise.
    #[arg(long, requires = "seeds")]
    pub jobs: Option<NonZero<usize>>,
    /// Where to write how often each class of faults struck, and how often each two of them met (comma-separated values).
    #[arg(long, requires = "seeds", value_name = "FILE")]
    pub coverage: Option<PathBuf>,
    /// Fails too when a class of faults never struck, or when there are too few faults or gifts in an hour.
    #[arg(long, requires = "seeds")]
    pub strict: bool,
    /// Prints the whole trace of a seed that violates something, some 100,000 lines for a file; without this and with --seeds its
    /// last lines
    #[arg(long)]
    pub traced: bool,
}

impl SimulateArgs {
    /// Runs the seeds. `say` gets a line for each; `core_seconds` says what the calling thread spent so far.
    ///
    /// # Errors
    /// The violation, with the command that repeats it; with `strict`, what the seeds fall short of; the file for the coverage
    /// cannot be written.
    pub fn simulate(
        &self,
        mut say: impl FnMut(&str),
        core_seconds: impl Fn() -> f64 + Sync,
    ) -> Result<Outcome, String> {
        if let Some(seeds) = self.seeds {
            return self.campaign(seeds, say, core_seconds);
        }
        let mut sum = Outcome::default();
        let mut seed = self.seed;
        while sum.hours() < self.hours {
            let (options, again) = (self.options(seed), rerun(seed, self.minutes));
            say(&format!("{options}; {again}"));
            let one = run(&options, self.tracing()).map_err(|violation| format!("{violation}\n{again}"))?;
            sum.add(&one);
            seed += 1;
        }
        say(&format!("seeds {}..{seed} of whole clusters", self.seed));
        say(&sum.closing_lines(core_seconds()));
        Ok(sum)
    }

    fn tracing(&self) -> Tracing {
        if self.traced { Tracing::Whole } else { Tracing::Off }
    }

    /// What a seed of these is made of.
    #[must_use]
    pub fn options(&self, seed: u64) -> Options {
        Options::of_seed(seed, self.minutes_each())
    }

    fn campaign(
        &self,
        seeds: u64,
        mut say: impl FnMut(&str),
        core_seconds: impl Fn() -> f64 + Sync,
    ) -> Result<Outcome, String> {
        let threads = self.jobs.or_else(|| available_parallelism().ok()).map_or(1, NonZero::get);
        let (twice, minutes) = (self.twice.min(seeds), self.minutes_each());
        let campaign = Campaign { seeds: self.seed..self.seed + seeds, twice, minutes, threads };
        for seed in campaign.seeds.clone() {
            say(&format!("{}; {}", self.options(seed), rerun(seed, minutes)));
        }
        let summary = campaign.run(self.tracing(), core_seconds)?;
        say(&summary.closing_lines(self.seed));
        self.settle(&summary)?;
        Ok(summary.sum)
    }

    /// What is to be kept and held of a campaign without a violation.
    fn settle(&self, summary: &Summary) -> Result<(), String> {
        if let Some(path) = &self.coverage {
            let written = std::fs::write(path, summary.sum.coverage.to_csv());
            written.map_err(|error| format!("{}: {error}", path.display()))?;
        }
        let shortfalls = summary.shortfalls();
        if self.strict && !shortfalls.is_empty() { Err(shortfalls.join("\n")) } else { Ok(()) }
    }

    /// Minutes with faults of each run.
    fn minutes_each(&self) -> u64 {
        let (Some(hours), Some(seeds)) = (self.hours_total, self.seeds) else { return self.minutes };
        let runs = seeds + self.twice.min(seeds);
        // A negative or absurd number of hours is as good as none.
        let minutes = (hours * 60.0 / runs as f64).clamp(0.0, 100_000.0) as u64;
        minutes.saturating_sub(QUIET_MINUTES).max(MINUTES_MIN)
    }
}

//! `bojagi simulate`: seeds one after the other until so many cluster-hours are through, or the first violation.

use crate::simulation::{Options, Outcome, run};
use clap::Args;

/// What of each seed is simulated with faults, in minutes, unless asked for otherwise.
const MINUTES: u64 = 60;

/// Simulates whole clusters under faults; the same seed does the same again.
#[derive(Args, Clone, Copy, Debug)]
pub struct SimulateArgs {
    /// The first seed; the next ones follow.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Cluster-hours to simulate, in whole seeds.
    #[arg(long, default_value_t = 2.0)]
    pub hours: f64,
    /// Minutes with faults of each seed; then everything heals and has to come to rest.
    #[arg(long, default_value_t = MINUTES, value_parser = clap::value_parser!(u64).range(1..=100_000))]
    pub minutes: u64,
    /// Prints the last lines of the trace before a violation.
    #[arg(long)]
    pub traced: bool,
}

impl SimulateArgs {
    /// Runs the seeds. `say` gets a line before each; `core_seconds` says what was spent so far.
    ///
    /// # Errors
    /// The violation, with the command that repeats it.
    pub fn simulate(&self, mut say: impl FnMut(&str), core_seconds: impl Fn() -> f64) -> Result<Outcome, String> {
        let mut sum = Outcome::default();
        let mut seed = self.seed;
        while sum.hours() < self.hours {
            let options = Options::of_seed(seed, self.minutes);
            say(&options.to_string());
            let one = run(&options, self.traced).map_err(|violation| {
                format!(
                    "{violation}\nrerun: bojagi simulate --seed {seed} --hours 0.1 --minutes {} --traced",
                    self.minutes
                )
            })?;
            sum.add(&one);
            seed += 1;
        }
        say(&format!("seeds {}..{seed} of whole clusters", self.seed));
        say(&sum.closing_lines(core_seconds()));
        Ok(sum)
    }
}

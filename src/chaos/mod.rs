//! `bojagi chaos run`: a cluster of real processes, a burst through its front door, a fault in the middle of it, and the
//! providers' ledger as the judge.
//!
//! | file | what |
//! |---|---|
//! | `args` | the command line |
//! | `stand` | the cluster and the sandbox: started, watched, signalled. Only processes that were started here |
//! | `nemesis` | the faults |
//! | `round` | one burst with one fault |
//! | `happening` | what was done to which part of the stand, and when, as plain data |
//! | `failover` | from the fault to the next send of each shard that the victims led |
//! | `report` | what came of it, for people and as JSON |
//! | `checkers` | the invariants over a history; the simulator's too |

mod args;
pub mod checkers;
mod failover;
pub mod happening;
mod nemesis;
mod report;
mod round;
mod stand;

pub use args::{ChaosCommand, RunArgs};
pub use report::ChaosReport;

use crate::load::LoadError;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

/// Why a run could not be made. What was started is stopped.
#[derive(Debug, thiserror::Error)]
pub enum ChaosError {
    #[error("{what}: {cause}")]
    Io { what: String, cause: std::io::Error },
    #[error(transparent)]
    Load(#[from] LoadError),
    /// The cluster did not do what a round needs.
    #[error("{0}")]
    Stand(String),
}

/// Runs all rounds. The caller prints the report and ends with a failure unless [`ChaosReport::passed`].
///
/// # Errors
/// [`ChaosError`]; a round that went wrong for the product is no error but a part of the report.
pub async fn run(args: RunArgs) -> Result<ChaosReport, ChaosError> {
    let mut dice = ChaCha8Rng::seed_from_u64(args.seed);
    let stand = stand::Stand::start(&args).await?;
    let mut report = ChaosReport::new(&args);
    for number in 1..=args.rounds {
        let round = round::run(&args, &stand, number, &mut dice).await?;
        eprintln!("{}", round.line());
        report.rounds.push(round);
    }
    report.balanced = stand.books_balance().await?;
    Ok(report)
}

//! `bojagi chaos run`: a cluster of real processes, a burst through its front door, a fault in the middle of it, and the
//! providers' ledger as the judge.
//!
//! | file | what |
//! |---|---|
//! | `args` | the command line |
//! | `stand`, `members`, `process`, `redis` | the cluster and what is beside it: started, watched, signalled. Only processes that were started here |
//! | `links` | proxies before the links, to cut and slow them |
//! | `nemesis` | the faults and planned events: what is done when, drawn from the seed, and how |
//! | `gauge` | how far a burst is, and what a kill hits |
//! | `round` | one burst with one fault |
//! | `happening` | what was done to which part of the stand, and when, as plain data |
//! | `failover` | from the fault to the next send of each shard that the victims led |
//! | `report` | what came of it, for people and as JSON |
//! | `checkers` | the invariants over a history; the simulator's too |

mod args;
pub mod checkers;
mod failover;
mod gauge;
pub mod happening;
mod links;
mod members;
mod nemesis;
mod process;
mod redis;
mod report;
mod round;
mod stand;

pub use args::{ChaosCommand, RunArgs};
pub use report::ChaosReport;

use crate::load::LoadError;

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
    let stand = stand::Stand::start(&args).await?;
    let mut report = ChaosReport::new(&args);
    for number in 1..=args.rounds {
        let round = round::run(&args, &stand, number).await?;
        eprintln!("{}", round.line());
        report.rounds.push(round);
    }
    report.balanced = stand.books_balance().await?;
    Ok(report)
}

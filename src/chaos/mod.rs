//! `bojagi chaos run`: a cluster of real processes, a burst through its front door, a fault in the middle of it, and the
//! providers' ledger as the judge.
//!
//! | file | what |
//! |---|---|
//! | `args` | the command line |
//! | `campaign` | all rounds of a run, recorded as they end |
//! | `stand`, `members`, `process`, `redis` | the cluster and what is beside it: started, watched, signalled. Only processes that were started here |
//! | `links` | proxies before the links, or a namespace for each node (level B), to cut and slow them |
//! | `nemesis` | the faults and planned events: what is done when, drawn from the seed, and how |
//! | `profile` | when the gifts of a burst fall due |
//! | `gauge` | how far a burst is, and what a kill hits |
//! | `round` | one burst with one fault |
//! | `happening`, `spans` | what was done to which part of the stand, and when, as plain data |
//! | `samples`, `looks`, `series` | what is seen while a round runs: asked for, as plain data, as a compact series |
//! | `progress` | the same on a terminal, live |
//! | `findings` | the ledger, the clients and the looks put together |
//! | `kept` | what was acknowledged through the faults, read back |
//! | `audited` | the end: the nodes stopped and their disks read (by `crate::audit`) |
//! | `failover`, `worst` | from the fault to the next send of each shard that the victims led; the ten worst gifts |
//! | `report`, `stats`, `build` | what came of it, for people and as JSON; its numbers; which build it was |
//! | `merge` | recorded runs of one build, summed or continued |
//! | `checkers` | the invariants over a history; the simulator's too |

mod args;
pub(crate) mod audited;
mod build;
mod campaign;
pub mod checkers;
mod failover;
mod findings;
mod gauge;
pub mod happening;
mod kept;
mod links;
mod looks;
mod members;
mod merge;
mod nemesis;
mod process;
mod profile;
mod progress;
mod redis;
mod report;
mod round;
mod samples;
mod series;
mod spans;
mod stand;
mod stats;
mod worst;

pub use args::{AuditArgs, ChaosCommand, Level, MergeArgs, RunArgs};
pub use audited::AuditReport;
pub use campaign::run;
pub use links::clean;
pub use merge::merge;
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
    /// A file that is no report, or one that this build cannot read.
    #[error("{file}: not a chaos report that this build can read: {why}")]
    Report { file: String, why: String },
    /// Recorded runs that cannot be summed or continued.
    #[error("{0}")]
    Recorded(String),
}

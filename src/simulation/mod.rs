//! A whole cluster in one thread, from one seed: the binary's domain, entity driver, shard core, apply, stores, snapshots,
//! cluster clock, lane cores, gateway policies and call courses, over disks that tear and forget, links that lose, double,
//! delay and part, clocks that are wrong, providers that accept and do not answer, and clients that repeat and race.
//!
//! What is here is the host around them and the world around that; nothing of decide, evolve, Raft, policy or codec is done
//! a second time. Not here: ractor, threads, HTTP, the wire clients of real providers, the meta group, more than one shard,
//! the budget of seats.
//!
//! A minority of the wall clocks is wrong from a node's start on, or is set forward and back under whoever leads.
//!
//! | file | what |
//! |---|---|
//! | `options`, `dice` | which faults a seed brings; the one source of chance |
//! | `world`, `event` | the heap of events, the network, the course of a run: faults, healing, rest, judgement |
//! | `node`, `host`, `applying` | one node, what its core asks for, and what its applier does |
//! | `replica`, `log_disk`, `state_disk` | its replica and its disks; `tests/sim` runs the shard core alone over the same |
//! | `hosting`, `waking`, `answers` | what a leader hosts: live entities; their timers; what callers are told, and when |
//! | `lanes`, `call_answers` | gateways and their calls |
//! | `batches`, `batch_hands` | several in one call: the binary's flows over events |
//! | `providers`, `bank`, `shipper` | messages, payments and shipments, with ledgers |
//! | `coupons`, `orders`, `shows` | campaigns, sales and concerts, and their crowds |
//! | `clients` | senders, recipients, tills, an operator |
//! | `faults`, `members` | misfortune and its end; replicas that end, and those that take their place |
//! | `recorder`, `seats`, `core_checks`, `judge` | the history, and what must hold |
//! | `defects` | what is broken on purpose; others stand where they break something |
//! | `outcome`, `coverage`, `campaign`, `args` | what it amounted to; which faults met; many seeds; the command |

mod answers;
mod applying;
mod args;
mod bank;
mod batch_hands;
mod batches;
mod call_answers;
pub mod campaign;
mod clients;
pub mod core_checks;
pub(crate) mod coupons;
pub mod coverage;
mod defects;
pub mod dice;
mod event;
mod faults;
mod host;
mod hosting;
mod judge;
mod lanes;
pub mod log_disk;
mod members;
mod node;
pub mod options;
mod orders;
mod outcome;
mod providers;
mod recorder;
pub mod replica;
mod seats;
mod shipper;
mod shows;
pub mod state_disk;
mod waking;
mod world;

pub use args::SimulateArgs;
pub use options::{Defect, FaultClass, Options};
pub use outcome::Outcome;

use std::panic::{AssertUnwindSafe, catch_unwind};

/// How much of what happened is told with a violation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tracing {
    Off,
    /// The last lines.
    Last,
    /// Everything since the start of the seed.
    Whole,
}

/// Runs a seed.
///
/// # Errors
/// The violation, beginning with the name of its invariant, the options and the trace. A panic of what is simulated is one.
pub fn run(options: &Options, tracing: Tracing) -> Result<Outcome, String> {
    let run = catch_unwind(AssertUnwindSafe(|| world::World::run(options.clone(), tracing)));
    run.unwrap_or_else(|panic| {
        let what = panic.downcast_ref::<String>().cloned();
        let what = what.or(panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
        Err(format!("panicked: {}\n  {options}", what.unwrap_or_default()))
    })
}

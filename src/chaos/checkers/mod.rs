//! The invariants as pure functions over a [`history`]: shared by the simulator and by runs of real processes.
//!
//! | file | invariant |
//! |---|---|
//! | `inv01_nothing_lost` | no acknowledged record is lost |
//! | `inv02_sent_once` | at most one effective send a delivery, none for a cancelled gift, one for whatever counts as sent |
//! | `inv03_on_time` | never early, within 60 s beyond what held it up |
//! | `inv04_money` | money is conserved after every event, and agrees with the payment ledger; nothing is in doubt at rest |
//! | `inv05_replicas` | journals dense, replicas equal at equal applied index, and equally far at rest |
//! | `inv06_committed` | nothing is performed that is not committed; no stale leader's effect is accepted |
//! | `inv07_coupons` | no coupon beyond its quantity, none twice to a member |
//! | `inv08_seats` | no seat sold twice; what is held is sold or free again in time; queues admit in order and within bounds |
//! | `inv09_not_stuck` | every gift is done, or holds a timer or a wanted call that is not overdue; who asks is answered |
//! | `inv10_replay` | the same idempotency key gives the same committed reply |
//! | `inv11_sealed` | no personal data outside its seal |
//! | `saga` | orders are all or nothing; stocks and wallets add up |
//! | `linear` | each gift is linearizable |
//!
//! An outcome that a client never heard of is unknown, not a failure.

pub mod history;
pub mod inv01_nothing_lost;
pub mod inv02_sent_once;
pub mod inv03_on_time;
pub mod inv04_money;
pub mod inv05_replicas;
pub mod inv06_committed;
pub mod inv07_coupons;
pub mod inv08_seats;
pub mod inv09_not_stuck;
pub mod inv10_replay;
pub mod inv11_sealed;
pub mod linear;
pub mod saga;
#[cfg(test)]
mod tests;

use history::History;
use std::fmt;

/// One breach.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// `INV-2`.
    pub invariant: &'static str,
    pub what: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.invariant, self.what)
    }
}

type Checker = fn(&History) -> Option<String>;

const CHECKERS: [(&str, Checker); 13] = [
    ("INV-1", inv01_nothing_lost::check),
    ("INV-2", inv02_sent_once::check),
    ("INV-3", inv03_on_time::check),
    ("INV-4", inv04_money::check),
    ("INV-5", inv05_replicas::check),
    ("INV-6", inv06_committed::check),
    ("INV-7", inv07_coupons::check),
    ("INV-8", inv08_seats::check),
    ("INV-9", inv09_not_stuck::check),
    ("INV-10", inv10_replay::check),
    ("INV-11", inv11_sealed::check),
    ("LINEAR", linear::check),
    ("SAGA", saga::check),
];

/// The first breach of each invariant.
#[must_use]
pub fn check_all(history: &History) -> Vec<Violation> {
    let found =
        CHECKERS.iter().filter_map(|(invariant, checker)| checker(history).map(|what| Violation { invariant, what }));
    found.collect()
}

/// Whether a run shows anything: one without faults, or in which nothing was acknowledged, does not.
///
/// # Errors
/// What it lacks.
pub fn proves_something(history: &History) -> Result<(), &'static str> {
    if history.faults.is_empty() {
        return Err("a run without faults proves nothing");
    }
    if history.replies.is_empty() || history.sends.is_empty() {
        return Err("a run in which nothing was acknowledged or sent proves nothing");
    }
    Ok(())
}

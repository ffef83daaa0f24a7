//! What came of a run, or of several of one build. `report.json` holds all that `report.html` shows.
//!
//! | file | what |
//! |---|---|
//! | `round` | one burst with one fault |
//! | `totals` | sums over rounds |
//! | `words` | the verdict in a sentence, and the text for a terminal |
//! | `file` | reading and writing |
//! | `page` | `report.html`, and its parts: `tables`, `figure`, `lanes`; `markup` and `scale` below them |

mod figure;
mod file;
mod lanes;
mod markup;
mod page;
mod round;
#[cfg(test)]
pub mod sample;
mod scale;
mod tables;
#[cfg(test)]
mod tests;
mod totals;
pub mod words;

pub use file::{read, write};
pub use round::{Round, Seen};
pub use totals::{AVAILABILITY_PERMILLE, FAILOVER_P99_MS, SUCCESS_PERMILLE, Totals};

use crate::chaos::build::Build;
use crate::chaos::profile::Profile;
use crate::chaos::{AuditReport, RunArgs};
use serde::{Deserialize, Serialize};

/// Version of `report.json`. One that cannot be read as before gets another.
pub const SCHEMA: u32 = 1;

/// All rounds of a run, or of several.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChaosReport {
    pub schema: u32,
    pub build: Build,
    pub runs: Vec<Run>,
    pub rounds: Vec<Round>,
    /// Rounds that did not come to their end.
    #[serde(default)]
    pub broken_off: Vec<BrokenOff>,
}

/// A round that the cluster, or the stand, did not come through.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BrokenOff {
    /// Place of its run in the report's list.
    pub run: usize,
    pub number: u32,
    pub why: String,
}

/// One start of `bojagi chaos run`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Run {
    /// Drawn when it began: no run is summed twice.
    pub id: String,
    /// RFC 3339, by the cluster's clock.
    pub began_at: String,
    /// The command line that repeats it.
    pub command: String,
    pub nemesis: String,
    pub profile: Profile,
    pub nodes: u16,
    pub gifts: u64,
    pub shards: u16,
    pub seed: u64,
    /// Gifts due a second, of a steady profile; seconds until a fault heals, and from a kill to the next.
    pub due_rate: u32,
    pub heal_after_s: u64,
    pub every_s: u64,
    /// Of 100 calls that the messages' provider accepted, so many had no answer.
    pub lost_replies: u8,
    /// And so many none while their connection stayed.
    pub hung_replies: u8,
    /// Reservations a second meanwhile.
    pub reserve_rate: u32,
    /// Looks at the books, each over all rounds of the run until then.
    pub books: Vec<Books>,
    /// What the disks said after its last round; none of a run that was broken off.
    pub audit: Option<AuditReport>,
}

/// The cluster's books beside the payment provider's, in won.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Books {
    /// They were looked at after this round.
    pub after_round: u32,
    pub gifts: u64,
    pub paid_krw: i64,
    pub held_krw: i64,
    pub used_krw: i64,
    pub refunded_krw: i64,
    /// Gifts whose own sum does not come out.
    pub broken_count: u64,
    /// The cluster says so of itself.
    pub balanced: bool,
    /// By the provider's ledger.
    pub provider_paid_krw: i64,
    pub provider_refunded_krw: i64,
    /// Gifts that more than one message was delivered for, by the ledger.
    pub delivered_twice: u64,
}

impl Books {
    /// What the cluster holds or handed out beyond what the provider moved.
    #[must_use]
    pub fn adrift_krw(&self) -> i64 {
        (self.paid_krw - self.refunded_krw) - (self.provider_paid_krw - self.provider_refunded_krw)
    }

    /// paid = held + used + refunded, for each gift and over all, and the provider agrees.
    #[must_use]
    pub fn agree(&self) -> bool {
        let sum = self.held_krw + self.used_krw + self.refunded_krw;
        self.balanced && self.broken_count == 0 && self.paid_krw == sum && self.adrift_krw() == 0
    }
}

impl Run {
    /// One that begins.
    #[must_use]
    pub fn new(args: &RunArgs, id: String, began_at: String, command: String) -> Self {
        Self {
            id,
            began_at,
            command,
            nemesis: args.nemesis_name(),
            profile: args.profile,
            nodes: args.nodes,
            gifts: args.gifts,
            shards: args.shards,
            seed: args.seed,
            due_rate: args.due_rate,
            heal_after_s: args.heal_after,
            every_s: args.every,
            lost_replies: args.lost_replies,
            hung_replies: args.hung_replies,
            reserve_rate: args.reserve_rate,
            books: Vec::new(),
            audit: None,
        }
    }

    /// Whether a round of one is a round of the other: all but when they began and how far they are.
    #[must_use]
    pub fn is_like(&self, other: &Self) -> bool {
        let apart = |run: &Self| Self {
            id: String::new(),
            began_at: String::new(),
            command: String::new(),
            books: Vec::new(),
            audit: None,
            ..run.clone()
        };
        apart(self) == apart(other)
    }

    /// Up to which round its books were looked at.
    #[must_use]
    pub fn booked(&self) -> u32 {
        self.books.iter().map(|books| books.after_round).max().unwrap_or(0)
    }
}

impl ChaosReport {
    #[must_use]
    pub fn new(build: Build, runs: Vec<Run>) -> Self {
        Self { schema: SCHEMA, build, runs, rounds: Vec::new(), broken_off: Vec::new() }
    }

    /// Every acknowledged gift sent once, none early, none over a minute late beyond the faults, the books balance; and
    /// there was something to see: rounds, acknowledgements, faults in the middle of the work.
    #[must_use]
    pub fn passed(&self) -> bool {
        self.failings().is_empty()
    }

    /// What was not as it must be; nothing when all held.
    #[must_use]
    pub fn failings(&self) -> Vec<String> {
        let several = self.runs.len() > 1;
        let of_run = |run: usize, what: String| if several { format!("run {}, {what}", run + 1) } else { what };
        let rounds = self.rounds.iter();
        let mut failings: Vec<String> =
            rounds.flat_map(|round| round.failings().into_iter().map(|what| of_run(round.run, what))).collect();
        for (place, run) in self.runs.iter().enumerate() {
            failings.extend(self.books_failing(place, run).map(|what| of_run(place, what)));
            let violations = run.audit.iter().flat_map(|audit| &audit.violations);
            failings.extend(violations.map(|violation| of_run(place, format!("on disk: {violation}"))));
        }
        let broken_off = self.broken_off.iter();
        failings.extend(
            broken_off.map(|round| of_run(round.run, format!("round {} was broken off: {}", round.number, round.why))),
        );
        if self.rounds.is_empty() {
            failings.push("there was no round".to_owned());
        }
        failings
    }

    fn books_failing(&self, place: usize, run: &Run) -> Option<String> {
        if let Some(books) = run.books.iter().find(|books| !books.agree()) {
            return Some(format!("the books do not balance after round {}", books.after_round));
        }
        if let Some(books) = run.books.iter().find(|books| books.delivered_twice > 0) {
            let (count, round) = (books.delivered_twice, books.after_round);
            return Some(format!("the ledger has {count} gifts delivered twice after round {round}"));
        }
        let last = self.rounds.iter().filter(|round| round.run == place).map(|round| round.number).max()?;
        let unseen = last > run.booked();
        unseen.then(|| format!("the books were not looked at after round {}", run.booked() + 1))
    }
}

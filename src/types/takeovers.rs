//! When a replica applied the claims of its shard, by a clock that runs on evenly.

use crate::types::ids::Term;
use crate::types::time::{BootId, Timestamp};
use serde::{Deserialize, Serialize};

/// Claims that are remembered; for older ones a later one stands.
const SEEN_MAX: usize = 32;

/// Which claims of its shard a replica has applied, and when; oldest first. Kept over restarts of the process: what was applied
/// before one was over before it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Takeovers {
    boot: BootId,
    seen: Vec<(Term, Timestamp)>,
}

impl Takeovers {
    /// What counts of them for a process on this run of the machine, whose even clock says `now`: nothing of another run, and
    /// nothing by a clock that had come further (a moved one whose movement is lost).
    #[must_use]
    pub fn on(self, boot: BootId, now: Timestamp) -> Self {
        let same = self.boot == boot && boot != BootId::UNKNOWN && self.seen.iter().all(|(_, at)| *at <= now);
        Self { boot, seen: if same { self.seen } else { Vec::new() } }
    }

    /// A claim of this term is applied; whether that says more than what was seen before.
    pub fn saw(&mut self, term: Term, at: Timestamp) -> bool {
        if term == Term(0) || self.seen.iter().any(|(seen, _)| *seen >= term) {
            return false;
        }
        if self.seen.len() >= SEEN_MAX {
            self.seen.remove(0);
        }
        self.seen.push((term, at));
        true
    }

    /// When the claims of this term were over at the latest: nothing was decided under them after that.
    #[must_use]
    pub fn over(&self, term: Term) -> Option<Timestamp> {
        self.seen.iter().find(|(later, _)| *later > term).map(|(_, at)| *at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: BootId = BootId([7; 16]);
    const NOW: Timestamp = Timestamp(100);

    #[test]
    fn what_is_remembered_is_bounded_and_a_later_claim_stands_for_what_is_forgotten() {
        let mut takeovers = Takeovers::default().on(HERE, NOW);
        (1..=100).for_each(|term| assert!(takeovers.saw(Term(term), Timestamp(i64::try_from(term).unwrap()))));
        assert_eq!(takeovers.seen.len(), SEEN_MAX);
        assert_eq!(takeovers.over(Term(3)), Some(Timestamp(69)));
        assert_eq!((takeovers.over(Term(98)), takeovers.over(Term(100))), (Some(Timestamp(99)), None));
    }

    #[test]
    fn what_is_applied_again_after_a_crash_says_nothing_new() {
        let mut takeovers = Takeovers::default().on(HERE, NOW);
        assert!(takeovers.saw(Term(5), Timestamp(10)) && takeovers.saw(Term(6), Timestamp(20)));
        for term in [0, 5, 6] {
            assert!(!takeovers.saw(Term(term), Timestamp(90)));
        }
        assert_eq!((takeovers.over(Term(4)), takeovers.over(Term(5))), (Some(Timestamp(10)), Some(Timestamp(20))));
    }

    #[test]
    fn a_boot_clock_that_began_anew_says_nothing_of_what_was_before() {
        let mut before = Takeovers::default().on(HERE, NOW);
        before.saw(Term(5), Timestamp(10));
        assert_eq!(before.clone().on(HERE, NOW), before);
        assert_eq!(before.clone().on(BootId([8; 16]), NOW).over(Term(4)), None);
        assert_eq!(before.clone().on(HERE, Timestamp(9)).over(Term(4)), None, "a clock that went back");
        let mut nameless = Takeovers::default().on(BootId::UNKNOWN, NOW);
        nameless.saw(Term(5), Timestamp(10));
        assert_eq!(nameless.on(BootId::UNKNOWN, NOW).over(Term(4)), None, "it may be another one");
    }
}

//! Under which claim an entity's calls are made, and when calls that were begun under an earlier one have ended. Pure.

use crate::actors::driver::Now;
use crate::types::effect::{OpenAttempt, wait_out};
use crate::types::ids::Claim;
use crate::types::limits::{CALL_DEADLINE, CLOCKS_APART_MAX};
use crate::types::takeovers::Takeovers;
use crate::types::time::{Millis, Timestamp};
use std::sync::Arc;

/// A leadership.
#[derive(Clone, Debug, Default)]
pub struct Life {
    pub claim: Claim,
    pub takeovers: Arc<Takeovers>,
}

impl Life {
    /// When an open attempt that this leadership holds no call for has ended, by the wall clock.
    ///
    /// One of another claim was started by another clock, and decided before any later claim was committed: counted from
    /// when this replica applied such a claim, by a clock that runs on evenly, its end does not depend on how far clocks are
    /// apart, nor on whether they were set since. A replica that has not seen that moment goes by how far clocks may be apart.
    pub(super) fn ends(&self, open: OpenAttempt, now: Now) -> Timestamp {
        let by_its_clock = wait_out(open.started_at, open.not_after);
        if open.claim == self.claim {
            return by_its_clock;
        }
        let Some(over) = self.takeovers.over(open.claim.term) else { return by_its_clock + CLOCKS_APART_MAX };
        // A clock that says less than it said then is not believed: nothing is taken off.
        let since = (now.steady - over).max(Millis(0));
        by_its_clock.max(now.wall + Millis((open.not_after.0 + CALL_DEADLINE.0).saturating_sub(since.0)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::ids::Term;
    use crate::types::limits::ATTEMPT_NOT_AFTER;
    use crate::types::time::BootMillis;

    fn claim(term: u64) -> Claim {
        Claim { term: Term(term), ..Claim::default() }
    }

    /// An attempt under the claim of `term`, begun at 100 s of its leader's clock. The replica leads under that of term 7;
    /// it saw term 5 begin at 10 s of its steady clock, 6 at 20 s, 7 at 30 s.
    fn ends(term: u64, steady_ms: i64, wall_ms: i64) -> i64 {
        let mut takeovers = Takeovers::default();
        for (term, at) in [(5, 10_000), (6, 20_000), (7, 30_000)] {
            assert!(takeovers.saw(Term(term), Timestamp(at)));
        }
        let life = Life { claim: claim(7), takeovers: Arc::new(takeovers) };
        let open = OpenAttempt { claim: claim(term), started_at: Timestamp(100_000), not_after: ATTEMPT_NOT_AFTER };
        life.ends(open, Now { wall: Timestamp(wall_ms), boot: BootMillis(0), steady: Timestamp(steady_ms) }).0
    }

    #[test]
    fn an_attempt_of_another_leader_is_waited_out_by_the_clock_of_this_one_too() {
        // Clocks agree, and leadership moved half a second after the attempt began.
        assert_eq!(ends(6, 30_000, 100_500), 113_000);
        // The clock here is 5 s ahead of the other's: the attempt seems old.
        assert_eq!(ends(6, 30_000, 105_500), 117_500);
        assert_eq!(ends(6, 41_999, 117_499), 117_500, "whenever it is asked");
        // Of this claim: no other clock has a part in it.
        assert_eq!(ends(7, 30_000, 105_500), 113_000);
        assert_eq!(ends(6, 3_000_000, 3_070_500), 113_000, "long over");
        assert_eq!(ends(6, -9_000_000, 105_500), 117_500, "of a clock that went back: never longer than from now on");
    }

    #[test]
    fn leaders_that_follow_each_other_quickly_do_not_put_it_off() {
        // Term 6 took over half a second after the attempt, and was lost ten seconds later.
        assert_eq!(ends(5, 30_000, 110_500), 113_000);
        // Term 4 ended before this replica saw claims: it counts from the first that it saw.
        assert_eq!(ends(4, 30_000, 118_000), 113_000);
        assert_eq!(ends(4, 12_000, 108_000), 118_000);
        let nothing_seen = Life { claim: claim(7), ..Life::default() };
        let open = OpenAttempt { claim: claim(6), started_at: Timestamp(100_000), not_after: ATTEMPT_NOT_AFTER };
        let now = Now { wall: Timestamp(105_000), boot: BootMillis(0), steady: Timestamp(1) };
        assert_eq!(nothing_seen.ends(open, now), Timestamp(123_000), "no longer than clocks may be apart");
    }

    #[test]
    fn a_clock_that_is_set_ahead_ends_no_attempt() {
        // A second after the takeover all clocks are a minute ahead, as the attempt's own was not: its call may be under way.
        assert_eq!(ends(6, 31_000, 161_500), 172_500);
        assert_eq!(ends(6, 42_000, 172_500), 172_500);
        // After a reboot it counts from the first claim that is known of.
        assert_eq!(ends(4, 10_000, 3_600_000), 3_612_000);
    }
}

//! The time of the cluster from the clocks of its nodes. Pure: readings in, time out.
//!
//! A node reads other clocks against its steady one, which no setting of a wall clock moves: a reading is an offset to it
//! and a bound of its error. The time of a shard is the latest that a majority of its voters' clocks have surely reached:
//! the median of the clocks less its error where all are known, earlier where some are not, and none where a majority is
//! not known. So no minority of clocks, however wrong and whenever set, makes a timer fire early; the reader's own wall
//! clock is one of them and no more ([`Band`]).

use crate::types::ids::NodeId;
use crate::types::time::{Millis, Timestamp};
use std::collections::{BTreeMap, BTreeSet};

/// A node this far off the others leads nothing.
pub const CLOCK_OFF_MAX: Millis = Millis::from_secs(5);
/// And one that was off must be nearer than this before it leads again.
pub const CLOCK_BACK_WITHIN: Millis = Millis(2_500);

/// A clock as a node sees it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reading {
    /// It minus the reader's steady clock.
    pub offset: Millis,
    /// How far the offset may be off, either way.
    pub error: Millis,
}

impl Reading {
    /// Of a clock that is read at once: the reader's own.
    #[must_use]
    pub fn exact(offset: Millis) -> Self {
        Self { offset, error: Millis(0) }
    }

    fn earliest(self) -> i64 {
        self.offset.0.saturating_sub(self.error.0)
    }
    fn latest(self) -> i64 {
        self.offset.0.saturating_add(self.error.0)
    }
}

/// Clocks that have to agree, of so many.
fn majority(clocks: usize) -> usize {
    clocks / 2 + 1
}

/// What the other voters' clocks leave to the reader's own: the time is its wall clock's as long as that is between these
/// offsets to its steady clock, else the nearer of the two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Band {
    /// A majority of clocks has reached this whatever the own one shows; `i64::MIN` when too few are known.
    pub least: Millis,
    /// So far a majority is reached with the own clock's vote, and no further; `i64::MAX` when that is the majority.
    pub most: Millis,
}

impl Band {
    /// The time of the shard when the reader's clocks show `own` and `steady`.
    #[must_use]
    pub fn time(self, own: Timestamp, steady: Timestamp) -> Timestamp {
        own.max(steady + self.least).min(steady + self.most)
    }
}

/// The band of a shard with so many voters: `own_votes` when the reader is one of them, `others` are the readings that
/// there are of the rest. `None` when the clocks of a majority are not known.
#[must_use]
pub fn band(voters: usize, own_votes: bool, others: impl IntoIterator<Item = Reading>) -> Option<Band> {
    let mut reached: Vec<i64> = others.into_iter().map(Reading::earliest).collect();
    if voters == 0 || reached.len() + usize::from(own_votes) < majority(voters) {
        return None;
    }
    reached.sort_unstable_by(|a, b| b.cmp(a));
    let at = |place: usize| reached.get(place).copied().map(Millis);
    let least = at(majority(voters) - 1).unwrap_or(Millis(i64::MIN));
    let most = match (own_votes, majority(voters)) {
        (false, _) => least,
        (true, 1) => Millis(i64::MAX),
        (true, needed) => at(needed - 2).expect("a majority is known, the own clock among it"),
    };
    Some(Band { least, most })
}

/// The latest offset to the reader's steady clock that a majority of `voters` clocks have surely reached, of which `known`
/// are the readings that there are. `None` when that is no majority.
#[must_use]
pub fn correction(voters: usize, known: impl IntoIterator<Item = Reading>) -> Option<Millis> {
    let mut reached: Vec<i64> = known.into_iter().map(Reading::earliest).collect();
    reached.sort_unstable_by(|a, b| b.cmp(a));
    reached.get(majority(voters) - 1).copied().map(Millis)
}

/// How far the `own` clock is behind (or, negative, ahead of) the median of all members' clocks, for the operator.
/// `None` when no majority is known.
#[must_use]
pub fn deviation(members: usize, own: Reading, known: impl IntoIterator<Item = Reading>) -> Option<Millis> {
    let median = correction(members, known.into_iter().map(|reading| Reading::exact(reading.offset)))?;
    Some(Millis(median.0.saturating_sub(own.offset.0)))
}

/// The nodes whose clocks are surely more than [`CLOCK_OFF_MAX`] ahead of a majority of the members' clocks, or behind.
/// `before` are those that were off at the last look: they come back within [`CLOCK_BACK_WITHIN`], or once nothing more
/// is known of them.
#[must_use]
pub fn off(clocks: &BTreeMap<NodeId, Reading>, members: usize, before: &BTreeSet<NodeId>) -> BTreeSet<NodeId> {
    let is_off = |node: &NodeId, clock: &Reading| {
        let limit = if before.contains(node) { CLOCK_BACK_WITHIN } else { CLOCK_OFF_MAX }.0;
        let others = || clocks.iter().filter(|(other, _)| *other != node).map(|(_, reading)| reading);
        let ahead_of = others().filter(|other| clock.earliest().saturating_sub(other.latest()) > limit).count();
        let behind = others().filter(|other| other.earliest().saturating_sub(clock.latest()) > limit).count();
        ahead_of.max(behind) >= majority(members)
    };
    clocks.iter().filter(|(node, clock)| is_off(node, clock)).map(|(node, _)| *node).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn reading(offset: i64, error: i64) -> Reading {
        Reading { offset: Millis(offset), error: Millis(error) }
    }
    fn clocks(offsets: &[i64]) -> BTreeMap<NodeId, Reading> {
        (1..).map(NodeId).zip(offsets.iter().map(|offset| reading(*offset, 1))).collect()
    }
    fn off_now(offsets: &[i64], members: usize, before: &[u64]) -> Vec<u64> {
        let before = before.iter().copied().map(NodeId).collect();
        off(&clocks(offsets), members, &before).into_iter().map(|node| node.0).collect()
    }

    /// The time of a shard with the own clock at 100,000, which is 0 off the steady one.
    fn time(voters: usize, others: &[Reading]) -> Option<i64> {
        let at = Timestamp(100_000);
        band(voters, true, others.iter().copied()).map(|band| (band.time(at, at) - at).0)
    }

    #[test]
    fn a_lone_voter_goes_by_its_own_clock() {
        assert_eq!(time(1, &[]), Some(0));
    }

    #[test]
    fn of_three_the_middle_one_counts_less_its_error() {
        assert_eq!(time(3, &[reading(40, 3), reading(-4_000, 3)]), Some(0));
        assert_eq!(time(3, &[reading(4_000, 3), reading(3_000, 3)]), Some(2_997));
        assert_eq!(time(3, &[reading(-4_000, 3), reading(-3_000, 3)]), Some(-3_003));
    }

    #[test]
    fn of_what_is_not_known_the_latest_is_not_assumed() {
        assert_eq!(time(3, &[reading(-20, 2)]), Some(-22));
        assert_eq!(time(3, &[reading(20, 2)]), Some(0));
        assert_eq!(time(5, &[reading(9_000, 2), reading(9_000, 2)]), Some(0));
    }

    #[test]
    fn without_a_majority_of_clocks_there_is_no_time() {
        assert_eq!(time(3, &[]), None);
        assert_eq!(time(5, &[reading(0, 1)]), None);
        assert_eq!(time(2, &[]), None);
        assert_eq!(band(3, false, [reading(0, 1)]), None);
    }

    #[test]
    fn an_own_clock_that_is_set_forward_moves_the_time_no_further_than_another_has_come() {
        let band = band(3, true, [reading(-20, 2), reading(30, 2)]).unwrap();
        let (own, steady) = (Timestamp(100_000), Timestamp(100_000));
        assert_eq!(band.time(own, steady), own);
        assert_eq!(band.time(own + Millis::from_mins(1), steady), Timestamp(100_028));
        assert_eq!(band.time(own - Millis::from_mins(1), steady), Timestamp(99_978));
    }

    #[test]
    fn a_node_far_from_the_majority_is_off_until_it_is_near_again() {
        assert_eq!(off_now(&[0, 0, 5_010], 3, &[]), [3]);
        assert_eq!(off_now(&[0, 0, -5_010], 3, &[]), [3]);
        assert_eq!(off_now(&[0, 0, 4_990], 3, &[]), Vec::<u64>::new());
        assert_eq!(off_now(&[0, 0, 4_990], 3, &[3]), [3], "it does not come back at once");
        assert_eq!(off_now(&[0, 0, 2_400], 3, &[3]), Vec::<u64>::new());
        assert_eq!(off_now(&[0, 9_000], 2, &[]), Vec::<u64>::new(), "of two nobody can tell which");
        assert_eq!(off_now(&[0, 9_000], 3, &[]), Vec::<u64>::new(), "nor of two that are known of three");
    }

    #[test]
    fn an_error_counts_for_the_node() {
        let mut clocks = clocks(&[0, 0, 6_000]);
        clocks.insert(NodeId(3), reading(6_000, 2_000));
        assert!(off(&clocks, 3, &BTreeSet::new()).is_empty());
    }

    prop_compose! {
        /// True offsets of all voters' clocks, what is read of them within the error, and which are known.
        fn voters()(
            all in prop::collection::vec((-10_000i64..10_000, 0i64..500, -1.0f64..1.0, any::<bool>()), 1..8)
        ) -> Vec<(i64, Option<Reading>)> {
            all.into_iter().map(|(truth, error, slip, known)| {
                let read = truth + (slip * error as f64) as i64;
                (truth, known.then_some(reading(read, error)))
            }).collect()
        }
    }

    proptest! {
        #[test]
        fn a_band_says_what_a_majority_has_reached_with_the_own_clock_as_one_of_it(
            voters in voters(), own in -10_000i64..10_000, own_votes in any::<bool>(),
        ) {
            let others: Vec<Reading> = voters.iter().filter_map(|(_, reading)| *reading).collect();
            let (steady, count) = (Timestamp(1_000_000), voters.len() + usize::from(own_votes));
            let vote = own_votes.then_some(Reading::exact(Millis(own)));
            let reached = correction(count, others.iter().copied().chain(vote)).map(|at| steady + at);
            let time = band(count, own_votes, others).map(|band| band.time(steady + Millis(own), steady));
            prop_assert_eq!(time, reached);
        }

        #[test]
        fn a_majority_of_the_clocks_has_passed_the_time(voters in voters()) {
            let known: Vec<Reading> = voters.iter().filter_map(|(_, reading)| *reading).collect();
            let time = correction(voters.len(), known.iter().copied());
            prop_assert_eq!(time.is_some(), known.len() >= majority(voters.len()));
            if let Some(time) = time {
                let passed = voters.iter().filter(|(truth, _)| *truth >= time.0).count();
                prop_assert!(passed >= majority(voters.len()));
            }
        }

        #[test]
        fn a_minority_of_clocks_cannot_make_it_early(
            right in prop::collection::vec(-50i64..50, 1..5), wrong in prop::collection::vec(0i64..1_000_000, 0..4),
            known in prop::collection::vec(any::<bool>(), 9),
        ) {
            let voters = right.len() + wrong.len();
            prop_assume!(wrong.len() < majority(voters) && right.len() >= majority(voters));
            let all = right.iter().chain(&wrong).map(|offset| reading(*offset, 0)).zip(&known);
            let time = correction(voters, all.filter(|(_, known)| **known).map(|(reading, _)| reading));
            prop_assert!(time.is_none_or(|time| time.0 <= *right.iter().max().unwrap()));
        }

        #[test]
        fn more_error_never_makes_it_later(voters in voters(), more in 0i64..100) {
            let known = |more: i64| {
                let wider = move |r: Reading| Reading { error: Millis(r.error.0 + more), ..r };
                correction(voters.len(), voters.iter().filter_map(|(_, reading)| *reading).map(wider))
            };
            prop_assert!(known(more) <= known(0));
        }

        #[test]
        fn most_nodes_are_never_off(offsets in prop::collection::vec(-20_000i64..20_000, 1..8)) {
            let off = off(&clocks(&offsets), offsets.len(), &BTreeSet::new());
            prop_assert!(off.len() < offsets.len());
        }
    }
}

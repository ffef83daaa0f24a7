//! The time of the cluster from the clocks of its nodes. Pure: readings in, time out.
//!
//! A node's reading of another's clock is an offset to its own and a bound of its error. The time of a shard is the latest
//! that a majority of its voters' clocks have surely reached: the median of the clocks less its error where all are
//! known, earlier where some are not, and none where a majority is not known. So no minority of clocks, however wrong,
//! makes a timer fire early.

use crate::types::ids::NodeId;
use crate::types::time::Millis;
use std::collections::{BTreeMap, BTreeSet};

/// A node this far off the others leads nothing.
pub const CLOCK_OFF_MAX: Millis = Millis::from_secs(5);
/// And one that was off must be nearer than this before it leads again.
pub const CLOCK_BACK_WITHIN: Millis = Millis(2_500);

/// A clock as another node sees it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reading {
    /// It minus the reader's clock.
    pub offset: Millis,
    /// How far the offset may be off, either way.
    pub error: Millis,
}

impl Reading {
    /// A node's own clock.
    pub const OWN: Self = Self { offset: Millis(0), error: Millis(0) };

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

/// What to add to the reader's clock to get the time that timers fire by: `known` are the readings that there are of
/// `voters` clocks. `None` when that is no majority.
#[must_use]
pub fn correction(voters: usize, known: impl IntoIterator<Item = Reading>) -> Option<Millis> {
    let mut reached: Vec<i64> = known.into_iter().map(Reading::earliest).collect();
    reached.sort_unstable_by(|a, b| b.cmp(a));
    reached.get(majority(voters) - 1).copied().map(Millis)
}

/// How far the reader's clock is behind (or, negative, ahead of) the median of all members' clocks, for the operator.
/// `None` when no majority is known.
#[must_use]
pub fn deviation(members: usize, known: impl IntoIterator<Item = Reading>) -> Option<Millis> {
    correction(members, known.into_iter().map(|reading| Reading { error: Millis(0), ..reading }))
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

    #[test]
    fn a_lone_voter_goes_by_its_own_clock() {
        assert_eq!(correction(1, [Reading::OWN]), Some(Millis(0)));
    }

    #[test]
    fn of_three_the_middle_one_counts_less_its_error() {
        assert_eq!(correction(3, [Reading::OWN, reading(40, 3), reading(-4_000, 3)]), Some(Millis(0)));
        assert_eq!(correction(3, [Reading::OWN, reading(4_000, 3), reading(3_000, 3)]), Some(Millis(2_997)));
        assert_eq!(correction(3, [Reading::OWN, reading(-4_000, 3), reading(-3_000, 3)]), Some(Millis(-3_003)));
    }

    #[test]
    fn of_what_is_not_known_the_latest_is_not_assumed() {
        assert_eq!(correction(3, [Reading::OWN, reading(-20, 2)]), Some(Millis(-22)));
        assert_eq!(correction(3, [Reading::OWN, reading(20, 2)]), Some(Millis(0)));
        assert_eq!(correction(5, [Reading::OWN, reading(9_000, 2), reading(9_000, 2)]), Some(Millis(0)));
    }

    #[test]
    fn without_a_majority_of_clocks_there_is_no_time() {
        assert_eq!(correction(3, [Reading::OWN]), None);
        assert_eq!(correction(5, [Reading::OWN, reading(0, 1)]), None);
        assert_eq!(correction(2, [Reading::OWN]), None);
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

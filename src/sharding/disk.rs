//! When a node's disk makes it a bad leader. Pure: how long syncs took goes in, with the time; whether the node is slow comes out.
//!
//! Every commit of a leader waits for its own sync as well, while a follower's is one of several; so a node whose disk is far
//! slower than most others' hands its leaderships over, and leads again some time after the disk is well.
//!
//! | state | becomes the other | when |
//! |---|---|---|
//! | well | slow | a sync typically takes [`SLOW`] and [`FAR`] times what it takes a majority of the members, for [`SLOW_FOR`] |
//! | slow | well | it typically takes less than [`WELL`], or about what the majority's does, for [`WELL_FOR`], twice as long after each relapse |
//!
//! Kept here: only a minority is ever slow, since it is measured against what a majority of all members reaches, and members
//! of which nothing is known reach nothing. So if all are slow, or the others are away, nobody is.

use crate::types::time::{BootMillis, Millis};
use std::collections::VecDeque;

/// Less than this is never slow.
pub const SLOW: Millis = Millis(100);
/// And so many times the majority's.
pub const FAR: i64 = 4;
/// A slow node whose syncs take less than this is on its way to be well.
pub const WELL: Millis = Millis(50);
pub const SLOW_FOR: Millis = Millis::from_secs(2);
pub const WELL_FOR: Millis = Millis::from_secs(10);
/// The longest that a node that relapses again and again has to be well.
pub const WELL_FOR_MAX: Millis = Millis::from_mins(5);
/// Slow again within this span after it was well: a relapse.
const RELAPSE: Millis = Millis::from_mins(10);
/// How long a slow node leaves a shard without a leader to the others before it stands for election all the same.
pub const STANDS_BACK: Millis = Millis::from_secs(3);

/// What is typical is the median of so many syncs, the last of the last while; fewer than the least say nothing.
const LAST: usize = 5;
const LEAST: usize = 3;
const SPAN: Millis = Millis::from_secs(10);
/// A single one that has been under way for so long says it alone.
const HANGS: Millis = Millis::from_secs(2);

fn since(from: BootMillis, now: BootMillis) -> Millis {
    Millis(i64::try_from(now.0.saturating_sub(from.0)).unwrap_or(i64::MAX))
}

/// The last syncs of one log.
#[derive(Clone, Debug, Default)]
pub struct Syncs {
    /// When each ended, and how long it took.
    last: VecDeque<(BootMillis, Millis)>,
    under_way: Option<BootMillis>,
}

impl Syncs {
    pub fn begins(&mut self, now: BootMillis) {
        self.under_way = Some(now);
    }

    /// Of one that has begun.
    pub fn ends(&mut self, now: BootMillis) {
        let Some(began) = self.under_way.take() else { return };
        self.last.push_back((now, since(began, now)));
        let surplus = self.last.len().saturating_sub(LAST);
        self.last.drain(..surplus);
    }

    /// What a sync typically takes of late; `None` when there were too few to say.
    #[must_use]
    pub fn typical(&self, now: BootMillis) -> Option<Millis> {
        let under_way = self.under_way.map(|began| since(began, now)).filter(|so_far| *so_far >= SLOW);
        if let Some(so_far) = under_way.filter(|so_far| *so_far >= HANGS) {
            return Some(so_far);
        }
        let recent = self.last.iter().filter(|(ended, _)| since(*ended, now) <= SPAN).map(|(_, took)| *took);
        let mut all: Vec<Millis> = recent.chain(under_way).collect();
        all.sort_unstable();
        (all.len() >= LEAST).then(|| all[all.len() / 2])
    }

    /// Whether the log was silent for so long.
    #[must_use]
    pub fn is_idle(&self, for_span: Millis, now: BootMillis) -> bool {
        self.under_way.is_none() && self.last.back().is_none_or(|(ended, _)| since(*ended, now) >= for_span)
    }
}

/// What a sync takes at most on a majority of `members`, from what is known of some of them; `None` when it is not known of
/// as many.
#[must_use]
pub fn of_majority(members: usize, known: impl IntoIterator<Item = Millis>) -> Option<Millis> {
    let mut known: Vec<Millis> = known.into_iter().collect();
    known.sort_unstable();
    known.get(members / 2).copied()
}

/// Whether a node is slow, as the node itself judges it.
#[derive(Clone, Debug)]
pub struct DiskJudge {
    is_slow: bool,
    /// Since when the figures have said the other.
    turning: Option<BootMillis>,
    /// When it was last found well again.
    well_since: Option<BootMillis>,
    well_for: Millis,
}

impl Default for DiskJudge {
    fn default() -> Self {
        Self { is_slow: false, turning: None, well_since: None, well_for: WELL_FOR }
    }
}

impl DiskJudge {
    #[must_use]
    pub fn is_slow(&self) -> bool {
        self.is_slow
    }

    /// Looks at what a sync typically takes here and on a majority of the members; whether it is slow now, when that has
    /// changed. What is not known changes nothing.
    pub fn look(&mut self, own: Option<Millis>, majority: Option<Millis>, now: BootMillis) -> Option<bool> {
        let turns = if self.is_slow { is_well(own, majority) } else { is_far_slower(own, majority) };
        if !turns {
            self.turning = None;
            return None;
        }
        let turning = *self.turning.get_or_insert(now);
        let hold = if self.is_slow { self.well_for } else { SLOW_FOR };
        if since(turning, now) < hold {
            return None;
        }
        self.turning = None;
        self.is_slow = !self.is_slow;
        if self.is_slow {
            let relapse = self.well_since.is_some_and(|well| since(well, now) < RELAPSE);
            self.well_for = if relapse { Millis((self.well_for.0 * 2).min(WELL_FOR_MAX.0)) } else { WELL_FOR };
        } else {
            self.well_since = Some(now);
        }
        Some(self.is_slow)
    }
}

fn is_far_slower(own: Option<Millis>, majority: Option<Millis>) -> bool {
    own.zip(majority).is_some_and(|(own, majority)| own >= SLOW && own.0 >= FAR * majority.0)
}

fn is_well(own: Option<Millis>, majority: Option<Millis>) -> bool {
    own.is_some_and(|own| own < WELL || majority.is_some_and(|majority| own.0 * 2 <= FAR * majority.0))
}

/// Whether a node stands for no election: a slow one leaves it to the others, but not for ever.
#[must_use]
pub fn stands_back(is_slow: bool, leaderless_for: Millis) -> bool {
    is_slow && leaderless_for < STANDS_BACK
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at(ms: u64) -> BootMillis {
        BootMillis(ms)
    }

    /// Syncs of these lengths on end, and the time after them.
    fn synced(took_ms: &[u64]) -> (Syncs, BootMillis) {
        let (mut syncs, mut now) = (Syncs::default(), 1_000);
        for took in took_ms {
            syncs.begins(at(now));
            now += took;
            syncs.ends(at(now));
        }
        (syncs, at(now))
    }

    fn typical(took_ms: &[u64]) -> Option<i64> {
        let (syncs, now) = synced(took_ms);
        syncs.typical(now).map(|typical| typical.0)
    }

    #[test]
    fn the_median_of_the_last_syncs_is_typical() {
        assert_eq!(typical(&[3, 3]), None, "two say nothing");
        assert_eq!(typical(&[3, 900, 3, 3]), Some(3), "one that stalled is not typical");
        assert_eq!(typical(&[3, 3, 3, 3, 3, 3, 3, 400, 400]), Some(3));
        assert_eq!(typical(&[3, 3, 3, 3, 3, 3, 3, 400, 400, 400]), Some(400));
        let (syncs, now) = synced(&[3, 3, 3]);
        assert_eq!(syncs.typical(at(now.0 + 10_001)), None, "long ago");
        assert!(
            syncs.is_idle(Millis(10_000), at(now.0 + 10_001)) && !syncs.is_idle(Millis(10_002), at(now.0 + 10_001))
        );
    }

    #[test]
    fn a_sync_that_hangs_is_seen_before_it_ends() {
        let (mut syncs, now) = synced(&[3, 3, 3, 3, 3]);
        syncs.begins(now);
        assert_eq!(syncs.typical(at(now.0 + 1_900)), Some(Millis(3)));
        assert_eq!(syncs.typical(at(now.0 + 2_000)), Some(Millis(2_000)));
        syncs.ends(at(now.0 + 9_000));
        assert_eq!(syncs.typical(at(now.0 + 9_001)), Some(Millis(3)), "one that came to an end is one of several");
        syncs.ends(at(now.0 + 9_002));
        assert_eq!(syncs.last.len(), LAST, "an end without a begin is none");
    }

    #[test]
    fn the_majority_is_of_all_members_known_or_not() {
        let of = |members, known: &[i64]| of_majority(members, known.iter().copied().map(Millis)).map(|ms| ms.0);
        assert_eq!([of(3, &[400, 2, 3]), of(3, &[400, 2]), of(3, &[400])], [Some(3), Some(400), None]);
        assert_eq!([of(5, &[400, 2, 500, 3, 4]), of(4, &[1, 2, 400])], [Some(4), Some(400)]);
        assert_eq!([of(1, &[400]), of(2, &[400, 2])], [Some(400), Some(400)]);
    }

    /// Looks twice a second at the same figures; what changed, after how many milliseconds.
    fn watch(
        judge: &mut DiskJudge,
        now: &mut u64,
        own: Option<i64>,
        majority: Option<i64>,
        for_ms: u64,
    ) -> Vec<(bool, u64)> {
        let began = *now;
        let mut changes = Vec::new();
        while *now < began + for_ms {
            *now += 500;
            let change = judge.look(own.map(Millis), majority.map(Millis), at(*now));
            changes.extend(change.map(|is_slow| (is_slow, *now - began)));
        }
        changes
    }

    #[test]
    fn a_node_that_is_far_slower_for_two_seconds_is_slow_until_it_was_well_for_ten() {
        let (mut judge, mut now) = (DiskJudge::default(), 0);
        assert_eq!(watch(&mut judge, &mut now, Some(3), Some(3), 5_000), []);
        assert_eq!(watch(&mut judge, &mut now, Some(400), Some(3), 2_000), []);
        assert_eq!(watch(&mut judge, &mut now, Some(3), Some(3), 500), [], "it has passed");
        assert_eq!(watch(&mut judge, &mut now, Some(400), Some(3), 5_000), [(true, 2_500)]);
        assert_eq!(watch(&mut judge, &mut now, Some(60), Some(3), 60_000), [], "better, and not well");
        assert_eq!(watch(&mut judge, &mut now, None, None, 60_000), [], "nothing is known");
        assert_eq!(watch(&mut judge, &mut now, Some(3), Some(3), 9_000), []);
        assert_eq!(watch(&mut judge, &mut now, Some(400), Some(3), 500), [], "it begins anew");
        assert_eq!(watch(&mut judge, &mut now, Some(3), Some(3), 20_000), [(false, 10_500)]);
    }

    #[test]
    fn who_is_no_slower_than_the_others_is_not_slow() {
        let (mut judge, mut now) = (DiskJudge::default(), 0);
        assert_eq!(watch(&mut judge, &mut now, Some(400), Some(400), 60_000), [], "all are");
        assert_eq!(watch(&mut judge, &mut now, Some(400), Some(101), 60_000), [], "not far");
        assert_eq!(watch(&mut judge, &mut now, Some(99), Some(1), 60_000), [], "not slow");
        assert_eq!(watch(&mut judge, &mut now, Some(400), None, 60_000), [], "the others are away");
        assert_eq!(watch(&mut judge, &mut now, Some(400), Some(100), 60_000), [(true, 2_500)]);
        assert_eq!(
            watch(&mut judge, &mut now, Some(400), Some(200), 60_000),
            [(false, 10_500)],
            "the others are so too"
        );
    }

    #[test]
    fn each_relapse_takes_twice_as_long_to_be_well() {
        let (mut judge, mut now) = (DiskJudge::default(), 0);
        let mut well_after = Vec::new();
        for _ in 0..7 {
            assert_eq!(watch(&mut judge, &mut now, Some(400), Some(3), 3_000).len(), 1);
            well_after
                .extend(watch(&mut judge, &mut now, Some(3), Some(3), 400_000).iter().map(|(_, after)| after - 500));
        }
        assert_eq!(well_after, [10_000, 20_000, 40_000, 80_000, 160_000, 300_000, 300_000]);
        watch(&mut judge, &mut now, Some(3), Some(3), 600_000);
        watch(&mut judge, &mut now, Some(400), Some(3), 3_000);
        assert_eq!(watch(&mut judge, &mut now, Some(3), Some(3), 20_000), [(false, 10_500)], "long ago is forgotten");
    }

    #[test]
    fn a_slow_node_leaves_an_election_to_the_others_for_a_while() {
        assert!(stands_back(true, Millis(0)) && stands_back(true, Millis(2_999)));
        assert!(!stands_back(true, STANDS_BACK) && !stands_back(false, Millis(0)));
    }

    proptest! {
        /// However the figures jump, it does not change sides more often than its holds allow.
        #[test]
        fn it_never_flaps(figures in prop::collection::vec((1i64..500, 1i64..500, 1i64..500), 1..400)) {
            let mut judges = [DiskJudge::default(), DiskJudge::default(), DiskJudge::default()];
            let mut last = [0u64; 3];
            for (turn, (a, b, c)) in (1u64..).zip(figures) {
                let (now, all) = (turn * 500, [a, b, c].map(Millis));
                let majority = of_majority(3, all);
                for (place, judge) in judges.iter_mut().enumerate() {
                    if let Some(is_slow) = judge.look(Some(all[place]), majority, at(now)) {
                        let held = if is_slow { SLOW_FOR } else { WELL_FOR };
                        prop_assert!(now - last[place] >= held.0.unsigned_abs());
                        last[place] = now;
                    }
                }
            }
        }
    }
}

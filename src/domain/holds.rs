//! Amounts that other entities hold of something scarce: units of stock, money of a wallet. Bounded, and safe against
//! repeats for good.
//!
//! A holder takes once, then confirms (the amount is gone) or releases (it is back). Each is answered from here when it
//! is repeated. What makes that safe without remembering every holder for ever is the *stamp*: a holder stamps each try
//! to take with its own cluster time, and a try whose stamp is not above `floor` is refused as stale, which its holder
//! answers with a fresh one. A holder that has closed is remembered with the stamp of its closing; when the memory is
//! full the oldest goes and the floor rises to its stamp. So a take that was delayed on its way arrives either while
//! its holder is remembered as closed, or below the floor.
//!
//! | known of the holder | take | confirm, release |
//! |---|---|---|
//! | nothing, stamp above the floor | held | closed (a take on its way comes too late) |
//! | nothing, stamp at or below the floor | stale | nothing to do |
//! | held, the same amount | already so | closed |
//! | held, another amount | conflict | closed |
//! | closed | closed | nothing to do |

use crate::types::ids::EntityKey;
use crate::types::time::Timestamp;
use serde::{Deserialize, Serialize};

/// Holds that may be open at one time: with the closed ones well within `STATE_BYTES_MAX`.
pub const OPEN_MAX: usize = 1_024;
/// Closed holders that are remembered.
pub const CLOSED_MAX: usize = 512;

/// Who holds how much.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holds {
    /// In the order of taking.
    open: Vec<Hold>,
    /// In the order of stamps.
    closed: Vec<Closed>,
    /// Takes that are not stamped above this are refused.
    floor: Timestamp,
}

/// An amount that is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hold {
    pub holder: EntityKey,
    /// Units, or minor units of money; above zero.
    pub amount: i64,
}

/// A holder that will not take again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Closed {
    /// The part of the id that is not shared with other entities of the same home.
    tail: [u8; 8],
    stamp: Timestamp,
}

/// Why nothing was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum HoldFault {
    #[error("not an amount")]
    NotAnAmount,
    /// Worth another try with a fresh stamp.
    #[error("too long on its way")]
    Stale,
    /// The holder has confirmed or released.
    #[error("this holder is done")]
    Closed,
    #[error("held already with another amount")]
    Conflict,
    /// Worth another try later.
    #[error("as many holders as there may be at one time")]
    Full,
}

impl Holds {
    /// What is held in all.
    #[must_use]
    pub fn total(&self) -> i64 {
        self.open.iter().map(|hold| hold.amount).fold(0, i64::saturating_add)
    }
    /// Holders with an open hold.
    #[must_use]
    pub fn count(&self) -> usize {
        self.open.len()
    }
    /// What the holder holds.
    #[must_use]
    pub fn of(&self, holder: EntityKey) -> Option<Hold> {
        self.open.iter().find(|hold| hold.holder == holder).copied()
    }

    /// Whether a take changes anything: `false` when it is a repeat.
    ///
    /// # Errors
    /// [`HoldFault`]; whether there is enough is the owner's to judge, after this.
    pub fn may_take(&self, hold: Hold, stamp: Timestamp) -> Result<bool, HoldFault> {
        match self.of(hold.holder) {
            Some(known) if known == hold => return Ok(false),
            Some(_) => return Err(HoldFault::Conflict),
            None => {}
        }
        if hold.amount <= 0 {
            return Err(HoldFault::NotAnAmount);
        }
        if self.is_closed(hold.holder) {
            return Err(HoldFault::Closed);
        }
        if stamp <= self.floor {
            return Err(HoldFault::Stale);
        }
        if self.open.len() >= OPEN_MAX { Err(HoldFault::Full) } else { Ok(true) }
    }

    /// Whether a confirm or a release changes anything.
    #[must_use]
    pub fn may_close(&self, holder: EntityKey, stamp: Timestamp) -> bool {
        self.of(holder).is_some() || (stamp > self.floor && !self.is_closed(holder))
    }

    fn is_closed(&self, holder: EntityKey) -> bool {
        self.closed.iter().any(|closed| closed.tail == tail(holder))
    }

    /// Total: a holder holds once.
    pub fn take(&mut self, hold: Hold) {
        if self.of(hold.holder).is_none() {
            self.open.push(hold);
        }
    }

    /// What the holder held, if anything; it will not take again.
    pub fn close(&mut self, holder: EntityKey, stamp: Timestamp) -> Option<Hold> {
        let place = self.open.iter().position(|hold| hold.holder == holder);
        let held = place.map(|place| self.open.remove(place));
        if stamp > self.floor && !self.is_closed(holder) {
            let place = self.closed.partition_point(|closed| closed.stamp <= stamp);
            self.closed.insert(place, Closed { tail: tail(holder), stamp });
        }
        while self.closed.len() > CLOSED_MAX {
            self.floor = self.floor.max(self.closed.remove(0).stamp);
        }
        held
    }
}

fn tail(holder: EntityKey) -> [u8; 8] {
    let mut tail = [0u8; 8];
    tail.copy_from_slice(&holder.id[8..]);
    tail
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::codec;
    use crate::types::ids::EntityKind;
    use crate::types::limits::STATE_BYTES_MAX;
    use proptest::prelude::*;

    fn holder(number: u16) -> EntityKey {
        let mut id = [0xaa; 16];
        id[14..].copy_from_slice(&number.to_be_bytes());
        EntityKey { kind: EntityKind(7), id }
    }
    fn hold(number: u16, amount: i64) -> Hold {
        Hold { holder: holder(number), amount }
    }
    const NOW: Timestamp = Timestamp(1_800_000_000_000);

    #[test]
    fn a_take_is_answered_from_the_state_when_it_is_repeated_and_refused_once_closed() {
        let mut holds = Holds::default();
        assert_eq!(holds.may_take(hold(1, 3), NOW), Ok(true));
        holds.take(hold(1, 3));
        assert_eq!(holds.may_take(hold(1, 3), NOW), Ok(false));
        assert_eq!(holds.may_take(hold(1, 4), NOW), Err(HoldFault::Conflict));
        assert_eq!(holds.total(), 3);
        assert_eq!(holds.close(holder(1), NOW), Some(hold(1, 3)));
        assert!(!holds.may_close(holder(1), NOW), "a repeat of the close changes nothing");
        assert_eq!(holds.may_take(hold(1, 3), NOW), Err(HoldFault::Closed), "a take that was delayed");
        assert_eq!(holds.may_take(hold(2, 0), NOW), Err(HoldFault::NotAnAmount));
    }

    #[test]
    fn a_release_that_overtakes_its_take_keeps_it_out() {
        let mut holds = Holds::default();
        assert!(holds.may_close(holder(1), NOW));
        assert_eq!(holds.close(holder(1), NOW), None);
        assert_eq!(holds.may_take(hold(1, 3), NOW), Err(HoldFault::Closed));
    }

    #[test]
    fn forgotten_holders_are_kept_out_by_the_floor_and_fresh_ones_are_not() {
        let mut holds = Holds::default();
        let stamp = |number: u16| Timestamp(NOW.0 + i64::from(number));
        for number in 0..1_000 {
            holds.take(hold(number, 1));
            holds.close(holder(number), stamp(number));
        }
        for number in 0..1_000 {
            let late = holds.may_take(hold(number, 1), stamp(number));
            assert!(matches!(late, Err(HoldFault::Closed | HoldFault::Stale)), "{number}: {late:?}");
        }
        assert_eq!(holds.may_take(hold(5_000, 1), stamp(1_000)), Ok(true));
        assert_eq!(holds.may_take(hold(5_000, 1), stamp(3)), Err(HoldFault::Stale));
    }

    #[test]
    fn the_state_stays_small_and_refuses_rather_than_grows() {
        let mut holds = Holds::default();
        for number in 0..4_000 {
            let stamp = Timestamp(NOW.0 + i64::from(number));
            if holds.may_take(hold(number, i64::from(u32::MAX)), stamp) == Ok(true) {
                holds.take(hold(number, i64::from(u32::MAX)));
            }
            if number >= 2_000 {
                holds.close(holder(number), stamp);
            }
        }
        assert_eq!(holds.count(), OPEN_MAX);
        assert_eq!(holds.may_take(hold(9_000, 1), Timestamp(i64::MAX)), Err(HoldFault::Full));
        assert!(codec::encode(&holds).len() < STATE_BYTES_MAX * 9 / 10);
    }

    proptest! {
        /// Takes and closes of few holders in any order, with delays: nobody takes after closing.
        #[test]
        fn nobody_takes_after_closing(steps in proptest::collection::vec((0u16..6, any::<bool>(), 0i64..50), 0..200)) {
            let mut holds = Holds::default();
            let mut closed = std::collections::BTreeSet::new();
            for (at, (number, takes, delay)) in (100i64..).zip(steps) {
                let stamp = Timestamp(at - delay);
                if takes && holds.may_take(hold(number, 1), stamp) == Ok(true) {
                    prop_assert!(!closed.contains(&number));
                    holds.take(hold(number, 1));
                } else if !takes && holds.may_close(holder(number), Timestamp(at)) {
                    holds.close(holder(number), Timestamp(at));
                    closed.insert(number);
                }
                prop_assert_eq!(holds.total(), i64::try_from(holds.count()).unwrap());
            }
        }
    }
}

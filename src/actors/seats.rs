//! Seats: how many entities may be in memory for the sake of something that is due, by what they wait for; and what was
//! left on disk for want of one.
//!
//! An entity that waits at a gateway stays live, so an outage of one provider must not take the memory that the others
//! need. Each class (one for each lane, one for timers) always has its share; what is beyond the shares goes to
//! whoever comes first, up to what the lane's gateway queues: more would be loaded only to be turned away, again and
//! again. A want without a seat stays what it is, a row on disk; [`LeftOnDisk`] remembers from where on
//! the loader has to look for it. The rule: the sum over all classes of max(taken, share) never exceeds the total.

use crate::persistence::key::WakeKey;
use crate::types::effect::{Channel, Lane, Slot};
use crate::types::ids::{EntityKey, EntityKind, ShardId};
use crate::types::time::Timestamp;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::Arc;

/// The part of all seats that each class has for itself.
const SHARE: usize = 28;

/// What a seat is for: one lane, or (`None`, and calls to other entities, which wait nowhere) timers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct SeatClass(Option<Lane>);

impl SeatClass {
    pub const ALL: [Self; 11] = [
        Self(None),
        Self(Some(Lane::Payment)),
        Self(Some(Lane::Shipment)),
        Self(Some(Lane::Send(Channel::Kakao))),
        Self(Some(Lane::Send(Channel::Sms))),
        Self(Some(Lane::Send(Channel::Email))),
        Self(Some(Lane::Send(Channel::Push))),
        Self(Some(Lane::Notice(Channel::Kakao))),
        Self(Some(Lane::Notice(Channel::Sms))),
        Self(Some(Lane::Notice(Channel::Email))),
        Self(Some(Lane::Notice(Channel::Push))),
    ];

    /// Of a wake row: the lane of its call, `None` for a timer.
    #[must_use]
    pub fn of(lane: Option<Lane>) -> Self {
        Self(lane.filter(|lane| *lane != Lane::Entity))
    }

    #[must_use]
    pub fn lane(self) -> Option<Lane> {
        self.0
    }

    /// Its place in [`SeatClass::ALL`].
    #[must_use]
    pub fn place(self) -> usize {
        Self::ALL.iter().position(|class| *class == self).expect("every class is listed")
    }
}

/// The seats of a node.
pub struct Seats {
    share: usize,
    total: usize,
    /// What each class may have at most, whatever is free.
    caps: [usize; SeatClass::ALL.len()],
    taken: Mutex<[usize; SeatClass::ALL.len()]>,
}

impl Seats {
    /// At least one seat a class, whatever `total` and `queue_of` (what a lane queues at most) say.
    #[must_use]
    pub fn new(total: usize, queue_of: impl Fn(Lane) -> usize) -> Arc<Self> {
        let total = total.max(SeatClass::ALL.len());
        let caps = SeatClass::ALL.map(|class| class.lane().map_or(total, &queue_of).max(1));
        Arc::new(Self { share: (total / SHARE).max(1), total, caps, taken: Mutex::default() })
    }

    /// A seat, unless all that the class may have are taken.
    #[must_use]
    pub fn take(self: &Arc<Self>, class: SeatClass) -> Option<Seat> {
        let mut taken = self.taken.lock();
        if self.left(&taken, class) == 0 {
            return None;
        }
        taken[class.place()] += 1;
        Some(Seat { class, seats: Arc::clone(self) })
    }

    /// Seats that the class could take now.
    #[must_use]
    pub fn room(&self, class: SeatClass) -> usize {
        self.left(&self.taken.lock(), class)
    }

    /// Seats that the class has taken.
    #[must_use]
    pub fn taken(&self, class: SeatClass) -> usize {
        self.taken.lock()[class.place()]
    }

    fn left(&self, taken: &[usize; SeatClass::ALL.len()], class: SeatClass) -> usize {
        let others: usize =
            (0..taken.len()).filter(|place| *place != class.place()).map(|place| taken[place].max(self.share)).sum();
        (self.total - others).min(self.caps[class.place()]).saturating_sub(taken[class.place()])
    }
}

/// One seat; given back when dropped.
pub struct Seat {
    class: SeatClass,
    seats: Arc<Seats>,
}

impl Seat {
    #[must_use]
    pub fn class(&self) -> SeatClass {
        self.class
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.seats.taken.lock()[self.class.place()] -= 1;
    }
}

/// From where on each shard's wake rows of a class may belong to entities that are not in memory.
#[derive(Default)]
pub struct LeftOnDisk {
    from: Mutex<BTreeMap<(SeatClass, ShardId), WakeKey>>,
}

impl LeftOnDisk {
    /// Rows of the class strictly after `position` may have been left.
    pub fn note(&self, class: SeatClass, shard: ShardId, position: WakeKey) {
        self.from.lock().entry((class, shard)).and_modify(|known| *known = position.min(*known)).or_insert(position);
    }

    /// Takes the earliest position of a class out of the book; the caller notes what it does not get done.
    #[must_use]
    pub fn take_earliest(&self, class: SeatClass) -> Option<(ShardId, WakeKey)> {
        let mut from = self.from.lock();
        let of_class = from.range((class, ShardId(0))..=(class, ShardId(u16::MAX)));
        let ((_, shard), position) = of_class.min_by_key(|(_, position)| **position).map(|(at, row)| (*at, *row))?;
        from.remove(&(class, shard));
        Some((shard, position))
    }

    #[must_use]
    pub fn holds(&self, class: SeatClass, shard: ShardId) -> bool {
        self.from.lock().contains_key(&(class, shard))
    }

    /// The instant from which on wants of the class may wait on disk; `None` when all that are due are in memory.
    #[must_use]
    pub fn since(&self, class: SeatClass) -> Option<Timestamp> {
        let from = self.from.lock();
        from.range((class, ShardId(0))..=(class, ShardId(u16::MAX))).map(|(_, position)| position.due).min()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.from.lock().is_empty()
    }

    /// The shard is read from its beginning anew, or is led no longer.
    pub fn forget(&self, shard: ShardId) {
        self.from.lock().retain(|(_, of), _| *of != shard);
    }
}

/// The place before every wake row of an instant.
#[must_use]
pub fn before_all_at(due: Timestamp) -> WakeKey {
    after_all_at(Timestamp(due.0.saturating_sub(1)))
}

/// The place behind every wake row of an instant.
#[must_use]
pub fn after_all_at(due: Timestamp) -> WakeKey {
    let key = EntityKey { kind: EntityKind(u8::MAX), id: [u8::MAX; 16] };
    WakeKey { due, key, slot: Slot(u16::MAX) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const PAYMENT: SeatClass = SeatClass(Some(Lane::Payment));
    const SMS: SeatClass = SeatClass(Some(Lane::Send(Channel::Sms)));

    const OTHERS: usize = SeatClass::ALL.len() - 1;

    fn fill(seats: &Arc<Seats>, class: SeatClass) -> Vec<Seat> {
        std::iter::from_fn(|| seats.take(class)).collect()
    }

    #[test]
    fn one_class_may_take_all_but_the_shares_of_the_others() {
        let seats = Seats::new(280, |_| usize::MAX);
        let payments = fill(&seats, PAYMENT);
        assert_eq!(payments.len(), 280 - OTHERS * 10);
        for class in SeatClass::ALL.into_iter().filter(|class| *class != PAYMENT) {
            assert_eq!(seats.room(class), 10, "its share is there whatever the payments do");
        }
        drop(payments);
        assert_eq!(fill(&seats, SMS).len(), 280 - OTHERS * 10);
    }

    #[test]
    fn a_class_has_no_more_seats_than_its_lane_queues() {
        let seats = Seats::new(280, |lane| if lane == Lane::Payment { 50 } else { 0 });
        let payments = fill(&seats, PAYMENT);
        assert_eq!((payments.len(), seats.room(PAYMENT)), (50, 0));
        assert_eq!(fill(&seats, SMS).len(), 1, "at least one");
        assert_eq!(fill(&seats, SeatClass(None)).len(), 280 - 50 - (OTHERS - 1) * 10, "timers queue nowhere");
    }

    #[test]
    fn a_call_to_another_entity_sits_with_the_timers() {
        assert_eq!(SeatClass::of(Some(Lane::Entity)), SeatClass::of(None));
        assert_eq!(SeatClass::of(Some(Lane::Payment)), PAYMENT);
    }

    #[test]
    fn what_was_left_comes_back_in_due_order_over_all_shards() {
        let left = LeftOnDisk::default();
        let at = |due| before_all_at(Timestamp(due));
        for (shard, due) in [(1, 30), (2, 10), (3, 20), (2, 25)] {
            left.note(PAYMENT, ShardId(shard), at(due));
        }
        left.note(SMS, ShardId(4), at(1));
        assert_eq!(left.since(PAYMENT), Some(Timestamp(9)));
        let order: Vec<u16> = std::iter::from_fn(|| left.take_earliest(PAYMENT)).map(|(shard, _)| shard.0).collect();
        assert_eq!(order, [2, 3, 1]);
        assert!(left.holds(SMS, ShardId(4)));
        left.forget(ShardId(4));
        assert_eq!(left.since(SMS), None);
    }

    proptest! {
        #[test]
        fn every_class_always_has_its_share_and_the_total_holds(
            total in 11usize..600, moves in prop::collection::vec((0usize..=OTHERS, any::<bool>()), 1..800),
        ) {
            let seats = Seats::new(total, |_| usize::MAX);
            let mut held: Vec<Seat> = Vec::new();
            for (place, take) in moves {
                let class = SeatClass::ALL[place];
                if take {
                    let had = held.iter().filter(|seat| seat.class() == class).count();
                    let seat = seats.take(class);
                    prop_assert!(seat.is_some() || had >= seats.share);
                    held.extend(seat);
                } else if let Some(at) = held.iter().position(|seat| seat.class() == class) {
                    held.swap_remove(at);
                }
                prop_assert!(held.len() <= total);
            }
        }
    }
}

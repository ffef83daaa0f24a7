//! INV-8: a seat has one reservation at a time, so none is sold twice; what is held is sold or free again within five minutes
//! and what faults add; every reservation comes to its end with its seats and its money, or without both; queues let people
//! in in the order of their numbers, never more than may be in at one time, and nobody takes a seat who was not let in.

use super::history::{BookingEnd, BookingRow, FaultSpan, History, QueueMove, QueueRow, SeatMove};
use super::inv03_on_time::{LATE_MAX, excused_until};
use crate::types::ids::EntityKey;
use crate::types::time::{Millis, Timestamp};
use std::collections::{BTreeMap, BTreeSet};

/// How long seats may be held unpaid.
pub const HELD_FOR: Millis = Millis::from_mins(5);
/// How long somebody who was let in may choose and buy.
pub const ADMITTED_FOR: Millis = Millis::from_mins(10);
/// Who is let in within a second passes together.
const BATCH: Millis = Millis::from_secs(1);

/// The first seat, reservation or admission that is not as it must be.
#[must_use]
pub fn check(history: &History) -> Option<String> {
    let (seats, breach) = replay(history);
    breach
        .or_else(|| queues(history))
        .or_else(|| uninvited(history))
        .or_else(|| history.bookings.iter().find_map(|booking| unsettled(booking, &seats)))
}

/// Whose a seat is.
#[derive(Clone, Copy)]
struct Holder {
    reservation: EntityKey,
    since: Timestamp,
    sold: bool,
}

type Seats = BTreeMap<(EntityKey, u16), Holder>;

/// Whose each seat is at the end, and the first that had two holders or was held for too long.
fn replay(history: &History) -> (Seats, Option<String>) {
    let mut spans = history.faults.clone();
    spans.sort_by_key(|span| span.from);
    let mut seats = Seats::new();
    for row in &history.seats {
        let place = (row.area, row.seat);
        let known = seats.get(&place).copied();
        let held = known.filter(|holder| holder.reservation == row.reservation);
        match (row.what, held) {
            (SeatMove::Held { .. }, _) if known.is_some() => {
                let breach = format!("taken while {:?} has it: {row:?}", known.map(|holder| holder.reservation));
                return (seats, Some(breach));
            }
            (SeatMove::Held { .. }, _) => {
                seats.insert(place, Holder { reservation: row.reservation, since: row.at, sold: false });
            }
            (SeatMove::Sold | SeatMove::Freed, None) => {
                return (seats, Some(format!("not its reservation's to give or take: {row:?}")));
            }
            (SeatMove::Sold | SeatMove::Freed, Some(holder)) => {
                if let Some(breach) = late(row.area, row.seat, holder, row.at, &spans) {
                    return (seats, Some(breach));
                }
                seats.remove(&place);
                if row.what == SeatMove::Sold {
                    seats.insert(place, Holder { sold: true, ..holder });
                }
            }
        }
    }
    let left = seats.iter().find_map(|((area, seat), holder)| late(*area, *seat, *holder, history.ended_at, &spans));
    (seats, left)
}

/// A hold that had to be over before `at`.
fn late(area: EntityKey, seat: u16, holder: Holder, at: Timestamp, spans: &[FaultSpan]) -> Option<String> {
    let due = holder.since + HELD_FOR;
    let excused = excused_until(due, due, spans) + LATE_MAX;
    (!holder.sold && at > excused).then(|| {
        let Holder { reservation, since, .. } = holder;
        format!("seat {seat} of {area:?} was held for {reservation:?} from {since} until {at}, excused until {excused}")
    })
}

/// A reservation that is under way, that has a part of its seats, or whose money is not where its seats are.
fn unsettled(booking: &BookingRow, seats: &Seats) -> Option<String> {
    let mine = seats.values().filter(|holder| holder.reservation == booking.reservation);
    let (sold, held): (Vec<&Holder>, Vec<&Holder>) = mine.partition(|holder| holder.sold);
    let kept = booking.captured - booking.refunded;
    let sound = match booking.end {
        BookingEnd::Confirmed { .. } => {
            let paid = if booking.by_wallet { booking.captured == 0 } else { kept == booking.amount };
            paid && sold.len() == booking.seats && held.is_empty()
        }
        BookingEnd::Over => kept == 0 && sold.is_empty() && held.is_empty(),
        BookingEnd::Open => false,
    };
    (!sound).then(|| format!("{booking:?} has {} seats and holds {}", sold.len(), held.len()))
}

/// One show's queue, replayed.
#[derive(Default)]
struct Room {
    announced: Option<(Timestamp, u32)>,
    entered: u64,
    admitted: u64,
    active: BTreeMap<u64, Timestamp>,
    /// They are gone, or will be passed over.
    left: BTreeSet<u64>,
}

fn queues(history: &History) -> Option<String> {
    let mut rooms: BTreeMap<EntityKey, Room> = BTreeMap::new();
    history.queues.iter().find_map(|row| {
        let room = rooms.entry(row.queue).or_default();
        let breach = room.step(row);
        breach.map(|breach| format!("{breach}: {row:?}"))
    })
}

impl Room {
    fn step(&mut self, row: &QueueRow) -> Option<String> {
        match row.what {
            QueueMove::Announced { opens_at, active_max } => self.announced = Some((opens_at, active_max)),
            QueueMove::Entered { number } => {
                let next = self.entered + 1;
                self.entered = number;
                return (number != next).then(|| format!("number {next} comes next"));
            }
            QueueMove::Admitted { upto } => return self.admit(upto, row.at),
            QueueMove::Left { number } => {
                self.left.insert(number);
                self.active.remove(&number);
            }
        }
        None
    }

    fn admit(&mut self, upto: u64, at: Timestamp) -> Option<String> {
        let before = std::mem::replace(&mut self.admitted, upto);
        let Some((opens_at, active_max)) = self.announced else { return Some("a queue without a show".to_owned()) };
        if upto <= before || upto > self.entered || at < opens_at {
            return Some(format!("{before} of {} were in, and it opens at {opens_at}", self.entered));
        }
        self.active.retain(|_, since| at < *since + ADMITTED_FOR - BATCH);
        self.active.extend((before + 1..=upto).filter(|number| !self.left.contains(number)).map(|number| (number, at)));
        let active = self.active.len();
        (active > active_max as usize).then(|| format!("{active} are in, at most {active_max} may be"))
    }
}

/// The first seat that was taken by somebody who was not let in before.
fn uninvited(history: &History) -> Option<String> {
    let mut let_in: BTreeMap<EntityKey, Vec<(u64, Timestamp)>> = BTreeMap::new();
    for row in &history.queues {
        if let QueueMove::Admitted { upto } = row.what {
            let_in.entry(row.queue).or_default().push((upto, row.at));
        }
    }
    let since = |queue: &EntityKey, number: u64| {
        let admissions = let_in.get(queue)?;
        let first = admissions.partition_point(|(upto, _)| *upto < number);
        admissions.get(first).map(|(_, at)| *at)
    };
    let in_by = |since: Option<Timestamp>, at: Timestamp| since.is_some_and(|since| since <= at + history.clock_error);
    history.seats.iter().find_map(|row| match &row.what {
        SeatMove::Held { queue, number } if !in_by(since(queue, *number), row.at) => {
            Some(format!("number {number} was let in at {:?} only: {row:?}", since(queue, *number)))
        }
        SeatMove::Held { .. } | SeatMove::Sold | SeatMove::Freed => None,
    })
}

//! What the records of shows, queues and areas say, in the words of the checkers: who came in, and whose a seat was when.

use crate::chaos::checkers::history::{QueueMove, QueueRow, SeatMove, SeatRow};
use crate::domain::area::{AreaEvent, Serial};
use crate::domain::kinds;
use crate::domain::queue::{QueueEvent, queue_key};
use crate::domain::show::{SeatNumber, ShowEvent};
use crate::types::codec;
use crate::types::ids::EntityKey;
use crate::types::record::Record;
use crate::types::time::Timestamp;
use std::collections::BTreeMap;

/// Seats of a reservation, by the assignment that took them.
struct Hold {
    serial: Serial,
    seats: Vec<SeatNumber>,
    /// Its reservation has not answered yet.
    on_its_way: bool,
}

/// Follows the holds of all areas.
#[derive(Default)]
pub struct Seats {
    holds: BTreeMap<(EntityKey, [u8; 16]), Hold>,
    pub rows: Vec<SeatRow>,
    pub queues: Vec<QueueRow>,
}

impl Seats {
    /// A record of any kind was first applied at `at`.
    ///
    /// # Panics
    /// On events that do not decode; what was applied did.
    pub fn applied(&mut self, record: &Record, at: Timestamp) {
        let key = record.key;
        match key.kind {
            kinds::SHOW => {
                let events: Vec<ShowEvent> = codec::decode(&record.events).expect("applied events decode");
                for event in events {
                    if let ShowEvent::Created { at, terms } = event {
                        let (opens_at, active_max) = (terms.admission.opens_at, terms.admission.active_max);
                        let what = QueueMove::Announced { opens_at, active_max };
                        self.queues.push(QueueRow { queue: queue_key(key), at, what });
                    }
                }
            }
            kinds::QUEUE => {
                let events: Vec<QueueEvent> = codec::decode(&record.events).expect("applied events decode");
                events.into_iter().for_each(|event| self.queue(key, event));
            }
            kinds::AREA => {
                let events: Vec<AreaEvent> = codec::decode(&record.events).expect("applied events decode");
                events.into_iter().for_each(|event| self.area(key, event, at));
            }
            _other => {}
        }
    }

    fn queue(&mut self, queue: EntityKey, event: QueueEvent) {
        let mut push = |at, what| self.queues.push(QueueRow { queue, at, what });
        match event {
            QueueEvent::Entered { at, entered, .. } => {
                push(at, QueueMove::Entered { number: entered.entry.number.0 });
            }
            QueueEvent::Admitted { at, admitted } => push(at, QueueMove::Admitted { upto: admitted.upto.0 }),
            QueueEvent::Settled { at, void, .. } => {
                void.into_iter().for_each(|number| push(at, QueueMove::Left { number: number.0 }));
            }
            QueueEvent::Left { at, number } => push(at, QueueMove::Left { number: number.0 }),
            QueueEvent::Begun { .. } | QueueEvent::Swept { .. } => {}
        }
    }

    fn area(&mut self, area: EntityKey, event: AreaEvent, at: Timestamp) {
        match event {
            AreaEvent::Taken { assignment, .. } => {
                let what = SeatMove::Held { queue: queue_key(assignment.show), number: assignment.number.0 };
                let hold = Hold { serial: assignment.serial, seats: assignment.seats, on_its_way: true };
                self.tell((area, assignment.reservation), &hold.seats, what, at);
                self.holds.insert((area, assignment.reservation.id), hold);
            }
            AreaEvent::Settled { taken, freed, .. } => {
                let ours = |hold: &Hold, serials: &[Serial]| hold.on_its_way && serials.contains(&hold.serial);
                let range = (area, [0; 16])..=(area, [0xFF; 16]);
                let mut gone = Vec::new();
                for ((_, reservation), hold) in self.holds.range_mut(range) {
                    if ours(hold, &freed) {
                        gone.push(*reservation);
                    } else if ours(hold, &taken) {
                        hold.on_its_way = false;
                    }
                }
                for id in gone {
                    self.free(area, EntityKey { kind: kinds::RESERVATION, id }, at);
                }
            }
            AreaEvent::Sold { reservation, .. } => {
                if let Some(hold) = self.holds.get_mut(&(area, reservation.id)) {
                    hold.on_its_way = false;
                    let seats = hold.seats.clone();
                    self.tell((area, reservation), &seats, SeatMove::Sold, at);
                }
            }
            AreaEvent::Released { reservation, .. } => self.free(area, reservation, at),
            AreaEvent::Begun { .. } | AreaEvent::Reported { .. } => {}
        }
    }

    fn free(&mut self, area: EntityKey, reservation: EntityKey, at: Timestamp) {
        if let Some(hold) = self.holds.remove(&(area, reservation.id)) {
            self.tell((area, reservation), &hold.seats, SeatMove::Freed, at);
        }
    }

    fn tell(
        &mut self,
        (area, reservation): (EntityKey, EntityKey),
        seats: &[SeatNumber],
        what: SeatMove,
        at: Timestamp,
    ) {
        self.rows.extend(seats.iter().map(|seat| SeatRow { area, seat: seat.0, reservation, at, what }));
    }
}

//! What happens to the seats of a section, and what the event stream says of it. Who sits there is not named.

use super::{Area, Hold, HoldPhase, Serial};
use crate::domain::kinds;
use crate::domain::reservation::Assignment;
use crate::domain::show::SectionNumber;
use crate::types::codec::{self, CodecError};
use crate::types::ids::EntityKey;
use crate::types::publication::{Publication, Topic};
use crate::types::time::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// What happened to an area. Persisted: variants are append only.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum AreaEvent {
    Begun {
        at: Timestamp,
        show: EntityKey,
        section: SectionNumber,
        seats_total: u16,
    },
    /// Seats are held; the assignment is on its way to its reservation.
    Taken {
        slot: u16,
        assignment: Box<Assignment>,
    },
    /// `taken`: their reservations hold them. `freed`: nobody does, the seats are free again.
    Settled {
        at: Timestamp,
        taken: Vec<Serial>,
        freed: Vec<Serial>,
    },
    Sold {
        at: Timestamp,
        reservation: EntityKey,
    },
    Released {
        at: Timestamp,
        reservation: EntityKey,
    },
    /// The show knows of the changes up to this one.
    Reported {
        at: Timestamp,
        revision: u32,
    },
}

const SEATS: Topic = Topic("show-seats.v1");

/// The topics that an area's events are published under.
pub const TOPICS: [Topic; 1] = [SEATS];

/// What the events of one record say on the event stream.
///
/// # Errors
/// [`CodecError`]: the bytes are not an area's events.
pub fn publications(events: &[u8]) -> Result<Vec<Publication>, CodecError> {
    let events: Vec<AreaEvent> = codec::decode(events)?;
    events.iter().map(|event| Publication::new(SEATS, event.describe(), &[])).collect()
}

impl AreaEvent {
    pub(super) fn describe(&self) -> Value {
        match self {
            Self::Begun { at, show, section, seats_total } => json!({
                "type": "area_begun", "at": at.to_rfc3339(), "show_id": kinds::text_id(*show),
                "section": section.0, "seats": seats_total,
            }),
            Self::Taken { assignment, .. } => json!({
                "type": "seats_held", "at": assignment.assigned_at.to_rfc3339(), "seats": assignment.names(),
                "reservation_id": kinds::text_id(assignment.reservation),
            }),
            Self::Settled { at, taken, freed } => json!({
                "type": "assignments_settled", "at": at.to_rfc3339(), "taken": taken.len(), "freed": freed.len(),
            }),
            Self::Sold { at, reservation } => json!({
                "type": "seats_sold", "at": at.to_rfc3339(), "reservation_id": kinds::text_id(*reservation),
            }),
            Self::Released { at, reservation } => json!({
                "type": "seats_released", "at": at.to_rfc3339(), "reservation_id": kinds::text_id(*reservation),
            }),
            Self::Reported { at, revision } => json!({
                "type": "sales_reported", "at": at.to_rfc3339(), "revision": revision,
            }),
        }
    }

    pub(super) fn evolve(&self, slot: &mut Option<Area>) {
        match (self, slot) {
            (Self::Begun { show, section, seats_total, .. }, slot) => {
                *slot = Some(Area::begun(*show, *section, *seats_total));
            }
            (Self::Taken { slot, assignment }, Some(area)) => area.take(*slot, assignment),
            (Self::Settled { taken, freed, .. }, Some(area)) => {
                taken.iter().for_each(|serial| area.settle(*serial, true));
                freed.iter().for_each(|serial| area.settle(*serial, false));
            }
            (Self::Sold { at, reservation }, Some(area)) => area.sell(*reservation, *at),
            (Self::Released { reservation, .. }, Some(area)) => area.free(reservation.id),
            (Self::Reported { at, revision }, Some(area)) => {
                area.reported = *revision;
                area.reported_at = *at;
            }
            (
                Self::Taken { .. }
                | Self::Settled { .. }
                | Self::Sold { .. }
                | Self::Released { .. }
                | Self::Reported { .. },
                None,
            ) => {}
        }
    }
}

impl Area {
    fn take(&mut self, slot: u16, assignment: &Assignment) {
        let (seats, serial) = (assignment.seats.clone(), assignment.serial);
        for seat in &seats {
            let (byte, bit) = super::bit(*seat);
            self.taken[byte] |= bit;
        }
        self.last_serial = serial;
        self.holds.insert(assignment.reservation.id, Hold { seats, serial, phase: HoldPhase::Assigned });
        self.assignments.insert(slot, assignment.clone());
    }

    /// A hold that was sold or released meanwhile stays so.
    fn settle(&mut self, serial: Serial, taken: bool) {
        let slot = self.assignments.iter().find(|(_, known)| known.serial == serial).map(|(slot, _)| *slot);
        let Some(assignment) = slot.and_then(|slot| self.assignments.remove(&slot)) else { return };
        let hold = self.holds.get_mut(&assignment.reservation.id);
        let Some(hold) = hold.filter(|hold| hold.serial == serial && hold.phase == HoldPhase::Assigned) else { return };
        if taken {
            hold.phase = HoldPhase::Held;
        } else {
            self.free(assignment.reservation.id);
        }
    }

    fn sell(&mut self, reservation: EntityKey, at: Timestamp) {
        let Some(hold) = self.holds.get_mut(&reservation.id).filter(|hold| hold.phase != HoldPhase::Sold) else {
            return;
        };
        hold.phase = HoldPhase::Sold;
        for seat in &hold.seats {
            let (byte, bit) = super::bit(*seat);
            self.sold[byte] |= bit;
        }
        let seats = u16::try_from(hold.seats.len()).unwrap_or(u16::MAX);
        self.count.seats = self.count.seats.saturating_add(seats);
        self.count.revision = self.count.revision.saturating_add(1);
        if self.count.seats == self.seats_total {
            self.count.full_at.get_or_insert(at);
        }
    }

    fn free(&mut self, reservation: [u8; 16]) {
        let Some(hold) = self.holds.remove(&reservation) else { return };
        for seat in &hold.seats {
            let (byte, bit) = super::bit(*seat);
            self.taken[byte] &= !bit;
            self.sold[byte] &= !bit;
        }
        if hold.phase == HoldPhase::Sold {
            let seats = u16::try_from(hold.seats.len()).unwrap_or(u16::MAX);
            self.count.seats = self.count.seats.saturating_sub(seats);
            self.count.revision = self.count.revision.saturating_add(1);
        }
    }
}

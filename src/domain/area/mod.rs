//! The seats of one section of a show: who holds which, decided in one order (ADR-12).
//!
//! | seats are | by | to |
//! |---|---|---|
//! | all free | Take | held: an assignment, and a wanted call that takes it to the reservation |
//! | any held or sold | Take | refused |
//! | held by the reservation | Take of the same | unchanged |
//! | an assignment on its way | its reservation took it | held |
//! | an assignment on its way | its reservation was made by another, or is over | free again |
//! | held | Confirm | sold |
//! | held, or sold | Release | free |
//!
//! INV-8: a seat has at most one reservation. An area waits for nobody: each hold has a reservation, which confirms or
//! releases it within its time. How many seats are sold goes to the show, at most every second until all are.

mod event;
#[cfg(test)]
mod tests;

pub use event::{AreaEvent, TOPICS, publications};

use super::entity::{Decision, Entity};
use super::kinds;
use super::reservation::{Assignment, OWNER_BYTES_MAX, ReservationCommand, ReservationRejection, ReservationState};
use super::show::{SECTION_SEATS_MAX, SeatNumber, SectionNumber, ShowCommand, ShowState, Sold, SoldReport, key_of};
use crate::types::call::{CallOutcome, CallRequest, EntityOutcome, EntityRequest, Report};
use crate::types::codec;
use crate::types::effect::{CallWant, Effects, Guard, Lane, Slot};
use crate::types::ids::{EntityKey, EntityKind};
use crate::types::kind::{At, AttemptStart};
use crate::types::level::{FeatureLevel, NEIGHBOURS_LEVEL};
use crate::types::record::Sealed;
use crate::types::time::{Millis, Timestamp};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// Assignments whose reservations have not answered yet.
pub const ASSIGNMENTS_MAX: usize = 64;
/// Seats of one reservation.
pub const RESERVATION_SEATS_MAX: usize = 10;
/// How often the show hears of seats that were sold.
const REPORT_PAUSE: Millis = Millis::from_secs(1);
/// Names the call to the show. Slots below belong to assignments.
const REPORT: Slot = Slot(1_000);

/// What may be asked of an area.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum AreaCommand {
    Take(Box<Take>),
    /// Bought: from a reservation that holds.
    Confirm {
        reservation: EntityKey,
        serial: Serial,
    },
    /// From a reservation that is over, whatever it holds.
    Release {
        reservation: EntityKey,
        serial: Serial,
    },
    /// What reservations answered, and the revisions that the show knows, by section.
    Settle {
        settlements: Vec<Settlement>,
        reported: Vec<u32>,
    },
    /// Made by the runtime for a timer, an attempt or a report; an area wants none.
    Unwanted,
}

/// A user wants seats. An area begins with the first; the number of its seats is the show's to say.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Take {
    pub seats_total: u16,
    /// Its serial and instant are the area's to set.
    pub assignment: Assignment,
}

/// Counts assignments, so that a late answer is never taken for another's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Serial(pub u32);

/// A reservation's answer to an assignment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settlement {
    pub serial: Serial,
    /// Whether the reservation took it.
    pub taken: bool,
}

/// Business says no; nothing was changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum AreaRejection {
    #[error("no such area")]
    NotFound,
    #[error("seat {0:?} is taken")]
    SeatTaken(SeatNumber),
    /// The reservation holds other seats, or an assignment of it is still on its way.
    #[error("the reservation has an assignment")]
    Conflict,
    /// The reservation holds nothing.
    #[error("not held")]
    NotHeld,
    /// Too many assignments are on their way to their reservations.
    #[error("busy")]
    Busy,
    #[error("not a command of an area")]
    NotWanted,
}

/// An area, or (by default) one of which nobody took a seat yet.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AreaState {
    area: Option<Area>,
}

/// An area of which somebody took a seat.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Area {
    pub show: EntityKey,
    pub section: SectionNumber,
    pub seats_total: u16,
    /// A bit for each seat that is held or sold, and for each that is sold.
    #[serde(with = "codec::bytes")]
    taken: Vec<u8>,
    #[serde(with = "codec::bytes")]
    sold: Vec<u8>,
    /// By the reservation's id.
    holds: BTreeMap<[u8; 16], Hold>,
    /// On their way, by slot.
    assignments: BTreeMap<u16, Assignment>,
    last_serial: Serial,
    count: Sold,
    /// The revision that the show knows, and since when.
    reported: u32,
    reported_at: Timestamp,
}

/// Seats of a reservation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hold {
    pub seats: Vec<SeatNumber>,
    serial: Serial,
    phase: HoldPhase,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum HoldPhase {
    /// Its assignment is on its way.
    Assigned,
    Held,
    Sold,
}

/// Where a seat stands, as the front door names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum SeatStatus {
    Available,
    TemporaryAssigned,
    Sold,
}

impl SeatStatus {
    pub const ALL: [Self; 3] = [Self::Available, Self::TemporaryAssigned, Self::Sold];

    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Available => "available",
            Self::TemporaryAssigned => "temporary_assigned",
            Self::Sold => "sold",
        }
    }
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|status| status.name() == name)
    }
}

impl AreaState {
    /// `None` when nobody took a seat yet.
    #[must_use]
    pub fn get(&self) -> Option<&Area> {
        self.area.as_ref()
    }
}

fn bit(seat: SeatNumber) -> (usize, u8) {
    (usize::from(seat.0) / 8, 1 << (seat.0 % 8))
}

fn has(bits: &[u8], seat: SeatNumber) -> bool {
    let (byte, bit) = bit(seat);
    bits.get(byte).is_some_and(|bits| bits & bit != 0)
}

impl Area {
    fn begun(show: EntityKey, section: SectionNumber, seats_total: u16) -> Self {
        let bits = vec![0; usize::from(seats_total).div_ceil(8)];
        Self {
            show,
            section,
            seats_total,
            taken: bits.clone(),
            sold: bits,
            holds: BTreeMap::new(),
            assignments: BTreeMap::new(),
            last_serial: Serial(0),
            count: Sold::default(),
            reported: 0,
            reported_at: Timestamp(0),
        }
    }

    /// Where a seat stands.
    #[must_use]
    pub fn seat(&self, seat: SeatNumber) -> SeatStatus {
        match (has(&self.sold, seat), has(&self.taken, seat)) {
            (true, _) => SeatStatus::Sold,
            (false, true) => SeatStatus::TemporaryAssigned,
            (false, false) => SeatStatus::Available,
        }
    }

    /// Seats that are sold.
    #[must_use]
    pub fn sold_count(&self) -> u16 {
        self.count.seats
    }

    /// The lowest slot without an assignment.
    fn free_slot(&self) -> u16 {
        let taken = (0u16..).zip(self.assignments.keys()).take_while(|(free, slot)| free == *slot);
        u16::try_from(taken.count()).unwrap_or(u16::MAX)
    }

    /// INV-8, and the bits say what the holds say.
    #[cfg(test)]
    pub(crate) fn is_sound(&self) -> bool {
        let mut seen = BTreeSet::new();
        let mut all = self.holds.values().flat_map(|hold| &hold.seats);
        let once = all.all(|seat| seen.insert(*seat));
        let told = (0..self.seats_total).map(SeatNumber).all(|seat| has(&self.taken, seat) == seen.contains(&seat));
        let sold = self.holds.values().filter(|hold| hold.phase == HoldPhase::Sold);
        let sold: BTreeSet<SeatNumber> = sold.flat_map(|hold| hold.seats.clone()).collect();
        let bits = (0..self.seats_total).map(SeatNumber).all(|seat| has(&self.sold, seat) == sold.contains(&seat));
        once && told && bits && sold.len() == usize::from(self.count.seats)
    }
}

/// The area of a section.
#[must_use]
pub fn area_key(show: EntityKey, section: SectionNumber) -> EntityKey {
    key_of(kinds::AREA, b"area\0", show, &section.0.to_be_bytes())
}

/// The area as an entity kind.
pub struct AreaEntity;

type Decided = Result<Vec<AreaEvent>, AreaRejection>;

impl AreaEntity {
    fn take(key: EntityKey, state: &AreaState, take: Take, at: &At) -> Decided {
        let Take { seats_total, assignment } = take;
        let sound = (1..=SECTION_SEATS_MAX).contains(&seats_total)
            && area_key(assignment.show, assignment.section) == key
            && assignment.owner.len() <= OWNER_BYTES_MAX
            && (1..=RESERVATION_SEATS_MAX).contains(&assignment.seats.len())
            && assignment.seats.iter().all(|seat| seat.0 < seats_total)
            && assignment.seats.iter().collect::<BTreeSet<_>>().len() == assignment.seats.len();
        if !sound {
            return Err(AreaRejection::NotWanted);
        }
        let begun = Area::begun(assignment.show, assignment.section, seats_total);
        let area = state.get().unwrap_or(&begun);
        match area.holds.get(&assignment.reservation.id) {
            Some(known) if known.seats == assignment.seats => return Ok(Vec::new()),
            Some(_) => return Err(AreaRejection::Conflict),
            None => {}
        }
        if area.assignments.values().any(|known| known.reservation == assignment.reservation) {
            return Err(AreaRejection::Conflict);
        }
        if let Some(seat) = assignment.seats.iter().find(|seat| has(&area.taken, **seat)) {
            return Err(AreaRejection::SeatTaken(*seat));
        }
        if area.assignments.len() >= ASSIGNMENTS_MAX {
            return Err(AreaRejection::Busy);
        }
        let serial = Serial(area.last_serial.0.saturating_add(1));
        let assignment = Assignment { serial, assigned_at: at.now, ..assignment };
        let (show, section) = (assignment.show, assignment.section);
        let begins = state.get().is_none().then_some(AreaEvent::Begun { at: at.now, show, section, seats_total });
        let takes = AreaEvent::Taken { slot: area.free_slot(), assignment: Box::new(assignment) };
        Ok(begins.into_iter().chain([takes]).collect())
    }

    /// What the reservation holds by the assignment that made it; a later one is not its own.
    fn hold_of(area: &Area, reservation: EntityKey, serial: Serial) -> Option<HoldPhase> {
        area.holds.get(&reservation.id).filter(|hold| hold.serial == serial).map(|hold| hold.phase)
    }

    fn confirm(area: &Area, reservation: EntityKey, serial: Serial, at: &At) -> Decided {
        match Self::hold_of(area, reservation, serial) {
            Some(HoldPhase::Assigned | HoldPhase::Held) => Ok(vec![AreaEvent::Sold { at: at.now, reservation }]),
            Some(HoldPhase::Sold) => Ok(Vec::new()),
            None => Err(AreaRejection::NotHeld),
        }
    }

    /// What is not (any more) on its way was settled before: the reservation answered twice.
    fn settle(area: &Area, settlements: &[Settlement], reported: &[u32], at: &At) -> Vec<AreaEvent> {
        let mut open: Vec<Serial> = area.assignments.values().map(|known| known.serial).collect();
        let (mut taken, mut freed) = (Vec::new(), Vec::new());
        for Settlement { serial, taken: took } in settlements {
            let Some(place) = open.iter().position(|known| known == serial) else { continue };
            open.swap_remove(place);
            if *took { taken.push(*serial) } else { freed.push(*serial) }
        }
        let settled = !taken.is_empty() || !freed.is_empty();
        let settles = settled.then_some(AreaEvent::Settled { at: at.now, taken, freed });
        let revision = reported.get(usize::from(area.section.0)).filter(|revision| **revision > area.reported);
        let reports = revision.map(|revision| AreaEvent::Reported { at: at.now, revision: *revision });
        settles.into_iter().chain(reports).collect()
    }
}

/// What a reservation's answer says, by the serial that it names and not by the slot: an answer from before a change of
/// leaders may come home when its slot belongs to another assignment.
fn settlement(outcome: &CallOutcome) -> Option<Settlement> {
    match outcome {
        CallOutcome::Entity(EntityOutcome::Done { state }) => {
            let state: ReservationState = codec::decode(state).ok()?;
            Some(Settlement { serial: state.assignment()?.serial, taken: true })
        }
        CallOutcome::Entity(EntityOutcome::Rejected { rejection }) => match codec::decode(rejection).ok()? {
            ReservationRejection::Assigned { refused } => Some(Settlement { serial: refused, taken: false }),
            ReservationRejection::NotFound
            | ReservationRejection::NotPayable { .. }
            | ReservationRejection::TimeIsOver
            | ReservationRejection::NotCancellable { .. }
            | ReservationRejection::NotADeadLetter
            | ReservationRejection::BadOperator
            | ReservationRejection::NotWanted => None,
        },
        CallOutcome::Entity(EntityOutcome::Unknown { .. })
        | CallOutcome::Message(_)
        | CallOutcome::Payment(_)
        | CallOutcome::Shipment(_) => None,
    }
}

/// The revisions that the show has, by section.
fn reported(outcome: &CallOutcome) -> Option<Vec<u32>> {
    let CallOutcome::Entity(EntityOutcome::Done { state }) = outcome else { return None };
    let state: ShowState = codec::decode(state).ok()?;
    Some(state.get()?.sold.iter().map(|sold| sold.revision).collect())
}

impl Entity for AreaEntity {
    type State = AreaState;
    type Command = AreaCommand;
    type Event = AreaEvent;
    type Rejection = AreaRejection;
    const KIND: EntityKind = kinds::AREA;
    const PREFIX: &'static str = "sa";
    const SINCE: FeatureLevel = NEIGHBOURS_LEVEL;
    const SHARES_RECORDS: bool = true;

    fn decide(
        key: EntityKey,
        state: &AreaState,
        command: AreaCommand,
        at: &At,
    ) -> Result<Decision<AreaEvent>, AreaRejection> {
        let area = state.get().ok_or(AreaRejection::NotFound);
        let events = match command {
            AreaCommand::Take(take) => Self::take(key, state, *take, at)?,
            AreaCommand::Confirm { reservation, serial } => Self::confirm(area?, reservation, serial, at)?,
            AreaCommand::Release { reservation, serial } => match Self::hold_of(area?, reservation, serial) {
                Some(_) => vec![AreaEvent::Released { at: at.now, reservation }],
                None => Vec::new(),
            },
            AreaCommand::Settle { settlements, reported } => Self::settle(area?, &settlements, &reported, at),
            AreaCommand::Unwanted => return Err(AreaRejection::NotWanted),
        };
        Ok(Decision::events(events))
    }

    fn evolve(state: &mut AreaState, event: &AreaEvent) {
        event.evolve(&mut state.area);
    }

    fn wants(_key: EntityKey, state: &AreaState) -> Effects {
        let Some(area) = state.get() else { return Effects::default() };
        let call = |slot, due| CallWant { slot, lane: Lane::Entity, due, guard: Guard::Repeatable, open: None };
        let assign = |(slot, known): (&u16, &Assignment)| call(Slot(*slot), known.assigned_at);
        let mut calls: Vec<CallWant> = area.assignments.iter().map(assign).collect();
        if area.count.revision != area.reported {
            let full = area.count.seats == area.seats_total;
            calls.push(call(REPORT, if full { area.reported_at } else { area.reported_at + REPORT_PAUSE }));
        }
        let held = area.holds.values().any(|hold| hold.phase != HoldPhase::Sold);
        Effects { terminal: calls.is_empty() && !held, calls, ..Effects::default() }
    }

    /// Without the holds: whose a seat is, is the area's own business, and changes with every take.
    fn answer(state: &AreaState) -> Vec<u8> {
        let told = state.get().map(|area| Area {
            taken: area.taken.clone(),
            sold: area.sold.clone(),
            last_serial: area.last_serial,
            count: area.count,
            reported: area.reported,
            reported_at: area.reported_at,
            ..Area::begun(area.show, area.section, area.seats_total)
        });
        codec::encode(&AreaState { area: told })
    }

    fn sealed(_state: &AreaState) -> Option<&Sealed> {
        None
    }

    /// The very same assignment each time, so that the reservation knows a repeat by its serial.
    fn request(key: EntityKey, state: &AreaState, slot: Slot, _: Option<&[u8]>) -> Option<CallRequest> {
        let area = state.get()?;
        if slot == REPORT {
            let report = SoldReport { section: area.section, sold: area.count };
            let command = codec::encode(&ShowCommand::Report(report));
            let number = (1 << 32) | u64::from(area.count.revision);
            return Some(CallRequest::Entity(EntityRequest::of(key, number, area.show, command)));
        }
        let assignment = area.assignments.get(&slot.0)?.clone();
        let (target, number) = (assignment.reservation, u64::from(assignment.serial.0));
        let command = codec::encode(&ReservationCommand::Assign(Box::new(assignment)));
        Some(CallRequest::Entity(EntityRequest::of(key, number, target, command)))
    }

    fn timer_command(_slot: Slot) -> AreaCommand {
        AreaCommand::Unwanted
    }
    fn attempt_command(_start: AttemptStart) -> AreaCommand {
        AreaCommand::Unwanted
    }
    fn outcome_command(outcomes: Vec<(Slot, CallOutcome)>) -> AreaCommand {
        let (shows, others): (Vec<_>, Vec<_>) = outcomes.iter().partition(|(slot, _)| *slot == REPORT);
        let settlements = others.into_iter().filter_map(|(_, outcome)| settlement(outcome)).collect();
        let reported = shows.into_iter().find_map(|(_, outcome)| reported(outcome)).unwrap_or_default();
        AreaCommand::Settle { settlements, reported }
    }
    fn report_command(_report: Report) -> AreaCommand {
        AreaCommand::Unwanted
    }
    fn describe(event: &AreaEvent) -> serde_json::Value {
        event.describe()
    }
}

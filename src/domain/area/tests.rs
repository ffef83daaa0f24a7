//! The area's machine with its reservations: each line of the table, lost, doubled and late messages, and its bounds.

use super::*;
use crate::domain::reservation::Reservation;
use crate::domain::show::{Admission, SeatRow, ShowEntity, Terms};
use crate::domain::ticket::QueueNumber;
use crate::types::ids::{CommandId, Fingerprint, IdempotencyId};
use crate::types::limits::STATE_BYTES_MAX;
use crate::types::money::Money;
use proptest::prelude::*;

const SHOW: EntityKey = EntityKey { kind: kinds::SHOW, id: [3; 16] };
const SECTION: SectionNumber = SectionNumber(0);
const NOW: Timestamp = Timestamp(1_800_000_000_000);

struct World {
    state: AreaState,
    records: Vec<Vec<AreaEvent>>,
    reservations: BTreeMap<EntityKey, ReservationState>,
    seats_total: u16,
    /// Requests on their way, and answers.
    calls: Vec<EntityRequest>,
    answers: Vec<CallOutcome>,
}

fn reservation(number: u32) -> EntityKey {
    let mut id = [5; 16];
    id[..4].copy_from_slice(&number.to_be_bytes());
    EntityKey { kind: kinds::RESERVATION, id }
}

fn assignment(number: u32, seats: &[u16]) -> Assignment {
    Assignment {
        reservation: reservation(number),
        serial: Serial(0),
        show: SHOW,
        section: SECTION,
        section_name: "A".into(),
        seats: seats.iter().copied().map(SeatNumber).collect(),
        amount: Money::krw(1_000),
        owner: "u-1".into(),
        number: QueueNumber(1),
        claim: IdempotencyId([1; 16]),
        fingerprint: Fingerprint([2; 16]),
        assigned_at: Timestamp(0),
    }
}

impl World {
    fn new(seats_total: u16) -> Self {
        let (state, records) = (AreaState::default(), Vec::new());
        let (reservations, calls, answers) = (BTreeMap::new(), Vec::new(), Vec::new());
        Self { state, records, reservations, seats_total, calls, answers }
    }

    fn ask(&mut self, command: AreaCommand) -> Result<usize, AreaRejection> {
        let at = At { now: NOW, command_id: CommandId::default() };
        let events = AreaEntity::decide(area_key(SHOW, SECTION), &self.state, command, &at)?.events;
        events.iter().for_each(|event| AreaEntity::evolve(&mut self.state, event));
        let count = events.len();
        if count > 0 {
            self.records.push(events);
        }
        assert!(self.state.get().is_none_or(Area::is_sound), "INV-8: {:?}", self.state);
        Ok(count)
    }

    fn take(&mut self, number: u32, seats: &[u16]) -> Result<usize, AreaRejection> {
        let take = Take { seats_total: self.seats_total, assignment: assignment(number, seats) };
        self.ask(AreaCommand::Take(Box::new(take)))
    }

    /// The serial that its reservation carries; without one, of the first assignment.
    fn serial(&self, number: u32) -> Serial {
        let made = self.reservations.get(&reservation(number)).and_then(ReservationState::assignment);
        made.map_or(Serial(1), |made| made.serial)
    }

    fn confirm(&mut self, number: u32) -> Result<usize, AreaRejection> {
        self.ask(AreaCommand::Confirm { reservation: reservation(number), serial: self.serial(number) })
    }

    fn release(&mut self, number: u32) -> Result<usize, AreaRejection> {
        self.ask(AreaCommand::Release { reservation: reservation(number), serial: self.serial(number) })
    }

    fn seat(&self, seat: u16) -> SeatStatus {
        self.state.get().unwrap().seat(SeatNumber(seat))
    }

    fn send(&mut self, which: usize) {
        let Some(area) = self.state.get() else { return };
        let slots: Vec<u16> = area.assignments.keys().copied().collect();
        let Some(slot) = slots.get(which % slots.len().max(1)) else { return };
        match AreaEntity::request(area_key(SHOW, SECTION), &self.state, Slot(*slot), None) {
            Some(CallRequest::Entity(request)) => self.calls.push(request),
            other => panic!("{other:?}"),
        }
    }

    fn deliver(&mut self, which: usize, keeps: bool) {
        if self.calls.is_empty() {
            return;
        }
        let which = which % self.calls.len();
        let call = if keeps { self.calls[which].clone() } else { self.calls.remove(which) };
        let state = self.reservations.entry(call.target).or_default();
        let at = At { now: NOW, command_id: CommandId::default() };
        let outcome = match Reservation::decide(call.target, state, codec::decode(&call.command).unwrap(), &at) {
            Ok(decision) => {
                decision.events.iter().for_each(|event| Reservation::evolve(state, event));
                EntityOutcome::Done { state: codec::encode(state) }
            }
            Err(rejection) => EntityOutcome::Rejected { rejection: codec::encode(&rejection) },
        };
        self.answers.push(CallOutcome::Entity(outcome));
    }

    fn bring_home(&mut self, which: usize, keeps: bool) {
        if self.answers.is_empty() {
            return;
        }
        let which = which % self.answers.len();
        let answer = if keeps { self.answers[which].clone() } else { self.answers.remove(which) };
        let _nothing_new = self.ask(AreaEntity::outcome_command(vec![(Slot(0), answer)]));
    }

    fn settle(&mut self) {
        while self.state.get().is_some_and(|area| !area.assignments.is_empty()) {
            self.send(0);
            self.deliver(usize::MAX, false);
            self.bring_home(usize::MAX, false);
        }
    }

    /// Its user cancels, and the reservation frees its seats.
    fn end(&mut self, number: u32) {
        let key = reservation(number);
        let Some(state) = self.reservations.get_mut(&key).filter(|state| state.assignment().is_some()) else { return };
        let at = At { now: NOW, command_id: CommandId::default() };
        if let Ok(decision) = Reservation::decide(key, state, ReservationCommand::Cancel, &at) {
            decision.events.iter().for_each(|event| Reservation::evolve(state, event));
        }
    }
}

#[test]
fn seats_are_taken_once_and_a_repeat_is_answered() {
    let mut world = World::new(4);
    assert_eq!(world.confirm(1), Err(AreaRejection::NotFound));
    assert_eq!(world.take(1, &[0, 2]), Ok(2));
    assert_eq!(world.take(1, &[0, 2]), Ok(0), "a repeat");
    assert_eq!(world.take(1, &[0]), Err(AreaRejection::Conflict));
    assert_eq!(world.take(2, &[1, 2]), Err(AreaRejection::SeatTaken(SeatNumber(2))));
    assert_eq!((world.seat(0), world.seat(1)), (SeatStatus::TemporaryAssigned, SeatStatus::Available));
    world.settle();
    assert!(!AreaEntity::wants(area_key(SHOW, SECTION), &world.state).terminal);
    assert_eq!((world.confirm(1), world.confirm(1)), (Ok(1), Ok(0)));
    assert_eq!((world.seat(0), world.state.get().unwrap().sold_count()), (SeatStatus::Sold, 2));
    assert_eq!(world.take(2, &[0]), Err(AreaRejection::SeatTaken(SeatNumber(0))));
    assert_eq!((world.release(1), world.release(1)), (Ok(1), Ok(0)));
    assert_eq!(world.confirm(1), Err(AreaRejection::NotHeld));
    assert_eq!(world.take(2, &[0]), Ok(1), "free again");
}

#[test]
fn unsound_takes_are_refused() {
    let mut world = World::new(4);
    for seats in [&[][..], &[4], &[1, 1], &[0, 1, 2, 3, 0, 1, 2, 3, 0, 1, 2]] {
        assert_eq!(world.take(1, seats), Err(AreaRejection::NotWanted), "{seats:?}");
    }
    let elsewhere = Assignment { section: SectionNumber(1), ..assignment(1, &[0]) };
    let take = Take { seats_total: 4, assignment: elsewhere };
    assert_eq!(world.ask(AreaCommand::Take(Box::new(take))), Err(AreaRejection::NotWanted));
    assert_eq!(world.ask(AreaCommand::Unwanted), Err(AreaRejection::NotWanted));
}

#[test]
fn a_take_that_comes_after_its_reservation_ended_is_given_back() {
    let mut world = World::new(2);
    world.take(1, &[0]).unwrap();
    world.settle();
    world.end(1);
    world.release(1).unwrap();
    assert_eq!(world.take(1, &[0]), Ok(1), "it was on its way all the time");
    world.settle();
    assert_eq!(world.seat(0), SeatStatus::Available);
}

#[test]
fn an_answer_that_comes_home_when_the_seats_are_anothers_settles_nothing_else() {
    let mut world = World::new(2);
    world.take(1, &[0]).unwrap();
    world.send(0);
    world.deliver(0, false);
    world.bring_home(0, true);
    world.end(1);
    world.release(1).unwrap();
    world.take(1, &[0]).unwrap();
    world.bring_home(0, false);
    let area = world.state.get().unwrap();
    assert_eq!(area.assignments.len(), 1, "the answer was to the first assignment");
    world.settle();
    assert_eq!(world.seat(0), SeatStatus::Available);
}

#[test]
fn the_show_hears_how_many_are_sold_and_when_all_are() {
    let mut world = World::new(2);
    let wanted = |world: &World| {
        let wants = AreaEntity::wants(area_key(SHOW, SECTION), &world.state);
        wants.calls.into_iter().find(|call| call.slot == REPORT)
    };
    world.take(1, &[0]).unwrap();
    world.take(2, &[1]).unwrap();
    world.settle();
    assert_eq!(wanted(&world), None);
    world.confirm(1).unwrap();
    world.confirm(2).unwrap();
    assert_eq!(wanted(&world).unwrap().lane, Lane::Entity);
    let key = area_key(SHOW, SECTION);
    let Some(CallRequest::Entity(request)) = AreaEntity::request(key, &world.state, REPORT, None) else { panic!() };
    let row = SeatRow { section: "A".into(), row: String::new(), count: 2, price: Money::krw(1) };
    let admission = Admission { opens_at: NOW, per_second: 1, active_max: 1 };
    let terms = Terms { title: "t".into(), rows: vec![row], admission };
    let (mut show, at) = (ShowState::default(), At { now: NOW, command_id: CommandId::default() });
    for command in [ShowCommand::Create(Box::new(terms)), codec::decode(&request.command).unwrap()] {
        let events = ShowEntity::decide(SHOW, &show, command, &at).unwrap().events;
        events.iter().for_each(|event| ShowEntity::evolve(&mut show, event));
    }
    assert_eq!(show.get().unwrap().sold_out_at, Some(NOW));
    let done = CallOutcome::Entity(EntityOutcome::Done { state: codec::encode(&show) });
    assert_eq!(world.ask(AreaEntity::outcome_command(vec![(REPORT, done.clone())])), Ok(1));
    assert_eq!(world.ask(AreaEntity::outcome_command(vec![(REPORT, done)])), Ok(0), "a repeat");
    assert_eq!(wanted(&world), None);
    assert!(AreaEntity::wants(key, &world.state).terminal);
    world.release(1).unwrap();
    assert!(wanted(&world).is_some(), "one was cancelled");
}

#[test]
fn the_fullest_area_is_within_its_bound_and_tells_little_of_it() {
    let mut world = World::new(SECTION_SEATS_MAX);
    for number in 0..u32::from(SECTION_SEATS_MAX) {
        let mut assignment = assignment(number, &[u16::try_from(number).unwrap()]);
        assignment.owner = "u".repeat(OWNER_BYTES_MAX);
        assignment.section_name = "s".repeat(32);
        let take = Take { seats_total: SECTION_SEATS_MAX, assignment };
        if world.ask(AreaCommand::Take(Box::new(take.clone()))) == Err(AreaRejection::Busy) {
            world.settle();
            world.ask(AreaCommand::Take(Box::new(take))).unwrap();
        }
    }
    assert!(codec::encode(&world.state).len() < STATE_BYTES_MAX * 9 / 10, "{}", codec::encode(&world.state).len());
    assert!(AreaEntity::answer(&world.state).len() < 600);
}

#[test]
fn golden_bytes() {
    let (show, at, reservation) = (SHOW, Timestamp(1), reservation(1));
    let events = [
        AreaEvent::Begun { at, show, section: SectionNumber(2), seats_total: 3 },
        AreaEvent::Taken { slot: 1, assignment: Box::new(assignment(1, &[4])) },
        AreaEvent::Settled { at, taken: vec![Serial(1)], freed: vec![Serial(2)] },
        AreaEvent::Sold { at, reservation },
        AreaEvent::Released { at, reservation },
        AreaEvent::Reported { at, revision: 3 },
    ];
    let (show, id) = (format!("08{}", "03".repeat(16)), format!("0c00000001{}", "05".repeat(12)));
    let golden = [
        format!("0002{show}0203"),
        format!("0101{id}00{show}0001410104fbd0070003752d3101{}{}00", "01".repeat(16), "02".repeat(16)),
        "020201010102".to_owned(),
        format!("0302{id}"),
        format!("0402{id}"),
        "050203".to_owned(),
    ];
    for (event, bytes) in events.iter().zip(golden) {
        assert_eq!(hex::encode(codec::encode(event)), bytes, "{event:?}");
        assert_eq!(&codec::decode::<AreaEvent>(&codec::encode(event)).unwrap(), event);
    }
    assert_eq!(publications(&codec::encode(&events.to_vec())).unwrap().len(), 6);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    /// Takes, confirms and ends in any order, with messages lost, doubled and late: no seat is two reservations' (checked
    /// after each step), and once all is settled, a held seat has a reservation that lives.
    #[test]
    fn no_seat_is_held_twice(
        steps in proptest::collection::vec((0u8..9, 0u32..5, 0u16..4, 0usize..8), 1..150),
    ) {
        let mut world = World::new(4);
        for (kind, number, seat, which) in steps {
            match kind {
                0 | 1 => { let _taken = world.take(number, &[seat]); }
                2 => { let _taken = world.take(number, &[seat, (seat + 1) % 4]); }
                3 => world.send(which),
                4 => world.deliver(which, false),
                5 => world.deliver(which, true),
                6 => world.bring_home(which, which % 2 == 0),
                7 if world.reservations.get(&reservation(number)).is_some_and(|state| state.assignment().is_some()) => {
                    let _lost = world.confirm(number);
                }
                _ => {
                    world.end(number);
                    let ended = |state: &ReservationState| {
                        state.assignment().is_some() && state.status() == crate::domain::reservation::Status::Cancelled
                    };
                    if world.reservations.get(&reservation(number)).is_some_and(ended) {
                        let _nothing = world.release(number);
                    }
                }
            }
        }
        world.settle();
        for number in 0..5 {
            let lives = world.reservations.get(&reservation(number)).is_some_and(|state| {
                state.assignment().is_some() && state.status() != crate::domain::reservation::Status::Cancelled
            });
            let held = world.state.get().is_some_and(|area| area.holds.contains_key(&reservation(number).id));
            prop_assert!(lives || !held, "{number} holds seats without a reservation");
        }
        let mut replayed = AreaState::default();
        world.records.iter().flatten().for_each(|event| AreaEntity::evolve(&mut replayed, event));
        prop_assert_eq!(&replayed, &world.state);
        prop_assert_eq!(&codec::decode::<AreaState>(&codec::encode(&replayed)).unwrap(), &replayed);
    }
}

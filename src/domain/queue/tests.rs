//! The queue's machine with its tickets: order, rate, room, repeats and delays, and its bounds.

use super::room::Admitted;
use super::*;
use crate::domain::ticket::{TicketEntity, ticket_key};
use crate::types::ids::CommandId;
use crate::types::limits::STATE_BYTES_MAX;
use crate::types::time::{Millis, Timestamp};
use proptest::prelude::*;

const SHOW: EntityKey = EntityKey { kind: kinds::SHOW, id: [3; 16] };
const OPENS: Timestamp = Timestamp(1_800_000_000_000);

#[derive(Clone)]
struct World {
    state: QueueState,
    records: Vec<Vec<QueueEvent>>,
    tickets: BTreeMap<EntityKey, TicketState>,
    admission: Admission,
    now: Timestamp,
    /// Answers that did not come home yet.
    answers: Vec<CallOutcome>,
}

fn ticket(user: u32) -> EntityKey {
    ticket_key(SHOW, &format!("u-{user}"))
}

impl World {
    fn new(per_second: u32, active_max: u32) -> Self {
        Self {
            state: QueueState::default(),
            records: Vec::new(),
            tickets: BTreeMap::new(),
            admission: Admission { opens_at: OPENS, per_second, active_max },
            now: OPENS,
            answers: Vec::new(),
        }
    }

    fn ask(&mut self, command: QueueCommand) -> Result<usize, QueueRejection> {
        let at = At { now: self.now, command_id: CommandId::default() };
        let events = QueueEntity::decide(queue_key(SHOW), &self.state, command, &at)?.events;
        events.iter().for_each(|event| QueueEntity::evolve(&mut self.state, event));
        let count = events.len();
        if count > 0 {
            self.records.push(events);
        }
        self.assert_always();
        Ok(count)
    }

    /// Whether the front door would ask, and what the queue says.
    fn enter(&mut self, user: u32) -> Result<usize, QueueRejection> {
        let replaces = self.tickets.get(&ticket(user)).and_then(TicketState::get).map(|entry| entry.number);
        self.enter_after(user, replaces)
    }

    fn enter_after(&mut self, user: u32, replaces: Option<QueueNumber>) -> Result<usize, QueueRejection> {
        let claim = IdempotencyId([7; 16]);
        let enter = Enter { show: SHOW, admission: self.admission, ticket: ticket(user), replaces, claim };
        self.ask(QueueCommand::Enter(Box::new(enter)))
    }

    fn room(&self) -> &Room {
        &self.state.get().expect("somebody entered").room
    }

    fn number(&self, user: u32) -> QueueNumber {
        self.tickets[&ticket(user)].get().expect("a ticket").number
    }

    fn standing(&self, user: u32) -> Standing {
        self.room().standing(self.number(user), self.now)
    }

    fn is_in(&self, user: u32) -> bool {
        matches!(self.standing(user), Standing::Admitted { .. })
    }

    /// Delivers one of the numbers on their way; the answer waits.
    fn deliver(&mut self, which: usize) {
        let Some(queue) = self.state.get() else { return };
        let slots: Vec<u16> = queue.entries.keys().copied().collect();
        let Some(slot) = slots.get(which % slots.len().max(1)) else { return };
        let Some(CallRequest::Entity(request)) = QueueEntity::request(queue_key(SHOW), &self.state, Slot(*slot), None)
        else {
            panic!("a wanted call has a request")
        };
        let command: TicketCommand = codec::decode(&request.command).unwrap();
        let held = self.tickets.entry(request.target).or_default();
        let at = At { now: self.now, command_id: CommandId::default() };
        let outcome = match TicketEntity::decide(request.target, held, command, &at) {
            Ok(decision) => {
                decision.events.iter().for_each(|event| TicketEntity::evolve(held, event));
                EntityOutcome::Done { state: codec::encode(held) }
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
        let command = QueueEntity::outcome_command(vec![(Slot(0), answer)]);
        let _nothing_new = self.ask(command);
    }

    fn settle(&mut self) {
        while self.state.get().is_some_and(|queue| !queue.entries.is_empty()) {
            self.deliver(0);
            self.bring_home(0, false);
        }
    }

    /// Fires the timer as often as it is due until `then`.
    fn pass(&mut self, span: Millis) {
        let then = self.now + span;
        for _ in 0..100_000 {
            let due = QueueEntity::wants(queue_key(SHOW), &self.state).timers.first().map(|timer| timer.due);
            let Some(due) = due.filter(|due| *due <= then) else {
                self.now = then;
                return;
            };
            self.now = self.now.max(due);
            self.ask(QueueCommand::Timer).unwrap();
        }
        panic!("a timer that never rests: {:?}", self.state);
    }

    fn assert_always(&self) {
        let Some(queue) = self.state.get() else { return };
        assert!(queue.room.active() <= self.admission.active_max, "never more than may be in at one time");
        let wants = QueueEntity::wants(queue_key(SHOW), &self.state);
        assert!(wants.terminal != (!wants.timers.is_empty() || !wants.calls.is_empty()), "INV-9");
        let mut slots: Vec<_> = wants.calls.iter().map(|call| call.slot).collect();
        slots.dedup();
        assert_eq!(slots.len(), queue.entries.len());
    }
}

#[test]
fn who_comes_first_is_let_in_first_at_the_rate_and_up_to_the_limit() {
    let mut world = World::new(2, 5);
    for user in 0..9 {
        world.enter(user).unwrap();
    }
    world.settle();
    let positions: Vec<u64> = (0..9).map(|user| world.room().position(world.number(user))).collect();
    assert_eq!(positions, [0, 0, 1, 2, 3, 4, 5, 6, 7], "a second of the rate was saved up before the opening");
    let entry = |user: u32| *world.tickets[&ticket(user)].get().unwrap();
    assert_eq!((entry(0).admitted, entry(0).position), (true, 0));
    assert_eq!((entry(8).admitted, entry(8).position), (false, 7));
    assert!(entry(8).eta_seconds >= 4);
    world.pass(Millis(1_100));
    assert!(world.is_in(3) && !world.is_in(4));
    world.pass(Millis::from_secs(60));
    assert!(world.is_in(4) && !world.is_in(5), "the room is full");
    assert_eq!(world.room().active(), 5);
    assert_eq!(world.ask(QueueCommand::Leave(world.number(1))), Ok(1));
    assert_eq!(world.ask(QueueCommand::Leave(world.number(1))), Ok(0), "a repeat");
    assert_eq!(world.standing(1), Standing::Passed);
    world.pass(Millis::from_secs(1));
    assert!(world.is_in(5) && !world.is_in(6));
}

#[test]
fn the_room_empties_by_time_and_those_who_passed_queue_again() {
    let mut world = World::new(10, 3);
    for user in 0..5 {
        world.enter(user).unwrap();
    }
    world.settle();
    world.pass(ADMITTED_FOR);
    assert_eq!(world.standing(0), Standing::Passed);
    assert!(world.is_in(3) && world.is_in(4));
    assert_eq!(world.enter_after(3, Some(world.number(3))), Err(QueueRejection::NotWanted), "it is still in");
    let before = world.number(0);
    world.enter(0).unwrap();
    world.settle();
    assert!(world.number(0) > before && world.is_in(0));
    world.pass(ADMITTED_FOR);
    world.pass(ADMITTED_FOR);
    assert_eq!(world.room().active(), 0);
    assert!(QueueEntity::wants(queue_key(SHOW), &world.state).terminal);
}

#[test]
fn nobody_is_let_in_before_the_opening() {
    let mut world = World::new(10, 10);
    world.now = OPENS - Millis::from_secs(30);
    world.enter(0).unwrap();
    world.settle();
    let check = |world: &mut World| world.ask(QueueCommand::Check(QueueNumber(1)));
    assert_eq!(check(&mut world), Err(QueueRejection::Waiting));
    assert_eq!(world.room().eta_seconds(QueueNumber(1), world.now), 31);
    world.pass(Millis::from_secs(30));
    assert_eq!(check(&mut world), Ok(0));
    world.pass(ADMITTED_FOR);
    assert_eq!(check(&mut world), Err(QueueRejection::Passed));
}

#[test]
fn a_user_who_enters_twice_keeps_the_first_number_and_the_second_is_passed_over() {
    let mut world = World::new(1, 1);
    world.enter(0).unwrap();
    assert_eq!(world.enter(0), Ok(0), "while it is on its way");
    world.settle();
    world.enter(1).unwrap();
    world.settle();
    // The door had looked before the ticket existed.
    world.enter_after(1, None).unwrap();
    world.settle();
    world.enter(2).unwrap();
    world.settle();
    assert_eq!((world.number(1), world.number(2)), (QueueNumber(2), QueueNumber(4)));
    world.ask(QueueCommand::Leave(QueueNumber(1))).unwrap();
    world.pass(Millis::from_secs(2));
    world.ask(QueueCommand::Leave(QueueNumber(2))).unwrap();
    world.pass(Millis::from_secs(4));
    assert!(world.is_in(2), "the number that nobody holds takes no room: {:?}", world.state);
}

#[test]
fn fifty_thousand_wait_in_the_state_of_one_and_the_fullest_is_within_its_bound() {
    let mut world = World::new(300, 100_000);
    world.now = OPENS - Millis::from_secs(60);
    for user in 0..50_000 {
        world.enter(user).unwrap();
        if user % 200 == 199 {
            for slot in 0..200 {
                let answer = EntityOutcome::Done { state: codec::encode(&world.entry_of(slot)) };
                let command = QueueEntity::outcome_command(vec![(Slot(slot), CallOutcome::Entity(answer))]);
                world.ask(command).unwrap();
            }
        }
        world.records.clear();
    }
    assert_eq!(world.room().waiting(), 50_000);
    assert!(codec::encode(&world.state).len() < 100, "{}", codec::encode(&world.state).len());
    world.pass(Millis::from_secs(59));
    world.pass(ADMITTED_FOR);
    assert!(codec::encode(&world.state).len() < STATE_BYTES_MAX / 2);
    assert!(QueueEntity::answer(&world.state).len() < 100);
    for user in 0..2_000 {
        let refused = world.enter_after(100_000 + user, None);
        assert!(matches!(refused, Ok(_) | Err(QueueRejection::Busy)));
    }
    assert_eq!(world.state.get().unwrap().entries.len(), ENTRIES_MAX);
    assert_eq!(world.enter_after(1_000_000, None), Err(QueueRejection::Busy));
    assert!(codec::encode(&world.state).len() < STATE_BYTES_MAX * 9 / 10);
}

impl World {
    fn entry_of(&self, slot: u16) -> TicketState {
        let entry = self.state.get().unwrap().entries[&slot].entry;
        let (mut state, at) = (TicketState::default(), self.now);
        TicketEntity::evolve(&mut state, &crate::domain::ticket::TicketEvent::Issued { at, entry });
        state
    }
}

#[test]
fn golden_bytes() {
    let (show, at) = (SHOW, Timestamp(1));
    let admission = Admission { opens_at: Timestamp(2), per_second: 3, active_max: 4 };
    let entry = Entry {
        show,
        number: QueueNumber(5),
        replaces: None,
        claim: IdempotencyId([6; 16]),
        entered_at: at,
        position: 7,
        eta_seconds: 8,
        admitted: true,
    };
    let ticket = EntityKey { kind: kinds::TICKET, id: [9; 16] };
    let admitted = Admitted { upto: QueueNumber(5), paid_until_us: 6 };
    let events = [
        QueueEvent::Begun { at, show, admission },
        QueueEvent::Entered { at, slot: 1, entered: Box::new(OnItsWay { ticket, entry }) },
        QueueEvent::Settled { at, taken: vec![QueueNumber(1)], void: vec![QueueNumber(2)] },
        QueueEvent::Admitted { at, admitted },
        QueueEvent::Left { at, number: QueueNumber(3) },
        QueueEvent::Swept { at },
    ];
    let show = format!("08{}", "03".repeat(16));
    let golden = [
        format!("0002{show}040304"),
        format!("0102010b{}{show}0500{}02070801", "09".repeat(16), "06".repeat(16)),
        "020201010102".to_owned(),
        "0302050c".to_owned(),
        "040203".to_owned(),
        "0502".to_owned(),
    ];
    for (event, bytes) in events.iter().zip(golden) {
        assert_eq!(hex::encode(codec::encode(event)), bytes, "{event:?}");
        assert_eq!(&codec::decode::<QueueEvent>(&codec::encode(event)).unwrap(), event);
    }
    assert_eq!(publications(&codec::encode(&events.to_vec())).unwrap().len(), 3);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    /// Entries, repeats, lost, doubled and late answers, leaving and time: each user has one number, nobody overtakes,
    /// and what is replayed is what was live.
    #[test]
    fn a_crowd_is_let_in_in_order(
        steps in proptest::collection::vec((0u8..8, 0u32..12, 0usize..6), 1..200),
        (per_second, active_max) in (1u32..5, 1u32..6),
    ) {
        let mut world = World::new(per_second, active_max);
        for (kind, user, which) in steps {
            match kind {
                0 | 1 => { let _busy_or_in = world.enter(user); }
                2 => { let _repeat = world.enter_after(user, None); }
                3 => world.deliver(which),
                4 => world.bring_home(which, false),
                5 => world.bring_home(which, true),
                6 if world.tickets.get(&ticket(user)).is_some_and(|ticket| ticket.get().is_some()) => {
                    world.ask(QueueCommand::Leave(world.number(user))).unwrap();
                }
                _ => world.pass(Millis(i64::from(user) * 300)),
            }
        }
        world.settle();
        let mut numbers: Vec<u64> = world.tickets.values().filter_map(|ticket| Some(ticket.get()?.number.0)).collect();
        numbers.sort_unstable();
        let count = numbers.len();
        numbers.dedup();
        prop_assert_eq!(numbers.len(), count, "two users hold one number");
        world.pass(Millis::from_hours(5));
        if world.state.get().is_some() {
            prop_assert_eq!((world.room().waiting(), world.room().active()), (0, 0), "everybody had a turn");
        }
        let mut replayed = QueueState::default();
        world.records.iter().flatten().for_each(|event| QueueEntity::evolve(&mut replayed, event));
        prop_assert_eq!(&replayed, &world.state);
        prop_assert_eq!(&codec::decode::<QueueState>(&codec::encode(&replayed)).unwrap(), &replayed);
    }
}

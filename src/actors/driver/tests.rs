//! The driver against a random log: records are applied or void, calls come back in any order, and still nothing is
//! answered that is not applied, nothing is performed that is not committed, and nothing is left behind.

mod dropped;
mod relay;
mod too_large;
mod waiting;

use crate::actors::driver::{COALESCE_ENTITY, Command, Driver, Input, Now, Output, WaiterId};
use crate::actors::life::Life;
use crate::domain::entity::{Decision, Entity, Typed};
use crate::types::call::{CallOutcome, CallRequest, MessageOutcome, Report};
use crate::types::codec;
use crate::types::effect::{CallWant, Channel, Effects, Guard, Lane, OpenAttempt, Slot, TimerWant};
use crate::types::ids::{Claim, CommandId, EntityKey, EntityKind, Version};
use crate::types::kind::{At, AttemptStart, Kind};
use crate::types::record::{Record, RecordFate, Sealed, VoidReason};
use crate::types::time::{BootMillis, Timestamp};
use proptest::prelude::*;
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;
use std::sync::Arc;

const CALL: Slot = Slot(1);
const TIMER: Slot = Slot(2);
const LANE: Lane = Lane::Send(Channel::Sms);
const OTHER_LANE: Lane = Lane::Send(Channel::Kakao);
/// Due for good, and leads to nothing.
const STUCK: Slot = Slot(0);

/// Counts; at ten it wants one fenced call, whose outcome it needs before it is done.
#[derive(Clone, Default, Serialize, Deserialize)]
struct Counter {
    total: u32,
    attempts: u32,
    open: bool,
    done: bool,
    ticked: bool,
    /// The call is to go by another lane.
    moved: bool,
}

#[derive(Serialize, Deserialize)]
enum CounterCommand {
    Add(u32),
    Move,
    Timer,
    Attempt,
    Outcome,
    Report,
}

#[derive(Serialize, Deserialize)]
enum CounterEvent {
    Added(u32),
    Moved,
    Ticked,
    Attempted,
    Finished,
}

fn lane_of(s: &Counter) -> Lane {
    if s.moved { OTHER_LANE } else { LANE }
}

struct Toy;

impl Entity for Toy {
    type State = Counter;
    type Command = CounterCommand;
    type Event = CounterEvent;
    type Rejection = ();
    const KIND: EntityKind = EntityKind(250);
    const PREFIX: &'static str = "toy";
    const SHARES_RECORDS: bool = true;

    fn decide(_: EntityKey, s: &Counter, c: CounterCommand, _: &At) -> Result<Decision<CounterEvent>, ()> {
        Ok(Decision::events(vec![match c {
            CounterCommand::Add(0) => return Err(()),
            CounterCommand::Add(n) => CounterEvent::Added(n),
            CounterCommand::Move if s.open || s.done || s.moved => return Ok(Decision::unchanged()),
            CounterCommand::Move => CounterEvent::Moved,
            CounterCommand::Timer if s.ticked => return Ok(Decision::unchanged()),
            CounterCommand::Timer => CounterEvent::Ticked,
            CounterCommand::Attempt if s.open || s.done => return Err(()),
            CounterCommand::Attempt => CounterEvent::Attempted,
            CounterCommand::Outcome if s.open => CounterEvent::Finished,
            CounterCommand::Outcome | CounterCommand::Report => return Ok(Decision::unchanged()),
        }]))
    }
    fn evolve(s: &mut Counter, e: &CounterEvent) {
        match e {
            CounterEvent::Added(n) => s.total += n,
            CounterEvent::Moved => s.moved = true,
            CounterEvent::Ticked => s.ticked = true,
            CounterEvent::Attempted => {
                s.open = true;
                s.attempts += 1;
            }
            CounterEvent::Finished => {
                s.open = false;
                s.done = true;
            }
        }
    }
    fn wants(_: EntityKey, s: &Counter) -> Effects {
        let mut effects = Effects::default();
        if s.total >= 10 && !s.done {
            let open = s.open.then(|| OpenAttempt {
                claim: Claim::default(),
                started_at: Timestamp(0),
                not_after: crate::types::time::Millis(2_000),
            });
            let lane = lane_of(s);
            effects.calls.push(CallWant { slot: CALL, lane, due: Timestamp(0), guard: Guard::Fenced, open });
        }
        if s.total >= 5 {
            effects.timers.push(TimerWant { slot: STUCK, due: Timestamp(4) });
        }
        if s.total >= 5 && !s.ticked {
            effects.timers.push(TimerWant { slot: TIMER, due: Timestamp(5) });
        }
        effects
    }
    fn sealed(_: &Counter) -> Option<&Sealed> {
        None
    }
    fn request(_: EntityKey, _: &Counter, _: Slot, _: Option<&[u8]>) -> Option<CallRequest> {
        None
    }
    fn timer_command(slot: Slot) -> CounterCommand {
        if slot == STUCK { CounterCommand::Report } else { CounterCommand::Timer }
    }
    fn attempt_command(_: AttemptStart) -> CounterCommand {
        CounterCommand::Attempt
    }
    fn outcome_command(_: Vec<(Slot, CallOutcome)>) -> CounterCommand {
        CounterCommand::Outcome
    }
    fn report_command(_: Report) -> CounterCommand {
        CounterCommand::Report
    }
    fn describe(_: &CounterEvent) -> serde_json::Value {
        serde_json::Value::Null
    }
}

/// What the world may do next.
#[derive(Clone, Debug)]
enum Turn {
    Add(u32),
    /// The call is to go by another lane.
    Move,
    ApplyOldest,
    VoidAll,
    /// The shard refuses the newest record while older ones are in the log.
    RefuseNewest,
    Grant,
    CallReturns,
    Pass(u64),
}

fn turn() -> impl Strategy<Value = Turn> {
    prop_oneof![
        4 => (0u32..6).prop_map(Turn::Add),
        1 => Just(Turn::Move),
        6 => Just(Turn::ApplyOldest),
        1 => Just(Turn::VoidAll),
        1 => Just(Turn::RefuseNewest),
        2 => Just(Turn::Grant),
        2 => Just(Turn::CallReturns),
        2 => (1u64..400).prop_map(Turn::Pass),
    ]
}

/// Both clocks show this, in milliseconds.
fn both(at: u64) -> Now {
    let wall = Timestamp(i64::try_from(at).unwrap());
    Now { wall, boot: BootMillis(at), steady: wall }
}

struct World {
    driver: Driver,
    kind: Arc<dyn Kind>,
    /// The disk: version and state.
    version: Version,
    state: Counter,
    log: VecDeque<Record>,
    /// Nothing gets in that was decided on a later version than that of a refused record.
    refused_at: Option<Version>,
    /// Places in the lanes' queues, those that were given up included: they are served all the same.
    places: VecDeque<Lane>,
    permit_held: bool,
    calls: u32,
    calls_running: u32,
    added: u32,
    promised: std::collections::BTreeMap<WaiterId, u32>,
    waiter: u64,
    clock: u64,
}

fn key() -> EntityKey {
    EntityKey { kind: Toy::KIND, id: [7; 16] }
}

impl World {
    fn new() -> Self {
        let kind: Arc<dyn Kind> = Arc::new(Typed::<Toy>::default());
        let driver = Driver::new(key(), kind.clone(), Life::default(), Version(0), None).unwrap();
        Self {
            driver,
            kind,
            version: Version(0),
            state: Counter::default(),
            log: VecDeque::new(),
            refused_at: None,
            places: VecDeque::new(),
            permit_held: false,
            calls: 0,
            calls_running: 0,
            added: 0,
            promised: std::collections::BTreeMap::new(),
            waiter: 0,
            clock: 100_000,
        }
    }

    fn step(&mut self, input: Input) {
        let now = both(self.clock);
        let mut out = Vec::new();
        self.driver.step(input, now, &mut out);
        for output in out {
            self.perform(output);
        }
    }

    fn perform(&mut self, output: Output) {
        match output {
            Output::Propose(record) if self.refused_at.is_some_and(|version| record.version_before > version) => {
                self.step(Input::Fate(record.version_before, RecordFate::Void(VoidReason::Dropped)));
            }
            Output::Propose(record) => {
                self.refused_at = None;
                self.log.push_back(record);
            }
            Output::Answer(waiter, answer) => {
                let promised = self.promised.remove(&waiter).expect("answered once");
                if let Ok(answer) = answer {
                    assert!(answer.version <= self.version, "answered before it was applied");
                    self.added += promised;
                    assert!(self.state.total >= self.added, "an acknowledged command is in the state");
                }
            }
            Output::RequestPermit { lane, .. } => self.places.push_back(lane),
            Output::ReleasePermit(_) => self.permit_held = false,
            Output::Perform { lane, .. } => {
                assert!(std::mem::take(&mut self.permit_held), "performed without a permit");
                assert_eq!(lane, lane_of(&self.state), "performed on the lane that is wanted");
                assert!(self.state.open, "performed before its attempt was committed");
                self.calls += 1;
                self.calls_running += 1;
                assert_eq!(self.calls, self.state.attempts, "one call for each committed attempt");
            }
            Output::Reload => {
                let state = (self.version > Version(0)).then(|| codec::encode(&self.state));
                self.step(Input::Reloaded { version: self.version, state });
            }
            Output::Corrupt { what } => panic!("{what}"),
        }
    }

    fn apply_oldest(&mut self) {
        let Some(record) = self.log.pop_front() else { return };
        assert_eq!(record.version_before, self.version, "the pipeline is dense");
        let before = (self.version > Version(0)).then(|| codec::encode(&self.state));
        let mut live = self.kind.load(key(), before.as_deref()).unwrap();
        live.evolve(&record.events).unwrap();
        self.state = codec::decode(&live.encode()).unwrap();
        self.version = record.version_after();
        self.step(Input::Fate(record.version_before, RecordFate::Applied(self.version)));
    }

    fn command(&mut self, command: &CounterCommand, adds: u32) {
        self.waiter += 1;
        let waiter = WaiterId(self.waiter);
        self.promised.insert(waiter, adds);
        self.step(Input::Command(Command {
            waiter,
            bytes: codec::encode(command),
            command_id: CommandId::default(),
            idempotency: None,
            if_version: None,
            new_key: None,
        }));
    }

    fn take(&mut self, turn: Turn) {
        self.turn(turn);
        assert_eq!(self.state.total, self.added, "what is in the state is acknowledged");
    }

    fn turn(&mut self, turn: Turn) {
        match turn {
            Turn::Add(n) => self.command(&CounterCommand::Add(n), n),
            Turn::Move => self.command(&CounterCommand::Move, 0),
            Turn::ApplyOldest => self.apply_oldest(),
            Turn::VoidAll => {
                for record in std::mem::take(&mut self.log) {
                    self.step(Input::Fate(record.version_before, RecordFate::Void(VoidReason::Dropped)));
                }
            }
            Turn::RefuseNewest => {
                let Some(record) = self.log.pop_back() else { return };
                self.refused_at = Some(record.version_before);
                self.step(Input::Fate(record.version_before, RecordFate::Void(VoidReason::Dropped)));
            }
            Turn::Grant => {
                let Some(lane) = self.places.pop_front() else { return };
                if self.driver.awaits_permit(CALL, lane) {
                    self.permit_held = true;
                    self.step(Input::Granted(CALL, lane));
                }
            }
            Turn::CallReturns if self.calls_running > 0 => {
                self.calls_running -= 1;
                let outcome = MessageOutcome::Unconfirmed { provider: "p".into(), at: Timestamp(0) };
                self.step(Input::CallDone { slot: CALL, outcome: CallOutcome::Message(outcome) });
            }
            Turn::CallReturns => {}
            Turn::Pass(millis) => {
                self.clock += millis;
                self.step(Input::Wake);
            }
        }
    }

    /// Lets the timer fire.
    fn heal_timers(&mut self) {
        while !self.log.is_empty() {
            self.apply_oldest();
        }
    }

    /// No more voids: everything must come to rest.
    fn heal(&mut self) {
        for _ in 0..200 {
            self.apply_oldest();
            self.take(Turn::Grant);
            self.take(Turn::CallReturns);
            self.take(Turn::Pass(500));
        }
    }
}

proptest! {
    #[test]
    fn nothing_is_answered_or_performed_before_it_is_applied(turns in proptest::collection::vec(turn(), 1..120)) {
        let mut world = World::new();
        for turn in turns {
            world.take(turn);
        }
        world.heal();
        prop_assert!(world.promised.is_empty(), "every caller was answered");
        prop_assert!(world.driver.is_quiet(), "nothing is left in flight");
        prop_assert_eq!(world.state.total >= 10, world.state.done, "the call was made and its outcome committed");
        prop_assert_eq!(world.state.total >= 5, world.state.ticked, "the timer fired");
        prop_assert!(world.calls <= 1, "one attempt, one call");
        prop_assert!(!world.permit_held, "no permit is kept");
    }

    #[test]
    fn a_steady_stream_of_commands_starves_neither_timers_nor_calls(
        in_flight in 1usize..20, bursts in proptest::collection::vec(1u32..20, 100..120),
    ) {
        let mut world = World::new();
        for burst in bursts {
            for _ in 0..burst {
                world.take(Turn::Add(1));
            }
            while world.log.len() > in_flight {
                world.apply_oldest();
            }
            // Something is in flight at all times.
            prop_assert!(!world.log.is_empty());
            if world.log.len() > 1 {
                world.apply_oldest();
            }
            world.take(Turn::Grant);
            world.take(Turn::CallReturns);
            world.take(Turn::Pass(500));
        }
        prop_assert!(world.state.ticked, "the timer fired");
        prop_assert!(world.state.done, "the call was made and its outcome committed");
    }
}

#[test]
fn a_permit_of_the_lane_that_is_no_longer_wanted_goes_back_and_the_right_lane_is_asked() {
    let mut world = World::new();
    world.take(Turn::Add(10));
    world.apply_oldest();
    world.heal_timers();
    assert_eq!(world.places, [LANE]);
    world.take(Turn::Move);
    // Granted while the change is in flight: not used.
    world.take(Turn::Grant);
    assert!(!world.permit_held && !world.state.open);
    world.apply_oldest();
    assert_eq!(world.places, [OTHER_LANE]);
    world.take(Turn::Grant);
    world.apply_oldest();
    assert_eq!((world.calls, world.permit_held), (1, false));
}

#[test]
fn a_refusal_waits_for_the_records_that_it_was_decided_on() {
    let mut world = World::new();
    world.take(Turn::Add(3));
    world.take(Turn::Add(0));
    assert_eq!(world.promised.len(), 2, "the refusal is not out before the record is");
    world.take(Turn::ApplyOldest);
    assert!(world.promised.is_empty());
}

#[test]
fn a_record_that_is_refused_before_an_earlier_one_is_applied_takes_nothing_from_it() {
    let mut world = World::new();
    world.take(Turn::Add(3));
    world.take(Turn::Add(4));
    world.take(Turn::RefuseNewest);
    assert_eq!(world.promised.len(), 2, "neither caller hears anything before the first record is applied");
    world.take(Turn::ApplyOldest);
    assert!(world.promised.is_empty());
    assert_eq!((world.added, world.state.total), (3, 3), "the first was acknowledged, the second was not");
    assert_eq!(world.driver.version(), Version(1));
}

#[test]
fn a_timer_that_leads_to_nothing_neither_stops_the_others_nor_spins() {
    let mut world = World::new();
    world.take(Turn::Add(5));
    world.take(Turn::ApplyOldest);
    world.take(Turn::ApplyOldest);
    assert!(world.state.ticked, "the timer behind it fired");
    let now = both(world.clock);
    assert!(world.driver.next_wake(now).is_some_and(|wake| wake > now.wall), "it is not looked at all the time");
}

#[test]
fn what_another_entity_answers_waits_for_company_only_briefly() {
    use crate::domain::order::{Method, NewLine, NewOrder, Order, OrderCommand, StepLimits};
    use crate::types::call::EntityOutcome;
    let kind: Arc<dyn Kind> = Arc::new(Typed::<Order>::default());
    let key = EntityKey { kind: kind.kind(), id: [1; 16] };
    let line = NewLine { sku: "mug".into(), quantity: 1, price: crate::types::money::Money::krw(1) };
    let sealed = Sealed { nonce: [0; 12], ciphertext: Vec::new() };
    let (owner, limits) = ("u".to_owned(), StepLimits::default());
    let new = NewOrder { owner, lines: vec![line], method: Method::Balance, sealed, limits };
    let mut live = kind.load(key, None).unwrap();
    let at = At { now: Timestamp(0), command_id: CommandId::default() };
    match live.decide(&codec::encode(&OrderCommand::Create(Box::new(new))), &at).unwrap() {
        crate::types::kind::Decided::Events { events, .. } => live.evolve(&events).unwrap(),
        other => panic!("{other:?}"),
    }
    let mut driver = Driver::new(key, kind, Life::default(), Version(1), Some(&live.encode())).unwrap();
    let mut step = |input, boot| {
        let mut out = Vec::new();
        driver.step(input, Now { wall: Timestamp(0), ..both(boot) }, &mut out);
        out
    };
    let [Output::RequestPermit { slot, lane: Lane::Entity, .. }] = step(Input::Wake, 0)[..] else { panic!("no call") };
    assert!(matches!(step(Input::Granted(slot, Lane::Entity), 0)[..], [Output::Perform { .. }]));
    let outcome = CallOutcome::Entity(EntityOutcome::Done { state: Vec::new() });
    assert!(step(Input::CallDone { slot, outcome }, 0).is_empty(), "others of the same moment share its record");
    assert!(matches!(step(Input::Wake, COALESCE_ENTITY)[..], [Output::Propose(_)]), "a message would wait for longer");
}

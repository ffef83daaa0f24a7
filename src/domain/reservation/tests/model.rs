//! A small world around one reservation: its real area, a real wallet and queue, a payment provider that refuses and loses
//! replies, a network that delivers calls again long after they were answered, and a runtime that crashes.

use super::super::*;
use crate::domain::area::{AreaCommand, AreaEntity, AreaState, SeatStatus, Serial, Take, area_key};
use crate::domain::order::Method;
use crate::domain::queue::{Enter, QueueCommand, QueueEntity, QueueState, Standing, queue_key};
use crate::domain::show::{Admission, SeatNumber, SectionNumber};
use crate::domain::ticket::{QueueNumber, ticket_key};
use crate::domain::wallet::{Wallet, WalletEvent, WalletFact, WalletState, wallet_key};
use crate::types::call::{
    EntityOutcome, EntityRequest, PaymentOperation, PaymentOutcome, PaymentRequest, RefusalClass,
};
use crate::types::codec;
use crate::types::contact::Private;
use crate::types::effect::Guard;
use crate::types::ids::{Claim, CommandId, Fingerprint, IdempotencyId, Incarnation, NodeId, Term};
use crate::types::limits::ATTEMPT_NOT_AFTER;
use crate::types::money::Money;
use crate::types::time::{Millis, Timestamp};
use serde::de::DeserializeOwned;

pub const KEY: EntityKey = EntityKey { kind: kinds::RESERVATION, id: [7; 16] };
pub const SHOW: EntityKey = EntityKey { kind: kinds::SHOW, id: [3; 16] };
pub const START: Timestamp = Timestamp(1_800_000_000_000);
pub const PRICE: i64 = 12_000;
const SECTION: SectionNumber = SectionNumber(0);

/// What the provider or the network does with a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mood {
    Willing,
    RefusesForNow,
    RefusesForGood,
    DropsReply,
    DropsRequest,
    NotSent,
}

impl Mood {
    pub const ALL: [Self; 6] =
        [Self::Willing, Self::RefusesForNow, Self::RefusesForGood, Self::DropsReply, Self::DropsRequest, Self::NotSent];
}

/// The payment provider's books.
#[derive(Clone, Debug, Default)]
pub struct Till {
    pub captured: i64,
    pub refunded: i64,
    /// Ruled out by a lookup.
    pub dead: bool,
    pub short_by: i64,
}

#[derive(Clone)]
pub struct World {
    pub state: ReservationState,
    pub records: Vec<Vec<ReservationEvent>>,
    pub now: Timestamp,
    pub till: Till,
    pub wallet: WalletState,
    pub area: AreaState,
    queue: QueueState,
    /// Calls to entities that the network may deliver again.
    pub on_the_way: Vec<EntityRequest>,
    pub by_hand: bool,
    term: u64,
}

pub fn assignment() -> Assignment {
    Assignment {
        reservation: KEY,
        serial: Serial(0),
        show: SHOW,
        section: SECTION,
        section_name: "A".into(),
        seats: vec![SeatNumber(4)],
        amount: Money::krw(PRICE),
        owner: "u-1".into(),
        number: QueueNumber(1),
        claim: IdempotencyId([1; 16]),
        fingerprint: Fingerprint([2; 16]),
        assigned_at: Timestamp(0),
    }
}

pub fn sealed() -> Sealed {
    Sealed { nonce: [0; 12], ciphertext: codec::encode(&PaymentKey(Private("tok_1".into()))) }
}

pub fn payment(method: Method) -> ReservationCommand {
    let sealed = (method == Method::Card).then(sealed);
    ReservationCommand::Pay(Box::new(Payment { method, sealed }))
}

/// Asks a neighbour as the runtime would.
fn tell<E: Entity>(key: EntityKey, state: &mut E::State, command: &[u8], now: Timestamp) -> EntityOutcome
where
    E::Command: DeserializeOwned,
{
    let at = At { now, command_id: CommandId::default() };
    match E::decide(key, state, codec::decode(command).unwrap(), &at) {
        Ok(decision) => {
            decision.events.iter().for_each(|event| E::evolve(state, event));
            EntityOutcome::Done { state: codec::encode(state) }
        }
        Err(rejection) => EntityOutcome::Rejected { rejection: codec::encode(&rejection) },
    }
}

impl World {
    /// A seat is held, and nothing is paid.
    pub fn new() -> Self {
        let mut world = Self {
            state: ReservationState::default(),
            records: Vec::new(),
            now: START,
            till: Till::default(),
            wallet: WalletState::default(),
            area: AreaState::default(),
            queue: QueueState::default(),
            on_the_way: Vec::new(),
            by_hand: false,
            term: 1,
        };
        world.charge(50_000);
        let admission = Admission { opens_at: START, per_second: 1, active_max: 1 };
        let (ticket, claim) = (ticket_key(SHOW, "u-1"), IdempotencyId([1; 16]));
        let enter = Enter { show: SHOW, admission, ticket, replaces: None, claim };
        world.tell_queue(QueueCommand::Enter(Box::new(enter)));
        let take = AreaCommand::Take(Box::new(Take { seats_total: 10, assignment: assignment() }));
        world.tell_area(take);
        let key = area_key(SHOW, SECTION);
        let Some(CallRequest::Entity(request)) = AreaEntity::request(key, &world.area, Slot(0), None) else { panic!() };
        world.ask(codec::decode(&request.command).unwrap()).unwrap();
        let done = CallOutcome::Entity(EntityOutcome::Done { state: codec::encode(&world.state) });
        world.tell_area(AreaEntity::outcome_command(vec![(Slot(0), done)]));
        world
    }

    /// To be paid by `method`, nothing called yet.
    pub fn paying(method: Method) -> Self {
        let mut world = Self::new();
        world.ask(payment(method)).unwrap();
        world
    }

    pub fn charge(&mut self, won: i64) {
        let (owner, amount, number) = ("u-1".to_owned(), Money::krw(won), 1);
        for fact in [
            WalletFact::ChargeRequested { owner, number, amount, sealed: sealed() },
            WalletFact::Charged { provider: "p".into(), amount },
        ] {
            Wallet::evolve(&mut self.wallet, &WalletEvent { at: START, fact });
        }
    }

    fn tell_area(&mut self, command: AreaCommand) -> EntityOutcome {
        let told = tell::<AreaEntity>(area_key(SHOW, SECTION), &mut self.area, &codec::encode(&command), self.now);
        assert!(self.area.get().is_some_and(crate::domain::area::Area::is_sound), "INV-8");
        told
    }

    fn tell_queue(&mut self, command: QueueCommand) -> EntityOutcome {
        tell::<QueueEntity>(queue_key(SHOW), &mut self.queue, &codec::encode(&command), self.now)
    }

    pub fn seat(&self) -> SeatStatus {
        self.area.get().unwrap().seat(SeatNumber(4))
    }

    pub fn is_in_queue(&self) -> bool {
        let room = &self.queue.get().unwrap().room;
        matches!(room.standing(QueueNumber(1), self.now), Standing::Admitted { .. })
    }

    /// A command, and what it leads to.
    pub fn ask(&mut self, command: ReservationCommand) -> Result<(), ReservationRejection> {
        let at = At { now: self.now, command_id: CommandId::default() };
        let discards = matches!(command, ReservationCommand::Discard { .. });
        let decision = Reservation::decide(KEY, &self.state, command, &at)?;
        self.by_hand |= discards;
        if !decision.events.is_empty() {
            decision.events.iter().for_each(|event| Reservation::evolve(&mut self.state, event));
            self.records.push(decision.events);
        }
        self.assert_always();
        Ok(())
    }

    pub fn wants(&self) -> Effects {
        Reservation::wants(KEY, &self.state)
    }
    pub fn advance(&mut self, span: Millis) {
        self.now = self.now + span;
    }

    pub fn request(&self) -> Option<CallRequest> {
        let personal = codec::encode(&PaymentKey(Private("tok_1".into())));
        Reservation::request(KEY, &self.state, self.wants().calls.first()?.slot, Some(&personal))
    }

    /// To the next instant at which a call is wanted.
    pub fn advance_to_call(&mut self) {
        if let Some(due) = self.wants().calls.first().map(|call| call.due) {
            self.now = self.now.max(due);
        }
    }

    /// Fires the timers that are due.
    pub fn fire(&mut self) {
        let due: Vec<Slot> = self.wants().timers.iter().filter(|t| t.due <= self.now).map(|t| t.slot).collect();
        for slot in due {
            let _not_wanted_any_more = self.ask(ReservationCommand::Timer(slot));
        }
    }

    /// Makes the call that is due, and brings its outcome home.
    pub fn call(&mut self, mood: Mood) -> bool {
        let Some((slot, request)) = self.begin() else { return false };
        let outcome = self.perform(&request, mood);
        self.ask(ReservationCommand::Outcomes(vec![(slot, outcome)])).is_ok()
    }

    fn begin(&mut self) -> Option<(Slot, CallRequest)> {
        let want = self.wants().calls.first().filter(|call| call.due <= self.now).cloned()?;
        if want.guard == Guard::Fenced {
            let claim = Claim { term: Term(self.term), node: NodeId(1), incarnation: Incarnation(1) };
            let start = AttemptStart { slot: want.slot, claim, not_after: ATTEMPT_NOT_AFTER };
            self.ask(ReservationCommand::Attempt(start)).ok()?;
        }
        Some((want.slot, self.request()?))
    }

    /// The node dies with the call in flight: done or not, no outcome comes back.
    pub fn crash(&mut self, mood: Mood) {
        if let Some((_, request)) = self.begin() {
            let _lost = self.perform(&request, mood);
        }
        self.term += 1;
        self.advance(Millis::from_secs(13));
    }

    /// A call of before is delivered again.
    pub fn deliver_again(&mut self, which: usize) {
        if let Some(request) = self.on_the_way.get(which % self.on_the_way.len().max(1)).cloned() {
            let _nobody_waits = self.deliver(&request);
        }
    }

    fn perform(&mut self, request: &CallRequest, mood: Mood) -> CallOutcome {
        match request {
            CallRequest::Payment(request) => CallOutcome::Payment(self.pay(request, mood)),
            CallRequest::Entity(request) => {
                self.on_the_way.push(request.clone());
                let lost = || EntityOutcome::Unknown { cause: "no answer".into() };
                CallOutcome::Entity(match mood {
                    Mood::DropsRequest | Mood::NotSent => lost(),
                    Mood::DropsReply => {
                        let _lost = self.deliver(request);
                        lost()
                    }
                    Mood::Willing | Mood::RefusesForNow | Mood::RefusesForGood => self.deliver(request),
                })
            }
            CallRequest::Message(_) | CallRequest::Shipment(_) => panic!("a reservation sends and ships nothing"),
        }
    }

    fn deliver(&mut self, request: &EntityRequest) -> EntityOutcome {
        if request.target == wallet_key("u-1") {
            let told = tell::<Wallet>(request.target, &mut self.wallet, &request.command, self.now);
            assert!(self.wallet.is_sound());
            told
        } else if request.target == queue_key(SHOW) {
            self.tell_queue(codec::decode(&request.command).unwrap())
        } else {
            assert_eq!(request.target, area_key(SHOW, SECTION));
            self.tell_area(codec::decode(&request.command).unwrap())
        }
    }

    fn pay(&mut self, request: &PaymentRequest, mood: Mood) -> PaymentOutcome {
        let (at, till) = (self.now, &mut self.till);
        let unknown = || PaymentOutcome::Unknown { cause: "timeout".into() };
        let provider = || "toss".to_owned();
        if mood == Mood::NotSent {
            return PaymentOutcome::NotSent { cause: "late".into() };
        }
        match (&request.operation, mood) {
            (PaymentOperation::Confirm { .. } | PaymentOperation::Lookup { .. }, Mood::Willing)
                if till.captured > 0 =>
            {
                PaymentOutcome::Captured { provider: provider(), amount: Money::krw(till.captured), at }
            }
            (PaymentOperation::Confirm { amount, .. }, Mood::Willing | Mood::DropsReply) => {
                assert!(!till.dead, "confirmed after a lookup had ruled it out");
                till.captured = amount.minor - till.short_by;
                let amount = Money::krw(till.captured);
                if mood == Mood::Willing {
                    PaymentOutcome::Captured { provider: provider(), amount, at }
                } else {
                    unknown()
                }
            }
            (PaymentOperation::Lookup { .. }, Mood::Willing) => {
                till.dead = true;
                PaymentOutcome::NotCaptured { code: "NOT_FOUND".into() }
            }
            (PaymentOperation::Confirm { .. }, Mood::RefusesForGood) if till.captured == 0 => {
                PaymentOutcome::NotCaptured { code: "REJECTED".into() }
            }
            (PaymentOperation::Cancel { amount, .. }, Mood::Willing | Mood::DropsReply) => {
                assert!(till.captured > 0 && amount.minor == till.captured);
                till.refunded = amount.minor;
                let amount = *amount;
                if mood == Mood::Willing { PaymentOutcome::Refunded { amount, at } } else { unknown() }
            }
            (PaymentOperation::Cancel { .. }, Mood::RefusesForGood) if till.refunded == 0 => {
                PaymentOutcome::RefundRefused { code: "NO".into(), class: RefusalClass::Permanent }
            }
            (PaymentOperation::Cancel { .. }, Mood::RefusesForNow) if till.refunded == 0 => {
                PaymentOutcome::RefundRefused { code: "LATER".into(), class: RefusalClass::Retry }
            }
            (_, _) => unknown(),
        }
    }

    /// Everything works from here on, and its owner does nothing: until nothing is wanted but timers of days.
    pub fn drain(&mut self) {
        for _ in 0..200 {
            if self.state.letter().is_some() {
                self.ask(ReservationCommand::Replay { actor: "op".into() }).unwrap();
            }
            if self.wants().calls.is_empty() {
                return;
            }
            self.advance_to_call();
            self.fire();
            self.call(Mood::Willing);
        }
        panic!("INV-9: never comes to rest: {:?}", self.state);
    }

    fn assert_always(&self) {
        let wants = self.wants();
        let waits = !wants.timers.is_empty() || !wants.calls.is_empty();
        let retains = Reservation::sealed(&self.state).is_some();
        assert!(wants.terminal || waits, "INV-9: {:?}", self.state);
        assert!(!wants.terminal || retains || !waits, "at rest, and wants: {:?}", self.state);
        assert!(codec::encode(&self.state).len() < 1_000);
    }

    /// Where the money and the seat are, once nothing is on its way any more.
    pub fn assert_end(&self) {
        if self.by_hand {
            return;
        }
        let confirmed = self.state.status() == Status::Confirmed;
        let seat = if confirmed { SeatStatus::Sold } else { SeatStatus::Available };
        assert_eq!(self.seat(), seat, "{:?}", self.state);
        let kept = if confirmed { PRICE } else { 0 };
        let by_card = self.till.captured - self.till.refunded;
        let by_wallet = self.wallet.held().minor + self.wallet.spent().minor;
        assert_eq!(by_card + by_wallet, kept, "{:?} {:?}", self.till, self.state);
        let (paid, back) = (self.state.paid().minor, self.state.refunded().minor);
        assert_eq!(paid - back, kept);
    }
}

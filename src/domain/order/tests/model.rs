//! A small world around one order: real stocks and a real wallet, providers that accept, refuse and lose replies, a
//! network that delivers calls again long after they were answered, and a runtime that crashes.

use super::super::*;
use crate::domain::coupon::testing;
use crate::domain::coupon::{CouponState, Payer};
use crate::domain::holds::Hold;
use crate::domain::inventory::{StockCommand, StockEntity, StockState, stock_key};
use crate::domain::tender::CouponTerms;
use crate::domain::wallet::{Wallet, WalletCommand, WalletEvent, WalletFact, WalletState, wallet_key};
use crate::types::call::{
    EntityOutcome, EntityRequest, PaymentOperation, PaymentOutcome, PaymentRequest, Prior, RefusalClass, ShipTo,
    ShipmentOperation, ShipmentOutcome, ShipmentRequest,
};
use crate::types::codec;
use crate::types::contact::Private;
use crate::types::effect::{CallWant, Guard, Lane, Slot};
use crate::types::ids::{Claim, CommandId, Incarnation, NodeId, Term};
use crate::types::kind::AttemptStart;
use crate::types::limits::ATTEMPT_NOT_AFTER;
use crate::types::money::Money;
use crate::types::time::{Millis, Timestamp};
use std::collections::BTreeMap;

pub const KEY: EntityKey = EntityKey { kind: kinds::ORDER, id: [7; 16] };
pub const START: Timestamp = Timestamp(1_800_000_000_000);
const SKUS: [&str; 2] = ["mug", "spoon"];
const STOCK: u32 = 10;
const BALANCE: i64 = 50_000;

/// What a provider or the network does with a call.
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

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Goods {
    Nothing,
    Prepared,
    Cancelled,
}

#[derive(Clone)]
pub struct World {
    pub key: EntityKey,
    pub state: OrderState,
    pub records: Vec<Vec<OrderEvent>>,
    pub now: Timestamp,
    pub till: Till,
    pub stocks: BTreeMap<EntityKey, StockState>,
    pub wallet: WalletState,
    goods: Goods,
    put: BTreeMap<EntityKey, u32>,
    /// Calls to entities that the network may deliver again.
    pub on_the_way: Vec<EntityRequest>,
    pub by_hand: bool,
    pub coupon: CouponState,
    term: u64,
}

pub fn sealed() -> Sealed {
    Sealed { nonce: [0; 12], ciphertext: codec::encode(&personal()) }
}

fn personal() -> Personal {
    let to = ShipTo { name: "지민".into(), phone: Some("+821012345678".into()), address: "서울".into() };
    Personal { payment_key: Some(Private("tok_1".into())), ship_to: Some(Private(to)) }
}

pub fn new_order(method: Method) -> NewOrder {
    let line = |sku: &str, quantity, price| NewLine { sku: sku.to_owned(), quantity, price: Money::krw(price) };
    NewOrder {
        owner: "u-1".into(),
        lines: vec![line(SKUS[0], 2, 4_500), line(SKUS[1], 3, 1_000)],
        method,
        sealed: sealed(),
        limits: StepLimits::default(),
    }
}

impl World {
    pub fn new(method: Method) -> Self {
        Self::paying(method, None)
    }

    /// With a coupon that takes so much off.
    pub fn paying(method: Method, off: Option<i64>) -> Self {
        let mut world = Self {
            key: KEY,
            state: OrderState::default(),
            records: Vec::new(),
            now: START,
            till: Till::default(),
            stocks: BTreeMap::new(),
            wallet: WalletState::default(),
            goods: Goods::Nothing,
            put: BTreeMap::new(),
            on_the_way: Vec::new(),
            by_hand: false,
            coupon: testing::issued(),
            term: 1,
        };
        world.put_stock(0, STOCK);
        world.put_stock(1, STOCK);
        let (owner, amount) = ("u-1".to_owned(), Money::krw(BALANCE));
        for fact in [
            WalletFact::ChargeRequested { owner, number: 1, amount, sealed: sealed() },
            WalletFact::Charged { provider: "p".into(), amount },
        ] {
            Wallet::evolve(&mut world.wallet, &WalletEvent { at: START, fact });
        }
        let new = Box::new(new_order(method));
        let command = match off.map(|off| CouponTerms { coupon: testing::key(), off: Money::krw(off) }) {
            None => OrderCommand::Create(new),
            Some(terms) => OrderCommand::CreateWith(new, terms),
        };
        world.ask(command).unwrap();
        world
    }

    pub fn put_stock(&mut self, number: usize, quantity: u32) {
        let (sku, key) = (SKUS[number].to_owned(), stock_key(SKUS[number]));
        let answer = self.stock_command(key, StockCommand::Put { sku, quantity, price: None });
        assert!(matches!(answer, EntityOutcome::Done { .. }));
        self.put.insert(key, quantity);
    }

    /// Somebody else spends the rest of the wallet.
    pub fn spend_all_but(&mut self, left: i64) {
        let holder = EntityKey { kind: kinds::ORDER, id: [9; 16] };
        let (amount, stamp) = (Money::krw(BALANCE - left), self.now);
        for command in [WalletCommand::Hold { holder, amount, stamp }, WalletCommand::Confirm { holder, stamp }] {
            self.wallet_command(command);
        }
    }

    fn at(&self) -> At {
        At { now: self.now, command_id: CommandId::default() }
    }

    /// A command, and what it leads to.
    pub fn ask(&mut self, command: OrderCommand) -> Result<(), OrderRejection> {
        let discards = matches!(command, OrderCommand::Discard { .. });
        let decision = Order::decide(self.key, &self.state, command, &self.at())?;
        self.by_hand |= discards;
        if !decision.events.is_empty() {
            decision.events.iter().for_each(|event| Order::evolve(&mut self.state, event));
            self.records.push(decision.events);
        }
        self.assert_always();
        Ok(())
    }

    pub fn wants(&self) -> Effects {
        Order::wants(self.key, &self.state)
    }
    /// The call of the step under way, not those of notices.
    fn saga_call(&self) -> Option<CallWant> {
        self.wants().calls.into_iter().find(|call| !matches!(call.lane, Lane::Notice(_)))
    }
    pub fn slot(&self) -> Slot {
        self.saga_call().expect("a call of the saga").slot
    }
    pub fn request(&self) -> Option<CallRequest> {
        let personal = codec::encode(&personal());
        Order::request(self.key, &self.state, self.saga_call()?.slot, Some(&personal))
    }
    pub fn advance(&mut self, span: Millis) {
        self.now = self.now + span;
    }

    /// To the next instant at which anything is wanted.
    pub fn advance_to_next(&mut self) {
        let wants = self.wants();
        let calls = wants.calls.iter().map(|call| call.due);
        let timers = wants.timers.iter().filter(|timer| timer.slot != super::super::request::RETENTION_TIMER);
        if let Some(due) = calls.chain(timers.map(|timer| timer.due)).min() {
            self.now = self.now.max(due);
        }
    }

    /// Fires the timers that are due.
    pub fn fire(&mut self) {
        let due: Vec<Slot> = self.wants().timers.iter().filter(|t| t.due <= self.now).map(|t| t.slot).collect();
        for slot in due {
            let _not_wanted_any_more = self.ask(OrderCommand::Timer(slot));
        }
    }

    /// Makes the call that is due, and brings its outcome home.
    pub fn call(&mut self, mood: Mood) -> bool {
        let Some(want) = self.saga_call().filter(|call| call.due <= self.now) else { return false };
        if want.guard == Guard::Fenced && !self.attempt(want.slot) {
            return false;
        }
        let Some(request) = self.request() else { return false };
        let outcome = self.perform(&request, mood);
        self.ask(OrderCommand::Outcomes(vec![(want.slot, outcome)])).is_ok()
    }

    fn attempt(&mut self, slot: Slot) -> bool {
        let claim = Claim { term: Term(self.term), node: NodeId(1), incarnation: Incarnation(1) };
        self.ask(OrderCommand::Attempt(AttemptStart { slot, claim, not_after: ATTEMPT_NOT_AFTER })).is_ok()
    }

    /// The node dies with the call in flight: done or not, no outcome comes back.
    pub fn crash(&mut self, mood: Mood) {
        let Some(want) = self.saga_call().filter(|call| call.due <= self.now) else { return };
        if want.guard == Guard::Fenced && !self.attempt(want.slot) {
            return;
        }
        if let Some(request) = self.request() {
            let _lost = self.perform(&request, mood);
        }
        self.term += 1;
        self.advance(Millis::from_secs(13));
    }

    pub fn run_to(&mut self, step: Step) {
        for _ in 0..100 {
            if self.state.order.as_deref().and_then(|order| order.running()).is_some_and(|running| running.step == step)
            {
                return;
            }
            self.advance_to_next();
            self.call(Mood::Willing);
        }
        panic!("never came to {step:?}: {:?}", self.state);
    }

    fn perform(&mut self, request: &CallRequest, mood: Mood) -> CallOutcome {
        match request {
            CallRequest::Payment(request) => CallOutcome::Payment(self.payment(request, mood)),
            CallRequest::Shipment(request) => CallOutcome::Shipment(self.shipment(request, mood)),
            CallRequest::Entity(request) => CallOutcome::Entity(self.entity(request, mood)),
            CallRequest::Message(_) => panic!("an order sends no message"),
        }
    }

    fn payment(&mut self, request: &PaymentRequest, mood: Mood) -> PaymentOutcome {
        let (at, till) = (self.now, &mut self.till);
        let unknown = || PaymentOutcome::Unknown { cause: "timeout".into() };
        let captured =
            |till: &Till| PaymentOutcome::Captured { provider: "toss".into(), amount: Money::krw(till.captured), at };
        if mood == Mood::NotSent {
            return PaymentOutcome::NotSent { cause: "late".into() };
        }
        match (&request.operation, mood) {
            (PaymentOperation::Confirm { .. } | PaymentOperation::Lookup { .. }, _) if till.captured > 0 => {
                if mood == Mood::DropsReply { unknown() } else { captured(till) }
            }
            (PaymentOperation::Confirm { amount, .. }, Mood::Willing | Mood::DropsReply) => {
                assert!(!till.dead, "confirmed after a lookup had ruled it out");
                till.captured = amount.minor - till.short_by;
                if mood == Mood::Willing { captured(till) } else { unknown() }
            }
            (PaymentOperation::Lookup { .. }, Mood::Willing) => {
                assert_ne!(request.prior, Prior::None, "a lookup that can never rule anything out");
                till.dead = true;
                PaymentOutcome::NotCaptured { code: "NOT_FOUND".into() }
            }
            (PaymentOperation::Confirm { .. }, Mood::RefusesForGood) => {
                PaymentOutcome::NotCaptured { code: "REJECTED".into() }
            }
            (PaymentOperation::Cancel { amount, .. }, Mood::Willing | Mood::DropsReply) => {
                if till.refunded == 0 {
                    till.refunded = amount.minor;
                }
                let amount = Money::krw(till.refunded);
                if mood == Mood::Willing { PaymentOutcome::Refunded { amount, at } } else { unknown() }
            }
            (PaymentOperation::Cancel { .. }, Mood::RefusesForNow | Mood::RefusesForGood) => {
                let class = if mood == Mood::RefusesForNow { RefusalClass::Retry } else { RefusalClass::Permanent };
                // What went back already is found by the lookup before the repeat.
                match till.refunded {
                    0 => PaymentOutcome::RefundRefused { code: "NO".into(), class },
                    refunded => PaymentOutcome::Refunded { amount: Money::krw(refunded), at },
                }
            }
            (PaymentOperation::Confirm { .. } | PaymentOperation::Lookup { .. }, Mood::RefusesForNow) => {
                PaymentOutcome::Pending
            }
            (_, _) => unknown(),
        }
    }

    /// The provider behind its gateway, which looks a repeat up first.
    fn shipment(&mut self, request: &ShipmentRequest, mood: Mood) -> ShipmentOutcome {
        let at = self.now;
        let prepared = || ShipmentOutcome::Prepared { provider: "shipping".into(), tracking: "T1".into(), at };
        let refused = |code: &str, class| ShipmentOutcome::Refused { code: code.into(), class };
        let unknown = || ShipmentOutcome::Unknown { cause: "timeout".into() };
        if mood == Mood::NotSent {
            return ShipmentOutcome::NotSent { cause: "late".into() };
        }
        let prepares = matches!(request.operation, ShipmentOperation::Prepare { .. });
        if mood == Mood::RefusesForNow {
            // The lookup that comes first is turned away as well.
            return refused("http_429", RefusalClass::Retry);
        }
        let refusal = match mood {
            Mood::RefusesForGood => Some(refused("GOODS_REFUSED", RefusalClass::Permanent)),
            Mood::Willing | Mood::DropsReply | Mood::DropsRequest | Mood::NotSent | Mood::RefusesForNow => None,
        };
        if mood == Mood::DropsRequest {
            return unknown();
        }
        let outcome = match (self.goods, prepares) {
            (Goods::Prepared, true) => prepared(),
            (Goods::Cancelled, true) => refused("CANCELLED", RefusalClass::Permanent),
            (Goods::Cancelled, false) => ShipmentOutcome::Cancelled { at },
            (Goods::Nothing | Goods::Prepared, _) => match refusal {
                Some(refusal) => refusal,
                None if prepares => {
                    self.goods = Goods::Prepared;
                    prepared()
                }
                None => {
                    self.goods = Goods::Cancelled;
                    ShipmentOutcome::Cancelled { at }
                }
            },
        };
        if mood == Mood::DropsReply { unknown() } else { outcome }
    }

    fn entity(&mut self, request: &EntityRequest, mood: Mood) -> EntityOutcome {
        let unknown = || EntityOutcome::Unknown { cause: "no leader".into() };
        self.on_the_way.push(request.clone());
        match mood {
            Mood::Willing | Mood::RefusesForGood | Mood::RefusesForNow => self.deliver(request),
            Mood::DropsReply => {
                self.deliver(request);
                unknown()
            }
            Mood::DropsRequest | Mood::NotSent => unknown(),
        }
    }

    /// What an entity answers.
    pub fn deliver(&mut self, request: &EntityRequest) -> EntityOutcome {
        if request.target == testing::key() {
            return testing::ask(&mut self.coupon, codec::decode(&request.command).unwrap(), self.now);
        }
        if request.target == wallet_key("u-1") {
            return self.wallet_command(codec::decode(&request.command).unwrap());
        }
        self.stock_command(request.target, codec::decode(&request.command).unwrap())
    }

    fn wallet_command(&mut self, command: WalletCommand) -> EntityOutcome {
        match Wallet::decide(wallet_key("u-1"), &self.wallet, command, &self.at()) {
            Ok(decision) => {
                decision.events.iter().for_each(|event| Wallet::evolve(&mut self.wallet, event));
                EntityOutcome::Done { state: Vec::new() }
            }
            Err(rejection) => EntityOutcome::Rejected { rejection: codec::encode(&rejection) },
        }
    }

    fn stock_command(&mut self, key: EntityKey, command: StockCommand) -> EntityOutcome {
        let at = self.at();
        let state = self.stocks.entry(key).or_default();
        match StockEntity::decide(key, state, command, &at) {
            Ok(decision) => {
                decision.events.iter().for_each(|event| StockEntity::evolve(state, event));
                EntityOutcome::Done { state: Vec::new() }
            }
            Err(rejection) => EntityOutcome::Rejected { rejection: codec::encode(&rejection) },
        }
    }

    /// Another of the member's orders pays with the coupon, and gives it back.
    pub fn other_payer(&mut self, uses: bool) {
        testing::other_payer(&mut self.coupon, uses, self.now);
    }

    /// There is more of everything all of a sudden.
    pub fn restock(&mut self) {
        if matches!(self.state.status(), Status::Payment | Status::Inventory) {
            (0..SKUS.len()).for_each(|number| self.put_stock(number, STOCK));
        }
    }

    pub fn shipped_now(&self) -> bool {
        self.goods == Goods::Prepared
    }

    /// Stock never below what is held, the wallet sound, never more given back than was paid.
    fn assert_always(&self) {
        for stock in self.stocks.values() {
            assert!(stock.get().is_none_or(|known| known.quantity >= stock.held()), "{stock:?}");
        }
        assert!(self.wallet.is_sound(), "{:?}", self.wallet);
        assert!(self.till.refunded <= self.till.captured, "{:?}", self.till);
    }

    /// The saga is complete: all of it was done, or none of it is left.
    pub fn assert_end(&self) {
        self.assert_always();
        assert!(self.wants().terminal, "{:?}", self.state);
        let held = |key: &EntityKey| self.stocks[key].held();
        assert!(self.stocks.keys().all(|key| held(key) == 0), "{:?}", self.stocks);
        assert!(self.wallet.held().is_zero(), "{:?}", self.wallet);
        if self.by_hand {
            return;
        }
        let done = self.state.status() == Status::Completed;
        assert_eq!(self.shipped_now(), done);
        for line in self.state.lines() {
            let (key, taken) = (stock_key(&line.sku), if done { line.quantity } else { 0 });
            assert_eq!(self.stocks[&key].get().unwrap().quantity, self.put[&key] - taken);
        }
        let kept = if done { self.state.amount().minor } else { 0 };
        match self.state.method() {
            Method::Card => assert_eq!(self.till.captured - self.till.refunded, kept, "{:?}", self.till),
            Method::Balance => {
                let hold = Hold { holder: self.key, amount: self.state.amount().minor };
                assert!(hold.amount >= 0 && self.wallet.balance().minor + kept <= BALANCE);
            }
        }
        let (paid, refunded) = (self.state.paid().minor, self.state.refunded().minor);
        assert_eq!(paid - refunded, kept);
        let ours = testing::is_used_by(&self.coupon, Payer::Entity(self.key));
        assert_eq!(ours, done && self.state.coupon().is_some(), "{:?}", self.coupon);
    }

    /// A healthy world and time: everything has to come to its end by itself, and what the network still delivers then
    /// changes nothing.
    pub fn drain(&mut self) {
        for _ in 0..2_000 {
            if self.state.order.as_deref().is_some_and(|order| order.is_terminal()) {
                let before = (self.stocks.clone(), self.wallet.clone());
                for request in std::mem::take(&mut self.on_the_way) {
                    self.deliver(&request);
                }
                assert_eq!(before.0.values().map(StockState::held).sum::<u32>(), 0);
                let held: u32 = self.stocks.values().map(StockState::held).sum();
                assert_eq!((held, self.wallet.held()), (0, before.1.held()), "a late repeat took something");
                let ours = testing::is_used_by(&self.coupon, Payer::Entity(self.key));
                let done = self.state.status() == Status::Completed && self.state.coupon().is_some();
                assert!(self.by_hand || ours == done, "a late repeat used the coupon");
                return;
            }
            if self.state.status() == Status::Stuck {
                self.ask(OrderCommand::Replay { actor: "op".into() }).unwrap();
            }
            self.advance_to_next();
            if !self.call(Mood::Willing) {
                self.fire();
            }
        }
        panic!("never came to an end: {:?} {:?}", self.state, self.wants());
    }
}

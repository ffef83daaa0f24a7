//! A small world around one gift: providers that accept, refuse, drop replies and tell the truth late, and a runtime
//! that crashes. It keeps the providers' own books, against which the gift's are held.

use super::model_beside::Paying;
use super::*;
use crate::domain::coupon::CouponState;
use crate::domain::wallet::WalletState;
use std::collections::BTreeMap;

/// What a provider does with the call that is in flight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mood {
    Willing,
    RefusesForNow,
    RefusesForGood,
    /// Done, and the reply is lost.
    DropsReply,
    /// Not done, and nobody knows.
    DropsRequest,
    /// Never left this process.
    NotSent,
}

impl Mood {
    pub(super) const ALL: [Self; 6] =
        [Self::Willing, Self::RefusesForNow, Self::RefusesForGood, Self::DropsReply, Self::DropsRequest, Self::NotSent];
}

/// One message in a provider's books, by our reference.
#[derive(Clone, Copy, Debug, Default)]
struct Message {
    generation: u16,
    /// Times that the person would have got it.
    taken: u32,
    /// Reported as failed for sure: nobody got it.
    failed: bool,
}

/// The payment provider's books of one order.
#[derive(Clone, Debug, Default)]
pub(super) struct Till {
    pub captured: i64,
    pub refunded: i64,
    refunds: BTreeMap<String, i64>,
    /// A lookup said that nothing will be captured any more.
    dead: bool,
}

pub(super) struct World {
    pub play: Play,
    messages: BTreeMap<String, Message>,
    pub till: Till,
    in_flight: Vec<(Slot, CallRequest)>,
    term: u64,
    /// An operator settled a refund by hand: the provider's books know nothing of it.
    pub by_hand: bool,
    pub paying: Paying,
    pub coupon: CouponState,
    pub wallet: WalletState,
    pub spent_by_others: i64,
    /// Calls to other entities, which the network may deliver again at any time.
    pub on_the_way: Vec<EntityRequest>,
}

impl World {
    pub(super) fn new(paying: Paying) -> Self {
        Self {
            play: Play::new().then(paying.command()),
            messages: BTreeMap::new(),
            till: Till::default(),
            in_flight: Vec::new(),
            term: 1,
            by_hand: false,
            paying,
            coupon: crate::domain::coupon::testing::issued(),
            wallet: super::model_beside::full_wallet(),
            spent_by_others: 0,
            on_the_way: Vec::new(),
        }
    }

    /// A command of a person or an operator; a refusal is as good an answer as any.
    pub(super) fn ask(&mut self, command: GiftCommand) {
        let discards_refund = matches!(command, GiftCommand::Discard { letter: Letter::Gift, .. })
            && self.play.state.state() == Status::RefundFailed;
        if self.play.ask(command).is_ok_and(|events| !events.is_empty()) {
            self.by_hand |= discards_refund;
        }
        self.assert_books();
    }

    /// INV-2 and the honesty of money, against the providers' books.
    fn assert_books(&self) {
        let mut effective: BTreeMap<u16, u32> = BTreeMap::new();
        for message in self.messages.values().filter(|message| !message.failed) {
            *effective.entry(message.generation).or_default() += message.taken;
        }
        assert!(effective.values().all(|count| *count <= 1), "INV-2: {:?}", self.messages);
        let cancelled = self.play.state.refund_reason() == Some(RefundReason::Cancelled);
        assert!(!cancelled || effective.is_empty(), "INV-2: a cancelled gift was sent");
        assert!(self.till.refunded <= self.till.captured, "refunded more than was paid");
    }

    pub(super) fn advance(&mut self, span: Millis) {
        self.play.now = self.play.now + span;
    }

    /// To the next instant at which anything is wanted. `false`: nothing is.
    pub(super) fn advance_to_next(&mut self) -> bool {
        let busy = |call: &CallWant| call.open.is_some();
        let wants = self.play.wants();
        let timers = wants.timers.iter().map(|timer| timer.due);
        let next = timers.chain(wants.calls.iter().filter(|call| !busy(call)).map(|call| call.due)).min();
        match next {
            Some(due) => self.play.now = self.play.now.max(due),
            None => return wants.calls.iter().any(busy),
        }
        true
    }

    /// Fires the timers that are due.
    pub(super) fn fire(&mut self) -> bool {
        let now = self.play.now;
        let due: Vec<Slot> = self.play.wants().timers.iter().filter(|t| t.due <= now).map(|t| t.slot).collect();
        for slot in &due {
            self.ask(GiftCommand::Timer(*slot));
        }
        !due.is_empty()
    }

    /// Starts the fenced call that is due, or, after a crash that `mood` describes, the one found open.
    pub(super) fn start(&mut self, mood: Mood) -> bool {
        let fenced = |call: &&CallWant| call.guard == Guard::Fenced && call.due <= self.play.now;
        let Some(want) = self.play.wants().calls.iter().find(fenced).cloned() else {
            return false;
        };
        if want.open.is_some() {
            self.crash(want.slot, mood);
        }
        let start = AttemptStart { slot: want.slot, claim: claim(self.term), not_after: ATTEMPT_NOT_AFTER };
        if self.play.ask(GiftCommand::Attempt(start)).is_err() {
            return false;
        }
        let request = self.play.request();
        self.in_flight.push((want.slot, request));
        self.assert_books();
        true
    }

    /// The node dies with its calls in flight: done or not, no outcome comes back. A successor waits them out.
    fn crash(&mut self, slot: Slot, mood: Mood) {
        self.term += 1;
        self.advance(Millis::from_secs(13));
        let (lost, kept) = std::mem::take(&mut self.in_flight).into_iter().partition(|(open, _)| *open == slot);
        self.in_flight = kept;
        let lost: Vec<(Slot, CallRequest)> = lost;
        for (_, request) in lost {
            let _no_outcome_comes_back = self.perform(&request, mood);
        }
    }

    /// The oldest call in flight is answered.
    pub(super) fn answer(&mut self, mood: Mood) -> bool {
        if self.in_flight.is_empty() {
            return false;
        }
        let (slot, request) = self.in_flight.remove(0);
        let outcome = self.perform(&request, mood);
        self.ask(GiftCommand::Outcomes(vec![(slot, outcome)]));
        true
    }

    /// Every notice that is due is tried; several outcomes make one record.
    pub(super) fn notify(&mut self, mood: Mood) -> bool {
        let now = self.play.now;
        let message = |call: &CallWant| call.guard == Guard::Repeatable && call.lane != Lane::Entity;
        let due = |call: &CallWant| message(call) && call.due <= now;
        let slots: Vec<Slot> = self.play.wants().calls.iter().filter(|c| due(c)).map(|c| c.slot).collect();
        let outcome = || match mood {
            Mood::Willing => taken(now),
            Mood::RefusesForNow => refused("503", RefusalClass::Retry),
            Mood::RefusesForGood => refused("3019", RefusalClass::NextChannel),
            Mood::DropsReply | Mood::DropsRequest => unknown(),
            Mood::NotSent => CallOutcome::Message(MessageOutcome::NotSent { cause: "late".into() }),
        };
        let outcomes: Vec<_> = slots.iter().map(|slot| (*slot, outcome())).collect();
        if !outcomes.is_empty() {
            self.ask(GiftCommand::Outcomes(outcomes));
        }
        !slots.is_empty()
    }

    fn perform(&mut self, request: &CallRequest, mood: Mood) -> CallOutcome {
        match request {
            CallRequest::Message(request) => CallOutcome::Message(self.message(request, mood)),
            CallRequest::Payment(request) => CallOutcome::Payment(self.payment(request, mood)),
            CallRequest::Entity(_) | CallRequest::Shipment(_) => panic!("a gift pays and sends"),
        }
    }

    /// As a gateway does: after an unknown outcome it looks up first; mail can neither be looked up nor told twice.
    fn message(&mut self, request: &MessageRequest, mood: Mood) -> MessageOutcome {
        let at = self.play.now;
        let accepted = || MessageOutcome::Accepted { provider: "p".into(), receipt: "r".into(), at };
        let unconfirmed = || MessageOutcome::Unconfirmed { provider: "smtp".into(), at };
        let mail = request.channel == Channel::Email;
        let generation = self.play.state.delivery().generation;
        let book = self.messages.entry(request.reference.clone()).or_default();
        if request.prior != Prior::None {
            if mail {
                return unconfirmed();
            }
            if book.taken > 0 {
                return accepted();
            }
        }
        book.generation = generation_of(&request.reference).unwrap_or(generation);
        match mood {
            Mood::Willing => {
                book.taken += 1;
                accepted()
            }
            Mood::RefusesForNow => MessageOutcome::Refused { code: "429".into(), class: RefusalClass::Retry },
            Mood::RefusesForGood => MessageOutcome::Refused { code: "3019".into(), class: RefusalClass::NextChannel },
            Mood::DropsReply | Mood::DropsRequest => {
                book.taken += u32::from(mood == Mood::DropsReply);
                if mail { unconfirmed() } else { MessageOutcome::Unknown { cause: "timeout".into() } }
            }
            Mood::NotSent => MessageOutcome::NotSent { cause: "late".into() },
        }
    }

    fn payment(&mut self, request: &PaymentRequest, mood: Mood) -> PaymentOutcome {
        let at = self.play.now;
        let till = &mut self.till;
        let captured =
            |till: &Till| PaymentOutcome::Captured { provider: "toss".into(), amount: Money::krw(till.captured), at };
        let unknown = || PaymentOutcome::Unknown { cause: "timeout".into() };
        match (&request.operation, mood) {
            (_, Mood::NotSent) => PaymentOutcome::NotSent { cause: "late".into() },
            (PaymentOperation::Confirm { .. } | PaymentOperation::Lookup { .. }, _) if till.captured > 0 => {
                captured(till)
            }
            (PaymentOperation::Confirm { amount, .. }, Mood::Willing | Mood::DropsReply) => {
                assert!(!till.dead, "confirmed after a lookup had ruled it out");
                till.captured = amount.minor;
                if mood == Mood::Willing { captured(till) } else { unknown() }
            }
            (PaymentOperation::Lookup { .. }, Mood::Willing) => {
                till.dead = true;
                PaymentOutcome::NotCaptured { code: "NOT_FOUND".into() }
            }
            // Its reply may be lost in a crash, and the repeat may find the card in a better mood.
            (PaymentOperation::Confirm { .. }, Mood::RefusesForGood) => {
                PaymentOutcome::NotCaptured { code: "REJECTED".into() }
            }
            (PaymentOperation::Confirm { .. } | PaymentOperation::Lookup { .. }, Mood::RefusesForNow) => {
                PaymentOutcome::Pending
            }
            (PaymentOperation::Cancel { amount, .. }, _) => self.refund(&request.idempotency_key, amount.minor, mood),
            (_, Mood::RefusesForGood | Mood::DropsReply | Mood::DropsRequest) => unknown(),
        }
    }

    fn refund(&mut self, key: &str, amount: i64, mood: Mood) -> PaymentOutcome {
        let at = self.play.now;
        let till = &mut self.till;
        let settled = |till: &Till| PaymentOutcome::Refunded { amount: Money::krw(till.refunded), at };
        let refused = |class| PaymentOutcome::RefundRefused { code: "NO".into(), class };
        if till.refunds.contains_key(key) {
            return settled(till);
        }
        match mood {
            Mood::Willing | Mood::DropsReply => {
                till.refunds.insert(key.to_owned(), amount);
                till.refunded += amount;
                if mood == Mood::Willing { settled(till) } else { PaymentOutcome::Unknown { cause: "timeout".into() } }
            }
            Mood::RefusesForNow => refused(RefusalClass::Retry),
            Mood::RefusesForGood => refused(RefusalClass::Permanent),
            Mood::DropsRequest | Mood::NotSent => PaymentOutcome::Unknown { cause: "timeout".into() },
        }
    }

    /// A truthful report about one message that was taken: it arrived, may have, or failed.
    pub(super) fn report(&mut self, pick: usize, status: ReportStatus) {
        let fails = matches!(status, ReportStatus::Failed { .. });
        let open = |message: &&mut Message| message.taken > 0 && !message.failed;
        let count = self.messages.values().filter(|message| message.taken > 0).count();
        let mut taken = self.messages.iter_mut().filter(|(_, message)| open(message));
        let Some((reference, message)) = taken.nth(pick % count.max(1)) else {
            return;
        };
        message.failed = fails;
        let reference = reference.clone();
        let report = Report { reference, provider: "p".into(), status, at: self.play.now };
        self.ask(GiftCommand::Report(report));
    }

    /// A healthy world and time: everything has to come to its end by itself.
    pub(super) fn drain(&mut self) {
        for _ in 0..3_000 {
            if self.play.wants().terminal && self.in_flight.is_empty() {
                return;
            }
            let busy = self.answer(Mood::Willing)
                || self.fire()
                || self.start(Mood::DropsReply)
                || self.notify(Mood::Willing)
                || self.ask_others(Mood::Willing);
            if !busy {
                assert!(self.advance_to_next(), "INV-9: stuck in {}", self.play.state.status());
            }
        }
        panic!("never came to an end: {} {:?}", self.play.state.status(), self.play.wants());
    }
}

fn generation_of(reference: &str) -> Option<u16> {
    reference.split('.').nth(1)?.parse().ok()
}

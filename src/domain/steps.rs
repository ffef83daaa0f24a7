//! What sagas share that go one step after the other, an order and a reservation: the step under way, where the money is,
//! what a call that ended said, and how long what is open or refused is waited for.
//!
//! Each call has a number of its own, from which its slot and its keys follow; a try whose outcome is unknown keeps its
//! number, and so does a replay of one. Persisted as it is: fields and variants are append only.

use super::calling::{Call, CallStarted, Doubt, NOT_SENT_PAUSE, NOT_SENT_PAUSE_MAX, doubled, retry_after};
use super::wallet::{HoldRefusal, hold_refusal};
use crate::types::call::{PaymentOutcome, RefusalClass};
use crate::types::effect::{CallWant, Guard, Lane, Slot};
use crate::types::kind::AttemptStart;
use crate::types::money::{Currency, Money};
use crate::types::time::{Millis, Timestamp};
use serde::{Deserialize, Serialize};

/// What is stuck is tried once more by itself this often, so that no money and no goods are forgotten.
pub const REVIEW_AFTER: Millis = Millis::from_days(7);
/// Who replays a dead letter when no operator has.
pub const REVIEWER: &str = "review";
/// Bytes of an operator's name and reason, at most.
const ACTOR_BYTES_MAX: usize = 128;
const REASON_BYTES_MAX: usize = 2_048;
/// A refusal that may pass is tried again after this, twice as long each time, up to the maximum.
const REFUSAL_PAUSE: Millis = Millis::from_secs(1);
const REFUSAL_PAUSE_MAX: Millis = Millis::from_hours(6);
/// Refusals of a step without a deadline (about five days) until it is a dead letter.
const REFUSALS_MAX: u16 = 36;
/// Doubts of a step without a deadline (about a day) until it is a dead letter, which keeps the doubt.
const DOUBTS_MAX: u16 = 300;

/// The slot of a call: each number has its own, so that an outcome that comes late is never taken for another's.
#[must_use]
pub fn call_slot(number: u16) -> Slot {
    Slot(0x8000 | number)
}

/// Whether this may be an operator's name.
#[must_use]
pub fn is_actor(text: &str) -> bool {
    (1..=ACTOR_BYTES_MAX).contains(&text.len())
}

/// Whether this may be an operator's reason.
#[must_use]
pub fn is_reason(text: &str) -> bool {
    (1..=REASON_BYTES_MAX).contains(&text.len())
}

/// Where the money is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Paid {
    No,
    /// May have been captured; first tried then.
    Doubtful {
        since: Timestamp,
    },
    Held {
        provider: String,
        amount: Money,
    },
    /// Kept for good: the wallet's hold is spent.
    Spent {
        amount: Money,
    },
    Back {
        paid: Money,
    },
}

impl Paid {
    /// What was captured, and what of that went back.
    #[must_use]
    pub fn money(&self) -> (Money, Money) {
        let zero = Money { minor: 0, currency: Currency::KRW };
        match self {
            Self::No | Self::Doubtful { .. } => (zero, zero),
            Self::Held { amount, .. } | Self::Spent { amount } => (*amount, zero),
            Self::Back { paid } => (*paid, *paid),
        }
    }

    /// What was captured and is neither kept nor back.
    #[must_use]
    pub fn rest(&self) -> Money {
        let (paid, back) = self.money();
        paid.checked_sub(back).unwrap_or(paid)
    }
}

/// A step under way. `D`: when it is given up, for a saga whose steps have a deadline each.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Running<S, D = ()> {
    pub step: S,
    pub call: Call,
    /// Definite refusals that may pass.
    pub refusals: u16,
    pub deadline: D,
}

/// A step or a notice that was given up and waits for an operator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StepLetter {
    /// The step's name; `notice`.
    pub command: &'static str,
    pub cause: String,
    pub attempts: u16,
    pub money_held: Money,
    pub since: Timestamp,
}

impl<S: Clone, D: Clone> Running<S, D> {
    /// Wanted from `at` on, never tried.
    #[must_use]
    pub fn begin(step: S, deadline: D, at: Timestamp) -> Self {
        Self { step, call: Call::due_at(at), refusals: 0, deadline }
    }

    /// Definitely not performed: a new call, which wants a new number.
    pub fn try_again(&mut self, due: Timestamp) {
        self.refusals = self.refusals.saturating_add(1);
        self.call = Call::due_at(due);
    }

    /// As it is kept while it is stuck. With the attempt still open, its outcome was definite: a replay is a new one, under
    /// a new key.
    #[must_use]
    pub fn put_aside(&self, at: Timestamp) -> Self {
        let call = if self.call.open.is_some() { Call::due_at(at) } else { self.call.clone() };
        Self { call, ..self.clone() }
    }

    /// As it goes on, and whether it wants a new number: not while it is in doubt.
    #[must_use]
    pub fn replayed(&self, at: Timestamp) -> (Self, bool) {
        let call = Call { unknown_since: self.tried_since(), ..Call::due_at(at) };
        (Self { call, refusals: 0, ..self.clone() }, !self.call.is_in_doubt())
    }

    /// When a call that is in doubt was first tried.
    fn tried_since(&self) -> Option<Timestamp> {
        self.call.unknown_since.or(self.call.open.map(|open| open.started_at))
    }

    /// Since when what it asked for may have been done, told at `at`.
    #[must_use]
    pub fn doubtful_since(&self, at: Timestamp) -> Timestamp {
        self.tried_since().unwrap_or(self.call.due).min(at)
    }

    /// The call that it wants. `lane`: [`Lane::Entity`] is repeated freely, any other is fenced.
    #[must_use]
    pub fn wants(&self, number: u16, lane: Lane) -> CallWant {
        let guard = if lane == Lane::Entity { Guard::Repeatable } else { Guard::Fenced };
        CallWant { slot: call_slot(number), lane, due: self.call.due, guard, open: self.call.open }
    }

    /// A fenced call begins: `None` unless exactly this call is wanted, and never early.
    #[must_use]
    pub fn start(&self, number: u16, start: AttemptStart, now: Timestamp) -> Option<CallStarted> {
        let early = self.call.open.is_none() && now < self.call.due;
        let wanted = start.slot == call_slot(number) && !early;
        wanted.then_some(CallStarted { claim: start.claim, not_after: start.not_after })
    }

    /// Whether a hint makes it wanted earlier.
    #[must_use]
    pub fn waits(&self, now: Timestamp) -> bool {
        self.call.open.is_none() && self.call.due > now
    }

    /// When a step that was refused for now is tried again.
    #[must_use]
    pub fn refused_until(&self, now: Timestamp) -> Timestamp {
        now + doubled(REFUSAL_PAUSE, self.refusals, REFUSAL_PAUSE_MAX)
    }

    #[must_use]
    pub fn is_refused_too_often(&self) -> bool {
        self.refusals >= REFUSALS_MAX
    }

    /// When a step in doubt is asked for again. Another entity answers a repeat from its state, so it is asked soon.
    #[must_use]
    pub fn doubted_until(&self, doubt: &Doubt, asks_entity: bool, now: Timestamp) -> Timestamp {
        let pause = doubled(NOT_SENT_PAUSE, self.call.doubts, NOT_SENT_PAUSE_MAX);
        if asks_entity { now + pause } else { retry_after(&self.call, doubt, now) }
    }

    #[must_use]
    pub fn is_doubted_too_often(&self) -> bool {
        self.call.doubts >= DOUBTS_MAX
    }

    /// Its dead letter, since it is stuck.
    #[must_use]
    pub fn letter(&self, command: &'static str, cause: &str, paid: &Paid, since: Timestamp) -> StepLetter {
        let attempts = self.refusals.saturating_add(1);
        StepLetter { command, cause: cause.to_owned(), attempts, money_held: paid.rest(), since }
    }
}

/// What a call that ended said, in the facts of a saga.
pub enum Said<F> {
    Done(F),
    /// Done, but not as it was asked for, or after the provider's own undoing.
    DoneAnd(Vec<F>),
    /// Definitely not done, and may be on another try.
    NotNow {
        code: String,
    },
    /// Definitely not done, and never will be.
    Never {
        code: String,
    },
    Open(Doubt),
}

impl<F> Said<F> {
    /// The outcome of another call than the one under way.
    #[must_use]
    pub fn of_another_call() -> Self {
        Self::Open(Doubt::Unknown { cause: "another call's outcome".to_owned() })
    }

    /// By the wallet that was asked to hold, to keep or to give back.
    #[must_use]
    pub fn by_wallet(rejection: &[u8]) -> Self {
        match hold_refusal(rejection) {
            HoldRefusal::ForNow { code } => Self::NotNow { code: code.to_owned() },
            HoldRefusal::ForGood { code } => Self::Never { code: code.to_owned() },
        }
    }

    /// By the payment provider that was asked to give back what was `paid`.
    #[must_use]
    pub fn by_refund(paid: Money, outcome: PaymentOutcome, refunded: impl FnOnce(Money) -> F) -> Self {
        match outcome {
            PaymentOutcome::Refunded { amount, .. } if amount.minor >= paid.minor => Self::Done(refunded(amount)),
            PaymentOutcome::Refunded { .. } => Self::NotNow { code: "partly_refunded".to_owned() },
            PaymentOutcome::RefundRefused { code, class: RefusalClass::Retry } => Self::NotNow { code },
            PaymentOutcome::RefundRefused { code, class: RefusalClass::NextChannel | RefusalClass::Permanent }
            | PaymentOutcome::NotCaptured { code } => Self::Never { code },
            PaymentOutcome::Captured { .. } | PaymentOutcome::Pending => Self::Open(Doubt::Pending),
            PaymentOutcome::Unknown { cause } => Self::Open(Doubt::Unknown { cause }),
            PaymentOutcome::NotSent { .. } => Self::Open(Doubt::NotSent),
        }
    }
}

/// What the payment provider said that was asked to capture, or whether it had.
pub enum CaptureAnswer {
    Captured {
        provider: String,
        amount: Money,
    },
    /// Captured and given back behind our back.
    GivenBack {
        amount: Money,
    },
    NotCaptured {
        code: String,
    },
    Open(Doubt),
}

impl From<PaymentOutcome> for CaptureAnswer {
    fn from(outcome: PaymentOutcome) -> Self {
        match outcome {
            PaymentOutcome::Captured { provider, amount, .. } => Self::Captured { provider, amount },
            PaymentOutcome::Refunded { amount, .. } => Self::GivenBack { amount },
            PaymentOutcome::NotCaptured { code } => Self::NotCaptured { code },
            PaymentOutcome::Pending => Self::Open(Doubt::Pending),
            PaymentOutcome::Unknown { cause } | PaymentOutcome::RefundRefused { code: cause, .. } => {
                Self::Open(Doubt::Unknown { cause })
            }
            PaymentOutcome::NotSent { .. } => Self::Open(Doubt::NotSent),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::codec;
    use crate::types::effect::OpenAttempt;
    use crate::types::ids::Claim;

    fn open(started_at: Timestamp) -> OpenAttempt {
        OpenAttempt { claim: Claim::default(), started_at, not_after: Millis(1) }
    }

    #[test]
    fn a_step_without_a_deadline_has_no_byte_for_one() {
        let running: Running<u8> = Running::begin(7, (), Timestamp(1));
        assert_eq!(hex::encode(codec::encode(&running)), "0702000000".to_owned() + "00");
        let timed = Running { deadline: Some(Timestamp(2)), ..Running::begin(7u8, None, Timestamp(1)) };
        assert_eq!(hex::encode(codec::encode(&timed)), "070200000000".to_owned() + "0104");
        assert_eq!(codec::decode::<Running<u8>>(&codec::encode(&running)).unwrap(), running);
    }

    #[test]
    fn a_replay_keeps_its_number_only_while_it_is_in_doubt() {
        let mut running: Running<u8> = Running::begin(7, (), Timestamp(5));
        assert!(running.replayed(Timestamp(9)).1, "never tried");
        running.call.open = Some(open(Timestamp(6)));
        let (again, renumbered) = running.replayed(Timestamp(9));
        assert_eq!((again.call.unknown_since, again.call.due, renumbered), (Some(Timestamp(6)), Timestamp(9), false));
        assert!(running.put_aside(Timestamp(8)).replayed(Timestamp(9)).1, "its outcome was definite");
        assert_eq!(
            (running.doubtful_since(Timestamp(9)), running.doubtful_since(Timestamp(3))),
            (Timestamp(6), Timestamp(3))
        );
    }

    #[test]
    fn a_call_is_started_when_it_is_wanted_and_not_before() {
        let running: Running<u8> = Running::begin(7, (), Timestamp(5));
        let start = |slot| AttemptStart { slot, claim: Claim::default(), not_after: Millis(1) };
        let starts = |slot, now| running.start(3, start(slot), Timestamp(now)).is_some();
        assert!(starts(call_slot(3), 5) && !starts(call_slot(3), 4) && !starts(call_slot(2), 5));
        assert_eq!((running.waits(Timestamp(4)), running.waits(Timestamp(5))), (true, false));
        assert_eq!(running.wants(3, Lane::Entity).guard, Guard::Repeatable);
        assert_eq!(running.wants(3, Lane::Payment).guard, Guard::Fenced);
    }
}

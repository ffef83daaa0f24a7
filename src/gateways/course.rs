//! The course of one call, sans I/O: whether it is sent or looked up first, what follows the answer, and what the entity
//! may conclude. [`crate::gateways::perform`] drives it with real clients, the simulator with providers in memory.
//!
//! | earlier try | the provider has | done | outcome |
//! |---|---|---|---|
//! | none | | send | the provider's; `Unknown` is final as `Unconfirmed` with neither key nor lookup |
//! | unknown | a lookup: found | nothing | `Accepted` with the found receipt |
//! | unknown | a lookup: absent | send the same bytes under the same key | the provider's; `Unknown` when turned away |
//! | unknown | a lookup that fails | nothing | `Unknown` |
//! | unknown | only a key, still in its window | send the same bytes under the same key | accepted, or `Unknown` |
//! | unknown | neither, or the window is over | nothing | `Unconfirmed` |
//! | perhaps | a lookup, or a key | as unknown | as unknown |
//! | perhaps | neither, or the window is over | send: it is one that is sent at least once | the provider's |
//!
//! A refusal of a repeat that no lookup preceded is `Unknown`: it says that the repeat was not performed, not that the
//! first try was not, and a definite refusal would let the entity try anew under another key. So is, while the key is
//! known, a refusal at the door (not reached, throttled, failed) of one that was looked up and is absent: the first try
//! may have been on its way and come yet, and only that key makes nothing of it.
//!
//! Payments are looked up by order id through the provider's own `Lookup` operation, then repeated under their key;
//! shipments by their reference.

use crate::gateways::policy::Health;
use crate::gateways::policy::concurrency::Micros;
use crate::gateways::verdict;
use crate::providers::{Ability, LookupAnswer};
use crate::types::call::{
    MessageOutcome, NOT_BEGUN, PaymentOperation, PaymentOutcome, PaymentRequest, Prior, RefusalClass,
    ShipmentOperation, ShipmentOutcome, ShipmentRequest,
};
use crate::types::limits::{CALL_DEADLINE, CLOCK_UNCERTAINTY};
use crate::types::time::Timestamp;

/// A call's end.
#[derive(Debug)]
pub(crate) struct Ended<O> {
    pub outcome: O,
    pub health: Health,
}

/// Why the client gave no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cut {
    /// `not_after` had passed: it never ran.
    NotBegun,
    Late,
    Panicked,
}

impl Cut {
    pub(crate) fn cause(self) -> String {
        match self {
            Self::NotBegun => NOT_BEGUN,
            Self::Late => "no reply within the call's deadline",
            Self::Panicked => "the provider's client panicked",
        }
        .to_owned()
    }

    pub(crate) fn health(self) -> Health {
        match self {
            Self::NotBegun => Health::Void,
            Self::Late | Self::Panicked => Health::Overloaded,
        }
    }
}

/// What a message's call does next.
#[derive(Debug)]
pub(crate) enum Turn {
    Send,
    LookUp,
    End(Ended<MessageOutcome>),
}

/// One message's call.
#[derive(Clone, Copy, Debug)]
pub(crate) struct MessageCourse {
    provider: &'static str,
    ability: Ability,
    /// It repeats a try whose outcome is unknown, and nothing was found out about that one.
    blind_repeat: bool,
    /// It repeats such a try while the key would make nothing of one that comes late.
    under_key: bool,
}

impl MessageCourse {
    /// Begins a call whose earlier try is `prior`.
    pub(crate) fn begin(provider: &'static str, ability: Ability, prior: Prior, now: Timestamp) -> (Self, Turn) {
        let mut course = Self { provider, ability, blind_repeat: false, under_key: false };
        let turn = match prior {
            Prior::Unknown { first_tried_at: since } if ability.lookup => {
                course.under_key = key_holds(ability, since, now);
                Turn::LookUp
            }
            Prior::None => Turn::Send,
            Prior::Perhaps { .. } if ability.lookup => Turn::LookUp,
            Prior::Unknown { first_tried_at: since } | Prior::Perhaps { since } if key_holds(ability, since, now) => {
                course.blind_repeat = true;
                Turn::Send
            }
            Prior::Perhaps { .. } => Turn::Send,
            Prior::Unknown { .. } => Turn::End(Ended { outcome: course.unconfirmed(now), health: Health::Void }),
        };
        (course, turn)
    }

    /// The lookup's answer.
    pub(crate) fn looked_up(&self, answer: Result<LookupAnswer, Cut>) -> Turn {
        let (outcome, health) = match answer {
            Ok(LookupAnswer::Absent) => return Turn::Send,
            Ok(LookupAnswer::Found { receipt, at }) => (
                MessageOutcome::Accepted { provider: self.provider.to_owned(), receipt, at },
                Health::Good { latency: None },
            ),
            Ok(LookupAnswer::Unknown { cause }) => (MessageOutcome::Unknown { cause }, Health::Overloaded),
            Err(cut) => cut_short(cut),
        };
        Turn::End(Ended { outcome, health })
    }

    /// The send's answer, after `latency`.
    pub(crate) fn sent(
        &self,
        answer: Result<Vec<MessageOutcome>, Cut>,
        latency: Micros,
        now: Timestamp,
    ) -> Ended<MessageOutcome> {
        let (outcome, health) = match answer {
            Ok(mut outcomes) => {
                let outcome = match outcomes.pop() {
                    Some(outcome) if outcomes.is_empty() => outcome,
                    Some(_) | None => MessageOutcome::Unknown { cause: "not one outcome for one message".to_owned() },
                };
                let health = verdict::of_message(&outcome, latency);
                (outcome, health)
            }
            Err(cut) => cut_short(cut),
        };
        let outcome = match outcome {
            MessageOutcome::Unknown { .. } if self.ability.key_window.is_none() && !self.ability.lookup => {
                self.unconfirmed(now)
            }
            MessageOutcome::Refused { code, class } => self.refused(verdict::split_code(&code).0, class, health),
            other @ (MessageOutcome::Accepted { .. }
            | MessageOutcome::Unknown { .. }
            | MessageOutcome::Unconfirmed { .. }
            | MessageOutcome::NotSent { .. }) => other,
        };
        Ended { outcome, health }
    }

    fn refused(&self, code: &str, class: RefusalClass, health: Health) -> MessageOutcome {
        let was_looked_at = matches!(health, Health::Good { .. });
        if self.blind_repeat || (self.under_key && !was_looked_at) {
            return MessageOutcome::Unknown { cause: format!("the repeat was refused: {code}") };
        }
        MessageOutcome::Refused { code: code.to_owned(), class }
    }

    fn unconfirmed(&self, at: Timestamp) -> MessageOutcome {
        MessageOutcome::Unconfirmed { provider: self.provider.to_owned(), at }
    }
}

fn cut_short(cut: Cut) -> (MessageOutcome, Health) {
    let cause = cut.cause();
    match cut {
        Cut::NotBegun => (MessageOutcome::NotSent { cause }, cut.health()),
        Cut::Late | Cut::Panicked => (MessageOutcome::Unknown { cause }, cut.health()),
    }
}

/// Whether a repeat under the same key has no second effect even if it arrives as late as it can.
fn key_holds(ability: Ability, first_tried_at: Timestamp, now: Timestamp) -> bool {
    let Some(window) = ability.key_window else { return false };
    now + CALL_DEADLINE + CLOCK_UNCERTAINTY < first_tried_at + window
}

/// What a payment's call does next.
#[derive(Debug)]
pub(crate) enum PaymentTurn {
    Call(PaymentRequest),
    End(Ended<PaymentOutcome>),
}

/// One payment's call.
#[derive(Debug)]
pub(crate) struct PaymentCourse {
    request: PaymentRequest,
    looking_up: bool,
}

impl PaymentCourse {
    /// Begins a call: what has an earlier try with an unknown outcome is looked up first.
    pub(crate) fn begin(request: &PaymentRequest) -> (Self, PaymentRequest) {
        let payment_key = match (&request.prior, &request.operation) {
            (Prior::None, _) | (Prior::Unknown { .. } | Prior::Perhaps { .. }, PaymentOperation::Lookup { .. }) => None,
            (
                Prior::Unknown { .. } | Prior::Perhaps { .. },
                PaymentOperation::Confirm { payment_key, .. } | PaymentOperation::Cancel { payment_key, .. },
            ) => Some(payment_key.clone()),
        };
        let course = Self { request: request.clone(), looking_up: payment_key.is_some() };
        let first = match payment_key {
            Some(payment_key) => {
                PaymentRequest { operation: PaymentOperation::Lookup { payment_key }, ..request.clone() }
            }
            None => request.clone(),
        };
        (course, first)
    }

    /// The answer to the last call, after `latency`.
    pub(crate) fn answered(&mut self, answer: Result<PaymentOutcome, Cut>, latency: Micros) -> PaymentTurn {
        let (outcome, health) = match answer {
            Ok(outcome) => {
                let health = verdict::of_payment(&outcome, latency);
                (bare_code(outcome), health)
            }
            Err(cut @ Cut::NotBegun) => (PaymentOutcome::NotSent { cause: cut.cause() }, cut.health()),
            Err(cut @ (Cut::Late | Cut::Panicked)) => (PaymentOutcome::Unknown { cause: cut.cause() }, cut.health()),
        };
        if std::mem::take(&mut self.looking_up) && !settles(&self.request.operation, &outcome) {
            return PaymentTurn::Call(self.request.clone());
        }
        PaymentTurn::End(Ended { outcome, health })
    }
}

/// Whether a payment's call does anything at the provider.
pub(crate) fn has_effect(request: &PaymentRequest) -> bool {
    !matches!(request.operation, PaymentOperation::Lookup { .. })
}

/// Whether what a lookup found is the outcome of `operation`; if not, the operation is repeated under its key.
fn settles(operation: &PaymentOperation, found: &PaymentOutcome) -> bool {
    match (operation, found) {
        (_, PaymentOutcome::Unknown { .. } | PaymentOutcome::NotSent { .. }) => true,
        (PaymentOperation::Cancel { amount, .. }, PaymentOutcome::Refunded { amount: given_back, .. }) => {
            given_back.currency == amount.currency && given_back.minor >= amount.minor
        }
        (
            PaymentOperation::Cancel { .. },
            PaymentOutcome::Captured { .. }
            | PaymentOutcome::NotCaptured { .. }
            | PaymentOutcome::Pending
            | PaymentOutcome::RefundRefused { .. },
        ) => false,
        (PaymentOperation::Confirm { .. }, PaymentOutcome::Pending | PaymentOutcome::RefundRefused { .. }) => false,
        (
            PaymentOperation::Confirm { .. },
            PaymentOutcome::Captured { .. } | PaymentOutcome::NotCaptured { .. } | PaymentOutcome::Refunded { .. },
        )
        | (PaymentOperation::Lookup { .. }, _) => true,
    }
}

/// What a shipment's call does next.
#[derive(Debug)]
pub(crate) enum ShipmentTurn {
    Call(ShipmentRequest),
    End(Ended<ShipmentOutcome>),
}

/// One shipment's call.
#[derive(Debug)]
pub(crate) struct ShipmentCourse {
    request: ShipmentRequest,
    looking_up: bool,
}

impl ShipmentCourse {
    /// Begins a call: what has an earlier try with an unknown outcome is looked up first.
    pub(crate) fn begin(request: &ShipmentRequest) -> (Self, ShipmentRequest) {
        let is_lookup = matches!(request.operation, ShipmentOperation::Lookup);
        let looking_up = request.prior != Prior::None && !is_lookup;
        let mut first = request.clone();
        if looking_up {
            first.operation = ShipmentOperation::Lookup;
        }
        (Self { request: request.clone(), looking_up }, first)
    }

    /// The answer to the last call, after `latency`.
    pub(crate) fn answered(&mut self, answer: Result<ShipmentOutcome, Cut>, latency: Micros) -> ShipmentTurn {
        let (outcome, health) = match answer {
            Ok(outcome) => {
                let health = verdict::of_shipment(&outcome, latency);
                (bare_shipment(outcome), health)
            }
            Err(cut @ Cut::NotBegun) => (ShipmentOutcome::NotSent { cause: cut.cause() }, cut.health()),
            Err(cut @ (Cut::Late | Cut::Panicked)) => (ShipmentOutcome::Unknown { cause: cut.cause() }, cut.health()),
        };
        if std::mem::take(&mut self.looking_up) && !is_answer_to(&self.request.operation, &outcome) {
            return ShipmentTurn::Call(self.request.clone());
        }
        ShipmentTurn::End(Ended { outcome, health })
    }
}

/// Whether what a lookup found is the outcome of `operation`; if not, the operation is repeated under its key.
fn is_answer_to(operation: &ShipmentOperation, found: &ShipmentOutcome) -> bool {
    match (operation, found) {
        (_, ShipmentOutcome::Unknown { .. } | ShipmentOutcome::NotSent { .. }) => true,
        (ShipmentOperation::Lookup, _) => true,
        (ShipmentOperation::Prepare { .. }, ShipmentOutcome::Prepared { .. } | ShipmentOutcome::Cancelled { .. }) => {
            true
        }
        (ShipmentOperation::Cancel { .. }, ShipmentOutcome::Cancelled { .. }) => true,
        (ShipmentOperation::Cancel { .. }, ShipmentOutcome::Prepared { .. })
        | (
            ShipmentOperation::Prepare { .. } | ShipmentOperation::Cancel { .. },
            ShipmentOutcome::Absent | ShipmentOutcome::Refused { .. },
        ) => false,
    }
}

fn bare_shipment(outcome: ShipmentOutcome) -> ShipmentOutcome {
    match outcome {
        ShipmentOutcome::Refused { code, class } => {
            ShipmentOutcome::Refused { code: verdict::split_code(&code).0.to_owned(), class }
        }
        other @ (ShipmentOutcome::Prepared { .. }
        | ShipmentOutcome::Cancelled { .. }
        | ShipmentOutcome::Absent
        | ShipmentOutcome::Unknown { .. }
        | ShipmentOutcome::NotSent { .. }) => other,
    }
}

fn bare_code(outcome: PaymentOutcome) -> PaymentOutcome {
    match outcome {
        PaymentOutcome::RefundRefused { code, class } => {
            PaymentOutcome::RefundRefused { code: verdict::split_code(&code).0.to_owned(), class }
        }
        other @ (PaymentOutcome::Captured { .. }
        | PaymentOutcome::NotCaptured { .. }
        | PaymentOutcome::Pending
        | PaymentOutcome::Refunded { .. }
        | PaymentOutcome::Unknown { .. }
        | PaymentOutcome::NotSent { .. }) => other,
    }
}

/// The answer to a message without a call: the provider is away, or the channel has no provider. What is unknown about
/// an earlier try stays unknown.
pub(crate) fn refuse_message(prior: Prior, code: &str, class: RefusalClass) -> MessageOutcome {
    match prior {
        Prior::None | Prior::Perhaps { .. } => MessageOutcome::Refused { code: code.to_owned(), class },
        Prior::Unknown { .. } => MessageOutcome::NotSent { cause: code.to_owned() },
    }
}

//! What an outcome of the call under way leads to.
//!
//! A definite success is the step's fact. A definite refusal that may pass is tried again under a new number: a payment
//! until the seats' time is over, anything else until [`REFUSALS_MAX`]. A definite refusal of the payment, or of the seats,
//! ends the reservation; of a refund it is a dead letter. Whatever is open is asked for again under the same number.

use super::command::{End, ReservationFact, Step};
use super::request::is_entity_call;
use super::state::{Booked, Running};
use crate::domain::calling::{Doubt, NOT_SENT_PAUSE, NOT_SENT_PAUSE_MAX, doubled, retry_after};
use crate::domain::order::Paid;
use crate::domain::wallet::{HoldRefusal, hold_refusal};
use crate::types::call::{CallOutcome, EntityOutcome, PaymentOutcome, RefusalClass};
use crate::types::money::Money;
use crate::types::time::{Millis, Timestamp};

/// A refusal that may pass is tried again after this, twice as long each time, up to the maximum.
const REFUSAL_PAUSE: Millis = Millis::from_secs(1);
const REFUSAL_PAUSE_MAX: Millis = Millis::from_hours(6);
/// Refusals of a step without a deadline (about five days) until it is a dead letter.
const REFUSALS_MAX: u16 = 36;
/// Doubts of a lookup or refund (about a day) until it is a dead letter, which keeps the doubt.
const DOUBTS_MAX: u16 = 300;

/// What a call that ended said.
enum Said {
    Done(Vec<ReservationFact>),
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

/// The facts of one outcome.
pub(super) fn facts(booked: &Booked, running: &Running, outcome: CallOutcome, now: Timestamp) -> Vec<ReservationFact> {
    let said = match outcome {
        CallOutcome::Payment(outcome) => said_by_payment(booked, running, outcome),
        CallOutcome::Entity(outcome) => said_by_entity(booked, running, outcome),
        CallOutcome::Message(_) | CallOutcome::Shipment(_) => return Vec::new(),
    };
    let step = running.step;
    match said {
        Said::Done(facts) => facts,
        Said::NotNow { code } if step != Step::Pay && running.refusals >= REFUSALS_MAX => {
            vec![ReservationFact::Stuck { step, code }]
        }
        Said::NotNow { code } => {
            let retry_at = now + doubled(REFUSAL_PAUSE, running.refusals, REFUSAL_PAUSE_MAX);
            vec![ReservationFact::Refused { step, code, retry_at }]
        }
        Said::Never { code } => match step {
            Step::Pay | Step::Sell => vec![ReservationFact::Ended { end: End::Failed, code, doubtful: false }],
            Step::Leave => vec![ReservationFact::Left],
            Step::Settle | Step::Release | Step::FindPayment | Step::Refund => {
                vec![ReservationFact::Stuck { step, code }]
            }
        },
        Said::Open(doubt) => {
            let pause = doubled(NOT_SENT_PAUSE, running.call.doubts, NOT_SENT_PAUSE_MAX);
            let entity = is_entity_call(booked, step);
            let retry_at = if entity { now + pause } else { retry_after(&running.call, &doubt, now) };
            let gives_up = !entity && step != Step::Pay && running.call.doubts >= DOUBTS_MAX;
            let stuck = gives_up.then_some(ReservationFact::Stuck { step, code: "outcome_unknown".to_owned() });
            [ReservationFact::Undecided { step, doubt, retry_at }].into_iter().chain(stuck).collect()
        }
    }
}

fn said_by_payment(booked: &Booked, running: &Running, outcome: PaymentOutcome) -> Said {
    match running.step {
        Step::Pay => said_by_capture(booked, running, outcome),
        Step::FindPayment => match outcome {
            PaymentOutcome::NotCaptured { code } => Said::Done(vec![ReservationFact::PaymentRuledOut { code }]),
            other => said_by_capture(booked, running, other),
        },
        Step::Refund => said_by_refund(booked, outcome),
        Step::Sell | Step::Leave | Step::Settle | Step::Release => {
            Said::Open(Doubt::Unknown { cause: "another call's outcome".to_owned() })
        }
    }
}

fn said_by_capture(booked: &Booked, running: &Running, outcome: PaymentOutcome) -> Said {
    let paid = |provider: String, amount: Money| ReservationFact::Paid { provider, amount };
    let fails = |code: &str| ReservationFact::Ended { end: End::Failed, code: code.to_owned(), doubtful: false };
    let pays = running.step == Step::Pay;
    match outcome {
        PaymentOutcome::Captured { provider, amount, .. } if pays && amount != booked.assignment.amount => {
            Said::Done(vec![paid(provider, amount), fails("amount_mismatch")])
        }
        PaymentOutcome::Captured { provider, amount, .. } => Said::Done(vec![paid(provider, amount)]),
        PaymentOutcome::NotCaptured { code } => Said::Never { code },
        // Captured and given back behind our back: both are booked, and the seats are free.
        PaymentOutcome::Refunded { amount, .. } => {
            let fails = pays.then(|| fails("cancelled_by_provider"));
            let facts = [ReservationFact::Paid { provider: String::new(), amount }].into_iter().chain(fails);
            Said::Done(facts.collect())
        }
        PaymentOutcome::Pending => Said::Open(Doubt::Pending),
        PaymentOutcome::Unknown { cause } | PaymentOutcome::RefundRefused { code: cause, .. } => {
            Said::Open(Doubt::Unknown { cause })
        }
        PaymentOutcome::NotSent { .. } => Said::Open(Doubt::NotSent),
    }
}

fn said_by_refund(booked: &Booked, outcome: PaymentOutcome) -> Said {
    let (paid, _) = booked.money();
    match outcome {
        PaymentOutcome::Refunded { amount, .. } if amount.minor >= paid.minor => {
            Said::Done(vec![ReservationFact::Refunded { amount }])
        }
        PaymentOutcome::Refunded { .. } => Said::NotNow { code: "partly_refunded".to_owned() },
        PaymentOutcome::RefundRefused { code, class: RefusalClass::Retry } => Said::NotNow { code },
        PaymentOutcome::RefundRefused { code, class: RefusalClass::NextChannel | RefusalClass::Permanent }
        | PaymentOutcome::NotCaptured { code } => Said::Never { code },
        PaymentOutcome::Captured { .. } | PaymentOutcome::Pending => Said::Open(Doubt::Pending),
        PaymentOutcome::Unknown { cause } => Said::Open(Doubt::Unknown { cause }),
        PaymentOutcome::NotSent { .. } => Said::Open(Doubt::NotSent),
    }
}

fn said_by_entity(booked: &Booked, running: &Running, outcome: EntityOutcome) -> Said {
    match outcome {
        EntityOutcome::Done { .. } => done_by_entity(booked, running),
        EntityOutcome::Unknown { cause } => Said::Open(Doubt::Unknown { cause }),
        EntityOutcome::Rejected { rejection } => match running.step {
            Step::Pay | Step::Settle | Step::Refund => match hold_refusal(&rejection) {
                HoldRefusal::ForNow { code } => Said::NotNow { code: code.to_owned() },
                HoldRefusal::ForGood { code } => Said::Never { code: code.to_owned() },
            },
            Step::Sell => Said::Never { code: "seats_lost".to_owned() },
            Step::Leave | Step::Release | Step::FindPayment => Said::Never { code: "refused".to_owned() },
        },
    }
}

fn done_by_entity(booked: &Booked, running: &Running) -> Said {
    let (paid, _) = booked.money();
    Said::Done(vec![match running.step {
        Step::Pay => ReservationFact::Paid { provider: "wallet".to_owned(), amount: booked.assignment.amount },
        Step::Sell => ReservationFact::Confirmed,
        Step::Leave => ReservationFact::Left,
        Step::Settle => ReservationFact::Settled,
        Step::Release => ReservationFact::Released,
        Step::Refund if matches!(booked.paid, Paid::Doubtful { .. }) => {
            ReservationFact::PaymentRuledOut { code: "released".to_owned() }
        }
        Step::Refund => ReservationFact::Refunded { amount: paid },
        Step::FindPayment => return Said::Open(Doubt::Unknown { cause: "another call's outcome".to_owned() }),
    }])
}

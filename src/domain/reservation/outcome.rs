//! What an outcome of the call under way leads to.
//!
//! A definite success is the step's fact. A definite refusal that may pass is tried again under a new number: a payment
//! until the seats' time is over, anything else for about five days. A definite refusal of the payment, or of the seats,
//! ends the reservation; of a refund it is a dead letter. Whatever is open is asked for again under the same number.

use super::command::{End, ReservationFact, Step};
use super::request::is_entity_call;
use super::state::{Booked, Running};
use crate::domain::calling::Doubt;
use crate::domain::steps::{self, CaptureAnswer, Paid};
use crate::types::call::{CallOutcome, EntityOutcome, PaymentOutcome};
use crate::types::money::Money;
use crate::types::time::Timestamp;

/// What a call that ended said.
type Said = steps::Said<ReservationFact>;

/// The facts of one outcome.
pub(super) fn facts(booked: &Booked, running: &Running, outcome: CallOutcome, now: Timestamp) -> Vec<ReservationFact> {
    let said = match outcome {
        CallOutcome::Payment(outcome) => said_by_payment(booked, running, outcome),
        CallOutcome::Entity(outcome) => said_by_entity(booked, running, outcome),
        CallOutcome::Message(_) | CallOutcome::Shipment(_) => return Vec::new(),
    };
    let step = running.step;
    match said {
        Said::Done(fact) => vec![fact],
        Said::DoneAnd(facts) => facts,
        Said::NotNow { code } if step != Step::Pay && running.is_refused_too_often() => {
            vec![ReservationFact::Stuck { step, code }]
        }
        Said::NotNow { code } => {
            let retry_at = running.refused_until(now);
            vec![ReservationFact::Refused { step, code, retry_at }]
        }
        Said::Never { code } => match step {
            Step::Pay | Step::Sell => {
                // A wallet may hear the refused call once more, and have the money then: it is told to let it go.
                let doubtful = step == Step::Pay && is_entity_call(booked, step);
                vec![ReservationFact::Ended { end: End::Failed, code, doubtful }]
            }
            Step::Leave => vec![ReservationFact::Left],
            Step::Settle | Step::Release | Step::FindPayment | Step::Refund => {
                vec![ReservationFact::Stuck { step, code }]
            }
        },
        Said::Open(doubt) => {
            let entity = is_entity_call(booked, step);
            let retry_at = running.doubted_until(&doubt, entity, now);
            let gives_up = !entity && step != Step::Pay && running.is_doubted_too_often();
            let stuck = gives_up.then_some(ReservationFact::Stuck { step, code: "outcome_unknown".to_owned() });
            [ReservationFact::Undecided { step, doubt, retry_at }].into_iter().chain(stuck).collect()
        }
    }
}

fn said_by_payment(booked: &Booked, running: &Running, outcome: PaymentOutcome) -> Said {
    match running.step {
        Step::Pay => said_by_capture(booked, running, outcome),
        Step::FindPayment => match outcome {
            PaymentOutcome::NotCaptured { code } => Said::Done(ReservationFact::PaymentRuledOut { code }),
            other => said_by_capture(booked, running, other),
        },
        Step::Refund => Said::by_refund(booked.money().0, outcome, |amount| ReservationFact::Refunded { amount }),
        Step::Sell | Step::Leave | Step::Settle | Step::Release => Said::of_another_call(),
    }
}

fn said_by_capture(booked: &Booked, running: &Running, outcome: PaymentOutcome) -> Said {
    let paid = |provider: String, amount: Money| ReservationFact::Paid { provider, amount };
    let fails = |code: &str| ReservationFact::Ended { end: End::Failed, code: code.to_owned(), doubtful: false };
    let pays = running.step == Step::Pay;
    match CaptureAnswer::from(outcome) {
        CaptureAnswer::Captured { provider, amount } if pays && amount != booked.assignment.amount => {
            Said::DoneAnd(vec![paid(provider, amount), fails("amount_mismatch")])
        }
        CaptureAnswer::Captured { provider, amount } => Said::Done(paid(provider, amount)),
        CaptureAnswer::NotCaptured { code } => Said::Never { code },
        // Both are booked, and the seats are free; what is not back yet is asked for.
        CaptureAnswer::GivenBack { amount } => {
            let asked = booked.assignment.amount;
            let amount = if amount.minor < asked.minor { asked } else { amount };
            let fails = pays.then(|| fails("cancelled_by_provider"));
            Said::DoneAnd(std::iter::once(paid(String::new(), amount)).chain(fails).collect())
        }
        CaptureAnswer::Open(doubt) => Said::Open(doubt),
    }
}

fn said_by_entity(booked: &Booked, running: &Running, outcome: EntityOutcome) -> Said {
    match outcome {
        EntityOutcome::Done { .. } => done_by_entity(booked, running),
        EntityOutcome::Unknown { cause } => Said::Open(Doubt::Unknown { cause }),
        EntityOutcome::Rejected { rejection } => match running.step {
            Step::Pay | Step::Settle | Step::Refund => Said::by_wallet(&rejection),
            Step::Sell => Said::Never { code: "seats_lost".to_owned() },
            Step::Leave | Step::Release | Step::FindPayment => Said::Never { code: "refused".to_owned() },
        },
    }
}

fn done_by_entity(booked: &Booked, running: &Running) -> Said {
    let (paid, _) = booked.money();
    Said::Done(match running.step {
        Step::Pay => ReservationFact::Paid { provider: "wallet".to_owned(), amount: booked.assignment.amount },
        Step::Sell => ReservationFact::Confirmed,
        Step::Leave => ReservationFact::Left,
        Step::Settle => ReservationFact::Settled,
        Step::Release => ReservationFact::Released,
        Step::Refund if matches!(booked.paid, Paid::Doubtful { .. }) => {
            ReservationFact::PaymentRuledOut { code: "released".to_owned() }
        }
        Step::Refund => ReservationFact::Refunded { amount: paid },
        Step::FindPayment => return Said::of_another_call(),
    })
}

//! What an outcome of the call under way leads to.
//!
//! A definite success is the step's fact. A definite refusal that may pass is tried again under a new number, until the
//! step's deadline or, in compensation, for about five days. A definite refusal of a forward step turns back; of any other
//! step it is a dead letter. Whatever is open is asked for again under the same number.

use super::command::{OrderFact, Step};
use super::decide::{CANCELLED, turn_back};
use super::state::{Placed, Running};
use crate::domain::calling::Doubt;
use crate::domain::holds::HoldFault;
use crate::domain::inventory::StockRejection;
use crate::domain::steps::{self, CaptureAnswer, Paid};
use crate::domain::tender::{self, UseAnswer};
use crate::types::call::{CallOutcome, EntityOutcome, PaymentOutcome, RefusalClass, ShipmentOutcome};
use crate::types::codec;
use crate::types::money::Money;
use crate::types::time::Timestamp;

/// Refusals of a stock whose holders are too many, until the order gives up.
const BUSY_MAX: u16 = 8;
/// What a call that ended said, in the words of the saga.
type Said = steps::Said<OrderFact>;

/// The facts of one outcome.
pub(super) fn facts(order: &Placed, running: &Running, outcome: CallOutcome, now: Timestamp) -> Vec<OrderFact> {
    let said = match outcome {
        CallOutcome::Payment(outcome) => said_by_payment(order, running, outcome),
        CallOutcome::Shipment(outcome) => said_by_shipping(running, outcome),
        CallOutcome::Entity(outcome) => said_by_entity(order, running, outcome),
        CallOutcome::Message(_) => return Vec::new(),
    };
    conclude(order, running, said, now)
}

fn conclude(order: &Placed, running: &Running, said: Said, now: Timestamp) -> Vec<OrderFact> {
    let step = running.step;
    let said = match said {
        // It says nothing of the try before, whose goods may be prepared: that one's number and doubt stay.
        Said::NotNow { .. } if is_shipment(step) && running.call.unknown_since.is_some() => Said::Open(Doubt::NotSent),
        said => said,
    };
    let forward = running.deadline.is_some();
    let cancels = forward && order.cancel_requested;
    match said {
        Said::Done(fact) if cancels => vec![fact, turn_back(running, CANCELLED, false)],
        Said::Done(fact) => vec![fact],
        Said::DoneAnd(facts) => facts,
        Said::NotNow { .. } if cancels => vec![turn_back(running, CANCELLED, false)],
        Said::NotNow { code } if !forward && running.is_refused_too_often() => vec![OrderFact::Stuck { step, code }],
        Said::NotNow { code } => {
            let retry_at = running.refused_until(now);
            vec![OrderFact::Refused { step, code, retry_at }]
        }
        Said::Never { code } if forward => {
            let code = if cancels { CANCELLED } else { code.as_str() };
            // Another entity may hear the refused call once more, and think better of it then: it is told to keep it out.
            vec![turn_back(running, code, super::request::is_entity_call(order, step))]
        }
        Said::Never { code } => vec![OrderFact::Stuck { step, code }],
        Said::Open(Doubt::NotSent) if cancels && running.call.unknown_since.is_none() => {
            vec![turn_back(running, CANCELLED, false)]
        }
        Said::Open(doubt) => {
            let retry_at = running.doubted_until(&doubt, super::request::is_entity_call(order, step), now);
            let mut facts = vec![OrderFact::Undecided { step, doubt, retry_at }];
            if !forward && running.is_doubted_too_often() {
                facts.push(OrderFact::Stuck { step, code: "outcome_unknown".to_owned() });
            }
            facts
        }
    }
}

fn is_shipment(step: Step) -> bool {
    matches!(step, Step::Ship | Step::Unship)
}

fn said_by_payment(order: &Placed, running: &Running, outcome: PaymentOutcome) -> Said {
    match running.step {
        Step::Pay => said_by_capture(order, running, outcome),
        Step::FindPayment => match outcome {
            PaymentOutcome::NotCaptured { code } => Said::Done(OrderFact::PaymentRuledOut { code }),
            other => said_by_capture(order, running, other),
        },
        Step::Refund => Said::by_refund(order.money().0, outcome, |amount| OrderFact::Refunded { amount }),
        Step::Reserve(_)
        | Step::Ship
        | Step::Confirm(_)
        | Step::Settle
        | Step::Unship
        | Step::Release(_)
        | Step::UseCoupon
        | Step::GiveCoupon => Said::of_another_call(),
    }
}

fn said_by_capture(order: &Placed, running: &Running, outcome: PaymentOutcome) -> Said {
    let paid = |provider: String, amount: Money| OrderFact::Paid { provider, amount };
    match CaptureAnswer::from(outcome) {
        CaptureAnswer::Captured { provider, amount } if running.step == Step::Pay && amount != order.amount => {
            Said::DoneAnd(vec![paid(provider, amount), turn_back(running, "amount_mismatch", false)])
        }
        CaptureAnswer::Captured { provider, amount } => Said::Done(paid(provider, amount)),
        CaptureAnswer::NotCaptured { code } => Said::Never { code },
        // Both are booked; what is not back yet is asked for by the compensation.
        CaptureAnswer::GivenBack { amount } => {
            let whole = amount.minor >= order.amount.minor;
            let mut facts = vec![paid(String::new(), if whole { amount } else { order.amount })];
            if running.step == Step::Pay {
                facts.push(turn_back(running, "cancelled_by_provider", false));
            }
            facts.extend(whole.then_some(OrderFact::Refunded { amount }));
            Said::DoneAnd(facts)
        }
        CaptureAnswer::Open(doubt) => Said::Open(doubt),
    }
}

fn said_by_shipping(running: &Running, outcome: ShipmentOutcome) -> Said {
    let unships = running.step == Step::Unship;
    match outcome {
        ShipmentOutcome::Prepared { provider, tracking, at } if !unships => {
            Said::Done(OrderFact::Shipped { provider, tracking, prepared_at: at })
        }
        ShipmentOutcome::Cancelled { .. } if unships => Said::Done(OrderFact::Unshipped),
        // Taken back at the provider, not by us: it cannot be prepared any more.
        ShipmentOutcome::Cancelled { .. } => Said::Never { code: "shipment_cancelled".to_owned() },
        ShipmentOutcome::Prepared { .. } | ShipmentOutcome::Absent => Said::Open(Doubt::Pending),
        ShipmentOutcome::Refused { code, class: RefusalClass::Retry } => Said::NotNow { code },
        ShipmentOutcome::Refused { code, class: RefusalClass::NextChannel | RefusalClass::Permanent } => {
            Said::Never { code }
        }
        ShipmentOutcome::Unknown { cause } => Said::Open(Doubt::Unknown { cause }),
        ShipmentOutcome::NotSent { .. } => Said::Open(Doubt::NotSent),
    }
}

/// Whatever the coupon refuses to give back, there is nothing of it to be had back.
fn said_by_coupon(step: Step, outcome: &EntityOutcome) -> Option<Said> {
    let open = || Said::Open(Doubt::Unknown { cause: "no answer".to_owned() });
    match step {
        Step::UseCoupon => Some(match UseAnswer::of(outcome) {
            UseAnswer::Used => Said::Done(OrderFact::CouponUsed),
            UseAnswer::Refused { code } => Said::Never { code: code.to_owned() },
            UseAnswer::Open => open(),
        }),
        Step::GiveCoupon if tender::is_returned(outcome) => Some(Said::Done(OrderFact::CouponReturned)),
        Step::GiveCoupon => Some(open()),
        Step::Pay
        | Step::Reserve(_)
        | Step::Ship
        | Step::Confirm(_)
        | Step::Settle
        | Step::Unship
        | Step::Release(_)
        | Step::FindPayment
        | Step::Refund => None,
    }
}

fn said_by_entity(order: &Placed, running: &Running, outcome: EntityOutcome) -> Said {
    if let Some(said) = said_by_coupon(running.step, &outcome) {
        return said;
    }
    match outcome {
        EntityOutcome::Done { .. } => done_by_entity(order, running),
        EntityOutcome::Unknown { cause } => Said::Open(Doubt::Unknown { cause }),
        EntityOutcome::Rejected { rejection } => match running.step {
            Step::Pay | Step::Settle | Step::Refund => Said::by_wallet(&rejection),
            Step::Reserve(_) | Step::Confirm(_) | Step::Release(_) => refused_by_stock(running, &rejection),
            Step::Ship | Step::Unship | Step::FindPayment | Step::UseCoupon | Step::GiveCoupon => {
                Said::Never { code: "refused".to_owned() }
            }
        },
    }
}

fn done_by_entity(order: &Placed, running: &Running) -> Said {
    let of_line = |line: u8| order.line(line).map(|line| (line.sku.clone(), line.quantity)).unwrap_or_default();
    let (paid, _) = order.money();
    Said::Done(match running.step {
        Step::Pay => OrderFact::Paid { provider: "wallet".to_owned(), amount: order.amount },
        Step::Reserve(line) => {
            let (sku, quantity) = of_line(line);
            OrderFact::Reserved { line, sku, quantity }
        }
        Step::Confirm(line) => {
            let (sku, quantity) = of_line(line);
            OrderFact::Confirmed { line, sku, quantity }
        }
        Step::Release(line) => {
            let (sku, quantity) = of_line(line);
            OrderFact::Released { line, sku, quantity }
        }
        Step::Settle => OrderFact::Settled,
        Step::Refund if matches!(order.paid, Paid::Doubtful { .. }) => {
            OrderFact::PaymentRuledOut { code: "released".to_owned() }
        }
        Step::Refund => OrderFact::Refunded { amount: paid },
        Step::Ship | Step::Unship | Step::FindPayment | Step::UseCoupon | Step::GiveCoupon => {
            return Said::of_another_call();
        }
    })
}

fn refused_by_stock(running: &Running, rejection: &[u8]) -> Said {
    match codec::decode::<StockRejection>(rejection) {
        Ok(StockRejection::OutOfStock { .. }) => Said::Never { code: "out_of_stock".to_owned() },
        Ok(StockRejection::NotFound) => Said::Never { code: "unknown_sku".to_owned() },
        Ok(StockRejection::Hold(HoldFault::Stale)) => Said::NotNow { code: "stale".to_owned() },
        Ok(StockRejection::Hold(HoldFault::Full)) => {
            let code = "out_of_stock_busy".to_owned();
            if running.refusals >= BUSY_MAX { Said::Never { code } } else { Said::NotNow { code } }
        }
        Ok(
            StockRejection::WrongSku
            | StockRejection::BadQuantity
            | StockRejection::BadPrice
            | StockRejection::BelowHeld { .. }
            | StockRejection::Hold(HoldFault::NotAnAmount | HoldFault::Closed | HoldFault::Conflict)
            | StockRejection::NotWanted,
        )
        | Err(_) => Said::Never { code: "inventory_refused".to_owned() },
    }
}

//! `decide`: what a command leads to. Returns facts, sends nothing, changes nothing.

use super::command::{
    LINES_MAX, Method, NewOrder, OrderCommand, OrderEvent, OrderFact, OrderRejection, QUANTITY_MAX, Step,
};
use super::evolve::{amount_of, evolve};
use super::outcome;
use super::request::{self, DEADLINE, RETENTION_TIMER, REVIEW};
use super::state::{OrderState, Phase, Placed, Running};
use crate::domain::entity::Decision;
use crate::domain::inventory::SKU_BYTES_MAX;
use crate::domain::notices::NoticeResult;
use crate::domain::policy::RETENTION;
use crate::domain::steps::{self, REVIEW_AFTER, REVIEWER};
use crate::domain::tender::CouponTerms;
use crate::types::call::CallOutcome;
use crate::types::effect::Slot;
use crate::types::kind::AttemptStart;
use crate::types::record::Erasure;
use crate::types::time::Timestamp;
use std::collections::BTreeSet;

/// Facts to be recorded, none when all is as the command wants it.
type Facts = Result<Vec<OrderFact>, OrderRejection>;

/// Code of an order that its owner cancelled.
pub(super) const CANCELLED: &str = "cancelled";

/// Decides one command.
pub(super) fn decide(
    state: &OrderState,
    command: OrderCommand,
    now: Timestamp,
) -> Result<Decision<OrderEvent>, OrderRejection> {
    let facts = match (state.order.as_deref(), command) {
        (None, OrderCommand::Create(new)) => create(*new, None)?,
        (None, OrderCommand::CreateWith(new, coupon)) => create(*new, Some(coupon))?,
        (None, OrderCommand::CreateTelling(new, coupon, contacts)) => {
            let mut facts = create(*new, coupon)?;
            facts.push(OrderFact::TellsBuyer { contacts });
            facts
        }
        (Some(_), OrderCommand::Create(_) | OrderCommand::CreateWith(..) | OrderCommand::CreateTelling(..)) => {
            return Err(OrderRejection::AlreadyExists);
        }
        (None, _) => return Err(OrderRejection::NotFound),
        (Some(order), OrderCommand::Cancel) => cancel(order)?,
        (Some(order), OrderCommand::Replay { actor }) => replay(order, actor)?,
        (Some(order), OrderCommand::Discard { actor, reason }) => discard(order, actor, reason)?,
        (Some(order), OrderCommand::Timer(slot)) => timer(order, slot, now)?,
        (Some(order), OrderCommand::Attempt(start)) => attempt(order, start, now)?,
        (Some(order), OrderCommand::Outcomes(outcomes)) => outcomes_of(order, outcomes, now),
        (Some(order), OrderCommand::Hint) => hint(order, now),
        (Some(order), OrderCommand::Erase) => erase(order)?,
        (Some(order), OrderCommand::Report(report)) => order.notice_report(&report, now),
        (Some(order), OrderCommand::ReplayNotice { actor, number }) => {
            check_actor(&actor)?;
            order.check_notice_letter(number)?;
            order.sealed.as_ref().ok_or(OrderRejection::Erased)?;
            vec![OrderFact::NoticeReplayed { number, actor }]
        }
        (Some(order), OrderCommand::DiscardNotice { actor, number, reason }) => {
            check_actor(&actor)?;
            check_reason(&reason)?;
            order.check_notice_letter(number)?;
            vec![OrderFact::NoticeDiscarded { number, actor, reason }]
        }
    };
    let erase = if facts.contains(&OrderFact::Forgotten) {
        Erasure::Journal
    } else if facts.contains(&OrderFact::Erased) {
        Erasure::PersonalData
    } else {
        Erasure::Nothing
    };
    let facts = with_end(state, facts, now);
    Ok(Decision { events: facts.into_iter().map(|fact| OrderEvent { at: now, fact }).collect(), erase })
}

/// The facts, and the one that ends the order when they leave nothing to do.
fn with_end(state: &OrderState, mut facts: Vec<OrderFact>, now: Timestamp) -> Vec<OrderFact> {
    if facts.is_empty() {
        return facts;
    }
    let mut after = state.clone();
    for fact in &facts {
        evolve(&mut after, &OrderEvent { at: now, fact: fact.clone() });
    }
    let Some(order) = after.order.as_deref().filter(|order| !order.is_terminal() && order.next_step().is_none()) else {
        return facts;
    };
    facts.push(match &order.reason {
        None => OrderFact::Completed,
        Some(reason) if reason.cancelled => OrderFact::Cancelled,
        Some(reason) => OrderFact::Failed { code: reason.code.clone() },
    });
    facts
}

fn create(new: NewOrder, coupon: Option<CouponTerms>) -> Facts {
    let lines = &new.lines;
    let skus: BTreeSet<&str> = lines.iter().map(|line| line.sku.as_str()).collect();
    let sound = lines.iter().all(|line| {
        (1..=SKU_BYTES_MAX).contains(&line.sku.len())
            && (1..=QUANTITY_MAX).contains(&line.quantity)
            && line.price.minor > 0
    });
    let amount =
        amount_of(&new).filter(|_| sound && (1..=LINES_MAX).contains(&lines.len()) && skus.len() == lines.len());
    let amount = match coupon {
        None => amount,
        Some(coupon) => amount.and_then(|price| coupon.left_of(price)),
    };
    let amount = amount.ok_or(OrderRejection::NotAcceptable)?;
    let (method, new) = (new.method, Box::new(new));
    let created = match coupon {
        None => OrderFact::Created(new),
        Some(coupon) => OrderFact::CreatedWith(new, coupon),
    };
    let asked = (!amount.is_zero()).then_some(OrderFact::PaymentRequested { method, amount });
    Ok(std::iter::once(created).chain(asked).collect())
}

/// Until the goods are prepared. While it is not known what a call did, the cancel waits for its outcome.
fn cancel(order: &Placed) -> Facts {
    let refused = || Err(OrderRejection::NotCancellable { status: order.status() });
    if let Some(reason) = &order.reason {
        return if reason.cancelled { Ok(Vec::new()) } else { refused() };
    }
    let Some(running) = order.running() else { return refused() };
    match running.step {
        Step::UseCoupon | Step::Pay | Step::Reserve(_) | Step::Ship => {}
        Step::Confirm(_)
        | Step::Settle
        | Step::Unship
        | Step::Release(_)
        | Step::FindPayment
        | Step::Refund
        | Step::GiveCoupon => return refused(),
    }
    // What another entity may have done is undone whether it did it or not; its repeat comes too late.
    let asks_entity = request::is_entity_call(order, running.step);
    if !asks_entity && running.call.is_in_doubt() {
        return Ok(if order.cancel_requested { Vec::new() } else { vec![OrderFact::CancelRequested] });
    }
    Ok(vec![OrderFact::CancelRequested, turn_back(running, CANCELLED, asks_entity)])
}

/// Compensation begins at the step under way.
pub(super) fn turn_back(running: &Running, code: &str, doubtful: bool) -> OrderFact {
    OrderFact::Compensating { step: running.step, code: code.to_owned(), cancelled: code == CANCELLED, doubtful }
}

fn replay(order: &Placed, actor: String) -> Facts {
    check_actor(&actor)?;
    match &order.phase {
        Phase::Stuck { .. } => Ok(vec![OrderFact::Replayed { actor }]),
        Phase::Running(_) | Phase::Completed | Phase::Failed | Phase::Cancelled => Err(OrderRejection::NotADeadLetter),
    }
}

fn discard(order: &Placed, actor: String, reason: String) -> Facts {
    check_actor(&actor)?;
    check_reason(&reason)?;
    match &order.phase {
        Phase::Stuck { running, .. } => Ok(vec![OrderFact::Discarded { step: running.step, actor, reason }]),
        Phase::Running(_) | Phase::Completed | Phase::Failed | Phase::Cancelled => Err(OrderRejection::NotADeadLetter),
    }
}

/// Its journal stays, and says nothing personal.
fn erase(order: &Placed) -> Facts {
    match (order.is_terminal(), &order.sealed) {
        (false, _) => Err(OrderRejection::NotDone { status: order.status() }),
        (true, None) => Ok(Vec::new()),
        (true, Some(_)) => Ok(vec![OrderFact::Erased]),
    }
}

fn check_actor(actor: &str) -> Result<(), OrderRejection> {
    if steps::is_actor(actor) { Ok(()) } else { Err(OrderRejection::BadOperator) }
}

fn check_reason(reason: &str) -> Result<(), OrderRejection> {
    if steps::is_reason(reason) { Ok(()) } else { Err(OrderRejection::BadOperator) }
}

fn timer(order: &Placed, slot: Slot, now: Timestamp) -> Facts {
    match slot {
        DEADLINE => deadline(order, now),
        RETENTION_TIMER if order.is_terminal() && order.sealed.is_some() && now >= order.updated_at + RETENTION => {
            Ok(vec![OrderFact::Forgotten])
        }
        REVIEW => match &order.phase {
            Phase::Stuck { since, .. } if now >= *since + REVIEW_AFTER => replay(order, REVIEWER.to_owned()),
            Phase::Stuck { .. } | Phase::Running(_) | Phase::Completed | Phase::Failed | Phase::Cancelled => {
                Err(OrderRejection::NotWanted)
            }
        },
        Slot(_) => Err(OrderRejection::NotWanted),
    }
}

fn deadline(order: &Placed, now: Timestamp) -> Facts {
    let late = order.running().filter(|running| running.deadline.is_some_and(|deadline| now >= deadline));
    let running = late.ok_or(OrderRejection::NotWanted)?;
    let in_doubt = request::is_entity_call(order, running.step) || running.call.is_in_doubt();
    let code = if order.cancel_requested { CANCELLED } else { timeout_code(running.step) };
    Ok(vec![turn_back(running, code, in_doubt)])
}

fn timeout_code(step: Step) -> &'static str {
    match step {
        Step::UseCoupon => "coupon_timeout",
        Step::Pay => "payment_timeout",
        Step::Reserve(_) => "inventory_timeout",
        Step::Ship => "shipping_timeout",
        // These have no deadline.
        Step::Confirm(_)
        | Step::Settle
        | Step::Unship
        | Step::Release(_)
        | Step::FindPayment
        | Step::Refund
        | Step::GiveCoupon => "timeout",
    }
}

/// A fenced call begins: refused unless the state wants exactly this call, and never early.
fn attempt(order: &Placed, start: AttemptStart, now: Timestamp) -> Facts {
    let fenced = order.running().filter(|running| !request::is_entity_call(order, running.step));
    let running = fenced.ok_or(OrderRejection::NotWanted)?;
    let started = running.start(order.number, start, now).ok_or(OrderRejection::NotWanted)?;
    Ok(vec![OrderFact::Attempted { step: running.step, started }])
}

fn hint(order: &Placed, now: Timestamp) -> Vec<OrderFact> {
    let waits = |running: &&Running| {
        let pays = matches!(running.step, Step::Pay | Step::FindPayment | Step::Refund) && order.method == Method::Card;
        pays && running.waits(now)
    };
    order.running().filter(waits).map(|_| vec![OrderFact::Hinted]).unwrap_or_default()
}

/// Each outcome is decided on the state that those before it lead to. One that nothing waits for changes nothing.
fn outcomes_of(order: &Placed, outcomes: Vec<(Slot, CallOutcome)>, now: Timestamp) -> Vec<OrderFact> {
    let mut scratch = OrderState { order: Some(Box::new(order.clone())) };
    let mut facts = Vec::new();
    let mut notices: Vec<NoticeResult> = Vec::new();
    for (slot, outcome) in outcomes {
        let Some(order) = scratch.order.as_deref() else { return facts };
        if let Some(result) = order.notice_outcome(slot, &outcome, now) {
            if !notices.iter().any(|known| known.number == result.number) {
                notices.push(result);
            }
            continue;
        }
        let Some(running) = order.running().filter(|_| slot == steps::call_slot(order.number)) else { continue };
        let new = outcome::facts(order, running, outcome, now);
        for fact in new {
            let event = OrderEvent { at: now, fact };
            evolve(&mut scratch, &event);
            facts.push(event.fact);
        }
    }
    if !notices.is_empty() {
        facts.push(OrderFact::NoticesSettled(notices));
    }
    facts
}

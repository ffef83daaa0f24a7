//! `decide`: what a command leads to. Returns facts, sends nothing, changes nothing.

use super::command::{
    Assignment, End, Payment, ReservationCommand, ReservationEvent, ReservationFact, ReservationRejection, Step,
};
use super::evolve::evolve;
use super::outcome;
use super::request::{self, CLOSING, DEADLINE, RETENTION_TIMER, REVIEW};
use super::state::{Booked, Phase, ReservationState, Running, Status};
use crate::domain::entity::Decision;
use crate::domain::order::Method;
use crate::domain::policy::RETENTION;
use crate::domain::steps::{self, REVIEW_AFTER, REVIEWER};
use crate::types::call::CallOutcome;
use crate::types::effect::Slot;
use crate::types::ids::EntityKey;
use crate::types::kind::AttemptStart;
use crate::types::record::Erasure;
use crate::types::time::Timestamp;

/// Facts to be recorded, none when all is as the command wants it.
type Facts = Result<Vec<ReservationFact>, ReservationRejection>;

/// Decides one command.
pub(super) fn decide(
    key: EntityKey,
    state: &ReservationState,
    command: ReservationCommand,
    now: Timestamp,
) -> Result<Decision<ReservationEvent>, ReservationRejection> {
    let facts = match (state.booked.as_deref(), command) {
        (None, ReservationCommand::Assign(assignment)) if assignment.reservation == key => {
            vec![ReservationFact::Assigned(assignment)]
        }
        (None, ReservationCommand::Assign(_)) => return Err(ReservationRejection::NotWanted),
        (Some(booked), ReservationCommand::Assign(assignment)) => assign_again(booked, &assignment)?,
        (None, _) => return Err(ReservationRejection::NotFound),
        (Some(booked), ReservationCommand::Pay(payment)) => pay(booked, *payment, now)?,
        (Some(booked), ReservationCommand::Cancel) => cancel(booked, now)?,
        (Some(booked), ReservationCommand::Replay { actor }) => replay(booked, actor)?,
        (Some(booked), ReservationCommand::Discard { actor, reason }) => discard(booked, actor, reason)?,
        (Some(booked), ReservationCommand::Timer(slot)) => timer(booked, slot, now)?,
        (Some(booked), ReservationCommand::Attempt(start)) => attempt(booked, start, now)?,
        (Some(booked), ReservationCommand::Outcomes(outcomes)) => outcomes_of(booked, outcomes, now),
        (Some(booked), ReservationCommand::Hint) => hint(booked, now),
    };
    let forgets = facts.contains(&ReservationFact::Forgotten);
    let erase = if forgets { Erasure::Journal } else { Erasure::Nothing };
    Ok(Decision { events: facts.into_iter().map(|fact| ReservationEvent { at: now, fact }).collect(), erase })
}

/// The same assignment again is answered; another one has come too late.
fn assign_again(booked: &Booked, assignment: &Assignment) -> Facts {
    let known = &booked.assignment;
    let same = (known.show, known.section, known.serial) == (assignment.show, assignment.section, assignment.serial);
    if same { Ok(Vec::new()) } else { Err(ReservationRejection::Assigned { refused: assignment.serial }) }
}

fn pay(booked: &Booked, payment: Payment, now: Timestamp) -> Facts {
    let Payment { method, sealed } = payment;
    let status = booked.status();
    if status != Status::TemporaryAssigned {
        return Err(ReservationRejection::NotPayable { status });
    }
    // Its timer may be late.
    if booked.held_until().is_none_or(|until| now >= until) {
        return Err(ReservationRejection::TimeIsOver);
    }
    if (method == Method::Card) != sealed.is_some() {
        return Err(ReservationRejection::NotWanted);
    }
    Ok(vec![ReservationFact::PaymentRequested { method, amount: booked.assignment.amount, sealed }])
}

fn cancel(booked: &Booked, now: Timestamp) -> Facts {
    let refused = || Err(ReservationRejection::NotCancellable { status: booked.status() });
    if let Some(ended) = &booked.ended {
        return if ended.end == End::Cancelled { Ok(Vec::new()) } else { refused() };
    }
    if booked.closed || booked.cancellable_until().is_some_and(|until| now >= until) {
        return refused();
    }
    Ok(vec![end(booked, End::Cancelled, "cancelled")])
}

/// What another entity may have done is undone whether it did it or not; so is a payment that may have been captured.
pub(super) fn end(booked: &Booked, end: End, code: &str) -> ReservationFact {
    let pays = booked.running().filter(|running| running.step == Step::Pay);
    let doubtful = pays.is_some_and(|running| request::is_entity_call(booked, Step::Pay) || running.call.is_in_doubt());
    ReservationFact::Ended { end, code: code.to_owned(), doubtful }
}

fn replay(booked: &Booked, actor: String) -> Facts {
    check_actor(&actor)?;
    match &booked.phase {
        Phase::Stuck { .. } => Ok(vec![ReservationFact::Replayed { actor }]),
        Phase::Idle | Phase::Running(_) => Err(ReservationRejection::NotADeadLetter),
    }
}

fn discard(booked: &Booked, actor: String, reason: String) -> Facts {
    check_actor(&actor)?;
    if !steps::is_reason(&reason) {
        return Err(ReservationRejection::BadOperator);
    }
    match &booked.phase {
        Phase::Stuck { running, .. } => Ok(vec![ReservationFact::Discarded { step: running.step, actor, reason }]),
        Phase::Idle | Phase::Running(_) => Err(ReservationRejection::NotADeadLetter),
    }
}

fn check_actor(actor: &str) -> Result<(), ReservationRejection> {
    if steps::is_actor(actor) { Ok(()) } else { Err(ReservationRejection::BadOperator) }
}

fn timer(booked: &Booked, slot: Slot, now: Timestamp) -> Facts {
    match slot {
        DEADLINE if booked.held_until().is_some_and(|until| now >= until) => {
            let code = if booked.method.is_some() { "payment_timeout" } else { "not_paid" };
            Ok(vec![end(booked, End::Expired, code)])
        }
        CLOSING if booked.cancellable_until().is_some_and(|until| now >= until) => Ok(vec![ReservationFact::Closed]),
        RETENTION_TIMER if booked.is_terminal() && booked.sealed.is_some() && now >= booked.updated_at + RETENTION => {
            Ok(vec![ReservationFact::Forgotten])
        }
        REVIEW => match &booked.phase {
            Phase::Stuck { since, .. } if now >= *since + REVIEW_AFTER => replay(booked, REVIEWER.to_owned()),
            Phase::Stuck { .. } | Phase::Idle | Phase::Running(_) => Err(ReservationRejection::NotWanted),
        },
        Slot(_) => Err(ReservationRejection::NotWanted),
    }
}

/// A fenced call begins: refused unless the state wants exactly this call, and never early.
fn attempt(booked: &Booked, start: AttemptStart, now: Timestamp) -> Facts {
    let fenced = booked.running().filter(|running| !request::is_entity_call(booked, running.step));
    let running = fenced.ok_or(ReservationRejection::NotWanted)?;
    let started = running.start(booked.number, start, now).ok_or(ReservationRejection::NotWanted)?;
    Ok(vec![ReservationFact::Attempted { step: running.step, started }])
}

fn hint(booked: &Booked, now: Timestamp) -> Vec<ReservationFact> {
    let waits = |running: &&Running| !request::is_entity_call(booked, running.step) && running.waits(now);
    booked.running().filter(waits).map(|_| vec![ReservationFact::Hinted]).unwrap_or_default()
}

/// Each outcome is decided on the state that those before it lead to. One that nothing waits for changes nothing.
fn outcomes_of(booked: &Booked, outcomes: Vec<(Slot, CallOutcome)>, now: Timestamp) -> Vec<ReservationFact> {
    let mut scratch = ReservationState { booked: Some(Box::new(booked.clone())) };
    let mut facts = Vec::new();
    for (slot, outcome) in outcomes {
        let Some(booked) = scratch.booked.as_deref() else { return facts };
        let Some(running) = booked.running().filter(|_| slot == steps::call_slot(booked.number)) else { continue };
        for fact in outcome::facts(booked, running, outcome, now) {
            let event = ReservationEvent { at: now, fact };
            evolve(&mut scratch, &event);
            facts.push(event.fact);
        }
    }
    facts
}

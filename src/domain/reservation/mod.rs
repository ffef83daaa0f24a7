//! A reservation: seats for five minutes, a payment behind the reply, and whatever undoes them (ADR-12).
//!
//! | status | by | to |
//! |---|---|---|
//! | (nothing) | Assign, from the seats' area | temporary_assigned |
//! | temporary_assigned | Pay | payment_pending: card at the payment provider, balance at the wallet |
//! | payment_pending | paid, and the area sold the seats | confirmed; the queue is told |
//! | payment_pending | refused for sure, too little balance | payment_failed; the seats are free |
//! | temporary_assigned, payment_pending | five minutes after Assign, not known to be paid | expired; the seats are free |
//! | temporary_assigned, payment_pending, confirmed | Cancel | cancelled; the seats are free |
//! | confirmed | seven days | cannot be cancelled any more; what the wallet held is spent |
//!
//! What ended gives back behind its status, in this order: the seats, then the money. A payment whose outcome is not known
//! is looked up until it is captured (a late capture: refunded) or ruled out. A refund that is refused is a dead letter;
//! an operator replays or discards it, and it is tried again weekly.
//!
//! Each call has a number of its own, from which its slot and its keys follow; a try whose outcome is unknown keeps its
//! number. What was paid is kept, given back, or still held.

mod command;
mod decide;
mod describe;
mod evolve;
mod outcome;
mod request;
mod state;
#[cfg(test)]
mod tests;
mod view;

pub use command::{
    Assignment, End, OWNER_BYTES_MAX, Payment, PaymentKey, ReservationCommand, ReservationEvent, ReservationFact,
    ReservationRejection, Step,
};
pub use describe::{TOPICS, publications};
pub use state::{CANCELLABLE_FOR, HELD_FOR, ReservationState, Seating, Status};

use super::entity::{Decision, Entity};
use super::kinds;
use crate::types::call::{CallOutcome, CallRequest, Report};
use crate::types::effect::{Effects, Slot};
use crate::types::ids::{EntityKey, EntityKind};
use crate::types::kind::{At, AttemptStart, Counted};
use crate::types::level::{FeatureLevel, NEIGHBOURS_LEVEL};
use crate::types::record::Sealed;

const PREFIX: &str = "rv";

/// The reservation as an entity kind.
pub struct Reservation;

impl Entity for Reservation {
    type State = ReservationState;
    type Command = ReservationCommand;
    type Event = ReservationEvent;
    type Rejection = ReservationRejection;
    const KIND: EntityKind = kinds::RESERVATION;
    const PREFIX: &'static str = PREFIX;
    const SINCE: FeatureLevel = NEIGHBOURS_LEVEL;

    fn decide(
        key: EntityKey,
        state: &ReservationState,
        command: ReservationCommand,
        at: &At,
    ) -> Result<Decision<ReservationEvent>, ReservationRejection> {
        decide::decide(key, state, command, at.now)
    }
    fn evolve(state: &mut ReservationState, event: &ReservationEvent) {
        evolve::evolve(state, event);
    }
    fn wants(key: EntityKey, state: &ReservationState) -> Effects {
        request::wants(key, state)
    }
    fn outcome(state: &ReservationState) -> Option<Counted> {
        let booked = state.booked.as_deref()?;
        match booked.status() {
            Status::Confirmed | Status::PaymentFailed | Status::Expired => {
                Some(("reservation", booked.status().name()))
            }
            Status::TemporaryAssigned | Status::PaymentPending | Status::Cancelled => None,
        }
    }
    fn sealed(state: &ReservationState) -> Option<&Sealed> {
        state.booked.as_deref().and_then(|booked| booked.sealed.as_ref())
    }
    fn request(key: EntityKey, state: &ReservationState, slot: Slot, personal: Option<&[u8]>) -> Option<CallRequest> {
        request::request(key, state, slot, personal)
    }
    fn timer_command(slot: Slot) -> ReservationCommand {
        ReservationCommand::Timer(slot)
    }
    fn attempt_command(start: AttemptStart) -> ReservationCommand {
        ReservationCommand::Attempt(start)
    }
    fn outcome_command(outcomes: Vec<(Slot, CallOutcome)>) -> ReservationCommand {
        ReservationCommand::Outcomes(outcomes)
    }
    fn report_command(_report: Report) -> ReservationCommand {
        ReservationCommand::Hint
    }
    fn describe(event: &ReservationEvent) -> serde_json::Value {
        describe::describe(event)
    }
}

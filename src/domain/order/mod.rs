//! An order: a saga over the payment, the stocks and the shipping provider, one step after the other.
//!
//! | status | step | done by | when it fails for sure, or its deadline passes |
//! |---|---|---|---|
//! | payment | UseCoupon | the coupon | compensation |
//! | payment | Pay | payment provider, or the user's wallet | compensation |
//! | inventory | Reserve, line by line | the stock of each line | compensation |
//! | shipping | Ship | shipping provider | compensation |
//! | shipping | Confirm, line by line; Settle (wallet) | stocks, wallet | stuck |
//! | completed | | | |
//! | compensating | Unship, Release of each line, FindPayment, Refund, GiveCoupon: in reverse | as above | stuck |
//! | failed, cancelled | | | |
//! | stuck | the step that died | an operator replays or discards it; it is tried again weekly | |
//!
//! An order with a coupon begins with UseCoupon and is undone last by GiveCoupon; what the coupon takes off is not paid,
//! and one that it pays whole has no payment.
//!
//! A prepared shipment is the point of no return: what follows cannot fail but only last. Until then the owner may
//! cancel; while a call is in the air whose outcome is not known, the cancel waits for it. Nothing is compensated that
//! is not known to be undone: a step whose outcome is open when its deadline passes is compensated as if it had been
//! done, and every compensation also keeps out a step that comes late (a stock and a wallet remember who released, the
//! shipping provider a cancelled reference; a payment is looked up until it is captured or ruled out).
//!
//! The buyer may be told that it was placed and how it ended, beside all that (`telling.rs`).
//!
//! Each call has a number of its own, from which its slot and its keys follow; a try whose outcome is unknown keeps its
//! number. What was paid is kept, given back, or still held.

mod command;
mod decide;
mod describe;
mod evolve;
mod outcome;
mod publish;
mod request;
mod state;
mod telling;
#[cfg(test)]
mod tests;
mod view;

pub use super::steps::Paid;
pub use command::{
    LINES_MAX, Method, NewLine, NewOrder, OrderCommand, OrderEvent, OrderFact, OrderRejection, Personal, QUANTITY_MAX,
    Step, StepLimits,
};
pub use evolve::price_of_lines;
pub use publish::{TOPICS, publications};
pub use state::{Line, LineHold, OrderState, Shipped, Status};

use super::entity::{Decision, Entity};
use super::kinds;
use crate::types::call::{CallOutcome, CallRequest, Report};
use crate::types::effect::{Effects, Slot};
use crate::types::ids::{EntityKey, EntityKind};
use crate::types::kind::{At, AttemptStart, Counted};
use crate::types::level::{FeatureLevel, NEIGHBOURS_LEVEL};
use crate::types::record::Sealed;

const PREFIX: &str = "o";

/// The order as an entity kind.
pub struct Order;

impl Entity for Order {
    type State = OrderState;
    type Command = OrderCommand;
    type Event = OrderEvent;
    type Rejection = OrderRejection;
    const KIND: EntityKind = kinds::ORDER;
    const PREFIX: &'static str = PREFIX;
    const SINCE: FeatureLevel = NEIGHBOURS_LEVEL;

    fn decide(
        _key: EntityKey,
        state: &OrderState,
        command: OrderCommand,
        at: &At,
    ) -> Result<Decision<OrderEvent>, OrderRejection> {
        decide::decide(state, command, at.now)
    }
    fn evolve(state: &mut OrderState, event: &OrderEvent) {
        evolve::evolve(state, event);
    }
    fn wants(key: EntityKey, state: &OrderState) -> Effects {
        request::wants(key, state)
    }
    fn outcome(state: &OrderState) -> Option<Counted> {
        let status = state.order.as_deref()?.status();
        match status {
            Status::Completed | Status::Failed | Status::Cancelled | Status::Stuck => Some(("order", status.name())),
            Status::Payment | Status::Inventory | Status::Shipping | Status::Compensating => None,
        }
    }
    fn sealed(state: &OrderState) -> Option<&Sealed> {
        state.order.as_deref().and_then(|order| order.sealed.as_ref())
    }
    fn request(key: EntityKey, state: &OrderState, slot: Slot, personal: Option<&[u8]>) -> Option<CallRequest> {
        request::request(key, state, slot, personal)
    }
    fn timer_command(slot: Slot) -> OrderCommand {
        OrderCommand::Timer(slot)
    }
    fn attempt_command(start: AttemptStart) -> OrderCommand {
        OrderCommand::Attempt(start)
    }
    fn outcome_command(outcomes: Vec<(Slot, CallOutcome)>) -> OrderCommand {
        OrderCommand::Outcomes(outcomes)
    }
    /// A payment webhook names the order alone.
    fn report_command(report: Report) -> OrderCommand {
        if report.reference.contains('.') { OrderCommand::Report(report) } else { OrderCommand::Hint }
    }
    fn describe(event: &OrderEvent) -> serde_json::Value {
        describe::describe(event)
    }
}

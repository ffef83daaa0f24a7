//! The gift: reserved and paid now, delivered at the chosen instant, once, and refunded to the won when it is not used.
//!
//! | from | by | to |
//! |---|---|---|
//! | (nothing) | Reserve | payment_pending |
//! | payment_pending | captured | scheduled |
//! | payment_pending | captured, other amount than asked for | refunding |
//! | payment_pending | refused, or its coupon was | payment_failed |
//! | payment_pending | timer, 5 min | payment_expired |
//! | payment_pending | Cancel | cancelled |
//! | payment_pending | found refunded | refunded |
//! | payment_expired, cancelled | late capture | refunding |
//! | payment_expired, cancelled | found refunded | refunded |
//! | scheduled | Cancel | refunding |
//! | scheduled | Cancel, a coupon had paid it whole | refunded |
//! | scheduled | attempt started | sending |
//! | scheduled | timer, overdue by policy | send_failed |
//! | sending | report, link used, report timeout, unconfirmable | sent |
//! | sending | link used to Accept or Decline | accepted, refunding, declined |
//! | sending | refused on the last channel | send_failed |
//! | sending | timer, end of validity of what was handed on | refunding, expired |
//! | sending, sent, accepted, send_failed | Decline, Discard, end of validity; a coupon had paid it whole | refunded |
//! | sent | Accept | accepted |
//! | sent | definite failure reported | send_failed |
//! | sent, accepted | Decline | refunding, declined |
//! | sent, accepted | Transfer | sending |
//! | sent, accepted | timer, end of validity | refunding, expired |
//! | accepted | Redeem | used |
//! | used | CancelRedeem | accepted |
//! | send_failed | Replay, link used to Transfer | sending |
//! | send_failed | report of arrival, link opened | sent |
//! | send_failed | link used to Accept or Decline | accepted, refunding, declined |
//! | send_failed | Discard, timer at end of validity | refunding |
//! | refunding | settled | refunded |
//! | refunding | refused for good | refund_failed |
//! | refund_failed | Replay, weekly review | refunding |
//! | refund_failed | Discard (settled by hand) | refunded |
//!
//! A gift that a coupon pays in part or whole, or a wallet pays, has calls beside these phases: see `beside.rs`.
//!
//! The tests read this table: what it does not list is never reached. A payment that the provider cancelled by itself
//! is booked as paid and refunded. `expired` and `declined` last only where a policy gives nothing back; otherwise the
//! same record goes on to `refunding`. INV-2 rests on attempt numbers: a new one only after a definite failure. INV-4
//! rests on [`Ledger`].

mod beside;
mod command;
mod decide;
mod describe;
mod event;
mod evolve;
mod evolve_delivery;
mod ledger;
mod names;
mod notice;
mod personal;
mod publish;
mod request;
mod schedule;
mod state;
#[cfg(test)]
mod tests;
mod view;
mod wants;

pub use command::{
    Change, GiftCommand, GiftRejection, Letter, PaymentTerms, ProductSnapshot, RecipientFacts, RedemptionKey,
    Reservation, Status, Store, Transfer,
};
pub use event::{
    CallStarted, CouponFact, DeliveryFact, Doubt, Evidence, GiftEvent, GiftFact, HandedOn, NextAttempt, NoticeFact,
    PaymentFact, PlanFact, RefundFact, RefundReason, Reminder, UseFact, Validity,
};
pub use ledger::Ledger;
pub use personal::{ContactSet, Personal, RecipientContact, SenderContact, topic_of};
pub use publish::{TOPICS, publications};
pub use schedule::outlives_refund;
pub use state::GiftState;
pub use view::{DeadLetter, DeliveryView, Redemption};
pub use wants::owner_prefix;

pub use super::notices::{Audience, NOTICES_MAX, Notice, NoticeProgress, NoticeResult, NoticeStep};

use super::entity::{Decision, Entity};
use super::kinds;
use crate::types::call::{CallOutcome, CallRequest, Report};
use crate::types::effect::{Effects, Slot};
use crate::types::ids::{EntityKey, EntityKind};
use crate::types::kind::{At, AttemptStart, Counted};
use crate::types::record::Sealed;

const PREFIX: &str = "g";

/// The gift as an entity kind.
pub struct Gift;

impl Entity for Gift {
    type State = GiftState;
    type Command = GiftCommand;
    type Event = GiftEvent;
    type Rejection = GiftRejection;
    const KIND: EntityKind = kinds::GIFT;
    const PREFIX: &'static str = PREFIX;

    fn decide(
        key: EntityKey,
        state: &GiftState,
        command: GiftCommand,
        at: &At,
    ) -> Result<Decision<GiftEvent>, GiftRejection> {
        decide::decide(key, state, command, at)
    }
    fn evolve(state: &mut GiftState, event: &GiftEvent) {
        evolve::evolve(state, event);
    }
    fn wants(key: EntityKey, state: &GiftState) -> Effects {
        wants::wants(key, state)
    }
    fn outcome(state: &GiftState) -> Option<Counted> {
        let status = state.gift.as_deref()?.phase.status();
        match status {
            Status::Scheduled
            | Status::Sending
            | Status::Sent
            | Status::Accepted
            | Status::Used
            | Status::Declined
            | Status::SendFailed
            | Status::Expired => Some(("gift", "reserved")),
            Status::PaymentFailed | Status::PaymentExpired | Status::Cancelled => Some(("gift", status.name())),
            Status::PaymentPending | Status::Refunding | Status::Refunded | Status::RefundFailed => None,
        }
    }
    fn sealed(state: &GiftState) -> Option<&Sealed> {
        state.gift.as_deref().and_then(|gift| gift.sealed.as_ref())
    }
    fn request(key: EntityKey, state: &GiftState, slot: Slot, personal: Option<&[u8]>) -> Option<CallRequest> {
        request::request(key, state, slot, personal)
    }
    fn timer_command(slot: Slot) -> GiftCommand {
        GiftCommand::Timer(slot)
    }
    fn attempt_command(start: AttemptStart) -> GiftCommand {
        GiftCommand::Attempt(start)
    }
    fn outcome_command(outcomes: Vec<(Slot, CallOutcome)>) -> GiftCommand {
        GiftCommand::Outcomes(outcomes)
    }
    fn report_command(report: Report) -> GiftCommand {
        GiftCommand::Report(report)
    }
    fn describe(event: &GiftEvent) -> serde_json::Value {
        describe::describe(event)
    }
}

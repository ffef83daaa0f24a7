//! `decide`: what a command leads to. Returns facts, sends nothing, changes nothing.

mod beside;
mod delivery;
mod money;
mod notices;
mod operator;
mod recipient;
mod report;
mod sender;
mod till;

use super::command::{GiftCommand, GiftRejection};
use super::event::{CallStarted, GiftEvent, GiftFact};
use super::evolve::evolve;
use super::names;
use super::state::{Call, Gift, GiftState, Phase};
use crate::domain::entity::Decision;
use crate::domain::notices::NoticeResult;
use crate::types::call::CallOutcome;
use crate::types::effect::Slot;
use crate::types::ids::EntityKey;
use crate::types::kind::{At, AttemptStart};
use crate::types::record::Erasure;
use crate::types::time::Timestamp;

/// Facts to be recorded, none when all is as the command wants it.
type Facts = Result<Vec<GiftFact>, GiftRejection>;

/// Decides one command.
pub(super) fn decide(
    key: EntityKey,
    state: &GiftState,
    command: GiftCommand,
    at: &At,
) -> Result<Decision<GiftEvent>, GiftRejection> {
    let facts = match (state.gift.as_deref(), command) {
        (None, GiftCommand::Reserve(reservation)) => sender::reserve(*reservation, at.now)?,
        (None, GiftCommand::ReserveWith(reservation, coupon)) => sender::reserve_with(*reservation, coupon, at.now)?,
        (Some(_), GiftCommand::Reserve(_) | GiftCommand::ReserveWith(..)) => return Err(GiftRejection::AlreadyExists),
        (None, _) => return Err(GiftRejection::NotFound),
        (Some(gift), command) => Desk { key, gift, now: at.now }.decide(command)?,
    };
    if facts.is_empty() {
        return Ok(Decision::unchanged());
    }
    let erase = facts.iter().map(erasure).find(|erasure| *erasure != Erasure::Nothing).unwrap_or_default();
    let events = facts.into_iter().map(|fact| GiftEvent { at: at.now, fact }).collect();
    Ok(Decision { events, erase })
}

fn erasure(fact: &GiftFact) -> Erasure {
    match fact {
        GiftFact::Erased => Erasure::PersonalData,
        GiftFact::Forgotten => Erasure::Journal,
        GiftFact::Reserved(_)
        | GiftFact::ReservedWith(..)
        | GiftFact::Coupon(_)
        | GiftFact::Payment(_)
        | GiftFact::Plan(_)
        | GiftFact::Delivery(_)
        | GiftFact::Use(_)
        | GiftFact::Refund(_)
        | GiftFact::Notice(_)
        | GiftFact::DeadLetterReplayed { .. }
        | GiftFact::DeadLetterDiscarded { .. } => Erasure::Nothing,
    }
}

/// One existing gift and the instant at which something is asked of it.
#[derive(Clone, Copy)]
struct Desk<'a> {
    key: EntityKey,
    gift: &'a Gift,
    now: Timestamp,
}

impl Desk<'_> {
    fn decide(&self, command: GiftCommand) -> Facts {
        match command {
            GiftCommand::Reserve(_) | GiftCommand::ReserveWith(..) => Err(GiftRejection::AlreadyExists),
            GiftCommand::Change(change) => self.change(*change),
            GiftCommand::Cancel => self.cancel(),
            GiftCommand::ReResolve { resolved } => self.re_resolve(resolved),
            GiftCommand::Accept { link_hash } => self.accept(link_hash),
            GiftCommand::Decline { link_hash } => self.decline(link_hash),
            GiftCommand::Opened { link_hash } => self.opened(link_hash),
            GiftCommand::Transfer(transfer) => self.transfer(*transfer, false),
            GiftCommand::HandOn(transfer) => self.transfer(*transfer, true),
            GiftCommand::Redeem { code_hash, redemption } => self.redeem(code_hash, redemption),
            GiftCommand::CancelRedeem { code_hash, redemption } => self.cancel_redeem(code_hash, redemption),
            GiftCommand::Replay { actor, letter, new_generation } => self.replay(actor, letter, new_generation),
            GiftCommand::Discard { actor, letter, reason } => self.discard(actor, letter, reason),
            GiftCommand::Erase => self.erase(),
            GiftCommand::Timer(slot) => self.timer(slot),
            GiftCommand::Attempt(start) => self.attempt(start),
            GiftCommand::Outcomes(outcomes) => Ok(self.outcomes(outcomes)),
            GiftCommand::Report(report) => Ok(self.report(&report)),
        }
    }

    fn timer(&self, slot: Slot) -> Facts {
        match slot {
            names::PAYMENT_TIMEOUT => self.payment_timeout(),
            names::EXPIRY => self.expire(),
            names::REMINDER => self.reminder(),
            names::REPORT_TIMEOUT => self.report_timeout(),
            names::OVERDUE => self.overdue(),
            names::REFUND_REVIEW => self.refund_review(),
            names::RETENTION => self.forget(),
            Slot(_) => Err(GiftRejection::NotWanted),
        }
    }

    /// A fenced call begins: refused unless the state wants exactly this call, and never early.
    fn attempt(&self, start: AttemptStart) -> Facts {
        let started = CallStarted { claim: start.claim, not_after: start.not_after };
        let by_card = !self.gift.pays_by_wallet();
        if let Some(call) = self.gift.payment_call().filter(|_| by_card && start.slot == names::PAYMENT) {
            self.due(call)?;
            return Ok(vec![GiftFact::Payment(super::event::PaymentFact::Attempted(started))]);
        }
        if let Phase::Refunding(refund) = &self.gift.phase
            && by_card
            && start.slot == names::refund_slot(refund.number)
        {
            self.due(&refund.call)?;
            return Ok(vec![GiftFact::Refund(super::event::RefundFact::Attempted(started))]);
        }
        self.send_attempt(start.slot, started)
    }

    /// An attempt that is open already may be started again at any time: the runtime has waited it out.
    fn due(&self, call: &Call) -> Result<(), GiftRejection> {
        if call.open.is_none() && self.now < call.due { Err(GiftRejection::NotDue) } else { Ok(()) }
    }

    /// Each outcome is decided on the state that those before it lead to. One that nothing waits for changes nothing.
    fn outcomes(&self, outcomes: Vec<(Slot, CallOutcome)>) -> Vec<GiftFact> {
        let mut scratch = Scratch::new(self);
        let mut notices = Vec::new();
        for (slot, outcome) in outcomes {
            let desk = scratch.desk();
            if let Some(result) = desk.notice_outcome(slot, &outcome) {
                if !notices.iter().any(|known: &NoticeResult| known.number == result.number) {
                    notices.push(result);
                }
                continue;
            }
            let facts = match outcome {
                CallOutcome::Message(outcome) => desk.send_outcome(slot, outcome),
                CallOutcome::Payment(outcome) => desk.money_outcome(slot, outcome),
                CallOutcome::Entity(outcome) => desk.entity_outcome(slot, &outcome),
                CallOutcome::Shipment(_) => Vec::new(),
            };
            scratch.take(facts);
        }
        let mut facts = scratch.facts;
        if !notices.is_empty() {
            facts.push(GiftFact::Notice(super::event::NoticeFact::Settled(notices)));
        }
        facts
    }
}

/// A copy of a gift on which the facts of one command are tried out one after the other.
struct Scratch {
    key: EntityKey,
    now: Timestamp,
    state: GiftState,
    facts: Vec<GiftFact>,
}

impl Scratch {
    fn new(desk: &Desk<'_>) -> Self {
        let state = GiftState { gift: Some(Box::new(desk.gift.clone())) };
        Self { key: desk.key, now: desk.now, state, facts: Vec::new() }
    }
    fn desk(&self) -> Desk<'_> {
        let gift = self.state.gift.as_deref().expect("made from a gift that exists");
        Desk { key: self.key, gift, now: self.now }
    }
    fn take(&mut self, facts: Vec<GiftFact>) {
        for fact in facts {
            let event = GiftEvent { at: self.now, fact };
            evolve(&mut self.state, &event);
            self.facts.push(event.fact);
        }
    }
}

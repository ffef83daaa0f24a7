//! A gift as its records make it, and what each of its records says to the checkers.

use crate::chaos::checkers::history::{Fact, GiftRow, Money4};
use crate::domain::entity::Entity;
use crate::domain::gift::{
    DeliveryFact, Doubt, Evidence, Gift, GiftEvent, GiftFact, GiftState, Ledger, Letter, PaymentFact, PlanFact,
    RefundFact, Status, UseFact,
};
use crate::gateways::PROVIDER_AWAY;
use crate::types::codec::{self, CodecError};
use crate::types::effect::{Effects, Lane};
use crate::types::ids::{EntityKey, Version};

/// The slots of refunds begin here; the rest of a slot is the attempt's number.
const REFUND_SLOTS: u16 = 0x1000;

/// A gift after its records so far.
#[derive(Default)]
pub struct Trace {
    pub state: GiftState,
}

impl Trace {
    /// What a record says, and the gift's money after it.
    ///
    /// # Errors
    /// [`CodecError`]: the events are not a gift's. Nothing was changed.
    pub fn record(&mut self, gift: EntityKey, events: &[u8]) -> Result<(Vec<Fact>, Money4), CodecError> {
        let events: Vec<GiftEvent> = codec::decode(events)?;
        let mut facts = Vec::new();
        for event in &events {
            let was_scheduled = is_scheduled(&self.state);
            Gift::evolve(&mut self.state, event);
            facts.extend(fact_of(gift, event, &self.state));
            if is_scheduled(&self.state) && !was_scheduled {
                facts.push(Fact::Scheduled);
            }
        }
        let money = if self.state.exists() { money_of(self.state.ledger()) } else { Money4::default() };
        Ok((facts, money))
    }

    /// Its send is a dead letter.
    #[must_use]
    pub fn is_dead(&self) -> bool {
        is_dead(&self.state)
    }
}

/// A gift as a disk holds it at the end.
///
/// # Errors
/// [`CodecError`]: the state is not a gift's.
pub fn left(gift: EntityKey, version: Version, bytes: &[u8]) -> Result<GiftRow, CodecError> {
    let state: GiftState = codec::decode(bytes)?;
    let wants = Gift::wants(gift, &state);
    let (status, money) = (state.status(), money_of(state.ledger()));
    Ok(GiftRow { status, money, dead: is_dead(&state), ..other_left(gift, version, &wants) })
}

/// Another entity as a disk holds it at the end.
#[must_use]
pub fn other_left(key: EntityKey, version: Version, wants: &Effects) -> GiftRow {
    GiftRow {
        gift: key,
        version,
        status: "not a gift",
        money: Money4::default(),
        terminal: wants.terminal,
        dead: false,
        next_due: wants.next_due(),
        money_in_doubt: is_money_in_doubt(wants),
    }
}

fn is_dead(state: &GiftState) -> bool {
    state.exists() && state.state() == Status::SendFailed
}

fn is_scheduled(state: &GiftState) -> bool {
    state.exists() && state.state() == Status::Scheduled
}

/// A payment or refund that is wanted, or was started and has no known end.
fn is_money_in_doubt(wants: &Effects) -> bool {
    wants.calls.iter().any(|call| call.lane == Lane::Payment)
}

fn money_of(ledger: Ledger) -> Money4 {
    Money4 {
        paid: ledger.paid().minor,
        held: ledger.held().minor,
        used: ledger.used().minor,
        refunded: ledger.refunded().minor,
    }
}

/// `state` is the gift after the event.
fn fact_of(gift: EntityKey, event: &GiftEvent, state: &GiftState) -> Option<Fact> {
    match &event.fact {
        GiftFact::Reserved(reservation) | GiftFact::ReservedWith(reservation, _) => {
            Some(Fact::Reserved { due: reservation.resolved.instant })
        }
        GiftFact::Payment(fact) => match fact {
            PaymentFact::Attempted(started) => Some(Fact::PaymentStarted { term: started.claim.term.0 }),
            PaymentFact::Captured { amount, .. } => Some(Fact::Captured { minor: amount.minor }),
            PaymentFact::Undecided { .. }
            | PaymentFact::Refused { .. }
            | PaymentFact::TimedOut
            | PaymentFact::RuledOut { .. }
            | PaymentFact::Hinted
            | PaymentFact::HoldClosed => None,
        },
        GiftFact::Plan(fact) => match fact {
            PlanFact::Cancelled => Some(Fact::Cancelled),
            PlanFact::Changed(change) => change.send_at.as_ref().map(|(_, at)| Fact::Moved { due: at.instant }),
            PlanFact::ReResolved { resolved, .. } => Some(Fact::Moved { due: resolved.instant }),
        },
        GiftFact::Delivery(fact) => fact_of_delivery(fact, state),
        GiftFact::Refund(RefundFact::Attempted(started)) => {
            let wants = Gift::wants(gift, state);
            let slot = wants.calls.iter().find(|call| call.lane == Lane::Payment)?.slot;
            Some(Fact::RefundStarted { number: slot.0 & !REFUND_SLOTS, term: started.claim.term.0 })
        }
        GiftFact::Refund(RefundFact::Settled { total, .. }) => Some(Fact::RefundSettled { total: total.minor }),
        GiftFact::Use(UseFact::Redeemed { .. }) => Some(Fact::Redeemed),
        GiftFact::Forgotten => Some(Fact::Forgotten),
        GiftFact::DeadLetterReplayed { letter: Letter::Gift, .. } => Some(Fact::Replayed),
        GiftFact::Coupon(_)
        | GiftFact::Refund(_)
        | GiftFact::Use(_)
        | GiftFact::Notice(_)
        | GiftFact::DeadLetterReplayed { letter: Letter::Notice(_), .. }
        | GiftFact::DeadLetterDiscarded { .. }
        | GiftFact::Erased => None,
    }
}

fn fact_of_delivery(fact: &DeliveryFact, state: &GiftState) -> Option<Fact> {
    let view = state.delivery();
    let (delivery, attempt) = (view.generation, view.attempts);
    match fact {
        DeliveryFact::Attempted(started) => Some(Fact::SendStarted { delivery, attempt, term: started.claim.term.0 }),
        DeliveryFact::Accepted { .. } => Some(Fact::SendAccepted { delivery, attempt }),
        DeliveryFact::Undecided { retry_at, doubt: Doubt::Unknown { .. } | Doubt::Pending } => {
            Some(Fact::SendPaused { delivery, until: *retry_at })
        }
        DeliveryFact::Refused { next, .. } => Some(Fact::SendPaused { delivery, until: next.due }),
        DeliveryFact::Failed { code, .. } => {
            Some(Fact::SendFailed { delivery, attempt, away: code.as_str() == PROVIDER_AWAY })
        }
        DeliveryFact::Delivered { evidence, .. } => match evidence {
            Evidence::Report => Some(Fact::SendReported { delivery }),
            Evidence::UnconfirmedReport | Evidence::Unconfirmable => Some(Fact::SendUnconfirmed { delivery }),
            // Who opens the link has the message; no report follows an acceptance.
            Evidence::LinkOpened | Evidence::ReportTimeout => None,
        },
        DeliveryFact::Undecided { doubt: Doubt::NotSent, .. }
        | DeliveryFact::Confirmed { .. }
        | DeliveryFact::FailureNoted { .. } => None,
    }
}

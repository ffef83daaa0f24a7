//! `evolve`: what an event makes of the state. Total: a fact that does not fit the phase changes nothing.
//!
//! It reads no clock and no time-zone data, so that a replay years later gives the same state.

use super::beside::{Beside, WalletHold};
use super::command::{Letter, Reservation};
use super::event::{
    CouponFact, GiftEvent, GiftFact, HandedOn, PaymentFact, PlanFact, RefundFact, RefundReason, UseFact,
};
use super::ledger::Ledger;
use super::state::{Call, DEAD_LINKS_MAX, Delivery, Gift, GiftState, Phase, Refund, Sending, TOMBSTONES_MAX};
use crate::domain::notices::Notices;
use crate::domain::tender::{CouponHold, CouponTerms};
use crate::types::call::Template;
use crate::types::money::Money;
use crate::types::time::Timestamp;

/// Applies one event.
pub(super) fn evolve(state: &mut GiftState, event: &GiftEvent) {
    if let GiftFact::Reserved(reservation) = &event.fact {
        state.gift = Some(Box::new(reserved(reservation, None, event.at)));
    } else if let GiftFact::ReservedWith(reservation, coupon) = &event.fact {
        state.gift = Some(Box::new(reserved(reservation, Some(*coupon), event.at)));
    } else if let Some(gift) = state.gift.as_deref_mut() {
        gift.updated_at = event.at;
        gift.apply(&event.fact, event.at);
        gift.settle_beside(event.at);
    }
}

fn reserved(from: &Reservation, coupon: Option<CouponTerms>, at: Timestamp) -> Gift {
    let timeout = from.product.policy.payment_timeout;
    Gift {
        owner: from.owner.clone(),
        product: from.product.clone(),
        recipient: from.recipient.clone(),
        sender: from.sender,
        sealed: Some(from.sealed.clone()),
        link_hash: from.link_hash,
        code_hash: from.code_hash,
        send_at: from.send_at.clone(),
        resolved: from.resolved.clone(),
        channels: from.channels.clone(),
        payment: from.payment,
        payment_provider: None,
        ledger: Ledger::empty(from.payment.amount.currency),
        phase: Phase::PaymentPending { call: Call::due_at(at), expires_at: at + timeout },
        delivery: Delivery::default(),
        validity: None,
        transfers_left: from.product.policy.transfers_max,
        cancelled_redemptions: Vec::new(),
        notices: Notices::default(),
        created_at: at,
        updated_at: at,
        beside: Beside::of(from.payment, coupon),
        dead_links: Vec::new(),
    }
}

/// The lookup that follows a payment that nobody waits for any more. A confirmation in flight stays in flight.
fn lookup_after(call: &Call, at: Timestamp) -> Call {
    Call { due: call.due.min(at), doubts: 0, ..call.clone() }
}

impl Gift {
    fn apply(&mut self, fact: &GiftFact, at: Timestamp) {
        match fact {
            // Handled before; a second one is never decided.
            GiftFact::Reserved(_) | GiftFact::ReservedWith(..) => {}
            GiftFact::Coupon(fact) => self.apply_coupon(*fact, at),
            GiftFact::Payment(fact) => self.apply_payment(fact, at),
            GiftFact::Plan(fact) => self.apply_plan(fact, at),
            GiftFact::Delivery(fact) => self.apply_delivery(fact, at),
            GiftFact::Use(fact) => self.apply_use(fact, at),
            GiftFact::Refund(fact) => self.apply_refund(fact, at),
            GiftFact::Notice(fact) => self.apply_notice(fact, at),
            GiftFact::DeadLetterReplayed { letter, new_generation, .. } => self.replay(*letter, *new_generation, at),
            GiftFact::DeadLetterDiscarded { letter, .. } => self.discard(*letter, at),
            GiftFact::Erased => self.sealed = None,
            GiftFact::Forgotten => {
                self.sealed = None;
                self.channels.clear();
                self.notices.clear();
                self.cancelled_redemptions.clear();
                self.dead_links.clear();
            }
        }
    }

    fn apply_plan(&mut self, fact: &PlanFact, at: Timestamp) {
        match fact {
            PlanFact::Changed(change) => {
                let change = change.as_ref().clone();
                self.recipient = change.recipient.unwrap_or_else(|| self.recipient.clone());
                self.sealed = change.sealed.or_else(|| self.sealed.take());
                self.channels = change.channels.unwrap_or_else(|| std::mem::take(&mut self.channels));
                if let Some((send_at, resolved)) = change.send_at {
                    self.send_at = send_at;
                    self.resolved = resolved;
                }
            }
            PlanFact::Cancelled => {
                // While the payment is open its fate still has to be found out.
                let lookup = self.open_payment().map(|call| lookup_after(call, at));
                self.phase = Phase::Cancelled { lookup };
            }
            PlanFact::ReResolved { resolved, moved } => {
                self.resolved = resolved.clone();
                if *moved {
                    self.notify(Template::SenderMoved, None, at);
                }
            }
        }
    }

    /// The coupon is used: the payment begins.
    fn apply_coupon(&mut self, fact: CouponFact, at: Timestamp) {
        if let Some(coupon) = &mut self.beside.coupon {
            coupon.hold = match fact {
                CouponFact::Used => CouponHold::Used,
                CouponFact::Returned => CouponHold::Returned,
            };
        }
        if let (CouponFact::Used, Phase::PaymentPending { call, .. }) = (fact, &mut self.phase) {
            *call = Call::due_at(at);
        }
    }

    /// The payment, unless it was not begun because it waits for its coupon.
    fn open_payment(&self) -> Option<&Call> {
        self.pending_payment().filter(|_| !self.awaits_coupon())
    }

    pub(super) fn pending_payment(&self) -> Option<&Call> {
        if let Phase::PaymentPending { call, .. } = &self.phase { Some(call) } else { None }
    }

    fn apply_payment(&mut self, fact: &PaymentFact, at: Timestamp) {
        match fact {
            PaymentFact::Captured { provider, amount, .. } => self.capture(provider, *amount, at),
            PaymentFact::Refused { code } => {
                self.phase = Phase::PaymentFailed { code: code.clone() };
                self.notify(Template::SenderFailed, None, at);
            }
            PaymentFact::TimedOut => {
                if self.pending_payment().is_some() {
                    let lookup = self.open_payment().map(|call| lookup_after(call, at));
                    self.phase = Phase::PaymentExpired { lookup };
                    self.notify(Template::SenderFailed, None, at);
                }
            }
            PaymentFact::RuledOut { .. } => {
                self.end_lookup();
                self.close_wallet();
            }
            PaymentFact::HoldClosed => self.close_wallet(),
            PaymentFact::Attempted(started) => {
                if let Some(call) = self.money_call_mut() {
                    call.start(started, at);
                }
            }
            PaymentFact::Undecided { doubt, retry_at } => {
                if let Some(call) = self.money_call_mut() {
                    call.doubt(doubt, *retry_at);
                }
            }
            PaymentFact::Hinted => {
                if let Some(call) = self.money_call_mut() {
                    call.hasten(at);
                }
            }
        }
    }

    fn end_lookup(&mut self) {
        if let Phase::PaymentExpired { lookup } | Phase::Cancelled { lookup } = &mut self.phase {
            *lookup = None;
        }
    }

    fn capture(&mut self, provider: &str, amount: Money, at: Timestamp) {
        self.ledger.capture(amount);
        self.payment_provider = Some(provider.to_owned());
        self.end_lookup();
        // Another amount than was asked for is refunded by the fact that follows.
        if self.pending_payment().is_some() && amount == self.payment.amount {
            self.phase = Phase::Scheduled;
            self.notify(Template::SenderReserved, None, at);
        }
    }

    fn apply_use(&mut self, fact: &UseFact, at: Timestamp) {
        match fact {
            UseFact::Accepted => {
                self.phase = Phase::Accepted { accepted_at: at };
                self.notify(Template::SenderAccepted, None, at);
            }
            UseFact::Declined => {
                self.phase = Phase::Declined;
                self.drop_reminders(at);
            }
            UseFact::Expired => {
                self.phase = Phase::Expired;
                self.drop_reminders(at);
            }
            UseFact::Transferred { recipient, channels, sealed, link_hash, code_hash, validity } => {
                let (recipient, channels, sealed) = (recipient.clone(), channels.clone(), sealed.clone());
                let (link_hash, code_hash, validity) = (*link_hash, *code_hash, *validity);
                self.hand_on(HandedOn { recipient, channels, sealed, link_hash, code_hash, validity }, at);
            }
            UseFact::HandedOn(handed_on) => {
                let surplus = (self.dead_links.len() + 1).saturating_sub(DEAD_LINKS_MAX);
                self.dead_links.drain(..surplus);
                self.dead_links.push(self.link_hash);
                self.hand_on(handed_on.as_ref().clone(), at);
            }
            UseFact::Redeemed { redemption } => {
                if let Phase::Accepted { accepted_at } = self.phase {
                    self.phase = Phase::Used { accepted_at, used_at: at, redemption: redemption.clone() };
                    self.ledger.spend_held();
                    self.drop_reminders(at);
                }
            }
            UseFact::RedemptionCancelled { redemption } => {
                if let Phase::Used { accepted_at, redemption: used_by, .. } = &self.phase
                    && used_by.is_same(redemption)
                {
                    self.phase = Phase::Accepted { accepted_at: *accepted_at };
                    self.ledger.unspend();
                }
                self.cancelled_redemptions.push(redemption.clone());
                let surplus = self.cancelled_redemptions.len().saturating_sub(TOMBSTONES_MAX);
                self.cancelled_redemptions.drain(..surplus);
            }
        }
    }

    /// Another recipient, link and voucher code; the message to them leaves at once.
    fn hand_on(&mut self, to: HandedOn, at: Timestamp) {
        self.recipient = to.recipient;
        self.channels = to.channels;
        self.sealed = Some(to.sealed);
        self.link_hash = to.link_hash;
        self.code_hash = to.code_hash;
        self.validity = Some(to.validity);
        self.transfers_left = self.transfers_left.saturating_sub(1);
        self.cancelled_redemptions.clear();
        self.drop_reminders(at);
        self.next_generation(at);
    }

    fn apply_refund(&mut self, fact: &RefundFact, at: Timestamp) {
        if let RefundFact::Started { reason, amount } = fact {
            let refund = Refund { reason: *reason, amount: *amount, number: 1, refusals: 0, call: Call::due_at(at) };
            self.phase = Phase::Refunding(refund);
            self.drop_reminders(at);
        } else if matches!(fact, RefundFact::MoneyKept) {
            self.ledger.spend_held();
        } else if let Phase::Refunding(refund) = &mut self.phase {
            match fact {
                RefundFact::Started { .. } | RefundFact::MoneyKept => {}
                RefundFact::Attempted(started) => refund.call.start(started, at),
                RefundFact::Undecided { doubt, retry_at } => refund.call.doubt(doubt, *retry_at),
                RefundFact::Refused { retry_at, .. } => refund.try_again(*retry_at),
                RefundFact::Failed { code, review_at } => {
                    let refund = refund.clone();
                    let (code, review_at) = (code.clone(), *review_at);
                    self.phase = Phase::RefundFailed { since: at, code, review_at, refund };
                }
                RefundFact::Settled { total, retry_at } => {
                    self.ledger.refund_to(*total);
                    if let Some(wallet) = &mut self.beside.wallet {
                        *wallet = WalletHold::Closed;
                    }
                    if self.ledger.refunded().minor >= refund.amount.minor {
                        let reason = refund.reason;
                        self.refunded(reason, at);
                    } else {
                        refund.try_again(*retry_at);
                    }
                }
            }
        }
    }

    fn refunded(&mut self, reason: RefundReason, at: Timestamp) {
        // What a policy does not give back is earned.
        self.ledger.spend_held();
        self.phase = Phase::Refunded { reason };
        self.notify(Template::SenderRefunded, None, at);
    }

    /// A delivery of its own, sent at once.
    fn next_generation(&mut self, at: Timestamp) {
        let generation = self.delivery.generation.saturating_add(1);
        self.delivery = Delivery { generation, due: Some(at), ..Delivery::default() };
        self.phase = Phase::Sending(Sending::attempt(1, 0, at));
    }

    fn replay(&mut self, letter: Letter, new_generation: bool, at: Timestamp) {
        match letter {
            Letter::Notice(number) => self.replay_notice(number, at),
            Letter::Gift => {
                if let Phase::SendFailed { sending, .. } = &self.phase {
                    let again = sending.again(at);
                    if !self.was_transferred() {
                        self.validity = None;
                    }
                    if new_generation {
                        self.next_generation(at);
                    } else {
                        self.phase = Phase::Sending(again);
                    }
                } else if let Phase::RefundFailed { refund, .. } = &self.phase {
                    let mut refund = refund.clone();
                    refund.try_again(at);
                    refund.refusals = 0;
                    self.phase = Phase::Refunding(refund);
                }
            }
        }
    }

    fn discard(&mut self, letter: Letter, at: Timestamp) {
        match letter {
            Letter::Notice(number) => self.notices.discard(number, at),
            Letter::Gift => {
                // A send is refunded by the fact that follows; a refund was settled by hand.
                if let Phase::RefundFailed { refund, .. } = &self.phase {
                    let (amount, reason) = (refund.amount, refund.reason);
                    self.ledger.refund_to(amount);
                    self.refunded(reason, at);
                }
            }
        }
    }

    pub(super) fn was_transferred(&self) -> bool {
        self.transfers_left < self.product.policy.transfers_max
    }
}

impl Sending {
    /// What an operator's replay in the same generation starts with: an attempt whose outcome is unknown goes on
    /// under its own number, so that it is looked up; after a definite failure a new one starts with the first channel.
    fn again(&self, at: Timestamp) -> Self {
        match &self.call {
            Some(call) if call.unknown_since.is_some() => {
                let call = Call { due: at, open: None, doubts: 0, ..call.clone() };
                Self { call: Some(call), refusals: 0, report_due: None, ..self.clone() }
            }
            Some(_) | None => Self::attempt(self.number + 1, 0, at),
        }
    }
}

impl Refund {
    /// Definitely not performed: a new number, which is a new key to the provider.
    fn try_again(&mut self, due: Timestamp) {
        self.number += 1;
        self.refusals = self.refusals.saturating_add(1);
        self.call = Call::due_at(due);
    }
}

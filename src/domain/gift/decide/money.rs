//! Payments and refunds: what an outcome of the payment lane leads to, and the timers that watch over money.
//!
//! Money that may have been captured is never forgotten: a gift that was cancelled or timed out while its payment was
//! open asks until the provider rules a capture out. Money that has to go back is asked for until it went.

use super::{Desk, Facts};
pub(super) use crate::domain::calling::{retry_after, retry_not_sent};
use crate::domain::gift::command::{GiftRejection, Letter};
use crate::domain::gift::event::{Doubt, GiftFact, PaymentFact, RefundFact, RefundReason, UseFact};
use crate::domain::gift::names;
use crate::domain::gift::schedule;
use crate::domain::gift::state::{Call, Phase, Refund};
use crate::types::call::{PaymentOutcome, RefusalClass};
use crate::types::effect::Slot;
use crate::types::money::Money;
use crate::types::time::Timestamp;

/// Who replays a refund when no operator has.
const REVIEWER: &str = "review";

/// A share of an amount, rounded down to a whole minor unit.
pub(super) fn share_of(amount: Money, percent: u8) -> Money {
    let minor = i128::from(amount.minor) * i128::from(percent.min(100)) / 100;
    Money { minor: i64::try_from(minor).unwrap_or(amount.minor), currency: amount.currency }
}

impl Desk<'_> {
    pub(super) fn money_outcome(&self, slot: Slot, outcome: PaymentOutcome) -> Vec<GiftFact> {
        if let Phase::Refunding(refund) = &self.gift.phase
            && slot == names::refund_slot(refund.number)
        {
            return vec![GiftFact::Refund(self.refund_outcome(refund, outcome))];
        }
        match self.gift.payment_call() {
            Some(call) if slot == self.gift.payment_slot() => self.payment_outcome(call, outcome),
            Some(_) | None => Vec::new(),
        }
    }

    fn payment_outcome(&self, call: &Call, outcome: PaymentOutcome) -> Vec<GiftFact> {
        match outcome {
            PaymentOutcome::Captured { provider, amount, at } => self.captured(provider, amount, at),
            PaymentOutcome::NotCaptured { code } => vec![GiftFact::Payment(self.not_captured(code))],
            // Captured and given back behind our back: both are booked. What is not back yet follows.
            PaymentOutcome::Refunded { amount: back, at } => {
                let asked = self.gift.payment.amount;
                let amount = if back.minor < asked.minor { asked } else { back };
                vec![
                    captured_fact(String::new(), amount, at),
                    GiftFact::Refund(RefundFact::Started { reason: RefundReason::CancelledByProvider, amount }),
                    GiftFact::Refund(RefundFact::Settled { total: back, retry_at: self.now }),
                ]
            }
            PaymentOutcome::Pending => vec![self.payment_doubt(call, Doubt::Pending)],
            PaymentOutcome::Unknown { cause } => vec![self.payment_doubt(call, Doubt::Unknown { cause })],
            PaymentOutcome::RefundRefused { code, .. } => {
                vec![self.payment_doubt(call, Doubt::Unknown { cause: code })]
            }
            PaymentOutcome::NotSent { cause } => {
                let retry_at = retry_not_sent(call, &cause, self.now);
                vec![GiftFact::Payment(PaymentFact::Undecided { doubt: Doubt::NotSent, retry_at })]
            }
        }
    }

    fn payment_doubt(&self, call: &Call, doubt: Doubt) -> GiftFact {
        let retry_at = retry_after(call, &doubt, self.now);
        GiftFact::Payment(PaymentFact::Undecided { doubt, retry_at })
    }

    fn captured(&self, provider: String, amount: Money, at: Timestamp) -> Vec<GiftFact> {
        let mut facts = vec![captured_fact(provider, amount, at)];
        let refund = |reason| GiftFact::Refund(RefundFact::Started { reason, amount });
        if matches!(self.gift.phase, Phase::PaymentExpired { .. }) {
            facts.push(refund(RefundReason::PaymentExpired));
        } else if matches!(self.gift.phase, Phase::Cancelled { .. }) {
            facts.push(refund(RefundReason::Cancelled));
        } else if amount != self.gift.payment.amount {
            facts.push(refund(RefundReason::AmountMismatch));
        }
        facts
    }

    fn not_captured(&self, code: String) -> PaymentFact {
        if matches!(self.gift.phase, Phase::PaymentPending { .. }) {
            PaymentFact::Refused { code }
        } else {
            PaymentFact::RuledOut { code }
        }
    }

    pub(super) fn payment_timeout(&self) -> Facts {
        match &self.gift.phase {
            Phase::PaymentPending { expires_at, .. } if self.now >= *expires_at => {
                Ok(vec![GiftFact::Payment(PaymentFact::TimedOut)])
            }
            Phase::PaymentPending { .. } => Err(GiftRejection::NotDue),
            Phase::Scheduled
            | Phase::Sending(_)
            | Phase::Sent
            | Phase::Accepted { .. }
            | Phase::Used { .. }
            | Phase::PaymentFailed { .. }
            | Phase::PaymentExpired { .. }
            | Phase::Cancelled { .. }
            | Phase::Declined
            | Phase::SendFailed { .. }
            | Phase::Expired
            | Phase::Refunding(_)
            | Phase::Refunded { .. }
            | Phase::RefundFailed { .. } => Err(GiftRejection::NotWanted),
        }
    }

    fn refund_outcome(&self, refund: &Refund, outcome: PaymentOutcome) -> RefundFact {
        let undecided = |doubt: Doubt| {
            let retry_at = retry_after(&refund.call, &doubt, self.now);
            RefundFact::Undecided { doubt, retry_at }
        };
        match outcome {
            PaymentOutcome::Refunded { amount, .. } => {
                RefundFact::Settled { total: amount, retry_at: self.refund_pause(refund) }
            }
            PaymentOutcome::RefundRefused { code, class } => self.refund_refused(refund, code, class),
            PaymentOutcome::NotCaptured { code } => self.refund_failed(code),
            PaymentOutcome::Captured { .. } | PaymentOutcome::Pending => undecided(Doubt::Pending),
            PaymentOutcome::Unknown { cause } => undecided(Doubt::Unknown { cause }),
            PaymentOutcome::NotSent { cause } => {
                let retry_at = retry_not_sent(&refund.call, &cause, self.now);
                RefundFact::Undecided { doubt: Doubt::NotSent, retry_at }
            }
        }
    }

    fn refund_pause(&self, refund: &Refund) -> Timestamp {
        self.now + schedule::doubled(schedule::REFUND_PAUSE, refund.refusals, schedule::REFUND_PAUSE_MAX)
    }

    fn refund_refused(&self, refund: &Refund, code: String, class: RefusalClass) -> RefundFact {
        match class {
            RefusalClass::Retry if refund.refusals < schedule::REFUND_REFUSALS_MAX => {
                RefundFact::Refused { code, retry_at: self.refund_pause(refund) }
            }
            RefusalClass::Retry | RefusalClass::NextChannel | RefusalClass::Permanent => self.refund_failed(code),
        }
    }

    fn refund_failed(&self, code: String) -> RefundFact {
        RefundFact::Failed { code, review_at: self.now + schedule::REFUND_REVIEW }
    }

    /// A dead refund is tried once more now and then.
    pub(super) fn refund_review(&self) -> Facts {
        if let Phase::RefundFailed { review_at, .. } = &self.gift.phase {
            if self.now < *review_at {
                return Err(GiftRejection::NotDue);
            }
            return self.replay(REVIEWER.to_owned(), Letter::Gift, false);
        }
        Err(GiftRejection::NotWanted)
    }

    /// The end of validity. A send that failed for good is refunded in full, an unused gift by policy.
    pub(super) fn expire(&self) -> Facts {
        let gift = self.gift;
        if !gift.validity_counts() {
            return Err(GiftRejection::NotWanted);
        }
        if !gift.is_expired(self.now) {
            return Err(GiftRejection::NotDue);
        }
        if matches!(gift.phase, Phase::SendFailed { .. }) {
            return Ok(self.refund_in_full(RefundReason::SendFailed));
        }
        let share = gift.product.policy.refund.expired_percent;
        let refund = self.refund_share(RefundReason::Expired, share);
        Ok(std::iter::once(GiftFact::Use(UseFact::Expired)).chain(refund).collect())
    }

    /// A share of what is held, or nothing.
    pub(super) fn refund_share(&self, reason: RefundReason, percent: u8) -> Vec<GiftFact> {
        let held = self.gift.ledger.held();
        let amount = share_of(held, percent);
        let paid_whole_by_coupon = held.is_zero() && percent >= 100;
        if amount.is_zero() && !paid_whole_by_coupon {
            return vec![GiftFact::Refund(RefundFact::MoneyKept)];
        }
        self.refund(reason, amount)
    }

    pub(super) fn refund_in_full(&self, reason: RefundReason) -> Vec<GiftFact> {
        self.refund(reason, self.gift.ledger.held())
    }

    /// A refund of nothing, because a coupon had paid it whole, is done with its beginning.
    fn refund(&self, reason: RefundReason, amount: Money) -> Vec<GiftFact> {
        let mut facts = vec![GiftFact::Refund(RefundFact::Started { reason, amount })];
        if amount.is_zero() {
            facts.push(GiftFact::Refund(RefundFact::Settled { total: amount, retry_at: self.now }));
        }
        facts
    }
}

fn captured_fact(provider: String, amount: Money, captured_at: Timestamp) -> GiftFact {
    GiftFact::Payment(PaymentFact::Captured { provider, amount, captured_at })
}

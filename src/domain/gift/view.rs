//! What may be seen of a gift: accessors for the front door, over a state decoded with `types::codec`.
//! Every accessor but [`GiftState::exists`] answers for a gift that exists and panics otherwise.

use super::command::{Letter, PaymentTerms, ProductSnapshot, RecipientFacts, RedemptionKey, Status};
use super::event::{Evidence, RefundReason};
use super::ledger::Ledger;
use super::personal::ContactSet;
use super::state::{Gift, GiftState, Phase};
use crate::domain::calendar::{ResolvedInstant, SendAt};
use crate::domain::notices::Notice;
use crate::domain::tender::HeldCoupon;
use crate::types::effect::Channel;
use crate::types::money::Money;
use crate::types::record::Sealed;
use crate::types::time::{Millis, Timestamp};

/// The delivery as the front door shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeliveryView {
    pub generation: u16,
    pub channel: Option<Channel>,
    /// Attempts of this generation that were started.
    pub attempts: u16,
    pub accepted_at: Option<Timestamp>,
    pub sent_at: Option<Timestamp>,
    pub confirmed: Option<bool>,
    /// Acceptance by the provider after the instant at which this generation was due; negative would be early.
    pub lateness: Option<Millis>,
}

/// A call that was given up and waits for an operator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadLetter {
    pub letter: Letter,
    /// `send`, `refund` or `notice`.
    pub command: &'static str,
    /// The last refusal's code.
    pub cause: String,
    pub attempts: u16,
    pub money_held: Money,
    pub since: Timestamp,
}

/// A voucher that was used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Redemption<'a> {
    pub key: &'a RedemptionKey,
    pub at: Timestamp,
}

impl GiftState {
    fn get(&self) -> &Gift {
        self.gift.as_deref().expect("the caller asks exists() first")
    }
    #[must_use]
    pub fn exists(&self) -> bool {
        self.gift.is_some()
    }
    #[must_use]
    pub fn state(&self) -> Status {
        self.get().phase.status()
    }
    /// The `status` of the front door.
    #[must_use]
    pub fn status(&self) -> &'static str {
        self.state().name()
    }
    #[must_use]
    pub fn owner(&self) -> &str {
        &self.get().owner
    }
    #[must_use]
    pub fn product(&self) -> &ProductSnapshot {
        &self.get().product
    }
    #[must_use]
    pub fn payment(&self) -> &PaymentTerms {
        &self.get().payment
    }
    #[must_use]
    pub fn amount(&self) -> Money {
        self.get().payment.amount
    }
    /// What pays beside money.
    #[must_use]
    pub fn coupon(&self) -> Option<HeldCoupon> {
        self.get().beside.coupon
    }
    #[must_use]
    pub fn ledger(&self) -> Ledger {
        self.get().ledger
    }
    #[must_use]
    pub fn refunded(&self) -> Money {
        self.get().ledger.refunded()
    }
    #[must_use]
    pub fn recipient(&self) -> &RecipientFacts {
        &self.get().recipient
    }
    #[must_use]
    pub fn sender_contacts(&self) -> ContactSet {
        self.get().sender
    }
    /// [`super::Personal`], sealed; `None` once erased.
    #[must_use]
    pub fn sealed(&self) -> Option<&Sealed> {
        self.get().sealed.as_ref()
    }
    /// The send instant as it was asked for.
    #[must_use]
    pub fn requested_send_at(&self) -> &SendAt {
        &self.get().send_at
    }
    /// The send instant as it was resolved.
    #[must_use]
    pub fn send_at(&self) -> &ResolvedInstant {
        &self.get().resolved
    }
    #[must_use]
    pub fn channels(&self) -> &[Channel] {
        &self.get().channels
    }
    #[must_use]
    pub fn delivery(&self) -> DeliveryView {
        let delivery = &self.get().delivery;
        let lateness = delivery.accepted_at.zip(delivery.due).map(|(accepted, due)| accepted - due);
        DeliveryView {
            generation: delivery.generation,
            channel: delivery.channel,
            attempts: delivery.attempt,
            accepted_at: delivery.accepted_at,
            sent_at: delivery.sent_at,
            confirmed: delivery.evidence.map(Evidence::confirms),
            lateness,
        }
    }
    /// Last millisecond of validity; `None` before the gift has left.
    #[must_use]
    pub fn expires_at(&self) -> Option<Timestamp> {
        self.get().validity.map(|validity| validity.expires_at)
    }
    #[must_use]
    pub fn transfers_left(&self) -> u8 {
        self.get().transfers_left
    }
    #[must_use]
    pub fn created_at(&self) -> Timestamp {
        self.get().created_at
    }
    #[must_use]
    pub fn updated_at(&self) -> Timestamp {
        self.get().updated_at
    }
    /// When the recipient accepted.
    #[must_use]
    pub fn accepted_at(&self) -> Option<Timestamp> {
        if let Phase::Accepted { accepted_at } | Phase::Used { accepted_at, .. } = &self.get().phase {
            Some(*accepted_at)
        } else {
            None
        }
    }
    /// Whether a link still leads here.
    #[must_use]
    pub fn is_current_link(&self, link_hash: &[u8; 16]) -> bool {
        self.get().link_hash == *link_hash
    }
    #[must_use]
    pub fn link_hash(&self) -> [u8; 16] {
        self.get().link_hash
    }
    #[must_use]
    pub fn code_hash(&self) -> [u8; 16] {
        self.get().code_hash
    }
    #[must_use]
    pub fn redemption(&self) -> Option<Redemption<'_>> {
        if let Phase::Used { used_at, redemption, .. } = &self.get().phase {
            Some(Redemption { key: redemption, at: *used_at })
        } else {
            None
        }
    }
    /// Why money went, goes or should go back.
    #[must_use]
    pub fn refund_reason(&self) -> Option<RefundReason> {
        self.get().refund_reason()
    }
    /// The provider's code for a refused payment, a failed send or a failed refund.
    #[must_use]
    pub fn failure_code(&self) -> Option<&str> {
        if let Phase::PaymentFailed { code } | Phase::SendFailed { code, .. } | Phase::RefundFailed { code, .. } =
            &self.get().phase
        {
            Some(code)
        } else {
            None
        }
    }
    /// Nothing left to do and nothing left to hold; the gift may be erased.
    #[must_use]
    pub fn is_terminal(&self) -> bool {
        self.get().is_terminal()
    }
    /// Whether newer time-zone data than `tzdb` was used might move the send instant: resolve
    /// [`GiftState::requested_send_at`] again and send [`super::GiftCommand::ReResolve`].
    #[must_use]
    pub fn wants_resolution(&self, tzdb: &str) -> bool {
        let gift = self.get();
        let unsent = matches!(gift.phase, Phase::PaymentPending { .. } | Phase::Scheduled);
        unsent && gift.send_at.is_civil() && gift.resolved.tzdb != tzdb
    }
    /// The notification log, oldest first, at most [`super::NOTICES_MAX`].
    #[must_use]
    pub fn notices(&self) -> &[Notice] {
        self.get().notices.log()
    }
    /// What waits for an operator; empty for nearly every gift.
    #[must_use]
    pub fn dead_letters(&self) -> Vec<DeadLetter> {
        let gift = self.get();
        let money_held = gift.ledger.held();
        let mut letters = Vec::new();
        let own = |command, cause: &str, attempts, since| DeadLetter {
            letter: Letter::Gift,
            command,
            cause: cause.to_owned(),
            attempts,
            money_held,
            since,
        };
        if let Phase::SendFailed { since, code, .. } = &gift.phase {
            letters.push(own("send", code, gift.delivery.attempt, *since));
        } else if let Phase::RefundFailed { since, code, refund, .. } = &gift.phase {
            letters.push(own("refund", code, refund.number, *since));
        }
        letters.extend(gift.notices.log().iter().filter_map(|notice| {
            let (since, cause) = notice.death()?;
            let (letter, attempts) = (Letter::Notice(notice.number), notice.attempts());
            Some(DeadLetter { letter, command: "notice", cause: cause.to_owned(), attempts, money_held, since })
        }));
        letters
    }
}

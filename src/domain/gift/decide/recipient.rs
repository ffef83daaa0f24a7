//! The recipient's commands. The link is the right; using it proves that the message arrived.

use super::{Desk, Facts, Scratch};
use crate::domain::gift::command::{GiftRejection, Transfer};
use crate::domain::gift::event::{DeliveryFact, Evidence, GiftFact, HandedOn, RefundReason, UseFact};
use crate::domain::gift::state::Phase;
use crate::domain::policy::DeclineRule;

impl Desk<'_> {
    fn check_link(&self, link_hash: [u8; 16]) -> Result<(), GiftRejection> {
        if self.gift.link_hash == link_hash { Ok(()) } else { Err(GiftRejection::LinkDead) }
    }

    /// What the use of the link proves, if it was not known.
    fn proof_of_arrival(&self) -> Option<GiftFact> {
        let known = self.gift.delivery.evidence.is_some_and(Evidence::confirms);
        if self.gift.is_under_way() {
            Some(GiftFact::Delivery(self.delivered(Evidence::LinkOpened, self.now)))
        } else if matches!(self.gift.phase, Phase::Sent) && !known {
            Some(GiftFact::Delivery(DeliveryFact::Confirmed { evidence: Evidence::LinkOpened }))
        } else {
            None
        }
    }

    pub(super) fn opened(&self, link_hash: [u8; 16]) -> Facts {
        self.check_link(link_hash)?;
        if self.gift.is_expired(self.now) {
            return Ok(Vec::new());
        }
        Ok(self.proof_of_arrival().into_iter().collect())
    }

    /// The gift as it is once the use of the link has proven its arrival.
    fn arrived(&self, link_hash: [u8; 16]) -> Result<Scratch, GiftRejection> {
        self.check_link(link_hash)?;
        let mut scratch = Scratch::new(self);
        scratch.take(self.proof_of_arrival().into_iter().collect());
        Ok(scratch)
    }

    /// `Ok` when the gift may be used by its recipient: whether it was accepted before.
    fn usable(&self) -> Result<bool, GiftRejection> {
        let status = self.gift.phase.status();
        match &self.gift.phase {
            Phase::Sent | Phase::Accepted { .. } if self.gift.is_expired(self.now) => Err(GiftRejection::Expired),
            Phase::Sent => Ok(false),
            Phase::Accepted { .. } => Ok(true),
            Phase::Used { .. } => Err(GiftRejection::AlreadyUsed),
            Phase::Expired => Err(GiftRejection::Expired),
            Phase::Refunding(refund) | Phase::RefundFailed { refund, .. } => Err(self.gone(refund.reason)),
            Phase::Refunded { reason } => Err(self.gone(*reason)),
            Phase::PaymentPending { .. }
            | Phase::Scheduled
            | Phase::Sending(_)
            | Phase::SendFailed { .. }
            | Phase::PaymentFailed { .. }
            | Phase::PaymentExpired { .. }
            | Phase::Cancelled { .. }
            | Phase::Declined => Err(GiftRejection::WrongState { status }),
        }
    }

    pub(super) fn gone(&self, reason: RefundReason) -> GiftRejection {
        match reason {
            RefundReason::Expired => GiftRejection::Expired,
            RefundReason::Cancelled
            | RefundReason::PaymentExpired
            | RefundReason::AmountMismatch
            | RefundReason::Declined
            | RefundReason::SendFailed
            | RefundReason::CancelledByProvider => GiftRejection::WrongState { status: self.gift.phase.status() },
        }
    }

    pub(super) fn accept(&self, link_hash: [u8; 16]) -> Facts {
        let mut scratch = self.arrived(link_hash)?;
        if scratch.desk().usable()? {
            return Ok(Vec::new());
        }
        scratch.take(vec![GiftFact::Use(UseFact::Accepted)]);
        Ok(scratch.facts)
    }

    pub(super) fn decline(&self, link_hash: [u8; 16]) -> Facts {
        let declined =
            matches!(self.gift.phase, Phase::Declined) || self.gift.refund_reason() == Some(RefundReason::Declined);
        let mut scratch = self.arrived(link_hash)?;
        if declined {
            return Ok(Vec::new());
        }
        let accepted = scratch.desk().usable()?;
        let policy = &self.gift.product.policy;
        match policy.decline {
            DeclineRule::UntilUsed => {}
            DeclineRule::UntilAccepted if !accepted => {}
            DeclineRule::UntilAccepted | DeclineRule::Never => return Err(GiftRejection::DeclineNotAllowed),
        }
        let refund = scratch.desk().refund_share(RefundReason::Declined, policy.refund.declined_percent);
        scratch.take(std::iter::once(GiftFact::Use(UseFact::Declined)).chain(refund).collect());
        Ok(scratch.facts)
    }

    /// The old link and voucher code die with this record; the new recipient's message leaves at once. `remembers`: the gift
    /// knows its old link still, to say so to whoever follows it.
    pub(super) fn transfer(&self, transfer: Transfer, remembers: bool) -> Facts {
        let mut scratch = self.arrived(transfer.link_hash)?;
        scratch.desk().usable()?;
        if self.gift.transfers_left == 0 {
            return Err(GiftRejection::AlreadyTransferred);
        }
        let channels = transfer.recipient.contacts.default_channels();
        if channels.is_empty() {
            return Err(GiftRejection::NoChannel);
        }
        let same_secrets =
            transfer.new_link_hash == self.gift.link_hash || transfer.new_code_hash == self.gift.code_hash;
        let same_secrets = same_secrets || self.gift.dead_links.contains(&transfer.new_link_hash);
        if same_secrets || transfer.recipient.zone.len() > 64 {
            return Err(GiftRejection::NotReservable);
        }
        let validity = scratch.desk().gift.validity_in(&transfer.recipient.zone, self.now);
        let Transfer { recipient, sealed, new_link_hash: link_hash, new_code_hash: code_hash, .. } = transfer;
        scratch.take(vec![GiftFact::Use(if remembers {
            UseFact::HandedOn(Box::new(HandedOn { recipient, channels, sealed, link_hash, code_hash, validity }))
        } else {
            UseFact::Transferred { recipient, channels, sealed, link_hash, code_hash, validity }
        })]);
        Ok(scratch.facts)
    }
}

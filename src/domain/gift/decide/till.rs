//! The merchant's commands, keyed by merchant, store, terminal and transaction: the same transaction may be repeated, a lost
//! approval may be taken back, and what was taken back can never come again.

use super::{Desk, Facts};
use crate::domain::gift::beside::WalletHold;
use crate::domain::gift::command::{GiftRejection, RedemptionKey};
use crate::domain::gift::event::{GiftFact, NoticeFact, UseFact};
use crate::domain::gift::state::Phase;

/// Bytes of each part of a redemption's key, at most.
const KEY_PART_BYTES_MAX: usize = 64;

impl Desk<'_> {
    fn check_code(&self, code_hash: [u8; 16], redemption: &RedemptionKey) -> Result<(), GiftRejection> {
        let parts = [redemption.store.id(), &redemption.terminal_id, &redemption.transaction_id];
        let sound = parts.iter().all(|part| !part.is_empty() && part.len() <= KEY_PART_BYTES_MAX);
        if !sound {
            return Err(GiftRejection::NotReservable);
        }
        if self.gift.code_hash == code_hash { Ok(()) } else { Err(GiftRejection::NotFound) }
    }

    fn was_taken_back(&self, redemption: &RedemptionKey) -> bool {
        self.gift.cancelled_redemptions.iter().any(|known| known.is_same(redemption))
    }

    pub(super) fn redeem(&self, code_hash: [u8; 16], redemption: RedemptionKey) -> Facts {
        self.check_code(code_hash, &redemption)?;
        let status = self.gift.phase.status();
        match &self.gift.phase {
            Phase::Used { redemption: used_by, .. } if used_by.is_same(&redemption) => Ok(Vec::new()),
            Phase::Used { .. } => Err(GiftRejection::AlreadyUsed),
            Phase::Accepted { .. } if self.was_taken_back(&redemption) => Err(GiftRejection::TransactionCancelled),
            Phase::Accepted { .. } if self.gift.is_expired(self.now) => Err(GiftRejection::Expired),
            Phase::Accepted { .. } => Ok(vec![GiftFact::Use(UseFact::Redeemed { redemption })]),
            Phase::Sending(_) | Phase::Sent | Phase::SendFailed { .. } => Err(GiftRejection::NotAccepted),
            // Nobody can know the code yet.
            Phase::PaymentPending { .. }
            | Phase::Scheduled
            | Phase::PaymentFailed { .. }
            | Phase::PaymentExpired { .. }
            | Phase::Cancelled { .. } => Err(GiftRejection::NotFound),
            Phase::Expired => Err(GiftRejection::Expired),
            Phase::Declined => Err(GiftRejection::WrongState { status }),
            Phase::Refunding(refund) | Phase::RefundFailed { refund, .. } => Err(self.gone(refund.reason)),
            Phase::Refunded { reason } => Err(self.gone(*reason)),
        }
    }

    pub(super) fn cancel_redeem(&self, code_hash: [u8; 16], redemption: RedemptionKey) -> Facts {
        self.check_code(code_hash, &redemption)?;
        if self.was_taken_back(&redemption) {
            return Ok(Vec::new());
        }
        match &self.gift.phase {
            Phase::Used { redemption: used_by, .. } if !used_by.is_same(&redemption) => Err(GiftRejection::AlreadyUsed),
            Phase::Used { used_at, .. } => {
                let latest = *used_at + self.gift.product.policy.net_cancel_window;
                let spent = self.gift.beside.wallet == Some(WalletHold::Closed);
                if self.gift.sealed.is_none() || self.now > latest || spent {
                    return Err(GiftRejection::TooLateToCancel);
                }
                // Its use had ended the reminders.
                let next = self.gift.validity_from(self.now).reminder;
                let reminded = GiftFact::Notice(NoticeFact::ReminderMoved { next });
                Ok(vec![GiftFact::Use(UseFact::RedemptionCancelled { redemption }), reminded])
            }
            // The approval that is taken back has not come yet: it is kept out.
            Phase::Sending(_) | Phase::Sent | Phase::SendFailed { .. } | Phase::Accepted { .. } => {
                Ok(vec![GiftFact::Use(UseFact::RedemptionCancelled { redemption })])
            }
            Phase::PaymentPending { .. }
            | Phase::Scheduled
            | Phase::PaymentFailed { .. }
            | Phase::PaymentExpired { .. }
            | Phase::Cancelled { .. } => Err(GiftRejection::NotFound),
            // It can never be redeemed again, by anyone.
            Phase::Declined
            | Phase::Expired
            | Phase::Refunding(_)
            | Phase::Refunded { .. }
            | Phase::RefundFailed { .. } => Ok(Vec::new()),
        }
    }
}

//! What other entities answered: the coupon that the gift pays with, and the sender's wallet.

use super::Desk;
use crate::domain::gift::beside::{WalletHold, captured_by_coupon};
use crate::domain::gift::event::{CouponFact, GiftFact, PaymentFact};
use crate::domain::gift::names;
use crate::domain::tender::{UseAnswer, is_returned};
use crate::types::call::EntityOutcome;
use crate::types::effect::Slot;

impl Desk<'_> {
    /// Nothing follows from an answer that nobody waits for, nor from one that nobody knows: it is asked for again.
    pub(super) fn entity_outcome(&self, slot: Slot, outcome: &EntityOutcome) -> Vec<GiftFact> {
        match slot {
            names::COUPON_USE if self.gift.awaits_coupon() => self.coupon_answered(UseAnswer::of(outcome)),
            names::COUPON_RETURN if self.coupon_is_owed() && is_returned(outcome) => {
                vec![GiftFact::Coupon(CouponFact::Returned)]
            }
            names::WALLET_CLOSE if self.wallet_closes() && !matches!(outcome, EntityOutcome::Unknown { .. }) => {
                vec![GiftFact::Payment(PaymentFact::HoldClosed)]
            }
            names::COUPON_USE | names::COUPON_RETURN | names::WALLET_CLOSE => Vec::new(),
            Slot(_) => match self.gift.as_payment(slot, outcome, self.now) {
                Some(outcome) => self.money_outcome(slot, outcome),
                None => Vec::new(),
            },
        }
    }

    fn coupon_answered(&self, answer: UseAnswer) -> Vec<GiftFact> {
        match answer {
            UseAnswer::Open => Vec::new(),
            UseAnswer::Refused { code } => vec![GiftFact::Payment(PaymentFact::Refused { code: code.to_owned() })],
            UseAnswer::Used => {
                let used = GiftFact::Coupon(CouponFact::Used);
                std::iter::once(used).chain(captured_by_coupon(self.gift.payment.amount, self.now)).collect()
            }
        }
    }

    fn coupon_is_owed(&self) -> bool {
        self.gift.beside.coupon.is_some_and(|coupon| coupon.owed_since().is_some())
    }

    fn wallet_closes(&self) -> bool {
        matches!(self.gift.beside.wallet, Some(WalletHold::Closing { .. }))
    }
}

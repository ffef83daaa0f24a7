//! What a gift has with other entities: a coupon that it pays with, and a hold on the sender's wallet.
//!
//! | of | while the gift | wants |
//! |---|---|---|
//! | coupon, free | waits for its payment, which begins when the coupon is used | Use |
//! | coupon, not given back | is undone: not paid, cancelled, refunded whole | Restore |
//! | wallet, open | waits for its payment | Hold |
//! | wallet, open | was cancelled or timed out while it waited | Release |
//! | wallet, open | is refunded | Settle: what is kept is spent, the rest goes back |
//! | wallet, closing | failed to be paid, or was given up before it was asked for | Release |
//! | wallet, closing | is used beyond the till's time to take it back, or its money is kept | Confirm |
//!
//! Money of a wallet is held for as long as the gift may have to give it back, and spent only then. A coupon and a wallet
//! that were told to stand back keep out a use or a hold that comes late, so both are told whenever a payment failed,
//! whatever was answered before.

use super::command::PaymentTerms;
use super::event::{GiftFact, PaymentFact};
use super::names;
use super::state::{Call, Gift, Phase, Refund};
use crate::domain::policy::PaymentMethod;
use crate::domain::tender::{CouponHold, CouponTerms, HeldCoupon};
use crate::domain::wallet::{HoldRefusal, WalletCommand, hold_refusal, wallet_key};
use crate::types::call::{CallRequest, EntityOutcome, EntityRequest, PaymentOutcome, RefusalClass};
use crate::types::codec;
use crate::types::effect::{CallWant, Guard, Lane, Slot};
use crate::types::ids::EntityKey;
use crate::types::money::Money;
use crate::types::time::{Millis, Timestamp};
use serde::{Deserialize, Serialize};

/// Beyond a till's time to take a redemption back, for the clocks of the leaders in between.
const CLOSING_SLACK: Millis = Millis::from_mins(1);

/// What a gift has with other entities. Persisted behind the gift, when there is any: append only.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Beside {
    pub coupon: Option<HeldCoupon>,
    pub wallet: Option<WalletHold>,
}

/// The gift's hold on the sender's wallet. Persisted: variants are append only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum WalletHold {
    /// Not asked for yet, asked for, or held.
    Open,
    /// Released or confirmed at `due`.
    Closing {
        due: Timestamp,
    },
    Closed,
}

impl Beside {
    pub fn of(payment: PaymentTerms, coupon: Option<CouponTerms>) -> Self {
        let by_wallet = payment.method == PaymentMethod::Balance && !payment.amount.is_zero();
        Self { coupon: coupon.map(HeldCoupon::new), wallet: by_wallet.then_some(WalletHold::Open) }
    }

    pub fn is_empty(&self) -> bool {
        self.coupon.is_none() && self.wallet.is_none()
    }
}

impl Gift {
    /// The money is the wallet's, not a payment provider's.
    pub fn pays_by_wallet(&self) -> bool {
        self.beside.wallet.is_some()
    }

    /// The payment waits for the coupon.
    pub fn awaits_coupon(&self) -> bool {
        matches!(self.phase, Phase::PaymentPending { .. })
            && self.beside.coupon.is_some_and(|coupon| coupon.hold == CouponHold::Free)
    }

    /// Nothing is to be given back or to be closed any more.
    pub fn is_settled_beside(&self) -> bool {
        let coupon = self.beside.coupon.is_none_or(|coupon| coupon.owed_since().is_none());
        coupon && matches!(self.beside.wallet, None | Some(WalletHold::Closed))
    }

    /// What every event leads to for the coupon and the hold, as a function of the phase that it led to.
    pub fn settle_beside(&mut self, at: Timestamp) {
        if self.beside.is_empty() {
            return;
        }
        let (undone, due) = (self.is_undone(), self.closes_at(at));
        if let Some(coupon) = self.beside.coupon.as_mut().filter(|_| undone) {
            coupon.owe(at);
        }
        if let Some(wallet) = &mut self.beside.wallet {
            *wallet = match (*wallet, due) {
                (WalletHold::Closed, _) => WalletHold::Closed,
                (WalletHold::Open | WalletHold::Closing { .. }, None) => WalletHold::Open,
                (WalletHold::Open, Some(due)) => WalletHold::Closing { due },
                (closing @ WalletHold::Closing { .. }, Some(_)) => closing,
            };
        }
    }

    /// It is as if the gift had never been: nothing of it was used or kept.
    fn is_undone(&self) -> bool {
        match &self.phase {
            Phase::PaymentFailed { .. } => true,
            Phase::PaymentExpired { lookup } | Phase::Cancelled { lookup } => lookup.is_none(),
            Phase::Refunded { .. } => self.ledger.used().is_zero(),
            Phase::PaymentPending { .. }
            | Phase::Scheduled
            | Phase::Sending(_)
            | Phase::Sent
            | Phase::Accepted { .. }
            | Phase::Used { .. }
            | Phase::Declined
            | Phase::SendFailed { .. }
            | Phase::Expired
            | Phase::Refunding(_)
            | Phase::RefundFailed { .. } => false,
        }
    }

    /// When a hold that is still open has to be closed by itself.
    fn closes_at(&self, at: Timestamp) -> Option<Timestamp> {
        match &self.phase {
            Phase::PaymentFailed { .. } | Phase::Declined | Phase::Expired | Phase::Refunded { .. } => Some(at),
            Phase::PaymentExpired { lookup } | Phase::Cancelled { lookup } => lookup.is_none().then_some(at),
            Phase::Used { used_at, .. } => Some(*used_at + self.product.policy.net_cancel_window + CLOSING_SLACK),
            Phase::PaymentPending { .. }
            | Phase::Scheduled
            | Phase::Sending(_)
            | Phase::Sent
            | Phase::Accepted { .. }
            | Phase::SendFailed { .. }
            | Phase::Refunding(_)
            | Phase::RefundFailed { .. } => None,
        }
    }

    /// The hold is closed: nothing of this gift is in the wallet's hands any more.
    pub fn close_wallet(&mut self) {
        if let Some(wallet) = &mut self.beside.wallet {
            *wallet = WalletHold::Closed;
        }
    }

    /// The slot of the call that finds out about the payment: for a wallet, holding and letting go are two.
    pub fn payment_slot(&self) -> Slot {
        let given_up = matches!(self.phase, Phase::PaymentExpired { .. } | Phase::Cancelled { .. });
        if given_up && self.pays_by_wallet() { names::WALLET_RELEASE } else { names::PAYMENT }
    }

    /// A call about money: fenced at a payment provider, repeatable at a wallet.
    pub fn money_want(&self, slot: Slot, call: &Call) -> CallWant {
        if self.pays_by_wallet() {
            return of_entity(slot, call.due);
        }
        CallWant { slot, lane: Lane::Payment, due: call.due, guard: Guard::Fenced, open: call.open }
    }

    /// Calls to other entities beside the payment's own.
    pub fn calls_beside(&self) -> impl Iterator<Item = CallWant> + '_ {
        let coupon = self.beside.coupon;
        let to_use = self.pending_payment().filter(|_| self.awaits_coupon());
        let to_use = to_use.map(|call| of_entity(names::COUPON_USE, call.due));
        let owed = coupon.and_then(|coupon| coupon.owed_since());
        let owed = owed.map(|since| of_entity(names::COUPON_RETURN, since));
        let closing = match self.beside.wallet {
            Some(WalletHold::Closing { due }) => Some(of_entity(names::WALLET_CLOSE, due)),
            Some(WalletHold::Open | WalletHold::Closed) | None => None,
        };
        [to_use, owed, closing].into_iter().flatten()
    }

    /// The call to another entity behind a slot; `None` when it is none, or not wanted.
    pub fn entity_request(&self, key: EntityKey, slot: Slot) -> Option<CallRequest> {
        if let Some(coupon) = self.beside.coupon {
            if slot == names::COUPON_USE && self.awaits_coupon() {
                let number = number_of(slot, self.pending_payment()?.due);
                return Some(CallRequest::Entity(coupon.use_request(key, &self.owner, number)));
            }
            if let (names::COUPON_RETURN, Some(since)) = (slot, coupon.owed_since()) {
                return Some(CallRequest::Entity(coupon.return_request(key, number_of(slot, since))));
            }
        }
        let hold = self.beside.wallet?;
        let (command, stamp) = self.wallet_command(key, slot, hold)?;
        let target = wallet_key(&self.owner);
        let number = number_of(slot, stamp);
        Some(CallRequest::Entity(EntityRequest::of(key, number, target, codec::encode(&command))))
    }

    /// Stamped with the instant from which this try is wanted: what the gift does later has a later one.
    fn wallet_command(&self, holder: EntityKey, slot: Slot, hold: WalletHold) -> Option<(WalletCommand, Timestamp)> {
        if let (names::WALLET_CLOSE, WalletHold::Closing { due: stamp }) = (slot, hold) {
            return Some((self.closing_command(holder, stamp), stamp));
        }
        if let Phase::Refunding(Refund { amount, number, call, .. }) = &self.phase
            && slot == names::refund_slot(*number)
        {
            let (stamp, kept) = (call.due, self.ledger.held().checked_sub(*amount).ok()?);
            let in_full = kept.is_zero();
            let in_part = WalletCommand::Settle { holder, spend: kept, stamp };
            return Some((if in_full { WalletCommand::Release { holder, stamp } } else { in_part }, stamp));
        }
        let stamp = self.payment_call().filter(|_| slot == self.payment_slot())?.due;
        let command = match slot {
            names::PAYMENT => WalletCommand::Hold { holder, amount: self.payment.amount, stamp },
            Slot(_) => WalletCommand::Release { holder, stamp },
        };
        Some((command, stamp))
    }

    /// What was never paid goes back; what was used, kept or settled by hand is spent.
    fn closing_command(&self, holder: EntityKey, stamp: Timestamp) -> WalletCommand {
        match &self.phase {
            Phase::Used { .. } | Phase::Declined | Phase::Expired | Phase::Refunded { .. } => {
                WalletCommand::Confirm { holder, stamp }
            }
            Phase::PaymentFailed { .. }
            | Phase::PaymentExpired { .. }
            | Phase::Cancelled { .. }
            | Phase::PaymentPending { .. }
            | Phase::Scheduled
            | Phase::Sending(_)
            | Phase::Sent
            | Phase::Accepted { .. }
            | Phase::SendFailed { .. }
            | Phase::Refunding(_)
            | Phase::RefundFailed { .. } => WalletCommand::Release { holder, stamp },
        }
    }

    /// What a wallet's answer under `slot` means for the payment, in a payment provider's words. `None`: nothing waits for
    /// it, or nobody knows and it is asked again.
    pub fn as_payment(&self, slot: Slot, outcome: &EntityOutcome, now: Timestamp) -> Option<PaymentOutcome> {
        if !self.pays_by_wallet() || matches!(outcome, EntityOutcome::Unknown { .. }) {
            return None;
        }
        if let Phase::Refunding(refund) = &self.phase {
            let told = match outcome {
                EntityOutcome::Done { .. } => PaymentOutcome::Refunded { amount: refund.amount, at: now },
                EntityOutcome::Rejected { .. } | EntityOutcome::Unknown { .. } => {
                    PaymentOutcome::RefundRefused { code: "wallet_refused".to_owned(), class: RefusalClass::Retry }
                }
            };
            return (slot == names::refund_slot(refund.number)).then_some(told);
        }
        match (slot, outcome) {
            (names::PAYMENT, EntityOutcome::Done { .. }) => {
                Some(PaymentOutcome::Captured { provider: "wallet".to_owned(), amount: self.payment.amount, at: now })
            }
            (names::PAYMENT, EntityOutcome::Rejected { rejection }) => Some(refused(rejection)),
            (names::WALLET_RELEASE, _) => Some(PaymentOutcome::NotCaptured { code: "released".to_owned() }),
            (_, _) => None,
        }
    }
}

fn of_entity(slot: Slot, due: Timestamp) -> CallWant {
    CallWant { slot, lane: Lane::Entity, due, guard: Guard::Repeatable, open: None }
}

/// The number of a call, from which its id follows: another try has another instant.
fn number_of(slot: Slot, due: Timestamp) -> u64 {
    u64::from(slot.0) << 48 | (u64::try_from(due.0).unwrap_or(0) & 0xFFFF_FFFF_FFFF)
}

/// One that may pass is worth another try, under a fresh stamp.
fn refused(rejection: &[u8]) -> PaymentOutcome {
    match hold_refusal(rejection) {
        HoldRefusal::ForNow { code } => PaymentOutcome::NotSent { cause: code.to_owned() },
        HoldRefusal::ForGood { code } => PaymentOutcome::NotCaptured { code: code.to_owned() },
    }
}

/// What the coupon paid whole is captured with it.
pub(super) fn captured_by_coupon(amount: Money, now: Timestamp) -> Option<GiftFact> {
    let provider = "coupon".to_owned();
    amount.is_zero().then_some(GiftFact::Payment(PaymentFact::Captured { provider, amount, captured_at: now }))
}

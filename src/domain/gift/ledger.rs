//! The money of one gift. INV-4: `paid = held + used + refunded` after every event.

use crate::types::money::{Currency, Money};
use serde::{Deserialize, Serialize};

/// Minor units of one currency. Only the movements below change it, and each keeps the sum.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ledger {
    currency: Currency,
    paid: i64,
    used: i64,
    refunded: i64,
}

impl Ledger {
    #[must_use]
    pub(super) fn empty(currency: Currency) -> Self {
        Self { currency, paid: 0, used: 0, refunded: 0 }
    }
    fn money(&self, minor: i64) -> Money {
        Money { minor, currency: self.currency }
    }
    /// Captured from the sender.
    #[must_use]
    pub fn paid(&self) -> Money {
        self.money(self.paid)
    }
    /// Neither used nor given back yet: what is left of `paid`, so that the sum holds by construction.
    #[must_use]
    pub fn held(&self) -> Money {
        self.money(self.paid - self.used - self.refunded)
    }
    /// Earned by a redemption, or kept because a policy refunds a share only.
    #[must_use]
    pub fn used(&self) -> Money {
        self.money(self.used)
    }
    #[must_use]
    pub fn refunded(&self) -> Money {
        self.money(self.refunded)
    }
    /// Every part within what was paid.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        self.paid >= 0 && self.used >= 0 && self.refunded >= 0 && self.held().minor >= 0
    }

    pub(super) fn capture(&mut self, amount: Money) {
        self.paid = self.paid.saturating_add(amount.minor.max(0));
    }
    /// All that is held becomes used.
    pub(super) fn spend_held(&mut self) {
        self.used += self.held().minor;
    }
    /// The till took its redemption back.
    pub(super) fn unspend(&mut self) {
        self.used = 0;
    }
    /// The provider says how much went back in total. Never more than is not used.
    pub(super) fn refund_to(&mut self, total: Money) {
        self.refunded = total.minor.clamp(self.refunded, self.paid - self.used);
    }
}

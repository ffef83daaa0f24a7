//! What the front door may see of an order.

use super::command::Method;
use super::state::{Line, OrderState, Phase, Placed, Shipped, Status};
use crate::domain::notices::Notice;
use crate::domain::steps::{Paid, StepLetter};
use crate::domain::tender::HeldCoupon;
use crate::types::money::Money;
use crate::types::time::Timestamp;

impl OrderState {
    #[must_use]
    pub fn exists(&self) -> bool {
        self.order.is_some()
    }

    /// # Panics
    /// For an order that does not exist; a committed answer's always does.
    fn get(&self) -> &Placed {
        self.order.as_deref().expect("a committed order exists")
    }
    #[must_use]
    pub fn status(&self) -> Status {
        self.get().status()
    }
    /// `sub` of the buyer.
    #[must_use]
    pub fn owner(&self) -> &str {
        &self.get().owner
    }
    #[must_use]
    pub fn lines(&self) -> &[Line] {
        &self.get().lines
    }
    #[must_use]
    pub fn amount(&self) -> Money {
        self.get().amount
    }
    /// What pays beside money.
    #[must_use]
    pub fn coupon(&self) -> Option<HeldCoupon> {
        self.get().coupon
    }
    #[must_use]
    pub fn method(&self) -> Method {
        self.get().method
    }
    /// Nobody can read its address and payment key any more.
    #[must_use]
    pub fn is_erased(&self) -> bool {
        self.get().sealed.is_none()
    }
    /// Captured so far.
    #[must_use]
    pub fn paid(&self) -> Money {
        self.get().money().0
    }
    #[must_use]
    pub fn refunded(&self) -> Money {
        self.get().money().1
    }
    #[must_use]
    pub fn paid_state(&self) -> &Paid {
        &self.get().paid
    }
    #[must_use]
    pub fn shipped(&self) -> &Shipped {
        &self.get().shipped
    }
    #[must_use]
    pub fn cancel_requested(&self) -> bool {
        self.get().cancel_requested
    }
    /// Whether it is undone, or was: it goes forward no more.
    #[must_use]
    pub fn is_undone(&self) -> bool {
        self.get().reason.is_some()
    }
    /// Whether it is undone because its owner asked for that.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        self.get().reason.as_ref().is_some_and(|reason| reason.cancelled)
    }
    /// Why it failed or is compensated; of a stuck order, why it is stuck.
    #[must_use]
    pub fn failure_code(&self) -> Option<&str> {
        let order = self.get();
        match &order.phase {
            Phase::Stuck { code, .. } => Some(code),
            Phase::Running(_) | Phase::Completed | Phase::Failed | Phase::Cancelled => {
                order.reason.as_ref().map(|reason| reason.code.as_str())
            }
        }
    }
    /// The step under way, or the one that is stuck.
    #[must_use]
    pub fn step(&self) -> Option<&'static str> {
        match &self.get().phase {
            Phase::Running(running) | Phase::Stuck { running, .. } => Some(running.step.name()),
            Phase::Completed | Phase::Failed | Phase::Cancelled => None,
        }
    }
    #[must_use]
    pub fn created_at(&self) -> Timestamp {
        self.get().created_at
    }
    #[must_use]
    pub fn updated_at(&self) -> Timestamp {
        self.get().updated_at
    }
    /// The notification log, oldest first; empty when the buyer is told nothing.
    #[must_use]
    pub fn notices(&self) -> &[Notice] {
        self.get().notice_log()
    }
    /// Notices that were given up, by their number.
    #[must_use]
    pub fn notice_letters(&self) -> Vec<(u16, StepLetter)> {
        self.get().notice_letters()
    }
    #[must_use]
    pub fn letter(&self) -> Option<StepLetter> {
        let order = self.get();
        let Phase::Stuck { since, code, running } = &order.phase else { return None };
        Some(running.letter(running.step.name(), code, &order.paid, *since))
    }
}

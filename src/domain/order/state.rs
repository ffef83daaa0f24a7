//! The state of an order. Persisted as it is: fields and variants are append only, golden bytes in the tests.

use super::command::{Method, Step, StepLimits};
use super::telling::Telling;
use crate::domain::steps::{self, Paid};
use crate::domain::stored::{Grown, GrownRef, Stored, StoredRef};
use crate::domain::tender::{CouponHold, HeldCoupon};
use crate::types::money::Money;
use crate::types::record::Sealed;
use crate::types::time::{Millis, Timestamp};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;

/// An order, or (by default) one that does not exist yet.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OrderState {
    pub(super) order: Option<Box<Placed>>,
}

impl Serialize for OrderState {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let order = self.order.as_deref();
        let state = StoredRef::of(order.map(|order| (order, order.coupon.as_ref())));
        GrownRef::of(&state, order.and_then(|order| order.telling.as_ref())).serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for OrderState {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let Grown(state, telling) = Grown::<Stored<Placed, HeldCoupon>, Telling>::deserialize(deserializer)?;
        let order = state.into_parts().map(|(mut order, coupon)| {
            order.coupon = coupon;
            order.telling = telling;
            order
        });
        Ok(Self { order })
    }
}

/// An existing order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Placed {
    pub owner: String,
    pub lines: Vec<Line>,
    /// To be paid in money.
    pub amount: Money,
    pub method: Method,
    pub limits: StepLimits,
    /// `None` once forgotten.
    pub sealed: Option<Sealed>,
    pub paid: Paid,
    pub shipped: Shipped,
    pub phase: Phase,
    /// Number of the call that is wanted, from 1.
    pub number: u16,
    pub cancel_requested: bool,
    /// Why it is compensated.
    pub reason: Option<Reason>,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
    /// Written beside the rest, see [`OrderState`].
    #[serde(skip)]
    pub coupon: Option<HeldCoupon>,
    /// Written behind the rest. `None`: the buyer is told nothing.
    #[serde(skip)]
    pub telling: Option<Telling>,
}

/// Units of one stock-keeping unit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Line {
    pub sku: String,
    pub quantity: u32,
    /// Of one unit.
    pub price: Money,
    pub hold: LineHold,
}

/// What the order has of a stock.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum LineHold {
    Free,
    Held,
    /// May be held.
    Doubtful,
    Confirmed,
    Released,
}

/// Where the goods are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Shipped {
    No,
    /// May have been prepared.
    Doubtful,
    Prepared {
        provider: String,
        tracking: String,
        at: Timestamp,
    },
    Cancelled,
}

/// Where the saga stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Phase {
    Running(Running),
    /// `running` is what a replay continues.
    Stuck {
        since: Timestamp,
        code: String,
        running: Running,
    },
    Completed,
    Failed,
    Cancelled,
}

/// A step under way, and when it is given up if it is a forward one.
pub(super) type Running = steps::Running<Step, Option<Timestamp>>;

/// Why an order is compensated.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Reason {
    pub code: String,
    /// The owner asked for it.
    pub cancelled: bool,
}

/// Where an order stands, as the front door names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Status {
    Payment,
    Inventory,
    Shipping,
    Completed,
    Compensating,
    Failed,
    Cancelled,
    Stuck,
}

impl Status {
    pub const ALL: [Self; 8] = [
        Self::Payment,
        Self::Inventory,
        Self::Shipping,
        Self::Completed,
        Self::Compensating,
        Self::Failed,
        Self::Cancelled,
        Self::Stuck,
    ];

    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Payment => "payment",
            Self::Inventory => "inventory",
            Self::Shipping => "shipping",
            Self::Completed => "completed",
            Self::Compensating => "compensating",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
            Self::Stuck => "stuck",
        }
    }
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|status| status.name() == name)
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl Placed {
    /// The step that comes next, by what is done; `None`: all of it.
    pub fn next_step(&self) -> Option<Step> {
        if self.reason.is_some() { self.next_back() } else { self.next_forward() }
    }

    fn next_forward(&self) -> Option<Step> {
        if self.coupon_is(|hold| hold == CouponHold::Free) {
            return Some(Step::UseCoupon);
        }
        if self.paid == Paid::No && !self.amount.is_zero() {
            return Some(Step::Pay);
        }
        if let Some(line) = self.line_with(|hold| hold == LineHold::Free) {
            return Some(Step::Reserve(line));
        }
        if self.shipped == Shipped::No {
            return Some(Step::Ship);
        }
        if let Some(line) = self.line_with(|hold| hold == LineHold::Held) {
            return Some(Step::Confirm(line));
        }
        let to_settle = self.method == Method::Balance && matches!(self.paid, Paid::Held { .. });
        to_settle.then_some(Step::Settle)
    }

    fn next_back(&self) -> Option<Step> {
        if matches!(self.shipped, Shipped::Doubtful | Shipped::Prepared { .. }) {
            return Some(Step::Unship);
        }
        let taken = |hold: LineHold| matches!(hold, LineHold::Held | LineHold::Doubtful);
        let last = self.lines.iter().rposition(|line| taken(line.hold));
        if let Some(line) = last.and_then(|line| u8::try_from(line).ok()) {
            return Some(Step::Release(line));
        }
        match (&self.paid, self.method) {
            (Paid::Doubtful { .. }, Method::Card) => Some(Step::FindPayment),
            (Paid::Doubtful { .. }, Method::Balance) | (Paid::Held { .. }, _) => Some(Step::Refund),
            (Paid::No | Paid::Spent { .. } | Paid::Back { .. }, _) => {
                self.coupon_is(|hold| hold != CouponHold::Returned).then_some(Step::GiveCoupon)
            }
        }
    }

    fn coupon_is(&self, wanted: impl Fn(CouponHold) -> bool) -> bool {
        self.coupon.is_some_and(|coupon| wanted(coupon.hold))
    }

    fn line_with(&self, wanted: impl Fn(LineHold) -> bool) -> Option<u8> {
        let line = self.lines.iter().position(|line| wanted(line.hold))?;
        u8::try_from(line).ok()
    }

    pub fn line(&self, line: u8) -> Option<&Line> {
        self.lines.get(usize::from(line))
    }

    pub fn running(&self) -> Option<&Running> {
        match &self.phase {
            Phase::Running(running) => Some(running),
            Phase::Stuck { .. } | Phase::Completed | Phase::Failed | Phase::Cancelled => None,
        }
    }

    /// How long a step may take; compensation and what follows the point of no return take as long as it takes.
    pub fn limit(&self, step: Step) -> Option<Millis> {
        match step {
            Step::UseCoupon | Step::Pay => Some(self.limits.payment),
            Step::Reserve(_) => Some(self.limits.inventory),
            Step::Ship => Some(self.limits.shipping),
            Step::Confirm(_)
            | Step::Settle
            | Step::Unship
            | Step::Release(_)
            | Step::FindPayment
            | Step::Refund
            | Step::GiveCoupon => None,
        }
    }

    /// Nothing left to do and nothing left to hold (INV-9).
    pub fn is_terminal(&self) -> bool {
        matches!(self.phase, Phase::Completed | Phase::Failed | Phase::Cancelled)
    }

    pub fn status(&self) -> Status {
        match &self.phase {
            Phase::Stuck { .. } => Status::Stuck,
            Phase::Completed => Status::Completed,
            Phase::Failed => Status::Failed,
            Phase::Cancelled => Status::Cancelled,
            Phase::Running(running) => match running.step {
                Step::UseCoupon | Step::Pay => Status::Payment,
                Step::Reserve(_) => Status::Inventory,
                Step::Ship | Step::Confirm(_) | Step::Settle => Status::Shipping,
                Step::Unship | Step::Release(_) | Step::FindPayment | Step::Refund | Step::GiveCoupon => {
                    Status::Compensating
                }
            },
        }
    }

    /// What was captured for it, and what of that went back.
    pub fn money(&self) -> (Money, Money) {
        self.paid.money()
    }
}

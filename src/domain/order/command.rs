//! What may be asked of an order, what happens to it, and how it says no. Events are persisted: tags are the variant
//! order, append only, golden bytes in the tests. Commands travel between nodes, but are never persisted.

use super::state::Status;
use crate::domain::calling::{CallStarted, Doubt};
use crate::domain::gift::ContactSet;
use crate::domain::notices::NoticeResult;
use crate::domain::tender::CouponTerms;
use crate::types::call::{CallOutcome, Report, ShipTo};
use crate::types::contact::Private;
use crate::types::effect::Slot;
use crate::types::kind::AttemptStart;
use crate::types::money::Money;
use crate::types::record::Sealed;
use crate::types::time::{Millis, Timestamp};
use serde::{Deserialize, Serialize};

/// Lines of one order, at most.
pub const LINES_MAX: usize = 20;
/// Units of one line, at most.
pub const QUANTITY_MAX: u32 = 10_000;

/// What may be asked of an order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum OrderCommand {
    Create(Box<NewOrder>),
    Cancel,
    Replay {
        actor: String,
    },
    /// What is stuck was done by hand.
    Discard {
        actor: String,
        reason: String,
    },
    Timer(Slot),
    Attempt(AttemptStart),
    Outcomes(Vec<(Slot, CallOutcome)>),
    /// A payment webhook's hint: whatever is unknown about the money is looked up at once.
    Hint,
    /// As [`OrderCommand::Create`], paid in part or whole with a coupon.
    CreateWith(Box<NewOrder>, CouponTerms),
    /// Destroys the personal data of an order that is done.
    Erase,
    /// As [`OrderCommand::Create`] or [`OrderCommand::CreateWith`]; the buyer is told how it stands, over what the
    /// contacts allow.
    CreateTelling(Box<NewOrder>, Option<CouponTerms>, ContactSet),
    /// Of a message.
    Report(Report),
    ReplayNotice {
        actor: String,
        number: u16,
    },
    DiscardNotice {
        actor: String,
        number: u16,
        reason: String,
    },
}

/// A new order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewOrder {
    /// `sub` of the buyer.
    pub owner: String,
    pub lines: Vec<NewLine>,
    pub method: Method,
    /// [`Personal`], sealed.
    pub sealed: Sealed,
    pub limits: StepLimits,
}

/// Units of one stock-keeping unit, at the price that was promised.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewLine {
    pub sku: String,
    pub quantity: u32,
    /// Of one unit.
    pub price: Money,
}

/// How an order is paid.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Method {
    Card,
    /// The owner's wallet.
    Balance,
}

impl Method {
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Card => "card",
            Self::Balance => "balance",
        }
    }
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        [Self::Card, Self::Balance].into_iter().find(|method| method.name() == name)
    }
}

/// How long each forward step may take before it is given up. In the event, so that a later change leaves old orders be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepLimits {
    pub payment: Millis,
    /// For each line.
    pub inventory: Millis,
    pub shipping: Millis,
}

impl Default for StepLimits {
    fn default() -> Self {
        Self { payment: Millis::from_mins(5), inventory: Millis::from_mins(10), shipping: Millis::from_days(1) }
    }
}

/// What names or reaches a person, and the payment's secret. Encoded with `types::codec`, then sealed; how the buyer is
/// reached stands behind it ([`crate::domain::stored::Grown`]).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Personal {
    /// `None` for a payment from the wallet.
    pub payment_key: Option<Private<String>>,
    pub ship_to: Option<Private<ShipTo>>,
}

/// One call of the saga. A number is the position of a line. Persisted: append only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Step {
    Pay,
    Reserve(u8),
    Ship,
    Confirm(u8),
    /// The wallet's hold becomes spent.
    Settle,
    Unship,
    Release(u8),
    /// Whether a payment was captured whose outcome nobody waited for.
    FindPayment,
    Refund,
    UseCoupon,
    /// The coupon may be used again.
    GiveCoupon,
}

impl Step {
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Pay => "payment",
            Self::Reserve(_) => "inventory_reserve",
            Self::Ship => "shipping",
            Self::Confirm(_) => "inventory_confirm",
            Self::Settle => "wallet_confirm",
            Self::Unship => "shipping_cancel",
            Self::Release(_) => "inventory_release",
            Self::FindPayment => "payment_lookup",
            Self::Refund => "refund",
            Self::UseCoupon => "coupon_use",
            Self::GiveCoupon => "coupon_return",
        }
    }
}

/// One event: when, and what.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OrderEvent {
    pub at: Timestamp,
    pub fact: OrderFact,
}

/// What happened to an order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum OrderFact {
    Created(Box<NewOrder>),
    PaymentRequested {
        method: Method,
        amount: Money,
    },
    /// A fenced call begins.
    Attempted {
        step: Step,
        started: CallStarted,
    },
    Undecided {
        step: Step,
        doubt: Doubt,
        retry_at: Timestamp,
    },
    /// Refused for sure, tried again under a new number.
    Refused {
        step: Step,
        code: String,
        retry_at: Timestamp,
    },
    Paid {
        provider: String,
        amount: Money,
    },
    Reserved {
        line: u8,
        sku: String,
        quantity: u32,
    },
    Shipped {
        provider: String,
        tracking: String,
        prepared_at: Timestamp,
    },
    Confirmed {
        line: u8,
        sku: String,
        quantity: u32,
    },
    Settled,
    Completed,
    CancelRequested,
    /// What was done is undone from here on. `doubtful`: the step under way may have been done.
    Compensating {
        step: Step,
        code: String,
        cancelled: bool,
        doubtful: bool,
    },
    Unshipped,
    Released {
        line: u8,
        sku: String,
        quantity: u32,
    },
    /// Nothing was paid, and nothing will be.
    PaymentRuledOut {
        code: String,
    },
    Refunded {
        amount: Money,
    },
    Failed {
        code: String,
    },
    Cancelled,
    /// A dead letter: nothing more is tried until an operator says so.
    Stuck {
        step: Step,
        code: String,
    },
    Replayed {
        actor: String,
    },
    Discarded {
        step: Step,
        actor: String,
        reason: String,
    },
    Hinted,
    /// Done for longer than the retention: personal data and journal are gone.
    Forgotten,
    CreatedWith(Box<NewOrder>, CouponTerms),
    CouponUsed,
    CouponReturned,
    Erased,
    /// The buyer is told how it stands, from here on.
    TellsBuyer {
        contacts: ContactSet,
    },
    /// What became of tries at telling it.
    NoticesSettled(Vec<NoticeResult>),
    NoticeReplayed {
        number: u16,
        actor: String,
    },
    NoticeDiscarded {
        number: u16,
        actor: String,
        reason: String,
    },
}

/// Business says no; nothing was changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum OrderRejection {
    #[error("no such order")]
    NotFound,
    #[error("the order exists already")]
    AlreadyExists,
    #[error("lines, quantities or amount of the order are out of their range")]
    NotAcceptable,
    #[error("an order that is {status} cannot be cancelled")]
    NotCancellable { status: Status },
    #[error("not a dead letter")]
    NotADeadLetter,
    #[error("not an operator's name or reason")]
    BadOperator,
    /// To the runtime: this call or timer is not wanted (any more), or not yet.
    #[error("not wanted")]
    NotWanted,
    #[error("an order that is {status} is not done")]
    NotDone { status: Status },
    #[error("its personal data is erased")]
    Erased,
}

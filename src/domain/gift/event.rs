//! What happened to a gift. Persisted: tags are the variant order, append only, golden bytes in the tests.
//! Everything that depended on a clock, the time-zone data or a policy is in the event, so that `evolve` needs none.

use super::command::{Change, Letter, RecipientFacts, RedemptionKey, Reservation};
use crate::domain::calendar::ResolvedInstant;
pub use crate::domain::calling::{CallStarted, Doubt};
use crate::domain::notices::NoticeResult;
use crate::domain::tender::CouponTerms;
use crate::types::call::RefusalClass;
use crate::types::effect::Channel;
use crate::types::money::Money;
use crate::types::record::Sealed;
use crate::types::time::Timestamp;
use serde::{Deserialize, Serialize};

/// One event: when, and what.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GiftEvent {
    pub at: Timestamp,
    pub fact: GiftFact,
}

/// What happened, by the part of the gift's life that it belongs to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum GiftFact {
    Reserved(Box<Reservation>),
    Payment(PaymentFact),
    Plan(PlanFact),
    Delivery(DeliveryFact),
    Use(UseFact),
    Refund(RefundFact),
    Notice(NoticeFact),
    DeadLetterReplayed {
        actor: String,
        letter: Letter,
        new_generation: bool,
    },
    DeadLetterDiscarded {
        actor: String,
        letter: Letter,
        reason: String,
    },
    Erased,
    /// Done for longer than the retention: personal data and journal are gone, and what only they needed.
    Forgotten,
    ReservedWith(Box<Reservation>, CouponTerms),
    Coupon(CouponFact),
}

/// Of the coupon that it is paid with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum CouponFact {
    Used,
    /// Its member may use it again.
    Returned,
}

/// Of the payment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum PaymentFact {
    Attempted(CallStarted),
    Captured {
        provider: String,
        amount: Money,
        captured_at: Timestamp,
    },
    Undecided {
        doubt: Doubt,
        retry_at: Timestamp,
    },
    Refused {
        code: String,
    },
    TimedOut,
    /// After a cancel or a timeout: the provider says that nothing was captured and nothing will be.
    RuledOut {
        code: String,
    },
    /// Looked at again at once because a webhook hinted at the order.
    Hinted,
    /// Nothing is held of the sender's wallet any more: it went back, or it is spent.
    HoldClosed,
}

/// Of what was agreed with the sender.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum PlanFact {
    Changed(Box<Change>),
    Cancelled,
    ReResolved {
        resolved: ResolvedInstant,
        /// Moved by more than a minute: the sender is told.
        moved: bool,
    },
}

/// Of the way to the recipient.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum DeliveryFact {
    Attempted(CallStarted),
    Accepted {
        provider: String,
        receipt: String,
        accepted_at: Timestamp,
        report_due: Timestamp,
        validity: Validity,
    },
    Undecided {
        doubt: Doubt,
        retry_at: Timestamp,
    },
    /// An attempt failed for sure and another follows.
    Refused {
        code: String,
        class: RefusalClass,
        next: NextAttempt,
    },
    /// A dead letter: nothing more is tried until an operator says so. Refunded at `validity`'s end otherwise.
    Failed {
        code: String,
        validity: Validity,
    },
    /// The message arrived, as far as can be told.
    Delivered {
        evidence: Evidence,
        delivered_at: Timestamp,
        /// Stands unless acceptance was known before.
        accepted_at: Timestamp,
        validity: Validity,
    },
    /// What was believed is proven.
    Confirmed {
        evidence: Evidence,
    },
    /// A failure reported when the recipient had the gift already: noted, nothing follows.
    FailureNoted {
        code: String,
    },
}

/// Of what the recipient and the till do with it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum UseFact {
    Accepted,
    Declined,
    Transferred {
        recipient: RecipientFacts,
        channels: Vec<Channel>,
        sealed: Sealed,
        link_hash: [u8; 16],
        code_hash: [u8; 16],
        validity: Validity,
    },
    Redeemed {
        redemption: RedemptionKey,
    },
    /// The till took a redemption back, or one that never reached us: it can no longer come.
    RedemptionCancelled {
        redemption: RedemptionKey,
    },
    Expired,
    /// As [`UseFact::Transferred`], and the old link is remembered as one that is dead. From feature level 4 on.
    HandedOn(Box<HandedOn>),
}

/// To whom a gift went on, under which secrets.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HandedOn {
    pub recipient: RecipientFacts,
    pub channels: Vec<Channel>,
    pub sealed: Sealed,
    pub link_hash: [u8; 16],
    pub code_hash: [u8; 16],
    pub validity: Validity,
}

/// Of the money's way back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum RefundFact {
    Started {
        reason: RefundReason,
        amount: Money,
    },
    Attempted(CallStarted),
    Undecided {
        doubt: Doubt,
        retry_at: Timestamp,
    },
    /// Refused for sure, tried again under a new number.
    Refused {
        code: String,
        retry_at: Timestamp,
    },
    /// A dead letter: the money is held until an operator replays it; `review_at` tries once more by itself.
    Failed {
        code: String,
        review_at: Timestamp,
    },
    /// `total` was given back so far; `retry_at` serves when that is not all.
    Settled {
        total: Money,
        retry_at: Timestamp,
    },
    /// A policy gives nothing back: what was held counts as used.
    MoneyKept,
}

/// Of messages beside the delivery.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum NoticeFact {
    ReminderDue {
        days: u8,
        next: Option<Reminder>,
    },
    /// Held back by quiet hours, or skipped because its time is over.
    ReminderMoved {
        next: Option<Reminder>,
    },
    Settled(Vec<NoticeResult>),
}

/// The attempt after one that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NextAttempt {
    /// Position in the gift's channels.
    pub channel_index: u8,
    pub due: Timestamp,
}

/// What makes us believe that a message arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Evidence {
    /// The provider's report.
    Report,
    /// Kakao 3005: sent, receipt unconfirmed.
    UnconfirmedReport,
    /// The recipient opened the link.
    LinkOpened,
    /// Accepted, then no report in time.
    ReportTimeout,
    /// The channel can neither be asked nor told twice (SMTP, FCM).
    Unconfirmable,
}

impl Evidence {
    /// Whether it proves arrival.
    #[must_use]
    pub fn confirms(self) -> bool {
        match self {
            Self::Report | Self::LinkOpened => true,
            Self::UnconfirmedReport | Self::ReportTimeout | Self::Unconfirmable => false,
        }
    }
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Report => "report",
            Self::UnconfirmedReport => "unconfirmed_report",
            Self::LinkOpened => "link_opened",
            Self::ReportTimeout => "report_timeout",
            Self::Unconfirmable => "unconfirmable",
        }
    }
}

/// Until when a gift is valid, and its next reminder.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Validity {
    /// Last millisecond of validity.
    pub expires_at: Timestamp,
    pub reminder: Option<Reminder>,
}

/// A reminder to come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reminder {
    /// Days before expiry that it announces.
    pub days: u8,
    pub due: Timestamp,
}

/// Why money goes back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum RefundReason {
    Cancelled,
    /// Captured after the payment had timed out.
    PaymentExpired,
    /// Captured with another amount than asked for.
    AmountMismatch,
    Declined,
    SendFailed,
    Expired,
    /// The payment was cancelled at the provider, not by us.
    CancelledByProvider,
}

impl RefundReason {
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Cancelled => "cancelled",
            Self::PaymentExpired => "payment_expired",
            Self::AmountMismatch => "amount_mismatch",
            Self::Declined => "declined",
            Self::SendFailed => "send_failed",
            Self::Expired => "expired",
            Self::CancelledByProvider => "cancelled_by_provider",
        }
    }
}

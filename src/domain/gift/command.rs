//! What may be asked of a gift, and how it says no. Commands travel between nodes, but are never persisted.

use super::personal::ContactSet;
use crate::domain::calendar::{ResolvedInstant, SendAt};
use crate::domain::policy::{PaymentMethod, Policy};
use crate::domain::tender::CouponTerms;
use crate::types::call::{CallOutcome, Report};
use crate::types::effect::{Channel, Slot};
use crate::types::kind::AttemptStart;
use crate::types::money::Money;
use crate::types::record::Sealed;
use crate::types::time::Timestamp;
use serde::{Deserialize, Serialize};

/// Commands of a gift. Timer, attempt, outcomes and report are made by the runtime alone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum GiftCommand {
    Reserve(Box<Reservation>),
    /// `None` keeps what is there. A new recipient, message or channel comes with a new `sealed`.
    Change(Box<Change>),
    Cancel,
    Accept {
        link_hash: [u8; 16],
    },
    Decline {
        link_hash: [u8; 16],
    },
    /// The recipient's page was opened: proof that the message arrived. Nothing is written when that was known.
    Opened {
        link_hash: [u8; 16],
    },
    Transfer(Box<Transfer>),
    Redeem {
        code_hash: [u8; 16],
        redemption: RedemptionKey,
    },
    CancelRedeem {
        code_hash: [u8; 16],
        redemption: RedemptionKey,
    },
    /// `letter` names what is replayed; see [`super::GiftState::dead_letters`].
    Replay {
        actor: String,
        letter: Letter,
        new_generation: bool,
    },
    Discard {
        actor: String,
        letter: Letter,
        reason: String,
    },
    /// Destroys the personal data of a gift that is done.
    Erase,
    /// The time-zone data changed and this is what the send instant is now.
    ReResolve {
        resolved: ResolvedInstant,
    },
    Timer(Slot),
    Attempt(AttemptStart),
    Outcomes(Vec<(Slot, CallOutcome)>),
    /// A delivery report; one whose reference is the order id alone is a payment webhook's hint, and whatever is
    /// unknown about the money is looked up at once.
    Report(Report),
    /// As [`GiftCommand::Reserve`], paid in part or whole with a coupon: the amount is what is left of the price.
    ReserveWith(Box<Reservation>, CouponTerms),
    /// As [`GiftCommand::Transfer`], and the old link is remembered as one that is dead. From feature level 4 on.
    HandOn(Box<Transfer>),
}

/// A new gift.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reservation {
    /// `sub` of the sender.
    pub owner: String,
    pub product: ProductSnapshot,
    pub recipient: RecipientFacts,
    pub sender: ContactSet,
    /// [`super::Personal`], sealed.
    pub sealed: Sealed,
    pub link_hash: [u8; 16],
    pub code_hash: [u8; 16],
    pub send_at: SendAt,
    pub resolved: ResolvedInstant,
    /// In the order in which they are tried; no channel twice, each with a contact.
    pub channels: Vec<Channel>,
    pub payment: PaymentTerms,
}

/// The product as it was when the gift was reserved.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProductSnapshot {
    pub id: String,
    pub name: String,
    pub price: Money,
    pub policy: Policy,
}

/// What the machine knows of a recipient without opening the seal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecipientFacts {
    pub contacts: ContactSet,
    /// IANA zone for the end of validity, reminders and quiet hours.
    pub zone: String,
}

/// How and how much is paid.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PaymentTerms {
    pub method: PaymentMethod,
    pub amount: Money,
    /// Last instant at which the method is sure to be refundable.
    pub refund_by: Timestamp,
}

/// What a sender changes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    pub recipient: Option<RecipientFacts>,
    pub sealed: Option<Sealed>,
    pub send_at: Option<(SendAt, ResolvedInstant)>,
    pub channels: Option<Vec<Channel>>,
}

/// The gift goes to another recipient, under a new link and a new voucher code.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Transfer {
    /// The link under which it is asked; it dies.
    pub link_hash: [u8; 16],
    pub recipient: RecipientFacts,
    pub sealed: Sealed,
    pub new_link_hash: [u8; 16],
    pub new_code_hash: [u8; 16],
}

/// Identifies one redemption at a till for good.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RedemptionKey {
    pub store: Store,
    pub terminal_id: String,
    pub transaction_id: String,
}

impl RedemptionKey {
    /// Whether both are one transaction of one till. One that was written down without its merchant is any merchant's.
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        let both = self.store.merchant().zip(other.store.merchant());
        self.store.id() == other.store.id()
            && both.is_none_or(|(one, other)| one == other)
            && self.terminal_id == other.terminal_id
            && self.transaction_id == other.transaction_id
    }
}

/// A store of a merchant. Each merchant names its own, so that two may use the same id. Persisted as one string, which was
/// the id alone once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Store(String);

/// Stands between a store's id and its merchant; a control character, so that neither holds it.
const STORE_MARK: char = '\u{1f}';

impl Store {
    #[must_use]
    pub fn of(merchant: &str, id: &str) -> Self {
        Self(format!("{id}{STORE_MARK}{merchant}"))
    }
    /// As its merchant names it.
    #[must_use]
    pub fn id(&self) -> &str {
        self.0.split_once(STORE_MARK).map_or(&self.0, |(id, _)| id)
    }
    fn merchant(&self) -> Option<&str> {
        self.0.split_once(STORE_MARK).map(|(_, merchant)| merchant)
    }
    /// Written down before the merchant was part of it.
    #[cfg(test)]
    pub(crate) fn without_merchant(id: &str) -> Self {
        Self(id.to_owned())
    }
}

/// Names one dead letter of a gift.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Letter {
    /// The delivery or the refund: a gift has at most one of them dead at a time.
    Gift,
    /// A notice, by its number in [`super::GiftState::notices`].
    Notice(u16),
}

/// Business says no; nothing was changed. The names are those of the front door's `code`s.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum GiftRejection {
    #[error("no such gift")]
    NotFound,
    #[error("the gift exists already")]
    AlreadyExists,
    #[error("amount, channels or policy of the reservation do not fit together")]
    NotReservable,
    #[error("the send instant is not 10 minutes to 1 year ahead")]
    SendAtOutOfRange,
    #[error("the payment method cannot be refunded for as long as the gift may live")]
    RefundWindowTooShort,
    #[error("a channel without a contact, or no channel at all")]
    NoChannel,
    #[error("the send has begun")]
    AlreadyDispatched,
    #[error("a gift that is {status} cannot be cancelled")]
    NotCancellable { status: Status },
    #[error("later than 1 hour before the send instant")]
    TooLateToModify,
    #[error("used already")]
    AlreadyUsed,
    #[error("validity is over")]
    Expired,
    #[error("not accepted by its recipient yet")]
    NotAccepted,
    #[error("handed on as often as it may be")]
    AlreadyTransferred,
    #[error("the link leads nowhere any more")]
    LinkDead,
    #[error("this gift may not be declined")]
    DeclineNotAllowed,
    #[error("the transaction was cancelled by the till")]
    TransactionCancelled,
    #[error("too late to cancel the redemption")]
    TooLateToCancel,
    #[error("no such dead letter")]
    NotADeadLetter,
    #[error("tried as often as one delivery may be; replay it as a new generation")]
    AttemptsExhausted,
    #[error("personal data was erased")]
    Erased,
    #[error("not possible while {status}")]
    WrongState { status: Status },
    /// To the runtime: this call or timer is not wanted (any more).
    #[error("not wanted")]
    NotWanted,
    /// To the runtime: never early.
    #[error("not due")]
    NotDue,
}

/// Where a gift stands, as the front door names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Status {
    PaymentPending,
    Scheduled,
    Sending,
    Sent,
    Accepted,
    Used,
    PaymentFailed,
    PaymentExpired,
    Cancelled,
    Declined,
    SendFailed,
    Expired,
    Refunding,
    Refunded,
    RefundFailed,
}

impl Status {
    pub const ALL: [Self; 15] = [
        Self::PaymentPending,
        Self::Scheduled,
        Self::Sending,
        Self::Sent,
        Self::Accepted,
        Self::Used,
        Self::PaymentFailed,
        Self::PaymentExpired,
        Self::Cancelled,
        Self::Declined,
        Self::SendFailed,
        Self::Expired,
        Self::Refunding,
        Self::Refunded,
        Self::RefundFailed,
    ];

    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::PaymentPending => "payment_pending",
            Self::Scheduled => "scheduled",
            Self::Sending => "sending",
            Self::Sent => "sent",
            Self::Accepted => "accepted",
            Self::Used => "used",
            Self::PaymentFailed => "payment_failed",
            Self::PaymentExpired => "payment_expired",
            Self::Cancelled => "cancelled",
            Self::Declined => "declined",
            Self::SendFailed => "send_failed",
            Self::Expired => "expired",
            Self::Refunding => "refunding",
            Self::Refunded => "refunded",
            Self::RefundFailed => "refund_failed",
        }
    }
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|status| status.name() == name)
    }
}

impl std::fmt::Display for Status {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

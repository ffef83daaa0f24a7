//! What may be asked of a reservation, what happens to it, and how it says no. Events are persisted: tags are the variant
//! order, append only, golden bytes in the tests. Commands travel between nodes, but are never persisted.

use super::state::Status;
use crate::domain::area::Serial;
use crate::domain::calling::{CallStarted, Doubt};
use crate::domain::order::Method;
use crate::domain::show::{SeatNumber, SectionNumber, seat_name};
use crate::domain::ticket::QueueNumber;
use crate::types::call::CallOutcome;
use crate::types::contact::Private;
use crate::types::effect::Slot;
use crate::types::ids::{EntityKey, Fingerprint, IdempotencyId};
use crate::types::kind::AttemptStart;
use crate::types::money::Money;
use crate::types::record::Sealed;
use crate::types::time::Timestamp;
use serde::{Deserialize, Serialize};

/// Bytes of a user's name: with the area's bounds it keeps the area's state within its own.
pub const OWNER_BYTES_MAX: usize = 128;

/// What may be asked of a reservation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ReservationCommand {
    /// From the area that holds the seats.
    Assign(Box<Assignment>),
    Pay(Box<Payment>),
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
}

/// Seats of one section for one user.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Assignment {
    pub reservation: EntityKey,
    pub serial: Serial,
    pub show: EntityKey,
    pub section: SectionNumber,
    pub section_name: String,
    pub seats: Vec<SeatNumber>,
    /// What they cost together.
    pub amount: Money,
    /// `sub` of the user.
    pub owner: String,
    /// The user's number in the queue.
    pub number: QueueNumber,
    /// The request that wants them, and the digest of its body.
    pub claim: IdempotencyId,
    pub fingerprint: Fingerprint,
    /// From here on they are held.
    pub assigned_at: Timestamp,
}

impl Assignment {
    /// `["A-12", …]`
    #[must_use]
    pub fn names(&self) -> Vec<String> {
        self.seats.iter().map(|seat| seat_name(&self.section_name, *seat)).collect()
    }
}

/// How a reservation is paid.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Payment {
    pub method: Method,
    /// [`PaymentKey`], sealed; `None` for a payment from the wallet.
    pub sealed: Option<Sealed>,
}

/// The payment provider's key, encoded and sealed under the reservation's data key.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PaymentKey(pub Private<String>);

/// One call of a reservation. Persisted: append only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Step {
    Pay,
    /// The area sells the seats.
    Sell,
    /// The queue lets the next one in.
    Leave,
    /// The wallet's hold becomes spent.
    Settle,
    /// The area frees the seats.
    Release,
    /// Whether a payment was captured whose outcome nobody waited for.
    FindPayment,
    Refund,
}

impl Step {
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Pay => "payment",
            Self::Sell => "seats_sell",
            Self::Leave => "queue_leave",
            Self::Settle => "wallet_confirm",
            Self::Release => "seats_release",
            Self::FindPayment => "payment_lookup",
            Self::Refund => "refund",
        }
    }
}

/// How a reservation ended without its seats.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum End {
    Failed,
    Expired,
    Cancelled,
}

/// One event: when, and what.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReservationEvent {
    pub at: Timestamp,
    pub fact: ReservationFact,
}

/// What happened to a reservation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ReservationFact {
    Assigned(Box<Assignment>),
    PaymentRequested {
        method: Method,
        amount: Money,
        sealed: Option<Sealed>,
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
    /// The area sold the seats: they are the user's.
    Confirmed,
    /// The queue knows.
    Left,
    /// It cannot be cancelled any more.
    Closed,
    /// The wallet's hold is spent.
    Settled,
    /// It ends, and what was done is undone from here on. `doubtful`: a payment under way may have been captured.
    Ended {
        end: End,
        code: String,
        doubtful: bool,
    },
    /// The area freed the seats.
    Released,
    /// Nothing was paid, and nothing will be.
    PaymentRuledOut {
        code: String,
    },
    Refunded {
        amount: Money,
    },
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
    /// Done for longer than the retention: the payment's key and the journal are gone.
    Forgotten,
}

/// Business says no; nothing was changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum ReservationRejection {
    #[error("no such reservation")]
    NotFound,
    /// It was made by another assignment than this one.
    #[error("assigned already")]
    Assigned { refused: Serial },
    #[error("a reservation that is {status} cannot be paid")]
    NotPayable { status: Status },
    #[error("the time to pay is over")]
    TimeIsOver,
    #[error("a reservation that is {status} cannot be cancelled")]
    NotCancellable { status: Status },
    #[error("not a dead letter")]
    NotADeadLetter,
    #[error("not an operator's name or reason")]
    BadOperator,
    /// To the runtime: this call or timer is not wanted (any more), or not yet.
    #[error("not wanted")]
    NotWanted,
}

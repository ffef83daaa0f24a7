//! The state of a reservation. Persisted as it is: fields and variants are append only, golden bytes in the tests.

use super::command::{Assignment, End, Step};
use crate::domain::order::Method;
use crate::domain::steps::{self, Paid};
use crate::types::money::Money;
use crate::types::record::Sealed;
use crate::types::time::{Millis, Timestamp};
use serde::{Deserialize, Serialize};
use std::fmt;

/// From its assignment a reservation has this long until it is known to be paid.
pub const HELD_FOR: Millis = Millis::from_mins(5);
/// From its confirmation a reservation may be cancelled for this long.
pub const CANCELLABLE_FOR: Millis = Millis::from_days(7);

/// A reservation, or (by default) one that does not exist yet.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReservationState {
    pub(super) booked: Option<Box<Booked>>,
}

/// An existing reservation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Booked {
    pub assignment: Assignment,
    /// `None` until it is to be paid.
    pub method: Option<Method>,
    /// `None` once forgotten, and for a payment from the wallet.
    pub sealed: Option<Sealed>,
    pub paid: Paid,
    pub seats: Seating,
    /// The queue knows that the seats are bought.
    pub left: bool,
    pub confirmed_at: Option<Timestamp>,
    /// It cannot be cancelled any more.
    pub closed: bool,
    pub ended: Option<Ended>,
    pub phase: Phase,
    /// Number of the call that is wanted, from 1.
    pub number: u16,
    pub updated_at: Timestamp,
}

/// What the reservation has of its seats.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Seating {
    Held,
    Sold,
    Free,
}

/// Why a reservation has no seats.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Ended {
    pub end: End,
    pub code: String,
}

/// Whether something is under way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Phase {
    /// Waits for its user or a timer, or has nothing left to do.
    Idle,
    Running(Running),
    /// `running` is what a replay continues.
    Stuck {
        since: Timestamp,
        code: String,
        running: Running,
    },
}

/// A step under way.
pub(super) type Running = steps::Running<Step>;

/// Where a reservation stands, as the front door names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Status {
    TemporaryAssigned,
    PaymentPending,
    Confirmed,
    PaymentFailed,
    Cancelled,
    Expired,
}

impl Status {
    pub const ALL: [Self; 6] = [
        Self::TemporaryAssigned,
        Self::PaymentPending,
        Self::Confirmed,
        Self::PaymentFailed,
        Self::Cancelled,
        Self::Expired,
    ];

    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::TemporaryAssigned => "temporary_assigned",
            Self::PaymentPending => "payment_pending",
            Self::Confirmed => "confirmed",
            Self::PaymentFailed => "payment_failed",
            Self::Cancelled => "cancelled",
            Self::Expired => "expired",
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

impl Booked {
    /// The step that comes next, by what is done; `None`: nothing until its user or a timer comes.
    pub fn next_step(&self) -> Option<Step> {
        if self.ended.is_some() { self.next_back() } else { self.next_forward() }
    }

    fn next_forward(&self) -> Option<Step> {
        let method = self.method?;
        if self.paid == Paid::No {
            return Some(Step::Pay);
        }
        if self.seats == Seating::Held {
            return Some(Step::Sell);
        }
        if !self.left {
            return Some(Step::Leave);
        }
        let to_settle = self.closed && method == Method::Balance && matches!(self.paid, Paid::Held { .. });
        to_settle.then_some(Step::Settle)
    }

    /// The seats first: others wait for them.
    fn next_back(&self) -> Option<Step> {
        if self.seats != Seating::Free {
            return Some(Step::Release);
        }
        match (&self.paid, self.method) {
            (Paid::Doubtful { .. }, Some(Method::Card)) => Some(Step::FindPayment),
            (Paid::Doubtful { .. }, Some(Method::Balance)) | (Paid::Held { .. }, Some(_)) => Some(Step::Refund),
            (Paid::No | Paid::Spent { .. } | Paid::Back { .. }, _) | (_, None) => None,
        }
    }

    pub fn running(&self) -> Option<&Running> {
        match &self.phase {
            Phase::Running(running) => Some(running),
            Phase::Idle | Phase::Stuck { .. } => None,
        }
    }

    /// When the seats are given up, while they are not known to be paid.
    pub fn held_until(&self) -> Option<Timestamp> {
        let waits = self.ended.is_none() && self.paid == Paid::No && self.seats == Seating::Held;
        waits.then_some(self.assignment.assigned_at + HELD_FOR)
    }

    /// Until when it may be cancelled, once it is confirmed.
    pub fn cancellable_until(&self) -> Option<Timestamp> {
        let confirmed_at = self.confirmed_at.filter(|_| self.ended.is_none() && !self.closed);
        confirmed_at.map(|at| at + CANCELLABLE_FOR)
    }

    /// Nothing left to do and nothing left to hold (INV-9).
    pub fn is_terminal(&self) -> bool {
        let over = self.ended.is_some() || self.closed;
        over && self.phase == Phase::Idle && self.next_step().is_none()
    }

    pub fn status(&self) -> Status {
        match self.ended.as_ref().map(|ended| ended.end) {
            Some(End::Failed) => Status::PaymentFailed,
            Some(End::Expired) => Status::Expired,
            Some(End::Cancelled) => Status::Cancelled,
            None if self.seats == Seating::Sold => Status::Confirmed,
            None if self.method.is_some() => Status::PaymentPending,
            None => Status::TemporaryAssigned,
        }
    }

    /// What was captured for it, and what of that went back.
    pub fn money(&self) -> (Money, Money) {
        self.paid.money()
    }
}

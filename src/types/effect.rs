//! What an entity's committed state still wants from the world: timers, calls and index rows.
//!
//! Effects are data. They are a function of the state (`Entity::wants`); the runtime writes the difference between
//! `wants` before and after a record into the record's own batch, and performs them on the leader only.

use crate::types::ids::Claim;
use crate::types::limits::{CALL_DEADLINE, CLOCK_UNCERTAINTY};
use crate::types::time::{Millis, Timestamp};
use serde::{Deserialize, Serialize};

/// Names a timer or a call within its entity. Stable over the life of the want.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Slot(pub u16);

/// Where a call goes. A lane has one gateway with one budget, so that reminders never delay sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Lane {
    Send(Channel),
    Notice(Channel),
    Payment,
    /// Another entity, by way of the router.
    Entity,
    /// The shipping provider. Persisted tags: append only.
    Shipment,
}

/// A way to reach a person.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Channel {
    Kakao,
    Sms,
    Email,
    Push,
}

impl Channel {
    pub const ALL: [Channel; 4] = [Channel::Kakao, Channel::Sms, Channel::Email, Channel::Push];

    /// As the front door and the ledger write it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Kakao => "kakao",
            Self::Sms => "sms",
            Self::Email => "email",
            Self::Push => "push",
        }
    }
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|channel| channel.name() == name)
    }
}

/// A timer: at `due` the entity is sent its timer command for `slot`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TimerWant {
    pub slot: Slot,
    pub due: Timestamp,
}

/// How a call is guarded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Guard {
    /// An `AttemptStarted` record is applied before the first byte (sends, payments, refunds).
    Fenced,
    /// At least once, without a record before it; outcomes are coalesced into the next record (notices, polls,
    /// calls to other entities, which answer a repeat from their state).
    Repeatable,
}

/// A call to be made, not before `due`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CallWant {
    pub slot: Slot,
    pub lane: Lane,
    pub due: Timestamp,
    pub guard: Guard,
    /// An attempt whose outcome is not known yet. Under another claim than the leader's own it is waited out,
    /// looked up, then repeated with the same bytes under the same provider key.
    pub open: Option<OpenAttempt>,
}

/// An attempt that was started and has no outcome yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpenAttempt {
    pub claim: Claim,
    pub started_at: Timestamp,
    /// Span after `started_at` within which the first byte may be written.
    pub not_after: Millis,
}

/// How long an attempt of another life is left alone: its first byte, its call and the clocks' uncertainty.
#[must_use]
pub fn wait_out(started_at: Timestamp, not_after: Millis) -> Timestamp {
    started_at + not_after + CALL_DEADLINE + CLOCK_UNCERTAINTY
}

/// Which derived index a row belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct IndexTag(pub u8);

/// A derived row `key -> entity`. `unique` rows must not exist for another entity: such a record is void at apply.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IndexWant {
    pub index: IndexTag,
    pub key: Vec<u8>,
    pub unique: bool,
}

/// Everything that a state wants, in slot order.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Effects {
    pub timers: Vec<TimerWant>,
    pub calls: Vec<CallWant>,
    pub indexes: Vec<IndexWant>,
    /// Entities with nothing left to do and nothing left to hold (INV-9). Their journal may be purged some time later.
    pub terminal: bool,
}

impl Effects {
    /// The earliest instant at which anything is wanted.
    #[must_use]
    pub fn next_due(&self) -> Option<Timestamp> {
        let timers = self.timers.iter().map(|timer| timer.due);
        timers.chain(self.calls.iter().map(|call| call.due)).min()
    }
}

//! A call to the outside as an entity remembers it: wanted, open, in doubt. Kinds that pay, send or ship keep one of
//! these for each call that they make. Persisted as it is: fields and variants are append only.

use crate::types::call::{NOT_BEGUN, Prior};
use crate::types::effect::OpenAttempt;
use crate::types::ids::Claim;
use crate::types::time::{Millis, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// A fenced call that is wanted or open.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Call {
    pub due: Timestamp,
    pub open: Option<OpenAttempt>,
    /// Start of the first try of this attempt whose outcome is unknown.
    pub unknown_since: Option<Timestamp>,
    /// Outcomes in doubt, one after the other; stretches the pause.
    pub doubts: u16,
}

/// A fenced call begins. The number of the attempt is the state's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CallStarted {
    pub claim: Claim,
    pub not_after: Millis,
}

/// Why the outcome of a call is open.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Doubt {
    /// Never left: as if it had not been tried.
    NotSent,
    /// May have happened: looked up before it is repeated.
    Unknown { cause: String },
    /// The provider itself does not know yet.
    Pending,
}

impl Doubt {
    /// The event of that name as a timeline tells it.
    #[must_use]
    pub fn described(&self, event: &str, retry_at: Timestamp) -> Value {
        let (outcome, cause) = match self {
            Self::NotSent => ("not_sent", None),
            Self::Unknown { cause } => ("unknown", Some(cause)),
            Self::Pending => ("pending", None),
        };
        json!({ "type": event, "outcome": outcome, "cause": cause, "retry_at": retry_at.to_rfc3339() })
    }
}

impl Call {
    /// Wanted at `due`, never tried.
    #[must_use]
    pub fn due_at(due: Timestamp) -> Self {
        Self { due, open: None, unknown_since: None, doubts: 0 }
    }

    /// Whether it may have reached the provider without our knowing what came of it.
    #[must_use]
    pub fn is_in_doubt(&self) -> bool {
        self.open.is_some() || self.unknown_since.is_some()
    }

    /// What the repeat has to know of the tries before it.
    #[must_use]
    pub fn prior(&self) -> Prior {
        match self.unknown_since {
            Some(first_tried_at) => Prior::Unknown { first_tried_at },
            None => Prior::None,
        }
    }

    /// The call begins. One that was open already has an unknown outcome from here on.
    pub fn start(&mut self, started: &CallStarted, at: Timestamp) {
        if let Some(open) = &self.open {
            self.unknown_since.get_or_insert(open.started_at);
        }
        self.open = Some(OpenAttempt { claim: started.claim, started_at: at, not_after: started.not_after });
    }

    /// The call ended without a definite outcome and is wanted again.
    pub fn doubt(&mut self, doubt: &Doubt, retry_at: Timestamp) {
        let open = self.open.take();
        match doubt {
            Doubt::NotSent => {}
            Doubt::Unknown { .. } | Doubt::Pending => {
                let since = open.map_or(self.due, |open| open.started_at);
                self.unknown_since.get_or_insert(since);
            }
        }
        self.doubts = self.doubts.saturating_add(1);
        self.due = retry_at;
    }

    /// Wanted now, unless it is in flight.
    pub fn hasten(&mut self, at: Timestamp) {
        if self.open.is_none() {
            self.due = self.due.min(at);
        }
    }
}

/// An attempt whose outcome is unknown is looked up after this, twice as long each time, up to the maximum.
pub const DOUBT_PAUSE: Millis = Millis::from_secs(5);
pub const DOUBT_PAUSE_MAX: Millis = Millis::from_mins(5);
/// A call that never left is wanted again after this.
pub const NOT_SENT_PAUSE: Millis = Millis::from_secs(1);
pub const NOT_SENT_PAUSE_MAX: Millis = Millis::from_secs(30);

/// `first` doubled `times` times, at most `max`.
#[must_use]
pub fn doubled(first: Millis, times: u16, max: Millis) -> Millis {
    let factor = 1i64.checked_shl(u32::from(times.min(32))).unwrap_or(i64::MAX);
    Millis(first.0.saturating_mul(factor)).min(max)
}

/// When a call that never left, because of `cause`, is wanted again: soon, if its lookup took too long and it has more time now.
#[must_use]
pub fn retry_not_sent(call: &Call, cause: &str, now: Timestamp) -> Timestamp {
    if cause == NOT_BEGUN { now + NOT_SENT_PAUSE } else { retry_after(call, &Doubt::NotSent, now) }
}

/// When a call in doubt is wanted again.
#[must_use]
pub fn retry_after(call: &Call, doubt: &Doubt, now: Timestamp) -> Timestamp {
    let pause = match doubt {
        Doubt::NotSent => doubled(NOT_SENT_PAUSE, call.doubts, NOT_SENT_PAUSE_MAX),
        Doubt::Unknown { .. } | Doubt::Pending => doubled(DOUBT_PAUSE, call.doubts, DOUBT_PAUSE_MAX),
    };
    now + pause
}

//! One gateway for each lane: capacity is granted in due order as the provider's quota, latency and breaker allow.

use crate::types::call::{CallOutcome, CallRequest};
use crate::types::effect::Lane;
use crate::types::time::{BootMillis, Timestamp};

/// Receives the permit, or nothing when the ticket was withdrawn by dropping the gateway.
pub type GrantSink = Box<dyn FnOnce(Permit) + Send>;
/// Receives the outcome of a performed call, exactly once.
pub type OutcomeSink = Box<dyn FnOnce(CallOutcome) + Send>;

/// Makes the call of a permit; gives its capacity back with the outcome.
pub type PerformCall = Box<dyn FnOnce(CallRequest, BootMillis, OutcomeSink) + Send>;

/// A place in a lane's queue, served in `due` order.
pub struct Ticket {
    pub lane: Lane,
    pub due: Timestamp,
    pub grant: GrantSink,
}

/// The lane's queue is full; the want stays in the durable outbox and is tried again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("gateway queue is full")]
pub struct Busy;

/// Capacity for one call. Dropping it unused gives the capacity back.
pub struct Permit {
    perform: Option<PerformCall>,
    release: Option<Box<dyn FnOnce() + Send>>,
}

impl Permit {
    #[must_use]
    pub fn new(perform: PerformCall, release: Box<dyn FnOnce() + Send>) -> Self {
        Self { perform: Some(perform), release: Some(release) }
    }

    /// Makes the call unless CLOCK_BOOTTIME has reached `not_after` when its first byte would be written; then the
    /// outcome is `NotSent`.
    pub fn perform(mut self, request: CallRequest, not_after: BootMillis, done: OutcomeSink) {
        self.release = None;
        if let Some(perform) = self.perform.take() {
            perform(request, not_after, done);
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if let Some(release) = self.release.take() {
            release();
        }
    }
}

//! One gateway for each lane: capacity is granted in due order as the provider's quota, latency and breaker allow.
//!
//! A [`Ticket`] waits in its lane's bounded queue; when the policy allows, its sink gets a [`Permit`]; the permit makes
//! the call and its outcome comes back once. Nothing here is durable: what is queued or open when a node dies is wanted
//! again from committed state.
//!
//! | file | what |
//! |---|---|
//! | `policy/` | pure: rate, adaptive concurrency, breaker, pause, slow start, jitter |
//! | `lane` | sans I/O: the queues of one provider and who goes next |
//! | `verdict` | what an outcome says about a provider's health |
//! | `course` | sans I/O: one call: lookup of an unknown try, send, translation |
//! | `perform` | the fence around a call's client |
//! | `gather`, `batch_course` | sans I/O: who shares a call; what follows from its reply |
//! | `batch_flow`, `batch_book` | several in one call, and that call again after a crash; where it is written down |
//! | `batching` | these in the real world |
//! | `desk`, `actor`, `house` | the shell: counters and calls; the ractor actors; all gateways of a node |
//! | `reports` | webhooks and polls |
//!
//! Two times: refills, pauses, breakers and polls follow the clock and its moves; deadlines of calls are real time.

mod actor;
pub mod batch_book;
pub(crate) mod batch_course;
pub(crate) mod batch_flow;
mod batching;
mod call;
pub(crate) mod course;
mod desk;
pub mod gather;
mod house;
pub mod lane;
mod meter;
pub mod options;
mod perform;
pub mod policy;
mod reports;
#[cfg(test)]
mod testing;
mod verdict;

pub(crate) use desk::PAUSE_HELD;
pub use desk::{NO_PROVIDER, PROVIDER_AWAY};
pub use house::Gateways;
pub(crate) use meter::lane_name;
pub use meter::{GatewayState, LaneStatus, QuotaState};
pub use options::{GatewayOptions, LaneOptions, OptionsError, WhenOpen};
pub use reports::{Heard, HintSink, ReportSink, WebhookResult};

use crate::types::batch::Member;
use crate::types::call::{CallOutcome, CallRequest};
use crate::types::effect::Lane;
use crate::types::ids::ShardId;
use crate::types::time::{BootMillis, Timestamp};

/// Receives the permit, or nothing when the ticket was withdrawn by dropping the gateway.
pub type GrantSink = Box<dyn FnOnce(Permit) + Send>;
/// Receives the outcome of a performed call, exactly once.
pub type OutcomeSink = Box<dyn FnOnce(CallOutcome) + Send>;

/// Makes the call of a permit; gives its capacity back with the outcome.
pub type PerformCall = Box<dyn FnOnce(CallRequest, BootMillis, OutcomeSink) + Send>;

/// Whose call a ticket is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Asker {
    pub shard: ShardId,
    pub member: Member,
}

/// A place in a lane's queue, served in `due` order.
pub struct Ticket {
    pub lane: Lane,
    pub due: Timestamp,
    pub asker: Asker,
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

//! A call between its permit and its outcome: counted, timed, and answered once whatever becomes of its task.

use crate::gateways::OutcomeSink;
use crate::gateways::actor::GatewayMsg;
use crate::gateways::desk::Desk;
use crate::gateways::lane::Hold;
use crate::gateways::policy::concurrency::Micros;
use crate::gateways::policy::{Class, Health};
use crate::types::call::{CallOutcome, CallRequest, EntityOutcome, MessageOutcome, PaymentOutcome, ShipmentOutcome};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// See the file header. Dropped without an end (its task died with the runtime), it still answers: `Unknown` once it may
/// have had an effect, `NotSent` before.
pub(super) struct Call {
    desk: Arc<Desk>,
    class: Class,
    hold: Hold,
    /// Set once it may have an effect: the provider's client has run, or a batch that it belongs to was written down.
    pub begun: AtomicBool,
    not_sent: CallOutcome,
    started: tokio::time::Instant,
    done: Option<OutcomeSink>,
}

impl Call {
    pub(super) fn begin(
        desk: Arc<Desk>,
        (class, hold): (Class, Hold),
        request: &CallRequest,
        done: OutcomeSink,
    ) -> Self {
        desk.begins(class);
        let not_sent = CallOutcome::not_sent(request, "the call was given up");
        let (begun, started) = (AtomicBool::new(false), tokio::time::Instant::now());
        Self { desk, class, hold, begun, not_sent, started, done: Some(done) }
    }

    /// Hands the outcome over, once, and only then counts the call as ended.
    pub(super) fn end(&mut self, outcome: CallOutcome, health: Health) {
        let Some(done) = self.done.take() else { return };
        let meter = self.desk.meter(self.class);
        meter.count(&outcome);
        if health != Health::Void && self.begun.load(Ordering::Relaxed) {
            let micros = u64::try_from(self.started.elapsed().as_micros()).unwrap_or(u64::MAX);
            meter.record(Micros(micros), self.desk.clock.now());
        }
        if catch_unwind(AssertUnwindSafe(|| done(outcome))).is_err() {
            tracing::error!(lane = self.desk.name(), "an outcome's receiver panicked");
        }
        let (class, hold) = (self.class, self.hold);
        self.desk.ended(class, GatewayMsg::Finished { class, hold, health });
    }

    /// The end of a message's call.
    pub(super) fn end_message(&mut self, outcome: MessageOutcome, health: Health) {
        self.end(CallOutcome::Message(outcome), health);
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        if self.done.is_none() {
            return;
        }
        let begun = self.begun.load(Ordering::Relaxed);
        let outcome = if begun { unknown(&self.not_sent) } else { self.not_sent.clone() };
        self.end(outcome, if begun { Health::Overloaded } else { Health::Void });
    }
}

/// The unknown outcome of the same sort as `like`.
fn unknown(like: &CallOutcome) -> CallOutcome {
    let cause = "the call was given up".to_owned();
    match like {
        CallOutcome::Message(_) => CallOutcome::Message(MessageOutcome::Unknown { cause }),
        CallOutcome::Payment(_) => CallOutcome::Payment(PaymentOutcome::Unknown { cause }),
        CallOutcome::Entity(_) => CallOutcome::Entity(EntityOutcome::Unknown { cause }),
        CallOutcome::Shipment(_) => CallOutcome::Shipment(ShipmentOutcome::Unknown { cause }),
    }
}

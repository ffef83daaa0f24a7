//! One call, from its permit to its outcome: the fence around the provider's client. What is done, in which order and what
//! follows from it, is decided in [`crate::gateways::course`].
//!
//! The fence: CLOCK_BOOTTIME is compared with `not_after` in the very poll that first runs the provider's client, and
//! with the end of the call's deadline before every later one, so that a process that was frozen does not go on
//! writing when it wakes. A client may connect before it writes; that is inside `CALL_DEADLINE`, which a successor
//! waits out.
//!
//! The seam for batches (`BatchMode::SameShard`): `MessageProvider::send` takes a slice, and [`message`] is the only
//! caller of it, with one request. A batch is one uncertain unit, so its members and key are committed as one record
//! of their shard before the call; a gatherer between [`Permit::perform`] and this module would collect permits of one
//! shard for at most 5 ms or `Ability::batch_max`, ask the shard for that record, then send the slice and hand out its
//! outcomes. The record does not exist yet, so the options refuse the mode and nothing here groups.
//!
//! [`Permit::perform`]: crate::gateways::Permit::perform

pub(crate) use crate::gateways::course::{Ended, refuse_message};

use crate::gateways::course::{
    Cut, MessageCourse, PaymentCourse, PaymentTurn, ShipmentCourse, ShipmentTurn, Turn, has_effect,
};
use crate::gateways::policy::concurrency::Micros;
use crate::providers::{MessageProvider, PaymentProvider, ShippingProvider};
use crate::types::call::{
    MessageOutcome, MessageRequest, PaymentOutcome, PaymentRequest, ShipmentOperation, ShipmentOutcome, ShipmentRequest,
};
use crate::types::limits::CALL_DEADLINE;
use crate::types::time::{BootMillis, Clock, Millis};
use futures_util::FutureExt;
use std::future::{Future, poll_fn};
use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;

/// What the provider's client is told, so that its own account of a timeout comes before ours.
const CLIENT_DEADLINE: Millis = Millis(CALL_DEADLINE.0 - 250);

/// When the first byte may be written, and whether it may have been.
pub(crate) struct Fence<'a> {
    pub clock: &'a dyn Clock,
    pub not_after: BootMillis,
    pub begun: &'a AtomicBool,
}

/// Runs a client's future behind the fence, for [`CALL_DEADLINE`] of real time at most. `effect`: whether the call
/// does anything at the provider (a lookup does not).
async fn fenced<F: Future>(fence: &Fence<'_>, effect: bool, call: F) -> Result<F::Output, Cut> {
    let mut call = pin!(AssertUnwindSafe(call).catch_unwind());
    let mut end = None;
    let guarded = poll_fn(|context| {
        let boot = fence.clock.boot();
        match end {
            None if boot >= fence.not_after => return Poll::Ready(Err(Cut::NotBegun)),
            None => {
                end = Some(BootMillis(boot.0.saturating_add(CALL_DEADLINE.0.unsigned_abs())));
                fence.begun.fetch_or(effect, Ordering::Relaxed);
            }
            Some(end) if boot >= end => return Poll::Ready(Err(Cut::Late)),
            Some(_) => {}
        }
        call.as_mut().poll(context).map(|done| done.map_err(|_| Cut::Panicked))
    });
    tokio::time::timeout(CALL_DEADLINE.to_std(), guarded).await.unwrap_or(Err(Cut::Late))
}

/// Real time since `from`; the paused clock of tokio in tests.
fn since(from: tokio::time::Instant) -> Micros {
    Micros(u64::try_from(from.elapsed().as_micros()).unwrap_or(u64::MAX))
}

/// Performs a message's call.
pub(crate) async fn message(
    provider: &dyn MessageProvider,
    request: &MessageRequest,
    fence: &Fence<'_>,
) -> Ended<MessageOutcome> {
    let (course, first) = MessageCourse::begin(provider.name(), provider.ability(), request.prior, fence.clock.now());
    let mut turn = first;
    loop {
        turn = match turn {
            Turn::End(ended) => return ended,
            Turn::LookUp => {
                course.looked_up(fenced(fence, false, async { provider.lookup(request, CLIENT_DEADLINE).await }).await)
            }
            Turn::Send => {
                let started = tokio::time::Instant::now();
                let batch = std::slice::from_ref(request);
                let sent = fenced(fence, true, async { provider.send(batch, CLIENT_DEADLINE).await }).await;
                return course.sent(sent, since(started), fence.clock.now());
            }
        };
    }
}

/// Performs a payment's call.
pub(crate) async fn payment(
    provider: &dyn PaymentProvider,
    request: &PaymentRequest,
    fence: &Fence<'_>,
) -> Ended<PaymentOutcome> {
    let (mut course, mut next) = PaymentCourse::begin(request);
    loop {
        let started = tokio::time::Instant::now();
        let effect = has_effect(&next);
        let answer = fenced(fence, effect, async { provider.perform(&next, CLIENT_DEADLINE).await }).await;
        match course.answered(answer, since(started)) {
            PaymentTurn::Call(request) => next = request,
            PaymentTurn::End(ended) => return ended,
        }
    }
}

/// Performs a shipment's call, as its course says.
pub(crate) async fn shipment(
    provider: &dyn ShippingProvider,
    request: &ShipmentRequest,
    fence: &Fence<'_>,
) -> Ended<ShipmentOutcome> {
    let (mut course, mut next) = ShipmentCourse::begin(request);
    loop {
        let effect = !matches!(next.operation, ShipmentOperation::Lookup);
        let started = tokio::time::Instant::now();
        let answer = fenced(fence, effect, async { provider.perform(&next, CLIENT_DEADLINE).await }).await;
        match course.answered(answer, since(started)) {
            ShipmentTurn::Call(again) => next = again,
            ShipmentTurn::End(ended) => return ended,
        }
    }
}

#[cfg(test)]
mod shipment_tests;
#[cfg(test)]
mod tests;

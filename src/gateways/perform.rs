//! One call, from its permit to its outcome: the fence around the provider's client. What is done, in which order and what
//! follows from it, is decided in [`crate::gateways::course`].
//!
//! The fence: CLOCK_BOOTTIME is compared with `not_after` in the very poll that first runs the provider's client, and
//! with the end of the call's deadline before every later one, so that a process that was frozen does not go on
//! writing when it wakes. A client may connect before it writes; that is inside `CALL_DEADLINE`, which a successor
//! waits out.
//!
//! One call may be for several messages of one shard: see `batching`.

pub(crate) use crate::gateways::course::{Ended, refuse_message};

use crate::gateways::course::{
    Cut, MessageCourse, PaymentCourse, PaymentTurn, ShipmentCourse, ShipmentTurn, Turn, has_effect,
};
use crate::gateways::policy::concurrency::Micros;
use crate::providers::{LookupAnswer, MessageProvider, PaymentProvider, ShippingProvider};
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
            Turn::LookUp => course.looked_up(look_up(provider, request, fence).await),
            Turn::Send => {
                let (sent, latency) = send(provider, std::slice::from_ref(request), fence).await;
                return course.sent(sent, latency, fence.clock.now());
            }
        };
    }
}

/// Asks the provider what it knows of a message's earlier try.
pub(crate) async fn look_up(
    provider: &dyn MessageProvider,
    request: &MessageRequest,
    fence: &Fence<'_>,
) -> Result<LookupAnswer, Cut> {
    fenced(fence, false, async { provider.lookup(request, CLIENT_DEADLINE).await }).await
}

/// One call for one message or several: its answer, and how long it took.
pub(crate) async fn send(
    provider: &dyn MessageProvider,
    batch: &[MessageRequest],
    fence: &Fence<'_>,
) -> (Result<Vec<MessageOutcome>, Cut>, Micros) {
    let started = tokio::time::Instant::now();
    let sent = fenced(fence, true, async { provider.send(batch, CLIENT_DEADLINE).await }).await;
    (sent, since(started))
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

//! One call, from its permit to its outcome: the fence, the lookup of an unknown earlier try, and the translation of
//! what the provider said into what the entity may conclude.
//!
//! | earlier try | the provider has | done | outcome |
//! |---|---|---|---|
//! | none | | send | the provider's; `Unknown` is final as `Unconfirmed` with neither key nor lookup |
//! | unknown | a lookup: found | nothing | `Accepted` with the found receipt |
//! | unknown | a lookup: absent | send the same bytes under the same key | the provider's |
//! | unknown | a lookup that fails | nothing | `Unknown` |
//! | unknown | only a key, still in its window | send the same bytes under the same key | accepted, or `Unknown` |
//! | unknown | neither, or the window is over | nothing | `Unconfirmed` |
//!
//! A refusal of a repeat that no lookup preceded is `Unknown`: it says that the repeat was not performed, not that the
//! first try was not, and a definite refusal would let the entity try anew under another key.
//!
//! Payments are looked up by order id through the provider's own `Lookup` operation, then repeated under their key.
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

use crate::gateways::policy::Health;
use crate::gateways::policy::concurrency::Micros;
use crate::gateways::verdict;
use crate::providers::{Ability, LookupAnswer, MessageProvider, PaymentProvider, ShippingProvider};
use crate::types::call::{
    MessageOutcome, MessageRequest, PaymentOperation, PaymentOutcome, PaymentRequest, Prior, RefusalClass,
    ShipmentOperation, ShipmentOutcome, ShipmentRequest,
};
use crate::types::limits::{CALL_DEADLINE, CLOCK_UNCERTAINTY};
use crate::types::time::{BootMillis, Clock, Millis, Timestamp};
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

/// A call's end.
#[derive(Debug)]
pub(crate) struct Ended<O> {
    pub outcome: O,
    pub health: Health,
}

/// Why the client gave no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cut {
    /// `not_after` had passed: it never ran.
    NotBegun,
    Late,
    Panicked,
}

impl Cut {
    fn cause(self) -> String {
        match self {
            Self::NotBegun => "not_after had passed",
            Self::Late => "no reply within the call's deadline",
            Self::Panicked => "the provider's client panicked",
        }
        .to_owned()
    }

    fn health(self) -> Health {
        match self {
            Self::NotBegun => Health::Void,
            Self::Late | Self::Panicked => Health::Overloaded,
        }
    }
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
    let ability = provider.ability();
    match request.prior {
        Prior::None => send(provider, request, ability, fence).await,
        Prior::Unknown { .. } if ability.lookup => look_up(provider, request, ability, fence).await,
        Prior::Unknown { first_tried_at } if key_holds(ability, first_tried_at, fence.clock.now()) => {
            let mut ended = send(provider, request, ability, fence).await;
            if let MessageOutcome::Refused { code, class: _ } = &ended.outcome {
                ended.outcome = MessageOutcome::Unknown { cause: format!("the repeat was refused: {code}") };
            }
            ended
        }
        Prior::Unknown { .. } => Ended { outcome: unconfirmed(provider, fence), health: Health::Void },
    }
}

/// Whether a repeat under the same key has no second effect even if it arrives as late as it can.
fn key_holds(ability: Ability, first_tried_at: Timestamp, now: Timestamp) -> bool {
    let Some(window) = ability.key_window else { return false };
    now + CALL_DEADLINE + CLOCK_UNCERTAINTY < first_tried_at + window
}

fn unconfirmed(provider: &dyn MessageProvider, fence: &Fence<'_>) -> MessageOutcome {
    MessageOutcome::Unconfirmed { provider: provider.name().to_owned(), at: fence.clock.now() }
}

async fn look_up(
    provider: &dyn MessageProvider,
    request: &MessageRequest,
    ability: Ability,
    fence: &Fence<'_>,
) -> Ended<MessageOutcome> {
    let answer = fenced(fence, false, async { provider.lookup(request, CLIENT_DEADLINE).await }).await;
    let (outcome, health) = match answer {
        Ok(LookupAnswer::Absent) => return send(provider, request, ability, fence).await,
        Ok(LookupAnswer::Found { receipt, at }) => (
            MessageOutcome::Accepted { provider: provider.name().to_owned(), receipt, at },
            Health::Good { latency: None },
        ),
        Ok(LookupAnswer::Unknown { cause }) => (MessageOutcome::Unknown { cause }, Health::Overloaded),
        Err(Cut::NotBegun) => (MessageOutcome::NotSent { cause: Cut::NotBegun.cause() }, Health::Void),
        Err(cut) => (MessageOutcome::Unknown { cause: cut.cause() }, cut.health()),
    };
    Ended { outcome, health }
}

async fn send(
    provider: &dyn MessageProvider,
    request: &MessageRequest,
    ability: Ability,
    fence: &Fence<'_>,
) -> Ended<MessageOutcome> {
    let started = tokio::time::Instant::now();
    let batch = std::slice::from_ref(request);
    let sent = fenced(fence, true, async { provider.send(batch, CLIENT_DEADLINE).await }).await;
    let (outcome, health) = match sent {
        Ok(mut outcomes) => {
            let outcome = match outcomes.pop() {
                Some(outcome) if outcomes.is_empty() => outcome,
                Some(_) | None => MessageOutcome::Unknown { cause: "not one outcome for one message".to_owned() },
            };
            let health = verdict::of_message(&outcome, since(started));
            (outcome, health)
        }
        Err(Cut::NotBegun) => (MessageOutcome::NotSent { cause: Cut::NotBegun.cause() }, Health::Void),
        Err(cut) => (MessageOutcome::Unknown { cause: cut.cause() }, cut.health()),
    };
    let outcome = match outcome {
        MessageOutcome::Unknown { .. } if ability.key_window.is_none() && !ability.lookup => {
            unconfirmed(provider, fence)
        }
        MessageOutcome::Refused { code, class } => {
            MessageOutcome::Refused { code: verdict::split_code(&code).0.to_owned(), class }
        }
        other @ (MessageOutcome::Accepted { .. }
        | MessageOutcome::Unknown { .. }
        | MessageOutcome::Unconfirmed { .. }
        | MessageOutcome::NotSent { .. }) => other,
    };
    Ended { outcome, health }
}

/// Performs a payment's call.
pub(crate) async fn payment(
    provider: &dyn PaymentProvider,
    request: &PaymentRequest,
    fence: &Fence<'_>,
) -> Ended<PaymentOutcome> {
    let payment_key = match (&request.prior, &request.operation) {
        (Prior::None, _) | (Prior::Unknown { .. }, PaymentOperation::Lookup { .. }) => {
            return pay(provider, request, fence).await;
        }
        (
            Prior::Unknown { .. },
            PaymentOperation::Confirm { payment_key, .. } | PaymentOperation::Cancel { payment_key, .. },
        ) => payment_key.clone(),
    };
    let lookup = PaymentRequest { operation: PaymentOperation::Lookup { payment_key }, ..request.clone() };
    let found = pay(provider, &lookup, fence).await;
    if settles(&request.operation, &found.outcome) {
        return found;
    }
    pay(provider, request, fence).await
}

/// Whether what a lookup found is the outcome of `operation`; if not, the operation is repeated under its key.
fn settles(operation: &PaymentOperation, found: &PaymentOutcome) -> bool {
    match (operation, found) {
        (_, PaymentOutcome::Unknown { .. } | PaymentOutcome::NotSent { .. }) => true,
        (PaymentOperation::Cancel { amount, .. }, PaymentOutcome::Refunded { amount: given_back, .. }) => {
            given_back.currency == amount.currency && given_back.minor >= amount.minor
        }
        (
            PaymentOperation::Cancel { .. },
            PaymentOutcome::Captured { .. }
            | PaymentOutcome::NotCaptured { .. }
            | PaymentOutcome::Pending
            | PaymentOutcome::RefundRefused { .. },
        ) => false,
        (PaymentOperation::Confirm { .. }, PaymentOutcome::Pending | PaymentOutcome::RefundRefused { .. }) => false,
        (
            PaymentOperation::Confirm { .. },
            PaymentOutcome::Captured { .. } | PaymentOutcome::NotCaptured { .. } | PaymentOutcome::Refunded { .. },
        )
        | (PaymentOperation::Lookup { .. }, _) => true,
    }
}

async fn pay(provider: &dyn PaymentProvider, request: &PaymentRequest, fence: &Fence<'_>) -> Ended<PaymentOutcome> {
    let effect = !matches!(request.operation, PaymentOperation::Lookup { .. });
    let started = tokio::time::Instant::now();
    let (outcome, health) =
        match fenced(fence, effect, async { provider.perform(request, CLIENT_DEADLINE).await }).await {
            Ok(outcome) => {
                let health = verdict::of_payment(&outcome, since(started));
                (bare_code(outcome), health)
            }
            Err(Cut::NotBegun) => (PaymentOutcome::NotSent { cause: Cut::NotBegun.cause() }, Health::Void),
            Err(cut) => (PaymentOutcome::Unknown { cause: cut.cause() }, cut.health()),
        };
    Ended { outcome, health }
}

fn bare_code(outcome: PaymentOutcome) -> PaymentOutcome {
    match outcome {
        PaymentOutcome::RefundRefused { code, class } => {
            PaymentOutcome::RefundRefused { code: verdict::split_code(&code).0.to_owned(), class }
        }
        other @ (PaymentOutcome::Captured { .. }
        | PaymentOutcome::NotCaptured { .. }
        | PaymentOutcome::Pending
        | PaymentOutcome::Refunded { .. }
        | PaymentOutcome::Unknown { .. }
        | PaymentOutcome::NotSent { .. }) => other,
    }
}

/// Performs a shipment's call. After an unknown try it is looked up first, then repeated under its key.
pub(crate) async fn shipment(
    provider: &dyn ShippingProvider,
    request: &ShipmentRequest,
    fence: &Fence<'_>,
) -> Ended<ShipmentOutcome> {
    let looks_up = matches!(request.operation, ShipmentOperation::Lookup);
    if matches!(request.prior, Prior::Unknown { .. }) && !looks_up {
        let lookup = ShipmentRequest { operation: ShipmentOperation::Lookup, ..request.clone() };
        let found = ship(provider, &lookup, fence).await;
        if is_answer_to(&request.operation, &found.outcome) {
            return found;
        }
    }
    ship(provider, request, fence).await
}

/// Whether what a lookup found is the outcome of `operation`; if not, the operation is repeated under its key.
fn is_answer_to(operation: &ShipmentOperation, found: &ShipmentOutcome) -> bool {
    match (operation, found) {
        (_, ShipmentOutcome::Unknown { .. } | ShipmentOutcome::NotSent { .. }) => true,
        (ShipmentOperation::Lookup, _) => true,
        (ShipmentOperation::Prepare { .. }, ShipmentOutcome::Prepared { .. } | ShipmentOutcome::Cancelled { .. }) => {
            true
        }
        (ShipmentOperation::Cancel { .. }, ShipmentOutcome::Cancelled { .. }) => true,
        (ShipmentOperation::Cancel { .. }, ShipmentOutcome::Prepared { .. })
        | (
            ShipmentOperation::Prepare { .. } | ShipmentOperation::Cancel { .. },
            ShipmentOutcome::Absent | ShipmentOutcome::Refused { .. },
        ) => false,
    }
}

async fn ship(provider: &dyn ShippingProvider, request: &ShipmentRequest, fence: &Fence<'_>) -> Ended<ShipmentOutcome> {
    let effect = !matches!(request.operation, ShipmentOperation::Lookup);
    let started = tokio::time::Instant::now();
    let (outcome, health) =
        match fenced(fence, effect, async { provider.perform(request, CLIENT_DEADLINE).await }).await {
            Ok(ShipmentOutcome::Refused { code, class }) => {
                let outcome = ShipmentOutcome::Refused { code: verdict::split_code(&code).0.to_owned(), class };
                (outcome, verdict::of_shipment(&ShipmentOutcome::Refused { code, class }, since(started)))
            }
            Ok(outcome) => {
                let health = verdict::of_shipment(&outcome, since(started));
                (outcome, health)
            }
            Err(Cut::NotBegun) => (ShipmentOutcome::NotSent { cause: Cut::NotBegun.cause() }, Health::Void),
            Err(cut) => (ShipmentOutcome::Unknown { cause: cut.cause() }, cut.health()),
        };
    Ended { outcome, health }
}

/// The answer to a message without a call: the provider is away, or the channel has no provider. What is unknown about
/// an earlier try stays unknown.
pub(crate) fn refuse_message(request: &MessageRequest, code: &str, class: RefusalClass) -> MessageOutcome {
    match request.prior {
        Prior::None => MessageOutcome::Refused { code: code.to_owned(), class },
        Prior::Unknown { .. } => MessageOutcome::NotSent { cause: code.to_owned() },
    }
}

#[cfg(test)]
mod shipment_tests;
#[cfg(test)]
mod tests;

//! Events as JSON for the timeline, the live stream and the event stream, under the document's names. No personal data.

use super::command::{End, ReservationEvent, ReservationFact};
use super::state::Status;
use crate::domain::kinds;
use crate::domain::show::DATA_PLATFORM;
use crate::types::codec::{self, CodecError};
use crate::types::money::Money;
use crate::types::publication::{Publication, Topic};
use serde_json::{Value, json};

/// What asks for a payment, and what came of it.
const PAYMENT_REQUESTS: Topic = Topic("payment-requests.v1");
const PAYMENT_RESULTS: Topic = Topic("payment-results.v1");

/// The topics that a reservation's events are published under; shows share the last.
pub const TOPICS: [Topic; 3] = [PAYMENT_REQUESTS, PAYMENT_RESULTS, DATA_PLATFORM];

fn money(amount: Money) -> Value {
    json!({ "value": amount.minor, "currency": amount.currency.code() })
}

fn status_of(end: End) -> &'static str {
    match end {
        End::Failed => Status::PaymentFailed.name(),
        End::Expired => Status::Expired.name(),
        End::Cancelled => Status::Cancelled.name(),
    }
}

/// `{"type": ..., "at": ..., ...}`.
pub(super) fn describe(event: &ReservationEvent) -> Value {
    let mut told = match &event.fact {
        ReservationFact::Assigned(assignment) => json!({
            "type": "temporary_assigned", "show_id": kinds::text_id(assignment.show), "seats": assignment.names(),
            "amount": money(assignment.amount), "queue_number": assignment.number.0,
        }),
        ReservationFact::PaymentRequested { method, amount, .. } => {
            json!({ "type": "payment_requested", "method": method.name(), "amount": money(*amount) })
        }
        ReservationFact::Attempted { step, .. } => json!({ "type": "step_attempted", "step": step.name() }),
        ReservationFact::Undecided { step, doubt, retry_at } => {
            let mut told = doubt.described("step_undecided", *retry_at);
            told["step"] = json!(step.name());
            told
        }
        ReservationFact::Refused { step, code, retry_at } => {
            let retry_at = retry_at.to_rfc3339();
            json!({ "type": "step_refused", "step": step.name(), "code": code, "retry_at": retry_at })
        }
        ReservationFact::Paid { provider, amount } => {
            json!({ "type": "payment_completed", "provider": provider, "amount": money(*amount) })
        }
        ReservationFact::Confirmed => json!({ "type": "confirmed" }),
        ReservationFact::Left => json!({ "type": "queue_left" }),
        ReservationFact::Closed => json!({ "type": "cancellation_closed" }),
        ReservationFact::Settled => json!({ "type": "payment_settled" }),
        ReservationFact::Ended { end, code, doubtful } => {
            json!({ "type": status_of(*end), "code": code, "doubtful": doubtful })
        }
        ReservationFact::Released => json!({ "type": "seats_released" }),
        ReservationFact::PaymentRuledOut { code } => json!({ "type": "payment_ruled_out", "code": code }),
        ReservationFact::Refunded { amount } => json!({ "type": "refunded", "amount": money(*amount) }),
        ReservationFact::Stuck { step, code } => json!({ "type": "stuck", "step": step.name(), "code": code }),
        ReservationFact::Replayed { actor } => json!({ "type": "dead_letter_replayed", "actor": actor }),
        ReservationFact::Discarded { step, actor, reason } => {
            json!({ "type": "dead_letter_discarded", "step": step.name(), "actor": actor, "reason": reason })
        }
        ReservationFact::Hinted => json!({ "type": "payment_hinted" }),
        ReservationFact::Forgotten => json!({ "type": "forgotten" }),
    };
    told["at"] = json!(event.at.to_rfc3339());
    told
}

/// What the events of one record say on the event stream, one publication for each, in order.
///
/// # Errors
/// [`CodecError`]: the bytes are not a reservation's events.
pub fn publications(events: &[u8]) -> Result<Vec<Publication>, CodecError> {
    let events: Vec<ReservationEvent> = codec::decode(events)?;
    // The cause of a doubt, an operator's name and words: text that a person or another system wrote.
    let hidden = ["cause", "actor", "reason"];
    events.iter().map(|event| Publication::new(topic_of(&event.fact), describe(event), &hidden)).collect()
}

fn topic_of(fact: &ReservationFact) -> Topic {
    match fact {
        ReservationFact::PaymentRequested { .. } | ReservationFact::Attempted { .. } | ReservationFact::Hinted => {
            PAYMENT_REQUESTS
        }
        ReservationFact::Undecided { .. }
        | ReservationFact::Refused { .. }
        | ReservationFact::Paid { .. }
        | ReservationFact::Settled
        | ReservationFact::PaymentRuledOut { .. }
        | ReservationFact::Refunded { .. }
        | ReservationFact::Ended { end: End::Failed, .. }
        | ReservationFact::Stuck { .. }
        | ReservationFact::Replayed { .. }
        | ReservationFact::Discarded { .. } => PAYMENT_RESULTS,
        ReservationFact::Assigned(_)
        | ReservationFact::Confirmed
        | ReservationFact::Left
        | ReservationFact::Closed
        | ReservationFact::Ended { end: End::Expired | End::Cancelled, .. }
        | ReservationFact::Released
        | ReservationFact::Forgotten => DATA_PLATFORM,
    }
}

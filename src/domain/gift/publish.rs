//! The gift on the event stream: every event under a topic, none with personal data or free text.
//!
//! `reservation.created` is said once the money is there, as the documents want it; the request itself is
//! `reservation.requested`. A payment that came too late or with another amount is a `payment.result`: its record
//! begins the refund, and nothing was created. Topics are not renamed: what a consumer would read differently gets
//! the next version.

use super::describe::describe;
use super::event::{DeliveryFact, GiftEvent, GiftFact, NoticeFact, PaymentFact, PlanFact, RefundFact, UseFact};
use crate::types::codec::{self, CodecError};
use crate::types::publication::{Publication, Topic};

const REQUESTED: Topic = Topic("reservation.requested.v1");
const CREATED: Topic = Topic("reservation.created.v1");
const CHANGED: Topic = Topic("reservation.changed.v1");
const CANCELLED: Topic = Topic("reservation.cancelled.v1");
const PAYMENT_REQUEST: Topic = Topic("payment.request.v1");
const PAYMENT_RESULT: Topic = Topic("payment.result.v1");
const DISPATCH_REQUEST: Topic = Topic("dispatch.request.v1");
const DELIVERY_RESULT: Topic = Topic("delivery.result.v1");
const ACCEPTED: Topic = Topic("gift.accepted.v1");
const DECLINED: Topic = Topic("gift.declined.v1");
const TRANSFERRED: Topic = Topic("gift.transferred.v1");
const USED: Topic = Topic("gift.used.v1");
const USE_CANCELLED: Topic = Topic("gift.use.cancelled.v1");
const EXPIRED_SOON: Topic = Topic("gift.expired.soon.v1");
const EXPIRED: Topic = Topic("gift.expired.v1");
const ERASED: Topic = Topic("gift.erased.v1");
const FORGOTTEN: Topic = Topic("gift.forgotten.v1");
const REFUND_REQUEST: Topic = Topic("refund.request.v1");
const REFUND_RESULT: Topic = Topic("refund.result.v1");
const REFUND_COMPLETED: Topic = Topic("refund.completed.v1");
const REMINDER_MOVED: Topic = Topic("reminder.moved.v1");
const NOTIFICATION_RESULT: Topic = Topic("notification.result.v1");
const LETTER_REPLAYED: Topic = Topic("deadletter.replayed.v1");
const LETTER_DISCARDED: Topic = Topic("deadletter.discarded.v1");

/// The topics that a gift's events are published under.
pub const TOPICS: [Topic; 24] = [
    REQUESTED,
    CREATED,
    CHANGED,
    CANCELLED,
    PAYMENT_REQUEST,
    PAYMENT_RESULT,
    DISPATCH_REQUEST,
    DELIVERY_RESULT,
    ACCEPTED,
    DECLINED,
    TRANSFERRED,
    USED,
    USE_CANCELLED,
    EXPIRED_SOON,
    EXPIRED,
    ERASED,
    FORGOTTEN,
    REFUND_REQUEST,
    REFUND_RESULT,
    REFUND_COMPLETED,
    REMINDER_MOVED,
    NOTIFICATION_RESULT,
    LETTER_REPLAYED,
    LETTER_DISCARDED,
];

/// What the events of one record say on the event stream, one publication for each, in order.
///
/// # Errors
/// [`CodecError`]: the bytes are not a gift's events.
pub fn publications(events: &[u8]) -> Result<Vec<Publication>, CodecError> {
    let events: Vec<GiftEvent> = codec::decode(events)?;
    let refunds = events.iter().any(|event| matches!(event.fact, GiftFact::Refund(RefundFact::Started { .. })));
    let publish = |event: &GiftEvent| {
        let (topic, hidden) = (topic_of(&event.fact, refunds), hidden_of(&event.fact));
        Publication::new(topic, describe(event), hidden)
    };
    events.iter().map(publish).collect()
}

/// `refunds`: the same record begins a refund.
fn topic_of(fact: &GiftFact, refunds: bool) -> Topic {
    match fact {
        GiftFact::Reserved(_) | GiftFact::ReservedWith(..) => REQUESTED,
        GiftFact::Coupon(_) => PAYMENT_RESULT,
        GiftFact::Payment(PaymentFact::Captured { .. }) if !refunds => CREATED,
        GiftFact::Payment(fact) => payment(fact),
        GiftFact::Plan(PlanFact::Changed(_) | PlanFact::ReResolved { .. }) => CHANGED,
        GiftFact::Plan(PlanFact::Cancelled) => CANCELLED,
        GiftFact::Delivery(fact) => delivery(fact),
        GiftFact::Use(fact) => usage(fact),
        GiftFact::Refund(fact) => refund(fact),
        GiftFact::Notice(NoticeFact::ReminderDue { .. }) => EXPIRED_SOON,
        GiftFact::Notice(NoticeFact::ReminderMoved { .. }) => REMINDER_MOVED,
        GiftFact::Notice(NoticeFact::Settled(_)) => NOTIFICATION_RESULT,
        GiftFact::DeadLetterReplayed { .. } => LETTER_REPLAYED,
        GiftFact::DeadLetterDiscarded { .. } => LETTER_DISCARDED,
        GiftFact::Erased => ERASED,
        GiftFact::Forgotten => FORGOTTEN,
    }
}

fn payment(fact: &PaymentFact) -> Topic {
    match fact {
        PaymentFact::Attempted(_) | PaymentFact::Hinted => PAYMENT_REQUEST,
        PaymentFact::Captured { .. }
        | PaymentFact::Undecided { .. }
        | PaymentFact::Refused { .. }
        | PaymentFact::TimedOut
        | PaymentFact::RuledOut { .. }
        | PaymentFact::HoldClosed => PAYMENT_RESULT,
    }
}

fn delivery(fact: &DeliveryFact) -> Topic {
    match fact {
        DeliveryFact::Attempted(_) => DISPATCH_REQUEST,
        DeliveryFact::Accepted { .. }
        | DeliveryFact::Undecided { .. }
        | DeliveryFact::Refused { .. }
        | DeliveryFact::Failed { .. }
        | DeliveryFact::Delivered { .. }
        | DeliveryFact::Confirmed { .. }
        | DeliveryFact::FailureNoted { .. } => DELIVERY_RESULT,
    }
}

fn usage(fact: &UseFact) -> Topic {
    match fact {
        UseFact::Accepted => ACCEPTED,
        UseFact::Declined => DECLINED,
        UseFact::Transferred { .. } | UseFact::HandedOn(_) => TRANSFERRED,
        UseFact::Redeemed { .. } => USED,
        UseFact::RedemptionCancelled { .. } => USE_CANCELLED,
        UseFact::Expired => EXPIRED,
    }
}

fn refund(fact: &RefundFact) -> Topic {
    match fact {
        RefundFact::Started { .. } | RefundFact::Attempted(_) => REFUND_REQUEST,
        RefundFact::Undecided { .. }
        | RefundFact::Refused { .. }
        | RefundFact::Failed { .. }
        | RefundFact::MoneyKept => REFUND_RESULT,
        RefundFact::Settled { .. } => REFUND_COMPLETED,
    }
}

/// What the timeline shows and the outside does not get: who an operator is, and text that a person or another system
/// wrote and that may say anything.
fn hidden_of(fact: &GiftFact) -> &'static [&'static str] {
    match fact {
        GiftFact::DeadLetterReplayed { .. } => &["actor"],
        GiftFact::DeadLetterDiscarded { .. } => &["actor", "reason"],
        GiftFact::Payment(PaymentFact::Undecided { .. })
        | GiftFact::Delivery(DeliveryFact::Undecided { .. })
        | GiftFact::Refund(RefundFact::Undecided { .. }) => &["cause"],
        GiftFact::Delivery(DeliveryFact::Accepted { .. }) => &["receipt"],
        GiftFact::Reserved(_)
        | GiftFact::ReservedWith(..)
        | GiftFact::Coupon(_)
        | GiftFact::Payment(_)
        | GiftFact::Plan(_)
        | GiftFact::Delivery(_)
        | GiftFact::Use(_)
        | GiftFact::Refund(_)
        | GiftFact::Notice(_)
        | GiftFact::Erased
        | GiftFact::Forgotten => &[],
    }
}

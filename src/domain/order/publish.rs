//! The order on the event stream, under the documents' names. Every event is said, none with personal data or free text.

use super::command::{OrderEvent, OrderFact};
use super::describe::describe;
use crate::types::codec::{self, CodecError};
use crate::types::publication::{Publication, Topic};

const CREATED: Topic = Topic("order-created.v1");
const PAYMENT_REQUESTED: Topic = Topic("payment-requested.v1");
const PAYMENT_COMPLETED: Topic = Topic("payment-completed.v1");
const PAYMENT_REFUNDED: Topic = Topic("payment-refunded.v1");
const INVENTORY_RESERVED: Topic = Topic("inventory-reserved.v1");
const INVENTORY_CONFIRMED: Topic = Topic("inventory-confirmed.v1");
const INVENTORY_RELEASED: Topic = Topic("inventory-released.v1");
const SHIPPING_PREPARED: Topic = Topic("shipping-prepared.v1");
const SHIPPING_CANCELLED: Topic = Topic("shipping-cancelled.v1");
const COMPLETED: Topic = Topic("order-completed.v1");
const COMPENSATING: Topic = Topic("order-compensating.v1");
const FAILED: Topic = Topic("order-failed.v1");
const CANCELLED: Topic = Topic("order-cancelled.v1");
const STUCK: Topic = Topic("order-stuck.v1");
const STEP: Topic = Topic("order-step.v1");
const NOTIFICATION: Topic = Topic("order-notification.v1");
const FORGOTTEN: Topic = Topic("order-forgotten.v1");

/// The topics that an order's events are published under.
pub const TOPICS: [Topic; 17] = [
    CREATED,
    PAYMENT_REQUESTED,
    PAYMENT_COMPLETED,
    PAYMENT_REFUNDED,
    INVENTORY_RESERVED,
    INVENTORY_CONFIRMED,
    INVENTORY_RELEASED,
    SHIPPING_PREPARED,
    SHIPPING_CANCELLED,
    COMPLETED,
    COMPENSATING,
    FAILED,
    CANCELLED,
    STUCK,
    STEP,
    NOTIFICATION,
    FORGOTTEN,
];

/// What the events of one record say on the event stream, one publication for each, in order.
///
/// # Errors
/// [`CodecError`]: the bytes are not an order's events.
pub fn publications(events: &[u8]) -> Result<Vec<Publication>, CodecError> {
    let events: Vec<OrderEvent> = codec::decode(events)?;
    // The cause of a doubt, an operator's name and words: text that a person or another system wrote.
    let hidden = ["cause", "actor", "reason"];
    events.iter().map(|event| Publication::new(topic_of(&event.fact), describe(event), &hidden)).collect()
}

fn topic_of(fact: &OrderFact) -> Topic {
    match fact {
        OrderFact::Created(_) | OrderFact::CreatedWith(..) => CREATED,
        OrderFact::PaymentRequested { .. } => PAYMENT_REQUESTED,
        OrderFact::Paid { .. } => PAYMENT_COMPLETED,
        OrderFact::Refunded { .. } | OrderFact::PaymentRuledOut { .. } => PAYMENT_REFUNDED,
        OrderFact::Reserved { .. } => INVENTORY_RESERVED,
        OrderFact::Confirmed { .. } => INVENTORY_CONFIRMED,
        OrderFact::Released { .. } => INVENTORY_RELEASED,
        OrderFact::Shipped { .. } => SHIPPING_PREPARED,
        OrderFact::Unshipped => SHIPPING_CANCELLED,
        OrderFact::Completed => COMPLETED,
        OrderFact::Compensating { .. } | OrderFact::CancelRequested => COMPENSATING,
        OrderFact::Failed { .. } => FAILED,
        OrderFact::Cancelled => CANCELLED,
        OrderFact::Stuck { .. } | OrderFact::Replayed { .. } | OrderFact::Discarded { .. } => STUCK,
        OrderFact::Attempted { .. }
        | OrderFact::Undecided { .. }
        | OrderFact::Refused { .. }
        | OrderFact::Settled
        | OrderFact::CouponUsed
        | OrderFact::CouponReturned
        | OrderFact::Hinted => STEP,
        OrderFact::TellsBuyer { .. }
        | OrderFact::NoticesSettled(_)
        | OrderFact::NoticeReplayed { .. }
        | OrderFact::NoticeDiscarded { .. } => NOTIFICATION,
        OrderFact::Forgotten | OrderFact::Erased => FORGOTTEN,
    }
}

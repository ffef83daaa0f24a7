//! Calls to the outside world and what came of them: the language between an entity, a gateway and a provider.
//!
//! A failure is always one of: refused (definitely not performed), unknown (may or may not have been), not sent
//! (definitely never left this process).

use crate::types::codec;
use crate::types::contact::Private;
use crate::types::effect::Channel;
use crate::types::ids::{CommandId, EntityKey};
use crate::types::money::Money;
use crate::types::time::Timestamp;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// What a call asks for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum CallRequest {
    Message(MessageRequest),
    Payment(PaymentRequest),
    Entity(EntityRequest),
    Shipment(ShipmentRequest),
}

/// What is known of an earlier try of the very same attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Prior {
    /// First try.
    None,
    /// An earlier try has an unknown outcome: look it up first, then repeat the same bytes under the same key.
    Unknown { first_tried_at: Timestamp },
    /// Of what is sent at least once: there may have been an earlier try, by this leader or another one. As `Unknown` where
    /// something can be found out; where nothing can, it is sent.
    Perhaps { since: Timestamp },
}

impl Prior {
    /// When the first of the earlier tries was made, if there was one.
    #[must_use]
    pub fn first_tried_at(self) -> Option<Timestamp> {
        match self {
            Self::None => None,
            Self::Unknown { first_tried_at: at } | Self::Perhaps { since: at } => Some(at),
        }
    }
}

/// One message to one person over one channel. The same attempt always renders to the same bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MessageRequest {
    /// Our correlation id, `<entity>.<generation>.<attempt>` for a gift, `<entity>.n.<slot>.<generation>` for a notice of a gift or an order.
    /// It is the provider's idempotency key where it has one, and the ledger's `reference`.
    pub reference: String,
    pub purpose: Purpose,
    pub channel: Channel,
    /// Logical template; each provider maps it to its own template code.
    pub template: Template,
    pub to: Private<Address>,
    /// Variables of the template, by name, in a fixed order.
    pub variables: Vec<(String, Private<String>)>,
    /// The recipient's link, for the button or the text.
    pub link: Option<Private<String>>,
    pub prior: Prior,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Purpose {
    Gift,
    Notice,
}

impl Purpose {
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Gift => "gift",
            Self::Notice => "notice",
        }
    }
}

/// Logical message templates.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Template {
    GiftArrived,
    ExpiresInDays,
    SenderReserved,
    SenderSent,
    SenderAccepted,
    SenderFailed,
    SenderRefunded,
    SenderMoved,
    OrderPlaced,
    OrderCompleted,
    OrderFailed,
    OrderCancelled,
}

impl Template {
    /// Logical name, used as a key in the provider settings. At most 20 bytes, as NHN's template codes.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::GiftArrived => "gift_arrived",
            Self::ExpiresInDays => "expires_in_days",
            Self::SenderReserved => "sender_reserved",
            Self::SenderSent => "sender_sent",
            Self::SenderAccepted => "sender_accepted",
            Self::SenderFailed => "sender_failed",
            Self::SenderRefunded => "sender_refunded",
            Self::SenderMoved => "sender_moved",
            Self::OrderPlaced => "order_placed",
            Self::OrderCompleted => "order_completed",
            Self::OrderFailed => "order_failed",
            Self::OrderCancelled => "order_cancelled",
        }
    }
}

/// Where a message goes.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Address {
    /// E.164, `+821012345678`.
    Phone(String),
    Email(String),
    /// Push registration token, or a topic when it starts with `/topics/`.
    Push(String),
}

/// What became of a message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum MessageOutcome {
    /// The provider took it. Lateness is measured at `at`.
    Accepted { provider: String, receipt: String, at: Timestamp },
    /// Definitely not performed.
    Refused { code: String, class: RefusalClass },
    /// May or may not have been performed; nothing may go to another channel before a lookup says no.
    Unknown { cause: String },
    /// Unknown on a channel with neither key nor lookup: final, never resent by itself.
    Unconfirmed { provider: String, at: Timestamp },
    /// Never left: the attempt's `not_after` had passed, or the gateway was closing.
    NotSent { cause: String },
}

/// What a definite refusal means for the next step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum RefusalClass {
    /// Worth another try on this channel later (429, 5xx that is known not to have been applied).
    Retry,
    /// This person cannot be reached on this channel (no KakaoTalk user, blocked): next channel at once.
    NextChannel,
    /// The request itself is wrong (template, sender number): no try on this channel can succeed.
    Permanent,
}

/// A delivery report, by webhook or by poll, any number of times and in any order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    pub reference: String,
    pub provider: String,
    pub status: ReportStatus,
    pub at: Timestamp,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ReportStatus {
    Delivered,
    /// Sent, receipt unconfirmed, may still arrive (Kakao 3005): counts as sent, never followed by another channel.
    SentUnconfirmed,
    Failed {
        code: String,
        class: RefusalClass,
    },
}

/// Payment operations. All carry our order id, so that an unknown outcome can be looked up.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PaymentRequest {
    /// Our id of the payment, unique for good: the entity's text id.
    pub order_id: String,
    pub operation: PaymentOperation,
    /// The provider's `Idempotency-Key`.
    pub idempotency_key: String,
    pub prior: Prior,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum PaymentOperation {
    Confirm {
        payment_key: Private<String>,
        amount: Money,
    },
    /// Refunds `amount` of the captured payment.
    Cancel {
        payment_key: Private<String>,
        amount: Money,
        reason: String,
    },
    /// Asks by order id whether anything was captured.
    Lookup {
        payment_key: Private<String>,
    },
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum PaymentOutcome {
    /// Money is held (`Confirm` succeeded, or `Lookup` found it).
    Captured {
        provider: String,
        amount: Money,
        at: Timestamp,
    },
    /// Definitely nothing is captured: refused, or the lookup found nothing and it can no longer be captured.
    NotCaptured {
        code: String,
    },
    /// The lookup found it neither captured nor dead yet: ask again.
    Pending,
    /// `Cancel` took effect, now or earlier; `amount` is what was given back in total for this order.
    Refunded {
        amount: Money,
        at: Timestamp,
    },
    /// `Cancel` was definitely refused.
    RefundRefused {
        code: String,
        class: RefusalClass,
    },
    Unknown {
        cause: String,
    },
    NotSent {
        cause: String,
    },
}

/// A command for another entity. It answers a repeat from its state.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EntityRequest {
    pub target: EntityKey,
    pub command_id: CommandId,
    #[serde(with = "codec::bytes")]
    pub command: Vec<u8>,
}

impl EntityRequest {
    /// The `number`th call of `source`. Its command id follows from the two alone, so that every repeat, also under
    /// another leader, carries the same.
    #[must_use]
    pub fn of(source: EntityKey, number: u64, target: EntityKey, command: Vec<u8>) -> Self {
        let digest = Sha256::new()
            .chain_update(b"call\0")
            .chain_update(source.to_bytes())
            .chain_update(number.to_be_bytes())
            .finalize();
        let mut id = [0u8; 16];
        id.copy_from_slice(&digest[..16]);
        Self { target, command_id: CommandId(id), command }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum EntityOutcome {
    Done {
        #[serde(with = "codec::bytes")]
        state: Vec<u8>,
    },
    /// The target's business refusal, encoded. Not retried.
    Rejected {
        #[serde(with = "codec::bytes")]
        rejection: Vec<u8>,
    },
    Unknown {
        cause: String,
    },
}

/// An operation on one shipment. All carry our reference, by which the provider tells repeats and can be asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShipmentRequest {
    /// Our id of the shipment, unique for good: the entity's text id.
    pub reference: String,
    pub operation: ShipmentOperation,
    /// The provider's `Idempotency-Key`.
    pub idempotency_key: String,
    pub prior: Prior,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ShipmentOperation {
    /// Has the goods made ready to leave.
    Prepare { parcels: Vec<Parcel>, to: Option<Private<ShipTo>> },
    /// Takes it back. A reference that was never prepared cannot be prepared after this.
    Cancel { reason: String },
    /// Asks by reference what was done.
    Lookup,
}

/// Units of one stock-keeping unit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Parcel {
    pub sku: String,
    pub quantity: u32,
}

/// Where goods go.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShipTo {
    pub name: String,
    /// E.164, where one was given.
    pub phone: Option<String>,
    pub address: String,
}

impl std::fmt::Debug for ShipTo {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ShipTo(<private>)")
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ShipmentOutcome {
    Prepared {
        provider: String,
        tracking: String,
        at: Timestamp,
    },
    /// Taken back, now or earlier.
    Cancelled {
        at: Timestamp,
    },
    /// A lookup found nothing under the reference. It may still be prepared.
    Absent,
    /// The operation was definitely not performed.
    Refused {
        code: String,
        class: RefusalClass,
    },
    Unknown {
        cause: String,
    },
    NotSent {
        cause: String,
    },
}

/// What came of a call.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum CallOutcome {
    Message(MessageOutcome),
    Payment(PaymentOutcome),
    Entity(EntityOutcome),
    Shipment(ShipmentOutcome),
}

/// Cause of an outcome `NotSent` of a call whose turn came after its `not_after`.
pub const NOT_BEGUN: &str = "not_after had passed";

impl CallOutcome {
    /// It was let through, and not begun within its `not_after`: its record, or the lookup before it, took longer.
    #[must_use]
    pub fn is_not_begun(&self) -> bool {
        match self {
            Self::Message(MessageOutcome::NotSent { cause })
            | Self::Payment(PaymentOutcome::NotSent { cause })
            | Self::Shipment(ShipmentOutcome::NotSent { cause }) => cause == NOT_BEGUN,
            Self::Message(_) | Self::Payment(_) | Self::Shipment(_) | Self::Entity(_) => false,
        }
    }

    /// Never left, as an outcome of the same sort as `request`.
    #[must_use]
    pub fn not_sent(request: &CallRequest, cause: &str) -> Self {
        let cause = cause.to_owned();
        match request {
            CallRequest::Message(_) => Self::Message(MessageOutcome::NotSent { cause }),
            CallRequest::Payment(_) => Self::Payment(PaymentOutcome::NotSent { cause }),
            CallRequest::Entity(_) => Self::Entity(EntityOutcome::Unknown { cause }),
            CallRequest::Shipment(_) => Self::Shipment(ShipmentOutcome::NotSent { cause }),
        }
    }
}

//! What the sandbox writes down, before it answers: the events of its own store.
//!
//! Everything that the ledger, the lookups and the idempotency windows say is a fold of these events (`book.rs`), so a
//! restart forgets nothing. Tags are the variant order and are never reused: append only. Golden bytes below.

use crate::sandbox::settings::Provider;
use crate::types::effect::Channel;
use crate::types::time::Timestamp;
use serde::{Deserialize, Serialize};
use std::borrow::Cow;

/// One fact. Borrowed while it is written, owned when it is read back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Event<'a> {
    Message(MessageEvent<'a>),
    /// Results that came due together.
    Results {
        at: Timestamp,
        fired: Vec<Fired>,
    },
    /// Scheduled messages that were cancelled before their time.
    Cancelled {
        messages: Vec<MessageNumber>,
    },
    /// A Solapi group; the next number in order.
    GroupMade {
        at: Timestamp,
        allow_duplicates: bool,
    },
    /// A Solapi group was sent; the fates of its held messages, in order.
    GroupSent {
        group: GroupNumber,
        at: Timestamp,
        fates: Vec<(MessageNumber, Fate)>,
    },
    Confirm(ConfirmEvent<'a>),
    Refund(RefundEvent<'a>),
    /// A payment call that changed nothing: a replay, or one that was turned away.
    PaymentCall {
        order: Cow<'a, str>,
        refund: bool,
        amount: i64,
        at: Timestamp,
    },
    /// An unsent Solapi group was deleted, with its messages.
    GroupDeleted {
        group: GroupNumber,
    },
    Shipment(ShipmentEvent<'a>),
}

/// Position of a message in the order of arrival.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub(crate) struct MessageNumber(pub u32);

/// Position of a Solapi group in the order of making.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub(crate) struct GroupNumber(pub u32);

/// Position of a payment in the order of first sight.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub(crate) struct PaymentNumber(pub u32);

/// Digest of an idempotency key with its scope.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) struct KeyDigest(pub u128);

/// One recipient of one call.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct MessageEvent<'a> {
    pub provider: Provider,
    pub channel: Channel,
    /// The correlation id as the provider's field carried it; may be empty.
    pub reference: Cow<'a, str>,
    pub to: Cow<'a, str>,
    /// What the recipient reads.
    pub text: Cow<'a, str>,
    /// Subject of a mail or an LMS, title of a push.
    pub title: Cow<'a, str>,
    /// Sender key, number or address.
    pub from: Cow<'a, str>,
    /// Template code, where there is one.
    pub template: Cow<'a, str>,
    /// NHN: `senderGroupingKey`; Solapi: `customFields` as JSON.
    pub extra: Cow<'a, str>,
    pub at: Timestamp,
    /// Position within the call, from 1.
    pub sequence: u32,
    /// On the first recipient of a call that carried an idempotency key and was taken.
    pub key: Option<KeyDigest>,
    pub disposition: Disposition,
}

/// What the provider did with a message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Disposition {
    Accepted(Fate),
    /// Taken into a group that is not sent yet.
    Held {
        group: GroupNumber,
        fallback: bool,
    },
    /// Refused on entry, for this recipient alone. Solapi keeps it in its group.
    Refused {
        code: i32,
        group: Option<GroupNumber>,
    },
    /// The whole call was refused, turned away or recognised as a repeat: nothing was taken.
    NotTaken {
        code: i32,
    },
}

/// What will become of an accepted message.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Fate {
    /// Result codes in the order in which they become known. Empty: no result ever comes.
    pub steps: Vec<Step>,
    /// Whether a person gets it.
    pub reached: bool,
    /// Scheduled by the caller for later; it can be cancelled until then.
    pub send_at: Option<Timestamp>,
    /// The provider itself sends this as a text when the last step is a failure.
    pub fallback: bool,
}

/// A result code and when it becomes known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Step {
    pub code: u16,
    pub due: Timestamp,
}

/// A late truth that has come out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) enum Fired {
    /// `step` counts from 0.
    Message { number: MessageNumber, step: u8, code: u16 },
    /// A payment was captured after its caller had gone away.
    Capture { payment: PaymentNumber },
}

/// A confirm that was processed, with the reply that its key replays.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ConfirmEvent<'a> {
    pub order: Cow<'a, str>,
    pub payment_key: Cow<'a, str>,
    /// Won.
    pub amount: i64,
    pub at: Timestamp,
    pub outcome: ConfirmOutcome,
    pub reply: Option<StoredReply<'a>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum ConfirmOutcome {
    Captured,
    Refused,
    /// In progress; captured at the instant, if there is one.
    Open {
        capture_at: Option<Timestamp>,
    },
    /// Refused for a reason that leaves the payment as it was.
    Unchanged,
}

/// A cancel that was processed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RefundEvent<'a> {
    pub payment: PaymentNumber,
    /// Won given back; 0 when it was refused.
    pub amount: i64,
    pub reason: Cow<'a, str>,
    pub at: Timestamp,
    pub reply: Option<StoredReply<'a>>,
}

/// The first reply to an `Idempotency-Key`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct StoredReply<'a> {
    pub key: KeyDigest,
    pub status: u16,
    pub body: Cow<'a, str>,
}

/// A call about a shipment, and what it did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ShipmentEvent<'a> {
    pub reference: Cow<'a, str>,
    pub at: Timestamp,
    pub done: ShipmentDone,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum ShipmentDone {
    /// `final_once`: it leaves at once and cannot be cancelled.
    Prepared {
        final_once: bool,
    },
    Cancelled,
    /// A repeat, or refused.
    Nothing,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::codec::{decode, encode};

    fn message() -> Event<'static> {
        Event::Message(MessageEvent {
            provider: Provider::Nhn,
            channel: Channel::Kakao,
            reference: "g_1.0.1".into(),
            to: "01012345678".into(),
            text: "t".into(),
            title: "".into(),
            from: "k".into(),
            template: "c".into(),
            extra: "".into(),
            at: Timestamp(3),
            sequence: 1,
            key: Some(KeyDigest(5)),
            disposition: Disposition::Accepted(Fate {
                steps: vec![Step { code: 1000, due: Timestamp(9) }],
                reached: true,
                send_at: None,
                fallback: false,
            }),
        })
    }

    #[test]
    fn persisted_events_keep_their_bytes() {
        let golden = [
            (message(), "00000007675f312e302e310b3031303132333435363738017400016b016300060101050001fbe80312010000"),
            (
                Event::Results {
                    at: Timestamp(1),
                    fired: vec![
                        Fired::Message { number: MessageNumber(7), step: 1, code: 1000 },
                        Fired::Capture { payment: PaymentNumber(2) },
                    ],
                },
                "010202000701fbe8030102",
            ),
            (Event::Cancelled { messages: vec![MessageNumber(1)] }, "020101"),
            (Event::GroupMade { at: Timestamp(1), allow_duplicates: true }, "030201"),
        ];
        for (event, bytes) in golden {
            assert_eq!(hex::encode(encode(&event)), bytes, "{event:?}");
            assert_eq!(decode::<Event<'static>>(&encode(&event)).unwrap(), event);
        }
    }

    #[test]
    fn payment_events_keep_their_tags() {
        let confirm = Event::Confirm(ConfirmEvent {
            order: "o".into(),
            payment_key: "k".into(),
            amount: 1,
            at: Timestamp(1),
            outcome: ConfirmOutcome::Captured,
            reply: None,
        });
        assert_eq!(hex::encode(encode(&confirm)), "05016f016b02020000");
        let refund = Event::Refund(RefundEvent {
            payment: PaymentNumber(1),
            amount: 1,
            reason: "".into(),
            at: Timestamp(1),
            reply: Some(StoredReply { key: KeyDigest(1), status: 200, body: "b".into() }),
        });
        assert_eq!(hex::encode(encode(&refund)), "06010200020101c80162");
        let call = Event::PaymentCall { order: "o".into(), refund: true, amount: 0, at: Timestamp(1) };
        assert_eq!(hex::encode(encode(&call)), "07016f010002");
        let deleted = Event::GroupDeleted { group: GroupNumber(3) };
        assert_eq!(hex::encode(encode(&deleted)), "0803");
        let done = [ShipmentDone::Prepared { final_once: true }, ShipmentDone::Cancelled, ShipmentDone::Nothing];
        let bytes = done.map(|done| {
            hex::encode(encode(&Event::Shipment(ShipmentEvent { reference: "o".into(), at: Timestamp(1), done })))
        });
        assert_eq!(bytes, ["09016f020001", "09016f0201", "09016f0202"]);
    }
}

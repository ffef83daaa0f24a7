//! Our ids as providers carry them: the payment's order id, and the reference of a message, which a report brings back.

use super::PREFIX;
use super::slots;
use crate::types::ids::EntityKey;

/// Our id of the payment, unique for good: `g_<hex>`.
pub(super) fn order_id(key: EntityKey) -> String {
    format!("{PREFIX}_{}", key.hex())
}

/// The provider's `Idempotency-Key` of the payment, and of attempt `number` of its refund.
pub(super) fn pay_key(key: EntityKey) -> String {
    format!("{}.pay", order_id(key))
}
pub(super) fn refund_key(key: EntityKey, number: u16) -> String {
    format!("{}.refund.{number}", order_id(key))
}

/// `g_<hex>.<generation>.<attempt>`.
pub(super) fn send_reference(key: EntityKey, generation: u16, attempt: u16) -> String {
    format!("{}.{generation}.{attempt}", order_id(key))
}

/// `g_<hex>.n.<slot>.<generation>`.
pub(super) fn notice_reference(key: EntityKey, number: u16, generation: u16) -> String {
    format!("{}.n.{}.{generation}", order_id(key), slots::notice(number).0)
}

/// What a reference names within its gift.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reference {
    Send { generation: u16, attempt: u16 },
    Notice { number: u16 },
}

impl Reference {
    /// `None` for anything that we did not write.
    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split('.').skip(1);
        let (first, second, third, end) = (parts.next()?, parts.next()?, parts.next(), parts.next());
        match (first, third, end) {
            ("n", Some(_generation), None) => {
                let slot: u16 = second.parse().ok()?;
                let number = slot & 0x7FFF;
                (slots::notice(number).0 == slot).then_some(Self::Notice { number })
            }
            (generation, None, None) => {
                Some(Self::Send { generation: generation.parse().ok()?, attempt: second.parse().ok()? })
            }
            (_, _, _) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::kinds::GIFT;

    #[test]
    fn references_round_trip_and_strangers_are_refused() {
        let key = EntityKey { kind: GIFT, id: [0xab; 16] };
        let id = format!("g_{}", "ab".repeat(16));
        assert_eq!(send_reference(key, 1, 12), format!("{id}.1.12"));
        assert_eq!(Reference::parse(&send_reference(key, 1, 12)), Some(Reference::Send { generation: 1, attempt: 12 }));
        assert_eq!(notice_reference(key, 3, 0), format!("{id}.n.32771.0"));
        assert_eq!(Reference::parse(&notice_reference(key, 3, 0)), Some(Reference::Notice { number: 3 }));
        assert_eq!((pay_key(key), refund_key(key, 2)), (format!("{id}.pay"), format!("{id}.refund.2")));
        for text in ["", &id, &format!("{id}.1"), &format!("{id}.x.1"), &format!("{id}.1.1.1"), &format!("{id}.n.3.0")]
        {
            assert_eq!(Reference::parse(text), None, "{text}");
        }
    }
}

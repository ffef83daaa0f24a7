//! Names within a gift: the slots of its timers and calls, and our ids as providers carry them.
//!
//! Every attempt of a send and of a refund has a slot of its own, so that an outcome that comes late can never be
//! taken for that of another attempt. Repeating an attempt whose outcome is unknown keeps its slot.

use super::PREFIX;
use crate::domain::notices::{NoticeSlots, referred_slot};
use crate::types::effect::Slot;
use crate::types::ids::EntityKey;

pub(super) const PAYMENT_TIMEOUT: Slot = Slot(1);
pub(super) const EXPIRY: Slot = Slot(2);
pub(super) const REMINDER: Slot = Slot(3);
pub(super) const REPORT_TIMEOUT: Slot = Slot(4);
pub(super) const OVERDUE: Slot = Slot(5);
pub(super) const REFUND_REVIEW: Slot = Slot(6);
pub(super) const RETENTION: Slot = Slot(7);
pub(super) const PAYMENT: Slot = Slot(16);
pub(super) const COUPON_USE: Slot = Slot(17);
pub(super) const COUPON_RETURN: Slot = Slot(18);
pub(super) const WALLET_CLOSE: Slot = Slot(19);
pub(super) const WALLET_RELEASE: Slot = Slot(20);

const REFUND_BASE: u16 = 0x1000;
const SEND_BASE: u16 = 0x4000;
const NOTICE_BASE: u16 = 0x8000;
/// A notice on one of its channels, by its number in the gift. Numbers wrap after 8,192.
pub(super) const NOTICES: NoticeSlots = NoticeSlots::new(NOTICE_BASE, 13);

/// Attempt `number` of a refund; numbers stay far below 4,096.
pub(super) fn refund_slot(number: u16) -> Slot {
    Slot(REFUND_BASE | (number & 0x0FFF))
}

/// Attempt `number` of a generation. Generations wrap after 16, attempts stay within [`super::state::ATTEMPTS_MAX`].
pub(super) fn send_slot(generation: u16, number: u16) -> Slot {
    Slot(SEND_BASE | (generation & 0x000F) << 10 | (number & 0x03FF))
}

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

/// What a reference names within its gift.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reference {
    Send { generation: u16, attempt: u16 },
    Notice { slot: Slot },
}

impl Reference {
    /// `None` for anything that we did not write.
    pub fn parse(text: &str) -> Option<Self> {
        if let Some(slot) = referred_slot(text) {
            return (slot.0 & NOTICE_BASE != 0).then_some(Self::Notice { slot });
        }
        let mut parts = text.split('.').skip(1);
        let (generation, attempt, end) = (parts.next()?, parts.next()?, parts.next());
        let number = |text: &str| text.parse().ok();
        end.is_none().then_some(Self::Send { generation: number(generation)?, attempt: number(attempt)? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::kinds::GIFT;
    use crate::domain::notices::notice_reference;
    use crate::types::effect::Channel;

    #[test]
    fn slots_of_different_sorts_never_meet() {
        let ranges = [
            (Slot(0), WALLET_RELEASE),
            (refund_slot(0), refund_slot(0x0FFF)),
            (send_slot(0, 0), send_slot(15, 0x03FF)),
            (NOTICES.slot(0, Channel::Kakao), NOTICES.slot(0x1FFF, Channel::Push)),
        ];
        assert!(ranges.windows(2).all(|pair| pair[0].1 < pair[1].0));
        assert_ne!(send_slot(0, 2), send_slot(1, 2));
        assert_ne!(send_slot(1, 1), send_slot(1, 2));
    }

    #[test]
    fn references_round_trip_and_strangers_are_refused() {
        let key = EntityKey { kind: GIFT, id: [0xab; 16] };
        let id = format!("g_{}", "ab".repeat(16));
        assert_eq!(send_reference(key, 1, 12), format!("{id}.1.12"));
        assert_eq!(Reference::parse(&send_reference(key, 1, 12)), Some(Reference::Send { generation: 1, attempt: 12 }));
        let slot = NOTICES.slot(3, Channel::Kakao);
        assert_eq!(notice_reference(&id, slot, 0), format!("{id}.n.32771.0"));
        assert_eq!(Reference::parse(&notice_reference(&id, slot, 0)), Some(Reference::Notice { slot }));
        assert_ne!(slot, NOTICES.slot(3, Channel::Sms));
        assert_eq!((pay_key(key), refund_key(key, 2)), (format!("{id}.pay"), format!("{id}.refund.2")));
        for text in ["", &id, &format!("{id}.1"), &format!("{id}.x.1"), &format!("{id}.1.1.1"), &format!("{id}.n.3.0")]
        {
            assert_eq!(Reference::parse(text), None, "{text}");
        }
    }
}

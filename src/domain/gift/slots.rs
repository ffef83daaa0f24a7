//! The slots of a gift: which timer or call a number means.
//!
//! Every attempt of a send and of a refund has a slot of its own, so that an outcome that comes late can never be
//! taken for that of another attempt. Repeating an attempt whose outcome is unknown keeps its slot.

use crate::types::effect::Slot;

pub(super) const PAYMENT_TIMEOUT: Slot = Slot(1);
pub(super) const EXPIRY: Slot = Slot(2);
pub(super) const REMINDER: Slot = Slot(3);
pub(super) const REPORT_TIMEOUT: Slot = Slot(4);
pub(super) const OVERDUE: Slot = Slot(5);
pub(super) const REFUND_REVIEW: Slot = Slot(6);
pub(super) const PAYMENT: Slot = Slot(16);

const REFUND_BASE: u16 = 0x1000;
const SEND_BASE: u16 = 0x4000;
const NOTICE_BASE: u16 = 0x8000;

/// Attempt `number` of a refund; numbers stay far below 4,096.
pub(super) fn refund(number: u16) -> Slot {
    Slot(REFUND_BASE | (number & 0x0FFF))
}

/// Attempt `number` of a generation. Generations wrap after 16, attempts stay within [`super::state::ATTEMPTS_MAX`].
pub(super) fn send(generation: u16, number: u16) -> Slot {
    Slot(SEND_BASE | (generation & 0x000F) << 10 | (number & 0x03FF))
}

/// A notice, by its number in the gift.
pub(super) fn notice(number: u16) -> Slot {
    Slot(NOTICE_BASE | (number & 0x7FFF))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_of_different_sorts_never_meet() {
        let ranges = [
            (Slot(0), PAYMENT),
            (refund(0), refund(0x0FFF)),
            (send(0, 0), send(15, 0x03FF)),
            (notice(0), notice(0x7FFF)),
        ];
        assert!(ranges.windows(2).all(|pair| pair[0].1 < pair[1].0));
        assert_ne!(send(0, 2), send(1, 2));
        assert_ne!(send(1, 1), send(1, 2));
    }
}

//! Pauses and limits of repeated calls, where no policy names them. Pure, and the same on every node.

use crate::types::time::Millis;

/// An attempt whose outcome is unknown is looked up after this, twice as long each time, up to the maximum.
pub(super) const DOUBT_PAUSE: Millis = Millis::from_secs(5);
pub(super) const DOUBT_PAUSE_MAX: Millis = Millis::from_mins(5);
/// A call that never left is wanted again after this.
pub(super) const NOT_SENT_PAUSE: Millis = Millis::from_secs(1);
pub(super) const NOT_SENT_PAUSE_MAX: Millis = Millis::from_secs(30);
/// A send whose outcome stays unknown so often (about a day) becomes a dead letter, which keeps the doubt.
pub(super) const SEND_DOUBTS_MAX: u16 = 300;
/// A refund that was refused, but may pass.
pub(super) const REFUND_PAUSE: Millis = Millis::from_secs(10);
pub(super) const REFUND_PAUSE_MAX: Millis = Millis::from_hours(6);
/// Refusals of a refund (about five days) until it becomes a dead letter.
pub(super) const REFUND_REFUSALS_MAX: u16 = 30;
/// A refund that is a dead letter is tried once more by itself this often, so that no money is forgotten.
pub(super) const REFUND_REVIEW: Millis = Millis::from_days(7);

/// `first` doubled `times` times, at most `max`.
pub(super) fn doubled(first: Millis, times: u16, max: Millis) -> Millis {
    let factor = 1i64.checked_shl(u32::from(times.min(32))).unwrap_or(i64::MAX);
    Millis(first.0.saturating_mul(factor)).min(max)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_their_maximum() {
        let pauses = [0, 1, 2, 6, 7, 40, u16::MAX].map(|times| doubled(DOUBT_PAUSE, times, DOUBT_PAUSE_MAX).0);
        assert_eq!(pauses, [5_000, 10_000, 20_000, 300_000, 300_000, 300_000, 300_000]);
    }
}

//! When things happen: pauses of repeated calls, the end of validity, reminders and quiet hours. Policy and calendar are
//! asked once, in `decide`, and the answer is written into the event.

use super::event::{Reminder, Validity};
use super::state::Gift;
use crate::domain::calendar;
pub(super) use crate::domain::calling::doubled;
use crate::domain::policy::Policy;
use crate::types::time::{Millis, Timestamp};

/// A send whose outcome stays unknown so often (about a day) becomes a dead letter, which keeps the doubt.
pub(super) const SEND_DOUBTS_MAX: u16 = 300;
/// It stays in doubt for so long at least, before it becomes a dead letter: looks while the provider is away come sooner.
pub(super) const SEND_DOUBT_MAX: Millis = Millis::from_hours(24);
/// A refund that was refused, but may pass.
pub(super) const REFUND_PAUSE: Millis = Millis::from_secs(10);
pub(super) const REFUND_PAUSE_MAX: Millis = Millis::from_hours(6);
/// Refusals of a refund (about five days) until it becomes a dead letter.
pub(super) const REFUND_REFUSALS_MAX: u16 = 30;
/// A refund that is a dead letter is tried once more by itself this often, so that no money is forgotten.
pub(super) const REFUND_REVIEW: Millis = Millis::from_days(7);

impl Gift {
    fn policy(&self) -> &Policy {
        &self.product.policy
    }

    /// The validity of a gift that leaves at `left_at`; one that was handed on keeps its last day.
    pub(super) fn validity_from(&self, left_at: Timestamp) -> Validity {
        let known = self.validity.map(|validity| validity.expires_at);
        let expires_at =
            known.unwrap_or_else(|| calendar::validity_end(left_at, self.policy().validity_days, &self.recipient.zone));
        let reminder = next_reminder(self.policy(), expires_at, &self.recipient.zone, left_at);
        Validity { expires_at, reminder }
    }

    /// The validity for another recipient: the same last day, in their zone.
    pub(super) fn validity_in(&self, zone: &str, at: Timestamp) -> Validity {
        let known = self.validity_from(at).expires_at;
        let expires_at = calendar::same_day_end(known, &self.recipient.zone, zone);
        Validity { expires_at, reminder: next_reminder(self.policy(), expires_at, zone, at) }
    }

    pub(super) fn is_expired(&self, now: Timestamp) -> bool {
        self.validity.is_some_and(|validity| now > validity.expires_at)
    }

    /// What to do about a reminder that is due at `now`.
    pub(super) fn remind(&self, validity: Validity, now: Timestamp) -> Remind {
        let (policy, zone) = (self.policy(), &self.recipient.zone);
        let next = next_reminder(policy, validity.expires_at, zone, now);
        let planned = |days: u8| calendar::reminder_at(validity.expires_at, days, policy.reminder_hour, zone);
        let today = calendar::local_date(now, zone);
        // Late by a day or more, "expires in 3 days" would be wrong.
        let due_today =
            policy.reminder_days.iter().copied().find(|days| calendar::local_date(planned(*days), zone) == today);
        let Some(days) = due_today.filter(|days| planned(*days) <= now && *days != 0) else {
            return Remind::Later(next);
        };
        match self.after_quiet_hours(now) {
            due if due == now => Remind::Now { days, next },
            due if calendar::local_date(due, zone) == today => Remind::Later(Some(Reminder { days, due })),
            _tomorrow => Remind::Later(next),
        }
    }

    /// `at`, or the end of the recipient's quiet hours around it.
    pub(super) fn after_quiet_hours(&self, at: Timestamp) -> Timestamp {
        let zone = &self.recipient.zone;
        match self.policy().quiet_hours {
            Some(quiet) if quiet.covers(calendar::local_hour(at, zone)) => calendar::next_hour(at, quiet.to_hour, zone),
            Some(_) | None => at,
        }
    }

    /// The last instant at which money may still have to go back: what the payment's refund window is held against.
    fn life_end(send_at: Timestamp, policy: &Policy) -> Timestamp {
        // One day for zones, one for retries.
        send_at + Millis::from_days(i64::from(policy.validity_days) + 2)
    }
}

/// Whether a gift that leaves at `send_at` may live longer than its payment can surely be given back.
#[must_use]
pub fn outlives_refund(send_at: Timestamp, policy: &Policy, refund_by: Timestamp) -> bool {
    Gift::life_end(send_at, policy) > refund_by
}

/// What a reminder's timer leads to.
pub(super) enum Remind {
    Now { days: u8, next: Option<Reminder> },
    Later(Option<Reminder>),
}

/// The first reminder after `after`. One that is not shorter than the validity is skipped.
fn next_reminder(policy: &Policy, expires_at: Timestamp, zone: &str, after: Timestamp) -> Option<Reminder> {
    let days = policy.reminder_days.iter().copied().filter(|days| u16::from(*days) < policy.validity_days);
    let planned =
        days.map(|days| Reminder { days, due: calendar::reminder_at(expires_at, days, policy.reminder_hour, zone) });
    planned.filter(|reminder| reminder.due > after).min_by_key(|reminder| reminder.due)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::calling::{DOUBT_PAUSE, DOUBT_PAUSE_MAX};

    #[test]
    fn pauses_double_up_to_their_maximum() {
        let pauses = [0, 1, 2, 6, 7, 40, u16::MAX].map(|times| doubled(DOUBT_PAUSE, times, DOUBT_PAUSE_MAX).0);
        assert_eq!(pauses, [5_000, 10_000, 20_000, 300_000, 300_000, 300_000, 300_000]);
    }
}

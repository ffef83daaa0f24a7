//! Notices and reminders: at least once, on a schedule of their own, never in the way of a send.

use super::{Desk, Facts};
use crate::domain::calendar;
use crate::domain::gift::command::GiftRejection;
use crate::domain::gift::event::{GiftFact, NoticeFact, NoticeResult, NoticeStep};
use crate::domain::gift::notice::{Audience, Notice, NoticeProgress};
use crate::domain::gift::schedule::Remind;
use crate::domain::gift::state::Phase;
use crate::types::call::{CallOutcome, MessageOutcome, RefusalClass, ReportStatus};
use crate::types::effect::Slot;
use crate::types::time::{Millis, Timestamp};

/// Code of a notice whose outcome stayed unknown as often as its schedule allows.
const UNKNOWN_CODE: &str = "outcome_unknown";

impl Desk<'_> {
    pub(super) fn reminder(&self) -> Facts {
        let gift = self.gift;
        let due = gift.validity.and_then(|validity| validity.reminder.map(|reminder| (validity, reminder.due)));
        let held = matches!(gift.phase, Phase::Sent | Phase::Accepted { .. });
        let (validity, due) = due.filter(|_| held).ok_or(GiftRejection::NotWanted)?;
        if self.now < due {
            return Err(GiftRejection::NotDue);
        }
        let fact = match gift.remind(validity, self.now) {
            Remind::Now { days, next } => NoticeFact::ReminderDue { days, next },
            Remind::Later(next) => NoticeFact::ReminderMoved { next },
        };
        Ok(vec![GiftFact::Notice(fact)])
    }

    /// `None` unless `slot` is that of a notice which is wanted.
    pub(super) fn notice_outcome(&self, slot: Slot, outcome: &CallOutcome) -> Option<NoticeResult> {
        let CallOutcome::Message(outcome) = outcome else {
            return None;
        };
        let wanted = |notice: &&Notice| matches!(notice.progress, NoticeProgress::Wanted { .. });
        let notice = self.gift.notices.iter().filter(wanted).find(|notice| notice.slot() == slot)?;
        let step = match outcome {
            MessageOutcome::Accepted { provider, .. } | MessageOutcome::Unconfirmed { provider, .. } => {
                NoticeStep::Sent { provider: provider.clone() }
            }
            MessageOutcome::Refused { code, class: RefusalClass::Retry } => {
                self.notice_retry(notice, code).unwrap_or_else(|| self.notice_elsewhere(notice, code))
            }
            MessageOutcome::Refused { code, class: RefusalClass::NextChannel | RefusalClass::Permanent } => {
                self.notice_elsewhere(notice, code)
            }
            // It may have arrived: again on this channel, but on no other.
            MessageOutcome::Unknown { .. } => self
                .notice_retry(notice, UNKNOWN_CODE)
                .unwrap_or_else(|| NoticeStep::Dead { code: UNKNOWN_CODE.to_owned() }),
            MessageOutcome::NotSent { cause } => {
                self.notice_again(notice, notice.tries, self.now + Millis::from_secs(1), cause)
            }
        };
        Some(NoticeResult { number: notice.number, step })
    }

    /// The next try on the same channel, while the schedule lasts.
    fn notice_retry(&self, notice: &Notice, code: &str) -> Option<NoticeStep> {
        let pause = self.gift.product.policy.notice_retry.get(usize::from(notice.tries))?;
        Some(self.notice_again(notice, notice.tries.saturating_add(1), self.now + *pause, code))
    }

    /// The next channel, or the dead letters.
    fn notice_elsewhere(&self, notice: &Notice, code: &str) -> NoticeStep {
        let channels = self.gift.notice_channels(notice.audience());
        let at = channels.iter().position(|channel| *channel == notice.channel);
        match at.and_then(|at| channels.get(at + 1)) {
            Some(channel) => {
                let moved = Notice { channel: *channel, ..notice.clone() };
                self.notice_again(&moved, 0, self.now, code)
            }
            None => NoticeStep::Dead { code: code.to_owned() },
        }
    }

    /// A reminder waits for the end of quiet hours, and is dropped when its day is over by then.
    fn notice_again(&self, notice: &Notice, tries: u8, due: Timestamp, code: &str) -> NoticeStep {
        let due = match notice.audience() {
            Audience::Sender => due,
            Audience::Recipient => {
                let zone = &self.gift.recipient.zone;
                let due = self.gift.after_quiet_hours(due);
                if calendar::local_date(due, zone) != calendar::local_date(notice.made_at, zone) {
                    return NoticeStep::Dropped;
                }
                due
            }
        };
        NoticeStep::Retry { channel: notice.channel, tries, due, code: code.to_owned() }
    }

    /// A notice that the provider took and could not deliver goes to the next channel, once for each channel: the slot
    /// tells what the channel before reports again.
    pub(super) fn notice_report(&self, slot: Slot, status: &ReportStatus) -> Option<NoticeResult> {
        // Without its personal data nothing can be sent any more.
        self.gift.sealed.as_ref()?;
        let sent = |notice: &&Notice| matches!(notice.progress, NoticeProgress::Sent { .. });
        let notice = self.gift.notices.iter().filter(sent).find(|notice| notice.slot() == slot)?;
        match status {
            ReportStatus::Delivered | ReportStatus::SentUnconfirmed => None,
            ReportStatus::Failed { code, .. } => {
                Some(NoticeResult { number: notice.number, step: self.notice_elsewhere(notice, code) })
            }
        }
    }
}

//! Notices and reminders: at least once, on a schedule of their own, never in the way of a send.

use super::{Desk, Facts};
use crate::domain::calendar;
use crate::domain::gift::command::GiftRejection;
use crate::domain::gift::event::{GiftFact, NoticeFact};
use crate::domain::gift::names;
use crate::domain::gift::schedule::Remind;
use crate::domain::gift::state::Phase;
use crate::domain::notices::{Audience, Course, Notice, NoticeResult, NoticeStep};
use crate::types::call::{CallOutcome, ReportStatus};
use crate::types::effect::Slot;

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
        let notice = self.gift.notices.wanted(names::NOTICES, slot)?;
        let step = self.with_course(notice, |course| course.after(notice, outcome));
        Some(NoticeResult { number: notice.number, step: self.by_day(notice, step) })
    }

    pub(super) fn notice_report(&self, slot: Slot, status: &ReportStatus) -> Option<NoticeResult> {
        // Without its personal data nothing can be sent any more.
        self.gift.sealed.as_ref()?;
        let notice = self.gift.notices.sent(names::NOTICES, slot)?;
        if notice.audience() == Audience::Recipient && !self.is_reminded_of(notice) {
            return None;
        }
        let step = self.with_course(notice, |course| course.reported(notice, status))?;
        Some(NoticeResult { number: notice.number, step: self.by_day(notice, step) })
    }

    /// Whether the gift is still there for whom the reminder was sent to.
    fn is_reminded_of(&self, reminder: &Notice) -> bool {
        let held = matches!(self.gift.phase, Phase::Sent | Phase::Accepted { .. });
        held && reminder.generation == self.gift.delivery.generation
    }

    fn with_course<T>(&self, notice: &Notice, follow: impl FnOnce(Course<'_>) -> T) -> T {
        let channels = self.gift.notice_channels(notice.audience());
        follow(Course { channels: &channels, pauses: &self.gift.product.policy.notice_retry, now: self.now })
    }

    /// A reminder waits for the end of quiet hours, and is dropped when its day is over by then.
    fn by_day(&self, notice: &Notice, step: NoticeStep) -> NoticeStep {
        match (notice.audience(), step) {
            (Audience::Recipient, NoticeStep::Retry { channel, tries, due, code }) => {
                let zone = &self.gift.recipient.zone;
                let due = self.gift.after_quiet_hours(due);
                if calendar::local_date(due, zone) != calendar::local_date(notice.made_at, zone) {
                    return NoticeStep::Dropped;
                }
                NoticeStep::Retry { channel, tries, due, code }
            }
            (Audience::Sender | Audience::Recipient | Audience::Buyer, step) => step,
        }
    }
}

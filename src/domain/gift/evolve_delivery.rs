//! `evolve` for the way to the recipient: attempts, reports and reminders, and the notices that follow from them.

use super::event::{DeliveryFact, NextAttempt, NoticeFact, NoticeResult, NoticeStep, Reminder, Validity};
use super::notice::{Audience, Notice, NoticeProgress};
use super::state::{Gift, NOTICES_MAX, Phase, Sending};
use crate::types::call::{RefusalClass, Template};
use crate::types::effect::Channel;
use crate::types::time::Timestamp;

impl Gift {
    pub(super) fn apply_delivery(&mut self, fact: &DeliveryFact, at: Timestamp) {
        match fact {
            DeliveryFact::Attempted(started) => {
                if matches!(self.phase, Phase::Scheduled) {
                    self.delivery.due = Some(self.resolved.instant);
                    self.phase = Phase::Sending(Sending::attempt(1, 0, self.resolved.instant));
                }
                if let Phase::Sending(sending) = &mut self.phase {
                    self.delivery.attempt = sending.number;
                    self.delivery.channel = self.channels.get(usize::from(sending.channel_index)).copied();
                    if let Some(call) = &mut sending.call {
                        call.start(started, at);
                    }
                }
            }
            DeliveryFact::Accepted { provider, receipt, accepted_at, report_due, validity } => {
                if let Phase::Sending(sending) = &mut self.phase {
                    sending.call = None;
                    sending.report_due = Some(*report_due);
                    self.delivery.provider = Some(provider.clone());
                    self.delivery.receipt = Some(receipt.clone());
                    self.delivery.accepted_at = Some(*accepted_at);
                    self.validity = Some(*validity);
                }
            }
            DeliveryFact::Undecided { doubt, retry_at } => {
                if let Phase::Sending(Sending { call: Some(call), .. }) = &mut self.phase {
                    call.doubt(doubt, *retry_at);
                }
            }
            DeliveryFact::Refused { class, next, .. } => self.next_attempt(*class, *next),
            DeliveryFact::Failed { code, validity } => self.fail(code, *validity, at),
            DeliveryFact::Delivered { evidence, delivered_at, accepted_at, validity } => {
                self.delivery.accepted_at.get_or_insert(*accepted_at);
                self.delivery.sent_at = Some(*delivered_at);
                self.delivery.evidence = Some(*evidence);
                self.validity = Some(*validity);
                self.phase = Phase::Sent;
                self.notify(Template::SenderSent, None, at);
            }
            DeliveryFact::Confirmed { evidence } => self.delivery.evidence = Some(*evidence),
            DeliveryFact::FailureNoted { code } => self.delivery.noted_failure = Some(code.clone()),
        }
    }

    fn next_attempt(&mut self, class: RefusalClass, next: NextAttempt) {
        self.forget_acceptance();
        if let Phase::Sending(sending) = &mut self.phase {
            let same_channel = sending.channel_index == next.channel_index;
            let counts = same_channel && class == RefusalClass::Retry;
            let refusals = if counts { sending.refusals.saturating_add(1) } else { 0 };
            let mut attempt = Sending::attempt(sending.number + 1, next.channel_index, next.due);
            attempt.refusals = refusals;
            *sending = attempt;
        }
    }

    /// Dead; what a replay continues with is kept.
    fn fail(&mut self, code: &str, validity: Validity, at: Timestamp) {
        let sending = if let Phase::Sending(sending) = &self.phase {
            sending.clone()
        } else {
            Sending { call: None, ..Sending::attempt(self.delivery.attempt, 0, at) }
        };
        self.forget_acceptance();
        self.validity = Some(validity);
        self.phase = Phase::SendFailed { since: at, code: code.to_owned(), sending };
        self.drop_reminders(at);
        self.notify(Template::SenderFailed, None, at);
    }

    fn forget_acceptance(&mut self) {
        self.delivery.accepted_at = None;
        self.delivery.sent_at = None;
        self.delivery.evidence = None;
        self.delivery.provider = None;
        self.delivery.receipt = None;
        if !self.was_transferred() {
            self.validity = None;
        }
    }

    pub(super) fn apply_notice(&mut self, fact: &NoticeFact, at: Timestamp) {
        match fact {
            NoticeFact::ReminderDue { days, next } => {
                self.set_reminder(*next);
                self.notify(Template::ExpiresInDays, Some(*days), at);
            }
            NoticeFact::ReminderMoved { next } => self.set_reminder(*next),
            NoticeFact::Settled(results) => {
                for result in results {
                    self.settle_notice(result, at);
                }
            }
        }
    }

    fn set_reminder(&mut self, next: Option<Reminder>) {
        if let Some(validity) = &mut self.validity {
            validity.reminder = next;
        }
    }

    /// The channels of a notice, in the order in which they are tried. Never empty.
    pub(super) fn notice_channels(&self, audience: Audience) -> Vec<Channel> {
        match audience {
            Audience::Sender => self.sender.sender_channels(),
            Audience::Recipient => {
                let first = self.delivery.channel.into_iter();
                let others = self.channels.iter().copied().filter(|channel| Some(*channel) != self.delivery.channel);
                first.chain(others).collect()
            }
        }
    }

    /// Wants a notice now.
    pub(super) fn notify(&mut self, template: Template, days: Option<u8>, at: Timestamp) {
        let number = self.notices_made;
        let mut notice = Notice {
            number,
            template,
            channel: Channel::Push,
            days,
            generation: self.delivery.generation,
            made_at: at,
            tries: 0,
            progress: NoticeProgress::Wanted { due: at },
        };
        if let Some(channel) = self.notice_channels(notice.audience()).first() {
            notice.channel = *channel;
        }
        self.notices_made = self.notices_made.wrapping_add(1);
        self.make_room_for_notice();
        self.notices.push(notice);
    }

    /// The oldest settled one goes first; one that is still wanted only when all are.
    fn make_room_for_notice(&mut self) {
        if self.notices.len() < NOTICES_MAX {
            return;
        }
        let settled =
            |notice: &Notice| matches!(notice.progress, NoticeProgress::Sent { .. } | NoticeProgress::Dropped { .. });
        let oldest = self.notices.iter().position(settled).unwrap_or(0);
        self.notices.remove(oldest);
    }

    fn notice_mut(&mut self, number: u16) -> Option<&mut Notice> {
        self.notices.iter_mut().find(|notice| notice.number == number)
    }

    fn settle_notice(&mut self, result: &NoticeResult, at: Timestamp) {
        let Some(notice) = self.notice_mut(result.number) else {
            return;
        };
        match &result.step {
            NoticeStep::Sent { .. } => notice.progress = NoticeProgress::Sent { at },
            NoticeStep::Retry { channel, tries, due, .. } => {
                notice.channel = *channel;
                notice.tries = *tries;
                notice.progress = NoticeProgress::Wanted { due: *due };
            }
            NoticeStep::Dead { code } => notice.progress = NoticeProgress::Dead { at, code: code.clone() },
            NoticeStep::Dropped => notice.progress = NoticeProgress::Dropped { at },
        }
    }

    pub(super) fn replay_notice(&mut self, number: u16, at: Timestamp) {
        let Some(audience) = self.notice_mut(number).map(|notice| notice.audience()) else {
            return;
        };
        let first = self.notice_channels(audience).first().copied();
        if let (Some(notice), Some(channel)) = (self.notice_mut(number), first) {
            notice.channel = channel;
            notice.tries = 0;
            notice.progress = NoticeProgress::Wanted { due: at };
        }
    }

    pub(super) fn drop_notice(&mut self, number: u16, at: Timestamp) {
        if let Some(notice) = self.notice_mut(number) {
            notice.progress = NoticeProgress::Dropped { at };
        }
    }

    /// Reminders that are still to leave are of no use any more.
    pub(super) fn drop_reminders(&mut self, at: Timestamp) {
        self.set_reminder(None);
        for notice in &mut self.notices {
            let waits = matches!(notice.progress, NoticeProgress::Wanted { .. });
            if waits && notice.audience() == Audience::Recipient {
                notice.progress = NoticeProgress::Dropped { at };
            }
        }
    }
}

//! Notices: messages beside the gift's own delivery. At least once, with a retry schedule and dead letters of their own;
//! and what `evolve` makes of what happens to them.

use super::event::{NoticeFact, NoticeResult, NoticeStep, Reminder};
use super::names;
use super::state::{Gift, NOTICES_MAX};
use crate::types::call::Template;
use crate::types::effect::{Channel, Slot};
use crate::types::time::Timestamp;
use serde::{Deserialize, Serialize};

/// One entry of a gift's notification log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Notice {
    /// From 0 within the gift; never reused.
    pub number: u16,
    pub template: Template,
    /// Channel of the current or last try.
    pub channel: Channel,
    /// Days before expiry, for a reminder.
    pub days: Option<u8>,
    /// Generation of the delivery that it belongs to.
    pub generation: u16,
    pub made_at: Timestamp,
    /// Definite refusals by the current channel.
    pub tries: u8,
    pub progress: NoticeProgress,
}

/// Where a notice stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum NoticeProgress {
    Wanted {
        due: Timestamp,
    },
    Sent {
        at: Timestamp,
    },
    /// A dead letter until an operator replays or discards it.
    Dead {
        at: Timestamp,
        code: String,
    },
    /// No longer of use, or discarded.
    Dropped {
        at: Timestamp,
    },
}

/// Who a notice is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Audience {
    Sender,
    Recipient,
}

impl Notice {
    /// Of the call by its current channel.
    pub(super) fn slot(&self) -> Slot {
        names::notice_slot(self.number, self.channel)
    }
    #[must_use]
    pub fn audience(&self) -> Audience {
        match self.template {
            Template::GiftArrived | Template::ExpiresInDays => Audience::Recipient,
            Template::SenderReserved
            | Template::SenderSent
            | Template::SenderAccepted
            | Template::SenderFailed
            | Template::SenderRefunded
            | Template::SenderMoved => Audience::Sender,
        }
    }
    /// `pending`, `sent`, `dead_letter` or `dropped`.
    #[must_use]
    pub fn status(&self) -> &'static str {
        match self.progress {
            NoticeProgress::Wanted { .. } => "pending",
            NoticeProgress::Sent { .. } => "sent",
            NoticeProgress::Dead { .. } => "dead_letter",
            NoticeProgress::Dropped { .. } => "dropped",
        }
    }
    /// When it reached the status that it has.
    #[must_use]
    pub fn settled_at(&self) -> Option<Timestamp> {
        match self.progress {
            NoticeProgress::Wanted { .. } => None,
            NoticeProgress::Sent { at } | NoticeProgress::Dead { at, .. } | NoticeProgress::Dropped { at } => Some(at),
        }
    }
}

impl Gift {
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

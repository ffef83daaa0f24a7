//! What a gift tells whom: its sender of each stage, its recipient of the end of its validity. How notices go their way is
//! `domain/notices.rs`; here is what `evolve` makes of what happens to them.

use super::event::{NoticeFact, Reminder};
use super::state::Gift;
use crate::domain::notices::Audience;
use crate::types::call::Template;
use crate::types::effect::Channel;
use crate::types::time::Timestamp;

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
                    self.notices.settle(result, at);
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
            Audience::Sender | Audience::Buyer => self.sender.sender_channels(),
            Audience::Recipient => {
                let first = self.delivery.channel.into_iter();
                let others = self.channels.iter().copied().filter(|channel| Some(*channel) != self.delivery.channel);
                first.chain(others).collect()
            }
        }
    }

    /// Wants a notice now.
    pub(super) fn notify(&mut self, template: Template, days: Option<u8>, at: Timestamp) {
        let generation = self.delivery.generation;
        let channels = self.notice_channels(Audience::of(template));
        let notice = self.notices.want(template, &channels, at);
        notice.days = days;
        notice.generation = generation;
    }

    pub(super) fn replay_notice(&mut self, number: u16, at: Timestamp) {
        let [sender, recipient] =
            [Audience::Sender, Audience::Recipient].map(|audience| self.notice_channels(audience));
        let channels = |audience| if audience == Audience::Recipient { recipient } else { sender };
        self.notices.replay(number, channels, at);
    }

    /// Reminders that are still to leave are of no use any more.
    pub(super) fn drop_reminders(&mut self, at: Timestamp) {
        self.set_reminder(None);
        self.notices.drop_wanted(|notice| notice.audience() == Audience::Recipient, at);
    }
}

//! Notices: messages beside what an entity is for. At least once, over one channel after the other, with a retry schedule
//! and dead letters of their own, through lanes of their own. A gift and an order keep a [`Notices`] each; what they tell
//! whom, and when, is theirs.
//!
//! | from | by | to |
//! |---|---|---|
//! | (nothing) | want | wanted, on the first channel |
//! | wanted | taken by its provider | sent |
//! | wanted | refused for now, unknown, or never sent | wanted on the same channel, while the schedule lasts |
//! | wanted | refused on this channel, or the schedule is over | wanted on the next channel; on the last, dead |
//! | wanted | unknown as often as the schedule allows | dead: it may have arrived, so no other channel |
//! | sent | reported as failed | wanted on the next channel; on the last, dead |
//! | dead | replay | wanted, on the first channel |
//! | wanted, dead | drop | dropped |
//!
//! Persisted as it is: fields and variants are append only.

use crate::types::call::{MessageOutcome, RefusalClass, ReportStatus, Template};
use crate::types::effect::{CallWant, Channel, Guard, Lane, Slot};
use crate::types::time::{Millis, Timestamp};
use serde::{Deserialize, Serialize};

/// Notices that an entity remembers; the oldest settled one makes room.
pub const NOTICES_MAX: usize = 32;
/// Code of a notice whose outcome stayed unknown as often as its schedule allows.
const UNKNOWN_CODE: &str = "outcome_unknown";

/// One entry of a notification log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Notice {
    /// From 0 within the entity; never reused.
    pub number: u16,
    pub template: Template,
    /// Channel of the current or last try.
    pub channel: Channel,
    /// Days before expiry, for a gift's reminder.
    pub days: Option<u8>,
    /// Generation of the gift's delivery that it belongs to; 0 for an order's.
    pub generation: u16,
    pub made_at: Timestamp,
    /// Tries on the current channel that came to nothing.
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
    /// Of an order.
    Buyer,
}

/// What became of one try of a notice.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NoticeResult {
    pub number: u16,
    pub step: NoticeStep,
}

/// The next step of a notice.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum NoticeStep {
    Sent { provider: String },
    Retry { channel: Channel, tries: u8, due: Timestamp, code: String },
    Dead { code: String },
    Dropped,
}

impl NoticeStep {
    /// Stable name for timelines.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Sent { .. } => "sent",
            Self::Retry { .. } => "retry",
            Self::Dead { .. } => "dead_letter",
            Self::Dropped => "dropped",
        }
    }
}

impl Audience {
    /// Who gets a template.
    #[must_use]
    pub fn of(template: Template) -> Self {
        match template {
            Template::GiftArrived | Template::ExpiresInDays => Self::Recipient,
            Template::SenderReserved
            | Template::SenderSent
            | Template::SenderAccepted
            | Template::SenderFailed
            | Template::SenderRefunded
            | Template::SenderMoved => Self::Sender,
            Template::OrderPlaced | Template::OrderCompleted | Template::OrderFailed | Template::OrderCancelled => {
                Self::Buyer
            }
        }
    }
}

impl Notice {
    #[must_use]
    pub fn audience(&self) -> Audience {
        Audience::of(self.template)
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
    /// Since when it is a dead letter, and why.
    #[must_use]
    pub fn death(&self) -> Option<(Timestamp, &str)> {
        match &self.progress {
            NoticeProgress::Dead { at, code } => Some((*at, code)),
            NoticeProgress::Wanted { .. } | NoticeProgress::Sent { .. } | NoticeProgress::Dropped { .. } => None,
        }
    }
    /// Tries on its channel: those that came to nothing, and the one that it was sent or given up with.
    #[must_use]
    pub fn attempts(&self) -> u16 {
        let settled = matches!(self.progress, NoticeProgress::Sent { .. } | NoticeProgress::Dead { .. });
        u16::from(self.tries) + u16::from(settled)
    }
    fn due(&self) -> Option<Timestamp> {
        match self.progress {
            NoticeProgress::Wanted { due } => Some(due),
            NoticeProgress::Sent { .. } | NoticeProgress::Dead { .. } | NoticeProgress::Dropped { .. } => None,
        }
    }
    fn is_sent(&self) -> bool {
        matches!(self.progress, NoticeProgress::Sent { .. })
    }
}

/// The slots of an entity's notices: `base | channel | number`, channel by channel, so that what the last channel reports
/// again is never taken for the failure of the next.
#[derive(Clone, Copy, Debug)]
pub struct NoticeSlots {
    base: u16,
    number_bits: u32,
}

impl NoticeSlots {
    /// From `base` on, for numbers of so many bits; those wrap, far beyond what is remembered.
    #[must_use]
    pub const fn new(base: u16, number_bits: u32) -> Self {
        Self { base, number_bits }
    }

    /// Of a notice on one of its channels.
    #[must_use]
    pub fn slot(self, number: u16, channel: Channel) -> Slot {
        let channel: u16 = match channel {
            Channel::Kakao => 0,
            Channel::Sms => 1,
            Channel::Email => 2,
            Channel::Push => 3,
        };
        Slot(self.base | channel << self.number_bits | (number & ((1 << self.number_bits) - 1)))
    }

    fn of(self, notice: &Notice) -> Slot {
        self.slot(notice.number, notice.channel)
    }
}

/// Our id of a message, as providers carry it: `<entity>.n.<slot>.<generation>`.
#[must_use]
pub fn notice_reference(entity: &str, slot: Slot, generation: u16) -> String {
    format!("{entity}.n.{}.{generation}", slot.0)
}

/// The slot in a [`notice_reference`]; `None` for anything else.
#[must_use]
pub fn referred_slot(reference: &str) -> Option<Slot> {
    let mut parts = reference.split('.').skip(1);
    let (mark, slot, generation, end) = (parts.next()?, parts.next()?, parts.next()?, parts.next());
    let _of_the_delivery: u16 = generation.parse().ok()?;
    if mark == "n" && end.is_none() { slot.parse().ok().map(Slot) } else { None }
}

/// The notification log of one entity, oldest first.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Notices {
    log: Vec<Notice>,
    made: u16,
}

impl Notices {
    /// Oldest first, at most [`NOTICES_MAX`].
    #[must_use]
    pub fn log(&self) -> &[Notice] {
        &self.log
    }
    #[must_use]
    pub fn is_dead(&self, number: u16) -> bool {
        self.log.iter().any(|notice| notice.number == number && notice.death().is_some())
    }
    #[must_use]
    pub fn has_dead(&self) -> bool {
        self.log.iter().any(|notice| notice.death().is_some())
    }
    #[must_use]
    pub fn has_wanted(&self) -> bool {
        self.log.iter().any(|notice| notice.due().is_some())
    }

    /// The wanted notice behind a slot.
    #[must_use]
    pub fn wanted(&self, slots: NoticeSlots, slot: Slot) -> Option<&Notice> {
        self.log.iter().filter(|notice| notice.due().is_some()).find(|notice| slots.of(notice) == slot)
    }
    /// The notice behind a slot that was sent.
    #[must_use]
    pub fn sent(&self, slots: NoticeSlots, slot: Slot) -> Option<&Notice> {
        self.log.iter().filter(|notice| notice.is_sent()).find(|notice| slots.of(notice) == slot)
    }
    /// The calls that are wanted, in no order.
    pub fn calls(&self, slots: NoticeSlots) -> impl Iterator<Item = CallWant> + '_ {
        self.log.iter().filter_map(move |notice| {
            Some(CallWant {
                slot: slots.of(notice),
                lane: Lane::Notice(notice.channel),
                due: notice.due()?,
                guard: Guard::Repeatable,
                open: None,
            })
        })
    }

    /// Wants a notice now, on the first of its channels. Its number is [`Notices`]' to give.
    pub fn want(&mut self, template: Template, channels: &[Channel], at: Timestamp) -> &mut Notice {
        let number = self.made;
        self.made = self.made.wrapping_add(1);
        self.make_room();
        let channel = channels.first().copied().unwrap_or(Channel::Push);
        let progress = NoticeProgress::Wanted { due: at };
        self.log.push(Notice { number, template, channel, days: None, generation: 0, made_at: at, tries: 0, progress });
        self.log.last_mut().expect("pushed just now")
    }

    /// The oldest settled one goes first; one that is still wanted only when all are.
    fn make_room(&mut self) {
        if self.log.len() < NOTICES_MAX {
            return;
        }
        let settled =
            |notice: &Notice| matches!(notice.progress, NoticeProgress::Sent { .. } | NoticeProgress::Dropped { .. });
        let oldest = self.log.iter().position(settled).unwrap_or(0);
        self.log.remove(oldest);
    }

    fn get_mut(&mut self, number: u16) -> Option<&mut Notice> {
        self.log.iter_mut().find(|notice| notice.number == number)
    }

    /// Notes what became of a try.
    pub fn settle(&mut self, result: &NoticeResult, at: Timestamp) {
        let Some(notice) = self.get_mut(result.number) else { return };
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

    /// Wanted again, on the first of the channels that its audience has.
    pub fn replay(&mut self, number: u16, channels: impl FnOnce(Audience) -> Vec<Channel>, at: Timestamp) {
        let Some(notice) = self.get_mut(number) else { return };
        if let Some(channel) = channels(notice.audience()).first() {
            notice.channel = *channel;
            notice.tries = 0;
            notice.progress = NoticeProgress::Wanted { due: at };
        }
    }

    /// Given up by an operator.
    pub fn discard(&mut self, number: u16, at: Timestamp) {
        if let Some(notice) = self.get_mut(number) {
            notice.progress = NoticeProgress::Dropped { at };
        }
    }

    /// Those that are still to leave are of no use any more.
    pub fn drop_wanted(&mut self, which: impl Fn(&Notice) -> bool, at: Timestamp) {
        for notice in self.log.iter_mut().filter(|notice| notice.due().is_some() && which(notice)) {
            notice.progress = NoticeProgress::Dropped { at };
        }
    }

    /// Forgets all of it; numbers go on.
    pub fn clear(&mut self) {
        self.log.clear();
    }
}

/// How the notices of one audience are tried.
pub struct Course<'a> {
    /// In the order in which they are tried.
    pub channels: &'a [Channel],
    /// Pauses before further tries on one channel.
    pub pauses: &'a [Millis],
    pub now: Timestamp,
}

impl Course<'_> {
    /// What follows from the outcome of a try.
    #[must_use]
    pub fn after(&self, notice: &Notice, outcome: &MessageOutcome) -> NoticeStep {
        match outcome {
            MessageOutcome::Accepted { provider, .. } | MessageOutcome::Unconfirmed { provider, .. } => {
                NoticeStep::Sent { provider: provider.clone() }
            }
            // What never left is as free to go elsewhere as what was refused, and as little worth to try for ever.
            MessageOutcome::Refused { code, class: RefusalClass::Retry } | MessageOutcome::NotSent { cause: code } => {
                self.later(notice, code).unwrap_or_else(|| self.elsewhere(notice, code))
            }
            MessageOutcome::Refused { code, class: RefusalClass::NextChannel | RefusalClass::Permanent } => {
                self.elsewhere(notice, code)
            }
            // It may have arrived: again on this channel, but on no other.
            MessageOutcome::Unknown { .. } => {
                self.later(notice, UNKNOWN_CODE).unwrap_or_else(|| NoticeStep::Dead { code: UNKNOWN_CODE.to_owned() })
            }
        }
    }

    /// What follows from a report on one that was sent. One that the provider took and could not deliver goes to the next
    /// channel, once for each: the slot tells what the channel before reports again.
    #[must_use]
    pub fn reported(&self, notice: &Notice, status: &ReportStatus) -> Option<NoticeStep> {
        match status {
            ReportStatus::Delivered | ReportStatus::SentUnconfirmed => None,
            ReportStatus::Failed { code, .. } => Some(self.elsewhere(notice, code)),
        }
    }

    /// The next try on the same channel, while the schedule lasts.
    fn later(&self, notice: &Notice, code: &str) -> Option<NoticeStep> {
        let pause = self.pauses.get(usize::from(notice.tries))?;
        let (channel, tries, due) = (notice.channel, notice.tries.saturating_add(1), self.now + *pause);
        Some(NoticeStep::Retry { channel, tries, due, code: code.to_owned() })
    }

    /// The next channel, or the dead letters.
    fn elsewhere(&self, notice: &Notice, code: &str) -> NoticeStep {
        let at = self.channels.iter().position(|channel| *channel == notice.channel);
        match at.and_then(|at| self.channels.get(at + 1)) {
            Some(channel) => NoticeStep::Retry { channel: *channel, tries: 0, due: self.now, code: code.to_owned() },
            None => NoticeStep::Dead { code: code.to_owned() },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_name_a_slot_and_strangers_are_refused() {
        let slots = NoticeSlots::new(0x4000, 12);
        let slot = slots.slot(5, Channel::Sms);
        assert_eq!(slot, Slot(0x5005));
        assert_eq!(slots.slot(0xFFFF, Channel::Push), Slot(0x7FFF));
        assert_eq!(notice_reference("o_1", slot, 0), "o_1.n.20485.0");
        assert_eq!(referred_slot("o_1.n.20485.0"), Some(slot));
        for text in ["", "o_1", "o_1.n.1", "o_1.1.2.3", "o_1.n.x.0", "o_1.n.1.x", "o_1.n.1.0.0", "o_1.n.70000.0"] {
            assert_eq!(referred_slot(text), None, "{text}");
        }
    }

    #[test]
    fn a_notice_goes_through_its_channels_and_ends_among_the_dead() {
        let (at, channels) = (Timestamp(1_000), [Channel::Push, Channel::Sms]);
        let course = Course { channels: &channels, pauses: &[Millis(10)], now: at };
        let mut notices = Notices::default();
        let first = notices.want(Template::OrderPlaced, &channels, at).clone();
        assert_eq!((first.channel, first.status(), notices.has_wanted()), (Channel::Push, "pending", true));
        assert_eq!(first.attempts(), 0);
        let busy = MessageOutcome::Refused { code: "busy".into(), class: RefusalClass::Retry };
        let mut channels_tried = Vec::new();
        while let Some(notice) = notices.log().first().filter(|notice| notice.due().is_some()).cloned() {
            channels_tried.push(notice.channel);
            notices.settle(&NoticeResult { number: 0, step: course.after(&notice, &busy) }, at);
        }
        assert_eq!(channels_tried, [Channel::Push, Channel::Push, Channel::Sms, Channel::Sms]);
        assert_eq!(notices.log()[0].attempts(), 2, "both tries on the last channel");
        assert!(notices.is_dead(0) && notices.has_dead() && !notices.has_wanted());
        notices.replay(0, |_| channels.to_vec(), at);
        assert_eq!((notices.log()[0].channel, notices.log()[0].tries), (Channel::Push, 0));
        let unknown = MessageOutcome::Unknown { cause: "c".into() };
        for _ in 0..2 {
            let step = course.after(&notices.log()[0], &unknown);
            notices.settle(&NoticeResult { number: 0, step }, at);
        }
        assert_eq!(notices.log()[0].death(), Some((at, UNKNOWN_CODE)), "it may have arrived: on no other channel");
        notices.discard(0, at);
        assert!(!notices.has_dead());
    }

    /// Where a notice stands: channel, tries on it, and when it is due.
    fn standing(notices: &Notices) -> Option<(Channel, u8, Timestamp)> {
        let notice = notices.log().first()?;
        Some((notice.channel, notice.tries, notice.due()?))
    }

    #[test]
    fn what_never_leaves_is_tried_by_the_schedule_on_each_channel_and_is_a_dead_letter_then() {
        let (mut now, channels) = (Timestamp(1_000), [Channel::Push, Channel::Sms]);
        let pauses = [Millis::from_secs(10), Millis::from_mins(1)];
        let mut notices = Notices::default();
        notices.want(Template::OrderPlaced, &channels, now);
        let mut gone = Vec::new();
        while let Some((channel, tries, due)) = standing(&notices) {
            gone.push((channel, tries, due - now));
            now = due;
            let late = MessageOutcome::NotSent { cause: "late".into() };
            let step = Course { channels: &channels, pauses: &pauses, now }.after(&notices.log()[0], &late);
            notices.settle(&NoticeResult { number: 0, step }, now);
        }
        let on = |channel| [(channel, 0, Millis(0)), (channel, 1, pauses[0]), (channel, 2, pauses[1])];
        assert_eq!(gone, [on(Channel::Push), on(Channel::Sms)].concat());
        assert_eq!(notices.log()[0].death(), Some((now, "late")));
    }

    #[test]
    fn the_log_is_bounded_and_numbers_go_on() {
        let mut notices = Notices::default();
        for _ in 0..NOTICES_MAX + 3 {
            notices.want(Template::OrderPlaced, &[], Timestamp(0));
        }
        assert_eq!((notices.log().len(), notices.log()[0].number), (NOTICES_MAX, 3));
    }
}

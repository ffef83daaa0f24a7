//! What an order tells its buyer: that it was placed, and how it ended. How notices go their way is `domain/notices.rs`.
//!
//! They go over lanes of their own and never hold the saga up: an order is done whether its buyer has heard of it or not.

use super::PREFIX;
use super::command::{OrderFact, OrderRejection, Personal};
use super::state::Placed;
use crate::domain::gift::{ContactSet, SenderContact};
use crate::domain::notices::{
    Course, Notice, NoticeResult, NoticeSlots, NoticeStep, Notices, notice_reference, referred_slot,
};
use crate::domain::steps::StepLetter;
use crate::domain::stored::Grown;
use crate::types::call::{CallOutcome, CallRequest, MessageRequest, Prior, Purpose, Report, Template};
use crate::types::codec;
use crate::types::contact::Private;
use crate::types::effect::{CallWant, Channel, Slot};
use crate::types::ids::EntityKey;
use crate::types::money::Money;
use crate::types::time::{Millis, Timestamp};
use serde::{Deserialize, Serialize};

/// Below the slots of the saga's calls.
const SLOTS: NoticeSlots = NoticeSlots::new(0x4000, 12);
/// Pauses before further tries on one channel.
const PAUSES: [Millis; 3] = [Millis::from_secs(10), Millis::from_mins(1), Millis::from_mins(10)];

/// How the buyer is told, and what. Persisted: append only.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Telling {
    contacts: ContactSet,
    notices: Notices,
}

impl Telling {
    pub fn new(contacts: ContactSet) -> Self {
        Self { contacts, notices: Notices::default() }
    }

    fn channels(&self) -> Vec<Channel> {
        self.contacts.sender_channels()
    }

    fn with_course<T>(&self, now: Timestamp, follow: impl FnOnce(Course<'_>) -> T) -> T {
        follow(Course { channels: &self.channels(), pauses: &PAUSES, now })
    }
}

impl Placed {
    fn notices(&self) -> Option<&Notices> {
        self.telling.as_ref().map(|telling| &telling.notices)
    }

    /// The notification log, oldest first.
    pub fn notice_log(&self) -> &[Notice] {
        self.notices().map_or(&[], Notices::log)
    }

    /// Nothing is left to tell.
    pub fn has_told(&self) -> bool {
        self.notices().is_none_or(|notices| !notices.has_wanted())
    }

    pub fn has_dead_notice(&self) -> bool {
        self.notices().is_some_and(Notices::has_dead)
    }

    /// Notices that were given up, by their number.
    pub fn notice_letters(&self) -> Vec<(u16, StepLetter)> {
        let letter = |notice: &Notice| {
            let (since, cause) = notice.death()?;
            let (attempts, money_held) = (notice.attempts(), Money { minor: 0, ..self.amount });
            let letter = StepLetter { command: "notice", cause: cause.to_owned(), attempts, money_held, since };
            Some((notice.number, letter))
        };
        self.notice_log().iter().filter_map(letter).collect()
    }

    /// Wants a notice now, if the buyer is to be told.
    pub(super) fn tell(&mut self, template: Template, at: Timestamp) {
        if let Some(telling) = &mut self.telling {
            let channels = telling.channels();
            telling.notices.want(template, &channels, at);
        }
    }

    /// Without personal data nobody can be told anything.
    pub(super) fn stop_telling(&mut self, at: Timestamp) {
        if let Some(telling) = &mut self.telling {
            telling.notices.drop_wanted(|_| true, at);
        }
    }

    /// `fact` is of a notice, or changes nothing.
    pub(super) fn apply_notice(&mut self, fact: &OrderFact, at: Timestamp) {
        let Some(telling) = &mut self.telling else { return };
        let channels = telling.channels();
        if let OrderFact::NoticesSettled(results) = fact {
            results.iter().for_each(|result| telling.notices.settle(result, at));
        } else if let OrderFact::NoticeReplayed { number, .. } = fact {
            telling.notices.replay(*number, |_buyer| channels, at);
        } else if let OrderFact::NoticeDiscarded { number, .. } = fact {
            telling.notices.discard(*number, at);
        }
    }

    /// `None` unless `slot` is that of a notice which is wanted.
    pub(super) fn notice_outcome(&self, slot: Slot, outcome: &CallOutcome, now: Timestamp) -> Option<NoticeResult> {
        let CallOutcome::Message(outcome) = outcome else { return None };
        let telling = self.telling.as_ref()?;
        let notice = telling.notices.wanted(SLOTS, slot)?;
        let step = telling.with_course(now, |course| course.after(notice, outcome));
        Some(NoticeResult { number: notice.number, step })
    }

    /// What follows from a report on a message.
    pub(super) fn notice_report(&self, report: &Report, now: Timestamp) -> Vec<OrderFact> {
        let result = || -> Option<NoticeResult> {
            // Without its personal data nothing can be sent any more.
            self.sealed.as_ref()?;
            let telling = self.telling.as_ref()?;
            let notice = telling.notices.sent(SLOTS, referred_slot(&report.reference)?)?;
            let step: NoticeStep = telling.with_course(now, |course| course.reported(notice, &report.status))?;
            Some(NoticeResult { number: notice.number, step })
        };
        result().map(|result| OrderFact::NoticesSettled(vec![result])).into_iter().collect()
    }

    /// # Errors
    /// [`OrderRejection::NotADeadLetter`].
    pub(super) fn check_notice_letter(&self, number: u16) -> Result<(), OrderRejection> {
        match self.notices() {
            Some(notices) if notices.is_dead(number) => Ok(()),
            Some(_) | None => Err(OrderRejection::NotADeadLetter),
        }
    }

    /// The calls of the notices, in slot order.
    pub(super) fn notice_calls(&self) -> Vec<CallWant> {
        let mut calls: Vec<CallWant> = self.notices().into_iter().flat_map(|notices| notices.calls(SLOTS)).collect();
        calls.sort_by_key(|call| call.slot);
        calls
    }

    /// The message behind a slot; `None` unless it is that of a notice which is wanted.
    pub(super) fn notice_request(&self, key: EntityKey, slot: Slot, personal: Option<&[u8]>) -> Option<CallRequest> {
        let notice = self.notices()?.wanted(SLOTS, slot)?;
        let Grown(_, buyer): Grown<Personal, SenderContact> = codec::decode(personal?).ok()?;
        let to = buyer.unwrap_or_default().address(notice.channel, &self.owner)?;
        let reference = notice_reference(&format!("{PREFIX}_{}", key.hex()), slot, notice.generation);
        Some(CallRequest::Message(MessageRequest {
            reference,
            purpose: Purpose::Notice,
            channel: notice.channel,
            template: notice.template,
            to: Private(to),
            variables: self.variables(),
            link: None,
            prior: Prior::None,
        }))
    }

    /// Short, as a template's variables have to be: the first line, and how many more there are.
    fn variables(&self) -> Vec<(String, Private<String>)> {
        let first = self.lines.first().map_or("", |line| line.sku.as_str());
        let items = match self.lines.len() {
            0 | 1 => first.to_owned(),
            lines => format!("{first} +{}", lines - 1),
        };
        let amount = self.amount.minor.to_string();
        [("items", items), ("amount", amount)].map(|(name, value)| (name.to_owned(), Private(value))).to_vec()
    }
}

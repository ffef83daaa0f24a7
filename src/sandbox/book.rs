//! The book: everything that the providers remember, as a fold of the events in the journal.
//!
//! The same `apply` runs for an event that was just decided and for one that is read back at start, so a restarted
//! sandbox knows the same keys, messages, payments and results that still have to come out.

use crate::sandbox::digest::DigestMap;
use crate::sandbox::event::{
    Disposition, Event, Fate, Fired, GroupNumber, KeyDigest, MessageEvent, MessageNumber, PaymentNumber,
};
use crate::sandbox::fate::{self, PhoneRule};
use crate::sandbox::journal::FrameAt;
use crate::sandbox::ledger::{Entry, ItemNumber, Kind, Ledger};
use crate::sandbox::payments::Payments;
use crate::sandbox::settings::{NHN_KEY_WINDOW, Provider};
use crate::sandbox::shipments::Shipments;
use crate::types::effect::Channel;
use crate::types::time::Timestamp;
use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, VecDeque};

/// Result code of a message that has none yet.
pub(crate) const NO_RESULT: u16 = 0;

/// A message that a provider knows under an id of its own.
#[derive(Debug)]
pub(crate) struct Message {
    pub item: ItemNumber,
    pub frame: FrameAt,
    pub provider: Provider,
    pub at: Timestamp,
    /// Position within its call, from 1.
    pub sequence: u32,
    pub state: MessageState,
    /// The newest result, or [`NO_RESULT`].
    pub code: u16,
    /// Steps of its fate that have come out.
    steps_done: u8,
    steps: u8,
    pub reached: bool,
    pub fallback: bool,
    /// The newest result's instant.
    pub result_at: Timestamp,
    /// Digest of the recipient's digits, to search without reading the journal.
    pub to_tag: u32,
    /// What the recipient's number asks for.
    pub phone: Option<PhoneRule>,
    pub group: Option<GroupNumber>,
    previous_of_item: Option<MessageNumber>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum MessageState {
    Held,
    Accepted,
    Refused,
    Cancelled,
    /// With its group, before that was sent.
    Deleted,
}

impl Message {
    /// No further result will come.
    pub(crate) fn is_final(&self) -> bool {
        self.code != NO_RESULT && self.steps_done >= self.steps
    }
}

/// A Solapi group.
#[derive(Debug)]
pub(crate) struct Group {
    pub at: Timestamp,
    pub allow_duplicates: bool,
    pub sent_at: Option<Timestamp>,
    /// Deleted before it was sent: nobody finds it any more.
    pub deleted: bool,
    pub messages: Vec<MessageNumber>,
    /// How many of the messages were refused on entry.
    pub refused: u32,
}

/// A result that has to come out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Due {
    pub at: Timestamp,
    pub fired: Fired,
}

#[derive(Default)]
pub(crate) struct Book {
    pub ledger: Ledger,
    pub payments: Payments,
    pub shipments: Shipments,
    messages: Vec<Message>,
    newest_of_item: HashMap<u32, MessageNumber>,
    groups: Vec<Group>,
    keys: DigestMap<KeyDigest, Timestamp>,
    keys_by_age: VecDeque<(Timestamp, KeyDigest)>,
    scheduled: HashMap<MessageNumber, Timestamp>,
    due: BinaryHeap<Reverse<Due>>,
    /// Results in the order in which they came out.
    results: Vec<(Timestamp, MessageNumber)>,
}

impl Book {
    /// The only way in which the book changes.
    pub(crate) fn apply(&mut self, event: &Event<'_>, frame: FrameAt) {
        match event {
            Event::Message(message) => self.message(message, frame),
            Event::Results { at, fired } => self.results(*at, fired, frame),
            Event::Cancelled { messages } => self.cancelled(messages),
            Event::GroupMade { at, allow_duplicates } => self.groups.push(Group {
                at: *at,
                allow_duplicates: *allow_duplicates,
                sent_at: None,
                deleted: false,
                messages: Vec::new(),
                refused: 0,
            }),
            Event::GroupSent { group, at, fates } => {
                self.groups[group.0 as usize].sent_at = Some(*at);
                for (number, fate) in fates {
                    self.accept(*number, fate);
                }
            }
            Event::GroupDeleted { group } => {
                let group = &mut self.groups[group.0 as usize];
                group.deleted = true;
                for number in std::mem::take(&mut group.messages) {
                    self.messages[number.0 as usize].state = MessageState::Deleted;
                }
            }
            Event::Confirm(confirm) => {
                let capture = self.payments.confirm(confirm, frame, &mut self.ledger);
                if let Some((payment, at)) = capture {
                    self.due.push(Reverse(Due { at, fired: Fired::Capture { payment } }));
                }
            }
            Event::Shipment(shipment) => self.shipments.apply(shipment, frame, &mut self.ledger),
            Event::Refund(refund) => self.payments.refund(refund, frame, &mut self.ledger),
            Event::PaymentCall { order, refund, amount, at } => {
                self.payments.call_without_effect(order, *refund, (*amount, *at, frame), &mut self.ledger);
            }
        }
    }

    fn message(&mut self, event: &MessageEvent<'_>, frame: FrameAt) {
        let item = self.ledger.call(&Entry {
            kind: Kind::Message,
            provider: event.provider,
            channel: Some(event.channel),
            reference: &event.reference,
            at: event.at,
            frame,
        });
        if event.sequence == 1 {
            self.ledger.first_of_call(&event.reference);
        }
        if let Some(key) = event.key {
            self.keys.insert(key, event.at);
            self.keys_by_age.push_back((event.at, key));
            self.forget_keys(event.at);
        }
        let state = match event.disposition {
            Disposition::Accepted(_) => MessageState::Accepted,
            Disposition::Held { .. } => MessageState::Held,
            Disposition::Refused { .. } => MessageState::Refused,
            Disposition::NotTaken { .. } => return,
        };
        let number = self.next_message();
        let previous_of_item = self.newest_of_item.insert(item.0, number);
        self.messages.push(Message {
            item,
            frame,
            provider: event.provider,
            at: event.at,
            sequence: event.sequence,
            state,
            code: NO_RESULT,
            steps_done: 0,
            steps: 0,
            reached: false,
            fallback: false,
            result_at: event.at,
            to_tag: phone_tag(&event.to),
            phone: fate::phone_rule(&event.to),
            group: None,
            previous_of_item,
        });
        match &event.disposition {
            Disposition::Accepted(fate) => self.accept(number, fate),
            Disposition::Held { group, fallback } => {
                self.messages[number.0 as usize].fallback = *fallback;
                self.join(number, *group);
            }
            Disposition::Refused { group: Some(group), .. } => {
                self.join(number, *group);
                self.groups[group.0 as usize].refused += 1;
            }
            Disposition::Refused { group: None, .. } | Disposition::NotTaken { .. } => {}
        }
    }

    fn join(&mut self, number: MessageNumber, group: GroupNumber) {
        self.messages[number.0 as usize].group = Some(group);
        self.groups[group.0 as usize].messages.push(number);
    }

    fn accept(&mut self, number: MessageNumber, fate: &Fate) {
        let message = &mut self.messages[number.0 as usize];
        message.state = MessageState::Accepted;
        message.reached = fate.reached;
        message.fallback = fate.fallback;
        message.steps = u8::try_from(fate.steps.len()).expect("a fate has at most a few steps");
        if fate.reached {
            self.ledger.effective(message.item, 1);
        }
        if let Some(send_at) = fate.send_at {
            self.scheduled.insert(number, send_at);
        }
        for (step, result) in (0u8..).zip(&fate.steps) {
            let fired = Fired::Message { number, step, code: result.code };
            self.due.push(Reverse(Due { at: result.due, fired }));
        }
    }

    fn results(&mut self, at: Timestamp, fired: &[Fired], frame: FrameAt) {
        for fired in fired {
            match fired {
                Fired::Message { number, step, code } => self.result(at, (*number, *step, *code), frame),
                Fired::Capture { payment } => self.payments.captured_late(*payment, at, &mut self.ledger),
            }
        }
    }

    fn result(&mut self, at: Timestamp, (number, step, code): (MessageNumber, u8, u16), frame: FrameAt) {
        let message = &mut self.messages[number.0 as usize];
        message.code = code;
        message.result_at = at;
        message.steps_done = step + 1;
        self.scheduled.remove(&number);
        self.results.push((at, number));
        let falls_back = message.fallback && message.is_final() && !message.reached;
        if falls_back {
            // The provider sends a text of its own accord: same reference, another channel.
            let item = self.ledger.get(message.item);
            let (provider, reference, first) = (item.provider, item.reference.clone(), item.frame);
            debug_assert!(first < frame, "a result follows its message");
            let entry = Entry {
                kind: Kind::Message,
                provider,
                channel: Some(Channel::Sms),
                reference: &reference,
                at,
                frame: first,
            };
            let text = self.ledger.item_of(&entry);
            self.ledger.effective(text, 1);
        }
    }

    fn cancelled(&mut self, messages: &[MessageNumber]) {
        for number in messages {
            let message = &mut self.messages[number.0 as usize];
            message.state = MessageState::Cancelled;
            self.scheduled.remove(number);
            if message.reached {
                self.ledger.effective(message.item, -1);
            }
        }
    }

    /// Whether `key` was taken less than its window ago.
    pub(crate) fn key_is_fresh(&self, key: KeyDigest, now: Timestamp) -> bool {
        self.keys.get(&key).is_some_and(|at| now - *at < NHN_KEY_WINDOW)
    }

    fn forget_keys(&mut self, now: Timestamp) {
        while let Some((at, key)) = self.keys_by_age.front().copied() {
            if now - at < NHN_KEY_WINDOW {
                return;
            }
            self.keys_by_age.pop_front();
            // The key may have been taken again since; then the younger entry stays.
            if self.keys.get(&key) == Some(&at) {
                self.keys.remove(&key);
            }
        }
    }

    pub(crate) fn next_message(&self) -> MessageNumber {
        MessageNumber(u32::try_from(self.messages.len()).expect("fewer than 2^32 messages fit in memory"))
    }

    pub(crate) fn get(&self, number: MessageNumber) -> Option<&Message> {
        self.messages.get(number.0 as usize)
    }

    pub(crate) fn next_group(&self) -> GroupNumber {
        GroupNumber(u32::try_from(self.groups.len()).expect("fewer than 2^32 groups fit in memory"))
    }

    pub(crate) fn group(&self, number: GroupNumber) -> Option<&Group> {
        self.groups.get(number.0 as usize).filter(|group| !group.deleted)
    }

    /// Until when a scheduled message can be cancelled.
    pub(crate) fn scheduled(&self, number: MessageNumber) -> Option<Timestamp> {
        self.scheduled.get(&number).copied()
    }

    /// Messages that carried `reference`, newest first.
    pub(crate) fn by_reference(&self, provider: Provider, channel: Channel, reference: &str) -> Vec<MessageNumber> {
        let mut found = Vec::new();
        let item = self.ledger.find(Kind::Message, provider, channel, reference);
        let mut next = item.and_then(|item| self.newest_of_item.get(&item.0).copied());
        while let Some(number) = next {
            found.push(number);
            next = self.messages[number.0 as usize].previous_of_item;
        }
        found
    }

    /// Messages of a provider that arrived in the span, oldest first.
    pub(crate) fn arrived(
        &self,
        provider: Provider,
        from: Timestamp,
        until: Timestamp,
    ) -> impl Iterator<Item = MessageNumber> {
        let first = self.messages.partition_point(|message| message.at < from);
        let numbered = (0u32..).zip(&self.messages).skip(first).take_while(move |(_, message)| message.at <= until);
        numbered.filter(move |(_, message)| message.provider == provider).map(|(number, _)| MessageNumber(number))
    }

    /// Messages of a provider with a result that came out in the span, oldest result first.
    pub(crate) fn updated(
        &self,
        provider: Provider,
        from: Timestamp,
        until: Timestamp,
    ) -> impl Iterator<Item = MessageNumber> {
        let first = self.results.partition_point(|(at, _)| *at < from);
        let within = self.results[first..].iter().take_while(move |(at, _)| *at <= until).map(|(_, number)| *number);
        within.filter(move |number| self.messages[number.0 as usize].provider == provider)
    }

    /// Takes what is due at `now`, at most `limit`, oldest first. The caller records it as [`Event::Results`].
    pub(crate) fn take_due(&mut self, now: Timestamp, limit: usize) -> Vec<Fired> {
        let mut fired = Vec::new();
        while fired.len() < limit && self.next_due().is_some_and(|at| at <= now) {
            let Some(Reverse(due)) = self.due.pop() else { break };
            fired.push(due.fired);
        }
        fired
    }

    /// When the next result comes out.
    pub(crate) fn next_due(&mut self) -> Option<Timestamp> {
        while let Some(Reverse(due)) = self.due.peek() {
            if !self.is_void(due.fired) {
                return Some(due.at);
            }
            self.due.pop();
        }
        None
    }

    /// Already out (the journal is read back), or cancelled.
    fn is_void(&self, fired: Fired) -> bool {
        match fired {
            Fired::Message { number, step, .. } => {
                let message = &self.messages[number.0 as usize];
                message.state == MessageState::Cancelled || step < message.steps_done
            }
            Fired::Capture { payment } => !self.capture_waits(payment),
        }
    }

    fn capture_waits(&self, payment: PaymentNumber) -> bool {
        self.payments.get(payment).is_some_and(|payment| payment.waits_for_capture())
    }
}

/// Digest of the digits of a phone number.
pub(crate) fn phone_tag(to: &str) -> u32 {
    to.bytes().filter(u8::is_ascii_digit).fold(0, |tag: u32, digit| tag.wrapping_mul(31).wrapping_add(u32::from(digit)))
}

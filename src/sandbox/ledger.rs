//! The ledger: what a person got or paid, judged from outside the system under test.
//!
//! One item for each (kind, provider, channel, reference). `requests` counts calls that named it, `effective` what a
//! person would have got or paid after the provider's own deduplication. Deliveries are counted by (gift, generation)
//! over all channels. Texts and addresses stay on disk; an item keeps the frame to read them from.

use crate::sandbox::digest::DigestMap;
use crate::sandbox::journal::FrameAt;
use crate::sandbox::settings::Provider;
use crate::types::effect::Channel;
use crate::types::time::Timestamp;
use xxhash_rust::xxh3::{xxh3_64, xxh3_128};

/// No next item.
const NONE: u32 = u32::MAX;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Kind {
    Message,
    Payment,
    Refund,
    Shipment,
}

impl Kind {
    pub(crate) const ALL: [Kind; 4] = [Self::Message, Self::Payment, Self::Refund, Self::Shipment];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Message => "message",
            Self::Payment => "payment",
            Self::Refund => "refund",
            Self::Shipment => "shipment",
        }
    }

    pub(crate) fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }
}

/// What a correlation id says: `g_<hex>.<generation>.<attempt>` for a gift, `g_<hex>.n.<…>` for a notice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Reference<'a> {
    pub entity: &'a str,
    /// `g_<hex>.<generation>`: the unit of "exactly once". A notice has none.
    pub delivery: Option<&'a str>,
    pub notice: bool,
}

impl<'a> Reference<'a> {
    pub(crate) fn parse(text: &'a str) -> Self {
        let Some(dot) = text.find('.') else { return Self { entity: text, delivery: None, notice: false } };
        let rest = &text[dot + 1..];
        let second = rest.split('.').next().unwrap_or_default();
        let generation = !second.is_empty() && second.bytes().all(|byte| byte.is_ascii_digit());
        let delivery = generation.then(|| &text[..dot + 1 + second.len()]);
        Self { entity: &text[..dot], delivery, notice: second == "n" }
    }

    pub(crate) fn purpose(self) -> &'static str {
        if self.notice { "notice" } else { "gift" }
    }
}

/// Position of an item in the order of first sight.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct ItemNumber(pub u32);

#[derive(Debug)]
pub(crate) struct Item {
    pub kind: Kind,
    pub provider: Provider,
    pub channel: Option<Channel>,
    pub reference: Box<str>,
    pub requests: u32,
    pub effective: u32,
    pub first_at: Timestamp,
    pub last_at: Timestamp,
    /// Won; payments and refunds only.
    pub amount: i64,
    /// Where address and text of the first call stand.
    pub frame: FrameAt,
    next_of_entity: u32,
}

/// Totals over all items.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Summary {
    pub requests: u64,
    pub effective: u64,
    pub references: u64,
    pub doubled: u64,
    pub paid: i64,
    pub refunded: i64,
    pub delivered: u64,
    pub delivered_twice: u64,
    /// Calls that named gifts' messages: a batch is one.
    pub gift_calls: u64,
}

/// First and last item of an entity, in a chain by [`Item::next_of_entity`].
struct Chain {
    first: u32,
    last: u32,
}

/// One call, as far as the ledger is concerned.
pub(crate) struct Entry<'a> {
    pub kind: Kind,
    pub provider: Provider,
    pub channel: Option<Channel>,
    pub reference: &'a str,
    pub at: Timestamp,
    pub frame: FrameAt,
}

#[derive(Default)]
pub(crate) struct Ledger {
    items: Vec<Item>,
    by_name: DigestMap<u128, u32>,
    by_entity: DigestMap<u64, Chain>,
    /// Effective messages of each delivery.
    deliveries: DigestMap<u128, u32>,
    summary: Summary,
}

impl Ledger {
    /// Counts one call of an item and returns the item.
    pub(crate) fn call(&mut self, entry: &Entry<'_>) -> ItemNumber {
        let number = self.item_of(entry);
        let item = &mut self.items[number.0 as usize];
        item.requests += 1;
        item.last_at = item.last_at.max(entry.at);
        if entry.kind == Kind::Message {
            self.summary.requests += 1;
        }
        number
    }

    /// Counts a call by the first message that it names.
    pub(crate) fn first_of_call(&mut self, reference: &str) {
        self.summary.gift_calls += u64::from(Reference::parse(reference).delivery.is_some());
    }

    /// The item of `entry`, without counting a call.
    pub(crate) fn item_of(&mut self, entry: &Entry<'_>) -> ItemNumber {
        let next = u32::try_from(self.items.len()).expect("fewer than 2^32 items fit in memory");
        // Without a reference nothing can be grouped: each call is an item of its own.
        let found = if entry.reference.is_empty() { next } else { *self.by_name.entry(name(entry)).or_insert(next) };
        if found == next {
            self.items.push(Item {
                kind: entry.kind,
                provider: entry.provider,
                channel: entry.channel,
                reference: entry.reference.into(),
                requests: 0,
                effective: 0,
                first_at: entry.at,
                last_at: entry.at,
                amount: 0,
                frame: entry.frame,
                next_of_entity: NONE,
            });
            self.chain(next, entry.reference);
            if entry.kind == Kind::Message {
                self.summary.references += 1;
            }
        }
        ItemNumber(found)
    }

    fn chain(&mut self, item: u32, reference: &str) {
        let entity = xxh3_64(Reference::parse(reference).entity.as_bytes());
        let chain = self.by_entity.entry(entity).or_insert(Chain { first: item, last: item });
        if chain.last != item {
            self.items[chain.last as usize].next_of_entity = item;
            chain.last = item;
        }
    }

    /// A message reaches a person (`by` 1), or one that was counted so never will (`by` -1).
    pub(crate) fn effective(&mut self, number: ItemNumber, by: i32) {
        let item = &mut self.items[number.0 as usize];
        let before = item.effective;
        item.effective = before.saturating_add_signed(by);
        let after = item.effective;
        if item.kind != Kind::Message {
            return;
        }
        let summary = &mut self.summary;
        summary.effective = summary.effective + u64::from(after) - u64::from(before);
        summary.doubled = summary.doubled + u64::from(after > 1) - u64::from(before > 1);
        if let Some(delivery) = Reference::parse(&item.reference).delivery {
            let count = self.deliveries.entry(xxh3_128(delivery.as_bytes())).or_default();
            let was = *count;
            *count = was.saturating_add_signed(by);
            summary.delivered = summary.delivered + u64::from(*count > 0) - u64::from(was > 0);
            summary.delivered_twice = summary.delivered_twice + u64::from(*count > 1) - u64::from(was > 1);
        }
    }

    /// Money moved: a capture of `amount` won, or a refund of it.
    pub(crate) fn money(&mut self, number: ItemNumber, amount: i64) {
        let item = &mut self.items[number.0 as usize];
        item.amount += amount;
        match item.kind {
            Kind::Payment => self.summary.paid += amount,
            Kind::Refund => self.summary.refunded += amount,
            Kind::Message | Kind::Shipment => {}
        }
        self.effective(number, 1);
    }

    pub(crate) fn summary(&self) -> Summary {
        self.summary
    }

    pub(crate) fn get(&self, number: ItemNumber) -> &Item {
        &self.items[number.0 as usize]
    }

    pub(crate) fn find(&self, kind: Kind, provider: Provider, channel: Channel, reference: &str) -> Option<ItemNumber> {
        let entry =
            Entry { kind, provider, channel: Some(channel), reference, at: Timestamp::default(), frame: FrameAt(0) };
        self.by_name.get(&name(&entry)).map(|number| ItemNumber(*number))
    }

    /// Items from position `from` on whose kind and reference fit, at most `limit`, and where to go on.
    pub(crate) fn page(&self, kind: Option<Kind>, prefix: &str, from: u32, limit: usize) -> (Vec<&Item>, Option<u32>) {
        let fits = |item: &Item| kind.is_none_or(|kind| kind == item.kind) && item.reference.starts_with(prefix);
        let mut found = Vec::new();
        let mut candidates: Box<dyn Iterator<Item = u32>> = match self.entity_chain(prefix) {
            Some(first) => Box::new(self.walk(first)),
            None => Box::new(from..u32::try_from(self.items.len()).expect("fewer than 2^32 items")),
        };
        for number in candidates.by_ref() {
            let item = &self.items[number as usize];
            if number < from || !fits(item) {
                continue;
            }
            if found.len() == limit {
                return (found, Some(number));
            }
            found.push(item);
        }
        (found, None)
    }

    /// The newest items first, messages only.
    pub(crate) fn newest_messages(&self, limit: usize) -> Vec<&Item> {
        self.items.iter().rev().filter(|item| item.kind == Kind::Message).take(limit).collect()
    }

    /// A prefix that names a whole entity (`g_<32 hex>`, and more) needs only that entity's items.
    fn entity_chain(&self, prefix: &str) -> Option<u32> {
        let entity = Reference::parse(prefix).entity;
        let (_, id) = entity.split_once('_')?;
        let whole = id.len() == 32 && id.bytes().all(|byte| byte.is_ascii_hexdigit());
        if !whole {
            return None;
        }
        Some(self.by_entity.get(&xxh3_64(entity.as_bytes())).map_or(NONE, |chain| chain.first))
    }

    fn walk(&self, first: u32) -> impl Iterator<Item = u32> + '_ {
        let mut at = first;
        std::iter::from_fn(move || {
            let number = at;
            at = self.items.get(number as usize)?.next_of_entity;
            Some(number)
        })
    }
}

fn name(entry: &Entry<'_>) -> u128 {
    let channel = entry.channel.map_or(0, |channel| channel as u64 + 1);
    let seed = (entry.kind as u64) << 16 | (entry.provider as u64) << 8 | channel;
    xxhash_rust::xxh3::xxh3_128_with_seed(entry.reference.as_bytes(), seed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(reference: &str, channel: Channel) -> Entry<'_> {
        Entry {
            kind: Kind::Message,
            provider: Provider::Nhn,
            channel: Some(channel),
            reference,
            at: Timestamp(1),
            frame: FrameAt(8),
        }
    }

    #[test]
    fn references_tell_deliveries_from_notices() {
        let gift = Reference::parse("g_5f.2.1");
        assert_eq!((gift.entity, gift.delivery, gift.purpose()), ("g_5f", Some("g_5f.2"), "gift"));
        let notice = Reference::parse("g_5f.n.3.0");
        assert_eq!((notice.entity, notice.delivery, notice.purpose()), ("g_5f", None, "notice"));
        let order = Reference::parse("g_5f");
        assert_eq!((order.entity, order.delivery, order.purpose()), ("g_5f", None, "gift"));
    }

    #[test]
    fn a_delivery_over_two_channels_counts_as_twice() {
        let mut ledger = Ledger::default();
        let kakao = ledger.call(&entry("g_5f.0.1", Channel::Kakao));
        let sms = ledger.call(&entry("g_5f.0.2", Channel::Sms));
        let notice = ledger.call(&entry("g_5f.n.1.0", Channel::Sms));
        ledger.effective(kakao, 1);
        ledger.effective(notice, 1);
        assert_eq!((ledger.summary().delivered, ledger.summary().delivered_twice), (1, 0));
        ledger.effective(sms, 1);
        assert_eq!((ledger.summary().delivered, ledger.summary().delivered_twice), (1, 1));
        assert_eq!((ledger.summary().effective, ledger.summary().doubled), (3, 0));
        ledger.effective(sms, -1);
        ledger.effective(kakao, 1);
        assert_eq!((ledger.summary().delivered_twice, ledger.summary().doubled), (1, 1));
    }

    #[test]
    fn pages_follow_prefix_and_cursor_with_and_without_the_entity_chain() {
        let mut ledger = Ledger::default();
        let id = format!("g_{}", "a".repeat(32));
        let own: Vec<String> = (0..5).map(|attempt| format!("{id}.0.{attempt}")).collect();
        for reference in &own {
            ledger.call(&entry(reference, Channel::Kakao));
            ledger.call(&entry("g_other.0.1", Channel::Kakao));
        }
        for prefix in [id.as_str(), "g_a"] {
            let (first, next) = ledger.page(None, prefix, 0, 3);
            assert_eq!(first.iter().map(|item| &*item.reference).collect::<Vec<_>>(), own[..3]);
            let (rest, end) = ledger.page(Some(Kind::Message), prefix, next.unwrap(), 3);
            assert_eq!(rest.iter().map(|item| &*item.reference).collect::<Vec<_>>(), own[3..]);
            assert_eq!(end, None);
        }
        assert!(ledger.page(None, &format!("g_{}", "b".repeat(32)), 0, 9).0.is_empty());
        assert!(ledger.page(Some(Kind::Payment), "", 0, 9).0.is_empty());
    }
}

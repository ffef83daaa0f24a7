//! INV-3: never early, and not later than 60 s beyond what it was held up: what is counted is how much of a gift's own wait
//! something was broken, each instant once, so that a fault excuses no more than its own length. Held up is a gift by faults,
//! by bad answers of its own provider, by the pauses that follow those, and as a dead letter by its operator. What the cluster
//! needs to get over a fault is its own matter: the 60 s are for that.

use super::history::{Fact, FaultSpan, History};
use crate::types::ids::EntityKey;
use crate::types::time::{Millis, Timestamp};
use std::collections::{BTreeMap, BTreeSet};

/// What the product promises.
pub const LATE_MAX: Millis = Millis::from_secs(60);
/// The longest pause behind a refusal, and the pauses behind doubts: the first of them, doubled each time, up to the last.
const REFUSED_PAUSE_MAX: Millis = Millis::from_mins(2);
const DOUBT_PAUSE: Millis = Millis::from_secs(5);
const DOUBT_PAUSE_MAX: Millis = Millis::from_mins(5);

/// From when to when something was not as it should be.
type Span = (Timestamp, Timestamp);

/// The first send that was early, or later than what held it up.
#[must_use]
pub fn check(history: &History) -> Option<String> {
    let due = due_instants(history);
    let is_first = |row: &&super::history::SendRow| row.effective && row.delivery == 0;
    for row in history.sends.iter().filter(is_first) {
        let Some(due) = due.get(&row.gift) else { continue };
        if row.at < *due - history.clock_error {
            return Some(format!("early by {:?}: due {due}, {row:?}", *due - row.at));
        }
    }
    let late = beyond_faults(history);
    let (gift, (due, sent, beyond)) = late.into_iter().find(|(_, (.., beyond))| *beyond > LATE_MAX)?;
    Some(format!("late: {gift:?} due {due}, sent {sent}, {} s beyond what held it up", beyond.0 / 1_000))
}

/// The gifts whose first message left later than [`LATE_MAX`]: when they were due, when it left, and how much of that wait
/// nothing excuses.
#[must_use]
pub fn beyond_faults(history: &History) -> BTreeMap<EntityKey, (Timestamp, Timestamp, Millis)> {
    let due = due_instants(history);
    let mut late: BTreeMap<EntityKey, (Timestamp, Timestamp)> = BTreeMap::new();
    let mut seen = BTreeSet::new();
    for row in history.sends.iter().filter(|row| row.effective && row.delivery == 0) {
        let Some(due) = due.get(&row.gift).filter(|_| seen.insert(row.gift)) else { continue };
        if row.at > *due + LATE_MAX {
            late.insert(row.gift, (*due, row.at));
        }
    }
    let own = held_up(history, &late);
    let faults: Vec<Span> = history.faults.iter().map(|span| (span.from, span.to)).collect();
    let rest = |(gift, (due, sent)): (EntityKey, (Timestamp, Timestamp))| {
        let spans = faults.iter().chain(own.get(&gift).into_iter().flatten());
        (gift, (due, sent, Millis((sent - due).0 - disturbed(spans, due, sent).0)))
    };
    late.into_iter().map(rest).collect()
}

/// What the providers did to each of these gifts, and the pauses that followed.
fn held_up<V>(history: &History, gifts: &BTreeMap<EntityKey, V>) -> BTreeMap<EntityKey, Vec<Span>> {
    let mut spans: BTreeMap<EntityKey, Vec<Span>> = BTreeMap::new();
    for answer in &history.bad_answers {
        if let Some((gift, ..)) = answer.of.filter(|(gift, ..)| gifts.contains_key(gift)) {
            spans.entry(gift).or_default().push((answer.at, answer.until));
        }
    }
    let mut ways: BTreeMap<EntityKey, Way> = BTreeMap::new();
    for row in history.records.iter().filter(|row| gifts.contains_key(&row.gift)) {
        let way = ways.entry(row.gift).or_default();
        let waits = row.facts.iter().filter_map(|fact| way.wait_of(fact, row.at));
        spans.entry(row.gift).or_default().extend(waits);
    }
    spans
}

/// A gift on its way: what follows from what came before.
#[derive(Default)]
struct Way {
    pauses: u32,
    dead_since: Option<Timestamp>,
}

impl Way {
    /// A pause that begins, or a dead letter's wait for its operator that ends.
    fn wait_of(&mut self, fact: &Fact, at: Timestamp) -> Option<Span> {
        match fact {
            Fact::SendPaused { until, .. } => {
                // No longer than the schedule says, whatever the record does.
                let doubt = Millis(DOUBT_PAUSE.0 << self.pauses.min(6)).min(DOUBT_PAUSE_MAX);
                self.pauses += 1;
                Some((at, (*until).min(at + doubt.max(REFUSED_PAUSE_MAX))))
            }
            Fact::SendFailed { .. } => {
                self.dead_since = Some(at);
                None
            }
            Fact::Replayed => self.dead_since.take().map(|since| (since, at)),
            _other => None,
        }
    }
}

/// For how long, between two instants, something was not as it should be.
fn disturbed<'a>(spans: impl Iterator<Item = &'a Span>, from: Timestamp, to: Timestamp) -> Millis {
    let mut parts: Vec<Span> = spans.map(|span| (span.0.max(from), span.1.min(to))).collect();
    parts.sort_unstable();
    let (mut sum, mut upto) = (Millis(0), from);
    for (from, to) in parts {
        sum = Millis(sum.0 + (to - from.max(upto)).0.max(0));
        upto = upto.max(to);
    }
    sum
}

/// When each gift was due at last.
#[must_use]
pub fn due_instants(history: &History) -> BTreeMap<EntityKey, Timestamp> {
    let mut due = BTreeMap::new();
    for row in &history.records {
        for fact in &row.facts {
            if let Fact::Reserved { due: at } | Fact::Moved { due: at } = fact {
                due.insert(row.gift, *at);
            }
        }
    }
    due
}

/// Until when faults held up what was due and held up until `until` anyway: one after the other, without a minute between
/// them, and half a minute behind each. `spans` in the order of their beginnings.
pub(super) fn excused_until(due: Timestamp, mut until: Timestamp, spans: &[FaultSpan]) -> Timestamp {
    let over = |span: &FaultSpan| span.to + Millis::from_secs(30);
    for span in spans.iter().filter(|span| over(span) > due) {
        if span.from > until + LATE_MAX {
            break;
        }
        until = until.max(over(span));
    }
    until
}

//! INV-2: at most one effective send a delivery, none for a cancelled gift; and what counts as sent was sent. Effective: a
//! person got it; what the provider itself reports as not delivered may be followed by another channel.
//!
//! | the gift's records say | the providers have |
//! |---|---|
//! | accepted, or reported as delivered | an effective send of that attempt, or of that delivery, before |
//! | sent, unconfirmed | a request of that delivery, unless a fault may have swallowed it |
//! | a dead letter | a refusal of that attempt, a report that it failed, a provider that was away; or a doubt of a day |
//! | paid, and due at last | one of these three |

use super::history::{Fact, History, RecordRow};
use super::inv09_not_stuck::PATIENCE;
use crate::types::ids::EntityKey;
use crate::types::time::{Millis, Timestamp};
use std::collections::{BTreeMap, BTreeSet};

/// An attempt is in doubt for so long before it becomes a dead letter.
const DOUBT: Millis = Millis::from_hours(24);
/// A provider that is away was not there so long ago: longer than a breaker stays open, with its probes.
const AWAY: Millis = Millis::from_mins(2);

/// The first delivery with a second effect or without one, or the first cancelled gift with one.
#[must_use]
pub fn check(history: &History) -> Option<String> {
    sent_twice(history).or_else(|| Sent::of(history).breach(history))
}

fn sent_twice(history: &History) -> Option<String> {
    let cancelled: BTreeSet<EntityKey> =
        history.records.iter().filter(|row| row.facts.contains(&Fact::Cancelled)).map(|row| row.gift).collect();
    let mut sent = BTreeMap::new();
    for row in history.sends.iter().filter(|row| row.effective) {
        if cancelled.contains(&row.gift) {
            return Some(format!("a cancelled gift was sent: {row:?}"));
        }
        if row.failed {
            continue;
        }
        if let Some(first) = sent.insert((row.gift, row.delivery), row) {
            return Some(format!("sent twice: {first:?} and {row:?}"));
        }
    }
    None
}

type Attempt = (EntityKey, u16, u16);

/// What the providers have of each delivery, by its first instant.
struct Sent {
    effective: BTreeMap<Attempt, Timestamp>,
    requested: BTreeMap<(EntityKey, u16), Timestamp>,
    /// For sure: by a refusal, or by a report.
    failed: BTreeSet<Attempt>,
    started: BTreeMap<Attempt, Timestamp>,
    /// How far records and providers may be apart.
    clock_error: Millis,
    /// Instants at which the providers or the cluster were not well, in order.
    trouble: Vec<(Timestamp, Timestamp)>,
}

impl Sent {
    fn of(history: &History) -> Self {
        let mut effective = BTreeMap::new();
        let mut failed = BTreeSet::new();
        for row in history.sends.iter().filter(|row| row.effective) {
            effective.entry((row.gift, row.delivery, row.attempt)).or_insert(row.at);
            if row.failed {
                failed.insert((row.gift, row.delivery, row.attempt));
            }
        }
        failed.extend(history.bad_answers.iter().filter(|answer| answer.refused).filter_map(|answer| answer.of));
        let mut requested = BTreeMap::new();
        for row in &history.calls {
            requested.entry((row.gift, row.delivery)).or_insert(row.at);
        }
        let mut started = BTreeMap::new();
        for (row, fact) in facts(history) {
            if let Fact::SendStarted { delivery, attempt, .. } = fact {
                started.entry((row.gift, *delivery, *attempt)).or_insert(row.at);
            }
        }
        let bad = history.bad_answers.iter().map(|answer| (answer.at, answer.until));
        let mut trouble: Vec<_> = bad.chain(history.faults.iter().map(|span| (span.from, span.to))).collect();
        trouble.sort_unstable();
        let clock_error = history.record_clock_error;
        Self { effective, requested, failed, started, clock_error, trouble }
    }

    fn breach(&self, history: &History) -> Option<String> {
        let wrong = facts(history).find_map(|(row, fact)| {
            let why = self.not_so(row.gift, row.at, fact)?;
            Some(format!("{why}: {:?} version {} at {}: {fact:?}", row.gift, row.version, row.at))
        });
        wrong.or_else(|| self.never_sent(history)).or_else(|| dead_without_a_record(history))
    }

    /// Why what a record says is not so.
    fn not_so(&self, gift: EntityKey, at: Timestamp, fact: &Fact) -> Option<&'static str> {
        let at = at + self.clock_error;
        match *fact {
            Fact::SendAccepted { delivery, attempt } => {
                let taken = self.effective.get(&(gift, delivery, attempt)).is_some_and(|since| *since <= at);
                (!taken).then_some("accepted, but no provider has it")
            }
            Fact::SendReported { delivery } => {
                let mut rows = self.effective.range((gift, delivery, 0)..=(gift, delivery, u16::MAX));
                (!rows.any(|(_, since)| *since <= at)).then_some("reported, but no provider has it")
            }
            Fact::SendUnconfirmed { delivery } => {
                let requested = self.requested.get(&(gift, delivery)).is_some_and(|since| *since <= at);
                (!requested && !self.was_trouble(at)).then_some("unconfirmed, but no provider was asked")
            }
            Fact::SendFailed { delivery, attempt, away } => {
                let attempt = (gift, delivery, attempt);
                let in_doubt = self.started.get(&attempt).is_some_and(|since| *since + DOUBT <= at);
                let explained = self.failed.contains(&attempt) || in_doubt || (away && self.was_trouble(at));
                (!explained).then_some("a dead letter, but no provider refused it")
            }
            _other => None,
        }
    }

    /// Whether something was wrong at `at` or shortly before.
    fn was_trouble(&self, at: Timestamp) -> bool {
        self.trouble.iter().take_while(|(from, _)| *from <= at).any(|(_, to)| *to + AWAY >= at)
    }

    /// The first gift that was paid, was due and never left.
    fn never_sent(&self, history: &History) -> Option<String> {
        let mut due: BTreeMap<EntityKey, Timestamp> = BTreeMap::new();
        let (mut scheduled, mut ended) = (BTreeSet::new(), BTreeSet::new());
        for (row, fact) in facts(history) {
            match fact {
                Fact::Reserved { due: at } | Fact::Moved { due: at } => drop(due.insert(row.gift, *at)),
                Fact::Scheduled => drop(scheduled.insert(row.gift)),
                Fact::Cancelled | Fact::SendUnconfirmed { .. } | Fact::SendFailed { .. } => {
                    ended.insert(row.gift);
                }
                _other => {}
            }
        }
        ended.extend(self.effective.keys().map(|(gift, ..)| *gift));
        let is_over = |gift: &&EntityKey| due.get(gift).is_some_and(|due| *due + PATIENCE < history.ended_at);
        let lost = scheduled.difference(&ended).find(is_over)?;
        Some(format!("{lost:?} was due at {}, and never sent", due[lost]))
    }
}

fn facts(history: &History) -> impl Iterator<Item = (&RecordRow, &Fact)> {
    history.records.iter().flat_map(|row| row.facts.iter().map(move |fact| (row, fact)))
}

/// The first gift that is a dead letter at the end, and never became one.
fn dead_without_a_record(history: &History) -> Option<String> {
    let failed = |(row, fact): (&RecordRow, &Fact)| matches!(fact, Fact::SendFailed { .. }).then_some(row.gift);
    let became: BTreeSet<EntityKey> = facts(history).filter_map(failed).collect();
    let row = history.gifts.iter().find(|row| row.dead && !became.contains(&row.gift))?;
    Some(format!("a dead letter that no record made one: {row:?}"))
}

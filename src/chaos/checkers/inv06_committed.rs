//! INV-6: nothing is performed that is not committed, and no stale leader's effect is accepted: whatever a provider took
//! was started by a record before, under the claim that the call was made under, and calls of an older claim never come
//! after those of a newer one, recognised or not. And every request that reaches a provider has a record of its own: nothing is
//! retried beside the journal. A batch is made again as it was, for all of its members under one record of the batch.

use super::history::{CallRow, Fact, History};
use crate::types::ids::EntityKey;
use crate::types::time::Timestamp;
use std::collections::BTreeMap;

/// One fenced call of a gift, as its records name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Call {
    Send { delivery: u16, attempt: u16 },
    Payment,
    Refund { number: u16 },
}

impl Call {
    fn of(row: &CallRow) -> Self {
        Self::Send { delivery: row.delivery, attempt: row.attempt }
    }
}

/// The first effect without a record before it, or of a leader that was no longer one.
#[must_use]
pub fn check(history: &History) -> Option<String> {
    let started = starts(history);
    let mut newest: BTreeMap<(EntityKey, Call), u64> = BTreeMap::new();
    let sends = history.sends.iter().map(|row| {
        let call = Call::Send { delivery: row.delivery, attempt: row.attempt };
        (row.gift, call, row.term, row.at)
    });
    let money = history.moves.iter().map(|row| {
        let call = row.refund.map_or(Call::Payment, |number| Call::Refund { number });
        (row.gift, call, row.term, row.at)
    });
    for (gift, call, term, at) in sends.chain(money) {
        let in_batch = |row: &CallRow| (row.gift, Call::of(row)) == (gift, call) && row.at <= at;
        match started.get(&(gift, call, term)) {
            Some(since) if *since <= at + history.record_clock_error => {}
            Some(_) | None if history.batch_repeats.iter().any(in_batch) => {}
            Some(since) => return Some(format!("{gift:?} {call:?} of term {term} at {at}, committed at {since} only")),
            None => return Some(format!("{gift:?} {call:?} of term {term} at {at} was never committed")),
        }
        let known = newest.entry((gift, call)).or_insert(term);
        if term < *known {
            return Some(format!("{gift:?} {call:?}: an effect of term {term} at {at} after one of term {known}"));
        }
        *known = term;
    }
    beside_the_journal(history)
}

/// The first request to send that is one more than the records which start that attempt.
fn beside_the_journal(history: &History) -> Option<String> {
    let mut allowed: BTreeMap<(EntityKey, u16, u16), u32> = BTreeMap::new();
    for row in &history.records {
        for fact in &row.facts {
            if let Fact::SendStarted { delivery, attempt, .. } = fact {
                *allowed.entry((row.gift, *delivery, *attempt)).or_default() += 1;
            }
        }
    }
    for row in &history.batch_repeats {
        *allowed.entry((row.gift, row.delivery, row.attempt)).or_default() += 1;
    }
    let excess = history.calls.iter().find(|call| {
        let left = allowed.entry((call.gift, call.delivery, call.attempt)).or_default();
        left.checked_sub(1).map(|less| *left = less).is_none()
    });
    excess.map(|call| format!("a request without a record of its own: {call:?}"))
}

/// When each call was first started by a record, by the term of its claim.
fn starts(history: &History) -> BTreeMap<(EntityKey, Call, u64), Timestamp> {
    let mut started = BTreeMap::new();
    for row in &history.records {
        for fact in &row.facts {
            let (call, term) = match fact {
                Fact::SendStarted { delivery, attempt, term } => {
                    (Call::Send { delivery: *delivery, attempt: *attempt }, *term)
                }
                Fact::PaymentStarted { term } => (Call::Payment, *term),
                Fact::RefundStarted { number, term } => (Call::Refund { number: *number }, *term),
                Fact::Reserved { .. }
                | Fact::Moved { .. }
                | Fact::Cancelled
                | Fact::Scheduled
                | Fact::SendAccepted { .. }
                | Fact::SendReported { .. }
                | Fact::SendUnconfirmed { .. }
                | Fact::SendPaused { .. }
                | Fact::SendFailed { .. }
                | Fact::Replayed
                | Fact::Captured { .. }
                | Fact::RefundSettled { .. }
                | Fact::Redeemed
                | Fact::Forgotten
                | Fact::Promised { .. }
                | Fact::PartPromised { .. }
                | Fact::Issued { .. }
                | Fact::CouponIssued { .. } => continue,
            };
            started.entry((row.gift, call, term)).or_insert(row.at);
        }
    }
    started
}

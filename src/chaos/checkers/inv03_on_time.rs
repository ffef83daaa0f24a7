//! INV-3: never early, and not later than 60 s beyond the faults' own length.

use super::history::{Fact, FaultSpan, History};
use crate::types::ids::EntityKey;
use crate::types::time::{Millis, Timestamp};
use std::collections::BTreeMap;

/// What the product promises.
pub const LATE_MAX: Millis = Millis::from_secs(60);

/// The first send that was early, or later than faults excuse.
#[must_use]
pub fn check(history: &History) -> Option<String> {
    let due = due_instants(history);
    let mut spans = history.faults.clone();
    spans.sort_by_key(|span| span.from);
    let mut first = BTreeMap::new();
    for row in history.sends.iter().filter(|row| row.effective && row.delivery == 0) {
        let Some(due) = due.get(&row.gift) else { continue };
        if row.at < *due - history.clock_error {
            return Some(format!("early by {:?}: due {due}, {row:?}", *due - row.at));
        }
        first.entry(row.gift).or_insert((*due, row));
    }
    for (due, row) in first.into_values() {
        let disturbed = row.disturbed_until.map_or(due, |disturbed| disturbed.max(due));
        let excused = excused_until(due, disturbed, &spans);
        if row.at > excused + LATE_MAX {
            return Some(format!("late: due {due}, excused until {excused}, {row:?}"));
        }
    }
    None
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
/// them. `spans` in the order of their beginnings.
pub(super) fn excused_until(due: Timestamp, mut until: Timestamp, spans: &[FaultSpan]) -> Timestamp {
    for span in spans.iter().filter(|span| span.to > due) {
        if span.from > until + LATE_MAX {
            break;
        }
        until = until.max(span.to);
    }
    until
}

//! INV-10: the same idempotency key gives the same committed reply, however often and wherever it is asked again, and one
//! record at most.

use super::history::{History, Told};
use std::collections::{BTreeMap, BTreeSet};

/// The first key with two answers, or with two records.
#[must_use]
pub fn check(history: &History) -> Option<String> {
    let mut first = BTreeMap::new();
    for reply in &history.replies {
        match &reply.told {
            Told::Done { version, digest, written: true } => {
                let known = *first.entry(reply.key).or_insert((*version, *digest));
                if known != (*version, *digest) {
                    return Some(format!("{reply:?}, but before {known:?}"));
                }
            }
            // What was done once is not refused later.
            Told::Refused { .. } if first.contains_key(&reply.key) => {
                return Some(format!("{reply:?}, but done before: {:?}", first.get(&reply.key)));
            }
            Told::Done { .. } | Told::Refused { .. } => {}
        }
    }
    let mut recorded = BTreeSet::new();
    let asked: BTreeSet<[u8; 16]> = history.replies.iter().map(|reply| reply.key).collect();
    for row in history.records.iter().filter(|row| asked.contains(&row.command_id.0)) {
        if !recorded.insert(row.command_id) {
            return Some(format!("two records of one request: {row:?}"));
        }
    }
    None
}

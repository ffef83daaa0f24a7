//! INV-10: the same idempotency key gives the same committed reply, however often and wherever it is asked again, and one
//! record at most.

use super::history::{History, Told};
use crate::types::ids::Version;
use crate::types::time::Timestamp;
use std::collections::{BTreeMap, BTreeSet};

/// The first key with two answers, or with two records.
#[must_use]
pub fn check(history: &History) -> Option<String> {
    let mut first: BTreeMap<[u8; 16], (Version, u64, Timestamp)> = BTreeMap::new();
    for reply in &history.replies {
        let known = first.get(&reply.key).copied();
        match (&reply.told, known) {
            (Told::Done { version, digest, written: true }, None) => {
                first.insert(reply.key, (*version, *digest, reply.at));
            }
            (Told::Done { version, digest, written: true }, Some(known))
                if (known.0, known.1) != (*version, *digest) =>
            {
                return Some(format!("{reply:?}, but before {known:?}"));
            }
            // What was done once is not refused later: neither to who asked after it was told, nor on a state that has it. A try
            // that was decided before another try's record may be told so after it.
            (Told::Refused { version, .. }, Some((done, _, told))) if reply.asked >= told || *version >= done => {
                return Some(format!("{reply:?}, but done before: {known:?}"));
            }
            (Told::Done { .. } | Told::Refused { .. }, _) => {}
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

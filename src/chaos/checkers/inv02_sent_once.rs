//! INV-2: at most one effective send a delivery, none for a cancelled gift. Effective: a person got it; what the provider
//! itself reports as not delivered may be followed by another channel.

use super::history::{Fact, History};
use crate::types::ids::EntityKey;
use std::collections::{BTreeMap, BTreeSet};

/// The first delivery with a second effect, or the first cancelled gift with one.
#[must_use]
pub fn check(history: &History) -> Option<String> {
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

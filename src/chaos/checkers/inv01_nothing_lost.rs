//! INV-1: no acknowledged record is lost. What a client was told is done is in the journal, under the very version and,
//! where its request wrote it, under its own id; it was there before the client was told; and the gift is at least that far
//! at the end. A refusal rests on a version as well.

use super::history::{Fact, History, Told};
use crate::types::ids::{CommandId, EntityKey, Version};
use crate::types::time::Timestamp;
use std::collections::{BTreeMap, BTreeSet};

/// The first acknowledged record that is not there.
#[must_use]
pub fn check(history: &History) -> Option<String> {
    let journal: BTreeMap<(EntityKey, Version), (CommandId, Timestamp)> =
        history.records.iter().map(|row| ((row.gift, row.version), (row.command_id, row.at))).collect();
    let forgotten: BTreeSet<EntityKey> =
        history.records.iter().filter(|row| row.facts.contains(&Fact::Forgotten)).map(|row| row.gift).collect();
    let reached: BTreeMap<EntityKey, Version> = history.gifts.iter().map(|row| (row.gift, row.version)).collect();
    for reply in &history.replies {
        let (version, written) = match reply.told {
            Told::Done { version, written, .. } => (version, written),
            // A refusal rests on a state that has to be committed as well.
            Told::Refused { version: Version(0), .. } => continue,
            Told::Refused { version, .. } => (version, false),
        };
        let found = journal.get(&(reply.gift, version));
        let held = match found {
            Some((command, since)) => {
                (!written || command.0 == reply.key) && *since <= reply.at + history.record_clock_error
            }
            None => forgotten.contains(&reply.gift),
        };
        if !held {
            return Some(format!("{:?} told {:?} at {}, journal has {found:?}", reply.gift, reply.told, reply.at));
        }
        if reached.get(&reply.gift).is_none_or(|reached| *reached < version) {
            return Some(format!("{:?} told {:?}, but ends at {:?}", reply.gift, reply.told, reached.get(&reply.gift)));
        }
    }
    None
}

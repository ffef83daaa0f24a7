//! INV-5: journals are dense and written once, replicas are equal at equal applied index, and at the end the voters are
//! where their leader is.

use super::history::History;
use crate::types::ids::{CommandId, EntityKey, Version};
use std::collections::BTreeMap;

/// The first hole, the first version that is two records, or the first two replicas that differ or are not
/// equally far.
#[must_use]
pub fn check(history: &History) -> Option<String> {
    let mut reached: BTreeMap<EntityKey, (Version, CommandId)> = BTreeMap::new();
    for row in &history.records {
        let before = reached.insert(row.gift, (row.version, row.command_id));
        let expected = before.map_or(Version(1), |(version, _)| version.next());
        if row.version != expected {
            return Some(format!("{:?}: version {} where {expected} comes next", row.gift, row.version));
        }
    }
    let mut states = BTreeMap::new();
    for row in &history.replicas {
        let first = *states.entry(row.applied).or_insert(*row);
        if first.digest != row.digest {
            return Some(format!("replicas {} and {} differ at {}", first.replica, row.replica, row.applied));
        }
    }
    let leader = history.voters.first()?;
    let behind = history.voters.iter().find(|row| row.applied != leader.applied)?;
    Some(format!("{behind:?} is not where its leader is at the end: {leader:?}"))
}

//! Each gift is linearizable: whatever is said of it was true at some instant between the question and the answer. So an
//! answer that was asked for after another one was heard rests on no earlier version than that one.

use super::history::{Fact, History, Reply, Told};
use crate::types::ids::{EntityKey, Version};
use crate::types::time::Timestamp;
use std::collections::{BTreeMap, BTreeSet};

/// The first answer out of the past. A gift whose traces were purged is not judged.
#[must_use]
pub fn check(history: &History) -> Option<String> {
    let forgotten: BTreeSet<EntityKey> =
        history.records.iter().filter(|row| row.facts.contains(&Fact::Forgotten)).map(|row| row.gift).collect();
    let mut heard: BTreeMap<EntityKey, Vec<(Timestamp, Version)>> = BTreeMap::new();
    for reply in history.replies.iter().filter(|reply| !forgotten.contains(&reply.gift)) {
        heard.entry(reply.gift).or_default().push((reply.at, version_of(reply)));
    }
    for answers in heard.values_mut() {
        answers.sort_unstable();
        // The latest version heard of so far.
        let mut latest = Version(0);
        for (_, version) in answers {
            latest = latest.max(*version);
            *version = latest;
        }
    }
    let stale = |reply: &&Reply| {
        let before = heard.get(&reply.gift).and_then(|answers| {
            let count = answers.partition_point(|(at, _)| *at < reply.asked);
            answers.get(count.checked_sub(1)?)
        });
        before.is_some_and(|(_, version)| version_of(reply) < *version)
    };
    let first = history.replies.iter().find(stale)?;
    Some(format!(
        "{:?} was told {:?}, which a reply from before {} had left behind",
        first.gift, first.told, first.asked
    ))
}

fn version_of(reply: &Reply) -> Version {
    match reply.told {
        Told::Done { version, .. } | Told::Refused { version, .. } => version,
    }
}

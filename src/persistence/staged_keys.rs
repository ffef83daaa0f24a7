//! Data keys of the entities whose rows a snapshot replaces. They lie in a tree of their own, so that they neither go nor
//! come with the rows: a key that was destroyed while this replica was away must not outlive here the rows that it was of,
//! and keys that came with a stage that is dropped must not stay behind it.

use crate::persistence::key::{self, KeyRange, Table};
use crate::persistence::key_store::KeyStore;
use crate::persistence::snapshot::SnapshotChunk;
use crate::persistence::state_store::StateStore;
use crate::persistence::store::StoreError;
use crate::types::ids::{EntityKey, ShardId};
use std::collections::BTreeSet;

/// Rows looked at, and keys forgotten, at a time.
const ROWS_AT_ONCE: usize = 256;

/// Forgets the keys that a chunk shows to be gone: of the entities in it that came without one, and, with the last chunk,
/// of those that the snapshot does not have any more. `with_key` came with one. To be called before the chunk is staged,
/// and only for the chunk that is due.
///
/// # Errors
/// [`StoreError`]; the process must end.
pub(super) fn forget_gone(
    state: &StateStore,
    keys: &KeyStore,
    shard: ShardId,
    chunk: &SnapshotChunk,
    with_key: &BTreeSet<EntityKey>,
) -> Result<(), StoreError> {
    // A replica that is ahead of a snapshot knows of keys that the snapshot does not.
    if state.applied(shard)?.index >= chunk.applied.index {
        return Ok(());
    }
    let in_chunk: BTreeSet<EntityKey> =
        chunk.rows.iter().filter_map(|(row_key, _)| key::parse_state(row_key)).map(|(_, entity)| entity).collect();
    let without: Vec<EntityKey> = in_chunk.difference(with_key).copied().collect();
    keys.forget(&without)?;
    if chunk.next.is_some() {
        return Ok(());
    }
    entities(state, &key::shard_rows(Table::State, shard), |page| {
        let mut gone = Vec::new();
        for entity in page.iter().filter(|entity| !in_chunk.contains(entity)) {
            if state.store().get(&key::staged(shard, &key::state(shard, entity)))?.is_none() {
                gone.push(*entity);
            }
        }
        keys.forget(&gone)
    })
}

/// Throws away what is staged, as [`StateStore::stage_drop`], and the keys that came with it for entities that this replica
/// does not have.
///
/// # Errors
/// As [`StateStore::stage_drop`].
pub fn drop_stage(state: &StateStore, keys: &KeyStore, shard: ShardId) -> Result<(), StoreError> {
    let mut strangers = Vec::new();
    entities(state, &staged_states(shard), |page| {
        for entity in page {
            if state.store().get(&key::state(shard, entity))?.is_none() {
                strangers.push(*entity);
            }
        }
        Ok(())
    })?;
    state.stage_drop(shard)?;
    if strangers.is_empty() {
        return Ok(());
    }
    // What is found again after a crash must be found with its keys.
    state.sync()?;
    keys.forget(&strangers)
}

/// Forgets the keys of all entities of a shard that leaves this node, those that are only staged among them, while its rows
/// still say which those are.
///
/// # Errors
/// [`StoreError`]; the process must end.
pub(super) fn forget_all(state: &StateStore, keys: &KeyStore, shard: ShardId) -> Result<(), StoreError> {
    for range in [key::shard_rows(Table::State, shard), staged_states(shard)] {
        entities(state, &range, |page| keys.forget(page))?;
    }
    keys.sync()
}

fn staged_states(shard: ShardId) -> KeyRange {
    let KeyRange { from, to } = key::shard_rows(Table::State, shard);
    KeyRange { from: key::staged(shard, &from), to: key::staged(shard, &to) }
}

/// The entities of rows that are states, or states that are staged, a page at a time.
fn entities(
    state: &StateStore,
    range: &KeyRange,
    mut take: impl FnMut(&[EntityKey]) -> Result<(), StoreError>,
) -> Result<(), StoreError> {
    let mut range = range.clone();
    loop {
        let rows = state.read(&range, ROWS_AT_ONCE)?;
        let Some((last, _)) = rows.last() else { return Ok(()) };
        let entity = |row_key: &[u8]| key::parse_state(key::parse_staged(row_key).unwrap_or(row_key));
        let page: Vec<EntityKey> =
            rows.iter().filter_map(|(row_key, _)| entity(row_key)).map(|(_, entity)| entity).collect();
        take(&page)?;
        range = range.after(last.clone());
    }
}

#[cfg(test)]
#[path = "staged_keys_tests.rs"]
mod tests;

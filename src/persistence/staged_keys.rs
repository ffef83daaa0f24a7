//! Data keys that come with a snapshot. They live in a tree of their own, so that they neither come nor go with the rows:
//! they are put aside with them, and become the shard's with them. A key that was destroyed while this replica was away
//! must not outlive the rows that it was of.
//!
//! Only the thread that applies the log changes keys, here as elsewhere: what an entry does to a key it does before the
//! installation or after it.

use crate::persistence::codec::{damaged, frame_value, open_value};
use crate::persistence::key::{self, KeyRange, Table};
use crate::persistence::key_store::{KeyChange, KeyStore};
use crate::persistence::state_store::{AppliedRow, StateStore};
use crate::persistence::store::{StoreError, WriteBatch};
use crate::types::ids::{EntityKey, ShardId};
use crate::types::record::WrappedKey;

/// Rows looked at at a time.
const ROWS_AT_ONCE: usize = 256;

/// A key beside the staged row of its entity.
pub(super) fn put(batch: &mut WriteBatch, shard: ShardId, entity: &EntityKey, wrapped: &WrappedKey) {
    let row_key = key::staged_key(shard, entity);
    let value = frame_value(&row_key, wrapped);
    batch.put(row_key, value);
}

/// Makes what is staged the shard's state, and its keys those of the shard's entities; goes on where a crash cut it off.
/// Durable when it returns. To be called where nothing else is applied to the shard.
///
/// # Errors
/// As [`StateStore::install_staged`].
pub fn install(state: &StateStore, keys: &KeyStore, shard: ShardId) -> Result<AppliedRow, StoreError> {
    if state.staged(shard)?.is_some_and(|stage| stage.phase.brings_keys()) {
        adopt(state, keys, shard)?;
    }
    state.install_staged(shard)
}

/// The staged keys, and no other of the entities that are here or come. Says the same however often it is done.
fn adopt(state: &StateStore, keys: &KeyStore, shard: ShardId) -> Result<(), StoreError> {
    for range in [key::shard_rows(Table::State, shard), staged_states(shard)] {
        entities(state, &range, |page| {
            let mut without = Vec::new();
            for entity in page {
                if state.store().get(&key::staged_key(shard, entity))?.is_none() {
                    without.push(*entity);
                }
            }
            keys.forget(&without)
        })?;
    }
    let mut range = key::shard_rows(Table::StagedKey, shard);
    loop {
        let rows = state.read(&range, ROWS_AT_ONCE)?;
        let Some((last, _)) = rows.last() else { return keys.sync() };
        let put = |(row_key, value): &(Vec<u8>, Vec<u8>)| {
            let entity = key::parse_staged_key(row_key).ok_or_else(|| damaged(row_key, "not a staged key's row"))?;
            Ok(KeyChange::Put(entity, open_value(row_key, value)?))
        };
        let changes: Vec<KeyChange> = rows.iter().map(put).collect::<Result<_, StoreError>>()?;
        keys.apply(&changes)?;
        range = range.after(last.clone());
    }
}

/// Forgets the keys of all entities of a shard that leaves this node, while its rows still say which those are.
///
/// # Errors
/// [`StoreError`]; the process must end.
pub(super) fn forget_all(state: &StateStore, keys: &KeyStore, shard: ShardId) -> Result<(), StoreError> {
    // Of staged ones there are keys when a crash cut an installation off.
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

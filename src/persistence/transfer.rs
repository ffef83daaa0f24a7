//! A shard's rows on their way to another replica: snapshot chunks with the wrapped data keys of the entities in them.
//!
//! Data keys are in no row of the shard. A key that is erased while its entity travels is erased again at the receiver
//! by the entry that did it, which lies behind the snapshot in the log. One that was erased before, in entries that the
//! receiver never sees, is forgotten as the snapshot is installed (`staged_keys`).

use crate::persistence::key;
use crate::persistence::key_store::KeyStore;
use crate::persistence::snapshot::{SnapshotChunk, SnapshotError};
use crate::persistence::state_store::StateStore;
use crate::persistence::store::StoreError;
use crate::types::codec;
use crate::types::ids::{EntityKey, LogIndex, ShardId};
use crate::types::record::WrappedKey;
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize)]
struct Parcel {
    chunk: SnapshotChunk,
    keys: Vec<(EntityKey, WrappedKey)>,
}

/// One exported chunk.
pub struct Exported {
    pub bytes: Vec<u8>,
    /// Cursor of the following chunk; `None` in the last.
    pub next: Option<Vec<u8>>,
    /// The index that the snapshot shows.
    pub applied: LogIndex,
}

/// Copies the next chunk of a shard; an empty cursor begins anew.
///
/// # Errors
/// As [`StateStore::export`].
pub fn export(
    state: &StateStore,
    keys: &KeyStore,
    shard: ShardId,
    cursor: Vec<u8>,
    bytes_max: usize,
) -> Result<Exported, SnapshotError> {
    let cursor = if cursor.is_empty() { None } else { Some(cursor) };
    let chunk = state.export(shard, cursor, bytes_max)?;
    let mut wrapped = Vec::new();
    for (row_key, _) in &chunk.rows {
        if let Some((_, entity)) = key::parse_state(row_key)
            && let Some(key) = keys.get(&entity)?
        {
            wrapped.push((entity, key));
        }
    }
    let (next, applied) = (chunk.next.clone(), chunk.applied.index);
    Ok(Exported { bytes: codec::encode(&Parcel { chunk, keys: wrapped }), next, applied })
}

/// Puts a chunk aside, its keys with it. Durable when it returns.
///
/// # Errors
/// As [`StateStore::stage`]; [`SnapshotError::Store`] also for bytes that are no chunk.
pub fn stage(state: &StateStore, shard: ShardId, bytes: &[u8], seal: Vec<u8>) -> Result<(), SnapshotError> {
    let parcel: Parcel =
        codec::decode(bytes).map_err(|cause| StoreError::Corrupt { what: format!("snapshot chunk: {cause}") })?;
    state.stage(shard, parcel.chunk, &parcel.keys, seal)?;
    state.sync()?;
    Ok(())
}

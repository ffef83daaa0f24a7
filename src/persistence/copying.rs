//! What a node hands to a backup of its cluster, while it serves: a shard's rows as of one index, a page at a time, and
//! the entries of its log beyond them.
//!
//! Data keys travel beside rows and entries, never in them, so that the backup can put them into a file of their own.

use crate::persistence::backup_file::EntryItem;
use crate::persistence::codec::{frame_value, unframe_value};
use crate::persistence::joining::Identity;
use crate::persistence::key;
use crate::persistence::key_store::KeyStore;
use crate::persistence::snapshot::{Reader, SnapshotError};
use crate::persistence::state_store::{AppliedRow, StateStore};
use crate::persistence::store::{Row, StoreError};
use crate::types::codec;
use crate::types::ids::{EntityKey, LogIndex, ShardId};
use crate::types::limits::SNAPSHOT_CHUNK_BYTES_MAX;
use crate::types::record::WrappedKey;
use crate::types::time::Timestamp;
use serde::{Deserialize, Serialize};

const CONTEXT: &[u8] = b"bojagi cluster copy";

/// A page of a shard's rows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RowsPage {
    /// The index that all pages of the shard show.
    pub applied: AppliedRow,
    /// Position of this page from 0.
    pub number: u32,
    #[serde(with = "codec::rows")]
    pub rows: Vec<Row>,
    /// Wrapped data keys of the entities whose states are among the rows.
    pub keys: Vec<(EntityKey, WrappedKey)>,
    /// Asks for the next page; `None` in the last.
    pub next: Option<Vec<u8>>,
}

/// A data key that an entry puts: the entry, the place of its record in it, and the key.
pub type LogKey = (LogIndex, u8, WrappedKey);

/// Entries of a shard's log, in order, without the data keys that they put.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogPage {
    pub entries: Vec<EntryItem>,
    pub keys: Vec<LogKey>,
    /// The log was committed up to here when it was asked for; a page may end before.
    pub committed: LogIndex,
    /// When it was asked for, by the node's clock.
    pub at: Timestamp,
}

/// A node's answer. On the wire between builds: append variants only.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Copied {
    Identity(Identity),
    Rows(RowsPage),
    Log(LogPage),
    /// The shard is not led by this node.
    Elsewhere,
    /// The export was lost, or the log no longer reaches back: begin the shard again.
    Lost,
}

impl Copied {
    /// As it travels, with a checksum.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        frame_value(CONTEXT, self)
    }

    /// `None` for bytes that are cut off, damaged, or an answer that this build does not know.
    #[must_use]
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        unframe_value(CONTEXT, bytes).ok()
    }
}

/// Copies the next page of a shard's rows; an empty cursor begins anew, as of now.
///
/// # Errors
/// [`StoreError`] when rows cannot be read.
pub fn rows(state: &StateStore, keys: &KeyStore, shard: ShardId, cursor: Vec<u8>) -> Result<Copied, StoreError> {
    let cursor = if cursor.is_empty() { None } else { Some(cursor) };
    let chunk = match state.export_for(Reader::Backup, shard, cursor, SNAPSHOT_CHUNK_BYTES_MAX) {
        Ok(chunk) => chunk,
        Err(SnapshotError::Lost | SnapshotError::OutOfOrder { .. }) => return Ok(Copied::Lost),
        Err(SnapshotError::Store(error)) => return Err(error),
    };
    let mut wrapped = Vec::new();
    for (row_key, _) in &chunk.rows {
        if let Some((_, entity)) = key::parse_state(row_key)
            && let Some(key) = keys.get(&entity)?
        {
            wrapped.push((entity, key));
        }
    }
    let (applied, number, rows, next) = (chunk.applied, chunk.number, chunk.rows, chunk.next);
    Ok(Copied::Rows(RowsPage { applied, number, rows, keys: wrapped, next }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_that_was_cut_off_or_damaged_on_its_way_is_refused() {
        let page = LogPage { entries: vec![], keys: vec![], committed: LogIndex(7), at: Timestamp(5) };
        for answer in [Copied::Log(page), Copied::Elsewhere] {
            let bytes = answer.encode();
            assert_eq!(Copied::decode(&bytes), Some(answer));
            for at in 0..bytes.len() {
                let mut flipped = bytes.clone();
                flipped[at] ^= 0x10;
                assert_eq!(Copied::decode(&bytes[..at]), None, "cut at {at}");
                assert_eq!(Copied::decode(&flipped), None, "flip at {at}");
            }
        }
    }
}

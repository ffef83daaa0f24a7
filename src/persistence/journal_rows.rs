//! Journal rows beyond one entity's own: one row, and a shard's rows in key order.

use crate::persistence::codec::damaged;
use crate::persistence::key::{self, Table};
use crate::persistence::state_store::{JournalRecord, StateStore, decode_journal};
use crate::persistence::store::StoreError;
use crate::types::ids::{EntityKey, ShardId, Version};

impl StateStore {
    /// The record that brought the entity to a version; `None` when there is none, or none any more.
    ///
    /// # Errors
    /// [`StoreError`] when the row cannot be read.
    pub fn journal_row(
        &self,
        shard: ShardId,
        entity: &EntityKey,
        version: Version,
    ) -> Result<Option<JournalRecord>, StoreError> {
        let row_key = key::journal(shard, entity, version);
        self.store().get(&row_key)?.map(|value| decode_journal(&row_key, &value)).transpose()
    }

    /// Records of all entities of a shard, by entity, then version, strictly after `after`, at most `limit`.
    ///
    /// # Errors
    /// [`StoreError`] when a row cannot be read.
    pub fn journal_scan(
        &self,
        shard: ShardId,
        after: Option<(EntityKey, Version)>,
        limit: usize,
    ) -> Result<Vec<(EntityKey, JournalRecord)>, StoreError> {
        let mut range = key::shard_rows(Table::Journal, shard);
        if let Some((entity, version)) = after {
            range = range.after(key::journal(shard, &entity, version));
        }
        let decode = |(row_key, value): &(Vec<u8>, Vec<u8>)| {
            let parsed = key::parse_journal(row_key).ok_or_else(|| damaged(row_key, "not a journal key"))?;
            Ok((parsed.1, decode_journal(row_key, value)?))
        };
        self.read(&range, limit)?.iter().map(decode).collect()
    }
}

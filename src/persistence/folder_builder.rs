//! Makes a new data folder out of rows and entries: for a restored backup, or for what a salvage could read.

use crate::persistence::backup_file::{EntryItem, ShardLog};
use crate::persistence::folder::{FolderFiles, OpenError, OpenOptions, make};
use crate::persistence::header::Header;
use crate::persistence::key_store::{KeyChange, KeyStore};
use crate::persistence::log::{HardState, LogAppend, LogEntry};
use crate::persistence::log_store::LogStore;
use crate::persistence::ring::RingFile;
use crate::persistence::snapshot::exported_rows;
use crate::persistence::state_store::{AppliedRow, StateStore};
use crate::persistence::store::{Row, StoreError, WriteBatch};
use crate::persistence::stores::Stores;
use crate::types::ids::{EntityKey, LogIndex, ShardId};
use crate::types::record::WrappedKey;
use std::path::Path;
use std::sync::Arc;

/// A folder that is being filled. It is opened as any other when it is finished.
pub(crate) struct FolderBuilder {
    log: Arc<LogStore>,
    state: Arc<StateStore>,
    keys: Arc<KeyStore>,
}

impl FolderBuilder {
    /// Makes an empty folder with this header, under a new folder id, with these secret files.
    pub(crate) fn create(
        dir: &Path,
        options: &OpenOptions,
        header: &Header,
        files: &FolderFiles,
    ) -> Result<Self, OpenError> {
        let mut header = *header;
        (options.random)(&mut header.folder);
        make(dir, options, &header, files)?;
        let stores = Stores::open(dir, options)?;
        Ok(Self {
            log: Arc::new(LogStore::open(stores.log)?),
            state: Arc::new(StateStore::new(stores.state)),
            keys: Arc::new(KeyStore::new(stores.keys, RingFile::memory())),
        })
    }

    /// Adds rows of a shard's state.
    pub(crate) fn rows(&self, shard: ShardId, rows: Vec<Row>) -> Result<(), StoreError> {
        let ranges = exported_rows(shard);
        if let Some((row_key, _)) = rows.iter().find(|(row_key, _)| !ranges.iter().any(|range| range.contains(row_key)))
        {
            let what = format!("row {} is not of shard {shard}", hex::encode(row_key));
            return Err(StoreError::Corrupt { what });
        }
        let operations = rows.into_iter().map(|(row_key, value)| (row_key, Some(value))).collect();
        self.state.store().apply(WriteBatch { operations })
    }

    /// The rows added so far show the shard as of here; entries beyond may be applied to them.
    pub(crate) fn applied(&self, shard: ShardId, applied: &AppliedRow) -> Result<(), StoreError> {
        self.state.commit(shard, WriteBatch::default(), applied)
    }

    pub(crate) fn state(&self) -> Arc<StateStore> {
        self.state.clone()
    }

    pub(crate) fn key_store(&self) -> Arc<KeyStore> {
        self.keys.clone()
    }

    /// Ends a shard: how far its state is, and the log that goes on from there.
    pub(crate) fn shard(
        &self,
        shard: ShardId,
        applied: &AppliedRow,
        log: ShardLog,
        entries: Vec<EntryItem>,
    ) -> Result<(), StoreError> {
        if applied.index > LogIndex(0) {
            self.state.commit(shard, WriteBatch::default(), applied)?;
        }
        let entry = |(index, term, entry_type, payload)| LogEntry { index, term, entry_type, payload };
        let entries: Vec<LogEntry> = entries.into_iter().map(entry).collect();
        let last = entries.last().map_or(log.start.index, |entry| entry.index);
        let (term, vote, commit) = log.hard_state;
        let hard_state = HardState { term, vote, commit: commit.min(last) };
        self.log.append(&[LogAppend {
            shard,
            number: 0,
            entries,
            hard_state: Some(hard_state),
            membership: Some(log.membership),
            start: Some(log.start),
        }])?;
        Ok(())
    }

    pub(crate) fn keys(&self, keys: Vec<(EntityKey, WrappedKey)>) -> Result<(), StoreError> {
        let changes: Vec<KeyChange> =
            keys.into_iter().map(|(entity, wrapped)| KeyChange::Put(entity, wrapped)).collect();
        self.keys.apply(&changes)
    }

    /// Makes everything durable.
    pub(crate) fn finish(self) -> Result<(), StoreError> {
        self.keys.sync()?;
        self.state.sync()?;
        self.log.sync()
    }
}

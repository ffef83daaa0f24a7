//! Wrapped data keys, in a tree of their own: they are in no event, no state and no backup of the state. Beside them
//! the file of the period keys that they are wrapped under.

use crate::persistence::codec::{damaged, frame_value, open_value};
use crate::persistence::key::{self, KeyRange, Table};
use crate::persistence::ring::RingFile;
use crate::persistence::store::{Store, StoreError, WriteBatch};
use crate::types::ids::EntityKey;
use crate::types::record::WrappedKey;
use crate::types::time::Timestamp;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// Rows of one step of a walk over all keys.
const WALK_ROWS: usize = 256;

/// A change to an entity's data key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeyChange {
    Put(EntityKey, WrappedKey),
    /// With the instant at which it was decided.
    Erase(EntityKey, Timestamp),
}

/// An erased data key, as it is remembered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErasedKey {
    /// Period that it was wrapped under; while that period key is kept, an old medium may still give it away.
    pub period: u32,
    pub at: Timestamp,
}

/// The `keys` tree.
pub struct KeyStore {
    store: Arc<dyn Store>,
    ring: RingFile,
    /// Held from reading to writing, so that a re-wrap never brings an erased key back.
    writing: Mutex<()>,
}

impl KeyStore {
    #[must_use]
    pub fn new(store: Arc<dyn Store>, ring: RingFile) -> Self {
        Self { store, ring, writing: Mutex::new(()) }
    }

    /// `None` once erased, or before it was put.
    ///
    /// # Errors
    /// [`StoreError`] when the row cannot be read.
    pub fn get(&self, entity: &EntityKey) -> Result<Option<WrappedKey>, StoreError> {
        let row_key = key::wrapped_key(entity);
        self.store.get(&row_key)?.map(|value| open_value(&row_key, &value)).transpose()
    }

    /// Applies changes in order, as one batch. Not durable yet.
    ///
    /// # Errors
    /// [`StoreError`]; the process must end.
    pub fn apply(&self, changes: &[KeyChange]) -> Result<(), StoreError> {
        if changes.is_empty() {
            return Ok(());
        }
        let _writing = self.writing.lock();
        let mut batch = WriteBatch::default();
        for (place, change) in changes.iter().enumerate() {
            match change {
                KeyChange::Put(entity, wrapped) => put(&mut batch, entity, wrapped),
                KeyChange::Erase(entity, at) => {
                    // A repeat after a crash finds no key, and keeps what was noted.
                    if let Some(WrappedKey { period, .. }) = self.before(&changes[..place], entity)? {
                        let row_key = key::erased_key(entity);
                        let value = frame_value(&row_key, &ErasedKey { period, at: *at });
                        batch.put(row_key, value);
                    }
                    batch.remove(key::wrapped_key(entity));
                }
            }
        }
        self.store.apply(batch)
    }

    /// The key as `earlier` changes leave it.
    fn before(&self, earlier: &[KeyChange], entity: &EntityKey) -> Result<Option<WrappedKey>, StoreError> {
        let of_entity = earlier.iter().rev().find_map(|change| match change {
            KeyChange::Put(other, wrapped) if other == entity => Some(Some(wrapped.clone())),
            KeyChange::Erase(other, _) if other == entity => Some(None),
            KeyChange::Put(..) | KeyChange::Erase(..) => None,
        });
        match of_entity {
            Some(known) => Ok(known),
            None => self.get(entity),
        }
    }

    /// Removes the keys of entities whose replica has left this node. They live on elsewhere: nothing was erased.
    ///
    /// # Errors
    /// [`StoreError`]; the process must end.
    pub fn forget(&self, entities: &[EntityKey]) -> Result<(), StoreError> {
        let _writing = self.writing.lock();
        let mut batch = WriteBatch::default();
        for entity in entities {
            batch.remove(key::wrapped_key(entity));
        }
        self.store.apply(batch)
    }

    /// Destroys an entity's data key.
    ///
    /// # Errors
    /// [`StoreError`]; the process must end.
    pub fn erase(&self, entity: &EntityKey, at: Timestamp) -> Result<(), StoreError> {
        self.apply(&[KeyChange::Erase(*entity, at)])
    }

    /// What is noted of an entity's erased key.
    ///
    /// # Errors
    /// [`StoreError`] when the row cannot be read.
    pub fn erased(&self, entity: &EntityKey) -> Result<Option<ErasedKey>, StoreError> {
        let row_key = key::erased_key(entity);
        self.store.get(&row_key)?.map(|value| open_value(&row_key, &value)).transpose()
    }

    /// Notes when a period key was dropped.
    ///
    /// # Errors
    /// [`StoreError`]; the process must end.
    pub fn note_dropped(&self, period: u32, at: Timestamp) -> Result<(), StoreError> {
        let row_key = key::dropped_period(period);
        let mut batch = WriteBatch::default();
        let value = frame_value(&row_key, &at);
        batch.put(row_key, value);
        self.store.apply(batch)?;
        self.store.sync()
    }

    /// When a period key was dropped; `None` while it is kept.
    ///
    /// # Errors
    /// [`StoreError`] when the row cannot be read.
    pub fn dropped_at(&self, period: u32) -> Result<Option<Timestamp>, StoreError> {
        let row_key = key::dropped_period(period);
        self.store.get(&row_key)?.map(|value| open_value(&row_key, &value)).transpose()
    }

    /// All keys after `after` in key order, at most a page of them.
    ///
    /// # Errors
    /// [`StoreError`] when a row cannot be read.
    pub fn page(&self, after: Option<EntityKey>) -> Result<Vec<(EntityKey, WrappedKey)>, StoreError> {
        let mut range = key::table(Table::WrappedKey);
        if let Some(after) = after {
            range = range.after(key::wrapped_key(&after));
        }
        let KeyRange { from, to } = &range;
        let rows = self.store.scan(std::ops::Bound::Included(from), std::ops::Bound::Excluded(to), WALK_ROWS)?;
        let decode = |(row_key, value): &(Vec<u8>, Vec<u8>)| {
            let entity = key::parse_wrapped_key(row_key).ok_or_else(|| damaged(row_key, "not a data key's row"))?;
            Ok((entity, open_value(row_key, value)?))
        };
        rows.iter().map(decode).collect()
    }

    /// Lets `rewrap` replace every key, a page at a time; `None` leaves a key as it is. How many were replaced.
    ///
    /// # Errors
    /// [`StoreError`], also as `rewrap` gives it.
    pub fn rewrap_all(
        &self,
        mut rewrap: impl FnMut(&EntityKey, &WrappedKey) -> Result<Option<WrappedKey>, StoreError>,
    ) -> Result<u64, StoreError> {
        let mut after = None;
        let mut replaced = 0;
        loop {
            let _writing = self.writing.lock();
            let page = self.page(after)?;
            let Some((last, _)) = page.last() else { return Ok(replaced) };
            after = Some(*last);
            let mut batch = WriteBatch::default();
            for (entity, wrapped) in &page {
                if let Some(wrapped) = rewrap(entity, wrapped)? {
                    put(&mut batch, entity, &wrapped);
                    replaced += 1;
                }
            }
            if !batch.is_empty() {
                self.store.apply(batch)?;
            }
        }
    }

    /// # Errors
    /// [`StoreError`]; the process must end.
    pub fn sync(&self) -> Result<(), StoreError> {
        self.store.sync()
    }

    /// Where the period keys are kept.
    pub(crate) fn ring(&self) -> &RingFile {
        &self.ring
    }
}

fn put(batch: &mut WriteBatch, entity: &EntityKey, wrapped: &WrappedKey) {
    let row_key = key::wrapped_key(entity);
    let value = frame_value(&row_key, wrapped);
    batch.put(row_key, value);
}

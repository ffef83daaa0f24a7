//! A `Store` for the simulator and for tests: it forgets what was not flushed or synced, and fails to order.
//!
//! What survives a crash is a prefix of the applied batches, as with sled: a batch is never torn in two.

use crate::persistence::store::{Row, Store, StoreError, WriteBatch};
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::ops::Bound;

/// What a crash leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Torn {
    /// The process was killed: everything flushed survives, the rest is lost.
    Process,
    /// The power was cut: everything synced survives, and the first `batches` of what was not.
    Power { batches: usize },
}

/// An operation that can be made to fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    Read,
    Apply,
    Flush,
    Sync,
}

/// How it fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// EIO.
    Io,
    /// ENOSPC.
    Full,
}

impl Failure {
    fn error(self) -> StoreError {
        match self {
            Self::Io => StoreError::Io(std::io::Error::from_raw_os_error(libc::EIO)),
            Self::Full => StoreError::Full,
        }
    }
}

/// A key and what it held before.
type Undo = (Vec<u8>, Option<Vec<u8>>);

#[derive(Default)]
struct Disk {
    rows: BTreeMap<Vec<u8>, Vec<u8>>,
    /// For each batch that is not synced yet, how to take it back.
    undo: Vec<Vec<Undo>>,
    /// How many of them were flushed.
    flushed: usize,
    /// The operation, how many more of its kind succeed, and the failure.
    armed: Option<(Operation, u32, Failure)>,
    syncs: u64,
}

impl Disk {
    fn strike(&mut self, operation: Operation) -> Result<(), StoreError> {
        match self.armed {
            Some((armed, 0, failure)) if armed == operation => {
                self.armed = None;
                Err(failure.error())
            }
            Some((armed, left, failure)) if armed == operation => {
                self.armed = Some((armed, left - 1, failure));
                Ok(())
            }
            Some(_) | None => Ok(()),
        }
    }
}

/// Rows in memory. Shared by `Arc`; a crash keeps the value, as a disk outlives its process.
#[derive(Default)]
pub struct MemoryStore {
    disk: Mutex<Disk>,
}

impl MemoryStore {
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Forgets what `torn` does not keep. The store goes on as the disk that the next start finds.
    pub fn crash(&self, torn: Torn) {
        let mut disk = self.disk.lock();
        let kept = match torn {
            Torn::Process => disk.flushed,
            Torn::Power { batches } => batches,
        };
        let kept = kept.min(disk.undo.len());
        let lost = disk.undo.split_off(kept);
        for batch in lost.into_iter().rev() {
            for (key, before) in batch.into_iter().rev() {
                match before {
                    Some(value) => disk.rows.insert(key, value),
                    None => disk.rows.remove(&key),
                };
            }
        }
        disk.undo.clear();
        disk.flushed = 0;
        disk.armed = None;
    }

    /// After `successes` more operations of that sort, the next one fails, once. A failed apply changes nothing.
    pub fn fail(&self, operation: Operation, successes: u32, failure: Failure) {
        self.disk.lock().armed = Some((operation, successes, failure));
    }

    /// Flips one bit of a stored value; whether there was such a row with that many bits.
    pub fn flip_bit(&self, key: &[u8], bit: usize) -> bool {
        let mut disk = self.disk.lock();
        match disk.rows.get_mut(key).and_then(|value| value.get_mut(bit / 8)) {
            Some(byte) => {
                *byte ^= 1 << (bit % 8);
                true
            }
            None => false,
        }
    }

    /// Batches that a power cut would lose now.
    #[must_use]
    pub fn unsynced(&self) -> usize {
        self.disk.lock().undo.len()
    }

    /// How often `sync` has succeeded.
    #[must_use]
    pub fn syncs(&self) -> u64 {
        self.disk.lock().syncs
    }
}

fn is_empty(from: &Bound<&[u8]>, to: &Bound<&[u8]>) -> bool {
    match (from, to) {
        (Bound::Included(from), Bound::Included(to)) => from > to,
        (Bound::Included(from) | Bound::Excluded(from), Bound::Excluded(to))
        | (Bound::Excluded(from), Bound::Included(to)) => from >= to,
        (Bound::Unbounded, _) | (_, Bound::Unbounded) => false,
    }
}

impl Store for MemoryStore {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        let mut disk = self.disk.lock();
        disk.strike(Operation::Read)?;
        Ok(disk.rows.get(key).cloned())
    }

    fn scan(&self, from: Bound<&[u8]>, to: Bound<&[u8]>, limit: usize) -> Result<Vec<Row>, StoreError> {
        let mut disk = self.disk.lock();
        disk.strike(Operation::Read)?;
        if is_empty(&from, &to) {
            return Ok(Vec::new());
        }
        let range = disk.rows.range::<[u8], _>((from, to)).take(limit);
        Ok(range.map(|(key, value)| (key.clone(), value.clone())).collect())
    }

    fn last(&self, from: Bound<&[u8]>, to: Bound<&[u8]>) -> Result<Option<Row>, StoreError> {
        let mut disk = self.disk.lock();
        disk.strike(Operation::Read)?;
        if is_empty(&from, &to) {
            return Ok(None);
        }
        let last = disk.rows.range::<[u8], _>((from, to)).next_back();
        Ok(last.map(|(key, value)| (key.clone(), value.clone())))
    }

    fn apply(&self, batch: WriteBatch) -> Result<(), StoreError> {
        let mut disk = self.disk.lock();
        disk.strike(Operation::Apply)?;
        let mut undo = Vec::with_capacity(batch.operations.len());
        for (key, value) in batch.operations {
            let before = match value {
                Some(value) => disk.rows.insert(key.clone(), value),
                None => disk.rows.remove(&key),
            };
            undo.push((key, before));
        }
        disk.undo.push(undo);
        Ok(())
    }

    fn flush(&self) -> Result<(), StoreError> {
        let mut disk = self.disk.lock();
        disk.strike(Operation::Flush)?;
        disk.flushed = disk.undo.len();
        Ok(())
    }

    fn sync(&self) -> Result<(), StoreError> {
        let mut disk = self.disk.lock();
        disk.strike(Operation::Flush)?;
        disk.strike(Operation::Sync)?;
        disk.undo.clear();
        disk.flushed = 0;
        disk.syncs += 1;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(key: u8, value: u8) -> WriteBatch {
        WriteBatch { operations: vec![(vec![key], Some(vec![value]))] }
    }

    fn rows(store: &MemoryStore) -> Vec<(u8, u8)> {
        let rows = store.scan(Bound::Unbounded, Bound::Unbounded, 99).unwrap();
        rows.into_iter().map(|(key, value)| (key[0], value[0])).collect()
    }

    #[test]
    fn a_power_cut_keeps_a_prefix_and_restores_overwritten_rows() {
        let store = MemoryStore::new();
        store.apply(put(1, 1)).unwrap();
        store.sync().unwrap();
        store.apply(put(1, 2)).unwrap();
        store.apply(put(2, 2)).unwrap();
        store.apply(WriteBatch { operations: vec![(vec![1], None)] }).unwrap();
        store.flush().unwrap();
        store.crash(Torn::Power { batches: 2 });
        assert_eq!(rows(&store), vec![(1, 2), (2, 2)]);
        store.crash(Torn::Power { batches: 0 });
        assert_eq!(rows(&store), vec![(1, 2), (2, 2)], "what a start found on disk is there");
    }

    #[test]
    fn a_killed_process_keeps_what_was_flushed() {
        let store = MemoryStore::new();
        store.apply(put(1, 1)).unwrap();
        store.flush().unwrap();
        store.apply(put(1, 2)).unwrap();
        store.crash(Torn::Process);
        assert_eq!(rows(&store), vec![(1, 1)]);
    }

    #[test]
    fn an_armed_failure_strikes_once_and_changes_nothing() {
        let store = MemoryStore::new();
        store.fail(Operation::Apply, 1, Failure::Full);
        store.apply(put(1, 1)).unwrap();
        assert!(matches!(store.apply(put(2, 2)), Err(StoreError::Full)));
        assert_eq!(rows(&store), vec![(1, 1)]);
        store.fail(Operation::Sync, 0, Failure::Io);
        assert!(matches!(store.sync(), Err(StoreError::Io(_))));
        assert_eq!(store.unsynced(), 1);
        store.sync().unwrap();
    }
}

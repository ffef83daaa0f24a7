//! An ordered key-value store with atomic batches: sled in the binary, a tearing and forgetting disk in the simulator.

use std::ops::Bound;

/// A store that cannot go on. The process ends: nothing more may be acknowledged (ADR-1).
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error("disk: {0}")]
    Io(#[from] std::io::Error),
    #[error("disk full")]
    Full,
    #[error("damaged store: {what}")]
    Corrupt { what: String },
}

/// Writes that take effect together or not at all, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WriteBatch {
    /// `None` removes the key.
    pub operations: Vec<(Vec<u8>, Option<Vec<u8>>)>,
}

impl WriteBatch {
    pub fn put(&mut self, key: Vec<u8>, value: Vec<u8>) {
        self.operations.push((key, Some(value)));
    }
    pub fn remove(&mut self, key: Vec<u8>) {
        self.operations.push((key, None));
    }
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.operations.is_empty()
    }
    /// Approximate size on disk.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.operations.iter().map(|(key, value)| key.len() + value.as_ref().map_or(0, Vec::len) + 16).sum()
    }
}

/// Row of a scan.
pub type Row = (Vec<u8>, Vec<u8>);

/// The store. Reads see every applied batch; only `sync` makes them survive a power cut.
/// All calls block: own threads, never an async worker.
pub trait Store: Send + Sync {
    /// # Errors
    /// [`StoreError`]; the caller ends the process.
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError>;
    /// Rows of a key range in key order, at most `limit`.
    ///
    /// # Errors
    /// [`StoreError`]; the caller ends the process.
    fn scan(&self, from: Bound<&[u8]>, to: Bound<&[u8]>, limit: usize) -> Result<Vec<Row>, StoreError>;
    /// The last row of a key range.
    ///
    /// # Errors
    /// [`StoreError`]; the caller ends the process.
    fn last(&self, from: Bound<&[u8]>, to: Bound<&[u8]>) -> Result<Option<Row>, StoreError>;
    /// Applies a batch atomically; not durable yet.
    ///
    /// # Errors
    /// [`StoreError`]; the caller ends the process.
    fn apply(&self, batch: WriteBatch) -> Result<(), StoreError>;
    /// Hands buffered writes to the operating system: they survive the process, not a power cut.
    ///
    /// # Errors
    /// [`StoreError`]; the caller ends the process.
    fn flush(&self) -> Result<(), StoreError>;
    /// Flushes and makes all that was applied durable.
    ///
    /// # Errors
    /// [`StoreError`]; the caller ends the process.
    fn sync(&self) -> Result<(), StoreError>;
}

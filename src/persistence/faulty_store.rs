//! Only with the feature `faults`: a store whose disk is full, fails or is slow to order. Reads are not touched: what
//! matters is that nothing is acknowledged which was not written.

use crate::persistence::store::{Row, Store, StoreError, WriteBatch};
use crate::types::faults::DiskFault;
use std::io;
use std::ops::Bound;
use std::sync::Arc;
use std::time::Duration;

/// What is ordered of the disk now.
pub trait DiskFaults: Send + Sync {
    fn now(&self) -> Option<DiskFault>;
}

/// A store that is open, under whoever orders faults.
#[must_use]
pub fn over(below: Arc<dyn Store>, faults: Option<&Arc<dyn DiskFaults>>) -> Arc<dyn Store> {
    match faults {
        Some(faults) => Arc::new(FaultyStore { below, faults: faults.clone() }),
        None => below,
    }
}

/// sled cannot be opened while its disk is full.
///
/// # Errors
/// [`StoreError::Full`] then.
pub fn check_room(faults: Option<&Arc<dyn DiskFaults>>) -> Result<(), StoreError> {
    match faults.and_then(|faults| faults.now()) {
        Some(DiskFault::Full) => Err(StoreError::Full),
        Some(DiskFault::Failing | DiskFault::Slow { .. }) | None => Ok(()),
    }
}

/// See the file header.
struct FaultyStore {
    below: Arc<dyn Store>,
    faults: Arc<dyn DiskFaults>,
}

impl FaultyStore {
    fn check(&self) -> Result<(), StoreError> {
        match self.faults.now() {
            Some(DiskFault::Full) => Err(StoreError::Full),
            Some(DiskFault::Failing) => Err(StoreError::Io(io::Error::from_raw_os_error(libc::EIO))),
            Some(DiskFault::Slow { .. }) | None => Ok(()),
        }
    }
}

impl Store for FaultyStore {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        self.below.get(key)
    }
    fn scan(&self, from: Bound<&[u8]>, to: Bound<&[u8]>, limit: usize) -> Result<Vec<Row>, StoreError> {
        self.below.scan(from, to, limit)
    }
    fn last(&self, from: Bound<&[u8]>, to: Bound<&[u8]>) -> Result<Option<Row>, StoreError> {
        self.below.last(from, to)
    }
    fn apply(&self, batch: WriteBatch) -> Result<(), StoreError> {
        self.check()?;
        self.below.apply(batch)
    }
    fn flush(&self) -> Result<(), StoreError> {
        self.check()?;
        self.below.flush()
    }
    fn sync(&self) -> Result<(), StoreError> {
        self.check()?;
        if let Some(DiskFault::Slow { ms }) = self.faults.now() {
            std::thread::sleep(Duration::from_millis(u64::from(ms)));
        }
        self.below.sync()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::persistence::memory_store::MemoryStore;
    use parking_lot::Mutex;

    #[derive(Default)]
    struct Orders(Mutex<Option<DiskFault>>);

    impl DiskFaults for Orders {
        fn now(&self) -> Option<DiskFault> {
            *self.0.lock()
        }
    }

    fn batch() -> WriteBatch {
        WriteBatch { operations: vec![(vec![1], Some(vec![2]))] }
    }

    #[test]
    fn a_sick_disk_takes_nothing_and_still_reads() {
        let orders = Arc::new(Orders::default());
        let faults: Arc<dyn DiskFaults> = orders.clone();
        let store = over(Arc::new(MemoryStore::new()), Some(&faults));
        store.apply(batch()).unwrap();
        store.sync().unwrap();
        *orders.0.lock() = Some(DiskFault::Full);
        assert!(matches!(store.apply(batch()), Err(StoreError::Full)));
        assert!(matches!(store.sync(), Err(StoreError::Full)));
        assert!(matches!(check_room(Some(&faults)), Err(StoreError::Full)));
        *orders.0.lock() = Some(DiskFault::Failing);
        assert!(matches!(store.sync(), Err(StoreError::Io(_))));
        assert_eq!(store.get(&[1]).unwrap(), Some(vec![2]));
        *orders.0.lock() = Some(DiskFault::Slow { ms: 1 });
        store.apply(batch()).unwrap();
        store.sync().unwrap();
    }
}

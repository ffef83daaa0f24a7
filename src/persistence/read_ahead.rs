//! Reads the pages of a batch before sled applies it.
//!
//! sled applies a batch under a lock of the whole process: no database of it, the log's no more than the state's, is read or
//! written meanwhile. Pages that its cache does not hold are read from disk under that lock, one after the other. With a
//! state larger than its cache commits stood still for most of a second, every few seconds. Readers share the lock, so the
//! pages are looked at first, by several threads at once since they wait for the disk.

use crate::persistence::store::{StoreError, WriteBatch};
use std::thread;

/// Batches of fewer rows are applied at once.
const ROWS_MIN: usize = 16;
/// Reads that wait for the disk at the same time.
const THREADS: usize = 4;

/// Calls `look` with every key of a large batch, each once, from several threads; from fewer where the operating system
/// refuses one, whose keys are left out then.
///
/// # Errors
/// One that `look` returns. All threads have ended.
pub fn read_ahead(batch: &WriteBatch, look: impl Fn(&[u8]) -> Result<(), StoreError> + Sync) -> Result<(), StoreError> {
    let rows = &batch.operations;
    if rows.len() < ROWS_MIN {
        return Ok(());
    }
    // Neighbours share pages, so each thread takes a stretch.
    let stretches = rows.chunks(rows.len().div_ceil(THREADS));
    let look_at = |stretch: &[(Vec<u8>, Option<Vec<u8>>)]| stretch.iter().try_for_each(|(key, _)| look(key));
    thread::scope(|scope| {
        let reader = || thread::Builder::new().name("read-ahead".to_owned());
        let readers = stretches.filter_map(|stretch| reader().spawn_scoped(scope, move || look_at(stretch)).ok());
        let readers: Vec<_> = readers.collect();
        readers.into_iter().try_for_each(|reader| match reader.join() {
            Ok(looked) => looked,
            Err(panic) => std::panic::resume_unwind(panic),
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use parking_lot::Mutex;

    fn batch(rows: u8) -> WriteBatch {
        WriteBatch { operations: (0..rows).map(|row| (vec![row], (row % 3 > 0).then(|| vec![row]))).collect() }
    }

    #[test]
    fn every_row_of_a_large_batch_is_looked_at_once_and_none_of_a_small_one() {
        for (rows, looked) in [(0, 0), (15, 0), (16, 16), (17, 17), (250, 250)] {
            let seen = Mutex::new(Vec::new());
            read_ahead(&batch(rows), |key| {
                seen.lock().push(key[0]);
                Ok(())
            })
            .unwrap();
            let mut seen = seen.into_inner();
            seen.sort_unstable();
            assert_eq!(seen, (0..looked).collect::<Vec<u8>>());
        }
    }

    #[test]
    fn what_cannot_be_read_is_told() {
        let look = |key: &[u8]| if key == [77] { Err(StoreError::Full) } else { Ok(()) };
        assert!(matches!(read_ahead(&batch(200), look), Err(StoreError::Full)));
        assert!(read_ahead(&batch(77), look).is_ok());
    }
}

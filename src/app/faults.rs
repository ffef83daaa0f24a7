//! Only with the feature `faults`: what a chaos run has ordered of this node's disk and clock, read from a mapped file.
//! There is no other way to order them, so nobody can from another machine.

use crate::persistence::faulty_store::DiskFaults;
use crate::types::faults::{CLOCK_AT, DISK_AT, DiskFault, FILE_BYTES};
use memmap2::MmapRaw;
use std::fs::OpenOptions;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// The file, as it is now at every look.
pub struct OrderedFaults {
    map: MmapRaw,
}

impl OrderedFaults {
    /// Maps the file, made when it is missing: nothing is ordered then.
    ///
    /// # Errors
    /// The file cannot be made, sized or mapped.
    pub fn open(path: &Path) -> std::io::Result<Arc<Self>> {
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?;
        if file.metadata()?.len() < FILE_BYTES {
            file.set_len(FILE_BYTES)?;
        }
        Ok(Arc::new(Self { map: MmapRaw::map_raw(&file)? }))
    }

    fn word(&self, at: u64) -> u64 {
        assert!(at.is_multiple_of(8) && at + 8 <= FILE_BYTES, "a word of the file");
        let offset = usize::try_from(at).expect("within the file");
        // SAFETY: within the mapping, which is page-aligned and lives as long as `self`, at a multiple of eight; this
        // process only reads it, through an atomic, and others write whole words.
        let word = unsafe { &*self.map.as_ptr().add(offset).cast::<AtomicU64>() };
        u64::from_le(word.load(Ordering::Acquire))
    }

    /// How far the clock is off, in milliseconds.
    #[must_use]
    pub fn clock_off_ms(&self) -> i64 {
        self.word(CLOCK_AT).cast_signed()
    }
}

impl DiskFaults for OrderedFaults {
    fn now(&self) -> Option<DiskFault> {
        DiskFault::decode(self.word(DISK_AT))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::FileExt;

    #[test]
    fn what_another_process_writes_is_seen_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("faults-1");
        let ordered = OrderedFaults::open(&path).unwrap();
        assert_eq!((ordered.clock_off_ms(), ordered.now()), (0, None));
        let file = OpenOptions::new().write(true).open(&path).unwrap();
        file.write_all_at(&(-5_000_i64).to_le_bytes(), CLOCK_AT).unwrap();
        file.write_all_at(&DiskFault::encode(Some(DiskFault::Full)).to_le_bytes(), DISK_AT).unwrap();
        assert_eq!((ordered.clock_off_ms(), ordered.now()), (-5_000, Some(DiskFault::Full)));
        drop(ordered);
        assert_eq!(OrderedFaults::open(&path).unwrap().now(), Some(DiskFault::Full), "a full disk stays full");
    }
}

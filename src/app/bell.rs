//! A counter in a file that several processes map, and that each of them can wait at: rung by one, heard by all, and nothing
//! to do in between (futex(2), shared between processes).

use memmap2::MmapRaw;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

/// See the file header.
#[derive(Clone)]
pub(super) struct Bell {
    mapped: Arc<MmapRaw>,
    offset_bytes: usize,
}

impl Bell {
    /// The counter at `offset_bytes` of the mapping.
    ///
    /// # Panics
    /// It is not aligned to four bytes, or ends beyond the mapping.
    pub(super) fn at(mapped: Arc<MmapRaw>, offset_bytes: usize) -> Self {
        assert!(offset_bytes.is_multiple_of(4) && offset_bytes + 4 <= mapped.len(), "a counter inside the mapping");
        Self { mapped, offset_bytes }
    }

    fn counter(&self) -> &AtomicU32 {
        // SAFETY: aligned and inside the mapping (`at`), which is page-aligned and lives as long as `self`; every process
        // that maps the file touches these bytes only through an atomic.
        unsafe { &*self.mapped.as_ptr().add(self.offset_bytes).cast::<AtomicU32>() }
    }

    /// How often it was rung, modulo 2^32.
    pub(super) fn rung(&self) -> u32 {
        self.counter().load(Ordering::Acquire)
    }

    /// Wakes all who wait.
    pub(super) fn ring(&self) {
        self.counter().fetch_add(1, Ordering::AcqRel);
        // SAFETY: FUTEX_WAKE reads nothing but the address, which is that of a live atomic.
        unsafe { libc::syscall(libc::SYS_futex, self.counter().as_ptr(), libc::FUTEX_WAKE, i32::MAX) };
    }

    /// Blocks the thread until it was rung since `heard`, or for `at_most`. May return for nothing.
    pub(super) fn wait(&self, heard: u32, at_most: Duration) {
        let patience = libc::timespec {
            tv_sec: libc::time_t::try_from(at_most.as_secs()).unwrap_or(libc::time_t::MAX),
            tv_nsec: libc::c_long::from(at_most.subsec_nanos()),
        };
        // SAFETY: the address is that of a live atomic, and the timespec outlives the call.
        unsafe {
            libc::syscall(libc::SYS_futex, self.counter().as_ptr(), libc::FUTEX_WAIT, heard, &raw const patience)
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bell(file: &std::fs::File) -> Bell {
        Bell::at(Arc::new(MmapRaw::map_raw(file).unwrap()), 8)
    }

    #[test]
    fn a_ring_is_heard_through_another_mapping_of_the_file() {
        let file = tempfile::tempfile().unwrap();
        file.set_len(16).unwrap();
        let (rings, waits) = (bell(&file), bell(&file));
        let heard = waits.rung();
        let waiting = std::thread::spawn(move || {
            while waits.rung() == heard {
                waits.wait(heard, Duration::from_secs(3_600));
            }
        });
        rings.ring();
        waiting.join().unwrap();
    }

    #[test]
    fn a_ring_before_the_wait_is_not_missed() {
        let file = tempfile::tempfile().unwrap();
        file.set_len(16).unwrap();
        let bell = bell(&file);
        let heard = bell.rung();
        bell.ring();
        bell.wait(heard, Duration::from_secs(3_600));
        assert_eq!(bell.rung(), heard + 1);
    }
}

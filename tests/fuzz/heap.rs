//! What a decoder holds at most while it works: an allocator that counts the bytes of each thread.
#![allow(dead_code, reason = "each test binary uses its own part")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

/// Bytes that a decoder may hold whatever it is given: one string of the codec's limit (4 MiB), and serde's cautious
/// megabyte for each of two nested lists.
pub const FLOOR_BYTES: usize = 6 << 20;
/// Bytes that it may hold for each byte of input: a row of two empty values is two bytes on the wire and fifty in
/// memory, and a list that grows holds its old and its new room.
pub const BYTES_PER_BYTE: usize = 128;

thread_local! {
    static LIVE: Cell<isize> = const { Cell::new(0) };
    static PEAK: Cell<isize> = const { Cell::new(0) };
}

struct Counting;

fn count(bytes: isize) {
    // Gone only while a thread ends, when nothing is measured.
    let _gone = LIVE.try_with(|live| {
        let now = live.get() + bytes;
        live.set(now);
        let _gone = PEAK.try_with(|peak| peak.set(peak.get().max(now)));
    });
}

// SAFETY: every call is the system allocator's with the caller's own arguments; counting allocates nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as isize);
        unsafe { System.alloc(layout) }
    }
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as isize);
        unsafe { System.alloc_zeroed(layout) }
    }
    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        count(-(layout.size() as isize));
        unsafe { System.dealloc(pointer, layout) }
    }
    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // Old and new may both be there for a moment.
        count(size as isize);
        count(-(layout.size() as isize));
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static HEAP: Counting = Counting;

/// What the work gives, and the most that this thread held for it at one time, in bytes.
pub fn peak_of<T>(work: impl FnOnce() -> T) -> (T, usize) {
    LIVE.set(0);
    PEAK.set(0);
    let done = work();
    (done, usize::try_from(PEAK.get()).unwrap_or(0))
}

/// What decoding gives; panics when it held more than its input justifies.
pub fn modest<T>(input: &[u8], decode: impl FnOnce() -> T) -> T {
    let (decoded, peak) = peak_of(decode);
    let allowed = FLOOR_BYTES + BYTES_PER_BYTE * input.len();
    assert!(peak <= allowed, "{peak} bytes were held to decode {}; {allowed} are allowed", input.len());
    decoded
}

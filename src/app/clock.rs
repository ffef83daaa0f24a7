//! The real clocks, and the dev clock. The one place that reads them (clippy.toml).

use super::bell::Bell;
use crate::actors::settle::MovableClock;
use crate::types::time::{BootId, BootMillis, Clock, Timestamp};
use memmap2::MmapRaw;
use std::fs::OpenOptions;
use std::path::Path;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::Duration;
use tokio::sync::watch;

#[allow(clippy::disallowed_methods, reason = "this is where the wall clock comes in")]
fn wall_millis() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

fn read(clock: libc::clockid_t) -> libc::timespec {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is a valid, writable timespec for the duration of the call.
    let result = unsafe { libc::clock_gettime(clock, &raw mut time) };
    assert_eq!(result, 0, "these clocks exist on every supported kernel");
    time
}

/// CLOCK_BOOTTIME in milliseconds.
fn boot_millis() -> BootMillis {
    let time = read(libc::CLOCK_BOOTTIME);
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    let nanos = u64::try_from(time.tv_nsec).unwrap_or(0);
    BootMillis(seconds * 1_000 + nanos / 1_000_000)
}

/// What Linux calls this start of the machine. Where it does not say, a name of this process's own: its boot clock is the
/// same one for as long as it lives.
static BOOT: LazyLock<BootId> = LazyLock::new(|| {
    let said = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    let mut id = BootId::UNKNOWN;
    match hex::decode_to_slice(said.trim().replace('-', ""), &mut id.0) {
        Ok(()) => id,
        Err(_) => {
            getrandom::fill(&mut id.0).expect("the operating system's random source answers");
            id
        }
    }
});

/// Seconds that the calling thread has spent on a core.
#[must_use]
pub fn thread_core_seconds() -> f64 {
    let time = read(libc::CLOCK_THREAD_CPUTIME_ID);
    let seconds = u32::try_from(time.tv_sec).unwrap_or(u32::MAX);
    let nanos = u32::try_from(time.tv_nsec).unwrap_or(0);
    f64::from(seconds) + f64::from(nanos) / 1e9
}

/// Never lets the wall clock go back within the process.
#[derive(Default)]
struct Monotone(AtomicI64);

impl Monotone {
    fn raise(&self, to: i64) -> Timestamp {
        Timestamp(self.0.fetch_max(to, Ordering::AcqRel).max(to))
    }
}

/// Production: the system's clocks.
pub struct SystemClock {
    last: Monotone,
    moved: watch::Sender<u64>,
}

impl SystemClock {
    #[must_use]
    pub fn new() -> Arc<Self> {
        Arc::new(Self { last: Monotone::default(), moved: watch::channel(0).0 })
    }
}

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        self.last.raise(wall_millis())
    }
    fn boot(&self) -> BootMillis {
        boot_millis()
    }
    fn boot_id(&self) -> BootId {
        *BOOT
    }
    fn moved(&self) -> watch::Receiver<u64> {
        self.moved.subscribe()
    }
}

/// Dev mode: the wall clock plus one offset in a mapped file, which all nodes of the dev folder and the sandbox read at
/// every `now()`. It moves for all at once and survives a kill.
pub struct DevClock {
    offset: Arc<MmapRaw>,
    /// Rung after each move, by whichever process made it.
    bell: Bell,
    /// For tests: how far this process's clock is off the others', in milliseconds.
    skew_ms: i64,
    /// How far it is off besides, as a chaos run orders.
    #[cfg(feature = "faults")]
    ordered: std::sync::OnceLock<Arc<crate::app::faults::OrderedFaults>>,
    last: Monotone,
    moved: watch::Sender<u64>,
}

/// Of the mapped file: the offset, the count of the moves, room.
const FILE_BYTES: u64 = 16;
const BELL_AT: usize = 8;
/// How often the thread that waits for moves sees whether it is still wanted.
const WANTED_EVERY: Duration = Duration::from_secs(1);

impl DevClock {
    /// Maps the offset file, made when it is missing.
    ///
    /// # Errors
    /// The file cannot be made, sized or mapped.
    pub fn open(path: &Path) -> std::io::Result<Arc<Self>> {
        Self::open_skewed(path, 0)
    }

    /// As [`Self::open`], for a process whose clock is off by so many milliseconds.
    ///
    /// # Errors
    /// As there.
    pub fn open_skewed(path: &Path, skew_ms: i64) -> std::io::Result<Arc<Self>> {
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?;
        if file.metadata()?.len() < FILE_BYTES {
            file.set_len(FILE_BYTES)?;
        }
        let offset = Arc::new(MmapRaw::map_raw(&file)?);
        Ok(Arc::new(Self {
            bell: Bell::at(Arc::clone(&offset), BELL_AT),
            offset,
            skew_ms,
            #[cfg(feature = "faults")]
            ordered: std::sync::OnceLock::new(),
            last: Monotone::default(),
            moved: watch::channel(0).0,
        }))
    }

    /// From here on the clock is off as the file says. The first call counts.
    #[cfg(feature = "faults")]
    pub fn obey(&self, ordered: Arc<crate::app::faults::OrderedFaults>) {
        let _first = self.ordered.set(ordered);
    }

    /// How far this process's clock is off the others'.
    fn off_ms(&self) -> i64 {
        #[cfg(feature = "faults")]
        let ordered_ms = self.ordered.get().map_or(0, |ordered| ordered.clock_off_ms());
        #[cfg(not(feature = "faults"))]
        let ordered_ms = 0;
        self.skew_ms + ordered_ms
    }

    fn cell(&self) -> &AtomicI64 {
        // SAFETY: the mapping is page-aligned, at least eight bytes long and lives as long as `self`; every process
        // that maps the file touches these bytes only through an atomic.
        unsafe { &*self.offset.as_ptr().cast::<AtomicI64>() }
    }

    /// Tells this process of moves by others, until the clock is dropped.
    ///
    /// # Errors
    /// The thread that waits for them cannot be started.
    pub fn watch(self: &Arc<Self>) -> std::io::Result<()> {
        let (weak, bell) = (Arc::downgrade(self), self.bell.clone());
        let mut heard = bell.rung();
        let wait = move || {
            loop {
                bell.wait(heard, WANTED_EVERY);
                let Some(clock) = weak.upgrade() else { return };
                let rung = bell.rung();
                if rung != heard {
                    heard = rung;
                    clock.moved.send_modify(|count| *count += 1);
                }
            }
        };
        std::thread::Builder::new().name("dev-clock".to_owned()).spawn(wait).map(drop)
    }
}

impl Clock for DevClock {
    fn now(&self) -> Timestamp {
        self.last.raise(wall_millis() + self.off_ms() + self.cell().load(Ordering::Acquire))
    }
    fn boot(&self) -> BootMillis {
        boot_millis()
    }
    fn boot_id(&self) -> BootId {
        *BOOT
    }
    fn steady(&self) -> Timestamp {
        let moved = self.cell().load(Ordering::Acquire);
        Timestamp(i64::try_from(boot_millis().0).unwrap_or(i64::MAX).saturating_add(moved))
    }
    fn moved(&self) -> watch::Receiver<u64> {
        self.moved.subscribe()
    }
}

impl MovableClock for DevClock {
    fn move_to(&self, instant: Timestamp) {
        self.cell().fetch_max(instant.0 - self.off_ms() - wall_millis(), Ordering::AcqRel);
        self.moved.send_modify(|count| *count += 1);
        self.bell.ring();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::time::Millis;

    #[test]
    fn this_start_of_the_machine_has_a_name() {
        assert_ne!(SystemClock::new().boot_id(), BootId::UNKNOWN);
    }

    #[test]
    fn a_moved_dev_clock_moves_for_every_process_and_survives() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("clock");
        let one = DevClock::open(&path).unwrap();
        let two = DevClock::open(&path).unwrap();
        let before = one.now();
        one.move_to(before + Millis::from_hours(1));
        assert!(two.now() >= before + Millis::from_hours(1));
        drop((one, two));
        assert!(DevClock::open(&path).unwrap().now() >= before + Millis::from_hours(1));
    }

    #[test]
    fn a_move_by_another_process_is_heard() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("clock");
        let (moves, hears) = (DevClock::open(&path).unwrap(), DevClock::open(&path).unwrap());
        let mut moved = hears.moved();
        hears.watch().unwrap();
        moves.move_to(moves.now() + Millis::from_hours(1));
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(moved.changed()).unwrap();
    }

    #[test]
    fn a_skewed_clock_is_off_by_so_much_and_moves_with_the_others() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("clock");
        let (right, ahead) = (DevClock::open(&path).unwrap(), DevClock::open_skewed(&path, 7_000).unwrap());
        assert!(ahead.now() - right.now() > Millis(6_000));
        let later = ahead.now() + Millis::from_hours(1);
        ahead.move_to(later);
        assert!(ahead.now() >= later && later - right.now() <= Millis(7_000));
    }

    #[test]
    fn the_steady_clock_is_moved_by_hand_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("clock");
        let (right, ahead) = (DevClock::open(&path).unwrap(), DevClock::open_skewed(&path, 7_000).unwrap());
        assert!(ahead.steady() - right.steady() < Millis(6_000), "a wall clock that is off does not show in it");
        let before = right.steady();
        ahead.move_to(ahead.now() + Millis::from_hours(1));
        assert!(right.steady() - before >= Millis::from_hours(1));
    }

    #[test]
    fn the_clock_never_goes_back() {
        let folder = tempfile::tempdir().unwrap();
        let clock = DevClock::open(&folder.path().join("clock")).unwrap();
        let ahead = clock.now() + Millis::from_hours(2);
        clock.move_to(ahead);
        clock.move_to(ahead - Millis::from_hours(1));
        assert!(clock.now() >= ahead);
    }
}

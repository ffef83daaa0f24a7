//! `Store` over sled 0.34.7, with what sled leaves out (ADR-1).
//!
//! - `flush` of sled never calls fsync on Linux: `sync` adds `sync_data` on its file, and on its blob files.
//! - Writes that pile up unflushed can deadlock its pool: one writer at a time, a flush every 256 KiB.
//! - A flush that hangs cannot be taken back: a watchdog ends the process after 10 s.
//! - A batch is applied under a lock of the whole process: the pages of one that may not be cached are read ahead.
//! - Damage panics inside sled: every call is guarded, and the panic becomes [`StoreError::Corrupt`].
//! - A damaged snapshot file is only an index: it is moved aside and the log is read instead, once.

use crate::persistence::store::{Row, Store, StoreError, WriteBatch};
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};
use parking_lot::Mutex;
use std::collections::HashSet;
use std::ffi::OsString;
use std::fs::{self, File};
use std::ops::Bound;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

/// Written but not flushed bytes at which a write flushes.
const FLUSH_BYTES: usize = 256 << 10;
/// Batches of fewer rows are applied as they are.
const READ_AHEAD_ROWS_MIN: usize = 16;
/// Ticks of one second that one write or flush may take.
const WATCHDOG_TICKS: u32 = 10;
/// sled's background flush; its garbage collection runs only there.
const BACKGROUND_FLUSH_MS: u64 = 500;
/// The tree of a database that holds everything but wrapped keys.
const ROWS: &str = "rows";

/// One tree of a sled database. Clones of the database's other trees come from [`SledStore::sibling`].
pub struct SledStore {
    tree: sled::Tree,
    database: Arc<Database>,
    reads_ahead: bool,
}

/// What the trees of one database share.
struct Database {
    db: sled::Db,
    dir: PathBuf,
    /// A handle of our own on sled's file, to make it durable.
    file: File,
    /// The size that sled's page cache is held to.
    cache_bytes: u64,
    /// The database is larger than its cache, as of the last flush.
    outgrown: AtomicBool,
    /// Serializes writers and counts unflushed bytes.
    unflushed: Mutex<usize>,
    /// Blob files that were made durable before; they are never rewritten.
    durable_blobs: Mutex<HashSet<OsString>>,
    watch: Arc<Watch>,
    /// Dropped with the database, which ends the watchdog.
    _stop: Sender<()>,
}

/// Numbers the guarded operations: `started > finished` while one is under way.
#[derive(Default)]
struct Watch {
    started: AtomicU64,
    finished: AtomicU64,
}

impl SledStore {
    /// Opens or creates the database in `dir`, with sled's page cache bounded by `cache_bytes`.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] when sled cannot make sense of its files even without its snapshot file,
    /// [`StoreError::Full`] when there is no space to recover into, [`StoreError::Io`] else.
    pub fn open(dir: &Path, cache_bytes: u64) -> Result<Self, StoreError> {
        Self::open_watched(dir, cache_bytes, abort_stuck)
    }

    /// As [`SledStore::open`]; `stuck` is called by the watchdog instead of ending the process.
    ///
    /// # Errors
    /// As [`SledStore::open`].
    pub fn open_watched(dir: &Path, cache_bytes: u64, stuck: fn(&Path)) -> Result<Self, StoreError> {
        let created = !dir.exists();
        fs::create_dir_all(dir)?;
        remove_half_snapshots(dir)?;
        let db = match open_guarded(dir, cache_bytes) {
            Err(StoreError::Corrupt { what }) if move_snapshots_aside(dir)? => {
                tracing::warn!(dir = %dir.display(), %what, "sled snapshot file is damaged: reading the log instead");
                open_guarded(dir, cache_bytes)?
            }
            other => other?,
        };
        let tree = guard(|| db.open_tree(ROWS))?;
        let file = File::open(dir.join("db"))?;
        if created {
            file.sync_all()?;
            sync_dir(dir)?;
            sync_dir(dir.parent().unwrap_or(Path::new(".")))?;
        }
        let watch = Arc::new(Watch::default());
        let stop = start_watchdog(dir.to_owned(), watch.clone(), stuck)?;
        let database = Database {
            db,
            dir: dir.to_owned(),
            file,
            cache_bytes,
            outgrown: AtomicBool::new(false),
            unflushed: Mutex::new(0),
            durable_blobs: Mutex::default(),
            watch,
            _stop: stop,
        };
        database.measure()?;
        Ok(Self { tree, database: Arc::new(database), reads_ahead: false })
    }

    /// The same, for batches that touch rows all over a file larger than the cache: the pages of one that may not be cached are
    /// read while others may use their databases too. What sled does not have when it applies a batch it reads under a lock of
    /// the whole process.
    #[must_use]
    pub fn reading_ahead(self) -> Self {
        Self { reads_ahead: true, ..self }
    }

    /// Another tree of the same database.
    ///
    /// # Errors
    /// [`StoreError`] when sled cannot open it.
    pub fn sibling(&self, name: &str) -> Result<Self, StoreError> {
        let tree = guard(|| self.database.db.open_tree(name))?;
        Ok(Self { tree, database: self.database.clone(), reads_ahead: false })
    }

    fn is_to_read_ahead(&self, batch: &WriteBatch) -> bool {
        let large = batch.operations.len() >= READ_AHEAD_ROWS_MIN;
        large && self.reads_ahead && self.database.outgrown.load(Ordering::Relaxed)
    }

    /// Bytes of the database's files.
    ///
    /// # Errors
    /// [`StoreError::Io`] when they cannot be listed.
    pub fn disk_bytes(&self) -> Result<u64, StoreError> {
        guard(|| self.database.db.size_on_disk())
    }
}

impl Database {
    /// Runs a write, or what a write waits for, under the watchdog; `unflushed` is held, so there is one at a time.
    fn watched<T>(&self, call: impl FnOnce() -> sled::Result<T>) -> Result<T, StoreError> {
        self.watch.started.fetch_add(1, Ordering::SeqCst);
        let result = guard(call);
        self.watch.finished.fetch_add(1, Ordering::SeqCst);
        result
    }

    fn flush_locked(&self, unflushed: &mut usize) -> Result<(), StoreError> {
        self.watched(|| self.db.flush())?;
        *unflushed = 0;
        self.measure()
    }

    fn measure(&self) -> Result<(), StoreError> {
        let outgrown = self.file.metadata()?.len() > self.cache_bytes;
        self.outgrown.store(outgrown, Ordering::Relaxed);
        Ok(())
    }

    fn sync_locked(&self, unflushed: &mut usize) -> Result<(), StoreError> {
        self.flush_locked(unflushed)?;
        self.sync_blobs()?;
        self.file.sync_data()?;
        Ok(())
    }

    /// Pages above 128 KiB are files of their own.
    fn sync_blobs(&self) -> Result<(), StoreError> {
        let blobs = self.dir.join("blobs");
        let mut durable = self.durable_blobs.lock();
        let mut present = HashSet::new();
        let mut fresh = false;
        for entry in fs::read_dir(&blobs).into_iter().flatten() {
            let entry = entry?;
            if !durable.contains(&entry.file_name()) {
                match File::open(entry.path()) {
                    Ok(file) => file.sync_all()?,
                    // sled drops blobs of rewritten pages at any time.
                    Err(gone) if gone.kind() == std::io::ErrorKind::NotFound => continue,
                    Err(error) => return Err(error.into()),
                }
                fresh = true;
            }
            present.insert(entry.file_name());
        }
        *durable = present;
        if fresh { sync_dir(&blobs) } else { Ok(()) }
    }
}

impl Store for SledStore {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        Ok(guard(|| self.tree.get(key))?.map(|value| value.to_vec()))
    }

    fn scan(&self, from: Bound<&[u8]>, to: Bound<&[u8]>, limit: usize) -> Result<Vec<Row>, StoreError> {
        let rows = || -> sled::Result<Vec<Row>> {
            let range = self.tree.range::<&[u8], _>((from, to)).take(limit);
            range.map(|row| row.map(|(key, value)| (key.to_vec(), value.to_vec()))).collect()
        };
        guard(rows)
    }

    fn last(&self, from: Bound<&[u8]>, to: Bound<&[u8]>) -> Result<Option<Row>, StoreError> {
        let row = guard(|| self.tree.range::<&[u8], _>((from, to)).next_back().transpose())?;
        Ok(row.map(|(key, value)| (key.to_vec(), value.to_vec())))
    }

    fn apply(&self, batch: WriteBatch) -> Result<(), StoreError> {
        let mut unflushed = self.database.unflushed.lock();
        if self.is_to_read_ahead(&batch) {
            for (key, _) in &batch.operations {
                self.database.watched(|| self.tree.get(key))?;
            }
        }
        let bytes = batch.bytes();
        let mut sled_batch = sled::Batch::default();
        for (key, value) in batch.operations {
            match value {
                Some(value) => sled_batch.insert(key, value),
                None => sled_batch.remove(key),
            }
        }
        self.database.watched(|| self.tree.apply_batch(sled_batch))?;
        *unflushed += bytes;
        if *unflushed >= FLUSH_BYTES { self.database.flush_locked(&mut unflushed) } else { Ok(()) }
    }

    fn flush(&self) -> Result<(), StoreError> {
        self.database.flush_locked(&mut self.database.unflushed.lock())
    }

    fn sync(&self) -> Result<(), StoreError> {
        self.database.sync_locked(&mut self.database.unflushed.lock())
    }
}

const LOCK_TRIES: u32 = 50;
const LOCK_PAUSE: std::time::Duration = std::time::Duration::from_millis(20);

/// Calls sled, and turns its panics over damaged files into an error.
fn guard<T>(call: impl FnOnce() -> sled::Result<T>) -> Result<T, StoreError> {
    match catch_unwind(AssertUnwindSafe(call)) {
        Ok(result) => result.map_err(store_error),
        Err(panic) => {
            let what = panic.downcast_ref::<String>().cloned();
            let what = what.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
            Err(StoreError::Corrupt { what: format!("sled panicked: {}", what.unwrap_or_default()) })
        }
    }
}

fn store_error(error: sled::Error) -> StoreError {
    match error {
        sled::Error::Io(error) => io_error(error),
        sled::Error::Corruption { at, .. } => StoreError::Corrupt { what: format!("sled corruption at {at:?}") },
        sled::Error::ReportableBug(what) | sled::Error::Unsupported(what) => StoreError::Corrupt { what },
        sled::Error::CollectionNotFound(_) => StoreError::Corrupt { what: "sled tree is missing".to_owned() },
    }
}

/// Tells a full disk from a broken one.
pub(crate) fn io_error(error: std::io::Error) -> StoreError {
    match error.kind() {
        std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => StoreError::Full,
        _ => StoreError::Io(error),
    }
}

/// sled's lock is inside the folder's own: whoever holds it is a reader of the node that was just stopped here, on its
/// last step, and is waited for.
fn open_guarded(dir: &Path, cache_bytes: u64) -> Result<sled::Db, StoreError> {
    let config = sled::Config::new().path(dir).cache_capacity(cache_bytes).flush_every_ms(Some(BACKGROUND_FLUSH_MS));
    for _ in 0..LOCK_TRIES {
        match guard(|| config.open()) {
            Err(StoreError::Io(error)) if error.to_string().contains("could not acquire lock") => {
                std::thread::sleep(LOCK_PAUSE);
            }
            other => return other,
        }
    }
    guard(|| config.open())
}

fn snapshot_files(dir: &Path, half_written: bool) -> Result<Vec<PathBuf>, StoreError> {
    let mut files = Vec::new();
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if name.starts_with("snap.") && name.ends_with(".generating") == half_written {
            files.push(path);
        }
    }
    Ok(files)
}

fn remove_half_snapshots(dir: &Path) -> Result<(), StoreError> {
    for file in snapshot_files(dir, true)? {
        fs::remove_file(file)?;
    }
    Ok(())
}

/// Whether there was a snapshot file to be moved.
fn move_snapshots_aside(dir: &Path) -> Result<bool, StoreError> {
    let files = snapshot_files(dir, false)?;
    let aside = dir.join("damaged");
    for file in &files {
        fs::create_dir_all(&aside)?;
        fs::rename(file, aside.join(file.file_name().unwrap_or_default()))?;
    }
    sync_dir(dir)?;
    Ok(!files.is_empty())
}

/// Makes the names in a directory durable.
pub(crate) fn sync_dir(dir: &Path) -> Result<(), StoreError> {
    let dir = if dir.as_os_str().is_empty() { Path::new(".") } else { dir };
    Ok(File::open(dir)?.sync_all()?)
}

fn start_watchdog(dir: PathBuf, watch: Arc<Watch>, stuck: fn(&Path)) -> Result<Sender<()>, StoreError> {
    let (stop, stopped) = bounded(0);
    let watchdog = std::thread::Builder::new().name("sled-watchdog".to_owned());
    watchdog.spawn(move || watch_writes(&dir, &watch, &stopped, stuck))?;
    Ok(stop)
}

/// Counts seconds by its own waits, so that a paused machine does not count against the disk.
fn watch_writes(dir: &Path, watch: &Watch, stopped: &Receiver<()>, stuck: fn(&Path)) {
    let mut seen = 0;
    let mut ticks = 0;
    while stopped.recv_timeout(Duration::from_secs(1)) == Err(RecvTimeoutError::Timeout) {
        let started = watch.started.load(Ordering::SeqCst);
        let running = started != watch.finished.load(Ordering::SeqCst);
        ticks = if running && started == seen { ticks + 1 } else { 0 };
        seen = started;
        if ticks >= WATCHDOG_TICKS {
            stuck(dir);
            ticks = 0;
        }
    }
}

fn abort_stuck(dir: &Path) {
    tracing::error!(dir = %dir.display(), "a write has not come back for 10 s: ending the process");
    std::process::abort();
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(key: &[u8], value: &[u8]) -> WriteBatch {
        WriteBatch { operations: vec![(key.to_vec(), Some(value.to_vec()))] }
    }

    #[test]
    fn rows_are_read_back_in_order_and_after_reopening() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("db");
        {
            let store = SledStore::open(&path, 1 << 20).unwrap();
            for key in [b"b", b"a", b"c"] {
                store.apply(put(key, b"1")).unwrap();
            }
            store.apply(WriteBatch { operations: vec![(b"b".to_vec(), None)] }).unwrap();
            store.sync().unwrap();
        }
        let store = SledStore::open(&path, 1 << 20).unwrap();
        let rows = store.scan(Bound::Included(b"a"), Bound::Unbounded, 10).unwrap();
        assert_eq!(rows, vec![(b"a".to_vec(), b"1".to_vec()), (b"c".to_vec(), b"1".to_vec())]);
        assert_eq!(store.last(Bound::Unbounded, Bound::Excluded(b"c")).unwrap().unwrap().0, b"a");
        assert_eq!(store.get(b"b").unwrap(), None);
    }

    #[test]
    fn large_batches_read_their_pages_ahead_once_the_file_outgrows_the_cache() {
        let dir = tempfile::tempdir().unwrap();
        let open = || SledStore::open(&dir.path().join("db"), 1 << 10).unwrap().reading_ahead();
        let store = open();
        let rows = |filler: u8, len: u32| WriteBatch {
            operations: (0..len).map(|n| (n.to_be_bytes().to_vec(), Some(vec![filler; 300]))).collect(),
        };
        assert!(!store.is_to_read_ahead(&rows(1, 400)), "nothing is there yet");
        store.apply(rows(1, 400)).unwrap();
        store.sync().unwrap();
        assert!(store.is_to_read_ahead(&rows(2, 16)));
        assert!(!store.is_to_read_ahead(&rows(2, 15)), "too few to gain by it");
        assert!(!store.sibling("keys").unwrap().is_to_read_ahead(&rows(2, 16)), "only what was asked to");
        let mut batch = rows(2, 300);
        batch.operations.extend((300..350u32).map(|n| (n.to_be_bytes().to_vec(), None)));
        store.apply(batch).unwrap();
        store.sync().unwrap();
        let before = store.database.watch.started.load(Ordering::SeqCst);
        store.apply(rows(3, 16)).unwrap();
        let watched = store.database.watch.started.load(Ordering::SeqCst) - before;
        assert_eq!(watched, 17, "each read is watched: a disk that hangs there hangs the writer");
        drop(store);
        let fillers: Vec<u8> =
            open().scan(Bound::Unbounded, Bound::Unbounded, 1_000).unwrap().iter().map(|(_, value)| value[0]).collect();
        assert_eq!(fillers, [vec![3; 16], vec![2; 284], vec![1; 50]].concat());
    }

    #[test]
    fn siblings_share_the_database_but_not_the_rows() {
        let dir = tempfile::tempdir().unwrap();
        let store = SledStore::open(&dir.path().join("db"), 1 << 20).unwrap();
        let keys = store.sibling("keys").unwrap();
        keys.apply(put(b"a", b"secret")).unwrap();
        store.sync().unwrap();
        assert_eq!(store.get(b"a").unwrap(), None);
        assert_eq!(keys.get(b"a").unwrap().unwrap(), b"secret");
    }

    #[test]
    fn a_truncated_snapshot_file_costs_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("db");
        {
            let store = SledStore::open(&path, 1 << 20).unwrap();
            for n in 0..2_000u32 {
                store.apply(put(&n.to_be_bytes(), &[7; 300])).unwrap();
            }
            store.sync().unwrap();
        }
        drop(SledStore::open(&path, 1 << 20).unwrap());
        let snapshots = snapshot_files(&path, false).unwrap();
        assert!(!snapshots.is_empty(), "sled writes a snapshot file when it recovers");
        fs::write(&snapshots[0], b"").unwrap();
        fs::write(path.join("snap.99.generating"), b"half").unwrap();
        let store = SledStore::open(&path, 1 << 20).unwrap();
        assert_eq!(store.scan(Bound::Unbounded, Bound::Unbounded, 9_999).unwrap().len(), 2_000);
        assert!(!path.join("snap.99.generating").exists());
    }

    #[test]
    fn pages_stored_as_blobs_are_made_durable_too() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("db");
        let store = SledStore::open(&path, 1 << 20).unwrap();
        for n in 0..16u8 {
            store.apply(put(&[n], &vec![n; 60 << 10])).unwrap();
        }
        store.sync().unwrap();
        let blobs = fs::read_dir(path.join("blobs")).unwrap().count();
        assert!(blobs > 0, "16 states of 60 KiB are more than one page");
        assert!(!store.database.durable_blobs.lock().is_empty());
    }

    #[test]
    fn a_panic_inside_sled_is_a_damaged_store() {
        let result: Result<(), _> = guard(|| panic!("bad segment"));
        assert!(matches!(result, Err(StoreError::Corrupt { what }) if what.contains("bad segment")));
    }
}

//! Holds back the writes of a store and hands them on in large batches: rows that are written over or removed again
//! within a while reach the disk once or never.
//!
//! Only for a store whose rows can be made again: the state, which the Raft log can redo, each shard from its own applied
//! row. The rows of one shard are handed on together, those of many batches as one, so that after a crash the store below
//! still is, for each shard, the exact result of a prefix of its batches. No batch holds rows of two shards.

use crate::persistence::key;
use crate::persistence::last_words::EndsProcess;
use crate::persistence::store::{Row, Store, StoreError, WriteBatch};
use crate::types::ids::ShardId;
use parking_lot::{Condvar, Mutex, RwLock};
use std::collections::{BTreeMap, HashMap};
use std::ops::Bound;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

/// Bytes held back, beyond which all are handed on: some seconds of a burst, in which a gift's row is written several times.
const SPILL_BYTES: usize = 8 << 20;
/// The same of one shard. sled must not be given much more in one piece.
const SPILL_SHARD_BYTES: usize = 512 << 10;
/// What a row takes beside its key and value, about.
const ROW_BYTES: usize = 16;
/// So many times these, and writers wait for the disk.
const HOLD_TIMES: usize = 2;

/// Rows by key; `None` removes.
type Rows = BTreeMap<Vec<u8>, Option<Vec<u8>>>;

#[derive(Default)]
struct Buffers {
    active: Rows,
    /// Of the active rows.
    held: Held,
    /// On its way to the store below.
    frozen: Option<Arc<Rows>>,
}

/// Bytes, of all shards and of each; rows of no shard count as one's.
#[derive(Default)]
struct Held {
    bytes: usize,
    shards: HashMap<Option<ShardId>, usize>,
}

impl Held {
    /// How full: 1 is to be handed on.
    fn times(&self, shard: Option<ShardId>) -> usize {
        let of_shard = self.shards.get(&shard).copied().unwrap_or(0);
        (self.bytes / SPILL_BYTES).max(of_shard / SPILL_SHARD_BYTES)
    }

    fn is_full(&self) -> bool {
        let fullest = self.shards.values().copied().max().unwrap_or(0);
        self.bytes / SPILL_BYTES >= HOLD_TIMES || fullest / SPILL_SHARD_BYTES >= HOLD_TIMES
    }
}

impl Buffers {
    /// Holds the rows of one shard back; returns how full it was before and is now.
    fn hold(&mut self, operations: Vec<(Vec<u8>, Option<Vec<u8>>)>) -> (usize, usize) {
        let Some((first, _)) = operations.first() else { return (0, 0) };
        let shard = key::parse_shard(first);
        let before = self.held.times(shard);
        let size = |key_bytes: usize, value: Option<&Vec<u8>>| key_bytes + value.map_or(0, Vec::len) + ROW_BYTES;
        let (mut added, mut replaced) = (0, 0);
        debug_assert!(operations.iter().all(|(row_key, _)| key::parse_shard(row_key) == shard), "one shard a batch");
        for (row_key, value) in operations {
            let key_bytes = row_key.len();
            added += size(key_bytes, value.as_ref());
            if let Some(old) = self.active.insert(row_key, value) {
                replaced += size(key_bytes, old.as_ref());
            }
        }
        let of_shard = self.held.shards.entry(shard).or_default();
        *of_shard = (*of_shard + added).saturating_sub(replaced);
        self.held.bytes = (self.held.bytes + added).saturating_sub(replaced);
        (before, self.held.times(shard))
    }
}

struct Inner {
    below: Arc<dyn Store>,
    buffers: RwLock<Buffers>,
    /// Held while a buffer is handed on: one at a time, in order.
    spilling: Mutex<()>,
    /// Set when there is something to do for the thread; waited for with `wake`.
    asked: Mutex<bool>,
    wake: Condvar,
    /// Waited at with `emptied` by writers that found the buffer full.
    full: Mutex<()>,
    emptied: Condvar,
    stop: AtomicBool,
}

/// See the file header. Dropping it hands everything on.
pub struct WriteBehind {
    inner: Arc<Inner>,
    thread: Option<JoinHandle<()>>,
}

impl WriteBehind {
    /// # Errors
    /// The operating system refused a thread.
    pub fn start(below: Arc<dyn Store>) -> std::io::Result<Self> {
        let inner = Arc::new(Inner {
            below,
            buffers: RwLock::default(),
            spilling: Mutex::new(()),
            asked: Mutex::new(false),
            wake: Condvar::new(),
            full: Mutex::new(()),
            emptied: Condvar::new(),
            stop: AtomicBool::new(false),
        });
        let worker = inner.clone();
        let thread = std::thread::Builder::new().name("write-behind".to_owned()).spawn(move || {
            let _guard = EndsProcess("write-behind");
            worker.run();
        })?;
        Ok(Self { inner, thread: Some(thread) })
    }
}

impl Drop for WriteBehind {
    fn drop(&mut self) {
        self.inner.stop.store(true, Ordering::SeqCst);
        self.inner.ask();
        if let Some(thread) = self.thread.take() {
            // A panic of the thread has been reported by the panic hook.
            thread.join().unwrap_or_default();
        }
    }
}

impl Inner {
    fn run(&self) {
        loop {
            let mut asked = self.asked.lock();
            while !std::mem::take(&mut *asked) {
                self.wake.wait(&mut asked);
            }
            drop(asked);
            if let Err(error) = self.spill() {
                tracing::error!(%error, "the state cannot be written: ending the process, it is redone from the log");
                std::process::abort();
            }
            if self.stop.load(Ordering::SeqCst) {
                return;
            }
        }
    }

    fn ask(&self) {
        *self.asked.lock() = true;
        self.wake.notify_one();
    }

    /// Waits until the thread has begun to hand on what fills the buffer.
    fn wait_for_room(&self) {
        let mut full = self.full.lock();
        while self.buffers.read().held.is_full() {
            self.emptied.wait(&mut full);
        }
    }

    /// Hands on what is held back, a batch for each shard.
    fn spill(&self) -> Result<(), StoreError> {
        let _one_at_a_time = self.spilling.lock();
        let frozen = {
            let mut buffers = self.buffers.write();
            if buffers.active.is_empty() {
                return Ok(());
            }
            let frozen = Arc::new(std::mem::take(&mut buffers.active));
            buffers.held = Held::default();
            buffers.frozen = Some(frozen.clone());
            frozen
        };
        drop(self.full.lock());
        self.emptied.notify_all();
        let mut shards: BTreeMap<Option<ShardId>, WriteBatch> = BTreeMap::new();
        for (row_key, value) in &*frozen {
            let batch = shards.entry(key::parse_shard(row_key)).or_default();
            batch.operations.push((row_key.clone(), value.clone()));
        }
        for batch in shards.into_values() {
            self.below.apply(batch)?;
        }
        self.buffers.write().frozen = None;
        Ok(())
    }

    /// The held-back rows of a range, cut after `limit` rows that are there; and where it was cut.
    fn held(&self, from: Bound<&[u8]>, to: Bound<&[u8]>, limit: usize) -> (Rows, Option<Vec<u8>>) {
        let buffers = self.buffers.read();
        let mut held = Rows::new();
        let mut active = buffers.active.range::<[u8], _>((from, to)).peekable();
        let mut frozen = buffers.frozen.iter().flat_map(|rows| rows.range::<[u8], _>((from, to))).peekable();
        let mut there = 0;
        loop {
            // The next key of both; the active buffer is the newer one.
            let next = match (active.peek(), frozen.peek()) {
                (Some((newer, _)), Some((older, _))) if newer == older => {
                    frozen.next();
                    active.next()
                }
                (Some((newer, _)), Some((older, _))) if newer < older => active.next(),
                (Some(_), None) => active.next(),
                (_, Some(_)) => frozen.next(),
                (None, None) => return (held, None),
            };
            let Some((key, value)) = next else { return (held, None) };
            there += usize::from(value.is_some());
            held.insert(key.clone(), value.clone());
            if there >= limit {
                return (held, Some(key.clone()));
            }
        }
    }
}

impl Store for WriteBehind {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        {
            let buffers = self.inner.buffers.read();
            let held = buffers.active.get(key).or_else(|| buffers.frozen.as_ref().and_then(|rows| rows.get(key)));
            if let Some(value) = held {
                return Ok(value.clone());
            }
        }
        self.inner.below.get(key)
    }

    fn scan(&self, from: Bound<&[u8]>, to: Bound<&[u8]>, limit: usize) -> Result<Vec<Row>, StoreError> {
        if limit == 0 {
            return Ok(Vec::new());
        }
        let (held, cut) = self.inner.held(from, to, limit);
        // Whatever lies behind the cut is beyond the limit.
        let to = cut.as_ref().map_or(to, |key| Bound::Included(key.as_slice()));
        if held.is_empty() {
            return self.inner.below.scan(from, to, limit);
        }
        let removed = held.values().filter(|value| value.is_none()).count();
        // Of so many rows below at least `limit` stay, whatever is removed of them.
        let below = self.inner.below.scan(from, to, limit.saturating_add(removed))?;
        let mut rows: BTreeMap<Vec<u8>, Vec<u8>> = below.into_iter().collect();
        for (key, value) in held {
            match value {
                Some(value) => rows.insert(key, value),
                None => rows.remove(&key),
            };
        }
        Ok(rows.into_iter().take(limit).collect())
    }

    fn last(&self, from: Bound<&[u8]>, to: Bound<&[u8]>) -> Result<Option<Row>, StoreError> {
        // Rare, and only of ranges that do not change much: the simple way.
        self.inner.spill()?;
        self.inner.below.last(from, to)
    }

    fn apply(&self, batch: WriteBatch) -> Result<(), StoreError> {
        let (before, now) = self.inner.buffers.write().hold(batch.operations);
        if now > before {
            self.inner.ask();
        }
        if now >= HOLD_TIMES {
            self.inner.wait_for_room();
        }
        Ok(())
    }

    fn flush(&self) -> Result<(), StoreError> {
        self.inner.spill()?;
        self.inner.below.flush()
    }

    fn sync(&self) -> Result<(), StoreError> {
        self.inner.spill()?;
        self.inner.below.sync()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::persistence::memory_store::MemoryStore;
    use proptest::prelude::*;

    #[derive(Clone, Debug)]
    enum Step {
        Write(Vec<(u8, Option<u8>)>),
        Spill,
        Get(u8),
        Scan(u8, u8, usize),
        Last(u8, u8),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            4 => prop::collection::vec((0u8..24, prop::option::of(any::<u8>())), 1..6).prop_map(Step::Write),
            1 => Just(Step::Spill),
            2 => (0u8..24).prop_map(Step::Get),
            3 => (0u8..24, 0u8..26, 0usize..9).prop_map(|(from, to, limit)| Step::Scan(from, to, limit)),
            1 => (0u8..24, 0u8..26).prop_map(|(from, to)| Step::Last(from, to)),
        ];
        prop::collection::vec(step, 1..40)
    }

    fn batch(rows: &[(u8, Option<u8>)]) -> WriteBatch {
        WriteBatch { operations: rows.iter().map(|(key, value)| (vec![*key], value.map(|v| vec![v]))).collect() }
    }

    proptest! {
        #[test]
        fn reads_see_every_write_however_much_is_held_back(steps in steps()) {
            let model = MemoryStore::new();
            let behind = WriteBehind::start(Arc::new(MemoryStore::new())).unwrap();
            for step in steps {
                match step {
                    Step::Write(rows) => {
                        model.apply(batch(&rows)).unwrap();
                        behind.apply(batch(&rows)).unwrap();
                    }
                    Step::Spill => behind.inner.spill().unwrap(),
                    Step::Get(key) => prop_assert_eq!(model.get(&[key]).unwrap(), behind.get(&[key]).unwrap()),
                    Step::Scan(from, to, limit) if from < to => {
                        let (from, to) = ([from], [to]);
                        let range = (Bound::Excluded(from.as_slice()), Bound::Excluded(to.as_slice()));
                        prop_assert_eq!(
                            model.scan(range.0, range.1, limit).unwrap(),
                            behind.scan(range.0, range.1, limit).unwrap()
                        );
                    }
                    Step::Last(from, to) if from < to => {
                        let (from, to) = ([from], [to]);
                        let range = (Bound::Included(from.as_slice()), Bound::Excluded(to.as_slice()));
                        prop_assert_eq!(model.last(range.0, range.1).unwrap(), behind.last(range.0, range.1).unwrap());
                    }
                    Step::Scan(..) | Step::Last(..) => {}
                }
            }
        }
    }

    /// Holds a batch back until it is let go.
    #[derive(Default)]
    struct Slow {
        below: MemoryStore,
        gate: Mutex<()>,
        batches: Mutex<Vec<WriteBatch>>,
    }

    impl Store for Slow {
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
            let _let_go = self.gate.lock();
            self.batches.lock().push(batch.clone());
            self.below.apply(batch)
        }
        fn flush(&self) -> Result<(), StoreError> {
            Ok(())
        }
        fn sync(&self) -> Result<(), StoreError> {
            Ok(())
        }
    }

    #[test]
    fn rows_on_their_way_down_are_seen_and_newer_ones_over_them() {
        let slow = Arc::new(Slow::default());
        let gate = slow.gate.lock();
        let behind = WriteBehind::start(slow.clone()).unwrap();
        behind.apply(batch(&[(1, Some(1)), (2, Some(2)), (3, Some(3))])).unwrap();
        behind.inner.ask();
        while behind.inner.buffers.read().frozen.is_none() {
            std::thread::yield_now();
        }
        behind.apply(batch(&[(2, Some(9)), (3, None)])).unwrap();
        let all = || behind.scan(Bound::Unbounded, Bound::Unbounded, 9).unwrap();
        let expected = vec![(vec![1], vec![1]), (vec![2], vec![9])];
        assert_eq!(all(), expected);
        assert_eq!(behind.get(&[3]).unwrap(), None);
        assert_eq!(behind.get(&[1]).unwrap(), Some(vec![1]));
        drop(gate);
        behind.sync().unwrap();
        assert_eq!(all(), expected);
        assert_eq!(slow.below.get(&[2]).unwrap(), Some(vec![9]));
    }

    #[test]
    fn what_is_written_over_reaches_the_store_below_once() {
        let below = Arc::new(MemoryStore::new());
        let behind = WriteBehind::start(below.clone()).unwrap();
        for value in 0..100 {
            behind.apply(batch(&[(1, Some(value)), (2, Some(value))])).unwrap();
            behind.apply(batch(&[(2, None)])).unwrap();
        }
        assert_eq!(below.get(&[1]).unwrap(), None, "held back");
        drop(behind);
        assert_eq!(below.get(&[1]).unwrap(), Some(vec![99]));
        assert_eq!(below.get(&[2]).unwrap(), None);
    }

    /// A batch of one row of a shard.
    fn row(shard: u16, place: u8, value: Vec<u8>) -> WriteBatch {
        let mut row_key = key::of_shard(key::Table::State, ShardId(shard));
        row_key.push(place);
        WriteBatch { operations: vec![(row_key, Some(value))] }
    }

    #[test]
    fn the_rows_of_a_shard_reach_the_store_below_in_one_batch_and_no_others_with_them() {
        let slow = Arc::new(Slow::default());
        let behind = WriteBehind::start(slow.clone()).unwrap();
        for place in 0..4 {
            behind.apply(row(1, place, vec![place])).unwrap();
            behind.apply(row(2, place, vec![place])).unwrap();
        }
        behind.sync().unwrap();
        let shards = |batch: &WriteBatch| -> Vec<Option<ShardId>> {
            batch.operations.iter().map(|(row_key, _)| key::parse_shard(row_key)).collect()
        };
        let batches: Vec<_> = slow.batches.lock().iter().map(shards).collect();
        assert_eq!(batches, [vec![Some(ShardId(1)); 4], vec![Some(ShardId(2)); 4]]);
    }

    #[test]
    fn what_one_shard_holds_back_is_bounded_while_the_disk_is_slow() {
        const VALUE_BYTES: usize = 64 << 10;
        let slow = Arc::new(Slow::default());
        let gate = slow.gate.lock();
        let behind = WriteBehind::start(slow.clone()).unwrap();
        let held = || behind.inner.buffers.read().held.bytes;
        std::thread::scope(|scope| {
            scope.spawn(|| {
                (0..64).for_each(|place| behind.apply(row(1, place, vec![place; VALUE_BYTES])).unwrap());
            });
            // The first part is on its way, and the writer has filled the buffer behind it.
            while behind.inner.buffers.read().frozen.is_none() || held() < HOLD_TIMES * SPILL_SHARD_BYTES {
                std::thread::yield_now();
            }
            (0..1_000).for_each(|_| std::thread::yield_now());
            assert!(held() <= HOLD_TIMES * SPILL_SHARD_BYTES + VALUE_BYTES + 64, "{}", held());
            drop(gate);
        });
        behind.sync().unwrap();
        let range = key::shard_rows(key::Table::State, ShardId(1));
        let (from, to) = range.bounds();
        assert_eq!(slow.below.scan(from, to, usize::MAX).unwrap().len(), 64);
    }

    #[test]
    fn what_is_written_over_is_not_counted_twice() {
        let behind = WriteBehind::start(Arc::new(MemoryStore::new())).unwrap();
        for _ in 0..1_000 {
            behind.apply(row(1, 1, vec![0; 1_000])).unwrap();
        }
        let held = behind.inner.buffers.read().held.bytes;
        assert_eq!(held, 4 + 1_000 + ROW_BYTES);
    }
}

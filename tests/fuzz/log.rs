//! The log of a node after damage: what is read is what was written, or the store says that it is damaged.

use crate::engine::Target;
use crate::{PLACE, heap};
use bojagi::persistence::codec::{FRAME_BYTES, frame};
use bojagi::persistence::key;
use bojagi::persistence::log::{HardState, LoadedLog, LogAppend, LogEntry, Membership};
use bojagi::persistence::log_store::LogStore;
use bojagi::persistence::memory_store::MemoryStore;
use bojagi::persistence::store::{Row, Store, StoreError, WriteBatch};
use bojagi::types::ids::{LogIndex, ShardId, Term};
use std::ops::Bound;
use std::sync::Arc;

const SHARD: ShardId = ShardId(7);

fn entries() -> Vec<LogEntry> {
    let entry = |index: u64| LogEntry {
        index: LogIndex(index),
        term: Term(1 + index / 4),
        entry_type: i32::from(index == 3),
        payload: vec![index as u8; 3 * index as usize],
    };
    (1..=8).map(entry).collect()
}

/// All rows of a log with eight entries, a hard state and a membership.
fn rows() -> Vec<Row> {
    let store = Arc::new(MemoryStore::new());
    let log = LogStore::open(store.clone()).unwrap();
    let membership = Membership { index: LogIndex(3), voters: vec![1, 2, 3], ..Membership::default() };
    let hard_state = HardState { term: Term(3), vote: 2, commit: LogIndex(5) };
    let append = LogAppend {
        shard: SHARD,
        number: 1,
        entries: entries(),
        hard_state: Some(hard_state),
        membership: Some(membership),
        start: None,
    };
    log.append(&[append]).unwrap();
    store.scan(Bound::Unbounded, Bound::Unbounded, usize::MAX).unwrap()
}

fn read(rows: Vec<Row>) -> Result<LoadedLog, StoreError> {
    let store = Arc::new(MemoryStore::new());
    let operations = rows.into_iter().map(|(row_key, value)| (row_key, Some(value))).collect();
    store.apply(WriteBatch { operations }).unwrap();
    LogStore::open(store)?.load(SHARD)
}

/// What a log that was read must be: some or all of the entries that were written, none of them changed.
fn check(loaded: Result<LoadedLog, StoreError>, may_differ: bool) {
    match loaded {
        Ok(log) => {
            let end = log.entries.last().map_or(log.start.index, |entry| entry.index);
            assert!(log.hard_state.commit <= end, "a committed entry is missing: {log:?}");
            let contiguous = log.entries.windows(2).all(|pair| pair[1].index == pair[0].index.next());
            assert!(contiguous, "{log:?}");
            let written = entries();
            assert!(may_differ || log.entries.iter().all(|entry| written.contains(entry)), "{log:?}");
        }
        Err(StoreError::Corrupt { .. }) => {}
        Err(other) => panic!("{other}"),
    }
}

#[test]
fn damaged_logs() {
    let rows = rows();
    assert_eq!(read(rows.clone()).unwrap().entries, entries());
    let corpus = rows.iter().map(|(_, value)| value.clone()).collect();
    Target { name: "damaged_logs", place: PLACE, corpus, dictionary: &[], cases: 3_000 }.run(|input, rng| {
        let at = rng.below(rows.len());
        let mut damaged = rows.clone();
        damaged[at].1 = input.to_vec();
        check(heap::modest(input, || read(damaged)), false);
        // A row is missing, or lies at another index.
        let mut moved = rows.clone();
        let (row_key, value) = moved.remove(at);
        if let (Some((_, index)), 0) = (key::parse_log_entry(&row_key), rng.below(2)) {
            moved.push((key::log_entry(SHARD, LogIndex(index.0 + rng.next() % 20)), value));
        }
        check(read(moved), false);
        // Sealed again after the damage.
        let mut sealed = rows.clone();
        sealed[at].1 = frame(&rows[at].0, input.get(FRAME_BYTES..).unwrap_or_default());
        check(heap::modest(input, || read(sealed)), true);
    });
}

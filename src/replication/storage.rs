//! The log as raft-rs reads it: a bounded tail in memory, the rest through a [`LogReader`].
//!
//! raft-rs may read an entry as soon as it was handed out, before it is durable; so an entry leaves the tail only
//! once it is durable and the reader finds it.

use crate::persistence::log::{LogEntry, LogReader, LogStart};
use crate::persistence::store::StoreError;
use crate::types::ids::{LogIndex, Term};
use crate::types::limits::{LOG_CACHE_BYTES_MAX, LOG_CACHE_ENTRIES_MAX};
use raft::prelude::{ConfState, Entry, EntryType, HardState, Snapshot};
use raft::{Error, GetEntriesContext, RaftState, Storage, StorageError};
use std::cell::RefCell;
use std::collections::VecDeque;

/// Snapshots that raft asked for and that are complete.
#[derive(Default)]
pub(crate) struct Shelf {
    /// The peer that needs a snapshot, as raft last asked.
    pub(crate) wanted: Option<u64>,
    /// A snapshot that the peer has staged completely.
    pub(crate) complete: Option<(u64, Snapshot)>,
}

pub(crate) struct CoreStorage {
    initial: RaftState,
    start: LogStart,
    last: u64,
    /// Contiguous, ending at `last`.
    tail: VecDeque<Entry>,
    tail_bytes: usize,
    reader: Box<dyn LogReader>,
    pub(crate) shelf: RefCell<Shelf>,
}

impl CoreStorage {
    pub(crate) fn new(
        hard_state: HardState,
        conf_state: ConfState,
        start: LogStart,
        entries: &[LogEntry],
        reader: Box<dyn LogReader>,
    ) -> Self {
        let mut storage = Self {
            initial: RaftState::new(hard_state, conf_state),
            start,
            last: entries.last().map_or(start.index.0, |entry| entry.index.0),
            tail: VecDeque::new(),
            tail_bytes: 0,
            reader,
            shelf: RefCell::default(),
        };
        for entry in entries {
            storage.tail_bytes += entry.payload.len();
            storage.tail.push_back(to_raft(entry));
        }
        storage.evict(storage.last);
        storage
    }

    pub(crate) fn start(&self) -> LogStart {
        self.start
    }

    fn tail_first(&self) -> u64 {
        self.last + 1 - self.tail.len() as u64
    }

    /// Adds entries; those at and beyond the first one's index are replaced.
    pub(crate) fn append(&mut self, entries: &[Entry]) {
        let Some(first) = entries.first() else { return };
        let reachable = self.start.index.0 < first.index && first.index <= self.last + 1;
        assert!(reachable, "raft appends without a gap");
        while self.tail.back().is_some_and(|entry| entry.index >= first.index) {
            let entry = self.tail.pop_back().expect("the tail has a back");
            self.tail_bytes -= entry.data.len();
        }
        for entry in entries {
            self.tail_bytes += entry.data.len();
            self.tail.push_back(entry.clone());
        }
        self.last = self.tail.back().map_or(self.last, |entry| entry.index);
    }

    /// Drops the oldest cached entries beyond the bounds, of those that are durable.
    pub(crate) fn evict(&mut self, durable: u64) {
        while (self.tail_bytes > LOG_CACHE_BYTES_MAX || self.tail.len() > LOG_CACHE_ENTRIES_MAX)
            && self.tail.len() > 1
            && self.tail.front().is_some_and(|front| front.index <= durable)
        {
            let front = self.tail.pop_front().expect("the tail is not empty");
            self.tail_bytes -= front.data.len();
        }
    }

    /// The log begins at `start` and holds nothing.
    pub(crate) fn reset(&mut self, start: LogStart) {
        self.tail.clear();
        self.tail_bytes = 0;
        self.start = start;
        self.last = start.index.0;
    }

    /// Forgets everything up to `start`, which the log holds.
    pub(crate) fn purge(&mut self, start: LogStart) {
        assert!(self.start.index <= start.index && start.index.0 <= self.last, "a purge stays within the log");
        while self.tail.front().is_some_and(|entry| entry.index <= start.index.0) {
            let entry = self.tail.pop_front().expect("the tail has a front");
            self.tail_bytes -= entry.data.len();
        }
        self.start = start;
    }

    fn read(&self, from: u64, to: u64, bytes_max: u64) -> raft::Result<Vec<Entry>> {
        let entries = self.reader.entries(LogIndex(from), LogIndex(to), bytes_max).map_err(other)?;
        let expected = entries.iter().zip(from..to).all(|(entry, index)| entry.index.0 == index);
        if entries.is_empty() || !expected {
            return Err(Error::Store(StorageError::Unavailable));
        }
        Ok(entries.iter().map(to_raft).collect())
    }
}

impl Storage for CoreStorage {
    fn initial_state(&self) -> raft::Result<RaftState> {
        Ok(self.initial.clone())
    }

    fn entries(
        &self,
        low: u64,
        high: u64,
        bytes_max: impl Into<Option<u64>>,
        _context: GetEntriesContext,
    ) -> raft::Result<Vec<Entry>> {
        if low <= self.start.index.0 {
            return Err(Error::Store(StorageError::Compacted));
        }
        assert!(high <= self.last + 1, "raft reads within the log");
        let bytes_max = bytes_max.into().unwrap_or(u64::MAX);
        let cached_from = self.tail_first();
        let mut entries = Vec::new();
        if low < cached_from {
            let to = high.min(cached_from);
            entries = self.read(low, to, bytes_max)?;
            if (entries.len() as u64) < to - low {
                return Ok(entries);
            }
        }
        let mut bytes: u64 = entries.iter().map(|entry| entry.data.len() as u64).sum();
        let from = low.max(cached_from);
        if from < high {
            let range = (from - cached_from) as usize..(high - cached_from) as usize;
            for entry in self.tail.range(range) {
                bytes += entry.data.len() as u64;
                if bytes > bytes_max && !entries.is_empty() {
                    break;
                }
                entries.push(entry.clone());
            }
        }
        Ok(entries)
    }

    fn term(&self, index: u64) -> raft::Result<u64> {
        if index == self.start.index.0 {
            return Ok(self.start.term.0);
        }
        if index < self.start.index.0 {
            return Err(Error::Store(StorageError::Compacted));
        }
        if index > self.last {
            return Err(Error::Store(StorageError::Unavailable));
        }
        let cached_from = self.tail_first();
        if index >= cached_from {
            return Ok(self.tail[(index - cached_from) as usize].term);
        }
        match self.reader.term(LogIndex(index)).map_err(other)? {
            Some(Term(term)) => Ok(term),
            None => Err(Error::Store(StorageError::Unavailable)),
        }
    }

    fn first_index(&self) -> raft::Result<u64> {
        Ok(self.start.index.0 + 1)
    }

    fn last_index(&self) -> raft::Result<u64> {
        Ok(self.last)
    }

    fn snapshot(&self, _request_index: u64, to: u64) -> raft::Result<Snapshot> {
        let mut shelf = self.shelf.borrow_mut();
        if let Some((_, snapshot)) = shelf.complete.as_ref().filter(|(peer, _)| *peer == to) {
            return Ok(snapshot.clone());
        }
        shelf.wanted.get_or_insert(to);
        Err(Error::Store(StorageError::SnapshotTemporarilyUnavailable))
    }
}

fn other(error: StoreError) -> Error {
    Error::Store(StorageError::Other(Box::new(error)))
}

/// # Panics
/// On an entry type that this build does not know; the log's checksum excludes that.
fn to_raft(entry: &LogEntry) -> Entry {
    Entry {
        index: entry.index.0,
        term: entry.term.0,
        entry_type: entry_type(entry.entry_type).expect("a checked log holds known entry types"),
        data: entry.payload.clone().into(),
        ..Entry::default()
    }
}

pub(crate) fn from_raft(entry: &Entry) -> LogEntry {
    LogEntry {
        index: LogIndex(entry.index),
        term: Term(entry.term),
        entry_type: entry_tag(entry.get_entry_type()),
        payload: entry.data.to_vec(),
    }
}

pub(crate) fn entry_type(tag: i32) -> Option<EntryType> {
    match tag {
        0 => Some(EntryType::EntryNormal),
        1 => Some(EntryType::EntryConfChange),
        2 => Some(EntryType::EntryConfChangeV2),
        _ => None,
    }
}

pub(crate) fn entry_tag(kind: EntryType) -> i32 {
    match kind {
        EntryType::EntryNormal => 0,
        EntryType::EntryConfChange => 1,
        EntryType::EntryConfChangeV2 => 2,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{Arc, Mutex};

    #[derive(Clone, Default)]
    struct Disk(Arc<Mutex<Vec<LogEntry>>>);

    impl LogReader for Disk {
        fn entries(&self, from: LogIndex, to: LogIndex, bytes_max: u64) -> Result<Vec<LogEntry>, StoreError> {
            let (mut found, mut bytes) = (Vec::new(), 0);
            for entry in self.0.lock().unwrap().iter().filter(|entry| (from..to).contains(&entry.index)) {
                found.push(entry.clone());
                bytes += entry.payload.len() as u64;
                if bytes >= bytes_max {
                    break;
                }
            }
            Ok(found)
        }
        fn term(&self, index: LogIndex) -> Result<Option<Term>, StoreError> {
            Ok(self.0.lock().unwrap().iter().find(|entry| entry.index == index).map(|entry| entry.term))
        }
    }

    fn entry(index: u64, term: u64) -> Entry {
        Entry { index, term, data: vec![index as u8; 2_000].into(), ..Entry::default() }
    }

    fn read(storage: &CoreStorage, from: u64, to: u64, bytes_max: Option<u64>) -> Vec<(u64, u64)> {
        let entries = storage.entries(from, to, bytes_max, GetEntriesContext::empty(false)).unwrap();
        entries.iter().map(|entry| (entry.index, entry.term)).collect()
    }

    /// 3,000 entries from index 6, of which the first 2,000 are durable.
    fn long() -> (CoreStorage, Disk) {
        let disk = Disk::default();
        let start = LogStart { index: LogIndex(5), term: Term(1) };
        let (hard_state, conf_state) = (HardState::default(), ConfState::default());
        let mut storage = CoreStorage::new(hard_state, conf_state, start, &[], Box::new(disk.clone()));
        for index in 6..=3_005 {
            storage.append(&[entry(index, index / 1_000 + 2)]);
            storage.evict(index.min(2_005).saturating_sub(1));
            disk.0.lock().unwrap().push(from_raft(&entry(index, index / 1_000 + 2)));
        }
        (storage, disk)
    }

    #[test]
    fn what_left_the_tail_is_read_from_the_disk_as_one_log() {
        let (storage, _) = long();
        assert!(storage.tail.len() <= 1_002 && storage.tail_first() == 2_005, "{}", storage.tail_first());
        let all: Vec<(u64, u64)> = (6..=3_005).map(|index| (index, index / 1_000 + 2)).collect();
        assert_eq!(read(&storage, 6, 3_006, None), all);
        assert_eq!(read(&storage, 2_000, 2_010, None), all[1_994..2_004]);
        assert_eq!(read(&storage, 2_000, 2_010, Some(6_000)), all[1_994..1_997]);
        assert_eq!(read(&storage, 2_000, 2_010, Some(0)).len(), 1, "never empty");
        assert_eq!((storage.term(5).unwrap(), storage.term(6).unwrap(), storage.term(3_005).unwrap()), (1, 2, 5));
        assert!(storage.term(4).is_err() && storage.term(3_006).is_err());
        assert!(storage.entries(5, 6, None, GetEntriesContext::empty(false)).is_err());
    }

    #[test]
    fn entries_that_are_not_durable_never_leave_the_tail() {
        let (mut storage, _) = long();
        storage.evict(0);
        let before = storage.tail.len();
        (3_006..=6_000).for_each(|index| storage.append(&[entry(index, 9)]));
        storage.evict(2_004);
        assert_eq!(storage.tail.len(), before + 2_995);
    }

    #[test]
    fn a_conflicting_append_replaces_the_tail_and_a_gap_is_a_bug() {
        let (mut storage, _) = long();
        storage.append(&[entry(2_990, 9), entry(2_991, 9)]);
        assert_eq!(storage.last_index().unwrap(), 2_991);
        assert_eq!(read(&storage, 2_989, 2_992, None), [(2_989, 4), (2_990, 9), (2_991, 9)]);
        // Back into what was evicted.
        storage.append(&[entry(1_500, 10)]);
        assert_eq!(read(&storage, 1_499, 1_501, None), [(1_499, 3), (1_500, 10)]);
        let gap = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| storage.append(&[entry(1_502, 10)])));
        assert!(gap.is_err());
    }

    #[test]
    fn a_purged_or_reset_log_begins_anew() {
        let (mut storage, _) = long();
        storage.purge(LogStart { index: LogIndex(2_999), term: Term(4) });
        assert_eq!((storage.first_index().unwrap(), storage.last_index().unwrap()), (3_000, 3_005));
        assert!(storage.term(2_998).is_err());
        storage.reset(LogStart { index: LogIndex(9_000), term: Term(12) });
        assert_eq!((storage.first_index().unwrap(), storage.last_index().unwrap()), (9_001, 9_000));
        assert_eq!(storage.term(9_000).unwrap(), 12);
        storage.append(&[entry(9_001, 12)]);
        assert_eq!(read(&storage, 9_001, 9_002, None), [(9_001, 12)]);
    }
}

//! A replica's log disk: writes go through in order, only a sync makes them survive a power cut, and a power cut
//! keeps any prefix of what was not synced (a torn batch is found by its checksum and counts as lost).

use bojagi::persistence::log::{HardState, LoadedLog, LogAppend, LogEntry, LogReader, LogStart, Membership};
use bojagi::persistence::store::StoreError;
use bojagi::types::ids::{LogIndex, Term};
use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

#[derive(Clone, Debug)]
pub enum Write {
    Append(LogAppend),
    Purge(LogStart),
}

/// A log's content at one moment.
#[derive(Clone, Debug, Default)]
pub struct Content {
    hard_state: HardState,
    membership: Membership,
    start: LogStart,
    entries: VecDeque<LogEntry>,
}

impl Content {
    fn write(&mut self, write: &Write) {
        match write {
            Write::Append(append) => self.append(append),
            Write::Purge(start) => {
                while self.entries.front().is_some_and(|entry| entry.index <= start.index) {
                    self.entries.pop_front();
                }
                self.start = *start;
            }
        }
    }

    fn append(&mut self, append: &LogAppend) {
        if let Some(start) = append.start {
            self.entries.clear();
            self.start = start;
        }
        if let Some(first) = append.entries.first() {
            while self.entries.back().is_some_and(|entry| entry.index >= first.index) {
                self.entries.pop_back();
            }
            let last = self.entries.back().map_or(self.start.index, |entry| entry.index);
            assert_eq!(last.next(), first.index, "an append leaves no gap");
        }
        self.entries.extend(append.entries.iter().cloned());
        self.hard_state = append.hard_state.unwrap_or(self.hard_state);
        if let Some(membership) = &append.membership {
            self.membership.clone_from(membership);
        }
    }

    fn get(&self, index: LogIndex) -> Option<&LogEntry> {
        let first = self.entries.front()?.index.0;
        self.entries.get(usize::try_from(index.0.checked_sub(first)?).ok()?)
    }

    /// Whether the entry is here, or behind the log's start.
    pub fn has(&self, index: LogIndex, term: Term) -> bool {
        index <= self.start.index || self.get(index).is_some_and(|entry| entry.term == term)
    }
}

#[derive(Default)]
pub struct LogDisk {
    /// What a reader sees.
    now: Arc<Mutex<Content>>,
    /// What surely survives.
    pub synced: Content,
    unsynced: VecDeque<Write>,
}

impl LogDisk {
    pub fn write(&mut self, write: Write) {
        self.now.lock().unwrap().write(&write);
        self.unsynced.push_back(write);
    }

    /// Writes not synced yet.
    pub fn unsynced(&self) -> usize {
        self.unsynced.len()
    }

    /// The oldest `count` writes become durable; answers the number of the last append among them.
    pub fn sync(&mut self, count: usize) -> Option<u64> {
        let mut number = None;
        for write in self.unsynced.drain(..count) {
            if let Write::Append(append) = &write {
                number = Some(append.number);
            }
            self.synced.write(&write);
        }
        number
    }

    /// The process or the machine ends; `kept` of the writes not synced survive.
    pub fn crash(&mut self, kept: usize) {
        self.sync(kept);
        self.unsynced.clear();
        self.now = Arc::new(Mutex::new(self.synced.clone()));
    }

    pub fn load(&self) -> LoadedLog {
        let now = self.now.lock().unwrap().clone();
        let (hard_state, membership, start) = (now.hard_state, now.membership, now.start);
        // Part of the log only: the rest is read through the reader.
        let tail = now.entries.len().saturating_sub(16);
        LoadedLog { hard_state, membership, start, entries: now.entries.into_iter().skip(tail).collect() }
    }

    pub fn reader(&self) -> Box<dyn LogReader> {
        Box::new(Reader(self.now.clone()))
    }
}

struct Reader(Arc<Mutex<Content>>);

impl LogReader for Reader {
    fn entries(&self, from: LogIndex, to: LogIndex, bytes_max: u64) -> Result<Vec<LogEntry>, StoreError> {
        let now = self.0.lock().unwrap();
        let (mut entries, mut bytes) = (Vec::new(), 0);
        for index in from.0..to.0 {
            let Some(entry) = now.get(LogIndex(index)) else { break };
            bytes += entry.payload.len() as u64;
            entries.push(entry.clone());
            if bytes >= bytes_max {
                break;
            }
        }
        Ok(entries)
    }

    fn term(&self, index: LogIndex) -> Result<Option<Term>, StoreError> {
        Ok(self.0.lock().unwrap().get(index).map(|entry| entry.term))
    }
}

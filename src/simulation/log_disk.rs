//! A replica's log: the binary's `LogStore` over a store that forgets what was not synced. A power cut keeps any
//! prefix of it. Beside it, what is surely durable, for the checkers.

use crate::persistence::log::{LoadedLog, LogAppend, LogReader, LogStart};
use crate::persistence::log_store::{LogStore, LogWrite};
use crate::persistence::memory_store::{Failure, MemoryStore, Operation, Torn};
use crate::persistence::store::StoreError;
use crate::types::ids::{LogIndex, ShardId, Term};
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

/// The one shard of a simulated cluster.
pub const SHARD: ShardId = ShardId(5);

/// One write of the log.
#[derive(Clone, Debug)]
pub enum Write {
    Append(LogAppend),
    Purge(LogStart),
}

/// Index and term of what a power cut leaves.
#[derive(Default)]
pub struct Durable {
    start: LogIndex,
    terms: BTreeMap<LogIndex, Term>,
}

impl Durable {
    fn write(&mut self, write: &Write) {
        let Write::Append(append) = write else { return };
        if let Some(start) = append.start {
            self.terms.clear();
            self.start = start.index;
        }
        if let Some(first) = append.entries.first() {
            self.terms.split_off(&first.index);
        }
        self.terms.extend(append.entries.iter().map(|entry| (entry.index, entry.term)));
    }

    /// Whether the entry is here, or covered by the snapshot that the log begins with.
    #[must_use]
    pub fn has(&self, index: LogIndex, term: Term) -> bool {
        index <= self.start || self.terms.get(&index) == Some(&term)
    }
}

/// A log that a power cut shortens.
pub struct LogDisk {
    disk: Arc<MemoryStore>,
    log: Arc<LogStore>,
    pub durable: Durable,
    unsynced: VecDeque<Write>,
}

impl Default for LogDisk {
    fn default() -> Self {
        Self::new()
    }
}

impl LogDisk {
    #[must_use]
    pub fn new() -> Self {
        let disk = Arc::new(MemoryStore::new());
        let log = Arc::new(LogStore::open(disk.clone()).expect("an empty disk opens"));
        Self { disk, log, durable: Durable::default(), unsynced: VecDeque::new() }
    }

    /// # Errors
    /// [`StoreError`]: the disk took nothing; the process ends.
    pub fn write(&mut self, write: Write) -> Result<(), StoreError> {
        let one = match write.clone() {
            Write::Append(append) => LogWrite::Append(append),
            Write::Purge(start) => LogWrite::Purge { shard: SHARD, below: start.index.next() },
        };
        self.log.write(&[one])?;
        self.unsynced.push_back(write);
        Ok(())
    }

    /// The next write fails.
    pub fn fail(&self, failure: Failure) {
        self.disk.fail(Operation::Apply, 0, failure);
    }

    /// Writes not synced yet.
    #[must_use]
    pub fn unsynced(&self) -> usize {
        self.unsynced.len()
    }

    /// A sync that began `count` writes ago ends; answers the number of the last append among them. What was written
    /// since may survive as well, but nobody is told.
    pub fn sync(&mut self, count: usize) -> Option<u64> {
        let mut number = None;
        for write in self.unsynced.drain(..count) {
            if let Write::Append(append) = &write {
                number = Some(append.number);
            }
            self.durable.write(&write);
        }
        number
    }

    /// The process or the machine ends; `kept` of the writes not synced survive.
    ///
    /// # Errors
    /// As [`LogStore::open`].
    pub fn crash(&mut self, kept: usize) -> Result<(), StoreError> {
        let lost = self.unsynced.len() - kept;
        let batches = self.disk.unsynced() - lost;
        self.sync(kept);
        self.unsynced.clear();
        self.disk.crash(Torn::Power { batches });
        self.log = Arc::new(LogStore::open(self.disk.clone())?);
        Ok(())
    }

    #[must_use]
    pub fn load(&self) -> LoadedLog {
        self.log.load(SHARD).expect("an open log loads")
    }

    #[must_use]
    pub fn reader(&self) -> Box<dyn LogReader> {
        self.log.reader(SHARD)
    }
}

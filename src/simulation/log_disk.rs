//! A replica's log: the binary's `LogStore` over a store that forgets what was not synced. A power cut keeps any
//! prefix of it. Beside it, what is surely durable, for the checkers.

use crate::persistence::log::{LoadedLog, LogAppend, LogReader, LogStart};
use crate::persistence::log_store::{LogStore, LogWrite};
use crate::persistence::memory_store::{Failure, MemoryStore, Operation, Torn};
use crate::persistence::store::StoreError;
use crate::simulation::dice::Dice;
use crate::simulation::state_disk::flip_row;
use crate::types::ids::{LogIndex, ShardId, Term};
use std::collections::{BTreeMap, VecDeque};
use std::ops::Bound;
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

/// A write that is not synced yet, without its payloads. A purge has none of these.
#[derive(Default)]
struct Unsynced {
    append: Option<u64>,
    start: Option<LogIndex>,
    terms: Vec<(LogIndex, Term)>,
}

impl Unsynced {
    fn of(write: &Write) -> Self {
        let Write::Append(append) = write else { return Self::default() };
        Self {
            append: Some(append.number),
            start: append.start.map(|start| start.index),
            terms: append.entries.iter().map(|entry| (entry.index, entry.term)).collect(),
        }
    }
}

impl Durable {
    fn write(&mut self, write: Unsynced) {
        if let Some(start) = write.start {
            self.terms.clear();
            self.start = start;
        }
        if let Some((first, _)) = write.terms.first() {
            self.terms.split_off(first);
        }
        self.terms.extend(write.terms);
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
    unsynced: VecDeque<Unsynced>,
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
        let unsynced = Unsynced::of(&write);
        let one = match write {
            Write::Append(append) => LogWrite::Append(append),
            Write::Purge(start) => LogWrite::Purge { shard: SHARD, below: start.index.next() },
        };
        self.log.write(&[one])?;
        self.unsynced.push_back(unsynced);
        Ok(())
    }

    /// The next write fails.
    pub fn fail(&self, failure: Failure) {
        self.disk.fail(Operation::Apply, 0, failure);
    }

    /// Flips a bit of a row of the log; what the row is, or `None` when there is none.
    pub fn flip_bit(&self, dice: &mut Dice) -> Option<String> {
        flip_row(&self.disk, (Bound::Unbounded, Bound::Unbounded), dice)
    }

    /// Every checksum, and whether the log is whole.
    ///
    /// # Errors
    /// [`StoreError`]: it is not, or the disk gives up.
    pub fn verify(&self) -> Result<(), StoreError> {
        LogStore::open(self.disk.clone())?.load(SHARD).map(drop)
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
            number = write.append.or(number);
            self.durable.write(write);
        }
        number
    }

    /// The process or the machine ends; `kept` of the writes not synced survive.
    ///
    /// # Errors
    /// As [`LogDisk::verify`]: nothing is started on a damaged log.
    pub fn crash(&mut self, kept: usize) -> Result<(), StoreError> {
        let lost = self.unsynced.len() - kept;
        let batches = self.disk.unsynced() - lost;
        self.sync(kept);
        self.unsynced.clear();
        self.disk.crash(Torn::Power { batches });
        self.log = Arc::new(LogStore::open(self.disk.clone())?);
        self.log.load(SHARD).map(drop)
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

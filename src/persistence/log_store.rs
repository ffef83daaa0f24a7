//! The Raft log of all shards of a node, in one ordered store.
//!
//! Invariants: the entries of a shard are contiguous from `truncated + 1`; every row carries a checksum over its shard,
//! index and term; each batch carries the next batch number, so that a log that lost its tail is found out.
//! Writes come from one thread (`log_writer`); reads from any.

use crate::persistence::codec::{damaged, open_value};
use crate::persistence::key::{self, KeyRange, Table};
use crate::persistence::log::{HardState, LoadedLog, LogAppend, LogEntry, LogReader, LogStart, Membership};
use crate::persistence::log_reader::ShardReader;
use crate::persistence::log_rows::{
    PAYLOAD_BYTES_MAX, decode_entry_row, decode_hard_state, put_entry, put_hard_state, put_truncated, put_value,
};
use crate::persistence::store::{Row, Store, StoreError, WriteBatch};
use crate::types::ids::{LogIndex, ShardId, Term};
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Keys removed by one batch of a purge.
pub const PURGE_KEYS_MAX: usize = 256;
/// Bytes of entries that [`LogStore::load`] reads ahead for the core's cache.
pub const LOAD_TAIL_BYTES: usize = 256 << 10;
/// Entries that [`LogStore::load`] reads ahead at most.
const LOAD_TAIL_ENTRIES: u64 = 1_024;
/// Rows of one step of the full scan.
const SCAN_ROWS: usize = 1_024;

/// Where the log of a founded group begins: its state machine is empty there, so nothing needs to be applied to get to it.
pub const FOUNDING_INDEX: LogIndex = LogIndex(1);

/// Number of a batch of the log, from 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct BatchSeq(pub u64);

/// One write for the log, as the writer thread batches them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LogWrite {
    Append(LogAppend),
    /// Removes entries below an index, [`PURGE_KEYS_MAX`] at a time.
    Purge {
        shard: ShardId,
        below: LogIndex,
    },
    /// Removes all that is known of a shard: its replica has left this node.
    Forget {
        shard: ShardId,
    },
}

/// Where a shard's log begins and ends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LogSpan {
    /// The last entry that was purged or is covered by a snapshot.
    pub truncated: (LogIndex, Term),
    /// The last entry; equal to `truncated` when there is none.
    pub last: (LogIndex, Term),
}

impl LogSpan {
    fn contains(&self, index: LogIndex) -> bool {
        self.truncated.0 < index && index <= self.last.0
    }
}

#[derive(Default)]
struct Spans {
    by_shard: BTreeMap<ShardId, LogSpan>,
    batch: BatchSeq,
}

impl Spans {
    fn of(&self, shard: ShardId) -> LogSpan {
        self.by_shard.get(&shard).copied().unwrap_or_default()
    }
}

/// The log; see the file header.
pub struct LogStore {
    store: Arc<dyn Store>,
    spans: Mutex<Spans>,
}

impl LogStore {
    /// Scans the whole log: every checksum, and that entries are contiguous and reach the committed index.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] names the first row that fails; other [`StoreError`]s as the store gives them.
    pub fn open(store: Arc<dyn Store>) -> Result<Self, StoreError> {
        let mut spans = Spans::default();
        let batch_key = key::single(Table::BatchSeq);
        if let Some(value) = store.get(&batch_key)? {
            spans.batch = BatchSeq(open_value(&batch_key, &value)?);
        }
        read_truncations(&*store, &mut spans)?;
        scan_entries(&*store, &mut spans)?;
        let log = Self { store, spans: Mutex::new(spans) };
        log.check_commits()?;
        Ok(log)
    }

    fn check_commits(&self) -> Result<(), StoreError> {
        let range = key::table(Table::HardState);
        for (key, value) in self.rows(&range)? {
            let shard = key::parse_shard(&key).ok_or_else(|| damaged(&key, "not a key of this table"))?;
            let hard_state = decode_hard_state(&key, &value)?;
            let last = self.span(shard).last.0;
            if hard_state.commit > last {
                let commit = hard_state.commit;
                return Err(damaged(&key, format!("committed up to {commit}, but the log ends at {last}")));
            }
        }
        Ok(())
    }

    fn rows(&self, range: &KeyRange) -> Result<Vec<Row>, StoreError> {
        let (from, to) = range.bounds();
        self.store.scan(from, to, usize::MAX)
    }

    /// Where the shard's log begins and ends, in memory.
    #[must_use]
    pub fn span(&self, shard: ShardId) -> LogSpan {
        self.spans.lock().of(shard)
    }

    /// Number of the newest batch.
    #[must_use]
    pub fn batch_seq(&self) -> BatchSeq {
        self.spans.lock().batch
    }

    /// Writes the appends as one batch: entries, hard states, and the removal of replaced suffixes. Not durable yet.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] when an append would leave a gap, reach below the log or is larger than an entry may
    /// be; other [`StoreError`]s as the store gives them. The process must end.
    pub fn append(&self, batch: &[LogAppend]) -> Result<BatchSeq, StoreError> {
        let writes: Vec<LogWrite> = batch.iter().cloned().map(LogWrite::Append).collect();
        self.write(&writes)
    }

    /// Writes a batch of any writes, in order. Not durable yet. A purge does one chunk.
    ///
    /// # Errors
    /// As [`LogStore::append`].
    pub fn write(&self, writes: &[LogWrite]) -> Result<BatchSeq, StoreError> {
        let mut spans = self.spans.lock();
        let mut batch = WriteBatch::default();
        let mut changed: BTreeMap<ShardId, LogSpan> = BTreeMap::new();
        for write in writes {
            let shard = write.shard();
            let mut span = changed.get(&shard).copied().unwrap_or_else(|| spans.of(shard));
            self.stage(&mut batch, &mut span, write)?;
            changed.insert(shard, span);
        }
        let next = BatchSeq(spans.batch.0 + 1);
        put_value(&mut batch, key::single(Table::BatchSeq), &next.0);
        self.store.apply(batch)?;
        spans.by_shard.extend(changed);
        spans.batch = next;
        Ok(next)
    }

    fn stage(&self, batch: &mut WriteBatch, span: &mut LogSpan, write: &LogWrite) -> Result<(), StoreError> {
        match write {
            LogWrite::Append(append) => stage_append(batch, span, append),
            LogWrite::Purge { shard, below } => self.stage_purge(batch, span, *shard, *below),
            LogWrite::Forget { shard } => {
                stage_forget(batch, span, *shard);
                Ok(())
            }
        }
    }

    fn stage_purge(
        &self,
        batch: &mut WriteBatch,
        span: &mut LogSpan,
        shard: ShardId,
        below: LogIndex,
    ) -> Result<(), StoreError> {
        let first = span.truncated.0.0 + 1;
        let end = below.0.min(span.last.0.0 + 1).min(first + PURGE_KEYS_MAX as u64);
        if end <= first {
            return Ok(());
        }
        let last = LogIndex(end - 1);
        let term = match self.read(shard, last)? {
            Some(entry) => entry.term,
            // Appended by this very batch: it is purged by a later one.
            None => return Ok(()),
        };
        for index in first..end {
            batch.remove(key::log_entry(shard, LogIndex(index)));
        }
        span.truncated = (last, term);
        put_truncated(batch, shard, span.truncated);
        Ok(())
    }

    /// Whether entries below `below` are left to be purged.
    #[must_use]
    pub fn purgeable(&self, shard: ShardId, below: LogIndex) -> bool {
        let span = self.span(shard);
        span.truncated.0.0 + 1 < below.0.min(span.last.0.0 + 1)
    }

    /// Removes the entries below `below` in chunks of [`PURGE_KEYS_MAX`], remembering index and term of the last.
    /// The caller has made sure that the durable state has applied them.
    ///
    /// # Errors
    /// As [`LogStore::append`].
    pub fn purge(&self, shard: ShardId, below: LogIndex) -> Result<(), StoreError> {
        while self.purgeable(shard, below) {
            self.write(&[LogWrite::Purge { shard, below }])?;
        }
        Ok(())
    }

    /// The group as it was last appended.
    ///
    /// # Errors
    /// [`StoreError`] when the row cannot be read.
    pub fn membership(&self, shard: ShardId) -> Result<Option<Membership>, StoreError> {
        let key = key::of_shard(Table::Membership, shard);
        self.store.get(&key)?.map(|value| open_value(&key, &value)).transpose()
    }

    /// What Raft must not forget; the default when nothing was stored yet.
    ///
    /// # Errors
    /// [`StoreError`] when the row cannot be read.
    pub fn hard_state(&self, shard: ShardId) -> Result<HardState, StoreError> {
        let key = key::of_shard(Table::HardState, shard);
        match self.store.get(&key)? {
            Some(value) => decode_hard_state(&key, &value),
            None => Ok(HardState::default()),
        }
    }

    /// What a start needs of one shard; all defaults when it has no log yet.
    ///
    /// # Errors
    /// [`StoreError`] when a row cannot be read.
    pub fn load(&self, shard: ShardId) -> Result<LoadedLog, StoreError> {
        let span = self.span(shard);
        let (index, term) = span.truncated;
        Ok(LoadedLog {
            hard_state: self.hard_state(shard)?,
            membership: self.membership(shard)?.unwrap_or_default(),
            start: LogStart { index, term },
            entries: self.load_tail(shard, span)?,
        })
    }

    /// Reads one shard's entries for its core.
    #[must_use]
    pub fn reader(self: &Arc<Self>, shard: ShardId) -> Box<dyn LogReader> {
        Box::new(ShardReader { log: self.clone(), shard })
    }

    fn load_tail(&self, shard: ShardId, span: LogSpan) -> Result<Vec<LogEntry>, StoreError> {
        let mut tail = Vec::new();
        let mut bytes = 0;
        let mut index = span.last.0;
        while span.contains(index) && span.last.0.0 - index.0 < LOAD_TAIL_ENTRIES {
            let entry = self.read(shard, index)?.ok_or_else(|| missing(shard, index))?;
            bytes += entry.payload.len();
            // The last entry is always there: the core takes it for the end of the log.
            if bytes > LOAD_TAIL_BYTES && !tail.is_empty() {
                break;
            }
            tail.push(entry);
            index = LogIndex(index.0 - 1);
        }
        tail.reverse();
        Ok(tail)
    }

    /// Entries `low..high` in order, cut after the entry that reaches `max_bytes` of payload. Empty when `low` is
    /// purged or beyond the end.
    ///
    /// # Errors
    /// [`StoreError`] when a row cannot be read or is missing.
    pub fn entries(
        &self,
        shard: ShardId,
        low: LogIndex,
        high: LogIndex,
        max_bytes: usize,
    ) -> Result<Vec<LogEntry>, StoreError> {
        let span = self.span(shard);
        let high = LogIndex(high.0.min(span.last.0.0 + 1));
        let mut entries = Vec::new();
        let mut bytes = 0;
        let mut next = low;
        while span.contains(next) && next < high {
            let range = key::log_entries(shard, next, high);
            let (from, to) = range.bounds();
            let rows = self.store.scan(from, to, 64)?;
            if rows.is_empty() {
                return Err(missing(shard, next));
            }
            for (key, value) in rows {
                let entry = decode_entry_row(&key, &value)?;
                if entry.index != next {
                    return Err(missing(shard, next));
                }
                bytes += entry.payload.len();
                entries.push(entry);
                next = next.next();
                if bytes >= max_bytes {
                    return Ok(entries);
                }
            }
        }
        Ok(entries)
    }

    /// The term of an entry, or of the last one purged; `None` for other indexes.
    ///
    /// # Errors
    /// [`StoreError`] when the row cannot be read.
    pub fn term(&self, shard: ShardId, index: LogIndex) -> Result<Option<Term>, StoreError> {
        let span = self.span(shard);
        for (known, term) in [span.truncated, span.last] {
            if index == known {
                return Ok(Some(term));
            }
        }
        Ok(self.read(shard, index)?.map(|entry| entry.term))
    }

    fn read(&self, shard: ShardId, index: LogIndex) -> Result<Option<LogEntry>, StoreError> {
        let key = key::log_entry(shard, index);
        self.store.get(&key)?.map(|value| decode_entry_row(&key, &value)).transpose()
    }

    /// Makes every batch so far durable.
    ///
    /// # Errors
    /// [`StoreError`]; the process must end.
    pub fn sync(&self) -> Result<(), StoreError> {
        self.store.sync()
    }

    pub(crate) fn store(&self) -> &Arc<dyn Store> {
        &self.store
    }
}

impl LogWrite {
    #[must_use]
    pub fn shard(&self) -> ShardId {
        match self {
            Self::Append(append) => append.shard,
            Self::Purge { shard, .. } | Self::Forget { shard } => *shard,
        }
    }

    /// Approximate size on disk.
    #[must_use]
    pub fn bytes(&self) -> usize {
        match self {
            Self::Append(append) => append.entries.iter().map(|entry| entry.payload.len() + 48).sum::<usize>() + 48,
            Self::Purge { .. } | Self::Forget { .. } => PURGE_KEYS_MAX * 16,
        }
    }
}

fn stage_forget(batch: &mut WriteBatch, span: &mut LogSpan, shard: ShardId) {
    for index in span.truncated.0.0 + 1..=span.last.0.0 {
        batch.remove(key::log_entry(shard, LogIndex(index)));
    }
    for table in [Table::HardState, Table::Truncated, Table::Membership] {
        batch.remove(key::of_shard(table, shard));
    }
    *span = LogSpan::default();
}

/// Lets a shard's log begin at `start`, without entries.
fn stage_start(batch: &mut WriteBatch, span: &mut LogSpan, shard: ShardId, start: LogStart) {
    for index in span.truncated.0.0 + 1..=span.last.0.0 {
        batch.remove(key::log_entry(shard, LogIndex(index)));
    }
    let truncated = (start.index, start.term);
    *span = LogSpan { truncated, last: truncated };
    put_truncated(batch, shard, truncated);
}

fn stage_append(batch: &mut WriteBatch, span: &mut LogSpan, append: &LogAppend) -> Result<(), StoreError> {
    let shard = append.shard;
    if let Some(start) = append.start {
        stage_start(batch, span, shard, start);
    }
    if let Some(first) = append.entries.first().map(|entry| entry.index) {
        let reachable = span.truncated.0 < first && first <= span.last.0.next();
        if !reachable {
            let what = format!("append at {first} to the log {span:?} of shard {shard}");
            return Err(StoreError::Corrupt { what });
        }
        for index in append.entries.len() as u64 + first.0..=span.last.0.0 {
            batch.remove(key::log_entry(shard, LogIndex(index)));
        }
        for (entry, offset) in append.entries.iter().zip(0..) {
            if entry.index.0 != first.0 + offset || entry.payload.len() > PAYLOAD_BYTES_MAX {
                let what = format!("entry {} of {} bytes in an append at {first}", entry.index, entry.payload.len());
                return Err(StoreError::Corrupt { what });
            }
            put_entry(batch, shard, entry)?;
            span.last = (entry.index, entry.term);
        }
    }
    if let Some(hard_state) = &append.hard_state {
        put_hard_state(batch, shard, hard_state);
    }
    if let Some(membership) = &append.membership {
        put_value(batch, key::of_shard(Table::Membership, shard), membership);
    }
    Ok(())
}

fn missing(shard: ShardId, index: LogIndex) -> StoreError {
    StoreError::Corrupt { what: format!("entry {index} of shard {shard} is missing") }
}

fn read_truncations(store: &dyn Store, spans: &mut Spans) -> Result<(), StoreError> {
    let range = key::table(Table::Truncated);
    let (from, to) = range.bounds();
    for (key, value) in store.scan(from, to, usize::MAX)? {
        let shard = key::parse_shard(&key).ok_or_else(|| damaged(&key, "not a key of this table"))?;
        let truncated = open_value(&key, &value)?;
        spans.by_shard.insert(shard, LogSpan { truncated, last: truncated });
    }
    Ok(())
}

/// Extends the spans by every entry, which must follow the one before it.
fn scan_entries(store: &dyn Store, spans: &mut Spans) -> Result<(), StoreError> {
    let mut range = key::table(Table::LogEntry);
    loop {
        let (from, to) = range.bounds();
        let rows = store.scan(from, to, SCAN_ROWS)?;
        let Some((last_key, _)) = rows.last() else { return Ok(()) };
        range = KeyRange { from: range.from.clone(), to: range.to.clone() }.after(last_key.clone());
        for (key, value) in &rows {
            let (shard, index) = key::parse_log_entry(key).ok_or_else(|| damaged(key, "not a log key"))?;
            let entry = decode_entry_row(key, value)?;
            let span = spans.by_shard.entry(shard).or_default();
            if index != span.last.0.next() {
                return Err(missing(shard, span.last.0.next()));
            }
            if entry.term < span.last.1 {
                return Err(damaged(key, "term goes back"));
            }
            span.last = (index, entry.term);
        }
    }
}

#[cfg(test)]
#[path = "log_store_tests.rs"]
mod tests;

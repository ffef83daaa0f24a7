//! Salvage of a folder that does not open any more: what can still be read goes into a new folder, and what is lost is
//! said, piece by piece. The damaged folder is only read.
//!
//! States are taken as they are; one that is damaged is made again from its journal when that is whole. Derived rows are
//! made anew. Entries of the log beyond the state are taken as far as they are contiguous; a shard whose log ends
//! before its state goes on from its state.

use crate::persistence::backup::BackupError;
use crate::persistence::backup_file::{EntryItem, ShardLog};
use crate::persistence::codec::open_value;
use crate::persistence::effect_rows::effect_rows;
use crate::persistence::folder::{FolderFiles, OpenOptions, lock, read_header, watermark_of};
use crate::persistence::folder_builder::FolderBuilder;
use crate::persistence::key::{self, KeyRange, Table};
use crate::persistence::key_store::KeyStore;
use crate::persistence::log::{LogStart, Membership};
use crate::persistence::log_rows::decode_entry_row;
use crate::persistence::log_store::FOUNDING_INDEX;
use crate::persistence::ring::RingFile;
use crate::persistence::state_store::{
    AppliedRow, StateRow, StateStore, decode_idempotency, decode_journal, decode_state, put_state,
};
use crate::persistence::store::{Row, Store, StoreError, WriteBatch};
use crate::persistence::stores::Stores;
use crate::types::ids::{EntityKey, LogIndex, META_SHARD, NodeId, ShardId, Term, Version};
use crate::types::kind::KindTable;
use std::collections::HashSet;
use std::fmt;
use std::path::Path;
use std::sync::Arc;

/// Losses that are listed one by one; the rest is counted.
pub const LOSSES_LISTED_MAX: usize = 1_000;

/// Something that was not saved, or not as it was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Loss {
    /// A database cannot be opened at all.
    Database { what: &'static str, cause: String },
    /// A part of a table cannot be read.
    Unreadable { shard: ShardId, table: Table, cause: String },
    /// An entity's state is damaged, and its journal is not whole.
    Entity { shard: ShardId, key: EntityKey },
    /// The state was damaged and has been made again from the journal. Nothing is lost.
    Rebuilt { shard: ShardId, key: EntityKey },
    /// Records of an entity's history; its state is saved.
    Records { shard: ShardId, key: EntityKey, version: Version },
    /// Stored replies: a repeat of these requests is decided afresh.
    Reply { shard: ShardId },
    /// Acknowledged writes after this index, if there were any.
    LogTail { shard: ShardId, after: LogIndex },
    /// The state up to this index: the log does not reach back to its beginning.
    State { shard: ShardId, up_to: LogIndex },
    /// How far the shard was applied is not known; its log is applied again from its start.
    Applied { shard: ShardId },
    /// Wrapped data keys: the personal data under them stays sealed for good.
    Keys { cause: String },
}

impl fmt::Display for Loss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Database { what, cause } => write!(f, "the {what} database does not open: {cause}"),
            Self::Unreadable { shard, table, cause } => write!(f, "shard {shard}: part of {table:?}: {cause}"),
            Self::Entity { shard, key } => write!(f, "shard {shard}: {key:?} is lost"),
            Self::Rebuilt { shard, key } => write!(f, "shard {shard}: {key:?} was made again from its journal"),
            Self::Records { shard, key, version } => {
                write!(f, "shard {shard}: record {version} of {key:?} is lost from its history")
            }
            Self::Reply { shard } => write!(f, "shard {shard}: a stored reply is lost"),
            Self::LogTail { shard, after } => {
                write!(f, "shard {shard}: whatever was acknowledged after log index {after} is lost")
            }
            Self::State { shard, up_to } => write!(f, "shard {shard}: the state up to log index {up_to} is lost"),
            Self::Applied { shard } => write!(f, "shard {shard}: applied index unknown, its log is applied again"),
            Self::Keys { cause } => write!(f, "data keys: {cause}"),
        }
    }
}

/// The account of a salvage.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SalvageReport {
    pub entities: u64,
    pub entries: u64,
    pub keys: u64,
    /// The first [`LOSSES_LISTED_MAX`].
    pub losses: Vec<Loss>,
    pub loss_count: u64,
}

impl SalvageReport {
    fn note(&mut self, loss: Loss) {
        self.loss_count += 1;
        if self.losses.len() < LOSSES_LISTED_MAX {
            self.losses.push(loss);
        }
    }
}

impl fmt::Display for SalvageReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for loss in &self.losses {
            writeln!(f, "{loss}")?;
        }
        let unlisted = self.loss_count - self.losses.len() as u64;
        if unlisted > 0 {
            writeln!(f, "and {unlisted} more")?;
        }
        write!(f, "saved: {} entities, {} log entries, {} data keys", self.entities, self.entries, self.keys)
    }
}

/// Reads what can be read of `from`, and, when `into` is given, makes a new folder of it. Without it nothing is
/// written, and the report says what would be lost.
///
/// # Errors
/// [`BackupError`] when the header is damaged, the folder is in use, or the new folder cannot be written.
pub fn salvage(
    from: &Path,
    into: Option<&Path>,
    kinds: &KindTable,
    options: &OpenOptions,
) -> Result<SalvageReport, BackupError> {
    let _lock = lock(from)?;
    let header = read_header(from)?;
    let files = FolderFiles::read(from)?;
    let mut report = SalvageReport::default();
    let mut open = |what: &'static str, store: Result<Arc<dyn Store>, StoreError>| match store {
        Ok(store) => Some(store),
        Err(error) => {
            report.note(Loss::Database { what, cause: error.to_string() });
            None
        }
    };
    let log = open("log", Stores::open_log(from, options));
    let (state, keys) = match Stores::open_state(from, options) {
        Ok((state, keys)) => (Some(state), Some(keys)),
        Err(error) => (open("state", Err(error)), None),
    };
    let target = match into {
        Some(dir) => {
            std::fs::create_dir_all(dir).map_err(StoreError::Io)?;
            Some(FolderBuilder::create(dir, options, &header, &files)?)
        }
        None => None,
    };
    let torn = log.as_ref().is_some_and(|log| is_torn(&**log, from));
    for shard in (0..header.shards).map(ShardId).chain([META_SHARD]) {
        let (target, seen) = (target.as_ref(), HashSet::new());
        let mut source = Source { shard, node: header.node, torn, kinds, target, seen, report: &mut report };
        source.shard(state.as_ref(), log.as_ref())?;
    }
    salvage_keys(keys, target.as_ref(), &mut report)?;
    if let (Some(target), Some(dir)) = (target, into) {
        target.finish()?;
        FolderFiles::whole(dir)?;
    }
    Ok(report)
}

/// Whether the log ends before what it had made durable.
fn is_torn(log: &dyn Store, from: &Path) -> bool {
    let row_key = key::single(Table::BatchSeq);
    let row = log.get(&row_key).ok().flatten();
    let have: Option<u64> = row.and_then(|value| open_value(&row_key, &value).ok());
    match watermark_of(from) {
        Ok(watermark) => have.unwrap_or(0) < watermark.0,
        Err(_) => true,
    }
}

fn salvage_keys(
    keys: Option<Arc<dyn Store>>,
    target: Option<&FolderBuilder>,
    report: &mut SalvageReport,
) -> Result<(), BackupError> {
    let Some(keys) = keys.map(|keys| KeyStore::new(keys, RingFile::memory())) else { return Ok(()) };
    let mut after = None;
    loop {
        match keys.page(after) {
            Ok(page) => {
                let Some((last, _)) = page.last() else { return Ok(()) };
                after = Some(*last);
                report.keys += page.len() as u64;
                if let Some(target) = target {
                    target.keys(page)?;
                }
            }
            Err(error) => {
                report.note(Loss::Keys { cause: error.to_string() });
                return Ok(());
            }
        }
    }
}

/// One shard of a damaged folder.
struct Source<'a> {
    shard: ShardId,
    node: NodeId,
    /// The log has lost its end.
    torn: bool,
    kinds: &'a KindTable,
    target: Option<&'a FolderBuilder>,
    /// Entities that were saved or given up.
    seen: HashSet<EntityKey>,
    report: &'a mut SalvageReport,
}

impl Source<'_> {
    fn shard(&mut self, state: Option<&Arc<dyn Store>>, log: Option<&Arc<dyn Store>>) -> Result<(), BackupError> {
        let shard = self.shard;
        let mut applied = AppliedRow::default();
        if let Some(store) = state {
            let state = StateStore::new(store.clone());
            match state.applied(shard) {
                Ok(row) => applied = row,
                Err(_) => self.report.note(Loss::Applied { shard }),
            }
            self.states(&state)?;
            self.journal(&state)?;
            self.replies(&**store)?;
        }
        let (log, entries) = self.log(log, &mut applied)?;
        let known = applied.index > LogIndex(0) || log.start.index > LogIndex(0) || !entries.is_empty();
        self.report.entries += entries.len() as u64;
        if let Some(target) = self.target.filter(|_| known) {
            target.shard(shard, &applied, log, entries)?;
        }
        Ok(())
    }

    fn put(&self, rows: Vec<Row>) -> Result<(), BackupError> {
        match self.target {
            Some(target) if !rows.is_empty() => Ok(target.rows(self.shard, rows)?),
            Some(_) | None => Ok(()),
        }
    }

    /// Reads the rows of a table one by one; where reading fails, the rest of the shard's table is lost.
    fn table(
        &mut self,
        store: &dyn Store,
        table: Table,
        mut each: impl FnMut(&mut Self, Row) -> Result<(), BackupError>,
    ) -> Result<(), BackupError> {
        let mut range = key::shard_rows(table, self.shard);
        loop {
            let (from, to) = range.bounds();
            let rows = match store.scan(from, to, 1) {
                Ok(rows) => rows,
                Err(error) => {
                    let cause = error.to_string();
                    self.report.note(Loss::Unreadable { shard: self.shard, table, cause });
                    return Ok(());
                }
            };
            let Some(row) = rows.into_iter().next() else { return Ok(()) };
            range = KeyRange { ..range }.after(row.0.clone());
            each(self, row)?;
        }
    }

    fn states(&mut self, state: &StateStore) -> Result<(), BackupError> {
        self.table(state.store(), Table::State, |source, (row_key, value)| {
            let Some((_, entity)) = key::parse_state(&row_key) else { return Ok(()) };
            source.entity(state, entity, decode_state(&row_key, &value).ok())
        })
    }

    /// Saves an entity, from its row or from its journal.
    fn entity(&mut self, state: &StateStore, entity: EntityKey, row: Option<StateRow>) -> Result<(), BackupError> {
        let shard = self.shard;
        self.seen.insert(entity);
        let row = row.or_else(|| self.rebuild(state, entity));
        let live = row.as_ref().zip(self.kinds.get(entity.kind));
        let live = live.and_then(|(row, kind)| kind.load(entity, Some(&row.state)).ok());
        let (Some(row), Some(live)) = (row, live) else {
            self.report.note(Loss::Entity { shard, key: entity });
            return Ok(());
        };
        self.report.entities += 1;
        let mut batch = WriteBatch::default();
        put_state(&mut batch, shard, &entity, row.version, &row.state);
        let state_row = batch.operations.into_iter().filter_map(|(row_key, value)| Some((row_key, value?)));
        self.put(state_row.chain(effect_rows(shard, entity, &live.wants())).collect())
    }

    /// The state as its whole journal gives it.
    fn rebuild(&mut self, state: &StateStore, entity: EntityKey) -> Option<StateRow> {
        let records = state.journal(self.shard, &entity, Version(0), usize::MAX).ok()?;
        let mut live = self.kinds.get(entity.kind)?.load(entity, None).ok()?;
        let mut reached = Version(0);
        for record in records {
            if record.version != reached.next() {
                return None;
            }
            live.evolve(&record.events).ok()?;
            reached = record.version;
        }
        if reached == Version(0) {
            return None;
        }
        self.report.note(Loss::Rebuilt { shard: self.shard, key: entity });
        Some(StateRow { version: reached, state: live.encode() })
    }

    fn journal(&mut self, state: &StateStore) -> Result<(), BackupError> {
        let shard = self.shard;
        self.table(state.store(), Table::Journal, |source, (row_key, value)| {
            let Some((_, key, version)) = key::parse_journal(&row_key) else { return Ok(()) };
            if !source.seen.contains(&key) {
                source.entity(state, key, None)?;
            }
            match decode_journal(&row_key, &value) {
                Ok(_) => source.put(vec![(row_key, value)]),
                Err(_) => {
                    source.report.note(Loss::Records { shard, key, version });
                    Ok(())
                }
            }
        })
    }

    fn replies(&mut self, store: &dyn Store) -> Result<(), BackupError> {
        let shard = self.shard;
        self.table(store, Table::Idempotency, |source, (row_key, value)| match decode_idempotency(&row_key, &value) {
            Ok(_) => source.put(vec![(row_key, value)]),
            Err(_) => {
                source.report.note(Loss::Reply { shard });
                Ok(())
            }
        })
    }

    /// The log beyond the applied index, as far as it is contiguous and whole. Where the state is missing but the log
    /// does not begin at the beginning, the log's start becomes the applied index.
    fn log(
        &mut self,
        log: Option<&Arc<dyn Store>>,
        applied: &mut AppliedRow,
    ) -> Result<(ShardLog, Vec<EntryItem>), BackupError> {
        let shard = self.shard;
        let Some(store) = log else {
            self.report.note(Loss::LogTail { shard, after: applied.index });
            return Ok((self.log_alone(applied), Vec::new()));
        };
        let truncated: Option<(LogIndex, Term)> = value(&**store, Table::Truncated, shard);
        let hard_state: Option<(Term, u64, LogIndex)> = value(&**store, Table::HardState, shard);
        let membership: Option<Membership> = value(&**store, Table::Membership, shard);
        let (index, term) = truncated.unwrap_or_default();
        let mut start = LogStart { index: applied.index, term: applied.term };
        if applied.index == LogIndex(0) {
            start = LogStart { index, term };
            if index > FOUNDING_INDEX {
                *applied = AppliedRow { index, term, ..*applied };
                self.report.note(Loss::State { shard, up_to: index });
            }
        }
        let (entries, whole) = self.entries(&**store, start)?;
        let last = entries.last().map_or((start.index, start.term), |(index, term, _, _)| (*index, *term));
        let (known_term, vote, commit) = hard_state.unwrap_or_default();
        if !whole || self.torn || commit > last.0 {
            self.report.note(Loss::LogTail { shard, after: last.0 });
        }
        let alone = self.log_alone(applied);
        let membership = membership.unwrap_or(alone.membership);
        Ok((ShardLog { start, hard_state: (known_term.max(last.1), vote, commit), membership }, entries))
    }

    /// Entries after `start`, up to the first that is missing or damaged, and whether there was none such.
    fn entries(&mut self, store: &dyn Store, start: LogStart) -> Result<(Vec<EntryItem>, bool), BackupError> {
        let mut entries: Vec<EntryItem> = Vec::new();
        let mut last = (start.index, start.term);
        let mut whole = true;
        self.table(store, Table::LogEntry, |_, (row_key, value)| {
            let index = key::parse_log_entry(&row_key).map_or(LogIndex(0), |(_, index)| index);
            if index <= last.0 || !whole {
                return Ok(());
            }
            match decode_entry_row(&row_key, &value) {
                Ok(entry) if index == last.0.next() && entry.term >= last.1 => {
                    last = (index, entry.term);
                    entries.push((index, entry.term, entry.entry_type, entry.payload));
                }
                Ok(_) | Err(_) => whole = false,
            }
            Ok(())
        })?;
        Ok((entries, whole))
    }

    /// A log that begins where the state is, with this node as the lone voter.
    fn log_alone(&self, applied: &AppliedRow) -> ShardLog {
        let start = LogStart { index: applied.index, term: applied.term };
        let membership = Membership { index: applied.index, voters: vec![self.node.0], ..Membership::default() };
        ShardLog { start, hard_state: (applied.term, 0, applied.index), membership }
    }
}

/// A row of a table that has one for each shard, if it can be read.
fn value<T: serde::de::DeserializeOwned>(store: &dyn Store, table: Table, shard: ShardId) -> Option<T> {
    let row_key = key::of_shard(table, shard);
    open_value(&row_key, &store.get(&row_key).ok()??).ok()
}

#[cfg(test)]
#[path = "salvage_tests.rs"]
mod tests;

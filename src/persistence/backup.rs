//! Backup and restore of a data folder.
//!
//! A backup holds each shard's state as of one applied index, and the entries of the log beyond it; it can be taken
//! while the node runs. Wrapped data keys, period keys and the cluster's secret are exported to a file of their own:
//! without it a backup tells nothing about a person, and what was erased since stays erased.

use crate::persistence::backup_file::{
    BackupFileError, BackupItem, EntryItem, ItemReader, ItemWriter, KeysItem, ShardLog,
};
use crate::persistence::folder::{Folder, FolderFiles, OpenError, OpenOptions};
use crate::persistence::folder_builder::FolderBuilder;
use crate::persistence::header::Header;
use crate::persistence::log::LogStart;
use crate::persistence::snapshot::SnapshotError;
use crate::persistence::state_store::AppliedRow;
use crate::persistence::store::StoreError;
use crate::types::ids::{LogIndex, META_SHARD, ShardId};
use std::fs;
use std::path::{Path, PathBuf};

/// Rows of one item.
const ITEM_BYTES: usize = 256 << 10;

/// A backup or a restore came to nothing. What was there before is untouched.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    #[error(transparent)]
    File(#[from] BackupFileError),
    #[error(transparent)]
    Open(#[from] OpenError),
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The node writes faster than the backup is taken.
    #[error("shard {shard} changes faster than it can be copied: try again at a quieter time")]
    TooBusy { shard: ShardId },
    #[error("{dir} is not empty: restore into a new folder")]
    NotEmpty { dir: PathBuf },
    #[error("the keys in {path} belong to another cluster than the backup")]
    OtherKeys { path: PathBuf },
    #[error("{dir} lacks {name}: the folder's keys cannot be exported")]
    MissingFile { dir: PathBuf, name: &'static str },
}

/// What was written or read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BackupReport {
    pub rows: u64,
    /// Entries of the log that the state did not show yet.
    pub entries: u64,
    pub keys: u64,
    /// Size of the backup file; 0 from a restore.
    pub bytes: u64,
}

/// Writes a backup of an open folder, running or not.
///
/// # Errors
/// [`BackupError`]; no file is left under the name.
pub fn backup(folder: &Folder, file: &Path) -> Result<BackupReport, BackupError> {
    let mut out = ItemWriter::create(file)?;
    let mut report = BackupReport::default();
    out.put(&BackupItem::Folder { header: folder.header().encode() })?;
    for shard in (0..folder.shards).map(ShardId).chain([META_SHARD]) {
        if let Err(error) = backup_shard(folder, shard, &mut out, &mut report) {
            folder.state.end_export(shard);
            return Err(error);
        }
    }
    report.bytes = out.finish()?;
    Ok(report)
}

fn backup_shard(
    folder: &Folder,
    shard: ShardId,
    out: &mut ItemWriter<BackupItem>,
    report: &mut BackupReport,
) -> Result<(), BackupError> {
    let lost = |error| match error {
        SnapshotError::Store(error) => BackupError::Store(error),
        SnapshotError::Lost | SnapshotError::OutOfOrder { .. } => BackupError::TooBusy { shard },
    };
    let mut chunk = folder.state.export(shard, None, ITEM_BYTES).map_err(lost)?;
    let applied = chunk.applied;
    // Read at once: a running node purges its log some time after the state has it.
    let (log, entries) = log_from(folder, shard, &applied)?;
    loop {
        report.rows += chunk.rows.len() as u64;
        out.put(&BackupItem::Rows { shard, rows: chunk.rows })?;
        match chunk.next {
            Some(cursor) => chunk = folder.state.export(shard, Some(cursor), ITEM_BYTES).map_err(lost)?,
            None => break,
        }
    }
    report.entries += entries.len() as u64;
    for entries in pieces(entries) {
        out.put(&BackupItem::Entries { shard, entries })?;
    }
    out.put(&BackupItem::Shard { shard, applied, log })?;
    Ok(())
}

/// Entries in runs that fit an item.
fn pieces(entries: Vec<EntryItem>) -> Vec<Vec<EntryItem>> {
    let mut pieces = Vec::new();
    let mut bytes = usize::MAX;
    for entry in entries {
        bytes = bytes.saturating_add(entry.3.len());
        if bytes > ITEM_BYTES {
            bytes = entry.3.len();
            pieces.push(Vec::new());
        }
        pieces.last_mut().expect("one was just begun").push(entry);
    }
    pieces
}

/// The log beyond the applied index, as it must be taken up again.
pub(crate) fn log_from(
    folder: &Folder,
    shard: ShardId,
    applied: &AppliedRow,
) -> Result<(ShardLog, Vec<EntryItem>), BackupError> {
    let span = folder.log.span(shard);
    let start = if applied.index > LogIndex(0) {
        LogStart { index: applied.index, term: applied.term }
    } else {
        LogStart { index: span.truncated.0, term: span.truncated.1 }
    };
    let mut entries = Vec::new();
    let mut next = start.index.next();
    while next <= span.last.0 {
        let some = folder.log.entries(shard, next, span.last.0.next(), ITEM_BYTES)?;
        let Some(last) = some.last() else { return Err(BackupError::TooBusy { shard }) };
        next = last.index.next();
        entries.extend(some.into_iter().map(|entry| (entry.index, entry.term, entry.entry_type, entry.payload)));
    }
    let hard_state = folder.log.hard_state(shard)?;
    let hard_state = (hard_state.term, hard_state.vote, hard_state.commit);
    let membership = folder.log.membership(shard)?.unwrap_or_default();
    Ok((ShardLog { start, hard_state, membership }, entries))
}

/// Writes the wrapped data keys, the period keys and the cluster's secret, all sealed under the master key.
///
/// # Errors
/// [`BackupError`]; no file is left under the name.
pub fn export_keys(folder: &Folder, file: &Path) -> Result<BackupReport, BackupError> {
    let files = FolderFiles::read(&folder.dir)?;
    let missing = |name| BackupError::MissingFile { dir: folder.dir.clone(), name };
    let secret = files.secret.ok_or_else(|| missing("cluster.secret"))?;
    let periods = files.periods.ok_or_else(|| missing("periods"))?;
    let mut out = ItemWriter::create(file)?;
    out.put(&KeysItem::Cluster { cluster: folder.cluster, secret, periods })?;
    let mut report = BackupReport::default();
    let mut after = None;
    loop {
        let page = folder.keys.page(after)?;
        let Some((last, _)) = page.last() else { break };
        after = Some(*last);
        report.keys += page.len() as u64;
        out.put(&KeysItem::Keys(page))?;
    }
    report.bytes = out.finish()?;
    Ok(report)
}

/// Makes a new folder from a backup and exported keys. Without keys, personal data stays sealed for good, and links
/// and ids that hang on the cluster's secret are dead; the caller has made sure that this is meant.
///
/// # Errors
/// [`BackupError`]; the unfinished folder is not one that opens.
pub fn restore(
    dir: &Path,
    file: &Path,
    keys: Option<&Path>,
    options: &OpenOptions,
) -> Result<BackupReport, BackupError> {
    if dir.exists() && fs::read_dir(dir).map_err(StoreError::Io)?.next().is_some() {
        return Err(BackupError::NotEmpty { dir: dir.to_owned() });
    }
    let mut items = ItemReader::<BackupItem>::open(file)?;
    let header = match items.next()? {
        Some(BackupItem::Folder { header }) => Header::decode(&header).map_err(|_| items.damaged())?,
        Some(_) | None => return Err(items.damaged().into()),
    };
    let mut report = BackupReport::default();
    let (files, wrapped) = match keys {
        Some(path) => read_keys(path, &header)?,
        None => (FolderFiles::default(), Vec::new()),
    };
    fs::create_dir_all(dir).map_err(StoreError::Io)?;
    let builder = FolderBuilder::create(dir, options, &header, &files)?;
    for page in wrapped {
        report.keys += page.len() as u64;
        builder.keys(page)?;
    }
    fill(&builder, &mut items, &mut report)?;
    builder.finish()?;
    FolderFiles::whole(dir)?;
    Ok(report)
}

fn fill(
    builder: &FolderBuilder,
    items: &mut ItemReader<BackupItem>,
    report: &mut BackupReport,
) -> Result<(), BackupError> {
    let mut pending: Vec<EntryItem> = Vec::new();
    while let Some(item) = items.next()? {
        match item {
            BackupItem::Rows { shard, rows } => {
                report.rows += rows.len() as u64;
                builder.rows(shard, rows)?;
            }
            BackupItem::Entries { entries, .. } => pending.extend(entries),
            BackupItem::Shard { shard, applied, log } => {
                report.entries += pending.len() as u64;
                builder.shard(shard, &applied, log, std::mem::take(&mut pending))?;
            }
            BackupItem::Folder { .. } | BackupItem::End { .. } => return Err(items.damaged().into()),
        }
    }
    Ok(())
}

type KeyPages = Vec<Vec<(crate::types::ids::EntityKey, crate::types::record::WrappedKey)>>;

fn read_keys(path: &Path, header: &Header) -> Result<(FolderFiles, KeyPages), BackupError> {
    let mut items = ItemReader::<KeysItem>::open(path)?;
    let mut files = FolderFiles::default();
    let mut pages = Vec::new();
    while let Some(item) = items.next()? {
        match item {
            KeysItem::Cluster { cluster, secret, periods } => {
                if cluster != header.cluster {
                    return Err(BackupError::OtherKeys { path: path.to_owned() });
                }
                files = FolderFiles { secret: Some(secret), periods: Some(periods) };
            }
            KeysItem::Keys(page) => pages.push(page),
            KeysItem::End { .. } => return Err(items.damaged().into()),
        }
    }
    Ok((files, pages))
}

#[cfg(test)]
#[path = "backup_tests.rs"]
mod tests;

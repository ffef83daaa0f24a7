//! `bojagi vault rotate`: a new period key over all data keys of a stopped node, and the end of the old ones.
//!
//! A data key's record stays in the log for a while. An old period key is dropped only when no entry of the log holds a
//! data key under it: the log of a group with a single voter is purged up to what is applied first; with more voters
//! the peers may still need it, and the drop waits for a later run.

use crate::app::clock::SystemClock;
use crate::app::{AppError, folder};
use crate::cli::FolderArgs;
use crate::persistence::folder::Folder;
use crate::persistence::store::StoreError;
use crate::persistence::vault::VaultError;
use crate::replication::entry::decode_entry;
use crate::types::ids::{LogIndex, ShardId};
use crate::types::record::{EntryBody, VaultChange};
use crate::types::time::{Clock, Timestamp};
use std::collections::BTreeSet;
use std::fmt;

/// Log read at a time.
const READ_BYTES: usize = 1 << 20;

/// What a rotation did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rotation {
    /// The new period.
    pub period: u32,
    /// Periods whose keys are gone: what was erased under them is erased for good.
    pub dropped: Vec<u32>,
    /// Periods that the log still holds data keys under.
    pub kept: Vec<u32>,
}

impl fmt::Display for Rotation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "all data keys are wrapped under period key {}", self.period)?;
        match self.dropped.as_slice() {
            [] => writeln!(f, "no period key was dropped")?,
            dropped => writeln!(f, "dropped period keys {dropped:?}: what was erased before is erased for good")?,
        }
        match self.kept.as_slice() {
            [] => write!(f, "no older period key is kept"),
            kept => {
                write!(f, "kept period keys {kept:?}: the log still holds data keys under them; run this again later")
            }
        }
    }
}

/// Rotates the period key of a stopped node's folder and says what it did.
///
/// # Errors
/// [`AppError`]; a repeat goes on where it stopped.
pub fn rotate(args: &FolderArgs) -> Result<(), AppError> {
    let folder = Folder::open(&args.data, folder::options(args)?)?;
    println!("{}", rotate_folder(&folder, SystemClock::new().now())?);
    Ok(())
}

/// As [`rotate`], on an open folder that no node works on.
///
/// # Errors
/// As [`rotate`].
pub fn rotate_folder(folder: &Folder, now: Timestamp) -> Result<Rotation, AppError> {
    folder.keys.sync()?;
    folder.state.sync()?;
    let period = folder.vault.rotate().map_err(vault_error)?;
    let mut in_log = BTreeSet::new();
    for shard in (0..folder.shards).map(ShardId) {
        purge(folder, shard)?;
        in_log.extend(periods_in_log(folder, shard)?);
    }
    folder.log.sync()?;
    let mut rotation = Rotation { period, dropped: Vec::new(), kept: Vec::new() };
    for old in folder.vault.periods().1.into_iter().filter(|old| *old != period) {
        // Oldest first: a period behind one that is kept is kept too.
        if in_log.contains(&old) || !rotation.kept.is_empty() {
            rotation.kept.push(old);
        } else {
            folder.vault.drop_period(old, now).map_err(vault_error)?;
            rotation.dropped.push(old);
        }
    }
    Ok(rotation)
}

fn vault_error(error: VaultError) -> AppError {
    match error {
        VaultError::Store(error) => AppError::Store(error),
        other => AppError::Usage(other.to_string()),
    }
}

fn purge(folder: &Folder, shard: ShardId) -> Result<(), StoreError> {
    let group = folder.log.membership(shard)?.unwrap_or_default();
    let members = group.voters.len() + group.learners.len() + group.voters_outgoing.len() + group.learners_next.len();
    if members <= 1 {
        folder.log.purge(shard, folder.state.applied(shard)?.index.next())?;
    }
    Ok(())
}

/// Periods of the data keys that the shard's log puts.
fn periods_in_log(folder: &Folder, shard: ShardId) -> Result<BTreeSet<u32>, AppError> {
    let mut periods = BTreeSet::new();
    let mut next = folder.log.span(shard).truncated.0.next();
    loop {
        let entries = folder.log.entries(shard, next, LogIndex(u64::MAX), READ_BYTES)?;
        let Some(last) = entries.last() else { return Ok(periods) };
        next = last.index.next();
        for entry in entries.iter().filter(|entry| entry.entry_type == 0 && !entry.payload.is_empty()) {
            let what = || format!("entry {} of shard {shard} does not decode: run `bojagi verify`", entry.index);
            match decode_entry(&entry.payload).map_err(|_| AppError::Usage(what()))? {
                EntryBody::Claim(_) => {}
                EntryBody::Records { records, .. } => {
                    periods.extend(records.iter().filter_map(|record| match &record.vault {
                        VaultChange::Put(wrapped) => Some(wrapped.period),
                        VaultChange::None | VaultChange::Erase | VaultChange::Forget => None,
                    }))
                }
            }
        }
    }
}

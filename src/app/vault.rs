//! `bojagi vault rotate`: a new period key over all data keys of a stopped node, and the end of the old ones.
//!
//! A data key's record stays in the log for a while. An old period key is dropped only when no entry of the log holds a
//! data key under it: the log is purged up to what is applied first. Refused in a cluster of several: each folder has period
//! keys of its own, and peers could not open what is wrapped under a new one.

use crate::app::clock::SystemClock;
use crate::app::{AppError, folder};
use crate::cli::FolderArgs;
use crate::persistence::folder::Folder;
use crate::persistence::store::StoreError;
use crate::persistence::vault::VaultError;
use crate::replication::entry::decode_entry;
use crate::types::ids::{LogIndex, META_SHARD, ShardId};
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
/// [`AppError::Usage`] when the node has peers, and nothing was done; any other [`AppError`]: a repeat goes on where it
/// stopped.
pub fn rotate(args: &FolderArgs) -> Result<(), AppError> {
    let folder = Folder::open(&args.data, folder::of_a_node(args)?)?;
    println!("{}", rotate_folder(&folder, SystemClock::new().now())?);
    Ok(())
}

/// As [`rotate`], on an open folder that no node works on.
///
/// # Errors
/// As [`rotate`].
pub fn rotate_folder(folder: &Folder, now: Timestamp) -> Result<Rotation, AppError> {
    if is_in_a_cluster(folder)? {
        return Err(AppError::Usage(
            "this node has peers: each folder has its own period keys, and they could not open what is wrapped under a new \
             one of this node alone"
                .to_owned(),
        ));
    }
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

/// Whether some shard has another replica elsewhere.
fn is_in_a_cluster(folder: &Folder) -> Result<bool, StoreError> {
    for shard in (0..folder.shards).map(ShardId).chain([META_SHARD]) {
        let group = folder.log.membership(shard)?.unwrap_or_default();
        let parts = [&group.voters, &group.learners, &group.voters_outgoing, &group.learners_next];
        if parts.iter().map(|part| part.len()).sum::<usize>() > 1 {
            return Ok(true);
        }
    }
    Ok(false)
}

fn purge(folder: &Folder, shard: ShardId) -> Result<(), StoreError> {
    folder.log.purge(shard, folder.state.applied(shard)?.index.next())
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::persistence::folder::OpenOptions;
    use crate::persistence::log::{LogAppend, Membership};

    #[test]
    fn the_keys_of_a_node_with_peers_stay_as_they_are() {
        let dir = tempfile::tempdir().unwrap();
        let options = OpenOptions { shards: 4, create: true, ballast_bytes: 0, ..OpenOptions::default() };
        let folder = Folder::open(&dir.path().join("node"), options).unwrap();
        let before = folder.vault.periods();
        let group = Membership { voters: vec![1, 2], ..Membership::default() };
        let (entries, membership) = (Vec::new(), Some(group));
        let append = LogAppend { shard: ShardId(3), number: 1, entries, hard_state: None, membership, start: None };
        folder.log.append(&[append]).unwrap();
        assert!(matches!(rotate_folder(&folder, Timestamp(0)), Err(AppError::Usage(_))));
        assert_eq!(folder.vault.periods(), before);
    }
}

//! Makes the data folder of a new cluster of one out of a backup of a cluster: each shard's rows as they were scanned,
//! then the entries beyond them, applied as a replica applies them.

use crate::persistence::backup_file::ShardLog;
use crate::persistence::cluster_backup::{BackupReader, ClusterBackupError, ShardFacts};
use crate::persistence::folder::{FolderFiles, OpenError, OpenOptions, refuse_strangers};
use crate::persistence::folder_builder::FolderBuilder;
use crate::persistence::header::Header;
use crate::persistence::key::{self, Table};
use crate::persistence::log::{LogStart, Membership};
use crate::persistence::store::StoreError;
use crate::replication::apply::{Applier, ApplyError};
use crate::replication::copying::with_keys;
use crate::types::ids::{Incarnation, LogIndex, NodeId, ShardId};
use crate::types::kind::KindTable;
use std::fs;
use std::path::{Path, PathBuf};

/// A backup was not restored. The unfinished folder is not one that opens.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    #[error(transparent)]
    Backup(#[from] ClusterBackupError),
    #[error(transparent)]
    Open(#[from] OpenError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Apply(#[from] ApplyError),
    #[error("{dir} exists already: restore into a new folder")]
    Exists { dir: PathBuf },
}

/// One shard as it was restored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RestoredShard {
    pub facts: ShardFacts,
    pub entities: u64,
}

/// What was restored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Restored {
    pub shards: Vec<RestoredShard>,
    /// The new cluster.
    pub cluster: [u8; 16],
}

/// Makes the folder of node 1 of a new cluster, whose groups have one voter each: the peer that `founder` names. Of the
/// old cluster it has the secret and the data keys, and nothing else: not its id, nor any of its nodes' starts.
///
/// # Errors
/// [`RestoreError`].
pub fn restore(
    dir: &Path,
    from: &BackupReader,
    options: &OpenOptions,
    kinds: KindTable,
    founder: impl Fn(ShardId) -> u64,
) -> Result<Restored, RestoreError> {
    if dir.exists() {
        return Err(RestoreError::Exists { dir: dir.to_owned() });
    }
    fs::create_dir_all(dir).map_err(OpenError::Io)?;
    refuse_strangers(dir)?;
    let header = new_header(from, options);
    let (secret, periods) = (Some(from.identity.secret.clone()), Some(from.identity.periods.clone()));
    let builder = FolderBuilder::create(dir, options, &header, &FolderFiles { secret, periods })?;
    from.keys(|keys| Ok::<(), RestoreError>(builder.keys(keys)?))?;
    for facts in &from.manifest.shards {
        from.rows(facts, |rows| Ok::<(), RestoreError>(builder.rows(facts.shard, rows)?))?;
        builder.applied(facts.shard, &facts.applied)?;
    }
    let applier = Applier::new(kinds, builder.state(), builder.key_store());
    from.tails(|shard, entries, keys| {
        applier.apply(shard, &with_keys(shard, entries, keys)?)?;
        Ok::<(), RestoreError>(())
    })?;
    let mut shards = Vec::new();
    for facts in &from.manifest.shards {
        found(&builder, &applier, facts, founder(facts.shard))?;
        shards.push(RestoredShard { facts: *facts, entities: count_entities(&builder, facts.shard)? });
    }
    drop(applier);
    builder.finish()?;
    FolderFiles::whole(dir)?;
    Ok(Restored { shards, cluster: header.cluster })
}

fn new_header(from: &BackupReader, options: &OpenOptions) -> Header {
    let shards = from.identity.shards;
    let mut header = Header { cluster: [0; 16], folder: [0; 16], node: NodeId(1), incarnation: Incarnation(0), shards };
    (options.random)(&mut header.cluster);
    header
}

/// Begins the shard's group anew with one voter, whose log goes on behind what the state has.
fn found(builder: &FolderBuilder, applier: &Applier, facts: &ShardFacts, peer: u64) -> Result<(), RestoreError> {
    let applied = applier.applied(facts.shard)?;
    if applied.index != facts.reached {
        let what = "its tail does not reach as far as the manifest says";
        return Err(ClusterBackupError::Unfinished { shard: facts.shard, what }.into());
    }
    if applied.index == LogIndex(0) {
        // Nothing was ever written: the group is founded when its node starts.
        return Ok(());
    }
    let start = LogStart { index: applied.index, term: applied.term };
    let membership = Membership { index: start.index, voters: vec![peer], ..Membership::default() };
    let log = ShardLog { start, hard_state: (start.term, 0, start.index), membership };
    builder.shard(facts.shard, &applied, log, Vec::new())?;
    Ok(())
}

fn count_entities(builder: &FolderBuilder, shard: ShardId) -> Result<u64, StoreError> {
    let mut count = 0;
    builder.state().visit(key::shard_rows(Table::State, shard), |_, _| {
        count += 1;
        Ok::<(), StoreError>(())
    })?;
    Ok(count)
}

#[cfg(test)]
#[path = "restoring_tests.rs"]
mod tests;

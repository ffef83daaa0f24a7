//! A backup of a whole cluster on disk: a folder of checksummed files, and the data keys in a file of their own.
//!
//! | name        | what                                                                                    |
//! |-------------|-----------------------------------------------------------------------------------------|
//! | `shard-NNN` | the shard's rows as of one index                                                        |
//! | `tails`     | of all shards, the log entries beyond those indexes, without the data keys they put      |
//! | `manifest`  | what the cluster was, how far each shard goes; written last                              |
//!
//! The folder gets its name when all of it is whole and durable. Each file is one of `backup_file`'s, and says which
//! backup it is of. A shard that was begun again has a higher attempt; what the shared files hold of earlier
//! ones does not count.

use crate::persistence::backup_file::{BackupFileError, EntryItem, FileItem, ItemReader, ItemWriter, unfinished};
use crate::persistence::copying::{LogKey, LogPage, RowsPage};
use crate::persistence::joining::Identity;
use crate::persistence::sled_store::sync_dir;
use crate::persistence::state_store::AppliedRow;
use crate::persistence::store::{Row, StoreError};
use crate::types::ids::{EntityKey, LogIndex, ShardId};
use crate::types::record::WrappedKey;
use crate::types::time::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// Names one backup, in all of its files.
pub type BackupId = [u8; 16];

/// A shard in a finished backup. Persisted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShardFacts {
    pub shard: ShardId,
    /// The attempt that counts, from 1.
    pub attempt: u32,
    /// What the rows show.
    pub applied: AppliedRow,
    /// Up to where the tails go.
    pub reached: LogIndex,
    /// When it had reached that, by the clock of the node that was asked.
    pub at: Timestamp,
    pub rows: u64,
    pub entries: u64,
}

/// What a backup is of. Persisted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    pub backup: BackupId,
    pub cluster: [u8; 16],
    pub shards: Vec<ShardFacts>,
    /// The operator's view of the cluster as JSON: members, replicas, feature level. For information only.
    pub view: String,
}

macro_rules! file_items {
    ($($(#[$doc:meta])* $name:ident $magic:literal { $($(#[$of:meta])* $variant:ident { $($field:ident: $type:ty),+ })+ })+) => {$(
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
        pub(crate) enum $name {
            $($(#[$of])* $variant { $($field: $type),+ },)+
            End { items: u64 },
        }

        impl FileItem for $name {
            const MAGIC: &'static [u8; 8] = $magic;
            fn end(items: u64) -> Self {
                Self::End { items }
            }
            fn as_end(&self) -> Option<u64> {
                match self {
                    Self::End { items } => Some(*items),
                    $(Self::$variant { .. } => None,)+
                }
            }
        }
    )+};
}

file_items! {
    /// An item of `shard-NNN`. Persisted: add sorts of files, not variants.
    RowsItem b"BOJAGI-S" {
        Of { backup: BackupId, shard: ShardId, applied: AppliedRow }
        Rows { rows: Vec<Row> }
    }
    /// An item of `tails`. Persisted: add sorts of files, not variants.
    TailItem b"BOJAGI-T" {
        Of { backup: BackupId }
        /// With the number of keys that the keys' file has for these entries.
        Tail { shard: ShardId, attempt: u32, entries: Vec<EntryItem>, keys: u32 }
    }
    /// The item of `manifest`. Persisted: add sorts of files, not variants.
    ManifestItem b"BOJAGI-M" {
        Of { manifest: Manifest }
    }
    /// An item of the keys' file. Persisted: add sorts of files, not variants.
    CopiedKeysItem b"BOJAGI-Y" {
        Of { backup: BackupId, identity: Identity }
        Keys { shard: ShardId, attempt: u32, keys: Vec<(EntityKey, WrappedKey)> }
        /// For each tail that has keys, in the order of the tails.
        TailKeys { shard: ShardId, attempt: u32, keys: Vec<LogKey> }
    }
}

/// A backup of a cluster cannot be made or read.
#[derive(Debug, thiserror::Error)]
pub enum ClusterBackupError {
    #[error(transparent)]
    File(#[from] BackupFileError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("{path} exists already: nothing was written")]
    Exists { path: PathBuf },
    #[error("{path} is left of a backup that did not finish: remove it first")]
    LeftOver { path: PathBuf },
    #[error("{path} belongs to another backup")]
    Mixed { path: PathBuf },
    #[error("shard {shard} of the backup is not whole: {what}")]
    Unfinished { shard: ShardId, what: &'static str },
}

fn shard_file(dir: &Path, shard: ShardId) -> PathBuf {
    dir.join(format!("shard-{:03}", shard.0))
}

/// A backup that is being written. Dropped unfinished, it takes away what it has written.
pub struct BackupWriter {
    dir: PathBuf,
    fresh: PathBuf,
    keys_path: PathBuf,
    backup: BackupId,
    cluster: [u8; 16],
    tails: Option<ItemWriter<TailItem>>,
    keys: Option<ItemWriter<CopiedKeysItem>>,
    shards: BTreeMap<ShardId, ShardFacts>,
    finished: bool,
}

/// The rows of one shard on their way to disk.
pub struct RowsWriter {
    file: ItemWriter<RowsItem>,
    facts: ShardFacts,
    next: u32,
}

impl BackupWriter {
    /// Begins a backup in a folder that does not exist, with the keys in a file that does not exist.
    ///
    /// # Errors
    /// [`ClusterBackupError`]; nothing was written.
    pub fn create(dir: &Path, keys: &Path, backup: BackupId, identity: Identity) -> Result<Self, ClusterBackupError> {
        let fresh = unfinished(dir);
        for path in [dir, keys] {
            if path.exists() {
                return Err(ClusterBackupError::Exists { path: path.to_owned() });
            }
        }
        if fresh.exists() {
            return Err(ClusterBackupError::LeftOver { path: fresh });
        }
        let (cluster, keys_path) = (identity.cluster, keys.to_owned());
        let mut keys = ItemWriter::create(&keys_path)?;
        keys.put(&CopiedKeysItem::Of { backup, identity })?;
        let mut writer = Self {
            dir: dir.to_owned(),
            fresh,
            keys_path,
            backup,
            cluster,
            tails: None,
            keys: Some(keys),
            shards: BTreeMap::new(),
            finished: false,
        };
        fs::create_dir_all(&writer.fresh).map_err(StoreError::Io)?;
        let mut tails = ItemWriter::create(&writer.fresh.join("tails"))?;
        tails.put(&TailItem::Of { backup })?;
        writer.tails = Some(tails);
        Ok(writer)
    }

    /// Begins a shard, anew if need be, with its first page.
    ///
    /// # Errors
    /// [`ClusterBackupError`]; the backup is of no use.
    pub fn begin_shard(&mut self, shard: ShardId, applied: AppliedRow) -> Result<RowsWriter, ClusterBackupError> {
        let attempt = self.shards.get(&shard).map_or(1, |before| before.attempt + 1);
        let reached = applied.index;
        let facts = ShardFacts { shard, attempt, applied, reached, at: Timestamp(0), rows: 0, entries: 0 };
        self.shards.insert(shard, facts);
        let mut file = ItemWriter::create(&shard_file(&self.fresh, shard))?;
        file.put(&RowsItem::Of { backup: self.backup, shard, applied })?;
        Ok(RowsWriter { file, facts, next: 0 })
    }

    /// Adds the next page of a shard. `false`: it does not follow, the shard must begin again.
    ///
    /// # Errors
    /// As [`BackupWriter::begin_shard`].
    pub fn rows(&mut self, rows: &mut RowsWriter, page: RowsPage) -> Result<bool, ClusterBackupError> {
        if page.number != rows.next || page.applied != rows.facts.applied {
            return Ok(false);
        }
        rows.next += 1;
        rows.facts.rows += page.rows.len() as u64;
        rows.file.put(&RowsItem::Rows { rows: page.rows })?;
        if !page.keys.is_empty() {
            let ShardFacts { shard, attempt, .. } = rows.facts;
            self.keys()?.put(&CopiedKeysItem::Keys { shard, attempt, keys: page.keys })?;
        }
        Ok(true)
    }

    /// All rows of the shard are there.
    ///
    /// # Errors
    /// As [`BackupWriter::begin_shard`].
    pub fn end_shard(&mut self, rows: RowsWriter) -> Result<(), ClusterBackupError> {
        let RowsWriter { file, facts, .. } = rows;
        file.finish()?;
        // Its tail may have been followed meanwhile.
        self.shards.entry(facts.shard).and_modify(|known| known.rows = facts.rows);
        Ok(())
    }

    /// How far a shard is.
    #[must_use]
    pub fn facts(&self, shard: ShardId) -> Option<ShardFacts> {
        self.shards.get(&shard).copied()
    }

    /// Adds entries to a shard that was begun. `false`: they do not follow.
    ///
    /// # Errors
    /// As [`BackupWriter::begin_shard`].
    pub fn tail(&mut self, shard: ShardId, page: LogPage) -> Result<bool, ClusterBackupError> {
        let missing = ClusterBackupError::Unfinished { shard, what: "it was not begun" };
        let mut facts = self.facts(shard).ok_or(missing)?;
        for (index, ..) in &page.entries {
            if *index != facts.reached.next() {
                return Ok(false);
            }
            facts.reached = *index;
        }
        facts.at = page.at;
        facts.entries += page.entries.len() as u64;
        let (attempt, keys) = (facts.attempt, page.keys);
        if !page.entries.is_empty() {
            let count = u32::try_from(keys.len()).expect("a page holds few entries");
            let item = TailItem::Tail { shard, attempt, entries: page.entries, keys: count };
            self.tails.as_mut().ok_or_else(closed)?.put(&item)?;
        }
        if !keys.is_empty() {
            self.keys()?.put(&CopiedKeysItem::TailKeys { shard, attempt, keys })?;
        }
        self.shards.insert(shard, facts);
        Ok(true)
    }

    fn keys(&mut self) -> Result<&mut ItemWriter<CopiedKeysItem>, StoreError> {
        self.keys.as_mut().ok_or_else(closed)
    }

    /// Makes everything durable and gives the backup its name.
    ///
    /// # Errors
    /// [`ClusterBackupError`]; there is no backup under the name.
    pub fn finish(mut self, view: String) -> Result<Manifest, ClusterBackupError> {
        let shards = self.shards.values().copied().collect();
        let manifest = Manifest { backup: self.backup, cluster: self.cluster, shards, view };
        self.tails.take().ok_or_else(closed)?.finish()?;
        self.keys.take().ok_or_else(closed)?.finish()?;
        let mut file = ItemWriter::create(&self.fresh.join("manifest"))?;
        file.put(&ManifestItem::Of { manifest: manifest.clone() })?;
        file.finish()?;
        fs::rename(&self.fresh, &self.dir).map_err(StoreError::Io)?;
        self.finished = true;
        let parent = self.dir.parent().filter(|parent| !parent.as_os_str().is_empty());
        sync_dir(parent.unwrap_or(Path::new(".")))?;
        Ok(manifest)
    }
}

fn closed() -> StoreError {
    StoreError::Corrupt { what: "the backup is finished".to_owned() }
}

impl Drop for BackupWriter {
    fn drop(&mut self) {
        if self.finished {
            return;
        }
        // What cannot be removed is refused as left over by the next backup, or is a keys' file without its backup.
        let _kept = fs::remove_dir_all(&self.fresh);
        let _kept = fs::remove_file(unfinished(&self.keys_path));
        if self.keys.is_none() {
            let _kept = fs::remove_file(&self.keys_path);
        }
    }
}

/// A finished backup.
pub struct BackupReader {
    pub manifest: Manifest,
    pub identity: Identity,
    dir: PathBuf,
    keys_path: PathBuf,
}

impl BackupReader {
    /// Opens a backup and its keys.
    ///
    /// # Errors
    /// [`ClusterBackupError`]: damaged, unfinished, or of two different backups.
    pub fn open(dir: &Path, keys: &Path) -> Result<Self, ClusterBackupError> {
        let mut file = ItemReader::<ManifestItem>::open(&dir.join("manifest"))?;
        let Some(ManifestItem::Of { manifest }) = file.next()? else { return Err(file.damaged().into()) };
        if file.next()?.is_some() {
            return Err(file.damaged().into());
        }
        let mut file = ItemReader::<CopiedKeysItem>::open(keys)?;
        let Some(CopiedKeysItem::Of { backup, identity }) = file.next()? else { return Err(file.damaged().into()) };
        if backup != manifest.backup || identity.cluster != manifest.cluster {
            return Err(ClusterBackupError::Mixed { path: keys.to_owned() });
        }
        let whole = manifest.shards.iter().map(|facts| facts.shard.0).eq(0..identity.shards);
        if !whole {
            return Err(ClusterBackupError::Unfinished { shard: ShardId(0), what: "shards are missing" });
        }
        Ok(Self { manifest, identity, dir: dir.to_owned(), keys_path: keys.to_owned() })
    }

    fn facts(&self, shard: ShardId) -> Option<&ShardFacts> {
        self.manifest.shards.get(usize::from(shard.0))
    }

    fn counts(&self, shard: ShardId, attempt: u32) -> bool {
        self.facts(shard).is_some_and(|facts| facts.attempt == attempt)
    }

    /// Gives the rows of a shard to `each`, all of them or an error.
    ///
    /// # Errors
    /// [`ClusterBackupError`], also as `each` gives it.
    pub fn rows<E: From<ClusterBackupError>>(
        &self,
        facts: &ShardFacts,
        mut each: impl FnMut(Vec<Row>) -> Result<(), E>,
    ) -> Result<(), E> {
        let path = shard_file(&self.dir, facts.shard);
        let mut file = ItemReader::<RowsItem>::open(&path).map_err(ClusterBackupError::File)?;
        let mut count = 0;
        let of = RowsItem::Of { backup: self.manifest.backup, shard: facts.shard, applied: facts.applied };
        if file.next().map_err(ClusterBackupError::File)? != Some(of) {
            return Err(ClusterBackupError::Mixed { path }.into());
        }
        while let Some(item) = file.next().map_err(ClusterBackupError::File)? {
            let RowsItem::Rows { rows } = item else { return Err(ClusterBackupError::from(file.damaged()).into()) };
            count += rows.len() as u64;
            each(rows)?;
        }
        if count != facts.rows {
            return Err(ClusterBackupError::Unfinished { shard: facts.shard, what: "rows are missing" }.into());
        }
        Ok(())
    }

    /// Gives the data keys of the rows to `each`.
    ///
    /// # Errors
    /// [`ClusterBackupError`], also as `each` gives it.
    pub fn keys<E: From<ClusterBackupError>>(
        &self,
        mut each: impl FnMut(Vec<(EntityKey, WrappedKey)>) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut file = ItemReader::<CopiedKeysItem>::open(&self.keys_path).map_err(ClusterBackupError::File)?;
        while let Some(item) = file.next().map_err(ClusterBackupError::File)? {
            match item {
                CopiedKeysItem::Keys { shard, attempt, keys } if self.counts(shard, attempt) => each(keys)?,
                CopiedKeysItem::Of { .. }
                | CopiedKeysItem::Keys { .. }
                | CopiedKeysItem::TailKeys { .. }
                | CopiedKeysItem::End { .. } => {}
            }
        }
        Ok(())
    }

    /// Gives the tails to `each`, with the keys that belong into them, in the order in which they were written.
    ///
    /// # Errors
    /// [`ClusterBackupError`], also as `each` gives it.
    pub fn tails<E: From<ClusterBackupError>>(
        &self,
        mut each: impl FnMut(ShardId, Vec<EntryItem>, Vec<LogKey>) -> Result<(), E>,
    ) -> Result<(), E> {
        let path = self.dir.join("tails");
        let mut file = ItemReader::<TailItem>::open(&path).map_err(ClusterBackupError::File)?;
        let mut keys = ItemReader::<CopiedKeysItem>::open(&self.keys_path).map_err(ClusterBackupError::File)?;
        if file.next().map_err(ClusterBackupError::File)? != Some(TailItem::Of { backup: self.manifest.backup }) {
            return Err(ClusterBackupError::Mixed { path }.into());
        }
        while let Some(item) = file.next().map_err(ClusterBackupError::File)? {
            let TailItem::Tail { shard, attempt, entries, keys: count } = item else {
                return Err(ClusterBackupError::from(file.damaged()).into());
            };
            let of_tail = if count == 0 { Vec::new() } else { next_keys(&mut keys, shard, attempt)? };
            if of_tail.len() as u64 != u64::from(count) {
                return Err(ClusterBackupError::from(keys.damaged()).into());
            }
            if self.counts(shard, attempt) {
                each(shard, entries, of_tail)?;
            }
        }
        Ok(())
    }
}

/// The keys of the next tail that has some, which must be this one.
fn next_keys(
    file: &mut ItemReader<CopiedKeysItem>,
    shard: ShardId,
    attempt: u32,
) -> Result<Vec<LogKey>, ClusterBackupError> {
    loop {
        match file.next()? {
            Some(CopiedKeysItem::TailKeys { shard: of, attempt: at, keys }) if (of, at) == (shard, attempt) => {
                return Ok(keys);
            }
            Some(CopiedKeysItem::Of { .. } | CopiedKeysItem::Keys { .. }) => {}
            Some(CopiedKeysItem::TailKeys { .. } | CopiedKeysItem::End { .. }) | None => {
                return Err(file.damaged().into());
            }
        }
    }
}

#[cfg(test)]
#[path = "cluster_backup_tests.rs"]
mod tests;

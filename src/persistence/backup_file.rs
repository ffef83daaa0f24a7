//! The file of a backup, and of exported keys: a sequence of checksummed items that ends with a count.
//!
//! Layout: `magic (8) ‖ format, big-endian (2)`, then for each item `length, big-endian (4) ‖ frame of the encoded
//! item`. The frame's context is magic and item number, so that items cannot be lost, moved or mixed unseen.

use crate::persistence::codec::{FRAME_BYTES, frame_value, unframe_value};
use crate::persistence::log::{LogStart, Membership};
use crate::persistence::sled_store::{io_error, sync_dir};
use crate::persistence::state_store::AppliedRow;
use crate::persistence::store::{Row, StoreError};
use crate::types::codec;
use crate::types::ids::{EntityKey, LogIndex, ShardId, Term};
use crate::types::limits::DECODE_BYTES_MAX;
use crate::types::record::WrappedKey;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use std::fs::{self, File, OpenOptions};
use std::io::{BufReader, BufWriter, Read, Write};
use std::marker::PhantomData;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

const FORMAT: u16 = 1;

/// A sort of file; its magic comes first.
pub(crate) trait FileItem: Serialize + DeserializeOwned {
    const MAGIC: &'static [u8; 8];
    /// The item that ends a whole file, with the number of items before it.
    fn end(items: u64) -> Self;
    fn as_end(&self) -> Option<u64>;
}

/// What a shard's log must go on from.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ShardLog {
    pub(crate) start: LogStart,
    pub(crate) hard_state: (Term, u64, LogIndex),
    pub(crate) membership: Membership,
}

/// One entry beyond the state: index, term, type, payload.
pub type EntryItem = (LogIndex, Term, i32, Vec<u8>);

/// An item of a backup. Persisted: append variants only.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum BackupItem {
    /// First item: the folder's header as it is stored.
    Folder {
        header: Vec<u8>,
    },
    /// Rows of a shard's state, in any number of items, as of `applied`.
    Rows {
        shard: ShardId,
        #[serde(with = "codec::rows")]
        rows: Vec<Row>,
    },
    /// Entries that the state does not show yet, in order.
    Entries {
        shard: ShardId,
        entries: Vec<EntryItem>,
    },
    /// Last item of a shard.
    Shard {
        shard: ShardId,
        applied: AppliedRow,
        log: ShardLog,
    },
    End {
        items: u64,
    },
}

impl FileItem for BackupItem {
    const MAGIC: &'static [u8; 8] = b"BOJAGI-B";
    fn end(items: u64) -> Self {
        Self::End { items }
    }
    fn as_end(&self) -> Option<u64> {
        match self {
            Self::End { items } => Some(*items),
            Self::Folder { .. } | Self::Rows { .. } | Self::Entries { .. } | Self::Shard { .. } => None,
        }
    }
}

/// An item of exported keys. Persisted: append variants only.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum KeysItem {
    /// First item: the cluster that the keys belong to, and its files as they are, sealed under the master key.
    Cluster {
        cluster: [u8; 16],
        secret: Vec<u8>,
        periods: Vec<u8>,
    },
    Keys(Vec<(EntityKey, WrappedKey)>),
    End {
        items: u64,
    },
}

impl FileItem for KeysItem {
    const MAGIC: &'static [u8; 8] = b"BOJAGI-K";
    fn end(items: u64) -> Self {
        Self::End { items }
    }
    fn as_end(&self) -> Option<u64> {
        match self {
            Self::End { items } => Some(*items),
            Self::Cluster { .. } | Self::Keys(_) => None,
        }
    }
}

/// A backup file cannot be written or read.
#[derive(Debug, thiserror::Error)]
pub enum BackupFileError {
    #[error("{path}: {cause}")]
    Store { path: PathBuf, cause: StoreError },
    #[error("{path} is not a file of this sort")]
    Foreign { path: PathBuf },
    #[error("{path} has format {format}, newer than this build knows: use a newer build")]
    Newer { path: PathBuf, format: u16 },
    #[error("{path} is damaged or cut off at item {item}: use another backup")]
    Damaged { path: PathBuf, item: u64 },
}

fn context<T: FileItem>(item: u64) -> Vec<u8> {
    [T::MAGIC.as_slice(), &item.to_be_bytes()].concat()
}

/// Where something is written until it is whole: beside its place, under a name that nothing else of the backup has.
pub(crate) fn unfinished(path: &Path) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".part");
    path.with_file_name(name)
}

/// Writes a file that appears under its name only when it is whole and durable.
pub(crate) struct ItemWriter<T> {
    file: BufWriter<File>,
    path: PathBuf,
    fresh: PathBuf,
    items: u64,
    of: PhantomData<fn(T)>,
}

impl<T: FileItem> ItemWriter<T> {
    pub(crate) fn create(path: &Path) -> Result<Self, BackupFileError> {
        let fresh = unfinished(path);
        let open = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&fresh);
        let head = [T::MAGIC.as_slice(), &FORMAT.to_be_bytes()].concat();
        let start = open.and_then(|file| {
            let mut file = BufWriter::new(file);
            file.write_all(&head).map(|()| file)
        });
        let path = path.to_owned();
        match start {
            Ok(file) => Ok(Self { file, path, fresh, items: 0, of: PhantomData }),
            Err(error) => Err(BackupFileError::Store { path, cause: io_error(error) }),
        }
    }

    pub(crate) fn put(&mut self, item: &T) -> Result<(), BackupFileError> {
        let framed = frame_value(&context::<T>(self.items), item);
        let length = u32::try_from(framed.len()).expect("an item is at most a few MiB");
        let written = self.file.write_all(&length.to_be_bytes()).and_then(|()| self.file.write_all(&framed));
        written.map_err(|error| BackupFileError::Store { path: self.path.clone(), cause: io_error(error) })?;
        self.items += 1;
        Ok(())
    }

    /// Ends the file, makes it durable and gives it its name. The number of its bytes.
    pub(crate) fn finish(mut self) -> Result<u64, BackupFileError> {
        self.put(&T::end(self.items))?;
        let Self { file, path, fresh, .. } = self;
        let finish = || -> Result<u64, StoreError> {
            let file = file.into_inner().map_err(|error| io_error(error.into_error()))?;
            file.sync_all().map_err(io_error)?;
            let bytes = file.metadata()?.len();
            fs::rename(&fresh, &path)?;
            sync_dir(path.parent().unwrap_or(Path::new(".")))?;
            Ok(bytes)
        };
        finish().map_err(|cause| BackupFileError::Store { path: path.clone(), cause })
    }
}

/// Reads the items of a file in order, and insists on its end.
pub(crate) struct ItemReader<T> {
    file: BufReader<File>,
    path: PathBuf,
    items: u64,
    of: PhantomData<fn() -> T>,
}

impl<T: FileItem> ItemReader<T> {
    pub(crate) fn open(path: &Path) -> Result<Self, BackupFileError> {
        let failed = |error| BackupFileError::Store { path: path.to_owned(), cause: io_error(error) };
        let mut file = BufReader::new(File::open(path).map_err(failed)?);
        let mut head = [0u8; 10];
        let read = file.read_exact(&mut head);
        if read.is_err() || head[..8] != T::MAGIC[..] {
            return Err(BackupFileError::Foreign { path: path.to_owned() });
        }
        let format = u16::from_be_bytes([head[8], head[9]]);
        if format > FORMAT {
            return Err(BackupFileError::Newer { path: path.to_owned(), format });
        }
        Ok(Self { file, path: path.to_owned(), items: 0, of: PhantomData })
    }

    /// The next item; `None` after the last of a whole file.
    pub(crate) fn next(&mut self) -> Result<Option<T>, BackupFileError> {
        let item = self.read().ok_or_else(|| self.damaged())?;
        match item.as_end() {
            Some(items) if items == self.items => Ok(None),
            Some(_) => Err(self.damaged()),
            None => {
                self.items += 1;
                Ok(Some(item))
            }
        }
    }

    pub(crate) fn damaged(&self) -> BackupFileError {
        BackupFileError::Damaged { path: self.path.clone(), item: self.items }
    }

    fn read(&mut self) -> Option<T> {
        let mut length = [0u8; 4];
        self.file.read_exact(&mut length).ok()?;
        let length = usize::try_from(u32::from_be_bytes(length)).ok()?;
        if length > DECODE_BYTES_MAX + FRAME_BYTES {
            return None;
        }
        let mut framed = vec![0; length];
        self.file.read_exact(&mut framed).ok()?;
        unframe_value(&context::<T>(self.items), &framed).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(path: &Path) -> Vec<u8> {
        let mut file = ItemWriter::create(path).unwrap();
        for n in 0..5u8 {
            file.put(&BackupItem::Folder { header: vec![n; 20] }).unwrap();
        }
        file.finish().unwrap();
        fs::read(path).unwrap()
    }

    fn read(path: &Path) -> Result<u64, BackupFileError> {
        let mut file = ItemReader::<BackupItem>::open(path)?;
        let mut items = 0;
        while file.next()?.is_some() {
            items += 1;
        }
        Ok(items)
    }

    #[test]
    fn every_cut_and_every_flipped_byte_is_seen() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("backup");
        let whole = write(&path);
        assert_eq!(read(&path).unwrap(), 5);
        for at in 0..whole.len() {
            fs::write(&path, &whole[..at]).unwrap();
            assert!(read(&path).is_err(), "cut at {at}");
            let mut flipped = whole.clone();
            flipped[at] ^= 0x04;
            fs::write(&path, flipped).unwrap();
            assert!(read(&path).is_err(), "flip at {at}");
        }
        let mut moved = whole[..10].to_vec();
        moved.extend_from_slice(&whole[10 + 4 + 27..]);
        fs::write(&path, moved).unwrap();
        assert!(read(&path).is_err(), "a missing item");
    }

    #[test]
    fn a_file_has_its_golden_bytes_and_sorts_are_told_apart() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("backup");
        let mut file = ItemWriter::create(&path).unwrap();
        file.put(&BackupItem::Folder { header: vec![1, 2] }).unwrap();
        file.finish().unwrap();
        assert_eq!(hex::encode(fs::read(&path).unwrap()), GOLDEN);
        assert!(matches!(ItemReader::<KeysItem>::open(&path), Err(BackupFileError::Foreign { .. })));
    }
    const GOLDEN: &str = concat!("424f4a4147492d420001", "00000009010b5bb8ee00020102", "00000007018aac307c0401");
}

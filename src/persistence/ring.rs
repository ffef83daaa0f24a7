//! The period keys, sealed under the master key, in a small file of their own beside the databases.
//!
//! A database keeps old bytes until it reuses their place; a dropped period key must not. So the file is replaced as
//! a whole and the old one is overwritten with zeros before it goes.

use crate::persistence::codec::{frame, unframe};
use crate::persistence::sled_store::{io_error, sync_dir};
use crate::persistence::store::StoreError;
use crate::persistence::vault::{FillRandom, open_bytes, seal_bytes};
use crate::types::codec;
use crate::types::record::Sealed;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use zeroize::{Zeroize, Zeroizing};

const CONTEXT: &[u8] = b"bojagi period keys";

/// Period keys by number; the highest is the current one.
#[derive(Clone, Default)]
pub struct Ring {
    keys: BTreeMap<u32, Zeroizing<[u8; 32]>>,
}

impl Ring {
    /// Adds a key as the current one and returns its period.
    pub fn add(&mut self, secret: Zeroizing<[u8; 32]>) -> u32 {
        let period = self.keys.last_key_value().map_or(1, |(last, _)| last + 1);
        self.keys.insert(period, secret);
        period
    }

    /// Period and key that new data keys are wrapped under.
    ///
    /// # Panics
    /// On an empty ring, which is never stored.
    #[must_use]
    pub fn current(&self) -> (u32, &[u8; 32]) {
        let (period, secret) = self.keys.last_key_value().expect("a ring has a key from its creation on");
        (*period, secret)
    }

    #[must_use]
    pub fn get(&self, period: u32) -> Option<&[u8; 32]> {
        self.keys.get(&period).map(|secret| &**secret)
    }

    #[must_use]
    pub fn periods(&self) -> Vec<u32> {
        self.keys.keys().copied().collect()
    }

    pub fn remove(&mut self, period: u32) {
        self.keys.remove(&period);
    }

    /// The ring as it is stored.
    #[must_use]
    pub fn seal(&self, master: &[u8; 32], random: FillRandom) -> Vec<u8> {
        let rows: Vec<(u32, [u8; 32])> = self.keys.iter().map(|(period, secret)| (*period, **secret)).collect();
        let plain = Zeroizing::new(codec::encode(&rows));
        let sealed = seal_bytes(master, CONTEXT, &plain, random);
        frame(CONTEXT, &codec::encode(&sealed))
    }

    /// `None` when the bytes are not a ring sealed under this master key.
    #[must_use]
    pub fn open(bytes: &[u8], master: &[u8; 32]) -> Option<Self> {
        let sealed: Sealed = codec::decode(unframe(CONTEXT, bytes).ok()?).ok()?;
        let plain = Zeroizing::new(open_bytes(master, CONTEXT, &sealed.nonce, &sealed.ciphertext)?);
        let mut rows: Vec<(u32, [u8; 32])> = codec::decode(&plain).ok()?;
        let keys: BTreeMap<_, _> = rows.iter().map(|(period, secret)| (*period, Zeroizing::new(*secret))).collect();
        rows.zeroize();
        if keys.is_empty() { None } else { Some(Self { keys }) }
    }
}

/// Where a ring is kept.
#[derive(Clone)]
pub enum RingFile {
    /// As long as its clones live, for the simulator.
    Memory(Arc<Mutex<Option<Vec<u8>>>>),
    At(PathBuf),
}

impl RingFile {
    #[must_use]
    pub fn memory() -> Self {
        Self::Memory(Arc::default())
    }
    #[must_use]
    pub fn at(path: &Path) -> Self {
        Self::At(path.to_owned())
    }

    /// # Errors
    /// [`StoreError`] when there is a file that cannot be read.
    pub fn read(&self) -> Result<Option<Vec<u8>>, StoreError> {
        match self {
            Self::Memory(bytes) => Ok(bytes.lock().clone()),
            Self::At(path) => match fs::read(path) {
                Ok(bytes) => Ok(Some(bytes)),
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
                Err(error) => Err(error.into()),
            },
        }
    }

    /// Replaces the file, durably, and overwrites the old one.
    ///
    /// # Errors
    /// [`StoreError`] when it cannot be written; then the old file is in place.
    pub fn write(&self, bytes: &[u8]) -> Result<(), StoreError> {
        match self {
            Self::Memory(known) => *known.lock() = Some(bytes.to_vec()),
            Self::At(path) => {
                let old = OpenOptions::new().write(true).open(path).ok();
                replace_file(path, bytes)?;
                if let Some(mut old) = old {
                    let length = usize::try_from(old.metadata()?.len()).unwrap_or(0);
                    old.write_all(&vec![0; length]).map_err(io_error)?;
                    old.sync_all()?;
                }
            }
        }
        Ok(())
    }
}

/// Replaces a file that only its owner may read, so that after a power cut the old or the new one is there, whole.
pub(crate) fn replace_file(path: &Path, bytes: &[u8]) -> Result<(), StoreError> {
    let fresh = path.with_extension("new");
    let open = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&fresh);
    let mut file = open.map_err(io_error)?;
    file.write_all(bytes).map_err(io_error)?;
    file.sync_all().map_err(io_error)?;
    fs::rename(&fresh, path)?;
    sync_dir(path.parent().unwrap_or(Path::new(".")))
}

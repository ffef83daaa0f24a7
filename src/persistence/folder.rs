//! A node's data folder: one process at a time, one cluster, one life after another.
//!
//! | name             | what                                                                            |
//! |------------------|---------------------------------------------------------------------------------|
//! | `lock`           | held exclusively by the process that has the folder open                        |
//! | `folder.bin`     | the header: format, cluster, folder, node, incarnation, shards                  |
//! | `starts`         | starts from this folder, by which the cluster knows one that was put back        |
//! | `log/`           | sled: the Raft log                                                              |
//! | `state/`         | sled: states, journals and derived rows; tree `keys`: wrapped data keys         |
//! | `takeovers`      | when this machine applied the claims of each shard                              |
//! | `watermark`      | how far the log must reach                                                      |
//! | `periods`        | period keys, sealed under the master key                                        |
//! | `cluster.secret` | the cluster's secret, sealed under the master key                               |
//! | `master.key`     | the master key, only when none was given (dev): keep it apart in production     |
//! | `ballast`        | space that is given back when the disk is full                                  |
//! | `creating`       | there while the folder is being made: what is there is thrown away              |

use crate::persistence::checks::{MisfitError, check_fit};
use crate::persistence::codec::{frame_value, unframe_value};
use crate::persistence::header::{Header, HeaderError};
use crate::persistence::key_store::KeyStore;
use crate::persistence::log_store::{BatchSeq, LogStore};
use crate::persistence::ring::{RingFile, replace_file};
use crate::persistence::sled_store::sync_dir;
use crate::persistence::starts::{STARTS, StartBook};
use crate::persistence::state_store::StateStore;
use crate::persistence::store::StoreError;
use crate::persistence::stores::{LOG, STATE, Stores};
use crate::persistence::takeovers::TakeoverFile;
use crate::persistence::vault::{FillRandom, Vault, VaultError, open_bytes, seal_bytes};
use crate::persistence::watermark::Watermark;
use crate::types::ids::{Incarnation, NodeId};
use crate::types::limits::SHARDS_MAX;
use crate::types::record::Sealed;
use fs4::fs_std::FileExt;
use std::fs::{self, File, OpenOptions as FileOptions};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The header of a folder that is being made.
const HEADER_FRESH: &str = "folder.fresh";
const LOCK: &str = "lock";
/// A lock that is held is asked for this often, with this pause.
const LOCK_TRIES: u32 = 25;
const LOCK_PAUSE: std::time::Duration = std::time::Duration::from_millis(20);
const HEADER: &str = "folder.bin";
const TAKEOVERS: &str = "takeovers";
const WATERMARK: &str = "watermark";
const PERIODS: &str = "periods";
const SECRET: &str = "cluster.secret";
const MASTER: &str = "master.key";
const BALLAST: &str = "ballast";
const CREATING: &str = "creating";
const SECRET_CONTEXT: &[u8] = b"bojagi cluster secret";

/// How to open a data folder.
#[derive(Clone)]
pub struct OpenOptions {
    /// Shards of a new folder, 1 to [`SHARDS_MAX`]. An old one must have as many, unless this is 0.
    pub shards: u16,
    pub cache_log_bytes: u64,
    pub cache_state_bytes: u64,
    /// Make the folder when there is none.
    pub create: bool,
    /// Size of the ballast file; 0 for none.
    pub ballast_bytes: u64,
    /// Key over the period keys and the cluster's secret. `None`: one is made and kept in the folder.
    pub master_key: Option<[u8; 32]>,
    /// The system's CSPRNG.
    pub random: FillRandom,
    /// Disk faults to order.
    #[cfg(feature = "faults")]
    pub disk_faults: Option<Arc<dyn crate::persistence::faulty_store::DiskFaults>>,
}

impl Default for OpenOptions {
    fn default() -> Self {
        Self {
            shards: 0,
            cache_log_bytes: 64 << 20,
            cache_state_bytes: 256 << 20,
            create: false,
            ballast_bytes: 64 << 20,
            master_key: None,
            random: system_random,
            #[cfg(feature = "faults")]
            disk_faults: None,
        }
    }
}

/// Why a folder cannot be opened. Each message names the way out.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error("there is no data folder at {dir}: give the right folder, or let one be made")]
    NotFound { dir: PathBuf },
    #[error("the data folder {dir} is in use by another process: stop it first, or give another folder")]
    InUse { dir: PathBuf },
    #[error("{dir} holds files that are not a Bojagi data folder: give an empty folder or none at all")]
    Foreign { dir: PathBuf },
    #[error("{dir} is not a data folder, but {below} in it is: give that one")]
    Above { dir: PathBuf, below: PathBuf },
    #[error("the data folder {dir} has format {format}, newer than this build knows: start it with a newer build")]
    Newer { dir: PathBuf, format: u16 },
    #[error("the header of the data folder {dir} is damaged: restore a backup with `bojagi restore`")]
    HeaderDamaged { dir: PathBuf },
    #[error("a cluster has 1 to {SHARDS_MAX} shards, not {asked}")]
    ShardCount { asked: u16 },
    #[error(
        "the data folder has {have} shards, fixed when it was made, not {asked}: set the number in the configuration"
    )]
    OtherShards { have: u16, asked: u16 },
    #[error(
        "the {what} database belongs to another folder: put back the one that belongs here, or restore a backup with \
         `bojagi restore`"
    )]
    Mixed { what: &'static str },
    #[error(transparent)]
    Misfit(#[from] MisfitError),
    #[error(
        "the cluster secret is missing, damaged or under another master key: give the key that the folder was made with, or \
         import exported keys with `bojagi restore --keys`"
    )]
    Secret,
    #[error(transparent)]
    Vault(#[from] VaultError),
    #[error("the disk is full, even without the ballast file: free some space and start again")]
    Full,
    #[error("the data folder cannot be read or written: {0}")]
    Io(#[from] std::io::Error),
}

impl From<StoreError> for OpenError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Io(error) => Self::Io(error),
            StoreError::Full => Self::Full,
            StoreError::Corrupt { .. } => Self::Misfit(MisfitError::Store(error)),
        }
    }
}

/// An open data folder. Held by one process; dropping it releases the lock.
pub struct Folder {
    pub dir: PathBuf,
    pub log: Arc<LogStore>,
    pub state: Arc<StateStore>,
    pub keys: Arc<KeyStore>,
    pub vault: Arc<Vault>,
    watermark: Watermark,
    pub starts: Arc<StartBook>,
    pub takeovers: Arc<TakeoverFile>,
    pub cluster: [u8; 16],
    pub node: NodeId,
    pub incarnation: Incarnation,
    pub shards: u16,
    pub cluster_secret: [u8; 32],
    header: Header,
    ballast: PathBuf,
    _lock: File,
}

impl Folder {
    /// Opens a folder, or makes it, and checks that what it holds fits together.
    ///
    /// # Errors
    /// [`OpenError`]; nothing was changed but the incarnation.
    pub fn open(dir: &Path, options: OpenOptions) -> Result<Self, OpenError> {
        if !dir.exists() && !options.create {
            return Err(OpenError::NotFound { dir: dir.to_owned() });
        }
        fs::create_dir_all(dir)?;
        if !dir.join(CREATING).exists() && !dir.join(HEADER).exists() {
            refuse_strangers(dir)?;
        }
        let lock = lock(dir)?;
        if dir.join(CREATING).exists() && !dir.join(HEADER).exists() {
            clear_half_made(dir)?;
        }
        let header = match fs::read(dir.join(HEADER)) {
            Ok(bytes) => next_life(dir, &bytes, &options)?,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => create(dir, &options)?,
            Err(error) => return Err(error.into()),
        };
        Self::open_stores(dir, &options, header, lock)
    }

    fn open_stores(dir: &Path, options: &OpenOptions, header: Header, lock: File) -> Result<Self, OpenError> {
        let master = master_key(dir, options)?;
        let cluster_secret = read_secret(dir, &master)?;
        let stores = match Stores::open(dir, options) {
            // sled cannot even be opened on a full disk.
            Err(StoreError::Full) => {
                release_ballast(&dir.join(BALLAST))?;
                Stores::open(dir, options)?
            }
            other => other?,
        };
        stores.check_folder(&header.folder)?;
        let watermark = Watermark::open(&dir.join(WATERMARK))?;
        let log = Arc::new(LogStore::open(stores.log)?);
        let state = Arc::new(StateStore::new(stores.state));
        check_fit(&log, &state, watermark.read()?, header.shards)?;
        let keys = Arc::new(KeyStore::new(stores.keys, RingFile::at(&dir.join(PERIODS))));
        let vault = Vault::open_with(keys.clone(), master, options.random)?;
        let starts = Arc::new(StartBook::begin(dir, header.incarnation, options.random)?);
        // The new incarnation counts from here on, before anything of this life is sent or written.
        header.write(&dir.join(HEADER))?;
        let ballast = dir.join(BALLAST);
        if let Err(error) = fill_ballast(&ballast, options.ballast_bytes) {
            tracing::warn!(%error, "no space for the ballast file");
        }
        Ok(Self {
            dir: dir.to_owned(),
            log,
            state,
            keys,
            vault: Arc::new(vault),
            watermark,
            starts,
            takeovers: Arc::new(TakeoverFile::open(&dir.join(TAKEOVERS))),
            cluster: header.cluster,
            node: header.node,
            incarnation: header.incarnation,
            shards: header.shards,
            header,
            cluster_secret,
            ballast,
            _lock: lock,
        })
    }

    /// How far the log must reach; the log writer moves it.
    #[must_use]
    pub fn watermark(&self) -> Watermark {
        self.watermark.clone()
    }

    pub(crate) fn header(&self) -> &Header {
        &self.header
    }

    /// Gives the ballast back to a full disk, so that the process can end in order and start again.
    ///
    /// # Errors
    /// [`OpenError::Io`] when it cannot be removed.
    pub fn release_ballast(&self) -> Result<(), OpenError> {
        release_ballast(&self.ballast)
    }
}

/// The operating system's CSPRNG.
///
/// # Panics
/// When the system has no randomness to give: no secret may be made then.
pub fn system_random(bytes: &mut [u8]) {
    getrandom::fill(bytes).expect("the operating system gives random bytes");
}

/// Takes the folder for this process.
pub(crate) fn lock(dir: &Path) -> Result<File, OpenError> {
    let file = FileOptions::new().create(true).truncate(false).write(true).open(dir.join(LOCK))?;
    // A process that is just ending, or a child between fork and exec, may hold it for a moment more.
    for _ in 0..LOCK_TRIES {
        if file.try_lock_exclusive()? {
            return Ok(file);
        }
        std::thread::sleep(LOCK_PAUSE);
    }
    Err(OpenError::InUse { dir: dir.to_owned() })
}

/// The header of the life that begins.
fn next_life(dir: &Path, bytes: &[u8], options: &OpenOptions) -> Result<Header, OpenError> {
    let header = decode_header(dir, bytes)?;
    if options.shards != 0 && options.shards != header.shards {
        return Err(OpenError::OtherShards { have: header.shards, asked: options.shards });
    }
    Ok(Header { incarnation: header.incarnation.next(), ..header })
}

fn decode_header(dir: &Path, bytes: &[u8]) -> Result<Header, OpenError> {
    let dir = dir.to_owned();
    Header::decode(bytes).map_err(|error| match error {
        HeaderError::Foreign => OpenError::Foreign { dir },
        HeaderError::Newer { format } => OpenError::Newer { dir, format },
        HeaderError::Damaged => OpenError::HeaderDamaged { dir },
    })
}

/// The header as it is, without beginning a new life.
pub(crate) fn read_header(dir: &Path) -> Result<Header, OpenError> {
    let Ok(bytes) = fs::read(dir.join(HEADER)) else {
        refuse_above(dir)?;
        return Err(OpenError::NotFound { dir: dir.to_owned() });
    };
    decode_header(dir, &bytes)
}

/// What the folder's watermark says.
pub(crate) fn watermark_of(dir: &Path) -> Result<BatchSeq, StoreError> {
    Watermark::open(&dir.join(WATERMARK))?.read()
}

/// A folder without a header must be empty: what lies in it is somebody else's.
pub(crate) fn refuse_strangers(dir: &Path) -> Result<(), OpenError> {
    refuse_above(dir)?;
    for entry in fs::read_dir(dir)? {
        let name = entry?.file_name();
        if name != LOCK && name != "lost+found" {
            return Err(OpenError::Foreign { dir: dir.to_owned() });
        }
    }
    Ok(())
}

/// Refuses a folder that is no data folder but holds one: what `bojagi dev` is given holds its node's beside the keys.
///
/// # Errors
/// [`OpenError::Above`] names the one below.
pub fn refuse_above(dir: &Path) -> Result<(), OpenError> {
    if dir.join(HEADER).is_file() {
        return Ok(());
    }
    let Ok(entries) = fs::read_dir(dir) else { return Ok(()) };
    let below = entries.flatten().map(|entry| entry.path()).filter(|path| path.join(HEADER).is_file()).min();
    match below {
        Some(below) => Err(OpenError::Above { dir: dir.to_owned(), below }),
        None => Ok(()),
    }
}

fn create(dir: &Path, options: &OpenOptions) -> Result<Header, OpenError> {
    refuse_strangers(dir)?;
    if !options.create {
        return Err(OpenError::NotFound { dir: dir.to_owned() });
    }
    if !(1..=SHARDS_MAX).contains(&options.shards) {
        return Err(OpenError::ShardCount { asked: options.shards });
    }
    let mut header = Header {
        cluster: [0; 16],
        folder: [0; 16],
        node: NodeId(1),
        incarnation: Incarnation(1),
        shards: options.shards,
    };
    (options.random)(&mut header.cluster);
    (options.random)(&mut header.folder);
    make(dir, options, &header, &FolderFiles::default())?;
    FolderFiles::whole(dir)?;
    Ok(header)
}

/// The sealed files of a folder, as they are.
#[derive(Clone, Default)]
pub(crate) struct FolderFiles {
    pub(crate) secret: Option<Vec<u8>>,
    pub(crate) periods: Option<Vec<u8>>,
}

impl FolderFiles {
    /// Those that the folder has.
    pub(crate) fn read(dir: &Path) -> Result<Self, OpenError> {
        let read = |name| match fs::read(dir.join(name)) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        };
        Ok(Self { secret: read(SECRET)?, periods: read(PERIODS)? })
    }

    /// Takes the mark off a folder that was made: from here on it is one.
    pub(crate) fn whole(dir: &Path) -> Result<(), OpenError> {
        fs::rename(dir.join(HEADER_FRESH), dir.join(HEADER))?;
        fs::remove_file(dir.join(CREATING))?;
        sync_dir(dir)?;
        sync_dir(dir.parent().unwrap_or(Path::new(".")))?;
        Ok(())
    }
}

/// Makes a folder that [`FolderFiles::whole`] will turn into one. What `files` lacks is made anew.
pub(crate) fn make(dir: &Path, options: &OpenOptions, header: &Header, files: &FolderFiles) -> Result<(), OpenError> {
    replace_file(&dir.join(CREATING), b"")?;
    if options.master_key.is_none() {
        let mut master = [0u8; 32];
        (options.random)(&mut master);
        replace_file(&dir.join(MASTER), &master)?;
    }
    let master = master_key(dir, options)?;
    let secret = files.secret.clone().unwrap_or_else(|| {
        let mut secret = [0u8; 32];
        (options.random)(&mut secret);
        frame_value(SECRET_CONTEXT, &seal_bytes(&master, SECRET_CONTEXT, &secret, options.random))
    });
    replace_file(&dir.join(SECRET), &secret)?;
    // A wrong master key is found out before anything is filled in.
    read_secret(dir, &master)?;
    if let Some(periods) = &files.periods {
        replace_file(&dir.join(PERIODS), periods)?;
    }
    Stores::open(dir, options)?.stamp(&header.folder)?;
    header.write(&dir.join(HEADER_FRESH))?;
    Ok(())
}

fn clear_half_made(dir: &Path) -> Result<(), OpenError> {
    for name in [LOG, STATE] {
        match fs::remove_dir_all(dir.join(name)) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error.into()),
            Ok(()) | Err(_) => {}
        }
    }
    for name in [STARTS, TAKEOVERS, WATERMARK, PERIODS, SECRET, MASTER, BALLAST, HEADER_FRESH, CREATING] {
        match fs::remove_file(dir.join(name)) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error.into()),
            Ok(()) | Err(_) => {}
        }
    }
    Ok(())
}

fn master_key(dir: &Path, options: &OpenOptions) -> Result<[u8; 32], OpenError> {
    match options.master_key {
        Some(master) => Ok(master),
        None => fs::read(dir.join(MASTER))
            .ok()
            .and_then(|bytes| bytes.try_into().ok())
            .ok_or(OpenError::Vault(VaultError::WrongMasterKey)),
    }
}

fn read_secret(dir: &Path, master: &[u8; 32]) -> Result<[u8; 32], OpenError> {
    let bytes = fs::read(dir.join(SECRET)).map_err(|_| OpenError::Secret)?;
    let sealed: Sealed = unframe_value(SECRET_CONTEXT, &bytes).map_err(|_| OpenError::Secret)?;
    let secret = open_bytes(master, SECRET_CONTEXT, &sealed.nonce, &sealed.ciphertext).ok_or(OpenError::Secret)?;
    secret.try_into().map_err(|_| OpenError::Secret)
}

fn fill_ballast(path: &Path, bytes: u64) -> Result<(), OpenError> {
    if bytes == 0 || fs::metadata(path).is_ok_and(|known| known.len() >= bytes) {
        return Ok(());
    }
    let file = FileOptions::new().create(true).truncate(false).write(true).open(path)?;
    if let Err(error) = file.allocate(bytes) {
        drop(file);
        fs::remove_file(path)?;
        return Err(error.into());
    }
    Ok(())
}

fn release_ballast(path: &Path) -> Result<(), OpenError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error.into()),
        Ok(()) | Err(_) => Ok(()),
    }
}

#[cfg(test)]
#[path = "folder_tests.rs"]
mod tests;

//! The three stores of a data folder: log, state and wrapped data keys.

use crate::persistence::codec::{frame, open_row};
#[cfg(feature = "faults")]
use crate::persistence::faulty_store;
use crate::persistence::folder::{OpenError, OpenOptions};
use crate::persistence::key::{self, Table};
use crate::persistence::sled_store::SledStore;
use crate::persistence::store::{Store, StoreError, WriteBatch};
use crate::persistence::write_behind::WriteBehind;
use std::path::Path;
use std::sync::Arc;

/// Folders of the databases, and the state's tree of wrapped keys.
pub(crate) const LOG: &str = "log";
pub(crate) const STATE: &str = "state";
const KEYS_TREE: &str = "keys";

/// The state's store and that of the wrapped data keys.
type StateAndKeys = (Arc<dyn Store>, Arc<dyn Store>);

/// The three stores of a folder.
pub(crate) struct Stores {
    pub(crate) log: Arc<dyn Store>,
    pub(crate) state: Arc<dyn Store>,
    pub(crate) keys: Arc<dyn Store>,
}

impl Stores {
    pub(crate) fn open(dir: &Path, options: &OpenOptions) -> Result<Self, StoreError> {
        let log = Self::open_log(dir, options)?;
        let (state, keys) = Self::open_state(dir, options)?;
        Ok(Self { log, state, keys })
    }

    pub(crate) fn open_log(dir: &Path, options: &OpenOptions) -> Result<Arc<dyn Store>, StoreError> {
        #[cfg(feature = "faults")]
        faulty_store::check_room(options.disk_faults.as_ref())?;
        let log: Arc<dyn Store> = Arc::new(SledStore::open(&dir.join(LOG), options.cache_log_bytes)?);
        #[cfg(feature = "faults")]
        let log = faulty_store::over(log, options.disk_faults.as_ref());
        Ok(log)
    }

    /// The state's rows, and the tree of wrapped keys beside them.
    pub(crate) fn open_state(dir: &Path, options: &OpenOptions) -> Result<StateAndKeys, StoreError> {
        let state = SledStore::open(&dir.join(STATE), options.cache_state_bytes)?.reading_ahead();
        let keys: Arc<dyn Store> = Arc::new(state.sibling(KEYS_TREE)?);
        let state: Arc<dyn Store> = Arc::new(state);
        #[cfg(feature = "faults")]
        let (state, keys) = (
            faulty_store::over(state, options.disk_faults.as_ref()),
            faulty_store::over(keys, options.disk_faults.as_ref()),
        );
        Ok((Arc::new(WriteBehind::start(state)?), keys))
    }

    fn tables(&self) -> [(&Arc<dyn Store>, Table, &'static str); 3] {
        [
            (&self.log, Table::LogFolder, "log"),
            (&self.state, Table::StateFolder, "state"),
            (&self.keys, Table::KeysFolder, "keys"),
        ]
    }

    /// Marks them as belonging together.
    ///
    /// # Errors
    /// [`StoreError`] of a store that cannot be written.
    pub(crate) fn stamp(&self, folder: &[u8; 16]) -> Result<(), StoreError> {
        for (store, table, _) in self.tables() {
            let row_key = key::single(table);
            let mut batch = WriteBatch::default();
            let value = frame(&row_key, folder);
            batch.put(row_key, value);
            store.apply(batch)?;
            store.sync()?;
        }
        Ok(())
    }

    /// Whether they belong together.
    ///
    /// # Errors
    /// [`OpenError::Mixed`] names the one that does not.
    pub(crate) fn check_folder(&self, folder: &[u8; 16]) -> Result<(), OpenError> {
        for (store, table, what) in self.tables() {
            let row_key = key::single(table);
            let known = store.get(&row_key)?;
            let same = match &known {
                Some(value) => open_row(&row_key, value)? == folder,
                None => false,
            };
            if !same {
                return Err(OpenError::Mixed { what });
            }
        }
        Ok(())
    }
}

//! A replica's state: the binary's `Applier`, `StateStore` and snapshot stage over a store that forgets.

use crate::machine::{Chain, kinds};
use bojagi::persistence::install::{Stage, StagePhase};
use bojagi::persistence::key_store::KeyStore;
use bojagi::persistence::memory_store::{MemoryStore, Torn};
use bojagi::persistence::ring::RingFile;
use bojagi::persistence::snapshot::{SnapshotChunk, SnapshotError};
use bojagi::persistence::state_store::StateStore;
use bojagi::replication::apply::{Applier, EntryFate};
use bojagi::replication::core::{Committed, SnapshotSeal};
use bojagi::simulation::log_disk::SHARD;
use bojagi::types::codec;
use bojagi::types::ids::{EntityKey, LogIndex, Version};
use std::sync::Arc;

/// Rows of one chunk, in bytes: few, so that a snapshot has many.
const CHUNK_BYTES: usize = 6_000;

pub struct StateDisk {
    disk: Arc<MemoryStore>,
    state: Arc<StateStore>,
    applier: Applier,
}

impl StateDisk {
    pub fn new() -> Self {
        Self::open(Arc::new(MemoryStore::new()))
    }

    fn open(disk: Arc<MemoryStore>) -> Self {
        let state = Arc::new(StateStore::new(disk.clone()));
        let keys = Arc::new(KeyStore::new(Arc::new(MemoryStore::new()), RingFile::memory()));
        Self { disk, applier: Applier::new(kinds(), state.clone(), keys), state }
    }

    pub fn sync(&self) {
        self.state.sync().expect("the disk syncs");
    }

    /// Batches that a power cut may take.
    pub fn unsynced(&self) -> usize {
        self.disk.unsynced()
    }

    pub fn crash(&mut self, kept: usize) {
        self.disk.crash(Torn::Power { batches: kept });
        *self = Self::open(self.disk.clone());
    }

    pub fn applied(&self) -> LogIndex {
        self.applier.applied(SHARD).expect("a whole state says how far it is").index
    }

    /// Equal on replicas of equal applied index. Reads every row.
    pub fn digest(&self) -> u64 {
        self.state.stats(SHARD).expect("rows are readable").digest
    }

    pub fn apply(&self, entries: &[Committed]) -> Vec<EntryFate> {
        let entries: Vec<_> = entries.iter().map(|entry| (entry.index, entry.term, &entry.payload)).collect();
        self.applier.apply(SHARD, &entries).expect("committed entries apply")
    }

    /// Version and last operation of an entity.
    pub fn row(&self, key: EntityKey) -> (Version, u64) {
        let row = self.state.get(SHARD, &key).expect("rows are readable");
        row.map_or((Version(0), 0), |row| {
            (row.version, codec::decode::<Chain>(&row.state).expect("a stored state decodes").last_op)
        })
    }

    /// One chunk from `cursor`, empty for a new export.
    ///
    /// # Errors
    /// [`SnapshotError::Lost`]: this export is over.
    pub fn export(&self, cursor: Vec<u8>) -> Result<SnapshotChunk, SnapshotError> {
        let cursor = (!cursor.is_empty()).then_some(cursor);
        self.state.export(SHARD, cursor, CHUNK_BYTES)
    }

    pub fn stage(&self, bytes: &[u8], seal: Option<&SnapshotSeal>) {
        let chunk: SnapshotChunk = codec::decode(bytes).expect("a chunk arrives as it was sent");
        let seal = seal.map(codec::encode).unwrap_or_default();
        self.state.stage(SHARD, chunk, seal).expect("chunks come in order");
    }

    pub fn stage_drop(&self) {
        self.state.stage_drop(SHARD).expect("nothing is being installed");
    }

    pub fn install(&self) -> LogIndex {
        let applied = self.state.install_staged(SHARD).expect("what is installed was staged and sealed");
        self.applier.forget(SHARD);
        applied.index
    }

    /// The seal of a complete stage.
    pub fn sealed(&self) -> Option<SnapshotSeal> {
        let stage: Option<Stage> = self.state.staged(SHARD).expect("rows are readable");
        let whole = |stage: &Stage| !matches!(stage.phase, StagePhase::Staging { .. });
        stage.filter(whole).map(|stage| codec::decode(&stage.seal).expect("a stored seal decodes"))
    }
}

//! A replica's state: the binary's `Applier`, `StateStore`, data keys and snapshot stage over a store that forgets.

use crate::persistence::install::{Stage, StagePhase};
use crate::persistence::key::Table;
use crate::persistence::key_store::KeyStore;
use crate::persistence::memory_store::{Failure, MemoryStore, Operation, Torn};
use crate::persistence::ring::RingFile;
use crate::persistence::snapshot::SnapshotError;
use crate::persistence::staged_keys;
use crate::persistence::state_store::StateStore;
use crate::persistence::store::{Store, StoreError};
use crate::persistence::transfer::{self, Exported};
use crate::persistence::vault::Vault;
use crate::persistence::verify::{VerifyReport, verify_shard};
use crate::replication::apply::{Applier, ApplyError, EntryFate};
use crate::replication::core::{Committed, SnapshotSeal};
use crate::simulation::dice::{Dice, fill_secret};
use crate::simulation::log_disk::SHARD;
use crate::types::codec;
use crate::types::ids::LogIndex;
use crate::types::kind::KindTable;
use std::ops::Bound;
use std::sync::Arc;

/// Rows of one chunk, in bytes: few, so that a snapshot has many.
const CHUNK_BYTES: usize = 6_000;
const MASTER_KEY: [u8; 32] = [7; 32];

pub struct StateDisk {
    disk: Arc<MemoryStore>,
    /// Written before the batch that needs them, in the same database.
    key_disk: Arc<MemoryStore>,
    ring: RingFile,
    kinds: fn() -> KindTable,
    keys: Arc<KeyStore>,
    pub state: Arc<StateStore>,
    applier: Applier,
    pub vault: Vault,
}

impl StateDisk {
    /// An empty disk; the period keys are the cluster's.
    #[must_use]
    pub fn new(ring: RingFile, kinds: fn() -> KindTable) -> Self {
        Self::open(Arc::new(MemoryStore::new()), Arc::new(MemoryStore::new()), ring, kinds)
    }

    fn open(disk: Arc<MemoryStore>, key_disk: Arc<MemoryStore>, ring: RingFile, kinds: fn() -> KindTable) -> Self {
        let state = Arc::new(StateStore::new(disk.clone()));
        let keys = Arc::new(KeyStore::new(key_disk.clone(), ring.clone()));
        let vault =
            Vault::open_with(keys.clone(), MASTER_KEY, fill_secret).expect("the ring opens with its master key");
        let applier = Applier::new(kinds(), state.clone(), keys.clone());
        Self { disk, key_disk, ring, kinds, keys, state, applier, vault }
    }

    /// Makes what was applied durable.
    pub fn sync(&self) -> bool {
        self.state.sync().is_ok()
    }

    /// The next operation of a kind fails.
    pub fn fail(&self, operation: Operation, failure: Failure) {
        self.disk.fail(operation, 0, failure);
    }

    /// Flips a bit of a row of the shard; what the row is, or `None` when there is none.
    pub fn flip_bit(&self, dice: &mut Dice) -> Option<String> {
        let (first, beyond) = ([Table::State.tag()], [Table::Index.tag() + 1]);
        flip_row(&self.disk, (Bound::Included(&first), Bound::Excluded(&beyond)), dice)
    }

    /// Every checksum, every journal against its state, every derived row.
    ///
    /// # Errors
    /// [`StoreError`]: the disk gives up.
    pub fn verify(&self) -> Result<VerifyReport, StoreError> {
        let mut report = VerifyReport::default();
        verify_shard(&self.state, &(self.kinds)(), SHARD, &mut report)?;
        Ok(report)
    }

    /// Batches that a power cut may take.
    #[must_use]
    pub fn unsynced(&self) -> usize {
        self.disk.unsynced()
    }

    pub fn crash(&mut self, kept: usize) {
        self.disk.crash(Torn::Power { batches: kept });
        *self = Self::open(self.disk.clone(), self.key_disk.clone(), self.ring.clone(), self.kinds);
    }

    #[must_use]
    pub fn applied(&self) -> LogIndex {
        self.applier.applied(SHARD).expect("a whole state says how far it is").index
    }

    /// Equal on replicas of equal applied index. Reads every row.
    #[must_use]
    pub fn digest(&self) -> u64 {
        self.state.stats(SHARD).expect("rows are readable").digest
    }

    /// # Errors
    /// [`ApplyError`]: the process ends.
    pub fn apply(&self, entries: &[Committed]) -> Result<Vec<EntryFate>, ApplyError> {
        let entries: Vec<_> = entries.iter().map(|entry| (entry.index, entry.term, &entry.payload)).collect();
        self.applier.apply(SHARD, &entries)
    }

    /// One chunk from `cursor`, empty for a new export.
    ///
    /// # Errors
    /// [`SnapshotError::Lost`]: this export is over.
    pub fn export(&self, cursor: Vec<u8>) -> Result<Exported, SnapshotError> {
        transfer::export(&self.state, &self.keys, SHARD, cursor, CHUNK_BYTES)
    }

    /// Puts a chunk aside; false when it was not the next one.
    pub fn stage(&self, bytes: &[u8], seal: Option<&SnapshotSeal>) -> bool {
        let seal = seal.map(codec::encode).unwrap_or_default();
        transfer::stage(&self.state, SHARD, bytes, seal).is_ok()
    }

    pub fn stage_drop(&self) {
        self.state.stage_drop(SHARD).expect("nothing is being installed");
    }

    pub fn install(&self) {
        staged_keys::install(&self.state, &self.keys, SHARD).expect("what is installed was staged and sealed");
        self.applier.forget(SHARD);
    }

    /// The seal of a complete stage.
    #[must_use]
    pub fn sealed(&self) -> Option<SnapshotSeal> {
        let stage: Option<Stage> = self.state.staged(SHARD).expect("rows are readable");
        let whole = |stage: &Stage| !matches!(stage.phase, StagePhase::Staging { .. });
        stage.filter(whole).map(|stage| codec::decode(&stage.seal).expect("a stored seal decodes"))
    }
}

/// Flips a bit of a row within bounds; what the row is, or `None` when there is none.
pub(super) fn flip_row(
    disk: &MemoryStore,
    (from, to): (Bound<&[u8]>, Bound<&[u8]>),
    dice: &mut Dice,
) -> Option<String> {
    let rows = disk.scan(from, to, usize::MAX).ok()?;
    let place = usize::try_from(dice.below(rows.len() as u64)).unwrap_or(0);
    let (key, value) = rows.get(place)?;
    let bit = usize::try_from(dice.below(8 * value.len() as u64)).unwrap_or(0);
    disk.flip_bit(key, bit).then(|| format!("bit {bit} of {}", hex::encode(key)))
}

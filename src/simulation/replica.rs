//! One replica of the group: its shard core, its two disks, and the work of its applier. Around it are a whole node
//! (`node`), and in `tests/sim` a host of the smallest entity there is.

use crate::persistence::ring::RingFile;
use crate::persistence::store::StoreError;
use crate::replication::core::{Committed, CoreError, CoreOptions, ShardCore, SnapshotSeal};
use crate::replication::entry::EntryFormat;
use crate::simulation::log_disk::{LogDisk, SHARD};
use crate::simulation::state_disk::StateDisk;
use crate::types::ids::{Incarnation, LogIndex, NodeId};
use crate::types::kind::KindTable;
use std::collections::VecDeque;

/// Work of the applier, in order.
pub enum Work {
    Apply(Vec<Committed>),
    Install(SnapshotSeal),
}

/// A replica as its host sees it.
pub struct Replica {
    pub peer: u64,
    found: Vec<u64>,
    /// Counts starts and ends; events of an earlier life are void.
    pub life: u64,
    pub core: Option<ShardCore>,
    pub log: LogDisk,
    pub syncing: bool,
    pub state: StateDisk,
    pub work: VecDeque<Work>,
    pub applying: bool,
    pub paused: bool,
    pub slow_disk: bool,
    pub slow_applier: bool,
}

impl Replica {
    /// A replica with empty disks; `found` are the voters that found its group, or nobody.
    #[must_use]
    pub fn new(peer: u64, found: Vec<u64>, ring: RingFile, kinds: fn() -> KindTable) -> Self {
        Self {
            peer,
            found,
            life: 0,
            core: None,
            log: LogDisk::new(),
            syncing: false,
            state: StateDisk::new(ring, kinds),
            work: VecDeque::new(),
            applying: false,
            paused: false,
            slow_disk: false,
            slow_applier: false,
        }
    }

    #[must_use]
    pub fn runs(&self) -> bool {
        self.core.is_some()
    }

    /// Starts the process on what the disks hold.
    ///
    /// # Errors
    /// [`CoreError`] as the core says.
    pub fn boot(&mut self, seed: u64, tune: impl FnOnce(&mut CoreOptions)) -> Result<&mut ShardCore, CoreError> {
        self.life += 1;
        let log = self.log.load();
        // A crash may have come between the log's new beginning and the state's, or in the middle of the latter.
        let sealed = self.state.sealed();
        if sealed.as_ref().is_some_and(|seal| seal.from == log.start) {
            self.state.install();
        } else {
            self.state.stage_drop();
        }
        let (node, incarnation) = (NodeId(self.peer), Incarnation(self.life));
        let mut options = CoreOptions::new(SHARD, self.peer, node, incarnation);
        options.found.clone_from(&self.found);
        options.seed = seed;
        // Exports are of one index, so an installed state is whole.
        options.whole_at = sealed.map_or(LogIndex(0), |seal| seal.to_index);
        tune(&mut options);
        let mut core = ShardCore::new(options, log, self.state.applied(), self.log.reader())?;
        // Leaders of either format, one after the other, in one log.
        let dense = (self.peer + self.life).is_multiple_of(2);
        core.write_entries_as(if dense { EntryFormat::Dense } else { EntryFormat::Plain });
        Ok(self.core.insert(core))
    }

    /// The process ends: of what was not synced, so many writes of the log and the state survive.
    ///
    /// # Errors
    /// [`StoreError`]: the log does not open again.
    pub fn crash(&mut self, log_kept: usize, state_kept: usize) -> Result<(), StoreError> {
        self.core = None;
        self.life += 1;
        self.log.crash(log_kept)?;
        self.state.crash(state_kept);
        self.syncing = false;
        self.work.clear();
        self.applying = false;
        self.paused = false;
        Ok(())
    }
}

//! One replica as its host sees it: the core, two disks, the applier, and the pipelines of the entities it hosts.

use crate::machine::Op;
use crate::state_disk::StateDisk;
use bojagi::persistence::store::StoreError;
use bojagi::replication::core::{Committed, CoreError, CoreOptions, Input, ShardCore, SnapshotSeal};
use bojagi::replication::entry::EntryFormat;
use bojagi::simulation::log_disk::{LogDisk, SHARD};
use bojagi::types::ids::{Claim, EntityKey, Incarnation, LogIndex, NodeId, Version};
use std::collections::{BTreeMap, VecDeque};

/// Work of the applier, in order.
pub enum Work {
    Apply(Vec<Committed>),
    Install(SnapshotSeal),
}

/// The speculative state of one hosted entity.
#[derive(Clone, Copy, Debug)]
pub struct Pipeline {
    pub version: Version,
    pub last_op: u64,
    pub in_flight: u32,
    /// A record was dropped: nothing more is decided before all in flight have their fate.
    pub void: bool,
}

pub struct Proposal {
    pub op: Op,
    pub key: EntityKey,
}

pub struct Replica {
    pub peer: u64,
    found: Vec<u64>,
    /// Counts starts; events of an earlier life are void.
    pub life: u64,
    pub core: Option<ShardCore>,
    pub log: LogDisk,
    pub syncing: bool,
    pub state: StateDisk,
    pub work: VecDeque<Work>,
    pub applying: bool,
    pub paused: bool,
    pub inbox: Vec<Input>,
    pub slow_disk: bool,
    pub slow_applier: bool,
    pub hosting: Option<Claim>,
    pub pipelines: BTreeMap<EntityKey, Pipeline>,
    /// Proposals without a fate.
    pub proposals: BTreeMap<u64, Proposal>,
    /// Reads without an answer, and what they must see.
    pub reads: BTreeMap<u64, LogIndex>,
}

impl Replica {
    pub fn new(peer: u64, found: Vec<u64>) -> Self {
        Self {
            peer,
            found,
            life: 0,
            core: None,
            log: LogDisk::new(),
            syncing: false,
            state: StateDisk::new(),
            work: VecDeque::new(),
            applying: false,
            paused: false,
            inbox: Vec::new(),
            slow_disk: false,
            slow_applier: false,
            hosting: None,
            pipelines: BTreeMap::new(),
            proposals: BTreeMap::new(),
            reads: BTreeMap::new(),
        }
    }

    /// Starts the process on what the disks hold.
    ///
    /// # Errors
    /// [`CoreError`] as the core says.
    pub fn boot(&mut self, seed: u64, tune: impl FnOnce(&mut CoreOptions)) -> Result<(), CoreError> {
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
        core.write_entries_as(if (self.peer + self.life).is_multiple_of(2) {
            EntryFormat::Dense
        } else {
            EntryFormat::Plain
        });
        self.core = Some(core);
        Ok(())
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
        self.inbox.clear();
        self.stop_hosting();
        self.proposals.clear();
        self.reads.clear();
        Ok(())
    }

    pub fn stop_hosting(&mut self) {
        self.hosting = None;
        self.pipelines.clear();
    }

    /// The entity's pipeline, begun on the committed state when there is none.
    pub fn pipeline(&mut self, key: EntityKey) -> &mut Pipeline {
        let state = &self.state;
        self.pipelines.entry(key).or_insert_with(|| {
            let (version, last_op) = state.row(key);
            Pipeline { version, last_op, in_flight: 0, void: false }
        })
    }

    /// A proposal has its fate: the entity may go on once nothing is in flight.
    pub fn resolved(&mut self, key: EntityKey, dropped: bool) {
        if let Some(pipeline) = self.pipelines.get_mut(&key) {
            pipeline.in_flight -= 1;
            pipeline.void |= dropped;
            if pipeline.in_flight == 0 {
                self.pipelines.remove(&key);
            }
        }
    }
}

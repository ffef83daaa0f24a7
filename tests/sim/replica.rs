//! One replica as its host sees it: the core, two disks, the applier, and the pipelines of the entities it hosts.

use crate::disk::LogDisk;
use crate::machine::{Machine, Op};
use bojagi::replication::core::{Committed, CoreError, CoreOptions, Input, ShardCore, SnapshotId, SnapshotSeal};
use bojagi::types::ids::{Claim, EntityKey, Incarnation, LogIndex, NodeId, ShardId, Version};
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

#[derive(Default)]
pub struct Stage {
    snapshot: Option<SnapshotId>,
    chunks: Vec<Vec<u8>>,
    /// Chunks that survive a power cut.
    durable: usize,
    seal: Option<SnapshotSeal>,
}

impl Stage {
    pub fn put(&mut self, snapshot: SnapshotId, number: u32, bytes: Vec<u8>, seal: Option<SnapshotSeal>) {
        if number == 0 {
            *self = Self { snapshot: Some(snapshot), ..Self::default() };
        }
        assert_eq!((self.snapshot, self.chunks.len()), (Some(snapshot), number as usize), "chunks come in order");
        self.chunks.push(bytes);
        self.seal = seal;
    }

    pub fn sync(&mut self, snapshot: SnapshotId, number: u32) {
        if self.snapshot == Some(snapshot) {
            self.durable = self.durable.max(number as usize + 1);
        }
    }

    pub fn forget(&mut self, snapshot: SnapshotId) {
        if self.snapshot == Some(snapshot) {
            *self = Self::default();
        }
    }

    fn crash(&mut self) {
        if self.seal.is_none() || self.durable < self.chunks.len() {
            *self = Self::default();
        }
    }

    pub fn install(&mut self, seal: &SnapshotSeal) -> Machine {
        assert_eq!(self.seal.as_ref(), Some(seal), "what is installed was staged and sealed");
        let machine = Machine::install(&self.chunks, seal);
        *self = Self::default();
        machine
    }
}

pub struct Replica {
    pub peer: u64,
    found: Vec<u64>,
    /// Counts starts; events of an earlier life are void.
    pub life: u64,
    pub core: Option<ShardCore>,
    pub log: LogDisk,
    pub syncing: bool,
    pub machine: Machine,
    /// The state as it surely survives.
    pub durable_machine: Machine,
    pub work: VecDeque<Work>,
    pub applying: bool,
    pub stage: Stage,
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
            log: LogDisk::default(),
            syncing: false,
            machine: Machine::default(),
            durable_machine: Machine::default(),
            work: VecDeque::new(),
            applying: false,
            stage: Stage::default(),
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
        if let Some(seal) = self.stage.seal.clone().filter(|seal| seal.from == log.start) {
            // The crash came between the log's new beginning and the state's.
            if self.machine.applied < seal.from.index {
                self.machine = self.stage.install(&seal);
                self.durable_machine = self.machine.clone();
            }
        }
        if self.machine.applied == LogIndex(0) && !self.found.is_empty() {
            self.machine.applied = bojagi::replication::core::FOUNDING.index;
        }
        let (node, incarnation) = (NodeId(self.peer), Incarnation(self.life));
        let mut options = CoreOptions::new(ShardId(5), self.peer, node, incarnation);
        options.found.clone_from(&self.found);
        options.seed = seed;
        options.whole_at = self.machine.whole_at;
        tune(&mut options);
        self.core = Some(ShardCore::new(options, log, self.machine.applied, self.log.reader())?);
        Ok(())
    }

    /// The process ends. With `power` lost, only what was synced is sure to survive, and `kept` writes of the rest.
    pub fn crash(&mut self, power: bool, kept: usize) {
        self.core = None;
        self.life += 1;
        self.log.crash(kept);
        self.stage.crash();
        if power {
            self.machine = self.durable_machine.clone();
        }
        self.durable_machine = self.machine.clone();
        self.syncing = false;
        self.work.clear();
        self.applying = false;
        self.paused = false;
        self.inbox.clear();
        self.stop_hosting();
        self.proposals.clear();
        self.reads.clear();
    }

    pub fn stop_hosting(&mut self) {
        self.hosting = None;
        self.pipelines.clear();
    }

    /// The entity's pipeline, begun on the committed state when there is none.
    pub fn pipeline(&mut self, key: EntityKey) -> &mut Pipeline {
        let row = self.machine.row(key);
        let fresh = Pipeline { version: row.version, last_op: row.last_op, in_flight: 0, void: false };
        self.pipelines.entry(key).or_insert(fresh)
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

//! One replica as its host sees it: the simulation's, and the pipelines of the entities it hosts.

use crate::machine::{self, Chain, Op};
use bojagi::persistence::ring::RingFile;
use bojagi::persistence::store::StoreError;
use bojagi::replication::core::Input;
use bojagi::simulation;
use bojagi::simulation::log_disk::SHARD;
use bojagi::types::codec;
use bojagi::types::ids::{Claim, EntityKey, LogIndex, Version};
use std::collections::BTreeMap;
use std::ops::{Deref, DerefMut};

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
    replica: simulation::replica::Replica,
    pub inbox: Vec<Input>,
    pub hosting: Option<Claim>,
    pub pipelines: BTreeMap<EntityKey, Pipeline>,
    /// Proposals without a fate.
    pub proposals: BTreeMap<u64, Proposal>,
    /// Reads without an answer, and what they must see.
    pub reads: BTreeMap<u64, LogIndex>,
}

impl Deref for Replica {
    type Target = simulation::replica::Replica;
    fn deref(&self) -> &simulation::replica::Replica {
        &self.replica
    }
}

impl DerefMut for Replica {
    fn deref_mut(&mut self) -> &mut simulation::replica::Replica {
        &mut self.replica
    }
}

impl Replica {
    pub fn new(peer: u64, found: Vec<u64>) -> Self {
        Self {
            replica: simulation::replica::Replica::new(peer, found, RingFile::memory(), machine::kinds),
            inbox: Vec::new(),
            hosting: None,
            pipelines: BTreeMap::new(),
            proposals: BTreeMap::new(),
            reads: BTreeMap::new(),
        }
    }

    /// The process ends: of what was not synced, so many writes of the log and the state survive.
    ///
    /// # Errors
    /// [`StoreError`]: the log does not open again.
    pub fn crash(&mut self, log_kept: usize, state_kept: usize) -> Result<(), StoreError> {
        self.replica.crash(log_kept, state_kept)?;
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
        let state = &self.replica.state.state;
        self.pipelines.entry(key).or_insert_with(|| {
            let row = state.get(SHARD, &key).expect("rows are readable");
            let (version, last_op) = row.map_or((Version(0), 0), |row| {
                let chain: Chain = codec::decode(&row.state).expect("a stored state decodes");
                (row.version, chain.last_op)
            });
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

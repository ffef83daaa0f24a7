//! The smallest entity kind that can be wrong: a counter that remembers the chain of operations that made it. It
//! runs through the very `Applier`, stores and snapshots of the binary.

use bojagi::types::call::{CallOutcome, CallRequest, Report};
use bojagi::types::codec::{self, CodecError};
use bojagi::types::effect::{Effects, IndexTag, IndexWant, Slot, TimerWant};
use bojagi::types::ids::{CommandId, EntityKey, EntityKind, Version};
use bojagi::types::kind::{At, AttemptStart, Decided, Kind, KindTable, Live};
use bojagi::types::record::{Record, Sealed, VaultChange};
use bojagi::types::time::Timestamp;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use xxhash_rust::xxh3::xxh3_64;

const KIND: EntityKind = EntityKind(1);

/// What a record of the simulation says: its own number, and that of the operation it was decided on (0: none).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Op {
    pub number: u64,
    pub built_on: u64,
}

pub fn key(number: u64) -> EntityKey {
    let mut id = [0; 16];
    id[..8].copy_from_slice(&number.to_be_bytes());
    EntityKey { kind: KIND, id }
}

pub fn record(key: EntityKey, version_before: Version, op: Op, padding: usize) -> Record {
    let mut id = [0; 16];
    id[..8].copy_from_slice(&op.number.to_be_bytes());
    let events = codec::encode(&(op, vec![0xA5u8; padding]));
    let (at, command_id) = (Timestamp(0), CommandId(id));
    Record { key, version_before, at, command_id, idempotency: None, events, vault: VaultChange::None }
}

pub fn op_of(record: &Record) -> Op {
    codec::decode::<(Op, Vec<u8>)>(&record.events).expect("the simulation's own record").0
}

/// The counter's state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Chain {
    pub last_op: u64,
    length: u64,
    hash: u64,
}

pub fn kinds() -> KindTable {
    KindTable::new(vec![Arc::new(ChainKind)])
}

struct ChainKind;

impl Kind for ChainKind {
    fn kind(&self) -> EntityKind {
        KIND
    }
    fn prefix(&self) -> &'static str {
        "c"
    }
    fn load(&self, _key: EntityKey, state: Option<&[u8]>) -> Result<Box<dyn Live>, CodecError> {
        Ok(Box::new(state.map(codec::decode::<Chain>).transpose()?.unwrap_or_default()))
    }
}

impl Live for Chain {
    fn decide(&self, _command: &[u8], _at: &At) -> Result<Decided, CodecError> {
        Ok(Decided::Unchanged)
    }
    fn evolve(&mut self, events: &[u8]) -> Result<(), CodecError> {
        let (op, _) = codec::decode::<(Op, Vec<u8>)>(events)?;
        self.last_op = op.number;
        self.length += 1;
        self.hash = xxh3_64(&[self.hash, op.number].map(u64::to_be_bytes).concat());
        Ok(())
    }
    /// A timer and a unique row that move with every record.
    fn wants(&self) -> Effects {
        let due = Timestamp(self.hash as i64 >> 20);
        let row = IndexWant { index: IndexTag(2), key: self.last_op.to_be_bytes().to_vec(), unique: true };
        Effects { timers: vec![TimerWant { slot: Slot(0), due }], indexes: vec![row], ..Effects::default() }
    }
    fn encode(&self) -> Vec<u8> {
        codec::encode(self)
    }
    fn fork(&self) -> Box<dyn Live> {
        Box::new(*self)
    }
    fn sealed(&self) -> Option<Sealed> {
        None
    }
    fn request(&self, _slot: Slot, _personal: Option<&[u8]>) -> Option<CallRequest> {
        None
    }
    fn timer_command(&self, _slot: Slot) -> Vec<u8> {
        Vec::new()
    }
    fn attempt_command(&self, _start: AttemptStart) -> Vec<u8> {
        Vec::new()
    }
    fn outcome_command(&self, _outcomes: Vec<(Slot, CallOutcome)>) -> Vec<u8> {
        Vec::new()
    }
    fn report_command(&self, _report: Report) -> Vec<u8> {
        Vec::new()
    }
    fn describe(&self, _events: &[u8]) -> Result<Vec<serde_json::Value>, CodecError> {
        Ok(Vec::new())
    }
}

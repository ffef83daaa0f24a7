//! A small entity kind for tests: a sum, a timer, a name that must be unique, and a call.

use crate::persistence::effect_rows::put_difference;
use crate::persistence::folder::Folder;
use crate::persistence::log::{HardState, LogAppend, LogEntry, LogStart, Membership};
use crate::persistence::state_store::{AppliedRow, put_record, put_state};
use crate::persistence::store::WriteBatch;
use crate::types::call::{CallOutcome, CallRequest, Report};
use crate::types::codec::{self, CodecError};
use crate::types::effect::{CallWant, Effects, Guard, IndexTag, IndexWant, Lane, Slot, TimerWant};
use crate::types::ids::{Claim, CommandId, EntityKey, EntityKind, Fingerprint, IdempotencyId, Incarnation, NodeId};
use crate::types::ids::{LogIndex, ShardId, Term, Version};
use crate::types::kind::{At, AttemptStart, Decided, Kind, KindTable, Live};
use crate::types::record::{IdempotencyMark, Record, Sealed, VaultChange};
use crate::types::time::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::Arc;

pub(crate) const TOY: EntityKind = EntityKind(1);
pub(crate) const NAMES: IndexTag = IndexTag(2);
pub(crate) const ALL: IndexTag = IndexTag(1);

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Event {
    Added(u64),
    Timed(Option<i64>),
    Named(Option<String>),
    Calling(Option<i64>),
}

#[derive(Clone, Default, Serialize, Deserialize)]
struct Toy {
    sum: u64,
    timer: Option<i64>,
    name: Option<String>,
    call: Option<i64>,
}

struct LiveToy {
    key: EntityKey,
    toy: Toy,
}

pub(crate) struct ToyKind;

impl Kind for ToyKind {
    fn kind(&self) -> EntityKind {
        TOY
    }
    fn prefix(&self) -> &'static str {
        "t"
    }
    fn load(&self, key: EntityKey, state: Option<&[u8]>) -> Result<Box<dyn Live>, CodecError> {
        let toy = state.map_or(Ok(Toy::default()), codec::decode)?;
        Ok(Box::new(LiveToy { key, toy }))
    }
}

impl Live for LiveToy {
    fn decide(&self, _: &[u8], _: &At) -> Result<Decided, CodecError> {
        Ok(Decided::Unchanged)
    }
    fn evolve(&mut self, events: &[u8]) -> Result<(), CodecError> {
        for event in codec::decode::<Vec<Event>>(events)? {
            match event {
                Event::Added(by) => self.toy.sum += by,
                Event::Timed(due) => self.toy.timer = due,
                Event::Named(name) => self.toy.name = name,
                Event::Calling(due) => self.toy.call = due,
            }
        }
        Ok(())
    }
    fn wants(&self) -> Effects {
        let timer = |due| TimerWant { slot: Slot(1), due: Timestamp(due) };
        let call = |due| CallWant {
            slot: Slot(2),
            lane: Lane::Payment,
            due: Timestamp(due),
            guard: Guard::Repeatable,
            open: None,
        };
        let name = |name: &String| IndexWant { index: NAMES, key: name.clone().into_bytes(), unique: true };
        let all = IndexWant { index: ALL, key: self.key.id.to_vec(), unique: false };
        Effects {
            timers: self.toy.timer.map(timer).into_iter().collect(),
            calls: self.toy.call.map(call).into_iter().collect(),
            indexes: self.toy.name.as_ref().map(name).into_iter().chain([all]).collect(),
            terminal: false,
        }
    }
    fn encode(&self) -> Vec<u8> {
        codec::encode(&self.toy)
    }
    fn fork(&self) -> Box<dyn Live> {
        Box::new(LiveToy { key: self.key, toy: self.toy.clone() })
    }
    fn sealed(&self) -> Option<Sealed> {
        None
    }
    fn request(&self, _: Slot, _: Option<&[u8]>) -> Option<CallRequest> {
        None
    }
    fn timer_command(&self, _: Slot) -> Vec<u8> {
        Vec::new()
    }
    fn attempt_command(&self, _: AttemptStart) -> Vec<u8> {
        Vec::new()
    }
    fn outcome_command(&self, _: Vec<(Slot, CallOutcome)>) -> Vec<u8> {
        Vec::new()
    }
    fn report_command(&self, _: Report) -> Vec<u8> {
        Vec::new()
    }
    fn describe(&self, _: &[u8]) -> Result<Vec<serde_json::Value>, CodecError> {
        Ok(Vec::new())
    }
}

pub(crate) fn kinds() -> KindTable {
    KindTable::new(vec![Arc::new(ToyKind)])
}

pub(crate) fn entity(id: u8) -> EntityKey {
    EntityKey { kind: TOY, id: [id; 16] }
}

pub(crate) fn claim(term: u64) -> Claim {
    Claim { term: Term(term), node: NodeId(1), incarnation: Incarnation(1) }
}

/// The toy's encoded state after these events.
pub(crate) fn state_after(events: &[Event]) -> Vec<u8> {
    let mut live = ToyKind.load(entity(0), None).unwrap();
    live.evolve(&codec::encode(&events.to_vec())).unwrap();
    live.encode()
}

/// A record of an entity at `before`, with an idempotency id made of both.
pub(crate) fn record(id: u8, before: u64, events: &[Event]) -> Record {
    let mut mark = [id; 16];
    mark[..8].copy_from_slice(&before.to_be_bytes());
    Record {
        key: entity(id),
        version_before: Version(before),
        at: Timestamp(1_000 + before.cast_signed()),
        command_id: CommandId(mark),
        idempotency: Some(IdempotencyMark { id: IdempotencyId(mark), fingerprint: Fingerprint([id; 16]) }),
        events: codec::encode(&events.to_vec()),
        vault: VaultChange::None,
    }
}

/// A folder's state and log after these records of one shard, one entry each, as applying them leaves it.
pub(crate) fn fill(folder: &Folder, shard: ShardId, records: &[Record]) {
    let mut lives: BTreeMap<EntityKey, (Box<dyn Live>, Option<Effects>)> = BTreeMap::new();
    let start = folder.state.applied(shard).unwrap().index.0.max(1);
    let mut entries = Vec::new();
    for (record, index) in records.iter().zip(start + 1..) {
        let fresh = || (ToyKind.load(record.key, None).unwrap(), None);
        let (live, before) = lives.entry(record.key).or_insert_with(fresh);
        live.evolve(&record.events).unwrap();
        let mut batch = WriteBatch::default();
        put_record(&mut batch, shard, record);
        put_state(&mut batch, shard, &record.key, record.version_after(), &live.encode());
        put_difference(&mut batch, shard, record.key, before.as_ref(), &live.wants());
        *before = Some(live.wants());
        let applied = AppliedRow { index: LogIndex(index), term: Term(1), claim: claim(1) };
        folder.state.commit(shard, batch, &applied).unwrap();
        let payload = record.events.clone();
        entries.push(LogEntry { index: LogIndex(index), term: Term(1), entry_type: 0, payload });
    }
    let hard_state = Some(HardState { term: Term(1), vote: 1, commit: LogIndex(start) });
    let membership = Some(Membership { index: LogIndex(1), voters: vec![1], ..Membership::default() });
    let start = Some(LogStart { index: LogIndex(start), term: Term(1) });
    folder.log.append(&[LogAppend { shard, number: 1, entries, hard_state, membership, start }]).unwrap();
    folder.log.sync().unwrap();
    folder.state.sync().unwrap();
}

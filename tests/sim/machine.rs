//! The smallest state machine that can be wrong: a version and a chain of operations for each key.

use bojagi::replication::core::{Committed, SnapshotSeal};
use bojagi::replication::entry::decode_entry;
use bojagi::types::codec;
use bojagi::types::ids::{Claim, CommandId, EntityKey, EntityKind, LogIndex, Version};
use bojagi::types::record::{EntryBody, Record, RecordFate, VaultChange, VoidReason};
use bojagi::types::time::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use xxhash_rust::xxh3::xxh3_64;

/// What a record of the simulation says: its own number, and that of the operation it was decided on (0: none).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Op {
    pub number: u64,
    pub built_on: u64,
}

pub fn key(number: u64) -> EntityKey {
    let mut id = [0; 16];
    id[..8].copy_from_slice(&number.to_be_bytes());
    EntityKey { kind: EntityKind(1), id }
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

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Row {
    pub version: Version,
    pub last_op: u64,
    chain: u64,
}

/// A chunk of an export: the claim in the first one, then rows in key order.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Chunk {
    claim: Option<Claim>,
    rows: Vec<(EntityKey, Row)>,
}

#[derive(Clone, Debug, Default)]
pub struct Machine {
    pub applied: LogIndex,
    /// Rows are fuzzy until this is applied.
    pub whole_at: LogIndex,
    claim: Claim,
    rows: BTreeMap<EntityKey, Row>,
}

impl Machine {
    pub fn is_whole(&self) -> bool {
        self.applied >= self.whole_at
    }

    pub fn row(&self, key: EntityKey) -> Row {
        self.rows.get(&key).copied().unwrap_or_default()
    }

    /// Equal on replicas of equal applied index.
    pub fn digest(&self) -> u64 {
        let mix = |digest: u64, (key, row): (&EntityKey, &Row)| {
            let bytes = [&key.to_bytes()[..], &row.version.0.to_be_bytes(), &row.chain.to_be_bytes()].concat();
            digest.wrapping_add(xxh3_64(&bytes))
        };
        let claim = [self.claim.term.0, self.claim.node.0, self.claim.incarnation.0];
        self.rows.iter().fold(xxh3_64(&claim.map(u64::to_be_bytes).concat()), mix)
    }

    pub fn apply(&mut self, entry: &Committed) -> Vec<(Record, RecordFate)> {
        assert_eq!(self.applied.next(), entry.index, "entries are applied one by one, in order");
        self.applied = entry.index;
        if entry.entry_type != 0 || entry.payload.is_empty() {
            return Vec::new();
        }
        match decode_entry(&entry.payload).expect("a committed entry decodes") {
            EntryBody::Claim(claim) => {
                self.claim = claim;
                Vec::new()
            }
            EntryBody::Records { claim, records } => {
                let fate = |record: &Record| self.take(claim, record);
                let fates: Vec<RecordFate> = records.iter().map(fate).collect();
                records.into_iter().zip(fates).collect()
            }
        }
    }

    fn take(&mut self, claim: Claim, record: &Record) -> RecordFate {
        if claim != self.claim {
            return RecordFate::Void(VoidReason::StaleClaim);
        }
        let row = self.rows.entry(record.key).or_default();
        if row.version != record.version_before {
            return RecordFate::Void(VoidReason::VersionMoved);
        }
        row.version = record.version_after();
        row.last_op = op_of(record).number;
        row.chain = xxh3_64(&[row.chain, row.last_op].map(u64::to_be_bytes).concat());
        RecordFate::Applied(row.version)
    }

    /// One chunk of at most `rows_max` rows from `cursor`, and where the next one starts.
    pub fn export(&self, cursor: &[u8], rows_max: usize) -> (Vec<u8>, Option<Vec<u8>>) {
        let from = EntityKey::from_bytes(cursor);
        let all = self.rows.iter().filter(|(key, _)| from.is_none_or(|from| **key >= from));
        let rows: Vec<(EntityKey, Row)> = all.clone().take(rows_max).map(|(key, row)| (*key, *row)).collect();
        let next = all.clone().nth(rows_max).map(|(key, _)| key.to_bytes().to_vec());
        let claim = from.is_none().then_some(self.claim);
        (codec::encode(&Chunk { claim, rows }), next)
    }

    /// The state that staged chunks stand for.
    pub fn install(chunks: &[Vec<u8>], seal: &SnapshotSeal) -> Self {
        let mut machine = Self { applied: seal.from.index, whole_at: seal.to_index, ..Self::default() };
        for chunk in chunks {
            let chunk: Chunk = codec::decode(chunk).expect("a staged chunk decodes");
            machine.claim = chunk.claim.unwrap_or(machine.claim);
            machine.rows.extend(chunk.rows);
        }
        machine
    }
}

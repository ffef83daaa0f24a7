//! The rows of the log: what each holds, byte by byte.

use crate::persistence::codec::{damaged, frame_parts, open_row, open_value};
use crate::persistence::key::{self, Table};
use crate::persistence::log::{HardState, LogEntry};
use crate::persistence::store::{StoreError, WriteBatch};
use crate::types::codec;
use crate::types::ids::{LogIndex, ShardId, Term};
use crate::types::limits::DECODE_BYTES_MAX;

/// Term (8) and entry type (1).
const ENTRY_HEAD: usize = 9;
/// Payload of one entry; larger ones would not decode.
pub const PAYLOAD_BYTES_MAX: usize = DECODE_BYTES_MAX;

fn put(batch: &mut WriteBatch, key: Vec<u8>, parts: &[&[u8]]) {
    let value = frame_parts(&key, parts);
    batch.put(key, value);
}

pub fn put_value<T: serde::Serialize>(batch: &mut WriteBatch, key: Vec<u8>, value: &T) {
    put(batch, key, &[&codec::encode(value)]);
}

pub fn put_entry(batch: &mut WriteBatch, shard: ShardId, entry: &LogEntry) -> Result<(), StoreError> {
    let Ok(entry_type) = u8::try_from(entry.entry_type) else {
        return Err(StoreError::Corrupt { what: format!("entry type {}", entry.entry_type) });
    };
    let mut head = [0u8; ENTRY_HEAD];
    head[..8].copy_from_slice(&entry.term.0.to_be_bytes());
    head[8] = entry_type;
    put(batch, key::log_entry(shard, entry.index), &[&head, &entry.payload]);
    Ok(())
}

pub fn put_truncated(batch: &mut WriteBatch, shard: ShardId, truncated: (LogIndex, Term)) {
    put_value(batch, key::of_shard(Table::Truncated, shard), &truncated);
}

pub fn put_hard_state(batch: &mut WriteBatch, shard: ShardId, hard_state: &HardState) {
    let row = (hard_state.term, hard_state.vote, hard_state.commit);
    put_value(batch, key::of_shard(Table::HardState, shard), &row);
}

pub fn decode_hard_state(key: &[u8], value: &[u8]) -> Result<HardState, StoreError> {
    let (term, vote, commit) = open_value(key, value)?;
    Ok(HardState { term, vote, commit })
}

/// A log row, checked.
pub fn decode_entry_row(key: &[u8], value: &[u8]) -> Result<LogEntry, StoreError> {
    let (_, index) = key::parse_log_entry(key).ok_or_else(|| damaged(key, "not a log key"))?;
    let body = open_row(key, value)?;
    let (head, payload) = body.split_at_checked(ENTRY_HEAD).ok_or_else(|| damaged(key, "short entry"))?;
    let term = u64::from_be_bytes(head[..8].try_into().expect("eight bytes"));
    Ok(LogEntry { index, term: Term(term), entry_type: i32::from(head[8]), payload: payload.to_vec() })
}

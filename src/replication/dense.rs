//! Records in entries of version 2, for feature level 2 and above (ADR-10): what can be told from the rest of the entry is
//! left out.
//!
//! ```text
//! body   = term | node | incarnation | count u8 | (at | record)*
//! at     = milliseconds since the record before, the first one's since 1970; zigzag
//! record = flags u8 | kind u8 | id 16 | version before | [sequence | command id 16] | [idempotency id 16 | fingerprint 16]
//!        | events | [period | nonce 12 | ciphertext]
//! ```
//! Numbers are LEB128; events and ciphertext follow their length. Bits 0-1 of the flags say where the command's id is: it
//! is the idempotency id, as of a request; or the version before and a sequence number, as of an entity's own commands; or
//! it stands there. Bit 2: there is an idempotency mark. Bits 3-4: the change of the data key. The others are 0.

use crate::replication::wire::{Reader, WireError, Writer};
use crate::types::codec::CodecError;
use crate::types::ids::{Claim, CommandId, EntityKey, EntityKind, Fingerprint, IdempotencyId};
use crate::types::ids::{Incarnation, NodeId, Term, Version};
use crate::types::limits::{DECODE_BYTES_MAX, ENTRY_RECORDS_MAX};
use crate::types::record::{EntryBody, IdempotencyMark, Record, VaultChange, WrappedKey};
use crate::types::time::Timestamp;

/// What `put_at` appends at most.
pub(crate) const AT_BYTES_MAX: usize = 10;

const ID_MASK: u8 = 0b11;
const ID_WHOLE: u8 = 0;
const ID_OF_REQUEST: u8 = 1;
const ID_OWN: u8 = 2;
const HAS_MARK: u8 = 0b100;
const VAULT_SHIFT: u8 = 3;
const FLAGS_MAX: u8 = 0b1_1111;

/// Claim and a count of zero, which is the last byte.
pub(crate) fn encode_head(claim: Claim) -> Vec<u8> {
    let mut writer = Writer(Vec::new());
    [claim.term.0, claim.node.0, claim.incarnation.0, 0].into_iter().for_each(|value| writer.number(value));
    writer.0
}

/// The instant of a record, told from the one before it in the entry. Wraps, so that no instant is too far.
pub(crate) fn put_at(body: &mut Vec<u8>, last: Timestamp, at: Timestamp) {
    let delta = at.0.wrapping_sub(last.0);
    let mut writer = Writer(std::mem::take(body));
    writer.number(((delta << 1) ^ (delta >> 63)) as u64);
    *body = writer.0;
}

fn take_at(reader: &mut Reader<'_>, last: Timestamp) -> Result<Timestamp, WireError> {
    let zigzag = reader.number()?;
    let delta = (zigzag >> 1) as i64 ^ -((zigzag & 1) as i64);
    Ok(Timestamp(last.0.wrapping_add(delta)))
}

/// The sequence number of an entity's own command, if the id is made of it and the version.
fn own_sequence(record: &Record) -> Option<u64> {
    let (version, sequence) = record.command_id.0.split_first_chunk::<8>()?;
    let sequence = u64::from_be_bytes(sequence.try_into().ok()?);
    (u64::from_be_bytes(*version) == record.version_before.0).then_some(sequence)
}

fn own_id(version: Version, sequence: u64) -> CommandId {
    let mut id = [0u8; 16];
    id[..8].copy_from_slice(&version.0.to_be_bytes());
    id[8..].copy_from_slice(&sequence.to_be_bytes());
    CommandId(id)
}

/// All but the instant.
pub(crate) fn encode_record(record: &Record) -> Vec<u8> {
    let own = own_sequence(record);
    let of_request = record.idempotency.is_some_and(|mark| mark.id.0 == record.command_id.0);
    let vault = match record.vault {
        VaultChange::None => 0u8,
        VaultChange::Put(_) => 1,
        VaultChange::Erase => 2,
        VaultChange::Forget => 3,
    };
    let id = match (of_request, own) {
        (true, _) => ID_OF_REQUEST,
        (false, Some(_)) => ID_OWN,
        (false, None) => ID_WHOLE,
    };
    let has_mark = if record.idempotency.is_some() { HAS_MARK } else { 0 };
    let mut writer = Writer(Vec::with_capacity(64 + record.events.len()));
    writer.0.push(id | has_mark | (vault << VAULT_SHIFT));
    writer.0.extend_from_slice(&record.key.to_bytes());
    writer.number(record.version_before.0);
    match (id, own) {
        (ID_OWN, Some(sequence)) => writer.number(sequence),
        (ID_WHOLE, _) => writer.0.extend_from_slice(&record.command_id.0),
        (_, _) => {}
    }
    if let Some(mark) = record.idempotency {
        writer.0.extend_from_slice(&mark.id.0);
        writer.0.extend_from_slice(&mark.fingerprint.0);
    }
    writer.bytes(&record.events);
    if let VaultChange::Put(wrapped) = &record.vault {
        writer.number(u64::from(wrapped.period));
        writer.0.extend_from_slice(&wrapped.nonce);
        writer.bytes(&wrapped.ciphertext);
    }
    writer.0
}

/// The body of an entry.
///
/// # Errors
/// [`CodecError`]: not the bytes of one.
pub(crate) fn decode_body(body: &[u8]) -> Result<EntryBody, CodecError> {
    take_body(body).map_err(|WireError { what }| CodecError { what })
}

fn take_body(body: &[u8]) -> Result<EntryBody, WireError> {
    let mut reader = Reader(body);
    let claim = Claim {
        term: Term(reader.number()?),
        node: NodeId(reader.number()?),
        incarnation: Incarnation(reader.number()?),
    };
    let count = usize::from(reader.byte()?);
    if count > ENTRY_RECORDS_MAX {
        return Err(WireError { what: "an entry of few enough records" });
    }
    let mut records = Vec::with_capacity(count);
    let mut at = Timestamp(0);
    for _ in 0..count {
        at = take_at(&mut reader, at)?;
        records.push(take_record(&mut reader, at)?);
    }
    reader.end()?;
    Ok(EntryBody::Records { claim, records })
}

fn take_record(reader: &mut Reader<'_>, at: Timestamp) -> Result<Record, WireError> {
    let flags = reader.byte()?;
    if flags > FLAGS_MAX {
        return Err(WireError { what: "flags of a record" });
    }
    let key = EntityKey { kind: EntityKind(reader.byte()?), id: reader.array()? };
    let version_before = Version(reader.number()?);
    let written_id = match flags & ID_MASK {
        ID_WHOLE => Some(CommandId(reader.array()?)),
        ID_OWN => Some(own_id(version_before, reader.number()?)),
        ID_OF_REQUEST => None,
        _ => return Err(WireError { what: "the form of a command's id" }),
    };
    let idempotency = if flags & HAS_MARK == 0 {
        None
    } else {
        Some(IdempotencyMark { id: IdempotencyId(reader.array()?), fingerprint: Fingerprint(reader.array()?) })
    };
    let command_id = written_id.or(idempotency.map(|mark| CommandId(mark.id.0)));
    let command_id = command_id.ok_or(WireError { what: "a command's id without a mark" })?;
    let events = reader.bytes(DECODE_BYTES_MAX)?.to_vec();
    let vault = match flags >> VAULT_SHIFT {
        0 => VaultChange::None,
        1 => VaultChange::Put(take_key(reader)?),
        2 => VaultChange::Erase,
        _ => VaultChange::Forget,
    };
    Ok(Record { key, version_before, at, command_id, idempotency, events, vault })
}

fn take_key(reader: &mut Reader<'_>) -> Result<WrappedKey, WireError> {
    let period = u32::try_from(reader.number()?).map_err(|_| WireError { what: "a key's period" })?;
    Ok(WrappedKey { period, nonce: reader.array()?, ciphertext: reader.bytes(DECODE_BYTES_MAX)?.to_vec() })
}

#[cfg(test)]
#[path = "dense_tests.rs"]
mod tests;

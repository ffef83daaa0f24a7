//! The payload of a Raft entry: `version ‖ crc32 of the body, little-endian ‖ body`, the body being an encoded
//! [`EntryBody`]. Shared by the core, which writes it, and by apply, which reads it.

use crate::types::codec::{self, CodecError};
use crate::types::ids::Claim;
use crate::types::limits::{ENTRY_BYTES_MAX, ENTRY_RECORDS_MAX};
use crate::types::record::{EntryBody, Record};

/// The only version so far. A build reads every version up to its own.
pub const ENTRY_VERSION: u8 = 1;
const HEADER_LEN: usize = 5;

/// Encodes an entry's payload.
#[must_use]
pub fn encode_entry(body: &EntryBody) -> Vec<u8> {
    seal(&codec::encode(body))
}

/// Decodes an entry's payload.
///
/// # Errors
/// [`CodecError`]: another version, a wrong checksum, or a body that is not an [`EntryBody`].
pub fn decode_entry(bytes: &[u8]) -> Result<EntryBody, CodecError> {
    let (header, body) = bytes.split_at_checked(HEADER_LEN).ok_or(CodecError { what: "entry header" })?;
    if header[0] != ENTRY_VERSION {
        return Err(CodecError { what: "entry version" });
    }
    if header[1..] != crc32fast::hash(body).to_le_bytes() {
        return Err(CodecError { what: "entry checksum" });
    }
    codec::decode(body)
}

fn seal(body: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(HEADER_LEN + body.len());
    bytes.push(ENTRY_VERSION);
    bytes.extend_from_slice(&crc32fast::hash(body).to_le_bytes());
    bytes.extend_from_slice(body);
    bytes
}

/// Joins records that are encoded already into one entry, so that each record is encoded once.
pub(crate) struct EntryBuilder {
    body: Vec<u8>,
    count_at: usize,
    count: u8,
}

impl EntryBuilder {
    pub(crate) fn new(claim: Claim) -> Self {
        let mut body = codec::encode(&EntryBody::Records { claim, records: Vec::new() });
        // The length of an empty vector is the last byte; lengths up to 250 are that one byte.
        let count_at = body.len() - 1;
        body.reserve(1024);
        Self { body, count_at, count: 0 }
    }

    pub(crate) fn encode_record(record: &Record) -> Vec<u8> {
        codec::encode(record)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Whether one more record of this encoded size belongs into this entry; the first one always does.
    pub(crate) fn has_room(&self, record_bytes: usize) -> bool {
        self.count == 0
            || (usize::from(self.count) < ENTRY_RECORDS_MAX
                && HEADER_LEN + self.body.len() + record_bytes <= ENTRY_BYTES_MAX)
    }

    pub(crate) fn push(&mut self, record: &[u8]) {
        assert!(self.has_room(record.len()), "the caller asks for room first");
        self.body.extend_from_slice(record);
        self.count += 1;
    }

    pub(crate) fn finish(mut self) -> Vec<u8> {
        self.body[self.count_at] = self.count;
        seal(&self.body)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::ids::{CommandId, EntityKey, EntityKind, Incarnation, NodeId, Term, Version};
    use crate::types::record::VaultChange;
    use crate::types::time::Timestamp;

    fn claim() -> Claim {
        Claim { term: Term(300), node: NodeId(2), incarnation: Incarnation(7) }
    }

    fn record(n: u8) -> Record {
        Record {
            key: EntityKey { kind: EntityKind(1), id: [n; 16] },
            version_before: Version(u64::from(n) * 100),
            at: Timestamp(1_700_000_000_000 + i64::from(n)),
            command_id: CommandId([n; 16]),
            idempotency: None,
            events: vec![n; usize::from(n) * 3],
            vault: VaultChange::None,
        }
    }

    #[test]
    fn joined_records_equal_the_encoding_of_the_whole() {
        for count in [1u8, 2, 63, 64] {
            let records: Vec<Record> = (0..count).map(record).collect();
            let mut builder = EntryBuilder::new(claim());
            for one in &records {
                builder.push(&EntryBuilder::encode_record(one));
            }
            assert_eq!(builder.finish(), encode_entry(&EntryBody::Records { claim: claim(), records }));
        }
    }

    #[test]
    fn entry_is_full_at_64_records_or_64_kib_and_a_lone_record_always_fits() {
        let mut builder = EntryBuilder::new(claim());
        assert!(builder.has_room(ENTRY_BYTES_MAX * 2));
        for n in 0..64 {
            builder.push(&EntryBuilder::encode_record(&record(n)));
        }
        assert!(!builder.has_room(1));
        let mut builder = EntryBuilder::new(claim());
        builder.push(&vec![0; ENTRY_BYTES_MAX - 100]);
        assert!(builder.has_room(10) && !builder.has_room(100));
    }

    #[test]
    fn every_flipped_bit_and_every_cut_is_refused() {
        let bytes = encode_entry(&EntryBody::Records { claim: claim(), records: vec![record(3)] });
        assert!(decode_entry(&bytes).is_ok());
        for at in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[at] ^= 1 << (at % 8);
            assert!(decode_entry(&damaged).is_err(), "flip at {at}");
            assert!(decode_entry(&bytes[..at]).is_err(), "cut at {at}");
        }
    }

    #[test]
    fn golden_bytes_of_a_claim() {
        let bytes = encode_entry(&EntryBody::Claim(claim()));
        assert_eq!(hex::encode(&bytes), "017f4d52c900fb2c010207", "a persisted format changed");
        assert_eq!(decode_entry(&bytes), Ok(EntryBody::Claim(claim())));
    }
}

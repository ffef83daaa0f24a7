//! The payload of a Raft entry: `version ‖ crc32 of the body, little-endian ‖ body`. Version 1 is an encoded [`EntryBody`];
//! version 2 holds records more densely (`dense`). Shared by the core, which writes it, and by apply, which reads it.

use crate::replication::dense;
use crate::types::codec::{self, CodecError};
use crate::types::ids::Claim;
use crate::types::level::FeatureLevel;
use crate::types::limits::{ENTRY_BYTES_MAX, ENTRY_RECORDS_MAX};
use crate::types::record::{EntryBody, Record};
use crate::types::time::Timestamp;

const HEADER_LEN: usize = 5;

/// How records are written into entries. A build reads every one up to its own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum EntryFormat {
    /// Read by every build. A new leader's claim is always written so, and the meta group's records.
    #[default]
    Plain = 1,
    /// From feature level 2 on (ADR-10).
    Dense = 2,
}

impl EntryFormat {
    /// The newest that this build knows.
    pub const NEWEST: Self = Self::Dense;

    /// What is written at a feature level, and the newest that a build of that level reads.
    #[must_use]
    pub fn at_level(level: FeatureLevel) -> Self {
        if level >= FeatureLevel(2) { Self::Dense } else { Self::Plain }
    }

    fn of_version(version: u8) -> Option<Self> {
        [Self::Plain, Self::Dense].into_iter().find(|format| *format as u8 == version)
    }

    fn seal(self, body: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(HEADER_LEN + body.len());
        bytes.push(self as u8);
        bytes.extend_from_slice(&crc32fast::hash(body).to_le_bytes());
        bytes.extend_from_slice(body);
        bytes
    }

    pub(crate) fn encode_record(self, record: &Record) -> EncodedRecord {
        let bytes = match self {
            Self::Plain => codec::encode(record),
            Self::Dense => dense::encode_record(record),
        };
        EncodedRecord { format: self, at: record.at, bytes }
    }
}

/// Encodes an entry's payload plainly.
#[must_use]
pub fn encode_entry(body: &EntryBody) -> Vec<u8> {
    EntryFormat::Plain.seal(&codec::encode(body))
}

/// Encodes records as the payload of one entry of a format.
///
/// # Panics
/// When they are more than an entry has room for.
#[must_use]
pub fn encode_records(format: EntryFormat, claim: Claim, records: &[Record]) -> Vec<u8> {
    let mut builder = EntryBuilder::new(claim);
    records.iter().for_each(|record| builder.push(&format.encode_record(record)));
    builder.finish()
}

/// Decodes an entry's payload of any format.
///
/// # Errors
/// As [`decode_entry_up_to`].
pub fn decode_entry(bytes: &[u8]) -> Result<EntryBody, CodecError> {
    decode_entry_up_to(EntryFormat::NEWEST, bytes)
}

/// Decodes an entry's payload of a format up to `newest`.
///
/// # Errors
/// [`CodecError`]: a newer version, a wrong checksum, or a body that is none.
pub fn decode_entry_up_to(newest: EntryFormat, bytes: &[u8]) -> Result<EntryBody, CodecError> {
    let (header, body) = bytes.split_at_checked(HEADER_LEN).ok_or(CodecError { what: "entry header" })?;
    let format = EntryFormat::of_version(header[0]).filter(|format| *format <= newest);
    let format = format.ok_or(CodecError { what: "an entry of a feature level that this build knows" })?;
    if header[1..] != crc32fast::hash(body).to_le_bytes() {
        return Err(CodecError { what: "entry checksum" });
    }
    match format {
        EntryFormat::Plain => codec::decode(body),
        EntryFormat::Dense => dense::decode_body(body),
    }
}

/// A record encoded once, to be joined with others of its format.
pub(crate) struct EncodedRecord {
    format: EntryFormat,
    at: Timestamp,
    bytes: Vec<u8>,
}

impl EncodedRecord {
    pub(crate) fn len(&self) -> usize {
        self.bytes.len()
    }
}

/// Joins encoded records into one entry, of the format of the first.
pub(crate) struct EntryBuilder {
    claim: Claim,
    format: EntryFormat,
    body: Vec<u8>,
    count_at: usize,
    count: u8,
    last_at: Timestamp,
}

impl EntryBuilder {
    pub(crate) fn new(claim: Claim) -> Self {
        let (format, last_at) = (EntryFormat::Plain, Timestamp(0));
        Self { claim, format, body: Vec::with_capacity(1024), count_at: 0, count: 0, last_at }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Whether one more record belongs into this entry; the first one always does.
    pub(crate) fn has_room(&self, record: &EncodedRecord) -> bool {
        self.count == 0
            || (usize::from(self.count) < ENTRY_RECORDS_MAX
                && record.format == self.format
                && HEADER_LEN + self.body.len() + dense::AT_BYTES_MAX + record.len() <= ENTRY_BYTES_MAX)
    }

    pub(crate) fn push(&mut self, record: &EncodedRecord) {
        assert!(self.has_room(record), "the caller asks for room first");
        if self.count == 0 {
            self.begin(record.format);
        }
        if self.format == EntryFormat::Dense {
            dense::put_at(&mut self.body, self.last_at, record.at);
        }
        self.last_at = record.at;
        self.body.extend_from_slice(&record.bytes);
        self.count += 1;
    }

    fn begin(&mut self, format: EntryFormat) {
        self.format = format;
        match format {
            // The length of an empty vector is the last byte; lengths up to 250 are that one byte.
            EntryFormat::Plain => codec::encode(&EntryBody::Records { claim: self.claim, records: Vec::new() }),
            EntryFormat::Dense => dense::encode_head(self.claim),
        }
        .into_iter()
        .for_each(|byte| self.body.push(byte));
        self.count_at = self.body.len() - 1;
    }

    pub(crate) fn finish(mut self) -> Vec<u8> {
        self.body[self.count_at] = self.count;
        self.format.seal(&self.body)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::ids::{
        CommandId, EntityKey, EntityKind, Fingerprint, IdempotencyId, Incarnation, NodeId, Term, Version,
    };
    use crate::types::limits::{RECORD_BYTES_MAX, RECORD_EVENTS_BYTES_MAX};
    use crate::types::record::{IdempotencyMark, VaultChange, WrappedKey};
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

    fn joined(format: EntryFormat, records: &[Record]) -> Vec<u8> {
        encode_records(format, claim(), records)
    }

    #[test]
    fn records_of_every_format_come_out_as_they_went_in_and_a_build_reads_up_to_its_own() {
        let records: Vec<Record> = (0..64).map(record).collect();
        let body = EntryBody::Records { claim: claim(), records: records.clone() };
        let (plain, dense) = (joined(EntryFormat::Plain, &records), joined(EntryFormat::Dense, &records));
        assert_eq!(decode_entry(&plain), Ok(body.clone()));
        assert_eq!(decode_entry(&dense), Ok(body.clone()));
        assert_eq!(decode_entry_up_to(EntryFormat::Plain, &plain), Ok(body));
        let refused = decode_entry_up_to(EntryFormat::Plain, &dense).unwrap_err();
        assert!(refused.to_string().contains("a feature level that this build knows"), "{refused}");
    }

    #[test]
    fn an_entry_holds_records_of_one_format() {
        let mut builder = EntryBuilder::new(claim());
        builder.push(&EntryFormat::Plain.encode_record(&record(1)));
        assert!(builder.has_room(&EntryFormat::Plain.encode_record(&record(2))));
        assert!(!builder.has_room(&EntryFormat::Dense.encode_record(&record(2))));
    }

    #[test]
    fn joined_records_equal_the_encoding_of_the_whole() {
        for count in [1u8, 2, 63, 64] {
            let records: Vec<Record> = (0..count).map(record).collect();
            let joined = joined(EntryFormat::Plain, &records);
            assert_eq!(joined, encode_entry(&EntryBody::Records { claim: claim(), records }));
        }
    }

    #[test]
    fn entry_is_full_at_64_records_or_64_kib_and_a_lone_record_always_fits() {
        for format in [EntryFormat::Plain, EntryFormat::Dense] {
            let sized = |length| EncodedRecord { format, at: Timestamp(0), bytes: vec![0; length] };
            let mut builder = EntryBuilder::new(claim());
            assert!(builder.has_room(&sized(ENTRY_BYTES_MAX * 2)));
            (0..64).for_each(|n| builder.push(&format.encode_record(&record(n))));
            assert!(!builder.has_room(&sized(1)));
            let mut builder = EntryBuilder::new(claim());
            builder.push(&sized(ENTRY_BYTES_MAX - 100));
            assert!(builder.has_room(&sized(10)) && !builder.has_room(&sized(100)));
        }
    }

    #[test]
    fn a_record_of_as_many_events_as_a_step_may_have_is_not_too_large_whatever_else_is_in_it() {
        let id = IdempotencyId([255; 16]);
        let largest = Record {
            version_before: Version(u64::MAX),
            idempotency: Some(IdempotencyMark { id, fingerprint: Fingerprint([255; 16]) }),
            events: vec![255; RECORD_EVENTS_BYTES_MAX],
            vault: VaultChange::Put(WrappedKey { period: u32::MAX, nonce: [255; 12], ciphertext: vec![255; 48] }),
            ..record(255)
        };
        for format in [EntryFormat::Plain, EntryFormat::Dense] {
            assert!(format.encode_record(&largest).len() <= RECORD_BYTES_MAX);
        }
    }

    #[test]
    fn every_flipped_bit_and_every_cut_is_refused() {
        for format in [EntryFormat::Plain, EntryFormat::Dense] {
            let bytes = joined(format, &[record(3)]);
            assert!(decode_entry(&bytes).is_ok());
            for at in 0..bytes.len() {
                let mut damaged = bytes.clone();
                damaged[at] ^= 1 << (at % 8);
                assert!(decode_entry(&damaged).is_err(), "flip at {at}");
                assert!(decode_entry(&bytes[..at]).is_err(), "cut at {at}");
            }
        }
    }

    #[test]
    fn golden_bytes_of_a_claim() {
        let bytes = encode_entry(&EntryBody::Claim(claim()));
        assert_eq!(hex::encode(&bytes), "017f4d52c900fb2c010207", "a persisted format changed");
        assert_eq!(decode_entry(&bytes), Ok(EntryBody::Claim(claim())));
    }
}

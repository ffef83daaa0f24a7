//! The payload of a Raft entry, in both formats: records as they are replicated and journaled.

use crate::engine::Target;
use crate::{PLACE, heap, round_trips};
use bojagi::replication::entry::{EntryFormat, decode_entry, decode_entry_up_to, encode_entry, encode_records};
use bojagi::types::ids::{
    Claim, CommandId, EntityKey, EntityKind, Fingerprint, IdempotencyId, Incarnation, NodeId, Term, Version,
};
use bojagi::types::limits::ENTRY_RECORDS_MAX;
use bojagi::types::record::{EntryBody, IdempotencyMark, Record, VaultChange, WrappedKey};
use bojagi::types::time::Timestamp;

const CLAIM: Claim = Claim { term: Term(300), node: NodeId(2), incarnation: Incarnation(7) };
/// Version byte and checksum.
const HEADER: usize = 5;

fn records() -> Vec<Record> {
    let vaults = [
        VaultChange::None,
        VaultChange::Put(WrappedKey { period: 3, nonce: [1; 12], ciphertext: vec![2; 48] }),
        VaultChange::Erase,
        VaultChange::Forget,
    ];
    let record = |(number, vault): (u8, VaultChange)| Record {
        key: EntityKey { kind: EntityKind(1), id: [number; 16] },
        version_before: Version(u64::from(number) * 100),
        at: Timestamp(1_700_000_000_000 - i64::from(number)),
        command_id: CommandId([number; 16]),
        idempotency: (number % 2 == 0)
            .then_some(IdempotencyMark { id: IdempotencyId([number; 16]), fingerprint: Fingerprint([9; 16]) }),
        events: vec![number; usize::from(number) * 5],
        vault,
    };
    (0..).zip(vaults).map(record).collect()
}

/// The header of a format over any body.
fn sealed(version: u8, body: &[u8]) -> Vec<u8> {
    [&[version], &crc32fast::hash(body).to_le_bytes()[..], body].concat()
}

fn corpus() -> Vec<Vec<u8>> {
    let formats = [EntryFormat::Plain, EntryFormat::Dense];
    let mut corpus = vec![encode_entry(&EntryBody::Claim(CLAIM))];
    corpus.extend(formats.map(|format| encode_records(format, CLAIM, &records())));
    corpus.extend(formats.map(|format| encode_records(format, CLAIM, &records()[..1])));
    corpus
}

#[test]
fn entry_payloads() {
    let sound = corpus();
    let target = Target { name: "entry_payloads", place: PLACE, corpus: corpus(), dictionary: &[], cases: 10_000 };
    target.run(|input, _| {
        let decoded = heap::modest(input, || decode_entry(input));
        assert_eq!(decoded.is_ok(), sound.iter().any(|one| one == input), "damaged bytes were taken for an entry");
        assert!(decode_entry_up_to(EntryFormat::Plain, input).is_err() || input[0] == EntryFormat::Plain as u8);
        for version in [EntryFormat::Plain as u8, EntryFormat::Dense as u8, 3] {
            let whole = sealed(version, input.get(HEADER..).unwrap_or_default());
            let Ok(body) = heap::modest(input, || decode_entry(&whole)) else { continue };
            assert_ne!(version, 3, "an unknown version was taken");
            assert_eq!(decode_entry(&encode_entry(&body)).as_ref(), Ok(&body));
            if let EntryBody::Records { claim, records } = &body
                && (1..=ENTRY_RECORDS_MAX).contains(&records.len())
            {
                for format in [EntryFormat::Plain, EntryFormat::Dense] {
                    let again = encode_records(format, *claim, records);
                    assert_eq!(decode_entry(&again).as_ref(), Ok(&body), "{format:?}");
                }
            }
        }
    });
}

#[test]
fn lone_records() {
    let corpus = records().iter().map(bojagi::types::codec::encode).collect();
    Target { name: "lone_records", place: PLACE, corpus, dictionary: &[], cases: 10_000 }.run(|input, _| {
        if let Some(record) = round_trips::<Record>(input) {
            let entry = encode_records(EntryFormat::Dense, CLAIM, std::slice::from_ref(&record));
            assert_eq!(decode_entry(&entry), Ok(EntryBody::Records { claim: CLAIM, records: vec![record] }));
        }
    });
}

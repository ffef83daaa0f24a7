//! Dense records come out as they went in, whatever is in them; their bytes stay what they are.

use super::*;
use crate::replication::entry::{EntryFormat, decode_entry, encode_records};
use proptest::prelude::*;

const CLAIM: Claim = Claim { term: Term(300), node: NodeId(2), incarnation: Incarnation(7) };

fn sealed(format: EntryFormat, records: &[Record]) -> Vec<u8> {
    encode_records(format, CLAIM, records)
}

/// As a request makes it: the command's id is the key's, and a data key comes with it.
fn of_request() -> Record {
    Record {
        key: EntityKey { kind: EntityKind(1), id: [1; 16] },
        version_before: Version(0),
        at: Timestamp(1_700_000_000_000),
        command_id: CommandId([2; 16]),
        idempotency: Some(IdempotencyMark { id: IdempotencyId([2; 16]), fingerprint: Fingerprint([3; 16]) }),
        events: vec![4; 4],
        vault: VaultChange::Put(WrappedKey { period: 5, nonce: [6; 12], ciphertext: vec![7; 3] }),
    }
}

/// As an entity's own timer makes it.
fn own() -> Record {
    Record {
        version_before: Version(3),
        at: Timestamp(1_699_999_999_990),
        command_id: own_id(Version(3), 9),
        idempotency: None,
        vault: VaultChange::None,
        ..of_request()
    }
}

#[test]
fn golden_bytes_of_a_request_and_of_an_entitys_own_record() {
    let bytes = sealed(EntryFormat::Dense, &[of_request(), own()]);
    let golden = concat!(
        "02f3ea4737",
        "ac02020702",
        "80a0abfef9620d0101010101010101010101010101010101000202020202020202020202020202020203030303030303030303030303030303040404040405060606060606060606060606030707071302010101010101010101010101010101010103090404040404",
    );
    assert_eq!(hex::encode(&bytes), golden, "a persisted format changed");
    let records = vec![of_request(), own()];
    assert_eq!(decode_entry(&bytes), Ok(EntryBody::Records { claim: CLAIM, records }));
}

#[test]
fn what_the_entry_tells_already_is_left_out() {
    let saved = |record: Record| {
        let records = vec![record; 64];
        let [plain, dense] = [EntryFormat::Plain, EntryFormat::Dense].map(|format| sealed(format, &records).len());
        (plain - dense + 32) / 64
    };
    // Of the instant 8, of the id 16 or 15, of the tags 1.
    assert_eq!([saved(of_request()), saved(own())], [25, 24]);
}

#[test]
fn bytes_that_are_no_records_are_refused() {
    let body = |rest: &[u8]| decode_body(&[&[1, 1, 1], rest].concat());
    let refused = |rest: &[u8]| body(rest).is_err();
    assert!(body(&[0]).is_ok());
    assert!(refused(&[]) && refused(&[65]) && refused(&[0, 0]));
    let record = |flags: u8| [&[1, 0, flags][..], &[0; 17], &[0; 60]].concat();
    assert!(refused(&record(0b10_0000)), "an unknown flag");
    assert!(refused(&record(3)), "an unknown form of the id");
    assert!(refused(&record(ID_OF_REQUEST)), "an id that is nowhere");
}

fn any_vault() -> impl Strategy<Value = VaultChange> {
    let put = (any::<u32>(), any::<[u8; 12]>(), proptest::collection::vec(any::<u8>(), 0..80))
        .prop_map(|(period, nonce, ciphertext)| VaultChange::Put(WrappedKey { period, nonce, ciphertext }));
    prop_oneof![Just(VaultChange::None), put, Just(VaultChange::Erase), Just(VaultChange::Forget)]
}

prop_compose! {
    fn any_record()(
        (kind, id, version, at) in (any::<u8>(), any::<[u8; 16]>(), any::<u64>(), any::<i64>()),
        (command, form, sequence) in (any::<[u8; 16]>(), 0..3u8, any::<u64>()),
        mark in proptest::option::of((any::<[u8; 16]>(), any::<[u8; 16]>())),
        events in proptest::collection::vec(any::<u8>(), 0..300),
        vault in any_vault(),
    ) -> Record {
        let idempotency = mark.map(|(id, print)| IdempotencyMark { id: IdempotencyId(id), fingerprint: Fingerprint(print) });
        let command_id = match (form, idempotency) {
            (0, Some(mark)) => CommandId(mark.id.0),
            (1, _) => own_id(Version(version), sequence),
            (_, _) => CommandId(command),
        };
        let key = EntityKey { kind: EntityKind(kind), id };
        Record { key, version_before: Version(version), at: Timestamp(at), command_id, idempotency, events, vault }
    }
}

proptest! {
    #[test]
    fn any_records_come_out_as_they_went_in(records in proptest::collection::vec(any_record(), 1..20)) {
        let bytes = sealed(EntryFormat::Dense, &records);
        prop_assert!(bytes.len() <= sealed(EntryFormat::Plain, &records).len() + 20);
        prop_assert_eq!(decode_entry(&bytes), Ok(EntryBody::Records { claim: CLAIM, records }));
    }

    #[test]
    fn any_bytes_decode_or_are_refused(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        let _either = decode_body(&bytes);
    }
}

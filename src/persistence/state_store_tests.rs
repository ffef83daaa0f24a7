//! Tests of the state rows: golden bytes, order, damage.

use super::*;
use crate::persistence::effect_rows::put_difference;
use crate::persistence::memory_store::MemoryStore;
use crate::persistence::toy::{ALL, Event, NAMES, ToyKind, claim, entity, record};
use crate::types::effect::{Channel, Effects, IndexWant, TimerWant};
use crate::types::kind::Kind;

const SHARD: ShardId = ShardId(3);

fn new_state() -> (Arc<MemoryStore>, StateStore) {
    let store = Arc::new(MemoryStore::new());
    (store.clone(), StateStore::new(store))
}

fn write(state: &StateStore, fill: impl FnOnce(&mut WriteBatch)) {
    let mut batch = WriteBatch::default();
    fill(&mut batch);
    let applied = AppliedRow { index: LogIndex(7), term: Term(2), claim: claim(2) };
    state.commit(SHARD, batch, &applied).unwrap();
}

fn check(store: &MemoryStore, row_key: &[u8], golden: &str) {
    assert_eq!(hex::encode(store.get(row_key).unwrap().unwrap()), golden);
}

#[test]
fn state_rows_have_their_golden_bytes() {
    let (store, state) = new_state();
    let change = record(1, 4, &[Event::Added(5)]);
    write(&state, |batch| {
        put_state(batch, SHARD, &entity(1), Version(5), b"state");
        put_record(batch, SHARD, &change);
        let mut live = ToyKind.load(entity(1), None).unwrap();
        live.evolve(&codec::encode(&vec![Event::Timed(Some(9)), Event::Calling(Some(8))])).unwrap();
        put_difference(batch, SHARD, entity(1), None, &live.wants());
    });
    let wake = |due, slot| key::wake(SHARD, &WakeKey { due: Timestamp(due), key: entity(1), slot: Slot(slot) });
    check(&store, &key::of_shard(Table::Applied, SHARD), GOLDEN[0]);
    check(&store, &key::state(SHARD, &entity(1)), GOLDEN[1]);
    check(&store, &key::journal(SHARD, &entity(1), Version(5)), GOLDEN[2]);
    check(&store, &key::idempotency(SHARD, change.idempotency.unwrap().id), GOLDEN[3]);
    check(&store, &wake(9, 1), GOLDEN[4]);
    check(&store, &wake(8, 2), GOLDEN[5]);
    check(&store, &key::index(SHARD, ALL, &entity(1).id), GOLDEN[6]);
}
const GOLDEN: [&str; 7] = [
    "01c55eccc50702020101",
    "01739f400200000000000000057374617465",
    "0163ed9dc800000000000003ec00000000000000040101010101010101010005",
    "01c914566e010101010101010101010101010101010101010101010101010101010101010101000000000000000500000000000003ec",
    "0189229e1c",
    "019ef11abd02",
    "01e50f46390101010101010101010101010101010101",
];

#[test]
fn lanes_have_their_golden_bytes() {
    let lanes = [Lane::Send(Channel::Kakao), Lane::Notice(Channel::Push), Lane::Payment, Lane::Entity, Lane::Shipment];
    assert_eq!(lanes.map(|lane| hex::encode(codec::encode(&lane))), ["0000", "0103", "02", "03", "04"]);
}

#[test]
fn wake_rows_come_by_due_instant_and_page_by_cursor() {
    let (_, state) = new_state();
    write(&state, |batch| {
        for (id, due) in [(1, 30), (2, 10), (3, 20), (4, 10)] {
            let timers = vec![TimerWant { slot: Slot(1), due: Timestamp(due) }];
            put_difference(batch, SHARD, entity(id), None, &Effects { timers, ..Effects::default() });
        }
    });
    let ids = |rows: Vec<WakeRow>| rows.iter().map(|row| row.key.id[0]).collect::<Vec<_>>();
    let first = state.wake_scan(SHARD, None, Timestamp(20), 2).unwrap();
    let cursor = first.last().map(WakeRow::cursor);
    assert_eq!(ids(first), [2, 4]);
    assert_eq!(ids(state.wake_scan(SHARD, cursor, Timestamp(20), 9).unwrap()), [3]);
    assert_eq!(ids(state.wake_scan(SHARD, None, Timestamp(9), 9).unwrap()), [0u8; 0]);
    assert_eq!(state.next_due(SHARD, cursor).unwrap(), Some(Timestamp(20)));
    assert_eq!(state.next_due(ShardId(4), None).unwrap(), None);
}

#[test]
fn index_rows_page_in_key_order_within_their_prefix() {
    let (_, state) = new_state();
    let names = ["ax", "ay", "az", "b"];
    write(&state, |batch| {
        for (id, name) in (1..).zip(names) {
            let indexes = vec![IndexWant { index: NAMES, key: name.into(), unique: true }];
            put_difference(batch, SHARD, entity(id), None, &Effects { indexes, ..Effects::default() });
        }
    });
    let scan = |prefix: &[u8], after: Option<&[u8]>, limit| {
        let rows = state.index_scan(SHARD, NAMES, prefix, after, limit).unwrap();
        rows.into_iter().map(|(key, _)| String::from_utf8(key).unwrap()).collect::<Vec<_>>()
    };
    assert_eq!(scan(b"a", None, 2), ["ax", "ay"]);
    assert_eq!(scan(b"a", Some(b"ay"), 9), ["az"]);
    assert_eq!(scan(b"", None, 9), names);
    assert_eq!(scan(b"b", Some(b"b"), 9), [""; 0]);
    assert_eq!(state.index_get(SHARD, NAMES, b"b").unwrap(), Some(entity(4)));
    assert_eq!(state.index_get(SHARD, ALL, b"b").unwrap(), None);
}

#[test]
fn a_journal_pages_by_version() {
    let (_, state) = new_state();
    write(&state, |batch| (0..5).for_each(|before| put_record(batch, SHARD, &record(1, before, &[]))));
    let versions = |after, limit| {
        let records = state.journal(SHARD, &entity(1), Version(after), limit).unwrap();
        records.iter().map(|record| record.version.0).collect::<Vec<_>>()
    };
    assert_eq!(versions(0, 2), [1, 2]);
    assert_eq!(versions(2, 9), [3, 4, 5]);
    assert_eq!(versions(u64::MAX, 9), [0u64; 0]);
}

#[test]
fn a_flipped_bit_is_an_error_at_the_read() {
    let (store, state) = new_state();
    write(&state, |batch| put_state(batch, SHARD, &entity(1), Version(5), b"state"));
    assert!(store.flip_bit(&key::state(SHARD, &entity(1)), 70));
    assert!(matches!(state.get(SHARD, &entity(1)), Err(StoreError::Corrupt { .. })));
    assert!(store.flip_bit(&key::of_shard(Table::Applied, SHARD), 45));
    assert!(matches!(state.applied(SHARD), Err(StoreError::Corrupt { .. })));
}

#[test]
fn equal_rows_have_equal_digests_and_others_do_not() {
    let (_, one) = new_state();
    let (_, two) = new_state();
    for state in [&one, &two] {
        write(state, |batch| put_state(batch, SHARD, &entity(1), Version(5), b"state"));
    }
    assert_eq!(one.stats(SHARD).unwrap(), two.stats(SHARD).unwrap());
    write(&two, |batch| put_state(batch, SHARD, &entity(1), Version(5), b"other"));
    assert_ne!(one.stats(SHARD).unwrap().digest, two.stats(SHARD).unwrap().digest);
}

//! The rows of a shard's state as the stores read them: journal records, states, idempotency marks, wakes, indexes.

use crate::engine::Target;
use crate::{PLACE, heap};
use bojagi::persistence::codec::{FRAME_BYTES, FrameError, frame, unframe};
use bojagi::persistence::key;
use bojagi::persistence::memory_store::MemoryStore;
use bojagi::persistence::state_store::{StateStore, put_record, put_state};
use bojagi::persistence::store::{Store, StoreError, WriteBatch};
use bojagi::types::effect::IndexTag;
use bojagi::types::ids::{CommandId, EntityKey, EntityKind, Fingerprint, IdempotencyId, ShardId, Version};
use bojagi::types::record::{IdempotencyMark, Record, VaultChange};
use bojagi::types::time::Timestamp;
use std::sync::Arc;

const SHARD: ShardId = ShardId(3);
const ENTITY: EntityKey = EntityKey { kind: EntityKind(1), id: [5; 16] };
const MARK: IdempotencyMark = IdempotencyMark { id: IdempotencyId([6; 16]), fingerprint: Fingerprint([7; 16]) };

fn record() -> Record {
    Record {
        key: ENTITY,
        version_before: Version(0),
        at: Timestamp(1_797_724_800_000),
        command_id: CommandId([8; 16]),
        idempotency: Some(MARK),
        events: vec![1, 2, 3, 4, 5],
        vault: VaultChange::None,
    }
}

fn state_with(rows: Vec<(Vec<u8>, Vec<u8>)>) -> StateStore {
    let store = Arc::new(MemoryStore::new());
    let operations = rows.into_iter().map(|(row_key, value)| (row_key, Some(value))).collect();
    store.apply(WriteBatch { operations }).unwrap();
    StateStore::new(store)
}

/// A row's key, its sound value, and how it is read; what was read comes as text, so that all readers look alike.
type Reader = fn(&StateStore) -> Result<String, StoreError>;

fn sound_rows() -> Vec<(Vec<u8>, Vec<u8>, Reader)> {
    let mut batch = WriteBatch::default();
    put_record(&mut batch, SHARD, &record());
    put_state(&mut batch, SHARD, &ENTITY, Version(1), b"a state");
    let wake = key::WakeKey { due: Timestamp(9), key: ENTITY, slot: bojagi::types::effect::Slot(2) };
    for row_key in [key::wake(SHARD, &wake), key::index(SHARD, IndexTag(2), b"link")] {
        let body: &[u8] = if key::parse_wake(&row_key).is_some() { &[] } else { &ENTITY.to_bytes() };
        batch.put(row_key.clone(), frame(&row_key, body));
    }
    let readers: [Reader; 5] = [
        |state| state.journal(SHARD, &ENTITY, Version(0), 10).map(|row| format!("{row:?}")),
        |state| state.idempotency(SHARD, MARK.id).map(|row| format!("{row:?}")),
        |state| state.get(SHARD, &ENTITY).map(|row| format!("{row:?}")),
        |state| state.wake_scan(SHARD, None, Timestamp::MAX, 10).map(|row| format!("{row:?}")),
        |state| state.index_get(SHARD, IndexTag(2), b"link").map(|row| format!("{row:?}")),
    ];
    let rows = batch.operations.into_iter().map(|(row_key, value)| (row_key, value.unwrap()));
    rows.zip(readers).map(|((row_key, value), reader)| (row_key, value, reader)).collect()
}

#[test]
fn stored_rows() {
    let rows = sound_rows();
    let corpus = rows.iter().map(|(_, value, _)| value.clone()).collect();
    Target { name: "stored_rows", place: PLACE, corpus, dictionary: &[], cases: 10_000 }.run(|input, rng| {
        let (row_key, sound, read) = rng.pick(&rows);
        // As it is: refused by its checksum, unless it is what was written there.
        let found = heap::modest(input, || read(&state_with(vec![(row_key.clone(), input.to_vec())])));
        match &found {
            Ok(_) => assert_eq!(input, sound, "damaged bytes were taken for a row"),
            Err(StoreError::Corrupt { .. }) => assert_ne!(input, sound),
            Err(other) => panic!("{other}"),
        }
        // Sealed again, as a wrong writer would: read or refused, and never more than the bytes hold.
        let sealed = frame(row_key, input.get(FRAME_BYTES..).unwrap_or_default());
        match heap::modest(input, || read(&state_with(vec![(row_key.clone(), sealed.clone())]))) {
            Ok(_) | Err(StoreError::Corrupt { .. }) => {}
            Err(other) => panic!("{other}"),
        }
        assert_eq!(
            unframe(b"another place", &sealed),
            Err(FrameError::Checksum),
            "a row is good in its own place only"
        );
    });
}

#[test]
fn stored_keys() {
    let wake = key::WakeKey { due: Timestamp(-9), key: ENTITY, slot: bojagi::types::effect::Slot(2) };
    let corpus = vec![
        key::journal(SHARD, &ENTITY, Version(9)),
        key::state(SHARD, &ENTITY),
        key::wake(SHARD, &wake),
        key::index(SHARD, IndexTag(1), b"k"),
        key::log_entry(SHARD, bojagi::types::ids::LogIndex(7)),
        key::staged(SHARD, &key::state(SHARD, &ENTITY)),
        key::wrapped_key(&ENTITY),
    ];
    Target { name: "stored_keys", place: PLACE, corpus, dictionary: &[], cases: 10_000 }.run(|input, _| {
        if let Some((shard, entity, version)) = key::parse_journal(input) {
            assert_eq!(key::journal(shard, &entity, version), input, "a key has one spelling");
        }
        if let Some((shard, entity)) = key::parse_state(input) {
            assert_eq!(key::state(shard, &entity), input);
        }
        if let Some((shard, wake)) = key::parse_wake(input) {
            assert_eq!(key::wake(shard, &wake), input);
        }
        if let Some((shard, tag, index_key)) = key::parse_index(input) {
            assert_eq!(key::index(shard, tag, index_key), input);
        }
        if let Some((shard, index)) = key::parse_log_entry(input) {
            assert_eq!(key::log_entry(shard, index), input);
        }
        if let Some(entity) = key::parse_wrapped_key(input) {
            assert_eq!(key::wrapped_key(&entity), input);
        }
        let _inner = key::parse_staged(input);
    });
}

//! Chunks of snapshots and pages of backups, as another node sends them.

use crate::engine::Target;
use crate::{PLACE, heap, round_trips};
use bojagi::persistence::codec::{FRAME_BYTES, frame};
use bojagi::persistence::copying::{Copied, LogPage, RowsPage};
use bojagi::persistence::key::{self, Table};
use bojagi::persistence::key_store::KeyStore;
use bojagi::persistence::memory_store::MemoryStore;
use bojagi::persistence::ring::RingFile;
use bojagi::persistence::snapshot::SnapshotChunk;
use bojagi::persistence::staged_keys;
use bojagi::persistence::state_store::{AppliedRow, StateStore, put_state};
use bojagi::persistence::store::WriteBatch;
use bojagi::persistence::transfer;
use bojagi::types::ids::{EntityKey, EntityKind, LogIndex, ShardId, Version};
use bojagi::types::record::WrappedKey;
use bojagi::types::time::Timestamp;
use std::sync::Arc;

const SHARD: ShardId = ShardId(3);

fn entity(id: u8) -> EntityKey {
    EntityKey { kind: EntityKind(1), id: [id; 16] }
}

fn stores() -> (StateStore, KeyStore) {
    let store = Arc::new(MemoryStore::new());
    (StateStore::new(store.clone()), KeyStore::new(store, RingFile::memory()))
}

/// The chunks of a shard of nine entities, as they travel.
fn parcels() -> Vec<Vec<u8>> {
    let (state, keys) = stores();
    let mut batch = WriteBatch::default();
    (1..=9).for_each(|id| put_state(&mut batch, SHARD, &entity(id), Version(1), &[id; 40]));
    state.commit(SHARD, batch, &AppliedRow { index: LogIndex(9), ..AppliedRow::default() }).unwrap();
    let mut parcels = Vec::new();
    let mut cursor = Vec::new();
    loop {
        let chunk = transfer::export(&state, &keys, SHARD, cursor, 150).unwrap();
        parcels.push(chunk.bytes);
        match chunk.next {
            Some(next) => cursor = next,
            None => return parcels,
        }
    }
}

#[test]
fn snapshot_chunks() {
    let corpus = parcels();
    assert!(corpus.len() > 2);
    Target { name: "snapshot_chunks", place: PLACE, corpus, dictionary: &[], cases: 6_000 }.run(|input, _| {
        let (state, keys) = stores();
        if heap::modest(input, || transfer::stage(&state, SHARD, input, Vec::new())).is_err() {
            assert_eq!(state.staged(SHARD).unwrap(), None, "a refused chunk leaves nothing behind");
            return;
        }
        // What was taken can be installed, once it is whole, and holds nothing of another shard.
        let installed = staged_keys::install(&state, &keys, SHARD);
        let rows = heap::modest(input, || state.export(SHARD, None, usize::MAX));
        if let (Ok(applied), Ok(chunk)) = (installed, rows) {
            assert_eq!(chunk.applied, applied);
            assert!(chunk.rows.iter().all(|(row_key, _)| key::parse_shard(row_key) == Some(SHARD)));
        }
        assert!(state.export(ShardId(4), None, usize::MAX).unwrap().rows.is_empty());
    });
}

#[test]
fn snapshot_encodings() {
    let applied = AppliedRow { index: LogIndex(9), ..AppliedRow::default() };
    let row = |id: u8| (key::of_shard(Table::State, ShardId(id.into())), vec![id; 20]);
    let chunk =
        SnapshotChunk { applied, number: 2, rows: vec![row(1), row(2)], next: Some(key::state(SHARD, &entity(2))) };
    let corpus = vec![bojagi::types::codec::encode(&chunk)];
    Target { name: "snapshot_encodings", place: PLACE, corpus, dictionary: &[], cases: 10_000 }.run(|input, _| {
        let _taken = round_trips::<SnapshotChunk>(input);
    });
}

#[test]
fn backup_pages() {
    const CONTEXT: &[u8] = b"bojagi cluster copy";
    let wrapped = WrappedKey { period: 1, nonce: [3; 12], ciphertext: vec![4; 48] };
    let applied = AppliedRow { index: LogIndex(9), ..AppliedRow::default() };
    let rows = vec![(key::state(SHARD, &entity(1)), vec![1; 20])];
    let page = RowsPage { applied, number: 0, rows, keys: vec![(entity(1), wrapped.clone())], next: None };
    let log = LogPage {
        entries: vec![(LogIndex(10), bojagi::types::ids::Term(2), 0, vec![5; 30])],
        keys: vec![(LogIndex(10), 0, wrapped)],
        committed: LogIndex(10),
        at: Timestamp(5),
    };
    let sound = [Copied::Rows(page), Copied::Log(log), Copied::Elsewhere, Copied::Lost];
    let corpus: Vec<Vec<u8>> = sound.iter().map(Copied::encode).collect();
    let whole = corpus.clone();
    Target { name: "backup_pages", place: PLACE, corpus, dictionary: &[], cases: 10_000 }.run(|input, _| {
        let taken = heap::modest(input, || Copied::decode(input));
        assert_eq!(taken.is_some(), whole.iter().any(|one| one == input), "damaged bytes were taken for a page");
        let sealed = frame(CONTEXT, input.get(FRAME_BYTES..).unwrap_or_default());
        if let Some(page) = heap::modest(input, || Copied::decode(&sealed)) {
            assert_eq!(Copied::decode(&page.encode()), Some(page));
        }
    });
}

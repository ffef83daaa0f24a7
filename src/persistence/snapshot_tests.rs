//! Tests of export and installation while entries go on being applied, and across crashes.

use super::*;
use crate::persistence::install::StagePhase;
use crate::persistence::memory_store::{Failure, MemoryStore, Operation, Torn};
use crate::persistence::state_store::{ShardStats, put_record, put_state};
use crate::persistence::toy::{entity, record};
use crate::types::ids::{LogIndex, Version};
use proptest::prelude::*;

const SHARD: ShardId = ShardId(3);
const OTHER: ShardId = ShardId(4);

fn new_state() -> (Arc<MemoryStore>, StateStore) {
    let store = Arc::new(MemoryStore::new());
    (store.clone(), StateStore::new(store))
}

/// One applied entry: entity `id` goes to `version`, and loses the journal row before it.
fn step(state: &StateStore, shard: ShardId, index: u64, id: u8, version: u64) {
    let mut batch = WriteBatch::default();
    put_state(&mut batch, shard, &entity(id), Version(version), &[id; 40]);
    put_record(&mut batch, shard, &record(id, version - 1, &[]));
    if version > 1 {
        batch.remove(key::journal(shard, &entity(id), Version(version - 1)));
    }
    let applied = AppliedRow { index: LogIndex(index), ..AppliedRow::default() };
    state.commit(shard, batch, &applied).unwrap();
}

fn fill(state: &StateStore, shard: ShardId, count: u8) {
    (1..=count).for_each(|id| step(state, shard, u64::from(id), id, 1));
}

fn chunks(state: &StateStore, max_bytes: usize) -> Vec<SnapshotChunk> {
    let mut chunks = vec![state.export(SHARD, None, max_bytes).unwrap()];
    while let Some(cursor) = chunks.last().unwrap().next.clone() {
        chunks.push(state.export(SHARD, Some(cursor), max_bytes).unwrap());
    }
    chunks
}

fn stats(state: &StateStore) -> ShardStats {
    state.stats(SHARD).unwrap()
}

#[test]
fn a_backup_and_a_replica_read_the_same_shard_each_as_of_its_own_index() {
    let (_, source) = new_state();
    fill(&source, SHARD, 50);
    let whole = |chunks: &[SnapshotChunk]| chunks.iter().flat_map(|chunk| chunk.rows.clone()).collect::<Vec<_>>();
    let as_of_50 = whole(&chunks(&source, 500));
    let mut backup = vec![source.export_for(Reader::Backup, SHARD, None, 500).unwrap()];
    let mut index = 50;
    while let Some(cursor) = backup.last().unwrap().next.clone() {
        index += 1;
        step(&source, SHARD, index, 50, index - 49);
        assert!(chunks(&source, 500).iter().all(|chunk| chunk.applied.index == LogIndex(index)), "the replica's");
        source.end_export(SHARD);
        backup.push(source.export_for(Reader::Backup, SHARD, Some(cursor), 500).unwrap());
    }
    assert!(index > 60);
    assert_eq!(whole(&backup), as_of_50);
}

#[test]
fn a_backup_is_lost_when_the_next_shards_begins_and_when_a_snapshot_is_installed() {
    let (_, source) = new_state();
    fill(&source, SHARD, 50);
    fill(&source, OTHER, 50);
    let begin = |shard| source.export_for(Reader::Backup, shard, None, 500).unwrap().next.unwrap();
    let go_on = |shard, cursor| source.export_for(Reader::Backup, shard, Some(cursor), 500);
    let cursor = begin(SHARD);
    let other = begin(OTHER);
    assert!(matches!(go_on(SHARD, cursor), Err(SnapshotError::Lost)));
    let other = go_on(OTHER, other).unwrap().next.unwrap();
    let (_, leader) = new_state();
    fill(&leader, OTHER, 60);
    source.install(OTHER, leader.export(OTHER, None, usize::MAX).unwrap()).unwrap();
    assert!(matches!(go_on(OTHER, other), Err(SnapshotError::Lost)), "rows of another index");
}

#[test]
fn a_snapshot_in_chunks_makes_an_equal_shard() {
    let (_, source) = new_state();
    fill(&source, SHARD, 50);
    fill(&source, OTHER, 5);
    let (_, target) = new_state();
    fill(&target, SHARD, 9);
    fill(&target, OTHER, 7);
    let before = target.stats(OTHER).unwrap();
    let chunks = chunks(&source, 500);
    assert!(chunks.len() > 10);
    let last = chunks.len() - 1;
    for (place, chunk) in chunks.into_iter().enumerate() {
        assert_eq!(target.install(SHARD, chunk).unwrap(), place == last);
    }
    assert_eq!(stats(&target), stats(&source));
    assert_eq!(target.applied(SHARD).unwrap(), source.applied(SHARD).unwrap());
    assert_eq!(target.stats(OTHER).unwrap(), before);
    assert_eq!(target.staged(SHARD).unwrap(), None);
}

#[test]
fn staged_chunks_leave_the_old_state_in_place_until_installed() {
    let (_, source) = new_state();
    fill(&source, SHARD, 20);
    let (store, target) = new_state();
    fill(&target, SHARD, 9);
    let before = (stats(&target), target.applied(SHARD).unwrap());
    for chunk in chunks(&source, 900) {
        target.stage(SHARD, chunk, &[], b"seal".to_vec()).unwrap();
    }
    assert_eq!((stats(&target), target.applied(SHARD).unwrap()), before);
    let stage = target.staged(SHARD).unwrap().unwrap();
    assert_eq!((stage.phase, stage.seal), (StagePhase::Keyed, b"seal".to_vec()));
    target.stage_drop(SHARD).unwrap();
    assert_eq!(target.staged(SHARD).unwrap(), None);
    let (from, to) = (std::ops::Bound::Unbounded, std::ops::Bound::Unbounded);
    let rows = store.scan(from, to, usize::MAX).unwrap();
    assert!(rows.iter().all(|(row_key, _)| row_key[0] != Table::Staged.tag()));
    assert!(matches!(target.install_staged(SHARD), Err(StoreError::Corrupt { .. })));
}

#[test]
fn chunks_out_of_order_are_refused() {
    let (_, source) = new_state();
    fill(&source, SHARD, 20);
    let chunks = chunks(&source, 500);
    let (_, target) = new_state();
    assert!(matches!(
        target.stage(SHARD, chunks[1].clone(), &[], Vec::new()),
        Err(SnapshotError::OutOfOrder { got: 1, expected: 0 })
    ));
    target.stage(SHARD, chunks[0].clone(), &[], Vec::new()).unwrap();
    assert!(matches!(
        target.stage(SHARD, chunks[2].clone(), &[], Vec::new()),
        Err(SnapshotError::OutOfOrder { got: 2, expected: 1 })
    ));
    let mut foreign = chunks[0].clone();
    foreign.rows[0].0 = key::state(OTHER, &entity(1));
    assert!(matches!(target.stage(SHARD, foreign, &[], Vec::new()), Err(SnapshotError::Store(_))));
}

#[test]
fn a_row_with_a_flipped_bit_is_not_exported() {
    let (disk, state) = new_state();
    fill(&state, SHARD, 5);
    let journal = key::shard_rows(Table::Journal, SHARD);
    let (from, to) = journal.bounds();
    let (row_key, _) = disk.scan(from, to, 1).unwrap().remove(0);
    assert!(disk.flip_bit(&row_key, 77));
    assert!(matches!(state.export(SHARD, None, 1 << 20), Err(SnapshotError::Store(StoreError::Corrupt { .. }))));
}

#[test]
fn a_cursor_of_an_ended_export_is_lost() {
    let (_, source) = new_state();
    fill(&source, SHARD, 20);
    let first = source.export(SHARD, None, 500).unwrap();
    source.export(SHARD, first.next.clone(), 500).unwrap();
    assert!(matches!(source.export(SHARD, first.next, 500), Err(SnapshotError::Lost)));
    source.end_export(SHARD);
    assert!(matches!(source.export(SHARD, Some(vec![1]), 500), Err(SnapshotError::Lost)));
}

#[test]
fn an_export_that_holds_back_too_much_is_given_up() {
    let (_, source) = new_state();
    fill(&source, SHARD, 200);
    let first = source.export(SHARD, None, 500).unwrap();
    {
        let slot = source.exports().of(SHARD);
        slot.lock().replica.as_mut().unwrap().undo_bytes = UNDO_BYTES_MAX;
    }
    step(&source, SHARD, 201, 200, 2);
    assert!(matches!(source.export(SHARD, first.next, 500), Err(SnapshotError::Lost)));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever is applied between the chunks, the snapshot shows the index at which it began.
    #[test]
    fn a_snapshot_shows_one_index_while_entries_are_applied(
        steps in proptest::collection::vec(1u8..60, 0..120), max_bytes in 100usize..2_000, pace in 1usize..20,
    ) {
        let (_, source) = new_state();
        fill(&source, SHARD, 40);
        let (at_start, applied) = (stats(&source), source.applied(SHARD).unwrap());
        let (_, target) = new_state();
        let mut versions = [1u64; 60];
        versions[41..].fill(0);
        let mut steps = steps.into_iter().zip(41u64..);
        let mut cursor = None;
        loop {
            let chunk = source.export(SHARD, cursor, max_bytes).unwrap();
            cursor = chunk.next.clone();
            target.stage(SHARD, chunk, &[], Vec::new()).unwrap();
            if cursor.is_none() { break }
            for (id, index) in steps.by_ref().take(pace) {
                versions[usize::from(id)] += 1;
                step(&source, SHARD, index, id, versions[usize::from(id)]);
            }
        }
        prop_assert_eq!(target.install_staged(SHARD).unwrap(), applied);
        prop_assert_eq!(stats(&target), at_start);
    }

    /// A failure or a power cut anywhere in the installation is healed by going on.
    #[test]
    fn an_installation_goes_on_after_a_crash(stop in 0u32..9, kept in 0usize..9) {
        let (_, source) = new_state();
        fill(&source, SHARD, 200);
        let (store, target) = new_state();
        fill(&target, SHARD, 90);
        for chunk in chunks(&source, 4_000) {
            target.stage(SHARD, chunk, &[], Vec::new()).unwrap();
        }
        target.sync().unwrap();
        store.fail(Operation::Apply, stop, Failure::Io);
        let first = target.install_staged(SHARD);
        store.crash(Torn::Power { batches: kept });
        let again = StateStore::new(store);
        if first.is_err() {
            again.install_staged(SHARD).unwrap();
        }
        prop_assert_eq!(stats(&again), stats(&source));
        prop_assert!(!again.installing(SHARD).unwrap());
    }
}

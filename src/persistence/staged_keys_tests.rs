//! A replica that was away for a while is sent a snapshot: its data keys are then those of the snapshot's entities.

use super::*;
use crate::persistence::folder::{Folder, OpenOptions};
use crate::persistence::key_store::KeyChange;
use crate::persistence::state_store::{AppliedRow, put_state};
use crate::persistence::store::WriteBatch;
use crate::persistence::toy::entity;
use crate::persistence::transfer;
use crate::types::ids::{LogIndex, Version};

const SHARD: ShardId = ShardId(3);
/// About two rows.
const CHUNK_BYTES: usize = 200;

struct Replica {
    folder: Folder,
    _dir: tempfile::TempDir,
    index: u64,
}

impl Replica {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let options = OpenOptions { shards: 4, create: true, ballast_bytes: 0, ..OpenOptions::default() };
        Self { folder: Folder::open(dir.path(), options).unwrap(), _dir: dir, index: 0 }
    }
    fn commit(&mut self, batch: WriteBatch) {
        self.index += 1;
        let applied = AppliedRow { index: LogIndex(self.index), ..AppliedRow::default() };
        self.folder.state.commit(SHARD, batch, &applied).unwrap();
    }
    fn put(&mut self, id: u8) {
        let mut batch = WriteBatch::default();
        put_state(&mut batch, SHARD, &entity(id), Version(1), &[id; 40]);
        self.commit(batch);
        let (_, wrapped) = self.folder.vault.seal_new(entity(id), b"a name");
        self.folder.keys.apply(&[KeyChange::Put(entity(id), wrapped)]).unwrap();
    }
    fn erase(&mut self, id: u8) {
        self.commit(WriteBatch::default());
        self.folder.keys.forget(&[entity(id)]).unwrap();
    }
    /// As a purge does, the row included.
    fn remove(&mut self, id: u8) {
        let mut batch = WriteBatch::default();
        batch.remove(key::state(SHARD, &entity(id)));
        self.commit(batch);
        self.folder.keys.forget(&[entity(id)]).unwrap();
    }
    fn keys(&self) -> Vec<u8> {
        (0..=u8::MAX).filter(|id| self.folder.keys.get(&entity(*id)).unwrap().is_some()).collect()
    }
    fn chunks(&self) -> Vec<Vec<u8>> {
        let (mut chunks, mut cursor) = (Vec::new(), Some(Vec::new()));
        while let Some(at) = cursor {
            let exported = transfer::export(&self.folder.state, &self.folder.keys, SHARD, at, CHUNK_BYTES).unwrap();
            chunks.push(exported.bytes);
            cursor = exported.next;
        }
        chunks
    }
    fn stage(&self, chunk: &[u8]) -> Result<(), crate::persistence::snapshot::SnapshotError> {
        transfer::stage(&self.folder.state, SHARD, chunk, Vec::new())
    }
    fn install(&self, chunks: &[Vec<u8>]) {
        chunks.iter().for_each(|chunk| self.stage(chunk).unwrap());
        install(&self.folder.state, &self.folder.keys, SHARD).unwrap();
    }
}

#[test]
fn keys_that_were_destroyed_in_the_gap_do_not_outlive_it() {
    let (mut leader, mut follower) = (Replica::new(), Replica::new());
    for id in 1..=12 {
        leader.put(id);
        follower.put(id);
    }
    leader.erase(2);
    leader.erase(11);
    leader.remove(3);
    leader.remove(12);
    leader.put(20);
    let chunks = leader.chunks();
    assert!(chunks.len() > 3);
    follower.install(&chunks);
    assert_eq!(follower.keys(), [1, 4, 5, 6, 7, 8, 9, 10, 20]);
    assert_eq!(follower.keys(), leader.keys());
}

#[test]
fn what_the_log_does_to_keys_between_staging_and_installing_is_overtaken_by_the_installation() {
    let (mut leader, mut follower) = (Replica::new(), Replica::new());
    (1..=12).for_each(|id| leader.put(id));
    (1..=6).for_each(|id| follower.put(id));
    leader.erase(8);
    let chunks = leader.chunks();
    chunks.iter().for_each(|chunk| follower.stage(chunk).unwrap());
    assert_eq!(follower.keys(), [1, 2, 3, 4, 5, 6], "nothing is changed by what is put aside");
    // The backlog, up to before the snapshot: the key that was destroyed behind it is put once more.
    follower.put(7);
    follower.put(8);
    install(&follower.folder.state, &follower.folder.keys, SHARD).unwrap();
    assert_eq!(follower.keys(), leader.keys());
}

#[test]
fn a_chunk_that_is_not_due_and_a_stage_that_is_dropped_leave_no_trace() {
    let (mut leader, mut follower) = (Replica::new(), Replica::new());
    (1..=3).for_each(|id| follower.put(id));
    (1..=30).for_each(|id| leader.put(id));
    leader.erase(2);
    let chunks = leader.chunks();
    assert!(follower.stage(chunks.last().unwrap()).is_err());
    chunks[..2].iter().for_each(|chunk| follower.stage(chunk).unwrap());
    // The log reached it after all.
    (4..=30).for_each(|id| follower.put(id));
    follower.erase(2);
    follower.folder.state.stage_drop(SHARD).unwrap();
    assert_eq!(follower.keys(), leader.keys());
    let staged = |table| follower.folder.state.read(&key::shard_rows(table, SHARD), 1).unwrap().len();
    assert_eq!((staged(Table::Staged), staged(Table::StagedKey)), (0, 0));
}

#[test]
fn an_installation_that_a_crash_cut_off_goes_on_and_a_shard_that_leaves_takes_its_keys_along() {
    let (mut leader, mut follower) = (Replica::new(), Replica::new());
    (1..=4).for_each(|id| follower.put(id));
    (1..=12).for_each(|id| leader.put(id));
    leader.erase(3);
    leader.chunks().iter().for_each(|chunk| follower.stage(chunk).unwrap());
    let Folder { state, keys, .. } = &follower.folder;
    // Twice: the crash came before the rows began to go.
    adopt(state, keys, SHARD).unwrap();
    install(state, keys, SHARD).unwrap();
    assert_eq!(follower.keys(), leader.keys());
    assert!(state.read(&key::shard_rows(Table::StagedKey, SHARD), 1).unwrap().is_empty());
    // The whole shard leaves, in the middle of the next one.
    leader.put(40);
    leader.chunks().iter().for_each(|chunk| follower.stage(chunk).unwrap());
    assert!(follower.folder.has_traces(SHARD).unwrap());
    follower.folder.leave(SHARD).unwrap();
    assert!(follower.keys().is_empty() && !follower.folder.has_traces(SHARD).unwrap());
}

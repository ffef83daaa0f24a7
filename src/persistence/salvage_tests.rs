//! Tests of salvage: what is saved and what is said to be lost.

use super::*;
use crate::persistence::folder::Folder;
use crate::persistence::key_store::KeyChange;
use crate::persistence::log_store::BatchSeq;
use crate::persistence::toy::{Event, entity, fill, kinds, record};
use crate::persistence::verify::verify;
use std::fs;
use std::path::PathBuf;

const SHARD: ShardId = ShardId(1);

fn options() -> OpenOptions {
    OpenOptions {
        shards: 3,
        cache_log_bytes: 1 << 20,
        cache_state_bytes: 1 << 20,
        create: true,
        ballast_bytes: 0,
        ..OpenOptions::default()
    }
}

struct Rig {
    dir: tempfile::TempDir,
}

impl Rig {
    /// A folder with 30 entities of two records each, damaged by `damage` before it is closed.
    fn new(damage: impl FnOnce(&Folder)) -> Self {
        let rig = Self { dir: tempfile::tempdir().unwrap() };
        let folder = Folder::open(&rig.at("old"), options()).unwrap();
        let first = (1..=30).map(|id| record(id, 0, &[Event::Added(1), Event::Timed(Some(50))]));
        let second = (1..=30).map(|id| record(id, 1, &[Event::Added(2), Event::Timed(Some(60))]));
        fill(&folder, SHARD, &first.chain(second).collect::<Vec<_>>());
        let (_, wrapped) = folder.vault.seal_new(entity(1), b"a name");
        folder.keys.apply(&[KeyChange::Put(entity(1), wrapped)]).unwrap();
        damage(&folder);
        folder.state.sync().unwrap();
        folder.log.sync().unwrap();
        rig
    }
    fn at(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }
    /// Salvages; what is said without writing is what is said with it. The new folder opens and verifies.
    fn salvage(&self) -> (SalvageReport, Folder) {
        let master_key = fs::read(self.at("old").join("master.key")).unwrap().try_into().ok();
        let options = OpenOptions { master_key, ..options() };
        let told = salvage(&self.at("old"), None, &kinds(), &options).unwrap();
        assert!(!self.at("new").exists());
        let done = salvage(&self.at("old"), Some(&self.at("new")), &kinds(), &options).unwrap();
        assert_eq!(told, done);
        (done, Folder::open(&self.at("new"), options).unwrap())
    }
}

fn overwrite(folder: &Folder, row_key: Vec<u8>, value: Option<Vec<u8>>) {
    let mut batch = WriteBatch::default();
    batch.operations.push((row_key, value));
    let applied = folder.state.applied(SHARD).unwrap();
    folder.state.commit(SHARD, batch, &applied).unwrap();
}

#[test]
fn a_sound_folder_is_saved_whole() {
    let rig = Rig::new(|_| {});
    let (report, folder) = rig.salvage();
    assert_eq!(report.losses, vec![]);
    assert_eq!((report.entities, report.keys), (30, 1));
    assert!(verify(&folder, &kinds()).unwrap().is_clean());
    assert_eq!(folder.state.applied(SHARD).unwrap().index, LogIndex(61));
    assert_eq!(folder.log.span(SHARD).last.0, LogIndex(61));
}

#[test]
fn a_torn_log_is_taken_up_from_the_state() {
    let rig = Rig::new(|folder| folder.watermark().write(BatchSeq(99)).unwrap());
    assert!(Folder::open(&rig.at("old"), options()).is_err());
    let (report, folder) = rig.salvage();
    assert!(report.losses.contains(&Loss::LogTail { shard: SHARD, after: LogIndex(61) }));
    assert!(report.to_string().contains("whatever was acknowledged after log index 61 is lost"));
    assert!(verify(&folder, &kinds()).unwrap().is_clean());
}

#[test]
fn a_log_that_is_gone_is_taken_up_from_the_state() {
    let rig = Rig::new(|_| {});
    fs::remove_dir_all(rig.at("old").join("log")).unwrap();
    fs::write(rig.at("old").join("log"), "not a folder").unwrap();
    let (report, folder) = rig.salvage();
    assert!(matches!(&report.losses[0], Loss::Database { what: "log", .. }));
    assert_eq!(report.entities, 30);
    assert_eq!(folder.log.membership(SHARD).unwrap().unwrap().voters, vec![1]);
}

#[test]
fn a_damaged_state_is_made_again_from_its_journal() {
    let rig = Rig::new(|folder| {
        overwrite(folder, key::state(SHARD, &entity(4)), Some(vec![1, 2, 3]));
        overwrite(folder, key::state(SHARD, &entity(5)), None);
        overwrite(folder, key::state(SHARD, &entity(6)), Some(vec![1, 2, 3]));
        overwrite(folder, key::journal(SHARD, &entity(6), Version(1)), Some(vec![1, 2, 3]));
    });
    let (report, folder) = rig.salvage();
    let rebuilt = |id| Loss::Rebuilt { shard: SHARD, key: entity(id) };
    let expected = [
        rebuilt(4),
        Loss::Entity { shard: SHARD, key: entity(6) },
        rebuilt(5),
        Loss::Records { shard: SHARD, key: entity(6), version: Version(1) },
    ];
    assert_eq!(report.losses, expected);
    assert_eq!(report.entities, 29);
    assert_eq!(folder.state.get(SHARD, &entity(5)).unwrap().unwrap().version, Version(2));
    assert_eq!(folder.state.get(SHARD, &entity(6)).unwrap(), None);
}

#[test]
fn a_lost_state_is_made_again_by_a_log_that_reaches_back() {
    let rig = Rig::new(|_| {});
    fs::remove_dir_all(rig.at("old").join("state")).unwrap();
    let (report, folder) = rig.salvage();
    assert_eq!((report.entities, report.entries), (0, 60));
    assert_eq!(folder.state.applied(SHARD).unwrap(), AppliedRow::default());
    assert_eq!(folder.log.span(SHARD).truncated.0, FOUNDING_INDEX);
}

#[test]
fn a_lost_state_behind_a_purged_log_is_said_to_be_lost() {
    let rig = Rig::new(|folder| folder.log.purge(SHARD, LogIndex(41)).unwrap());
    fs::remove_dir_all(rig.at("old").join("state")).unwrap();
    let (report, folder) = rig.salvage();
    assert!(report.losses.contains(&Loss::State { shard: SHARD, up_to: LogIndex(40) }));
    assert_eq!(folder.state.applied(SHARD).unwrap().index, LogIndex(40));
    assert_eq!(report.entries, 21);
}

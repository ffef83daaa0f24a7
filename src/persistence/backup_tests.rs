//! Tests of backup, restore and verification over real folders.

use super::*;
use crate::persistence::key;
use crate::persistence::key_store::KeyChange;
use crate::persistence::state_store::{ShardStats, put_state};
use crate::persistence::store::WriteBatch;
use crate::persistence::toy::{Event, claim, entity, fill, kinds, record};
use crate::persistence::verify::{Problem, VerifyReport, verify};
use crate::types::ids::{Term, Version};
use crate::types::record::Sealed;

const SHARD: ShardId = ShardId(1);

fn options() -> OpenOptions {
    OpenOptions {
        shards: 3,
        cache_log_bytes: 1 << 20,
        cache_state_bytes: 1 << 20,
        create: true,
        ballast_bytes: 0,
        master_key: Some([5; 32]),
        ..OpenOptions::default()
    }
}

fn open(dir: &Path) -> Folder {
    Folder::open(dir, options()).unwrap()
}

/// A folder with some entities, one of them with personal data, and entries beyond the state.
fn filled(dir: &Path) -> (Folder, Sealed) {
    let folder = open(dir);
    let named = |name: &str| Event::Named(Some(name.to_owned()));
    let mut records = vec![
        record(1, 0, &[Event::Added(1), Event::Timed(Some(50))]),
        record(2, 0, &[named("a")]),
        record(1, 1, &[Event::Added(2), Event::Timed(None), Event::Calling(Some(60))]),
    ];
    records.extend((10..200).map(|id| record(id, 0, &[Event::Added(u64::from(id)), Event::Timed(Some(90))])));
    fill(&folder, SHARD, &records);
    fill(&folder, ShardId(2), &[record(3, 0, &[named("b")])]);
    let (sealed, wrapped) = folder.vault.seal_new(entity(1), b"a name");
    folder.keys.apply(&[KeyChange::Put(entity(1), wrapped)]).unwrap();
    let last = folder.log.span(SHARD).last.0;
    let tail = (1..=3).map(|more| crate::persistence::log::LogEntry {
        index: LogIndex(last.0 + more),
        term: Term(1),
        entry_type: 0,
        payload: vec![9; 70_000],
    });
    let append = crate::persistence::log::LogAppend {
        shard: SHARD,
        number: 2,
        entries: tail.collect(),
        hard_state: None,
        membership: None,
        start: None,
    };
    folder.log.append(&[append]).unwrap();
    (folder, sealed)
}

fn stats(folder: &Folder) -> Vec<ShardStats> {
    (0..3).map(|shard| folder.state.stats(ShardId(shard)).unwrap()).collect()
}

fn check_problems(change: impl FnOnce(&mut WriteBatch)) -> VerifyReport {
    let dir = tempfile::tempdir().unwrap();
    let (folder, _) = filled(dir.path());
    let mut batch = WriteBatch::default();
    change(&mut batch);
    let applied = folder.state.applied(SHARD).unwrap();
    folder.state.commit(SHARD, batch, &applied).unwrap();
    let report = verify(&folder, &kinds()).unwrap();
    assert_eq!(report.problem_count, report.problems.len() as u64);
    report
}

#[test]
fn a_restored_backup_equals_its_folder_and_opens_sealed_data_with_the_exported_keys() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let (folder, sealed) = filled(&at("one"));
    let taken = backup(&folder, &at("backup")).unwrap();
    let exported = export_keys(&folder, &at("keys")).unwrap();
    assert_eq!((taken.entries, taken.keys, exported.keys), (3, 0, 1));
    let bytes = fs::read(at("backup")).unwrap();
    let wrapped = folder.keys.get(&entity(1)).unwrap().unwrap();
    assert!(!bytes.windows(16).any(|window| wrapped.ciphertext.starts_with(window)), "no data key in the backup");

    let restored = restore(&at("two"), &at("backup"), Some(&at("keys")), &options()).unwrap();
    assert_eq!((restored.rows, restored.entries, restored.keys), (taken.rows, 3, 1));
    let two = open(&at("two"));
    assert_eq!(stats(&two), stats(&folder));
    assert_eq!((two.cluster, two.cluster_secret, two.shards), (folder.cluster, folder.cluster_secret, 3));
    assert!(two.incarnation > folder.incarnation);
    assert_eq!(two.log.span(SHARD).last, folder.log.span(SHARD).last);
    assert_eq!(two.state.applied(SHARD).unwrap().claim, claim(1));
    assert_eq!(two.log.membership(SHARD).unwrap(), folder.log.membership(SHARD).unwrap());
    assert_eq!(two.vault.open(entity(1), &sealed).unwrap().unwrap(), b"a name");
    assert!(verify(&two, &kinds()).unwrap().is_clean());
}

#[test]
fn a_backup_without_keys_restores_but_opens_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let (folder, sealed) = filled(&at("one"));
    backup(&folder, &at("backup")).unwrap();
    restore(&at("two"), &at("backup"), None, &options()).unwrap();
    let two = open(&at("two"));
    assert_eq!(stats(&two), stats(&folder));
    assert_ne!(two.cluster_secret, folder.cluster_secret);
    assert_eq!(two.vault.open(entity(1), &sealed).unwrap(), None);
}

#[test]
fn restore_refuses_a_full_folder_foreign_keys_and_a_wrong_master_key() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let (folder, _) = filled(&at("one"));
    backup(&folder, &at("backup")).unwrap();
    export_keys(&folder, &at("keys")).unwrap();
    let full = restore(&at("one"), &at("backup"), None, &options());
    assert!(matches!(full, Err(BackupError::NotEmpty { .. })));
    export_keys(&open(&at("other")), &at("foreign")).unwrap();
    let foreign = restore(&at("two"), &at("backup"), Some(&at("foreign")), &options());
    assert!(matches!(foreign, Err(BackupError::OtherKeys { .. })));
    let wrong = OpenOptions { master_key: Some([6; 32]), ..options() };
    let wrong = restore(&at("three"), &at("backup"), Some(&at("keys")), &wrong);
    assert!(matches!(wrong, Err(BackupError::Open(OpenError::Secret))));
    let damaged = fs::read(at("backup")).unwrap();
    fs::write(at("cut"), &damaged[..damaged.len() - 9]).unwrap();
    assert!(matches!(restore(&at("four"), &at("cut"), None, &options()), Err(BackupError::File(_))));
    let unfinished = Folder::open(&at("four"), OpenOptions { create: false, ..options() });
    assert!(unfinished.is_err(), "what was not restored whole is no folder");
}

#[test]
fn an_untouched_folder_verifies() {
    let report = check_problems(|_| {});
    assert_eq!(report.problems, vec![]);
    assert_eq!((report.entities, report.records, report.replies, report.keys), (193, 194, 194, 1));
    assert_eq!(report.derived_rows, 193 + 191 + 2, "everyone's row, timers and calls, names");
}

#[test]
fn verify_finds_missing_and_extra_derived_rows() {
    let wake = |id, due| {
        let wake = key::WakeKey {
            due: crate::types::time::Timestamp(due),
            key: entity(id),
            slot: crate::types::effect::Slot(1),
        };
        key::wake(SHARD, &wake)
    };
    let missing = check_problems(|batch| batch.remove(wake(10, 90)));
    assert_eq!(missing.problems, [Problem::RowMissing { key: entity(10), row: wake(10, 90) }]);
    let stale = wake(10, 91);
    let extra = check_problems(|batch| {
        let value = crate::persistence::codec::frame(&stale, &[]);
        batch.put(stale.clone(), value);
    });
    assert_eq!(extra.problems, [Problem::RowExtra { key: entity(10), row: stale }]);
}

#[test]
fn verify_finds_states_and_journals_that_differ() {
    let journal = |version| key::journal(SHARD, &entity(1), Version(version));
    let gap = check_problems(|batch| batch.remove(journal(2)));
    let differs =
        |journal, state| Problem::JournalDiffers { key: entity(1), journal: Version(journal), state: Version(state) };
    assert_eq!(gap.problems[0], differs(1, 2));
    let changed = crate::persistence::toy::state_after(&[Event::Added(4), Event::Calling(Some(60))]);
    let other = check_problems(|batch| put_state(batch, SHARD, &entity(1), Version(2), &changed));
    assert_eq!(other.problems, [differs(2, 2)]);
    let orphan = check_problems(|batch| batch.remove(key::state(SHARD, &entity(10))));
    assert!(orphan.problems.contains(&Problem::Orphan(entity(10))));
    assert!(orphan.problems.contains(&Problem::ReplyAhead { key: entity(10), version: Version(1) }));
    let damaged = check_problems(|batch| batch.put(journal(1), vec![1, 2, 3]));
    assert!(matches!(&damaged.problems[..], [Problem::Damaged(what)] if what.contains("too short")));
}

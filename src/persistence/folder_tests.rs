//! Tests of opening data folders: lives, locks, foreigners, damage, and what does not fit together.

use super::*;
use crate::persistence::log::{LogAppend, LogEntry, LogStart};
use crate::persistence::log_store::BatchSeq;
use crate::persistence::snapshot::SnapshotChunk;
use crate::persistence::state_store::AppliedRow;
use crate::persistence::store::WriteBatch;
use crate::types::ids::{LogIndex, ShardId, Term};

const SHARD: ShardId = ShardId(1);

fn options() -> OpenOptions {
    OpenOptions {
        shards: 4,
        cache_log_bytes: 1 << 20,
        cache_state_bytes: 1 << 20,
        create: true,
        ballast_bytes: 1 << 16,
        ..OpenOptions::default()
    }
}

fn open(dir: &Path) -> Result<Folder, OpenError> {
    Folder::open(dir, options())
}

fn append(folder: &Folder, indexes: std::ops::RangeInclusive<u64>, term: u64, start: Option<LogStart>) -> BatchSeq {
    let entry = |index| LogEntry { index: LogIndex(index), term: Term(term), entry_type: 0, payload: vec![1; 9] };
    let entries = indexes.map(entry).collect();
    let append = LogAppend { shard: SHARD, number: 1, entries, hard_state: None, membership: None, start };
    let seq = folder.log.append(&[append]).unwrap();
    folder.log.sync().unwrap();
    seq
}

fn applied(folder: &Folder, index: u64, term: u64) {
    let row = AppliedRow { index: LogIndex(index), term: Term(term), ..AppliedRow::default() };
    folder.state.commit(SHARD, WriteBatch::default(), &row).unwrap();
    folder.state.sync().unwrap();
}

#[test]
fn a_folder_keeps_its_identity_and_counts_its_lives() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("data");
    assert!(matches!(Folder::open(&path, OpenOptions { create: false, ..options() }), Err(OpenError::NotFound { .. })));
    let (cluster, secret) = {
        let folder = open(&path).unwrap();
        assert_eq!((folder.incarnation, folder.node, folder.shards), (Incarnation(1), NodeId(1), 4));
        (folder.cluster, folder.cluster_secret)
    };
    let folder = Folder::open(&path, OpenOptions { shards: 0, create: false, ..options() }).unwrap();
    assert_eq!((folder.incarnation, folder.cluster, folder.cluster_secret), (Incarnation(2), cluster, secret));
    assert_ne!(secret, [0; 32]);
    assert!(fs::metadata(path.join(BALLAST)).unwrap().len() >= 1 << 16);
    folder.release_ballast().unwrap();
    assert!(!path.join(BALLAST).exists());
}

#[test]
fn secrets_are_readable_by_their_owner_only_and_not_in_plain() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().unwrap();
    let given = OpenOptions { master_key: Some([9; 32]), ..options() };
    let folder = Folder::open(dir.path(), given.clone()).unwrap();
    for name in [SECRET, PERIODS, HEADER] {
        assert_eq!(fs::metadata(dir.path().join(name)).unwrap().permissions().mode() & 0o777, 0o600, "{name}");
    }
    assert!(!dir.path().join(MASTER).exists(), "a given master key is not written down");
    let sealed = fs::read(dir.path().join(SECRET)).unwrap();
    assert!(!sealed.windows(32).any(|window| window == folder.cluster_secret));
    drop(folder);
    let other = OpenOptions { master_key: Some([8; 32]), ..options() };
    assert!(matches!(Folder::open(dir.path(), other), Err(OpenError::Secret)));
    assert!(Folder::open(dir.path(), given).is_ok());
}

#[test]
fn a_folder_in_use_is_refused_until_it_is_free() {
    let dir = tempfile::tempdir().unwrap();
    let folder = open(dir.path()).unwrap();
    let error = open(dir.path()).err().unwrap();
    assert!(matches!(error, OpenError::InUse { .. }));
    assert!(error.to_string().contains("in use by another process"));
    drop(folder);
    assert!(open(dir.path()).is_ok());
}

#[test]
fn foreign_newer_and_damaged_folders_are_refused_and_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("thesis.txt"), "years of work").unwrap();
    assert!(matches!(open(dir.path()), Err(OpenError::Foreign { .. })));
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "nothing was added");

    let dir = tempfile::tempdir().unwrap();
    drop(open(dir.path()).unwrap());
    let header = fs::read(dir.path().join(HEADER)).unwrap();
    let mut newer = header.clone();
    newer[9] += 1;
    fs::write(dir.path().join(HEADER), newer).unwrap();
    assert!(matches!(open(dir.path()), Err(OpenError::Newer { format: 2, .. })));
    let mut damaged = header;
    damaged[20] ^= 1;
    fs::write(dir.path().join(HEADER), damaged).unwrap();
    assert!(matches!(open(dir.path()), Err(OpenError::HeaderDamaged { .. })));
    fs::write(dir.path().join(HEADER), "PK\x03\x04").unwrap();
    assert!(matches!(open(dir.path()), Err(OpenError::Foreign { .. })));
}

#[test]
fn a_folder_that_holds_a_data_folder_is_named_with_the_one_below() {
    let dir = tempfile::tempdir().unwrap();
    let node = dir.path().join("node");
    drop(open(&node).unwrap());
    fs::create_dir(dir.path().join("keys")).unwrap();
    for options in [options(), OpenOptions { create: false, ..options() }] {
        let told = Folder::open(dir.path(), options).err().unwrap().to_string();
        assert!(told.ends_with(&format!("but {} in it is: give that one", node.display())), "{told}");
    }
}

#[test]
fn another_number_of_shards_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    assert!(matches!(
        Folder::open(dir.path(), OpenOptions { shards: 1_000, ..options() }),
        Err(OpenError::ShardCount { asked: 1_000 })
    ));
    drop(open(dir.path()).unwrap());
    let error = Folder::open(dir.path(), OpenOptions { shards: 8, ..options() }).err().unwrap();
    assert!(matches!(error, OpenError::OtherShards { have: 4, asked: 8 }));
}

#[test]
fn a_half_made_folder_is_made_anew() {
    let dir = tempfile::tempdir().unwrap();
    drop(open(dir.path()).unwrap());
    fs::remove_file(dir.path().join(HEADER)).unwrap();
    assert!(matches!(open(dir.path()), Err(OpenError::Foreign { .. })), "without the mark it is not ours to remove");
    fs::write(dir.path().join(CREATING), "").unwrap();
    assert_eq!(open(dir.path()).unwrap().incarnation, Incarnation(1));
}

#[test]
fn a_database_of_another_folder_is_refused() {
    let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    drop(open(one.path()).unwrap());
    drop(open(two.path()).unwrap());
    fs::rename(two.path().join(LOG), one.path().join("other")).unwrap();
    fs::remove_dir_all(one.path().join(LOG)).unwrap();
    fs::rename(one.path().join("other"), one.path().join(LOG)).unwrap();
    assert!(matches!(open(one.path()), Err(OpenError::Mixed { what: "log" })));
    fs::remove_dir_all(two.path().join(STATE)).unwrap();
    fs::create_dir(two.path().join(LOG)).unwrap();
    assert!(matches!(open(two.path()), Err(OpenError::Mixed { .. })), "an emptied database is not the one that was");
}

#[test]
fn log_and_state_that_do_not_fit_are_refused_with_the_way_out() {
    let misfit = |prepare: &dyn Fn(&Folder)| {
        let dir = tempfile::tempdir().unwrap();
        {
            let folder = open(dir.path()).unwrap();
            append(&folder, 2..=9, 1, Some(LogStart { index: LogIndex(1), term: Term(1) }));
            applied(&folder, 5, 1);
            prepare(&folder);
        }
        match open(dir.path()) {
            Err(OpenError::Misfit(error)) => {
                assert!(error.to_string().contains("bojagi restore"), "{error}");
                Some(error)
            }
            Err(error) => panic!("{error}"),
            Ok(_) => None,
        }
    };
    assert!(misfit(&|_| {}).is_none());
    assert!(misfit(&|folder| applied(folder, 9, 1)).is_none());
    let ahead = misfit(&|folder| applied(folder, 10, 1));
    assert!(matches!(ahead, Some(MisfitError::StateAheadOfLog { last: LogIndex(9), .. })));
    let behind = misfit(&|folder| {
        folder.log.purge(SHARD, LogIndex(8)).unwrap();
        folder.log.sync().unwrap();
    });
    assert!(matches!(behind, Some(MisfitError::LogDoesNotReachState { start: LogIndex(7), .. })));
    // A crash after the log began anew for a snapshot that is all there: it is installed at the start.
    let staged = |applied: u64| {
        move |folder: &Folder| {
            let applied = AppliedRow { index: LogIndex(applied), term: Term(1), ..AppliedRow::default() };
            let chunk = SnapshotChunk { number: 0, rows: Vec::new(), next: None, applied };
            folder.state.stage(SHARD, chunk, &[], Vec::new()).unwrap();
            folder.state.sync().unwrap();
            folder.log.purge(SHARD, LogIndex(8)).unwrap();
            folder.log.sync().unwrap();
        }
    };
    assert!(misfit(&staged(7)).is_none());
    let short = misfit(&staged(6));
    assert!(
        matches!(short, Some(MisfitError::LogDoesNotReachState { .. })),
        "not the snapshot that the log begins with"
    );
    let other = misfit(&|folder: &Folder| {
        append(folder, 4..=9, 2, None);
    });
    assert!(matches!(other, Some(MisfitError::OtherHistory { index: LogIndex(5), .. })));
    let lost = misfit(&|folder| folder.watermark().write(BatchSeq(99)).unwrap());
    assert!(matches!(lost, Some(MisfitError::LogBehindWatermark { watermark: 99, .. })));
    let reached = misfit(&|folder| folder.watermark().write(folder.log.batch_seq()).unwrap());
    assert!(reached.is_none());
}

#[test]
fn a_founded_log_fits_the_empty_state_but_a_purged_one_does_not() {
    let dir = tempfile::tempdir().unwrap();
    {
        let folder = open(dir.path()).unwrap();
        append(&folder, 2..=3, 1, Some(LogStart { index: LogIndex(1), term: Term(1) }));
    }
    {
        let folder = open(dir.path()).unwrap();
        folder.log.purge(SHARD, LogIndex(3)).unwrap();
        folder.log.sync().unwrap();
    }
    assert!(matches!(open(dir.path()), Err(OpenError::Misfit(MisfitError::LogDoesNotReachState { .. }))));
}

#[test]
fn a_flipped_byte_in_the_log_file_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    {
        let folder = open(dir.path()).unwrap();
        append(&folder, 2..=400, 1, Some(LogStart { index: LogIndex(1), term: Term(1) }));
        folder.watermark().write(folder.log.batch_seq()).unwrap();
    }
    let file = dir.path().join(LOG).join("db");
    let clean = fs::read(&file).unwrap();
    // Runs of payload: damage to a row that is certainly there.
    let places: Vec<usize> = (0..clean.len() - 9).filter(|at| clean[*at..*at + 9] == [1; 9]).collect();
    assert!(places.len() >= 399);
    for place in [places[3], places[200], places[398]] {
        let mut damaged = clean.clone();
        damaged[place + 4] ^= 0x10;
        fs::write(&file, damaged).unwrap();
        let error = open(dir.path()).err();
        assert!(matches!(error, Some(OpenError::Misfit(_))), "{error:?}");
    }
}

//! Tests of a cluster backup's files: what is written, what is refused, what an unfinished one leaves.

use super::*;
use crate::types::ids::{NodeId, Term};

const BACKUP: BackupId = [9; 16];
const SHARD: ShardId = ShardId(0);

fn identity() -> Identity {
    Identity { cluster: [3; 16], node: NodeId(2), shards: 1, secret: vec![1; 40], periods: vec![2; 40] }
}

fn create(at: &Path) -> Result<BackupWriter, ClusterBackupError> {
    BackupWriter::create(&at.join("backup"), &at.join("keys.bin"), BACKUP, identity())
}

fn applied(index: u64) -> AppliedRow {
    AppliedRow { index: LogIndex(index), term: Term(1), ..AppliedRow::default() }
}

fn page(number: u32) -> RowsPage {
    let rows = vec![(vec![1], vec![number.to_be_bytes()[3]])];
    RowsPage { applied: applied(10), number, rows, keys: Vec::new(), next: None }
}

fn tail(from: u64, to: u64) -> LogPage {
    let entries = (from..=to).map(|index| (LogIndex(index), Term(1), 0, vec![4])).collect();
    LogPage { entries, keys: Vec::new(), committed: LogIndex(to), at: Timestamp(77) }
}

fn names(at: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        fs::read_dir(at).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn a_finished_backup_reads_as_it_was_written() {
    let dir = tempfile::tempdir().unwrap();
    let mut writer = create(dir.path()).unwrap();
    let mut rows = writer.begin_shard(SHARD, applied(10)).unwrap();
    assert!(writer.rows(&mut rows, page(0)).unwrap() && writer.rows(&mut rows, page(1)).unwrap());
    writer.end_shard(rows).unwrap();
    assert!(writer.tail(SHARD, tail(11, 13)).unwrap() && writer.tail(SHARD, tail(14, 14)).unwrap());
    let manifest = writer.finish("{}".to_owned()).unwrap();
    assert_eq!(names(dir.path()), ["backup", "keys.bin"]);
    assert_eq!(names(&dir.path().join("backup")), ["manifest", "shard-000", "tails"]);

    let reader = BackupReader::open(&dir.path().join("backup"), &dir.path().join("keys.bin")).unwrap();
    assert_eq!((&reader.manifest, &reader.identity), (&manifest, &identity()));
    let facts = manifest.shards[0];
    assert_eq!((facts.reached, facts.at, facts.rows, facts.entries), (LogIndex(14), Timestamp(77), 2, 4));
    let (mut rows, mut entries) = (0, 0);
    let counted = reader.rows(&facts, |some| {
        rows += some.len();
        Ok::<(), ClusterBackupError>(())
    });
    counted.unwrap();
    let counted = reader.tails(|_, some, _| {
        entries += some.len();
        Ok::<(), ClusterBackupError>(())
    });
    counted.unwrap();
    assert_eq!((rows, entries), (2, 4));
    assert!(matches!(create(dir.path()), Err(ClusterBackupError::Exists { .. })), "it is never overwritten");
}

#[test]
fn pages_out_of_order_or_of_another_scan_and_tails_with_a_gap_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let mut writer = create(dir.path()).unwrap();
    let mut rows = writer.begin_shard(SHARD, applied(10)).unwrap();
    assert!(!writer.rows(&mut rows, page(1)).unwrap());
    assert!(!writer.rows(&mut rows, RowsPage { applied: applied(11), ..page(0) }).unwrap());
    assert!(writer.rows(&mut rows, page(0)).unwrap());
    assert!(!writer.rows(&mut rows, page(0)).unwrap());
    writer.end_shard(rows).unwrap();
    for gap in [tail(10, 11), tail(12, 13)] {
        assert!(!writer.tail(SHARD, gap).unwrap());
    }
}

#[test]
fn the_keys_may_be_named_after_the_backup() {
    let dir = tempfile::tempdir().unwrap();
    let named = |keys: &str| BackupWriter::create(&dir.path().join("day"), &dir.path().join(keys), BACKUP, identity());
    drop(named("day.keys").unwrap());
    std::mem::forget(named("day.keys").unwrap());
    assert_eq!(names(dir.path()), ["day.keys.part", "day.part"]);
}

#[test]
fn an_unfinished_backup_has_no_name_and_takes_away_what_it_wrote() {
    let dir = tempfile::tempdir().unwrap();
    let mut writer = create(dir.path()).unwrap();
    let rows = writer.begin_shard(SHARD, applied(10)).unwrap();
    assert_eq!(names(dir.path()), ["backup.part", "keys.bin.part"]);
    assert!(matches!(create(dir.path()), Err(ClusterBackupError::LeftOver { .. })));
    drop((rows, writer));
    assert_eq!(names(dir.path()), [""; 0]);
    // A process that was killed leaves its folder; it is not a backup.
    std::mem::forget(create(dir.path()).unwrap());
    let opened = BackupReader::open(&dir.path().join("backup.part"), &dir.path().join("keys.bin.part"));
    assert!(opened.is_err());
}

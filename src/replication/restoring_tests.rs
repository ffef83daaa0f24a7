//! Tests of a cluster's backup and its restore, over real folders: a shard that changes while it is copied.

use super::*;
use crate::persistence::cluster_backup::BackupWriter;
use crate::persistence::copying::{Copied, LogPage, RowsPage, rows};
use crate::persistence::folder::Folder;
use crate::persistence::log::{LogAppend, LogEntry};
use crate::persistence::toy::{Event, claim, entity, kinds, record};
use crate::persistence::verify::verify;
use crate::replication::copying::log_page;
use crate::replication::entry::encode_entry;
use crate::types::ids::{EntityKey, Term};
use crate::types::record::{EntryBody, Record, Sealed, VaultChange};
use crate::types::time::Timestamp;

const SHARD: ShardId = ShardId(1);
const BACKUP: [u8; 16] = [7; 16];

fn options() -> OpenOptions {
    OpenOptions {
        shards: 2,
        cache_log_bytes: 1 << 20,
        cache_state_bytes: 1 << 20,
        create: true,
        ballast_bytes: 0,
        master_key: Some([5; 32]),
        ..OpenOptions::default()
    }
}

/// A replica that logs and applies what it is given.
struct Source {
    folder: Folder,
    applier: Applier,
    last: LogIndex,
    appends: u64,
}

impl Source {
    fn new(dir: &Path) -> Self {
        let folder = Folder::open(dir, options()).unwrap();
        let applier = Applier::new(kinds(), folder.state.clone(), folder.keys.clone());
        let mut source = Self { folder, applier, last: LogIndex(1), appends: 0 };
        source.write(&EntryBody::Claim(claim(1)));
        source
    }

    fn write(&mut self, body: &EntryBody) {
        self.append(0, encode_entry(body));
    }

    fn append(&mut self, entry_type: i32, payload: Vec<u8>) {
        let start = (self.appends == 0).then_some(LogStart { index: LogIndex(1), term: Term(1) });
        self.appends += 1;
        self.last = self.last.next();
        let entry = LogEntry { index: self.last, term: Term(1), entry_type, payload: payload.clone() };
        self.folder
            .log
            .append(&[LogAppend {
                shard: SHARD,
                number: self.appends,
                entries: vec![entry],
                hard_state: None,
                membership: None,
                start,
            }])
            .unwrap();
        let payload = if entry_type == 0 { payload } else { Vec::new() };
        self.applier.apply(SHARD, &[(self.last, Term(1), payload)]).unwrap();
    }

    fn records(&mut self, records: Vec<Record>) {
        self.write(&EntryBody::Records { claim: claim(1), records });
    }

    fn personal(&mut self, id: u8, version: u64, text: &[u8]) -> Sealed {
        let (sealed, wrapped) = self.folder.vault.seal_new(entity(id), text);
        let put = VaultChange::Put(wrapped);
        self.records(vec![Record { vault: put, ..record(id, version, &[Event::Added(1)]) }]);
        sealed
    }

    fn rows(&self, cursor: Vec<u8>) -> RowsPage {
        match rows(&self.folder.state, &self.folder.keys, SHARD, cursor).unwrap() {
            Copied::Rows(page) => page,
            other => panic!("{other:?}"),
        }
    }

    fn log(&self, after: LogIndex) -> LogPage {
        match log_page(&self.folder.log, SHARD, after, self.last, Timestamp(9)).unwrap() {
            Copied::Log(page) => page,
            other => panic!("{other:?}"),
        }
    }

    fn writer(&self, at: &Path) -> BackupWriter {
        let identity = self.folder.identity_for(NodeId(1)).unwrap();
        let mut writer = BackupWriter::create(&at.join("backup"), &at.join("keys"), BACKUP, identity).unwrap();
        let empty = RowsPage { applied: Default::default(), number: 0, rows: vec![], keys: vec![], next: None };
        let mut other = writer.begin_shard(ShardId(0), empty.applied).unwrap();
        assert!(writer.rows(&mut other, empty).unwrap());
        writer.end_shard(other).unwrap();
        writer
    }

    fn scan(&self, writer: &mut BackupWriter, mut page: RowsPage) {
        let mut rows = writer.begin_shard(SHARD, page.applied).unwrap();
        loop {
            let next = page.next.clone();
            assert!(writer.rows(&mut rows, page).unwrap());
            match next {
                Some(cursor) => page = self.rows(cursor),
                None => break,
            }
        }
        writer.end_shard(rows).unwrap();
    }
}

fn restored(at: &Path, name: &str) -> Result<(Restored, Folder), RestoreError> {
    let reader = BackupReader::open(&at.join("backup"), &at.join("keys"))?;
    let done = restore(&at.join(name), &reader, &options(), kinds(), |shard| u64::from(shard.0) + 1)?;
    Ok((done, Folder::open(&at.join(name), OpenOptions { create: false, ..options() })?))
}

fn opens(folder: &Folder, key: EntityKey, sealed: &Sealed) -> Option<Vec<u8>> {
    folder.vault.open(key, sealed).ok().flatten()
}

/// A backup of a shard whose entities change while it is scanned and after, and what it must show.
fn changing(at: &Path) -> (Source, Vec<(u8, Sealed)>) {
    let mut source = Source::new(&at.join("one"));
    let timed = |id| record(id, 0, &[Event::Added(u64::from(id)), Event::Timed(Some(90))]);
    for id in 20..220 {
        source.records(vec![timed(id)]);
    }
    let old = source.personal(1, 0, b"before");
    let replaced = source.personal(2, 0, b"replaced later");
    let erased = source.personal(3, 0, b"erased later");
    let mut writer = source.writer(at);
    let page = source.rows(Vec::new());
    // The rows are frozen by now, the keys are not.
    let new = source.personal(2, 1, b"the new one");
    source.scan(&mut writer, page);
    source.append(2, vec![1, 2, 3]);
    source.records(vec![Record { vault: VaultChange::Erase, ..record(3, 1, &[Event::Added(1)]) }]);
    // Void: it must put no key.
    let (_, stray) = source.folder.vault.seal_new(entity(1), b"stray");
    source.records(vec![Record { vault: VaultChange::Put(stray), ..record(1, 9, &[Event::Added(1)]) }]);
    let late = source.personal(4, 0, b"late");
    source.records(vec![record(20, 1, &[Event::Timed(None), Event::Named(Some("x".to_owned()))])]);
    assert!(writer.tail(SHARD, source.log(writer.facts(SHARD).unwrap().reached)).unwrap());
    writer.finish("{}".to_owned()).unwrap();
    (source, vec![(1, old), (2, new), (2, replaced), (3, erased), (4, late)])
}

#[test]
fn a_shard_that_changes_meanwhile_is_restored_as_of_the_backups_end_with_its_keys() {
    let dir = tempfile::tempdir().unwrap();
    let (source, sealed) = changing(dir.path());
    let (done, folder) = restored(dir.path(), "two").unwrap();
    assert_eq!(folder.state.stats(SHARD).unwrap(), source.folder.state.stats(SHARD).unwrap());
    assert_eq!(done.shards[1].entities, 204);
    for (id, sealed) in &sealed {
        let there = opens(&source.folder, entity(*id), sealed);
        assert_eq!(opens(&folder, entity(*id), sealed), there, "entity {id}");
    }
    assert!(verify(&folder, &kinds()).unwrap().is_clean());
    assert_ne!(folder.cluster, source.folder.cluster);
    assert_eq!((folder.node, folder.cluster_secret), (NodeId(1), source.folder.cluster_secret));
    assert_eq!(folder.log.membership(SHARD).unwrap().unwrap().voters, [2]);
    assert_eq!(folder.log.span(SHARD).last.0, source.last);
    assert_eq!(folder.starts.lineage().confirmed, None);
    assert!(matches!(restored(dir.path(), "two"), Err(RestoreError::Exists { .. })));
}

#[test]
fn no_data_key_is_in_the_folder_that_holds_the_rest() {
    let dir = tempfile::tempdir().unwrap();
    let (source, _) = changing(dir.path());
    let keys: Vec<Vec<u8>> =
        source.folder.keys.page(None).unwrap().into_iter().map(|(_, key)| key.ciphertext).collect();
    assert_eq!(keys.len(), 3);
    let mut files = 0;
    for file in fs::read_dir(dir.path().join("backup")).unwrap() {
        let bytes = fs::read(file.unwrap().path()).unwrap();
        assert!(!keys.iter().any(|key| bytes.windows(key.len()).any(|window| window == key)));
        files += 1;
    }
    assert_eq!(files, 4);
}

#[test]
fn a_shard_that_was_begun_again_counts_once_and_its_first_keys_do_not() {
    let dir = tempfile::tempdir().unwrap();
    let mut source = Source::new(&dir.path().join("one"));
    let sealed = source.personal(1, 0, b"gone between");
    let mut writer = source.writer(dir.path());
    let page = source.rows(Vec::new());
    source.scan(&mut writer, page);
    source.personal(5, 0, b"in the first tail");
    assert!(writer.tail(SHARD, source.log(writer.facts(SHARD).unwrap().reached)).unwrap());
    source.records(vec![Record { vault: VaultChange::Erase, ..record(1, 1, &[Event::Added(1)]) }]);
    let page = source.rows(Vec::new());
    source.scan(&mut writer, page);
    let late = source.personal(6, 0, b"in the second");
    assert!(!writer.tail(SHARD, source.log(LogIndex(2))).unwrap(), "it does not follow");
    assert!(writer.tail(SHARD, source.log(writer.facts(SHARD).unwrap().reached)).unwrap());
    writer.finish(String::new()).unwrap();
    let (_, folder) = restored(dir.path(), "two").unwrap();
    assert_eq!(folder.state.stats(SHARD).unwrap(), source.folder.state.stats(SHARD).unwrap());
    assert_eq!(opens(&folder, entity(1), &sealed), None);
    assert_eq!(opens(&folder, entity(6), &late).unwrap(), b"in the second");
    assert!(verify(&folder, &kinds()).unwrap().is_clean());
}

#[test]
fn a_tail_of_a_purged_log_is_lost_and_not_empty() {
    let dir = tempfile::tempdir().unwrap();
    let mut source = Source::new(&dir.path().join("one"));
    for id in 1..30 {
        source.records(vec![record(id, 0, &[Event::Added(1)])]);
    }
    source.folder.log.purge(SHARD, LogIndex(20)).unwrap();
    let ask = |after| log_page(&source.folder.log, SHARD, LogIndex(after), source.last, Timestamp(0)).unwrap();
    assert_eq!(ask(5), Copied::Lost);
    assert!(matches!(ask(19), Copied::Log(page) if page.entries.len() == 12));
}

#[test]
fn a_file_that_is_missing_cut_damaged_or_of_another_backup_is_refused_and_leaves_no_folder() {
    let dir = tempfile::tempdir().unwrap();
    changing(dir.path());
    let other = tempfile::tempdir().unwrap();
    let (source, _) = changing(other.path());
    let files = ["backup/shard-000", "backup/shard-001", "backup/tails", "backup/manifest", "keys"];
    let mut tries = 0;
    let mut refused = |what: String| {
        tries += 1;
        let name = format!("try-{tries}");
        assert!(restored(dir.path(), &name).is_err(), "{what}");
        let opened = Folder::open(&dir.path().join(name), OpenOptions { create: false, ..options() });
        assert!(opened.is_err(), "{what}: a folder");
    };
    for file in files {
        let path = dir.path().join(file);
        let whole = fs::read(&path).unwrap();
        for at in [0, 5, whole.len() / 2, whole.len() - 1] {
            fs::write(&path, &whole[..at]).unwrap();
            refused(format!("{file} cut at {at}"));
            let mut flipped = whole.clone();
            flipped[at] ^= 0x20;
            fs::write(&path, flipped).unwrap();
            refused(format!("{file} flipped at {at}"));
        }
        fs::remove_file(&path).unwrap();
        refused(format!("{file} missing"));
        fs::write(&path, whole).unwrap();
    }
    // The other is of another cluster; its id is the same here.
    let keys = fs::read(dir.path().join("keys")).unwrap();
    fs::copy(other.path().join("keys"), dir.path().join("keys")).unwrap();
    refused("keys of another cluster".to_owned());
    fs::write(dir.path().join("keys"), keys).unwrap();
    drop(source);
    let wrong = OpenOptions { master_key: Some([6; 32]), ..options() };
    let reader = BackupReader::open(&dir.path().join("backup"), &dir.path().join("keys")).unwrap();
    let refusal = restore(&dir.path().join("wrong"), &reader, &wrong, kinds(), |_| 1);
    assert!(matches!(refusal, Err(RestoreError::Open(OpenError::Secret))));
    assert!(restored(dir.path(), "whole").is_ok());
}

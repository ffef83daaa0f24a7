//! Tests of the writer thread: order, group commit, failures.

use super::*;
use crate::persistence::log::{LogEntry, LogStart};
use crate::persistence::memory_store::{Failure, MemoryStore, Operation, Torn};
use crate::types::ids::Term;
use crossbeam_channel::unbounded;
use std::sync::atomic::{AtomicU64, Ordering};

fn append(shard: u16, number: u64, index: u64) -> LogAppend {
    let entry = LogEntry { index: LogIndex(index), term: Term(1), entry_type: 0, payload: vec![7; 100] };
    let shard = ShardId(shard);
    LogAppend { shard, number, entries: vec![entry], hard_state: None, membership: None, start: None }
}

struct Rig {
    store: Arc<MemoryStore>,
    log: Arc<LogStore>,
    watermark: Watermark,
    persisted: Receiver<Vec<(ShardId, u64)>>,
    writer: LogWriter,
}

fn rig(fatal: fn(&StoreError)) -> Rig {
    let store = Arc::new(MemoryStore::new());
    let log = Arc::new(LogStore::open(store.clone()).unwrap());
    let watermark = Watermark::memory();
    let (sender, persisted) = unbounded();
    let seen = Box::new(move |numbers| sender.send(numbers).unwrap());
    let writer = LogWriter::start_with(log.clone(), watermark.clone(), (seen, Box::new(Unwatched)), fatal);
    Rig { store, log, watermark, persisted, writer }
}

fn no_failure(error: &StoreError) {
    panic!("{error}");
}

#[test]
fn every_shard_hears_its_highest_number_once_it_is_durable() {
    let rig = rig(no_failure);
    for number in 1..=300 {
        for shard in 0..4 {
            rig.writer.submit(append(shard, number, number));
        }
    }
    assert!(rig.writer.barrier());
    assert_eq!(rig.store.unsynced(), 0, "nothing is said before it is durable");
    let mut highest = [0u64; 4];
    for (shard, number) in rig.persisted.try_iter().flatten() {
        assert!(number > highest[usize::from(shard.0)], "numbers grow");
        highest[usize::from(shard.0)] = number;
    }
    assert_eq!(highest, [300; 4]);
    assert_eq!(rig.watermark.read().unwrap(), rig.log.batch_seq());
    assert!(rig.store.syncs() < 1_200, "appends share a sync: {}", rig.store.syncs());
}

#[test]
fn what_was_acknowledged_survives_a_power_cut_at_any_moment() {
    let rig = rig(no_failure);
    for number in 1..=50 {
        rig.writer.submit(append(0, number, number));
        let acknowledged = rig.persisted.recv().unwrap();
        assert_eq!(acknowledged, [(ShardId(0), number)]);
    }
    drop(rig.writer);
    rig.store.crash(Torn::Power { batches: 0 });
    let log = LogStore::open(rig.store).unwrap();
    assert_eq!(log.span(ShardId(0)).last.0, LogIndex(50));
    assert!(log.batch_seq() >= rig.watermark.read().unwrap());
}

#[test]
fn dropping_the_writer_writes_what_was_submitted() {
    let rig = rig(no_failure);
    (1..=20).for_each(|number| rig.writer.submit(append(0, number, number)));
    drop(rig.writer);
    assert_eq!(rig.log.span(ShardId(0)).last.0, LogIndex(20));
    assert_eq!(rig.persisted.try_iter().flatten().last(), Some((ShardId(0), 20)));
}

#[test]
fn a_purge_goes_on_a_chunk_with_each_batch() {
    let rig = rig(no_failure);
    (1..=700).for_each(|number| rig.writer.submit(append(0, number, number)));
    assert!(rig.writer.barrier());
    rig.writer.purge(ShardId(0), LogIndex(601));
    rig.writer.purge(ShardId(0), LogIndex(300));
    (701..=703).for_each(|number| {
        rig.writer.submit(append(0, number, number));
        assert!(rig.writer.barrier());
    });
    let span = LogStore::open(rig.store.clone()).unwrap().span(ShardId(0));
    assert_eq!((span.truncated.0, span.last.0), (LogIndex(600), LogIndex(703)));
}

#[test]
fn a_log_that_follows_a_settled_one_is_not_purged_in_its_stead() {
    let rig = rig(no_failure);
    (1..=2_000).for_each(|number| rig.writer.submit(append(0, number, number)));
    (1..=300).for_each(|number| rig.writer.submit(append(1, number, number)));
    assert!(rig.writer.barrier());
    // The second waits for the chunks of the first.
    rig.writer.purge(ShardId(0), LogIndex(2_000));
    rig.writer.purge(ShardId(1), LogIndex(300));
    rig.writer.submit(append(1, 301, 301));
    assert!(rig.writer.settle(ShardId(1)));
    assert_eq!(rig.log.span(ShardId(1)).last.0, LogIndex(301), "nothing is left to be written");
    rig.log.write(&[LogWrite::Forget { shard: ShardId(1) }]).unwrap();
    (1..=10).for_each(|number| rig.writer.submit(append(1, number, number)));
    while rig.log.span(ShardId(0)).truncated.0 < LogIndex(1_999) {
        assert!(rig.writer.barrier());
    }
    (11..=12).for_each(|number| {
        rig.writer.submit(append(1, number, number));
        assert!(rig.writer.barrier());
    });
    let span = rig.log.span(ShardId(1));
    assert_eq!((span.truncated.0, span.last.0), (LogIndex(0), LogIndex(12)));
}

#[test]
fn a_start_replaces_the_log_in_order_with_appends() {
    let rig = rig(no_failure);
    rig.writer.submit(append(0, 1, 1));
    let start = Some(LogStart { index: LogIndex(40), term: Term(1) });
    rig.writer.submit(LogAppend { start, ..append(0, 2, 41) });
    assert!(rig.writer.barrier());
    let span = rig.log.span(ShardId(0));
    assert_eq!((span.truncated.0, span.last.0), (LogIndex(40), LogIndex(41)));
}

static FATAL: AtomicU64 = AtomicU64::new(0);

#[test]
fn nothing_is_acknowledged_after_a_failed_sync() {
    fn fatal(_: &StoreError) {
        FATAL.fetch_add(1, Ordering::SeqCst);
    }
    let rig = rig(fatal);
    rig.writer.submit(append(0, 1, 1));
    assert!(rig.writer.barrier());
    rig.store.fail(Operation::Sync, 0, Failure::Io);
    rig.writer.submit(append(0, 2, 2));
    assert!(!rig.writer.barrier(), "the thread has ended");
    rig.writer.submit(append(0, 3, 3));
    drop(rig.writer);
    assert_eq!(FATAL.load(Ordering::SeqCst), 1);
    assert_eq!(rig.persisted.try_iter().flatten().last(), Some((ShardId(0), 1)));
    assert_eq!(rig.log.span(ShardId(0)).last.0, LogIndex(2), "it was written, but nobody was told");
}

/// What a watch was told, `true` for a begin.
struct Told(Sender<bool>);

impl SyncWatch for Told {
    fn begins(&self) {
        self.0.send(true).unwrap();
    }
    fn ends(&self) {
        self.0.send(false).unwrap();
    }
}

#[test]
fn a_watch_is_told_of_each_batch_and_of_a_probe_of_a_log_that_nobody_writes_to() {
    let store = Arc::new(MemoryStore::new());
    let log = Arc::new(LogStore::open(store.clone()).unwrap());
    let (sender, told) = unbounded();
    let hooks: (Persisted, Box<dyn SyncWatch>) = (Box::new(|_| {}), Box::new(Told(sender)));
    let writer = LogWriter::start_with(log.clone(), Watermark::memory(), hooks, no_failure);
    assert!(writer.barrier());
    assert_eq!(told.try_iter().count(), 0, "a barrier alone makes nothing durable");
    writer.submit(append(0, 1, 1));
    assert!(writer.barrier());
    assert_eq!(told.try_iter().collect::<Vec<_>>(), [true, false]);
    let (syncs, seq) = (store.syncs(), log.batch_seq());
    writer.probe();
    assert!(writer.barrier());
    assert_eq!(told.try_iter().collect::<Vec<_>>(), [true, false]);
    assert_eq!((store.syncs(), log.batch_seq()), (syncs + 1, seq), "nothing was written");
}

//! Tests of the log store over a store that forgets.

use super::*;
use crate::persistence::memory_store::{MemoryStore, Torn};
use proptest::prelude::*;

const SHARD: ShardId = ShardId(3);

fn entry(index: u64, term: u64) -> LogEntry {
    let payload = format!("{index}@{term}").into_bytes();
    LogEntry { index: LogIndex(index), term: Term(term), entry_type: 0, payload }
}

fn append(entries: Vec<LogEntry>) -> LogAppend {
    LogAppend { shard: SHARD, number: 1, entries, hard_state: None, membership: None, start: None }
}

fn members() -> Membership {
    Membership { index: LogIndex(1), voters: vec![1, 2, 3], ..Membership::default() }
}

fn fill(log: &LogStore, range: std::ops::RangeInclusive<u64>, term: u64) {
    log.append(&[append(range.map(|index| entry(index, term)).collect())]).unwrap();
}

fn all(log: &LogStore) -> Vec<LogEntry> {
    let span = log.span(SHARD);
    log.entries(SHARD, span.truncated.0.next(), span.last.0.next(), usize::MAX).unwrap()
}

fn reopen(store: &Arc<MemoryStore>) -> Result<LogStore, StoreError> {
    LogStore::open(store.clone())
}

fn new_log() -> (Arc<MemoryStore>, LogStore) {
    let store = Arc::new(MemoryStore::new());
    let log = reopen(&store).unwrap();
    (store, log)
}

#[test]
fn a_log_row_has_its_golden_bytes() {
    let (store, log) = new_log();
    let hard_state = Some(HardState { term: Term(2), vote: 1, commit: LogIndex(1) });
    log.append(&[LogAppend { hard_state, membership: Some(members()), ..append(vec![entry(1, 2)]) }]).unwrap();
    let value = |key: Vec<u8>| hex::encode(store.get(&key).unwrap().unwrap());
    assert_eq!(value(key::log_entry(SHARD, LogIndex(1))), GOLDEN_ENTRY);
    assert_eq!(value(key::of_shard(Table::HardState, SHARD)), GOLDEN_HARD_STATE);
    assert_eq!(value(key::of_shard(Table::Membership, SHARD)), GOLDEN_MEMBERSHIP);
    assert_eq!(value(key::single(Table::BatchSeq)), GOLDEN_BATCH_SEQ);
}
const GOLDEN_MEMBERSHIP: &str = "01e4e2068c010301020300000000";
const GOLDEN_ENTRY: &str = "01f6f8c23c000000000000000200314032";
const GOLDEN_HARD_STATE: &str = "015b067798020101";
const GOLDEN_BATCH_SEQ: &str = "012e1a969701";

#[test]
fn a_replaced_suffix_is_gone_after_reopening() {
    let (store, log) = new_log();
    fill(&log, 1..=5, 1);
    fill(&log, 3..=4, 2);
    let expected = vec![entry(1, 1), entry(2, 1), entry(3, 2), entry(4, 2)];
    assert_eq!(all(&log), expected);
    let log = reopen(&store).unwrap();
    assert_eq!(all(&log), expected);
    assert_eq!(log.load(SHARD).unwrap().entries, expected);
    assert_eq!(log.term(SHARD, LogIndex(5)).unwrap(), None);
}

#[test]
fn appends_of_one_batch_take_effect_in_order() {
    let (_, log) = new_log();
    let first = append((1..=4).map(|index| entry(index, 1)).collect());
    let second = append(vec![entry(2, 2)]);
    log.append(&[first, second]).unwrap();
    assert_eq!(all(&log), vec![entry(1, 1), entry(2, 2)]);
}

#[test]
fn a_gap_or_an_append_below_the_log_is_refused() {
    let (_, log) = new_log();
    fill(&log, 1..=3, 1);
    assert!(matches!(log.append(&[append(vec![entry(5, 1)])]), Err(StoreError::Corrupt { .. })));
    log.purge(SHARD, LogIndex(3)).unwrap();
    assert!(matches!(log.append(&[append(vec![entry(2, 1)])]), Err(StoreError::Corrupt { .. })));
    assert_eq!(all(&log), vec![entry(3, 1)]);
}

#[test]
fn a_purge_goes_in_chunks_and_remembers_the_last_term() {
    let (store, log) = new_log();
    fill(&log, 1..=300, 1);
    fill(&log, 301..=600, 2);
    let before = log.batch_seq();
    log.purge(SHARD, LogIndex(521)).unwrap();
    assert_eq!(log.batch_seq(), BatchSeq(before.0 + 3), "520 keys are three chunks");
    let log = reopen(&store).unwrap();
    let start = LogStart { index: LogIndex(520), term: Term(2) };
    assert_eq!(log.load(SHARD).unwrap().start, start);
    assert_eq!(log.term(SHARD, LogIndex(520)).unwrap(), Some(Term(2)));
    assert_eq!(log.term(SHARD, LogIndex(519)).unwrap(), None);
    assert!(log.entries(SHARD, LogIndex(500), LogIndex(530), 99).unwrap().is_empty(), "purged entries are no answer");
}

#[test]
fn a_log_purged_to_its_end_goes_on_from_there() {
    let (store, log) = new_log();
    fill(&log, 1..=3, 4);
    log.purge(SHARD, LogIndex(99)).unwrap();
    let log_again = reopen(&store).unwrap();
    assert_eq!(log_again.span(SHARD).last, (LogIndex(3), Term(4)));
    assert!(log_again.load(SHARD).unwrap().entries.is_empty());
    fill(&log_again, 4..=4, 4);
    assert_eq!(all(&log_again), vec![entry(4, 4)]);
}

#[test]
fn entries_stop_at_the_byte_limit_but_give_one() {
    let (_, log) = new_log();
    fill(&log, 1..=200, 1);
    let some = log.entries(SHARD, LogIndex(2), LogIndex(201), 9).unwrap();
    assert_eq!(some, vec![entry(2, 1), entry(3, 1), entry(4, 1)], "three bytes each");
    assert_eq!(log.entries(SHARD, LogIndex(2), LogIndex(201), 0).unwrap().len(), 1);
    assert_eq!(log.entries(SHARD, LogIndex(1), LogIndex(201), usize::MAX).unwrap().len(), 200);
}

#[test]
fn a_reset_replaces_the_log_by_the_snapshot() {
    let (store, log) = new_log();
    fill(&log, 1..=9, 1);
    let hard_state = Some(HardState { term: Term(7), vote: 0, commit: LogIndex(50) });
    let start = LogStart { index: LogIndex(50), term: Term(7) };
    let entries = (51..=52).map(|index| entry(index, 7)).collect();
    let install = LogAppend { hard_state, membership: Some(members()), start: Some(start), ..append(entries) };
    log.append(&[install]).unwrap();
    let loaded = reopen(&store).unwrap().load(SHARD).unwrap();
    assert_eq!((loaded.start, loaded.entries.len(), loaded.membership), (start, 2, members()));
}

#[test]
fn a_lost_unsynced_tail_leaves_a_shorter_log_that_opens() {
    let (store, log) = new_log();
    fill(&log, 1..=3, 1);
    log.sync().unwrap();
    fill(&log, 4..=6, 1);
    fill(&log, 7..=9, 1);
    store.crash(Torn::Power { batches: 1 });
    let log = reopen(&store).unwrap();
    assert_eq!((log.span(SHARD).last.0, log.batch_seq()), (LogIndex(6), BatchSeq(2)));
}

#[test]
fn a_flipped_bit_anywhere_refuses_to_open() {
    for bit in [0, 9, 41, 80, 130] {
        let (store, log) = new_log();
        fill(&log, 1..=3, 1);
        assert!(store.flip_bit(&key::log_entry(SHARD, LogIndex(2)), bit));
        assert!(matches!(reopen(&store), Err(StoreError::Corrupt { .. })), "bit {bit}");
    }
}

#[test]
fn a_missing_entry_or_one_in_anothers_place_refuses_to_open() {
    let (store, log) = new_log();
    fill(&log, 1..=3, 1);
    let [second, third] = [2, 3].map(|index| key::log_entry(SHARD, LogIndex(index)));
    let moved = store.get(&third).unwrap();
    store.apply(WriteBatch { operations: vec![(second.clone(), moved)] }).unwrap();
    assert!(matches!(reopen(&store), Err(StoreError::Corrupt { .. })));
    store.apply(WriteBatch { operations: vec![(second, None)] }).unwrap();
    assert!(matches!(reopen(&store), Err(StoreError::Corrupt { .. })));
}

#[test]
fn a_log_that_ends_before_its_commit_refuses_to_open() {
    let (store, log) = new_log();
    let hard_state = Some(HardState { term: Term(1), vote: 1, commit: LogIndex(4) });
    log.append(&[LogAppend { hard_state, ..append(vec![entry(1, 1)]) }]).unwrap();
    assert!(matches!(reopen(&store), Err(StoreError::Corrupt { .. })));
}

proptest! {
    /// Whatever was appended, replaced and purged, the store says the same as a plain vector, before and after reopening.
    #[test]
    fn the_log_equals_its_model(steps in proptest::collection::vec((0u8..4, 1u64..8, 0u64..6), 1..40)) {
        let (store, log) = new_log();
        let mut model: Vec<LogEntry> = Vec::new();
        let mut truncated = 0u64;
        for (term, (sort, count, back)) in (1..).zip(steps) {
            let last = truncated + model.len() as u64;
            if sort == 0 {
                let below = (truncated + 1 + back).min(last + 1);
                log.purge(SHARD, LogIndex(below)).unwrap();
                model.drain(..usize::try_from(below - truncated - 1).unwrap());
                truncated = below - 1;
            } else {
                let first = (last + 1).saturating_sub(back).max(truncated + 1);
                let entries: Vec<LogEntry> = (first..first + count).map(|index| entry(index, term)).collect();
                log.append(&[append(entries.clone())]).unwrap();
                model.truncate(usize::try_from(first - truncated - 1).unwrap());
                model.extend(entries);
            }
        }
        prop_assert_eq!(&all(&log), &model);
        let again = reopen(&store).unwrap();
        prop_assert_eq!(all(&again), model);
        prop_assert_eq!(again.span(SHARD), log.span(SHARD));
    }
}

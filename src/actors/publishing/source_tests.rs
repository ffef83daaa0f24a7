//! What is read behind a cursor, over a log and a state in memory.

use super::*;
use crate::persistence::key_store::KeyStore;
use crate::persistence::log::{LogAppend, LogEntry};
use crate::persistence::memory_store::MemoryStore;
use crate::persistence::ring::RingFile;
use crate::persistence::store::Store;
use crate::persistence::toy::{Event, claim, kinds, record};
use crate::replication::apply::Applier;
use crate::replication::entry::encode_entry;
use crate::stream::{RedisAddress, TopicPolicy};
use crate::types::codec;
use crate::types::ids::EntityKind;
use crate::types::publication::{Publication, Topic};
use crate::types::time::Millis;
use serde_json::json;

const SHARD: ShardId = ShardId(3);
const TOY: Topic = Topic("toy.v1");
const NOW: Timestamp = Timestamp(5_000);

fn publish(_: EntityKind, events: &[u8]) -> Result<Vec<Publication>, CodecError> {
    let events: Vec<Event> = codec::decode(events)?;
    let one = |event: &Event| {
        let described = json!({ "type": "toy", "at": "1970-01-01T00:00:00.000Z", "event": format!("{event:?}") });
        Publication::new(TOY, described, &[])
    };
    events.iter().map(one).collect()
}

struct Rig {
    source: Source,
    applier: Applier,
    last: LogIndex,
}

impl Rig {
    fn new() -> Self {
        Self::keeping(None)
    }

    fn keeping(retention: Option<Millis>) -> Self {
        let store: Arc<dyn Store> = Arc::new(MemoryStore::new());
        let state = Arc::new(StateStore::new(store));
        let log = Arc::new(LogStore::open(Arc::new(MemoryStore::new())).unwrap());
        let keys = Arc::new(KeyStore::new(Arc::new(MemoryStore::new()), RingFile::memory()));
        let policy = |topic, retention| TopicPolicy { topic, retention, entries_max: None };
        // Another topic keeps everything, so the journal is always read from its beginning.
        let policies = vec![policy(TOY, retention), policy(Topic("other.v1"), None)];
        let stream = EventStream::new(RedisAddress::parse("redis://127.0.0.1:1").unwrap(), "t", policies);
        let source = Source { log, state: state.clone(), kinds: kinds(), publish, stream };
        let applier = Applier::new(kinds(), state, keys);
        let mut rig = Self { source, applier, last: LogIndex(1) };
        // Index 1 is the founding.
        rig.append(Vec::new(), 0);
        rig.last = LogIndex(1);
        rig.say(EntryBody::Claim(claim(1)));
        rig
    }

    fn append(&mut self, payload: Vec<u8>, entry_type: i32) {
        let entries = vec![LogEntry { index: self.last, term: Term(1), entry_type, payload }];
        let append = LogAppend { shard: SHARD, number: 1, entries, hard_state: None, membership: None, start: None };
        self.source.log.append(&[append]).unwrap();
    }

    /// One more entry, appended and applied.
    fn say(&mut self, body: EntryBody) {
        self.last = self.last.next();
        let payload = encode_entry(&body);
        self.append(payload.clone(), 0);
        self.applier.apply(SHARD, &[(self.last, Term(1), payload)]).unwrap();
    }

    fn record(&mut self, record: Record) {
        self.say(EntryBody::Records { claim: claim(1), records: vec![record] });
    }

    fn next(&self, cursor: Option<&Cursor>) -> Option<Chunk> {
        let applied = self.source.state.applied(SHARD).unwrap();
        self.source.next(SHARD, cursor, &applied, NOW).unwrap()
    }

    /// Everything behind a cursor: the event ids, without the entity's prefix, and where they end.
    fn all(&self, mut cursor: Option<Cursor>) -> (Vec<String>, Cursor) {
        let mut ids = Vec::new();
        while let Some(chunk) = self.next(cursor.as_ref()) {
            ids.extend(chunk.events.iter().map(|event| short(&event.event_id)));
            cursor = Some(chunk.cursor);
        }
        (ids, cursor.expect("a shard has a cursor once it was read"))
    }
}

/// `1.2.0` for the first event of version 2 of entity 1.
fn short(event_id: &str) -> String {
    let (entity, rest) = event_id.split_once('.').unwrap();
    format!("{}.{rest}", u8::from_str_radix(&entity[entity.len() - 2..], 16).unwrap())
}

fn added(n: u8, version_before: u64) -> Record {
    record(n, version_before, &[Event::Added(1)])
}

#[test]
fn without_a_cursor_everything_is_said_and_then_what_follows() {
    let mut rig = Rig::new();
    rig.record(record(1, 0, &[Event::Added(1), Event::Added(2)]));
    rig.record(added(2, 0));
    let (ids, cursor) = rig.all(None);
    assert_eq!(ids, ["1.1.0", "1.1.1", "2.1.0"]);
    assert!(cursor.is_tail());
    rig.record(added(2, 1));
    rig.record(added(1, 1));
    let (ids, after) = rig.all(Some(cursor));
    assert_eq!(ids, ["2.2.0", "1.2.0"], "in the order of the log");
    assert_eq!(after.index(), rig.last);
    assert_eq!(rig.next(Some(&after)), None);
}

#[test]
fn a_void_record_is_not_said_although_its_command_came_true_later() {
    let mut rig = Rig::new();
    let (_, cursor) = rig.all(None);
    let stale = Record { at: Timestamp(900), ..added(1, 0) };
    rig.say(EntryBody::Records { claim: claim(9), records: vec![stale] });
    assert_eq!(rig.all(Some(cursor)).0, Vec::<String>::new());
    rig.record(added(1, 0));
    rig.record(added(1, 0));
    let (ids, _) = rig.all(Some(cursor));
    assert_eq!(ids.len(), 2, "the repeat is the same record to the letter, and so the same event: {ids:?}");
    assert!(ids.iter().all(|id| id == "1.1.0"));
}

#[test]
fn membership_changes_say_nothing_and_are_passed() {
    let mut rig = Rig::new();
    let (_, cursor) = rig.all(None);
    rig.last = rig.last.next();
    rig.append(vec![1, 2, 3], 2);
    rig.applier.apply(SHARD, &[(rig.last, Term(1), Vec::new())]).unwrap();
    rig.record(added(1, 0));
    assert_eq!(rig.all(Some(cursor)).0, ["1.1.0"]);
}

#[test]
fn a_purged_log_is_made_good_from_the_journal() {
    let mut rig = Rig::new();
    rig.record(added(1, 0));
    let (_, cursor) = rig.all(None);
    for version in 1..40 {
        rig.record(added(1, version));
        rig.record(added(2, version - 1));
    }
    rig.source.log.purge(SHARD, rig.last).unwrap();
    assert!(rig.source.log.span(SHARD).truncated.0 > cursor.index());
    let Some(Chunk { events, cursor }) = rig.next(Some(&cursor)) else { panic!("there is more") };
    let ids: Vec<String> = events.iter().map(|event| short(&event.event_id)).collect();
    let of = |n: u8, versions: u64| (1..=versions).map(move |version| format!("{n}.{version}.0"));
    assert_eq!(ids, of(1, 40).chain(of(2, 39)).collect::<Vec<_>>(), "no gap, in order for each entity");
    assert_eq!(cursor.index(), rig.last);
}

#[test]
fn a_scan_is_taken_up_where_it_stopped_and_the_log_where_it_began() {
    let mut rig = Rig::new();
    for n in 1..=6 {
        for version in 0..200 {
            rig.record(added(n, version));
        }
    }
    rig.source.log.purge(SHARD, rig.last).unwrap();
    let begun = rig.next(None).unwrap();
    assert!(matches!(begun.cursor, Cursor::Scan(Scan { after: Some(_), .. })));
    let until = begun.cursor.index();
    // Meanwhile one that the scan is past, and one that it is to come to.
    rig.record(added(1, 200));
    rig.record(added(6, 200));
    let (ids, cursor) = rig.all(Some(begun.cursor));
    assert!(until < rig.last);
    assert_eq!(cursor.index(), rig.last);
    let begun_ids: Vec<String> = begun.events.iter().map(|event| short(&event.event_id)).collect();
    let said = [begun_ids, ids].concat();
    for n in 1..=6u8 {
        let mut versions: Vec<u64> = said
            .iter()
            .filter(|id| id.starts_with(&format!("{n}.")))
            .map(|id| id.split('.').nth(1).unwrap().parse().unwrap())
            .collect();
        let newest = *versions.iter().max().unwrap();
        assert_eq!(newest, if [1, 6].contains(&n) { 201 } else { 200 });
        versions.dedup();
        let first_seen: Vec<u64> = (1..=newest).collect();
        let mut seen = Vec::new();
        versions.into_iter().for_each(|version| {
            if !seen.contains(&version) {
                seen.push(version)
            }
        });
        assert_eq!(seen, first_seen, "first seen in order, without a gap");
    }
}

#[test]
fn the_journal_is_read_from_a_minute_before_the_cursor() {
    let mut rig = Rig::new();
    let late = |n: u8, version: u64, at: i64| Record { at: Timestamp(at), ..added(n, version) };
    rig.record(late(1, 0, 1_000));
    rig.record(late(1, 1, 70_000));
    rig.record(late(2, 0, 200_000));
    rig.source.log.purge(SHARD, rig.last).unwrap();
    let cursor = Cursor::Tail(Tail { index: LogIndex(2), term: Term(1), at: Timestamp(130_000) });
    let (ids, _) = rig.all(Some(cursor));
    assert_eq!(ids, ["1.2.0", "2.1.0"]);
}

#[test]
fn a_cursor_of_another_past_counts_as_none() {
    let mut rig = Rig::new();
    rig.record(added(1, 0));
    for (index, term) in [(900, 1), (2, 7)] {
        let cursor = Cursor::Tail(Tail { index: LogIndex(index), term: Term(term), at: NOW });
        assert_eq!(rig.all(Some(cursor)).0, ["1.1.0"]);
    }
}

#[test]
fn what_a_topic_has_let_go_of_is_not_brought_back() {
    let mut rig = Rig::keeping(Some(Millis(2_000)));
    rig.record(Record { at: Timestamp(2_999), ..added(1, 0) });
    rig.record(Record { at: Timestamp(3_000), ..added(1, 1) });
    rig.source.log.purge(SHARD, rig.last).unwrap();
    let (ids, cursor) = rig.all(None);
    assert_eq!(ids, ["1.2.0"]);
    rig.record(Record { at: Timestamp(10), ..added(1, 2) });
    assert_eq!(rig.all(Some(cursor)).0, ["1.3.0"], "the log is followed whatever the record's age");
}

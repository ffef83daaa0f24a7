//! Tests of apply, over a store that tears and forgets.

use super::*;
use crate::persistence::key::WakeKey;
use crate::persistence::memory_store::{Failure, MemoryStore, Operation, Torn};
use crate::persistence::ring::RingFile;
use crate::persistence::store::Store;
use crate::persistence::toy::{ALL, Event, NAMES, claim, entity, kinds, record, state_after};
use crate::replication::entry::encode_entry;
use crate::types::effect::Slot;
use crate::types::ids::{EntityKind, IdempotencyId};
use crate::types::record::WrappedKey;
use proptest::prelude::*;

const SHARD: ShardId = ShardId(3);

type Entry = (LogIndex, Term, Vec<u8>);

struct Rig {
    store: Arc<MemoryStore>,
    keys: Arc<MemoryStore>,
    applier: Applier,
}

fn start(store: Arc<MemoryStore>, keys: Arc<MemoryStore>) -> Rig {
    let state = Arc::new(StateStore::new(store.clone()));
    let key_store = Arc::new(KeyStore::new(keys.clone(), RingFile::memory()));
    Rig { store, keys, applier: Applier::new(kinds(), state, key_store) }
}

fn rig() -> Rig {
    start(Arc::default(), Arc::default())
}

/// Entries from index 2 on (index 1 is the founding), the first one claiming term 1.
fn log(bodies: Vec<EntryBody>) -> Vec<Entry> {
    let bodies = [EntryBody::Claim(claim(1))].into_iter().chain(bodies);
    (2..).zip(bodies).map(|(index, body)| (LogIndex(index), Term(1), encode_entry(&body))).collect()
}

fn records(records: Vec<Record>) -> EntryBody {
    EntryBody::Records { claim: claim(1), records }
}

fn named(name: &str) -> Event {
    Event::Named(Some(name.to_owned()))
}

fn fates(rig: &Rig, bodies: Vec<EntryBody>) -> Vec<RecordFate> {
    let fates = rig.applier.apply(SHARD, &log(bodies)).unwrap();
    fates.into_iter().flat_map(|entry| entry.fates).collect()
}

const fn applied(version: u64) -> RecordFate {
    RecordFate::Applied(Version(version))
}

#[test]
fn a_record_leaves_state_journal_reply_wakes_and_index_rows() {
    let rig = rig();
    let events = [Event::Added(5), Event::Timed(Some(70)), named("a"), Event::Calling(Some(60))];
    assert_eq!(fates(&rig, vec![records(vec![record(1, 0, &events)])]), vec![applied(1)]);
    let state = &rig.applier.state;
    let row = state.get(SHARD, &entity(1)).unwrap().unwrap();
    assert_eq!((row.version, row.state), (Version(1), state_after(&events)));
    let journal = state.journal(SHARD, &entity(1), Version(0), 9).unwrap();
    assert_eq!((journal.len(), journal[0].version, journal[0].at), (1, Version(1), Timestamp(1_000)));
    let id = IdempotencyId(record(1, 0, &[]).command_id.0);
    assert_eq!(state.idempotency(SHARD, id).unwrap().unwrap().version, Version(1));
    let wakes = state.wake_scan(SHARD, None, Timestamp(100), 9).unwrap();
    assert_eq!(wakes.iter().map(|row| (row.due.0, row.slot.0)).collect::<Vec<_>>(), vec![(60, 2), (70, 1)]);
    assert_eq!(wakes[0].lane, Some(crate::types::effect::Lane::Payment));
    assert_eq!(state.index_get(SHARD, NAMES, b"a").unwrap(), Some(entity(1)));
    assert_eq!(state.index_scan(SHARD, ALL, &[], None, 9).unwrap(), vec![(vec![1; 16], entity(1))]);
    assert_eq!(state.applied(SHARD).unwrap(), AppliedRow { index: LogIndex(3), term: Term(1), claim: claim(1) });
}

#[test]
fn rows_that_are_no_longer_wanted_go() {
    let rig = rig();
    let first = record(1, 0, &[Event::Timed(Some(70)), named("a")]);
    let second = record(1, 1, &[Event::Timed(Some(80)), named("b")]);
    fates(&rig, vec![records(vec![first]), records(vec![second])]);
    let state = &rig.applier.state;
    assert_eq!(state.next_due(SHARD, None).unwrap(), Some(Timestamp(80)));
    let cursor = WakeKey { due: Timestamp(80), key: entity(1), slot: Slot(1) };
    assert_eq!(state.next_due(SHARD, Some(cursor)).unwrap(), None);
    assert_eq!(state.index_get(SHARD, NAMES, b"a").unwrap(), None);
    assert_eq!(state.index_get(SHARD, NAMES, b"b").unwrap(), Some(entity(1)));
}

#[test]
fn records_of_one_call_see_each_other() {
    let rig = rig();
    let first = vec![record(1, 0, &[Event::Added(1)]), record(1, 1, &[Event::Added(2)])];
    let second = vec![record(1, 2, &[Event::Added(4)]), record(1, 2, &[Event::Added(100)])];
    let fates = fates(&rig, vec![records(first), records(second)]);
    assert_eq!(fates, vec![applied(1), applied(2), applied(3), RecordFate::Void(VoidReason::VersionMoved)]);
    let row = rig.applier.state.get(SHARD, &entity(1)).unwrap().unwrap();
    assert_eq!(row.state, state_after(&[Event::Added(7)]));
    assert_eq!(rig.applier.state.journal(SHARD, &entity(1), Version(0), 9).unwrap().len(), 3);
}

#[test]
fn an_entry_of_another_claim_is_void_as_a_whole() {
    let rig = rig();
    let stale = EntryBody::Records { claim: claim(9), records: vec![record(1, 0, &[Event::Added(1)])] };
    let fresh = vec![stale, EntryBody::Claim(claim(9)), records(vec![record(2, 0, &[Event::Added(1)])])];
    let void = RecordFate::Void(VoidReason::StaleClaim);
    assert_eq!(fates(&rig, fresh), vec![void, void]);
    assert_eq!(rig.applier.state.get(SHARD, &entity(1)).unwrap(), None);
    assert_eq!(rig.applier.applied(SHARD).unwrap().claim, claim(9));
    let after = (LogIndex(6), Term(9), encode_entry(&EntryBody::Claim(claim(10))));
    assert_eq!(rig.applier.apply(SHARD, &[after]).unwrap()[0].claim, Some(claim(10)));
}

#[test]
fn a_taken_name_voids_the_record_and_leaves_its_entity_as_it_was() {
    let rig = rig();
    let taken = RecordFate::Void(VoidReason::NotUnique);
    let bodies = vec![
        records(vec![record(1, 0, &[named("a")]), record(2, 0, &[Event::Added(3)])]),
        records(vec![record(2, 1, &[Event::Added(4)]), record(2, 2, &[named("a"), Event::Added(100)])]),
        records(vec![record(2, 2, &[Event::Added(5)]), record(3, 0, &[named("a")])]),
    ];
    let expected = vec![applied(1), applied(1), applied(2), taken, applied(3), taken];
    assert_eq!(fates(&rig, bodies), expected);
    let row = rig.applier.state.get(SHARD, &entity(2)).unwrap().unwrap();
    assert_eq!(row.state, state_after(&[Event::Added(12)]));
    assert_eq!(rig.applier.state.get(SHARD, &entity(3)).unwrap(), None);
    let late = (LogIndex(6), Term(1), encode_entry(&records(vec![record(4, 0, &[named("a")])])));
    assert_eq!(rig.applier.apply(SHARD, &[late]).unwrap()[0].fates, vec![taken], "the row is on disk by now");
}

#[test]
fn a_name_given_up_can_be_taken_in_the_same_call_by_an_entity_touched_before() {
    let rig = rig();
    let bodies = vec![
        records(vec![record(2, 0, &[Event::Added(1)]), record(1, 0, &[named("a")])]),
        records(vec![record(1, 1, &[Event::Named(None)]), record(2, 1, &[named("a")])]),
    ];
    assert_eq!(fates(&rig, bodies), vec![applied(1), applied(1), applied(2), applied(2)]);
    assert_eq!(rig.applier.state.index_get(SHARD, NAMES, b"a").unwrap(), Some(entity(2)));
    let other = self::rig();
    let entries = log(vec![records(vec![record(2, 0, &[Event::Added(1)]), record(1, 0, &[named("a")])])]);
    other.applier.apply(SHARD, &entries).unwrap();
    let swap = records(vec![record(2, 1, &[]), record(1, 1, &[Event::Named(None)]), record(2, 2, &[named("a")])]);
    other.applier.apply(SHARD, &[(LogIndex(4), Term(1), encode_entry(&swap))]).unwrap();
    assert_eq!(other.applier.state.index_get(SHARD, NAMES, b"a").unwrap(), Some(entity(2)));
}

#[test]
fn a_replay_changes_nothing() {
    let rig = rig();
    let entries = log(vec![records(vec![record(1, 0, &[Event::Added(1)])])]);
    rig.applier.apply(SHARD, &entries).unwrap();
    let before = rig.applier.state.stats(SHARD).unwrap();
    let again = rig.applier.apply(SHARD, &entries).unwrap();
    assert!(again.iter().all(|fate| fate.fates.is_empty()));
    assert_eq!(rig.applier.state.stats(SHARD).unwrap(), before);
}

#[test]
fn a_missing_entry_is_refused() {
    let rig = rig();
    let mut entries = log(vec![records(vec![]), records(vec![])]);
    entries.remove(1);
    assert!(matches!(rig.applier.apply(SHARD, &entries), Err(ApplyError::Gap { .. })));
    let far = [(LogIndex(3), Term(1), Vec::<u8>::new())];
    assert!(matches!(self::rig().applier.apply(SHARD, &far), Err(ApplyError::Gap { .. })));
}

#[test]
fn what_is_not_understood_is_an_error_and_changes_nothing() {
    let mut unknown = record(1, 0, &[]);
    unknown.key.kind = EntityKind(200);
    let mut damaged = record(1, 0, &[]);
    damaged.events = vec![9, 9, 9];
    for bad in [unknown, damaged] {
        let rig = rig();
        let entries = log(vec![records(vec![record(2, 0, &[Event::Added(1)]), bad])]);
        assert!(matches!(rig.applier.apply(SHARD, &entries), Err(ApplyError::Corrupt { .. })));
        assert_eq!(rig.store.unsynced(), 0);
    }
    let rig = rig();
    let mut entries = log(vec![records(vec![])]);
    entries[1].2[9] ^= 1;
    assert!(matches!(rig.applier.apply(SHARD, &entries), Err(ApplyError::Corrupt { .. })));
}

#[test]
fn data_keys_are_put_and_erased_by_applied_records_only() {
    let rig = rig();
    let wrapped = WrappedKey { period: 1, nonce: [1; 12], ciphertext: vec![2; 48] };
    let with = |id, before, vault| Record { vault, ..record(id, before, &[Event::Added(1)]) };
    let put = || VaultChange::Put(wrapped.clone());
    let first = vec![with(1, 0, put()), with(2, 0, put()), with(3, 5, put())];
    let second = vec![with(1, 1, VaultChange::Erase), with(2, 7, VaultChange::Erase)];
    fates(&rig, vec![records(first), records(second)]);
    let key = |id| rig.applier.keys.get(&entity(id)).unwrap();
    assert_eq!((key(1), key(2), key(3)), (None, Some(wrapped.clone()), None));
}

#[test]
fn a_forgotten_entity_keeps_its_state_and_the_record_that_forgot_it() {
    let rig = rig();
    let of = |id, before, vault| Record { vault, ..record(id, before, &[Event::Added(1)]) };
    let plain = |id, before| of(id, before, VaultChange::None);
    let first = vec![plain(1, 0), plain(1, 1), plain(2, 0)];
    // One more of its records comes in the same call.
    let all = log(vec![records(first), records(vec![plain(1, 2), of(1, 3, VaultChange::Forget), plain(2, 1)])]);
    rig.applier.apply(SHARD, &all[..2]).unwrap();
    rig.applier.apply(SHARD, &all[2..]).unwrap();
    let versions = |id| {
        let rows = rig.applier.state.journal(SHARD, &entity(id), Version(0), 99).unwrap();
        rows.iter().map(|row| row.version.0).collect::<Vec<_>>()
    };
    assert_eq!((versions(1), versions(2)), (vec![4], vec![1, 2]));
    assert_eq!(rig.applier.state.get(SHARD, &entity(1)).unwrap().unwrap().version, Version(4));
    let mut report = crate::persistence::verify::VerifyReport::default();
    crate::persistence::verify::verify_shard(&rig.applier.state, &kinds(), SHARD, &mut report).unwrap();
    assert!(report.is_clean(), "{report}");
}

#[test]
fn keys_reach_the_disk_before_the_state_that_needs_them() {
    let rig = rig();
    let wrapped = WrappedKey { period: 1, nonce: [1; 12], ciphertext: vec![2; 48] };
    let create = Record { vault: VaultChange::Put(wrapped), ..record(1, 0, &[]) };
    rig.store.fail(Operation::Apply, 0, Failure::Io);
    assert!(matches!(rig.applier.apply(SHARD, &log(vec![records(vec![create])])), Err(ApplyError::Store(_))));
    assert!(rig.applier.keys.get(&entity(1)).unwrap().is_some());
    assert_eq!(rig.applier.state.applied(SHARD).unwrap(), AppliedRow::default());
}

#[test]
fn states_and_next_dues_are_returned_when_asked_for() {
    let rig = rig();
    let first = record(1, 0, &[Event::Added(1), Event::Timed(Some(50))]);
    let entries = log(vec![records(vec![first, record(1, 1, &[Event::Added(2)]), record(1, 9, &[])])]);
    let fates = rig.applier.apply_returning(SHARD, &entries, Return::States).unwrap();
    let [one, two, void] = fates[1].records.as_slice() else { panic!("three records") };
    assert_eq!(one.state, Some(state_after(&[Event::Added(1), Event::Timed(Some(50))])));
    assert_eq!(two.state, Some(state_after(&[Event::Added(3), Event::Timed(Some(50))])));
    assert_eq!((void.state.clone(), void.version, void.next_due), (None, Version(2), Some(Timestamp(50))));
}

#[test]
fn a_half_installed_shard_applies_nothing() {
    let rig = rig();
    fates(&rig, vec![records(vec![record(1, 0, &[])])]);
    let chunk = rig.applier.state.export(SHARD, None, usize::MAX).unwrap();
    let other = self::rig();
    other.applier.state.stage(SHARD, chunk, &[], vec![7]).unwrap();
    other.store.fail(Operation::Apply, 1, Failure::Io);
    assert!(other.applier.state.install_staged(SHARD).is_err());
    let entry = (LogIndex(2), Term(1), Vec::<u8>::new());
    assert!(matches!(other.applier.apply(SHARD, &[entry]), Err(ApplyError::Installing { .. })));
    other.applier.state.install_staged(SHARD).unwrap();
    assert_eq!(other.applier.applied(SHARD).unwrap().index, LogIndex(3));
}

#[test]
fn the_cache_is_bounded_and_what_it_forgot_is_loaded_again() {
    let rig = rig();
    let mut bodies = Vec::new();
    for batch in 0..40u8 {
        let id = |n: u8| entity_of(u16::from(batch) * 30 + u16::from(n));
        bodies.push(records((0..30).map(|n| Record { key: id(n), ..record(n, 0, &[Event::Added(1)]) }).collect()));
    }
    for entry in log(bodies) {
        rig.applier.apply(SHARD, &[entry]).unwrap();
    }
    assert!(rig.applier.heads(SHARD).lock().len() <= HEADS_MAX);
    let late = Record { key: entity_of(0), ..record(0, 1, &[Event::Added(1)]) };
    let entry = (LogIndex(43), Term(1), encode_entry(&records(vec![late])));
    assert_eq!(rig.applier.apply(SHARD, &[entry]).unwrap()[0].fates, vec![applied(2)]);
}

fn entity_of(n: u16) -> EntityKey {
    let mut key = entity(0);
    key.id[..2].copy_from_slice(&n.to_be_bytes());
    key
}

fn any_event() -> impl Strategy<Value = Event> {
    prop_oneof![
        (0u64..9).prop_map(Event::Added),
        proptest::option::of(0i64..50).prop_map(Event::Timed),
        proptest::option::of(prop_oneof![Just("a"), Just("b"), Just("c")].prop_map(str::to_owned))
            .prop_map(Event::Named),
        proptest::option::of(0i64..50).prop_map(Event::Calling),
    ]
}

/// Records of four entities; most fit the version that a writer that never fails would expect, some do not.
fn any_log() -> impl Strategy<Value = Vec<Entry>> {
    let one = (1u8..5, 0u64..6, proptest::collection::vec(any_event(), 1..3));
    let entry = (proptest::collection::vec(one, 1..6), 0u8..12);
    proptest::collection::vec(entry, 1..20).prop_map(|entries| {
        let body = |(list, sort): (Vec<(u8, u64, Vec<Event>)>, u8)| match sort {
            0 => EntryBody::Claim(claim(1)),
            1 => EntryBody::Records { claim: claim(8), records: vec![record(1, 0, &[])] },
            _ => records(list.into_iter().map(|(id, before, events)| record(id, before, &events)).collect()),
        };
        log(entries.into_iter().map(body).collect())
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// INV-5: however the same log is cut into calls, with or without a cache, the rows are the same.
    #[test]
    fn replicas_that_cut_the_log_differently_are_equal(entries in any_log(), cuts in proptest::collection::vec(1usize..6, 1..30)) {
        let whole = rig();
        let all: Vec<EntryFate> = whole.applier.apply(SHARD, &entries).unwrap();
        let cut = rig();
        let mut fates = Vec::new();
        let mut rest = entries.as_slice();
        for size in cuts.iter().cycle() {
            let (head, tail) = rest.split_at((*size).min(rest.len()));
            fates.extend(cut.applier.apply(SHARD, head).unwrap());
            cut.applier.forget(SHARD);
            rest = tail;
            if rest.is_empty() { break }
        }
        let only = |fates: &[EntryFate]| fates.iter().map(|fate| fate.fates.clone()).collect::<Vec<_>>();
        prop_assert_eq!(only(&all), only(&fates));
        prop_assert_eq!(whole.applier.state.stats(SHARD).unwrap(), cut.applier.state.stats(SHARD).unwrap());
    }

    /// A power cut at any point, then the replay of the log from the applied index, ends in the same rows.
    #[test]
    fn a_crash_and_a_replay_end_in_the_same_rows(entries in any_log(), stop in 0usize..20, kept in 0usize..20, sync in 0usize..20) {
        let whole = rig();
        whole.applier.apply(SHARD, &entries).unwrap();
        let first = rig();
        for (place, entry) in entries.iter().take(stop).enumerate() {
            first.applier.apply(SHARD, std::slice::from_ref(entry)).unwrap();
            if place == sync { first.store.sync().unwrap(); }
        }
        first.store.crash(Torn::Power { batches: kept });
        let second = start(first.store.clone(), first.keys.clone());
        let from = second.applier.applied(SHARD).unwrap().index;
        let rest: Vec<Entry> = entries.iter().filter(|entry| entry.0 > from).cloned().collect();
        second.applier.apply(SHARD, &rest).unwrap();
        prop_assert_eq!(whole.applier.state.stats(SHARD).unwrap(), second.applier.state.stats(SHARD).unwrap());
    }
}

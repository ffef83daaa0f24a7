//! One core against a host that does as told: the contract of `io`, seen from the actor's side.

use crate::persistence::log::{LoadedLog, LogAppend, LogEntry, LogReader, LogStart};
use crate::persistence::store::StoreError;
use crate::replication::core::{
    Committed, CoreError, CoreOptions, DropFate, FOUNDING, Input, MemberChange, MembersRefusal, Output, ShardCore,
    SnapshotId,
};
use crate::replication::entry::decode_entry;
use crate::replication::wire::{encode_raft, is_urgent};
use crate::types::ids::{
    Claim, CommandId, EntityKey, EntityKind, Incarnation, LogIndex, NodeId, ShardId, Term, Version,
};
use crate::types::limits::ENTRY_RECORDS_MAX;
use crate::types::record::{EntryBody, Record, VaultChange};
use crate::types::time::Timestamp;
use raft::prelude::{Entry, Message, MessageType};
use std::cell::RefCell;
use std::sync::{Arc, Mutex};

#[derive(Clone, Default)]
struct Disk(Arc<Mutex<LoadedLog>>);

impl Disk {
    fn write(&self, append: LogAppend) {
        let mut log = self.0.lock().unwrap();
        if let Some(start) = append.start {
            log.start = start;
            log.entries.clear();
        }
        if let Some(first) = append.entries.first() {
            log.entries.retain(|entry| entry.index < first.index);
        }
        log.entries.extend(append.entries);
        log.hard_state = append.hard_state.unwrap_or(log.hard_state);
        if let Some(membership) = append.membership {
            log.membership = membership;
        }
    }
    fn load(&self) -> LoadedLog {
        self.0.lock().unwrap().clone()
    }
}

impl LogReader for Disk {
    fn entries(&self, from: LogIndex, to: LogIndex, _bytes_max: u64) -> Result<Vec<LogEntry>, StoreError> {
        let log = self.0.lock().unwrap();
        Ok(log.entries.iter().filter(|entry| (from..to).contains(&entry.index)).cloned().collect())
    }
    fn term(&self, index: LogIndex) -> Result<Option<Term>, StoreError> {
        Ok(self.0.lock().unwrap().entries.iter().find(|entry| entry.index == index).map(|entry| entry.term))
    }
}

fn options() -> CoreOptions {
    let mut options = CoreOptions::new(ShardId(3), 1, NodeId(1), Incarnation(9));
    options.found = vec![1];
    options
}

fn record(n: u8) -> Record {
    Record {
        key: EntityKey { kind: EntityKind(1), id: [n; 16] },
        version_before: Version(0),
        at: Timestamp(5),
        command_id: CommandId([n; 16]),
        idempotency: None,
        events: vec![n; 100],
        vault: VaultChange::None,
    }
}

/// Runs a core and its host until nothing is left to do.
struct Host {
    core: ShardCore,
    disk: Disk,
    outputs: RefCell<Vec<String>>,
    appends: Vec<LogAppend>,
    committed: Vec<Committed>,
}

impl Host {
    fn start(disk: Disk, applied: LogIndex) -> Self {
        let core = ShardCore::new(options(), disk.load(), applied, Box::new(disk.clone())).unwrap();
        Self { core, disk, outputs: RefCell::default(), appends: Vec::new(), committed: Vec::new() }
    }

    fn run(&mut self, input: Input) {
        let mut inputs = vec![input];
        while let Some(input) = inputs.pop() {
            let mut out = Vec::new();
            self.core.step(input, &mut out);
            for output in out {
                match output {
                    Output::Append(append) => {
                        self.appends.push(append.clone());
                        inputs.insert(0, Input::Persisted { number: append.number });
                        self.disk.write(append);
                    }
                    Output::Apply(committed) => {
                        inputs.insert(0, Input::Applied { index: committed.last().unwrap().index });
                        self.committed.extend(committed);
                    }
                    other => self.outputs.borrow_mut().push(format!("{other:?}")),
                }
            }
        }
    }

    fn said(&self) -> Vec<String> {
        self.outputs.take()
    }

    fn leading() -> Self {
        let mut host = Self::start(Disk::default(), LogIndex(0));
        host.run(Input::Campaign);
        assert_eq!(host.said().len(), 1);
        host.committed.clear();
        host.appends.clear();
        host
    }
}

const CLAIM: Claim = Claim { term: Term(2), node: NodeId(1), incarnation: Incarnation(9) };

#[test]
fn a_lone_voter_goes_through_proposal_entry_and_apply() {
    let mut host = Host::start(Disk::default(), LogIndex(0));
    host.run(Input::Campaign);
    assert_eq!(host.said(), [format!("{:?}", Output::Lead { claim: CLAIM })]);
    assert!(host.core.is_leader());
    assert_eq!(host.core.claim(), Some(CLAIM));
    for tag in 0..100 {
        host.run(Input::Propose { tag, record: record(tag as u8) });
    }
    host.run(Input::Flush);
    // Founding index 1; then raft's empty entry, the claim, and 100 records in two entries.
    let log = host.disk.load();
    assert_eq!(log.start, FOUNDING);
    assert_eq!(log.entries.iter().map(|entry| entry.index.0).collect::<Vec<_>>(), [2, 3, 4, 5]);
    let payloads: Vec<&[u8]> = log.entries.iter().map(|entry| entry.payload.as_slice()).collect();
    assert!(payloads[0].is_empty());
    assert_eq!(decode_entry(payloads[1]), Ok(EntryBody::Claim(CLAIM)));
    let records: Vec<Record> = (0..100).map(record).collect();
    for (payload, records) in payloads[2..].iter().zip(records.chunks(ENTRY_RECORDS_MAX)) {
        assert_eq!(decode_entry(payload), Ok(EntryBody::Records { claim: CLAIM, records: records.to_vec() }));
    }
    assert_eq!(host.committed.len(), 4);
    assert_eq!(host.committed[2].tags, (0..64).collect::<Vec<_>>());
    assert_eq!(host.committed[3].tags, (64..100).collect::<Vec<_>>());
}

#[test]
fn nothing_is_applied_before_it_is_durable() {
    let mut host = Host::leading();
    let mut out = Vec::new();
    host.core.step(Input::Propose { tag: 7, record: record(7) }, &mut out);
    assert!(out.is_empty(), "a proposal waits for the end of the batch");
    host.core.step(Input::Flush, &mut out);
    let [Output::Append(append)] = &out[..] else { panic!("{out:?}") };
    let number = append.number;
    out.clear();
    for _ in 0..50 {
        host.core.step(Input::Tick, &mut out);
    }
    assert!(out.is_empty(), "{out:?}");
    host.core.step(Input::Persisted { number }, &mut out);
    assert!(matches!(&out[..], [Output::Apply(committed)] if committed[0].tags == [7]), "{out:?}");
}

#[test]
fn proposals_before_the_claim_is_applied_are_refused() {
    let mut host = Host::start(Disk::default(), LogIndex(0));
    let mut out = Vec::new();
    host.core.step(Input::Propose { tag: 1, record: record(1) }, &mut out);
    host.core.step(Input::Campaign, &mut out);
    let number = out.iter().find_map(|output| match output {
        Output::Append(append) => Some(append.number),
        _ => None,
    });
    host.core.step(Input::Persisted { number: number.unwrap() }, &mut out);
    host.core.step(Input::Propose { tag: 2, record: record(2) }, &mut out);
    let refused = |wanted: u64| {
        let refused =
            |output: &Output| matches!(output, Output::Dropped { tag, fate: DropFate::NotApplied } if *tag == wanted);
        out.iter().any(refused)
    };
    assert!(refused(1) && refused(2), "{out:?}");
    assert!(!out.iter().any(|output| matches!(output, Output::Lead { .. })));
}

/// A host that has not yet heard that it leads no more still proposes; the simulation's seed 15 found its entity refused for
/// good under the next leadership of the same node.
#[test]
fn what_was_proposed_after_a_leadership_binds_nothing_in_the_next() {
    let mut host = Host::start(Disk::default(), LogIndex(0));
    let at = |version: u64| Record { version_before: Version(version), ..record(1) };
    host.run(Input::Propose { tag: 7, record: at(5) });
    host.run(Input::Campaign);
    host.run(Input::Propose { tag: 8, record: at(11) });
    host.run(Input::Flush);
    let refused = Output::Dropped { tag: 7, fate: DropFate::NotApplied };
    assert_eq!(host.said(), [format!("{refused:?}"), format!("{:?}", Output::Lead { claim: CLAIM })]);
    assert_eq!(host.committed.last().map(|entry| entry.tags.as_slice()), Some([8].as_slice()));
}

#[test]
fn a_restart_leads_again_under_a_new_claim_and_hands_out_only_what_is_not_applied() {
    let mut host = Host::leading();
    host.run(Input::Propose { tag: 1, record: record(1) });
    host.run(Input::Flush);
    let mut host = Host::start(host.disk.clone(), LogIndex(3));
    host.run(Input::Campaign);
    let claim = Claim { term: Term(3), ..CLAIM };
    assert_eq!(host.said(), [format!("{:?}", Output::Lead { claim })]);
    assert_eq!(host.committed.iter().map(|entry| entry.index.0).collect::<Vec<_>>(), [4, 5, 6]);
    assert!(host.committed.iter().all(|entry| entry.tags.is_empty()));
}

#[test]
fn a_read_waits_for_what_was_committed_before_it() {
    let mut host = Host::leading();
    let mut out = Vec::new();
    host.core.step_many([Input::Propose { tag: 1, record: record(1) }], &mut out);
    host.core.step(Input::Persisted { number: 2 }, &mut out);
    host.core.step(Input::Persisted { number: 3 }, &mut out);
    assert!(out.iter().any(|output| matches!(output, Output::Apply(_))), "{out:?}");
    host.core.step(Input::ReadBarrier { tag: 9 }, &mut out);
    assert!(!out.iter().any(|output| matches!(output, Output::ReadReady { .. })), "{out:?}");
    host.core.step(Input::Applied { index: LogIndex(4) }, &mut out);
    assert!(matches!(out.last(), Some(Output::ReadReady { tag: 9 })), "{out:?}");
    let mut follower = Host::start(Disk::default(), LogIndex(0));
    follower.run(Input::ReadBarrier { tag: 3 });
    assert_eq!(follower.said(), ["ReadFailed { tag: 3 }"]);
}

#[test]
fn purge_forgets_only_what_is_durable_elsewhere() {
    let mut host = Host::leading();
    host.core.options.log_keep_entries = 2;
    for n in 0..10 {
        host.run(Input::Propose { tag: n, record: record(n as u8) });
        host.run(Input::Flush);
    }
    host.run(Input::Purge { durable: LogIndex(9), cursor: LogIndex(100) });
    let start = LogStart { index: LogIndex(7), term: Term(2) };
    assert_eq!(host.said(), [format!("{:?}", Output::Purge { start })]);
    host.run(Input::Purge { durable: LogIndex(13), cursor: LogIndex(7) });
    assert!(host.said().is_empty());
    assert_eq!(host.core.status().first, LogIndex(8));
}

#[test]
fn senseless_membership_changes_are_refused() {
    let mut host = Host::leading();
    let cases = [
        (vec![], MembersRefusal::Senseless),
        (vec![MemberChange::Promote(2)], MembersRefusal::Senseless),
        (vec![MemberChange::Remove(1)], MembersRefusal::Senseless),
        (vec![MemberChange::AddLearner(2), MemberChange::Remove(2)], MembersRefusal::Senseless),
    ];
    for (changes, why) in cases {
        host.run(Input::ChangeMembers { tag: 1, changes });
        assert_eq!(host.said(), [format!("{:?}", Output::MembersRefused { tag: 1, why })]);
    }
    host.run(Input::ChangeMembers { tag: 2, changes: vec![MemberChange::AddLearner(2)] });
    assert!(host.said().iter().any(|said| said.starts_with("Members { tag: Some(2)")));
    assert_eq!(host.disk.load().membership.learners, [2], "the group is on disk");
    host.run(Input::ChangeMembers { tag: 3, changes: vec![MemberChange::Promote(2)] });
    assert!(host.said().iter().any(|said| said.contains("NotCaughtUp")));
}

#[test]
fn a_core_refuses_a_disk_that_does_not_fit_together() {
    let mut host = Host::leading();
    host.run(Input::Propose { tag: 1, record: record(1) });
    host.run(Input::Flush);
    let try_start = |log: LoadedLog, applied: u64| {
        ShardCore::new(options(), log, LogIndex(applied), Box::new(Disk::default())).map(|_| ()).unwrap_err()
    };
    let log = host.disk.load();
    let (applied, last) = (LogIndex(9), LogIndex(4));
    assert_eq!(try_start(log.clone(), 9), CoreError::StateAheadOfLog { applied, last });
    let mut purged = log.clone();
    purged.entries.drain(..2);
    purged.start = LogStart { index: LogIndex(3), term: Term(2) };
    let (start, applied) = (LogIndex(3), LogIndex(2));
    assert_eq!(try_start(purged, 2), CoreError::LogDoesNotReachState { start, applied });
    let mut holed = log.clone();
    holed.entries.remove(1);
    assert_eq!(try_start(holed, 2), CoreError::DamagedLog { index: LogIndex(4) });
    let mut short = log.clone();
    short.entries.truncate(1);
    short.hard_state.commit = LogIndex(4);
    assert_eq!(try_start(short, 2), CoreError::DamagedLog { index: LogIndex(4) });
    let mut nobody = log;
    nobody.membership.voters = vec![0];
    assert_eq!(try_start(nobody, 2), CoreError::DamagedMembership);
}

#[test]
fn a_replica_that_joins_never_elects_itself() {
    let mut options = options();
    options.found.clear();
    let disk = Disk::default();
    let mut core = ShardCore::new(options, disk.load(), LogIndex(0), Box::new(disk)).unwrap();
    let mut out = Vec::new();
    core.step(Input::Campaign, &mut out);
    for _ in 0..100 {
        core.step(Input::Tick, &mut out);
    }
    assert!(out.is_empty(), "{out:?}");
}

#[test]
fn a_log_that_ends_in_one_large_entry_loads_to_its_end() {
    use crate::persistence::log_store::LogStore;
    use crate::persistence::memory_store::MemoryStore;
    let mut host = Host::leading();
    let mut large = record(1);
    large.events = vec![7; 900_000];
    host.run(Input::Propose { tag: 1, record: large });
    host.run(Input::Flush);
    let LoadedLog { hard_state, membership, start, entries } = host.disk.load();
    let store = Arc::new(LogStore::open(Arc::new(MemoryStore::new())).unwrap());
    let (shard, hard_state, membership) = (ShardId(3), Some(hard_state), Some(membership));
    let append = LogAppend { shard, number: 1, entries, hard_state, membership, start: Some(start) };
    store.append(&[append]).unwrap();
    let core = ShardCore::new(options(), store.load(shard).unwrap(), LogIndex(3), store.reader(shard)).unwrap();
    assert_eq!(core.status().last, LogIndex(4));
}

/// Peer 2's answer that it lacks what the leader's log no longer holds: raft asks for a snapshot of it.
fn lacks_everything() -> Input {
    let mut message = Message { term: 2, index: 3, reject: true, ..Message::default() };
    message.set_msg_type(MessageType::MsgAppendResponse);
    Input::Frame { from: 2, bytes: encode_raft(&message) }
}

/// A lone voter whose log begins behind learner 2's, with every entry applied.
fn leading_with_a_learner_behind() -> Host {
    let mut host = Host::leading();
    host.core.options.log_keep_entries = 0;
    host.run(Input::ChangeMembers { tag: 1, changes: vec![MemberChange::AddLearner(2)] });
    host.core.options.log_held_entries_max = 0;
    let durable = host.core.status().applied;
    assert_eq!(durable, LogIndex(4));
    host.run(Input::Purge { durable: LogIndex(3), cursor: durable });
    host.said();
    host
}

#[test]
fn a_peer_that_lacks_purged_entries_is_sent_a_snapshot_and_the_log_is_held_for_it() {
    let mut host = leading_with_a_learner_behind();
    host.run(lacks_everything());
    assert!(host.said().iter().any(|said| said.starts_with("Export {")), "asked once");
    assert_eq!(host.core.status().snapshot_to, Some(2));
    host.run(Input::Propose { tag: 2, record: record(2) });
    host.run(Input::Flush);
    host.said();
    host.run(Input::Purge { durable: LogIndex(5), cursor: LogIndex(5) });
    assert_eq!(host.said(), [format!("{:?}", Output::Purge { start: LogStart { index: LogIndex(4), term: Term(2) } })]);
    let snapshot = SnapshotId { term: Term(2), leader: 1, number: 1 };
    host.run(Input::ExportLost { snapshot });
    assert!(host.said().iter().any(|said| said.starts_with("ExportOver {")));
    assert_eq!(host.core.status().snapshot_to, None, "to be begun again when raft asks again");
}

/// Found by the simulator: the stream would have held the log for good.
#[test]
fn a_peer_that_is_removed_in_the_same_batch_is_sent_no_snapshot() {
    let mut host = leading_with_a_learner_behind();
    let mut out = Vec::new();
    host.core.step(Input::ChangeMembers { tag: 2, changes: vec![MemberChange::Remove(2)] }, &mut out);
    let number = out.iter().find_map(|output| match output {
        Output::Append(append) => Some(append.number),
        _ => None,
    });
    host.core.step_many([lacks_everything(), Input::Persisted { number: number.unwrap() }], &mut out);
    assert!(out.iter().any(|output| matches!(output, Output::Members { tag: Some(2), .. })), "{out:?}");
    assert!(!out.iter().any(|output| matches!(output, Output::Export { .. })), "{out:?}");
    assert_eq!(host.core.status().snapshot_to, None);
}

#[test]
fn a_follower_answers_heartbeats_while_its_disk_is_slow() {
    let disk = Disk::default();
    let options = CoreOptions { found: vec![1, 2], ..options() };
    let mut core = ShardCore::new(options, disk.load(), LogIndex(0), Box::new(disk.clone())).unwrap();
    let frame = |kind, entries: Vec<Entry>| {
        let mut message = Message::default();
        message.set_msg_type(kind);
        (message.from, message.to, message.term) = (2, 1, 7);
        (message.index, message.log_term, message.commit) = (1, 1, 1);
        message.set_entries(entries.into());
        Input::Frame { from: 2, bytes: encode_raft(&message) }
    };
    // Urgent frames that were sent, and appends that were asked for.
    let mut step = |input| {
        let mut out = Vec::new();
        core.step(input, &mut out);
        let urgent = |one: &&Output| matches!(one, Output::Send { bytes, .. } if is_urgent(bytes));
        (out.iter().filter(urgent).count(), out.iter().filter(|one| matches!(one, Output::Append(_))).count())
    };
    assert_eq!(step(frame(MessageType::MsgHeartbeat, Vec::new())), (0, 1), "the term is not durable yet");
    assert_eq!(step(Input::Persisted { number: 1 }), (1, 0));
    let entry = Entry { index: 2, term: 7, data: vec![1].into(), ..Entry::default() };
    assert_eq!(step(frame(MessageType::MsgAppend, vec![entry])), (0, 1));
    assert_eq!(step(frame(MessageType::MsgHeartbeat, Vec::new())), (1, 0), "while the append is being written");
}

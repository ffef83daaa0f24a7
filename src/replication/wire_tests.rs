//! Frames: round trip, golden bytes, and that nothing a peer sends can do more than be refused.

use super::*;
use crate::persistence::log::{LoadedLog, LogReader};
use crate::persistence::store::StoreError;
use crate::replication::core::{CoreOptions, Input, Output, ShardCore};
use crate::replication::status::Role;
use crate::types::ids::{Incarnation, NodeId, ShardId};
use proptest::prelude::*;

const ID: SnapshotId = SnapshotId { term: Term(4), leader: 2, number: 9 };

fn entry(index: u64, term: u64, data: &'static [u8]) -> Entry {
    Entry { index, term, data: data.into(), ..Entry::default() }
}

fn append() -> Message {
    let mut message = Message { from: 2, to: 1, term: 7, log_term: 5, index: 10, commit: 9, ..Message::default() };
    message.set_msg_type(MessageType::MsgAppend);
    message.set_entries(vec![entry(11, 5, b"one"), entry(12, 7, b"")].into());
    message
}

fn seal() -> SnapshotSeal {
    let members = Membership { index: LogIndex(3), voters: vec![1, 2, 3], learners: vec![4], ..Membership::default() };
    let from = LogStart { index: LogIndex(20), term: Term(4) };
    SnapshotSeal { snapshot: ID, last: 3, from, to_index: LogIndex(25), members }
}

fn snapshot() -> Message {
    let mut message = Message { from: 2, to: 1, term: 7, ..Message::default() };
    message.set_msg_type(MessageType::MsgSnapshot);
    let metadata = message.mut_snapshot().mut_metadata();
    (metadata.index, metadata.term) = (20, 4);
    metadata.set_conf_state(members::to_conf_state(&seal().members));
    message.mut_snapshot().data = codec::encode(&seal()).into();
    message
}

fn frames() -> Vec<Frame> {
    vec![
        Frame::Raft(Box::new(append())),
        Frame::Raft(Box::new(snapshot())),
        Frame::Chunk(Chunk { snapshot: ID, number: 2, bytes: vec![7; 300], seal: None }),
        Frame::Chunk(Chunk { snapshot: ID, number: 3, bytes: Vec::new(), seal: Some(seal()) }),
        Frame::ChunkAck { snapshot: ID, next: 4 },
        Frame::StreamLost { snapshot: ID },
        Frame::Report { whole: true, applied: LogIndex(1 << 40) },
    ]
}

#[test]
fn every_frame_round_trips_and_every_cut_is_refused() {
    for frame in frames() {
        let bytes = frame.encode();
        assert_eq!(Frame::decode(2, 1, &bytes).as_ref(), Ok(&frame));
        for cut in 0..bytes.len() {
            assert!(Frame::decode(2, 1, &bytes[..cut]).is_err(), "{frame:?} cut at {cut}");
        }
        let longer = [&bytes[..], &[0]].concat();
        assert!(Frame::decode(2, 1, &longer).is_err());
    }
}

#[test]
fn golden_bytes_of_an_append() {
    let hex = hex::encode(Frame::Raft(Box::new(append())).encode());
    assert_eq!(hex, "01010107050a090000000000020005036f6e65000700", "the frame format changed");
}

#[test]
fn sender_and_receiver_come_from_the_transport() {
    let bytes = Frame::Raft(Box::new(append())).encode();
    let Ok(Frame::Raft(message)) = Frame::decode(5, 6, &bytes) else { panic!("a frame") };
    assert_eq!((message.from, message.to), (5, 6));
}

#[test]
fn proposals_reads_and_local_messages_are_not_sendable() {
    for kind in [
        MessageType::MsgHup,
        MessageType::MsgBeat,
        MessageType::MsgPropose,
        MessageType::MsgUnreachable,
        MessageType::MsgSnapStatus,
        MessageType::MsgCheckQuorum,
        MessageType::MsgTransferLeader,
        MessageType::MsgReadIndex,
        MessageType::MsgReadIndexResp,
    ] {
        let mut message = Message::default();
        message.set_msg_type(kind);
        assert!(!is_sendable(&message), "{kind:?}");
    }
    assert!(Frame::decode(2, 1, &[1, 1, 0]).is_err() && Frame::decode(2, 1, &[1, 1, 11]).is_err());
}

#[test]
fn nonsense_that_raft_would_trust_is_refused() {
    let refused = |change: &dyn Fn(&mut Message)| {
        let mut message = append();
        change(&mut message);
        Frame::decode(2, 1, &encode_raft(&message)).is_err()
    };
    assert!(!refused(&|_| {}));
    assert!(refused(&|message| message.term = 0));
    assert!(refused(&|message| message.log_term = 0));
    assert!(refused(&|message| message.entries[0].term = 4), "terms go back");
    assert!(refused(&|message| message.entries[1].term = 8), "a term from the future");
    assert!(refused(&|message| message.index = u64::MAX), "an index that overflows");
    assert!(refused(&|message| message.request_snapshot = 3));
    assert!(refused(&|message| message.context = vec![0; CONTEXT_BYTES_MAX + 1].into()));
    assert!(refused(&|message| message.set_msg_type(MessageType::MsgHeartbeat)), "entries in a heartbeat");
    let huge = |message: &mut Message| {
        message.entries[0].set_entry_type(EntryType::EntryConfChangeV2);
        message.entries[0].data = vec![0; MEMBER_CHANGE_BYTES_MAX + 1].into();
    };
    assert!(refused(&huge), "protobuf never parses more than a bounded membership change");
    assert!(Frame::decode(2, 1, &vec![1; FRAME_BYTES_MAX + 1]).is_err());
}

struct Nothing;

impl LogReader for Nothing {
    fn entries(&self, _: LogIndex, _: LogIndex, _: u64) -> Result<Vec<crate::persistence::log::LogEntry>, StoreError> {
        Ok(Vec::new())
    }
    fn term(&self, _: LogIndex) -> Result<Option<Term>, StoreError> {
        Ok(None)
    }
}

fn core() -> ShardCore {
    let mut options = CoreOptions::new(ShardId(1), 1, NodeId(1), Incarnation(1));
    options.found = vec![1, 2, 3];
    ShardCore::new(options, LoadedLog::default(), LogIndex(0), Box::new(Nothing)).unwrap()
}

/// Hands frames to a core, whose disk answers at once.
fn feed(core: &mut ShardCore, frames: impl IntoIterator<Item = (u64, Vec<u8>)>) -> Vec<Output> {
    let mut all = Vec::new();
    let mut inputs: Vec<Input> = frames.into_iter().map(|(from, bytes)| Input::Frame { from, bytes }).collect();
    inputs.reverse();
    while let Some(input) = inputs.pop() {
        let mut out = Vec::new();
        core.step(input, &mut out);
        for output in &out {
            match output {
                Output::Append(append) => inputs.push(Input::Persisted { number: append.number }),
                Output::Apply(batch) => inputs.push(Input::Applied { index: batch.last().unwrap().index }),
                _ => {}
            }
        }
        all.extend(out);
    }
    all
}

/// Peer 2 gives its votes.
fn elect(core: &mut ShardCore) {
    let vote = |kind: MessageType| {
        let mut message = Message { term: 2, ..Message::default() };
        message.set_msg_type(kind);
        (2, encode_raft(&message))
    };
    let mut out = Vec::new();
    core.step(Input::Campaign, &mut out);
    feed(core, [vote(MessageType::MsgRequestPreVoteResponse)]);
    feed(core, [vote(MessageType::MsgRequestVoteResponse)]);
    assert_eq!(core.status().role, Role::Elected);
}

#[test]
fn a_leader_that_counts_on_forgotten_entries_halts_the_replica() {
    let mut message = Message { from: 2, to: 1, term: 3, commit: 50, ..Message::default() };
    message.set_msg_type(MessageType::MsgHeartbeat);
    let out = feed(&mut core(), [(2, encode_raft(&message))]);
    assert!(matches!(&out[..], [Output::Halt { .. }]), "{out:?}");
}

fn numbers() -> impl Strategy<Value = u64> {
    prop_oneof![0..6u64, Just(u64::MAX), Just(u64::MAX - 1), any::<u64>()]
}

prop_compose! {
    fn message()(
        kind in 0..MESSAGE_TYPES.len(),
        term in 1..6u64,
        fields in prop::array::uniform5(numbers()),
        reject in any::<bool>(),
        entries in prop::collection::vec((1..6u64, 0..3i32), 0..3),
    ) -> Message {
        let mut message = Message { term, reject, ..Message::default() };
        message.set_msg_type(MESSAGE_TYPES[kind].1);
        [message.log_term, message.index, message.commit, message.commit_term, message.reject_hint] = fields;
        let entry = |(term, kind): (u64, i32)| {
            let entry_type = entry_type(kind).unwrap();
            Entry { term, entry_type, data: vec![1, 2, 3].into(), ..Entry::default() }
        };
        message.set_entries(entries.into_iter().map(entry).collect::<Vec<_>>().into());
        message
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1024, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes_are_refused_or_understood(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = Frame::decode(2, 1, &[&[1, 1], &bytes[..]].concat());
        let _ = Frame::decode(2, 1, &bytes);
    }

    #[test]
    fn no_message_of_a_peer_makes_a_core_panic(
        messages in prop::collection::vec((2..5u64, message()), 1..12),
        campaign in any::<bool>(),
    ) {
        let mut core = core();
        if campaign {
            elect(&mut core);
        }
        feed(&mut core, messages.iter().map(|(from, message)| (*from, encode_raft(message))));
    }
}

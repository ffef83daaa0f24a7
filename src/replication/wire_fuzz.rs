//! Fuzz targets: frames between the cores of a shard, and what a core does with those that decode.

use crate::fuzzing::Target;
use crate::fuzzing_heap as heap;
use crate::persistence::log::{LoadedLog, LogEntry, LogReader, LogStart, Membership};
use crate::persistence::store::StoreError;
use crate::replication::core::{CoreOptions, Input, Output, ShardCore};
use crate::replication::entry::encode_entry;
use crate::replication::io::{SnapshotId, SnapshotSeal};
use crate::replication::members;
use crate::replication::wire::{Chunk, Frame, decode_seal, is_urgent};
use crate::types::codec;
use crate::types::ids::{Claim, Incarnation, LogIndex, NodeId, ShardId, Term};
use crate::types::record::EntryBody;
use raft::prelude::{Entry, Message, MessageType};

const PLACE: &str = "--lib";
const ID: SnapshotId = SnapshotId { term: Term(4), leader: 2, number: 9 };

fn seal() -> SnapshotSeal {
    let members = Membership { index: LogIndex(3), voters: vec![1, 2, 3], learners: vec![4], ..Membership::default() };
    let from = LogStart { index: LogIndex(20), term: Term(4) };
    SnapshotSeal { snapshot: ID, last: 3, from, to_index: LogIndex(25), members }
}

fn message(kind: MessageType) -> Message {
    let mut message = Message { from: 2, to: 1, term: 2, log_term: 1, ..Message::default() };
    message.set_msg_type(kind);
    message
}

fn raft_messages() -> Vec<Message> {
    let mut append = message(MessageType::MsgAppend);
    (append.log_term, append.index, append.commit) = (1, 1, 1);
    let claim = encode_entry(&EntryBody::Claim(Claim::default()));
    let entry = |index, data: Vec<u8>| Entry { index, term: 2, data: data.into(), ..Entry::default() };
    append.set_entries(vec![entry(2, claim), entry(3, Vec::new())].into());
    let mut snapshot = message(MessageType::MsgSnapshot);
    let metadata = snapshot.mut_snapshot().mut_metadata();
    (metadata.index, metadata.term) = (20, 2);
    metadata.set_conf_state(members::to_conf_state(&seal().members));
    snapshot.mut_snapshot().data = codec::encode(&seal()).into();
    let mut all = vec![append, snapshot];
    let plain = [
        MessageType::MsgAppendResponse,
        MessageType::MsgRequestVote,
        MessageType::MsgRequestVoteResponse,
        MessageType::MsgHeartbeat,
        MessageType::MsgHeartbeatResponse,
        MessageType::MsgTimeoutNow,
        MessageType::MsgRequestPreVote,
        MessageType::MsgRequestPreVoteResponse,
    ];
    all.extend(plain.map(message));
    all
}

fn corpus() -> Vec<Vec<u8>> {
    let mut frames: Vec<Frame> = raft_messages().into_iter().map(|message| Frame::Raft(Box::new(message))).collect();
    frames.extend([
        Frame::Chunk(Chunk { snapshot: ID, number: 2, bytes: vec![7; 60], seal: None }),
        Frame::Chunk(Chunk { snapshot: ID, number: 3, bytes: Vec::new(), seal: Some(seal()) }),
        Frame::ChunkAck { snapshot: ID, next: 4 },
        Frame::StreamLost { snapshot: ID },
        Frame::Report { whole: true, applied: LogIndex(1 << 40) },
    ]);
    frames.iter().map(Frame::encode).collect()
}

#[test]
fn fuzz_core_frames() {
    let target = Target { name: "fuzz_core_frames", place: PLACE, corpus: corpus(), dictionary: &[], cases: 20_000 };
    target.run(|input, _| {
        let _urgent = is_urgent(input);
        let _seal = heap::modest(input, || decode_seal(input));
        if let Ok(frame) = heap::modest(input, || Frame::decode(2, 1, input)) {
            assert_eq!(Frame::decode(2, 1, &frame.encode()).as_ref(), Ok(&frame));
        }
    });
}

struct Nothing;

impl LogReader for Nothing {
    fn entries(&self, _: LogIndex, _: LogIndex, _: u64) -> Result<Vec<LogEntry>, StoreError> {
        Ok(Vec::new())
    }
    fn term(&self, _: LogIndex) -> Result<Option<Term>, StoreError> {
        Ok(None)
    }
}

/// A replica of a group of three, whose disk answers at once.
fn core() -> ShardCore {
    let mut options = CoreOptions::new(ShardId(1), 1, NodeId(1), Incarnation(1));
    options.found = vec![1, 2, 3];
    ShardCore::new(options, LoadedLog::default(), LogIndex(0), Box::new(Nothing)).unwrap()
}

/// Steps the core with an input and with what its disk says to that. False once it halted.
fn step(core: &mut ShardCore, input: Input) -> bool {
    let mut inputs = vec![input];
    while let Some(input) = inputs.pop() {
        let mut out = Vec::new();
        core.step(input, &mut out);
        for output in out {
            match output {
                Output::Append(append) => inputs.push(Input::Persisted { number: append.number }),
                Output::Apply(batch) => {
                    inputs.extend(batch.last().map(|last| Input::Applied { index: last.index }));
                }
                Output::Halt { .. } => return false,
                _asked_of_the_host => {}
            }
        }
    }
    true
}

#[test]
fn fuzz_core_steps() {
    let target = Target { name: "fuzz_core_steps", place: PLACE, corpus: corpus(), dictionary: &[], cases: 3_000 };
    target.run(|input, rng| {
        let mut core = core();
        if rng.below(3) == 0 && !step(&mut core, Input::Campaign) {
            return;
        }
        for _ in 0..=rng.below(6) {
            let from = 2 + rng.below(3) as u64;
            let bytes = if rng.below(2) == 0 { input.to_vec() } else { target.mutated(rng) };
            if !step(&mut core, Input::Frame { from, bytes }) {
                return;
            }
        }
    });
}

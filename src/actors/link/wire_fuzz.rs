//! Fuzz targets: what one peer sends to another, before and after the introduction.

use super::hello::{Hello, PROTOCOL, Refusal, Reply};
use super::wire::{BatchWriter, Frame, Stamp, Tally, frames, stamp};
use crate::actors::peering::{decode_frame, encode_frame};
use crate::fuzzing::Target;
use crate::fuzzing_heap as heap;
use crate::replication::transport::Peer;
use crate::types::codec;
use crate::types::ids::{Incarnation, NodeId, ShardId};
use crate::types::level::LEVELS;
use crate::types::start::Lineage;

const PLACE: &str = "--lib";
const STAMP: Stamp = Stamp { epoch: 7, from: Peer { node: NodeId(3), incarnation: Incarnation(9) } };

fn written(stamp: Stamp, frames: &[Frame]) -> Vec<u8> {
    let mut writer = BatchWriter::new(stamp);
    frames.iter().for_each(|frame| writer.push(frame));
    writer.finish()
}

fn every_frame() -> Vec<Frame> {
    vec![
        Frame::Raft(encode_frame(ShardId(3), 1, 2, &[1; 40])),
        Frame::Snapshot(vec![2; 300]),
        Frame::Request { id: 5, deadline_ms: 1_000, body: vec![3; 20] },
        Frame::Answer { id: 5, body: vec![4] },
        Frame::Busy { id: 6 },
        Frame::Ping { sent_us: 77 },
        Frame::Pong { sent_us: 77, clock_ms: -1 },
        Frame::Ack([Tally { bytes: 1, frames: 2 }, Tally::default(), Tally { bytes: 3, frames: 4 }]),
        Frame::Urgent(Vec::new()),
    ]
}

#[test]
fn fuzz_peer_batches() {
    let mut corpus: Vec<Vec<u8>> = every_frame().into_iter().map(|frame| written(STAMP, &[frame])).collect();
    corpus.push(written(STAMP, &every_frame()));
    let target = Target { name: "fuzz_peer_batches", place: PLACE, corpus, dictionary: &[], cases: 20_000 };
    target.run(|input, _| {
        let decoded = heap::modest(input, || frames(input));
        let Ok(decoded) = decoded else { return };
        // The stamp is judged first: a batch of another version is never opened.
        if let Ok(stamped) = stamp(input) {
            assert_eq!(written(stamped, &decoded), input, "a batch has one spelling");
        }
        for frame in decoded {
            assert!(frame.cost() <= input.len() as u64 + 64);
            if let Frame::Raft(bytes) = frame
                && let Some((shard, to, from, inner)) = decode_frame(&bytes)
            {
                assert_eq!(encode_frame(shard, to, from, inner), bytes);
            }
        }
    });
}

#[test]
fn fuzz_introductions() {
    let hello = Hello {
        protocol: PROTOCOL,
        cluster: [3; 16],
        name: "seoul-1".to_owned(),
        node: NodeId(2),
        incarnation: Incarnation(5),
        to: NodeId(1),
        nonce: 9,
        lineage: Lineage::default(),
        levels: LEVELS,
    };
    let replies = [Reply::Welcome(hello.clone()), Reply::Refused(Refusal::Behind { known: Incarnation(4) })];
    let mut corpus: Vec<Vec<u8>> = replies.iter().map(codec::encode).collect();
    corpus.push(codec::encode(&hello));
    let target =
        Target { name: "fuzz_introductions", place: PLACE, corpus, dictionary: &["Seoul.", ""], cases: 20_000 };
    target.run(|input, _| {
        if let Ok(hello) = heap::modest(input, || codec::decode::<Hello>(input)) {
            assert_eq!(codec::decode(&codec::encode(&hello)).as_ref(), Ok(&hello));
            if let Ok(label) = hello.check(&[3; 16], NodeId(1)) {
                assert_eq!(label.to_string(), hello.name);
            }
        }
        if let Ok(reply) = heap::modest(input, || codec::decode::<Reply>(input)) {
            assert_eq!(codec::decode(&codec::encode(&reply)), Ok(reply));
        }
    });
}

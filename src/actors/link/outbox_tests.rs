//! The credit window: bounded, cumulative, fair between the classes.

use super::outbox::{FalseAck, Handled, Outbox, Ticket, WINDOWS, Window};
use super::wire::{self, BatchWriter, Class, FRAME_OVERHEAD_BYTES, Frame, Stamp, Tally};
use crate::replication::transport::Peer;
use crate::types::ids::{Incarnation, NodeId};
use crate::types::limits::{BATCH_BYTES_MAX, LINK_URGENT_FRAMES_MAX};
use proptest::prelude::*;

const SMALL: Window = Window { held_bytes: 1_000, held_frames: 8, flight_bytes: 300, flight_frames: 3 };

fn outbox() -> Outbox {
    Outbox::new([SMALL; 3])
}

fn raft(size: usize) -> Frame {
    Frame::Raft(vec![1; size])
}

fn batch(outbox: &mut Outbox) -> Vec<Frame> {
    let stamp = Stamp { epoch: 1, from: Peer { node: NodeId(1), incarnation: Incarnation(1) } };
    let mut writer = BatchWriter::new(stamp);
    outbox.fill(&mut writer);
    wire::frames(&writer.finish()).unwrap()
}

fn handled(frames: &[Frame]) -> [Tally; 3] {
    let mut tallies = [Tally::default(); 3];
    for frame in frames {
        tallies[frame.class().unwrap().index()].add(frame.cost());
    }
    tallies
}

#[test]
fn a_peer_that_acknowledges_nothing_is_full_at_its_bound_and_open_again_after() {
    let mut outbox = outbox();
    let mut offered = 0;
    while outbox.offer(Class::Raft, raft(50), None) {
        offered += 1;
    }
    assert_eq!(offered, 8, "frames have a bound");
    let first = batch(&mut outbox);
    assert_eq!(first.len(), 2, "the flight window is 300 bytes");
    assert!(batch(&mut outbox).is_empty());
    assert!(!outbox.offer(Class::Raft, raft(50), None), "in flight still counts");
    outbox.acknowledge(handled(&first)).unwrap();
    assert!(outbox.offer(Class::Raft, raft(50), None));
    assert_eq!(batch(&mut outbox).len(), 2);
}

#[test]
fn bytes_have_a_bound_too() {
    let mut outbox = outbox();
    assert!(outbox.offer(Class::Raft, raft(900), None));
    assert!(!outbox.offer(Class::Raft, raft(50), None));
    assert_eq!(outbox.held_bytes(), 900 + FRAME_OVERHEAD_BYTES);
}

#[test]
fn a_full_class_leaves_the_others_room_and_turns() {
    let mut outbox = outbox();
    while outbox.offer(Class::Snapshot, Frame::Snapshot(vec![0; 100]), None) {}
    assert!(outbox.offer(Class::Raft, raft(10), None));
    let frames = batch(&mut outbox);
    assert!(frames.contains(&raft(10)), "a Raft frame leaves in the first batch");
    assert!(outbox.offer(Class::Raft, raft(10), None));
    assert_eq!(batch(&mut outbox), [raft(10)], "while the snapshot waits for credit");
}

#[test]
fn a_heartbeat_goes_before_everything_and_needs_no_credit() {
    let mut outbox = outbox();
    while outbox.offer(Class::Raft, raft(50), None) {}
    assert!(!batch(&mut outbox).is_empty());
    assert!(batch(&mut outbox).is_empty(), "the window is used up");
    let beat = |number| Frame::Urgent(vec![number]);
    assert!(outbox.offer_urgent(beat(1)) && outbox.offer_urgent(beat(2)));
    assert_eq!(batch(&mut outbox), [beat(1), beat(2)], "although the peer acknowledges nothing");
    assert!(outbox.offer(Class::Call, Frame::Busy { id: 1 }, None) && outbox.offer_urgent(beat(3)));
    assert_eq!(batch(&mut outbox), [beat(3), Frame::Busy { id: 1 }]);
    let taken = (0..).take_while(|_| outbox.offer_urgent(beat(4))).count();
    assert_eq!(taken, LINK_URGENT_FRAMES_MAX);
    assert!(outbox.held_bytes() > LINK_URGENT_FRAMES_MAX as u64 * FRAME_OVERHEAD_BYTES, "they count");
}

#[test]
fn a_frame_beyond_the_window_or_a_batch_still_goes_alone() {
    let window = Window { held_bytes: 1 << 20, held_frames: 8, flight_bytes: 300, flight_frames: 3 };
    let mut outbox = Outbox::new([window; 3]);
    let large = raft(BATCH_BYTES_MAX + 1);
    assert!(outbox.offer(Class::Raft, large.clone(), None));
    assert!(outbox.offer(Class::Raft, raft(1), None));
    assert_eq!(batch(&mut outbox), std::slice::from_ref(&large));
    assert!(batch(&mut outbox).is_empty());
    outbox.acknowledge(handled(&[large])).unwrap();
    assert_eq!(batch(&mut outbox), [raft(1)]);
}

#[test]
fn a_request_knows_whether_it_left() {
    let request = |id| Frame::Request { id, deadline_ms: 1, body: Vec::new() };
    let (left, cancelled, closed) = (Ticket::default(), Ticket::default(), Ticket::default());
    let mut outbox = outbox();
    assert!(outbox.offer(Class::Call, request(1), Some(cancelled.clone())));
    assert!(outbox.offer(Class::Call, request(2), Some(left.clone())));
    assert!(cancelled.cancel());
    assert_eq!(batch(&mut outbox), [request(2)]);
    assert!(!left.cancel(), "what left may have been done");
    assert!(outbox.offer(Class::Call, request(3), Some(closed.clone())));
    assert_eq!(outbox.close(), 0);
    assert!(closed.cancel(), "what never left was not done");
    assert!(!outbox.offer(Class::Raft, raft(1), None));
    assert_eq!(outbox.held_bytes(), 0);
}

#[test]
fn a_false_acknowledgement_is_seen() {
    let mut outbox = outbox();
    outbox.offer(Class::Raft, raft(10), None);
    let sent = batch(&mut outbox);
    let mut beyond = handled(&sent);
    beyond[0].add(1);
    assert_eq!(outbox.acknowledge(beyond), Err(FalseAck));
    outbox.acknowledge(handled(&sent)).unwrap();
    assert_eq!(outbox.acknowledge([Tally::default(); 3]), Err(FalseAck), "it never goes back");
}

#[test]
fn the_sender_hears_before_its_window_is_used_up() {
    let mut handled = Handled::default();
    assert!(handled.tell().is_none());
    let flight = WINDOWS[Class::Snapshot.index()].flight_bytes;
    assert!(!handled.count(Class::Snapshot, 10));
    assert!(handled.count(Class::Snapshot, flight / 4));
    assert!(handled.tell().is_some());
    assert!(handled.tell().is_none());
}

proptest! {
    /// Whatever is offered, sent and acknowledged, the bound holds and order is kept.
    #[test]
    fn the_bound_holds_and_order_is_kept(steps in proptest::collection::vec((0u8..3, 0usize..200), 1..200)) {
        let mut outbox = outbox();
        let (mut next, mut seen, mut arrived) = (0u32, Vec::new(), Vec::new());
        for (step, size) in steps {
            match step {
                0 => {
                    let mut body = next.to_be_bytes().to_vec();
                    body.resize(4 + size, 0);
                    if outbox.offer(Class::Raft, Frame::Raft(body), None) {
                        next += 1;
                    }
                }
                1 => arrived.extend(batch(&mut outbox)),
                _ => outbox.acknowledge(handled(&arrived)).unwrap(),
            }
            prop_assert!(outbox.held_bytes() <= SMALL.held_bytes);
        }
        for frame in &arrived {
            if let Frame::Raft(body) = frame {
                seen.push(u32::from_be_bytes(body[..4].try_into().unwrap()));
            }
        }
        let expected: Vec<u32> = (0..seen.len() as u32).collect();
        prop_assert_eq!(seen, expected);
    }
}

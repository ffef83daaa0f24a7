//! Who gets a seat, and which batches have an effect: judged without a network, on a clock that the test moves.

use super::hello::{Hello, Refusal};
use super::hub::{Dialling, Hub, Seat};
use super::options::LinkOptions;
use super::session::{Link, Stage};
use super::tls::{Guard, Label, Security};
use super::wire::{BatchWriter, Frame, Stamp, Tally};
use crate::replication::transport::{Inbound, Lane, Peer};
use crate::types::ids::{Incarnation, NodeId};
use crate::types::level::{FeatureLevel, Levels};
use crate::types::limits::PEER_SILENT_MAX_MS;
use crate::types::start::{Fit, Lineage, ProcessStart, StartId};
use crate::types::time::{Clock, HandBoot};
use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio_util::sync::CancellationToken;

#[derive(Debug, PartialEq, Eq)]
enum Heard {
    Frame(u64, u8),
    Link(u64, bool),
}

/// Notes what is handed on, by incarnation of the peer.
#[derive(Default)]
struct Notes(Mutex<Vec<Heard>>);

impl Inbound for Notes {
    fn frame(&self, from: Peer, _lane: Lane, frame: Vec<u8>) {
        self.0.lock().push(Heard::Frame(from.incarnation.0, frame[0]));
    }
    fn request(&self, _from: Peer, body: Vec<u8>) -> BoxFuture<'static, Vec<u8>> {
        Box::pin(std::future::ready(body))
    }
    fn link(&self, peer: Peer, up: bool) {
        self.0.lock().push(Heard::Link(peer.incarnation.0, up));
    }
    /// The cluster is at level 2.
    fn excludes(&self, levels: Levels) -> Option<FeatureLevel> {
        (!levels.supports(FeatureLevel(2))).then_some(FeatureLevel(2))
    }
    /// Start 7 is known of every node.
    fn is_behind(&self, _node: NodeId, lineage: &Lineage) -> Option<Incarnation> {
        let known = ProcessStart { incarnation: Incarnation(7), id: StartId([7; 16]) };
        (lineage.fits(known) == Fit::Behind).then_some(known.incarnation)
    }
}

struct Rig {
    hub: Arc<Hub>,
    clock: Arc<HandBoot>,
    notes: Arc<Notes>,
}

fn peer(node: u64, incarnation: u64) -> Peer {
    Peer { node: NodeId(node), incarnation: Incarnation(incarnation) }
}

/// Node `me`, which wants a link to node 5.
fn rig(me: u64) -> Rig {
    let clock = Arc::new(HandBoot(AtomicU64::new(10_000)));
    let notes = Arc::new(Notes::default());
    let options = LinkOptions {
        me: peer(me, 1),
        name: Label::new("me").unwrap(),
        cluster: Label::new("gifts").unwrap(),
        cluster_id: [1; 16],
        listen: "127.0.0.1:0".parse().unwrap(),
        security: Security::Plain,
        clock: Arc::clone(&clock) as Arc<dyn Clock>,
        fill_random: Arc::new(|bytes: &mut [u8]| bytes.fill(1)),
        threads: 1,
    };
    let runtime = tokio::runtime::Handle::current();
    let hub = Hub::new(options, Guard::Plain, Arc::clone(&notes) as Arc<dyn Inbound>, runtime);
    let seat = Seat {
        address: String::new(),
        link: None,
        leaving: None,
        dialling: Dialling::Idle,
        closed: CancellationToken::new(),
        dropped: Arc::default(),
    };
    hub.seats.write().insert(NodeId(5), seat);
    Rig { hub, clock, notes }
}

impl Rig {
    async fn up(&self, incarnation: u64, epoch: u64) -> Arc<Link> {
        let link = self.hub.take_seat(peer(5, incarnation), epoch, false).await.unwrap();
        assert!(link.open(&mut link.stage.lock(), true, true));
        link
    }
    fn receive(&self, epoch: u64, incarnation: u64, frame: &Frame) {
        let mut batch = BatchWriter::new(Stamp { epoch, from: peer(5, incarnation) });
        batch.push(frame);
        self.hub.receive(&batch.finish());
    }
    fn heard(&self) -> Vec<Heard> {
        std::mem::take(&mut self.notes.0.lock())
    }
    fn dialling(&self, dialling: Dialling) {
        self.hub.seats.write().get_mut(&NodeId(5)).unwrap().dialling = dialling;
    }
}

#[tokio::test]
async fn a_folder_that_is_behind_gets_no_link() {
    let rig = rig(1);
    let start = |number: u8| ProcessStart { incarnation: Incarnation(u64::from(number)), id: StartId([number; 16]) };
    let vouched = |lineage| {
        let hello = Hello { node: NodeId(5), incarnation: Incarnation(9), lineage, ..rig.hub.hello(NodeId(1)) };
        rig.hub.vouch(&hello, &Label::new("five").unwrap())
    };
    assert_eq!(vouched(Lineage { confirmed: Some(start(7)), tried: vec![start(9)] }), Ok(()));
    let behind = Err(Refusal::Behind { known: Incarnation(7) });
    assert_eq!(vouched(Lineage { confirmed: Some(start(6)), tried: vec![start(9)] }), behind);
}

#[tokio::test]
async fn a_build_that_does_not_know_the_clusters_level_gets_no_link() {
    let rig = rig(1);
    let vouched = |highest| {
        let levels = Levels { lowest: FeatureLevel(1), highest: FeatureLevel(highest) };
        let started = ProcessStart { incarnation: Incarnation(7), id: StartId([7; 16]) };
        let lineage = Lineage { confirmed: Some(started), tried: Vec::new() };
        let hello = Hello { node: NodeId(5), lineage, levels, ..rig.hub.hello(NodeId(1)) };
        rig.hub.vouch(&hello, &Label::new("five").unwrap())
    };
    assert_eq!(vouched(2), Ok(()));
    assert_eq!(vouched(1), Err(Refusal::TooOld(FeatureLevel(2))));
}

#[tokio::test]
async fn a_heartbeat_of_raft_is_handed_on_over_a_link_that_is_up_and_ends_any_other() {
    let rig = rig(1);
    let link = rig.up(3, 70).await;
    rig.receive(70, 3, &Frame::Urgent(vec![9]));
    assert!(rig.heard().contains(&Heard::Frame(3, 9)));
    assert!(link.is_up());
    let early = rig.hub.take_seat(peer(5, 3), 71, false).await.unwrap();
    rig.receive(71, 3, &Frame::Urgent(vec![8]));
    assert_eq!(*early.stage.lock(), Stage::Ended, "it was not up");
    assert!(!rig.heard().contains(&Heard::Frame(3, 8)));
}

#[tokio::test]
async fn only_batches_of_the_present_link_and_life_have_an_effect() {
    let rig = rig(1);
    let link = rig.up(3, 70).await;
    rig.receive(70, 3, &Frame::Raft(vec![1]));
    rig.receive(71, 3, &Frame::Raft(vec![2]));
    rig.receive(70, 2, &Frame::Raft(vec![3]));
    rig.hub.receive(&[9, 9]);
    assert_eq!(rig.heard(), [Heard::Frame(3, 1)]);
    rig.hub.end(&link, "the test says so");
    rig.receive(70, 3, &Frame::Raft(vec![4]));
    assert_eq!(rig.heard(), [Heard::Link(3, false)]);
}

#[tokio::test]
async fn a_process_that_stood_still_hands_nothing_on() {
    let rig = rig(1);
    let _link = rig.up(1, 70).await;
    rig.clock.0.fetch_add(PEER_SILENT_MAX_MS, Ordering::Relaxed);
    rig.receive(70, 1, &Frame::Raft(vec![1]));
    assert_eq!(rig.heard(), [Heard::Frame(1, 1)]);
    rig.clock.0.fetch_add(1, Ordering::Relaxed);
    rig.receive(70, 1, &Frame::Raft(vec![2]));
    rig.receive(70, 1, &Frame::Raft(vec![3]));
    assert_eq!(rig.heard(), [Heard::Link(1, false)], "what waited in the socket is stale");
}

#[tokio::test]
async fn a_later_life_takes_the_seat_and_an_earlier_one_never_does() {
    let rig = rig(1);
    let old = rig.up(3, 70).await;
    let _new = rig.up(4, 71).await;
    assert_eq!(rig.heard(), [Heard::Link(3, false)], "the old link is ended first");
    rig.receive(70, 3, &Frame::Raft(vec![1]));
    rig.receive(71, 4, &Frame::Raft(vec![2]));
    assert_eq!(rig.heard(), [Heard::Frame(4, 2)]);
    assert!(old.gone.is_cancelled());
    let earlier = rig.hub.take_seat(peer(5, 3), 72, false).await;
    assert_eq!(earlier.err(), Some(Refusal::Outdated));
    assert_eq!(rig.hub.take_seat(peer(6, 1), 73, false).await.err(), Some(Refusal::NotAPeer));
}

#[tokio::test]
async fn of_two_dials_that_cross_the_lower_nodes_goes_on() {
    let (lower, higher) = (rig(1), rig(9));
    for rig in [&lower, &higher] {
        rig.dialling(Dialling::Introduced(CancellationToken::new()));
    }
    assert_eq!(lower.hub.take_seat(peer(5, 1), 70, false).await.err(), Some(Refusal::Crossed));
    assert!(higher.hub.take_seat(peer(5, 1), 70, false).await.is_ok());
    let dial = CancellationToken::new();
    lower.dialling(Dialling::Connecting(dial.clone()));
    assert!(lower.hub.take_seat(peer(5, 1), 71, false).await.is_ok(), "a dial that reached nobody yet gives way");
    assert!(dial.is_cancelled());
    assert_eq!(lower.hub.take_seat(peer(5, 1), 72, true).await.err(), Some(Refusal::Crossed), "the seat is taken");
}

#[tokio::test]
async fn a_peer_that_breaks_the_protocol_loses_its_link() {
    let rig = rig(1);
    let _link = rig.up(1, 70).await;
    rig.receive(70, 1, &Frame::Ack([Tally { bytes: 1, frames: 1 }; 3]));
    assert_eq!(rig.heard(), [Heard::Link(1, false)]);
    let opening = rig.hub.take_seat(peer(5, 1), 71, false).await.unwrap();
    rig.receive(71, 1, &Frame::Raft(vec![1]));
    assert!(opening.ended.is_cancelled(), "frames before the link is up");
    assert!(rig.heard().is_empty());
}

//! What the in-memory network promises the tests that run on it.

use super::memory::MemoryNetwork;
use crate::replication::transport::{Inbound, Lane, Peer, PeerAddress, RequestError, Sent, Transport};
use crate::types::ids::{Incarnation, NodeId};
use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use std::sync::Arc;
use std::time::Duration;

/// Notes what comes in; answers a request with its own body.
#[derive(Default)]
struct Notes {
    frames: Mutex<Vec<(Peer, Lane, Vec<u8>)>>,
    links: Mutex<Vec<(Peer, bool)>>,
}

impl Notes {
    fn bodies(&self, wanted: Lane) -> Vec<u8> {
        self.frames.lock().iter().filter(|(_, lane, _)| *lane == wanted).map(|(_, _, frame)| frame[0]).collect()
    }
}

impl Inbound for Notes {
    fn frame(&self, from: Peer, lane: Lane, frame: Vec<u8>) {
        self.frames.lock().push((from, lane, frame));
    }
    fn request(&self, _from: Peer, body: Vec<u8>) -> BoxFuture<'static, Vec<u8>> {
        Box::pin(std::future::ready(body))
    }
    fn link(&self, peer: Peer, up: bool) {
        self.links.lock().push((peer, up));
    }
}

fn peer(node: u64, incarnation: u64) -> Peer {
    Peer { node: NodeId(node), incarnation: Incarnation(incarnation) }
}

struct Rig {
    network: Arc<MemoryNetwork>,
    one: Arc<dyn Transport>,
    two: Arc<dyn Transport>,
    notes_one: Arc<Notes>,
    notes_two: Arc<Notes>,
}

const ONE: NodeId = NodeId(1);
const TWO: NodeId = NodeId(2);

fn address(node: NodeId) -> Vec<PeerAddress> {
    vec![PeerAddress { node, address: String::new() }]
}

fn rig() -> Rig {
    let network = MemoryNetwork::new();
    let (notes_one, notes_two) = (Arc::new(Notes::default()), Arc::new(Notes::default()));
    let one = network.attach(peer(1, 1), Arc::clone(&notes_one) as Arc<dyn Inbound>);
    let two = network.attach(peer(2, 1), Arc::clone(&notes_two) as Arc<dyn Inbound>);
    one.set_peers(address(TWO));
    assert_eq!(one.cast(TWO, Lane::Raft, vec![0]), Sent::NoLink, "the other side must want the link too");
    two.set_peers(address(ONE));
    Rig { network, one, two, notes_one, notes_two }
}

/// Lets carriers run, for at most this much paused time.
async fn pass(span: Duration) {
    tokio::time::sleep(span).await;
}

#[tokio::test(start_paused = true)]
async fn frames_arrive_in_order_and_both_ends_hear_of_the_link() {
    let rig = rig();
    for byte in 0..10 {
        assert_eq!(rig.one.cast(TWO, Lane::Raft, vec![byte]), Sent::Queued);
    }
    pass(Duration::from_millis(1)).await;
    assert_eq!(rig.notes_two.bodies(Lane::Raft), (0..10).collect::<Vec<u8>>());
    assert_eq!(*rig.notes_one.links.lock(), [(peer(2, 1), true)]);
    assert_eq!(*rig.notes_two.links.lock(), [(peer(1, 1), true)]);
    assert_eq!(rig.two.request(ONE, vec![7], Duration::from_secs(1)).await, Ok(vec![7]));
}

#[tokio::test(start_paused = true)]
async fn a_cut_loses_one_direction_unnoticed() {
    let rig = rig();
    rig.network.cut(ONE, TWO);
    assert_eq!(rig.one.cast(TWO, Lane::Raft, vec![1]), Sent::Queued);
    assert_eq!(rig.two.cast(ONE, Lane::Raft, vec![2]), Sent::Queued);
    pass(Duration::from_millis(1)).await;
    assert!(rig.notes_two.bodies(Lane::Raft).is_empty());
    assert_eq!(rig.notes_one.bodies(Lane::Raft), [2]);
    assert_eq!(rig.network.lost_frames(), 1);
    assert_eq!(rig.two.request(ONE, vec![7], Duration::from_secs(1)).await, Err(RequestError::Unknown));
    assert!(rig.links_stay_up());
}

impl Rig {
    fn links_stay_up(&self) -> bool {
        self.one.links()[0].up && self.notes_one.links.lock().len() == 1
    }
}

#[tokio::test(start_paused = true)]
async fn a_parted_link_is_told_and_healed() {
    let rig = rig();
    rig.network.isolate(TWO);
    assert_eq!(rig.one.cast(TWO, Lane::Raft, vec![1]), Sent::NoLink);
    assert_eq!(rig.one.request(TWO, vec![7], Duration::from_secs(1)).await, Err(RequestError::NotSent));
    rig.network.heal_all();
    assert_eq!(rig.one.cast(TWO, Lane::Raft, vec![2]), Sent::Queued);
    pass(Duration::from_millis(1)).await;
    assert_eq!(rig.notes_two.bodies(Lane::Raft), [2]);
    assert_eq!(*rig.notes_one.links.lock(), [(peer(2, 1), true), (peer(2, 1), false), (peer(2, 1), true)]);
}

#[tokio::test(start_paused = true)]
async fn heal_undoes_what_lies_between_two_nodes_and_a_kill_ends_all_links() {
    let rig = rig();
    rig.network.part(TWO, ONE);
    rig.network.cut(ONE, TWO);
    rig.network.heal(ONE, TWO);
    assert_eq!(rig.one.request(TWO, vec![7], Duration::from_secs(1)).await, Ok(vec![7]));
    rig.network.detach(TWO);
    assert_eq!(rig.one.cast(TWO, Lane::Raft, vec![1]), Sent::NoLink);
    assert_eq!(rig.notes_one.links.lock().last(), Some(&(peer(2, 1), false)));
}

#[tokio::test(start_paused = true)]
async fn a_delay_holds_frames_back_in_order() {
    let rig = rig();
    rig.network.delay(ONE, TWO, Duration::from_millis(50));
    rig.one.cast(TWO, Lane::Raft, vec![1]);
    rig.network.delay(ONE, TWO, Duration::ZERO);
    rig.one.cast(TWO, Lane::Raft, vec![2]);
    rig.one.cast(TWO, Lane::Snapshot, vec![3]);
    pass(Duration::from_millis(49)).await;
    assert!(rig.notes_two.bodies(Lane::Raft).is_empty());
    assert_eq!(rig.notes_two.bodies(Lane::Snapshot), [3], "the other lane is not held up");
    pass(Duration::from_millis(2)).await;
    assert_eq!(rig.notes_two.bodies(Lane::Raft), [1, 2]);
}

#[tokio::test(start_paused = true)]
async fn nothing_of_an_earlier_life_is_delivered() {
    let rig = rig();
    rig.network.delay(ONE, TWO, Duration::from_millis(50));
    rig.one.cast(TWO, Lane::Raft, vec![1]);
    let again = rig.network.attach(peer(1, 2), Arc::clone(&rig.notes_one) as Arc<dyn Inbound>);
    again.set_peers(address(TWO));
    assert_eq!(rig.one.cast(TWO, Lane::Raft, vec![2]), Sent::NoLink, "the earlier life has no voice");
    assert_eq!(again.cast(TWO, Lane::Raft, vec![3]), Sent::Queued);
    pass(Duration::from_millis(200)).await;
    assert_eq!(*rig.notes_two.frames.lock(), [(peer(1, 2), Lane::Raft, vec![3])]);
}

#[tokio::test(start_paused = true)]
async fn a_request_that_outlives_its_deadline_is_unknown() {
    let rig = rig();
    rig.network.delay(ONE, TWO, Duration::from_secs(2));
    assert_eq!(rig.one.request(TWO, vec![1], Duration::from_secs(1)).await, Err(RequestError::Unknown));
    assert_eq!(rig.one.request(TWO, vec![1], Duration::from_secs(3)).await, Ok(vec![1]));
}

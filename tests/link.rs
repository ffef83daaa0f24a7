//! Links between nodes over real sockets, each node a process of its own: order, bounds, kills, pauses, cuts, strangers.
//! `BOJAGI_LINK_LOG=1` shows the nodes' logs; `cargo test --release --test link -- --ignored --nocapture` measures.

#[path = "link/node.rs"]
mod node;
#[path = "link/rig.rs"]
mod rig;

use bojagi::actors::link::{JoinError, Joiner, Label, LinkError, LinkTransport, Security, join_request};
use bojagi::app::{certs, clock::SystemClock};
use bojagi::replication::transport::{Inbound, Lane, Peer};
use bojagi::types::limits::{HANDSHAKE_MAX_MS, REQUESTS_IN_FLIGHT_MAX};
use bojagi::types::time::Clock;
use futures_util::future::BoxFuture;
use rig::{Cable, Process, Settings, dead_port, linked, pair};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// Not a test by itself: what a [`Process`] runs.
#[test]
fn node_process() {
    if let Some(settings) = std::env::var_os(node::SETTINGS) {
        node::run(settings.to_str().unwrap());
    }
}

fn certificates(names: &[&str]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let now = SystemClock::new().now();
    certs::make_ca(dir.path(), &Label::new("gifts").unwrap(), now).unwrap();
    for name in names {
        certs::make_node(dir.path(), &Label::new(name).unwrap(), &[], now).unwrap();
    }
    dir
}

fn secured<'a>(node: u64, dir: &'a Path, cert: &'a str) -> Settings<'a> {
    Settings { name: cert.to_owned(), certs: Some((dir, cert)), ..Settings::plain(node) }
}

#[test]
fn requests_are_answered_and_each_lane_keeps_its_order() {
    let dir = certificates(&["seoul", "busan"]);
    let (mut one, mut two) = linked(&secured(1, dir.path(), "seoul"), &secured(2, dir.path(), "busan"));
    assert_eq!(one.ask("ask 2 5000 hello", "answer "), "hello");
    assert_eq!(two.ask("ask 1 5000 there", "answer "), "there");
    assert_eq!(one.ask("cast 2 raft 0 3000 200", "cast "), "3000 0 0");
    assert_eq!(one.ask("cast 2 snapshot 0 4 262144", "cast "), "4 0 0");
    assert_eq!(one.ask("cast 2 raft 3000 1 1048576", "cast "), "1 0 0");
    one.tell("mark 2");
    two.expect("mark 1 1");
    // The answer leaves after the snapshot chunks have credit again.
    while two.json("got")["snapshot"]["count"] != 4 {
        std::thread::sleep(Duration::from_millis(10));
    }
    let got = two.json("got");
    assert_eq!(got["raft"], serde_json::json!({ "count": 3001, "max": 3000, "ordered": true }));
    assert_eq!(got["snapshot"]["ordered"], true);
    assert_eq!(one.ask("ask 2 200 slow", "un"), "known", "a deadline that passes leaves the outcome unknown");
    let link = one.json("links")[0].clone();
    assert_eq!(link["up"], true);
    let offset = link["clock_offset_ms"].as_i64().unwrap().abs();
    assert!(offset <= link["clock_error_ms"].as_i64().unwrap() + 1, "one machine has one clock: {link}");
    one.stop();
    two.expect("down 1");
    two.stop();
}

#[test]
fn a_killed_peer_is_noticed_and_comes_back_in_a_later_life() {
    let (mut one, two) = pair();
    let address = two.address.clone();
    two.kill();
    one.expect("down 2 1");
    assert_eq!(one.ask("cast 2 raft 0 1 10", "cast "), "0 0 1");
    assert_eq!(one.ask("ask 2 1000 hello", "not-"), "sent");
    let later = Settings { incarnation: 2, listen: address.clone(), ..Settings::plain(2) };
    let mut two = Process::start(&later);
    two.peers(&[(1, &one.address)]);
    one.expect("up 2 2");
    assert_eq!(one.ask("ask 2 5000 again", "answer "), "again");
    two.kill();
    one.expect("down 2 2");
    let earlier = Settings { incarnation: 1, listen: address, ..Settings::plain(2) };
    let mut two = Process::start(&earlier);
    two.peers(&[(1, &one.address)]);
    std::thread::sleep(Duration::from_millis(1_500));
    assert_eq!(one.json("links")[0]["up"], false, "an earlier life than one that was seen is refused");
}

/// Queued, refused for want of credit, without a link.
fn counts(text: &str) -> Vec<u64> {
    text.split(' ').map(|count| count.parse().unwrap()).collect()
}

#[test]
fn a_paused_peer_is_given_up_and_hears_nothing_stale_when_it_wakes() {
    let (mut one, mut two) = pair();
    one.ask("cast 2 raft 0 10 100", "cast ");
    one.tell("mark 2");
    two.expect("mark 1");
    let before = one.ask("memory", "memory ").parse::<u64>().unwrap();
    let descriptors = one.descriptors();
    two.pause();
    // Small frames first, so that the socket's buffer holds some that the peer could read when it wakes.
    let small = counts(&one.ask("cast 2 raft 1000 100 100", "cast "));
    let large = counts(&one.ask("cast 2 raft 2000 200 1048576", "cast "));
    let other = counts(&one.ask("cast 2 snapshot 0 1 100", "cast "));
    // On a slow machine the pause may be noticed before all are cast; those find no link.
    assert_eq!(small[1], 0, "there was credit: {small:?}");
    assert!(large[0] <= 24 && large[1] + large[2] >= 176, "the credit is bounded: {large:?}");
    assert_eq!(other[1], 0, "the other lane has its own credit: {other:?}");
    let held = one.ask("memory", "memory ").parse::<u64>().unwrap().saturating_sub(before);
    assert!(held < 64 << 20, "a paused peer costs {held} bytes");
    println!("a paused peer costs {} KiB", held >> 10);
    one.expect("down 2");
    assert_eq!(one.ask("cast 2 raft 3000 1 100", "cast "), "0 0 1");
    two.signal(libc::SIGCONT);
    two.expect("down 1");
    two.expect("up 1");
    one.expect("up 2");
    one.tell("mark 2");
    two.expect("mark 1");
    let got = two.json("got");
    assert_eq!(got["raft"]["max"], 9, "nothing of the pause is delivered: {got}");
    assert_eq!(got["snapshot"]["count"], 0);
    assert_eq!(one.ask("ask 2 5000 hello", "answer "), "hello");
    // No socket of the given-up link is kept. One may be of a dial that the new link overtook.
    for _ in 0..500 {
        if one.descriptors() > descriptors {
            std::thread::sleep(Duration::from_millis(20));
        }
    }
    assert!(one.descriptors() <= descriptors);
}

#[test]
fn a_blocked_port_stops_everything_until_it_is_open_again() {
    let (mut one, mut two) = (Process::start(&Settings::plain(1)), Process::start(&Settings::plain(2)));
    let cable = Cable::to(&two.address);
    one.peers(&[(2, &cable.address)]);
    two.peers(&[(1, &dead_port())]);
    one.expect("up 2");
    two.expect("up 1");
    cable.block(true);
    one.expect("down 2");
    two.expect("down 1");
    assert_eq!(one.ask("ask 2 1000 hello", "not-"), "sent");
    cable.block(false);
    one.expect("up 2");
    assert_eq!(one.ask("ask 2 5000 hello", "answer "), "hello");
}

#[test]
fn a_peer_that_is_no_longer_wanted_is_let_go_and_stays_out() {
    let (mut one, two) = pair();
    one.peers(&[]);
    one.expect("down 2");
    two.expect("down 1");
    assert_eq!(one.ask("cast 2 raft 0 1 10", "cast "), "0 0 1");
    std::thread::sleep(Duration::from_millis(700));
    assert_eq!(one.json("links"), serde_json::json!([]));
    one.peers(&[(2, &two.address)]);
    one.expect("up 2");
}

#[test]
fn more_requests_than_may_be_in_flight_are_not_sent() {
    let (mut one, _two) = pair();
    let text = one.ask(&format!("crowd 2 {}", REQUESTS_IN_FLIGHT_MAX + 10), "crowd ");
    assert_eq!(text, format!("{REQUESTS_IN_FLIGHT_MAX} 10 0"));
}

#[test]
fn strangers_are_refused_and_the_rest_goes_on() {
    let (ours, theirs) = (certificates(&["seoul", "busan", "stranger"]), certificates(&["busan"]));
    let mut one = Process::start(&secured(1, ours.path(), "seoul"));
    let at_one = one.address.clone();
    let port = dead_port();
    one.peers(&[(2, &port), (3, &port), (4, &port), (5, &port)]);
    let refused = [
        ("another CA", secured(2, theirs.path(), "busan")),
        ("no TLS", Settings::plain(3)),
        ("another cluster id", Settings { cluster: 9, ..secured(4, ours.path(), "busan") }),
        ("a name that the cluster knows for another node", secured(5, ours.path(), "stranger")),
    ];
    let mut nodes: Vec<Process> = refused.iter().map(|(_, settings)| Process::start(settings)).collect();
    nodes.iter_mut().for_each(|node| node.peers(&[(1, &at_one)]));
    std::thread::sleep(Duration::from_millis(1_500));
    let links = one.json("links");
    for (link, (what, _)) in links.as_array().unwrap().iter().zip(&refused) {
        assert_eq!(link["up"], false, "{what}");
    }
    drop(nodes);
    let mut two = Process::start(&secured(2, ours.path(), "busan"));
    two.peers(&[(1, &at_one)]);
    one.expect("up 2");
}

#[test]
fn a_certificate_of_another_name_does_not_start() {
    let dir = certificates(&["seoul"]);
    let settings = Settings { name: "busan".to_owned(), ..secured(1, dir.path(), "seoul") };
    let started = std::panic::catch_unwind(|| Process::start(&settings));
    assert!(started.is_err());
}

#[test]
fn an_idle_socket_is_closed_and_holds_up_nobody() {
    let (mut one, mut two) = (Process::start(&Settings::plain(1)), Process::start(&Settings::plain(2)));
    let mut idle = TcpStream::connect(&one.address).unwrap();
    let mut half = TcpStream::connect(&one.address).unwrap();
    half.write_all(b"BJL1").unwrap();
    let mut babble = TcpStream::connect(&one.address).unwrap();
    babble.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
    one.peers(&[(2, &two.address)]);
    two.peers(&[(1, &one.address)]);
    one.expect("up 2");
    for socket in [&mut idle, &mut half, &mut babble] {
        socket.set_read_timeout(Some(Duration::from_millis(HANDSHAKE_MAX_MS + 5_000))).unwrap();
        let read = socket.read(&mut [0u8; 16]);
        let closed = matches!(&read, Ok(0))
            || matches!(&read, Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset);
        assert!(closed, "{read:?}");
    }
    assert_eq!(one.ask("ask 2 5000 hello", "answer "), "hello");
}

/// Takes nothing; for links that are only started and stopped.
struct Nobody;

impl Inbound for Nobody {
    fn frame(&self, _from: Peer, _lane: Lane, _frame: Vec<u8>) {}
    fn request(&self, _from: Peer, body: Vec<u8>) -> BoxFuture<'static, Vec<u8>> {
        Box::pin(std::future::ready(body))
    }
    fn link(&self, _peer: Peer, _up: bool) {}
}

#[test]
fn a_process_has_links_once_and_again_after_a_clean_stop() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let start = |listen: &str| {
        let options = node::plain_options(listen.parse().unwrap());
        runtime.block_on(LinkTransport::start(options, Arc::new(Nobody)))
    };
    let first = start("127.0.0.1:0").unwrap();
    let address = first.address().to_string();
    assert!(matches!(start("127.0.0.1:0"), Err(LinkError::Second)));
    runtime.block_on(first.stop());
    assert!(TcpStream::connect(&address).is_err(), "the listener is closed");
    let second = start(&address).unwrap();
    assert!(TcpStream::connect(&address).is_ok());
    runtime.block_on(second.stop());
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let listen = taken.local_addr().unwrap().to_string();
    assert!(matches!(start(&listen), Err(LinkError::Listen { .. })));
    runtime.block_on(start("127.0.0.1:0").unwrap().stop());
}

fn knock(address: &str, name: &str, security: &Security, body: &[u8]) -> Result<Vec<u8>, JoinError> {
    let (name, cluster) = (Label::new(name).unwrap(), Label::new("gifts").unwrap());
    let joiner = Joiner { name: &name, cluster: &cluster, security };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(join_request(joiner, address, body.to_vec(), Duration::from_secs(10)))
}

fn files(dir: &Path, name: &str) -> Security {
    let of = |ending: &str| dir.join(format!("{name}.{ending}"));
    Security::Mtls { cert: of("crt"), key: of("key"), ca: dir.join("ca.crt") }
}

#[test]
fn the_join_door_answers_who_holds_a_certificate_and_a_token() {
    let (ours, theirs) = (certificates(&["seoul", "jeju"]), certificates(&["jeju"]));
    let one = Process::start(&secured(1, ours.path(), "seoul"));
    let jeju = files(ours.path(), "jeju");
    assert_eq!(knock(&one.address, "jeju", &jeju, b"token").unwrap(), b"welcome jeju");
    assert!(matches!(knock(&one.address, "jeju", &jeju, b"guess"), Err(JoinError::Refused { .. })));
    assert!(matches!(knock(&one.address, "busan", &jeju, b"token"), Err(JoinError::Security(_))));
    let foreign = knock(&one.address, "jeju", &files(theirs.path(), "jeju"), b"token");
    assert!(matches!(foreign, Err(JoinError::NotSent { .. } | JoinError::Unknown { .. })), "{foreign:?}");
    assert!(matches!(knock(&dead_port(), "jeju", &jeju, b"token"), Err(JoinError::NotSent { .. })));
    let plain = Process::start(&Settings::plain(2));
    assert_eq!(knock(&plain.address, "jeju", &Security::Plain, b"token").unwrap(), b"welcome jeju");
    assert!(knock(&plain.address, "jeju", &jeju, b"token").is_err(), "TLS against a plain door");
    assert!(knock(&one.address, "jeju", &Security::Plain, b"token").is_err(), "plain against a TLS door");
}

#[test]
#[ignore = "measures"]
fn rates_on_loopback() {
    let dir = certificates(&["seoul", "busan"]);
    let kinds = [
        ("plain", Settings::plain(1), Settings::plain(2)),
        ("TLS", secured(1, dir.path(), "seoul"), secured(2, dir.path(), "busan")),
    ];
    for (kind, one, two) in kinds {
        let (mut one, _two) = linked(&one, &two);
        for command in ["casts 400000 256", "casts 20000 16384", "casts 2000 262144", "round 5000 256"] {
            println!("{kind} {command}: {}", one.ask(&format!("bench 2 {command}"), "bench "));
        }
    }
}

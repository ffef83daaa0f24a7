//! The node under test: this test binary again, as a process of its own, driven by lines on its standard input.
//!
//! ractor's registries are the process's, so two nodes need two processes. Its lines on standard output begin with `@`.

use bojagi::actors::link::{Label, LinkOptions, LinkTransport, Security};
use bojagi::app::clock::SystemClock;
use bojagi::replication::transport::{Inbound, Lane, Peer, PeerAddress, RequestError, Sent, Transport};
use bojagi::types::ids::{Incarnation, NodeId};
use futures_util::future::BoxFuture;
use serde_json::{Value, json};
use std::io::BufRead;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::time::Instant;

pub const SETTINGS: &str = "BOJAGI_LINK_NODE";

fn say(line: &str) {
    println!("@{line}");
}

/// Notes what comes in, and answers requests: `count` with the Raft frames so far, `slow` late, anything else at once.
#[derive(Default)]
struct Notes {
    raft: Mutex<Vec<u64>>,
    snapshot: Mutex<Vec<u64>>,
    bytes: Mutex<u64>,
    marked: tokio::sync::Notify,
}

impl Inbound for Notes {
    fn frame(&self, from: Peer, lane: Lane, frame: Vec<u8>) {
        let number = u64::from_le_bytes(frame[..8].try_into().expect("frames of the test begin with a number"));
        *self.bytes.lock().unwrap() += frame.len() as u64;
        match lane {
            Lane::Raft => self.raft.lock().unwrap().push(number),
            Lane::Snapshot => self.snapshot.lock().unwrap().push(number),
        }
        if number == u64::MAX {
            say(&format!("mark {} {}", from.node, from.incarnation));
            self.marked.notify_one();
        }
    }
    fn request(&self, _from: Peer, body: Vec<u8>) -> BoxFuture<'static, Vec<u8>> {
        let count = self.raft.lock().unwrap().len() as u64;
        Box::pin(async move {
            if body == b"count" {
                return count.to_le_bytes().to_vec();
            }
            if body.starts_with(b"slow") {
                tokio::time::sleep(Duration::from_secs(2)).await;
            }
            body
        })
    }
    fn link(&self, peer: Peer, up: bool) {
        let word = if up { "up" } else { "down" };
        say(&format!("{word} {} {}", peer.node, peer.incarnation));
    }
    fn vouches(&self, _node: NodeId, name: &str) -> bool {
        name != "stranger"
    }
    fn join(&self, name: String, body: Vec<u8>) -> BoxFuture<'static, Option<Vec<u8>>> {
        let answer = (body == b"token").then(|| format!("welcome {name}").into_bytes());
        Box::pin(std::future::ready(answer))
    }
}

fn options(settings: &Value) -> LinkOptions {
    let text = |key: &str| settings[key].as_str().expect("a setting of the test");
    let number = |key: &str| settings[key].as_u64().expect("a setting of the test");
    let security = match settings["certs"].as_str().map(PathBuf::from) {
        None => Security::Plain,
        Some(dir) => Security::Mtls {
            cert: dir.join(format!("{}.crt", text("cert"))),
            key: dir.join(format!("{}.key", text("cert"))),
            ca: dir.join("ca.crt"),
        },
    };
    LinkOptions {
        me: Peer { node: NodeId(number("node")), incarnation: Incarnation(number("incarnation")) },
        name: Label::new(text("name")).unwrap(),
        cluster_id: [number("cluster") as u8; 16],
        security,
        ..plain_options(text("listen").parse().unwrap())
    }
}

/// Node 1 of the test's cluster, without certificates.
pub fn plain_options(listen: SocketAddr) -> LinkOptions {
    LinkOptions {
        me: Peer { node: NodeId(1), incarnation: Incarnation(1) },
        name: Label::new("n1").unwrap(),
        cluster: Label::new("gifts").unwrap(),
        cluster_id: [1; 16],
        listen,
        security: Security::Plain,
        clock: SystemClock::new(),
        fill_random: Arc::new(bojagi::app::system_random),
        threads: 1,
    }
}

/// Lives until its input is closed.
pub fn run(settings: &str) {
    let settings: Value = serde_json::from_str(settings).unwrap();
    if settings["log"].as_bool() == Some(true) {
        bojagi::app::log::init(bojagi::app::log::Format::Text, "debug,ractor=info,ractor_cluster=info");
    } else {
        bojagi::app::log::init(bojagi::app::log::Format::Text, "off");
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let notes = Arc::new(Notes::default());
    let links = runtime.block_on(LinkTransport::start(options(&settings), Arc::clone(&notes) as Arc<dyn Inbound>));
    let links = match links {
        Ok(links) => links,
        Err(error) => return say(&format!("failed {error}")),
    };
    say(&format!("listen {}", links.address()));
    for line in std::io::stdin().lock().lines() {
        let line = line.unwrap();
        let words: Vec<&str> = line.split(' ').collect();
        runtime.block_on(obey(&words, &links, &notes));
    }
    runtime.block_on(links.stop());
    say("stopped");
}

fn frame(number: u64, size: usize) -> Vec<u8> {
    let mut frame = number.to_le_bytes().to_vec();
    frame.resize(size.max(8), 7);
    frame
}

fn lane(word: &str) -> Lane {
    if word == "snapshot" { Lane::Snapshot } else { Lane::Raft }
}

async fn obey(words: &[&str], links: &Arc<LinkTransport>, notes: &Arc<Notes>) {
    let number = |index: usize| words[index].parse::<u64>().unwrap();
    match words[0] {
        // peers 2=127.0.0.1:1234 ...
        "peers" => {
            links.set_peers(words[1..].iter().filter(|word| !word.is_empty()).map(|word| address(word)).collect())
        }
        // cast <to> <lane> <first> <count> <size>: answers how many were queued, were refused, found no link.
        "cast" => {
            let mut sent = [0u64; 3];
            for each in number(3)..number(3) + number(4) {
                let outcome = links.cast(NodeId(number(1)), lane(words[2]), frame(each, number(5) as usize));
                sent[match outcome {
                    Sent::Queued => 0,
                    Sent::Full => 1,
                    Sent::NoLink => 2,
                }] += 1;
            }
            say(&format!("cast {} {} {}", sent[0], sent[1], sent[2]));
        }
        "mark" => {
            let outcome = links.cast(NodeId(number(1)), Lane::Raft, frame(u64::MAX, 8));
            assert_eq!(outcome, Sent::Queued);
        }
        // ask <to> <deadline ms> <body>
        "ask" => {
            let body = words[3].as_bytes().to_vec();
            let answer = links.request(NodeId(number(1)), body, Duration::from_millis(number(2))).await;
            say(&match answer {
                Ok(body) => format!("answer {}", String::from_utf8_lossy(&body)),
                Err(RequestError::NotSent) => "not-sent".to_owned(),
                Err(RequestError::Unknown) => "unknown".to_owned(),
            });
        }
        "crowd" => crowd(links, NodeId(number(1)), number(2)).await,
        "got" => say(&format!("got {}", got(notes))),
        "links" => say(&format!("links {}", serde_json::to_string(&links.links()).unwrap())),
        "memory" => say(&format!("memory {}", resident_bytes())),
        "bench" => bench(links, NodeId(number(1)), words[2], number(3), number(4) as usize).await,
        other => panic!("{other} is no command"),
    }
}

fn address(word: &str) -> PeerAddress {
    let (node, address) = word.split_once('=').unwrap();
    PeerAddress { node: NodeId(node.parse().unwrap()), address: address.to_owned() }
}

fn got(notes: &Notes) -> Value {
    let view = |numbers: &Mutex<Vec<u64>>| {
        let numbers = numbers.lock().unwrap();
        let data: Vec<u64> = numbers.iter().copied().filter(|number| *number != u64::MAX).collect();
        let ordered = data.windows(2).all(|pair| pair[0] < pair[1]);
        json!({ "count": data.len(), "max": data.iter().max(), "ordered": ordered })
    };
    json!({ "raft": view(&notes.raft), "snapshot": view(&notes.snapshot), "bytes": *notes.bytes.lock().unwrap() })
}

fn resident_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/statm").unwrap();
    status.split(' ').nth(1).unwrap().parse::<u64>().unwrap() * 4096
}

/// Many requests at one time: how many were answered, not sent, unknown.
async fn crowd(links: &Arc<LinkTransport>, to: NodeId, count: u64) {
    let asking = (0..count).map(|_| links.request(to, b"slow".to_vec(), Duration::from_secs(8)));
    let answers = futures_util::future::join_all(asking).await;
    let with = |wanted: fn(&Result<Vec<u8>, RequestError>) -> bool| answers.iter().filter(|a| wanted(a)).count();
    let answered = with(|answer| answer.is_ok());
    let not_sent = with(|answer| *answer == Err(RequestError::NotSent));
    say(&format!("crowd {answered} {not_sent} {}", answers.len() - answered - not_sent));
}

async fn arrived(links: &Arc<LinkTransport>, to: NodeId) -> u64 {
    let answer = links.request(to, b"count".to_vec(), Duration::from_secs(60)).await.unwrap();
    u64::from_le_bytes(answer.try_into().unwrap())
}

/// Rates, for the record in ADR-5.
async fn bench(links: &Arc<LinkTransport>, to: NodeId, what: &str, count: u64, size: usize) {
    let base = arrived(links, to).await;
    let began = Instant::now();
    match what {
        "casts" => {
            let mut sent = 0;
            while sent < count {
                match links.cast(to, Lane::Raft, frame(sent, size)) {
                    Sent::Queued => sent += 1,
                    Sent::Full => tokio::time::sleep(Duration::from_micros(200)).await,
                    Sent::NoLink => return say("bench the link was lost"),
                }
            }
            // Requests overtake casts, so the other side is asked until it has them all.
            while arrived(links, to).await < base + count {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            let seconds = began.elapsed().as_secs_f64();
            say(&format!(
                "bench {:.0} casts/s {:.1} MB/s",
                count as f64 / seconds,
                (count * size as u64) as f64 / 1e6 / seconds
            ));
        }
        _ => {
            let mut spans = Vec::new();
            for _ in 0..count {
                let one = Instant::now();
                links.request(to, vec![0; size], Duration::from_secs(10)).await.unwrap();
                spans.push(one.elapsed().as_micros());
            }
            spans.sort_unstable();
            let at = |share: usize| spans[spans.len() * share / 100];
            say(&format!("bench round trip p50 {} us p99 {} us", at(50), at(99)));
        }
    }
}

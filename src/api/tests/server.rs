//! What only real sockets show: deadlines, caps, framing, parking, live streams, the drain.

use super::memory::Trouble;
use super::*;
use crate::api::bucket::BucketRate;
use crate::api::limits::ServerLimits;
use crate::api::serve;
use futures_util::StreamExt;
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

const SOON: Duration = Duration::from_secs(10);

struct Server {
    address: SocketAddr,
    door: Arc<MemoryDoor>,
    shutdown: CancellationToken,
    served: JoinHandle<()>,
}

impl Server {
    async fn start(change: impl FnOnce(&mut ServerLimits)) -> Self {
        let mut options = options();
        options.limits.header = Duration::from_millis(300);
        options.limits.body = Duration::from_millis(300);
        options.limits.park = Duration::from_millis(20);
        options.limits.request = Duration::from_millis(500);
        options.limits.drain = Duration::from_secs(2);
        change(&mut options.limits);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let door = MemoryDoor::new(NOW);
        let shutdown = CancellationToken::new();
        let serving = serve(vec![listener], options, door.clone(), shutdown.clone());
        let served = tokio::spawn(async move { serving.await.unwrap() });
        Self { address, door, shutdown, served }
    }

    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    /// Sends bytes on a connection of its own and reads until the server closes.
    async fn exchange(&self, bytes: &[u8]) -> String {
        let mut stream = self.connect().await;
        stream.write_all(bytes).await.unwrap();
        read_all(&mut stream).await
    }
}

async fn read_all(stream: &mut TcpStream) -> String {
    let mut reply = Vec::new();
    let read = tokio::time::timeout(SOON, stream.read_to_end(&mut reply)).await;
    // A reset after the reply is as good as a close.
    let _closed = read.expect("the server closes in time");
    String::from_utf8_lossy(&reply).into_owned()
}

/// Reads until the text so far ends a reply with a body of `{"status":"ok"}`.
async fn read_health(stream: &mut TcpStream) -> String {
    let mut reply = Vec::new();
    let mut byte = [0u8; 1];
    while !reply.ends_with(b"\"ok\"}") {
        let read = tokio::time::timeout(SOON, stream.read(&mut byte)).await.unwrap().unwrap();
        assert!(read > 0, "closed after {:?}", String::from_utf8_lossy(&reply));
        reply.push(byte[0]);
    }
    String::from_utf8(reply).unwrap()
}

const HEALTH: &[u8] = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n";

#[tokio::test]
async fn a_head_that_dribbles_is_cut_off() {
    let server = Server::start(|_| {}).await;
    let mut stream = server.connect().await;
    stream.write_all(b"GET /healthz HTTP/1.1\r\n").await.unwrap();
    let closed = read_all(&mut stream);
    assert!(!closed.await.contains(" 200 "));
    // The same while bytes keep coming.
    let mut stream = server.connect().await;
    stream.write_all(b"GET /healthz HTTP/1.1\r\n").await.unwrap();
    let dribble = async {
        loop {
            tokio::time::sleep(Duration::from_millis(50)).await;
            if stream.write_all(b"A: b\r\n").await.is_err() {
                return;
            }
        }
    };
    tokio::time::timeout(SOON, dribble).await.expect("the server closes in time");
}

#[tokio::test]
async fn a_body_that_dribbles_is_408() {
    let server = Server::start(|_| {}).await;
    let mut stream = server.connect().await;
    let head = b"POST /v1/gifts HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{";
    stream.write_all(head).await.unwrap();
    let mut reply = vec![0u8; 4096];
    let reading = async {
        loop {
            tokio::select! {
                read = stream.readable() => read.unwrap(),
                () = tokio::time::sleep(Duration::from_millis(50)) => { let _gone = stream.try_write(b" "); continue }
            }
            return stream.try_read(&mut reply).unwrap();
        }
    };
    let count = tokio::time::timeout(SOON, reading).await.unwrap();
    let reply = String::from_utf8_lossy(&reply[..count]);
    assert!(reply.starts_with("HTTP/1.1 408 ") && reply.contains("request_timeout"), "{reply}");
}

#[tokio::test]
async fn ambiguous_framing_is_refused_in_either_order() {
    let server = Server::start(|_| {}).await;
    let heads = [
        "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n",
        "transfer-encoding: chunked\r\ncontent-length: 5\r\n",
        "Transfer-Encoding: chunked\r\nCONTENT-LENGTH : 5\r\n",
        "Content-Length: 5\r\nContent-Length: 6\r\n",
        "Content-Length: 5\r\nTransfer-Encoding: identity\r\n",
    ];
    for head in heads {
        let request = format!("POST /v1/gifts HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{head}\r\n0\r\n\r\n");
        let reply = server.exchange(request.as_bytes()).await;
        assert!(reply.starts_with("HTTP/1.1 400 "), "{head:?}: {reply}");
    }
    let chunked =
        "POST /v1/gifts HTTP/1.1\r\nHost: x\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n";
    assert!(server.exchange(chunked.as_bytes()).await.starts_with("HTTP/1.1 401 "));
}

#[tokio::test]
async fn a_plain_request_before_does_not_make_a_chunked_one_ambiguous() {
    let server = Server::start(|_| {}).await;
    let mut stream = server.connect().await;
    let get = b"GET /healthz HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n";
    stream.write_all(get).await.unwrap();
    read_health(&mut stream).await;
    let chunked = b"GET /healthz HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n";
    stream.write_all(chunked).await.unwrap();
    assert!(read_health(&mut stream).await.starts_with("HTTP/1.1 200 "));
}

#[tokio::test]
async fn heads_and_bodies_are_bounded() {
    let server = Server::start(|_| {}).await;
    let long = format!("GET /{} HTTP/1.1\r\nHost: x\r\n\r\n", "a".repeat(60_000));
    let reply = server.exchange(long.as_bytes()).await;
    assert!(reply.starts_with("HTTP/1.1 414 ") || reply.starts_with("HTTP/1.1 431 "), "{reply}");
    let many: String = (0..65).map(|number| format!("h{number}: x\r\n")).collect();
    let reply = server.exchange(format!("GET /healthz HTTP/1.1\r\nHost: x\r\n{many}\r\n").as_bytes()).await;
    assert!(reply.starts_with("HTTP/1.1 431 "), "{reply}");
    let size = 1_900_000;
    let head = format!("POST /v1/gifts HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {size}\r\n\r\n");
    let reply = server.exchange(&[head.as_bytes(), &vec![b'x'; size]].concat()).await;
    assert!(reply.starts_with("HTTP/1.1 413 ") && reply.contains("payload_too_large"), "{reply}");
    let chunk = format!("{:x}\r\n{}\r\n0\r\n\r\n", 20_000, "x".repeat(20_000));
    let head = "POST /v1/gifts HTTP/1.1\r\nHost: x\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n";
    let reply = server.exchange(format!("{head}{chunk}").as_bytes()).await;
    assert!(reply.starts_with("HTTP/1.1 413 "), "{reply}");
}

#[tokio::test]
async fn idle_connections_are_parked_served_again_and_reaped() {
    let server = Server::start(|limits| limits.idle = Duration::from_millis(700)).await;
    let mut stream = server.connect().await;
    for _request in 0..3 {
        stream.write_all(HEALTH).await.unwrap();
        assert!(read_health(&mut stream).await.starts_with("HTTP/1.1 200 "));
        // Longer than the head deadline: only a parked connection lives through it.
        tokio::time::sleep(Duration::from_millis(450)).await;
    }
    assert_eq!(read_all(&mut stream).await, "");
    let mut silent = server.connect().await;
    assert_eq!(read_all(&mut silent).await, "");
}

#[tokio::test]
async fn a_full_house_says_503_before_it_queues() {
    let server = Server::start(|limits| limits.requests_max = 1).await;
    let token = bearer(Role::Operator, "op");
    let body = r#"{"name": "x", "price": {"value": 1, "currency": "KRW"}}"#;
    let put = format!(
        "PUT /v1/ops/products/x HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: {token}\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    *server.door.trouble.lock() = Trouble::Hang;
    let mut first = server.connect().await;
    first.write_all(put.as_bytes()).await.unwrap();
    let get = "GET /v1/products HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    let shed = loop {
        let reply = server.exchange(get.as_bytes()).await;
        if !reply.starts_with("HTTP/1.1 401 ") {
            break reply;
        }
    };
    assert!(
        shed.starts_with("HTTP/1.1 503 ") && shed.contains("retry-after: 1") && shed.contains("overloaded"),
        "{shed}"
    );
    // Probes still answer, and the stuck one ends at its deadline.
    assert!(server.exchange(b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await.contains(" 200 "));
    let stuck = read_all(&mut first).await;
    assert!(stuck.starts_with("HTTP/1.1 503 ") && stuck.contains("outcome_unknown"), "{stuck}");
}

#[tokio::test]
async fn connections_are_capped() {
    let server = Server::start(|limits| limits.connections_max = 2).await;
    let mut one = server.connect().await;
    let mut two = server.connect().await;
    for stream in [&mut one, &mut two] {
        stream.write_all(HEALTH).await.unwrap();
        read_health(stream).await;
    }
    let mut three = server.connect().await;
    assert!(read_all(&mut three).await.starts_with("HTTP/1.1 503 "));
    drop(one);
    let again = async {
        loop {
            let mut stream = server.connect().await;
            let _refused = stream.write_all(HEALTH).await;
            let mut first = [0u8; 12];
            if stream.read_exact(&mut first).await.is_ok() && &first == b"HTTP/1.1 200" {
                return;
            }
        }
    };
    tokio::time::timeout(SOON, again).await.expect("a place is free again");
}

#[tokio::test]
async fn a_caller_beyond_its_rate_is_429() {
    let mut options = options();
    options.caller_rate = BucketRate { per_sec: 0.5, burst: 2.0 };
    let house = House::with(options);
    for _call in 0..2 {
        assert_eq!(house.get("/v1/gifts").user("u-1").send().await.status, 200);
    }
    let refused = house.get("/v1/gifts").user("u-1").send().await;
    assert_eq!(refused.problem(), (429, "rate_limited".into()));
    assert_eq!(refused.header("retry-after"), "2");
    assert_eq!(house.get("/v1/gifts").user("u-2").send().await.status, 200);
    house.door.pass(crate::types::time::Millis::from_secs(2));
    assert_eq!(house.get("/v1/gifts").user("u-1").send().await.status, 200);
}

#[tokio::test]
async fn http2_is_spoken_with_prior_knowledge() {
    let server = Server::start(|_| {}).await;
    let client: Client<_, Body> = Client::builder(TokioExecutor::new()).http2_only(true).build_http();
    for _request in 0..3 {
        let uri = format!("http://{}/healthz", server.address);
        let request = Request::builder().uri(uri).body(Body::empty()).unwrap();
        let response = client.request(request).await.unwrap();
        assert_eq!((response.status(), response.version()), (StatusCode::OK, http::Version::HTTP_2));
    }
}

/// Events of a live stream as (id, data).
struct Live(axum::body::BodyDataStream, String);

impl Live {
    async fn open(house: &House, path: &str, last: Option<&str>) -> Self {
        let mut request = Request::builder().uri(path).header("authorization", bearer(Role::User, "u-1"));
        if let Some(last) = last {
            request = request.header("last-event-id", last);
        }
        let response = house.router.clone().oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        Self(response.into_body().into_data_stream(), String::new())
    }

    async fn next(&mut self) -> Option<(u64, Value)> {
        loop {
            if let Some((event, rest)) = self.1.split_once("\n\n") {
                let field = |name: &str| event.lines().find_map(|line| line.strip_prefix(name)).map(str::to_owned);
                let read = (field("id: "), field("data: "));
                self.1 = rest.to_owned();
                if let (Some(id), Some(data)) = read {
                    return Some((id.parse().unwrap(), serde_json::from_str(&data).unwrap()));
                }
                continue;
            }
            let chunk = tokio::time::timeout(SOON, self.0.next()).await.unwrap()?;
            self.1.push_str(std::str::from_utf8(&chunk.unwrap()).unwrap());
        }
    }
}

#[tokio::test]
async fn a_live_stream_follows_and_resumes_without_gap_or_repeat() {
    let house = House::open().await;
    let id = house.reserve("u-1", "k").await["id"].as_str().unwrap().to_owned();
    let path = format!("/v1/gifts/{id}/stream");
    let mut live = Live::open(&house, &path, None).await;
    let (first, gift) = live.next().await.unwrap();
    assert_eq!((first, &gift["status"]), (1, &json!("payment_pending")));
    house.door.settle();
    let now = house.get(&format!("/v1/gifts/{id}")).user("u-1").send().await.json();
    let newest = now["version"].as_u64().unwrap();
    let mut seen = vec![(first, gift)];
    while seen.last().unwrap().0 < newest {
        seen.push(live.next().await.unwrap());
    }
    assert_eq!(seen.last().unwrap().1, now);
    assert!(
        seen.iter().enumerate().all(|(at, (version, gift))| *version == at as u64 + 1 && gift["version"] == *version)
    );
    // Resumed from the middle, the same events come, byte for byte the same gift at each version.
    let mut resumed = Live::open(&house, &path, Some("2")).await;
    for expected in &seen[2..] {
        assert_eq!(resumed.next().await.unwrap(), *expected);
    }
    let cancel = format!("/v1/gifts/{id}/cancel");
    house.post(&cancel).user("u-1").key("c").send().await;
    let (version, gift) = resumed.next().await.unwrap();
    assert_eq!(version, newest + 1);
    assert!(["cancelled", "refunding"].contains(&gift["status"].as_str().unwrap()));
    house.app.shutdown.cancel();
    assert_eq!(resumed.next().await, None);
}

#[tokio::test]
async fn streams_have_a_cap_of_their_own() {
    let mut options = options();
    options.limits.streams_max = 1;
    let house = House::with(options);
    house.stock("americano", 4500).await;
    let id = house.reserve("u-1", "k").await["id"].as_str().unwrap().to_owned();
    let path = format!("/v1/gifts/{id}/stream");
    let live = Live::open(&house, &path, None).await;
    assert_eq!(house.get(&path).user("u-1").send().await.problem(), (503, "overloaded".into()));
    drop(live);
    Live::open(&house, &path, None).await.next().await.unwrap();
}

#[tokio::test]
async fn shutdown_closes_idle_connections_and_lets_requests_finish() {
    let server = Server::start(|limits| limits.request = Duration::from_secs(1)).await;
    let mut idle = server.connect().await;
    idle.write_all(HEALTH).await.unwrap();
    read_health(&mut idle).await;
    let mut busy = server.connect().await;
    let head = b"POST /v1/gifts HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n";
    busy.write_all(head).await.unwrap();
    tokio::time::sleep(Duration::from_millis(50)).await;
    server.shutdown.cancel();
    assert_eq!(read_all(&mut idle).await, "");
    busy.write_all(b"{}").await.unwrap();
    assert!(read_all(&mut busy).await.starts_with("HTTP/1.1 401 "));
    tokio::time::timeout(SOON, server.served).await.expect("the drain ends").unwrap();
    assert!(TcpStream::connect(server.address).await.is_err());
}

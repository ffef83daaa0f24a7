//! The other side of a wire, for tests: a server that records raw requests and plays a script of replies, a clock
//! that stands still, and sample requests.

use crate::types::call::{Address, MessageRequest, Prior, Purpose, Template};
use crate::types::contact::Private;
use crate::types::effect::Channel;
use crate::types::time::{BootMillis, Clock, Millis, Timestamp};
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::sync::Arc;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// Long enough that no test meets it unless the server holds a reply back.
pub(crate) const DEADLINE: Millis = Millis::from_secs(10);
/// For replies that never come.
pub(crate) const TINY: Millis = Millis(150);

/// What the server does with the next request.
pub(crate) enum Play {
    /// Status and JSON body.
    Reply(u16, serde_json::Value),
    /// Status, one more header, JSON body.
    ReplyWith(u16, &'static str, &'static str, serde_json::Value),
    /// Reads the request and closes the connection.
    Drop,
    /// Reads the request and never answers.
    Hold,
}

/// A recorded request: head and body as they came.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub line: String,
    pub headers: Vec<(String, String)>,
    pub body: String,
}

impl Seen {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }
    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.body).unwrap()
    }
}

pub(crate) struct WireServer {
    pub base: String,
    seen: Arc<Mutex<Vec<Seen>>>,
    script: Arc<Mutex<VecDeque<Play>>>,
}

impl WireServer {
    /// Plays `script`, one entry for each request; a request beyond it gets a 599.
    pub(crate) async fn start(script: Vec<Play>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        let seen = Arc::new(Mutex::new(Vec::new()));
        let script = Arc::new(Mutex::new(VecDeque::from(script)));
        let (their_seen, their_script) = (Arc::clone(&seen), Arc::clone(&script));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, Arc::clone(&their_seen), Arc::clone(&their_script)));
            }
        });
        Self { base, seen, script }
    }
    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.seen.lock().clone()
    }
    /// The whole script was played.
    pub(crate) fn is_done(&self) -> bool {
        self.script.lock().is_empty()
    }
}

async fn serve(mut stream: TcpStream, seen: Arc<Mutex<Vec<Seen>>>, script: Arc<Mutex<VecDeque<Play>>>) {
    let mut pending = Vec::new();
    while let Some(request) = read_request(&mut stream, &mut pending).await {
        let play = script.lock().pop_front();
        seen.lock().push(request);
        let (status, extra, body) = match play {
            Some(Play::Reply(status, body)) => (status, String::new(), body),
            Some(Play::ReplyWith(status, name, value, body)) => (status, format!("{name}: {value}\r\n"), body),
            Some(Play::Drop) => return,
            Some(Play::Hold) => std::future::pending().await,
            None => (599, String::new(), serde_json::json!("beyond the script")),
        };
        let body = body.to_string();
        let length = body.len();
        let head =
            format!("HTTP/1.1 {status} X\r\ncontent-type: application/json\r\n{extra}content-length: {length}\r\n\r\n");
        if stream.write_all(format!("{head}{body}").as_bytes()).await.is_err() {
            return;
        }
    }
}

async fn read_request(stream: &mut TcpStream, pending: &mut Vec<u8>) -> Option<Seen> {
    loop {
        if let Some(end) = pending.windows(4).position(|window| window == b"\r\n\r\n") {
            let head = String::from_utf8(pending[..end].to_vec()).unwrap();
            let mut lines = head.split("\r\n");
            let line = lines.next().unwrap().to_owned();
            let headers: Vec<(String, String)> = lines
                .filter_map(|line| line.split_once(": "))
                .map(|(name, value)| (name.to_lowercase(), value.to_owned()))
                .collect();
            let length = headers.iter().find(|(name, _)| name == "content-length");
            let length = length.map_or(0, |(_, value)| value.parse::<usize>().unwrap());
            if pending.len() >= end + 4 + length {
                let body = String::from_utf8(pending[end + 4..end + 4 + length].to_vec()).unwrap();
                pending.drain(..end + 4 + length);
                return Some(Seen { line, headers, body });
            }
        }
        let mut chunk = [0u8; 4096];
        match stream.read(&mut chunk).await {
            Ok(0) | Err(_) => return None,
            Ok(read) => pending.extend_from_slice(&chunk[..read]),
        }
    }
}

/// A clock that stands still until it is set.
pub(crate) struct StillClock(pub Mutex<Timestamp>);

impl Clock for StillClock {
    fn now(&self) -> Timestamp {
        *self.0.lock()
    }
    fn boot(&self) -> BootMillis {
        BootMillis(0)
    }
    fn moved(&self) -> tokio::sync::watch::Receiver<u64> {
        tokio::sync::watch::channel(0).1
    }
}

/// 2026-12-25T00:00:00+09:00.
pub(crate) fn christmas() -> Timestamp {
    Timestamp::parse_rfc3339("2026-12-24T15:00:00Z").unwrap()
}

pub(crate) fn still_clock() -> Arc<StillClock> {
    Arc::new(StillClock(Mutex::new(christmas())))
}

/// "Random" bytes that count up, so that each draw differs and each run is equal.
pub(crate) fn counting_random() -> super::settings::FillRandom {
    let next = Mutex::new(0u8);
    Arc::new(move |bytes: &mut [u8]| {
        let mut next = next.lock();
        for byte in bytes {
            *byte = *next;
            *next = next.wrapping_add(1);
        }
    })
}

fn gift(reference: &str, channel: Channel, to: Address) -> MessageRequest {
    MessageRequest {
        reference: reference.to_owned(),
        purpose: Purpose::Gift,
        channel,
        template: Template::GiftArrived,
        to: Private(to),
        variables: vec![
            ("sender".to_owned(), Private("지민".to_owned())),
            ("product".to_owned(), Private("커피".to_owned())),
        ],
        link: Some(Private("http://127.0.0.1:8080/g/001abc".to_owned())),
        prior: Prior::None,
    }
}

pub(crate) fn gift_sms(reference: &str) -> MessageRequest {
    gift(reference, Channel::Sms, Address::Phone("+821012345678".to_owned()))
}
pub(crate) fn gift_kakao(reference: &str) -> MessageRequest {
    gift(reference, Channel::Kakao, Address::Phone("+821012345678".to_owned()))
}
pub(crate) fn gift_mail(reference: &str) -> MessageRequest {
    gift(reference, Channel::Email, Address::Email("mina@example.com".to_owned()))
}
pub(crate) fn gift_push(reference: &str) -> MessageRequest {
    gift(reference, Channel::Push, Address::Push("token-1".to_owned()))
}

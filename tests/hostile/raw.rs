//! HTTP by hand: bytes on a socket, and what comes back.

use crate::support::{Process, free_address, spawn_node};
use serde_json::Value;
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

/// How long a test waits for what must come; nothing is concluded from less.
const PATIENCE: Duration = Duration::from_secs(30);

/// Everything that one connection got back, split into its responses.
#[derive(Debug)]
pub struct Heard(pub Vec<u8>);

/// One response.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub head: String,
    pub body: String,
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|_| panic!("not JSON: {self:?}"))
    }
    pub fn header(&self, name: &str) -> Option<&str> {
        let lines = self.head.lines().skip(1).filter_map(|line| line.split_once(':'));
        lines.filter(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim()).next()
    }
    /// Asserts a problem document of that status, and returns its code.
    pub fn problem(&self, status: u16) -> String {
        assert_eq!(self.status, status, "{self:?}");
        assert_eq!(self.header("content-type"), Some("application/problem+json"), "{self:?}");
        crate::assert_problem(&self.json(), status)
    }
}

impl Heard {
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.0).into_owned()
    }

    pub fn answers(&self) -> Vec<Answer> {
        let text = self.text();
        let mut rest = text.as_str();
        let mut answers = Vec::new();
        while let Some((head, after)) = rest.split_once("\r\n\r\n") {
            let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
            let status = status.unwrap_or_else(|| panic!("not a response: {text:?}"));
            let mut answer = Answer { status, head: head.to_owned(), body: String::new() };
            let length = answer.header("content-length").map_or(0, |length| length.parse::<usize>().unwrap());
            let (body, next) = after.split_at_checked(length).unwrap_or_else(|| panic!("cut off: {text:?}"));
            answer.body = body.to_owned();
            answers.push(answer);
            rest = next;
        }
        assert!(rest.is_empty(), "more than responses: {text:?}");
        answers
    }

    /// The only response.
    pub fn one(&self) -> Answer {
        let mut answers = self.answers();
        assert_eq!(answers.len(), 1, "{}", self.text());
        answers.remove(0)
    }
}

pub fn connect(address: &str) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// Reads until the other side closes; a reset counts as a close.
pub fn until_closed(stream: &mut TcpStream) -> Heard {
    let mut heard = Vec::new();
    match stream.read_to_end(&mut heard) {
        Ok(_) => {}
        Err(error) if error.kind() == ErrorKind::ConnectionReset => {}
        Err(error) => panic!("still open: {error}, heard {:?}", String::from_utf8_lossy(&heard)),
    }
    Heard(heard)
}

/// Sends bytes on a connection of their own and hears all that comes until the other side closes.
pub fn exchange(address: &str, bytes: &[u8]) -> Heard {
    let mut stream = connect(address);
    // The other side may have had enough before the end.
    let _sent = stream.write_all(bytes);
    until_closed(&mut stream)
}

/// As [`exchange`], for a request given as its lines; each ends with CR LF, and so does the head.
pub fn ask(address: &str, lines: &[&str], body: &str) -> Heard {
    exchange(address, format!("{}\r\n\r\n{body}", lines.join("\r\n")).as_bytes())
}

/// Sends `piece` again and again, with pauses, until the other side closes; what it said before that.
pub fn dribble(stream: &mut TcpStream, piece: &[u8]) -> Heard {
    stream.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
    let mut heard = Vec::new();
    let mut room = [0u8; 4_096];
    for _ in 0..PATIENCE.as_millis() / 100 {
        match stream.read(&mut room) {
            Ok(0) => return Heard(heard),
            Ok(count) => heard.extend_from_slice(&room[..count]),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
            Err(_reset) => return Heard(heard),
        }
        if stream.write_all(piece).is_err() {
            // What it said last may still be there to read.
            let _rest = stream.read_to_end(&mut heard);
            return Heard(heard);
        }
    }
    panic!("still open: {:?}", String::from_utf8_lossy(&heard));
}

pub fn healthy(address: &str) {
    let heard = ask(address, &["GET /healthz HTTP/1.1", "Host: x", "Connection: close"], "");
    assert_eq!(heard.one().status, 200, "{}", heard.text());
}

/// A production node from a configuration of its own, with short limits and providers that nobody hears.
pub struct Serve {
    pub address: String,
    _node: Process,
    _folder: tempfile::TempDir,
}

pub const JWT_KEY: [u8; 32] = [0xab; 32];

impl Serve {
    pub fn start(limits: &str) -> Self {
        Self::with(limits, "http://127.0.0.1:9")
    }

    pub fn with(limits: &str, provider: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let address = free_address();
        let text = configuration(folder.path(), &address, provider) + &format!("\n[limits]\n{limits}\n");
        let (mut node, log) = run(folder.path(), &text);
        assert!(node.says("Bojagi serves."), "{}", std::fs::read_to_string(log).unwrap());
        Self { address, _node: node, _folder: folder }
    }
}

pub fn secret(folder: &Path, name: &str, text: &str) -> String {
    let path = folder.join(name);
    std::fs::write(&path, text).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    format!("{{ file = \"{}\" }}", path.display())
}

pub fn configuration(folder: &Path, listen: &str, provider: &str) -> String {
    let (jwt, master) = (secret(folder, "jwt", &hex::encode(JWT_KEY)), secret(folder, "master", &"cd".repeat(32)));
    let (toss, nhn) = (secret(folder, "toss", "test_sk_dev"), secret(folder, "nhn", "dev-secret"));
    let data = folder.join("production").display().to_string();
    format!(
        r#"
[node]
data = "{data}"
listen = "{listen}"
public_url = "https://gift.example"
shards = 8
create = true
ballast_bytes = 4096
[auth]
jwt_key = {jwt}
[vault]
master_key = {master}
[providers.nhn_alimtalk]
base_url = "{provider}"
app_key = "dev-app"
secret_key = {nhn}
sender_key = "0000000000000000000000000000000000000000"
[providers.toss]
base_url = "{provider}"
secret_key = {toss}
"#
    )
}

/// Starts `serve` with a configuration; the process and where it logs.
pub fn run(folder: &Path, text: &str) -> (Process, std::path::PathBuf) {
    let (path, log) = (folder.join("serve.toml"), folder.join("serve.log"));
    std::fs::write(&path, text).unwrap();
    let arguments = ["serve".to_owned(), "--config".to_owned(), path.display().to_string()];
    (spawn_node(&arguments, &log), log)
}

//! A redis-server of a test's own, and what it holds.

use redis::Connection;
use std::collections::BTreeMap;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// How long something that is on its way may take; a test that waits this long has failed.
const PATIENCE_LOOKS: usize = 1_200;
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Looks until it is so.
pub fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    for _ in 0..PATIENCE_LOOKS {
        if let Some(found) = look() {
            return found;
        }
        std::thread::sleep(LOOK_EVERY);
    }
    panic!("never so: {what}");
}

pub struct Server {
    port: u16,
    folder: tempfile::TempDir,
    process: Option<Child>,
}

impl Server {
    pub fn start() -> Self {
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let mut server = Self { port, folder: tempfile::tempdir().unwrap(), process: None };
        server.launch();
        server
    }

    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// Starts it, empty: it keeps nothing on disk.
    pub fn launch(&mut self) {
        let process = Command::new("redis-server")
            .args([
                "--port",
                &self.port.to_string(),
                "--bind",
                "127.0.0.1",
                "--save",
                "",
                "--appendonly",
                "no",
                "--dir",
            ])
            .arg(self.folder.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("redis-server is installed: apt-get install redis-server");
        self.process = Some(process);
        until("redis-server answers", || {
            let mut connection = self.try_connect()?;
            redis::cmd("PING").query::<String>(&mut connection).ok()
        });
    }

    /// kill -9.
    pub fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill().unwrap();
            process.wait().unwrap();
        }
    }

    fn try_connect(&self) -> Option<Connection> {
        redis::Client::open(self.url()).unwrap().get_connection().ok()
    }

    pub fn connection(&self) -> Connection {
        self.try_connect().expect("redis-server is there")
    }

    /// Everything in all topics.
    pub fn events(&self) -> Vec<Event> {
        let mut connection = self.connection();
        let keys: Vec<String> = redis::cmd("KEYS").arg("bojagi:*.v1").query(&mut connection).unwrap();
        let mut events = Vec::new();
        for key in keys {
            let rows: Vec<(String, BTreeMap<String, String>)> =
                redis::cmd("XRANGE").arg(&key).arg("-").arg("+").query(&mut connection).unwrap();
            let topic = key.strip_prefix("bojagi:").unwrap().to_owned();
            events.extend(rows.into_iter().map(|(place, fields)| Event::new(topic.clone(), place, fields)));
        }
        events
    }

    /// All events of one entity, in the order of their ids, each once.
    pub fn life(&self, entity: &str) -> Vec<Event> {
        let mut events: Vec<Event> = self.events().into_iter().filter(|event| event.entity == entity).collect();
        events.sort_by_key(|event| event.order);
        events.dedup_by(|one, other| one.event_id == other.event_id);
        events
    }

    /// Every byte that Redis holds, keys and values.
    pub fn everything(&self) -> String {
        let mut connection = self.connection();
        let keys: Vec<String> = redis::cmd("KEYS").arg("*").query(&mut connection).unwrap();
        let mut text = format!("{:?}", self.events());
        for key in keys {
            let dump: Vec<u8> = redis::cmd("DUMP").arg(&key).query(&mut connection).unwrap();
            text.push_str(&key);
            text.push_str(&String::from_utf8_lossy(&dump));
        }
        text
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}

/// One event as a consumer reads it.
#[derive(Clone, Debug)]
pub struct Event {
    pub topic: String,
    /// Its id in the stream.
    pub place: String,
    pub event_id: String,
    pub entity: String,
    pub event_type: String,
    pub details: serde_json::Value,
    /// Version of the entity, and place in the record.
    pub order: (u64, u64),
}

impl Event {
    fn new(topic: String, place: String, mut fields: BTreeMap<String, String>) -> Self {
        let mut take = |name: &str| fields.remove(name).unwrap_or_else(|| panic!("{topic} {place} has no {name}"));
        let (event_id, entity, event_type) = (take("event_id"), take("entity"), take("type"));
        let (at, details) = (take("at"), take("data"));
        assert!(at.parse::<jiff::Timestamp>().is_ok(), "{at}");
        let details = serde_json::from_str(&details).unwrap();
        let rest = event_id.strip_prefix(&format!("{entity}.")).expect("an event id begins with its entity");
        let (version, number) = rest.split_once('.').unwrap();
        let order = (version.parse().unwrap(), number.parse().unwrap());
        Self { topic, place, event_id, entity, event_type, details, order }
    }
}

//! A node and a sandbox as real processes, and the calls a client makes to them.
#![allow(dead_code, reason = "each test binary uses its own part")]

pub mod ports;

use serde_json::{Value, json};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

pub struct Process(Child, Option<BufReader<ChildStdout>>);

impl Process {
    pub fn kill(&mut self) {
        let _already_gone = self.0.kill();
        let _status = self.0.wait();
    }
    /// Waits for a line of its output; false when it ended without.
    pub fn says(&mut self, line: &str) -> bool {
        let Some(stdout) = &mut self.1 else { return false };
        stdout.lines().map_while(Result::ok).any(|said| said == line)
    }
    pub fn pid(&self) -> u32 {
        self.0.id()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A sandbox and a node beside it, in a folder of their own.
pub struct Stack {
    pub folder: tempfile::TempDir,
    pub api: String,
    pub sandbox: String,
    ports: (u16, u16),
    node: Option<Process>,
    sandbox_process: Process,
    /// What the node is told besides.
    extra: Vec<String>,
    client: reqwest::blocking::Client,
    pub user: String,
    pub merchant: String,
    pub operator: String,
    keys: AtomicU64,
}

/// A reply: status, body, headers that matter.
#[derive(Debug, Clone)]
pub struct Reply {
    pub status: u16,
    pub body: Value,
    pub text: String,
    pub etag: Option<String>,
    pub replayed: bool,
}

/// Starts the binary.
pub fn spawn_node(arguments: &[String], log: &Path) -> Process {
    spawn(arguments, log)
}

/// An address that nobody listens on.
pub fn free_address() -> String {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string()
}

fn spawn(arguments: &[String], log: &Path) -> Process {
    let log = std::fs::OpenOptions::new().create(true).append(true).open(log).unwrap();
    let mut child = Command::new(env!("CARGO_BIN_EXE_bojagi"))
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(log)
        .spawn()
        .unwrap();
    let stdout = child.stdout.take().map(BufReader::new);
    Process(child, stdout)
}

impl Stack {
    pub fn start() -> Self {
        Self::start_with(&[])
    }

    /// With more arguments for the node.
    pub fn start_with(extra: &[&str]) -> Self {
        bojagi::app::install_crypto();
        let folder = tempfile::tempdir().unwrap();
        let ports = (ports::free(1), ports::free(2));
        let (api, sandbox) = (format!("http://127.0.0.1:{}", ports.0), format!("http://127.0.0.1:{}", ports.1));
        let data = folder.path().display().to_string();
        let arguments: Vec<String> = [
            "sandbox",
            "--http",
            &format!("127.0.0.1:{}", ports.1),
            "--smtp",
            &format!("127.0.0.1:{}", ports.1 + 1),
            "--data",
            &format!("{data}/sandbox"),
            "--clock",
            &format!("{data}/clock"),
            "--webhook",
            &api,
        ]
        .map(str::to_owned)
        .to_vec();
        let sandbox_process = spawn(&arguments, &folder.path().join("sandbox.log"));
        let client = reqwest::blocking::Client::builder().timeout(Duration::from_secs(60)).build().unwrap();
        let mut stack = Self {
            folder,
            api,
            sandbox,
            ports,
            node: None,
            sandbox_process,
            extra: extra.iter().map(|&argument| argument.to_owned()).collect(),
            client,
            user: String::new(),
            merchant: String::new(),
            operator: String::new(),
            keys: AtomicU64::new(0),
        };
        stack.start_node();
        stack.user = stack.token("user", "u-1");
        stack.merchant = stack.token("merchant", "m-1");
        stack.operator = stack.token("operator", "op-1");
        stack
    }

    pub fn start_node(&mut self) {
        let data = self.folder.path().display().to_string();
        let mut arguments: Vec<String> = [
            "dev",
            "--no-sandbox",
            "--data",
            &data,
            "--port",
            &self.ports.0.to_string(),
            "--sandbox-port",
            &self.ports.1.to_string(),
            "--cache-mib",
            "32",
        ]
        .map(str::to_owned)
        .to_vec();
        arguments.extend(self.extra.iter().cloned());
        let mut node = spawn(&arguments, &self.folder.path().join("node.log"));
        assert!(node.says("Bojagi serves."), "the node does not come up:\n{}", self.node_log());
        self.node = Some(node);
    }

    pub fn node_pid(&self) -> u32 {
        self.node.as_ref().expect("the node runs").pid()
    }

    /// Stops the node in good order: its state is durable then.
    pub fn stop_node(&mut self) {
        let mut node = self.node.take().expect("the node runs");
        let asked = Command::new("kill").args(["-INT", &node.pid().to_string()]).status().unwrap();
        assert!(asked.success());
        node.0.wait().unwrap();
    }

    /// kill -9.
    pub fn kill_node(&mut self) {
        self.node = None;
    }

    pub fn node_log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("node.log")).unwrap_or_default()
    }

    pub fn data_folder(&self) -> PathBuf {
        self.folder.path().to_owned()
    }

    pub fn fresh_key(&self) -> String {
        format!("key-{}", self.keys.fetch_add(1, Ordering::Relaxed))
    }

    pub fn call(&self, method: &str, path: &str, token: Option<&str>, key: Option<&str>, body: Option<Value>) -> Reply {
        self.call_with(method, path, token, key, body, &[])
    }

    #[allow(clippy::too_many_arguments, reason = "a request has that many parts")]
    pub fn call_with(
        &self,
        method: &str,
        path: &str,
        token: Option<&str>,
        key: Option<&str>,
        body: Option<Value>,
        headers: &[(&str, &str)],
    ) -> Reply {
        let base = if path.starts_with("http") { String::new() } else { self.api.clone() };
        let mut request = self.client.request(method.parse().unwrap(), format!("{base}{path}"));
        if let Some(token) = token {
            request = request.bearer_auth(token);
        }
        if let Some(key) = key {
            request = request.header("Idempotency-Key", key);
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        if let Some(body) = body {
            request = request.header("Content-Type", "application/json").body(body.to_string());
        }
        let reply = request.send().unwrap_or_else(|error| panic!("{method} {path}: {error}\n{}", self.node_log()));
        let status = reply.status().as_u16();
        let header = |name: &str| reply.headers().get(name).and_then(|v| v.to_str().ok()).map(str::to_owned);
        let (etag, replayed) = (header("etag"), header("idempotent-replayed").as_deref() == Some("true"));
        let text = reply.text().unwrap();
        let body = serde_json::from_str(&text).unwrap_or(Value::Null);
        Reply { status, body, text, etag, replayed }
    }

    pub fn token(&self, role: &str, sub: &str) -> String {
        let reply = self.call("POST", "/v1/dev/token", None, None, Some(json!({ "role": role, "sub": sub })));
        assert_eq!(reply.status, 200, "{}", reply.text);
        reply.body["token"].as_str().unwrap().to_owned()
    }

    pub fn put_product(&self, id: &str, price: i64, valid_days: u32) {
        let body = json!({"name": id, "price": {"value": price, "currency": "KRW"}, "validity_days": valid_days});
        let reply = self.call("PUT", &format!("/v1/ops/products/{id}"), Some(&self.operator), None, Some(body));
        assert!((200..300).contains(&reply.status), "{}", reply.text);
    }

    pub fn now(&self) -> String {
        self.call("GET", "/v1/dev/clock", None, None, None).body["now"].as_str().unwrap().to_owned()
    }

    /// An instant `minutes` after the dev clock's now.
    pub fn in_minutes(&self, minutes: i64) -> String {
        let now: jiff::Timestamp = self.now().parse().unwrap();
        let whole = now.as_second() / 60 * 60 + 60;
        format!("{:.3}", jiff::Timestamp::from_second(whole + minutes * 60).unwrap())
    }

    pub fn advance(&self, seconds: i64) -> Value {
        let reply = self.call("POST", "/v1/dev/clock", None, None, Some(json!({ "advance_seconds": seconds })));
        assert_eq!(reply.status, 200, "{}", reply.text);
        reply.body
    }

    pub fn gift_body(&self, product: &str, send_at: &str) -> Value {
        json!({
            "product_id": product,
            "recipient": {"name": "지민", "phone": "010-1234-5678"},
            "message": "생일 축하해!",
            "send_at": {"instant": send_at},
            "payment": {"method": "card", "payment_key": "tok_1"},
        })
    }

    pub fn reserve(&self, body: Value) -> Reply {
        self.call("POST", "/v1/gifts", Some(&self.user), Some(&self.fresh_key()), Some(body))
    }

    /// Reserves and returns the id.
    pub fn reserved(&self, body: Value) -> String {
        let reply = self.reserve(body);
        assert_eq!(reply.status, 201, "{}", reply.text);
        reply.body["id"].as_str().unwrap().to_owned()
    }

    pub fn gift(&self, id: &str) -> Value {
        let reply = self.call("GET", &format!("/v1/gifts/{id}"), Some(&self.user), None, None);
        assert_eq!(reply.status, 200, "{}", reply.text);
        reply.body
    }

    /// Waits, without moving the dev clock, until the gift has the status.
    pub fn await_status(&self, id: &str, status: &str) -> Value {
        // Advancing by nothing waits until nothing is due and no call is in flight.
        self.advance(0);
        let gift = self.gift(id);
        assert_eq!(gift["status"], status, "{gift}\n{}", self.node_log());
        gift
    }

    pub fn link(&self, id: &str) -> String {
        let reply = self.call("GET", &format!("/v1/dev/links/{id}"), None, None, None);
        assert_eq!(reply.status, 200, "{}", reply.text);
        reply.body["token"].as_str().unwrap().to_owned()
    }

    pub fn link_call(&self, token: &str, action: &str, body: Option<Value>) -> Reply {
        let body = body.unwrap_or(json!({}));
        self.call("POST", &format!("/v1/links/{token}/{action}"), None, Some(&self.fresh_key()), Some(body))
    }

    pub fn cancel(&self, id: &str) -> Reply {
        self.call("POST", &format!("/v1/gifts/{id}/cancel"), Some(&self.user), Some(&self.fresh_key()), Some(json!({})))
    }

    pub fn redeem(&self, code: &str, transaction: &str) -> Reply {
        let body = json!({"code": code, "store_id": "s-1", "terminal_id": "t-1", "transaction_id": transaction});
        self.call("POST", "/v1/vouchers/redeem", Some(&self.merchant), None, Some(body))
    }

    /// Orders a fault of the sandbox.
    pub fn fault(&self, provider: &str, kind: &str, seconds: i64) {
        let body = json!({"provider": provider, "kind": kind, "probability": 1.0, "latency_ms": 0, "seconds": seconds});
        let reply = self.call("POST", &format!("{}/faults", self.sandbox), None, None, Some(body));
        assert!((200..300).contains(&reply.status), "{}", reply.text);
    }

    pub fn clear_faults(&self) {
        let reply = self.call("DELETE", &format!("{}/faults", self.sandbox), None, None, None);
        assert!((200..300).contains(&reply.status), "{}", reply.text);
    }

    pub fn ledger(&self, kind: &str, reference_prefix: &str) -> Vec<Value> {
        let mut items = Vec::new();
        let mut cursor: Option<String> = None;
        loop {
            let after = cursor.map(|cursor| format!("&cursor={cursor}")).unwrap_or_default();
            let url =
                format!("{}/ledger?kind={kind}&reference_prefix={reference_prefix}&limit=1000{after}", self.sandbox);
            let page = self.call("GET", &url, None, None, None).body;
            items.extend(page["items"].as_array().unwrap().iter().cloned());
            match page["next_cursor"].as_str() {
                Some(next) => cursor = Some(next.to_owned()),
                None => return items,
            }
        }
    }

    /// Effective gift messages of one gift, over all channels and attempts.
    pub fn sends(&self, id: &str) -> i64 {
        self.ledger("message", id)
            .iter()
            .filter(|item| item["purpose"] == "gift")
            .map(|item| item["effective"].as_i64().unwrap())
            .sum()
    }

    pub fn summary(&self) -> Value {
        self.call("GET", &format!("{}/ledger/summary", self.sandbox), None, None, None).body
    }

    pub fn reconciliation(&self) -> Value {
        self.call("GET", "/v1/ops/reconciliation", Some(&self.operator), None, None).body
    }
}

pub fn millis(instant: &Value) -> i64 {
    instant.as_str().unwrap().parse::<jiff::Timestamp>().unwrap().as_millisecond()
}

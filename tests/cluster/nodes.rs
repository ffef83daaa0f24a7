//! Three nodes as real processes over ractor_cluster, the sandbox beside them, and what a client and an operator do.

use serde_json::{Value, json};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

const LOOK_EVERY: Duration = Duration::from_millis(100);
const LOOKS_MAX: u32 = 900;

/// `bojagi dev --nodes 3` and everything that it started.
pub struct Three {
    folder: tempfile::TempDir,
    parent: Child,
    port: u16,
    sandbox: u16,
    cluster: u16,
    http: reqwest::blocking::Client,
    again: Vec<Child>,
    /// What every node is told besides.
    extra: Vec<String>,
}

/// A run of free ports; another process may be quicker, and the test then fails to start.
fn free_ports(count: u16) -> u16 {
    for _ in 0..200 {
        let first = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let Some(last) = first.checked_add(count) else { continue };
        if (first..last).all(|port| std::net::TcpListener::bind(("127.0.0.1", port)).is_ok()) {
            return first;
        }
    }
    panic!("no free ports");
}

impl Three {
    pub fn start() -> Self {
        Self::start_with(&[])
    }

    /// With more arguments for every node.
    pub fn start_with(extra: &[&str]) -> Self {
        bojagi::app::install_crypto();
        let folder = tempfile::tempdir().unwrap();
        let (port, sandbox, cluster) = (free_ports(3), free_ports(2), free_ports(3));
        let log = std::fs::File::create(folder.path().join("dev.log")).unwrap();
        let parent = Command::new(env!("CARGO_BIN_EXE_bojagi"))
            .args(["dev", "--nodes", "3", "--shards", "16", "--cache-mib", "32", "--data"])
            .arg(folder.path().join("dev"))
            .args(["--port", &port.to_string(), "--sandbox-port", &sandbox.to_string()])
            .args(["--cluster-port", &cluster.to_string()])
            .args(extra)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            // Its children go with it, however the test ends.
            .process_group(0)
            .spawn()
            .unwrap();
        let http = reqwest::blocking::Client::builder().timeout(Duration::from_secs(20)).build().unwrap();
        let extra = extra.iter().map(|&argument| argument.to_owned()).collect();
        let three = Self { folder, parent, port, sandbox, cluster, http, again: Vec::new(), extra };
        three.until("three replicas of each shard", |view| {
            let shards = view["shards"].as_array().cloned().unwrap_or_default();
            let whole = |shard: &Value| {
                !shard["leader"].is_null() && shard["replicas"].as_array().is_some_and(|nodes| nodes.len() == 3)
            };
            shards.len() == 16 && shards.iter().all(whole)
        });
        three
    }

    pub fn token(&self, role: &str, sub: &str) -> String {
        let key = self.folder.path().join("dev/keys/jwt.key");
        let made = Command::new(env!("CARGO_BIN_EXE_bojagi"))
            .args(["token", "--role", role, "--sub", sub, "--key-file", key.to_str().unwrap()])
            .output()
            .unwrap();
        String::from_utf8(made.stdout).unwrap().trim().to_owned()
    }

    pub fn view(&self, node: u16) -> Option<Value> {
        let url = format!("http://127.0.0.1:{}/v1/ops/cluster", self.port + node - 1);
        self.http.get(url).bearer_auth(self.token("operator", "op")).send().ok()?.json().ok()
    }

    /// What a node answers to a look, if it does.
    #[allow(dead_code, reason = "each test binary uses its own part")]
    pub fn get(&self, node: u16, path: &str, token: &str) -> Option<Value> {
        let url = format!("http://127.0.0.1:{}{path}", self.port + node - 1);
        let reply = self.http.get(url).bearer_auth(token).send().ok()?;
        reply.error_for_status().ok()?.json().ok()
    }

    pub fn until(&self, what: &str, holds: impl Fn(&Value) -> bool) -> Value {
        let mut last = Value::Null;
        self.patiently(what, || {
            last = self.view(1).unwrap_or(Value::Null);
            holds(&last)
        });
        last
    }

    /// Looks again and again, for a minute and a half.
    pub fn patiently(&self, what: &str, mut holds: impl FnMut() -> bool) {
        for _ in 0..LOOKS_MAX {
            if holds() {
                return;
            }
            std::thread::sleep(LOOK_EVERY);
        }
        let views: Vec<Value> = (1..=3).filter_map(|node| self.view(node)).collect();
        panic!("never {what}\n{views:#?}\n{}", self.logs());
    }

    pub fn logs(&self) -> String {
        let read = |name: &str| std::fs::read_to_string(self.folder.path().join(name)).unwrap_or_default();
        let tail = |text: String| text.lines().rev().take(15).collect::<Vec<_>>().join("\n");
        ["dev.log", "dev/node-1.log", "dev/node-2.log", "dev/node-3.log"].map(|name| tail(read(name))).join("\n--\n")
    }

    /// A call that is repeated under its key until it has an answer that is not "come again".
    pub fn call(&self, node: u16, path: &str, token: &str, key: &str, body: &Value) -> Value {
        let mut node = node;
        let mut answer = None;
        self.patiently(&format!("answered: {path}"), || {
            let url = format!("http://127.0.0.1:{}{path}", self.port + node - 1);
            let method = if path.contains("/products/") { reqwest::Method::PUT } else { reqwest::Method::POST };
            let sent =
                self.http.request(method, url).bearer_auth(token).header("Idempotency-Key", key).json(body).send();
            match sent.map(|reply| (reply.status().as_u16(), reply.json::<Value>().unwrap_or_default())) {
                Ok((status, body)) if status < 300 => answer = Some(body),
                Ok((status, body)) if status < 500 && body["code"] != "request_in_progress" => {
                    panic!("{path}: {status} {body}")
                }
                // The key makes the same call again, wherever it is made.
                Ok(_) | Err(_) => node = node % 3 + 1,
            }
            answer.is_some()
        });
        answer.unwrap()
    }

    pub fn reserve(&self, count: usize, run: &str, minutes: i64, during: impl Fn(usize)) -> Vec<String> {
        let (user, operator) = (self.token("user", "u-1"), self.token("operator", "op"));
        let product = json!({"name": "Americano", "price": {"value": 4500, "currency": "KRW"}, "validity_days": 30});
        self.call(1, "/v1/ops/products/americano", &operator, "product", &product);
        let now: Value =
            self.http.get(format!("http://127.0.0.1:{}/v1/dev/clock", self.port)).send().unwrap().json().unwrap();
        let at = now["now"].as_str().unwrap().parse::<jiff::Timestamp>().unwrap() + jiff::Span::new().minutes(minutes);
        let body = json!({
            "product_id": "americano",
            "recipient": {"name": "지민", "phone": "010-1234-5678"},
            "message": "생일 축하해!",
            "send_at": {"instant": at.to_string()},
            "payment": {"method": "card", "payment_key": "tok_1"},
        });
        let reserve = |number: usize| {
            during(number);
            let node = u16::try_from(number % 3).unwrap() + 1;
            let gift = self.call(node, "/v1/gifts", &user, &format!("{run}-{number}"), &body);
            gift["id"].as_str().unwrap().to_owned()
        };
        (0..count).map(reserve).collect()
    }

    pub fn kill(&self, node: usize) {
        let view = self.view(if node == 1 { 2 } else { 1 }).unwrap();
        let pid = view["nodes"][node - 1]["pid"].as_i64().expect("it answers");
        assert!(Command::new("kill").args(["-9", &pid.to_string()]).status().unwrap().success());
    }

    pub fn start_again(&mut self, node: u16) {
        let log = std::fs::File::create(self.folder.path().join(format!("again-{node}.log"))).unwrap();
        let child = Command::new(env!("CARGO_BIN_EXE_bojagi"))
            .args(["dev", "--no-sandbox", "--shards", "16", "--cache-mib", "32", "--data"])
            .arg(self.folder.path().join("dev"))
            .args(["--port", &(self.port + node - 1).to_string(), "--sandbox-port", &self.sandbox.to_string()])
            .args(["--cluster-port", &self.cluster.to_string(), "--member", &node.to_string()])
            .args(&self.extra)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        self.again.push(child);
    }

    /// Moves the clock, with a node that answers.
    pub fn advance(&self, node: u16, seconds: i64) {
        let url = format!("http://127.0.0.1:{}/v1/dev/clock", self.port + node - 1);
        let client = reqwest::blocking::Client::builder().timeout(Duration::from_secs(60)).build().unwrap();
        client.post(url).json(&json!({ "advance_seconds": seconds })).send().unwrap();
    }

    /// Effective sends of a gift by the sandbox's ledger.
    pub fn sends(&self, id: &str) -> i64 {
        let url = format!("http://127.0.0.1:{}/ledger?kind=message&reference_prefix={id}&limit=1000", self.sandbox);
        let page: Value = self.http.get(url).send().unwrap().json().unwrap();
        let rows = page["items"].as_array().cloned().unwrap_or_default();
        rows.iter().filter(|row| row["purpose"] == "gift").filter_map(|row| row["effective"].as_i64()).sum()
    }

    pub fn each_is_sent_once(&self, gifts: &[String]) {
        self.patiently("all of them sent", || gifts.iter().all(|id| self.sends(id) > 0));
        for id in gifts {
            assert_eq!(self.sends(id), 1, "{id}");
        }
    }
}

impl Drop for Three {
    fn drop(&mut self) {
        for child in &mut self.again {
            let _gone = child.kill();
            let _status = child.wait();
        }
        let group = format!("-{}", self.parent.id());
        let _killed = Command::new("kill").args(["-9", "--", &group]).status();
        let _status = self.parent.wait();
    }
}

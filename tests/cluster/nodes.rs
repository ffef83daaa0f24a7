//! Nodes as real processes over ractor_cluster, the sandbox beside them, and what a client and an operator do.

use crate::support::ports;
use serde_json::{Value, json};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

const LOOK_EVERY: Duration = Duration::from_millis(100);
/// Long enough for the slowest machine, and no test waits for ever.
const PATIENCE: Duration = Duration::from_secs(240);
const LOOK_PATIENCE: Duration = Duration::from_secs(2);
/// Orders given, for their keys.
static ORDERS: AtomicU64 = AtomicU64::new(0);

/// `bojagi dev --nodes 3` and everything that it started.
pub struct Nodes {
    folder: tempfile::TempDir,
    parent: Child,
    port: u16,
    sandbox: u16,
    cluster: u16,
    http: reqwest::blocking::Client,
    again: Mutex<Vec<Child>>,
    count: u16,
    /// What every node is told besides.
    extra: Vec<String>,
}

/// Ends a load, however the test ends: a scope would otherwise wait behind a panic for ever.
pub struct Ended<'a>(pub &'a AtomicBool);

impl Drop for Ended<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl Nodes {
    pub fn start(count: u16) -> Self {
        Self::start_with(count, &[])
    }

    /// With more arguments for every node.
    pub fn start_with(count: u16, extra: &[&str]) -> Self {
        bojagi::app::install_crypto();
        let folder = tempfile::tempdir().unwrap();
        let (port, sandbox, cluster) = (ports::free(count.into()), ports::free(2), ports::free(count.into()));
        let log = std::fs::File::create(folder.path().join("dev.log")).unwrap();
        let parent = Command::new(env!("CARGO_BIN_EXE_bojagi"))
            .args(["dev", "--nodes", &count.to_string(), "--shards", "16", "--cache-mib", "32", "--data"])
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
        let nodes = Self { folder, parent, port, sandbox, cluster, http, again: Mutex::default(), count, extra };
        nodes.until_whole();
        nodes
    }

    /// Three replicas and a leader of each shard, and nothing moving.
    pub fn is_whole(&self, view: &Value) -> bool {
        let shards = view["shards"].as_array().cloned().unwrap_or_default();
        let three = |shard: &Value| shard["replicas"].as_array().is_some_and(|nodes| nodes.len() == 3);
        let whole = |shard: &Value| !shard["leader"].is_null() && shard["moving"] != true && three(shard);
        shards.len() == 16 && shards.iter().all(whole)
    }

    pub fn until_whole(&self) {
        self.until("three replicas of each shard", |view| self.is_whole(view));
    }

    /// Waits until each node leads its share and listens: one that started again leads before it does.
    pub fn until_spread(&self) {
        let least = u64::from(16 / self.count) - 1;
        self.until("leaders on each node", |view| {
            let nodes = view["nodes"].as_array().cloned().unwrap_or_default();
            nodes.iter().all(|node| node["state"] == "up" && node["leads"].as_u64().unwrap_or(0) >= least)
        });
        self.patiently("an answer of each node", || (1..=self.count).all(|node| self.view(node).is_some()));
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
        let asked = self.http.get(url).timeout(LOOK_PATIENCE).bearer_auth(self.token("operator", "op"));
        asked.send().ok()?.json().ok()
    }

    /// As the first node that answers sees it.
    pub fn any_view(&self) -> Option<Value> {
        (1..=self.count).find_map(|node| self.view(node))
    }

    /// What a node answers to a look, if it does.
    #[allow(dead_code, reason = "each test binary uses its own part")]
    pub fn get(&self, node: u16, path: &str, token: &str) -> Option<Value> {
        let url = format!("http://127.0.0.1:{}{path}", self.port + node - 1);
        let reply = self.http.get(url).timeout(LOOK_PATIENCE).bearer_auth(token).send().ok()?;
        reply.error_for_status().ok()?.json().ok()
    }

    /// A page of a node, or nothing.
    pub fn text(&self, node: u16, path: &str) -> String {
        let url = format!("http://127.0.0.1:{}{path}", self.port + node - 1);
        let reply = self.http.get(url).timeout(LOOK_PATIENCE).send().and_then(|reply| reply.text());
        reply.unwrap_or_default()
    }

    pub fn until(&self, what: &str, holds: impl Fn(&Value) -> bool) -> Value {
        let mut last = Value::Null;
        self.patiently(what, || {
            last = self.any_view().unwrap_or(Value::Null);
            holds(&last)
        });
        last
    }

    /// Looks again and again, until patience ends.
    #[allow(clippy::disallowed_methods, reason = "how long processes take is not the clock's that is under test")]
    pub fn patiently(&self, what: &str, mut holds: impl FnMut() -> bool) {
        let began = Instant::now();
        while began.elapsed() < PATIENCE {
            if holds() {
                return;
            }
            std::thread::sleep(LOOK_EVERY);
        }
        let views: Vec<Value> = (1..=self.count).filter_map(|node| self.view(node)).collect();
        // The logs first: whoever prints this may cut it.
        panic!("never {what}\n{}\n{views:#?}", self.logs());
    }

    pub fn logs(&self) -> String {
        let read = |name: &str| std::fs::read_to_string(self.folder.path().join(name)).unwrap_or_default();
        let tail = |text: String| text.lines().rev().take(15).collect::<Vec<_>>().join("\n");
        let names = (1..=self.count).flat_map(|node| [format!("dev/node-{node}.log"), format!("again-{node}.log")]);
        names.map(|name| tail(read(&name))).collect::<Vec<_>>().join("\n--\n")
    }

    /// One call; nothing when it was not answered.
    pub fn try_call(&self, node: u16, path: &str, token: &str, key: &str, body: &Value) -> Option<(u16, Value)> {
        let url = format!("http://127.0.0.1:{}{path}", self.port + node - 1);
        let method = if path.contains("/products/") { reqwest::Method::PUT } else { reqwest::Method::POST };
        let request = self.http.request(method, url).bearer_auth(token).header("Idempotency-Key", key);
        let reply = request.json(body).send().ok()?;
        Some((reply.status().as_u16(), reply.json().unwrap_or_default()))
    }

    /// A call that is repeated under its key until it has an answer that is not "come again".
    pub fn call(&self, node: u16, path: &str, token: &str, key: &str, body: &Value) -> Value {
        let mut node = node;
        let mut answer = None;
        self.patiently(&format!("answered: {path}"), || {
            match self.try_call(node, path, token, key, body) {
                Some((status, body)) if status < 300 => answer = Some(body),
                Some((status, body)) if status < 500 && body["code"] != "request_in_progress" => {
                    panic!("{path}: {status} {body}")
                }
                // The key makes the same call again, wherever it is made.
                Some(_) | None => node = node % self.count + 1,
            }
            answer.is_some()
        });
        answer.unwrap()
    }

    /// The clock, as the first node says that answers.
    pub fn now(&self) -> jiff::Timestamp {
        let mut now = None;
        self.patiently("told the time", || {
            now = (1..=self.count).find_map(|node| self.get(node, "/v1/dev/clock", ""));
            now.is_some()
        });
        now.unwrap()["now"].as_str().unwrap().parse().unwrap()
    }

    pub fn reserve(&self, count: usize, run: &str, minutes: i64, during: impl Fn(usize)) -> Vec<String> {
        let (user, operator) = (self.token("user", "u-1"), self.token("operator", "op"));
        let product = json!({"name": "Americano", "price": {"value": 4500, "currency": "KRW"}, "validity_days": 30});
        self.call(1, "/v1/ops/products/americano", &operator, "product", &product);
        let at = self.now() + jiff::Span::new().minutes(minutes);
        let body = json!({
            "product_id": "americano",
            "recipient": {"name": "지민", "phone": "010-1234-5678"},
            "message": "생일 축하해!",
            "send_at": {"instant": at.to_string()},
            "payment": {"method": "card", "payment_key": "tok_1"},
        });
        let reserve = |number: usize| {
            during(number);
            let node = u16::try_from(number).unwrap() % self.count + 1;
            let gift = self.call(node, "/v1/gifts", &user, &format!("{run}-{number}"), &body);
            gift["id"].as_str().unwrap().to_owned()
        };
        (0..count).map(reserve).collect()
    }

    /// Calls `during` while gifts are reserved, all due an hour later; which they were.
    #[allow(dead_code, reason = "each test binary uses its own part")]
    pub fn under_load(&self, during: impl FnOnce()) -> Vec<String> {
        let done = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let load = scope.spawn(|| {
                let mut gifts = Vec::new();
                while !done.load(Ordering::Relaxed) {
                    gifts.extend(self.reserve(30, &format!("r{}", gifts.len()), 60, |_| {}));
                }
                gifts
            });
            let ended = Ended(&done);
            during();
            drop(ended);
            load.join().unwrap()
        })
    }

    pub fn pid(&self, node: u16) -> i64 {
        let mut pid = None;
        self.patiently("a process of the node", || {
            let view = self.any_view().unwrap_or_default();
            pid = view["nodes"][usize::from(node) - 1]["pid"].as_i64();
            pid.is_some()
        });
        pid.unwrap()
    }

    pub fn signal(&self, signal: &str, pid: i64) {
        assert!(Command::new("kill").args([signal, &pid.to_string()]).status().unwrap().success());
    }

    pub fn kill(&self, node: u16) {
        self.kill_at_once(&[self.pid(node)]);
    }

    /// SIGKILL, and waits until all have ended: a process that is in the middle of an fsync holds its folder and its
    /// ports until that is done.
    pub fn kill_at_once(&self, pids: &[i64]) {
        pids.iter().for_each(|pid| self.signal("-9", *pid));
        pids.iter().for_each(|pid| self.until_ended(*pid));
    }

    /// SIGTERM, and waits until the process has ended.
    pub fn stop(&self, node: u16) {
        let pid = self.pid(node);
        self.signal("-TERM", pid);
        self.until_ended(pid);
    }

    fn until_ended(&self, pid: i64) {
        self.patiently("ended", || {
            self.again.lock().unwrap().iter_mut().for_each(|child| drop(child.try_wait()));
            let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            // A zombie's threads may be at it still.
            let threads = std::fs::read_dir(format!("/proc/{pid}/task")).map_or(0, Iterator::count);
            stat.is_empty() || (stat.contains(") Z ") && threads <= 1)
        });
    }

    pub fn start_again(&self, node: u16) {
        self.start_again_with(node, &[]);
    }

    pub fn start_again_with(&self, node: u16, more: &[&str]) {
        let log = std::fs::File::create(self.folder.path().join(format!("again-{node}.log"))).unwrap();
        let child = Command::new(env!("CARGO_BIN_EXE_bojagi"))
            .args(["dev", "--no-sandbox", "--shards", "16", "--cache-mib", "32", "--data"])
            .arg(self.folder.path().join("dev"))
            .args(["--port", &(self.port + node - 1).to_string(), "--sandbox-port", &self.sandbox.to_string()])
            .args(["--cluster-port", &self.cluster.to_string(), "--member", &node.to_string()])
            .args(more)
            .args(&self.extra)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        self.again.lock().unwrap().push(child);
    }

    /// An operator's order.
    pub fn order(&self, what: &str, body: &Value) {
        let url = format!("http://127.0.0.1:{}/v1/ops/cluster/{what}", self.port);
        let mut answer = String::new();
        let key = format!("order-{}", ORDERS.fetch_add(1, Ordering::Relaxed));
        self.patiently(&format!("{what} {body} done"), || {
            let call = self.http.post(&url).bearer_auth(self.token("operator", "op")).header("idempotency-key", &key);
            let sent = call.json(body).send();
            let (status, text) =
                sent.map_or((0, String::new()), |reply| (reply.status().as_u16(), reply.text().unwrap()));
            answer = text;
            assert!(status != 404 && status != 422, "{what}: {answer}");
            (200..300).contains(&status)
        });
    }

    /// Where everything lies: the dev folder is `dev` in it.
    #[allow(dead_code, reason = "each test binary uses its own part")]
    pub fn folder(&self) -> &std::path::Path {
        self.folder.path()
    }

    /// Base URL of a node's front door.
    #[allow(dead_code, reason = "each test binary uses its own part")]
    pub fn api(&self, node: u16) -> String {
        format!("http://127.0.0.1:{}", self.port + node - 1)
    }

    #[allow(dead_code, reason = "each test binary uses its own part")]
    pub fn sandbox_port(&self) -> u16 {
        self.sandbox
    }

    /// The data folder of a node.
    pub fn data_folder(&self, node: u16) -> std::path::PathBuf {
        self.folder.path().join(format!("dev/node-{node}"))
    }

    /// What a node that was started again has logged.
    pub fn log_of(&self, node: u16) -> String {
        std::fs::read_to_string(self.folder.path().join(format!("again-{node}.log"))).unwrap_or_default()
    }

    /// From here on nodes are started without what the first were told besides.
    pub fn forget_extra(&mut self) {
        self.extra.clear();
    }

    /// A membership command of an operator.
    pub fn operate(&self, arguments: &[&str]) -> std::process::Output {
        let apis =
            (0..self.count).flat_map(|place| ["--api".to_owned(), format!("http://127.0.0.1:{}", self.port + place)]);
        let key = self.folder.path().join("dev/keys/jwt.key");
        let mut command = Command::new(env!("CARGO_BIN_EXE_bojagi"));
        command.arg("cluster").args(arguments).args(apis).arg("--key-file").arg(key).stdin(Stdio::null());
        command.output().unwrap()
    }

    /// The node that leads the most shards.
    pub fn busiest(&self) -> u16 {
        let view = self.any_view().unwrap();
        let leads = |node: &u16| view["nodes"][usize::from(*node) - 1]["leads"].as_u64().unwrap_or(0);
        (1..=self.count).max_by_key(leads).unwrap()
    }

    /// Moves the clock through a node; false when that node did not live to answer.
    pub fn advance(&self, node: u16, seconds: i64) -> bool {
        let url = format!("http://127.0.0.1:{}/v1/dev/clock", self.port + node - 1);
        let client = reqwest::blocking::Client::builder().timeout(Duration::from_secs(60)).build().unwrap();
        let moved = client.post(url).json(&json!({ "advance_seconds": seconds })).send();
        moved.inspect_err(|error| eprintln!("the clock of node {node}: {error:?}")).is_ok()
    }

    /// Effective sends of a gift by the sandbox's ledger.
    pub fn sends(&self, id: &str) -> i64 {
        let url = format!("http://127.0.0.1:{}/ledger?kind=message&reference_prefix={id}&limit=1000", self.sandbox);
        let page: Value = self.http.get(url).send().unwrap().json().unwrap();
        let rows = page["items"].as_array().cloned().unwrap_or_default();
        rows.iter().filter(|row| row["purpose"] == "gift").filter_map(|row| row["effective"].as_i64()).sum()
    }

    pub fn each_is_sent_once(&self, gifts: &[String]) {
        let mut unsent: Vec<&String> = gifts.iter().collect();
        self.patiently("all of them sent", || {
            unsent.retain(|id| self.sends(id) == 0);
            unsent.is_empty()
        });
        for id in gifts {
            assert_eq!(self.sends(id), 1, "{id}");
        }
    }
}

impl Drop for Nodes {
    fn drop(&mut self) {
        for child in self.again.get_mut().unwrap() {
            let _gone = child.kill();
            let _status = child.wait();
        }
        let group = format!("-{}", self.parent.id());
        let _killed = Command::new("kill").args(["-9", "--", &group]).status();
        let _status = self.parent.wait();
    }
}

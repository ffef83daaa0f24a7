//! A sandbox on free ports with a clock that stands still until it is moved, and a plain HTTP client.

use bojagi::sandbox::{Sandbox, SandboxError, SandboxHandle, SandboxOptions};
use bojagi::types::time::{BootMillis, Clock, Millis, Timestamp};
use bytes::Bytes;
use http::{HeaderMap, Method, Request};
use http_body_util::{BodyExt as _, Full};
use hyper_util::client::legacy::{Client, connect::HttpConnector};
use hyper_util::rt::TokioExecutor;
use serde_json::Value;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;
use tempfile::TempDir;
use tokio::sync::watch;

/// 2026-12-25T05:00:00Z.
pub const START: Timestamp = Timestamp(1_798_174_800_000);

pub struct TestClock {
    now: AtomicI64,
    moves: watch::Sender<u64>,
}

impl TestClock {
    pub fn advance(&self, span: Millis) {
        self.now.fetch_add(span.0, Ordering::SeqCst);
        self.moves.send_modify(|moves| *moves += 1);
    }
}

impl Clock for TestClock {
    fn now(&self) -> Timestamp {
        Timestamp(self.now.load(Ordering::SeqCst))
    }
    fn boot(&self) -> BootMillis {
        BootMillis(0)
    }
    fn moved(&self) -> watch::Receiver<u64> {
        self.moves.subscribe()
    }
}

pub struct Bench {
    pub sandbox: Option<SandboxHandle>,
    pub clock: Arc<TestClock>,
    pub dir: TempDir,
    client: Client<HttpConnector, Full<Bytes>>,
}

pub struct Reply {
    pub status: u16,
    pub headers: HeaderMap,
    pub text: String,
}

impl Reply {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|_| panic!("not JSON: {} {}", self.status, self.text))
    }
}

pub fn start_at(dir: &Path, clock: Arc<TestClock>, targets: Vec<String>) -> Result<SandboxHandle, SandboxError> {
    Sandbox::start(SandboxOptions {
        http_addr: "127.0.0.1:0".parse().unwrap(),
        smtp_addr: "127.0.0.1:0".parse().unwrap(),
        data_dir: dir.to_owned(),
        webhook_targets: targets,
        clock,
        seed: 7,
    })
}

impl Bench {
    pub fn start() -> Self {
        Self::telling(Vec::new())
    }

    pub fn telling(targets: Vec<String>) -> Self {
        let clock = Arc::new(TestClock { now: AtomicI64::new(START.0), moves: watch::channel(0).0 });
        Self::made(TempDir::new().unwrap(), clock, targets)
    }

    /// A sandbox on a folder that exists already.
    pub fn on(dir: TempDir, clock: Arc<TestClock>) -> Self {
        Self::made(dir, clock, Vec::new())
    }

    fn made(dir: TempDir, clock: Arc<TestClock>, targets: Vec<String>) -> Self {
        let sandbox = start_at(dir.path(), clock.clone(), targets).unwrap();
        let client = Client::builder(TokioExecutor::new()).build_http();
        Self { sandbox: Some(sandbox), clock, dir, client }
    }

    pub fn handle(&self) -> &SandboxHandle {
        self.sandbox.as_ref().expect("it runs")
    }

    /// Stops the sandbox and starts it again on the same folder.
    pub async fn restart(&mut self) {
        self.sandbox.take().expect("it runs").shutdown().await;
        self.sandbox = Some(start_at(self.dir.path(), self.clock.clone(), Vec::new()).unwrap());
    }

    /// Moves the clock and waits until everything that came due is out.
    pub async fn advance(&self, span: Millis) {
        self.clock.advance(span);
        self.settle().await;
    }

    pub async fn settle(&self) {
        for _ in 0..2_000 {
            if self.handle().quiet() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        panic!("the sandbox never came to rest");
    }

    /// The reply, or nothing when the connection was closed without one.
    pub async fn try_call(&self, method: Method, path: &str, headers: &[(&str, &str)], body: &str) -> Option<Reply> {
        let uri = format!("http://{}{path}", self.handle().http_addr());
        let mut request = Request::builder().method(method).uri(uri);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Full::new(Bytes::from(body.to_owned()))).unwrap();
        let response = self.client.request(request).await.ok()?;
        let (head, body) = response.into_parts();
        let body = body.collect().await.ok()?.to_bytes();
        Some(Reply {
            status: head.status.as_u16(),
            headers: head.headers,
            text: String::from_utf8(body.to_vec()).unwrap(),
        })
    }

    pub async fn call(&self, method: Method, path: &str, headers: &[(&str, &str)], body: &str) -> Reply {
        self.try_call(method, path, headers, body).await.expect("a reply")
    }

    pub async fn get(&self, path: &str) -> Value {
        self.call(Method::GET, path, &[], "").await.json()
    }

    pub async fn fault(&self, order: &str) -> Value {
        let reply = self.call(Method::POST, "/faults", &[], order).await;
        assert_eq!(reply.status, 201, "{}", reply.text);
        reply.json()
    }

    pub async fn clear_faults(&self) {
        assert_eq!(self.call(Method::DELETE, "/faults", &[], "").await.status, 200);
    }

    /// The one item of the ledger whose reference begins so.
    pub async fn item(&self, prefix: &str) -> Value {
        let page = self.get(&format!("/ledger?reference_prefix={prefix}")).await;
        let items = page["items"].as_array().unwrap();
        assert_eq!(items.len(), 1, "{page}");
        items[0].clone()
    }

    /// `requests` and `effective` of one item.
    pub async fn counts(&self, prefix: &str) -> (u64, u64) {
        let item = self.item(prefix).await;
        (item["requests"].as_u64().unwrap(), item["effective"].as_u64().unwrap())
    }
}

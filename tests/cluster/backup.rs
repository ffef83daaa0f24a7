//! A cluster is backed up while it takes gifts, and restored into a new cluster of one, which another node joins.

use crate::nodes::{Ended, Nodes};
use crate::support::ports;
use serde_json::Value;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

fn bojagi(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_bojagi")).args(arguments).stdin(Stdio::null()).output().unwrap()
}

fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// The nodes of the new cluster, started by `bojagi dev`.
struct Restored {
    parent: Child,
    port: u16,
    http: reqwest::blocking::Client,
}

impl Restored {
    /// Starts a dev folder whose first node was restored, and a second that joins it.
    fn start(dev: &Path, sandbox: u16) -> Self {
        use std::os::unix::process::CommandExt;
        let (port, cluster) = (ports::free(2), ports::free(2));
        let log = std::fs::File::create(dev.with_extension("log")).unwrap();
        let parent = Command::new(env!("CARGO_BIN_EXE_bojagi"))
            .args(["dev", "--nodes", "2", "--no-sandbox", "--shards", "16", "--cache-mib", "32", "--data"])
            .arg(dev)
            .args(["--port", &port.to_string(), "--sandbox-port", &sandbox.to_string()])
            .args(["--cluster-port", &cluster.to_string()])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .process_group(0)
            .spawn()
            .unwrap();
        let http = reqwest::blocking::Client::builder().timeout(Duration::from_secs(5)).build().unwrap();
        Self { parent, port, http }
    }

    fn get(&self, node: u16, path: &str, token: &str) -> Option<Value> {
        let url = format!("http://127.0.0.1:{}{path}", self.port + node - 1);
        self.http.get(url).bearer_auth(token).send().ok()?.error_for_status().ok()?.json().ok()
    }
}

impl Drop for Restored {
    fn drop(&mut self) {
        let group = format!("-{}", self.parent.id());
        let _killed = Command::new("kill").args(["-9", "--", &group]).status();
        let _status = self.parent.wait();
    }
}

/// Its shards are waited for, and everything that was acknowledged is there: the gifts and the product. Which it was.
fn without_its_busiest_node(three: &Nodes, gifts: usize) -> u16 {
    let folder = three.folder();
    let at = |name: &str| folder.join(name).display().to_string();
    let busiest = three.busiest();
    let apis: Vec<String> = (0..3).map(|place| three.api((busiest - 1 + place) % 3 + 1)).collect();
    let (key, to, keys) = (at("dev/keys/jwt.key"), at("second"), at("second-keys"));
    let mut backup = vec!["cluster", "backup", "--key-file", &key, "--to", &to, "--keys-to", &keys];
    apis.iter().for_each(|api| backup.extend(["--api", api]));
    three.kill(busiest);
    let backed_up = bojagi(&backup);
    assert!(backed_up.status.success(), "{}\n{}", said(&backed_up), three.logs());
    let (data, master) = (at("second-node"), at("dev/keys/master.key"));
    let node = ["--data", &data, "--master-key-file", &master];
    let restored = bojagi(&[&["cluster", "restore", "--yes", "--from", &to, "--keys", &keys], &node[..]].concat());
    let all = format!(": {} entities in 16 shards", gifts + 1);
    assert!(restored.status.success() && said(&restored).contains(&all), "not {all}: {}", said(&restored));
    let verified = bojagi(&[&["verify"], &node[..]].concat());
    assert!(verified.status.success(), "{}", said(&verified));
    busiest
}

#[test]
fn a_cluster_under_load_is_backed_up_and_restored_into_a_new_one_that_grows() {
    let three = Nodes::start(3);
    three.until_spread();
    let (user, operator) = (three.token("user", "u-1"), three.token("operator", "op"));
    let folder = three.folder();
    let at = |name: &str| folder.join(name).display().to_string();
    let before = three.reserve(40, "before", 60, |_| {});
    let (taken, done) = (AtomicUsize::new(0), AtomicBool::new(false));
    let backed_up = std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                taken.fetch_add(10, Ordering::Relaxed);
                three.reserve(10, &format!("during{}", taken.load(Ordering::Relaxed)), 60, |_| {});
            }
        });
        let ended = Ended(&done);
        three.patiently("some load", || taken.load(Ordering::Relaxed) > 10);
        let (key, api) = (at("dev/keys/jwt.key"), three.api(2));
        let (to, keys) = (at("backup"), at("backup-keys"));
        let backup =
            || bojagi(&["cluster", "backup", "--api", &api, "--key-file", &key, "--to", &to, "--keys-to", &keys]);
        let first = backup();
        drop(ended);
        let again = backup();
        assert!(!again.status.success() && said(&again).contains("exists already"), "{}", said(&again));
        first
    });
    assert!(backed_up.status.success(), "{}\n{}", said(&backed_up), three.logs());

    // Into a dev folder of its own, under the same keys.
    std::fs::create_dir_all(folder.join("new/keys")).unwrap();
    for name in ["jwt.key", "master.key"] {
        std::fs::copy(folder.join("dev/keys").join(name), folder.join("new/keys").join(name)).unwrap();
    }
    let data = at("new/node");
    let (from, keys) = (at("backup"), at("backup-keys"));
    let restore = ["cluster", "restore", "--from", &from, "--keys", &keys, "--data", &data];
    let unasked = bojagi(&restore);
    assert!(!unasked.status.success() && said(&unasked).contains("--yes"), "{}", said(&unasked));
    let restored = bojagi(&[&restore[..], &["--yes"]].concat());
    assert!(restored.status.success(), "{}", said(&restored));
    assert!(said(&restored).contains("compare with the providers' ledgers"), "{}", said(&restored));
    let twice = bojagi(&[&restore[..], &["--yes"]].concat());
    assert!(!twice.status.success() && said(&twice).contains("exists already"), "{}", said(&twice));
    let verified = bojagi(&["verify", "--data", &data]);
    assert!(verified.status.success(), "{}", said(&verified));

    let killed = without_its_busiest_node(&three, before.len() + taken.load(Ordering::Relaxed));

    // The old cluster is gone for good.
    (1..=3).filter(|node| *node != killed).for_each(|node| three.kill(node));
    let two = Restored::start(&folder.join("new"), three.sandbox_port());
    three.patiently("two replicas of each shard", || {
        let view = two.get(1, "/v1/ops/cluster", &operator).unwrap_or_default();
        let shards = view["shards"].as_array().cloned().unwrap_or_default();
        let both = |shard: &Value| shard["replicas"].as_array().is_some_and(|replicas| replicas.len() == 2);
        shards.len() == 16 && shards.iter().all(both)
    });
    for node in [1, 2] {
        for id in &before {
            let mut gift = Value::Null;
            three.patiently("the gift", || {
                gift = two.get(node, &format!("/v1/gifts/{id}"), &user).unwrap_or_default();
                !gift.is_null()
            });
            assert_eq!(gift["message"], "생일 축하해!", "personal data: {gift}");
        }
    }
}

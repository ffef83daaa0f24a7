//! A cluster as an operator sets it up: certificates, `init`, tokens, `join`, `serve`, and the membership commands, all
//! through the binary and mutual TLS.

use crate::support::{self, Process, Stack, spawn_node};
use serde_json::{Value, json};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

const NAMES: [&str; 3] = ["seoul-1", "seoul-2", "seoul-3"];
const LOOKS_MAX: u32 = 600;

struct Production {
    stack: Stack,
    apis: Vec<String>,
    links: Vec<String>,
    nodes: Vec<Option<Process>>,
    operator: String,
    user: String,
}

fn secret(folder: &Path, name: &str, text: &str) -> PathBuf {
    let path = folder.join(name);
    std::fs::write(&path, text).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    path
}

fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

impl Production {
    fn configured() -> Self {
        let stack = Stack::start();
        let folder = stack.data_folder();
        secret(&folder, "jwt", &"ab".repeat(32));
        secret(&folder, "master", &"cd".repeat(32));
        secret(&folder, "toss", "test_sk_dev");
        secret(&folder, "nhn", "dev-secret");
        let key = bojagi::app::token_key(&[0xab; 32]);
        let mint = |role, sub| key.mint(sub, role, 3_600).unwrap();
        let operator = mint(bojagi::api::auth::Role::Operator, "op-1");
        let user = mint(bojagi::api::auth::Role::User, "u-1");
        let addresses = || (0..3).map(|_| support::free_address()).collect::<Vec<_>>();
        let production =
            Self { stack, apis: addresses(), links: addresses(), nodes: vec![None, None, None], operator, user };
        for node in 0..3 {
            production.configure(node, "");
        }
        production
    }

    fn path(&self, name: &str) -> PathBuf {
        self.stack.data_folder().join(name)
    }

    /// The example's configuration of a node, with this machine's places in it.
    fn configure(&self, node: usize, folder: &str) {
        let name = NAMES[node];
        let example = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("cluster-config/three-node/{name}.toml"));
        let text = std::fs::read_to_string(example).unwrap();
        let place = |name: &str| self.path(name).display().to_string();
        let mut configured: Vec<String> = Vec::new();
        let mut section = "";
        for line in text.lines() {
            section = if line.starts_with('[') { line } else { section };
            let key = line.split(" = ").next().unwrap_or_default();
            let value = match (section, key) {
                ("[node]", "data") => Some(place(&format!("{name}{folder}"))),
                ("[node]", "listen") => Some(self.apis[node].clone()),
                ("[cluster]", "listen" | "address") => Some(self.links[node].clone()),
                ("[cluster]", "api_url") => Some(format!("http://{}", self.apis[node])),
                ("[cluster.tls]", "ca") => Some(place("certs/ca.crt")),
                ("[cluster.tls]", "cert") => Some(place(&format!("certs/{name}.crt"))),
                ("[cluster.tls]", "key") => Some(place(&format!("certs/{name}.key"))),
                ("[providers.nhn_alimtalk]" | "[providers.solapi]" | "[providers.toss]", "base_url") => {
                    Some(self.stack.sandbox.clone())
                }
                ("[providers.nhn_alimtalk]", "app_key") => Some("dev-app".to_owned()),
                ("[node]", "shards") => {
                    configured.push("shards = 8".to_owned());
                    continue;
                }
                _ => None,
            };
            configured.push(match value {
                Some(value) => format!("{key} = \"{value}\""),
                None => line
                    .replace("/etc/bojagi/jwt.key", &place("jwt"))
                    .replace("/etc/bojagi/master.key", &place("master")),
            });
        }
        let secrets = [
            "NHN_SECRET_KEY",
            "NHN_WEBHOOK_SIGNATURE",
            "SOLAPI_API_SECRET",
            "SOLAPI_WEBHOOK_SECRET",
            "TOSS_SECRET_KEY",
        ];
        let mut text = configured.join("\n");
        for name in secrets {
            let file = if name.starts_with("TOSS") { "toss" } else { "nhn" };
            text = text.replace(&format!("env = \"BOJAGI_{name}\""), &format!("file = \"{}\"", place(file)));
        }
        std::fs::write(self.path(&format!("{name}.toml")), text).unwrap();
    }

    fn bojagi(&self, arguments: &[&str]) -> Output {
        Command::new(env!("CARGO_BIN_EXE_bojagi")).args(arguments).output().unwrap()
    }

    /// A command on a node's machine.
    fn on(&self, node: usize, command: &str, more: &[&str]) -> Output {
        let config = self.path(&format!("{}.toml", NAMES[node])).display().to_string();
        self.bojagi(&[&["cluster", command, "--config", &config], more].concat())
    }

    /// An operator's command through any live node.
    fn operate(&self, arguments: &[&str]) -> Output {
        let apis: Vec<String> = self.apis.iter().map(|api| format!("http://{api}")).collect();
        let key = self.path("jwt").display().to_string();
        let reach = ["--key-file", &key, "--api", &apis[0], "--api", &apis[1], "--api", &apis[2]];
        self.bojagi(&[&["cluster"], arguments, &reach].concat())
    }

    fn serve(&mut self, node: usize) {
        let config = self.path(&format!("{}.toml", NAMES[node])).display().to_string();
        let log = self.path(&format!("{}.log", NAMES[node]));
        let mut process = spawn_node(&["serve".to_owned(), "--config".to_owned(), config], &log);
        assert!(process.says("Bojagi serves."), "{}", std::fs::read_to_string(&log).unwrap());
        self.nodes[node] = Some(process);
    }

    fn token(&self) -> String {
        let mut token = String::new();
        self.patiently("a join token", || {
            let made = self.operate(&["token"]);
            token = String::from_utf8(made.stdout.clone()).unwrap().trim().to_owned();
            made.status.success()
        });
        token
    }

    fn view(&self) -> Value {
        serde_json::from_slice(&self.operate(&["status", "--json"]).stdout).unwrap_or_default()
    }

    fn patiently(&self, what: &str, mut holds: impl FnMut() -> bool) {
        for _ in 0..LOOKS_MAX {
            if holds() {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(100));
        }
        let log = |name: &&str| std::fs::read_to_string(self.path(&format!("{name}.log"))).unwrap_or_default();
        panic!("never {what}\n{:#}\n{}", self.view(), NAMES.iter().map(log).collect::<Vec<_>>().join("\n--\n"));
    }

    fn until_replicated(&self, nodes: usize) {
        self.patiently("each shard with its replicas", || {
            let view = self.view();
            let shards = view["shards"].as_array().cloned().unwrap_or_default();
            let whole = |shard: &Value| shard["replicas"].as_array().is_some_and(|replicas| replicas.len() == nodes);
            shards.len() == 8 && shards.iter().all(|shard| !shard["leader"].is_null() && whole(shard))
        });
    }

    fn reserve(&self, node: usize, key: &str) -> String {
        #[allow(clippy::disallowed_methods, reason = "a production node runs on the wall clock")]
        let at = jiff::Timestamp::now() + jiff::SignedDuration::from_hours(1);
        let mut body = self.stack.gift_body("americano", &at.to_string());
        body["channels"] = json!(["kakao"]);
        let mut id = String::new();
        self.patiently("a reservation", || {
            let url = format!("http://{}/v1/gifts", self.apis[node]);
            let reply = self.stack.call("POST", &url, Some(&self.user), Some(key), Some(body.clone()));
            assert!(reply.status == 201 || reply.status == 503 || reply.status == 409, "{}", reply.text);
            id = reply.body["id"].as_str().unwrap_or_default().to_owned();
            reply.status == 201
        });
        id
    }
}

#[test]
fn an_operator_founds_a_cluster_grows_it_loses_a_node_and_replaces_it() {
    let mut three = Production::configured();
    let certs = three.path("certs").display().to_string();
    let made = three.bojagi(&[
        "cluster",
        "certs",
        "--dir",
        &certs,
        "--cluster",
        "gifts",
        "--node",
        NAMES[0],
        "--node",
        NAMES[1],
        "--node",
        NAMES[2],
    ]);
    assert!(made.status.success(), "{}", said(&made));

    // Nothing is founded by a start, nothing twice, and nobody joins without a token.
    let config = three.path("seoul-1.toml").display().to_string();
    assert!(!three.bojagi(&["serve", "--config", &config]).status.success());
    let founded = three.on(0, "init", &[]);
    assert!(founded.status.success(), "{}", said(&founded));
    assert!(said(&three.on(0, "init", &[])).contains("nothing was founded"));
    three.serve(0);
    let via = three.links[0].clone();
    let refused = three.on(1, "join", &["--via", &via, "--token", &"00".repeat(16)]);
    assert!(!refused.status.success() && !three.path("seoul-2").exists(), "{}", said(&refused));

    for node in [1, 2] {
        let token = three.token();
        let joined = three.on(node, "join", &["--via", &via, "--token", &token]);
        assert!(joined.status.success(), "{}", said(&joined));
        three.serve(node);
    }
    three.until_replicated(3);
    certificates_are_told_of(&three);
    let product = json!({"name": "Americano", "price": {"value": 4500, "currency": "KRW"}});
    let url = format!("http://{}/v1/ops/products/americano", three.apis[1]);
    three.patiently("a product", || {
        three.stack.call("PUT", &url, Some(&three.operator), None, Some(product.clone())).status < 300
    });
    replace_a_lost_machine(&mut three, &via);
    leave_as_planned(&three);
}

/// Until when each node's links are good, as it says itself.
fn certificates_are_told_of(three: &Production) {
    let view = three.view();
    for node in 0..3 {
        let told = view["nodes"][node]["health"]["certificates"].as_array().cloned().unwrap_or_default();
        let days = told.iter().map(|end| (end["of"].clone(), end["seconds_left"].as_i64().unwrap_or(0) / 86_400));
        assert_eq!(days.collect::<Vec<_>>(), [(json!("node"), 824), (json!("ca"), 3_649)], "{told:?}");
    }
    let metrics = three.stack.call("GET", &format!("http://{}/metrics", three.apis[0]), None, None, None);
    assert!(metrics.text.contains("bojagi_certificate_seconds{of=\"node\"} 71"), "{}", metrics.text);
}

/// The machine is lost with its disk. Its replacement is a new node under the same name.
fn replace_a_lost_machine(three: &mut Production, via: &str) {
    let first = three.reserve(0, "one");
    three.nodes[2] = None;
    let second = three.reserve(1, "two");
    std::fs::remove_dir_all(three.path("seoul-3")).unwrap();
    three.patiently("the loss noticed", || three.view()["nodes"][2]["state"] == "gone");
    let removed = three.operate(&["remove", "3", "--force", "--yes"]);
    assert!(removed.status.success(), "{}", said(&removed));
    let token = three.token();
    let joined = three.on(2, "join", &["--via", via, "--token", &token]);
    assert!(said(&joined).contains("node 4"), "{}", said(&joined));
    three.serve(2);
    three.until_replicated(3);
    for id in [&first, &second] {
        let url = format!("http://{}/v1/gifts/{id}", three.apis[2]);
        three.patiently("the gift", || three.stack.call("GET", &url, Some(&three.user), None, None).status == 200);
    }
}

/// Drained, and taken back.
fn leave_as_planned(three: &Production) {
    let drained = three.operate(&["drain", "2", "--yes"]);
    assert!(drained.status.success(), "{}", said(&drained));
    three.patiently("node 2 empty", || {
        let view = three.view();
        let nodes = view["nodes"].as_array().cloned().unwrap_or_default();
        nodes.iter().any(|node| node["id"] == 2 && node["leads"] == 0)
    });
    let status = three.operate(&["status"]);
    assert!(said(&status).contains("draining"), "{}", said(&status));
    let undone = three.operate(&["drain", "2", "--undo", "--yes"]);
    assert!(undone.status.success(), "{}", said(&undone));
    assert!(!three.operate(&["transfer", "0", "99"]).status.success());
}

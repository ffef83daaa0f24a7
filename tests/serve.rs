//! `bojagi serve`: the production node from a configuration file, without anything of dev mode.

mod support;

use serde_json::json;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use support::{Stack, spawn_node};

fn secret(folder: &Path, name: &str, text: &str) -> String {
    let path = folder.join(name);
    std::fs::write(&path, text).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    format!("{{ file = \"{}\" }}", path.display())
}

fn configuration(stack: &Stack, listen: &str) -> String {
    let folder = stack.data_folder();
    let (jwt, master) = (secret(&folder, "jwt", &"ab".repeat(32)), secret(&folder, "master", &"cd".repeat(32)));
    let (toss, nhn) = (secret(&folder, "toss", "test_sk_dev"), secret(&folder, "nhn", "dev-secret"));
    let (data, sandbox) = (folder.join("production").display().to_string(), &stack.sandbox);
    format!(
        r#"
[node]
data = "{data}"
listen = "{listen}"
public_url = "https://gift.example"
shards = 8
create = true
[auth]
jwt_key = {jwt}
[vault]
master_key = {master}
[providers.nhn_alimtalk]
base_url = "{sandbox}"
app_key = "dev-app"
secret_key = {nhn}
sender_key = "0000000000000000000000000000000000000000"
[providers.toss]
base_url = "{sandbox}"
secret_key = {toss}
"#
    )
}

#[test]
fn a_production_node_takes_gifts_and_has_no_dev_routes() {
    let stack = Stack::start();
    let listen = support::free_address();
    let path = stack.data_folder().join("serve.toml");
    std::fs::write(&path, configuration(&stack, &listen)).unwrap();
    let log = stack.data_folder().join("serve.log");
    let mut node = spawn_node(&["serve".to_owned(), "--config".to_owned(), path.display().to_string()], &log);
    assert!(node.says("Bojagi serves."), "{}", std::fs::read_to_string(&log).unwrap());
    let base = format!("http://{listen}");
    let dev = stack.call("POST", &format!("{base}/v1/dev/clock"), None, None, Some(json!({"advance_seconds": 60})));
    assert_eq!(dev.status, 404, "{}", dev.text);
    let key = bojagi::app::token_key(&[0xab; 32]);
    let mint = |role, sub| key.mint(sub, role, 60).unwrap();
    let operator = mint(bojagi::api::auth::Role::Operator, "op-1");
    let product = json!({"name": "Americano", "price": {"value": 4500, "currency": "KRW"}});
    let put = stack.call("PUT", &format!("{base}/v1/ops/products/americano"), Some(&operator), None, Some(product));
    assert!((200..300).contains(&put.status), "{}", put.text);
    #[allow(clippy::disallowed_methods, reason = "a production node runs on the wall clock")]
    let in_an_hour = jiff::Timestamp::now() + jiff::SignedDuration::from_hours(1);
    let mut body = stack.gift_body("americano", &in_an_hour.to_string());
    body["channels"] = json!(["kakao"]);
    let user = mint(bojagi::api::auth::Role::User, "u-1");
    let reserved = stack.call("POST", &format!("{base}/v1/gifts"), Some(&user), Some("one"), Some(body));
    assert_eq!(reserved.status, 201, "{}", reserved.text);
    // The dev stack's key is not this node's.
    let foreign = stack.call("GET", &format!("{base}/v1/gifts"), Some(&stack.user), None, None);
    assert_eq!(foreign.status, 401, "{}", foreign.text);
}

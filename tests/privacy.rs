//! INV-11: no personal data outside its seal. Canaries go through a whole life, then the data folder and the logs are
//! searched for them.

mod support;

use serde_json::json;
use std::path::Path;
use support::Stack;

const NAME: &str = "카나리아이름";
const PHONE: &str = "010-9876-5432";
const PHONE_DIGITS: [&str; 3] = ["01098765432", "821098765432", "1098765432"];
const MESSAGE: &str = "canary-message-8c1d";
const PAYMENT_KEY: &str = "tok_canary_77aa";

fn files(folder: &Path, found: &mut Vec<std::path::PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            // The sandbox is the outside world: it knows what it was sent.
            if path.file_name().is_some_and(|name| name != "sandbox") {
                files(&path, found);
            }
        } else {
            found.push(path);
        }
    }
}

fn holds(haystack: &[u8], needle: &str) -> bool {
    memchr::memmem::find(haystack, needle.as_bytes()).is_some()
}

#[test]
fn no_canary_is_found_in_the_data_folder_or_the_logs() {
    let mut stack = Stack::start();
    stack.put_product("americano", 4_500, 30);
    let mut body = stack.gift_body("americano", &stack.in_minutes(30));
    body["recipient"] = json!({"name": NAME, "phone": PHONE});
    body["message"] = json!(MESSAGE);
    body["payment"]["payment_key"] = json!(PAYMENT_KEY);
    let id = stack.reserved(body);
    stack.advance(40 * 60);
    assert_eq!(stack.sends(&id), 1);
    let token = stack.link(&id);
    let accepted = stack.link_call(&token, "accept", None);
    let code = accepted.body["voucher"]["code"].as_str().unwrap().to_owned();
    assert_eq!(stack.redeem(&code, "tx-1").status, 200);
    // The node says what it kept: make it write everything, then look at the bytes.
    stack.kill_node();
    stack.start_node();
    assert_eq!(stack.gift(&id)["message"], MESSAGE, "the seal opens after a restart");
    stack.kill_node();

    let mut needles = vec![NAME, PHONE, MESSAGE, PAYMENT_KEY, token.as_str(), code.as_str()];
    needles.extend(PHONE_DIGITS);
    let mut places = Vec::new();
    files(&stack.data_folder(), &mut places);
    let mut looked_at = 0;
    for path in places {
        if path.file_name().is_some_and(|name| name == "sandbox.log") {
            continue;
        }
        let bytes = std::fs::read(&path).unwrap();
        looked_at += bytes.len();
        for needle in &needles {
            assert!(!holds(&bytes, needle), "{needle} stands in {}", path.display());
        }
    }
    assert!(looked_at > 10_000, "there is something to search");
}

//! The data folder as an operator meets it: in use, foreign, damaged, backed up, restored, verified, salvaged.

mod support;

use std::path::Path;
use std::process::{Command, Output};
use support::Stack;

fn bojagi(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_bojagi")).args(arguments).output().unwrap()
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// A stopped node with one paid gift.
fn stopped() -> (Stack, String) {
    let mut stack = Stack::start();
    stack.put_product("americano", 4_500, 30);
    let id = stack.reserved(stack.gift_body("americano", &stack.in_minutes(30)));
    stack.await_status(&id, "scheduled");
    stack.kill_node();
    (stack, id)
}

#[test]
fn a_backup_restores_gift_personal_data_and_send() {
    let (mut stack, id) = stopped();
    let data = stack.data_folder();
    let (node, file, keys) = (data.join("node"), data.join("b.backup"), data.join("b.keys"));
    let clean = bojagi(&["verify", "--data", text(&node)]);
    assert!(clean.status.success(), "{}", said(&clean));
    let made = bojagi(&["backup", "--data", text(&node), "--to", text(&file), "--keys-to", text(&keys)]);
    assert!(made.status.success(), "{}", said(&made));
    std::fs::rename(&node, data.join("lost")).unwrap();
    let restored = bojagi(&["restore", "--data", text(&node), "--from", text(&file), "--keys", text(&keys)]);
    assert!(restored.status.success(), "{}", said(&restored));
    stack.start_node();
    assert_eq!(stack.gift(&id)["message"], "생일 축하해!");
    stack.advance(40 * 60);
    assert_eq!(stack.sends(&id), 1, "{}", stack.gift(&id));
}

#[test]
fn a_folder_in_use_and_a_port_in_use_are_named() {
    let stack = Stack::start();
    let node = stack.data_folder().join("node");
    let refused = bojagi(&["verify", "--data", text(&node)]);
    assert!(!refused.status.success());
    assert!(said(&refused).contains("in use by another process"), "{}", said(&refused));
    let above = bojagi(&["verify", "--data", text(&stack.data_folder())]);
    assert!(said(&above).contains("node in it is: give that one"), "{}", said(&above));
    let port = stack.api.rsplit(':').next().unwrap().to_owned();
    let refused = bojagi(&["dev", "--data", text(&stack.data_folder().join("other")), "--port", &port]);
    assert!(!refused.status.success());
    assert!(said(&refused).contains("is taken by another process"), "{}", said(&refused));
}

#[test]
fn a_foreign_folder_is_refused_and_left_alone() {
    let (stack, _) = stopped();
    let node = stack.data_folder().join("strange");
    std::fs::create_dir_all(&node).unwrap();
    std::fs::write(node.join("diary.txt"), "dear diary").unwrap();
    let key = stack.data_folder().join("keys/master.key");
    let refused = bojagi(&["verify", "--data", text(&node), "--master-key-file", text(&key)]);
    assert!(!refused.status.success());
    assert!(said(&refused).contains("not a Bojagi data folder"), "{}", said(&refused));
    assert_eq!(std::fs::read_dir(&node).unwrap().count(), 1);
}

#[test]
fn a_log_that_lost_acknowledged_writes_is_refused_and_salvage_says_what_is_lost() {
    let (stack, _) = stopped();
    let node = stack.data_folder().join("node");
    let log = node.join("log/db");
    let bytes = std::fs::read(&log).unwrap();
    let written = bytes.iter().rposition(|byte| *byte != 0).unwrap();
    let half = u64::try_from(written / 2).unwrap();
    std::fs::OpenOptions::new().write(true).open(&log).unwrap().set_len(half).unwrap();
    let refused = bojagi(&["verify", "--data", text(&node)]);
    assert!(!refused.status.success(), "{}", said(&refused));
    assert!(said(&refused).contains("salvage") || said(&refused).contains("restore"), "{}", said(&refused));
    let account = bojagi(&["salvage", "--data", text(&node)]);
    assert!(account.status.success(), "{}", said(&account));
    assert!(said(&account).contains("nothing was written"), "{}", said(&account));
    let rescued = stack.data_folder().join("rescued");
    let done = bojagi(&["salvage", "--data", text(&node), "--to", text(&rescued), "--accept-loss"]);
    assert!(done.status.success(), "{}", said(&done));
    let key = stack.data_folder().join("keys/master.key");
    let clean = bojagi(&["verify", "--data", text(&rescued), "--master-key-file", text(&key)]);
    assert!(clean.status.success(), "{}", said(&clean));
}

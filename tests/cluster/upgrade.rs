//! A cluster of the build before goes over to this one, node by node and under load, and then raises its feature level.
//! This binary plays both builds.

use crate::nodes::Nodes;
use bojagi::app::keys;
use bojagi::persistence::folder::{Folder, OpenOptions};
use bojagi::replication::entry::{EntryFormat, decode_entry, encode_records};
use bojagi::types::ids::{LogIndex, ShardId};
use bojagi::types::record::EntryBody;
use serde_json::{Value, json};
use std::ops::Range;

/// What makes a node the build before.
const OLD: [&str; 2] = ["--feature-levels", "1-1"];
const TOO_OLD: &str = "does not know the cluster's feature level 4";
const READ_BYTES: usize = 1 << 20;

fn until_back(three: &Nodes) {
    three.until_whole();
    three.until_spread();
}

fn upgrade(three: &Nodes, node: u16) {
    three.stop(node);
    three.start_again(node);
    until_back(three);
    three.until("its build known", |view| view["nodes"][usize::from(node) - 1]["feature_levels"] == json!([1, 4]));
}

/// Hands shards to a node, which then leads each of them.
fn hand_over(three: &Nodes, shards: Range<u16>, to: u16) {
    for shard in shards {
        three.until("the shard led there", |view| {
            let leads = view["shards"][usize::from(shard)]["leader"] == to;
            if !leads {
                let _asked_again = three.operate(&["transfer", &shard.to_string(), &to.to_string()]);
            }
            leads
        });
    }
}

fn said(output: &std::process::Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// What a stopped node's log holds: entries of the new format, and the bytes of all records in the old and the new one.
#[derive(Debug, Default)]
struct Written {
    dense_entries: usize,
    records: usize,
    plain_bytes: usize,
    dense_bytes: usize,
}

fn written(three: &Nodes, node: u16) -> Written {
    let path = three.data_folder(node);
    let master_key = Some(keys::read(&path.with_file_name("keys").join("master.key")).unwrap());
    let folder = Folder::open(&path, OpenOptions { master_key, ..OpenOptions::default() }).unwrap();
    let mut written = Written::default();
    for shard in (0..16).map(ShardId) {
        let mut next = folder.log.span(shard).truncated.0.next();
        loop {
            let entries = folder.log.entries(shard, next, LogIndex(u64::MAX), READ_BYTES).unwrap();
            let Some(last) = entries.last() else { break };
            next = last.index.next();
            for entry in entries.iter().filter(|entry| entry.entry_type == 0 && !entry.payload.is_empty()) {
                written.dense_entries += usize::from(entry.payload[0] == EntryFormat::Dense as u8);
                let EntryBody::Records { claim, records } = decode_entry(&entry.payload).unwrap() else { continue };
                written.records += records.len();
                written.plain_bytes += encode_records(EntryFormat::Plain, claim, &records).len();
                written.dense_bytes += encode_records(EntryFormat::Dense, claim, &records).len();
            }
        }
    }
    written
}

/// Node by node, back and forth, with leaders of either build over followers of the other.
fn go_over(three: &Nodes) {
    upgrade(three, 1);
    hand_over(three, 0..4, 1);
    hand_over(three, 4..8, 2);
    let refused = three.operate(&["finalize-upgrade", "--yes"]);
    assert!(!refused.status.success(), "{}", said(&refused));
    assert!(said(&refused).contains("the build of node 2 knows no feature level above 1"), "{}", said(&refused));
    upgrade(three, 2);
    hand_over(three, 8..12, 2);
    hand_over(three, 12..16, 3);
    // Until the level is raised there is a way back.
    three.stop(2);
    three.start_again_with(2, &OLD);
    until_back(three);
    upgrade(three, 2);
    upgrade(three, 3);
}

/// Makes a coupon campaign, an entity of a kind that the build before does not know.
fn make_campaign(three: &Nodes, starts_at: jiff::Timestamp) -> Option<(u16, Value)> {
    let ends_at = starts_at + jiff::Span::new().hours(24);
    let body = json!({
        "name": "선착순", "quantity": 2, "starts_at": starts_at.to_string(), "ends_at": ends_at.to_string(),
        "discount": {"amount": {"value": 1000, "currency": "KRW"}}, "valid_days": 7,
    });
    three.try_call(1, "/v1/coupon-campaigns", &three.token("operator", "op"), "campaign", &body)
}

#[test]
fn three_nodes_of_the_build_before_are_upgraded_in_turn_under_load_and_the_level_is_raised() {
    let mut three = Nodes::start_with(3, &OLD);
    three.forget_extra();
    three.until_spread();
    let mut gifts = three.under_load(|| go_over(&three));
    three.until("the level of before", |view| view["feature_level"] == 1 && view["feature_level_possible"] == 4);
    let starts_at = three.now();
    let (status, refusal) = make_campaign(&three, starts_at).unwrap();
    assert_eq!((status, &refusal["code"]), (503, &json!("unavailable")), "{refusal}");
    assert!(refusal["detail"].as_str().unwrap().contains("feature level 3"), "{refusal}");
    three.stop(3);
    let before = written(&three, 3);
    assert!(before.records > 0 && before.dense_entries == 0, "{before:?}");

    let raised = three.operate(&["finalize-upgrade", "--yes"]);
    assert!(said(&raised).contains("The feature level is 4."), "{}", said(&raised));
    gifts.extend(three.reserve(60, "f", 60, |_| {}));
    // Its folder has not heard of it; the others have.
    three.start_again_with(3, &OLD);
    three.patiently("refused by its peers", || three.log_of(3).contains(TOO_OLD));
    assert!(three.log_of(3).contains("a peer refuses this node's build"), "{}", three.logs());
    three.start_again(3);
    until_back(&three);
    // Its folder says so itself.
    three.stop(2);
    three.start_again_with(2, &OLD);
    three.patiently("refused at its start", || three.log_of(2).contains(TOO_OLD));
    three.start_again(2);
    until_back(&three);
    three.patiently("a kind that is known everywhere", || {
        make_campaign(&three, starts_at).is_some_and(|(status, _)| status == 201)
    });
    gifts.extend(three.reserve(60, "g", 60, |_| {}));
    assert!(three.advance(1, 61 * 60));
    three.each_is_sent_once(&gifts);
    three.stop(3);
    let after = written(&three, 3);
    println!("{} gifts; {after:?}", gifts.len());
    assert!(after.dense_entries > 0 && after.dense_bytes < after.plain_bytes, "{after:?}");
}

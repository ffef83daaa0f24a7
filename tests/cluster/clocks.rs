//! What a node must not be trusted with: a clock that is off, and a folder that was put back from a copy.

use crate::nodes::Nodes;
use serde_json::{Value, json};
use std::process::Command;
use std::time::Duration;

/// Real time in which a gift that could leave would have left.
const LONG_ENOUGH: Duration = Duration::from_secs(3);

#[test]
fn a_node_whose_clock_is_off_leads_nothing_and_nothing_leaves_early() {
    let three = Nodes::start(3);
    three.until_spread();
    three.stop(2);
    three.start_again_with(2, &["--clock-skew-ms", "600000"]);
    three.until("it says so and leads nothing", |view| {
        let node = &view["nodes"][1];
        node["state"] == "up"
            && node["health"]["clock"]["off"] == true
            && node["health"]["clock"]["behind_ms"].as_i64().is_some_and(|behind| behind < -590_000)
            && view["clock"]["off"] == json!([2])
            && node["leads"] == 0
    });
    assert!(three.log_of(2).contains("clock is off"), "{}", three.logs());
    let gifts = three.reserve(24, "a", 20, |_| {});
    // By its own clock they are due for five minutes.
    assert!(three.advance(1, 15 * 60));
    std::thread::sleep(LONG_ENOUGH);
    assert_eq!(gifts.iter().map(|id| three.sends(id)).sum::<i64>(), 0, "early");
    let leads = |view: &Value| view["nodes"][1]["leads"].as_u64();
    assert_eq!(three.any_view().as_ref().and_then(leads), Some(0), "it takes nothing back");
    assert!(three.advance(1, 6 * 60));
    three.each_is_sent_once(&gifts);
    three.stop(2);
    three.start_again(2);
    three.until_spread();
}

#[test]
fn a_folder_that_was_put_back_is_refused_and_the_others_go_on() {
    let three = Nodes::start(3);
    three.until_spread();
    three.stop(3);
    let (folder, copy) = (three.data_folder(3), three.data_folder(3).with_extension("copy"));
    let copied = |from: &std::path::Path, to: &std::path::Path| {
        assert!(Command::new("cp").arg("-a").args([from, to]).status().unwrap().success());
    };
    copied(&folder, &copy);
    three.start_again(3);
    three.until_spread();
    three.stop(3);
    std::fs::remove_dir_all(&folder).unwrap();
    copied(&copy, &folder);
    // Trying again does not help.
    for _ in 0..3 {
        three.start_again(3);
        three.patiently("refused", || three.log_of(3).contains("bojagi cluster remove 3 --force"));
        three.until("it is not there", |view| view["nodes"][2]["state"] != "up");
    }
    let gifts = three.reserve(12, "a", 20, |_| {});
    assert!(three.advance(1, 21 * 60));
    three.each_is_sent_once(&gifts);
}

//! What an operator plans: each node restarted in turn while clients go on.

use crate::nodes::Nodes;
use std::sync::atomic::{AtomicBool, Ordering};

#[test]
fn nodes_restart_in_turn_under_load_and_no_request_is_lost() {
    let three = Nodes::start(3);
    three.until_spread();
    let done = AtomicBool::new(false);
    let gifts = std::thread::scope(|scope| {
        let load = scope.spawn(|| {
            let mut gifts = Vec::new();
            while !done.load(Ordering::Relaxed) {
                gifts.extend(three.reserve(30, &format!("r{}", gifts.len()), 60, |_| {}));
            }
            gifts
        });
        for node in 1..=3 {
            three.stop(node);
            three.start_again(node);
            three.until_whole();
            three.until_spread();
        }
        done.store(true, Ordering::Relaxed);
        load.join().unwrap()
    });
    assert!(three.advance(1, 61 * 60));
    three.each_is_sent_once(&gifts);
}

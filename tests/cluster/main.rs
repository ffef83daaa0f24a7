//! Three nodes as real processes over ractor_cluster: gifts taken by any of them, a node killed in the middle of the
//! sending, and one killed while gifts are reserved. The sandbox's ledger has the last word.

mod nodes;
mod production;
#[path = "../support/mod.rs"]
mod support;

use nodes::Three;

#[test]
fn gifts_survive_the_death_of_a_node_while_they_are_reserved_and_while_they_are_sent() {
    let mut three = Three::start();
    let kill_at_forty = |number| {
        if number == 40 {
            three.kill(2);
        }
    };
    let first = three.reserve(120, "a", 20, kill_at_forty);
    three.start_again(2);
    three.until("all three there again", |view| view["nodes"][1]["state"] == "up");
    three.until("leaders on each node", |view| {
        let leads = |node: usize| view["nodes"][node]["leads"].as_u64().unwrap_or(0);
        (0..3).all(|node| leads(node) >= 4)
    });
    let second = three.reserve(120, "b", 20, |_| {});
    let all: Vec<String> = first.into_iter().chain(second).collect();
    std::thread::scope(|scope| {
        scope.spawn(|| three.advance(1, 21 * 60));
        // In the middle of it: some are sent, most are not.
        three.patiently("three of them sent", || all.iter().filter(|id| three.sends(id) > 0).take(3).count() == 3);
        three.kill(3);
    });
    // Attempts that were open at the kill are waited out by the clock that the gifts go by.
    for _ in 0..3 {
        three.advance(1, 20);
    }
    three.each_is_sent_once(&all);
}

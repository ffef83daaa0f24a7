//! What nobody planned: a node killed while gifts are reserved and while they are sent, lost with its disk, paused in the
//! middle, two of five lost at once, all lost at once.

use crate::nodes::Nodes;
use serde_json::json;

/// Everything that was due is sent, once the attempts that were open at the fault are waited out by the clock that gifts
/// go by.
fn settle(nodes: &Nodes, through: u16, gifts: &[String]) {
    for _ in 0..3 {
        assert!(nodes.advance(through, 20), "{}", nodes.logs());
    }
    nodes.each_is_sent_once(gifts);
}

/// Moves the clock to the instant of all gifts, and calls `fault` once some of them are sent and most are not.
fn in_the_middle(nodes: &Nodes, through: u16, gifts: &[String], fault: impl FnOnce()) {
    std::thread::scope(|scope| {
        scope.spawn(|| nodes.advance(through, 21 * 60));
        nodes.patiently("three of them sent", || gifts.iter().filter(|id| nodes.sends(id) > 0).take(3).count() == 3);
        fault();
    });
}

#[test]
fn gifts_survive_the_death_of_a_node_while_they_are_reserved_and_while_they_are_sent() {
    let three = Nodes::start(3);
    let kill_at_forty = |number| {
        if number == 40 {
            three.kill(2);
        }
    };
    let mut gifts = three.reserve(120, "a", 20, kill_at_forty);
    three.start_again(2);
    three.until_spread();
    gifts.extend(three.reserve(120, "b", 20, |_| {}));
    in_the_middle(&three, 1, &gifts, || three.kill(3));
    settle(&three, 1, &gifts);
}

#[test]
fn a_paused_leader_leads_nothing_when_it_wakes_and_sends_nothing_again() {
    let three = Nodes::start(3);
    three.until_spread();
    let gifts = three.reserve(240, "a", 20, |_| {});
    let paused = three.busiest();
    let other = paused % 3 + 1;
    let pid = three.pid(paused);
    in_the_middle(&three, other, &gifts, || three.signal("-STOP", pid));
    three.until("its shards led by others", |view| {
        let shards = view["shards"].as_array().cloned().unwrap_or_default();
        shards.len() == 16 && shards.iter().all(|shard| !shard["leader"].is_null() && shard["leader"] != paused)
    });
    for _ in 0..2 {
        assert!(three.advance(other, 20));
    }
    three.signal("-CONT", pid);
    settle(&three, other, &gifts);
    three.until_spread();
}

#[test]
fn a_cluster_that_dies_as_a_whole_goes_on_where_it_was() {
    let three = Nodes::start(3);
    three.until_spread();
    let gifts = three.reserve(240, "a", 20, |_| {});
    let pids = [1, 2, 3].map(|node| three.pid(node));
    in_the_middle(&three, 1, &gifts, || three.kill_at_once(&pids));
    [1, 2, 3].iter().for_each(|node| three.start_again(*node));
    three.until_spread();
    // The clock may have stood still before the instant when its mover died.
    assert!(three.advance(1, 21 * 60));
    settle(&three, 1, &gifts);
}

#[test]
fn two_of_five_nodes_die_in_the_middle_of_sending() {
    let five = Nodes::start(5);
    five.until_spread();
    let gifts = five.reserve(240, "a", 20, |_| {});
    let pids = [4, 5].map(|node| five.pid(node));
    in_the_middle(&five, 1, &gifts, || five.kill_at_once(&pids));
    // Shards with two of their three replicas on the dead wait for one of them.
    five.start_again(4);
    five.until("a leader of each shard", |view| {
        view["shards"].as_array().is_some_and(|shards| shards.iter().all(|shard| !shard["leader"].is_null()))
    });
    settle(&five, 1, &gifts);
}

#[test]
fn a_node_that_lost_its_disk_in_the_middle_of_sending_is_replaced() {
    let three = Nodes::start(3);
    three.until_spread();
    let mut gifts = three.reserve(120, "a", 20, |_| {});
    in_the_middle(&three, 1, &gifts, || three.kill(3));
    std::fs::remove_dir_all(three.data_folder(3)).unwrap();
    three.until("the loss noted", |view| view["nodes"][2]["state"] == "gone");
    three.order("remove", &json!({ "node": 3, "force": true }));
    // The same machine, under a new number.
    three.start_again(3);
    let view = three.until("the replacement there", |view| view["nodes"][2]["id"] == 4);
    assert_eq!(view["nodes"].as_array().map(Vec::len), Some(3), "{view}");
    three.until_whole();
    three.until_spread();
    gifts.extend(three.reserve(60, "b", 20, |_| {}));
    assert!(three.advance(2, 21 * 60));
    settle(&three, 1, &gifts);
}

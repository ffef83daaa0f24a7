//! The hint that a campaign is sold out: told by one node, heard by another, and nobody minds when Redis is away.

use crate::server::{Server, until};
use bojagi::stream::{RedisAddress, RedisHints};
use bojagi::types::hint::AvailabilityHints;

fn node(server: &Server) -> RedisHints {
    RedisHints::start(RedisAddress::parse(&server.url()).unwrap(), "bojagi")
}

fn left(server: &Server, campaign: &str) -> Option<String> {
    let key = format!("bojagi:coupon:available:{campaign}");
    redis::cmd("GET").arg(key).query::<Option<String>>(&mut server.connection()).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_one_node_tells_the_others_hear_also_when_redis_was_away() {
    let mut server = Server::start();
    let (one, other) = (node(&server), node(&server));
    assert!(!other.is_sold_out("cc_1"), "the first question is not waited for");
    one.tell("cc_1", 7);
    until("the hint is there", || (left(&server, "cc_1").as_deref() == Some("7")).then_some(()));
    assert!(!other.is_sold_out("cc_1"));
    one.tell("cc_1", 0);
    until("the other node hears of it", || other.is_sold_out("cc_1").then_some(()));
    assert!(!other.is_sold_out("cc_2"));
    server.kill();
    one.tell("cc_2", 0);
    assert!(other.is_sold_out("cc_1"), "what was heard stays");
    server.launch();
    until("it was told once Redis was back", || other.is_sold_out("cc_2").then_some(()));
    // An emptied Redis has no hint of the first any more, which costs a look at the campaign, no more.
    until("nobody says it any more", || (!other.is_sold_out("cc_1")).then_some(()));
}

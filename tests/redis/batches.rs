//! Batches and cursors against a real redis-server: whole or not at all, behind the cursor that the sender knows, and
//! never by a stale leader.

use crate::server::Server;
use bojagi::stream::{
    BatchFate, Cursor, EventLink, EventStream, Known, OutgoingEvent, RedisAddress, ShardBatch, Tail, TopicPolicy,
};
use bojagi::types::ids::{LogIndex, ShardId, Term};
use bojagi::types::publication::Topic;
use bojagi::types::time::{Millis, Timestamp};

const TOPIC: Topic = Topic("test.happened.v1");
const OTHER: Topic = Topic("test.other.v1");
const SHARD: ShardId = ShardId(5);

async fn link(server: &Server, retention: Option<Millis>, entries_max: Option<u64>) -> EventLink {
    let policies = [TOPIC, OTHER].map(|topic| TopicPolicy { topic, retention, entries_max });
    let address = RedisAddress::parse(&server.url()).unwrap();
    EventStream::new(address, "bojagi", policies.to_vec()).connect([7; 16]).await.unwrap()
}

fn event(topic: Topic, version: u64) -> OutgoingEvent {
    OutgoingEvent {
        topic,
        event_id: format!("t_1.{version}.0"),
        entity: "t_1".to_owned(),
        event_type: "happened".to_owned(),
        at: "2026-12-25T00:00:00.000Z".to_owned(),
        details: "{}".to_owned(),
    }
}

/// Version `index` of an entity, as entry `index` of the log.
fn batch(term: u64, known: &Known, index: u64) -> ShardBatch {
    let cursor = Cursor::Tail(Tail { index: LogIndex(index), term: Term(term), at: Timestamp(index.cast_signed()) });
    ShardBatch { shard: SHARD, term: Term(term), known: known.clone(), cursor, events: vec![event(TOPIC, index)] }
}

#[tokio::test]
async fn what_no_shard_has_in_its_log_is_said_beside_and_moves_no_cursor() {
    let server = Server::start();
    let mut link = link(&server, None, None).await;
    let known = link.known(&[SHARD]).await.unwrap();
    link.say(&event(TOPIC, 1)).await.unwrap();
    assert_eq!(link.known(&[SHARD]).await.unwrap(), known);
    let said = server.life("t_1");
    assert_eq!(said.len(), 1);
    assert_eq!((said[0].topic.as_str(), said[0].event_type.as_str()), (TOPIC.0, "happened"));
}

async fn one(link: &mut EventLink, batch: ShardBatch) -> BatchFate {
    link.publish(&[batch]).await.unwrap().remove(0)
}

async fn published(link: &mut EventLink, batch: ShardBatch) -> Known {
    match one(link, batch).await {
        BatchFate::Published(known) => known,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_batch_follows_the_cursor_that_its_sender_knows_or_does_nothing() {
    let server = Server::start();
    let mut link = link(&server, None, None).await;
    let nothing = link.known(&[SHARD]).await.unwrap().remove(0);
    assert_eq!(nothing.cursor, None);
    let first = published(&mut link, batch(1, &nothing, 1)).await;
    assert_eq!(link.known(&[SHARD]).await.unwrap(), std::slice::from_ref(&first));
    // Sent again after its answer was lost, or run by Redis after its sender gave up.
    assert_eq!(one(&mut link, batch(1, &nothing, 1)).await, BatchFate::Moved(first.clone()));
    published(&mut link, batch(1, &first, 2)).await;
    let versions: Vec<u64> = server.events().iter().map(|event| event.order.0).collect();
    assert_eq!(versions, [1, 2], "each once");
}

#[tokio::test]
async fn a_stale_leader_publishes_nothing_and_sets_nothing_back() {
    let server = Server::start();
    let (mut old, mut new) = (link(&server, None, None).await, link(&server, None, None).await);
    let known = published(&mut old, batch(1, &Known::default(), 1)).await;
    let ahead = published(&mut new, batch(2, &known, 2)).await;
    let fenced = BatchFate::Fenced(Term(2));
    assert_eq!(one(&mut old, batch(1, &known, 2)).await, fenced);
    assert_eq!(one(&mut old, batch(1, &ahead, 3)).await, fenced, "not even behind the right cursor");
    old.drop_cursor(SHARD, Term(1)).await.unwrap();
    assert_eq!(new.known(&[SHARD]).await.unwrap(), [ahead], "dropped only while the term is the one that was seen");
    assert_eq!(server.events().len(), 2);
    old.drop_cursor(SHARD, Term(2)).await.unwrap();
    published(&mut old, batch(1, &Known::default(), 3)).await;
}

#[tokio::test]
async fn a_batch_that_cannot_be_published_whole_is_not_published_in_part() {
    let server = Server::start();
    let mut link = link(&server, None, None).await;
    let key = format!("bojagi:{}", OTHER.0);
    redis::cmd("SET").arg(&key).arg("a stranger's").exec(&mut server.connection()).unwrap();
    let mut mixed = batch(1, &Known::default(), 1);
    mixed.events.push(event(OTHER, 2));
    assert!(link.publish(std::slice::from_ref(&mixed)).await.is_err());
    redis::cmd("DEL").arg(&key).exec(&mut server.connection()).unwrap();
    assert!(server.events().is_empty());
    published(&mut link, mixed).await;
    assert_eq!(server.events().len(), 2);
}

#[tokio::test]
async fn topics_are_trimmed_by_count_and_by_age() {
    let server = Server::start();
    let mut by_count = link(&server, None, Some(100)).await;
    let mut known = Known::default();
    let mut many = batch(1, &known, 1);
    many.events = (1..=1_000).map(|version| event(TOPIC, version)).collect();
    known = published(&mut by_count, many).await;
    by_count.trim().await.unwrap();
    let left = server.events().len();
    assert!((100..=300).contains(&left), "about a hundred: {left}");
    assert_eq!(server.events().last().unwrap().order.0, 1_000, "the oldest go");
    let mut by_age = link(&server, Some(Millis::from_hours(1)), None).await;
    assert_eq!(by_age.trim().await.unwrap(), 0, "nothing is an hour old");
    // Events of long ago, as Redis sees it.
    let mut connection = server.connection();
    for place in 1..=1_000 {
        let mut add = redis::cmd("XADD");
        add.arg(format!("bojagi:{}", OTHER.0)).arg(format!("{place}-0")).arg("event_id").arg("t_1.1.0");
        add.exec(&mut connection).unwrap();
    }
    assert!(by_age.trim().await.unwrap() >= 900);
    let _ = known;
}

//! The event stream's side in Redis: one stream for each topic, one cursor for each shard.
//!
//! Keys: `<prefix>:<topic>`, and `<prefix>:cursor:<cluster>:<shard>` with the fields `term` and `cursor`. A batch is
//! published by one script, so events and cursor come and go together; it takes effect only behind the cursor that its
//! sender knows and only if no later leader has published. So a stale leader, or a script that Redis runs after its
//! sender gave up waiting, changes nothing.

use super::client::{RedisAddress, StreamError};
use super::cursor::Cursor;
use crate::types::ids::{ShardId, Term};
use crate::types::publication::Topic;
use crate::types::time::{Millis, Timestamp};
use redis::aio::MultiplexedConnection;
use std::collections::BTreeMap;
use std::time::Duration;

const PUBLISH: &str = include_str!("publish.lua");
const DROP_CURSOR: &str = "if redis.call('HGET', KEYS[1], 'term') == ARGV[1] then redis.call('DEL', KEYS[1]) end";
/// Longest wait for an answer: a batch is at most some hundred events, but Redis may be saving or swapping.
const PATIENCE: Duration = Duration::from_secs(2);
/// Calls that one trim makes for one topic; Redis removes about 10,000 entries by each.
const TRIM_CALLS_MAX: usize = 64;

/// How long a topic's events stay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TopicPolicy {
    pub topic: Topic,
    /// By age; `None` keeps them whatever their age.
    pub retention: Option<Millis>,
    /// By count, about; `None` keeps them however many there are.
    pub entries_max: Option<u64>,
}

/// One event on its way out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutgoingEvent {
    pub topic: Topic,
    /// `<entity id>.<version>.<n>`: the same event always has the same id.
    pub event_id: String,
    pub entity: String,
    pub event_type: String,
    /// RFC 3339.
    pub at: String,
    /// One JSON object.
    pub details: String,
}

/// What Redis knows of a shard.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Known {
    /// The cursor's text, compared as it is; empty for none.
    text: String,
    /// `None`: nothing was published, or by a build whose cursors this one cannot read.
    pub cursor: Option<Cursor>,
}

impl Known {
    fn parse(text: String) -> Self {
        Self { cursor: Cursor::decode(&text), text }
    }
}

/// Events of one shard that follow each other.
#[derive(Clone, Debug)]
pub struct ShardBatch {
    pub shard: ShardId,
    /// Under which the sender leads the shard.
    pub term: Term,
    /// What the batch follows.
    pub known: Known,
    /// What stands behind it.
    pub cursor: Cursor,
    pub events: Vec<OutgoingEvent>,
}

/// What became of a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BatchFate {
    Published(Known),
    /// Nothing was published: the cursor is another one.
    Moved(Known),
    /// Nothing was published: the leader of this later term has published already.
    Fenced(Term),
}

/// Where events go. Holds no connection.
#[derive(Clone, Debug)]
pub struct EventStream {
    address: RedisAddress,
    prefix: String,
    policies: Vec<TopicPolicy>,
}

impl EventStream {
    #[must_use]
    pub fn new(address: RedisAddress, prefix: &str, policies: Vec<TopicPolicy>) -> Self {
        Self { address, prefix: prefix.to_owned(), policies }
    }

    /// The oldest instant of which the topic's events are still kept at `now`.
    #[must_use]
    pub fn kept_since(&self, topic: Topic, now: Timestamp) -> Timestamp {
        let retention = self.policies.iter().find(|policy| policy.topic == topic).and_then(|policy| policy.retention);
        retention.map_or(Timestamp(i64::MIN), |retention| now - retention)
    }

    /// The same over all topics.
    #[must_use]
    pub fn oldest_kept(&self, now: Timestamp) -> Timestamp {
        self.policies.iter().map(|policy| self.kept_since(policy.topic, now)).min().unwrap_or(now)
    }

    /// # Errors
    /// [`StreamError::Redis`]: it does not answer within two seconds, or does not let us in.
    pub async fn connect(&self, cluster: [u8; 16]) -> Result<EventLink, StreamError> {
        let connection = self.address.connect(PATIENCE).await?;
        let cursors = format!("{}:cursor:{}", self.prefix, hex::encode(&cluster[..8]));
        Ok(EventLink { connection, stream: self.clone(), cursors })
    }
}

/// A connection for publishing. After an error it is of no more use: what was under way may or may not have happened.
pub struct EventLink {
    connection: MultiplexedConnection,
    stream: EventStream,
    cursors: String,
}

impl EventLink {
    fn cursor_key(&self, shard: ShardId) -> String {
        format!("{}:{shard}", self.cursors)
    }

    fn topic_key(&self, topic: Topic) -> String {
        format!("{}:{}", self.stream.prefix, topic.0)
    }

    /// What is known of shards, in their order.
    ///
    /// # Errors
    /// [`StreamError::Redis`].
    pub async fn known(&mut self, shards: &[ShardId]) -> Result<Vec<Known>, StreamError> {
        if shards.is_empty() {
            return Ok(Vec::new());
        }
        let mut pipe = redis::pipe();
        for shard in shards {
            pipe.cmd("HGET").arg(self.cursor_key(*shard)).arg("cursor");
        }
        let texts: Vec<Option<String>> = pipe.query_async(&mut self.connection).await?;
        Ok(texts.into_iter().map(|text| Known::parse(text.unwrap_or_default())).collect())
    }

    /// Publishes batches of different shards in one round trip, each whole or not at all. Fates are in their order.
    ///
    /// # Errors
    /// [`StreamError::Redis`]: each batch may or may not have been published, and its cursor with it.
    /// [`StreamError::Foreign`]: the script answers what it does not say.
    pub async fn publish(&mut self, batches: &[ShardBatch]) -> Result<Vec<BatchFate>, StreamError> {
        if batches.is_empty() {
            return Ok(Vec::new());
        }
        let mut pipe = redis::pipe();
        for batch in batches {
            pipe.add_command(self.script(batch));
        }
        let answers: Vec<Vec<String>> = pipe.query_async(&mut self.connection).await?;
        if answers.len() != batches.len() {
            return Err(StreamError::Foreign { what: "another number of answers" });
        }
        let fate = |(batch, answer): (&ShardBatch, Vec<String>)| {
            let mut words = answer.into_iter();
            match words.next().as_deref() {
                Some("ok") => Ok(BatchFate::Published(Known::parse(batch.cursor.encode()))),
                Some("fenced") => {
                    let term = words.next().and_then(|term| term.parse().ok());
                    let strange = StreamError::Foreign { what: "a term that is no number" };
                    term.map(|term| BatchFate::Fenced(Term(term))).ok_or(strange)
                }
                Some("moved") => Ok(BatchFate::Moved(Known::parse(words.next().unwrap_or_default()))),
                Some(_) | None => Err(StreamError::Foreign { what: "an answer of another script" }),
            }
        };
        batches.iter().zip(answers).map(fate).collect()
    }

    /// Says one event that no shard's log has: at least once, and not again when Redis loses it.
    ///
    /// # Errors
    /// [`StreamError::Redis`]; it may or may not have been said.
    pub async fn say(&mut self, event: &OutgoingEvent) -> Result<(), StreamError> {
        let mut add = redis::cmd("XADD");
        add.arg(self.topic_key(event.topic)).arg("*");
        add.arg("event_id").arg(&event.event_id).arg("entity").arg(&event.entity).arg("type").arg(&event.event_type);
        add.arg("at").arg(&event.at).arg("data").arg(&event.details);
        Ok(add.exec_async(&mut self.connection).await?)
    }

    /// Drops the cursor of a shard if `term` still stands there: a leader that its group confirmed found it, so it is of
    /// a past that the shard no longer has. The shard is then published from the beginning.
    ///
    /// # Errors
    /// [`StreamError::Redis`]; it may or may not be dropped.
    pub async fn drop_cursor(&mut self, shard: ShardId, term: Term) -> Result<(), StreamError> {
        let mut script = redis::cmd("EVAL");
        script.arg(DROP_CURSOR).arg(1).arg(self.cursor_key(shard)).arg(term.0);
        Ok(script.exec_async(&mut self.connection).await?)
    }

    fn script(&self, batch: &ShardBatch) -> redis::Cmd {
        let mut places = BTreeMap::new();
        let mut keys = vec![self.cursor_key(batch.shard)];
        for event in &batch.events {
            places.entry(event.topic).or_insert_with(|| {
                keys.push(self.topic_key(event.topic));
                keys.len()
            });
        }
        // The text goes along each time: some hundred bytes, and a Redis that was started anew needs no special case.
        let mut script = redis::cmd("EVAL");
        script.arg(PUBLISH).arg(keys.len()).arg(&keys);
        script.arg(batch.term.0).arg(&batch.known.text).arg(batch.cursor.encode());
        for event in &batch.events {
            script.arg(places[&event.topic]).arg(&event.event_id).arg(&event.entity);
            script.arg(&event.event_type).arg(&event.at).arg(&event.details);
        }
        script
    }

    /// Removes what is older or more than the policies keep, by Redis's own clock; says how many events went. Every
    /// node may do so at any time.
    ///
    /// # Errors
    /// [`StreamError::Redis`]; what went so far is gone.
    pub async fn trim(&mut self) -> Result<u64, StreamError> {
        let (seconds, _): (i64, i64) = redis::cmd("TIME").query_async(&mut self.connection).await?;
        let now = Timestamp(seconds * 1_000);
        let mut removed = 0;
        for policy in self.stream.policies.clone() {
            let key = self.topic_key(policy.topic);
            if policy.retention.is_some() {
                let oldest = self.stream.kept_since(policy.topic, now).0.max(0);
                removed += self.trim_one(&key, "MINID", oldest.unsigned_abs()).await?;
            }
            if let Some(entries_max) = policy.entries_max {
                removed += self.trim_one(&key, "MAXLEN", entries_max).await?;
            }
        }
        Ok(removed)
    }

    async fn trim_one(&mut self, key: &str, by: &str, threshold: u64) -> Result<u64, StreamError> {
        let mut removed = 0;
        for _ in 0..TRIM_CALLS_MAX {
            let mut command = redis::cmd("XTRIM");
            let some: u64 = command.arg(key).arg(by).arg("~").arg(threshold).query_async(&mut self.connection).await?;
            removed += some;
            if some == 0 {
                break;
            }
        }
        Ok(removed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_topic_keeps_its_own_time_and_the_longest_counts_for_all() {
        let policy = |topic, days| TopicPolicy { topic: Topic(topic), retention: days, entries_max: None };
        let address = RedisAddress::parse("redis://127.0.0.1:1").unwrap();
        let days = Millis::from_days;
        let policies = vec![policy("a.v1", Some(days(1))), policy("b.v1", Some(days(7)))];
        let stream = EventStream::new(address.clone(), "t", policies.clone());
        let now = Timestamp(0) + days(100);
        assert_eq!(stream.kept_since(Topic("a.v1"), now), Timestamp(0) + days(99));
        assert_eq!(stream.oldest_kept(now), Timestamp(0) + days(93));
        let whole = EventStream::new(address, "t", [policies, vec![policy("c.v1", None)]].concat());
        assert_eq!(whole.oldest_kept(now), Timestamp(i64::MIN));
    }
}

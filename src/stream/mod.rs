//! Redis, optional: the event stream and the quotas of the fleet. Nothing on the path of correctness depends on it.
//!
//! | file | what |
//! |---|---|
//! | `client` | how Redis is reached; every wait on it is bounded |
//! | `cursor` | how far a shard is published, as Redis keeps it |
//! | `events` | batches of one shard: events and cursor in one script, fenced by the leader's term |
//! | `hints` | what nodes tell each other to spare a look: which campaigns are sold out |
//! | `quota` | token buckets that all nodes share, in Redis's own time |
//!
//! One server, or one with replicas behind one address: a script touches keys that a Redis Cluster would spread.

mod client;
mod cursor;
mod events;
mod hints;
mod quota;

pub use client::{RedisAddress, StreamError};
pub use cursor::{CLOCK_MARGIN, Cursor, Scan, Tail};
pub use events::{BatchFate, EventLink, EventStream, Known, OutgoingEvent, ShardBatch, TopicPolicy};
pub use hints::RedisHints;
pub use quota::{Members, RedisQuota};

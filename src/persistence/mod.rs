//! sled adapters. `store` is the trait everything else is written against, `key` the one table of persisted keys.
//!
//! The log database holds the Raft log of all shards of a node and is made durable before anything is acknowledged;
//! the state database holds what applying that log made of it, and may lag behind on disk.

pub mod codec;
pub mod key;
pub mod log;
pub mod memory_store;
pub mod sled_store;
pub mod store;

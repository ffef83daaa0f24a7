//! The sans-I/O Raft shard core, and the application of one entry as one batch.

pub mod core;

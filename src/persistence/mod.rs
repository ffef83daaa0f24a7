//! sled adapters. `store` is the trait everything else is written against, `key` the one table of persisted keys.
//!
//! The log database holds the Raft log of all shards of a node and is made durable before anything is acknowledged;
//! the state database holds what applying that log made of it, and may lag behind on disk.

pub mod backup;
pub mod backup_file;
pub mod checks;
pub mod cluster_backup;
pub mod codec;
pub mod copying;
pub mod effect_rows;
#[cfg(any(test, feature = "faults"))]
pub mod faulty_store;
pub mod folder;
pub(crate) mod folder_builder;
pub mod header;
pub mod install;
pub mod joining;
mod journal_rows;
pub mod key;
pub mod key_store;
pub mod last_words;
pub mod leaving;
pub mod log;
mod log_reader;
mod log_rows;
pub mod log_store;
pub mod log_writer;
pub mod memory_store;
pub mod ring;
pub mod salvage;
pub mod sled_store;
pub mod snapshot;
pub mod space;
pub mod staged_keys;
pub mod starts;
pub mod state_store;
pub mod store;
pub(crate) mod stores;
pub mod takeovers;
pub mod transfer;
pub mod vault;
pub mod verify;
pub mod watermark;
pub mod write_behind;

#[cfg(test)]
pub(crate) mod toy;

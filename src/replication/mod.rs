//! The sans-I/O Raft shard core, and the application of one entry as one batch.

pub mod apply;
mod boot;
pub mod copying;
pub mod core;
mod dense;
pub mod entry;
pub(crate) mod heads;
mod io;
mod leader;
mod members;
mod proposals;
pub mod purge;
mod reads;
mod ready;
pub mod restoring;
mod snapshots;
pub mod status;
mod storage;
mod stream;
pub mod transport;
mod wire;
#[cfg(test)]
mod wire_fuzz;

pub use wire::is_urgent;

#[cfg(test)]
mod core_tests;

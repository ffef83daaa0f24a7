//! The live cluster: node, shards, entities, timers, dispatcher, router, admission.

mod applier;
pub mod door;
pub mod driver;
mod entity;
mod gauges;
mod keeper;
mod loader;
mod loading;
pub mod node;
#[cfg(test)]
mod node_tests;
mod ops;
mod pool;
mod seats;
pub mod service;
pub mod settle;
mod shard;
mod shared;
mod slots;

//! The live cluster: node, shards, entities, timers, dispatcher, router, admission.

mod applier;
pub mod door;
pub mod driver;
#[cfg(test)]
mod driver_tests;
mod entity;
mod loader;
mod loading;
pub mod node;
mod ops;
mod pool;
pub mod service;
pub mod settle;
mod shard;
mod shared;
mod slots;

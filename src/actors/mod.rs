//! The live cluster: node, shards, entities, timers, dispatcher, router, admission.

pub mod alerts;
mod applier;
pub mod clocks;
pub mod cluster;
mod copying;
pub mod disks;
pub mod door;
pub mod driver;
mod entity;
pub mod gate;
mod gauges;
pub mod health;
mod keeper;
pub mod latency;
pub mod link;
mod loader;
mod loading;
mod local;
pub mod node;
#[cfg(test)]
mod node_tests;
mod ops;
mod peering;
mod pool;
pub mod publishing;
pub(crate) mod recall;
mod relay;
mod repeats;
mod router;
mod routes;
mod seats;
pub mod service;
pub mod settle;
mod shard;
mod shared;
mod sinks;
mod slots;

//! Bojagi: scheduled gifts on an actor cluster. See `docs/ARCHITECTURE.md`.

#[cfg(test)]
#[path = "../tests/fuzz/engine.rs"]
mod fuzzing;
#[cfg(test)]
#[path = "../tests/fuzz/heap.rs"]
mod fuzzing_heap;

pub mod actors;
pub mod api;
pub mod app;
pub mod audit;
pub mod chaos;
pub mod cli;
pub mod config;
pub mod domain;
pub mod gateways;
pub mod load;
pub mod persistence;
pub mod providers;
pub mod replication;
pub mod sandbox;
pub mod sharding;
pub mod simulation;
pub mod stream;
pub mod types;

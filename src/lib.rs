//! Bojagi: scheduled gifts on an actor cluster. See `docs/ARCHITECTURE.md`.

pub mod actors;
pub mod domain;
pub mod gateways;
pub mod persistence;
pub mod providers;
pub mod replication;
pub mod sandbox;
pub mod types;

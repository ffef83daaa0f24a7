//! The links between nodes: what stands behind `replication::transport` in a cluster, and its twin for tests.
//!
//! ractor_cluster carries the bytes; what it lacks is built around it (ADR-5): who a peer is, when it is gone, how much
//! it may cost, and that nothing stale has an effect.

mod certificate;
mod dial;
mod door;
mod gateway;
mod hello;
mod hub;
#[cfg(test)]
mod hub_tests;
mod listen;
#[cfg(test)]
pub(crate) mod memory;
#[cfg(test)]
mod memory_tests;
mod options;
mod outbox;
#[cfg(test)]
mod outbox_tests;
pub(crate) mod peer_clock;
mod pulse;
mod session;
mod switch;
mod tls;
mod transport;
mod wire;
#[cfg(test)]
mod wire_fuzz;

pub use door::{JoinError, Joiner, join_request};
pub use options::{FillRandom, LinkError, LinkOptions};
pub use tls::{BadLabel, Label, MEMBER, Security, SecurityError};
pub use transport::LinkTransport;

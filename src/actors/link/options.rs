//! What links are started from, and why they do not start.

use super::tls::{Label, Security, SecurityError};
use crate::replication::transport::Peer;
use crate::types::time::Clock;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

/// Fills a buffer with random bytes.
pub type FillRandom = Arc<dyn Fn(&mut [u8]) + Send + Sync>;

/// What the links of one node are started from.
pub struct LinkOptions {
    pub me: Peer,
    /// This node's name, as its certificate bears it.
    pub name: Label,
    /// The cluster's name, as certificates bear it.
    pub cluster: Label,
    /// The cluster's id; a peer of another one is refused.
    pub cluster_id: [u8; 16],
    /// The cluster listener. Port 0 takes a free one; see [`super::LinkTransport::address`].
    pub listen: SocketAddr,
    pub security: Security,
    /// Heartbeats carry its wall time; its boot time notices pauses of this process.
    pub clock: Arc<dyn Clock>,
    /// The system's CSPRNG, for epochs and jitter.
    pub fill_random: FillRandom,
    /// Threads of the links' own runtime, at least 1.
    pub threads: usize,
}

/// Why links did not start. Nothing is left running.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    #[error(transparent)]
    Security(#[from] SecurityError),
    #[error("the cluster listener on {address}: {cause}")]
    Listen { address: SocketAddr, cause: io::Error },
    #[error("the links' runtime: {0}")]
    Runtime(io::Error),
    /// ractor's registries are the process's: two nodes in one would corrupt each other.
    #[error("this process has links already; each node is a process of its own")]
    Second,
    #[error("ractor_cluster does not start: {0}")]
    Actors(String),
}

//! The seam between a node and its peers: one-way frames that may be lost, and requests that are answered or not.
//!
//! Behind it are the links of a real cluster (`actors/link`) and the in-memory network of the tests. Whatever comes
//! in through [`Inbound`] is authenticated, whole, and of the peer's present incarnation.

use crate::types::ids::{Incarnation, NodeId};
use crate::types::level::{FeatureLevel, LEVELS, Levels};
use crate::types::start::Lineage;
use crate::types::time::Timestamp;
use futures_util::future::BoxFuture;
use serde::Serialize;
use std::sync::Arc;
use std::time::Duration;

/// Frames of different lanes do not hold each other up. In one lane, from one sender, order is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lane {
    /// Raft frames, up to 1 MiB each. Lost rather than late.
    Raft,
    /// Snapshot chunks, up to 256 KiB each, few in flight.
    Snapshot,
}

/// A node as it introduced itself on its link.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Peer {
    pub node: NodeId,
    pub incarnation: Incarnation,
}

/// What became of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sent {
    /// On its way; it may still be lost with the link.
    Queued,
    /// The peer's credit is used up: dropped.
    Full,
    /// There is no link to that node: dropped.
    NoLink,
}

/// Why a request has no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// It never left, or the peer refused to take it: nothing happened there.
    #[error("not sent")]
    NotSent,
    /// It left and no answer came within the deadline, or the link broke.
    #[error("outcome unknown")]
    Unknown,
}

/// Where a peer is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerAddress {
    pub node: NodeId,
    /// `host:port` of its cluster listener.
    pub address: String,
}

/// One link as operators see it.
#[derive(Clone, Debug, Serialize)]
pub struct LinkStatus {
    pub node: u64,
    pub address: String,
    pub up: bool,
    pub incarnation: Option<u64>,
    /// Smoothed round trip of heartbeats in microseconds.
    pub round_trip_us: Option<u64>,
    /// The peer's clock minus ours in milliseconds as of the last heartbeat, and how far that may be off.
    pub clock_offset_ms: Option<i64>,
    pub clock_error_ms: Option<i64>,
    /// The peer's clock minus our steady one: what does not change when our own wall clock is set.
    #[serde(skip)]
    pub steady_offset_ms: Option<i64>,
    /// Bytes that wait for credit or are unacknowledged.
    pub queued_bytes: u64,
    /// Bytes that may still be sent before the peer has to acknowledge some: Raft frames, calls, snapshots.
    pub credit_bytes: [u64; 3],
    pub dropped_frames: u64,
}

/// Whose certificate it is that links go by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum CertificateOf {
    /// This node's own, with what stands between it and the CA: peers refuse it from its end on.
    Node,
    /// The cluster's CA, as this node has it. Links do not go by its end; tools beside them may.
    Ca,
}

impl CertificateOf {
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Node => "node",
            Self::Ca => "ca",
        }
    }
}

/// When a certificate that is in use ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CertificateEnd {
    pub of: CertificateOf,
    pub not_after: Timestamp,
}

impl CertificateEnd {
    /// Whole seconds until then, below zero from then on.
    #[must_use]
    pub fn seconds_left(&self, now: Timestamp) -> i64 {
        (self.not_after - now).0.div_euclid(1_000)
    }
}

/// Sends to peers. Nothing here blocks or queues without a bound.
pub trait Transport: Send + Sync {
    fn cast(&self, to: NodeId, lane: Lane, frame: Vec<u8>) -> Sent;
    /// As [`Self::cast`], for Raft frames that may overtake others: heartbeats and votes. They wait for no credit.
    fn cast_urgent(&self, to: NodeId, frame: Vec<u8>) -> Sent {
        self.cast(to, Lane::Raft, frame)
    }
    /// Sends a request and waits for its answer.
    fn request(
        &self,
        to: NodeId,
        body: Vec<u8>,
        deadline: Duration,
    ) -> BoxFuture<'static, Result<Vec<u8>, RequestError>>;
    /// The peers to keep links to from now on, this node itself left out; links to others are closed.
    fn set_peers(&self, peers: Vec<PeerAddress>);
    fn links(&self) -> Vec<LinkStatus>;
    /// The ends of the certificates that links go by since this start; none without encryption.
    fn certificates(&self) -> Vec<CertificateEnd> {
        Vec::new()
    }
    /// Ends all links.
    fn stop(&self) -> BoxFuture<'_, ()> {
        Box::pin(std::future::ready(()))
    }
}

/// Takes what peers send. Called on the links' own runtime: must hand on at once.
pub trait Inbound: Send + Sync {
    fn frame(&self, from: Peer, lane: Lane, frame: Vec<u8>);
    fn request(&self, from: Peer, body: Vec<u8>) -> BoxFuture<'static, Vec<u8>>;
    /// The link to this peer came up, or was given up.
    fn link(&self, peer: Peer, up: bool);
    /// Whether the cluster knows this node under this name, which its certificate bears. Anyone with a certificate of the
    /// cluster could otherwise give another node's id.
    fn vouches(&self, _node: NodeId, _name: &str) -> bool {
        true
    }
    /// The starts of this node's folder, which a peer judges it by.
    fn lineage(&self) -> Lineage {
        Lineage::default()
    }
    /// The start that is known here of a peer whose folder has not seen it: it was put back from a copy, or is used twice.
    fn is_behind(&self, _node: NodeId, _lineage: &Lineage) -> Option<Incarnation> {
        None
    }
    /// A peer says so of this node's folder.
    fn found_behind(&self, _by: NodeId, _known: Incarnation) {}
    /// The feature levels of this node's build.
    fn levels(&self) -> Levels {
        LEVELS
    }
    /// The cluster's feature level, where a peer's build does not know it.
    fn excludes(&self, _levels: Levels) -> Option<FeatureLevel> {
        None
    }
    /// A peer says so of this node's build.
    fn found_too_old(&self, _by: NodeId, _level: FeatureLevel) {}
    /// Decides on a node that has no id yet and asks to join; its certificate bears the name. `None` refuses, and is the
    /// default.
    fn join(&self, _name: String, _body: Vec<u8>) -> BoxFuture<'static, Option<Vec<u8>>> {
        Box::pin(std::future::ready(None))
    }
}

/// A transport that reaches nobody: a node that is its whole cluster.
pub struct NoPeers;

impl Transport for NoPeers {
    fn cast(&self, _to: NodeId, _lane: Lane, _frame: Vec<u8>) -> Sent {
        Sent::NoLink
    }
    fn request(
        &self,
        _to: NodeId,
        _body: Vec<u8>,
        _deadline: Duration,
    ) -> BoxFuture<'static, Result<Vec<u8>, RequestError>> {
        Box::pin(std::future::ready(Err(RequestError::NotSent)))
    }
    fn set_peers(&self, _peers: Vec<PeerAddress>) {}
    fn links(&self) -> Vec<LinkStatus> {
        Vec::new()
    }
}

/// Shared transports, as nodes hold them.
pub type SharedTransport = Arc<dyn Transport>;

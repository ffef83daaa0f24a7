//! Quotas that all nodes of the fleet share. Lanes ask, the event stream's side answers; neither knows the other.

use futures_util::future::BoxFuture;

/// Permits that a lane asks for, of a quota that has one name on every node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QuotaAsk {
    pub quota: String,
    /// The whole fleet's permits per second, at least 1.
    pub per_s: u32,
    /// The whole fleet's permits at one instant after a rest, at least 1.
    pub burst: u32,
    /// Most permits that are wanted now, at least 1.
    pub permits: u32,
}

/// What a lane may do now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QuotaAnswer {
    /// So many permits, taken out of the fleet's quota; 0 when there were none for a while. They are of no use for
    /// longer than about a second.
    Granted { permits: u32 },
    /// Nobody can tell what the others take: this node may take its part, the quota over the number of members.
    Away { members: u32 },
}

/// The quotas of the fleet.
pub trait FleetQuota: Send + Sync {
    /// Answers within about a second; within 100 ms when the quota cannot be reached. Cancellation loses what was granted.
    fn take(&self, ask: QuotaAsk) -> BoxFuture<'static, QuotaAnswer>;
    /// Whether the fleet's quotas can be reached, as last seen.
    fn is_shared(&self) -> bool;
}

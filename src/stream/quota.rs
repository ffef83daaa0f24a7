//! The quotas of the fleet: a token bucket for each in Redis, refilled in Redis's own time, emptied by all nodes.
//!
//! A node takes some permits at a time (a lane asks for 75 ms worth at most), so a call costs no round trip of its own. While Redis
//! does not answer within 100 ms, every node takes the quota over the number of members; a heartbeat finds out when it
//! is back. The sum over all nodes never exceeds burst + rate × time of the bucket.

use super::client::{RedisAddress, StreamError};
use crate::types::quota::{FleetQuota, QuotaAnswer, QuotaAsk};
use futures_util::future::BoxFuture;
use redis::aio::MultiplexedConnection;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::Mutex;
use tokio::time::timeout;

const TAKE: &str = include_str!("quota.lua");
/// Longest wait for Redis.
const PATIENCE: Duration = Duration::from_millis(100);
/// How long an asker is kept waiting for a permit before it hears that there is none.
const WAIT_MAX: Duration = Duration::from_secs(1);
/// Longest and shortest pause between two looks into an empty bucket.
const LOOK_PAUSE_MS: (u64, u64) = (1, 200);
/// Pause between two heartbeats, while Redis answers and while it does not.
const HEARTBEAT: Duration = Duration::from_secs(1);
const HEARTBEAT_AWAY: Duration = Duration::from_millis(300);

/// Number of members that the quota is divided by while Redis is away.
pub type Members = Arc<dyn Fn() -> u32 + Send + Sync>;

/// The fleet's quotas in Redis.
pub struct RedisQuota {
    bucket: Arc<Bucket>,
    heartbeat: tokio::task::JoinHandle<()>,
}

struct Bucket {
    address: RedisAddress,
    prefix: String,
    members: Members,
    link: Mutex<Option<MultiplexedConnection>>,
    shared: AtomicBool,
    /// Spreads the looks of nodes that wait for the same permit.
    jitter: AtomicU64,
}

impl RedisQuota {
    /// Counts as away until the first heartbeat came back. Call it within a tokio runtime; `seed` should differ between
    /// nodes.
    #[must_use]
    pub fn start(address: RedisAddress, prefix: &str, members: Members, seed: u64) -> Self {
        let bucket = Arc::new(Bucket {
            address,
            prefix: prefix.to_owned(),
            members,
            link: Mutex::new(None),
            shared: AtomicBool::new(false),
            jitter: AtomicU64::new(seed),
        });
        Self { heartbeat: tokio::spawn(beat(bucket.clone())), bucket }
    }
}

impl Drop for RedisQuota {
    fn drop(&mut self) {
        self.heartbeat.abort();
    }
}

impl FleetQuota for RedisQuota {
    fn take(&self, ask: QuotaAsk) -> BoxFuture<'static, QuotaAnswer> {
        let bucket = self.bucket.clone();
        Box::pin(async move { bucket.take(&ask).await })
    }

    fn is_shared(&self) -> bool {
        self.bucket.shared.load(Ordering::Acquire)
    }
}

/// Finds out whether Redis is there, until it is aborted.
async fn beat(bucket: Arc<Bucket>) {
    loop {
        let answered = matches!(timeout(PATIENCE, bucket.ping()).await, Ok(Ok(())));
        bucket.seen(answered).await;
        tokio::time::sleep(if answered { HEARTBEAT } else { HEARTBEAT_AWAY }).await;
    }
}

impl Bucket {
    async fn take(&self, ask: &QuotaAsk) -> QuotaAnswer {
        let until = tokio::time::Instant::now() + WAIT_MAX;
        loop {
            if !self.shared.load(Ordering::Acquire) {
                return QuotaAnswer::Away { members: (self.members)().max(1) };
            }
            match timeout(PATIENCE, self.try_take(ask)).await {
                Ok(Ok((permits, _))) if permits > 0 || tokio::time::Instant::now() >= until => {
                    return QuotaAnswer::Granted { permits };
                }
                Ok(Ok((_, wait_ms))) => tokio::time::sleep(self.pause(wait_ms)).await,
                Ok(Err(_)) | Err(_) => self.seen(false).await,
            }
        }
    }

    /// Permits taken, and milliseconds until there is one.
    async fn try_take(&self, ask: &QuotaAsk) -> Result<(u32, u64), StreamError> {
        let mut link = self.link().await?;
        let mut script = redis::cmd("EVAL");
        script.arg(TAKE).arg(1).arg(format!("{}:quota:{}", self.prefix, ask.quota));
        script.arg(ask.per_s.max(1)).arg(ask.burst.max(1)).arg(ask.permits);
        Ok(script.query_async(&mut link).await?)
    }

    async fn ping(&self) -> Result<(), StreamError> {
        let mut link = self.link().await?;
        Ok(redis::cmd("PING").exec_async(&mut link).await?)
    }

    async fn link(&self) -> Result<MultiplexedConnection, StreamError> {
        let mut link = self.link.lock().await;
        match &*link {
            Some(open) => Ok(open.clone()),
            None => Ok(link.insert(self.address.connect(PATIENCE).await?).clone()),
        }
    }

    async fn seen(&self, answered: bool) {
        if !answered {
            *self.link.lock().await = None;
        }
        if self.shared.swap(answered, Ordering::AcqRel) != answered {
            let quota = if answered { "shared" } else { "divided by the number of members" };
            tracing::info!(quota, "the fleet's quotas");
        }
        metrics::gauge!("bojagi_quota_shared").set(if answered { 1.0 } else { 0.0 });
    }

    /// The span, and up to half of it more.
    fn pause(&self, wait_ms: u64) -> Duration {
        let drawn = self.jitter.fetch_add(0x9E37_79B9_7F4A_7C15, Ordering::Relaxed);
        let micros = wait_ms.clamp(LOOK_PAUSE_MS.0, LOOK_PAUSE_MS.1) * 1_000;
        Duration::from_micros(micros + (drawn >> 33) % (micros / 2 + 1))
    }
}

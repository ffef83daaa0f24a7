//! What loads share: a schedule that several connections work off, and a call that is repeated under its key until it has
//! a definite answer.

use crate::load::LoadError;
use crate::load::http::{Call, Connection, Reply, Target};
use crate::load::usage;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::time::{Instant, sleep, sleep_until};

/// A call is repeated under its key for this long, then given up as unknown.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);
/// Pauses before a repeat, or another look: doubled from the first to the last.
pub(crate) const PAUSE_FIRST: Duration = Duration::from_millis(20);
pub(crate) const PAUSE_MAX: Duration = Duration::from_millis(500);

/// Calls `0..count`, at a rate or as fast as they go.
pub(crate) struct Pace {
    count: u64,
    rate: Option<f64>,
    began: Instant,
    next: AtomicU64,
}

impl Pace {
    /// Begins now; `rate`: calls a second.
    pub(crate) fn begin(count: u64, rate: Option<f64>) -> Self {
        Self { count, rate, began: Instant::now(), next: AtomicU64::new(0) }
    }

    /// When call `n` is to start; `None`: as soon as it can.
    pub(crate) fn start_of(&self, n: u64) -> Option<Instant> {
        #[expect(clippy::cast_precision_loss, reason = "a count of requests is far below 2^52")]
        self.rate.map(|rate| self.began + Duration::from_secs_f64(n as f64 / rate))
    }

    /// The next call, at its time, and the instant that its latency counts from; `None` when all are begun.
    pub(crate) async fn turn(&self) -> Option<(u64, Instant)> {
        let n = self.next.fetch_add(1, Ordering::Relaxed);
        if n >= self.count {
            return None;
        }
        let start = self.start_of(n);
        if let Some(start) = start {
            sleep_until(start).await;
        }
        Some((n, start.unwrap_or_else(Instant::now)))
    }

    pub(crate) fn elapsed(&self) -> Duration {
        self.began.elapsed()
    }
}

/// The definite answer to a call, and how often it was repeated for it; no answer when [`PATIENCE`] is over.
///
/// # Errors
/// As `call` makes it.
pub(crate) async fn insist<'a>(
    connection: &mut Connection,
    call: impl Fn() -> Result<Call<'a>, LoadError>,
) -> Result<(Option<Reply>, u64), LoadError> {
    let (give_up, mut pause, mut retries) = (Instant::now() + PATIENCE, PAUSE_FIRST, 0);
    loop {
        let reply = connection.call(call()?).await.ok();
        if let Some(reply) = reply.filter(|reply| reply.status < 500 && reply.status != 429) {
            return Ok((Some(reply), retries));
        }
        if Instant::now() + pause >= give_up {
            return Ok((None, retries));
        }
        retries += 1;
        sleep(pause).await;
        pause = (pause * 2).min(PAUSE_MAX);
    }
}

/// # Errors
/// The first URL that is none.
pub(crate) fn targets(urls: &[String]) -> Result<Vec<Target>, LoadError> {
    let parsed = urls.iter().map(|url| Target::parse(url)).collect::<Result<Vec<_>, _>>();
    parsed.map_err(|source| LoadError::Http { what: "the base URL", source })
}

/// CPU milliseconds of the named processes since `before`.
pub(crate) fn cpu_ms_since(pids: &[u32], before: Option<usage::Usage>) -> Option<u64> {
    usage::of(pids).zip(before).map(|(after, before)| after.cpu_ms.saturating_sub(before.cpu_ms))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn calls_start_at_their_rate_each_once_and_end_with_the_last() {
        let pace = Pace::begin(3, Some(2.0));
        let mut turns = Vec::new();
        while let Some((n, start)) = pace.turn().await {
            turns.push((n, pace.elapsed().as_millis(), start.duration_since(pace.began).as_millis()));
        }
        assert_eq!(turns, [(0, 0, 0), (1, 500, 500), (2, 1_000, 1_000)]);
        assert!(pace.turn().await.is_none());
        let free = Pace::begin(1, None);
        assert_eq!(free.start_of(0), None);
        assert!(free.turn().await.is_some_and(|(n, _)| n == 0));
    }
}

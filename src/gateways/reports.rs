//! Delivery reports and payment hints: by webhook, and by polls for webhooks that were lost.
//!
//! A report may come any number of times and in any order; the entity tells repeats apart. A poll that fails, or whose
//! reports find no room, leaves its start where it was, so that the next one asks for the same span again.

use crate::gateways::Busy;
use crate::gateways::actor::{AbortOnDrop, sleep_until};
use crate::gateways::options::PollOptions;
use crate::providers::MessageProvider;
use crate::types::call::Report;
use crate::types::limits::CALL_DEADLINE;
use crate::types::time::{Clock, Millis, Timestamp};
use futures_util::FutureExt;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

/// Receives delivery reports. `Busy`: there is no room now; a poll asks again later, a webhook's sender is told so.
pub type ReportSink = Arc<dyn Fn(Report) -> Result<(), Busy> + Send + Sync>;
/// Receives order ids that a payment webhook hints at, to be looked up.
pub type HintSink = Arc<dyn Fn(String) + Send + Sync>;

/// What became of a webhook.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WebhookResult {
    /// Every report or hint in it was handed on.
    Taken {
        count: usize,
    },
    UnknownProvider,
    Unsigned,
    Malformed,
    /// Some reports found no room: answer 503, the provider repeats it.
    Busy,
}

/// Where a provider's polls stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PollCursor {
    since: Timestamp,
    next: Timestamp,
}

impl PollCursor {
    pub(crate) fn new(options: &PollOptions, now: Timestamp) -> Self {
        Self { since: now - Millis(options.lookback_ms), next: now + Millis(options.every_ms) }
    }

    /// A poll that began at `began` ended at `now`; `taken`: all of its reports were handed on.
    pub(crate) fn polled(&mut self, options: &PollOptions, began: Timestamp, now: Timestamp, taken: bool) {
        if taken {
            self.since = self.since.max(began - Millis(options.overlap_ms));
        }
        self.next = now + Millis(options.every_ms);
    }
}

/// Polls one provider for as long as the handle lives.
pub(crate) fn start_polls(
    provider: Arc<dyn MessageProvider>,
    options: PollOptions,
    clock: Arc<dyn Clock>,
    sink: ReportSink,
) -> AbortOnDrop {
    AbortOnDrop(tokio::spawn(async move {
        let mut moved = clock.moved();
        let mut cursor = PollCursor::new(&options, clock.now());
        loop {
            sleep_until(&*clock, &mut moved, Some(cursor.next)).await;
            let began = clock.now();
            let taken = poll(&*provider, cursor.since, &sink).await;
            cursor.polled(&options, began, clock.now(), taken);
        }
    }))
}

/// One poll; whether all of its reports were handed on.
async fn poll(provider: &dyn MessageProvider, since: Timestamp, sink: &ReportSink) -> bool {
    let call = AssertUnwindSafe(async { provider.poll(since, CALL_DEADLINE).await }).catch_unwind();
    let reports = match tokio::time::timeout(CALL_DEADLINE.to_std(), call).await {
        Ok(Ok(Ok(reports))) => reports,
        Ok(Ok(Err(cause))) => {
            tracing::warn!(provider = provider.name(), cause, "a poll for reports failed");
            return false;
        }
        Ok(Err(_panic)) => {
            tracing::error!(provider = provider.name(), "a poll for reports panicked");
            return false;
        }
        Err(_elapsed) => {
            tracing::warn!(provider = provider.name(), "a poll for reports took too long");
            return false;
        }
    };
    hand_on(reports, sink).is_ok()
}

/// Hands reports to the sink until it has no room; their number.
pub(crate) fn hand_on(reports: Vec<Report>, sink: &ReportSink) -> Result<usize, Busy> {
    let count = reports.len();
    for report in reports {
        metrics::counter!("gateway_reports_total", "provider" => report.provider.clone()).increment(1);
        sink(report)?;
    }
    Ok(count)
}

//! Delivery reports and payment hints: by webhook, and by polls for webhooks that were lost.
//!
//! A report may come any number of times and in any order; the entity tells repeats apart. A poll that fails, or whose
//! reports find no room, leaves its start where it was, so that the next one asks for the same span again. When more has
//! changed in a span than a provider reads at once, or within its deadline, as after a midnight, a shorter one is asked for,
//! and the next soon. What a poll brings is handed on at a pace: after a midnight it is as much as was sent, most of it known by
//! webhook already, and each report wakes an entity.

use crate::gateways::Busy;
use crate::gateways::actor::{AbortOnDrop, sleep_until};
use crate::gateways::options::PollOptions;
use crate::providers::{MessageProvider, PollFailure, Span};
use crate::types::call::Report;
use crate::types::limits::CALL_DEADLINE;
use crate::types::time::{Clock, Millis, Timestamp};
use futures_util::FutureExt;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

/// Receives delivery reports. `Busy`: there is no room now; a poll asks again later, a webhook's sender is told so.
pub type ReportSink = Arc<dyn Fn(Report, Heard) -> Result<(), Busy> + Send + Sync>;
/// Receives order ids that a payment webhook hints at, to be looked up.
pub type HintSink = Arc<dyn Fn(String) + Send + Sync>;

/// How a report came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Heard {
    /// To this node alone.
    Webhook,
    /// Each node polls, and hears the same.
    Poll,
}

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

/// Updates that have just happened may show a moment later: a poll asks so far into the future, whose clock is another's.
const AHEAD: Millis = Millis::from_mins(1);
/// No span is made shorter.
const SPAN_MIN: Millis = Millis::from_secs(1);
/// Between two polls of a span that is caught up with: a poll may be a hundred calls.
const SOON: Millis = Millis::from_secs(1);
/// Reports of a poll that are handed on at a time, and the pause after them: 2,000 a second.
const HANDED_AT_ONCE: usize = 100;
const HANDED_PAUSE: Duration = Duration::from_millis(50);

/// Where a provider's polls stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PollCursor {
    since: Timestamp,
    next: Timestamp,
    /// How far a poll reaches; `None`: to the present.
    reach: Option<Millis>,
}

/// What came of a poll.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Polled {
    /// All of its reports were handed on.
    Taken,
    TooMany,
    /// It took too long: there may be too many, or the provider hangs.
    Late,
    Failed,
}

impl PollCursor {
    pub(crate) fn new(options: &PollOptions, now: Timestamp) -> Self {
        Self { since: now - Millis(options.lookback_ms), next: now + Millis(options.every_ms), reach: None }
    }

    /// What a poll that begins now asks for.
    pub(crate) fn span(&self, now: Timestamp) -> Span {
        let present = now + AHEAD;
        let until = self.reach.map_or(present, |reach| present.min(self.since + reach));
        Span { since: self.since, until }
    }

    /// A poll of `span` that began at `began` ended at `now`.
    pub(crate) fn polled(
        &mut self,
        options: &PollOptions,
        (span, began): (Span, Timestamp),
        now: Timestamp,
        polled: Polled,
    ) {
        let length = span.until - span.since;
        let (is_whole, before) = (span.until > began, self.since);
        match polled {
            Polled::Taken => {
                self.since = self.since.max(span.until.min(began - Millis(options.overlap_ms)));
                self.reach = if is_whole { None } else { self.reach.map(|reach| Millis(reach.0.saturating_mul(2))) };
            }
            Polled::TooMany if length <= SPAN_MIN => {
                tracing::error!(since = %span.since, "more reports in a second than can be read: some are lost");
                self.since = span.until;
            }
            Polled::TooMany | Polled::Late => self.reach = Some(Millis(length.0 / 2).max(SPAN_MIN)),
            Polled::Failed => {}
        }
        let soon = match polled {
            Polled::Taken => !is_whole && self.since > before,
            Polled::TooMany => true,
            Polled::Late | Polled::Failed => false,
        };
        self.next = now + if soon { SOON } else { Millis(options.every_ms) };
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
            let span = cursor.span(began);
            let polled = poll(&*provider, span, &sink).await;
            cursor.polled(&options, (span, began), clock.now(), polled);
        }
    }))
}

async fn poll(provider: &dyn MessageProvider, span: Span, sink: &ReportSink) -> Polled {
    let call = AssertUnwindSafe(async { provider.poll(span, CALL_DEADLINE).await }).catch_unwind();
    let reports = match tokio::time::timeout(CALL_DEADLINE.to_std(), call).await {
        Ok(Ok(Ok(reports))) => reports,
        Ok(Ok(Err(PollFailure::TooMany))) => return Polled::TooMany,
        Ok(Ok(Err(PollFailure::Late))) => return late(provider),
        Ok(Ok(Err(PollFailure::Failed(cause)))) => {
            tracing::warn!(provider = provider.name(), cause, "a poll for reports failed");
            return Polled::Failed;
        }
        Ok(Err(_panic)) => {
            tracing::error!(provider = provider.name(), "a poll for reports panicked");
            return Polled::Failed;
        }
        Err(_elapsed) => {
            return late(provider);
        }
    };
    if hand_on_slowly(reports, sink).await.is_ok() { Polled::Taken } else { Polled::Failed }
}

async fn hand_on_slowly(mut reports: Vec<Report>, sink: &ReportSink) -> Result<(), Busy> {
    while reports.len() > HANDED_AT_ONCE {
        hand_on(reports.drain(..HANDED_AT_ONCE), Heard::Poll, sink)?;
        tokio::time::sleep(HANDED_PAUSE).await;
    }
    hand_on(reports, Heard::Poll, sink).map(drop)
}

fn late(provider: &dyn MessageProvider) -> Polled {
    tracing::warn!(provider = provider.name(), "a poll for reports took too long: a shorter span is asked for");
    Polled::Late
}

/// Hands reports to the sink until it has no room; their number.
pub(crate) fn hand_on(
    reports: impl IntoIterator<Item = Report>,
    heard: Heard,
    sink: &ReportSink,
) -> Result<usize, Busy> {
    let mut count = 0;
    for report in reports {
        metrics::counter!("gateway_reports_total", "provider" => report.provider.clone()).increment(1);
        sink(report, heard)?;
        count += 1;
    }
    Ok(count)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::call::ReportStatus;
    use parking_lot::Mutex;

    const NOON: Timestamp = Timestamp(1_800_000_000_000);
    const OPTIONS: PollOptions = PollOptions { every_ms: 15_000, overlap_ms: 10_000, lookback_ms: 3_600_000 };

    /// Polls a provider that reads `most` updates at once, one of which happens each 10 ms until noon: for how many spans, and
    /// whether they left nothing out.
    fn catch_up(most: i64) -> (usize, bool) {
        let mut cursor = PollCursor::new(&OPTIONS, NOON);
        let (mut read_to, mut spans) = (cursor.since, 0);
        loop {
            let span = cursor.span(NOON);
            let many = (span.until.min(NOON) - span.since).0 / 10;
            let polled = if many > most { Polled::TooMany } else { Polled::Taken };
            if polled == Polled::Taken {
                assert!(span.since <= read_to, "{span:?} leaves a gap after {read_to}");
                read_to = read_to.max(span.until);
            }
            cursor.polled(&OPTIONS, (span, NOON), NOON, polled);
            spans += 1;
            if cursor.next >= NOON + Millis(OPTIONS.every_ms) || spans > 10_000 {
                return (spans, read_to >= NOON);
            }
        }
    }

    #[test]
    fn more_than_a_provider_reads_at_once_is_read_span_by_span() {
        assert_eq!(catch_up(1_000_000), (1, true));
        let (spans, all) = catch_up(10_000);
        assert!(all && spans < 150, "{spans}");
        assert!(catch_up(1_000).1);
    }

    #[test]
    fn a_provider_that_hangs_is_asked_for_less_and_nothing_is_left_out() {
        let mut cursor = PollCursor::new(&OPTIONS, NOON);
        for _ in 0..50 {
            cursor.polled(&OPTIONS, (cursor.span(NOON), NOON), NOON, Polled::Late);
        }
        let since = NOON - Millis(3_600_000);
        assert_eq!(cursor.span(NOON), Span { since, until: since + SPAN_MIN });
        cursor.polled(&OPTIONS, (cursor.span(NOON), NOON), NOON, Polled::Taken);
        let next = Span { since: since + SPAN_MIN, until: since + Millis(3_000) };
        assert_eq!((cursor.span(NOON), cursor.next), (next, NOON + SOON), "twice as much, and soon");
    }

    #[tokio::test(start_paused = true)]
    async fn what_a_poll_brings_is_handed_on_at_a_pace_until_there_is_no_room() {
        let report = |number: u32| Report {
            reference: format!("g_{number}.0.1"),
            provider: "nhn".to_owned(),
            status: ReportStatus::Delivered,
            at: NOON,
        };
        let handed = Arc::new(Mutex::new(Vec::new()));
        let log = handed.clone();
        let sink: ReportSink = Arc::new(move |report, heard| {
            assert_eq!(heard, Heard::Poll);
            let mut log = log.lock();
            if log.len() == 5_000 {
                return Err(Busy);
            }
            log.push((report.reference, tokio::time::Instant::now()));
            Ok(())
        });
        let began = tokio::time::Instant::now();
        let reports = (0..4_000).map(report).collect();
        assert!(hand_on_slowly(reports, &sink).await.is_ok());
        assert_eq!(began.elapsed(), HANDED_PAUSE * 39);
        let in_order = (0..4_000).map(|number| report(number).reference);
        assert!(in_order.eq(handed.lock().iter().map(|(reference, _)| reference.clone())));
        let at_first = handed.lock().iter().filter(|(_, at)| *at == began).count();
        assert_eq!(at_first, HANDED_AT_ONCE);
        assert_eq!(hand_on_slowly((0..2_000).map(report).collect(), &sink).await, Err(Busy));
    }

    #[test]
    fn a_poll_that_failed_is_made_again_for_the_same_span() {
        let mut cursor = PollCursor::new(&OPTIONS, NOON);
        let span = cursor.span(NOON);
        cursor.polled(&OPTIONS, (span, NOON), NOON, Polled::Failed);
        assert_eq!((cursor.span(NOON), cursor.next), (span, NOON + Millis(15_000)));
        cursor.polled(&OPTIONS, (span, NOON), NOON, Polled::Taken);
        assert_eq!(cursor.span(NOON).since, NOON - Millis(10_000));
    }
}

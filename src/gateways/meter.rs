//! What a lane counts, and how operators see it (`GET /v1/ops/gateways`).
//!
//! Counters outlive the lane's actor: they are moved where a ticket or call begins and ends, on whatever thread.

use crate::gateways::policy::View;
use crate::gateways::policy::breaker::BreakerState;
use crate::gateways::policy::concurrency::Micros;
use crate::types::call::{CallOutcome, EntityOutcome, MessageOutcome, PaymentOutcome, ShipmentOutcome};
use crate::types::effect::Lane;
use crate::types::time::{Millis, Timestamp};
use hdrhistogram::Histogram;
use parking_lot::Mutex;
use serde::Serialize;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

/// Percentiles cover the last one to two spans of this length, on the clock.
const LATENCY_SPAN: Millis = Millis::from_mins(1);

/// One lane, as operators see it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct LaneStatus {
    /// `send.kakao`, `notice.sms`, `payment`.
    pub lane: String,
    pub provider: &'static str,
    /// `ready`, `slow_start`, `paused`, `half_open`, `open` or `closed` (the gateway is shut).
    pub state: &'static str,
    /// Permits per second now (shared by a channel's sends and notices).
    pub rate_per_s: u32,
    /// Whose quota it is.
    pub quota: QuotaState,
    /// Open attempts allowed now (shared likewise).
    pub concurrency_limit: u32,
    /// Calls at the provider.
    pub in_flight: usize,
    /// Attempts granted and not finished.
    pub open_attempts: usize,
    pub queued: usize,
    pub breaker: &'static str,
    /// RFC 3339; since when the breaker has not been closed.
    pub open_since: Option<String>,
    /// RFC 3339; end of the open breaker's wait, else of the provider's pause.
    pub paused_until: Option<String>,
    pub accepted: u64,
    pub refused: u64,
    pub unknown: u64,
    pub not_sent: u64,
    /// Of answered calls in the last minute or two, in milliseconds.
    pub latency_ms_p50: Option<f64>,
    pub latency_ms_p99: Option<f64>,
}

/// One gateway: a channel's sends and notices, which share their provider's budget and breaker; payments; shipments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GatewayState {
    /// Of a channel, that of its sends.
    pub lane: Lane,
    /// Whether it has a provider.
    pub served: bool,
    /// Since when its breaker has not been closed.
    pub open_since: Option<Timestamp>,
    /// What the settings give it, in calls per second.
    pub quota_per_s: u32,
    /// Whose that is.
    pub quota: QuotaState,
}

impl GatewayState {
    /// What it does: gateways of one kind stand in for each other.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self.lane {
            Lane::Send(_) | Lane::Notice(_) => "message",
            Lane::Payment => "payment",
            Lane::Shipment => "shipment",
            Lane::Entity => "entity",
        }
    }
}

/// Whose quota a lane draws on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum QuotaState {
    /// The node has one of its own.
    Node,
    /// All nodes draw on one.
    Shared,
    /// The shared one cannot be reached: the node takes the quota over the number of members.
    Fallback,
}

/// How an outcome is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tally {
    Accepted,
    Refused,
    Unknown,
    NotSent,
}

impl Tally {
    pub(crate) fn of(outcome: &CallOutcome) -> Self {
        match outcome {
            CallOutcome::Message(MessageOutcome::Accepted { .. })
            | CallOutcome::Payment(
                PaymentOutcome::Captured { .. } | PaymentOutcome::Pending | PaymentOutcome::Refunded { .. },
            )
            | CallOutcome::Entity(EntityOutcome::Done { .. })
            | CallOutcome::Shipment(
                ShipmentOutcome::Prepared { .. } | ShipmentOutcome::Cancelled { .. } | ShipmentOutcome::Absent,
            ) => Self::Accepted,
            CallOutcome::Message(MessageOutcome::Refused { .. })
            | CallOutcome::Payment(PaymentOutcome::NotCaptured { .. } | PaymentOutcome::RefundRefused { .. })
            | CallOutcome::Entity(EntityOutcome::Rejected { .. })
            | CallOutcome::Shipment(ShipmentOutcome::Refused { .. }) => Self::Refused,
            CallOutcome::Message(MessageOutcome::Unknown { .. } | MessageOutcome::Unconfirmed { .. })
            | CallOutcome::Payment(PaymentOutcome::Unknown { .. })
            | CallOutcome::Entity(EntityOutcome::Unknown { .. })
            | CallOutcome::Shipment(ShipmentOutcome::Unknown { .. }) => Self::Unknown,
            CallOutcome::Message(MessageOutcome::NotSent { .. })
            | CallOutcome::Payment(PaymentOutcome::NotSent { .. })
            | CallOutcome::Shipment(ShipmentOutcome::NotSent { .. }) => Self::NotSent,
        }
    }
}

/// Counters of one lane.
pub(crate) struct Meter {
    name: String,
    pub queued: AtomicUsize,
    pub open: AtomicUsize,
    pub in_flight: AtomicUsize,
    tallies: [AtomicU64; 4],
    latency: Mutex<LatencyWindow>,
    exported: Exported,
}

/// Handles of the `metrics` crate, looked up once.
struct Exported {
    outcomes: [metrics::Counter; 4],
    busy: metrics::Counter,
    latency: metrics::Histogram,
    queued: metrics::Gauge,
    open: metrics::Gauge,
}

impl Meter {
    pub(crate) fn new(lane: Lane, now: Timestamp) -> Arc<Self> {
        let name = lane_name(lane);
        let outcome = |outcome: &'static str| metrics::counter!("gateway_outcomes_total", "lane" => name.clone(), "outcome" => outcome);
        let exported = Exported {
            outcomes: [outcome("accepted"), outcome("refused"), outcome("unknown"), outcome("not_sent")],
            busy: metrics::counter!("gateway_busy_total", "lane" => name.clone()),
            latency: metrics::histogram!("gateway_call_seconds", "lane" => name.clone()),
            queued: metrics::gauge!("gateway_queued", "lane" => name.clone()),
            open: metrics::gauge!("gateway_open_attempts", "lane" => name.clone()),
        };
        Arc::new(Self {
            name,
            queued: AtomicUsize::new(0),
            open: AtomicUsize::new(0),
            in_flight: AtomicUsize::new(0),
            tallies: Default::default(),
            latency: Mutex::new(LatencyWindow::new(now)),
            exported,
        })
    }

    /// Takes a place in the queue unless `bound` are taken.
    pub(crate) fn enqueue(self: &Arc<Self>, bound: usize) -> Option<Place> {
        let before = self.queued.fetch_add(1, Ordering::Relaxed);
        let place = Place(Arc::clone(self));
        if before >= bound {
            self.exported.busy.increment(1);
            return None;
        }
        Some(place)
    }

    pub(crate) fn count(&self, outcome: &CallOutcome) {
        let tally = Tally::of(outcome) as usize;
        self.tallies[tally].fetch_add(1, Ordering::Relaxed);
        self.exported.outcomes[tally].increment(1);
    }

    pub(crate) fn record(&self, latency: Micros, now: Timestamp) {
        self.latency.lock().record(latency, now);
        self.exported.latency.record(std::time::Duration::from_micros(latency.0).as_secs_f64());
    }

    /// Brings the exported gauges up to date.
    pub(crate) fn export(&self) {
        self.exported.queued.set(gauge(&self.queued));
        self.exported.open.set(gauge(&self.open));
    }

    pub(crate) fn status(&self, provider: &'static str, view: &View, shut: bool, now: Timestamp) -> LaneStatus {
        let (p50, p99) = self.latency.lock().percentiles();
        let tally = |tally: Tally| self.tallies[tally as usize].load(Ordering::Relaxed);
        let until = match view.breaker {
            BreakerState::Open { until } => Some(until),
            BreakerState::Closed | BreakerState::HalfOpen { .. } => view.paused_until(now),
        };
        LaneStatus {
            lane: self.name.clone(),
            provider,
            state: state_name(view, shut, now),
            rate_per_s: view.rate_per_s(now),
            quota: QuotaState::Node,
            concurrency_limit: view.limit,
            in_flight: self.in_flight.load(Ordering::Relaxed),
            open_attempts: self.open.load(Ordering::Relaxed),
            queued: self.queued.load(Ordering::Relaxed),
            breaker: view.breaker.name(),
            open_since: view.away_since.map(Timestamp::to_rfc3339),
            paused_until: until.map(Timestamp::to_rfc3339),
            accepted: tally(Tally::Accepted),
            refused: tally(Tally::Refused),
            unknown: tally(Tally::Unknown),
            not_sent: tally(Tally::NotSent),
            latency_ms_p50: p50,
            latency_ms_p99: p99,
        }
    }
}

/// A place in a lane's queue; given back when dropped.
pub(crate) struct Place(Arc<Meter>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.queued.fetch_sub(1, Ordering::Relaxed);
    }
}

/// As logs, metrics and operators name a lane.
pub(crate) fn lane_name(lane: Lane) -> String {
    match lane {
        Lane::Send(channel) => format!("send.{}", channel.name()),
        Lane::Notice(channel) => format!("notice.{}", channel.name()),
        Lane::Payment => "payment".to_owned(),
        Lane::Entity => "entity".to_owned(),
        Lane::Shipment => "shipment".to_owned(),
    }
}

fn state_name(view: &View, shut: bool, now: Timestamp) -> &'static str {
    match view.breaker {
        _ if shut => "closed",
        BreakerState::Open { .. } => "open",
        BreakerState::HalfOpen { .. } => "half_open",
        BreakerState::Closed if view.paused_until(now).is_some() => "paused",
        BreakerState::Closed if view.is_slow(now) => "slow_start",
        BreakerState::Closed => "ready",
    }
}

#[expect(clippy::cast_precision_loss, reason = "a gauge of a bounded count")]
fn gauge(count: &AtomicUsize) -> f64 {
    count.load(Ordering::Relaxed) as f64
}

/// Two spans of latencies, so that percentiles tell of now.
struct LatencyWindow {
    current: Histogram<u32>,
    previous: Histogram<u32>,
    from: Timestamp,
}

impl LatencyWindow {
    fn new(now: Timestamp) -> Self {
        let empty = || Histogram::new_with_bounds(1, 60_000_000, 2).expect("1 µs to 60 s at 2 digits is a valid range");
        Self { current: empty(), previous: empty(), from: now }
    }

    fn record(&mut self, latency: Micros, now: Timestamp) {
        if (now - self.from).0 >= LATENCY_SPAN.0 {
            std::mem::swap(&mut self.current, &mut self.previous);
            self.current.reset();
            self.from = now;
        }
        self.current.saturating_record(latency.0);
    }

    fn percentiles(&self) -> (Option<f64>, Option<f64>) {
        let mut all = self.current.clone();
        all.add(&self.previous).expect("both have the same bounds");
        if all.is_empty() {
            return (None, None);
        }
        let at = |quantile: f64| {
            let micros = all.value_at_quantile(quantile).min(60_000_000);
            std::time::Duration::from_micros(micros).as_secs_f64() * 1_000.0
        };
        (Some(at(0.5)), Some(at(0.99)))
    }
}

//! What a load found, for people and as JSON.

use crate::load::claims::ClaimsReport;
use crate::load::concert::ConcertReport;
use crate::load::orders::OrdersReport;
use crate::load::usage::Usage;
use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt::Write as _;

/// Longest latency that is told apart, in microseconds.
const LATENCY_MICROS_MAX: u64 = 600_000_000;

/// Latencies of one sort, microseconds, three significant digits.
pub(crate) struct Latencies(Histogram<u64>);

impl Latencies {
    pub(crate) fn new() -> Self {
        Self(Histogram::new_with_bounds(1, LATENCY_MICROS_MAX, 3).expect("the bounds are constants"))
    }
    pub(crate) fn record(&mut self, spent: std::time::Duration) {
        let micros = u64::try_from(spent.as_micros()).unwrap_or(LATENCY_MICROS_MAX);
        self.0.saturating_record(micros.clamp(1, LATENCY_MICROS_MAX));
    }
    pub(crate) fn add(&mut self, other: &Self) {
        self.0.add(&other.0).expect("both have the same bounds");
    }
    /// How many took no longer.
    pub(crate) fn at_most(&self, spent: std::time::Duration) -> u64 {
        self.0.count_between(0, u64::try_from(spent.as_micros()).unwrap_or(LATENCY_MICROS_MAX))
    }
    pub(crate) fn summed_up(&self) -> LatencyMicros {
        let at = |percentile| self.0.value_at_percentile(percentile);
        LatencyMicros { p50: at(50.0), p90: at(90.0), p99: at(99.0), p999: at(99.9), max: self.0.max() }
    }
}

/// Percentiles in microseconds; all 0 when nothing was measured.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct LatencyMicros {
    pub p50: u64,
    pub p90: u64,
    pub p99: u64,
    pub p999: u64,
    pub max: u64,
}

impl LatencyMicros {
    pub(crate) fn line(&self) -> String {
        let ms = |micros: u64| format!("{}.{:02}", micros / 1_000, micros % 1_000 / 10);
        let [p50, p90, p99, p999, max] = [self.p50, self.p90, self.p99, self.p999, self.max].map(ms);
        format!("p50 {p50}  p90 {p90}  p99 {p99}  p99.9 {p999}  max {max} ms")
    }
}

/// What came of a load.
#[derive(Debug, Serialize)]
#[serde(tag = "load", rename_all = "snake_case")]
pub enum LoadReport {
    Reserve(Box<ReserveReport>),
    Idle(IdleReport),
    Bare(BareReport),
    Claims(ClaimsReport),
    Orders(OrdersReport),
    Concert(Box<ConcertReport>),
}

/// Reservations through the front door.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ReserveReport {
    /// Part of every idempotency key; the same name repeats the same reservations.
    pub run: String,
    pub asked: u64,
    /// Answered 2xx: the product may never lose these.
    pub acknowledged: u64,
    /// Of those, answered from an earlier call under the same key.
    pub replayed: u64,
    /// Refusals by status and code.
    pub refused: BTreeMap<String, u64>,
    /// Given up on after retries: may or may not exist.
    pub unknown: u64,
    /// Repeats under the same key, for whatever cause.
    pub retries: u64,
    pub elapsed_ms: u64,
    pub acknowledged_per_second: u64,
    /// Of the acknowledged, those that took up to 3 s, retries included.
    pub acknowledged_within_3_s: u64,
    /// From the instant at which a reservation was due to start by the rate (without a rate: started), to its
    /// acknowledgement, retries included.
    pub latency_micros: LatencyMicros,
    /// One HTTP exchange each, from writing the request to its whole reply.
    pub exchange_micros: LatencyMicros,
    /// Every gift's send instant, RFC 3339.
    pub send_at: String,
    pub measure: Option<MeasureReport>,
    /// CPU and memory of the named processes while reserving.
    pub usage: Option<UsageReport>,
    /// The same from the end of the reservations to the last arrival.
    pub burst_usage: Option<UsageReport>,
}

/// CPU time spent and memory at the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UsageReport {
    pub cpu_ms: u64,
    pub cpu_micros_per_gift: u64,
    pub resident_kb: u64,
    pub resident_kb_grown: i64,
}

impl UsageReport {
    pub(crate) fn between(before: Option<Usage>, after: Option<Usage>, gifts: u64) -> Option<Self> {
        let (before, after) = (before?, after?);
        let cpu_ms = after.cpu_ms.saturating_sub(before.cpu_ms);
        Some(Self {
            cpu_ms,
            cpu_micros_per_gift: (cpu_ms * 1_000).checked_div(gifts).unwrap_or(0),
            resident_kb: after.resident_kb,
            resident_kb_grown: after.resident_kb.cast_signed() - before.resident_kb.cast_signed(),
        })
    }
    fn line(&self) -> String {
        let Self { cpu_ms, cpu_micros_per_gift, resident_kb, resident_kb_grown } = self;
        format!(
            "{cpu_ms} ms CPU ({cpu_micros_per_gift} us a gift), {resident_kb} kB resident ({resident_kb_grown:+} kB)"
        )
    }
}

/// A burst, judged by the sandbox's ledger. Instants are those of the sandbox's clock.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct MeasureReport {
    /// Acknowledged gifts that were looked for.
    pub gifts: u64,
    pub arrived: u64,
    /// Acknowledged, and without an effective message when waiting ended.
    pub lost: u64,
    /// With more than one effective message.
    pub doubled: u64,
    /// Accepted before the instant.
    pub early: u64,
    /// Accepted more than 60 s after it.
    pub beyond_minute: u64,
    pub requests: u64,
    pub effective: u64,
    pub lateness_ms_min: Option<i64>,
    pub lateness_ms_p50: Option<i64>,
    pub lateness_ms_p99: Option<i64>,
    /// The greatest lateness: when all are due at one instant, from it to the provider's last acceptance.
    pub last_acceptance_ms: Option<i64>,
    /// A few of the gifts behind `lost` and `doubled`.
    pub examples: Vec<String>,
}

impl MeasureReport {
    /// INV-1 to INV-3 as they are seen from outside.
    #[must_use]
    pub fn passed(&self) -> bool {
        self.lost == 0 && self.doubled == 0 && self.early == 0 && self.beyond_minute == 0
    }
    fn lines(&self, text: &mut String) {
        let ms = |value: Option<i64>| value.map_or_else(|| "-".to_owned(), |ms| format!("{ms} ms"));
        let _ = writeln!(text, "arrived      {} of {} in {} requests", self.arrived, self.gifts, self.requests);
        let _ = writeln!(text, "last one     {} after the instant", ms(self.last_acceptance_ms));
        let (least, half, most) = (ms(self.lateness_ms_min), ms(self.lateness_ms_p50), ms(self.lateness_ms_p99));
        let _ = writeln!(text, "lateness     min {least}  p50 {half}  p99 {most}");
        let Self { lost, doubled, early, beyond_minute, .. } = self;
        let _ = writeln!(
            text,
            "faults       {lost} lost, {doubled} doubled, {early} early, {beyond_minute} over 60 s late"
        );
        for example in &self.examples {
            let _ = writeln!(text, "             {example}");
        }
    }
}

/// Idle connections.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct IdleReport {
    pub asked: u64,
    pub opened: u64,
    pub refused: u64,
    pub opening_ms: u64,
    pub held_ms: u64,
    /// Still open when the time was over.
    pub open_at_end: u64,
    /// Growth of the named processes' memory divided by the open connections.
    pub bytes_each: Option<i64>,
}

/// A bare client.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct BareReport {
    pub requests: u64,
    /// Replies by status; `broken` counts requests without one.
    pub statuses: BTreeMap<u16, u64>,
    pub broken: u64,
    pub elapsed_ms: u64,
    pub per_second: u64,
    pub latency_micros: LatencyMicros,
}

impl LoadReport {
    /// Whether everything that was asked for was done, and the ledger shows no fault.
    #[must_use]
    pub fn passed(&self) -> bool {
        match self {
            Self::Reserve(report) => {
                report.acknowledged == report.asked && report.measure.as_ref().is_none_or(MeasureReport::passed)
            }
            Self::Idle(report) => report.open_at_end == report.asked,
            Self::Bare(report) => report.broken == 0 && report.statuses.keys().all(|status| *status < 400),
            Self::Claims(report) => report.passed(),
            Self::Orders(report) => report.passed(),
            Self::Concert(report) => report.passed(),
        }
    }

    /// As one JSON object, or as lines for a person.
    #[must_use]
    pub fn render(&self, as_json: bool) -> String {
        if as_json {
            return serde_json::to_string(self).expect("reports have text keys only");
        }
        let mut text = String::new();
        match self {
            Self::Reserve(report) => report.lines(&mut text),
            Self::Idle(report) => report.lines(&mut text),
            Self::Bare(report) => report.lines(&mut text),
            Self::Claims(report) => report.lines(&mut text),
            Self::Orders(report) => report.lines(&mut text),
            Self::Concert(report) => report.lines(&mut text),
        }
        text
    }
}

impl ReserveReport {
    fn lines(&self, text: &mut String) {
        let Self { run, asked, acknowledged, replayed, unknown, retries, elapsed_ms, .. } = self;
        let _ = writeln!(text, "run          {run}, all due at {}", self.send_at);
        let _ = writeln!(text, "acknowledged {acknowledged} of {asked} ({replayed} replayed, {retries} retries)");
        let _ = writeln!(text, "took         {elapsed_ms} ms, {} a second", self.acknowledged_per_second);
        let _ = writeln!(text, "latency      {}", self.latency_micros.line());
        let _ = writeln!(text, "exchange     {}", self.exchange_micros.line());
        if *unknown > 0 {
            let _ = writeln!(text, "unknown      {unknown}");
        }
        for (code, count) in &self.refused {
            let _ = writeln!(text, "refused      {count} x {code}");
        }
        for (name, usage) in [("reserving", &self.usage), ("sending", &self.burst_usage)] {
            if let Some(usage) = usage {
                let _ = writeln!(text, "{name:<12} {}", usage.line());
            }
        }
        if let Some(measure) = &self.measure {
            measure.lines(text);
        }
    }
}

impl IdleReport {
    fn lines(&self, text: &mut String) {
        let Self { asked, opened, refused, opening_ms, held_ms, open_at_end, .. } = self;
        let _ = writeln!(text, "opened       {opened} of {asked} in {opening_ms} ms ({refused} refused)");
        let _ = writeln!(text, "still open   {open_at_end} after {held_ms} ms");
        if let Some(bytes) = self.bytes_each {
            let _ = writeln!(text, "memory       {bytes} bytes each");
        }
    }
}

impl BareReport {
    fn lines(&self, text: &mut String) {
        let Self { requests, broken, elapsed_ms, per_second, .. } = self;
        let _ = writeln!(text, "requests     {requests} in {elapsed_ms} ms, {per_second} a second ({broken} broken)");
        for (status, count) in &self.statuses {
            let _ = writeln!(text, "status {status}   {count}");
        }
        let _ = writeln!(text, "latency      {}", self.latency_micros.line());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn percentiles_come_from_all_workers() {
        let (mut all, mut other) = (Latencies::new(), Latencies::new());
        (1..=50).for_each(|ms| all.record(Duration::from_millis(ms)));
        (51..=100).for_each(|ms| other.record(Duration::from_millis(ms)));
        all.add(&other);
        let found = all.summed_up();
        let near = |value: u64, wanted: u64| value.abs_diff(wanted) <= wanted / 500;
        assert!(near(found.p50, 50_000) && near(found.p99, 99_000) && near(found.max, 100_000), "{found:?}");
        assert_eq!(Latencies::new().summed_up(), LatencyMicros::default());
    }

    #[test]
    fn a_report_passes_only_when_nothing_is_missing() {
        let report = |acknowledged, measure| {
            LoadReport::Reserve(Box::new(ReserveReport { asked: 2, acknowledged, measure, ..ReserveReport::default() }))
        };
        assert!(report(2, None).passed());
        assert!(!report(1, None).passed());
        assert!(!report(2, Some(MeasureReport { lost: 1, ..MeasureReport::default() })).passed());
        assert!(!LoadReport::Idle(IdleReport { asked: 2, open_at_end: 1, ..IdleReport::default() }).passed());
    }

    #[test]
    fn json_names_the_load_and_its_figures() {
        let report = LoadReport::Bare(BareReport { requests: 3, statuses: [(200, 3)].into(), ..BareReport::default() });
        let json: serde_json::Value = serde_json::from_str(&report.render(true)).unwrap();
        assert_eq!((&json["load"], &json["statuses"]["200"]), (&"bare".into(), &3.into()));
        assert!(report.render(false).contains("status 200   3"));
    }

    #[test]
    fn usage_is_spread_over_the_gifts() {
        let at = |cpu_ms, resident_kb| Some(Usage { cpu_ms, resident_kb });
        let found = UsageReport::between(at(100, 900), at(300, 800), 1_000).unwrap();
        assert_eq!((found.cpu_ms, found.cpu_micros_per_gift, found.resident_kb_grown), (200, 200, -100));
        assert_eq!(UsageReport::between(None, at(1, 1), 1), None);
    }
}

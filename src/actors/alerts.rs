//! What an operator is woken for, or should look at: the rules, the figures that they are judged by, and which of them hold.
//!
//! | alert | severity | holds while |
//! |---|---|---|
//! | outbox_backlog | critical | over 1,000 calls of the shards led here are due |
//! | gateway_backlog | critical | over 1,000 calls wait in the gateways' queues |
//! | requests_fail | critical | over 1 % of the last minutes' requests got a 5xx |
//! | calls_fail | critical | over 1 % of the last minutes' calls to providers were not answered or not sent |
//! | node_down | critical | a link to another member is down |
//! | replies_slow | warning | over 1 % of the last minutes' replies took over a second, so their p99 did |
//! | cpu_busy | warning | over 70 % of the machine's processor time is taken |
//! | disk_full | warning | over 80 % of the data folder's disk is taken |
//!
//! Each has to hold for some time, and passes as soon as it does not. `cluster-config/alerts.yml` says the same to
//! Prometheus; a test holds the two together.

use crate::actors::shared::Shared;
use crate::gateways::Gateways;
use crate::persistence::space;
use crate::types::publication::Topic;
use crate::types::time::Timestamp;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Under which a change of an alert is published.
pub const TOPIC: Topic = Topic("ops-alert.v1");
/// Looks that a share is counted over: five minutes of them.
const LOOKS: usize = 60;
/// Seconds between two looks.
pub const LOOK_EVERY_S: u64 = 5;
/// Fewer than this in the span say nothing about a share.
const COUNT_MIN: u64 = 100;
/// A reply that takes longer is slow.
const SLOW: Duration = Duration::from_secs(1);
/// Changes that wait to be published; the oldest makes room.
const UNTOLD_MAX: usize = 256;

/// How urgent it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    Critical,
    Warning,
}

impl Severity {
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Critical => "critical",
            Self::Warning => "warning",
        }
    }
}

/// One rule.
pub struct Rule {
    pub alert: &'static str,
    pub severity: Severity,
    /// Above this it holds.
    pub limit: f64,
    /// For so many seconds on end, before it is raised.
    pub hold_s: u64,
    pub summary: &'static str,
    /// The same over `/metrics`.
    pub prometheus: &'static str,
    value: fn(&Figures) -> Option<f64>,
}

/// All of them, in the order of the table.
pub const RULES: [Rule; 8] = [
    Rule {
        alert: "outbox_backlog",
        severity: Severity::Critical,
        limit: 1_000.0,
        hold_s: 60,
        summary: "calls are due and not done",
        prometheus: "bojagi_calls_due > 1000",
        value: |figures| Some(figures.calls_due),
    },
    Rule {
        alert: "gateway_backlog",
        severity: Severity::Critical,
        limit: 1_000.0,
        hold_s: 60,
        summary: "calls wait in the gateways' queues",
        prometheus: "bojagi_calls_queued > 1000",
        value: |figures| Some(figures.calls_queued),
    },
    Rule {
        alert: "requests_fail",
        severity: Severity::Critical,
        limit: 0.01,
        hold_s: 60,
        summary: "share of requests that got a 5xx",
        prometheus: "sum by (instance) (rate(bojagi_http_requests_total{status=~\"5..\"}[5m])) / sum by (instance) \
                     (rate(bojagi_http_requests_total[5m])) > 0.01 and sum by (instance) \
                     (increase(bojagi_http_requests_total[5m])) >= 100",
        value: |figures| figures.requests_failed,
    },
    Rule {
        alert: "calls_fail",
        severity: Severity::Critical,
        limit: 0.01,
        hold_s: 60,
        summary: "share of calls to providers without an answer, or not sent",
        prometheus: "sum by (instance) (rate(gateway_outcomes_total{outcome=~\"unknown|not_sent\"}[5m])) / sum by \
                     (instance) (rate(gateway_outcomes_total[5m])) > 0.01 and sum by (instance) \
                     (increase(gateway_outcomes_total[5m])) >= 100",
        value: |figures| figures.calls_failed,
    },
    Rule {
        alert: "node_down",
        severity: Severity::Critical,
        limit: 0.0,
        hold_s: 10,
        summary: "members to which this node has no link",
        prometheus: "bojagi_link_up == 0 or up{job=\"bojagi\"} == 0",
        value: |figures| Some(figures.peers_down.len() as f64),
    },
    Rule {
        alert: "replies_slow",
        severity: Severity::Warning,
        limit: 0.01,
        hold_s: 60,
        summary: "share of replies that took over a second",
        prometheus: "histogram_quantile(0.99, sum by (instance, le) (rate(bojagi_http_request_seconds_bucket[5m]))) > 1",
        value: |figures| figures.replies_slow,
    },
    Rule {
        alert: "cpu_busy",
        severity: Severity::Warning,
        limit: 0.7,
        hold_s: 60,
        summary: "share of the machine's processor time that is taken",
        prometheus: "bojagi_cpu_share > 0.7",
        value: |figures| figures.cpu_share,
    },
    Rule {
        alert: "disk_full",
        severity: Severity::Warning,
        limit: 0.8,
        hold_s: 60,
        summary: "share of the data folder's disk that is taken",
        prometheus: "bojagi_disk_used_share > 0.8",
        value: |figures| figures.disk_used_share,
    },
];

/// What a node's rules are judged by. `None`: too little was seen to say.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Figures {
    pub calls_due: f64,
    pub calls_queued: f64,
    pub requests_failed: Option<f64>,
    pub replies_slow: Option<f64>,
    pub calls_failed: Option<f64>,
    pub peers_down: Vec<u64>,
    pub cpu_share: Option<f64>,
    pub disk_used_share: Option<f64>,
}

/// An alert that is raised.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Raised {
    pub alert: &'static str,
    pub severity: Severity,
    pub since: Timestamp,
    pub value: f64,
    pub limit: f64,
    /// For `node_down`: which.
    pub peers: Vec<u64>,
}

impl Raised {
    /// As operators and the event stream get it.
    #[must_use]
    pub fn view(&self) -> Value {
        json!({
            "alert": self.alert, "severity": self.severity.name(), "since": self.since.to_rfc3339(),
            "value": self.value, "limit": self.limit, "peers": self.peers,
        })
    }
}

/// An alert was raised, or has passed.
#[derive(Clone, Debug, PartialEq)]
pub struct Change {
    /// Of this start of the node, from 1.
    pub number: u64,
    pub at: Timestamp,
    pub raised: bool,
    pub alert: Raised,
}

/// Which rules hold, and since when.
#[derive(Default)]
struct Watch {
    /// Of those that hold: since when in seconds of looks, and the alert once it is raised.
    holding: BTreeMap<&'static str, (u64, Option<Raised>)>,
    changes: u64,
}

impl Watch {
    /// What a look leads to. `passed_s`: seconds since the look before.
    fn look(&mut self, figures: &Figures, now: Timestamp, passed_s: u64) -> Vec<Change> {
        let mut changed = Vec::new();
        for rule in &RULES {
            let value = (rule.value)(figures).filter(|value| *value > rule.limit);
            let Some(value) = value else {
                if let Some((_, Some(alert))) = self.holding.remove(rule.alert) {
                    changed.push((false, alert));
                }
                continue;
            };
            let (held_s, raised) = self.holding.entry(rule.alert).or_insert((0, None));
            let peers = if rule.alert == "node_down" { figures.peers_down.clone() } else { Vec::new() };
            if let Some(alert) = raised {
                (alert.value, alert.peers) = (value, peers);
            } else if *held_s >= rule.hold_s {
                let (alert, severity, limit) = (rule.alert, rule.severity, rule.limit);
                let alert = Raised { alert, severity, since: now, value, limit, peers };
                *raised = Some(alert.clone());
                changed.push((true, alert));
            }
            *held_s += passed_s;
        }
        let mut number = self.changes;
        let numbered = changed.into_iter().map(|(raised, alert)| {
            number += 1;
            Change { number, at: now, raised, alert }
        });
        let changes: Vec<Change> = numbered.collect();
        self.changes = number;
        changes
    }
}

/// Counts of which shares are told: all, and those that went badly.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Counts {
    replies: u64,
    failed: u64,
    slow: u64,
    calls: u64,
    calls_failed: u64,
}

/// The counts of the last looks, oldest first.
#[derive(Default)]
struct Span(VecDeque<Counts>);

impl Span {
    /// Takes the counts of now, and gives what was counted over the span.
    fn turn(&mut self, now: Counts) -> Counts {
        self.0.push_back(now);
        let surplus = self.0.len().saturating_sub(LOOKS + 1);
        self.0.drain(..surplus);
        let first = self.0.front().copied().unwrap_or(now);
        Counts {
            replies: now.replies.saturating_sub(first.replies),
            failed: now.failed.saturating_sub(first.failed),
            slow: now.slow.saturating_sub(first.slow),
            calls: now.calls.saturating_sub(first.calls),
            calls_failed: now.calls_failed.saturating_sub(first.calls_failed),
        }
    }
}

fn share(part: u64, all: u64) -> Option<f64> {
    (all >= COUNT_MIN).then(|| part as f64 / all as f64)
}

#[derive(Default)]
struct Inner {
    watch: Watch,
    span: Span,
    processor: Option<space::ProcessorTime>,
    cpu_share: Option<f64>,
    disk_used_share: Option<f64>,
    untold: VecDeque<Change>,
}

/// The alerts of one node.
#[derive(Default)]
pub struct Alerts {
    replies: AtomicU64,
    failed: AtomicU64,
    slow: AtomicU64,
    inner: Mutex<Inner>,
}

impl Alerts {
    /// The front door gave a reply.
    pub fn note_reply(&self, took: Duration, failed: bool) {
        self.replies.fetch_add(1, Ordering::Relaxed);
        self.failed.fetch_add(u64::from(failed), Ordering::Relaxed);
        self.slow.fetch_add(u64::from(took > SLOW), Ordering::Relaxed);
    }

    /// Looks at the node's figures, [`LOOK_EVERY_S`] after the last time; blocks on the disk's and the kernel's books.
    pub fn look(&self, shared: &Arc<Shared>) {
        let used = shared.host().and_then(|node| space::used_share(&node.folder.dir));
        let processor = space::processor_time();
        let links = shared.transport().links();
        let peers_down = links.iter().filter(|link| !link.up).map(|link| link.node).collect();
        let mut counts = self.counts();
        for lane in shared.gateways.get().map(Gateways::status).unwrap_or_default() {
            counts.calls += lane.accepted + lane.refused + lane.unknown + lane.not_sent;
            counts.calls_failed += lane.unknown + lane.not_sent;
        }
        let mut inner = self.inner.lock();
        let span = inner.span.turn(counts);
        inner.cpu_share = processor.zip(inner.processor).and_then(|(now, before)| now.share_since(before));
        (inner.processor, inner.disk_used_share) = (processor, used);
        let due = &shared.counters.due;
        let figures = Figures {
            calls_due: due.calls.load(Ordering::Relaxed) as f64,
            calls_queued: shared.gateways.get().map_or(0, Gateways::queued) as f64,
            requests_failed: share(span.failed, span.replies),
            replies_slow: share(span.slow, span.replies),
            calls_failed: share(span.calls_failed, span.calls),
            peers_down,
            cpu_share: inner.cpu_share,
            disk_used_share: inner.disk_used_share,
        };
        let changes = inner.watch.look(&figures, shared.clock.now(), LOOK_EVERY_S);
        inner.tell(changes);
        inner.export();
    }

    fn counts(&self) -> Counts {
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let (replies, failed, slow) = (count(&self.replies), count(&self.failed), count(&self.slow));
        Counts { replies, failed, slow, calls: 0, calls_failed: 0 }
    }

    /// Those that are raised.
    #[must_use]
    pub fn raised(&self) -> Vec<Raised> {
        let inner = self.inner.lock();
        inner.watch.holding.values().filter_map(|(_, raised)| raised.clone()).collect()
    }

    /// Shares of the machine that are taken: of its processors, of the data folder's disk.
    #[must_use]
    pub fn machine(&self) -> (Option<f64>, Option<f64>) {
        let inner = self.inner.lock();
        (inner.cpu_share, inner.disk_used_share)
    }

    /// The changes that nobody was told of on the event stream, oldest first.
    #[must_use]
    pub fn untold(&self) -> Vec<Change> {
        self.inner.lock().untold.iter().cloned().collect()
    }

    /// All up to this one were told.
    pub fn told(&self, number: u64) {
        self.inner.lock().untold.retain(|change| change.number > number);
    }
}

impl Inner {
    fn export(&self) {
        metrics::gauge!("bojagi_cpu_share").set(self.cpu_share.unwrap_or(0.0));
        metrics::gauge!("bojagi_disk_used_share").set(self.disk_used_share.unwrap_or(0.0));
        for rule in &RULES {
            let raised = self.watch.holding.get(rule.alert).is_some_and(|(_, raised)| raised.is_some());
            let gauge = metrics::gauge!("bojagi_alert", "alert" => rule.alert, "severity" => rule.severity.name());
            gauge.set(if raised { 1.0 } else { 0.0 });
        }
    }

    fn tell(&mut self, changes: Vec<Change>) {
        for change in changes {
            let Raised { alert, severity, value, limit, .. } = change.alert;
            let severity = severity.name();
            if change.raised {
                tracing::warn!(alert, severity, value, limit, "alert raised");
            } else {
                tracing::info!(alert, severity, "alert has passed");
            }
            self.untold.push_back(change);
        }
        let surplus = self.untold.len().saturating_sub(UNTOLD_MAX);
        self.untold.drain(..surplus);
    }
}

#[cfg(test)]
#[path = "alerts_tests.rs"]
mod tests;

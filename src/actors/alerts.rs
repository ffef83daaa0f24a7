//! Which alerts of this node hold: the rules of `alert_rules`, judged every few seconds by the node's own figures.
//!
//! An alert is raised once its rule has held for its time, and passes as soon as it does not. A change is a line in the
//! log, a gauge, and an event on the stream.

use crate::actors::alert_rules::{Concerned, Figures, LaneOpen, RULES, Severity};
use crate::actors::cluster::meta;
use crate::actors::shared::Shared;
use crate::gateways::{GatewayState, Gateways};
use crate::persistence::space;
use crate::replication::transport::CertificateEnd;
use crate::sharding::short::{ShortShard, short_shards};
use crate::types::ids::META_SHARD;
use crate::types::publication::Topic;
use crate::types::time::Timestamp;
use parking_lot::Mutex;
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

/// An alert that is raised.
#[derive(Clone, Debug, PartialEq)]
pub struct Raised {
    pub alert: &'static str,
    pub severity: Severity,
    pub since: Timestamp,
    pub value: f64,
    pub limit: f64,
    pub concerned: Concerned,
}

impl Raised {
    /// As operators and the event stream get it.
    #[must_use]
    pub fn view(&self) -> Value {
        let Concerned { peers, shards, lanes, certificates } = &self.concerned;
        let lane = |open: &LaneOpen| json!({ "lane": open.lane, "since": open.since.to_rfc3339() });
        let end = |end: &CertificateEnd| json!({ "of": end.of.name(), "not_after": end.not_after.to_rfc3339() });
        json!({
            "alert": self.alert, "severity": self.severity.name(), "since": self.since.to_rfc3339(),
            "value": self.value, "limit": self.limit, "peers": peers, "shards": shards,
            "lanes": lanes.iter().map(lane).collect::<Vec<Value>>(),
            "certificates": certificates.iter().map(end).collect::<Vec<Value>>(),
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
    holding: BTreeMap<(&'static str, Severity), (u64, Option<Raised>)>,
    changes: u64,
}

impl Watch {
    /// What a look leads to. `passed_s`: seconds since the look before.
    fn look(&mut self, figures: &Figures, now: Timestamp, passed_s: u64) -> Vec<Change> {
        let mut changed = Vec::new();
        for rule in &RULES {
            let value = (rule.value)(figures).filter(|value| rule.limit.is_passed_by(*value));
            let Some(value) = value else {
                if let Some((_, Some(alert))) = self.holding.remove(&rule.id()) {
                    changed.push((false, alert));
                }
                continue;
            };
            let (held_s, raised) = self.holding.entry(rule.id()).or_insert((0, None));
            let concerned = figures.concerned(rule);
            if let Some(alert) = raised {
                (alert.value, alert.concerned) = (value, concerned);
            } else if *held_s >= rule.hold_s {
                let (alert, severity, limit) = (rule.alert, rule.severity, rule.limit.value());
                let alert = Raised { alert, severity, since: now, value, limit, concerned };
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

/// Of the shards led here.
fn short_here(shared: &Shared) -> Vec<ShortShard> {
    let Some((_, state)) = meta::read(shared) else { return Vec::new() };
    let now = shared.time(META_SHARD).unwrap_or_else(|| shared.clock.now());
    short_shards(&state, now).into_iter().filter(|short| shared.leads(short.shard)).collect()
}

/// Those with a provider.
fn served(shared: &Shared) -> Vec<GatewayState> {
    let gateways = shared.gateways.get().map(Gateways::states).unwrap_or_default();
    gateways.into_iter().filter(|gateway| gateway.served).collect()
}

fn ends(shared: &Shared) -> Vec<(CertificateEnd, i64)> {
    let now = shared.clock.now();
    shared.transport().certificates().into_iter().map(|end| (end, end.seconds_left(now))).collect()
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
    shards_short: Vec<ShortShard>,
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
        let short = short_here(shared);
        let mut inner = self.inner.lock();
        let span = inner.span.turn(counts);
        inner.shards_short = short;
        inner.cpu_share = processor.zip(inner.processor).and_then(|(now, before)| now.share_since(before));
        (inner.processor, inner.disk_used_share) = (processor, used);
        let due = &shared.counters.due;
        let figures = Figures {
            calls_due: due.calls.load(Ordering::Relaxed) as f64,
            oldest_call_s: due.oldest_call_ms.load(Ordering::Relaxed) as f64 / 1_000.0,
            clock_off: shared.clocks.am_off(),
            disk_slow: shared.disks.am_slow(),
            calls_queued: shared.gateways.get().map_or(0, Gateways::queued) as f64,
            requests_failed: share(span.failed, span.replies),
            replies_slow: share(span.slow, span.replies),
            calls_failed: share(span.calls_failed, span.calls),
            peers_down,
            shards_short: inner.shards_short.clone(),
            cpu_share: inner.cpu_share,
            disk_used_share: inner.disk_used_share,
            gateways: served(shared),
            certificates: ends(shared),
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
        for (reserve, no_reserve) in [("yes", false), ("no", true)] {
            let short = self.shards_short.iter().filter(|short| short.no_reserve == no_reserve).count();
            metrics::gauge!("bojagi_shards_short", "reserve" => reserve).set(short as f64);
        }
        for rule in &RULES {
            let raised = self.watch.holding.get(&rule.id()).is_some_and(|(_, raised)| raised.is_some());
            let gauge = metrics::gauge!("bojagi_alert", "alert" => rule.alert, "severity" => rule.severity.name());
            gauge.set(if raised { 1.0 } else { 0.0 });
        }
    }

    fn tell(&mut self, changes: Vec<Change>) {
        for change in changes {
            let Raised { alert, severity, value, limit, concerned, .. } = &change.alert;
            let severity = severity.name();
            if change.raised {
                tracing::warn!(alert, severity, value, limit, %concerned, "alert raised");
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

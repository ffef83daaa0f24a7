//! The rules by which an operator is woken, or should look, and the figures that they are judged by.
//!
//! | alert | severity | holds while |
//! |---|---|---|
//! | outbox_backlog | critical | over 1,000 calls of the shards led here are due |
//! | calls_late | critical | the oldest call that is due is over a minute late |
//! | gateway_backlog | critical | over 1,000 calls wait in the gateways' queues |
//! | requests_fail | critical | over 1 % of the last minutes' requests got a 5xx |
//! | calls_fail | critical | over 1 % of the last minutes' calls to providers were not answered or not sent |
//! | node_down | critical | a link to another member is down |
//! | shard_short | warning | a shard led here has fewer voters than there are nodes for |
//! | shard_short | critical | and no majority is left of it once another of its voters goes |
//! | gateway_open | warning | a gateway's breaker is not closed |
//! | gateway_open | critical | so are those of all gateways of a kind (messages, payments, shipments) |
//! | certificate_ends | warning | the node's certificate, or its CA's, ends within 30 days |
//! | certificate_ends | critical | the node's own ends within 7 days: its links do not come up again from then on |
//! | clock_off | warning | this node's clock is over 5 s off the others', so that it leads nothing |
//! | disk_slow | warning | its log takes far longer to sync than most others', so that it leads nothing |
//! | replies_slow | warning | over 1 % of the last minutes' replies took over a second, so their p99 did |
//! | cpu_busy | warning | over 70 % of the machine's processor time is taken |
//! | disk_full | warning | over 80 % of the data folder's disk is taken |
//!
//! Each has to hold for some time. One name may have a rule of each severity: the warning holds on beside the other.
//! `cluster-config/alerts.yml` says the same to Prometheus; a test holds the two together.

use crate::gateways::{GatewayState, lane_name};
use crate::replication::transport::{CertificateEnd, CertificateOf};
use crate::sharding::short::ShortShard;
use crate::types::ids::ShardId;
use crate::types::time::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::fmt;

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

/// What a figure is held against.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Limit {
    Above(f64),
    Below(f64),
}

impl Limit {
    #[must_use]
    pub fn is_passed_by(self, value: f64) -> bool {
        match self {
            Self::Above(limit) => value > limit,
            Self::Below(limit) => value < limit,
        }
    }
    #[must_use]
    pub fn value(self) -> f64 {
        match self {
            Self::Above(limit) | Self::Below(limit) => limit,
        }
    }
}

const DAY_S: f64 = 86_400.0;
/// Seconds before a certificate's end from which on it is an alert.
pub const CERTIFICATE_WARNING_S: f64 = 30.0 * DAY_S;

/// One rule.
pub struct Rule {
    pub alert: &'static str,
    pub severity: Severity,
    /// Beyond this it holds.
    pub limit: Limit,
    /// For so many seconds on end, before it is raised.
    pub hold_s: u64,
    pub summary: &'static str,
    /// The same over `/metrics`.
    pub prometheus: &'static str,
    pub value: fn(&Figures) -> Option<f64>,
}

impl Rule {
    /// What no other rule has.
    #[must_use]
    pub fn id(&self) -> (&'static str, Severity) {
        (self.alert, self.severity)
    }
}

/// All of them, in the order of the table.
pub const RULES: [Rule; 17] = [
    Rule {
        alert: "outbox_backlog",
        severity: Severity::Critical,
        limit: Limit::Above(1_000.0),
        hold_s: 60,
        summary: "calls are due and not done",
        prometheus: "bojagi_calls_due > 1000",
        value: |figures| Some(figures.calls_due),
    },
    Rule {
        alert: "calls_late",
        severity: Severity::Critical,
        limit: Limit::Above(60.0),
        hold_s: 30,
        summary: "the oldest call that is due waits for {{ $value | humanizeDuration }}",
        prometheus: "bojagi_outbox_age_seconds > 60",
        value: |figures| Some(figures.oldest_call_s),
    },
    Rule {
        alert: "gateway_backlog",
        severity: Severity::Critical,
        limit: Limit::Above(1_000.0),
        hold_s: 60,
        summary: "calls wait in the gateways' queues",
        prometheus: "bojagi_calls_queued > 1000",
        value: |figures| Some(figures.calls_queued),
    },
    Rule {
        alert: "requests_fail",
        severity: Severity::Critical,
        limit: Limit::Above(0.01),
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
        limit: Limit::Above(0.01),
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
        limit: Limit::Above(0.0),
        hold_s: 10,
        summary: "members to which this node has no link",
        prometheus: "bojagi_link_up == 0 or up{job=\"bojagi\"} == 0",
        value: |figures| Some(figures.peers_down.len() as f64),
    },
    Rule {
        alert: "shard_short",
        severity: Severity::Critical,
        limit: Limit::Above(0.0),
        hold_s: 60,
        summary: "shards with fewer voters than there are nodes for, each without a majority once another of them goes",
        prometheus: "bojagi_shards_short{reserve=\"no\"} > 0",
        value: |figures| Some(figures.shards_without_reserve().count() as f64),
    },
    Rule {
        alert: "shard_short",
        severity: Severity::Warning,
        limit: Limit::Above(0.0),
        hold_s: 60,
        summary: "shards with fewer voters than there are nodes for",
        prometheus: "sum by (instance) (bojagi_shards_short) > 0",
        value: |figures| Some(figures.shards_short.len() as f64),
    },
    Rule {
        alert: "gateway_open",
        severity: Severity::Critical,
        limit: Limit::Above(0.0),
        hold_s: 60,
        summary: "every {{ $labels.kind }} gateway holds its calls back: the breakers of their providers are open, the \
                  first since {{ $value | humanizeTimestamp }}",
        prometheus: "min by (instance, kind) (gateway_open_since_seconds) > 0",
        value: |figures| Some(figures.gateways_without_another().count() as f64),
    },
    Rule {
        alert: "gateway_open",
        severity: Severity::Warning,
        limit: Limit::Above(0.0),
        hold_s: 60,
        summary: "{{ $labels.lane }} holds its calls back: its provider's breaker is open since \
                  {{ $value | humanizeTimestamp }}",
        prometheus: "gateway_open_since_seconds > 0",
        value: |figures| Some(figures.gateways_open().count() as f64),
    },
    Rule {
        alert: "certificate_ends",
        severity: Severity::Critical,
        limit: Limit::Below(7.0 * DAY_S),
        hold_s: 60,
        summary: "the node's certificate ends in {{ $value | humanizeDuration }}: its links do not come up again after",
        prometheus: "bojagi_certificate_seconds{of=\"node\"} < 604800",
        value: |figures| figures.certificate_seconds(|of| of == CertificateOf::Node),
    },
    Rule {
        alert: "certificate_ends",
        severity: Severity::Warning,
        limit: Limit::Below(CERTIFICATE_WARNING_S),
        hold_s: 60,
        summary: "the {{ $labels.of }} certificate of the links ends in {{ $value | humanizeDuration }}",
        prometheus: "bojagi_certificate_seconds < 2592000",
        value: |figures| figures.certificate_seconds(|_| true),
    },
    Rule {
        alert: "clock_off",
        severity: Severity::Warning,
        limit: Limit::Above(0.0),
        hold_s: 30,
        summary: "the node's clock is off the others': it leads nothing",
        prometheus: "bojagi_clock_off > 0",
        value: |figures| Some(f64::from(u8::from(figures.clock_off))),
    },
    Rule {
        alert: "disk_slow",
        severity: Severity::Warning,
        limit: Limit::Above(0.0),
        hold_s: 30,
        summary: "the node's disk is far slower than most others': it leads nothing",
        prometheus: "bojagi_disk_slow > 0",
        value: |figures| Some(f64::from(u8::from(figures.disk_slow))),
    },
    Rule {
        alert: "replies_slow",
        severity: Severity::Warning,
        limit: Limit::Above(0.01),
        hold_s: 60,
        summary: "share of replies that took over a second",
        prometheus: "histogram_quantile(0.99, sum by (instance, le) (rate(bojagi_http_request_seconds_bucket[5m]))) > 1",
        value: |figures| figures.replies_slow,
    },
    Rule {
        alert: "cpu_busy",
        severity: Severity::Warning,
        limit: Limit::Above(0.7),
        hold_s: 60,
        summary: "share of the machine's processor time that is taken",
        prometheus: "bojagi_cpu_share > 0.7",
        value: |figures| figures.cpu_share,
    },
    Rule {
        alert: "disk_full",
        severity: Severity::Warning,
        limit: Limit::Above(0.8),
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
    /// For how long the oldest call that is due waits.
    pub oldest_call_s: f64,
    pub clock_off: bool,
    pub disk_slow: bool,
    pub requests_failed: Option<f64>,
    pub replies_slow: Option<f64>,
    pub calls_failed: Option<f64>,
    pub peers_down: Vec<u64>,
    /// Of those that this node leads.
    pub shards_short: Vec<ShortShard>,
    pub cpu_share: Option<f64>,
    pub disk_used_share: Option<f64>,
    /// Those with a provider.
    pub gateways: Vec<GatewayState>,
    /// Each with the seconds until its end.
    pub certificates: Vec<(CertificateEnd, i64)>,
}

/// A lane whose breaker is not closed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LaneOpen {
    pub lane: String,
    pub since: Timestamp,
}

/// What an alert is about, where that is not the node as a whole.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Concerned {
    /// For `node_down`: which.
    pub peers: Vec<u64>,
    /// For `shard_short`: which.
    pub shards: Vec<ShardId>,
    /// For `gateway_open`: which, and since when.
    pub lanes: Vec<LaneOpen>,
    /// For `certificate_ends`: which, and when.
    pub certificates: Vec<CertificateEnd>,
}

impl fmt::Display for Concerned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let peers = self.peers.iter().map(|peer| format!("node {peer}"));
        let lanes = self.lanes.iter().map(|open| format!("{} since {}", open.lane, open.since));
        let ends = self.certificates.iter().map(|end| format!("{} certificate until {}", end.of.name(), end.not_after));
        let shards = self.shards.iter().map(|shard| format!("shard {shard}"));
        f.write_str(&peers.chain(shards).chain(lanes).chain(ends).collect::<Vec<_>>().join(", "))
    }
}

impl Figures {
    fn shards_without_reserve(&self) -> impl Iterator<Item = &ShortShard> {
        self.shards_short.iter().filter(|short| short.no_reserve)
    }

    fn gateways_open(&self) -> impl Iterator<Item = &GatewayState> {
        self.gateways.iter().filter(|gateway| gateway.open_since.is_some())
    }

    /// Those that are open and for which no other of their kind stands in.
    fn gateways_without_another(&self) -> impl Iterator<Item = &GatewayState> {
        let closed = self.gateways.iter().filter(|gateway| gateway.open_since.is_none());
        let kinds: BTreeSet<&str> = closed.map(GatewayState::kind).collect();
        self.gateways_open().filter(move |gateway| !kinds.contains(gateway.kind()))
    }

    /// Until the first end among these certificates.
    fn certificate_seconds(&self, of: fn(CertificateOf) -> bool) -> Option<f64> {
        let ends = self.certificates.iter().filter(|(end, _)| of(end.of));
        ends.map(|(_, seconds_left)| *seconds_left as f64).min_by(f64::total_cmp)
    }

    fn certificates_within(&self, of: fn(CertificateOf) -> bool, limit: Limit) -> Vec<CertificateEnd> {
        let near =
            |(end, seconds_left): &&(CertificateEnd, i64)| of(end.of) && limit.is_passed_by(*seconds_left as f64);
        self.certificates.iter().filter(near).map(|(end, _)| *end).collect()
    }

    /// What a rule holds of.
    #[must_use]
    pub fn concerned(&self, rule: &Rule) -> Concerned {
        let open =
            |gateway: &GatewayState| Some(LaneOpen { lane: lane_name(gateway.lane), since: gateway.open_since? });
        match (rule.alert, rule.severity) {
            ("node_down", _) => Concerned { peers: self.peers_down.clone(), ..Concerned::default() },
            ("shard_short", Severity::Critical) => Concerned {
                shards: self.shards_without_reserve().map(|short| short.shard).collect(),
                ..Concerned::default()
            },
            ("shard_short", Severity::Warning) => Concerned {
                shards: self.shards_short.iter().map(|short| short.shard).collect(),
                ..Concerned::default()
            },
            ("gateway_open", Severity::Critical) => {
                Concerned { lanes: self.gateways_without_another().filter_map(open).collect(), ..Concerned::default() }
            }
            ("gateway_open", Severity::Warning) => {
                Concerned { lanes: self.gateways_open().filter_map(open).collect(), ..Concerned::default() }
            }
            ("certificate_ends", severity) => {
                let of: fn(CertificateOf) -> bool = match severity {
                    Severity::Critical => |of| of == CertificateOf::Node,
                    Severity::Warning => |_| true,
                };
                Concerned { certificates: self.certificates_within(of, rule.limit), ..Concerned::default() }
            }
            _ => Concerned::default(),
        }
    }
}

//! When alerts are raised and pass, and that Prometheus is told the same rules.

use super::*;
use crate::actors::alert_rules::Rule;
use crate::gateways::QuotaState;
use crate::replication::transport::CertificateOf;
use crate::types::effect::{Channel, Lane};
use crate::types::ids::ShardId;

const RULES_FILE: &str = include_str!("../../cluster-config/alerts.yml");
const START: Timestamp = Timestamp(1_800_000_000_000);

/// Looks at figures for so many seconds on end.
fn hold(watch: &mut Watch, figures: &Figures, seconds: u64) -> Vec<(&'static str, bool)> {
    let looks = (0..seconds).step_by(usize::try_from(LOOK_EVERY_S).unwrap());
    let changes = looks.flat_map(|_| watch.look(figures, START, LOOK_EVERY_S));
    changes.map(|change| (change.alert.alert, change.raised)).collect()
}

fn calm() -> Figures {
    Figures {
        calls_due: 1_000.0,
        calls_queued: 1_000.0,
        oldest_call_s: 60.0,
        cpu_share: Some(0.7),
        ..Figures::default()
    }
}

#[test]
fn nothing_is_raised_at_the_limits_nor_by_what_nobody_knows() {
    assert_eq!(hold(&mut Watch::default(), &calm(), 600), []);
}

#[test]
fn what_holds_for_its_time_is_raised_once_and_passes_at_once() {
    let mut watch = Watch::default();
    let busy = Figures { calls_due: 1_001.0, ..calm() };
    assert_eq!(hold(&mut watch, &busy, 55), []);
    assert_eq!(hold(&mut watch, &calm(), 5), [], "it did not last");
    assert_eq!(hold(&mut watch, &busy, 60), []);
    assert_eq!(hold(&mut watch, &busy, 60), [("outbox_backlog", true)]);
    let worse = Figures { calls_due: 5_000.0, ..calm() };
    assert_eq!(hold(&mut watch, &worse, 60), [], "it is raised already");
    assert_eq!(watch.holding[&("outbox_backlog", Severity::Critical)].1.as_ref().unwrap().value, 5_000.0);
    assert_eq!(hold(&mut watch, &calm(), 60), [("outbox_backlog", false)]);
}

#[test]
fn every_rule_is_raised_by_what_is_above_its_limit() {
    let bad = Figures {
        calls_due: 1_001.0,
        calls_queued: 1_001.0,
        oldest_call_s: 60.1,
        clock_off: true,
        disk_slow: true,
        requests_failed: share(2, 100),
        replies_slow: share(2, 100),
        calls_failed: share(2, 100),
        peers_down: vec![3],
        shards_short: vec![ShortShard { shard: ShardId(25), no_reserve: true }],
        cpu_share: Some(0.71),
        disk_used_share: Some(0.81),
        gateways: vec![gateway(Lane::Payment, Some(START))],
        certificates: vec![end(CertificateOf::Node, 7 * DAY_S - 1)],
    };
    let mut watch = Watch::default();
    let raised = hold(&mut watch, &bad, 120);
    assert_eq!(watch.holding.len(), RULES.len());
    assert!(raised.iter().all(|(_, raised)| *raised) && raised.len() == RULES.len());
    assert_eq!(raised[0].0, "node_down", "the one that waits least");
    assert_eq!(watch.holding[&("node_down", Severity::Critical)].1.as_ref().unwrap().view()["peers"], json!([3]));
    assert_eq!(hold(&mut watch, &Figures::default(), 5).len(), RULES.len());
}

#[test]
fn short_shards_are_named_and_critical_are_those_without_reserve() {
    let short = |shard, no_reserve| ShortShard { shard: ShardId(shard), no_reserve };
    let mut watch = Watch::default();
    let figures = Figures { shards_short: vec![short(7, false), short(25, true)], ..calm() };
    assert_eq!(hold(&mut watch, &figures, 60), [], "a group that changes is given a minute");
    assert_eq!(hold(&mut watch, &figures, 5), [("shard_short", true), ("shard_short", true)]);
    let raised = watch.holding.values().filter_map(|(_, raised)| raised.as_ref()).map(Raised::view);
    let shards: Vec<(Value, Value)> = raised.map(|view| (view["severity"].clone(), view["shards"].clone())).collect();
    assert_eq!(shards, [(json!("critical"), json!([25])), (json!("warning"), json!([7, 25]))]);
}

fn gateway(lane: Lane, open_since: Option<Timestamp>) -> GatewayState {
    GatewayState { lane, served: true, open_since, quota_per_s: 1, quota: QuotaState::Node }
}

/// What is raised of open gateways, as operators get it: severity, and each lane with since when.
fn open_lanes(gateways: Vec<GatewayState>) -> Vec<(Value, Value)> {
    let mut watch = Watch::default();
    hold(&mut watch, &Figures { gateways, ..calm() }, 120);
    let raised = watch.holding.values().filter_map(|(_, raised)| raised.as_ref());
    let open = raised.filter(|raised| raised.alert == "gateway_open").map(Raised::view);
    open.map(|view| (view["severity"].clone(), view["lanes"].clone())).collect()
}

#[test]
fn an_open_gateway_is_named_and_critical_once_no_other_of_its_kind_is_left() {
    let (kakao, sms) = (Lane::Send(Channel::Kakao), Lane::Send(Channel::Sms));
    let later = START + crate::types::time::Millis(5_000);
    let named = |lane: &str, since: Timestamp| json!({ "lane": lane, "since": since.to_rfc3339() });
    assert_eq!(open_lanes(vec![gateway(kakao, None), gateway(sms, None), gateway(Lane::Payment, None)]), []);
    let one = [gateway(kakao, Some(later)), gateway(sms, None), gateway(Lane::Payment, None)];
    assert_eq!(open_lanes(one.to_vec()), [(json!("warning"), json!([named("send.kakao", later)]))]);
    let all = [gateway(kakao, Some(later)), gateway(sms, Some(START)), gateway(Lane::Payment, None)];
    let both = json!([named("send.kakao", later), named("send.sms", START)]);
    assert_eq!(open_lanes(all.to_vec()), [(json!("critical"), both.clone()), (json!("warning"), both)]);
    let payments = [gateway(kakao, Some(later)), gateway(sms, None), gateway(Lane::Payment, Some(START))];
    let (some, every) =
        (json!([named("payment", START)]), json!([named("send.kakao", later), named("payment", START)]));
    assert_eq!(open_lanes(payments.to_vec()), [(json!("critical"), some), (json!("warning"), every)]);
}

const DAY_S: i64 = 86_400;

fn end(of: CertificateOf, seconds_left: i64) -> (CertificateEnd, i64) {
    let not_after = START + crate::types::time::Millis(seconds_left * 1_000);
    let end = CertificateEnd { of, not_after };
    assert_eq!(end.seconds_left(START), seconds_left);
    (end, seconds_left)
}

/// What is raised when certificates have so many seconds left: severity, seconds, and whose.
fn endings(node_s: i64, ca_s: i64) -> Vec<(&'static str, f64, Vec<&'static str>)> {
    let mut watch = Watch::default();
    let certificates = vec![end(CertificateOf::Node, node_s), end(CertificateOf::Ca, ca_s)];
    hold(&mut watch, &Figures { certificates, ..calm() }, 120);
    let raised = watch.holding.values().filter_map(|(_, raised)| raised.as_ref());
    let of = |raised: &Raised| raised.concerned.certificates.iter().map(|end| end.of.name()).collect();
    raised.map(|raised| (raised.severity.name(), raised.value, of(raised))).collect()
}

#[test]
fn a_certificate_is_told_of_30_days_before_its_end_and_is_critical_at_7_if_it_is_the_nodes_own() {
    let far = 825 * DAY_S;
    assert_eq!(endings(30 * DAY_S, 30 * DAY_S), []);
    assert_eq!(endings(30 * DAY_S - 1, far), [("warning", 2_591_999.0, vec!["node"])]);
    assert_eq!(endings(far, -1), [("warning", -1.0, vec!["ca"])], "links do not go by it");
    let both = [("critical", 604_799.0, vec!["node"]), ("warning", 604_799.0, vec!["node", "ca"])];
    assert_eq!(endings(7 * DAY_S - 1, 8 * DAY_S), both);
}

#[test]
fn a_share_is_of_the_last_five_minutes_and_of_enough() {
    let mut span = Span::default();
    let at = |replies, failed| Counts { replies, failed, ..Counts::default() };
    span.turn(at(0, 0));
    assert_eq!(span.turn(at(99, 99)), at(99, 99));
    assert_eq!(share(99, 99), None, "too few to say");
    for _ in 0..LOOKS {
        span.turn(at(1_000, 99));
    }
    assert_eq!(span.turn(at(1_000, 99)), at(0, 0), "the bad ones are long past");
    assert_eq!(share(11, 1_000), Some(0.011));
}

#[test]
fn changes_wait_to_be_told_in_order_and_within_a_bound() {
    let alerts = Alerts::default();
    let alert = Raised {
        alert: "cpu_busy",
        severity: Severity::Warning,
        since: START,
        value: 1.0,
        limit: 0.7,
        concerned: Concerned::default(),
    };
    let change = |number| Change { number, at: START, raised: true, alert: alert.clone() };
    alerts.inner.lock().tell((1..=300).map(change).collect());
    assert_eq!(alerts.untold().len(), UNTOLD_MAX);
    assert_eq!(alerts.untold()[0].number, 45);
    alerts.told(299);
    assert_eq!(alerts.untold().iter().map(|change| change.number).collect::<Vec<_>>(), [300]);
}

/// The file as the rules make it.
fn rules_file() -> String {
    let mut text = String::from(
        "# Alert rules for Prometheus: `rule_files: [alerts.yml]`. The same rules are judged by each node itself, see\n\
         # `GET /v1/ops/alerts`; a test holds the two together. Scrape `/metrics` of every node as job `bojagi`.\n\
         groups:\n  - name: bojagi\n    rules:\n",
    );
    for rule in &RULES {
        let Rule { alert, severity, hold_s, summary, prometheus, .. } = rule;
        text += &format!(
            "      - alert: {alert}\n        expr: '{prometheus}'\n        for: {hold_s}s\n        labels:\n          \
             severity: {}\n        annotations:\n          summary: \"{summary}\"\n",
            severity.name(),
        );
    }
    text += "  - name: bojagi-success\n    rules:\n";
    for (name, of, good) in [
        ("orders", "order", "completed"),
        ("gift_reservations", "gift", "reserved"),
        ("seat_reservations", "reservation", "confirmed"),
    ] {
        text += &format!(
            "      - record: bojagi:{name}:success_ratio_5m\n        expr: 'sum(rate(bojagi_outcomes_total{{of=\"{of}\",\
             result=\"{good}\"}}[5m])) / sum(rate(bojagi_outcomes_total{{of=\"{of}\"}}[5m]))'\n",
        );
    }
    text + "      - record: bojagi:coupons:success_ratio_5m\n        expr: 'sum(rate(bojagi_coupon_claims_total{result=\
            ~\"issued|replayed\"}[5m])) / sum(rate(bojagi_coupon_claims_total[5m]))'\n"
}

#[test]
fn prometheus_is_told_the_same_rules() {
    let made = rules_file();
    for (line, known) in made.lines().zip(RULES_FILE.lines()) {
        assert_eq!(line, known);
    }
    assert_eq!(made.lines().count(), RULES_FILE.lines().count(), "{made}");
}

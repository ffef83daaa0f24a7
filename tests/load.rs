//! The load generator and the demo against a small stand-in for API and sandbox, which can be told to misbehave.

#[path = "load/stand_in.rs"]
mod stand_in;

use bojagi::load::{DemoTarget, LoadArgs, LoadReport, ReserveReport, demo, run};
use clap::Parser;
use stand_in::{StandIn, Twist};

#[derive(Parser)]
struct Line {
    #[command(flatten)]
    load: LoadArgs,
}

async fn load(line: &str) -> LoadReport {
    let words = std::iter::once("load").chain(line.split_whitespace());
    run(Line::parse_from(words).load).await.unwrap()
}

async fn reserve(base: &str, more: &str) -> Box<ReserveReport> {
    let line = format!("--reserve 50 --concurrency 4 --url {base} --sandbox {base} --users 3 {more}");
    match load(&line).await {
        LoadReport::Reserve(report) => report,
        LoadReport::Idle(_)
        | LoadReport::Bare(_)
        | LoadReport::Claims(_)
        | LoadReport::Orders(_)
        | LoadReport::Concert(_) => {
            panic!("not the load that was asked for")
        }
    }
}

fn target(base: &str) -> DemoTarget {
    DemoTarget {
        api: base.to_owned(),
        sandbox: base.to_owned(),
        user_token: "user".to_owned(),
        merchant_token: "merchant".to_owned(),
        operator_token: "operator".to_owned(),
    }
}

async fn demo_fault(twist: Twist) -> String {
    let base = StandIn::start(twist).await;
    demo(target(&base)).await.unwrap_err().to_string()
}

#[tokio::test]
async fn reservations_are_acknowledged_measured_and_judged() {
    let base = StandIn::start(Twist::None).await;
    let report = reserve(&base, "--measure --advance 0 --wait 5").await;
    assert_eq!((report.acknowledged, report.unknown, report.retries), (50, 0, 0));
    assert!(report.latency_micros.p99 >= report.latency_micros.p50 && report.latency_micros.p50 > 0);
    let measure = report.measure.as_ref().unwrap();
    assert_eq!((measure.gifts, measure.arrived, measure.lost, measure.doubled), (50, 50, 0, 0));
    assert_eq!((measure.lateness_ms_p50, measure.last_acceptance_ms), (Some(7), Some(7)));
    assert!(LoadReport::Reserve(report).passed());
}

#[tokio::test]
async fn a_busy_answer_is_repeated_under_the_same_key() {
    let base = StandIn::start(Twist::BusyFirst).await;
    let report = reserve(&base, "--run same").await;
    assert_eq!((report.acknowledged, report.retries, report.replayed), (50, 50, 0));
    let again = reserve(&base, "--run same").await;
    assert_eq!((again.acknowledged, again.retries, again.replayed), (50, 0, 50));
}

#[tokio::test]
async fn a_broken_connection_is_repeated_on_a_new_one() {
    let base = StandIn::start(Twist::CloseEach).await;
    let report = reserve(&base, "").await;
    assert_eq!((report.acknowledged, report.unknown), (50, 0));
}

#[tokio::test]
async fn refusals_are_counted_by_code_and_fail_the_run() {
    let base = StandIn::start(Twist::Refuse).await;
    let report = reserve(&base, "").await;
    assert_eq!(report.refused.get("422 invalid"), Some(&50));
    assert!(!LoadReport::Reserve(report).passed());
}

#[tokio::test]
async fn losses_and_doubles_are_seen_in_the_ledger() {
    let base = StandIn::start(Twist::LoseMessage).await;
    let lost = reserve(&base, "--measure --advance 0 --wait 0").await.measure.unwrap();
    assert_eq!((lost.arrived, lost.lost, lost.last_acceptance_ms), (0, 50, None));
    let base = StandIn::start(Twist::DoubleMessage).await;
    let doubled = reserve(&base, "--measure --advance 0 --wait 5").await.measure.unwrap();
    assert_eq!((doubled.arrived, doubled.doubled, doubled.effective), (50, 50, 100));
}

#[tokio::test]
async fn a_bare_client_counts_statuses() {
    let base = StandIn::start(Twist::None).await;
    let line = format!("bare --requests 40 --concurrency 3 --url {base}/echo?x=1 --body n{{n}} --header x-a:b");
    let LoadReport::Bare(report) = load(&line).await else { panic!("not the load that was asked for") };
    assert_eq!((report.statuses.get(&200), report.broken), (Some(&40), 0));
}

#[tokio::test]
async fn idle_connections_stay_open_and_closed_ones_are_seen() {
    let base = StandIn::start(Twist::None).await;
    let held = load(&format!("idle --connections 20 --url {base} --path /healthz --hold 0")).await;
    assert!(held.passed(), "{}", held.render(true));
    let streams = load(&format!("idle --connections 20 --url {base} --path /stream --sse --hold 0")).await;
    assert!(streams.passed(), "{}", streams.render(true));
    let refused = load(&format!("idle --connections 5 --url {base} --path /nowhere --hold 0")).await;
    assert!(!refused.passed());
}

#[tokio::test]
async fn the_demo_passes_over_a_faithful_product() {
    let base = StandIn::start(Twist::None).await;
    demo(target(&base)).await.unwrap();
}

#[tokio::test]
async fn the_demo_sees_what_is_wrong() {
    let doubled = demo_fault(Twist::DoubleMessage).await;
    assert!(doubled.starts_with("The clock moves to midnight: expected one effective message"), "{doubled}");
    let early = demo_fault(Twist::EarlyMessage).await;
    assert!(early.contains("within a minute"), "{early}");
    let kept = demo_fault(Twist::KeepRefund).await;
    assert!(kept.starts_with("The third is cancelled: expected one movement of 4500 won"), "{kept}");
    let refused = demo_fault(Twist::Refuse).await;
    assert!(refused.contains("expected 201 and the gift, got 422"), "{refused}");
    let adrift = demo_fault(Twist::Adrift).await;
    assert!(adrift.ends_with("expected 0 won adrift, found 1"), "{adrift}");
}

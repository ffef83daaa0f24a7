//! A restart forgets nothing: counts, keys, replies, and results that still have to come out.

use crate::common::Bench;
use crate::nhn::send;
use crate::toss::confirmed;
use bojagi::types::time::Millis;
use http::Method;
use serde_json::{Value, json};

fn recipient(to: &str, reference: &str) -> Value {
    json!({ "recipientNo": to, "recipientGroupingKey": reference })
}

#[tokio::test]
async fn restarted_sandbox_judges_as_before() {
    let mut bench = Bench::start();
    send(&bench, "a", &[recipient("01012345678", "g_1.0.1"), recipient("01099990004", "g_2.0.1")]).await;
    confirmed(&bench, "g_1", "tok_1", "k1").await;
    confirmed(&bench, "g_2", "tok_reject", "k2").await;
    bench.advance(Millis(300)).await;
    send(&bench, "b", &[recipient("01012340000", "g_3.0.1")]).await;
    let (summary, ledger) = (bench.get("/ledger/summary").await, bench.get("/ledger").await);
    assert_eq!(summary["messages"]["effective"], 2);
    bench.restart().await;
    assert_eq!(bench.get("/ledger/summary").await, summary);
    assert_eq!(bench.get("/ledger").await, ledger);

    let repeated = send(&bench, "a", &[recipient("01012345678", "g_1.0.1")]).await.json();
    assert_eq!(repeated["header"]["resultCode"], -1005);
    assert_eq!(confirmed(&bench, "g_1", "tok_1", "k1").await.0, 200);
    assert_eq!(confirmed(&bench, "g_2", "tok_reject", "k2").await.0, 403);
    assert_eq!(bench.get("/ledger/summary").await["payments"]["paid"]["value"], 4500);
    assert_eq!(bench.get("/ledger/summary").await["messages"]["effective"], 2);
}

#[tokio::test]
async fn results_that_were_pending_come_out_after_a_restart_and_only_once() {
    let mut bench = Bench::start();
    send(&bench, "a", &[recipient("01012345678", "g_1.0.1"), recipient("01099990004", "g_2.0.1")]).await;
    bench.advance(Millis(300)).await;
    bench.restart().await;
    bench.advance(Millis(60_000)).await;
    let path = "/alimtalk/v2.3/appkeys/dev-app/message-results?startUpdateDate=2026-12-25%2014:00&endUpdateDate=2026-12-25%2015:00";
    let polled = bench.call(Method::GET, path, &[("X-Secret-Key", "dev-secret")], "").await.json();
    // Each row shows the message as it is now: g_1, then g_2 at its interim result, then g_2 again.
    let rows: Vec<_> =
        polled["messages"].as_array().unwrap().iter().map(|row| (&row["recipientSeq"], &row["resultCode"])).collect();
    assert_eq!(rows, [(&json!(1), &json!("1000")), (&json!(2), &json!("1000")), (&json!(2), &json!("1000"))]);
    assert!(bench.handle().next_due().is_none());
}

#[tokio::test]
async fn answered_call_is_in_the_file_before_its_answer() {
    let bench = Bench::start();
    for turn in 0..20 {
        let reference = format!("g_{turn}.0.1");
        send(&bench, &reference, &[recipient("01012345678", &reference)]).await;
        confirmed(&bench, &format!("g_{turn}"), "tok_1", &reference).await;
        // What a killed process would leave behind at this very moment.
        let copy = tempfile::tempdir().unwrap();
        std::fs::copy(bench.dir.path().join("ledger.log"), copy.path().join("ledger.log")).unwrap();
        let other = Bench::on(copy, bench.clock.clone());
        let summary = other.get("/ledger/summary").await;
        assert_eq!(summary["messages"]["effective"], turn + 1);
        assert_eq!(summary["payments"]["paid"]["value"], (turn + 1) * 4500);
    }
}

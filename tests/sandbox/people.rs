//! The ledger's pages, the faults' orders, the console, and starting.

use crate::common::{Bench, start_at};
use crate::nhn::send;
use bojagi::sandbox::{Sandbox, SandboxError, SandboxOptions};
use bojagi::types::time::Millis;
use http::Method;
use serde_json::json;

fn recipient(reference: &str, link: &str) -> serde_json::Value {
    json!({ "recipientNo": "01012345678", "templateParameter": { "link": link }, "recipientGroupingKey": reference })
}

#[tokio::test]
async fn ledger_pages_follow_their_cursor() {
    let bench = Bench::start();
    let all: Vec<_> = (0..25).map(|index| recipient(&format!("g_{index:02}.0.1"), "http://x/g/1")).collect();
    send(&bench, "a", &all).await;
    let first = bench.get("/ledger?kind=message").await;
    assert_eq!(first["items"].as_array().unwrap().len(), 20);
    let cursor = first["next_cursor"].as_str().unwrap();
    let second = bench.get(&format!("/ledger?kind=message&cursor={cursor}")).await;
    assert_eq!((second["items"].as_array().unwrap().len(), &second["next_cursor"]), (5, &json!(null)));
    assert_eq!(second["items"][4]["reference"], "g_24.0.1");
    assert_eq!(bench.get("/ledger?kind=payment").await["items"], json!([]));
    assert_eq!(bench.call(Method::GET, "/ledger?kind=other", &[], "").await.status, 400);
    assert_eq!(bench.call(Method::GET, "/ledger?cursor=z", &[], "").await.status, 400);
}

#[tokio::test]
async fn faults_are_ordered_listed_and_end_by_themselves() {
    let bench = Bench::start();
    let order = r#"{"provider":"*","kind":"latency","probability":0.25,"latency_ms":5,"seconds":60}"#;
    let ordered = bench.fault(order).await;
    assert_eq!((&ordered["kind"], &ordered["until"]), (&json!("latency"), &json!("2026-12-25T05:01:00.000Z")));
    assert_eq!(bench.get("/faults").await["items"].as_array().unwrap().len(), 1);
    let path = format!("/faults/{}", ordered["id"]);
    assert_eq!(bench.call(Method::DELETE, &path, &[], "").await.status, 200);
    assert_eq!(bench.call(Method::DELETE, &path, &[], "").await.status, 404);
    bench.fault(order).await;
    bench.advance(Millis::from_secs(60)).await;
    assert_eq!(bench.get("/faults").await["items"], json!([]));
    let refused = bench.call(Method::POST, "/faults", &[], r#"{"provider":"kt","kind":"down"}"#).await;
    assert_eq!((refused.status, &refused.headers["content-type"]), (400, &"application/problem+json".parse().unwrap()));
    assert_eq!(bench.call(Method::POST, "/faults", &[], "{").await.status, 400);
    assert_eq!(bench.call(Method::GET, "/nowhere", &[], "").await.status, 404);
    assert_eq!(bench.call(Method::POST, "/ledger", &[], "").await.status, 405);
}

#[tokio::test]
async fn console_shows_messages_as_text_with_working_links() {
    let bench = Bench::start();
    let evil = json!({
        "recipientNo": "01012345678",
        "templateParameter": { "<script>": "<img src=x onerror=alert(1)>", "link": "http://127.0.0.1:8080/g/1?a=\"b" },
        "recipientGroupingKey": "g_1.0.1{{rules}}",
    });
    send(&bench, "a", &[evil]).await;
    bench.fault(r#"{"provider":"nhn","kind":"late_result","seconds":60}"#).await;
    let page = bench.call(Method::GET, "/", &[], "").await;
    assert_eq!(page.headers["content-type"], "text/html; charset=utf-8");
    assert!(page.headers["content-security-policy"].to_str().unwrap().starts_with("default-src 'none'"));
    for wanted in [
        "class=\"bubble kakao\"",
        "href=\"http://127.0.0.1:8080/g/1?a=&quot;b\"",
        "late_result",
        "data-fault=\"1\"",
        "&lt;img",
    ] {
        assert!(page.text.contains(wanted), "{wanted} is not on the page");
    }
    assert!(!page.text.contains("<img") && page.text.matches("<script>").count() == 1);
    assert!(!bench.call(Method::GET, "/?part=live", &[], "").await.text.contains("<html"));
}

#[tokio::test]
async fn taken_port_and_folder_are_said_clearly() {
    let bench = Bench::start();
    let taken = Sandbox::start(SandboxOptions {
        http_addr: bench.handle().http_addr(),
        smtp_addr: "127.0.0.1:0".parse().unwrap(),
        data_dir: bench.dir.path().join("other"),
        webhook_targets: Vec::new(),
        clock: bench.clock.clone(),
        seed: 1,
    });
    let said = taken.err().unwrap();
    assert!(matches!(said, SandboxError::PortTaken { port: "HTTP", .. }), "{said}");
    assert!(said.to_string().contains(&bench.handle().http_addr().to_string()));
    let used = start_at(bench.dir.path(), bench.clock.clone(), Vec::new()).err().unwrap();
    assert!(used.to_string().contains("in use by another process"), "{used}");
    let other = tempfile::tempdir().unwrap();
    let target = start_at(other.path(), bench.clock.clone(), vec!["https://node".to_owned()]).err().unwrap();
    assert!(matches!(target, SandboxError::Target { .. }));
}

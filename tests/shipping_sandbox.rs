//! The shipping client against the sandbox: prepared once whatever is repeated or lost, and never after a cancel.

use bojagi::providers::{ProvidersConfig, ShippingProvider, build_shipping_provider};
use bojagi::sandbox::{Sandbox, SandboxHandle, SandboxOptions};
use bojagi::types::call::{Parcel, Prior, RefusalClass, ShipmentOperation, ShipmentOutcome, ShipmentRequest};
use bojagi::types::time::{BootMillis, Clock, Millis, Timestamp};
use serde_json::{Value, json};
use std::sync::Arc;

const DEADLINE: Millis = Millis::from_secs(10);

struct Still(tokio::sync::watch::Sender<u64>);

impl Clock for Still {
    fn now(&self) -> Timestamp {
        Timestamp(1_800_000_000_000)
    }
    fn boot(&self) -> BootMillis {
        BootMillis(0)
    }
    fn moved(&self) -> tokio::sync::watch::Receiver<u64> {
        self.0.subscribe()
    }
}

struct Bench {
    folder: tempfile::TempDir,
    sandbox: SandboxHandle,
    shipping: Arc<dyn ShippingProvider>,
    http: reqwest::Client,
}

impl Bench {
    fn start() -> Self {
        Self::on(tempfile::tempdir().unwrap())
    }

    fn on(folder: tempfile::TempDir) -> Self {
        let clock: Arc<dyn Clock> = Arc::new(Still(tokio::sync::watch::channel(0).0));
        let sandbox = Sandbox::start(SandboxOptions {
            http_addr: "127.0.0.1:0".parse().unwrap(),
            smtp_addr: "127.0.0.1:0".parse().unwrap(),
            data_dir: folder.path().to_owned(),
            webhook_targets: Vec::new(),
            clock: Arc::clone(&clock),
            seed: 1,
        })
        .unwrap();
        let config = ProvidersConfig::sandbox(&format!("http://{}", sandbox.http_addr()), "127.0.0.1:1");
        let shipping = build_shipping_provider(&config, &clock).unwrap().unwrap();
        let http = reqwest::Client::builder().no_proxy().tls_certs_only([]).build().unwrap();
        Self { folder, sandbox, shipping, http }
    }

    async fn perform(&self, reference: &str, operation: ShipmentOperation) -> ShipmentOutcome {
        let idempotency_key = format!("{reference}.1");
        let request =
            ShipmentRequest { reference: reference.to_owned(), operation, idempotency_key, prior: Prior::None };
        self.shipping.perform(&request, DEADLINE).await
    }

    async fn fault(&self, fault: Option<Value>) {
        let url = format!("http://{}/faults", self.sandbox.http_addr());
        let request = match fault {
            Some(fault) => self.http.post(url).json(&fault),
            None => self.http.delete(url),
        };
        assert!(request.send().await.unwrap().status().is_success());
    }

    /// Requests and effective shipments of a reference, by the ledger.
    async fn ledger(&self, reference: &str) -> (i64, i64) {
        let url = format!("http://{}/ledger?kind=shipment&reference_prefix={reference}", self.sandbox.http_addr());
        let page: Value = self.http.get(url).send().await.unwrap().json().await.unwrap();
        let item = &page["items"][0];
        assert_eq!((&page["items"][1], &item["provider"]), (&Value::Null, &json!("shipping")), "{page}");
        (item["requests"].as_i64().unwrap(), item["effective"].as_i64().unwrap())
    }
}

fn prepare(sku: &str) -> ShipmentOperation {
    ShipmentOperation::Prepare { parcels: vec![Parcel { sku: sku.to_owned(), quantity: 2 }], to: None }
}
fn cancel() -> ShipmentOperation {
    ShipmentOperation::Cancel { reason: "cancelled".to_owned() }
}
fn is_prepared(outcome: &ShipmentOutcome) -> bool {
    matches!(outcome, ShipmentOutcome::Prepared { tracking, .. } if tracking.starts_with("SB"))
}
fn refused(code: &str, class: RefusalClass) -> ShipmentOutcome {
    ShipmentOutcome::Refused { code: code.to_owned(), class }
}

#[tokio::test]
async fn a_reference_is_prepared_once_also_after_a_restart_and_taken_back_once() {
    let bench = Bench::start();
    let first = bench.perform("o_1", prepare("mug")).await;
    assert!(is_prepared(&first), "{first:?}");
    assert_eq!(bench.perform("o_1", prepare("mug")).await, first);
    assert_eq!(bench.ledger("o_1").await, (2, 1));
    let Bench { folder, sandbox, .. } = bench;
    sandbox.shutdown().await;
    let bench = Bench::on(folder);
    assert_eq!(bench.perform("o_1", ShipmentOperation::Lookup).await, first, "remembered");
    for _ in 0..2 {
        let cancelled = bench.perform("o_1", cancel()).await;
        assert!(matches!(cancelled, ShipmentOutcome::Cancelled { .. }), "{cancelled:?}");
    }
    assert_eq!(bench.ledger("o_1").await, (4, 0));
    assert_eq!(bench.perform("o_1", prepare("mug")).await, refused("CANCELLED", RefusalClass::Permanent));
}

#[tokio::test]
async fn a_cancel_that_overtakes_its_prepare_keeps_it_out() {
    let bench = Bench::start();
    assert_eq!(bench.perform("o_2", ShipmentOperation::Lookup).await, ShipmentOutcome::Absent);
    assert!(matches!(bench.perform("o_2", cancel()).await, ShipmentOutcome::Cancelled { .. }));
    assert_eq!(bench.perform("o_2", prepare("mug")).await, refused("CANCELLED", RefusalClass::Permanent));
    assert_eq!(bench.ledger("o_2").await, (2, 0));
}

#[tokio::test]
async fn goods_and_faults_are_refused_as_they_are_meant() {
    let bench = Bench::start();
    let heavy = bench.perform("o_3", prepare("unshippable-lamp")).await;
    assert_eq!(heavy, refused("GOODS_REFUSED", RefusalClass::Permanent));
    assert!(is_prepared(&bench.perform("o_4", prepare("uncancellable-cake")).await));
    assert_eq!(bench.perform("o_4", cancel()).await, refused("ALREADY_SHIPPED", RefusalClass::Permanent));
    bench.fault(Some(json!({ "provider": "shipping", "kind": "refuse", "code": "NO_SUCH_ADDRESS" }))).await;
    assert_eq!(bench.perform("o_5", prepare("mug")).await, refused("NO_SUCH_ADDRESS", RefusalClass::Permanent));
    bench.fault(None).await;
    bench.fault(Some(json!({ "provider": "shipping", "kind": "down" }))).await;
    let down = bench.perform("o_5", prepare("mug")).await;
    assert!(matches!(down, ShipmentOutcome::Refused { class: RefusalClass::Retry, .. }), "{down:?}");
    bench.fault(None).await;
    bench.fault(Some(json!({ "provider": "shipping", "kind": "accept_then_drop" }))).await;
    let lost = bench.perform("o_5", prepare("mug")).await;
    assert!(matches!(lost, ShipmentOutcome::Unknown { .. }), "{lost:?}");
    assert!(is_prepared(&bench.perform("o_5", ShipmentOperation::Lookup).await), "a lookup loses nothing");
    assert_eq!(bench.ledger("o_5").await.1, 1);
}

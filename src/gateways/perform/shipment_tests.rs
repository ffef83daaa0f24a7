//! What one call to the shipping provider may conclude, for each earlier try.

use super::*;
use crate::gateways::policy::Health;
use crate::gateways::testing::{START, TestClock, unknown_since};
use crate::types::call::{Parcel, Prior, RefusalClass};
use futures_util::future::BoxFuture;
use parking_lot::Mutex;

/// Answers lookups and other calls by script, and notes what it was asked.
struct FakeShipping {
    lookup: ShipmentOutcome,
    other: ShipmentOutcome,
    asked: Mutex<Vec<&'static str>>,
}

impl ShippingProvider for FakeShipping {
    fn name(&self) -> &'static str {
        "fakeship"
    }
    fn perform<'a>(&'a self, request: &'a ShipmentRequest, _: Millis) -> BoxFuture<'a, ShipmentOutcome> {
        let (name, outcome) = match &request.operation {
            ShipmentOperation::Prepare { .. } => ("prepare", &self.other),
            ShipmentOperation::Cancel { .. } => ("cancel", &self.other),
            ShipmentOperation::Lookup => ("lookup", &self.lookup),
        };
        self.asked.lock().push(name);
        Box::pin(std::future::ready(outcome.clone()))
    }
}

fn prepared() -> ShipmentOutcome {
    ShipmentOutcome::Prepared { provider: "fakeship".to_owned(), tracking: "T".to_owned(), at: START }
}
fn cancelled() -> ShipmentOutcome {
    ShipmentOutcome::Cancelled { at: START }
}
fn unknown() -> ShipmentOutcome {
    ShipmentOutcome::Unknown { cause: "timeout".to_owned() }
}
fn prepare() -> ShipmentOperation {
    ShipmentOperation::Prepare { parcels: vec![Parcel { sku: "mug".to_owned(), quantity: 1 }], to: None }
}
fn cancel() -> ShipmentOperation {
    ShipmentOperation::Cancel { reason: "r".to_owned() }
}

/// What is asked of the provider, and what is concluded.
async fn call(
    operation: ShipmentOperation,
    prior: Prior,
    (lookup, other): (ShipmentOutcome, ShipmentOutcome),
) -> (Vec<&'static str>, Ended<ShipmentOutcome>) {
    let (clock, begun) = (TestClock::new(), AtomicBool::new(false));
    let provider = FakeShipping { lookup, other, asked: Mutex::default() };
    let fence = Fence { clock: &*clock, not_after: BootMillis(2_000), begun: &begun };
    let (reference, idempotency_key) = ("o_1".to_owned(), "o_1.1".to_owned());
    let request = ShipmentRequest { reference, operation, idempotency_key, prior };
    let ended = shipment(&provider, &request, &fence).await;
    (provider.asked.into_inner(), ended)
}

#[tokio::test(start_paused = true)]
async fn a_first_try_asks_once_and_an_unknown_one_is_looked_up_before_it_is_repeated() {
    let tried = unknown_since(Millis(1));
    let absent = || ShipmentOutcome::Absent;
    let cases = [
        (prepare(), Prior::None, absent(), prepared(), vec!["prepare"], prepared()),
        (prepare(), tried, prepared(), unknown(), vec!["lookup"], prepared()),
        (prepare(), tried, absent(), prepared(), vec!["lookup", "prepare"], prepared()),
        (prepare(), tried, cancelled(), prepared(), vec!["lookup"], cancelled()),
        (prepare(), tried, unknown(), prepared(), vec!["lookup"], unknown()),
        (cancel(), tried, cancelled(), unknown(), vec!["lookup"], cancelled()),
        (cancel(), tried, prepared(), cancelled(), vec!["lookup", "cancel"], cancelled()),
        (cancel(), tried, absent(), cancelled(), vec!["lookup", "cancel"], cancelled()),
        (ShipmentOperation::Lookup, tried, absent(), unknown(), vec!["lookup"], absent()),
    ];
    for (operation, prior, lookup, other, asked, outcome) in cases {
        let (did, ended) = call(operation, prior, (lookup, other)).await;
        assert_eq!((did, ended.outcome), (asked, outcome));
    }
}

#[tokio::test(start_paused = true)]
async fn a_refusals_pause_is_the_gateways_and_its_code_the_orders() {
    let class = RefusalClass::Retry;
    let refused = ShipmentOutcome::Refused { code: "http_429;retry-after=7".to_owned(), class };
    let (_, ended) = call(prepare(), Prior::None, (ShipmentOutcome::Absent, refused)).await;
    assert_eq!(ended.outcome, ShipmentOutcome::Refused { code: "http_429".to_owned(), class });
    assert_eq!(ended.health, Health::Throttled { retry_after: Some(Millis(7_000)) });
}

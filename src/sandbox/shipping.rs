//! The shipping provider: prepare, cancel and lookup of a shipment by the caller's reference.
//!
//! The protocol is the one that `providers/shipping.rs` speaks. A reference is prepared at most once, whatever is
//! repeated; a cancel that overtakes its prepare keeps it out.

use crate::sandbox::context::Decision;
use crate::sandbox::event::{Event, ShipmentDone, ShipmentEvent};
use crate::sandbox::http::{Answer, Call, decode};
use crate::sandbox::journal::JournalLost;
use crate::sandbox::settings::{Provider, SHIPPING_API_KEY};
use crate::sandbox::shipments::{Shipment, ShipmentState};
use http::Method;
use serde::Deserialize;
use serde_json::{Value, json};
use xxhash_rust::xxh3::xxh3_64;

const REFERENCE_CHARACTERS_MAX: usize = 100;
/// Goods whose stock-keeping unit begins so are refused, or leave at once.
const UNSHIPPABLE: &str = "unshippable";
const UNCANCELLABLE: &str = "uncancellable";

#[derive(Deserialize)]
struct Goods {
    items: Vec<Item>,
}

#[derive(Deserialize)]
struct Item {
    sku: String,
    quantity: u32,
}

/// # Errors
/// None of its own; a lost journal is met when the answer waits for it.
#[allow(clippy::unnecessary_wraps, reason = "as every provider's answer")]
pub(crate) fn answer(call: &Call<'_>) -> Result<Answer, JournalLost> {
    let authorised = call.header("authorization").and_then(|header| header.strip_prefix("Bearer "));
    if authorised != Some(SHIPPING_API_KEY) {
        return Ok(failure(401, "UNAUTHORIZED"));
    }
    let Some(resource) = call.path.strip_prefix("/shipping/v1/shipments/") else {
        return Ok(failure(404, "NO_SUCH_RESOURCE"));
    };
    let (reference, rest) = resource.split_once('/').map_or((resource, None), |(name, rest)| (name, Some(rest)));
    let reference = decode(reference);
    if reference.is_empty() || reference.chars().count() > REFERENCE_CHARACTERS_MAX {
        return Ok(failure(400, "INVALID_REFERENCE"));
    }
    let posts = call.method == Method::POST;
    if posts && call.header("idempotency-key").is_none_or(str::is_empty) {
        return Ok(failure(400, "IDEMPOTENCY_KEY_REQUIRED"));
    }
    Ok(match (call.method, rest) {
        (&Method::GET, None) => look_up(call, &reference),
        (&Method::POST, None) => change(call, &reference, |decision| prepare(call, decision, &reference)),
        (&Method::POST, Some("cancel")) => change(call, &reference, |decision| cancel(call, decision, &reference)),
        (_, _) => failure(404, "NO_SUCH_RESOURCE"),
    })
}

fn failure(status: u16, code: &str) -> Answer {
    Answer::of(status, &json!({ "code": code }))
}

fn view(reference: &str, shipment: Shipment) -> Value {
    let status = match shipment.state {
        ShipmentState::Prepared { .. } => "prepared",
        ShipmentState::Cancelled => "cancelled",
    };
    let tracking = format!("SB{:010}", xxh3_64(reference.as_bytes()) % 10_000_000_000);
    json!({ "reference": reference, "status": status, "tracking": tracking, "at": shipment.at.to_rfc3339() })
}

fn look_up(call: &Call<'_>, reference: &str) -> Answer {
    if let Some(status) = call.turned_away() {
        return failure(status, "TURNED_AWAY");
    }
    match call.context.glance(|book, _| book.shipments.get(reference)) {
        Some(shipment) => Answer::of(200, &view(reference, shipment)),
        None => failure(404, "NOT_FOUND"),
    }
}

/// What a call does, and the refusal where it does nothing.
type Decided = (ShipmentDone, Result<(), (u16, String)>);

/// Decides a call and writes it down, also when it changes nothing.
fn change(call: &Call<'_>, reference: &str, decide: impl FnOnce(&Decision<'_>) -> Decided) -> Answer {
    let (answer, mark) = call.context.decide(|decision| {
        let (done, refused) = match call.turned_away() {
            Some(status) => (ShipmentDone::Nothing, Err((status, "TURNED_AWAY".to_owned()))),
            None => decide(decision),
        };
        let at = decision.now;
        decision.record(&Event::Shipment(ShipmentEvent { reference: reference.into(), at, done }));
        match (refused, decision.book.shipments.get(reference)) {
            (Err((status, code)), _) => failure(status, &code),
            (Ok(()), Some(shipment)) => Answer::of(200, &view(reference, shipment)),
            (Ok(()), None) => failure(500, "LOST"),
        }
    });
    answer.after(mark)
}

fn refuse(status: u16, code: &str) -> Decided {
    (ShipmentDone::Nothing, Err((status, code.to_owned())))
}

/// A refusal that was ordered, with the default code where the order names none.
fn ordered(call: &Call<'_>, decision: &Decision<'_>, default: &str) -> Option<String> {
    if !call.context.faults.any() {
        return None;
    }
    let code = call.context.faults.recipient(Provider::Shipping, call.path, decision.now).refused?;
    Some(if code.is_empty() { default.to_owned() } else { code })
}

fn prepare(call: &Call<'_>, decision: &Decision<'_>, reference: &str) -> Decided {
    let Ok(goods) = serde_json::from_slice::<Goods>(call.body) else { return refuse(400, "INVALID_REQUEST") };
    if goods.items.is_empty() || goods.items.iter().any(|item| item.quantity == 0) {
        return refuse(400, "INVALID_REQUEST");
    }
    match decision.book.shipments.get(reference).map(|shipment| shipment.state) {
        Some(ShipmentState::Prepared { .. }) => return (ShipmentDone::Nothing, Ok(())),
        Some(ShipmentState::Cancelled) => return refuse(409, "CANCELLED"),
        None => {}
    }
    if let Some(code) = ordered(call, decision, "ADDRESS_REFUSED") {
        return refuse(422, &code);
    }
    let any = |prefix: &str| goods.items.iter().any(|item| item.sku.starts_with(prefix));
    if any(UNSHIPPABLE) {
        return refuse(422, "GOODS_REFUSED");
    }
    (ShipmentDone::Prepared { final_once: any(UNCANCELLABLE) }, Ok(()))
}

fn cancel(call: &Call<'_>, decision: &Decision<'_>, reference: &str) -> Decided {
    match decision.book.shipments.get(reference).map(|shipment| shipment.state) {
        Some(ShipmentState::Cancelled) => (ShipmentDone::Nothing, Ok(())),
        Some(ShipmentState::Prepared { final_once: true }) => refuse(409, "ALREADY_SHIPPED"),
        Some(ShipmentState::Prepared { final_once: false }) | None => {
            match ordered(call, decision, "ALREADY_SHIPPED") {
                Some(code) => refuse(409, &code),
                None => (ShipmentDone::Cancelled, Ok(())),
            }
        }
    }
}

//! The shipping provider: prepare, cancel and lookup of a shipment by our reference.
//!
//! The protocol, since carriers have none in common: JSON over HTTP, `Authorization: Bearer <api key>`, our reference in
//! the path, an `Idempotency-Key` on every POST whose first reply is replayed for 15 days.
//!
//! | call | answer |
//! |---|---|
//! | `POST /shipping/v1/shipments/{reference}` `{items, to}` | 200 the shipment; 409 `CANCELLED` when it was taken back before; 422 a refusal for good |
//! | `POST /shipping/v1/shipments/{reference}/cancel` `{reason}` | 200 the shipment, also when it was never prepared: then it never will be; 409 `ALREADY_SHIPPED` |
//! | `GET /shipping/v1/shipments/{reference}` | 200 the shipment, 404 `NOT_FOUND` |
//!
//! A shipment is `{reference, status, tracking, at}` with `status` `prepared` or `cancelled`. So a reference is prepared
//! at most once whatever is repeated, and a cancel overtakes a prepare that is still on its way. A 429, and a 503 from in
//! front of the provider, were not performed; any other reply that is not listed may have been.

use super::http::{HttpClient, HttpFailure, HttpReply};
use super::settings::{SettingsError, ShippingConfig};
use super::{ShippingProvider, wire};
use crate::types::call::{Parcel, RefusalClass, ShipTo, ShipmentOperation, ShipmentOutcome, ShipmentRequest};
use crate::types::contact::Private;
use crate::types::time::{Clock, Millis};
use futures_util::future::BoxFuture;
use reqwest::Method;
use serde::Deserialize;
use serde_json::{Value, json};
use std::sync::Arc;

/// The client. Cheap to call concurrently.
pub struct Shipping {
    http: HttpClient,
    clock: Arc<dyn Clock>,
    api_key: Private<String>,
}

#[derive(Deserialize)]
struct Shipment {
    reference: String,
    status: String,
    #[serde(default)]
    tracking: String,
    at: Option<String>,
}

#[derive(Deserialize)]
struct ErrorReply {
    code: String,
}

impl Shipping {
    /// # Errors
    /// [`SettingsError`]
    pub(crate) fn new(config: &ShippingConfig, clock: Arc<dyn Clock>) -> Result<Self, SettingsError> {
        let http = HttpClient::new(&config.base_url)?;
        Ok(Self { http, clock, api_key: config.api_key.get("shipping.api_key")? })
    }

    async fn run(&self, request: &ShipmentRequest, deadline: Millis) -> ShipmentOutcome {
        let shipment = ["shipping", "v1", "shipments", request.reference.as_str()];
        let cancel = ["shipping", "v1", "shipments", request.reference.as_str(), "cancel"];
        let (method, path, body): (Method, &[&str], Option<Value>) = match &request.operation {
            ShipmentOperation::Prepare { parcels, to } => (Method::POST, &shipment, Some(goods(parcels, to.as_ref()))),
            ShipmentOperation::Cancel { reason } => (Method::POST, &cancel, Some(json!({ "reason": reason }))),
            ShipmentOperation::Lookup => (Method::GET, &shipment, None),
        };
        let mut call = self.http.request(method, self.http.url(path)).bearer_auth(&self.api_key.0);
        if let Some(body) = body {
            call = call.header("Idempotency-Key", &request.idempotency_key).json(&body);
        }
        match self.http.call(call, deadline, self.clock.now()).await {
            Ok(reply) => self.read(request, &reply),
            Err(HttpFailure::NotConnected { cause }) => ShipmentOutcome::NotSent { cause },
            Err(HttpFailure::NoReply { cause }) => ShipmentOutcome::Unknown { cause },
        }
    }

    fn read(&self, request: &ShipmentRequest, reply: &HttpReply) -> ShipmentOutcome {
        if reply.is_turned_away() {
            let code = reply.code(&error_code(reply));
            if matches!(request.operation, ShipmentOperation::Lookup) {
                // It says nothing of what was looked up.
                return ShipmentOutcome::NotSent { cause: code };
            }
            return ShipmentOutcome::Refused { code, class: RefusalClass::Retry };
        }
        if reply.is_success() {
            let shipment: Option<Shipment> = reply.json();
            return match shipment.filter(|shipment| shipment.reference == request.reference) {
                Some(shipment) => self.standing(shipment),
                None => ShipmentOutcome::Unknown { cause: "reply is not this reference's shipment".to_owned() },
            };
        }
        let code = error_code(reply);
        let looks_up = matches!(request.operation, ShipmentOperation::Lookup);
        match (reply.status, code.as_str()) {
            (404, "NOT_FOUND") if looks_up => ShipmentOutcome::Absent,
            (409, "CANCELLED" | "ALREADY_SHIPPED") | (422, _) if !looks_up => {
                ShipmentOutcome::Refused { code, class: RefusalClass::Permanent }
            }
            (_, _) => ShipmentOutcome::Unknown { cause: code },
        }
    }

    fn standing(&self, shipment: Shipment) -> ShipmentOutcome {
        let at = shipment.at.as_deref().and_then(wire::parse_instant).unwrap_or_else(|| self.clock.now());
        match shipment.status.as_str() {
            "prepared" => {
                ShipmentOutcome::Prepared { provider: self.name().to_owned(), tracking: shipment.tracking, at }
            }
            "cancelled" => ShipmentOutcome::Cancelled { at },
            status => {
                ShipmentOutcome::Unknown { cause: format!("status {}", status.chars().take(40).collect::<String>()) }
            }
        }
    }
}

fn goods(parcels: &[Parcel], to: Option<&Private<ShipTo>>) -> Value {
    let items: Vec<Value> =
        parcels.iter().map(|parcel| json!({ "sku": parcel.sku, "quantity": parcel.quantity })).collect();
    let to = to.map(|to| json!({ "name": to.0.name, "phone": to.0.phone, "address": to.0.address }));
    json!({ "items": items, "to": to })
}

/// The error's code, `http_<status>` when the body has none.
fn error_code(reply: &HttpReply) -> String {
    reply.json::<ErrorReply>().map_or_else(|| format!("http_{}", reply.status), |error| error.code)
}

impl ShippingProvider for Shipping {
    fn name(&self) -> &'static str {
        "shipping"
    }
    fn perform<'a>(&'a self, request: &'a ShipmentRequest, deadline: Millis) -> BoxFuture<'a, ShipmentOutcome> {
        Box::pin(self.run(request, deadline))
    }
}

//! The shipping provider in memory: shipments by our reference, prepared or cancelled, whatever was asked how often. What
//! was cancelled, prepared or not, is never prepared any more.

use crate::simulation::providers::Fate;
use crate::types::call::{RefusalClass, ShipmentOperation, ShipmentOutcome, ShipmentRequest};
use crate::types::time::Timestamp;
use std::collections::BTreeMap;

/// Where a shipment stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shipment {
    Prepared { at: Timestamp },
    Cancelled { at: Timestamp },
}

/// Shipments by reference.
#[derive(Default)]
pub struct Shipper {
    shipments: BTreeMap<String, Shipment>,
}

impl Shipper {
    /// Whether the goods of a reference leave.
    #[must_use]
    pub fn ships(&self, reference: &str) -> bool {
        matches!(self.shipments.get(reference), Some(Shipment::Prepared { .. }))
    }

    /// Performs an operation; `None` is silence.
    pub fn perform(&mut self, request: &ShipmentRequest, fate: Fate, wall: Timestamp) -> Option<ShipmentOutcome> {
        let refused = |class| Some(ShipmentOutcome::Refused { code: "BUSY".to_owned(), class });
        let unknown = || Some(ShipmentOutcome::Unknown { cause: "500".to_owned() });
        match (fate, &request.operation) {
            (Fate::Lost, _) => None,
            (Fate::Unreachable, _) => Some(ShipmentOutcome::NotSent { cause: "connect".to_owned() }),
            (Fate::Throttle | Fate::Refuse(_), ShipmentOperation::Lookup) => unknown(),
            (Fate::Refuse(class), ShipmentOperation::Prepare { .. }) => refused(class),
            (Fate::Throttle | Fate::Refuse(_), _) => refused(RefusalClass::Retry),
            (Fate::AcceptThenTimeout, _) => {
                self.take(request, wall);
                None
            }
            (Fate::AcceptThenError, _) => {
                self.take(request, wall);
                unknown()
            }
            (Fate::Good | Fate::Slow, _) => Some(self.take(request, wall)),
        }
    }

    fn take(&mut self, request: &ShipmentRequest, wall: Timestamp) -> ShipmentOutcome {
        let known = self.shipments.get(&request.reference).copied();
        let now = match (&request.operation, known) {
            (ShipmentOperation::Lookup, None) => return ShipmentOutcome::Absent,
            (ShipmentOperation::Lookup, Some(known)) => known,
            (ShipmentOperation::Prepare { .. }, Some(known)) => known,
            (ShipmentOperation::Prepare { .. }, None) => Shipment::Prepared { at: wall },
            (ShipmentOperation::Cancel { .. }, Some(cancelled @ Shipment::Cancelled { .. })) => cancelled,
            (ShipmentOperation::Cancel { .. }, Some(Shipment::Prepared { .. }) | None) => {
                Shipment::Cancelled { at: wall }
            }
        };
        self.shipments.insert(request.reference.clone(), now);
        match now {
            Shipment::Prepared { at } => ShipmentOutcome::Prepared {
                provider: "sim_post".to_owned(),
                tracking: format!("t-{}", request.reference),
                at,
            },
            Shipment::Cancelled { at } => ShipmentOutcome::Cancelled { at },
        }
    }
}

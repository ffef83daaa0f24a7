//! What the shipping provider remembers: one shipment for each reference, for good.
//!
//! | from | prepare | cancel |
//! |---|---|---|
//! | (nothing) | Prepared | Cancelled: a prepare that comes later is refused |
//! | Prepared | the same again | Cancelled, unless it has left |
//! | Cancelled | refused | the same again |

use crate::sandbox::digest::DigestMap;
use crate::sandbox::event::{ShipmentDone, ShipmentEvent};
use crate::sandbox::journal::FrameAt;
use crate::sandbox::ledger::{Entry, Kind, Ledger};
use crate::sandbox::settings::Provider;
use crate::types::time::Timestamp;
use xxhash_rust::xxh3::xxh3_128;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ShipmentState {
    Prepared { final_once: bool },
    Cancelled,
}

/// A shipment, or a reference that was cancelled before it became one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Shipment {
    pub state: ShipmentState,
    pub at: Timestamp,
}

#[derive(Default)]
pub(crate) struct Shipments {
    by_reference: DigestMap<u128, Shipment>,
}

impl Shipments {
    pub(crate) fn get(&self, reference: &str) -> Option<Shipment> {
        self.by_reference.get(&xxh3_128(reference.as_bytes())).copied()
    }

    /// Counts the call; `effective` counts what a person would get: 1 while it is prepared.
    pub(crate) fn apply(&mut self, event: &ShipmentEvent<'_>, frame: FrameAt, ledger: &mut Ledger) {
        let item = ledger.call(&Entry {
            kind: Kind::Shipment,
            provider: Provider::Shipping,
            channel: None,
            reference: &event.reference,
            at: event.at,
            frame,
        });
        let before = self.get(&event.reference).map(|shipment| shipment.state);
        let state = match event.done {
            ShipmentDone::Prepared { final_once } => {
                ledger.effective(item, 1);
                ShipmentState::Prepared { final_once }
            }
            ShipmentDone::Cancelled => {
                if matches!(before, Some(ShipmentState::Prepared { .. })) {
                    ledger.effective(item, -1);
                }
                ShipmentState::Cancelled
            }
            ShipmentDone::Nothing => return,
        };
        self.by_reference.insert(xxh3_128(event.reference.as_bytes()), Shipment { state, at: event.at });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(done: ShipmentDone) -> ShipmentEvent<'static> {
        ShipmentEvent { reference: "o_1".into(), at: Timestamp(1), done }
    }

    #[test]
    fn a_shipment_counts_once_while_it_is_prepared() {
        let (mut shipments, mut ledger) = (Shipments::default(), Ledger::default());
        let effective = |ledger: &Ledger| ledger.page(Some(Kind::Shipment), "o_1", 0, 9).0[0].effective;
        let mut take = |done| shipments.apply(&event(done), FrameAt(0), &mut ledger);
        take(ShipmentDone::Prepared { final_once: false });
        take(ShipmentDone::Nothing);
        take(ShipmentDone::Cancelled);
        assert_eq!(effective(&ledger), 0);
        assert_eq!(ledger.page(Some(Kind::Shipment), "o_1", 0, 9).0[0].requests, 3);
        assert_eq!(shipments.get("o_1").map(|shipment| shipment.state), Some(ShipmentState::Cancelled));
        assert_eq!(shipments.get("o_2"), None);
    }

    #[test]
    fn a_cancel_before_the_prepare_leaves_nothing_effective() {
        let (mut shipments, mut ledger) = (Shipments::default(), Ledger::default());
        shipments.apply(&event(ShipmentDone::Cancelled), FrameAt(0), &mut ledger);
        assert_eq!(ledger.page(Some(Kind::Shipment), "o_1", 0, 9).0[0].effective, 0);
        assert_eq!(shipments.get("o_1").map(|shipment| shipment.state), Some(ShipmentState::Cancelled));
    }
}

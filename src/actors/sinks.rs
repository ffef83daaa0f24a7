//! Where gateways hand on what they hear from providers: reports and hints, by the entity that they name.

use crate::actors::router;
use crate::actors::shared::Shared;
use crate::gateways::{Busy, Heard, HintSink, ReportSink};
use crate::types::call::{Report, ReportStatus};
use crate::types::ids::EntityKey;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// Reports waiting for their entities, beyond which providers are told to come again.
const BUSY_ENTITIES_MAX: i64 = 50_000;

/// Brings providers' reports to their entities, wherever they live. Each node polls and hears the same, so that what was
/// delivered is left to the node that leads its entity; what failed goes home from every node, for a gift waits for it.
#[must_use]
pub fn reports(shared: &Arc<Shared>) -> ReportSink {
    let shared = Arc::downgrade(shared);
    Arc::new(move |report: Report, heard: Heard| {
        let Some(shared) = shared.upgrade() else { return Err(Busy) };
        if shared.counters.busy.load(Ordering::Relaxed) > BUSY_ENTITIES_MAX {
            return Err(Busy);
        }
        let name = report.reference.split('.').next().unwrap_or_default();
        match shared.kinds.parse(name) {
            Some(key) if heard == Heard::Poll && is_anothers(&shared, key, &report) => {}
            Some(key) => router::report(&shared, key, report),
            None => tracing::debug!(reference = %report.reference, "report for a reference that is not ours"),
        }
        Ok(())
    })
}

fn is_anothers(shared: &Shared, key: EntityKey, report: &Report) -> bool {
    let failed = matches!(report.status, ReportStatus::Failed { .. });
    !failed && !shared.leads(shared.shard_of(&key))
}

/// A payment webhook is only a hint: the entity hears of it as a report under the order id alone, and looks it up.
#[must_use]
pub fn hints(shared: &Arc<Shared>) -> HintSink {
    let shared = Arc::downgrade(shared);
    Arc::new(move |order_id: String| {
        let Some(shared) = shared.upgrade() else { return };
        let at = shared.clock.now();
        // An entity with several payments numbers them behind a hyphen.
        if let Some(key) = shared.kinds.parse(order_id.split('-').next().unwrap_or_default()) {
            let status = ReportStatus::Delivered;
            let report = Report { reference: order_id, provider: "payment".to_owned(), status, at };
            router::report(&shared, key, report);
        }
    })
}

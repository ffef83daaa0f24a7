//! What an operator sees of the runtime, as JSON, and the way in for providers' webhooks.

use crate::actors::cluster::view;
use crate::actors::door::{OpsView, WebhookAnswer};
use crate::actors::forecast::Forecast;
use crate::actors::health::Due;
use crate::actors::node::Node;
use crate::actors::seats::SeatClass;
use crate::actors::shared::Shared;
use crate::gateways::{Gateways, WebhookResult, lane_name};
use crate::persistence::vault::VaultError;
use crate::types::ids::EntityKey;
use crate::types::time::Timestamp;
use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::Ordering;

pub async fn webhook(
    shared: &Shared,
    provider: String,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
) -> WebhookAnswer {
    let Some(gateways) = shared.gateways.get() else { return WebhookAnswer::UnknownProvider };
    match gateways.webhook(&provider, &headers, &body) {
        WebhookResult::Taken { .. } => WebhookAnswer::Taken,
        WebhookResult::Busy => WebhookAnswer::Busy,
        WebhookResult::UnknownProvider => WebhookAnswer::UnknownProvider,
        WebhookResult::Unsigned => WebhookAnswer::Unsigned,
        WebhookResult::Malformed => WebhookAnswer::Malformed,
    }
}

pub async fn view(node: &Arc<Node>, asked: OpsView) -> Value {
    match asked {
        OpsView::Cluster => view::cluster(node).await,
        OpsView::Gateways { own: true } => {
            json!({ "answered_by": node.folder.node.0, "lanes": lanes(&node.shared).await })
        }
        OpsView::Gateways { own: false } => view::gateways(node).await,
        OpsView::Runtime => runtime(&node.shared),
        OpsView::Alerts => view::alerts(node).await,
        OpsView::Vault => vault(&node.shared).await,
        OpsView::Erasure { key } => erasure(&node.shared, key).await,
        OpsView::Forecast { hours } => Forecast::view(node, hours).await,
    }
}

/// Each lane of this node, with what waits for it: calls that are overdue (in memory or on disk, as of the last look), the entities that it keeps in
/// memory, and since when wants of it were left on disk because it had no room.
pub async fn lanes(shared: &Arc<Shared>) -> Value {
    Due::look(shared).await;
    let status = shared.gateways.get().map(Gateways::status).unwrap_or_default();
    let mut lanes: Vec<Value> = status.iter().map(|lane| serde_json::to_value(lane).unwrap_or(Value::Null)).collect();
    for class in SeatClass::ALL {
        let Some(name) = class.lane().map(lane_name) else { continue };
        for lane in lanes.iter_mut().filter(|lane| lane["lane"] == name.as_str()) {
            lane["overdue"] = json!(shared.counters.due.of(class));
            lane["in_memory"] = json!(shared.seats.taken(class));
            lane["left_on_disk_since"] = json!(shared.left_on_disk.since(class).map(Timestamp::to_rfc3339));
        }
    }
    Value::Array(lanes)
}

fn runtime(shared: &Shared) -> Value {
    let counters = &shared.counters;
    json!({
        "live_entities": counters.live.load(Ordering::Relaxed),
        "busy_entities": counters.busy.load(Ordering::Relaxed),
        "records_in_flight": counters.records_in_flight.load(Ordering::Relaxed),
        "records_applied": counters.records_applied.load(Ordering::Relaxed),
        "records_void": counters.records_void.load(Ordering::Relaxed),
        "entity_restarts": counters.entity_restarts.load(Ordering::Relaxed),
        "event_stream": shared.following.view(),
    })
}

async fn vault(shared: &Arc<Shared>) -> Value {
    let reader = shared.clone();
    let view = move || {
        let (current, kept) = reader.vault.periods();
        let dropped: Vec<Value> = (1..current)
            .filter(|period| !kept.contains(period))
            .map(|period| {
                let at = readable(&reader, reader.vault.dropped_at(period));
                json!({ "period": period, "at": at.map(Timestamp::to_rfc3339) })
            })
            .collect();
        json!({ "period": current, "kept": kept, "dropped": dropped })
    };
    shared.pool.ask(view).await.unwrap_or(Value::Null)
}

async fn erasure(shared: &Arc<Shared>, key: EntityKey) -> Value {
    let reader = shared.clone();
    let erasure = shared.pool.ask(move || readable(&reader, reader.vault.erasure(key))).await.flatten();
    let complete_at = erasure.and_then(|erasure| erasure.complete_at);
    json!({
        "erased_at": erasure.map(|erasure| erasure.erased_at.to_rfc3339()),
        "complete_at": complete_at.map(Timestamp::to_rfc3339),
    })
}

fn readable<T>(shared: &Shared, read: Result<T, VaultError>) -> T {
    match read {
        Ok(value) => value,
        Err(error) => shared.fatal(&error.to_string()),
    }
}

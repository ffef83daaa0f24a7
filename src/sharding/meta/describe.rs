//! Events as JSON for `bojagi cluster watch` and the timeline. No token, hashed or not.

use super::event::{MetaEvent, MetaFact, PlannedShard};
use super::state::{DrainDepth, PeerId};
use serde_json::{Map, Value, json};

/// `{"type": ..., "at": ..., ...}`.
pub(super) fn describe(event: &MetaEvent) -> Value {
    let (kind, details) = details(&event.fact);
    let mut object = Map::new();
    object.insert("type".to_owned(), json!(kind));
    object.insert("at".to_owned(), json!(event.at.to_rfc3339()));
    if let Value::Object(details) = details {
        object.extend(details);
    }
    Value::Object(object)
}

fn details(fact: &MetaFact) -> (&'static str, Value) {
    match fact {
        MetaFact::Founded { cluster, shards, rf, level, node } => (
            "founded",
            json!({
                "cluster": hex::encode(cluster.0), "shards": shards, "replication_factor": rf,
                "feature_level": level.0, "node": 1, "name": node.name, "zone": node.zone,
            }),
        ),
        MetaFact::TokenIssued { expires_at, .. } => ("token_issued", json!({ "expires_at": expires_at.to_rfc3339() })),
        MetaFact::Joined { id, node, .. } => {
            ("node_joined", json!({ "node": id, "name": node.name, "zone": node.zone, "weight": node.weight }))
        }
        MetaFact::Announced { node, incarnation, cluster_address, api_url, build, .. } => (
            "node_started",
            json!({
                "node": node, "incarnation": incarnation, "cluster_address": cluster_address, "api_url": api_url,
                "build": build,
            }),
        ),
        MetaFact::Begun { node, start, cluster_address, api_url, build, .. } => (
            "node_begun",
            json!({
                "node": node, "incarnation": start.incarnation, "start": hex::encode(start.id.0),
                "cluster_address": cluster_address, "api_url": api_url, "build": build,
            }),
        ),
        MetaFact::Drained { node, depth } => ("node_drained", json!({ "node": node, "depth": depth_name(*depth) })),
        MetaFact::Undrained { node } => ("node_undrained", json!({ "node": node })),
        MetaFact::Removed { node, forced } => ("node_removed", json!({ "node": node, "forced": forced })),
        MetaFact::Reweighed { node, weight } => ("node_reweighed", json!({ "node": node, "weight": weight.get() })),
        MetaFact::Rezoned { node, zone } => ("node_rezoned", json!({ "node": node, "zone": zone })),
        MetaFact::SettingsChanged(settings) => (
            "settings_changed",
            json!({
                "dead_after_ms": settings.dead_after.0, "moves_max": settings.moves_max,
                "transfers_max": settings.transfers_max,
            }),
        ),
        MetaFact::Planned { shards } => ("planned", json!({ "shards": planned(shards) })),
        MetaFact::GroupChanged { shard, index, voters, learners } => (
            "group_changed",
            json!({ "shard": shard, "index": index, "voters": peers(voters), "learners": peers(learners) }),
        ),
        MetaFact::NodeLost { node } => ("node_lost", json!({ "node": node })),
        MetaFact::NodeSeen { node } => ("node_seen", json!({ "node": node })),
        MetaFact::LevelRaised { level } => ("level_raised", json!({ "feature_level": level.0 })),
    }
}

fn depth_name(depth: DrainDepth) -> &'static str {
    match depth {
        DrainDepth::Leaders => "leaders",
        DrainDepth::Replicas => "replicas",
    }
}

fn peers(peers: &[PeerId]) -> Vec<u64> {
    peers.iter().map(|peer| peer.0).collect()
}

fn planned(shards: &[PlannedShard]) -> Vec<Value> {
    let one = |planned: &PlannedShard| {
        let fresh: Vec<Value> =
            planned.fresh.iter().map(|(node, peer)| json!({ "node": node, "peer": peer.0 })).collect();
        json!({ "shard": planned.shard, "nodes": planned.wanted, "new_replicas": fresh })
    };
    shards.iter().map(one).collect()
}

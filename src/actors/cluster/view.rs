//! What an operator sees of the cluster: every node is asked for its replicas, and the leaders' words count.

use crate::actors::alert_rules::Severity;
use crate::actors::cluster::meta;
use crate::actors::cluster::others::ask_others;
use crate::actors::health;
use crate::actors::node::Node;
use crate::actors::ops;
use crate::actors::router::{NODE_PATIENCE, NodeReply, NodeRequest};
use crate::sharding::clock::CLOCK_OFF_MAX;
use crate::sharding::meta::{MetaState, NodeState, Role};
use crate::types::ids::{META_SHARD, NodeId, ShardId};
use crate::types::limits::NODE_LAG_MAX;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// A node's own words about itself. On the wire between builds: append only.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct NodeReport {
    pub node: u64,
    pub pid: u32,
    pub incarnation: u64,
    pub live_entities: u64,
    pub replicas: Vec<ReplicaReport>,
}

/// One replica as its node sees it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ReplicaReport {
    pub shard: u16,
    pub leads: bool,
    pub term: u64,
    pub commit: u64,
    pub applied: u64,
    /// Live entities, on the leader.
    pub live: u64,
    /// Entries that the slowest follower lacks; as the leader sees it.
    pub lag: u64,
}

/// What this node says of itself.
pub async fn report(node: &Node) -> NodeReport {
    let mut replicas = Vec::new();
    for status in node.statuses().await {
        let leads = node.shared.leads(ShardId(status.id));
        replicas.push(ReplicaReport {
            shard: status.id,
            leads,
            term: status.term,
            commit: status.commit,
            applied: status.applied,
            live: status.live as u64,
            lag: status.lag,
        });
    }
    NodeReport {
        node: node.folder.node.0,
        pid: std::process::id(),
        incarnation: node.folder.incarnation.0,
        live_entities: node.shared.counters.live.load(Ordering::Relaxed) as u64,
        replicas,
    }
}

/// The reports of all members that answer.
async fn gather(node: &Arc<Node>, state: Option<&MetaState>) -> BTreeMap<NodeId, NodeReport> {
    let read = |reply| if let NodeReply::Report(report) = reply { Some(report) } else { None };
    let others = match state {
        Some(state) => ask_others(node, state, (NodeRequest::Report, NODE_PATIENCE), read).await,
        None => Vec::new(),
    };
    let said = others.into_iter().filter_map(|(other, report)| Some((other, report?)));
    said.chain([(node.folder.node, report(node).await)]).collect()
}

/// The figures of all members that answer.
async fn healths(node: &Arc<Node>, state: &MetaState) -> BTreeMap<NodeId, Value> {
    let read = |reply| if let NodeReply::Health(figures) = reply { serde_json::from_str(&figures).ok() } else { None };
    let others = ask_others(node, state, (NodeRequest::Health, NODE_PATIENCE), read).await;
    let said = others.into_iter().filter_map(|(other, figures)| Some((other, figures?)));
    said.chain([(node.folder.node, health::health(&node.shared))]).collect()
}

/// What is wrong, by each node's own words; those that do not answer are down. Critical first.
pub async fn alerts(node: &Arc<Node>) -> Value {
    let Some((_, state)) = meta::read(&node.shared) else { return json!({ "items": [], "next_cursor": Value::Null }) };
    let healths = healths(node, &state).await;
    let mut items: Vec<Value> = Vec::new();
    for (id, health) in &healths {
        let raised = health["alerts"].as_array().cloned().unwrap_or_default();
        items.extend(raised.into_iter().map(|mut alert| {
            alert["node"] = json!(id.0);
            alert
        }));
    }
    let silent = state.members().filter(|(id, member)| {
        let gone = matches!(member.state, NodeState::Gone { .. });
        !gone && !healths.contains_key(id)
    });
    for (id, member) in silent {
        // Since when, the links of those who answer know.
        items.push(json!({
            "alert": "node_down", "severity": Severity::Critical.name(), "node": id.0, "name": member.name,
            "since": Value::Null, "value": 1, "limit": 0, "peers": [id.0], "shards": [], "lanes": [], "certificates": [],
        }));
    }
    items.sort_by_key(|item| (item["severity"] != "critical", item["node"].as_u64()));
    json!({ "items": items, "next_cursor": Value::Null })
}

/// The lanes of this node, and those of every member; `lanes` is null of one that does not answer.
pub async fn gateways(node: &Arc<Node>) -> Value {
    let me = node.folder.node;
    let state = meta::read(&node.shared).map(|(_, state)| state);
    let read = |reply| if let NodeReply::Gateways(lanes) = reply { serde_json::from_str(&lanes).ok() } else { None };
    let others = async {
        let Some(state) = &state else { return Vec::new() };
        ask_others(node, state, (NodeRequest::Gateways, NODE_PATIENCE), read).await
    };
    let (own, mut lanes): (Value, Vec<(NodeId, Option<Value>)>) = tokio::join!(ops::lanes(&node.shared), others);
    lanes.push((me, Some(own.clone())));
    lanes.sort_by_key(|(id, _)| *id);
    let name = |id| state.as_ref().and_then(|state| state.member(id)).map(|member| member.name.clone());
    let view = |(id, lanes): (NodeId, Option<Value>)| json!({ "id": id.0, "name": name(id), "lanes": lanes });
    json!({ "answered_by": me.0, "lanes": own, "nodes": lanes.into_iter().map(view).collect::<Vec<_>>() })
}

/// Who leads which shard now, by the leaders' own words.
pub async fn leaders(node: &Arc<Node>) -> BTreeMap<ShardId, NodeId> {
    stand(node).await.0
}

/// Who leads which shard, and who is behind with the shards that others lead.
pub async fn stand(node: &Arc<Node>) -> (BTreeMap<ShardId, NodeId>, BTreeSet<NodeId>) {
    let state = meta::read(&node.shared).map(|(_, state)| state);
    let reports = gather(node, state.as_ref()).await;
    let leaders = leaders_of(&reports);
    let behind = behind(&reports, &leaders);
    (leaders, behind)
}

/// Nodes that lack more than [`NODE_LAG_MAX`] committed entries, all their replicas together: one thread of a node applies all of
/// them, in the order in which they came.
fn behind(reports: &BTreeMap<NodeId, NodeReport>, leaders: &BTreeMap<ShardId, NodeId>) -> BTreeSet<NodeId> {
    let committed = |shard: u16| {
        let report = reports.get(leaders.get(&ShardId(shard))?)?;
        report.replicas.iter().find(|replica| replica.shard == shard).map(|replica| replica.commit)
    };
    let lag = |replica: &ReplicaReport| committed(replica.shard).map_or(0, |end| end.saturating_sub(replica.applied));
    let lags = reports.iter().map(|(node, report)| (*node, report.replicas.iter().map(lag).sum::<u64>()));
    lags.filter(|(_, lag)| *lag > NODE_LAG_MAX).map(|(node, _)| node).collect()
}

fn leaders_of(reports: &BTreeMap<NodeId, NodeReport>) -> BTreeMap<ShardId, NodeId> {
    let mut leaders: BTreeMap<ShardId, (u64, NodeId)> = BTreeMap::new();
    for (node, report) in reports {
        for replica in report.replicas.iter().filter(|replica| replica.leads) {
            let best = leaders.entry(ShardId(replica.shard)).or_insert((replica.term, *node));
            // One that has not noticed yet that it was deposed has the lower term.
            if replica.term > best.0 {
                *best = (replica.term, *node);
            }
        }
    }
    leaders.into_iter().map(|(shard, (_, node))| (shard, node)).collect()
}

/// The whole view.
pub async fn cluster(node: &Arc<Node>) -> Value {
    let Some((_, state)) = meta::read(&node.shared) else {
        return json!({ "nodes": [], "shards": [], "meta": { "leader": Value::Null, "quorum": false } });
    };
    let (reports, healths) = tokio::join!(gather(node, Some(&state)), healths(node, &state));
    let leaders = leaders_of(&reports);
    let links = node.shared.transport().links();
    let nodes: Vec<Value> = state
        .members()
        .map(|(id, member)| {
            let report = reports.get(&id);
            let link = links.iter().find(|link| link.node == id.0);
            json!({
                "id": id.0,
                "name": member.name,
                "zone": member.zone,
                "weight": member.weight.get(),
                "api": member.api_url,
                "address": member.cluster_address,
                "build": member.build,
                "feature_levels": [member.levels.lowest.0, member.levels.highest.0],
                "state": state_name(member.state, report.is_some()),
                "pid": report.map(|report| report.pid),
                "incarnation": member.incarnation.0,
                "leads": leaders.iter().filter(|(shard, node)| **node == id && **shard != META_SHARD).count(),
                "replicas": state.ordinary().filter(|(_, placement)| placement.replica_on(id).is_some()).count(),
                "live_entities": report.map(|report| report.live_entities),
                "clock_offset_ms": link.and_then(|link| link.clock_offset_ms),
                "round_trip_us": link.and_then(|link| link.round_trip_us),
                "queued_bytes": link.map(|link| link.queued_bytes),
                "dropped_frames": link.map(|link| link.dropped_frames),
                "health": healths.get(&id),
            })
        })
        .collect();
    let shards: Vec<Value> = state.ordinary().map(|(shard, _)| shard_view(&state, shard, &leaders, &reports)).collect();
    json!({
        "replication": usize::from(state.replication_factor()).min(nodes.len()),
        "feature_level": state.feature_level().0,
        "feature_level_possible": state.level_possible().0,
        "answered_by": node.folder.node.0,
        "clock": {
            "off": node.shared.clocks.off().into_iter().map(|off| off.0).collect::<Vec<_>>(),
            "max_off_ms": CLOCK_OFF_MAX.0,
        },
        "disks": { "slow": slow_disks(&healths) },
        "moves": state.ordinary().filter(|(_, placement)| !placement.is_settled()).count(),
        "meta": {
            "leader": leaders.get(&META_SHARD).map(|node| node.0),
            "quorum": leaders.contains_key(&META_SHARD),
            "group": shard_view(&state, META_SHARD, &leaders, &reports),
        },
        "nodes": nodes,
        "shards": shards,
    })
}

/// By each node's own words.
fn slow_disks(healths: &BTreeMap<NodeId, Value>) -> Vec<u64> {
    healths.iter().filter(|(_, health)| health["log_sync"]["slow"] == true).map(|(node, _)| node.0).collect()
}

fn state_name(state: NodeState, answers: bool) -> &'static str {
    match (state, answers) {
        (NodeState::Gone { .. }, _) => "gone",
        (_, false) => "unreachable",
        (NodeState::Draining { .. }, true) => "draining",
        (NodeState::Up, true) => "up",
    }
}

fn shard_view(
    state: &MetaState,
    shard: ShardId,
    leaders: &BTreeMap<ShardId, NodeId>,
    reports: &BTreeMap<NodeId, NodeReport>,
) -> Value {
    let leader = leaders.get(&shard);
    let words = leader
        .and_then(|leader| reports.get(leader))
        .and_then(|report| report.replicas.iter().find(|replica| replica.shard == shard.0));
    let placement = state.placement(shard);
    let of = |voters: bool| -> Vec<u64> {
        let replicas = placement.into_iter().flat_map(|placement| &placement.replicas);
        replicas.filter(|replica| (replica.role == Role::Voter) == voters).map(|replica| replica.node.0).collect()
    };
    json!({
        "id": shard.0,
        "leader": leader.map(|leader| leader.0),
        "replicas": of(true),
        "learners": of(false),
        "moving": placement.is_some_and(|placement| shard != META_SHARD && !placement.is_settled()),
        "term": words.map(|words| words.term),
        "commit": words.map(|words| words.commit),
        "applied": words.map(|words| words.applied),
        "lag": words.map(|words| words.lag),
        "live": words.map(|words| words.live),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn replica(shard: u16, leads: bool, applied: u64) -> ReplicaReport {
        ReplicaReport { shard, leads, term: 1, commit: applied, applied, live: 0, lag: 0 }
    }

    #[test]
    fn a_node_is_behind_by_what_all_its_replicas_lack_together() {
        let report = |node, replicas: &[ReplicaReport]| {
            let (pid, incarnation, live_entities) = (0, 1, 0);
            (NodeId(node), NodeReport { node, pid, incarnation, live_entities, replicas: replicas.to_vec() })
        };
        let half = NODE_LAG_MAX / 2;
        let of = |short: u64| {
            let reports = BTreeMap::from([
                report(1, &[replica(0, true, 1_000), replica(1, false, 2_000), replica(2, false, 0)]),
                report(2, &[replica(0, false, 1_000), replica(1, true, 2_000)]),
                report(3, &[replica(0, false, 1_000 - half), replica(1, false, 2_000 - half - short)]),
            ]);
            behind(&reports, &leaders_of(&reports))
        };
        assert_eq!(of(0), BTreeSet::new(), "shard 2 has no leader to compare with");
        assert_eq!(of(1), BTreeSet::from([NodeId(3)]));
    }
}

//! Any node serves any request: what belongs to a shard that another node leads goes there, at most one hop, and is
//! asked again within its deadline when the leader has moved. Round a link that is known to be down it goes through one
//! other node (`relay`).

use crate::actors::cluster::view::{self, NodeReport};
use crate::actors::door::{Answer, Ask, AskError, JournalRow};
use crate::actors::forecast::Forecast;
use crate::actors::forecast_view::Part;
use crate::actors::shard::ShardMsg;
use crate::actors::shared::Shared;
use crate::actors::{health, local, ops, relay, settle};
use crate::replication::transport::{Peer, RequestError};
use crate::types::call::{CallOutcome, EntityRequest, Report};
use crate::types::codec;
use crate::types::effect::{IndexTag, Slot};
use crate::types::ids::{EntityKey, NodeId, ShardId, Version};
use crate::types::limits::ASK_DEADLINE;
use crate::types::record::Sealed;
use crate::types::time::Timestamp;
use futures_util::future::try_join_all;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// Pauses between two looks for a leader, unless it is heard of before.
const PAUSE_FIRST: Duration = Duration::from_millis(10);
const PAUSE_MAX: Duration = Duration::from_millis(250);
/// How long somebody who could reach the leader is waited for before a request is refused.
const CUT_OFF_PATIENCE: Duration = Duration::from_millis(500);
/// How long another node may take to say something about itself.
pub const NODE_PATIENCE: Duration = Duration::from_secs(2);
/// How long a remote node watches an entity for one question.
pub const WATCH: Duration = Duration::from_secs(5);

/// What one node asks of the leader of a shard. Variants are on the wire: append only.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Request {
    Ask(Ask),
    Read(EntityKey),
    Journal {
        key: EntityKey,
        after: Version,
        limit: u32,
    },
    /// Answered once the entity is above this version, or after [`WATCH`].
    Changed {
        key: EntityKey,
        after: Version,
    },
    Resolve {
        shard: ShardId,
        index: IndexTag,
        key: Vec<u8>,
    },
    List {
        shards: Vec<ShardId>,
        index: IndexTag,
        prefix: Vec<u8>,
        after: Option<Vec<u8>>,
        limit: u32,
    },
    Seal {
        key: EntityKey,
        personal: Vec<u8>,
    },
    Unseal {
        key: EntityKey,
        sealed: Sealed,
    },
    Report {
        key: EntityKey,
        report: Report,
    },
    /// A command of another entity, which knows it by the call's id.
    Call(EntityRequest),
    /// What came of a call that a node made while it led, when it was due at `due`. From feature level 4 on.
    Outcome {
        key: EntityKey,
        slot: Slot,
        due: Timestamp,
        outcome: CallOutcome,
    },
    /// As `Read`, of a leader that need not confirm that it still is one. From feature level 4 on.
    Glance(EntityKey),
    /// A committed state above this version; nothing after [`WATCH`]. From feature level 4 on.
    Beyond {
        key: EntityKey,
        after: Version,
    },
}

/// What is asked of a node as such. Variants are on the wire: append only.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum NodeRequest {
    Report,
    /// Hand the leadership of a shard to this peer.
    Transfer {
        shard: ShardId,
        peer: u64,
    },
    /// Dev clock: is everything that is due done, and when is something due next?
    Quiet,
    /// Its figures.
    Health,
    /// What is due within so many hours on the shards that it leads.
    Forecast {
        hours: u16,
    },
    /// Its lanes, each with what waits for it.
    Gateways,
}

/// Answers to [`NodeRequest`]s. Variants are on the wire: append only.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum NodeReply {
    Report(NodeReport),
    Done,
    Quiet {
        quiet: bool,
        next_due: Option<Timestamp>,
    },
    /// JSON, so that builds may say more or less.
    Health(String),
    Forecast(Part),
    /// JSON, so that builds may say more or less.
    Gateways(String),
}

/// A request as it travels. Variants are on the wire: append only.
#[derive(Serialize, Deserialize)]
pub(super) enum Envelope {
    Shard(Request),
    Node(NodeRequest),
    /// To be handed to the leader, by whom the sender has no link, and no further. From feature level 4 on.
    Relay {
        request: Request,
        patience_ms: u32,
    },
}

/// Answers to [`Request`]s of the same name. Variants are on the wire: append only.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Reply {
    Answer(Answer),
    Read(Option<Answer>),
    Journal(Vec<JournalRow>),
    Changed(Version),
    Resolved(Option<EntityKey>),
    Rows(Vec<(Vec<u8>, EntityKey)>),
    Sealed(Option<Sealed>),
    Opened(Option<Vec<u8>>),
    Taken,
}

impl Request {
    /// The shard whose leader answers; of a list, the first.
    #[must_use]
    pub fn shard(&self, shared: &Shared) -> ShardId {
        match self {
            Self::Ask(ask) => shared.shard_of(&ask.key),
            Self::Call(call) => shared.shard_of(&call.target),
            Self::Read(key)
            | Self::Glance(key)
            | Self::Beyond { key, .. }
            | Self::Journal { key, .. }
            | Self::Changed { key, .. }
            | Self::Seal { key, .. }
            | Self::Unseal { key, .. }
            | Self::Report { key, .. }
            | Self::Outcome { key, .. } => shared.shard_of(key),
            Self::Resolve { shard, .. } => *shard,
            Self::List { shards, .. } => shards.first().copied().unwrap_or(ShardId(0)),
        }
    }

    /// Whether a repeat is harmless although the first may have been done.
    fn is_repeatable(&self) -> bool {
        match self {
            Self::Ask(ask) => ask.idempotency.is_some(),
            Self::Read(_)
            | Self::Glance(_)
            | Self::Beyond { .. }
            | Self::Journal { .. }
            | Self::Changed { .. }
            | Self::Resolve { .. }
            | Self::List { .. }
            | Self::Seal { .. }
            | Self::Unseal { .. }
            // An entity takes each report for what it is worth, twice if need be.
            | Self::Report { .. }
            | Self::Outcome { .. }
            // The target answers a repeat from its state.
            | Self::Call(_) => true,
        }
    }
}

/// Brings a request to the leader of its shard and its answer back.
///
/// # Errors
/// [`AskError`]: as the leader says; `Unavailable` when none was found within the deadline and nothing was done; `Unknown`
/// for that and for `Overloaded` once a try may have been done.
pub async fn route(shared: &Arc<Shared>, request: Request) -> Result<Reply, AskError> {
    let shard = request.shard(shared);
    let deadline = Instant::now() + ASK_DEADLINE.to_std();
    let mut pause = PAUSE_FIRST;
    let mut unknown = false;
    let mut cut_off_since = None;
    loop {
        let moved = shared.routes.moved(shard);
        let outcome = attempt(shared, shard, &request, deadline).await;
        let again = match &outcome {
            Err(AskError::Unavailable) => true,
            // A crowd at the target: nothing was done, and nobody but the caller's own next step waits.
            Err(AskError::Overloaded { .. }) => matches!(request, Request::Call(_)),
            Err(AskError::Unknown) => {
                unknown = true;
                request.is_repeatable()
            }
            Ok(_) | Err(_) => false,
        };
        if !again {
            return ended(outcome, unknown);
        }
        let since = *cut_off_since.get_or_insert_with(Instant::now);
        if !relay::is_cut_off(shared, shard) {
            cut_off_since = None;
        }
        let hopeless = cut_off_since.is_some() && since.elapsed() >= CUT_OFF_PATIENCE;
        if hopeless || Instant::now() + pause >= deadline {
            return ended(Err(AskError::Unavailable), unknown);
        }
        let _either = tokio::time::timeout(pause, moved).await;
        pause = (pause * 2).min(PAUSE_MAX);
    }
}

/// How a request ends that an earlier try may have done (`unknown`): that the last one was not done says nothing of that.
fn ended(outcome: Result<Reply, AskError>, unknown: bool) -> Result<Reply, AskError> {
    match outcome {
        Err(AskError::Overloaded { .. } | AskError::Unavailable) if unknown => Err(AskError::Unknown),
        outcome => outcome,
    }
}

/// Asks whoever is said to lead the shard, once.
async fn attempt(
    shared: &Arc<Shared>,
    shard: ShardId,
    request: &Request,
    deadline: Instant,
) -> Result<Reply, AskError> {
    if shared.leads(shard) {
        local::execute(shared, request.clone(), deadline).await
    } else {
        remote(shared, shard, request, deadline).await
    }
}

async fn remote(shared: &Arc<Shared>, shard: ShardId, request: &Request, deadline: Instant) -> Result<Reply, AskError> {
    match hop(shared, shard, request, None, deadline).await {
        // Nothing was done; the leader may be behind a link that is down.
        Err(AskError::Unavailable) => relay::round(shared, shard, request, deadline).await,
        answer => answer,
    }
}

/// Asks the node that is said to lead the shard, or any that has a replica when none is; never `from`, which asks.
///
/// # Errors
/// [`AskError`]: as that node says; `Unavailable` when there is none to ask.
pub(super) async fn hop(
    shared: &Shared,
    shard: ShardId,
    request: &Request,
    from: Option<NodeId>,
    deadline: Instant,
) -> Result<Reply, AskError> {
    let me = shared.routes.me();
    let node = match shared.routes.leader(shard).filter(|node| Some(*node) != from) {
        // Elected and not yet hosting, or a stale hint.
        Some(node) if node == me => return Err(AskError::Unavailable),
        Some(node) => node,
        None => any_replica(shared, shard, from).ok_or(AskError::Unavailable)?,
    };
    let answer = send(shared, node, Envelope::Shard(request.clone()), deadline).await;
    match &answer {
        Err(AskError::Unavailable) => shared.routes.hear(shard, None),
        Ok(_) | Err(_) => shared.routes.hear(shard, Some(node)),
    }
    answer
}

/// Some replica but that of `from`, another one each time: the leader is among them.
fn any_replica(shared: &Shared, shard: ShardId, from: Option<NodeId>) -> Option<NodeId> {
    let mut replicas = shared.routes.replicas(shard);
    replicas.retain(|node| Some(*node) != from);
    let turn = usize::try_from(shared.clock.boot().0 / 20).unwrap_or(0);
    if replicas.is_empty() { None } else { Some(replicas[turn % replicas.len()]) }
}

/// Hands a request to a node, once.
pub(super) async fn send(
    shared: &Shared,
    node: NodeId,
    envelope: Envelope,
    deadline: Instant,
) -> Result<Reply, AskError> {
    let left = deadline.saturating_duration_since(Instant::now());
    match shared.transport().request(node, codec::encode(&envelope), left).await {
        Ok(bytes) => codec::decode::<Result<Reply, AskError>>(&bytes).unwrap_or(Err(AskError::Unknown)),
        Err(RequestError::NotSent) => Err(AskError::Unavailable),
        Err(RequestError::Unknown) => Err(AskError::Unknown),
    }
}

/// Asks another node about itself.
///
/// # Errors
/// [`AskError::Unavailable`] when it cannot be reached, [`AskError::Unknown`] when it did not answer.
pub async fn ask_node(shared: &Shared, node: NodeId, request: NodeRequest) -> Result<NodeReply, AskError> {
    ask_node_for(shared, node, request, NODE_PATIENCE).await
}

/// The same, of what may take longer.
///
/// # Errors
/// As [`ask_node`].
pub async fn ask_node_for(
    shared: &Shared,
    node: NodeId,
    request: NodeRequest,
    patience: Duration,
) -> Result<NodeReply, AskError> {
    let body = codec::encode(&Envelope::Node(request));
    match shared.transport().request(node, body, patience).await {
        Ok(bytes) => codec::decode::<Result<NodeReply, AskError>>(&bytes).unwrap_or(Err(AskError::Unknown)),
        Err(RequestError::NotSent) => Err(AskError::Unavailable),
        Err(RequestError::Unknown) => Err(AskError::Unknown),
    }
}

/// Serves a request of another node, for shards that this node leads.
pub async fn serve(shared: &Arc<Shared>, from: Peer, body: &[u8]) -> Vec<u8> {
    match codec::decode::<Envelope>(body) {
        Ok(Envelope::Shard(request)) if shared.leads(request.shard(shared)) => {
            let deadline = Instant::now() + ASK_DEADLINE.to_std();
            codec::encode(&local::execute(shared, request, deadline).await)
        }
        Ok(Envelope::Shard(_)) => unavailable(),
        Ok(Envelope::Relay { request, patience_ms }) => relay::serve(shared, from.node, request, patience_ms).await,
        Ok(Envelope::Node(request)) => codec::encode(&serve_node(shared, request).await),
        Err(error) => {
            tracing::warn!(node = %from.node, %error, "request that this build does not know");
            codec::encode(&Err::<Reply, AskError>(AskError::Malformed))
        }
    }
}

async fn serve_node(shared: &Arc<Shared>, request: NodeRequest) -> Result<NodeReply, AskError> {
    let node = shared.host().ok_or(AskError::Unavailable)?;
    Ok(match request {
        NodeRequest::Report => NodeReply::Report(view::report(&node).await),
        NodeRequest::Health => NodeReply::Health(health::health(shared).to_string()),
        NodeRequest::Forecast { hours } => {
            NodeReply::Forecast(Forecast::part(shared, hours).await.ok_or(AskError::Unavailable)?)
        }
        NodeRequest::Gateways => NodeReply::Gateways(ops::lanes(shared).await.to_string()),
        NodeRequest::Transfer { shard, peer } => {
            node.cast(shard, ShardMsg::TransferLeader(peer));
            NodeReply::Done
        }
        NodeRequest::Quiet => {
            let (quiet, next_due) = settle::look(&node).await;
            NodeReply::Quiet { quiet, next_due }
        }
    })
}

/// The answer of a node that stops.
#[must_use]
pub fn unavailable() -> Vec<u8> {
    codec::encode(&Err::<Reply, AskError>(AskError::Unavailable))
}

/// Asks the leaders of all shards for rows of an index, each node once, and gathers what they say.
///
/// # Errors
/// [`AskError::Unavailable`] when some shard has no leader within the deadline.
pub async fn list(
    shared: &Arc<Shared>,
    index: IndexTag,
    prefix: &[u8],
    after: Option<&Vec<u8>>,
    limit: usize,
) -> Result<Rows, AskError> {
    let mut by_leader: BTreeMap<NodeId, Vec<ShardId>> = BTreeMap::new();
    for shard in (0..shared.shard_count).map(ShardId) {
        let leader = if shared.leads(shard) { Some(shared.routes.me()) } else { shared.routes.leader(shard) };
        by_leader.entry(leader.unwrap_or(NodeId(0))).or_default().push(shard);
    }
    let limit = u32::try_from(limit).unwrap_or(u32::MAX);
    let of = |shards| Request::List { shards, index, prefix: prefix.to_vec(), after: after.cloned(), limit };
    let asks = by_leader.into_iter().map(|(leader, shards)| rows_of(shared, leader, shards, of));
    let found = try_join_all(asks).await?;
    Ok(found.into_iter().flatten().collect())
}

type Rows = Vec<(Vec<u8>, EntityKey)>;

/// Rows of shards that one node is said to lead; node 0 is nobody. When that is not so of all of them, each is asked for
/// by itself: a group is told no as one, and that would name none of them.
async fn rows_of(
    shared: &Arc<Shared>,
    leader: NodeId,
    shards: Vec<ShardId>,
    of: impl Fn(Vec<ShardId>) -> Request,
) -> Result<Rows, AskError> {
    let rows = |reply| match reply {
        Reply::Rows(rows) => Ok(rows),
        other => Err(unexpected(&other)),
    };
    if let [first, _, ..] = shards[..]
        && leader != NodeId(0)
    {
        let deadline = Instant::now() + ASK_DEADLINE.to_std();
        match attempt(shared, first, &of(shards.clone()), deadline).await {
            Err(AskError::Unavailable | AskError::Unknown) => {}
            answer => return rows(answer?),
        }
    }
    let alone = shards.into_iter().map(|shard| route(shared, of(vec![shard])));
    let replies = try_join_all(alone).await?;
    let each: Result<Vec<Rows>, AskError> = replies.into_iter().map(rows).collect();
    Ok(each?.into_iter().flatten().collect())
}

/// Brings a provider's report to its entity, wherever it lives; lost reports are polled for later.
pub fn report(shared: &Arc<Shared>, key: EntityKey, report: Report) {
    let shared = shared.clone();
    let routed = async move {
        if let Err(error) = route(&shared, Request::Report { key, report }).await {
            tracing::warn!(%error, "report not delivered; it is polled for again");
        }
    };
    tokio::spawn(routed);
}

/// An answer to another question: a defect, never the caller's.
#[must_use]
pub fn unexpected(reply: &Reply) -> AskError {
    tracing::error!(?reply, "answer to another question");
    AskError::Unknown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_earlier_try_may_have_done_is_never_said_to_be_undone() {
        let end = |error, unknown| ended(Err(error), unknown).map(drop).unwrap_err();
        for refused in [AskError::Unavailable, AskError::Overloaded { retry_after_secs: 1 }] {
            assert_eq!(end(refused.clone(), true), AskError::Unknown);
            assert_eq!(end(refused.clone(), false), refused);
        }
        assert_eq!(end(AskError::KeyReused, true), AskError::KeyReused, "decided");
    }
}

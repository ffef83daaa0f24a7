//! One question to all other members at once.

use crate::actors::node::Node;
use crate::actors::router::{self, NodeReply, NodeRequest};
use crate::sharding::meta::MetaState;
use crate::types::ids::NodeId;
use futures_util::future::join_all;
use std::time::Duration;

/// What the other members answer within `patience`; `None` of one that does not, or whose reply `read` cannot make sense of.
/// Nobody waits for one whose link is down.
pub async fn ask_others<T>(
    node: &Node,
    state: &MetaState,
    (request, patience): (NodeRequest, Duration),
    read: impl Fn(NodeReply) -> Option<T>,
) -> Vec<(NodeId, Option<T>)> {
    let (request, read) = (&request, &read);
    let asked = state.members().map(|(id, _)| id).filter(|id| *id != node.folder.node).map(|other| async move {
        let answer = router::ask_node_for(&node.shared, other, request.clone(), patience).await;
        (other, answer.ok().and_then(read))
    });
    join_all(asked).await
}

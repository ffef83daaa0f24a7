//! Becoming a member: a node without a number asks any member, with a one-time token, and is given its number, the
//! cluster's sealed secrets and the addresses of the others.

use crate::actors::cluster::change::token_hash;
use crate::actors::cluster::meta;
use crate::actors::door::ClusterError;
use crate::actors::node::Node;
use crate::persistence::joining::Identity;
use crate::sharding::meta::{MetaCommand, NodeFacts};
use crate::types::codec;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// What the node says. On the wire between builds: append only.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct JoinRequest {
    pub token: String,
    pub facts: NodeFacts,
}

/// What it is given.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Welcome {
    pub identity: Identity,
    /// Number and cluster address of each member.
    pub members: Vec<(u64, String)>,
}

/// Answer to a [`JoinRequest`]: the welcome, or why not.
pub type JoinAnswer = Result<Welcome, String>;

/// Answers a node that wants to join; its certificate bears `name`.
pub async fn welcome(node: &Arc<Node>, name: &str, body: &[u8]) -> Vec<u8> {
    let answer: JoinAnswer = match codec::decode::<JoinRequest>(body) {
        Ok(request) if request.facts.name == name => admit(node, request).await,
        Ok(_) => Err("the certificate bears another name".to_owned()),
        Err(_) => Err("this build does not understand the request to join".to_owned()),
    };
    codec::encode(&answer)
}

async fn admit(node: &Arc<Node>, request: JoinRequest) -> JoinAnswer {
    let token = token_hash(&request.token);
    let state = meta::ask(&node.shared, &MetaCommand::Join { token, node: request.facts }).await;
    let state = state.map_err(|error| match error {
        ClusterError::Refused(why) => why,
        ClusterError::Ask(error) => format!("the meta group cannot be reached: {error}"),
    })?;
    let id = state.joined_with(token).ok_or("the join was not noted")?;
    tracing::info!(node = %id, "a node joins");
    let identity = node.folder.identity_for(id).map_err(|error| error.to_string())?;
    let members = state.members().map(|(node, member)| (node.0, member.cluster_address.clone()));
    Ok(Welcome { identity, members: members.collect() })
}

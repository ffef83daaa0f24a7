//! The meta group's entity as the runtime asks it, and its state as applied on this node.

use crate::actors::door::{Ask, AskError, ClusterError};
use crate::actors::router::{self, Reply, Request};
use crate::actors::shared::Shared;
use crate::sharding::meta::{META_KEY, MetaCommand, MetaRefusal, MetaState};
use crate::types::codec;
use crate::types::ids::{META_SHARD, Version};
use std::sync::Arc;

/// The state as last applied here, and its version; `None` before the first.
#[must_use]
pub fn read(shared: &Shared) -> Option<(Version, MetaState)> {
    // Half replaced by a snapshot: as if nothing were there yet.
    if shared.state.installing(META_SHARD).unwrap_or(true) {
        return None;
    }
    match shared.state.get(META_SHARD, &META_KEY) {
        Ok(Some(row)) => match codec::decode(&row.state) {
            Ok(state) => Some((row.version, state)),
            Err(_) => shared.fatal("the meta group's state does not decode: run `bojagi verify`"),
        },
        Ok(None) => None,
        Err(error) => shared.fatal(&error.to_string()),
    }
}

/// Has the meta group decide a command; answers with the state after it.
///
/// # Errors
/// [`ClusterError::Refused`] with the group's words; [`ClusterError::Ask`] when it cannot be reached.
pub async fn ask(shared: &Arc<Shared>, command: &MetaCommand) -> Result<MetaState, ClusterError> {
    let ask =
        Ask { key: META_KEY, command: codec::encode(command), idempotency: None, if_version: None, new_key: None };
    let answer = match router::route(shared, Request::Ask(ask)).await {
        Ok(Reply::Answer(answer)) => answer,
        Ok(other) => return Err(router::unexpected(&other).into()),
        Err(AskError::Rejected { rejection, .. }) => {
            let refusal = codec::decode::<MetaRefusal>(&rejection);
            let words = refusal.map_or_else(|_| "refused by a newer build".to_owned(), |refusal| refusal.to_string());
            return Err(ClusterError::Refused(words));
        }
        Err(error) => return Err(error.into()),
    };
    codec::decode(&answer.state).map_err(|_| AskError::Unknown.into())
}

/// As [`ask`], for the runtime's own commands: what is refused or lost is asked again at the next look.
pub async fn tell(shared: &Arc<Shared>, command: MetaCommand) {
    if let Err(error) = ask(shared, &command).await {
        tracing::debug!(?command, %error, "the meta group did not take a command");
    }
}

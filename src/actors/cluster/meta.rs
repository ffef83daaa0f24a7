//! The meta group's entity as the runtime asks it, and its state as applied on this node.

use crate::actors::door::{Ask, AskError, ClusterError};
use crate::actors::router::{self, Reply, Request};
use crate::actors::shared::Shared;
use crate::sharding::meta::{META_KEY, MetaCommand, MetaRefusal, MetaState};
use crate::types::codec;
use crate::types::ids::{Fingerprint, IdempotencyId, META_SHARD, Version};
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
    order(shared, command, None).await.map(|taken| taken.state)
}

/// The state that a command led to.
pub struct Taken {
    pub state: MetaState,
    /// An earlier command under the same mark led to it.
    pub replayed: bool,
}

/// As [`ask`]. What is decided under a mark is decided once: a repeat gets the state as it was after that.
///
/// # Errors
/// As [`ask`].
pub async fn order(
    shared: &Arc<Shared>,
    command: &MetaCommand,
    mark: Option<(IdempotencyId, Fingerprint)>,
) -> Result<Taken, ClusterError> {
    decide_once(shared, command, mark).await.map_err(|not| match not {
        NotDecided::Refused(refusal) => ClusterError::Refused(refusal.to_string()),
        NotDecided::Newer => ClusterError::Refused("refused by a newer build".to_owned()),
        NotDecided::Ask(error) => ClusterError::Ask(error),
    })
}

/// Why a command changed nothing, or may have.
#[derive(Debug)]
pub enum NotDecided {
    Refused(MetaRefusal),
    /// Refused, in words that this build does not know.
    Newer,
    Ask(AskError),
}

/// As [`ask`], with the refusal itself.
///
/// # Errors
/// [`NotDecided`].
pub async fn decide(shared: &Arc<Shared>, command: &MetaCommand) -> Result<MetaState, NotDecided> {
    decide_once(shared, command, None).await.map(|taken| taken.state)
}

async fn decide_once(
    shared: &Arc<Shared>,
    command: &MetaCommand,
    idempotency: Option<(IdempotencyId, Fingerprint)>,
) -> Result<Taken, NotDecided> {
    let ask = Ask { key: META_KEY, command: codec::encode(command), idempotency, if_version: None, new_key: None };
    let answer = match router::route(shared, Request::Ask(ask)).await {
        Ok(Reply::Answer(answer)) => answer,
        Ok(other) => return Err(NotDecided::Ask(router::unexpected(&other))),
        Err(AskError::Rejected { rejection, .. }) => {
            return Err(codec::decode(&rejection).map_or(NotDecided::Newer, NotDecided::Refused));
        }
        Err(error) => return Err(NotDecided::Ask(error)),
    };
    let state = codec::decode(&answer.state).map_err(|_| NotDecided::Ask(AskError::Unknown))?;
    Ok(Taken { state, replayed: answer.replayed })
}

/// As [`ask`], for the runtime's own commands: what is refused or lost (`None`) is asked again at the next look.
pub async fn tell(shared: &Arc<Shared>, command: MetaCommand) -> Option<MetaState> {
    match ask(shared, &command).await {
        Ok(state) => Some(state),
        Err(error) => {
            tracing::debug!(?command, %error, "the meta group did not take a command");
            None
        }
    }
}

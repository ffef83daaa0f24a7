//! The dialling side: one task a wanted peer, which keeps a link to it with a jittered, doubling pause between attempts.
//!
//! Both nodes dial, the higher one a little later, so that most often only one connection is made; two that cross are
//! settled in the introduction: the lower node's dial goes on.

use super::hello::{self, Hello, Refusal, Reply};
use super::hub::{Dialling, Hub};
use super::listen::CONFIRM;
use super::tls::{Label, Purpose};
use crate::types::ids::NodeId;
use crate::types::limits::{HANDSHAKE_MAX_MS, REDIAL_MAX_MS, REDIAL_MIN_MS};
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio_util::sync::CancellationToken;

/// How much later the higher node dials.
const HIGHER_WAITS_MS: u64 = 300;

/// Why a dial made no link.
#[derive(Debug, thiserror::Error)]
enum DialError {
    #[error("not reached: {0}")]
    Io(#[from] io::Error),
    #[error("no introduction in time")]
    Deadline,
    #[error("refused there: {0}")]
    RefusedThere(Refusal),
    #[error("refused here: {0}")]
    RefusedHere(Refusal),
    #[error("another node answers there")]
    Stranger,
    #[error("the peer's own dial came first")]
    Overtaken,
}

/// Keeps a link to one peer until its seat is closed.
pub(crate) async fn keep(hub: Arc<Hub>, node: NodeId, closed: CancellationToken) {
    let mut pause_ms = REDIAL_MIN_MS;
    let mut said = String::new();
    loop {
        let later = if hub.me.node > node { HIGHER_WAITS_MS } else { 0 };
        tokio::select! {
            () = closed.cancelled() => return,
            () = tokio::time::sleep(hub.jittered(pause_ms) + Duration::from_millis(later)) => {}
        }
        let seated = hub.seats.read().get(&node).map(|seat| (seat.address.clone(), seat.link.clone()));
        let Some((address, link)) = seated else { return };
        if let Some(link) = link {
            tokio::select! {
                () = closed.cancelled() => return,
                () = link.ended.cancelled() => {}
            }
            // A link that lasted a while ended for a reason of its own: dial again soon.
            let lived_ms = hub.clock.boot().0.saturating_sub(link.born_ms);
            pause_ms = if lived_ms > HANDSHAKE_MAX_MS { REDIAL_MIN_MS } else { (pause_ms * 2).min(REDIAL_MAX_MS) };
            continue;
        }
        let dialled = tokio::select! {
            () = closed.cancelled() => return,
            dialled = dial(&hub, node, &address) => dialled,
        };
        if let Some(seat) = hub.seats.write().get_mut(&node) {
            seat.dialling = Dialling::Idle;
        }
        match dialled {
            Ok(()) => said.clear(),
            Err(error) => {
                let text = error.to_string();
                if text != said {
                    tracing::info!(peer = %node, address, error = text, "no link yet; it is tried again");
                    said = text;
                }
                pause_ms = (pause_ms * 2).min(REDIAL_MAX_MS);
            }
        }
    }
}

/// One attempt, from the connection to the seat.
async fn dial(hub: &Arc<Hub>, node: NodeId, address: &str) -> Result<(), DialError> {
    let overtaken = CancellationToken::new();
    if !mark(hub, node, Dialling::Connecting(overtaken.clone())) {
        return Err(DialError::Overtaken);
    }
    let attempt = introduce(hub, node, address, &overtaken);
    let limit = Duration::from_millis(HANDSHAKE_MAX_MS);
    tokio::select! {
        biased;
        () = overtaken.cancelled() => Err(DialError::Overtaken),
        done = tokio::time::timeout(limit, attempt) => done.unwrap_or(Err(DialError::Deadline)),
    }
}

/// Notes how far the dial is; false when the peer's own connection has taken the seat.
fn mark(hub: &Hub, node: NodeId, dialling: Dialling) -> bool {
    let mut seats = hub.seats.write();
    let Some(seat) = seats.get_mut(&node) else { return false };
    if seat.link.is_some() {
        return false;
    }
    seat.dialling = dialling;
    true
}

async fn introduce(
    hub: &Arc<Hub>,
    node: NodeId,
    address: &str,
    overtaken: &CancellationToken,
) -> Result<(), DialError> {
    let mut secured = hub.guard.dial(address, Purpose::Link).await?;
    if !mark(hub, node, Dialling::Introduced(overtaken.clone())) {
        return Err(DialError::Overtaken);
    }
    let mine = hub.hello(node);
    hello::write(&mut secured.stream, &mine).await?;
    let theirs: Hello = match hello::read(&mut secured.stream).await? {
        Reply::Welcome(theirs) => theirs,
        Reply::Refused(why) => {
            if why == Refusal::Outdated {
                tracing::error!(peer = %node, "the peer has seen a later life of this node: is its folder running twice?");
            }
            if let Refusal::Behind { known } = why {
                hub.inbound.found_behind(node, known);
            }
            if let Refusal::TooOld(level) = why {
                hub.inbound.found_too_old(node, level);
            }
            return Err(DialError::RefusedThere(why));
        }
    };
    let name: Label = theirs.check(&hub.cluster_id, hub.me.node).map_err(DialError::RefusedHere)?;
    if theirs.node != node {
        return Err(DialError::Stranger);
    }
    if !secured.is_named(&name, &hub.cluster) {
        return Err(DialError::RefusedHere(Refusal::Name));
    }
    hub.vouch(&theirs, &name).map_err(DialError::RefusedHere)?;
    let epoch = hello::epoch(&mine, &theirs);
    let link = hub.take_seat(theirs.peer(), epoch, true).await.map_err(DialError::RefusedHere)?;
    let confirmed = async {
        secured.stream.write_u8(CONFIRM).await?;
        secured.stream.flush().await
    };
    if let Err(error) = confirmed.await {
        hub.end(&link, "the confirmation was not sent");
        return Err(DialError::Io(error));
    }
    hub.hand_over(&link, secured.stream);
    Ok(())
}

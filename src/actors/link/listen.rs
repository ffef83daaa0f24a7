//! The accepting side: each connection is introduced in a task of its own, under a deadline, their number bounded.
//!
//! ```text
//! accept -> TLS or preface -> Hello -> judged -> Welcome -> Confirm -> seat taken -> ractor_cluster
//! ```
//! The seat changes hands only after the confirmation: what a paused listener finds in its backlog when it wakes are
//! hellos of dials that were given up long ago, and those confirm nothing.

use super::door;
use super::hello::{self, Hello, Refusal, Reply};
use super::hub::Hub;
use super::tls::{Purpose, Secured};
use crate::types::limits::{HANDSHAKE_MAX_MS, HANDSHAKES_MAX, JOINS_MAX};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::AsyncReadExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

/// The dialler's last byte before ractor_cluster takes over.
pub(crate) const CONFIRM: u8 = 0xC1;
/// Pause after a failed accept, which most often means that descriptors have run out.
const ACCEPT_AGAIN: Duration = Duration::from_millis(100);

pub(crate) async fn listen(hub: Arc<Hub>, listener: TcpListener) {
    let (handshakes, joins) = (Arc::new(Semaphore::new(HANDSHAKES_MAX)), Arc::new(Semaphore::new(JOINS_MAX)));
    loop {
        let accepted = tokio::select! {
            () = hub.stopping.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((tcp, from)) => {
                let Ok(permit) = Arc::clone(&handshakes).try_acquire_owned() else {
                    tracing::warn!(%from, "too many connections are being introduced: closed");
                    continue;
                };
                let (hub, joins) = (Arc::clone(&hub), Arc::clone(&joins));
                hub.tasks.clone().spawn(async move {
                    let stopping = hub.stopping.clone();
                    tokio::select! {
                        () = stopping.cancelled() => {}
                        () = receive(hub, tcp, from, joins, permit) => {}
                    }
                });
            }
            Err(error) => {
                tracing::warn!(%error, "the cluster listener accepts nothing");
                tokio::time::sleep(ACCEPT_AGAIN).await;
            }
        }
    }
}

async fn receive(
    hub: Arc<Hub>,
    tcp: TcpStream,
    from: SocketAddr,
    joins: Arc<Semaphore>,
    permit: tokio::sync::OwnedSemaphorePermit,
) {
    let deadline = tokio::time::Instant::now() + Duration::from_millis(HANDSHAKE_MAX_MS);
    let secured = match tokio::time::timeout_at(deadline, hub.guard.accept(tcp)).await {
        Ok(Ok(secured)) => secured,
        Ok(Err(error)) => return tracing::warn!(%from, %error, "a connection to the cluster listener is refused"),
        Err(_) => return tracing::warn!(%from, "a connection did not introduce itself in time and is closed"),
    };
    match secured.purpose {
        Purpose::Link => match tokio::time::timeout_at(deadline, introduce(&hub, secured, from)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::debug!(%from, %error, "a dial was given up by the other side"),
            Err(_) => tracing::warn!(%from, "a connection did not introduce itself in time and is closed"),
        },
        Purpose::Join => {
            drop(permit);
            let Ok(_turn) = joins.try_acquire_owned() else {
                return tracing::warn!(%from, "too many joins at one time: closed");
            };
            door::serve(&hub, secured, from).await;
        }
    }
}

/// Everything that is known of a peer before it is let in.
fn judge(hub: &Hub, hello: &Hello, secured: &Secured) -> Result<(), Refusal> {
    let name = hello.check(&hub.cluster_id, hub.me.node)?;
    if !secured.is_named(&name, &hub.cluster) {
        return Err(Refusal::Name);
    }
    hub.vouch(hello, &name)?;
    if hub.is_crossed(hello.node) { Err(Refusal::Crossed) } else { Ok(()) }
}

async fn introduce(hub: &Arc<Hub>, mut secured: Secured, from: SocketAddr) -> io::Result<()> {
    let theirs: Hello = hello::read(&mut secured.stream).await?;
    if let Err(why) = judge(hub, &theirs, &secured) {
        say_refused(&theirs, from, why);
        return hello::write(&mut secured.stream, &Reply::Refused(why)).await;
    }
    let mine = hub.hello(theirs.node);
    let epoch = hello::epoch(&theirs, &mine);
    hello::write(&mut secured.stream, &Reply::Welcome(mine)).await?;
    if secured.stream.read_u8().await? != CONFIRM {
        return Err(io::ErrorKind::InvalidData.into());
    }
    match hub.take_seat(theirs.peer(), epoch, false).await {
        Ok(link) => hub.hand_over(&link, secured.stream),
        Err(why) => say_refused(&theirs, from, why),
    }
    Ok(())
}

fn say_refused(hello: &Hello, from: SocketAddr, why: Refusal) {
    let (node, incarnation, name) = (hello.node, hello.incarnation, &hello.name);
    match why {
        Refusal::Crossed | Refusal::Stopping => tracing::debug!(%from, %node, %why, "a peer is refused"),
        Refusal::NotAPeer => tracing::info!(%from, %node, name, %why, "a peer is refused"),
        Refusal::Protocol
        | Refusal::Cluster
        | Refusal::Name
        | Refusal::NotMe
        | Refusal::Outdated
        | Refusal::Behind { .. }
        | Refusal::TooOld(_) => {
            tracing::warn!(%from, %node, %incarnation, name, %why, "a peer is refused");
        }
    }
}

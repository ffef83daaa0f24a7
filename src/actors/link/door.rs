//! The join door: on the cluster listener, one request and one answer for a node that has no id yet.
//!
//! It is behind the same certificates as links: who knocks holds one of this cluster that bears its name. Whether it may
//! come in, a one-time token in the body for instance, is for [`crate::replication::transport::Inbound::join`].

use super::hub::Hub;
use super::tls::{Guard, Label, Purpose, Secured, Security, SecurityError};
use crate::types::codec;
use crate::types::limits::{FRAME_BYTES_MAX, HANDSHAKE_MAX_MS, JOIN_MAX_MS};
use serde::{Deserialize, Serialize};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Knock {
    name: String,
    body: Vec<u8>,
}

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Opened {
    Answer(Vec<u8>),
    Refused,
}

/// Why a join has no answer.
#[derive(Debug, thiserror::Error)]
pub enum JoinError {
    #[error(transparent)]
    Security(#[from] SecurityError),
    /// Nothing was asked.
    #[error("{address} is not reached: {cause}")]
    NotSent { address: String, cause: io::Error },
    /// The node refused, and took nothing.
    #[error("{address} refuses")]
    Refused { address: String },
    /// It was asked and did not answer: it may have been taken. The same request may be sent again.
    #[error("{address} was asked and did not answer: outcome unknown")]
    Unknown { address: String },
}

async fn write<T: Serialize>(stream: &mut (impl AsyncWrite + Unpin), value: &T) -> io::Result<()> {
    let body = codec::encode(value);
    let length = u32::try_from(body.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
    stream.write_u32_le(length).await?;
    stream.write_all(&body).await?;
    stream.flush().await
}

async fn read<T: serde::de::DeserializeOwned>(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<T> {
    let length = u64::from(stream.read_u32_le().await?);
    if length > FRAME_BYTES_MAX as u64 {
        return Err(io::ErrorKind::InvalidData.into());
    }
    // Grows as bytes arrive, so that a length alone costs nothing.
    let mut body = Vec::new();
    stream.take(length).read_to_end(&mut body).await?;
    codec::decode(&body).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
}

/// The accepting side: everything under a deadline.
pub(crate) async fn serve(hub: &Arc<Hub>, mut secured: Secured, from: SocketAddr) {
    let arrival = tokio::time::timeout(Duration::from_millis(HANDSHAKE_MAX_MS), read::<Knock>(&mut secured.stream));
    let Ok(Ok(knock)) = arrival.await else {
        return tracing::warn!(%from, "a join that says nothing is closed");
    };
    let named = Label::new(&knock.name).ok().filter(|name| secured.is_named(name, &hub.cluster));
    let Some(name) = named else {
        tracing::warn!(%from, name = knock.name, "a join under a name that its certificate does not bear is refused");
        return answer(&mut secured, &Opened::Refused).await;
    };
    tracing::info!(%from, %name, "a node asks to join");
    let deciding = hub.inbound.join(name.to_string(), knock.body);
    let Ok(decided) = tokio::time::timeout(Duration::from_millis(JOIN_MAX_MS), deciding).await else {
        return tracing::warn!(%from, %name, "a join was not decided in time");
    };
    answer(&mut secured, &decided.map_or(Opened::Refused, Opened::Answer)).await;
}

async fn answer(secured: &mut Secured, opened: &Opened) {
    let written = async {
        write(&mut secured.stream, opened).await?;
        secured.stream.shutdown().await
    };
    let within = tokio::time::timeout(Duration::from_millis(HANDSHAKE_MAX_MS), written);
    if !matches!(within.await, Ok(Ok(()))) {
        tracing::warn!("the answer to a join was not taken");
    }
}

/// Who asks to join.
pub struct Joiner<'a> {
    /// The name that the certificate bears.
    pub name: &'a Label,
    pub cluster: &'a Label,
    pub security: &'a Security,
}

/// Asks the node at `address` to let this one join, and returns its answer. Needs a tokio runtime.
///
/// # Errors
/// [`JoinError`], which says whether it may have been taken.
///
/// # Cancellation
/// Dropped after it was sent, its outcome is unknown.
pub async fn join_request(
    joiner: Joiner<'_>,
    address: &str,
    body: Vec<u8>,
    deadline: Duration,
) -> Result<Vec<u8>, JoinError> {
    let guard = Guard::load(joiner.security, joiner.name, joiner.cluster)?;
    let until = tokio::time::Instant::now() + deadline;
    let not_sent = |cause| JoinError::NotSent { address: address.to_owned(), cause };
    let dialled = tokio::time::timeout_at(until, guard.dial(address, Purpose::Join)).await;
    let mut secured = dialled.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())).map_err(not_sent)?;
    let exchange = async {
        write(&mut secured.stream, &Knock { name: joiner.name.to_string(), body }).await?;
        read::<Opened>(&mut secured.stream).await
    };
    match tokio::time::timeout_at(until, exchange).await {
        Ok(Ok(Opened::Answer(body))) => Ok(body),
        Ok(Ok(Opened::Refused)) => Err(JoinError::Refused { address: address.to_owned() }),
        Ok(Err(_)) | Err(_) => Err(JoinError::Unknown { address: address.to_owned() }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_knock_crosses_a_stream_and_an_endless_one_is_refused() {
        let (mut near, mut far) = tokio::io::duplex(4096);
        let knock = || Knock { name: "busan".to_owned(), body: vec![1, 2] };
        write(&mut near, &knock()).await.unwrap();
        assert_eq!(read::<Knock>(&mut far).await.unwrap(), knock());
        near.write_u32_le(u32::MAX).await.unwrap();
        assert_eq!(read::<Knock>(&mut far).await.unwrap_err().kind(), io::ErrorKind::InvalidData);
    }

    #[tokio::test]
    async fn a_cut_answer_is_no_answer() {
        let (mut near, mut far) = tokio::io::duplex(4096);
        near.write_u32_le(100).await.unwrap();
        near.write_all(&[0; 10]).await.unwrap();
        drop(near);
        assert!(read::<Opened>(&mut far).await.is_err());
    }
}

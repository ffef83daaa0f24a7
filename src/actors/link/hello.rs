//! The introduction: one frame each way before ractor_cluster sees the stream.
//!
//! ```text
//! dialler  -> Hello   { protocol, cluster, name, node, incarnation, to, nonce, lineage, levels }
//! acceptor -> Welcome { hello of the acceptor } | Refused { why }
//! ```
//! Both nonces make the link's epoch, which every batch carries: a batch of an earlier link decodes to no link at all.

use super::tls::Label;
use crate::replication::transport::Peer;
use crate::types::codec;
use crate::types::ids::{Incarnation, NodeId};
use crate::types::level::{FeatureLevel, Levels};
use crate::types::start::Lineage;
use serde::{Deserialize, Serialize};
use std::io;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// The version of links and their frames. Another one is refused.
pub(crate) const PROTOCOL: u16 = 3;
/// A hello or its answer, at most.
const HELLO_BYTES_MAX: usize = 1024;

/// What a node says of itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Hello {
    pub(crate) protocol: u16,
    pub(crate) cluster: [u8; 16],
    pub(crate) name: String,
    pub(crate) node: NodeId,
    pub(crate) incarnation: Incarnation,
    /// The node that the dialler means to reach.
    pub(crate) to: NodeId,
    pub(crate) nonce: u64,
    /// The starts of its folder.
    pub(crate) lineage: Lineage,
    /// The feature levels of its build.
    pub(crate) levels: Levels,
}

/// Why a peer is refused. The text goes into both logs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub(crate) enum Refusal {
    #[error("it speaks another protocol version")]
    Protocol,
    #[error("it belongs to another cluster")]
    Cluster,
    #[error("its certificate does not bear the name that it gives")]
    Name,
    #[error("it wants another node than this one")]
    NotMe,
    #[error("it is no peer of this node")]
    NotAPeer,
    #[error("its incarnation is older than one that was seen")]
    Outdated,
    #[error("this node is dialling it at the same time")]
    Crossed,
    #[error("this node stops")]
    Stopping,
    #[error("its folder is behind: it was put back from a copy, or is used twice, and has not seen start {known}")]
    Behind { known: Incarnation },
    #[error("its build does not know the cluster's feature level {0}")]
    TooOld(FeatureLevel),
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Reply {
    Welcome(Hello),
    Refused(Refusal),
}

impl Hello {
    pub(crate) fn peer(&self) -> Peer {
        Peer { node: self.node, incarnation: self.incarnation }
    }

    /// What can be judged from the hello alone: `me` is the node that reads it.
    ///
    /// # Errors
    /// The first [`Refusal`].
    pub(crate) fn check(&self, cluster: &[u8; 16], me: NodeId) -> Result<Label, Refusal> {
        if self.protocol != PROTOCOL {
            return Err(Refusal::Protocol);
        }
        if self.cluster != *cluster {
            return Err(Refusal::Cluster);
        }
        if self.to != me {
            return Err(Refusal::NotMe);
        }
        if self.node == me {
            return Err(Refusal::NotAPeer);
        }
        Label::new(&self.name).map_err(|_| Refusal::Name)
    }
}

/// The epoch of the link that two hellos make.
pub(crate) fn epoch(dialler: &Hello, acceptor: &Hello) -> u64 {
    let mut words = [0u8; 16];
    words[..8].copy_from_slice(&dialler.nonce.to_le_bytes());
    words[8..].copy_from_slice(&acceptor.nonce.to_le_bytes());
    xxhash_rust::xxh3::xxh3_64(&words)
}

/// # Errors
/// The stream ended.
pub(crate) async fn write<T: Serialize>(stream: &mut (impl AsyncWrite + Unpin), value: &T) -> io::Result<()> {
    let body = codec::encode(value);
    let length = u16::try_from(body.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
    let mut bytes = length.to_le_bytes().to_vec();
    bytes.extend_from_slice(&body);
    stream.write_all(&bytes).await?;
    stream.flush().await
}

/// # Errors
/// The stream ended, or what came is not a `T`.
pub(crate) async fn read<T: serde::de::DeserializeOwned>(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<T> {
    let length = usize::from(stream.read_u16_le().await?);
    if length > HELLO_BYTES_MAX {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let mut body = vec![0u8; length];
    stream.read_exact(&mut body).await?;
    codec::decode(&body).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::level::LEVELS;

    fn hello() -> Hello {
        Hello {
            protocol: PROTOCOL,
            cluster: [3; 16],
            name: "seoul-1".to_owned(),
            node: NodeId(2),
            incarnation: Incarnation(5),
            to: NodeId(1),
            nonce: 9,
            lineage: Lineage::default(),
            levels: LEVELS,
        }
    }

    #[test]
    fn a_hello_is_judged_by_version_cluster_target_and_name() {
        let check = |change: fn(&mut Hello)| {
            let mut hello = hello();
            change(&mut hello);
            hello.check(&[3; 16], NodeId(1)).map(|name| name.to_string())
        };
        assert_eq!(check(|_| ()), Ok("seoul-1".to_owned()));
        assert_eq!(check(|hello| hello.protocol = 99), Err(Refusal::Protocol));
        assert_eq!(check(|hello| hello.cluster = [4; 16]), Err(Refusal::Cluster));
        assert_eq!(check(|hello| hello.to = NodeId(3)), Err(Refusal::NotMe));
        assert_eq!(check(|hello| hello.node = NodeId(1)), Err(Refusal::NotAPeer));
        assert_eq!(check(|hello| hello.name = "Seoul.".to_owned()), Err(Refusal::Name));
    }

    #[test]
    fn each_pair_of_nonces_is_an_epoch_of_its_own() {
        let (one, two) = (hello(), Hello { nonce: 10, ..hello() });
        assert_ne!(epoch(&one, &two), epoch(&two, &one));
        assert_ne!(epoch(&one, &one), epoch(&one, &two));
    }

    #[tokio::test]
    async fn a_hello_crosses_a_stream_and_an_endless_one_is_refused() {
        let (mut near, mut far) = tokio::io::duplex(4096);
        write(&mut near, &Reply::Welcome(hello())).await.unwrap();
        assert_eq!(read::<Reply>(&mut far).await.unwrap(), Reply::Welcome(hello()));
        near.write_u16_le(u16::MAX).await.unwrap();
        assert_eq!(read::<Reply>(&mut far).await.unwrap_err().kind(), io::ErrorKind::InvalidData);
    }
}

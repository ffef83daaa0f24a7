//! For chaos runs: a node's peers are dialled through proxies on this machine, so that links can be cut and slowed.
//! Everything else is the links' own.

use crate::replication::transport::{Lane, LinkStatus, PeerAddress, RequestError, Sent, SharedTransport, Transport};
use crate::types::ids::NodeId;
use futures_util::future::BoxFuture;
use std::time::Duration;

/// Where the proxies are: a peer's cluster port is dialled so much further up.
#[derive(Clone, Copy, Debug)]
pub struct Detour {
    /// The first node's cluster port.
    pub from: u16,
    /// The port that is dialled instead of it; the next nodes' follow both.
    pub via: u16,
}

impl Detour {
    /// The address to dial for a peer's; one that is not of a dev cluster stays.
    fn of(self, address: &str) -> String {
        let port = address.rsplit_once(':').and_then(|(_, port)| port.parse::<u16>().ok());
        let via = port.and_then(|port| port.checked_sub(self.from)).and_then(|place| self.via.checked_add(place));
        via.map_or_else(|| address.to_owned(), |via| format!("127.0.0.1:{via}"))
    }
}

/// Links whose peers are dialled by a detour.
pub struct Detoured {
    pub links: SharedTransport,
    pub detour: Detour,
}

impl Transport for Detoured {
    fn cast(&self, to: NodeId, lane: Lane, frame: Vec<u8>) -> Sent {
        self.links.cast(to, lane, frame)
    }
    fn cast_urgent(&self, to: NodeId, frame: Vec<u8>) -> Sent {
        self.links.cast_urgent(to, frame)
    }
    fn request(
        &self,
        to: NodeId,
        body: Vec<u8>,
        deadline: Duration,
    ) -> BoxFuture<'static, Result<Vec<u8>, RequestError>> {
        self.links.request(to, body, deadline)
    }
    fn set_peers(&self, peers: Vec<PeerAddress>) {
        let by_detour = |peer: PeerAddress| PeerAddress { address: self.detour.of(&peer.address), ..peer };
        self.links.set_peers(peers.into_iter().map(by_detour).collect());
    }
    fn links(&self) -> Vec<LinkStatus> {
        self.links.links()
    }
    fn stop(&self) -> BoxFuture<'_, ()> {
        self.links.stop()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_peer_has_its_proxy() {
        let detour = Detour { from: 8_100, via: 8_210 };
        assert_eq!(detour.of("127.0.0.1:8100"), "127.0.0.1:8210");
        assert_eq!(detour.of("127.0.0.1:8102"), "127.0.0.1:8212");
        assert_eq!(detour.of("127.0.0.1:80"), "127.0.0.1:80");
        assert_eq!(detour.of("elsewhere"), "elsewhere");
    }
}

//! An address that the process has taken and does not listen on yet. A node that starts has its folder to open and its peers
//! to find first; who connects meanwhile is refused, so that clients and load balancers go elsewhere at once instead of
//! waiting for an answer that is seconds away.

use crate::actors::cluster::leave::hand_over;
use crate::actors::node::Node;
use crate::app::AppError;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpSocket};

/// Connections that wait to be accepted.
const BACKLOG: u32 = 1_024;
/// Longest wait of a member of a cluster for its shards' leaders: without a majority its operators' pages still answer.
const READY_PATIENCE: Duration = Duration::from_secs(2);
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// Bound, not listening.
pub(crate) struct Reserved {
    socket: TcpSocket,
    address: SocketAddr,
    what: &'static str,
    hint: &'static str,
}

impl Reserved {
    /// Port 0 is given a number.
    ///
    /// # Errors
    /// [`AppError::PortTaken`] when another process listens there; it names `what` and the `hint`.
    pub(crate) fn new(what: &'static str, address: SocketAddr, hint: &'static str) -> Result<Self, AppError> {
        let bound = || {
            let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
            socket.set_reuseaddr(true)?;
            socket.bind(address)?;
            let address = socket.local_addr()?;
            Ok((socket, address))
        };
        let (socket, address) = bound().map_err(|cause| refused(what, address, hint, cause))?;
        Ok(Self { socket, address, what, hint })
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// # Errors
    /// [`AppError::PortTaken`] when another process that had taken the address too listens by now.
    fn listen(self) -> Result<TcpListener, AppError> {
        let Self { socket, address, what, hint } = self;
        socket.listen(BACKLOG).map_err(|cause| refused(what, address, hint, cause))
    }
}

/// Listens once the node is of use. Without the address it is of none, and leaves in good order.
///
/// # Errors
/// As [`Reserved::listen`].
pub(crate) async fn listen_when_usable(reserved: Reserved, node: &Arc<Node>) -> Result<TcpListener, AppError> {
    wait_until_usable(node).await;
    match reserved.listen() {
        Ok(listener) => Ok(listener),
        Err(error) => {
            hand_over(node).await;
            node.stop().await;
            Err(error)
        }
    }
}

/// Until the node knows a leader for each shard, or for as long as a member waits for one.
async fn wait_until_usable(node: &Node) {
    let ready = async {
        while !node.is_ready() {
            tokio::time::sleep(LOOK_EVERY).await;
        }
    };
    if tokio::time::timeout(READY_PATIENCE, ready).await.is_err() {
        tracing::warn!("not every shard has a leader yet; serving nevertheless");
    }
}

/// An address to listen on at once.
///
/// # Errors
/// As [`Reserved::new`].
pub(crate) fn bind(what: &'static str, address: SocketAddr, hint: &'static str) -> Result<TcpListener, AppError> {
    Reserved::new(what, address, hint)?.listen()
}

fn refused(what: &'static str, address: SocketAddr, hint: &str, cause: std::io::Error) -> AppError {
    match cause.kind() {
        std::io::ErrorKind::AddrInUse => {
            AppError::PortTaken { what, address: address.to_string(), hint: format!("choose another with {hint}") }
        }
        _ => AppError::Io { what: format!("{what} {address}"), cause },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::net::TcpStream;

    #[tokio::test]
    async fn who_connects_before_the_node_serves_is_refused() {
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let first = Reserved::new("API address", any, "--port P").unwrap();
        let address = first.address();
        let refused = TcpStream::connect(address).await.unwrap_err();
        assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);
        let second = Reserved::new("API address", address, "--port P").unwrap();
        let listener = first.listen().unwrap();
        let (connected, accepted) = tokio::join!(TcpStream::connect(address), listener.accept());
        assert_eq!(connected.unwrap().local_addr().unwrap(), accepted.unwrap().1);
        let late = second.listen().map(drop).unwrap_err();
        assert!(matches!(late, AppError::PortTaken { what: "API address", .. }), "{late}");
        let later = Reserved::new("API address", address, "--port P").map(drop).unwrap_err();
        assert!(matches!(later, AppError::PortTaken { .. }), "{later}");
    }
}

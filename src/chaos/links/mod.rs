//! A proxy before every link: each node dials its peers through listeners of its own, so that the bytes of one node to
//! another can be held up, in one direction or both, without root and without tools.
//!
//! A connection carries both directions of a pair, whoever dialled it; a direction is ruled over all connections of its
//! pair. Nothing is ever thrown away, since TCP would send it again: a cut holds bytes back, a loss is a stall.

mod namespaces;
mod pump;
mod ways;
mod weather;

pub use namespaces::{Names, Namespaces, clean};
pub use ways::Ways;
pub use weather::{Direction, Weather};

use parking_lot::Mutex;
use pump::carry;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use std::collections::BTreeMap;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::{CancellationToken, DropGuard};
use weather::Conditions;

/// Listeners of one dialling node, from its first port on: one for each peer.
pub const PORTS_EACH: u16 = 10;
/// Before a listener is asked again after it refused: there may be no file descriptors.
const REST: Duration = Duration::from_millis(50);

/// Where the proxies listen and where the nodes do, on this machine.
#[derive(Clone, Copy, Debug)]
pub struct Ports {
    /// The first node's first proxy.
    pub proxies: u16,
    /// The first node's links.
    pub links: u16,
}

impl Ports {
    /// The first of the ports at which a node dials its peers, that of node 1.
    #[must_use]
    pub fn dialled_by(self, node: u16) -> u16 {
        self.proxies + (node - 1) * PORTS_EACH
    }
}

/// The proxies. They end, with every connection through them, when this is dropped.
pub struct Links {
    directions: BTreeMap<Direction, watch::Sender<Conditions>>,
    orders: Mutex<BTreeMap<String, (Vec<Direction>, Weather)>>,
    _stop: DropGuard,
}

impl Links {
    /// Opens a proxy from each to each other of nodes 1 to `nodes`, at most [`PORTS_EACH`]. All are clear.
    ///
    /// # Errors
    /// A port is taken.
    pub async fn open(nodes: u16, ports: Ports, seed: u64) -> io::Result<Self> {
        let pairs = || (1..=nodes).flat_map(move |from| (1..=nodes).map(move |to| Direction { from, to }));
        let directions: BTreeMap<Direction, watch::Sender<Conditions>> = pairs()
            .filter(|direction| direction.from != direction.to)
            .map(|direction| (direction, watch::channel(Conditions::default()).0))
            .collect();
        let stop = CancellationToken::new();
        let mut dice = ChaCha8Rng::seed_from_u64(seed);
        for direction in directions.keys() {
            let port = ports.dialled_by(direction.from) + direction.to - 1;
            let listener = TcpListener::bind(local(port)).await?;
            let proxy = Proxy {
                peer: local(ports.links + direction.to - 1),
                there: directions[direction].subscribe(),
                back: directions[&direction.back()].subscribe(),
                dice: ChaCha8Rng::from_rng(&mut dice),
            };
            tokio::spawn(proxy.serve(listener, stop.clone()));
        }
        Ok(Self { directions, orders: Mutex::default(), _stop: stop.drop_guard() })
    }

    /// Puts directions under some weather until the order of this name is lifted. Of several orders over a direction all
    /// hold.
    pub fn order(&self, name: &str, directions: &[Direction], weather: Weather) {
        let mut orders = self.orders.lock();
        orders.insert(name.to_owned(), (directions.to_vec(), weather));
        self.apply(&orders);
    }

    /// Ends an order; what it was. `None` when there is none of this name.
    pub fn lift(&self, name: &str) -> Option<(Vec<Direction>, Weather)> {
        let mut orders = self.orders.lock();
        let lifted = orders.remove(name);
        self.apply(&orders);
        lifted
    }

    fn apply(&self, orders: &BTreeMap<String, (Vec<Direction>, Weather)>) {
        for (direction, conditions) in &self.directions {
            let over = orders.values().filter(|(directions, _)| directions.contains(direction));
            let now = Conditions::under(over.map(|(_, weather)| *weather));
            conditions.send_if_modified(|known| std::mem::replace(known, now) != now);
        }
    }
}

fn local(port: u16) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, port))
}

/// One listener: the way of one node to one peer.
struct Proxy {
    peer: SocketAddr,
    there: watch::Receiver<Conditions>,
    back: watch::Receiver<Conditions>,
    dice: ChaCha8Rng,
}

impl Proxy {
    async fn serve(mut self, listener: TcpListener, stop: CancellationToken) {
        // Dropped at the end, which ends every connection.
        let mut connections = JoinSet::new();
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                accepted = listener.accept() => match accepted {
                    Ok((dialler, _)) => drop(connections.spawn(self.join(dialler))),
                    Err(_) => tokio::time::sleep(REST).await,
                },
                Some(_ended) = connections.join_next() => {}
            }
        }
    }

    /// Carries one connection, until both its sides have ended.
    fn join(&mut self, dialler: TcpStream) -> impl Future<Output = ()> + Send + use<> {
        let (peer, there, back) = (self.peer, self.there.clone(), self.back.clone());
        let (dice, dice_back) = (ChaCha8Rng::from_rng(&mut self.dice), ChaCha8Rng::from_rng(&mut self.dice));
        async move {
            // A peer that does not listen: the dialler's connection ends, as if it had been refused.
            let Ok(listener) = TcpStream::connect(peer).await else { return };
            for stream in [&dialler, &listener] {
                if stream.set_nodelay(true).is_err() {
                    return;
                }
            }
            let ((from, back_to), (back_from, to)) = (dialler.into_split(), listener.into_split());
            tokio::join!(carry(from, to, there, dice), carry(back_from, back_to, back, dice_back));
        }
    }
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;

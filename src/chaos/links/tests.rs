//! The proxies over real sockets.

use super::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{Instant, timeout};

/// A test that waits this long has failed.
const PATIENCE: Duration = Duration::from_secs(60);
/// Long enough that bytes which are let through would be there on an idle machine. A busy one can only make a fault go
/// unseen, never make one up.
const A_WHILE: Duration = Duration::from_millis(150);

/// Three nodes' listeners on free ports, and the proxies before them.
struct Bench {
    links: Links,
    ports: Ports,
    listeners: Vec<TcpListener>,
}

impl Bench {
    async fn start() -> Self {
        for _ in 0..100 {
            if let Some(bench) = Self::try_start().await {
                return bench;
            }
        }
        panic!("no free ports");
    }

    async fn try_start() -> Option<Self> {
        let first = TcpListener::bind(local(0)).await.unwrap();
        let links = first.local_addr().unwrap().port();
        let mut listeners = vec![first];
        for place in 1..3 {
            listeners.push(TcpListener::bind(local(links.checked_add(place)?)).await.ok()?);
        }
        let ports = Ports { proxies: links.checked_add(100).filter(|first| *first < 65_000)?, links };
        let links = Links::open(3, ports, 1).await.ok()?;
        Some(Self { links, ports, listeners })
    }

    /// A connection that `from` dials to `to`: its end there, and the end here.
    async fn connect(&self, from: u16, to: u16) -> (TcpStream, TcpStream) {
        let dialled = TcpStream::connect(local(self.ports.dialled_by(from) + to - 1)).await.unwrap();
        let accepted = timeout(PATIENCE, self.listeners[usize::from(to) - 1].accept()).await.unwrap().unwrap();
        (dialled, accepted.0)
    }
}

async fn passes(from: &mut TcpStream, to: &mut TcpStream, text: &[u8]) {
    from.write_all(text).await.unwrap();
    arrives(to, text).await;
}

async fn arrives(to: &mut TcpStream, text: &[u8]) {
    let mut read = vec![0; text.len()];
    timeout(PATIENCE, to.read_exact(&mut read)).await.expect("it arrives").unwrap();
    assert_eq!(read, text);
}

async fn nothing_comes(to: &mut TcpStream) {
    let mut byte = [0];
    assert!(timeout(A_WHILE, to.read(&mut byte)).await.is_err(), "{byte:?} came through");
}

fn one_way(from: u16, to: u16) -> [Direction; 1] {
    [Direction { from, to }]
}

#[tokio::test]
async fn bytes_go_both_ways_and_so_does_the_end() {
    let bench = Bench::start().await;
    let (mut one, mut two) = bench.connect(1, 2).await;
    let long: Vec<u8> = (0..200_000).map(|n: u32| n.to_le_bytes()[0]).collect();
    let (mut there, mut back) = (one, two);
    passes(&mut there, &mut back, b"there").await;
    passes(&mut back, &mut there, b"back").await;
    (one, two) = (there, back);
    let sent = long.clone();
    let writer = tokio::spawn(async move {
        one.write_all(&sent).await.unwrap();
        one
    });
    arrives(&mut two, &long).await;
    drop(writer.await.unwrap());
    assert_eq!(timeout(PATIENCE, two.read(&mut [0])).await.unwrap().unwrap(), 0, "closed");
}

#[tokio::test]
async fn a_one_way_cut_holds_one_direction_whoever_dialled() {
    let bench = Bench::start().await;
    let (mut a_one, mut a_two) = bench.connect(1, 2).await;
    let (mut b_two, mut b_one) = bench.connect(2, 1).await;
    passes(&mut a_one, &mut a_two, b"hello").await;
    passes(&mut b_two, &mut b_one, b"hello").await;
    bench.links.order("cut", &one_way(1, 2), Weather::Cut);
    a_one.write_all(b"lost?").await.unwrap();
    b_one.write_all(b"lost?").await.unwrap();
    nothing_comes(&mut a_two).await;
    nothing_comes(&mut b_two).await;
    passes(&mut a_two, &mut a_one, b"hears").await;
    passes(&mut b_two, &mut b_one, b"hears").await;
    // Nothing is thrown away, as TCP would not.
    assert_eq!(bench.links.lift("cut"), Some((one_way(1, 2).to_vec(), Weather::Cut)));
    arrives(&mut a_two, b"lost?").await;
    arrives(&mut b_two, b"lost?").await;
}

#[tokio::test]
async fn a_cut_hides_the_end_of_a_connection_and_of_new_ones_every_byte() {
    let bench = Bench::start().await;
    let (mut one, mut two) = bench.connect(1, 2).await;
    passes(&mut one, &mut two, b"up").await;
    bench.links.order("cut", &[Direction { from: 1, to: 2 }, Direction { from: 2, to: 1 }], Weather::Cut);
    drop(two);
    nothing_comes(&mut one).await;
    let (mut fresh, mut there) = bench.connect(1, 2).await;
    fresh.write_all(b"hello").await.unwrap();
    nothing_comes(&mut there).await;
    // Others are not touched.
    let (mut three, mut two) = bench.connect(3, 2).await;
    passes(&mut three, &mut two, b"three").await;
    bench.links.lift("cut");
    arrives(&mut there, b"hello").await;
    assert!(matches!(timeout(PATIENCE, one.read(&mut [0])).await.unwrap(), Ok(0) | Err(_)), "the end came too");
}

#[tokio::test]
async fn a_cut_holds_while_one_of_several_orders_wants_it() {
    let bench = Bench::start().await;
    let (mut one, mut two) = bench.connect(1, 2).await;
    bench.links.order("around 1", &one_way(1, 2), Weather::Cut);
    bench.links.order("around 2", &one_way(1, 2), Weather::Cut);
    bench.links.lift("around 1");
    one.write_all(b"x").await.unwrap();
    nothing_comes(&mut two).await;
    bench.links.lift("around 2");
    arrives(&mut two, b"x").await;
    assert_eq!(bench.links.lift("around 2"), None, "lifted before");
}

#[tokio::test]
async fn what_is_delayed_comes_later_and_in_order() {
    let bench = Bench::start().await;
    let (mut one, mut two) = bench.connect(1, 2).await;
    passes(&mut one, &mut two, b"before").await;
    bench.links.order("slow", &one_way(1, 2), Weather::Delay { ms: 80, jitter_ms: 60 });
    let began = Instant::now();
    for number in 0..10_u8 {
        one.write_all(&[number]).await.unwrap();
    }
    arrives(&mut two, &[0, 1, 2, 3, 4, 5, 6, 7, 8, 9]).await;
    assert!(began.elapsed() >= Duration::from_millis(80), "{:?}", began.elapsed());
    bench.links.order("slow", &one_way(1, 2), Weather::Loss { per_mille: 1_000 });
    let began = Instant::now();
    passes(&mut one, &mut two, b"again and again").await;
    assert!(began.elapsed() >= Duration::from_millis(200), "{:?}", began.elapsed());
}

#[tokio::test]
async fn a_peer_that_does_not_listen_ends_the_diallers_connection() {
    let mut bench = Bench::start().await;
    bench.listeners.pop();
    let mut dialled = TcpStream::connect(local(bench.ports.dialled_by(1) + 2)).await.unwrap();
    assert!(matches!(timeout(PATIENCE, dialled.read(&mut [0])).await.unwrap(), Ok(0) | Err(_)));
}

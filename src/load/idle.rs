//! `bojagi load idle`: connections that ask once and then only stay open. No task each: a socket and nothing more.

use crate::load::args::IdleArgs;
use crate::load::http::Target;
use crate::load::report::IdleReport;
use crate::load::usage::{self, Usage};
use crate::load::{CALL_DEADLINE, HttpError, LoadError};
use futures_util::stream::{self, StreamExt};
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream, lookup_host};
use tokio::time::{Instant, sleep, timeout};

/// A source address has some 28,000 ports towards one server; loopback has many source addresses.
const CONNECTIONS_PER_SOURCE: u32 = 20_000;
/// Bytes of a reply that are looked at.
const REPLY_BYTES_MAX: usize = 64 << 10;

/// # Errors
/// [`LoadError`] when the server's address cannot be found. Connections that fail are counted, not errors.
pub(crate) async fn run(args: IdleArgs) -> Result<IdleReport, LoadError> {
    let http = |source: HttpError| LoadError::Http { what: "the API", source };
    let target = Target::parse(&args.url).map_err(http)?;
    let connect = |source| http(HttpError::Connect { authority: target.authority.clone(), source });
    let mut addresses = lookup_host(target.authority.as_str()).await.map_err(connect)?;
    let server = addresses.next().ok_or_else(|| connect(io::ErrorKind::AddrNotAvailable.into()))?;
    let request = request(&target, &args);
    let before = usage::of(&args.pids);
    let began = Instant::now();
    let opening = stream::iter(0..args.connections).map(|n| {
        let request = request.as_bytes();
        async move { timeout(CALL_DEADLINE.to_std(), open(server, n, request, args.sse)).await.ok()?.ok() }
    });
    let open: Vec<Option<TcpStream>> = opening.buffer_unordered(args.opening as usize).collect().await;
    let opening_ms = elapsed_ms(began);
    let held: Vec<TcpStream> = open.into_iter().flatten().collect();
    let holding = Instant::now();
    sleep(std::time::Duration::from_secs(args.hold)).await;
    let after = usage::of(&args.pids);
    let open_at_end = held.iter().filter(|stream| is_open(stream)).count() as u64;
    Ok(IdleReport {
        asked: u64::from(args.connections),
        opened: held.len() as u64,
        refused: u64::from(args.connections) - held.len() as u64,
        opening_ms,
        held_ms: elapsed_ms(holding),
        open_at_end,
        bytes_each: bytes_each(before, after, held.len()),
    })
}

fn elapsed_ms(since: Instant) -> u64 {
    u64::try_from(since.elapsed().as_millis()).unwrap_or(u64::MAX)
}

fn bytes_each(before: Option<Usage>, after: Option<Usage>, connections: usize) -> Option<i64> {
    let grown_kb = after?.resident_kb.cast_signed() - before?.resident_kb.cast_signed();
    (grown_kb * 1_024).checked_div(i64::try_from(connections).ok()?)
}

fn request(target: &Target, args: &IdleArgs) -> String {
    let accept = if args.sse { "text/event-stream" } else { "*/*" };
    let authorization = args.token.as_ref().map(|token| format!("authorization: Bearer {token}\r\n"));
    format!(
        "GET {}{} HTTP/1.1\r\nhost: {}\r\naccept: {accept}\r\n{}\r\n",
        target.prefix,
        args.path,
        target.authority,
        authorization.unwrap_or_default()
    )
}

async fn open(server: SocketAddr, n: u32, request: &[u8], sse: bool) -> io::Result<TcpStream> {
    let socket = if server.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    if server.ip() == IpAddr::V4(Ipv4Addr::LOCALHOST) {
        socket.bind(SocketAddr::new(source(n), 0))?;
    }
    let mut stream = socket.connect(server).await?;
    stream.write_all(request).await?;
    read_reply(&mut stream, sse).await?;
    Ok(stream)
}

fn source(n: u32) -> IpAddr {
    let [.., high, low] = (n / CONNECTIONS_PER_SOURCE + 1).to_be_bytes();
    IpAddr::V4(Ipv4Addr::new(127, 0, high, low))
}

/// Reads one reply: its head and, unless it streams on, its body.
async fn read_reply(stream: &mut TcpStream, sse: bool) -> io::Result<()> {
    let (mut reply, mut chunk) = (Vec::new(), [0u8; 2_048]);
    loop {
        let count = stream.read(&mut chunk).await?;
        if count == 0 || reply.len() > REPLY_BYTES_MAX {
            return Err(io::ErrorKind::InvalidData.into());
        }
        reply.extend_from_slice(&chunk[..count]);
        match whole_reply(&reply, sse) {
            Progress::More => {}
            Progress::Whole => return Ok(()),
            Progress::Refused => return Err(io::ErrorKind::ConnectionRefused.into()),
        }
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Progress {
    More,
    Whole,
    /// Not 2xx, or not HTTP.
    Refused,
}

fn whole_reply(reply: &[u8], sse: bool) -> Progress {
    let Some(end) = reply.windows(4).position(|four| four == b"\r\n\r\n") else { return Progress::More };
    let head = String::from_utf8_lossy(&reply[..end]).to_ascii_lowercase();
    if !head.starts_with("http/1.1 2") {
        return Progress::Refused;
    }
    let length = head.lines().find_map(|line| line.strip_prefix("content-length:")?.trim().parse::<usize>().ok());
    let body = &reply[end + 4..];
    let whole = match length {
        Some(length) => body.len() >= length,
        None => sse || body.ends_with(b"0\r\n\r\n"),
    };
    if whole { Progress::Whole } else { Progress::More }
}

/// A closed socket reads as ended; an open one has nothing to read, or events of a stream.
fn is_open(stream: &TcpStream) -> bool {
    let mut chunk = [0u8; 4_096];
    loop {
        match stream.try_read(&mut chunk) {
            Ok(0) => return false,
            Ok(_) => {}
            Err(error) => return error.kind() == io::ErrorKind::WouldBlock,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reply_is_whole_by_length_by_last_chunk_or_as_a_stream() {
        let head = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n";
        assert_eq!(whole_reply(b"HTTP/1.1 200 OK\r\n", false), Progress::More);
        assert_eq!(whole_reply(format!("{head}o").as_bytes(), false), Progress::More);
        assert_eq!(whole_reply(format!("{head}ok").as_bytes(), false), Progress::Whole);
        let chunked = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n";
        assert_eq!(whole_reply(chunked.as_bytes(), false), Progress::More);
        assert_eq!(whole_reply(format!("{chunked}0\r\n\r\n").as_bytes(), false), Progress::Whole);
        assert_eq!(whole_reply(chunked.as_bytes(), true), Progress::Whole);
        assert_eq!(whole_reply(b"HTTP/1.1 503 Busy\r\n\r\n", false), Progress::Refused);
    }

    #[test]
    fn sources_change_before_their_ports_run_out() {
        assert_eq!(source(0).to_string(), "127.0.0.1");
        assert_eq!(source(CONNECTIONS_PER_SOURCE).to_string(), "127.0.0.2");
        assert_eq!(source(999_999).to_string(), "127.0.0.50");
    }
}

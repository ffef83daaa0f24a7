//! HTTP/2 as a weapon: streams that are reset at once, headers without an end, frames that are none.

use crate::raw::{Serve, connect, healthy};
use std::io::Write;
use std::net::TcpStream;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const CONTINUATION: u8 = 9;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
/// GET, http, /, with the authority `x`, from HPACK's static table.
const GET: &[u8] = &[0x82, 0x86, 0x84, 0x41, 1, b'x'];
/// Bytes after which a connection that still takes them would take anything.
const ENOUGH_BYTES: usize = 64 << 20;

fn frame(kind: u8, flags: u8, stream: u32, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), body].concat()
}

fn open(node: &Serve) -> TcpStream {
    let mut stream = connect(&node.address);
    stream.write_all(&[PREFACE, &frame(SETTINGS, 0, 0, &[])].concat()).unwrap();
    stream
}

/// Writes what `next` gives until the other side has had enough; how much it took.
fn flood(mut stream: TcpStream, mut next: impl FnMut(u32) -> Vec<u8>) -> usize {
    let mut written = 0;
    for number in 0.. {
        let bytes = next(number);
        if stream.write_all(&bytes).is_err() {
            break;
        }
        written += bytes.len();
        assert!(written < ENOUGH_BYTES, "it takes anything");
    }
    written
}

#[test]
fn floods_of_frames_end_their_connection_and_no_other() {
    let node = Serve::start("header_s = 5\nidle_s = 5");
    // Streams that are reset as soon as they begin: whether it is cut or not, others are served.
    let reset = [0, 0, 0, 8];
    let mut stream = open(&node);
    for number in 0..20_000u32 {
        let id = 2 * number + 1;
        let pair = [frame(HEADERS, END_STREAM | END_HEADERS, id, GET), frame(RST_STREAM, 0, id, &reset)].concat();
        if stream.write_all(&pair).is_err() {
            break;
        }
    }
    healthy(&node.address);
    drop(stream);
    // Never indexed, so that nothing but the list of headers grows.
    let more = [&[0x10, 1, b'a', 0x7f, 0x81, 0x7e][..], &[b'b'; 16_000]].concat();
    flood(open(&node), |number| match number {
        0 => frame(HEADERS, END_STREAM, 1, GET),
        _ => frame(CONTINUATION, 0, 1, &more[..more.len().min(16_000)]),
    });
    healthy(&node.address);
    // Empty continuations: nothing grows, and still it ends.
    flood(open(&node), |number| match number {
        0 => frame(HEADERS, END_STREAM, 1, GET),
        _ => frame(CONTINUATION, 0, 1, &[]),
    });
    healthy(&node.address);
    for garbage in
        [vec![0xff; 4_096], frame(PING, 0, 7, &[0; 8]), frame(SETTINGS, 0, 0, &[0; 5]), frame(77, 0, 0, &[0; 100_000])]
    {
        let mut stream = open(&node);
        let _sent = stream.write_all(&garbage);
        healthy(&node.address);
    }
}

//! Ports for the processes of a test. Below the system's own range for outgoing connections: a port of that may be free now
//! and taken by any connection a moment later, while a node that is to listen there starts, or starts again.

use std::net::TcpListener;
use std::sync::atomic::{AtomicU32, Ordering};

const FIRST: u32 = 10_000;
/// Ports of a run; runs do not overlap.
const RUN: u32 = 10;
const RUNS: u32 = 1_000;

/// Runs given out by this process.
static GIVEN: AtomicU32 = AtomicU32::new(0);

/// The first of so many free ports in a row, at most ten.
pub fn free(count: u32) -> u16 {
    assert!(count <= RUN, "a run has {RUN} ports");
    for _ in 0..RUNS {
        // Processes begin at different places.
        let turn = std::process::id() * 37 + GIVEN.fetch_add(1, Ordering::Relaxed);
        let first = FIRST + turn % RUNS * RUN;
        let port = |place| u16::try_from(first + place).unwrap();
        if (0..count).all(|place| TcpListener::bind(("127.0.0.1", port(place))).is_ok()) {
            return port(0);
        }
    }
    panic!("no free ports");
}

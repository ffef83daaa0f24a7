//! One direction of one connection: bytes in, bytes out, later or not at all.

use super::weather::Conditions;
use bytes::Bytes;
use rand_chacha::ChaCha8Rng;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until};

const PIECE_BYTES: usize = 16 << 10;
/// Pieces that are on their way; beyond them the sender waits, as it does for a window.
const PIECES_MAX: usize = 64;

struct Piece {
    due: Instant,
    bytes: Bytes,
}

/// Carries bytes until the sender ends, and hands that on too.
pub(super) async fn carry(
    from: OwnedReadHalf,
    to: OwnedWriteHalf,
    conditions: watch::Receiver<Conditions>,
    dice: ChaCha8Rng,
) {
    let (queue, queued) = mpsc::channel(PIECES_MAX);
    tokio::join!(take_in(from, queue, conditions.clone(), dice), give_out(queued, to, conditions));
}

async fn take_in(
    mut from: OwnedReadHalf,
    queue: mpsc::Sender<Piece>,
    conditions: watch::Receiver<Conditions>,
    mut dice: ChaCha8Rng,
) {
    let mut buffer = vec![0; PIECE_BYTES];
    let mut last = Instant::now();
    // A broken connection has ended, as a closed one has.
    while let Ok(read @ 1..) = from.read(&mut buffer).await {
        let lag = conditions.borrow().lag(&mut dice);
        last = last.max(Instant::now() + lag);
        let piece = Piece { due: last, bytes: Bytes::copy_from_slice(&buffer[..read]) };
        // Refused once the receiver is gone. The sender only learns of that by the other direction, which may be cut;
        // until then its bytes go nowhere.
        let _taken = queue.send(piece).await;
    }
}

async fn give_out(
    mut queue: mpsc::Receiver<Piece>,
    mut to: OwnedWriteHalf,
    mut conditions: watch::Receiver<Conditions>,
) {
    while let Some(Piece { due, bytes }) = queue.recv().await {
        if due > Instant::now() {
            sleep_until(due).await;
        }
        if !until_open(&mut conditions).await || to.write_all(&bytes).await.is_err() {
            return;
        }
    }
    // The end travels as bytes do. A receiver that is gone needs none.
    if until_open(&mut conditions).await {
        let _gone = to.shutdown().await;
    }
}

/// Waits while the direction is cut; false when there are no links any more.
async fn until_open(conditions: &mut watch::Receiver<Conditions>) -> bool {
    conditions.wait_for(|now| !now.cut).await.is_ok()
}

//! One link: one connection to one life of one peer, from its introduction until it ends. A new connection is a new link.
//!
//! ```text
//! Opening --ractor_cluster is ready on this side, and the peer was heard--> Up --> Ended
//!    \------------------- deadline, connection closed -------------------------->/
//! ```
//! Data flows only in `Up`; each side sends its first heartbeat when it is ready, and data only after it heard one, so
//! nothing arrives before its receiver was told of the link. Nothing is handed on after `Ended`: delivery and ending take
//! the same lock.

use super::gateway::GatewayMsg;
use super::outbox::{Handled, Outbox, Ticket, WINDOWS};
use super::peer_clock::PeerClock;
use super::switch::KillSwitch;
use super::wire::{BatchWriter, Class, Frame, Stamp};
use crate::replication::transport::{Peer, RequestError};
use crate::types::limits::{FRAME_BYTES_MAX, REQUESTS_IN_FLIGHT_MAX};
use parking_lot::Mutex;
use ractor::ActorRef;
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use tokio::sync::{Notify, Semaphore, oneshot};
use tokio_util::sync::CancellationToken;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    Opening { ready: bool, heard: bool },
    Up,
    Ended,
}

struct Asked {
    ticket: Ticket,
    answer: oneshot::Sender<Result<Vec<u8>, RequestError>>,
}

pub(crate) type Answer = oneshot::Receiver<Result<Vec<u8>, RequestError>>;

/// What ties a link to its connection.
pub(crate) struct Link {
    me: Peer,
    pub(crate) peer: Peer,
    pub(crate) epoch: u64,
    /// This side dialled.
    pub(crate) dialled: bool,
    pub(crate) switch: KillSwitch,
    /// Done when ractor_cluster no longer has a session for it, or never got one.
    pub(crate) gone: CancellationToken,
    pub(crate) ended: CancellationToken,
    /// Held while something is handed on.
    pub(crate) stage: Mutex<Stage>,
    up: AtomicBool,
    out: Mutex<Outbox>,
    nudge: Notify,
    shim: OnceLock<ActorRef<GatewayMsg>>,
    pub(crate) born_ms: u64,
    pub(crate) heard_ms: AtomicU64,
    handled: Mutex<Handled>,
    asked: Mutex<HashMap<u64, Asked>>,
    next_request: AtomicU64,
    pub(crate) serving: Arc<Semaphore>,
    pub(crate) peer_clock: Mutex<PeerClock>,
}

impl Link {
    pub(crate) fn new(me: Peer, peer: Peer, epoch: u64, dialled: bool, now_ms: u64) -> Arc<Self> {
        Arc::new(Self {
            me,
            peer,
            epoch,
            dialled,
            switch: KillSwitch::default(),
            gone: CancellationToken::new(),
            ended: CancellationToken::new(),
            stage: Mutex::new(Stage::Opening { ready: false, heard: false }),
            up: AtomicBool::new(false),
            out: Mutex::new(Outbox::new(WINDOWS)),
            nudge: Notify::new(),
            shim: OnceLock::new(),
            born_ms: now_ms,
            heard_ms: AtomicU64::new(now_ms),
            handled: Mutex::default(),
            asked: Mutex::default(),
            next_request: AtomicU64::new(1),
            serving: Arc::new(Semaphore::new(REQUESTS_IN_FLIGHT_MAX)),
            peer_clock: Mutex::default(),
        })
    }

    /// The name of its session at ractor_cluster.
    pub(crate) fn label(&self) -> String {
        format!("link-{:016x}", self.epoch)
    }

    pub(crate) fn is_up(&self) -> bool {
        self.up.load(Ordering::Acquire)
    }

    /// Takes the remote end of the gateway; the first one stays.
    pub(crate) fn connect(&self, shim: ActorRef<GatewayMsg>) {
        // A second "ready" of the same session brings the same shim.
        let _first = self.shim.set(shim);
    }

    /// Notes what happened while opening; true when that brings the link up. The caller tells, under the same lock.
    pub(crate) fn open(&self, stage: &mut Stage, is_ready: bool, is_heard: bool) -> bool {
        let Stage::Opening { ready, heard } = *stage else { return false };
        let (ready, heard) = (ready || is_ready, heard || is_heard);
        if !(ready && heard) {
            *stage = Stage::Opening { ready, heard };
            return false;
        }
        *stage = Stage::Up;
        self.up.store(true, Ordering::Release);
        true
    }

    /// From here on nothing is sent. Goes before anyone is told, so that who was told finds no link.
    pub(crate) fn refuse(&self) {
        self.up.store(false, Ordering::Release);
    }

    fn stamp(&self) -> Stamp {
        Stamp { epoch: self.epoch, from: self.me }
    }

    fn cast(&self, batch: Vec<u8>) -> bool {
        self.shim.get().is_some_and(|shim| shim.cast(GatewayMsg::Batch(batch)).is_ok())
    }

    /// Sends a heartbeat or an acknowledgement past the queues; they use no credit and their number is bounded by time.
    pub(crate) fn send_now(&self, frame: &Frame) -> bool {
        let mut batch = BatchWriter::new(self.stamp());
        batch.push(frame);
        self.cast(batch.finish())
    }

    /// Queues a frame; false when the peer's credit is used up.
    pub(crate) fn offer(&self, class: Class, frame: Frame) -> bool {
        self.queue(class, frame, None)
    }

    /// Queues a frame that overtakes the others.
    pub(crate) fn offer_urgent(&self, frame: Frame) -> bool {
        let taken = self.out.lock().offer_urgent(frame);
        if taken {
            self.nudge.notify_one();
        }
        taken
    }

    fn queue(&self, class: Class, frame: Frame, ticket: Option<Ticket>) -> bool {
        let taken = self.out.lock().offer(class, frame, ticket);
        if taken {
            self.nudge.notify_one();
        }
        taken
    }

    /// Hands queued frames over as credit allows, until the link ends. False when ractor_cluster does not take them.
    pub(crate) async fn pump(&self) -> bool {
        loop {
            tokio::select! {
                () = self.ended.cancelled() => return true,
                () = self.nudge.notified() => {}
            }
            loop {
                let mut batch = BatchWriter::new(self.stamp());
                self.out.lock().fill(&mut batch);
                if batch.is_empty() {
                    break;
                }
                if !self.cast(batch.finish()) {
                    return false;
                }
                // Lets casts of other tasks gather into the next batch.
                tokio::task::yield_now().await;
            }
        }
    }

    /// Counts a frame that was handed on; tells the sender when its window runs low. False when that fails.
    pub(crate) fn count(&self, class: Class, cost: u64) -> bool {
        if !self.handled.lock().count(class, cost) {
            return true;
        }
        self.acknowledge()
    }

    /// Tells the sender what was handled since the last time.
    pub(crate) fn acknowledge(&self) -> bool {
        // The lock is held over the cast, so that acknowledgements leave in order.
        let mut handled = self.handled.lock();
        handled.tell().is_none_or(|ack| self.send_now(&ack))
    }

    /// Takes in what the peer has handled; false when that cannot be.
    pub(crate) fn acknowledged(&self, tallies: [super::wire::Tally; 3]) -> bool {
        let known = self.out.lock().acknowledge(tallies).is_ok();
        self.nudge.notify_one();
        known
    }

    pub(crate) fn held_bytes(&self) -> u64 {
        self.out.lock().held_bytes()
    }

    pub(crate) fn credit_bytes(&self) -> [u64; 3] {
        self.out.lock().credit_bytes()
    }

    /// Sends a request; the answer comes, or the link's end, or [`Self::forget`].
    pub(crate) fn ask(&self, body: Vec<u8>, deadline_ms: u32) -> Result<(u64, Answer), RequestError> {
        if body.len() > FRAME_BYTES_MAX {
            tracing::error!(bytes = body.len(), "a request is larger than a frame may be: not sent");
            return Err(RequestError::NotSent);
        }
        let id = self.next_request.fetch_add(1, Ordering::Relaxed);
        let (send, receive) = oneshot::channel();
        let ticket = Ticket::default();
        {
            let mut asked = self.asked.lock();
            if asked.len() >= REQUESTS_IN_FLIGHT_MAX || !self.is_up() {
                return Err(RequestError::NotSent);
            }
            asked.insert(id, Asked { ticket: ticket.clone(), answer: send });
        }
        if self.queue(Class::Call, Frame::Request { id, deadline_ms, body }, Some(ticket)) {
            return Ok((id, receive));
        }
        self.asked.lock().remove(&id);
        Err(RequestError::NotSent)
    }

    /// Gives a request up; says what that means.
    pub(crate) fn forget(&self, id: u64) -> RequestError {
        let asked = self.asked.lock().remove(&id);
        match asked {
            Some(asked) if asked.ticket.cancel() => RequestError::NotSent,
            Some(_) | None => RequestError::Unknown,
        }
    }

    pub(crate) fn answered(&self, id: u64, answer: Result<Vec<u8>, RequestError>) {
        if let Some(asked) = self.asked.lock().remove(&id) {
            // The asker may have given up meanwhile.
            let _gone = asked.answer.send(answer);
        }
    }

    /// Ends the connection and all that waits on it. The caller has set the stage. Returns the one-way frames lost.
    pub(crate) fn close(&self) -> u64 {
        self.switch.throw();
        self.ended.cancel();
        let lost = self.out.lock().close();
        let asked: Vec<Asked> = {
            let mut asked = self.asked.lock();
            self.refuse();
            asked.drain().map(|(_, asked)| asked).collect()
        };
        for asked in asked {
            let error = if asked.ticket.cancel() { RequestError::NotSent } else { RequestError::Unknown };
            // The asker may have given up meanwhile.
            let _gone = asked.answer.send(Err(error));
        }
        lost
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::ids::{Incarnation, NodeId};

    fn link() -> Arc<Link> {
        let peer = |node| Peer { node: NodeId(node), incarnation: Incarnation(1) };
        Link::new(peer(1), peer(2), 7, true, 0)
    }

    fn up(link: &Link) {
        assert!(link.open(&mut link.stage.lock(), true, true));
    }

    #[test]
    fn a_link_is_up_when_ready_and_heard_in_either_order() {
        for first_ready in [true, false] {
            let link = link();
            let mut stage = link.stage.lock();
            assert!(!link.open(&mut stage, first_ready, !first_ready));
            assert!(!link.is_up());
            assert!(link.open(&mut stage, !first_ready, first_ready));
            assert!(link.is_up());
            assert!(!link.open(&mut stage, true, true), "it comes up once");
        }
    }

    #[test]
    fn what_never_left_is_not_sent_when_the_link_ends() {
        let link = link();
        assert_eq!(link.ask(vec![1], 10).unwrap_err(), RequestError::NotSent, "not before it is up");
        up(&link);
        let (_, mut queued) = link.ask(vec![1], 10).unwrap();
        let (_, mut left) = {
            let mut batch = BatchWriter::new(link.stamp());
            let asked = link.ask(vec![2], 10).unwrap();
            link.out.lock().fill(&mut batch);
            asked
        };
        let (_, mut late) = link.ask(vec![3], 10).unwrap();
        link.close();
        assert_eq!(queued.try_recv().unwrap(), Err(RequestError::Unknown), "both left in one batch");
        assert_eq!(left.try_recv().unwrap(), Err(RequestError::Unknown));
        assert_eq!(late.try_recv().unwrap(), Err(RequestError::NotSent));
        assert_eq!(link.ask(vec![1], 10).unwrap_err(), RequestError::NotSent);
    }

    #[test]
    fn a_given_up_request_says_whether_it_left() {
        let link = link();
        up(&link);
        let (waiting, _receive) = link.ask(vec![1], 10).unwrap();
        assert_eq!(link.forget(waiting), RequestError::NotSent);
        let (left, _receive) = link.ask(vec![1], 10).unwrap();
        link.out.lock().fill(&mut BatchWriter::new(link.stamp()));
        assert_eq!(link.forget(left), RequestError::Unknown);
    }

    #[test]
    fn requests_in_flight_have_a_bound() {
        let link = link();
        up(&link);
        let asked: Vec<_> = (0..REQUESTS_IN_FLIGHT_MAX).map(|_| link.ask(vec![], 10).unwrap()).collect();
        assert_eq!(link.ask(vec![], 10).unwrap_err(), RequestError::NotSent);
        link.answered(asked[0].0, Ok(vec![]));
        assert!(link.ask(vec![], 10).is_ok());
    }
}

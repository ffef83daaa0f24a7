//! What waits for one peer, under a credit window: bounded in bytes and frames, by class, so that snapshots never hold up
//! Raft frames and a peer that does not read costs a bounded sum.
//!
//! Two bounds a class: what is held in all (queued or unacknowledged), beyond which a frame is refused; and what is in
//! flight (handed to the link, not acknowledged). Acknowledgements are cumulative. Classes take turns.
//!
//! Raft's heartbeats and votes go before all of them and use no credit, or a leader whose followers are only busy would be
//! deposed; their number is bounded.

use super::wire::{BatchWriter, Class, Frame, Tally};
use crate::types::limits::{
    BATCH_BYTES_MAX, LINK_CALL_BYTES_MAX, LINK_CALL_FLIGHT_BYTES_MAX, LINK_FLIGHT_FRAMES_MAX, LINK_FRAMES_MAX,
    LINK_RAFT_BYTES_MAX, LINK_RAFT_FLIGHT_BYTES_MAX, LINK_SNAPSHOT_BYTES_MAX, LINK_SNAPSHOT_FLIGHT_BYTES_MAX,
    LINK_URGENT_FRAMES_MAX,
};
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

const WAITS: u8 = 0;
const LEFT: u8 = 1;
const CANCELLED: u8 = 2;

/// Says of one request whether it ever left: the difference between "not sent" and "unknown".
#[derive(Clone, Default)]
pub(crate) struct Ticket(Arc<AtomicU8>);

impl Ticket {
    /// Takes the request out of the queue; false when it has left already.
    pub(crate) fn cancel(&self) -> bool {
        match self.0.compare_exchange(WAITS, CANCELLED, Ordering::AcqRel, Ordering::Acquire) {
            Ok(_) => true,
            Err(state) => state == CANCELLED,
        }
    }

    fn leave(&self) -> bool {
        self.0.compare_exchange(WAITS, LEFT, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }
}

struct Waiting {
    frame: Frame,
    ticket: Option<Ticket>,
}

/// Bounds of one class.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Window {
    pub(crate) held_bytes: u64,
    pub(crate) held_frames: u64,
    pub(crate) flight_bytes: u64,
    pub(crate) flight_frames: u64,
}

const fn window(held_bytes: u64, flight_bytes: u64) -> Window {
    Window { held_bytes, held_frames: LINK_FRAMES_MAX, flight_bytes, flight_frames: LINK_FLIGHT_FRAMES_MAX }
}

/// The windows of a link, by class.
pub(crate) const WINDOWS: [Window; 3] = [
    window(LINK_RAFT_BYTES_MAX, LINK_RAFT_FLIGHT_BYTES_MAX),
    window(LINK_CALL_BYTES_MAX, LINK_CALL_FLIGHT_BYTES_MAX),
    window(LINK_SNAPSHOT_BYTES_MAX, LINK_SNAPSHOT_FLIGHT_BYTES_MAX),
];

struct Lane {
    window: Window,
    waiting: VecDeque<Waiting>,
    waiting_bytes: u64,
    sent: Tally,
    acknowledged: Tally,
}

impl Lane {
    fn flight(&self) -> Tally {
        Tally { bytes: self.sent.bytes - self.acknowledged.bytes, frames: self.sent.frames - self.acknowledged.frames }
    }

    fn has_room(&self, cost: u64) -> bool {
        let flight = self.flight();
        let bytes = self.waiting_bytes + flight.bytes + cost;
        let frames = self.waiting.len() as u64 + flight.frames + 1;
        bytes <= self.window.held_bytes && frames <= self.window.held_frames
    }

    /// A frame larger than the whole window still goes when nothing else is in flight.
    fn may_fly(&self, cost: u64) -> bool {
        let flight = self.flight();
        let fits = flight.bytes + cost <= self.window.flight_bytes && flight.frames < self.window.flight_frames;
        fits || flight == Tally::default()
    }

    /// The next frame that has credit. Cancelled requests fall out.
    fn next(&mut self, room: usize) -> Option<Frame> {
        loop {
            let cost = self.waiting.front()?.frame.cost();
            if cost > room as u64 || !self.may_fly(cost) {
                return None;
            }
            let waiting = self.waiting.pop_front()?;
            self.waiting_bytes -= cost;
            if waiting.ticket.is_none_or(|ticket| ticket.leave()) {
                self.sent.add(cost);
                return Some(waiting.frame);
            }
        }
    }
}

/// An acknowledgement of more than was sent, or one that goes back: the peer is not what it says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FalseAck;

/// The queues to one peer over one link.
pub(crate) struct Outbox {
    urgent: VecDeque<Frame>,
    lanes: [Lane; 3],
    turn: usize,
    closed: bool,
}

impl Outbox {
    pub(crate) fn new(windows: [Window; 3]) -> Self {
        let lane = |window| Lane {
            window,
            waiting: VecDeque::new(),
            waiting_bytes: 0,
            sent: Tally::default(),
            acknowledged: Tally::default(),
        };
        Self { urgent: VecDeque::new(), lanes: windows.map(lane), turn: 0, closed: false }
    }

    /// Queues a frame; false when its class is full or the link has ended.
    pub(crate) fn offer(&mut self, class: Class, frame: Frame, ticket: Option<Ticket>) -> bool {
        let lane = &mut self.lanes[class.index()];
        let cost = frame.cost();
        if self.closed || !lane.has_room(cost) {
            return false;
        }
        lane.waiting_bytes += cost;
        lane.waiting.push_back(Waiting { frame, ticket });
        true
    }

    /// Queues a frame that goes before all others; false when there are too many, or the link has ended.
    pub(crate) fn offer_urgent(&mut self, frame: Frame) -> bool {
        if self.closed || self.urgent.len() >= LINK_URGENT_FRAMES_MAX {
            return false;
        }
        self.urgent.push_back(frame);
        true
    }

    /// Adds to a batch the urgent frames, then what has credit, one frame of each class in turn, up to the batch's size. A frame larger than a
    /// batch goes alone.
    pub(crate) fn fill(&mut self, batch: &mut BatchWriter) {
        while let Some(frame) = self.urgent.front() {
            if !batch.is_empty() && frame.cost() > BATCH_BYTES_MAX.saturating_sub(batch.len()) as u64 {
                return;
            }
            batch.push(frame);
            self.urgent.pop_front();
        }
        let mut idle = 0;
        while idle < self.lanes.len() {
            let room = if batch.is_empty() { usize::MAX } else { BATCH_BYTES_MAX.saturating_sub(batch.len()) };
            let lane = &mut self.lanes[self.turn];
            self.turn = (self.turn + 1) % WINDOWS.len();
            match lane.next(room) {
                Some(frame) => {
                    batch.push(&frame);
                    idle = 0;
                }
                None => idle += 1,
            }
        }
    }

    /// Takes in what the peer has handled.
    ///
    /// # Errors
    /// [`FalseAck`] when that cannot be.
    pub(crate) fn acknowledge(&mut self, handled: [Tally; 3]) -> Result<(), FalseAck> {
        for (lane, handled) in self.lanes.iter().zip(handled) {
            let forward = handled.bytes >= lane.acknowledged.bytes && handled.frames >= lane.acknowledged.frames;
            if !forward || handled.bytes > lane.sent.bytes || handled.frames > lane.sent.frames {
                return Err(FalseAck);
            }
        }
        for (lane, handled) in self.lanes.iter_mut().zip(handled) {
            lane.acknowledged = handled;
        }
        Ok(())
    }

    /// Bytes of each class that may be sent before the peer acknowledges some.
    pub(crate) fn credit_bytes(&self) -> [u64; 3] {
        [0, 1, 2].map(|class: usize| {
            let lane = &self.lanes[class];
            lane.window.flight_bytes.saturating_sub(lane.flight().bytes)
        })
    }

    /// Bytes queued or unacknowledged.
    pub(crate) fn held_bytes(&self) -> u64 {
        let urgent: u64 = self.urgent.iter().map(Frame::cost).sum();
        self.lanes.iter().map(|lane| lane.waiting_bytes + lane.flight().bytes).sum::<u64>() + urgent
    }

    /// Drops everything; requests that never left are cancelled by it. Returns the one-way frames lost.
    pub(crate) fn close(&mut self) -> u64 {
        self.closed = true;
        let mut lost = self.urgent.drain(..).count() as u64;
        for lane in &mut self.lanes {
            for waiting in lane.waiting.drain(..) {
                match waiting.ticket {
                    Some(ticket) => drop(ticket.cancel()),
                    None => lost += 1,
                }
            }
            lane.waiting_bytes = 0;
            lane.acknowledged = lane.sent;
        }
        lost
    }
}

/// The receiving side: what was handled, and whether the sender should hear of it now.
#[derive(Default)]
pub(crate) struct Handled {
    tallies: [Tally; 3],
    told: [Tally; 3],
}

impl Handled {
    /// Counts a frame; true when a quarter of the window was handled since the last acknowledgement.
    pub(crate) fn count(&mut self, class: Class, cost: u64) -> bool {
        let index = class.index();
        self.tallies[index].add(cost);
        let bytes = self.tallies[index].bytes - self.told[index].bytes;
        let frames = self.tallies[index].frames - self.told[index].frames;
        bytes >= WINDOWS[index].flight_bytes / 4 || frames >= WINDOWS[index].flight_frames / 4
    }

    /// The acknowledgement to send, when there is something new.
    pub(crate) fn tell(&mut self) -> Option<Frame> {
        let news = self.tallies != self.told;
        self.told = self.tallies;
        news.then_some(Frame::Ack(self.tallies))
    }
}

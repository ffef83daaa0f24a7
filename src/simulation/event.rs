//! What waits in the heap of a run. All that happens to a node names the life that it is for: events of an earlier one
//! are void.

use crate::gateways::course::Cut;
use crate::providers::LookupAnswer;
use crate::replication::core::SnapshotId;
use crate::simulation::answers::Try;
use crate::simulation::clients::Step;
use crate::simulation::faults::Relief;
use crate::types::call::{
    EntityRequest, MessageOutcome, MessageRequest, PaymentOutcome, PaymentRequest, ShipmentOutcome, ShipmentRequest,
};
use crate::types::effect::Slot;
use crate::types::ids::EntityKey;
use crate::types::time::Timestamp;
use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// Microseconds since the run began.
pub type Time = u64;
pub const MS: Time = 1_000;
pub const SECOND: Time = 1_000 * MS;
pub const MINUTE: Time = 60 * SECOND;

/// A node's process: which node, and how often it was started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Life {
    pub peer: u64,
    pub count: u64,
}

/// What is to happen, in the order of its instants, and of asking for it where these are the same.
#[derive(Default)]
pub struct Agenda {
    heap: BinaryHeap<Reverse<(Time, u64, usize)>>,
    /// Events are large and the heap moves what is in it: here they stay in their places.
    places: Vec<Option<Event>>,
    free: Vec<usize>,
    sequence: u64,
}

impl Agenda {
    pub fn push(&mut self, at: Time, event: Event) {
        self.sequence += 1;
        let place = self.free.pop().unwrap_or(self.places.len());
        if place == self.places.len() {
            self.places.push(None);
        }
        self.places[place] = Some(event);
        self.heap.push(Reverse((at, self.sequence, place)));
    }

    /// What comes next, if that is not after `end`.
    pub fn pop_until(&mut self, end: Time) -> Option<(Time, Event)> {
        let Reverse((at, _, place)) = *self.heap.peek().filter(|next| next.0.0 <= end)?;
        self.heap.pop();
        self.free.push(place);
        self.places[place].take().map(|event| (at, event))
    }
}

#[derive(Debug)]
pub enum Event {
    Node(Life, NodeEvent),
    Frame {
        from: u64,
        to: u64,
        bytes: Vec<u8>,
    },
    /// A call's bytes reach its provider.
    Arrive(Box<ProviderCall>),
    /// A provider tells what became of a message.
    Report {
        row: usize,
        tries: u32,
    },
    Client(Step),
    Relief(Relief),
    NextFault,
}

#[derive(Debug)]
pub enum NodeEvent {
    Tick,
    Synced {
        writes: usize,
    },
    Applied,
    Exported {
        snapshot: SnapshotId,
        cursor: Vec<u8>,
    },
    Staged {
        snapshot: SnapshotId,
        number: u32,
    },
    /// The state is made durable, and the log behind it purged.
    Settle,
    /// The other nodes' clocks are looked at.
    LookAtClocks,
    /// Entities that are due soon are woken.
    Load,
    /// An entity's own timer.
    Wake {
        key: EntityKey,
        entity: u64,
        armed: u64,
    },
    Reload {
        key: EntityKey,
        entity: u64,
    },
    LaneWake {
        desk: usize,
        armed: Timestamp,
    },
    /// Sends that wait for company have waited for long enough.
    GatheredLongEnough {
        group: u64,
    },
    /// A call is about to write its first byte.
    Write {
        call: u64,
    },
    Answered {
        call: u64,
        token: u64,
        answer: ProviderAnswer,
    },
    /// A call of an entity reaches another one.
    Call {
        source: EntityKey,
        slot: Slot,
        request: EntityRequest,
    },
    /// A client's request.
    Ask {
        from: Try,
    },
}

/// What reaches a provider.
#[derive(Clone, Debug)]
pub struct ProviderCall {
    pub from: Life,
    pub call: u64,
    pub token: u64,
    /// Of the claim under which the call is made.
    pub term: u64,
    pub wire: Wire,
    /// It was thought lost.
    pub late: bool,
}

#[derive(Clone, Debug)]
pub enum Wire {
    Send(MessageRequest),
    /// Several in one call.
    Batch(Vec<MessageRequest>),
    LookUp(MessageRequest),
    Pay(PaymentRequest),
    Ship(ShipmentRequest),
}

/// What comes back, or that nothing did in time.
#[derive(Debug)]
pub enum ProviderAnswer {
    Sent(MessageOutcome),
    SentMany(Vec<MessageOutcome>),
    LookedUp(LookupAnswer),
    Paid(PaymentOutcome),
    Shipped(ShipmentOutcome),
    Cut(Cut),
}

//! The lane core: who waits for one provider, and who goes next. Sans I/O: tickets and time go in, decisions come out.
//!
//! | head of the queues | policy says | decision |
//! |---|---|---|
//! | a send | granted | `Grant` it |
//! | a send | anything else | no notice overtakes it; `Idle` until the named instant or a return |
//! | only notices | granted within their share | `Grant` it |
//! | either | the provider is away, and was for longer than the patience of a ticket that waited so long | `Grant` a refusal |
//! | either | the provider is away for a pause that it asked for, and that is short enough to be waited out | `Idle` |
//!
//! Invariants: each queue is bounded; within a class the earliest due goes first, equal ones as they came; every
//! ticket leaves once, by a grant, a refusal or [`LaneCore::close`]; open sends never exceed the concurrency limit.

use crate::gateways::policy::{Absence, Admission, Class, Health, Open, Pass, Policy};
use crate::types::ids::ShardId;
use crate::types::quota::QuotaAnswer;
use crate::types::time::{Millis, Timestamp};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};

/// Bounds of the queues.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QueueBounds {
    pub sends: usize,
    pub notices: usize,
}

/// What a granted ticket holds, to be handed back once with [`LaneCore::returned`] or [`LaneCore::finished`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hold {
    /// Capacity for a call.
    Call(Pass),
    /// No call: the provider is away and the answer is a refusal.
    Refusal,
}

/// The next decision.
#[derive(Debug, PartialEq, Eq)]
pub enum Step<T> {
    Grant {
        ticket: T,
        class: Class,
        hold: Hold,
    },
    /// Nothing can go now. `wake`: the instant at which that may change by itself; else a return or a new ticket does.
    Idle {
        wake: Option<Timestamp>,
    },
}

/// The queue is full or closed; the ticket is given back.
#[derive(Debug, PartialEq, Eq)]
pub struct Full<T>(pub T);

struct Waiting<T> {
    /// Earliest due first. Among those of one instant the order is mixed: a shard that comes to this node in the middle of a
    /// burst does not wait for all who were here before. Where calls of one shard share a batch, so many of them stay
    /// together.
    rank: Reverse<(Timestamp, u64, u64)>,
    since: Timestamp,
    ticket: T,
}

impl<T> PartialEq for Waiting<T> {
    fn eq(&self, other: &Self) -> bool {
        self.rank == other.rank
    }
}
impl<T> Eq for Waiting<T> {}
impl<T> PartialOrd for Waiting<T> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl<T> Ord for Waiting<T> {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.rank.cmp(&other.rank)
    }
}

/// Another order of the same numbers, none twice.
fn mixed(arrival: u64) -> u64 {
    // An odd factor (2^64 over the golden ratio) permutes the numbers.
    arrival.wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

/// The place of a ticket's chunk: that of the chunk's first arrival.
fn place_of(chunks: &mut BTreeMap<ShardId, Chunk>, shard: ShardId, together: u32, arrival: u64) -> u64 {
    let chunk = chunks.entry(shard).or_insert(Chunk { place: arrival, left: together });
    if chunk.left == 0 {
        *chunk = Chunk { place: arrival, left: together };
    }
    chunk.left -= 1;
    chunk.place
}

/// Tickets of one shard that go one after the other.
struct Chunk {
    place: u64,
    left: u32,
}

/// The queues and the budget of one provider.
pub struct LaneCore<T> {
    policy: Policy,
    bounds: QueueBounds,
    /// Sends of one shard that may share a call.
    together: u32,
    chunks: BTreeMap<ShardId, Chunk>,
    /// How long a ticket waits for a provider that is away before it is refused; `None`: for as long as it takes.
    patience: Option<Millis>,
    /// A pause that the provider asked for is waited out if it is no longer than this.
    pause_held: Millis,
    sends: BinaryHeap<Waiting<T>>,
    notices: BinaryHeap<Waiting<T>>,
    open: Open,
    arrivals: u64,
    closed: bool,
}

impl<T> LaneCore<T> {
    /// `open` counts attempts that are out already (after a restart of the driver).
    #[must_use]
    pub fn new(policy: Policy, bounds: QueueBounds, patience: Option<Millis>, open: Open) -> Self {
        Self {
            policy,
            bounds,
            together: 1,
            chunks: BTreeMap::new(),
            patience,
            pause_held: Millis(0),
            sends: BinaryHeap::new(),
            notices: BinaryHeap::new(),
            open,
            arrivals: 0,
            closed: false,
        }
    }

    /// The same; sends of one shard and one instant are granted up to `most` at a time.
    #[must_use]
    pub fn with_batches(mut self, most: u32) -> Self {
        self.together = most.max(1);
        self
    }

    /// The same; nothing is refused while the provider pauses for no longer than `longest`.
    #[must_use]
    pub fn with_pauses_held(mut self, longest: Millis) -> Self {
        self.pause_held = longest;
        self
    }

    /// Queues a ticket; `shard` is that of a send which may share its call.
    ///
    /// # Errors
    /// [`Full`]: its queue is full, or the lane is closed.
    pub fn offer(
        &mut self,
        class: Class,
        (due, shard): (Timestamp, Option<ShardId>),
        now: Timestamp,
        ticket: T,
    ) -> Result<(), Full<T>> {
        let arrival = self.arrivals;
        let (queue, bound) = match class {
            Class::Send => (&mut self.sends, self.bounds.sends),
            Class::Notice => (&mut self.notices, self.bounds.notices),
        };
        if self.closed || queue.len() >= bound {
            return Err(Full(ticket));
        }
        let place = match shard {
            Some(shard) if self.together > 1 && class == Class::Send => {
                place_of(&mut self.chunks, shard, self.together, arrival)
            }
            Some(_) | None => arrival,
        };
        queue.push(Waiting { rank: Reverse((due, mixed(place), arrival)), since: now, ticket });
        self.arrivals += 1;
        Ok(())
    }

    /// Decides on the next ticket. Call it until it is idle.
    pub fn next(&mut self, now: Timestamp) -> Step<T> {
        let (class, since) = match (self.sends.peek(), self.notices.peek()) {
            (Some(head), _) => (Class::Send, head.since),
            (None, Some(head)) => (Class::Notice, head.since),
            (None, None) => return Step::Idle { wake: None },
        };
        match self.policy.admit(class, self.open, now) {
            Admission::Granted(pass) => self.grant(class, Hold::Call(pass)),
            Admission::At(at) => Step::Idle { wake: Some(at) },
            Admission::AfterReturn | Admission::AfterGrant => Step::Idle { wake: None },
            Admission::Away { since: away, how } => self.while_away(class, (since.max(away), how), now),
        }
    }

    /// A grant came back unused.
    pub fn returned(&mut self, class: Class, hold: Hold, now: Timestamp) {
        self.count_back(class);
        match hold {
            Hold::Call(pass) => self.policy.returned(class, pass, now),
            Hold::Refusal => {}
        }
    }

    /// A granted call ended.
    pub fn finished(&mut self, class: Class, hold: Hold, health: Health, now: Timestamp) {
        self.count_back(class);
        match hold {
            Hold::Call(pass) => self.policy.finished(pass, health, self.open, now),
            Hold::Refusal => {}
        }
    }

    /// The quota is the fleet's from here on.
    pub fn join_fleet(&mut self, now: Timestamp) {
        self.policy.join_fleet(now);
    }

    /// Permits of the fleet's quota to ask for now; the answer comes back once, by [`LaneCore::fleet_answered`].
    pub fn ask_fleet(&mut self, now: Timestamp) -> Option<u32> {
        self.policy.ask_fleet(self.sends.len() + self.notices.len(), now)
    }

    pub fn fleet_answered(&mut self, answer: QuotaAnswer, now: Timestamp) {
        self.policy.fleet_answered(answer, now);
    }

    /// Grants nothing more and gives up what waits.
    pub fn close(&mut self) -> Vec<T> {
        self.closed = true;
        self.sends.drain().chain(self.notices.drain()).map(|waiting| waiting.ticket).collect()
    }

    #[must_use]
    pub fn open(&self) -> Open {
        self.open
    }

    /// Waiting sends and notices.
    #[must_use]
    pub fn queued(&self) -> (usize, usize) {
        (self.sends.len(), self.notices.len())
    }

    #[must_use]
    pub fn policy(&self) -> &Policy {
        &self.policy
    }

    /// `since`: both the ticket was there and the provider away. A short absence so refuses nothing, however long the
    /// queue was before it.
    fn while_away(&mut self, class: Class, (since, how): (Timestamp, Absence), now: Timestamp) -> Step<T> {
        let until = match how {
            Absence::Pause { until } if until - since <= self.pause_held => return Step::Idle { wake: Some(until) },
            Absence::Pause { until } | Absence::Shut { until } => Some(until),
            Absence::Probed => None,
        };
        let Some(patience) = self.patience else {
            return Step::Idle { wake: until };
        };
        let patient_until = since + patience;
        if now < patient_until {
            return Step::Idle { wake: Some(until.map_or(patient_until, |until| until.min(patient_until))) };
        }
        if self.open.total() >= self.policy.rules().concurrency.max {
            return Step::Idle { wake: until };
        }
        self.grant(class, Hold::Refusal)
    }

    fn grant(&mut self, class: Class, hold: Hold) -> Step<T> {
        let queue = match class {
            Class::Send => &mut self.sends,
            Class::Notice => &mut self.notices,
        };
        let waiting = queue.pop().expect("the class was chosen for its head");
        match class {
            Class::Send => self.open.sends += 1,
            Class::Notice => self.open.notices += 1,
        }
        Step::Grant { ticket: waiting.ticket, class, hold }
    }

    fn count_back(&mut self, class: Class) {
        let count = match class {
            Class::Send => &mut self.open.sends,
            Class::Notice => &mut self.open.notices,
        };
        *count = count.saturating_sub(1);
    }
}

#[cfg(test)]
mod tests;

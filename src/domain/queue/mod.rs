//! A show's waiting queue: who came first is let in first, so many a second, so many at one time (ADR-12).
//!
//! | from | by | to |
//! |---|---|---|
//! | any | Enter | the next number, and a wanted call that takes it to the user's ticket |
//! | a number on its way | its ticket took it | waits |
//! | a number on its way | its ticket holds another | void: it is passed over |
//! | waiting, after `opens_at`, rate and room allow | Enter, or the timer | admitted, in the order of numbers |
//! | admitted | Leave (a seat was bought) | passed |
//! | admitted, for `ADMITTED_FOR` | (time) | passed |
//!
//! What is held is not a list of who waits: numbers above `admitted` wait, those below have passed, but for the batches of
//! the last minutes, whose bits say who of them has left. So a queue of ten million is as large as one of ten. Never more
//! than `active_max` are admitted at one time.

mod event;
mod room;
#[cfg(test)]
mod tests;

pub use event::{QueueEvent, TOPICS, publications};
pub use room::{ADMITTED_FOR, NUMBERS_KEPT_MAX, Room, Standing};

use super::entity::{Decision, Entity};
use super::kinds;
use super::show::{Admission, key_of};
use super::ticket::{Entry, QueueNumber, TicketCommand, TicketRejection, TicketState};
use crate::types::call::{CallOutcome, CallRequest, EntityOutcome, EntityRequest, Report};
use crate::types::codec;
use crate::types::effect::{CallWant, Effects, Guard, Lane, Slot, TimerWant};
use crate::types::ids::{EntityKey, EntityKind, IdempotencyId};
use crate::types::kind::{At, AttemptStart};
use crate::types::level::{FeatureLevel, NEIGHBOURS_LEVEL};
use crate::types::record::Sealed;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Numbers on their way to their tickets.
pub const ENTRIES_MAX: usize = 256;
/// Names the timer that lets people in. Slots below belong to entries.
const TICK: Slot = Slot(1_000);

/// What may be asked of a queue.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum QueueCommand {
    Enter(Box<Enter>),
    /// What tickets answered, by number.
    Settle(Vec<Settlement>),
    /// Whether a number is admitted now: no event, or a refusal that says where it stands.
    Check(QueueNumber),
    /// An admitted number has what it came for.
    Leave(QueueNumber),
    Timer,
    /// Made by the runtime for an attempt or a report; a queue wants none.
    Unwanted,
}

/// A user comes. The queue of a show begins with the first; `admission` is the show's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Enter {
    pub show: EntityKey,
    pub admission: Admission,
    /// The user's ticket.
    pub ticket: EntityKey,
    /// The number that the ticket holds, which has passed.
    pub replaces: Option<QueueNumber>,
    pub claim: IdempotencyId,
}

/// A ticket's answer to a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settlement {
    pub number: QueueNumber,
    /// Whether the ticket took it.
    pub taken: bool,
}

/// Business says no; nothing was changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum QueueRejection {
    #[error("no such queue")]
    NotFound,
    #[error("waiting")]
    Waiting,
    #[error("passed")]
    Passed,
    /// Too many numbers are on their way to their tickets.
    #[error("busy")]
    Busy,
    #[error("not a command of a queue")]
    NotWanted,
}

/// A queue, or (by default) one that nobody entered yet.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct QueueState {
    queue: Option<Queue>,
}

/// A queue that somebody entered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Queue {
    pub show: EntityKey,
    pub room: Room,
    /// Numbers on their way to their tickets, by slot.
    entries: BTreeMap<u16, OnItsWay>,
}

/// A number on its way to a ticket.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OnItsWay {
    pub ticket: EntityKey,
    pub entry: Entry,
}

impl QueueState {
    /// `None` when nobody entered yet.
    #[must_use]
    pub fn get(&self) -> Option<&Queue> {
        self.queue.as_ref()
    }
}

impl Queue {
    fn begun(show: EntityKey, admission: Admission) -> Self {
        Self { show, room: Room::new(admission), entries: BTreeMap::new() }
    }

    /// The lowest slot without a number.
    fn free_slot(&self) -> u16 {
        let taken = (0u16..).zip(self.entries.keys()).take_while(|(free, slot)| free == *slot);
        u16::try_from(taken.count()).unwrap_or(u16::MAX)
    }
}

/// The queue of a show.
#[must_use]
pub fn queue_key(show: EntityKey) -> EntityKey {
    key_of(kinds::QUEUE, b"queue\0", show, b"")
}

/// The queue as an entity kind.
pub struct QueueEntity;

type Decided = Result<Vec<QueueEvent>, QueueRejection>;

impl QueueEntity {
    fn enter(key: EntityKey, state: &QueueState, enter: Enter, at: &At) -> Decided {
        if queue_key(enter.show) != key {
            return Err(QueueRejection::NotWanted);
        }
        let begun = Queue::begun(enter.show, enter.admission);
        let queue = state.get().unwrap_or(&begun);
        if queue.entries.values().any(|known| known.ticket == enter.ticket) {
            return Ok(Vec::new());
        }
        if let Some(number) = enter.replaces
            && queue.room.standing(number, at.now) != Standing::Passed
        {
            return Err(QueueRejection::NotWanted);
        }
        if queue.entries.len() >= ENTRIES_MAX {
            return Err(QueueRejection::Busy);
        }
        let room = &queue.room;
        let number = room.next();
        let admitted = room.admissible(at.now, 1);
        let is_in = admitted.is_some_and(|admitted| admitted.upto >= number);
        let entry = Entry {
            show: enter.show,
            number,
            replaces: enter.replaces,
            claim: enter.claim,
            entered_at: at.now,
            position: if is_in { 0 } else { room.waiting() + 1 },
            eta_seconds: if is_in { 0 } else { room.eta_seconds(number, at.now) },
            admitted: is_in,
        };
        let entered = OnItsWay { ticket: enter.ticket, entry };
        let begins = state.get().is_none().then_some(QueueEvent::Begun {
            at: at.now,
            show: enter.show,
            admission: enter.admission,
        });
        let enters = QueueEvent::Entered { at: at.now, slot: queue.free_slot(), entered: Box::new(entered) };
        let admits = admitted.map(|admitted| QueueEvent::Admitted { at: at.now, admitted });
        Ok(begins.into_iter().chain([enters]).chain(admits).collect())
    }

    /// What is not (any more) on its way was settled before: the ticket answered twice.
    fn settle(queue: &Queue, settlements: &[Settlement], at: &At) -> Vec<QueueEvent> {
        let mut open: Vec<QueueNumber> = queue.entries.values().map(|known| known.entry.number).collect();
        let (mut taken, mut void) = (Vec::new(), Vec::new());
        for settlement in settlements {
            let Some(place) = open.iter().position(|known| *known == settlement.number) else { continue };
            open.swap_remove(place);
            if settlement.taken { taken.push(settlement.number) } else { void.push(settlement.number) }
        }
        if taken.is_empty() && void.is_empty() {
            return Vec::new();
        }
        vec![QueueEvent::Settled { at: at.now, taken, void }]
    }

    fn check(queue: &Queue, number: QueueNumber, at: &At) -> Decided {
        match queue.room.standing(number, at.now) {
            Standing::Waiting { .. } => Err(QueueRejection::Waiting),
            Standing::Admitted { .. } => Ok(Vec::new()),
            Standing::Passed => Err(QueueRejection::Passed),
        }
    }

    fn tick(queue: &Queue, at: &At) -> Vec<QueueEvent> {
        if let Some(admitted) = queue.room.admissible(at.now, 0) {
            return vec![QueueEvent::Admitted { at: at.now, admitted }];
        }
        let swept = queue.room.has_expired(at.now).then_some(QueueEvent::Swept { at: at.now });
        swept.into_iter().collect()
    }
}

/// What a ticket's answer says, by the number that it names and not by the slot: an answer from before a change of
/// leaders may come home when its slot belongs to another number.
fn settlement(outcome: CallOutcome) -> Option<Settlement> {
    match outcome {
        CallOutcome::Entity(EntityOutcome::Done { state }) => {
            let state: TicketState = codec::decode(&state).ok()?;
            Some(Settlement { number: state.get()?.number, taken: true })
        }
        CallOutcome::Entity(EntityOutcome::Rejected { rejection }) => match codec::decode(&rejection).ok()? {
            TicketRejection::Holds { refused } => Some(Settlement { number: refused, taken: false }),
            TicketRejection::NotWanted => None,
        },
        CallOutcome::Entity(EntityOutcome::Unknown { .. })
        | CallOutcome::Message(_)
        | CallOutcome::Payment(_)
        | CallOutcome::Shipment(_) => None,
    }
}

impl Entity for QueueEntity {
    type State = QueueState;
    type Command = QueueCommand;
    type Event = QueueEvent;
    type Rejection = QueueRejection;
    const KIND: EntityKind = kinds::QUEUE;
    const PREFIX: &'static str = "q";
    const SINCE: FeatureLevel = NEIGHBOURS_LEVEL;
    const SHARES_RECORDS: bool = true;

    fn decide(
        key: EntityKey,
        state: &QueueState,
        command: QueueCommand,
        at: &At,
    ) -> Result<Decision<QueueEvent>, QueueRejection> {
        let queue = state.get().ok_or(QueueRejection::NotFound);
        let events = match command {
            QueueCommand::Enter(enter) => Self::enter(key, state, *enter, at)?,
            QueueCommand::Settle(settlements) => Self::settle(queue?, &settlements, at),
            QueueCommand::Check(number) => Self::check(queue?, number, at)?,
            QueueCommand::Leave(number) => {
                let is_in = matches!(queue?.room.standing(number, at.now), Standing::Admitted { .. });
                is_in.then_some(QueueEvent::Left { at: at.now, number }).into_iter().collect()
            }
            QueueCommand::Timer => Self::tick(queue?, at),
            QueueCommand::Unwanted => return Err(QueueRejection::NotWanted),
        };
        Ok(Decision::events(events))
    }

    fn evolve(state: &mut QueueState, event: &QueueEvent) {
        event.evolve(&mut state.queue);
    }

    fn wants(_key: EntityKey, state: &QueueState) -> Effects {
        let Some(queue) = state.get() else { return Effects::default() };
        let call = |(slot, known): (&u16, &OnItsWay)| CallWant {
            slot: Slot(*slot),
            lane: Lane::Entity,
            due: known.entry.entered_at,
            guard: Guard::Repeatable,
            open: None,
        };
        let tick = queue.room.next_tick();
        Effects {
            timers: tick.map(|due| TimerWant { slot: TICK, due }).into_iter().collect(),
            calls: queue.entries.iter().map(call).collect(),
            indexes: Vec::new(),
            terminal: tick.is_none() && queue.entries.is_empty(),
        }
    }

    /// The counts alone: who is on the way and who has left is the queue's own business, and changes with every entry.
    fn answer(state: &QueueState) -> Vec<u8> {
        let told =
            state.get().map(|queue| Queue { show: queue.show, room: queue.room.counts(), entries: BTreeMap::new() });
        codec::encode(&QueueState { queue: told })
    }

    fn sealed(_state: &QueueState) -> Option<&Sealed> {
        None
    }

    /// The very same number each time, so that the ticket knows a repeat.
    fn request(key: EntityKey, state: &QueueState, slot: Slot, _: Option<&[u8]>) -> Option<CallRequest> {
        let OnItsWay { ticket, entry } = state.get()?.entries.get(&slot.0)?.clone();
        let command = codec::encode(&TicketCommand::Issue(entry));
        Some(CallRequest::Entity(EntityRequest::of(key, entry.number.0, ticket, command)))
    }

    fn timer_command(_slot: Slot) -> QueueCommand {
        QueueCommand::Timer
    }
    fn attempt_command(_start: AttemptStart) -> QueueCommand {
        QueueCommand::Unwanted
    }
    fn outcome_command(outcomes: Vec<(Slot, CallOutcome)>) -> QueueCommand {
        QueueCommand::Settle(outcomes.into_iter().filter_map(|(_, outcome)| settlement(outcome)).collect())
    }
    fn report_command(_report: Report) -> QueueCommand {
        QueueCommand::Unwanted
    }
    fn describe(event: &QueueEvent) -> serde_json::Value {
        event.describe()
    }
}

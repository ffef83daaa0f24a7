//! A place in a show's queue: one for each user, with the number that the queue gave it (ADR-12).
//!
//! | from | by | to |
//! |---|---|---|
//! | (nothing) | Issue | holds the number |
//! | a number | Issue of the same number | unchanged |
//! | a number | Issue that replaces it | holds the new number: the user queues again after the old one has passed |
//! | a number | any other Issue | refused: the queue drops that number |
//!
//! A ticket knows its number and nothing of the queue: whether it waits, is admitted or has passed is the queue's to
//! say, by the number alone. So fifty thousand tickets cost one record each, and none when they move up.

use super::entity::{Decision, Entity};
use super::kinds;
use super::show::key_of;
use crate::types::call::{CallOutcome, CallRequest, Report};
use crate::types::codec::{self, CodecError};
use crate::types::effect::{Effects, Slot};
use crate::types::ids::{EntityKey, EntityKind, IdempotencyId};
use crate::types::kind::{At, AttemptStart};
use crate::types::level::{FeatureLevel, NEIGHBOURS_LEVEL};
use crate::types::publication::{Publication, Topic};
use crate::types::record::Sealed;
use crate::types::time::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::json;

/// A place in a queue, from 1 in the order of entering.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct QueueNumber(pub u64);

/// What the queue gives a ticket, the same each time it says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    pub show: EntityKey,
    pub number: QueueNumber,
    /// The number that has passed and that this one takes the place of.
    pub replaces: Option<QueueNumber>,
    /// The request that entered.
    pub claim: IdempotencyId,
    pub entered_at: Timestamp,
    /// How many were before it, and the estimate, when it entered: what its request was answered with.
    pub position: u64,
    pub eta_seconds: u64,
    /// It was admitted at once.
    pub admitted: bool,
}

/// What may be asked of a ticket.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum TicketCommand {
    Issue(Entry),
    /// Made by the runtime for a timer, an outcome or a report; a ticket wants none.
    Unwanted,
}

/// What happened to a ticket. Persisted: variants are append only.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum TicketEvent {
    Issued { at: Timestamp, entry: Entry },
}

/// Business says no; nothing was changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum TicketRejection {
    /// It holds another number than the one that this one replaces.
    #[error("holds another number")]
    Holds { refused: QueueNumber },
    #[error("not a command of a ticket")]
    NotWanted,
}

/// A ticket, or (by default) one that does not exist yet.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TicketState {
    entry: Option<Entry>,
}

impl TicketState {
    /// `None` when it does not exist.
    #[must_use]
    pub fn get(&self) -> Option<&Entry> {
        self.entry.as_ref()
    }
}

/// The ticket of a user in a show's queue.
#[must_use]
pub fn ticket_key(show: EntityKey, owner: &str) -> EntityKey {
    key_of(kinds::TICKET, b"ticket\0", show, owner.as_bytes())
}

const QUEUE: Topic = Topic("show-queue.v1");

/// The topics that a ticket's events are published under.
pub const TOPICS: [Topic; 1] = [QUEUE];

/// What the events of one record say on the event stream.
///
/// # Errors
/// [`CodecError`]: the bytes are not a ticket's events.
pub fn publications(events: &[u8]) -> Result<Vec<Publication>, CodecError> {
    let events: Vec<TicketEvent> = codec::decode(events)?;
    events.iter().map(|event| Publication::new(QUEUE, TicketEntity::describe(event), &[])).collect()
}

/// The ticket as an entity kind.
pub struct TicketEntity;

impl Entity for TicketEntity {
    type State = TicketState;
    type Command = TicketCommand;
    type Event = TicketEvent;
    type Rejection = TicketRejection;
    const KIND: EntityKind = kinds::TICKET;
    const PREFIX: &'static str = "qt";
    const SINCE: FeatureLevel = NEIGHBOURS_LEVEL;

    fn decide(
        _key: EntityKey,
        state: &TicketState,
        command: TicketCommand,
        at: &At,
    ) -> Result<Decision<TicketEvent>, TicketRejection> {
        let TicketCommand::Issue(entry) = command else { return Err(TicketRejection::NotWanted) };
        let holds = state.get().map(|known| known.number);
        if holds == Some(entry.number) {
            return Ok(Decision::unchanged());
        }
        if holds.is_some() && holds != entry.replaces {
            return Err(TicketRejection::Holds { refused: entry.number });
        }
        Ok(Decision::events(vec![TicketEvent::Issued { at: at.now, entry }]))
    }

    fn evolve(state: &mut TicketState, event: &TicketEvent) {
        let TicketEvent::Issued { entry, .. } = event;
        state.entry = Some(*entry);
    }

    /// Always at rest: a ticket waits for nothing itself.
    fn wants(_key: EntityKey, state: &TicketState) -> Effects {
        Effects { terminal: state.get().is_some(), ..Effects::default() }
    }

    fn sealed(_state: &TicketState) -> Option<&Sealed> {
        None
    }
    fn request(_: EntityKey, _: &TicketState, _: Slot, _: Option<&[u8]>) -> Option<CallRequest> {
        None
    }
    fn timer_command(_slot: Slot) -> TicketCommand {
        TicketCommand::Unwanted
    }
    fn attempt_command(_start: AttemptStart) -> TicketCommand {
        TicketCommand::Unwanted
    }
    fn outcome_command(_outcomes: Vec<(Slot, CallOutcome)>) -> TicketCommand {
        TicketCommand::Unwanted
    }
    fn report_command(_report: Report) -> TicketCommand {
        TicketCommand::Unwanted
    }
    fn describe(event: &TicketEvent) -> serde_json::Value {
        let TicketEvent::Issued { at, entry } = event;
        json!({
            "type": "queue_entered", "at": at.to_rfc3339(), "show_id": kinds::text_id(entry.show),
            "number": entry.number.0, "position": entry.position,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::ids::CommandId;

    fn entry(number: u64, replaces: Option<u64>) -> Entry {
        Entry {
            show: EntityKey { kind: kinds::SHOW, id: [1; 16] },
            number: QueueNumber(number),
            replaces: replaces.map(QueueNumber),
            claim: IdempotencyId([2; 16]),
            entered_at: Timestamp(3),
            position: 4,
            eta_seconds: 5,
            admitted: false,
        }
    }

    fn issue(state: &mut TicketState, entry: Entry) -> Result<usize, TicketRejection> {
        let (key, at) = (ticket_key(entry.show, "u-1"), At { now: Timestamp(1), command_id: CommandId::default() });
        let events = TicketEntity::decide(key, state, TicketCommand::Issue(entry), &at)?.events;
        events.iter().for_each(|event| TicketEntity::evolve(state, event));
        Ok(events.len())
    }

    #[test]
    fn the_first_number_stays_until_one_replaces_it() {
        let mut state = TicketState::default();
        assert_eq!(issue(&mut state, entry(7, None)), Ok(1));
        assert_eq!(issue(&mut state, entry(7, None)), Ok(0));
        let refused = |number| Err(TicketRejection::Holds { refused: QueueNumber(number) });
        assert_eq!(issue(&mut state, entry(8, None)), refused(8));
        assert_eq!(issue(&mut state, entry(9, Some(6))), refused(9));
        assert_eq!(issue(&mut state, entry(10, Some(7))), Ok(1));
        assert_eq!(issue(&mut state, entry(11, Some(7))), refused(11), "a second one after the same");
        assert_eq!(state.get().unwrap().number, QueueNumber(10));
        assert!(TicketEntity::wants(ticket_key(entry(1, None).show, "u"), &state).terminal);
    }

    #[test]
    fn golden_bytes() {
        let event = TicketEvent::Issued { at: Timestamp(1), entry: entry(7, Some(6)) };
        let bytes = format!("000208{}070106{}06040500", "01".repeat(16), "02".repeat(16));
        assert_eq!(hex::encode(codec::encode(&event)), bytes);
        assert_eq!(codec::decode::<TicketEvent>(&codec::encode(&event)).unwrap(), event);
        assert_eq!(publications(&codec::encode(&vec![event])).unwrap()[0].topic, QUEUE);
    }
}

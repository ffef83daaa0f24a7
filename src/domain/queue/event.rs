//! What happens to a queue, and what the event stream says of it. Who waits is not named there.

use super::room::Admitted;
use super::{OnItsWay, Queue};
use crate::domain::kinds;
use crate::domain::show::Admission;
use crate::domain::ticket::QueueNumber;
use crate::types::codec::{self, CodecError};
use crate::types::ids::EntityKey;
use crate::types::publication::{Publication, Topic};
use crate::types::time::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// What happened to a queue. Persisted: variants are append only.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum QueueEvent {
    Begun {
        at: Timestamp,
        show: EntityKey,
        admission: Admission,
    },
    Entered {
        at: Timestamp,
        slot: u16,
        entered: Box<OnItsWay>,
    },
    /// `taken`: their tickets hold them. `void`: nobody does.
    Settled {
        at: Timestamp,
        taken: Vec<QueueNumber>,
        void: Vec<QueueNumber>,
    },
    Admitted {
        at: Timestamp,
        admitted: Admitted,
    },
    Left {
        at: Timestamp,
        number: QueueNumber,
    },
    /// Nobody waits, and those whose time was over have passed.
    Swept {
        at: Timestamp,
    },
}

const ADMISSIONS: Topic = Topic("show-admissions.v1");

/// The topics that a queue's events are published under. Entries are the tickets' to tell.
pub const TOPICS: [Topic; 1] = [ADMISSIONS];

/// What the events of one record say on the event stream: who was let in, and who left. Entries are told by their
/// tickets.
///
/// # Errors
/// [`CodecError`]: the bytes are not a queue's events.
pub fn publications(events: &[u8]) -> Result<Vec<Publication>, CodecError> {
    let events: Vec<QueueEvent> = codec::decode(events)?;
    let told = |event: &&QueueEvent| match event {
        QueueEvent::Begun { .. } | QueueEvent::Admitted { .. } | QueueEvent::Left { .. } => true,
        QueueEvent::Entered { .. } | QueueEvent::Settled { .. } | QueueEvent::Swept { .. } => false,
    };
    events.iter().filter(told).map(|event| Publication::new(ADMISSIONS, event.describe(), &[])).collect()
}

impl QueueEvent {
    pub(super) fn describe(&self) -> Value {
        match self {
            Self::Begun { at, show, admission } => json!({
                "type": "queue_begun", "at": at.to_rfc3339(), "show_id": kinds::text_id(*show),
                "admission_per_second": admission.per_second, "active_max": admission.active_max,
            }),
            Self::Entered { at, entered, .. } => json!({
                "type": "queue_number_given", "at": at.to_rfc3339(), "number": entered.entry.number.0,
            }),
            Self::Settled { at, taken, void } => json!({
                "type": "queue_numbers_settled", "at": at.to_rfc3339(), "taken": taken, "void": void,
            }),
            Self::Admitted { at, admitted } => json!({
                "type": "queue_admitted", "at": at.to_rfc3339(), "upto": admitted.upto.0,
            }),
            Self::Left { at, number } => json!({
                "type": "queue_left", "at": at.to_rfc3339(), "number": number.0,
            }),
            Self::Swept { at } => json!({ "type": "queue_passed", "at": at.to_rfc3339() }),
        }
    }

    pub(super) fn evolve(&self, slot: &mut Option<Queue>) {
        match (self, slot) {
            (Self::Begun { show, admission, .. }, slot) => *slot = Some(Queue::begun(*show, *admission)),
            (Self::Entered { slot, entered, .. }, Some(queue)) => {
                queue.room.enter();
                queue.entries.insert(*slot, (**entered).clone());
            }
            (Self::Settled { taken, void, .. }, Some(queue)) => {
                let settled = |number: &QueueNumber| taken.contains(number) || void.contains(number);
                queue.entries.retain(|_, known| !settled(&known.entry.number));
                void.iter().for_each(|number| queue.room.leave(*number));
            }
            (Self::Admitted { at, admitted }, Some(queue)) => queue.room.admit(*admitted, *at),
            (Self::Left { number, .. }, Some(queue)) => queue.room.leave(*number),
            (Self::Swept { at }, Some(queue)) => queue.room.sweep(*at),
            (
                Self::Entered { .. }
                | Self::Settled { .. }
                | Self::Admitted { .. }
                | Self::Left { .. }
                | Self::Swept { .. },
                None,
            ) => {}
        }
    }
}

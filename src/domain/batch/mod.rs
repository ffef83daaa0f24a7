//! A batch of attempts that left, or may have left, in one call to a provider (ADR-13).
//!
//! | from | by | to |
//! |---|---|---|
//! | (nothing) | Start, not later than `by` | open: each member's row is its own, so nothing else holds it |
//! | open | Again, once the last try is waited out and while the key is known for half a window more | open, tried again now |
//! | open | AgainAbsent: the key may be forgotten, but nobody was found after the last try was waited out | open, tried again now |
//! | open | Close: answered, taken, never sent | closed |
//! | open | Close: given up, once the last try is waited out | closed |
//! | open | the key's window has passed since the last try | closed |
//!
//! It makes no call itself: it is what a successor finds of one. While it is open none of its members is sent alone;
//! `gateways/batching.rs` keeps to that. Members' rows are unique, so that no attempt is in two open batches.

#[cfg(test)]
mod tests;

use super::entity::{Decision, Entity};
use super::kinds;
use crate::types::batch::{Closing, Member, Sheet};
use crate::types::call::{CallOutcome, CallRequest, Report};
use crate::types::codec::{self, CodecError};
use crate::types::effect::{Effects, IndexWant, Slot, TimerWant, wait_out};
use crate::types::ids::{EntityKey, EntityKind};
use crate::types::kind::{At, AttemptStart};
use crate::types::level::{FOURTH_LEVEL, FeatureLevel};
use crate::types::limits::{ATTEMPT_NOT_AFTER, BATCH_MEMBERS_MAX, CLOCKS_APART_MAX};
use crate::types::publication::Publication;
use crate::types::record::Sealed;
use crate::types::time::{Millis, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

/// Its one timer: the end of the key's window.
const WINDOW: Slot = Slot(0);

/// For so many windows of its key it is made again.
const AGAIN_WINDOWS: i64 = 2;

/// What may be asked of a batch. Persisted in no place, sent between builds: append only.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum BatchCommand {
    /// Writes the batch down. Refused after `by`: its members' attempts may be taken up by others from then on.
    Start {
        sheet: Box<Sheet>,
        by: Timestamp,
    },
    /// The very same call is about to be made again.
    Again,
    Close(Closing),
    /// Made by the runtime for its timer.
    WindowOver,
    /// Made by the runtime for an attempt, an outcome or a report; a batch wants none.
    Unwanted,
    /// As `Again`, and each member was looked up from `since` on and is not there. So nothing can have been taken whose
    /// key is forgotten.
    AgainAbsent {
        since: Timestamp,
    },
}

/// What happened to a batch. Persisted: variants are append only.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum BatchEvent {
    Started { at: Timestamp, sheet: Box<Sheet> },
    TriedAgain { at: Timestamp },
    Closed { at: Timestamp, why: Closing },
}

/// Why nothing was written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum BatchRejection {
    #[error("the batch exists already")]
    AlreadyStarted,
    #[error("it is too late for the batch")]
    TooLate,
    #[error("not the members of a batch")]
    BadMembers,
    /// An earlier call may still be on its way.
    #[error("the last try is not waited out")]
    TooEarly,
    /// The provider may forget the key before a call that is late meets it.
    #[error("the key is too old")]
    KeyTooOld,
    #[error("the batch is not open")]
    NotOpen,
    #[error("not a command of a batch")]
    NotWanted,
}

/// A batch, or (by default) one that does not exist yet.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum BatchState {
    #[default]
    Nothing,
    Open(Box<OpenBatch>),
    Closed {
        at: Timestamp,
        why: Closing,
    },
}

/// A batch whose call may take effect, or have taken effect.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpenBatch {
    pub sheet: Sheet,
    pub started_at: Timestamp,
    /// Instant of the last record behind which the call was made.
    pub tried_at: Timestamp,
}

impl OpenBatch {
    /// From here on even the last try may find its key forgotten.
    fn until(&self) -> Timestamp {
        self.tried_at + self.sheet.window
    }

    /// Whether the provider still knows the key of the first try when a call of now arrives, be it minutes late.
    fn key_holds(&self, now: Timestamp) -> bool {
        now <= self.started_at + Millis(self.sheet.window.0 / 2)
    }

    /// What a provider turns away for so long is not made again, so that it comes to an end.
    fn is_worth_a_try(&self, now: Timestamp) -> bool {
        now < self.started_at + Millis(self.sheet.window.0.saturating_mul(AGAIN_WINDOWS))
    }

    fn is_waited_out(&self, now: Timestamp) -> bool {
        now >= wait_out(self.tried_at, ATTEMPT_NOT_AFTER)
    }

    /// The same whosever clock it was tried by: what leaves alone then goes under another key.
    fn is_over(&self, now: Timestamp) -> bool {
        self.is_waited_out(now + Millis(-CLOCKS_APART_MAX.0))
    }
}

impl BatchState {
    /// `None` unless it is open.
    #[must_use]
    pub fn open(&self) -> Option<&OpenBatch> {
        if let Self::Open(open) = self { Some(open) } else { None }
    }
}

/// The key of a batch that is started `at`: in the shard of its members, and another for the same members at another
/// time.
#[must_use]
pub fn batch_key_of(sheet: &Sheet, at: Timestamp) -> Option<EntityKey> {
    let home = sheet.members.first()?.entity.home();
    let digest = Sha256::new()
        .chain_update(b"batch\0")
        .chain_update(sheet.key.as_bytes())
        .chain_update(at.0.to_be_bytes())
        .finalize();
    let mut id = [0u8; 16];
    id[..8].copy_from_slice(&home.to_be_bytes());
    id[8..].copy_from_slice(&digest[..8]);
    Some(EntityKey { kind: kinds::BATCH, id })
}

/// Nothing: the members' own events tell what became of them.
///
/// # Errors
/// [`CodecError`]: the bytes are not a batch's events.
pub fn publications(events: &[u8]) -> Result<Vec<Publication>, CodecError> {
    let _events: Vec<BatchEvent> = codec::decode(events)?;
    Ok(Vec::new())
}

/// The batch as an entity kind.
pub struct BatchEntity;

type Decided = Result<Vec<BatchEvent>, BatchRejection>;

impl BatchEntity {
    fn start(key: EntityKey, state: &BatchState, sheet: Box<Sheet>, by: Timestamp, at: &At) -> Decided {
        if !matches!(state, BatchState::Nothing) {
            return Err(BatchRejection::AlreadyStarted);
        }
        if at.now > by {
            return Err(BatchRejection::TooLate);
        }
        // Their shards follow from what only the runtime knows; the batch itself is in its first member's.
        let in_order = !sheet.members.is_empty() && sheet.members[0].entity.home() == key.home();
        let mut members = sheet.members.clone();
        members.sort_unstable();
        members.dedup();
        if !in_order || members.len() != sheet.members.len() || !(2..=BATCH_MEMBERS_MAX).contains(&members.len()) {
            return Err(BatchRejection::BadMembers);
        }
        Ok(vec![BatchEvent::Started { at: at.now, sheet }])
    }

    /// `absent_since`: from when on each member was looked up, and was not there.
    fn again(state: &BatchState, absent_since: Option<Timestamp>, at: &At) -> Decided {
        let open = state.open().ok_or(BatchRejection::NotOpen)?;
        if !open.is_waited_out(absent_since.unwrap_or(at.now).min(at.now)) {
            return Err(BatchRejection::TooEarly);
        }
        let is_safe = if absent_since.is_some() { open.is_worth_a_try(at.now) } else { open.key_holds(at.now) };
        if !is_safe {
            return Err(BatchRejection::KeyTooOld);
        }
        Ok(vec![BatchEvent::TriedAgain { at: at.now }])
    }

    fn close(state: &BatchState, why: Closing, at: &At) -> Decided {
        let open = match state {
            BatchState::Nothing => return Err(BatchRejection::NotOpen),
            BatchState::Closed { .. } => return Ok(Vec::new()),
            BatchState::Open(open) => open,
        };
        let early = match why {
            Closing::Answered | Closing::Taken | Closing::NeverSent => false,
            Closing::GivenUp => !open.is_over(at.now),
            Closing::WindowOver => at.now < open.until(),
        };
        if early {
            return Err(BatchRejection::TooEarly);
        }
        Ok(vec![BatchEvent::Closed { at: at.now, why }])
    }
}

impl Entity for BatchEntity {
    type State = BatchState;
    type Command = BatchCommand;
    type Event = BatchEvent;
    type Rejection = BatchRejection;
    const KIND: EntityKind = kinds::BATCH;
    const PREFIX: &'static str = "b";
    const SINCE: FeatureLevel = FOURTH_LEVEL;

    fn decide(
        key: EntityKey,
        state: &BatchState,
        command: BatchCommand,
        at: &At,
    ) -> Result<Decision<BatchEvent>, BatchRejection> {
        let events = match command {
            BatchCommand::Start { sheet, by } => Self::start(key, state, sheet, by, at)?,
            BatchCommand::Again => Self::again(state, None, at)?,
            BatchCommand::AgainAbsent { since } => Self::again(state, Some(since), at)?,
            BatchCommand::Close(why) => Self::close(state, why, at)?,
            BatchCommand::WindowOver => Self::close(state, Closing::WindowOver, at)?,
            BatchCommand::Unwanted => return Err(BatchRejection::NotWanted),
        };
        Ok(Decision::events(events))
    }

    fn evolve(state: &mut BatchState, event: &BatchEvent) {
        match event {
            BatchEvent::Started { at, sheet } => {
                let open = OpenBatch { sheet: sheet.as_ref().clone(), started_at: *at, tried_at: *at };
                *state = BatchState::Open(Box::new(open));
            }
            BatchEvent::TriedAgain { at } => {
                if let BatchState::Open(open) = state {
                    open.tried_at = *at;
                }
            }
            BatchEvent::Closed { at, why } => *state = BatchState::Closed { at: *at, why: *why },
        }
    }

    fn wants(_key: EntityKey, state: &BatchState) -> Effects {
        match state {
            BatchState::Nothing => Effects::default(),
            BatchState::Closed { .. } => Effects { terminal: true, ..Effects::default() },
            BatchState::Open(open) => {
                let row = |member: &Member| IndexWant {
                    index: kinds::INDEX_BATCH_MEMBER,
                    key: member.to_bytes().to_vec(),
                    unique: true,
                };
                Effects {
                    timers: vec![TimerWant { slot: WINDOW, due: open.until() }],
                    calls: Vec::new(),
                    indexes: open.sheet.members.iter().map(row).collect(),
                    terminal: false,
                }
            }
        }
    }

    fn sealed(_state: &BatchState) -> Option<&Sealed> {
        None
    }
    fn request(_: EntityKey, _: &BatchState, _: Slot, _: Option<&[u8]>) -> Option<CallRequest> {
        None
    }
    fn timer_command(_slot: Slot) -> BatchCommand {
        BatchCommand::WindowOver
    }
    fn attempt_command(_start: AttemptStart) -> BatchCommand {
        BatchCommand::Unwanted
    }
    fn outcome_command(_outcomes: Vec<(Slot, CallOutcome)>) -> BatchCommand {
        BatchCommand::Unwanted
    }
    fn report_command(_report: Report) -> BatchCommand {
        BatchCommand::Unwanted
    }
    fn describe(event: &BatchEvent) -> Value {
        match event {
            BatchEvent::Started { at, sheet } => json!({
                "type": "batch_started", "at": at.to_rfc3339(), "provider": sheet.provider, "key": sheet.key,
                "members": sheet.members.len(),
            }),
            BatchEvent::TriedAgain { at } => json!({ "type": "batch_tried_again", "at": at.to_rfc3339() }),
            BatchEvent::Closed { at, why } => {
                json!({ "type": "batch_closed", "at": at.to_rfc3339(), "why": why.name() })
            }
        }
    }
}

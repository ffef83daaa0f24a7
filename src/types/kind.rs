//! What the runtime needs of an entity kind, in bytes. `domain/entity.rs` makes these from a typed `Entity`.
//!
//! The runtime carries bytes and effects; it never names a business kind.

use crate::types::call::{CallOutcome, CallRequest, Report};
use crate::types::codec::CodecError;
use crate::types::effect::{Effects, Slot};
use crate::types::ids::{Claim, CommandId, EntityKey, EntityKind};
use crate::types::level::{FIRST_LEVEL, FeatureLevel};
use crate::types::record::{Erasure, Sealed};
use crate::types::time::{Millis, Timestamp};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// What `decide` may know besides the state and the command.
#[derive(Clone, Copy, Debug)]
pub struct At {
    /// Cluster time of this decision.
    pub now: Timestamp,
    pub command_id: CommandId,
}

/// The start of a fenced attempt, as it is committed before the first byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AttemptStart {
    pub slot: Slot,
    pub claim: Claim,
    pub not_after: Millis,
}

/// The answer of `decide`, encoded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decided {
    /// Events to commit, and what the same record destroys.
    Events { events: Vec<u8>, erase: Erasure },
    /// Already so: the committed state is the answer and nothing is written.
    Unchanged,
    /// Business says no; nothing was changed.
    Rejected(Vec<u8>),
}

/// An end, good or bad, as success rates count it: `("order", "completed")`.
pub type Counted = (&'static str, &'static str);

/// One entity kind.
pub trait Kind: Send + Sync {
    fn kind(&self) -> EntityKind;
    /// Text prefix of its ids, `g` for `g_5f1c…`.
    fn prefix(&self) -> &'static str;
    /// The feature level that knows it; below it none is made.
    fn since(&self) -> FeatureLevel {
        FIRST_LEVEL
    }
    /// Decodes a state; `None` is the entity that does not exist yet.
    ///
    /// # Errors
    /// [`CodecError`]: the stored state is damaged.
    fn load(&self, key: EntityKey, state: Option<&[u8]>) -> Result<Box<dyn Live>, CodecError>;
}

/// A decoded state. All methods are pure and total over what they decode.
pub trait Live: Send + Sync {
    /// # Errors
    /// [`CodecError`]: the command's bytes are not a command.
    fn decide(&self, command: &[u8], at: &At) -> Result<Decided, CodecError>;
    /// # Errors
    /// [`CodecError`]: the events' bytes are not events.
    fn evolve(&mut self, events: &[u8]) -> Result<(), CodecError>;
    fn wants(&self) -> Effects;
    fn encode(&self) -> Vec<u8>;
    /// The state as a caller is told it; it decodes as a state.
    fn answer(&self) -> Vec<u8> {
        self.encode()
    }
    /// Whether plain commands that wait may be decided into one record.
    fn shares_records(&self) -> bool {
        false
    }
    /// What it is counted as, and what became of it; `None` while that is open. A change is counted once, by the leader.
    fn outcome(&self) -> Option<Counted> {
        None
    }
    /// The events of several steps as those of one; only asked of a kind that shares records.
    ///
    /// # Errors
    /// [`CodecError`]: the bytes are not events.
    fn join(&self, steps: &[Vec<u8>]) -> Result<Vec<u8>, CodecError> {
        let _unshared = steps;
        Err(CodecError { what: "events of a kind that shares no records" })
    }
    fn fork(&self) -> Box<dyn Live>;
    /// The entity's personal data, sealed; `None` when it has none.
    fn sealed(&self) -> Option<Sealed>;
    /// The call behind a slot, rendered from the committed state and the unsealed personal data (`None` once
    /// erased). `None`: the slot is no longer wanted, or cannot be rendered.
    fn request(&self, slot: Slot, personal: Option<&[u8]>) -> Option<CallRequest>;
    fn timer_command(&self, slot: Slot) -> Vec<u8>;
    fn attempt_command(&self, start: AttemptStart) -> Vec<u8>;
    /// Outcomes of one or more calls; several when they were coalesced.
    fn outcome_command(&self, outcomes: Vec<(Slot, CallOutcome)>) -> Vec<u8>;
    fn report_command(&self, report: Report) -> Vec<u8>;
    /// One JSON object for each event, for timelines and the event stream; no personal data.
    ///
    /// # Errors
    /// [`CodecError`]: the events' bytes are not events.
    fn describe(&self, events: &[u8]) -> Result<Vec<serde_json::Value>, CodecError>;
}

/// The registered kinds.
#[derive(Clone, Default)]
pub struct KindTable {
    kinds: Vec<Arc<dyn Kind>>,
}

impl KindTable {
    #[must_use]
    pub fn new(kinds: Vec<Arc<dyn Kind>>) -> Self {
        Self { kinds }
    }
    /// One more kind.
    #[must_use]
    pub fn with(mut self, kind: Arc<dyn Kind>) -> Self {
        self.kinds.push(kind);
        self
    }
    #[must_use]
    pub fn get(&self, kind: EntityKind) -> Option<&Arc<dyn Kind>> {
        self.kinds.iter().find(|known| known.kind() == kind)
    }
    /// `g_5f1c…`; an unregistered kind prints as `k<tag>_…`.
    #[must_use]
    pub fn format(&self, key: EntityKey) -> String {
        match self.get(key.kind) {
            Some(kind) => format!("{}_{}", kind.prefix(), key.hex()),
            None => format!("{key:?}"),
        }
    }
    /// The inverse of [`KindTable::format`] for registered kinds.
    #[must_use]
    pub fn parse(&self, text: &str) -> Option<EntityKey> {
        let (prefix, digits) = text.split_once('_')?;
        let kind = self.kinds.iter().find(|known| known.prefix() == prefix)?;
        if digits.len() != 32 || digits.bytes().any(|b| b.is_ascii_uppercase()) {
            return None;
        }
        let id: [u8; 16] = hex::decode(digits).ok()?.try_into().ok()?;
        Some(EntityKey { kind: kind.kind(), id })
    }
}

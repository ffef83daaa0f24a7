//! The sans-I/O driver around one live entity: mailbox order, records in flight, calls and their fences.
//!
//! `step` takes what happened and says what to do; the ractor actor (`entity`) and the simulator are thin shells
//! around it. Rules kept here:
//! - Commands are decided on the speculative state (committed state plus records in flight), in arrival order.
//! - What finds no place in the pipeline waits in order, up to a bound. Of a kind that shares records, waiting commands
//!   without marks of their own are decided into one record.
//! - Every answer, refusals too, leaves only after the last record that it was decided on is applied.
//! - A void record voids everything decided after it; nothing of that was applied, so callers are told `Unavailable`
//!   and outcomes are decided again on the reloaded state. After a drop that is after a pause, in which commands wait.
//! - Timers fire and calls start while records are in flight: a timer one at a time, a call only when the committed
//!   and the speculative state both want it. So a steady stream of commands never starves them.
//! - A step that no record can hold is not proposed: see `too_large`.
//! - A fenced call starts only after its `AttemptStarted` record is applied under this driver's claim.

mod fates;
mod own;
#[cfg(test)]
mod tests;
mod too_large;
mod waiting;

use crate::actors::door::{Answer, AskError};
use crate::actors::life::Life;
use crate::actors::slots::Slots;
use crate::types::call::{CallOutcome, CallRequest, Report};
use crate::types::effect::{Effects, Lane, Slot};
use crate::types::ids::{Claim, CommandId, EntityKey, Fingerprint, IdempotencyId, Version};
use crate::types::kind::{At, Decided, Kind, Live};
use crate::types::limits::{ENTITY_COMMANDS_WAITING_MAX, ENTITY_PIPELINE_MAX, RECORD_EVENTS_BYTES_MAX};
use crate::types::record::{IdempotencyMark, Record, RecordFate, Sealed, VaultChange, WrappedKey};
use crate::types::time::{BootMillis, Millis, Timestamp};
use fates::Standing;
use std::collections::VecDeque;
use std::sync::Arc;
use too_large::TooLarge;

/// A caller waiting for an answer, named by the shell.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct WaiterId(pub u64);

/// The instant of a step, by each clock.
#[derive(Clone, Copy, Debug)]
pub struct Now {
    pub wall: Timestamp,
    pub boot: BootMillis,
    /// See [`crate::types::time::Clock::steady`].
    pub steady: Timestamp,
}

/// A command from outside, already checked against the idempotency rows.
#[derive(Clone, Debug)]
pub struct Command {
    pub waiter: WaiterId,
    pub bytes: Vec<u8>,
    pub command_id: CommandId,
    pub idempotency: Option<(IdempotencyId, Fingerprint)>,
    pub if_version: Option<Version>,
    pub new_key: Option<WrappedKey>,
}

/// What happened.
#[derive(Debug)]
pub enum Input {
    Command(Command),
    /// Time passed: timers and calls may be due.
    Wake,
    /// The lane's gateway granted a permit for the slot; the shell holds it.
    Granted(Slot, Lane),
    /// The lane had no room for the slot, or lost its place.
    Busy(Slot, Lane),
    /// The record in flight that was decided at this version met its fate. Fates need not come in order: a record
    /// that the shard refuses is void before an earlier one in the log is applied.
    Fate(Version, RecordFate),
    CallDone {
        slot: Slot,
        outcome: CallOutcome,
    },
    Report(Report),
    /// The state was read again after a void record.
    Reloaded {
        version: Version,
        state: Option<Vec<u8>>,
    },
}

/// What the shell is to do, in order.
#[derive(Debug)]
pub enum Output {
    Propose(Record),
    Answer(WaiterId, Result<Answer, AskError>),
    /// Queue for a permit of the lane.
    RequestPermit {
        slot: Slot,
        lane: Lane,
        due: Timestamp,
    },
    /// The permit is not needed after all.
    ReleasePermit(Slot),
    /// Render `request` with the unsealed personal data, then perform it with the slot's permit.
    Perform {
        slot: Slot,
        lane: Lane,
        not_after: BootMillis,
    },
    /// Read the entity again and answer with `Reloaded`.
    Reload,
    /// Stored bytes or the kind's own bytes do not decode: a bug or a damaged disk; the process must not guess.
    Corrupt {
        what: &'static str,
    },
}

/// Why a record was proposed, to settle it when its fate is known.
#[derive(Debug)]
enum Source {
    /// One command, or several that share the record.
    Callers(Vec<WaiterId>),
    Timer,
    Attempt {
        slot: Slot,
        lane: Lane,
        not_after: BootMillis,
    },
    Outcomes(Vec<(Slot, CallOutcome)>),
    Report(Report),
}

/// A step that waits for records before it.
enum Pending {
    Record {
        version_before: Version,
        /// Known ahead of its turn.
        fate: Option<RecordFate>,
        events: Vec<u8>,
        idempotency: Option<IdempotencyId>,
        source: Source,
    },
    /// An answer decided on the speculative state at this point; nothing to write.
    Reply { waiter: WaiterId, answer: Result<(), AskError> },
}

/// One live entity.
pub struct Driver {
    key: EntityKey,
    kind: Arc<dyn Kind>,
    claim: Claim,
    committed: Box<dyn Live>,
    version: Version,
    wants: Effects,
    /// Ahead of `committed` by the records in `pipeline`; `None` when nothing is in flight.
    speculative: Option<Box<dyn Live>>,
    speculative_version: Version,
    pipeline: VecDeque<Pending>,
    /// Records among them.
    records_in_flight: usize,
    /// Commands without a place in the pipeline yet.
    waiting: VecDeque<Command>,
    slots: Slots,
    /// Outcomes that are not in a record yet.
    outcomes: Vec<(Slot, CallOutcome)>,
    /// When they are to be committed at the latest.
    outcomes_by: Option<BootMillis>,
    /// No timer that is due leads to anything now: not looked at again before this instant.
    timers_after: Option<Timestamp>,
    reports: VecDeque<Report>,
    too_large: TooLarge,
    standing: Standing,
    /// How often in a row records were dropped.
    drops: usize,
    internal_seq: u64,
    /// The instant of the last record, in flight or applied: the entity's time does not go back behind it.
    last_record: Timestamp,
    /// A seeded defect, to prove that the simulator's checkers see: refusals do not wait for what they rest on.
    #[cfg(debug_assertions)]
    #[doc(hidden)]
    pub replies_early: bool,
}

/// Outcomes of repeatable calls wait this long for company before they are committed; those of other entities, behind
/// which somebody may be waiting, not as long.
const COALESCE: u64 = 300;
const COALESCE_ENTITY: u64 = 15;
/// Places of the pipeline that commands and reports leave free.
const OWN_PLACES: usize = 4;
/// A timer that is due and leads to nothing is looked at again after this span.
const TIMER_PAUSE: Millis = Millis::from_secs(1);

impl Driver {
    /// # Errors
    /// [`crate::types::codec::CodecError`] when the stored state does not decode.
    pub fn new(
        key: EntityKey,
        kind: Arc<dyn Kind>,
        life: Life,
        version: Version,
        state: Option<&[u8]>,
    ) -> Result<Self, crate::types::codec::CodecError> {
        let committed = kind.load(key, state)?;
        let wants = committed.wants();
        Ok(Self {
            key,
            kind,
            claim: life.claim,
            committed,
            version,
            wants,
            speculative: None,
            speculative_version: version,
            pipeline: VecDeque::new(),
            records_in_flight: 0,
            waiting: VecDeque::new(),
            slots: Slots::new(life),
            outcomes: Vec::new(),
            outcomes_by: None,
            timers_after: None,
            reports: VecDeque::new(),
            too_large: TooLarge::default(),
            standing: Standing::Sound,
            drops: 0,
            internal_seq: 0,
            last_record: Timestamp(i64::MIN),
            #[cfg(debug_assertions)]
            replies_early: false,
        })
    }

    /// The same, of an entity whose last record is of this instant.
    #[must_use]
    pub fn after(mut self, last_record: Timestamp) -> Self {
        self.last_record = last_record;
        self
    }

    /// The shell steps with no earlier wall time than this.
    #[must_use]
    pub fn last_record(&self) -> Timestamp {
        self.last_record
    }
    #[must_use]
    pub fn version(&self) -> Version {
        self.version
    }
    #[must_use]
    pub fn wants(&self) -> &Effects {
        &self.wants
    }
    #[must_use]
    pub fn sealed(&self) -> Option<Sealed> {
        self.committed.sealed()
    }
    /// The call behind a slot as of the committed state.
    #[must_use]
    pub fn request(&self, slot: Slot, personal: Option<&[u8]>) -> Option<CallRequest> {
        self.committed.request(slot, personal)
    }
    /// Nothing in flight, nothing held: the entity may leave memory until its next want is due.
    #[must_use]
    pub fn is_quiet(&self) -> bool {
        self.pipeline.is_empty()
            && self.waiting.is_empty()
            && self.outcomes.is_empty()
            && self.reports.is_empty()
            && self.standing == Standing::Sound
            && self.slots.all_idle()
    }
    /// Whether the slot has a place in the lane's queue. A permit for any other must not be used.
    #[must_use]
    pub fn awaits_permit(&self, slot: Slot, lane: Lane) -> bool {
        self.slots.queued_in(slot) == Some(lane)
    }
    /// Slots whose call was made and whose outcome is not committed yet.
    pub fn in_flight(&self) -> impl Iterator<Item = Slot> + '_ {
        self.slots.in_flight()
    }
    /// Outcomes of calls that are not committed yet, as far as is known.
    pub fn unsettled(&self) -> impl Iterator<Item = (Slot, CallOutcome)> + '_ {
        let in_records = self.pipeline.iter().filter_map(|pending| match pending {
            Pending::Record { source: Source::Outcomes(outcomes), .. } => Some(outcomes),
            Pending::Record { .. } | Pending::Reply { .. } => None,
        });
        in_records.flatten().chain(&self.outcomes).cloned()
    }
    /// Whether the outcome of the slot's call that was due then is still to come: nothing committed, in flight or known
    /// settles it.
    #[must_use]
    pub fn awaits_outcome(&self, slot: Slot, due: Timestamp) -> bool {
        let wants = |wants: &Effects| wants.calls.iter().any(|call| call.slot == slot && call.due == due);
        let is_known = self.outcomes.iter().any(|(known, _)| *known == slot);
        !is_known && wants(&self.wants) && self.speculative.as_ref().is_none_or(|ahead| wants(&ahead.wants()))
    }
    /// Calls that their lanes had no room for, with the instant at which each was due.
    pub fn crowded(&self) -> impl Iterator<Item = (Lane, Timestamp)> + '_ {
        let calls = self.wants.calls.iter().filter(|call| self.slots.is_crowded(call.slot));
        calls.map(|call| (call.lane, call.due))
    }
    /// Whether anything is due by `until` that has to be waited for in memory: all but calls without room.
    #[must_use]
    pub fn is_needed(&self, until: Timestamp) -> bool {
        let timer = self.wants.timers.iter().any(|timer| timer.due <= until);
        timer || self.wants.calls.iter().any(|call| call.due <= until && !self.slots.is_crowded(call.slot))
    }
    /// Whether anything is due by `until` for which no place was asked yet: a timer (`None`), or a call of the lane.
    #[must_use]
    pub fn expects(&self, lane: Option<Lane>, until: Timestamp) -> bool {
        match lane {
            None => self.wants.timers.iter().any(|timer| timer.due <= until),
            Some(lane) => self
                .wants
                .calls
                .iter()
                .any(|call| call.lane == lane && call.due <= until && self.slots.is_waiting(call.slot)),
        }
    }
    /// Whether a record with this idempotency id is in flight, or a command with it waits.
    #[must_use]
    pub fn has_in_flight(&self, id: IdempotencyId) -> bool {
        let waits = |command: &Command| command.idempotency.is_some_and(|(known, _)| known == id);
        if self.waiting.iter().any(waits) {
            return true;
        }
        self.pipeline.iter().any(|pending| match pending {
            Pending::Record { idempotency, .. } => *idempotency == Some(id),
            Pending::Reply { .. } => false,
        })
    }
    /// Commands that were not decided yet: whatever becomes of this driver, nothing of them was done.
    pub fn undecided(&self) -> impl Iterator<Item = WaiterId> + '_ {
        self.waiting.iter().map(|command| command.waiter)
    }
    /// The next instant at which `Wake` is useful; wall time of the earliest want that is not being worked on, or of
    /// a wait that this driver imposed. `None` after a void record: nothing is begun before the state is read again.
    #[must_use]
    pub fn next_wake(&self, now: Now) -> Option<Timestamp> {
        if self.standing != Standing::Sound {
            return None;
        }
        let pause = self.timers_after.unwrap_or(Timestamp(i64::MIN));
        let timers = self.wants.timers.iter().filter(|_| !self.timer_in_flight()).map(|timer| timer.due.max(pause));
        let calls = self.wants.calls.iter().filter_map(|call| self.slots.next_wake(call, now));
        timers.chain(calls).min()
    }
    /// Boot-clock instant at which `Wake` is useful: coalesced outcomes are to be committed, or a pause is over.
    #[must_use]
    pub fn own_wake(&self) -> Option<BootMillis> {
        match self.standing {
            // Behind a full pipeline the next fate is waited for.
            Standing::Sound => self.outcomes_by.filter(|_| self.can_decide()),
            Standing::Voided { pause_until } => pause_until.filter(|_| self.pipeline.is_empty()),
            Standing::Reloading => None,
        }
    }

    /// Handles one input.
    pub fn step(&mut self, input: Input, now: Now, out: &mut Vec<Output>) {
        match input {
            Input::Command(command) => self.on_command(command, out),
            Input::Wake => {}
            Input::Granted(slot, lane) => self.on_granted(slot, lane, now, out),
            Input::Busy(slot, lane) if self.awaits_permit(slot, lane) => self.slots.crowded(slot, now.wall),
            Input::Busy(..) => {}
            Input::Fate(version_before, fate) => self.on_fate(version_before, fate, now, out),
            Input::CallDone { slot, outcome } => {
                self.slots.settling(slot, &outcome);
                self.note_outcome((slot, outcome), now);
            }
            Input::Report(report) => self.reports.push_back(report),
            Input::Reloaded { version, state } => self.on_reloaded(version, state.as_deref(), out),
        }
        self.reload_if_voided(now, out);
        self.advance(now, out);
    }

    fn can_decide(&self) -> bool {
        self.has_room(ENTITY_PIPELINE_MAX)
    }
    /// Commands and reports leave the last places to the entity's own work, or a steady stream would starve it.
    fn can_take(&self) -> bool {
        self.has_room(ENTITY_PIPELINE_MAX - OWN_PLACES)
    }
    fn has_room(&self, places: usize) -> bool {
        let answers = self.pipeline.len() - self.records_in_flight;
        let room = self.records_in_flight < places && answers < ENTITY_COMMANDS_WAITING_MAX;
        self.standing == Standing::Sound && room
    }

    fn state(&self) -> &dyn Live {
        self.speculative.as_deref().unwrap_or(self.committed.as_ref())
    }

    fn next_internal_id(&mut self) -> CommandId {
        self.internal_seq += 1;
        let mut id = [0u8; 16];
        id[..8].copy_from_slice(&self.speculative_version.0.to_be_bytes());
        id[8..].copy_from_slice(&self.internal_seq.to_be_bytes());
        CommandId(id)
    }

    /// Decides one of the entity's own commands.
    fn decide_internal(&mut self, bytes: &[u8], source: Source, now: Now, out: &mut Vec<Output>) {
        let at = At { now: now.wall, command_id: self.next_internal_id() };
        match self.state().decide(bytes, &at) {
            Ok(Decided::Events { events, erase }) => {
                let vault = erase.vault_change(None);
                self.propose(Step { events, vault, at, idempotency: None, source }, now, out);
            }
            // The state has moved on: the timer, attempt, outcome or report means nothing to it any more.
            Ok(Decided::Unchanged | Decided::Rejected(_)) => self.not_decided(source, now, out),
            Err(_) => out.push(Output::Corrupt { what: "internal command" }),
        }
    }

    /// Answers after everything in flight; at once when nothing is.
    fn reply(&mut self, waiter: WaiterId, answer: Result<(), AskError>, out: &mut Vec<Output>) {
        #[cfg(debug_assertions)]
        if self.replies_early {
            let answer = answer.map(|()| Answer { unwritten: true, ..self.answer() });
            return out.push(Output::Answer(waiter, answer));
        }
        self.pipeline.push_back(Pending::Reply { waiter, answer });
        self.release_replies(out);
    }

    fn release_replies(&mut self, out: &mut Vec<Output>) {
        while matches!(self.pipeline.front(), Some(Pending::Reply { .. })) {
            let Some(Pending::Reply { waiter, answer }) = self.pipeline.pop_front() else { return };
            let answer = answer.map(|()| Answer { unwritten: true, ..self.answer() });
            out.push(Output::Answer(waiter, answer));
        }
    }

    fn answer(&self) -> Answer {
        Answer {
            key: self.key,
            version: self.version,
            state: self.committed.answer(),
            replayed: false,
            unwritten: false,
        }
    }

    fn propose(&mut self, step: Step, now: Now, out: &mut Vec<Output>) {
        if step.events.len() > RECORD_EVENTS_BYTES_MAX {
            return self.refuse_too_large(step, now, out);
        }
        let mut ahead = self.speculative.take().unwrap_or_else(|| self.committed.fork());
        if ahead.evolve(&step.events).is_err() {
            out.push(Output::Corrupt { what: "own events" });
            return;
        }
        let version_before = self.speculative_version;
        self.last_record = self.last_record.max(step.at.now);
        let record = Record {
            key: self.key,
            version_before,
            at: step.at.now,
            command_id: step.at.command_id,
            idempotency: step.idempotency.map(|(id, fingerprint)| IdempotencyMark { id, fingerprint }),
            events: step.events.clone(),
            vault: step.vault,
        };
        self.speculative = Some(ahead);
        self.speculative_version = self.speculative_version.next();
        let idempotency = step.idempotency.map(|(id, _)| id);
        let Step { events, source, .. } = step;
        self.records_in_flight += 1;
        self.pipeline.push_back(Pending::Record { version_before, fate: None, events, idempotency, source });
        out.push(Output::Propose(record));
    }
}

struct Step {
    events: Vec<u8>,
    vault: VaultChange,
    at: At,
    idempotency: Option<(IdempotencyId, Fingerprint)>,
    source: Source,
}

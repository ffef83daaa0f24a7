//! What a leading node hosts: live entities around the binary's `Driver`, as the shard's and the entity's actors do it. A
//! thin host: it carries inputs and outputs, keeps timers, permits and callers, and decides nothing.

use crate::actors::door::{Ask, AskError};
use crate::actors::driver::{Command, Driver, Input, Now, Output, WaiterId};
use crate::actors::life::Life;
use crate::actors::recall::{self, IdempotencyCheck};
use crate::persistence::store::StoreError;
use crate::replication::core::{DropFate, Input as CoreInput};
use crate::simulation::answers::{Behind, Caller, Try};
use crate::simulation::defects;
use crate::simulation::event::{MS, NodeEvent};
use crate::simulation::lanes::{Lanes, Permit};
use crate::simulation::log_disk::SHARD;
use crate::simulation::node::{Do, Node, Turn};
use crate::simulation::options::Defect;
use crate::types::call::{CallOutcome, EntityRequest, Report};
use crate::types::effect::{Lane, Slot};
use crate::types::ids::{Claim, CommandId, EntityKey, Version};
use crate::types::kind::KindTable;
use crate::types::record::{Record, RecordFate, Sealed, VoidReason};
use crate::types::takeovers::Takeovers;
use crate::types::time::{BootMillis, Timestamp};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

/// One live entity.
pub struct Entity {
    /// Tells this life in memory from others of the same entity.
    pub id: u64,
    pub driver: Driver,
    pub(super) waiters: BTreeMap<WaiterId, Caller>,
    waiter_seq: u64,
    pub permits: BTreeMap<Slot, Permit>,
    pub personal: Option<(Sealed, Option<Vec<u8>>)>,
    pub(super) armed_for: Option<u64>,
    pub(super) last_active: BootMillis,
}

/// A message for an entity.
pub enum Mail {
    Ask {
        from: Try,
        ask: Ask,
    },
    /// A command of another entity, known by the call's id.
    Call {
        source: EntityKey,
        slot: Slot,
        request: EntityRequest,
    },
    /// A command for a batch, by the flow of that number.
    Batch {
        number: u64,
        request: EntityRequest,
    },
    CallDone(Slot, CallOutcome),
    Report(Report),
    Wake {
        entity: u64,
    },
    Granted {
        entity: u64,
        slot: Slot,
        permit: Permit,
    },
    Fate {
        entity: u64,
        version_before: Version,
        fate: RecordFate,
    },
    Reload {
        entity: u64,
    },
}

struct Proposal {
    key: EntityKey,
    version_before: Version,
    entity: u64,
}

/// A node's part as a leader; empty on the others.
#[derive(Default)]
pub struct Hosting {
    pub claim: Option<Claim>,
    pub takeovers: Arc<Takeovers>,
    pub live: BTreeMap<EntityKey, Entity>,
    proposals: BTreeMap<u64, Proposal>,
    tags: u64,
    entities: u64,
    /// Records in flight by entity: a successor in memory starts only when they are settled.
    outstanding: BTreeMap<EntityKey, u32>,
    held: BTreeMap<EntityKey, Vec<Mail>>,
    pub mail: VecDeque<(EntityKey, Mail)>,
    pub inputs: Vec<CoreInput>,
    pub lanes: Lanes,
    pub(super) kinds: KindTable,
    /// Answers that wait for their read barrier, and how many there were.
    pub(super) behind: BTreeMap<u64, Behind>,
    pub(super) barriers: u64,
    /// The rows of what is due soon are looked at.
    pub(super) loads: bool,
    /// Left memory and never to be woken, for a defect.
    pub(super) forgotten: BTreeSet<EntityKey>,
}

impl Hosting {
    #[must_use]
    pub fn new(seed: u64, now: Timestamp, defect: Defect) -> Self {
        Self { lanes: Lanes::new(seed, now), kinds: defects::kinds_of(defect), ..Self::default() }
    }
}

impl Node {
    /// Leadership is claimed and the claim is applied.
    pub fn lead(&mut self, claim: Claim) {
        self.hosting.claim = Some(claim);
    }

    /// Entities stop before anything else is answered, then their callers hear that the outcome is unknown.
    pub fn step_down(&mut self, turn: &mut Turn<'_>) {
        self.hosting.claim = None;
        let live = std::mem::take(&mut self.hosting.live);
        for entity in live.into_values() {
            self.drop_entity(entity, turn);
        }
        // What waits for a barrier is answered by the core, which fails it.
        for mail in std::mem::take(&mut self.hosting.held).into_values().flatten() {
            self.refuse(mail, turn);
        }
    }

    fn drop_entity(&mut self, entity: Entity, turn: &mut Turn<'_>) {
        let undecided: BTreeSet<WaiterId> = entity.driver.undecided().collect();
        for (waiter, to) in entity.waiters {
            let error = if undecided.contains(&waiter) { AskError::Unavailable } else { AskError::Unknown };
            self.hand_out(to, Err(error), turn);
        }
        for permit in entity.permits.into_values() {
            self.give_back(permit, turn);
        }
    }

    /// Hands out what is in the mailboxes, and lets the core take what came of it, until both are empty.
    pub fn run_mail(&mut self, turn: &mut Turn<'_>) {
        while let Some((key, mail)) = self.hosting.mail.pop_front() {
            self.deliver(key, mail, turn);
        }
    }

    fn deliver(&mut self, key: EntityKey, mail: Mail, turn: &mut Turn<'_>) {
        let own = match &mail {
            Mail::Ask { .. } | Mail::Call { .. } | Mail::Batch { .. } | Mail::CallDone(..) | Mail::Report(_) => None,
            Mail::Wake { entity }
            | Mail::Granted { entity, .. }
            | Mail::Fate { entity, .. }
            | Mail::Reload { entity } => Some(*entity),
        };
        let live = self.hosting.live.get(&key).map(|entity| entity.id);
        match (own, live) {
            (None, Some(_)) => self.receive(key, mail, turn),
            (Some(own), Some(live)) if own == live => self.receive(key, mail, turn),
            (Some(_), _) => self.return_mail(mail, turn),
            (None, None) => self.activate(key, Some(mail), turn),
        }
    }

    /// For an entity that has left memory: a permit goes back, the rest was of that life alone.
    fn return_mail(&mut self, mail: Mail, turn: &mut Turn<'_>) {
        match mail {
            Mail::Granted { permit, .. } => self.give_back(permit, turn),
            Mail::Ask { .. }
            | Mail::Call { .. }
            | Mail::Batch { .. }
            | Mail::CallDone(..)
            | Mail::Report(_)
            | Mail::Wake { .. }
            | Mail::Fate { .. }
            | Mail::Reload { .. } => {}
        }
    }

    /// Brings an entity into memory from its committed state.
    pub(super) fn activate(&mut self, key: EntityKey, mail: Option<Mail>, turn: &mut Turn<'_>) {
        // Without a time nothing can be decided; who asks comes again.
        let has_time = self.time(turn).is_some();
        let Some(claim) = self.hosting.claim.filter(|_| has_time) else {
            return mail.into_iter().for_each(|mail| self.refuse(mail, turn));
        };
        if self.hosting.outstanding.contains_key(&key) {
            self.hosting.held.entry(key).or_default().extend(mail);
            return;
        }
        let rows = self.state.state.get(SHARD, &key);
        let Some(row) = self.read(rows, turn) else { return };
        let (version, state) = row.map_or((Version(0), None), |row| (row.version, Some(row.state)));
        let kind = self.hosting.kinds.get(key.kind).expect("clients ask for registered kinds").clone();
        let last_record = recall::last_record(&self.state.state, SHARD, key, version);
        let Some(last_record) = self.read(last_record, turn) else { return };
        let life = Life { claim, takeovers: self.hosting.takeovers.clone() };
        let driver = match Driver::new(key, kind, life, version, state.as_deref()) {
            Ok(driver) => broken(driver.after(last_record), turn.defect),
            Err(error) => {
                turn.out.push(Do::Fail(format!("{} has a state of {key:?} that does not decode: {error}", self.peer)));
                return;
            }
        };
        self.hosting.entities += 1;
        let id = self.hosting.entities;
        let entity = Entity {
            id,
            driver,
            waiters: BTreeMap::new(),
            waiter_seq: 0,
            permits: BTreeMap::new(),
            personal: None,
            armed_for: None,
            last_active: self.boot_clock(turn.now),
        };
        self.hosting.live.insert(key, entity);
        if let Some(mail) = mail {
            self.receive(key, mail, turn);
        }
        self.hosting.mail.push_back((key, Mail::Wake { entity: id }));
    }

    /// Tells a caller that nothing was done.
    fn refuse(&mut self, mail: Mail, turn: &mut Turn<'_>) {
        let to = match mail {
            Mail::Ask { from, ask } => {
                if let Some(answer) = self.answer_unasked(&ask, turn) {
                    return self.hand_out(Caller::Client(from), answer, turn);
                }
                Caller::Client(from)
            }
            Mail::Call { source, slot, .. } => Caller::Entity { source, slot },
            Mail::Batch { number, .. } => Caller::Batch(number),
            Mail::CallDone(..)
            | Mail::Report(_)
            | Mail::Wake { .. }
            | Mail::Granted { .. }
            | Mail::Fate { .. }
            | Mail::Reload { .. } => return,
        };
        self.hand_out(to, Err(AskError::Unavailable), turn);
    }

    /// What was read; a row that cannot be ends the process.
    pub(super) fn read<T>(&self, read: Result<T, StoreError>, turn: &mut Turn<'_>) -> Option<T> {
        read.map_err(|error| turn.out.push(Do::Damaged(error.to_string()))).ok()
    }

    fn receive(&mut self, key: EntityKey, mail: Mail, turn: &mut Turn<'_>) {
        let boot = self.boot_clock(turn.now);
        if let Some(entity) = self.hosting.live.get_mut(&key)
            && !matches!(mail, Mail::Wake { .. })
        {
            entity.last_active = boot;
        }
        match mail {
            Mail::Ask { from, ask } => self.on_ask(key, from, ask, turn),
            Mail::Call { source, slot, request } => self.on_call(key, Caller::Entity { source, slot }, request, turn),
            Mail::Batch { number, request } => self.on_call(key, Caller::Batch(number), request, turn),
            Mail::CallDone(slot, outcome) => self.step(key, Input::CallDone { slot, outcome }, turn),
            Mail::Report(report) => self.step(key, Input::Report(report), turn),
            Mail::Wake { .. } => self.step(key, Input::Wake, turn),
            Mail::Granted { slot, permit, .. } => self.on_granted(key, slot, permit, turn),
            Mail::Fate { version_before, fate, .. } => self.step(key, Input::Fate(version_before, fate), turn),
            Mail::Reload { .. } => {
                let rows = self.state.state.get(SHARD, &key);
                let Some(row) = self.read(rows, turn) else { return };
                let (version, state) = row.map_or((Version(0), None), |row| (row.version, Some(row.state)));
                self.step(key, Input::Reloaded { version, state }, turn);
            }
        }
        self.after_mail(key, turn);
    }

    fn on_granted(&mut self, key: EntityKey, slot: Slot, permit: Permit, turn: &mut Turn<'_>) {
        let lane = permit.lane;
        let awaited = self.hosting.live.get(&key).is_some_and(|entity| entity.driver.awaits_permit(slot, lane));
        if !awaited {
            self.give_back(permit, turn);
            return;
        }
        if let Some(entity) = self.hosting.live.get_mut(&key) {
            entity.permits.insert(slot, permit);
        }
        self.step(key, Input::Granted(slot, lane), turn);
    }

    fn on_ask(&mut self, key: EntityKey, from: Try, ask: Ask, turn: &mut Turn<'_>) {
        let Some(entity) = self.hosting.live.get(&key) else { return };
        let driver = &entity.driver;
        let in_flight = ask.idempotency.is_some_and(|(id, _)| driver.has_in_flight(id));
        if in_flight {
            return self.tell(Caller::Client(from), Err(AskError::KeyInFlight), turn);
        }
        let new = driver.version() == Version(0) && driver.is_quiet();
        if !new && turn.defect != Defect::ForgetDedup {
            let check = recall::check(&self.state.state, &self.hosting.kinds, SHARD, &ask, self.own_wall(turn.wall));
            match self.read(check, turn) {
                Some(IdempotencyCheck::Fresh) => {}
                Some(IdempotencyCheck::Settled(answer)) => return self.tell(Caller::Client(from), answer, turn),
                None => return,
            }
        }
        let Some(entity) = self.hosting.live.get_mut(&key) else { return };
        entity.waiter_seq += 1;
        let waiter = WaiterId(entity.waiter_seq);
        entity.waiters.insert(waiter, Caller::Client(from));
        let command_id = CommandId(ask.idempotency.map_or_else(|| turn.dice.id(), |(id, _)| id.0));
        let command = Command {
            waiter,
            bytes: ask.command,
            command_id,
            idempotency: ask.idempotency,
            if_version: ask.if_version,
            new_key: ask.new_key,
        };
        self.step(key, Input::Command(command), turn);
    }

    fn on_call(&mut self, key: EntityKey, from: Caller, request: EntityRequest, turn: &mut Turn<'_>) {
        let Some(entity) = self.hosting.live.get_mut(&key) else { return };
        entity.waiter_seq += 1;
        let waiter = WaiterId(entity.waiter_seq);
        entity.waiters.insert(waiter, from);
        let EntityRequest { command_id, command: bytes, .. } = request;
        let command = Command { waiter, bytes, command_id, idempotency: None, if_version: None, new_key: None };
        self.step(key, Input::Command(command), turn);
    }

    pub fn step(&mut self, key: EntityKey, input: Input, turn: &mut Turn<'_>) {
        let wall = self.time(turn).unwrap_or(Timestamp(0));
        let (boot, steady) = (self.boot_clock(turn.now), self.steady(turn));
        let granted = if let Input::Granted(slot, lane) = &input { Some((*slot, *lane)) } else { None };
        let asked = matches!(input, Input::Command(_));
        let Some(entity) = self.hosting.live.get_mut(&key) else { return };
        let now = Now { wall: wall.max(entity.driver.last_record()), boot, steady };
        let mut out = Vec::new();
        entity.driver.step(input, now, &mut out);
        for output in out {
            if let (Output::Propose(record), Some((slot, lane)), Defect::SendBeforeRecord) =
                (&output, granted, turn.defect)
            {
                self.call_before_record(key, slot, lane, record, turn);
            }
            if let (Output::Propose(record), true, Defect::AckBeforeCommit) = (&output, asked, turn.defect) {
                self.answer_before_commit(key, record, turn);
            }
            self.perform(key, output, turn);
        }
    }

    /// A defect: what follows the record is done without it.
    fn call_before_record(&mut self, key: EntityKey, slot: Slot, lane: Lane, record: &Record, turn: &mut Turn<'_>) {
        let kind = self.hosting.kinds.get(key.kind).expect("only registered kinds are hosted").clone();
        let Ok(row) = self.state.state.get(SHARD, &key) else { return };
        let mut live = kind.load(key, row.as_ref().map(|row| row.state.as_slice())).expect("a stored state decodes");
        if live.evolve(&record.events).is_ok() {
            let personal = live.sealed().and_then(|sealed| self.state.vault.open(key, &sealed).expect("it opens"));
            if let Some(request) = live.request(slot, personal.as_deref()) {
                let not_after = BootMillis(self.boot_clock(turn.now).0 + 2_000);
                self.begin_call(key, (slot, lane), request, not_after, turn);
            }
        }
    }

    fn answer_before_commit(&mut self, key: EntityKey, record: &Record, turn: &mut Turn<'_>) {
        let Some(entity) = self.hosting.live.get_mut(&key) else { return };
        let last = entity.waiters.last_key_value().map(|(waiter, to)| (*waiter, *to));
        let Some((waiter, Caller::Client(to))) = last else { return };
        entity.waiters.remove(&waiter);
        let answer = crate::actors::door::Answer {
            key,
            version: record.version_after(),
            state: Vec::new(),
            replayed: false,
            unwritten: false,
        };
        turn.out.push(Do::Reply { to, answer: Ok(answer) });
    }

    fn perform(&mut self, key: EntityKey, output: Output, turn: &mut Turn<'_>) {
        match output {
            Output::Propose(record) => self.propose(key, record),
            Output::Answer(waiter, answer) => {
                let to = self.hosting.live.get_mut(&key).and_then(|entity| entity.waiters.remove(&waiter));
                if let Some(to) = to {
                    self.tell(to, answer, turn);
                }
            }
            Output::RequestPermit { slot, lane, due } => self.request_permit(key, slot, lane, due, turn),
            Output::ReleasePermit(slot) => {
                let permit = self.hosting.live.get_mut(&key).and_then(|entity| entity.permits.remove(&slot));
                if let Some(permit) = permit {
                    self.give_back(permit, turn);
                }
            }
            Output::Perform { slot, lane, not_after } => self.open_and_call(key, slot, lane, not_after, turn),
            Output::Reload => {
                let entity = self.hosting.live.get(&key).map_or(0, |entity| entity.id);
                let delay = MS / 5 + turn.dice.below(2 * MS);
                turn.after(delay, self.event(NodeEvent::Reload { key, entity }));
            }
            Output::Corrupt { what } => turn.out.push(Do::Fail(format!("{} finds {key:?} corrupt: {what}", self.peer))),
        }
    }

    fn propose(&mut self, key: EntityKey, record: Record) {
        let (life, hosting) = (self.replica.life, &mut self.hosting);
        let entity = hosting.live.get(&key).map_or(0, |entity| entity.id);
        hosting.tags += 1;
        let tag = (life << 40) | hosting.tags;
        *hosting.outstanding.entry(key).or_default() += 1;
        hosting.proposals.insert(tag, Proposal { key, version_before: record.version_before, entity });
        hosting.inputs.push(CoreInput::Propose { tag, record });
    }

    /// What became of one of this node's own records.
    pub fn settle_record(&mut self, tag: u64, fate: RecordFate) {
        let Some(proposal) = self.forget_proposal(tag) else { return };
        let Proposal { key, version_before, entity } = proposal;
        self.hosting.mail.push_back((key, Mail::Fate { entity, version_before, fate }));
        self.release_held();
    }

    /// The core says that a record is not in the log, or that nobody can tell.
    pub fn record_dropped(&mut self, tag: u64, fate: DropFate) {
        match fate {
            DropFate::NotApplied => self.settle_record(tag, RecordFate::Void(VoidReason::Dropped)),
            DropFate::Unknown => {
                self.forget_proposal(tag);
                self.release_held();
            }
        }
    }

    fn forget_proposal(&mut self, tag: u64) -> Option<Proposal> {
        let proposal = self.hosting.proposals.remove(&tag)?;
        if let Some(count) = self.hosting.outstanding.get_mut(&proposal.key) {
            *count -= 1;
            if *count == 0 {
                self.hosting.outstanding.remove(&proposal.key);
            }
        }
        Some(proposal)
    }

    fn release_held(&mut self) {
        let hosting = &mut self.hosting;
        let ready: Vec<EntityKey> =
            hosting.held.keys().filter(|key| !hosting.outstanding.contains_key(key)).copied().collect();
        for key in ready {
            let held = hosting.held.remove(&key).unwrap_or_default();
            hosting.mail.extend(held.into_iter().map(|mail| (key, mail)));
        }
    }
}

#[cfg(debug_assertions)]
fn broken(mut driver: Driver, defect: Defect) -> Driver {
    driver.replies_early = defect == Defect::RefuseEarly;
    driver
}

#[cfg(not(debug_assertions))]
fn broken(driver: Driver, _defect: Defect) -> Driver {
    driver
}

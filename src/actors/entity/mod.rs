//! One live entity as a ractor actor: a thin shell around `Driver`. It owns the entity's state machine, arms its own
//! timer, holds its callers and its gateway permits, and leaves memory when nothing is due soon.

mod calls;
mod repeated;

use crate::actors::door::{Answer, Ask, AskError};
use crate::actors::driver::{Command, Driver, Input, Now, Output, WaiterId};
use crate::actors::life::Life;
use crate::actors::loading::{self, IdempotencyCheck, Loaded};
use crate::actors::seats::Seat;
use crate::actors::shard::ShardMsg;
use crate::actors::shared::Shared;
use crate::gateways::Permit;
use crate::types::call::{CallOutcome, EntityRequest, Report};
use crate::types::effect::{Lane, Slot};
use crate::types::ids::{CommandId, EntityKey, IdempotencyId, ShardId, Version};
use crate::types::kind::Kind;
use crate::types::limits::{ENTITY_WAITING_MAX, PASSIVATE_AFTER_MS, WAKE_AHEAD};
use crate::types::record::{RecordFate, Sealed};
use crate::types::time::{BootMillis, Millis, Timestamp};
use ractor::{Actor, ActorId, ActorProcessingErr, ActorRef};
use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use tokio::sync::oneshot;

/// Where an answer goes.
pub type AskReply = oneshot::Sender<Result<Answer, AskError>>;

/// Messages of a live entity.
pub enum EntityMsg {
    Loaded(Box<Loaded>),
    Ask(Box<Ask>, AskReply),
    /// A command of another entity.
    Call(Box<EntityRequest>, AskReply),
    /// The idempotency row of an ask was looked up.
    Checked(Box<Ask>, AskReply, IdempotencyCheck),
    Wake,
    Granted(Slot, Lane, Permit),
    /// The gateway dropped the slot's place in its queue.
    PlaceLost(Slot, Lane),
    /// Of the record that was decided at this version.
    Fate(Version, RecordFate),
    /// With the instant at which the call was due, when an earlier life of the entity made it.
    CallDone(Slot, Option<Timestamp>, CallOutcome),
    Report(Report),
    /// Personal data for a call, opened.
    Opened {
        slot: Slot,
        not_after: BootMillis,
        sealed: Sealed,
        personal: Option<Vec<u8>>,
    },
    Reloaded(Box<Loaded>),
    /// The shard has taken the entity out of its table; nothing new comes.
    Passivate,
    /// Ends the actor by a panic: proves that supervision loses nothing. Absent from every build but the tests'.
    #[cfg(test)]
    PanicForTest,
}

/// How often an entity looks whether its shard's time goes on again.
const STILL: Millis = Millis(200);

/// Starts the actor of one entity.
pub struct EntityArgs {
    pub key: EntityKey,
    pub shard_id: ShardId,
    pub kind: Arc<dyn Kind>,
    pub life: Life,
    pub shared: Arc<Shared>,
    pub shard: ActorRef<ShardMsg>,
    /// Already read by the wake-ahead loader; `None` reads it now.
    pub loaded: Option<Loaded>,
}

pub struct EntityActor;

/// The actor's state.
pub struct EntityShell {
    args: EntityArgs,
    id: ActorId,
    driver: Option<Driver>,
    /// Messages that came before the state was read, at most [`ENTITY_WAITING_MAX`].
    backlog: VecDeque<EntityMsg>,
    waiters: HashMap<WaiterId, AskReply>,
    waiter_seq: u64,
    permits: BTreeMap<Slot, Permit>,
    lanes: BTreeMap<Slot, Lane>,
    /// For what is due soon, until its place in a lane's queue takes it over.
    seats: Vec<Seat>,
    /// Idempotency ids whose row is being looked up.
    checking: HashSet<IdempotencyId>,
    personal: Option<(Sealed, Option<Vec<u8>>)>,
    timer: Option<tokio::task::AbortHandle>,
    armed_for: Option<u64>,
    busy_counted: bool,
    /// Its calls in flight that may be made twice, as they are counted.
    repeats_open: usize,
    last_active: BootMillis,
    leaving: Leaving,
}

/// The way out of memory. From the first step on nothing is begun, so nothing of its own is in flight.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Leaving {
    No,
    /// The shard was asked; what comes meanwhile is held back for the next actor.
    Asked,
    /// The shard no longer knows this actor.
    Let,
}

impl Drop for EntityShell {
    fn drop(&mut self) {
        if let Some(timer) = self.timer.take() {
            timer.abort();
        }
        if self.busy_counted {
            self.args.shared.counters.busy.fetch_sub(1, Ordering::Relaxed);
        }
        self.args.shared.repeats.count(self.args.shard_id, self.repeats_open, 0);
        self.bring_outcomes_home();
        self.refuse_undecided();
        self.args.shared.counters.live.fetch_sub(1, Ordering::Relaxed);
        if let Some(wakes) = &self.args.shared.wakes {
            // Its successor may have registered already.
            wakes.remove_if(&self.args.key, |_, (actor, _)| *actor == self.id);
        }
    }
}

// Local only: never advertised to peers.
impl ractor::Message for EntityMsg {}

impl Actor for EntityActor {
    type Msg = EntityMsg;
    type State = EntityShell;
    type Arguments = EntityArgs;

    async fn pre_start(
        &self,
        me: ActorRef<EntityMsg>,
        mut args: EntityArgs,
    ) -> Result<EntityShell, ActorProcessingErr> {
        let counters = &args.shared.counters;
        counters.live.fetch_add(1, Ordering::Relaxed);
        counters.busy.fetch_add(1, Ordering::Relaxed);
        let last_active = args.shared.clock.boot();
        let mut loaded = args.loaded.take();
        let seats = loaded.iter_mut().filter_map(|loaded| loaded.seat.take()).collect();
        let led_since = args.shared.led_since(args.shard_id);
        let loaded = loaded.filter(|loaded| loaded.is_fresh(led_since, last_active));
        let mut shell = EntityShell {
            args,
            id: me.get_id(),
            driver: None,
            backlog: VecDeque::new(),
            waiters: HashMap::new(),
            waiter_seq: 0,
            permits: BTreeMap::new(),
            lanes: BTreeMap::new(),
            seats,
            checking: HashSet::new(),
            personal: None,
            timer: None,
            armed_for: None,
            busy_counted: true,
            repeats_open: 0,
            last_active,
            leaving: Leaving::No,
        };
        match loaded {
            Some(loaded) => {
                shell.on_loaded(&me, loaded);
                shell.after(&me);
            }
            None => shell.load(&me, EntityMsg::Loaded),
        }
        Ok(shell)
    }

    async fn handle(
        &self,
        me: ActorRef<EntityMsg>,
        message: EntityMsg,
        shell: &mut EntityShell,
    ) -> Result<(), ActorProcessingErr> {
        shell.receive(&me, message);
        shell.after(&me);
        Ok(())
    }
}

impl EntityShell {
    fn now(&self) -> Now {
        let (shared, shard) = (&self.args.shared, self.args.shard_id);
        // An actor is started only once its shard has a time.
        let wall = shared.time(shard).unwrap_or(Timestamp(0));
        let last_record = self.driver.as_ref().map_or(wall, Driver::last_record);
        Now { wall: wall.max(last_record), boot: shared.clock.boot(), steady: shared.clock.steady() }
    }

    fn load(&self, me: &ActorRef<EntityMsg>, wrap: fn(Box<Loaded>) -> EntityMsg) {
        let (shared, shard, key, me) = (self.args.shared.clone(), self.args.shard_id, self.args.key, me.clone());
        self.args.shared.pool.run(move || {
            let loaded = loading::load(&shared, shard, key);
            if me.cast(wrap(Box::new(loaded))).is_err() {
                tracing::debug!(entity = ?key, "state read for an actor that has ended");
            }
        });
    }

    fn receive(&mut self, me: &ActorRef<EntityMsg>, message: EntityMsg) {
        if self.leaving != Leaving::No {
            self.receive_leaving(me, message);
            return;
        }
        if let EntityMsg::Loaded(loaded) = message {
            self.on_loaded(me, *loaded);
            return;
        }
        if self.driver.is_none() {
            self.hold_back(message);
            return;
        }
        // Its own timer is no sign of life: it would keep the entity in memory for good.
        if !matches!(message, EntityMsg::Wake) {
            self.last_active = self.args.shared.clock.boot();
        }
        match message {
            EntityMsg::Loaded(_) => {}
            EntityMsg::Ask(ask, reply) => self.on_ask(me, ask, reply),
            EntityMsg::Call(call, reply) => self.on_call(me, *call, reply),
            EntityMsg::Checked(ask, reply, check) => self.on_checked(me, *ask, reply, check),
            EntityMsg::Wake => {
                self.armed_for = None;
                self.step(me, Input::Wake);
            }
            // A place that was given up may still be served: its permit goes back by being dropped.
            EntityMsg::Granted(slot, lane, _) if !self.awaits_permit(slot, lane) => {}
            EntityMsg::Granted(slot, lane, _) if self.is_held(slot, lane) => self.step(me, Input::Busy(slot, lane)),
            EntityMsg::Granted(slot, lane, permit) => {
                self.permits.insert(slot, permit);
                self.step(me, Input::Granted(slot, lane));
            }
            EntityMsg::PlaceLost(slot, lane) => self.step(me, Input::Busy(slot, lane)),
            EntityMsg::Fate(version_before, fate) => self.step(me, Input::Fate(version_before, fate)),
            EntityMsg::CallDone(slot, due, outcome) => self.on_call_done(me, slot, due, outcome),
            EntityMsg::Report(report) => self.step(me, Input::Report(report)),
            EntityMsg::Opened { slot, not_after, sealed, personal } => {
                self.personal = Some((sealed, personal));
                // It may have been sealed anew meanwhile, and is then opened again.
                self.open_and_perform(me, slot, not_after);
            }
            EntityMsg::Reloaded(loaded) => {
                let input = Input::Reloaded { version: loaded.version, state: loaded.state };
                self.step(me, input);
            }
            // Comes only to an actor that asked for it.
            EntityMsg::Passivate => {}
            #[cfg(test)]
            EntityMsg::PanicForTest => panic!("asked to panic"),
        }
    }

    /// Nothing is begun here any more: what comes goes to the next actor, in order.
    fn receive_leaving(&mut self, me: &ActorRef<EntityMsg>, message: EntityMsg) {
        match (message, self.leaving) {
            (EntityMsg::Passivate, _) => {
                self.leaving = Leaving::Let;
                self.leave_on_disk();
                for message in std::mem::take(&mut self.backlog) {
                    self.args.shared.deliver(self.args.key, message);
                }
                if me.drain().is_err() {
                    me.stop(None);
                }
            }
            (
                message @ (EntityMsg::Ask(..) | EntityMsg::Call(..) | EntityMsg::Report(_) | EntityMsg::CallDone(..)),
                leaving,
            ) => match leaving {
                Leaving::Let => self.args.shared.deliver(self.args.key, message),
                Leaving::Asked | Leaving::No => self.hold_back(message),
            },
            // Of this actor alone, and stale: it was quiet when it asked to leave. A permit goes back by being dropped.
            (
                EntityMsg::Wake
                | EntityMsg::Granted(..)
                | EntityMsg::PlaceLost(..)
                | EntityMsg::Loaded(_)
                | EntityMsg::Reloaded(_)
                | EntityMsg::Checked(..)
                | EntityMsg::Opened { .. }
                | EntityMsg::Fate(..),
                _,
            ) => {}
            #[cfg(test)]
            (EntityMsg::PanicForTest, _) => panic!("asked to panic"),
        }
    }

    fn hold_back(&mut self, message: EntityMsg) {
        match message {
            EntityMsg::Wake => {}
            EntityMsg::Ask(_, reply) | EntityMsg::Call(_, reply) if self.backlog.len() >= ENTITY_WAITING_MAX => {
                // The caller may have given up.
                let _gone = reply.send(Err(AskError::Overloaded { retry_after_secs: 1 }));
            }
            other => self.backlog.push_back(other),
        }
    }

    fn on_loaded(&mut self, me: &ActorRef<EntityMsg>, loaded: Loaded) {
        let args = &self.args;
        let driver =
            Driver::new(args.key, args.kind.clone(), args.life.clone(), loaded.version, loaded.state.as_deref());
        let last_record = loaded.last_record;
        match driver {
            Ok(driver) => self.driver = Some(driver.after(last_record)),
            Err(_) => args.shared.fatal("a stored state does not decode: run `bojagi verify`"),
        }
        if let Some(sealed) = self.driver.as_ref().and_then(Driver::sealed)
            && loaded.personal_read
        {
            self.personal = Some((sealed, loaded.personal));
        }
        for message in std::mem::take(&mut self.backlog) {
            self.receive(me, message);
        }
        self.step(me, Input::Wake);
    }

    fn on_ask(&mut self, me: &ActorRef<EntityMsg>, ask: Box<Ask>, reply: AskReply) {
        let Some(driver) = &self.driver else { return };
        let Some((id, _)) = ask.idempotency else {
            self.command(me, *ask, reply);
            return;
        };
        if self.checking.contains(&id) || driver.has_in_flight(id) {
            let _gone = reply.send(Err(AskError::KeyInFlight));
            return;
        }
        if driver.version() == Version(0) && driver.is_quiet() {
            // The row is written by the record that creates the entity: there is none yet.
            self.command(me, *ask, reply);
            return;
        }
        self.checking.insert(id);
        let (shared, shard, me) = (self.args.shared.clone(), self.args.shard_id, me.clone());
        self.args.shared.pool.run(move || {
            let check = loading::check(&shared, shard, &ask);
            // A stopped actor drops the reply, which the caller sees.
            let _stopped = me.cast(EntityMsg::Checked(ask, reply, check));
        });
    }

    fn on_checked(&mut self, me: &ActorRef<EntityMsg>, ask: Ask, reply: AskReply, check: IdempotencyCheck) {
        if let Some((id, _)) = ask.idempotency {
            self.checking.remove(&id);
        }
        match check {
            IdempotencyCheck::Fresh => self.command(me, ask, reply),
            IdempotencyCheck::Settled(answer) => {
                let _gone = reply.send(answer);
            }
        }
    }

    fn command(&mut self, me: &ActorRef<EntityMsg>, ask: Ask, reply: AskReply) {
        let waiter = self.waiter(reply);
        let command_id = match ask.idempotency {
            Some((id, _)) => CommandId(id.0),
            None => loading::fresh_command_id(),
        };
        self.step(
            me,
            Input::Command(Command {
                waiter,
                bytes: ask.command,
                command_id,
                idempotency: ask.idempotency,
                if_version: ask.if_version,
                new_key: ask.new_key,
            }),
        );
    }

    fn step(&mut self, me: &ActorRef<EntityMsg>, input: Input) {
        let now = self.now();
        let Some(driver) = &mut self.driver else { return };
        let mut out = Vec::new();
        driver.step(input, now, &mut out);
        for output in out {
            self.perform_output(me, output);
        }
    }

    fn perform_output(&mut self, me: &ActorRef<EntityMsg>, output: Output) {
        match output {
            Output::Propose(record) => {
                let claim = self.args.life.claim;
                if self.args.shard.cast(ShardMsg::Propose { record, claim, from: me.clone() }).is_err() {
                    me.stop(None);
                }
            }
            Output::Answer(waiter, answer) => {
                if let Some(reply) = self.waiters.remove(&waiter) {
                    let _gone = reply.send(answer);
                }
            }
            Output::RequestPermit { slot, lane, due } => self.request_permit(me, slot, lane, due),
            Output::ReleasePermit(slot) => drop(self.permits.remove(&slot)),
            Output::Perform { slot, lane, not_after } => {
                self.lanes.insert(slot, lane);
                self.open_and_perform(me, slot, not_after);
            }
            Output::Reload => self.load(me, EntityMsg::Reloaded),
            Output::Corrupt { what } => self.args.shared.fatal(what),
        }
    }

    /// After every message: the busy gauge, the timer, and whether to leave memory.
    fn after(&mut self, me: &ActorRef<EntityMsg>) {
        if self.leaving != Leaving::No {
            return;
        }
        self.count_repeats();
        let idle = self.driver.as_ref().is_some_and(Driver::is_quiet)
            && self.waiters.is_empty()
            && self.checking.is_empty()
            && self.permits.is_empty();
        if idle == self.busy_counted {
            self.busy_counted = !idle;
            let change = if idle { -1 } else { 1 };
            self.args.shared.counters.busy.fetch_add(change, Ordering::Relaxed);
        }
        let Some(driver) = &self.driver else { return };
        let now = self.now();
        let next = driver.next_wake(now);
        if let (Some(wakes), Some(next)) = (&self.args.shared.wakes, next) {
            wakes.insert(self.args.key, (self.id, next));
        }
        // The loader goes by the rows on disk, which know nothing of a wait for an earlier life's attempt: whoever has
        // a row that is due, or nearly, stays. But not for a lane that has no room.
        let horizon = now.wall + WAKE_AHEAD + WAKE_AHEAD;
        let soon = driver.is_needed(horizon);
        self.seats.retain(|seat| driver.expects(seat.class().lane(), horizon));
        let idle_until = BootMillis(self.last_active.0 + PASSIVATE_AFTER_MS);
        if idle && !soon && now.boot >= idle_until {
            self.leaving = Leaving::Asked;
            if self.args.shard.cast(ShardMsg::PassivateMe(self.args.key, me.clone())).is_err() {
                me.stop(None);
            }
            return;
        }
        let mut wait = next.map_or(Millis(i64::MAX), |due| due - now.wall);
        if !self.args.shared.clocks.is_known(self.args.shard_id) {
            // The shard's time stands still: no use in looking often.
            wait = wait.max(STILL);
        }
        if let Some(due) = driver.own_wake() {
            wait = wait.min(span(now.boot, due));
        }
        if idle && !soon {
            wait = wait.min(span(now.boot, idle_until));
        }
        self.arm(me, now, wait);
    }

    /// Arms the entity's own timer. The wall clock is read again when it fires: late or on time, never early.
    fn arm(&mut self, me: &ActorRef<EntityMsg>, now: Now, wait: Millis) {
        if wait.0 == i64::MAX {
            return;
        }
        let wait_ms = u64::try_from(wait.0).unwrap_or(0).clamp(1, 3_600_000);
        let fires_at = now.boot.0 + wait_ms;
        // One that fires earlier looks again then: cheaper. Not one that should have fired: a suspended machine's stand still.
        if self.armed_for.is_some_and(|armed| now.boot.0 < armed && armed <= fires_at) {
            return;
        }
        if let Some(timer) = self.timer.take() {
            timer.abort();
        }
        self.armed_for = Some(fires_at);
        let me = me.clone();
        let sleep = tokio::time::sleep(std::time::Duration::from_millis(wait_ms));
        let task = tokio::spawn(async move {
            sleep.await;
            let _ended = me.cast(EntityMsg::Wake);
        });
        self.timer = Some(task.abort_handle());
    }
}

fn span(from: BootMillis, to: BootMillis) -> Millis {
    Millis(i64::try_from(to.0.saturating_sub(from.0)).unwrap_or(i64::MAX))
}

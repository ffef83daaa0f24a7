//! Calls that may be made twice (see [`crate::actors::repeats`]), over changes of leaders: a leader that hands over begins no
//! more of them; one whose shard is gone brings the outcomes home to the next; and the next waits for them a while before
//! it makes such a call again, and has it looked for first.

use super::{EntityMsg, EntityShell};
use crate::actors::driver::Input;
use crate::actors::repeats::is_repeated;
use crate::actors::router::{self, Request};
use crate::actors::shared::Shared;
use crate::types::call::{CallOutcome, CallRequest, Prior};
use crate::types::effect::{Guard, Lane, Slot};
use crate::types::ids::EntityKey;
use crate::types::level::FOURTH_LEVEL;
use crate::types::limits::CLOCK_UNCERTAINTY;
use crate::types::time::{Millis, Timestamp};
use ractor::ActorRef;
use std::sync::Arc;

/// How long a new leader waits for what the last one has still to say.
const HOMECOMING: Millis = Millis::from_secs(2);

impl EntityShell {
    /// Whether the slot's call is one of these.
    pub(super) fn is_repeated(&self, slot: Slot) -> bool {
        self.lanes.get(&slot).is_some_and(|lane| is_repeated(*lane))
    }

    /// Whether such a call is not begun now.
    pub(super) fn is_held(&self, slot: Slot, lane: Lane) -> bool {
        let (shared, shard) = (&self.args.shared, self.args.shard_id);
        if !is_repeated(lane) || shared.repeats.is_held(shard) {
            return is_repeated(lane);
        }
        let others = || !shared.routes.replicas(shard).is_empty();
        self.led_for() < HOMECOMING && self.due_before_us(slot).is_some() && others()
    }

    pub(super) fn count_repeats(&mut self) {
        let Some(driver) = &self.driver else { return };
        let open = driver.in_flight().filter(|slot| self.is_repeated(*slot)).count();
        self.args.shared.repeats.count(self.args.shard_id, self.repeats_open, open);
        self.repeats_open = open;
    }

    fn led_for(&self) -> Millis {
        let shared = &self.args.shared;
        let led_ms = shared.clock.boot().0.saturating_sub(shared.led_since(self.args.shard_id).0);
        Millis(i64::try_from(led_ms).unwrap_or(i64::MAX))
    }

    /// When the slot's call is due, as of the committed state; `None` unless it may be repeated.
    pub(super) fn due_of(&self, slot: Slot) -> Option<Timestamp> {
        let wants = self.driver.as_ref()?.wants();
        let want = wants.calls.iter().find(|call| call.slot == slot && call.guard == Guard::Repeatable)?;
        Some(want.due)
    }

    /// The same, if that was before this node led or about then: an earlier leader may have made it.
    fn due_before_us(&self, slot: Slot) -> Option<Timestamp> {
        let led_since = self.now().wall - self.led_for() + CLOCK_UNCERTAINTY;
        self.due_of(slot).filter(|due| *due <= led_since)
    }

    /// What comes home from an earlier life (`due`) may be known already: its record was committed after all, or it comes
    /// a second time. The slot is wanted at another instant then, or no more.
    pub(super) fn on_call_done(
        &mut self,
        me: &ActorRef<EntityMsg>,
        slot: Slot,
        due: Option<Timestamp>,
        outcome: CallOutcome,
    ) {
        let awaited = |due| self.driver.as_ref().is_some_and(|driver| driver.awaits_outcome(slot, due));
        if due.is_none_or(awaited) {
            self.step(me, Input::CallDone { slot, outcome });
        }
    }

    pub(super) fn note_earlier_leader(&self, slot: Slot, request: &mut CallRequest) {
        if let CallRequest::Message(message) = request
            && message.prior == Prior::None
            && let Some(since) = self.due_before_us(slot)
        {
            message.prior = Prior::Perhaps { since };
        }
    }

    /// The actor ends with outcomes that are not committed.
    pub(super) fn bring_outcomes_home(&self) {
        let outcomes = self.driver.iter().flat_map(|driver| driver.unsettled());
        for (slot, outcome) in outcomes.filter(|(slot, _)| self.is_repeated(*slot)) {
            if let Some(due) = self.due_of(slot) {
                bring_home(&self.args.shared, self.args.key, (slot, due), outcome);
            }
        }
    }
}

/// Brings the outcome of a call that was due then to its entity, wherever it lives now.
pub(super) fn bring_home(shared: &Arc<Shared>, key: EntityKey, (slot, due): (Slot, Timestamp), outcome: CallOutcome) {
    if shared.leads(shared.shard_of(&key)) {
        return shared.deliver(key, EntityMsg::CallDone(slot, Some(due), outcome));
    }
    let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
    if shared.gate.level() < FOURTH_LEVEL {
        return;
    }
    let shared = shared.clone();
    runtime.spawn(async move {
        if let Err(error) = router::route(&shared, Request::Outcome { key, slot, due, outcome }).await {
            tracing::debug!(%error, "an outcome did not come home; the call is made again");
        }
    });
}

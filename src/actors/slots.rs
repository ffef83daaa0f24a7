//! Where each wanted call of a live entity stands. Pure.

use crate::actors::driver::Now;
use crate::actors::life::Life;
use crate::types::call::CallOutcome;
use crate::types::effect::{CallWant, Effects, Lane, Slot};
use crate::types::limits::{ATTEMPT_NOT_AFTER, ATTEMPT_NOT_AFTER_MAX, GATEWAY_BUSY_RETRY};
use crate::types::time::{Millis, Timestamp};
use std::collections::BTreeMap;

/// | phase | leaves by |
/// |---|---|
/// | Idle | due and no attempt of another life open → Queued |
/// | Queued | permit granted → Starting (fenced) or Performing; no room in the lane → Crowded; another lane wanted → Idle |
/// | Starting | `AttemptStarted` applied → Performing; void → Idle |
/// | Performing | outcome → Settling |
/// | Settling | the record with the outcome applied → Idle |
/// | Waiting, Crowded | until its instant → Idle |
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SlotPhase {
    Idle,
    /// Has a place in the queue of this lane, which may no longer be the one that is wanted.
    Queued(Lane),
    Starting,
    Performing,
    /// The outcome is known and not committed yet.
    Settling,
    Waiting(Timestamp),
    /// The lane had no room. Nothing is held: the entity may leave memory, its want stays on disk.
    Crowded(Timestamp),
}

/// Phases by slot; a slot that is not listed is idle.
#[derive(Debug, Default)]
pub struct Slots {
    life: Life,
    phases: BTreeMap<Slot, SlotPhase>,
    /// Of slots whose last try was not begun in time: how long the next one has.
    stretched: BTreeMap<Slot, Millis>,
}

impl Slots {
    #[must_use]
    pub fn new(life: Life) -> Self {
        Self { life, ..Self::default() }
    }
    #[must_use]
    pub fn phase(&self, slot: Slot) -> SlotPhase {
        self.phases.get(&slot).copied().unwrap_or(SlotPhase::Idle)
    }

    /// No permit is held or asked for and no call runs.
    #[must_use]
    pub fn all_idle(&self) -> bool {
        self.phases.values().all(|phase| match phase {
            SlotPhase::Idle | SlotPhase::Crowded(_) => true,
            SlotPhase::Queued(_)
            | SlotPhase::Starting
            | SlotPhase::Performing
            | SlotPhase::Settling
            | SlotPhase::Waiting(_) => false,
        })
    }

    /// When the call is next worth a look; `None` while it is being worked on.
    #[must_use]
    pub fn next_wake(&self, call: &CallWant, now: Now) -> Option<Timestamp> {
        let ready = || call.open.map_or(call.due, |open| call.due.max(self.life.ends(open, now)));
        match self.phase(call.slot) {
            SlotPhase::Idle => Some(ready()),
            SlotPhase::Waiting(until) | SlotPhase::Crowded(until) => Some(until.max(ready())),
            SlotPhase::Queued(_) | SlotPhase::Starting | SlotPhase::Performing | SlotPhase::Settling => None,
        }
    }

    /// Whether a call is next worth a look at some instant.
    #[must_use]
    pub fn is_waiting(&self, slot: Slot) -> bool {
        matches!(self.phase(slot), SlotPhase::Idle | SlotPhase::Waiting(_) | SlotPhase::Crowded(_))
    }

    /// Whether a permit should be asked for now.
    #[must_use]
    pub fn may_queue(&self, call: &CallWant, now: Now) -> bool {
        self.next_wake(call, now).is_some_and(|at| at <= now.wall)
    }

    /// The lane in whose queue the slot has a place.
    #[must_use]
    pub fn queued_in(&self, slot: Slot) -> Option<Lane> {
        match self.phase(slot) {
            SlotPhase::Queued(lane) => Some(lane),
            SlotPhase::Idle
            | SlotPhase::Starting
            | SlotPhase::Performing
            | SlotPhase::Settling
            | SlotPhase::Waiting(_)
            | SlotPhase::Crowded(_) => None,
        }
    }
    /// Whether the slot was refused by its lane and waits for room.
    #[must_use]
    pub fn is_crowded(&self, slot: Slot) -> bool {
        matches!(self.phase(slot), SlotPhase::Crowded(_))
    }

    /// Slots whose call was made and whose outcome is not committed yet.
    pub fn in_flight(&self) -> impl Iterator<Item = Slot> + '_ {
        let open = |phase: &SlotPhase| matches!(phase, SlotPhase::Performing | SlotPhase::Settling);
        self.phases.iter().filter(move |(_, phase)| open(phase)).map(|(slot, _)| *slot)
    }

    pub fn queue(&mut self, slot: Slot, lane: Lane) {
        self.phases.insert(slot, SlotPhase::Queued(lane));
    }
    pub fn crowded(&mut self, slot: Slot, now: Timestamp) {
        self.phases.insert(slot, SlotPhase::Crowded(now + GATEWAY_BUSY_RETRY));
    }
    pub fn starting(&mut self, slot: Slot) {
        self.phases.insert(slot, SlotPhase::Starting);
    }
    pub fn performing(&mut self, slot: Slot) {
        self.phases.insert(slot, SlotPhase::Performing);
    }
    pub fn pause(&mut self, slot: Slot, now: Timestamp) {
        self.phases.insert(slot, SlotPhase::Waiting(now + GATEWAY_BUSY_RETRY));
    }
    /// The call has come to this.
    pub fn settling(&mut self, slot: Slot, outcome: &CallOutcome) {
        self.phases.insert(slot, SlotPhase::Settling);
        if outcome.is_not_begun() {
            let longer = Millis(self.not_after(slot).0 * 2).min(ATTEMPT_NOT_AFTER_MAX);
            self.stretched.insert(slot, longer);
        } else {
            self.stretched.remove(&slot);
        }
    }
    /// How long after its record was decided the slot's next try may begin.
    #[must_use]
    pub fn not_after(&self, slot: Slot) -> Millis {
        self.stretched.get(&slot).copied().unwrap_or(ATTEMPT_NOT_AFTER)
    }
    pub fn forget(&mut self, slot: Slot) {
        self.phases.remove(&slot);
    }

    /// Forgets queued and waiting slots that the state no longer wants, or wants on another lane; returns those with a
    /// place in a queue.
    pub fn retain_wanted(&mut self, wants: &Effects) -> Vec<Slot> {
        let mut withdrawn = Vec::new();
        self.stretched.retain(|slot, _| wants.calls.iter().any(|call| call.slot == *slot));
        self.phases.retain(|slot, phase| {
            let lane = || wants.calls.iter().find(|call| call.slot == *slot).map(|call| call.lane);
            match phase {
                SlotPhase::Queued(queued) if lane() != Some(*queued) => {
                    withdrawn.push(*slot);
                    false
                }
                SlotPhase::Waiting(_) | SlotPhase::Crowded(_) if lane().is_none() => false,
                SlotPhase::Idle
                | SlotPhase::Queued(_)
                | SlotPhase::Starting
                | SlotPhase::Performing
                | SlotPhase::Settling
                | SlotPhase::Waiting(_)
                | SlotPhase::Crowded(_) => true,
            }
        });
        withdrawn
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::call::{MessageOutcome, NOT_BEGUN};
    use crate::types::effect::{Channel, Guard};

    fn not_sent(cause: &str) -> CallOutcome {
        CallOutcome::Message(MessageOutcome::NotSent { cause: cause.to_owned() })
    }

    #[test]
    fn a_try_that_was_not_begun_in_time_has_more_of_it_the_next_time() {
        let (mut slots, slot) = (Slots::default(), Slot(1));
        let mut spans = vec![slots.not_after(slot).0];
        for _ in 0..3 {
            slots.settling(slot, &not_sent(NOT_BEGUN));
            spans.push(slots.not_after(slot).0);
        }
        assert_eq!(spans, [2_000, 4_000, 8_000, 8_000]);
        assert_eq!(slots.not_after(Slot(2)), ATTEMPT_NOT_AFTER);
        slots.settling(slot, &not_sent("the provider is away"));
        assert_eq!(slots.not_after(slot), ATTEMPT_NOT_AFTER);
        slots.settling(slot, &not_sent(NOT_BEGUN));
        let want =
            CallWant { slot, lane: Lane::Send(Channel::Sms), due: Timestamp(0), guard: Guard::Fenced, open: None };
        slots.retain_wanted(&Effects { calls: vec![want], ..Effects::default() });
        assert_eq!(slots.not_after(slot).0, 4_000);
        slots.retain_wanted(&Effects::default());
        assert_eq!(slots.not_after(slot), ATTEMPT_NOT_AFTER, "it is wanted no more");
    }
}

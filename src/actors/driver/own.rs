//! The entity's own work: outcomes to commit, reports, timers and calls that are due.

use super::fates::Standing;
use super::too_large::TOO_LARGE_PAUSE;
use super::{COALESCE, COALESCE_ENTITY, Driver, Now, Output, Pending, Source, TIMER_PAUSE};
use crate::types::call::{CallOutcome, EntityOutcome};
use crate::types::effect::{CallWant, Effects, Guard, Lane, Slot};
use crate::types::kind::AttemptStart;
use crate::types::time::BootMillis;

impl Driver {
    /// Does whatever is due and possible now.
    pub(super) fn advance(&mut self, now: Now, out: &mut Vec<Output>) {
        if !self.can_decide() {
            return;
        }
        self.commit_outcomes(now, out);
        while self.can_take()
            && let Some(report) = self.reports.pop_front()
        {
            let bytes = self.state().report_command(report.clone());
            self.decide_internal(&bytes, Source::Report(report), now, out);
        }
        self.take_waiting(now, out);
        self.fire_timers(now, out);
        self.start_calls(now, out);
    }

    /// An outcome to be committed, soon enough for its sort.
    pub(super) fn note_outcome(&mut self, outcome: (Slot, CallOutcome), now: Now) {
        let span = match &outcome.1 {
            CallOutcome::Entity(_) => COALESCE_ENTITY,
            CallOutcome::Message(_) | CallOutcome::Payment(_) | CallOutcome::Shipment(_) => COALESCE,
        };
        let by = BootMillis(now.boot.0 + span);
        self.outcomes_by = Some(self.outcomes_by.map_or(by, |known| known.min(by)));
        self.outcomes.push(outcome);
    }

    fn commit_outcomes(&mut self, now: Now, out: &mut Vec<Output>) {
        let Some(by) = self.outcomes_by else { return };
        let fenced =
            |slot: &Slot| self.wants.calls.iter().any(|call| call.slot == *slot && matches!(call.guard, Guard::Fenced));
        let urgent = self.outcomes.iter().any(|(slot, _)| fenced(slot));
        if !urgent && now.boot < by {
            return;
        }
        let outcomes = std::mem::take(&mut self.outcomes);
        self.outcomes_by = None;
        let bytes = self.state().outcome_command(outcomes.clone());
        self.decide_internal(&bytes, Source::Outcomes(outcomes), now, out);
    }

    /// One record at a time: what the first changes decides whether the next is still wanted.
    fn fire_timers(&mut self, now: Now, out: &mut Vec<Output>) {
        if self.timers_after.is_some_and(|after| now.wall < after) || self.timer_in_flight() || !self.can_decide() {
            return;
        }
        let due: Vec<Slot> =
            self.wants.timers.iter().filter(|timer| timer.due <= now.wall).map(|timer| timer.slot).collect();
        if due.is_empty() {
            return;
        }
        (self.timers_after, self.too_large.timer) = (None, false);
        for slot in due {
            let bytes = self.state().timer_command(slot);
            self.decide_internal(&bytes, Source::Timer, now, out);
            if self.timer_in_flight() {
                return;
            }
        }
        self.timers_after = Some(now.wall + if self.too_large.timer { TOO_LARGE_PAUSE } else { TIMER_PAUSE });
    }

    pub(super) fn timer_in_flight(&self) -> bool {
        self.pipeline.iter().any(|pending| matches!(pending, Pending::Record { source: Source::Timer, .. }))
    }

    fn start_calls(&mut self, now: Now, out: &mut Vec<Output>) {
        if self.standing != Standing::Sound {
            return;
        }
        for slot in self.slots.retain_wanted(&self.wants) {
            out.push(Output::ReleasePermit(slot));
        }
        let mut ahead = None;
        for index in 0..self.wants.calls.len() {
            let call = &self.wants.calls[index];
            if self.slots.may_queue(call, now) && self.still_wanted(call, &mut ahead) {
                let (slot, lane, due) = (call.slot, call.lane, call.due);
                self.slots.queue(slot, lane);
                out.push(Output::RequestPermit { slot, lane, due });
            }
        }
    }

    /// Whether the records in flight leave the call as it is. `ahead` keeps the wants of the speculative state.
    fn still_wanted(&self, call: &CallWant, ahead: &mut Option<Effects>) -> bool {
        let Some(speculative) = &self.speculative else { return true };
        let ahead = ahead.get_or_insert_with(|| speculative.wants());
        ahead.calls.iter().any(|other| other.slot == call.slot && other.lane == call.lane)
    }

    pub(super) fn on_granted(&mut self, slot: Slot, lane: Lane, now: Now, out: &mut Vec<Output>) {
        if !self.awaits_permit(slot, lane) {
            return;
        }
        let wanted = self.wants.calls.iter().find(|call| call.slot == slot && call.lane == lane);
        let wanted = wanted.filter(|call| self.can_decide() && self.still_wanted(call, &mut None));
        let Some(guard) = wanted.map(|call| call.guard) else {
            // `advance` asks again for what is still wanted, on the lane that it is wanted on.
            self.slots.forget(slot);
            out.push(Output::ReleasePermit(slot));
            return;
        };
        let span = self.slots.not_after(slot);
        let not_after = BootMillis(now.boot.0 + span.0.unsigned_abs());
        match guard {
            Guard::Repeatable => {
                self.slots.performing(slot);
                out.push(Output::Perform { slot, lane, not_after });
            }
            Guard::Fenced => {
                let start = AttemptStart { slot, claim: self.claim, not_after: span };
                let bytes = self.state().attempt_command(start);
                self.slots.starting(slot);
                let source = Source::Attempt { slot, lane, not_after };
                self.decide_internal(&bytes, source, now, out);
            }
        }
    }

    /// The state has moved on: the timer, attempt, outcome or report means nothing to it any more.
    pub(super) fn not_decided(&mut self, source: Source, now: Now, out: &mut Vec<Output>) {
        match source {
            Source::Attempt { slot, .. } => {
                self.slots.pause(slot, now.wall);
                out.push(Output::ReleasePermit(slot));
            }
            Source::Outcomes(outcomes) => self.settled(&outcomes, now),
            Source::Callers(_) | Source::Timer | Source::Report(_) => {}
        }
    }

    /// The outcomes are committed, or lead to nothing. Another entity that could not be reached is not asked again at
    /// once.
    pub(super) fn settled(&mut self, outcomes: &[(Slot, CallOutcome)], now: Now) {
        for (slot, outcome) in outcomes {
            match outcome {
                CallOutcome::Entity(EntityOutcome::Unknown { .. }) => self.slots.pause(*slot, now.wall),
                CallOutcome::Entity(EntityOutcome::Done { .. } | EntityOutcome::Rejected { .. })
                | CallOutcome::Message(_)
                | CallOutcome::Payment(_)
                | CallOutcome::Shipment(_) => self.slots.forget(*slot),
            }
        }
    }
}

//! What becomes of the records in flight: applied in order, or void with everything that was decided after them.

use super::{Driver, Now, Output, Pending, Source};
use crate::actors::door::AskError;
use crate::types::ids::Version;
use crate::types::limits::DROP_PAUSES_MS;
use crate::types::record::{RecordFate, VoidReason};
use crate::types::time::BootMillis;

/// Whether the speculative state may be built on.
///
/// | from | by | to |
/// |---|---|---|
/// | Sound | a void record | Voided |
/// | Voided | the fates of all records behind it, and the end of the pause if one was dropped | Reloading |
/// | Reloading | the state as it was read | Sound |
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    Sound,
    Voided { pause_until: Option<BootMillis> },
    Reloading,
}

impl Driver {
    /// Notes the fate of one record, then settles what has come to the front with a fate.
    pub(super) fn on_fate(&mut self, version_before: Version, fate: RecordFate, now: Now, out: &mut Vec<Output>) {
        let known = self.pipeline.iter_mut().find_map(|pending| match pending {
            Pending::Record { version_before: version, fate, .. } if *version == version_before => Some(fate),
            Pending::Record { .. } | Pending::Reply { .. } => None,
        });
        let Some(known) = known else {
            out.push(Output::Corrupt { what: "fate without a record" });
            return;
        };
        *known = Some(fate);
        self.release_replies(out);
        while matches!(self.pipeline.front(), Some(Pending::Record { fate: Some(_), .. })) {
            let Some(Pending::Record { fate: Some(fate), events, source, .. }) = self.pipeline.pop_front() else {
                return;
            };
            self.records_in_flight -= 1;
            self.settle_oldest(fate, &events, source, now, out);
        }
    }

    /// What was decided on a void record is settled, and the pause is over: the state is read again.
    pub(super) fn reload_if_voided(&mut self, now: Now, out: &mut Vec<Output>) {
        let Standing::Voided { pause_until } = self.standing else { return };
        if self.pipeline.is_empty() && pause_until.is_none_or(|until| now.boot >= until) {
            self.standing = Standing::Reloading;
            out.push(Output::Reload);
        }
    }

    fn settle_oldest(&mut self, fate: RecordFate, events: &[u8], source: Source, now: Now, out: &mut Vec<Output>) {
        match fate {
            RecordFate::Applied(version) => {
                self.drops = 0;
                self.committed_moves_to(version, events, out);
                self.settle_applied(source, now, out);
                self.release_replies(out);
            }
            RecordFate::Void(reason) => {
                self.note_void(reason, now);
                self.settle_void(source, now, out);
                self.void_replies(out);
            }
        }
    }

    /// The first drop of those that are void together begins the pause: whoever dropped it would drop it again at once. What
    /// is void by the log is decided differently on the state as it is now.
    fn note_void(&mut self, reason: VoidReason, now: Now) {
        let mut pause_until = match self.standing {
            Standing::Voided { pause_until } => pause_until,
            Standing::Sound | Standing::Reloading => None,
        };
        if reason == VoidReason::Dropped && pause_until.is_none() {
            let pause_ms = DROP_PAUSES_MS[self.drops.min(DROP_PAUSES_MS.len() - 1)];
            self.drops = self.drops.saturating_add(1);
            pause_until = Some(BootMillis(now.boot.0 + pause_ms));
        }
        self.standing = Standing::Voided { pause_until };
    }

    fn committed_moves_to(&mut self, version: Version, events: &[u8], out: &mut Vec<Output>) {
        self.version = version;
        self.timers_after = None;
        let before = self.committed.outcome();
        if self.pipeline.iter().any(|pending| matches!(pending, Pending::Record { .. })) {
            if self.committed.evolve(events).is_err() {
                out.push(Output::Corrupt { what: "applied events" });
            }
        } else if let Some(ahead) = self.speculative.take() {
            self.committed = ahead;
        }
        self.wants = self.committed.wants();
        if let Some((of, result)) = self.committed.outcome().filter(|after| before != Some(*after)) {
            metrics::counter!("bojagi_outcomes_total", "of" => of, "result" => result).increment(1);
        }
    }

    fn settle_applied(&mut self, source: Source, now: Now, out: &mut Vec<Output>) {
        match source {
            Source::Callers(waiters) => {
                let answer = self.answer();
                out.extend(waiters.into_iter().map(|waiter| Output::Answer(waiter, Ok(answer.clone()))));
            }
            Source::Attempt { slot, lane, not_after } => {
                self.slots.performing(slot);
                out.push(Output::Perform { slot, lane, not_after });
            }
            Source::Outcomes(outcomes) => self.settled(&outcomes, now),
            Source::Timer | Source::Report(_) => {}
        }
    }

    fn settle_void(&mut self, source: Source, now: Now, out: &mut Vec<Output>) {
        match source {
            Source::Callers(waiters) => {
                out.extend(waiters.into_iter().map(|waiter| Output::Answer(waiter, Err(AskError::Unavailable))));
            }
            Source::Attempt { slot, .. } => {
                self.slots.forget(slot);
                out.push(Output::ReleasePermit(slot));
            }
            Source::Outcomes(outcomes) => {
                for outcome in outcomes {
                    self.note_outcome(outcome, now);
                }
            }
            Source::Report(report) => self.reports.push_back(report),
            Source::Timer => {}
        }
    }

    /// Replies decided on a state that never came to be.
    fn void_replies(&mut self, out: &mut Vec<Output>) {
        self.pipeline.retain(|pending| match pending {
            Pending::Reply { waiter, .. } => {
                out.push(Output::Answer(*waiter, Err(AskError::Unavailable)));
                false
            }
            Pending::Record { .. } => true,
        });
    }

    pub(super) fn on_reloaded(&mut self, version: Version, state: Option<&[u8]>, out: &mut Vec<Output>) {
        let Ok(loaded) = self.kind.load(self.key, state) else {
            out.push(Output::Corrupt { what: "stored state" });
            return;
        };
        self.wants = loaded.wants();
        self.committed = loaded;
        self.version = version;
        self.speculative = None;
        self.speculative_version = version;
        self.standing = Standing::Sound;
    }
}

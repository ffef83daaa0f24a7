//! Steps whose events no record holds. The shard would drop such a record again and again, so it is not proposed: nothing of
//! the step is done, and it is not decided anew all the time.
//!
//! | step of | then |
//! |---|---|
//! | callers | each is refused with `TooLarge` |
//! | several outcomes | each is decided by itself |
//! | one outcome | its slot stays as it is: the call, whose outcome cannot be noted, is not made again by this leader |
//! | an attempt | its slot stays as it is: the call is not made by this leader |
//! | a timer | it is looked at again after [`TOO_LARGE_PAUSE`], or when the state has changed |
//! | a report | it is forgotten |
//!
//! All are counted. The first of an entity's own is an error in the log: it is a defect of the kind.

use super::{Driver, Now, Output, Source, Step};
use crate::actors::door::AskError;
use crate::types::time::Millis;

/// How long a timer waits that leads to more than a record holds.
pub(super) const TOO_LARGE_PAUSE: Millis = Millis::from_hours(1);

/// What is known of the entity's own steps.
#[derive(Default)]
pub(super) struct TooLarge {
    /// One is in the log.
    told: bool,
    /// A timer that was just looked at leads to one.
    pub(super) timer: bool,
}

pub(super) fn count_too_large() {
    metrics::counter!("bojagi_records_too_large_total").increment(1);
}

impl Driver {
    pub(super) fn refuse_too_large(&mut self, step: Step, now: Now, out: &mut Vec<Output>) {
        let bytes = step.events.len();
        let of = match step.source {
            Source::Callers(waiters) => {
                count_too_large();
                waiters.into_iter().for_each(|waiter| self.reply(waiter, Err(AskError::TooLarge), out));
                return;
            }
            Source::Outcomes(outcomes) if outcomes.len() > 1 => {
                for outcome in outcomes {
                    let alone = vec![outcome];
                    let command = self.state().outcome_command(alone.clone());
                    self.decide_internal(&command, Source::Outcomes(alone), now, out);
                }
                return;
            }
            Source::Outcomes(_) => "outcome",
            Source::Attempt { slot, .. } => {
                out.push(Output::ReleasePermit(slot));
                "attempt"
            }
            Source::Timer => {
                self.too_large.timer = true;
                "timer"
            }
            Source::Report(_) => "report",
        };
        count_too_large();
        if !std::mem::replace(&mut self.too_large.told, true) {
            tracing::error!(entity = ?self.key, of, bytes, "a step is larger than any record: it is not done");
        }
    }
}

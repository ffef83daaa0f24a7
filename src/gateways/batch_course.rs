//! What follows from the reply to a batch, sans I/O: an outcome for each member, one observation of the provider for the
//! whole call, and whether the batch is over. `gateways::batching` drives it with real clients, the simulator with
//! providers in memory.
//!
//! | the reply | members | the batch |
//! |---|---|---|
//! | names each member, accepted or refused | each its own | over: answered |
//! | leaves a member out, is -1005, is none at all | `Unknown` where nothing is known | open: looked up first |
//! | turns a repeat away: not reached, throttled, failed | `Unknown`: an earlier call may come yet | open: looked up first |
//! | was never asked for: `not_after` had passed | `NotSent`, once the batch is closed | over: never sent |

use crate::gateways::course::{Cut, Ended, MessageCourse};
use crate::gateways::policy::Health;
use crate::gateways::policy::concurrency::Micros;
use crate::providers::Ability;
use crate::types::batch::{BodyHash, Member, Sheet, batch_key};
use crate::types::call::{MessageOutcome, MessageRequest, Prior};
use crate::types::time::{Millis, Timestamp};

/// The window of the provider's key, when attempts to it may share a call: a batch is repeated under its key, and each
/// member can be looked up. `None`: each leaves alone.
pub(crate) fn batch_window(ability: Ability) -> Option<Millis> {
    ability.key_window.filter(|_| ability.lookup && ability.batch_max > 1)
}

/// What is written down before the call for these requests, whose members are in the same order.
pub(crate) fn sheet(provider: &str, window: Millis, members: Vec<Member>, requests: &[MessageRequest]) -> Sheet {
    let references: Vec<&str> = requests.iter().map(|request| request.reference.as_str()).collect();
    let (key, body) = (batch_key(&references), BodyHash::of(requests));
    Sheet { provider: provider.to_owned(), key, members, body, window }
}

/// What came of one call for several.
#[derive(Debug)]
pub(crate) struct BatchEnd {
    /// One for each member, in order.
    pub outcomes: Vec<MessageOutcome>,
    /// Of the one call.
    pub health: Health,
}

impl BatchEnd {
    /// The reply to a call for `count` members.
    pub(crate) fn of(
        (provider, ability): (&'static str, Ability),
        count: usize,
        answer: Result<Vec<MessageOutcome>, Cut>,
        latency: Micros,
        now: Timestamp,
    ) -> Self {
        let (course, _) = MessageCourse::begin(provider, ability, Prior::None, now);
        let each: Vec<Result<Vec<MessageOutcome>, Cut>> = match answer {
            Ok(outcomes) if outcomes.len() == count => outcomes.into_iter().map(|one| Ok(vec![one])).collect(),
            // Not one for each: nothing is known of any.
            Ok(_) => (0..count).map(|_| Ok(Vec::new())).collect(),
            Err(cut) => (0..count).map(|_| Err(cut)).collect(),
        };
        let ended: Vec<Ended<MessageOutcome>> =
            each.into_iter().map(|answer| course.sent(answer, latency, now)).collect();
        let health = observed(ended.iter().map(|ended| ended.health));
        Self { outcomes: ended.into_iter().map(|ended| ended.outcome).collect(), health }
    }

    /// The reply to a call that was made again. Only a reply for somebody shows that the provider has had the call, so
    /// that its key is taken and an earlier call comes to nothing. A refusal at the door says nothing of that one: told to
    /// the members, it would let them try anew under other keys.
    pub(crate) fn of_repeat(mut self) -> Self {
        if !matches!(self.health, Health::Good { .. }) {
            for outcome in &mut self.outcomes {
                if let MessageOutcome::Refused { code, .. } = outcome {
                    *outcome = MessageOutcome::Unknown { cause: format!("the repeat was turned away: {code}") };
                }
            }
        }
        self
    }

    /// Whether the provider, or that it was never asked, says of each member what became of it.
    pub(crate) fn is_definite(&self) -> bool {
        self.outcomes.iter().all(|outcome| match outcome {
            MessageOutcome::Accepted { .. } | MessageOutcome::Refused { .. } | MessageOutcome::NotSent { .. } => true,
            MessageOutcome::Unknown { .. } | MessageOutcome::Unconfirmed { .. } => false,
        })
    }

    /// Whether the call was not made at all.
    pub(crate) fn was_never_sent(&self) -> bool {
        self.outcomes.iter().all(|outcome| matches!(outcome, MessageOutcome::NotSent { .. }))
    }
}

/// One call is one observation: an answer for anybody is an answer.
fn observed(healths: impl Iterator<Item = Health> + Clone) -> Health {
    let good = |health: &Health| matches!(health, Health::Good { .. });
    healths.clone().find(good).or_else(|| healths.clone().next()).unwrap_or(Health::Void)
}

/// What the other members say of the provider, after the first has said `health` for all: they fill the concurrency that
/// they took, and are no calls of their own.
pub(crate) fn mate_of(health: Health) -> Health {
    match health {
        Health::Good { latency: Some(latency) } => Health::Mate { latency },
        Health::Good { latency: None }
        | Health::Mate { .. }
        | Health::Throttled { .. }
        | Health::Overloaded
        | Health::Unreachable
        | Health::Void => Health::Void,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gateways::testing::{NEITHER, START, accepted, refused, timed_out};
    use crate::types::call::RefusalClass;

    const NHN: Ability = Ability { key_window: Some(Millis(600_000)), lookup: true, batch_max: 1_000 };
    const TOOK: Micros = Micros(9);

    fn end(count: usize, answer: Result<Vec<MessageOutcome>, Cut>) -> BatchEnd {
        BatchEnd::of(("fake", NHN), count, answer, TOOK, START)
    }

    #[test]
    fn only_who_keeps_a_key_and_can_be_asked_takes_batches() {
        assert_eq!(batch_window(NHN), Some(Millis(600_000)));
        assert_eq!(batch_window(Ability { lookup: false, ..NHN }), None);
        assert_eq!(batch_window(Ability { batch_max: 1, ..NHN }), None);
        assert_eq!(batch_window(Ability { batch_max: 1_000, ..NEITHER }), None);
    }

    #[test]
    fn each_member_of_a_half_failed_batch_has_its_own_outcome_and_it_is_one_good_call() {
        let no = refused("-5000", RefusalClass::NextChannel);
        let ended = end(2, Ok(vec![no.clone(), accepted()]));
        assert_eq!(ended.outcomes, [no, accepted()]);
        assert_eq!(ended.health, Health::Good { latency: Some(TOOK) });
        assert!(ended.is_definite() && !ended.was_never_sent());
        assert_eq!(mate_of(ended.health), Health::Mate { latency: TOOK });
    }

    #[test]
    fn a_member_that_the_reply_leaves_out_keeps_the_batch_open() {
        let ended = end(2, Ok(vec![accepted(), timed_out()]));
        assert!(!ended.is_definite());
        assert_eq!(ended.health, Health::Good { latency: Some(TOOK) });
        let short = end(2, Ok(vec![accepted()]));
        assert!(short.outcomes.iter().all(|outcome| matches!(outcome, MessageOutcome::Unknown { .. })));
    }

    #[test]
    fn a_batch_without_a_reply_is_unknown_for_all_and_one_overload() {
        let ended = end(3, Err(Cut::Late));
        assert_eq!(ended.outcomes.len(), 3);
        assert!(!ended.is_definite());
        assert_eq!((ended.health, mate_of(ended.health)), (Health::Overloaded, Health::Void));
    }

    #[test]
    fn a_batch_past_its_not_after_was_never_sent() {
        let ended = end(2, Err(Cut::NotBegun));
        assert!(ended.was_never_sent() && ended.is_definite());
        assert_eq!(ended.health, Health::Void);
    }

    #[test]
    fn a_repeat_that_is_turned_away_says_nothing_of_the_calls_before_it() {
        let unknown = |ended: BatchEnd| ended.outcomes.iter().all(|one| matches!(one, MessageOutcome::Unknown { .. }));
        for code in ["not_connected", "429;retry-after=7", "503"] {
            let no = refused(code, RefusalClass::Retry);
            let first = end(2, Ok(vec![no.clone(), no]));
            assert!(first.is_definite(), "of a first call it tells all: {code}");
            let health = first.health;
            let repeat = first.of_repeat();
            assert_eq!((repeat.is_definite(), repeat.health), (false, health), "{code}");
            assert!(unknown(repeat), "{code}");
        }
        let no = refused("-5000", RefusalClass::NextChannel);
        let taken = end(2, Ok(vec![refused("3000", RefusalClass::Retry), no.clone()])).of_repeat();
        assert_eq!(
            taken.outcomes,
            [refused("3000", RefusalClass::Retry), no],
            "a reply for somebody: it has had the call"
        );
    }

    #[test]
    fn a_refusal_of_all_loses_its_retry_after_but_the_lane_hears_it() {
        let no = refused("429;retry-after=7", RefusalClass::Retry);
        let ended = end(2, Ok(vec![no.clone(), no]));
        assert_eq!(ended.outcomes[1], refused("429", RefusalClass::Retry));
        assert_eq!(ended.health, Health::Throttled { retry_after: Some(Millis(7_000)) });
    }
}

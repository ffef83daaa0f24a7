//! The operator's commands: dead letters, and the erasure of personal data.

use super::{Desk, Facts};
use crate::domain::gift::command::{GiftRejection, Letter};
use crate::domain::gift::event::{GiftFact, RefundReason};
use crate::domain::gift::state::{ATTEMPTS_MAX, Phase};
use crate::domain::policy::RETENTION;

/// Bytes of an operator's name and reason, at most.
const ACTOR_BYTES_MAX: usize = 128;
const REASON_BYTES_MAX: usize = 2_048;

impl Desk<'_> {
    fn check_letter(&self, letter: Letter, actor: &str) -> Result<(), GiftRejection> {
        if actor.is_empty() || actor.len() > ACTOR_BYTES_MAX {
            return Err(GiftRejection::NotReservable);
        }
        let dead = match letter {
            Letter::Gift => matches!(self.gift.phase, Phase::SendFailed { .. } | Phase::RefundFailed { .. }),
            Letter::Notice(number) => self.gift.notices.is_dead(number),
        };
        if dead { Ok(()) } else { Err(GiftRejection::NotADeadLetter) }
    }

    pub(super) fn replay(&self, actor: String, letter: Letter, new_generation: bool) -> Facts {
        self.check_letter(letter, &actor)?;
        if self.gift.sealed.is_none() {
            return Err(GiftRejection::Erased);
        }
        if let (Letter::Gift, Phase::SendFailed { sending, .. }) = (letter, &self.gift.phase) {
            if self.gift.is_expired(self.now) {
                return Err(GiftRejection::Expired);
            }
            if !new_generation && sending.number >= ATTEMPTS_MAX {
                return Err(GiftRejection::AttemptsExhausted);
            }
        }
        Ok(vec![GiftFact::DeadLetterReplayed { actor, letter, new_generation }])
    }

    /// A send that is given up is refunded; a refund that is given up was settled by hand.
    pub(super) fn discard(&self, actor: String, letter: Letter, reason: String) -> Facts {
        self.check_letter(letter, &actor)?;
        if reason.is_empty() || reason.len() > REASON_BYTES_MAX {
            return Err(GiftRejection::NotReservable);
        }
        let mut facts = vec![GiftFact::DeadLetterDiscarded { actor, letter, reason }];
        if letter == Letter::Gift && matches!(self.gift.phase, Phase::SendFailed { .. }) {
            facts.extend(self.refund_in_full(RefundReason::SendFailed));
        }
        Ok(facts)
    }

    pub(super) fn erase(&self) -> Facts {
        if self.gift.sealed.is_none() {
            return Ok(Vec::new());
        }
        if !self.gift.is_terminal() {
            return Err(GiftRejection::WrongState { status: self.gift.phase.status() });
        }
        Ok(vec![GiftFact::Erased])
    }

    /// The retention is over.
    pub(super) fn forget(&self) -> Facts {
        if !self.gift.is_terminal() || self.gift.is_forgotten() {
            return Err(GiftRejection::NotWanted);
        }
        if self.now < self.gift.updated_at + RETENTION {
            return Err(GiftRejection::NotDue);
        }
        Ok(vec![GiftFact::Forgotten])
    }
}

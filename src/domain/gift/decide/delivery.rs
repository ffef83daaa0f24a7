//! The way to the recipient: attempts, their outcomes, and the timers around them.
//!
//! A new attempt number follows a definite failure only. While an outcome is unknown the same attempt is wanted again,
//! on the same channel, to be looked up before it is repeated: never another channel before a lookup says no.

use super::money::{retry_after, retry_not_sent};
use super::{Desk, Facts};
use crate::domain::gift::command::GiftRejection;
use crate::domain::gift::event::{CallStarted, DeliveryFact, Doubt, Evidence, GiftFact, NextAttempt};
use crate::domain::gift::names;
use crate::domain::gift::schedule;
use crate::domain::gift::state::{Call, Phase, Sending};
use crate::domain::policy::Overdue;
use crate::types::call::{MessageOutcome, RefusalClass};
use crate::types::effect::Slot;
use crate::types::time::{Millis, Timestamp};

/// A provider's clock, or another node's, may be ahead by so much.
const CLOCKS_DIFFER: Millis = Millis::from_mins(1);
/// Code of a gift that became a dead letter because its instant had passed for too long.
const OVERDUE_CODE: &str = "overdue";

impl Desk<'_> {
    pub(super) fn send_attempt(&self, slot: Slot, started: CallStarted) -> Facts {
        let attempted = Ok(vec![GiftFact::Delivery(DeliveryFact::Attempted(started))]);
        if matches!(self.gift.phase, Phase::Scheduled) && slot == names::send_slot(0, 1) {
            if self.now < self.gift.resolved.instant {
                return Err(GiftRejection::NotDue);
            }
            return if self.is_overdue() { Err(GiftRejection::NotWanted) } else { attempted };
        }
        // Validity may end before its timer is served.
        match self.wanted_send(slot).filter(|_| !self.gift.is_expired(self.now)) {
            Some((_, call)) => self.due(call).and(attempted),
            None => Err(GiftRejection::NotWanted),
        }
    }

    /// The send that `slot` names, if it is the current one and no acceptance is known.
    fn wanted_send(&self, slot: Slot) -> Option<(&Sending, &Call)> {
        let Phase::Sending(sending) = &self.gift.phase else {
            return None;
        };
        let call = sending.call.as_ref()?;
        (slot == names::send_slot(self.gift.delivery.generation, sending.number)).then_some((sending, call))
    }

    pub(super) fn send_outcome(&self, slot: Slot, outcome: MessageOutcome) -> Vec<GiftFact> {
        let Some((sending, call)) = self.wanted_send(slot).filter(|(_, call)| call.is_in_doubt()) else {
            return Vec::new();
        };
        let accepted_at = match &outcome {
            MessageOutcome::Accepted { at, .. } => self.within_attempt(*at, CLOCKS_DIFFER),
            _ => self.now,
        };
        let fact = match outcome {
            MessageOutcome::Accepted { provider, receipt, .. } => DeliveryFact::Accepted {
                provider,
                receipt,
                accepted_at,
                report_due: self.now + self.gift.product.policy.report_timeout,
                validity: self.gift.validity_from(accepted_at),
            },
            MessageOutcome::Unconfirmed { at, .. } => self.delivered(Evidence::Unconfirmable, at),
            MessageOutcome::Refused { code, class } => self.failed_attempt(sending, code, class),
            MessageOutcome::Unknown { cause } => {
                let since = call.unknown_since.or(call.open.map(|open| open.started_at));
                let long = since.is_some_and(|since| self.now - since >= schedule::SEND_DOUBT_MAX);
                if long && call.doubts >= schedule::SEND_DOUBTS_MAX {
                    DeliveryFact::Failed { code: cause, validity: self.gift.validity_from(self.now) }
                } else {
                    let doubt = Doubt::Unknown { cause };
                    DeliveryFact::Undecided { retry_at: retry_after(call, &doubt, self.now), doubt }
                }
            }
            MessageOutcome::NotSent { cause } => {
                DeliveryFact::Undecided { retry_at: retry_not_sent(call, &cause, self.now), doubt: Doubt::NotSent }
            }
        };
        vec![GiftFact::Delivery(fact)]
    }

    /// An instant that a provider names, or a node's own clock: never before the gift was due, never further ahead.
    fn within_attempt(&self, at: Timestamp, ahead: Millis) -> Timestamp {
        let delivery = &self.gift.delivery;
        let earliest = delivery.accepted_at.or(delivery.due).unwrap_or(self.now).min(self.now);
        at.clamp(earliest, self.now + ahead)
    }

    /// What follows a definite failure: a pause on this channel, the next channel, or the dead letters.
    pub(super) fn failed_attempt(&self, sending: &Sending, code: String, class: RefusalClass) -> DeliveryFact {
        let pause = match class {
            RefusalClass::Retry => self.gift.product.policy.send_retry.get(usize::from(sending.refusals)),
            RefusalClass::NextChannel | RefusalClass::Permanent => None,
        };
        let another = usize::from(sending.channel_index) + 1 < self.gift.channels.len();
        let next = match pause {
            Some(pause) => NextAttempt { channel_index: sending.channel_index, due: self.now + *pause },
            None if another => NextAttempt { channel_index: sending.channel_index + 1, due: self.now },
            None => return DeliveryFact::Failed { code, validity: self.gift.validity_from(self.now) },
        };
        DeliveryFact::Refused { code, class, next }
    }

    /// Arrived at `at` as far as `evidence` says.
    pub(super) fn delivered(&self, evidence: Evidence, at: Timestamp) -> DeliveryFact {
        let delivered_at = self.within_attempt(at, Millis(0));
        let accepted_at = self.gift.delivery.accepted_at.unwrap_or(delivered_at);
        DeliveryFact::Delivered { evidence, delivered_at, accepted_at, validity: self.gift.validity_from(accepted_at) }
    }

    /// No report in time: believed, not confirmed.
    pub(super) fn report_timeout(&self) -> Facts {
        let Phase::Sending(Sending { call: None, report_due: Some(due), .. }) = &self.gift.phase else {
            return Err(GiftRejection::NotWanted);
        };
        if self.now < *due {
            return Err(GiftRejection::NotDue);
        }
        let accepted_at = self.gift.delivery.accepted_at.unwrap_or(self.now);
        Ok(vec![GiftFact::Delivery(self.delivered(Evidence::ReportTimeout, accepted_at))])
    }

    fn is_overdue(&self) -> bool {
        match self.gift.product.policy.overdue {
            Overdue::SendAtOnce => false,
            Overdue::DeadLetterAfter(span) => self.now > self.gift.resolved.instant + span,
        }
    }

    pub(super) fn overdue(&self) -> Facts {
        let watched = self.gift.product.policy.overdue != Overdue::SendAtOnce;
        if !watched || !matches!(self.gift.phase, Phase::Scheduled) {
            return Err(GiftRejection::NotWanted);
        }
        if !self.is_overdue() {
            return Err(GiftRejection::NotDue);
        }
        let validity = self.gift.validity_from(self.now);
        Ok(vec![GiftFact::Delivery(DeliveryFact::Failed { code: OVERDUE_CODE.to_owned(), validity })])
    }
}

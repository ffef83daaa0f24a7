//! `evolve` for the way to the recipient: attempts, acceptance, arrival and failure.

use super::event::{DeliveryFact, NextAttempt, Validity};
use super::state::{Gift, Phase, Sending};
use crate::types::call::{RefusalClass, Template};
use crate::types::time::Timestamp;

impl Gift {
    pub(super) fn apply_delivery(&mut self, fact: &DeliveryFact, at: Timestamp) {
        match fact {
            DeliveryFact::Attempted(started) => {
                if matches!(self.phase, Phase::Scheduled) {
                    self.delivery.due = Some(self.resolved.instant);
                    self.phase = Phase::Sending(Sending::attempt(1, 0, self.resolved.instant));
                }
                if let Phase::Sending(sending) = &mut self.phase {
                    self.delivery.attempt = sending.number;
                    self.delivery.channel = self.channels.get(usize::from(sending.channel_index)).copied();
                    if let Some(call) = &mut sending.call {
                        call.start(started, at);
                    }
                }
            }
            DeliveryFact::Accepted { provider, receipt, accepted_at, report_due, validity } => {
                if let Phase::Sending(sending) = &mut self.phase {
                    sending.call = None;
                    sending.report_due = Some(*report_due);
                    self.delivery.provider = Some(provider.clone());
                    self.delivery.receipt = Some(receipt.clone());
                    self.delivery.accepted_at = Some(*accepted_at);
                    self.validity = Some(*validity);
                }
            }
            DeliveryFact::Undecided { doubt, retry_at } => {
                if let Phase::Sending(Sending { call: Some(call), .. }) = &mut self.phase {
                    call.doubt(doubt, *retry_at);
                }
            }
            DeliveryFact::Refused { class, next, .. } => self.next_attempt(*class, *next),
            DeliveryFact::Failed { code, validity } => self.fail(code, *validity, at),
            DeliveryFact::Delivered { evidence, delivered_at, accepted_at, validity } => {
                self.delivery.accepted_at.get_or_insert(*accepted_at);
                self.delivery.sent_at = Some(*delivered_at);
                self.delivery.evidence = Some(*evidence);
                self.validity = Some(*validity);
                self.phase = Phase::Sent;
                self.notify(Template::SenderSent, None, at);
            }
            DeliveryFact::Confirmed { evidence } => self.delivery.evidence = Some(*evidence),
            DeliveryFact::FailureNoted { code } => self.delivery.noted_failure = Some(code.clone()),
        }
    }

    fn next_attempt(&mut self, class: RefusalClass, next: NextAttempt) {
        self.forget_acceptance();
        if let Phase::Sending(sending) = &mut self.phase {
            let same_channel = sending.channel_index == next.channel_index;
            let counts = same_channel && class == RefusalClass::Retry;
            let refusals = if counts { sending.refusals.saturating_add(1) } else { 0 };
            let mut attempt = Sending::attempt(sending.number + 1, next.channel_index, next.due);
            attempt.refusals = refusals;
            *sending = attempt;
        }
    }

    /// Dead; what a replay continues with is kept.
    fn fail(&mut self, code: &str, validity: Validity, at: Timestamp) {
        let sending = if let Phase::Sending(sending) = &self.phase {
            sending.clone()
        } else {
            Sending { call: None, ..Sending::attempt(self.delivery.attempt, 0, at) }
        };
        self.forget_acceptance();
        self.validity = Some(validity);
        self.phase = Phase::SendFailed { since: at, code: code.to_owned(), sending };
        self.drop_reminders(at);
        self.notify(Template::SenderFailed, None, at);
    }

    fn forget_acceptance(&mut self) {
        self.delivery.accepted_at = None;
        self.delivery.sent_at = None;
        self.delivery.evidence = None;
        self.delivery.provider = None;
        self.delivery.receipt = None;
        if !self.was_transferred() {
            self.validity = None;
        }
    }
}

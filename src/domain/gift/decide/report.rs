//! Reports of providers: any number of times, in any order, long after, or before the reply to the call itself.

use super::Desk;
use crate::domain::gift::event::{DeliveryFact, Evidence, GiftFact, NoticeFact, PaymentFact};
use crate::domain::gift::names::{Reference, order_id};
use crate::domain::gift::state::{Phase, Sending};
use crate::types::call::{RefusalClass, Report, ReportStatus};

impl Desk<'_> {
    pub(super) fn report(&self, report: &Report) -> Vec<GiftFact> {
        if report.reference == order_id(self.key) {
            return self.payment_hint();
        }
        match Reference::parse(&report.reference) {
            Some(Reference::Send { generation, attempt }) if generation == self.gift.delivery.generation => {
                self.send_report(attempt, report)
            }
            Some(Reference::Notice { slot }) => {
                let results = self.notice_report(slot, &report.status).into_iter().collect::<Vec<_>>();
                if results.is_empty() { Vec::new() } else { vec![GiftFact::Notice(NoticeFact::Settled(results))] }
            }
            Some(Reference::Send { .. }) | None => Vec::new(),
        }
    }

    /// An unsigned webhook is a hint to look, never believed.
    fn payment_hint(&self) -> Vec<GiftFact> {
        // Neither a coupon nor a wallet is a payment provider's to hint at.
        if self.gift.awaits_coupon() || self.gift.pays_by_wallet() {
            return Vec::new();
        }
        let mut gift = self.gift.clone();
        let waits = gift.money_call_mut().is_some_and(|call| call.open.is_none() && call.due > self.now);
        if waits { vec![GiftFact::Payment(PaymentFact::Hinted)] } else { Vec::new() }
    }

    fn send_report(&self, attempt: u16, report: &Report) -> Vec<GiftFact> {
        let fact = match &report.status {
            ReportStatus::Delivered => self.arrival(Evidence::Report, report),
            ReportStatus::SentUnconfirmed => self.arrival(Evidence::UnconfirmedReport, report),
            // What an earlier attempt came to was known when the next began.
            ReportStatus::Failed { .. } if attempt != self.gift.delivery.attempt => None,
            ReportStatus::Failed { code, class } => self.reported_failure(code, *class, report),
        };
        fact.into_iter().map(GiftFact::Delivery).collect()
    }

    fn arrival(&self, evidence: Evidence, report: &Report) -> Option<DeliveryFact> {
        let known = self.gift.delivery.evidence.is_some_and(Evidence::confirms);
        if self.gift.is_under_way() {
            Some(self.delivered(evidence, report.at))
        } else if matches!(self.gift.phase, Phase::Sent) && evidence.confirms() && !known {
            Some(DeliveryFact::Confirmed { evidence })
        } else {
            None
        }
    }

    fn reported_failure(&self, code: &str, class: RefusalClass, report: &Report) -> Option<DeliveryFact> {
        let gift = self.gift;
        if let Phase::Sending(sending) = &gift.phase {
            return self.failure_while_sending(sending, code, class);
        }
        let noted = || {
            let new = gift.delivery.noted_failure.as_deref() != Some(code);
            new.then(|| DeliveryFact::FailureNoted { code: code.to_owned() })
        };
        if matches!(gift.phase, Phase::Sent) {
            let opened = gift.delivery.evidence == Some(Evidence::LinkOpened);
            let proven = gift.delivery.evidence.is_some_and(Evidence::confirms);
            let older = proven && gift.delivery.sent_at.is_some_and(|sent_at| report.at < sent_at);
            if opened || older {
                return noted();
            }
            let validity = gift.validity_from(self.now);
            return Some(DeliveryFact::Failed { code: code.to_owned(), validity });
        }
        if matches!(gift.phase, Phase::Accepted { .. } | Phase::Used { .. }) {
            return noted();
        }
        None
    }

    /// The provider says for sure that this attempt failed, whether or not its reply has come.
    fn failure_while_sending(&self, sending: &Sending, code: &str, class: RefusalClass) -> Option<DeliveryFact> {
        let happened = sending.call.as_ref().is_none_or(|call| call.is_in_doubt());
        let current = sending.number == self.gift.delivery.attempt && happened;
        current.then(|| self.failed_attempt(sending, code.to_owned(), class))
    }
}

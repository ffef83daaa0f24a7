//! The call behind a slot, rendered from the committed state and the opened personal data. The same attempt always
//! renders to the same bytes, apart from what is known of its earlier tries.

use super::names;
use super::personal::Personal;
use super::state::{Call, Gift, GiftState, Phase, Refund, Sending};
use crate::domain::calendar;
use crate::domain::notices::{Audience, Notice, notice_reference};
use crate::types::call::{CallRequest, MessageRequest, PaymentOperation, PaymentRequest, Prior, Purpose, Template};
use crate::types::codec;
use crate::types::contact::Private;
use crate::types::effect::Slot;
use crate::types::ids::EntityKey;

/// `None`: the slot is not wanted, or the personal data is gone.
pub(super) fn request(key: EntityKey, state: &GiftState, slot: Slot, personal: Option<&[u8]>) -> Option<CallRequest> {
    let gift = state.gift.as_deref()?;
    if let Some(request) = gift.entity_request(key, slot) {
        return Some(request);
    }
    let personal: Personal = codec::decode(personal?).ok()?;
    let renderer = Renderer { key, gift, personal };
    if slot == names::PAYMENT {
        return renderer.payment();
    }
    if let Phase::Refunding(refund) = &gift.phase
        && slot == names::refund_slot(refund.number)
    {
        return Some(renderer.refund(refund));
    }
    if let Phase::Sending(Sending { call: Some(call), number, channel_index, .. }) = &gift.phase
        && slot == names::send_slot(gift.delivery.generation, *number)
    {
        return renderer.send(call, *number, *channel_index);
    }
    renderer.notice(slot, gift.notices.wanted(names::NOTICES, slot)?)
}

struct Renderer<'a> {
    key: EntityKey,
    gift: &'a Gift,
    personal: Personal,
}

impl Renderer<'_> {
    fn payment(&self) -> Option<CallRequest> {
        let call = self.gift.payment_call()?;
        let payment_key = Private(self.personal.payment_key.clone());
        let operation = if matches!(self.gift.phase, Phase::PaymentPending { .. }) {
            PaymentOperation::Confirm { payment_key, amount: self.gift.payment.amount }
        } else {
            PaymentOperation::Lookup { payment_key }
        };
        Some(CallRequest::Payment(PaymentRequest {
            order_id: names::order_id(self.key),
            operation,
            idempotency_key: names::pay_key(self.key),
            prior: call.prior(),
        }))
    }

    fn refund(&self, refund: &Refund) -> CallRequest {
        // What went back under an earlier number does not go back twice.
        let amount = refund.amount.checked_sub(self.gift.ledger.refunded()).unwrap_or(refund.amount);
        CallRequest::Payment(PaymentRequest {
            order_id: names::order_id(self.key),
            operation: PaymentOperation::Cancel {
                payment_key: Private(self.personal.payment_key.clone()),
                amount,
                reason: refund.reason.name().to_owned(),
            },
            idempotency_key: names::refund_key(self.key, refund.number),
            prior: refund.call.prior(),
        })
    }

    fn send(&self, call: &Call, number: u16, channel_index: u8) -> Option<CallRequest> {
        let channel = *self.gift.channels.get(usize::from(channel_index))?;
        let to = self.personal.recipient.address(channel)?;
        Some(CallRequest::Message(MessageRequest {
            reference: names::send_reference(self.key, self.gift.delivery.generation, number),
            purpose: Purpose::Gift,
            channel,
            template: Template::GiftArrived,
            to: Private(to),
            variables: self.recipient_variables(),
            link: Some(Private(self.personal.link())),
            prior: call.prior(),
        }))
    }

    fn notice(&self, slot: Slot, notice: &Notice) -> Option<CallRequest> {
        let (to, variables, link) = match notice.audience() {
            Audience::Sender | Audience::Buyer => {
                let to = self.personal.sender.address(notice.channel, &self.gift.owner)?;
                (to, self.sender_variables(notice.template), None)
            }
            Audience::Recipient => {
                let to = self.personal.recipient.address(notice.channel)?;
                (to, self.reminder_variables(notice), Some(Private(self.personal.link())))
            }
        };
        Some(CallRequest::Message(MessageRequest {
            reference: notice_reference(&names::order_id(self.key), slot, notice.generation),
            purpose: Purpose::Notice,
            channel: notice.channel,
            template: notice.template,
            to: Private(to),
            variables,
            link,
            // A try before this one that was refused left nothing to be found; one whose outcome is unknown may have arrived.
            prior: if notice.tries == 0 { Prior::None } else { Prior::Perhaps { since: notice.made_at } },
        }))
    }

    /// The sender's words stay behind the link: a template's variables are short.
    fn recipient_variables(&self) -> Vec<(String, Private<String>)> {
        let sender = self.personal.sender.name.clone().unwrap_or_default();
        variables([
            ("recipient", self.personal.recipient.name.clone()),
            ("sender", sender),
            ("product", self.gift.product.name.clone()),
        ])
    }

    fn reminder_variables(&self, notice: &Notice) -> Vec<(String, Private<String>)> {
        let mut all = self.recipient_variables();
        let expires_on = self
            .gift
            .validity
            .map_or_else(String::new, |validity| calendar::local_date(validity.expires_at, &self.gift.recipient.zone));
        let days = notice.days.unwrap_or(0).to_string();
        all.extend(variables([("days", days), ("expires_on", expires_on)]));
        all
    }

    fn sender_variables(&self, template: Template) -> Vec<(String, Private<String>)> {
        let mut all = variables([
            ("recipient", self.personal.recipient.name.clone()),
            ("product", self.gift.product.name.clone()),
        ]);
        match template {
            Template::SenderReserved | Template::SenderMoved => {
                let send_at = calendar::local_minute(self.gift.resolved.instant, &self.gift.resolved.zone);
                all.extend(variables([("send_at", send_at)]));
            }
            Template::SenderRefunded => {
                all.extend(variables([("amount", self.gift.ledger.refunded().minor.to_string())]));
            }
            Template::SenderSent
            | Template::SenderAccepted
            | Template::SenderFailed
            | Template::GiftArrived
            | Template::ExpiresInDays
            | Template::OrderPlaced
            | Template::OrderCompleted
            | Template::OrderFailed
            | Template::OrderCancelled => {}
        }
        all
    }
}

fn variables<const N: usize>(pairs: [(&str, String); N]) -> Vec<(String, Private<String>)> {
    pairs.into_iter().map(|(name, value)| (name.to_owned(), Private(value))).collect()
}

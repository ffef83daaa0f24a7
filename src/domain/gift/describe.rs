//! Events as JSON for the timeline and the live stream. No personal data, no hash of a secret.

use super::command::{Letter, Reservation};
use super::event::{
    CouponFact, DeliveryFact, Doubt, GiftEvent, GiftFact, NoticeFact, PaymentFact, PlanFact, RefundFact, UseFact,
    Validity,
};
use crate::types::call::RefusalClass;
use crate::types::effect::Channel;
use crate::types::money::Money;
use crate::types::time::Timestamp;
use serde_json::{Map, Value, json};

/// `{"type": ..., "at": ..., ...}`.
pub(super) fn describe(event: &GiftEvent) -> Value {
    let (kind, details) = match &event.fact {
        GiftFact::Reserved(reservation) => ("reserved", reserved(reservation)),
        GiftFact::ReservedWith(reservation, coupon) => {
            let mut told = reserved(reservation);
            told["coupon"] = coupon.describe();
            ("reserved", told)
        }
        GiftFact::Coupon(CouponFact::Used) => ("coupon_used", json!({})),
        GiftFact::Coupon(CouponFact::Returned) => ("coupon_returned", json!({})),
        GiftFact::Payment(fact) => payment(fact),
        GiftFact::Plan(fact) => plan(fact),
        GiftFact::Delivery(fact) => delivery(fact),
        GiftFact::Use(fact) => usage(fact),
        GiftFact::Refund(fact) => refund(fact),
        GiftFact::Notice(fact) => notice(fact),
        GiftFact::DeadLetterReplayed { actor, letter: which, new_generation } => (
            "dead_letter_replayed",
            json!({ "actor": actor, "letter": letter(*which), "new_generation": new_generation }),
        ),
        GiftFact::DeadLetterDiscarded { actor, letter: which, reason } => {
            ("dead_letter_discarded", json!({ "actor": actor, "letter": letter(*which), "reason": reason }))
        }
        GiftFact::Erased => ("erased", json!({})),
        GiftFact::Forgotten => ("forgotten", json!({})),
    };
    let mut object = Map::new();
    object.insert("type".to_owned(), json!(kind));
    object.insert("at".to_owned(), instant(event.at));
    if let Value::Object(details) = details {
        object.extend(details);
    }
    Value::Object(object)
}

fn reserved(reservation: &Reservation) -> Value {
    json!({
        "product_id": reservation.product.id,
        "amount": money(reservation.payment.amount),
        "send_at": instant(reservation.resolved.instant),
        "channels": channels(&reservation.channels),
    })
}

type Described = (&'static str, Value);

fn money(amount: Money) -> Value {
    json!({ "value": amount.minor, "currency": amount.currency.code() })
}
fn instant(at: Timestamp) -> Value {
    json!(at.to_rfc3339())
}
fn channels(channels: &[Channel]) -> Vec<&'static str> {
    channels.iter().map(|channel| channel.name()).collect()
}
fn letter(letter: Letter) -> Value {
    match letter {
        Letter::Gift => json!("gift"),
        Letter::Notice(number) => json!({ "notice": number }),
    }
}
fn class_name(class: RefusalClass) -> &'static str {
    match class {
        RefusalClass::Retry => "retry",
        RefusalClass::NextChannel => "next_channel",
        RefusalClass::Permanent => "permanent",
    }
}
fn expiry(validity: &Validity) -> Value {
    instant(validity.expires_at)
}
fn undecided(doubt: &Doubt, retry_at: Timestamp) -> Value {
    let (outcome, cause) = match doubt {
        Doubt::NotSent => ("not_sent", None),
        Doubt::Unknown { cause } => ("unknown", Some(cause)),
        Doubt::Pending => ("pending", None),
    };
    json!({ "outcome": outcome, "cause": cause, "retry_at": instant(retry_at) })
}

fn payment(fact: &PaymentFact) -> Described {
    match fact {
        PaymentFact::Attempted(_) => ("payment_attempted", json!({})),
        PaymentFact::Captured { provider, amount, captured_at } => (
            "payment_captured",
            json!({ "provider": provider, "amount": money(*amount), "captured_at": instant(*captured_at) }),
        ),
        PaymentFact::Undecided { doubt, retry_at } => ("payment_undecided", undecided(doubt, *retry_at)),
        PaymentFact::Refused { code } => ("payment_failed", json!({ "code": code })),
        PaymentFact::TimedOut => ("payment_expired", json!({})),
        PaymentFact::RuledOut { code } => ("payment_ruled_out", json!({ "code": code })),
        PaymentFact::Hinted => ("payment_hinted", json!({})),
        PaymentFact::HoldClosed => ("wallet_settled", json!({})),
    }
}

fn plan(fact: &PlanFact) -> Described {
    match fact {
        PlanFact::Changed(change) => (
            "changed",
            json!({
                "recipient": change.recipient.is_some(),
                "send_at": change.send_at.as_ref().map(|(_, resolved)| resolved.instant.to_rfc3339()),
                "channels": change.channels.as_deref().map(channels),
            }),
        ),
        PlanFact::Cancelled => ("cancelled", json!({})),
        PlanFact::ReResolved { resolved, moved } => {
            ("send_at_resolved", json!({ "send_at": instant(resolved.instant), "tzdb": resolved.tzdb, "moved": moved }))
        }
    }
}

fn delivery(fact: &DeliveryFact) -> Described {
    match fact {
        DeliveryFact::Attempted(_) => ("send_attempted", json!({})),
        DeliveryFact::Accepted { provider, receipt, accepted_at, validity, .. } => (
            "send_accepted",
            json!({
                "provider": provider,
                "receipt": receipt,
                "accepted_at": instant(*accepted_at),
                "expires_at": expiry(validity),
            }),
        ),
        DeliveryFact::Undecided { doubt, retry_at } => ("send_undecided", undecided(doubt, *retry_at)),
        DeliveryFact::Refused { code, class, next } => {
            ("send_refused", json!({ "code": code, "class": class_name(*class), "next_at": instant(next.due) }))
        }
        DeliveryFact::Failed { code, .. } => ("send_failed", json!({ "code": code })),
        DeliveryFact::Delivered { evidence, delivered_at, validity, .. } => (
            "sent",
            json!({
                "evidence": evidence.name(),
                "confirmed": evidence.confirms(),
                "sent_at": instant(*delivered_at),
                "expires_at": expiry(validity),
            }),
        ),
        DeliveryFact::Confirmed { evidence } => ("delivery_confirmed", json!({ "evidence": evidence.name() })),
        DeliveryFact::FailureNoted { code } => ("delivery_failure_noted", json!({ "code": code })),
    }
}

fn usage(fact: &UseFact) -> Described {
    match fact {
        UseFact::Accepted => ("accepted", json!({})),
        UseFact::Declined => ("declined", json!({})),
        UseFact::Transferred { channels: reached, validity, .. } => handed_on(reached, validity),
        UseFact::HandedOn(to) => handed_on(&to.channels, &to.validity),
        UseFact::Redeemed { redemption } => {
            ("used", json!({ "store_id": redemption.store.id(), "terminal_id": redemption.terminal_id }))
        }
        UseFact::RedemptionCancelled { redemption } => (
            "redemption_cancelled",
            json!({ "store_id": redemption.store.id(), "terminal_id": redemption.terminal_id }),
        ),
        UseFact::Expired => ("expired", json!({})),
    }
}

fn handed_on(reached: &[Channel], validity: &Validity) -> Described {
    ("transferred", json!({ "channels": channels(reached), "expires_at": expiry(validity) }))
}

fn refund(fact: &RefundFact) -> Described {
    match fact {
        RefundFact::Started { reason, amount } => {
            ("refund_started", json!({ "reason": reason.name(), "amount": money(*amount) }))
        }
        RefundFact::Attempted(_) => ("refund_attempted", json!({})),
        RefundFact::Undecided { doubt, retry_at } => ("refund_undecided", undecided(doubt, *retry_at)),
        RefundFact::Refused { code, retry_at } => {
            ("refund_refused", json!({ "code": code, "retry_at": instant(*retry_at) }))
        }
        RefundFact::Failed { code, .. } => ("refund_failed", json!({ "code": code })),
        RefundFact::Settled { total, .. } => ("refunded", json!({ "amount": money(*total) })),
        RefundFact::MoneyKept => ("money_kept", json!({})),
    }
}

fn notice(fact: &NoticeFact) -> Described {
    match fact {
        NoticeFact::ReminderDue { days, .. } => ("reminder_due", json!({ "days": days })),
        NoticeFact::ReminderMoved { next } => {
            ("reminder_moved", json!({ "next_at": next.map(|reminder| reminder.due.to_rfc3339()) }))
        }
        NoticeFact::Settled(results) => {
            let rows: Vec<Value> =
                results.iter().map(|result| json!({ "number": result.number, "result": result.step.name() })).collect();
            ("notices_settled", json!({ "notices": rows }))
        }
    }
}

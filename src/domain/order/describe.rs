//! Events as JSON for the timeline and the live stream. No personal data.

use super::command::{NewLine, NewOrder, OrderEvent, OrderFact};
use crate::domain::notices::NoticeResult;
use crate::types::money::Money;
use serde_json::{Value, json};

fn money(amount: Money) -> Value {
    json!({ "value": amount.minor, "currency": amount.currency.code() })
}

fn of_line(event: &str, line: u8, sku: &str, quantity: u32) -> Value {
    json!({ "type": event, "line": line, "sku": sku, "quantity": quantity })
}

fn created(new: &NewOrder) -> Value {
    let line = |line: &NewLine| json!({ "sku": line.sku, "quantity": line.quantity, "price": money(line.price) });
    json!({ "type": "created", "items": new.lines.iter().map(line).collect::<Vec<Value>>() })
}

/// `{"type": ..., "at": ..., ...}`.
pub(super) fn describe(event: &OrderEvent) -> Value {
    let mut told = match &event.fact {
        OrderFact::Created(new) => created(new),
        OrderFact::CreatedWith(new, coupon) => {
            let mut told = created(new);
            told["coupon"] = coupon.describe();
            told
        }
        OrderFact::CouponUsed => json!({ "type": "coupon_used" }),
        OrderFact::CouponReturned => json!({ "type": "coupon_returned" }),
        OrderFact::PaymentRequested { method, amount } => {
            json!({ "type": "payment_requested", "method": method.name(), "amount": money(*amount) })
        }
        OrderFact::Attempted { step, .. } => json!({ "type": "step_attempted", "step": step.name() }),
        OrderFact::Undecided { step, doubt, retry_at } => {
            let mut told = doubt.described("step_undecided", *retry_at);
            told["step"] = json!(step.name());
            told
        }
        OrderFact::Refused { step, code, retry_at } => {
            let retry_at = retry_at.to_rfc3339();
            json!({ "type": "step_refused", "step": step.name(), "code": code, "retry_at": retry_at })
        }
        OrderFact::Paid { provider, amount } => {
            json!({ "type": "payment_completed", "provider": provider, "amount": money(*amount) })
        }
        OrderFact::Reserved { line, sku, quantity } => of_line("inventory_reserved", *line, sku, *quantity),
        OrderFact::Shipped { provider, tracking, prepared_at } => json!({
            "type": "shipping_prepared", "provider": provider, "tracking": tracking,
            "prepared_at": prepared_at.to_rfc3339(),
        }),
        OrderFact::Confirmed { line, sku, quantity } => of_line("inventory_confirmed", *line, sku, *quantity),
        OrderFact::Settled => json!({ "type": "payment_settled" }),
        OrderFact::Completed => json!({ "type": "completed" }),
        OrderFact::CancelRequested => json!({ "type": "cancel_requested" }),
        OrderFact::Compensating { step, code, cancelled, doubtful } => json!({
            "type": "compensating", "step": step.name(), "code": code, "cancelled": cancelled, "doubtful": doubtful,
        }),
        OrderFact::Unshipped => json!({ "type": "shipping_cancelled" }),
        OrderFact::Released { line, sku, quantity } => of_line("inventory_released", *line, sku, *quantity),
        OrderFact::PaymentRuledOut { code } => json!({ "type": "payment_ruled_out", "code": code }),
        OrderFact::Refunded { amount } => json!({ "type": "refunded", "amount": money(*amount) }),
        OrderFact::Failed { code } => json!({ "type": "failed", "code": code }),
        OrderFact::Cancelled => json!({ "type": "cancelled" }),
        OrderFact::Stuck { step, code } => json!({ "type": "stuck", "step": step.name(), "code": code }),
        OrderFact::Replayed { actor } => json!({ "type": "dead_letter_replayed", "actor": actor }),
        OrderFact::Discarded { step, actor, reason } => {
            json!({ "type": "dead_letter_discarded", "step": step.name(), "actor": actor, "reason": reason })
        }
        OrderFact::Hinted => json!({ "type": "payment_hinted" }),
        OrderFact::TellsBuyer { .. } => json!({ "type": "buyer_is_told" }),
        OrderFact::NoticesSettled(results) => {
            let row = |result: &NoticeResult| json!({ "number": result.number, "result": result.step.name() });
            json!({ "type": "notices_settled", "notices": results.iter().map(row).collect::<Vec<Value>>() })
        }
        OrderFact::NoticeReplayed { number, actor } => {
            json!({ "type": "dead_letter_replayed", "notice": number, "actor": actor })
        }
        OrderFact::NoticeDiscarded { number, actor, reason } => {
            json!({ "type": "dead_letter_discarded", "notice": number, "actor": actor, "reason": reason })
        }
        OrderFact::Forgotten => json!({ "type": "forgotten" }),
        OrderFact::Erased => json!({ "type": "erased" }),
    };
    told["at"] = json!(event.at.to_rfc3339());
    told
}

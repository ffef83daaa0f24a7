//! INV-4: money is conserved after every event (paid = held + used + refunded, none negative, paid = all that was
//! captured), and at the end the books agree with the payment provider's to the won, and no payment or refund is wanted or
//! in doubt any more.

use super::history::{Fact, History, Money4, RecordRow};
use crate::types::ids::EntityKey;
use std::collections::BTreeMap;

/// The first record or payment that does not add up.
#[must_use]
pub fn check(history: &History) -> Option<String> {
    let mut captured: BTreeMap<EntityKey, i64> = BTreeMap::new();
    for row in &history.records {
        let total = captured.entry(row.gift).or_default();
        *total += row.facts.iter().map(captured_by).sum::<i64>();
        if !adds_up(row.money) || row.money.paid != *total {
            return Some(format!("after {}: {:?}, captured {total}", describe(row), row.money));
        }
    }
    let at_provider: BTreeMap<EntityKey, _> = history.payments.iter().map(|row| (row.gift, *row)).collect();
    for row in &history.payments {
        if row.refunded > row.captured {
            return Some(format!("more given back than was paid: {row:?}"));
        }
    }
    let open: BTreeMap<EntityKey, _> = history.gifts.iter().map(|row| (row.gift, row)).collect();
    for (gift, payment) in &at_provider {
        if payment.captured > 0 && !open.contains_key(gift) {
            return Some(format!("money without a gift: {payment:?}"));
        }
    }
    for row in &history.gifts {
        if row.money_in_doubt {
            return Some(format!("a payment or refund is not settled: {row:?}"));
        }
        let (captured, refunded) = at_provider.get(&row.gift).map_or((0, 0), |row| (row.captured, row.refunded));
        if (row.money.paid, row.money.refunded) != (captured, refunded) {
            return Some(format!("{row:?}, but the provider captured {captured} and gave back {refunded}"));
        }
    }
    None
}

fn adds_up(money: Money4) -> bool {
    let parts = [money.paid, money.held, money.used, money.refunded];
    parts.iter().all(|part| *part >= 0) && money.paid == money.held + money.used + money.refunded
}

fn captured_by(fact: &Fact) -> i64 {
    match fact {
        Fact::Captured { minor } => *minor,
        Fact::Reserved { .. }
        | Fact::Moved { .. }
        | Fact::Cancelled
        | Fact::Scheduled
        | Fact::SendStarted { .. }
        | Fact::SendAccepted { .. }
        | Fact::SendReported { .. }
        | Fact::SendUnconfirmed { .. }
        | Fact::SendPaused { .. }
        | Fact::SendFailed { .. }
        | Fact::Replayed
        | Fact::PaymentStarted { .. }
        | Fact::RefundStarted { .. }
        | Fact::RefundSettled { .. }
        | Fact::Redeemed
        | Fact::Forgotten
        | Fact::Promised { .. }
        | Fact::PartPromised { .. }
        | Fact::Issued { .. }
        | Fact::CouponIssued { .. } => 0,
    }
}

fn describe(row: &RecordRow) -> String {
    format!("{:?} version {}", row.gift, row.version)
}

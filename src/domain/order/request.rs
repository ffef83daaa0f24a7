//! What an order wants from the world, as a function of its state, and the call behind its slot. The same attempt
//! renders to the same bytes, apart from what is known of its earlier tries and the stamp of a try at an entity.

use super::PREFIX;
use super::command::{Method, Personal, Step};
use super::state::{OrderState, Phase, Placed, Running};
use crate::domain::gift::{SenderContact, owner_prefix};
use crate::domain::inventory::{StockCommand, stock_key};
use crate::domain::kinds;
use crate::domain::policy::RETENTION;
use crate::domain::steps::{REVIEW_AFTER, call_slot};
use crate::domain::stored::Grown;
use crate::domain::wallet::{WalletCommand, wallet_key};
use crate::types::call::{
    CallRequest, EntityRequest, Parcel, PaymentOperation, PaymentRequest, ShipmentOperation, ShipmentRequest,
};
use crate::types::codec;
use crate::types::effect::{Effects, IndexTag, IndexWant, Lane, Slot, TimerWant};
use crate::types::ids::EntityKey;
use crate::types::time::Timestamp;

pub(super) const DEADLINE: Slot = Slot(1);
pub(super) const RETENTION_TIMER: Slot = Slot(2);
pub(super) const REVIEW: Slot = Slot(3);
/// Our id of the payment and of the shipment, unique for good: `o_<hex>`.
fn order_id(key: EntityKey) -> String {
    format!("{PREFIX}_{}", key.hex())
}

/// Whether a step is another entity's to do; the others are fenced calls to providers.
pub(super) fn is_entity_call(order: &Placed, step: Step) -> bool {
    match step {
        Step::Pay | Step::Refund => order.method == Method::Balance,
        Step::Reserve(_) | Step::Confirm(_) | Step::Release(_) | Step::Settle => true,
        Step::UseCoupon | Step::GiveCoupon => true,
        Step::Ship | Step::Unship | Step::FindPayment => false,
    }
}

fn lane(order: &Placed, step: Step) -> Lane {
    match step {
        Step::Ship | Step::Unship => Lane::Shipment,
        _entity if is_entity_call(order, step) => Lane::Entity,
        Step::Pay
        | Step::Reserve(_)
        | Step::Confirm(_)
        | Step::Settle
        | Step::Release(_)
        | Step::FindPayment
        | Step::Refund
        | Step::UseCoupon
        | Step::GiveCoupon => Lane::Payment,
    }
}

/// Timers, calls and index rows, in slot order.
pub(super) fn wants(key: EntityKey, state: &OrderState) -> Effects {
    let Some(order) = state.order.as_deref() else { return Effects::default() };
    let mut timers = Vec::new();
    let mut calls = Vec::new();
    if let Some(running) = order.running() {
        timers.extend(running.deadline.map(|due| TimerWant { slot: DEADLINE, due }));
        calls.push(running.wants(order.number, lane(order, running.step)));
    }
    if order.sealed.is_some() {
        // Their slots are below that of the saga's call.
        calls = order.notice_calls().into_iter().chain(calls).collect();
    }
    if order.is_terminal() && order.sealed.is_some() {
        timers.push(TimerWant { slot: RETENTION_TIMER, due: order.updated_at + RETENTION });
    }
    if let Phase::Stuck { since, .. } = &order.phase {
        timers.push(TimerWant { slot: REVIEW, due: *since + REVIEW_AFTER });
    }
    let row = |index: IndexTag, key: Vec<u8>| IndexWant { index, key, unique: false };
    let mut indexes = vec![row(kinds::INDEX_ORDER_OWNER, owner_key(&order.owner, order.created_at, key))];
    if matches!(order.phase, Phase::Stuck { .. }) || order.has_dead_notice() {
        let age = millis(order.created_at).to_be_bytes();
        indexes.push(row(kinds::INDEX_DEAD_LETTER, [age.as_slice(), &key.id].concat()));
    }
    Effects { timers, calls, indexes, terminal: order.is_terminal() && order.has_told() }
}

fn millis(at: Timestamp) -> u64 {
    u64::try_from(at.0).unwrap_or(0)
}

/// Newest first within an owner.
fn owner_key(owner: &str, created_at: Timestamp, key: EntityKey) -> Vec<u8> {
    let newest_first = u64::MAX - millis(created_at);
    [owner_prefix(owner).as_slice(), &newest_first.to_be_bytes(), &key.id].concat()
}

/// `None`: the slot is not wanted, or the personal data is gone.
pub(super) fn request(
    key: EntityKey,
    state: &OrderState,
    wanted: Slot,
    personal: Option<&[u8]>,
) -> Option<CallRequest> {
    let order = state.order.as_deref()?;
    if let Some(message) = order.notice_request(key, wanted, personal) {
        return Some(message);
    }
    let running = order.running().filter(|_| call_slot(order.number) == wanted)?;
    if is_entity_call(order, running.step) {
        return entity_request(key, order, running).map(CallRequest::Entity);
    }
    let Grown(personal, _): Grown<Personal, SenderContact> = codec::decode(personal?).ok()?;
    match running.step {
        Step::Ship | Step::Unship => Some(CallRequest::Shipment(shipment(key, order, running, personal))),
        Step::Pay
        | Step::FindPayment
        | Step::Refund
        | Step::Reserve(_)
        | Step::Confirm(_)
        | Step::Settle
        | Step::Release(_)
        | Step::UseCoupon
        | Step::GiveCoupon => payment(key, order, running, personal).map(CallRequest::Payment),
    }
}

fn payment(key: EntityKey, order: &Placed, running: &Running, personal: Personal) -> Option<PaymentRequest> {
    let payment_key = personal.payment_key?;
    let order_id = order_id(key);
    let (operation, idempotency_key) = match running.step {
        Step::Pay => (PaymentOperation::Confirm { payment_key, amount: order.amount }, format!("{order_id}.pay")),
        Step::FindPayment => (PaymentOperation::Lookup { payment_key }, format!("{order_id}.pay")),
        Step::Refund => {
            let (amount, _) = order.money();
            let reason = order.reason.as_ref().map_or("failed", |reason| reason.code.as_str()).to_owned();
            (PaymentOperation::Cancel { payment_key, amount, reason }, format!("{order_id}.refund.{}", order.number))
        }
        Step::Reserve(_)
        | Step::Ship
        | Step::Confirm(_)
        | Step::Settle
        | Step::Unship
        | Step::Release(_)
        | Step::UseCoupon
        | Step::GiveCoupon => return None,
    };
    Some(PaymentRequest { order_id, operation, idempotency_key, prior: running.call.prior() })
}

fn shipment(key: EntityKey, order: &Placed, running: &Running, personal: Personal) -> ShipmentRequest {
    let reference = order_id(key);
    let idempotency_key = format!("{reference}.{}.{}", running.step.name(), order.number);
    let operation = if running.step == Step::Unship {
        let reason = order.reason.as_ref().map_or("failed", |reason| reason.code.as_str()).to_owned();
        ShipmentOperation::Cancel { reason }
    } else {
        let parcel = |line: &super::state::Line| Parcel { sku: line.sku.clone(), quantity: line.quantity };
        ShipmentOperation::Prepare { parcels: order.lines.iter().map(parcel).collect(), to: personal.ship_to }
    };
    ShipmentRequest { reference, operation, idempotency_key, prior: running.call.prior() }
}

/// Stamped with the instant from which this try is wanted: what the order does later has a later one.
fn entity_request(key: EntityKey, order: &Placed, running: &Running) -> Option<EntityRequest> {
    let (holder, stamp) = (key, running.call.due);
    let number = u64::from(order.number);
    let (target, command) = match running.step {
        Step::Reserve(line) | Step::Confirm(line) | Step::Release(line) => {
            let line = order.line(line)?;
            let command = match running.step {
                Step::Reserve(_) => StockCommand::Reserve { holder, quantity: line.quantity, stamp },
                Step::Confirm(_) => StockCommand::Confirm { holder, stamp },
                Step::Pay
                | Step::Ship
                | Step::Settle
                | Step::Unship
                | Step::Release(_)
                | Step::FindPayment
                | Step::Refund
                | Step::UseCoupon
                | Step::GiveCoupon => StockCommand::Release { holder, stamp },
            };
            (stock_key(&line.sku), codec::encode(&command))
        }
        Step::Pay | Step::Settle | Step::Refund => {
            let command = match running.step {
                Step::Pay => WalletCommand::Hold { holder, amount: order.amount, stamp },
                Step::Settle => WalletCommand::Confirm { holder, stamp },
                Step::Reserve(_)
                | Step::Ship
                | Step::Confirm(_)
                | Step::Unship
                | Step::Release(_)
                | Step::FindPayment
                | Step::Refund
                | Step::UseCoupon
                | Step::GiveCoupon => WalletCommand::Release { holder, stamp },
            };
            (wallet_key(&order.owner), codec::encode(&command))
        }
        Step::UseCoupon => return order.coupon.map(|coupon| coupon.use_request(key, &order.owner, number)),
        Step::GiveCoupon => return order.coupon.map(|coupon| coupon.return_request(key, number)),
        Step::Ship | Step::Unship | Step::FindPayment => return None,
    };
    Some(EntityRequest::of(key, number, target, command))
}

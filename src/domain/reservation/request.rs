//! What a reservation wants from the world, as a function of its state, and the call behind its slot. The same attempt
//! renders to the same bytes, apart from what is known of its earlier tries and the stamp of a try at the wallet.

use super::PREFIX;
use super::command::{PaymentKey, Step};
use super::state::{Booked, Phase, ReservationState, Running};
use crate::domain::area::{AreaCommand, area_key};
use crate::domain::gift::owner_prefix;
use crate::domain::kinds;
use crate::domain::order::Method;
use crate::domain::policy::RETENTION;
use crate::domain::queue::{QueueCommand, queue_key};
use crate::domain::steps::{REVIEW_AFTER, call_slot};
use crate::domain::wallet::{WalletCommand, wallet_key};
use crate::types::call::{CallRequest, EntityRequest, PaymentOperation, PaymentRequest};
use crate::types::codec;
use crate::types::effect::{Effects, IndexTag, IndexWant, Lane, Slot, TimerWant};
use crate::types::ids::EntityKey;

pub(super) const DEADLINE: Slot = Slot(1);
pub(super) const CLOSING: Slot = Slot(2);
pub(super) const RETENTION_TIMER: Slot = Slot(3);
pub(super) const REVIEW: Slot = Slot(4);
/// Whether a step is another entity's to do; the others are fenced calls to the payment provider.
pub(super) fn is_entity_call(booked: &Booked, step: Step) -> bool {
    match step {
        Step::Pay | Step::Refund => booked.method == Some(Method::Balance),
        Step::Sell | Step::Leave | Step::Settle | Step::Release => true,
        Step::FindPayment => false,
    }
}

/// Timers, calls and index rows, in slot order.
pub(super) fn wants(key: EntityKey, state: &ReservationState) -> Effects {
    let Some(booked) = state.booked.as_deref() else { return Effects::default() };
    let mut timers = Vec::new();
    timers.extend(booked.held_until().map(|due| TimerWant { slot: DEADLINE, due }));
    timers.extend(booked.cancellable_until().map(|due| TimerWant { slot: CLOSING, due }));
    if booked.is_terminal() && booked.sealed.is_some() {
        timers.push(TimerWant { slot: RETENTION_TIMER, due: booked.updated_at + RETENTION });
    }
    if let Phase::Stuck { since, .. } = &booked.phase {
        timers.push(TimerWant { slot: REVIEW, due: *since + REVIEW_AFTER });
    }
    let row = |index: IndexTag, key: Vec<u8>| IndexWant { index, key, unique: false };
    let age = u64::try_from(booked.assignment.assigned_at.0).unwrap_or(0);
    // Newest first within an owner.
    let owner = owner_prefix(&booked.assignment.owner);
    let mine = [owner.as_slice(), &(u64::MAX - age).to_be_bytes(), &key.id].concat();
    let mut indexes = vec![row(kinds::INDEX_RESERVATION_OWNER, mine)];
    if matches!(booked.phase, Phase::Stuck { .. }) {
        indexes.push(row(kinds::INDEX_DEAD_LETTER, [age.to_be_bytes().as_slice(), &key.id].concat()));
    }
    let lane = |step| if is_entity_call(booked, step) { Lane::Entity } else { Lane::Payment };
    let want = |running: &Running| running.wants(booked.number, lane(running.step));
    let calls = booked.running().map(want).into_iter().collect();
    Effects { timers, calls, indexes, terminal: booked.is_terminal() }
}

/// `None`: the slot is not wanted, or the payment's key is gone.
pub(super) fn request(
    key: EntityKey,
    state: &ReservationState,
    wanted: Slot,
    personal: Option<&[u8]>,
) -> Option<CallRequest> {
    let booked = state.booked.as_deref().filter(|booked| call_slot(booked.number) == wanted)?;
    let running = booked.running()?;
    if is_entity_call(booked, running.step) {
        return entity_request(key, booked, running).map(CallRequest::Entity);
    }
    let PaymentKey(payment_key) = codec::decode(personal?).ok()?;
    let order_id = format!("{PREFIX}_{}", key.hex());
    let pay_key = format!("{order_id}.pay");
    let (operation, idempotency_key) = match running.step {
        Step::Pay => (PaymentOperation::Confirm { payment_key, amount: booked.assignment.amount }, pay_key),
        Step::FindPayment => (PaymentOperation::Lookup { payment_key }, pay_key),
        Step::Refund => {
            let (amount, _) = booked.money();
            let reason = booked.ended.as_ref().map_or("failed", |ended| ended.code.as_str()).to_owned();
            let operation = PaymentOperation::Cancel { payment_key, amount, reason };
            (operation, format!("{order_id}.refund.{}", booked.number))
        }
        Step::Sell | Step::Leave | Step::Settle | Step::Release => return None,
    };
    Some(CallRequest::Payment(PaymentRequest { order_id, operation, idempotency_key, prior: running.call.prior() }))
}

fn entity_request(key: EntityKey, booked: &Booked, running: &Running) -> Option<EntityRequest> {
    let assignment = &booked.assignment;
    let area = || area_key(assignment.show, assignment.section);
    let wallet = || wallet_key(&assignment.owner);
    // Stamped with the instant from which this try is wanted: what the reservation does later has a later one.
    let (holder, stamp) = (key, running.call.due);
    let (target, command) = match running.step {
        Step::Sell => (area(), codec::encode(&AreaCommand::Confirm { reservation: key, serial: assignment.serial })),
        Step::Release => (area(), codec::encode(&AreaCommand::Release { reservation: key, serial: assignment.serial })),
        Step::Leave => (queue_key(assignment.show), codec::encode(&QueueCommand::Leave(assignment.number))),
        Step::Pay => {
            let hold = WalletCommand::Hold { holder, amount: assignment.amount, stamp };
            (wallet(), codec::encode(&hold))
        }
        Step::Settle => (wallet(), codec::encode(&WalletCommand::Confirm { holder, stamp })),
        Step::Refund => (wallet(), codec::encode(&WalletCommand::Release { holder, stamp })),
        Step::FindPayment => return None,
    };
    Some(EntityRequest::of(key, u64::from(booked.number), target, command))
}

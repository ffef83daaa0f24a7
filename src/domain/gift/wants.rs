//! What a gift wants from the world, as a function of its state.

use super::names;
use super::state::{Call, Gift, GiftState, Phase, Refund, Sending};
use crate::domain::kinds;
use crate::domain::policy::{Overdue, RETENTION};
use crate::types::effect::{CallWant, Effects, Guard, IndexTag, IndexWant, Lane, Slot, TimerWant};
use crate::types::ids::EntityKey;
use crate::types::time::{Millis, Timestamp};
use sha2::{Digest, Sha256};

/// Timers, calls and index rows, in slot order.
pub(super) fn wants(key: EntityKey, state: &GiftState) -> Effects {
    let Some(gift) = state.gift.as_deref() else {
        return Effects::default();
    };
    let mut timers = gift.timers();
    timers.sort_by_key(|timer| timer.slot);
    let own = gift.call().into_iter().chain(gift.calls_beside());
    let mut calls: Vec<CallWant> = own.chain(gift.notices.calls(names::NOTICES)).collect();
    calls.sort_by_key(|call| call.slot);
    Effects { timers, calls, indexes: gift.indexes(key), terminal: gift.is_terminal() }
}

fn fenced(slot: Slot, lane: Lane, call: &Call) -> CallWant {
    CallWant { slot, lane, due: call.due, guard: Guard::Fenced, open: call.open }
}

impl Gift {
    fn timers(&self) -> Vec<TimerWant> {
        let mut timers = Vec::new();
        let mut at = |slot, due| timers.push(TimerWant { slot, due });
        if let Phase::PaymentPending { expires_at, .. } = &self.phase {
            at(names::PAYMENT_TIMEOUT, *expires_at);
        }
        if let (Phase::Scheduled, Overdue::DeadLetterAfter(span)) = (&self.phase, self.product.policy.overdue) {
            at(names::OVERDUE, self.resolved.instant + span + Millis(1));
        }
        if let Phase::Sending(Sending { call: None, report_due: Some(due), .. }) = &self.phase {
            at(names::REPORT_TIMEOUT, *due);
        }
        if let Phase::RefundFailed { review_at, .. } = &self.phase {
            at(names::REFUND_REVIEW, *review_at);
        }
        if let Some(validity) = self.validity.filter(|_| self.validity_counts()) {
            at(names::EXPIRY, validity.expires_at + Millis(1));
            let held = matches!(self.phase, Phase::Sent | Phase::Accepted { .. });
            if let Some(reminder) = validity.reminder.filter(|_| held) {
                at(names::REMINDER, reminder.due);
            }
        }
        if self.is_terminal() && !self.is_forgotten() {
            at(names::RETENTION, self.updated_at + RETENTION);
        }
        timers
    }

    /// The call of this phase: at most one at a time.
    fn call(&self) -> Option<CallWant> {
        match &self.phase {
            Phase::PaymentPending { .. } | Phase::PaymentExpired { .. } | Phase::Cancelled { .. } => {
                self.payment_call().map(|call| self.money_want(self.payment_slot(), call))
            }
            Phase::Scheduled => {
                let channel = self.channels.first()?;
                Some(fenced(names::send_slot(0, 1), Lane::Send(*channel), &Call::due_at(self.resolved.instant)))
            }
            Phase::Sending(Sending { call: Some(call), number, channel_index, .. }) => {
                let channel = self.channels.get(usize::from(*channel_index))?;
                Some(fenced(names::send_slot(self.delivery.generation, *number), Lane::Send(*channel), call))
            }
            Phase::Refunding(Refund { call, number, .. }) => Some(self.money_want(names::refund_slot(*number), call)),
            Phase::Sending(Sending { call: None, .. })
            | Phase::Sent
            | Phase::Accepted { .. }
            | Phase::Used { .. }
            | Phase::PaymentFailed { .. }
            | Phase::Declined
            | Phase::SendFailed { .. }
            | Phase::Expired
            | Phase::Refunded { .. }
            | Phase::RefundFailed { .. } => None,
        }
    }

    fn indexes(&self, key: EntityKey) -> Vec<IndexWant> {
        let row = |index: IndexTag, key: Vec<u8>, unique: bool| IndexWant { index, key, unique };
        let mut rows = vec![row(kinds::INDEX_OWNER, owner_key(&self.owner, self.created_at, key), false)];
        // Once erased, neither link nor code lead anywhere.
        if self.sealed.is_some() {
            rows.push(row(kinds::INDEX_LINK, self.link_hash.to_vec(), true));
            rows.extend(self.dead_links.iter().map(|dead| row(kinds::INDEX_LINK, dead.to_vec(), true)));
            rows.push(row(kinds::INDEX_CODE, self.code_hash.to_vec(), true));
        }
        if self.has_dead_letter() {
            rows.push(row(kinds::INDEX_DEAD_LETTER, age_key(self.created_at, key), false));
        }
        if !self.ledger.held().is_zero() {
            rows.push(row(kinds::INDEX_MONEY_OPEN, age_key(self.created_at, key), false));
        }
        rows
    }

    fn has_dead_letter(&self) -> bool {
        let dead = matches!(self.phase, Phase::SendFailed { .. } | Phase::RefundFailed { .. });
        dead || self.notices.has_dead()
    }
}

fn millis(at: Timestamp) -> u64 {
    u64::try_from(at.0).unwrap_or(0)
}

/// Prefix of an owner's rows in [`kinds::INDEX_OWNER`].
#[must_use]
pub fn owner_prefix(owner: &str) -> [u8; 8] {
    let digest = Sha256::digest(owner.as_bytes());
    let mut prefix = [0u8; 8];
    prefix.copy_from_slice(&digest[..8]);
    prefix
}

/// Newest first within an owner.
fn owner_key(owner: &str, created_at: Timestamp, key: EntityKey) -> Vec<u8> {
    let newest_first = u64::MAX - millis(created_at);
    [owner_prefix(owner).as_slice(), &newest_first.to_be_bytes(), &key.id].concat()
}

/// Oldest first.
fn age_key(created_at: Timestamp, key: EntityKey) -> Vec<u8> {
    [millis(created_at).to_be_bytes().as_slice(), &key.id].concat()
}

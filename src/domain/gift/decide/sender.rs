//! The sender's commands: reserve, change, cancel; and the re-resolution of what they asked for.

use super::{Desk, Facts};
use crate::domain::calendar::{self, ResolvedInstant};
use crate::domain::gift::command::{Change, GiftRejection, Reservation, Status};
use crate::domain::gift::event::{GiftFact, PlanFact, RefundReason};
use crate::domain::gift::personal::ContactSet;
use crate::domain::gift::schedule::outlives_refund;
use crate::domain::gift::state::Phase;
use crate::domain::policy::Policy;
use crate::domain::tender::CouponTerms;
use crate::types::effect::Channel;
use crate::types::time::{Millis, Timestamp};

/// The front door checks the span ahead when the request comes; until it is decided it may have waited this long.
const AHEAD_SLACK: Millis = Millis::from_mins(1);
/// Longest sealed personal data, and the longest of the plain texts of a reservation, in bytes.
const SEALED_BYTES_MAX: usize = 16 << 10;
const TEXT_BYTES_MAX: usize = 256;

pub(super) fn reserve(reservation: Reservation, now: Timestamp) -> Facts {
    check(&reservation, now)?;
    if reservation.payment.amount.minor <= 0 {
        return Err(GiftRejection::NotReservable);
    }
    Ok(vec![GiftFact::Reserved(Box::new(reservation))])
}

/// What the coupon leaves of the price is the amount, to the won.
pub(super) fn reserve_with(reservation: Reservation, coupon: CouponTerms, now: Timestamp) -> Facts {
    check(&reservation, now)?;
    if coupon.left_of(reservation.product.price) != Some(reservation.payment.amount) {
        return Err(GiftRejection::NotReservable);
    }
    Ok(vec![GiftFact::ReservedWith(Box::new(reservation), coupon)])
}

fn check(reservation: &Reservation, now: Timestamp) -> Result<(), GiftRejection> {
    let policy = &reservation.product.policy;
    let amount = reservation.payment.amount;
    let texts = [&reservation.owner, &reservation.product.id, &reservation.product.name, &reservation.recipient.zone];
    let sound = amount.currency == reservation.product.price.currency
        && policy.faults().is_empty()
        && reservation.sealed.ciphertext.len() <= SEALED_BYTES_MAX
        && texts.iter().all(|text| text.len() <= TEXT_BYTES_MAX);
    if !sound {
        return Err(GiftRejection::NotReservable);
    }
    check_channels(&reservation.channels, reservation.recipient.contacts)?;
    check_instant(&reservation.resolved, policy, reservation.payment.refund_by, now)
}

fn check_channels(channels: &[Channel], contacts: ContactSet) -> Result<(), GiftRejection> {
    let twice = channels.iter().enumerate().any(|(at, channel)| channels[..at].contains(channel));
    let reached = channels.iter().all(|channel| contacts.reaches(*channel));
    if channels.is_empty() || twice || !reached { Err(GiftRejection::NoChannel) } else { Ok(()) }
}

fn check_instant(
    resolved: &ResolvedInstant,
    policy: &Policy,
    refund_by: Timestamp,
    now: Timestamp,
) -> Result<(), GiftRejection> {
    let ahead = calendar::check_ahead(resolved.instant, now - AHEAD_SLACK)
        .or_else(|_| calendar::check_ahead(resolved.instant, now));
    ahead.map_err(|_| GiftRejection::SendAtOutOfRange)?;
    if outlives_refund(resolved.instant, policy, refund_by) {
        return Err(GiftRejection::RefundWindowTooShort);
    }
    Ok(())
}

impl Desk<'_> {
    pub(super) fn change(&self, change: Change) -> Facts {
        let gift = self.gift;
        let status = gift.phase.status();
        match status {
            Status::PaymentPending | Status::Scheduled => {}
            Status::Sending | Status::Sent | Status::Accepted | Status::Used | Status::SendFailed => {
                return Err(GiftRejection::TooLateToModify);
            }
            Status::PaymentFailed
            | Status::PaymentExpired
            | Status::Cancelled
            | Status::Declined
            | Status::Expired
            | Status::Refunding
            | Status::Refunded
            | Status::RefundFailed => return Err(GiftRejection::WrongState { status }),
        }
        if self.now > gift.resolved.instant - gift.product.policy.change_margin {
            return Err(GiftRejection::TooLateToModify);
        }
        if change == Change::default() {
            return Ok(Vec::new());
        }
        let sealed_fits = change.sealed.as_ref().is_none_or(|sealed| sealed.ciphertext.len() <= SEALED_BYTES_MAX);
        if !sealed_fits || (change.recipient.is_some() && change.sealed.is_none()) {
            return Err(GiftRejection::NotReservable);
        }
        let contacts = change.recipient.as_ref().map_or(gift.recipient.contacts, |recipient| recipient.contacts);
        check_channels(change.channels.as_ref().unwrap_or(&gift.channels), contacts)?;
        if let Some((_, resolved)) = &change.send_at {
            check_instant(resolved, &gift.product.policy, gift.payment.refund_by, self.now)?;
        }
        Ok(vec![GiftFact::Plan(PlanFact::Changed(Box::new(change)))])
    }

    /// Whichever is committed first wins: this, or the start of the send.
    pub(super) fn cancel(&self) -> Facts {
        let cancelled = GiftFact::Plan(PlanFact::Cancelled);
        match &self.gift.phase {
            Phase::PaymentPending { .. } => Ok(vec![cancelled]),
            Phase::Scheduled => {
                Ok(std::iter::once(cancelled).chain(self.refund_in_full(RefundReason::Cancelled)).collect())
            }
            Phase::Cancelled { .. } => Ok(Vec::new()),
            Phase::Refunding(refund) | Phase::RefundFailed { refund, .. } => self.cancel_again(refund.reason),
            Phase::Refunded { reason } => self.cancel_again(*reason),
            Phase::Sending(_)
            | Phase::Sent
            | Phase::Accepted { .. }
            | Phase::Used { .. }
            | Phase::Declined
            | Phase::SendFailed { .. }
            | Phase::Expired => Err(GiftRejection::AlreadyDispatched),
            Phase::PaymentFailed { .. } | Phase::PaymentExpired { .. } => self.not_cancellable(),
        }
    }

    fn not_cancellable(&self) -> Facts {
        Err(GiftRejection::NotCancellable { status: self.gift.phase.status() })
    }

    fn cancel_again(&self, reason: RefundReason) -> Facts {
        match reason {
            RefundReason::Cancelled => Ok(Vec::new()),
            RefundReason::Declined | RefundReason::SendFailed | RefundReason::Expired => {
                Err(GiftRejection::AlreadyDispatched)
            }
            RefundReason::PaymentExpired | RefundReason::AmountMismatch | RefundReason::CancelledByProvider => {
                self.not_cancellable()
            }
        }
    }

    /// New time-zone data: only what has not left, and only what was asked for in local terms.
    pub(super) fn re_resolve(&self, resolved: ResolvedInstant) -> Facts {
        let gift = self.gift;
        let unsent = matches!(gift.phase, Phase::PaymentPending { .. } | Phase::Scheduled);
        if !unsent || !gift.send_at.is_civil() || resolved.tzdb == gift.resolved.tzdb {
            return Ok(Vec::new());
        }
        if resolved.zone != gift.resolved.zone {
            return Err(GiftRejection::NotReservable);
        }
        let shift = resolved.instant - gift.resolved.instant;
        let moved = shift.0.abs() > Millis::from_mins(1).0;
        Ok(vec![GiftFact::Plan(PlanFact::ReResolved { resolved, moved })])
    }
}

//! `decide` of a wallet: what a command leads to.

use super::{
    BALANCE_MINOR_MAX, CHARGE_MINOR_MAX, CHARGES_MAX, Charge, RETENTION_TIMER, WalletCommand, WalletFact,
    WalletRejection, WalletState, charge_slot, letter, wallet_key,
};
use crate::domain::calling::{CallStarted, Doubt, retry_after};
use crate::domain::holds::Hold;
use crate::domain::policy::RETENTION;
use crate::types::call::{CallOutcome, PaymentOutcome};
use crate::types::effect::Slot;
use crate::types::ids::EntityKey;
use crate::types::kind::AttemptStart;
use crate::types::money::Money;
use crate::types::record::Sealed;
use crate::types::time::Timestamp;

/// Facts to be recorded, none when all is as the command wants it.
type Facts = Result<Vec<WalletFact>, WalletRejection>;

/// Code of a charge that the provider gave back by itself.
const CANCELLED_BY_PROVIDER: &str = "cancelled_by_provider";

pub(super) fn decide(key: EntityKey, state: &WalletState, command: WalletCommand, now: Timestamp) -> Facts {
    match command {
        WalletCommand::Charge { owner, amount, sealed } => request_charge(key, state, (owner, amount, sealed)),
        WalletCommand::ChargeListed { owner, amount, sealed } => {
            let charge = request_charge(key, state, (owner, amount, sealed))?;
            Ok((!state.is_listed()).then_some(WalletFact::Listed).into_iter().chain(charge).collect())
        }
        WalletCommand::Erase => erase(state),
        WalletCommand::Timer(RETENTION_TIMER) => match state.retention_begins() {
            Some(since) if now >= since + RETENTION => Ok(vec![WalletFact::Erased]),
            Some(_) | None => Err(WalletRejection::NotWanted),
        },
        WalletCommand::Hold { holder, amount, stamp } => hold(state, holder, amount, stamp),
        WalletCommand::Confirm { holder, stamp } => Ok(match state.holds().of(holder) {
            Some(_) => vec![WalletFact::Spent { holder, stamp }],
            None => Vec::new(),
        }),
        WalletCommand::Release { holder, stamp } => Ok(match state.holds().may_close(holder, stamp) {
            true => vec![WalletFact::Released { holder, stamp }],
            false => Vec::new(),
        }),
        WalletCommand::Settle { holder, spend, stamp } => Ok(settle_hold(state, holder, spend, stamp)),
        WalletCommand::Attempt(start) => attempt(state, start, now),
        WalletCommand::Outcomes(outcomes) => Ok(outcome(state, outcomes, now)),
        WalletCommand::Hint => Ok(match state.charge() {
            Some(charge) if charge.call.open.is_none() && charge.call.due > now => vec![WalletFact::ChargeHinted],
            Some(_) | None => Vec::new(),
        }),
        WalletCommand::Replay { actor } => letter::replay(state, actor),
        WalletCommand::Discard { actor, reason } => letter::discard(state, actor, reason),
        WalletCommand::Timer(_) | WalletCommand::Unwanted => Err(WalletRejection::NotWanted),
    }
}

fn request_charge(key: EntityKey, state: &WalletState, (owner, amount, sealed): (String, Money, Sealed)) -> Facts {
    if wallet_key(&owner) != key {
        return Err(WalletRejection::WrongOwner);
    }
    let room = BALANCE_MINOR_MAX.saturating_sub(state.charged().minor.saturating_sub(state.spent().minor));
    if !(1..=CHARGE_MINOR_MAX).contains(&amount.minor) || amount.minor > room {
        return Err(WalletRejection::BadAmount);
    }
    if state.waiting() >= CHARGES_MAX {
        return Err(WalletRejection::ChargesWait);
    }
    let number = state.charges_made().saturating_add(1);
    Ok(vec![WalletFact::ChargeRequested { owner, number, amount, sealed }])
}

/// A wallet that is not in the list comes into it.
fn erase(state: &WalletState) -> Facts {
    if state.charges_made() == 0 {
        return Err(WalletRejection::NotFound);
    }
    if state.charge().is_some() {
        return Err(WalletRejection::ChargeUnderWay);
    }
    Ok(if state.is_erased() { Vec::new() } else { vec![WalletFact::Erased] })
}

fn hold(state: &WalletState, holder: EntityKey, amount: Money, stamp: Timestamp) -> Facts {
    let wanted = Hold { holder, amount: amount.minor };
    if !state.holds().may_take(wanted, stamp).map_err(WalletRejection::Hold)? {
        return Ok(Vec::new());
    }
    let balance = state.balance();
    if amount.currency != balance.currency || amount.minor > balance.minor {
        return Err(WalletRejection::InsufficientBalance { balance });
    }
    Ok(vec![WalletFact::Held { holder, amount }])
}

/// Whoever holds nothing (any more) is kept out from here on, as by a release.
fn settle_hold(state: &WalletState, holder: EntityKey, spend: Money, stamp: Timestamp) -> Vec<WalletFact> {
    match state.holds().of(holder) {
        Some(hold) => {
            let spent = Money { minor: spend.minor.clamp(0, hold.amount), ..spend };
            vec![WalletFact::Settled { holder, stamp, spent }]
        }
        None if state.holds().may_close(holder, stamp) => vec![WalletFact::Released { holder, stamp }],
        None => Vec::new(),
    }
}

/// A fenced call begins: refused unless the state wants exactly this call, and never early.
fn attempt(state: &WalletState, start: AttemptStart, now: Timestamp) -> Facts {
    let wanted = state.charge().filter(|charge| charge_slot(charge.number) == start.slot);
    let charge = wanted.ok_or(WalletRejection::NotWanted)?;
    if charge.call.open.is_none() && now < charge.call.due {
        return Err(WalletRejection::NotWanted);
    }
    Ok(vec![WalletFact::ChargeAttempted(CallStarted { claim: start.claim, not_after: start.not_after })])
}

/// One call runs at a time: of several outcomes, the first that is of the charge with the provider counts.
fn outcome(state: &WalletState, outcomes: Vec<(Slot, CallOutcome)>, now: Timestamp) -> Vec<WalletFact> {
    let Some(charge) = state.charge() else { return Vec::new() };
    let of_charge = |(slot, outcome): (Slot, CallOutcome)| match outcome {
        CallOutcome::Payment(outcome) if slot == charge_slot(charge.number) => Some(outcome),
        CallOutcome::Payment(_) | CallOutcome::Message(_) | CallOutcome::Entity(_) | CallOutcome::Shipment(_) => None,
    };
    let found = outcomes.into_iter().find_map(of_charge);
    found.map(|outcome| vec![settle(charge, outcome, now)]).unwrap_or_default()
}

fn settle(charge: &Charge, outcome: PaymentOutcome, now: Timestamp) -> WalletFact {
    let undecided = |doubt: Doubt| {
        let retry_at = retry_after(&charge.call, &doubt, now);
        WalletFact::ChargeUndecided { doubt, retry_at }
    };
    match outcome {
        PaymentOutcome::Captured { provider, amount, .. } => WalletFact::Charged { provider, amount },
        PaymentOutcome::NotCaptured { code } => WalletFact::ChargeFailed { code },
        PaymentOutcome::Refunded { amount, .. } => match charge.amount.checked_sub(amount) {
            Ok(rest) if rest.minor > 0 => WalletFact::Charged { provider: String::new(), amount: rest },
            Ok(_) | Err(_) => WalletFact::ChargeFailed { code: CANCELLED_BY_PROVIDER.to_owned() },
        },
        PaymentOutcome::Pending => undecided(Doubt::Pending),
        PaymentOutcome::Unknown { cause } | PaymentOutcome::RefundRefused { code: cause, .. } => {
            undecided(Doubt::Unknown { cause })
        }
        PaymentOutcome::NotSent { .. } => undecided(Doubt::NotSent),
    }
}

//! The dead letter of a wallet: a charge whose outcome has stayed unknown for a day. It is looked up on meanwhile; the charges behind it
//! wait, so that an operator may have to give it up.

use super::{Charge, WalletFact, WalletRejection, WalletState};
use crate::domain::calling::Call;
use crate::domain::steps::{StepLetter, is_actor, is_reason};
use crate::types::money::Money;
use crate::types::time::{Millis, Timestamp};

/// From its first unknown outcome on, a charge is looked up for so long until it is a dead letter.
pub const LETTER_AFTER: Millis = Millis::from_days(1);
/// Code of a charge that an operator gave up.
pub const DISCARDED: &str = "discarded";

/// Since when a charge is a dead letter: one that would be looked up no more within its day.
fn letter_since(charge: &Charge) -> Option<Timestamp> {
    let since = charge.call.unknown_since? + LETTER_AFTER;
    (charge.call.due >= since).then_some(since)
}

/// Looked up at once, but not within its day, so that it stays a dead letter; the pauses begin anew.
pub(super) fn look_again(call: &mut Call, at: Timestamp) {
    let since = call.unknown_since.map_or(at, |first| first + LETTER_AFTER);
    call.doubts = 0;
    call.hasten(at.max(since));
}

impl WalletState {
    /// What waits for an operator.
    #[must_use]
    pub fn letter(&self) -> Option<StepLetter> {
        let charge = self.charge()?;
        Some(StepLetter {
            command: "charge",
            cause: "outcome_unknown".to_owned(),
            attempts: charge.call.doubts,
            money_held: Money { minor: 0, ..charge.amount },
            since: letter_since(charge)?,
        })
    }
}

/// It is looked up now: [`look_again`].
pub(super) fn replay(state: &WalletState, actor: String) -> Result<Vec<WalletFact>, WalletRejection> {
    of_letter(state)?;
    if is_actor(&actor) { Ok(vec![WalletFact::ChargeReplayed { actor }]) } else { Err(WalletRejection::NotWanted) }
}

/// It counts as failed, whatever became of it at the provider; not while a call is out, which may tell.
pub(super) fn discard(state: &WalletState, actor: String, reason: String) -> Result<Vec<WalletFact>, WalletRejection> {
    let charge = of_letter(state)?;
    if charge.call.open.is_some() {
        return Err(WalletRejection::ChargeUnderWay);
    }
    let is_well_said = is_actor(&actor) && is_reason(&reason);
    if is_well_said { Ok(vec![WalletFact::ChargeDiscarded { actor, reason }]) } else { Err(WalletRejection::NotWanted) }
}

fn of_letter(state: &WalletState) -> Result<&Charge, WalletRejection> {
    let letter = state.charge().filter(|charge| letter_since(charge).is_some());
    letter.ok_or(WalletRejection::NotADeadLetter)
}

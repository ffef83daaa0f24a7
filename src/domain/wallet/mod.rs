//! A user's wallet: money charged by card, held for what the user buys, spent or given back.
//!
//! | from | by | to |
//! |---|---|---|
//! | any | Charge | a charge waits for the payment provider, behind those before it |
//! | charge | captured | the balance grows by what was captured |
//! | charge | refused, ruled out, cancelled by the provider | failed; nothing changes |
//! | charge | captured and cancelled in part | the balance grows by the rest |
//! | charge | in doubt for a day | a dead letter; looked up on |
//! | dead letter | Replay, Discard | looked up now; failed, given up by an operator |
//! | enough balance | Hold | held for the buyer (an order) |
//! | held | Confirm | spent |
//! | held | Settle | a part of it spent, the rest back on the balance |
//! | held, or nothing | Release | back on the balance, and the buyer cannot hold any more |
//! | no charge waits | Erase, or 90 days after the last change | the payment keys of its charges are unreadable; the next charge brings a new data key |
//!
//! To the won: charged = balance + held + spent. The balance never goes below zero. One charge is with the provider at a
//! time, in the order of asking; each keeps its payment key under its own seal. Buyers are holders ([`Holds`]): their
//! repeats are answered from the state, which stays bounded.

mod decide;
mod letter;
mod state;
#[cfg(test)]
mod tests;

pub use state::{CHARGES_MAX, Charge, ChargeResult, ChargeView, WalletState};

use super::calling::{CallStarted, Doubt};
use super::entity::{Decision, Entity};
use super::holds::HoldFault;
use super::kinds;
use super::policy::RETENTION;
use crate::types::call::{CallOutcome, CallRequest, PaymentOperation, PaymentRequest, Report};
use crate::types::codec::{self, CodecError};
use crate::types::contact::Private;
use crate::types::effect::{CallWant, Effects, Guard, IndexWant, Lane, Slot, TimerWant};
use crate::types::ids::{EntityKey, EntityKind};
use crate::types::kind::{At, AttemptStart};
use crate::types::level::{FeatureLevel, NEIGHBOURS_LEVEL};
use crate::types::money::Money;
use crate::types::publication::{Publication, Topic};
use crate::types::record::{Erasure, Sealed};
use crate::types::time::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

const PREFIX: &str = "w";
/// Most that one charge may add, in minor units.
pub const CHARGE_MINOR_MAX: i64 = 100_000_000;
/// Most that a wallet may hold, in minor units.
pub const BALANCE_MINOR_MAX: i64 = 1_000_000_000_000;

/// What may be asked of a wallet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum WalletCommand {
    /// `sealed` is a [`PaymentKey`].
    Charge {
        owner: String,
        amount: Money,
        sealed: Sealed,
    },
    /// Stamped with the holder's cluster time at this try.
    Hold {
        holder: EntityKey,
        amount: Money,
        stamp: Timestamp,
    },
    Confirm {
        holder: EntityKey,
        stamp: Timestamp,
    },
    Release {
        holder: EntityKey,
        stamp: Timestamp,
    },
    Attempt(AttemptStart),
    Outcomes(Vec<(Slot, CallOutcome)>),
    /// A payment webhook's hint: whatever is unknown is looked up at once.
    Hint,
    /// Kept for its tag.
    Unwanted,
    /// `spend` of what is held is spent, at most all of it; the rest goes back.
    Settle {
        holder: EntityKey,
        spend: Money,
        stamp: Timestamp,
    },
    /// As `Charge`, of a wallet that is in the list of all from here on.
    ChargeListed {
        owner: String,
        amount: Money,
        sealed: Sealed,
    },
    /// Destroys the personal data of a wallet without a charge that waits.
    Erase,
    Timer(Slot),
    /// An operator has the charge that is a dead letter looked up now.
    Replay {
        actor: String,
    },
    /// An operator gives the charge that is a dead letter up.
    Discard {
        actor: String,
        reason: String,
    },
}

/// The payment provider's key of a charge, encoded and sealed under the wallet's data key.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PaymentKey(pub Private<String>);

/// One event: when, and what.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WalletEvent {
    pub at: Timestamp,
    pub fact: WalletFact,
}

/// What happened to a wallet. Persisted: append only. Facts of a payment are of the first charge that waits.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum WalletFact {
    ChargeRequested {
        owner: String,
        number: u32,
        amount: Money,
        sealed: Sealed,
    },
    ChargeAttempted(CallStarted),
    ChargeUndecided {
        doubt: Doubt,
        retry_at: Timestamp,
    },
    Charged {
        provider: String,
        amount: Money,
    },
    ChargeFailed {
        code: String,
    },
    ChargeHinted,
    Held {
        holder: EntityKey,
        amount: Money,
    },
    Spent {
        holder: EntityKey,
        stamp: Timestamp,
    },
    Released {
        holder: EntityKey,
        stamp: Timestamp,
    },
    /// A part of the hold is spent, the rest is back on the balance.
    Settled {
        holder: EntityKey,
        stamp: Timestamp,
        spent: Money,
    },
    Listed,
    Erased,
    ChargeReplayed {
        actor: String,
    },
    ChargeDiscarded {
        actor: String,
        reason: String,
    },
}

/// Business says no; nothing was changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum WalletRejection {
    #[error("no such wallet")]
    NotFound,
    #[error("the entity is another user's wallet")]
    WrongOwner,
    #[error("the amount is out of its range")]
    BadAmount,
    #[error("as many charges wait as may at one time")]
    ChargesWait,
    #[error("the balance is {balance}")]
    InsufficientBalance { balance: Money },
    #[error("{0}")]
    Hold(HoldFault),
    /// To the runtime: this call is not wanted (any more), or not yet.
    #[error("not wanted")]
    NotWanted,
    #[error("a charge is on its way")]
    ChargeUnderWay,
    #[error("not a dead letter")]
    NotADeadLetter,
}

/// What a refusal means to who wants to hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HoldRefusal {
    /// Worth another try later, with a fresh stamp.
    ForNow {
        code: &'static str,
    },
    ForGood {
        code: &'static str,
    },
}

/// Reads a wallet's encoded [`WalletRejection`] for a holder.
#[must_use]
pub fn hold_refusal(rejection: &[u8]) -> HoldRefusal {
    match codec::decode::<WalletRejection>(rejection) {
        Ok(WalletRejection::InsufficientBalance { .. }) => HoldRefusal::ForGood { code: "insufficient_balance" },
        Ok(WalletRejection::Hold(HoldFault::Stale)) => HoldRefusal::ForNow { code: "stale" },
        Ok(WalletRejection::Hold(HoldFault::Full)) => HoldRefusal::ForNow { code: "wallet_busy" },
        Ok(
            WalletRejection::NotFound
            | WalletRejection::WrongOwner
            | WalletRejection::BadAmount
            | WalletRejection::ChargesWait
            | WalletRejection::Hold(HoldFault::NotAnAmount | HoldFault::Closed | HoldFault::Conflict)
            | WalletRejection::NotWanted
            | WalletRejection::ChargeUnderWay
            | WalletRejection::NotADeadLetter,
        )
        | Err(_) => HoldRefusal::ForGood { code: "wallet_refused" },
    }
}

const CHARGE_REQUESTED: Topic = Topic("wallet-charge-requested.v1");
const CHARGE_RESULT: Topic = Topic("wallet-charge-result.v1");
const CHARGED: Topic = Topic("wallet-charged.v1");
const CHANGED: Topic = Topic("wallet-changed.v1");

/// The topics that a wallet's events are published under.
pub const TOPICS: [Topic; 4] = [CHARGE_REQUESTED, CHARGE_RESULT, CHARGED, CHANGED];

/// What the events of one record say on the event stream.
///
/// # Errors
/// [`CodecError`]: the bytes are not a wallet's events.
pub fn publications(events: &[u8]) -> Result<Vec<Publication>, CodecError> {
    let events: Vec<WalletEvent> = codec::decode(events)?;
    let topic = |fact: &WalletFact| match fact {
        WalletFact::ChargeRequested { .. } | WalletFact::ChargeAttempted(_) | WalletFact::ChargeHinted => {
            CHARGE_REQUESTED
        }
        WalletFact::ChargeUndecided { .. }
        | WalletFact::ChargeFailed { .. }
        | WalletFact::ChargeReplayed { .. }
        | WalletFact::ChargeDiscarded { .. } => CHARGE_RESULT,
        WalletFact::Charged { .. } => CHARGED,
        WalletFact::Held { .. }
        | WalletFact::Spent { .. }
        | WalletFact::Released { .. }
        | WalletFact::Settled { .. }
        | WalletFact::Listed
        | WalletFact::Erased => CHANGED,
    };
    // The cause of a doubt, an operator's name and words: text that a person or another system wrote.
    let hidden = ["cause", "actor", "reason"];
    let said = |event: &WalletEvent| Publication::new(topic(&event.fact), Wallet::describe(event), &hidden);
    events.iter().map(said).collect()
}

/// The wallet of a user.
#[must_use]
pub fn wallet_key(owner: &str) -> EntityKey {
    let digest = Sha256::new().chain_update(b"wallet\0").chain_update(owner.as_bytes()).finalize();
    let mut id = [0u8; 16];
    id.copy_from_slice(&digest[..16]);
    EntityKey { kind: kinds::WALLET, id }
}

/// Names the timer of the retention.
const RETENTION_TIMER: Slot = Slot(1);

/// Each charge has a slot of its own, so that what comes late is never taken for another's. Numbers wrap far beyond
/// what may wait.
fn charge_slot(number: u32) -> Slot {
    Slot(0x1000 | u16::try_from(number & 0x0FFF).unwrap_or(0))
}

/// Our id of a charge's payment, unique for good: `w_<hex>-<number>`.
#[must_use]
pub fn charge_id(key: EntityKey, number: u32) -> String {
    format!("{PREFIX}_{}-{number}", key.hex())
}

/// The wallet as an entity kind.
pub struct Wallet;

impl Entity for Wallet {
    type State = WalletState;
    type Command = WalletCommand;
    type Event = WalletEvent;
    type Rejection = WalletRejection;
    const KIND: EntityKind = kinds::WALLET;
    const PREFIX: &'static str = PREFIX;
    const SINCE: FeatureLevel = NEIGHBOURS_LEVEL;

    fn decide(
        key: EntityKey,
        state: &WalletState,
        command: WalletCommand,
        at: &At,
    ) -> Result<Decision<WalletEvent>, WalletRejection> {
        let facts = decide::decide(key, state, command, at.now)?;
        let erase = if facts.contains(&WalletFact::Erased) { Erasure::PersonalData } else { Erasure::Nothing };
        Ok(Decision { events: facts.into_iter().map(|fact| WalletEvent { at: at.now, fact }).collect(), erase })
    }
    fn evolve(state: &mut WalletState, event: &WalletEvent) {
        state.evolve(event);
    }
    fn wants(key: EntityKey, state: &WalletState) -> Effects {
        let want = |charge: &Charge| CallWant {
            slot: charge_slot(charge.number),
            lane: Lane::Payment,
            due: charge.call.due,
            guard: Guard::Fenced,
            open: charge.call.open,
        };
        let calls = state.charge().map(want).into_iter().collect();
        let retention = |since: Timestamp| TimerWant { slot: RETENTION_TIMER, due: since + RETENTION };
        let row = |index, key| IndexWant { index, key, unique: false };
        let listed = state.is_listed().then(|| row(kinds::INDEX_WALLET, key.id.to_vec()));
        let age = |since: Timestamp| u64::try_from(since.0).unwrap_or(0).to_be_bytes();
        let by_age = |since: Timestamp| [age(since).as_slice(), &key.id].concat();
        let letter = state.letter().map(|letter| row(kinds::INDEX_DEAD_LETTER, by_age(letter.since)));
        Effects {
            timers: state.retention_begins().map(retention).into_iter().collect(),
            calls,
            indexes: listed.into_iter().chain(letter).collect(),
            terminal: state.charge().is_none() && state.held().is_zero(),
        }
    }
    fn sealed(state: &WalletState) -> Option<&Sealed> {
        state.charge().map(|charge| &charge.sealed)
    }
    fn request(key: EntityKey, state: &WalletState, slot: Slot, personal: Option<&[u8]>) -> Option<CallRequest> {
        let charge = state.charge().filter(|charge| charge_slot(charge.number) == slot)?;
        let PaymentKey(payment_key) = codec::decode(personal?).ok()?;
        let order_id = charge_id(key, charge.number);
        Some(CallRequest::Payment(PaymentRequest {
            idempotency_key: format!("{order_id}.pay"),
            order_id,
            operation: PaymentOperation::Confirm { payment_key, amount: charge.amount },
            prior: charge.call.prior(),
        }))
    }
    fn timer_command(slot: Slot) -> WalletCommand {
        WalletCommand::Timer(slot)
    }
    fn attempt_command(start: AttemptStart) -> WalletCommand {
        WalletCommand::Attempt(start)
    }
    fn outcome_command(outcomes: Vec<(Slot, CallOutcome)>) -> WalletCommand {
        WalletCommand::Outcomes(outcomes)
    }
    fn report_command(_report: Report) -> WalletCommand {
        WalletCommand::Hint
    }
    fn describe(event: &WalletEvent) -> Value {
        let money = |amount: &Money| json!({ "value": amount.minor, "currency": amount.currency.code() });
        let mut told = match &event.fact {
            WalletFact::ChargeRequested { number, amount, .. } => {
                json!({ "type": "charge_requested", "number": number, "amount": money(amount) })
            }
            WalletFact::ChargeAttempted(_) => json!({ "type": "charge_attempted" }),
            WalletFact::ChargeUndecided { doubt, retry_at } => doubt.described("charge_undecided", *retry_at),
            WalletFact::Charged { provider, amount } => {
                json!({ "type": "charged", "provider": provider, "amount": money(amount) })
            }
            WalletFact::ChargeFailed { code } => json!({ "type": "charge_failed", "code": code }),
            WalletFact::ChargeHinted => json!({ "type": "charge_hinted" }),
            WalletFact::Held { holder, amount } => {
                json!({ "type": "held", "holder": holder.hex(), "amount": money(amount) })
            }
            WalletFact::Spent { holder, .. } => json!({ "type": "spent", "holder": holder.hex() }),
            WalletFact::Released { holder, .. } => json!({ "type": "released", "holder": holder.hex() }),
            WalletFact::Listed => json!({ "type": "listed" }),
            WalletFact::Erased => json!({ "type": "erased" }),
            WalletFact::ChargeReplayed { actor } => json!({ "type": "dead_letter_replayed", "actor": actor }),
            WalletFact::ChargeDiscarded { actor, reason } => {
                json!({ "type": "dead_letter_discarded", "actor": actor, "reason": reason })
            }
            WalletFact::Settled { holder, spent, .. } => {
                json!({ "type": "settled", "holder": holder.hex(), "spent": money(spent) })
            }
        };
        told["at"] = json!(event.at.to_rfc3339());
        told
    }
}

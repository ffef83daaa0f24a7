//! A coupon: one member's claim to a discount, won in a campaign. Its key follows from campaign and member, so there is
//! at most one for each.
//!
//! | from | by | to |
//! |---|---|---|
//! | (nothing) | Grant | issued |
//! | any | Grant under the same ticket | unchanged |
//! | any | Grant under another ticket | refused: already claimed |
//! | issued, restored | Use | used |
//! | used | Use by the same payer | unchanged |
//! | used | Use by another | refused: already used |
//! | used | Restore by its payer | restored |
//! | any | Restore by another payer | as it was, and that payer's use is refused from then on |
//! | issued, restored | its last instant passes | expired |
//!
//! A payer is asked to pay once and may be told to stand back: the two messages can overtake each other. So a payer that
//! was restored, whether it had used the coupon or not, is remembered and never uses it (again).

mod discount;
mod event;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;

pub use discount::{DISCOUNT_MINOR_MAX, Discount, DiscountFault};
pub use event::{CouponEvent, Issue, TOPICS, publications};

use super::entity::{Decision, Entity};
use super::kinds;
use crate::domain::calendar;
use crate::domain::gift::owner_prefix;
use crate::types::call::{CallOutcome, CallRequest, Report};
use crate::types::effect::{Effects, IndexWant, Slot, TimerWant};
use crate::types::ids::{EntityKey, EntityKind, IdempotencyId};
use crate::types::kind::{At, AttemptStart};
use crate::types::level::{FeatureLevel, NEIGHBOURS_LEVEL};
use crate::types::record::Sealed;
use crate::types::time::{Millis, Timestamp};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// Payers that were told to stand back, remembered by one coupon. The one that used it last is always among them.
pub const RELEASED_MAX: usize = 32;
/// Names the timer of the last instant.
const EXPIRY: Slot = Slot(0);

/// The number of a grant within its campaign; never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Ticket(pub u64);

/// Who pays with a coupon. Persisted: variants are append only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Payer {
    /// A gift or an order.
    Entity(EntityKey),
    /// Its owner, by this request.
    Member(IdempotencyId),
}

/// What a campaign gives to a member.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Grant {
    pub campaign: EntityKey,
    pub ticket: Ticket,
    pub name: String,
    pub discount: Discount,
    pub valid_days: u16,
    pub owner: String,
    /// The request that claimed it.
    pub claim: IdempotencyId,
}

/// What may be asked of a coupon.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum CouponCommand {
    Grant(Box<Grant>),
    /// Pays with it. Only its owner's gifts and orders may.
    Use {
        by: Payer,
        owner: String,
    },
    /// Takes `by`'s use back, whether it came or not.
    Restore {
        by: Payer,
    },
    Expire,
    /// Made by the runtime for an outcome or a report; a coupon wants none.
    Unwanted,
}

/// Business says no; nothing was changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum CouponRejection {
    #[error("no such coupon")]
    NotFound,
    #[error("the entity is another coupon")]
    WrongKey,
    /// The member has this campaign's coupon already, under another ticket than this one.
    #[error("already claimed")]
    AlreadyClaimed { refused: Ticket },
    #[error("it belongs to somebody else")]
    NotOwner,
    #[error("already used")]
    AlreadyUsed,
    #[error("expired")]
    Expired,
    /// This payer was told to stand back.
    #[error("the use was taken back")]
    TakenBack,
    #[error("not a command of a coupon")]
    NotWanted,
}

/// Where a coupon stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Phase {
    Issued,
    Used { by: Payer, at: Timestamp },
    Restored { at: Timestamp },
    Expired { at: Timestamp },
}

impl Phase {
    /// Stable name for the front door.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Issued => "issued",
            Self::Used { .. } => "used",
            Self::Restored { .. } => "restored",
            Self::Expired { .. } => "expired",
        }
    }
}

/// A coupon, or (by default) one that does not exist yet.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CouponState {
    coupon: Option<Coupon>,
}

/// An existing coupon.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Coupon {
    pub campaign: EntityKey,
    pub ticket: Ticket,
    pub name: String,
    pub discount: Discount,
    pub owner: String,
    pub claim: IdempotencyId,
    pub issued_at: Timestamp,
    /// Last instant at which it may be used.
    pub expires_at: Timestamp,
    pub phase: Phase,
    /// Payers told to stand back, oldest first.
    pub released: Vec<Payer>,
    pub updated_at: Timestamp,
}

impl CouponState {
    /// `None` when it does not exist.
    #[must_use]
    pub fn get(&self) -> Option<&Coupon> {
        self.coupon.as_ref()
    }
}

/// The coupon of a member in a campaign.
#[must_use]
pub fn coupon_key(campaign: EntityKey, owner: &str) -> EntityKey {
    let digest = Sha256::new().chain_update(b"coupon\0").chain_update(campaign.to_bytes());
    let digest = digest.chain_update(owner.as_bytes()).finalize();
    let mut id = [0u8; 16];
    id.copy_from_slice(&digest[..16]);
    EntityKey { kind: kinds::COUPON, id }
}

/// The coupon as an entity kind.
pub struct CouponEntity;

type Decided = Result<Vec<CouponEvent>, CouponRejection>;

impl CouponEntity {
    fn grant(key: EntityKey, state: &CouponState, grant: Grant, at: &At) -> Decided {
        if coupon_key(grant.campaign, &grant.owner) != key {
            return Err(CouponRejection::WrongKey);
        }
        match state.get() {
            Some(coupon) if coupon.ticket == grant.ticket => Ok(Vec::new()),
            Some(_) => Err(CouponRejection::AlreadyClaimed { refused: grant.ticket }),
            None => {
                let expires_at = calendar::validity_end(at.now, grant.valid_days, calendar::ZONE_DEFAULT);
                Ok(vec![CouponEvent::Issued(Box::new(Issue { at: at.now, expires_at, grant }))])
            }
        }
    }

    fn pay(coupon: &Coupon, by: Payer, owner: &str, at: &At) -> Decided {
        if coupon.owner != owner {
            return Err(CouponRejection::NotOwner);
        }
        if coupon.released.contains(&by) {
            return Err(CouponRejection::TakenBack);
        }
        match coupon.phase {
            Phase::Used { by: known, .. } if known == by => Ok(Vec::new()),
            Phase::Used { .. } => Err(CouponRejection::AlreadyUsed),
            Phase::Expired { .. } => Err(CouponRejection::Expired),
            // Its timer may be late.
            Phase::Issued | Phase::Restored { .. } if at.now > coupon.expires_at => Err(CouponRejection::Expired),
            Phase::Issued | Phase::Restored { .. } => Ok(vec![CouponEvent::Used { at: at.now, by }]),
        }
    }

    fn restore(coupon: &Coupon, by: Payer, at: &At) -> Decided {
        if coupon.released.contains(&by) {
            return Ok(Vec::new());
        }
        let was_used = matches!(coupon.phase, Phase::Used { by: known, .. } if known == by);
        Ok(vec![CouponEvent::Restored { at: at.now, by, was_used }])
    }

    fn expire(coupon: &Coupon, at: &At) -> Vec<CouponEvent> {
        let open = matches!(coupon.phase, Phase::Issued | Phase::Restored { .. });
        if open && at.now > coupon.expires_at { vec![CouponEvent::Expired { at: at.now }] } else { Vec::new() }
    }
}

impl Entity for CouponEntity {
    type State = CouponState;
    type Command = CouponCommand;
    type Event = CouponEvent;
    type Rejection = CouponRejection;
    const KIND: EntityKind = kinds::COUPON;
    const PREFIX: &'static str = "c";
    const SINCE: FeatureLevel = NEIGHBOURS_LEVEL;

    fn decide(
        key: EntityKey,
        state: &CouponState,
        command: CouponCommand,
        at: &At,
    ) -> Result<Decision<CouponEvent>, CouponRejection> {
        let coupon = state.get().ok_or(CouponRejection::NotFound);
        let events = match command {
            CouponCommand::Grant(grant) => Self::grant(key, state, *grant, at)?,
            CouponCommand::Use { by, owner } => Self::pay(coupon?, by, &owner, at)?,
            CouponCommand::Restore { by } => Self::restore(coupon?, by, at)?,
            CouponCommand::Expire => Self::expire(coupon?, at),
            CouponCommand::Unwanted => return Err(CouponRejection::NotWanted),
        };
        Ok(Decision::events(events))
    }

    fn evolve(state: &mut CouponState, event: &CouponEvent) {
        event.evolve(&mut state.coupon);
    }

    fn wants(key: EntityKey, state: &CouponState) -> Effects {
        let Some(coupon) = state.get() else { return Effects::default() };
        let newest_first = u64::MAX - u64::try_from(coupon.issued_at.0).unwrap_or(0);
        let row = [owner_prefix(&coupon.owner).as_slice(), &newest_first.to_be_bytes(), &key.id].concat();
        let open = matches!(coupon.phase, Phase::Issued | Phase::Restored { .. });
        let expiry = TimerWant { slot: EXPIRY, due: coupon.expires_at + Millis(1) };
        Effects {
            timers: open.then_some(expiry).into_iter().collect(),
            calls: Vec::new(),
            indexes: vec![IndexWant { index: kinds::INDEX_COUPON_OWNER, key: row, unique: false }],
            terminal: !open,
        }
    }

    fn sealed(_state: &CouponState) -> Option<&Sealed> {
        None
    }
    fn request(_: EntityKey, _: &CouponState, _: Slot, _: Option<&[u8]>) -> Option<CallRequest> {
        None
    }
    fn timer_command(_slot: Slot) -> CouponCommand {
        CouponCommand::Expire
    }
    fn attempt_command(_start: AttemptStart) -> CouponCommand {
        CouponCommand::Unwanted
    }
    fn outcome_command(_outcomes: Vec<(Slot, CallOutcome)>) -> CouponCommand {
        CouponCommand::Unwanted
    }
    fn report_command(_report: Report) -> CouponCommand {
        CouponCommand::Unwanted
    }
    fn describe(event: &CouponEvent) -> serde_json::Value {
        event.describe()
    }
}

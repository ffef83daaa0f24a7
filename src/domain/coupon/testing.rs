//! A real coupon for the tests of those who pay with one.

use super::{CouponCommand, CouponEntity, CouponState, Discount, Grant, Payer, Phase, Ticket, coupon_key};
use crate::domain::entity::Entity;
use crate::domain::kinds;
use crate::types::call::EntityOutcome;
use crate::types::codec;
use crate::types::ids::{CommandId, EntityKey, IdempotencyId};
use crate::types::kind::At;
use crate::types::money::Money;
use crate::types::time::{Millis, Timestamp};

const CAMPAIGN: EntityKey = EntityKey { kind: kinds::CAMPAIGN, id: [3; 16] };
/// Every coupon of these tests is issued then, and good for five years.
const ISSUED: Timestamp = Timestamp(1_780_000_000_000);

/// The coupon of member `u-1`.
pub fn key() -> EntityKey {
    coupon_key(CAMPAIGN, "u-1")
}

/// A coupon that nobody used yet.
pub fn issued() -> CouponState {
    let mut state = CouponState::default();
    let grant = Grant {
        campaign: CAMPAIGN,
        ticket: Ticket(1),
        name: "c".into(),
        discount: Discount::Amount(Money::krw(1)),
        valid_days: 1_826,
        owner: "u-1".into(),
        claim: IdempotencyId([9; 16]),
    };
    ask(&mut state, CouponCommand::Grant(Box::new(grant)), ISSUED);
    state
}

/// What the coupon answers.
pub fn ask(state: &mut CouponState, command: CouponCommand, now: Timestamp) -> EntityOutcome {
    let at = At { now, command_id: CommandId::default() };
    match CouponEntity::decide(key(), state, command, &at) {
        Ok(decision) => {
            decision.events.iter().for_each(|event| CouponEntity::evolve(state, event));
            EntityOutcome::Done { state: codec::encode(state) }
        }
        Err(rejection) => EntityOutcome::Rejected { rejection: codec::encode(&rejection) },
    }
}

/// Another payer of the same member uses it, or gives it back. Each use is a payer of its own, as in life.
pub fn other_payer(state: &mut CouponState, uses: bool, now: Timestamp) {
    let by = match state.get().map(|coupon| coupon.phase) {
        Some(Phase::Used { by, .. }) if !uses => by,
        Some(Phase::Issued | Phase::Used { .. } | Phase::Restored { .. } | Phase::Expired { .. }) | None => {
            let mut id = [0xEE; 16];
            id[..8].copy_from_slice(&(now + Millis(1)).0.to_be_bytes());
            Payer::Entity(EntityKey { kind: kinds::ORDER, id })
        }
    };
    let Payer::Entity(EntityKey { id, .. }) = by else { return };
    if uses {
        ask(state, CouponCommand::Use { by, owner: "u-1".into() }, now);
    } else if id[8] == 0xEE {
        ask(state, CouponCommand::Restore { by }, now);
    }
}

/// Whether this payer has it.
pub fn is_used_by(state: &CouponState, payer: Payer) -> bool {
    state.get().is_some_and(|coupon| matches!(coupon.phase, Phase::Used { by, .. } if by == payer))
}

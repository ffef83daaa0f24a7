//! The coupon that a new gift or order is to be paid with: judged by what it is now. The coupon itself decides, when it
//! is used; here a caller hears at once of what cannot succeed, and what is left to be paid is promised to the won.

use crate::api::problem::{Fault, Problem};
use crate::api::router::Shared;
use crate::domain::coupon::{Coupon, Payer, Phase};
use crate::domain::kinds;
use crate::domain::tender::CouponTerms;
use crate::types::ids::EntityKey;
use crate::types::money::Money;
use crate::types::time::Timestamp;

/// What pays a price.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tender {
    pub coupon: Option<CouponTerms>,
    /// In money.
    pub amount: Money,
}

impl Shared {
    /// How `payer`, who is about to be made, pays `price` with the caller's coupon. Without a price, whether the coupon
    /// could pay anything.
    ///
    /// # Errors
    /// What the runtime says. A coupon that cannot pay it is a fault: the caller may have an earlier reply.
    pub async fn tender(
        &self,
        payer: EntityKey,
        caller: &str,
        coupon_id: Option<&str>,
        price: Option<Money>,
    ) -> Result<Result<Option<Tender>, Fault>, Problem> {
        let in_money = |price| Tender { coupon: None, amount: price };
        let Some(id) = coupon_id else { return Ok(Ok(price.map(in_money))) };
        let unknown = || Ok(Err(fault("unknown_coupon", "There is no such coupon of yours.")));
        let Some(key) = self.door.kinds().parse(id).filter(|key| key.kind == kinds::COUPON) else { return unknown() };
        let coupon = self.read_coupon(key).await?.map(|open| open.coupon).filter(|coupon| coupon.owner == caller);
        match coupon {
            Some(coupon) => Ok(judge(key, &coupon, payer, price, self.clock.now())),
            None => unknown(),
        }
    }
}

fn judge(
    key: EntityKey,
    coupon: &Coupon,
    payer: EntityKey,
    price: Option<Money>,
    now: Timestamp,
) -> Result<Option<Tender>, Fault> {
    match coupon.phase {
        // A repeat of the request that it was used for.
        Phase::Used { by, .. } if by == Payer::Entity(payer) => {}
        Phase::Used { .. } => return Err(fault("coupon_used", "This coupon is used.")),
        Phase::Expired { .. } => return Err(fault("coupon_expired", "This coupon has expired.")),
        Phase::Issued | Phase::Restored { .. } if now > coupon.expires_at => {
            return Err(fault("coupon_expired", "This coupon has expired."));
        }
        Phase::Issued | Phase::Restored { .. } => {}
    }
    let Some(price) = price else { return Ok(None) };
    let terms = CouponTerms::of(key, &coupon.discount, price);
    let tender = terms.and_then(|terms| Some(Tender { coupon: Some(terms), amount: terms.left_of(price)? }));
    tender.map(Some).ok_or_else(|| fault("coupon_not_applicable", "This coupon takes nothing off this price."))
}

fn fault(code: &'static str, detail: &'static str) -> Fault {
    Fault { pointer: "/coupon_id".to_owned(), code, detail: detail.into() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::coupon::testing;
    use crate::types::time::Millis;

    const PAYER: EntityKey = EntityKey { kind: kinds::ORDER, id: [1; 16] };

    #[test]
    fn a_coupon_pays_for_its_member_while_it_is_free_or_already_used_for_this() {
        let coupon = testing::issued().get().unwrap().clone();
        let (price, now) = (Money::krw(10), coupon.issued_at);
        let judged = |coupon: &Coupon, now| judge(testing::key(), coupon, PAYER, Some(price), now);
        let code = |judged: Result<Option<Tender>, Fault>| judged.unwrap_err().code;
        let tender = judged(&coupon, now).unwrap().unwrap();
        assert_eq!((tender.amount, tender.coupon.unwrap().off), (Money::krw(9), Money::krw(1)));
        assert_eq!(code(judged(&coupon, coupon.expires_at + Millis(1))), "coupon_expired");
        let used = |by| Coupon { phase: Phase::Used { by, at: now }, ..coupon.clone() };
        assert!(judged(&used(Payer::Entity(PAYER)), now).is_ok());
        assert_eq!(code(judged(&used(Payer::Entity(testing::key())), now)), "coupon_used");
        let of = |coupon: &Coupon, price| judge(testing::key(), coupon, PAYER, price, now);
        assert_eq!(code(of(&coupon, Some(Money::krw(0)))), "coupon_not_applicable");
        // Without a price: whether it could pay anything.
        assert_eq!(of(&coupon, None), Ok(None));
        assert_eq!(code(of(&used(Payer::Entity(testing::key())), None)), "coupon_used");
    }
}

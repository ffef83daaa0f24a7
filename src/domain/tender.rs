//! A coupon as the gift or the order that pays with it remembers it. What it takes off is settled when the payer is made;
//! whether it may be used is the coupon's own to say.
//!
//! | hold | by | to |
//! |---|---|---|
//! | free | the coupon took the use | used |
//! | free, used | the payer is undone | owed |
//! | owed | the coupon took it back, or knows of nothing | returned |
//!
//! A use that was refused, or whose answer never came, is owed too: the coupon then keeps that use out for good, in
//! whichever order the two messages come.

use crate::domain::coupon::{CouponCommand, CouponRejection, Discount, Payer};
use crate::domain::kinds;
use crate::types::call::{EntityOutcome, EntityRequest};
use crate::types::codec;
use crate::types::ids::EntityKey;
use crate::types::money::Money;
use crate::types::time::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// Which coupon, and what it takes off. Persisted in events.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CouponTerms {
    pub coupon: EntityKey,
    /// From one minor unit to the whole price.
    pub off: Money,
}

impl CouponTerms {
    /// `None` when the discount takes nothing off this price.
    #[must_use]
    pub fn of(coupon: EntityKey, discount: &Discount, price: Money) -> Option<Self> {
        let off = discount.off(price);
        (off.minor > 0).then_some(Self { coupon, off })
    }

    /// What is left to be paid in money; `None` when this takes nothing off that price, or more than all of it.
    #[must_use]
    pub fn left_of(&self, price: Money) -> Option<Money> {
        let sound = self.coupon.kind == kinds::COUPON && (1..=price.minor).contains(&self.off.minor);
        if sound { price.checked_sub(self.off).ok() } else { None }
    }

    /// As timelines and the event stream write it.
    #[must_use]
    pub fn describe(&self) -> Value {
        let off = json!({ "value": self.off.minor, "currency": self.off.currency.code() });
        json!({ "id": kinds::text_id(self.coupon), "discount": off })
    }
}

/// How far it has come. Persisted: variants are append only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum CouponHold {
    Free,
    Used,
    /// To be given back since then, whether it was used or not.
    Owed {
        since: Timestamp,
    },
    Returned,
}

impl CouponHold {
    /// Stable name for the front door.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Free => "pending",
            Self::Used => "used",
            Self::Owed { .. } => "returning",
            Self::Returned => "returned",
        }
    }
}

/// The coupon of one payer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeldCoupon {
    pub terms: CouponTerms,
    pub hold: CouponHold,
}

/// What a coupon said to a use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UseAnswer {
    Used,
    Refused {
        code: &'static str,
    },
    /// Nobody knows: it is asked again.
    Open,
}

impl HeldCoupon {
    #[must_use]
    pub fn new(terms: CouponTerms) -> Self {
        Self { terms, hold: CouponHold::Free }
    }

    /// The payer is undone. What is owed or returned already stays so.
    pub fn owe(&mut self, since: Timestamp) {
        match self.hold {
            CouponHold::Free | CouponHold::Used => self.hold = CouponHold::Owed { since },
            CouponHold::Owed { .. } | CouponHold::Returned => {}
        }
    }

    /// Since when it is to be given back.
    #[must_use]
    pub fn owed_since(&self) -> Option<Timestamp> {
        match self.hold {
            CouponHold::Owed { since } => Some(since),
            CouponHold::Free | CouponHold::Used | CouponHold::Returned => None,
        }
    }

    /// The payer's `number`th call.
    #[must_use]
    pub fn use_request(&self, payer: EntityKey, owner: &str, number: u64) -> EntityRequest {
        let command = CouponCommand::Use { by: Payer::Entity(payer), owner: owner.to_owned() };
        EntityRequest::of(payer, number, self.terms.coupon, codec::encode(&command))
    }

    /// The payer's `number`th call.
    #[must_use]
    pub fn return_request(&self, payer: EntityKey, number: u64) -> EntityRequest {
        let command = CouponCommand::Restore { by: Payer::Entity(payer) };
        EntityRequest::of(payer, number, self.terms.coupon, codec::encode(&command))
    }
}

impl UseAnswer {
    #[must_use]
    pub fn of(outcome: &EntityOutcome) -> Self {
        let code = match outcome {
            EntityOutcome::Done { .. } => return Self::Used,
            EntityOutcome::Unknown { .. } => return Self::Open,
            EntityOutcome::Rejected { rejection } => match codec::decode::<CouponRejection>(rejection) {
                Ok(CouponRejection::AlreadyUsed) => "coupon_used",
                Ok(CouponRejection::Expired) => "coupon_expired",
                Ok(CouponRejection::TakenBack) => "coupon_taken_back",
                Ok(CouponRejection::NotFound | CouponRejection::WrongKey | CouponRejection::NotOwner) => {
                    "unknown_coupon"
                }
                Ok(CouponRejection::AlreadyClaimed { .. } | CouponRejection::NotWanted) | Err(_) => "coupon_refused",
            },
        };
        Self::Refused { code }
    }
}

/// Whether a coupon has taken a use back: `false` when nobody knows. A refusal says that there is nothing to take back.
#[must_use]
pub fn is_returned(outcome: &EntityOutcome) -> bool {
    match outcome {
        EntityOutcome::Done { .. } | EntityOutcome::Rejected { .. } => true,
        EntityOutcome::Unknown { .. } => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const COUPON: EntityKey = EntityKey { kind: kinds::COUPON, id: [4; 16] };

    #[test]
    fn what_is_left_is_the_price_less_the_discount_to_the_won() {
        let ten = Discount::Percent { percent: 10, cap: None };
        let terms = CouponTerms::of(COUPON, &ten, Money::krw(4_999)).unwrap();
        assert_eq!((terms.off, terms.left_of(Money::krw(4_999))), (Money::krw(499), Some(Money::krw(4_500))));
        let all = CouponTerms::of(COUPON, &Discount::Amount(Money::krw(9_000)), Money::krw(4_500)).unwrap();
        assert_eq!(all.left_of(Money::krw(4_500)), Some(Money::krw(0)));
        assert_eq!(all.left_of(Money::krw(4_499)), None, "more than all of it");
        assert_eq!(CouponTerms::of(COUPON, &ten, Money::krw(9)), None, "nothing off");
        let stranger = CouponTerms { coupon: EntityKey { kind: kinds::GIFT, id: [4; 16] }, ..terms };
        assert_eq!(stranger.left_of(Money::krw(4_999)), None);
    }

    #[test]
    fn what_was_refused_is_given_back_all_the_same_and_only_once() {
        let mut held = HeldCoupon::new(CouponTerms { coupon: COUPON, off: Money::krw(1) });
        held.owe(Timestamp(5));
        held.owe(Timestamp(6));
        assert_eq!(held.owed_since(), Some(Timestamp(5)));
        held.hold = CouponHold::Returned;
        held.owe(Timestamp(7));
        assert_eq!(held.owed_since(), None);
    }

    #[test]
    fn persisted_bytes_are_golden() {
        let terms = CouponTerms { coupon: COUPON, off: Money::krw(2) };
        let head = format!("04{}0400", "04".repeat(16));
        for (hold, tail) in [
            (CouponHold::Free, "00"),
            (CouponHold::Used, "01"),
            (CouponHold::Owed { since: Timestamp(3) }, "0206"),
            (CouponHold::Returned, "03"),
        ] {
            assert_eq!(hex::encode(codec::encode(&HeldCoupon { terms, hold })), format!("{head}{tail}"));
        }
    }

    #[test]
    fn every_refusal_of_a_use_has_its_code() {
        let rejected = |rejection: CouponRejection| {
            UseAnswer::of(&EntityOutcome::Rejected { rejection: codec::encode(&rejection) })
        };
        assert_eq!(rejected(CouponRejection::AlreadyUsed), UseAnswer::Refused { code: "coupon_used" });
        assert_eq!(rejected(CouponRejection::Expired), UseAnswer::Refused { code: "coupon_expired" });
        assert_eq!(rejected(CouponRejection::NotOwner), UseAnswer::Refused { code: "unknown_coupon" });
        assert_eq!(UseAnswer::of(&EntityOutcome::Unknown { cause: String::new() }), UseAnswer::Open);
        assert!(!is_returned(&EntityOutcome::Unknown { cause: String::new() }));
    }
}

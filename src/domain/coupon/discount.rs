//! What a coupon takes off a price.

use crate::types::money::Money;
use serde::{Deserialize, Serialize};

/// Largest amount off, and largest cap, in minor units: as far as a price goes.
pub const DISCOUNT_MINOR_MAX: i64 = 100_000_000;

/// A discount. Persisted: variants are append only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Discount {
    Amount(Money),
    /// 1 to 100 of a hundred, rounded down to the minor unit, never more than the cap.
    Percent {
        percent: u8,
        cap: Option<Money>,
    },
}

/// What is wrong with a discount.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum DiscountFault {
    #[error("the amount is not from 1 to {DISCOUNT_MINOR_MAX}")]
    Amount,
    #[error("the percentage is not from 1 to 100")]
    Percent,
    #[error("the cap is not from 1 to {DISCOUNT_MINOR_MAX}")]
    Cap,
}

impl Discount {
    /// # Errors
    /// The first [`DiscountFault`].
    pub fn check(&self) -> Result<(), DiscountFault> {
        let sound = |money: &Money| (1..=DISCOUNT_MINOR_MAX).contains(&money.minor);
        match self {
            Self::Amount(amount) if sound(amount) => Ok(()),
            Self::Amount(_) => Err(DiscountFault::Amount),
            Self::Percent { percent, .. } if !(1..=100).contains(percent) => Err(DiscountFault::Percent),
            Self::Percent { cap: Some(cap), .. } if !sound(cap) => Err(DiscountFault::Cap),
            Self::Percent { .. } => Ok(()),
        }
    }

    /// What it takes off `price`: from nothing to the whole price. Nothing off a price in another currency.
    #[must_use]
    pub fn off(&self, price: Money) -> Money {
        let none = Money { minor: 0, currency: price.currency };
        let (wanted, currency) = match self {
            Self::Amount(amount) => (amount.minor, amount.currency),
            Self::Percent { percent, cap } => {
                let share = i128::from(price.minor.max(0)) * i128::from(*percent) / 100;
                let share = i64::try_from(share).unwrap_or(i64::MAX);
                match cap {
                    Some(cap) => (share.min(cap.minor), cap.currency),
                    None => (share, price.currency),
                }
            }
        };
        if currency != price.currency {
            return none;
        }
        Money { minor: wanted.clamp(0, price.minor.max(0)), currency }
    }

    /// As timelines and the event stream write it.
    #[must_use]
    pub fn describe(&self) -> serde_json::Value {
        let money = |money: &Money| serde_json::json!({ "value": money.minor, "currency": money.currency.code() });
        match self {
            Self::Amount(amount) => serde_json::json!({ "amount": money(amount) }),
            Self::Percent { percent, cap } => {
                serde_json::json!({ "percent": percent, "cap": cap.as_ref().map(money) })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::codec;
    use proptest::prelude::*;

    #[test]
    fn a_percentage_is_rounded_down_and_capped() {
        let ten = |cap: Option<i64>| Discount::Percent { percent: 10, cap: cap.map(Money::krw) };
        assert_eq!(ten(None).off(Money::krw(4_999)), Money::krw(499));
        assert_eq!(ten(Some(300)).off(Money::krw(4_999)), Money::krw(300));
        assert_eq!(Discount::Amount(Money::krw(5_000)).off(Money::krw(4_500)), Money::krw(4_500));
        assert_eq!(Discount::Amount(Money::krw(1_000)).off(Money::krw(4_500)), Money::krw(1_000));
    }

    #[test]
    fn discounts_that_are_none_are_refused() {
        let percent = |percent, cap: Option<i64>| Discount::Percent { percent, cap: cap.map(Money::krw) }.check();
        assert_eq!(Discount::Amount(Money::krw(0)).check(), Err(DiscountFault::Amount));
        assert_eq!(Discount::Amount(Money::krw(DISCOUNT_MINOR_MAX + 1)).check(), Err(DiscountFault::Amount));
        assert_eq!((percent(0, None), percent(101, None)), (Err(DiscountFault::Percent), Err(DiscountFault::Percent)));
        assert_eq!(percent(10, Some(0)), Err(DiscountFault::Cap));
        assert_eq!((percent(1, Some(1)), percent(100, None)), (Ok(()), Ok(())));
    }

    #[test]
    fn persisted_bytes_are_golden() {
        assert_eq!(hex::encode(codec::encode(&Discount::Amount(Money::krw(2)))), "000400");
        let capped = Discount::Percent { percent: 10, cap: Some(Money::krw(2)) };
        assert_eq!(hex::encode(codec::encode(&capped)), "010a010400");
    }

    proptest! {
        #[test]
        fn never_more_than_the_price_nor_less_than_nothing(
            price in 0i64..1_000_000_000_000, amount in any::<i64>(), percent in any::<u8>(), cap in any::<i64>(),
        ) {
            let capped = Discount::Percent { percent, cap: Some(Money::krw(cap)) };
            for discount in [Discount::Amount(Money::krw(amount)), capped, Discount::Percent { percent, cap: None }] {
                let off = discount.off(Money::krw(price)).minor;
                prop_assert!((0..=price).contains(&off), "{discount:?} takes {off} off {price}");
            }
        }
    }
}

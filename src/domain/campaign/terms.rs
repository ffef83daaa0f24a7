//! What a campaign promises. It never changes once it is promised.

use super::PARTS_MAX;
use crate::domain::coupon::{Discount, DiscountFault};
use crate::types::time::{Millis, Timestamp};
use serde::{Deserialize, Serialize};

/// Bytes of a campaign's name.
pub const NAME_BYTES_MAX: usize = 256;
/// Coupons of one campaign.
pub const QUANTITY_MAX: u32 = 10_000_000;
/// Days that a coupon may be good for: five years.
pub const VALID_DAYS_MAX: u16 = 1_826;
/// Longest window, and how far ahead it may begin.
pub const WINDOW_MAX: Millis = Millis::from_days(366);

/// The terms of a campaign.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Terms {
    pub name: String,
    pub quantity: u32,
    /// First instant at which a claim is taken, and the first at which none is any more.
    pub starts_at: Timestamp,
    pub ends_at: Timestamp,
    pub discount: Discount,
    /// A coupon is good to the end of the day that is this many days after the one on which it was issued.
    pub valid_days: u16,
}

/// What is wrong with the terms.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum TermsFault {
    #[error("the name is empty or too long")]
    Name,
    #[error("the quantity is not from 1 to {QUANTITY_MAX}")]
    Quantity,
    #[error("it begins more than a year ahead")]
    StartsAt,
    #[error("it does not end after it begins and after now, within a year of its beginning")]
    EndsAt,
    #[error("{0}")]
    Discount(DiscountFault),
    #[error("the days are not from 1 to {VALID_DAYS_MAX}")]
    ValidDays,
    #[error("the parts are not from 1 to {PARTS_MAX}, or more than the quantity")]
    Parts,
}

impl Terms {
    /// # Errors
    /// The first [`TermsFault`], as of `now`.
    pub fn check(&self, now: Timestamp) -> Result<(), TermsFault> {
        match self.faults(now).into_iter().next() {
            Some(fault) => Err(fault),
            None => Ok(()),
        }
    }

    /// Every fault.
    #[must_use]
    pub fn faults(&self, now: Timestamp) -> Vec<TermsFault> {
        let window = self.starts_at < self.ends_at && now < self.ends_at && self.ends_at <= self.starts_at + WINDOW_MAX;
        let checks = [
            (!self.name.is_empty() && self.name.len() <= NAME_BYTES_MAX, TermsFault::Name),
            ((1..=QUANTITY_MAX).contains(&self.quantity), TermsFault::Quantity),
            (self.starts_at <= now + WINDOW_MAX, TermsFault::StartsAt),
            (window, TermsFault::EndsAt),
            ((1..=VALID_DAYS_MAX).contains(&self.valid_days), TermsFault::ValidDays),
        ];
        let found = checks.into_iter().filter(|(sound, _)| !sound).map(|(_, fault)| fault);
        found.chain(self.discount.check().err().map(TermsFault::Discount)).collect()
    }
}

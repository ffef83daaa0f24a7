//! Money in minor units. No floats, no silent overflow.

use serde::{Deserialize, Serialize};
use std::fmt;

/// ISO 4217 code of a currency that the product can hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Currency {
    /// South Korean won, exponent 0: one minor unit is one won.
    KRW,
}

impl Currency {
    #[must_use]
    pub fn code(self) -> &'static str {
        match self {
            Self::KRW => "KRW",
        }
    }
    #[must_use]
    pub fn parse(code: &str) -> Option<Self> {
        match code {
            "KRW" => Some(Self::KRW),
            _ => None,
        }
    }
}

/// An amount of one currency in minor units.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Money {
    pub minor: i64,
    pub currency: Currency,
}

/// A sum that left the range of `i64`, or mixed two currencies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MoneyError {
    #[error("amount out of range")]
    OutOfRange,
    #[error("amounts of two currencies")]
    CurrencyMismatch,
}

impl Money {
    #[must_use]
    pub const fn krw(won: i64) -> Self {
        Self { minor: won, currency: Currency::KRW }
    }

    /// # Errors
    /// [`MoneyError::CurrencyMismatch`], or [`MoneyError::OutOfRange`] on overflow.
    pub fn checked_add(self, other: Self) -> Result<Self, MoneyError> {
        self.combine(other, i64::checked_add)
    }

    /// # Errors
    /// [`MoneyError::CurrencyMismatch`], or [`MoneyError::OutOfRange`] on overflow.
    pub fn checked_sub(self, other: Self) -> Result<Self, MoneyError> {
        self.combine(other, i64::checked_sub)
    }

    fn combine(self, other: Self, with: fn(i64, i64) -> Option<i64>) -> Result<Self, MoneyError> {
        if self.currency != other.currency {
            return Err(MoneyError::CurrencyMismatch);
        }
        let minor = with(self.minor, other.minor).ok_or(MoneyError::OutOfRange)?;
        Ok(Self { minor, currency: self.currency })
    }

    #[must_use]
    pub fn is_zero(self) -> bool {
        self.minor == 0
    }
}

impl fmt::Debug for Money {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.minor, self.currency.code())
    }
}
impl fmt::Display for Money {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

//! JSON values that several resources share, exactly as API.md writes them.

use crate::domain::kinds;
use crate::domain::tender::HeldCoupon;
use crate::types::money::Money;
use crate::types::time::Timestamp;
use serde::{Serialize, Serializer};
use utoipa::ToSchema;

/// An amount in minor units: `{"value": 4500, "currency": "KRW"}`.
#[derive(Clone, Copy, Debug, Serialize, ToSchema)]
pub struct MoneyView {
    /// Whole minor units (won).
    #[schema(example = 4500)]
    pub value: i64,
    #[schema(example = "KRW")]
    pub currency: &'static str,
}

impl From<Money> for MoneyView {
    fn from(money: Money) -> Self {
        Self { value: money.minor, currency: money.currency.code() }
    }
}

/// An instant, RFC 3339 in UTC with milliseconds.
#[derive(Clone, Copy, Debug, ToSchema)]
#[schema(value_type = String, format = DateTime, example = "2026-12-25T05:00:00.000Z")]
pub struct Instant(pub Timestamp);

impl Serialize for Instant {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0.to_rfc3339())
    }
}

impl From<Timestamp> for Instant {
    fn from(at: Timestamp) -> Self {
        Self(at)
    }
}

/// The coupon that a gift or an order pays with.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct TenderView {
    #[schema(example = "c_5f1c2d3e4f5061728394a5b6c7d8e9f0")]
    pub id: String,
    /// What it takes off the price; `amount` is what is left to be paid in money.
    pub discount: MoneyView,
    /// `pending`, `used`, `returning` or `returned`.
    pub status: &'static str,
}

impl From<HeldCoupon> for TenderView {
    fn from(held: HeldCoupon) -> Self {
        let HeldCoupon { terms, hold } = held;
        Self { id: kinds::text_id(terms.coupon), discount: terms.off.into(), status: hold.name() }
    }
}

/// One page of a list.
#[derive(Debug, Serialize, ToSchema)]
pub struct Page<T> {
    pub items: Vec<T>,
    /// Pass as `?cursor=` for the next page; `null` at the end.
    pub next_cursor: Option<String>,
}

/// The RFC 9457 document of every failure, for the description of the API; `problem.rs` writes it.
#[derive(Debug, Serialize, ToSchema)]
pub struct ProblemDocument {
    #[schema(example = "urn:bojagi:problem:validation_failed")]
    pub r#type: String,
    pub title: String,
    #[schema(example = 422)]
    pub status: u16,
    pub detail: String,
    /// Stable; what a program should look at.
    #[schema(example = "validation_failed")]
    pub code: String,
    /// `not_applied`, or `unknown`: then repeat with the same Idempotency-Key.
    #[schema(example = "not_applied")]
    pub outcome: String,
    pub trace_id: String,
    /// For `validation_failed`: all faults at once.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub errors: Option<Vec<FaultDocument>>,
}

/// One fault of a request.
#[derive(Debug, Serialize, ToSchema)]
pub struct FaultDocument {
    /// JSON pointer into the body, or `/name` of a query parameter.
    #[schema(example = "/send_at/zone")]
    pub pointer: String,
    #[schema(example = "unknown_zone")]
    pub code: String,
    pub detail: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn money_and_instants_are_written_as_the_contract_says() {
        let money = serde_json::to_string(&MoneyView::from(Money::krw(4500))).unwrap();
        assert_eq!(money, r#"{"value":4500,"currency":"KRW"}"#);
        let at = Timestamp::parse_rfc3339("2026-12-25T05:00:00Z").unwrap();
        assert_eq!(serde_json::to_string(&Instant(at)).unwrap(), r#""2026-12-25T05:00:00.000Z""#);
    }
}

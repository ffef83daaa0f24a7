//! A reservation as its user sees it: a pure function of (id, version, state). Nothing personal is in it.

use crate::api::dto::{Instant, MoneyView};
use crate::api::order_view::{OrderPayment, Unpaid};
use crate::api::problem::{Code, Problem};
use crate::domain::kinds;
use crate::domain::reservation::{Assignment, ReservationState, Status};
use crate::domain::ticket::ticket_key;
use crate::types::ids::Version;
use serde::Serialize;
use utoipa::ToSchema;

/// A reservation.
#[derive(Debug, Serialize, ToSchema)]
pub struct ReservationView {
    #[schema(example = "rv_5f1c0a9be1d24c7f8a3b6d5e4f3a2b1c")]
    pub id: String,
    /// `temporary_assigned`, `payment_pending`, `confirmed`, `payment_failed`, `expired` or `cancelled`.
    #[schema(example = "temporary_assigned")]
    pub status: &'static str,
    /// Records of its journal; also its entity tag.
    pub version: u64,
    pub show_id: String,
    pub ticket: String,
    #[schema(example = json!(["A-12"]))]
    pub seats: Vec<String>,
    pub amount: MoneyView,
    pub refunded: MoneyView,
    /// `null` before it is to be paid.
    pub payment: Option<OrderPayment>,
    /// Why it has no seats (any more): `insufficient_balance`, `payment_timeout`, a provider's code, …
    pub code: Option<String>,
    /// When the seats are given up unless they are paid.
    pub expires_at: Instant,
    pub created_at: Instant,
    pub updated_at: Instant,
}

/// The user's view of a reservation.
///
/// # Errors
/// [`Code::Internal`]: there is none.
pub fn reservation_view(id: &str, version: Version, state: &ReservationState) -> Result<ReservationView, Problem> {
    let Assignment { show, owner, assigned_at, .. } = state.assignment().ok_or_else(|| Problem::new(Code::Internal))?;
    let unpaid = match state.status() {
        Status::PaymentFailed | Status::Expired => Unpaid::Failed,
        Status::Cancelled => Unpaid::Cancelled,
        Status::TemporaryAssigned | Status::PaymentPending | Status::Confirmed => Unpaid::Pending,
    };
    Ok(ReservationView {
        id: id.to_owned(),
        status: state.status().name(),
        version: version.0,
        show_id: kinds::text_id(*show),
        ticket: kinds::text_id(ticket_key(*show, owner)),
        seats: state.assignment().map(Assignment::names).unwrap_or_default(),
        amount: state.amount().into(),
        refunded: state.refunded().into(),
        payment: state
            .method()
            .map(|method| OrderPayment::of(method, state.paid_state(), state.paid(), state.amount(), unpaid)),
        code: state.code().map(str::to_owned),
        expires_at: state.expires_at().into(),
        created_at: (*assigned_at).into(),
        updated_at: state.updated_at().into(),
    })
}

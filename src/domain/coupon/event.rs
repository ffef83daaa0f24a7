//! What happens to a coupon, and what the event stream says of it. Its owner is not named there.

use super::{Coupon, Grant, Payer, Phase, RELEASED_MAX};
use crate::domain::kinds;
use crate::types::codec::{self, CodecError};
use crate::types::publication::{Publication, Topic};
use crate::types::time::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// What happened to a coupon. Persisted: variants are append only.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum CouponEvent {
    Issued(Box<Issue>),
    Used {
        at: Timestamp,
        by: Payer,
    },
    /// `by`'s use is void from here on; `was_used`: it had used the coupon, which is free again.
    Restored {
        at: Timestamp,
        by: Payer,
        was_used: bool,
    },
    Expired {
        at: Timestamp,
    },
}

/// The beginning of a coupon.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Issue {
    pub at: Timestamp,
    pub expires_at: Timestamp,
    pub grant: Grant,
}

const ISSUED: Topic = Topic("coupon-issued.v1");
const USAGE: Topic = Topic("coupon-usage.v1");

/// The topics that a coupon's events are published under.
pub const TOPICS: [Topic; 2] = [ISSUED, USAGE];

/// What the events of one record say on the event stream.
///
/// # Errors
/// [`CodecError`]: the bytes are not a coupon's events.
pub fn publications(events: &[u8]) -> Result<Vec<Publication>, CodecError> {
    let events: Vec<CouponEvent> = codec::decode(events)?;
    let topic = |event: &CouponEvent| match event {
        CouponEvent::Issued(_) => ISSUED,
        CouponEvent::Used { .. } | CouponEvent::Restored { .. } | CouponEvent::Expired { .. } => USAGE,
    };
    events.iter().map(|event| Publication::new(topic(event), event.describe(), &[])).collect()
}

impl Payer {
    /// Who paid, without naming the member: the entity's id, or `member`.
    #[must_use]
    pub fn describe(&self) -> String {
        match self {
            Self::Entity(key) => kinds::text_id(*key),
            Self::Member(_) => "member".to_owned(),
        }
    }
}

impl CouponEvent {
    pub(super) fn describe(&self) -> Value {
        match self {
            Self::Issued(issue) => json!({
                "type": "issued", "at": issue.at.to_rfc3339(),
                "campaign_id": kinds::text_id(issue.grant.campaign), "ticket": issue.grant.ticket.0, "discount": issue.grant.discount.describe(),
                "expires_at": issue.expires_at.to_rfc3339(),
            }),
            Self::Used { at, by } => json!({ "type": "used", "at": at.to_rfc3339(), "by": by.describe() }),
            Self::Restored { at, by, was_used } => json!({
                "type": "restored", "at": at.to_rfc3339(), "by": by.describe(), "was_used": was_used,
            }),
            Self::Expired { at } => json!({ "type": "expired", "at": at.to_rfc3339() }),
        }
    }

    pub(super) fn evolve(&self, slot: &mut Option<Coupon>) {
        match (self, slot) {
            (Self::Issued(issue), slot) => *slot = Some(issue.coupon()),
            (Self::Used { at, by }, Some(coupon)) => coupon.enter(Phase::Used { by: *by, at: *at }, *at),
            (Self::Restored { at, by, was_used }, Some(coupon)) => {
                if *was_used {
                    coupon.enter(Phase::Restored { at: *at }, *at);
                }
                if coupon.released.len() >= RELEASED_MAX {
                    coupon.released.remove(0);
                }
                coupon.released.push(*by);
            }
            (Self::Expired { at }, Some(coupon)) => coupon.enter(Phase::Expired { at: *at }, *at),
            (Self::Used { .. } | Self::Restored { .. } | Self::Expired { .. }, None) => {}
        }
    }
}

impl Issue {
    fn coupon(&self) -> Coupon {
        let Grant { campaign, ticket, name, discount, owner, claim, valid_days: _ } = self.grant.clone();
        Coupon {
            campaign,
            ticket,
            name,
            discount,
            owner,
            claim,
            issued_at: self.at,
            expires_at: self.expires_at,
            phase: Phase::Issued,
            released: Vec::new(),
            updated_at: self.at,
        }
    }
}

impl Coupon {
    fn enter(&mut self, phase: Phase, at: Timestamp) {
        self.phase = phase;
        self.updated_at = at;
    }

    /// The coupon as it was when it was issued: what its claim was answered with.
    #[must_use]
    pub fn as_issued(&self) -> Self {
        Self { phase: Phase::Issued, released: Vec::new(), updated_at: self.issued_at, ..self.clone() }
    }
}

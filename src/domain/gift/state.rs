//! The state of a gift. Persisted as it is: fields and variants are append only, golden bytes in the tests.

use super::beside::Beside;
use super::command::{PaymentTerms, ProductSnapshot, RecipientFacts, RedemptionKey, Status};
use super::event::{Evidence, RefundReason, Validity};
use super::ledger::Ledger;
use super::personal::ContactSet;
use crate::domain::calendar::{ResolvedInstant, SendAt};
pub(super) use crate::domain::calling::Call;
use crate::domain::notices::Notices;
use crate::domain::stored::{Stored, StoredRef};
use crate::types::effect::Channel;
use crate::types::money::Money;
use crate::types::record::Sealed;
use crate::types::time::Timestamp;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Cancelled transactions that a gift remembers; the oldest makes room.
pub const TOMBSTONES_MAX: usize = 8;
/// Links that a gift no longer goes by and that it remembers; the oldest makes room.
pub const DEAD_LINKS_MAX: usize = 8;
/// Attempts of one generation, replays included.
pub const ATTEMPTS_MAX: u16 = 255;

/// A gift, or (by default) one that does not exist yet.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GiftState {
    pub(super) gift: Option<Box<Gift>>,
}

impl Serialize for GiftState {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let beside = |gift: &Gift| !gift.beside.is_empty();
        let parts = self.gift.as_deref().map(|gift| (gift, beside(gift).then_some(&gift.beside)));
        let dead_links = self.gift.as_deref().map(|gift| &gift.dead_links).filter(|dead| !dead.is_empty());
        StoredRef::of(parts).with_more(dead_links).serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for GiftState {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let parts = Stored::<Gift, Beside, Vec<[u8; 16]>>::deserialize(deserializer)?.into_all_parts();
        let gift = parts.map(|(mut gift, beside, dead_links)| {
            gift.beside = beside.unwrap_or_default();
            gift.dead_links = dead_links.unwrap_or_default();
            gift
        });
        Ok(Self { gift })
    }
}

/// An existing gift.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Gift {
    pub owner: String,
    pub product: ProductSnapshot,
    pub recipient: RecipientFacts,
    pub sender: ContactSet,
    /// `None` once erased.
    pub sealed: Option<Sealed>,
    pub link_hash: [u8; 16],
    pub code_hash: [u8; 16],
    pub send_at: SendAt,
    pub resolved: ResolvedInstant,
    pub channels: Vec<Channel>,
    pub payment: PaymentTerms,
    pub payment_provider: Option<String>,
    pub ledger: Ledger,
    pub phase: Phase,
    pub delivery: Delivery,
    pub validity: Option<Validity>,
    pub transfers_left: u8,
    pub cancelled_redemptions: Vec<RedemptionKey>,
    pub notices: Notices,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
    /// Written behind the rest, see [`GiftState`].
    #[serde(skip)]
    pub beside: Beside,
    /// Hashes of the links that it no longer goes by, so that they lead to an answer still. Written behind the rest, too.
    #[serde(skip)]
    pub dead_links: Vec<[u8; 16]>,
}

/// Where the gift stands, with what only that stage needs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Phase {
    PaymentPending {
        call: Call,
        expires_at: Timestamp,
    },
    Scheduled,
    Sending(Sending),
    Sent,
    Accepted {
        accepted_at: Timestamp,
    },
    Used {
        accepted_at: Timestamp,
        used_at: Timestamp,
        redemption: RedemptionKey,
    },
    PaymentFailed {
        code: String,
    },
    /// `lookup` until the provider rules a late capture out.
    PaymentExpired {
        lookup: Option<Call>,
    },
    Cancelled {
        lookup: Option<Call>,
    },
    Declined,
    /// A dead letter. `since` is when it died; `sending` is what a replay continues.
    SendFailed {
        since: Timestamp,
        code: String,
        sending: Sending,
    },
    Expired,
    Refunding(Refund),
    Refunded {
        reason: RefundReason,
    },
    RefundFailed {
        since: Timestamp,
        code: String,
        review_at: Timestamp,
        refund: Refund,
    },
}

/// A delivery under way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Sending {
    /// Number of the attempt that is wanted, open or accepted, from 1.
    pub number: u16,
    /// `None` while the provider has accepted and its report is awaited.
    pub call: Option<Call>,
    /// Position in the gift's channels.
    pub channel_index: u8,
    /// Definite refusals of this channel that may pass.
    pub refusals: u8,
    /// When the report is given up; set with acceptance.
    pub report_due: Option<Timestamp>,
}

/// The delivery as it stands: (gift, generation).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Delivery {
    pub generation: u16,
    /// Number of the last attempt of this generation that was started; 0 before the first.
    pub attempt: u16,
    /// When the first attempt of this generation was due.
    pub due: Option<Timestamp>,
    pub channel: Option<Channel>,
    pub provider: Option<String>,
    pub receipt: Option<String>,
    pub accepted_at: Option<Timestamp>,
    pub sent_at: Option<Timestamp>,
    /// Why the message is believed to have arrived.
    pub evidence: Option<Evidence>,
    /// Code of a failure that was reported too late to matter.
    pub noted_failure: Option<String>,
}

/// Money on its way back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Refund {
    pub reason: RefundReason,
    /// What is given back in total when all is done.
    pub amount: Money,
    /// Number of the current attempt, from 1.
    pub number: u16,
    /// Definite refusals so far, for the pause and the limit.
    pub refusals: u16,
    pub call: Call,
}

impl Sending {
    /// Attempt `number`, on the channel at `channel_index`.
    pub fn attempt(number: u16, channel_index: u8, due: Timestamp) -> Self {
        Self { number, call: Some(Call::due_at(due)), channel_index, refusals: 0, report_due: None }
    }
}

impl Gift {
    /// A message is on its way, or was given up while it may yet turn out to have arrived.
    pub fn is_under_way(&self) -> bool {
        matches!(self.phase, Phase::Sending(_) | Phase::SendFailed { .. })
    }

    /// Whether the end of validity means anything now.
    pub fn validity_counts(&self) -> bool {
        let held = matches!(self.phase, Phase::Sent | Phase::Accepted { .. });
        self.validity.is_some() && (held || self.is_under_way())
    }

    /// Nothing left to do and nothing left to hold (INV-9). A dead notice waits for nobody.
    pub fn is_terminal(&self) -> bool {
        let settled = match &self.phase {
            Phase::Used { .. }
            | Phase::PaymentFailed { .. }
            | Phase::Declined
            | Phase::Expired
            | Phase::Refunded { .. } => true,
            Phase::PaymentExpired { lookup } | Phase::Cancelled { lookup } => lookup.is_none(),
            Phase::PaymentPending { .. }
            | Phase::Scheduled
            | Phase::Sending(_)
            | Phase::Sent
            | Phase::Accepted { .. }
            | Phase::SendFailed { .. }
            | Phase::Refunding(_)
            | Phase::RefundFailed { .. } => false,
        };
        let settled = settled && self.is_settled_beside();
        settled && !self.notices.has_wanted()
    }

    /// Personal data and journal are gone for good. A gift that has them has a channel.
    pub fn is_forgotten(&self) -> bool {
        self.channels.is_empty()
    }

    /// Why money went, goes or should go back.
    pub fn refund_reason(&self) -> Option<RefundReason> {
        if let Phase::Refunding(refund) | Phase::RefundFailed { refund, .. } = &self.phase {
            Some(refund.reason)
        } else if let Phase::Refunded { reason } = &self.phase {
            Some(*reason)
        } else {
            None
        }
    }

    /// The call that finds out about the payment: the confirmation, later the lookup. A payment that waits for its coupon
    /// has none yet.
    pub fn payment_call(&self) -> Option<&Call> {
        if self.awaits_coupon() {
            None
        } else if let Phase::PaymentPending { call, .. } = &self.phase {
            Some(call)
        } else if let Phase::PaymentExpired { lookup } | Phase::Cancelled { lookup } = &self.phase {
            lookup.as_ref()
        } else {
            None
        }
    }

    /// The same, or the refund's.
    pub fn money_call_mut(&mut self) -> Option<&mut Call> {
        match &mut self.phase {
            Phase::PaymentPending { call, .. } | Phase::Refunding(Refund { call, .. }) => Some(call),
            Phase::PaymentExpired { lookup } | Phase::Cancelled { lookup } => lookup.as_mut(),
            Phase::Scheduled
            | Phase::Sending(_)
            | Phase::Sent
            | Phase::Accepted { .. }
            | Phase::Used { .. }
            | Phase::PaymentFailed { .. }
            | Phase::Declined
            | Phase::SendFailed { .. }
            | Phase::Expired
            | Phase::Refunded { .. }
            | Phase::RefundFailed { .. } => None,
        }
    }
}

impl Phase {
    pub fn status(&self) -> Status {
        match self {
            Self::PaymentPending { .. } => Status::PaymentPending,
            Self::Scheduled => Status::Scheduled,
            Self::Sending(_) => Status::Sending,
            Self::Sent => Status::Sent,
            Self::Accepted { .. } => Status::Accepted,
            Self::Used { .. } => Status::Used,
            Self::PaymentFailed { .. } => Status::PaymentFailed,
            Self::PaymentExpired { .. } => Status::PaymentExpired,
            Self::Cancelled { .. } => Status::Cancelled,
            Self::Declined => Status::Declined,
            Self::SendFailed { .. } => Status::SendFailed,
            Self::Expired => Status::Expired,
            Self::Refunding(_) => Status::Refunding,
            Self::Refunded { .. } => Status::Refunded,
            Self::RefundFailed { .. } => Status::RefundFailed,
        }
    }
}

//! Notices: messages beside the gift's own delivery. At least once, with a retry schedule and dead letters of their own.

use crate::types::call::Template;
use crate::types::effect::Channel;
use crate::types::time::Timestamp;
use serde::{Deserialize, Serialize};

/// One entry of a gift's notification log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Notice {
    /// From 0 within the gift; never reused.
    pub number: u16,
    pub template: Template,
    /// Channel of the current or last try.
    pub channel: Channel,
    /// Days before expiry, for a reminder.
    pub days: Option<u8>,
    /// Generation of the delivery that it belongs to.
    pub generation: u16,
    pub made_at: Timestamp,
    /// Definite refusals by the current channel.
    pub tries: u8,
    pub progress: NoticeProgress,
}

/// Where a notice stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum NoticeProgress {
    Wanted {
        due: Timestamp,
    },
    Sent {
        at: Timestamp,
    },
    /// A dead letter until an operator replays or discards it.
    Dead {
        at: Timestamp,
        code: String,
    },
    /// No longer of use, or discarded.
    Dropped {
        at: Timestamp,
    },
}

/// Who a notice is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Audience {
    Sender,
    Recipient,
}

impl Notice {
    #[must_use]
    pub fn audience(&self) -> Audience {
        match self.template {
            Template::GiftArrived | Template::ExpiresInDays => Audience::Recipient,
            Template::SenderReserved
            | Template::SenderSent
            | Template::SenderAccepted
            | Template::SenderFailed
            | Template::SenderRefunded
            | Template::SenderMoved => Audience::Sender,
        }
    }
    /// `pending`, `sent`, `dead_letter` or `dropped`.
    #[must_use]
    pub fn status(&self) -> &'static str {
        match self.progress {
            NoticeProgress::Wanted { .. } => "pending",
            NoticeProgress::Sent { .. } => "sent",
            NoticeProgress::Dead { .. } => "dead_letter",
            NoticeProgress::Dropped { .. } => "dropped",
        }
    }
    /// When it reached the status that it has.
    #[must_use]
    pub fn settled_at(&self) -> Option<Timestamp> {
        match self.progress {
            NoticeProgress::Wanted { .. } => None,
            NoticeProgress::Sent { at } | NoticeProgress::Dead { at, .. } | NoticeProgress::Dropped { at } => Some(at),
        }
    }
}

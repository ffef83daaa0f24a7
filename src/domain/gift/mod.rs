//! The gift.

mod command;
mod event;
mod ledger;
mod notice;
mod personal;
mod state;
mod view;

pub use command::{
    Change, GiftCommand, GiftRejection, Letter, PaymentTerms, ProductSnapshot, RecipientFacts, RedemptionKey,
    Reservation, Status, Transfer,
};
pub use event::{Doubt, Evidence, GiftEvent, GiftFact, NoticeStep, RefundReason, Reminder, Validity};
pub use ledger::Ledger;
pub use notice::{Audience, Notice, NoticeProgress};
pub use personal::{ContactSet, Personal, RecipientContact, SenderContact, topic_of};
pub use state::{GiftState, NOTICES_MAX};
pub use view::{DeadLetter, DeliveryView, Redemption};

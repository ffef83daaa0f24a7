//! What the providers have of each gift, by the sandbox's ledger: messages by delivery and attempt, and money.

use crate::load::http::{Connection, HttpError, Target};
use crate::load::ledger::{self, LedgerItem, gift_id};
use crate::load::{CALL_DEADLINE, LoadError};
use crate::types::time::Timestamp;
use std::collections::BTreeMap;

/// Messages of one attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Message {
    pub delivery: u16,
    pub attempt: u16,
    pub requests: u64,
    pub effective: u64,
    pub first_at: Timestamp,
    pub last_at: Timestamp,
}

/// What they have of one gift.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OfGift {
    pub messages: Vec<Message>,
    /// Won, and when the first capture was.
    pub captured: i64,
    pub refunded: i64,
    pub captured_at: Option<Timestamp>,
}

/// What they have of all gifts. What is found on a disk is taken out.
#[derive(Debug, Default)]
pub struct Provided {
    gifts: BTreeMap<[u8; 16], OfGift>,
}

impl Provided {
    /// # Errors
    /// [`LoadError`]: the sandbox does not answer.
    pub async fn read(sandbox: &str) -> Result<Self, LoadError> {
        let failed = |source: HttpError| LoadError::Http { what: "the sandbox's URL", source };
        let mut sandbox = Connection::new(Target::parse(sandbox).map_err(failed)?, CALL_DEADLINE);
        let mut provided = Self::default();
        for kind in ["message", "payment", "refund"] {
            for item in ledger::rows(&mut sandbox, kind, "g_").await? {
                provided.note(kind, &item);
            }
        }
        Ok(provided)
    }

    fn note(&mut self, kind: &str, item: &LedgerItem) {
        let mut parts = item.reference.split('.');
        let Some(gift) = parts.next().and_then(gift_id) else { return };
        let first_at = Timestamp::parse_rfc3339(&item.first_at).unwrap_or_default();
        let last_at = Timestamp::parse_rfc3339(&item.last_at).unwrap_or(first_at);
        let amount = item.amount.unwrap_or_default().value;
        if kind == "message" {
            // A notice has no delivery.
            let numbers = parts.next().zip(parts.next());
            let numbers = numbers.and_then(|(delivery, attempt)| delivery.parse().ok().zip(attempt.parse().ok()));
            let Some((delivery, attempt)) = numbers else { return };
            let (requests, effective) = (item.requests, item.effective);
            let message = Message { delivery, attempt, requests, effective, first_at, last_at };
            self.gifts.entry(gift).or_default().messages.push(message);
            return;
        }
        // A call that changed nothing is no money.
        if amount == 0 {
            return;
        }
        let of_gift = self.gifts.entry(gift).or_default();
        if kind == "payment" {
            of_gift.captured += amount;
            of_gift.captured_at = Some(of_gift.captured_at.map_or(first_at, |known| known.min(first_at)));
        } else {
            of_gift.refunded += amount;
        }
    }

    /// Messages that a person got.
    #[must_use]
    pub fn messages(&self) -> u64 {
        self.gifts.values().flat_map(|gift| &gift.messages).map(|message| message.effective).sum()
    }

    /// Takes out what there is of a gift.
    pub fn take(&mut self, gift: &[u8; 16]) -> OfGift {
        self.gifts.remove(gift).unwrap_or_default()
    }

    /// Gifts that were not taken out.
    pub fn strangers(&self) -> impl Iterator<Item = &[u8; 16]> {
        self.gifts.keys()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::ledger::Amount;

    fn item(reference: &str, effective: u64, amount: i64) -> LedgerItem {
        LedgerItem {
            reference: reference.to_owned(),
            purpose: None,
            requests: 2,
            effective,
            first_at: Timestamp(5).to_rfc3339(),
            last_at: Timestamp(9).to_rfc3339(),
            amount: Some(Amount { value: amount }),
        }
    }

    #[test]
    fn messages_and_money_are_told_apart_and_notices_left_out() {
        let (gift, id) = (format!("g_{}", "5f".repeat(16)), [0x5f; 16]);
        let mut provided = Provided::default();
        provided.note("message", &item(&format!("{gift}.1.2"), 1, 0));
        provided.note("message", &item(&format!("{gift}.n.3.0"), 1, 0));
        provided.note("payment", &item(&gift, 1, 4_500));
        provided.note("refund", &item(&format!("{gift}.refund.1"), 1, 500));
        provided.note("payment", &item("o_5f", 1, 4_500));
        let message = Message {
            delivery: 1,
            attempt: 2,
            requests: 2,
            effective: 1,
            first_at: Timestamp(5),
            last_at: Timestamp(9),
        };
        assert_eq!((provided.messages(), provided.strangers().count()), (1, 1));
        let found = provided.take(&id);
        assert_eq!((found.messages, found.captured, found.refunded), (vec![message], 4_500, 500));
        assert_eq!((found.captured_at, provided.strangers().count()), (Some(Timestamp(5)), 0));
        assert_eq!(provided.take(&id), OfGift::default());
    }
}

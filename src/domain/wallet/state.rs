//! The state of a wallet, and what its events make of it. Persisted as it is: append only, golden bytes in the tests.

use super::letter::{self, DISCARDED};
use super::{WalletEvent, WalletFact};
use crate::domain::calling::Call;
use crate::domain::holds::{Hold, Holds};
use crate::domain::stored::{Grown, GrownRef};
use crate::types::ids::EntityKey;
use crate::types::money::{Currency, Money};
use crate::types::record::Sealed;
use crate::types::time::Timestamp;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::collections::VecDeque;

/// Charges that may wait at one time.
pub const CHARGES_MAX: usize = 8;
/// Settled charges that a wallet remembers; the oldest makes room.
const SETTLED_MAX: usize = 16;

/// A wallet, or (by default) one that was never charged.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WalletState {
    book: Book,
    /// `None`: made before wallets were listed, and not charged since.
    listed: Option<Listed>,
}

/// What a wallet has always known.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Book {
    owner: String,
    /// Minor units of won, all of them.
    balance: i64,
    charged: i64,
    spent: i64,
    holds: Holds,
    /// In the order of asking; the first is with the provider.
    waiting: VecDeque<Charge>,
    settled: VecDeque<Settled>,
    charges_made: u32,
    updated_at: Timestamp,
}

/// What a wallet that is in the list knows beside. Written behind the rest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Listed {
    /// There is a data key: payment keys of charges can be read.
    is_readable: bool,
}

impl Serialize for WalletState {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        GrownRef::of(&self.book, self.listed.as_ref()).serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for WalletState {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let Grown(book, listed) = Grown::deserialize(deserializer)?;
        Ok(Self { book, listed })
    }
}

/// A charge that waits for the payment provider.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Charge {
    /// From 1.
    pub number: u32,
    pub amount: Money,
    pub sealed: Sealed,
    pub call: Call,
    pub asked_at: Timestamp,
}

/// A charge that came to its end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Settled {
    number: u32,
    amount: Money,
    result: ChargeResult,
    asked_at: Timestamp,
}

/// What became of a charge.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ChargeResult {
    Charged,
    Failed { code: String },
}

/// A charge as its owner sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChargeView {
    pub number: u32,
    /// What was asked for; once charged, what was captured.
    pub amount: Money,
    /// `None` while it waits.
    pub result: Option<ChargeResult>,
    pub asked_at: Timestamp,
}

impl WalletState {
    /// `sub` of the user; empty before the first charge.
    #[must_use]
    pub fn owner(&self) -> &str {
        &self.book.owner
    }
    #[must_use]
    pub fn balance(&self) -> Money {
        won(self.book.balance)
    }
    /// Held for what is being bought.
    #[must_use]
    pub fn held(&self) -> Money {
        won(self.book.holds.total())
    }
    #[must_use]
    pub fn spent(&self) -> Money {
        won(self.book.spent)
    }
    /// All that was ever captured for it.
    #[must_use]
    pub fn charged(&self) -> Money {
        won(self.book.charged)
    }
    #[must_use]
    pub fn updated_at(&self) -> Timestamp {
        self.book.updated_at
    }
    /// charged = balance + held + spent, none below zero.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        let parts = [self.book.balance, self.book.holds.total(), self.book.spent];
        parts.iter().all(|part| *part >= 0)
            && parts.iter().try_fold(0i64, |sum, part| sum.checked_add(*part)) == Some(self.book.charged)
    }
    /// Newest first: those that wait and the last that settled.
    #[must_use]
    pub fn charges(&self) -> Vec<ChargeView> {
        let settled = self.book.settled.iter().map(|charge| ChargeView {
            number: charge.number,
            amount: charge.amount,
            result: Some(charge.result.clone()),
            asked_at: charge.asked_at,
        });
        let waiting = self.book.waiting.iter().map(|charge| ChargeView {
            number: charge.number,
            amount: charge.amount,
            result: None,
            asked_at: charge.asked_at,
        });
        let mut all: Vec<ChargeView> = settled.chain(waiting).collect();
        all.sort_by_key(|charge| std::cmp::Reverse(charge.number));
        all
    }
    /// The number that the last charge got; 0 before the first.
    #[must_use]
    pub fn charges_made(&self) -> u32 {
        self.book.charges_made
    }

    /// Whether it is in [`crate::domain::kinds::INDEX_WALLET`].
    pub(super) fn is_listed(&self) -> bool {
        self.listed.is_some()
    }
    /// When the payment keys of its charges are of no use any more; `None` while one waits, or when nobody can read them.
    pub(super) fn retention_begins(&self) -> Option<Timestamp> {
        let readable = self.listed.is_some_and(|listed| listed.is_readable);
        (readable && self.book.waiting.is_empty()).then_some(self.book.updated_at)
    }
    /// Nobody can read the payment keys of its charges; told of listed wallets only.
    #[must_use]
    pub fn is_erased(&self) -> bool {
        self.listed.is_some_and(|listed| !listed.is_readable)
    }

    /// The charge that is with the provider.
    pub(super) fn charge(&self) -> Option<&Charge> {
        self.book.waiting.front()
    }
    pub(super) fn waiting(&self) -> usize {
        self.book.waiting.len()
    }
    pub(super) fn holds(&self) -> &Holds {
        &self.book.holds
    }

    pub(super) fn evolve(&mut self, event: &WalletEvent) {
        self.book.updated_at = event.at;
        match &event.fact {
            WalletFact::ChargeRequested { owner, number, amount, sealed } => {
                self.book.owner.clone_from(owner);
                self.book.charges_made = *number;
                if let Some(listed) = &mut self.listed {
                    listed.is_readable = true;
                }
                let (amount, sealed, call) = (*amount, sealed.clone(), Call::due_at(event.at));
                self.book.waiting.push_back(Charge { number: *number, amount, sealed, call, asked_at: event.at });
            }
            WalletFact::ChargeAttempted(started) => self.on_call(|call| call.start(started, event.at)),
            WalletFact::ChargeUndecided { doubt, retry_at } => self.on_call(|call| call.doubt(doubt, *retry_at)),
            WalletFact::ChargeHinted => self.on_call(|call| call.hasten(event.at)),
            WalletFact::ChargeReplayed { .. } => self.on_call(|call| letter::look_again(call, event.at)),
            WalletFact::ChargeDiscarded { .. } => {
                self.settle(None, ChargeResult::Failed { code: DISCARDED.to_owned() }, event.at);
            }
            WalletFact::Charged { amount, .. } => {
                self.book.balance = self.book.balance.saturating_add(amount.minor);
                self.book.charged = self.book.charged.saturating_add(amount.minor);
                self.settle(Some(*amount), ChargeResult::Charged, event.at);
            }
            WalletFact::ChargeFailed { code } => {
                self.settle(None, ChargeResult::Failed { code: code.clone() }, event.at);
            }
            WalletFact::Held { holder, amount } => {
                self.book.balance = self.book.balance.saturating_sub(amount.minor);
                self.book.holds.take(Hold { holder: *holder, amount: amount.minor });
            }
            WalletFact::Spent { holder, stamp } => {
                self.book.spent = self.book.spent.saturating_add(self.close(*holder, *stamp));
            }
            WalletFact::Settled { holder, stamp, spent } => {
                let held = self.close(*holder, *stamp);
                let spent = spent.minor.clamp(0, held);
                self.book.spent = self.book.spent.saturating_add(spent);
                self.book.balance = self.book.balance.saturating_add(held - spent);
            }
            WalletFact::Listed => self.listed = Some(Listed { is_readable: self.book.charges_made > 0 }),
            WalletFact::Erased => self.listed = Some(Listed { is_readable: false }),
            WalletFact::Released { holder, stamp } => {
                self.book.balance = self.book.balance.saturating_add(self.close(*holder, *stamp));
            }
        }
    }

    fn close(&mut self, holder: EntityKey, stamp: Timestamp) -> i64 {
        self.book.holds.close(holder, stamp).map_or(0, |hold| hold.amount)
    }

    fn on_call(&mut self, change: impl FnOnce(&mut Call)) {
        if let Some(charge) = self.book.waiting.front_mut() {
            change(&mut charge.call);
        }
    }

    fn settle(&mut self, captured: Option<Money>, result: ChargeResult, at: Timestamp) {
        let Some(charge) = self.book.waiting.pop_front() else { return };
        let Charge { number, amount, asked_at, .. } = charge;
        self.book.settled.push_back(Settled { number, amount: captured.unwrap_or(amount), result, asked_at });
        let surplus = self.book.settled.len().saturating_sub(SETTLED_MAX);
        self.book.settled.drain(..surplus);
        if let Some(next) = self.book.waiting.front_mut() {
            next.call.due = next.call.due.max(at);
        }
    }
}

fn won(minor: i64) -> Money {
    Money { minor, currency: Currency::KRW }
}

//! The books of what is bought beside gifts: every order, and every wallet.
//!
//! Wallets are found by their list. One that was charged for the last time before there was a list is found by what it
//! bought.

use crate::api::dto::MoneyView;
use crate::api::problem::Problem;
use crate::api::router::Shared;
use crate::domain::kinds;
use crate::domain::order::{Method, OrderState, Status};
use crate::domain::wallet::{WalletState, wallet_key};
use crate::types::ids::EntityKey;
use crate::types::limits::PAGE_ITEMS_MAX;
use crate::types::money::Money;
use futures_util::future::try_join_all;
use serde::Serialize;
use std::collections::BTreeSet;
use utoipa::ToSchema;

/// Orders and wallets named in one report; all of them are counted.
const NAMED_MAX: usize = 1_000;

/// The wallets of those who bought.
pub type Buyers = BTreeSet<EntityKey>;

/// The books of all orders: paid = held + kept + refunded; a completed one keeps what it asked for, one that is undone
/// nothing.
#[derive(Debug, Serialize, ToSchema)]
pub struct OrderBooks {
    pub orders: u64,
    pub paid: MoneyView,
    pub held: MoneyView,
    pub kept: MoneyView,
    pub refunded: MoneyView,
    pub balanced: bool,
    /// The first thousand that break the rule.
    pub broken: Vec<String>,
}

/// The books of all wallets: charged = balance + held + spent.
#[derive(Debug, Serialize, ToSchema)]
pub struct WalletBooks {
    pub wallets: u64,
    pub charged: MoneyView,
    pub balance: MoneyView,
    pub held: MoneyView,
    pub spent: MoneyView,
    pub balanced: bool,
    /// The first thousand that break the rule.
    pub broken: Vec<String>,
}

/// Four sums of minor units. One that leaves its range breaks the book.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Sums {
    parts: [i64; 4],
    overflown: bool,
}

impl Sums {
    fn add(&mut self, parts: [Money; 4]) {
        for (sum, part) in self.parts.iter_mut().zip(parts) {
            let (next, overflown) = sum.overflowing_add(part.minor);
            *sum = next;
            self.overflown |= overflown;
        }
    }

    /// Whether the first is the sum of the others.
    fn agree(&self) -> bool {
        let [whole, parts @ ..] = self.parts;
        let sum = parts.iter().try_fold(0i64, |sum, part| sum.checked_add(*part));
        !self.overflown && sum == Some(whole)
    }

    fn views(&self) -> [MoneyView; 4] {
        self.parts.map(|minor| MoneyView::from(Money::krw(minor)))
    }
}

/// Paid, held, kept and refunded; and whether that is as its status says.
fn parts_of(order: &OrderState) -> ([Money; 4], bool) {
    let (paid, refunded, zero) = (order.paid(), order.refunded(), Money::krw(0));
    let rest = Money { minor: paid.minor.saturating_sub(refunded.minor), ..paid };
    let (held, kept, sound) = match order.status() {
        Status::Completed => (zero, rest, refunded.is_zero() && paid == order.amount()),
        Status::Failed | Status::Cancelled => (zero, rest, rest.is_zero()),
        Status::Payment | Status::Inventory | Status::Shipping | Status::Compensating | Status::Stuck => {
            (rest, zero, rest.minor >= 0)
        }
    };
    ([paid, held, kept, refunded], sound)
}

/// # Errors
/// What the runtime says.
pub async fn order_books(app: &Shared, open_only: bool, buyers: &mut Buyers) -> Result<OrderBooks, Problem> {
    let (mut sums, mut orders, mut broken) = (Sums::default(), 0, Vec::new());
    let (mut after, mut sound) = (None, true);
    loop {
        let page = app.door.list(kinds::INDEX_ORDER_OWNER, Vec::new(), after, PAGE_ITEMS_MAX).await?;
        let found = try_join_all(page.rows.iter().map(|(_, key)| app.peek_order(*key))).await?;
        for ((_, key), order) in page.rows.iter().zip(found) {
            let Some((_, order)) = order else { continue };
            if order.method() == Method::Balance {
                buyers.insert(wallet_key(order.owner()));
            }
            let (parts, adds_up) = parts_of(&order);
            if open_only && parts[1].is_zero() {
                continue;
            }
            orders += 1;
            sums.add(parts);
            sound &= adds_up;
            if !adds_up && broken.len() < NAMED_MAX {
                broken.push(kinds::text_id(*key));
            }
        }
        after = page.next;
        if after.is_none() {
            let [paid, held, kept, refunded] = sums.views();
            return Ok(OrderBooks { orders, paid, held, kept, refunded, balanced: sound && sums.agree(), broken });
        }
    }
}

/// # Errors
/// What the runtime says.
pub async fn wallet_books(app: &Shared, mut buyers: Buyers) -> Result<WalletBooks, Problem> {
    let mut books = WalletSums::default();
    let mut after = None;
    loop {
        let page = app.door.list(kinds::INDEX_WALLET, Vec::new(), after, PAGE_ITEMS_MAX).await?;
        let listed: Vec<EntityKey> = page.rows.iter().map(|(_, key)| *key).collect();
        books.add(app, &listed).await?;
        for key in &listed {
            buyers.remove(key);
        }
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    let unlisted: Vec<EntityKey> = buyers.into_iter().collect();
    for page in unlisted.chunks(PAGE_ITEMS_MAX) {
        books.add(app, page).await?;
    }
    Ok(books.report())
}

/// The books of wallets that are being made.
#[derive(Default)]
struct WalletSums {
    sums: Sums,
    wallets: u64,
    broken: Vec<String>,
    unsound: bool,
}

impl WalletSums {
    async fn add(&mut self, app: &Shared, keys: &[EntityKey]) -> Result<(), Problem> {
        let found = try_join_all(keys.iter().map(|key| app.look::<WalletState>(*key))).await?;
        for (key, wallet) in keys.iter().zip(found) {
            let Some(wallet) = wallet.map(|told| told.state) else { continue };
            self.wallets += 1;
            self.sums.add([wallet.charged(), wallet.balance(), wallet.held(), wallet.spent()]);
            self.unsound |= !wallet.is_sound();
            if !wallet.is_sound() && self.broken.len() < NAMED_MAX {
                self.broken.push(kinds::text_id(*key));
            }
        }
        Ok(())
    }

    fn report(self) -> WalletBooks {
        let [charged, balance, held, spent] = self.sums.views();
        let balanced = !self.unsound && self.sums.agree();
        WalletBooks { wallets: self.wallets, charged, balance, held, spent, balanced, broken: self.broken }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_agree_when_the_parts_are_the_whole_and_within_their_range() {
        let mut sums = Sums::default();
        sums.add([10, 1, 2, 7].map(Money::krw));
        assert!(sums.agree());
        sums.add([1, 0, 0, 0].map(Money::krw));
        assert!(!sums.agree());
        let mut sums = Sums::default();
        sums.add([i64::MAX, i64::MAX, 0, 0].map(Money::krw));
        assert!(sums.agree());
        sums.add([1, 1, 0, 0].map(Money::krw));
        assert!(!sums.agree(), "it has left its range");
    }
}

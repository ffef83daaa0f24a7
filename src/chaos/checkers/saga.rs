//! Orders are all or nothing: a completed one is paid, shipped and out of the stock; of one that is undone nothing is left
//! anywhere. Stocks and wallets add up to the last unit and the last won, reservations of seats included.

use super::history::{BookingEnd, History, OrderEnd, OrderRow};
use std::collections::{BTreeMap, BTreeSet};

/// The first order that is neither whole nor undone, the first stock or wallet that does not add up.
#[must_use]
pub fn check(history: &History) -> Option<String> {
    if let Some(order) = history.orders.iter().find(|order| !is_settled(order)) {
        return Some(format!("neither whole nor undone: {order:?}"));
    }
    let (mut gone, mut open_stocks) = (BTreeMap::new(), BTreeSet::new());
    let (mut spent, mut open_wallets) = (BTreeMap::new(), BTreeSet::new());
    for order in &history.orders {
        match order.end {
            OrderEnd::Completed => {
                order.lines.iter().for_each(|(sku, quantity)| *gone.entry(*sku).or_insert(0) += quantity);
                if order.by_wallet {
                    *spent.entry(order.owner).or_insert(0) += order.amount;
                }
            }
            OrderEnd::Undone => {}
            OrderEnd::Open => {
                open_stocks.extend(order.lines.iter().map(|(sku, _)| *sku));
                open_wallets.insert(order.owner);
            }
        }
    }
    // What is bought from a wallet stays held while it can be cancelled.
    let mut held = BTreeMap::new();
    for booking in history.bookings.iter().filter(|booking| booking.by_wallet) {
        match booking.end {
            BookingEnd::Confirmed { closed: true } => *spent.entry(booking.owner).or_insert(0) += booking.amount,
            BookingEnd::Confirmed { closed: false } => *held.entry(booking.owner).or_insert(0) += booking.amount,
            BookingEnd::Over => {}
            BookingEnd::Open => open_wallets.extend([booking.owner]),
        }
    }
    let stock = history.stocks.iter().find(|stock| {
        let whole = stock.left + gone.get(&stock.sku).copied().unwrap_or(0) == stock.put && stock.held == 0;
        stock.held > stock.left || (!whole && !open_stocks.contains(&stock.sku))
    });
    if let Some(stock) = stock {
        return Some(format!("{stock:?}, but {:?} units were sold", gone.get(&stock.sku)));
    }
    let wallet = history.wallets.iter().find(|wallet| {
        let parts = [wallet.balance, wallet.held, wallet.spent];
        let sound = parts.iter().all(|part| *part >= 0) && wallet.charged == parts.iter().sum::<i64>();
        let bought = |sums: &BTreeMap<u64, i64>| sums.get(&wallet.owner).copied().unwrap_or(0);
        let whole = wallet.held == bought(&held) && wallet.spent == bought(&spent);
        !sound || wallet.charged != wallet.captured || (!whole && !open_wallets.contains(&wallet.owner))
    });
    wallet.map(|wallet| format!("{wallet:?}, but {:?} was bought with it", spent.get(&wallet.owner)))
}

fn is_settled(order: &OrderRow) -> bool {
    let kept = order.captured - order.refunded;
    match order.end {
        OrderEnd::Completed => order.shipped && (order.by_wallet || kept == order.amount),
        OrderEnd::Undone => !order.shipped && kept == 0,
        OrderEnd::Open => kept >= 0,
    }
}

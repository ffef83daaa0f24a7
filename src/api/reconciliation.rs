//! The books: paid = held + used + refunded, to the won, over every gift and order, and each that breaks it (INV-4); and
//! charged = balance + held + spent over every wallet.
//!
//! The walk reads page by page while gifts go on living, so two reports minutes apart may differ; each gift in it is
//! one committed state, and a gift is counted once.

use crate::api::cursor::Query;
use crate::api::dto::{Instant, MoneyView, ProblemDocument};
use crate::api::extract::Operator;
use crate::api::json::Faults;
use crate::api::neighbour_books::{Buyers, OrderBooks, WalletBooks, order_books, wallet_books};
use crate::api::problem::Problem;
use crate::api::router::{App, Shared};
use crate::domain::gift::GiftState;
use crate::domain::kinds;
use crate::domain::policy::PaymentMethod;
use crate::domain::wallet::wallet_key;
use crate::types::effect::IndexTag;
use crate::types::ids::EntityKey;
use crate::types::limits::PAGE_ITEMS_MAX;
use crate::types::money::{Currency, Money, MoneyError};
use axum::Json;
use axum::extract::{RawQuery, State};
use futures_util::future::try_join_all;
use serde::Serialize;
use std::collections::BTreeMap;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

/// Gifts named in one report; all of them are counted.
const NAMED_MAX: usize = 1_000;

/// The routes of this file.
pub fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(report))
}

/// The books of all gifts.
#[derive(Debug, Serialize, ToSchema)]
pub struct Reconciliation {
    pub at: Instant,
    pub gifts: u64,
    pub paid: MoneyView,
    pub held: MoneyView,
    pub used: MoneyView,
    pub refunded: MoneyView,
    /// Whether the sums agree and no gift, order or wallet breaks them.
    pub balanced: bool,
    /// Gifts that break the rule, counted.
    pub broken_count: u64,
    /// The first thousand of them.
    pub broken: Vec<BrokenGift>,
    /// Gifts and held money by status.
    pub by_status: BTreeMap<&'static str, StatusSum>,
    pub orders: OrderBooks,
    pub wallets: WalletBooks,
}

/// A gift whose money does not add up.
#[derive(Debug, Serialize, ToSchema)]
pub struct BrokenGift {
    pub id: String,
    pub status: &'static str,
    pub amount: MoneyView,
    pub paid: MoneyView,
    pub held: MoneyView,
    pub used: MoneyView,
    pub refunded: MoneyView,
}

/// Gifts of one status.
#[derive(Debug, Default, Serialize, ToSchema)]
pub struct StatusSum {
    pub gifts: u64,
    /// Minor units.
    pub held: i64,
}

/// Sums that are being made. Overflow is a broken book, not a wrong one.
struct Sums {
    gifts: u64,
    paid: Result<Money, MoneyError>,
    held: Result<Money, MoneyError>,
    used: Result<Money, MoneyError>,
    refunded: Result<Money, MoneyError>,
    broken_count: u64,
    broken: Vec<BrokenGift>,
    by_status: BTreeMap<&'static str, StatusSum>,
}

impl Sums {
    fn new() -> Self {
        let zero = Ok(Money { minor: 0, currency: Currency::KRW });
        Self {
            gifts: 0,
            paid: zero,
            held: zero,
            used: zero,
            refunded: zero,
            broken_count: 0,
            broken: Vec::new(),
            by_status: BTreeMap::new(),
        }
    }

    fn add(&mut self, id: impl FnOnce() -> String, state: &GiftState) {
        let ledger = state.ledger();
        self.gifts += 1;
        let plus = |sum: Result<Money, MoneyError>, part: Money| sum.and_then(|sum| sum.checked_add(part));
        self.paid = plus(self.paid, ledger.paid());
        self.held = plus(self.held, ledger.held());
        self.used = plus(self.used, ledger.used());
        self.refunded = plus(self.refunded, ledger.refunded());
        let status = self.by_status.entry(state.status()).or_default();
        status.gifts += 1;
        status.held = status.held.saturating_add(ledger.held().minor);
        let parts = ledger.held().checked_add(ledger.used()).and_then(|sum| sum.checked_add(ledger.refunded()));
        if ledger.is_sound() && parts == Ok(ledger.paid()) {
            return;
        }
        self.broken_count += 1;
        if self.broken.len() < NAMED_MAX {
            self.broken.push(BrokenGift {
                id: id(),
                status: state.status(),
                amount: state.amount().into(),
                paid: ledger.paid().into(),
                held: ledger.held().into(),
                used: ledger.used().into(),
                refunded: ledger.refunded().into(),
            });
        }
    }

    fn report(self, at: Instant, orders: OrderBooks, wallets: WalletBooks) -> Reconciliation {
        let sums = [self.paid, self.held, self.used, self.refunded];
        let within = sums.iter().all(Result::is_ok);
        let [paid, held, used, refunded] = sums.map(|sum| sum.unwrap_or(Money::krw(i64::MAX)));
        let parts = held.checked_add(used).and_then(|sum| sum.checked_add(refunded));
        Reconciliation {
            at,
            gifts: self.gifts,
            paid: paid.into(),
            held: held.into(),
            used: used.into(),
            refunded: refunded.into(),
            balanced: within && parts == Ok(paid) && self.broken_count == 0 && orders.balanced && wallets.balanced,
            broken_count: self.broken_count,
            broken: self.broken,
            by_status: self.by_status,
            orders,
            wallets,
        }
    }
}

/// The books of every gift and order; with `scope=open`, of those that hold money now.
#[utoipa::path(get, path = "/v1/ops/reconciliation", tag = "operator", security(("bearer" = [])),
    params(("scope" = Option<String>, Query, description = "`all` (default) or `open`")),
    responses((status = 200, body = Reconciliation), (status = 422, body = ProblemDocument)))]
async fn report(
    State(app): State<App>,
    Operator(_caller): Operator,
    RawQuery(query): RawQuery,
) -> Result<Json<Reconciliation>, Problem> {
    let index = read_scope(query.as_deref())?;
    let mut buyers = Buyers::default();
    let orders = order_books(&app, index == kinds::INDEX_MONEY_OPEN, &mut buyers).await?;
    let mut sums = Sums::new();
    let mut after = None;
    loop {
        let page = app.door.list(index, Vec::new(), after, PAGE_ITEMS_MAX).await?;
        let keys: Vec<EntityKey> = page.rows.iter().map(|(_, key)| *key).collect();
        add_gifts(&app, &mut sums, &mut buyers, &keys).await?;
        after = page.next;
        if after.is_none() {
            let wallets = wallet_books(&app, buyers).await?;
            return Ok(Json(sums.report(app.clock.now().into(), orders, wallets)));
        }
    }
}

async fn add_gifts(app: &Shared, sums: &mut Sums, buyers: &mut Buyers, keys: &[EntityKey]) -> Result<(), Problem> {
    let states = try_join_all(keys.iter().map(|key| app.peek_gift(*key))).await?;
    for (key, state) in keys.iter().zip(states) {
        if let Some((_, state)) = state {
            if state.payment().method == PaymentMethod::Balance {
                buyers.insert(wallet_key(state.owner()));
            }
            sums.add(|| app.door.kinds().format(*key), &state);
        }
    }
    Ok(())
}

fn read_scope(query: Option<&str>) -> Result<IndexTag, Problem> {
    let faults = Faults::default();
    let mut query = Query::parse(query);
    let index = match query.take("scope").as_deref() {
        None | Some("all") => kinds::INDEX_OWNER,
        Some("open") => kinds::INDEX_MONEY_OPEN,
        Some(_) => {
            faults.add("/scope", "unknown_value", "all or open.");
            kinds::INDEX_OWNER
        }
    };
    query.done(&faults);
    faults.check()?;
    Ok(index)
}

//! What orders, wallets and stocks share at the front door: small bodies, a typed ask, prices kept for a moment.
//!
//! The price of an order's line is the stock's own, else the catalogue's of the product of the same name. An order copies
//! it, so a price that is a second old is a promise made a second ago, not a wrong one.

use crate::actors::door::{Answer, Ask, AskError};
use crate::api::asking::Mark;
use crate::api::catalogue::product_key;
use crate::api::json::Object;
use crate::api::problem::{Code, Problem};
use crate::api::refusal::problem_of;
use crate::api::router::Shared;
use crate::domain::inventory::{StockState, stock_key};
use crate::types::codec;
use crate::types::ids::{EntityKey, Version};
use crate::types::money::{Currency, Money};
use crate::types::record::WrappedKey;
use crate::types::time::BootMillis;
use parking_lot::Mutex;
use serde::{Serialize, de::DeserializeOwned};
use std::collections::BTreeMap;

/// Longest payment key, in bytes (Toss: 200).
const PAYMENT_KEY_BYTES_MAX: usize = 200;
/// How long a price is kept.
const KEEP_MS: u64 = 1_000;
/// Prices kept at most; then all are dropped.
const KEPT_MAX: usize = 4_096;

/// Prices seen a moment ago.
#[derive(Default)]
pub struct Prices {
    seen: Mutex<BTreeMap<String, (BootMillis, Money)>>,
}

impl Prices {
    fn get(&self, sku: &str, now: BootMillis) -> Option<Money> {
        let seen = self.seen.lock();
        let (at, price) = seen.get(sku)?;
        (now.0.saturating_sub(at.0) < KEEP_MS).then_some(*price)
    }

    fn keep(&self, sku: &str, price: Money, now: BootMillis) {
        let mut seen = self.seen.lock();
        if seen.len() >= KEPT_MAX {
            seen.clear();
        }
        seen.insert(sku.to_owned(), (now, price));
    }

    /// Forgets a price that was changed.
    pub fn forget(&self, sku: &str) {
        self.seen.lock().remove(sku);
    }
}

/// What a stock-keeping unit is sold for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Priced {
    At(Money),
    /// There is no such stock.
    Unknown,
    /// Neither the stock nor a product of its name has a price.
    Unpriced,
}

/// A command's committed answer, decoded.
pub struct Told<S> {
    pub version: Version,
    pub state: S,
    /// The reply of an earlier request under the same key.
    pub replayed: bool,
}

/// What a command carries beside itself.
#[derive(Default)]
pub struct With {
    pub mark: Option<Mark>,
    pub if_version: Option<Version>,
    pub new_key: Option<WrappedKey>,
}

fn told<S: DeserializeOwned>(answer: &Answer) -> Result<Told<S>, Problem> {
    let state = codec::decode(&answer.state).map_err(|_| Problem::new(Code::Internal))?;
    Ok(Told { version: answer.version, state, replayed: answer.replayed })
}

impl Shared {
    /// Sends a command to an entity of any kind.
    ///
    /// # Errors
    /// The kind's refusal as `refusal` says it, or what the runtime says.
    pub async fn tell<C: Serialize, S: DeserializeOwned, R: DeserializeOwned>(
        &self,
        key: EntityKey,
        command: &C,
        with: With,
        refusal: fn(&R) -> Problem,
    ) -> Result<Told<S>, Problem> {
        let With { mark: idempotency, if_version, new_key } = with;
        let ask = Ask { key, command: codec::encode(command), idempotency, if_version, new_key };
        let answer = self.door.ask(ask).await.map_err(|error| problem_of(&error, refusal))?;
        told(&answer)
    }

    /// The committed state of an entity of any kind; `None` when there is none.
    ///
    /// # Errors
    /// [`Code::Internal`] for damaged bytes, or what the runtime says.
    pub async fn look<S: DeserializeOwned>(&self, key: EntityKey) -> Result<Option<Told<S>>, Problem> {
        self.door.read(key).await?.as_ref().map(told).transpose()
    }

    /// An earlier reply under a mark, for requests that have become unacceptable since: an empty command decides
    /// nothing. `None` when there is none.
    ///
    /// # Errors
    /// What the runtime says of the mark itself (reused, in flight, expired), or that it cannot answer.
    pub async fn earlier<S: DeserializeOwned>(&self, key: EntityKey, mark: Mark) -> Result<Option<Told<S>>, Problem> {
        if self.door.read(key).await?.is_none() {
            return Ok(None);
        }
        let ask = Ask { key, command: Vec::new(), idempotency: Some(mark), if_version: None, new_key: None };
        match self.door.ask(ask).await {
            Ok(answer) => told(&answer).map(Some),
            Err(AskError::Malformed) => Err(Problem::new(Code::KeyExpired)),
            Err(error) => Err(error.into()),
        }
    }

    /// What a stock-keeping unit is sold for.
    ///
    /// # Errors
    /// What the runtime says.
    pub async fn price_of(&self, sku: &str) -> Result<Priced, Problem> {
        let now = self.clock.boot();
        if let Some(price) = self.prices.get(sku, now) {
            return Ok(Priced::At(price));
        }
        let stock = self.look::<StockState>(stock_key(sku)).await?;
        let Some(stock) = stock.as_ref().and_then(|told| told.state.get()).filter(|stock| stock.sku == sku) else {
            return Ok(Priced::Unknown);
        };
        let price = match stock.price {
            Some(price) => Some(price),
            None => self.read_product(product_key(sku)).await?.map(|(_, product)| product.price),
        };
        let Some(price) = price else { return Ok(Priced::Unpriced) };
        self.prices.keep(sku, price, now);
        Ok(Priced::At(price))
    }
}

/// `{"value", "currency"}` of 1 to `minor_max`.
pub fn read_money(mut object: Object<'_>, minor_max: i64) -> Option<Money> {
    let minor = object.required_integer("value").filter(|value| {
        let sound = (1..=minor_max).contains(value);
        if !sound {
            object.fault("value", "out_of_range", format!("1 to {minor_max}."));
        }
        sound
    });
    let currency = object.required_text("currency").and_then(|code| {
        let currency = Currency::parse(&code);
        if currency.is_none() {
            object.fault("currency", "unknown_value", "KRW.");
        }
        currency
    });
    object.done();
    Some(Money { minor: minor?, currency: currency? })
}

/// The payment provider's key; a fault when it is missing or not one.
pub fn read_payment_key(object: &mut Object<'_>) -> Option<String> {
    object.required_text("payment_key").filter(|key| {
        let sound = (1..=PAYMENT_KEY_BYTES_MAX).contains(&key.len()) && key.bytes().all(|b| b.is_ascii_graphic());
        if !sound {
            object.fault("payment_key", "invalid_payment_key", "1 to 200 visible ASCII characters.");
        }
        sound
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_price_is_kept_for_a_second_unless_forgotten() {
        let prices = Prices::default();
        prices.keep("a", Money::krw(5), BootMillis(0));
        assert_eq!(prices.get("a", BootMillis(999)), Some(Money::krw(5)));
        assert_eq!(prices.get("a", BootMillis(1_000)), None);
        prices.forget("a");
        assert_eq!(prices.get("a", BootMillis(0)), None);
    }
}

//! Money at the front door: prices of what is sold, amounts, the payment provider's keys.
//!
//! The price of an order's line is the stock's own, else the catalogue's of the product of the same name.

use crate::api::catalogue::product_key;
use crate::api::gift_body::climbs;
use crate::api::json::Object;
use crate::api::problem::Problem;
use crate::api::router::Shared;
use crate::domain::inventory::{StockState, stock_key};
use crate::types::money::{Currency, Money};

/// Highest price, in minor units: far above any gift, far below what sums could overflow.
pub const PRICE_MINOR_MAX: i64 = 100_000_000;
/// Longest payment key, in bytes (Toss: 200).
const PAYMENT_KEY_BYTES_MAX: usize = 200;

/// What a stock-keeping unit is sold for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Priced {
    At(Money),
    /// There is no such stock.
    Unknown,
    /// Neither the stock nor a product of its name has a price.
    Unpriced,
}

impl Shared {
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

/// A price, from 1 to [`PRICE_MINOR_MAX`].
pub fn read_price(object: Object<'_>) -> Option<Money> {
    read_money(object, PRICE_MINOR_MAX)
}

/// The payment provider's key; a fault when it is missing or not one.
pub fn read_payment_key(object: &mut Object<'_>) -> Option<String> {
    object.required_text("payment_key").filter(|key| {
        let visible = (1..=PAYMENT_KEY_BYTES_MAX).contains(&key.len()) && key.bytes().all(|b| b.is_ascii_graphic());
        let sound = visible && !climbs(key);
        if !sound {
            object.fault("payment_key", "invalid_payment_key", "1 to 200 visible ASCII characters.");
        }
        sound
    })
}

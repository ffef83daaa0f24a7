//! The stock of one stock-keeping unit. It never goes below zero: what is not held is the most that can be taken.
//!
//! | from | by | to |
//! |---|---|---|
//! | any | Put | as put; never below what is held |
//! | enough that nobody holds | Reserve | held for the order |
//! | held | Confirm | gone |
//! | held, or nothing | Release | nobody's, and the order cannot reserve any more |
//!
//! An order is a holder; [`Holds`] answers its repeats from the state and says how that stays bounded.

#[cfg(test)]
mod tests;

use super::entity::{Decision, Entity};
use super::holds::{Hold, HoldFault, Holds};
use super::kinds;
use crate::types::call::{CallOutcome, CallRequest, Report};
use crate::types::codec::{self, CodecError};
use crate::types::effect::{Effects, IndexWant, Slot};
use crate::types::ids::{EntityKey, EntityKind};
use crate::types::kind::{At, AttemptStart};
use crate::types::level::{FeatureLevel, NEIGHBOURS_LEVEL};
use crate::types::money::Money;
use crate::types::publication::{Publication, Topic};
use crate::types::record::Sealed;
use crate::types::time::Timestamp;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// Bytes of a stock-keeping unit's name, at most.
pub const SKU_BYTES_MAX: usize = 64;
/// Units of one stock-keeping unit, at most.
pub const QUANTITY_MAX: u32 = 1_000_000_000;

/// What may be asked of a stock.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum StockCommand {
    /// `quantity` counts what is there, held or not.
    Put {
        sku: String,
        quantity: u32,
        price: Option<Money>,
    },
    /// Stamped with the holder's cluster time at this try.
    Reserve {
        holder: EntityKey,
        quantity: u32,
        stamp: Timestamp,
    },
    Confirm {
        holder: EntityKey,
        stamp: Timestamp,
    },
    Release {
        holder: EntityKey,
        stamp: Timestamp,
    },
    /// Made by the runtime for a timer, an outcome or a report; a stock wants none.
    Unwanted,
}

/// What happened to a stock. Persisted: append only.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum StockEvent {
    Put { at: Timestamp, sku: String, quantity: u32, price: Option<Money> },
    Reserved { at: Timestamp, holder: EntityKey, quantity: u32 },
    Confirmed { at: Timestamp, holder: EntityKey, stamp: Timestamp },
    Released { at: Timestamp, holder: EntityKey, stamp: Timestamp },
}

/// Business says no; nothing was changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum StockRejection {
    #[error("no such stock")]
    NotFound,
    #[error("the entity is another stock")]
    WrongSku,
    #[error("the quantity is out of its range")]
    BadQuantity,
    #[error("the price is not positive")]
    BadPrice,
    #[error("{held} units are held")]
    BelowHeld { held: u32 },
    #[error("{available} units are left")]
    OutOfStock { available: u32 },
    #[error("{0}")]
    Hold(HoldFault),
    #[error("not a command of a stock")]
    NotWanted,
}

/// A stock, or (by default) one that nobody has put yet.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StockState {
    stock: Option<Stock>,
    /// Beside the stock: an order may release what was never put.
    holds: Holds,
}

/// An existing stock.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stock {
    pub sku: String,
    /// Units that are there, held or not.
    pub quantity: u32,
    /// Of one unit; `None`: the catalogue's price of the product of the same name.
    pub price: Option<Money>,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
}

impl StockState {
    /// `None` until it is put.
    #[must_use]
    pub fn get(&self) -> Option<&Stock> {
        self.stock.as_ref()
    }
    /// Units that orders hold.
    #[must_use]
    pub fn held(&self) -> u32 {
        u32::try_from(self.holds.total()).unwrap_or(u32::MAX)
    }
    /// Units that can be reserved.
    #[must_use]
    pub fn available(&self) -> u32 {
        self.stock.as_ref().map_or(0, |stock| stock.quantity.saturating_sub(self.held()))
    }
    /// Orders that hold some.
    #[must_use]
    pub fn holders(&self) -> usize {
        self.holds.count()
    }
}

const CHANGED: Topic = Topic("inventory-changed.v1");

/// The topics that a stock's events are published under. What an order does with it is said by the order.
pub const TOPICS: [Topic; 1] = [CHANGED];

/// What the events of one record say on the event stream.
///
/// # Errors
/// [`CodecError`]: the bytes are not a stock's events.
pub fn publications(events: &[u8]) -> Result<Vec<Publication>, CodecError> {
    let events: Vec<StockEvent> = codec::decode(events)?;
    events.iter().map(|event| Publication::new(CHANGED, StockEntity::describe(event), &[])).collect()
}

/// The entity of a stock-keeping unit.
#[must_use]
pub fn stock_key(sku: &str) -> EntityKey {
    let digest = Sha256::new().chain_update(b"inventory\0").chain_update(sku.as_bytes()).finalize();
    let mut id = [0u8; 16];
    id.copy_from_slice(&digest[..16]);
    EntityKey { kind: kinds::INVENTORY, id }
}

/// The stock as an entity kind.
pub struct StockEntity;

type Events = Result<Vec<StockEvent>, StockRejection>;

fn put(
    key: EntityKey,
    state: &StockState,
    (sku, quantity, price): (String, u32, Option<Money>),
    at: Timestamp,
) -> Events {
    if stock_key(&sku) != key {
        return Err(StockRejection::WrongSku);
    }
    if sku.is_empty() || sku.len() > SKU_BYTES_MAX || quantity > QUANTITY_MAX {
        return Err(StockRejection::BadQuantity);
    }
    if price.is_some_and(|price| price.minor <= 0) {
        return Err(StockRejection::BadPrice);
    }
    if quantity < state.held() {
        return Err(StockRejection::BelowHeld { held: state.held() });
    }
    let same = state.get().is_some_and(|old| old.quantity == quantity && old.price == price);
    if same { Ok(Vec::new()) } else { Ok(vec![StockEvent::Put { at, sku, quantity, price }]) }
}

fn reserve(state: &StockState, (holder, quantity, stamp): (EntityKey, u32, Timestamp), at: Timestamp) -> Events {
    let hold = Hold { holder, amount: i64::from(quantity) };
    if !state.holds.may_take(hold, stamp).map_err(StockRejection::Hold)? {
        return Ok(Vec::new());
    }
    if state.get().is_none() {
        return Err(StockRejection::NotFound);
    }
    if quantity > state.available() {
        return Err(StockRejection::OutOfStock { available: state.available() });
    }
    Ok(vec![StockEvent::Reserved { at, holder, quantity }])
}

impl Entity for StockEntity {
    type State = StockState;
    type Command = StockCommand;
    type Event = StockEvent;
    type Rejection = StockRejection;
    const KIND: EntityKind = kinds::INVENTORY;
    const PREFIX: &'static str = "s";
    const SINCE: FeatureLevel = NEIGHBOURS_LEVEL;

    fn decide(
        key: EntityKey,
        state: &StockState,
        command: StockCommand,
        at: &At,
    ) -> Result<Decision<StockEvent>, StockRejection> {
        let at = at.now;
        let events = match command {
            StockCommand::Put { sku, quantity, price } => put(key, state, (sku, quantity, price), at)?,
            StockCommand::Reserve { holder, quantity, stamp } => reserve(state, (holder, quantity, stamp), at)?,
            StockCommand::Confirm { holder, stamp } => match state.holds.of(holder) {
                Some(_) => vec![StockEvent::Confirmed { at, holder, stamp }],
                None => Vec::new(),
            },
            StockCommand::Release { holder, stamp } if state.holds.may_close(holder, stamp) => {
                vec![StockEvent::Released { at, holder, stamp }]
            }
            StockCommand::Release { .. } => Vec::new(),
            StockCommand::Unwanted => return Err(StockRejection::NotWanted),
        };
        Ok(Decision::events(events))
    }

    fn evolve(state: &mut StockState, event: &StockEvent) {
        match event {
            StockEvent::Put { at, sku, quantity, price } => {
                let created_at = state.get().map_or(*at, |stock| stock.created_at);
                let (sku, quantity, price) = (sku.clone(), *quantity, *price);
                state.stock = Some(Stock { sku, quantity, price, created_at, updated_at: *at });
            }
            StockEvent::Reserved { holder, quantity, .. } => {
                state.holds.take(Hold { holder: *holder, amount: i64::from(*quantity) });
            }
            StockEvent::Confirmed { at, holder, stamp } => {
                let gone = state.holds.close(*holder, *stamp).map_or(0, |hold| hold.amount);
                if let Some(stock) = &mut state.stock {
                    stock.quantity = stock.quantity.saturating_sub(u32::try_from(gone).unwrap_or(u32::MAX));
                    stock.updated_at = *at;
                }
            }
            StockEvent::Released { holder, stamp, .. } => {
                state.holds.close(*holder, *stamp);
            }
        }
    }

    /// Always at rest: who holds is the one who acts.
    fn wants(_key: EntityKey, state: &StockState) -> Effects {
        let row = |stock: &Stock| IndexWant {
            index: kinds::INDEX_INVENTORY,
            key: [stock.sku.as_bytes(), &[0]].concat(),
            unique: false,
        };
        let indexes = state.get().map(row).into_iter().collect();
        Effects { indexes, terminal: state.holds.count() == 0, ..Effects::default() }
    }

    fn sealed(_state: &StockState) -> Option<&Sealed> {
        None
    }
    fn request(_: EntityKey, _: &StockState, _: Slot, _: Option<&[u8]>) -> Option<CallRequest> {
        None
    }
    fn timer_command(_slot: Slot) -> StockCommand {
        StockCommand::Unwanted
    }
    fn attempt_command(_start: AttemptStart) -> StockCommand {
        StockCommand::Unwanted
    }
    fn outcome_command(_outcomes: Vec<(Slot, CallOutcome)>) -> StockCommand {
        StockCommand::Unwanted
    }
    fn report_command(_report: Report) -> StockCommand {
        StockCommand::Unwanted
    }

    fn describe(event: &StockEvent) -> serde_json::Value {
        match event {
            StockEvent::Put { at, sku, quantity, price } => serde_json::json!({
                "type": "put", "at": at.to_rfc3339(), "sku": sku, "quantity": quantity,
                "price": price.map(|price| serde_json::json!({ "value": price.minor, "currency": price.currency.code() })),
            }),
            StockEvent::Reserved { at, holder, quantity } => serde_json::json!({
                "type": "reserved", "at": at.to_rfc3339(), "holder": holder.hex(), "quantity": quantity,
            }),
            StockEvent::Confirmed { at, holder, .. } => {
                serde_json::json!({ "type": "confirmed", "at": at.to_rfc3339(), "holder": holder.hex() })
            }
            StockEvent::Released { at, holder, .. } => {
                serde_json::json!({ "type": "released", "at": at.to_rfc3339(), "holder": holder.hex() })
            }
        }
    }
}

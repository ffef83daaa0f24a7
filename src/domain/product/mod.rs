//! A product of the catalogue: name, price and what it changes of the default policy.
//!
//! | from | by | to |
//! |---|---|---|
//! | (nothing) | Put | active or retired, as put |
//! | any | Put | as put |
//! | active | Retire | retired |
//!
//! A gift copies what it needs when it is reserved; nothing here reaches back into gifts.

#[cfg(test)]
mod tests;

use super::entity::{Decision, Entity};
use super::kinds;
use crate::domain::policy::{Policy, PolicyFault, PolicyOverrides};
use crate::types::call::{CallOutcome, CallRequest, Report};
use crate::types::codec::{self, CodecError};
use crate::types::effect::{Effects, IndexWant, Slot};
use crate::types::ids::{EntityKey, EntityKind};
use crate::types::kind::{At, AttemptStart};
use crate::types::money::Money;
use crate::types::publication::{Publication, Topic};
use crate::types::record::Sealed;
use crate::types::time::Timestamp;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// Bytes of a product's id and name, at most.
pub const PRODUCT_ID_BYTES_MAX: usize = 64;
pub const PRODUCT_NAME_BYTES_MAX: usize = 256;

/// What may be asked of a product.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ProductCommand {
    Put {
        id: String,
        name: String,
        price: Money,
        overrides: PolicyOverrides,
        active: bool,
    },
    /// No new gift of it; gifts reserved before are not touched.
    Retire,
    /// Made by the runtime for a timer, an outcome or a report; a product wants none.
    Unwanted,
}

/// What happened to a product.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ProductEvent {
    Put { at: Timestamp, id: String, name: String, price: Money, overrides: PolicyOverrides, active: bool },
    Retired { at: Timestamp },
}

/// Business says no; nothing was changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum ProductRejection {
    #[error("no such product")]
    NotFound,
    #[error("the entity is another product")]
    WrongId,
    #[error("id or name is empty or too long")]
    BadName,
    #[error("the price is not positive")]
    BadPrice,
    #[error("{0}")]
    BadPolicy(PolicyFault),
    #[error("not a command of a product")]
    NotWanted,
}

/// A product, or (by default) one that does not exist yet.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProductState {
    product: Option<Product>,
}

/// An existing product.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Product {
    pub id: String,
    pub name: String,
    pub price: Money,
    pub overrides: PolicyOverrides,
    pub active: bool,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
}

impl ProductState {
    /// `None` when it does not exist.
    #[must_use]
    pub fn get(&self) -> Option<&Product> {
        self.product.as_ref()
    }
}

impl Product {
    /// The policy of a gift of this product.
    #[must_use]
    pub fn policy(&self) -> Policy {
        self.overrides.apply(&Policy::default())
    }
}

const CHANGED: Topic = Topic("product.changed.v1");
const RETIRED: Topic = Topic("product.retired.v1");

/// The topics that a product's events are published under.
pub const TOPICS: [Topic; 2] = [CHANGED, RETIRED];

/// What the events of one record say on the event stream.
///
/// # Errors
/// [`CodecError`]: the bytes are not a product's events.
pub fn publications(events: &[u8]) -> Result<Vec<Publication>, CodecError> {
    let events: Vec<ProductEvent> = codec::decode(events)?;
    let topic = |event: &ProductEvent| match event {
        ProductEvent::Put { .. } => CHANGED,
        ProductEvent::Retired { .. } => RETIRED,
    };
    events.iter().map(|event| Publication::new(topic(event), ProductEntity::describe(event), &[])).collect()
}

/// The entity of a product id.
#[must_use]
pub fn product_key(id: &str) -> EntityKey {
    let digest = Sha256::new().chain_update(b"product\0").chain_update(id.as_bytes()).finalize();
    let mut key = [0u8; 16];
    key.copy_from_slice(&digest[..16]);
    EntityKey { kind: kinds::PRODUCT, id: key }
}

/// The product as an entity kind.
pub struct ProductEntity;

impl ProductEntity {
    fn put(key: EntityKey, state: &ProductState, new: Product) -> Result<Vec<ProductEvent>, ProductRejection> {
        let length_ok = |text: &str, max: usize| !text.is_empty() && text.len() <= max;
        if product_key(&new.id) != key {
            return Err(ProductRejection::WrongId);
        }
        if !length_ok(&new.id, PRODUCT_ID_BYTES_MAX) || !length_ok(&new.name, PRODUCT_NAME_BYTES_MAX) {
            return Err(ProductRejection::BadName);
        }
        if new.price.minor <= 0 {
            return Err(ProductRejection::BadPrice);
        }
        if let Some(fault) = new.policy().faults().first() {
            return Err(ProductRejection::BadPolicy(*fault));
        }
        let same = state.get().is_some_and(|old| {
            let unchanged = Product { created_at: old.created_at, updated_at: old.updated_at, ..new.clone() };
            unchanged == *old
        });
        if same {
            return Ok(Vec::new());
        }
        let Product { id, name, price, overrides, active, updated_at, .. } = new;
        Ok(vec![ProductEvent::Put { at: updated_at, id, name, price, overrides, active }])
    }
}

impl Entity for ProductEntity {
    type State = ProductState;
    type Command = ProductCommand;
    type Event = ProductEvent;
    type Rejection = ProductRejection;
    const KIND: EntityKind = kinds::PRODUCT;
    const PREFIX: &'static str = "p";

    fn decide(
        key: EntityKey,
        state: &ProductState,
        command: ProductCommand,
        at: &At,
    ) -> Result<Decision<ProductEvent>, ProductRejection> {
        let events = match command {
            ProductCommand::Put { id, name, price, overrides, active } => {
                let new = Product { id, name, price, overrides, active, created_at: at.now, updated_at: at.now };
                Self::put(key, state, new)?
            }
            ProductCommand::Retire => match state.get() {
                None => return Err(ProductRejection::NotFound),
                Some(product) if product.active => vec![ProductEvent::Retired { at: at.now }],
                Some(_) => Vec::new(),
            },
            ProductCommand::Unwanted => return Err(ProductRejection::NotWanted),
        };
        Ok(Decision::events(events))
    }

    fn evolve(state: &mut ProductState, event: &ProductEvent) {
        match event {
            ProductEvent::Put { at, id, name, price, overrides, active } => {
                let created_at = state.get().map_or(*at, |product| product.created_at);
                state.product = Some(Product {
                    id: id.clone(),
                    name: name.clone(),
                    price: *price,
                    overrides: overrides.clone(),
                    active: *active,
                    created_at,
                    updated_at: *at,
                });
            }
            ProductEvent::Retired { at } => {
                if let Some(product) = &mut state.product {
                    product.active = false;
                    product.updated_at = *at;
                }
            }
        }
    }

    /// Always at rest: a product holds nothing and waits for nothing.
    fn wants(_key: EntityKey, state: &ProductState) -> Effects {
        let row = |product: &Product| IndexWant {
            index: kinds::INDEX_PRODUCT,
            key: [product.name.as_bytes(), &[0], product.id.as_bytes()].concat(),
            unique: false,
        };
        let indexes = state.get().map(row).into_iter().collect();
        Effects { indexes, terminal: state.get().is_some(), ..Effects::default() }
    }

    fn sealed(_state: &ProductState) -> Option<&Sealed> {
        None
    }
    fn request(_: EntityKey, _: &ProductState, _: Slot, _: Option<&[u8]>) -> Option<CallRequest> {
        None
    }
    fn timer_command(_slot: Slot) -> ProductCommand {
        ProductCommand::Unwanted
    }
    fn attempt_command(_start: AttemptStart) -> ProductCommand {
        ProductCommand::Unwanted
    }
    fn outcome_command(_outcomes: Vec<(Slot, CallOutcome)>) -> ProductCommand {
        ProductCommand::Unwanted
    }
    fn report_command(_report: Report) -> ProductCommand {
        ProductCommand::Unwanted
    }

    fn describe(event: &ProductEvent) -> serde_json::Value {
        match event {
            ProductEvent::Put { at, id, name, price, active, .. } => serde_json::json!({
                "type": "put", "at": at.to_rfc3339(), "product_id": id, "name": name, "active": active,
                "price": { "value": price.minor, "currency": price.currency.code() },
            }),
            ProductEvent::Retired { at } => serde_json::json!({ "type": "retired", "at": at.to_rfc3339() }),
        }
    }
}

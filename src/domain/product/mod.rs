//! A product of the catalogue: name, price and what it changes of the default policy.

use crate::domain::policy::{Policy, PolicyOverrides};
use crate::types::money::Money;
use crate::types::time::Timestamp;
use serde::{Deserialize, Serialize};

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
    #[error("the price is not positive")]
    BadPrice,
    #[error("{0}")]
    BadPolicy(crate::domain::policy::PolicyFault),
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

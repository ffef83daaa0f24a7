//! Products as the front door looks them up: read through the door, kept for a moment.

use crate::api::problem::Problem;
use crate::api::router::Shared;
use crate::domain::kinds;
use crate::domain::product::{Product, ProductState};
use crate::types::ids::{EntityKey, Version};
use sha2::{Digest, Sha256};
use std::sync::Arc;

/// The key of a product's entity: its id, digested.
#[must_use]
pub fn product_key(id: &str) -> EntityKey {
    let digest = Sha256::new().chain_update(b"product\0").chain_update(id.as_bytes()).finalize();
    EntityKey { kind: kinds::PRODUCT, id: digest[..16].try_into().expect("a SHA-256 digest has 32 bytes") }
}

impl Shared {
    /// A product for a reservation; `None` when there is none, or when it is retired.
    ///
    /// # Errors
    /// What the runtime says.
    pub async fn product_on_sale(&self, id: &str) -> Result<Option<Arc<Product>>, Problem> {
        let now = self.clock.boot();
        if let Some(product) = self.catalogue.get(id, now) {
            return Ok(Some(product));
        }
        let found = self.read_product(product_key(id)).await?.map(|(_, product)| Arc::new(product));
        let on_sale = found.filter(|product| product.active && product.id == id);
        if let Some(product) = &on_sale {
            self.catalogue.keep(id, product.clone(), now);
        }
        Ok(on_sale)
    }

    /// A product as it is committed.
    ///
    /// # Errors
    /// As [`Shared::look`].
    pub async fn read_product(&self, key: EntityKey) -> Result<Option<(Version, Product)>, Problem> {
        let told = self.look::<ProductState>(key).await?;
        Ok(told.and_then(|told| Some((told.version, told.state.get().cloned()?))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_stable() {
        assert_eq!(product_key("americano"), product_key("americano"));
        assert_ne!(product_key("americano"), product_key("latte"));
    }
}

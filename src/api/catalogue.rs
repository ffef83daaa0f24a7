//! Products as the front door looks them up: read through the door, kept for a moment.

use crate::api::problem::Problem;
use crate::api::router::Shared;
use crate::domain::kinds;
use crate::domain::product::{Product, ProductState};
use crate::types::ids::{EntityKey, Version};
use sha2::{Digest, Sha256};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::timeout;

/// How long a product that was read a little while ago is read anew before it is taken as it was.
const READ_ANEW: Duration = Duration::from_millis(250);

/// The key of a product's entity: its id, digested.
#[must_use]
pub fn product_key(id: &str) -> EntityKey {
    let digest = Sha256::new().chain_update(b"product\0").chain_update(id.as_bytes()).finalize();
    EntityKey { kind: kinds::PRODUCT, id: digest[..16].try_into().expect("a SHA-256 digest has 32 bytes") }
}

impl Shared {
    /// A product for a reservation; `None` when there is none, or when it is retired. Every reservation asks for one: what was
    /// read a little while ago serves while its shard has no leader or is slow to answer, so that they do not all wait for
    /// it: at most ten seconds old.
    ///
    /// # Errors
    /// What the runtime says.
    pub async fn product_on_sale(&self, id: &str) -> Result<Option<Arc<Product>>, Problem> {
        let now = self.clock.boot();
        if let Some(product) = self.catalogue.get(id, now) {
            return Ok(Some(product));
        }
        let read = self.read_product(product_key(id));
        let found = match self.catalogue.last(id, now) {
            None => read.await?,
            Some(last) => match timeout(READ_ANEW, read).await {
                Ok(Ok(found)) => found,
                Ok(Err(_)) | Err(_) => return Ok(Some(last)),
            },
        };
        let on_sale = found.map(|(_, product)| Arc::new(product)).filter(|product| product.active && product.id == id);
        match &on_sale {
            Some(product) => self.catalogue.keep(id, product.clone(), now),
            None => self.catalogue.forget(id),
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

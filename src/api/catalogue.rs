//! Products as the front door looks them up: read through the door, kept for a moment.
//!
//! A gift copies its product, so a price that is a second old is a promise made a second ago, not a wrong one. A change
//! through this node is seen at once; unknown products are never kept.

use crate::api::problem::{Code, Problem};
use crate::api::router::Shared;
use crate::domain::kinds;
use crate::domain::product::{Product, ProductState};
use crate::types::codec;
use crate::types::ids::{EntityKey, Version};
use crate::types::time::BootMillis;
use parking_lot::Mutex;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::sync::Arc;

/// How long a product is kept.
const KEEP_MS: u64 = 1_000;
/// Products kept at most; then all are dropped.
const KEPT_MAX: usize = 1_024;

/// Products seen a moment ago.
#[derive(Default)]
pub struct Catalogue {
    seen: Mutex<BTreeMap<String, (BootMillis, Arc<Product>)>>,
}

impl Catalogue {
    fn get(&self, id: &str, now: BootMillis) -> Option<Arc<Product>> {
        let seen = self.seen.lock();
        let (at, product) = seen.get(id)?;
        (now.0.saturating_sub(at.0) < KEEP_MS).then(|| product.clone())
    }

    fn keep(&self, product: Arc<Product>, now: BootMillis) {
        let mut seen = self.seen.lock();
        if seen.len() >= KEPT_MAX {
            seen.clear();
        }
        seen.insert(product.id.clone(), (now, product));
    }

    /// Forgets a product that was changed.
    pub fn forget(&self, id: &str) {
        self.seen.lock().remove(id);
    }
}

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
            self.catalogue.keep(product.clone(), now);
        }
        Ok(on_sale)
    }

    /// A product as it is committed.
    ///
    /// # Errors
    /// [`Code::Internal`] for damaged bytes, or what the runtime says.
    pub async fn read_product(&self, key: EntityKey) -> Result<Option<(Version, Product)>, Problem> {
        let Some(answer) = self.door.read(key).await? else { return Ok(None) };
        let state: ProductState = codec::decode(&answer.state).map_err(|_| Problem::new(Code::Internal))?;
        Ok(state.get().cloned().map(|product| (answer.version, product)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::policy::PolicyOverrides;
    use crate::types::money::Money;
    use crate::types::time::Timestamp;

    fn product(id: &str) -> Arc<Product> {
        Arc::new(Product {
            id: id.to_owned(),
            name: "Americano".to_owned(),
            price: Money::krw(4500),
            overrides: PolicyOverrides::default(),
            active: true,
            created_at: Timestamp(0),
            updated_at: Timestamp(0),
        })
    }

    #[test]
    fn a_product_is_kept_for_a_second_unless_forgotten() {
        let catalogue = Catalogue::default();
        catalogue.keep(product("a"), BootMillis(0));
        assert!(catalogue.get("a", BootMillis(999)).is_some());
        assert!(catalogue.get("a", BootMillis(1_000)).is_none());
        catalogue.keep(product("a"), BootMillis(2_000));
        catalogue.forget("a");
        assert!(catalogue.get("a", BootMillis(2_000)).is_none());
    }

    #[test]
    fn the_catalogue_is_bounded_and_keys_are_stable() {
        let catalogue = Catalogue::default();
        for number in 0..=KEPT_MAX {
            catalogue.keep(product(&number.to_string()), BootMillis(0));
        }
        assert!(catalogue.seen.lock().len() <= KEPT_MAX);
        assert_eq!(product_key("americano"), product_key("americano"));
        assert_ne!(product_key("americano"), product_key("latte"));
    }
}

//! The registered entity kinds, their persisted tags and the tags of the derived indexes. Never reused.

use super::entity::Typed;
use super::gift::Gift;
use super::product::ProductEntity;
use crate::types::effect::IndexTag;
use crate::types::ids::EntityKind;
use crate::types::kind::KindTable;
use std::sync::Arc;

/// Entity kinds. Tag 0 is the meta group's, in `sharding/meta`.
pub const GIFT: EntityKind = EntityKind(1);
pub const PRODUCT: EntityKind = EntityKind(2);

/// Gifts of an owner: sha256(owner)[..8] ‖ (u64::MAX − created_at ms) ‖ id.
pub const INDEX_OWNER: IndexTag = IndexTag(1);
/// Link hash, unique.
pub const INDEX_LINK: IndexTag = IndexTag(2);
/// Voucher code hash, unique.
pub const INDEX_CODE: IndexTag = IndexTag(3);
/// Gifts with a dead letter: created_at ms ‖ id.
pub const INDEX_DEAD_LETTER: IndexTag = IndexTag(4);
/// Gifts that hold money: created_at ms ‖ id.
pub const INDEX_MONEY_OPEN: IndexTag = IndexTag(5);
/// Products by name: name ‖ 0 ‖ id.
pub const INDEX_PRODUCT: IndexTag = IndexTag(6);

/// The table that the runtime is given.
#[must_use]
pub fn kinds() -> KindTable {
    KindTable::new(vec![Arc::new(Typed::<Gift>::default()), Arc::new(Typed::<ProductEntity>::default())])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::ids::EntityKey;

    #[test]
    fn ids_carry_the_prefix_of_their_kind() {
        let table = kinds();
        let gift = EntityKey { kind: GIFT, id: [0x5f; 16] };
        let product = EntityKey { kind: PRODUCT, id: [1; 16] };
        assert_eq!(table.format(gift), format!("g_{}", "5f".repeat(16)));
        assert_eq!(table.parse(&table.format(gift)), Some(gift));
        assert_eq!(table.parse(&table.format(product)), Some(product));
        assert_eq!(table.parse(&format!("g_{}", "5F".repeat(16))), None);
        assert_eq!(table.parse("x_00"), None);
    }

    #[test]
    fn tags_are_what_is_on_disk() {
        let tags = [INDEX_OWNER, INDEX_LINK, INDEX_CODE, INDEX_DEAD_LETTER, INDEX_MONEY_OPEN, INDEX_PRODUCT];
        assert_eq!(tags.map(|tag| tag.0), [1, 2, 3, 4, 5, 6]);
        assert_eq!([GIFT.0, PRODUCT.0], [1, 2]);
    }
}

//! The registered entity kinds, their persisted tags and the tags of the derived indexes. Never reused.

use crate::types::effect::IndexTag;
use crate::types::ids::EntityKind;

/// Entity kinds.
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
/// Products by id.
pub const INDEX_PRODUCT: IndexTag = IndexTag(6);

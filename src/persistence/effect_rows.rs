//! The rows that an entity's wants leave in the state database: one wake row for each timer and call, one index row
//! for each index want. They are derived: `verify` builds them anew from the states and compares.

use crate::persistence::codec::frame;
use crate::persistence::key::{self, WakeKey};
use crate::persistence::store::WriteBatch;
use crate::types::codec;
use crate::types::effect::{Effects, IndexWant, Slot};
use crate::types::ids::{EntityKey, ShardId};
use crate::types::time::Timestamp;
use std::collections::BTreeMap;

/// Rows by key.
pub type EffectRows = BTreeMap<Vec<u8>, Vec<u8>>;

/// The rows of one entity's effects.
#[must_use]
pub fn effect_rows(shard: ShardId, entity: EntityKey, effects: &Effects) -> EffectRows {
    let mut rows = wake_rows(shard, entity, effects);
    rows.extend(index_rows(shard, entity, effects));
    rows
}

fn wake_rows(shard: ShardId, entity: EntityKey, effects: &Effects) -> EffectRows {
    let mut rows = EffectRows::new();
    let mut wake = |slot: Slot, due: Timestamp, body: &[u8]| {
        let row_key = key::wake(shard, &WakeKey { due, key: entity, slot });
        let value = frame(&row_key, body);
        rows.insert(row_key, value);
    };
    for timer in &effects.timers {
        wake(timer.slot, timer.due, &[]);
    }
    for call in &effects.calls {
        wake(call.slot, call.due, &codec::encode(&call.lane));
    }
    rows
}

fn index_rows(shard: ShardId, entity: EntityKey, effects: &Effects) -> EffectRows {
    let row = |want: &IndexWant| {
        let row_key = index_row_key(shard, entity, want);
        let value = frame(&row_key, &entity.to_bytes());
        (row_key, value)
    };
    effects.indexes.iter().map(row).collect()
}

/// Key of an index row. The key of a row that is not unique ends in the entity's id, so that two entities never
/// share a row; it is added when the want's own key does not.
#[must_use]
pub fn index_row_key(shard: ShardId, entity: EntityKey, want: &IndexWant) -> Vec<u8> {
    let mut row_key = key::index(shard, want.index, &want.key);
    if !want.unique && !want.key.ends_with(&entity.id) {
        row_key.extend_from_slice(&entity.id);
    }
    row_key
}

/// Adds what turns the rows of `before` into those of `after`.
pub fn put_difference(
    batch: &mut WriteBatch,
    shard: ShardId,
    entity: EntityKey,
    before: Option<&Effects>,
    after: &Effects,
) {
    let nothing = Effects::default();
    let before = before.unwrap_or(&nothing);
    let (mut old, mut new) = (EffectRows::new(), EffectRows::new());
    // Two tables; most records change nothing in that of the indexes.
    if before.timers != after.timers || before.calls != after.calls {
        old = wake_rows(shard, entity, before);
        new = wake_rows(shard, entity, after);
    }
    if before.indexes != after.indexes {
        old.extend(index_rows(shard, entity, before));
        new.extend(index_rows(shard, entity, after));
    }
    for row_key in old.keys().filter(|row_key| !new.contains_key(*row_key)) {
        batch.remove(row_key.clone());
    }
    for (row_key, value) in new {
        if old.get(&row_key) != Some(&value) {
            batch.put(row_key, value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::effect::{CallWant, Guard, IndexTag, Lane, TimerWant};
    use crate::types::ids::EntityKind;

    const SHARD: ShardId = ShardId(1);

    fn entity() -> EntityKey {
        EntityKey { kind: EntityKind(1), id: [5; 16] }
    }

    fn effects(due: i64) -> Effects {
        Effects {
            timers: vec![TimerWant { slot: Slot(1), due: Timestamp(due) }],
            calls: vec![CallWant {
                slot: Slot(2),
                lane: Lane::Payment,
                due: Timestamp(9),
                guard: Guard::Fenced,
                open: None,
            }],
            indexes: vec![IndexWant { index: IndexTag(2), key: vec![1, 2], unique: true }],
            terminal: false,
        }
    }

    #[test]
    fn only_what_changed_is_written() {
        let mut batch = WriteBatch::default();
        put_difference(&mut batch, SHARD, entity(), Some(&effects(5)), &effects(6));
        assert_eq!(batch.operations.len(), 2, "the moved timer is removed and put");
        let mut none = WriteBatch::default();
        put_difference(&mut none, SHARD, entity(), Some(&effects(5)), &effects(5));
        assert!(none.is_empty());
        let mut all = WriteBatch::default();
        put_difference(&mut all, SHARD, entity(), None, &effects(5));
        assert_eq!(all.operations.len(), 3);
    }

    #[test]
    fn two_entities_never_share_a_row_that_is_not_unique() {
        let want = IndexWant { index: IndexTag(1), key: b"owner".to_vec(), unique: false };
        let other = EntityKey { kind: EntityKind(1), id: [6; 16] };
        assert_ne!(index_row_key(SHARD, entity(), &want), index_row_key(SHARD, other, &want));
        let with_id = IndexWant { key: [b"owner".as_slice(), &[5; 16]].concat(), ..want };
        assert_eq!(index_row_key(SHARD, entity(), &with_id), key::index(SHARD, IndexTag(1), &with_id.key));
    }
}

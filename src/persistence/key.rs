//! The one table of every persisted key.
//!
//! A database is one ordered tree; the first byte of a key is the tag of its table. Tags are never reused. Numbers
//! are big-endian, instants have their sign bit flipped, so that byte order is the order of the values.
//!
//! | tag  | table         | database | key after the tag                        | value (framed by `codec`)            |
//! |------|---------------|----------|------------------------------------------|--------------------------------------|
//! | 0x01 | `LogEntry`    | log      | shard, index                             | term, entry type, payload            |
//! | 0x02 | `HardState`   | log      | shard                                    | term, vote, commit                   |
//! | 0x03 | `Truncated`   | log      | shard                                    | index and term of the last purged    |
//! | 0x04 | `Membership`  | log      | shard                                    | members of the shard's group         |
//! | 0x05 | `BatchSeq`    | log      | –                                        | number of the last batch             |
//! | 0x0f | `LogFolder`   | log      | –                                        | folder id                            |
//! | 0x10 | `Applied`     | state    | shard                                    | index, term, claim                   |
//! | 0x11 | `State`       | state    | shard, entity                            | version, encoded state               |
//! | 0x12 | `Journal`     | state    | shard, entity, version                   | at, command id, events               |
//! | 0x13 | `Idempotency` | state    | shard, idempotency id                    | fingerprint, entity, version, at     |
//! | 0x14 | `Wake`        | state    | shard, due, entity, slot                 | lane of a call, nothing for a timer  |
//! | 0x15 | `Index`       | state    | shard, index tag, index key              | entity                               |
//! | 0x16 | `Stage`       | state    | shard                                    | what a staged snapshot stands for    |
//! | 0x17 | `Staged`      | state    | shard, key of a row                      | that row, as it will be installed    |
//! | 0x18 | `StagedKey`   | state    | shard, entity                            | its data key, as it will be installed |
//! | 0x1f | `StateFolder` | state    | –                                        | folder id                            |
//! | 0x20 | `WrappedKey`  | keys     | entity                                   | period, nonce, ciphertext            |
//! | 0x21 | `ErasedKey`   | keys     | entity                                   | period of its key, at                |
//! | 0x22 | `DroppedPeriod` | keys   | period                                   | at                                   |
//! | 0x2f | `KeysFolder`  | keys     | –                                        | folder id                            |

use crate::types::effect::{IndexTag, Slot};
use crate::types::ids::{EntityKey, IdempotencyId, LogIndex, ShardId, Version};
use crate::types::time::Timestamp;
use serde::{Deserialize, Serialize};
use std::ops::Bound;

/// The tables; see the file header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Table {
    LogEntry = 0x01,
    HardState = 0x02,
    Truncated = 0x03,
    Membership = 0x04,
    BatchSeq = 0x05,
    LogFolder = 0x0f,
    Applied = 0x10,
    State = 0x11,
    Journal = 0x12,
    Idempotency = 0x13,
    Wake = 0x14,
    Index = 0x15,
    Stage = 0x16,
    Staged = 0x17,
    StagedKey = 0x18,
    StateFolder = 0x1f,
    WrappedKey = 0x20,
    ErasedKey = 0x21,
    DroppedPeriod = 0x22,
    KeysFolder = 0x2f,
}

impl Table {
    /// Tables of one shard that together are its state machine, in key order.
    pub const SHARD_STATE: [Table; 5] = [Self::State, Self::Journal, Self::Idempotency, Self::Wake, Self::Index];

    #[must_use]
    pub fn tag(self) -> u8 {
        self as u8
    }
}

/// A half-open range of keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyRange {
    pub from: Vec<u8>,
    pub to: Vec<u8>,
}

impl KeyRange {
    /// All keys that start with `prefix`.
    #[must_use]
    pub fn prefix(prefix: Vec<u8>) -> Self {
        Self { to: successor(&prefix), from: prefix }
    }
    /// The part of the range strictly after `key`.
    #[must_use]
    pub fn after(mut self, mut key: Vec<u8>) -> Self {
        key.push(0);
        self.from = self.from.max(key);
        self
    }
    #[must_use]
    pub fn bounds(&self) -> (Bound<&[u8]>, Bound<&[u8]>) {
        (Bound::Included(&self.from), Bound::Excluded(&self.to))
    }
    #[must_use]
    pub fn contains(&self, key: &[u8]) -> bool {
        self.from.as_slice() <= key && key < self.to.as_slice()
    }
}

/// The least key above all keys that start with `prefix`.
fn successor(prefix: &[u8]) -> Vec<u8> {
    let mut next = prefix.to_vec();
    while let Some(last) = next.last_mut() {
        if *last < u8::MAX {
            *last += 1;
            return next;
        }
        next.pop();
    }
    unreachable!("every prefix begins with a tag, and no tag is 0xff")
}

/// Appends the parts of a key in order.
struct Builder(Vec<u8>);

impl Builder {
    fn table(table: Table, capacity: usize) -> Self {
        let mut bytes = Vec::with_capacity(capacity);
        bytes.push(table.tag());
        Self(bytes)
    }
    fn shard(table: Table, shard: ShardId, capacity: usize) -> Self {
        let mut builder = Self::table(table, capacity);
        builder.0.extend_from_slice(&shard.0.to_be_bytes());
        builder
    }
    fn bytes(mut self, bytes: &[u8]) -> Self {
        self.0.extend_from_slice(bytes);
        self
    }
}

/// Length of tag and shard.
const SHARD_PREFIX: usize = 3;

/// A key of a table that has a single row: [`Table::BatchSeq`] and the folder ids.
#[must_use]
pub fn single(table: Table) -> Vec<u8> {
    Builder::table(table, 1).0
}

/// All rows of a table.
#[must_use]
pub fn table(table: Table) -> KeyRange {
    KeyRange::prefix(single(table))
}

/// The key of a table that has one row for each shard.
#[must_use]
pub fn of_shard(table: Table, shard: ShardId) -> Vec<u8> {
    Builder::shard(table, shard, SHARD_PREFIX).0
}

/// All rows of a shard in a table.
#[must_use]
pub fn shard_rows(table: Table, shard: ShardId) -> KeyRange {
    KeyRange::prefix(of_shard(table, shard))
}

/// The shard of a key of a table whose keys begin with one.
#[must_use]
pub fn parse_shard(key: &[u8]) -> Option<ShardId> {
    Some(ShardId(u16::from_be_bytes(key.get(1..SHARD_PREFIX)?.try_into().ok()?)))
}

#[must_use]
pub fn log_entry(shard: ShardId, index: LogIndex) -> Vec<u8> {
    Builder::shard(Table::LogEntry, shard, 11).bytes(&index.0.to_be_bytes()).0
}

/// Entries `low..high` of a shard.
#[must_use]
pub fn log_entries(shard: ShardId, low: LogIndex, high: LogIndex) -> KeyRange {
    KeyRange { from: log_entry(shard, low), to: log_entry(shard, high) }
}

#[must_use]
pub fn parse_log_entry(key: &[u8]) -> Option<(ShardId, LogIndex)> {
    let index = u64::from_be_bytes(tail(key, Table::LogEntry)?.try_into().ok()?);
    Some((parse_shard(key)?, LogIndex(index)))
}

#[must_use]
pub fn state(shard: ShardId, entity: &EntityKey) -> Vec<u8> {
    Builder::shard(Table::State, shard, 20).bytes(&entity.to_bytes()).0
}

#[must_use]
pub fn parse_state(key: &[u8]) -> Option<(ShardId, EntityKey)> {
    Some((parse_shard(key)?, EntityKey::from_bytes(tail(key, Table::State)?)?))
}

#[must_use]
pub fn journal(shard: ShardId, entity: &EntityKey, version: Version) -> Vec<u8> {
    Builder::shard(Table::Journal, shard, 28).bytes(&entity.to_bytes()).bytes(&version.0.to_be_bytes()).0
}

/// The whole journal of one entity.
#[must_use]
pub fn journal_of(shard: ShardId, entity: &EntityKey) -> KeyRange {
    KeyRange::prefix(Builder::shard(Table::Journal, shard, 20).bytes(&entity.to_bytes()).0)
}

#[must_use]
pub fn parse_journal(key: &[u8]) -> Option<(ShardId, EntityKey, Version)> {
    let (entity, version) = tail(key, Table::Journal)?.split_at_checked(EntityKey::LEN)?;
    let version = u64::from_be_bytes(version.try_into().ok()?);
    Some((parse_shard(key)?, EntityKey::from_bytes(entity)?, Version(version)))
}

#[must_use]
pub fn idempotency(shard: ShardId, id: IdempotencyId) -> Vec<u8> {
    Builder::shard(Table::Idempotency, shard, 19).bytes(&id.0).0
}

/// Place of a wake row, and with it a cursor over them: by due instant, then entity, then slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct WakeKey {
    pub due: Timestamp,
    pub key: EntityKey,
    pub slot: Slot,
}

fn due_bytes(due: Timestamp) -> [u8; 8] {
    (due.0.cast_unsigned() ^ (1 << 63)).to_be_bytes()
}

#[must_use]
pub fn wake(shard: ShardId, wake: &WakeKey) -> Vec<u8> {
    let builder = Builder::shard(Table::Wake, shard, 30).bytes(&due_bytes(wake.due));
    builder.bytes(&wake.key.to_bytes()).bytes(&wake.slot.0.to_be_bytes()).0
}

/// Wake rows due at or before `until`.
#[must_use]
pub fn wakes_until(shard: ShardId, until: Timestamp) -> KeyRange {
    let last = Builder::shard(Table::Wake, shard, 11).bytes(&due_bytes(until)).0;
    KeyRange { from: of_shard(Table::Wake, shard), to: successor(&last) }
}

#[must_use]
pub fn parse_wake(key: &[u8]) -> Option<(ShardId, WakeKey)> {
    let (due, rest) = tail(key, Table::Wake)?.split_at_checked(8)?;
    let (entity, slot) = rest.split_at_checked(EntityKey::LEN)?;
    let due = u64::from_be_bytes(due.try_into().ok()?) ^ (1 << 63);
    let slot = Slot(u16::from_be_bytes(slot.try_into().ok()?));
    let wake = WakeKey { due: Timestamp(due.cast_signed()), key: EntityKey::from_bytes(entity)?, slot };
    Some((parse_shard(key)?, wake))
}

#[must_use]
pub fn index(shard: ShardId, tag: IndexTag, index_key: &[u8]) -> Vec<u8> {
    Builder::shard(Table::Index, shard, 4 + index_key.len()).bytes(&[tag.0]).bytes(index_key).0
}

/// Index rows whose index key starts with `prefix`.
#[must_use]
pub fn indexes(shard: ShardId, tag: IndexTag, prefix: &[u8]) -> KeyRange {
    KeyRange::prefix(index(shard, tag, prefix))
}

#[must_use]
pub fn parse_index(key: &[u8]) -> Option<(ShardId, IndexTag, &[u8])> {
    let (tag, index_key) = tail(key, Table::Index)?.split_first()?;
    Some((parse_shard(key)?, IndexTag(*tag), index_key))
}

/// Where a row waits until the snapshot that it came with is installed.
#[must_use]
pub fn staged(shard: ShardId, row_key: &[u8]) -> Vec<u8> {
    Builder::shard(Table::Staged, shard, SHARD_PREFIX + row_key.len()).bytes(row_key).0
}

/// The key that a staged row will have.
#[must_use]
pub fn parse_staged(key: &[u8]) -> Option<&[u8]> {
    tail(key, Table::Staged)
}

/// Where an entity's data key waits until the snapshot that it came with is installed.
#[must_use]
pub fn staged_key(shard: ShardId, entity: &EntityKey) -> Vec<u8> {
    Builder::shard(Table::StagedKey, shard, 20).bytes(&entity.to_bytes()).0
}

#[must_use]
pub fn parse_staged_key(key: &[u8]) -> Option<EntityKey> {
    EntityKey::from_bytes(tail(key, Table::StagedKey)?)
}

#[must_use]
pub fn wrapped_key(entity: &EntityKey) -> Vec<u8> {
    Builder::table(Table::WrappedKey, 18).bytes(&entity.to_bytes()).0
}

/// Where it is noted that an entity's data key was erased.
#[must_use]
pub fn erased_key(entity: &EntityKey) -> Vec<u8> {
    Builder::table(Table::ErasedKey, 18).bytes(&entity.to_bytes()).0
}

#[must_use]
pub fn dropped_period(period: u32) -> Vec<u8> {
    Builder::table(Table::DroppedPeriod, 5).bytes(&period.to_be_bytes()).0
}

#[must_use]
pub fn parse_wrapped_key(key: &[u8]) -> Option<EntityKey> {
    let (tag, entity) = key.split_first()?;
    if *tag == Table::WrappedKey.tag() { EntityKey::from_bytes(entity) } else { None }
}

/// What follows tag and shard in a key of `table`.
fn tail(key: &[u8], table: Table) -> Option<&[u8]> {
    let (head, tail) = key.split_at_checked(SHARD_PREFIX)?;
    if head[0] == table.tag() { Some(tail) } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::ids::EntityKind;
    use proptest::prelude::*;

    const SHARD: ShardId = ShardId(0x0203);

    fn entity() -> EntityKey {
        EntityKey { kind: EntityKind(1), id: *b"0123456789abcdef" }
    }

    fn check(key: &[u8], golden: &str) {
        assert_eq!(hex::encode(key), golden);
    }

    #[test]
    fn keys_have_their_golden_bytes() {
        let id = "30313233343536373839616263646566";
        let wake_key = WakeKey { due: Timestamp(1), key: entity(), slot: Slot(5) };
        check(&log_entry(SHARD, LogIndex(7)), "0102030000000000000007");
        check(&of_shard(Table::HardState, SHARD), "020203");
        check(&of_shard(Table::Truncated, SHARD), "030203");
        check(&of_shard(Table::Membership, SHARD), "040203");
        check(&single(Table::BatchSeq), "05");
        check(&single(Table::LogFolder), "0f");
        check(&of_shard(Table::Applied, SHARD), "100203");
        check(&state(SHARD, &entity()), &format!("11020301{id}"));
        check(&journal(SHARD, &entity(), Version(9)), &format!("12020301{id}0000000000000009"));
        check(&idempotency(SHARD, IdempotencyId([0xab; 16])), &format!("130203{}", "ab".repeat(16)));
        check(&wake(SHARD, &wake_key), &format!("140203800000000000000101{id}0005"));
        check(&index(SHARD, IndexTag(2), b"xy"), "150203027879");
        check(&of_shard(Table::Stage, SHARD), "160203");
        check(&staged(SHARD, b"xy"), "1702037879");
        check(&single(Table::StateFolder), "1f");
        check(&wrapped_key(&entity()), &format!("2001{id}"));
        check(&erased_key(&entity()), &format!("2101{id}"));
        check(&dropped_period(7), "2200000007");
        check(&single(Table::KeysFolder), "2f");
    }

    #[test]
    fn keys_parse_back() {
        let wake_key = WakeKey { due: Timestamp(-4), key: entity(), slot: Slot(5) };
        assert_eq!(parse_log_entry(&log_entry(SHARD, LogIndex(7))), Some((SHARD, LogIndex(7))));
        assert_eq!(parse_state(&state(SHARD, &entity())), Some((SHARD, entity())));
        let journal_key = journal(SHARD, &entity(), Version(9));
        assert_eq!(parse_journal(&journal_key), Some((SHARD, entity(), Version(9))));
        assert_eq!(parse_wake(&wake(SHARD, &wake_key)), Some((SHARD, wake_key)));
        assert_eq!(parse_index(&index(SHARD, IndexTag(2), b"xy")), Some((SHARD, IndexTag(2), &b"xy"[..])));
        assert_eq!(parse_wrapped_key(&wrapped_key(&entity())), Some(entity()));
        assert_eq!(parse_state(&journal_key), None);
        assert_eq!(parse_wake(b"\x14\x00"), None);
    }

    #[test]
    fn the_successor_carries_over_full_bytes() {
        assert_eq!(successor(&[1, 0xff, 0xff]), vec![2]);
        assert_eq!(successor(&[1, 2]), vec![1, 3]);
    }

    proptest! {
        #[test]
        fn wake_keys_keep_the_order_of_due_entity_slot(
            a in (any::<i64>(), any::<[u8; 16]>(), any::<u16>()),
            b in (any::<i64>(), any::<[u8; 16]>(), any::<u16>()),
        ) {
            let make = |(due, id, slot)| WakeKey {
                due: Timestamp(due),
                key: EntityKey { kind: EntityKind(1), id },
                slot: Slot(slot),
            };
            let (a, b) = (make(a), make(b));
            prop_assert_eq!(a.cmp(&b), wake(SHARD, &a).cmp(&wake(SHARD, &b)));
            prop_assert_eq!(wakes_until(SHARD, a.due).contains(&wake(SHARD, &b)), b.due <= a.due);
        }

        #[test]
        fn journal_and_log_keys_keep_the_order_of_numbers(a in any::<u64>(), b in any::<u64>()) {
            let journal_key = |version| journal(SHARD, &entity(), Version(version));
            prop_assert_eq!(a.cmp(&b), journal_key(a).cmp(&journal_key(b)));
            let log_key = |index| log_entry(SHARD, LogIndex(index));
            prop_assert_eq!(a.cmp(&b), log_key(a).cmp(&log_key(b)));
        }

        #[test]
        fn a_shard_range_holds_its_shard_only(shard in 0u16..999, other in 0u16..999, id in any::<[u8; 16]>()) {
            let key = state(ShardId(other), &EntityKey { kind: EntityKind(255), id });
            prop_assert_eq!(shard_rows(Table::State, ShardId(shard)).contains(&key), shard == other);
        }
    }
}

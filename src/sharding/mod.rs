//! Which shard an entity lives in, which nodes hold a shard, and who is a member at all. Pure: what is decided here is
//! committed by the meta group and done by the runtime.

pub mod attempts;
pub mod clock;
pub mod disk;
pub mod leaders;
pub mod meta;
pub mod plan;
pub mod quota;
pub mod reconcile;
pub mod ring;
pub mod short;

use crate::types::ids::{EntityKey, META_SHARD, ShardId};
use crate::types::limits::SHARDS_MAX;

/// The shard of an entity: xxh3-64 of its home (big-endian), modulo the number of shards of the cluster.
/// The meta group's entity has a shard of its own.
///
/// # Panics
/// When `shard_count` is 0 or above [`SHARDS_MAX`]; it is checked once, when a data folder is opened.
#[must_use]
pub fn shard_of(key: &EntityKey, shard_count: u16) -> ShardId {
    assert!((1..=SHARDS_MAX).contains(&shard_count), "a cluster has 1 to {SHARDS_MAX} shards");
    if key.kind == meta::META_KIND {
        return META_SHARD;
    }
    let hash = xxhash_rust::xxh3::xxh3_64(&key.home().to_be_bytes());
    let shard = hash % u64::from(shard_count);
    ShardId(u16::try_from(shard).expect("a remainder of a u16 divisor is a u16"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::ids::EntityKind;

    fn key(kind: u8, id: [u8; 16]) -> EntityKey {
        EntityKey { kind: EntityKind(kind), id }
    }

    #[test]
    fn a_key_stays_in_its_shard_for_good() {
        // Golden: a change here would lose every entity of every existing cluster.
        let id = *b"0123456789abcdef";
        let shards = [shard_of(&key(1, id), 64), shard_of(&key(1, [0; 16]), 64), shard_of(&key(1, id), 999)];
        assert_eq!(shards, GOLDEN.map(ShardId));
    }
    const GOLDEN: [u16; 3] = [6, 25, 976];

    #[test]
    fn the_meta_group_is_apart_from_the_shards() {
        assert_eq!(shard_of(&meta::META_KEY, 64), META_SHARD);
        assert_ne!(shard_of(&key(1, [0; 16]), 999), META_SHARD);
    }

    #[test]
    fn entities_of_one_home_share_a_shard_whatever_their_kind() {
        let mut other = *b"0123456789abcdef";
        other[15] = b'x';
        assert_eq!(shard_of(&key(1, *b"0123456789abcdef"), 64), shard_of(&key(9, other), 64));
    }

    #[test]
    fn shards_fill_evenly() {
        let mut counts = [0u32; 16];
        for n in 0..16_000u64 {
            let mut id = [7u8; 16];
            id[..8].copy_from_slice(&n.to_be_bytes());
            counts[usize::from(shard_of(&key(1, id), 16).0)] += 1;
        }
        assert!(counts.iter().all(|count| (850..1150).contains(count)), "{counts:?}");
    }
}

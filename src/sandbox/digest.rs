//! Maps whose keys are digests already.
//!
//! References, orders and idempotency keys are kept by their xxh3 digest; hashing a digest once more only costs time.
//! The callers are our own processes, so nobody gains from crafted collisions.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

/// Takes the last eight bytes that it is given as the hash.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Digested(u64);

impl Hasher for Digested {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0u8; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.0 ^= u64::from_le_bytes(word);
        }
    }

    fn write_u64(&mut self, digest: u64) {
        self.0 ^= digest;
    }

    fn write_u128(&mut self, digest: u128) {
        // The low half of a good digest is a good digest.
        self.0 ^= (digest & u128::from(u64::MAX)) as u64;
    }
}

/// A map by digest.
pub(crate) type DigestMap<K, V> = HashMap<K, V, BuildHasherDefault<Digested>>;

#[cfg(test)]
mod tests {
    use super::*;
    use xxhash_rust::xxh3::{xxh3_64, xxh3_128};

    #[test]
    fn digests_find_their_values_and_spread() {
        let mut wide: DigestMap<u128, u32> = DigestMap::default();
        let mut narrow: DigestMap<u64, u32> = DigestMap::default();
        for index in 0..10_000u32 {
            wide.insert(xxh3_128(&index.to_le_bytes()), index);
            narrow.insert(xxh3_64(&index.to_le_bytes()), index);
        }
        for index in 0..10_000u32 {
            assert_eq!(wide[&xxh3_128(&index.to_le_bytes())], index);
            assert_eq!(narrow[&xxh3_64(&index.to_le_bytes())], index);
        }
        assert_eq!((wide.len(), narrow.len()), (10_000, 10_000));
    }
}

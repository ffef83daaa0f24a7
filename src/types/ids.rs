//! Identifiers. Every id is a type of its own, so that two of them cannot be swapped by accident.

use serde::{Deserialize, Serialize};
use std::fmt;

macro_rules! counter {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub struct $name(pub u64);
        impl $name {
            /// The value that follows.
            ///
            /// # Panics
            /// At `u64::MAX`, which no counter here reaches in the age of the universe.
            #[must_use]
            pub fn next(self) -> Self {
                Self(self.0.checked_add(1).expect("a counter never reaches u64::MAX"))
            }
        }
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

counter! {
    /// Position of a record in its entity's journal; 0 means that the entity does not exist yet.
    Version
}
counter! {
    /// A Raft term of one shard.
    Term
}
counter! {
    /// A Raft log index of one shard, from 1.
    LogIndex
}
counter! {
    /// A node of the cluster, from 1. Never reused: an emptied folder comes back under a new one.
    NodeId
}
counter! {
    /// Counts the starts of a node's process, so that frames and attempts of an earlier life are told apart.
    Incarnation
}

/// One of the S shards of the cluster, 0..S. S is fixed when the cluster is made and is at most 999.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ShardId(pub u16);

/// The group of the members and the placement of all others. Ordinary shards are 0..=998.
pub const META_SHARD: ShardId = ShardId(999);

impl fmt::Display for ShardId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The tag of an entity kind, as persisted. Tags are listed in `domain/kinds.rs` and never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct EntityKind(pub u8);

/// Names one entity. The first eight bytes of `id` are its *home*, which alone decides the shard, so that
/// entities made to share a home (the seats of a show) live together.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct EntityKey {
    pub kind: EntityKind,
    pub id: [u8; 16],
}

impl EntityKey {
    /// Length of [`EntityKey::to_bytes`].
    pub const LEN: usize = 17;

    /// The part that is hashed to a shard.
    #[must_use]
    pub fn home(&self) -> u64 {
        let mut home = [0u8; 8];
        home.copy_from_slice(&self.id[..8]);
        u64::from_be_bytes(home)
    }

    /// Kind tag and id, in key order.
    #[must_use]
    pub fn to_bytes(self) -> [u8; Self::LEN] {
        let mut bytes = [0u8; Self::LEN];
        bytes[0] = self.kind.0;
        bytes[1..].copy_from_slice(&self.id);
        bytes
    }

    /// The inverse of [`EntityKey::to_bytes`]; `None` unless exactly [`EntityKey::LEN`] bytes are given.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (kind, id) = bytes.split_first()?;
        Some(Self { kind: EntityKind(*kind), id: id.try_into().ok()? })
    }

    /// The id in lower-case hexadecimal, without the kind's prefix.
    #[must_use]
    pub fn hex(&self) -> String {
        hex::encode(self.id)
    }
}

impl fmt::Debug for EntityKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "k{}_{}", self.kind.0, self.hex())
    }
}

macro_rules! digest16 {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub struct $name(pub [u8; 16]);
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&hex::encode(self.0))
            }
        }
    };
}

digest16! {
    /// Identifies one command for good: the idempotency id of a request, or hash(source, version, slot) of an effect.
    CommandId
}
digest16! {
    /// HMAC of caller, method, path and `Idempotency-Key`.
    IdempotencyId
}
digest16! {
    /// Digest of a request body, to tell a repeat from another request under the same key.
    Fingerprint
}

/// Leadership as it was committed by the leader itself. Records of another claim are void at apply,
/// and an attempt carries the claim it was started under.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Claim {
    pub term: Term,
    pub node: NodeId,
    pub incarnation: Incarnation,
}

//! Records and entries: what is replicated and journaled.
//!
//! A record holds the events of one entity step and is the unit of atomicity. An entry carries 1 to 64 records.

use crate::types::codec;
use crate::types::ids::{Claim, CommandId, EntityKey, Fingerprint, IdempotencyId, Version};
use crate::types::time::Timestamp;
use serde::{Deserialize, Serialize};

/// One step of one entity. Taken at apply only if the entity's version equals `version_before`, else void everywhere.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    pub key: EntityKey,
    pub version_before: Version,
    pub at: Timestamp,
    pub command_id: CommandId,
    /// Written as a row beside the state, so that a repeat of the request finds this record.
    pub idempotency: Option<IdempotencyMark>,
    /// The kind's encoding of one or more events.
    #[serde(with = "codec::bytes")]
    pub events: Vec<u8>,
    pub vault: VaultChange,
}

impl Record {
    #[must_use]
    pub fn version_after(&self) -> Version {
        self.version_before.next()
    }
}

/// The request that a record answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IdempotencyMark {
    pub id: IdempotencyId,
    pub fingerprint: Fingerprint,
}

/// What a record does to the entity's data key, which is kept apart from events and states.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum VaultChange {
    None,
    /// The data key, wrapped under the named period key.
    Put(WrappedKey),
    /// Destroys the data key: personal data of the entity is unreadable from here on.
    Erase,
    /// As `Erase`, and the entity's journal before this record is purged.
    Forget,
}

/// What a step destroys.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Erasure {
    #[default]
    Nothing,
    /// The entity's data key.
    PersonalData,
    /// The data key, and the journal before the step's record.
    Journal,
}

impl Erasure {
    /// What the step's record does to the data key; `new_key` is for a step that destroys nothing.
    #[must_use]
    pub fn vault_change(self, new_key: Option<WrappedKey>) -> VaultChange {
        match (self, new_key) {
            (Self::Nothing, None) => VaultChange::None,
            (Self::Nothing, Some(wrapped)) => VaultChange::Put(wrapped),
            (Self::PersonalData, _) => VaultChange::Erase,
            (Self::Journal, _) => VaultChange::Forget,
        }
    }
}

/// A data key wrapped (AES-256-GCM) under a period key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WrappedKey {
    pub period: u32,
    pub nonce: [u8; 12],
    #[serde(with = "codec::bytes")]
    pub ciphertext: Vec<u8>,
}

/// Personal data sealed (AES-256-GCM) under an entity's data key; the entity key is the associated data.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sealed {
    pub nonce: [u8; 12],
    #[serde(with = "codec::bytes")]
    pub ciphertext: Vec<u8>,
}

/// The payload of one Raft entry. Tags are the variant order: append only.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum EntryBody {
    /// A new leader's first entry. It starts hosting once this is applied.
    Claim(Claim),
    /// Void as a whole when `claim` is not the shard's current one.
    Records { claim: Claim, records: Vec<Record> },
}

/// What apply made of one record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecordFate {
    Applied(Version),
    /// Nothing was changed by it, on any replica.
    Void(VoidReason),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VoidReason {
    /// The entry was written under another claim.
    StaleClaim,
    /// The entity's version is not `version_before`.
    VersionMoved,
    /// A unique index row belongs to another entity.
    NotUnique,
    /// The proposal never became an entry.
    Dropped,
}

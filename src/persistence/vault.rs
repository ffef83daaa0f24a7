//! Personal data: sealed under a data key for each entity, which is wrapped under a period key, which is wrapped
//! under the operator's master key.
//!
//! Erasing an entity removes its wrapped key. Bytes that a disk has not overwritten yet, and the log that still holds
//! the record that put the key, are made useless by rotating: everything that lives is wrapped again under a new
//! period key, and the old one is dropped.

use crate::persistence::key_store::KeyStore;
use crate::persistence::ring::Ring;
use crate::persistence::store::StoreError;
use crate::types::ids::EntityKey;
use crate::types::record::{Sealed, WrappedKey};
use crate::types::time::Timestamp;
use aes_gcm::aead::{Aead, Payload};
use aes_gcm::{Aes256Gcm, KeyInit, Nonce};
use parking_lot::RwLock;
use std::sync::Arc;
use zeroize::Zeroizing;

/// Fills a slice from a CSPRNG (of a seeded one in the simulator).
pub type FillRandom = fn(&mut [u8]);

/// Keeps associated data of wrapped keys apart from that of sealed data.
const WRAP_DOMAIN: &[u8] = b"bojagi data key";

/// Why personal data cannot be sealed or opened.
#[derive(Debug, thiserror::Error)]
pub enum VaultError {
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The ciphertext was not sealed for this entity under its key, or was damaged.
    #[error("sealed data of {entity:?} does not open")]
    Unreadable { entity: EntityKey },
    /// The master key is not the one that the period keys were wrapped under.
    #[error("the master key does not open the period keys: give the key that this data folder was made with")]
    WrongMasterKey,
    /// The period key was dropped, or belongs to a backup's own keys.
    #[error("period key {period} is not here: import the keys that were exported with the backup")]
    UnknownPeriod { period: u32 },
    /// Data keys are still wrapped under it, or it is the current one.
    #[error("period key {period} is still in use")]
    PeriodInUse { period: u32 },
}

/// An entity's erasure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyErasure {
    pub erased_at: Timestamp,
    /// `None` until the period key that the erased key was wrapped under is dropped.
    pub complete_at: Option<Timestamp>,
}

/// Seals and opens personal data; see the file header.
pub struct Vault {
    keys: Arc<KeyStore>,
    ring: RwLock<Ring>,
    master: Zeroizing<[u8; 32]>,
    random: FillRandom,
}

impl Vault {
    /// Opens the period keys beside `keys` with the master key; a new folder gets its first period key.
    ///
    /// # Errors
    /// [`VaultError::WrongMasterKey`]; [`VaultError::Store`] when the period keys cannot be read or written.
    pub fn open_with(keys: Arc<KeyStore>, master_key: [u8; 32], random: FillRandom) -> Result<Self, VaultError> {
        let master = Zeroizing::new(master_key);
        let ring = match keys.ring().read()? {
            Some(bytes) => Ring::open(&bytes, &master).ok_or(VaultError::WrongMasterKey)?,
            None => {
                let mut ring = Ring::default();
                ring.add(fresh_key(random));
                keys.ring().write(&ring.seal(&master, random))?;
                ring
            }
        };
        Ok(Self { keys, ring: RwLock::new(ring), master, random })
    }

    /// Seals personal data of a new entity under a fresh data key. The caller's record puts the wrapped key.
    #[must_use]
    pub fn seal_new(&self, entity: EntityKey, plain: &[u8]) -> (Sealed, WrappedKey) {
        let data_key = fresh_key(self.random);
        let sealed = seal_bytes(&data_key, &entity.to_bytes(), plain, self.random);
        let ring = self.ring.read();
        let (period, period_key) = ring.current();
        let wrapped = seal_bytes(period_key, &wrap_context(entity), &*data_key, self.random);
        (sealed, WrappedKey { period, nonce: wrapped.nonce, ciphertext: wrapped.ciphertext })
    }

    /// Seals under the entity's existing data key; `None` once erased.
    ///
    /// # Errors
    /// [`VaultError`] when the data key cannot be read or unwrapped.
    pub fn seal(&self, entity: EntityKey, plain: &[u8]) -> Result<Option<Sealed>, VaultError> {
        let data_key = self.data_key(entity)?;
        Ok(data_key.map(|data_key| seal_bytes(&data_key, &entity.to_bytes(), plain, self.random)))
    }

    /// Opens; `None` once erased.
    ///
    /// # Errors
    /// [`VaultError::Unreadable`] when the data is damaged or another entity's; others when the key cannot be read.
    pub fn open(&self, entity: EntityKey, sealed: &Sealed) -> Result<Option<Vec<u8>>, VaultError> {
        let Some(data_key) = self.data_key(entity)? else { return Ok(None) };
        let plain = open_bytes(&data_key, &entity.to_bytes(), &sealed.nonce, &sealed.ciphertext);
        plain.map(Some).ok_or(VaultError::Unreadable { entity })
    }

    /// Destroys the entity's data key here. The replicated way is a record with `VaultChange::Erase`.
    ///
    /// # Errors
    /// [`VaultError::Store`]; the process must end.
    pub fn erase(&self, entity: EntityKey, at: Timestamp) -> Result<(), VaultError> {
        Ok(self.keys.erase(&entity, at)?)
    }

    /// When the entity's key was erased, and since when no medium can give it away any more; `None` when it was not.
    ///
    /// # Errors
    /// [`VaultError::Store`] when a row cannot be read.
    pub fn erasure(&self, entity: EntityKey) -> Result<Option<KeyErasure>, VaultError> {
        let Some(erased) = self.keys.erased(&entity)? else { return Ok(None) };
        let complete_at = self.keys.dropped_at(erased.period)?.map(|dropped_at| dropped_at.max(erased.at));
        Ok(Some(KeyErasure { erased_at: erased.at, complete_at }))
    }

    /// When a period key was dropped; `None` while it is kept.
    ///
    /// # Errors
    /// [`VaultError::Store`] when the row cannot be read.
    pub fn dropped_at(&self, period: u32) -> Result<Option<Timestamp>, VaultError> {
        Ok(self.keys.dropped_at(period)?)
    }

    /// The period that new keys are wrapped under, and all that are kept.
    #[must_use]
    pub fn periods(&self) -> (u32, Vec<u32>) {
        let ring = self.ring.read();
        (ring.current().0, ring.periods())
    }

    /// Makes a new current period key and wraps every stored data key under it. Returns the new period.
    ///
    /// # Errors
    /// [`VaultError`]; what was wrapped again stays so, and a repeat goes on.
    pub fn rotate(&self) -> Result<u32, VaultError> {
        let period = {
            let mut ring = self.ring.write();
            let mut next = ring.clone();
            let period = next.add(fresh_key(self.random));
            self.keys.ring().write(&next.seal(&self.master, self.random))?;
            *ring = next;
            period
        };
        self.rewrap()?;
        Ok(period)
    }

    /// Destroys an old period key; from here on what was erased before the rotation is unreadable on every medium.
    /// The caller has made sure that records which put keys under that period are applied, durable, and purged from
    /// the log. Keys that such a record put since the rotation are wrapped again first. Periods go oldest first, so
    /// that a dropped one says that all before it are gone too.
    ///
    /// # Errors
    /// [`VaultError::PeriodInUse`] for any but the oldest period, and for the current one.
    pub fn drop_period(&self, period: u32, at: Timestamp) -> Result<(), VaultError> {
        let (current, kept) = self.periods();
        if current == period || kept.first() != Some(&period) {
            return Err(VaultError::PeriodInUse { period });
        }
        self.rewrap()?;
        let mut ring = self.ring.write();
        let mut next = ring.clone();
        next.remove(period);
        self.keys.ring().write(&next.seal(&self.master, self.random))?;
        *ring = next;
        // A crash between the two lines above and here leaves earlier ones without their note.
        for dropped in 1..=period {
            if self.keys.dropped_at(dropped)?.is_none() {
                self.keys.note_dropped(dropped, at)?;
            }
        }
        Ok(())
    }

    fn rewrap(&self) -> Result<(), VaultError> {
        let mut failure = None;
        let rewrapped = self.keys.rewrap_all(|entity, wrapped| {
            if wrapped.period == self.ring.read().current().0 {
                return Ok(None);
            }
            match self.unwrap_key(*entity, wrapped) {
                Ok(data_key) => Ok(Some(self.wrap_key(*entity, &data_key))),
                Err(error) => {
                    failure = Some(error);
                    Ok(None)
                }
            }
        })?;
        tracing::info!(rewrapped, "data keys wrapped under the current period key");
        self.keys.sync()?;
        failure.map_or(Ok(()), Err)
    }

    fn data_key(&self, entity: EntityKey) -> Result<Option<Zeroizing<[u8; 32]>>, VaultError> {
        match self.keys.get(&entity)? {
            Some(wrapped) => self.unwrap_key(entity, &wrapped).map(Some),
            None => Ok(None),
        }
    }

    fn wrap_key(&self, entity: EntityKey, data_key: &[u8; 32]) -> WrappedKey {
        let ring = self.ring.read();
        let (period, period_key) = ring.current();
        let wrapped = seal_bytes(period_key, &wrap_context(entity), data_key, self.random);
        WrappedKey { period, nonce: wrapped.nonce, ciphertext: wrapped.ciphertext }
    }

    fn unwrap_key(&self, entity: EntityKey, wrapped: &WrappedKey) -> Result<Zeroizing<[u8; 32]>, VaultError> {
        let ring = self.ring.read();
        let period_key = ring.get(wrapped.period).ok_or(VaultError::UnknownPeriod { period: wrapped.period })?;
        let plain = open_bytes(period_key, &wrap_context(entity), &wrapped.nonce, &wrapped.ciphertext);
        let plain = Zeroizing::new(plain.ok_or(VaultError::Unreadable { entity })?);
        let data_key: [u8; 32] = plain.as_slice().try_into().map_err(|_| VaultError::Unreadable { entity })?;
        Ok(Zeroizing::new(data_key))
    }
}

fn wrap_context(entity: EntityKey) -> Vec<u8> {
    [WRAP_DOMAIN, &entity.to_bytes()].concat()
}

fn fresh_key(random: FillRandom) -> Zeroizing<[u8; 32]> {
    let mut bytes = Zeroizing::new([0u8; 32]);
    random(&mut *bytes);
    bytes
}

/// AES-256-GCM under a random nonce.
pub(crate) fn seal_bytes(secret: &[u8; 32], context: &[u8], plain: &[u8], random: FillRandom) -> Sealed {
    let mut nonce = [0u8; 12];
    random(&mut nonce);
    let payload = Payload { msg: plain, aad: context };
    let ciphertext = Aes256Gcm::new(secret.into()).encrypt(Nonce::from_slice(&nonce), payload);
    Sealed { nonce, ciphertext: ciphertext.expect("personal data is far below the cipher's limit") }
}

/// `None` unless the ciphertext was sealed under this key and context.
pub(crate) fn open_bytes(secret: &[u8; 32], context: &[u8], nonce: &[u8; 12], ciphertext: &[u8]) -> Option<Vec<u8>> {
    let payload = Payload { msg: ciphertext, aad: context };
    Aes256Gcm::new(secret.into()).decrypt(Nonce::from_slice(nonce), payload).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::persistence::key_store::KeyChange;
    use crate::persistence::memory_store::MemoryStore;
    use crate::persistence::ring::RingFile;
    use crate::types::ids::EntityKind;
    use std::sync::atomic::{AtomicU64, Ordering};

    const AT: Timestamp = Timestamp(5);

    static COUNTER: AtomicU64 = AtomicU64::new(0);

    fn random(bytes: &mut [u8]) {
        for byte in bytes {
            *byte = COUNTER.fetch_add(1, Ordering::Relaxed).wrapping_mul(0x9e37_79b9).to_be_bytes()[4];
        }
    }

    fn entity(id: u8) -> EntityKey {
        EntityKey { kind: EntityKind(1), id: [id; 16] }
    }

    fn vault() -> Vault {
        let keys = Arc::new(KeyStore::new(Arc::new(MemoryStore::new()), RingFile::memory()));
        Vault::open_with(keys, [1; 32], random).unwrap()
    }

    fn put(vault: &Vault, id: u8, plain: &[u8]) -> Sealed {
        let (sealed, wrapped) = vault.seal_new(entity(id), plain);
        vault.keys.apply(&[KeyChange::Put(entity(id), wrapped)]).unwrap();
        sealed
    }

    #[test]
    fn sealed_data_opens_for_its_entity_only() {
        let vault = vault();
        let sealed = put(&vault, 1, b"010-1234-5678");
        put(&vault, 2, b"other");
        assert_eq!(vault.open(entity(1), &sealed).unwrap().unwrap(), b"010-1234-5678");
        assert!(matches!(vault.open(entity(2), &sealed), Err(VaultError::Unreadable { .. })));
        let again = vault.seal(entity(1), b"new").unwrap().unwrap();
        assert_eq!(vault.open(entity(1), &again).unwrap().unwrap(), b"new");
        let mut damaged = sealed;
        damaged.ciphertext[0] ^= 1;
        assert!(matches!(vault.open(entity(1), &damaged), Err(VaultError::Unreadable { .. })));
    }

    #[test]
    fn an_erased_entity_opens_and_seals_no_more() {
        let vault = vault();
        let sealed = put(&vault, 1, b"name");
        vault.erase(entity(1), AT).unwrap();
        assert_eq!(vault.open(entity(1), &sealed).unwrap(), None);
        assert_eq!(vault.seal(entity(1), b"x").unwrap(), None);
    }

    #[test]
    fn rotation_keeps_what_lives_and_dropping_the_old_period_loses_what_was_erased() {
        let vault = vault();
        let kept: Vec<Sealed> = (0..=255).map(|id| put(&vault, id, &[id])).collect();
        let (erased, stale) = vault.seal_new(entity(7), b"gone");
        vault.erase(entity(7), AT).unwrap();
        let period = vault.rotate().unwrap();
        assert_eq!(vault.erasure(entity(7)).unwrap(), Some(KeyErasure { erased_at: AT, complete_at: None }));
        assert_eq!(vault.periods(), (period, vec![period - 1, period]));
        assert!(matches!(vault.drop_period(period, AT), Err(VaultError::PeriodInUse { .. })));
        vault.drop_period(period - 1, Timestamp(9)).unwrap();
        let complete_at = Some(Timestamp(9));
        assert_eq!(vault.erasure(entity(7)).unwrap(), Some(KeyErasure { erased_at: AT, complete_at }));
        assert_eq!(vault.erasure(entity(8)).unwrap(), None);
        for id in (0..=255).filter(|id| *id != 7) {
            assert_eq!(vault.open(entity(id), &kept[usize::from(id)]).unwrap().unwrap(), [id]);
        }
        // Whoever digs the wrapped key out of an old medium has nothing to open it with.
        vault.keys.apply(&[KeyChange::Put(entity(7), stale)]).unwrap();
        assert!(matches!(vault.open(entity(7), &erased), Err(VaultError::UnknownPeriod { .. })));
    }

    #[test]
    fn the_period_keys_open_with_their_master_key_only() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("periods");
        let keys = Arc::new(KeyStore::new(Arc::new(MemoryStore::new()), RingFile::at(&path)));
        let start = |master| Vault::open_with(keys.clone(), [master; 32], random);
        let sealed = put(&start(1).unwrap(), 1, b"name");
        assert!(matches!(start(2), Err(VaultError::WrongMasterKey)));
        let vault = start(1).unwrap();
        vault.rotate().unwrap();
        drop(vault);
        assert_eq!(start(1).unwrap().open(entity(1), &sealed).unwrap().unwrap(), b"name");
    }
}

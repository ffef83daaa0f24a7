//! Reads behind a live entity, run on the read pool: its state, its personal data, its idempotency rows.

use crate::actors::door::{Answer, Ask, AskError};
use crate::actors::seats::Seat;
use crate::actors::shared::Shared;
use crate::persistence::state_store::StateRow;
use crate::types::ids::{CommandId, EntityKey, ShardId, Version};
use crate::types::limits::{IDEMPOTENCY_LIFE, PASSIVATE_AFTER_MS};
use crate::types::record::Sealed;
use crate::types::time::{BootMillis, Timestamp};

/// An entity as the disk holds it.
pub struct Loaded {
    pub version: Version,
    pub state: Option<Vec<u8>>,
    /// Instant of the last record; before all others when it is not known any more.
    pub last_record: Timestamp,
    /// Whether `personal` was looked for.
    pub personal_read: bool,
    /// Opened personal data; `None` when there is none, or once erased.
    pub personal: Option<Vec<u8>>,
    /// Before the disk was asked.
    pub read_at: BootMillis,
    /// What the wake-ahead loader took for it.
    pub seat: Option<Seat>,
}

/// What was read longer ago than this is read again: an actor that came, changed the entity and left since then lived
/// for longer ([`PASSIVATE_AFTER_MS`]).
const FRESH_MS: u64 = PASSIVATE_AFTER_MS / 2;

impl Loaded {
    fn from_row(row: Option<StateRow>, read_at: BootMillis) -> Self {
        let (version, state) = row.map_or((Version(0), None), |row| (row.version, Some(row.state)));
        let last_record = Timestamp(i64::MIN);
        Self { version, state, last_record, personal_read: false, personal: None, read_at, seat: None }
    }

    /// Whether nothing can have been applied to the entity since it was read, on a shard led without a break since
    /// `led_since`.
    #[must_use]
    pub fn is_fresh(&self, led_since: BootMillis, now: BootMillis) -> bool {
        self.read_at > led_since && now.0 < self.read_at.0 + FRESH_MS
    }
}

/// What the idempotency rows say of an ask.
pub enum IdempotencyCheck {
    /// Never committed: decide it.
    Fresh,
    Settled(Result<Answer, AskError>),
}

/// Reads an entity's state. A damaged store ends the process: nothing may be guessed.
#[must_use]
pub fn load(shared: &Shared, shard: ShardId, key: EntityKey) -> Loaded {
    let read_at = shared.clock.boot();
    match shared.state.get(shard, &key) {
        Ok(row) => {
            let loaded = Loaded::from_row(row, read_at);
            Loaded { last_record: last_record(shared, shard, key, loaded.version), ..loaded }
        }
        Err(error) => shared.fatal(&error.to_string()),
    }
}

/// By the journal, which keeps less than the state does.
fn last_record(shared: &Shared, shard: ShardId, key: EntityKey, version: Version) -> Timestamp {
    let Some(before) = version.0.checked_sub(1) else { return Timestamp(i64::MIN) };
    match shared.state.journal(shard, &key, Version(before), 1) {
        Ok(records) => records.first().map_or(Timestamp(i64::MIN), |record| record.at),
        Err(error) => shared.fatal(&error.to_string()),
    }
}

/// Reads a state and opens its personal data, for the wake-ahead loader.
#[must_use]
pub fn load_with_personal(shared: &Shared, shard: ShardId, key: EntityKey) -> Loaded {
    let mut loaded = load(shared, shard, key);
    let live = shared.kinds.get(key.kind).and_then(|kind| kind.load(key, loaded.state.as_deref()).ok());
    if let Some(sealed) = live.and_then(|live| live.sealed()) {
        loaded.personal = open(shared, key, &sealed);
        loaded.personal_read = true;
    }
    loaded
}

/// Opens personal data; `None` once its key is destroyed.
#[must_use]
pub fn open(shared: &Shared, key: EntityKey, sealed: &Sealed) -> Option<Vec<u8>> {
    match shared.vault.open(key, sealed) {
        Ok(personal) => personal,
        Err(error) => shared.fatal(&error.to_string()),
    }
}

/// Looks up whether this ask was committed before, and answers it from the journal if so.
#[must_use]
pub fn check(shared: &Shared, shard: ShardId, ask: &Ask) -> IdempotencyCheck {
    let Some((id, fingerprint)) = ask.idempotency else { return IdempotencyCheck::Fresh };
    let row = match shared.state.idempotency(shard, id) {
        Ok(Some(row)) => row,
        Ok(None) => return IdempotencyCheck::Fresh,
        Err(error) => shared.fatal(&error.to_string()),
    };
    if row.fingerprint != fingerprint || row.key != ask.key {
        return IdempotencyCheck::Settled(Err(AskError::KeyReused));
    }
    if shared.clock.now() - row.at > IDEMPOTENCY_LIFE {
        return IdempotencyCheck::Settled(Err(AskError::KeyExpired));
    }
    let answer = as_of(shared, shard, ask.key, row.version);
    IdempotencyCheck::Settled(answer.map(|answer| Answer { replayed: true, ..answer }))
}

/// The entity as it was at `version`, by replaying its journal: the first reply is made again from what it was made of.
///
/// # Errors
/// [`AskError::KeyExpired`] when the journal no longer reaches back.
pub fn as_of(shared: &Shared, shard: ShardId, key: EntityKey, version: Version) -> Result<Answer, AskError> {
    let Some(kind) = shared.kinds.get(key.kind) else { return Err(AskError::Malformed) };
    let records = match shared.state.journal(shard, &key, Version(0), usize::try_from(version.0).unwrap_or(usize::MAX))
    {
        Ok(records) => records,
        Err(error) => shared.fatal(&error.to_string()),
    };
    let Ok(mut live) = kind.load(key, None) else { return Err(AskError::Malformed) };
    let mut reached = Version(0);
    for record in records {
        if record.version != reached.next() {
            return Err(AskError::KeyExpired);
        }
        if live.evolve(&record.events).is_err() {
            shared.fatal("journaled events do not decode: run `bojagi verify`");
        }
        reached = record.version;
    }
    if reached != version {
        return Err(AskError::KeyExpired);
    }
    Ok(Answer { key, version, state: live.encode(), replayed: false, unwritten: false })
}

/// An id for a command that no request names.
#[must_use]
pub fn fresh_command_id() -> CommandId {
    let mut id = [0u8; 16];
    getrandom::fill(&mut id).expect("the operating system's random source answers");
    CommandId(id)
}

//! Reads behind a live entity, run on the read pool: its state, its personal data, its idempotency rows.

use crate::actors::door::Ask;
use crate::actors::recall;
pub use crate::actors::recall::IdempotencyCheck;
use crate::actors::seats::Seat;
use crate::actors::shared::Shared;
use crate::persistence::state_store::StateRow;
use crate::types::ids::{CommandId, EntityKey, ShardId, Version};
use crate::types::limits::PASSIVATE_AFTER_MS;
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
    match recall::last_record(&shared.state, shard, key, version) {
        Ok(at) => at,
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
    let now = shared.clock.now();
    match recall::check(&shared.state, &shared.kinds, shard, ask, now) {
        Ok(check) => check,
        Err(error) => shared.fatal(&error.to_string()),
    }
}

/// An id for a command that no request names.
#[must_use]
pub fn fresh_command_id() -> CommandId {
    let mut id = [0u8; 16];
    getrandom::fill(&mut id).expect("the operating system's random source answers");
    CommandId(id)
}

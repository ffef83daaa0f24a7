//! What the rows of a shard say of the past: the last record of an entity, and what a request under the same key came to.
//! Sans I/O but for the store: the entity's actor and the simulator's host both ask here.

use crate::actors::door::{Answer, Ask, AskError};
use crate::persistence::state_store::StateStore;
use crate::persistence::store::StoreError;
use crate::types::ids::{EntityKey, ShardId, Version};
use crate::types::kind::KindTable;
use crate::types::limits::IDEMPOTENCY_LIFE;
use crate::types::time::Timestamp;

/// What the idempotency rows say of an ask.
pub enum IdempotencyCheck {
    /// Never committed: decide it.
    Fresh,
    Settled(Result<Answer, AskError>),
}

/// Instant of the entity's record that made `version`; before all others when the journal keeps it no more.
///
/// # Errors
/// [`StoreError`] when the row cannot be read.
pub(crate) fn last_record(
    state: &StateStore,
    shard: ShardId,
    key: EntityKey,
    version: Version,
) -> Result<Timestamp, StoreError> {
    let Some(before) = version.0.checked_sub(1) else { return Ok(Timestamp(i64::MIN)) };
    let records = state.journal(shard, &key, Version(before), 1)?;
    Ok(records.first().map_or(Timestamp(i64::MIN), |record| record.at))
}

/// Looks up whether this ask was committed before, and answers it from the journal if so.
///
/// # Errors
/// [`StoreError`] when rows cannot be read, or are damaged: nothing may be guessed.
pub(crate) fn check(
    state: &StateStore,
    kinds: &KindTable,
    shard: ShardId,
    ask: &Ask,
    now: Timestamp,
) -> Result<IdempotencyCheck, StoreError> {
    let Some((id, fingerprint)) = ask.idempotency else { return Ok(IdempotencyCheck::Fresh) };
    let Some(row) = state.idempotency(shard, id)? else { return Ok(IdempotencyCheck::Fresh) };
    if row.fingerprint != fingerprint || row.key != ask.key {
        return Ok(IdempotencyCheck::Settled(Err(AskError::KeyReused)));
    }
    if now - row.at > IDEMPOTENCY_LIFE {
        return Ok(IdempotencyCheck::Settled(Err(AskError::KeyExpired)));
    }
    let answer = as_of(state, kinds, shard, ask.key, row.version)?;
    Ok(IdempotencyCheck::Settled(answer.map(|answer| Answer { replayed: true, ..answer })))
}

/// The entity as it was at `version`, by replaying its journal: the first reply is made again from what it was made of;
/// [`AskError::KeyExpired`] when the journal no longer reaches back.
///
/// # Errors
/// [`StoreError`] when rows cannot be read, or are damaged.
fn as_of(
    state: &StateStore,
    kinds: &KindTable,
    shard: ShardId,
    key: EntityKey,
    version: Version,
) -> Result<Result<Answer, AskError>, StoreError> {
    let Some(kind) = kinds.get(key.kind) else { return Ok(Err(AskError::Malformed)) };
    let records = state.journal(shard, &key, Version(0), usize::try_from(version.0).unwrap_or(usize::MAX))?;
    let Ok(mut live) = kind.load(key, None) else { return Ok(Err(AskError::Malformed)) };
    let mut reached = Version(0);
    for record in records {
        if record.version != reached.next() {
            return Ok(Err(AskError::KeyExpired));
        }
        live.evolve(&record.events).map_err(|_| StoreError::Corrupt {
            what: "journaled events do not decode: run `bojagi verify`".to_owned(),
        })?;
        reached = record.version;
    }
    if reached != version {
        return Ok(Err(AskError::KeyExpired));
    }
    Ok(Ok(Answer { key, version, state: live.answer(), replayed: false, unwritten: false }))
}

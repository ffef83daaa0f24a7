//! What must hold between log, state and watermark before a node may start: never a guess, always a way out.

use crate::persistence::log_store::{BatchSeq, FOUNDING_INDEX, LogSpan, LogStore};
use crate::persistence::state_store::{AppliedRow, StateStore};
use crate::persistence::store::StoreError;
use crate::types::ids::{LogIndex, META_SHARD, ShardId, Term};

/// Log and state do not fit. Each message names the way out.
#[derive(Debug, thiserror::Error)]
pub enum MisfitError {
    #[error(
        "the log has lost acknowledged writes (it ends at batch {have}, but was durable up to batch {watermark}): \
         restore a backup with `bojagi restore`, or keep what is left with `bojagi salvage --accept-loss`"
    )]
    LogBehindWatermark { have: u64, watermark: u64 },
    #[error(
        "shard {shard}: the state is applied up to {applied}, but the log ends at {last}: the log has lost writes. \
         Restore a backup with `bojagi restore`, or keep what is left with `bojagi salvage --accept-loss`"
    )]
    StateAheadOfLog { shard: ShardId, applied: LogIndex, last: LogIndex },
    #[error(
        "shard {shard}: the log begins after {start}, but the state is applied only up to {applied}: the state has \
         lost writes. Restore a backup with `bojagi restore`, or keep what is left with `bojagi salvage --accept-loss`"
    )]
    LogDoesNotReachState { shard: ShardId, applied: LogIndex, start: LogIndex },
    #[error(
        "shard {shard}: the state applied entry {index} of term {state}, but the log holds one of term {log}: they are \
         not of one history. Restore a backup with `bojagi restore`, or keep the state with `bojagi salvage --accept-loss`"
    )]
    OtherHistory { shard: ShardId, index: LogIndex, state: Term, log: Term },
    #[error("shard {shard} is beyond the {shards} shards of this folder: restore a backup with `bojagi restore`")]
    UnknownShard { shard: ShardId, shards: u16 },
    #[error("{0}: restore a backup with `bojagi restore`, or keep what is left with `bojagi salvage --accept-loss`")]
    Store(#[from] StoreError),
}

/// Checks that the log reaches the watermark, and each shard's log its state.
///
/// # Errors
/// [`MisfitError`] for the first misfit found.
pub fn check_fit(log: &LogStore, state: &StateStore, watermark: BatchSeq, shards: u16) -> Result<(), MisfitError> {
    let have = log.batch_seq();
    if have < watermark {
        return Err(MisfitError::LogBehindWatermark { have: have.0, watermark: watermark.0 });
    }
    for (shard, _) in state.applied_all()? {
        if shard.0 >= shards && shard != META_SHARD {
            return Err(MisfitError::UnknownShard { shard, shards });
        }
    }
    for shard in (0..shards).map(ShardId).chain([META_SHARD]) {
        let (span, applied) = (log.span(shard), state.applied(shard)?);
        // A snapshot under way has no applied row; its installation is finished before the shard starts. So is one whose log
        // begins anew already and whose rows are all put aside.
        if !state.installing(shard)? && !awaits_install(state, shard, span, applied)? {
            check_shard(log, shard, span, applied)?;
        }
    }
    Ok(())
}

fn awaits_install(state: &StateStore, shard: ShardId, span: LogSpan, applied: AppliedRow) -> Result<bool, StoreError> {
    let whole = state.staged(shard)?.filter(|stage| stage.phase.is_whole());
    let start = span.truncated.0;
    Ok(whole.is_some_and(|stage| applied.index < start && start <= stage.applied.index))
}

fn check_shard(log: &LogStore, shard: ShardId, span: LogSpan, applied: AppliedRow) -> Result<(), MisfitError> {
    let (start, last) = (span.truncated.0, span.last.0);
    if applied.index > last {
        return Err(MisfitError::StateAheadOfLog { shard, applied: applied.index, last });
    }
    let founded = applied.index == LogIndex(0) && start <= FOUNDING_INDEX;
    if applied.index < start && !founded {
        return Err(MisfitError::LogDoesNotReachState { shard, applied: applied.index, start });
    }
    match log.term(shard, applied.index)? {
        Some(term) if term != applied.term => {
            Err(MisfitError::OtherHistory { shard, index: applied.index, state: applied.term, log: term })
        }
        Some(_) | None => Ok(()),
    }
}

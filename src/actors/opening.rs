//! A replica's core, from its folder.

use crate::actors::node::{NodeError, ReplicaSpec};
use crate::persistence::folder::Folder;
use crate::persistence::install::StagePhase;
use crate::persistence::log::LoadedLog;
use crate::persistence::staged_keys;
use crate::persistence::store::StoreError;
use crate::replication::core::{CoreOptions, ShardCore, SnapshotSeal};
use crate::types::codec;
use crate::types::ids::{LogIndex, ShardId};
use crate::types::takeovers::Takeovers;
use crate::types::time::Clock;

/// What a crash left half done is finished or dropped first. With the core: when claims were applied.
///
/// # Errors
/// [`NodeError`] when the log or the state cannot be read, or do not fit each other.
pub(super) fn open_core(
    folder: &Folder,
    spec: &ReplicaSpec,
    clock: &dyn Clock,
) -> Result<(ShardCore, Takeovers), NodeError> {
    let shard = spec.shard;
    let failed = |cause: String| NodeError::Shard { shard, cause };
    folder.finish_leaving(shard)?;
    let loaded = folder.log.load(shard)?;
    let whole_at = finish_install(folder, shard, &loaded).map_err(|error| failed(error.to_string()))?;
    let applied = folder.state.applied(shard)?;
    let takeovers = folder.takeovers.note(shard, [applied.claim.term], clock);
    let mut options = CoreOptions::new(shard, spec.peer, folder.node, folder.incarnation);
    options.found.clone_from(&spec.found);
    options.seed = folder.incarnation.0;
    options.whole_at = whole_at;
    let core = ShardCore::new(options, loaded, applied.index, folder.log.reader(shard));
    Ok((core.map_err(|error| failed(error.to_string()))?, takeovers))
}

/// A crash may have come between the log's new beginning and the state's, or in the middle of the latter.
fn finish_install(folder: &Folder, shard: ShardId, loaded: &LoadedLog) -> Result<LogIndex, StoreError> {
    let Some(stage) = folder.state.staged(shard)? else { return Ok(LogIndex(0)) };
    let sealed = match stage.phase {
        StagePhase::Staging { .. } | StagePhase::Leaving => None,
        StagePhase::Sealed | StagePhase::Keyed | StagePhase::Wiping | StagePhase::Moving => {
            codec::decode::<SnapshotSeal>(&stage.seal).ok()
        }
    };
    match sealed {
        Some(seal) if seal.from == loaded.start => {
            staged_keys::install(&folder.state, &folder.keys, shard)?;
            Ok(seal.to_index)
        }
        Some(_) | None => {
            folder.state.stage_drop(shard)?;
            Ok(LogIndex(0))
        }
    }
}

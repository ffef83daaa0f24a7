//! What started calls of entities ask for, read from their committed states: for whoever has to make them again as they
//! were, together.

use crate::actors::door::AskError;
use crate::actors::loading;
use crate::actors::local;
use crate::actors::node::Node;
use crate::types::call::CallRequest;
use crate::types::effect::Slot;
use crate::types::ids::{EntityKey, ShardId};
use crate::types::limits::ASK_DEADLINE;
use std::sync::Arc;
use tokio::time::Instant;

/// Whether this node leads the shard, as far as it knows.
#[must_use]
pub fn leads(node: &Node, shard: ShardId) -> bool {
    node.shared.leads(shard)
}

/// The calls behind slots of entities of one shard that this node leads, as of a committed state behind the read
/// barrier, in order. `None` for each that is not wanted any more, or whose personal data is gone.
///
/// # Errors
/// [`AskError::Unavailable`]: this node does not lead the shard.
pub async fn requests(
    node: &Arc<Node>,
    shard: ShardId,
    calls: Vec<(EntityKey, Slot)>,
) -> Result<Vec<Option<CallRequest>>, AskError> {
    let shared = node.shared.clone();
    local::barrier(&shared, shard, Instant::now() + ASK_DEADLINE.to_std()).await?;
    let reader = shared.clone();
    let read = move || {
        let request = |(key, slot): &(EntityKey, Slot)| {
            let loaded = loading::load_with_personal(&reader, shard, *key);
            let live = reader.kinds.get(key.kind)?.load(*key, loaded.state.as_deref()).ok()?;
            let wanted = live.wants().calls.iter().any(|call| call.slot == *slot);
            live.request(*slot, loaded.personal.as_deref()).filter(|_| wanted)
        };
        calls.iter().map(request).collect()
    };
    shared.pool.ask(read).await.ok_or(AskError::Unavailable)
}

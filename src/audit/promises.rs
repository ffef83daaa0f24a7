//! What the harness left beside the nodes' folders: the gifts that were acknowledged, and the end of the run.

use crate::audit::AuditError;
use crate::chaos::audited::{ACKNOWLEDGED, END, End};
use crate::load::ledger::gift_id;
use crate::types::ids::ShardId;
use crate::types::time::Timestamp;
use std::collections::BTreeMap;
use std::path::Path;

/// Who was promised a gift, and how the cluster stood at the end.
pub struct Promises {
    /// When each gift had been acknowledged, by the cluster's clock. What is found is taken out.
    pub acknowledged: BTreeMap<[u8; 16], Timestamp>,
    pub ended_at: Timestamp,
    /// Nodes with a replica of each shard.
    places: BTreeMap<u16, Vec<u16>>,
}

impl Promises {
    /// # Errors
    /// [`AuditError::File`]: it is not the folder of a run that came to its end.
    pub fn read(data: &Path) -> Result<Self, AuditError> {
        let text = |name: &str| {
            let path = data.join(name);
            std::fs::read_to_string(&path).map_err(|cause| AuditError::File { path, why: cause.to_string() })
        };
        let wrong = |name: &str| AuditError::File { path: data.join(name), why: "not as a run writes it".to_owned() };
        let end: End = serde_json::from_str(&text(END)?).map_err(|_| wrong(END))?;
        let lines = text(ACKNOWLEDGED)?;
        let line = |line: &str| {
            let (id, at) = line.split_once(' ')?;
            Some((gift_id(id)?, Timestamp::parse_rfc3339(at)?))
        };
        let acknowledged: Option<BTreeMap<_, _>> = lines.lines().map(line).collect();
        Ok(Self {
            acknowledged: acknowledged.ok_or_else(|| wrong(ACKNOWLEDGED))?,
            ended_at: Timestamp::parse_rfc3339(&end.at).ok_or_else(|| wrong(END))?,
            places: end.places,
        })
    }

    /// Whether the node had a replica of the shard at the end.
    #[must_use]
    pub fn holds(&self, shard: ShardId, node: u16) -> bool {
        self.places.get(&shard.0).is_some_and(|nodes| nodes.contains(&node))
    }
}

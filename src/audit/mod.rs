//! `bojagi chaos audit`: what the disks of a stopped cluster and the providers' ledger say together, judged by the same
//! checkers as the simulator's runs.
//!
//! | file | what |
//! |---|---|
//! | `trace` | a gift's records, as facts for the checkers; the simulator's too |
//! | `promises` | what the harness left beside the nodes' folders: who was promised a gift, and the end of the run |
//! | `provided` | what the providers have of each gift |
//! | `shard` | one shard, its replicas compared and its history judged |
//!
//! Lateness is not judged here: the harness knows the faults, and does.

mod promises;
mod provided;
mod shard;
pub mod trace;

pub use crate::chaos::{AuditArgs, AuditReport};

use crate::load::LoadError;
use crate::persistence::folder::Folder;
use crate::persistence::store::StoreError;
use crate::persistence::verify::verify;
use crate::types::ids::ShardId;
use crate::types::kind::KindTable;
use promises::Promises;
use provided::Provided;
use shard::{Replica, ShardAudit};
use std::path::PathBuf;

/// Violations that are listed one by one.
const VIOLATIONS_LISTED_MAX: usize = 50;

/// Why there is no verdict.
#[derive(Debug, thiserror::Error)]
pub enum AuditError {
    #[error("{}: {why}", path.display())]
    File { path: PathBuf, why: String },
    #[error(transparent)]
    Load(#[from] LoadError),
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Judges the open folders of the nodes, by number.
///
/// # Errors
/// [`AuditError`]: the run left no notes, the ledger does not answer, or a disk gives up. A breach is no error but a part of
/// the report.
pub async fn audit(args: &AuditArgs, folders: &[(u16, Folder)], kinds: &KindTable) -> Result<AuditReport, AuditError> {
    let mut promises = Promises::read(&args.data)?;
    let mut provided = Provided::read(&args.sandbox).await?;
    let mut report = AuditReport {
        nodes: u16::try_from(folders.len()).unwrap_or(u16::MAX),
        acknowledged: promises.acknowledged.len() as u64,
        messages: provided.messages(),
        ..AuditReport::default()
    };
    let mut found = Vec::new();
    for (node, folder) in folders {
        let problems = verify(folder, kinds)?;
        found.extend(problems.problems.iter().map(|problem| format!("node {node}: {problem}")));
    }
    let shards = folders.iter().map(|(_, folder)| folder.shards).max().unwrap_or(0);
    for shard in (0..shards).map(ShardId) {
        let holds = |node: &u16| promises.holds(shard, *node);
        let replicas: Vec<Replica<'_>> = folders
            .iter()
            .filter(|(node, _)| holds(node))
            .map(|(node, folder)| Replica { node: *node, state: &folder.state })
            .collect();
        let judged = ShardAudit { shard, kinds, replicas: &replicas }.judge(&mut promises, &mut provided)?;
        report.shards += 1;
        report.replicas += replicas.len() as u64;
        report.gifts += judged.gifts;
        report.records += judged.records;
        found.extend(judged.violations.iter().map(|violation| format!("shard {shard}: {violation}")));
    }
    found.extend(
        promises
            .acknowledged
            .keys()
            .map(|id| format!("INV-1: g_{} was acknowledged, and is on no disk", hex::encode(id))),
    );
    found.extend(
        provided.strangers().map(|id| format!("INV-6: g_{} was sent or paid, and is on no disk", hex::encode(id))),
    );
    report.violation_count = found.len() as u64;
    found.truncate(VIOLATIONS_LISTED_MAX);
    report.violations = found;
    Ok(report)
}

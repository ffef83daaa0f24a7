//! `bojagi cluster restore`: the first node of a new cluster, from a backup of another.

use super::ask;
use crate::app::{AppError, all_kinds, folder, read_master_key};
use crate::cli::{ClusterRestoreArgs, FolderArgs};
use crate::config::Config;
use crate::persistence::cluster_backup::BackupReader;
use crate::persistence::folder::OpenOptions;
use crate::replication::restoring::{Restored, RestoredShard, restore};
use crate::sharding::meta::PeerId;
use std::path::PathBuf;

/// Makes the folder, after asking, and says what is in it.
///
/// # Errors
/// [`AppError`]: there is a folder already, or the backup is damaged; an unfinished folder does not open.
pub fn run(args: &ClusterRestoreArgs) -> Result<(), AppError> {
    let (data, options) = place(args)?;
    if data.exists() {
        let what = format!("{} exists already: restore into a new folder", data.display());
        return Err(AppError::Usage(what));
    }
    let backup = BackupReader::open(&args.from, &args.keys)?;
    let last = backup.manifest.shards.iter().map(|facts| facts.at).max().unwrap_or_default();
    let question = format!(
        "Make a new cluster as of {}? Gifts that were sent since count as unsent in it, and are sent again.",
        last.to_rfc3339()
    );
    ask(&args.confirm, &question)?;
    let done = restore(&data, &backup, &options, all_kinds(), |shard| PeerId::founder(shard).0)?;
    say(&data, &done);
    Ok(())
}

fn place(args: &ClusterRestoreArgs) -> Result<(PathBuf, OpenOptions), AppError> {
    if let Some(path) = &args.config {
        let config = Config::load(path)?;
        let options = OpenOptions { master_key: Some(read_master_key(&config)?), ..OpenOptions::default() };
        return Ok((config.node.data, options));
    }
    let data = args.data.clone().ok_or_else(|| AppError::Usage("give --data or --config".to_owned()))?;
    let options = folder::options(&FolderArgs { data: data.clone(), master_key_file: args.master_key_file.clone() })?;
    Ok((data, options))
}

fn say(data: &std::path::Path, done: &Restored) {
    for RestoredShard { facts, entities } in &done.shards {
        println!("shard {:>3}: {entities} entities as of {}", facts.shard, facts.at.to_rfc3339());
    }
    let instants = || done.shards.iter().map(|shard| shard.facts.at);
    let first = instants().min().unwrap_or_default();
    let last = instants().max().unwrap_or_default();
    let entities: u64 = done.shards.iter().map(|shard| shard.entities).sum();
    println!(
        "{}: {entities} entities in {} shards, as of {} to {}: the folder of node 1 of the new cluster {}.\n\
         What was acknowledged after that is not in it, and a gift that was sent after it counts as unsent and would be sent again:\n\
         compare with the providers' ledgers from {} on before this node may send. No node of the old cluster may run beside it.\n\
         Check it: bojagi verify --data {}\n\
         Then start it, and join further nodes to it as usual.",
        data.display(),
        done.shards.len(),
        first.to_rfc3339(),
        last.to_rfc3339(),
        hex::encode(done.cluster),
        first.to_rfc3339(),
        data.display(),
    );
}

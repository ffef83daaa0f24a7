//! Opens the folders of a chaos run's stopped nodes to be audited.

use crate::app::dev::folder_of;
use crate::app::{AppError, all_kinds, folder};
use crate::audit::{AuditArgs, AuditReport, audit};
use crate::cli::FolderArgs;
use crate::persistence::folder::Folder;

/// The verdict on a run's disks.
///
/// # Errors
/// [`AppError`]: a folder does not open, the run did not come to its end, or the sandbox does not answer.
pub async fn run(args: &AuditArgs) -> Result<AuditReport, AppError> {
    let mut folders = Vec::new();
    for node in 1.. {
        let data = folder_of(&args.data, node);
        if !data.exists() {
            break;
        }
        let args = FolderArgs { data, master_key_file: None };
        folders.push((node, Folder::open(&args.data, folder::of_a_node(&args)?)?));
    }
    Ok(audit(args, &folders, &all_kinds()).await?)
}

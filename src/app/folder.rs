//! Work on a stopped node's data folder: backup, restore, verify, salvage. Each says what it did.

use crate::app::all_kinds;
use crate::app::{AppError, keys};
use crate::cli::{BackupArgs, FolderArgs, RestoreArgs, SalvageArgs};
use crate::persistence::folder::{Folder, OpenOptions, refuse_above};
use crate::persistence::{backup, salvage as rescue, verify as check};

/// How the folder of a stopped node is opened, once it is known to be one: its key lies beside it.
///
/// # Errors
/// [`AppError`]: it is the folder above, or the key cannot be read.
pub(crate) fn of_a_node(args: &FolderArgs) -> Result<OpenOptions, AppError> {
    refuse_above(&args.data)?;
    options(args)
}

/// How a folder is opened, or made.
///
/// # Errors
/// [`AppError`]: the key cannot be read.
pub(crate) fn options(args: &FolderArgs) -> Result<OpenOptions, AppError> {
    let beside = || args.data.parent().unwrap_or(&args.data).join("keys/master.key");
    let path = args.master_key_file.clone().unwrap_or_else(beside);
    Ok(OpenOptions { master_key: Some(keys::read(&path)?), ..OpenOptions::default() })
}

/// Writes the backup and the keys' file.
///
/// # Errors
/// [`AppError`]; no half-written file is left.
pub fn backup(args: &BackupArgs) -> Result<(), AppError> {
    let folder = Folder::open(&args.folder.data, of_a_node(&args.folder)?)?;
    let rows = backup::backup(&folder, &args.to)?;
    let sealed = backup::export_keys(&folder, &args.keys_to)?;
    println!("{}: {} rows, {} log entries, {} bytes", args.to.display(), rows.rows, rows.entries, rows.bytes);
    println!("{}: {} data keys", args.keys_to.display(), sealed.keys);
    Ok(())
}

/// Makes the new folder.
///
/// # Errors
/// [`AppError`]; an unfinished folder does not open.
pub fn restore(args: &RestoreArgs) -> Result<(), AppError> {
    let options = options(&args.folder)?;
    let report = backup::restore(&args.folder.data, &args.from, args.keys.as_deref(), &options)?;
    let data = args.folder.data.display();
    println!("{data}: {} rows, {} log entries, {} data keys", report.rows, report.entries, report.keys);
    Ok(())
}

/// Prints what was found; true when nothing is wrong.
///
/// # Errors
/// [`AppError`]: the folder does not open.
pub fn verify(args: &FolderArgs) -> Result<bool, AppError> {
    let folder = Folder::open(&args.data, of_a_node(args)?)?;
    let report = check::verify(&folder, &all_kinds())?;
    println!("{report}");
    Ok(report.is_clean())
}

/// Lists what would be lost, or rescues the rest.
///
/// # Errors
/// [`AppError`]; the damaged folder is never changed.
pub fn salvage(args: &SalvageArgs) -> Result<(), AppError> {
    let report = rescue::salvage(&args.folder.data, args.to.as_deref(), &all_kinds(), &of_a_node(&args.folder)?)?;
    println!("{report}");
    if args.to.is_none() {
        println!("nothing was written; `--to DIR --accept-loss` makes a folder of what can be saved");
    }
    Ok(())
}

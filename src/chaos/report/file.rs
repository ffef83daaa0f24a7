//! `report.json` and `report.html` in a folder.

use crate::chaos::ChaosError;
use crate::chaos::report::{ChaosReport, SCHEMA};
use serde::Deserialize;
use std::path::{Path, PathBuf};

const JSON: &str = "report.json";
const PAGE: &str = "report.html";

/// Only what tells whether the rest can be read.
#[derive(Deserialize)]
struct Head {
    schema: u32,
}

/// Reads a report; `path` is the file, or the folder that it lies in.
///
/// # Errors
/// [`ChaosError::Io`]: it cannot be read. [`ChaosError::Report`]: it is not a report, or one of another schema.
pub fn read(path: &Path) -> Result<ChaosReport, ChaosError> {
    let file = if path.is_dir() { path.join(JSON) } else { path.to_owned() };
    let bytes = std::fs::read(&file).map_err(|cause| ChaosError::Io { what: file.display().to_string(), cause })?;
    let strange = |why: String| ChaosError::Report { file: file.display().to_string(), why };
    let head: Head = serde_json::from_slice(&bytes).map_err(|error| strange(error.to_string()))?;
    if head.schema != SCHEMA {
        return Err(strange(format!("it has schema {}, this build reads {SCHEMA}", head.schema)));
    }
    let report: ChaosReport = serde_json::from_slice(&bytes).map_err(|error| strange(error.to_string()))?;
    match report.rounds.iter().any(|round| round.run >= report.runs.len()) {
        true => Err(strange("a round is of no run".to_owned())),
        false => Ok(report),
    }
}

/// Writes both files, each whole or not at all, and says where the page is.
///
/// # Errors
/// [`ChaosError::Io`]
pub fn write(folder: &Path, report: &ChaosReport) -> Result<PathBuf, ChaosError> {
    let failed = |path: &Path| {
        let what = path.display().to_string();
        move |cause| ChaosError::Io { what, cause }
    };
    std::fs::create_dir_all(folder).map_err(failed(folder))?;
    let json = serde_json::to_string(report).expect("reports have text keys only");
    for (name, text) in [(JSON, json), (PAGE, report.page())] {
        let (file, draft) = (folder.join(name), folder.join(format!("{name}.new")));
        std::fs::write(&draft, text).map_err(failed(&draft))?;
        std::fs::rename(&draft, &file).map_err(failed(&file))?;
    }
    Ok(folder.join(PAGE))
}

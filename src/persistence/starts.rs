//! The file `starts` of a data folder: which starts from it the cluster has taken, and which were tried since. Written
//! before a start is told to anyone, so that a folder that was put back from a copy is recognised (see `types::start`).

use crate::persistence::codec::{frame_value, unframe_value};
use crate::persistence::ring::replace_file;
use crate::persistence::store::StoreError;
use crate::persistence::vault::FillRandom;
use crate::types::ids::Incarnation;
use crate::types::start::{Lineage, ProcessStart, StartId};
use parking_lot::Mutex;
use std::fs;
use std::path::{Path, PathBuf};

pub(crate) const STARTS: &str = "starts";
const CONTEXT: &[u8] = b"starts of a node";

/// The starts of the folder that this process has open.
pub struct StartBook {
    path: PathBuf,
    lineage: Mutex<Lineage>,
}

impl StartBook {
    /// Notes a new start of the folder, durably. A file that is missing or damaged counts as none: the cluster then
    /// refuses the folder unless it knows of no start either.
    ///
    /// # Errors
    /// [`StoreError`] when the file cannot be read or written.
    pub fn begin(dir: &Path, incarnation: Incarnation, random: FillRandom) -> Result<Self, StoreError> {
        let path = dir.join(STARTS);
        let mut lineage = match fs::read(&path) {
            Ok(bytes) => unframe_value(CONTEXT, &bytes).unwrap_or_else(|_| {
                tracing::warn!(path = %path.display(), "the record of earlier starts is damaged");
                Lineage::default()
            }),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Lineage::default(),
            Err(error) => return Err(error.into()),
        };
        let mut id = StartId::default();
        random(&mut id.0);
        lineage.begin(ProcessStart { incarnation, id });
        replace_file(&path, &frame_value(CONTEXT, &lineage))?;
        Ok(Self { path, lineage: Mutex::new(lineage) })
    }

    #[must_use]
    pub fn lineage(&self) -> Lineage {
        self.lineage.lock().clone()
    }

    /// The cluster has taken the present start; durable when this returns.
    ///
    /// # Errors
    /// [`StoreError`] when the file cannot be written; the next start then tells both.
    pub fn confirm(&self) -> Result<(), StoreError> {
        let mut lineage = self.lineage.lock();
        let mut next = lineage.clone();
        next.confirm();
        replace_file(&self.path, &frame_value(CONTEXT, &next))?;
        *lineage = next;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::persistence::folder::system_random;

    fn begin(dir: &Path, incarnation: u64) -> StartBook {
        StartBook::begin(dir, Incarnation(incarnation), system_random).unwrap()
    }

    #[test]
    fn starts_are_kept_over_restarts_until_one_is_taken() {
        let dir = tempfile::tempdir().unwrap();
        let first = begin(dir.path(), 1).lineage().present().unwrap();
        let book = begin(dir.path(), 2);
        assert_eq!(book.lineage().tried[0], first);
        let second = book.lineage().present().unwrap();
        assert_ne!(first.id, second.id);
        book.confirm().unwrap();
        let third = begin(dir.path(), 3).lineage();
        assert_eq!(third.confirmed, Some(second));
        assert_eq!(third.tried.len(), 1);
    }

    #[test]
    fn a_damaged_record_is_as_good_as_none() {
        let dir = tempfile::tempdir().unwrap();
        begin(dir.path(), 1).confirm().unwrap();
        fs::write(dir.path().join(STARTS), b"x").unwrap();
        assert_eq!(begin(dir.path(), 2).lineage().confirmed, None);
    }
}

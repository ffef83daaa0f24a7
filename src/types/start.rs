//! Starts of a node's process, and how a folder that was put back from a copy is told from one that was not.
//!
//! Each start draws an id, which is in the folder before anyone hears of it. The meta group keeps the last start that it
//! was told of each node. A folder that holds neither that start nor a later one is behind: it was restored or copied, and
//! its log may lack what the node has voted for.

use crate::types::ids::Incarnation;
use serde::{Deserialize, Serialize};
use std::fmt;

/// Drawn anew at each start of a process.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct StartId(pub [u8; 16]);

impl fmt::Debug for StartId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(&self.0[..4]))
    }
}

/// One start of a node's process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ProcessStart {
    pub incarnation: Incarnation,
    pub id: StartId,
}

/// Starts that were tried since the last one that the cluster took; the oldest are forgotten beyond this.
pub const STARTS_TRIED_MAX: usize = 8;

/// What a folder knows of the starts from it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lineage {
    /// The last one that the meta group is known to have taken.
    pub confirmed: Option<ProcessStart>,
    /// Later ones, of which it is not known whether they were taken. The present start is the last.
    pub tried: Vec<ProcessStart>,
}

/// A folder beside what is on record of its node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fit {
    /// The record is of the present start.
    Present,
    /// The present start follows what is on record.
    Later,
    /// The record holds a start that this folder knows nothing of.
    Behind,
}

impl Lineage {
    /// The start that this process is; `None` before [`Self::begin`].
    #[must_use]
    pub fn present(&self) -> Option<ProcessStart> {
        self.tried.last().copied().or(self.confirmed)
    }

    /// A process starts.
    pub fn begin(&mut self, start: ProcessStart) {
        self.tried.push(start);
        let surplus = self.tried.len().saturating_sub(STARTS_TRIED_MAX);
        self.tried.drain(..surplus);
    }

    /// The cluster has taken the present start.
    pub fn confirm(&mut self) {
        self.confirmed = self.present();
        self.tried.clear();
    }

    /// How the folder stands beside the record. The record of a peer that has not heard everything yet may be older than
    /// what is confirmed here; that is no fault of the folder.
    #[must_use]
    pub fn fits(&self, recorded: ProcessStart) -> Fit {
        let Some(present) = self.present() else { return Fit::Behind };
        if recorded == present {
            return Fit::Present;
        }
        let outdated = |confirmed: ProcessStart| recorded.incarnation < confirmed.incarnation;
        let known = self.tried.contains(&recorded) || self.confirmed == Some(recorded);
        let follows = present.incarnation > recorded.incarnation;
        if follows && (known || self.confirmed.is_some_and(outdated)) { Fit::Later } else { Fit::Behind }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn start(incarnation: u64, id: u8) -> ProcessStart {
        ProcessStart { incarnation: Incarnation(incarnation), id: StartId([id; 16]) }
    }
    fn lineage(confirmed: Option<ProcessStart>, tried: &[ProcessStart]) -> Lineage {
        Lineage { confirmed, tried: tried.to_vec() }
    }

    #[test]
    fn a_start_follows_the_one_before_it_whether_or_not_that_was_heard_of() {
        let folder = lineage(Some(start(5, 5)), &[start(6, 6), start(9, 9)]);
        assert_eq!(folder.fits(start(5, 5)), Fit::Later);
        assert_eq!(folder.fits(start(6, 6)), Fit::Later, "it was taken, and the answer was lost");
        assert_eq!(folder.fits(start(9, 9)), Fit::Present);
        assert_eq!(folder.fits(start(3, 3)), Fit::Later, "a peer that has not heard of 5 yet");
    }

    #[test]
    fn a_folder_put_back_is_behind_however_often_it_is_started() {
        let recorded = start(8, 8);
        let mut folder = lineage(Some(start(5, 5)), &[]);
        for incarnation in 6..40 {
            folder.begin(start(incarnation, 100 + incarnation as u8));
            assert_eq!(folder.fits(recorded), Fit::Behind, "start {incarnation}");
        }
        assert_eq!(folder.tried.len(), STARTS_TRIED_MAX);
    }

    #[test]
    fn of_two_copies_of_a_folder_one_is_taken() {
        let (one, two) = (start(6, 1), start(6, 2));
        assert_eq!(lineage(Some(start(5, 5)), &[two]).fits(one), Fit::Behind);
        assert_eq!(lineage(Some(start(5, 5)), &[two, start(7, 3)]).fits(one), Fit::Behind);
        assert_eq!(Lineage::default().fits(one), Fit::Behind);
    }

    #[test]
    fn what_is_confirmed_is_the_present_start() {
        let mut folder = Lineage::default();
        folder.begin(start(1, 1));
        folder.begin(start(2, 2));
        folder.confirm();
        assert_eq!(folder, lineage(Some(start(2, 2)), &[]));
        assert_eq!(folder.present(), Some(start(2, 2)));
        assert_eq!(folder.fits(start(1, 1)), Fit::Later);
    }
}

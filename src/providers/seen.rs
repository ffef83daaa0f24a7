//! What a lookup saw of a message's end, kept for the next poll: a lookup itself says only whether it was accepted.

use crate::types::call::Report;
use parking_lot::Mutex;

/// Beyond, a report is left to the updates that the poll reads.
const SEEN_MAX: usize = 10_000;

#[derive(Default)]
pub(crate) struct Seen(Mutex<Vec<Report>>);

impl Seen {
    pub(crate) fn note(&self, report: Option<Report>) {
        let mut seen = self.0.lock();
        let room = seen.len() < SEEN_MAX;
        seen.extend(report.filter(|_| room));
    }

    pub(crate) fn take(&self) -> Vec<Report> {
        std::mem::take(&mut *self.0.lock())
    }
}

//! Read barriers by Raft's ReadIndex: one round trip confirms leadership for all reads that came before it.

use crate::types::limits::READS_WAITING_MAX;
use std::collections::VecDeque;

#[derive(Default)]
pub(crate) struct Reads {
    sequence: u64,
    /// Came after the round trip under way began.
    waiting: Vec<u64>,
    asked: Option<(u64, Vec<u64>)>,
    /// Leadership was confirmed; to be answered once this index is applied.
    confirmed: VecDeque<(u64, Vec<u64>)>,
}

impl Reads {
    #[must_use]
    pub(crate) fn push(&mut self, tag: u64) -> bool {
        if self.waiting.len() >= READS_WAITING_MAX {
            return false;
        }
        self.waiting.push(tag);
        true
    }

    /// The context of a round trip to begin, when reads wait and none is under way.
    pub(crate) fn ask(&mut self) -> Option<Vec<u8>> {
        if self.asked.is_some() || self.waiting.is_empty() {
            return None;
        }
        self.sequence += 1;
        self.asked = Some((self.sequence, std::mem::take(&mut self.waiting)));
        Some(self.sequence.to_be_bytes().to_vec())
    }

    /// A round trip came back with the commit index of its beginning.
    pub(crate) fn confirm(&mut self, context: &[u8], index: u64) {
        if let Some((_, tags)) = self.asked.take_if(|(sequence, _)| sequence.to_be_bytes() == context) {
            self.confirmed.push_back((index, tags));
        }
    }

    /// Reads that may be answered.
    pub(crate) fn ready(&mut self, applied: u64) -> Vec<u64> {
        let mut tags = Vec::new();
        while self.confirmed.front().is_some_and(|(index, _)| *index <= applied) {
            tags.extend(self.confirmed.pop_front().expect("the queue has a front").1);
        }
        tags
    }

    /// Everything unanswered.
    pub(crate) fn fail(&mut self) -> Vec<u64> {
        let mut tags: Vec<u64> = self.confirmed.drain(..).flat_map(|(_, tags)| tags).collect();
        tags.extend(self.asked.take().into_iter().flat_map(|(_, tags)| tags));
        tags.append(&mut self.waiting);
        tags
    }
}

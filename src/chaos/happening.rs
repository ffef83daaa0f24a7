//! What happened in a round, as plain data: which part was hit, when, and until when. The report draws bands and lanes
//! from it.
//!
//! A [`Happening`] that began is ended by the next one with the same target and name; one that never ends lasted beyond
//! the round. Instants count from the begin of the round, by the clock of the machine that runs the harness.

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

/// What a fault or a planned event is done to. Nodes count from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Target {
    /// The process.
    Node(u16),
    /// The bytes that `from` sends to `to`.
    Link { from: u16, to: u16 },
    /// What the node's storage answers.
    Disk(u16),
    /// The node's wall clock.
    Clock(u16),
    /// The providers of messages, payments and shipping: the sandbox.
    Provider,
    /// The Redis server of the run.
    Redis,
    /// The cluster as a whole: a backup.
    Cluster,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum What {
    Began,
    Ended,
}

/// One edge of something that was done to a part of the stand.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Happening {
    /// Milliseconds since the begin of the round.
    pub at_ms_since_round_start: u64,
    pub target: Target,
    pub what: What,
    /// In the words of a reader: `killed`, `paused`, `cut`, `drained`, `429`.
    pub name: String,
}

/// Takes happenings down while a round runs. Shared by all who do harm in it.
pub struct Diary {
    round_start: Instant,
    happenings: Mutex<Vec<Happening>>,
}

impl Diary {
    /// One for the round that begins now.
    #[must_use]
    pub fn begin() -> Self {
        Self { round_start: Instant::now(), happenings: Mutex::default() }
    }

    /// When the round began.
    #[must_use]
    pub fn round_start(&self) -> Instant {
        self.round_start
    }

    /// Milliseconds since the begin of the round.
    #[must_use]
    pub fn elapsed_ms(&self) -> u64 {
        u64::try_from(self.round_start.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    pub fn began(&self, target: Target, name: &str) {
        self.note(target, What::Began, name);
    }

    pub fn ended(&self, target: Target, name: &str) {
        self.note(target, What::Ended, name);
    }

    fn note(&self, target: Target, what: What, name: &str) {
        let mut happenings = self.happenings.lock();
        // Under the lock, so that the list is in the order of its instants.
        let at_ms_since_round_start = self.elapsed_ms();
        happenings.push(Happening { at_ms_since_round_start, target, what, name: name.to_owned() });
    }

    /// What happened so far, in order.
    #[must_use]
    pub fn happenings(&self) -> Vec<Happening> {
        self.happenings.lock().clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[tokio::test(start_paused = true)]
    async fn happenings_stand_in_order_with_their_instants() {
        let diary = Diary::begin();
        tokio::time::advance(Duration::from_millis(250)).await;
        diary.began(Target::Link { from: 1, to: 2 }, "cut");
        tokio::time::advance(Duration::from_millis(500)).await;
        diary.ended(Target::Link { from: 1, to: 2 }, "cut");
        let all = diary.happenings();
        assert_eq!(all.iter().map(|one| one.at_ms_since_round_start).collect::<Vec<_>>(), [250, 750]);
        assert_eq!(all.iter().map(|one| one.what).collect::<Vec<_>>(), [What::Began, What::Ended]);
    }

    #[test]
    fn a_recorded_happening_is_read_again() {
        let one = |target| Happening { at_ms_since_round_start: 5, target, what: What::Began, name: "cut".to_owned() };
        for target in [Target::Link { from: 2, to: 1 }, Target::Disk(3), Target::Provider] {
            let text = serde_json::to_string(&one(target)).unwrap();
            assert_eq!(serde_json::from_str::<Happening>(&text).unwrap(), one(target), "{text}");
        }
    }
}

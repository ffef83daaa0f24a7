//! To whom a leader hands its shard over, and what ends a transfer: three voters, and mail that does not arrive everywhere.

use crate::persistence::log::{LoadedLog, LogEntry, LogReader};
use crate::persistence::store::StoreError;
use crate::replication::core::{CoreOptions, Input, Output, ShardCore, Standing};
use crate::replication::wire::Frame;
use crate::types::ids::{CommandId, EntityKey, EntityKind, Incarnation, LogIndex, NodeId, ShardId, Term, Version};
use crate::types::limits::{HEIR_LAG_MAX, REPORT_TICKS};
use crate::types::record::{Record, VaultChange};
use crate::types::time::Timestamp;
use raft::StateRole;
use std::collections::{BTreeSet, VecDeque};

/// All of it is in the core's memory.
struct NoLog;

impl LogReader for NoLog {
    fn entries(&self, _from: LogIndex, _to: LogIndex, _bytes_max: u64) -> Result<Vec<LogEntry>, StoreError> {
        Ok(Vec::new())
    }
    fn term(&self, _index: LogIndex) -> Result<Option<Term>, StoreError> {
        Ok(None)
    }
}

/// Peers 1 to 3 of one group. What one of them says to another arrives at once, or never.
struct Trio {
    cores: Vec<ShardCore>,
    /// Neither heard nor hearing.
    cut: BTreeSet<u64>,
    /// Append what they are sent and apply none of it.
    behind: BTreeSet<u64>,
    proposed: u64,
    dropped: usize,
}

impl Trio {
    /// Led by peer 1.
    fn new() -> Self {
        let core = |peer: u64| {
            let mut options = CoreOptions::new(ShardId(3), peer, NodeId(peer), Incarnation(1));
            options.found = vec![1, 2, 3];
            ShardCore::new(options, LoadedLog::default(), LogIndex(0), Box::new(NoLog)).unwrap()
        };
        let cores = (1..=3).map(core).collect();
        let mut trio = Self { cores, cut: BTreeSet::new(), behind: BTreeSet::new(), proposed: 0, dropped: 0 };
        trio.give(1, Input::Campaign);
        assert!(trio.of(1).is_leader());
        trio
    }

    fn of(&mut self, peer: u64) -> &mut ShardCore {
        &mut self.cores[usize::try_from(peer - 1).unwrap()]
    }

    /// Gives one input to a peer, and does all that follows from it.
    fn give(&mut self, peer: u64, input: Input) {
        let mut inputs = VecDeque::from([(peer, input)]);
        while let Some((at, input)) = inputs.pop_front() {
            let mut out = Vec::new();
            self.of(at).step(input, &mut out);
            for output in out {
                match output {
                    Output::Send { to, bytes } if !self.cut.contains(&to) && !self.cut.contains(&at) => {
                        inputs.push_back((to, Input::Frame { from: at, bytes }));
                    }
                    Output::Append(append) => inputs.push_back((at, Input::Persisted { number: append.number })),
                    Output::Apply(entries) if !self.behind.contains(&at) => {
                        inputs.push_back((at, Input::Applied { index: entries.last().unwrap().index }));
                    }
                    Output::Dropped { .. } => self.dropped += 1,
                    _ => {}
                }
            }
        }
    }

    fn tick(&mut self, peer: u64, ticks: u32) {
        (0..ticks).for_each(|_| self.give(peer, Input::Tick));
    }

    /// Proposes so many records to peer 1, each an entry of its own.
    fn propose(&mut self, records: u64) {
        for _ in 0..records {
            self.proposed += 1;
            let id = u128::from(self.proposed).to_be_bytes();
            let record = Record {
                key: EntityKey { kind: EntityKind(1), id },
                version_before: Version(0),
                at: Timestamp(5),
                command_id: CommandId(id),
                idempotency: None,
                events: vec![7],
                vault: VaultChange::None,
            };
            self.give(1, Input::Propose { tag: self.proposed, record });
            self.give(1, Input::Flush);
        }
    }

    fn may(&mut self, heir: u64) -> bool {
        self.of(1).may_hand_over_to(heir)
    }
}

#[test]
fn an_heir_lacks_so_few_entries_that_the_shard_need_not_wait_for_it() {
    let mut trio = Trio::new();
    trio.cut.insert(3);
    trio.propose(HEIR_LAG_MAX);
    assert!(trio.may(2) && trio.may(3));
    trio.propose(1);
    assert!(trio.may(2) && !trio.may(3));
    trio.give(1, Input::TransferLeader { to: 3 });
    assert_eq!(trio.of(1).transferee(), None);
    trio.propose(1);
    assert_eq!(trio.dropped, 0, "the shard goes on");
    trio.cut.clear();
    trio.tick(1, 10);
    assert!(trio.may(3), "it has caught up");
    trio.give(1, Input::TransferLeader { to: 3 });
    assert!(trio.of(3).is_leader() && !trio.of(1).is_leader());
}

#[test]
fn an_heir_that_has_entries_and_has_not_applied_them_says_so() {
    let mut trio = Trio::new();
    trio.behind.insert(2);
    trio.propose(HEIR_LAG_MAX + 5);
    trio.tick(2, REPORT_TICKS);
    assert!(!trio.may(2) && trio.may(3));
    trio.tick(1, 2 * REPORT_TICKS - 1);
    assert!(!trio.may(2));
    trio.tick(1, 1);
    assert!(trio.may(2), "it complains no more");
    let committed = trio.of(1).status().committed.0;
    let mut says = |whole, applied| {
        let report = Frame::Report { whole, applied: LogIndex(applied) };
        trio.give(1, Input::Frame { from: 2, bytes: report.encode() });
        trio.may(2)
    };
    assert!(says(true, committed - HEIR_LAG_MAX));
    assert!(!says(true, committed - HEIR_LAG_MAX - 1));
    assert!(!says(false, committed), "its snapshot is not complete");
}

#[test]
fn only_a_leader_hands_over_and_only_to_another_voter() {
    let mut trio = Trio::new();
    assert!(trio.may(2) && trio.may(3));
    assert!(!trio.may(1) && !trio.may(9));
    assert!(!trio.of(2).may_hand_over_to(3));
}

#[test]
fn a_transfer_ends_when_the_link_to_its_heir_is_gone() {
    let mut trio = Trio::new();
    trio.cut.insert(2);
    trio.give(1, Input::TransferLeader { to: 2 });
    trio.propose(1);
    assert_eq!((trio.of(1).transferee(), trio.dropped), (Some(2), 1), "nothing is taken meanwhile");
    trio.give(1, Input::PeerGone { peer: 3 });
    assert_eq!(trio.of(1).transferee(), Some(2), "another's link is none of its business");
    trio.give(1, Input::PeerGone { peer: 2 });
    trio.propose(1);
    assert_eq!((trio.of(1).transferee(), trio.dropped), (None, 1), "it goes on");
    assert!(trio.of(1).is_leader());
}

/// As one whose disk is slow.
#[test]
fn a_voter_that_leaves_elections_to_the_others_leads_when_its_leader_names_it() {
    let mut trio = Trio::new();
    trio.of(2).stand(Standing::WhenNamed);
    trio.cut.insert(2);
    trio.tick(2, 60);
    trio.give(2, Input::Campaign);
    assert_eq!(trio.of(2).role.0, StateRole::Follower);
    trio.cut.clear();
    trio.give(1, Input::TransferLeader { to: 2 });
    assert!(trio.of(2).is_leader());
}

/// As one whose clock is off.
#[test]
fn a_voter_that_must_not_lead_does_not_even_when_it_is_named() {
    let mut trio = Trio::new();
    trio.of(2).stand(Standing::Never);
    trio.give(1, Input::TransferLeader { to: 2 });
    assert!(trio.of(1).is_leader() && !trio.of(2).is_leader());
}

#[test]
fn who_does_not_stand_votes_for_another_once_the_leader_is_not_heard_of() {
    for standing in [Standing::Never, Standing::WhenNamed] {
        let mut trio = Trio::new();
        trio.of(3).stand(standing);
        trio.cut.insert(1);
        for _ in 0..100 {
            trio.tick(3, 1);
            trio.tick(2, 1);
        }
        assert!(trio.of(2).is_leader() && !trio.of(3).is_leader(), "{standing:?}");
    }
}

#[test]
fn a_leader_that_is_not_to_lead_gives_up_without_its_quorum_as_any_other() {
    let mut trio = Trio::new();
    trio.of(1).stand(Standing::Never);
    trio.cut.insert(1);
    trio.tick(1, 100);
    assert!(!trio.of(1).is_leader());
}

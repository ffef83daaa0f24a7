//! What a follower does about the loss of its leader's node.

use super::*;
use crate::persistence::log::{LogEntry, LogReader};
use crate::persistence::store::StoreError;
use crate::replication::core::{CoreOptions, Input};
use crate::replication::wire::encode_raft;
use crate::types::ids::{Incarnation, LogIndex, NodeId, ShardId, Term};

struct NoLog;

impl LogReader for NoLog {
    fn entries(&self, _from: LogIndex, _to: LogIndex, _bytes_max: u64) -> Result<Vec<LogEntry>, StoreError> {
        Ok(Vec::new())
    }
    fn term(&self, _index: LogIndex) -> Result<Option<Term>, StoreError> {
        Ok(None)
    }
}

/// A voter of three that hears peer 2 lead.
fn follower() -> ShardCore {
    let mut options = CoreOptions::new(ShardId(3), 1, NodeId(1), Incarnation(1));
    options.found = vec![1, 2, 3];
    let mut core = ShardCore::new(options, LoadedLog::default(), LogIndex(0), Box::new(NoLog)).unwrap();
    heartbeat(&mut core);
    assert_eq!(core.leader_peer(), Some(2));
    core
}

fn heartbeat(core: &mut ShardCore) {
    let mut message = Message { from: 2, to: 1, term: 2, ..Message::default() };
    message.set_msg_type(MessageType::MsgHeartbeat);
    core.step(Input::Frame { from: 2, bytes: encode_raft(&message) }, &mut Vec::new());
}

/// Ticks until it stands for election, if it does.
fn ticks_to_election(core: &mut ShardCore, max: usize, mut each: impl FnMut(&mut ShardCore)) -> Option<usize> {
    (1..=max).find(|_| {
        core.step(Input::Tick, &mut Vec::new());
        each(core);
        core.raw.raft.state == StateRole::PreCandidate
    })
}

#[test]
fn the_loss_of_the_leaders_node_is_not_waited_out() {
    let mut core = follower();
    core.step(Input::PeerGone { peer: 2 }, &mut Vec::new());
    let hurry = usize::try_from(HURRY_TICKS_MAX).unwrap();
    assert!(ticks_to_election(&mut core, hurry, |_| {}).is_some());
    assert!(ticks_to_election(&mut follower(), hurry, |_| {}).is_none(), "silence alone takes longer");
}

#[test]
fn the_loss_of_another_peer_changes_nothing() {
    let mut core = follower();
    core.step(Input::PeerGone { peer: 3 }, &mut Vec::new());
    assert_eq!(core.leader_peer(), Some(2));
    assert!(ticks_to_election(&mut core, 9, |_| {}).is_none());
}

#[test]
fn a_leader_that_is_heard_again_is_followed() {
    let mut core = follower();
    core.step(Input::PeerGone { peer: 2 }, &mut Vec::new());
    heartbeat(&mut core);
    assert!(ticks_to_election(&mut core, 30, heartbeat).is_none());
}

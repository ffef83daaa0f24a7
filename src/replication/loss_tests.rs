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
    voter(1, 3)
}

fn voter(peer: u64, shard: u16) -> ShardCore {
    let mut options = CoreOptions::new(ShardId(shard), peer, NodeId(peer), Incarnation(1));
    options.found = vec![1, 2, 3];
    let mut core = ShardCore::new(options, LoadedLog::default(), LogIndex(0), Box::new(NoLog)).unwrap();
    heartbeat(&mut core);
    assert_eq!(core.leader_peer(), Some(2));
    core
}

fn heartbeat(core: &mut ShardCore) {
    let mut message = Message { from: 2, to: core.options.peer_id, term: 2, ..Message::default() };
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
    let hurry = usize::try_from(HURRY_TICKS_FIRST + HURRY_TICKS_APART).unwrap();
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

/// What reaches a voter, and when.
type Mail = Vec<(u64, usize, Input)>;

/// Milliseconds from the loss of peer 2's node until one of the two others leads: `hop_ms` for a message, `disk_ms` until an
/// append is durable, `apart_ms` between their ticks.
fn until_led_ms(shard: u16, (hop_ms, disk_ms, apart_ms): (u64, u64, u64)) -> Option<(u64, u64)> {
    let mut voters = [voter(1, shard), voter(3, shard)];
    for core in &mut voters {
        core.step(Input::Persisted { number: core.appends }, &mut Vec::new());
    }
    let mut mail: Mail = Vec::new();
    for now_ms in 0..5_000u64 {
        let tick = |at: usize| (now_ms + if at == 1 { apart_ms } else { 0 }).is_multiple_of(100);
        let (due, later): (Mail, Mail) = mail.into_iter().partition(|(at_ms, _, _)| *at_ms <= now_ms);
        mail = later;
        let mut inputs: Vec<(usize, Input)> = due.into_iter().map(|(_, at, input)| (at, input)).collect();
        inputs.extend((0..2).filter(|at| tick(*at)).map(|at| (at, Input::Tick)));
        if now_ms == 1 {
            inputs.extend((0..2).map(|at| (at, Input::PeerGone { peer: 2 })));
        }
        for (at, input) in inputs {
            let mut out = Vec::new();
            voters[at].step(input, &mut out);
            let from = voters[at].options.peer_id;
            mail.extend(out.into_iter().filter_map(|output| match output {
                Output::Send { to: 2, .. } => None,
                Output::Send { bytes, .. } => Some((now_ms + hop_ms, 1 - at, Input::Frame { from, bytes })),
                Output::Append(append) => Some((now_ms + disk_ms, at, Input::Persisted { number: append.number })),
                _ => None,
            }));
        }
        if let Some(leader) = voters.iter().find(|core| core.raw.raft.state == StateRole::Leader) {
            return Some((now_ms, leader.options.peer_id));
        }
    }
    None
}

#[test]
fn those_whose_leaders_node_is_gone_do_not_stand_in_each_others_way() {
    let mut led = [0, 0];
    for shard in 0..64 {
        for times in [(1, 5, 0), (5, 40, 0), (5, 40, 30), (10, 60, 50), (20, 80, 90), (30, 60, 0)] {
            let (ms, by) = until_led_ms(shard, times).expect("one of them leads");
            assert!(ms <= 700, "shard {shard}, {times:?}: {ms} ms");
            led[usize::from(by == 3)] += 1;
        }
    }
    assert!(led.iter().all(|shards| *shards > 100), "what one led is spread over the others: {led:?}");
}

//! How a leader hands its shard over: what may be made twice is settled first, then Raft transfers the leadership.
//!
//! | stage | leaves by |
//! |---|---|
//! | Settling | none open at a later tick, or [`SETTLE_MAX`] over → Asked |
//! | Asked | stepped down; or given up by raft, or [`ASKED_MAX`] over: the shard goes on as before |
//! | either | the link to the heir is gone, or the heir is behind when it is to be asked: the shard goes on as before |
//!
//! Whoever names heirs is not told what became of it, and names others meanwhile (`sharding::attempts`): a hand-over that may
//! still come about is not given up for another heir.

use super::{ShardMsg, ShardState};
use crate::replication::core::Input;
use crate::types::ids::NodeId;
use crate::types::time::{BootMillis, Millis};
use ractor::ActorRef;

/// How long the outcomes of notices are waited for.
const SETTLE_MAX: Millis = Millis::from_secs(2);
/// A transfer that has not come about by then has come to nothing.
const ASKED_MAX: Millis = Millis::from_secs(2);

/// A hand-over under way.
#[derive(Clone, Copy, Debug)]
pub(super) struct HandOver {
    /// Peer id of the heir.
    to: u64,
    stage: Stage,
    since: BootMillis,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Settling,
    Asked,
}

/// What a tick makes of a hand-over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Turn {
    Wait,
    Ask,
    GiveUp,
}

impl HandOver {
    /// `open`: notices whose outcomes are not known; `is_on`: raft is about it.
    fn turn(&self, open: usize, is_on: bool, now: BootMillis) -> Turn {
        let passed = Millis(i64::try_from(now.0.saturating_sub(self.since.0)).unwrap_or(i64::MAX));
        match self.stage {
            Stage::Settling if open == 0 || passed >= SETTLE_MAX => Turn::Ask,
            Stage::Asked if !is_on || passed >= ASKED_MAX => Turn::GiveUp,
            Stage::Settling | Stage::Asked => Turn::Wait,
        }
    }
}

impl ShardState {
    /// Begins to hand the shard over, or goes over to another heir when the one before cannot take it any more. A shard that
    /// hosts nothing is handed over at once.
    pub(super) fn hand_over(&mut self, me: &ActorRef<ShardMsg>, to: u64) {
        let before = self.handing.map(|handing| handing.to).or_else(|| self.args.core.transferee());
        if before.is_some_and(|heir| self.may_take_over(heir)) {
            return;
        }
        if !self.may_take_over(to) {
            tracing::debug!(shard = %self.args.id, to, "not handed over: the heir is behind, off the time, or not linked");
            return;
        }
        if self.claim.is_none() || self.actors.is_empty() {
            return self.drive(me, Input::TransferLeader { to });
        }
        // What an entity begins at this very moment is counted by the next tick.
        let now = self.args.shared.clock.boot();
        match &mut self.handing {
            Some(handing) if handing.stage == Stage::Asked => {
                *handing = HandOver { to, since: now, ..*handing };
                self.drive(me, Input::TransferLeader { to });
            }
            Some(handing) => handing.to = to,
            None => {
                self.args.shared.repeats.hold(self.args.id, true);
                self.handing = Some(HandOver { to, stage: Stage::Settling, since: now });
            }
        }
    }

    /// Whether the peer could lead at once, as far as is known here. A transfer to one that cannot, or whose node has no link
    /// to here, or does not stand because its clock is off, would hold all records up for nothing.
    fn may_take_over(&self, peer: u64) -> bool {
        let shared = &self.args.shared;
        let is_unfit = shared.routes.node_of(self.args.id, peer).is_some_and(|node| {
            let is_down = shared.transport().links().iter().any(|link| link.node == node.0 && !link.up);
            is_down || shared.clocks.off().contains(&node)
        });
        !is_unfit && self.args.core.may_hand_over_to(peer)
    }

    /// The link to a node is gone: nothing is handed over to it any more.
    pub(super) fn heir_gone(&mut self, me: &ActorRef<ShardMsg>, node: NodeId) {
        let is_gone = |peer: u64| self.args.shared.routes.node_of(self.args.id, peer) == Some(node);
        let (to, asked) =
            (self.handing.map(|handing| handing.to), self.args.core.transferee().filter(|to| is_gone(*to)));
        if to.is_some_and(is_gone) {
            self.end_hand_over();
        }
        if let Some(peer) = asked {
            self.drive(me, Input::PeerGone { peer });
        }
    }

    pub(super) fn tend_hand_over(&mut self, me: &ActorRef<ShardMsg>) {
        let Some(handing) = self.handing else { return };
        let now = self.args.shared.clock.boot();
        let is_on = self.args.core.transferee().is_some();
        match handing.turn(self.args.shared.repeats.open(self.args.id), is_on, now) {
            Turn::Wait => {}
            // Notices wait no longer for an heir that has fallen behind.
            Turn::Ask if !self.may_take_over(handing.to) => self.end_hand_over(),
            Turn::Ask => {
                self.handing = Some(HandOver { stage: Stage::Asked, since: now, ..handing });
                self.drive(me, Input::TransferLeader { to: handing.to });
            }
            Turn::GiveUp => self.end_hand_over(),
        }
    }

    pub(super) fn end_hand_over(&mut self) {
        if self.handing.take().is_some() {
            self.args.shared.repeats.hold(self.args.id, false);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notices_are_settled_first_but_not_for_ever() {
        let settling = HandOver { to: 2, stage: Stage::Settling, since: BootMillis(1_000) };
        assert_eq!(settling.turn(3, false, BootMillis(2_999)), Turn::Wait);
        assert_eq!(settling.turn(0, false, BootMillis(1_100)), Turn::Ask);
        assert_eq!(
            settling.turn(3, false, BootMillis(3_000)),
            Turn::Ask,
            "a provider that takes its time holds nobody up"
        );
        let asked = HandOver { stage: Stage::Asked, ..settling };
        assert_eq!(asked.turn(3, true, BootMillis(2_999)), Turn::Wait);
        assert_eq!(asked.turn(0, true, BootMillis(3_000)), Turn::GiveUp);
        assert_eq!(asked.turn(0, false, BootMillis(1_100)), Turn::GiveUp, "raft has given it up");
    }
}

//! Replicas that end and replicas that take their place: disks that are lost or damaged, and moves while calls are open.

use crate::replication::core::{Input, MemberChange};
use crate::simulation::event::{Event, MINUTE, MS, SECOND, Time};
use crate::simulation::faults::Relief;
use crate::simulation::options::Defect;
use crate::simulation::world::World;

impl World {
    /// Whether all members vote and run, and enough of them that one can be missed: only then is another one struck for
    /// good. With one voter there would be nothing left.
    fn can_spare(&self, peer: u64) -> bool {
        let Some(members) = self.checks.members() else { return false };
        let whole = members.voters_outgoing.is_empty() && members.learners.is_empty() && members.voters.len() >= 3;
        let sound = |voter: &u64| self.nodes[voter].runs() && !self.nodes[voter].flipped;
        whole && members.voters.iter().all(sound) && members.voters.contains(&peer)
    }

    /// A node loses its disk for good.
    pub(super) fn forget(&mut self, peer: u64) -> Option<Time> {
        if !self.can_spare(peer) {
            return None;
        }
        if self.options.defect == Defect::SameIdAgain {
            let voters = self.checks.members()?.voters.clone();
            self.crash(peer, true);
            let life = self.nodes[&peer].life;
            self.add_node(peer, voters);
            self.nodes.get_mut(&peer)?.life += life;
            self.boot(peer);
            return Some(5 * SECOND);
        }
        self.retire(peer);
        Some(20 * SECOND)
    }

    /// A node's disk is of no use any more: another node takes its place.
    fn retire(&mut self, peer: u64) {
        self.crash(peer, true);
        self.nodes.get_mut(&peer).expect("nodes stay").lost = true;
        self.bring_another(peer);
    }

    fn bring_another(&mut self, lost: u64) {
        let fresh = self.nodes.keys().next_back().map_or(1, |last| last + 1);
        self.add_node(fresh, Vec::new());
        self.after(SECOND, Event::Relief(Relief::Replace { lost, fresh }));
    }

    /// A replica moves to another node while all of them work.
    pub(super) fn move_away(&mut self, peer: u64) -> Option<Time> {
        if !self.can_spare(peer) {
            return None;
        }
        self.nodes.get_mut(&peer)?.moved_away = true;
        self.bring_another(peer);
        Some(20 * SECOND)
    }

    /// Joint consensus towards the fresh node, as often as it takes.
    pub(super) fn replace(&mut self, lost: u64, fresh: u64) {
        let Some(members) = self.checks.members().cloned() else { return };
        if members.voters.contains(&fresh) && !members.voters.contains(&lost) && members.voters_outgoing.is_empty() {
            return self.give_up(lost);
        }
        self.after(800 * MS, Event::Relief(Relief::Replace { lost, fresh }));
        let Some(leader) = self.leader() else { return };
        if leader == lost {
            // Nobody removes itself.
            let others: Vec<u64> = members.voters.iter().copied().filter(|voter| *voter != lost).collect();
            if let Some(to) = self.dice.pick(&others) {
                self.input(leader, Input::TransferLeader { to });
            }
            return;
        }
        let changes = if members.learners.contains(&fresh) {
            vec![MemberChange::Promote(fresh), MemberChange::Remove(lost)]
        } else if members.voters.contains(&fresh) {
            return;
        } else {
            vec![MemberChange::AddLearner(fresh)]
        };
        self.note(|| format!("{leader} is to change its group: {changes:?}"));
        let tag = (1 << 61) | self.now;
        self.input(leader, Input::ChangeMembers { tag, changes });
    }

    /// A replica that was moved away is destroyed where it was.
    fn give_up(&mut self, peer: u64) {
        let gone = self.nodes.get(&peer).is_none_or(|node| node.lost);
        if gone || self.options.defect == Defect::HostAfterMove {
            return;
        }
        self.crash(peer, false);
        self.nodes.get_mut(&peer).expect("nodes stay").lost = true;
        self.note(|| format!("{peer} was moved away"));
    }

    /// A bit of one node's log or state flips. Nobody knows.
    pub(super) fn flip_bit(&mut self, peer: u64) -> Option<Time> {
        if !self.can_spare(peer) {
            return None;
        }
        let node = self.nodes.get_mut(&peer)?;
        let of_log = self.dice.per_mille(500);
        let flipped = if of_log { node.log.flip_bit(&mut self.dice) } else { node.state.flip_bit(&mut self.dice) }?;
        (node.flipped, node.flipped_log) = (true, of_log);
        let looked_at = self.dice.between(MINUTE, 4 * MINUTE);
        self.after(looked_at, Event::Relief(Relief::Verify(peer)));
        self.note(|| format!("{peer}: a bit flips in {flipped}"));
        Some(20 * SECOND)
    }

    /// A node has met what its disk cannot have been told. Where a bit was flipped that is how it is found: the process ends
    /// and the operator has the replica rebuilt from its peers.
    pub(super) fn damaged(&mut self, peer: u64, what: &str) {
        let Some(node) = self.nodes.get(&peer).filter(|node| node.flipped && !node.lost) else {
            return self.fail(format!("INV-1: {peer} reads damage that nobody did: {what}"));
        };
        self.outcome.found += 1;
        self.outcome.found_in_log += u64::from(node.flipped_log);
        self.note(|| format!("{peer} finds its disk damaged: {what}"));
        self.retire(peer);
    }

    /// `bojagi verify` on a disk with a flipped bit: no read has met it yet, or the row is gone.
    pub(super) fn verify(&mut self, peer: u64) {
        let node = self.nodes.get_mut(&peer).expect("nodes stay");
        if !node.flipped || node.lost {
            return;
        }
        match (node.log.verify(), node.state.verify()) {
            (Ok(()), Ok(report)) if report.is_clean() => node.flipped = false,
            (Ok(()), Ok(report)) => self.damaged(peer, &report.to_string()),
            (Err(error), _) | (_, Err(error)) => self.damaged(peer, &error.to_string()),
        }
    }
}

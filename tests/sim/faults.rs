//! Clients, operator and misfortune; then healing, and what must be true after it.

use crate::machine;
use crate::replica::Replica;
use crate::world::{Event, MS, SECOND, World};
use bojagi::replication::core::{Input, MemberChange};
use bojagi::replication::status::Role;
use bojagi::types::ids::LogIndex;

#[derive(Clone, Copy, Debug)]
pub enum Fault {
    Restart(u64),
    Resume(u64, u64),
    Mend,
    HealthyDisk(u64),
    PromptApplier(u64),
}

const KEYS: u64 = 40;

impl World {
    /// The replica that hosts under the newest claim.
    fn leader(&self) -> Option<u64> {
        let hosting = self.replicas.values().filter_map(|replica| Some((replica.hosting?.term, replica.peer)));
        hosting.max().map(|(_, peer)| peer)
    }

    fn running(&self) -> Vec<u64> {
        self.replicas.values().filter(|replica| replica.core.is_some()).map(|replica| replica.peer).collect()
    }

    pub fn client(&mut self) {
        let delay = 20 * MS + self.rng.below(120 * MS);
        self.after(delay, Event::Client);
        // Any replica that believes it leads, so that a deposed one is asked as well.
        let hosts: Vec<u64> = self.replicas.values().filter(|one| one.hosting.is_some()).map(|one| one.peer).collect();
        let Some(peer) = self.rng.pick(&hosts) else { return };
        let life = self.replicas[&peer].life;
        let mut inputs = Vec::new();
        let burst = 1 + self.rng.below(6);
        let same = self.rng.per_mille(500).then(|| self.rng.below(KEYS));
        for _ in 0..burst {
            let number = same.unwrap_or_else(|| self.rng.below(KEYS));
            let padding = if self.rng.per_mille(200) { self.rng.below(1_500) } else { self.rng.below(60) };
            inputs.extend(self.decide(peer, machine::key(number), padding as usize));
            if self.rng.per_mille(200) {
                inputs.push(Input::Flush);
            }
        }
        if self.rng.per_mille(300) {
            let tag = self.next_tag;
            self.next_tag += 1;
            let must_see = self.checks.core.acked_index;
            self.replicas.get_mut(&peer).expect("it hosts").reads.insert(tag, must_see);
            inputs.push(Input::ReadBarrier { tag });
        }
        self.input(peer, life, inputs);
    }

    pub fn next_fault(&mut self) {
        if self.healed {
            return;
        }
        let delay = 300 * MS + self.rng.below(4 * SECOND);
        self.after(delay, Event::NextFault);
        let running = self.running();
        let Some(peer) = self.rng.pick(&running) else { return };
        // The leader is hit as often as all others together.
        let peer = if self.rng.per_mille(500) { self.leader().unwrap_or(peer) } else { peer };
        let before = self.outcome.faults;
        match self.rng.below(9) {
            0 if self.options.kills => self.crash(peer, false),
            1 if self.options.power_cuts => self.crash(peer, true),
            2 if self.options.pauses => self.pause(peer),
            3 if self.options.partitions => self.part(peer),
            4 if self.options.slow_disks => self.slow_disk(peer),
            5 if self.options.slow_appliers => self.slow_applier(peer),
            6 if self.options.transfers => self.transfer(),
            7 if self.options.members => self.change_members(),
            8 if self.options.partitions => self.flap(peer),
            _ => {}
        }
        let faults = self.outcome.faults;
        self.note(|| format!("fault on {peer}: {}", faults - before));
    }

    /// The link of some replica to another breaks and comes back: a false alarm when nobody died.
    fn flap(&mut self, gone: u64) {
        self.outcome.faults += 1;
        for other in self.running().into_iter().filter(|other| *other != gone) {
            if self.rng.per_mille(600) {
                let life = self.replicas[&other].life;
                self.input(other, life, vec![Input::PeerGone { peer: gone }]);
            }
        }
    }

    fn crash(&mut self, peer: u64, power: bool) {
        self.outcome.faults += 1;
        let replica = self.replicas.get_mut(&peer).expect("it runs");
        if replica.core.is_none() {
            return;
        }
        // A killed process leaves what the kernel has; a power cut takes any tail of what was not synced.
        let (log, state) = (replica.log.unsynced(), replica.state.unsynced());
        let mut kept = |of: usize| if power { self.rng.below(of as u64 + 1) as usize } else { of };
        let (log_kept, state_kept) = (kept(log), kept(state));
        if let Err(error) = replica.crash(log_kept, state_kept) {
            return self.checks.fail(format!("{peer} cannot open its log again: {error}"));
        }
        let delay = 100 * MS + self.rng.below(8 * SECOND);
        self.after(delay, Event::Fault(Fault::Restart(peer)));
        self.note(|| {
            format!("{peer} down, power {power}, kept {log_kept} of {log} log writes, {state_kept} of {state}")
        });
        // A process that ends closes its links; a machine without power is silent.
        if !power {
            self.flap(peer);
        }
    }

    fn pause(&mut self, peer: u64) {
        self.outcome.faults += 1;
        let replica = self.replicas.get_mut(&peer).expect("it runs");
        replica.paused = true;
        let life = replica.life;
        let delay = 200 * MS + self.rng.below(6 * SECOND);
        self.after(delay, Event::Fault(Fault::Resume(peer, life)));
        self.note(|| format!("{peer} stands still"));
    }

    fn part(&mut self, peer: u64) {
        self.outcome.faults += 1;
        let peers: Vec<u64> = self.replicas.keys().copied().collect();
        let one_way = self.rng.per_mille(400);
        let inward = self.rng.per_mille(500);
        let alone = self.rng.per_mille(500);
        let mut side = Vec::new();
        for other in &peers {
            if *other == peer || (!alone && self.rng.per_mille(400)) {
                side.push(*other);
            }
        }
        for inner in &side {
            for outer in peers.iter().filter(|outer| !side.contains(outer)) {
                if !one_way || inward {
                    self.cut.insert((*outer, *inner));
                }
                if !one_way || !inward {
                    self.cut.insert((*inner, *outer));
                }
            }
        }
        let delay = 300 * MS + self.rng.below(10 * SECOND);
        self.after(delay, Event::Fault(Fault::Mend));
        self.note(|| format!("{side:?} parted, one way {one_way}"));
    }

    fn slow_disk(&mut self, peer: u64) {
        self.outcome.faults += 1;
        self.replicas.get_mut(&peer).expect("it runs").slow_disk = true;
        let delay = SECOND + self.rng.below(8 * SECOND);
        self.after(delay, Event::Fault(Fault::HealthyDisk(peer)));
    }

    fn slow_applier(&mut self, peer: u64) {
        self.outcome.faults += 1;
        self.replicas.get_mut(&peer).expect("it runs").slow_applier = true;
        let delay = SECOND + self.rng.below(8 * SECOND);
        self.after(delay, Event::Fault(Fault::PromptApplier(peer)));
    }

    fn transfer(&mut self) {
        let Some(leader) = self.leader() else { return };
        self.outcome.faults += 1;
        let voters = self.checks.core.members().map(|members| members.voters.clone()).unwrap_or_default();
        let to = self.rng.pick(&voters).unwrap_or(leader);
        let life = self.replicas[&leader].life;
        self.input(leader, life, vec![Input::TransferLeader { to }]);
        self.note(|| format!("{leader} hands over to {to}"));
    }

    /// The operator replaces members: a learner joins, catches up, and becomes a voter in another's place.
    fn change_members(&mut self) {
        let Some(leader) = self.leader() else { return };
        let Some(members) = self.checks.core.members().cloned() else { return };
        self.outcome.faults += 1;
        let life = self.replicas[&leader].life;
        let mut changes = Vec::new();
        if let Some(learner) = members.learners.first() {
            if self.rng.per_mille(150) {
                changes.push(MemberChange::Remove(*learner));
            } else {
                changes.push(MemberChange::Promote(*learner));
                let others: Vec<u64> = members.voters.iter().copied().filter(|peer| *peer != leader).collect();
                if members.voters.len() as u64 >= self.options.voters && self.rng.per_mille(800) {
                    changes.extend(self.rng.pick(&others).map(MemberChange::Remove));
                }
            }
        } else {
            let peer = self.replicas.keys().next_back().map_or(1, |last| last + 1);
            self.replicas.insert(peer, Replica::new(peer, Vec::new()));
            self.boot(peer);
            changes.push(MemberChange::AddLearner(peer));
        }
        self.note(|| format!("{leader} is to change its group: {changes:?}"));
        let tag = self.next_tag;
        self.next_tag += 1;
        self.input(leader, life, vec![Input::ChangeMembers { tag, changes }]);
    }

    pub fn fault(&mut self, fault: Fault) {
        match fault {
            Fault::Restart(peer) => {
                if self.replicas[&peer].core.is_none() {
                    self.boot(peer);
                }
            }
            Fault::Resume(peer, life) => {
                let replica = self.replicas.get_mut(&peer).expect("replicas stay");
                if replica.life == life && replica.paused {
                    replica.paused = false;
                    let inbox = std::mem::take(&mut replica.inbox);
                    self.input(peer, life, inbox);
                }
            }
            Fault::Mend => self.cut.clear(),
            Fault::HealthyDisk(peer) => self.replicas.get_mut(&peer).expect("replicas stay").slow_disk = false,
            Fault::PromptApplier(peer) => self.replicas.get_mut(&peer).expect("replicas stay").slow_applier = false,
        }
    }

    /// Everything is well again: from here on the group must come to rest.
    pub fn heal(&mut self) {
        self.note(|| "HEALED".into());
        self.healed = true;
        self.cut.clear();
        for peer in self.replicas.keys().copied().collect::<Vec<u64>>() {
            let replica = self.replicas.get_mut(&peer).expect("replicas stay");
            (replica.slow_disk, replica.slow_applier) = (false, false);
            let life = replica.life;
            self.fault(Fault::Restart(peer));
            self.fault(Fault::Resume(peer, life));
        }
        self.acks_at_heal = self.checks.acks();
    }

    /// Whether the healed group works, is whole and equal.
    pub fn is_settled(&self) -> bool {
        let Some(leader) = self.leader() else { return false };
        let status = self.replicas[&leader].core.as_ref().expect("it hosts").status();
        let members = &status.members;
        let whole = |peer: &u64| {
            let replica = &self.replicas[peer];
            replica.state.applied().0 + 20 >= status.last.0
                && replica.core.as_ref().is_some_and(|core| core.status().whole)
        };
        status.role == Role::Leader
            && members.voters_outgoing.is_empty()
            && members.voters.iter().chain(&members.learners).all(whole)
            && self.checks.acks() >= self.acks_at_heal + 50
    }

    /// The end of a run.
    pub fn judge(&mut self) {
        if !self.is_settled() {
            let states: Vec<String> = self.replicas.values().map(describe).collect();
            self.checks.fail(format!("the healed group does not come to rest:\n  {}", states.join("\n  ")));
        }
        self.checks.nothing_acknowledged_is_lost();
        for peer in self.running() {
            self.compare(peer);
        }
        if self.outcome.faults + self.outcome.harmed_frames == 0
            || self.checks.acks() == 0
            || self.checks.core.last() == LogIndex(0)
        {
            self.checks.fail("a run without faults or acknowledgements proves nothing".into());
        }
    }
}

fn describe(replica: &Replica) -> String {
    let status = replica.core.as_ref().map(bojagi::replication::core::ShardCore::status);
    let (disk, work) = (replica.log.unsynced(), replica.work.len());
    format!("{} unsynced {disk} work {work} {status:?}", replica.peer)
}

//! Misfortune by schedule, its end, and the healing of everything.

use crate::chaos::checkers::history::FaultSpan;
use crate::persistence::memory_store::{Failure, Operation};
use crate::replication::core::Input;
use crate::simulation::event::{Event, MS, SECOND, Time};
use crate::simulation::lanes::DESKS;
use crate::simulation::node::Node;
use crate::simulation::options::FaultClass;
use crate::simulation::providers::Spell;
use crate::simulation::world::World;
use crate::types::time::Millis;

/// The end of a fault.
#[derive(Clone, Copy, Debug)]
pub enum Relief {
    Restart(u64),
    Resume {
        peer: u64,
        life: u64,
    },
    Mend,
    HealthyDisk(u64),
    /// An operator has a disk verified.
    Verify(u64),
    PromptApplier(u64),
    Clock {
        peer: u64,
        skew: Millis,
    },
    /// Another node takes the place of one that lost its disk or gives its replica away: a step at a time.
    Replace {
        lost: u64,
        fresh: u64,
    },
}

impl World {
    /// The replica that hosts under the newest claim.
    #[must_use]
    pub fn leader(&self) -> Option<u64> {
        let hosting = self.nodes.values().filter_map(|node| Some((node.hosting.claim?.term, node.peer)));
        hosting.max().map(|(_, peer)| peer)
    }

    #[must_use]
    pub fn running(&self) -> Vec<u64> {
        self.nodes.values().filter(|node| node.runs()).map(|node| node.peer).collect()
    }

    pub fn next_fault(&mut self) {
        if self.healed {
            return;
        }
        let mean = self.options.fault_every_s * SECOND;
        let delay = self.dice.between(mean / 4, 2 * mean - mean / 4);
        self.after(delay, Event::NextFault);
        let scheduled: Vec<FaultClass> =
            self.options.faults.iter().copied().filter(|class| class.is_scheduled()).collect();
        let running = self.running();
        let (Some(class), Some(peer)) = (self.dice.pick(&scheduled), self.dice.pick(&running)) else { return };
        // The leader is hit as often as all others together.
        let peer = if self.dice.per_mille(500) { self.leader().unwrap_or(peer) } else { peer };
        self.note(|| format!("fault {} on {peer}", class.name()));
        if let Some(length) = self.begin_fault(class, peer) {
            self.strike_for(class, length);
            // A process that ends or stands still is noted when it does.
            if !matches!(class, FaultClass::Kill | FaultClass::PowerCut | FaultClass::Blackout | FaultClass::Pause) {
                self.disturb(class.name(), length);
            }
        }
    }

    /// For the judge: something is broken from now on for so long.
    fn disturb(&mut self, class: &'static str, length: Time) {
        let from = self.true_wall();
        let to = from + Millis(i64::try_from(length / MS).unwrap_or(0));
        self.recorder.history.faults.push(FaultSpan { class, from, to });
    }

    /// Begins a fault; how long it lasts, or `None` when there is nobody to strike.
    fn begin_fault(&mut self, class: FaultClass, peer: u64) -> Option<Time> {
        match class {
            FaultClass::Kill => self.kill(peer, false),
            FaultClass::PowerCut => self.kill(peer, true),
            FaultClass::Blackout => self.black_out(),
            FaultClass::Pause => self.pause(peer),
            FaultClass::Partition => self.part(peer, false),
            FaultClass::OneWayCut => self.part(peer, true),
            FaultClass::Flap => self.flap(peer),
            FaultClass::SlowDisk => {
                self.nodes.get_mut(&peer)?.slow_disk = true;
                self.relief(8 * SECOND, Relief::HealthyDisk(peer))
            }
            FaultClass::SlowApplier => {
                self.nodes.get_mut(&peer)?.slow_applier = true;
                self.relief(8 * SECOND, Relief::PromptApplier(peer))
            }
            FaultClass::DiskError | FaultClass::DiskFull => self.break_disk(peer, class),
            FaultClass::Transfer => self.transfer(),
            FaultClass::Amnesia => self.forget(peer),
            FaultClass::Move => self.move_away(peer),
            FaultClass::BitFlip => self.flip_bit(peer),
            FaultClass::ClockSkew | FaultClass::ClockJump => self.skew(peer, class),
            FaultClass::AcceptThenTimeout
            | FaultClass::AcceptThenError
            | FaultClass::Throttle
            | FaultClass::SlowProvider
            | FaultClass::Refusal
            | FaultClass::Unreachable => self.spell(class),
            FaultClass::FrameDrop
            | FaultClass::FrameDouble
            | FaultClass::FrameDelay
            | FaultClass::LateTruth
            | FaultClass::LateCapture
            | FaultClass::LostAnswer => None,
        }
    }

    fn relief(&mut self, longest: Time, relief: Relief) -> Option<Time> {
        let length = 300 * MS + self.dice.below(longest);
        self.after(length, Event::Relief(relief));
        Some(length)
    }

    fn kill(&mut self, peer: u64, power: bool) -> Option<Time> {
        self.nodes.get(&peer).filter(|node| node.runs())?;
        self.crash(peer, power);
        // A process that ends closes its links; a machine without power is silent.
        if !power {
            self.flap(peer);
        }
        Some(9 * SECOND)
    }

    /// What was acknowledged is on the disks of a majority: each loses its own tail of what was not synced.
    fn black_out(&mut self) -> Option<Time> {
        for peer in self.running() {
            self.crash(peer, true);
        }
        Some(9 * SECOND)
    }

    /// Ends a process; it starts again soon.
    pub fn crash(&mut self, peer: u64, power: bool) {
        let Some(node) = self.nodes.get_mut(&peer).filter(|node| node.runs()) else { return };
        // A killed process leaves what the kernel has; a power cut takes any tail of what was not synced.
        let (log, state) = (node.log.unsynced(), node.state.unsynced());
        let mut kept =
            |of: usize| if power { usize::try_from(self.dice.below(of as u64 + 1)).unwrap_or(of) } else { of };
        let (log_kept, state_kept) = (kept(log), kept(state));
        let flipped = node.flipped;
        node.power_cuts += u64::from(power);
        if let Err(error) = node.crash(log_kept, state_kept) {
            if flipped {
                return self.damaged(peer, &error.to_string());
            }
            return self.fail(format!("INV-1: {peer} cannot open its log again: {error}"));
        }
        let delay = 100 * MS + self.dice.below(8 * SECOND);
        self.after(delay, Event::Relief(Relief::Restart(peer)));
        self.disturb("down", delay);
        self.note(|| {
            format!("{peer} down, power {power}, kept {log_kept} of {log} log writes, {state_kept} of {state}")
        });
    }

    /// A process stands still: at once, or in the worst moment, between its fence and the first byte of a call.
    fn pause(&mut self, peer: u64) -> Option<Time> {
        let node = self.nodes.get_mut(&peer).filter(|node| node.runs() && !node.paused)?;
        if self.dice.per_mille(500) {
            node.freezes_at_write = true;
            return Some(40 * SECOND);
        }
        // Some stand still for longer than a successor waits for an attempt.
        let length =
            if self.dice.per_mille(400) { self.dice.between(14, 25) * SECOND } else { self.dice.below(6 * SECOND) };
        self.freeze(peer, length)
    }

    pub fn freeze(&mut self, peer: u64, length: Time) -> Option<Time> {
        let node = self.nodes.get_mut(&peer)?;
        node.paused = true;
        let life = node.life;
        self.after(length, Event::Relief(Relief::Resume { peer, life }));
        self.disturb("pause", length);
        Some(length)
    }

    fn part(&mut self, peer: u64, one_way: bool) -> Option<Time> {
        let peers: Vec<u64> = self.nodes.values().filter(|node| !node.lost).map(|node| node.peer).collect();
        if peers.len() < 2 {
            return None;
        }
        let (inward, alone) = (self.dice.per_mille(500), self.dice.per_mille(500));
        let side: Vec<u64> =
            peers.iter().copied().filter(|other| *other == peer || (!alone && self.dice.per_mille(400))).collect();
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
        self.relief(10 * SECOND, Relief::Mend)
    }

    /// The link of some replicas to another breaks and comes back: a false alarm when nobody died.
    fn flap(&mut self, gone: u64) -> Option<Time> {
        for other in self.running().into_iter().filter(|other| *other != gone) {
            if self.dice.per_mille(600) {
                self.input(other, Input::PeerGone { peer: gone });
            }
        }
        Some(SECOND)
    }

    fn break_disk(&mut self, peer: u64, class: FaultClass) -> Option<Time> {
        let failure = if class == FaultClass::DiskFull { Failure::Full } else { Failure::Io };
        let on_log = self.dice.per_mille(600);
        let node = self.nodes.get_mut(&peer).filter(|node| node.runs())?;
        if on_log {
            node.log.fail(failure);
        } else {
            node.state.fail(Operation::Sync, failure);
        }
        Some(10 * SECOND)
    }

    fn transfer(&mut self) -> Option<Time> {
        let leader = self.leader()?;
        let voters = self.checks.members().map(|members| members.voters.clone()).unwrap_or_default();
        let to = self.dice.pick(&voters)?;
        self.input(leader, Input::TransferLeader { to });
        Some(2 * SECOND)
    }

    /// A minority of clocks is off: a node starts with a wrong clock, or its clock is set while it runs.
    fn skew(&mut self, peer: u64, class: FaultClass) -> Option<Time> {
        let wall = self.true_wall();
        // A clock that was ahead stands still before it is right again.
        let is_off = |node: &&Node| !node.lost && (node.own_wall(wall) - wall).0.abs() > 1_000;
        let off = self.nodes.values().filter(is_off).count();
        let voters = self.checks.members().map_or(1, |members| members.voters.len());
        if off + 1 > (voters - 1) / 2 {
            return None;
        }
        let size =
            if self.dice.per_mille(600) { self.dice.between(1_500, 4_900) } else { self.dice.between(5_000, 60_000) };
        let size = i64::try_from(size).unwrap_or(0);
        let honest = self.nodes.get(&peer)?.skew;
        let ahead = self.dice.per_mille(650);
        if class == FaultClass::ClockSkew {
            self.crash(peer, false);
        }
        self.set_clock(peer, if ahead { Millis(size) } else { Millis(-size) });
        self.relief(90 * SECOND, Relief::Clock { peer, skew: honest })
    }

    /// Sets a node's wall clock. A running process sees it leap forward, or stand still.
    fn set_clock(&mut self, peer: u64, skew: Millis) {
        self.nodes.get_mut(&peer).expect("nodes stay").skew = skew;
    }

    fn spell(&mut self, class: FaultClass) -> Option<Time> {
        let desk = usize::try_from(self.dice.below(DESKS as u64)).unwrap_or(0);
        let length = SECOND + self.dice.below(30 * SECOND);
        self.providers.spells[desk] = Some(Spell { class, until: self.now + length });
        Some(length)
    }

    pub fn relieve(&mut self, relief: Relief) {
        match relief {
            Relief::Restart(peer) => {
                if self.nodes.get(&peer).is_some_and(|node| !node.runs() && !node.lost) {
                    self.boot(peer);
                }
            }
            Relief::Resume { peer, life } => self.resume(peer, life),
            Relief::Mend => self.cut.clear(),
            Relief::Verify(peer) => self.verify(peer),
            Relief::HealthyDisk(peer) => self.nodes.get_mut(&peer).expect("nodes stay").slow_disk = false,
            Relief::PromptApplier(peer) => self.nodes.get_mut(&peer).expect("nodes stay").slow_applier = false,
            Relief::Clock { peer, skew } => {
                if !self.healed {
                    self.set_clock(peer, skew);
                }
            }
            Relief::Replace { lost, fresh } => self.replace(lost, fresh),
        }
    }

    /// What happened meanwhile happens now, in its order.
    fn resume(&mut self, peer: u64, life: u64) {
        let now = self.now;
        let Some(node) = self.nodes.get_mut(&peer).filter(|node| node.life == life && node.paused) else { return };
        node.paused = false;
        // While a process stands still its core does not tick.
        (node.ticked, node.ticks_by) = (now, now);
        let life = node.life();
        for event in std::mem::take(&mut node.deferred) {
            self.node_event(life, event);
        }
        self.settle_node(peer);
    }

    /// Everything is well again: from here on the cluster must come to rest.
    pub fn heal(&mut self) {
        self.note(|| "HEALED".into());
        self.healed = true;
        self.recorder.history.healed_at = self.true_wall();
        self.cut.clear();
        self.providers.spells = Default::default();
        for peer in self.nodes.keys().copied().collect::<Vec<u64>>() {
            let node = self.nodes.get_mut(&peer).expect("nodes stay");
            (node.slow_disk, node.slow_applier) = (false, false);
            if node.skew.0.abs() > 1_000 {
                self.set_clock(peer, Millis(0));
            }
            self.verify(peer);
            let life = self.nodes[&peer].life;
            self.relieve(Relief::Restart(peer));
            self.resume(peer, life);
        }
    }
}

//! The event heap, the network and the course of one run.

use crate::checks::Checks;
use crate::faults::Fault;
use crate::options::Options;
use crate::replica::Replica;
use bojagi::replication::core::{Input, Output, SnapshotId};
use bojagi::simulation::dice::Dice;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};
use xxhash_rust::xxh3::Xxh3;

/// Microseconds.
pub type Time = u64;
pub const MS: Time = 1_000;
pub const SECOND: Time = 1_000 * MS;
/// How long a healed group may take to be quiet, whole and equal.
const HEALING: Time = 60 * SECOND;
const TRACE_LINES: usize = 120;

#[derive(Debug)]
pub enum Event {
    Tick {
        peer: u64,
        life: u64,
    },
    Frame {
        from: u64,
        to: u64,
        bytes: Vec<u8>,
    },
    Synced {
        peer: u64,
        life: u64,
        writes: usize,
    },
    Applied {
        peer: u64,
        life: u64,
    },
    Exported {
        peer: u64,
        life: u64,
        snapshot: SnapshotId,
        cursor: Vec<u8>,
    },
    Staged {
        peer: u64,
        life: u64,
        snapshot: SnapshotId,
        number: u32,
    },
    /// The state is made durable, and the log behind it purged.
    Settle {
        peer: u64,
        life: u64,
    },
    Client,
    Fault(Fault),
    NextFault,
}

pub struct World {
    pub options: Options,
    pub rng: Dice,
    pub now: Time,
    sequence: u64,
    heap: BinaryHeap<Reverse<(Time, u64)>>,
    events: BTreeMap<u64, Event>,
    pub replicas: BTreeMap<u64, Replica>,
    /// Directed links that carry nothing.
    pub cut: BTreeSet<(u64, u64)>,
    pub checks: Checks,
    pub healed: bool,
    pub next_op: u64,
    pub next_tag: u64,
    /// Acknowledgements when everything healed.
    pub acks_at_heal: u64,
    pub outcome: Outcome,
    hash: Xxh3,
    trace: Option<Vec<String>>,
}

/// What a run amounted to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    pub digest: u128,
    pub simulated: Time,
    pub events: u64,
    pub faults: u64,
    /// Frames that were dropped, doubled or held up.
    pub harmed_frames: u64,
    pub acks: u64,
    pub entries: u64,
    pub terms: u64,
    pub snapshots: u64,
    pub changes: u64,
    pub refused: u64,
    pub reads: u64,
}

impl World {
    /// Runs a seed to its end.
    ///
    /// # Errors
    /// The violation, with the last lines of the trace when `traced`.
    pub fn run(options: Options, traced: bool) -> Result<Outcome, String> {
        let mut world = Self::new(options, traced);
        let end = world.options.seconds * SECOND;
        while let Some(Reverse((at, id))) = world.heap.pop() {
            world.now = at;
            if at >= end && !world.healed {
                world.heal();
            }
            if world.healed && (world.is_settled() || at > end + HEALING) {
                break;
            }
            let event = world.events.remove(&id).expect("an event for each place in the heap");
            world.happen(event);
            if let Some(violation) = &world.checks.violation {
                return Err(world.report(violation));
            }
        }
        world.judge();
        match &world.checks.violation {
            Some(violation) => Err(world.report(violation)),
            None => Ok(world.close()),
        }
    }

    fn new(options: Options, traced: bool) -> Self {
        let mut world = Self {
            rng: Dice::new(options.seed),
            now: 0,
            sequence: 0,
            heap: BinaryHeap::new(),
            events: BTreeMap::new(),
            replicas: BTreeMap::new(),
            cut: BTreeSet::new(),
            checks: Checks::default(),
            healed: false,
            next_op: 1,
            next_tag: 1,
            acks_at_heal: 0,
            outcome: Outcome::default(),
            hash: Xxh3::new(),
            trace: traced.then(Vec::new),
            options,
        };
        let voters: Vec<u64> = (1..=world.options.voters).collect();
        for peer in &voters {
            world.replicas.insert(*peer, Replica::new(*peer, voters.clone()));
            world.boot(*peer);
        }
        world.after(SECOND, Event::Client);
        world.after(2 * SECOND, Event::NextFault);
        world
    }

    pub fn after(&mut self, delay: Time, event: Event) {
        self.sequence += 1;
        self.heap.push(Reverse((self.now + delay, self.sequence)));
        self.events.insert(self.sequence, event);
    }

    fn happen(&mut self, event: Event) {
        self.outcome.events += 1;
        self.hash.update(&self.now.to_le_bytes());
        match event {
            Event::Tick { peer, life } => {
                if self.input(peer, life, vec![Input::Tick]) {
                    let drift = self.rng.below(2 * MS);
                    self.after(99 * MS + drift, Event::Tick { peer, life });
                }
            }
            Event::Frame { from, to, bytes } => {
                if !self.cut.contains(&(from, to)) {
                    let life = self.replicas.get(&to).map_or(0, |replica| replica.life);
                    self.input(to, life, vec![Input::Frame { from, bytes }]);
                }
            }
            Event::Synced { peer, life, writes } => self.synced(peer, life, writes),
            Event::Applied { peer, life } => self.apply_next(peer, life),
            Event::Exported { peer, life, snapshot, cursor } => self.export(peer, life, snapshot, cursor),
            Event::Staged { peer, life, snapshot, number } => self.staged(peer, life, snapshot, number),
            Event::Settle { peer, life } => self.settle(peer, life),
            Event::Client => self.client(),
            Event::Fault(fault) => self.fault(fault),
            Event::NextFault => self.next_fault(),
        }
    }

    /// Hands inputs to a core, now or, while its process stands still, later. `false` when that life is over.
    pub fn input(&mut self, peer: u64, life: u64, inputs: Vec<Input>) -> bool {
        let Some(replica) = self.replicas.get_mut(&peer).filter(|replica| replica.life == life) else { return false };
        if replica.core.is_none() {
            return false;
        }
        if replica.paused {
            replica.inbox.extend(inputs);
            return true;
        }
        let core = replica.core.as_mut().expect("a running replica has a core");
        let mut out = Vec::new();
        let mut inputs = inputs;
        if inputs.len() == 1 {
            core.step(inputs.remove(0), &mut out);
        } else {
            core.step_many(inputs, &mut out);
        }
        self.outputs(peer, out);
        true
    }

    /// Sends a frame through the network as it is today.
    pub fn send(&mut self, from: u64, to: u64, bytes: Vec<u8>) {
        self.hash.update(&bytes);
        let faulty = !self.healed;
        if self.cut.contains(&(from, to)) || (faulty && self.options.drops && self.rng.per_mille(15)) {
            self.outcome.harmed_frames += 1;
            return;
        }
        let mut delay = MS / 5 + self.rng.below(2 * MS);
        if faulty && self.options.delays && self.rng.per_mille(15) {
            self.outcome.harmed_frames += 1;
            delay += self.rng.below(600 * MS);
        }
        if faulty && self.options.duplicates && self.rng.per_mille(10) {
            self.outcome.harmed_frames += 1;
            let later = delay + self.rng.below(SECOND);
            self.after(later, Event::Frame { from, to, bytes: bytes.clone() });
        }
        self.after(delay, Event::Frame { from, to, bytes });
    }

    pub fn is_tracing(&self) -> bool {
        self.trace.is_some()
    }

    pub fn note(&mut self, line: impl FnOnce() -> String) {
        if let Some(trace) = &mut self.trace {
            if trace.len() >= 2 * TRACE_LINES {
                trace.drain(..TRACE_LINES);
            }
            trace.push(format!("{:>11.3} {}", self.now as f64 / SECOND as f64, line()));
        }
    }

    /// What the run did goes into its digest.
    pub fn mark(&mut self, peer: u64, output: &Output) {
        self.hash.update(&peer.to_le_bytes());
        self.hash.update(format!("{output:?}").as_bytes());
    }

    fn report(&self, violation: &str) -> String {
        let lines = self.trace.iter().flatten();
        let skipped = lines.clone().count().saturating_sub(TRACE_LINES);
        let trace: Vec<&str> = lines.skip(skipped).map(String::as_str).collect();
        let at = self.now as f64 / SECOND as f64;
        format!("at {at:.3} s: {violation}\n  {:?}\n{}", self.options, trace.join("\n"))
    }

    fn close(mut self) -> Outcome {
        self.outcome.simulated = self.now;
        self.outcome.acks = self.checks.acks();
        self.outcome.entries = self.checks.core.last().0;
        self.hash.update(&self.outcome.acks.to_le_bytes());
        self.outcome.digest = self.hash.digest128();
        self.outcome
    }
}
